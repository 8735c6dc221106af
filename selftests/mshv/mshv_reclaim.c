// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that goes to swap or to a file and comes back: what the guest wrote must
 * be there, in the file as well as in memory, and what is dirty must be known to be.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define BYTES		(self->pages * PAGE_SIZE)
#define GPA(_page)	(TEST_GPA + (_page) * PAGE_SIZE)

#define create_region() \
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX)

#define CHECK() \
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages, \
				  SLAT_RWX))

/* Several VPs that use all of memory that is taken back again and again */
FIXTURE(storm)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	struct load load;
	u8 *mem;
	size_t pages;
	int kmsg;
	char swap[SWAP_NAME];
};

FIXTURE_VARIANT(storm)
{
	enum mshv_backing backing;
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(storm, anon) { .backing = BACKING_ANON, .vps = 4 };
FIXTURE_VARIANT_ADD(storm, thp) { .backing = BACKING_THP, .vps = 2 };
FIXTURE_VARIANT_ADD(storm, memfd) { .backing = BACKING_MEMFD, .vps = 3 };

FIXTURE_SETUP(storm)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	require_feature(FEATURE_MOVABLE);
	self->pages = 4 * HUGE_PAGES;
	self->mem = mshv_alloc(variant->backing, BYTES);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, variant->vps);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(storm)
{
	load_stop(&self->load, NULL);
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	swap_stop(self->swap);
	cgroup_stop();
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

TEST_F_TIMEOUT(storm, reclaim_against_vps_loses_nothing, 180)
{
	const long enough = self->pages / 8;
	const u64 start = now_ms();
	long out;

	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!cgroup_start_reclaimable())
		SKIP(return, "needs: cgroup2 with memory.reclaim");
	create_region();
	ASSERT_TRUE(cgroup_join());
	out = vmstat("pswpout");
	ASSERT_TRUE(load_start(&self->load, &self->pt, TEST_GFN, self->pages,
			       variant->vps));
	/* A quarter of the memory at a time, without a pause */
	while (now_ms() - start < 2000 || (now_ms() - start < 20000 &&
					   vmstat("pswpout") - out < enough))
		cgroup_reclaim("2M");
	EXPECT_LE(enough, vmstat("pswpout") - out);
	EXPECT_TRUE(load_goes_on(&self->load, 20000));
	EXPECT_EQ(0, load_stop(&self->load, self->mem));
	CHECK();
}

/* Of what is not needed any more either all is there or nothing */
TEST_F(storm, freed_lazily_is_what_it_was_or_zero)
{
	size_t i, zeroes = 0;

	if (variant->backing == BACKING_MEMFD)
		SKIP(return, "needs: private memory");
	if (!cgroup_start_reclaimable())
		SKIP(return, "needs: cgroup2 with memory.reclaim");
	ASSERT_TRUE(cgroup_join());
	create_region();
	for (i = 0; i < 3; i++)
		test_guest(self->vp, guest_fill, .rdi = TEST_GPA,
			   .rsi = self->pages, .rdx = VALUE + (i << 32));
	if (madvise(self->mem, BYTES, MADV_FREE))
		SKIP(return, "needs: MADV_FREE");
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
	/* The guest reads some of it, which does not keep it */
	for (i = 0; i < self->pages; i += 33)
		test_guest(self->vp, guest_read, .rdi = GPA(i));
	write_file("/proc/sys/vm/drop_caches", "1");
	cgroup_reclaim("8M");
	for (i = 0; i < self->pages; i += 3) {
		u64 guest = 0;

		ASSERT_EQ(0, guest_call(self->vp, guest_read,
					GUEST_ARGS(.rdi = GPA(i)), &guest));
		ASSERT_TRUE(!guest || guest == VALUE + (2ULL << 32) + i) {
			TH_LOG("page %zu: %#llx", i, (unsigned long long)guest);
		}
		ASSERT_EQ(guest, READ_ONCE(*quad(self->mem, i)));
		zeroes += !guest;
	}
	EXPECT_LT(0, zeroes);
	CHECK();
	/* It is memory as any other after that */
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 5);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 5));
	CHECK();
}

/*
 * A file of a file system that writes back. Pages become clean by that, and have
 * to be write-protected, or nobody would know of what is written after it.
 */
FIXTURE(file)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	struct load load;
	u8 *mem;
	size_t pages;
	int fd, kmsg;
};

FIXTURE_VARIANT(file)
{
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(file, one_vp) { .vps = 1 };
FIXTURE_VARIANT_ADD(file, three_vps) { .vps = 3 };

FIXTURE_SETUP(file)
{
	const char *why;
	void *addr = NULL;

	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	self->fd = -1;
	require_feature(FEATURE_MOVABLE);
	why = disk_start();
	if (why)
		SKIP(return, "%s", why);
	self->pages = 3 * HUGE_PAGES;
	self->fd = mshv_alloc_file(&addr, BYTES);
	self->mem = addr;
	ASSERT_LE(0, self->fd);
	test_pt_setup(&self->pt, variant->vps);
	self->vp = &self->pt.vp[0];
	create_region();
}

FIXTURE_TEARDOWN(file)
{
	load_stop(&self->load, NULL);
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	if (self->fd >= 0)
		close(self->fd);
	disk_stop();
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

static void drop_from_cache(int fd)
{
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	write_file("/proc/sys/vm/drop_caches", "3");
}

/* What is in the file: on disk, if nothing of it is in the page cache */
static size_t mismatches_on_disk(int fd, size_t pages, u64 seed)
{
	size_t i, wrong = 0;
	u64 value;

	for (i = 0; i < pages; i++)
		wrong += pread(fd, &value, sizeof(value), i * PAGE_SIZE) !=
			 sizeof(value) || value != seed + i;
	return wrong;
}

TEST_F(file, what_the_guest_wrote_is_on_disk)
{
	struct mshv_vp *last = &self->pt.vp[variant->vps - 1];
	u64 round;

	for (round = 1; round <= 3; round++) {
		const u64 value = round << 32;

		test_guest(self->vp, guest_fill, .rdi = TEST_GPA,
			   .rsi = self->pages, .rdx = value);
		ASSERT_EQ(0, msync(self->mem, BYTES, MS_SYNC));
		/* Written back means clean, and that means not writable */
		EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem,
					  self->pages, SLAT_RX));
		/* Nothing but the disk has it when the page cache is gone */
		ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
		EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, self->pages));
		drop_from_cache(self->fd);
		EXPECT_GT(self->pages / 8, resident(self->mem, self->pages));
		EXPECT_EQ(0, mismatches_on_disk(self->fd, self->pages, value));
		test_guest_result(0, last, guest_check, .rdi = TEST_GPA,
				  .rsi = self->pages, .rdx = value);
		CHECK();
	}
}

/* To read ahead for writing would write to the disk what nobody has written */
TEST_F(file, writing_in_order_makes_nothing_else_dirty)
{
	const size_t written = 100;

	/* Linux reads large folios ahead itself, and maps the whole of one */
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_RANDOM));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = written,
		   .rdx = 1);
	EXPECT_EQ(written, accessible_pages(&self->pt, TEST_GFN, self->pages));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, written,
				  SLAT_RWX));
	CHECK();
}

TEST_F(file, page_written_again_after_writeback_is_dirty_again)
{
	int round;

	require_pagemap();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	for (round = 0; round < 10; round++) {
		const size_t page = round * 150;

		ASSERT_EQ(0, msync(self->mem, BYTES, MS_SYNC));
		EXPECT_FALSE(page_dirty(quad(self->mem, page)));
		test_guest_result(page + 1, self->vp, guest_read,
				  .rdi = GPA(page));
		EXPECT_FALSE(page_dirty(quad(self->mem, page)));
		test_guest(self->vp, guest_write, .rdi = GPA(page),
			   .rsi = VALUE);
		EXPECT_TRUE(page_dirty(quad(self->mem, page)));
		test_guest(self->vp, guest_write, .rdi = GPA(page),
			   .rsi = page + 1);
		CHECK();
	}
	ASSERT_EQ(0, fsync(self->fd));
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
	drop_from_cache(self->fd);
	EXPECT_EQ(0, mismatches_on_disk(self->fd, self->pages, 1));
}

TEST_F(file, is_written_back_while_vps_write_it)
{
	u64 values[GUEST_MAX_VPS];
	size_t part;
	unsigned int i;

	/* Not all of it: each page is taken away and comes back, one by one */
	ASSERT_TRUE(load_start(&self->load, &self->pt, TEST_GFN, self->pages / 8,
			       variant->vps));
	for (i = 0; i < 10; i++) {
		switch (i % 3) {
		case 0:
			ASSERT_EQ(0, msync(self->mem, BYTES, MS_SYNC));
			break;
		case 1:
			ASSERT_EQ(0, fsync(self->fd));
			/* The clean ones go, the others may not */
			write_file("/proc/sys/vm/drop_caches", "1");
			break;
		case 2:
			ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
			break;
		}
	}
	EXPECT_TRUE(load_goes_on(&self->load, 20000));
	part = self->load.pages;
	EXPECT_EQ(0, load_stop(&self->load, self->mem));
	CHECK();
	/* And what came last is on disk */
	for (i = 0; i < variant->vps; i++)
		values[i] = self->load.busy[i].value;
	ASSERT_EQ(0, fsync(self->fd));
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
	posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED);
	for (i = 0; i < variant->vps; i++)
		EXPECT_EQ(0, mismatches(self->mem + i * part * PAGE_SIZE, part,
					values[i]));
}

TEST_F(file, hole_is_filled_and_punched_again)
{
	size_t i;

	/* Nothing is allocated on the disk before somebody writes */
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(40));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RX));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	if (fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      40 * PAGE_SIZE, 700 * PAGE_SIZE))
		skip_rest("needs: a file system that punches holes");
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + 40, 700));
	for (i = 40; i < 740; i += 50)
		test_guest_result(0, self->vp, guest_read, .rdi = GPA(i));
	EXPECT_EQ(0, mismatches(self->mem, 40, 1));
	EXPECT_EQ(0, mismatches((u8 *)quad(self->mem, 740), self->pages - 740,
				741));
	CHECK();
	ASSERT_EQ(0, ftruncate(self->fd, 100 * PAGE_SIZE));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + 100,
				      self->pages - 100));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = GPA(100), .rsi = 1)));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, 100,
				  SLAT_RWX));
}

TEST_F(file, full_disk_is_for_the_vmm)
{
	static u8 block[1 << 16];
	char name[] = DISK "/full-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	ASSERT_LE(0, fd);
	unlink(name);
	test_guest(self->vp, guest_write, .rdi = GPA(3), .rsi = VALUE);
	ASSERT_EQ(0, fsync(self->fd));
	while (write(fd, block, sizeof(block)) > 0)
		;
	while (write(fd, block, 4096) > 0)
		;
	/* The VMM would get a SIGBUS there */
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_fill),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = self->pages,
				       .rdx = 1)));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages,
				  SLAT_RWX));
	/* With space it goes on from there */
	ASSERT_EQ(0, ftruncate(fd, 0));
	sync();
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
	close(fd);
}

/*
 * Dirty bits of the hypervisor, which a VMM collects to send a guest elsewhere
 */
FIXTURE(dirty)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
	char swap[SWAP_NAME];
};

FIXTURE_VARIANT(dirty)
{
	enum mshv_backing backing;
};

FIXTURE_VARIANT_ADD(dirty, anon) { .backing = BACKING_ANON };
FIXTURE_VARIANT_ADD(dirty, thp) { .backing = BACKING_THP };
FIXTURE_VARIANT_ADD(dirty, memfd) { .backing = BACKING_MEMFD };

FIXTURE_SETUP(dirty)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_MOVABLE);
	if (oracle_present() &&
	    oracle_option(ORACLE_REMAP_CLEARS_AD, ORACLE_OPTION_QUERY) > 0)
		SKIP(return, "needs: dirty bits that survive a new mapping");
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(variant->backing, BYTES);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	create_region();
}

FIXTURE_TEARDOWN(dirty)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	swap_stop(self->swap);
}

/* Something that takes pages away, or brings them back elsewhere */
static void disturb(u8 *mem, size_t pages, unsigned int how)
{
	const size_t bytes = pages * PAGE_SIZE;

	switch (how % 6) {
	case 0:
		madvise(mem, bytes, MADV_PAGEOUT);
		break;
	case 1:
		mprotect(mem, bytes, PROT_READ);
		mprotect(mem, bytes, PROT_READ | PROT_WRITE);
		break;
	case 2:
		madvise(mem, bytes, MADV_COLLAPSE);
		break;
	case 3:
		write_file("/proc/sys/vm/compact_memory", "1");
		break;
	case 4:
		/* A hole in each huge page: its neighbours lose the large entry */
		madvise(mem + 511 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
		break;
	case 5:
		numa_move(mem, pages, how / 6 % 2);
		break;
	}
}

TEST_F(dirty, nothing_written_is_missing)
{
	u8 bitmap[2 * HUGE_PAGES / 8];
	unsigned int round;
	size_t i;

	swap_start(self->swap);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	for (round = 0; round < 18; round++) {
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, self->pages,
						MSHV_GPAP_ACCESS_TYPE_DIRTY,
						MSHV_GPAP_ACCESS_OP_CLEAR,
						bitmap));
		if (round >= 12)
			disturb(self->mem, self->pages, round);
		for (i = round; i < self->pages; i += 101)
			test_guest(self->vp, guest_write, .rdi = GPA(i),
				   .rsi = round);
		disturb(self->mem, self->pages, round);
		/* The guest reads elsewhere, so that something is mapped again */
		test_guest(self->vp, guest_read, .rdi = GPA(round + 50));
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, self->pages,
						MSHV_GPAP_ACCESS_TYPE_DIRTY,
						MSHV_GPAP_ACCESS_OP_CLEAR,
						bitmap));
		for (i = round; i < self->pages; i += 101)
			EXPECT_NE(0, bitmap[i / 8] >> i % 8 & 1) {
				TH_LOG("round %u, page %zu", round, i);
			}
	}
	CHECK();
}

/* Its folios are never dirty: DAX keeps that elsewhere */
TEST(dax_memory_is_written_and_written_back)
{
	const size_t pages = HUGE_PAGES;
	struct mshv_pt pt;
	void *mem = NULL;
	const char *why;
	u64 round;
	int fd;

	require_mshv();
	require_feature(FEATURE_MOVABLE);
	why = disk_start_dax();
	if (why)
		SKIP(return, "%s", why);
	fd = mshv_alloc_file(&mem, pages * PAGE_SIZE);
	ASSERT_LE(0, fd);
	mshv_pt_init(&pt);
	test_pt_setup(&pt, 1);
	test_map(&pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX);
	for (round = 1; round < 4; round++) {
		test_guest(&pt.vp[0], guest_fill, .rdi = TEST_GPA, .rsi = pages,
			   .rdx = round << 32);
		EXPECT_EQ(0, mismatches(mem, pages, round << 32));
		/* Clean from now on, and not to be written without asking */
		ASSERT_EQ(0, msync(mem, pages * PAGE_SIZE, MS_SYNC));
		test_slat(&pt, TEST_GFN, mem, pages, SLAT_RX, false);
	}
	mshv_pt_close(&pt);
	mshv_free(mem, pages * PAGE_SIZE);
	close(fd);
	disk_stop();
}

TEST_HARNESS_MAIN
