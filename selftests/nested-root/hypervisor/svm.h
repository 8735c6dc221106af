/* SPDX-License-Identifier: GPL-2.0 */
/*
 * AMD SVM as the architecture manual (volume 2, chapter 15) defines it: the
 * VMCB, exit codes, and the part of struct vcpu that entry.S knows.
 */
#ifndef NR_SVM_H
#define NR_SVM_H

/* Indices into vcpu->gpr; RAX and RSP live in the VMCB. */
#define RAX	0
#define RCX	1
#define RDX	2
#define RBX	3
#define RSP	4
#define RBP	5
#define RSI	6
#define RDI	7

#define VCPU_VMCB	0
#define VCPU_GPR(n)	(8 + 8 * (n))

#ifndef __ASSEMBLER__

struct vmcb_seg {
	u16 selector;
	u16 attrib;
	u32 limit;
	u64 base;
};

struct vmcb {
	/* Control area */
	u32 intercepts[6];
	u32 rsvd0[9];
	u32 pause_filter;
	u64 iopm;
	u64 msrpm;
	u64 tsc_offset;
	u32 asid;
	u32 tlb_ctl;
	u64 int_ctl;
	u64 int_state;
	u64 exit_code;
	u64 exit_info1;
	u64 exit_info2;
	u64 exit_int_info;
	u64 nested_ctl;
	u64 rsvd1[2];
	u64 event_inj;
	u64 ncr3;
	u64 virt_ext;
	u64 clean;
	u64 next_rip;
	u8 insn_len;
	u8 insn_bytes[15];
	u8 rsvd2[0x400 - 0xe0];
	u8 save_area[0];
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 rsvd3[43];
	u8 cpl;
	u32 rsvd4;
	u64 efer;
	u8 rsvd5[112];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 rsvd6[88];
	u64 rsp;
	u64 rsvd7[3];
	u64 rax, star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 rsvd8[32];
	u64 pat, dbgctl;
	u8 rsvd9[0x1000 - 0x678];
};

static_assert(sizeof(struct vmcb) == 4096, "VMCB layout");

#define VMCB_SAVE_SIZE		0x278	/* up to DBGCTL */
static_assert(__builtin_offsetof(struct vmcb, efer) == 0x4d0, "VMCB layout");
static_assert(__builtin_offsetof(struct vmcb, rsp) == 0x5d8, "VMCB layout");
static_assert(__builtin_offsetof(struct vmcb, pat) == 0x668, "VMCB layout");

/* Bit numbers in intercepts[] */
#define ICPT_CR_WRITE(n)	(16 + (n))
#define ICPT_INTR		96
#define ICPT_NMI		97
#define ICPT_CR0_SEL_WRITE	101
#define ICPT_CPUID		114
#define ICPT_INTN		117
#define ICPT_INVD		118
#define ICPT_HLT		120
#define ICPT_INVLPGA		122
#define ICPT_IOIO		123
#define ICPT_MSR		124
#define ICPT_SHUTDOWN		127
#define ICPT_VMRUN		128
#define ICPT_VMMCALL		129
#define ICPT_VMLOAD		130
#define ICPT_VMSAVE		131
#define ICPT_STGI		132
#define ICPT_CLGI		133
#define ICPT_SKINIT		134
#define ICPT_MONITOR		138
#define ICPT_MWAIT		139
#define ICPT_XSETBV		141

#define EXIT_CR_WRITE(n)	(0x10 + (n))
#define EXIT_EXCEPTION(v)	(0x40 + (v))
#define EXIT_INTR		0x60
#define EXIT_NMI		0x61
#define EXIT_CR0_SEL_WRITE	0x65
#define EXIT_CPUID		0x72
#define EXIT_INTN		0x75
#define EXIT_INVD		0x76
#define EXIT_HLT		0x78
#define EXIT_INVLPGA		0x7a
#define EXIT_IOIO		0x7b
#define EXIT_MSR		0x7c
#define EXIT_SHUTDOWN		0x7f
#define EXIT_VMRUN		0x80
#define EXIT_VMMCALL		0x81
#define EXIT_SKINIT		0x86
#define EXIT_MONITOR		0x8a
#define EXIT_MWAIT		0x8b
#define EXIT_XSETBV		0x8d
#define EXIT_NPF		0x400
#define EXIT_INVALID_STATE	0xffffffffu

#define V_INTR_MASKING		BIT_ULL(24)
#define TLB_FLUSH_ALL		1

#define EVENT_VALID		BIT_ULL(31)
#define EVENT_ERROR_CODE	BIT_ULL(11)
#define EVENT_NMI		(2ull << 8)	/* 0: an interrupt */
#define EVENT_EXCEPTION		(3ull << 8)
#define EVENT_SOFTWARE		(4ull << 8)
#define EVENT_TYPE		(7ull << 8)

#define NPF_WRITE		BIT_ULL(1)
#define NPF_FETCH		BIT_ULL(4)
#define NPF_TABLE_WALK		BIT_ULL(33)

#endif /* __ASSEMBLER__ */
#endif
