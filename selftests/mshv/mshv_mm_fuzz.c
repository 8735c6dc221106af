// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on the memory of a guest whose VPs use it: whatever is done
 * to it, the SLAT mirrors the page tables of the VMM, and nothing is lost that
 * was not thrown away.
 *
 * The operations and the model are in mm_ops.[ch].
 *
 * What reproduces: an operation is complete in itself (struct op), nothing in it is
 * random but what its argument says. one_at_a_time runs what one generator gives,
 * all at_once one generator per actor; SEED fixes both, but with the latter not the
 * order, and with neither what the kernel does in the background (reclaim, KSM,
 * compaction) and how far a DURATION gets. The operations are logged in the order in
 * which they begin. If a run fails they are repeated in one thread, in a process and
 * a partition of their own, and if this fails, too, cut down to a short script, which
 * SCRIPT repeats. A failure that takes two at once may not fail that way; then SEED
 * and more time are what there is.
 *
 * SEED (1), DURATION in seconds of all tests together, SCRIPT (text, or a file)
 * are environment variables.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "mm_ops.h"

#define AUDIT_EVERY	128		/* operations */
#define SHRINK_SECONDS	30
#define DEFAULT_SECONDS	2
#define TESTS		8		/* that share the DURATION */
#define FOREVER		1000000

static const char * const backing_names[] = {
	[BACKING_ANON] = "anon",
	[BACKING_THP] = "thp",
	[BACKING_HUGETLB] = "hugetlb",
	[BACKING_MEMFD] = "memfd",
};

/* Outlives the process of a replay */
static struct fuzz *fuzz;

static struct {
	u64 seed;
	unsigned int seconds;
	const char *script;
} opt = { .seed = 1, .seconds = DEFAULT_SECONDS };

static void audit(struct fuzz *f, u64 *random)
{
	struct op op = fuzz_make(f, AUDIT, ONE_THREAD, random);

	fuzz_run(f, &op);
}

static void audit_all(struct fuzz *f)
{
	struct op op = { .kind = AUDIT, .actor = ONE_THREAD, .pages = PAGES };

	if (!f->failed)
		fuzz_run(f, &op);
}

/*
 * A run from start to end
 */

/* Its own sequence of random numbers for each actor and kind of test */
static u64 seed(struct fuzz *f, unsigned int actor)
{
	return opt.seed * 0x100000001b3ULL + f->backing * 64 + f->alone * 32 + actor;
}

static bool goes_on(struct fuzz *f, u64 deadline)
{
	return now_ms() < deadline && !READ_ONCE(f->failed);
}

static void run_one_at_a_time(struct fuzz *f, u64 deadline)
{
	u64 random = seed(f, ONE_THREAD);

	while (goes_on(f, deadline)) {
		struct op op;

		if (fuzz_random(&random) % 3)
			op = fuzz_make_any(f, ONE_THREAD, &random);
		else
			op = fuzz_make(f, WALK, fuzz_random(&random) % f->vps, &random);
		fuzz_run(f, &op);
		if (f->logged % AUDIT_EVERY == AUDIT_EVERY - 1)
			audit(f, &random);
	}
	audit_all(f);
}

struct worker {
	struct fuzz *f;
	pthread_t thread;
	unsigned int actor;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct fuzz *f = worker->f;
	u64 random = seed(f, worker->actor);
	struct op op;

	while (!READ_ONCE(f->end) && !READ_ONCE(f->failed)) {
		if (worker->actor < MAX_VPS)
			op = fuzz_make(f, WALK, worker->actor, &random);
		else
			op = fuzz_make_any(f, worker->actor, &random);
		pthread_rwlock_rdlock(&f->running);
		fuzz_run(f, &op);
		pthread_rwlock_unlock(&f->running);
	}
	return NULL;
}

static void run_all_at_once(struct fuzz *f, u64 deadline)
{
	struct worker workers[ACTORS] = {};
	u64 random = seed(f, ACTORS);
	u32 next = AUDIT_EVERY;
	unsigned int i;

	pthread_rwlock_wrlock(&f->running);
	for (i = 0; i < ACTORS; i++) {
		workers[i].f = f;
		workers[i].actor = i;
		if (i >= MAX_VPS || i < f->vps)
			pthread_create(&workers[i].thread, NULL, work, &workers[i]);
		if (i < f->vps)
			f->vp_thread[i] = workers[i].thread;
	}
	pthread_rwlock_unlock(&f->running);

	while (goes_on(f, deadline)) {
		usleep(1000);
		if (READ_ONCE(f->logged) < next)
			continue;
		pthread_rwlock_wrlock(&f->running);
		audit(f, &random);
		next = f->logged + AUDIT_EVERY;
		pthread_rwlock_unlock(&f->running);
	}

	WRITE_ONCE(f->end, true);
	for (i = 0; i < ACTORS; i++)
		if (workers[i].thread)
			pthread_join(workers[i].thread, NULL);
	audit_all(f);
}

/*
 * Scripts: the backing, then kind:actor:first:pages:argument, separated by blanks
 */

static void print_op(const struct op *op)
{
	ksft_print_msg("%s:%u:%u:%u:%u\n", fuzz_kinds[op->kind].name,
		       op->actor, op->first, op->pages, op->arg);
}

/* Does it fail in a process and a partition of its own? */
static bool replay(struct fuzz *f, enum mshv_backing backing,
		   const struct op *ops, u32 n)
{
	const char *why;
	int status;
	pid_t pid;
	u32 i;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		signal(SIGALRM, SIG_DFL);
		alarm(60);
		why = fuzz_create(f, backing, MAX_VPS);
		if (why) {
			fuzz_fail(f, "%s", why);
			_exit(2);
		}
		f->alone = true;
		for (i = 0; i < n && !f->failed; i++)
			fuzz_run(f, &ops[i]);
		audit_all(f);
		_exit(f->failed);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status)) {
		f->failed = false;
		fuzz_fail(f, "signal %d", WTERMSIG(status));
		return WTERMSIG(status) != SIGALRM;
	}
	return WEXITSTATUS(status) == 1;
}

/* In the manner of ddmin: leave out ever smaller parts if the rest still fails */
static u32 minimize(struct fuzz *f, enum mshv_backing backing, struct op *ops,
		    u32 n, u64 deadline)
{
	static struct op rest[LOG_SIZE];
	u32 size = n / 2, from, part;
	bool less;

	while (size && now_ms() < deadline) {
		less = false;
		for (from = 0; from < n && n > 1 && now_ms() < deadline; ) {
			part = size < n - from ? size : n - from;
			memcpy(rest, ops, from * sizeof(*ops));
			memcpy(rest + from, ops + from + part,
			       (n - from - part) * sizeof(*ops));
			if (!replay(f, backing, rest, n - part)) {
				from += part;
				continue;
			}
			n -= part;
			memcpy(ops, rest, n * sizeof(*ops));
			less = true;
		}
		if (size > 1)
			size /= 2;
		else if (!less)
			break;
	}
	return n;
}

/*
 * The shortest script found that fails when replayed, printed; returns its length,
 * or 0 if the failure does not come back.
 */
static u32 shrink(struct fuzz *f)
{
	static struct op log[LOG_SIZE], ops[LOG_SIZE];
	const u64 deadline = now_ms() + SHRINK_SECONDS * 1000;
	const enum mshv_backing backing = f->backing;
	const u32 all = f->logged < LOG_SIZE ? f->logged : LOG_SIZE;
	bool fails = false;
	u32 n = 0, i;

	/* A replay uses the same struct */
	for (i = 0; i < all; i++)
		log[i] = f->log[(f->logged - all + i) % LOG_SIZE];

	/* As little of the end as will do */
	while (!fails && n < all && now_ms() < deadline) {
		n = n ? 8 * n : 32;
		if (n > all)
			n = all;
		memcpy(ops, log + all - n, n * sizeof(*ops));
		fails = replay(f, backing, ops, n);
	}
	if (!fails) {
		ksft_print_msg("the last operations of %u, which do not fail one at a time:\n",
			       all);
		for (i = all < 20 ? 0 : all - 20; i < all; i++)
			print_op(&log[i]);
		return 0;
	}

	n = minimize(f, backing, ops, n, deadline);
	fails = replay(f, backing, ops, n);
	ksft_print_msg("%s with this script: %s\n",
		       fails ? "fails" : "failed at least once",
		       fails ? f->why : "");
	ksft_print_msg("%s\n", backing_names[backing]);
	for (i = 0; i < n; i++)
		print_op(&ops[i]);
	return n;
}

/* What is left of a copied line is no part of a script: "# " in front of it */
static const char *next_word(const char **text, char *word, size_t size)
{
	size_t n;

	*text += strspn(*text, " \t\n#");
	n = strcspn(*text, " \t\n#");
	snprintf(word, size, "%.*s", (int)n, *text);
	*text += n;
	return n ? word : NULL;
}

/* Number of operations, or -1 and the word that is none */
static int parse_script(const char *text, enum mshv_backing *backing,
			struct op *ops, char *word, size_t size)
{
	char name[32];
	unsigned int i, actor, first, pages, arg;
	int n = 0;

	*backing = ARRAY_SIZE(backing_names);
	if (!next_word(&text, word, size))
		return -1;
	for (i = 0; i < ARRAY_SIZE(backing_names); i++)
		if (!strcmp(word, backing_names[i]))
			*backing = i;
	if (*backing == ARRAY_SIZE(backing_names))
		return -1;

	while (next_word(&text, word, size)) {
		if (n == LOG_SIZE ||
		    sscanf(word, "%31[a-z_]:%u:%u:%u:%u", name, &actor, &first,
			   &pages, &arg) != 5 ||
		    actor >= ACTORS || first >= PAGES || pages > PAGES - first)
			return -1;
		for (i = 0; i < fuzz_nr_kinds; i++)
			if (!strcmp(name, fuzz_kinds[i].name))
				break;
		if (i == fuzz_nr_kinds || !(fuzz_kinds[i].backings & BIT(*backing)) ||
		    (i == WALK && actor >= MAX_VPS))
			return -1;
		ops[n++] = (struct op){ i, actor, pages, first, arg };
	}
	return n;
}

static void summary(struct fuzz *f, const char *what)
{
	char text[1024] = "";
	size_t n = 0;
	u32 total = 0;
	unsigned int i;

	for (i = 0; i < fuzz_nr_kinds; i++) {
		if (!f->done[i] || n > sizeof(text) - 64)
			continue;
		total += f->done[i];
		n += snprintf(text + n, sizeof(text) - n, " %s %u", fuzz_kinds[i].name,
			      f->done[i]);
		if (f->refused[i])
			n += snprintf(text + n, sizeof(text) - n, "-%u",
				      f->refused[i]);
	}
	ksft_print_msg("%s, %s: seed %llu, %u VPs, %u operations (- refused):%s\n",
		       what, backing_names[f->backing],
		       (unsigned long long)opt.seed, f->vps, total, text);
	ksft_print_msg("%ld intercepts, %llu for the VMM, %llu audits, %llu values, %llu gone\n",
		       oracle_messages(HVMSG_GPA_INTERCEPT),
		       (unsigned long long)f->intercepts,
		       (unsigned long long)f->audits,
		       (unsigned long long)f->compared,
		       (unsigned long long)f->discarded);
}

static void on_kick(int signal)
{
}

/* Nothing moves any more */
static void on_alarm(int signal)
{
	unsigned int i;

	ksft_print_msg("seed %llu: it hangs; the last operation of each actor:\n",
		       (unsigned long long)opt.seed);
	for (i = 0; i < ACTORS; i++)
		print_op(&fuzz->log[fuzz->last[i]]);
	_exit(KSFT_FAIL);
}

static unsigned long long number(const char *name, unsigned long long value,
				 unsigned long long min, unsigned long long max)
{
	const char *text = getenv(name);
	char *end;

	if (!text || !*text)
		return value;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || value < min ||
	    value > max) {
		printf("Bail out! %s=%s: not a number from %llu to %llu\n", name,
		       text, min, max);
		exit(KSFT_FAIL);
	}
	return value;
}

__attribute__((constructor)) static void options(void)
{
	static char text[65536];

	opt.seed = number("SEED", 1, 0, ~0ULL);
	opt.seconds = number("DURATION", DEFAULT_SECONDS, 1, FOREVER);
	opt.script = getenv("SCRIPT");
	if (opt.script && !*opt.script)
		opt.script = NULL;
	if (opt.script && read_file(opt.script, text, sizeof(text)))
		opt.script = text;
}

static bool prepare(char *swap)
{
	struct sigaction kick = { .sa_handler = on_kick };

	fuzz = mmap(NULL, sizeof(*fuzz), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fuzz == MAP_FAILED)
		return false;
	swap_start(swap);
	/* Operations start and stop it */
	setting_set(KSM "run", "0");
	setting_set(KSM "pages_to_scan", "1000");
	setting_set(KSM "sleep_millisecs", "5");
	signal(SIGALRM, on_alarm);
	alarm(opt.seconds + 120);
	/* Without SA_RESTART, so that it ends MSHV_RUN_VP */
	return !sigaction(SIGUSR1, &kick, NULL);
}

static void restore(char *swap)
{
	settings_restore();
	swap_stop(swap);
}

FIXTURE(fuzz)
{
	char swap[SWAP_NAME];
};

FIXTURE_VARIANT(fuzz)
{
	enum mshv_backing backing;
};

FIXTURE_VARIANT_ADD(fuzz, anon) { .backing = BACKING_ANON };
FIXTURE_VARIANT_ADD(fuzz, thp) { .backing = BACKING_THP };
FIXTURE_VARIANT_ADD(fuzz, memfd) { .backing = BACKING_MEMFD };
FIXTURE_VARIANT_ADD(fuzz, hugetlb) { .backing = BACKING_HUGETLB };

FIXTURE_SETUP(fuzz)
{
	require_mshv();
	require_feature(FEATURE_MOVABLE);
	if (opt.script)
		SKIP(return, "SCRIPT is run instead");
	ASSERT_TRUE(prepare(self->swap));
}

FIXTURE_TEARDOWN(fuzz)
{
	restore(self->swap);
}

/* The number of VPs is part of the sequence, too */
#define run_fuzz(_how) do { \
	const char *_why; \
	bool _failed; \
	\
	_why = fuzz_create(fuzz, variant->backing, 1 + (opt.seed + variant->backing) % \
		     MAX_VPS); \
	EXPECT_FALSE(fuzz->failed) { \
		TH_LOG("%s", fuzz->why); \
	} \
	if (_why) \
		skip_rest("%s", _why); \
	oracle_reset(); \
	fuzz->alone = run_##_how == run_one_at_a_time; \
	run_##_how(fuzz, now_ms() + opt.seconds * 1000ULL / TESTS); \
	summary(fuzz, #_how); \
	_failed = fuzz->failed; \
	EXPECT_FALSE(_failed) { \
		TH_LOG("seed %llu: %s", (unsigned long long)opt.seed, fuzz->why); \
	} \
	fuzz_destroy(fuzz); \
	if (_failed) { \
		alarm(3 * SHRINK_SECONDS); \
		shrink(fuzz); \
	} \
} while (0)

TEST_F_TIMEOUT(fuzz, one_at_a_time, FOREVER)
{
	run_fuzz(one_at_a_time);
}

TEST_F_TIMEOUT(fuzz, all_at_once, FOREVER)
{
	run_fuzz(all_at_once);
}

FIXTURE(script)
{
	char swap[SWAP_NAME];
	struct op ops[LOG_SIZE];
};

FIXTURE_SETUP(script)
{
	require_mshv();
	require_feature(FEATURE_MOVABLE);
	ASSERT_TRUE(prepare(self->swap));
}

FIXTURE_TEARDOWN(script)
{
	restore(self->swap);
}

/* Are wrong values found, and is the script cut down to what makes them? */
TEST_F_TIMEOUT(script, is_cut_down_to_what_fails, FOREVER)
{
	u64 random = opt.seed;
	u32 n = 12, i;

	if (opt.script)
		SKIP(return, "SCRIPT is run instead");
	for (i = 0; i < n; i++)
		self->ops[i] = fuzz_make(fuzz, WALK, i % MAX_VPS, &random);
	self->ops[6] = fuzz_make(fuzz, SPOIL, ONE_THREAD, &random);
	EXPECT_TRUE(replay(fuzz, BACKING_ANON, self->ops, n));
	n = minimize(fuzz, BACKING_ANON, self->ops, n, now_ms() + 60000);
	EXPECT_EQ(1, n);
	EXPECT_EQ(SPOIL, self->ops[0].kind);
}

/* One that has each kind once, or that of the user */
TEST_F_TIMEOUT(script, passes, FOREVER)
{
	enum mshv_backing backing = BACKING_ANON;
	u64 random = opt.seed;
	char word[64] = "";
	int n = 0, i;

	if (opt.script)
		n = parse_script(opt.script, &backing, self->ops, word, sizeof(word));
	for (i = FIRST_KIND; !opt.script && i < fuzz_nr_kinds; i++) {
		if (!(fuzz_kinds[i].backings & BIT(backing)))
			continue;
		self->ops[n++] = fuzz_make(fuzz, WALK, i % MAX_VPS, &random);
		self->ops[n++] = fuzz_make(fuzz, i, ONE_THREAD, &random);
	}
	ASSERT_LE(0, n) {
		TH_LOG("SCRIPT: \"%s\" is not understood", word);
	}
	/* If it ends at all, and before that begins */
	EXPECT_FALSE(replay(fuzz, backing, self->ops, n) || fuzz->failed) {
		TH_LOG("%s", fuzz->why);
	}
	summary(fuzz, "script");
}

TEST_HARNESS_MAIN
