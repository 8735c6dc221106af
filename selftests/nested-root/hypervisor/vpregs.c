// SPDX-License-Identifier: GPL-2.0
/*
 * Registers of a child VP by their TLFS names, and the register page, through
 * which the VMM reads and writes the common ones without a hypercall.
 */
#include "hv.h"

#define REG_EXPLICIT_SUSPEND	0x0
#define REG_INTERCEPT_SUSPEND	0x1
#define REG_DISPATCH_SUSPEND	0x3
#define REG_VERSION		0x100
#define REG_FEATURES		0x200
#define REG_PENDING_INTERRUPTION	0x10002
#define REG_INTERRUPT_STATE	0x10003
#define REG_GPR			0x20000
#define REG_RIP			0x20010
#define REG_RFLAGS		0x20011
#define REG_XMM			0x30000
#define REG_FPMMX		0x30010
#define REG_FP_CONTROL		0x30018
#define REG_XMM_CONTROL		0x30019
#define REG_CR0			0x40000
#define REG_CR4			0x40003
#define REG_CR8			0x40004
#define REG_XFEM		0x40005
#define REG_DR0			0x50000
#define REG_DR6			0x50004
#define REG_DR7			0x50005
#define REG_SEGMENT		0x60000
#define REG_IDTR		0x70000
#define REG_GDTR		0x70001
#define REG_TSC			0x80000
#define REG_EFER		0x80001
#define REG_PAT			0x80004
#define REG_GUEST_OS_ID		0x90002
#define REG_VP_INDEX		0x90003
#define REG_TIME_REF_COUNT	0x90004
#define REG_ROOT_SIGNAL_COUNT	0x90014

#define RFLAGS_VALID	0x3f7fd7ull
#define CR0_VALID	0xe005003full
#define MXCSR_VALID	0xffffu
#define FX_ST0		32
#define FX_XMM0		160

/* Plain 64-bit registers; NULL for those that need more than a copy. */
static u64 *plain_register(struct vp *vp, u32 name)
{
	struct vmcb *v = vp->cpu.vmcb;

	switch (name) {
	case REG_GPR + RAX:		return &v->rax;
	case REG_GPR + RSP:		return &v->rsp;
	case REG_GPR + RCX ... REG_GPR + RBX:
	case REG_GPR + RBP ... REG_GPR + 15:
		return &vp->cpu.gpr[name - REG_GPR];
	case REG_RIP:			return &v->rip;
	case REG_CR0 + 1:		return &v->cr2;
	case REG_CR0 + 2:		return &v->cr3;
	case REG_CR4:			return &v->cr4;
	case REG_DR0 ... REG_DR0 + 3:	return &vp->cpu.dr[name - REG_DR0];
	case REG_EFER + 1:		return &v->kernel_gs_base;
	case REG_EFER + 2:		return &vp->apic_base;
	case REG_PAT + 1:		return &v->sysenter_cs;
	case REG_PAT + 2:		return &v->sysenter_eip;
	case REG_PAT + 3:		return &v->sysenter_esp;
	case REG_PAT + 4:		return &v->star;
	case REG_PAT + 5:		return &v->lstar;
	case REG_PAT + 6:		return &v->cstar;
	case REG_PAT + 7:		return &v->sfmask;
	case 0x8000e:			return &vp->mtrr_def;
	case 0x8007b:			return &vp->cpu.tsc_aux;
	case REG_GUEST_OS_ID:		return &vp->guest_os_id;
	case 0x90001:			return &vp->hypercall_msr;
	case 0x90013:			return &vp->assist_msr;
	case 0x90017:			return &vp->tsc_msr;
	}
	return NULL;
}

static struct vmcb_seg *segment(struct vmcb *v, u32 index)
{
	/* TLFS order: ES CS SS DS FS GS LDTR TR */
	struct vmcb_seg *const seg[] = {
		&v->es, &v->cs, &v->ss, &v->ds, &v->fs, &v->gs, &v->ldtr, &v->tr
	};

	return seg[index];
}

static void seg_in(struct vmcb *v, u32 index, const struct hv_segment *from)
{
	struct vmcb_seg *to = segment(v, index);

	to->base = from->base;
	to->limit = from->limit;
	to->selector = from->selector;
	to->attrib = (from->attributes & 0xff) | (from->attributes >> 4 & 0xf00);
	v->cpl = v->cr0 & 1 ? v->ss.attrib >> 5 & 3 : 0;
}

/* Long mode is active when it is enabled and paging is on. */
static void update_lma(struct vmcb *v)
{
	v->efer &= ~BIT_ULL(10);
	if ((v->efer & (1 << 8)) && (v->cr0 >> 31 & 1))
		v->efer |= 1 << 10;
	v->cpl = v->cr0 & 1 ? v->ss.attrib >> 5 & 3 : 0;
}

static u16 get_register(struct vp *vp, u32 name, union hv_value *value)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 *plain = plain_register(vp, name), event;
	u8 *fx = vp->cpu.xsave;

	value->q[0] = 0;
	value->q[1] = 0;
	if (plain) {
		value->q[0] = *plain;
		return HV_STATUS_SUCCESS;
	}
	switch (name) {
	case REG_EXPLICIT_SUSPEND:
		value->q[0] = vp->explicit_suspend;
		break;
	case REG_INTERCEPT_SUSPEND:
		value->q[0] = vp->intercept_suspend;
		break;
	case REG_DISPATCH_SUSPEND:
		value->q[0] = vp->dispatch_suspend;
		break;
	case REG_VERSION:
		hv_cpuid_leaf(0x40000002, (u32 *)value, false);
		break;
	case REG_FEATURES ... REG_FEATURES + 2:
		hv_cpuid_leaf(0x40000003 + name - REG_FEATURES, (u32 *)value,
			      false);
		break;
	case REG_PENDING_INTERRUPTION:
		event = v->event_inj;
		if (event & EVENT_VALID)
			value->q[0] = 1 | (event >> 8 & 7) << 1 |
				      (event >> 11 & 1) << 4 |
				      (event & 0xff) << 16 |
				      (event >> 32) << 32;
		break;
	case REG_INTERRUPT_STATE:
		value->q[0] = v->int_state & 1;
		break;
	case REG_RFLAGS:
		value->q[0] = v->rflags;
		break;
	case REG_XMM ... REG_XMM + 15:
		memcpy(value, fx + FX_XMM0 + 16 * (name - REG_XMM), 16);
		break;
	case REG_FPMMX ... REG_FPMMX + 7:
		memcpy(value, fx + FX_ST0 + 16 * (name - REG_FPMMX), 16);
		break;
	case REG_FP_CONTROL:
		memcpy(value, fx, 16);
		break;
	case REG_XMM_CONTROL:
		memcpy(value, fx + 16, 16);
		break;
	case REG_CR0:
		value->q[0] = v->cr0;
		break;
	case REG_CR8:
		value->q[0] = v->int_ctl & 0xf;
		break;
	case REG_XFEM:
		value->q[0] = vp->cpu.xcr0;
		break;
	case REG_DR6:
		value->q[0] = v->dr6;
		break;
	case REG_DR7:
		value->q[0] = v->dr7;
		break;
	case REG_SEGMENT ... REG_SEGMENT + 7:
		seg_out(&value->segment, segment(v, name - REG_SEGMENT));
		break;
	case REG_IDTR:
		value->table.limit = v->idtr.limit;
		value->table.base = v->idtr.base;
		break;
	case REG_GDTR:
		value->table.limit = v->gdtr.limit;
		value->table.base = v->gdtr.base;
		break;
	case REG_TSC:
		value->q[0] = rdtsc() + v->tsc_offset;
		break;
	case REG_EFER:
		value->q[0] = child_efer(vp);
		break;
	case REG_PAT:
		value->q[0] = v->pat;
		break;
	case REG_VP_INDEX:
		value->q[0] = vp->index;
		break;
	case REG_TIME_REF_COUNT:
		value->q[0] = reference_time();
		break;
	case REG_ROOT_SIGNAL_COUNT:
		value->q[0] = vp->signal_count;
		break;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
	return HV_STATUS_SUCCESS;
}

static u16 set_register(struct vp *vp, u32 name, const union hv_value *value)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 *plain = plain_register(vp, name), q = value->q[0];
	u8 *fx = vp->cpu.xsave;

	if (plain) {
		*plain = q;
		return HV_STATUS_SUCCESS;
	}
	switch (name) {
	case REG_EXPLICIT_SUSPEND:
		set_explicit_suspend(vp, q & 1);
		break;
	case REG_INTERCEPT_SUSPEND:
		vp->intercept_suspend = true;
		if (q & 1) {
			sched_remove(vp);
			break;
		}
		vp_resume(vp);
		if (!vp->explicit_suspend)
			sched_add(vp);
		break;
	case REG_DISPATCH_SUSPEND:
		vp->dispatch_suspend = q & 1;
		if (q & 1)
			sched_remove(vp);
		else
			sched_add(vp);
		break;
	case REG_PENDING_INTERRUPTION:
		if (!(q & 1)) {
			v->event_inj = 0;
			break;
		}
		/* types: interrupt (0), NMI (2), exception (3) */
		if ((q >> 1 & 7) == 1 || (q >> 1 & 7) > 3)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		v->event_inj = EVENT_VALID | (q >> 16 & 0xff) |
			       (q >> 1 & 7) << 8 | (q >> 4 & 1) << 11 |
			       (q >> 32) << 32;
		break;
	case REG_INTERRUPT_STATE:
		v->int_state = q & 1;
		break;
	case REG_RFLAGS:
		if (q & ~RFLAGS_VALID)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		v->rflags = q | 2;
		break;
	case REG_XMM ... REG_XMM + 15:
		memcpy(fx + FX_XMM0 + 16 * (name - REG_XMM), value, 16);
		break;
	case REG_FPMMX ... REG_FPMMX + 7:
		memcpy(fx + FX_ST0 + 16 * (name - REG_FPMMX), value, 16);
		break;
	case REG_FP_CONTROL:
		memcpy(fx, value, 16);
		break;
	case REG_XMM_CONTROL:
		if ((u32)value->q[1] & ~MXCSR_VALID)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		memcpy(fx + 16, value, 12);
		break;
	case REG_CR0:
		if ((q & ~CR0_VALID) || ((q >> 31) && !(q & 1)) ||
		    ((q >> 29 & 1) && !(q >> 30 & 1)))
			return HV_STATUS_INVALID_REGISTER_VALUE;
		v->cr0 = q | 0x10;
		v->efer = child_efer(vp) | EFER_SVME;
		vp->lme_hidden = false;
		update_lma(v);
		break;
	case REG_CR8:
		if (q & ~0xfull)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		v->int_ctl = (v->int_ctl & ~0xfull) | q;
		break;
	case REG_XFEM:
		if (!xcr0_valid(q))
			return HV_STATUS_INVALID_REGISTER_VALUE;
		vp->cpu.xcr0 = q;
		break;
	case REG_DR6:
	case REG_DR7:
		if (q >> 32)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		*(name == REG_DR6 ? &v->dr6 : &v->dr7) = q;
		break;
	case REG_SEGMENT ... REG_SEGMENT + 7:
		seg_in(v, name - REG_SEGMENT, &value->segment);
		break;
	case REG_IDTR:
		v->idtr.limit = value->table.limit;
		v->idtr.base = value->table.base;
		break;
	case REG_GDTR:
		v->gdtr.limit = value->table.limit;
		v->gdtr.base = value->table.base;
		break;
	case REG_TSC:
		v->tsc_offset = q - rdtsc();
		break;
	case REG_EFER:
		if (q & ~EFER_VALID)
			return HV_STATUS_INVALID_REGISTER_VALUE;
		vp->lme_hidden = false;
		v->efer = q | EFER_SVME;
		update_lma(v);
		break;
	case REG_PAT:
		if (!pat_valid(q))
			return HV_STATUS_INVALID_REGISTER_VALUE;
		v->pat = q;
		break;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
	if (name >= REG_XMM && name <= REG_XMM_CONTROL && host_xcr0_mask)
		((u64 *)fx)[64] |= 3;	/* XSTATE_BV: x87 and SSE hold values */
	return HV_STATUS_SUCCESS;
}

/* What the VMM marked dirty in the register page is the VP's state now. */
void regpage_in(struct vp *vp)
{
	struct hv_register_page *p = vp->regs;
	struct vmcb *v = vp->cpu.vmcb;
	u32 dirty, i;

	if (!p)
		return;
	dirty = __atomic_exchange_n(&p->dirty, 0, __ATOMIC_SEQ_CST);
	if (dirty & HV_REGPAGE_GENERAL) {
		for (i = 0; i < 16; i++)
			vp->cpu.gpr[i] = p->gpr[i];
		v->rax = p->gpr[RAX];
		v->rsp = p->gpr[RSP];
	}
	if (dirty & HV_REGPAGE_IP)
		v->rip = p->rip;
	if (dirty & HV_REGPAGE_FLAGS)
		v->rflags = (p->rflags & RFLAGS_VALID) | 2;
	if (dirty & HV_REGPAGE_XMM) {
		memcpy((u8 *)vp->cpu.xsave + FX_XMM0, p->xmm, sizeof(p->xmm));
		if (host_xcr0_mask)
			((u64 *)vp->cpu.xsave)[64] |= 3;
	}
	if (dirty & HV_REGPAGE_SEGMENT)
		for (i = 0; i < 6; i++)
			seg_in(v, i, &p->segment[i]);
}

void regpage_out(struct vp *vp)
{
	struct hv_register_page *p = vp->regs;
	struct vmcb *v = vp->cpu.vmcb;
	union hv_value value;
	u32 i;

	if (!p)
		return;
	for (i = 0; i < 16; i++)
		p->gpr[i] = vp->cpu.gpr[i];
	p->gpr[RAX] = v->rax;
	p->gpr[RSP] = v->rsp;
	p->rip = v->rip;
	p->rflags = v->rflags;
	memcpy(p->xmm, (u8 *)vp->cpu.xsave + FX_XMM0, sizeof(p->xmm));
	for (i = 0; i < 6; i++)
		seg_out(&p->segment[i], segment(v, i));
	p->cr0 = v->cr0;
	p->cr3 = v->cr3;
	p->cr4 = v->cr4;
	p->cr8 = v->int_ctl & 0xf;
	p->efer = child_efer(vp);
	p->dr7 = v->dr7;
	get_register(vp, REG_PENDING_INTERRUPTION, &value);
	p->pending_interruption = value.q[0];
	p->interrupt_state = v->int_state & 1;
	p->xfem = vp->cpu.xcr0;
	p->version = 1;
	p->isvalid = 1;
}

u16 hv_get_vp_registers(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	const u32 *names = (const u32 *)(in + 2);
	struct vp *vp;
	u16 status;

	if (in[1] >> 40)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp_stopped(in[0], in[1], in[1] >> 32, &vp);
	if (status)
		return status;
	regpage_in(vp);
	for (; h->done < h->reps && !status; h->done += !status)
		status = get_register(vp, names[h->done],
				      (union hv_value *)h->out + h->done);
	return status;
}

u16 hv_set_vp_registers(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct vp *vp;
	u16 status;

	if (in[1] >> 40)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp_stopped(in[0], in[1], in[1] >> 32, &vp);
	if (status)
		return status;
	regpage_in(vp);
	for (; h->done < h->reps && !status; h->done += !status) {
		const u64 *e = in + 2 + 4 * h->done;

		if (e[0] >> 32 || e[1])
			status = HV_STATUS_INVALID_PARAMETER;
		else
			status = set_register(vp, e[0], (void *)(e + 2));
	}
	regpage_out(vp);
	return status;
}
