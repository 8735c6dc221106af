// SPDX-License-Identifier: GPL-2.0
/*
 * Intercept messages: one test for each type, with every field of the message.
 */
#include "../kselftest_harness.h"
#include "mshv_util.h"

#define NR_PAGES	4UL
#define SIZE		(NR_PAGES * PAGE_SIZE)

#define RFLAGS		0x2		/* of a guest that starts */
#define TEST_CR8	9

#define INTERCEPT_FIXTURE \
	struct mshv_pt pt; \
	struct mshv_vp *vp; \
	struct hv_message *msg; \
	u8 *mem

FIXTURE(intercept)
{
	INTERCEPT_FIXTURE;
};

FIXTURE_SETUP(intercept)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc(BACKING_ANON, SIZE);
	ASSERT_NE(NULL, self->mem);
	/* The VP with a number that is not 0 */
	test_pt_setup(&self->pt, 3);
	self->vp = &self->pt.vp[2];
	self->msg = &self->vp->msg;
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR8, TEST_CR8));
}

FIXTURE_TEARDOWN(intercept)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

/* What is in the header of every message; 0 as length if it is not known */
static void expect_header(struct __test_metadata *_metadata,
			  const struct hv_message *msg, u32 type,
			  u8 access, u64 rip, unsigned int length)
{
	const struct hv_x64_intercept_message_header *header = &msg->intercept;
	const unsigned int state = header->execution_state;

	EXPECT_EQ(type, msg->header.message_type);
	EXPECT_LE(sizeof(*header), msg->header.payload_size);
	EXPECT_GE(240, msg->header.payload_size);
	EXPECT_EQ(0, msg->header.message_flags);
	EXPECT_EQ(2, header->vp_index);
	EXPECT_EQ(TEST_CR8, HV_X64_CR8(*header));
	EXPECT_EQ(access, header->intercept_access_type);
	EXPECT_EQ(0, HV_X64_EXEC_CPL(state));
	EXPECT_EQ(HV_X64_EXEC_CR0_PE | HV_X64_EXEC_EFER_LMA, state & ~3);
	EXPECT_EQ(GUEST_CS, header->cs_segment.selector);
	EXPECT_EQ(0xa09b, header->cs_segment.attributes);
	EXPECT_EQ(0, header->cs_segment.base);
	EXPECT_EQ(~0U, header->cs_segment.limit);
	EXPECT_EQ(rip, header->rip);
	EXPECT_EQ(RFLAGS, header->rflags);
	/* 0 says "not known" */
	if (HV_X64_INSTRUCTION_LENGTH(*header)) {
		EXPECT_EQ(length, HV_X64_INSTRUCTION_LENGTH(*header));
	}
}

/* Instruction bytes are those of @code, if there are any */
static void expect_bytes(struct __test_metadata *_metadata, unsigned int count,
			 const u8 *bytes, const char *code)
{
	EXPECT_GE(16, count);
	EXPECT_EQ(0, memcmp(bytes, code, count > 16 ? 16 : count));
}

static void expect_memory(struct __test_metadata *_metadata,
			  const struct hv_message *msg, u64 gva,
			  u64 gpa, const char *code)
{
	const struct hv_x64_memory_intercept_message *memory = &msg->memory;

	EXPECT_LE(sizeof(*memory) - sizeof(memory->instruction_bytes),
		  msg->header.payload_size);
	/* Not every processor tells the hypervisor; if it is there, it is right */
	if (memory->memory_access_info & HV_MEMORY_ACCESS_GVA_VALID) {
		EXPECT_EQ(gva, memory->guest_virtual_address);
	} else {
		EXPECT_FALSE(memory->memory_access_info &
			     HV_MEMORY_ACCESS_GVA_GPA_VALID);
	}
	EXPECT_EQ(gpa, memory->guest_physical_address);
	EXPECT_EQ(TEST_CR8, memory->tpr_priority);
	expect_bytes(_metadata, memory->instruction_byte_count,
		     memory->instruction_bytes, code);
}

/* Accesses to memory the SLAT does not allow */
FIXTURE(memory)
{
	INTERCEPT_FIXTURE;
};

FIXTURE_VARIANT(memory)
{
	/* Is there a region, read-only? Else nothing is mapped */
	bool region;
	u32 type;
};

FIXTURE_VARIANT_ADD(memory, unmapped) {
	.type = HVMSG_UNMAPPED_GPA,
};

FIXTURE_VARIANT_ADD(memory, read_only) {
	.region = true, .type = HVMSG_GPA_INTERCEPT,
};

FIXTURE_SETUP(memory)
{
	require_mshv();
	intercept_setup(_metadata, (void *)self, NULL);
	if (variant->region) {
		memset(self->mem, 0x90, SIZE);
		test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RO);
	}
}

FIXTURE_TEARDOWN(memory)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

TEST_F(memory, read)
{
	if (variant->region) {
		test_guest_result(0x9090909090909090, self->vp, guest_read,
				  .rdi = TEST_GPA + 0x123);
		return;
	}
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA + 0x123)));
	expect_header(_metadata, self->msg, variant->type,
		      HV_INTERCEPT_ACCESS_READ, GUEST_ADDR(guest_read), 3);
	expect_memory(_metadata, self->msg, TEST_GPA + 0x123, TEST_GPA + 0x123,
		      guest_read);
}

TEST_F(memory, write)
{
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA + 0x1ff8, .rsi = 1)));
	expect_header(_metadata, self->msg, variant->type,
		      HV_INTERCEPT_ACCESS_WRITE, GUEST_ADDR(guest_write), 3);
	expect_memory(_metadata, self->msg, TEST_GPA + 0x1ff8,
		      TEST_GPA + 0x1ff8, guest_write);
}

TEST_F(memory, read_modify_write)
{
	u8 access = HV_INTERCEPT_ACCESS_WRITE;

	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_xadd),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
	/* A write, but one CPU under emulation does the read first */
	if (!variant->region && online_cpus() == 1)
		access = self->msg->intercept.intercept_access_type;
	expect_header(_metadata, self->msg, variant->type, access,
		      GUEST_ADDR(guest_xadd), 5);
	expect_memory(_metadata, self->msg, TEST_GPA, TEST_GPA, guest_xadd);
}

TEST_F(memory, execute)
{
	const u64 rip = TEST_GPA + 0x400;
	const char nops[16] = { [0 ... 15] = (char)0x90 };

	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_exec),
			    GUEST_ARGS(.rdi = rip)));
	expect_header(_metadata, self->msg, variant->type,
		      HV_INTERCEPT_ACCESS_EXECUTE, rip, 0);
	expect_memory(_metadata, self->msg, rip, rip, nops);
}

TEST_F(memory, gva_is_not_the_gpa)
{
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = GUEST_ALIAS + TEST_GPA + 0x2340)));
	expect_header(_metadata, self->msg, variant->type,
		      HV_INTERCEPT_ACCESS_WRITE, GUEST_ADDR(guest_write), 3);
	expect_memory(_metadata, self->msg, GUEST_ALIAS + TEST_GPA + 0x2340,
		      TEST_GPA + 0x2340, guest_write);
}

TEST_F(memory, page_crossing_access_reports_the_lowest_address)
{
	/* The second page of the access is what is not allowed */
	const u64 gpa = TEST_GPA - 4;
	u8 *before;

	before = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	ASSERT_NE(NULL, before);
	test_map(&self->pt, TEST_GFN - 1, before, PAGE_SIZE, MEM_RW);
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = gpa, .rsi = ~0ULL)));
	expect_header(_metadata, self->msg, variant->type,
		      HV_INTERCEPT_ACCESS_WRITE, GUEST_ADDR(guest_write), 3);
	EXPECT_EQ(TEST_GPA, self->msg->memory.guest_physical_address);

	/* Both are: the first one is reported */
	test_unmap(&self->pt, TEST_GFN - 1, before, PAGE_SIZE);
	ASSERT_EQ(HVMSG_UNMAPPED_GPA, mshv_run(self->vp));
	EXPECT_EQ(gpa, self->msg->memory.guest_physical_address);
	mshv_free(before, PAGE_SIZE);
}

TEST_F(memory, user_mode_access_has_cpl_3)
{
	struct hv_register_assoc regs[2] = {
		{ .name = HV_X64_REGISTER_CS }, { .name = HV_X64_REGISTER_SS },
	};

	regs[0].value.segment.selector = GUEST_USER_CS;
	regs[0].value.segment.attributes = 0xa0fb;
	regs[0].value.segment.limit = ~0U;
	regs[1].value.segment.selector = GUEST_USER_DS;
	regs[1].value.segment.attributes = 0xc0f3;
	regs[1].value.segment.limit = ~0U;
	ASSERT_EQ(0, mshv_set_regs(self->vp, regs, 2));
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(3, HV_X64_EXEC_CPL(self->msg->intercept.execution_state));
	EXPECT_EQ(GUEST_USER_CS, self->msg->intercept.cs_segment.selector);
	EXPECT_EQ(0xa0fb, self->msg->intercept.cs_segment.attributes);
	EXPECT_EQ(GUEST_ADDR(guest_write), self->msg->intercept.rip);
}

TEST_F(memory, flags_are_those_of_the_guest)
{
	/* Carry, parity, sign, direction, overflow */
	const u64 rflags = 0xc87;

	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RFLAGS, rflags));
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(rflags, self->msg->intercept.rflags);
}

TEST_F(memory, resumed_access_is_executed_again)
{
	u64 *seen = (void *)(self->mem + 0x20);
	u64 rip;

	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA + 0x20, .rsi = 4711)));
	/* Nothing changed: the same message again */
	ASSERT_EQ(variant->type, mshv_run(self->vp));
	EXPECT_EQ(TEST_GPA + 0x20, self->msg->memory.guest_physical_address);

	if (variant->region)
		test_unmap(&self->pt, TEST_GFN, self->mem, SIZE);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RW);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(4711, READ_ONCE(*seen));
	ASSERT_EQ(0, mshv_get_reg(self->vp, HV_X64_REGISTER_RIP, &rip));
	EXPECT_EQ(GUEST_ADDR(guest_write) + 3, rip);
}

TEST_F(memory, vmm_can_complete_the_access)
{
	ASSERT_EQ(variant->type,
		  guest_run(self->vp, GUEST_ADDR(guest_write),
			    GUEST_ARGS(.rdi = TEST_GPA, .rsi = 1)));
	/* As for a device register: skip the instruction */
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RIP,
				  GUEST_ADDR(guest_write) + 3));
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_NE(1, READ_ONCE(*(u64 *)self->mem));
}

TEST_F(memory, page_tables_there)
{
	long type;

	/* Not one entry is present, in memory that is there */
	if (variant->region)
		memset(self->mem, 0, SIZE);
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR3, TEST_GPA));
	type = guest_run(self->vp, GUEST_ADDR(guest_halt), GUEST_ARGS());
	/*
	 * A processor may take the walk for a write, as it sets accessed bits.
	 * If not, it finds no entry, and no handler for the page fault.
	 */
	if (variant->region && type == HVMSG_UNRECOVERABLE_EXCEPTION)
		return;
	ASSERT_EQ(variant->type, type);
	EXPECT_EQ(TEST_GPA,
		  self->msg->memory.guest_physical_address & ~0xfffULL);
	EXPECT_EQ(GUEST_ADDR(guest_halt), self->msg->intercept.rip);
}

TEST_F(intercept, nothing_but_a_region_without_x_stops_execution)
{
	u8 *mem = self->mem;

	memcpy(mem, guest_exec_page, guest_exec_page_end - guest_exec_page);
	test_map(&self->pt, TEST_GFN, mem, SIZE, MEM_RW);
	ASSERT_EQ(HVMSG_GPA_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_exec),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	expect_header(_metadata, self->msg, HVMSG_GPA_INTERCEPT,
		      HV_INTERCEPT_ACCESS_EXECUTE, TEST_GPA, 0);
	expect_memory(_metadata, self->msg, TEST_GPA, TEST_GPA, guest_exec_page);
	/* Data it may be */
	test_guest(self->vp, guest_write, .rdi = TEST_GPA + 0x800, .rsi = 1);
}

TEST_F(intercept, halt)
{
	ASSERT_EQ(HVMSG_X64_HALT,
		  guest_run(self->vp, GUEST_ADDR(guest_halt), GUEST_ARGS()));
	expect_header(_metadata, self->msg, HVMSG_X64_HALT,
		      self->msg->intercept.intercept_access_type,
		      GUEST_ADDR(guest_halt), 1);
}

/* Port I/O */
FIXTURE(io_port)
{
	INTERCEPT_FIXTURE;
};

FIXTURE_VARIANT(io_port)
{
	const char *command;
	u8 access, size, length, flags;
};

FIXTURE_VARIANT_ADD(io_port, out8) {
	.command = guest_out8, .access = HV_INTERCEPT_ACCESS_WRITE,
	.size = 1, .length = 1,
};

FIXTURE_VARIANT_ADD(io_port, out16) {
	.command = guest_out16, .access = HV_INTERCEPT_ACCESS_WRITE,
	.size = 2, .length = 2,
};

FIXTURE_VARIANT_ADD(io_port, out32) {
	.command = guest_out32, .access = HV_INTERCEPT_ACCESS_WRITE,
	.size = 4, .length = 1,
};

FIXTURE_VARIANT_ADD(io_port, in8) {
	.command = guest_in8, .access = HV_INTERCEPT_ACCESS_READ,
	.size = 1, .length = 1,
};

FIXTURE_VARIANT_ADD(io_port, in16) {
	.command = guest_in16, .access = HV_INTERCEPT_ACCESS_READ,
	.size = 2, .length = 2,
};

FIXTURE_VARIANT_ADD(io_port, in32) {
	.command = guest_in32, .access = HV_INTERCEPT_ACCESS_READ,
	.size = 4, .length = 1,
};

FIXTURE_VARIANT_ADD(io_port, outsb) {
	.command = guest_outsb, .access = HV_INTERCEPT_ACCESS_WRITE,
	.size = 1, .length = 1, .flags = HV_X64_IO_STRING,
};

FIXTURE_VARIANT_ADD(io_port, rep_outsw) {
	.command = guest_rep_outsw,
	.access = HV_INTERCEPT_ACCESS_WRITE, .size = 2, .length = 3,
	.flags = HV_X64_IO_STRING | HV_X64_IO_REP,
};

FIXTURE_VARIANT_ADD(io_port, rep_insb) {
	.command = guest_rep_insb, .access = HV_INTERCEPT_ACCESS_READ,
	.size = 1, .length = 2,
	.flags = HV_X64_IO_STRING | HV_X64_IO_REP,
};

FIXTURE_SETUP(io_port)
{
	require_mshv();
	intercept_setup(_metadata, (void *)self, NULL);
}

FIXTURE_TEARDOWN(io_port)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

TEST_F(io_port, message)
{
	const struct hv_x64_io_port_intercept_message *io = &self->msg->io_port;
	const struct guest_args args = {
		.rax = 0x11223344, .rcx = 5, .rdx = 0x1234,
		.rsi = DATA_GPA, .rdi = DATA_GPA + 0x100,
	};

	ASSERT_EQ(HVMSG_X64_IO_PORT_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(variant->command), args));
	expect_header(_metadata, self->msg, HVMSG_X64_IO_PORT_INTERCEPT,
		      variant->access, GUEST_ADDR(variant->command),
		      variant->length);
	/* The VMM has to skip it, so the length must be there */
	EXPECT_EQ(variant->length, HV_X64_INSTRUCTION_LENGTH(io->header));
	EXPECT_EQ(0x1234, io->port_number);
	EXPECT_EQ(variant->size, HV_X64_IO_SIZE(io->access_info));
	EXPECT_EQ(variant->flags,
		  io->access_info & (HV_X64_IO_STRING | HV_X64_IO_REP));
	EXPECT_EQ(0x11223344, io->rax);
	expect_bytes(_metadata, io->instruction_byte_count,
		     io->instruction_bytes, variant->command);
	if (variant->flags) {
		EXPECT_EQ(5, io->rcx);
		EXPECT_EQ(args.rsi, io->rsi);
		EXPECT_EQ(args.rdi, io->rdi);
		EXPECT_EQ(GUEST_DS, io->ds_segment.selector);
		EXPECT_EQ(GUEST_DS, io->es_segment.selector);
		EXPECT_EQ(0xc093, io->ds_segment.attributes);
	}
}

TEST_F(io_port, vmm_completes_it)
{
	u64 rax;

	ASSERT_EQ(HVMSG_X64_IO_PORT_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(variant->command),
			    GUEST_ARGS(.rdx = 0x80, .rcx = 1, .rsi = DATA_GPA,
				       .rdi = DATA_GPA)));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RAX, 0x5a));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RIP,
				  self->msg->intercept.rip +
				  HV_X64_INSTRUCTION_LENGTH(self->msg->intercept)));
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	ASSERT_EQ(0, mshv_get_reg(self->vp, HV_X64_REGISTER_RAX, &rax));
	EXPECT_EQ(0x5a, rax);
}

TEST_F(intercept, installed_io_port)
{
	ASSERT_EQ(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_READ |
					    HV_INTERCEPT_ACCESS_MASK_WRITE,
					    HV_INTERCEPT_TYPE_X64_IO_PORT, 0x70));
	ASSERT_EQ(HVMSG_X64_IO_PORT_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_out8),
			    GUEST_ARGS(.rdx = 0x70, .rax = 3)));
	EXPECT_EQ(0x70, self->msg->io_port.port_number);
}

TEST_F(intercept, rdmsr)
{
	const struct hv_x64_msr_intercept_message *msr = &self->msg->msr;

	ASSERT_EQ(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_READ |
					    HV_INTERCEPT_ACCESS_MASK_WRITE,
					    HV_INTERCEPT_TYPE_X64_MSR, 0));
	ASSERT_EQ(HVMSG_X64_MSR_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_rdmsr),
			    GUEST_ARGS(.rcx = 0x4b564d00)));
	expect_header(_metadata, self->msg, HVMSG_X64_MSR_INTERCEPT,
		      HV_INTERCEPT_ACCESS_READ, GUEST_ADDR(guest_rdmsr), 2);
	EXPECT_EQ(2, HV_X64_INSTRUCTION_LENGTH(msr->header));
	EXPECT_EQ(0x4b564d00, msr->msr_number);
}

TEST_F(intercept, wrmsr)
{
	const struct hv_x64_msr_intercept_message *msr = &self->msg->msr;

	ASSERT_EQ(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_READ |
					    HV_INTERCEPT_ACCESS_MASK_WRITE,
					    HV_INTERCEPT_TYPE_X64_MSR, 0));
	ASSERT_EQ(HVMSG_X64_MSR_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_wrmsr),
			    GUEST_ARGS(.rcx = 0x4b564d01, .rax = 0x12345678,
				       .rdx = 0x9abcdef0)));
	expect_header(_metadata, self->msg, HVMSG_X64_MSR_INTERCEPT,
		      HV_INTERCEPT_ACCESS_WRITE, GUEST_ADDR(guest_wrmsr), 2);
	EXPECT_EQ(2, HV_X64_INSTRUCTION_LENGTH(msr->header));
	EXPECT_EQ(0x4b564d01, msr->msr_number);
	EXPECT_EQ(0x12345678, msr->rax);
	EXPECT_EQ(0x9abcdef0, msr->rdx);

	/* Skipped by the VMM */
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RIP,
				  GUEST_ADDR(guest_wrmsr) + 2));
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
}

TEST_F(intercept, unknown_msr_without_intercept_is_an_exception)
{
	ASSERT_EQ(HVMSG_UNRECOVERABLE_EXCEPTION,
		  guest_run(self->vp, GUEST_ADDR(guest_rdmsr),
			    GUEST_ARGS(.rcx = 0x4b564d00)));
}

TEST_F(intercept, cpuid)
{
	const struct hv_x64_cpuid_intercept_message *cpuid = &self->msg->cpuid;
	u64 rax, rbx;

	/* Without an intercept the hypervisor answers */
	test_guest(self->vp, guest_cpuid, .rax = 1);
	ASSERT_EQ(0, mshv_get_reg(self->vp, HV_X64_REGISTER_RAX, &rax));
	ASSERT_EQ(0, mshv_get_reg(self->vp, HV_X64_REGISTER_RBX, &rbx));
	EXPECT_NE(1, rax);

	ASSERT_EQ(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_EXECUTE,
					    HV_INTERCEPT_TYPE_X64_CPUID, 1));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RBX, 0xbbbb));
	ASSERT_EQ(HVMSG_X64_CPUID_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(guest_cpuid),
			    GUEST_ARGS(.rax = 1, .rcx = 0x7777, .rdx = 0xdddd)));
	expect_header(_metadata, self->msg, HVMSG_X64_CPUID_INTERCEPT,
		      HV_INTERCEPT_ACCESS_EXECUTE, GUEST_ADDR(guest_cpuid), 2);
	EXPECT_EQ(2, HV_X64_INSTRUCTION_LENGTH(cpuid->header));
	EXPECT_EQ(1, cpuid->rax);
	EXPECT_EQ(0x7777, cpuid->rcx);
	EXPECT_EQ(0xdddd, cpuid->rdx);
	EXPECT_EQ(0xbbbb, cpuid->rbx);
	/* What the hypervisor would have answered */
	EXPECT_EQ(rax, cpuid->default_result_rax);
	EXPECT_EQ(rbx & 0x00ffffff, cpuid->default_result_rbx & 0x00ffffff);

	/* Another leaf is not intercepted */
	test_guest(self->vp, guest_cpuid, .rax = 0);
}

/* Exceptions the VMM wants to know about */
FIXTURE(exception)
{
	INTERCEPT_FIXTURE;
};

FIXTURE_VARIANT(exception)
{
	const char *command;
	u16 vector;
	u64 rdi, parameter;
	bool has_code;
	u32 code;
	u8 length;
};

FIXTURE_VARIANT_ADD(exception, divide) {
	.command = guest_div, .vector = 0, .length = 3,
};

FIXTURE_VARIANT_ADD(exception, breakpoint) {
	.command = guest_int3, .vector = 3, .length = 1,
};

FIXTURE_VARIANT_ADD(exception, undefined) {
	.command = guest_ud2, .vector = 6, .length = 2,
};

/* Not canonical */
FIXTURE_VARIANT_ADD(exception, protection) {
	.command = guest_read, .vector = 13, .length = 3,
	.rdi = 0x8000000000000000, .has_code = true,
};

FIXTURE_VARIANT_ADD(exception, page_fault) {
	.command = guest_write, .vector = 14, .length = 3,
	.rdi = 0x123456789000, .parameter = 0x123456789000,
	.has_code = true, .code = 2,
};

FIXTURE_SETUP(exception)
{
	require_mshv();
	intercept_setup(_metadata, (void *)self, NULL);
	ASSERT_EQ(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_EXECUTE,
					    HV_INTERCEPT_TYPE_EXCEPTION,
					    variant->vector));
}

FIXTURE_TEARDOWN(exception)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

TEST_F(exception, message)
{
	const struct hv_x64_exception_intercept_message *exception;
	u64 rip;
	unsigned int i;

	exception = &self->msg->exception;
	for (i = 8; i < 16; i++) {
		ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RAX + i,
					  3000 + i));
	}
	ASSERT_EQ(HVMSG_X64_EXCEPTION_INTERCEPT,
		  guest_run(self->vp, GUEST_ADDR(variant->command),
			    GUEST_ARGS(.rdi = variant->rdi, .rax = 21,
				       .rdx = 23, .rsi = 26)));
	expect_header(_metadata, self->msg, HVMSG_X64_EXCEPTION_INTERCEPT,
		      HV_INTERCEPT_ACCESS_EXECUTE, GUEST_ADDR(variant->command),
		      variant->length);
	EXPECT_EQ(variant->vector, exception->exception_vector);
	EXPECT_EQ(variant->has_code,
		  !!(exception->exception_info &
		     HV_X64_EXCEPTION_ERROR_CODE_VALID));
	if (variant->has_code) {
		EXPECT_EQ(variant->code, exception->error_code);
	}
	EXPECT_EQ(variant->parameter, exception->exception_parameter);
	expect_bytes(_metadata, exception->instruction_byte_count,
		     exception->instruction_bytes, variant->command);
	EXPECT_EQ(GUEST_DS, exception->ds_segment.selector);
	EXPECT_EQ(GUEST_DS, exception->ss_segment.selector);
	EXPECT_EQ(21, exception->gp_registers[GP_RAX]);
	EXPECT_EQ(23, exception->gp_registers[GP_RDX]);
	EXPECT_EQ(26, exception->gp_registers[GP_RSI]);
	EXPECT_EQ(variant->rdi, exception->gp_registers[GP_RDI]);
	for (i = 8; i < 16; i++) {
		EXPECT_EQ(3000 + i, exception->gp_registers[i]);
	}

	/* The exception is not delivered to the guest; the VMM moves on */
	ASSERT_EQ(0, mshv_get_reg(self->vp, HV_X64_REGISTER_RIP, &rip));
	EXPECT_EQ(GUEST_ADDR(variant->command), rip);
	test_guest(self->vp, guest_halt);
}

TEST_F(exception, other_exceptions_are_not_intercepted)
{
	const bool undefined = variant->vector != 6;
	long type;

	type = guest_run(self->vp, undefined ? GUEST_ADDR(guest_ud2) :
					       GUEST_ADDR(guest_div),
			 GUEST_ARGS());
	if (variant->vector == 13) {
		/* Delivery of #UD, without a descriptor table, is a #GP */
		ASSERT_EQ(HVMSG_X64_EXCEPTION_INTERCEPT, type);
		EXPECT_EQ(13, self->msg->exception.exception_vector);
		EXPECT_EQ(6 * 8 + 2, self->msg->exception.error_code);
	} else {
		ASSERT_EQ(HVMSG_UNRECOVERABLE_EXCEPTION, type);
	}
}

TEST_F(intercept, triple_fault)
{
	ASSERT_EQ(HVMSG_UNRECOVERABLE_EXCEPTION,
		  guest_run(self->vp, GUEST_ADDR(guest_ud2), GUEST_ARGS()));
	expect_header(_metadata, self->msg, HVMSG_UNRECOVERABLE_EXCEPTION,
		      self->msg->intercept.intercept_access_type,
		      GUEST_ADDR(guest_ud2), 0);
}

TEST_F(intercept, every_vp_gets_its_own)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		struct mshv_vp *vp = &self->pt.vp[i];

		ASSERT_EQ(HVMSG_UNMAPPED_GPA,
			  guest_run(vp, GUEST_ADDR(guest_read),
				    GUEST_ARGS(.rdi = TEST_GPA + i * PAGE_SIZE)));
	}
	for (i = 0; i < 3; i++) {
		const struct hv_message *msg = self->pt.vp[i].msg_page;

		EXPECT_EQ(i, msg->intercept.vp_index);
		EXPECT_EQ(TEST_GPA + i * PAGE_SIZE,
			  msg->memory.guest_physical_address);
	}
}

TEST_F(intercept, install_refuses_nonsense)
{
	EXPECT_GT(0, mshv_install_intercept(&self->pt,
					    HV_INTERCEPT_ACCESS_MASK_EXECUTE,
					    0x1234, 0));
	EXPECT_GT(0, mshv_install_intercept(&self->pt, 0x80,
					    HV_INTERCEPT_TYPE_X64_CPUID, 1));
}

/* Guest virtual addresses, translated for the VMM */

static void expect_translation(struct __test_metadata *_metadata,
			       struct mshv_vp *vp, u64 gva, u64 flags,
			       u32 code, u64 gpa)
{
	struct hv_output_translate_virtual_address result;

	ASSERT_EQ(0, mshv_translate_gva(vp, gva, flags, &result)) {
		TH_LOG("GVA %#llx", (unsigned long long)gva);
	}
	EXPECT_EQ(code, result.result_code) {
		TH_LOG("GVA %#llx", (unsigned long long)gva);
	}
	if (code == HV_TRANSLATE_GVA_SUCCESS) {
		EXPECT_EQ(gpa >> PAGE_SHIFT, result.gpa_page);
	}
}

TEST_F(intercept, translate_mapped_addresses)
{
	const u64 rwx = HV_TRANSLATE_GVA_VALIDATE_READ |
			     HV_TRANSLATE_GVA_VALIDATE_WRITE |
			     HV_TRANSLATE_GVA_VALIDATE_EXECUTE;

	require_feature(FEATURE_POPULATED);
	memset(self->mem, 0, SIZE);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	expect_translation(_metadata, self->vp, TEST_GPA, rwx,
			   HV_TRANSLATE_GVA_SUCCESS, TEST_GPA);
	expect_translation(_metadata, self->vp, TEST_GPA + 2 * PAGE_SIZE, rwx,
			   HV_TRANSLATE_GVA_SUCCESS, TEST_GPA + 2 * PAGE_SIZE);
	expect_translation(_metadata, self->vp, GUEST_ALIAS + TEST_GPA, rwx,
			   HV_TRANSLATE_GVA_SUCCESS, TEST_GPA);
	expect_translation(_metadata, self->vp, GUEST_ALIAS + DATA_GPA, 0,
			   HV_TRANSLATE_GVA_SUCCESS, DATA_GPA);
}

TEST_F(intercept, translate_address_without_page)
{
	require_feature(FEATURE_POPULATED);
	expect_translation(_metadata, self->vp, GUEST_GPA_LIMIT,
			   HV_TRANSLATE_GVA_VALIDATE_READ,
			   HV_TRANSLATE_GVA_PAGE_NOT_PRESENT, 0);
	expect_translation(_metadata, self->vp, 0xffff800000000000,
			   HV_TRANSLATE_GVA_VALIDATE_READ,
			   HV_TRANSLATE_GVA_PAGE_NOT_PRESENT, 0);
}

TEST_F(intercept, translate_checks_permissions)
{
	u64 *pd = guest_page(&self->pt, GUEST_PAGE_PD);
	const unsigned int index = TEST_GPA >> 21;

	require_feature(FEATURE_POPULATED);
	memset(self->mem, 0, SIZE);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
	/* Read-only and no-execute in the guest's own tables */
	pd[index] = (pd[index] & ~2ULL) | 1ULL << 63;
	expect_translation(_metadata, self->vp, TEST_GPA,
			   HV_TRANSLATE_GVA_VALIDATE_READ,
			   HV_TRANSLATE_GVA_SUCCESS, TEST_GPA);
	expect_translation(_metadata, self->vp, TEST_GPA,
			   HV_TRANSLATE_GVA_VALIDATE_WRITE,
			   HV_TRANSLATE_GVA_PRIVILEGE_VIOLATION, 0);
	expect_translation(_metadata, self->vp, TEST_GPA,
			   HV_TRANSLATE_GVA_VALIDATE_EXECUTE,
			   HV_TRANSLATE_GVA_PRIVILEGE_VIOLATION, 0);
}

TEST_F(intercept, translate_finds_tables_that_are_not_there)
{
	u64 *pml4 = guest_page(&self->pt, GUEST_PAGE_PML4);

	require_feature(FEATURE_POPULATED);
	pml4[5] = TEST_GPA | 0x27;
	expect_translation(_metadata, self->vp, 5ULL << 39,
			   HV_TRANSLATE_GVA_VALIDATE_READ,
			   HV_TRANSLATE_GVA_GPA_UNMAPPED, 0);
}

TEST_HARNESS_MAIN
