// SPDX-License-Identifier: GPL-2.0
/*
 * What Linux can do with the memory of guests, in figures: reclaim it, merge it,
 * move it, and promise more of it than there is. Where there is something to
 * compare guests with, the same is done with ordinary processes in the same VM.
 *
 * Each workload is a process of its own and prints lines: FIGURE, what it is a
 * figure of, and a number, or in words why there is none.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mshv_bench.h"
#include "mshv_util.h"

#define FIGURE_SECONDS		240
/* What takes no more than a few seconds has got stuck after as many */
#define STUCK_MSEC		60000

struct figure {
	const char *name;
	/* Prints figures of its own; NULL, or why there are none */
	const char *(*measure)(void);
};

static struct mshv_pt pt;
static char swap[SWAP_NAME];

static void say(const char *name, const char *what, long value)
{
	printf("FIGURE,%s: %s,%ld\n", name, what, value);
	fflush(stdout);
}

/* What the hypervisor has to do: calls that map and unmap, and intercepts */
struct effort {
	struct oracle_counter map, unmap;
	long intercepts;
};

static struct effort effort_so_far(void)
{
	return (struct effort) {
		.map = map_counter(),
		.unmap = unmap_counter(),
		.intercepts = oracle_messages(HVMSG_GPA_INTERCEPT) +
			      oracle_messages(HVMSG_UNMAPPED_GPA),
	};
}

static void add_effort_since(struct effort *sum, const struct effort *before)
{
	const struct effort now = effort_so_far();

	sum->map.calls += now.map.calls - before->map.calls;
	sum->map.reps += now.map.reps - before->map.reps;
	sum->unmap.calls += now.unmap.calls - before->unmap.calls;
	sum->unmap.reps += now.unmap.reps - before->unmap.reps;
	sum->intercepts += now.intercepts - before->intercepts;
}

static void say_effort(const char *name, const struct effort *effort)
{
	say(name, "map calls", effort->map.calls);
	say(name, "map reps", effort->map.reps);
	say(name, "unmap calls", effort->unmap.calls);
	say(name, "unmap reps", effort->unmap.reps);
	say(name, "intercepts", effort->intercepts);
}

static void say_effort_since(const char *name, const struct effort *before)
{
	struct effort effort = {};

	add_effort_since(&effort, before);
	say_effort(name, &effort);
}

static long percent(u64 part, u64 whole)
{
	return whole ? (part * 100 + whole / 2) / whole : 0;
}

static int compare(const void *one, const void *two)
{
	const long a = *(const long *)one, b = *(const long *)two;

	return a < b ? -1 : a > b;
}

/* Sorts them, too */
static long median(long *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

static void fill(u8 *mem, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++)
		*quad(mem, i) = i + 1;
}

static bool guest_fills(struct mshv_vp *vp, size_t pages, u64 seed)
{
	return !guest_call(vp, guest_fill,
			   GUEST_ARGS(.rdi = TEST_GPA, .rsi = pages, .rdx = seed),
			   NULL);
}

/* Pages that the guest finds different from what it has written, or -errno */
static long guest_misses(struct mshv_vp *vp, size_t pages, u64 seed)
{
	u64 wrong = 0;
	int ret;

	ret = guest_call(vp, guest_check,
			 GUEST_ARGS(.rdi = TEST_GPA, .rsi = pages, .rdx = seed),
			 &wrong);
	return ret ?: (long)wrong;
}

/*
 * Reclaim: a guest twice as large as what it may have. Each round all of it goes
 * to swap and comes back, once written and once read.
 */

#define RECLAIM_PAGES		((size_t)16 * HUGE_PAGES)
#define RECLAIM_HIGH		"16M"
#define RECLAIM_ROUNDS		4

static const char *reclaim_rounds(u8 *mem)
{
	struct effort before = {}, effort = {};
	long wrong = 0, found;
	u64 round;

	/* The first is not steady */
	for (round = 0; round <= RECLAIM_ROUNDS; round++) {
		if (round == 1)
			before = effort_so_far();
		if (!guest_fills(&pt.vp[0], RECLAIM_PAGES, round << 32))
			break;
		found = guest_misses(&pt.vp[0], RECLAIM_PAGES, round << 32);
		if (found < 0)
			break;
		wrong += found;
	}
	add_effort_since(&effort, &before);
	wrong += mismatches(mem, RECLAIM_PAGES, (round - 1) << 32);
	say("reclaim", "rounds", round ? round - 1 : 0);
	say_effort("reclaim", &effort);
	say("reclaim", "wrong pages", wrong);
	return NULL;
}

static const char *reclaim(void)
{
	const size_t size = RECLAIM_PAGES * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);

	if (!mshv_missing(FEATURE_PINNED))
		return "pinned";
	need(swap_start(swap), "swap");
	need(cgroup_start(RECLAIM_HIGH, "max", "max"),
	     "cgroup2 with the memory controller");
	need(mem && !mshv_pt_setup(&pt, 1), "a partition");
	need(!mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX), "a region");
	need(cgroup_join(), "to be in a cgroup");
	return reclaim_rounds(mem);
}

/*
 * KSM: guests with equal memory, which they go on to read, and processes that do
 * the same
 */

#define KSM_PAGES		((size_t)8 * HUGE_PAGES)
#define KSM_PROCESSES		8
/* One to see that a page is left alone, one to merge it, two to be sure */
#define KSM_SCANS		4

/* In memory that all have */
struct ksm_process {
	u64 passes;		/* ends of reading all */
	long wrong;
};

static long read_number(const char *path)
{
	char text[32];

	return read_file(path, text, sizeof(text)) ? atol(text) : -ENOENT;
}

static bool wait_until(const u64 *value, u64 least)
{
	const u64 start = now_ms();

	while (READ_ONCE(*value) < least) {
		if (now_ms() - start > STUCK_MSEC)
			return false;
		usleep(1000);
	}
	return true;
}

/* Does not return */
static void ksm_process(struct ksm_process *self, bool guest)
{
	const size_t size = KSM_PAGES * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);

	if (!mem || madvise(mem, size, MADV_MERGEABLE))
		_exit(1);
	if (!guest)
		fill(mem, KSM_PAGES);
	else if (mshv_pt_setup(&pt, 1) ||
		 mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX) ||
		 !guest_fills(&pt.vp[0], KSM_PAGES, 1))
		_exit(1);
	for (;;) {
		self->wrong = guest ? guest_misses(&pt.vp[0], KSM_PAGES, 1) :
			      (long)mismatches(mem, KSM_PAGES, 1);
		WRITE_ONCE(self->passes, self->passes + 1);
		usleep(50000);
	}
}

static bool ksm_scan(void)
{
	const long end = read_number(KSM "full_scans") + KSM_SCANS;
	const u64 start = now_ms();
	bool done = false;

	if (!ksm_start())
		return false;
	while (!done && now_ms() - start < STUCK_MSEC) {
		usleep(10000);
		done = read_number(KSM "full_scans") >= end;
	}
	ksm_stop();
	return done;
}

/* The pages that are saved once all have been read again; negative if they are not */
static long ksm_saves(bool guest, long *wrong)
{
	struct ksm_process *all;
	struct effort before;
	pid_t child[KSM_PROCESSES];
	long saved;
	int i;

	all = mmap(NULL, sizeof(*all) * KSM_PROCESSES, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return -ENOMEM;
	/* What has ended is saved until KSM looks at it */
	write_file(KSM "run", "2");
	write_file(KSM "run", "0");
	saved = read_number(KSM "pages_sharing");
	for (i = 0; i < KSM_PROCESSES; i++) {
		child[i] = fork();
		if (!child[i])
			ksm_process(&all[i], guest);
		if (!wait_until(&all[i].passes, 1))
			return -ETIMEDOUT;
	}
	before = effort_so_far();
	if (!ksm_scan())
		return -EAGAIN;
	for (i = 0; i < KSM_PROCESSES; i++)
		if (!wait_until(&all[i].passes, READ_ONCE(all[i].passes) + 2))
			return -ETIMEDOUT;
	saved = read_number(KSM "pages_sharing") - saved;
	if (guest)
		say_effort_since("KSM", &before);
	for (i = 0; i < KSM_PROCESSES; i++) {
		*wrong += all[i].wrong;
		kill(child[i], SIGKILL);
		waitpid(child[i], NULL, 0);
	}
	return saved;
}

static const char *merging(void)
{
	long ordinary, guests, wrong = 0;

	need(read_number(KSM "full_scans") >= 0, "KSM");
	ordinary = ksm_saves(false, &wrong);
	need(ordinary > 0, "KSM that merges pages of processes");
	say("KSM", "pages saved by 8 processes", ordinary);
	guests = ksm_saves(true, &wrong);
	need(guests >= 0, "guests that can read what KSM has scanned");
	say("KSM", "pages saved by 8 guests", guests);
	say("KSM", "% of processes", percent(guests, ordinary));
	say("KSM", "wrong pages", wrong);
	return NULL;
}

/* Migration: all of a running guest is sent to the other node */

#define MIGRATION_PAGES		((size_t)32 * HUGE_PAGES)

static const char *migrating(void)
{
	const size_t size = MIGRATION_PAGES * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);
	struct guest_thread thread;
	struct effort before;
	size_t moved;
	long wrong;
	int node;
	u64 seen;

	need(numa_nodes() >= 2, "two NUMA nodes");
	need(mem && !mshv_pt_setup(&pt, 2), "a partition");
	need(!mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX), "a region");
	need(guest_fills(&pt.vp[0], MIGRATION_PAGES, 1), "a guest that can write");
	need(!guest_thread_start(&thread, &pt.vp[1], guest_count,
				 GUEST_ARGS(.rdi = TEST_GPA + 8,
					    .rsi = MAILBOX_GPA(0))), "a thread");
	node = numa_node(mem);
	need(node >= 0, "memory on a NUMA node");
	before = effort_so_far();
	moved = numa_move(mem, MIGRATION_PAGES, !node);
	seen = READ_ONCE(quad(mem, 0)[1]);
	need(wait_for_change(&quad(mem, 0)[1], seen, STUCK_MSEC),
	     "a guest that goes on");
	*mailbox_ptr(&pt, 0) = 1;
	need(guest_thread_join(&thread) == HVMSG_X64_HALT, "a guest that ends");
	/* And all of it is read again, and so mapped */
	wrong = guest_misses(&pt.vp[0], MIGRATION_PAGES, 1) +
		mismatches(mem, MIGRATION_PAGES, 1);
	say("migration", "% of the pages moved", percent(moved, MIGRATION_PAGES));
	say_effort_since("migration", &before);
	say("migration", "wrong pages", wrong);
	return NULL;
}

/*
 * Compaction: every other page of some memory is a guest's or a process's, the
 * others are free, and the huge page pool has all else. How many huge pages can
 * Linux make of that?
 */

#define COMPACTED_PAGES		((size_t)128 * HUGE_PAGES)
#define HUGETLB_PAGES		"/proc/sys/vm/nr_hugepages"
#define SPARED_KIB		131072

#define COMPACT_MEMORY		"/proc/sys/vm/compact_memory"
/* How many one gets differs, so the median is taken */
#define COMPACT_ROUNDS		5

/*
 * The size of the huge page pool once it has all it can get. It never asks for the
 * last 128 MiB of free memory: others need some too.
 */
static long all_huge_pages(void)
{
	long had, free, have = read_field("/proc/meminfo", "HugePages_Total");
	char text[32];

	do {
		had = have;
		write_file(COMPACT_MEMORY, "1");
		free = read_field("/proc/meminfo", "MemFree") - SPARED_KIB;
		if (free > 0) {
			snprintf(text, sizeof(text), "%ld", had + free / 2048);
			write_file(HUGETLB_PAGES, text);
		}
		have = read_field("/proc/meminfo", "HugePages_Total");
	} while (have > had);
	return have;
}

/* Huge pages more than with the others in use, or negative */
static long compact(bool guest, struct effort *effort, long *wrong)
{
	const size_t size = COMPACTED_PAGES * PAGE_SIZE;
	u8 *mem = mshv_alloc(BACKING_ANON, size);
	u8 *other = mshv_alloc(BACKING_ANON, size);
	long had, found, has;
	struct effort before;
	size_t i;

	if (!mem || !other)
		return -ENOMEM;
	for (i = 0; i < COMPACTED_PAGES; i++) {
		*quad(mem, i) = i + 1;
		*quad(other, i) = i + 1;
	}
	if (guest && (mshv_pt_setup(&pt, 1) ||
		      mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX) ||
		      !guest_fills(&pt.vp[0], COMPACTED_PAGES, 1)))
		return -EPROTO;
	before = effort_so_far();
	had = all_huge_pages();
	mshv_free(other, size);
	has = all_huge_pages();
	write_file(HUGETLB_PAGES, "0");
	if (guest) {
		found = guest_misses(&pt.vp[0], COMPACTED_PAGES, 1);
		*wrong += found < 0 ? COMPACTED_PAGES : found;
		add_effort_since(effort, &before);
	}
	*wrong += mismatches(mem, COMPACTED_PAGES, 1);
	mshv_pt_close(&pt);
	mshv_free(mem, size);
	return has > had ? has - had : 0;
}

static const char *compacting(void)
{
	long ordinary[COMPACT_ROUNDS + 1], guests[COMPACT_ROUNDS + 1];
	long of_process, of_guest, wrong = 0;
	struct effort effort = {};
	int i;

	for (i = 0; i <= COMPACT_ROUNDS; i++) {
		ordinary[i] = compact(false, NULL, &wrong);
		need(ordinary[i] > 0, "compaction that makes huge pages");
		guests[i] = compact(true, &effort, &wrong);
		need(guests[i] >= 0, "a guest that can write");
	}
	/* The first finds what was left by others, and is not counted */
	of_process = median(ordinary + 1, COMPACT_ROUNDS);
	of_guest = median(guests + 1, COMPACT_ROUNDS);
	say("compaction", "huge pages from between a process's", of_process);
	say("compaction", "huge pages from between a guest's", of_guest);
	say("compaction", "% of processes", percent(of_guest, of_process));
	say("compaction", "rounds of guests", COMPACT_ROUNDS + 1);
	say_effort("compaction", &effort);
	say("compaction", "wrong pages", wrong);
	return NULL;
}

/* Overcommit: how many guests that use a tenth of their memory fit into a limit? */

#define OVERCOMMIT_MAX		200

struct overcommit {
	const char *name, *max;
	u64 size;
	u64 stride;		/* of the tenth that is touched */
};

static const struct overcommit first_tenth = {
	"overcommit first tenth", "2G", 256ULL << 20, PAGE_SIZE,
};

static const struct overcommit every_tenth = {
	"overcommit every tenth page", "512M", 64ULL << 20, 10 * PAGE_SIZE,
};

/* Does not return */
static void overcommit_guest(const struct overcommit *over, int ready)
{
	u8 *mem = mshv_alloc(BACKING_ANON, over->size);
	const struct guest_args args = GUEST_ARGS(.rdi = TEST_GPA,
						  .rsi = over->size / PAGE_SIZE / 10,
						  .rdx = over->stride, .rcx = ~0ULL);

	if (!mem || !cgroup_join() || mshv_pt_setup(&pt, 1) ||
	    mshv_map(&pt, TEST_GFN, mem, over->size, MEM_RWX) ||
	    guest_call(&pt.vp[0], guest_touch, args, NULL) ||
	    write(ready, "", 1) != 1)
		_exit(1);
	pause();
	_exit(1);
}

static const char *overcommit(const struct overcommit *over)
{
	const struct effort before = effort_so_far();
	struct effort effort = {};
	int nr, pipes[2];
	pid_t child;
	char c;

	need(cgroup_start("max", over->max, "0"),
	     "cgroup2 with the memory controller");
	/* The first that has no room ends, or makes another one end */
	for (nr = 0; nr < OVERCOMMIT_MAX; nr++) {
		need(!pipe(pipes), "a pipe");
		child = fork();
		need(child >= 0, "a process");
		if (!child)
			overcommit_guest(over, pipes[1]);
		close(pipes[1]);
		if (read(pipes[0], &c, 1) != 1 || cgroup_killed())
			break;
		close(pipes[0]);
		/* Not of who has no room: when that ends is a matter of time */
		effort = (struct effort) {};
		add_effort_since(&effort, &before);
	}
	need(nr < OVERCOMMIT_MAX, "a limit that guests reach");
	need(cgroup_killed() > 0, "a guest that ends for want of memory only");
	say(over->name, "guests", nr);
	say_effort(over->name, &effort);
	return NULL;
}

static const char *overcommit_first(void)
{
	return overcommit(&first_tenth);
}

static const char *overcommit_every(void)
{
	return overcommit(&every_tenth);
}

/*
 * Locks: VPs that touch memory of one region, each its own, are to wait for each
 * other as little as they can. What waits is a thread of this process; how often
 * and how long depends on the machine.
 */

#define LOCK_PAGES		((size_t)128 * HUGE_PAGES)
#define LOCK_VPS		8

/*
 * In the trace, of threads of this program: microseconds, and how often in @nr. A wait
 * for a mutex begins again whenever it goes on in another way, and ends once.
 */
static long waited_us(long *nr)
{
	static struct wait {
		long pid;
		char lock[32];
		double since;		/* 0: it does not wait for it any more */
	} waits[256];
	const struct wait *end = waits + ARRAY_SIZE(waits);
	char line[512], lock[32], what[8];
	double sum = 0, now;
	struct wait *wait;
	FILE *trace;
	long pid;

	*nr = 0;
	trace = trace_open();
	while (trace && fgets(line, sizeof(line), trace)) {
		char *thread = strstr(line, "mshv_bench-");
		char *event = strstr(line, ": contention_");
		char *time = event;

		if (!thread || !event ||
		    sscanf(event, ": contention_%7[a-z]: %31s", what, lock) != 2)
			continue;
		while (time > line && time[-1] != ' ')
			time--;
		now = atof(time);
		pid = atol(strchr(thread, '-') + 1);
		for (wait = waits; wait < end - 1 && wait->pid &&
		     (wait->pid != pid || strcmp(wait->lock, lock));)
			wait++;
		wait->pid = pid;
		memcpy(wait->lock, lock, sizeof(lock));
		if (!strcmp(what, "end") && wait->since) {
			sum += now - wait->since;
			wait->since = 0;
		} else if (!strcmp(what, "begin") && !wait->since) {
			wait->since = now;
			*nr += 1;
		}
	}
	if (trace)
		fclose(trace);
	return sum * 1000000;
}

static const char *locking(void)
{
	const size_t size = LOCK_PAGES * PAGE_SIZE, share = size / LOCK_VPS;
	struct guest_thread threads[LOCK_VPS];
	u8 *mem = mshv_alloc(BACKING_ANON, size);
	long us, nr, ended = 0;
	int i;

	/* On one CPU nobody waits */
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return NULL;
	if (!mshv_missing(FEATURE_PINNED))
		return "pinned";
	need(mem && !mshv_pt_setup(&pt, LOCK_VPS), "a partition");
	need(!mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX), "a region");
	need(trace_start("lock/contention_begin", NULL) &&
	     trace_start("lock/contention_end", NULL), "tracefs");
	for (i = 0; i < LOCK_VPS; i++) {
		const struct guest_args args = GUEST_ARGS(.rdi = TEST_GPA + i * share,
							  .rsi = share / PAGE_SIZE,
							  .rdx = PAGE_SIZE, .rcx = size - 1);

		need(!guest_thread_start(&threads[i], &pt.vp[i], guest_touch, args),
		     "a thread");
	}
	for (i = 0; i < LOCK_VPS; i++)
		ended += guest_thread_join(&threads[i]) == HVMSG_X64_HALT;
	us = waited_us(&nr);
	trace_stop();
	need(ended == LOCK_VPS, "guests that end");
	say("locks", "waits of 8 VPs that touch 256 MiB", nr);
	say("locks", "microseconds of these", us);
	return NULL;
}

static const struct figure figures[] = {
	{ "locks", locking },
	{ "reclaim", reclaim },
	{ "KSM", merging },
	{ "migration", migrating },
	{ "compaction", compacting },
	{ "overcommit first tenth", overcommit_first },
	{ "overcommit every tenth page", overcommit_every },
};

static void measure(const void *data)
{
	const struct figure *figure = data;
	const char *why;

	mshv_pt_init(&pt);
	why = figure->measure();
	if (why)
		printf("FIGURE,%s,%s\n", figure->name, why);
	fflush(stdout);
	swap_stop(swap);
}

void measure_figures(int argc, char **argv)
{
	const char *why;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(figures); i++) {
		if (!is_wanted("figures", argc, argv) &&
		    !is_wanted(figures[i].name, argc, argv))
			continue;
		why = run_process(measure, &figures[i], FIGURE_SECONDS);
		if (why)
			printf("FIGURE,%s,%s\n", figures[i].name, why);
		/* Whatever became of it */
		trace_stop();
		cgroup_stop();
		write_file(HUGETLB_PAGES, "0");
	}
}
