// SPDX-License-Identifier: GPL-2.0
/* The root's own processors: CPUID, MSRs, SynIC, time, interrupts, start-up. */
#include "test.h"

#define MSR_EFER	0xc0000080
#define MSR_APIC_BASE	0x1b
#define VECTOR_SINT5	0x50
#define NO_FAULT	0xff

/* Runs an instruction; the vector of its fault, or NO_FAULT. */
#define FAULT_OF(insn)							\
({									\
	u64 a = 0, c = 0, d = 0;					\
	this_cpu()->fault_vector = NO_FAULT;				\
	asm volatile("1:	" insn "\n"				\
		     "2:\n"						\
		     ".pushsection .fixup_table, \"a\"\n"		\
		     ".quad 1b, 2b\n"					\
		     ".popsection"					\
		     : "+a"(a), "+c"(c), "+d"(d) : : "memory", "cc");	\
	this_cpu()->fault_vector;					\
})

static bool msr_write_fails(u32 msr, u64 value)
{
	this_cpu()->fault_vector = NO_FAULT;
	return !wrmsr_safe(msr, value) && this_cpu()->fault_vector == 13;
}

static bool msr_read_fails(u32 msr)
{
	u64 value;

	this_cpu()->fault_vector = NO_FAULT;
	return !rdmsr_safe(msr, &value) && this_cpu()->fault_vector == 13;
}

static void hypervisor_leaves(void)
{
	u32 r[4];

	cpuid(0x40000000, 0, r);
	EXPECT_TRUE(r[0] >= 0x40000005 && r[0] < 0x40000100);
	EXPECT(memcmp(&r[1], "Microsoft Hv", 12), 0);
	cpuid(0x40000001, 0, r);
	EXPECT(r[0], 0x31237648);
	cpuid(0x40000002, 0, r);
	EXPECT_TRUE(r[0] >= 27744 && r[0] <= 27751);
	cpuid(0x40000003, 0, r);
	EXPECT(r[0], 0xa66);
	EXPECT(r[1], 0x11ff);
	EXPECT(r[3], 0x100);
	cpuid(0x40000004, 0, r);
	EXPECT(r[0], 0x220);
	cpuid(0x40000005, 0, r);
	EXPECT(r[0], 64);
	EXPECT(r[1], 64);
}

static void oracle_leaf(void)
{
	struct oracle o = { { 0 } };
	u32 r[4];

	cpuid(0x40000100, 0, r);
	EXPECT(r[0], 0x4d56524e);
	EXPECT(r[1], 1);
	EXPECT(r[3], ORACLE_MESSAGES + 1);
	EXPECT(oracle(ORACLE_VERSION, &o), 0);
	EXPECT(o.a[0], r[1]);
	EXPECT(oracle(r[3], &o), -38);
}

static void empty_ports(void)
{
	u64 al = ~0x1ffull, ax = ~0x1ffffull, eax = 0x1200000000;

	asm volatile("inb %%dx, %%al" : "+a"(al) : "d"(ORACLE_PORT));
	EXPECT(al, ~0x100ull);
	asm volatile("inw %%dx, %%ax" : "+a"(ax) : "d"(ORACLE_PORT));
	EXPECT(ax, ~0x10000ull);
	asm volatile("inl %%dx, %%eax" : "+a"(eax) : "d"(ORACLE_PORT));
	EXPECT(eax, 0xffffffff);
}

static void hidden_features(void)
{
	u64 cr4;
	u32 r[4];

	cpuid(1, 0, r);
	EXPECT_TRUE(r[2] >> 31);
	EXPECT(r[2] >> 3 & 1, 0);	/* MONITOR */
	EXPECT(r[2] >> 24 & 1, 0);	/* TSC deadline */
	cpuid(0x80000001, 0, r);
	EXPECT(r[2] & 4, 0);		/* SVM */
	cpuid(0x8000000a, 0, r);
	EXPECT(r[0] | r[1] | r[2] | r[3], 0);
	cpuid(1, 0, r);
	if (!(r[2] >> 26 & 1))
		return;
	EXPECT(r[2] >> 27 & 1, 0);
	asm volatile("movq %%cr4, %0" : "=r"(cr4));
	asm volatile("movq %0, %%cr4" : : "r"(cr4 | 1 << 18));
	cpuid(1, 0, r);
	EXPECT(r[2] >> 27 & 1, 1);
	asm volatile("movq %0, %%cr4" : : "r"(cr4));
}

static void svm_is_closed(void)
{
	EXPECT(rdmsr(MSR_EFER) >> 12 & 1, 0);
	EXPECT_TRUE(msr_write_fails(MSR_EFER, rdmsr(MSR_EFER) | 1 << 12));
	EXPECT_TRUE(msr_write_fails(MSR_EFER, rdmsr(MSR_EFER) & ~0x100ull));
	EXPECT_TRUE(wrmsr_safe(MSR_EFER, rdmsr(MSR_EFER)));
	EXPECT_TRUE(msr_read_fails(0xc0010117));
	EXPECT_TRUE(msr_write_fails(0xc0010117, 0x5000));
	EXPECT_TRUE(msr_write_fails(0xc0010114, 0));
	EXPECT(FAULT_OF("vmrun %%rax"), 6);
	EXPECT(FAULT_OF("vmload %%rax"), 6);
	EXPECT(FAULT_OF("vmsave %%rax"), 6);
	EXPECT(FAULT_OF("stgi"), 6);
	EXPECT(FAULT_OF("clgi"), 6);
	EXPECT(FAULT_OF("skinit"), 6);
	EXPECT(FAULT_OF("invlpga"), 6);
}

static void apic_base(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	EXPECT(base >> 10 & 3, 3);
	EXPECT_TRUE(msr_write_fails(MSR_APIC_BASE, base & ~0xc00ull));
	EXPECT_TRUE(wrmsr_safe(MSR_APIC_BASE, base));
}

/* 50 ms of the PIT's channel 2; a slow host may need another try. */
static void reference_time(void)
{
	u64 before, after, n;
	u32 tries, i;

	for (tries = 0; tries < 10; tries++) {
		outb(0x61, (inb(0x61) & ~2) | 1);
		outb(0x43, 0xb0);
		outb(0x42, 59659 & 0xff);
		before = rdmsr(MSR_HV_TIME_REF_COUNT);
		outb(0x42, 59659 >> 8);
		while (!(inb(0x61) & 0x20))
			;
		n = rdmsr(MSR_HV_TIME_REF_COUNT) - before;
		if (n > 490000 && n < 540000)
			break;	/* a busy host only ever adds time */
	}
	EXPECT_TRUE(n > 400000);
	before = rdmsr(MSR_HV_TIME_REF_COUNT);
	for (i = 0; i < 10000; i++) {
		after = rdmsr(MSR_HV_TIME_REF_COUNT);
		if (!EXPECT_TRUE(after >= before))
			return;
		before = after;
	}
}

static void reference_tsc(void)
{
	u64 *page = (u64 *)PAGE_MSR(MSR_HV_REFERENCE_TSC), before, after, t, i;

	wrmsr(MSR_HV_REFERENCE_TSC, (u64)page | 1);
	EXPECT(rdmsr(MSR_HV_REFERENCE_TSC), (u64)page | 1);
	EXPECT_TRUE((u32)page[0]);
	for (i = 0; i < 1000; i++) {
		before = rdmsr(MSR_HV_TIME_REF_COUNT);
		t = ((unsigned __int128)rdtsc() * page[1] >> 64) + page[2];
		after = rdmsr(MSR_HV_TIME_REF_COUNT);
		if (!EXPECT_TRUE(t >= before && t <= after))
			return;
	}
	t = rdmsr(MSR_HV_TSC_FREQUENCY);
	/* page[1] is 10 MHz / frequency as a 64-bit fraction */
	EXPECT_TRUE(((unsigned __int128)t * page[1] >> 64) - 9999999 < 2);
	wrmsr(MSR_HV_REFERENCE_TSC, (u64)page);
}

static u64 call_page(u64 page, u64 c, u64 out)
{
	register u64 r8 asm("r8") = out;
	u64 result, d = 0;

	asm volatile("call *%4" : "=a"(result), "+c"(c), "+d"(d), "+r"(r8)
		     : "r"(page) : "memory", "r9", "r10", "r11");
	return result;
}

static void hypercall_page(void)
{
	u64 page = PAGE_MSR(MSR_HV_HYPERCALL);

	wrmsr(MSR_HV_GUEST_OS_ID, 0x8100000000000001ull);
	EXPECT(rdmsr(MSR_HV_GUEST_OS_ID), 0x8100000000000001ull);
	wrmsr(MSR_HV_HYPERCALL, page | 1);
	EXPECT(rdmsr(MSR_HV_HYPERCALL), page | 1);
	*this_cpu()->out = 0;
	EXPECT(call_page(page, HVCALL_GET_PARTITION_ID, (u64)this_cpu()->out), 0);
	EXPECT(*this_cpu()->out, 1);
}

/* No hypercalls before the root has said who it is and enabled the page. */
static void hypercalls_disabled(void)
{
	u64 page = PAGE_MSR(MSR_HV_HYPERCALL), os_id = rdmsr(MSR_HV_GUEST_OS_ID);

	wrmsr(MSR_HV_HYPERCALL, page);
	EXPECT(FAULT_OF("vmmcall"), 6);
	wrmsr(MSR_HV_HYPERCALL, page | 1);
	EXPECT(FAULT_OF("vmmcall"), NO_FAULT);
	/* without an OS ID it is disabled, and stays so */
	wrmsr(MSR_HV_GUEST_OS_ID, 0);
	EXPECT(rdmsr(MSR_HV_HYPERCALL), page);
	EXPECT(FAULT_OF("vmmcall"), 6);
	EXPECT_TRUE(wrmsr_safe(MSR_HV_HYPERCALL, page | 1));
	EXPECT(rdmsr(MSR_HV_HYPERCALL), page);
	EXPECT(FAULT_OF("vmmcall"), 6);
	wrmsr(MSR_HV_GUEST_OS_ID, os_id);
	EXPECT(rdmsr(MSR_HV_HYPERCALL), page);
	wrmsr(MSR_HV_HYPERCALL, page | 1);
	EXPECT(FAULT_OF("vmmcall"), NO_FAULT);
}

static const u32 page_msrs[] = {
	MSR_HV_HYPERCALL, MSR_HV_REFERENCE_TSC, MSR_HV_VP_ASSIST_PAGE,
	MSR_HV_SIMP, MSR_HV_SIEFP, MSR_HV_SIRBP
};

static void page_msrs_here(void *arg)
{
	u64 *page = arg, i, old;

	for (i = 0; i < ARRAY_SIZE(page_msrs); i++) {
		struct oracle o = { { PAGE_MSR(page_msrs[i]) } };

		test_case(page_msrs[i]);
		page[i] = o.a[0];
		EXPECT_TRUE(page[i]);
		EXPECT(oracle(ORACLE_PAGE, &o), 0);
		EXPECT(o.a[0], 2);
		*(volatile u8 *)page[i];	/* else the hypervisor stops */
		old = rdmsr(page_msrs[i]);
		EXPECT_TRUE(msr_write_fails(page_msrs[i], old + PAGE_SIZE));
		EXPECT_TRUE(msr_write_fails(page_msrs[i], 0));
		EXPECT(rdmsr(page_msrs[i]), old);
		EXPECT_TRUE(wrmsr_safe(page_msrs[i], old ^ 1));
		EXPECT(rdmsr(page_msrs[i]), old ^ 1);
		wrmsr(page_msrs[i], old);
	}
	test_case(rdmsr(MSR_HV_VP_INDEX));
	EXPECT(rdmsr(MSR_HV_VP_INDEX), this_cpu()->id);
	EXPECT(rdmsr(MSR_X2APIC_ID), this_cpu()->id);
}

static void page_msrs_each(void)
{
	u64 page[MAX_CPUS][ARRAY_SIZE(page_msrs)];
	u32 cpu, other, i;

	page_msrs_here(page[0]);
	for (cpu = 1; cpu < nr_cpus; cpu++) {
		cpu_run(cpu, page_msrs_here, page[cpu]);
		cpu_wait(cpu);
		for (other = 0; other < cpu; other++)
			for (i = 0; i < ARRAY_SIZE(page_msrs); i++)
				EXPECT(page[cpu][i] == page[other][i], i < 2);
	}
}

static void synic_msrs(void)
{
	u32 i;

	for (i = 1; i < HV_SINT_COUNT; i++) {
		u32 msr = MSR_HV_SINT0 + i;

		test_case(i);
		EXPECT(rdmsr(msr), HV_SINT_MASKED);
		EXPECT_TRUE(msr_write_fails(msr, 15));
		EXPECT_TRUE(wrmsr_safe(msr, 0x20000 | VECTOR_SINT5));
		EXPECT(rdmsr(msr), 0x20000 | VECTOR_SINT5);
		EXPECT_TRUE(wrmsr_safe(msr, HV_SINT_MASKED));
	}
	EXPECT(rdmsr(MSR_HV_SCONTROL), 1);
	EXPECT(rdmsr(MSR_HV_SVERSION), 1);
	EXPECT(rdmsr(MSR_HV_EOM), 0);
	wrmsr(MSR_HV_EOM, 0);
	wrmsr(MSR_HV_SCONTROL, 0);
	EXPECT(rdmsr(MSR_HV_SCONTROL), 0);
	wrmsr(MSR_HV_SCONTROL, 1);
}

static void refused_msrs(void)
{
	static const u32 read_only[] = {
		MSR_HV_VP_INDEX, MSR_HV_TIME_REF_COUNT, MSR_HV_TSC_FREQUENCY,
		MSR_HV_APIC_FREQUENCY, MSR_HV_SVERSION
	};
	static const u32 unknown[] = {
		0x40000003, 0x40000010, 0x40000072, 0x40000086, 0x4000008f,
		0x400000a0, 0x400000b0, 0x40000100, 0x40000fff, 0x4fffffff
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(read_only); i++) {
		test_case(read_only[i]);
		EXPECT(msr_read_fails(read_only[i]), false);
		EXPECT_TRUE(msr_write_fails(read_only[i], 0));
	}
	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		test_case(unknown[i]);
		EXPECT_TRUE(msr_read_fails(unknown[i]));
		EXPECT_TRUE(msr_write_fails(unknown[i], 0));
	}
}

/* Interrupts must be off when the count is read, or HLT may come after it. */
static void halt_and_timer(void)
{
	struct cpu *cpu = this_cpu();
	u64 before, start;
	u32 i;

	for (i = 0; i < 10; i++) {
		asm volatile("cli");
		before = cpu->interrupts[VECTOR_TIMER];
		start = now_us();
		timer_us(3000);
		while (cpu->interrupts[VECTOR_TIMER] == before)
			asm volatile("sti; hlt; cli" : : : "memory");
		asm volatile("sti");
		EXPECT(cpu->interrupts[VECTOR_TIMER], before + 1);
		EXPECT_TRUE(now_us() - start >= 2900);
	}
}

static bool arrives(u32 id, u32 vector, u64 before)
{
	u64 end = now_us() + 500000;

	while (cpus[id].interrupts[vector] == before && now_us() < end)
		cpu_relax();
	return cpus[id].interrupts[vector] == before + 1;
}

static void ipis(void)
{
	u32 i, round;

	for (i = 0; i < nr_cpus; i++)
		for (round = 0; round < 20; round++) {
			u64 fixed = cpus[i].interrupts[VECTOR_IPI];
			u64 nmi = cpus[i].interrupts[2];

			test_case(i << 8 | round);
			ipi(i, 0x4000 | VECTOR_IPI);
			EXPECT_TRUE(arrives(i, VECTOR_IPI, fixed));
			ipi(i, 0x4400);
			if (!EXPECT_TRUE(arrives(i, 2, nmi)))
				return;
		}
}

static void restart(void)
{
	if (nr_cpus < 2) {
		test_skip("one CPU");
		return;
	}
	/* a SIPI without INIT does nothing to a CPU that runs */
	cpus[1].up = false;
	ipi(1, 0x4600 | AP_CODE >> 12);
	delay_us(20000);
	EXPECT(cpus[1].up, false);
	ipi(1, 0x4500);
	delay_us(20000);
	EXPECT(cpus[1].up, false);
	ipi(1, 0x4600 | AP_CODE >> 12);
	delay_us(300000);
	EXPECT(cpus[1].up, true);
	/* the boot CPU cannot be restarted */
	ipi(0, 0x4500);
	cpu_run(1, page_msrs_here, (u64[ARRAY_SIZE(page_msrs)]){ 0 });
	cpu_wait(1);
}

static void wait_a_little(void *arg)
{
	(void)arg;
	delay_us(1000);
}

static void all_cpus(void)
{
	u32 i;

	for (i = 1; i < nr_cpus; i++)
		cpu_run(i, wait_a_little, NULL);
	for (i = 1; i < nr_cpus; i++)
		cpu_wait(i);
	for (i = 0; i < nr_cpus; i++)
		EXPECT(cpus[i].id, i);
	EXPECT(nr_cpus, number_given("cpus=", nr_cpus));
}

static void own_properties(void)
{
	struct cpu *cpu = this_cpu();

	EXPECT(hvcall(HVCALL_GET_PARTITION_ID, NULL, cpu->out), 0);
	EXPECT(cpu->out[0], 1);
	cpu->in[0] = 15;
	EXPECT(hvcall(HVCALL_GET_SYSTEM_PROPERTY, cpu->in, cpu->out), 0);
	EXPECT(cpu->out[0], scheduler_is_root ? 4 : 1);
	cpu->in[0] = 999;
	EXPECT(hvcall(HVCALL_GET_SYSTEM_PROPERTY, cpu->in, cpu->out),
	       HV_STATUS_UNKNOWN_PROPERTY);
}

static u16 run_time(u64 index)
{
	this_cpu()->in[0] = index;
	return hvcall(HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME, this_cpu()->in,
		      this_cpu()->out);
}

static void processors(void)
{
	u64 *in = this_cpu()->in, *out = this_cpu()->out, then;
	u32 i;

	for (i = 0; i < nr_cpus; i++) {
		test_case(i);
		EXPECT(run_time(i), i ? HV_STATUS_INVALID_LP_INDEX : 0);
	}

	for (i = 0; i < nr_cpus; i++) {
		in[0] = i | (u64)i << 32;
		in[1] = 0;
		EXPECT(hvcall(HVCALL_ADD_LOGICAL_PROCESSOR, in, this_cpu()->out), 0);
		EXPECT(vp_create(1, i), 0);
	}
	in[0] = nr_cpus | (u64)nr_cpus << 32;
	EXPECT(hvcall(HVCALL_ADD_LOGICAL_PROCESSOR, in, this_cpu()->out),
	       HV_STATUS_INVALID_LP_INDEX);
	EXPECT(vp_create(1, nr_cpus), HV_STATUS_INVALID_VP_INDEX);
	for (i = 0; i < nr_cpus; i++) {
		test_case(i);
		EXPECT(run_time(i), 0);
		then = out[0];
		EXPECT_TRUE(then && out[1] <= then && !out[2]);
		EXPECT(run_time(i), 0);
		EXPECT_TRUE(out[0] >= then);
	}
	EXPECT(run_time(nr_cpus), HV_STATUS_INVALID_LP_INDEX);
	EXPECT(run_time(0xffffffff), HV_STATUS_INVALID_LP_INDEX);
}

/* @device's two top bits: its kind */
static u16 device_interrupt(u64 id, u64 device, u32 level, u32 vector, u64 cpu_mask,
			    u32 varhead)
{
	u64 *in = this_cpu()->in;

	memset(in, 0, 96);
	in[0] = id;
	in[1] = device;
	in[5] = (u64)level << 32;
	in[7] = vector | 2ull << 32;	/* a set of processors */
	in[9] = 1;			/* one bank of 64 */
	in[10] = cpu_mask;
	return hvcall(HVCALL_MAP_DEVICE_INTERRUPT | varhead << 17, in,
		      this_cpu()->out);
}

static u16 notify(u64 event)
{
	this_cpu()->in[0] = event;
	return hvcall(HVCALL_NOTIFY_PARTITION_EVENT, this_cpu()->in, NULL);
}

static void notifications(void)
{
	static const u64 bad[] = { 0, 2, 3, 5, 4 | 1ull << 32, ~0ull };
	u32 i;

	EXPECT(notify(4), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(i);
		EXPECT(notify(bad[i]), HV_STATUS_INVALID_PARAMETER);
	}
}

#define SLEEP_S3	3
#define SLEEP_S5	5
#define SLEEP_LOCK	6

static u16 set_sleep_state(u64 property, u32 state, u32 types)
{
	u64 *in = this_cpu()->in;

	memset(in, 0, 72);
	in[0] = property;
	in[1] = state | (u64)types << 32;
	return hvcall(HVCALL_SET_SYSTEM_PROPERTY, in, NULL);
}

static u16 enter_sleep_state(u64 state)
{
	this_cpu()->in[0] = state;
	return hvcall(HVCALL_ENTER_SLEEP_STATE, this_cpu()->in, NULL);
}

/* hvstop does the one that succeeds */
static void sleep_states(void)
{
	static const struct {
		u32 state, types;
	} bad[] = {
		{ 0, 0 }, { 7, 0 }, { ~0u, 0 }, { SLEEP_S5, 8 },
		{ SLEEP_S5, 0x800 }, { SLEEP_LOCK, 0xff },
	};
	u32 i;

	EXPECT(set_sleep_state(15, SLEEP_S5, 0), HV_STATUS_UNKNOWN_PROPERTY);
	EXPECT(set_sleep_state(3 | 1ull << 32, SLEEP_S5, 0),
	       HV_STATUS_INVALID_PARAMETER);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(i);
		EXPECT(set_sleep_state(3, bad[i].state, bad[i].types),
		       HV_STATUS_INVALID_PARAMETER);
	}
	EXPECT(enter_sleep_state(0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(enter_sleep_state(SLEEP_LOCK), HV_STATUS_INVALID_PARAMETER);
	EXPECT(enter_sleep_state(SLEEP_S5), HV_STATUS_OPERATION_DENIED);
	EXPECT(set_sleep_state(3, SLEEP_S3, 0x701), 0);
	EXPECT(set_sleep_state(3, SLEEP_S3, 1), 0);
	EXPECT(enter_sleep_state(SLEEP_S3), HV_STATUS_OPERATION_DENIED);
	EXPECT(set_sleep_state(3, SLEEP_LOCK, 0), 0);
	EXPECT(set_sleep_state(3, SLEEP_S5, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(set_sleep_state(3, SLEEP_LOCK, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(enter_sleep_state(SLEEP_S5), HV_STATUS_OPERATION_DENIED);
}

static void device_interrupts(void)
{
	u64 *in = this_cpu()->in, *out = this_cpu()->out;

	EXPECT(device_interrupt(1, 2ull << 62, 1, 0x55, 1, 2), 0);
	EXPECT((u32)out[0], 2);			/* IOAPIC */
	EXPECT(out[1], 0x8055);
	EXPECT(device_interrupt(1, 0, 0, 0x55, 1, 2), 0);
	EXPECT((u32)out[0], 1);			/* MSI: address, data */
	EXPECT(out[1], 0x55fee00000ull);
	EXPECT(device_interrupt(1, 0, 0, 0x55, 1ull << nr_cpus, 2),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(device_interrupt(1, 0, 0, 15, 1, 2), HV_STATUS_INVALID_PARAMETER);
	EXPECT(device_interrupt(1, 0, 2, 0x55, 1, 2), HV_STATUS_INVALID_PARAMETER);
	EXPECT(device_interrupt(1, 0, 0, 0x55, 1, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(device_interrupt(77, 0, 0, 0x55, 1, 2),
	       HV_STATUS_INVALID_PARTITION_ID);
	memset(in, 0, 40);
	in[0] = 1;
	EXPECT(hvcall(HVCALL_UNMAP_DEVICE_INTERRUPT, in, NULL), 0);
	in[0] = 77;
	EXPECT(hvcall(HVCALL_UNMAP_DEVICE_INTERRUPT, in, NULL),
	       HV_STATUS_INVALID_PARTITION_ID);
}

static u16 signal(u64 id, u32 vp, u32 sint, u32 flag)
{
	this_cpu()->in[0] = id;
	this_cpu()->in[1] = vp | (u64)sint << 40 | (u64)flag << 48;
	return hvcall(HVCALL_SIGNAL_EVENT_DIRECT, this_cpu()->in,
		      this_cpu()->out);
}

static void events(void)
{
	u32 vp = nr_cpus - 1, flag = 1234;
	u64 *word = (u64 *)PAGE_MSR(MSR_HV_SIEFP), before;

	/* on this CPU, then refused for every wrong field */
	wrmsr(MSR_HV_SIEFP, (u64)word | 1);
	wrmsr(MSR_HV_SINT0 + 5, VECTOR_SINT5);
	word += 5 * 32 + flag / 64;
	before = cpus[0].interrupts[VECTOR_SINT5];
	EXPECT(signal(1, 0, 5, flag), 0);
	EXPECT(*this_cpu()->out & 0xff, 1);
	EXPECT_TRUE(arrives(0, VECTOR_SINT5, before));
	EXPECT(*(volatile u64 *)word, 1ull << flag % 64);
	EXPECT(signal(1, 0, 5, flag), 0);
	EXPECT(*this_cpu()->out & 0xff, 0);
	*word = 0;
	EXPECT(signal(1, 0, 5, 2048), HV_STATUS_INVALID_PARAMETER);
	EXPECT(signal(1, 0, 16, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(signal(1, vp + 1, 5, 0), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(signal(77, 0, 5, 0), HV_STATUS_INVALID_PARTITION_ID);
	wrmsr(MSR_HV_SIEFP, PAGE_MSR(MSR_HV_SIEFP));
	EXPECT(signal(1, 0, 5, 0), HV_STATUS_INVALID_VP_STATE);
	wrmsr(MSR_HV_SINT0 + 5, HV_SINT_MASKED);
}

static u16 post(u32 sint, u32 type, u32 size)
{
	u32 *in = (u32 *)this_cpu()->in;

	memset(in, 0, 280);
	*(u64 *)in = 1;
	in[4] = sint;
	in[5] = type;
	in[6] = size;
	in[9] = 0x1234;
	return hvcall(HVCALL_POST_MESSAGE_DIRECT, in, NULL);
}

static void messages(void)
{
	struct hv_message *m = (struct hv_message *)PAGE_MSR(MSR_HV_SIMP) + 5;
	u64 before = cpus[0].interrupts[VECTOR_SINT5];

	wrmsr(MSR_HV_SINT0 + 5, VECTOR_SINT5);
	EXPECT(post(5, 0x77, 4), 0);
	EXPECT_TRUE(arrives(0, VECTOR_SINT5, before));
	EXPECT(m->type, 0x77);
	EXPECT(m->payload_size, 4);
	EXPECT(*(u32 *)m->payload, 0x1234);
	EXPECT(post(5, 0x77, 4), HV_STATUS_INSUFFICIENT_BUFFERS);
	*(volatile u32 *)&m->type = 0;
	EXPECT(post(5, 0, 4), HV_STATUS_INVALID_PARAMETER);
	EXPECT(post(5, 0x77, 241), HV_STATUS_INVALID_PARAMETER);
	EXPECT(post(16, 0x77, 4), HV_STATUS_INVALID_PARAMETER);
	wrmsr(MSR_HV_SINT0 + 5, HV_SINT_MASKED);
}

static const struct test tests[] = {
	{ "all processors started by INIT and SIPI and know their number", all_cpus },
	{ "hypervisor CPUID leaves describe a Hyper-V root", hypervisor_leaves },
	{ "CPUID leaf 0x40000100 tells where the oracle is", oracle_leaf },
	{ "reading the oracle's port gives all ones, in the register's way", empty_ports },
	{ "CPUID hides SVM and follows CR4.OSXSAVE", hidden_features },
	{ "SVM instructions and MSRs fault in the root", svm_is_closed },
	{ "x2APIC mode cannot be left", apic_base },
	{ "the reference time is monotonic and counts 10 MHz", reference_time },
	{ "the reference TSC page gives the same time", reference_tsc },
	{ "a call through the hypercall page works", hypercall_page },
	{ "hypercalls need an OS ID and the page enabled", hypercalls_disabled },
	{ "pages named by MSRs are the hypervisor's, fixed, one for each CPU", page_msrs_each },
	{ "SINTs are masked at first and refuse vectors below 16", synic_msrs },
	{ "unknown synthetic MSRs and writes to read-only ones raise #GP", refused_msrs },
	{ "HLT of the root ends with the APIC timer's interrupt", halt_and_timer },
	{ "fixed and NMI IPIs reach every CPU", ipis },
	{ "INIT stops a CPU, the next SIPI restarts it", restart },
	{ "partition ID and scheduler type are told", own_properties },
	{ "processors that exist can be added, others not", processors },
	{ "the root may tell that all processors have started", notifications },
	{ "sleep states are registered until they are locked", sleep_states },
	{ "device interrupts map to plain IOAPIC and MSI entries", device_interrupts },
	{ "an event flag signalled to the root raises its SINT", events },
	{ "a message posted to the root waits in its SINT's slot", messages },
};

void test_cpu(void)
{
	RUN(tests);
}
