// SPDX-License-Identifier: GPL-2.0
/*
 * Movable regions: the SLAT mirrors the page tables of the VMM, whatever the
 * VMM, the guest and the rest of the system do to its memory.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define CHECK() \
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->mem, self->pages, \
				SLAT_RWX, false))

/* The whole of the fixture's memory as a region */
#define map_all() \
	test_map(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE, \
		 MEM_RWX)

FIXTURE(mirror)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
};

FIXTURE_VARIANT(mirror)
{
	enum mshv_backing backing;
};

FIXTURE_VARIANT_ADD(mirror, anon) { .backing = BACKING_ANON };
FIXTURE_VARIANT_ADD(mirror, memfd) { .backing = BACKING_MEMFD };
FIXTURE_VARIANT_ADD(mirror, thp) { .backing = BACKING_THP };
FIXTURE_VARIANT_ADD(mirror, hugetlb) { .backing = BACKING_HUGETLB };
FIXTURE_VARIANT_ADD(mirror, hugetlb_shared) { .backing = BACKING_HUGETLB_SHARED };
FIXTURE_VARIANT_ADD(mirror, shmem_thp) { .backing = BACKING_SHMEM_THP };

FIXTURE_SETUP(mirror)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->pages = 3 * HUGE_PAGES;
	if (backing_is_hugetlb(variant->backing))
		require_hugetlb(4);
	self->mem = mshv_alloc(variant->backing, self->pages * PAGE_SIZE);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(mirror)
{
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
}

TEST_F(mirror, creation_allocates_and_maps_nothing)
{
	map_all();
	EXPECT_EQ(0, resident(self->mem, self->pages));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
}

TEST_F(mirror, vmm_sees_what_the_guest_writes)
{
	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 5 * PAGE_SIZE,
		   .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 5));
	if (variant->backing == BACKING_ANON || variant->backing == BACKING_MEMFD)
		EXPECT_EQ(1, resident(self->mem, self->pages));
	CHECK();
}

TEST_F(mirror, guest_sees_what_the_vmm_writes)
{

	map_all();
	fill_pages(self->mem, self->pages, 7);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 7);
	CHECK();
	fill_pages(self->mem, self->pages, 9);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 9);
}

TEST_F(mirror, populated_memory_is_mapped_at_creation)
{
	u64 calls;

	require_feature(FEATURE_POPULATED);
	memset(self->mem, 1, self->pages * PAGE_SIZE);
	map_all();
	test_slat(&self->pt, TEST_GFN, self->mem, self->pages, SLAT_RWX, true);
	calls = map_counter().calls;
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	EXPECT_EQ(calls, map_counter().calls);
}

TEST_F(mirror, huge_pages_take_one_repetition_each)
{
	struct oracle_slat entry;
	u64 reps;
	size_t i;

	if (!backing_is_thp(variant->backing) &&
	    !backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: huge pages");
	map_all();
	/* Code and page tables of the guest */
	test_guest(self->vp, guest_read, .rdi = DATA_GPA);
	reps = map_counter().reps;
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	EXPECT_EQ(self->pages / HUGE_PAGES, map_counter().reps - reps);
	for (i = 0; i < self->pages; i += HUGE_PAGES) {
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + i, &entry));
		EXPECT_EQ(1, SLAT_SIZE(entry.flags));
	}
	test_slat(&self->pt, TEST_GFN, self->mem, self->pages, SLAT_RWX, true);
}

TEST_F(mirror, discarded_memory_is_out_of_reach)
{
	size_t bytes = self->pages * PAGE_SIZE;

	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, madvise(self->mem, bytes, discard_advice(variant->backing)));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	test_guest_result(0, self->vp, guest_read,
			  .rdi = TEST_GPA + 700 * PAGE_SIZE);
	CHECK();
}

TEST_F(mirror, part_of_it_is_discarded_and_comes_back_elsewhere)
{
	u8 *hole = self->mem + 100 * PAGE_SIZE;
	size_t i;

	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory with pages of 4 KiB");
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, madvise(hole, PAGE_SIZE, discard_advice(variant->backing)));
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + 100));
	/* A large entry goes as a whole: to split it might take memory */
	if (backing_is_thp(variant->backing))
		EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, HUGE_PAGES));
	*quad(self->mem, 100) = VALUE;
	test_guest_result(1 + 99, self->vp, guest_read,
			  .rdi = TEST_GPA + 99 * PAGE_SIZE);
	test_guest_result(VALUE, self->vp, guest_read,
			  .rdi = TEST_GPA + 100 * PAGE_SIZE);
	test_guest_result(1 + 101, self->vp, guest_read,
			  .rdi = TEST_GPA + 101 * PAGE_SIZE);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 100 * PAGE_SIZE,
		   .rsi = VALUE + 1);
	EXPECT_EQ(VALUE + 1, *quad(self->mem, 100));
	for (i = 0; i < self->pages; i++)
		if (i != 100)
			ASSERT_EQ(i + 1, *quad(self->mem, i));
	CHECK();
}

TEST_F(mirror, unmapped_backing_is_the_vmms_business)
{
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	ASSERT_EQ(0, munmap(self->mem, self->pages * PAGE_SIZE));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(TEST_GPA, self->vp->msg.memory.guest_physical_address);
	/* What is there later is what counts */
	ASSERT_EQ(self->mem, mmap(self->mem, self->pages * PAGE_SIZE,
				  PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	*quad(self->mem, 3) = VALUE;
	test_guest_result(VALUE, self->vp, guest_read,
			  .rdi = TEST_GPA + 3 * PAGE_SIZE);
	CHECK();
}

TEST_F(mirror, unmap_leaves_nothing_behind)
{
	size_t bytes = self->pages * PAGE_SIZE;

	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 1);
	test_unmap(&self->pt, TEST_GFN, self->mem, bytes);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	/* Never touched at all */
	map_all();
	test_unmap(&self->pt, TEST_GFN, self->mem, bytes);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
}

TEST_F(mirror, permission_of_the_vmms_mapping_is_the_guests)
{
	size_t bytes = self->pages * PAGE_SIZE;

	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, mprotect(self->mem, bytes, PROT_READ));
	test_guest_result(1, self->vp, guest_read, .rdi = TEST_GPA);
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 2)));
	EXPECT_EQ(HV_INTERCEPT_ACCESS_WRITE,
		  self->vp->msg.intercept.intercept_access_type);
	EXPECT_EQ(1, *quad(self->mem, 0));
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->mem, self->pages,
				SLAT_RWX & ~SLAT_WRITE, false));
	ASSERT_EQ(0, mprotect(self->mem, bytes, PROT_NONE));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	ASSERT_EQ(0, mprotect(self->mem, bytes, PROT_READ | PROT_WRITE));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 3);
	EXPECT_EQ(3, *quad(self->mem, 0));
	CHECK();
}

TEST_F(mirror, fork_separates_the_child_not_the_guest)
{
	/* Without the fast path all of a range is taken away, there or not */
	const bool counted = !mshv_missing(FEATURE_FAST_NO_ACCESS) && oracle_present();
	int pipes[2], status;
	pid_t child, other;
	char c = 0;
	u64 calls;

	if (backing_is_shared(variant->backing))
		SKIP(return, "needs: private memory");
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, pipe(pipes));
	child = fork();
	if (!child) {
		/* After the guest has written, if it is not given up before */
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 1 ||
		      mismatches(self->mem, self->pages, 1));
	}
	ASSERT_LT(0, child);
	/* No page may be written where it is, now that it is the child's too */
	if (oracle_present() && pagemap_usable())
		test_slat(&self->pt, TEST_GFN, self->mem, self->pages, SLAT_RX, false);
	/* To fork again costs nothing: there is nothing left to be taken away */
	calls = counted ? map_counter().calls : 0;
	other = fork();
	if (!other)
		_exit(0);
	ASSERT_LT(0, other);
	ASSERT_EQ(other, waitpid(other, &status, 0));
	if (counted)
		EXPECT_EQ(calls, map_counter().calls);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 2 * PAGE_SIZE,
		   .rsi = VALUE);
	ASSERT_EQ(1, write(pipes[1], &c, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(VALUE, *quad(self->mem, 2));
	CHECK();
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(mirror, memory_the_guest_may_write_is_dirty)
{
	/* Writable and clean: populated by reading, if it is shared memory */
	if (madvise(self->mem, self->pages * PAGE_SIZE, MADV_POPULATE_READ))
		SKIP(return, "needs: MADV_POPULATE_READ");
	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 9 * PAGE_SIZE,
		   .rsi = VALUE);
	EXPECT_TRUE(page_dirty(self->mem + 9 * PAGE_SIZE));
	EXPECT_EQ(VALUE, *quad(self->mem, 9));
	CHECK();
}

TEST_F(mirror, several_vps_touch_the_same_chunks)
{
	struct guest_thread thread;

	map_all();
	ASSERT_EQ(0, guest_thread_start(&thread, &self->pt.vp[1], guest_lock_count,
					GUEST_ARGS(.rdi = TEST_GPA,
						   .rsi = MAILBOX_GPA(0))));
	ASSERT_TRUE(wait_for_change(quad(self->mem, 0), 0, 5000));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA + PAGE_SIZE,
		   .rsi = self->pages - 1, .rdx = 1);
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	EXPECT_LT(0, *quad(self->mem, 0));
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA + PAGE_SIZE,
			  .rsi = self->pages - 1, .rdx = 1);
	CHECK();
}

TEST_F(mirror, discarded_while_a_vp_counts_in_it)
{
	struct guest_thread thread;
	size_t bytes = self->pages * PAGE_SIZE;
	int i;

	map_all();
	ASSERT_EQ(0, guest_thread_start(&thread, &self->pt.vp[1], guest_count,
					GUEST_ARGS(.rdi = TEST_GPA + PAGE_SIZE,
						   .rsi = MAILBOX_GPA(0))));
	ASSERT_TRUE(wait_for_change(quad(self->mem, 1), 0, 5000));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(0, madvise(self->mem, bytes,
				     discard_advice(variant->backing)));
	ASSERT_TRUE(wait_for_change(quad(self->mem, 1), 0, 5000));
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	guest_thread_join(&thread);
	EXPECT_EQ(HVMSG_X64_HALT, thread.ret);
	CHECK();
}

TEST_F(mirror, memory_of_an_exited_process_is_nobodys)
{
	struct mshv_vp *vp = self->vp;
	pid_t child, others[8];
	unsigned int i;
	int status;

	/* The region belongs to the child, the partition to both */
	child = fork();
	if (!child)
		_exit(!!mshv_map(&self->pt, TEST_GFN, self->mem,
				 self->pages * PAGE_SIZE, MEM_RWX));
	ASSERT_LT(0, child);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
	/* Nor is it that of processes who come later, and have the same addresses */
	usleep(100000);
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		others[i] = fork();
		if (!others[i]) {
			pause();
			_exit(0);
		}
		EXPECT_LT(0, others[i]);
	}
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		if (others[i] > 0) {
			kill(others[i], SIGKILL);
			waitpid(others[i], &status, 0);
		}
	}
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
}

TEST_F(mirror, map_that_fails_is_for_the_vmm)
{
	map_all();
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 0));
	CHECK();
}

TEST_F(mirror, map_that_needs_memory_gets_it)
{
	struct oracle_pool before, after;

	map_all();
	ASSERT_EQ(0, oracle_pool(self->pt.id, &before));
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0, 0));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = VALUE);
	EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
	ASSERT_EQ(0, oracle_pool(self->pt.id, &after));
	EXPECT_LT(before.deposited, after.deposited);
	EXPECT_EQ(VALUE, *quad(self->mem, 0));
	CHECK();
}

/* Somebody else may have what was deposited, or the hypervisor need more */
TEST_F(mirror, memory_that_does_not_suffice_is_followed_by_more)
{
	const size_t part = backing_is_hugetlb(variant->backing) ? HUGE_PAGES : 1;
	const u64 elsewhere = (4ULL << 30) >> PAGE_SHIFT;
	u8 *last = self->mem + (self->pages - part) * PAGE_SIZE;

	map_all();
	ASSERT_EQ(0, oracle_dry(self->pt.id, 3));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	/* What is left is to unmap it */
	ASSERT_EQ(0, oracle_dry(self->pt.id, 3));
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INVALID_PARAMETER, 0,
				   ORACLE_INJECT_FOREVER));
	ASSERT_EQ(0, mprotect(last, part * PAGE_SIZE, PROT_NONE));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + self->pages - part,
				      part));
	ASSERT_EQ(0, mprotect(last, part * PAGE_SIZE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, oracle_dry(self->pt.id, 0));
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	CHECK();
	ASSERT_EQ(0, oracle_dry(self->pt.id, 3));
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE);
	/* Where there are no tables */
	ASSERT_EQ(0, oracle_dry(self->pt.id, 3));
	test_map(&self->pt, elsewhere, self->mem, self->pages * PAGE_SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_dry(self->pt.id, 0));
	EXPECT_EQ(0, slat_check(&self->pt, elsewhere, self->mem, self->pages,
				SLAT_RWX, false));
}

TEST_F(mirror, map_that_needs_memory_maps_the_neighbours)
{
	const size_t chunk = self->pages < HUGE_PAGES ? self->pages : HUGE_PAGES;

	map_all();
	fill_pages(self->mem, self->pages, 1);
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0, 0));
	test_guest_result(1, self->vp, guest_read, .rdi = TEST_GPA);
	EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
	EXPECT_LE(chunk, accessible_pages(&self->pt, TEST_GFN, self->pages));
	CHECK();
}

TEST_F(mirror, failed_no_access_falls_back_to_unmap)
{
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0,
				   ORACLE_INJECT_FOREVER));
	ASSERT_EQ(0, mprotect(self->mem, self->pages * PAGE_SIZE, PROT_NONE));
	EXPECT_LT(0, oracle_injected(HVCALL_MAP_GPA_PAGES));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	/* The guest goes on, by HVMSG_UNMAPPED_GPA this time */
	ASSERT_EQ(0, mprotect(self->mem, self->pages * PAGE_SIZE,
			      PROT_READ | PROT_WRITE));
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	CHECK();
}

/* The VMM takes memory back, and the hypervisor refuses each way to take it away */
#define must_contain(_call) do { \
	self->pt.dies = true; \
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1, \
				   HV_STATUS_OPERATION_DENIED, 0, \
				   ORACLE_INJECT_FOREVER)); \
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, \
				   HV_STATUS_OPERATION_DENIED, 0, \
				   ORACLE_INJECT_FOREVER)); \
	ASSERT_EQ(0, _call); \
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES); \
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES); \
} while (0)

TEST_F(mirror, what_cannot_be_taken_away_is_contained)
{
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	must_contain(munmap(self->mem, self->pages * PAGE_SIZE));
	/* Dead, and without access to what is no longer its own */
	EXPECT_EQ(-EIO, mshv_run_once(self->vp));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	self->mem = mshv_alloc(variant->backing, self->pages * PAGE_SIZE);
}

TEST_F(mirror, region_that_cannot_be_unmapped_is_contained)
{
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	self->pt.dies = true;
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	EXPECT_EQ(-EIO, mshv_unmap(&self->pt, TEST_GFN, self->mem,
				   self->pages * PAGE_SIZE));
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	EXPECT_EQ(-EIO, mshv_run_once(self->vp));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
}

/* A page of a device instead of one of its own */
static bool put_device_page(u8 *where)
{
	void *page;
	u64 spa;

	page = mshv_alloc_mmio(&spa);
	return page && mremap(page, PAGE_SIZE, PAGE_SIZE,
			      MREMAP_MAYMOVE | MREMAP_FIXED, where) == where;
}

/* Neither reading nor writing page @nr of the region works, nor harms the others */
#define expect_device_page(_nr) do { \
	const u64 gpa_ = TEST_GPA + (_nr) * PAGE_SIZE; \
	size_t i_; \
	\
	EXPECT_EQ(HVMSG_GPA_INTERCEPT, \
		  guest_run(self->vp, GUEST_ADDR(guest_read), \
			    GUEST_ARGS(.rdi = gpa_))); \
	EXPECT_EQ(gpa_, self->vp->msg.memory.guest_physical_address); \
	EXPECT_EQ(HVMSG_GPA_INTERCEPT, \
		  guest_run(self->vp, GUEST_ADDR(guest_write), \
			    GUEST_ARGS(.rdi = gpa_, .rsi = 0))); \
	EXPECT_EQ(gpa_, self->vp->msg.memory.guest_physical_address); \
	EXPECT_EQ(HV_INTERCEPT_ACCESS_WRITE, \
		  self->vp->msg.intercept.intercept_access_type); \
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + (_nr))); \
	for (i_ = (_nr) - 2; i_ <= (_nr) + 2; i_++) { \
		if (i_ == (_nr)) \
			continue; \
		test_guest_result(1 + i_, self->vp, guest_read, \
				  .rdi = TEST_GPA + i_ * PAGE_SIZE); \
		test_guest(self->vp, guest_write, .rsi = VALUE + i_, \
			   .rdi = TEST_GPA + i_ * PAGE_SIZE); \
		EXPECT_EQ(VALUE + i_, *quad(self->mem, i_)); \
	} \
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages, \
				  SLAT_RWX)); \
} while (0)

TEST_F(mirror, device_page_that_takes_a_place_is_the_vmms_business)
{
	const size_t nr = HUGE_PAGES + 100;
	int kmsg = kmsg_open();

	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory with pages of 4 KiB");
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	if (!put_device_page(self->mem + nr * PAGE_SIZE))
		SKIP(return, "needs: HPET and /dev/mem");
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + nr));
	expect_device_page(nr);
	/* And back: what counts is what is there */
	ASSERT_EQ(quad(self->mem, nr),
		  mmap(quad(self->mem, nr), PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + nr * PAGE_SIZE,
		   .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, nr));
	CHECK();
	EXPECT_EQ(0, kmsg_complaints(kmsg));
	close(kmsg);
}

TEST_F(mirror, device_page_that_is_there_first_is_left_out)
{
	const size_t nr = HUGE_PAGES + 100;
	int kmsg = kmsg_open();

	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory with pages of 4 KiB");
	fill_pages(self->mem, self->pages, 1);
	if (!put_device_page(self->mem + nr * PAGE_SIZE))
		SKIP(return, "needs: HPET and /dev/mem");
	map_all();
	expect_device_page(nr);
	/* The end of the region is the end of all of it */
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
	EXPECT_EQ(0, kmsg_complaints(kmsg));
	close(kmsg);
}

/* Neither start nor size need to be aligned, nor equally aligned */
FIXTURE(shape)
{
	struct mshv_pt pt;
	u8 *area, *mem;
	size_t pages;
};

FIXTURE_VARIANT(shape)
{
	size_t pages, gfn_offset, uaddr_offset;
};

FIXTURE_VARIANT_ADD(shape, page) { .pages = 1 };
FIXTURE_VARIANT_ADD(shape, chunk_less_one) { .pages = HUGE_PAGES - 1 };
FIXTURE_VARIANT_ADD(shape, chunk_and_one) { .pages = HUGE_PAGES + 1 };
FIXTURE_VARIANT_ADD(shape, odd_gfn) { .pages = 1500, .gfn_offset = 3 };
FIXTURE_VARIANT_ADD(shape, odd_uaddr) { .pages = 1500, .uaddr_offset = 5 };

FIXTURE_VARIANT_ADD(shape, both_odd) {
	.pages = 1500, .gfn_offset = 7, .uaddr_offset = 7,
};

FIXTURE_SETUP(shape)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->area = mshv_alloc(BACKING_THP, 4 * HUGE_SIZE);
	if (!self->area)
		SKIP(return, "needs: transparent huge pages");
	self->mem = self->area + variant->uaddr_offset * PAGE_SIZE;
	test_pt_setup(&self->pt, 1);
}

FIXTURE_TEARDOWN(shape)
{
	test_pt_close(&self->pt);
	mshv_free(self->area, 4 * HUGE_SIZE);
}

TEST_F(shape, is_mirrored)
{
	const u64 gfn = TEST_GFN + variant->gfn_offset;
	struct oracle_counter counter;
	struct oracle_slat entry;
	size_t i, large = 0;

	test_map(&self->pt, gfn, self->mem, variant->pages * PAGE_SIZE, MEM_RWX);
	test_guest(&self->pt.vp[0], guest_fill, .rdi = gfn * PAGE_SIZE,
		   .rsi = variant->pages, .rdx = 1);
	test_slat(&self->pt, gfn, self->mem, variant->pages, SLAT_RWX, true);
	for (i = 0; i < variant->pages; i++) {
		ASSERT_EQ(i + 1, *quad(self->mem, i));
		ASSERT_EQ(0, oracle_slat(self->pt.id, gfn + i, &entry));
		large += SLAT_SIZE(entry.flags) == 1;
	}
	/* Large where GFN, address and size allow it, and only there */
	if (variant->gfn_offset == variant->uaddr_offset &&
	    variant->pages >= HUGE_PAGES)
		EXPECT_LE(HUGE_PAGES, large);
	if (variant->gfn_offset % HUGE_PAGES != variant->uaddr_offset % HUGE_PAGES ||
	    variant->pages < HUGE_PAGES)
		EXPECT_EQ(0, large);

	ASSERT_EQ(0, oracle_reset());
	ASSERT_EQ(0, madvise(self->mem, variant->pages * PAGE_SIZE,
			     MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, gfn, variant->pages));
	/* Large units for large chunks only, so none is refused */
	ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
	if (variant->gfn_offset == variant->uaddr_offset)
		EXPECT_EQ(0, counter.failures);
	test_unmap(&self->pt, gfn, self->mem, variant->pages * PAGE_SIZE);
	test_slat_empty(&self->pt, TEST_GFN, 4 * HUGE_PAGES);
}

/* In an order in which hardly any page comes after the one before it */
TEST_F(shape, is_mirrored_page_by_page)
{
	const u64 gfn = TEST_GFN + variant->gfn_offset;
	size_t i, page;

	ASSERT_EQ(0, madvise(self->area, 4 * HUGE_SIZE, MADV_NOHUGEPAGE));
	test_map(&self->pt, gfn, self->mem, variant->pages * PAGE_SIZE, MEM_RWX);
	for (i = 0; i < variant->pages; i++) {
		page = i * 577 % variant->pages;
		test_guest(&self->pt.vp[0], guest_write, .rsi = page + 1,
			   .rdi = (gfn + page) * PAGE_SIZE);
	}
	test_slat(&self->pt, gfn, self->mem, variant->pages, SLAT_RWX, true);
	EXPECT_EQ(0, mismatches(self->mem, variant->pages, 1));
	test_unmap(&self->pt, gfn, self->mem, variant->pages * PAGE_SIZE);
	test_slat_empty(&self->pt, TEST_GFN, 4 * HUGE_PAGES);
}

/* Special memory */
FIXTURE(memory)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
};

FIXTURE_SETUP(memory)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_ANON, self->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(memory)
{
	oracle_delay(HVCALL_MAP_GPA_PAGES, 0);
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
}

TEST_F(memory, zero_page_stays_zero)
{
	u8 *other = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	u64 zero, i, sum = 0;

	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, *other);
	zero = page_pfn(other);
	ASSERT_NE(0, zero);

	/* Half of it before the region exists, the other half by the guest */
	for (i = 0; i < self->pages / 2; i++)
		sum += *(volatile u64 *)quad(self->mem, i);
	EXPECT_EQ(0, sum);
	map_all();
	for (i = 0; i < self->pages; i += 64)
		test_guest_result(0, self->vp, guest_read,
				  .rdi = TEST_GPA + i * PAGE_SIZE);
	EXPECT_EQ(zero, page_pfn(self->mem));
	EXPECT_EQ(zero, page_pfn(self->mem + (self->pages - 64) * PAGE_SIZE));
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->mem, self->pages,
				SLAT_RWX & ~SLAT_WRITE, false));

	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	EXPECT_NE(zero, page_pfn(self->mem));
	EXPECT_EQ(0, *other);
	EXPECT_EQ(zero, page_pfn(other));
	CHECK();
	mshv_free(other, PAGE_SIZE);
}

TEST_F(memory, file_that_may_not_be_written_is_not)
{
	char name[] = "/tmp/mshv-XXXXXX";
	int fd = mkstemp(name), shared;

	ASSERT_LE(0, fd);
	unlink(name);
	ASSERT_EQ(0, ftruncate(fd, PAGE_SIZE));
	ASSERT_EQ(8, pwrite(fd, "original", 8, 0));
	for (shared = 0; shared < 2; shared++) {
		u64 content = 0;
		u8 *mem;

		mem = mmap(NULL, PAGE_SIZE, PROT_READ,
			   shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
		ASSERT_NE(MAP_FAILED, mem);
		test_map(&self->pt, TEST_GFN, mem, PAGE_SIZE, MEM_RWX);
		test_guest_result(*(u64 *)"original", self->vp, guest_read,
				  .rdi = TEST_GPA);
		EXPECT_EQ(HVMSG_GPA_INTERCEPT,
			  guest_run(self->vp, GUEST_ADDR(guest_write),
				    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
		EXPECT_EQ(8, pread(fd, &content, 8, 0));
		EXPECT_EQ(*(u64 *)"original", content);
		test_unmap(&self->pt, TEST_GFN, mem, PAGE_SIZE);
		munmap(mem, PAGE_SIZE);
	}
	close(fd);
}

TEST_F(memory, private_file_is_copied_on_write_only)
{
	char name[] = "/tmp/mshv-XXXXXX";
	int fd = mkstemp(name);
	u64 content = 0, shared;
	u8 *mem;

	ASSERT_LE(0, fd);
	unlink(name);
	ASSERT_EQ(0, ftruncate(fd, 4 * PAGE_SIZE));
	ASSERT_EQ(8, pwrite(fd, "original", 8, 0));
	mem = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	test_map(&self->pt, TEST_GFN, mem, 4 * PAGE_SIZE, MEM_RWX);
	test_guest_result(*(u64 *)"original", self->vp, guest_read,
			  .rdi = TEST_GPA);
	shared = page_pfn(mem);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = VALUE);
	EXPECT_NE(shared, page_pfn(mem));
	EXPECT_EQ(VALUE, *(u64 *)mem);
	EXPECT_EQ(8, pread(fd, &content, 8, 0));
	EXPECT_EQ(*(u64 *)"original", content);
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, mem, 4, SLAT_RWX, false));
	test_unmap(&self->pt, TEST_GFN, mem, 4 * PAGE_SIZE);
	munmap(mem, 4 * PAGE_SIZE);
	close(fd);
}

TEST_F(memory, neighbours_that_are_not_there_do_no_harm)
{
	map_all();
	ASSERT_EQ(0, munmap(self->mem + 10 * PAGE_SIZE, PAGE_SIZE));
	ASSERT_EQ(0, mprotect(self->mem + 12 * PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->mem + 14 * PAGE_SIZE, PAGE_SIZE, PROT_READ));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 11 * PAGE_SIZE,
		   .rsi = VALUE);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 13 * PAGE_SIZE,
		   .rsi = VALUE);
	test_guest_result(0, self->vp, guest_read,
			  .rdi = TEST_GPA + 14 * PAGE_SIZE);
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA + 10 * PAGE_SIZE)));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA + 12 * PAGE_SIZE)));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA + 14 * PAGE_SIZE)));
	EXPECT_EQ(VALUE, *quad(self->mem, 11));
	EXPECT_EQ(VALUE, *quad(self->mem, 13));
	ASSERT_EQ(self->mem + 10 * PAGE_SIZE,
		  mmap(self->mem + 10 * PAGE_SIZE, PAGE_SIZE,
		       PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	CHECK();
}

TEST_F(memory, touching_far_apart_allocates_what_is_touched)
{
	size_t i;

	map_all();
	for (i = 0; i < self->pages; i += 128)
		test_guest(self->vp, guest_write,
			   .rdi = TEST_GPA + i * PAGE_SIZE, .rsi = 1);
	EXPECT_EQ(self->pages / 128, resident(self->mem, self->pages));
	CHECK();
}

TEST_F(memory, touching_in_order_reads_ahead)
{
	u64 calls;

	map_all();
	calls = map_counter().calls;
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	/* 1, 2, 4, ... pages in the first chunk, then all of the next one */
	EXPECT_GE(10 + 2 + 2, map_counter().calls - calls);
	CHECK();
}

/* As after reclaim, which takes some pages of each chunk and leaves others */
TEST_F(memory, going_on_after_mapped_pages_reads_ahead)
{
	const size_t kept = 32;
	size_t i;
	u64 calls;

	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	for (i = 0; i < self->pages; i += HUGE_PAGES)
		ASSERT_EQ(0, madvise(self->mem + (i + kept) * PAGE_SIZE,
				     (HUGE_PAGES - kept) * PAGE_SIZE,
				     MADV_DONTNEED));
	EXPECT_EQ(self->pages / HUGE_PAGES * kept,
		  accessible_pages(&self->pt, TEST_GFN, self->pages));
	calls = map_counter().calls;
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 2);
	/* 1, 2, 4, ... 256 pages in the first chunk, then all of the next one */
	EXPECT_GE(9 + 2 + 2, map_counter().calls - calls);
	CHECK();
}

/* Who goes on in order gets all that is there, not only what is near */
TEST_F(memory, going_on_maps_the_rest_of_the_chunk)
{
	u64 calls;

	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 1);
	fill_pages(self->mem, self->pages, 1);
	calls = map_counter().calls;
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	/* Two for a chunk, as one takes 509 pages */
	EXPECT_GE(2 * self->pages / HUGE_PAGES, map_counter().calls - calls);
	CHECK();
}

/* The first fault of a chunk maps what is there, later ones what is near */
TEST_F(memory, touching_in_any_order_maps_what_is_near)
{
	const size_t near = 63;

	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 1);
	fill_pages(self->mem, self->pages, VALUE);
	/* They might be in line by chance, as those of a large page are */
	ASSERT_EQ(0, madvise(self->mem + 310 * PAGE_SIZE, PAGE_SIZE,
			     MADV_DONTNEED));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 300 * PAGE_SIZE,
		   .rsi = 1);
	EXPECT_EQ(1 + near, accessible_pages(&self->pt, TEST_GFN, HUGE_PAGES));
	test_guest(self->vp, guest_write, .rsi = 1,
		   .rdi = TEST_GPA + (HUGE_PAGES + 300) * PAGE_SIZE);
	EXPECT_EQ(1 + near + HUGE_PAGES,
		  accessible_pages(&self->pt, TEST_GFN, self->pages));
	CHECK();
}

/* Nobody has accessed what is read ahead, so it ends where somebody could not */
TEST_F(memory, reading_ahead_ends_at_what_is_protected)
{
	static const int prots[] = { PROT_NONE, PROT_READ };
	size_t i, first;

	map_all();
	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		first = i * HUGE_PAGES;
		ASSERT_EQ(0, mprotect(self->mem + (first + 20) * PAGE_SIZE,
				      10 * PAGE_SIZE, prots[i]));
		/* 1, 2, 4 and 8 pages, then 5 of 16 */
		test_guest(self->vp, guest_fill, .rsi = 20, .rdx = 1,
			   .rdi = TEST_GPA + first * PAGE_SIZE);
		EXPECT_EQ(20, resident(self->mem + first * PAGE_SIZE,
				       HUGE_PAGES));
	}
	CHECK();
}

TEST_F(memory, collapsed_memory_becomes_large)
{
	struct oracle_counter counter;
	struct oracle_slat entry;
	u8 *mem = mshv_alloc(BACKING_THP, HUGE_SIZE);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, madvise(mem, HUGE_SIZE, MADV_NOHUGEPAGE));
	test_map(&self->pt, TEST_GFN, mem, HUGE_SIZE, MEM_RWX);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = HUGE_PAGES,
		   .rdx = 1);
	ASSERT_EQ(0, madvise(mem, HUGE_SIZE, MADV_HUGEPAGE));
	ASSERT_EQ(0, oracle_reset());
	if (madvise(mem, HUGE_SIZE, MADV_COLLAPSE))
		SKIP(return, "needs: MADV_COLLAPSE");
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = HUGE_PAGES, .rdx = 1);
	ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + 5, &entry));
	/* Unless the hypervisor refuses large entries where small ones were */
	ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
	EXPECT_EQ(!counter.failures, SLAT_SIZE(entry.flags));
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, mem, HUGE_PAGES, SLAT_RWX,
				true));
	test_unmap(&self->pt, TEST_GFN, mem, HUGE_SIZE);
	mshv_free(mem, HUGE_SIZE);
}

/* One page is not as the others for a while, of a huge page or of pages in line */
TEST_F(memory, memory_that_is_whole_again_becomes_large)
{
	u8 *mem = mshv_alloc(BACKING_THP, HUGE_SIZE);
	struct oracle_counter counter;
	struct oracle_slat entry;
	long before;
	int split;

	if (!mem)
		SKIP(return, "needs: transparent huge pages");
	if (!split_huge_pages(mem, HUGE_SIZE))
		SKIP(return, "needs: split_huge_pages in debugfs");
	test_map(&self->pt, TEST_GFN, mem, HUGE_SIZE, MEM_RWX);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = HUGE_PAGES,
		   .rdx = 1);
	ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + 5, &entry));
	ASSERT_EQ(1, SLAT_SIZE(entry.flags));
	for (split = 0; split < 2; split++) {
		before = vmstat("thp_split_page");
		ASSERT_EQ(true, !split || split_huge_pages(mem, HUGE_SIZE));
		EXPECT_EQ(before + split, vmstat("thp_split_page"));
		ASSERT_EQ(0, mprotect(mem + 300 * PAGE_SIZE, PAGE_SIZE, PROT_READ));
		test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
				  .rsi = HUGE_PAGES, .rdx = 1);
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + 5, &entry));
		EXPECT_EQ(0, SLAT_SIZE(entry.flags));
		ASSERT_EQ(0, mprotect(mem + 300 * PAGE_SIZE, PAGE_SIZE,
				      PROT_READ | PROT_WRITE));
		ASSERT_EQ(0, oracle_reset());
		test_guest(self->vp, guest_write, .rsi = 301,
			   .rdi = TEST_GPA + 300 * PAGE_SIZE);
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + 5, &entry));
		EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, mem, HUGE_PAGES,
					SLAT_RWX, true));
		/* Unless the hypervisor refuses large entries where small ones were */
		ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
		EXPECT_EQ(!counter.failures, SLAT_SIZE(entry.flags));
	}
	test_unmap(&self->pt, TEST_GFN, mem, HUGE_SIZE);
	mshv_free(mem, HUGE_SIZE);
}

TEST_F(memory, populated_hugetlb_memory_is_the_guests_to_write)
{
	const size_t pages = 2 * HUGE_PAGES;
	struct oracle_slat entry;
	u8 *mem;
	size_t i;

	if (!hugetlb_reserve(2))
		SKIP(return, "needs: huge pages");
	mem = mshv_alloc(BACKING_HUGETLB, 2 * HUGE_SIZE);
	ASSERT_NE(NULL, mem);
	for (i = 0; i < pages; i += HUGE_PAGES)
		*quad(mem, i) = i + 1;
	require_feature(FEATURE_POPULATED);
	test_map(&self->pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX);
	for (i = 0; i < pages; i += HUGE_PAGES) {
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + i, &entry));
		EXPECT_EQ(SLAT_WRITE, entry.flags & SLAT_WRITE);
		EXPECT_EQ(1, SLAT_SIZE(entry.flags));
		/* Where 511 others of its huge page are in front of it */
		test_guest(self->vp, guest_write, .rdx = 0, .rsi = i + 2,
			   .rdi = TEST_GPA + (i + 511) * PAGE_SIZE);
		EXPECT_EQ(i + 2, *quad(mem, i + 511));
		EXPECT_EQ(i + 1, *quad(mem, i));
	}
	test_slat(&self->pt, TEST_GFN, mem, pages, SLAT_RWX, false);
	test_unmap(&self->pt, TEST_GFN, mem, pages * PAGE_SIZE);
	mshv_free(mem, 2 * HUGE_SIZE);
}

/*
 * Closes the partition while it can neither be finalized nor have its memory, all of
 * which the guest has written, unmapped: @_lost says which it was. The test ends that.
 */
#define close_and_lose(_lost) do { \
	map_all(); \
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages, \
		   .rdx = 1); \
	*(_lost) = self->pt; \
	ASSERT_EQ(0, oracle_inject(HVCALL_FINALIZE_PARTITION, 1, \
				   HV_STATUS_OPERATION_DENIED, 0, \
				   ORACLE_INJECT_FOREVER)); \
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, \
				   HV_STATUS_OPERATION_DENIED, 0, \
				   ORACLE_INJECT_FOREVER)); \
	mshv_pt_close(&self->pt); \
} while (0)

/*
 * A partition that can neither be finalized nor have its memory unmapped is there
 * for good, and so is its notifier: what Linux takes back is taken from the guest.
 */
TEST_F(memory, region_that_outlives_its_partition_is_still_watched)
{
	struct mshv_pt lost;

	close_and_lose(&lost);
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	EXPECT_EQ(self->pages, accessible_pages(&lost, TEST_GFN, self->pages));
	ASSERT_EQ(0, madvise(self->mem, 5 * PAGE_SIZE, MADV_DONTNEED));
	EXPECT_EQ(self->pages - 5,
		  accessible_pages(&lost, TEST_GFN, self->pages));
	/* What is in front of it may go, too: the mapping is split */
	ASSERT_EQ(0, munmap(self->mem + HUGE_SIZE, HUGE_SIZE));
	EXPECT_EQ(0, accessible_pages(&lost, TEST_GFN + HUGE_PAGES, HUGE_PAGES));
}

/* It would be unmapped, as it is on its way out, but that is refused for ever */
TEST_F(memory, region_that_cannot_be_unmapped_is_made_inaccessible)
{
	struct mshv_pt lost;

	close_and_lose(&lost);
	EXPECT_EQ(self->pages, accessible_pages(&lost, TEST_GFN, self->pages));
	ASSERT_EQ(0, madvise(self->mem, 5 * PAGE_SIZE, MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&lost, TEST_GFN, 5));
	ASSERT_EQ(0, munmap(self->mem + HUGE_SIZE, HUGE_SIZE));
	EXPECT_EQ(0, accessible_pages(&lost, TEST_GFN + HUGE_PAGES, HUGE_PAGES));
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
}

/*
 * The hypervisor does one repetition of several, and refuses what is one only. What
 * cannot be taken away of a chunk is no reason to leave the others alone.
 */
TEST_F(memory, chunks_behind_one_that_stays_are_taken_away)
{
	const size_t pages = 4 * HUGE_PAGES;
	u8 *mem = mshv_alloc(BACKING_ANON, pages * PAGE_SIZE);
	size_t i;

	ASSERT_NE(NULL, mem);
	test_map(&self->pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = pages, .rdx = 1);
	self->pt.dies = true;
	ASSERT_EQ(0, oracle_inject(HVCALL_FINALIZE_PARTITION, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 1,
				   ORACLE_INJECT_FOREVER));
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 1,
				   ORACLE_INJECT_FOREVER));
	mshv_free(mem, pages * PAGE_SIZE);
	for (i = 0; i < pages; i += HUGE_PAGES) {
		EXPECT_GT(HUGE_PAGES, accessible_pages(&self->pt, TEST_GFN + i,
						       HUGE_PAGES));
	}
	EXPECT_EQ(-EIO, mshv_run_once(self->vp));
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
}

TEST_F(memory, freed_lazily_is_not_kept_by_a_neighbour)
{
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = 16, .rdx = 1);
	/*
	 * Pages in a batch of some CPU look like others: what is on its way to the LRU
	 * is not freed at all, and what is to be freed cannot be told from the rest
	 */
	if (!write_file("/proc/sys/vm/drop_caches", "1"))
		SKIP(return, "needs: drop_caches");
	if (madvise(self->mem, 15 * PAGE_SIZE, MADV_FREE))
		SKIP(return, "needs: MADV_FREE");
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, 15));
	ASSERT_TRUE(write_file("/proc/sys/vm/drop_caches", "1"));
	/* The fault of page 40 sees pages 0 to 14, which may go at any time */
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + 40));
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 40 * PAGE_SIZE,
		   .rsi = 1);
	EXPECT_TRUE(accessible(&self->pt, TEST_GFN + 3));
	EXPECT_FALSE(page_dirty(self->mem + 3 * PAGE_SIZE));
	CHECK();
	/* Writing to one keeps it */
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 3 * PAGE_SIZE,
		   .rsi = VALUE);
	EXPECT_TRUE(page_dirty(self->mem + 3 * PAGE_SIZE));
	CHECK();
}

/* Each page may be written only when it is, and more of them are not to be had ahead */
TEST_F(memory, freed_lazily_is_not_mapped_again_and_again)
{
	u64 reps;

	map_all();
	fill_pages(self->mem, self->pages, 1);
	if (!write_file("/proc/sys/vm/drop_caches", "1"))
		SKIP(return, "needs: drop_caches");
	if (madvise(self->mem, self->pages * PAGE_SIZE, MADV_FREE))
		SKIP(return, "needs: MADV_FREE");
	ASSERT_TRUE(write_file("/proc/sys/vm/drop_caches", "1"));
	reps = map_counter().reps;
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 2);
	EXPECT_GE(4 * self->pages, map_counter().reps - reps);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 2));
	CHECK();
}

/* Pages that user space supplies */

TEST_F(memory, userfaultfd_supplies_pages)
{
	struct guest_thread thread;
	u8 *page = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)self->mem + 5 * PAGE_SIZE,
		.src = (uintptr_t)page, .len = PAGE_SIZE,
	};
	int fd;

	ASSERT_NE(NULL, page);
	*(u64 *)page = VALUE;
	fd = uffd_open(self->mem, self->pages,
		       UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	map_all();
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_read,
					GUEST_ARGS(.rdi = TEST_GPA +
							  5 * PAGE_SIZE)));
	EXPECT_EQ((uintptr_t)self->mem + 5 * PAGE_SIZE, uffd_fault(fd));
	EXPECT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	guest_thread_join(&thread);
	EXPECT_EQ(HVMSG_X64_HALT, thread.ret);
	EXPECT_EQ(VALUE, thread.rax);
	CHECK();
	close(fd);
	mshv_free(page, PAGE_SIZE);
}

TEST_F(memory, userfaultfd_protects_from_writes)
{
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)self->mem, self->pages * PAGE_SIZE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct guest_thread thread;
	int fd;

	fd = uffd_open(self->mem, self->pages,
		       UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (fd < 0)
		SKIP(return, "needs: write protection of userfaultfd");
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
	test_guest_result(8, self->vp, guest_read,
			  .rdi = TEST_GPA + 7 * PAGE_SIZE);
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_write,
					GUEST_ARGS(.rdi = TEST_GPA +
							  7 * PAGE_SIZE,
						   .rsi = VALUE)));
	EXPECT_EQ((uintptr_t)self->mem + 7 * PAGE_SIZE, uffd_fault(fd));
	EXPECT_EQ(8, *quad(self->mem, 7));
	protect.mode = 0;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
	guest_thread_join(&thread);
	EXPECT_EQ(HVMSG_X64_HALT, thread.ret);
	EXPECT_EQ(VALUE, *quad(self->mem, 7));
	CHECK();
	close(fd);
}

static void nothing(int sig)
{
}

static void *run_interrupted(void *arg)
{
	return (void *)mshv_run_once(arg);
}

/* Run a VP that waits for the page at @addr, with signals, until it is back */
static long run_under_signals(struct mshv_vp *vp, int fd, const void *addr)
{
	struct sigaction action = { .sa_handler = nothing };
	pthread_t thread;
	void *ret;
	int i;

	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&thread, NULL, run_interrupted, vp) ||
	    uffd_fault(fd) != (uintptr_t)addr)
		return -EPROTO;
	for (i = 0; i < 50 && pthread_tryjoin_np(thread, &ret); i++) {
		pthread_kill(thread, SIGUSR1);
		usleep(20000);
	}
	return i < 50 ? (long)ret : -ETIMEDOUT;
}

TEST_F(memory, signal_ends_the_wait_for_a_page)
{
	int fd;

	fd = uffd_open(self->mem, self->pages,
		       UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	map_all();
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_read),
				   GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(-EINTR, run_under_signals(self->vp, fd, self->mem));
	/* And the unmap of a region whose page never came */
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
	close(fd);
}

/* The region goes while a fault of the guest waits for its first page */
#define unmap_under_a_fault(_fd, _thread) do { \
	_fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_MISSING, 0); \
	if (_fd < 0) \
		SKIP(return, "needs: userfaultfd"); \
	map_all(); \
	ASSERT_EQ(0, guest_thread_start(_thread, self->vp, guest_read, \
					GUEST_ARGS(.rdi = TEST_GPA))); \
	ASSERT_EQ((uintptr_t)self->mem, uffd_fault(_fd)); \
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE); \
	test_slat_empty(&self->pt, TEST_GFN, self->pages); \
} while (0)

TEST_F(memory, unmap_does_not_wait_for_a_page)
{
	struct guest_thread thread;
	u8 *page = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)self->mem, .src = (uintptr_t)page,
		.len = PAGE_SIZE,
	};
	u8 *other = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	int fd;

	ASSERT_NE(NULL, page);
	ASSERT_NE(NULL, other);
	*(u64 *)page = 1;
	*(u64 *)other = VALUE;
	unmap_under_a_fault(fd, &thread);
	/* Another region takes its place before the page arrives */
	test_map(&self->pt, TEST_GFN, other, PAGE_SIZE, MEM_RWX);
	EXPECT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	guest_thread_join(&thread);
	EXPECT_EQ(HVMSG_X64_HALT, thread.ret);
	EXPECT_EQ(VALUE, thread.rax);
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, other, 1, SLAT_RWX, true));
	test_unmap(&self->pt, TEST_GFN, other, PAGE_SIZE);
	close(fd);
	mshv_free(page, PAGE_SIZE);
	mshv_free(other, PAGE_SIZE);
}

TEST_F(memory, page_that_comes_after_its_region_has_gone_is_not_mapped)
{
	struct guest_thread thread;
	u8 *page = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)self->mem, .src = (uintptr_t)page,
		.len = PAGE_SIZE,
	};
	int fd;

	ASSERT_NE(NULL, page);
	unmap_under_a_fault(fd, &thread);
	EXPECT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	guest_thread_join(&thread);
	EXPECT_TRUE(is_memory_intercept(thread.ret));
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
	close(fd);
	mshv_free(page, PAGE_SIZE);
}

TEST_F(memory, discarding_deposits_the_reserve)
{
	struct oracle_pool before, after;
	struct oracle_slat entry;

	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, oracle_pool(self->pt.id, &before));
	/* As if the page were part of an entry that has to be split */
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0, 0));
	ASSERT_EQ(0, madvise(self->mem + 5 * PAGE_SIZE, PAGE_SIZE,
			     MADV_DONTNEED));
	EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
	ASSERT_EQ(0, oracle_pool(self->pt.id, &after));
	EXPECT_LT(before.deposited, after.deposited);
	/* Not unmapped, and nothing around it gone */
	ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + 5, &entry));
	EXPECT_NE(0, entry.flags & SLAT_NO_ACCESS);
	EXPECT_EQ(self->pages - 1,
		  accessible_pages(&self->pt, TEST_GFN, self->pages));
	test_guest_result(0, self->vp, guest_read,
			  .rdi = TEST_GPA + 5 * PAGE_SIZE);
	CHECK();
}

/* The calling thread runs on this CPU only, of those that there are for tests */
static bool run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) > 2 ? cpu + 1 : cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

struct toucher {
	struct mshv_vp *vp;
	u64 gpa;
	int cpu;
	int ret;
	u64 end;	/* ms */
};

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	toucher->ret = -EINVAL;
	if (run_on(toucher->cpu))
		toucher->ret = guest_call(toucher->vp, guest_write,
					  GUEST_ARGS(.rdi = toucher->gpa,
						     .rsi = VALUE), NULL);
	toucher->end = now_ms();
	return NULL;
}

/*
 * The caller is on CPU 0 from now on. VP 1, on CPU 1, waits in its map hypercall of a
 * second chunk for three seconds.
 */
static bool touch_slowly(struct toucher *slow, pthread_t *thread,
			 struct mshv_pt *pt, u8 *mem)
{
	unsigned int i;
	int msec, ret;

	*slow = (struct toucher){
		.vp = &pt->vp[1], .gpa = TEST_GPA + HUGE_SIZE, .cpu = 1,
	};
	/* The guest's own pages are there from now on */
	for (i = 0; i < 2; i++) {
		ret = guest_call(&pt->vp[i], guest_read,
				 GUEST_ARGS(.rdi = DATA_GPA), NULL);
		if (ret)
			return false;
	}
	if (!run_on(0) || oracle_delay(HVCALL_MAP_GPA_PAGES, 3000000) ||
	    pthread_create(thread, NULL, touch, slow))
		return false;
	for (msec = 0; !page_pfn(mem + HUGE_SIZE) && msec < 5000; msec++)
		usleep(1000);
	usleep(300000);
	return !oracle_delay(HVCALL_MAP_GPA_PAGES, 0);
}

#define require_two_vps_at_once() do { \
	u64 scheduler_; \
	require_cpus(2); \
	/* Only then VPs run where their threads do */ \
	ASSERT_EQ(0, oracle_scheduler(&scheduler_)); \
	if (scheduler_ != ORACLE_SCHEDULER_ROOT) \
		SKIP(return, "needs: the root scheduler"); \
} while (0)

TEST_F(memory, vps_of_different_chunks_fault_in_parallel)
{
	struct toucher slow;
	pthread_t thread;
	u64 end;

	require_two_vps_at_once();
	map_all();
	ASSERT_TRUE(touch_slowly(&slow, &thread, &self->pt, self->mem));
	/* The other need not wait for it: those that do end at about the same time */
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = VALUE);
	end = now_ms();
	pthread_join(thread, NULL);
	EXPECT_EQ(0, slow.ret);
	EXPECT_LT(end + 500, slow.end);
	EXPECT_EQ(VALUE, *quad(self->mem, 0));
	EXPECT_EQ(VALUE, *quad(self->mem, HUGE_PAGES));
	CHECK();
}

static void *discard(void *mem)
{
	return (void *)(long)madvise(mem, PAGE_SIZE, MADV_DONTNEED);
}

/*
 * A fault that has seen a page waits for the lock, behind an invalidation of
 * that page, which waits for another fault. When it is its turn the page has gone.
 */
TEST_F(memory, page_that_goes_while_its_fault_waits_is_not_mapped)
{
	struct toucher slow;
	pthread_t thread, discarder;
	void *ret;

	require_two_vps_at_once();
	map_all();
	*quad(self->mem, 0) = VALUE;
	ASSERT_TRUE(touch_slowly(&slow, &thread, &self->pt, self->mem));
	ASSERT_EQ(0, pthread_create(&discarder, NULL, discard, self->mem));
	usleep(300000);
	test_guest_result(0, self->vp, guest_read, .rdi = TEST_GPA);
	ASSERT_EQ(0, pthread_join(discarder, &ret));
	EXPECT_EQ(NULL, ret);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, slow.ret);
	CHECK();
}

TEST_F(memory, tracepoints_tell_what_happens)
{
	static const char * const events[] = {
		"mshv_fault:", "mshv_map:", "mshv_invalidate:",
		"mshv_no_access:", "mshv_unmap:",
	};
	static char text[1 << 16];
	unsigned int i, found = 0;
	FILE *trace;

	if (!trace_start("mshv", NULL))
		SKIP(return, "needs: tracefs");

	map_all();
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 3 * PAGE_SIZE,
		   .rsi = 1);
	ASSERT_EQ(0, madvise(self->mem, PAGE_SIZE * self->pages, MADV_DONTNEED));
	test_unmap(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE);

	trace = trace_open();
	ASSERT_NE(NULL, trace);
	text[fread(text, 1, sizeof(text) - 1, trace)] = '\0';
	fclose(trace);
	trace_stop();
	for (i = 0; i < ARRAY_SIZE(events); i++)
		found += !!strstr(text, events[i]);
	EXPECT_EQ(ARRAY_SIZE(events), found);
	EXPECT_TRUE(!!strstr(text, "gfn=0x10003 access=write ret=0"));
}

/* MSHV_RUN_VP, with the message to go to memory that the test chooses */
struct message_copy {
	struct mshv_vp *vp;
	struct hv_message *to;
	int ret;
};

static void *run_with_message_elsewhere(void *arg)
{
	struct message_copy *copy = arg;

	copy->ret = ioctl(copy->vp->fd, MSHV_RUN_VP, copy->to) ? -errno : 0;
	return NULL;
}

/*
 * A partition may be finalized while the message of a VP is being copied to memory
 * that somebody else supplies: the page it is copied from is the hypervisor's then
 */
TEST_F(memory, message_is_not_read_from_a_finalized_partition)
{
	const size_t bytes = self->pages * PAGE_SIZE;
	struct message_copy copy = { .vp = self->vp, .ret = 1 };
	struct uffdio_zeropage zero = {};
	pthread_t thread;
	u8 *buffer;
	int fd;

	buffer = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	ASSERT_NE(NULL, buffer);
	fd = uffd_open(buffer, 1, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	/* An intercept for the VMM */
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_read),
				   GUEST_ARGS(.rdi = TEST_GPA + bytes)));
	copy.to = (struct hv_message *)buffer;
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_with_message_elsewhere, &copy));
	ASSERT_TRUE(uffd_wait(fd, 5000));
	must_contain(madvise(self->mem, bytes, MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	zero.range.start = (uintptr_t)buffer;
	zero.range.len = PAGE_SIZE;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	pthread_join(thread, NULL);
	/* It came before the end, so it is there */
	EXPECT_EQ(0, copy.ret);
	EXPECT_EQ(HVMSG_UNMAPPED_GPA, copy.to->header.message_type);
	EXPECT_EQ(-EIO, mshv_run_once(self->vp));
	mshv_free(buffer, PAGE_SIZE);
	close(fd);
}

/* The hypervisor has taken these pages back: the root dies if it touches one */
TEST_F(memory, pages_of_vps_are_not_had_from_a_finalized_partition)
{
	const off_t offsets[] = {
		MSHV_VP_MMAP_OFFSET_REGISTERS,
		MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE,
	};
	volatile u8 *page[ARRAY_SIZE(offsets)];
	int status;
	pid_t child;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		page[i] = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED,
			       self->vp->fd, offsets[i] * PAGE_SIZE);
		ASSERT_NE(MAP_FAILED, page[i]);
	}
	map_all();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	must_contain(madvise(self->mem, self->pages * PAGE_SIZE, MADV_DONTNEED));
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			_exit(*page[i] & 0);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGBUS, WTERMSIG(status));
		munmap((void *)page[i], PAGE_SIZE);
	}
}

/* Pages that user space supplies */
FIXTURE(uffd)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	u8 *other;		/* of the same file, not registered; or NULL */
	u8 *source;		/* what missing pages are copied from */
	size_t pages;
	struct pager pager;
};

FIXTURE_VARIANT(uffd)
{
	enum mshv_backing backing;
	size_t unit;
	u64 minor;		/* feature, 0 if it is memory without */
};

FIXTURE_VARIANT_ADD(uffd, anon) {
	.backing = BACKING_ANON, .unit = PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(uffd, memfd) {
	.backing = BACKING_MEMFD, .unit = PAGE_SIZE,
	.minor = UFFD_FEATURE_MINOR_SHMEM,
};

FIXTURE_VARIANT_ADD(uffd, hugetlb_shared) {
	.backing = BACKING_HUGETLB_SHARED, .unit = HUGE_SIZE,
	.minor = UFFD_FEATURE_MINOR_HUGETLBFS,
};

FIXTURE_SETUP(uffd)
{
	size_t bytes;
	int fd = -1;

	require_mshv();
	mshv_pt_init(&self->pt);
	self->pager.fd = -1;
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	bytes = self->pages * PAGE_SIZE;
	if (variant->backing == BACKING_HUGETLB_SHARED) {
		require_hugetlb(2);
		fd = mshv_alloc_hugetlb((void **)&self->mem, bytes);
	} else if (variant->backing == BACKING_MEMFD) {
		fd = mshv_alloc_memfd((void **)&self->mem, bytes, PAGE_SIZE);
	} else {
		self->mem = mshv_alloc(variant->backing, bytes);
	}
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	if (fd >= 0) {
		self->other = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0);
		close(fd);
		ASSERT_NE(MAP_FAILED, self->other);
	}
	self->pager.mem = self->mem;
	self->pager.bytes = bytes;
	self->pager.unit = variant->unit;
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(uffd)
{
	if (self->pager.fd >= 0)
		close(self->pager.fd);
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	mshv_free(self->other, self->pages * PAGE_SIZE);
	mshv_free(self->source, self->pages * PAGE_SIZE);
}

#define require_uffd(_mode, _features, _what) do { \
	self->pager.fd = uffd_open(self->mem, self->pages, _mode, _features); \
	if (self->pager.fd < 0) \
		SKIP(return, "needs: " _what); \
} while (0)

#define require_missing_faults() do { \
	self->source = mshv_alloc(BACKING_ANON, self->pages * PAGE_SIZE); \
	ASSERT_NE(NULL, self->source); \
	self->pager.source = self->source; \
	require_uffd(UFFDIO_REGISTER_MODE_MISSING, 0, "userfaultfd"); \
} while (0)

#define require_minor_faults() do { \
	if (!variant->minor) \
		SKIP(return, "needs: memory of a file"); \
	require_uffd(UFFDIO_REGISTER_MODE_MINOR, variant->minor, \
		     "minor faults of userfaultfd"); \
} while (0)

TEST_F_TIMEOUT(uffd, missing_pages_are_asked_for_once_each, 240)
{
	require_missing_faults();
	fill_pages(self->source, self->pages, VALUE);
	map_all();
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	ASSERT_TRUE(pager_start(&self->pager));
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = VALUE);
	/* They are its own now, to write to as well */
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages / 2,
		   .rdx = 1);
	EXPECT_EQ(0, pager_stop(&self->pager, 1));
	EXPECT_EQ(0, mismatches(self->mem, self->pages / 2, 1));
	if (self->other)
		EXPECT_EQ(0, mismatches(self->other, self->pages / 2, 1));
	EXPECT_EQ(0, mismatches(self->source, self->pages, VALUE));
	test_slat(&self->pt, TEST_GFN, self->mem, self->pages, SLAT_RWX, false);
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

TEST_F_TIMEOUT(uffd, missing_pages_come_before_the_guest_writes, 240)
{
	size_t i;

	require_missing_faults();
	/* What is next to the quadword that the guest writes */
	for (i = 0; i < self->pages; i++)
		quad(self->source, i)[1] = VALUE + i;
	map_all();
	ASSERT_TRUE(pager_start(&self->pager));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	EXPECT_EQ(0, pager_stop(&self->pager, 1));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	for (i = 0; i < self->pages; i++)
		ASSERT_EQ(VALUE + i, quad(self->mem, i)[1]);
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

/* What the guest touches in order is asked for, and not what comes after that */
TEST_F_TIMEOUT(uffd, nothing_is_asked_for_ahead, 240)
{
	const size_t units = self->pages * PAGE_SIZE / variant->unit;
	const size_t touched = (20 * PAGE_SIZE - 1) / variant->unit + 1;

	require_missing_faults();
	map_all();
	ASSERT_TRUE(pager_start(&self->pager));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = 20, .rdx = 1);
	EXPECT_EQ(units - touched, pager_stop(&self->pager, 1));
	EXPECT_EQ(touched * variant->unit / PAGE_SIZE,
		  resident(self->mem, self->pages));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

/* It is not touching in order to touch a page until it comes */
TEST_F_TIMEOUT(uffd, touching_the_same_page_reads_nothing_ahead, 240)
{
	struct uffdio_copy copy = { .len = PAGE_SIZE };
	int round;

	if (!variant->minor)
		SKIP(return, "needs: memory of a file");
	if (variant->unit != PAGE_SIZE)
		SKIP(return, "needs: memory with pages of 4 KiB");
	require_missing_faults();
	/* Its neighbours are there for the asking; a read maps some of them anyway */
	fill_pages(self->other + PAGE_SIZE, self->pages - 1, VALUE);
	map_all();
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_write),
				   GUEST_ARGS(.rdi = TEST_GPA)));
	for (round = 0; round < 12; round++)
		ASSERT_EQ(-EINTR, run_under_signals(self->vp, self->pager.fd,
						    self->mem));
	copy.dst = (uintptr_t)self->mem;
	copy.src = (uintptr_t)self->source;
	ASSERT_EQ(0, ioctl(self->pager.fd, UFFDIO_COPY, &copy));
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(1, accessible_pages(&self->pt, TEST_GFN, self->pages));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

TEST_F_TIMEOUT(uffd, page_of_the_file_waits_until_the_vmm_goes_on, 240)
{
	const size_t half = self->pages / 2;

	require_minor_faults();
	fill_pages(self->other, self->pages, VALUE);
	map_all();
	/* It is in the file, but not in the page tables of the VMM */
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	ASSERT_TRUE(pager_start(&self->pager));
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA, .rsi = half,
			  .rdx = VALUE);
	/* A first access that writes is no different */
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA + half * PAGE_SIZE,
		   .rsi = half, .rdx = 1);
	EXPECT_EQ(0, pager_stop(&self->pager, 1));
	EXPECT_EQ(0, mismatches(self->other, half, VALUE));
	EXPECT_EQ(0, mismatches(self->other + half * PAGE_SIZE, half, 1));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

TEST_F_TIMEOUT(uffd, page_of_the_file_that_was_unmapped_waits_again, 240)
{
	require_minor_faults();
	fill_pages(self->other, self->pages, VALUE);
	map_all();
	ASSERT_TRUE(pager_start(&self->pager));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	/* Only from the page tables: the file keeps it */
	ASSERT_EQ(0, madvise(self->mem, self->pages * PAGE_SIZE, MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	EXPECT_EQ(0, mismatches(self->other, self->pages, 1));
	fill_pages(self->other, self->pages, 3);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 3);
	EXPECT_EQ(0, pager_stop(&self->pager, 2));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

TEST_F_TIMEOUT(uffd, signal_ends_the_wait_for_a_page_of_the_file, 240)
{
	struct uffdio_continue go_on = {
		.range = { (uintptr_t)self->mem, variant->unit },
	};

	require_minor_faults();
	fill_pages(self->other, self->pages, VALUE);
	map_all();
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_read),
				   GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(-EINTR, run_under_signals(self->vp, self->pager.fd,
					    self->mem));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	/* The same access once more, when the page is there */
	ASSERT_EQ(0, ioctl(self->pager.fd, UFFDIO_CONTINUE, &go_on));
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
}

TEST_HARNESS_MAIN
