/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hvtest's frame. A test is a sentence and a function that states what it
 * expects; the first expectation that fails is the test's detail. After every
 * test no partition and no deposited page may be left.
 */
#ifndef TEST_H
#define TEST_H

#include "payload.h"

struct test {
	const char *sentence;
	void (*fn)(void);
};

/* Both are true when it holds, so a test can stop where going on is no use. */
#define EXPECT(seen, wanted)	expect((u64)(seen), (u64)(wanted), #seen, \
				       __FILE__, __LINE__)
#define EXPECT_TRUE(condition)	expect(!!(condition), 1, #condition, \
				       __FILE__, __LINE__)
#define RUN(group)		run_tests(group, ARRAY_SIZE(group))

bool expect(u64 seen, u64 wanted, const char *what, const char *file, u32 line);
bool test_failed(void);
void test_case(u64 number);	/* which case of a table: shown in the detail */
void test_skip(const char *why);
void run_tests(const struct test *test, u32 n);

/* Instructions that fault; the vector, or ~0 */
u32 root_fault(const void *insn);

u64 partition_ready(u32 pages);
void partition_gone(u64 id);
void set_dry(u64 id, u64 n);
u32 slat_flags(u64 id, u64 gfn);
u64 slat_spa(u64 id, u64 gfn);
void counter(u16 code, struct oracle *o);

#define UNMAPPED	0xffffffffu	/* slat_flags() */
#define SLAT_R		0x01
#define SLAT_W		0x02
#define SLAT_X		0x0c
#define SLAT_RWX	0x0f
#define SLAT_NO_ACCESS	0x10
#define SLAT_ACCESSED	0x20
#define SLAT_DIRTY	0x40
#define SLAT_UNCACHED	0x80
#define SLAT_2M		0x100
#define SLAT_1G		0x200
#define LARGE		HV_MAP_GPA_LARGE_PAGE
#define NO_ACCESS	HV_MAP_GPA_NO_ACCESS
#define DEVICE_PFN	0x2000000ull	/* 128 GiB: no RAM; 1 GiB aligned */
#define PAGE_MSR(msr)	(rdmsr(msr) & ~0xfffull)

void test_cpu(void);
void test_control(void);
void test_partition(void);
void test_slat(void);
void test_vp(void);
void test_intercept(void);
void test_sched(void);
void test_encrypted(void);

#endif
