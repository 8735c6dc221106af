// SPDX-License-Identifier: GPL-2.0
/*
 * Regions of guest memory: created, overlapping, unmapped, destroyed, by all
 * the ways there are, and what is left of each in the SLAT and in the VMM.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define BAD_PTR ((void *)8UL)

#define NR_PAGES	64UL
#define SIZE		(NR_PAGES * PAGE_SIZE)

/* A partition with one VP, and some memory that is no region yet */
FIXTURE(regions)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
};

FIXTURE_SETUP(regions)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc(BACKING_ANON, SIZE);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(regions)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

TEST_F(regions, zero_size_is_einval)
{
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, 0, MEM_RW);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, 0);
}

TEST_F(regions, unaligned_size_is_einval)
{
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, 1, MEM_RW);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE - 1, MEM_RW);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE + 512, MEM_RW);
}

TEST_F(regions, unaligned_address_is_einval)
{
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem + 1, PAGE_SIZE,
		     MEM_RW);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem + 2048, PAGE_SIZE,
		     MEM_RW);
}

TEST_F(regions, unknown_flag_is_einval)
{
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE,
		     MEM_RW | BIT(MSHV_SET_MEM_BIT_COUNT));
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE, 0x80);
}

TEST_F(regions, nonzero_reserved_is_einval)
{
	unsigned int i;

	for (i = 0; i < 7; i++) {
		struct mshv_user_mem_region mem = {
			.guest_pfn = TEST_GFN,
			.userspace_addr = (uintptr_t)self->mem,
			.size = SIZE,
			.flags = MEM_RW,
		};

		mem.rsvd[i] = 1;
		EXPECT_EQ(-EINVAL, mshv_set_memory(self->pt.fd, &mem));
	}
}

TEST_F(regions, bad_pointer_is_efault)
{
	EXPECT_EQ(-EFAULT, mshv_set_memory(self->pt.fd, BAD_PTR));
}

TEST_F(regions, no_memory_at_the_address_is_einval)
{
	mshv_free(self->mem, SIZE);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	self->mem = NULL;
}

TEST_F(regions, kernel_address_is_einval)
{
	test_err_map(EINVAL, &self->pt, TEST_GFN, (void *)0xffff888000000000UL,
		     PAGE_SIZE, MEM_RW);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem,
		     0x7ffffffff000UL, MEM_RW);
}

TEST_F(regions, refused_region_leaves_nothing)
{
	long before;

	require_pin_counters();
	require_oracle();
	before = pin_balance();
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE, 0x80);
	test_err_map(EINVAL, &self->pt, TEST_GFN, self->mem + 1, SIZE, MEM_RW);
	EXPECT_EQ(before, pin_balance());
	test_slat_empty(&self->pt, TEST_GFN, NR_PAGES);
}

TEST_F(regions, memory_that_ends_too_early_leaves_nothing)
{
	const size_t good = 32 * PAGE_SIZE;
	long before;
	int ret;

	require_pin_counters();
	before = pin_balance();
	ASSERT_EQ(0, mprotect(self->mem + good, SIZE - good, PROT_NONE));
	ret = mshv_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	if (!ret) {
		/* Fine if the pages come when they are needed */
		if (oracle_present()) {
			test_slat(&self->pt, TEST_GFN, self->mem, NR_PAGES,
				  SLAT_READ | SLAT_WRITE, false);
		}
		test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	} else {
		EXPECT_TRUE(ret == -EFAULT || ret == -ENOMEM) {
			TH_LOG("it is %d", ret);
		}
	}
	EXPECT_EQ(before, pin_balance());
	if (oracle_present()) {
		test_slat_empty(&self->pt, TEST_GFN, NR_PAGES);
	}
	/* Nothing is left in the way of a good region */
	test_map(&self->pt, TEST_GFN, self->mem, good, MEM_RW);
}

TEST_F(regions, vmm_data_is_seen_by_the_guest)
{
	fill_pages(self->mem, NR_PAGES, 1000);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 1000);
}

TEST_F(regions, guest_data_is_seen_by_the_vmm)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = NR_PAGES,
		   .rdx = 7);
	EXPECT_EQ(0, mismatches(self->mem, NR_PAGES, 7));
}

TEST_F(regions, unmap_needs_the_exact_region)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);

	test_err_unmap(EINVAL, &self->pt, TEST_GFN - 1, self->mem, SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN + 1, self->mem, SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN + NR_PAGES, self->mem, SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE - PAGE_SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE + PAGE_SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem + PAGE_SIZE, SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN + 1, self->mem + PAGE_SIZE,
		       SIZE - PAGE_SIZE);

	/* None of these changed it */
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = NR_PAGES);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
}

TEST_F(regions, unmap_twice_is_einval)
{
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, SIZE);
}

TEST_F(regions, unmap_ignores_other_flags)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RO);
	EXPECT_EQ(0, mshv_map(&self->pt, TEST_GFN, self->mem, SIZE,
			      BIT(MSHV_SET_MEM_BIT_UNMAP) | MEM_RWX));
}

TEST_F(regions, unmapped_region_is_gone_for_the_guest)
{
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 1);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	ASSERT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 2)));
	EXPECT_EQ(TEST_GPA, self->vp->msg.memory.guest_physical_address);
	EXPECT_EQ(1, *(u64 *)self->mem);
}

TEST_F(regions, mapped_again_shows_the_new_memory)
{
	u8 *other = mshv_alloc(BACKING_ANON, SIZE);

	ASSERT_NE(NULL, other);
	fill_pages(self->mem, NR_PAGES, 100);
	fill_pages(other, NR_PAGES, 200);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 100);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);

	test_map(&self->pt, TEST_GFN, other, SIZE, MEM_RW);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 200);
	if (oracle_present() && pagemap_usable()) {
		test_slat(&self->pt, TEST_GFN, other, NR_PAGES,
			  SLAT_READ | SLAT_WRITE, false);
	}
	test_unmap(&self->pt, TEST_GFN, other, SIZE);
	mshv_free(other, SIZE);
}

TEST_F(regions, same_memory_at_another_gfn_after_unmap)
{
	fill_pages(self->mem, NR_PAGES, 300);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	test_map(&self->pt, 2 * TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest_result(0, self->vp, guest_check, .rdi = 2 * TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 300);
}

TEST_F(regions, vmm_addresses_must_not_overlap)
{
	const u64 far = TEST_GFN + 4 * NR_PAGES;

	test_map(&self->pt, TEST_GFN, self->mem + 16 * PAGE_SIZE,
		 16 * PAGE_SIZE, MEM_RW);
	test_err_map(EEXIST, &self->pt, far, self->mem + 16 * PAGE_SIZE,
		     16 * PAGE_SIZE, MEM_RW);
	test_err_map(EEXIST, &self->pt, far, self->mem + 8 * PAGE_SIZE,
		     16 * PAGE_SIZE, MEM_RW);
	test_err_map(EEXIST, &self->pt, far, self->mem + 24 * PAGE_SIZE,
		     16 * PAGE_SIZE, MEM_RW);
	test_err_map(EEXIST, &self->pt, far, self->mem + 20 * PAGE_SIZE,
		     PAGE_SIZE, MEM_RW);
	test_err_map(EEXIST, &self->pt, far, self->mem, SIZE, MEM_RW);
	/* Next to it is not overlapping */
	test_map(&self->pt, far, self->mem, 16 * PAGE_SIZE, MEM_RW);
	test_map(&self->pt, 2 * far, self->mem + 32 * PAGE_SIZE,
		 16 * PAGE_SIZE, MEM_RW);
}

TEST_F(regions, other_partition_may_use_the_same_memory)
{
	struct mshv_pt other;

	test_pt_setup(&other, 1);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_map(&other, 3 * TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = NR_PAGES,
		   .rdx = 11);
	test_guest_result(0, &other.vp[0], guest_check, .rdi = 3 * TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 11);
	test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	test_guest_result(0, &other.vp[0], guest_check, .rdi = 3 * TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 11);
	mshv_pt_close(&other);
}

TEST_F(regions, huge_page_with_a_hole_is_mapped_as_it_is)
{
	u8 *mem = mshv_alloc(BACKING_THP, 2 * HUGE_SIZE);
	size_t i;

	if (!mem)
		SKIP(return, "needs: transparent huge pages");
	/* Without that only the first page of a huge one is looked at */
	require_feature(FEATURE_UNMAP_LARGE);
	fill_pages(mem, 2 * HUGE_PAGES, 1);
	for (i = 7; i < 2 * HUGE_PAGES; i += 300) {
		ASSERT_EQ(0, madvise(quad(mem, i), PAGE_SIZE, MADV_DONTNEED));
		WRITE_ONCE(*quad(mem, i), i + 1);
	}
	/* khugepaged would mend them, and take away what is looked at below */
	ASSERT_EQ(0, madvise(mem, 2 * HUGE_SIZE, MADV_NOHUGEPAGE));
	test_map(&self->pt, TEST_GFN, mem, 2 * HUGE_SIZE, MEM_RW);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = 2 * HUGE_PAGES, .rdx = 1);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = 2 * HUGE_PAGES,
		   .rdx = 50);
	EXPECT_EQ(0, mismatches(mem, 2 * HUGE_PAGES, 50));
	if (pagemap_usable())
		test_slat(&self->pt, TEST_GFN, mem, 2 * HUGE_PAGES,
			  SLAT_READ | SLAT_WRITE, true);
	test_unmap(&self->pt, TEST_GFN, mem, 2 * HUGE_SIZE);
	mshv_free(mem, 2 * HUGE_SIZE);
}

TEST_F(regions, fork_does_not_take_pages_from_the_guest)
{
	int status;
	pid_t pid;

	fill_pages(self->mem, NR_PAGES, 1);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = NR_PAGES,
		   .rdx = 50);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* What the child writes is its own */
		fill_pages(self->mem, NR_PAGES, 99);
		_exit(mismatches(self->mem, NR_PAGES, 99) ? 1 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	EXPECT_EQ(0, mismatches(self->mem, NR_PAGES, 50));
	fill_pages(self->mem, NR_PAGES, 60);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = NR_PAGES, .rdx = 60);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = NR_PAGES,
		   .rdx = 70);
	EXPECT_EQ(0, mismatches(self->mem, NR_PAGES, 70));
}

#define MANY 500UL

TEST_F(regions, five_hundred_regions_are_told_apart)
{
	const size_t size = 2 * MANY * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);
	unsigned long i;
	long before;

	ASSERT_NE(NULL, mem);
	before = pin_balance();
	/* Every other GFN and every other page */
	for (i = 0; i < MANY; i++) {
		*(u64 *)(mem + 2 * i * PAGE_SIZE) = i;
		ASSERT_EQ(0, mshv_map(&self->pt, TEST_GFN + 2 * i,
				      mem + 2 * i * PAGE_SIZE, PAGE_SIZE, MEM_RW));
	}
	for (i = 0; i < MANY; i += 37) {
		test_guest_result(i, self->vp, guest_read,
				  .rdi = TEST_GPA + 2 * i * PAGE_SIZE);
		EXPECT_EQ(HVMSG_UNMAPPED_GPA,
			  guest_run(self->vp, GUEST_ADDR(guest_read),
				    GUEST_ARGS(.rdi = TEST_GPA +
					       (2 * i + 1) * PAGE_SIZE)));
	}
	for (i = 0; i < MANY; i++) {
		unsigned long n = (i * 123 + 77) % MANY;

		ASSERT_EQ(0, mshv_unmap(&self->pt, TEST_GFN + 2 * n,
					mem + 2 * n * PAGE_SIZE, PAGE_SIZE));
	}
	EXPECT_EQ(before, pin_balance());
	mshv_free(mem, size);
}

struct churn {
	struct mshv_pt *pt;
	u8 *mem;
	u64 gfn;
	unsigned int rounds;
	int ret;
};

static void *churn_thread(void *arg)
{
	struct churn *churn = arg;
	unsigned int i;

	for (i = 0; i < churn->rounds && !churn->ret; i++) {
		churn->ret = mshv_map(churn->pt, churn->gfn, churn->mem,
				      8 * PAGE_SIZE, MEM_RW);
		if (!churn->ret)
			churn->ret = mshv_unmap(churn->pt, churn->gfn,
						churn->mem, 8 * PAGE_SIZE);
	}

	return NULL;
}

TEST_F(regions, four_threads_map_and_unmap_at_once)
{
	struct churn churn[4];
	pthread_t threads[4];
	unsigned int i;
	long before;

	before = pin_balance();
	for (i = 0; i < 4; i++) {
		churn[i] = (struct churn){
			.pt = &self->pt,
			.mem = self->mem + i * 8 * PAGE_SIZE,
			.gfn = TEST_GFN + i * 8,
			.rounds = 100,
		};
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, churn_thread,
					    &churn[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, churn[i].ret);
	}
	EXPECT_EQ(before, pin_balance());
	if (oracle_present()) {
		test_slat_empty(&self->pt, TEST_GFN, 32);
	}
}

/* A second region at some place relative to a first one of BASE_PAGES pages */
#define BASE_GFN	(TEST_GFN + 16)
#define BASE_PAGES	16

FIXTURE(ranges)
{
	struct mshv_pt pt;
	u8 *base, *mem;
};

FIXTURE_VARIANT(ranges)
{
	u64 gfn;
	u64 pages;
	int error;
	/* refused only by a kernel that knows what a GFN can be */
	bool impossible;
	/* refused by the hypervisor of the nested root VM, which has 48 bits */
	bool beyond;
};

FIXTURE_VARIANT_ADD(ranges, equal) {
	.gfn = BASE_GFN, .pages = BASE_PAGES, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, left) {
	.gfn = BASE_GFN - 8, .pages = 16, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, left_by_one) {
	.gfn = BASE_GFN - 8, .pages = 9, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, right) {
	.gfn = BASE_GFN + 8, .pages = 16, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, right_by_one) {
	.gfn = BASE_GFN + 15, .pages = 8, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, inside) {
	.gfn = BASE_GFN + 4, .pages = 8, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, first_page) {
	.gfn = BASE_GFN, .pages = 1, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, last_page) {
	.gfn = BASE_GFN + 15, .pages = 1, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, around) {
	.gfn = BASE_GFN - 8, .pages = 32, .error = EEXIST,
};

FIXTURE_VARIANT_ADD(ranges, before) {
	.gfn = BASE_GFN - 8, .pages = 8,
};

FIXTURE_VARIANT_ADD(ranges, after) {
	.gfn = BASE_GFN + 16, .pages = 8,
};

FIXTURE_VARIANT_ADD(ranges, gfn_zero) {
	.gfn = 0, .pages = 8,
};

FIXTURE_VARIANT_ADD(ranges, wraps) {
	.gfn = -4ULL, .pages = 8, .error = EINVAL, .impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, wraps_to_zero) {
	.gfn = -8ULL, .pages = 8, .error = EINVAL, .impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, last_gfn) {
	.gfn = ~0ULL, .pages = 1, .error = EINVAL, .impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, gpa_wraps) {
	.gfn = (1ULL << 52) - 4, .pages = 8, .error = EINVAL,
	.impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, gpa_wraps_onto_base) {
	.gfn = (1ULL << 52) + BASE_GFN, .pages = 8, .error = EINVAL,
	.impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, past_52_bits) {
	.gfn = (1ULL << 40) - 4, .pages = 8, .error = EINVAL,
	.impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, above_52_bits) {
	.gfn = 1ULL << 40, .pages = 1, .error = EINVAL,
	.impossible = true,
};

FIXTURE_VARIANT_ADD(ranges, past_those_of_the_partition) {
	.gfn = (1ULL << 36) - 4, .pages = 8, .error = EINVAL, .beyond = true,
};

FIXTURE_VARIANT_ADD(ranges, above_those_of_the_partition) {
	.gfn = 1ULL << 38, .pages = 8, .error = EINVAL, .beyond = true,
};

FIXTURE_SETUP(ranges)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->base = mshv_alloc(BACKING_ANON, BASE_PAGES * PAGE_SIZE);
	self->mem = mshv_alloc(BACKING_ANON, variant->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->base);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 1);
	fill_pages(self->base, BASE_PAGES, 500);
	fill_pages(self->mem, variant->pages, 600);
	test_map(&self->pt, BASE_GFN, self->base, BASE_PAGES * PAGE_SIZE, MEM_RW);
}

FIXTURE_TEARDOWN(ranges)
{
	test_pt_close(&self->pt);
	mshv_free(self->base, BASE_PAGES * PAGE_SIZE);
	mshv_free(self->mem, variant->pages * PAGE_SIZE);
}

TEST_F(ranges, second_region)
{
	const size_t size = variant->pages * PAGE_SIZE;
	struct mshv_vp *vp = &self->pt.vp[0];
	long before;

	if (variant->impossible)
		require_feature(FEATURE_GFN_LIMITS);
	/* Before that, a failed hypercall does not say how far it came */
	if (variant->beyond)
		require_feature(FEATURE_UNMAP_BATCH);

	before = pin_balance();
	EXPECT_EQ(-variant->error, mshv_map(&self->pt, variant->gfn, self->mem,
					    size, MEM_RW));

	/* The first region is as it was */
	test_guest_result(0, vp, guest_check, .rdi = BASE_GFN << PAGE_SHIFT,
			  .rsi = BASE_PAGES, .rdx = 500);
	if (oracle_present() && pagemap_usable()) {
		test_slat(&self->pt, BASE_GFN, self->base, BASE_PAGES,
			  SLAT_READ | SLAT_WRITE, false);
	}

	if (variant->error) {
		EXPECT_EQ(before, pin_balance());
		test_err_unmap(EINVAL, &self->pt, variant->gfn, self->mem, size);
		if (oracle_present()) {
			/* Only the guest's own area and the first region */
			ASSERT_EQ(GUEST_SYS_PAGES + BASE_PAGES,
				  oracle_mapped(self->pt.id, 0, ~0ULL >> 12));
		}
	} else {
		test_guest_result(0, vp, guest_check,
				  .rdi = variant->gfn << PAGE_SHIFT,
				  .rsi = variant->pages, .rdx = 600);
		test_unmap(&self->pt, variant->gfn, self->mem, size);
		EXPECT_EQ(before, pin_balance());
	}

	test_unmap(&self->pt, BASE_GFN, self->base, BASE_PAGES * PAGE_SIZE);
}

/* Every kind of memory, mapped and destroyed in every way */
FIXTURE(backing)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(backing)
{
	enum mshv_backing backing;
	size_t pages;
	u64 gfn;
};

FIXTURE_VARIANT_ADD(backing, anon) {
	.backing = BACKING_ANON, .pages = 1100, .gfn = TEST_GFN,
};

FIXTURE_VARIANT_ADD(backing, anon_odd) {
	.backing = BACKING_ANON, .pages = 513, .gfn = TEST_GFN + 1,
};

FIXTURE_VARIANT_ADD(backing, anon_one_page) {
	.backing = BACKING_ANON, .pages = 1, .gfn = TEST_GFN,
};

FIXTURE_VARIANT_ADD(backing, memfd) {
	.backing = BACKING_MEMFD, .pages = 700, .gfn = TEST_GFN,
};

FIXTURE_VARIANT_ADD(backing, thp) {
	.backing = BACKING_THP, .pages = 2 * HUGE_PAGES, .gfn = TEST_GFN,
};

FIXTURE_VARIANT_ADD(backing, thp_odd) {
	.backing = BACKING_THP, .pages = 2 * HUGE_PAGES + 3, .gfn = TEST_GFN + 5,
};

FIXTURE_VARIANT_ADD(backing, hugetlb) {
	.backing = BACKING_HUGETLB, .pages = 2 * HUGE_PAGES, .gfn = TEST_GFN,
};

FIXTURE_SETUP(backing)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	/* Twice as many as the region has, for a test that forks */
	if (variant->backing == BACKING_HUGETLB)
		require_hugetlb(4);
	self->mem = mshv_alloc(variant->backing, variant->pages * PAGE_SIZE);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	fill_pages(self->mem, variant->pages, 0);
	test_pt_setup(&self->pt, 1);
}

FIXTURE_TEARDOWN(backing)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, variant->pages * PAGE_SIZE);
}

TEST_F(backing, unmap_leaves_nothing)
{
	const size_t size = variant->pages * PAGE_SIZE;
	struct mshv_vp *vp = &self->pt.vp[0];
	u64 gpa = variant->gfn << PAGE_SHIFT;
	long before;
	int round;

	require_pin_counters();
	before = pin_balance();
	for (round = 1; round <= 3; round++) {
		test_map(&self->pt, variant->gfn, self->mem, size, MEM_RWX);
		test_guest(vp, guest_fill, .rdi = gpa, .rsi = variant->pages,
			   .rdx = round * 10000);
		EXPECT_EQ(0, mismatches(self->mem, variant->pages,
					round * 10000));
		if (oracle_present() && pagemap_usable()) {
			test_slat(&self->pt, variant->gfn, self->mem,
				  variant->pages,
				  SLAT_READ | SLAT_WRITE | SLAT_EXEC, true);
		}
		test_unmap(&self->pt, variant->gfn, self->mem, size);
		EXPECT_EQ(before, pin_balance());
		if (oracle_present()) {
			test_slat_empty(&self->pt, variant->gfn, variant->pages);
		}
		/* The memory is still the VMM's, with the guest's data */
		EXPECT_EQ(0, mismatches(self->mem, variant->pages,
					round * 10000));
	}
}

TEST_F(backing, close_leaves_nothing)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;
	long before, pinned;

	require_pin_counters();
	pinned = pin_balance();
	test_map(&self->pt, variant->gfn, self->mem, variant->pages * PAGE_SIZE,
		 MEM_RW);
	test_guest(&self->pt.vp[0], guest_fill,
		   .rdi = variant->gfn << PAGE_SHIFT,
		   .rsi = variant->pages, .rdx = 5);
	mshv_pt_close(&self->pt);

	/* With it went the pins of the guest's system area */
	before = pin_balance();
	EXPECT_LE(before, pinned);
	EXPECT_EQ(0, mismatches(self->mem, variant->pages, 5));
	if (oracle_present()) {
		EXPECT_EQ(-ENOENT, oracle_partition(id, &partition));
	}

	test_pt_setup(&self->pt, 1);
	EXPECT_EQ(pinned, pin_balance());
	mshv_pt_close(&self->pt);
	EXPECT_EQ(before, pin_balance());
}

/* Let the guest count in the region, and leave it running */
static bool run_counter(struct mshv_pt *pt,
			const FIXTURE_VARIANT(backing) *variant, u8 *mem)
{
	static struct guest_thread thread;
	const u64 *counter = (const u64 *)mem;
	int ret;

	ret = mshv_pt_setup(pt, 1);
	if (ret)
		return false;
	ret = mshv_map(pt, variant->gfn, mem, variant->pages * PAGE_SIZE, MEM_RW);
	if (ret)
		return false;
	ret = guest_thread_start(&thread, &pt->vp[0], guest_count,
				 GUEST_ARGS(.rdi = variant->gfn << PAGE_SHIFT,
					    .rsi = MAILBOX_GPA(0)));
	return !ret && wait_for_change(counter, READ_ONCE(*counter), 5000);
}

TEST_F(backing, killed_vmm_leaves_nothing)
{
	struct oracle_totals totals_before, totals_after;
	long pins, partitions = 0;
	int pipefd[2], status;
	char ready = 'n';
	pid_t pid;

	require_pin_counters();
	mshv_pt_close(&self->pt);
	pins = pin_balance();
	if (oracle_present()) {
		partitions = oracle_partitions();
		ASSERT_EQ(0, oracle_totals(&totals_before));
	}

	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct mshv_pt pt;

		ready = run_counter(&pt, variant, self->mem) ? 'y' : 'n';
		if (write(pipefd[1], &ready, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(1, read(pipefd[0], &ready, 1));
	EXPECT_EQ('y', ready);
	/* Its VP is running */
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));

	EXPECT_EQ(pins, pin_balance());
	if (oracle_present()) {
		EXPECT_EQ(partitions, oracle_partitions());
		ASSERT_EQ(0, oracle_totals(&totals_after));
		EXPECT_EQ(totals_before.leaks, totals_after.leaks);
	}
}

/* What the guest wrote is not lost when the VMM's kernel needs memory */
TEST_F(regions, unmapped_page_cache_is_dirty)
{
	const size_t size = 16 * PAGE_SIZE;
	u8 *mem;

	require_feature(FEATURE_REGION_ERRORS);
	mem = mshv_alloc(BACKING_MEMFD, size);
	ASSERT_NE(NULL, mem);
	/* A read makes the page table writable, but the page stays clean */
	EXPECT_EQ(0, madvise(mem, size, MADV_POPULATE_READ));
	test_map(&self->pt, TEST_GFN, mem, size, MEM_RW);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = 16, .rdx = 77);
	test_unmap(&self->pt, TEST_GFN, mem, size);
	EXPECT_EQ(0, madvise(mem, size, MADV_PAGEOUT));
	EXPECT_EQ(0, mismatches(mem, 16, 77));
	mshv_free(mem, size);
}

/* Permissions of a region are those of its SLAT entries */
FIXTURE(permissions)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(permissions)
{
	u8 flags;
	u32 slat;
};

FIXTURE_VARIANT_ADD(permissions, ro) {
	.flags = MEM_RO, .slat = SLAT_READ,
};

FIXTURE_VARIANT_ADD(permissions, rw) {
	.flags = MEM_RW, .slat = SLAT_READ | SLAT_WRITE,
};

FIXTURE_VARIANT_ADD(permissions, rx) {
	.flags = MEM_RX, .slat = SLAT_READ | SLAT_EXEC,
};

FIXTURE_VARIANT_ADD(permissions, rwx) {
	.flags = MEM_RWX, .slat = SLAT_READ | SLAT_WRITE | SLAT_EXEC,
};

FIXTURE_SETUP(permissions)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc(BACKING_ANON, SIZE);
	ASSERT_NE(NULL, self->mem);
	memcpy(self->mem, guest_exec_page, guest_exec_page_end - guest_exec_page);
	test_pt_setup(&self->pt, 1);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, variant->flags);
}

FIXTURE_TEARDOWN(permissions)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

TEST_F(permissions, are_in_the_slat)
{
	require_oracle();
	require_pagemap();
	test_guest(&self->pt.vp[0], guest_read, .rdi = TEST_GPA);
	test_slat(&self->pt, TEST_GFN, self->mem, NR_PAGES, variant->slat,
		  !mshv_missing(FEATURE_PINNED));
}

TEST_F(permissions, are_enforced)
{
	struct mshv_vp *vp = &self->pt.vp[0];
	u64 last = TEST_GPA + SIZE - 8;
	u64 *seen = (void *)(self->mem + SIZE - 8);

	test_guest(vp, guest_read, .rdi = last);

	if (variant->flags & MEM_W) {
		test_guest(vp, guest_write, .rdi = last, .rsi = 42);
		EXPECT_EQ(42, READ_ONCE(*seen));
	} else {
		EXPECT_EQ(HVMSG_GPA_INTERCEPT,
			  guest_run(vp, GUEST_ADDR(guest_write),
				    GUEST_ARGS(.rdi = last, .rsi = 42)));
		EXPECT_EQ(HV_INTERCEPT_ACCESS_WRITE,
			  vp->msg.intercept.intercept_access_type);
		EXPECT_EQ(0, READ_ONCE(*seen));
	}

	if (variant->flags & MEM_X) {
		test_guest_result(GUEST_EXEC_MAGIC, vp, guest_exec,
				  .rdi = TEST_GPA);
	} else {
		EXPECT_EQ(HVMSG_GPA_INTERCEPT,
			  guest_run(vp, GUEST_ADDR(guest_exec),
				    GUEST_ARGS(.rdi = TEST_GPA)));
		EXPECT_EQ(HV_INTERCEPT_ACCESS_EXECUTE,
			  vp->msg.intercept.intercept_access_type);
	}
}

/* Hypercalls that fail for a region */
#define FAIL_PAGES	1100UL
#define FAIL_SIZE	(FAIL_PAGES * PAGE_SIZE)

/* What it costs to unmap 32 MiB that are mapped with 4K entries */
#define COST_PAGES	(16 * HUGE_PAGES)

FIXTURE(unmap_cost)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(unmap_cost)
{
	u64 gfn;
	unsigned int calls;
	unsigned int reps;
};

FIXTURE_VARIANT_ADD(unmap_cost, aligned) {
	.gfn = TEST_GFN,
	.calls = 1,
	.reps = 16,
};

/* Head, middle and tail */
FIXTURE_VARIANT_ADD(unmap_cost, not_aligned) {
	.gfn = TEST_GFN + 1,
	.calls = 3,
	.reps = 511 + 15 + 1,
};

FIXTURE_SETUP(unmap_cost)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_UNMAP_BATCH);
	self->mem = mshv_alloc(BACKING_ANON, COST_PAGES * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
	fill_pages(self->mem, COST_PAGES, 0);
	test_pt_setup(&self->pt, 1);
}

FIXTURE_TEARDOWN(unmap_cost)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, COST_PAGES * PAGE_SIZE);
}

TEST_F(unmap_cost, is_a_hypercall_for_4095_units)
{
	const u64 size = COST_PAGES * PAGE_SIZE;

	if (oracle_option(ORACLE_LARGE_OVER_4K, ORACLE_OPTION_QUERY))
		SKIP(return, "needs: large units over 4K entries");
	test_map(&self->pt, variant->gfn, self->mem, size, MEM_RW);
	ASSERT_EQ(0, oracle_reset());
	test_unmap(&self->pt, variant->gfn, self->mem, size);
	EXPECT_GE(COST_PAGES / 4095 + 1, unmap_counter().calls);
	test_slat_empty(&self->pt, variant->gfn, COST_PAGES);
}

TEST_F(unmap_cost, is_a_hypercall_for_each_size_of_unit)
{
	const u64 size = COST_PAGES * PAGE_SIZE;
	struct oracle_counter counter;

	require_feature(FEATURE_UNMAP_LARGE);
	if (oracle_option(ORACLE_LARGE_OVER_4K, ORACLE_OPTION_QUERY))
		SKIP(return, "needs: large units over 4K entries");
	test_map(&self->pt, variant->gfn, self->mem, size, MEM_RW);
	ASSERT_EQ(0, oracle_reset());
	test_unmap(&self->pt, variant->gfn, self->mem, size);
	counter = unmap_counter();
	EXPECT_EQ(variant->calls, counter.calls);
	EXPECT_EQ(variant->reps, counter.reps);
	EXPECT_EQ(0, counter.failures);
	test_slat_empty(&self->pt, variant->gfn, COST_PAGES);
}

FIXTURE(failing)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	long pins;
};

FIXTURE_SETUP(failing)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pin_counters();
	require_feature(FEATURE_REGION_ERRORS);
	require_feature(FEATURE_PINNED);
	self->mem = mshv_alloc(BACKING_ANON, FAIL_SIZE);
	ASSERT_NE(NULL, self->mem);
	fill_pages(self->mem, FAIL_PAGES, 0);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	self->pins = pin_balance();
}

FIXTURE_TEARDOWN(failing)
{
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	test_pt_close(&self->pt);
	mshv_free(self->mem, FAIL_SIZE);
}

/* Every page the SLAT maps is still held by a pin and belongs to somebody */
static long free_pages_in_slat(struct mshv_pt *pt, u64 gfn, u64 pages)
{
	const u64 anon = 1ULL << 12;	/* KPF_ANON */
	struct oracle_slat entry;
	u64 i, flags;
	long free = 0;
	int fd;

	fd = open("/proc/kpageflags", O_RDONLY);
	if (fd < 0)
		return -errno;
	for (i = 0; i < pages; i++) {
		if (oracle_slat(pt->id, gfn + i, &entry) ||
		    entry.flags & SLAT_NO_ACCESS)
			continue;
		if (pread(fd, &flags, 8, (entry.spa >> PAGE_SHIFT) * 8) != 8 ||
		    !(flags & anon))
			free++;
	}
	close(fd);
	return free;
}

/* A partition whose memory is in an unknown state can do nothing any more */
static void expect_dead(struct __test_metadata *_metadata, struct mshv_pt *pt)
{
	u8 *mem = mshv_alloc(BACKING_ANON, PAGE_SIZE);

	pt->dies = true;
	EXPECT_EQ(-EIO, mshv_run_once(&pt->vp[0]));
	test_err_map(EIO, pt, 5 * TEST_GFN, mem, PAGE_SIZE, MEM_RW);
	mshv_free(mem, PAGE_SIZE);
}

static void expect_alive(struct __test_metadata *_metadata, struct mshv_pt *pt,
			 u8 *mem, long pins)
{
	test_map(pt, TEST_GFN, mem, FAIL_SIZE, MEM_RW);
	test_guest(&pt->vp[0], guest_fill, .rdi = TEST_GPA, .rsi = FAIL_PAGES,
		   .rdx = 3);
	EXPECT_EQ(0, mismatches(mem, FAIL_PAGES, 3));
	test_slat(pt, TEST_GFN, mem, FAIL_PAGES, SLAT_READ | SLAT_WRITE, true);
	test_unmap(pt, TEST_GFN, mem, FAIL_SIZE);
	EXPECT_EQ(pins, pin_balance());
}

static void test_failed_map(struct __test_metadata *_metadata,
			    FIXTURE_DATA(failing) *self, unsigned int nth,
			    u64 reps)
{
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, nth,
				   HV_STATUS_OPERATION_DENIED, reps, 0));
	test_err_map(EIO, &self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);

	EXPECT_EQ(self->pins, pin_balance());
	test_slat_empty(&self->pt, TEST_GFN, FAIL_PAGES);
	test_err_unmap(EINVAL, &self->pt, TEST_GFN, self->mem, FAIL_SIZE);
	expect_alive(_metadata, &self->pt, self->mem, self->pins);
}

TEST_F(failing, first_map_without_progress)
{
	test_failed_map(_metadata, self, 1, 0);
}

TEST_F(failing, first_map_with_progress)
{
	test_failed_map(_metadata, self, 1, 100);
}

TEST_F(failing, second_map_without_progress)
{
	test_failed_map(_metadata, self, 2, 0);
}

TEST_F(failing, second_map_with_progress)
{
	test_failed_map(_metadata, self, 2, 300);
}

TEST_F(failing, last_map_with_all_but_one)
{
	test_failed_map(_metadata, self, 3, FAIL_PAGES - 2 * 509 - 1);
}

TEST_F(failing, map_that_needs_memory_goes_on)
{
	struct oracle_counter counter;
	int i;

	ASSERT_EQ(0, oracle_reset());
	for (i = 0; i < 2; i++) {
		/* Progress before memory ran out must not be lost or repeated */
		ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1 + i,
					   HV_STATUS_INSUFFICIENT_MEMORY,
					   100 * i, 0));
		test_map(&self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
		EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
		oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
		test_slat(&self->pt, TEST_GFN, self->mem, FAIL_PAGES,
			  SLAT_READ | SLAT_WRITE, true);
		ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
		EXPECT_EQ((i + 1) * FAIL_PAGES, counter.reps);
		test_unmap(&self->pt, TEST_GFN, self->mem, FAIL_SIZE);
	}
	EXPECT_EQ(self->pins, pin_balance());
}

TEST_F(failing, map_and_its_rollback)
{
	long kept;

	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 2,
				   HV_STATUS_OPERATION_DENIED, 10, 0));
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1,
				   HV_STATUS_OPERATION_DENIED, 0,
				   ORACLE_INJECT_FOREVER));
	test_err_map(EIO, &self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	EXPECT_LT(0, oracle_injected(HVCALL_UNMAP_GPA_PAGES));

	/* The guest can reach some of the pages: none may be given away */
	EXPECT_LT(0, oracle_mapped(self->pt.id, TEST_GFN,
				   TEST_GFN + FAIL_PAGES - 1));
	kept = pin_balance() - self->pins;
	EXPECT_LE(oracle_mapped(self->pt.id, TEST_GFN,
				TEST_GFN + FAIL_PAGES - 1), kept);
	mshv_free(self->mem, FAIL_SIZE);
	self->mem = NULL;
	EXPECT_EQ(0, free_pages_in_slat(&self->pt, TEST_GFN, FAIL_PAGES));
	expect_dead(_metadata, &self->pt);
}

static void test_failed_unmap(struct __test_metadata *_metadata,
			      FIXTURE_DATA(failing) *self, unsigned int nth,
			      u64 reps)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;
	long left;

	test_map(&self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	ASSERT_EQ(0, oracle_inject(HVCALL_UNMAP_GPA_PAGES, nth,
				   HV_STATUS_OPERATION_DENIED, reps,
				   ORACLE_INJECT_FOREVER));
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, FAIL_SIZE);
	EXPECT_LT(0, oracle_injected(HVCALL_UNMAP_GPA_PAGES));

	left = oracle_mapped(self->pt.id, TEST_GFN, TEST_GFN + FAIL_PAGES - 1);
	EXPECT_LT(0, left);
	EXPECT_LE(left, pin_balance() - self->pins);
	/* Even when the VMM lets go of the memory */
	mshv_free(self->mem, FAIL_SIZE);
	self->mem = NULL;
	EXPECT_EQ(0, free_pages_in_slat(&self->pt, TEST_GFN, FAIL_PAGES));
	EXPECT_LE(left, pin_balance() - self->pins);

	expect_dead(_metadata, &self->pt);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	expect_dead(_metadata, &self->pt);

	/* The end of the partition is the end of its SLAT */
	mshv_pt_close(&self->pt);
	EXPECT_EQ(-ENOENT, oracle_partition(id, &partition));
}

TEST_F(failing, unmap_without_progress)
{
	test_failed_unmap(_metadata, self, 1, 0);
}

TEST_F(failing, unmap_with_progress)
{
	test_failed_unmap(_metadata, self, 1, 1);
}

TEST_F(failing, second_unmap)
{
	struct oracle_counter counter;

	test_map(&self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	ASSERT_EQ(0, oracle_reset());
	test_unmap(&self->pt, TEST_GFN, self->mem, FAIL_SIZE);
	ASSERT_EQ(0, oracle_counter(HVCALL_UNMAP_GPA_PAGES, &counter));
	if (counter.calls < 2)
		SKIP(return, "needs: an unmap in more than one hypercall");
	test_failed_unmap(_metadata, self, 2, 1);
}

TEST_F(failing, running_vp_of_a_dead_partition_is_refused)
{
	struct guest_thread thread;
	u64 *counter = mailbox_ptr(&self->pt, 1);

	test_map(&self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_count,
					GUEST_ARGS(.rdi = MAILBOX_GPA(1),
						   .rsi = MAILBOX_GPA(0))));
	ASSERT_TRUE(wait_for_change(counter, 0, 5000));

	oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 0,
		      ORACLE_INJECT_FOREVER);
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, FAIL_SIZE);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);

	/* It may run on until it leaves the guest, but not come back */
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	guest_thread_join(&thread);
	expect_dead(_metadata, &self->pt);
}

TEST_F(failing, finalize_keeps_the_pins)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;

	test_map(&self->pt, TEST_GFN, self->mem, FAIL_SIZE, MEM_RW);
	/* With no way to unmap either, the guest's pages stay the guest's */
	oracle_inject(HVCALL_FINALIZE_PARTITION, 1, HV_STATUS_OPERATION_DENIED,
		      0, ORACLE_INJECT_FOREVER);
	oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 0,
		      ORACLE_INJECT_FOREVER);
	mshv_pt_close(&self->pt);
	oracle_inject_cancel(HVCALL_FINALIZE_PARTITION);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);

	ASSERT_EQ(0, oracle_partition(id, &partition));
	EXPECT_EQ(2, partition.state);
	self->pt.id = id;
	EXPECT_LE((long)FAIL_PAGES, pin_balance() - self->pins);
	mshv_free(self->mem, FAIL_SIZE);
	self->mem = NULL;
	EXPECT_EQ(0, free_pages_in_slat(&self->pt, TEST_GFN, FAIL_PAGES));
}

/* How much a region costs */
FIXTURE(accounting)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(accounting)
{
	enum mshv_backing backing;
	size_t pages;
	/* Repetitions of one hypercall, and pages in a repetition */
	unsigned int map_reps, unmap_reps, unit;
};

FIXTURE_VARIANT_ADD(accounting, small) {
	.backing = BACKING_ANON, .pages = 2000, .unit = 1,
	.map_reps = 509, .unmap_reps = 512,
};

FIXTURE_VARIANT_ADD(accounting, hugetlb) {
	.backing = BACKING_HUGETLB, .pages = 4 * HUGE_PAGES, .unit = HUGE_PAGES,
	.map_reps = 509, .unmap_reps = 512,
};

FIXTURE_SETUP(accounting)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_feature(FEATURE_PINNED);
	if (variant->backing == BACKING_HUGETLB)
		require_hugetlb(4);
	self->mem = mshv_alloc(variant->backing, variant->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
	fill_pages(self->mem, variant->pages, 0);
	test_pt_setup(&self->pt, 0);
}

FIXTURE_TEARDOWN(accounting)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, variant->pages * PAGE_SIZE);
}

TEST_F(accounting, one_repetition_for_each_page_at_most)
{
	u64 reps = variant->pages / variant->unit;
	struct oracle_counter counter;

	ASSERT_EQ(0, oracle_reset());
	test_map(&self->pt, TEST_GFN, self->mem, variant->pages * PAGE_SIZE,
		 MEM_RW);
	ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
	EXPECT_GE(reps, counter.reps);
	EXPECT_LT(0, counter.reps);
	/* One more for each time memory had to be deposited */
	EXPECT_GE((reps - 1) / variant->map_reps + 1 + counter.failures,
		  counter.calls);

	ASSERT_EQ(0, oracle_reset());
	test_unmap(&self->pt, TEST_GFN, self->mem, variant->pages * PAGE_SIZE);
	ASSERT_EQ(0, oracle_counter(HVCALL_UNMAP_GPA_PAGES, &counter));
	EXPECT_GE(reps, counter.reps);
	EXPECT_LT(0, counter.reps);
	EXPECT_EQ(0, counter.failures);
	EXPECT_GE((reps - 1) / variant->unmap_reps + 1, counter.calls);
	ASSERT_EQ(0, oracle_counter(HVCALL_MAP_GPA_PAGES, &counter));
	EXPECT_EQ(0, counter.calls);
}

/* Device memory; a timer's registers are safe to read */
FIXTURE(mmio)
{
	struct mshv_pt pt;
	u64 *mem;
	u64 spa;
};

FIXTURE_SETUP(mmio)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc_mmio(&self->spa);
	if (!self->mem)
		SKIP(return, "needs: an HPET in /proc/iomem, and /dev/mem");
	test_pt_setup(&self->pt, 1);
}

FIXTURE_TEARDOWN(mmio)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, PAGE_SIZE);
}

TEST_F(mmio, guest_reads_the_device)
{
	u64 id = self->mem[0];

	/* Vendor and period of an HPET are never 0 */
	ASSERT_NE(0, id);
	test_map(&self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE, MEM_RW);
	test_guest_result(id, &self->pt.vp[0], guest_read, .rdi = TEST_GPA);
}

TEST_F(mmio, unmap_removes_it)
{
	struct oracle_slat entry;
	long pins = pin_balance();

	test_map(&self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE, MEM_RW);
	if (oracle_present()) {
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN, &entry));
		EXPECT_EQ(self->spa, entry.spa);
		EXPECT_EQ(SLAT_READ | SLAT_WRITE, entry.flags & SLAT_PERMISSIONS);
		EXPECT_EQ(SLAT_UNCACHED, entry.flags & SLAT_UNCACHED);
	}
	/* There is nothing to pin */
	EXPECT_EQ(pins, pin_balance());

	test_unmap(&self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE);
	if (oracle_present()) {
		test_slat_empty(&self->pt, TEST_GFN, 1);
	}
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(&self->pt.vp[0], GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(pins, pin_balance());
}

TEST_F(mmio, can_be_mapped_again_elsewhere)
{
	u64 id = self->mem[0];
	int i;

	for (i = 1; i < 4; i++) {
		test_map(&self->pt, i * TEST_GFN, (void *)self->mem, PAGE_SIZE,
			 MEM_RW);
		test_guest_result(id, &self->pt.vp[0], guest_read,
				  .rdi = i * TEST_GPA);
		test_unmap(&self->pt, i * TEST_GFN, (void *)self->mem, PAGE_SIZE);
	}
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(&self->pt.vp[0], GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
}

TEST_F(mmio, close_leaves_nothing)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;

	require_oracle();
	test_map(&self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE, MEM_RW);
	mshv_pt_close(&self->pt);
	EXPECT_EQ(-ENOENT, oracle_partition(id, &partition));
}

TEST_F(mmio, failed_unmap_kills_the_partition)
{
	require_feature(FEATURE_REGION_ERRORS);
	test_map(&self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE, MEM_RW);
	oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 0,
		      ORACLE_INJECT_FOREVER);
	test_err_unmap(EIO, &self->pt, TEST_GFN, (void *)self->mem, PAGE_SIZE);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	expect_dead(_metadata, &self->pt);
}

TEST_HARNESS_MAIN
