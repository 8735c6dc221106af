// SPDX-License-Identifier: GPL-2.0
/* Hypercalls as the mshv driver makes them, the oracle, SynIC messages. */
#include "payload.h"

#define GUEST_OS_ID	0x8100000000000000ull
#define SIMP_ENABLE	1

bool scheduler_is_root;
struct synic_event synic_events[1024];
volatile u32 synic_count;
volatile bool synic_manual;

u64 hvcall(u64 control, const void *in, void *out)
{
	register u64 r8 asm("r8") = (u64)out;
	u64 result;

	asm volatile("vmmcall"
		     : "=a"(result), "+c"(control), "+d"(in), "+r"(r8)
		     : : "memory", "r9", "r10", "r11");
	return result;
}

s64 oracle(u32 command, struct oracle *o)
{
	register u64 r8 asm("r8") = o->a[3];
	register u64 r9 asm("r9") = o->a[4];
	s64 rax = command;

	asm volatile("outl %%eax, %%dx"
		     : "+a"(rax), "+D"(o->a[0]), "+S"(o->a[1]), "+c"(o->a[2]),
		       "+r"(r8), "+r"(r9)
		     : "d"((u16)ORACLE_PORT) : "memory");
	o->a[3] = r8;
	o->a[4] = r9;
	return rax;
}

/* Reads (@value ~0) or sets a parameter; returns the old value. */
u64 option(u32 id, u64 value)
{
	struct oracle o = { { id, value } };

	oracle(ORACLE_OPTION, &o);
	return o.a[0];
}

void hv_init(void)
{
	struct oracle o = { { 0 } };

	if (oracle(ORACLE_VERSION, &o) || o.a[0] != 1) {
		say("not ok 1 - oracle of version 1\n");
		leave(1);
	}
	scheduler_is_root = o.a[2] == 4;
	wrmsr(MSR_HV_GUEST_OS_ID, GUEST_OS_ID);
	wrmsr(MSR_HV_HYPERCALL, rdmsr(MSR_HV_HYPERCALL) | 1);
}

void synic_init(struct cpu *cpu)
{
	(void)cpu;
	wrmsr(MSR_HV_SCONTROL, 1);
	wrmsr(MSR_HV_SIMP, rdmsr(MSR_HV_SIMP) | SIMP_ENABLE);
	wrmsr(MSR_HV_SINT0, VECTOR_SYNIC);
}

/* Takes this CPU's messages off slot 0 into synic_events. */
void synic_interrupt(void)
{
	struct hv_message *m = (void *)(rdmsr(MSR_HV_SIMP) & ~0xfffull);

	while (!synic_manual && *(volatile u32 *)&m->type) {
		u32 i = __atomic_fetch_add(&synic_count, 1, __ATOMIC_SEQ_CST);
		struct synic_event *e = &synic_events[i % 1024];

		e->sender = m->sender;
		e->vp = m->type == HVMSG_SCHEDULER_VP_SIGNAL_PAIR ?
			*(u32 *)(m->payload + 8 + 19 * 8) : *(u32 *)m->payload;
		e->type = m->type;
		__atomic_store_n(&e->number, i + 1, __ATOMIC_RELEASE);
		__atomic_store_n(&m->type, 0, __ATOMIC_SEQ_CST);
		if (m->flags & 1)
			wrmsr(MSR_HV_EOM, 0);
	}
}

/* Calls without lists: up to two parameters. */
u16 simple(u16 code, u64 a, u64 b)
{
	u64 *in = this_cpu()->in;

	in[0] = a;
	in[1] = b;
	return hvcall(code, in, this_cpu()->out);
}

u64 create_status(u64 flags, u64 version, u64 isolation, u64 *id)
{
	u64 *in = this_cpu()->in, *out = this_cpu()->out, r;

	memset(in, 0, 56);
	in[0] = flags;
	in[2] = version;
	in[6] = isolation;
	r = hvcall(HVCALL_CREATE_PARTITION, in, out);
	*id = out[0];
	return r;
}

/* 0: failed */
u64 partition_create(bool encrypted)
{
	u64 id;

	return create_status(CREATE_FLAGS, CREATE_VERSION, encrypted ?
			     HV_PARTITION_ISOLATION_TYPE_SNP : 0, &id) ? 0 : id;
}

u64 deposit(u64 id, u32 pages)
{
	u64 *in = this_cpu()->in, r;
	u32 i;

	in[0] = id;
	for (i = 0; i < pages; i++)
		in[1 + i] = (u64)page_alloc() >> 12;
	r = hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, pages), in, NULL);
	for (i = DONE(r); i < pages; i++)
		page_free((void *)(in[1 + i] << 12));
	return r;
}

/* The pages go back to the arena. */
u64 withdraw(u64 id, u32 pages)
{
	u64 *in = this_cpu()->in, *out = this_cpu()->out, r;
	u32 i;

	in[0] = id;
	in[1] = 0;
	r = hvcall(CONTROL(HVCALL_WITHDRAW_MEMORY, pages), in, out);
	for (i = 0; i < DONE(r); i++)
		page_free((void *)(out[i] << 12));
	return r;
}

u32 withdraw_all(u64 id)
{
	u32 n = 0;
	u64 r;

	do {
		r = withdraw(id, 512);
		n += DONE(r);
	} while (!STATUS(r));
	return n;
}

u64 map_pages(u64 id, u64 gfn, const void *const *page, u32 n, u32 flags)
{
	u64 *in = this_cpu()->in;
	u32 i;

	in[0] = id;
	in[1] = gfn;
	in[2] = flags;
	for (i = 0; i < n; i++)
		in[3 + i] = (u64)page[i] >> 12;
	return hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, n), in, NULL);
}

/* Consecutive pages from @spa on; with the LARGE flag @n counts 2 MiB. */
u64 map_run(u64 id, u64 gfn, u64 spa, u32 n, u32 flags)
{
	u64 step = flags & HV_MAP_GPA_LARGE_PAGE ? 512 : 1;
	u64 *in = this_cpu()->in;
	u32 i;

	in[0] = id;
	in[1] = gfn;
	in[2] = flags;
	for (i = 0; i < n; i++)
		in[3 + i] = flags & HV_MAP_GPA_NO_ACCESS ? 0 :
			    (spa >> 12) + i * step;
	return hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, n), in, NULL);
}

u64 unmap(u64 id, u64 gfn, u32 n, u32 flags)
{
	u64 *in = this_cpu()->in;

	in[0] = id;
	in[1] = gfn;
	in[2] = flags;
	return hvcall(CONTROL(HVCALL_UNMAP_GPA_PAGES, n), in, NULL);
}

u64 access_states(u64 id, u64 gfn, u32 n, u64 flags, u8 *states)
{
	u64 *in = this_cpu()->in, r;

	in[0] = id;
	in[1] = flags;
	in[2] = gfn;
	r = hvcall(CONTROL(HVCALL_GET_GPA_PAGES_ACCESS_STATES, n), in,
		   this_cpu()->out);
	memcpy(states, this_cpu()->out, DONE(r));
	return r;
}

u16 vp_create(u64 id, u32 index)
{
	u64 *in = this_cpu()->in;

	memset(in, 0, 40);
	in[0] = id;
	in[1] = index;
	return hvcall(HVCALL_CREATE_VP, in, NULL);
}

/* @map: a page of @type appears; else it goes. */
u16 vp_page(u64 id, u32 index, u32 type, bool map, void **page)
{
	u64 *in = this_cpu()->in;
	u16 status;

	in[0] = id;
	in[1] = index | (u64)type << 32;
	in[2] = 0;
	status = hvcall(map ? HVCALL_MAP_VP_STATE_PAGE :
			      HVCALL_UNMAP_VP_STATE_PAGE, in, this_cpu()->out);
	if (page)
		*page = status || !map ? NULL :
			(void *)(*this_cpu()->out << 12);
	return status;
}

u16 stats_page(u32 type, u64 id, u64 index, bool map, void **page)
{
	u64 *in = this_cpu()->in;
	u16 status;

	in[0] = type;
	in[1] = id;
	in[2] = index;
	status = hvcall(map ? HVCALL_MAP_STATS_PAGE : HVCALL_UNMAP_STATS_PAGE,
			in, this_cpu()->out);
	if (page)
		*page = status || !map ? NULL :
			(void *)(*this_cpu()->out << 12);
	return status;
}

u16 reg_set2(u64 id, u32 vp, u32 name, u64 lo, u64 hi)
{
	u64 *in = this_cpu()->in;

	in[0] = id;
	in[1] = vp;
	in[2] = name;
	in[3] = 0;
	in[4] = lo;
	in[5] = hi;
	return hvcall(CONTROL(HVCALL_SET_VP_REGISTERS, 1), in, NULL);
}

u16 reg_set(u64 id, u32 vp, u32 name, u64 value)
{
	return reg_set2(id, vp, name, value, 0);
}

u16 reg_get2(u64 id, u32 vp, u32 name, u64 *value)
{
	u64 *in = this_cpu()->in, *out = this_cpu()->out;
	u16 status;

	in[0] = id;
	in[1] = vp;
	in[2] = name;
	status = hvcall(CONTROL(HVCALL_GET_VP_REGISTERS, 1), in, out);
	value[0] = out[0];
	value[1] = out[1];
	return status;
}

u64 reg_get(u64 id, u32 vp, u32 name)
{
	u64 value[2];

	return reg_get2(id, vp, name, value) ? ~0ull : value[0];
}

/*
 * Runs a VP for at most @us. Interrupts stay off until the call returns: a timer
 * that fires before the VP is entered must still end its turn.
 */
u16 dispatch(u64 id, u32 vp, u32 flags, u32 us, u32 *state, u32 *event)
{
	u64 *in = this_cpu()->in;
	u32 *out = (u32 *)this_cpu()->out;
	u16 status;

	in[0] = id;
	in[1] = vp | (u64)flags << 32;
	in[2] = 0;
	in[3] = 0;
	asm volatile("cli");
	timer_us(us);
	status = hvcall(HVCALL_DISPATCH_VP, in, out);
	asm volatile("sti");
	timer_us(0);
	*state = out[0];
	*event = out[1];
	return status;
}

u16 install_intercept(u64 id, u32 type, u32 access, u64 parameter)
{
	u64 *in = this_cpu()->in;

	in[0] = id;
	in[1] = access | (u64)type << 32;
	in[2] = parameter;
	return hvcall(HVCALL_INSTALL_INTERCEPT, in, NULL);
}

s64 slat(u64 id, u64 gfn, u64 *spa, u32 *flags)
{
	struct oracle o = { { id, gfn } };
	s64 r = oracle(ORACLE_SLAT, &o);

	*spa = o.a[0];
	*flags = o.a[1];
	return r;
}

u64 pool_in_use(u64 id)
{
	struct oracle o = { { id } };

	return oracle(ORACLE_POOL, &o) ? ~0ull : o.a[1];
}

u64 pool_free_pages(u64 id)
{
	struct oracle o = { { id } };

	return oracle(ORACLE_POOL, &o) ? ~0ull : o.a[0];
}
