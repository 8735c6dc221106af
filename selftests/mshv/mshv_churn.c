// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that Linux moves, splits, collapses and takes back while VPs use all of
 * it: every kind of memory, one VP or several, and in the end both sides have what
 * was written last. The counters of the kernel tell that it was really done.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define KHUGEPAGED		THP "khugepaged/"
#define SCHED			"/sys/kernel/debug/sched/numa_balancing/"
#define MEMORY_BLOCKS		"/sys/devices/system/memory/"

#ifndef MADV_HWPOISON
#define MADV_HWPOISON		100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

FIXTURE(churn)
{
	struct mshv_pt pt;
	struct load load;
	u8 *mem;
	size_t pages;
	int kmsg;
	char swap[SWAP_NAME];
};

FIXTURE_VARIANT(churn)
{
	enum mshv_backing backing;
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(churn, anon) { .backing = BACKING_ANON, .vps = 1 };
FIXTURE_VARIANT_ADD(churn, thp) { .backing = BACKING_THP, .vps = 4 };
FIXTURE_VARIANT_ADD(churn, hugetlb) { .backing = BACKING_HUGETLB, .vps = 2 };
FIXTURE_VARIANT_ADD(churn, memfd) { .backing = BACKING_MEMFD, .vps = 3 };
FIXTURE_VARIANT_ADD(churn, file) { .backing = BACKING_FILE, .vps = 2 };

FIXTURE_VARIANT_ADD(churn, hugetlb_shared) {
	.backing = BACKING_HUGETLB_SHARED, .vps = 3,
};

FIXTURE_VARIANT_ADD(churn, shmem_thp) {
	.backing = BACKING_SHMEM_THP, .vps = 2,
};

FIXTURE_SETUP(churn)
{
	const char *why = NULL;

	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	if (backing_is_hugetlb(variant->backing))
		require_hugetlb(4);
	if (variant->backing == BACKING_FILE)
		why = disk_start();
	if (why)
		SKIP(return, "%s", why);
	self->mem = mshv_alloc(variant->backing, self->pages * PAGE_SIZE);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, variant->vps);
	test_map(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE,
		 MEM_RWX);
}

FIXTURE_TEARDOWN(churn)
{
	load_stop(&self->load, NULL);
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	settings_restore();
	swap_stop(self->swap);
	cgroup_stop();
	disk_stop();
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

#define BYTES	(self->pages * PAGE_SIZE)

#define start_load() \
	ASSERT_TRUE(load_start(&self->load, &self->pt, TEST_GFN, self->pages, \
			       variant->vps))

/* VPs are not kept from their work, whatever is going on */
#define expect_progress() \
	EXPECT_TRUE(load_goes_on(&self->load, 20000))

/* CHECK: nothing is lost, and the SLAT is what the page tables are */
#define finish_load() do { \
	EXPECT_EQ(0, load_stop(&self->load, self->mem)); \
	EXPECT_EQ(0, check_mirror(&self->pt.vp[0], TEST_GFN, self->mem, \
				  self->pages, SLAT_RWX)); \
} while (0)

/* Do it until that was seen in a counter, and at least three times */
#define churn_until(_what, _counter) do { \
	const long _before = vmstat(_counter); \
	int _i; \
	\
	for (_i = 0; _i < 3 || (_i < 20 && vmstat(_counter) == _before); _i++) { \
		_what; \
		usleep(20000); \
	} \
	EXPECT_LT(_before, vmstat(_counter)); \
	expect_progress(); \
} while (0)

TEST_F_TIMEOUT(churn, compacted, 300)
{
	/* Huge pages are of no use to it, and a file may have large folios */
	const bool movable = variant->backing == BACKING_ANON ||
			     variant->backing == BACKING_MEMFD;
	unsigned int round;
	long before;
	u8 *holes;
	size_t i;

	if (access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "needs: CONFIG_COMPACTION");
	EXPECT_TRUE(free_to_zones());
	/* Pages of the guest and of somebody else in turn, who then goes away */
	holes = mshv_alloc(BACKING_ANON, BYTES);
	ASSERT_NE(NULL, holes);
	for (i = 0; i < self->pages; i++) {
		*quad(self->mem, i) = 1;
		*quad(holes, i) = 1;
	}
	start_load();
	before = vmstat("pgmigrate_success");
	for (round = 0; round < 5 || (round < 20 && movable &&
				      vmstat("pgmigrate_success") == before);
	     round++) {
		/* Others each time: where the gaps are is up to the kernel */
		for (i = 0; i < self->pages; i++) {
			if (i % 2 == round % 2)
				madvise(quad(holes, i), PAGE_SIZE, MADV_DONTNEED);
			else
				*quad(holes, i) = 1;
		}
		ASSERT_TRUE(write_file("/proc/sys/vm/compact_memory", "1"));
		usleep(20000);
	}
	if (movable)
		EXPECT_LT(before, vmstat("pgmigrate_success"));
	expect_progress();
	finish_load();
	mshv_free(holes, BYTES);
}

TEST_F(churn, moved_between_nodes)
{
	size_t moved = 0;
	int i;

	if (numa_nodes() < 2)
		SKIP(return, "needs: two NUMA nodes");
	start_load();
	for (i = 0; i < 6; i++) {
		moved += numa_move(self->mem, self->pages, (i + 1) % 2);
		expect_progress();
	}
	/* Some are always in use by somebody just then */
	EXPECT_LT(self->pages, moved);
	finish_load();
}

static long pages_on_node(u8 *mem, size_t pages, int node)
{
	long n = 0;
	size_t i;

	for (i = 0; i < pages; i++)
		n += numa_node((u8 *)quad(mem, i)) == node;
	return n;
}

TEST_F(churn, process_is_migrated_between_nodes)
{
	const unsigned long node[] = { BIT(0), BIT(1) };
	long before, moved = 0;
	int i;

	if (numa_nodes() < 2)
		SKIP(return, "needs: two NUMA nodes");
	start_load();
	/* All of the process, the guest's code and page tables included */
	for (i = 0; i < 3 || (i < 20 && moved <= 0); i++) {
		before = pages_on_node(self->mem, self->pages, (i + 1) % 2);
		ASSERT_LE(0, syscall(__NR_migrate_pages, getpid(), 64,
				     &node[i % 2], &node[(i + 1) % 2]));
		moved += pages_on_node(self->mem, self->pages, (i + 1) % 2) - before;
		usleep(20000);
	}
	/* Some of it may be in use by somebody at any time */
	EXPECT_LT(0, moved);
	expect_progress();
	finish_load();
}

/* Linux takes pages away to see which node uses them, and moves them there */
TEST_F_TIMEOUT(churn, balanced_between_nodes, 180)
{
	/* A huge page is one fault */
	const long enough = backing_is_thp(variant->backing) ? 2 : 50;
	u64 scheduler = ORACLE_SCHEDULER_ROOT;
	long before;
	int i;

	if (oracle_present())
		ASSERT_EQ(0, oracle_scheduler(&scheduler));
	/* Otherwise it seems to use hardly any CPU, and is left alone */
	if (scheduler != ORACLE_SCHEDULER_ROOT)
		SKIP(return, "needs: the root scheduler");
	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory that is balanced");
	if (numa_nodes() < 2 ||
	    !setting_set("/proc/sys/kernel/numa_balancing", "1"))
		SKIP(return, "needs: two NUMA nodes and CONFIG_NUMA_BALANCING");
	setting_set(SCHED "scan_delay_ms", "10");
	setting_set(SCHED "scan_period_min_ms", "10");
	setting_set(SCHED "scan_period_max_ms", "100");
	before = vmstat("numa_hint_faults");
	start_load();
	/* From where the CPUs are not */
	numa_move(self->mem, self->pages, 1);
	for (i = 0; i < 1500 && vmstat("numa_hint_faults") < before + enough; i++)
		usleep(20000);
	settings_restore();
	EXPECT_LE(before + enough, vmstat("numa_hint_faults"));
	expect_progress();
	finish_load();
}

TEST_F(churn, huge_pages_are_split)
{
	long before;
	int i;

	if (access("/sys/kernel/debug/split_huge_pages", W_OK))
		SKIP(return, "needs: split_huge_pages in debugfs");
	if (!backing_is_thp(variant->backing))
		SKIP(return, "needs: huge pages that can be split");
	start_load();
	before = vmstat("thp_split_page");
	for (i = 0; i < 10; i++) {
		split_huge_pages(self->mem, BYTES);
		expect_progress();
		madvise(self->mem + i % 2 * HUGE_SIZE, HUGE_SIZE, MADV_COLLAPSE);
	}
	EXPECT_LT(before, vmstat("thp_split_page"));
	expect_progress();
	finish_load();
}

/* An eighth of it, another one each time: there are VPs that want all of it back */
#define PART		(BYTES / 8)
#define part(_nr)	(self->mem + (_nr) % 8 * PART)

TEST_F(churn, paged_out)
{
	const char *counter = "pswpout";
	unsigned int nr = 0;

	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory that can be reclaimed");
	if (variant->backing != BACKING_FILE && !swap_start(self->swap))
		SKIP(return, "needs: swap");
	/* Reclaim does not write files back, and drops what stays clean */
	if (variant->backing == BACKING_FILE)
		counter = "nr_written";
	start_load();
	/* What is not of a file need not be written to it */
	churn_until(msync(part(nr), PART, MS_SYNC);
		    madvise(part(nr++), PART, MADV_PAGEOUT), counter);
	finish_load();
}

TEST_F(churn, paged_out_to_zswap)
{
	const long before = vmstat("zswpin");
	unsigned int nr = 0;

	if (backing_is_hugetlb(variant->backing) ||
	    variant->backing == BACKING_FILE)
		SKIP(return, "needs: memory that can be swapped");
	/* Before there is zram: pools of both may not be made in the other order */
	if (!setting_set("/sys/module/zswap/parameters/enabled", "Y"))
		SKIP(return, "needs: CONFIG_ZSWAP");
	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	start_load();
	churn_until(madvise(part(nr++), PART, MADV_PAGEOUT), "zswpout");
	finish_load();
	settings_restore();
	EXPECT_LT(before, vmstat("zswpin"));
}

TEST_F(churn, made_cold)
{
	int i;

	start_load();
	for (i = 0; i < 10; i++) {
		const int ret = madvise(self->mem, BYTES, MADV_COLD);

		/* Pages of hugetlbfs are on no list that has an end */
		if (!backing_is_hugetlb(variant->backing))
			ASSERT_EQ(0, ret);
		usleep(20000);
	}
	expect_progress();
	finish_load();
}

TEST_F(churn, reclaimed_from_its_cgroup)
{
	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory that can be reclaimed");
	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!cgroup_start_reclaimable())
		SKIP(return, "needs: cgroup2 with memory.reclaim");
	ASSERT_TRUE(cgroup_join());
	start_load();
	/* It says EAGAIN if that is more than it gets */
	churn_until(sync(); cgroup_reclaim("512K"),
		    variant->backing == BACKING_FILE ? "nr_written" :
						       "pgsteal_anon");
	finish_load();
}

/* What another process does to the memory of this one, again and again */
static void advise(pid_t pid, u8 *mem, size_t bytes, int fd)
{
	const size_t part = bytes / 8;
	const int advice[] = { MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED };
	int pidfd = syscall(434 /* pidfd_open */, pid, 0);
	unsigned int i;
	long ret = 0;

	for (i = 0; i < 12 && pidfd >= 0 && ret >= 0; i++) {
		struct iovec range = { mem + i % 8 * part, part };

		ret = syscall(440 /* process_madvise */, pidfd, &range, 1UL,
			      advice[i % ARRAY_SIZE(advice)], 0);
		usleep(10000);
	}
	ret = pidfd < 0 || ret < 0 ? errno : 0;
	_exit(write(fd, &ret, sizeof(ret)) != sizeof(ret));
}

TEST_F(churn, advised_by_another_process)
{
	int pipes[2], status;
	long error = -1;
	pid_t child;

	if (backing_is_hugetlb(variant->backing))
		SKIP(return, "needs: memory that can be reclaimed");
	if (variant->backing != BACKING_FILE && !swap_start(self->swap))
		SKIP(return, "needs: swap");
	ASSERT_EQ(0, pipe(pipes));
	start_load();
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		advise(getppid(), self->mem, BYTES, pipes[1]);
	expect_progress();
	ASSERT_EQ(sizeof(error), read(pipes[0], &error, sizeof(error)));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	expect_progress();
	finish_load();
	EXPECT_EQ(0, error);
}

TEST_F(churn, forked_while_in_use)
{
	int i, status;

	start_load();
	for (i = 0; i < 5; i++) {
		pid_t child = fork();

		if (!child) {
			/* Private memory stands still in the child */
			u64 first = READ_ONCE(*quad(self->mem, 5));

			usleep(5000);
			_exit(!backing_is_shared(variant->backing) &&
			      first != READ_ONCE(*quad(self->mem, 5)));
		}
		ASSERT_LT(0, child);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
	}
	expect_progress();
	finish_load();
}

static bool set_block_state(long block, const char *state)
{
	char path[96];

	snprintf(path, sizeof(path), MEMORY_BLOCKS "memory%ld/state", block);
	return write_file(path, state);
}

/*
 * A memory block of node 1 that is put into the zone of what can be moved, where
 * pages that are moved to the node go first; -1 if there is none.
 */
static long make_movable_block(void)
{
	char path[96];
	long block;

	for (block = 1024; block--;) {
		snprintf(path, sizeof(path), MEMORY_BLOCKS "memory%ld/node1", block);
		if (access(path, F_OK) || !set_block_state(block, "offline"))
			continue;
		if (set_block_state(block, "online_movable"))
			return block;
		set_block_state(block, "online");
	}
	return -1;
}

static u64 pages_of_a_block(void)
{
	char text[32];

	if (!read_file(MEMORY_BLOCKS "block_size_bytes", text, sizeof(text)))
		return 0;
	return strtoull(text, NULL, 16) >> PAGE_SHIFT;
}

static size_t pages_in_block(u8 *mem, size_t pages, long block)
{
	const u64 size = pages_of_a_block();
	size_t i, n = 0;

	for (i = 0; i < pages; i++) {
		u64 pfn = page_pfn(quad(mem, i));

		n += pfn && pfn / size == block;
	}
	return n;
}

TEST_F_TIMEOUT(churn, memory_is_taken_off_line, 180)
{
	size_t i, before, after;
	long block;
	bool off;

	require_pagemap();
	if (numa_nodes() < 2 || !pages_of_a_block())
		SKIP(return, "needs: two NUMA nodes, and CONFIG_MEMORY_HOTREMOVE");
	for (i = 0; i < self->pages; i++)
		*quad(self->mem, i) = 1;
	block = make_movable_block();
	if (block < 0)
		SKIP(return, "needs: a memory block that can be taken off line");
	numa_move(self->mem, self->pages, 1);
	start_load();
	before = pages_in_block(self->mem, self->pages, block);
	off = set_block_state(block, "offline");
	after = pages_in_block(self->mem, self->pages, block);
	set_block_state(block, off ? "online_kernel" : "online");
	expect_progress();
	finish_load();
	/* Pages of the hugetlb pool come from where the pool has some */
	if (!backing_is_hugetlb(variant->backing))
		EXPECT_LT(0, before);
	if (before)
		EXPECT_TRUE(off);
	EXPECT_EQ(0, after);
}

/*
 * Memory that has gone bad, or is about to. Linux does not use such pages again
 * until the next boot, so that is for a machine that nobody needs.
 */
#define require_memory_errors(_advice) do { \
	require_oracle(); \
	require_pagemap(); \
	if (madvise(self->mem, 0, _advice)) \
		SKIP(return, "needs: CONFIG_MEMORY_FAILURE"); \
} while (0)

TEST_F_TIMEOUT(churn, pages_that_may_go_bad_are_replaced, 180)
{
	/* A huge page of the pool goes as a whole, and the pool has few of them */
	const size_t step = backing_is_hugetlb(variant->backing) ?
			    HUGE_PAGES : self->pages / 16;
	size_t nr, pages = 0, replaced = 0;
	int i, ret;
	u64 pfn;

	require_memory_errors(MADV_SOFT_OFFLINE);
	start_load();
	for (nr = 5; nr < self->pages; nr += step) {
		/* EBUSY: somebody else uses it just then */
		for (i = 0, ret = -1; ret && i < 20; i++) {
			pfn = page_pfn(quad(self->mem, nr));
			ret = madvise(quad(self->mem, nr), PAGE_SIZE,
				      MADV_SOFT_OFFLINE);
			if (ret)
				usleep(10000);
		}
		pages++;
		if (!ret && pfn) {
			EXPECT_NE(pfn, page_pfn(quad(self->mem, nr)));
			replaced++;
		}
	}
	/* Pages of a file that are being written back are busy, time and again */
	EXPECT_LE(variant->backing == BACKING_FILE ? 1 : pages / 2, replaced);
	expect_progress();
	finish_load();
}

static void nothing(int sig)
{
}

TEST_F(churn, page_that_is_bad_is_the_vmms_business)
{
	const bool hugetlb = backing_is_hugetlb(variant->backing);
	const size_t nr = HUGE_PAGES + 37, unit = hugetlb ? HUGE_PAGES : 1;
	const size_t first = nr / unit * unit, next = first + unit;
	const u64 gpa = TEST_GPA + nr * PAGE_SIZE;
	struct mshv_vp *vp = &self->pt.vp[0];
	struct sigaction action = { .sa_handler = nothing };
	u8 *other;

	if (variant->backing == BACKING_FILE)
		SKIP(return, "needs: memory that cannot be read again");
	require_memory_errors(MADV_HWPOISON);
	/* Who has the page is told by a signal */
	ASSERT_EQ(0, sigaction(SIGBUS, &action, NULL));
	test_guest(vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages, .rdx = 1);
	/* VPs that use other pages of the region notice nothing */
	ASSERT_TRUE(load_start(&self->load, &self->pt, TEST_GFN, HUGE_PAGES,
			       variant->vps));
	ASSERT_EQ(0, madvise(quad(self->mem, nr), PAGE_SIZE, MADV_HWPOISON));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + first, unit));
	expect_progress();
	EXPECT_EQ(0, load_stop(&self->load, self->mem));

	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(vp, GUEST_ADDR(guest_read), GUEST_ARGS(.rdi = gpa)));
	EXPECT_EQ(gpa, vp->msg.memory.guest_physical_address);
	EXPECT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(vp, GUEST_ADDR(guest_write), GUEST_ARGS(.rdi = gpa)));
	EXPECT_EQ(gpa, vp->msg.memory.guest_physical_address);
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + first, unit));
	/* Nor is anything of its neighbours lost; a huge page has none here */
	if (!hugetlb) {
		test_guest_result(0, vp, guest_check,
				  .rdi = TEST_GPA + HUGE_SIZE,
				  .rsi = first - HUGE_PAGES,
				  .rdx = 1 + HUGE_PAGES);
		test_guest_result(0, vp, guest_check,
				  .rdi = TEST_GPA + next * PAGE_SIZE,
				  .rsi = self->pages - next, .rdx = 1 + next);
	}

	/* A VMM that puts another page there lets the guest go on */
	other = mmap(quad(self->mem, first), unit * PAGE_SIZE,
		     PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ((void *)quad(self->mem, first), other);
	test_guest(vp, guest_write, .rdi = gpa, .rsi = VALUE);
	EXPECT_EQ(VALUE, *quad(self->mem, nr));
	EXPECT_EQ(0, check_mirror(vp, TEST_GFN, self->mem, self->pages, SLAT_RWX));
}

/*
 * Huge pages that come by themselves, and others
 */
FIXTURE(huge)
{
	struct mshv_pt pt;
	struct load load;
	u8 *mem;
	size_t pages;
	int kmsg;
};

FIXTURE_VARIANT(huge)
{
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(huge, one_vp) { .vps = 1 };
FIXTURE_VARIANT_ADD(huge, three_vps) { .vps = 3 };

FIXTURE_SETUP(huge)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_THP, BYTES);
	if (!self->mem)
		SKIP(return, "needs: transparent huge pages");
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_NOHUGEPAGE));
	test_pt_setup(&self->pt, variant->vps);
}

FIXTURE_TEARDOWN(huge)
{
	load_stop(&self->load, NULL);
	test_pt_close(&self->pt);
	mshv_free(self->mem, BYTES);
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

static unsigned int large_chunks(struct mshv_pt *pt, size_t pages)
{
	struct oracle_slat entry = {};
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < pages; i += HUGE_PAGES)
		n += !oracle_slat(pt->id, TEST_GFN + i, &entry) &&
		     SLAT_SIZE(entry.flags) == 1;
	return n;
}

TEST_F_TIMEOUT(huge, khugepaged_collapses_memory_in_use, 180)
{
	long before;
	int i;

	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX);
	start_load();
	if (oracle_present())
		EXPECT_EQ(0, large_chunks(&self->pt, self->pages));
	if (!setting_set(KHUGEPAGED "scan_sleep_millisecs", "10"))
		skip_rest("needs: khugepaged");
	setting_set(KHUGEPAGED "alloc_sleep_millisecs", "10");
	setting_set(KHUGEPAGED "pages_to_scan", "4096");
	setting_set(KHUGEPAGED "defrag", "1");
	before = vmstat("thp_collapse_alloc");
	if (oracle_present())
		oracle_reset();
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_HUGEPAGE));
	for (i = 0; i < 500 && vmstat("thp_collapse_alloc") < before + 2; i++) {
		/* It wants to see that somebody uses the memory */
		READ_ONCE(*quad(self->mem, 3));
		READ_ONCE(*quad(self->mem, HUGE_PAGES + 3));
		usleep(10000);
	}
	settings_restore();
	EXPECT_LT(before, vmstat("thp_collapse_alloc"));
	expect_progress();
	/* Unless the hypervisor refuses large entries where small ones were */
	if (oracle_present() && !map_counter().failures)
		EXPECT_LT(0, large_chunks(&self->pt, self->pages));
	finish_load();
}

/* Folios of 64 KiB, more than a page and less than a large entry, of shared memory */
TEST_F(huge, shared_folios_of_64_kib)
{
	size_t i;

	mshv_free(self->mem, BYTES);
	self->mem = NULL;
	if (!setting_set(THP "hugepages-64kB/shmem_enabled", "always"))
		SKIP(return, "needs: shared memory in folios of 64 KiB");
	/* Of files, memfd included, the file system decides */
	self->mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX);
	start_load();
	expect_progress();
	EXPECT_LT(self->pages / 16 / 2, folios_of_64_kib(self->mem, self->pages));
	/* The second half of each goes; its VP is told to write it again */
	for (i = 8; i < self->pages; i += 16)
		madvise(quad(self->mem, i), 8 * PAGE_SIZE, MADV_DONTNEED);
	expect_progress();
	finish_load();
	settings_restore();

	/* For good, with a hole punched in each folio */
	for (i = 8; i < self->pages; i += 16)
		ASSERT_EQ(0, madvise(quad(self->mem, i), 8 * PAGE_SIZE,
				     MADV_REMOVE));
	for (i = 8; i < self->pages; i += 16)
		EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN + i, 8));
	for (i = 0; i < 64; i++) {
		u64 guest = 0;

		ASSERT_EQ(0, guest_call(&self->pt.vp[0], guest_read,
					GUEST_ARGS(.rdi = TEST_GPA +
						   i * PAGE_SIZE), &guest));
		EXPECT_EQ(i % 16 < 8, guest != 0);
		EXPECT_EQ(guest, *quad(self->mem, i));
	}
	EXPECT_EQ(0, check_mirror(&self->pt.vp[0], TEST_GFN, self->mem,
				  self->pages, SLAT_RWX));
}

/* Part of a huge page is another page from before it becomes a region */
TEST_F(huge, page_with_a_hole_is_mapped_as_it_is)
{
	size_t i;

	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_HUGEPAGE));
	fill_pages(self->mem, self->pages, 1);
	for (i = 7; i < self->pages; i += 100) {
		ASSERT_EQ(0, madvise(quad(self->mem, i), PAGE_SIZE,
				     MADV_DONTNEED));
		*quad(self->mem, i) = i + 1;
	}
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX);
	for (i = 0; i < variant->vps; i++)
		test_guest_result(0, &self->pt.vp[i], guest_check,
				  .rdi = TEST_GPA, .rsi = self->pages, .rdx = 1);
	start_load();
	expect_progress();
	finish_load();
}

TEST_HARNESS_MAIN
