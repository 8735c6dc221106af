// SPDX-License-Identifier: GPL-2.0
/*
 * Exceptions, interrupts, other processors, time. All run in ring 0 on the
 * loader's identity mapping; an AP waits for work with interrupts on.
 */
#include "payload.h"

#define ICR_INIT	0x4500
#define ICR_STARTUP	0x4600

struct cpu cpus[MAX_CPUS];
u32 nr_cpus = 1;

extern u8 trap_stubs[], ap_code[], ap_code_end[];
extern const u64 fixup_table[][2], fixup_table_end[][2];

static u64 idt[256][2];
static u64 tsc_mhz, apic_mhz;

static void load_idt(void)
{
	struct {
		u16 limit;
		void *base;
	} __packed pointer = { sizeof(idt) - 1, idt };

	asm volatile("lidt %0" : : "m"(pointer));
}

void cpuid(u32 leaf, u32 subleaf, u32 *r)
{
	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
		     : "a"(leaf), "c"(subleaf));
}

/* Can an entry of a page table be one of 1 GiB? */
bool has_1g(void)
{
	u32 r[4];

	cpuid(0x80000001, 0, r);
	return r[3] >> 26 & 1;
}

struct cpu *this_cpu(void)
{
	return &cpus[(u32)rdmsr(MSR_X2APIC_ID) % MAX_CPUS];
}

/* From head.S: every exception and interrupt. */
void trap(struct trap_frame *f)
{
	const u64 (*e)[2];
	u64 cr2;

	if (f->vector >= 32 || f->vector == 2) {
		this_cpu()->interrupts[f->vector]++;
		if (f->vector == VECTOR_SYNIC)
			synic_interrupt();
		if (f->vector != 2)
			wrmsr(MSR_X2APIC_EOI, 0);
		return;
	}
	for (e = fixup_table; e < fixup_table_end; e++) {
		if (f->rip != (*e)[0])
			continue;
		this_cpu()->fault_vector = f->vector;
		f->rip = (*e)[1];
		return;
	}
	asm("movq %%cr2, %0" : "=r"(cr2));
	say("\nnot ok - exception %llu on CPU %u # error 0x%llx rip 0x%llx cr2 0x%llx rsp 0x%llx\n",
	    f->vector, this_cpu()->id, f->error, f->rip, cr2, f->rsp);
	leave(1);
}

/* false: it faulted */
bool rdmsr_safe(u32 msr, u64 *value)
{
	u32 lo = 0, hi = 0;
	u8 fault = 1;

	asm volatile("1:	rdmsr\n"
		     "	movb	$0, %2\n"
		     "2:\n"
		     ".pushsection .fixup_table, \"a\"\n"
		     ".quad 1b, 2b\n"
		     ".popsection"
		     : "+a"(lo), "+d"(hi), "+r"(fault) : "c"(msr) : "memory");
	*value = (u64)hi << 32 | lo;
	return !fault;
}

bool wrmsr_safe(u32 msr, u64 value)
{
	u8 fault = 1;

	asm volatile("1:	wrmsr\n"
		     "	movb	$0, %0\n"
		     "2:\n"
		     ".pushsection .fixup_table, \"a\"\n"
		     ".quad 1b, 2b\n"
		     ".popsection"
		     : "+r"(fault)
		     : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
		     : "memory");
	return !fault;
}

u64 now_us(void)
{
	return rdtsc() / tsc_mhz;
}

void delay_us(u64 us)
{
	u64 end = now_us() + us;

	while (now_us() < end)
		cpu_relax();
}

/* One-shot APIC timer interrupt on this CPU; 0: none. */
void timer_us(u32 us)
{
	wrmsr(MSR_X2APIC_TIMER_COUNT, us * apic_mhz);
}

/*
 * Up to @us of doing nothing. With the hypervisor's scheduler this is when
 * child VPs run on this CPU.
 */
void cpu_nap(u32 us)
{
	if (scheduler_is_root) {
		cpu_relax();
		return;
	}
	asm volatile("cli");
	timer_us(us);
	asm volatile("sti; hlt");
}

void ipi(u32 id, u32 vector_and_mode)
{
	asm volatile("mfence" : : : "memory");
	wrmsr(MSR_X2APIC_ICR, (u64)id << 32 | vector_and_mode);
}

static void init_this_cpu(struct cpu *cpu)
{
	load_idt();
	wrmsr(MSR_X2APIC_SVR, 0x1ff);
	wrmsr(MSR_X2APIC_TIMER_DIVIDE, 0xb);	/* by 1 */
	wrmsr(MSR_X2APIC_LVT_TIMER, VECTOR_TIMER);
	synic_init(cpu);
	cpu->up = true;
	asm volatile("sti");
}

void ap_c(u32 id)
{
	struct cpu *cpu = &cpus[id];

	cpu->id = id;
	init_this_cpu(cpu);
	for (;;) {
		if (cpu->work) {
			cpu->work(cpu->arg);
			cpu->work = NULL;
		}
		asm volatile("cli");
		if (cpu->work) {
			asm volatile("sti");
			continue;
		}
		if (!scheduler_is_root)
			timer_us(2000);
		asm volatile("sti; hlt");
	}
}

/* @fn runs on CPU @id, an AP; see cpu_wait(). */
void cpu_run(u32 id, void (*fn)(void *arg), void *arg)
{
	cpu_wait(id);
	cpus[id].arg = arg;
	cpus[id].work = fn;
	ipi(id, VECTOR_IPI);
}

void cpu_wait(u32 id)
{
	while (cpus[id].work)
		cpu_nap(2000);
}

/* INIT and SIPI; false: nobody answered. */
bool cpu_start(u32 id)
{
	u64 end = now_us() + 1000000;

	cpus[id].up = false;
	ipi(id, ICR_INIT);
	ipi(id, ICR_STARTUP | AP_CODE >> 12);
	while (!cpus[id].up && now_us() < end)
		cpu_relax();
	return cpus[id].up;
}

/* Back to waiting for a SIPI. The CPU must be idle. */
void cpu_stop(u32 id)
{
	cpu_wait(id);
	cpus[id].up = false;
	ipi(id, ICR_INIT);
}

static void start_all(void)
{
	u32 leaf[4], i;

	memcpy((void *)AP_CODE, ap_code, ap_code_end - ap_code);
	cpuid(1, 0, leaf);
	if (leaf[1] >> 16 & 0xff)	/* zero where there is only one */
		nr_cpus = leaf[1] >> 16 & 0xff;
	for (i = 1; i < nr_cpus; i++) {
		if (cpu_start(i))
			continue;
		say("not ok - CPU %u does not start\n", i);
		leave(1);
	}
}

void start_c(const u8 *boot_params)
{
	u32 i;

	for (i = 0; i < 256; i++) {
		u64 a = (u64)trap_stubs + 16 * i;

		idt[i][0] = (a & 0xffff) | 0x10ull << 16 | 0x8eull << 40 |
			    (a >> 16 & 0xffff) << 48;
		idt[i][1] = a >> 32;
	}
	outb(0x21, 0xff);	/* the firmware left the PIC on */
	outb(0xa1, 0xff);
	memory_init(boot_params);
	tsc_mhz = rdmsr(MSR_HV_TSC_FREQUENCY) / 1000000;
	apic_mhz = rdmsr(MSR_HV_APIC_FREQUENCY) / 1000000;
	for (i = 0; i < MAX_CPUS; i++) {
		cpus[i].in = page_alloc();
		cpus[i].out = page_alloc();
	}
	hv_init();
	init_this_cpu(&cpus[0]);
	start_all();
	payload();
	finish();
}
