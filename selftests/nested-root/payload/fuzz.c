// SPDX-License-Identifier: GPL-2.0
/*
 * hvfuzz: random and near-valid hypercalls, MSR accesses, CPUID leaves and child
 * code on all CPUs at once. What the hypervisor may take or write to is an arena
 * that the fuzzer itself never touches; the rest of the machine is checked now
 * and then. In the end every partition goes, every page comes back, and none counts
 * as mapped.
 *
 * Command line: seed=N count=N (hypercalls) seconds=N
 */
#include "payload.h"

#define ARENA_BLOCKS	8
#define FINALIZED	3	/* state of ORACLE_PARTITION */
#define KNOWN		12
#define PHASES		8
#define PARALLEL_US	1500000
#define CANARIES	4
#define CANARY		0x5ca1ab1e0ddba11ull
#define RAM_LIMIT	(16ull << 30)	/* no RAM above */
#define CODE_SIZE	0x2000	/* of the children, from GUEST_CODE on */
#define FAR_PFN		0x1000000ull	/* 64 GiB: neither RAM nor device */
#define GIB_GFN		0x40000ull	/* 1 GiB */
#define DEFAULT_COUNT	1000000

extern u8 bss_end[];

static u8 *arena[ARENA_BLOCKS], *guest_ram;
static u64 *canary[CANARIES];
static volatile u64 known[KNOWN];
static u64 hypercalls, msrs, cpuids, runs, passed, gibs;
static u64 wanted, deadline, phase_target, phase_end;
static volatile bool broken;
static u64 seed;

struct rng {
	u64 s;
};

static struct rng rngs[MAX_CPUS];

static u64 next(struct rng *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s * 0x2545f4914f6cdd1dull;
}

static u32 below(struct rng *r, u32 n)
{
	return (next(r) >> 33) % n;
}

static bool one_in(struct rng *r, u32 n)
{
	return !below(r, n);
}

/* A number with a random count of significant bits. */
static u64 number(struct rng *r)
{
	u64 v = next(r);

	return one_in(r, 8) ? ~0ull - below(r, 16) : v >> below(r, 64);
}

static u64 arena_pfn(struct rng *r)
{
	return ((u64)arena[below(r, ARENA_BLOCKS)] >> 12) + below(r, 512);
}

static bool in_arena(u64 spa)
{
	u32 i;

	for (i = 0; i < ARENA_BLOCKS; i++)
		if (spa - (u64)arena[i] < MB2)
			return true;
	return false;
}

static bool is_code(u64 spa)
{
	return spa - (u64)guest_ram - GUEST_CODE < CODE_SIZE;
}

static u64 some_pfn(struct rng *r)
{
	return one_in(r, 16) ? FAR_PFN + below(r, 4096) : arena_pfn(r);
}

static u64 some_id(struct rng *r)
{
	switch (below(r, 24)) {
	case 0:
		return number(r);
	case 1:
		return 1;
	case 2:
		return HV_PARTITION_ID_SELF;
	default:
		return known[below(r, KNOWN)];
	}
}

static u64 some_vp(struct rng *r)
{
	return one_in(r, 20) ? number(r) : below(r, 3);
}

static u64 some_gfn(struct rng *r)
{
	switch (below(r, 8)) {
	case 0:
		return number(r);
	case 1:
		return (u64)below(r, 1024) * 512;
	case 2:
		return (1ull << 36) - below(r, 600);
	default:
		return below(r, 256);
	}
}

static u32 register_name(struct rng *r)
{
	static const u32 base[] = {
		0x0, 0x100, 0x200, 0x10000, 0x20000, 0x20008, 0x20010, 0x30000,
		0x30010, 0x30018, 0x40000, 0x50000, 0x60000, 0x70000, 0x80000,
		0x80007, 0x8007b, 0x90000, 0x90010, 0xd0000
	};

	return one_in(r, 30) ? next(r) : base[below(r, ARRAY_SIZE(base))] +
					 below(r, 8);
}

static u64 register_value(struct rng *r, u32 name)
{
	static const u64 cr0[] = { 0x10, 0x11, 0x80000011, 0xe0050033, 0x60000010 };

	if (one_in(r, 4))
		return number(r);
	switch (name) {
	case 0x0 ... 0x3:
		return below(r, 3) == 0;
	case REG_CR0:
		return cr0[below(r, ARRAY_SIZE(cr0))];
	case REG_CR3:
		return GUEST_TABLES;
	case REG_CR4:
		return below(r, 0x1000) & ~0x2000u;
	case REG_EFER:
		return one_in(r, 2) ? 0xd01 : 0;
	case REG_RIP:
		return below(r, 0x20000);
	case REG_ES ... REG_ES + 7:
		return below(r, 4) << 16;
	}
	return number(r);
}

/* A near-valid input for @code; returns the repetitions it is good for. */
static u32 make_input(struct rng *r, u32 code, u64 *in, u64 *control)
{
	u32 reps = 0, i;

	for (i = 0; i < 16; i++)
		in[i] = 0;
	in[0] = some_id(r);
	switch (code) {
	case HVCALL_CREATE_PARTITION:
		in[0] = CREATE_FLAGS;
		in[2] = CREATE_VERSION;
		in[6] = one_in(r, 4) ? HV_PARTITION_ISOLATION_TYPE_SNP : 0;
		break;
	case HVCALL_GET_PARTITION_PROPERTY:
	case HVCALL_SET_PARTITION_PROPERTY: {
		static const u32 code[] = {
			0x10000, 0x10001, 0x50005, 0x50017, 0x60002, 0x60007,
			0x60008, 0x60009
		};
		in[1] = one_in(r, 8) ? number(r) :
				       code[below(r, ARRAY_SIZE(code))];
		in[2] = one_in(r, 2) ? below(r, 3) : number(r);
		break;
	}
	case HVCALL_DEPOSIT_MEMORY:
		reps = 1 + below(r, one_in(r, 64) ? 511 : 64);
		for (i = 0; i < reps; i++)
			in[1 + i] = some_pfn(r);
		break;
	case HVCALL_WITHDRAW_MEMORY:
		reps = 1 + below(r, one_in(r, 64) ? 512 : 16);
		break;
	case HVCALL_MAP_GPA_PAGES:
		reps = 1 + below(r, one_in(r, 64) ? 509 : 16);
		in[1] = some_gfn(r);
		in[2] = MAP_RWX;
		if (one_in(r, 3))
			in[2] = HV_MAP_GPA_READABLE | (next(r) & 0x1800f);
		if (one_in(r, 3)) {
			in[2] |= HV_MAP_GPA_LARGE_PAGE;
			in[1] &= ~511ull;
			reps = 1 + reps / 64;
		}
		if (one_in(r, 16))
			in[2] |= HV_MAP_GPA_NOT_CACHED;
		for (i = 0; i < reps; i++) {
			in[3 + i] = one_in(r, 4) ?
				((u64)guest_ram >> 12) + below(r, 512) : some_pfn(r);
			if (in[2] & HV_MAP_GPA_LARGE_PAGE)
				in[3 + i] &= ~511ull;
		}
		break;
	case HVCALL_UNMAP_GPA_PAGES:
		reps = 1 + below(r, one_in(r, 64) ? 4095 : 64);
		in[1] = some_gfn(r);
		if (one_in(r, 3)) {
			in[2] = HV_UNMAP_GPA_LARGE_PAGE;
			in[1] &= ~511ull;
		}
		break;
	case HVCALL_GET_GPA_PAGES_ACCESS_STATES:
		reps = 1 + below(r, one_in(r, 64) ? 4095 : 64);
		in[1] = below(r, 16);
		in[2] = some_gfn(r);
		break;
	case HVCALL_INSTALL_INTERCEPT:
		in[1] = below(r, 8) | (u64)below(r, 10) << 32;
		in[2] = one_in(r, 4) ? number(r) : below(r, 33);
		break;
	case HVCALL_REGISTER_INTERCEPT_RESULT:
		in[1] = some_vp(r) | (u64)(1 + below(r, 2)) << 32;
		for (i = 2; i < 8; i++)
			in[i] = one_in(r, 2) ? below(r, 3) : next(r);
		break;
	case HVCALL_GET_VP_REGISTERS:
		reps = 1 + below(r, one_in(r, 64) ? 255 : 8);
		in[1] = some_vp(r);
		for (i = 0; i < reps; i++)
			((u32 *)(in + 2))[i] = register_name(r);
		break;
	case HVCALL_SET_VP_REGISTERS:
		reps = 1 + below(r, one_in(r, 64) ? 127 : 4);
		in[1] = some_vp(r);
		for (i = 0; i < reps; i++) {
			u64 *e = in + 2 + 4 * i;

			e[0] = register_name(r);
			e[1] = 0;
			e[2] = register_value(r, e[0]);
			e[3] = next(r);
		}
		break;
	case HVCALL_TRANSLATE_VIRTUAL_ADDRESS:
		in[1] = some_vp(r);
		in[2] = below(r, 64);
		in[3] = number(r) >> 12;
		break;
	case HVCALL_MAP_STATS_PAGE:
	case HVCALL_UNMAP_STATS_PAGE: {
		static const u32 type[] = { 1, 2, 0x10001, 0x10002 };

		in[0] = type[below(r, 4)];
		in[1] = in[0] == 1 ? one_in(r, 8) :
			in[0] == 2 ? below(r, 9) : some_id(r);
		if (in[0] == HV_STATS_OBJECT_VP || one_in(r, 8))
			in[2] = some_vp(r);
		if (in[0] >> 16 || one_in(r, 8))
			in[2] |= (u64)below(r, 3) << 56;
		break;
	}
	case HVCALL_GET_PARTITION_PROPERTY_EX:
		in[1] = 0x90007 + one_in(r, 4);
		in[2] = one_in(r, 4);
		break;
	case HVCALL_SET_SYSTEM_PROPERTY:
		in[0] = 3 + one_in(r, 4);
		in[1] = below(r, 8) | (u64)(below(r, 9) | below(r, 9) << 8) << 32;
		break;
	case HVCALL_ENTER_SLEEP_STATE:
	case HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME:
	case HVCALL_NOTIFY_PARTITION_EVENT:
		in[0] = below(r, 9);
		break;
	case HVCALL_GET_SYSTEM_PROPERTY:
		in[0] = 15 + one_in(r, 4);
		break;
	case HVCALL_MAP_DEVICE_INTERRUPT:
		*control |= 2 << 17;
		in[0] = 1;
		in[1] = next(r);
		in[5] = (u64)below(r, 3) << 32;
		in[7] = below(r, 300) | 2ull << 32;
		in[9] = 1;
		in[10] = next(r) & 0xff;
		break;
	case HVCALL_MAP_VP_STATE_PAGE:
	case HVCALL_UNMAP_VP_STATE_PAGE:
		in[1] = some_vp(r) | (u64)below(r, 3) << 32;
		break;
	case HVCALL_GET_VP_STATE:
	case HVCALL_SET_VP_STATE:
		*control |= 1 << 17;
		in[1] = some_vp(r);
		in[2] = 1u | 1u << 31;
		in[5] = some_pfn(r);
		break;
	case HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS:
	case HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS:
		in[1] = in[0];
		in[0] = below(r, 4) | (u64)(code & 1 ? HV_SPA_MAKE_SHARED :
					    HV_SPA_MAKE_EXCLUSIVE) << 32;
		if (one_in(r, 8))
			in[0] |= (u64)HV_SPA_LARGE_PAGE << 32;
		reps = 1 + below(r, one_in(r, 64) ? 510 : 16);
		for (i = 0; i < reps; i++)
			in[2 + i] = some_pfn(r);
		break;
	case HVCALL_DISPATCH_VP:
		in[1] = some_vp(r) | (u64)below(r, 0x80) << 32;
		break;
	default:
		in[1] = some_vp(r);
	}
	return reps;
}

/*
 * A child executes what child_bytes() wrote and nothing else, and uses no
 * breakpoint: QEMU 10.0 crashes itself on some instructions and watchpoints.
 */
static void keep_to_code(u32 code, u32 reps, u64 *in)
{
	u64 spa, length = in[2] & HV_MAP_GPA_LARGE_PAGE ? MB2 : PAGE_SIZE;
	u32 i;

	for (i = 3; code == HVCALL_MAP_GPA_PAGES && i < 3 + reps && i < 512; i++) {
		spa = in[i] << 12;
		if (is_code(spa) || (length == MB2 && spa == (u64)guest_ram))
			in[2] &= ~(u64)HV_MAP_GPA_WRITABLE;
		if (length == MB2 || !is_code(spa))
			in[2] &= ~(u64)HV_MAP_GPA_EXECUTABLE;
	}
	for (i = 0; code == HVCALL_SET_VP_REGISTERS && i < reps && i < 127; i++)
		if ((u32)in[2 + 4 * i] == REG_DR7)
			in[4 + 4 * i] &= ~0xffull;
}

/* Page numbers that the hypervisor would write to or take: only the arena's. */
static void tame(struct rng *r, u32 code, u32 reps, u64 *in)
{
	u32 i, first, last;
	bool large = false;

	switch (code) {
	case HVCALL_DEPOSIT_MEMORY:
		first = 1;
		break;
	case HVCALL_MAP_GPA_PAGES:
		first = 3;
		large = (u32)in[2] & HV_MAP_GPA_LARGE_PAGE;
		break;
	case HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS:
		first = 2;
		large = in[0] >> 32 & HV_SPA_LARGE_PAGE;
		break;
	case HVCALL_GET_VP_STATE:
		first = 5;
		reps = 1;
		break;
	default:
		return;
	}
	last = first + reps < 512 ? first + reps : 512;
	for (i = first; i < last; i++) {
		u64 spa = in[i] << 12, block = spa & ~(MB2 - 1);
		bool far = spa >= RAM_LIMIT * 4;

		if (code == HVCALL_MAP_GPA_PAGES && spa - (u64)guest_ram < MB2 &&
		    (!large || block == spa))
			continue;
		if (!far && large ? !in_arena(block) || block != spa :
				    !far && !in_arena(spa))
			in[i] = large ? (u64)arena[below(r, ARENA_BLOCKS)] >> 12 :
					arena_pfn(r);
	}
}

static u32 some_code(struct rng *r)
{
	static const u8 often[] = {
		HVCALL_CREATE_PARTITION, HVCALL_INITIALIZE_PARTITION,
		HVCALL_DEPOSIT_MEMORY, HVCALL_DEPOSIT_MEMORY,
		HVCALL_WITHDRAW_MEMORY, HVCALL_MAP_GPA_PAGES,
		HVCALL_MAP_GPA_PAGES, HVCALL_UNMAP_GPA_PAGES,
		HVCALL_INSTALL_INTERCEPT, HVCALL_CREATE_VP,
		HVCALL_GET_VP_REGISTERS, HVCALL_SET_VP_REGISTERS,
		HVCALL_SET_VP_REGISTERS, HVCALL_TRANSLATE_VIRTUAL_ADDRESS,
		HVCALL_MAP_STATS_PAGE, HVCALL_UNMAP_STATS_PAGE,
		HVCALL_GET_GPA_PAGES_ACCESS_STATES, HVCALL_DISPATCH_VP,
		HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS,
		HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS,
		HVCALL_MAP_VP_STATE_PAGE, HVCALL_MAP_VP_STATE_PAGE,
		HVCALL_UNMAP_VP_STATE_PAGE, HVCALL_GET_VP_STATE,
		HVCALL_SET_VP_STATE, HVCALL_REGISTER_INTERCEPT_RESULT
	};
	static const u16 seldom[] = {
		HVCALL_FINALIZE_PARTITION, HVCALL_DELETE_PARTITION,
		HVCALL_DELETE_VP, HVCALL_GET_PARTITION_PROPERTY,
		HVCALL_SET_PARTITION_PROPERTY, HVCALL_GET_PARTITION_ID,
		HVCALL_ADD_LOGICAL_PROCESSOR, HVCALL_GET_SYSTEM_PROPERTY,
		HVCALL_MAP_DEVICE_INTERRUPT, HVCALL_UNMAP_DEVICE_INTERRUPT,
		HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME,
		HVCALL_NOTIFY_PARTITION_EVENT, HVCALL_GET_PARTITION_PROPERTY_EX,
		HVCALL_SET_SYSTEM_PROPERTY, HVCALL_ENTER_SLEEP_STATE
	};

	if (one_in(r, 16))
		return below(r, HVCALL_COUNT + 16);
	return one_in(r, 24) ? seldom[below(r, ARRAY_SIZE(seldom))] :
			       often[below(r, ARRAY_SIZE(often))];
}

/* The input's page, mostly; else an address the hypervisor must refuse. */
static u64 some_input(struct rng *r, u64 *page, u32 code)
{
	switch (below(r, 64)) {
	case 0:
		return (u64)page + below(r, 4096);
	case 1:
		return number(r) | RAM_LIMIT;
	case 2:
		return number(r) | 1;
	case 3:
		return (u64)page + 4096 - 8 * below(r, 8);
	case 4:
		if (code != HVCALL_DEPOSIT_MEMORY && code != HVCALL_GET_VP_STATE &&
		    code != HVCALL_MAP_GPA_PAGES &&
		    code != HVCALL_SET_VP_REGISTERS &&
		    code != HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS)
			return arena_pfn(r) << 12;
	}
	return (u64)page;
}

static u64 some_output(struct rng *r, u64 *page)
{
	switch (below(r, 32)) {
	case 0:
		return (arena_pfn(r) << 12) + below(r, 512) * 8;
	case 1:
		return number(r) | RAM_LIMIT;
	case 2:
		return (arena_pfn(r) << 12) + below(r, 4096);
	case 3:
		return (u64)page + 8 * below(r, 512);
	}
	return (u64)page;
}

/* A partition that near-valid calls can work on. */
static void fresh_partition(struct rng *r, struct cpu *cpu, u32 slot)
{
	u64 id = partition_create(one_in(r, 4)), *in = cpu->in, result;
	u32 i;

	if (!id)
		return;
	in[0] = id;
	for (i = 1; i <= 96; i++)
		in[i] = arena_pfn(r);
	/* pages that are taken already end a call: go on behind them */
	for (i = 0; i < 96; i++) {
		result = hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 96) |
				(u64)i << 48, in, NULL);
		__atomic_fetch_add(&hypercalls, 1, __ATOMIC_RELAXED);
		i = DONE(result);
	}
	simple(HVCALL_INITIALIZE_PARTITION, id, 0);
	for (i = 0; i < 3; i++) {
		vp_create(id, i);
		vp_page(id, i, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, true, NULL);
	}
	__atomic_fetch_add(&hypercalls, 8, __ATOMIC_RELAXED);
	known[slot] = id;
}

/* The encrypted partitions' pages that are exclusive and not mapped. */
static void acquire_all(struct cpu *cpu)
{
	u64 *in = cpu->in;
	u32 i, j;

	for (i = 0; i < ARENA_BLOCKS; i++)
		for (j = 0; j < 512; j++) {
			in[0] = 3ull | (u64)HV_SPA_MAKE_SHARED << 32;
			in[1] = 0;
			in[2] = ((u64)arena[i] >> 12) + j;
			hvcall(CONTROL(HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS,
				       1), in, NULL);
		}
}

/*
 * A finalized partition is of little use: make room for a new one. Those that have
 * exclusive pages stay for a while, as it takes long to find them.
 */
static void retire(struct cpu *cpu, u64 id)
{
	struct oracle o = { { 0 } };
	u64 *in = cpu->in;
	static u32 stay;
	u32 i;

	for (i = 0; i < KNOWN; i++)
		if (known[i] == id)
			known[i] = 0;
	if (simple(HVCALL_FINALIZE_PARTITION, id, 0) == HV_STATUS_SUCCESS)
		return;			/* it was not, another CPU's */
	do {
		in[0] = id;
		in[1] = 0;
	} while (!STATUS(hvcall(CONTROL(HVCALL_WITHDRAW_MEMORY, 512), in,
				cpu->out)));
	if (!simple(HVCALL_DELETE_PARTITION, id, 0) || ++stay % 16)
		return;
	acquire_all(cpu);
	while (!oracle(ORACLE_PARTITION, &o))
		if (o.a[1] == FINALIZED)
			simple(HVCALL_DELETE_PARTITION, o.a[0], 0);
}

/* What a 1 GiB entry is made of is more than one call takes. */
static void map_gib(u64 id)
{
	u64 half = 256 * MB2, spa, i;
	u32 flags;

	for (i = 0; i < 2; i++)
		if (!STATUS(map_run(id, GIB_GFN + (i * half >> 12),
				    (FAR_PFN << 12) + i * half, 256,
				    HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE |
				    HV_MAP_GPA_LARGE_PAGE)))
			__atomic_fetch_add(&passed, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&hypercalls, 2, __ATOMIC_RELAXED);
	if (!slat(id, GIB_GFN, &spa, &flags) && (flags >> 8 & 3) == 2)
		__atomic_fetch_add(&gibs, 1, __ATOMIC_RELAXED);
}

static void one_hypercall(struct rng *r, struct cpu *cpu)
{
	u32 code = some_code(r), i, slot = below(r, KNOWN);
	u64 control = 0, in, out, result;
	bool plain = true;
	u32 reps;

	/* a new partition only where there is none */
	if (code == HVCALL_CREATE_PARTITION && known[slot])
		code = HVCALL_INITIALIZE_PARTITION;
	if (code == HVCALL_INITIALIZE_PARTITION && !known[slot]) {
		fresh_partition(r, cpu, slot);
		return;
	}
	if (code == HVCALL_MAP_GPA_PAGES && one_in(r, 128)) {
		map_gib(known[slot]);
		return;
	}
	reps = make_input(r, code, cpu->in, &control);
	control |= code | (u64)reps << 32;
	if (one_in(r, 32) && reps > 1)
		control |= (u64)below(r, reps + 1) << 48;
	if (one_in(r, 12)) {		/* damage the input */
		for (i = 1 + below(r, 4); i; i--)
			cpu->in[below(r, 8)] ^= 1ull << below(r, 64);
	}
	if (one_in(r, 16)) {		/* damage the control word */
		control ^= 1ull << below(r, 64);
		plain = false;
	} else if (one_in(r, 64)) {
		control = next(r);
		plain = false;
	}
	in = some_input(r, cpu->in, (u16)control);
	out = some_output(r, cpu->out);
	if (control & HVC_FAST) {
		in = cpu->in[0];
		out = cpu->in[1];
	} else if (in - (u64)cpu->in < PAGE_SIZE && in != (u64)cpu->in) {
		memset(cpu->in, 0, PAGE_SIZE);	/* never as page numbers */
	}
	tame(r, (u16)control, HVC_REP_COUNT(control), cpu->in);
	keep_to_code((u16)control, HVC_REP_COUNT(control), cpu->in);
	asm volatile("cli");		/* as dispatch() does */
	if ((u16)control == HVCALL_DISPATCH_VP)
		timer_us(100);
	result = hvcall(control, (void *)in, (void *)out);
	asm volatile("sti");
	__atomic_fetch_add(&hypercalls, 1, __ATOMIC_RELAXED);
	if (STATUS(result) == HV_STATUS_INVALID_PARTITION_STATE && plain &&
	    code == HVCALL_MAP_GPA_PAGES && cpu->in[0] > 1)
		retire(cpu, cpu->in[0]);
	if (STATUS(result))
		return;
	__atomic_fetch_add(&passed, 1, __ATOMIC_RELAXED);
	if (!plain)
		return;
	if (code == HVCALL_CREATE_PARTITION && out == (u64)cpu->out)
		known[slot] = cpu->out[0];
	if (code == HVCALL_DELETE_PARTITION)
		for (i = 0; i < KNOWN; i++)
			if (known[i] == cpu->in[0])
				known[i] = 0;
	if (code == HVCALL_DISPATCH_VP)
		__atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
}

static void one_msr(struct rng *r)
{
	static const u32 base[] = { 0, 0xc0000000, 0xc0010000 };
	bool write = one_in(r, 2);
	u64 v = number(r);
	u32 msr;

	if (one_in(r, 4))
		msr = one_in(r, 4) ? next(r) : base[below(r, 3)] + below(r, 0x400);
	else
		msr = 0x40000000 + below(r, one_in(r, 2) ? 0xb0 : 0x1000);
	if (msr - MSR_HV_SINT0 < HV_SINT_COUNT && (v & 0xff) < 32 &&
	    (v & 0xff) > 15)
		v += 0x40;		/* not an exception's vector */
	/* TSC, SMBASE, PAT, the APIC and hypercalls are the fuzzer's own. */
	if (msr == 0x10 || msr == 0x9e || msr == 0x277 || msr == 0x6e0 ||
	    msr - 0x800 < 0x100 || msr == MSR_HV_GUEST_OS_ID ||
	    msr == MSR_HV_HYPERCALL)
		write = false;
	if (write)
		wrmsr_safe(msr, v);
	else
		rdmsr_safe(msr, &v);
	__atomic_fetch_add(&msrs, 1, __ATOMIC_RELAXED);
}

static void one_cpuid(struct rng *r)
{
	static const u32 base[] = { 0, 0x40000000, 0x80000000, 0x40000100 };
	u32 reg[4];

	cpuid(one_in(r, 4) ? next(r) : base[below(r, 4)] + below(r, 0x40),
	      below(r, 8), reg);
	__atomic_fetch_add(&cpuids, 1, __ATOMIC_RELAXED);
}

/* Random bytes, thick with instructions that exit. */
static void child_bytes(struct rng *r, u8 *p, u32 n)
{
	static const u8 insn[][4] = {
		{ 2, 0x0f, 0xa2 }, { 2, 0x0f, 0x30 }, { 2, 0x0f, 0x32 },
		{ 3, 0x0f, 0x01, 0xd9 }, { 1, 0xf4 }, { 1, 0xec }, { 1, 0xee },
		{ 2, 0xf3, 0x6e }, { 1, 0xcc }, { 2, 0xcd, 0x20 }, { 2, 0x0f, 0x0b },
		{ 3, 0x0f, 0x01, 0xd8 }, { 3, 0x0f, 0x01, 0xd1 }, { 2, 0xeb, 0xfe },
		{ 3, 0x0f, 0x22, 0xc0 }, { 3, 0x0f, 0x22, 0xe0 }, { 2, 0x0f, 0x08 },
		{ 3, 0x0f, 0x22, 0xd8 }, { 1, 0xcf }, { 1, 0xfb }, { 1, 0xfa }
	};

	u8 *start = p;

	while (n > 16) {
		u32 k = below(r, ARRAY_SIZE(insn)), i;

		switch (below(r, 4)) {
		case 0:			/* mov ecx: an MSR or a call code */
			*p++ = 0xb9;
			*(u32 *)p = one_in(r, 2) ? below(r, HVCALL_COUNT) :
					0x40000000 + below(r, 0xb0);
			p += 4;
			n -= 5;
			break;
		case 1:
			*p++ = next(r);
			n--;
			break;
		default:
			for (i = 0; i < insn[k][0]; i++)
				*p++ = insn[k][1 + i];
			n -= insn[k][0];
		}
	}
	/* No MOV to segment register 6 or 7, or to debug registers. */
	while (p-- > start)
		if (*p == 0x8e || *p == 0x23)
			*p = 0x90;
}

/* A VP with everything it needs, some random code, and a bounded run of it. */
static void one_child(struct rng *r)
{
	u32 vp = below(r, 3), name = register_name(r), i, state, event;
	u64 id = known[below(r, KNOWN)];
	const void *pages[64];

	if (!id)
		return;
	vp_page(id, vp, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, true, NULL);
	for (i = 0; i < 64; i++)
		pages[i] = guest_ram + i * PAGE_SIZE;
	map_pages(id, 0, pages, 64, MAP_RWX & ~HV_MAP_GPA_EXECUTABLE);
	map_pages(id, GUEST_CODE >> 12, pages + (GUEST_CODE >> 12),
		  CODE_SIZE >> 12, MAP_RWX & ~HV_MAP_GPA_WRITABLE);
	if (one_in(r, 16))
		child_tables(guest_ram);
	child_bytes(r, guest_ram + GUEST_CODE + below(r, 63) * 128, 256);
	if (one_in(r, 2)) {
		struct child c = { .id = id };

		child_long_mode(&c, vp);
	}
	if (one_in(r, 4) && name != REG_DR7)
		reg_set(id, vp, name, next(r));
	reg_set(id, vp, REG_RIP, GUEST_CODE + below(r, CODE_SIZE));
	reg_set(id, vp, REG_RCX, one_in(r, 2) ? 0x40000000 + below(r, 0xb0) :
						below(r, HVCALL_COUNT));
	reg_set(id, vp, REG_RAX + below(r, 16), number(r));
	reg_set(id, vp, REG_INTERCEPT_SUSPEND, 0);
	reg_set(id, vp, REG_EXPLICIT_SUSPEND, 0);
	__atomic_fetch_add(&hypercalls, 9, __ATOMIC_RELAXED);
	for (i = 0; i < 4; i++) {
		if (!scheduler_is_root) {
			cpu_nap(100);
		} else {
			if (dispatch(id, vp, i ? HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND :
				     0, 100, &state, &event))
				return;
		}
		__atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
	}
}

static void one_oracle(struct rng *r, struct cpu *cpu)
{
	struct oracle o = { { some_id(r), some_gfn(r), number(r),
			      (u64)cpu->out, 1 + below(r, 100) } };

	switch (below(r, 4)) {
	case 0:
		oracle(ORACLE_AUDIT, &o);
		break;
	case 1:			/* one call fails soon */
		o = (struct oracle){ { below(r, HVCALL_COUNT), 1 + below(r, 9),
				       1 + below(r, 0x20), below(r, 9) } };
		oracle(ORACLE_INJECT, &o);
		break;
	case 2:
		o.a[1] = below(r, 3);
		oracle(ORACLE_DRY, &o);
		break;
	default:
		/* every parameter but the one that breaks the hypervisor */
		o.a[0] = below(r, OPTIONS);
		if (o.a[0] != OPTION_TLB_FLUSH)
			option(o.a[0], below(r, 2));
	}
}

/* What the fuzzer did not give away is as it was. */
static void check(struct rng *r)
{
	struct oracle o = { { 0 } };
	u32 i, j;

	if (oracle(ORACLE_VERSION, &o) || o.a[0] != 1)
		broken = true;
	i = below(r, ((u64)bss_end - 0x1000000) >> 12);
	o.a[0] = 0x1000000 + i * PAGE_SIZE;
	if (oracle(ORACLE_PAGE, &o) || o.a[0])
		broken = true;
	for (i = 0; i < CANARIES; i++)
		for (j = 0; j < 512; j++)
			if (canary[i][j] != CANARY + j)
				broken = true;
}

/* Until the phase's number of hypercalls, or its end. */
static void fuzz(void *arg)
{
	struct cpu *cpu = this_cpu();
	struct rng *r = &rngs[cpu->id];
	u64 n = 0;

	(void)arg;
	while (!broken && *(volatile u64 *)&hypercalls < phase_target) {
		u32 what = below(r, 256);

		if (what < 212)
			one_hypercall(r, cpu);
		else if (what < 235)
			one_msr(r);
		else if (what < 250)
			one_cpuid(r);
		else if (what < 252)
			one_oracle(r, cpu);
		else
			one_child(r);
		if (!(++n % 4096))
			check(r);
		if (!(n % 16) && now_us() > phase_end)
			break;
	}
	timer_us(0);
}

/*
 * All CPUs at once for a while, then CPU 0 alone for most of the hypercalls:
 * with fewer real processors than emulated ones, each wait of one for another
 * costs milliseconds. The others wait for a SIPI meanwhile.
 */
static void run_phases(void)
{
	u32 phase, i;

	for (phase = 1; phase <= PHASES; phase++) {
		if (nr_cpus > 1) {
			phase_target = wanted;
			phase_end = now_us() + PARALLEL_US;
			for (i = 1; i < nr_cpus; i++)
				cpu_run(i, fuzz, NULL);
			fuzz(NULL);
			for (i = 1; i < nr_cpus; i++)
				cpu_stop(i);
		}
		phase_target = wanted / PHASES * phase;
		if (phase == PHASES)
			phase_target = wanted;
		phase_end = deadline;
		fuzz(NULL);
		for (i = 1; i < nr_cpus; i++)
			if (!cpu_start(i))
				broken = true;
	}
}

/* Stats pages outlive their partition's VPs and tables. */
static void clean_up(void)
{
	struct oracle o = { { 0 } };
	u32 i;

	for (i = 0; i < nr_cpus; i++)
		stats_page(HV_STATS_OBJECT_LOGICAL_PROCESSOR, i, 0, false, NULL);
	stats_page(HV_STATS_OBJECT_HYPERVISOR, 0, 0, false, NULL);
	while (!oracle(ORACLE_PARTITION, &o))
		simple(HVCALL_FINALIZE_PARTITION, o.a[0], 0);
	acquire_all(&cpus[0]);
	for (o.a[0] = 0; !oracle(ORACLE_PARTITION, &o);) {
		u64 id = o.a[0];

		for (i = 0; i < 2; i++)
			stats_page(HV_STATS_OBJECT_PARTITION, id, (u64)i << 56,
				   false, NULL);
		withdraw_all(id);
		simple(HVCALL_DELETE_PARTITION, id, 0);
	}
	for (i = 0; i < 2; i++) {
		u32 vp;

		stats_page(HV_STATS_OBJECT_PARTITION, 1, (u64)i << 56, false,
			   NULL);
		for (vp = 0; vp < nr_cpus; vp++)
			stats_page(HV_STATS_OBJECT_VP, 1, vp | (u64)i << 56,
				   false, NULL);
	}
	withdraw_all(1);
}

/* Pages of RAM that a SLAT maps are refused as a deposit. */
static u64 count_mapped(void)
{
	u64 id = partition_create(false), *in = this_cpu()->in, mapped = 0;
	u32 i, j;

	for (i = 0; i <= ARENA_BLOCKS; i++) {
		u8 *block = i < ARENA_BLOCKS ? arena[i] : guest_ram;

		for (j = 0; j < 512; j++) {
			in[0] = id;
			in[1] = ((u64)block >> 12) + j;
			mapped += !!STATUS(hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY,
							  1), in, NULL));
		}
	}
	withdraw_all(id);
	simple(HVCALL_DELETE_PARTITION, id, 0);
	return mapped;
}

void payload(void)
{
	struct oracle o = { { 0 } };
	u64 start = now_us(), astray = 0, mapped;
	u32 i, j;

	seed = number_given("seed=", rdtsc() & 0xffffffff);
	wanted = number_given("count=", DEFAULT_COUNT);
	deadline = start + number_given("seconds=", 400) * 1000000;
	say("# seed %llu, %u CPUs, %s scheduler\n", seed, nr_cpus,
	    scheduler_is_root ? "root" : "hypervisor");
	for (i = 0; i < ARENA_BLOCKS; i++)
		arena[i] = large_alloc();
	guest_ram = large_alloc();
	child_tables(guest_ram);
	for (i = 0; i < CANARIES; i++) {
		canary[i] = page_alloc();
		for (j = 0; j < 512; j++)
			canary[i][j] = CANARY + j;
	}
	for (i = 0; i < nr_cpus; i++)
		rngs[i].s = seed * 0x9e3779b97f4a7c15ull + i + 1;
	/* no sleep state from now on: S5 is never entered */
	memset(cpus[0].in, 0, 72);
	cpus[0].in[0] = 3;
	cpus[0].in[1] = 6;
	hvcall(HVCALL_SET_SYSTEM_PROPERTY, cpus[0].in, NULL);
	run_phases();
	ok(!broken, "the oracle answered and no page went astray meanwhile");

	for (i = 0; i < OPTIONS; i++)
		option(i, 0);
	oracle(ORACLE_RESET, &o);
	clean_up();
	o.a[0] = 0;
	ok_detail(oracle(ORACLE_PARTITION, &o) == -2,
		  "every partition could be deleted", "%llu is left, state %llu",
		  o.a[0], o.a[1]);
	mapped = count_mapped();
	ok_detail(!mapped, "no page counts as mapped", "%llu do", mapped);
	oracle(ORACLE_TOTALS, &o);
	ok_detail(o.a[0] && o.a[0] == o.a[1],
		  "every deposited page was withdrawn", "%llu deposited, %llu withdrawn",
		  o.a[0], o.a[1]);
	for (i = 0; i < ARENA_BLOCKS; i++)
		for (j = 0; j < 512; j++) {
			o.a[0] = (u64)arena[i] + j * PAGE_SIZE;
			oracle(ORACLE_PAGE, &o);
			astray += o.a[0] != 0;
		}
	ok_detail(!astray, "every page of the arena is the root's again",
		  "%llu are not", astray);
	ok_detail(hypercalls >= wanted, "as many hypercalls as were wanted",
		  "%llu", hypercalls);
	if (!has_1g())
		skip("1 GiB entries were made", "the CPU has no 1 GiB pages");
	else if (wanted < DEFAULT_COUNT && !gibs)
		skip("1 GiB entries were made", "too few hypercalls");
	else
		ok(gibs, "1 GiB entries were made");
	say("fuzz: %llu hypercalls, %llu msrs, %llu cpuids, %llu child runs, seed %llu\n",
	    hypercalls, msrs, cpuids, runs, seed);
	say("# %llu of the hypercalls succeeded; %llu 1 GiB entries; %llu ms\n",
	    passed, gibs, (now_us() - start) / 1000);
}
