// SPDX-License-Identifier: GPL-2.0
/*
 * Movable regions in use: what a guest costs its VMM in memory and in
 * hypercalls, and that both see the same data whatever is done to the memory,
 * by the VMM, by the kernel, and while VPs are running.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define MAX_ENTRIES		4096

/*
 * What is where
 */

/*
 * Pages of memory, as a field of smaps has it, of the VMAs that have part of
 * the range. These may be larger: compare it with what it was before.
 */
static long smaps(const u8 *mem, size_t pages, const char *field)
{
	const u64 first = (uintptr_t)mem, end = first + pages * PAGE_SIZE;
	unsigned long long vma_start, vma_end;
	size_t length = strlen(field);
	bool inside = false;
	char line[256], c;
	long kib = 0;
	FILE *file;

	file = fopen("/proc/self/smaps", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx-%llx %c", &vma_start, &vma_end, &c) == 3)
			inside = vma_start < end && vma_end > first;
		else if (inside && !strncmp(line, field, length) &&
			 line[length] == ':')
			kib += atol(line + length + 1);
	}
	fclose(file);
	return kib * 1024 / PAGE_SIZE;
}

/* Can the guest reach the page, at whatever GFN? No, without an oracle */
static bool reachable(struct mshv_pt *pt, u64 pfn)
{
	static struct oracle_slat entries[MAX_ENTRIES];
	long i, n;

	n = oracle_audit(pt->id, 0, ~0ULL >> PAGE_SHIFT, entries, MAX_ENTRIES);
	/* A partition that is gone has no SLAT */
	if (n < 0)
		return n != -ENOENT && n != -ENODEV;
	for (i = 0; i < n; i++) {
		u64 first = entries[i].spa >> PAGE_SHIFT;

		if (!(entries[i].flags & SLAT_NO_ACCESS) && pfn >= first &&
		    pfn < first + entries[i].pages)
			return true;
	}
	return false;
}

static unsigned int entry_size(struct mshv_pt *pt, u64 gfn)
{
	struct oracle_slat entry = {};

	oracle_slat(pt->id, gfn, &entry);
	return SLAT_SIZE(entry.flags);
}

/* 4 MiB in pages of 4 KiB, which are no region yet, and two VPs */
FIXTURE(movable)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
	int kmsg;
	char swap[SWAP_NAME];
};

FIXTURE_SETUP(movable)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_MOVABLE);
	self->kmsg = kmsg_open();
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_ANON, self->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
	/* The guest's own memory is there, so that no test counts it */
	test_guest(self->vp, guest_read, .rdi = DATA_GPA);
}

FIXTURE_TEARDOWN(movable)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	settings_restore();
	swap_stop(self->swap);
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

/* Other memory instead of that of the fixture, NULL if there is none */
static u8 *use_memory(FIXTURE_DATA(movable) *self, enum mshv_backing backing,
		      size_t pages)
{
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	self->pages = pages;
	self->mem = mshv_alloc(backing, pages * PAGE_SIZE);
	return self->mem;
}

static long rss(FIXTURE_DATA(movable) *self)
{
	return smaps(self->mem, self->pages, "Rss");
}

static long anon_rss(FIXTURE_DATA(movable) *self)
{
	return smaps(self->mem, self->pages, "Anonymous");
}

#define BYTES		(self->pages * PAGE_SIZE)
#define GPA(_page)	(TEST_GPA + (_page) * PAGE_SIZE)

#define create_region(_flags) \
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, _flags)

/* Every page by the guest, in order */
#define guest_fills(_seed) \
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, \
		   .rsi = self->pages, .rdx = _seed)

#define guest_finds(_seed) \
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA, \
			  .rsi = self->pages, .rdx = _seed)

#define CHECK(_perms) \
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages, \
				  _perms))

/* An access of the guest that is for the VMM, which gets it without delay */
#define test_intercept(_vp, _access, _gpa, _command, ...) do { \
	u64 _start = now_ms(); \
	\
	ASSERT_EQ(HVMSG_GPA_INTERCEPT, \
		  guest_run(_vp, GUEST_ADDR(_command), \
			    GUEST_ARGS(__VA_ARGS__))); \
	EXPECT_EQ(_access, (_vp)->msg.intercept.intercept_access_type); \
	EXPECT_EQ(_gpa, (_vp)->msg.memory.guest_physical_address); \
	EXPECT_GT(1000, now_ms() - _start); \
} while (0)

#define test_no_read(_vp, _gpa) \
	test_intercept(_vp, HV_INTERCEPT_ACCESS_READ, _gpa, guest_read, \
		       .rdi = _gpa)
#define test_no_write(_vp, _gpa) \
	test_intercept(_vp, HV_INTERCEPT_ACCESS_WRITE, _gpa, guest_write, \
		       .rdi = _gpa, .rsi = VALUE)

/*
 * What memory it takes
 */

TEST_F(movable, creation_takes_no_memory)
{
	/* To find that out, counters are reset */
	const bool counted = !mshv_missing(FEATURE_FAST_NO_ACCESS) && oracle_present();
	long before = rss(self);

	if (counted)
		ASSERT_EQ(0, oracle_reset());
	create_region(MEM_RWX);
	/* Two, should the first one run out of memory */
	if (counted) {
		EXPECT_LE(1, map_counter().calls);
		EXPECT_GE(2, map_counter().calls);
	}
	EXPECT_EQ(before, rss(self));
	EXPECT_EQ(0, resident(self->mem, self->pages));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
				      self->pages));
	CHECK(SLAT_RWX);
}

TEST_F(movable, one_write_takes_one_page)
{
	const size_t page = 777;
	long before = rss(self), intercepts = 0;

	create_region(MEM_RWX);
	/* What the guest needs for itself is there */
	test_guest(self->vp, guest_read, .rdi = DATA_GPA);
	if (oracle_present())
		intercepts = oracle_messages(HVMSG_GPA_INTERCEPT);
	test_guest(self->vp, guest_write, .rdi = GPA(page) + 8, .rsi = VALUE);
	if (oracle_present())
		EXPECT_EQ(intercepts + 1, oracle_messages(HVMSG_GPA_INTERCEPT));
	EXPECT_EQ(before + 1, rss(self));
	EXPECT_EQ(0, quad(self->mem, page)[0]);
	EXPECT_EQ(VALUE, quad(self->mem, page)[1]);
	EXPECT_EQ(1, resident(self->mem, self->pages));
	CHECK(SLAT_RWX);
}

TEST_F(movable, one_touch_maps_a_huge_page_by_one_repetition)
{
	u64 reps;

	require_oracle();
	if (!use_memory(self, BACKING_THP, 2 * HUGE_PAGES))
		SKIP(return, "needs: transparent huge pages");
	create_region(MEM_RWX);
	reps = map_counter().reps;
	test_guest(self->vp, guest_write, .rdi = GPA(600), .rsi = VALUE);
	if (resident(self->mem, self->pages) < HUGE_PAGES)
		SKIP(return, "needs: a free huge page");
	EXPECT_EQ(HUGE_PAGES, resident(self->mem, self->pages));
	EXPECT_EQ(reps + 1, map_counter().reps);
	EXPECT_EQ(HUGE_PAGES, accessible_pages(&self->pt, TEST_GFN + HUGE_PAGES,
					       HUGE_PAGES));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, HUGE_PAGES));
	EXPECT_EQ(1, entry_size(&self->pt, TEST_GFN + 600));
	EXPECT_EQ(VALUE, *quad(self->mem, 600));
	CHECK(SLAT_RWX);
}

TEST_F(movable, guest_reads_the_pattern_of_the_vmm_in_place)
{
	long before;

	fill_pages(self->mem, self->pages, 5);
	before = rss(self);
	create_region(MEM_RWX);
	guest_finds(5);
	EXPECT_EQ(before, rss(self));
	CHECK(SLAT_RWX);
	guest_fills(6);
	EXPECT_EQ(before, rss(self));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 6));
	CHECK(SLAT_RWX);
}

TEST_F(movable, populated_pages_cost_no_intercept)
{
	const size_t populated[] = { 0, 3, 4, 700, self->pages - 1 };
	long before;
	u64 calls;
	size_t i;

	require_oracle();
	require_feature(FEATURE_POPULATED);
	for (i = 0; i < ARRAY_SIZE(populated); i++)
		*quad(self->mem, populated[i]) = VALUE + i;
	before = rss(self);
	create_region(MEM_RWX);
	EXPECT_EQ(ARRAY_SIZE(populated),
		  accessible_pages(&self->pt, TEST_GFN, self->pages));
	calls = map_counter().calls;
	for (i = 0; i < ARRAY_SIZE(populated); i++) {
		test_guest_result(VALUE + i, self->vp, guest_read,
				  .rdi = GPA(populated[i]));
		test_guest(self->vp, guest_write, .rdi = GPA(populated[i]),
			   .rsi = i);
		EXPECT_EQ(i, *quad(self->mem, populated[i]));
	}
	EXPECT_EQ(calls, map_counter().calls);
	EXPECT_EQ(before, rss(self));
	CHECK(SLAT_RWX);
}

TEST_F(movable, populated_pages_are_mapped_though_memory_is_needed)
{
	u64 calls;
	size_t i;

	require_oracle();
	require_feature(FEATURE_POPULATED);
	/* What a region takes that has no pages */
	ASSERT_EQ(0, oracle_reset());
	create_region(MEM_RWX);
	calls = map_counter().calls;
	test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
	for (i = 0; i < self->pages; i++)
		*quad(self->mem, i) = VALUE;
	/* The first of those that map */
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, calls + 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0, 0));
	create_region(MEM_RWX);
	EXPECT_EQ(1, oracle_injected(HVCALL_MAP_GPA_PAGES));
	EXPECT_EQ(self->pages,
		  accessible_pages(&self->pt, TEST_GFN, self->pages));
	CHECK(SLAT_RWX);
}

TEST_F(movable, touching_far_apart_takes_only_what_is_touched)
{
	const size_t chunks = 32;
	long before;
	size_t i;

	ASSERT_NE(NULL, use_memory(self, BACKING_ANON, chunks * HUGE_PAGES));
	before = rss(self);
	create_region(MEM_RWX);
	for (i = 0; i < chunks; i++) {
		test_guest(self->vp, guest_write,
			   .rdi = GPA(i * HUGE_PAGES + 11 * i), .rsi = i + 1);
	}
	EXPECT_EQ(before + chunks, rss(self));
	EXPECT_EQ(chunks, resident(self->mem, self->pages));
	for (i = 0; i < chunks; i++) {
		EXPECT_EQ(i + 1, *quad(self->mem, i * HUGE_PAGES + 11 * i));
	}
	CHECK(SLAT_RWX);
}

TEST_F(movable, touching_in_order_takes_few_intercepts)
{
	u64 calls;

	require_oracle();
	create_region(MEM_RWX);
	ASSERT_EQ(0, oracle_reset());
	guest_fills(1);
	calls = map_counter().calls;
	EXPECT_GE(20, calls);
	EXPECT_GE(20, oracle_messages(HVMSG_GPA_INTERCEPT));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK(SLAT_RWX);
}

/*
 * What the VMM's mapping allows
 */

TEST_F(movable, touch_next_to_a_hole)
{
	/* As it is when the region is created */
	ASSERT_EQ(0, munmap(self->mem + 10 * PAGE_SIZE, 3 * PAGE_SIZE));
	ASSERT_EQ(0, mprotect(self->mem + 20 * PAGE_SIZE, 3 * PAGE_SIZE,
			      PROT_NONE));
	*quad(self->mem, 9) = 1;
	create_region(MEM_RWX);
	test_guest(self->vp, guest_write, .rdi = GPA(9), .rsi = VALUE);
	test_guest(self->vp, guest_write, .rdi = GPA(13), .rsi = VALUE + 1);
	test_guest(self->vp, guest_write, .rdi = GPA(19), .rsi = VALUE + 2);
	test_guest(self->vp, guest_write, .rdi = GPA(23), .rsi = VALUE + 3);
	test_no_read(self->vp, GPA(10));
	test_no_write(self->vp, GPA(12));
	test_no_read(self->vp, GPA(20));
	test_no_write(self->vp, GPA(22));
	EXPECT_EQ(VALUE, *quad(self->mem, 9));
	EXPECT_EQ(VALUE + 1, *quad(self->mem, 13));
	EXPECT_EQ(VALUE + 2, *quad(self->mem, 19));
	EXPECT_EQ(VALUE + 3, *quad(self->mem, 23));
	CHECK(SLAT_RWX);
}

TEST_F(movable, region_without_w_intercepts_writes)
{
	long before;

	*quad(self->mem, 1) = 17;
	before = rss(self);
	create_region(MEM_RO);
	test_no_write(self->vp, GPA(1));
	test_guest_result(17, self->vp, guest_read, .rdi = GPA(1));
	test_no_write(self->vp, GPA(1));
	EXPECT_EQ(17, *quad(self->mem, 1));
	/* What is not allowed is no reason to get a page */
	test_no_write(self->vp, GPA(900));
	EXPECT_EQ(before, rss(self));
	/* Written by the VMM, it is read by the guest */
	*quad(self->mem, 1) = 18;
	test_guest_result(18, self->vp, guest_read, .rdi = GPA(1));
	CHECK(SLAT_READ);
}

TEST_F(movable, region_without_x_intercepts_execution)
{
	const size_t length = guest_exec_page_end - guest_exec_page;

	memcpy(self->mem, guest_exec_page, length);
	create_region(MEM_RW);
	test_intercept(self->vp, HV_INTERCEPT_ACCESS_EXECUTE, TEST_GPA,
		       guest_exec, .rdi = TEST_GPA);
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 64, .rsi = VALUE);
	test_intercept(self->vp, HV_INTERCEPT_ACCESS_EXECUTE, TEST_GPA,
		       guest_exec, .rdi = TEST_GPA);
	EXPECT_EQ(VALUE, quad(self->mem, 0)[8]);
	CHECK(SLAT_READ | SLAT_WRITE);

	/* The same memory with it */
	test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
	create_region(MEM_RWX);
	test_guest_result(GUEST_EXEC_MAGIC, self->vp, guest_exec,
			  .rdi = TEST_GPA);
	CHECK(SLAT_RWX);
}

/* A file of some pages, each of which says which one it is */
static int numbered_file(size_t pages)
{
	char name[] = "/tmp/mshv-XXXXXX";
	int fd = mkstemp(name);
	u64 i;

	if (fd < 0)
		return -1;
	unlink(name);
	if (ftruncate(fd, pages * PAGE_SIZE))
		return -1;
	for (i = 0; i < pages; i++)
		if (pwrite(fd, &i, sizeof(i), i * PAGE_SIZE) != sizeof(i))
			return -1;
	return fd;
}

static bool numbered_file_is_intact(int fd, size_t pages)
{
	u64 i, page[PAGE_SIZE / sizeof(u64)];
	size_t j;

	for (i = 0; i < pages; i++) {
		if (pread(fd, page, PAGE_SIZE, i * PAGE_SIZE) !=
		    (ssize_t)PAGE_SIZE || page[0] != i)
			return false;
		for (j = 1; j < ARRAY_SIZE(page); j++)
			if (page[j])
				return false;
	}
	return true;
}

static u8 *use_file(FIXTURE_DATA(movable) *self, int fd, size_t pages,
		    int prot, int flags)
{
	mshv_free(self->mem, BYTES);
	self->pages = pages;
	self->mem = mmap(NULL, BYTES, prot, flags, fd, 0);
	if (self->mem == MAP_FAILED)
		self->mem = NULL;
	return self->mem;
}

TEST_F(movable, file_that_is_mapped_for_reading_is_never_written)
{
	const int flags[] = { MAP_PRIVATE, MAP_SHARED, MAP_SHARED };
	unsigned int i, page;
	char path[32];
	int fd, fds[3];

	fd = numbered_file(16);
	ASSERT_LE(0, fd);
	fds[0] = fd;
	fds[1] = fd;
	/* Of a file that it could not even make writable */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fds[2] = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fds[2]);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_NE(NULL, use_file(self, fds[i], 16, PROT_READ, flags[i]));
		create_region(MEM_RWX);
		test_no_write(self->vp, GPA(3));
		guest_finds(0);
		for (page = 0; page < 16; page++)
			test_no_write(self->vp, GPA(page));
		EXPECT_EQ(0, anon_rss(self));
		EXPECT_TRUE(numbered_file_is_intact(fd, 16));
		CHECK(SLAT_RX);
		test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
	}
	close(fds[2]);
	close(fd);
}

TEST_F(movable, private_file_is_copied_when_it_is_written)
{
	int fd;

	fd = numbered_file(32);
	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, use_file(self, fd, 32, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE));
	create_region(MEM_RWX);
	guest_finds(0);
	EXPECT_EQ(0, anon_rss(self));
	CHECK(SLAT_RX);
	test_guest(self->vp, guest_write, .rdi = GPA(7), .rsi = VALUE);
	EXPECT_EQ(1, anon_rss(self));
	EXPECT_EQ(VALUE, *quad(self->mem, 7));
	EXPECT_TRUE(numbered_file_is_intact(fd, 32));
	test_guest_result(8, self->vp, guest_read, .rdi = GPA(8));
	CHECK(SLAT_RWX);
	close(fd);
}

/* Is memory that nobody has touched zero, in another process? */
static bool fresh_memory_is_zero(enum mshv_backing backing)
{
	int status;
	pid_t child;

	child = fork();
	if (!child) {
		u8 *mem = mshv_alloc(backing, 2 * HUGE_SIZE);
		u64 sum = 0;
		size_t i;

		for (i = 0; mem && i < 2 * HUGE_SIZE / sizeof(u64); i++)
			sum |= READ_ONCE(((u64 *)mem)[i]);
		_exit(!mem || sum);
	}
	return child > 0 && waitpid(child, &status, 0) == child && !status;
}

TEST_F(movable, zero_page_is_shared_until_it_is_written)
{
	u8 *other = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	long before = rss(self);
	u64 zero;
	size_t i;

	require_pagemap();
	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, READ_ONCE(*quad(other, 0)));
	zero = page_pfn(other);
	ASSERT_NE(0, zero);

	/* Some of it by the VMM, all of it by the guest: none has the value */
	for (i = 0; i < self->pages; i += 3) {
		EXPECT_EQ(0, READ_ONCE(*quad(self->mem, i)));
	}
	create_region(MEM_RWX);
	test_guest_result(self->pages, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	EXPECT_EQ(before, rss(self));
	for (i = 0; i < self->pages; i++) {
		ASSERT_EQ(zero, page_pfn(quad(self->mem, i)));
	}
	CHECK(SLAT_RX);

	test_guest(self->vp, guest_write, .rdi = GPA(6), .rsi = VALUE);
	test_guest(self->vp, guest_write, .rdi = GPA(500), .rsi = VALUE);
	EXPECT_EQ(before + 2, rss(self));
	EXPECT_NE(zero, page_pfn(quad(self->mem, 6)));
	EXPECT_NE(zero, page_pfn(quad(self->mem, 500)));
	EXPECT_EQ(VALUE, *quad(self->mem, 6));
	EXPECT_EQ(zero, page_pfn(quad(self->mem, 7)));
	CHECK(SLAT_RWX);
	EXPECT_EQ(zero, page_pfn(other));
	EXPECT_EQ(0, READ_ONCE(*quad(other, 0)));
	EXPECT_TRUE(fresh_memory_is_zero(BACKING_ANON));
	mshv_free(other, PAGE_SIZE);
}

TEST_F(movable, huge_zero_page_is_shared_until_it_is_written)
{
	long before;
	size_t i;

	require_pagemap();
	if (!use_memory(self, BACKING_THP, 2 * HUGE_PAGES))
		SKIP(return, "needs: transparent huge pages");
	before = rss(self);
	create_region(MEM_RWX);
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(5));
	if (rss(self) != before ||
	    page_pfn(self->mem) + 511 != page_pfn(quad(self->mem, 511)))
		SKIP(return, "needs: the huge zero page");
	CHECK(SLAT_RX);

	test_guest(self->vp, guest_write, .rdi = GPA(5), .rsi = VALUE);
	EXPECT_LT(before, rss(self));
	for (i = 0; i < HUGE_PAGES; i++) {
		ASSERT_EQ(i == 5 ? VALUE : 0, READ_ONCE(*quad(self->mem, i)));
	}
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(6));
	CHECK(SLAT_RWX);
	EXPECT_TRUE(fresh_memory_is_zero(BACKING_THP));
}

/*
 * What happens to memory while a VP runs
 */

/* VP 1 counts in a page until it is stopped, or something stops it */
static bool start_counting(FIXTURE_DATA(movable) *self,
			   struct guest_thread *thread, size_t page)
{
	WRITE_ONCE(*mailbox_ptr(&self->pt, 1), 0);
	return !guest_thread_start(thread, &self->pt.vp[1], guest_count,
				   GUEST_ARGS(.rdi = GPA(page),
					      .rsi = MAILBOX_GPA(1)));
}

static long stop_counting(FIXTURE_DATA(movable) *self,
			  struct guest_thread *thread)
{
	WRITE_ONCE(*mailbox_ptr(&self->pt, 1), 1);
	return guest_thread_join(thread);
}

/* Does the count of a page go on? */
static bool is_counting(u8 *mem, size_t page)
{
	const u64 *count = quad(mem, page);

	return wait_for_change(count, READ_ONCE(*count), 5000);
}

TEST_F(movable, mprotect_stops_a_running_vp_and_lets_it_go_on)
{
	struct mshv_vp *vp = &self->pt.vp[1];
	struct guest_thread thread;
	u64 count;

	create_region(MEM_RWX);
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	ASSERT_EQ(0, mprotect(self->mem, BYTES, PROT_READ));
	count = READ_ONCE(*quad(self->mem, 30));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT, guest_thread_join(&thread));
	EXPECT_EQ(HV_INTERCEPT_ACCESS_WRITE,
		  vp->msg.intercept.intercept_access_type);
	EXPECT_EQ(GPA(30), vp->msg.memory.guest_physical_address);
	EXPECT_EQ(count, READ_ONCE(*quad(self->mem, 30)));
	test_guest_result(count, self->vp, guest_read, .rdi = GPA(30));
	CHECK(SLAT_RX);

	ASSERT_EQ(0, mprotect(self->mem, BYTES, PROT_READ | PROT_WRITE));
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self, &thread));
	EXPECT_LT(count, *quad(self->mem, 30));
	CHECK(SLAT_RWX);
}

TEST_F(movable, forked_child_has_a_copy_that_stands_still)
{
	struct guest_thread thread;
	int i, status;
	pid_t child;

	create_region(MEM_RWX);
	guest_fills(1);
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	for (i = 0; i < 10; i++) {
		child = fork();
		if (!child) {
			u64 count = READ_ONCE(*quad(self->mem, 30));

			usleep(10000);
			if (count != READ_ONCE(*quad(self->mem, 30)))
				_exit(1);
			/* What the child writes is its own, too */
			WRITE_ONCE(*quad(self->mem, 31), VALUE);
			WRITE_ONCE(*quad(self->mem, 30), 0);
			_exit(0);
		}
		ASSERT_LT(0, child);
		EXPECT_TRUE(is_counting(self->mem, 30));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_TRUE(is_counting(self->mem, 30));
	}
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self, &thread));
	EXPECT_LT(31, *quad(self->mem, 30));
	test_guest_result(32, self->vp, guest_read, .rdi = GPA(31));
	CHECK(SLAT_RWX);
}

TEST_F(movable, backing_is_unmapped_under_a_running_vp)
{
	struct guest_thread thread;
	u64 pfn;

	create_region(MEM_RWX);
	guest_fills(1);
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	pfn = page_pfn(quad(self->mem, 30));
	ASSERT_EQ(0, munmap(self->mem, BYTES));
	self->mem = NULL;
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
				      self->pages));
	EXPECT_TRUE(!pfn || !reachable(&self->pt, pfn));
	EXPECT_EQ(HVMSG_GPA_INTERCEPT, guest_thread_join(&thread));
	EXPECT_EQ(GPA(30),
		  self->pt.vp[1].msg.memory.guest_physical_address);
	test_no_read(self->vp, GPA(0));
	test_no_write(self->vp, GPA(self->pages - 1));
}

TEST_F(movable, backing_is_moved_away)
{
	u8 *moved, *there;

	create_region(MEM_RWX);
	guest_fills(1);
	there = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	ASSERT_NE(MAP_FAILED, there);
	moved = mremap(quad(self->mem, 40), PAGE_SIZE, PAGE_SIZE,
		       MREMAP_MAYMOVE | MREMAP_FIXED, there);
	ASSERT_EQ(there, moved);
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + 40));
	test_no_read(self->vp, GPA(40));
	EXPECT_EQ(41, *quad(moved, 0));

	/* Other memory at the address is that of the guest */
	ASSERT_EQ(quad(self->mem, 40),
		  mmap(quad(self->mem, 40), PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(40));
	test_guest(self->vp, guest_write, .rdi = GPA(40), .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, 40));
	EXPECT_EQ(41, *quad(moved, 0));
	CHECK(SLAT_RWX);

	/* Also without a hole in between */
	ASSERT_EQ(quad(self->mem, 40),
		  mremap(moved, PAGE_SIZE, PAGE_SIZE,
			 MREMAP_MAYMOVE | MREMAP_FIXED, quad(self->mem, 40)));
	guest_finds(1);
	CHECK(SLAT_RWX);
}

TEST_F(movable, file_is_truncated)
{
	int fd = memfd_create("mshv-test", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 64 * PAGE_SIZE));
	ASSERT_NE(NULL, use_file(self, fd, 64, PROT_READ | PROT_WRITE,
				 MAP_SHARED));
	create_region(MEM_RWX);
	guest_fills(1);
	ASSERT_EQ(0, ftruncate(fd, 32 * PAGE_SIZE));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + 32, 32));
	/* Where the VMM would get a SIGBUS */
	test_no_read(self->vp, GPA(32));
	test_no_write(self->vp, GPA(63));
	EXPECT_EQ(0, mismatches(self->mem, 32, 1));
	test_guest_result(32, self->vp, guest_read, .rdi = GPA(31));
	ASSERT_EQ(0, ftruncate(fd, 64 * PAGE_SIZE));
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(32));
	guest_fills(2);
	EXPECT_EQ(0, mismatches(self->mem, 64, 2));
	CHECK(SLAT_RWX);
	close(fd);
}

TEST_F(movable, discarded_range_is_gone_when_madvise_returns)
{
	const size_t first = 500, pages = 30, end = first + pages;
	size_t i;

	create_region(MEM_RWX);
	guest_fills(1);
	ASSERT_EQ(0, madvise(quad(self->mem, first), pages * PAGE_SIZE,
			     MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + first,
				      pages));
	for (i = 0; i < pages; i += 7)
		test_guest_result(0, self->vp, guest_read,
				  .rdi = GPA(first + i));
	EXPECT_EQ(0, mismatches(self->mem, first, 1));
	EXPECT_EQ(0, mismatches(self->mem + end * PAGE_SIZE, self->pages - end,
				end + 1));
	CHECK(SLAT_RWX);
	/* From there on it is as any other memory */
	guest_fills(3);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 3));
	CHECK(SLAT_RWX);
}

TEST_F(movable, discarded_page_of_a_huge_page_comes_back_as_another)
{
	const size_t discarded[] = { 0, 100, 511, 512 + 256 };
	size_t i, j;

	require_oracle();
	if (!use_memory(self, BACKING_THP, 2 * HUGE_PAGES))
		SKIP(return, "needs: transparent huge pages");
	create_region(MEM_RWX);
	guest_fills(1);
	if (!entry_size(&self->pt, TEST_GFN) ||
	    !entry_size(&self->pt, TEST_GFN + HUGE_PAGES))
		SKIP(return, "needs: two free huge pages");

	for (i = 0; i < ARRAY_SIZE(discarded); i++) {
		const size_t page = discarded[i];
		u64 pfn = page_pfn(quad(self->mem, page));

		ASSERT_EQ(0, madvise(quad(self->mem, page), PAGE_SIZE,
				     MADV_DONTNEED));
		EXPECT_FALSE(accessible(&self->pt, TEST_GFN + page));
		EXPECT_TRUE(!pfn || !reachable(&self->pt, pfn));
		/* A neighbour comes first, without the page being there */
		test_guest_result((page ^ 1) + 1, self->vp, guest_read,
				  .rdi = GPA(page ^ 1));
		*quad(self->mem, page) = VALUE + page;
		test_guest_result(VALUE + page, self->vp, guest_read,
				  .rdi = GPA(page));
		test_guest_result((page ^ 1) + 1, self->vp, guest_read,
				  .rdi = GPA(page ^ 1));
		test_guest(self->vp, guest_write, .rdi = GPA(page) + 8,
			   .rsi = page);
		EXPECT_EQ(page, quad(self->mem, page)[1]);
		CHECK(SLAT_RWX);
	}
	for (i = 0; i < self->pages; i++) {
		u64 expected = i + 1;

		for (j = 0; j < ARRAY_SIZE(discarded); j++)
			if (i == discarded[j])
				expected = VALUE + i;
		ASSERT_EQ(expected, *quad(self->mem, i));
	}
}

TEST_F(movable, collapse_under_a_running_vp)
{
	struct guest_thread thread;
	int i, ret = -1;

	if (!use_memory(self, BACKING_THP, HUGE_PAGES))
		SKIP(return, "needs: transparent huge pages");
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_NOHUGEPAGE));
	create_region(MEM_RWX);
	guest_fills(1);
	EXPECT_EQ(0, entry_size(&self->pt, TEST_GFN));
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_HUGEPAGE));
	if (oracle_present())
		oracle_reset();
	for (i = 0; i < 20 && ret; i++)
		ret = madvise(self->mem, BYTES, MADV_COLLAPSE);
	EXPECT_TRUE(is_counting(self->mem, 30));
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self, &thread));
	EXPECT_EQ(0, mismatches(self->mem, 30, 1));
	EXPECT_EQ(0, mismatches(self->mem + 31 * PAGE_SIZE, HUGE_PAGES - 31,
				32));
	CHECK(SLAT_RWX);
	if (ret)
		skip_rest("needs: MADV_COLLAPSE that succeeds");
	/* Unless the hypervisor refuses large entries where small ones were */
	if (oracle_present()) {
		EXPECT_EQ(!map_counter().failures,
			  entry_size(&self->pt, TEST_GFN));
	}
}

/*
 * Compaction moves pages from the bottom of a zone to free ones at its top, but not
 * into huge pages that are free as a whole. Whichever end pages are taken from, one
 * half of the region is below what is freed here, and some of that stays in use.
 */
static u8 *populate_around_gaps(FIXTURE_DATA(movable) *self, size_t pages)
{
	const size_t half = self->pages / 2 * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, pages * PAGE_SIZE);
	size_t i;

	if (!mem || madvise(self->mem, half, MADV_POPULATE_WRITE) ||
	    madvise(mem, pages * PAGE_SIZE, MADV_POPULATE_WRITE) ||
	    madvise(self->mem + half, half, MADV_POPULATE_WRITE)) {
		mshv_free(mem, pages * PAGE_SIZE);
		return NULL;
	}
	for (i = 0; i < pages; i++) {
		if (i % 64)
			madvise(quad(mem, i), PAGE_SIZE, MADV_DONTNEED);
	}
	return mem;
}

TEST_F(movable, compaction_under_running_vps)
{
	const size_t enough = HUGE_PAGES;
	struct guest_thread thread;
	size_t i, other_pages, moved = 0;
	u64 *pfns = NULL;
	long before;
	int round;
	u8 *other;

	if (access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "needs: CONFIG_COMPACTION");
	EXPECT_TRUE(free_to_zones());
	ASSERT_NE(NULL, use_memory(self, BACKING_ANON, 8 * HUGE_PAGES));
	other_pages = 2 * self->pages;
	other = populate_around_gaps(self, other_pages);
	ASSERT_NE(NULL, other);
	create_region(MEM_RWX);
	guest_fills(1);
	ASSERT_TRUE(start_counting(self, &thread, 30));
	EXPECT_TRUE(is_counting(self->mem, 30));
	/* Leave gaps that are worth being closed */
	for (i = 1024; i < self->pages; i += 2) {
		ASSERT_EQ(0, madvise(quad(self->mem, i), PAGE_SIZE,
				     MADV_DONTNEED));
	}
	if (pagemap_usable()) {
		pfns = calloc(self->pages, sizeof(*pfns));
		ASSERT_NE(NULL, pfns);
		for (i = 1025; i < self->pages; i += 2)
			pfns[i] = page_pfn(quad(self->mem, i));
	}
	before = vmstat("pgmigrate_success");
	for (round = 0; round < 5; round++) {
		ASSERT_TRUE(write_file("/proc/sys/vm/compact_memory", "1"));
		for (i = 1025; i < self->pages; i += 514)
			test_guest_result(i + 1, self->vp, guest_read,
					  .rdi = GPA(i));
		EXPECT_TRUE(is_counting(self->mem, 30));
	}
	EXPECT_LE(before + enough, vmstat("pgmigrate_success"));
	/* Of these, of the guest */
	if (pfns) {
		for (i = 1025; i < self->pages; i += 2)
			moved += page_pfn(quad(self->mem, i)) != pfns[i];
		EXPECT_LT(0, moved);
		free(pfns);
	}
	EXPECT_EQ(HVMSG_X64_HALT, stop_counting(self, &thread));
	for (i = 1025; i < self->pages; i += 2) {
		ASSERT_EQ(i + 1, *quad(self->mem, i));
	}
	CHECK(SLAT_RWX);
	mshv_free(other, other_pages * PAGE_SIZE);
}

/* A VP that writes every other page */
struct writer {
	struct mshv_vp *vp;
	size_t first, pages;
	int ret;
};

static void *write_every_other(void *arg)
{
	struct writer *writer = arg;
	size_t i;

	for (i = writer->first; i < writer->pages && !writer->ret; i += 2) {
		writer->ret = guest_call(writer->vp, guest_write,
					 GUEST_ARGS(.rdi = GPA(i) + 16,
						    .rsi = i + 1), NULL);
		if (writer->ret)
			break;
		/* A page that they share, too */
		writer->ret = guest_call(writer->vp, guest_xadd,
					 GUEST_ARGS(.rdi = GPA(i / 64 * 64),
						    .rsi = 1), NULL);
	}
	return NULL;
}

TEST_F(movable, two_vps_touch_interleaved_pages)
{
	struct writer writers[2] = {};
	pthread_t threads[2];
	u64 sum = 0;
	size_t i;

	create_region(MEM_RWX);
	for (i = 0; i < 2; i++) {
		writers[i].vp = &self->pt.vp[i];
		writers[i].first = i;
		writers[i].pages = self->pages;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    write_every_other, &writers[i]));
	}
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, writers[i].ret);
	}
	for (i = 0; i < self->pages; i++) {
		ASSERT_EQ(i + 1, quad(self->mem, i)[2]);
		sum += quad(self->mem, i)[0];
	}
	EXPECT_EQ(self->pages, sum);
	EXPECT_EQ(self->pages, resident(self->mem, self->pages));
	CHECK(SLAT_RWX);
}

/*
 * Reclaim
 */

TEST_F(movable, what_the_guest_wrote_to_clean_pages_is_not_lost)
{
	bool swap = swap_start(self->swap);
	size_t i;

	require_pagemap();
	ASSERT_NE(NULL, use_memory(self, BACKING_MEMFD, 256));
	/* The page table may allow writing to them, but they are clean */
	if (madvise(self->mem, BYTES, MADV_POPULATE_READ))
		SKIP(return, "needs: MADV_POPULATE_READ");
	create_region(MEM_RWX);
	guest_fills(VALUE);
	for (i = 0; i < self->pages; i++) {
		ASSERT_TRUE(page_dirty(quad(self->mem, i)));
	}
	EXPECT_EQ(0, madvise(self->mem, BYTES, MADV_PAGEOUT));
	if (swap && oracle_present()) {
		EXPECT_GT(self->pages, accessible_pages(&self->pt, TEST_GFN,
							self->pages));
	}
	EXPECT_EQ(0, mismatches(self->mem, self->pages, VALUE));
	CHECK(SLAT_RWX);
	guest_finds(VALUE);
	CHECK(SLAT_RWX);
}

TEST_F(movable, what_the_guest_wrote_after_swapping_in_is_not_lost)
{
	u64 pfn;
	u64 round;
	size_t i;

	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	require_pagemap();
	create_region(MEM_RWX);
	for (round = 1; round < 4; round++) {
		guest_fills(round);
		/* Or it would not be written to swap when its page there is up to date */
		for (i = 0; i < self->pages; i++)
			ASSERT_TRUE(page_dirty(quad(self->mem, i)));
		pfn = page_pfn(self->mem);
		ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_PAGEOUT));
		if (page_pfn(self->mem) && page_pfn(self->mem) == pfn)
			skip_rest("needs: swap with space");
		EXPECT_FALSE(accessible(&self->pt, TEST_GFN));
		/* Read by the VMM: present, and clean */
		EXPECT_EQ(0, mismatches(self->mem, self->pages, round));
		CHECK(SLAT_RWX);
	}
	guest_fills(VALUE);
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_PAGEOUT));
	/* Read by the guest first, this time */
	guest_finds(VALUE);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, VALUE));
	CHECK(SLAT_RWX);
}

TEST_F(movable, freed_lazily_means_old_data_or_zeroes)
{
	size_t i, zeroes = 0;

	create_region(MEM_RWX);
	guest_fills(VALUE);
	if (madvise(self->mem, BYTES, MADV_FREE))
		SKIP(return, "needs: MADV_FREE");
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
				      self->pages));
	/* Some pages are wanted after all */
	for (i = 0; i < self->pages; i += 10) {
		test_guest(self->vp, guest_write, .rdi = GPA(i), .rsi = i + 1);
	}
	madvise(self->mem, BYTES, MADV_PAGEOUT);
	for (i = 0; i < self->pages; i++) {
		u64 guest = 0;

		ASSERT_EQ(0, guest_call(self->vp, guest_read,
					GUEST_ARGS(.rdi = GPA(i)), &guest));
		ASSERT_EQ(guest, READ_ONCE(*quad(self->mem, i)));
		ASSERT_TRUE(i % 10 ? !guest || guest == VALUE + i :
				     guest == i + 1);
		zeroes += !guest;
	}
	ksft_print_msg("%zu of %zu pages were freed\n", zeroes, self->pages);
	CHECK(SLAT_RWX);
}

/* Nobody writes to it, so it may still go */
TEST_F(movable, freed_lazily_is_not_taken_back_ahead)
{
	const size_t freed = 13;
	u8 *mem = self->mem + 18 * PAGE_SIZE;
	long before;

	create_region(MEM_RWX);
	fill_pages(mem, freed, VALUE);
	/* What is on its way to the LRU is not freed */
	if (!write_file("/proc/sys/vm/drop_caches", "1"))
		SKIP(return, "needs: drop_caches");
	if (madvise(mem, freed * PAGE_SIZE, MADV_FREE))
		SKIP(return, "needs: MADV_FREE");
	ASSERT_TRUE(write_file("/proc/sys/vm/drop_caches", "1"));
	ASSERT_EQ(freed, smaps(mem, freed, "LazyFree"));
	before = rss(self);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = 16,
		   .rdx = VALUE);
	/* With the last page the 15 behind it were wanted, of which two were missing */
	EXPECT_EQ(before + 18, rss(self));
	EXPECT_EQ(freed, smaps(mem, freed, "LazyFree"));
	CHECK(SLAT_RWX);
}

TEST_F(movable, merged_pages_part_when_the_guest_writes)
{
	const char *why;
	int i;

	require_pagemap();
	create_region(MEM_RWX);
	for (i = 0; i < 16; i++) {
		test_guest(self->vp, guest_write, .rdi = GPA(i), .rsi = VALUE);
	}
	why = ksm_merge(self->mem, 16);
	if (why)
		SKIP(return, "%s", why);

	/* Reading does not part them */
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(3));
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(4));
	EXPECT_EQ(page_pfn(quad(self->mem, 3)), page_pfn(quad(self->mem, 4)));
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN + 3, self->mem +
				  3 * PAGE_SIZE, 2, SLAT_RX));
	test_guest(self->vp, guest_write, .rdi = GPA(3), .rsi = 1);
	EXPECT_EQ(1, *quad(self->mem, 3));
	EXPECT_EQ(VALUE, *quad(self->mem, 4));
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(4));
	EXPECT_NE(page_pfn(quad(self->mem, 3)), page_pfn(quad(self->mem, 4)));
	CHECK(SLAT_RWX);
}

/* Of two guests, whose pages KSM finds to be equal */
TEST_F(movable, merge_of_two_guests_survives_reading)
{
	const u64 gfn = TEST_GFN + 4 * HUGE_PAGES;
	const size_t half = self->pages / 2, nr = 16;
	u8 *other = self->mem + half * PAGE_SIZE;
	struct mshv_pt second;
	const char *why;
	size_t i;
	u64 pfn;

	require_pagemap();
	test_pt_setup(&second, 1);
	test_map(&self->pt, TEST_GFN, self->mem, BYTES / 2, MEM_RWX);
	test_map(&second, gfn, other, BYTES / 2, MEM_RWX);
	for (i = 0; i < nr; i++) {
		test_guest(self->vp, guest_write, .rdi = GPA(i), .rsi = VALUE);
		test_guest(&second.vp[0], guest_write,
			   .rdi = (gfn + i) * PAGE_SIZE, .rsi = VALUE);
	}
	why = ksm_merge(self->mem, nr) ?: ksm_merge(other, nr);
	if (why || page_pfn(self->mem) != page_pfn(other)) {
		mshv_pt_close(&second);
		SKIP(return, "%s", why ?: "needs: KSM that merges all of it");
	}
	pfn = page_pfn(self->mem);
	for (i = 0; i < nr; i++) {
		test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(i));
		test_guest_result(VALUE, &second.vp[0], guest_read,
				  .rdi = (gfn + i) * PAGE_SIZE);
		EXPECT_EQ(pfn, page_pfn(quad(self->mem, i)));
		EXPECT_EQ(pfn, page_pfn(quad(other, i)));
	}
	/* Not check_mirror(), which pins pages to read them: that parts them */
	if (oracle_present()) {
		test_slat(&self->pt, TEST_GFN, self->mem, nr, SLAT_RX, false);
		test_slat(&second, gfn, other, nr, SLAT_RX, false);
	}
	/* Writing takes one page from the others, and no value to them */
	test_guest(self->vp, guest_write, .rdi = GPA(3), .rsi = 1);
	EXPECT_NE(pfn, page_pfn(quad(self->mem, 3)));
	for (i = 0; i < nr; i++) {
		test_guest_result(i == 3 ? 1 : VALUE, self->vp, guest_read,
				  .rdi = GPA(i));
		test_guest_result(VALUE, &second.vp[0], guest_read,
				  .rdi = (gfn + i) * PAGE_SIZE);
		EXPECT_EQ(pfn, page_pfn(quad(other, i)));
	}
	EXPECT_EQ(0, check_mirror(&second.vp[0], gfn, other, half, SLAT_RWX));
	mshv_pt_close(&second);
}

/*
 * The end of regions and processes
 */

TEST_F(movable, unmap_of_an_untouched_region_leaves_nothing)
{
	long before = rss(self);

	create_region(MEM_RWX);
	test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
	EXPECT_EQ(before, rss(self));
	if (oracle_present()) {
		test_slat_empty(&self->pt, TEST_GFN, self->pages);
	}
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = GPA(3))));
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = GPA(self->pages - 1))));
	/* The place is free, and the VMM keeps its memory */
	*quad(self->mem, 3) = VALUE;
	create_region(MEM_RWX);
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(3));
	CHECK(SLAT_RWX);
}

/* Runs a VP whose memory was that of a process that has exited */
static int run_orphan(struct mshv_pt *pt, u8 *mem, size_t pages)
{
	struct mshv_vp *vp = &pt->vp[0];
	int wrong = 0;
	long ret;

	ret = guest_run(vp, GUEST_ADDR(guest_write),
			GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1));
	if (!is_memory_intercept(ret) && ret != -EFAULT && ret != -EIO)
		wrong |= 1;
	if (oracle_present() && (accessible_pages(pt, TEST_GFN, pages) ||
				 accessible_pages(pt, GUEST_SYS_GFN,
						  GUEST_SYS_PAGES)))
		wrong |= 2;
	/* Memory at the same address is another process's */
	if (*quad(mem, 0) != VALUE)
		wrong |= 4;
	if (mshv_unmap(pt, TEST_GFN, mem, pages * PAGE_SIZE))
		wrong |= 8;
	if (oracle_present() && oracle_mapped(pt->id, TEST_GFN,
					      TEST_GFN + pages - 1))
		wrong |= 16;
	return wrong;
}

TEST_F(movable, child_runs_the_vp_of_an_exited_parent)
{
	int pipes[2], status;
	pid_t parent;
	char c = 0;

	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	ASSERT_EQ(0, pipe(pipes));
	parent = fork();
	if (!parent) {
		struct guest_args args = { .rdi = TEST_GPA, .rsi = VALUE };
		struct mshv_pt pt;
		pid_t child;

		if (mshv_pt_setup(&pt, 1) ||
		    mshv_map(&pt, TEST_GFN, self->mem, BYTES, MEM_RWX) ||
		    guest_call(&pt.vp[0], guest_write, args, NULL))
			_exit(1);
		child = fork();
		if (!child) {
			close(pipes[1]);
			if (read(pipes[0], &c, 1) != 1)
				_exit(64);
			_exit(run_orphan(&pt, self->mem, self->pages));
		}
		_exit(child < 0);
	}
	ASSERT_LT(0, parent);
	status = reap(parent, 10000);
	ASSERT_EQ(0, status);
	ASSERT_EQ(1, write(pipes[1], &c, 1));
	status = reap(-1, 10000);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(pipes[0]);
	close(pipes[1]);
}

/*
 * Pages that user space supplies
 */

static struct pager make_pager(int fd, u8 *mem, size_t pages)
{
	return (struct pager){
		.fd = fd, .mem = mem, .bytes = pages * PAGE_SIZE, .unit = PAGE_SIZE,
	};
}

/* What mismatches() expects of a seed of 1, and VALUE behind it */
static u8 *make_source(size_t pages)
{
	u8 *source = mshv_alloc(BACKING_ANON, pages * PAGE_SIZE);
	size_t i;

	if (!source)
		return NULL;
	fill_pages(source, pages, 1);
	for (i = 0; i < pages; i++)
		quad(source, i)[1] = VALUE;
	return source;
}

TEST_F(movable, every_page_comes_from_userfaultfd)
{
	struct pager pager;
	u8 *source;
	int fd;

	ASSERT_NE(NULL, use_memory(self, BACKING_ANON, 64));
	source = make_source(self->pages);
	ASSERT_NE(NULL, source);
	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	pager = make_pager(fd, self->mem, self->pages);
	pager.source = source;
	create_region(MEM_RWX);
	/* Nothing of it was asked for by creating the region */
	EXPECT_FALSE(uffd_wait(fd, 0));
	ASSERT_TRUE(pager_start(&pager));
	test_guest_result(VALUE, self->vp, guest_read, .rdi = GPA(20) + 8);
	guest_finds(1);
	EXPECT_EQ(0, pager_stop(&pager, 1));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK(SLAT_RWX);

	/* What is discarded has to be supplied again */
	ASSERT_EQ(0, madvise(self->mem, BYTES / 2, MADV_DONTNEED));
	ASSERT_TRUE(pager_start(&pager));
	guest_fills(VALUE);
	EXPECT_EQ(self->pages / 2, pager_stop(&pager, 1));
	EXPECT_EQ(0, mismatches(self->mem, self->pages, VALUE));
	EXPECT_EQ(VALUE, quad(self->mem, 0)[1]);
	CHECK(SLAT_RWX);
	mshv_free(source, BYTES);
	close(fd);
}

TEST_F(movable, every_write_is_told_by_userfaultfd)
{
	struct uffdio_writeprotect protect = {
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct pager pager;
	int fd, round;

	ASSERT_NE(NULL, use_memory(self, BACKING_ANON, 64));
	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_WP,
		       UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (fd < 0)
		SKIP(return, "needs: write protection of userfaultfd");
	create_region(MEM_RWX);
	guest_fills(1);
	pager = make_pager(fd, self->mem, self->pages);
	ASSERT_TRUE(pager_start(&pager));
	protect.range.start = (uintptr_t)self->mem;
	protect.range.len = BYTES;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
	/* Reading is not told, whatever it maps */
	guest_finds(1);
	CHECK(SLAT_RX);
	EXPECT_EQ(0, pager_stop(&pager, 0));

	for (round = 2; round < 4; round++) {
		ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
		ASSERT_TRUE(pager_start(&pager));
		guest_fills(round);
		EXPECT_EQ(0, pager_stop(&pager, 1));
		EXPECT_EQ(0, mismatches(self->mem, self->pages, round));
		CHECK(SLAT_RWX);
	}
	close(fd);
}

static void nothing(int sig)
{
}

struct runner {
	struct mshv_vp *vp;
	bool ended;
	long ret;
};

static void *run_once(void *arg)
{
	struct runner *runner = arg;

	runner->ret = mshv_run_once(runner->vp);
	WRITE_ONCE(runner->ended, true);
	return NULL;
}

TEST_F(movable, signal_ends_a_blocked_fault_and_it_can_be_repeated)
{
	struct sigaction action = { .sa_handler = nothing };
	struct runner runner = { .vp = self->vp };
	struct pager pager;
	pthread_t thread;
	int fd, i;

	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	sigaction(SIGUSR1, &action, NULL);
	create_region(MEM_RWX);
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_read),
				   GUEST_ARGS(.rdi = GPA(700))));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_once, &runner));
	ASSERT_TRUE(uffd_wait(fd, 5000));
	/* It waits until a signal comes, and not much longer */
	usleep(100000);
	EXPECT_FALSE(READ_ONCE(runner.ended));
	for (i = 0; i < 100 && !READ_ONCE(runner.ended); i++) {
		pthread_kill(thread, SIGUSR1);
		usleep(10000);
	}
	ASSERT_TRUE(READ_ONCE(runner.ended));
	pthread_join(thread, NULL);
	EXPECT_EQ(-EINTR, runner.ret);
	EXPECT_EQ(0, resident(self->mem, self->pages));

	pager = make_pager(fd, self->mem, self->pages);
	pager.source = make_source(self->pages);
	ASSERT_NE(NULL, pager.source);
	ASSERT_TRUE(pager_start(&pager));
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(self->pages - 1, pager_stop(&pager, 1));
	EXPECT_EQ(701, *quad(self->mem, 700));
	CHECK(SLAT_RWX);
	close(fd);
}

TEST_F(movable, vmm_that_waits_for_a_page_can_be_killed)
{
	int pipes[2], status;
	pid_t child;
	u64 start;
	char c;

	ASSERT_EQ(0, pipe(pipes));
	child = fork();
	if (!child) {
		struct guest_args args = { .rdi = TEST_GPA };
		struct runner runner;
		pthread_t thread;
		struct mshv_pt pt;
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = uffd_open(self->mem, self->pages,
			       UFFDIO_REGISTER_MODE_MISSING, 0);
		if (fd < 0 && write(pipes[1], "s", 1) == 1)
			_exit(0);
		runner.vp = &pt.vp[0];
		if (mshv_pt_setup(&pt, 1) ||
		    mshv_map(&pt, TEST_GFN, self->mem, BYTES, MEM_RWX) ||
		    guest_prepare(runner.vp, GUEST_ADDR(guest_read), args) ||
		    pthread_create(&thread, NULL, run_once, &runner) ||
		    !uffd_wait(fd, 5000) || write(pipes[1], "y", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_LT(0, child);
	close(pipes[1]);
	ASSERT_EQ(1, read(pipes[0], &c, 1));
	if (c == 's')
		SKIP(return, "needs: userfaultfd");
	usleep(50000);
	start = now_ms();
	ASSERT_EQ(0, kill(child, SIGKILL));
	status = reap(child, 10000);
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GT(2000, now_ms() - start);
	close(pipes[0]);
}

/* Neither GFN nor address nor size of a region need to be those of a chunk */
FIXTURE(odd)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *area, *mem;
	u64 gfn, gpa;
};

FIXTURE_VARIANT(odd)
{
	enum mshv_backing backing;
	size_t pages, gfn_offset, uaddr_offset;
};

FIXTURE_VARIANT_ADD(odd, one_page) { .pages = 1 };
FIXTURE_VARIANT_ADD(odd, chunk_less_one) { .pages = HUGE_PAGES - 1 };
FIXTURE_VARIANT_ADD(odd, chunk_and_one) { .pages = HUGE_PAGES + 1 };
FIXTURE_VARIANT_ADD(odd, gfn) { .pages = 600, .gfn_offset = 3 };
FIXTURE_VARIANT_ADD(odd, uaddr) { .pages = 600, .uaddr_offset = 5 };

FIXTURE_VARIANT_ADD(odd, gfn_and_uaddr) {
	.pages = 1100, .gfn_offset = 7, .uaddr_offset = 7,
};

FIXTURE_VARIANT_ADD(odd, thp_gfn) {
	.backing = BACKING_THP, .pages = 1100, .gfn_offset = 3,
};

FIXTURE_VARIANT_ADD(odd, thp_gfn_and_uaddr) {
	.backing = BACKING_THP, .pages = 1100,
	.gfn_offset = 7, .uaddr_offset = 7,
};

FIXTURE_SETUP(odd)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_MOVABLE);
	/* Aligned to 2 MiB in any case */
	self->area = mshv_alloc(BACKING_THP, 4 * HUGE_SIZE);
	if (!self->area)
		SKIP(return, "needs: transparent huge pages");
	if (variant->backing == BACKING_ANON)
		ASSERT_EQ(0, madvise(self->area, 4 * HUGE_SIZE,
				     MADV_NOHUGEPAGE));
	self->mem = self->area + variant->uaddr_offset * PAGE_SIZE;
	self->gfn = TEST_GFN + variant->gfn_offset;
	self->gpa = self->gfn * PAGE_SIZE;
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	test_map(&self->pt, self->gfn, self->mem, variant->pages * PAGE_SIZE,
		 MEM_RWX);
}

FIXTURE_TEARDOWN(odd)
{
	test_pt_close(&self->pt);
	mshv_free(self->area, 4 * HUGE_SIZE);
}

TEST_F_TIMEOUT(odd, every_page_is_mirrored_and_none_outside, 180)
{
	const size_t pages = variant->pages;
	size_t i;

	/* Backwards, so that nothing is read ahead */
	for (i = pages; i--;) {
		test_guest(self->vp, guest_write,
			   .rdi = self->gpa + i * PAGE_SIZE, .rsi = i + 1);
	}
	EXPECT_EQ(0, mismatches(self->mem, pages, 1));
	EXPECT_EQ(0, check_mirror(self->vp, self->gfn, self->mem, pages,
				  SLAT_RWX));
	if (oracle_present()) {
		EXPECT_EQ(pages, accessible_pages(&self->pt, self->gfn, pages));
		EXPECT_EQ(pages, oracle_mapped(self->pt.id, TEST_GFN - 512,
					       TEST_GFN + 4 * HUGE_PAGES));
	}
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = self->gpa - PAGE_SIZE)));
	EXPECT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = self->gpa + pages * PAGE_SIZE)));
}

TEST_F_TIMEOUT(odd, first_and_last_page_are_discarded, 180)
{
	const size_t pages = variant->pages, last = pages - 1;
	size_t i;

	test_guest(self->vp, guest_fill, .rdi = self->gpa, .rsi = pages,
		   .rdx = 1);
	ASSERT_EQ(0, madvise(quad(self->mem, 0), PAGE_SIZE, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(quad(self->mem, last), PAGE_SIZE, MADV_DONTNEED));
	EXPECT_FALSE(accessible(&self->pt, self->gfn));
	EXPECT_FALSE(accessible(&self->pt, self->gfn + last));
	/* Of a page that is outside, nothing has to be taken away */
	*quad(self->mem, pages) = VALUE;
	ASSERT_EQ(0, madvise(quad(self->mem, pages), PAGE_SIZE, MADV_DONTNEED));
	for (i = 0; i < pages; i += last ? last : 1)
		test_guest_result(0, self->vp, guest_read,
				  .rdi = self->gpa + i * PAGE_SIZE);
	for (i = 1; i < last; i++) {
		ASSERT_EQ(i + 1, *quad(self->mem, i));
	}
	EXPECT_EQ(0, check_mirror(self->vp, self->gfn, self->mem, pages,
				  SLAT_RWX));
	test_guest(self->vp, guest_fill, .rdi = self->gpa, .rsi = pages,
		   .rdx = VALUE);
	EXPECT_EQ(0, mismatches(self->mem, pages, VALUE));
	EXPECT_EQ(0, check_mirror(self->vp, self->gfn, self->mem, pages,
				  SLAT_RWX));
	test_unmap(&self->pt, self->gfn, self->mem, pages * PAGE_SIZE);
	if (oracle_present()) {
		test_slat_empty(&self->pt, TEST_GFN, 4 * HUGE_PAGES);
	}
}

/* Hypercalls that fail */
FIXTURE(failing)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
	int kmsg;
};

FIXTURE_VARIANT(failing)
{
	u16 status;
	unsigned int nth, reps;
	bool forever;
	bool unmap_too;
};

FIXTURE_VARIANT_ADD(failing, memory_first) {
	.status = HV_STATUS_INSUFFICIENT_MEMORY, .nth = 1,
};

FIXTURE_VARIANT_ADD(failing, memory_third) {
	.status = HV_STATUS_INSUFFICIENT_MEMORY, .nth = 3,
};

FIXTURE_VARIANT_ADD(failing, memory_third_with_progress) {
	.status = HV_STATUS_INSUFFICIENT_MEMORY, .nth = 3, .reps = 1,
};

FIXTURE_VARIANT_ADD(failing, memory_forever) {
	.status = HV_STATUS_INSUFFICIENT_MEMORY, .nth = 2, .forever = true,
};

FIXTURE_VARIANT_ADD(failing, parameter_first) {
	.status = HV_STATUS_INVALID_PARAMETER, .nth = 1,
};

FIXTURE_VARIANT_ADD(failing, parameter_third) {
	.status = HV_STATUS_INVALID_PARAMETER, .nth = 3,
};

FIXTURE_VARIANT_ADD(failing, parameter_third_with_progress) {
	.status = HV_STATUS_INVALID_PARAMETER, .nth = 3, .reps = 1,
};

FIXTURE_VARIANT_ADD(failing, parameter_forever) {
	.status = HV_STATUS_INVALID_PARAMETER, .nth = 2, .forever = true,
};

FIXTURE_VARIANT_ADD(failing, parameter_forever_and_unmap) {
	.status = HV_STATUS_INVALID_PARAMETER, .nth = 2, .forever = true,
	.unmap_too = true,
};

FIXTURE_SETUP(failing)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->kmsg = kmsg_open();
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_ANON, BYTES);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	create_region(MEM_RWX);
	test_guest(self->vp, guest_read, .rdi = DATA_GPA);
}

FIXTURE_TEARDOWN(failing)
{
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

static int fail_calls(const FIXTURE_VARIANT(failing) *variant)
{
	const u64 flags = variant->forever ? ORACLE_INJECT_FOREVER : 0;
	int ret;

	ret = oracle_inject(HVCALL_MAP_GPA_PAGES, variant->nth,
			    variant->status, variant->reps, flags);
	if (!ret && variant->unmap_too)
		ret = oracle_inject(HVCALL_UNMAP_GPA_PAGES, 1, variant->status,
				    0, flags);
	return ret;
}

/* Returns how many did */
static long fail_no_more(void)
{
	long count = oracle_injected(HVCALL_MAP_GPA_PAGES);

	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	return count;
}

TEST_F(failing, guest_goes_on_or_is_intercepted)
{
	long ret;

	ASSERT_EQ(0, fail_calls(variant));
	ret = guest_run(self->vp, GUEST_ADDR(guest_fill),
			GUEST_ARGS(.rdi = TEST_GPA, .rsi = self->pages,
				   .rdx = 1));
	EXPECT_LT(0, fail_no_more());
	if (variant->forever) {
		/* The VMM is told, instead of trying for ever */
		EXPECT_EQ(HVMSG_GPA_INTERCEPT, ret);
	}
	if (ret != HVMSG_X64_HALT) {
		EXPECT_TRUE(ret == HVMSG_GPA_INTERCEPT ||
			    ret == HVMSG_UNMAPPED_GPA) {
			TH_LOG("it is %#lx", ret);
		}
		EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->mem,
					self->pages, SLAT_RWX, false));
		/* From where it was, as if nothing had happened */
		ret = mshv_run(self->vp);
	}
	ASSERT_EQ(HVMSG_X64_HALT, ret);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	guest_finds(1);
	CHECK(SLAT_RWX);
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
				      self->pages));
	test_guest_result(0, self->vp, guest_read, .rdi = GPA(9));
	test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
	test_slat_empty(&self->pt, TEST_GFN, self->pages);
}

TEST_F(failing, freed_pages_are_out_of_reach_or_the_partition_is_dead)
{
	const size_t nr = 16, step = 60;
	u64 pfn[16];
	size_t i;
	long ret;

	guest_fills(1);
	for (i = 0; i < nr; i++) {
		pfn[i] = page_pfn(quad(self->mem, i * step));
		ASSERT_NE(0, pfn[i]);
	}
	ASSERT_EQ(0, fail_calls(variant));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, madvise(quad(self->mem, i * step), PAGE_SIZE,
				     MADV_DONTNEED));
	}
	EXPECT_LT(0, fail_no_more());
	for (i = 0; i < nr; i++) {
		EXPECT_FALSE(accessible(&self->pt, TEST_GFN + i * step));
		EXPECT_FALSE(reachable(&self->pt, pfn[i]));
	}

	/* It is still at the end of the command */
	ret = mshv_run(self->vp);
	if (variant->unmap_too) {
		EXPECT_EQ(-EIO, ret);
	}
	if (ret == -EIO) {
		self->pt.dies = true;
		EXPECT_EQ(-EIO, mshv_run_once(self->vp));
		EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN,
					      self->pages));
		EXPECT_EQ(2, *quad(self->mem, 1));
		return;
	}
	ASSERT_EQ(HVMSG_X64_HALT, ret);
	for (i = 0; i < nr; i++)
		test_guest_result(0, self->vp, guest_read,
				  .rdi = GPA(i * step));
	for (i = 0; i < self->pages; i++) {
		ASSERT_EQ(i % step || i / step >= nr ? i + 1 : 0,
			  *quad(self->mem, i));
	}
	CHECK(SLAT_RWX);
	guest_fills(VALUE);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, VALUE));
	CHECK(SLAT_RWX);
}

/* Memory that nobody has touched, of which there may be very much */
FIXTURE(untouched)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(untouched)
{
	u64 size;
	u64 create, unmap;
};

FIXTURE_VARIANT_ADD(untouched, gib) {
	.size = GIB, .create = 2, .unmap = 1,
};

FIXTURE_VARIANT_ADD(untouched, tib) {
	.size = 1024 * GIB, .create = 1030, .unmap = 129,
};

FIXTURE_SETUP(untouched)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_MOVABLE);
	require_feature(FEATURE_FAST_NO_ACCESS);
	self->mem = mmap(NULL, variant->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, mshv_pt_active(&self->pt));
}

FIXTURE_TEARDOWN(untouched)
{
	test_pt_close(&self->pt);
	munmap(self->mem, variant->size);
}

TEST_F(untouched, costs_hardly_any_hypercalls)
{
	const u64 gfn = 64 * GIB / PAGE_SIZE;
	struct oracle_counter map;

	ASSERT_EQ(0, oracle_reset());
	test_map(&self->pt, gfn, self->mem, variant->size, MEM_RWX);
	map = map_counter();
	EXPECT_GE(variant->create, map.calls - map.failures);
	/* To want memory costs a call; it is wanted for all of it */
	EXPECT_GE(1, map.failures);

	ASSERT_EQ(0, oracle_reset());
	ASSERT_EQ(0, madvise(self->mem, variant->size, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(self->mem + 5 * PAGE_SIZE, PAGE_SIZE,
			     MADV_DONTNEED));
	ASSERT_EQ(0, mprotect(self->mem, variant->size, PROT_READ));
	EXPECT_EQ(0, map_counter().calls);
	EXPECT_EQ(0, unmap_counter().calls);

	test_unmap(&self->pt, gfn, self->mem, variant->size);
	EXPECT_EQ(0, map_counter().calls);
	EXPECT_GE(variant->unmap, unmap_counter().calls);
	test_slat_empty(&self->pt, gfn, variant->size / PAGE_SIZE);
}

/* Somebody waits for the memory of who is killed, and pt_mutex is held meanwhile */
TEST(creation_ends_when_the_vmm_is_killed)
{
	const u64 gfn = 64 * GIB / PAGE_SIZE, size = 1024 * GIB;
	struct mshv_pt pt;
	int status, i;
	pid_t child;
	u8 *mem;

	require_mshv();
	require_oracle();
	require_feature(FEATURE_FAST_NO_ACCESS);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, oracle_reset());
	/* Twenty seconds for all of it */
	oracle_delay(HVCALL_MAP_GPA_PAGES, 20000);
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(mshv_pt_active(&pt) ? 2 : !mshv_map(&pt, gfn, mem, size, MEM_RWX));
	for (i = 0; i < 1000 && map_counter().calls < 3; i++)
		usleep(10000);
	EXPECT_LE(3, map_counter().calls);
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	oracle_delay(HVCALL_MAP_GPA_PAGES, 0);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GT(400, map_counter().calls);
	munmap(mem, size);
}

/* Memory that the kernel has from vmalloc(), in KiB */
#define vmalloc_used()	read_field("/proc/meminfo", "VmallocUsed")

TEST(metadata_is_33_kib_per_gib)
{
	const u64 gfn = 64 * GIB / PAGE_SIZE, gibs = 1024, size = gibs * GIB;
	struct mshv_pt pt;
	long before, used;
	u8 *mem;

	require_mshv();
	/* Without it this is a quarter of a billion repetitions */
	require_feature(FEATURE_FAST_NO_ACCESS);
	before = vmalloc_used();
	if (before <= 0)
		SKIP(return, "needs: VmallocUsed in /proc/meminfo");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mshv_pt_active(&pt));
	before = vmalloc_used();
	test_map(&pt, gfn, mem, size, MEM_RWX);
	used = vmalloc_used() - before;
	EXPECT_GE(33 * gibs, used);
	/* A bit for each page at least, or it is kept somewhere else */
	EXPECT_LE(32 * gibs, used);
	test_unmap(&pt, gfn, mem, size);
	/* Stacks of other processes are of vmalloc() too */
	EXPECT_GE(before + 1024, vmalloc_used());
	mshv_pt_close(&pt);
	munmap(mem, size);
}

TEST_HARNESS_MAIN
