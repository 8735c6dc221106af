// SPDX-License-Identifier: GPL-2.0
/*
 * Which virtual address did an instruction use? SVM reports only the physical
 * one. The memory operands that the instruction can have are computed one after
 * the other; the one that the guest's page tables translate to the reported
 * address is right. So an instruction this decoder misreads costs the message
 * its GVA, but never makes it wrong.
 */
#include "hv.h"

struct insn {
	struct vp *vp;
	const u8 *p, *end;
	u8 rex;
	bool long_mode, address_32;
	const struct vmcb_seg *segment;	/* override, or NULL */
};

static u64 reg(struct insn *in, u32 n)
{
	struct vmcb *v = in->vp->cpu.vmcb;

	return n == RAX ? v->rax : n == RSP ? v->rsp : in->vp->cpu.gpr[n];
}

static u64 segment_base(struct insn *in, bool stack)
{
	struct vmcb *v = in->vp->cpu.vmcb;
	const struct vmcb_seg *s = in->segment ?: stack ? &v->ss : &v->ds;

	if (in->long_mode && s != &v->fs && s != &v->gs)
		return 0;
	return s->base;
}

static u64 linear(struct insn *in, u64 offset, bool stack)
{
	if (in->address_32)
		offset = (u32)offset;
	offset += segment_base(in, stack);
	return in->long_mode ? offset : (u32)offset;
}

static s64 immediate(struct insn *in, u32 bytes)
{
	s64 v = 0;

	if (in->end - in->p < (s64)bytes) {
		in->p = in->end;
		return 0;
	}
	memcpy(&v, in->p, bytes);
	in->p += bytes;
	if (bytes < 8)
		v = v << (64 - 8 * bytes) >> (64 - 8 * bytes);
	return v;
}

/* The operand of a ModRM byte with 32- or 64-bit addressing. */
static bool modrm(struct insn *in, u64 *gva)
{
	u8 m, mod, rm, sib, index;
	bool stack = false;
	u64 offset = 0;

	if (in->p >= in->end)
		return false;
	m = *in->p++;
	mod = m >> 6;
	rm = m & 7;
	if (mod == 3)
		return false;
	if (rm == 4) {
		if (in->p >= in->end)
			return false;
		sib = *in->p++;
		rm = sib & 7;
		index = (sib >> 3 & 7) | (in->rex & 2) << 2;
		if (index != RSP)
			offset = reg(in, index) << (sib >> 6);
		if (rm == RBP && mod == 0) {
			*gva = linear(in, offset + immediate(in, 4), false);
			return true;
		}
		stack = rm == RSP;
	} else if (rm == RBP && mod == 0) {
		offset = immediate(in, 4);
		if (in->long_mode) {
			/* RIP-relative: an immediate operand may follow */
			*gva = in->vp->cpu.vmcb->rip + offset;
			return true;
		}
		*gva = linear(in, offset, false);
		return true;
	}
	stack = stack || rm == RBP;
	offset += reg(in, rm | (in->rex & 1) << 3);
	if (mod)
		offset += immediate(in, mod == 1 ? 1 : 4);
	*gva = linear(in, offset, stack);
	return true;
}

static void prefixes(struct insn *in)
{
	struct vmcb *v = in->vp->cpu.vmcb;

	for (; in->p < in->end; in->p++) {
		switch (*in->p) {
		case 0x26:
			in->segment = &v->es;
			break;
		case 0x2e:
			in->segment = &v->cs;
			break;
		case 0x36:
			in->segment = &v->ss;
			break;
		case 0x3e:
			in->segment = &v->ds;
			break;
		case 0x64:
			in->segment = &v->fs;
			break;
		case 0x65:
			in->segment = &v->gs;
			break;
		case 0x67:
			in->address_32 = true;
			break;
		case 0x66:
		case 0xf0:
		case 0xf2:
		case 0xf3:
			break;
		default:
			if (!in->long_mode || (*in->p & 0xf0) != 0x40)
				return;
			in->rex = *in->p;
		}
	}
}

/* Does @gva lead to @gpa, itself or where the access crosses into a page? */
static bool leads_to(struct insn *in, u64 gva, u64 gpa, u64 *found)
{
	struct vmcb *v = in->vp->cpu.vmcb;
	u64 next = (gva | 4095) + 1, at = ~gpa;
	s64 slack = (gpa & 4095) - (gva & 4095);

	/* RIP-relative operands and pushes are known to within an instruction. */
	if (slack >= 0 && slack < 16) {
		gva_translate(in->vp->pt, v, gva + slack, GVA_PRIVILEGE_EXEMPT,
			      &at);
		if (at == gpa) {
			*found = gva + slack;
			return true;
		}
	}
	if (next - gva < 64 && (gpa & 4095) < 64) {
		gva_translate(in->vp->pt, v, next, GVA_PRIVILEGE_EXEMPT, &at);
		if (at >> PAGE_SHIFT == gpa >> PAGE_SHIFT) {
			*found = next + (gpa & 4095);
			return true;
		}
	}
	return false;
}

/**
 * find_gva() - the virtual address behind a memory intercept
 * @vp: who made the access
 * @gpa: what the nested page fault reported
 * @insn: the instruction's bytes, as many as could be read
 * @length: their number
 * @gva: set where the address is known
 *
 * Context: hv_lock held, VP not running.
 *
 * Return: false where it is not known; 16-bit addressing is not decoded
 */
bool find_gva(struct vp *vp, u64 gpa, const u8 *insn, u32 length, u64 *gva)
{
	struct vmcb *v = vp->cpu.vmcb;
	struct insn in = {
		.vp = vp, .p = insn, .end = insn + length,
		.long_mode = (v->efer >> 10 & 1) && (v->cs.attrib >> 9 & 1),
	};
	u64 candidate[5];
	u32 n = 0, i;
	u8 op;

	in.address_32 = !in.long_mode;
	prefixes(&in);
	if (in.p >= in.end)
		return false;
	op = *in.p++;
	if (op >= 0xa0 && op <= 0xa3) {
		candidate[n++] = linear(&in, immediate(&in, in.long_mode ? 8 : 4),
					false);
	} else {
		if (op == 0x0f && in.p < in.end)
			in.p++;
		if (modrm(&in, &candidate[n]))
			n++;
	}
	/* string operations and the stack */
	candidate[n++] = linear(&in, reg(&in, RSI), false);
	in.segment = &v->es;
	candidate[n++] = linear(&in, reg(&in, RDI), false);
	in.segment = NULL;
	candidate[n++] = linear(&in, v->rsp, true);
	candidate[n++] = linear(&in, v->rsp - 8, true);
	for (i = 0; i < n; i++)
		if (leads_to(&in, candidate[i], gpa, gva))
			return true;
	return false;
}
