// SPDX-License-Identifier: GPL-2.0
/*
 * What guest memory costs, in counts: hypercalls, repetitions, intercepts,
 * memory. Not a test: nothing is right or wrong here, and it is not run with
 * the tests. It needs the oracle.
 *
 * usage: mshv_bench [-c] [WORKLOAD... | figures | questions]
 *
 * A WORKLOAD is the start of a name, with _ for each blank. -c: costs only,
 * neither figures nor questions.
 *
 * Each workload is a process of its own and prints a line for each phase:
 * BENCH, the name of workload and phase, then the columns of print_header().
 * One that cannot be run says why in a line of its own; the others go on.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mshv_bench.h"
#include "mshv_util.h"

#define MIB			(1ULL << 20)
/* How much guests touch: all of it has to be there several times */
#define TOUCHED			(256 * MIB)
/* More than a workload takes, also with many others on the machine */
#define LIMIT_SECONDS		300
/* Behind what the guest can address, for regions it does not touch */
#define FAR_GFN			(64 * GIB / PAGE_SIZE)
/* Pages in no order: odd, so that each is met once */
#define RANDOM_STRIDE		(0x9e3779b1ULL * PAGE_SIZE)

/* Everything that is counted, at one time */
struct costs {
	struct oracle_counter map, unmap, deposit, all;
	long intercepts;
	long rss, metadata;	/* KiB */
	long slat;		/* pages of the hypervisor's tables */
	u64 nsec;
};

static const char *workload;
static struct mshv_pt pt;
static struct costs before;

static void fail(const char *what, int err)
{
	printf("BENCH,%s,failed,%s: %s\n", workload, what, strerror(err < 0 ? -err : err));
	fflush(stdout);
	_exit(1);
}

#define must(_expression) do { \
	int _ret = (_expression); \
	if (_ret < 0) \
		fail(#_expression, _ret); \
} while (0)

static void print_header(void)
{
	static const char * const columns[] = {
		"workload", "phase", "calls", "map calls", "map reps", "map failures",
		"unmap calls", "unmap reps", "deposited", "intercepts",
		"rss KiB", "metadata KiB", "SLAT pages", "ns",
	};
	size_t i;

	printf("BENCH");
	for (i = 0; i < ARRAY_SIZE(columns); i++)
		printf(",%s", columns[i]);
	printf("\n");
}

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static long field(const char *path, const char *name)
{
	long value = read_field(path, name);

	if (value < 0)
		fail(path, ENOENT);
	return value;
}

static void take(struct costs *costs)
{
	struct oracle_partition partition = {};
	struct oracle_totals totals;
	struct oracle_counter counter;
	unsigned int code;

	memset(costs, 0, sizeof(*costs));
	costs->nsec = now_ns();
	/* Each CPU has numbers of its own, which are added up now and then */
	if (!write_file("/proc/sys/vm/stat_refresh", "1"))
		fail("/proc/sys/vm/stat_refresh", errno);
	costs->rss = field("/proc/self/smaps_rollup", "Rss");
	costs->metadata = field("/proc/meminfo", "VmallocUsed") +
			  field("/proc/meminfo", "SUnreclaim");
	must(oracle_counter(HVCALL_MAP_GPA_PAGES, &costs->map));
	must(oracle_counter(HVCALL_UNMAP_GPA_PAGES, &costs->unmap));
	for (code = 0; code < 0x100; code++) {
		if (oracle_counter(code, &counter))
			continue;
		costs->all.calls += counter.calls;
		costs->all.reps += counter.reps;
	}
	must(oracle_totals(&totals));
	costs->deposit.reps = totals.deposited - totals.withdrawn;
	costs->intercepts = oracle_messages(HVMSG_GPA_INTERCEPT) +
			    oracle_messages(HVMSG_UNMAPPED_GPA);
	if (pt.id && !oracle_partition(pt.id, &partition))
		costs->slat = partition.table_pages;
}

/* What follows is measured, up to end(); the counting itself takes no time */
static void begin(void)
{
	take(&before);
	before.nsec = now_ns();
}

static void end(const char *phase)
{
	struct costs after;

	take(&after);
	printf("BENCH,%s,%s,%llu,%llu,%llu,%llu,%llu,%llu,%lld,%ld,%ld,%ld,%ld,%llu\n",
	       workload, phase,
	       after.all.calls - before.all.calls,
	       after.map.calls - before.map.calls, after.map.reps - before.map.reps,
	       after.map.failures - before.map.failures,
	       after.unmap.calls - before.unmap.calls,
	       after.unmap.reps - before.unmap.reps,
	       (long long)(after.deposit.reps - before.deposit.reps),
	       after.intercepts - before.intercepts, after.rss - before.rss,
	       after.metadata - before.metadata, after.slat - before.slat,
	       after.nsec - before.nsec);
	fflush(stdout);
}

/* The life of a region: how large it is, and who fills it with what */
struct life {
	const char *name;
	u64 size;
	enum mshv_backing backing;
	bool vmm, guest;
	u64 stride;		/* bytes from one page that the VMM fills to the next */
	u64 odd;		/* pages by which its GFN is off a large one */
};

static const struct life lives[] = {
	{ "untouched 1 GiB", GIB },
	{ "untouched 4 GiB", 4 * GIB },
	{ "untouched 16 GiB", 16 * GIB },
	{ "untouched 64 GiB", 64 * GIB },
	{ "untouched 256 GiB", 256 * GIB },
	{ "untouched 1 TiB", 1024 * GIB },
	{ "populated 1 GiB 4K", GIB, BACKING_ANON, .vmm = true },
	{ "populated 1 GiB THP", GIB, BACKING_THP, .vmm = true },
	{ "populated 1 GiB 4K at an odd GFN", GIB, BACKING_ANON, .vmm = true, .odd = 1 },
	{ "a page in each GiB of 64 4K", 64 * GIB, BACKING_ANON, .vmm = true, .stride = GIB },
	{ "a page in each GiB of 64 THP", 64 * GIB, BACKING_THP, .vmm = true, .stride = GIB },
	{ "touched 1 GiB 4K", GIB, BACKING_ANON, .guest = true },
	{ "touched 1 GiB THP", GIB, BACKING_THP, .guest = true },
};

/*
 * Memory of the VMM that pinning could not fill is not worth a try. Where size allows it,
 * memory of small pages is aligned to 2 MiB like other memory: mmap() does that.
 */
static u8 *alloc(enum mshv_backing backing, u64 size)
{
	u64 memory = field("/proc/meminfo", "MemAvailable") * 1024ULL;
	u8 *mem;

	if (size > memory && !mshv_missing(FEATURE_PINNED))
		fail("pinning more memory than there is", ENOMEM);
	if (size > memory || backing == BACKING_ANON) {
		mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (mem == MAP_FAILED)
			mem = NULL;
		else
			madvise(mem, size, backing == BACKING_THP ? MADV_HUGEPAGE :
				MADV_NOHUGEPAGE);
	} else {
		mem = mshv_alloc(backing, size);
	}
	if (!mem)
		fail("memory", errno);
	return mem;
}

/* What was measured is not what its name says without them */
static void check_huge(enum mshv_backing backing, u64 size)
{
	if (backing == BACKING_THP &&
	    (u64)field("/proc/self/smaps_rollup", "AnonHugePages") < size / 1024)
		fail("huge pages", ENOMEM);
}

static void fill(u8 *mem, u64 size, u64 stride)
{
	u64 offset;

	for (offset = 0; offset < size; offset += stride)
		*(u64 *)(mem + offset) = offset / PAGE_SIZE + 1;
}

/* All of @size at TEST_GPA, in steps of @stride modulo it */
static struct guest_args touch_args(u64 size, u64 stride, u64 nr)
{
	return GUEST_ARGS(.rdi = TEST_GPA, .rsi = nr, .rdx = stride, .rcx = size - 1);
}

/* All of it, in order */
static int guest_touches(u64 size)
{
	return guest_call(&pt.vp[0], guest_touch,
			  touch_args(size, PAGE_SIZE, size / PAGE_SIZE), NULL);
}

static void live(const struct life *life)
{
	u64 gfn = (life->guest ? TEST_GFN : FAR_GFN) + life->odd;
	u8 *mem = alloc(life->backing, life->size);

	must(mshv_pt_setup(&pt, 1));
	if (life->vmm)
		fill(mem, life->size, life->stride ?: PAGE_SIZE);
	if (life->vmm && !life->stride)
		check_huge(life->backing, life->size);
	begin();
	must(mshv_map(&pt, gfn, mem, life->size, MEM_RWX));
	end("create");
	if (life->guest) {
		begin();
		must(guest_touches(life->size));
		end("touch");
		check_huge(life->backing, life->size);
	}
	begin();
	must(mshv_unmap(&pt, gfn, mem, life->size));
	end("destroy");
}

/* The first touch of memory by the guest */
struct first_touch {
	const char *name;
	enum mshv_backing backing;
	u64 stride, nr;
	unsigned int vps;
	bool vmm;
	u64 size;		/* or TOUCHED */
	bool apart;		/* a region for each VP */
};

#define TOUCHED_PAGES	(TOUCHED / PAGE_SIZE)
#define TOUCHED_CHUNKS	(TOUCHED / HUGE_SIZE)

static const struct first_touch first_touches[] = {
	{ "sequential 4K", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 1 },
	{ "sequential THP", BACKING_THP, PAGE_SIZE, TOUCHED_PAGES, 1 },
	{ "sequential 4K present", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 1, true },
	{ "random 4K", BACKING_ANON, RANDOM_STRIDE, TOUCHED_PAGES, 1 },
	{ "random THP", BACKING_THP, RANDOM_STRIDE, TOUCHED_PAGES, 1 },
	{ "sparse 4K", BACKING_ANON, HUGE_SIZE, TOUCHED_CHUNKS, 1 },
	{ "sparse THP", BACKING_THP, HUGE_SIZE, TOUCHED_CHUNKS, 1 },
	{ "sequential 4K of 1 MiB", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES / 256, 1 },
	{ "sequential 4K of 4 MiB", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES / 64, 1 },
	{ "sequential 4K of 16 MiB", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES / 16, 1 },
	{ "sequential 4K of 64 MiB", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES / 4, 1 },
	{ "sequential 4K 2 VPs", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 2 },
	{ "sequential 4K 4 VPs", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 4 },
	{ "sequential 4K 8 VPs", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 8 },
	{ "sequential 4K 8 VPs of 8 regions", BACKING_ANON, PAGE_SIZE, TOUCHED_PAGES, 8,
	  .apart = true },
	{ "sequential THP 8 VPs", BACKING_THP, PAGE_SIZE, TOUCHED_PAGES, 8 },
	/* As much for each as for one alone */
	{ "8 VPs of 256 MiB each 4K", BACKING_ANON, PAGE_SIZE, 8 * TOUCHED_PAGES, 8,
	  .size = 8 * TOUCHED },
};

static void touch_first(const struct first_touch *touch)
{
	struct guest_thread threads[GUEST_MAX_VPS];
	u64 size = touch->size ?: TOUCHED;
	u64 share = size / touch->vps;
	u8 *mem = alloc(touch->backing, size);
	unsigned int i;

	must(mshv_pt_setup(&pt, touch->vps));
	if (touch->vmm)
		fill(mem, size, PAGE_SIZE);
	/* The guest's own pages, and those of threads, so that they are not part of it */
	for (i = 0; i < touch->vps; i++)
		must(guest_thread_start(&threads[i], &pt.vp[i], guest_read,
					GUEST_ARGS(.rdi = DATA_GPA)));
	for (i = 0; i < touch->vps; i++)
		guest_thread_join(&threads[i]);
	if (!touch->apart)
		must(mshv_map(&pt, TEST_GFN, mem, size, MEM_RWX));
	for (i = 0; i < touch->vps && touch->apart; i++)
		must(mshv_map(&pt, TEST_GFN + i * share / PAGE_SIZE, mem + i * share,
			      share, MEM_RWX));
	begin();
	for (i = 0; i < touch->vps; i++) {
		struct guest_args args = touch_args(share, touch->stride,
						    touch->nr / touch->vps);

		args.rdi += i * share;
		must(guest_thread_start(&threads[i], &pt.vp[i], guest_touch, args));
	}
	for (i = 0; i < touch->vps; i++)
		if (guest_thread_join(&threads[i]) != HVMSG_X64_HALT)
			fail("the guest's touch", EPROTO);
	end("touch");
	check_huge(touch->backing, size);
}

/* The same without a guest: what this kernel takes for its page faults */
static const struct life processes[] = {
	{ "a process 4K", TOUCHED, BACKING_ANON },
	{ "a process THP", TOUCHED, BACKING_THP },
};

static void touch_alone(const struct life *process)
{
	u8 *mem = alloc(process->backing, process->size);

	begin();
	fill(mem, process->size, PAGE_SIZE);
	end("touch");
	check_huge(process->backing, process->size);
}

/* Linux takes memory back */
struct discard {
	const char *name;
	enum mshv_backing backing;
	bool touched;
	u64 stride, nr;		/* in bytes, calls of madvise() */
	u64 size;		/* of each */
};

static const struct discard discards[] = {
	{ "never mapped 256 MiB", BACKING_ANON, false, 0, 1, TOUCHED },
	{ "all 256 MiB 4K", BACKING_ANON, true, 0, 1, TOUCHED },
	{ "all 256 MiB THP", BACKING_THP, true, 0, 1, TOUCHED },
	{ "half of each 2M THP", BACKING_THP, true, HUGE_SIZE, TOUCHED_CHUNKS, HUGE_SIZE / 2 },
	{ "a page of each 2M THP", BACKING_THP, true, HUGE_SIZE, TOUCHED_CHUNKS, PAGE_SIZE },
	{ "a page of each 2M 4K", BACKING_ANON, true, HUGE_SIZE, TOUCHED_CHUNKS, PAGE_SIZE },
	{ "balloon 4K", BACKING_ANON, true, RANDOM_STRIDE, TOUCHED_PAGES / 16, PAGE_SIZE },
};

static void prepare_touched(enum mshv_backing backing, bool touched, u8 **mem)
{
	*mem = alloc(backing, TOUCHED);
	must(mshv_pt_setup(&pt, 1));
	must(mshv_map(&pt, TEST_GFN, *mem, TOUCHED, MEM_RWX));
	if (!touched)
		return;
	must(guest_touches(TOUCHED));
	check_huge(backing, TOUCHED);
}

static void discard(const struct discard *discard)
{
	u64 i, offset = 0;
	u8 *mem;

	prepare_touched(discard->backing, discard->touched, &mem);
	begin();
	for (i = 0; i < discard->nr; i++) {
		must(madvise(mem + offset, discard->size, MADV_DONTNEED));
		offset = (offset + discard->stride) & (TOUCHED - 1);
	}
	end("discard");
}

/* The VMM exits without a word, and another process has the partition still */
static void leave(const struct life *life)
{
	u8 *mem = alloc(life->backing, life->size);
	int in[2], out[2];
	pid_t child;
	char c = 0;

	must(pipe(in));
	must(pipe(out));
	must(mshv_pt_setup(&pt, 1));
	child = fork();
	must(child);
	if (!child) {
		close(in[1]);
		must(mshv_map(&pt, TEST_GFN, mem, life->size, MEM_RWX));
		must(guest_touches(life->size));
		check_huge(life->backing, life->size);
		must(write(out[1], &c, 1));
		must(read(in[0], &c, 1));
		_exit(0);
	}
	close(out[1]);
	if (read(out[0], &c, 1) != 1)
		fail("the VMM's end", EPROTO);
	begin();
	close(in[1]);
	must(waitpid(child, NULL, 0));
	end("exit");
}

static const struct life exits[] = {
	{ "exit 256 MiB 4K", TOUCHED, BACKING_ANON },
	{ "exit 256 MiB THP", TOUCHED, BACKING_THP },
	{ "exit 1 GiB 4K", GIB, BACKING_ANON },
	{ "exit 1 GiB THP", GIB, BACKING_THP },
};

/* From nothing to the first instruction of a guest with so much memory */
static const struct life starts[] = {
	{ "start 1 GiB", GIB },
	/* The most, among these, that can be pinned in a VM of 8 GiB */
	{ "start 4 GiB", 4 * GIB },
	{ "start 64 GiB", 64 * GIB },
};

static void start(const struct life *life)
{
	u8 *mem = alloc(BACKING_ANON, life->size);

	begin();
	must(mshv_pt_setup(&pt, 1));
	must(mshv_map(&pt, FAR_GFN, mem, life->size, MEM_RWX));
	must(guest_call(&pt.vp[0], guest_halt, GUEST_ARGS(), NULL));
	end("first instruction");
}

static void nothing(int sig)
{
}

/* In @seconds at most: has it ended? */
static bool wait_for(pid_t child, int *status, unsigned int seconds)
{
	bool ended;

	alarm(seconds);
	ended = waitpid(child, status, 0) == child;
	alarm(0);
	return ended;
}

const char *run_process(void (*fn)(const void *data), const void *data,
			unsigned int seconds)
{
	/* Without SA_RESTART, it interrupts waitpid() */
	const struct sigaction action = { .sa_handler = nothing };
	static char why[32];
	int status;
	pid_t child;

	fflush(stdout);
	sigaction(SIGALRM, &action, NULL);
	child = fork();
	if (child < 0)
		return "no process";
	if (!child) {
		setpgid(0, 0);
		write_file("/proc/self/oom_score_adj", "1000");
		fn(data);
		fflush(stdout);
		_exit(0);
	}
	setpgid(child, child);
	if (!wait_for(child, &status, seconds)) {
		kill(-child, SIGKILL);
		return wait_for(child, &status, seconds) ?
		       "hung" : "hung and cannot be killed";
	}
	/* Children of its own */
	kill(-child, SIGKILL);
	if (!WIFSIGNALED(status))
		return NULL;
	snprintf(why, sizeof(why), "signal %d", WTERMSIG(status));
	return why;
}

/* Does @name start with @word, which has _ for each blank? */
static bool starts_with(const char *name, const char *word)
{
	for (; *word; name++, word++) {
		if (*name != *word && !(*name == ' ' && *word == '_'))
			return false;
	}
	return true;
}

bool is_wanted(const char *name, int argc, char **argv)
{
	bool wanted = argc < 2;
	int i;

	for (i = 1; i < argc; i++)
		wanted |= starts_with(name, argv[i]);
	return wanted;
}

typedef void (*workload_fn)(const void *data);

struct work {
	workload_fn fn;
	const void *data;
};

static void do_work(const void *data)
{
	const struct work *work = data;

	mshv_pt_init(&pt);
	must(oracle_reset());
	work->fn(work->data);
}

static void run(const char *name, workload_fn fn, const void *data,
		int argc, char **argv)
{
	const struct work work = { fn, data };
	const char *why;

	if (!is_wanted(name, argc, argv))
		return;

	workload = name;
	why = run_process(do_work, &work, LIMIT_SECONDS);
	if (why)
		printf("BENCH,%s,failed,%s\n", name, why);
}

#define run_all(_table, _fn) do { \
	size_t _i; \
	for (_i = 0; _i < ARRAY_SIZE(_table); _i++) \
		run((_table)[_i].name, (workload_fn)(_fn), &(_table)[_i], argc, argv); \
} while (0)

int main(int argc, char **argv)
{
	const char *why = mshv_unavailable();
	bool costs_only = argc > 1 && !strcmp(argv[1], "-c");

	if (costs_only) {
		argc--;
		argv++;
	}
	if (!why && !oracle_present())
		why = "needs: the oracle of the nested root VM";
	if (why) {
		fprintf(stderr, "mshv_bench: %s\n", why);
		return 4;
	}
	print_header();
	run_all(lives, live);
	run_all(first_touches, touch_first);
	run_all(processes, touch_alone);
	run_all(discards, discard);
	run_all(exits, leave);
	run_all(starts, start);
	if (costs_only)
		return 0;
	measure_figures(argc, argv);
	ask_questions(argc, argv);
	return 0;
}
