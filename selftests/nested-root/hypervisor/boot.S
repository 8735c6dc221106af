/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From the multiboot loader's 32-bit protected mode, and from an AP's real
 * mode after SIPI, to 64-bit C. Both end on a 16 KiB stack, one of an array in
 * the order of the APIC IDs: this_cpu() knows the processor by it.
 */
#define STACK_SHIFT	14
#define AP_TRAMPOLINE	0x8000
#define IDENTITY_GB	16

	.section .boot, "ax"
	.code32
	.balign	4
	.long	0x1badb002, 3, -(0x1badb002 + 3)

	.globl	start32
start32:
	cli
	cld
	movl	%ebx, %ebp

	/* PML4 -> PDPT -> IDENTITY_GB page directories of 2 MiB pages. */
	movl	$boot_pdpt + 3, boot_pml4
	movl	$boot_pd + 3, %eax
	movl	$boot_pdpt, %edi
	movl	$IDENTITY_GB, %ecx
1:	movl	%eax, (%edi)
	addl	$4096, %eax
	addl	$8, %edi
	loop	1b

	movl	$boot_pd, %edi
	movl	$0x83, %eax
	xorl	%edx, %edx
	movl	$(IDENTITY_GB * 512), %ecx
2:	movl	%eax, (%edi)
	movl	%edx, 4(%edi)
	addl	$0x200000, %eax
	adcl	$0, %edx
	addl	$8, %edi
	loop	2b

	lgdt	boot_gdtr
	call	enable_long_mode
	ljmp	$8, $start64

/* Paging on, with NX and long mode; the caller jumps to a 64-bit segment. */
enable_long_mode:
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x900, %eax
	wrmsr
	movl	%cr0, %eax
	andl	$~0x6000000c, %eax
	orl	$0x80010002, %eax
	movl	%eax, %cr0
	ret

	.code64
start64:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	leaq	boot_stacks + (1 << STACK_SHIFT), %rsp
	movl	%ebp, %edi
	call	hv_main
3:	hlt
	jmp	3b

/* Copied to AP_TRAMPOLINE; every address must be absolute. */
	.code16
	.globl	ap_trampoline, ap_trampoline_end
ap_trampoline:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	AP_TRAMPOLINE + ap_gdtr - ap_trampoline
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $ap32
	.balign	4
ap_gdtr:
	.word	boot_gdt_end - boot_gdt - 1
	.long	boot_gdt
ap_trampoline_end:

	.code32
ap32:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	/* The stack is chosen by APIC ID; ap_main checks it against the table. */
	movl	$1, %eax
	cpuid
	shrl	$24, %ebx
	andl	$7, %ebx
	movl	%ebx, %ebp
	movl	%ebx, %esp
	incl	%esp
	shll	$STACK_SHIFT, %esp
	addl	$boot_stacks, %esp
	call	enable_long_mode
	ljmp	$8, $ap64

	.code64
ap64:
	movl	%ebp, %edi
	call	ap_main
4:	hlt
	jmp	4b

	.balign	8
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
	.quad	0x00cf9b000000ffff	/* 0x18: 32-bit code */
boot_gdt_end:
boot_gdtr:
	.word	boot_gdt_end - boot_gdt - 1
	.quad	boot_gdt

	.bss
	.balign	(1 << STACK_SHIFT)
	.globl	boot_stacks
boot_stacks:
	.skip	8 << STACK_SHIFT
	.globl	boot_pml4
boot_pml4:
	.skip	4096
boot_pdpt:
	.skip	4096
boot_pd:
	.skip	4096 * IDENTITY_GB

	.section .note.GNU-stack, "", @progbits
