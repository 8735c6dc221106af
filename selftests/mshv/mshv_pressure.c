// SPDX-License-Identifier: GPL-2.0
/*
 * Movable regions where memory is short, far away, or not to be had: limits of a
 * memory cgroup, swap, the OOM killer, NUMA nodes, allocations that fail.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define DEBUGFS		"/sys/kernel/debug/"

FIXTURE(pressure)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
	long pins;
	int kmsg;
	char swap[SWAP_NAME];
};

FIXTURE_SETUP(pressure)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_feature(FEATURE_MOVABLE);
	self->kmsg = kmsg_open();
	self->pins = pin_balance();
	self->pages = 16 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_ANON, self->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(pressure)
{
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	settings_restore();
	swap_stop(self->swap);
	cgroup_stop();
	EXPECT_EQ(self->pins, pin_balance());
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

#define BYTES		(self->pages * PAGE_SIZE)

#define create_region() do { \
	test_pt_setup(&self->pt, 2); \
	self->vp = &self->pt.vp[0]; \
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX); \
} while (0)

#define CHECK() do { \
	if (oracle_present() && pagemap_usable()) \
		test_slat(&self->pt, TEST_GFN, self->mem, self->pages, \
			  SLAT_RWX, false); \
} while (0)

/* A guest twice the size of what it may have: each round all of it goes and comes */
TEST_F_TIMEOUT(pressure, guest_is_twice_as_large_as_its_limit, 500)
{
	const u64 rounds = 4 * test_scale();
	u64 round;

	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!cgroup_start("16M", "max", "max"))
		SKIP(return, "needs: cgroup2 with the memory controller");
	create_region();
	ASSERT_TRUE(cgroup_join());
	for (round = 1; round <= rounds; round++) {
		test_guest(self->vp, guest_fill, .rdi = TEST_GPA,
			   .rsi = self->pages, .rdx = round << 32);
		/* What cannot be there has gone, and comes back as it was */
		ASSERT_GT(self->pages * 2 / 3, resident(self->mem, self->pages));
		ASSERT_LT(8 << 10, read_field("/proc/self/status", "VmSwap"));
		test_guest_result(0, &self->pt.vp[round % 2], guest_check,
				  .rdi = TEST_GPA, .rsi = self->pages,
				  .rdx = round << 32);
		CHECK();
	}
	for (round = 0; round < self->pages; round++)
		ASSERT_EQ((rounds << 32) + round, *quad(self->mem, round));
	CHECK();
}

/* The VMM is killed in a fault of its guest */
TEST_F_TIMEOUT(pressure, vmm_out_of_memory_leaves_nothing, 300)
{
	long partitions = 0;
	int status;
	pid_t child;

	if (!cgroup_start("max", "16M", "0"))
		SKIP(return, "needs: cgroup2 with the memory controller");
	if (oracle_present())
		partitions = oracle_partitions();
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct mshv_pt pt;

		if (mshv_pt_setup(&pt, 1) ||
		    mshv_map(&pt, TEST_GFN, self->mem, BYTES, MEM_RWX) ||
		    !cgroup_join())
			_exit(1);
		guest_call(&pt.vp[0], guest_fill,
			   GUEST_ARGS(.rdi = TEST_GPA, .rsi = self->pages), NULL);
		_exit(2);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		TH_LOG("status %#x", status);
	}
	if (oracle_present())
		EXPECT_EQ(partitions, oracle_partitions());
	/* And the next one has all it needs */
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
}

TEST_F_TIMEOUT(pressure, pages_change_nodes_under_running_vps, 300)
{
	const size_t nr = HUGE_PAGES;
	struct guest_thread thread;
	size_t moved = 0;
	int round;
	u64 seen;

	if (numa_nodes() < 2)
		SKIP(return, "needs: two NUMA nodes");
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	ASSERT_EQ(0, guest_thread_start(&thread, &self->pt.vp[1], guest_count,
					GUEST_ARGS(.rdi = TEST_GPA + 8,
						   .rsi = MAILBOX_GPA(0))));
	for (round = 0; round < 20; round++) {
		moved += numa_move(self->mem, nr, round % 2);
		seen = READ_ONCE(quad(self->mem, 0)[1]);
		ASSERT_TRUE(wait_for_change(&quad(self->mem, 0)[1], seen, 10000));
	}
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	/* One may be looked at by somebody else just then */
	EXPECT_LE(20 * nr - 20 * 16, moved);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	CHECK();
}

/* The kernel wants to know who uses which page, and takes them away to see */
TEST_F_TIMEOUT(pressure, numa_balancing_under_a_running_vp, 300)
{
	struct guest_thread thread;
	u64 scheduler = ORACLE_SCHEDULER_ROOT;
	long updates;
	int i;
	u64 seen;

	if (oracle_present())
		ASSERT_EQ(0, oracle_scheduler(&scheduler));
	/* Otherwise it seems to use hardly any CPU, and is left alone */
	if (scheduler != ORACLE_SCHEDULER_ROOT)
		SKIP(return, "needs: the root scheduler");
	if (numa_nodes() < 2 || !setting_set("/proc/sys/kernel/numa_balancing", "1"))
		SKIP(return, "needs: two NUMA nodes and CONFIG_NUMA_BALANCING");
	setting_set(DEBUGFS "sched/numa_balancing/scan_delay_ms", "10");
	setting_set(DEBUGFS "sched/numa_balancing/scan_period_min_ms", "10");
	setting_set(DEBUGFS "sched/numa_balancing/scan_period_max_ms", "100");
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	updates = vmstat("numa_pte_updates");
	ASSERT_EQ(0, guest_thread_start(&thread, &self->pt.vp[1], guest_count,
					GUEST_ARGS(.rdi = TEST_GPA + 8,
						   .rsi = MAILBOX_GPA(0))));
	for (i = 0; i < 100; i++) {
		seen = READ_ONCE(quad(self->mem, 0)[1]);
		ASSERT_TRUE(wait_for_change(&quad(self->mem, 0)[1], seen, 10000));
		usleep(20000);
	}
	updates = vmstat("numa_pte_updates") - updates;
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	settings_restore();
	/* All of it at least once, or nothing was tried */
	EXPECT_LT(self->pages, updates);
	test_guest_result(0, self->vp, guest_check, .rdi = TEST_GPA,
			  .rsi = self->pages, .rdx = 1);
	CHECK();
}

/* Folios of 64 KiB: more than a page, less than a large entry */
TEST_F(pressure, folios_of_64_kib)
{
	size_t i;

	if (!setting_set(THP "hugepages-2048kB/enabled", "never") ||
	    !setting_set(THP "hugepages-64kB/enabled", "always"))
		SKIP(return, "needs: transparent huge pages of 64 KiB");
	ASSERT_EQ(0, munmap(self->mem, BYTES));
	self->mem = mmap(self->mem, BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	settings_restore();
	if (pagemap_usable())
		EXPECT_LT(self->pages / 16 / 2,
			  folios_of_64_kib(self->mem, self->pages));
	for (i = 0; i < self->pages; i++)
		ASSERT_EQ(i + 1, *quad(self->mem, i));
	CHECK();
	/* Half of each is taken away, from the middle on */
	for (i = 8; i < self->pages; i += 16)
		ASSERT_EQ(0, madvise(quad(self->mem, i), 8 * PAGE_SIZE, MADV_DONTNEED));
	CHECK();
	for (i = 0; i < 64; i++)
		test_guest_result(i % 16 < 8 ? i + 1 : 0, self->vp, guest_read,
				  .rdi = TEST_GPA + i * PAGE_SIZE);
	CHECK();
}

/*
 * Every allocation fails once, as /proc/thread-self/fail-nth has it: the n-th of
 * those that this thread makes from when it is written.
 */
static bool fail_nth(unsigned int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	return write_file("/proc/thread-self/fail-nth", text);
}

/* Was there an n-th one? */
static bool has_failed(void)
{
	char text[16];
	bool failed = read_file("/proc/thread-self/fail-nth", text, sizeof(text)) &&
		      atoi(text) == 0;

	fail_nth(0);
	return failed;
}

/*
 * Allocations fail, of threads that ask for it. What is to be there only once is, and
 * this process needs no memory.
 */
#define require_failures() do { \
	static const char * const _kinds[] = { "failslab", "fail_page_alloc" }; \
	unsigned int _i; \
	\
	for (_i = 0; _i < ARRAY_SIZE(_kinds); _i++) \
		if (!fail_set(_kinds[_i], "ignore-gfp-wait", "N") || \
		    !fail_set(_kinds[_i], "verbose", "0")) \
			SKIP(return, "needs: CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC"); \
	fail_set("fail_page_alloc", "min-order", "0"); \
	ASSERT_EQ(0, mlockall(MCL_CURRENT)); \
	ASSERT_EQ(0, munlock(self->mem, BYTES)); \
	ASSERT_EQ(0, mshv_live(self->mem, LIVE_PAGES)); \
} while (0)

#define LIVE_PAGES	64

/* Nothing is lost, and everything works */
#define expect_nothing_lost(_before) do { \
	struct oracle_totals _after = {}; \
	\
	EXPECT_EQ(0, mshv_live(self->mem, LIVE_PAGES)); \
	if (oracle_present()) { \
		oracle_totals(&_after); \
		EXPECT_EQ((_before).deposited - (_before).withdrawn, \
			  _after.deposited - _after.withdrawn); \
		EXPECT_EQ((_before).leaks, _after.leaks); \
	} \
	munlockall(); \
} while (0)

static bool fail_set(const char *kind, const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", kind, name);
	return setting_set(path, value);
}

TEST_F_TIMEOUT(pressure, every_allocation_fails_once, 280)
{
	struct oracle_totals before = {};
	unsigned int n, failures = 0, errors = 0;
	long partitions = 0;

	require_failures();
	if (!fail_nth(0))
		SKIP(return, "needs: CONFIG_FAULT_INJECTION");
	oracle_totals(&before);
	if (oracle_present())
		partitions = oracle_partitions();
	for (n = 1; n < 5000; n++) {
		int ret;

		ASSERT_TRUE(fail_nth(n));
		ret = mshv_live(self->mem, LIVE_PAGES);
		if (!has_failed())
			break;
		failures++;
		errors += !!ret;
		if (oracle_present())
			ASSERT_EQ(partitions, oracle_partitions()) {
				TH_LOG("after failure %u, which gave %d", n, ret);
			}
	}
	TH_LOG("%u allocations failed, %u times the VMM saw an error", failures, errors);
	EXPECT_LT(50, failures);
	EXPECT_GT(5000, n);
	EXPECT_LT(0, errors);
	expect_nothing_lost(before);
}

/* What could not be made is not taken for a file descriptor, which 0 would be */
TEST_F_TIMEOUT(pressure, vp_without_memory_is_an_error, 120)
{
	unsigned int n;
	int fd;

	require_failures();
	if (!fail_nth(0))
		SKIP(return, "needs: CONFIG_FAULT_INJECTION");
	for (n = 1; n < 100; n++) {
		struct mshv_pt pt;
		bool failed;

		ASSERT_EQ(0, mshv_pt_active(&pt));
		ASSERT_TRUE(fail_nth(n));
		fd = mshv_create_vp(pt.fd, 0);
		failed = has_failed();
		EXPECT_TRUE(fd < 0 || fd > STDERR_FILENO) {
			TH_LOG("after failure %u: %d", n, fd);
		}
		if (fd > STDERR_FILENO)
			close(fd);
		mshv_pt_close(&pt);
		if (!failed)
			break;
	}
	EXPECT_LT(5, n);
	EXPECT_GT(100, n);
	munlockall();
}

/* The hypervisor wants memory for a fault, and there is none: the VMM is told */
TEST_F_TIMEOUT(pressure, allocations_of_a_deposit_fail_in_a_fault, 120)
{
	const struct guest_args args = { .rdi = TEST_GPA + 700 * PAGE_SIZE };
	struct oracle_totals before = {}, dry, after;
	long message;
	int fd;

	require_oracle();
	require_failures();
	if (!fail_set("fail_page_alloc", "task-filter", "Y") ||
	    !fail_set("fail_page_alloc", "times", "-1") ||
	    !fail_set("fail_page_alloc", "probability", "100"))
		SKIP(return, "needs: CONFIG_FAULT_INJECTION_DEBUG_FS");
	fd = open("/proc/self/make-it-fail", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "needs: CONFIG_FAULT_INJECTION");
	/* To lock it has populated it */
	ASSERT_EQ(0, madvise(self->mem, BYTES, MADV_DONTNEED));
	oracle_totals(&before);
	create_region();
	/* The fault itself takes no page */
	test_guest(self->vp, guest_write, .rdi = TEST_GPA, .rsi = 1);
	*quad(self->mem, 700) = 77;
	oracle_totals(&dry);
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_INSUFFICIENT_MEMORY,
				   0, ORACLE_INJECT_FOREVER));
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_read), args));
	/* So many pages may be had, for what the fault needs itself */
	ASSERT_TRUE(fail_set("fail_page_alloc", "space", "16"));
	ASSERT_EQ(1, pwrite(fd, "1", 1, 0));
	message = mshv_run(self->vp);
	ASSERT_EQ(1, pwrite(fd, "0", 1, 0));
	EXPECT_LT(0, oracle_injected(HVCALL_MAP_GPA_PAGES));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	EXPECT_TRUE(is_memory_intercept(message)) {
		TH_LOG("it is %#lx", message);
	}
	EXPECT_FALSE(accessible(&self->pt, TEST_GFN + 700));
	oracle_totals(&after);
	EXPECT_EQ(dry.deposited, after.deposited);

	/* Now there is some, and the guest goes on */
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_INSUFFICIENT_MEMORY,
				   0, 0));
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	oracle_totals(&after);
	EXPECT_LT(dry.deposited, after.deposited);
	test_guest_result(77, self->vp, guest_read, .rdi = args.rdi);
	CHECK();
	close(fd);
	test_pt_close(&self->pt);
	expect_nothing_lost(before);
}

/* ... and several in one life: what makes up for the first one fails as well */
TEST_F_TIMEOUT(pressure, allocations_fail_at_random, 280)
{
	static const char * const percent[] = { "1", "3", "10", "30" };
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	unsigned int lives = 0, errors = 0, i, k, n;
	struct oracle_totals before = {};
	long partitions = 0;
	int fd;

	require_failures();
	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		if (!fail_set(kinds[k], "task-filter", "Y") ||
		    !fail_set(kinds[k], "times", "-1"))
			SKIP(return, "needs: CONFIG_FAULT_INJECTION_DEBUG_FS");
	/* It takes no memory to write to it */
	fd = open("/proc/self/make-it-fail", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "needs: CONFIG_FAULT_INJECTION");
	oracle_totals(&before);
	if (oracle_present())
		partitions = oracle_partitions();
	for (i = 0; i < ARRAY_SIZE(percent); i++) {
		for (k = 0; k < ARRAY_SIZE(kinds); k++)
			ASSERT_TRUE(fail_set(kinds[k], "probability", percent[i]));
		for (n = 0; n < 25; n++) {
			int ret;

			ASSERT_EQ(1, pwrite(fd, "1", 1, 0));
			ret = mshv_live(self->mem, LIVE_PAGES);
			ASSERT_EQ(1, pwrite(fd, "0", 1, 0));
			lives++;
			errors += !!ret;
			if (oracle_present())
				ASSERT_EQ(partitions, oracle_partitions()) {
					TH_LOG("after life %u, which gave %d", lives, ret);
				}
		}
	}
	close(fd);
	TH_LOG("%u lives, %u ended with an error", lives, errors);
	EXPECT_LT(10, errors);
	EXPECT_GT(lives, errors);
	expect_nothing_lost(before);
}

TEST_HARNESS_MAIN
