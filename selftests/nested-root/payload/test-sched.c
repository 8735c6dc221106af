#include "test.h"
void test_sched(void) {}
void test_encrypted(void) {}
