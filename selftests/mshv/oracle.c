// SPDX-License-Identifier: GPL-2.0
/*
 * Calls to the oracle: one OUT instruction, arguments and results in registers.
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/io.h>

#include "oracle.h"

struct oracle_call {
	u64 rdi, rsi, rcx, r8, r9;
};

static u16 oracle_port;

static bool oracle_probe(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	if (!(ecx & (1U << 31)))
		return false;

	__cpuid(ORACLE_CPUID, eax, ebx, ecx, edx);
	if (eax != ORACLE_SIGNATURE || ebx != ORACLE_INTERFACE)
		return false;

	if (ioperm(ecx, 4, 1))
		return false;

	oracle_port = ecx;
	return true;
}

bool oracle_present(void)
{
	return oracle_port || oracle_probe();
}

static int oracle(enum oracle_command command, struct oracle_call *call)
{
	u64 rax = command;
	register u64 r8 asm("r8") = call->r8;
	register u64 r9 asm("r9") = call->r9;

	if (!oracle_present())
		return -ENODEV;

	asm volatile("outl %%eax, %%dx"
		     : "+a"(rax), "+D"(call->rdi), "+S"(call->rsi),
		       "+c"(call->rcx), "+r"(r8), "+r"(r9)
		     : "d"(oracle_port)
		     : "memory", "cc");
	call->r8 = r8;
	call->r9 = r9;

	return (int)rax;
}

int oracle_scheduler(u64 *type)
{
	struct oracle_call call = {};
	int ret = oracle(ORACLE_VERSION, &call);

	*type = call.rcx;
	return ret;
}

int oracle_reset(void)
{
	struct oracle_call call = {};

	return oracle(ORACLE_RESET, &call);
}

int oracle_counter(u16 code, struct oracle_counter *counter)
{
	struct oracle_call call = { .rdi = code };
	int ret = oracle(ORACLE_COUNTER, &call);

	counter->calls = call.rdi;
	counter->reps = call.rsi;
	counter->failures = call.rcx;
	return ret;
}

int oracle_slat(u64 pt, u64 gfn, struct oracle_slat *entry)
{
	struct oracle_call call = { .rdi = pt, .rsi = gfn };
	int ret = oracle(ORACLE_SLAT, &call);

	entry->gfn = gfn;
	entry->spa = call.rdi;
	entry->pages = 1;
	entry->flags = call.rsi;
	return ret;
}

long oracle_audit(u64 pt, u64 first, u64 last,
		  struct oracle_slat *entries, size_t max)
{
	struct oracle_call call;
	unsigned int tries = 0;
	size_t done = 0;
	int ret;

	/* The hypervisor writes only where a page is present and writable */
	memset(entries, 0, max * sizeof(*entries));

	while (first <= last) {
		if (done == max)
			return -E2BIG;

		call = (struct oracle_call){
			.rdi = pt, .rsi = first, .rcx = last,
			.r8 = (uintptr_t)(entries + done), .r9 = max - done,
		};
		ret = oracle(ORACLE_AUDIT, &call);
		if (ret == -EFAULT && tries++ < 16) {
			/* Reclaim was faster */
			memset(entries + done, 0, (max - done) * sizeof(*entries));
			continue;
		}
		if (ret)
			return ret;

		done += call.rdi;
		if (call.rsi == ~0ULL)
			break;
		if (call.rsi <= first && !call.rdi)
			return -EPROTO;
		first = call.rsi;
	}

	return done;
}

long oracle_mapped(u64 pt, u64 first, u64 last)
{
	static struct oracle_slat entries[4096];
	long i, n, pages = 0;

	n = oracle_audit(pt, first, last, entries, ARRAY_SIZE(entries));
	if (n < 0)
		return n;

	for (i = 0; i < n; i++) {
		u64 start = entries[i].gfn;
		u64 end = start + entries[i].pages - 1;

		if (start < first)
			start = first;
		if (end > last)
			end = last;
		pages += end - start + 1;
	}

	return pages;
}

int oracle_inject(u16 code, u64 nth, u16 status, u64 reps,
		  u64 flags)
{
	struct oracle_call call = {
		.rdi = code, .rsi = nth, .rcx = status, .r8 = reps, .r9 = flags,
	};

	return oracle(ORACLE_INJECT, &call);
}

int oracle_inject_cancel(u16 code)
{
	return oracle_inject(code, 0, 0, 0, 0);
}

long oracle_injected(u16 code)
{
	struct oracle_call call = { .rdi = code };
	int ret = oracle(ORACLE_INJECTED, &call);

	return ret ? ret : (long)call.rdi;
}

int oracle_pool(u64 pt, struct oracle_pool *pool)
{
	struct oracle_call call = { .rdi = pt };
	int ret = oracle(ORACLE_POOL, &call);

	pool->free = call.rdi;
	pool->used = call.rsi;
	pool->deposited = call.rcx;
	return ret;
}

int oracle_dry(u64 pt, u64 allocations)
{
	struct oracle_call call = { .rdi = pt, .rsi = allocations };

	return oracle(ORACLE_DRY, &call);
}

int oracle_delay(u16 code, u64 usec)
{
	struct oracle_call call = { .rdi = code, .rsi = usec };

	return oracle(ORACLE_DELAY, &call);
}

int oracle_partition_after(u64 pt, struct oracle_partition *partition)
{
	struct oracle_call call = { .rdi = pt };
	int ret = oracle(ORACLE_PARTITION, &call);

	partition->id = call.rdi;
	partition->state = call.rsi;
	partition->vps = call.rcx;
	partition->table_pages = call.r8;
	return ret;
}

int oracle_partition(u64 pt, struct oracle_partition *partition)
{
	int ret = oracle_partition_after(pt - 1, partition);

	if (!ret && partition->id != pt)
		ret = -ENOENT;
	return ret;
}

long oracle_partitions(void)
{
	struct oracle_partition partition;
	u64 pt = 0;
	long n = 0;
	int ret;

	while (!(ret = oracle_partition_after(pt, &partition))) {
		pt = partition.id;
		n++;
	}

	return ret == -ENOENT ? n : ret;
}

int oracle_newest(u64 *pt)
{
	struct oracle_call call = {};
	int ret = oracle(ORACLE_NEWEST, &call);

	*pt = call.rdi;
	return ret;
}

int oracle_page(u64 spa, u64 *state, u64 *owner)
{
	struct oracle_call call = { .rdi = spa };
	int ret = oracle(ORACLE_PAGE, &call);

	*state = call.rdi;
	if (owner)
		*owner = call.rsi;
	return ret;
}

int oracle_totals(struct oracle_totals *totals)
{
	struct oracle_call call = {};
	int ret = oracle(ORACLE_TOTALS, &call);

	totals->deposited = call.rdi;
	totals->withdrawn = call.rsi;
	totals->leaks = call.rcx;
	totals->shootdowns = call.r8;
	totals->messages = call.r9;
	return ret;
}

long oracle_option(unsigned int id, u64 value)
{
	struct oracle_call call = { .rdi = id, .rsi = value };
	int ret = oracle(ORACLE_OPTION, &call);

	return ret ? ret : (long)call.rdi;
}

long oracle_messages(u32 type)
{
	struct oracle_call call = { .rdi = type };
	int ret = oracle(ORACLE_MESSAGES, &call);

	return ret ? ret : (long)call.rdi;
}
