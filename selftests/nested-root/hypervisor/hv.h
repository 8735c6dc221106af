/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hypervisor's data structures and everything its files share.
 *
 * Locking: hv_lock serialises hypercalls, exits that touch shared state and the
 * oracle. It is never held while a guest runs. A remote CPU that is inside a
 * guest can always be brought out by an NMI without that lock, which is why TLB
 * shootdown and VP stop may wait for it while holding the lock.
 */
#ifndef NR_HV_H
#define NR_HV_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef u8 bool;

#define true	1
#define false	0
#define NULL	((void *)0)

#define static_assert	_Static_assert
#define BIT(n)		(1u << (n))
#define BIT_ULL(n)	(1ull << (n))
#define __packed	__attribute__((packed))
#define __printf(a, b)	__attribute__((format(printf, a, b)))
#define __noreturn	__attribute__((noreturn))
#define fallthrough	__attribute__((fallthrough))

#include "abi.h"
#include "svm.h"

#define PAGE_SHIFT	12
#define PAGE_SIZE	4096ull
#define LARGE_PAGES	512ull		/* 4K pages in a 2M page */
#define GIB_PAGES	(512 * LARGE_PAGES)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MAX_CPUS	8
#define MAX_PARTITIONS	256
#define MAX_VPS		256
#define MAX_CPUID_RESULTS	32
#define MAX_MSR_RESULTS	32
#define MAX_CPUID_LEAVES	32
#define GFN_LIMIT	BIT_ULL(36)	/* four-level tables: 48-bit GPAs */

#define MSR_APIC_BASE	0x1b
#define MSR_TSC		0x10
#define MSR_TSC_AUX	0xc0000103
#define MSR_EFER	0xc0000080
#define MSR_VM_CR	0xc0010114
#define MSR_VM_HSAVE_PA	0xc0010117
#define MSR_X2APIC_IRR		0x820	/* and seven more */
#define MSR_X2APIC_TIMER_COUNT	0x838
#define MSR_X2APIC_ICR	0x830
#define EFER_LME	BIT_ULL(8)
#define EFER_SVME	BIT_ULL(12)
#define EFER_VALID	0xd01ull	/* SCE LME LMA NXE */

/* Answers to the questions that the public texts leave open; see main.c. */
enum hv_option {
	OPT_LARGE_OVER_4K_REFUSED,
	OPT_SPLIT_FREE,
	OPT_UNMAP_NEEDS_MEMORY,
	OPT_REMAP_CLEARS_AD,
	OPT_NO_TLB_FLUSH,
	OPT_MSG_PAGE_CLEARED,
	OPT_NO_COALESCE,
	OPT_COUNT
};

enum page_kind {
	PAGE_ROOT,		/* RAM of the root partition */
	PAGE_DEPOSITED,		/* belongs to a partition's pool */
	PAGE_HYPERVISOR,
	PAGE_EXCLUSIVE,		/* taken from the root for an encrypted partition */
	PAGE_NOT_RAM,
};

struct page_info {
	u8 kind:7;
	u8 root_ok:1;		/* the root may access it although not its own */
	u8 slot;		/* owning partition's slot */
	u32 maps;		/* child SLAT entries that point here */
};

/* A virtual processor as SVM sees it. Offsets are known to entry.S. */
struct vcpu {
	struct vmcb *vmcb;
	u64 gpr[16];		/* RAX and RSP unused: they live in the VMCB */
	u64 dr[4];
	u64 xcr0, tsc_aux;
	void *xsave;
	u64 seen_gen;
};

enum partition_state {
	PARTITION_FREE,
	PARTITION_CREATED,
	PARTITION_ACTIVE,
	PARTITION_FINALIZED,
};

/* A page of a pool on one of its lists; the link is in the page itself. */
struct pool_page {
	struct pool_page *next;
};

struct pool {
	struct pool_page *free;
	struct pool_page *deferred;	/* free after the next TLB shootdown */
	u64 free_count;
	u64 deposited;		/* and not withdrawn */
	u64 dry;		/* that many allocations fail */
};

struct cpuid_result {
	u32 leaf, subleaf;
	u8 subleaf_specific;
	u32 value[4], mask[4];
};

struct msr_result {
	u32 msr, access, action;
};

struct partition {
	u64 id;
	u8 state;
	u8 slot;
	bool encrypted;
	u64 *npt;		/* top level table */
	u64 table_pages;
	u64 tlb_gen;
	bool flush_needed;
	struct pool pool;
	u64 exclusive;		/* pages taken from the root for it */
	u32 vp_count;
	struct vp *vp[MAX_VPS];
	/* Intercepts the root asked for */
	u8 msr_all, hypercall_all;
	u8 cpuid_leaf_count;
	u32 cpuid_leaf[MAX_CPUID_LEAVES];
	u32 exceptions;
	u8 cpuid_count, msr_count;
	struct cpuid_result cpuid[MAX_CPUID_RESULTS];
	struct msr_result msr[MAX_MSR_RESULTS];
	u64 properties[8];
	void *stats[2];
};

/* See guard_lme() in child.c. */
enum lme_guard {
	LME_HIDDEN_UNTIL_CR0,
	LME_HIDDEN_UNTIL_CR4,
	LME_VISIBLE_UNTIL_CR4,
};

/* A child VP; the structure is a page of its partition's pool. */
struct vp {
	struct vcpu cpu;
	struct partition *pt;
	u32 index;
	bool explicit_suspend;
	bool intercept_suspend;
	bool dispatch_suspend;
	bool root_blocked;	/* the root was told that dispatch is blocked */
	struct cpu *running;
	bool lme_hidden;	/* EFER.LME is set but not in the VMCB */
	u8 lme_guard;
	bool cr0_passed;	/* a write of CR0 may have switched paging off */
	u64 signal_count;
	struct hv_message *message;
	struct hv_register_page *regs;
	u64 *stats[2];
	struct pool *stats_pool[2];
	bool message_mapped, regs_mapped;
	/* Message to the root that waits for a SynIC slot */
	struct vp *queue_next;
	u32 queued_type;
	/* Hypervisor scheduler */
	struct cpu *home;
	struct vp *run_next;
	bool runnable;
	/* Child-visible synthetic MSRs */
	u64 guest_os_id, hypercall_msr, tsc_msr, apic_base, mtrr_def;
	u64 assist_msr, misc_enable;
};

struct cpu {
	struct vcpu root;	/* the root VP of this CPU */
	u32 id;
	bool online;		/* in the hypervisor */
	bool started;		/* runs root code */
	bool added;		/* the root knows it as a logical processor */
	struct partition *volatile guest;	/* partition whose tables are live */
	volatile u64 guest_gen;
	struct vcpu *last_vcpu;
	volatile bool nmi_for_root;
	volatile bool init_pending;
	volatile s64 sipi_page;	/* -1: none */
	void *hsave;
	/* Root SynIC */
	struct hv_message *simp;
	void *siefp, *sirbp, *assist;
	u64 simp_msr, siefp_msr, sirbp_msr, assist_msr, scontrol;
	u64 sint[HV_SINT_COUNT];
	struct vp *queue_head, *queue_tail;
	/* Hypervisor scheduler */
	struct vp *run_head;
	u8 save_area[VMCB_SAVE_SIZE];	/* of the child VP that runs */
	bool childs_turn, odd_tick;
	void *stats[2], *lp_stats;	/* of the root VP, of the processor */
};

struct counter {
	u64 calls, reps, failed;
	u64 delay_us;
	u64 inject_nth, inject_fired;
	u16 inject_status, inject_reps;
	bool inject_sticky;
};

struct hcall {
	u16 code;
	bool fast;
	u32 reps, start, varhead;
	const u8 *in;		/* a copy: the caller cannot change it */
	u8 *out;
	u32 in_room;		/* bytes of input that were copied */
	u32 out_len;		/* bytes of output to write back */
	u32 done;		/* repetitions completed, from the list's start */
	struct cpu *cpu;
};

extern struct cpu cpus[MAX_CPUS];
extern u32 nr_cpus;
extern struct partition root_partition;
extern struct partition *partitions[MAX_PARTITIONS];
extern struct counter counters[HVCALL_COUNT];
extern u8 hv_options[OPT_COUNT];
extern u32 scheduler_type;	/* HV_SCHEDULER_TYPE_LP (1) or _ROOT (4) */
extern u64 tsc_hz, apic_hz, tsc_scale;
extern u64 ram_top;		/* first byte after the highest RAM */
extern struct page_info *page_info;
extern u64 total_deposited, total_withdrawn, total_leaks, total_shootdowns;
extern u64 total_messages, message_counts[8];
extern u64 newest_partition;
extern u64 host_xcr0_mask;
extern u32 xsave_size;
extern bool has_1g_pages;
extern u8 *child_iopm, *child_msrpm, *root_iopm, *root_msrpm, *root_msrpm_timer;
extern char hv_image_start[], hv_image_end[];

/* printk.c */
__printf(1, 2) void hv_print(const char *fmt, ...);
__noreturn __printf(1, 2) void hv_stop(const char *fmt, ...);
void *memcpy(void *dst, const void *src, unsigned long n);
void *memmove(void *dst, const void *src, unsigned long n);
void *memset(void *dst, int c, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);
unsigned long strlen(const char *s);
bool word_is(const char *s, const char *word);

/* mem.c */
void mem_init(u64 heap, u64 heap_size);
void *heap_page(void);
void *heap_try_page(void);
void *heap_pages(u64 count);
void heap_free(void *page);
struct page_info *page_of(u64 spa);
bool root_ram(u64 spa);
void *pool_alloc(struct pool *pool);
void pool_free(struct pool *pool, void *page);
void pool_free_deferred(struct pool *pool);
void pool_add(struct pool *pool, void *page);
void *pool_take(struct pool *pool);

/* npt.c */
#define SLAT_R		0x01
#define SLAT_W		0x02
#define SLAT_X		0x0c
#define SLAT_NO_ACCESS	0x10
#define SLAT_ACCESSED	0x20
#define SLAT_DIRTY	0x40
#define SLAT_UNCACHED	0x80
#define SLAT_SIZE(f)	(((f) >> 8) & 3)

struct slat_entry {
	u64 spa;		/* of the 4K page asked for */
	u32 flags;		/* SLAT_* */
	u64 *pte;
};

bool npt_lookup(struct partition *pt, u64 gfn, struct slat_entry *e);
u16 npt_map(struct partition *pt, u64 gfn, u64 spa, u32 flags, bool large);
u16 npt_unmap(struct partition *pt, u64 gfn, bool large);
bool npt_split_1g(struct partition *pt, u64 gfn);
u64 npt_next(struct partition *pt, u64 gfn);
u64 npt_change_ad(struct partition *pt, u64 *pte, u64 set, u64 clear);
void npt_destroy(struct partition *pt);
void root_npt_init(void);
void root_npt_fault(struct cpu *cpu);
void root_set_access(u64 spa, bool allowed);

/* smp.c */
struct cpu *this_cpu(void);
void smp_start(void);
void ap_main(u32 apic_id);
void lock_hv(void);
void unlock_hv(void);
void kick_cpu(struct cpu *cpu);
void tlb_flush(struct partition *pt);
void x2apic_send(u32 apic_id, u32 vector_and_mode);
u64 rdtsc(void);
void delay_us(u64 us);
void calibrate(void);
u64 reference_time(void);
void load_idt(void);
void hv_exception(u64 *frame);

/* svm.c */
void svm_enable(struct cpu *cpu);
void svm_vmrun(struct vcpu *v);
void nmi_window(void);
void cpu_idle(void);
void svm_run(struct cpu *cpu, struct vcpu *v, struct partition *pt);
void vmcb_intercept(struct vmcb *vmcb, u32 bit, bool on);
void vmcb_reset(struct vmcb *vmcb);
void msrpm_intercept(u8 *map, u32 msr, bool read, bool write);
void instruction_done(struct vmcb *v, u64 next);
void inject_exception(struct vmcb *vmcb, u32 vector, s64 error);
void cpuid(u32 leaf, u32 subleaf, u32 *r);
void fpu_switch(struct vcpu *from, struct vcpu *to);
void xsetbv(u64 v);
u64 rdmsr(u32 msr);
void wrmsr(u32 msr, u64 value);

/* root.c */
void root_init(struct cpu *cpu);
void root_enter_bsp(u64 rip, u64 rsi, u64 cr3, u64 gdt, u64 rsp);
__noreturn void root_loop(struct cpu *cpu);
void hv_cpuid_leaf(u32 leaf, u32 *r, bool root);

/* loader.c */
u64 loader_init(u32 mbi);
void loader_boot(u32 mbi);

/* synic.c */
void synic_init(struct cpu *cpu);
bool root_hypercalls_enabled(void);
bool synic_msr(struct cpu *cpu, u32 msr, u64 *value, bool write);
void synic_queue(struct cpu *cpu, struct vp *vp, u32 type);
void synic_forget(struct vp *vp);
u16 hv_signal_event_direct(struct hcall *h);
u16 hv_post_message_direct(struct hcall *h);

/* hypercall.c */
u64 do_hypercall(struct cpu *cpu, u64 control, u64 in, u64 out);
u64 child_hypercall(struct vp *vp, u64 control);

/* partition.c, slat.c, spa.c, vp.c, vpregs.c, vpstate.c, power.c: one function a call */
struct partition *find_partition(u64 id);
u16 find_child(u64 id, struct partition **pt);
struct partition *partition_after(u64 id);
u16 hv_create_partition(struct hcall *h);
u16 hv_initialize_partition(struct hcall *h);
u16 hv_finalize_partition(struct hcall *h);
u16 hv_delete_partition(struct hcall *h);
u16 hv_get_partition_property(struct hcall *h);
u16 hv_get_partition_property_ex(struct hcall *h);
u16 hv_set_partition_property(struct hcall *h);
u16 hv_get_partition_id(struct hcall *h);
u16 hv_deposit_memory(struct hcall *h);
u16 hv_withdraw_memory(struct hcall *h);
u16 hv_map_gpa_pages(struct hcall *h);
u16 hv_unmap_gpa_pages(struct hcall *h);
u16 hv_get_access_states(struct hcall *h);
u16 hv_acquire_host_access(struct hcall *h);
u16 hv_release_host_access(struct hcall *h);
u16 hv_create_vp(struct hcall *h);
u16 hv_delete_vp(struct hcall *h);
u16 hv_install_intercept(struct hcall *h);
u16 hv_register_intercept_result(struct hcall *h);
u16 hv_get_vp_registers(struct hcall *h);
u16 hv_set_vp_registers(struct hcall *h);
u16 hv_translate_gva(struct hcall *h);
u16 hv_map_vp_state_page(struct hcall *h);
u16 hv_unmap_vp_state_page(struct hcall *h);
u16 hv_map_stats_page(struct hcall *h);
u16 hv_unmap_stats_page(struct hcall *h);
u16 hv_get_vp_state(struct hcall *h);
u16 hv_set_vp_state(struct hcall *h);
u16 hv_dispatch_vp(struct hcall *h);
u16 hv_map_device_interrupt(struct hcall *h);
u16 hv_unmap_device_interrupt(struct hcall *h);
u16 hv_add_logical_processor(struct hcall *h);
u16 hv_get_run_time(struct hcall *h);
u16 hv_notify_partition_event(struct hcall *h);
u16 hv_get_system_property(struct hcall *h);
u16 hv_set_system_property(struct hcall *h);
u16 hv_enter_sleep_state(struct hcall *h);
u16 find_vp_stopped(u64 id, u32 index, u8 vtl, struct vp **vp);
bool stop_all(struct partition *pt);
void kick_running(struct partition *pt);
void vp_destroy(struct vp *vp);
void release_page(struct pool *pool, void *page);
void vp_resume(struct vp *vp);
void set_explicit_suspend(struct vp *vp, bool on);
void regpage_in(struct vp *vp);
void regpage_out(struct vp *vp);
void seg_out(struct hv_segment *to, const struct vmcb_seg *from);

/* child.c, intercept.c: exits of a child VP */
enum vp_exit {
	VP_CONTINUE,		/* run on */
	VP_PREEMPTED,		/* a physical interrupt or a kick */
	VP_INTERCEPTED,		/* suspended, a message was written */
};

enum vp_exit vp_run(struct cpu *cpu, struct vp *vp);
enum vp_exit child_exit(struct vp *vp);
void guard_lme(struct vp *vp);
u64 child_efer(struct vp *vp);
bool pat_valid(u64 pat);
bool xcr0_valid(u64 xcr0);
void child_cpuid(struct vp *vp, u32 leaf, u32 subleaf, u32 *r);
bool intercept_message(struct vp *vp);

/* gva.c */
enum gva_result {
	GVA_SUCCESS,
	GVA_PAGE_NOT_PRESENT,
	GVA_PRIVILEGE_VIOLATION,
	GVA_GPA_UNMAPPED = 4,	/* 3: reserved bits, which are not checked */
	GVA_GPA_NO_READ_ACCESS,
	GVA_GPA_NO_WRITE_ACCESS,
};

#define GVA_READ	1
#define GVA_WRITE	2
#define GVA_EXECUTE	4
#define GVA_PRIVILEGE_EXEMPT	8

enum gva_result gva_translate(struct partition *pt, struct vmcb *vmcb, u64 gva,
			      u32 how, u64 *gpa);
void *gpa_pointer(struct partition *pt, u64 gpa, bool write);

/* decode.c */
bool find_gva(struct vp *vp, u64 gpa, const u8 *insn, u32 length, u64 *gva);

/* sched.c */
void sched_add(struct vp *vp);
void sched_remove(struct vp *vp);
bool sched_wants(struct cpu *cpu);
void sched_run(struct cpu *cpu);
void sched_update_intercepts(struct cpu *cpu);

/* oracle.c */
#define ORACLE_PORT		0x4860
#define ORACLE_CPUID		0x40000100
#define ORACLE_SIGNATURE	0x4d56524e	/* "NRVM" */
#define ORACLE_VERSION		1
#define ORACLE_COMMANDS		16
void oracle_call(struct cpu *cpu);

static inline void port_out8(u16 port, u8 v)
{
	asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void port_out16(u16 port, u16 v)
{
	asm volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void port_out32(u16 port, u32 v)
{
	asm volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline u8 port_in8(u16 port)
{
	u8 v;

	asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}

/* Orders all loads and stores, also against the APIC's MSRs. */
static inline void mb(void)
{
	asm volatile("mfence" : : : "memory");
}

#endif
