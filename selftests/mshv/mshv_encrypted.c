// SPDX-License-Identifier: GPL-2.0
/*
 * Regions of an encrypted partition: their pages are taken from the VMM while
 * they are the guest's, and given back before they are anybody else's.
 *
 * The memory is never looked at, nor a process forked with a private copy of
 * it, while it is a region: an access to a page that is exclusively the
 * guest's is fatal for the system.
 */
#include <signal.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define NR_PAGES	1100UL
#define SIZE		(NR_PAGES * PAGE_SIZE)

FIXTURE(encrypted)
{
	struct mshv_pt pt;
	u8 *mem;
	u64 *pfns;
	long pins;
};

FIXTURE_SETUP(encrypted)
{
	unsigned long i;

	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_ENCRYPTED);
	require_oracle();
	require_pagemap();
	require_pin_counters();
	require_feature(FEATURE_REGION_ERRORS);

	self->mem = mshv_alloc(BACKING_MEMFD, SIZE);
	ASSERT_NE(NULL, self->mem);
	madvise(self->mem, SIZE, MADV_DONTDUMP);
	self->pfns = calloc(NR_PAGES, sizeof(*self->pfns));
	ASSERT_NE(NULL, self->pfns);
	for (i = 0; i < NR_PAGES; i++) {
		self->mem[i * PAGE_SIZE] = i;
		self->pfns[i] = page_pfn(self->mem + i * PAGE_SIZE);
		ASSERT_NE(0, self->pfns[i]);
	}

	ASSERT_EQ(0, mshv_pt_create(&self->pt, 0, TEST_ISOLATION_SNP));
	ASSERT_EQ(0, mshv_initialize_partition(self->pt.fd));
	self->pins = pin_balance();
}

FIXTURE_TEARDOWN(encrypted)
{
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS);
	oracle_inject_cancel(HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS);
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
	free(self->pfns);
}

#define expect_exclusive() \
	EXPECT_EQ(NR_PAGES, pages_in_state(self->pfns, NR_PAGES, \
					   ORACLE_PAGE_EXCLUSIVE))
#define expect_shared() \
	EXPECT_EQ(NR_PAGES, pages_in_state(self->pfns, NR_PAGES, \
					   ORACLE_PAGE_ROOT))

/* May the VMM look at the memory? Only if this asks the oracle first */
static bool data_is_intact(const u8 *mem, const u64 *pfns)
{
	unsigned long i;

	if (pages_in_state(pfns, NR_PAGES, ORACLE_PAGE_ROOT) != NR_PAGES)
		return false;
	for (i = 0; i < NR_PAGES; i++)
		if (mem[i * PAGE_SIZE] != (u8)i)
			return false;
	return true;
}

TEST_F(encrypted, pages_are_exclusive_while_mapped)
{
	unsigned int round;

	for (round = 0; round < 3; round++) {
		expect_shared();
		test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
		expect_exclusive();
		if (pin_balance() >= 0)
			EXPECT_EQ(self->pins + (long)NR_PAGES, pin_balance());
		EXPECT_EQ(NR_PAGES, oracle_mapped(self->pt.id, TEST_GFN,
						  TEST_GFN + NR_PAGES - 1));
		test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
		expect_shared();
		test_slat_empty(&self->pt, TEST_GFN, NR_PAGES);
		EXPECT_EQ(self->pins, pin_balance());
		EXPECT_TRUE(data_is_intact(self->mem, self->pfns));
	}
}

TEST_F(encrypted, owner_of_the_pages_is_the_partition)
{
	u64 state, owner = 0;

	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_page(self->pfns[7] << PAGE_SHIFT, &state, &owner));
	EXPECT_EQ(ORACLE_PAGE_EXCLUSIVE, state);
	EXPECT_EQ(self->pt.id, owner);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
}

/* Where the VMM has another page inside a huge one, so has the guest */
TEST_F(encrypted, huge_page_with_a_hole_is_mapped_as_it_is)
{
	u8 *mem = mshv_alloc(BACKING_THP, 2 * HUGE_SIZE);
	u64 state, first;
	size_t i;

	if (!mem)
		SKIP(return, "needs: transparent huge pages");
	memset(mem, 1, 2 * HUGE_SIZE);
	first = page_pfn(mem);
	if (first % HUGE_PAGES || page_pfn(quad(mem, 511)) != first + 511)
		SKIP(return, "needs: a free huge page");
	ASSERT_EQ(0, madvise(quad(mem, 7), PAGE_SIZE, MADV_DONTNEED));
	memset(quad(mem, 7), 2, PAGE_SIZE);
	ASSERT_NE(first + 7, page_pfn(quad(mem, 7)));
	test_map(&self->pt, TEST_GFN, mem, 2 * HUGE_SIZE, MEM_RWX);
	test_slat(&self->pt, TEST_GFN, mem, 2 * HUGE_PAGES, SLAT_RWX, true);
	for (i = 0; i < 2 * HUGE_PAGES; i++) {
		ASSERT_EQ(0, oracle_page(page_pfn(quad(mem, i)) << PAGE_SHIFT,
					 &state, NULL));
		ASSERT_EQ(ORACLE_PAGE_EXCLUSIVE, state);
	}
	/* What is not part of it any more is no part of the guest either */
	ASSERT_EQ(0, oracle_page((first + 7) << PAGE_SHIFT, &state, NULL));
	EXPECT_EQ(ORACLE_PAGE_ROOT, state);
	test_unmap(&self->pt, TEST_GFN, mem, 2 * HUGE_SIZE);
	for (i = 0; i < 2 * HUGE_PAGES; i++) {
		ASSERT_EQ(0, oracle_page(page_pfn(quad(mem, i)) << PAGE_SHIFT,
					 &state, NULL));
		ASSERT_EQ(ORACLE_PAGE_ROOT, state);
		ASSERT_EQ(i == 7 ? 2 : 1, *(u8 *)quad(mem, i));
	}
	EXPECT_EQ(self->pins, pin_balance());
	mshv_free(mem, 2 * HUGE_SIZE);
}

TEST_F(encrypted, memory_the_vmm_forgets_stays_the_guests)
{
	struct oracle_slat entry;
	size_t i;

	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	/* Not in the page tables of the VMM any more, but pinned */
	ASSERT_EQ(0, madvise(self->mem, SIZE, MADV_DONTNEED));
	expect_exclusive();
	for (i = 0; i < NR_PAGES; i++) {
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + i, &entry));
		ASSERT_EQ(self->pfns[i], entry.spa >> PAGE_SHIFT);
	}
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	expect_shared();
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_TRUE(data_is_intact(self->mem, self->pfns));
}

/* As many pages are pinned as there are, and then all of it is undone */
TEST_F(encrypted, memory_that_ends_too_early_leaves_nothing)
{
	const u64 half = SIZE / 2;
	int ret;

	ASSERT_EQ(0, mprotect(self->mem + half, half, PROT_NONE));
	ret = mshv_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	EXPECT_TRUE(ret == -EFAULT || ret == -ENOMEM) {
		TH_LOG("it is %d", ret);
	}
	expect_shared();
	EXPECT_EQ(self->pins, pin_balance());
	test_slat_empty(&self->pt, TEST_GFN, NR_PAGES);
	/* What is there can be had, and the rest when it is */
	test_map(&self->pt, TEST_GFN, self->mem, half, MEM_RWX);
	test_unmap(&self->pt, TEST_GFN, self->mem, half);
	ASSERT_EQ(0, mprotect(self->mem + half, half, PROT_READ | PROT_WRITE));
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_exclusive();
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	expect_shared();
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_TRUE(data_is_intact(self->mem, self->pfns));
}

TEST_F(encrypted, every_release_has_its_acquire)
{
	struct oracle_counter release, acquire;

	ASSERT_EQ(0, oracle_reset());
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	ASSERT_EQ(0, oracle_counter(HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS,
				    &release));
	ASSERT_EQ(0, oracle_counter(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS,
				    &acquire));
	EXPECT_EQ(NR_PAGES, release.reps);
	EXPECT_EQ(NR_PAGES, acquire.reps);
	EXPECT_EQ(0, release.failures);
	EXPECT_EQ(0, acquire.failures);
}

TEST_F(encrypted, close_shares_the_pages)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;

	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_exclusive();
	mshv_pt_close(&self->pt);
	expect_shared();
	EXPECT_EQ(-ENOENT, oracle_partition(id, &partition));
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_TRUE(data_is_intact(self->mem, self->pfns));
}

TEST_F(encrypted, killed_vmm_shares_the_pages)
{
	int pipefd[2], status;
	char ready = 'n';
	pid_t pid;

	/* Shared memory: a fork copies nothing */
	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct mshv_pt pt;

		if (!mshv_pt_create(&pt, 0, TEST_ISOLATION_SNP) &&
		    !mshv_initialize_partition(pt.fd) &&
		    !mshv_map(&pt, TEST_GFN, self->mem, SIZE, MEM_RWX))
			ready = 'y';
		if (write(pipefd[1], &ready, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(1, read(pipefd[0], &ready, 1));
	EXPECT_EQ('y', ready);
	expect_exclusive();
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	expect_shared();
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_TRUE(data_is_intact(self->mem, self->pfns));
}

TEST_F(encrypted, memory_of_a_region_is_no_other_region)
{
	struct mshv_pt other;

	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	test_err_map(EEXIST, &self->pt, 2 * TEST_GFN, self->mem, SIZE, MEM_RWX);
	/* The hypervisor does not let another partition have it */
	ASSERT_EQ(0, mshv_pt_create(&other, 0, TEST_ISOLATION_SNP));
	ASSERT_EQ(0, mshv_initialize_partition(other.fd));
	test_err_map(EIO, &other, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_exclusive();
	mshv_pt_close(&other);
	expect_exclusive();
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	expect_shared();
	EXPECT_EQ(self->pins, pin_balance());
}

static void test_failed_map(struct __test_metadata *_metadata,
			    FIXTURE_DATA(encrypted) *self, u16 code,
			    unsigned int nth, u64 reps)
{
	ASSERT_EQ(0, oracle_inject(code, nth, HV_STATUS_OPERATION_DENIED, reps,
				   0));
	test_err_map(EIO, &self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	EXPECT_EQ(1, oracle_injected(code));
	oracle_inject_cancel(code);

	expect_shared();
	test_slat_empty(&self->pt, TEST_GFN, NR_PAGES);
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_TRUE(data_is_intact(self->mem, self->pfns));

	/* Nothing is left in the way */
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_exclusive();
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	expect_shared();
}

TEST_F(encrypted, failed_release_shares_what_was_released)
{
	test_failed_map(_metadata, self,
			HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS, 1, 0);
	test_failed_map(_metadata, self,
			HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS, 1, 100);
	test_failed_map(_metadata, self,
			HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS, 2, 3);
}

TEST_F(encrypted, failed_map_shares_the_pages)
{
	test_failed_map(_metadata, self, HVCALL_MAP_GPA_PAGES, 1, 0);
	test_failed_map(_metadata, self, HVCALL_MAP_GPA_PAGES, 1, 100);
	test_failed_map(_metadata, self, HVCALL_MAP_GPA_PAGES, 3, 10);
}

/* Pages the VMM's kernel cannot get back must never be used again */
static void expect_kept(struct __test_metadata *_metadata,
			FIXTURE_DATA(encrypted) *self)
{
	unsigned long exclusive;

	exclusive = pages_in_state(self->pfns, NR_PAGES, ORACLE_PAGE_EXCLUSIVE);
	EXPECT_LT(0, exclusive);
	EXPECT_LE((long)exclusive, pin_balance() - self->pins);
	mshv_free(self->mem, SIZE);
	self->mem = NULL;
	EXPECT_LE((long)exclusive, pin_balance() - self->pins);
	/* Close of the partition may get them back, or not, but all or none */
	mshv_pt_close(&self->pt);
	exclusive = pages_in_state(self->pfns, NR_PAGES, ORACLE_PAGE_EXCLUSIVE);
	EXPECT_LE((long)exclusive, pin_balance() - self->pins);
}

TEST_F(encrypted, failed_acquire_keeps_the_pins)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_inject(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, SIZE);
	EXPECT_LT(0, oracle_injected(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS));
	expect_exclusive();
	expect_kept(_metadata, self);
}

TEST_F(encrypted, failed_acquire_with_progress_keeps_the_pins)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_inject(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS, 2,
				   HV_STATUS_OPERATION_DENIED, 5,
				   ORACLE_INJECT_FOREVER));
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, SIZE);
	expect_kept(_metadata, self);
}

TEST_F(encrypted, failed_acquire_after_failed_map_keeps_the_pins)
{
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 2,
				   HV_STATUS_OPERATION_DENIED, 0, 0));
	ASSERT_EQ(0, oracle_inject(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	test_err_map(EIO, &self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_exclusive();
	expect_kept(_metadata, self);
}

TEST_F(encrypted, failed_acquire_at_close_keeps_the_pins)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_inject(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	mshv_pt_close(&self->pt);
	expect_exclusive();
	expect_kept(_metadata, self);
}

TEST_F(encrypted, failed_unmap_shares_nothing)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, SIZE);
	/* What the guest can still reach stays the guest's alone */
	expect_exclusive();
	expect_kept(_metadata, self);
}

/*
 * The VMM's page tables do not say that the guest writes: nothing does before the
 * pages are unpinned. Memory given up with MADV_FREE is lost if it is clean then.
 */
TEST_F(encrypted, what_the_guest_wrote_is_dirty)
{
	struct mshv_pt *pt = &self->pt;
	const size_t pages = 32, size = pages * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);
	size_t i;

	ASSERT_NE(NULL, mem);
	memset(mem, 1, size);
	ASSERT_EQ(0, mshv_pt_load_guest(pt));
	ASSERT_EQ(0, mshv_pt_add_vp(pt, 0));
	test_map(pt, TEST_GFN, mem, size, MEM_RWX);
	/* Batches of the CPUs drained: it passes over what is not on a list */
	write_file("/proc/sys/vm/drop_caches", "1");
	ASSERT_EQ(0, madvise(mem, size, MADV_FREE));
	for (i = 0; i < pages; i++)
		test_guest(&pt->vp[0], guest_write,
			   .rdi = TEST_GPA + i * PAGE_SIZE, .rsi = i + 2);
	test_unmap(pt, TEST_GFN, mem, size);
	write_file("/proc/sys/vm/drop_caches", "1");
	EXPECT_EQ(0, madvise(mem, size, MADV_PAGEOUT));
	for (i = 0; i < pages; i++)
		EXPECT_EQ(i + 2, *quad(mem, i));
	mshv_free(mem, size);
}

/* Whoever runs its VPs: the hypervisor does not stop them by itself */
TEST_F(encrypted, running_vp_is_told_that_the_partition_is_dead)
{
	struct guest_thread thread;
	struct mshv_pt *pt = &self->pt;

	ASSERT_EQ(0, mshv_pt_load_guest(pt));
	ASSERT_EQ(0, mshv_pt_add_vp(pt, 0));
	test_map(pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	ASSERT_EQ(0, guest_thread_start(&thread, &pt->vp[0], guest_count,
					GUEST_ARGS(.rdi = TEST_GPA,
						   .rsi = TEST_GPA + 8)));
	usleep(300000);
	EXPECT_FALSE(READ_ONCE(thread.ended));
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	test_err_unmap(EIO, pt, TEST_GFN, self->mem, SIZE);
	EXPECT_EQ(-EIO, guest_thread_join(&thread));
	expect_kept(_metadata, self);
}

TEST_HARNESS_MAIN
