// SPDX-License-Identifier: GPL-2.0
/*
 * Running VPs: dispatch by the root, the hypervisor's own scheduler, several
 * processors and partitions at once, and the TLB shootdown.
 */
#include "test.h"

#define REG_DISPATCH_SUSPEND	0x3
#define REG_SIGNAL_COUNT	0x90014
#define HV_IMAGE	0x200000ull	/* where the hypervisor lies */
#define PARTITIONS	16
#define ROUNDS		3
#define LONG_US		100000

static struct child c;

GUEST(guest_spin, "1: incq 0x20000; jmp 1b");

static volatile u64 *spin_counter(void)
{
	return (volatile u64 *)(c.ram + GUEST_DATA);
}

static bool other_scheduler(bool root)
{
	if (scheduler_is_root != root)
		test_skip(root ? "needs sched=root" : "needs sched=hyp");
	return scheduler_is_root != root;
}

static bool one_cpu(void)
{
	if (nr_cpus < 2)
		test_skip("one CPU");
	return nr_cpus < 2;
}

static bool changes(volatile u64 *p, u32 us)
{
	u64 before = *p, end = now_us() + us;

	while (*p == before && now_us() < end)
		cpu_nap(2000);
	return *p != before;
}

static void first_dispatch(void)
{
	u32 state, event, seen;
	u64 *stats;

	if (other_scheduler(true))
		return;
	child_create(&c, 4);
	CHILD_CODE(&c, guest_spin);
	EXPECT(stats_page(HV_STATS_OBJECT_VP, c.id, 3, true, (void **)&stats), 0);
	EXPECT(dispatch(c.id, 3, 0, LONG_US, &state, &event), 0);
	EXPECT(state, HV_DISPATCH_STATE_BLOCKED);
	EXPECT(event, HV_DISPATCH_EVENT_SUSPEND);
	EXPECT(stats[HV_STATS_VP_DISPATCH_BLOCKED], 1);
	seen = synic_count;
	EXPECT(reg_set(c.id, 3, REG_EXPLICIT_SUSPEND, 0), 0);
	delay_us(2000);
	EXPECT(synic_count, seen + 1);
	EXPECT(synic_events[seen % 1024].type, HVMSG_SCHEDULER_VP_SIGNAL_PAIR);
	EXPECT(synic_events[seen % 1024].sender, c.id);
	EXPECT(synic_events[seen % 1024].vp, 3);
	EXPECT(stats[HV_STATS_VP_DISPATCH_BLOCKED], 0);
	EXPECT(reg_get(c.id, 3, REG_SIGNAL_COUNT), 1);
	/* nobody waits: no second signal */
	EXPECT(reg_set(c.id, 3, REG_EXPLICIT_SUSPEND, 0), 0);
	delay_us(2000);
	EXPECT(synic_count, seen + 1);
	EXPECT(reg_get(c.id, 3, REG_SIGNAL_COUNT), 1);
	EXPECT(*spin_counter(), 0);
	child_delete(&c);
}

static void dispatch_refused(void)
{
	u64 id = partition_ready(10);
	u32 state, event;
	void *page;

	EXPECT(vp_create(id, 0), 0);
	EXPECT(dispatch(id, 0, 0, LONG_US, &state, &event), HV_STATUS_INVALID_VP_STATE);
	EXPECT(vp_page(id, 0, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, true, &page), 0);
	EXPECT(dispatch(id, 0, 0x80, LONG_US, &state, &event), HV_STATUS_INVALID_PARAMETER);
	EXPECT(dispatch(id, 1, 0, LONG_US, &state, &event), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(dispatch(id, 0, 0, LONG_US, &state, &event),
	       scheduler_is_root ? 0 : HV_STATUS_INVALID_VP_STATE);
	partition_gone(id);
}

static void interrupt_ends_dispatch(void)
{
	struct cpu *cpu = this_cpu();
	u32 state, event, i;
	u64 ticks, count;

	if (other_scheduler(true))
		return;
	child_create(&c, 1);
	CHILD_CODE(&c, guest_spin);
	reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 0);
	for (i = 0; i < 40; i++) {
		test_case(i);
		ticks = cpu->interrupts[VECTOR_TIMER];
		count = *spin_counter();
		/* in every second case it is there before the VP is entered */
		EXPECT(dispatch(c.id, 0, 0, i % 2 ? 1 : 5000, &state, &event), 0);
		EXPECT(state, HV_DISPATCH_STATE_READY);
		EXPECT(event, HV_DISPATCH_EVENT_NONE);
		EXPECT(cpu->interrupts[VECTOR_TIMER], ticks + 1);
		EXPECT_TRUE(i % 2 || *spin_counter() > count);
	}
	child_delete(&c);
}

GUEST(guest_halts, "1: incq 0x20000; hlt; jmp 1b");

static void suspends(void)
{
	u32 state, event;

	if (other_scheduler(true))
		return;
	child_create(&c, 1);
	CHILD_CODE(&c, guest_halts);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(*spin_counter(), 1);
	EXPECT(reg_get(c.id, 0, REG_INTERCEPT_SUSPEND), 1);
	/* an intercept that was not answered is reported again */
	reg_set(c.id, 0, REG_RIP, GUEST_CODE);
	EXPECT(dispatch(c.id, 0, 0, LONG_US, &state, &event), 0);
	EXPECT(state, HV_DISPATCH_STATE_READY);
	EXPECT(event, HV_DISPATCH_EVENT_INTERCEPT);
	EXPECT(*spin_counter(), 1);
	EXPECT(dispatch(c.id, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND, LONG_US,
			&state, &event), 0);
	EXPECT(event, HV_DISPATCH_EVENT_INTERCEPT);
	EXPECT(*spin_counter(), 2);
	/* the register answers it as well */
	reg_set(c.id, 0, REG_RIP, GUEST_CODE);
	EXPECT(reg_set(c.id, 0, REG_INTERCEPT_SUSPEND, 0), 0);
	EXPECT(dispatch(c.id, 0, 0, LONG_US, &state, &event), 0);
	EXPECT(*spin_counter(), 3);
	/* explicit and dispatch suspend each keep the VP from running */
	reg_set(c.id, 0, REG_RIP, GUEST_CODE);
	reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 1);
	EXPECT(dispatch(c.id, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND, LONG_US,
			&state, &event), 0);
	EXPECT(state, HV_DISPATCH_STATE_BLOCKED);
	EXPECT(event, HV_DISPATCH_EVENT_SUSPEND);
	reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 0);
	reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 1);
	EXPECT(dispatch(c.id, 0, 0, LONG_US, &state, &event), 0);
	EXPECT(state, HV_DISPATCH_STATE_BLOCKED);
	EXPECT(event, HV_DISPATCH_EVENT_SUSPEND);
	EXPECT(*spin_counter(), 3);
	reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 0);
	EXPECT(dispatch(c.id, 0, 0, LONG_US, &state, &event), 0);
	EXPECT(event, HV_DISPATCH_EVENT_INTERCEPT);
	EXPECT(*spin_counter(), 4);
	child_delete(&c);
}

/* VP @vp has something to say while @msr is disabled. */
static void message_while_off(u32 msr, u32 vp)
{
	struct hv_message *m = (struct hv_message *)PAGE_MSR(MSR_HV_SIMP);
	u64 enabled = rdmsr(msr);
	u32 state, event;

	test_case(msr);
	EXPECT(reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 1), 0);
	EXPECT(dispatch(c.id, vp, 0, LONG_US, &state, &event), 0);
	EXPECT(state, HV_DISPATCH_STATE_BLOCKED);
	wrmsr(msr, enabled & ~1ull);
	EXPECT(reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 0), 0);
	wrmsr(MSR_HV_EOM, 0);
	EXPECT(m->type, 0);
	wrmsr(msr, enabled);
	EXPECT(m->type, HVMSG_SCHEDULER_VP_SIGNAL_PAIR);
	EXPECT(*(u32 *)(m->payload + 8 + 19 * 8), vp);
	*(volatile u32 *)&m->type = 0;
}

/* The slot is taken: the second message waits for EOM. */
static void message_queue(void)
{
	struct hv_message *m = (struct hv_message *)PAGE_MSR(MSR_HV_SIMP);
	u32 state, event, i;

	if (other_scheduler(true))
		return;
	child_create(&c, 3);
	for (i = 0; i < 3; i++)
		EXPECT(dispatch(c.id, i, 0, LONG_US, &state, &event), 0);
	synic_manual = true;
	for (i = 0; i < 3; i++)
		EXPECT(reg_set(c.id, i, REG_EXPLICIT_SUSPEND, 0), 0);
	for (i = 0; i < 3; i++) {
		test_case(i);
		EXPECT(m->type, HVMSG_SCHEDULER_VP_SIGNAL_PAIR);
		EXPECT(m->sender, c.id);
		EXPECT(m->payload_size, 240);
		EXPECT(m->flags & 1, i < 2);
		EXPECT(*(u32 *)m->payload, 0);
		EXPECT(m->payload[4], 1);
		EXPECT(*(u64 *)(m->payload + 8), c.id);
		EXPECT(*(u32 *)(m->payload + 8 + 19 * 8), i);
		/* without the slot free EOM brings nothing */
		wrmsr(MSR_HV_EOM, 0);
		EXPECT(*(u32 *)(m->payload + 8 + 19 * 8), i);
		*(volatile u32 *)&m->type = 0;
		if (i < 2)
			wrmsr(MSR_HV_EOM, 0);
	}
	EXPECT(*(volatile u32 *)&m->type, 0);
	message_while_off(MSR_HV_SCONTROL, 1);
	message_while_off(MSR_HV_SIMP, 2);
	synic_manual = false;
	child_delete(&c);
}

/* What a second CPU does with VP 0: run it until told to stop. */
static struct {
	volatile bool stop;
	volatile u32 state, event;
	volatile u16 status;
	u32 slice_us;
} runner;

static void run_until_stopped(void *arg)
{
	u32 state = 0, event = 0;

	(void)arg;
	while (!runner.stop) {
		runner.status = dispatch(c.id, 0,
					 HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND,
					 runner.slice_us, &state, &event);
		runner.state = state;
		runner.event = event;
		if (runner.status || state == HV_DISPATCH_STATE_BLOCKED)
			break;
	}
}

/* Starts VP @vp, which by either scheduler runs on a CPU other than this. */
static u32 start_elsewhere(u32 slice_us)
{
	u32 i, vp = 0;

	memset(&runner, 0, sizeof(runner));
	runner.slice_us = slice_us;
	for (i = 0; i < 2; i++)
		reg_set(c.id, i, REG_INTERCEPT_SUSPEND, 0);
	if (scheduler_is_root) {
		reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 0);
		cpu_run(1, run_until_stopped, NULL);
	} else {
		/* see hv_create_vp(): VPs are spread over the CPUs */
		vp = (c.id % nr_cpus) ? 0 : 1;
		reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 0);
	}
	return vp;
}

static void stop_elsewhere(u32 vp)
{
	runner.stop = true;
	if (scheduler_is_root)
		cpu_wait(1);
	else
		reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 1);
}

static void calls_on_a_running_vp(void)
{
	volatile u64 *count;
	u32 state, event, vp;
	u64 before, v[2];

	if (one_cpu())
		return;
	child_create(&c, 2);
	CHILD_CODE(&c, guest_spin);
	count = spin_counter();
	vp = start_elsewhere(50000);
	EXPECT_TRUE(changes(count, 1000000));
	if (scheduler_is_root)
		EXPECT(dispatch(c.id, 0, 0, LONG_US, &state, &event),
		       HV_STATUS_INVALID_VP_STATE);
	/* registers can be got; the VP goes on */
	EXPECT(reg_get2(c.id, vp, REG_RIP, v), 0);
	EXPECT_TRUE(v[0] >= GUEST_CODE && v[0] < GUEST_CODE + 16);
	EXPECT_TRUE(changes(count, 1000000));
	/* explicit suspend stops it before the call returns */
	EXPECT(reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 1), 0);
	before = *count;
	delay_us(5000);
	EXPECT(*count, before);
	if (scheduler_is_root) {
		cpu_wait(1);
		EXPECT(runner.state, HV_DISPATCH_STATE_BLOCKED);
		EXPECT(runner.event, HV_DISPATCH_EVENT_SUSPEND);
	}
	vp = start_elsewhere(50000);
	EXPECT_TRUE(changes(count, 1000000));
	EXPECT(simple(HVCALL_DELETE_VP, c.id, vp), 0);
	before = *count;
	delay_us(5000);
	EXPECT(*count, before);
	if (scheduler_is_root) {
		cpu_wait(1);
		EXPECT(runner.status, HV_STATUS_INVALID_VP_INDEX);
	}
	child_delete(&c);
}

static void finalize_while_running(void)
{
	volatile u64 *count;
	u64 before;

	if (one_cpu())
		return;
	child_create(&c, 2);
	CHILD_CODE(&c, guest_spin);
	count = spin_counter();
	start_elsewhere(50000);
	EXPECT_TRUE(changes(count, 1000000));
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, c.id, 0), 0);
	before = *count;
	delay_us(5000);
	EXPECT(*count, before);
	if (scheduler_is_root)
		cpu_wait(1);
	EXPECT(pool_in_use(c.id), 0);
	withdraw_all(c.id);
	EXPECT(simple(HVCALL_DELETE_PARTITION, c.id, 0), 0);
	large_free(c.ram);
}

GUEST(guest_writes, "1: incq (%rbx); jmp 1b");

enum shootdown {
	BY_UNMAP, BY_NO_ACCESS, BY_READ_ONLY, BY_OTHER_PAGE, BY_MAP_REFUSED,
	BY_UNMAP_REFUSED, BY_UNMAP_INJECTED, BY_SPLIT, BY_LARGE_NO_ACCESS,
	BY_TABLE_NO_ACCESS, BY_TABLE_MAP, BY_TABLE_UNMAP, SHOOTDOWNS
};

static u8 *victim;

/* The last GFN of the child's RAM, or the first of the next 2 MiB */
static u64 victim_gfn(enum shootdown how)
{
	return how < BY_SPLIT ? 511 : 512;
}

static void give_access(enum shootdown how)
{
	bool large = how == BY_SPLIT || how == BY_LARGE_NO_ACCESS;

	EXPECT(map_run(c.id, victim_gfn(how), (u64)victim, 1,
		       MAP_RWX | (large ? LARGE : 0)), 1ull << 32);
	if (how == BY_UNMAP_REFUSED)
		EXPECT(map_run(c.id, 512, (u64)victim, 1, MAP_RWX | LARGE),
		       1ull << 32);
}

static void remove_access(enum shootdown how)
{
	const void *list[] = { c.ram + 0x180000, (void *)HV_IMAGE };
	struct oracle o = { { HVCALL_UNMAP_GPA_PAGES, 1, HV_STATUS_NO_RESOURCES, 1 } };
	u64 gfn = victim_gfn(how), r = 0, wanted = 1ull << 32;

	switch (how) {
	case BY_UNMAP:
	case BY_SPLIT:
		r = unmap(c.id, gfn, 1, 0);
		break;
	case BY_NO_ACCESS:
		r = map_run(c.id, gfn, 0, 1, NO_ACCESS);
		break;
	case BY_READ_ONLY:
		r = map_run(c.id, gfn, (u64)victim, 1, HV_MAP_GPA_READABLE);
		break;
	case BY_OTHER_PAGE:
		r = map_run(c.id, gfn, (u64)list[0], 1, MAP_RWX);
		break;
	/* a call that fails has changed what precedes the failure */
	case BY_MAP_REFUSED:
		r = map_pages(c.id, gfn, list, 2, MAP_RWX);
		wanted |= HV_STATUS_OPERATION_DENIED;
		break;
	case BY_UNMAP_REFUSED:
		set_dry(c.id, ~0ull);
		r = unmap(c.id, gfn, 2, 0);
		set_dry(c.id, 0);
		wanted |= HV_STATUS_INSUFFICIENT_MEMORY;
		break;
	case BY_UNMAP_INJECTED:
		oracle(ORACLE_INJECT, &o);
		r = unmap(c.id, gfn, 2, 0);
		wanted |= HV_STATUS_NO_RESOURCES;
		break;
	case BY_TABLE_MAP:
		r = map_run(c.id, gfn, (u64)c.ram, 1, MAP_RWX | LARGE);
		break;
	case BY_TABLE_UNMAP:
		r = unmap(c.id, gfn, 1, HV_UNMAP_GPA_LARGE_PAGE);
		break;
	default:
		r = map_run(c.id, gfn, 0, 1, NO_ACCESS | LARGE);
	}
	EXPECT(r, wanted);
}

/*
 * A VP keeps writing to a page on another CPU; CPU 0 takes the page away and
 * looks whether it still changes afterwards. Returns how often it did.
 */
static u32 stale_writes(enum shootdown how, u32 rounds, bool until_seen)
{
	volatile u64 *count = (u64 *)victim;
	u32 stale = 0, round, vp;

	for (round = 0; round < rounds && !(until_seen && stale); round++) {
		u64 after, end;

		test_case(how << 8 | round);
		give_access(how);
		vp = start_elsewhere(30000);
		if (!EXPECT_TRUE(changes(count, 2000000)))
			round = rounds;
		remove_access(how);
		after = *count;
		end = now_us() + (until_seen ? 20000 : 3000);
		while (*count == after && now_us() < end)
			cpu_relax();
		stale += *count != after;
		stop_elsewhere(vp);
	}
	return stale;
}

static void shootdown(void)
{
	struct oracle o = { { 0 } };
	enum shootdown how;
	u64 before;
	u32 i;

	if (one_cpu())
		return;
	child_create(&c, 2);
	CHILD_CODE(&c, guest_writes);
	victim = large_alloc();
	oracle(ORACLE_TOTALS, &o);
	before = o.a[3];
	for (how = 0; how < SHOOTDOWNS; how++) {
		for (i = 0; i < 2; i++)
			reg_set(c.id, i, REG_RBX, victim_gfn(how) << 12);
		EXPECT(stale_writes(how, 12, false), 0);
	}
	oracle(ORACLE_TOTALS, &o);
	EXPECT_TRUE(o.a[3] >= before + SHOOTDOWNS);
	large_free(victim);
	child_delete(&c);
}

/* The test above can fail: without the flush stale writes are seen. */
static void no_shootdown(void)
{
	enum shootdown how;
	u32 i;

	if (one_cpu())
		return;
	child_create(&c, 2);
	CHILD_CODE(&c, guest_writes);
	victim = large_alloc();
	option(OPTION_TLB_FLUSH, 1);
	for (how = 0; how < SHOOTDOWNS; how++) {
		for (i = 0; i < 2; i++)
			reg_set(c.id, i, REG_RBX, victim_gfn(how) << 12);
		EXPECT(stale_writes(how, 50, true), 1);
	}
	option(OPTION_TLB_FLUSH, 0);
	/* one more flush, so that nothing stale outlives the test */
	EXPECT(map_run(c.id, 512, (u64)victim, 1, MAP_RWX | LARGE), 1ull << 32);
	EXPECT(unmap(c.id, 512, 1, HV_UNMAP_GPA_LARGE_PAGE), 1ull << 32);
	child_delete(&c);
	large_free(victim);
}

/*
 * Waits for the next round, then for as long as the root says, writes once to each
 * of R9 pages from RBX on, and says that it did.
 */
GUEST(guest_writes_once,
	"1: pause; movq 0x20008, %rdx; cmpq 0x20000, %rdx; je 1b\n"
	"movq 0x20010, %rcx\n"
	"2: decq %rcx; jns 2b\n"
	"movq %r9, %rcx; movq %rbx, %rdi\n"
	"3: movq %rdx, (%rdi); addq $4096, %rdi; decq %rcx; jnz 3b\n"
	"movq %rdx, 0x20000\n"
	"jmp 1b");

static struct {
	volatile u64 written, round, delay;
} *writer;

static u32 start_writer(u64 gva, u32 pages)
{
	u32 i;

	CHILD_CODE(&c, guest_writes_once);
	for (i = 0; i < 2; i++) {
		reg_set(c.id, i, REG_RIP, GUEST_CODE);
		reg_set(c.id, i, REG_RBX, gva);
		reg_set(c.id, i, 0x20009, pages);
	}
	writer = (void *)(c.ram + GUEST_DATA);
	writer->written = 0;
	writer->round = 0;
	return start_elsewhere(30000);
}

static void next_round(u64 delay)
{
	writer->delay = delay;
	writer->round++;
}

static bool round_done(void)
{
	return writer->written == writer->round;
}

/*
 * Has the VP written, or had it time enough? Each call stops it: where processors
 * are few, calls without a break may keep it from its next instruction.
 */
static bool round_over(u64 start)
{
	u64 us = now_us() - start;

	if (us > 500000)
		delay_us(1000);
	return round_done() || us > 10000000;
}

/*
 * How many of the pages a VP writes are not dirty in any of the calls meanwhile.
 * Each of these does @n repetitions and ends with @status.
 */
static u32 writes_not_reported(u64 gfn, u32 pages, u32 n, u16 status)
{
	u8 *seen = page_alloc(), *s = page_alloc();
	u32 vp = start_writer(gfn << 12, pages), round, lost = 0, i;

	for (round = 0; round < 60 && !lost; round++) {
		u64 start = now_us();
		bool last;

		test_case(gfn << 32 | round);
		memset(seen, 0, PAGE_SIZE);
		next_round(round * 7919 % 4000);
		do {
			last = round_over(start);
			/* clear accessed and dirty */
			EXPECT(access_states(c.id, gfn, n + !!status, 5, s),
			       status | (u64)n << 32);
			for (i = 0; i < n; i++)
				seen[i] |= s[i];
		} while (!last);
		if (!EXPECT_TRUE(round_done()))
			break;
		for (i = 0; i < pages; i++)
			lost += seen[i] != 3;
	}
	stop_elsewhere(vp);
	page_free(seen);
	page_free(s);
	return lost;
}

static void clearing_loses_nothing(void)
{
	if (one_cpu())
		return;
	child_create(&c, 2);
	victim = large_alloc();
	EXPECT(writes_not_reported(384, 128, 128, 0), 0);
	/* the page behind is not mapped */
	EXPECT(writes_not_reported(384, 128, 128, HV_STATUS_INVALID_PARAMETER), 0);
	EXPECT(map_run(c.id, 512, (u64)victim, 1, MAP_RWX | LARGE), 1ull << 32);
	EXPECT(writes_not_reported(512, 1, 512, 0), 0);
	child_delete(&c);
	large_free(victim);
}

/* A VP writes while each repetition of a map splits a 1G entry and makes it again. */
static void coalescing_loses_nothing(void)
{
	const u64 gfn = 512 * 512, spa = DEVICE_PFN << 12;
	u32 vp, round, i;

	if (one_cpu())
		return;
	if (!has_1g()) {
		test_skip("the CPU has no 1 GiB pages");
		return;
	}
	child_create(&c, 2);
	vp = start_writer((gfn + 512) << 12, 1);
	for (round = 0; round < 150 && !test_failed(); round++) {
		u64 start;

		test_case(round);
		for (i = 0; i < 512; i += 128)
			EXPECT(map_run(c.id, gfn + i * 512, spa + i * MB2, 128,
				       MAP_RWX | LARGE), 128ull << 32);
		EXPECT(slat_flags(c.id, gfn), SLAT_RWX | SLAT_1G);
		start = now_us();
		next_round(round * 7919 % 4000);
		do {
			EXPECT(map_run(c.id, gfn, spa, 50, MAP_RWX | LARGE),
			       50ull << 32);
		} while (!round_over(start));
		EXPECT_TRUE(round_done());
		EXPECT(slat_flags(c.id, gfn + 512) & SLAT_DIRTY, SLAT_DIRTY);
		EXPECT(unmap(c.id, gfn, 512, HV_UNMAP_GPA_LARGE_PAGE),
		       512ull << 32);
	}
	stop_elsewhere(vp);
	child_delete(&c);
}

GUEST(guest_atomic, "lock incq 0x20000; incq (%rbx); hlt");

static struct child all[PARTITIONS];

/* This CPU's share of the partitions: every VP in turn. */
static void run_share(void *arg)
{
	u32 p, vp, round;

	(void)arg;
	for (round = 0; round < ROUNDS; round++)
		for (p = this_cpu()->id; p < PARTITIONS; p += nr_cpus)
			for (vp = 0; vp < CHILD_VPS; vp++) {
				reg_set(all[p].id, vp, REG_RIP, GUEST_CODE);
				EXPECT(child_expect(&all[p], vp), HVMSG_X64_HALT);
			}
}

static void many_partitions(void)
{
	struct oracle o = { { 0 } };
	u32 p, vp, n = 0;

	for (p = 0; p < PARTITIONS; p++) {
		child_create(&all[p], CHILD_VPS);
		CHILD_CODE(&all[p], guest_atomic);
		for (vp = 0; vp < CHILD_VPS; vp++)
			reg_set(all[p].id, vp, REG_RBX, 0x21000 + 8 * vp);
	}
	while (!oracle(ORACLE_PARTITION, &o)) {
		EXPECT(o.a[1], 2);
		EXPECT(o.a[2], CHILD_VPS);
		n++;
	}
	EXPECT(n, PARTITIONS);
	for (p = 1; p < nr_cpus; p++)
		cpu_run(p, run_share, NULL);
	run_share(NULL);
	for (p = 1; p < nr_cpus; p++)
		cpu_wait(p);
	for (p = 0; p < PARTITIONS; p++) {
		u64 *data = (u64 *)(all[p].ram + GUEST_DATA);

		test_case(p);
		EXPECT(*data, ROUNDS * CHILD_VPS);
		for (vp = 0; vp < CHILD_VPS; vp++)
			EXPECT(data[512 + vp], ROUNDS);
		child_delete(&all[p]);
	}
}

GUEST(guest_clobbers,
	"movq $0x6666, %rax\n"
	"movq %rax, %xmm5\n"
	"movq %rax, %dr2\n"
	"fldpi\n"
	"hlt");

static void fpu_is_private(void)
{
	u64 cr4, x = 0, dr = 0, v[2], set = 0x1234567;

	child_create(&c, 2);
	CHILD_CODE(&c, guest_clobbers);
	reg_set2(c.id, 1, REG_XMM0 + 5, 0x7777, 0);
	asm volatile("movq %%cr4, %0" : "=r"(cr4));
	asm volatile("movq %0, %%cr4" : : "r"(cr4 | 0x600));
	asm volatile("movq %0, %%xmm5; movq %0, %%dr2" : : "r"(set));
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	asm volatile("movq %%xmm5, %0; movq %%dr2, %1" : "=r"(x), "=r"(dr));
	EXPECT(x, set);
	EXPECT(dr, set);
	asm volatile("movq %0, %%cr4" : : "r"(cr4));
	EXPECT(reg_get2(c.id, 0, REG_XMM0 + 5, v), 0);
	EXPECT(v[0], 0x6666);
	EXPECT(reg_get(c.id, 0, 0x50002), 0x6666);
	EXPECT(reg_get2(c.id, 1, REG_XMM0 + 5, v), 0);
	EXPECT(v[0], 0x7777);
	child_delete(&c);
}

/* A child that runs all the time leaves the root its interrupts. */
static void root_keeps_its_timer(void)
{
	struct cpu *cpu = this_cpu();
	u64 before = cpu->interrupts[VECTOR_TIMER];
	u32 i;

	child_create(&c, 4);
	CHILD_CODE(&c, guest_spin);
	for (i = 0; i < 4; i++)
		reg_set(c.id, i, REG_EXPLICIT_SUSPEND, 0);
	for (i = 0; i < 30; i++) {
		u64 start = now_us();

		EXPECT(child_run(&c, i % 4, 2000), RUN_TIMEOUT);
		if (!EXPECT_TRUE(now_us() - start < 5000000))
			break;
	}
	EXPECT_TRUE(cpu->interrupts[VECTOR_TIMER] >= before + 30);
	EXPECT_TRUE(*spin_counter());
	child_delete(&c);
}

static void runs_by_itself(void)
{
	u32 seen, i, vp, found = 0;

	if (other_scheduler(false))
		return;
	child_create(&c, 4);
	CHILD_CODE(&c, guest_atomic);
	for (vp = 0; vp < 4; vp++)
		reg_set(c.id, vp, REG_RBX, 0x21000 + 8 * vp);
	cpu_nap(5000);
	EXPECT(*spin_counter(), 0);
	seen = synic_count;
	for (vp = 0; vp < 4; vp++)
		EXPECT(reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 0), 0);
	for (i = 0; i < 500 && synic_count < seen + 4; i++)
		cpu_nap(1000);
	EXPECT(synic_count, seen + 4);
	cpu_nap(5000);		/* the other CPUs' handlers end */
	for (; seen < synic_count; seen++) {
		struct synic_event *e = &synic_events[seen % 1024];

		EXPECT(e->type, HVMSG_OPAQUE_INTERCEPT);
		EXPECT(e->sender, c.id);
		EXPECT(c.message[e->vp]->type, HVMSG_X64_HALT);
		EXPECT(reg_get(c.id, e->vp, REG_INTERCEPT_SUSPEND), 1);
		found |= 1 << e->vp;
	}
	EXPECT(found, 0xf);
	EXPECT(*spin_counter(), 4);
	/* suspended by its intercept until that is cleared */
	reg_set(c.id, 2, REG_RIP, GUEST_CODE);
	for (i = 0; i < 5; i++)
		cpu_nap(1000);
	EXPECT(*spin_counter(), 4);
	EXPECT(reg_set(c.id, 2, REG_INTERCEPT_SUSPEND, 0), 0);
	for (i = 0; i < 500 && synic_count == seen; i++)
		cpu_nap(1000);
	EXPECT(*spin_counter(), 5);
	child_delete(&c);
}

GUEST(guest_counts_own, "1: incq (%rbx); jmp 1b");

/* @n VPs that count, each for itself */
static volatile u64 *start_counting(u32 n)
{
	volatile u64 *count;
	u32 vp;

	child_create(&c, n);
	CHILD_CODE(&c, guest_counts_own);
	count = (u64 *)(c.ram + 0x21000);
	for (vp = 0; vp < n; vp++) {
		reg_set(c.id, vp, REG_RBX, 0x21000 + 8 * vp);
		reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 0);
	}
	for (vp = 0; vp < n; vp++) {
		test_case(vp);
		EXPECT_TRUE(changes(&count[vp], 10000000));
	}
	return count;
}

/* Two VPs for each CPU: all of them get on. */
static void shares_cpus(void)
{
	volatile u64 *count;
	u32 vp, n = 2 * nr_cpus;

	if (other_scheduler(false))
		return;
	count = start_counting(n);
	for (vp = 0; vp < n; vp++) {
		u64 before;

		test_case(vp);
		EXPECT_TRUE(changes(&count[vp], 10000000));
		EXPECT(reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 1), 0);
		before = count[vp];
		cpu_nap(3000);
		EXPECT(count[vp], before);
	}
	child_delete(&c);
}

static bool stands_still(volatile u64 *p)
{
	u64 before = *p;
	u32 i;

	for (i = 0; i < 10; i++)
		cpu_nap(2000);
	return *p == before;
}

/* As explicit suspend, with which it has nothing to do */
static void dispatch_suspend_stops(void)
{
	volatile u64 *count;
	u32 i;

	if (other_scheduler(false))
		return;
	count = start_counting(2);
	for (i = 0; i < 4; i++) {
		test_case(i);
		EXPECT(reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 1), 0);
		EXPECT(reg_get(c.id, 0, REG_DISPATCH_SUSPEND), 1);
		EXPECT_TRUE(stands_still(count));
		EXPECT_TRUE(changes(count + 1, 2000000));
		if (i % 2) {
			reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 1);
			reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 0);
			EXPECT_TRUE(stands_still(count));
		}
		EXPECT(reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 0), 0);
		EXPECT_TRUE(changes(count, 2000000));
	}
	reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 1);
	reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 1);
	reg_set(c.id, 0, REG_DISPATCH_SUSPEND, 0);
	EXPECT_TRUE(stands_still(count));
	child_delete(&c);
}

/* VPs on all CPUs: none comes back while finalize waits for the others. */
static void finalize_stops_all(void)
{
	u32 round, vp, n = 2 * nr_cpus;

	if (other_scheduler(false))
		return;
	for (round = 0; round < 20; round++) {
		test_case(round);
		child_create(&c, n);
		CHILD_CODE(&c, guest_spin);
		for (vp = 0; vp < n; vp++)
			reg_set(c.id, vp, REG_EXPLICIT_SUSPEND, 0);
		EXPECT_TRUE(changes(spin_counter(), 10000000));
		EXPECT(simple(HVCALL_FINALIZE_PARTITION, c.id, 0), 0);
		EXPECT(pool_in_use(c.id), 0);
		withdraw_all(c.id);
		EXPECT(simple(HVCALL_DELETE_PARTITION, c.id, 0), 0);
		large_free(c.ram);
	}
}

static const struct test tests[] = {
	{ "the first dispatch is blocked by the explicit suspend, then signalled", first_dispatch },
	{ "dispatch refuses reserved flags and VPs that cannot run", dispatch_refused },
	{ "a physical interrupt ends a dispatch", interrupt_ends_dispatch },
	{ "each kind of suspend keeps a VP from running until cleared", suspends },
	{ "messages wait while their slot is taken or the SynIC is off", message_queue },
	{ "a VP that runs elsewhere is stopped, read and deleted", calls_on_a_running_vp },
	{ "finalize stops VPs that run", finalize_while_running },
	{ "no write reaches a page once the call that took it has returned", shootdown },
	{ "with tlb-flush=none such writes are seen", no_shootdown },
	{ "no write is lost while access states are cleared", clearing_loses_nothing },
	{ "no write is lost while 2M entries become a 1G entry", coalescing_loses_nothing },
	{ "16 partitions with 16 VPs each run on all CPUs", many_partitions },
	{ "FPU and debug registers are private to each VP and the root", fpu_is_private },
	{ "the root keeps its timer while children run", root_keeps_its_timer },
	{ "sched=hyp: a VP runs by itself and stops at an intercept", runs_by_itself },
	{ "sched=hyp: VPs share the CPUs and stop when suspended", shares_cpus },
	{ "sched=hyp: dispatch suspend stops a VP until cleared", dispatch_suspend_stops },
	{ "sched=hyp: finalize stops the VPs of all CPUs", finalize_stops_all },
};

void test_sched(void)
{
	RUN(tests);
}
