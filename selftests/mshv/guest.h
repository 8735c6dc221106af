/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The child guest: its memory layout and its commands.
 *
 * The system area holds code, page tables, descriptor tables and stacks. The
 * page tables map guest physical addresses below GUEST_GPA_LIMIT twice: at the
 * same virtual address and at GUEST_ALIAS above it, so that a test can tell a
 * GVA from a GPA. There is no interrupt descriptor: an exception nobody
 * intercepts is a triple fault.
 *
 * A command is a label of guest.S. The VMM sets RIP to it and the arguments in
 * registers, the command ends in a HLT and leaves its result in RAX. The first
 * instruction of a command is the one the command is about.
 */
#ifndef SELFTESTS_MSHV_GUEST_H
#define SELFTESTS_MSHV_GUEST_H

#define GUEST_SYS_GFN		0x100ULL
#define GUEST_SYS_PAGES		64

/* Pages of the system area */
#define GUEST_PAGE_CODE		0
#define GUEST_PAGE_PML4		2
#define GUEST_PAGE_PDPT		3
#define GUEST_PAGE_PD		4	/* four of them */
#define GUEST_PAGE_GDT		8
#define GUEST_PAGE_MAILBOX	9
#define GUEST_PAGE_DATA		10	/* four pages of scratch memory */
#define GUEST_PAGE_STACK	16	/* one for each VP */

#define GUEST_MAX_VPS		16
#define GUEST_GPA_LIMIT		(4ULL << 30)
#define GUEST_ALIAS		(256ULL << 30)

#define GUEST_CS		0x08
#define GUEST_DS		0x10
#define GUEST_USER_CS		0x1b
#define GUEST_USER_DS		0x23
#define GUEST_TR		0x28

/* What guest_dump writes, in units of 8 bytes */
enum guest_dump_slot {
	DUMP_CR0, DUMP_CR2, DUMP_CR3, DUMP_CR4, DUMP_CR8,
	DUMP_DR0, DUMP_DR1, DUMP_DR2, DUMP_DR3, DUMP_DR6, DUMP_DR7,
	DUMP_ES, DUMP_CS, DUMP_SS, DUMP_DS, DUMP_FS, DUMP_GS, DUMP_LDTR, DUMP_TR,
	DUMP_GDTR_LIMIT, DUMP_GDTR_BASE, DUMP_IDTR_LIMIT, DUMP_IDTR_BASE,
	DUMP_RFLAGS, DUMP_RBX, DUMP_RBP, DUMP_RSP,
	DUMP_R8, DUMP_R9, DUMP_R10, DUMP_R11, DUMP_R12, DUMP_R13, DUMP_R14, DUMP_R15,
	DUMP_COUNT
};

/* What guest_walk has last written to a page, and the counter before that */
struct guest_expected {
	unsigned long long value;
	unsigned long long counter;
};

/* The code as it is linked into the test, position independent */
extern const char guest_code_start[], guest_code_end[];

/* rax = *rdi */
extern const char guest_read[];
/* *rdi = rsi */
extern const char guest_write[];
/* atomically *rdi += rsi, rax = what it was */
extern const char guest_xadd[];
/* jump to rdi */
extern const char guest_exec[];
/* the first quadword of each of rsi pages at rdi = rdx, rdx + 1, ... */
extern const char guest_fill[];
/* rax = number of rsi pages at rdi that are not as guest_fill left them */
extern const char guest_check[];
/* rsi quadwords of the area at rdi, in steps of rdx, modulo rcx + 1 bytes (rax = 0) */
extern const char guest_touch[];

/*
 * Check and rewrite a quadword in each of rsi pages at rdi. What is expected of a
 * page is in a struct guest_expected, those of all pages are at rcx; rax has a
 * counter for each page, whose value from just before the write is kept there. The
 * new value is rdx, a multiple of 32, for the first page, and 1 << 32 more for each
 * that follows. This is done 32 times for each page, adding 1 each time: who has
 * a stale translation of the page goes on to use it.
 * Halts with rsi = 0, or early, rax = what is there, at a page that is different.
 */
extern const char guest_walk[];
/* the same without writing, and without counters */
extern const char guest_compare[];
/* *rdi = 1, 2, 3, ... until *rsi is not zero */
extern const char guest_count[];
/* the same with lock incq, for several VPs on one quadword */
extern const char guest_lock_count[];
/* nothing but a jump to itself until *rsi is not zero */
extern const char guest_spin[];
extern const char guest_halt[];
/* two halts in a row; rax = 1 between them, 2 after them (needs RIP moved) */
extern const char guest_halt_twice[];
/* port dx, data al, ax, eax */
extern const char guest_out8[], guest_out16[], guest_out32[];
extern const char guest_in8[], guest_in16[], guest_in32[];
/* string I/O: rsi or rdi, and rcx */
extern const char guest_outsb[], guest_rep_outsw[], guest_rep_insb[];
extern const char guest_rdmsr[], guest_wrmsr[], guest_cpuid[];
extern const char guest_ud2[], guest_int3[], guest_div[];
/* store and load XMM0 to XMM15 at rdi */
extern const char guest_store_xmm[], guest_load_xmm[];
/* rax = XCR0 */
extern const char guest_xgetbv[];
/* write enum guest_dump_slot to rdi */
extern const char guest_dump[];
/* rax = fs:[rdi], gs:[rdi] */
extern const char guest_read_fs[], guest_read_gs[];
/* a page of code for guest_exec: rax = GUEST_EXEC_MAGIC, halt */
extern const char guest_exec_page[], guest_exec_page_end[];

#define GUEST_EXEC_MAGIC	0x5ca1ab1e

#define GUEST_PAGE_GPA(_page)	((GUEST_SYS_GFN + (_page)) << 12)
#define GUEST_ADDR(_sym) \
	(GUEST_PAGE_GPA(GUEST_PAGE_CODE) + \
	 ((uintptr_t)(_sym) - (uintptr_t)guest_code_start))

#endif /* SELFTESTS_MSHV_GUEST_H */
