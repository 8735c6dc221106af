// SPDX-License-Identifier: GPL-2.0
/*
 * The root partition's VPs, one for each CPU. The root owns the machine: its
 * interrupts, devices and most MSRs are not intercepted. What is: CPUID, the
 * synthetic MSRs, EFER (SVME stays set), SVM itself, NMI (the hypervisor's own
 * kick), and x2APIC ICR writes, because a real INIT would lose the CPU.
 */
#include "hv.h"

#define ICR_MODE(v)	((v) >> 8 & 7)
#define ICR_MODE_NMI	4
#define ICR_MODE_INIT	5
#define ICR_MODE_SIPI	6
#define ICR_SHORTHAND(v)	((v) >> 18 & 3)
#define TURN_HZ		50	/* a turn ends within 1/50 s */

struct partition root_partition = { .id = 1, .state = PARTITION_ACTIVE };
u8 *root_iopm, *root_msrpm, *root_msrpm_timer;
u32 scheduler_type = 4;

static void make_maps(void)
{
	static const u32 trapped[] = {
		MSR_EFER, MSR_VM_CR, MSR_VM_HSAVE_PA
	};
	u32 i;

	root_iopm = heap_pages(3);
	root_iopm[ORACLE_PORT / 8] |= 0xf << (ORACLE_PORT % 8);
	root_msrpm = heap_pages(2);
	for (i = 0; i < ARRAY_SIZE(trapped); i++)
		msrpm_intercept(root_msrpm, trapped[i], true, true);
	msrpm_intercept(root_msrpm, MSR_APIC_BASE, false, true);
	msrpm_intercept(root_msrpm, MSR_X2APIC_ICR, false, true);
	root_msrpm_timer = heap_pages(2);
	memcpy(root_msrpm_timer, root_msrpm, 2 * PAGE_SIZE);
	msrpm_intercept(root_msrpm_timer, MSR_X2APIC_TIMER_COUNT, false, true);
}

void root_init(struct cpu *cpu)
{
	static const u8 traps[] = {
		ICPT_NMI, ICPT_CPUID, ICPT_IOIO, ICPT_MSR, ICPT_SHUTDOWN,
		ICPT_INVLPGA
	};
	static const u8 svm_traps[] = {
		ICPT_VMRUN, ICPT_VMMCALL, ICPT_VMLOAD, ICPT_VMSAVE, ICPT_STGI,
		ICPT_CLGI, ICPT_SKINIT
	};
	struct vmcb *v = heap_page();
	u32 i;

	if (!root_iopm)
		make_maps();
	cpu->root.vmcb = v;
	cpu->root.xsave = heap_page();
	for (i = 0; i < ARRAY_SIZE(traps); i++)
		vmcb_intercept(v, traps[i], true);
	for (i = 0; i < ARRAY_SIZE(svm_traps); i++)
		vmcb_intercept(v, svm_traps[i], true);
	v->iopm = (u64)root_iopm;
	v->msrpm = (u64)root_msrpm;
	v->asid = 1;
	vmcb_reset(v);
	cpu->sipi_page = -1;
	synic_init(cpu);
}

/* The 64-bit entry of the Linux boot protocol. */
void root_enter_bsp(u64 rip, u64 rsi, u64 cr3, u64 gdt, u64 rsp)
{
	struct cpu *cpu = &cpus[0];
	struct vmcb *v = cpu->root.vmcb;

	v->cs = (struct vmcb_seg){ 0x10, 0xa9b, 0xffffffff, 0 };
	v->ds = (struct vmcb_seg){ 0x18, 0xc93, 0xffffffff, 0 };
	v->es = v->ds;
	v->ss = v->ds;
	v->fs = v->ds;
	v->gs = v->ds;
	v->gdtr.base = gdt;
	v->gdtr.limit = 31;
	v->efer = EFER_SVME | 0xd00;
	v->cr0 = 0x80000033;
	v->cr3 = cr3;
	v->cr4 = 0x20;
	v->rip = rip;
	v->rsp = rsp;
	cpu->root.gpr[RSI] = rsi;
	cpu->started = true;
}

static void copy_string(u32 *r, const char *s)
{
	memcpy(r, s, 12);
}

/* Leaves from 0x40000000 on, for the root or as a child sees them. */
void hv_cpuid_leaf(u32 leaf, u32 *r, bool root)
{
	memset(r, 0, 4 * sizeof(*r));
	switch (leaf) {
	case 0x40000000:
		r[0] = 0x4000000a;
		copy_string(&r[1], "Microsoft Hv");
		break;
	case 0x40000001:
		r[0] = 0x31237648;	/* "Hv#1" */
		break;
	case 0x40000002:		/* build, version 10.0 */
		r[0] = 27750;
		r[1] = 10 << 16;
		break;
	case 0x40000003:
		/* time reference, SynIC, hypercall, VP index, TSC page, frequencies */
		r[0] = root ? 0xa66 : 0xa62;
		/* create partitions, memory pool, ports, stats, CPU management */
		r[1] = root ? 0x11ff : 0;
		r[3] = 0x100;
		break;
	case 0x40000004:		/* relaxed timing, no automatic EOI */
		r[0] = 0x220;
		break;
	case 0x40000005:
		r[0] = root ? 64 : MAX_VPS;
		r[1] = 64;
		break;
	case ORACLE_CPUID:
		if (!root)
			break;
		r[0] = ORACLE_SIGNATURE;
		r[1] = ORACLE_VERSION;
		r[2] = ORACLE_PORT;
		r[3] = ORACLE_COMMANDS;
		break;
	}
}

static void root_cpuid(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;
	u32 leaf = v->rax, r[4];

	if (leaf >= 0x40000000 && leaf < 0x50000000) {
		hv_cpuid_leaf(leaf, r, true);
	} else {
		cpuid(leaf, cpu->root.gpr[RCX], r);
		if (leaf == 1) {
			/* hypervisor; no TSC deadline, no MONITOR */
			r[2] = (r[2] | 1u << 31) &
			       ~(1u << 27 | 1u << 24 | 1u << 3);
			r[2] |= (v->cr4 >> 18 & 1) << 27;
		} else if (leaf == 7 && !(u32)cpu->root.gpr[RCX]) {
			r[2] = (r[2] & ~(1u << 4)) | (v->cr4 >> 22 & 1) << 4;
		} else if (leaf == 0x80000001) {
			r[2] &= ~4u;		/* SVM */
		} else if (leaf == 0x8000000a) {
			memset(r, 0, sizeof(r));
		}
	}
	v->rax = r[0];
	cpu->root.gpr[RBX] = r[1];
	cpu->root.gpr[RCX] = r[2];
	cpu->root.gpr[RDX] = r[3];
	instruction_done(v, v->rip + 2);
}

/* INIT, SIPI and NMI are delivered by us; everything else by the APIC. */
static void root_ipi(struct cpu *cpu, u64 icr)
{
	u32 mode = ICR_MODE(icr), dest = icr >> 32, i;

	if (mode < ICR_MODE_NMI || mode > ICR_MODE_SIPI) {
		wrmsr(MSR_X2APIC_ICR, icr);
		return;
	}
	for (i = 0; i < nr_cpus; i++) {
		struct cpu *to = &cpus[i];

		switch (ICR_SHORTHAND(icr)) {
		case 0:
			/* logical destinations name one CPU per bit */
			if (icr & (1 << 11) ? !(dest >> i & 1) :
			    dest != i && dest != 0xffffffff)
				continue;
			break;
		case 1:
			if (to != cpu)
				continue;
			break;
		case 3:
			if (to == cpu)
				continue;
			break;
		}
		if (mode == ICR_MODE_NMI) {
			to->nmi_for_root = true;
		} else if (to->id == 0) {
			continue;	/* the boot CPU is never restarted */
		} else if (mode == ICR_MODE_INIT) {
			if (icr & (1 << 14))	/* assert */
				to->init_pending = true;
		} else if (!to->started || to->init_pending) {
			to->sipi_page = icr & 0xff;
		}
		kick_cpu(to);
	}
}

/* false: #GP */
static bool root_msr(struct cpu *cpu, u32 msr, u64 *value, bool write)
{
	struct vmcb *v = cpu->root.vmcb;

	switch (msr) {
	case MSR_EFER:
		if (write && (*value & ~(EFER_VALID | 0x4000)))
			return false;
		if (write && ((*value ^ v->efer) & 0x100) &&
		    (v->cr0 & BIT_ULL(31)))
			return false;	/* LME changes only without paging */
		if (write)
			v->efer = (*value & ~BIT_ULL(10)) | EFER_SVME |
				  (v->efer & (1 << 10));
		else
			*value = v->efer & ~EFER_SVME;
		return true;
	case MSR_APIC_BASE:		/* x2APIC stays on: kicks need it */
		return (*value >> 10 & 3) == 3;
	case MSR_X2APIC_ICR:
		root_ipi(cpu, *value);
		return true;
	case MSR_X2APIC_TIMER_COUNT:
		if (*value >> 32)
			return false;
		wrmsr(MSR_X2APIC_TIMER_COUNT, *value);
		cpu->odd_tick = !cpu->odd_tick;
		cpu->childs_turn = *value && *value < apic_hz / TURN_HZ &&
				   cpu->odd_tick;
		return true;
	}
	return synic_msr(cpu, msr, value, write);
}

static void root_msr_exit(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;
	bool write = v->exit_info1 & 1;
	u64 value = cpu->root.gpr[RDX] << 32 | (u32)v->rax;

	if (!root_msr(cpu, cpu->root.gpr[RCX], &value, write)) {
		inject_exception(v, 13, 0);
		return;
	}
	if (!write) {
		v->rax = (u32)value;
		cpu->root.gpr[RDX] = value >> 32;
	}
	instruction_done(v, v->rip + 2);
}

static void root_hypercall(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;
	u64 *r = cpu->root.gpr;

	if (v->cpl || !root_hypercalls_enabled()) {
		inject_exception(v, 6, -1);
		return;
	}
	instruction_done(v, v->rip + 3);
	v->rax = do_hypercall(cpu, r[RCX], r[RDX], r[8]);
}

static void root_exit(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;

	switch (v->exit_code) {
	case EXIT_NMI:
		break;
	case EXIT_CPUID:
		root_cpuid(cpu);
		break;
	case EXIT_MSR:
		root_msr_exit(cpu);
		break;
	case EXIT_VMMCALL:
		root_hypercall(cpu);
		break;
	case EXIT_NPF:
		lock_hv();
		root_npt_fault(cpu);
		unlock_hv();
		break;
	case EXIT_IOIO:
		instruction_done(v, v->exit_info2);
		oracle_call(cpu);
		break;
	case EXIT_HLT:			/* only where a child VP may run instead */
		instruction_done(v, v->rip + 1);
		cpu->childs_turn = true;
		break;
	case EXIT_SHUTDOWN:
		hv_stop("triple fault of the root's VP %u (rip 0x%llx cr2 0x%llx)",
			cpu->id, v->rip, v->cr2);
	case EXIT_VMRUN:
	case EXIT_VMRUN + 2:		/* VMLOAD, VMSAVE, STGI, CLGI, SKINIT */
	case EXIT_VMRUN + 3:
	case EXIT_VMRUN + 4:
	case EXIT_VMRUN + 5:
	case EXIT_SKINIT:
	case EXIT_INVLPGA:
		inject_exception(v, 6, -1);
		break;
	default:
		hv_stop("root VP %u: exit 0x%llx info 0x%llx 0x%llx (rip 0x%llx)",
			cpu->id, v->exit_code, v->exit_info1, v->exit_info2,
			v->rip);
	}
}

/* An AP waits here for the root's SIPI, also after an INIT. */
static void wait_for_sipi(struct cpu *cpu)
{
	struct vmcb *v = cpu->root.vmcb;

	cpu->started = false;
	while (cpu->sipi_page < 0)
		cpu_idle();
	cpu->init_pending = false;
	vmcb_reset(v);
	v->cs.selector = cpu->sipi_page << 8;
	v->cs.base = (u64)cpu->sipi_page << 12;
	v->rip = 0;
	cpu->sipi_page = -1;
	memset(cpu->root.gpr, 0, sizeof(cpu->root.gpr));
	cpu->started = true;
}

void root_loop(struct cpu *cpu)
{
	for (;;) {
		if (!cpu->started || cpu->init_pending)
			wait_for_sipi(cpu);
		if (cpu->nmi_for_root && !cpu->root.vmcb->event_inj) {
			cpu->nmi_for_root = false;
			cpu->root.vmcb->event_inj = EVENT_VALID | EVENT_NMI | 2;
		}
		/* A turn is taken at once or not at all, see sched.c. */
		if (cpu->childs_turn && sched_wants(cpu))
			sched_run(cpu);
		cpu->childs_turn = false;
		sched_update_intercepts(cpu);
		svm_run(cpu, &cpu->root, &root_partition);
		root_exit(cpu);
	}
}
