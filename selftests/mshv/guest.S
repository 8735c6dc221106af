/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Code of the child guest, 64-bit and position independent. The loader copies
 * it into guest memory; guest.h says what each command does.
 */

#define COMMAND(name) .globl name; name:

	.section .rodata.guest, "a", @progbits
	.balign 4096

COMMAND(guest_code_start)
	/* Address 0 of the page is no command: a wild RIP is noticed */
	ud2

COMMAND(guest_read)
	mov	(%rdi), %rax
	hlt

COMMAND(guest_write)
	mov	%rsi, (%rdi)
	hlt

COMMAND(guest_xadd)
	lock xadd %rsi, (%rdi)
	mov	%rsi, %rax
	hlt

COMMAND(guest_exec)
	jmp	*%rdi

COMMAND(guest_fill)
	mov	%rdx, (%rdi)
	inc	%rdx
	add	$4096, %rdi
	dec	%rsi
	jnz	guest_fill
	hlt

COMMAND(guest_check)
	cmp	%rdx, (%rdi)
	setne	%cl
	movzbq	%cl, %rcx
	add	%rcx, %rax
	inc	%rdx
	add	$4096, %rdi
	dec	%rsi
	jnz	guest_check
	hlt

COMMAND(guest_touch)
	mov	%rsi, (%rdi, %rax)
	add	%rdx, %rax
	and	%rcx, %rax
	dec	%rsi
	jnz	guest_touch
	hlt

COMMAND(guest_walk)
	mov	(%rdi), %r9
	cmp	(%rcx), %r9
	jne	differs
	mov	(%rax), %r8
	mov	%rdx, (%rdi)
	mov	%rdx, (%rcx)
	mov	%r8, 8(%rcx)
	inc	%rdx
	test	$31, %dl
	jnz	guest_walk
	movabs	$0x100000000 - 32, %r8
	add	%r8, %rdx
	add	$4096, %rdi
	add	$16, %rcx
	add	$8, %rax
	dec	%rsi
	jnz	guest_walk
	hlt

COMMAND(guest_compare)
	mov	(%rdi), %r9
	cmp	(%rcx), %r9
	jne	differs
	add	$4096, %rdi
	add	$16, %rcx
	dec	%rsi
	jnz	guest_compare
	hlt

differs:
	mov	%r9, %rax
	hlt

COMMAND(guest_count)
	incq	(%rdi)
	cmpq	$0, (%rsi)
	je	guest_count
	hlt

COMMAND(guest_lock_count)
	lock incq (%rdi)
	inc	%rax
	cmpq	$0, (%rsi)
	je	guest_lock_count
	hlt

COMMAND(guest_spin)
	cmpq	$0, (%rsi)
	je	guest_spin
	hlt

COMMAND(guest_halt)
	hlt

COMMAND(guest_halt_twice)
	mov	$1, %eax
	hlt
	inc	%eax
	hlt

COMMAND(guest_out8)
	out	%al, %dx
	hlt
COMMAND(guest_out16)
	out	%ax, %dx
	hlt
COMMAND(guest_out32)
	out	%eax, %dx
	hlt
COMMAND(guest_in8)
	in	%dx, %al
	hlt
COMMAND(guest_in16)
	in	%dx, %ax
	hlt
COMMAND(guest_in32)
	in	%dx, %eax
	hlt
COMMAND(guest_outsb)
	outsb
	hlt
COMMAND(guest_rep_outsw)
	rep outsw
	hlt
COMMAND(guest_rep_insb)
	rep insb
	hlt

COMMAND(guest_rdmsr)
	rdmsr
	hlt
COMMAND(guest_wrmsr)
	wrmsr
	hlt
COMMAND(guest_cpuid)
	cpuid
	hlt

COMMAND(guest_ud2)
	ud2
	hlt
COMMAND(guest_int3)
	int3
	hlt
COMMAND(guest_div)
	div	%rcx
	hlt

COMMAND(guest_store_xmm)
	movdqu	%xmm0, 0x00(%rdi)
	movdqu	%xmm1, 0x10(%rdi)
	movdqu	%xmm2, 0x20(%rdi)
	movdqu	%xmm3, 0x30(%rdi)
	movdqu	%xmm4, 0x40(%rdi)
	movdqu	%xmm5, 0x50(%rdi)
	movdqu	%xmm6, 0x60(%rdi)
	movdqu	%xmm7, 0x70(%rdi)
	movdqu	%xmm8, 0x80(%rdi)
	movdqu	%xmm9, 0x90(%rdi)
	movdqu	%xmm10, 0xa0(%rdi)
	movdqu	%xmm11, 0xb0(%rdi)
	movdqu	%xmm12, 0xc0(%rdi)
	movdqu	%xmm13, 0xd0(%rdi)
	movdqu	%xmm14, 0xe0(%rdi)
	movdqu	%xmm15, 0xf0(%rdi)
	hlt

COMMAND(guest_load_xmm)
	movdqu	0x00(%rdi), %xmm0
	movdqu	0x10(%rdi), %xmm1
	movdqu	0x20(%rdi), %xmm2
	movdqu	0x30(%rdi), %xmm3
	movdqu	0x40(%rdi), %xmm4
	movdqu	0x50(%rdi), %xmm5
	movdqu	0x60(%rdi), %xmm6
	movdqu	0x70(%rdi), %xmm7
	movdqu	0x80(%rdi), %xmm8
	movdqu	0x90(%rdi), %xmm9
	movdqu	0xa0(%rdi), %xmm10
	movdqu	0xb0(%rdi), %xmm11
	movdqu	0xc0(%rdi), %xmm12
	movdqu	0xd0(%rdi), %xmm13
	movdqu	0xe0(%rdi), %xmm14
	movdqu	0xf0(%rdi), %xmm15
	hlt

COMMAND(guest_xgetbv)
	xor	%ecx, %ecx
	xgetbv
	shl	$32, %rdx
	or	%rdx, %rax
	hlt

	/* Slots as in enum guest_dump_slot */
	.macro dump slot, reg
	mov	\reg, %rax
	mov	%rax, 8 * \slot(%rdi)
	.endm

COMMAND(guest_dump)
	mov	%rsp, 8 * 26(%rdi)
	pushfq
	pop	%rax
	mov	%rax, 8 * 23(%rdi)
	mov	%rbx, 8 * 24(%rdi)
	mov	%rbp, 8 * 25(%rdi)
	mov	%r8, 8 * 27(%rdi)
	mov	%r9, 8 * 28(%rdi)
	mov	%r10, 8 * 29(%rdi)
	mov	%r11, 8 * 30(%rdi)
	mov	%r12, 8 * 31(%rdi)
	mov	%r13, 8 * 32(%rdi)
	mov	%r14, 8 * 33(%rdi)
	mov	%r15, 8 * 34(%rdi)
	dump	0, %cr0
	dump	1, %cr2
	dump	2, %cr3
	dump	3, %cr4
	dump	4, %cr8
	dump	5, %dr0
	dump	6, %dr1
	dump	7, %dr2
	dump	8, %dr3
	dump	9, %dr6
	dump	10, %dr7
	dump	11, %es
	dump	12, %cs
	dump	13, %ss
	dump	14, %ds
	dump	15, %fs
	dump	16, %gs
	xor	%eax, %eax
	sldt	%ax
	mov	%rax, 8 * 17(%rdi)
	str	%ax
	mov	%rax, 8 * 18(%rdi)
	sub	$16, %rsp
	sgdt	(%rsp)
	movzwl	(%rsp), %eax
	mov	%rax, 8 * 19(%rdi)
	mov	2(%rsp), %rax
	mov	%rax, 8 * 20(%rdi)
	sidt	(%rsp)
	movzwl	(%rsp), %eax
	mov	%rax, 8 * 21(%rdi)
	mov	2(%rsp), %rax
	mov	%rax, 8 * 22(%rdi)
	add	$16, %rsp
	hlt

COMMAND(guest_read_fs)
	mov	%fs:(%rdi), %rax
	hlt
COMMAND(guest_read_gs)
	mov	%gs:(%rdi), %rax
	hlt

COMMAND(guest_exec_page)
	mov	$0x5ca1ab1e, %eax
	hlt
COMMAND(guest_exec_page_end)

COMMAND(guest_code_end)

	.section .note.GNU-stack, "", @progbits
