// SPDX-License-Identifier: GPL-2.0
/* Processors: start-up, locking, kicks, TLB shootdown, time, own exceptions. */
#include "hv.h"

#define AP_TRAMPOLINE	0x8000ull
#define ICR_ALL_BUT_SELF	(3u << 18)
#define ICR_INIT	0x4500
#define ICR_STARTUP	0x4600
#define ICR_NMI		0x4400
#define PIT_HZ		1193182
#define FW_CFG_SELECT	0x510
#define FW_CFG_DATA	0x511
#define FW_CFG_NB_CPUS	5

struct cpu cpus[MAX_CPUS];
u32 nr_cpus;
u64 tsc_hz, apic_hz, tsc_scale;
u64 total_shootdowns;

extern char boot_stacks[], ap_trampoline[], ap_trampoline_end[];
extern char exception_gates[], nmi_gate[];

static struct {
	u16 limit;
	void *base;
} __packed idtr;
static u64 idt[32][2];
static volatile u32 ticket_next, ticket_now;

struct cpu *this_cpu(void)
{
	u64 rsp;

	asm("movq %%rsp, %0" : "=r"(rsp));
	return &cpus[(rsp - (u64)boot_stacks) >> 14];
}

void lock_hv(void)
{
	u32 mine = __atomic_fetch_add(&ticket_next, 1, __ATOMIC_SEQ_CST);

	while (__atomic_load_n(&ticket_now, __ATOMIC_ACQUIRE) != mine)
		cpu_relax();
}

void unlock_hv(void)
{
	__atomic_store_n(&ticket_now, ticket_now + 1, __ATOMIC_RELEASE);
}

u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}

u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32))
		     : "memory");
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + us * tsc_hz / 1000000;

	while ((s64)(rdtsc() - end) < 0)
		cpu_relax();
}

/* In units of 100 ns since the TSC was zero. */
u64 reference_time(void)
{
	u64 low, high;

	asm("mulq %3" : "=a"(low), "=d"(high) : "a"(rdtsc()), "r"(tsc_scale));
	return high;
}

/* TSC and APIC timer ticks in 10 ms of the PIT's channel 2. */
static void measure(u64 *tsc, u64 *apic)
{
	const u32 count = PIT_HZ / 100;
	u64 t0;

	port_out8(0x61, (port_in8(0x61) & ~2) | 1);
	port_out8(0x43, 0xb0);
	wrmsr(0x83e, 0xb);		/* divide by 1 */
	wrmsr(0x832, 0x10000);		/* masked, one-shot */
	port_out8(0x42, count & 0xff);
	port_out8(0x42, count >> 8);
	wrmsr(0x838, 0xffffffff);
	t0 = rdtsc();
	while (!(port_in8(0x61) & 0x20))
		;
	*tsc = rdtsc() - t0;
	*apic = 0xffffffffull - rdmsr(0x839);
	wrmsr(0x838, 0);
}

/* The shortest of some tries: a busy host only ever adds time. */
void calibrate(void)
{
	u64 tsc, apic, rest;
	u32 i;

	tsc_hz = ~0ull;
	for (i = 0; i < 8; i++) {
		measure(&tsc, &apic);
		if (tsc >= tsc_hz)
			continue;
		tsc_hz = tsc;
		apic_hz = apic;
	}
	tsc_hz = tsc_hz * PIT_HZ / (PIT_HZ / 100);
	apic_hz = apic_hz * PIT_HZ / (PIT_HZ / 100);
	/* 10 MHz / tsc_hz as a 64-bit fraction */
	asm("divq %2" : "=a"(tsc_scale), "=d"(rest)
	    : "r"(tsc_hz), "a"(0ull), "d"(10000000ull));
}

static void set_gate(u32 vector, void *handler)
{
	u64 a = (u64)handler;

	idt[vector][0] = (a & 0xffff) | (8ull << 16) | (0x8eull << 40) |
			 ((a >> 16 & 0xffff) << 48);
	idt[vector][1] = a >> 32;
}

void load_idt(void)
{
	u32 i;

	for (i = 0; i < 32; i++)
		set_gate(i, exception_gates + 16 * i);
	set_gate(2, nmi_gate);
	idtr.limit = sizeof(idt) - 1;
	idtr.base = idt;
	asm volatile("lidt %0" : : "m"(idtr));
}

void hv_exception(u64 *frame)
{
	u64 cr2;

	asm("movq %%cr2, %0" : "=r"(cr2));
	hv_stop("exception %llu in the hypervisor, error 0x%llx rip 0x%llx cr2 0x%llx",
		frame[0], frame[1], frame[2], cr2);
}

/* Destination and command are one MSR write in x2APIC mode. */
void x2apic_send(u32 apic_id, u32 command)
{
	mb();	/* the receiver sees what was stored before the IPI */
	wrmsr(MSR_X2APIC_ICR, (u64)apic_id << 32 | command);
}

/* APs are up before the root starts: later a real INIT could not be trapped. */
void smp_start(void)
{
	u32 i, tries;

	asm volatile("outw %0, %1" : : "a"((u16)FW_CFG_NB_CPUS),
		     "Nd"((u16)FW_CFG_SELECT));
	nr_cpus = port_in8(FW_CFG_DATA);
	nr_cpus |= port_in8(FW_CFG_DATA) << 8;
	if (!nr_cpus || nr_cpus > MAX_CPUS)
		hv_stop("%u processors; this hypervisor runs on 1 to %u",
			nr_cpus, MAX_CPUS);
	for (i = 0; i < nr_cpus; i++)
		cpus[i].id = i;
	if (nr_cpus == 1)
		return;
	memcpy((void *)AP_TRAMPOLINE, ap_trampoline,
	       ap_trampoline_end - ap_trampoline);
	x2apic_send(0, ICR_ALL_BUT_SELF | ICR_INIT);
	delay_us(200);
	x2apic_send(0, ICR_ALL_BUT_SELF | ICR_STARTUP | (AP_TRAMPOLINE >> 12));
	for (tries = 0; tries < 20000; tries++) {
		for (i = 1; i < nr_cpus && cpus[i].online; i++)
			;
		if (i == nr_cpus)
			return;
		delay_us(100);
	}
	hv_stop("processor %u did not start (APIC IDs must count from 0)", i);
}

void ap_main(u32 apic_id)
{
	struct cpu *cpu = &cpus[apic_id];

	if (apic_id >= nr_cpus)
		hv_stop("APIC ID %u with %u processors", apic_id, nr_cpus);
	load_idt();
	lock_hv();		/* all APs come here at once, to one heap */
	svm_enable(cpu);
	root_init(cpu);
	unlock_hv();
	cpu->online = true;
	root_loop(cpu);
}

/* Brings a CPU out of whatever guest it runs, soon. */
void kick_cpu(struct cpu *cpu)
{
	x2apic_send(cpu->id, ICR_NMI);
}

/*
 * When this returns no CPU uses a translation of @pt that was made before the
 * call. A CPU that enters the guest publishes cpu->guest before it reads
 * tlb_gen, so either it sees the new generation or it is seen here.
 */
void tlb_flush(struct partition *pt)
{
	struct cpu *self = this_cpu();
	u64 gen;
	u32 i;

	pt->flush_needed = false;
	if (hv_options[OPT_NO_TLB_FLUSH] && pt != &root_partition) {
		pool_free_deferred(&pt->pool);
		return;
	}
	gen = __atomic_add_fetch(&pt->tlb_gen, 1, __ATOMIC_SEQ_CST);
	mb();	/* pairs with svm_run() */
	for (i = 0; i < nr_cpus; i++) {
		struct cpu *cpu = &cpus[i];

		if (cpu == self || cpu->guest != pt || cpu->guest_gen >= gen)
			continue;
		kick_cpu(cpu);
		total_shootdowns++;
		while (cpu->guest == pt && cpu->guest_gen < gen)
			cpu_relax();
	}
	pool_free_deferred(&pt->pool);
}
