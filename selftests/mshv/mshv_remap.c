// SPDX-License-Identifier: GPL-2.0
/*
 * What a VMM, and whoever may look into it, does with the addresses of guest
 * memory: other memory takes its place, pages move elsewhere, are locked, guarded,
 * watched, read and written by system calls, and the process becomes another one.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif

#define BYTES		(self->pages * PAGE_SIZE)
#define GPA(_page)	(TEST_GPA + (_page) * PAGE_SIZE)

/* A region of private or shared memory, and two VPs; one counts in page 30 */
FIXTURE(remap)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	struct guest_thread counter;
	bool counting;
	u8 *mem;
	size_t pages;
	int kmsg;
	char swap[SWAP_NAME];
};

FIXTURE_VARIANT(remap)
{
	enum mshv_backing backing;
};

FIXTURE_VARIANT_ADD(remap, anon) { .backing = BACKING_ANON };
FIXTURE_VARIANT_ADD(remap, thp) { .backing = BACKING_THP };
FIXTURE_VARIANT_ADD(remap, memfd) { .backing = BACKING_MEMFD };

#define COUNTER		quad(self->mem, 30)

FIXTURE_SETUP(remap)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(variant->backing, BYTES);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX);
	/* Every page by the guest */
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
}

static long stop_counting(FIXTURE_DATA(remap) *self)
{
	if (!self->counting)
		return -ESRCH;
	self->counting = false;
	WRITE_ONCE(*mailbox_ptr(&self->pt, 1), 1);
	return guest_thread_join(&self->counter);
}

FIXTURE_TEARDOWN(remap)
{
	stop_counting(self);
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	swap_stop(self->swap);
	cgroup_stop();
	disk_stop();
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

static bool start_counting(FIXTURE_DATA(remap) *self)
{
	const struct guest_args args = { .rdi = GPA(30), .rsi = MAILBOX_GPA(1) };
	const u64 seen = *COUNTER;

	WRITE_ONCE(*mailbox_ptr(&self->pt, 1), 0);
	if (guest_thread_start(&self->counter, &self->pt.vp[1], guest_count, args))
		return false;
	self->counting = true;
	return wait_for_change(COUNTER, seen, 5000);
}

static bool is_counting(const u64 *count)
{
	return wait_for_change(count, READ_ONCE(*count), 5000);
}

#define CHECK() \
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages, \
				  SLAT_RWX))

#define test_intercept(_gpa, _command) do { \
	ASSERT_EQ(HVMSG_GPA_INTERCEPT, \
		  guest_run(self->vp, GUEST_ADDR(_command), \
			    GUEST_ARGS(.rdi = _gpa, .rsi = VALUE))); \
	EXPECT_EQ(_gpa, self->vp->msg.memory.guest_physical_address); \
} while (0)

/* All but the page that counts as guest_fill has left it */
#define expect_rest_intact() do { \
	EXPECT_EQ(0, mismatches(self->mem, 30, 1)); \
	EXPECT_EQ(0, mismatches((u8 *)quad(self->mem, 31), self->pages - 31, 32)); \
} while (0)

TEST_F(remap, memory_is_moved_away_and_the_mapping_stays)
{
	u64 *moved, count;

	if (variant->backing == BACKING_MEMFD)
		SKIP(return, "needs: private memory");
	ASSERT_TRUE(start_counting(self));
	moved = mremap(self->mem, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		       NULL);
	if (moved == MAP_FAILED)
		SKIP(return, "needs: MREMAP_DONTUNMAP");
	/* The guest goes on, from zero, in what is there now */
	EXPECT_TRUE(is_counting(COUNTER));
	count = READ_ONCE(*quad((u8 *)moved, 30));
	EXPECT_TRUE(is_counting(COUNTER));
	EXPECT_EQ(count, READ_ONCE(*quad((u8 *)moved, 30)));
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self));
	EXPECT_EQ(0, mismatches((u8 *)moved, 30, 1));
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(700));
	test_guest(self->vp, guest_write, .rdi = GPA(700), .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 700));
	EXPECT_EQ(701, *quad((u8 *)moved, 700));
	CHECK();
	munmap(moved, BYTES);
}

TEST_F(remap, other_memory_takes_the_place_while_a_vp_uses_it)
{
	const bool shared = variant->backing == BACKING_MEMFD;
	int round;

	ASSERT_TRUE(start_counting(self));
	for (round = 0; round < 10; round++) {
		/* Private where it was shared, and in turn */
		const int flags = round % 2 == shared ?
				  MAP_SHARED | MAP_ANONYMOUS :
				  MAP_PRIVATE | MAP_ANONYMOUS;

		ASSERT_EQ(self->mem, mmap(self->mem, BYTES, PROT_READ | PROT_WRITE,
					  flags | MAP_FIXED, -1, 0));
		ASSERT_TRUE(wait_for_change(COUNTER, 0, 5000));
		EXPECT_TRUE(is_counting(COUNTER));
		*quad(self->mem, 7) = round + 1;
		test_guest_result(round + 1, self->vp, guest_read, .rdi = GPA(7));
		test_guest_result(0, self->vp, guest_read, .rdi = GPA(600));
	}
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self));
	CHECK();
}

TEST_F(remap, guard_pages_are_out_of_reach)
{
	if (madvise(quad(self->mem, 600), 4 * PAGE_SIZE, MADV_GUARD_INSTALL))
		SKIP(return, "needs: MADV_GUARD_INSTALL");
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + 600, 4));
	test_intercept(GPA(600), guest_read);
	test_intercept(GPA(603), guest_write);
	test_guest_result(600, self->vp, guest_read, .rdi = GPA(599));
	test_guest_result(605, self->vp, guest_read, .rdi = GPA(604));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + 600, 4));
	ASSERT_EQ(0, madvise(quad(self->mem, 600), 4 * PAGE_SIZE,
			     MADV_GUARD_REMOVE));
	test_guest(self->vp, guest_write, .rdi = GPA(601), .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 601));
	CHECK();
}

TEST_F(remap, locked_memory_stays)
{
	const size_t touched = 64;
	size_t i;

	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!cgroup_start_reclaimable())
		SKIP(return, "needs: cgroup2 with memory.reclaim");
	ASSERT_TRUE(cgroup_join());
	ASSERT_EQ(0, madvise(self->mem, BYTES, variant->backing == BACKING_MEMFD ?
			     MADV_REMOVE : MADV_DONTNEED));
	/* Locked as they come, by faults of the guest */
	if (syscall(__NR_mlock2, self->mem, BYTES, MLOCK_ONFAULT))
		SKIP(return, "needs: mlock2()");
	for (i = 0; i < touched; i++)
		test_guest(self->vp, guest_write, .rdi = GPA(i), .rsi = i + 1);
	/* Which may still be in a batch of some CPU */
	write_file("/proc/sys/vm/drop_caches", "1");
	cgroup_reclaim("8M");
	EXPECT_EQ(-1, madvise(self->mem, BYTES, MADV_PAGEOUT));
	for (i = 0; i < touched; i++)
		EXPECT_NE(0, pagemap_entry(quad(self->mem, i)) & PM_PRESENT);
	if (oracle_present())
		EXPECT_LE(touched, accessible_pages(&self->pt, TEST_GFN,
						    self->pages));
	EXPECT_EQ(0, mismatches(self->mem, touched, 1));
	CHECK();
	ASSERT_EQ(0, munlock(self->mem, BYTES));
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 5);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 5));
}

/*
 * System calls that get at the pages
 */

TEST_F(remap, pipe_holds_a_page_the_guest_writes)
{
	struct iovec page = { quad(self->mem, 3), PAGE_SIZE };
	u64 data[PAGE_SIZE / sizeof(u64)];
	int pipes[2];

	if (variant->backing != BACKING_MEMFD && !swap_start(self->swap))
		SKIP(return, "needs: swap");
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(PAGE_SIZE, vmsplice(pipes[1], &page, 1, 0));
	test_guest(self->vp, guest_write, .rdi = GPA(3), .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 3));
	CHECK();
	/* It cannot go, although everybody tries */
	madvise(self->mem, BYTES, MADV_PAGEOUT);
	madvise(self->mem, BYTES, MADV_COLLAPSE);
	write_file("/proc/sys/vm/compact_memory", "1");
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(3));
	test_guest(self->vp, guest_write, .rdi = GPA(3) + 8, .rsi = VALUE);
	EXPECT_EQ(VALUE, quad(self->mem, 3)[1]);
	ASSERT_EQ(PAGE_SIZE, read(pipes[0], data, sizeof(data)));
	EXPECT_EQ(VALUE, data[0]);
	test_guest(self->vp, guest_write, .rdi = GPA(3), .rsi = 4);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(remap, another_process_writes_guest_memory)
{
	struct iovec remote = { self->mem + 100 * PAGE_SIZE, 50 * PAGE_SIZE };
	struct iovec local = { .iov_len = remote.iov_len };
	int status, i;
	pid_t child;

	ASSERT_TRUE(start_counting(self));
	for (i = 1; i <= 5; i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			u8 *data = mshv_alloc(BACKING_ANON, local.iov_len);
			size_t page;

			for (page = 0; data && page < 50; page++)
				*quad(data, page) = 1000 * i + page;
			local.iov_base = data;
			_exit(process_vm_writev(getppid(), &local, 1, &remote,
						1, 0) != (ssize_t)local.iov_len);
		}
		EXPECT_TRUE(is_counting(COUNTER));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		test_guest_result(0, self->vp, guest_check, .rdi = GPA(100),
				  .rsi = 50, .rdx = 1000 * i);
		/* And back: it is not the other process's from then on */
		test_guest(self->vp, guest_fill, .rdi = GPA(100), .rsi = 50,
			   .rdx = 101);
	}
	EXPECT_TRUE(is_counting(COUNTER));
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self));
	expect_rest_intact();
	CHECK();
}

TEST_F(remap, direct_io_reads_and_writes_guest_memory)
{
	char name[] = DISK "/io-XXXXXX";
	const char *why = disk_start();
	const size_t nr = 64;
	int fd, round;
	void *addr;

	if (why)
		SKIP(return, "%s", why);
	fd = mkostemp(name, O_DIRECT);
	if (fd < 0)
		SKIP(return, "needs: O_DIRECT");
	unlink(name);
	for (round = 1; round <= 5; round++) {
		u64 value = 1000 * round;

		/* Guest to file */
		test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = nr,
			   .rdx = value);
		ASSERT_EQ(nr * PAGE_SIZE,
			  pwrite(fd, self->mem, nr * PAGE_SIZE, 0));
		/* File to other pages, which the guest has read access to, or none */
		addr = quad(self->mem, 300);
		if (round % 2)
			ASSERT_EQ(0, madvise(addr, nr * PAGE_SIZE,
					     variant->backing == BACKING_MEMFD ?
					     MADV_REMOVE : MADV_DONTNEED));
		test_guest(self->vp, guest_read, .rdi = GPA(300));
		ASSERT_EQ(nr * PAGE_SIZE, pread(fd, addr, nr * PAGE_SIZE, 0));
		test_guest_result(0, self->vp, guest_check, .rdi = GPA(300),
				  .rsi = nr, .rdx = value);
		EXPECT_EQ(0, mismatches(addr, nr, value));
	}
	CHECK();
	close(fd);
}

/*
 * userfaultfd
 */

TEST_F(remap, pages_move_into_guest_memory)
{
	struct guest_thread thread;
	struct uffdio_move move = { .len = PAGE_SIZE };
	u8 *area = mshv_alloc(BACKING_ANON, BYTES);
	int fd;

	ASSERT_NE(NULL, area);
	if (variant->backing == BACKING_MEMFD)
		SKIP(return, "needs: private memory");
	*quad(area, 9) = VALUE;
	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_MISSING,
		       UFFD_FEATURE_MOVE);
	if (fd < 0)
		SKIP(return, "needs: UFFDIO_MOVE");
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_read,
					GUEST_ARGS(.rdi = GPA(5))));
	EXPECT_EQ((uintptr_t)quad(self->mem, 5), uffd_fault(fd));
	move.dst = (uintptr_t)quad(self->mem, 5);
	move.src = (uintptr_t)quad(area, 9);
	EXPECT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move));
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	EXPECT_EQ(VALUE, thread.rax);
	test_guest(self->vp, guest_write, .rdi = GPA(5), .rsi = 1);
	EXPECT_EQ(1, *quad(self->mem, 5));
	EXPECT_EQ(0, *quad(area, 9));
	CHECK();
	close(fd);
	mshv_free(area, BYTES);
}

TEST_F(remap, pages_move_out_of_guest_memory)
{
	const size_t nr = 16;
	u8 *area = mshv_alloc(BACKING_ANON, BYTES);
	struct uffdio_move move = {
		.src = (uintptr_t)quad(self->mem, 20), .len = nr * PAGE_SIZE,
	};
	u64 count;
	int fd, i;

	ASSERT_NE(NULL, area);
	if (variant->backing == BACKING_MEMFD)
		SKIP(return, "needs: private memory");
	fd = uffd_open(area, self->pages, UFFDIO_REGISTER_MODE_MISSING,
		       UFFD_FEATURE_MOVE);
	if (fd < 0)
		SKIP(return, "needs: UFFDIO_MOVE");
	move.dst = (uintptr_t)area;
	ASSERT_TRUE(start_counting(self));
	/* Page 30 is one of them: it is used just now, which may be EAGAIN or EBUSY */
	for (i = 0; i < 100 && move.len; i++) {
		move.move = 0;
		if (!ioctl(fd, UFFDIO_MOVE, &move))
			break;
		if (errno == EEXIST) {
			/*
			 * Linux remembers an EAGAIN that it has dealt with, moves what it
			 * has moved once more, and does not tell how much that was
			 */
			move.move = PAGE_SIZE * resident((u8 *)(uintptr_t)move.dst,
							 move.len / PAGE_SIZE);
			ASSERT_LT(0, move.move);
		} else {
			ASSERT_EQ(EAGAIN, errno == EBUSY ? EAGAIN : errno);
		}
		if (move.move > 0) {
			move.src += move.move;
			move.dst += move.move;
			move.len -= move.move;
		}
	}
	EXPECT_GT(100, i);
	/* The guest's counter starts again, the one that has moved stands still */
	EXPECT_TRUE(is_counting(COUNTER));
	count = READ_ONCE(*quad(area, 10));
	EXPECT_TRUE(is_counting(COUNTER));
	EXPECT_EQ(count, READ_ONCE(*quad(area, 10)));
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self));
	for (i = 0; i < nr; i++) {
		if (i == 10)
			continue;
		EXPECT_EQ(21 + i, *quad(area, i));
		test_guest_result(0, self->vp, guest_read, .rdi = GPA(20 + i));
	}
	EXPECT_EQ(0, mismatches(self->mem, 20, 1));
	CHECK();
	close(fd);
	mshv_free(area, BYTES);
}

TEST_F(remap, writes_of_the_guest_are_seen_without_events)
{
	const size_t written[] = { 0, 7, 100, 511, 700 };
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)self->mem, BYTES },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	size_t i, j, seen;
	int fd, round;

	require_pagemap();
	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_WP,
		       UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
		       (variant->backing == BACKING_MEMFD ?
			UFFD_FEATURE_WP_HUGETLBFS_SHMEM : 0));
	if (fd < 0)
		SKIP(return, "needs: asynchronous write protection of userfaultfd");
	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
		EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem,
					  self->pages, SLAT_RX));
		test_guest(self->vp, guest_read, .rdi = GPA(200));
		for (i = 0; i < ARRAY_SIZE(written); i++)
			test_guest(self->vp, guest_write,
				   .rdi = GPA(written[i] + round),
				   .rsi = written[i] + round + 1);
		for (i = 0, seen = 0; i < self->pages; i++) {
			bool clean = pagemap_entry(quad(self->mem, i)) & PM_UFFD_WP;
			bool wanted = false;

			for (j = 0; j < ARRAY_SIZE(written); j++)
				wanted |= written[j] + round == i;
			/* Not one that was written may be missing */
			if (wanted)
				EXPECT_FALSE(clean);
			seen += !clean;
		}
		/* Nor all of them be there, except of a huge page */
		if (variant->backing == BACKING_ANON)
			EXPECT_EQ(ARRAY_SIZE(written), seen);
		EXPECT_FALSE(uffd_wait(fd, 0));
	}
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
	close(fd);
}

/*
 * The region belongs to a process, which becomes another one
 */
TEST_F(remap, memory_of_a_program_that_was_replaced_is_nobodys)
{
	const u64 gfn = TEST_GFN + 4 * HUGE_PAGES, gpa = gfn << PAGE_SHIFT;
	int go[2], done[2], status;
	pid_t child;
	char c = 0;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		u8 *mem = mshv_alloc(variant->backing, HUGE_SIZE);

		if (!mem || mshv_map(&self->pt, gfn, mem, HUGE_SIZE, MEM_RWX) ||
		    write(done[1], "m", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		/* It says when it is there, and waits for the end of its input */
		dup2(go[0], STDIN_FILENO);
		dup2(done[1], STDOUT_FILENO);
		close(go[1]);
		execl("/bin/sh", "sh", "-c", "echo; exec cat", NULL);
		_exit(127);
	}
	close(done[1]);
	ASSERT_EQ(1, read(done[0], &c, 1));
	test_guest(self->vp, guest_fill, .rdi = gpa, .rsi = HUGE_PAGES, .rdx = 1);
	if (oracle_present())
		EXPECT_EQ(HUGE_PAGES, accessible_pages(&self->pt, gfn, HUGE_PAGES));
	/* Used in the very moment */
	ASSERT_EQ(0, guest_thread_start(&self->counter, &self->pt.vp[1],
					guest_count,
					GUEST_ARGS(.rdi = gpa,
						   .rsi = MAILBOX_GPA(1))));
	usleep(10000);
	ASSERT_EQ(1, write(go[1], &c, 1));
	ASSERT_EQ(1, read(done[0], &c, 1));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT, guest_thread_join(&self->counter));
	EXPECT_EQ(0, accessible_pages(&self->pt, gfn, HUGE_PAGES));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = gpa, .rsi = 1)));
	close(go[1]);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	/* This process's own memory has not noticed */
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
	close(go[0]);
	close(done[0]);
}

TEST_HARNESS_MAIN
