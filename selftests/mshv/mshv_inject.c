// SPDX-License-Identifier: GPL-2.0
/*
 * Hypercalls that fail, take long, or want memory: those that the driver makes in
 * the life of a partition, and what is left of the partition after that.
 *
 * What must be there: a VMM that tries again gets what it wanted; when it gives up,
 * and in the end, no partition, no page and no pin is left, and the next partition
 * works. Where the hypervisor does not take back what the guest has, it is lost on
 * purpose: the test counts that, and does not overlook it.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define RCU_EXPEDITED	"/sys/kernel/rcu_expedited"

#define SMALL_PAGES	64UL
#define SMALL_SIZE	(SMALL_PAGES * PAGE_SIZE)
#define HALF_SIZE	(SMALL_SIZE / 2)

/* Where the regions are: 4K pages, a large page, device memory */
#define LARGE_GFN	(2 * TEST_GFN)
#define LARGE_GPA	(LARGE_GFN << PAGE_SHIFT)
#define MMIO_GFN	(3 * TEST_GFN)
#define MMIO_GPA	(MMIO_GFN << PAGE_SHIFT)

/* States of a partition, as the oracle has them */
#define STATE_ACTIVE	2
#define STATE_FINALIZED	3

/* From when on hypercalls fail */
enum phase { FROM_THE_START, AT_FILL, AT_TAKE_BACK, AT_UNMAP };

struct failure {
	u16 code, status;
	u64 nth, reps, flags;
};

/* All that a partition is used for, from its creation to its end */
struct life {
	struct mshv_pt pt;
	u8 *small, *large, *mmio;
	u8 *memfd;		/* of an encrypted partition */
	unsigned int errors;	/* that the VMM saw, and tried again */
	unsigned int wrong;	/* what must never be */
	bool dead;		/* the partition refuses everything */
	enum phase phase;	/* when these are to fail */
	struct failure failures[2];
};

/* A VMM tries again what has failed, once */
#define twice(_life, _call) ({ \
	int _ret = (_call); \
	if (_ret < 0) { \
		(_life)->errors++; \
		_ret = (_call); \
	} \
	_ret; \
})

#define must_be(_life, _what) do { \
	if (!(_what)) { \
		ksft_print_msg("line %u: not so: %s\n", __LINE__, #_what); \
		(_life)->wrong++; \
	} \
} while (0)

static void fail_from(struct life *life, enum phase phase)
{
	const struct failure *failure = life->failures;
	size_t i;

	for (i = 0; life->phase == phase && i < ARRAY_SIZE(life->failures); i++)
		if (failure[i].code)
			oracle_inject(failure[i].code, failure[i].nth,
				      failure[i].status, failure[i].reps,
				      failure[i].flags);
}

static int add_vp(struct life *life, u32 index)
{
	struct mshv_vp *vp = &life->pt.vp[index];
	int ret = mshv_pt_add_vp(&life->pt, index);

	if (!ret)
		return 0;
	life->errors++;
	/* It may be there, but not ready */
	return vp->fd < 0 ? mshv_pt_add_vp(&life->pt, index) : guest_init_vp(vp);
}

static int create(struct life *life, u64 isolation)
{
	int ret;

	fail_from(life, FROM_THE_START);
	ret = twice(life, mshv_pt_create(&life->pt, 0, isolation));
	return ret ?: twice(life, mshv_initialize_partition(life->pt.fd));
}

static int configure(struct life *life)
{
	struct hv_input_get_partition_property get = {
		.property_code = HV_PARTITION_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
	};
	struct hv_input_set_partition_property set = {
		.property_code = HV_PARTITION_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
		.property_value = 1,
	};
	struct mshv_pt *pt = &life->pt;
	u64 value;
	int ret;

	ret = twice(life, mshv_hvcall(pt->fd, HVCALL_SET_PARTITION_PROPERTY, 0,
				      &set, sizeof(set), NULL, 0, NULL));
	if (!ret)
		ret = twice(life, mshv_hvcall(pt->fd, HVCALL_GET_PARTITION_PROPERTY,
					      0, &get, sizeof(get), &value,
					      sizeof(value), NULL));
	if (!ret)
		ret = twice(life, mshv_pt_load_guest(pt));
	if (!ret)
		ret = add_vp(life, 0);
	if (!ret)
		ret = add_vp(life, 1);
	if (!ret)
		ret = twice(life, mshv_install_intercept(pt, 4,
							 HV_INTERCEPT_TYPE_X64_CPUID,
							 0));
	return ret;
}

static int map_all(struct life *life)
{
	struct mshv_pt *pt = &life->pt;
	int ret;

	/* Half of the one was touched before, the rest not even in an earlier life */
	memset(life->small, 1, HALF_SIZE);
	madvise(life->small + HALF_SIZE, HALF_SIZE, MADV_DONTNEED);
	memset(life->large, 1, HUGE_SIZE);
	ret = twice(life, mshv_map(pt, TEST_GFN, life->small, SMALL_SIZE, MEM_RWX));
	if (!ret)
		ret = twice(life, mshv_map(pt, LARGE_GFN, life->large, HUGE_SIZE,
					   MEM_RWX));
	if (!ret && life->mmio)
		ret = twice(life, mshv_map(pt, MMIO_GFN, life->mmio, PAGE_SIZE,
					   MEM_RW));
	return ret;
}

/* A command of the guest */
#define guest(_life, _vp, _command, _result, ...) \
	twice(_life, guest_call(&(_life)->pt.vp[_vp], _command, \
				GUEST_ARGS(__VA_ARGS__), _result))

static int use_vps(struct life *life)
{
	static u8 area[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	struct hv_output_translate_virtual_address where;
	struct mshv_vp *vp = &life->pt.vp[0];
	u32 size = sizeof(area);
	int ret;

	ret = twice(life, mshv_vp_state(vp, MSHV_GET_VP_STATE, MSHV_VP_STATE_XSAVE,
					area, &size));
	if (!ret)
		ret = twice(life, mshv_vp_state(vp, MSHV_SET_VP_STATE,
						MSHV_VP_STATE_XSAVE, area, &size));
	if (!ret)
		ret = twice(life, mshv_translate_gva(vp, TEST_GPA, 1, &where));
	return ret;
}

static int fill(struct life *life)
{
	u64 dirty[SMALL_PAGES / 64] = {}, value = 0;
	int ret;

	fail_from(life, AT_FILL);
	ret = guest(life, 0, guest_fill, NULL, .rdi = TEST_GPA, .rsi = SMALL_PAGES,
		    .rdx = 100);
	if (!ret)
		ret = guest(life, 1, guest_fill, NULL, .rdi = LARGE_GPA,
			    .rsi = HUGE_PAGES, .rdx = 200);
	if (ret)
		return ret;
	must_be(life, !mismatches(life->small, SMALL_PAGES, 100));
	must_be(life, !mismatches(life->large, HUGE_PAGES, 200));
	must_be(life, !slat_check(&life->pt, TEST_GFN, life->small, SMALL_PAGES,
				  SLAT_RWX, false));
	must_be(life, !slat_check(&life->pt, LARGE_GFN, life->large, HUGE_PAGES,
				  SLAT_RWX, false));
	if (life->mmio) {
		ret = guest(life, 0, guest_read, &value, .rdi = MMIO_GPA);
		must_be(life, ret || value);
	}
	if (!ret)
		ret = twice(life, mshv_access_bitmap(&life->pt, TEST_GFN, SMALL_PAGES,
						     MSHV_GPAP_ACCESS_TYPE_DIRTY,
						     MSHV_GPAP_ACCESS_OP_CLEAR, dirty));
	return ret;
}

/* Linux takes back some of it: to discard, to protect, to share it with a child */
static int take_back(struct life *life)
{
	const size_t hole = 100;
	u64 value;
	pid_t child;
	int ret;

	fail_from(life, AT_TAKE_BACK);
	madvise(life->small, HALF_SIZE, MADV_DONTNEED);
	madvise(quad(life->large, hole), PAGE_SIZE, MADV_DONTNEED);
	must_be(life, !accessible_pages(&life->pt, TEST_GFN, SMALL_PAGES / 2));
	must_be(life, !accessible(&life->pt, LARGE_GFN + hole));
	ret = guest(life, 1, guest_read, &value, .rdi = TEST_GPA);
	must_be(life, ret || !value);
	if (!ret)
		ret = guest(life, 0, guest_read, &value,
			    .rdi = LARGE_GPA + hole * PAGE_SIZE);
	must_be(life, ret || !value);
	if (!ret)
		ret = guest(life, 0, guest_check, &value, .rdi = LARGE_GPA,
			    .rsi = hole, .rdx = 200);
	must_be(life, ret || !value);

	mprotect(life->small + HALF_SIZE, HALF_SIZE, PROT_READ);
	if (!ret)
		ret = guest(life, 0, guest_check, &value,
			    .rdi = TEST_GPA + HALF_SIZE, .rsi = SMALL_PAGES / 2,
			    .rdx = 100 + SMALL_PAGES / 2);
	must_be(life, ret || !value);
	mprotect(life->small + HALF_SIZE, HALF_SIZE, PROT_READ | PROT_WRITE);

	child = fork();
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	if (!ret)
		ret = guest(life, 0, guest_fill, NULL, .rdi = TEST_GPA,
			    .rsi = SMALL_PAGES, .rdx = 300);
	must_be(life, ret || !mismatches(life->small, SMALL_PAGES, 300));
	return ret;
}

static int unmap_all(struct life *life)
{
	struct mshv_pt *pt = &life->pt;
	int ret;

	fail_from(life, AT_UNMAP);
	ret = twice(life, mshv_unmap(pt, LARGE_GFN, life->large, HUGE_SIZE));
	must_be(life, ret || oracle_mapped(pt->id, LARGE_GFN,
					   LARGE_GFN + HUGE_PAGES - 1) <= 0);
	if (!ret && life->mmio)
		ret = twice(life, mshv_unmap(pt, MMIO_GFN, life->mmio, PAGE_SIZE));
	/* The third one goes with the partition */
	return ret;
}

/* Returns 0, or the error that trying again did not help against */
static int live(struct life *life)
{
	int ret = create(life, MSHV_PT_ISOLATION_NONE);

	if (!ret)
		ret = configure(life);
	if (!ret)
		ret = map_all(life);
	if (!ret)
		ret = fill(life);
	if (!ret)
		ret = use_vps(life);
	if (!ret)
		ret = take_back(life);
	if (!ret)
		ret = unmap_all(life);
	if (ret && life->pt.vp[0].fd >= 0)
		life->dead = mshv_run_once(&life->pt.vp[0]) == -EIO;
	mshv_pt_close(&life->pt);
	return ret;
}

/* The same for memory that the VMM must not look at; pages it never gets back in @lost */
static int live_encrypted(struct life *life, long *lost)
{
	struct mshv_pt *pt = &life->pt;
	u64 pfns[SMALL_PAGES];
	size_t i;
	int ret;

	life->memfd = mshv_alloc(BACKING_MEMFD, SMALL_SIZE);
	if (!life->memfd)
		return -ENOMEM;
	for (i = 0; i < SMALL_PAGES; i++) {
		*quad(life->memfd, i) = i;
		pfns[i] = page_pfn(quad(life->memfd, i));
	}
	ret = create(life, TEST_ISOLATION_SNP);
	for (i = 0; !ret && i < 2; i++) {
		ret = twice(life, mshv_map(pt, TEST_GFN, life->memfd, SMALL_SIZE,
					   MEM_RWX));
		/* The second one is left to the end of the partition */
		if (!ret && !i)
			ret = twice(life, mshv_unmap(pt, TEST_GFN, life->memfd,
						     SMALL_SIZE));
	}
	if (ret && pt->fd >= 0)
		life->dead = mshv_map(pt, MMIO_GFN, life->small, PAGE_SIZE,
				      MEM_RW) == -EIO;
	mshv_pt_close(pt);
	*lost = pages_in_state(pfns, SMALL_PAGES, ORACLE_PAGE_EXCLUSIVE);
	must_be(life, *lost + pages_in_state(pfns, SMALL_PAGES, ORACLE_PAGE_ROOT) ==
		SMALL_PAGES);
	for (i = 0; !*lost && i < SMALL_PAGES; i++)
		must_be(life, *quad(life->memfd, i) == i);
	mshv_free(life->memfd, SMALL_SIZE);
	return ret;
}

/* What there is of all that can be lost */
struct stock {
	long pins;
	long partitions;
	u64 children;	/* pages that partitions have */
	u64 root;	/* pages that the root partition has given for itself */
	u64 leaks;	/* partitions that were to be deleted and had pages */
	long free;	/* pages of free memory */
	u64 last;	/* newest partition */
};

/* With what the CPUs keep for themselves, which is thousands, or not, by chance */
static long free_pages(void)
{
	long free = read_field("/proc/meminfo", "MemFree") / 4, count;
	FILE *zones = fopen("/proc/zoneinfo", "r");
	char line[128];

	while (zones && fgets(line, sizeof(line), zones))
		if (sscanf(line, " count: %ld", &count) == 1)
			free += count;
	if (zones)
		fclose(zones);
	return free;
}

static struct stock take_stock(void)
{
	struct stock stock = {
		.pins = pin_balance(),
		.free = free_pages(),
	};
	struct oracle_partition partition;
	struct oracle_totals totals;
	struct oracle_pool pool;

	while (!oracle_partition_after(stock.last, &partition)) {
		stock.last = partition.id;
		stock.partitions++;
		if (!oracle_pool(partition.id, &pool))
			stock.children += pool.deposited;
	}
	oracle_totals(&totals);
	stock.root = totals.deposited - totals.withdrawn - stock.children;
	stock.leaks = totals.leaks;
	return stock;
}

/* What a hypercall that fails may leave behind */
#define DIES		BIT(0)	/* a partition that can do nothing more */
#define STAYS		BIT(1)	/* a partition for ever */
#define ROOT_GROWS	BIT(2)	/* memory the root partition gave for itself */
#define GIVES_UP	BIT(3)	/* a VMM that does not get what it wants */

FIXTURE(sweep)
{
	struct life life;
	struct stock start;
	unsigned int steps, errors, deaths, kept;
	/* Every call fails where a life is short, not so many with KASAN and the like */
	unsigned int stride;
};

FIXTURE_VARIANT(sweep)
{
	u16 code;
	/* Repetitions after which it fails */
	u16 reps[3];
	unsigned int leaves;
	/* Not only with those statuses that the driver tells apart */
	bool all_statuses;
	/* Fails, too, the first time or always, so that @code is called */
	u16 with, with_reps;
	bool with_forever;
	/* ... with this, if not with OPERATION_DENIED */
	u16 with_status;
	enum phase phase;
	bool encrypted;
	/* If it always did, the guest would keep pages that are not its own */
	bool only_once;
};

FIXTURE_VARIANT_ADD(sweep, create_partition) {
	.code = HVCALL_CREATE_PARTITION, .leaves = ROOT_GROWS,
};

FIXTURE_VARIANT_ADD(sweep, initialize_partition) {
	.code = HVCALL_INITIALIZE_PARTITION,
};

FIXTURE_VARIANT_ADD(sweep, finalize_partition) {
	.code = HVCALL_FINALIZE_PARTITION, .leaves = STAYS,
};

FIXTURE_VARIANT_ADD(sweep, delete_partition) {
	.code = HVCALL_DELETE_PARTITION, .leaves = STAYS,
};

FIXTURE_VARIANT_ADD(sweep, get_property) {
	.code = HVCALL_GET_PARTITION_PROPERTY,
};

FIXTURE_VARIANT_ADD(sweep, set_property) {
	.code = HVCALL_SET_PARTITION_PROPERTY,
};

FIXTURE_VARIANT_ADD(sweep, deposit) {
	.code = HVCALL_DEPOSIT_MEMORY, .reps = { 1, 45, 89 },
	.all_statuses = true,
};

/* While a VP waits for a page */
FIXTURE_VARIANT_ADD(sweep, deposit_for_a_fault) {
	.code = HVCALL_DEPOSIT_MEMORY, .reps = { 1, 255 },
	.with = HVCALL_MAP_GPA_PAGES,
	.with_status = HV_STATUS_INSUFFICIENT_MEMORY, .phase = AT_FILL,
};

/* Of what the driver has kept for when it cannot wait for memory */
FIXTURE_VARIANT_ADD(sweep, deposit_for_an_invalidation) {
	.code = HVCALL_DEPOSIT_MEMORY, .reps = { 1, 2 },
	.with = HVCALL_MAP_GPA_PAGES,
	.with_status = HV_STATUS_INSUFFICIENT_MEMORY, .phase = AT_TAKE_BACK,
};

/* The partition has 388 pages, the encrypted one below 208 */
FIXTURE_VARIANT_ADD(sweep, withdraw) {
	.code = HVCALL_WITHDRAW_MEMORY, .reps = { 1, 100, 300 }, .leaves = STAYS,
};

FIXTURE_VARIANT_ADD(sweep, map) {
	.code = HVCALL_MAP_GPA_PAGES, .reps = { 1, 32, 63 },
	.all_statuses = true,
};

FIXTURE_VARIANT_ADD(sweep, unmap) {
	.code = HVCALL_UNMAP_GPA_PAGES, .reps = { 1, 32, 63 }, .leaves = DIES,
	.all_statuses = true,
};

FIXTURE_VARIANT_ADD(sweep, install_intercept) {
	.code = HVCALL_INSTALL_INTERCEPT,
};

FIXTURE_VARIANT_ADD(sweep, create_vp) {
	.code = HVCALL_CREATE_VP,
};

FIXTURE_VARIANT_ADD(sweep, get_registers) {
	.code = HVCALL_GET_VP_REGISTERS,
};

FIXTURE_VARIANT_ADD(sweep, set_registers) {
	.code = HVCALL_SET_VP_REGISTERS, .reps = { 1, 3, 5 },
};

FIXTURE_VARIANT_ADD(sweep, translate) {
	.code = HVCALL_TRANSLATE_VIRTUAL_ADDRESS,
};

FIXTURE_VARIANT_ADD(sweep, map_stats_page) {
	.code = HVCALL_MAP_STATS_PAGE, .leaves = ROOT_GROWS,
};

FIXTURE_VARIANT_ADD(sweep, unmap_stats_page) {
	.code = HVCALL_UNMAP_STATS_PAGE,
};

FIXTURE_VARIANT_ADD(sweep, dispatch) {
	.code = HVCALL_DISPATCH_VP,
};

FIXTURE_VARIANT_ADD(sweep, access_states) {
	.code = HVCALL_GET_GPA_PAGES_ACCESS_STATES, .reps = { 1, 32, 63 },
};

FIXTURE_VARIANT_ADD(sweep, map_state_page) {
	.code = HVCALL_MAP_VP_STATE_PAGE,
};

FIXTURE_VARIANT_ADD(sweep, unmap_state_page) {
	.code = HVCALL_UNMAP_VP_STATE_PAGE,
};

FIXTURE_VARIANT_ADD(sweep, get_vp_state) {
	.code = HVCALL_GET_VP_STATE,
};

FIXTURE_VARIANT_ADD(sweep, set_vp_state) {
	.code = HVCALL_SET_VP_STATE,
};

/* There is no other VP with this index then */
FIXTURE_VARIANT_ADD(sweep, delete_vp_that_is_not_ready) {
	.code = HVCALL_DELETE_VP, .with = HVCALL_MAP_VP_STATE_PAGE,
	.leaves = GIVES_UP,
};

FIXTURE_VARIANT_ADD(sweep, unmap_of_failed_maps) {
	.code = HVCALL_UNMAP_GPA_PAGES, .with = HVCALL_MAP_GPA_PAGES,
	.with_forever = true, .with_reps = 5, .leaves = DIES | GIVES_UP,
};

FIXTURE_VARIANT_ADD(sweep, unmap_instead_of_no_access) {
	.code = HVCALL_UNMAP_GPA_PAGES, .with = HVCALL_MAP_GPA_PAGES,
	.with_forever = true, .phase = AT_TAKE_BACK, .leaves = DIES | GIVES_UP,
};

/* The second time, at the end of the partition, it succeeds */
FIXTURE_VARIANT_ADD(sweep, finalize_instead_of_unmap) {
	.code = HVCALL_FINALIZE_PARTITION, .with = HVCALL_UNMAP_GPA_PAGES,
	.with_forever = true, .phase = AT_UNMAP, .leaves = DIES,
	.only_once = true,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_release) {
	.code = HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS, .reps = { 1, 32, 63 },
	.encrypted = true,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_acquire) {
	.code = HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS, .reps = { 1, 32, 63 },
	.encrypted = true, .leaves = DIES | STAYS,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_map) {
	.code = HVCALL_MAP_GPA_PAGES, .reps = { 1, 32, 63 }, .encrypted = true,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_unmap) {
	.code = HVCALL_UNMAP_GPA_PAGES, .reps = { 1, 32, 63 }, .encrypted = true,
	.leaves = DIES,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_finalize) {
	.code = HVCALL_FINALIZE_PARTITION, .encrypted = true, .leaves = STAYS,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_finalize_and_unmap) {
	.code = HVCALL_FINALIZE_PARTITION, .encrypted = true,
	.with = HVCALL_UNMAP_GPA_PAGES, .with_forever = true,
	.leaves = DIES | STAYS,
};

FIXTURE_VARIANT_ADD(sweep, encrypted_withdraw) {
	.code = HVCALL_WITHDRAW_MEMORY, .reps = { 1, 50, 150 }, .encrypted = true,
	.leaves = STAYS,
};

/* Milliseconds */
#define SLOW_LIFE	400

FIXTURE_SETUP(sweep)
{
	struct life *life = &self->life;
	u64 spa, start;

	require_mshv();
	mshv_pt_init(&life->pt);
	require_oracle();
	require_pagemap();
	require_pin_counters();
	require_feature(FEATURE_MOVABLE);
	if (variant->encrypted)
		require_feature(FEATURE_ENCRYPTED);
	/* The end of a partition waits for RCU, of which there are many here */
	setting_set(RCU_EXPEDITED, "1");
	life->small = mshv_alloc(BACKING_ANON, SMALL_SIZE);
	life->large = mshv_alloc(BACKING_THP, HUGE_SIZE);
	life->mmio = mshv_alloc_mmio(&spa);
	ASSERT_NE(NULL, life->small);
	if (!life->large)
		life->large = mshv_alloc(BACKING_ANON, HUGE_SIZE);
	ASSERT_NE(NULL, life->large);
	/* Without failures it works, and what the kernel keeps for later is there */
	start = now_ms();
	ASSERT_EQ(0, live(life));
	ASSERT_EQ(0, life->wrong);
	self->stride = 1 + (now_ms() - start) / SLOW_LIFE;
	self->start = take_stock();
}

FIXTURE_TEARDOWN(sweep)
{
	struct stock end = take_stock();
	long kept, slack = 1024;

	oracle_inject_cancel(variant->code);
	oracle_inject_cancel(variant->with);
	settings_restore();
	test_pt_close(&self->life.pt);
	mshv_free(self->life.small, SMALL_SIZE);
	mshv_free(self->life.large, HUGE_SIZE);
	mshv_free(self->life.mmio, PAGE_SIZE);
	if (!self->steps)
		return;
	TH_LOG("%u steps of %u, %u errors seen, %u partitions died, %u are kept",
	       self->steps, self->stride, self->errors, self->deaths, self->kept);
	/* What the driver itself has lost shows only here */
	kept = end.children - self->start.children + end.root - self->start.root +
	       end.pins - self->start.pins;
	/* KASAN, of a kernel with kmemleak, keeps freed memory for some time */
	if (!access("/sys/kernel/debug/kmemleak", F_OK))
		slack += read_field("/proc/meminfo", "MemTotal") / (PAGE_SIZE >> 10) / 32;
	EXPECT_GT(kept + slack, self->start.free - end.free);
}

/* A status that asks for memory again and again has to end at some time */
#define PATIENCE	100

struct patience {
	u16 code;
	long fired;
	bool stop;
	pthread_t thread;
};

static void *lose_patience(void *arg)
{
	struct patience *patience = arg;
	long fired;

	while (!READ_ONCE(patience->stop)) {
		fired = oracle_injected(patience->code);
		if (fired >= PATIENCE) {
			patience->fired = fired;
			oracle_inject_cancel(patience->code);
			break;
		}
		usleep(1000);
	}
	return NULL;
}

static void expect_partition_kept(struct __test_metadata *_metadata, u16 code,
				  u64 id, const struct stock *before,
				  const struct stock *after)
{
	struct oracle_partition partition;
	struct oracle_pool pool;

	ASSERT_EQ(0, oracle_partition(id, &partition));
	ASSERT_EQ(0, oracle_pool(id, &pool));
	switch (code) {
	case HVCALL_FINALIZE_PARTITION:
		/* Its memory stays with it, and of ours it has none, or pins it */
		EXPECT_EQ(STATE_ACTIVE, partition.state);
		EXPECT_EQ(after->pins - before->pins,
			  oracle_mapped(id, 0, MMIO_GFN + HUGE_PAGES));
		break;
	case HVCALL_WITHDRAW_MEMORY:
		EXPECT_NE(STATE_ACTIVE, partition.state);
		EXPECT_LT(0, pool.deposited);
		break;
	case HVCALL_DELETE_PARTITION:
		EXPECT_NE(STATE_ACTIVE, partition.state);
		EXPECT_EQ(0, pool.deposited);
		break;
	case HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS:
		EXPECT_EQ(STATE_FINALIZED, partition.state);
		EXPECT_EQ(0, pool.deposited);
		EXPECT_EQ(SMALL_PAGES, after->pins - before->pins);
		break;
	}
}

/* One life in which a hypercall fails; false if it was not made that often */
static bool step(struct __test_metadata *_metadata, FIXTURE_DATA(sweep) *self,
		 const FIXTURE_VARIANT(sweep) *variant, unsigned int nth, u16 status,
		 u16 reps, bool forever)
{
	const bool memory = status == HV_STATUS_INSUFFICIENT_MEMORY;
	struct patience patience = { .code = variant->code };
	struct life *life = &self->life;
	struct stock before, after;
	long fired, stays, lost = 0;
	int ret;

	life->errors = 0;
	life->wrong = 0;
	life->dead = false;
	life->phase = variant->phase;
	life->failures[0] = (struct failure){
		.code = variant->code, .status = status, .nth = nth, .reps = reps,
		.flags = forever ? ORACLE_INJECT_FOREVER : 0,
	};
	life->failures[1] = (struct failure){
		.code = variant->with,
		.status = variant->with_status ?: HV_STATUS_OPERATION_DENIED,
		.nth = 1,
		.reps = variant->with_reps,
		.flags = variant->with_forever ? ORACLE_INJECT_FOREVER : 0,
	};
	before = take_stock();
	if (forever && memory)
		ASSERT_EQ(0, pthread_create(&patience.thread, NULL, lose_patience,
					    &patience));
	if (variant->encrypted)
		ret = live_encrypted(life, &lost);
	else
		ret = live(life);
	if (forever && memory) {
		WRITE_ONCE(patience.stop, true);
		pthread_join(patience.thread, NULL);
	}
	fired = patience.fired ?: oracle_injected(variant->code);
	oracle_inject_cancel(variant->code);
	if (variant->with)
		oracle_inject_cancel(variant->with);
	after = take_stock();
	stays = after.partitions - before.partitions;

	EXPECT_EQ(0, life->wrong);
	if (!forever && ret && !(variant->leaves & GIVES_UP))
		EXPECT_TRUE(life->dead && variant->leaves & DIES);
	if (!fired && !variant->with)
		EXPECT_EQ(0, ret);
	if (!fired || !(variant->leaves & STAYS))
		EXPECT_EQ(0, stays);
	EXPECT_GE(1, stays);
	if (stays == 1)
		expect_partition_kept(_metadata, variant->code, after.last, &before,
				      &after);
	else
		EXPECT_EQ(before.pins, after.pins);
	/* Pages that are the guest's alone are pinned */
	EXPECT_LE(lost, after.pins - before.pins);
	if (memory && variant->leaves & ROOT_GROWS) {
		/* It may have failed some more times before it was cancelled */
		EXPECT_LE(fired, after.root - before.root);
		EXPECT_GE(fired + (patience.fired ? PATIENCE : 0),
			  after.root - before.root);
	} else {
		EXPECT_EQ(before.root, after.root);
	}
	EXPECT_EQ(stays && variant->code == HVCALL_WITHDRAW_MEMORY,
		  after.leaks - before.leaks);
	if (!fired)
		return false;

	/* Otherwise the next life will tell */
	if (ret || stays)
		EXPECT_EQ(0, mshv_live(life->small, 8));
	self->steps++;
	self->errors += life->errors;
	self->deaths += life->dead;
	self->kept += stays;
	return __test_passed(_metadata);
}

/* Returns how often the hypercall was made */
static unsigned int sweep(struct __test_metadata *_metadata,
			  FIXTURE_DATA(sweep) *self,
			  const FIXTURE_VARIANT(sweep) *variant, u16 status,
			  u16 reps, bool forever)
{
	unsigned int nth = 1;

	while (step(_metadata, self, variant, nth, status, reps, forever))
		nth += self->stride;
	if (!__test_passed(_metadata))
		TH_LOG("call %u, status %#x after %u repetitions%s", nth, status,
		       reps, forever ? ", and all that follow" : "");
	return nth - 1;
}

/* The first two are those that the driver tells apart, for most of the calls */
static const u16 statuses[] = {
	HV_STATUS_INSUFFICIENT_MEMORY, HV_STATUS_INVALID_PARAMETER,
	HV_STATUS_OPERATION_DENIED, HV_STATUS_INVALID_PARTITION_STATE,
	HV_STATUS_OBJECT_IN_USE, HV_STATUS_NO_RESOURCES, HV_STATUS_TIME_OUT,
};

#define FEW_CALLS	8

static u64 scheduler(void)
{
	u64 type = 0;

	oracle_scheduler(&type);
	return type;
}

TEST_F_TIMEOUT(sweep, each_call_fails_once, 300)
{
	const unsigned int stride = self->stride;
	unsigned int calls = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (i >= 2 && calls > FEW_CALLS && !variant->all_statuses)
			break;
		/* Of many calls those here and there, one of each kind */
		if (i == 2 && calls > FEW_CALLS)
			self->stride += calls / FEW_CALLS;
		calls = sweep(_metadata, self, variant, statuses[i], 0, false);
	}
	self->stride = stride;
	if (!calls && scheduler() != ORACLE_SCHEDULER_ROOT)
		SKIP(return, "needs: the root scheduler");
	EXPECT_LT(0, calls);
	/* A call that fails by itself before is none */
	for (i = 0; i < ARRAY_SIZE(variant->reps) && variant->reps[i]; i++) {
		calls = sweep(_metadata, self, variant, statuses[i % 2],
			      variant->reps[i], false);
		EXPECT_LT(0, calls) {
			TH_LOG("no call comes to %u repetitions", variant->reps[i]);
		}
	}
}

TEST_F_TIMEOUT(sweep, all_calls_fail_from_one_on, 300)
{
	size_t i;

	if (variant->only_once)
		SKIP(return, "nothing can be done about it");
	/* v6.18 asks and deposits for ever, and lets nobody else run meanwhile */
	require_cpus(2);
	for (i = 0; i < 2; i++)
		sweep(_metadata, self, variant, statuses[i], 0, true);
}

/* Of what there was at the start, all is there, and another partition works */
#define EXPECT_NOTHING_LOST(_start, _mem) do { \
	struct stock _end = take_stock(); \
	\
	EXPECT_EQ((_start).partitions, _end.partitions); \
	EXPECT_EQ((_start).pins, _end.pins); \
	EXPECT_EQ((_start).children, _end.children); \
	EXPECT_EQ((_start).root, _end.root); \
	EXPECT_EQ((_start).leaks, _end.leaks); \
	EXPECT_EQ(0, mshv_live(_mem, SMALL_PAGES)); \
} while (0)

/* A hypervisor that refuses everything for some time */
FIXTURE(refused)
{
	struct mshv_pt pt;
	struct stock start;
	u8 *mem;
};

FIXTURE_SETUP(refused)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->start = take_stock();
	self->mem = mshv_alloc(BACKING_ANON, SMALL_SIZE);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, 1);
	test_map(&self->pt, TEST_GFN, self->mem, SMALL_SIZE, MEM_RWX);
}

static const u16 means[] = {
	HVCALL_MAP_GPA_PAGES, HVCALL_UNMAP_GPA_PAGES, HVCALL_FINALIZE_PARTITION,
};

/* The first two do not end the partition */
#define MEANS_FOR_PAGES	2

static void refuse_means(size_t nr, bool refuse)
{
	size_t i;

	for (i = 0; i < nr; i++)
		oracle_inject(means[i], refuse, HV_STATUS_OPERATION_DENIED, 0,
			      ORACLE_INJECT_FOREVER);
}

static void refuse(bool refuse)
{
	refuse_means(ARRAY_SIZE(means), refuse);
}

FIXTURE_TEARDOWN(refused)
{
	refuse(false);
	test_pt_close(&self->pt);
	EXPECT_NOTHING_LOST(self->start, self->mem);
	mshv_free(self->mem, SMALL_SIZE);
}

/* There is nothing else to do with a guest that keeps what it has */
TEST_F(refused, region_that_stays_gives_up_what_it_can_later)
{
	test_guest(&self->pt.vp[0], guest_fill, .rdi = TEST_GPA, .rsi = SMALL_PAGES,
		   .rdx = 1);
	refuse(true);
	self->pt.dies = true;
	test_err_unmap(EIO, &self->pt, TEST_GFN, self->mem, SMALL_SIZE);
	EXPECT_EQ(SMALL_PAGES, accessible_pages(&self->pt, TEST_GFN, SMALL_PAGES));
	EXPECT_EQ(-EIO, mshv_run_once(&self->pt.vp[0]));
	refuse(false);
	ASSERT_EQ(0, madvise(self->mem, HALF_SIZE, MADV_DONTNEED));
	EXPECT_EQ(0, accessible_pages(&self->pt, TEST_GFN, SMALL_PAGES / 2));
	EXPECT_EQ(-EIO, mshv_run_once(&self->pt.vp[0]));
}

/* Hypercalls that take their time, and what happens meanwhile */
#define SLOW_CHUNKS	8UL
#define SLOW_PAGES	(SLOW_CHUNKS * HUGE_PAGES)
#define SLOW_SIZE	(SLOW_PAGES * PAGE_SIZE)

FIXTURE(slow)
{
	struct mshv_pt pt;
	struct stock start;
	u8 *mem;
};

FIXTURE_VARIANT(slow)
{
	unsigned int usec;
};

FIXTURE_VARIANT_ADD(slow, one_ms) {
	.usec = 1000,
};

FIXTURE_VARIANT_ADD(slow, five_ms) {
	.usec = 5000,
};

/* No-access is a map hypercall, too */
static void slow_down(unsigned int usec)
{
	oracle_delay(HVCALL_MAP_GPA_PAGES, usec);
	oracle_delay(HVCALL_UNMAP_GPA_PAGES, usec);
}

FIXTURE_SETUP(slow)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->start = take_stock();
	self->mem = mshv_alloc(BACKING_ANON, SLOW_SIZE);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(slow)
{
	slow_down(0);
	test_pt_close(&self->pt);
	cgroup_stop();
	EXPECT_NOTHING_LOST(self->start, self->mem);
	mshv_free(self->mem, SLOW_SIZE);
}

/* A VMM of two VPs that fill half of the memory each, until somebody ends it */
static void fill_for_ever(u8 *mem, size_t pages, u64 *filled)
{
	struct guest_thread threads[2];
	struct mshv_pt pt;
	unsigned int i;

	if (mshv_pt_setup(&pt, 2) ||
	    mshv_map(&pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX))
		_exit(1);
	for (;;) {
		for (i = 0; i < 2; i++) {
			const struct guest_args args = {
				.rdi = TEST_GPA + i * pages / 2 * PAGE_SIZE,
				.rsi = pages / 2,
			};

			if (guest_thread_start(&threads[i], &pt.vp[i], guest_fill,
					       args))
				_exit(2);
		}
		for (i = 0; i < 2; i++)
			if (guest_thread_join(&threads[i]) != HVMSG_X64_HALT)
				_exit(3);
		WRITE_ONCE(*filled, *filled + 1);
		/* And there is something to do again */
		madvise(mem, pages / 4 * PAGE_SIZE, MADV_DONTNEED);
	}
}

#define expect_killed(_status) \
	EXPECT_TRUE(WIFSIGNALED(_status) && WTERMSIG(_status) == SIGKILL) { \
		TH_LOG("status %#x", _status); \
	}

/* Its end finds a fault that holds the lock of the region, and has to wait */
TEST_F_TIMEOUT(slow, vmm_is_out_of_memory_in_a_fault, 180)
{
	u64 filled = 0;
	int status, round;
	pid_t child;

	if (!cgroup_start("max", "10M", "0"))
		SKIP(return, "needs: cgroup2 with the memory controller");
	for (round = 0; round < 4; round++) {
		slow_down(variant->usec);
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			if (!cgroup_join())
				_exit(4);
			fill_for_ever(self->mem, SLOW_PAGES, &filled);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		expect_killed(status);
		slow_down(0);
		EXPECT_NOTHING_LOST(self->start, self->mem);
	}
}

/*
 * The OOM reaper comes two seconds after the kill, if the victim has not ended until
 * then. It must not wait: who holds the lock of a region may be waiting for memory.
 */
#define REAPED_PAGES	(512 * HUGE_PAGES)
#define REAPED_SIZE	(REAPED_PAGES * PAGE_SIZE)

/*
 * A CPU takes no interrupt in a hypercall, and the reaper waits for all of them to
 * flush their TLBs: not one hypercall is long, but there are many
 */
#define HOLD_USEC	50000
#define READ_USEC	200000

/* More than the 2 s, and 10 tries of 100 ms */
#define REAPER_MSEC	12000

/* In memory that the VMM shares with the test */
struct victim {
	u64 pt;
	u64 ready, go, eat;
};

FIXTURE(oom_reaper)
{
	struct mshv_pt pt;	/* that of the VMM, for the oracle */
	struct stock start;
	struct victim *victim;
	u8 *mem;
	int log, complaints;
	pid_t child;
};

FIXTURE_SETUP(oom_reaper)
{
	self->log = -1;
	self->complaints = -1;
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	require_cpus(2);
	self->log = kmsg_open();
	self->complaints = kmsg_open();
	if (self->log < 0 || self->complaints < 0)
		SKIP(return, "needs: /dev/kmsg");
	self->start = take_stock();
	self->mem = mshv_alloc(BACKING_ANON, REAPED_SIZE);
	ASSERT_NE(NULL, self->mem);
	self->victim = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->victim);
	if (!cgroup_start("max", "16M", "0"))
		SKIP(return, "needs: cgroup2 with the memory controller");
}

static void no_victim(FIXTURE_DATA(oom_reaper) *self)
{
	slow_down(0);
	oracle_delay(HVCALL_GET_GPA_PAGES_ACCESS_STATES, 0);
	refuse(false);
	if (self->child <= 0)
		return;
	kill(self->child, SIGKILL);
	waitpid(self->child, NULL, 0);
	self->child = 0;
}

FIXTURE_TEARDOWN(oom_reaper)
{
	no_victim(self);
	cgroup_stop();
	EXPECT_NOTHING_LOST(self->start, self->mem);
	EXPECT_EQ(0, kmsg_complaints(self->complaints));
	munmap(self->victim, PAGE_SIZE);
	mshv_free(self->mem, REAPED_SIZE);
	close(self->log);
	close(self->complaints);
}

static void wait_for_flag(const u64 *flag)
{
	while (!READ_ONCE(*flag))
		usleep(1000);
}

static void *eat_limit(void *arg)
{
	const size_t size = 16 * HUGE_SIZE;
	struct victim *victim = arg;
	u8 *mem = mshv_alloc(BACKING_ANON, size);

	wait_for_flag(&victim->eat);
	if (mem)
		memset(mem, 1, size);
	_exit(4);
}

/* A VMM whose one thread is in the kernel when the other exceeds the limit */
static void be_victim(struct victim *victim, u8 *mem, bool fault)
{
	const struct guest_args args = { .rdi = TEST_GPA };
	static u64 bitmap[REAPED_PAGES / 64];
	struct mshv_pt pt;
	pthread_t thread;
	size_t i;

	if (!cgroup_join() || mshv_pt_setup(&pt, 1) ||
	    mshv_map(&pt, TEST_GFN, mem, REAPED_SIZE, MEM_RWX) ||
	    pthread_create(&thread, NULL, eat_limit, victim))
		_exit(1);
	/* With gaps between them the pages take a hypercall each */
	for (i = 0; i < HUGE_PAGES; i += 2)
		*quad(mem, i) = VALUE;
	/* The first fault maps all of them */
	if (!fault && guest_call(&pt.vp[0], guest_read, args, NULL))
		_exit(2);
	WRITE_ONCE(victim->pt, pt.id);
	WRITE_ONCE(victim->ready, 1);
	wait_for_flag(&victim->go);
	if (fault)
		guest_call(&pt.vp[0], guest_read, args, NULL);
	else
		mshv_access_bitmap(&pt, TEST_GFN, REAPED_PAGES,
				   MSHV_GPAP_ACCESS_TYPE_DIRTY,
				   MSHV_GPAP_ACCESS_OP_NOOP, bitmap);
	_exit(3);
}

/* Returns when the VMM is in hypercalls of this kind, and about to be killed */
static void start_victim(struct __test_metadata *_metadata,
			 FIXTURE_DATA(oom_reaper) *self, u16 code, bool refused)
{
	struct victim *victim = self->victim;
	const bool fault = code == HVCALL_MAP_GPA_PAGES;
	struct oracle_counter before, now;
	int msec = 20000;

	memset(victim, 0, sizeof(*victim));
	self->child = fork();
	ASSERT_LE(0, self->child);
	if (!self->child)
		be_victim(victim, self->mem, fault);
	ASSERT_TRUE(wait_for_change(&victim->ready, 0, 30000));
	self->pt.id = victim->pt;
	if (refused)
		refuse_means(MEANS_FOR_PAGES, true);
	ASSERT_EQ(0, oracle_counter(code, &before));
	ASSERT_EQ(0, oracle_delay(code, fault ? HOLD_USEC : READ_USEC));
	WRITE_ONCE(victim->go, 1);
	do {
		usleep(1000);
		ASSERT_EQ(0, oracle_counter(code, &now));
	} while (now.calls < before.calls + 2 && msec--);
	ASSERT_LE(before.calls + 2, now.calls);
	WRITE_ONCE(victim->eat, 1);
}

/* How many of the pages the VMM still has */
static size_t victims_pages(FIXTURE_DATA(oom_reaper) *self)
{
	size_t i, n = 0;

	for (i = 0; i < HUGE_PAGES; i += 2) {
		u64 value = 0;
		struct iovec local = { &value, sizeof(value) };
		struct iovec remote = { quad(self->mem, i), sizeof(value) };

		if (process_vm_readv(self->child, &local, 1, &remote, 1, 0) > 0)
			n += value == VALUE;
	}
	return n;
}

static bool reaper_says(FIXTURE_DATA(oom_reaper) *self, const char *what)
{
	char text[64];

	snprintf(text, sizeof(text), "oom_reaper: %s%d (", what, self->child);
	return kmsg_wait(self->log, text, REAPER_MSEC);
}

#define guests_pages(_self) \
	accessible_pages(&(_self)->pt, TEST_GFN, HUGE_PAGES)

/* It is still in the hypercalls: let them be fast, and see how it ends */
#define expect_end(_self) do { \
	int _status = 0; \
	\
	EXPECT_EQ(0, waitpid((_self)->child, &_status, WNOHANG)); \
	oracle_delay(HVCALL_MAP_GPA_PAGES, 0); \
	oracle_delay(HVCALL_GET_GPA_PAGES_ACCESS_STATES, 0); \
	ASSERT_EQ((_self)->child, waitpid((_self)->child, &_status, 0)); \
	(_self)->child = 0; \
	expect_killed(_status); \
	EXPECT_EQ(1, cgroup_killed()); \
} while (0)

TEST_F_TIMEOUT(oom_reaper, gives_up_where_a_fault_holds_the_lock, 300)
{
	start_victim(_metadata, self, HVCALL_MAP_GPA_PAGES, false);
	EXPECT_TRUE(reaper_says(self, "unable to reap pid:"));
	/* Nobody has taken away what the guest is getting just now */
	EXPECT_LT(0, guests_pages(self));
	EXPECT_EQ(HUGE_PAGES / 2, victims_pages(self));
	expect_end(self);
}

TEST_F_TIMEOUT(oom_reaper, takes_the_memory_of_a_vmm_that_does_not_end, 300)
{
	start_victim(_metadata, self, HVCALL_GET_GPA_PAGES_ACCESS_STATES, false);
	EXPECT_TRUE(reaper_says(self, "reaped process "));
	EXPECT_EQ(0, guests_pages(self));
	EXPECT_EQ(0, victims_pages(self));
	expect_end(self);
}

/* What it may not wait for is not done, and nobody is worse off for it */
TEST_F_TIMEOUT(oom_reaper, gives_up_where_the_hypervisor_refuses, 300)
{
	struct oracle_partition partition;

	start_victim(_metadata, self, HVCALL_GET_GPA_PAGES_ACCESS_STATES, true);
	EXPECT_TRUE(reaper_says(self, "unable to reap pid:"));
	EXPECT_LT(10, oracle_injected(HVCALL_UNMAP_GPA_PAGES));
	EXPECT_EQ(HUGE_PAGES / 2, guests_pages(self));
	EXPECT_EQ(HUGE_PAGES / 2, victims_pages(self));
	EXPECT_EQ(0, oracle_partition(self->pt.id, &partition));
	EXPECT_EQ(STATE_ACTIVE, partition.state);
	refuse(false);
	expect_end(self);
	EXPECT_FALSE(kmsg_wait(self->log, "take away", 0));
}

/* The end of the VMM may wait, and takes the other way out */
TEST_F_TIMEOUT(oom_reaper, leaves_to_the_end_what_the_hypervisor_refuses, 300)
{
	start_victim(_metadata, self, HVCALL_GET_GPA_PAGES_ACCESS_STATES, true);
	EXPECT_TRUE(reaper_says(self, "unable to reap pid:"));
	expect_end(self);
	EXPECT_TRUE(kmsg_wait(self->log, "take away", 1000));
}

static u64 alarms;

static void count_alarm(int sig)
{
	alarms++;
}

static void alarm_every(unsigned int usec)
{
	struct itimerval timer = {
		.it_interval.tv_usec = usec, .it_value.tv_usec = usec,
	};
	struct sigaction action = { .sa_handler = count_alarm };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

TEST_F_TIMEOUT(slow, signals_interrupt_a_vp_again_and_again, 180)
{
	unsigned int round;
	int ret;

	test_pt_setup(&self->pt, 1);
	slow_down(variant->usec);
	alarm_every(2000 + test_pause());
	for (round = 0; round < 4; round++) {
		/* The notifier is not registered when a signal is pending */
		do {
			ret = mshv_map(&self->pt, TEST_GFN, self->mem, SLOW_SIZE,
				       MEM_RWX);
		} while (ret == -EINTR);
		ASSERT_EQ(0, ret);
		test_guest(&self->pt.vp[0], guest_fill, .rdi = TEST_GPA,
			   .rsi = SLOW_PAGES, .rdx = round + 1);
		ASSERT_EQ(0, mismatches(self->mem, SLOW_PAGES, round + 1));
		ASSERT_EQ(0, madvise(self->mem, SLOW_SIZE / 2, MADV_DONTNEED));
		test_guest_result(0, &self->pt.vp[0], guest_check,
				  .rdi = TEST_GPA + SLOW_SIZE / 2,
				  .rsi = SLOW_PAGES / 2,
				  .rdx = round + 1 + SLOW_PAGES / 2);
		test_slat(&self->pt, TEST_GFN, self->mem, SLOW_PAGES, SLAT_RWX,
			  false);
		test_unmap(&self->pt, TEST_GFN, self->mem, SLOW_SIZE);
		test_slat_empty(&self->pt, TEST_GFN, SLOW_PAGES);
	}
	alarm_every(0);
	TH_LOG("%llu signals", (unsigned long long)alarms);
	EXPECT_LT(20, alarms);
}

/* A VP that fills memory again and again, wherever it is interrupted */
struct filler {
	struct mshv_vp *vp;
	u64 gpa, pages;
	u64 filled, intercepts;
	bool stop;
	long ret;
	pthread_t thread;
};

static void *fill_until_stopped(void *arg)
{
	struct filler *filler = arg;
	const struct guest_args args = {
		.rdi = filler->gpa, .rsi = filler->pages, .rdx = filler->gpa,
	};

	filler->ret = guest_prepare(filler->vp, GUEST_ADDR(guest_fill), args);
	while (!filler->ret && !READ_ONCE(filler->stop)) {
		long ret = mshv_run_once(filler->vp);

		if (ret == HVMSG_X64_HALT) {
			WRITE_ONCE(filler->filled, filler->filled + 1);
			filler->ret = guest_prepare(filler->vp,
						    GUEST_ADDR(guest_fill), args);
		} else if (is_memory_intercept(ret)) {
			filler->intercepts++;
		} else if (ret != -EINTR) {
			filler->ret = ret;
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(slow, region_goes_and_comes_under_vps_that_fault, 180)
{
	struct filler fillers[2];
	unsigned int i, round;
	u64 intercepts = 0;

	test_pt_setup(&self->pt, 2);
	test_map(&self->pt, TEST_GFN, self->mem, SLOW_SIZE, MEM_RWX);
	slow_down(variant->usec);
	for (i = 0; i < 2; i++) {
		fillers[i] = (struct filler){
			.vp = &self->pt.vp[i], .pages = SLOW_PAGES / 2,
			.gpa = TEST_GPA + i * SLOW_SIZE / 2,
		};
		ASSERT_EQ(0, pthread_create(&fillers[i].thread, NULL,
					    fill_until_stopped, &fillers[i]));
	}
	for (round = 0; round < 20; round++) {
		usleep(20000);
		test_unmap(&self->pt, TEST_GFN, self->mem, SLOW_SIZE);
		test_slat_empty(&self->pt, TEST_GFN, SLOW_PAGES);
		/* Whatever is still on its way has other memory to find */
		if (round % 2)
			madvise(self->mem, SLOW_SIZE, MADV_DONTNEED);
		test_map(&self->pt, TEST_GFN, self->mem, SLOW_SIZE, MEM_RWX);
	}
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(wait_for_change(&fillers[i].filled, fillers[i].filled,
					    20000));
		WRITE_ONCE(fillers[i].stop, true);
		pthread_join(fillers[i].thread, NULL);
		EXPECT_EQ(0, fillers[i].ret);
		intercepts += fillers[i].intercepts;
	}
	TH_LOG("%llu intercepts for the VMM", (unsigned long long)intercepts);
	test_slat(&self->pt, TEST_GFN, self->mem, SLOW_PAGES, SLAT_RWX, false);
	slow_down(0);
	for (i = 0; i < 2; i++) {
		test_guest(&self->pt.vp[i], guest_fill, .rdi = fillers[i].gpa,
			   .rsi = SLOW_PAGES / 2, .rdx = 7 + i * SLOW_PAGES / 2);
	}
	EXPECT_EQ(0, mismatches(self->mem, SLOW_PAGES, 7));
}

/*
 * What this thread reclaims, and what that takes away. Not by set_event_pid: that
 * changes calls of the scheduler while they are made, and the int3 meanwhile is not
 * always gone from what TCG has translated.
 */
static bool trace_here(const char *event, const char *condition)
{
	char filter[64];

	snprintf(filter, sizeof(filter), "common_pid == %d%s", getpid(), condition);
	return trace_start(event, filter);
}

static bool trace_reclaim(void)
{
	char condition[32];

	snprintf(condition, sizeof(condition), " && first >= %llu", TEST_GFN);
	return trace_here("mshv/mshv_invalidate", condition) &&
	       trace_here("vmscan/mm_vmscan_direct_reclaim_begin", "") &&
	       trace_here("vmscan/mm_vmscan_direct_reclaim_end", "");
}

/*
 * How often a deposit took away memory of the region; it alone asks for contiguous
 * memory in this way. In @reclaims, how often it reclaimed.
 */
static size_t traced_invalidations(size_t *reclaims)
{
	bool deposit = false;
	char line[512];
	size_t n = 0;
	FILE *file;

	*reclaims = 0;
	file = trace_open();
	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, "reclaim_begin:")) {
			deposit = strstr(line, "=GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY\n");
			*reclaims += deposit;
		} else if (strstr(line, "reclaim_end:")) {
			deposit = false;
		} else if (strstr(line, "mshv_invalidate:")) {
			n += deposit;
		}
	}
	if (file)
		fclose(file);
	return n;
}

#define LARGE_PAGES	(32 * HUGE_PAGES)
#define LARGE_SIZE	(LARGE_PAGES * PAGE_SIZE)

/* The hypervisor runs out of memory, and Linux as well */
FIXTURE(short_of_memory)
{
	struct mshv_pt pt;
	struct stock start;
	u8 *mem;
	size_t pages;
	u8 *large;
	pid_t hog;
	char swap[SWAP_NAME];
};

FIXTURE_SETUP(short_of_memory)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	require_oracle();
	require_pagemap();
	require_feature(FEATURE_MOVABLE);
	self->start = take_stock();
	self->pages = 16 * HUGE_PAGES;
	self->mem = mshv_alloc(BACKING_ANON, self->pages * PAGE_SIZE);
	ASSERT_NE(NULL, self->mem);
}

static void stop_hog(FIXTURE_DATA(short_of_memory) *self)
{
	if (self->hog <= 0)
		return;
	kill(self->hog, SIGKILL);
	waitpid(self->hog, NULL, 0);
	self->hog = 0;
}

FIXTURE_TEARDOWN(short_of_memory)
{
	slow_down(0);
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_dry(0, 0);
	test_pt_close(&self->pt);
	mshv_free(self->large, LARGE_SIZE);
	stop_hog(self);
	trace_stop();
	cgroup_stop();
	swap_stop(self->swap);
	EXPECT_NOTHING_LOST(self->start, self->mem);
	mshv_free(self->mem, self->pages * PAGE_SIZE);
}

/* Takes the pool of a partition away again and again */
struct drought {
	u64 pt;
	unsigned int times;
	bool stop;
	pthread_t thread;
};

/* A fault then deposits a MiB: there must not be too many of them */
#define MAX_DROUGHTS	200

static void *dry_up(void *arg)
{
	struct drought *drought = arg;

	while (!READ_ONCE(drought->stop) && drought->times < MAX_DROUGHTS) {
		if (!drought->times || oracle_injected(HVCALL_MAP_GPA_PAGES)) {
			oracle_dry(drought->pt, 1);
			oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				      HV_STATUS_INSUFFICIENT_MEMORY, 0, 0);
			drought->times++;
		}
		usleep(5000);
	}
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_dry(drought->pt, 0);
	return NULL;
}

/*
 * A command of the guest, which the VMM resumes where no memory was to be had: a
 * fault gives up some time
 */
static long call_patiently(struct mshv_vp *vp, const char *command,
			   struct guest_args args, u64 *result)
{
	unsigned int tries = 0;
	long ret = guest_run(vp, GUEST_ADDR(command), args);

	while (ret == HVMSG_GPA_INTERCEPT && tries++ < 100)
		ret = mshv_run(vp);
	if (ret != HVMSG_X64_HALT)
		return ret < 0 ? ret : -EPROTO;
	return mshv_get_reg(vp, HV_X64_REGISTER_RAX, result);
}

/* What is deposited for a page may push out this very page */
TEST_F_TIMEOUT(short_of_memory, pool_is_dry_while_pages_are_reclaimed, 300)
{
	const u64 step = 1ULL << 32;
	struct drought drought = {};
	struct oracle_counter deposits;
	u64 round, wrong;

	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!cgroup_start("16M", "max", "max"))
		SKIP(return, "needs: cgroup2 with the memory controller");
	test_pt_setup(&self->pt, 2);
	test_map(&self->pt, TEST_GFN, self->mem, self->pages * PAGE_SIZE, MEM_RWX);
	ASSERT_TRUE(cgroup_join());
	drought.pt = self->pt.id;
	ASSERT_EQ(0, oracle_reset());
	ASSERT_EQ(0, pthread_create(&drought.thread, NULL, dry_up, &drought));
	for (round = 1; round <= 3; round++) {
		struct guest_args args = {
			.rdi = TEST_GPA, .rsi = self->pages, .rdx = round * step,
		};

		EXPECT_EQ(0, call_patiently(&self->pt.vp[0], guest_fill, args,
					    &wrong));
		EXPECT_EQ(0, call_patiently(&self->pt.vp[1], guest_check, args,
					    &wrong));
		EXPECT_EQ(0, wrong);
		EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->mem, self->pages,
					SLAT_RWX, false));
	}
	WRITE_ONCE(drought.stop, true);
	pthread_join(drought.thread, NULL);
	EXPECT_EQ(0, mismatches(self->mem, self->pages, 3 * step));
	oracle_counter(HVCALL_DEPOSIT_MEMORY, &deposits);
	TH_LOG("%u droughts, %llu deposits", drought.times,
	       (unsigned long long)deposits.calls);
	EXPECT_LT(10, deposits.calls);
	/* It was larger than its limit all the time */
	EXPECT_GT(self->pages, resident(self->mem, self->pages));
}

static bool set_oom_score(const char *score)
{
	return write_file("/proc/self/oom_score_adj", score);
}

/* Keeps all memory but a bit more than what is for emergencies */
static void hog_memory(u64 *done)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED;
	char text[32] = "";
	long left_kb;

	read_file("/proc/sys/vm/min_free_kbytes", text, sizeof(text));
	left_kb = 2 * atol(text);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* If it is too much after all, then it is the one to go */
	set_oom_score("1000");
	while (read_field("/proc/meminfo", "MemFree") > left_kb)
		if (mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0) ==
		    MAP_FAILED)
			_exit(1);
	WRITE_ONCE(*done, 1);
	for (;;)
		pause();
}

/* How often deposits have to do that, and how many faults may try, 4 MiB each */
#define ENOUGH_TAKEN	16
#define MAX_FAULTS	40

/*
 * Deposits are nobody's in a memory cgroup: they reclaim only where no memory is
 * left at all. Little is there to be reclaimed but the region, which has the faults
 * that deposit: they must not hold what its invalidation needs.
 */
TEST_F_TIMEOUT(short_of_memory, deposit_reclaims_the_region_itself, 900)
{
	struct guest_args last = { .rdi = TEST_GPA + LARGE_SIZE - PAGE_SIZE };
	const u64 step = 1ULL << 32;
	const struct guest_args first = {
		.rdi = TEST_GPA, .rsi = LARGE_PAGES - HUGE_PAGES, .rdx = step,
	};
	unsigned int faults = 0;
	size_t reclaims, invalidations;
	struct oracle_counter deposits;
	u64 start, wrong, *hogged;
	struct mshv_vp *vp;
	long swapped, stolen, kills, message;

	if (read_field("/proc/meminfo", "MemTotal") > 4 << 20)
		SKIP(return, "needs: 4 GiB of memory at most, to be used up");
	if (!swap_start(self->swap))
		SKIP(return, "needs: swap");
	if (!trace_reclaim())
		SKIP(return, "needs: tracefs");
	hogged = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, hogged);
	self->large = mshv_alloc(BACKING_ANON, LARGE_SIZE);
	ASSERT_NE(NULL, self->large);
	/* What several processes have touched is reclaimed last */
	ASSERT_EQ(0, madvise(self->large, LARGE_SIZE, MADV_DONTFORK));
	test_pt_setup(&self->pt, 2);
	vp = &self->pt.vp[0];
	test_map(&self->pt, TEST_GFN, self->large, LARGE_SIZE, MEM_RWX);
	/* All of it but the last chunk, which is for the fault */
	ASSERT_EQ(0, guest_call(vp, guest_fill, first, NULL));
	self->hog = fork();
	ASSERT_LE(0, self->hog);
	if (!self->hog)
		hog_memory(hogged);
	if (!wait_for_change(hogged, 0, 120000))
		SKIP(return, "needs: the right to lock all memory, within two minutes");
	/*
	 * What a fault has touched is active, and reclaim, whose statistics are up to
	 * two seconds old, might kill somebody before it looks at that
	 */
	ASSERT_EQ(0, madvise(self->large, LARGE_SIZE, MADV_COLD));
	sleep(3);

	kills = vmstat("oom_kill");
	swapped = vmstat("pswpout");
	stolen = vmstat("pgsteal_direct");
	ASSERT_EQ(0, oracle_reset());
	start = now_ms();
	oracle_inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_INSUFFICIENT_MEMORY, 0,
		      ORACLE_INJECT_FOREVER);
	message = guest_run(vp, GUEST_ADDR(guest_read), last);
	while (is_memory_intercept(message) && faults++ < MAX_FAULTS &&
	       traced_invalidations(&reclaims) < ENOUGH_TAKEN)
		message = mshv_run(vp);
	EXPECT_TRUE(is_memory_intercept(message));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	stolen = vmstat("pgsteal_direct") - stolen;
	swapped = vmstat("pswpout") - swapped;
	oracle_counter(HVCALL_DEPOSIT_MEMORY, &deposits);
	invalidations = traced_invalidations(&reclaims);
	TH_LOG("%u faults, %llu deposits: %zu reclaims, %zu invalidations, %llu ms",
	       faults, (unsigned long long)deposits.calls, reclaims, invalidations,
	       (unsigned long long)(now_ms() - start));
	TH_LOG("%ld pages swapped out, %ld reclaimed directly", swapped, stolen);
	/* Then there was memory again, before enough was reclaimed */
	if (vmstat("oom_kill") != kills)
		skip_rest("needs: reclaim that is faster than the OOM killer");
	EXPECT_LT(0, stolen);
	EXPECT_LT(0, swapped);
	EXPECT_LT(0, reclaims);
	EXPECT_LE(ENOUGH_TAKEN, invalidations);
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->large, LARGE_PAGES,
				SLAT_RWX, false));
	stop_hog(self);

	/* What was taken away comes back, and the guest goes on */
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run(vp));
	EXPECT_EQ(0, call_patiently(&self->pt.vp[1], guest_check, first, &wrong));
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, mismatches(self->large, LARGE_PAGES - HUGE_PAGES, step));
	EXPECT_EQ(0, slat_check(&self->pt, TEST_GFN, self->large, LARGE_PAGES,
				SLAT_RWX, false));
	munmap(hogged, PAGE_SIZE);
}

/* All memory there is, and then some; but not for longer than the VMM lives */
static void eat_memory(pid_t vmm)
{
	size_t bite = 4 * HUGE_SIZE;
	u8 *mem;

	while (!kill(vmm, 0)) {
		mem = mshv_alloc(BACKING_THP, bite);
		if (mem)
			memset(mem, 1, bite);
		else
			usleep(1000);
	}
	_exit(0);
}

/*
 * This process is not the victim, nor is who started it: the score of the VMM is
 * that of all memory, and the one that eats the memory has the next best.
 */
TEST_F_TIMEOUT(short_of_memory, system_kills_the_vmm, 300)
{
	const size_t pages = 128 * HUGE_PAGES;
	pid_t vmm, eater;
	u64 *filled;
	int status;
	u8 *mem;

	if (read_field("/proc/meminfo", "MemTotal") > 4 << 20)
		SKIP(return, "needs: 4 GiB of memory at most, to be used up");
	if (read_field("/proc/meminfo", "SwapTotal"))
		SKIP(return, "needs: no swap");
	if (!set_oom_score("-1000"))
		SKIP(return, "needs: the right to write oom_score_adj");
	filled = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, filled);
	slow_down(1000);
	vmm = fork();
	ASSERT_LE(0, vmm);
	if (!vmm) {
		set_oom_score("1000");
		mem = mshv_alloc(BACKING_THP, pages * PAGE_SIZE);
		if (!mem)
			_exit(4);
		fill_for_ever(mem, pages, filled);
	}
	EXPECT_TRUE(wait_for_change(filled, 0, 60000));
	eater = fork();
	if (!eater) {
		set_oom_score("100");
		eat_memory(vmm);
	}
	EXPECT_EQ(vmm, waitpid(-1, &status, 0));
	expect_killed(status);
	kill(vmm, SIGKILL);
	kill(eater, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	set_oom_score("0");
	slow_down(0);
	/* It is a matter of MiB, the VMM had hundreds */
	EXPECT_GT(64 << 8, self->start.free - take_stock().free);
	munmap(filled, PAGE_SIZE);
}

TEST_HARNESS_MAIN
