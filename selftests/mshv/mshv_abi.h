/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of the hypervisor's ABI that a VMM sees through /dev/mshv: hypercalls
 * passed through by MSHV_ROOT_HVCALL, VP registers, state pages and intercept
 * messages. <linux/mshv.h> leaves these to "the relevant hypervisor
 * definitions"; names are those of the specification and of include/hyperv.
 */
#ifndef SELFTESTS_MSHV_ABI_H
#define SELFTESTS_MSHV_ABI_H

#include <assert.h>

#include "mshv_types.h"

#define HVCALL_CREATE_PARTITION			0x0040
#define HVCALL_INITIALIZE_PARTITION		0x0041
#define HVCALL_FINALIZE_PARTITION		0x0042
#define HVCALL_DELETE_PARTITION			0x0043
#define HVCALL_GET_PARTITION_PROPERTY		0x0044
#define HVCALL_SET_PARTITION_PROPERTY		0x0045
#define HVCALL_DEPOSIT_MEMORY			0x0048
#define HVCALL_WITHDRAW_MEMORY			0x0049
#define HVCALL_MAP_GPA_PAGES			0x004b
#define HVCALL_UNMAP_GPA_PAGES			0x004c
#define HVCALL_INSTALL_INTERCEPT		0x004d
#define HVCALL_CREATE_VP			0x004e
#define HVCALL_DELETE_VP			0x004f
#define HVCALL_GET_VP_REGISTERS			0x0050
#define HVCALL_SET_VP_REGISTERS			0x0051
#define HVCALL_TRANSLATE_VIRTUAL_ADDRESS	0x0052
#define HVCALL_MAP_STATS_PAGE			0x006c
#define HVCALL_UNMAP_STATS_PAGE			0x006d
#define HVCALL_DISPATCH_VP			0x00c2
#define HVCALL_GET_GPA_PAGES_ACCESS_STATES	0x00c9
#define HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS	0x00d7
#define HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS	0x00d8
#define HVCALL_MAP_VP_STATE_PAGE		0x00e1
#define HVCALL_UNMAP_VP_STATE_PAGE		0x00e2
#define HVCALL_GET_VP_STATE			0x00e3
#define HVCALL_SET_VP_STATE			0x00e4

#define HV_STATUS_SUCCESS			0x00
#define HV_STATUS_INVALID_PARAMETER		0x05
#define HV_STATUS_ACCESS_DENIED			0x06
#define HV_STATUS_INVALID_PARTITION_STATE	0x07
#define HV_STATUS_OPERATION_DENIED		0x08
#define HV_STATUS_INSUFFICIENT_MEMORY		0x0b
#define HV_STATUS_INVALID_VP_INDEX		0x0e
#define HV_STATUS_OBJECT_IN_USE			0x19
#define HV_STATUS_NO_RESOURCES			0x1d
#define HV_STATUS_TIME_OUT			0x78

/* VP registers */
#define HV_REGISTER_EXPLICIT_SUSPEND		0x00000000
#define HV_REGISTER_INTERCEPT_SUSPEND		0x00000001
#define HV_X64_REGISTER_RAX			0x00020000
#define HV_X64_REGISTER_RCX			0x00020001
#define HV_X64_REGISTER_RDX			0x00020002
#define HV_X64_REGISTER_RBX			0x00020003
#define HV_X64_REGISTER_RSP			0x00020004
#define HV_X64_REGISTER_RBP			0x00020005
#define HV_X64_REGISTER_RSI			0x00020006
#define HV_X64_REGISTER_RDI			0x00020007
#define HV_X64_REGISTER_R8			0x00020008
#define HV_X64_REGISTER_R15			0x0002000f
#define HV_X64_REGISTER_RIP			0x00020010
#define HV_X64_REGISTER_RFLAGS			0x00020011
#define HV_X64_REGISTER_XMM0			0x00030000
#define HV_X64_REGISTER_CR0			0x00040000
#define HV_X64_REGISTER_CR2			0x00040001
#define HV_X64_REGISTER_CR3			0x00040002
#define HV_X64_REGISTER_CR4			0x00040003
#define HV_X64_REGISTER_CR8			0x00040004
#define HV_X64_REGISTER_XFEM			0x00040005
#define HV_X64_REGISTER_DR0			0x00050000
#define HV_X64_REGISTER_DR6			0x00050004
#define HV_X64_REGISTER_DR7			0x00050005
#define HV_X64_REGISTER_ES			0x00060000
#define HV_X64_REGISTER_CS			0x00060001
#define HV_X64_REGISTER_SS			0x00060002
#define HV_X64_REGISTER_DS			0x00060003
#define HV_X64_REGISTER_FS			0x00060004
#define HV_X64_REGISTER_GS			0x00060005
#define HV_X64_REGISTER_LDTR			0x00060006
#define HV_X64_REGISTER_TR			0x00060007
#define HV_X64_REGISTER_IDTR			0x00070000
#define HV_X64_REGISTER_GDTR			0x00070001
#define HV_X64_REGISTER_TSC			0x00080000
#define HV_X64_REGISTER_EFER			0x00080001
#define HV_X64_REGISTER_KERNEL_GS_BASE		0x00080002
#define HV_X64_REGISTER_APIC_BASE		0x00080003
#define HV_X64_REGISTER_PAT			0x00080004
#define HV_X64_REGISTER_SYSENTER_CS		0x00080005
#define HV_X64_REGISTER_SYSENTER_EIP		0x00080006
#define HV_X64_REGISTER_SYSENTER_ESP		0x00080007
#define HV_X64_REGISTER_STAR			0x00080008
#define HV_X64_REGISTER_LSTAR			0x00080009
#define HV_X64_REGISTER_CSTAR			0x0008000a
#define HV_X64_REGISTER_SFMASK			0x0008000b

struct hv_u128 {
	u64 low_part;
	u64 high_part;
} __packed;

struct hv_x64_segment_register {
	u64 base;
	u32 limit;
	u16 selector;
	u16 attributes;
} __packed;

struct hv_x64_table_register {
	u16 pad[3];
	u16 limit;
	u64 base;
} __packed;

union hv_register_value {
	struct hv_u128 reg128;
	u64 reg64;
	struct hv_x64_segment_register segment;
	struct hv_x64_table_register table;
} __packed;

struct hv_register_assoc {
	u32 name;
	u32 reserved1;
	u64 reserved2;
	union hv_register_value value;
} __packed;

struct hv_input_get_vp_registers {
	u64 partition_id;
	u32 vp_index;
	u8 input_vtl;
	u8 rsvd_z8;
	u16 rsvd_z16;
	u32 names[];
} __packed;

struct hv_input_set_vp_registers {
	u64 partition_id;
	u32 vp_index;
	u8 input_vtl;
	u8 rsvd_z8;
	u16 rsvd_z16;
	struct hv_register_assoc elements[];
} __packed;

/* Register page, classes of its dirty mask */
#define HV_X64_REGISTER_CLASS_GENERAL	0
#define HV_X64_REGISTER_CLASS_IP	1
#define HV_X64_REGISTER_CLASS_XMM	2
#define HV_X64_REGISTER_CLASS_SEGMENT	3
#define HV_X64_REGISTER_CLASS_FLAGS	4

#define HV_VP_REGISTER_PAGE_VERSION_1	1

enum { GP_RAX, GP_RCX, GP_RDX, GP_RBX, GP_RSP, GP_RBP, GP_RSI, GP_RDI };

struct hv_vp_register_page {
	u16 version;
	u8 isvalid;
	u8 rsvdz;
	u32 dirty;
	u64 gp_registers[16];
	u64 rip;
	u64 rflags;
	struct hv_u128 xmm_registers[6];
	/* ES, CS, SS, DS, FS, GS */
	struct hv_x64_segment_register segment_registers[6];
	u64 cr0;
	u64 cr3;
	u64 cr4;
	u64 cr8;
	u64 efer;
	u64 dr7;
	u64 pending_interruption;
	u64 interrupt_state;
	u64 instruction_emulation_hints;
	u64 xfem;
} __packed;

/* HVCALL_INSTALL_INTERCEPT */
#define HV_INTERCEPT_ACCESS_MASK_READ		1
#define HV_INTERCEPT_ACCESS_MASK_WRITE		2
#define HV_INTERCEPT_ACCESS_MASK_EXECUTE	4

#define HV_INTERCEPT_TYPE_X64_IO_PORT		0
#define HV_INTERCEPT_TYPE_X64_MSR		1
#define HV_INTERCEPT_TYPE_X64_CPUID		2
#define HV_INTERCEPT_TYPE_EXCEPTION		3

struct hv_input_install_intercept {
	u64 partition_id;
	u32 access_type;
	u32 intercept_type;
	u64 intercept_parameter;
} __packed;

/* HVCALL_TRANSLATE_VIRTUAL_ADDRESS */
#define HV_TRANSLATE_GVA_VALIDATE_READ		0x1
#define HV_TRANSLATE_GVA_VALIDATE_WRITE		0x2
#define HV_TRANSLATE_GVA_VALIDATE_EXECUTE	0x4

#define HV_TRANSLATE_GVA_SUCCESS		0
#define HV_TRANSLATE_GVA_PAGE_NOT_PRESENT	1
#define HV_TRANSLATE_GVA_PRIVILEGE_VIOLATION	2
#define HV_TRANSLATE_GVA_INVALID_PAGE_TABLE_FLAGS	3
#define HV_TRANSLATE_GVA_GPA_UNMAPPED		4

struct hv_input_translate_virtual_address {
	u64 partition_id;
	u32 vp_index;
	u32 padding;
	u64 control_flags;
	u64 gva_page;
} __packed;

struct hv_output_translate_virtual_address {
	u32 result_code;
	u32 cache_type_and_flags;
	u64 gpa_page;
} __packed;

/* HVCALL_SET_PARTITION_PROPERTY */
#define HV_PARTITION_PROPERTY_GPA_PAGE_ACCESS_TRACKING	0x00050005

struct hv_input_get_partition_property {
	u64 partition_id;
	u32 property_code;
	u32 padding;
} __packed;

struct hv_input_set_partition_property {
	u64 partition_id;
	u32 property_code;
	u32 padding;
	u64 property_value;
} __packed;

/* Intercept messages */
#define HVMSG_NONE				0x00000000
#define HVMSG_UNMAPPED_GPA			0x80000000
#define HVMSG_GPA_INTERCEPT			0x80000001
#define HVMSG_UNRECOVERABLE_EXCEPTION		0x80000021
#define HVMSG_X64_IO_PORT_INTERCEPT		0x80010000
#define HVMSG_X64_MSR_INTERCEPT			0x80010001
#define HVMSG_X64_CPUID_INTERCEPT		0x80010002
#define HVMSG_X64_EXCEPTION_INTERCEPT		0x80010003
#define HVMSG_X64_HALT				0x80010007

#define HV_INTERCEPT_ACCESS_READ		0
#define HV_INTERCEPT_ACCESS_WRITE		1
#define HV_INTERCEPT_ACCESS_EXECUTE		2

struct hv_message_header {
	u32 message_type;
	u8 payload_size;
	u8 message_flags;
	u8 reserved[2];
	u64 sender;
} __packed;

/* Bits of execution_state */
#define HV_X64_EXEC_CPL(_es)		((_es) & 3)
#define HV_X64_EXEC_CR0_PE		BIT(2)
#define HV_X64_EXEC_CR0_AM		BIT(3)
#define HV_X64_EXEC_EFER_LMA		BIT(4)
#define HV_X64_EXEC_DEBUG_ACTIVE	BIT(5)
#define HV_X64_EXEC_INTERRUPTION_PENDING	BIT(6)

#define HV_X64_INSTRUCTION_LENGTH(_h)	((_h).instruction_length_cr8 & 0xf)
#define HV_X64_CR8(_h)			((_h).instruction_length_cr8 >> 4)

struct hv_x64_intercept_message_header {
	u32 vp_index;
	u8 instruction_length_cr8;
	u8 intercept_access_type;
	u16 execution_state;
	struct hv_x64_segment_register cs_segment;
	u64 rip;
	u64 rflags;
} __packed;

#define HV_MEMORY_ACCESS_GVA_VALID	BIT(0)
#define HV_MEMORY_ACCESS_GVA_GPA_VALID	BIT(1)

struct hv_x64_memory_intercept_message {
	struct hv_x64_intercept_message_header header;
	u32 cache_type;
	u8 instruction_byte_count;
	u8 memory_access_info;
	u8 tpr_priority;
	u8 reserved1;
	u64 guest_virtual_address;
	u64 guest_physical_address;
	u8 instruction_bytes[16];
} __packed;

#define HV_X64_IO_SIZE(_info)		((_info) & 7)
#define HV_X64_IO_STRING		BIT(3)
#define HV_X64_IO_REP			BIT(4)

struct hv_x64_io_port_intercept_message {
	struct hv_x64_intercept_message_header header;
	u16 port_number;
	u8 access_info;
	u8 instruction_byte_count;
	u32 reserved;
	u64 rax;
	u8 instruction_bytes[16];
	struct hv_x64_segment_register ds_segment;
	struct hv_x64_segment_register es_segment;
	u64 rcx;
	u64 rsi;
	u64 rdi;
} __packed;

struct hv_x64_msr_intercept_message {
	struct hv_x64_intercept_message_header header;
	u32 msr_number;
	u32 reserved;
	u64 rdx;
	u64 rax;
} __packed;

struct hv_x64_cpuid_intercept_message {
	struct hv_x64_intercept_message_header header;
	u64 rax;
	u64 rcx;
	u64 rdx;
	u64 rbx;
	u64 default_result_rax;
	u64 default_result_rcx;
	u64 default_result_rdx;
	u64 default_result_rbx;
} __packed;

#define HV_X64_EXCEPTION_ERROR_CODE_VALID	BIT(0)
#define HV_X64_EXCEPTION_SOFTWARE		BIT(1)

struct hv_x64_exception_intercept_message {
	struct hv_x64_intercept_message_header header;
	u16 exception_vector;
	u8 exception_info;
	u8 instruction_byte_count;
	u32 error_code;
	u64 exception_parameter;
	u64 reserved;
	u8 instruction_bytes[16];
	struct hv_x64_segment_register ds_segment;
	struct hv_x64_segment_register ss_segment;
	/* In the order of the register numbers */
	u64 gp_registers[16];
} __packed;

struct hv_message {
	struct hv_message_header header;
	union {
		u8 payload[240];
		struct hv_x64_intercept_message_header intercept;
		struct hv_x64_memory_intercept_message memory;
		struct hv_x64_io_port_intercept_message io_port;
		struct hv_x64_msr_intercept_message msr;
		struct hv_x64_cpuid_intercept_message cpuid;
		struct hv_x64_exception_intercept_message exception;
	};
} __packed;

static_assert(sizeof(struct hv_message) == 256, "size of a message");

#endif /* SELFTESTS_MSHV_ABI_H */
