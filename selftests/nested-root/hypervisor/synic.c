// SPDX-License-Identifier: GPL-2.0
/*
 * Synthetic MSRs and the SynIC of the root's VPs. The pages they name belong to
 * the hypervisor and never move; the root only enables them.
 *
 * Messages go to SINT0. A message that finds the slot taken waits in the CPU's
 * queue and its predecessor is marked, so that the root writes EOM; one that finds
 * the SynIC disabled waits until it is enabled. The queue links VPs: at most one
 * message a VP waits, so it cannot overflow.
 */
#include "hv.h"

static u64 *tsc_page, *hypercall_page;
static u64 guest_os_id, hypercall_enabled, tsc_enabled;

static void *shared_page(void)
{
	void *p = heap_page();

	page_of((u64)p)->root_ok = true;
	return p;
}

void synic_init(struct cpu *cpu)
{
	u32 i;

	if (!tsc_page) {
		tsc_page = shared_page();
		tsc_page[0] = 1;		/* sequence */
		tsc_page[1] = tsc_scale;
		hypercall_page = shared_page();
		/* vmmcall; ret */
		memcpy(hypercall_page, "\x0f\x01\xd9\xc3", 4);
	}
	cpu->simp = shared_page();
	cpu->siefp = shared_page();
	cpu->sirbp = shared_page();
	cpu->assist = shared_page();
	cpu->simp_msr = (u64)cpu->simp;
	cpu->siefp_msr = (u64)cpu->siefp;
	cpu->sirbp_msr = (u64)cpu->sirbp;
	cpu->assist_msr = (u64)cpu->assist;
	for (i = 0; i < HV_SINT_COUNT; i++)
		cpu->sint[i] = HV_SINT_MASKED;
}

/* The interrupt of a SINT, where the root wants one. */
static void interrupt(struct cpu *cpu, u32 sint)
{
	u64 v = cpu->sint[sint];

	if (!(v & HV_SINT_MASKED) && (v & 0xff) >= 16)
		x2apic_send(cpu->id, v & 0xff);
}

static void deliver(struct cpu *cpu)
{
	struct hv_message *m = cpu->simp;
	struct vp *vp = cpu->queue_head;
	u32 *payload = (u32 *)m->payload;

	if (!vp || !(cpu->scontrol & 1) || !(cpu->simp_msr & 1))
		return;
	if (m->type) {
		m->flags |= 1;
		mb();	/* the flag before a look whether the slot is free */
		if (m->type)
			return;
		/* The root took the message meanwhile and may not write EOM. */
	}
	cpu->queue_head = vp->queue_next;
	if (!cpu->queue_head)
		cpu->queue_tail = NULL;
	memset(m->payload, 0, sizeof(m->payload));
	m->sender = vp->pt->id;
	m->flags = cpu->queue_head ? 1 : 0;
	if (vp->queued_type == HVMSG_SCHEDULER_VP_SIGNAL_PAIR) {
		/* overflow count, VP count, 19 partition IDs, 19 VP indices */
		m->payload_size = sizeof(m->payload);
		m->payload[4] = 1;
		memcpy(m->payload + 8, &vp->pt->id, 8);
		memcpy(m->payload + 8 + 19 * 8, &vp->index, 4);
	} else {
		m->payload_size = 4;
		payload[0] = vp->index;
	}
	mb();	/* the type makes the message valid: it comes last */
	m->type = vp->queued_type;
	vp->queued_type = 0;
	interrupt(cpu, 0);
}

/* Tells the root about @vp: an opaque intercept or a scheduler signal. */
void synic_queue(struct cpu *cpu, struct vp *vp, u32 type)
{
	if (vp->queued_type)
		return;
	vp->queued_type = type;
	vp->queue_next = NULL;
	if (type == HVMSG_SCHEDULER_VP_SIGNAL_PAIR)
		vp->signal_count++;
	if (cpu->queue_tail)
		cpu->queue_tail->queue_next = vp;
	else
		cpu->queue_head = vp;
	cpu->queue_tail = vp;
	deliver(cpu);
}

/* A VP that goes away takes its waiting message with it. */
void synic_forget(struct vp *vp)
{
	u32 i;

	if (!vp->queued_type)
		return;
	for (i = 0; i < nr_cpus; i++) {
		struct vp **link = &cpus[i].queue_head, *last = NULL;

		while (*link) {
			if (*link == vp) {
				*link = vp->queue_next;
				if (cpus[i].queue_tail == vp)
					cpus[i].queue_tail = last;
				break;
			}
			last = *link;
			link = &last->queue_next;
		}
	}
	vp->queued_type = 0;
}

/* The root VP a direct call names; children have no SynIC yet. */
static u16 direct_target(u64 id, u32 index, u8 vtl, u32 sint, struct cpu **cpu)
{
	struct partition *pt = find_partition(id);

	if (!pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (pt != &root_partition)
		return HV_STATUS_OPERATION_DENIED;
	if (index >= nr_cpus)
		return HV_STATUS_INVALID_VP_INDEX;
	if (vtl || sint >= HV_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	*cpu = &cpus[index];
	return (*cpu)->scontrol & 1 ? HV_STATUS_SUCCESS :
				      HV_STATUS_INVALID_VP_STATE;
}

/* Sets an event flag of a SINT; output: was it clear before? */
u16 hv_signal_event_direct(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 sint = in[1] >> 40 & 0xff, flag = in[1] >> 48;
	struct cpu *cpu;
	u16 status = direct_target(in[0], in[1], in[1] >> 32, sint, &cpu);
	u64 bit = 1ull << (flag % 64), *word;

	if (status)
		return status;
	if (flag >= HV_EVENT_FLAGS_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	if (!(cpu->siefp_msr & 1))
		return HV_STATUS_INVALID_VP_STATE;
	word = (u64 *)cpu->siefp + sint * (HV_EVENT_FLAGS_COUNT / 64) + flag / 64;
	if (!(__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit)) {
		h->out[0] = 1;
		interrupt(cpu, sint);
	}
	return HV_STATUS_SUCCESS;
}

/* Posts a message to a SINT's slot, which must be free. */
u16 hv_post_message_direct(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;
	const struct hv_message *from = (const void *)(h->in + 20);
	struct hv_message *to;
	struct cpu *cpu;
	u16 status = direct_target(*(const u64 *)h->in, in[2], in[3], in[4], &cpu);

	if (status)
		return status;
	if (!from->type || from->payload_size > sizeof(from->payload))
		return HV_STATUS_INVALID_PARAMETER;
	if (!(cpu->simp_msr & 1))
		return HV_STATUS_INVALID_VP_STATE;
	to = &cpu->simp[in[4]];
	if (to->type)
		return HV_STATUS_INSUFFICIENT_BUFFERS;
	memcpy((u8 *)to + 4, (const u8 *)from + 4, sizeof(*to) - 4);
	to->flags = 0;
	mb();	/* the type makes the message valid: it comes last */
	to->type = from->type;
	interrupt(cpu, in[4]);
	return HV_STATUS_SUCCESS;
}

/* A register that names a fixed page: only its enable bit can be written. */
static bool page_msr(u64 *reg, u64 *value, bool write)
{
	if (write && (*value ^ *reg) >> PAGE_SHIFT)
		return false;
	if (write)
		*reg = *value;
	else
		*value = *reg;
	return true;
}

/* The slot may be free now, or the SynIC enabled. */
static void deliver_waiting(struct cpu *cpu)
{
	lock_hv();
	deliver(cpu);
	unlock_hv();
}

bool root_hypercalls_enabled(void)
{
	return hypercall_enabled;
}

bool synic_msr(struct cpu *cpu, u32 msr, u64 *value, bool write)
{
	u64 reg;

	switch (msr) {
	case MSR_HV_GUEST_OS_ID:
		if (!write)
			*value = guest_os_id;
		else
			guest_os_id = *value;
		if (!guest_os_id)
			hypercall_enabled = 0;
		return true;
	case MSR_HV_HYPERCALL:
		reg = (u64)hypercall_page | hypercall_enabled;
		if (!page_msr(&reg, value, write))
			return false;
		hypercall_enabled = guest_os_id ? reg & 1 : 0;
		return true;
	case MSR_HV_REFERENCE_TSC:
		reg = (u64)tsc_page | tsc_enabled;
		if (!page_msr(&reg, value, write))
			return false;
		tsc_enabled = reg & 1;
		return true;
	case MSR_HV_VP_ASSIST_PAGE:
		return page_msr(&cpu->assist_msr, value, write);
	case MSR_HV_SIMP:
		if (!page_msr(&cpu->simp_msr, value, write))
			return false;
		if (write)
			deliver_waiting(cpu);
		return true;
	case MSR_HV_SIEFP:
		return page_msr(&cpu->siefp_msr, value, write);
	case MSR_HV_SIRBP:
		return page_msr(&cpu->sirbp_msr, value, write);
	case MSR_HV_SCONTROL:
		if (!write) {
			*value = cpu->scontrol;
			return true;
		}
		cpu->scontrol = *value & 1;
		deliver_waiting(cpu);
		return true;
	case MSR_HV_EOM:
		if (!write)
			*value = 0;
		deliver_waiting(cpu);
		return true;
	case MSR_HV_SINT0 ... MSR_HV_SINT0 + HV_SINT_COUNT - 1:
		if (!write) {
			*value = cpu->sint[msr - MSR_HV_SINT0];
			return true;
		}
		if (!(*value & HV_SINT_MASKED) && (*value & 0xff) < 16)
			return false;
		cpu->sint[msr - MSR_HV_SINT0] = *value;
		return true;
	}
	if (write)
		return false;
	switch (msr) {		/* read-only */
	case MSR_HV_VP_INDEX:
		*value = cpu->id;
		return true;
	case MSR_HV_TIME_REF_COUNT:
		*value = reference_time();
		return true;
	case MSR_HV_TSC_FREQUENCY:
		*value = tsc_hz;
		return true;
	case MSR_HV_APIC_FREQUENCY:
		*value = apic_hz;
		return true;
	case MSR_HV_SVERSION:
		*value = 1;
		return true;
	}
	return false;
}
