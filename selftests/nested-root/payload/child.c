// SPDX-License-Identifier: GPL-2.0
/*
 * Child partitions for the tests: 2 MiB of RAM from GFN 0 on, VPs in long mode
 * on identity page tables, run by either scheduler until something happens.
 */
#include "payload.h"

#define CHILD_POOL	400

static void must(u16 status, const char *what)
{
	if (!status)
		return;
	say("not ok - setting up a child: %s # status 0x%x\n", what, status);
	leave(1);
}

/* Identity tables for 4 GiB (2 MiB pages) in the child's RAM. */
void child_tables(u8 *ram)
{
	u64 *pml4 = (u64 *)(ram + GUEST_TABLES), *pdpt = pml4 + 512;
	u64 *pd = pdpt + 512;
	u32 i;

	memset(pml4, 0, 2 * PAGE_SIZE);
	pml4[0] = (GUEST_TABLES + PAGE_SIZE) | 7;
	for (i = 0; i < 4; i++)
		pdpt[i] = (GUEST_TABLES + (2 + i) * PAGE_SIZE) | 7;
	for (i = 0; i < 2048; i++)
		pd[i] = (u64)i << 21 | 0x87;
}

u16 child_vp(struct child *c, u32 vp)
{
	void *page;
	u16 status = vp_create(c->id, vp);

	if (!status)
		status = vp_page(c->id, vp, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE,
				 true, &page);
	if (status)
		return status;
	c->message[vp] = page;
	child_long_mode(c, vp);
	return 0;
}

void child_create(struct child *c, u32 vps)
{
	u32 i;

	memset(c, 0, sizeof(*c));
	c->id = partition_create(false);
	must(c->id ? 0 : HV_STATUS_NONE, "create");
	must(deposit(c->id, CHILD_POOL), "deposit");
	must(simple(HVCALL_INITIALIZE_PARTITION, c->id, 0), "initialize");
	c->ram = large_alloc();
	child_tables(c->ram);
	for (i = 0; i < 512; i += 256)
		must(map_run(c->id, i, (u64)c->ram + i * PAGE_SIZE, 256,
			     MAP_RWX), "map");
	for (i = 0; i < vps; i++)
		must(child_vp(c, i), "VP");
}

void child_delete(struct child *c)
{
	must(simple(HVCALL_FINALIZE_PARTITION, c->id, 0), "finalize");
	withdraw_all(c->id);
	must(simple(HVCALL_DELETE_PARTITION, c->id, 0), "delete");
	large_free(c->ram);
}

static void set_segment(struct child *c, u32 vp, u32 name, u16 selector,
			u64 attributes)
{
	reg_set2(c->id, vp, name, 0,
		 0xffffffffull | (u64)selector << 32 | attributes << 48);
}

void child_long_mode(struct child *c, u32 vp)
{
	u32 i;

	reg_set(c->id, vp, REG_EFER, 0xd01);
	reg_set(c->id, vp, REG_CR4, 0x620);
	reg_set(c->id, vp, REG_CR3, GUEST_TABLES);
	reg_set(c->id, vp, REG_CR0, 0x80010033);
	for (i = 0; i < 6; i++)
		set_segment(c, vp, REG_ES + i, i == 1 ? 0x10 : 0x18,
			    i == 1 ? 0xa09b : 0xc093);
	reg_set(c->id, vp, REG_RIP, GUEST_CODE);
	reg_set(c->id, vp, REG_RSP, GUEST_STACK);
	reg_set(c->id, vp, REG_RFLAGS, 2);
}

void child_code(struct child *c, const u8 *code, u64 length)
{
	memcpy(c->ram + GUEST_CODE, code, length);
}

static enum run_end run_dispatched(struct child *c, u32 vp, u32 us)
{
	u64 end = now_us() + us;
	u32 state, event;

	for (;;) {
		if (dispatch(c->id, vp, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND, us,
			     &state, &event))
			return RUN_FAILED;
		if (event == HV_DISPATCH_EVENT_INTERCEPT)
			return RUN_INTERCEPT;
		if (state == HV_DISPATCH_STATE_BLOCKED)
			return RUN_SUSPEND;
		if (now_us() >= end)
			return RUN_TIMEOUT;
	}
}

/* @seen: messages that came before the VP was started */
static enum run_end run_scheduled(struct child *c, u32 vp, u32 us, u32 seen)
{
	u64 end = now_us() + us + 100000;

	do {
		for (; seen != synic_count; seen++) {
			struct synic_event *e = &synic_events[seen % 1024];

			while (*(volatile u32 *)&e->number != seen + 1)
				cpu_relax();
			if (e->type == HVMSG_OPAQUE_INTERCEPT &&
			    e->sender == c->id && e->vp == vp)
				return RUN_INTERCEPT;
		}
		cpu_nap(2000);
	} while (now_us() < end);
	reg_set(c->id, vp, REG_EXPLICIT_SUSPEND, 1);
	return RUN_TIMEOUT;
}

/* Lets a VP run from where it is, intercept answered, for about @us. */
enum run_end child_run(struct child *c, u32 vp, u32 us)
{
	u32 seen = synic_count;

	if (!scheduler_is_root && reg_set(c->id, vp, REG_INTERCEPT_SUSPEND, 0))
		return RUN_FAILED;
	if (reg_get(c->id, vp, REG_EXPLICIT_SUSPEND) &&
	    reg_set(c->id, vp, REG_EXPLICIT_SUSPEND, 0))
		return RUN_FAILED;
	return scheduler_is_root ? run_dispatched(c, vp, us) :
				   run_scheduled(c, vp, us, seen);
}

/* Runs the VP to its next intercept; the message's type, 0 if none came. */
u32 child_expect(struct child *c, u32 vp)
{
	return child_run(c, vp, 5000000) == RUN_INTERCEPT ?
	       c->message[vp]->type : 0;
}
