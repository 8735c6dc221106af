/* SPDX-License-Identifier: GPL-2.0 */
/*
 * World switch, idle, and the interrupt gates of the hypervisor itself.
 *
 * The hypervisor runs with GIF clear: interrupts and NMIs stay pending until
 * the next VMRUN. The one exception is a short window opened on purpose to take
 * a pending NMI (nmi_window) or to sleep until one comes (cpu_idle).
 */
#include "svm.h"

	.text
	.code64

/*
 * void svm_vmrun(struct vcpu *v): runs v until the next #VMEXIT. Physical
 * interrupts are enabled for the guest's time (RFLAGS.IF counts where
 * V_INTR_MASKING is set, that is in child VPs); GIF hides them until VMRUN.
 */
	.globl	svm_vmrun
svm_vmrun:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rdi
	movq	VCPU_VMCB(%rdi), %rax
	movq	VCPU_GPR(RCX)(%rdi), %rcx
	movq	VCPU_GPR(RDX)(%rdi), %rdx
	movq	VCPU_GPR(RBX)(%rdi), %rbx
	movq	VCPU_GPR(RBP)(%rdi), %rbp
	movq	VCPU_GPR(RSI)(%rdi), %rsi
	movq	VCPU_GPR(8)(%rdi), %r8
	movq	VCPU_GPR(9)(%rdi), %r9
	movq	VCPU_GPR(10)(%rdi), %r10
	movq	VCPU_GPR(11)(%rdi), %r11
	movq	VCPU_GPR(12)(%rdi), %r12
	movq	VCPU_GPR(13)(%rdi), %r13
	movq	VCPU_GPR(14)(%rdi), %r14
	movq	VCPU_GPR(15)(%rdi), %r15
	movq	VCPU_GPR(RDI)(%rdi), %rdi
	sti
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	cli
	movq	(%rsp), %rax
	movq	%rcx, VCPU_GPR(RCX)(%rax)
	movq	%rdx, VCPU_GPR(RDX)(%rax)
	movq	%rbx, VCPU_GPR(RBX)(%rax)
	movq	%rbp, VCPU_GPR(RBP)(%rax)
	movq	%rsi, VCPU_GPR(RSI)(%rax)
	movq	%rdi, VCPU_GPR(RDI)(%rax)
	movq	%r8, VCPU_GPR(8)(%rax)
	movq	%r9, VCPU_GPR(9)(%rax)
	movq	%r10, VCPU_GPR(10)(%rax)
	movq	%r11, VCPU_GPR(11)(%rax)
	movq	%r12, VCPU_GPR(12)(%rax)
	movq	%r13, VCPU_GPR(13)(%rax)
	movq	%r14, VCPU_GPR(14)(%rax)
	movq	%r15, VCPU_GPR(15)(%rax)
	popq	%rdi
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	cld
	ret

/* void nmi_window(void): takes a pending NMI, if there is one. */
	.globl	nmi_window
nmi_window:
	stgi
	nop
	clgi
	ret

/*
 * void cpu_idle(void): sleeps until an NMI. An NMI that arrives before the HLT
 * makes the handler skip it.
 */
	.globl	cpu_idle
cpu_idle:
	stgi
idle_hlt:
	hlt
idle_end:
	clgi
	ret

	.globl	nmi_gate
nmi_gate:
	pushq	%rax
	leaq	idle_hlt(%rip), %rax
	cmpq	%rax, 8(%rsp)
	jne	1f
	leaq	idle_end(%rip), %rax
	movq	%rax, 8(%rsp)
1:	popq	%rax
	iretq

/* One stub per exception; a hypervisor exception is always fatal. */
	.macro	gate vec, has_error
	.balign	16
	.if	\has_error == 0
	pushq	$0
	.endif
	pushq	$\vec
	jmp	exception_common
	.endm

	.balign	16
	.globl	exception_gates
exception_gates:
	.altmacro
	.set	vec, 0
	.rept	32
	.if	(vec == 8) || (vec >= 10 && vec <= 14) || (vec == 17) || (vec == 21)
	gate	%vec, 1
	.else
	gate	%vec, 0
	.endif
	.set	vec, vec + 1
	.endr
	.noaltmacro

exception_common:
	movq	%rsp, %rdi
	andq	$~15, %rsp
	call	hv_exception
2:	hlt
	jmp	2b

	.section .note.GNU-stack, "", @progbits
