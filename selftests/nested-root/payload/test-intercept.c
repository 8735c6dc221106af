#include "test.h"
void test_intercept(void) {}
