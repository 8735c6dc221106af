// SPDX-License-Identifier: GPL-2.0
/* Intercept messages, each with all of its fields, and what needs no message. */
#include "test.h"

#define LONG_MODE_STATE	0x14		/* PE, LMA, CPL 0 */
#define SHADOW_STATE	(1 << 12)	/* the shadow of STI or MOV SS */
#define EXCEPTION_TABLE	0x40000		/* IDT of the child, in its RAM */
#define HANDLER		0x48000ull
#define READ		HV_INTERCEPT_ACCESS_READ
#define WRITE		HV_INTERCEPT_ACCESS_WRITE
#define EXECUTE		HV_INTERCEPT_ACCESS_EXECUTE

static struct child c;

static void *payload_of(u32 vp)
{
	return c.message[vp]->payload;
}

/* The part that all messages share, against what the registers say. */
static void check_header(u32 size, u8 access, u32 length, u16 state)
{
	struct hv_message *m = c.message[0];
	struct hv_intercept_header *h = payload_of(0);
	u64 cs[2];

	EXPECT(m->payload_size, size);
	EXPECT(m->flags, 0);
	EXPECT(m->rsvd, 0);
	EXPECT(m->sender, c.id);
	EXPECT(h->vp_index, 0);
	EXPECT(h->instruction_length, length);
	EXPECT(h->cr8, reg_get(c.id, 0, REG_CR8));
	EXPECT(h->access_type, access);
	EXPECT(h->execution_state, state);
	reg_get2(c.id, 0, REG_CS, cs);
	EXPECT(memcmp(&h->cs, cs, 16), 0);
	EXPECT(h->rip, reg_get(c.id, 0, REG_RIP));
	EXPECT(h->rflags, reg_get(c.id, 0, REG_RFLAGS));
}

static void start(const u8 *code, u64 length)
{
	memset(c.ram + GUEST_CODE, 0xcc, 256);
	child_code(&c, code, length);
	reg_set(c.id, 0, REG_RIP, GUEST_CODE);
}

#define START(name)	start(name, name##_end - name)

/* The VMM's part: the instruction is done. */
static void skip_instruction(u32 length)
{
	reg_set(c.id, 0, REG_RIP, reg_get(c.id, 0, REG_RIP) + length);
}

/* A gate for @vector at HANDLER, where there is code that halts. */
static void child_handler(u32 vector)
{
	u64 *gate = (u64 *)(c.ram + EXCEPTION_TABLE + 16 * vector);

	gate[0] = (HANDLER & 0xffff) | 0x10ull << 16 | 0x8eull << 40 |
		  (HANDLER >> 16 & 0xffff) << 48;
	gate[1] = 0;
	c.ram[HANDLER] = 0xf4;
	/* the child's GDT, for the CS of the gate */
	((u64 *)(c.ram + 0x41000))[2] = 0x00af9b000000ffff;
	((u64 *)(c.ram + 0x41000))[3] = 0x00cf93000000ffff;
	reg_set2(c.id, 0, 0x70000, 0x0fff000000000000, EXCEPTION_TABLE);
	reg_set2(c.id, 0, 0x70001, 0x001f000000000000, 0x41000);
}

static bool halted_in_handler(void)
{
	return child_expect(&c, 0) == HVMSG_X64_HALT &&
	       reg_get(c.id, 0, REG_RIP) == HANDLER;
}

GUEST(guest_read, "movq (%rbx), %rax; hlt");
GUEST(guest_write, "movl %eax, 4(%rbx,%rcx,8); hlt");
GUEST(guest_jump, "jmp *%rbx");

static void check_memory(u32 type, u8 access, u64 gva, u64 gpa, const u8 *code,
			 u32 length)
{
	struct hv_memory_message *m = payload_of(0);

	EXPECT(child_expect(&c, 0), type);
	check_header(sizeof(*m), access, 0, LONG_MODE_STATE);
	EXPECT(m->cache_type, 6);
	EXPECT(m->access_info, 3);
	EXPECT(m->gva, gva);
	EXPECT(m->gpa, gpa);
	EXPECT(m->tpr_priority, 0);
	EXPECT(m->instruction_byte_count, code ? 16 : 0);
	if (code)
		EXPECT(memcmp(m->instruction_bytes, code, length), 0);
}

#define BYTES(name)	name, name##_end - name

static void unmapped(void)
{
	child_create(&c, 1);
	START(guest_read);
	reg_set(c.id, 0, REG_RBX, 0x345678);
	check_memory(HVMSG_UNMAPPED_GPA, READ, 0x345678, 0x345678,
		     BYTES(guest_read));
	EXPECT(reg_get(c.id, 0, REG_RIP), GUEST_CODE);
	/* resumed without a mapping it comes again; with one it goes on */
	check_memory(HVMSG_UNMAPPED_GPA, READ, 0x345678, 0x345678,
		     BYTES(guest_read));
	EXPECT(STATUS(map_run(c.id, 0x345, (u64)c.ram, 1, MAP_RWX)), 0);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	START(guest_write);
	reg_set(c.id, 0, REG_RBX, 0x300000);
	reg_set(c.id, 0, REG_RCX, 0x10);
	check_memory(HVMSG_UNMAPPED_GPA, WRITE, 0x300084, 0x300084,
		     BYTES(guest_write));
	START(guest_jump);
	reg_set(c.id, 0, REG_RBX, 0x300010);
	check_memory(HVMSG_UNMAPPED_GPA, EXECUTE, 0x300010, 0x300010, NULL, 0);
	EXPECT(reg_get(c.id, 0, REG_RIP), 0x300010);
	child_delete(&c);
}

static void not_allowed(void)
{
	child_create(&c, 1);
	EXPECT(STATUS(map_run(c.id, 0x300, (u64)c.ram, 1, 0x3)), 0);
	EXPECT(STATUS(map_run(c.id, 0x301, (u64)c.ram, 1, 0xd)), 0);
	EXPECT(STATUS(map_run(c.id, 0x302, 0, 1, NO_ACCESS)), 0);
	START(guest_write);
	reg_set(c.id, 0, REG_RBX, 0x301000);
	reg_set(c.id, 0, REG_RCX, 0);
	check_memory(HVMSG_GPA_INTERCEPT, WRITE, 0x301004, 0x301004,
		     BYTES(guest_write));
	START(guest_jump);
	reg_set(c.id, 0, REG_RBX, 0x300020);
	check_memory(HVMSG_GPA_INTERCEPT, EXECUTE, 0x300020, 0x300020, NULL, 0);
	START(guest_read);
	reg_set(c.id, 0, REG_RBX, 0x302008);
	check_memory(HVMSG_GPA_INTERCEPT, READ, 0x302008, 0x302008,
		     BYTES(guest_read));
	EXPECT(STATUS(map_run(c.id, 0x302, (u64)c.ram, 1, 0x1)), 0);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	child_delete(&c);
}

/* A page-crossing access: the lowest GPA that intercepts. */
static void crossing(void)
{
	struct hv_memory_message *m;

	child_create(&c, 1);
	m = payload_of(0);
	START(guest_read);
	reg_set(c.id, 0, REG_RBX, 0x1ffffc);	/* 0x200000 is not mapped */
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	EXPECT(m->gpa, 0x200000);
	if (m->access_info & 1)
		EXPECT(m->gva, 0x200000);
	reg_set(c.id, 0, REG_RBX, 0x3ffffc);	/* nor is the page before it */
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	EXPECT(m->gpa, 0x3ffffc);
	/* an instruction that begins on the last mapped byte */
	c.ram[0x1fffff] = 0x0f;
	reg_set(c.id, 0, REG_RIP, 0x1fffff);
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	check_header(sizeof(*m), EXECUTE, 0, LONG_MODE_STATE);
	EXPECT(m->gpa, 0x200000);
	EXPECT(m->gva, 0x200000);
	child_delete(&c);
}

/* The child's own page table is not mapped: no GVA of an access. */
static void table_walk(void)
{
	struct hv_memory_message *m;

	child_create(&c, 1);
	m = payload_of(0);
	((u64 *)(c.ram + GUEST_TABLES))[1] = 0x700000 | 7;
	START(guest_read);
	reg_set(c.id, 0, REG_RBX, 0x8000000000);
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	EXPECT(m->gpa, 0x700000);
	EXPECT(m->access_info, 0);
	EXPECT(m->gva, 0);
	child_delete(&c);
}

static void during_delivery(void)
{
	struct hv_memory_message *m;

	child_create(&c, 1);
	m = payload_of(0);
	START(guest_read);
	child_handler(0x20);
	reg_set2(c.id, 0, 0x70000, 0x0fff000000000000, 0x310000);
	EXPECT(reg_set(c.id, 0, REG_PENDING_INTERRUPTION, 1 | 0x20 << 16), 0);
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	check_header(sizeof(*m), READ, 0, LONG_MODE_STATE | 1 << 6);
	EXPECT(m->gpa, 0x310200);
	EXPECT(m->instruction_byte_count, 0);
	EXPECT(reg_get(c.id, 0, REG_PENDING_INTERRUPTION), 1 | 0x20 << 16);
	/* with the table in place the interrupt is delivered after all */
	EXPECT(STATUS(map_run(c.id, 0x310, (u64)c.ram + EXCEPTION_TABLE, 1,
			      MAP_RWX)), 0);
	EXPECT_TRUE(halted_in_handler());
	EXPECT(*(u64 *)(c.ram + GUEST_STACK - 40), GUEST_CODE);
	child_delete(&c);
}

GUEST(guest_shadow,
	"sti; outb %al, $0x80\n"
	"cli; sti; cpuid; outb %al, $0x80\n");

/* STI holds interrupts off for one instruction, also for one that is emulated. */
static void interrupt_shadow(void)
{
	child_create(&c, 1);
	START(guest_shadow);
	EXPECT(child_expect(&c, 0), HVMSG_X64_IO_PORT_INTERCEPT);
	check_header(sizeof(struct hv_io_port_message), WRITE, 2,
		     LONG_MODE_STATE | SHADOW_STATE);
	EXPECT(reg_get(c.id, 0, REG_INTERRUPT_STATE), 1);
	skip_instruction(2);
	EXPECT(reg_set(c.id, 0, REG_INTERRUPT_STATE, 0), 0);
	EXPECT(child_expect(&c, 0), HVMSG_X64_IO_PORT_INTERCEPT);
	check_header(sizeof(struct hv_io_port_message), WRITE, 2, LONG_MODE_STATE);
	EXPECT(reg_get(c.id, 0, REG_INTERRUPT_STATE), 0);
	child_delete(&c);
}

GUEST(guest_io,
	"outb %al, $0x80\n"
	"inl (%dx), %eax\n"
	"outw %ax, (%dx)\n"
	"rep outsb\n"
	"insl\n"
	"hlt");

static void io_ports(void)
{
	static const struct {
		u8 access, length, info;
		u16 port;
	} wanted[] = {
		{ WRITE, 2, 1, 0x80 }, { READ, 1, 4, 0x3f0 },
		{ WRITE, 2, 2, 0x3f0 }, { WRITE, 2, 0x19, 0x3f0 },
		{ READ, 1, 0xc, 0x3f0 },
	};
	struct hv_io_port_message *m;
	u64 ds[2];
	u32 i;

	child_create(&c, 1);
	m = payload_of(0);
	START(guest_io);
	reg_set(c.id, 0, REG_RAX, 0x11223344);
	reg_set(c.id, 0, REG_RDX, 0x3f0);
	reg_set(c.id, 0, REG_RCX, 0x55);
	reg_set(c.id, 0, REG_RSI, 0x20066);
	reg_set(c.id, 0, REG_RDI, 0x20077);
	reg_set(c.id, 0, REG_CR8, 3);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		test_case(i);
		EXPECT(child_expect(&c, 0), HVMSG_X64_IO_PORT_INTERCEPT);
		check_header(sizeof(*m), wanted[i].access, wanted[i].length,
			     LONG_MODE_STATE);
		EXPECT(m->port, wanted[i].port);
		EXPECT(m->access_info, wanted[i].info);
		EXPECT(m->rax, reg_get(c.id, 0, REG_RAX));
		EXPECT(m->instruction_byte_count, 16);
		EXPECT(memcmp(m->instruction_bytes,
			      c.ram + reg_get(c.id, 0, REG_RIP), 6), 0);
		EXPECT(m->rcx, 0x55);
		EXPECT(m->rsi, 0x20066);
		EXPECT(m->rdi, 0x20077);
		reg_get2(c.id, 0, 0x60003, ds);
		EXPECT(memcmp(&m->ds, ds, 16), 0);
		EXPECT(memcmp(&m->es, ds, 16), 0);
		skip_instruction(m->header.instruction_length);
		if (i == 1)
			reg_set(c.id, 0, REG_RAX, 0xabcd);
	}
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0xabcd);
	child_delete(&c);
}

GUEST(guest_msr,
	"rdmsr\n"
	"wrmsr\n"
	"movl $0x40000002, %ecx; rdmsr\n"
	"hlt");

static void msrs(void)
{
	struct hv_msr_message *m;
	u32 i;

	child_create(&c, 1);
	m = payload_of(0);
	child_handler(13);
	START(guest_msr);
	reg_set(c.id, 0, REG_RCX, 0x4b564d00);
	reg_set(c.id, 0, REG_RAX, 0xaaaa);
	reg_set(c.id, 0, REG_RDX, 0xdddd);
	/* not asked for: #GP */
	EXPECT_TRUE(halted_in_handler());
	EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_X64_MSR, 3, 0), 0);
	START(guest_msr);
	for (i = 0; i < 2; i++) {
		test_case(i);
		EXPECT(child_expect(&c, 0), HVMSG_X64_MSR_INTERCEPT);
		check_header(sizeof(*m), i ? WRITE : READ, 2, LONG_MODE_STATE);
		EXPECT(m->msr, 0x4b564d00);
		EXPECT(m->rax, 0xaaaa);
		EXPECT(m->rdx, 0xdddd);
		skip_instruction(2);
	}
	/* the hypervisor's own are its own */
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0);
	/* only writes */
	EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_X64_MSR, 2, 0), 0);
	START(guest_msr);
	reg_set(c.id, 0, REG_RCX, 0x4b564d00);
	reg_set(c.id, 0, REG_RSP, GUEST_STACK);
	EXPECT_TRUE(halted_in_handler());
	child_delete(&c);
}

static void set_property(u64 id, u64 code, u64 value)
{
	u64 *in = this_cpu()->in;

	in[0] = id;
	in[1] = code;
	in[2] = value;
	EXPECT(hvcall(HVCALL_SET_PARTITION_PROPERTY, in, NULL), 0);
}

/* Unknown MSRs ignored, by the partition's property or for one MSR. */
static void ignored_msrs(void)
{
	u32 *in;

	child_create(&c, 1);
	child_handler(13);
	set_property(c.id, 0x50017, 1);
	START(guest_msr);
	reg_set(c.id, 0, REG_RCX, 0x4b564d00);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RIP) - GUEST_CODE,
	       guest_msr_end - guest_msr - 1);
	set_property(c.id, 0x50017, 0);
	in = (u32 *)this_cpu()->in;
	memset(in, 0, 64);
	*(u64 *)in = c.id;
	in[2] = ~0u;
	in[3] = HV_INTERCEPT_TYPE_X64_MSR;
	in[4] = 0x4b564d00;
	in[5] = 3;
	in[6] = 1;
	EXPECT(hvcall(HVCALL_REGISTER_INTERCEPT_RESULT, in, NULL), 0);
	START(guest_msr);
	reg_set(c.id, 0, REG_RCX, 0x4b564d00);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RIP) - GUEST_CODE,
	       guest_msr_end - guest_msr - 1);
	START(guest_msr);
	reg_set(c.id, 0, REG_RCX, 0x4b564d01);
	EXPECT_TRUE(halted_in_handler());
	child_delete(&c);
}

GUEST(guest_xsetbv, "xsetbv; hlt");

/* AVX needs SSE, MPX has two parts, AVX-512 three and AVX */
static void xsetbv(void)
{
	static const u32 good[] = { 1, 3, 7, 0x1f, 0xe7 };
	static const u32 bad[] = {
		0, 2, 5, 9, 0x11, 0x21, 0x27, 0x47, 0x87, 0xa7, 0xc7, 0xe1, 0xe3
	};
	u32 leaf[4], i;

	cpuid(1, 0, leaf);
	if (!(leaf[2] >> 26 & 1)) {
		test_skip("the CPU has no XSAVE");
		return;
	}
	cpuid(0xd, 0, leaf);
	child_create(&c, 1);
	child_handler(13);
	EXPECT(reg_set(c.id, 0, REG_CR4, 0x40620), 0);
	reg_set(c.id, 0, REG_RCX, 0);
	reg_set(c.id, 0, REG_RDX, 0);
	for (i = 0; i < ARRAY_SIZE(good) + ARRAY_SIZE(bad); i++) {
		bool valid = i < ARRAY_SIZE(good);
		u32 value = valid ? good[i] : bad[i - ARRAY_SIZE(good)];

		test_case(value);
		if (valid && (value & ~leaf[0]))
			continue;
		START(guest_xsetbv);
		reg_set(c.id, 0, REG_RSP, GUEST_STACK);
		reg_set(c.id, 0, REG_RAX, value);
		EXPECT(reg_set(c.id, 0, REG_XFEM, 1), 0);
		EXPECT(halted_in_handler(), !valid);
		EXPECT(reg_get(c.id, 0, REG_XFEM), valid ? value : 1);
	}
	child_delete(&c);
}

GUEST(guest_cpuid, "cpuid; hlt");

static u32 guest_leaf(u64 leaf, u64 subleaf)
{
	START(guest_cpuid);
	reg_set(c.id, 0, REG_RAX, leaf);
	reg_set(c.id, 0, REG_RCX, subleaf);
	reg_set(c.id, 0, REG_RBX, 0xb);
	reg_set(c.id, 0, REG_RDX, 0xd);
	return child_expect(&c, 0);
}

static void cpuid_intercept(void)
{
	struct hv_cpuid_message *m;
	u64 def[4];

	child_create(&c, 1);
	m = payload_of(0);
	EXPECT(guest_leaf(0x80000002, 7), HVMSG_X64_HALT);
	def[0] = reg_get(c.id, 0, REG_RAX);
	def[1] = reg_get(c.id, 0, REG_RBX);
	def[2] = reg_get(c.id, 0, REG_RCX);
	def[3] = reg_get(c.id, 0, REG_RDX);
	EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_X64_CPUID, 4,
				 0x80000002), 0);
	EXPECT(guest_leaf(0x80000002, 7), HVMSG_X64_CPUID_INTERCEPT);
	check_header(sizeof(*m), EXECUTE, 2, LONG_MODE_STATE);
	EXPECT(m->rax, 0x80000002);
	EXPECT(m->rbx, 0xb);
	EXPECT(m->rcx, 7);
	EXPECT(m->rdx, 0xd);
	EXPECT(m->default_rax, def[0]);
	EXPECT(m->default_rbx, def[1]);
	EXPECT(m->default_rcx, def[2]);
	EXPECT(m->default_rdx, def[3]);
	skip_instruction(2);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	/* other leaves are not the VMM's; this one no longer either */
	EXPECT(guest_leaf(0x80000003, 0), HVMSG_X64_HALT);
	EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_X64_CPUID, 0,
				 0x80000002), 0);
	EXPECT(guest_leaf(0x80000002, 7), HVMSG_X64_HALT);
	child_delete(&c);
}

static void cpuid_results(void)
{
	u32 *in = (u32 *)this_cpu()->in;

	child_create(&c, 1);
	memset(in, 0, 64);
	*(u64 *)in = c.id;
	in[3] = HV_INTERCEPT_TYPE_X64_CPUID;
	in[4] = 0x80000002;
	in[5] = 3;
	in[6] = 1;			/* this subleaf only */
	in[7] = 0x1234;			/* EAX, mask; EBX ... */
	in[8] = 0xffffffff;
	in[11] = 0x5678;
	in[12] = 0xffff;
	EXPECT(hvcall(HVCALL_REGISTER_INTERCEPT_RESULT, in, NULL), 0);
	EXPECT(guest_leaf(0x80000002, 3), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0x1234);
	EXPECT(reg_get(c.id, 0, REG_RCX) & 0xffff, 0x5678);
	EXPECT(guest_leaf(0x80000002, 4), HVMSG_X64_HALT);
	EXPECT_TRUE(reg_get(c.id, 0, REG_RAX) != 0x1234);
	in[3] = 77;
	EXPECT(hvcall(HVCALL_REGISTER_INTERCEPT_RESULT, in, NULL),
	       HV_STATUS_INVALID_PARAMETER);
	/* what a child sees by default: a hypervisor, no privileges, no SVM */
	EXPECT(guest_leaf(0x40000000, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RBX), 0x7263694d);
	EXPECT(guest_leaf(0x40000003, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RBX), 0);
	EXPECT(guest_leaf(0x40000100, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0);
	EXPECT(guest_leaf(1, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RCX) >> 31, 1);
	EXPECT(guest_leaf(0x80000001, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RCX) & 4, 0);
	child_delete(&c);
}

GUEST(guest_exception,		/* one every 16 bytes */
	"jmp *%rbx\n"
	".org guest_exception + 16, 0xf4; ud2\n"
	".org guest_exception + 32, 0xf4; divl %ecx\n"
	".org guest_exception + 48, 0xf4; movq %rax, (%r9)\n"
	".org guest_exception + 64, 0xf4; movl %eax, %ds\n"
	".org guest_exception + 80, 0xf4; int3\n"
	".org guest_exception + 96, 0xf4\n");

static void exceptions(void)
{
	static const struct {
		u8 vector, info;
		u32 error;
		u64 parameter;
	} wanted[] = {
		{ 6, 0, 0, 0 }, { 0, 0, 0, 0 }, { 14, 1, 2, 0x8000001000 },
		{ 13, 1, 0x1230, 0 }, { 3, 2, 0, 0 },
	};
	struct hv_exception_message *m;
	u64 gpr[16], ds[2];
	u32 i, j;

	child_create(&c, 1);
	m = payload_of(0);
	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		child_handler(wanted[i].vector);
	for (i = 0; i < 2 * ARRAY_SIZE(wanted); i++) {
		u32 n = i / 2, vector = wanted[n].vector;

		test_case(vector | (i & 1) << 8);
		START(guest_exception);
		reg_set(c.id, 0, REG_RAX, 0x1230);
		reg_set(c.id, 0, REG_RBX, GUEST_CODE + 16 * (n + 1));
		reg_set(c.id, 0, REG_RCX, 0);
		reg_set(c.id, 0, REG_RSP, GUEST_STACK);
		reg_set(c.id, 0, 0x20009, 0x8000001000);
		if (!(i & 1)) {		/* the child's own business at first */
			EXPECT_TRUE(halted_in_handler());
			EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_EXCEPTION,
						 4, vector), 0);
			continue;
		}
		EXPECT(child_expect(&c, 0), HVMSG_X64_EXCEPTION_INTERCEPT);
		check_header(sizeof(*m), EXECUTE, 0, LONG_MODE_STATE);
		EXPECT(m->header.rip, GUEST_CODE + 16 * (n + 1));
		EXPECT(m->vector, vector);
		EXPECT(m->info, wanted[n].info);
		EXPECT(m->error_code, wanted[n].error);
		EXPECT(m->parameter, wanted[n].parameter);
		EXPECT(m->instruction_byte_count, 16);
		EXPECT(memcmp(m->instruction_bytes, c.ram + m->header.rip, 16), 0);
		reg_get2(c.id, 0, 0x60003, ds);
		EXPECT(memcmp(&m->ds, ds, 16), 0);
		EXPECT(memcmp(&m->ss, ds, 16), 0);
		for (j = 0; j < 16; j++)
			gpr[j] = reg_get(c.id, 0, REG_RAX + j);
		EXPECT(memcmp(m->gpr, gpr, sizeof(gpr)), 0);
		EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_EXCEPTION, 0,
					 vector), 0);
	}
	child_delete(&c);
}

static void install_refused(void)
{
	u64 id = partition_ready(3);

	EXPECT(install_intercept(id, 77, 1, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(install_intercept(id, HV_INTERCEPT_TYPE_X64_MSR, 8, 0),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(install_intercept(id, HV_INTERCEPT_TYPE_EXCEPTION, 4, 32),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(install_intercept(id, HV_INTERCEPT_TYPE_EXCEPTION, 4, 2),
	       HV_STATUS_INVALID_PARAMETER);
	partition_gone(id);
}

GUEST(guest_vmmcall, "vmmcall; hlt");

static void hypercall_intercept(void)
{
	static const u32 reg[] = {
		REG_RAX, REG_RBX, REG_RCX, REG_RDX, 0x20008, REG_RSI, REG_RDI
	};
	struct hv_hypercall_message *m;
	u64 v[2];
	u32 i;

	child_create(&c, 1);
	m = payload_of(0);
	EXPECT(install_intercept(c.id, HV_INTERCEPT_TYPE_HYPERCALL, 4, 0), 0);
	START(guest_vmmcall);
	for (i = 0; i < ARRAY_SIZE(reg); i++)
		reg_set(c.id, 0, reg[i], 0x100 + i);
	reg_set2(c.id, 0, REG_XMM0 + 5, 0x55, 0x66);
	EXPECT(child_expect(&c, 0), HVMSG_HYPERCALL_INTERCEPT);
	check_header(sizeof(*m), EXECUTE, 3, LONG_MODE_STATE);
	for (i = 0; i < ARRAY_SIZE(reg); i++)
		EXPECT((&m->rax)[i], 0x100 + i);
	reg_get2(c.id, 0, REG_XMM0 + 5, v);
	EXPECT(memcmp(&m->xmm[10], v, 16), 0);
	EXPECT(v[1], 0x66);
	child_delete(&c);
}

GUEST(guest_calls,
	"movl $0x40000000, %ecx; movl $1, %eax; xorl %edx, %edx; wrmsr\n"
	"movl $0x40000001, %ecx; movl $0x60001, %eax; wrmsr\n"
	"1: movq (%rsi), %rcx; xorl %edx, %edx; xorl %r8d, %r8d\n"
	"movl $0x60000, %eax; callq *%rax\n"
	"movq %rax, (%rsi); addq $8, %rsi; decl %ebx; jnz 1b\n"
	"hlt");

GUEST(guest_without_id,
	"movl $0x40000001, %ecx; movl $0x60001, %eax; xorl %edx, %edx; wrmsr\n"
	"rdmsr; vmmcall; hlt");

static void child_hypercalls(void)
{
	const u32 dirty = SLAT_ACCESSED | SLAT_DIRTY;
	static const struct {
		u64 control, result;
	} call[] = {
		{ HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, 0 },
		{ HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST | 3ull << 32, 3ull << 32 },
		{ HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST, 3 },
		{ HVCALL_NOTIFY_LONG_SPIN_WAIT, 0 },
		{ HVCALL_CREATE_PARTITION, HV_STATUS_ACCESS_DENIED },
		{ HVCALL_MAP_GPA_PAGES | 1ull << 32, HV_STATUS_ACCESS_DENIED },
		{ HVCALL_DEPOSIT_MEMORY | 1ull << 32, HV_STATUS_ACCESS_DENIED },
		{ HVCALL_DISPATCH_VP, HV_STATUS_ACCESS_DENIED },
		{ HVCALL_GET_PARTITION_ID, HV_STATUS_ACCESS_DENIED },
		{ 0x8888, HV_STATUS_INVALID_HYPERCALL_CODE },
		{ HVCALL_CREATE_PARTITION | 1ull << 27,
		  HV_STATUS_INVALID_HYPERCALL_INPUT },
	};
	u64 *p;
	u32 i;

	child_create(&c, 1);
	child_handler(6);
	START(guest_vmmcall);
	EXPECT_TRUE(halted_in_handler());	/* not set up: #UD */
	START(guest_without_id);
	reg_set(c.id, 0, REG_RSP, GUEST_STACK);
	EXPECT_TRUE(halted_in_handler());	/* nor can it be without an OS ID */
	EXPECT(reg_get(c.id, 0, REG_RAX), 0x60000);
	START(guest_calls);
	p = (u64 *)(c.ram + 0x70000);
	for (i = 0; i < ARRAY_SIZE(call); i++)
		p[i] = call[i].control;
	reg_set(c.id, 0, REG_RSP, GUEST_STACK);
	reg_set(c.id, 0, REG_RSI, 0x70000);
	reg_set(c.id, 0, REG_RBX, ARRAY_SIZE(call));
	EXPECT(slat_flags(c.id, 0x60), SLAT_RWX);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	/* the page is written, although not by the VP itself */
	EXPECT(slat_flags(c.id, 0x60), SLAT_RWX | dirty);
	for (i = 0; i < ARRAY_SIZE(call); i++) {
		test_case(i);
		EXPECT(p[i], call[i].result);
	}
	child_delete(&c);
}

static void halt(void)
{
	static const u8 code[] = { 0xf4, 0xf4 };
	struct oracle o = { { HVMSG_X64_HALT } };
	u64 before;

	child_create(&c, 1);
	oracle(ORACLE_MESSAGES, &o);
	before = o.a[0];
	start(code, sizeof(code));
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	check_header(sizeof(struct hv_intercept_header), EXECUTE, 1,
		     LONG_MODE_STATE);
	EXPECT(reg_get(c.id, 0, REG_RIP), GUEST_CODE);
	skip_instruction(1);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(reg_get(c.id, 0, REG_RIP), GUEST_CODE + 1);
	o.a[0] = HVMSG_X64_HALT;
	oracle(ORACLE_MESSAGES, &o);
	EXPECT(o.a[0], before + 2);
	child_delete(&c);
}

static void triple_fault(void)
{
	static const u8 code[] = { 0x0f, 0x0b };	/* no IDT */

	child_create(&c, 1);
	start(code, sizeof(code));
	reg_set2(c.id, 0, 0x70000, 0, 0);
	EXPECT(child_expect(&c, 0), HVMSG_UNRECOVERABLE_EXCEPTION);
	check_header(sizeof(struct hv_intercept_header), EXECUTE, 0,
		     LONG_MODE_STATE);
	child_delete(&c);
}

static void invalid_state(void)
{
	child_create(&c, 1);
	START(guest_read);
	reg_set(c.id, 0, REG_CR4, 0x600);	/* long mode without PAE */
	EXPECT(child_expect(&c, 0), HVMSG_INVALID_VP_REGISTER_VALUE);
	check_header(sizeof(struct hv_intercept_header), EXECUTE, 0,
		     LONG_MODE_STATE);
	child_delete(&c);
}

/* NW without CD: QEMU lets the guest do it and refuses the next VMRUN. */
GUEST(guest_no_write_through,
	"movq %cr0, %rax; orl $0x20000000, %eax; movq %rax, %cr0; hlt");
GUEST(guest_spin, "1: jmp 1b");

static void invalid_state_of_guest(void)
{
	u64 rip;

	child_create(&c, 1);
	START(guest_no_write_through);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	reg_set(c.id, 0, REG_RAX, 0x1234);
	rip = reg_get(c.id, 0, REG_RIP);
	EXPECT(child_expect(&c, 0), HVMSG_INVALID_VP_REGISTER_VALUE);
	/* The VP is as it was, and still gives the CPU back. */
	EXPECT(reg_get(c.id, 0, REG_RIP), rip);
	EXPECT(reg_get(c.id, 0, REG_RAX), 0x1234);
	EXPECT(reg_get(c.id, 0, REG_CR3), GUEST_TABLES);
	EXPECT(reg_get(c.id, 0, REG_CR0), 0xa0010033);
	reg_set(c.id, 0, REG_CR0, 0x80010033);
	START(guest_spin);
	EXPECT(child_run(&c, 0, 1000), RUN_TIMEOUT);
	child_delete(&c);
}

/* From INIT's state to 64 bits and back, as a firmware would. */
GUEST(guest_boot,
	".code16\n"
	"movw $0x700, %ax; movw %ax, %ds\n"
	"outb %al, $0x81\n"
	"lgdtl 0\n"
	"movl %cr4, %eax; orl $0x20, %eax; movl %eax, %cr4\n"
	"movl $0x1000, %eax; movl %eax, %cr3\n"
	"movl $0xc0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr\n"
	"movl %cr0, %eax; orl $0x80000001, %eax; movl %eax, %cr0\n"
	"ljmpl $0x10, $0x8100\n"
	".org guest_boot + 0x100\n"
	".code64\n"
	"outb %al, $0x82\n"
	"pushq $0x20; pushq $0x8180; lretq\n"
	".org guest_boot + 0x180\n"
	".code32\n"
	"movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0\n"
	"outb %al, $0x83\n"
	"movl %cr4, %eax; andl $~0x20, %eax; movl %eax, %cr4\n"
	"movl $0xc0000080, %ecx; rdmsr\n"
	"outb %al, $0x84\n"
	"hlt\n"
	".code64");

static void modes(void)
{
	static const u16 state[] = { 0, 0x14, 4, 4 };
	struct hv_io_port_message *m;
	u64 *gdt;
	u32 i;

	child_create(&c, 1);
	m = payload_of(0);
	EXPECT(simple(HVCALL_DELETE_VP, c.id, 0), 0);
	EXPECT(vp_create(c.id, 0), 0);
	EXPECT(vp_page(c.id, 0, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, true,
		       (void **)&c.message[0]), 0);
	m = payload_of(0);
	gdt = (u64 *)(c.ram + 0x7010);
	gdt[2] = 0x00af9b000000ffff;
	gdt[3] = 0x00cf93000000ffff;
	gdt[4] = 0x00cf9b000000ffff;
	*(u16 *)(c.ram + 0x7000) = 39;
	*(u32 *)(c.ram + 0x7002) = 0x7010;
	child_code(&c, guest_boot, guest_boot_end - guest_boot);
	reg_set2(c.id, 0, REG_CS, 0x8000, 0x009b08000000ffff);
	reg_set(c.id, 0, REG_RIP, 0);
	reg_set(c.id, 0, REG_RSP, GUEST_STACK);
	reg_set(c.id, 0, REG_CR0, 0x10);
	for (i = 0; i < ARRAY_SIZE(state); i++) {
		test_case(i);
		if (!EXPECT(child_expect(&c, 0), HVMSG_X64_IO_PORT_INTERCEPT))
			break;
		check_header(sizeof(*m), WRITE, 2, state[i]);
		EXPECT(m->port, 0x81 + i);
		EXPECT(m->instruction_bytes[0], 0xe6);
		skip_instruction(2);
	}
	EXPECT(m->rax & 0x500, 0x100);		/* LME set, LMA clear */
	EXPECT(reg_get(c.id, 0, REG_EFER), 0x100);
	EXPECT(reg_get(c.id, 0, REG_CR4) & 0x20, 0);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	child_delete(&c);
}

static void user_mode(void)
{
	child_create(&c, 1);
	START(guest_read);
	reg_set2(c.id, 0, REG_CS, 0, 0xa0fb0023ffffffff);
	reg_set2(c.id, 0, REG_SS, 0, 0xc0f3001bffffffff);
	reg_set(c.id, 0, REG_RBX, 0x300000);
	reg_set(c.id, 0, 0x50005, 0x403);
	EXPECT(child_expect(&c, 0), HVMSG_UNMAPPED_GPA);
	check_header(sizeof(struct hv_memory_message), READ, 0,
		     LONG_MODE_STATE | 3 | 1 << 5);
	child_delete(&c);
}

static void message_page_option(void)
{
	u32 clear;

	child_create(&c, 1);
	for (clear = 0; clear < 2; clear++) {
		test_case(clear);
		option(OPTION_MSG_PAGE, clear);
		START(guest_cpuid);
		EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
		EXPECT(reg_set(c.id, 0, REG_EXPLICIT_SUSPEND, 1), 0);
		EXPECT(reg_set(c.id, 0, REG_INTERCEPT_SUSPEND, 0), 0);
		EXPECT(c.message[0]->type, clear ? 0 : HVMSG_X64_HALT);
	}
	child_delete(&c);
}

static const struct test tests[] = {
	{ "UNMAPPED_GPA: no mapping; the instruction runs again", unmapped },
	{ "GPA_INTERCEPT: read-only, no-execute and no-access", not_allowed },
	{ "a page-crossing access reports the lowest address that intercepts", crossing },
	{ "a page table that is not mapped intercepts without a GVA", table_walk },
	{ "an intercept while an interrupt is delivered keeps it pending", during_delivery },
	{ "the shadow of STI ends with the instruction that is emulated", interrupt_shadow },
	{ "IO_PORT: every size, direction, string and rep", io_ports },
	{ "MSR: unknown ones when installed, else #GP", msrs },
	{ "unknown MSRs are ignored where the root said so", ignored_msrs },
	{ "XSETBV takes what a processor would, else #GP", xsetbv },
	{ "CPUID: the installed leaves only, with default results", cpuid_intercept },
	{ "registered CPUID results replace a child's", cpuid_results },
	{ "EXCEPTION: installed vectors only, with error code and address", exceptions },
	{ "unknown intercepts cannot be installed", install_refused },
	{ "HYPERCALL: a child's call goes to the VMM when installed", hypercall_intercept },
	{ "a child's hypercalls are denied but for its own flushes", child_hypercalls },
	{ "HALT: reported at the instruction", halt },
	{ "UNRECOVERABLE_EXCEPTION: a triple fault", triple_fault },
	{ "INVALID_VP_REGISTER_VALUE: a state no processor can have", invalid_state },
	{ "INVALID_VP_REGISTER_VALUE: by the guest's own doing", invalid_state_of_guest },
	{ "a child goes from real to long mode and back", modes },
	{ "execution state tells privilege and debugging", user_mode },
	{ "msg-page=clear clears the message on resume", message_page_option },
};

void test_intercept(void)
{
	RUN(tests);
}
