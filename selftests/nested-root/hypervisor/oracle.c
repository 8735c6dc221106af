// SPDX-License-Identifier: GPL-2.0
/*
 * The test interface: one OUT instruction from the root, command in EAX,
 * arguments and results in RDI, RSI, RCX, R8, R9. Documented in
 * Documentation/nested-root-vm.rst; ORACLE_VERSION changes with the interface.
 */
#include "hv.h"

enum {
	ORACLE_GET_VERSION, ORACLE_RESET, ORACLE_COUNTER, ORACLE_SLAT,
	ORACLE_AUDIT, ORACLE_INJECT, ORACLE_INJECTED, ORACLE_POOL, ORACLE_DRY,
	ORACLE_DELAY, ORACLE_PARTITION, ORACLE_NEWEST, ORACLE_PAGE,
	ORACLE_TOTALS, ORACLE_OPTION, ORACLE_MESSAGES
};

/* Linux errno values */
#define ERR_NOT_FOUND	2
#define ERR_FAULT	14
#define ERR_INVALID	22
#define ERR_NO_COMMAND	38
#define MAX_DELAY_US	10000000

struct audit_entry {
	u64 gfn, spa;
	u32 pages, flags;
};

u8 hv_options[OPT_COUNT];

static struct partition *child(u64 id)
{
	struct partition *pt = find_partition(id);

	return pt == &root_partition ? NULL : pt;
}

/* One entry to the caller's buffer, a page of which may end inside it. */
static bool put_entry(struct cpu *cpu, u64 va, const struct audit_entry *e)
{
	const u8 *bytes = (const u8 *)e;
	u32 i = 0;

	while (i < sizeof(*e)) {
		u32 chunk = 4096 - ((va + i) & 4095);
		u64 gpa;
		u8 *p;

		if (chunk > sizeof(*e) - i)
			chunk = sizeof(*e) - i;
		if (gva_translate(&root_partition, cpu->root.vmcb, va + i,
				  GVA_WRITE, &gpa))
			return false;
		p = gpa_pointer(&root_partition, gpa, true);
		if (!p)
			return false;
		memcpy(p, bytes + i, chunk);
		i += chunk;
	}
	return true;
}

static u64 level_size(u32 flags)
{
	return 1ull << (9 * SLAT_SIZE(flags));
}

static s64 audit(struct cpu *cpu, struct partition *pt, u64 *arg)
{
	u64 gfn = arg[1], last = arg[2], buf = arg[3], max = arg[4], n = 0;
	struct audit_entry run = { 0 };
	struct slat_entry e;

	for (gfn = npt_next(pt, gfn); gfn <= last && gfn < GFN_LIMIT;
	     gfn = npt_next(pt, gfn)) {
		u64 size, first;

		npt_lookup(pt, gfn, &e);
		size = level_size(e.flags);
		first = gfn & ~(size - 1);
		if (!(e.flags & SLAT_NO_ACCESS))
			e.spa -= (gfn - first) << PAGE_SHIFT;
		if (run.pages && run.gfn + run.pages == first &&
		    run.flags == e.flags && run.pages < 1u << 30 &&
		    ((e.flags & SLAT_NO_ACCESS) ||
		     run.spa + ((u64)run.pages << PAGE_SHIFT) == e.spa)) {
			run.pages += size;
		} else {
			if (run.pages) {
				if (n == max)
					break;
				if (!put_entry(cpu, buf + n * sizeof(run), &run))
					return -ERR_FAULT;
				n++;
			}
			run = (struct audit_entry){ first, e.spa, size, e.flags };
		}
		gfn = first + size;
	}
	if (run.pages) {
		if (n == max) {
			arg[0] = n;
			arg[1] = run.gfn;
			return 0;
		}
		if (!put_entry(cpu, buf + n * sizeof(run), &run))
			return -ERR_FAULT;
		n++;
	}
	arg[0] = n;
	arg[1] = ~0ull;
	return 0;
}

static s64 inject(u64 *arg)
{
	struct counter *c;

	if (arg[0] >= HVCALL_COUNT || arg[2] > 0xffff || arg[3] > 4095 ||
	    arg[4] > 1 || (arg[1] && !arg[2]))
		return -ERR_INVALID;
	c = &counters[arg[0]];
	c->inject_nth = arg[1];
	c->inject_status = arg[2];
	c->inject_reps = arg[3];
	c->inject_sticky = arg[4];
	c->inject_fired = 0;
	return 0;
}

static s64 dry(u64 *arg)
{
	struct partition *pt;

	if (arg[0]) {
		pt = child(arg[0]);
		if (!pt)
			return -ERR_NOT_FOUND;
		pt->pool.dry = arg[1];
		return 0;
	}
	for (pt = partition_after(0); pt; pt = partition_after(pt->id))
		pt->pool.dry = arg[1];
	return 0;
}

static void reset(void)
{
	u64 arg[2] = { 0, 0 };

	memset(counters, 0, sizeof(counters));
	memset(message_counts, 0, sizeof(message_counts));
	dry(arg);
}

static s64 message_count(u64 *arg)
{
	static const u32 types[] = {
		HVMSG_UNMAPPED_GPA, HVMSG_GPA_INTERCEPT, HVMSG_X64_HALT,
		HVMSG_X64_IO_PORT_INTERCEPT, HVMSG_X64_MSR_INTERCEPT,
		HVMSG_X64_CPUID_INTERCEPT, HVMSG_X64_EXCEPTION_INTERCEPT
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i] == arg[0])
			break;
	arg[0] = message_counts[i];
	return 0;
}

static s64 command(struct cpu *cpu, u32 cmd, u64 *arg)
{
	struct partition *pt;
	struct slat_entry e;
	u32 i;

	switch (cmd) {
	case ORACLE_GET_VERSION:
		arg[0] = ORACLE_VERSION;
		arg[1] = 0;
		for (i = 0; i < OPT_COUNT; i++)
			arg[1] |= (u64)hv_options[i] << i;
		arg[2] = scheduler_type;
		return 0;
	case ORACLE_RESET:
		reset();
		return 0;
	case ORACLE_COUNTER:
		if (arg[0] >= HVCALL_COUNT)
			return -ERR_INVALID;
		i = arg[0];
		arg[0] = counters[i].calls;
		arg[1] = counters[i].reps;
		arg[2] = counters[i].failed;
		return 0;
	case ORACLE_SLAT:
		pt = child(arg[0]);
		if (!pt || !npt_lookup(pt, arg[1], &e))
			return -ERR_NOT_FOUND;
		arg[0] = e.spa;
		arg[1] = e.flags;
		return 0;
	case ORACLE_AUDIT:
		pt = child(arg[0]);
		return pt ? audit(cpu, pt, arg) : -ERR_NOT_FOUND;
	case ORACLE_INJECT:
		return inject(arg);
	case ORACLE_INJECTED:
		if (arg[0] >= HVCALL_COUNT)
			return -ERR_INVALID;
		arg[0] = counters[arg[0]].inject_fired;
		return 0;
	case ORACLE_POOL:
		pt = find_partition(arg[0]);
		if (!pt)
			return -ERR_NOT_FOUND;
		arg[0] = pt->pool.free_count;
		arg[1] = pt->pool.deposited - pt->pool.free_count;
		arg[2] = pt->pool.deposited;
		return 0;
	case ORACLE_DRY:
		return dry(arg);
	case ORACLE_DELAY:
		if (arg[0] >= HVCALL_COUNT || arg[1] > MAX_DELAY_US)
			return -ERR_INVALID;
		counters[arg[0]].delay_us = arg[1];
		return 0;
	case ORACLE_PARTITION:
		pt = partition_after(arg[0]);
		if (!pt)
			return -ERR_NOT_FOUND;
		arg[0] = pt->id;
		arg[1] = pt->state;
		arg[2] = pt->vp_count;
		arg[3] = pt->table_pages;
		return 0;
	case ORACLE_NEWEST:
		arg[0] = newest_partition;
		return 0;
	case ORACLE_PAGE: {
		struct page_info *info = page_of(arg[0]);
		struct partition *owner;

		arg[0] = info ? info->kind : PAGE_NOT_RAM;
		owner = info ? partitions[info->slot] : NULL;
		arg[1] = owner && info->slot ? owner->id : 0;
		return 0;
	}
	case ORACLE_TOTALS:
		arg[0] = total_deposited;
		arg[1] = total_withdrawn;
		arg[2] = total_leaks;
		arg[3] = total_shootdowns;
		arg[4] = total_messages;
		return 0;
	case ORACLE_OPTION:
		if (arg[0] >= OPT_COUNT || (arg[1] > 1 && arg[1] != ~0ull))
			return -ERR_INVALID;
		i = arg[0];
		arg[0] = hv_options[i];
		if (arg[1] != ~0ull)
			hv_options[i] = arg[1];
		return 0;
	case ORACLE_MESSAGES:
		return message_count(arg);
	}
	return -ERR_NO_COMMAND;
}

/* The root's OUT to (or IN from) the oracle's ports. RIP is past it. */
void oracle_call(struct cpu *cpu)
{
	static const u8 reg[] = { RDI, RSI, RCX, 8, 9 };
	struct vmcb *v = cpu->root.vmcb;
	u64 arg[ARRAY_SIZE(reg)];
	u32 i;

	if ((v->exit_info1 & 0xffff0075) != (ORACLE_PORT << 16 | 0x40)) {
		if (v->exit_info1 & 1)	/* IN: an empty bus */
			v->rax = v->exit_info1 & 0x10 ? v->rax | 0xff :
				 v->exit_info1 & 0x20 ? v->rax | 0xffff :
				 0xffffffff;
		return;
	}
	for (i = 0; i < ARRAY_SIZE(reg); i++)
		arg[i] = cpu->root.gpr[reg[i]];
	lock_hv();
	v->rax = command(cpu, v->rax, arg);
	unlock_hv();
	for (i = 0; i < ARRAY_SIZE(reg); i++)
		cpu->root.gpr[reg[i]] = arg[i];
}
