// SPDX-License-Identifier: GPL-2.0
/*
 * The hypervisor's own scheduler (HV_SCHEDULER_TYPE_LP). Each CPU has a round
 * robin of runnable child VPs. Children run when the root's VP halts, and
 * every second time the root has set its APIC timer, so that a busy root and
 * its guests share the CPU by timer ticks. A physical interrupt always ends a
 * child's turn; at no other point may one begin, because a root that has not
 * set its next timer event yet would not come back. For the same reason a timer
 * set far ahead (the root is about to halt, or to run what it just woke) begins
 * no turn. Nor does one begin with an interrupt pending, which would end it at
 * once: whose turn that always is would never run.
 */
#include "hv.h"

static void unlink_vp(struct cpu *cpu, struct vp *vp)
{
	struct vp **link = &cpu->run_head;

	while (*link && *link != vp)
		link = &(*link)->run_next;
	if (*link)
		*link = vp->run_next;
	vp->run_next = NULL;
}

static void append(struct cpu *cpu, struct vp *vp)
{
	struct vp **link = &cpu->run_head;

	while (*link)
		link = &(*link)->run_next;
	*link = vp;
}

void sched_add(struct vp *vp)
{
	if (scheduler_type == 4 || vp->runnable || vp->explicit_suspend ||
	    vp->intercept_suspend || vp->dispatch_suspend || !vp->message)
		return;
	if (!vp->home->started)
		vp->home = this_cpu();
	vp->runnable = true;
	append(vp->home, vp);
	if (vp->home != this_cpu())
		kick_cpu(vp->home);
}

void sched_remove(struct vp *vp)
{
	if (!vp->runnable)
		return;
	vp->runnable = false;
	unlink_vp(vp->home, vp);
}

bool sched_wants(struct cpu *cpu)
{
	return !!*(struct vp *volatile *)&cpu->run_head;
}

static bool interrupt_pending(void)
{
	u32 i;

	for (i = 0; i < 8; i++)
		if (rdmsr(MSR_X2APIC_IRR + i))
			return true;
	return false;
}

/* Runs children until an interrupt wants the root or none can run. */
void sched_run(struct cpu *cpu)
{
	enum vp_exit exit = VP_INTERCEPTED;

	lock_hv();
	while (exit == VP_INTERCEPTED && cpu->run_head && !interrupt_pending()) {
		struct vp *vp = cpu->run_head;

		unlink_vp(cpu, vp);
		append(cpu, vp);
		exit = vp_run(cpu, vp);
		if (exit == VP_INTERCEPTED) {
			sched_remove(vp);
			synic_queue(cpu, vp, HVMSG_OPAQUE_INTERCEPT);
		}
	}
	unlock_hv();
}

/* HLT and timer of the root matter only while a child waits for this CPU. */
void sched_update_intercepts(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;
	bool on = sched_wants(cpu);

	vmcb_intercept(v, ICPT_HLT, on);
	v->msrpm = (u64)(on ? root_msrpm_timer : root_msrpm);
}
