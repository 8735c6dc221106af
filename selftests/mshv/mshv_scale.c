// SPDX-License-Identifier: GPL-2.0
/*
 * Many of everything. MSHV_SCALE=n makes the numbers that may grow n times as large:
 * 10 for 100,000 regions and 80 partitions.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

static u64 cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

FIXTURE(scale)
{
	struct mshv_pt pt;
	long pins;
};

FIXTURE_SETUP(scale)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->pins = pin_balance();
}

FIXTURE_TEARDOWN(scale)
{
	test_pt_close(&self->pt);
	EXPECT_EQ(self->pins, pin_balance());
}

/*
 * Regions of a page, every other GFN and page of user memory. What some more take to
 * create and to find, compared with those of a partition that has no others, tells
 * whether that is done by walking a list.
 */
#define MANY		10000U
#define FEW		100U

static int map_one(struct mshv_pt *pt, u8 *mem, u64 i)
{
	return mshv_map(pt, TEST_GFN + 2 * i, mem + 2 * i * PAGE_SIZE, PAGE_SIZE,
			MEM_RWX);
}

static int unmap_one(struct mshv_pt *pt, u8 *mem, u64 i)
{
	return mshv_unmap(pt, TEST_GFN + 2 * i, mem + 2 * i * PAGE_SIZE, PAGE_SIZE);
}

/* Time to create and remove regions from index @i on */
static u64 come_and_go(struct mshv_pt *pt, u8 *mem, u64 i)
{
	u64 start = cpu_ns();
	unsigned int j;

	for (j = 0; j < FEW; j++) {
		if (map_one(pt, mem, i + j) || unmap_one(pt, mem, i + j))
			return 0;
	}
	return cpu_ns() - start;
}

TEST_F_TIMEOUT(scale, regions_are_found_without_a_walk, 600)
{
	const unsigned int nr = MANY * test_scale();
	size_t bytes = 2 * (nr + FEW) * PAGE_SIZE;
	u64 took[2], few = ~0ULL, many = ~0ULL, i;
	struct mshv_pt other;
	u8 *mem;

	require_feature(FEATURE_GFN_LIMITS);
	mem = mshv_alloc(BACKING_ANON, bytes);
	ASSERT_NE(NULL, mem);
	test_pt_setup(&self->pt, 1);
	test_pt_setup(&other, 1);
	for (i = 0; i < nr; i++)
		ASSERT_EQ(0, map_one(&self->pt, mem, i));
	/* By turns, as the machine may have other things to do */
	for (i = 0; i < 20; i++) {
		took[0] = come_and_go(&other, mem, nr);
		took[1] = come_and_go(&self->pt, mem, nr);
		ASSERT_TRUE(took[0] && took[1]);
		few = took[0] < few ? took[0] : few;
		many = took[1] < many ? took[1] : many;
	}
	test_pt_close(&other);
	TH_LOG("%u regions: %llu us for one more to come and go, %llu us where there are none",
	       nr, many / FEW / 1000, few / FEW / 1000);
	EXPECT_GT(3 * few, 2 * many);

	/* The right one is found among them all */
	for (i = 0; i < nr; i += nr / 10) {
		test_guest(&self->pt.vp[0], guest_write,
			   .rdi = TEST_GPA + 2 * i * PAGE_SIZE, .rsi = i + 1);
		EXPECT_EQ(i + 1, *quad(mem, 2 * i));
		EXPECT_EQ(-EEXIST, map_one(&self->pt, mem, i));
	}
	/* ... and nothing between two of them */
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(&self->pt.vp[0], GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA + PAGE_SIZE)));
	for (i = 0; i < nr; i += 2)
		ASSERT_EQ(0, unmap_one(&self->pt, mem, i));
	/* The others are there, and all of them give back what they have at once */
	for (i = 1; i < nr; i += nr / 100)
		test_guest(&self->pt.vp[0], guest_write,
			   .rdi = TEST_GPA + 2 * i * PAGE_SIZE, .rsi = i + 2);
	for (i = 1; i < nr; i += nr / 100) {
		EXPECT_EQ(i + 2, *quad(mem, 2 * i));
		if (oracle_present() && pagemap_usable())
			test_slat(&self->pt, TEST_GFN + 2 * i, quad(mem, 2 * i), 1,
				  SLAT_RWX, false);
	}
	ASSERT_EQ(0, madvise(mem, bytes, MADV_DONTNEED));
	for (i = 1; i < nr && !mshv_missing(FEATURE_MOVABLE); i += nr / 100)
		EXPECT_FALSE(accessible(&self->pt, TEST_GFN + 2 * i));
	for (i = 1; i < nr; i += 2)
		ASSERT_EQ(0, unmap_one(&self->pt, mem, i));
	if (oracle_present())
		test_slat_empty(&self->pt, TEST_GFN, 2 * nr);
	mshv_free(mem, bytes);
}

/* A partition after the other, each with memory in use when it is closed */
TEST_F_TIMEOUT(scale, partitions_come_and_go, 600)
{
	const unsigned int nr = 8 * test_scale();
	struct oracle_totals totals;
	struct oracle_totals first;
	u64 start, slowest = 0, all = 0;
	unsigned int i;
	long partitions;
	u8 *mem;

	require_oracle();
	mem = mshv_alloc(BACKING_ANON, 4 * HUGE_SIZE);
	ASSERT_NE(NULL, mem);
	/* One that could not be destroyed may be left of a test before */
	partitions = oracle_partitions();
	ASSERT_LE(0, partitions);
	ASSERT_EQ(0, oracle_totals(&first));
	for (i = 0; i < nr; i++) {
		struct mshv_pt pt;

		start = now_ms();
		test_pt_setup(&pt, 2);
		test_map(&pt, TEST_GFN, mem, 4 * HUGE_SIZE, MEM_RWX);
		test_guest(&pt.vp[i % 2], guest_fill, .rdi = TEST_GPA,
			   .rsi = 4 * HUGE_PAGES, .rdx = i);
		EXPECT_EQ(i + 5, *quad(mem, 5));
		mshv_pt_close(&pt);
		EXPECT_EQ(partitions, oracle_partitions());
		start = now_ms() - start;
		all += start;
		if (start > slowest)
			slowest = start;
	}
	TH_LOG("%u partitions: %llu ms, the slowest %llu ms", nr, all, slowest);
	ASSERT_EQ(0, oracle_totals(&totals));
	EXPECT_EQ(first.leaks, totals.leaks);
	EXPECT_EQ(first.deposited - first.withdrawn,
		  totals.deposited - totals.withdrawn);
	mshv_free(mem, 4 * HUGE_SIZE);
}

#define PER_VP		(2 * HUGE_PAGES)

/* All VPs at once: each its own pages, or all of them the same ones */
static int all_fill(struct mshv_pt *pt, u64 first, bool own)
{
	struct guest_thread threads[GUEST_MAX_VPS];
	unsigned int i;
	int bad = 0;

	for (i = 0; i < GUEST_MAX_VPS; i++) {
		u64 page = first + (own ? i * PER_VP : 0);
		struct guest_args args = {
			.rdi = TEST_GPA + page * PAGE_SIZE,
			.rsi = PER_VP,
			.rdx = page,
		};

		bad |= guest_thread_start(&threads[i], &pt->vp[i], guest_fill, args);
	}
	for (i = 0; i < GUEST_MAX_VPS; i++)
		bad |= guest_thread_join(&threads[i]) != HVMSG_X64_HALT;
	return bad;
}

TEST_F_TIMEOUT(scale, sixteen_vps_fault_in_one_region, 300)
{
	size_t pages = (GUEST_MAX_VPS + 1) * PER_VP, i;
	u64 start, own;
	u8 *mem;

	require_feature(FEATURE_GFN_LIMITS);
	mem = mshv_alloc(BACKING_ANON, pages * PAGE_SIZE);
	ASSERT_NE(NULL, mem);
	test_pt_setup(&self->pt, GUEST_MAX_VPS);
	test_map(&self->pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX);
	start = now_ms();
	ASSERT_EQ(0, all_fill(&self->pt, 0, true));
	own = now_ms() - start;
	ASSERT_EQ(0, all_fill(&self->pt, GUEST_MAX_VPS * PER_VP, false));
	TH_LOG("%u VPs: %llu ms for %lu pages each, %llu ms for the same ones",
	       GUEST_MAX_VPS, own, PER_VP, now_ms() - start - own);
	for (i = 0; i < pages; i++)
		ASSERT_EQ(i, *quad(mem, i));
	if (oracle_present() && pagemap_usable())
		test_slat(&self->pt, TEST_GFN, mem, pages, SLAT_RWX, true);
	mshv_free(mem, pages * PAGE_SIZE);
}

/* A terabyte that holds little */
TEST_F_TIMEOUT(scale, sparse_terabyte, 300)
{
	const u64 size = 1024 * GIB;
	/* Pages of the VMM, where no GPA of the guest's page tables is */
	const u64 far[] = {
		4 * GIB + 3 * PAGE_SIZE, 512 * GIB + 511 * PAGE_SIZE,
		size - HUGE_SIZE, size - PAGE_SIZE,
	};
	u64 gpa, step = 96 * HUGE_SIZE;
	u64 start, created, discarded;
	size_t i;
	u8 *mem;

	require_feature(FEATURE_FAST_NO_ACCESS);
	require_pagemap();
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, madvise(mem, size, MADV_NOHUGEPAGE));
	for (i = 0; i < ARRAY_SIZE(far); i++)
		*quad(mem, far[i] / PAGE_SIZE) = i;
	test_pt_setup(&self->pt, 1);
	start = now_ms();
	test_map(&self->pt, TEST_GFN, mem, size, MEM_RWX);
	created = now_ms() - start;
	for (i = 0; i < ARRAY_SIZE(far); i++) {
		const u64 page = far[i] / PAGE_SIZE;

		test_slat(&self->pt, TEST_GFN + page, quad(mem, page), 1, SLAT_RWX, true);
		ASSERT_EQ(0, madvise(quad(mem, page), PAGE_SIZE, MADV_DONTNEED));
		EXPECT_FALSE(accessible(&self->pt, TEST_GFN + page));
	}
	for (gpa = TEST_GPA; gpa < GUEST_GPA_LIMIT; gpa += step)
		test_guest(&self->pt.vp[0], guest_write, .rdi = gpa, .rsi = gpa);
	for (gpa = TEST_GPA; gpa < GUEST_GPA_LIMIT; gpa += step)
		EXPECT_EQ(gpa, *(u64 *)(mem + (gpa - TEST_GPA)));
	for (gpa = TEST_GPA; gpa < GUEST_GPA_LIMIT; gpa += step)
		test_slat(&self->pt, gpa / PAGE_SIZE, mem + (gpa - TEST_GPA), HUGE_PAGES,
			  SLAT_RWX, false);
	/* To take back all of it costs what is there */
	ASSERT_EQ(0, oracle_reset());
	start = now_ms();
	ASSERT_EQ(0, madvise(mem, size, MADV_DONTNEED));
	discarded = now_ms() - start;
	if (!oracle_option(ORACLE_LARGE_OVER_4K, ORACLE_OPTION_QUERY))
		EXPECT_GE((GUEST_GPA_LIMIT - TEST_GPA) / step + 1,
			  map_counter().calls);
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
				      (GUEST_GPA_LIMIT - TEST_GPA) / PAGE_SIZE));
	test_guest_result(0, &self->pt.vp[0], guest_read, .rdi = TEST_GPA);
	start = now_ms();
	test_unmap(&self->pt, TEST_GFN, mem, size);
	TH_LOG("1 TiB: %llu ms to create, %llu ms to discard, %llu ms to unmap", created,
	       discarded, now_ms() - start);
	munmap(mem, size);
}

/* There is less memory than it takes to know what of it is mapped */
TEST_F(scale, region_the_host_cannot_keep_track_of_is_refused)
{
	const u64 size = 120 * 1024 * GIB;
	int messages;
	u8 *mem;

	require_feature(FEATURE_MOVABLE);
	if (read_field("/proc/meminfo", "MemTotal") > 3 << 20)
		SKIP(return, "needs: 3 GiB of memory at most");
	messages = kmsg_open();
	ASSERT_LE(0, messages);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	test_pt_setup(&self->pt, 1);
	test_err_map(ENOMEM, &self->pt, TEST_GFN, mem, size, MEM_RWX);
	if (oracle_present())
		test_slat_empty(&self->pt, TEST_GFN, size / PAGE_SIZE);
	EXPECT_EQ(0, kmsg_complaints(messages));
	close(messages);
	/* The next one is not affected */
	test_map(&self->pt, TEST_GFN, mem, HUGE_SIZE, MEM_RWX);
	test_guest(&self->pt.vp[0], guest_write, .rdi = TEST_GPA, .rsi = 5);
	EXPECT_EQ(5, *quad(mem, 0));
	munmap(mem, size);
}

TEST_HARNESS_MAIN
