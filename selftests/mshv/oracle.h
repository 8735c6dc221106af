/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle: a test interface of the hypervisor of the nested root VM. It
 * counts hypercalls, shows SLAT entries and injects failures. No other
 * hypervisor has it; a test that needs it skips there.
 */
#ifndef SELFTESTS_MSHV_ORACLE_H
#define SELFTESTS_MSHV_ORACLE_H

#include <stdbool.h>
#include <stddef.h>

#include "mshv_types.h"

#define ORACLE_CPUID		0x40000100
#define ORACLE_SIGNATURE	0x4d56524e
#define ORACLE_INTERFACE	1

enum oracle_command {
	ORACLE_VERSION,
	ORACLE_RESET,
	ORACLE_COUNTER,
	ORACLE_SLAT,
	ORACLE_AUDIT,
	ORACLE_INJECT,
	ORACLE_INJECTED,
	ORACLE_POOL,
	ORACLE_DRY,
	ORACLE_DELAY,
	ORACLE_PARTITION,
	ORACLE_NEWEST,
	ORACLE_PAGE,
	ORACLE_TOTALS,
	ORACLE_OPTION,
	ORACLE_MESSAGES,
};

/* Flags of a SLAT entry */
#define SLAT_READ		BIT(0)
#define SLAT_WRITE		BIT(1)
#define SLAT_KERNEL_EXEC	BIT(2)
#define SLAT_USER_EXEC		BIT(3)
#define SLAT_EXEC		(SLAT_KERNEL_EXEC | SLAT_USER_EXEC)
#define SLAT_NO_ACCESS		BIT(4)
#define SLAT_ACCESSED		BIT(5)
#define SLAT_DIRTY		BIT(6)
#define SLAT_UNCACHED		BIT(7)
#define SLAT_SIZE(_flags)	(((_flags) >> 8) & 3)
#define SLAT_PERMISSIONS	(SLAT_READ | SLAT_WRITE | SLAT_EXEC | SLAT_NO_ACCESS)

/* Who may use a page of memory */
#define ORACLE_PAGE_ROOT	0
#define ORACLE_PAGE_DEPOSITED	1
#define ORACLE_PAGE_HYPERVISOR	2
#define ORACLE_PAGE_EXCLUSIVE	3
#define ORACLE_PAGE_NOT_RAM	4

/* oracle_scheduler(): HV_SCHEDULER_TYPE_ROOT */
#define ORACLE_SCHEDULER_ROOT	4

#define ORACLE_INJECT_FOREVER	1

/* oracle_option(): large units are refused where there are 4K entries */
#define ORACLE_LARGE_OVER_4K	0
/* ... accessed and dirty bits of a GFN are cleared when it is mapped again */
#define ORACLE_REMAP_CLEARS_AD	3
#define ORACLE_OPTION_QUERY	(~0ULL)

struct oracle_slat {
	u64 gfn;
	u64 spa;
	u32 pages;
	u32 flags;
};

struct oracle_counter {
	u64 calls;
	u64 reps;
	u64 failures;
};

struct oracle_pool {
	u64 free;
	u64 used;
	u64 deposited;
};

struct oracle_totals {
	u64 deposited;
	u64 withdrawn;
	u64 leaks;
	u64 shootdowns;
	u64 messages;
};

struct oracle_partition {
	u64 id;
	u64 state;
	u64 vps;
	u64 table_pages;
};

/* Is there an oracle, and may this process call it? */
bool oracle_present(void);

/* All of these return 0 or -errno */
int oracle_scheduler(u64 *type);
int oracle_reset(void);
int oracle_counter(u16 code, struct oracle_counter *counter);
int oracle_slat(u64 pt, u64 gfn, struct oracle_slat *entry);
int oracle_inject(u16 code, u64 nth, u16 status, u64 reps,
		  u64 flags);
int oracle_inject_cancel(u16 code);
int oracle_pool(u64 pt, struct oracle_pool *pool);
int oracle_dry(u64 pt, u64 allocations);
int oracle_delay(u16 code, u64 usec);
int oracle_partition_after(u64 pt, struct oracle_partition *partition);
int oracle_partition(u64 pt, struct oracle_partition *partition);
int oracle_newest(u64 *pt);
int oracle_page(u64 spa, u64 *state, u64 *owner);
int oracle_totals(struct oracle_totals *totals);

/* These return the number asked for or -errno */
long oracle_injected(u16 code);
long oracle_messages(u32 type);
long oracle_option(unsigned int id, u64 value);
/* How many partitions there are */
long oracle_partitions(void);
/*
 * Fill @entries with the SLAT entries that touch [@first, @last], ascending.
 * Returns how many there are; more than @max is reported as -E2BIG.
 */
long oracle_audit(u64 pt, u64 first, u64 last,
		  struct oracle_slat *entries, size_t max);
/* Number of GFNs in [@first, @last] the SLAT maps or marks as no-access */
long oracle_mapped(u64 pt, u64 first, u64 last);

#endif /* SELFTESTS_MSHV_ORACLE_H */
