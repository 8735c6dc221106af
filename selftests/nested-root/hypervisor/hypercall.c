// SPDX-License-Identifier: GPL-2.0
/*
 * The hypercall interface: one table says what each call's input and output
 * look like, one function checks a control word against it, copies the input,
 * applies fault injection, and writes the output back.
 */
#include "hv.h"

#define REP	0x1		/* has a repetition count */
#define FAST	0x2		/* register input allowed */
#define VAR	0x4		/* variable header allowed */

struct call {
	u16 (*fn)(struct hcall *h);
	u8 flags;
	u16 in, in_rep;		/* bytes: fixed part, each repetition */
	u16 out, out_rep;
};

struct counter counters[HVCALL_COUNT];

static const struct call calls[HVCALL_COUNT] = {
	[HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME] = { hv_get_run_time, 0, 4, 0, 32, 0 },
	[HVCALL_CREATE_PARTITION] = { hv_create_partition, 0, 56, 0, 8, 0 },
	[HVCALL_INITIALIZE_PARTITION] = { hv_initialize_partition, FAST, 8, 0, 0, 0 },
	[HVCALL_FINALIZE_PARTITION] = { hv_finalize_partition, FAST, 8, 0, 0, 0 },
	[HVCALL_DELETE_PARTITION] = { hv_delete_partition, FAST, 8, 0, 0, 0 },
	[HVCALL_GET_PARTITION_PROPERTY] = { hv_get_partition_property, 0, 16, 0, 8, 0 },
	[HVCALL_SET_PARTITION_PROPERTY] = { hv_set_partition_property, 0, 24, 0, 0, 0 },
	[HVCALL_GET_PARTITION_ID] = { hv_get_partition_id, 0, 0, 0, 8, 0 },
	[HVCALL_DEPOSIT_MEMORY] = { hv_deposit_memory, REP, 8, 8, 0, 0 },
	[HVCALL_WITHDRAW_MEMORY] = { hv_withdraw_memory, REP, 16, 0, 0, 8 },
	[HVCALL_MAP_GPA_PAGES] = { hv_map_gpa_pages, REP, 24, 8, 0, 0 },
	[HVCALL_UNMAP_GPA_PAGES] = { hv_unmap_gpa_pages, REP, 24, 0, 0, 0 },
	[HVCALL_INSTALL_INTERCEPT] = { hv_install_intercept, 0, 24, 0, 0, 0 },
	[HVCALL_CREATE_VP] = { hv_create_vp, 0, 40, 0, 0, 0 },
	[HVCALL_DELETE_VP] = { hv_delete_vp, FAST, 16, 0, 0, 0 },
	[HVCALL_GET_VP_REGISTERS] = { hv_get_vp_registers, REP, 16, 4, 0, 16 },
	[HVCALL_SET_VP_REGISTERS] = { hv_set_vp_registers, REP, 16, 32, 0, 0 },
	[HVCALL_TRANSLATE_VIRTUAL_ADDRESS] = { hv_translate_gva, 0, 32, 0, 16, 0 },
	[HVCALL_MAP_STATS_PAGE] = { hv_map_stats_page, 0, 24, 0, 8, 0 },
	[HVCALL_UNMAP_STATS_PAGE] = { hv_unmap_stats_page, 0, 24, 0, 0, 0 },
	[HVCALL_SET_SYSTEM_PROPERTY] = { hv_set_system_property, 0, 72, 0, 0, 0 },
	[HVCALL_ADD_LOGICAL_PROCESSOR] = { hv_add_logical_processor, 0, 16, 0, 56, 0 },
	[HVCALL_GET_SYSTEM_PROPERTY] = { hv_get_system_property, 0, 8, 0, 8, 0 },
	[HVCALL_MAP_DEVICE_INTERRUPT] = { hv_map_device_interrupt, VAR, 72, 0, 56, 0 },
	[HVCALL_UNMAP_DEVICE_INTERRUPT] = { hv_unmap_device_interrupt, 0, 36, 0, 0, 0 },
	[HVCALL_ENTER_SLEEP_STATE] = { hv_enter_sleep_state, 0, 4, 0, 0, 0 },
	[HVCALL_NOTIFY_PARTITION_EVENT] = { hv_notify_partition_event, 0, 8, 0, 0, 0 },
	[HVCALL_REGISTER_INTERCEPT_RESULT] = { hv_register_intercept_result, 0, 60, 0, 0, 0 },
	[HVCALL_SIGNAL_EVENT_DIRECT] = { hv_signal_event_direct, 0, 16, 0, 8, 0 },
	[HVCALL_POST_MESSAGE_DIRECT] = { hv_post_message_direct, 0, 276, 0, 0, 0 },
	[HVCALL_DISPATCH_VP] = { hv_dispatch_vp, 0, 32, 0, 8, 0 },
	[HVCALL_GET_GPA_PAGES_ACCESS_STATES] = { hv_get_access_states, REP, 24, 0, 0, 1 },
	[HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS] = { hv_acquire_host_access, REP, 16, 8, 0, 0 },
	[HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS] = { hv_release_host_access, REP, 16, 8, 0, 0 },
	[HVCALL_MAP_VP_STATE_PAGE] = { hv_map_vp_state_page, 0, 24, 0, 8, 0 },
	[HVCALL_UNMAP_VP_STATE_PAGE] = { hv_unmap_vp_state_page, 0, 16, 0, 0, 0 },
	[HVCALL_GET_VP_STATE] = { hv_get_vp_state, VAR, 40, 0, 0, 0 },
	[HVCALL_SET_VP_STATE] = { hv_set_vp_state, VAR, 40, 0, 0, 0 },
	[HVCALL_GET_PARTITION_PROPERTY_EX] = { hv_get_partition_property_ex, 0, 24, 0, 16, 0 },
};

static u8 in_copy[MAX_CPUS][PAGE_SIZE], out_copy[MAX_CPUS][PAGE_SIZE];

/* Checks the control word and the addresses against the table. */
static u16 check(const struct call *c, const struct hcall *h, u64 control,
		 u64 in, u64 out)
{
	u32 in_bytes = c->in + h->varhead * 8, out_bytes;

	if (control & HVC_RESERVED)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (h->fast && !(c->flags & FAST))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (!(c->flags & REP) && (h->reps || h->start))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if ((c->flags & REP) && (!h->reps || h->start >= h->reps))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (!(c->flags & VAR) && h->varhead)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	out_bytes = c->out + h->reps * c->out_rep;
	if (h->fast) {
		/* two registers, no output, no list */
		if (in_bytes + h->reps * c->in_rep > 16 || out_bytes)
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		return HV_STATUS_SUCCESS;
	}
	if (in_bytes + h->reps * c->in_rep) {
		if ((in & 7) || (in & 4095) + in_bytes > PAGE_SIZE)
			return HV_STATUS_INVALID_ALIGNMENT;
		if ((in & 4095) + in_bytes + h->reps * c->in_rep > PAGE_SIZE)
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		if (!root_ram(in))
			return HV_STATUS_INVALID_PARAMETER;
	}
	if (out_bytes) {
		if ((out & 7) || (out & 4095) + c->out > PAGE_SIZE)
			return HV_STATUS_INVALID_ALIGNMENT;
		if ((out & 4095) + out_bytes > PAGE_SIZE)
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		if (!root_ram(out))
			return HV_STATUS_INVALID_PARAMETER;
	}
	return HV_STATUS_SUCCESS;
}

/*
 * Fault injection: true when this call is to fail. A rep call does the given
 * number of repetitions first, but not its last; a simple call does nothing.
 */
static bool to_fail(struct counter *c)
{
	if (c->inject_nth <= 1)
		return c->inject_nth;
	c->inject_nth--;
	return false;
}

static u16 run(const struct call *c, struct hcall *h, struct counter *count)
{
	u16 injected = count->inject_status, status;

	if (!to_fail(count))
		return c->fn(h);
	if (c->flags & REP) {
		u32 fails = h->start + count->inject_reps;

		/* The one that fails is not completed. */
		h->reps = fails < h->reps ? fails : h->reps - 1;
		status = h->reps > h->start ? c->fn(h) : HV_STATUS_SUCCESS;
		if (status)
			return status;	/* by itself: the next call is to fail */
	}
	if (!count->inject_sticky)
		count->inject_nth = 0;
	count->inject_fired++;
	return injected;
}

/**
 * do_hypercall() - a hypercall of the root
 * @cpu: the processor whose root VP makes it
 * @control: hypercall input value (TLFS 3.7)
 * @in: GPA of the input, or the first register of a fast call
 * @out: GPA of the output, or the second register of a fast call
 *
 * Return: the hypercall result value: status and repetitions completed, the
 * latter counted from the start of the list.
 */
u64 do_hypercall(struct cpu *cpu, u64 control, u64 in, u64 out)
{
	u16 code = HVC_CODE(control), status;
	const struct call *c = code < HVCALL_COUNT ? &calls[code] : NULL;
	struct counter *count;
	struct hcall h = {
		.code = code,
		.fast = !!(control & HVC_FAST),
		.reps = HVC_REP_COUNT(control),
		.start = HVC_REP_START(control),
		.varhead = HVC_VARHEAD(control),
		.cpu = cpu,
		.in = in_copy[cpu->id],
		.out = out_copy[cpu->id],
	};

	if (!c || !c->fn)
		return HV_STATUS_INVALID_HYPERCALL_CODE;
	count = &counters[code];
	if (count->delay_us)
		delay_us(count->delay_us);

	lock_hv();
	count->calls++;
	status = check(c, &h, control, in, out);
	if (!status) {
		h.done = h.start;
		if (h.fast) {
			memcpy(in_copy[cpu->id], &in, 8);
			memcpy(in_copy[cpu->id] + 8, &out, 8);
			h.in_room = 16;
		} else {
			h.in_room = c->in + h.varhead * 8 + h.reps * c->in_rep;
			memcpy(in_copy[cpu->id], (void *)in, h.in_room);
			h.out_len = c->out;
			memset(h.out, 0, c->out);
		}
		status = run(c, &h, count);
		if (root_partition.flush_needed)
			tlb_flush(&root_partition);
		count->reps += h.done - h.start;
		if (c->out_rep)
			h.out_len = h.done * c->out_rep;
		/* Repetitions before the start index were written by the first call. */
		if (h.out_len && (!status || c->out_rep) && root_ram(out)) {
			u32 skip = h.start * c->out_rep;

			memcpy((void *)(out + skip), h.out + skip,
			       h.out_len - skip);
		}
	}
	if (status)
		count->failed++;
	unlock_hv();
	return status | HVC_COMPLETED(h.done);
}

/*
 * A child's hypercall. A child partition has no privilege that these calls
 * need; only flushes and spin-wait notifications are its own business.
 */
u64 child_hypercall(struct vp *vp, u64 control)
{
	u16 code = HVC_CODE(control);

	if (control & HVC_RESERVED)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	switch (code) {
	case HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE:
		if (HVC_REP_COUNT(control) || HVC_REP_START(control))
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		lock_hv();
		tlb_flush(vp->pt);
		unlock_hv();
		return HV_STATUS_SUCCESS;
	case HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST:
		if (HVC_REP_START(control) >= HVC_REP_COUNT(control))
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		lock_hv();
		tlb_flush(vp->pt);
		unlock_hv();
		return HVC_COMPLETED(HVC_REP_COUNT(control));
	case HVCALL_NOTIFY_LONG_SPIN_WAIT:
		return HV_STATUS_SUCCESS;
	}
	return code < HVCALL_COUNT && calls[code].fn ?
	       HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_HYPERCALL_CODE;
}
