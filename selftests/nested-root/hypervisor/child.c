// SPDX-License-Identifier: GPL-2.0
/*
 * Exits of a child VP that the hypervisor answers itself: CPUID, MSRs, XSETBV
 * and its few hypercalls. The rest becomes an intercept message.
 */
#include "hv.h"

#define CR4_PAE	BIT_ULL(5)
#define CR4_OSXSAVE	BIT_ULL(18)
#define UNIMPLEMENTED_MSR_IGNORE	1

/*
 * QEMU takes a #VMEXIT badly while LME is set, paging off and PAE clear: it
 * loads the host's CR0 before its CR4, refuses, and the host goes on with the
 * guest's CR0. A guest must not get there between two exits:
 *
 * - Paging off: LME stays out of the VMCB until a write of CR0 can switch paging
 *   on; while it is in, writes of CR4 exit.
 * - Paging on: a write of CR0 that may switch it off exits; from then on writes
 *   of CR4 exit, until one does with paging still on.
 *
 * The writes themselves are executed by the guest, with the intercept moved.
 */
void guard_lme(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	bool lme = !!(child_efer(vp) & EFER_LME), paging = v->cr0 >> 31;
	bool off = lme && !paging, on = lme && paging;

	if (v->exit_code == EXIT_CR0_SEL_WRITE)
		vp->cr0_passed = true;
	else if (vp->cr0_passed && !on)
		vp->lme_guard = LME_VISIBLE_UNTIL_CR4;
	if (!on || v->exit_code == EXIT_CR_WRITE(4))
		vp->cr0_passed = false;

	if (v->exit_code == EXIT_CR_WRITE(0))
		vp->lme_guard = v->cr4 & CR4_PAE ? LME_VISIBLE_UNTIL_CR4 :
						   LME_HIDDEN_UNTIL_CR4;
	else if (v->exit_code == EXIT_CR_WRITE(4) || !(v->cr4 & CR4_PAE))
		vp->lme_guard = LME_HIDDEN_UNTIL_CR0;
	if (vp->lme_hidden)
		v->efer |= EFER_LME;
	vp->lme_hidden = off && vp->lme_guard != LME_VISIBLE_UNTIL_CR4;
	if (vp->lme_hidden)
		v->efer &= ~EFER_LME;

	vmcb_intercept(v, ICPT_CR0_SEL_WRITE, on && !vp->cr0_passed);
	vmcb_intercept(v, ICPT_CR_WRITE(0),
		       off && vp->lme_guard == LME_HIDDEN_UNTIL_CR0);
	vmcb_intercept(v, ICPT_CR_WRITE(4), vp->cr0_passed ||
		       (off && vp->lme_guard != LME_HIDDEN_UNTIL_CR0));
}

u64 child_efer(struct vp *vp)
{
	return (vp->cpu.vmcb->efer & ~EFER_SVME) |
	       (vp->lme_hidden ? EFER_LME : 0);
}

void child_cpuid(struct vp *vp, u32 leaf, u32 subleaf, u32 *r)
{
	struct partition *pt = vp->pt;
	u64 cr4 = vp->cpu.vmcb->cr4;
	u32 i, j;

	if (leaf >= 0x40000000 && leaf < 0x50000000)
		hv_cpuid_leaf(leaf, r, false);
	else
		cpuid(leaf, subleaf, r);
	if (leaf == 1) {
		r[1] = (r[1] & 0xffffff) | vp->index << 24;
		/* hypervisor; no MONITOR, x2APIC, TSC deadline */
		r[2] = (r[2] | 1u << 31) &
		       ~(1u << 27 | 1u << 24 | 1u << 21 | 1u << 3);
		if (cr4 & CR4_OSXSAVE)
			r[2] |= 1u << 27;
	} else if (leaf == 7 && !subleaf) {
		r[2] = (r[2] & ~(1u << 4)) | (cr4 >> 22 & 1) << 4;
	} else if (leaf == 0xb) {
		r[3] = vp->index;
	} else if (leaf == 0x80000001) {
		r[2] &= ~4u;
	} else if (leaf == 0x8000000a) {
		memset(r, 0, 16);
	}
	for (i = 0; i < pt->cpuid_count; i++) {
		struct cpuid_result *o = &pt->cpuid[i];

		if (o->leaf != leaf ||
		    (o->subleaf_specific && o->subleaf != subleaf))
			continue;
		for (j = 0; j < 4; j++)
			r[j] = (r[j] & ~o->mask[j]) | (o->value[j] & o->mask[j]);
	}
}

static void exit_cpuid(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u32 r[4];

	child_cpuid(vp, v->rax, vp->cpu.gpr[RCX], r);
	v->rax = r[0];
	vp->cpu.gpr[RBX] = r[1];
	vp->cpu.gpr[RCX] = r[2];
	vp->cpu.gpr[RDX] = r[3];
	instruction_done(v, v->rip + 2);
}

/*
 * The hypercall page: the call instruction is written into the guest's page. It
 * stays disabled until the guest has said who it is.
 */
static bool set_hypercall_page(struct vp *vp, u64 value)
{
	u8 *page;

	if (!vp->guest_os_id)
		value &= ~1ull;
	if (value & 1) {
		lock_hv();
		page = gpa_pointer(vp->pt, value & ~0xfffull, true);
		if (page)
			memcpy(page, "\x0f\x01\xd9\xc3", 4);
		unlock_hv();
		if (!page)
			return false;
	}
	vp->hypercall_msr = value;
	return true;
}

static u64 *storage(struct vp *vp, u32 msr)
{
	switch (msr) {
	case MSR_HV_GUEST_OS_ID:
		return &vp->guest_os_id;
	case MSR_HV_REFERENCE_TSC:
		return &vp->tsc_msr;
	case MSR_HV_VP_ASSIST_PAGE:
		return &vp->assist_msr;
	case MSR_APIC_BASE:
		return &vp->apic_base;
	case 0x277:
		return &vp->cpu.vmcb->pat;
	case 0x2ff:
		return &vp->mtrr_def;
	case 0x1a0:
		return &vp->misc_enable;
	}
	return NULL;
}

bool pat_valid(u64 pat)
{
	for (; pat; pat >>= 8)
		if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
			return false;
	return true;
}

/* What XSETBV takes. The hypervisor executes it, and the fault would be its own. */
bool xcr0_valid(u64 xcr0)
{
	u64 mpx = xcr0 & 0x18, avx512 = xcr0 & 0xe0;

	if (!(xcr0 & 1) || (xcr0 & ~(host_xcr0_mask ?: 1)))
		return false;
	if ((xcr0 & 4) && !(xcr0 & 2))
		return false;
	if (mpx && mpx != 0x18)
		return false;
	return !avx512 || (avx512 == 0xe0 && (xcr0 & 4));
}

/* false: not an MSR of a child VP */
static bool child_msr(struct vp *vp, u32 msr, u64 *value, bool write)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 *reg = storage(vp, msr);

	if (reg) {
		if (write && msr == 0x277 && !pat_valid(*value))
			return false;
		if (write)
			*reg = *value;
		else
			*value = *reg;
		if (msr == MSR_HV_GUEST_OS_ID && !*value)
			vp->hypercall_msr &= ~1ull;
		return true;
	}
	switch (msr) {
	case MSR_EFER:
		if (!write) {
			*value = child_efer(vp);
			return true;
		}
		if ((*value & ~EFER_VALID) ||
		    ((v->cr0 >> 31) && ((*value ^ v->efer) & EFER_LME)))
			return false;
		vp->lme_hidden = false;
		v->efer = (*value & ~BIT_ULL(10)) | (v->efer & (1 << 10)) |
			  EFER_SVME;
		return true;
	case MSR_TSC:
		if (write)
			v->tsc_offset = *value - rdtsc();
		else
			*value = rdtsc() + v->tsc_offset;
		return true;
	case MSR_HV_HYPERCALL:
		if (write)
			return set_hypercall_page(vp, *value);
		*value = vp->hypercall_msr;
		return true;
	}
	if (write)
		return false;
	switch (msr) {
	case MSR_HV_VP_INDEX:
		*value = vp->index;
		return true;
	case MSR_HV_TIME_REF_COUNT:
		*value = reference_time();
		return true;
	case MSR_HV_TSC_FREQUENCY:
		*value = tsc_hz;
		return true;
	case MSR_HV_APIC_FREQUENCY:
		*value = apic_hz;
		return true;
	case 0xfe:		/* MTRRcap: no variable ranges */
		*value = 0;
		return true;
	}
	return false;
}

static enum vp_exit exit_msr(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	bool write = v->exit_info1 & 1;
	u32 msr = vp->cpu.gpr[RCX], i;
	u64 value = vp->cpu.gpr[RDX] << 32 | (u32)v->rax;
	u64 action = vp->pt->properties[3];

	if (!child_msr(vp, msr, &value, write)) {
		for (i = 0; i < vp->pt->msr_count; i++)
			if (vp->pt->msr[i].msr == msr)
				action = vp->pt->msr[i].action;
		if (vp->pt->msr_all & (write ? 2 : 1))
			return VP_INTERCEPTED;
		if (action != UNIMPLEMENTED_MSR_IGNORE) {
			inject_exception(v, 13, 0);
			return VP_CONTINUE;
		}
		value = 0;
	}
	if (!write) {
		v->rax = (u32)value;
		vp->cpu.gpr[RDX] = value >> 32;
	}
	instruction_done(v, v->rip + 2);
	return VP_CONTINUE;
}

static void exit_xsetbv(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 value = vp->cpu.gpr[RDX] << 32 | (u32)v->rax;

	if (!host_xcr0_mask || !(v->cr4 & CR4_OSXSAVE)) {
		inject_exception(v, 6, -1);
		return;
	}
	if (v->cpl || (u32)vp->cpu.gpr[RCX] || !xcr0_valid(value)) {
		inject_exception(v, 13, 0);
		return;
	}
	xsetbv(value);
	instruction_done(v, v->rip + 3);
}

static enum vp_exit exit_vmmcall(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;

	if (vp->pt->hypercall_all)
		return VP_INTERCEPTED;
	if (v->cpl || !(vp->hypercall_msr & 1)) {
		inject_exception(v, 6, -1);
		return VP_CONTINUE;
	}
	instruction_done(v, v->rip + 3);
	v->rax = child_hypercall(vp, vp->cpu.gpr[RCX]);
	return VP_CONTINUE;
}

/*
 * A guest that only causes exits answered here must still let the root's
 * interrupts through: they end svm_run() with EXIT_INTR at the next entry.
 */
enum vp_exit child_exit(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u32 i;

	switch (v->exit_code) {
	case EXIT_INTR:
	case EXIT_NMI:
		return VP_PREEMPTED;
	case EXIT_CPUID:
		for (i = 0; i < vp->pt->cpuid_leaf_count; i++)
			if (vp->pt->cpuid_leaf[i] == (u32)v->rax)
				return VP_INTERCEPTED;
		exit_cpuid(vp);
		return VP_CONTINUE;
	case EXIT_MSR:
		return exit_msr(vp);
	case EXIT_XSETBV:
		exit_xsetbv(vp);
		return VP_CONTINUE;
	case EXIT_VMMCALL:
		return exit_vmmcall(vp);
	case EXIT_CR0_SEL_WRITE:
	case EXIT_CR_WRITE(0):
	case EXIT_CR_WRITE(4):
		return VP_CONTINUE;	/* guard_lme() lets it through */
	case EXIT_INVD:
		instruction_done(v, v->rip + 2);
		return VP_CONTINUE;
	case EXIT_VMRUN:
	case EXIT_VMRUN + 2:
	case EXIT_VMRUN + 3:
	case EXIT_VMRUN + 4:
	case EXIT_VMRUN + 5:
	case EXIT_SKINIT:
	case EXIT_INVLPGA:
	case EXIT_MONITOR:
	case EXIT_MWAIT:
		inject_exception(v, 6, -1);
		return VP_CONTINUE;
	}
	return VP_INTERCEPTED;
}
