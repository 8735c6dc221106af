// SPDX-License-Identifier: GPL-2.0
/*
 * VPs run the guest: data, registers of every class, state pages, signals.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define NR_PAGES	256UL
#define SIZE		(NR_PAGES * PAGE_SIZE)

/* Several VPs at work at once, each in a thread of its own */
FIXTURE(vps)
{
	struct mshv_pt pt;
	u8 *mem;
};

FIXTURE_VARIANT(vps)
{
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(vps, one) {
	.vps = 1,
};

FIXTURE_VARIANT_ADD(vps, two) {
	.vps = 2,
};

FIXTURE_VARIANT_ADD(vps, four) {
	.vps = 4,
};

FIXTURE_VARIANT_ADD(vps, sixteen) {
	.vps = 16,
};

FIXTURE_SETUP(vps)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc(BACKING_ANON, SIZE);
	ASSERT_NE(NULL, self->mem);
	test_pt_setup(&self->pt, variant->vps);
	test_map(&self->pt, TEST_GFN, self->mem, SIZE, MEM_RWX);
}

FIXTURE_TEARDOWN(vps)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, SIZE);
}

static void run_all(struct __test_metadata *_metadata, struct mshv_pt *pt,
		    struct guest_thread *threads, const char *command,
		    const struct guest_args *args)
{
	unsigned int i;

	for (i = 0; i < pt->vps; i++) {
		ASSERT_EQ(0, guest_thread_start(&threads[i], &pt->vp[i],
						command, args[i]));
	}
	for (i = 0; i < pt->vps; i++) {
		EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&threads[i])) {
			TH_LOG("VP %u", i);
		}
		EXPECT_EQ(i, pt->vp[i].msg.intercept.vp_index);
	}
}

TEST_F(vps, write_read_and_execute_at_once)
{
	struct guest_thread threads[GUEST_MAX_VPS];
	struct guest_args args[GUEST_MAX_VPS];
	const unsigned int share = NR_PAGES / variant->vps;
	unsigned int i;

	/* Each VP fills its share of the memory ... */
	for (i = 0; i < variant->vps; i++)
		args[i] = GUEST_ARGS(.rdi = TEST_GPA + i * share * PAGE_SIZE,
				     .rsi = share, .rdx = i * share);
	run_all(_metadata, &self->pt, threads, guest_fill, args);
	for (i = 0; i < share * variant->vps; i++) {
		ASSERT_EQ(i, *(u64 *)(self->mem + i * PAGE_SIZE));
	}

	/* ... checks the share of the next one ... */
	for (i = 0; i < variant->vps; i++) {
		unsigned int next = (i + 1) % variant->vps;

		args[i] = GUEST_ARGS(.rdi = TEST_GPA + next * share * PAGE_SIZE,
				     .rsi = share, .rdx = next * share);
	}
	run_all(_metadata, &self->pt, threads, guest_check, args);
	for (i = 0; i < variant->vps; i++) {
		EXPECT_EQ(0, threads[i].rax);
	}

	/* ... and executes a page of its own */
	for (i = 0; i < variant->vps; i++) {
		memcpy(self->mem + i * PAGE_SIZE, guest_exec_page,
		       guest_exec_page_end - guest_exec_page);
		args[i] = GUEST_ARGS(.rdi = TEST_GPA + i * PAGE_SIZE);
	}
	run_all(_metadata, &self->pt, threads, guest_exec, args);
	for (i = 0; i < variant->vps; i++) {
		EXPECT_EQ(GUEST_EXEC_MAGIC, threads[i].rax);
	}
}

TEST_F(vps, one_counter_loses_nothing)
{
	struct guest_thread threads[GUEST_MAX_VPS];
	u64 *counter = (void *)self->mem;
	u64 sum = 0, seen = 0;
	unsigned int i;

	for (i = 0; i < variant->vps; i++) {
		ASSERT_EQ(0, guest_thread_start(&threads[i], &self->pt.vp[i],
						guest_lock_count,
						GUEST_ARGS(.rdi = TEST_GPA,
							   .rsi = MAILBOX_GPA(0))));
	}
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(wait_for_change(counter, seen, 5000));
		seen = READ_ONCE(*counter);
	}
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	for (i = 0; i < variant->vps; i++) {
		EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&threads[i]));
		/* VPs that share a CPU all get their time */
		EXPECT_LT(0, threads[i].rax);
		sum += threads[i].rax;
	}
	EXPECT_EQ(sum, READ_ONCE(*counter));
}

TEST_F(vps, spinning_guest_leaves_the_vmm_its_time)
{
	struct guest_thread threads[GUEST_MAX_VPS];
	unsigned int i;

	for (i = 0; i < variant->vps; i++) {
		ASSERT_EQ(0, guest_thread_start(&threads[i], &self->pt.vp[i],
						guest_spin,
						GUEST_ARGS(.rsi = MAILBOX_GPA(0))));
	}
	/* Every thread gets to run its VP, and none comes back */
	for (i = 0; i < variant->vps; i++) {
		unsigned int msec;

		for (msec = 0; msec < 10000; msec++) {
			if (READ_ONCE(threads[i].started))
				break;
			usleep(1000);
		}
		EXPECT_TRUE(READ_ONCE(threads[i].started));
	}
	usleep(50000);
	for (i = 0; i < variant->vps; i++) {
		EXPECT_FALSE(READ_ONCE(threads[i].ended));
	}
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	for (i = 0; i < variant->vps; i++) {
		EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&threads[i]));
	}
}

/* One VP */
FIXTURE(vp)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
};

FIXTURE_SETUP(vp)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(vp)
{
	test_pt_close(&self->pt);
}

static u64 reg(struct __test_metadata *_metadata, struct mshv_vp *vp, u32 name)
{
	u64 value = 0;

	EXPECT_EQ(0, mshv_get_reg(vp, name, &value)) {
		TH_LOG("register %#x", name);
	}
	return value;
}

TEST_F(vp, run_with_bad_pointer_is_efault)
{
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_halt),
				   GUEST_ARGS()));
	EXPECT_EQ(-1, ioctl(self->vp->fd, MSHV_RUN_VP, 8UL));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(vp, halt_is_repeated_until_rip_is_moved)
{
	const u64 start = GUEST_ADDR(guest_halt_twice);

	/* mov $1, %eax; hlt; inc %eax; hlt */
	ASSERT_EQ(HVMSG_X64_HALT, guest_run(self->vp, start, GUEST_ARGS()));
	EXPECT_EQ(1, reg(_metadata, self->vp, HV_X64_REGISTER_RAX));
	EXPECT_EQ(start + 5, reg(_metadata, self->vp, HV_X64_REGISTER_RIP));

	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(1, reg(_metadata, self->vp, HV_X64_REGISTER_RAX));
	EXPECT_EQ(start + 5, reg(_metadata, self->vp, HV_X64_REGISTER_RIP));

	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RIP, start + 6));
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(2, reg(_metadata, self->vp, HV_X64_REGISTER_RAX));
}

TEST_F(vp, message_page_holds_the_message)
{
	ASSERT_NE(NULL, self->vp->msg_page);
	test_guest(self->vp, guest_halt);
	EXPECT_EQ(0, memcmp(self->vp->msg_page, &self->vp->msg,
			    sizeof(self->vp->msg)));
	ASSERT_EQ(HVMSG_UNMAPPED_GPA,
		  guest_run(self->vp, GUEST_ADDR(guest_read),
			    GUEST_ARGS(.rdi = TEST_GPA)));
	EXPECT_EQ(0, memcmp(self->vp->msg_page, &self->vp->msg,
			    sizeof(self->vp->msg)));
}

/* Registers: set by the VMM, seen by the guest, and the other way round */

TEST_F(vp, general_registers)
{
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	const u64 stack = GUEST_PAGE_GPA(GUEST_PAGE_STACK + 1) - 64;
	unsigned int i;

	for (i = 8; i < 16; i++) {
		ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RAX + i,
					  0x0101010101010101ULL * i));
	}
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RBX, 0xb0b0));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RBP, 0xbeef));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RSP, stack));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RFLAGS, 0xcd7));
	test_guest(self->vp, guest_dump, .rdi = DATA_GPA);

	for (i = 8; i < 16; i++) {
		EXPECT_EQ(0x0101010101010101ULL * i, dump[DUMP_R8 + i - 8]);
		EXPECT_EQ(0x0101010101010101ULL * i,
			  reg(_metadata, self->vp, HV_X64_REGISTER_RAX + i));
	}
	EXPECT_EQ(0xb0b0, dump[DUMP_RBX]);
	EXPECT_EQ(0xbeef, dump[DUMP_RBP]);
	EXPECT_EQ(stack, dump[DUMP_RSP]);
	EXPECT_EQ(0xcd7, dump[DUMP_RFLAGS]);
	/* What the guest changed */
	EXPECT_EQ(stack, reg(_metadata, self->vp, HV_X64_REGISTER_RSP));
	EXPECT_EQ(DATA_GPA, reg(_metadata, self->vp, HV_X64_REGISTER_RDI));
}

TEST_F(vp, control_registers)
{
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	const u64 cr4 = 0x620 | 0x80 | 0x8;	/* PGE, DE */

	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR2, 0x123456789a));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR4, cr4));
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR8, 5));
	test_guest(self->vp, guest_dump, .rdi = DATA_GPA);

	EXPECT_EQ(0x80010033, dump[DUMP_CR0]);
	EXPECT_EQ(0x123456789a, dump[DUMP_CR2]);
	EXPECT_EQ(GUEST_PAGE_GPA(GUEST_PAGE_PML4), dump[DUMP_CR3]);
	EXPECT_EQ(cr4, dump[DUMP_CR4]);
	EXPECT_EQ(5, dump[DUMP_CR8]);

	EXPECT_EQ(0x80010033, reg(_metadata, self->vp, HV_X64_REGISTER_CR0));
	EXPECT_EQ(0x123456789a, reg(_metadata, self->vp, HV_X64_REGISTER_CR2));
	EXPECT_EQ(dump[DUMP_CR3], reg(_metadata, self->vp, HV_X64_REGISTER_CR3));
	EXPECT_EQ(cr4, reg(_metadata, self->vp, HV_X64_REGISTER_CR4));
	EXPECT_EQ(5, reg(_metadata, self->vp, HV_X64_REGISTER_CR8));
	EXPECT_EQ(5, HV_X64_CR8(self->vp->msg.intercept));
}

TEST_F(vp, debug_registers)
{
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	unsigned int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_DR0 + i,
					  0x1111000 * (i + 1)));
	}
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_DR6, 0xffff0ff1));
	/* No breakpoint is enabled */
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_DR7, 0x00110400));
	test_guest(self->vp, guest_dump, .rdi = DATA_GPA);

	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0x1111000 * (i + 1), dump[DUMP_DR0 + i]);
		EXPECT_EQ(0x1111000 * (i + 1),
			  reg(_metadata, self->vp, HV_X64_REGISTER_DR0 + i));
	}
	EXPECT_EQ(0xffff0ff1, dump[DUMP_DR6]);
	EXPECT_EQ(0x00110400, dump[DUMP_DR7]);
	EXPECT_EQ(0xffff0ff1, reg(_metadata, self->vp, HV_X64_REGISTER_DR6));
	EXPECT_EQ(0x00110400, reg(_metadata, self->vp, HV_X64_REGISTER_DR7));
}

TEST_F(vp, debug_registers_of_two_vps_are_two_sets)
{
	unsigned int i;

	ASSERT_EQ(0, mshv_pt_add_vp(&self->pt, 1));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, mshv_set_reg(&self->pt.vp[i], HV_X64_REGISTER_DR0,
					  0x5000 + i));
	}
	for (i = 0; i < 4; i++) {
		u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);

		test_guest(&self->pt.vp[i & 1], guest_dump, .rdi = DATA_GPA);
		EXPECT_EQ(0x5000 + (i & 1), dump[DUMP_DR0]);
	}
}

TEST_F(vp, segment_registers)
{
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	const struct {
		u32 name;
		enum guest_dump_slot slot;
		u16 selector, attributes;
		u32 limit;
		u64 base;
	} segments[] = {
		{ HV_X64_REGISTER_CS, DUMP_CS, GUEST_CS, 0xa09b, ~0U, 0 },
		{ HV_X64_REGISTER_SS, DUMP_SS, GUEST_DS, 0xc093, ~0U, 0 },
		{ HV_X64_REGISTER_DS, DUMP_DS, GUEST_USER_DS, 0xc0f3, ~0U, 0 },
		{ HV_X64_REGISTER_ES, DUMP_ES, 0, 0xc0f3, ~0U, 0 },
		{ HV_X64_REGISTER_FS, DUMP_FS, 0x33, 0xc0f3, ~0U, 0x7000000 },
		{ HV_X64_REGISTER_GS, DUMP_GS, 0x3b, 0xc0f3, ~0U,
		  0xffff888000001000 },
		{ HV_X64_REGISTER_TR, DUMP_TR, 0x48, 0x008b, 0x67, 0xabc000 },
		{ HV_X64_REGISTER_LDTR, DUMP_LDTR, 0x58, 0x0082, 0x3ff, 0xdef000 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		struct hv_register_assoc assoc = { .name = segments[i].name };

		assoc.value.segment.selector = segments[i].selector;
		assoc.value.segment.attributes = segments[i].attributes;
		assoc.value.segment.limit = segments[i].limit;
		assoc.value.segment.base = segments[i].base;
		ASSERT_EQ(0, mshv_set_regs(self->vp, &assoc, 1));
	}
	test_guest(self->vp, guest_dump, .rdi = DATA_GPA);
	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		union hv_register_value value = {};

		EXPECT_EQ(segments[i].selector, dump[segments[i].slot]) {
			TH_LOG("register %#x", segments[i].name);
		}
		ASSERT_EQ(0, mshv_get_regs(self->vp, &segments[i].name, &value,
					   1));
		EXPECT_EQ(segments[i].selector, value.segment.selector);
		EXPECT_EQ(segments[i].attributes, value.segment.attributes) {
			TH_LOG("register %#x", segments[i].name);
		}
		EXPECT_EQ(segments[i].limit, value.segment.limit);
		EXPECT_EQ(segments[i].base, value.segment.base);
	}
}

TEST_F(vp, segment_bases_are_used)
{
	struct hv_register_assoc assoc = { .name = HV_X64_REGISTER_FS };
	u64 *data = guest_page(&self->pt, GUEST_PAGE_DATA);

	data[1] = 0xf5;
	data[2] = 0x65;
	assoc.value.segment.attributes = 0xc093;
	assoc.value.segment.limit = ~0U;
	assoc.value.segment.base = DATA_GPA;
	ASSERT_EQ(0, mshv_set_regs(self->vp, &assoc, 1));
	assoc.name = HV_X64_REGISTER_GS;
	assoc.value.segment.base = DATA_GPA + 8;
	ASSERT_EQ(0, mshv_set_regs(self->vp, &assoc, 1));
	test_guest_result(0xf5, self->vp, guest_read_fs, .rdi = 8);
	test_guest_result(0x65, self->vp, guest_read_gs, .rdi = 8);
}

TEST_F(vp, table_registers)
{
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	const u32 names[2] = { HV_X64_REGISTER_GDTR, HV_X64_REGISTER_IDTR };
	union hv_register_value values[2] = {};
	struct hv_register_assoc assoc[2] = {
		{ .name = HV_X64_REGISTER_GDTR },
		{ .name = HV_X64_REGISTER_IDTR },
	};

	assoc[0].value.table.base = 0xffff800012345000;
	assoc[0].value.table.limit = 0x7f;
	assoc[1].value.table.base = 0x6789000;
	assoc[1].value.table.limit = 0xfff;
	ASSERT_EQ(0, mshv_set_regs(self->vp, assoc, 2));
	test_guest(self->vp, guest_dump, .rdi = DATA_GPA);
	EXPECT_EQ(0x7f, dump[DUMP_GDTR_LIMIT]);
	EXPECT_EQ(0xffff800012345000, dump[DUMP_GDTR_BASE]);
	EXPECT_EQ(0xfff, dump[DUMP_IDTR_LIMIT]);
	EXPECT_EQ(0x6789000, dump[DUMP_IDTR_BASE]);

	ASSERT_EQ(0, mshv_get_regs(self->vp, names, values, 2));
	EXPECT_EQ(0x7f, values[0].table.limit);
	EXPECT_EQ(0xffff800012345000, values[0].table.base);
	EXPECT_EQ(0xfff, values[1].table.limit);
	EXPECT_EQ(0x6789000, values[1].table.base);
}

/* MSRs that are VP registers */
FIXTURE(msr)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
};

FIXTURE_VARIANT(msr)
{
	u32 name, msr;
	u64 values[2];
};

FIXTURE_VARIANT_ADD(msr, efer) {
	.name = HV_X64_REGISTER_EFER, .msr = 0xc0000080,
	.values = { 0xd01, 0xd00 },
};

FIXTURE_VARIANT_ADD(msr, kernel_gs_base) {
	.name = HV_X64_REGISTER_KERNEL_GS_BASE, .msr = 0xc0000102,
	.values = { 0xffff888012345678, 0x1000 },
};

FIXTURE_VARIANT_ADD(msr, pat) {
	.name = HV_X64_REGISTER_PAT, .msr = 0x277,
	.values = { 0x0007040600070406, 0x0407050600070106 },
};

FIXTURE_VARIANT_ADD(msr, sysenter_cs) {
	.name = HV_X64_REGISTER_SYSENTER_CS, .msr = 0x174,
	.values = { 0x10, 0 },
};

FIXTURE_VARIANT_ADD(msr, sysenter_eip) {
	.name = HV_X64_REGISTER_SYSENTER_EIP, .msr = 0x176,
	.values = { 0xffffffff81000000, 0x4000 },
};

FIXTURE_VARIANT_ADD(msr, sysenter_esp) {
	.name = HV_X64_REGISTER_SYSENTER_ESP, .msr = 0x175,
	.values = { 0xffffffff82000000, 0x5000 },
};

FIXTURE_VARIANT_ADD(msr, star) {
	.name = HV_X64_REGISTER_STAR, .msr = 0xc0000081,
	.values = { 0x0023001000000000, 0x001b000800000000 },
};

FIXTURE_VARIANT_ADD(msr, lstar) {
	.name = HV_X64_REGISTER_LSTAR, .msr = 0xc0000082,
	.values = { 0xffffffff81234000, 0x9000 },
};

FIXTURE_VARIANT_ADD(msr, cstar) {
	.name = HV_X64_REGISTER_CSTAR, .msr = 0xc0000083,
	.values = { 0xffffffff81235000, 0xa000 },
};

FIXTURE_VARIANT_ADD(msr, sfmask) {
	.name = HV_X64_REGISTER_SFMASK, .msr = 0xc0000084,
	.values = { 0x47700, 0x200 },
};

FIXTURE_SETUP(msr)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
}

FIXTURE_TEARDOWN(msr)
{
	test_pt_close(&self->pt);
}

TEST_F(msr, vmm_and_guest_see_the_same)
{
	/* Set by the VMM, read by the guest */
	ASSERT_EQ(0, mshv_set_reg(self->vp, variant->name, variant->values[0]));
	EXPECT_EQ(variant->values[0], reg(_metadata, self->vp, variant->name));
	test_guest(self->vp, guest_rdmsr, .rcx = variant->msr);
	EXPECT_EQ(variant->values[0] & 0xffffffff,
		  reg(_metadata, self->vp, HV_X64_REGISTER_RAX));
	EXPECT_EQ(variant->values[0] >> 32,
		  reg(_metadata, self->vp, HV_X64_REGISTER_RDX));

	/* Written by the guest, got by the VMM */
	test_guest(self->vp, guest_wrmsr, .rcx = variant->msr,
		   .rax = variant->values[1] & 0xffffffff,
		   .rdx = variant->values[1] >> 32);
	EXPECT_EQ(variant->values[1], reg(_metadata, self->vp, variant->name));
}

TEST_F(vp, xmm_registers)
{
	struct hv_u128 *data = guest_page(&self->pt, GUEST_PAGE_DATA);
	struct hv_register_assoc regs[16] = {};
	union hv_register_value values[16] = {};
	u32 names[16];
	unsigned int i;

	for (i = 0; i < 16; i++) {
		names[i] = HV_X64_REGISTER_XMM0 + i;
		regs[i].name = names[i];
		regs[i].value.reg128.low_part = 0x1111111111111111ULL * i;
		regs[i].value.reg128.high_part = ~0ULL - i;
	}
	ASSERT_EQ(0, mshv_set_regs(self->vp, regs, 16));
	test_guest(self->vp, guest_store_xmm, .rdi = DATA_GPA);
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(0x1111111111111111ULL * i, data[i].low_part);
		EXPECT_EQ(~0ULL - i, data[i].high_part);
		data[i].low_part = 100 + i;
		data[i].high_part = 200 + i;
	}

	test_guest(self->vp, guest_load_xmm, .rdi = DATA_GPA);
	ASSERT_EQ(0, mshv_get_regs(self->vp, names, values, 16));
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(100 + i, values[i].reg128.low_part);
		EXPECT_EQ(200 + i, values[i].reg128.high_part);
	}
}

TEST_F(vp, xmm_registers_are_not_the_vmms)
{
	struct hv_u128 *data = guest_page(&self->pt, GUEST_PAGE_DATA);
	u64 mine = 0x00c0ffee00c0ffee, seen;
	long nr;

	memset(data, 0x5a, 256);
	asm volatile("movq %0, %%xmm7" : : "r"(mine) : "xmm7");
	test_guest(self->vp, guest_load_xmm, .rdi = DATA_GPA);
	/* Another run without the VMM in between */
	asm volatile("movq %0, %%xmm7" : : "r"(mine) : "xmm7");
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run_once(self->vp));
	memset(data, 0, 256);
	test_guest(self->vp, guest_store_xmm, .rdi = DATA_GPA);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aULL, data[7].low_part);

	/* And the guest's are not in the VMM's registers */
	seen = 0;
	nr = SYS_ioctl;
	asm volatile("movq %2, %%xmm12\n\t"
		     "syscall\n\t"
		     "movq %%xmm12, %0"
		     : "=&r"(seen), "+a"(nr)
		     : "r"(mine), "D"((long)self->vp->fd), "S"(MSHV_RUN_VP),
		       "d"(&self->vp->msg)
		     : "rcx", "r11", "memory", "xmm12");
	EXPECT_EQ(0, nr);
	EXPECT_EQ(mine, seen);
}

/* XSAVE area: FCW and MXCSR, then XMM registers from byte 160 on */
#define XSAVE_MXCSR	24
#define XSAVE_XMM(_n)	(160 + 16 * (_n))

TEST_F(vp, xsave_state)
{
	struct hv_u128 *data = guest_page(&self->pt, GUEST_PAGE_DATA);
	u32 size = PAGE_SIZE, mxcsr;
	u64 quad[2], value;
	unsigned int i;
	u8 *area;

	area = mshv_alloc(BACKING_ANON, 2 * PAGE_SIZE);
	ASSERT_NE(NULL, area);
	for (i = 0; i < 16; i++) {
		data[i].low_part = 100 + i;
		data[i].high_part = 200 + i;
	}
	test_guest(self->vp, guest_load_xmm, .rdi = DATA_GPA);
	ASSERT_EQ(0, mshv_vp_state(self->vp, MSHV_GET_VP_STATE, MSHV_VP_STATE_XSAVE,
				   area, &size));
	EXPECT_EQ(PAGE_SIZE, size);
	memcpy(&mxcsr, area + XSAVE_MXCSR, sizeof(mxcsr));
	EXPECT_EQ(0x1f80, mxcsr);
	for (i = 0; i < 16; i++) {
		memcpy(quad, area + XSAVE_XMM(i), sizeof(quad));
		EXPECT_EQ(100 + i, quad[0]);
		EXPECT_EQ(200 + i, quad[1]);
		quad[0] = ~(u64)i;
		memcpy(area + XSAVE_XMM(i), quad, sizeof(quad));
	}

	/* What the VMM sets is what the guest has, and what it set not */
	ASSERT_EQ(0, mshv_vp_state(self->vp, MSHV_SET_VP_STATE, MSHV_VP_STATE_XSAVE,
				   area, &size));
	memset(area, 0, PAGE_SIZE);
	test_guest(self->vp, guest_store_xmm, .rdi = DATA_GPA);
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(~(u64)i, data[i].low_part);
		EXPECT_EQ(200 + i, data[i].high_part);
	}

	/* A state that no processor can have changes nothing */
	size = PAGE_SIZE;
	ASSERT_EQ(0, mshv_vp_state(self->vp, MSHV_GET_VP_STATE, MSHV_VP_STATE_XSAVE,
				   area, &size));
	mxcsr = 0x10000;
	memcpy(area + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memset(area + XSAVE_XMM(0), 0, 16);
	EXPECT_EQ(-EINVAL, mshv_vp_state(self->vp, MSHV_SET_VP_STATE,
					 MSHV_VP_STATE_XSAVE, area, &size));
	test_guest(self->vp, guest_store_xmm, .rdi = DATA_GPA);
	EXPECT_EQ(~0ULL, data[0].low_part);

	/* The data goes through a pin that ends with the call */
	value = pin_balance();
	size = PAGE_SIZE;
	ASSERT_EQ(0, mshv_vp_state(self->vp, MSHV_GET_VP_STATE, MSHV_VP_STATE_XSAVE,
				   area, &size));
	EXPECT_EQ(value, pin_balance());
	mshv_free(area, 2 * PAGE_SIZE);
}

TEST_F(vp, vp_state_arguments)
{
	u32 size = PAGE_SIZE, odd = PAGE_SIZE + 8, none = 0, i;
	struct mshv_get_set_vp_state args = { .type = MSHV_VP_STATE_XSAVE };
	u8 *area, *read_only;

	area = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	read_only = mmap(NULL, PAGE_SIZE, PROT_READ,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(NULL, area);
	ASSERT_NE(MAP_FAILED, read_only);

#define test_err_state(_errno, _type, _buffer, _size) \
	EXPECT_EQ(-(_errno), mshv_vp_state(self->vp, MSHV_GET_VP_STATE, _type, \
					   _buffer, _size))
	test_err_state(EINVAL, MSHV_VP_STATE_COUNT, area, &size);
	test_err_state(EINVAL, MSHV_VP_STATE_XSAVE, area + 8, &size);
	test_err_state(EINVAL, MSHV_VP_STATE_XSAVE, area, &odd);
	test_err_state(EINVAL, MSHV_VP_STATE_XSAVE, area, &none);
	test_err_state(EFAULT, MSHV_VP_STATE_XSAVE, NULL, &size);
	test_err_state(EFAULT, MSHV_VP_STATE_XSAVE, read_only, &size);
	/* The hypervisor's own limits */
	for (i = 0; i < MSHV_VP_STATE_COUNT; i++)
		if (i != MSHV_VP_STATE_XSAVE)
			EXPECT_GT(0, mshv_vp_state(self->vp, MSHV_GET_VP_STATE, i,
						   area, &size));
#undef test_err_state

	args.rsvd[1] = 1;
	args.buf_sz = PAGE_SIZE;
	args.buf_ptr = (u64)area;
	EXPECT_EQ(-1, ioctl(self->vp->fd, MSHV_GET_VP_STATE, &args));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->vp->fd, MSHV_GET_VP_STATE, NULL));
	EXPECT_EQ(EFAULT, errno);
	munmap(read_only, PAGE_SIZE);
	mshv_free(area, PAGE_SIZE);
}

TEST_F(vp, xcr0)
{
	/* CPUID 1, ECX: XSAVE */
	test_guest(self->vp, guest_cpuid, .rax = 1);
	if (!(reg(_metadata, self->vp, HV_X64_REGISTER_RCX) & BIT(26)))
		SKIP(return, "needs: XSAVE in the child partition");

	/* CR4.OSXSAVE */
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_CR4, 0x40620));
	EXPECT_EQ(1, reg(_metadata, self->vp, HV_X64_REGISTER_XFEM));
	test_guest_result(1, self->vp, guest_xgetbv);
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_XFEM, 3));
	test_guest_result(3, self->vp, guest_xgetbv);
	EXPECT_EQ(3, reg(_metadata, self->vp, HV_X64_REGISTER_XFEM));
	/* Not without x87 */
	EXPECT_GT(0, mshv_set_reg(self->vp, HV_X64_REGISTER_XFEM, 2));
}

TEST_F(vp, unknown_register_is_refused)
{
	u64 value;

	EXPECT_GT(0, mshv_get_reg(self->vp, 0x0fff0000, &value));
	EXPECT_GT(0, mshv_set_reg(self->vp, 0x0fff0000, 0));
}

/* The register page */
FIXTURE(register_page)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	struct hv_vp_register_page *regs;
};

FIXTURE_SETUP(register_page)
{
	require_mshv();
	mshv_pt_init(&self->pt);
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	self->regs = self->vp->regs;
	ASSERT_NE(NULL, self->regs);
}

FIXTURE_TEARDOWN(register_page)
{
	test_pt_close(&self->pt);
}

TEST_F(register_page, shows_the_state_at_an_intercept)
{
	struct hv_vp_register_page *regs = self->regs;
	unsigned int i;

	for (i = 8; i < 16; i++) {
		ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RAX + i,
					  1000 + i));
	}
	ASSERT_EQ(HVMSG_X64_HALT,
		  guest_run(self->vp, GUEST_ADDR(guest_halt),
			    GUEST_ARGS(.rax = 1, .rcx = 2, .rdx = 3, .rsi = 6,
				       .rdi = 7)));
	EXPECT_EQ(HV_VP_REGISTER_PAGE_VERSION_1, regs->version);
	EXPECT_EQ(1, regs->isvalid);
	EXPECT_EQ(0, regs->dirty);
	EXPECT_EQ(1, regs->gp_registers[GP_RAX]);
	EXPECT_EQ(2, regs->gp_registers[GP_RCX]);
	EXPECT_EQ(3, regs->gp_registers[GP_RDX]);
	EXPECT_EQ(6, regs->gp_registers[GP_RSI]);
	EXPECT_EQ(7, regs->gp_registers[GP_RDI]);
	for (i = 8; i < 16; i++) {
		EXPECT_EQ(1000 + i, regs->gp_registers[i]);
	}
	EXPECT_EQ(GUEST_ADDR(guest_halt), regs->rip);
	EXPECT_EQ(2, regs->rflags);
	EXPECT_EQ(0x80010033, regs->cr0);
	EXPECT_EQ(GUEST_PAGE_GPA(GUEST_PAGE_PML4), regs->cr3);
	EXPECT_EQ(0x620, regs->cr4);
	EXPECT_EQ(0xd01, regs->efer);
	EXPECT_EQ(GUEST_DS, regs->segment_registers[0].selector);
	EXPECT_EQ(GUEST_CS, regs->segment_registers[1].selector);
	EXPECT_EQ(0xa09b, regs->segment_registers[1].attributes);
}

TEST_F(register_page, dirty_registers_are_taken)
{
	struct hv_vp_register_page *regs = self->regs;
	u64 *data = guest_page(&self->pt, GUEST_PAGE_DATA);

	test_guest(self->vp, guest_halt);
	regs->rip = GUEST_ADDR(guest_write);
	regs->gp_registers[GP_RDI] = DATA_GPA;
	regs->gp_registers[GP_RSI] = 0x1234;
	regs->dirty = BIT(HV_X64_REGISTER_CLASS_GENERAL) |
		      BIT(HV_X64_REGISTER_CLASS_IP);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0x1234, data[0]);
	EXPECT_EQ(0, regs->dirty);
	EXPECT_EQ(GUEST_ADDR(guest_write) + 3, regs->rip);
}

TEST_F(register_page, clean_registers_are_ignored)
{
	struct hv_vp_register_page *regs = self->regs;
	u64 *data = guest_page(&self->pt, GUEST_PAGE_DATA);

	/* Only RIP is marked dirty: RSI stays what the guest had */
	ASSERT_EQ(HVMSG_X64_HALT,
		  guest_run(self->vp, GUEST_ADDR(guest_halt),
			    GUEST_ARGS(.rdi = DATA_GPA, .rsi = 55)));
	regs->rip = GUEST_ADDR(guest_write);
	regs->gp_registers[GP_RSI] = 66;
	regs->dirty = BIT(HV_X64_REGISTER_CLASS_IP);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(55, data[0]);

	/* Nothing is: the guest halts where it is */
	regs->rip = GUEST_ADDR(guest_ud2);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(GUEST_ADDR(guest_write) + 3,
		  self->vp->msg.intercept.rip);
}

TEST_F(register_page, dirty_flags_xmm_and_segments_are_taken)
{
	struct hv_vp_register_page *regs = self->regs;
	u64 *dump = guest_page(&self->pt, GUEST_PAGE_DATA);
	struct hv_u128 *xmm = guest_page(&self->pt, GUEST_PAGE_DATA + 1);

	test_guest(self->vp, guest_halt);
	regs->rflags = 0x8d7;
	regs->segment_registers[4].base = 0x7777000;
	regs->xmm_registers[5].low_part = 0xabcdef;
	regs->rip = GUEST_ADDR(guest_dump);
	regs->gp_registers[GP_RDI] = DATA_GPA;
	regs->dirty = BIT(HV_X64_REGISTER_CLASS_GENERAL) |
		      BIT(HV_X64_REGISTER_CLASS_IP) |
		      BIT(HV_X64_REGISTER_CLASS_XMM) |
		      BIT(HV_X64_REGISTER_CLASS_SEGMENT) |
		      BIT(HV_X64_REGISTER_CLASS_FLAGS);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0x8d7, dump[DUMP_RFLAGS]);
	EXPECT_EQ(0x7777000, regs->segment_registers[4].base);
	EXPECT_EQ(0xabcdef, regs->xmm_registers[5].low_part);

	test_guest(self->vp, guest_store_xmm, .rdi = DATA_GPA + PAGE_SIZE);
	EXPECT_EQ(0xabcdef, xmm[5].low_part);
}

TEST_F(register_page, hypercall_and_page_agree)
{
	struct hv_vp_register_page *regs = self->regs;

	test_guest(self->vp, guest_halt);
	/* A register set by hypercall while the VP is at an intercept */
	ASSERT_EQ(0, mshv_set_reg(self->vp, HV_X64_REGISTER_RBX, 0x42));
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0x42, regs->gp_registers[GP_RBX]);
	/* A register set in the page, got by hypercall after a run */
	regs->gp_registers[GP_RBX] = 0x43;
	regs->dirty = BIT(HV_X64_REGISTER_CLASS_GENERAL);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(0x43, reg(_metadata, self->vp, HV_X64_REGISTER_RBX));
}

/* Signals */
static void on_signal(int signal)
{
}

/* No SA_RESTART: an interrupted ioctl comes back */
static void catch_signal(int signal)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(signal, &action, NULL);
}

static void signal_after(unsigned int usec)
{
	/* Again and again: the first may come before the VP runs */
	struct itimerval timer = {
		.it_value.tv_usec = usec, .it_interval.tv_usec = usec,
	};

	catch_signal(SIGALRM);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void no_more_signals(void)
{
	struct itimerval timer = {};

	setitimer(ITIMER_REAL, &timer, NULL);
}

TEST_F(vp, signal_interrupts_a_running_vp)
{
	u64 *counter = mailbox_ptr(&self->pt, 1);
	struct guest_thread thread;
	u64 seen = 0;
	unsigned int i;

	catch_signal(SIGUSR1);
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_count,
					GUEST_ARGS(.rdi = MAILBOX_GPA(1),
						   .rsi = MAILBOX_GPA(0))));
	for (i = 1; i <= 20; i++) {
		ASSERT_TRUE(wait_for_change(counter, seen, 5000));
		ASSERT_FALSE(READ_ONCE(thread.ended));
		pthread_kill(thread.thread, SIGUSR1);
		/* It comes back with -EINTR, and goes on */
		ASSERT_TRUE(wait_for_change(&thread.interrupted, i - 1, 5000));
		seen = READ_ONCE(*counter);
	}
	ASSERT_TRUE(wait_for_change(counter, seen, 5000));
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
	EXPECT_EQ(20, thread.interrupted);
}

TEST_F(vp, signal_makes_it_eintr_and_a_blocked_one_does_not)
{
	u64 *data = guest_page(&self->pt, GUEST_PAGE_DATA);
	sigset_t set, old;
	int i;

	catch_signal(SIGUSR1);
	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_count),
				   GUEST_ARGS(.rdi = DATA_GPA,
					      .rsi = MAILBOX_GPA(0))));
	for (i = 0; i < 10; i++) {
		signal_after(20000);
		ASSERT_EQ(-EINTR, mshv_run_once(self->vp));
	}
	no_more_signals();
	EXPECT_LT(0, data[0]);

	/* A blocked signal is none */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	kill(getpid(), SIGUSR1);
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, mshv_run_once(self->vp));
	sigprocmask(SIG_SETMASK, &old, NULL);
}

TEST_F(vp, registers_survive_an_interrupted_run)
{
	u64 *data = guest_page(&self->pt, GUEST_PAGE_DATA);
	u64 rip;

	ASSERT_EQ(0, guest_prepare(self->vp, GUEST_ADDR(guest_lock_count),
				   GUEST_ARGS(.rdi = DATA_GPA,
					      .rsi = MAILBOX_GPA(0))));
	signal_after(20000);
	ASSERT_EQ(-EINTR, mshv_run_once(self->vp));
	no_more_signals();

	/* It was stopped between two instructions of the loop */
	rip = reg(_metadata, self->vp, HV_X64_REGISTER_RIP);
	EXPECT_LE(GUEST_ADDR(guest_lock_count), rip);
	EXPECT_GT(GUEST_ADDR(guest_spin), rip);
	EXPECT_LE(data[0] - reg(_metadata, self->vp, HV_X64_REGISTER_RAX), 1);

	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	ASSERT_EQ(HVMSG_X64_HALT, mshv_run(self->vp));
	EXPECT_EQ(data[0], reg(_metadata, self->vp, HV_X64_REGISTER_RAX));
}

struct second_run {
	struct mshv_vp *vp;
	bool started, ended;
	long ret;
};

static void *second_run(void *arg)
{
	struct second_run *run = arg;
	struct mshv_vp vp = *run->vp;

	WRITE_ONCE(run->started, true);
	run->ret = mshv_run(&vp);
	WRITE_ONCE(run->ended, true);
	return NULL;
}

TEST_F(vp, second_runner_waits_for_the_first)
{
	u64 *counter = mailbox_ptr(&self->pt, 1);
	struct second_run second = { .vp = self->vp };
	struct guest_thread first;
	pthread_t thread;

	ASSERT_EQ(0, guest_thread_start(&first, self->vp, guest_count,
					GUEST_ARGS(.rdi = MAILBOX_GPA(1),
						   .rsi = MAILBOX_GPA(0))));
	ASSERT_TRUE(wait_for_change(counter, 0, 5000));
	ASSERT_EQ(0, pthread_create(&thread, NULL, second_run, &second));
	while (!READ_ONCE(second.started))
		usleep(1000);
	usleep(50000);
	EXPECT_FALSE(READ_ONCE(second.ended));
	/* Stopped, the guest halts for both of them */
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&first));
	pthread_join(thread, NULL);
	EXPECT_EQ(HVMSG_X64_HALT, second.ret);
}

TEST_F(vp, vps_that_never_ran_close)
{
	struct oracle_partition partition;
	u64 id = self->pt.id;

	ASSERT_EQ(0, mshv_pt_add_vp(&self->pt, 1));
	test_guest(&self->pt.vp[1], guest_halt);
	mshv_pt_close(&self->pt);
	if (oracle_present()) {
		EXPECT_EQ(-ENOENT, oracle_partition(id, &partition));
	}
}

TEST_HARNESS_MAIN
