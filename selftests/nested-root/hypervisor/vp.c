// SPDX-License-Identifier: GPL-2.0
/*
 * Virtual processors of child partitions: creation, deletion, state and stats
 * pages, and dispatch by the root (HV_SCHEDULER_TYPE_ROOT).
 *
 * While vp->running is set the VP belongs to that CPU and its state is in
 * flight. Everybody else first gets it out: a kick, then the lock again, until
 * vp->running is clear. The CPU that ran it clears it under hv_lock.
 */
#include "hv.h"

u8 *child_iopm, *child_msrpm;

static void make_maps(void)
{
	static const u32 direct[] = {
		/* in the VMCB's save area, swapped by VMLOAD and VMSAVE */
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
		0xc0000101, 0xc0000102, 0x174, 0x175, 0x176,
		MSR_TSC_AUX		/* see fpu_switch() */
	};
	u32 i;

	child_iopm = heap_pages(3);
	memset(child_iopm, 0xff, 3 * PAGE_SIZE);
	child_msrpm = heap_pages(2);
	memset(child_msrpm, 0xff, 2 * PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(direct); i++)
		msrpm_intercept(child_msrpm, direct[i], false, false);
}

/*
 * No VP is run any more, those that do are kicked; true: look again, the lock was
 * dropped.
 */
bool stop_all(struct partition *pt)
{
	bool kicked = false;
	u32 i;

	for (i = 0; i < MAX_VPS; i++) {
		struct vp *vp = pt->vp[i];

		if (!vp)
			continue;
		vp->dispatch_suspend = true;
		sched_remove(vp);
		if (!vp->running)
			continue;
		kick_cpu(vp->running);
		kicked = true;
	}
	if (kicked) {
		unlock_hv();
		cpu_relax();
		lock_hv();
	}
	return kicked;
}

/* New intercepts take effect at the next entry. */
void kick_running(struct partition *pt)
{
	u32 i;

	for (i = 0; i < MAX_VPS; i++)
		if (pt->vp[i] && pt->vp[i]->running)
			kick_cpu(pt->vp[i]->running);
}

/* A VP whose registers may be looked at: it does not run. */
u16 find_vp_stopped(u64 id, u32 index, u8 vtl, struct vp **vp)
{
	for (;;) {
		struct partition *pt;
		u16 status = find_child(id, &pt);

		if (status)
			return status;
		if (index >= MAX_VPS || !pt->vp[index])
			return HV_STATUS_INVALID_VP_INDEX;
		if (vtl & ~0x10)	/* only VTL 0 exists */
			return HV_STATUS_INVALID_PARAMETER;
		*vp = pt->vp[index];
		if (!(*vp)->running)
			return HV_STATUS_SUCCESS;
		kick_cpu((*vp)->running);
		unlock_hv();
		cpu_relax();
		lock_hv();
	}
}

static void init_vmcb(struct vp *vp)
{
	static const u8 traps[] = {
		ICPT_INTR, ICPT_NMI, ICPT_CPUID, ICPT_INVD, ICPT_HLT,
		ICPT_INVLPGA, ICPT_IOIO, ICPT_MSR, ICPT_SHUTDOWN
	};
	static const u8 more_traps[] = {
		ICPT_VMRUN, ICPT_VMMCALL, ICPT_VMLOAD, ICPT_VMSAVE, ICPT_STGI,
		ICPT_CLGI, ICPT_SKINIT, ICPT_MONITOR, ICPT_MWAIT, ICPT_XSETBV
	};
	struct vmcb *v = vp->cpu.vmcb;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(traps); i++)
		vmcb_intercept(v, traps[i], true);
	for (i = 0; i < ARRAY_SIZE(more_traps); i++)
		vmcb_intercept(v, more_traps[i], true);
	v->iopm = (u64)child_iopm;
	v->msrpm = (u64)child_msrpm;
	v->asid = 2 + vp->pt->slot % 6;
	v->int_ctl = V_INTR_MASKING;
	vmcb_reset(v);
}

u16 hv_create_vp(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 index = in[1], i;
	struct partition *pt = find_partition(in[0]);
	void *page[3];
	struct vp *vp;

	if (!pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (pt == &root_partition)	/* one a processor, already there */
		return index < nr_cpus ? HV_STATUS_SUCCESS :
					 HV_STATUS_INVALID_VP_INDEX;
	if (pt->state != PARTITION_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (index >= MAX_VPS || pt->vp[index])
		return HV_STATUS_INVALID_VP_INDEX;
	static_assert(sizeof(*vp) <= PAGE_SIZE, "struct vp");
	for (i = 0; i < ARRAY_SIZE(page); i++) {
		page[i] = pool_alloc(&pt->pool);
		if (page[i])
			continue;
		while (i--)
			pool_add(&pt->pool, page[i]);
		return HV_STATUS_INSUFFICIENT_MEMORY;
	}
	if (!child_iopm)
		make_maps();
	vp = page[0];
	vp->cpu.vmcb = page[1];
	vp->cpu.xsave = page[2];
	/* FCW 0x37f, MXCSR 0x1f80, nothing else in use */
	*(u16 *)vp->cpu.xsave = 0x37f;
	((u32 *)vp->cpu.xsave)[6] = 0x1f80;
	if (host_xcr0_mask)
		((u64 *)vp->cpu.xsave)[64] = 3;
	vp->cpu.xcr0 = 1;
	vp->pt = pt;
	vp->index = index;
	vp->explicit_suspend = true;
	/* Where Linux has more than one for tests, not the first: see nested-root-vm.rst */
	vp->home = &cpus[nr_cpus > 2 ? 1 + (index + pt->id) % (nr_cpus - 1) :
			 (index + pt->id) % nr_cpus];
	vp->apic_base = 0xfee00800 | (index ? 0 : 0x100);
	init_vmcb(vp);
	pt->vp[index] = vp;
	pt->vp_count++;
	return HV_STATUS_SUCCESS;
}

/* A page that shared_page() made, back to the pool. */
void release_page(struct pool *pool, void *page)
{
	page_of((u64)page)->root_ok = false;
	root_set_access((u64)page, false);
	if (root_partition.flush_needed)	/* the pool's link is in the page */
		tlb_flush(&root_partition);
	pool_add(pool, page);
}

/* The VP does not run. Its pages go back to the pools they came from. */
void vp_destroy(struct vp *vp)
{
	struct partition *pt = vp->pt;
	u32 i;

	synic_forget(vp);
	sched_remove(vp);
	if (vp->message)
		release_page(&pt->pool, vp->message);
	if (vp->regs)
		release_page(&pt->pool, vp->regs);
	for (i = 0; i < ARRAY_SIZE(vp->stats); i++)
		if (vp->stats[i])
			release_page(vp->stats_pool[i], vp->stats[i]);
	for (i = 0; i < nr_cpus; i++)
		if (cpus[i].last_vcpu == &vp->cpu)
			cpus[i].last_vcpu = NULL;
	pt->vp[vp->index] = NULL;
	pt->vp_count--;
	pool_add(&pt->pool, vp->cpu.vmcb);
	pool_add(&pt->pool, vp->cpu.xsave);
	pool_add(&pt->pool, vp);
}

u16 hv_delete_vp(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct vp *vp;
	u16 status;

	if (in[1] >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp_stopped(in[0], in[1], 0, &vp);
	if (!status)
		vp_destroy(vp);
	return status;
}

/* A page of the pool that the root may access too. */
static void *shared_page(struct pool *pool)
{
	void *page = pool_alloc(pool);

	if (page) {
		page_of((u64)page)->root_ok = true;
		root_set_access((u64)page, true);
	}
	return page;
}

static u16 state_page(struct hcall *h, bool map)
{
	const u64 *in = (const u64 *)h->in;
	u32 type = in[1] >> 32 & 0xffff;
	u8 vtl = in[1] >> 48, flags = in[1] >> 56;
	struct vp *vp;
	void **page;
	bool *mapped;
	u16 status;

	status = find_vp_stopped(in[0], in[1], vtl, &vp);
	if (status)
		return status;
	if (flags || type > HV_VP_STATE_PAGE_INTERCEPT_MESSAGE)
		return HV_STATUS_INVALID_PARAMETER;
	if (type == HV_VP_STATE_PAGE_REGISTERS) {
		if (vp->pt->encrypted)
			return HV_STATUS_OPERATION_DENIED;
		page = (void **)&vp->regs;
		mapped = &vp->regs_mapped;
	} else {
		page = (void **)&vp->message;
		mapped = &vp->message_mapped;
	}
	if (*mapped == map)
		return HV_STATUS_OPERATION_DENIED;
	regpage_in(vp);		/* it is written, or goes, below */
	if (map) {
		*page = shared_page(&vp->pt->pool);
		if (!*page)
			return HV_STATUS_INSUFFICIENT_MEMORY;
		*(u64 *)h->out = (u64)*page >> PAGE_SHIFT;
	} else {
		release_page(&vp->pt->pool, *page);
		*page = NULL;
	}
	*mapped = map;
	if (vp->regs)
		regpage_out(vp);
	return HV_STATUS_SUCCESS;
}

u16 hv_map_vp_state_page(struct hcall *h)
{
	return state_page(h, true);
}

u16 hv_unmap_vp_state_page(struct hcall *h)
{
	return state_page(h, false);
}

/* Where the page of an object and area is kept; @vp only for a child's. */
static u16 find_stats(const u64 *in, struct partition **pt, struct vp **vp,
		      void ***slot)
{
	static void *hypervisor_stats;
	u32 area = in[2] >> 56, index = in[2];

	*pt = &root_partition;
	*vp = NULL;
	if (in[0] >> 32 || area > 1)
		return HV_STATUS_INVALID_PARAMETER;
	switch (in[0]) {
	case HV_STATS_OBJECT_HYPERVISOR:
		if (in[1] || in[2])
			return HV_STATUS_INVALID_PARAMETER;
		*slot = &hypervisor_stats;
		return HV_STATUS_SUCCESS;
	case HV_STATS_OBJECT_LOGICAL_PROCESSOR:
		if (in[1] >> 32 || in[2])
			return HV_STATUS_INVALID_PARAMETER;
		if (in[1] >= nr_cpus)
			return HV_STATUS_INVALID_LP_INDEX;
		*slot = &cpus[in[1]].lp_stats;
		return HV_STATUS_SUCCESS;
	case HV_STATS_OBJECT_PARTITION:
		*pt = find_partition(in[1]);
		if (!*pt)
			return HV_STATUS_INVALID_PARTITION_ID;
		if (in[2] << 8)
			return HV_STATUS_INVALID_PARAMETER;
		*slot = &(*pt)->stats[area];
		return HV_STATUS_SUCCESS;
	case HV_STATS_OBJECT_VP:
		if (in[2] << 8 >> 40)		/* flags */
			return HV_STATUS_INVALID_PARAMETER;
		if (find_partition(in[1]) == &root_partition) {
			if (index >= nr_cpus)
				return HV_STATUS_INVALID_VP_INDEX;
			*slot = &cpus[index].stats[area];
		} else {
			u16 status = find_vp_stopped(in[1], index, 0, vp);

			if (status)
				return status;
			*pt = (*vp)->pt;
			*slot = (void **)&(*vp)->stats[area];
		}
		return HV_STATUS_SUCCESS;
	}
	return HV_STATUS_INVALID_PARAMETER;
}

/*
 * Statistics pages. The child's pool pays, or the root's when that is dry,
 * since the root answers INSUFFICIENT_MEMORY here by depositing to itself.
 */
static u16 stats_page(struct hcall *h, bool map)
{
	const u64 *in = (const u64 *)h->in;
	u32 area = in[2] >> 56;
	struct pool *pool = &root_partition.pool;
	struct partition *pt;
	void **slot;
	struct vp *vp;
	u16 status = find_stats(in, &pt, &vp, &slot);

	if (status)
		return status;
	if (!!*slot == map)
		return HV_STATUS_OPERATION_DENIED;
	if (!map) {
		release_page(vp ? vp->stats_pool[area] : &pt->pool, *slot);
		*slot = NULL;
		return HV_STATUS_SUCCESS;
	}
	if (pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	*slot = shared_page(&pt->pool);
	if (*slot)
		pool = &pt->pool;
	else if (vp)
		*slot = shared_page(pool);
	if (!*slot)
		return HV_STATUS_INSUFFICIENT_MEMORY;
	if (vp)
		vp->stats_pool[area] = pool;
	*(u64 *)h->out = (u64)*slot >> PAGE_SHIFT;
	return HV_STATUS_SUCCESS;
}

u16 hv_map_stats_page(struct hcall *h)
{
	return stats_page(h, true);
}

u16 hv_unmap_stats_page(struct hcall *h)
{
	return stats_page(h, false);
}

/* The intercept was answered: the VP goes on from its registers. */
void vp_resume(struct vp *vp)
{
	vp->intercept_suspend = false;
	if (hv_options[OPT_MSG_PAGE_CLEARED] && vp->message)
		vp->message->type = 0;
}

static void set_blocked(struct vp *vp, bool blocked)
{
	vp->root_blocked = blocked;
	if (vp->stats[0])
		vp->stats[0][HV_STATS_VP_DISPATCH_BLOCKED] = blocked;
}

/* Suspend bits as the registers of that name set them. */
void set_explicit_suspend(struct vp *vp, bool on)
{
	vp->explicit_suspend = on;
	if (scheduler_type == 4) {
		if (!on && vp->root_blocked) {
			set_blocked(vp, false);
			if (!vp->dispatch_suspend)
				synic_queue(this_cpu(), vp,
					    HVMSG_SCHEDULER_VP_SIGNAL_PAIR);
		}
	} else if (on) {
		sched_remove(vp);
	} else {
		sched_add(vp);
	}
}

/*
 * One VMRUN. A state that VMRUN refuses stays as it was: QEMU writes to the VMCB
 * what the processor held by then, which is partly the hypervisor's own.
 */
static void run_once(struct cpu *cpu, struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 int_ctl = v->int_ctl;

	memcpy(cpu->save_area, v->save_area, VMCB_SAVE_SIZE);
	svm_run(cpu, &vp->cpu, vp->pt);
	if ((u32)v->exit_code == EXIT_INVALID_STATE) {
		memcpy(v->save_area, cpu->save_area, VMCB_SAVE_SIZE);
		v->int_ctl = int_ctl;
	}
}

/*
 * Runs the VP until something ends it. Called and left with hv_lock held; the
 * lock is dropped while the guest runs.
 */
enum vp_exit vp_run(struct cpu *cpu, struct vp *vp)
{
	enum vp_exit exit;

	regpage_in(vp);
	if (vp->regs)
		vp->regs->isvalid = 0;
	vp->cpu.vmcb->intercepts[2] = vp->pt->exceptions;
	/* QEMU reports INT3 and INTO as software interrupts. */
	vmcb_intercept(vp->cpu.vmcb, ICPT_INTN, vp->pt->exceptions & 0x18);
	vp->running = cpu;
	unlock_hv();
	fpu_switch(&cpu->root, &vp->cpu);
	do {
		guard_lme(vp);
		run_once(cpu, vp);
		exit = child_exit(vp);
	} while (exit == VP_CONTINUE);
	fpu_switch(&vp->cpu, &cpu->root);
	lock_hv();
	vp->running = NULL;
	/* A memory intercept whose cause is gone is no intercept. */
	if (exit == VP_INTERCEPTED && !intercept_message(vp))
		exit = VP_PREEMPTED;
	if (exit == VP_INTERCEPTED) {
		vp->intercept_suspend = true;
		total_messages++;
	}
	regpage_out(vp);
	return exit;
}

u16 hv_dispatch_vp(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 *out = (u32 *)h->out, flags = in[1] >> 32;
	struct partition *pt;
	u16 status = find_child(in[0], &pt);
	struct vp *vp;

	if (status)
		return status;
	if ((u32)in[1] >= MAX_VPS || !pt->vp[(u32)in[1]])
		return HV_STATUS_INVALID_VP_INDEX;
	if (flags & ~HV_DISPATCH_FLAGS)
		return HV_STATUS_INVALID_PARAMETER;
	vp = pt->vp[(u32)in[1]];
	if (scheduler_type != 4 || vp->running || !vp->message)
		return HV_STATUS_INVALID_VP_STATE;
	if (flags & HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND)
		vp_resume(vp);
	out[0] = HV_DISPATCH_STATE_READY;
	out[1] = HV_DISPATCH_EVENT_NONE;
	if (vp->explicit_suspend || vp->dispatch_suspend) {
		set_blocked(vp, true);
		out[0] = HV_DISPATCH_STATE_BLOCKED;
		out[1] = HV_DISPATCH_EVENT_SUSPEND;
	} else if (vp->intercept_suspend ||
		   vp_run(h->cpu, vp) == VP_INTERCEPTED) {
		out[1] = HV_DISPATCH_EVENT_INTERCEPT;
	}
	return HV_STATUS_SUCCESS;
}
