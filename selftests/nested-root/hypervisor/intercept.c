// SPDX-License-Identifier: GPL-2.0
/*
 * Intercept messages: what the root's VMM learns about an exit of a child VP.
 * The layouts are those of the TLFS; every field is set or zero.
 */
#include "hv.h"

#define CACHE_TYPE_WRITE_BACK	6
#define EXECUTION_PE		BIT(2)
#define EXECUTION_AM		BIT(3)
#define EXECUTION_LMA		BIT(4)
#define EXECUTION_DEBUG		BIT(5)
#define EXECUTION_INTERRUPTION	BIT(6)
#define EXECUTION_SHADOW	BIT(12)
#define HYPERCALL_LENGTH	3

u64 total_messages, message_counts[8];

void seg_out(struct hv_segment *to, const struct vmcb_seg *from)
{
	to->base = from->base;
	to->limit = from->limit;
	to->selector = from->selector;
	/* SVM packs bits 8-11 of the attributes above bit 7. */
	to->attributes = (from->attrib & 0xff) | (from->attrib & 0xf00) << 4;
}

static u64 linear_rip(const struct vmcb *v)
{
	if ((v->efer & (1 << 10)) && (v->cs.attrib & (1 << 9)))
		return v->rip;
	return (u32)(v->cs.base + v->rip);
}

/* Up to 16 bytes at the instruction pointer, as far as they can be read. */
static u32 fetch(struct vp *vp, u8 *bytes)
{
	struct vmcb *v = vp->cpu.vmcb;
	u32 n = 0;

	while (n < 16) {
		u64 gva = linear_rip(v) + n, gpa;
		u32 chunk = 4096 - (gva & 4095);
		u8 *p;

		if (chunk > 16 - n)
			chunk = 16 - n;
		if (gva_translate(vp->pt, v, gva,
				  GVA_EXECUTE | GVA_PRIVILEGE_EXEMPT, &gpa))
			break;
		p = gpa_pointer(vp->pt, gpa, false);
		if (!p)
			break;
		memcpy(bytes + n, p, chunk);
		n += chunk;
	}
	return n;
}

/* For a message: nobody but the hypervisor reads what is in encrypted memory. */
static u32 tell_bytes(struct vp *vp, u8 *bytes)
{
	return vp->pt->encrypted ? 0 : fetch(vp, bytes);
}

static void *begin(struct vp *vp, u32 type, u32 size, u8 access, u8 length)
{
	struct hv_message *m = vp->message;
	struct hv_intercept_header *header = (void *)m->payload;
	struct vmcb *v = vp->cpu.vmcb;
	u16 state = v->cpl & 3;

	memset(m, 0, sizeof(*m));
	m->payload_size = size;
	m->sender = vp->pt->id;
	if (v->cr0 & 1)
		state |= EXECUTION_PE;
	if (v->cr0 & (1 << 18))
		state |= EXECUTION_AM;
	if (v->efer & (1 << 10))
		state |= EXECUTION_LMA;
	if (v->dr7 & 0xff)
		state |= EXECUTION_DEBUG;
	if (v->event_inj & EVENT_VALID)
		state |= EXECUTION_INTERRUPTION;
	if (v->int_state & 1)
		state |= EXECUTION_SHADOW;
	header->vp_index = vp->index;
	header->instruction_length = length;
	header->cr8 = v->int_ctl & 0xf;
	header->access_type = access;
	header->execution_state = state;
	seg_out(&header->cs, &v->cs);
	header->rip = v->rip;
	header->rflags = v->rflags;
	m->type = type;
	message_counts[type == HVMSG_UNMAPPED_GPA ? 0 :
		       type == HVMSG_GPA_INTERCEPT ? 1 :
		       type == HVMSG_X64_HALT ? 2 :
		       type == HVMSG_X64_IO_PORT_INTERCEPT ? 3 :
		       type == HVMSG_X64_MSR_INTERCEPT ? 4 :
		       type == HVMSG_X64_CPUID_INTERCEPT ? 5 :
		       type == HVMSG_X64_EXCEPTION_INTERCEPT ? 6 : 7]++;
	return m->payload;
}

/*
 * A nested page fault. false: the entry allows the access by now, the VP may
 * just try again.
 */
static bool memory(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 gpa = v->exit_info2, error = v->exit_info1, rip = linear_rip(v);
	u8 access = error & NPF_FETCH ? HV_INTERCEPT_ACCESS_EXECUTE :
		    error & NPF_WRITE ? HV_INTERCEPT_ACCESS_WRITE :
					HV_INTERCEPT_ACCESS_READ;
	u32 need = error & NPF_FETCH ? SLAT_X : error & NPF_WRITE ? SLAT_W : SLAT_R;
	struct hv_memory_message *m;
	struct slat_entry e;
	bool mapped = npt_lookup(vp->pt, gpa >> PAGE_SHIFT, &e);

	if (mapped && (e.flags & need) == need &&
	    (page_of(e.spa) || !(error & NPF_TABLE_WALK)))
		return false;
	m = begin(vp, mapped ? HVMSG_GPA_INTERCEPT : HVMSG_UNMAPPED_GPA,
		  sizeof(*m), access, 0);
	m->cache_type = CACHE_TYPE_WRITE_BACK;
	m->tpr_priority = v->int_ctl & 0xf;
	m->gpa = gpa;
	if (vp->pt->encrypted)
		return true;
	if ((error & NPF_FETCH) && !(error & NPF_TABLE_WALK)) {
		/* the instruction itself, or its part on the next page */
		m->gva = (rip & 4095) + 15 > 4095 && (gpa & 4095) < (rip & 4095) ?
			 (rip | 4095) + 1 : rip;
		m->access_info = 3;
	} else if (!(v->event_inj & EVENT_VALID)) {
		m->instruction_byte_count = fetch(vp, m->instruction_bytes);
		if (!(error & NPF_TABLE_WALK) &&
		    find_gva(vp, gpa, m->instruction_bytes,
			     m->instruction_byte_count, &m->gva))
			m->access_info = 3;
	}
	return true;
}

static void io_port(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 info = v->exit_info1;
	struct hv_io_port_message *m;

	m = begin(vp, HVMSG_X64_IO_PORT_INTERCEPT, sizeof(*m),
		  info & 1 ? HV_INTERCEPT_ACCESS_READ : HV_INTERCEPT_ACCESS_WRITE,
		  v->exit_info2 - v->rip);
	m->port = info >> 16;
	m->access_info = (info >> 4 & 7) | (info & 4 ? 1 << 3 : 0) |
			 (info & 8 ? 1 << 4 : 0);
	m->rax = v->rax;
	seg_out(&m->ds, &v->ds);
	seg_out(&m->es, &v->es);
	m->rcx = vp->cpu.gpr[RCX];
	m->rsi = vp->cpu.gpr[RSI];
	m->rdi = vp->cpu.gpr[RDI];
	m->instruction_byte_count = tell_bytes(vp, m->instruction_bytes);
}

static void msr(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	struct hv_msr_message *m;

	m = begin(vp, HVMSG_X64_MSR_INTERCEPT, sizeof(*m), v->exit_info1 & 1 ?
		  HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ, 2);
	m->msr = vp->cpu.gpr[RCX];
	m->rdx = vp->cpu.gpr[RDX];
	m->rax = v->rax;
}

static void cpuid_leaf(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	struct hv_cpuid_message *m;
	u32 r[4];

	m = begin(vp, HVMSG_X64_CPUID_INTERCEPT, sizeof(*m),
		  HV_INTERCEPT_ACCESS_EXECUTE, 2);
	m->rax = v->rax;
	m->rcx = vp->cpu.gpr[RCX];
	m->rdx = vp->cpu.gpr[RDX];
	m->rbx = vp->cpu.gpr[RBX];
	child_cpuid(vp, m->rax, m->rcx, r);
	m->default_rax = r[0];
	m->default_rbx = r[1];
	m->default_rcx = r[2];
	m->default_rdx = r[3];
}

static void exception(struct vp *vp, u32 vector)
{
	struct vmcb *v = vp->cpu.vmcb;
	struct hv_exception_message *m;
	u32 i;

	m = begin(vp, HVMSG_X64_EXCEPTION_INTERCEPT, sizeof(*m),
		  HV_INTERCEPT_ACCESS_EXECUTE, 0);
	m->vector = vector;
	/* vectors that push an error code */
	m->info = 0x227d00 >> vector & 1;
	if (m->info)
		m->error_code = v->exit_info1;
	if (vector == 3 || vector == 4)
		m->info = 2;
	if (vector == 14)
		m->parameter = v->exit_info2;
	seg_out(&m->ds, &v->ds);
	seg_out(&m->ss, &v->ss);
	for (i = 0; i < 16; i++)
		m->gpr[i] = vp->cpu.gpr[i];
	m->gpr[RAX] = v->rax;
	m->gpr[RSP] = v->rsp;
	m->instruction_byte_count = tell_bytes(vp, m->instruction_bytes);
}

/*
 * INT n, INT3 or INTO, which QEMU does not tell apart. false: an INT n, which
 * nobody asked for; it is delivered at the next entry.
 */
static bool software_interrupt(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u8 insn[16];
	u32 n = fetch(vp, insn);

	if (n && (insn[0] == 0xcc || insn[0] == 0xce)) {
		u32 vector = insn[0] == 0xcc ? 3 : 4;

		if (vp->pt->exceptions >> vector & 1) {
			exception(vp, vector);
			return true;
		}
		instruction_done(v, v->rip + 1);
		v->event_inj = EVENT_VALID | EVENT_EXCEPTION | vector;
	} else if (n > 1 && insn[0] == 0xcd) {
		instruction_done(v, v->rip + 2);
		v->event_inj = EVENT_VALID | EVENT_SOFTWARE | insn[1];
	} else {
		inject_exception(v, 6, -1);	/* a prefix before INT n */
	}
	return false;
}

static void hypercall(struct vp *vp)
{
	u64 *g = vp->cpu.gpr;
	struct hv_hypercall_message *m;

	m = begin(vp, HVMSG_HYPERCALL_INTERCEPT, sizeof(*m),
		  HV_INTERCEPT_ACCESS_EXECUTE, HYPERCALL_LENGTH);
	m->rax = vp->cpu.vmcb->rax;
	m->rbx = g[RBX];
	m->rcx = g[RCX];
	m->rdx = g[RDX];
	m->r8 = g[8];
	m->rsi = g[RSI];
	m->rdi = g[RDI];
	memcpy(m->xmm, (u8 *)vp->cpu.xsave + 160, sizeof(m->xmm));
}

/*
 * Writes the message of the exit in the VP's VMCB to its intercept message
 * page. Returns false when there is nothing to report after all. Context:
 * hv_lock held, VP not running.
 */
bool intercept_message(struct vp *vp)
{
	struct vmcb *v = vp->cpu.vmcb;
	u64 code = v->exit_code;

	/* The root may have unmapped the page while the VP ran. */
	if (!vp->message)
		return false;
	if (code == EXIT_NPF)
		return memory(vp);
	if (code == EXIT_INTN)
		return software_interrupt(vp);
	if (code == EXIT_IOIO)
		io_port(vp);
	else if (code == EXIT_MSR)
		msr(vp);
	else if (code == EXIT_CPUID)
		cpuid_leaf(vp);
	else if (code == EXIT_VMMCALL)
		hypercall(vp);
	else if (code == EXIT_HLT)
		begin(vp, HVMSG_X64_HALT, sizeof(struct hv_intercept_header),
		      HV_INTERCEPT_ACCESS_EXECUTE, 1);
	else if (code >= EXIT_EXCEPTION(0) && code < EXIT_EXCEPTION(32))
		exception(vp, code - EXIT_EXCEPTION(0));
	else if ((u32)code == EXIT_INVALID_STATE)
		begin(vp, HVMSG_INVALID_VP_REGISTER_VALUE,
		      sizeof(struct hv_intercept_header),
		      HV_INTERCEPT_ACCESS_EXECUTE, 0);
	else
		begin(vp, HVMSG_UNRECOVERABLE_EXCEPTION,
		      sizeof(struct hv_intercept_header),
		      HV_INTERCEPT_ACCESS_EXECUTE, 0);
	return true;
}
