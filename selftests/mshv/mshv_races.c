// SPDX-License-Identifier: GPL-2.0
/*
 * Two things at once that must not meet in the middle: a fault and the end of its
 * region, of its memory, of its process; a signal and the creation of a region; and
 * a VMM that is killed whatever it is doing.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

FIXTURE(races)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t pages;
	int kmsg;
};

FIXTURE_VARIANT(races)
{
	enum mshv_backing backing;
};

FIXTURE_VARIANT_ADD(races, anon) { .backing = BACKING_ANON };
FIXTURE_VARIANT_ADD(races, thp) { .backing = BACKING_THP };
FIXTURE_VARIANT_ADD(races, memfd) { .backing = BACKING_MEMFD };

FIXTURE_SETUP(races)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->kmsg = kmsg_open();
	require_feature(FEATURE_MOVABLE);
	self->pages = 2 * HUGE_PAGES;
	self->mem = mshv_alloc(variant->backing, self->pages * PAGE_SIZE);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(races)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
	EXPECT_EQ(0, kmsg_complaints(self->kmsg));
}

#define BYTES		(self->pages * PAGE_SIZE)

#define create_region() \
	test_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX)

#define CHECK() \
	EXPECT_EQ(0, check_mirror(self->vp, TEST_GFN, self->mem, self->pages, \
				  SLAT_RWX))

/* A VP that fills all of a region again and again, until it is told to stop */
struct filler {
	struct mshv_vp *vp;
	size_t pages;
	u64 rounds;
	bool stop;
	long ret;
	pthread_t thread;
};

static void *fill(void *arg)
{
	struct filler *filler = arg;
	struct guest_args args = { .rdi = TEST_GPA, .rsi = filler->pages };

	while (!filler->ret && !READ_ONCE(filler->stop)) {
		args.rdx = filler->rounds;
		filler->ret = guest_call(filler->vp, guest_fill, args, NULL);
		WRITE_ONCE(filler->rounds, filler->rounds + 1);
	}
	return NULL;
}

static bool filler_start(struct filler *filler, struct mshv_vp *vp, size_t pages)
{
	*filler = (struct filler){ .vp = vp, .pages = pages };
	return !pthread_create(&filler->thread, NULL, fill, filler);
}

/* A thread that discards memory all the time */
struct discarder {
	u8 *mem;
	size_t bytes;
	int advice;
	bool stop;
	u64 rounds;
	pthread_t thread;
};

static void *discard(void *arg)
{
	struct discarder *discarder = arg;
	const unsigned int pause = test_pause();

	while (!READ_ONCE(discarder->stop)) {
		madvise(discarder->mem, discarder->bytes, discarder->advice);
		WRITE_ONCE(discarder->rounds, discarder->rounds + 1);
		if (pause)
			usleep(pause);
	}
	return NULL;
}

static bool discarder_start(struct discarder *discarder, u8 *mem, size_t bytes,
			    int advice)
{
	*discarder = (struct discarder){
		.mem = mem, .bytes = bytes, .advice = advice,
	};
	return !pthread_create(&discarder->thread, NULL, discard, discarder);
}

/*
 * Memory that is discarded all the time. A fault has to find the moment in which it is
 * not: that is luck, of which a slow kernel (KCSAN) has had none for 20 seconds.
 */
#define STANDSTILL_MS	100000

TEST_F_TIMEOUT(races, vp_gets_on_while_its_memory_is_discarded, 600)
{
	const u64 start = now_ms(), length = 2000 * test_scale();
	struct discarder discarder;
	struct guest_thread thread;
	u64 *alive = mailbox_ptr(&self->pt, 1);
	u64 longest = 0;

	create_region();
	ASSERT_TRUE(discarder_start(&discarder, self->mem, BYTES,
				    discard_advice(variant->backing)));
	/* Each of its rounds takes a page that has gone, and one that stays */
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_count,
					GUEST_ARGS(.rdi = MAILBOX_GPA(1),
						   .rsi = TEST_GPA + 5 * PAGE_SIZE)));
	while (now_ms() - start < length) {
		u64 rounds = READ_ONCE(discarder.rounds), since = now_ms();

		ASSERT_TRUE(wait_for_change(alive, READ_ONCE(*alive), STANDSTILL_MS));
		since = now_ms() - since;
		if (since > longest)
			longest = since;
		ASSERT_TRUE(wait_for_change(&discarder.rounds, rounds, 5000));
	}
	TH_LOG("the VP stood still for %llu ms at most", longest);
	WRITE_ONCE(discarder.stop, true);
	pthread_join(discarder.thread, NULL);
	WRITE_ONCE(*quad(self->mem, 5), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	CHECK();
}

static void no_action(int sig)
{
}

/*
 * A VP in a process of its own, while another one discards its memory: what ends that
 * process does not end the discarding
 */
TEST_F_TIMEOUT(races, who_runs_the_vp_is_stopped_while_memory_is_discarded, 600)
{
	const int signals[] = { SIGKILL, SIGUSR1 };
	const struct sigaction action = { .sa_handler = no_action };
	u64 *alive = mailbox_ptr(&self->pt, 1);
	struct discarder discarder;
	unsigned int i, round;
	int status;
	pid_t child;
	u64 start;

	create_region();
	for (round = 0; round < 4; round++) {
		i = round % ARRAY_SIZE(signals);
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			long ret;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sigaction(SIGUSR1, &action, NULL);
			ret = guest_prepare(self->vp, GUEST_ADDR(guest_count),
					    GUEST_ARGS(.rdi = MAILBOX_GPA(1),
						       .rsi = TEST_GPA + 5 * PAGE_SIZE));
			if (!ret)
				ret = mshv_run_once(self->vp);
			_exit(ret == -EINTR ? 0 : 1);
		}
		ASSERT_TRUE(wait_for_change(alive, READ_ONCE(*alive), STANDSTILL_MS));
		/* It is the VMM's own thread, and it goes on */
		ASSERT_TRUE(discarder_start(&discarder, self->mem, BYTES,
					    discard_advice(variant->backing)));
		ASSERT_TRUE(wait_for_change(&discarder.rounds, 0, 5000));
		ASSERT_TRUE(wait_for_change(alive, READ_ONCE(*alive), STANDSTILL_MS));
		start = now_ms();
		ASSERT_EQ(0, kill(child, signals[i]));
		status = reap(child, 10000);
		ASSERT_NE(-1, status);
		/* A fault that meets an invalidation is tried for a second at most */
		EXPECT_GT(3000, now_ms() - start);
		EXPECT_EQ(signals[i] == SIGKILL ? SIGKILL : 0, status);
		WRITE_ONCE(discarder.stop, true);
		pthread_join(discarder.thread, NULL);
	}
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	CHECK();
}

/* All that a VMM may be doing at the same time; does not return */
static void do_everything(enum mshv_backing backing, u8 *mem, size_t pages, int fd)
{
	const size_t bytes = pages * PAGE_SIZE, half = bytes / 2;
	struct discarder discarder;
	struct filler fillers[2];
	struct mshv_pt pt;
	unsigned int i;
	u8 *other;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	other = mshv_alloc(backing, half);
	if (!other || mshv_pt_setup(&pt, 2) ||
	    mshv_map(&pt, TEST_GFN, mem, bytes, MEM_RWX) ||
	    !filler_start(&fillers[0], &pt.vp[0], pages) ||
	    !filler_start(&fillers[1], &pt.vp[1], pages) ||
	    !discarder_start(&discarder, mem + half, half,
			     discard_advice(backing)) ||
	    write(fd, "y", 1) != 1)
		_exit(1);
	for (i = 0;; i++) {
		const u64 gfn = TEST_GFN + 4 * pages;

		switch (i % 6) {
		case 0:
			mshv_map(&pt, gfn, other, half, MEM_RWX);
			break;
		case 1:
			mprotect(mem, half, PROT_READ);
			mprotect(mem, half, PROT_READ | PROT_WRITE);
			break;
		case 2:
			if (!fork())
				_exit(0);
			break;
		case 3:
			madvise(mem, half, MADV_COLLAPSE);
			break;
		case 4:
			mshv_unmap(&pt, gfn, other, half);
			break;
		case 5:
			madvise(mem, half, MADV_PAGEOUT);
			break;
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

TEST_F_TIMEOUT(races, vmm_is_killed_in_the_middle_of_everything, 600)
{
	const int rounds = 8 * test_scale();
	struct oracle_totals before = {}, after = {};
	long partitions = 0, pins = pin_balance();
	int pipes[2], i, status;
	u64 start;
	pid_t child;
	char c;

	if (oracle_present()) {
		partitions = oracle_partitions();
		ASSERT_EQ(0, oracle_totals(&before));
	}
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, pipe(pipes));
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			close(pipes[0]);
			do_everything(variant->backing, self->mem, self->pages,
				      pipes[1]);
		}
		close(pipes[1]);
		ASSERT_EQ(1, read(pipes[0], &c, 1));
		close(pipes[0]);
		usleep(i * 37633 % 100000);
		start = now_ms();
		ASSERT_EQ(0, kill(child, SIGKILL));
		status = reap(child, 10000);
		ASSERT_NE(-1, status);
		EXPECT_TRUE(WIFSIGNALED(status));
		/* Faults, and what keeps them from succeeding, end at once */
		EXPECT_GT(3000, now_ms() - start);
	}
	if (oracle_present()) {
		/* The last reference of an mm may be dropped by a worker */
		for (i = 0; i < 500 && oracle_partitions() != partitions; i++)
			usleep(10000);
		EXPECT_EQ(partitions, oracle_partitions());
		ASSERT_EQ(0, oracle_totals(&after));
		EXPECT_EQ(before.leaks, after.leaks);
		EXPECT_EQ(before.deposited - before.withdrawn,
			  after.deposited - after.withdrawn);
	}
	EXPECT_EQ(pins, pin_balance());
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	CHECK();
}

/*
 * The end of a process that others run VPs for
 */

/* Sits on the partition of its parent, and runs the VP when that exits */
static int outlive(struct mshv_pt *pt, u8 *mem, size_t pages, int fd)
{
	struct guest_args args = { .rdi = TEST_GPA, .rsi = pages };
	int wrong = 0, i;
	long ret, left;

	if (write(fd, "y", 1) != 1)
		return 64;
	do {
		ret = guest_run(&pt->vp[0], GUEST_ADDR(guest_fill), args);
	} while (ret == HVMSG_X64_HALT);
	if (!is_memory_intercept(ret) && ret != -EFAULT && ret != -EIO)
		wrong |= 1;
	/* It stays like that: nothing comes back, and soon nothing is left */
	for (i = 0; i < 500; i++) {
		ret = guest_run(&pt->vp[0], GUEST_ADDR(guest_fill), args);
		if (ret == HVMSG_X64_HALT)
			wrong |= 2;
		left = accessible_pages(pt, TEST_GFN, pages) +
		       accessible_pages(pt, GUEST_SYS_GFN, GUEST_SYS_PAGES);
		if (!left)
			break;
		usleep(10000);
	}
	if (left)
		wrong |= 4;
	if (mshv_unmap(pt, TEST_GFN, mem, pages * PAGE_SIZE))
		wrong |= 8;
	if (oracle_present() && oracle_mapped(pt->id, TEST_GFN,
					      TEST_GFN + pages - 1))
		wrong |= 16;
	return wrong;
}

TEST_F_TIMEOUT(races, parent_exits_while_its_child_runs_the_vp, 600)
{
	const int rounds = 8 * test_scale();
	int pipes[2], round, status;
	pid_t parent;
	char c;

	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	for (round = 0; round < rounds; round++) {
		ASSERT_EQ(0, pipe(pipes));
		parent = fork();
		ASSERT_LE(0, parent);
		if (!parent) {
			struct mshv_pt pt;
			pid_t child;

			if (mshv_pt_setup(&pt, 1) ||
			    mshv_map(&pt, TEST_GFN, self->mem, BYTES, MEM_RWX))
				_exit(1);
			child = fork();
			if (!child)
				_exit(outlive(&pt, self->mem, self->pages,
					      pipes[1]));
			if (child < 0 || read(pipes[0], &c, 1) != 1)
				_exit(1);
			/* In the middle of a fault, more or less */
			usleep(round * 7919 % 30000);
			_exit(0);
		}
		status = reap(parent, 20000);
		EXPECT_EQ(0, status);
		status = reap(-1, 20000);
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(0, WEXITSTATUS(status));
		close(pipes[0]);
		close(pipes[1]);
	}
}

/*
 * The end of a region
 */

static long slat_check_if_possible(struct mshv_pt *pt, u64 gfn, u8 *mem,
				   size_t pages)
{
	if (!oracle_present() || !pagemap_usable())
		return 0;
	return slat_check(pt, gfn, mem, pages, SLAT_RWX, false);
}

/* A page that comes at the very moment that its region goes */
struct supply {
	int fd, usec;
	struct uffdio_copy copy;
};

static void *supply_page(void *arg)
{
	struct supply *supply = arg;

	usleep(supply->usec);
	ioctl(supply->fd, UFFDIO_COPY, &supply->copy);
	return NULL;
}

TEST_F_TIMEOUT(races, unmap_meets_the_page_a_fault_waits_for, 180)
{
	u8 *page = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	u8 *other = mshv_alloc(BACKING_ANON, HUGE_SIZE);
	struct guest_thread thread;
	struct supply supply = {};
	int round, fd, delay;
	pthread_t supplier;

	ASSERT_NE(NULL, page);
	ASSERT_NE(NULL, other);
	fd = uffd_open(self->mem, self->pages, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "needs: userfaultfd");
	for (round = 0; round < 24; round++) {
		const size_t nr = round * 40;
		const u64 gpa = TEST_GPA + nr * PAGE_SIZE;

		*quad(page, 0) = 1;
		*quad(other, 0) = VALUE + round;
		create_region();
		ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_read,
						GUEST_ARGS(.rdi = gpa)));
		/* The page of a huge page is asked for as a whole */
		ASSERT_NE(0, uffd_fault(fd));
		supply.fd = fd;
		supply.usec = round % 3 * 100;
		supply.copy = (struct uffdio_copy){
			.dst = (uintptr_t)quad(self->mem, nr),
			.src = (uintptr_t)page, .len = PAGE_SIZE,
		};
		ASSERT_EQ(0, pthread_create(&supplier, NULL, supply_page, &supply));
		delay = round / 3 * 50;
		usleep(delay);
		test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
		if (oracle_present())
			test_slat_empty(&self->pt, TEST_GFN, self->pages);
		/* Another region at the same place, at once or after the page */
		if (round % 2)
			pthread_join(supplier, NULL);
		test_map(&self->pt, TEST_GFN + nr, other, HUGE_SIZE, MEM_RWX);
		if (!(round % 2))
			pthread_join(supplier, NULL);
		/* It read in one of them, or in between, and is told so */
		switch (guest_thread_join(&thread)) {
		case HVMSG_X64_HALT:
			EXPECT_TRUE(thread.rax == 1 || thread.rax == VALUE + round) {
				TH_LOG("%#llx", (unsigned long long)thread.rax);
			}
			break;
		case HVMSG_UNMAPPED_GPA:
		case HVMSG_GPA_INTERCEPT:
			break;
		default:
			EXPECT_EQ(HVMSG_X64_HALT, thread.ret);
		}
		/* From now on there is but one, and for ever */
		usleep(1000);
		test_guest_result(VALUE + round, self->vp, guest_read, .rdi = gpa);
		EXPECT_EQ(0, slat_check_if_possible(&self->pt, TEST_GFN + nr,
						    other, HUGE_PAGES));
		test_unmap(&self->pt, TEST_GFN + nr, other, HUGE_SIZE);
	}
	close(fd);
	mshv_free(page, PAGE_SIZE);
	mshv_free(other, HUGE_SIZE);
}

/* A VP that goes on whatever becomes of its memory, and counts what does */
struct restless {
	struct mshv_vp *vp;
	struct guest_args args;
	u64 intercepts;
	bool stop;
	long ret;
};

static void *run_restless(void *arg)
{
	struct restless *restless = arg;

	while (!READ_ONCE(restless->stop)) {
		restless->ret = guest_run(restless->vp, GUEST_ADDR(guest_fill),
					  restless->args);
		if (is_memory_intercept(restless->ret))
			WRITE_ONCE(restless->intercepts, restless->intercepts + 1);
		else if (restless->ret != HVMSG_X64_HALT)
			return NULL;
		restless->ret = 0;
		/* Leave the partition to the other threads for a while */
		usleep(100);
	}
	return NULL;
}

/* Do both find that the region is gone, within 5 s? */
static bool missed_by_both(struct restless *restless)
{
	const u64 before[] = { READ_ONCE(restless[0].intercepts),
			       READ_ONCE(restless[1].intercepts) };
	const u64 start = now_ms();
	unsigned int i;

	for (i = 0; i < 2 && now_ms() - start < 5000;) {
		if (READ_ONCE(restless[i].intercepts) > before[i])
			i++;
		else
			usleep(1000);
	}
	return i == 2;
}

TEST_F_TIMEOUT(races, region_comes_and_goes_while_vps_use_it, 180)
{
	pthread_t thread[2];
	struct restless restless[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		restless[i] = (struct restless){
			.vp = &self->pt.vp[i],
			.args = { .rdi = TEST_GPA + i * PAGE_SIZE,
				  .rsi = self->pages - 1, .rdx = 1 },
		};
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, run_restless,
					    &restless[i]));
	}
	for (i = 0; i < 40; i++) {
		create_region();
		/* Sometimes there is time to fault it in */
		usleep(i % 4 * 3000);
		test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
		if (oracle_present())
			test_slat_empty(&self->pt, TEST_GFN, self->pages);
		/* They do not always come to it before it is back */
		if (i % 8 == 7)
			EXPECT_TRUE(missed_by_both(restless));
	}
	create_region();
	for (i = 0; i < 2; i++) {
		WRITE_ONCE(restless[i].stop, true);
		pthread_join(thread[i], NULL);
		EXPECT_EQ(0, restless[i].ret);
	}
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
}

/* The region is of a process that exits, and its partition is not; often */
TEST_F_TIMEOUT(races, process_with_the_memory_exits, 600)
{
	struct restless restless = {
		.vp = self->vp, .args = { .rdi = TEST_GPA, .rsi = self->pages },
	};
	const unsigned int rounds = 40 * test_scale();
	unsigned int round;
	pthread_t thread;
	pid_t child;

	ASSERT_EQ(0, pthread_create(&thread, NULL, run_restless, &restless));
	for (round = 0; round < rounds; round++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			if (mshv_map(&self->pt, TEST_GFN, self->mem, BYTES, MEM_RWX))
				_exit(1);
			usleep(round * 7919 % 30000);
			_exit(0);
		}
		ASSERT_EQ(0, reap(child, 20000));
		/* Its address space has gone, or goes just now */
		test_unmap(&self->pt, TEST_GFN, self->mem, BYTES);
		if (oracle_present())
			test_slat_empty(&self->pt, TEST_GFN, self->pages);
	}
	/* If it has not come across that yet, here is nothing for it to find */
	EXPECT_TRUE(wait_for_change(&restless.intercepts, 0, 20000));
	WRITE_ONCE(restless.stop, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, restless.ret);
	create_region();
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages);
	CHECK();
}

/*
 * Signals
 */

static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
	signals++;
}

/* Where the interval is too short for what it interrupts, there has to be an end */
#define ENOUGH_SIGNALS	50

static void count_some_signals(int signal)
{
	const struct itimerval off = {};

	if (++signals == ENOUGH_SIGNALS)
		setitimer(ITIMER_REAL, &off, NULL);
}

/*
 * The first region of a process: to watch its memory the kernel looks at all of
 * it, and gives up if there is a signal. Returns what that came to.
 */
enum { CREATED, UNDISTURBED, PINNED, FAILED };

static int create_under_signals(size_t size)
{
	/* So that some come before it is done, and some do not */
	struct itimerval timer = {
		.it_interval = { .tv_usec = 1000 }, .it_value = { .tv_usec = 50 },
	};
	const struct itimerval off = {};
	long pins = pin_balance();
	struct mshv_pt pt;
	u8 *mem;
	int ret;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED || mshv_pt_active(&pt))
		return FAILED;
	setitimer(ITIMER_REAL, &timer, NULL);
	ret = mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX);
	setitimer(ITIMER_REAL, &off, NULL);
	if (ret)
		return FAILED;
	if (resident(mem, 512) || pin_balance() != pins)
		return PINNED;
	return signals ? CREATED : UNDISTURBED;
}

TEST(region_is_created_under_signals)
{
	struct sigaction action = { .sa_handler = count_some_signals };
	unsigned int results[256] = {};
	int i, status;
	pid_t child;

	require_mshv();
	/* Without it the large one takes millions of repetitions */
	require_feature(FEATURE_FAST_NO_ACCESS);
	require_pin_counters();
	/* Without SA_RESTART: what the kernel would repeat is seen as EINTR */
	sigaction(SIGALRM, &action, NULL);
	for (i = 0; i < 16; i++) {
		/* A large one takes long enough for a signal to come in time */
		const size_t size = i % 2 ? 64 * GIB : HUGE_SIZE;

		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			_exit(create_under_signals(size));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		results[WEXITSTATUS(status)]++;
	}
	TH_LOG("%u created, %u of them without a signal",
	       results[CREATED] + results[UNDISTURBED], results[UNDISTURBED]);
	EXPECT_EQ(16, results[CREATED] + results[UNDISTURBED]) {
		TH_LOG("%u pinned, %u failed", results[PINNED], results[FAILED]);
	}
	EXPECT_LT(0, results[CREATED]);
}

TEST_F_TIMEOUT(races, vp_runs_under_a_rain_of_signals, 600)
{
	struct sigaction action = { .sa_handler = count_signal };
	const suseconds_t usec = 2000 + test_pause();
	struct itimerval timer = {
		.it_interval = { .tv_usec = usec }, .it_value = { .tv_usec = usec },
	};
	const struct itimerval off = {};
	u64 round;

	create_region();
	sigaction(SIGALRM, &action, NULL);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	/* With huge pages a round takes less than the time between two signals */
	for (round = 1; round <= 3 || (signals <= 2 && round <= 1000); round++) {
		test_guest(self->vp, guest_fill, .rdi = TEST_GPA,
			   .rsi = self->pages, .rdx = round << 32);
		test_guest_result(0, &self->pt.vp[1], guest_check,
				  .rdi = TEST_GPA, .rsi = self->pages,
				  .rdx = round << 32);
		madvise(self->mem, BYTES, discard_advice(variant->backing));
	}
	setitimer(ITIMER_REAL, &off, NULL);
	EXPECT_LT(2, signals);
	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = self->pages,
		   .rdx = 1);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 1));
	CHECK();
}

/*
 * Hypercalls that take their time
 */
TEST(slow_hypercalls_for_a_large_sparse_region)
{
	const u64 size = 256 * GIB, step = 32 * HUGE_SIZE;
	const u16 calls[] = { HVCALL_MAP_GPA_PAGES, HVCALL_UNMAP_GPA_PAGES };
	struct guest_thread thread;
	struct mshv_pt pt;
	int kmsg = kmsg_open();
	u64 gpa, start, created, discarded;
	unsigned int i;
	u8 *mem;

	require_mshv();
	require_oracle();
	require_feature(FEATURE_FAST_NO_ACCESS);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, madvise(mem, size, MADV_NOHUGEPAGE));
	test_pt_setup(&pt, 2);
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		ASSERT_EQ(0, oracle_delay(calls[i], 10));
	start = now_ms();
	test_map(&pt, TEST_GFN, mem, size, MEM_RWX);
	created = now_ms() - start;
	for (gpa = TEST_GPA; gpa < GUEST_GPA_LIMIT; gpa += step)
		test_guest(&pt.vp[0], guest_write, .rdi = gpa, .rsi = gpa);
	/* Somebody else needs the lock of the region meanwhile */
	ASSERT_EQ(0, guest_thread_start(&thread, &pt.vp[1], guest_count,
					GUEST_ARGS(.rdi = TEST_GPA,
						   .rsi = MAILBOX_GPA(0))));
	discarded = now_ms();
	ASSERT_EQ(0, madvise(mem, size, MADV_DONTNEED));
	discarded = now_ms() - discarded;
	ASSERT_TRUE(wait_for_change((u64 *)mem, 0, 5000));
	ASSERT_EQ(0, mprotect(mem + HUGE_SIZE, size - HUGE_SIZE, PROT_READ));
	WRITE_ONCE(*mailbox_ptr(&pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	for (gpa = TEST_GPA + step; gpa < GUEST_GPA_LIMIT; gpa += step)
		EXPECT_FALSE(accessible(&pt, gpa >> PAGE_SHIFT));
	test_unmap(&pt, TEST_GFN, mem, size);
	test_map(&pt, TEST_GFN, mem, size, MEM_RWX);
	mshv_pt_close(&pt);
	TH_LOG("%llu ms: %llu to create, %llu to discard", now_ms() - start, created,
	       discarded);
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		oracle_delay(calls[i], 0);
	EXPECT_GT(60000, now_ms() - start);
	EXPECT_EQ(0, kmsg_complaints(kmsg));
	munmap(mem, size);
}

TEST_HARNESS_MAIN
