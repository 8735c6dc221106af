// SPDX-License-Identifier: GPL-2.0
/* SVM itself: switching it on, VMCBs, permission maps, entering a guest. */
#include "hv.h"

#define CR4_OSFXSR	BIT_ULL(9)
#define CR4_OSXSAVE	BIT_ULL(18)

bool has_1g_pages;
u64 host_xcr0_mask;		/* 0: no XSAVE, FXSAVE is used */
u32 xsave_size = 512;

void cpuid(u32 leaf, u32 subleaf, u32 *r)
{
	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
		     : "a"(leaf), "c"(subleaf));
}

static u64 read_cr4(void)
{
	u64 v;

	asm volatile("movq %%cr4, %0" : "=r"(v));
	return v;
}

void xsetbv(u64 v)
{
	asm volatile("xsetbv" : : "c"(0), "a"((u32)v), "d"((u32)(v >> 32)));
}

/* Checks the features, then turns SVM on for this CPU. GIF stays clear. */
void svm_enable(struct cpu *cpu)
{
	u32 r[4];

	cpuid(0x80000001, 0, r);
	if (!(r[2] & 4))
		hv_stop("this CPU has no SVM: start QEMU with -cpu EPYC,+svm,+npt");
	has_1g_pages = r[3] >> 26 & 1;
	cpuid(0x8000000a, 0, r);
	if (!(r[3] & 1))
		hv_stop("this CPU has no nested paging: start QEMU with +npt");
	if (rdmsr(MSR_VM_CR) & (1 << 4))
		hv_stop("SVM is disabled by the firmware");
	cpuid(1, 0, r);
	if (!(r[2] & (1 << 21)))
		hv_stop("this CPU has no x2APIC: QEMU 9 or later with +x2apic is needed");

	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 3 << 10);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	cpu->hsave = heap_page();
	wrmsr(MSR_VM_HSAVE_PA, (u64)cpu->hsave);
	asm volatile("clgi");

	asm volatile("movq %0, %%cr4" : : "r"(read_cr4() | CR4_OSFXSR));
	if (r[2] & (1 << 26)) {
		asm volatile("movq %0, %%cr4" : : "r"(read_cr4() | CR4_OSXSAVE));
		cpuid(0xd, 0, r);
		host_xcr0_mask = (u64)r[3] << 32 | r[0];
		xsave_size = r[2];
		if (xsave_size > PAGE_SIZE)
			hv_stop("XSAVE area of %u bytes does not fit in a page",
				xsave_size);
	}
}

void vmcb_intercept(struct vmcb *vmcb, u32 bit, bool on)
{
	if (on)
		vmcb->intercepts[bit / 32] |= 1u << (bit % 32);
	else
		vmcb->intercepts[bit / 32] &= ~(1u << (bit % 32));
}

/* Two bits an MSR, three ranges of 8192 MSRs that start at these numbers. */
void msrpm_intercept(u8 *map, u32 msr, bool read, bool write)
{
	static const u32 base[] = { 0, 0xc0000000, 0xc0010000 };
	u32 i, bit;

	for (i = 0; i < ARRAY_SIZE(base); i++) {
		if (msr - base[i] >= 0x2000)
			continue;
		bit = (i * 0x2000 + msr - base[i]) * 2;
		map[bit / 8] &= ~(3 << (bit % 8));
		map[bit / 8] |= (read | write << 1) << (bit % 8);
	}
}

static void set_seg(struct vmcb_seg *s, u16 selector, u16 attrib, u32 limit)
{
	s->selector = selector;
	s->attrib = attrib;
	s->limit = limit;
	s->base = 0;
}

/* The state of an x86 processor after INIT. */
void vmcb_reset(struct vmcb *v)
{
	set_seg(&v->cs, 0xf000, 0x9b, 0xffff);
	v->cs.base = 0xffff0000;
	set_seg(&v->ds, 0, 0x93, 0xffff);
	v->es = v->ds;
	v->ss = v->ds;
	v->fs = v->ds;
	v->gs = v->ds;
	set_seg(&v->gdtr, 0, 0, 0xffff);
	v->idtr = v->gdtr;
	set_seg(&v->ldtr, 0, 0x82, 0xffff);
	set_seg(&v->tr, 0, 0x8b, 0xffff);
	v->cpl = 0;
	v->efer = EFER_SVME;
	v->cr0 = 0x60000010;
	v->cr2 = 0;
	v->cr3 = 0;
	v->cr4 = 0;
	v->dr6 = 0xffff0ff0;
	v->dr7 = 0x400;
	v->rflags = 2;
	v->rip = 0xfff0;
	v->rsp = 0;
	v->rax = 0;
	v->pat = 0x0007040600070406ull;
	v->int_state = 0;
	v->event_inj = 0;
	v->nested_ctl = 1;
}

void inject_exception(struct vmcb *vmcb, u32 vector, s64 error)
{
	vmcb->event_inj = EVENT_VALID | EVENT_EXCEPTION | vector;
	if (error >= 0)
		vmcb->event_inj |= EVENT_ERROR_CODE | (u64)error << 32;
}

/* Is the x87 part of an XSAVE area as FNINIT and zeroed registers leave it? */
static bool x87_initial(const u64 *xsave)
{
	const u16 *control = (const u16 *)xsave;
	u32 i;

	if (control[0] != 0x37f || control[1] || control[2] || control[3] ||
	    xsave[1] || xsave[2])
		return false;
	for (i = 4; i < 20; i++)	/* ST0-ST7 */
		if (xsave[i])
			return false;
	return true;
}

/* FPU, XCR0, TSC_AUX and DR0-DR3 are not in the VMCB. */
void fpu_switch(struct vcpu *from, struct vcpu *to)
{
	if (host_xcr0_mask) {
		u32 lo, hi;

		asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
		from->xcr0 = (u64)hi << 32 | lo;
		xsetbv(host_xcr0_mask);
		asm volatile("xsave64 (%0)" : : "r"(from->xsave), "a"(-1), "d"(-1)
			     : "memory");
		/*
		 * Where the registers are initial already XRSTOR is told not to
		 * load them: that load on any processor makes QEMU (10.0 at
		 * least) change flags of its first one without a lock, and a
		 * #VMEXIT there at that moment leaves nested paging on.
		 */
		if (x87_initial(from->xsave) && x87_initial(to->xsave))
			((u64 *)to->xsave)[64] &= ~1ull;	/* XSTATE_BV */
		asm volatile("xrstor64 (%0)" : : "r"(to->xsave), "a"(-1), "d"(-1)
			     : "memory");
		xsetbv(to->xcr0);
	} else {
		asm volatile("fxsave64 (%0)" : : "r"(from->xsave) : "memory");
		asm volatile("fxrstor64 (%0)" : : "r"(to->xsave) : "memory");
	}
	from->tsc_aux = rdmsr(MSR_TSC_AUX);
	wrmsr(MSR_TSC_AUX, to->tsc_aux);
	asm volatile("movq %%dr0, %0" : "=r"(from->dr[0]));
	asm volatile("movq %%dr1, %0" : "=r"(from->dr[1]));
	asm volatile("movq %%dr2, %0" : "=r"(from->dr[2]));
	asm volatile("movq %%dr3, %0" : "=r"(from->dr[3]));
	asm volatile("movq %0, %%dr0" : : "r"(to->dr[0]));
	asm volatile("movq %0, %%dr1" : : "r"(to->dr[1]));
	asm volatile("movq %0, %%dr2" : : "r"(to->dr[2]));
	asm volatile("movq %0, %%dr3" : : "r"(to->dr[3]));
}

/* An instruction was emulated, and with it ends the shadow of STI or MOV SS. */
void instruction_done(struct vmcb *v, u64 next)
{
	v->rip = next;
	v->int_state &= ~1ull;
}

/*
 * An event whose delivery the exit interrupted, to be injected again. Software
 * interrupts and INT3 are not: their instruction is executed again. QEMU calls
 * interrupts and NMIs exceptions here, and takes none of these as such.
 */
static u64 undelivered_event(const struct vmcb *v)
{
	u64 event = v->exit_int_info, type = event & EVENT_TYPE;
	u32 vector = event & 0xff;

	if (!(event & EVENT_VALID) || v->exit_code == EXIT_SHUTDOWN ||
	    type == EVENT_SOFTWARE ||
	    (type == EVENT_EXCEPTION && (vector == 3 || vector == 4)))
		return 0;
	if (type == EVENT_EXCEPTION && vector == 2)
		return (event & ~EVENT_TYPE) | EVENT_NMI;
	if (type == EVENT_EXCEPTION && vector > 31)
		return event & ~EVENT_TYPE;
	return event;
}

/* Runs a guest until it exits; see tlb_flush() for the order of the stores. */
void svm_run(struct cpu *cpu, struct vcpu *v, struct partition *pt)
{
	cpu->guest = pt;
	mb();	/* pairs with tlb_flush() */
	cpu->guest_gen = pt->tlb_gen;
	v->vmcb->tlb_ctl = cpu->last_vcpu != v || v->seen_gen != cpu->guest_gen ?
			   TLB_FLUSH_ALL : 0;
	v->vmcb->ncr3 = (u64)pt->npt;
	v->seen_gen = cpu->guest_gen;
	cpu->last_vcpu = v;
	svm_vmrun(v);
	cpu->guest = NULL;
	v->vmcb->event_inj = undelivered_event(v->vmcb);
	if (v->vmcb->exit_code == EXIT_NMI)
		nmi_window();
}
