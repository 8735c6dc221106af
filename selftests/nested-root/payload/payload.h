/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the payloads share. A payload is a bare-metal program that runs as the
 * root partition of the nested root VM's hypervisor, instead of Linux.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef _Bool bool;

#define true	1
#define false	0
#define NULL	((void *)0)

#ifndef __packed
#define __packed	__attribute__((packed))
#endif

#define BIT(n)		(1u << (n))
#define BIT_ULL(n)	(1ull << (n))

#include "../hypervisor/abi.h"

#define PAGE_SIZE	4096ull
#define MB2		0x200000ull
#define GB1		0x40000000ull
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MAX_CPUS	8
#define AP_CODE		0x50000ull	/* real-mode start of the APs */
#define HV_STATUS_NONE	0xffff		/* no call was made */

/* lib.c: console, TAP, memory */
extern const char *cmdline;
extern u32 tests_failed;

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ok(bool good, const char *name);
void ok_detail(bool good, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void skip(const char *name, const char *why);
void __attribute__((noreturn)) finish(void);
void __attribute__((noreturn)) leave(u32 code);
const char *find_word(const char *word);
bool word_given(const char *word);
u64 number_given(const char *name, u64 otherwise);
void *memset(void *to, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);
void memory_init(const u8 *boot_params);
void *page_alloc(void);
void page_free(void *page);
void *large_alloc(void);
void large_free(void *block);
u64 pages_left(void);

/* cpu.c: exceptions, interrupts, processors, time */
#define VECTOR_TIMER	0x40
#define VECTOR_SYNIC	0x41
#define VECTOR_IPI	0x42
#define MSR_X2APIC_ID	0x802
#define MSR_X2APIC_EOI	0x80b
#define MSR_X2APIC_SVR	0x80f
#define MSR_X2APIC_ICR	0x830
#define MSR_X2APIC_LVT_TIMER	0x832
#define MSR_X2APIC_TIMER_COUNT	0x838
#define MSR_X2APIC_TIMER_DIVIDE	0x83e

struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx;
	u64 rax, vector, error, rip, cs, rflags, rsp, ss;
};

struct cpu {
	u32 id;
	volatile bool up;
	volatile u64 interrupts[256];
	volatile u32 fault_vector;	/* of the last fault survived */
	void (*volatile work)(void *arg);
	void *volatile arg;
	u64 *in, *out;			/* hypercall pages */
};

extern struct cpu cpus[MAX_CPUS];
extern u32 nr_cpus;

void cpu_init(void);
struct cpu *this_cpu(void);
void cpu_run(u32 id, void (*fn)(void *arg), void *arg);
void cpu_wait(u32 id);
bool cpu_start(u32 id);
void cpu_stop(u32 id);
void ipi(u32 id, u32 vector_and_mode);
void timer_us(u32 us);
void cpu_nap(u32 us);
u64 now_us(void);
void delay_us(u64 us);
bool rdmsr_safe(u32 msr, u64 *value);
bool wrmsr_safe(u32 msr, u64 value);
void cpuid(u32 leaf, u32 subleaf, u32 *r);
bool has_1g(void);

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32))
		     : "memory");
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}

static inline void outb(u16 port, u8 v)
{
	asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}

/* hv.c: hypercalls, the oracle, messages */
#define CONTROL(code, reps)	((u64)(code) | (u64)(reps) << 32)
#define STATUS(result)		((u16)(result))
#define DONE(result)		((u32)((result) >> 32) & 0xfff)
#define CREATE_FLAGS		0x82100ull
#define CREATE_VERSION		0x609

#define REG_EXPLICIT_SUSPEND	0x0
#define REG_INTERCEPT_SUSPEND	0x1
#define REG_PENDING_INTERRUPTION	0x10002
#define REG_INTERRUPT_STATE	0x10003
#define REG_RAX		0x20000
#define REG_RCX		0x20001
#define REG_RDX		0x20002
#define REG_RBX		0x20003
#define REG_RSP		0x20004
#define REG_RSI		0x20006
#define REG_RDI		0x20007
#define REG_RIP		0x20010
#define REG_RFLAGS	0x20011
#define REG_XMM0	0x30000
#define REG_CR0		0x40000
#define REG_CR3		0x40002
#define REG_CR4		0x40003
#define REG_CR8		0x40004
#define REG_XFEM	0x40005
#define REG_DR7		0x50005
#define REG_ES		0x60000
#define REG_CS		0x60001
#define REG_SS		0x60002
#define REG_EFER	0x80001
#define REG_TSC_AUX	0x8007b

#define ORACLE_PORT	0x4860

enum {
	ORACLE_VERSION, ORACLE_RESET, ORACLE_COUNTER, ORACLE_SLAT, ORACLE_AUDIT,
	ORACLE_INJECT, ORACLE_INJECTED, ORACLE_POOL, ORACLE_DRY, ORACLE_DELAY,
	ORACLE_PARTITION, ORACLE_NEWEST, ORACLE_PAGE, ORACLE_TOTALS,
	ORACLE_OPTION, ORACLE_MESSAGES
};

enum {
	OPTION_LARGE_OVER_4K, OPTION_SPLIT, OPTION_UNMAP_MEMORY,
	OPTION_REMAP_AD, OPTION_TLB_FLUSH, OPTION_MSG_PAGE, OPTION_COALESCE,
	OPTIONS
};

struct oracle {
	u64 a[5];		/* RDI, RSI, RCX, R8, R9 */
};

struct synic_event {
	u32 type, vp;
	u64 sender;
	u32 number;		/* counts from 1, written last */
};

extern bool scheduler_is_root;
extern struct synic_event synic_events[1024];
extern volatile u32 synic_count;
extern volatile bool synic_manual;

void hv_init(void);
void synic_init(struct cpu *cpu);
void synic_interrupt(void);
u64 hvcall(u64 control, const void *in, void *out);
s64 oracle(u32 command, struct oracle *o);
u64 option(u32 id, u64 value);
u64 create_status(u64 flags, u64 version, u64 isolation, u64 *id);
u64 partition_create(bool encrypted);
u16 simple(u16 code, u64 a, u64 b);
u64 deposit(u64 id, u32 pages);
u64 withdraw(u64 id, u32 pages);
u32 withdraw_all(u64 id);
u64 map_pages(u64 id, u64 gfn, const void *const *page, u32 n, u32 flags);
u64 map_run(u64 id, u64 gfn, u64 spa, u32 n, u32 flags);
u64 unmap(u64 id, u64 gfn, u32 n, u32 flags);
u64 access_states(u64 id, u64 gfn, u32 n, u64 flags, u8 *states);
u16 vp_create(u64 id, u32 index);
u16 vp_page(u64 id, u32 index, u32 type, bool map, void **page);
u16 stats_page(u32 type, u64 id, u64 index, bool map, void **page);
u16 reg_set2(u64 id, u32 vp, u32 name, u64 lo, u64 hi);
u16 reg_set(u64 id, u32 vp, u32 name, u64 value);
u16 reg_get2(u64 id, u32 vp, u32 name, u64 *value);
u64 reg_get(u64 id, u32 vp, u32 name);
u16 dispatch(u64 id, u32 vp, u32 flags, u32 us, u32 *state, u32 *event);
u16 install_intercept(u64 id, u32 type, u32 access, u64 parameter);
s64 slat(u64 id, u64 gfn, u64 *spa, u32 *flags);
u64 pool_in_use(u64 id);
u64 pool_free_pages(u64 id);

/* child.c: a partition with 2 MiB of RAM, long-mode VPs, code to run */
#define GUEST_TABLES	0x1000
#define GUEST_CODE	0x8000
#define GUEST_STACK	0x10000
#define GUEST_DATA	0x20000
#define CHILD_VPS	16
#define MAP_RWX		(HV_MAP_GPA_PERMISSIONS | HV_MAP_GPA_ADJUSTABLE)

struct child {
	u64 id;
	u8 *ram;
	struct hv_message *message[CHILD_VPS];
};

enum run_end { RUN_INTERCEPT, RUN_SUSPEND, RUN_TIMEOUT, RUN_FAILED };

/* Machine code that a test copies to a child. */
#define GUEST(name, code)						\
	asm(".pushsection .rodata\n" #name ":\n" code "\n" #name "_end:\n"	\
	    ".popsection");						\
	extern const u8 name[], name##_end[]
#define CHILD_CODE(c, name)	child_code(c, name, name##_end - name)

void child_create(struct child *c, u32 vps);
void child_delete(struct child *c);
u16 child_vp(struct child *c, u32 vp);
void child_tables(u8 *ram);
void child_long_mode(struct child *c, u32 vp);
void child_code(struct child *c, const u8 *code, u64 length);
enum run_end child_run(struct child *c, u32 vp, u32 us);
u32 child_expect(struct child *c, u32 vp);

/* The program's own part; CPU 0, interrupts on. */
void payload(void);

void start_c(const u8 *boot_params);
void ap_c(u32 id);
void trap(struct trap_frame *f);

#endif
