/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The Hyper-V ABI this hypervisor speaks: names and numbers of the TLFS and of
 * the kernel's include/hyperv headers.
 */
#ifndef NR_ABI_H
#define NR_ABI_H

#define HV_STATUS_SUCCESS			0x00
#define HV_STATUS_INVALID_HYPERCALL_CODE	0x02
#define HV_STATUS_INVALID_HYPERCALL_INPUT	0x03
#define HV_STATUS_INVALID_ALIGNMENT		0x04
#define HV_STATUS_INVALID_PARAMETER		0x05
#define HV_STATUS_ACCESS_DENIED			0x06
#define HV_STATUS_INVALID_PARTITION_STATE	0x07
#define HV_STATUS_OPERATION_DENIED		0x08
#define HV_STATUS_UNKNOWN_PROPERTY		0x09
#define HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE	0x0a
#define HV_STATUS_INSUFFICIENT_MEMORY		0x0b
#define HV_STATUS_INVALID_PARTITION_ID		0x0d
#define HV_STATUS_INVALID_VP_INDEX		0x0e
#define HV_STATUS_INSUFFICIENT_BUFFERS		0x13
#define HV_STATUS_INVALID_VP_STATE		0x15
#define HV_STATUS_NO_RESOURCES			0x1d
#define HV_STATUS_INVALID_LP_INDEX		0x41
#define HV_STATUS_INVALID_REGISTER_VALUE	0x50

#define HV_PARTITION_ID_SELF	(~0ull)

#define HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE	0x02
#define HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST	0x03
#define HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME	0x04
#define HVCALL_NOTIFY_LONG_SPIN_WAIT		0x08
#define HVCALL_CREATE_PARTITION			0x40
#define HVCALL_INITIALIZE_PARTITION		0x41
#define HVCALL_FINALIZE_PARTITION		0x42
#define HVCALL_DELETE_PARTITION			0x43
#define HVCALL_GET_PARTITION_PROPERTY		0x44
#define HVCALL_SET_PARTITION_PROPERTY		0x45
#define HVCALL_GET_PARTITION_ID			0x46
#define HVCALL_DEPOSIT_MEMORY			0x48
#define HVCALL_WITHDRAW_MEMORY			0x49
#define HVCALL_MAP_GPA_PAGES			0x4b
#define HVCALL_UNMAP_GPA_PAGES			0x4c
#define HVCALL_INSTALL_INTERCEPT		0x4d
#define HVCALL_CREATE_VP			0x4e
#define HVCALL_DELETE_VP			0x4f
#define HVCALL_GET_VP_REGISTERS			0x50
#define HVCALL_SET_VP_REGISTERS			0x51
#define HVCALL_TRANSLATE_VIRTUAL_ADDRESS	0x52
#define HVCALL_MAP_STATS_PAGE			0x6c
#define HVCALL_UNMAP_STATS_PAGE			0x6d
#define HVCALL_SET_SYSTEM_PROPERTY		0x6f
#define HVCALL_ADD_LOGICAL_PROCESSOR		0x76
#define HVCALL_GET_SYSTEM_PROPERTY		0x7b
#define HVCALL_MAP_DEVICE_INTERRUPT		0x7c
#define HVCALL_UNMAP_DEVICE_INTERRUPT		0x7d
#define HVCALL_ENTER_SLEEP_STATE		0x84
#define HVCALL_NOTIFY_PARTITION_EVENT		0x87
#define HVCALL_REGISTER_INTERCEPT_RESULT	0x91
#define HVCALL_SIGNAL_EVENT_DIRECT		0xc0
#define HVCALL_POST_MESSAGE_DIRECT		0xc1
#define HVCALL_DISPATCH_VP			0xc2
#define HVCALL_GET_GPA_PAGES_ACCESS_STATES	0xc9
#define HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS	0xd7
#define HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS	0xd8
#define HVCALL_MAP_VP_STATE_PAGE		0xe1
#define HVCALL_UNMAP_VP_STATE_PAGE		0xe2
#define HVCALL_GET_VP_STATE			0xe3
#define HVCALL_SET_VP_STATE			0xe4
#define HVCALL_GET_PARTITION_PROPERTY_EX	0x101
#define HVCALL_COUNT				0x110

/* Hypercall control word */
#define HVC_CODE(c)		((u16)(c))
#define HVC_FAST		BIT_ULL(16)
#define HVC_VARHEAD(c)		(((c) >> 17) & 0x3ff)
#define HVC_REP_COUNT(c)	(((c) >> 32) & 0xfff)
#define HVC_REP_START(c)	(((c) >> 48) & 0xfff)
#define HVC_RESERVED		0xf000f000f8000000ull
#define HVC_COMPLETED(n)	((u64)(n) << 32)

#define MSR_HV_GUEST_OS_ID	0x40000000
#define MSR_HV_HYPERCALL	0x40000001
#define MSR_HV_VP_INDEX		0x40000002
#define MSR_HV_TIME_REF_COUNT	0x40000020
#define MSR_HV_REFERENCE_TSC	0x40000021
#define MSR_HV_TSC_FREQUENCY	0x40000022
#define MSR_HV_APIC_FREQUENCY	0x40000023
#define MSR_HV_VP_ASSIST_PAGE	0x40000073
#define MSR_HV_SCONTROL		0x40000080
#define MSR_HV_SVERSION		0x40000081
#define MSR_HV_SIEFP		0x40000082
#define MSR_HV_SIMP		0x40000083
#define MSR_HV_EOM		0x40000084
#define MSR_HV_SIRBP		0x40000085
#define MSR_HV_SINT0		0x40000090
#define HV_SINT_COUNT		16
#define HV_SINT_MASKED		BIT_ULL(16)
#define HV_EVENT_FLAGS_COUNT	2048

#define HV_MAP_GPA_READABLE	0x1
#define HV_MAP_GPA_WRITABLE	0x2
#define HV_MAP_GPA_EXECUTABLE	0xc
#define HV_MAP_GPA_PERMISSIONS	0xf
#define HV_MAP_GPA_ADJUSTABLE	0x8000
#define HV_MAP_GPA_NO_ACCESS	0x10000
#define HV_MAP_GPA_NOT_CACHED	0x200000
#define HV_MAP_GPA_LARGE_PAGE	0x80000000u
#define HV_UNMAP_GPA_LARGE_PAGE	0x2

#define HV_PARTITION_ISOLATION_TYPE_NONE	0
#define HV_PARTITION_ISOLATION_TYPE_SNP		2

#define HVMSG_UNMAPPED_GPA			0x80000000u
#define HVMSG_GPA_INTERCEPT			0x80000001u
#define HVMSG_INVALID_VP_REGISTER_VALUE		0x80000020u
#define HVMSG_UNRECOVERABLE_EXCEPTION		0x80000021u
#define HVMSG_OPAQUE_INTERCEPT			0x8000003fu
#define HVMSG_HYPERCALL_INTERCEPT		0x80000050u
#define HVMSG_SCHEDULER_VP_SIGNAL_PAIR		0x80000101u
#define HVMSG_X64_IO_PORT_INTERCEPT		0x80010000u
#define HVMSG_X64_MSR_INTERCEPT			0x80010001u
#define HVMSG_X64_CPUID_INTERCEPT		0x80010002u
#define HVMSG_X64_EXCEPTION_INTERCEPT		0x80010003u
#define HVMSG_X64_HALT				0x80010007u

#define HV_INTERCEPT_ACCESS_READ	0
#define HV_INTERCEPT_ACCESS_WRITE	1
#define HV_INTERCEPT_ACCESS_EXECUTE	2

#define HV_INTERCEPT_TYPE_X64_IO_PORT	0
#define HV_INTERCEPT_TYPE_X64_MSR	1
#define HV_INTERCEPT_TYPE_X64_CPUID	2
#define HV_INTERCEPT_TYPE_EXCEPTION	3
#define HV_INTERCEPT_TYPE_HYPERCALL	8

#define HV_VP_STATE_PAGE_REGISTERS		0
#define HV_VP_STATE_PAGE_INTERCEPT_MESSAGE	1

#define HV_STATS_OBJECT_HYPERVISOR		1
#define HV_STATS_OBJECT_LOGICAL_PROCESSOR	2
#define HV_STATS_OBJECT_PARTITION		0x10001
#define HV_STATS_OBJECT_VP			0x10002
#define HV_STATS_VP_DISPATCH_BLOCKED		201

#define HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND	0x1
#define HV_DISPATCH_FLAGS			0x7f
#define HV_DISPATCH_STATE_BLOCKED		1
#define HV_DISPATCH_STATE_READY			2
#define HV_DISPATCH_EVENT_NONE			0
#define HV_DISPATCH_EVENT_SUSPEND		1
#define HV_DISPATCH_EVENT_INTERCEPT		2

#define HV_SPA_MAKE_EXCLUSIVE	0x1
#define HV_SPA_MAKE_SHARED	0x2
#define HV_SPA_LARGE_PAGE	0x4

struct hv_segment {
	u64 base;
	u32 limit;
	u16 selector;
	u16 attributes;
} __packed;

struct hv_table {
	u16 pad[3];
	u16 limit;
	u64 base;
} __packed;

union hv_value {
	u64 q[2];
	struct hv_segment segment;
	struct hv_table table;
};

struct hv_message {
	u32 type;
	u8 payload_size;
	u8 flags;		/* bit 0: another message is pending */
	u16 rsvd;
	u64 sender;
	u8 payload[240];
} __packed;

/* The header every intercept message begins with. */
struct hv_intercept_header {
	u32 vp_index;
	u8 instruction_length:4;
	u8 cr8:4;
	u8 access_type;
	u16 execution_state;
	struct hv_segment cs;
	u64 rip;
	u64 rflags;
} __packed;

struct hv_memory_message {
	struct hv_intercept_header header;
	u32 cache_type;
	u8 instruction_byte_count;
	u8 access_info;		/* bit 0: GVA valid, bit 1: GVA-GPA valid */
	u8 tpr_priority;
	u8 rsvd;
	u64 gva;
	u64 gpa;
	u8 instruction_bytes[16];
} __packed;

struct hv_io_port_message {
	struct hv_intercept_header header;
	u16 port;
	u8 access_info;		/* bits 0-2 size, 3 string, 4 rep */
	u8 instruction_byte_count;
	u32 rsvd;
	u64 rax;
	u8 instruction_bytes[16];
	struct hv_segment ds, es;
	u64 rcx, rsi, rdi;
} __packed;

struct hv_msr_message {
	struct hv_intercept_header header;
	u32 msr;
	u32 rsvd;
	u64 rdx, rax;
} __packed;

struct hv_cpuid_message {
	struct hv_intercept_header header;
	u64 rax, rcx, rdx, rbx;
	u64 default_rax, default_rcx, default_rdx, default_rbx;
} __packed;

struct hv_exception_message {
	struct hv_intercept_header header;
	u16 vector;
	u8 info;		/* bit 0: error code valid, bit 1: software */
	u8 instruction_byte_count;
	u32 error_code;
	u64 parameter;
	u64 rsvd;
	u8 instruction_bytes[16];
	struct hv_segment ds, ss;
	u64 gpr[16];
} __packed;

struct hv_hypercall_message {
	struct hv_intercept_header header;
	u64 rax, rbx, rcx, rdx, r8, rsi, rdi;
	u64 rsvd;
	u64 xmm[12];
} __packed;

struct hv_register_page {
	u16 version;
	u8 isvalid;
	u8 rsvd;
	u32 dirty;
	u64 gpr[16];
	u64 rip;
	u64 rflags;
	u64 xmm[12];
	struct hv_segment segment[6];	/* ES CS SS DS FS GS */
	u64 cr0, cr3, cr4, cr8, efer, dr7;
	u64 pending_interruption;
	u64 interrupt_state;
	u64 instruction_emulation_hints;
	u64 xfem;
	u8 rsvd1[0x100];
	u64 interrupt_vectors;
} __packed;

#define HV_REGPAGE_GENERAL	BIT(0)
#define HV_REGPAGE_IP		BIT(1)
#define HV_REGPAGE_XMM		BIT(2)
#define HV_REGPAGE_SEGMENT	BIT(3)
#define HV_REGPAGE_FLAGS	BIT(4)

#endif
