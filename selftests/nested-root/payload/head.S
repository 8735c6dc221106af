/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What makes a payload look like a bzImage to the hypervisor's loader, its
 * 64-bit entry, the exception and interrupt stubs, and the APs' way from real
 * mode to C.
 */
#define PAYLOAD_BASE	0x1000000
#define AP_CODE		0x50000		/* copied there by ap_start() */
#define ROOT_TABLES	0x30000		/* the loader's identity mapping */
#define STACK_SHIFT	15

	.section .setup, "a"
	.org	0x1f1
	.byte	1			/* setup_sects */
	.org	0x1fe
	.word	0xaa55
	.byte	0xeb, 0x6a		/* jump over the header */
	.ascii	"HdrS"
	.word	0x20f
	.org	0x211
	.byte	1			/* loadflags: LOADED_HIGH */
	.org	0x214
	.long	PAYLOAD_BASE
	.org	0x230
	.long	0x200000		/* kernel_alignment */
	.org	0x236
	.word	1			/* xloadflags: XLF_KERNEL_64 */
	.org	0x258
	.quad	PAYLOAD_BASE		/* pref_address */
	.long	0x800000		/* init_size */
	.org	0x400

	.section .head, "ax"
	.code64
	.org	0x200
	.globl	start64
start64:
	cld
	movq	%rsi, %rbx
	leaq	bss_start(%rip), %rdi
	leaq	bss_end(%rip), %rcx
	subq	%rdi, %rcx
	xorl	%eax, %eax
	rep stosb
	leaq	stacks + (1 << STACK_SHIFT)(%rip), %rsp
	lgdt	gdt_pointer(%rip)
	movq	%rbx, %rdi
	call	start_c
1:	hlt
	jmp	1b

	.balign	8
	.globl	gdt_pointer
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.quad	gdt

/* Real mode at AP_CODE; straight to long mode on the boot CPU's tables. */
	.code16
	.globl	ap_code, ap_code_end
ap_code:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_code
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$ROOT_TABLES, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x900, %eax
	wrmsr
	movl	%cr0, %eax
	andl	$0x9fffffff, %eax
	orl	$0x80010033, %eax
	movl	%eax, %cr0
	ljmpl	$0x10, $ap_long
	.balign	4
ap_gdt_pointer:
	.word	31
	.long	gdt
ap_code_end:

	.code64
ap_long:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$0x802, %ecx		/* x2APIC ID */
	rdmsr
	movl	%eax, %edi
	incl	%eax
	shll	$STACK_SHIFT, %eax
	leaq	stacks(%rip), %rsp
	addq	%rax, %rsp
	lgdt	gdt_pointer(%rip)
	call	ap_c
1:	hlt
	jmp	1b

/* One 16-byte stub a vector: error code (or 0), vector, common part. */
	.balign	16
	.globl	trap_stubs
trap_stubs:
	vector = 0
	.rept	32
	.balign	16
	.if	!((0x227d00 >> vector) & 1)
	pushq	$0
	.endif
	pushq	$vector
	jmp	trap_common
	vector = vector + 1
	.endr
	.rept	224
	.balign	16
	pushq	$0
	pushq	$vector
	jmp	trap_common
	vector = vector + 1
	.endr

trap_common:
	.irp	r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	pushq	%\r
	.endr
	cld
	movq	%rsp, %rdi
	movq	%rsp, %rbx
	andq	$-16, %rsp
	call	trap
	movq	%rbx, %rsp
	.irp	r, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
	popq	%\r
	.endr
	addq	$16, %rsp
	iretq

	.bss
	.balign	4096
	.globl	stacks
stacks:
	.skip	8 << STACK_SHIFT
