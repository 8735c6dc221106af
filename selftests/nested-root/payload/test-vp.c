// SPDX-License-Identifier: GPL-2.0
/* Child VPs: life, registers, state and stats pages, virtual addresses. */
#include "test.h"

#define VP_PAGES	3	/* of the pool, see vp.c of the hypervisor */
#define MESSAGE_PAGE	HV_VP_STATE_PAGE_INTERCEPT_MESSAGE
#define REGISTER_PAGE	HV_VP_STATE_PAGE_REGISTERS
#define STATE_XSAVE	(1u | 1u << 31)

static void create_delete(void)
{
	u64 id = partition_ready(20), used = pool_in_use(id);
	u32 i;

	EXPECT(vp_create(id, 0), 0);
	EXPECT(pool_in_use(id), used + VP_PAGES);
	EXPECT(vp_create(id, 0), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(vp_create(id, 255), 0);
	EXPECT(vp_create(id, 256), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(vp_create(id, ~0u), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(simple(HVCALL_DELETE_VP, id, 1), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(simple(HVCALL_DELETE_VP, id, 1ull << 32),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(simple(HVCALL_DELETE_VP, id, 255), 0);
	EXPECT(simple(HVCALL_DELETE_VP, id, 0), 0);
	EXPECT(pool_in_use(id), used);
	for (i = 1; i <= VP_PAGES; i++) {
		set_dry(id, i);
		EXPECT(vp_create(id, 0), HV_STATUS_INSUFFICIENT_MEMORY);
		EXPECT(pool_in_use(id), used);
		set_dry(id, 0);
	}
	EXPECT(vp_create(id, 0), 0);
	partition_gone(id);
}

static void reset_state(void)
{
	static const struct {
		u32 name;
		u64 value;
	} wanted[] = {
		{ REG_EXPLICIT_SUSPEND, 1 }, { REG_INTERCEPT_SUSPEND, 0 },
		{ REG_RIP, 0xfff0 }, { REG_RFLAGS, 2 }, { REG_CR0, 0x60000010 },
		{ REG_CR3, 0 }, { REG_CR4, 0 }, { REG_EFER, 0 }, { REG_RAX, 0 },
		{ REG_RSP, 0 }, { 0x50005, 0x400 }, { 0x80004, 0x0007040600070406 },
		{ 0x90003, 5 }, { 0x30018, 0x37f },
	};
	u64 id = partition_ready(10), cs[2];
	u32 i;

	EXPECT(vp_create(id, 5), 0);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		test_case(wanted[i].name);
		EXPECT(reg_get(id, 5, wanted[i].name), wanted[i].value);
	}
	EXPECT(reg_get2(id, 5, REG_CS, cs), 0);
	EXPECT(cs[0], 0xffff0000);
	EXPECT(cs[1], 0x9bull << 48 | 0xf000ull << 32 | 0xffff);
	partition_gone(id);
}

/* What set takes get gives, for every register the driver and a VMM use. */
static void set_get(void)
{
	static const struct {
		u32 first, count;
		u64 lo, hi;
		u64 lo_mask, hi_mask;
	} range[] = {
		{ 0x00000, 1, 0, 0, 1, 0 },
		{ 0x00001, 1, 1, 0, 1, 0 },
		{ 0x00003, 1, 1, 0, 1, 0 },
		{ 0x10002, 1, 0x0000001200200001 | 8 << 1, 0, ~0ull, 0 },
		{ 0x10003, 1, 1, 0, 1, 0 },
		{ 0x20000, 17, 0x123456789abcdef0, 0, ~0ull, 0 },
		{ 0x20011, 1, 0x246, 0, ~0ull, 0 },
		{ 0x30000, 16, 0x1122334455667788, 0x99aabbccddeeff00, ~0ull, ~0ull },
		{ 0x30010, 8, 0x8000000000000000, 0x3fff, ~0ull, 0xffff },
		{ 0x30018, 1, 0x0000000000000a7f, 0x1234, 0xffff, ~0ull },
		{ 0x30019, 1, 0x5678, 0x1f80, ~0ull, 0xffff },
		{ 0x40000, 1, 0x80050033, 0, ~0ull, 0 },
		{ 0x40001, 1, 0xdeadbeef000, 0, ~0ull, 0 },
		{ 0x40002, 1, 0x1000, 0, ~0ull, 0 },
		{ 0x40003, 1, 0x620, 0, ~0ull, 0 },
		{ 0x40004, 1, 9, 0, ~0ull, 0 },
		{ 0x40005, 1, 3, 0, ~0ull, 0 },
		{ 0x50000, 4, 0x7000, 0, ~0ull, 0 },
		{ 0x50004, 1, 0xffff0ff1, 0, ~0ull, 0 },
		{ 0x50005, 1, 0x405, 0, ~0ull, 0 },
		{ 0x60000, 8, 0x123000, 0xc0930018000fffff, ~0ull, ~0ull },
		{ 0x70000, 2, 0x0fff000000000000, 0x456000, 0xffff000000000000, ~0ull },
		{ 0x80001, 1, 0xd01, 0, ~0ull, 0 },
		{ 0x80002, 1, 0xffff888800000000, 0, ~0ull, 0 },
		{ 0x80003, 1, 0xfee00900, 0, ~0ull, 0 },
		{ 0x80004, 1, 0x0606060606060606, 0, ~0ull, 0 },
		{ 0x80005, 7, 0x23001000000000, 0, ~0ull, 0 },
		{ 0x8000e, 1, 0xc06, 0, ~0ull, 0 },
		{ 0x8007b, 1, 7, 0, ~0ull, 0 },
		{ 0x90001, 2, 0x1234000, 0, ~0ull, 0 },
		{ 0x90013, 1, 0x5000, 0, ~0ull, 0 },
		{ 0x90017, 1, 0x6000, 0, ~0ull, 0 },
	};
	u64 id = partition_ready(10), v[2];
	u32 pass, i, j, r[4];

	cpuid(1, 0, r);
	EXPECT(vp_create(id, 0), 0);
	/* all are set before one is read: none may share another's place */
	for (pass = 0; pass < 2; pass++)
		for (i = 0; i < ARRAY_SIZE(range); i++)
			for (j = 0; j < range[i].count; j++) {
				u32 name = range[i].first + j;
				u64 lo = range[i].lo + (j << 12);
				u64 hi = range[i].hi;

				test_case((u64)pass << 32 | name);
				if (name == 0x40005 && !(r[2] >> 26 & 1))
					continue;
				if (!pass) {
					EXPECT(reg_set2(id, 0, name, lo, hi), 0);
					continue;
				}
				EXPECT(reg_get2(id, 0, name, v), 0);
				EXPECT(v[0] & range[i].lo_mask,
				       lo & range[i].lo_mask);
				EXPECT(v[1] & range[i].hi_mask,
				       hi & range[i].hi_mask);
			}
	/* those that go on by themselves */
	EXPECT(reg_set(id, 0, 0x80000, 1000000), 0);
	EXPECT_TRUE(reg_get(id, 0, 0x80000) >= 1000000);
	v[0] = rdmsr(MSR_HV_TIME_REF_COUNT);
	EXPECT_TRUE(reg_get(id, 0, 0x90004) >= v[0]);
	partition_gone(id);
}

static void bad_registers(void)
{
	static const struct {
		u32 name;
		u64 value;
		u16 status;
	} bad[] = {
		{ 0x12345, 0, HV_STATUS_INVALID_PARAMETER },
		{ 0x20012, 0, HV_STATUS_INVALID_PARAMETER },
		{ 0x90003, 1, HV_STATUS_INVALID_PARAMETER },	/* VP index */
		{ 0x100, 1, HV_STATUS_INVALID_PARAMETER },	/* version */
		{ REG_RFLAGS, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_CR0, 0x80000000, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_CR0, 0x20000011, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_CR0, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_CR8, 16, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 4, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 5, HV_STATUS_INVALID_REGISTER_VALUE },	/* AVX */
		{ REG_XFEM, 9, HV_STATUS_INVALID_REGISTER_VALUE },	/* MPX */
		{ REG_XFEM, 0x11, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 0x21, HV_STATUS_INVALID_REGISTER_VALUE },	/* AVX-512 */
		{ REG_XFEM, 0x47, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 0xc7, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 0xe3, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_XFEM, 1ull << 62 | 1, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x50004, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x50005, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_EFER, 1 << 12, HV_STATUS_INVALID_REGISTER_VALUE },
		{ REG_EFER, 1ull << 40, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x10002, 1 | 1 << 1, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x10002, 1 | 4 << 1, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x80004, 0x0606060606060602, HV_STATUS_INVALID_REGISTER_VALUE },
		{ 0x80004, 8ull << 56, HV_STATUS_INVALID_REGISTER_VALUE },
	};
	const u64 event = 1 | 3 << 1 | 6 << 16;
	u64 id = partition_ready(10), *in = this_cpu()->in, v[2];
	u32 *names = (u32 *)(in + 2), i;

	EXPECT(vp_create(id, 0), 0);
	EXPECT(reg_set(id, 0, REG_PENDING_INTERRUPTION, event), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		u16 status = reg_get2(id, 0, bad[i].name, v);

		test_case(bad[i].name);
		EXPECT(reg_set(id, 0, bad[i].name, bad[i].value), bad[i].status);
		/* what was refused has changed nothing */
		if (!status)
			EXPECT(reg_get(id, 0, bad[i].name), v[0]);
	}
	EXPECT(reg_get(id, 0, REG_PENDING_INTERRUPTION), event);
	EXPECT(reg_set2(id, 0, 0x30019, 0, 1 << 16),
	       HV_STATUS_INVALID_REGISTER_VALUE);
	EXPECT(reg_get2(id, 0, 0x12345, v), HV_STATUS_INVALID_PARAMETER);
	EXPECT(reg_get2(id, 1, REG_RIP, v), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(reg_set(id, ~0u, REG_RIP, 0), HV_STATUS_INVALID_VP_INDEX);
	/* progress up to the bad one */
	in[0] = id;
	in[1] = 0;
	names[0] = REG_RIP;
	names[1] = 0x90003;
	names[2] = 0x12345;
	names[3] = REG_RIP;
	EXPECT(hvcall(CONTROL(HVCALL_GET_VP_REGISTERS, 4), in, this_cpu()->out),
	       HV_STATUS_INVALID_PARAMETER | 2ull << 32);
	EXPECT(this_cpu()->out[0], 0xfff0);
	memset(in + 2, 0, 96);
	in[2] = REG_RAX;
	in[4] = 0x77;
	in[6] = 0x12345;
	in[10] = REG_RCX;
	in[12] = 0x88;
	EXPECT(hvcall(CONTROL(HVCALL_SET_VP_REGISTERS, 3), in, NULL),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	EXPECT(reg_get(id, 0, REG_RAX), 0x77);
	EXPECT(reg_get(id, 0, REG_RCX), 0);
	/* other trust levels, reserved fields */
	in[1] = 1ull << 32;
	EXPECT(STATUS(hvcall(CONTROL(HVCALL_SET_VP_REGISTERS, 1), in, NULL)),
	       HV_STATUS_INVALID_PARAMETER);
	in[1] = 1ull << 40;
	EXPECT(STATUS(hvcall(CONTROL(HVCALL_SET_VP_REGISTERS, 1), in, NULL)),
	       HV_STATUS_INVALID_PARAMETER);
	in[1] = 0;
	in[3] = 1;
	EXPECT(STATUS(hvcall(CONTROL(HVCALL_SET_VP_REGISTERS, 1), in, NULL)),
	       HV_STATUS_INVALID_PARAMETER);
	partition_gone(id);
}

GUEST(guest_registers,
	"movq $0x20000, %rsp\n"
	"pushq %r15; pushq %r14; pushq %r13; pushq %r12\n"
	"pushq %r11; pushq %r10; pushq %r9; pushq %r8\n"
	"pushq %rdi; pushq %rsi; pushq %rbp; pushq %rbx\n"
	"pushq %rdx; pushq %rcx; pushq %rax\n"
	"movq %cr2, %rax; pushq %rax\n"
	"movq %cr3, %rax; pushq %rax\n"
	"movq %cr8, %rax; pushq %rax\n"
	"movq %dr0, %rax; pushq %rax\n"
	"movq %fs:0, %rax; pushq %rax\n"
	"movl $0xc0000082, %ecx; rdmsr; pushq %rax\n"
	"movl $0xc0000102, %ecx; rdmsr; pushq %rax\n"
	"movl $0xc0000080, %ecx; rdmsr; pushq %rax\n"
	"movq %xmm7, %rax; pushq %rax\n"
	"strq %rax; pushq %rax\n"
	"subq $16, %rsp; sgdt 6(%rsp)\n"
	"movdqa %xmm7, %xmm8\n"
	"paddq %xmm7, %xmm8\n"
	"movq $0x1111, %r12\n"
	"movq $0x2222, %rbx\n"
	"movq $0x3000, %rax; movq %rax, %dr1\n"
	"movq $0x4000, %rax; movq %rax, %cr2\n"
	"hlt");

static void guest_sees_registers(void)
{
	static const struct {
		u32 name;
		u64 value;
	} reg[] = {		/* in the order pushed */
		{ 0x2000f, 0x1f }, { 0x2000e, 0x1e }, { 0x2000d, 0x1d },
		{ 0x2000c, 0x1c }, { 0x2000b, 0x1b }, { 0x2000a, 0x1a },
		{ 0x20009, 0x19 }, { 0x20008, 0x18 }, { REG_RDI, 0x17 },
		{ REG_RSI, 0x16 }, { 0x20005, 0x15 }, { REG_RBX, 0x13 },
		{ REG_RDX, 0x12 }, { REG_RCX, 0x11 }, { REG_RAX, 0x10 },
		{ 0x40001, 0x7000 }, { REG_CR3, GUEST_TABLES }, { REG_CR8, 5 },
		{ 0x50000, 0x8000 }, { 0x60004, 0 /* FS, see below */ },
		{ 0x80009, 0x12345678 }, { 0x80002, 0x9abc }, { REG_EFER, 0xd01 },
	};
	struct child c;
	u64 *stack, v[2];
	u32 i;

	child_create(&c, 1);
	CHILD_CODE(&c, guest_registers);
	for (i = 0; i < ARRAY_SIZE(reg); i++)
		if (reg[i].name != 0x60004)
			EXPECT(reg_set(c.id, 0, reg[i].name, reg[i].value), 0);
	*(u64 *)(c.ram + 0x30000) = 0xf5f5;
	reg_set2(c.id, 0, 0x60004, 0x30000, 0xc0930018ffffffff);
	reg_set2(c.id, 0, 0x60007, 0x31000, 0x008b002800000067);
	reg_set2(c.id, 0, REG_XMM0 + 7, 0x0123456789abcdef, 1);
	reg_set2(c.id, 0, 0x70001, 0x0017000000000000, 0x5000);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	stack = (u64 *)(c.ram + 0x20000);
	for (i = 0; i < ARRAY_SIZE(reg); i++) {
		test_case(reg[i].name);
		EXPECT(*--stack, reg[i].name == 0x60004 ? 0xf5f5 :
				 reg[i].value & 0xffffffffffff);
	}
	EXPECT(*--stack, 0x0123456789abcdef);
	EXPECT(*--stack, 0x28);
	stack -= 2;
	EXPECT(*(u16 *)((u8 *)stack + 6), 0x17);
	EXPECT(*(u64 *)((u8 *)stack + 8), 0x5000);
	EXPECT(reg_get(c.id, 0, 0x2000c), 0x1111);
	EXPECT(reg_get(c.id, 0, REG_RBX), 0x2222);
	EXPECT(reg_get(c.id, 0, 0x50001), 0x3000);
	EXPECT(reg_get(c.id, 0, 0x40001), 0x4000);
	EXPECT(reg_get2(c.id, 0, REG_XMM0 + 8, v), 0);
	EXPECT(v[0], 0x02468acf13579bde);
	EXPECT(v[1], 2);
	child_delete(&c);
}

static void state_pages(void)
{
	u64 id = partition_ready(20), used;
	void *page, *second;
	u32 type;

	EXPECT(vp_create(id, 0), 0);
	used = pool_in_use(id);
	for (type = 0; type < 2; type++) {
		struct oracle o;

		test_case(type);
		EXPECT(vp_page(id, 0, type, false, NULL),
		       HV_STATUS_OPERATION_DENIED);
		EXPECT(vp_page(id, 0, type, true, &page), 0);
		EXPECT(pool_in_use(id), used + 1);
		o = (struct oracle){ { (u64)page } };
		oracle(ORACLE_PAGE, &o);
		EXPECT(o.a[0], 1);
		EXPECT(o.a[1], id);
		*(volatile u8 *)page = *(volatile u8 *)page;
		EXPECT(vp_page(id, 0, type, true, &second),
		       HV_STATUS_OPERATION_DENIED);
		EXPECT(vp_page(id, 0, type, false, NULL), 0);
		EXPECT(pool_in_use(id), used);
		set_dry(id, 1);
		EXPECT(vp_page(id, 0, type, true, &page),
		       HV_STATUS_INSUFFICIENT_MEMORY);
	}
	EXPECT(vp_page(id, 0, 2, true, &page), HV_STATUS_INVALID_PARAMETER);
	EXPECT(vp_page(id, 1, 0, true, &page), HV_STATUS_INVALID_VP_INDEX);
	/* pages that are mapped go with their VP */
	EXPECT(vp_page(id, 0, 0, true, &page), 0);
	EXPECT(vp_page(id, 0, 1, true, &page), 0);
	EXPECT(simple(HVCALL_DELETE_VP, id, 0), 0);
	EXPECT(pool_in_use(id), used - VP_PAGES);
	partition_gone(id);
}

static void no_page_after_deletion(void)
{
	u64 id = partition_ready(5);
	struct oracle o;
	void *page;

	EXPECT(vp_create(id, 0), 0);
	EXPECT(vp_page(id, 0, MESSAGE_PAGE, true, &page), 0);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	/* still the pool's, no longer a buffer the root may use */
	o = (struct oracle){ { (u64)page } };
	oracle(ORACLE_PAGE, &o);
	EXPECT(o.a[0], 1);
	EXPECT(hvcall(HVCALL_GET_PARTITION_ID, NULL, page),
	       HV_STATUS_INVALID_PARAMETER);
	partition_gone(id);
}

static u16 vp_state(u16 code, u64 id, u32 vp, u32 type, void *page)
{
	u64 *in = this_cpu()->in;

	memset(in, 0, 64);
	in[0] = id;
	in[1] = vp;
	in[2] = type;
	in[5] = (u64)page >> 12;
	return hvcall(code | 1 << 17, in, this_cpu()->out);
}

GUEST(guest_count,
	"incq %r8\n"
	"movq %r9, 0x20000\n"
	"hlt");

static void register_page(void)
{
	u8 *area = page_alloc();
	struct hv_register_page *p;
	struct child c;
	u32 i;

	child_create(&c, 1);
	CHILD_CODE(&c, guest_count);
	reg_set(c.id, 0, 0x20008, 41);
	EXPECT(vp_page(c.id, 0, REGISTER_PAGE, true, (void **)&p), 0);
	EXPECT(p->isvalid, 1);
	EXPECT(p->version, 1);
	EXPECT(p->gpr[8], 41);
	EXPECT(p->rip, GUEST_CODE);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(p->gpr[8], 42);
	EXPECT(p->rip, reg_get(c.id, 0, REG_RIP));
	EXPECT(p->cr0, reg_get(c.id, 0, REG_CR0));
	EXPECT(p->cr3, GUEST_TABLES);
	EXPECT(p->cr4, 0x620);
	EXPECT(p->efer, 0xd01);
	EXPECT(p->rflags, reg_get(c.id, 0, REG_RFLAGS));
	EXPECT(p->gpr[4], GUEST_STACK);
	EXPECT(p->segment[1].selector, 0x10);
	EXPECT(p->segment[1].attributes, 0xa09b);
	/* without its dirty bit a change does not count */
	p->gpr[8] = 100;
	p->gpr[9] = 0x99;
	p->rip = GUEST_CODE;
	p->dirty = HV_REGPAGE_IP;
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(p->gpr[8], 43);
	EXPECT(p->dirty, 0);
	EXPECT(*(u64 *)(c.ram + GUEST_DATA), 0);
	for (i = 0; i < 16; i++)
		p->gpr[i] = i == 4 ? GUEST_STACK : 0x100 + i;
	p->rip = GUEST_CODE;
	p->dirty = HV_REGPAGE_IP | HV_REGPAGE_GENERAL;
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(p->gpr[8], 0x109);
	EXPECT(*(u64 *)(c.ram + GUEST_DATA), 0x109);
	EXPECT(reg_get(c.id, 0, 0x2000f), 0x10f);
	/* the calls see what the page says */
	p->gpr[0] = 0xabc;
	p->dirty = HV_REGPAGE_GENERAL;
	EXPECT(reg_get(c.id, 0, REG_RAX), 0xabc);
	reg_set(c.id, 0, REG_RAX, 0xdef);
	EXPECT(p->gpr[0], 0xdef);
	for (i = 0; i < 2; i++) {
		test_case(i);
		p->gpr[0] = 0x100 + i;
		p->dirty = HV_REGPAGE_GENERAL;
		EXPECT(vp_page(c.id, 0, MESSAGE_PAGE, i, NULL), 0);
		EXPECT(p->gpr[0], 0x100 + i);
		EXPECT(reg_get(c.id, 0, REG_RAX), 0x100 + i);
	}
	p->xmm[6] = 0x333;
	p->dirty = HV_REGPAGE_XMM;
	EXPECT(vp_state(HVCALL_GET_VP_STATE, c.id, 0, STATE_XSAVE, area), 0);
	EXPECT(((u64 *)(area + 160 + 48))[0], 0x333);
	((u64 *)(area + 160 + 48))[0] = 0x444;
	p->gpr[0] = 0x555;
	p->dirty = HV_REGPAGE_GENERAL;
	EXPECT(vp_state(HVCALL_SET_VP_STATE, c.id, 0, STATE_XSAVE, area), 0);
	EXPECT(p->xmm[6], 0x444);
	EXPECT(p->gpr[0], 0x555);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0x555);
	p->gpr[0] = 0x666;
	p->dirty = HV_REGPAGE_GENERAL;
	EXPECT(vp_page(c.id, 0, REGISTER_PAGE, false, NULL), 0);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0x666);
	child_delete(&c);
	page_free(area);
}

static void stats_pages(void)
{
	u64 id = partition_ready(20), used = pool_in_use(id);
	struct {
		u32 type;
		u64 id, index;
	} good[] = {
		{ HV_STATS_OBJECT_VP, id, 0 },
		{ HV_STATS_OBJECT_VP, id, 1ull << 56 },
		{ HV_STATS_OBJECT_PARTITION, id, 0 },
		{ HV_STATS_OBJECT_PARTITION, id, 1ull << 56 },
	}, own[] = {
		{ HV_STATS_OBJECT_HYPERVISOR, 0, 0 },
		{ HV_STATS_OBJECT_LOGICAL_PROCESSOR, 0, 0 },
		{ HV_STATS_OBJECT_LOGICAL_PROCESSOR, nr_cpus - 1, 0 },
		{ HV_STATS_OBJECT_PARTITION, 1, 0 },
		{ HV_STATS_OBJECT_PARTITION, ~0ull, 1ull << 56 },
		{ HV_STATS_OBJECT_VP, 1, 0 },
		{ HV_STATS_OBJECT_VP, ~0ull, (nr_cpus - 1) | 1ull << 56 },
	}, bad[] = {
		{ HV_STATS_OBJECT_VP, id, 2ull << 56 },
		{ HV_STATS_OBJECT_VP, id, 1ull << 32 },
		{ HV_STATS_OBJECT_VP, 1, 1ull << 48 },
		{ HV_STATS_OBJECT_PARTITION, id, 1 },
		{ HV_STATS_OBJECT_HYPERVISOR, 1, 0 },
		{ HV_STATS_OBJECT_HYPERVISOR, 0, 1ull << 56 },
		{ HV_STATS_OBJECT_LOGICAL_PROCESSOR, 1ull << 32, 0 },
		{ HV_STATS_OBJECT_LOGICAL_PROCESSOR, 0, 1ull << 56 },
		{ 3, id, 0 },
		{ 0x10003, id, 0 },
	};
	void *page;
	u32 i;

	EXPECT(vp_create(id, 0), 0);
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		test_case(i);
		EXPECT(stats_page(good[i].type, id, good[i].index, false, NULL),
		       HV_STATUS_OPERATION_DENIED);
		EXPECT(stats_page(good[i].type, id, good[i].index, true, &page), 0);
		*(volatile u64 *)page;
		EXPECT(stats_page(good[i].type, id, good[i].index, true, NULL),
		       HV_STATUS_OPERATION_DENIED);
	}
	EXPECT(pool_in_use(id), used + VP_PAGES + 4);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(i);
		EXPECT(stats_page(bad[i].type, bad[i].id, bad[i].index, true, NULL),
		       HV_STATUS_INVALID_PARAMETER);
	}
	EXPECT(stats_page(HV_STATS_OBJECT_VP, id, 7, true, NULL),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(stats_page(HV_STATS_OBJECT_VP, 1, nr_cpus, true, NULL),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(stats_page(HV_STATS_OBJECT_PARTITION, 77, 0, true, NULL),
	       HV_STATUS_INVALID_PARTITION_ID);
	EXPECT(stats_page(HV_STATS_OBJECT_LOGICAL_PROCESSOR, nr_cpus, 0, true,
			  NULL), HV_STATUS_INVALID_LP_INDEX);
	for (i = 0; i < ARRAY_SIZE(good); i++)
		EXPECT(stats_page(good[i].type, id, good[i].index, false, NULL), 0);
	EXPECT(pool_in_use(id), used + VP_PAGES);
	/* a VP's page comes from the root's pool when its own is dry */
	set_dry(id, ~0ull);
	EXPECT(stats_page(HV_STATS_OBJECT_VP, id, 0, true, NULL),
	       HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(deposit(1, 2), 2ull << 32);
	EXPECT(stats_page(HV_STATS_OBJECT_VP, id, 0, true, NULL), 0);
	EXPECT(stats_page(HV_STATS_OBJECT_HYPERVISOR, 0, 0, true, NULL), 0);
	EXPECT(withdraw(1, 2), HV_STATUS_NO_RESOURCES);
	EXPECT(stats_page(HV_STATS_OBJECT_HYPERVISOR, 0, 0, false, NULL), 0);
	partition_gone(id);
	EXPECT(withdraw(1, 2), 2ull << 32);

	/* the root's own: each processor and VP has its page */
	for (i = 0; i < ARRAY_SIZE(own); i++) {
		test_case(0x100 + i);
		if (nr_cpus == 1 && i == 2)
			continue;
		EXPECT(stats_page(own[i].type, own[i].id, own[i].index, true,
				  NULL), HV_STATUS_INSUFFICIENT_MEMORY);
		EXPECT(deposit(1, 1), 1ull << 32);
		EXPECT(stats_page(own[i].type, own[i].id, own[i].index, true,
				  &page), 0);
		*(volatile u64 *)page;
		EXPECT(stats_page(own[i].type, own[i].id, own[i].index, true,
				  NULL), HV_STATUS_OPERATION_DENIED);
	}
	for (i = 0; i < ARRAY_SIZE(own); i++) {
		test_case(0x100 + i);
		if (nr_cpus == 1 && i == 2)
			continue;
		EXPECT(stats_page(own[i].type, own[i].id, own[i].index, false,
				  NULL), 0);
		EXPECT(stats_page(own[i].type, own[i].id, own[i].index, false,
				  NULL), HV_STATUS_OPERATION_DENIED);
	}
	EXPECT_TRUE(withdraw_all(1) >= ARRAY_SIZE(own) - 1);
}

GUEST(guest_tsc_aux,
	"rdtscp; movl %ecx, %esi\n"
	"movl $0xc0000103, %ecx; movl $9, %eax; xorl %edx, %edx; wrmsr\n"
	"rdtscp; hlt");

static void tsc_aux(void)
{
	struct child c;
	u64 own = rdmsr(0xc0000103);
	u32 i;

	child_create(&c, 2);
	wrmsr(0xc0000103, 5);
	CHILD_CODE(&c, guest_tsc_aux);
	for (i = 0; i < 2; i++) {
		EXPECT(reg_set(c.id, i, REG_TSC_AUX, 7 + i), 0);
		EXPECT(child_expect(&c, i), HVMSG_X64_HALT);
		EXPECT(reg_get(c.id, i, REG_RSI), 7 + i);
		EXPECT(reg_get(c.id, i, REG_RCX), 9);
		EXPECT(reg_get(c.id, i, REG_TSC_AUX), 9);
		EXPECT(rdmsr(0xc0000103), 5);
	}
	wrmsr(0xc0000103, own);
	child_delete(&c);
}

static void stats_page_of_the_dead(void)
{
	u64 id = partition_ready(20), used;
	void *page;

	EXPECT(stats_page(HV_STATS_OBJECT_PARTITION, id, 0, true, &page), 0);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	used = pool_in_use(id);
	EXPECT(stats_page(HV_STATS_OBJECT_PARTITION, id, 0, true, NULL),
	       HV_STATUS_INVALID_PARTITION_STATE);
	EXPECT(stats_page(HV_STATS_OBJECT_VP, id, 0, true, NULL),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(pool_in_use(id), used);
	partition_gone(id);
}

static void xsave_state(void)
{
	u64 id = partition_ready(10), v[2];
	u8 *page = page_alloc();

	EXPECT(vp_create(id, 0), 0);
	EXPECT(reg_set2(id, 0, REG_XMM0 + 3, 0x1111, 0x2222), 0);
	EXPECT(vp_state(HVCALL_GET_VP_STATE, id, 0, STATE_XSAVE, page), 0);
	EXPECT(((u64 *)(page + 160 + 48))[0], 0x1111);
	EXPECT(((u64 *)(page + 160 + 48))[1], 0x2222);
	((u64 *)(page + 160 + 48))[0] = 0x3333;
	EXPECT(vp_state(HVCALL_SET_VP_STATE, id, 0, STATE_XSAVE, page), 0);
	EXPECT(reg_get2(id, 0, REG_XMM0 + 3, v), 0);
	EXPECT(v[0], 0x3333);
	/* an area that XRSTOR would refuse */
	((u32 *)page)[6] = 1 << 16;
	EXPECT(vp_state(HVCALL_SET_VP_STATE, id, 0, STATE_XSAVE, page),
	       HV_STATUS_INVALID_PARAMETER);
	((u32 *)page)[6] = 0x1f80;
	((u64 *)page)[65] = 1;
	EXPECT(vp_state(HVCALL_SET_VP_STATE, id, 0, STATE_XSAVE, page),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(vp_state(HVCALL_GET_VP_STATE, id, 0, 0x77, page),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(vp_state(HVCALL_GET_VP_STATE, id, 1, STATE_XSAVE, page),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(vp_state(HVCALL_GET_VP_STATE, id, 0, STATE_XSAVE, (void *)0x200000),
	       HV_STATUS_OPERATION_DENIED);
	page_free(page);
	partition_gone(id);
}

static u64 translate(u64 id, u64 gva, u64 flags, u64 *gpa)
{
	u64 *in = this_cpu()->in;
	u16 status;

	in[0] = id;
	in[1] = 0;
	in[2] = flags;
	in[3] = gva >> 12;
	status = hvcall(HVCALL_TRANSLATE_VIRTUAL_ADDRESS, in, this_cpu()->out);
	*gpa = this_cpu()->out[1] << 12;
	return status ? ~0ull : (u32)this_cpu()->out[0];
}

#define T_READ		1
#define T_WRITE		2
#define T_EXECUTE	4
#define T_EXEMPT	8

static void translation(void)
{
	static const struct {
		u64 gva, flags, result, gpa;
	} good[] = {
		{ 0x5000, T_READ, 0, 0x5000 },
		{ 0x1ff000, T_WRITE, 0, 0x1ff000 },
		{ 0x200000, T_READ, 4, 0x200000 },	/* GPA not mapped */
		{ 0x100000000, T_READ, 1, 0 },		/* not present */
		{ 0xffff800000000000, T_READ, 1, 0 },
		{ 0x0000800000000000, T_READ, 1, 0 },	/* not canonical */
		{ 0x40001000, T_READ, 0, 0x9000 },	/* 4 KiB entries */
		{ 0x40002000, T_READ, 0, 0x9000 },
		{ 0x40002000, T_WRITE, 2, 0 },		/* read-only, CR0.WP */
		{ 0x40001000, T_EXECUTE, 2, 0 },
		{ 0x40002000, T_EXECUTE, 0, 0x9000 },
		{ 0x50000, T_READ, 5, 0 },		/* GPA without access */
		{ 0x51000, T_WRITE, 6, 0 },		/* GPA read-only */
		{ 0x51000, T_READ, 0, 0x51000 },
	};
	struct child c;
	u64 gpa, *pd, *pt;
	u32 i;

	child_create(&c, 1);
	EXPECT(map_run(c.id, 0x50, 0, 1, NO_ACCESS), 1ull << 32);
	EXPECT(map_run(c.id, 0x51, (u64)c.ram, 1, HV_MAP_GPA_READABLE), 1ull << 32);
	pd = (u64 *)(c.ram + GUEST_TABLES + 3 * PAGE_SIZE);
	pt = (u64 *)(c.ram + 0x60000);
	pd[0] = 0x60000 | 7;
	pt[1] = 0x9000 | 7 | 1ull << 63;
	pt[2] = 0x9000 | 5;
	reg_set(c.id, 0, REG_CR0, 0x80010033);
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		test_case(i);
		EXPECT(translate(c.id, good[i].gva, good[i].flags,
				 &gpa), good[i].result);
		if (!good[i].result)
			EXPECT(gpa, good[i].gpa);
	}
	/* a user may not what only the kernel may */
	pt[2] = 0x9000 | 3;
	reg_set2(c.id, 0, REG_SS, 0, 0xc0f3001bffffffff);
	EXPECT(translate(c.id, 0x40002000, T_READ, &gpa), 2);
	EXPECT(translate(c.id, 0x40002000, T_READ | T_EXEMPT, &gpa), 0);
	/* without paging */
	reg_set(c.id, 0, REG_CR0, 0x11);
	EXPECT(translate(c.id, 0x5000, T_READ, &gpa), 0);
	EXPECT(gpa, 0x5000);
	EXPECT(translate(c.id, 0, 1 << 6, &gpa), ~0ull);
	child_delete(&c);
}

static const struct test tests[] = {
	{ "VPs are created and deleted, and their pages come back", create_delete },
	{ "a new VP is in the state after INIT, explicitly suspended", reset_state },
	{ "every register keeps what is set", set_get },
	{ "unknown registers and invalid values are refused with progress", bad_registers },
	{ "a VP runs with the registers set and its changes can be got", guest_sees_registers },
	{ "VP state pages come from the pool and return to it", state_pages },
	{ "a state page is no longer the root's after finalization", no_page_after_deletion },
	{ "the register page shows registers and takes those marked dirty", register_page },
	{ "stats pages exist once for each object and area", stats_pages },
	{ "a finalized partition gets no stats page", stats_page_of_the_dead },
	{ "each VP has a TSC_AUX of its own", tsc_aux },
	{ "XSAVE state is got, set and checked", xsave_state },
	{ "virtual addresses are translated by the VP's tables and rights", translation },
};

void test_vp(void)
{
	RUN(tests);
}
