/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Operations on the memory of a guest, and a model of what they may do to it.
 *
 * Model: every actor (a VP, or a thread of the VMM) has a quadword in each page
 * that only it writes. It holds number of the page, actor, and a sequence number,
 * so that what does not belong there is recognised; the actor knows what it wrote
 * last. A page may read as zero only if an operation that discards was in progress
 * at some time since then, and a guest access may be intercepted only if the model
 * says that the VMM has none, or an operation was changing that.
 *
 * Every so often all actors pause, and the SLAT is compared with the page tables,
 * the contents with the model, both as guest and VMM see them.
 */
#ifndef SELFTESTS_MSHV_MM_OPS_H
#define SELFTESTS_MSHV_MM_OPS_H

#include <pthread.h>

#include "mshv_util.h"

#define PAGES		(3 * HUGE_PAGES)
#define BLOCK		32		/* pages that have a lock in common */
#define BLOCKS		(PAGES / BLOCK)
#define MAX_VPS		4
#define MAX_THREADS	3
#define ACTORS		(MAX_VPS + MAX_THREADS)
#define ONE_THREAD	MAX_VPS		/* who does it all in one_at_a_time */

#define LOG_SIZE	(1U << 15)
#define MAX_KINDS	48

enum access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE };

/* In pages; the argument means what the kind makes of it */
struct op {
	u8 kind;
	u8 actor;
	u16 pages;
	u32 first;
	u32 arg;
};

/*
 * Something was going on at a time between two looks if what had begun by the
 * second one is not what had ended by the first.
 */
struct page {
	u64 discards_begun;
	u64 changes_begun;
	u64 changes_ended;
	u8 access;
};

/* Shared with the guest */
struct table {
	u64 discards_ended[PAGES];
	struct guest_expected expected[ACTORS][PAGES];
};

struct fuzz;

struct fuzz_kind {
	const char *name;
	int (*run)(struct fuzz *f, const struct op *op, int advice);
	int advice;			/* of madvise() */
	unsigned int weight;
	u8 backings;			/* that know it */
	u8 discards;			/* ... and may lose data by it */
	enum { RANGE_READ, RANGE_WRITE, RANGE_UNLOCKED } lock;
	enum { RANGE_ANY, RANGE_ONE, RANGE_REGION, RANGE_TAIL, RANGE_CHUNKS } range;
};

struct fuzz {
	enum mshv_backing backing;
	struct mshv_pt pt;
	u8 *mem;
	u8 *away;			/* as much address space, for mremap */
	int memfd;
	int uffd;
	pthread_t uffd_thread;
	bool uffd_end;
	struct table *table;
	struct page page[PAGES];
	pthread_rwlock_t block[BLOCKS];
	unsigned int vps;
	unsigned int nodes;
	bool alone;			/* one thread does everything */
	u32 seq[ACTORS];

	pthread_rwlock_t running;	/* written to pause all actors */
	pthread_t vp_thread[MAX_VPS];
	bool end;

	struct op log[LOG_SIZE];	/* the last ones */
	u32 logged;
	u32 last[ACTORS];		/* in the log, of each actor */
	u32 done[MAX_KINDS];
	u32 refused[MAX_KINDS];
	u64 intercepts;
	u64 discarded;
	u64 compared;
	u64 audits;
	bool failed;
	char why[256];
};

/* The first few are those that fuzz_make_any() does not make */
enum { AUDIT, SPOIL, WALK, FIRST_KIND };

extern const struct fuzz_kind fuzz_kinds[];
extern const unsigned int fuzz_nr_kinds;

/* Memory, a partition with VPs and regions: the reason to skip, or NULL */
const char *fuzz_create(struct fuzz *f, enum mshv_backing backing,
		       unsigned int vps);
void fuzz_destroy(struct fuzz *f);
/* The first failure is the one that counts */
void __printf(2, 3) fuzz_fail(struct fuzz *f, const char *fmt, ...);
u32 fuzz_random(u64 *state);
/* An operation on random pages: most ranges are short, some are chunks */
struct op fuzz_make(struct fuzz *f, unsigned int kind, unsigned int actor,
		    u64 *random);
struct op fuzz_make_any(struct fuzz *f, unsigned int actor, u64 *random);
void fuzz_run(struct fuzz *f, const struct op *op);

#endif /* SELFTESTS_MSHV_MM_OPS_H */
