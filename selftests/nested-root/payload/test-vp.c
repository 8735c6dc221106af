#include "test.h"
void test_vp(void) {}
