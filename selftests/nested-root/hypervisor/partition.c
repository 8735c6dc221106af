// SPDX-License-Identifier: GPL-2.0
/*
 * Partitions: creation to deletion, their memory pools and properties, and the
 * root's own affairs (system properties, processors, device interrupts).
 */
#include "hv.h"

#define ROOT_ID		1ull
#define CREATION_FLAGS	0x482110ull	/* super pages, exo, LAPIC, message page, x2APIC */
#define CREATION_MESSAGE_PAGE	BIT_ULL(19)
#define COMPATIBILITY_21_H2	0x609
#define SYSTEM_PROPERTY_SCHEDULER_TYPE	15
#define EVENT_ALL_PROCESSORS_STARTED	4
#define DEVICE_TYPE(id)	((id) >> 62)
#define DEVICE_TYPE_IOAPIC	2
#define SOURCE_MSI	1
#define SOURCE_IOAPIC	2

struct partition *partitions[MAX_PARTITIONS];
u64 total_deposited, total_withdrawn, total_leaks, newest_partition = ROOT_ID;

struct partition *find_partition(u64 id)
{
	u32 i;

	if (id == HV_PARTITION_ID_SELF || id == ROOT_ID)
		return &root_partition;
	for (i = 1; i < MAX_PARTITIONS; i++)
		if (partitions[i] && partitions[i]->state != PARTITION_FREE &&
		    partitions[i]->id == id)
			return partitions[i];
	return NULL;
}

/* The child partition with the lowest ID above @id. */
struct partition *partition_after(u64 id)
{
	struct partition *best = NULL;
	u32 i;

	for (i = 1; i < MAX_PARTITIONS; i++) {
		struct partition *pt = partitions[i];

		if (pt && pt->state != PARTITION_FREE && pt->id > id &&
		    (!best || pt->id < best->id))
			best = pt;
	}
	return best;
}

u16 find_child(u64 id, struct partition **pt)
{
	*pt = find_partition(id);
	if (!*pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	return *pt == &root_partition ? HV_STATUS_ACCESS_DENIED : 0;
}

u16 hv_create_partition(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 version = in[2], isolation = in[6] & 0x1f;
	struct partition *pt;
	u32 slot;

	if ((in[0] & ~CREATION_FLAGS) || !(in[0] & CREATION_MESSAGE_PAGE) ||
	    version != COMPATIBILITY_21_H2 || in[2] >> 32 ||
	    (in[6] >> 7 & 0x1f) ||
	    (isolation != HV_PARTITION_ISOLATION_TYPE_NONE &&
	     isolation != HV_PARTITION_ISOLATION_TYPE_SNP))
		return HV_STATUS_INVALID_PARAMETER;
	for (slot = 1; slot < MAX_PARTITIONS; slot++)
		if (!partitions[slot] ||
		    partitions[slot]->state == PARTITION_FREE)
			break;
	if (slot == MAX_PARTITIONS)
		return HV_STATUS_NO_RESOURCES;
	static_assert(sizeof(*pt) <= 2 * PAGE_SIZE, "struct partition");
	if (!partitions[slot])
		partitions[slot] = heap_pages(2);
	pt = partitions[slot];
	memset(pt, 0, sizeof(*pt));
	pt->id = ++newest_partition;
	pt->slot = slot;
	pt->state = PARTITION_CREATED;
	pt->encrypted = isolation == HV_PARTITION_ISOLATION_TYPE_SNP;
	*(u64 *)h->out = pt->id;
	return HV_STATUS_SUCCESS;
}

u16 hv_initialize_partition(struct hcall *h)
{
	struct partition *pt;
	u16 status = find_child(*(const u64 *)h->in, &pt);

	if (status)
		return status;
	if (pt->state != PARTITION_CREATED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	pt->npt = pool_alloc(&pt->pool);
	if (!pt->npt)
		return HV_STATUS_INSUFFICIENT_MEMORY;
	pt->table_pages = 1;
	pt->state = PARTITION_ACTIVE;
	return HV_STATUS_SUCCESS;
}

/* Everything the partition had goes back to its pool; VPs are gone. */
u16 hv_finalize_partition(struct hcall *h)
{
	struct partition *pt;
	u16 status = find_child(*(const u64 *)h->in, &pt);
	u32 i;

	if (status)
		return status;
	if (pt->state != PARTITION_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	while (stop_all(pt))
		if (pt->state != PARTITION_ACTIVE)
			return HV_STATUS_INVALID_PARTITION_STATE;
	for (i = 0; i < MAX_VPS; i++)
		if (pt->vp[i])
			vp_destroy(pt->vp[i]);
	for (i = 0; i < ARRAY_SIZE(pt->stats); i++) {
		if (pt->stats[i])
			release_page(&pt->pool, pt->stats[i]);
		pt->stats[i] = NULL;
	}
	npt_destroy(pt);
	tlb_flush(pt);
	pt->state = PARTITION_FINALIZED;
	return HV_STATUS_SUCCESS;
}

/*
 * A partition that has pages stays: they name it as their owner by its slot, which
 * must not be another one's meanwhile.
 */
u16 hv_delete_partition(struct hcall *h)
{
	struct partition *pt;
	u16 status = find_child(*(const u64 *)h->in, &pt);

	if (status)
		return status;
	if (pt->state == PARTITION_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (pt->pool.deposited || pt->exclusive) {
		hv_print("leak: partition %llu: %llu pages, %llu exclusive\n",
			 pt->id, pt->pool.deposited, pt->exclusive);
		total_leaks++;
		return HV_STATUS_OPERATION_DENIED;
	}
	pt->state = PARTITION_FREE;
	return HV_STATUS_SUCCESS;
}

u16 hv_get_partition_id(struct hcall *h)
{
	*(u64 *)h->out = ROOT_ID;
	return HV_STATUS_SUCCESS;
}

/*
 * Deposited pages are the hypervisor's alone: the root loses access, and a page
 * that some SLAT still maps is refused.
 */
u16 hv_deposit_memory(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct partition *pt = find_partition(in[0]);
	u16 status = HV_STATUS_SUCCESS;
	u32 i;

	if (!pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	for (; h->done < h->reps; h->done++) {
		u64 spa = in[1 + h->done] << PAGE_SHIFT;
		struct page_info *info = page_of(spa);

		if (in[1 + h->done] >> 52)
			status = HV_STATUS_INVALID_PARAMETER;
		else if (!info || info->kind != PAGE_ROOT || info->maps)
			status = HV_STATUS_OPERATION_DENIED;
		if (status)
			break;
		info->kind = PAGE_DEPOSITED;
		info->slot = pt->slot;
		root_set_access(spa, false);
	}
	/* The pool's links are in the pages: no CPU of the root may write there. */
	if (root_partition.flush_needed)
		tlb_flush(&root_partition);
	for (i = h->start; i < h->done; i++)
		pool_add(&pt->pool, (void *)(in[1 + i] << PAGE_SHIFT));
	pt->pool.deposited += h->done - h->start;
	total_deposited += h->done - h->start;
	return status;
}

u16 hv_withdraw_memory(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct partition *pt = find_partition(in[0]);

	if (!pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	for (; h->done < h->reps; h->done++) {
		void *page = pool_take(&pt->pool);

		if (!page)
			return HV_STATUS_NO_RESOURCES;
		page_of((u64)page)->kind = PAGE_ROOT;
		page_of((u64)page)->slot = 0;
		root_set_access((u64)page, true);
		((u64 *)h->out)[h->done] = (u64)page >> PAGE_SHIFT;
		pt->pool.deposited--;
		total_withdrawn++;
	}
	return HV_STATUS_SUCCESS;
}

static const struct {
	u32 code;
	s64 fixed;		/* >= 0: read-only with this value */
} properties[] = {
	{ 0x00010000, -1 },	/* privilege flags */
	{ 0x00010001, -1 },	/* synthetic processor features */
	{ 0x00050005, -1 },	/* GPA page access tracking */
	{ 0x00050017, -1 },	/* unimplemented MSR action */
	{ 0x00060002, -1 },	/* processor XSAVE features */
	{ 0x00060007, 0 },	/* XSAVE states */
	{ 0x00060008, 0 },	/* maximum XSAVE data size */
	{ 0x00060009, 0 },	/* processor clock frequency */
};

#define PROPERTY_VMM_CAPABILITIES	0x90007	/* only of the EX call */
#define PROPERTY_UNIMPLEMENTED_MSR	3
#define PROPERTY_XSAVE_STATES		5
#define PROPERTY_XSAVE_SIZE		6
#define PROPERTY_CLOCK			7

static s64 find_property(u32 code)
{
	u32 i;

	static_assert(ARRAY_SIZE(properties) ==
		       ARRAY_SIZE(((struct partition *)0)->properties), "properties");
	for (i = 0; i < ARRAY_SIZE(properties); i++)
		if (properties[i].code == code)
			return i;
	return -1;
}

u16 hv_get_partition_property(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct partition *pt = find_partition(in[0]);
	s64 i = find_property(in[1]);
	u64 v;

	if (!pt)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (in[1] >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	if (i < 0)
		return HV_STATUS_UNKNOWN_PROPERTY;
	switch (i) {
	case PROPERTY_XSAVE_STATES:
		v = host_xcr0_mask ?: 3;
		break;
	case PROPERTY_XSAVE_SIZE:
		v = PAGE_SIZE;
		break;
	case PROPERTY_CLOCK:
		v = tsc_hz;
		break;
	default:
		v = pt->properties[i];
	}
	*(u64 *)h->out = v;
	return HV_STATUS_SUCCESS;
}

/* The one property that is larger: one bank of VMM capabilities, none set. */
u16 hv_get_partition_property_ex(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;

	if (!find_partition(in[0]))
		return HV_STATUS_INVALID_PARTITION_ID;
	if (in[1] >> 32 || in[2])
		return HV_STATUS_INVALID_PARAMETER;
	if (in[1] != PROPERTY_VMM_CAPABILITIES)
		return HV_STATUS_UNKNOWN_PROPERTY;
	*(u16 *)h->out = 1;
	return HV_STATUS_SUCCESS;
}

u16 hv_set_partition_property(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	struct partition *pt;
	u16 status = find_child(in[0], &pt);
	s64 i = find_property(in[1]);

	if (status)
		return status;
	if (in[1] >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	if (i < 0)
		return HV_STATUS_UNKNOWN_PROPERTY;
	if (properties[i].fixed >= 0)
		return HV_STATUS_OPERATION_DENIED;
	if (pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (i == PROPERTY_UNIMPLEMENTED_MSR && in[2] > 1)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	pt->properties[i] = in[2];
	return HV_STATUS_SUCCESS;
}

u16 hv_get_system_property(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;

	if (in[0] != SYSTEM_PROPERTY_SCHEDULER_TYPE)
		return HV_STATUS_UNKNOWN_PROPERTY;
	*(u32 *)h->out = scheduler_type;
	return HV_STATUS_SUCCESS;
}

/* All processors are up already; the call only checks what it is told. */
u16 hv_add_logical_processor(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;

	if (in[0] >= nr_cpus || in[1] >= nr_cpus)
		return HV_STATUS_INVALID_LP_INDEX;
	cpus[in[0]].added = true;
	return HV_STATUS_SUCCESS;
}

/* The boot processor is there from the start. None is ever idle to the root. */
u16 hv_get_run_time(struct hcall *h)
{
	u32 index = *(const u32 *)h->in;
	u64 *out = (u64 *)h->out;

	if (index >= nr_cpus || (index && !cpus[index].added))
		return HV_STATUS_INVALID_LP_INDEX;
	out[0] = reference_time();
	out[1] = out[0];
	return HV_STATUS_SUCCESS;
}

/* No crash dump is kept for the root; the other event tells nothing new. */
u16 hv_notify_partition_event(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;

	if (in[0] != EVENT_ALL_PROCESSORS_STARTED || in[1])
		return HV_STATUS_INVALID_PARAMETER;
	return HV_STATUS_SUCCESS;
}

/*
 * The root programs its own IOAPIC and MSIs, since nothing remaps interrupts
 * here: the answer is the plain entry for the requested vector and processor.
 */
u16 hv_map_device_interrupt(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u64 device = in[1], bank_mask = in[9], rte;
	u32 level = in[5] >> 32, vector = in[7], target = MAX_CPUS, i;

	if (in[0] != ROOT_ID && in[0] != HV_PARTITION_ID_SELF)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (h->varhead != 2 || (u32)(in[7] >> 32) != 2 || in[8] || bank_mask != 1 ||
	    level > 1 || vector < 16 || vector > 255)
		return HV_STATUS_INVALID_PARAMETER;
	for (i = 0; i < nr_cpus; i++)
		if (in[10] >> i & 1)
			target = target == MAX_CPUS ? i : target;
	if (target == MAX_CPUS)
		return HV_STATUS_INVALID_VP_INDEX;
	if (DEVICE_TYPE(device) == DEVICE_TYPE_IOAPIC) {
		rte = vector | (u64)level << 15 | (u64)target << 56;
		((u64 *)h->out)[0] = SOURCE_IOAPIC;
	} else {
		rte = (0xfee00000u | target << 12) | (u64)vector << 32;
		((u64 *)h->out)[0] = SOURCE_MSI;
	}
	((u64 *)h->out)[1] = rte;
	return HV_STATUS_SUCCESS;
}

u16 hv_unmap_device_interrupt(struct hcall *h)
{
	u64 id = *(const u64 *)h->in;

	return id == ROOT_ID || id == HV_PARTITION_ID_SELF ?
	       HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARTITION_ID;
}

u16 hv_install_intercept(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 access = in[1], type = in[1] >> 32;
	struct partition *pt;
	u16 status = find_child(in[0], &pt);
	u32 i;

	if (status)
		return status;
	if (pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (access & ~7u)
		return HV_STATUS_INVALID_PARAMETER;
	switch (type) {
	case HV_INTERCEPT_TYPE_X64_IO_PORT:
		break;		/* all ports are reported anyway */
	case HV_INTERCEPT_TYPE_X64_MSR:
		pt->msr_all = access;
		break;
	case HV_INTERCEPT_TYPE_X64_CPUID:
		for (i = 0; i < pt->cpuid_leaf_count; i++)
			if (pt->cpuid_leaf[i] == (u32)in[2])
				break;
		if (i == MAX_CPUID_LEAVES)
			return HV_STATUS_NO_RESOURCES;
		if (access && i == pt->cpuid_leaf_count)
			pt->cpuid_leaf[pt->cpuid_leaf_count++] = in[2];
		else if (!access && i < pt->cpuid_leaf_count)
			pt->cpuid_leaf[i] =
				pt->cpuid_leaf[--pt->cpuid_leaf_count];
		break;
	case HV_INTERCEPT_TYPE_HYPERCALL:
		pt->hypercall_all = access;
		break;
	case HV_INTERCEPT_TYPE_EXCEPTION:
		if (in[2] >= 32 || in[2] == 2)
			return HV_STATUS_INVALID_PARAMETER;
		if (access)
			pt->exceptions |= 1u << in[2];
		else
			pt->exceptions &= ~(1u << in[2]);
		kick_running(pt);
		break;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
	return HV_STATUS_SUCCESS;
}

/* Fixed answers to a child's CPUID leaves and MSRs. */
u16 hv_register_intercept_result(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;
	struct partition *pt;
	u16 status = find_child(*(const u64 *)h->in, &pt);
	u32 i;

	if (status)
		return status;
	if (pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (in[2] >= MAX_VPS && in[2] != 0xffffffff)
		return HV_STATUS_INVALID_VP_INDEX;
	if (in[3] == HV_INTERCEPT_TYPE_X64_CPUID) {
		struct cpuid_result *r;

		for (i = 0; i < pt->cpuid_count; i++)
			if (pt->cpuid[i].leaf == in[4] &&
			    pt->cpuid[i].subleaf == in[5])
				break;
		if (i == MAX_CPUID_RESULTS)
			return HV_STATUS_NO_RESOURCES;
		r = &pt->cpuid[i];
		r->leaf = in[4];
		r->subleaf = in[5];
		r->subleaf_specific = in[6] & 0xff;
		for (i = 0; i < 4; i++) {	/* EAX EBX ECX EDX */
			r->value[i] = in[7 + 2 * i];
			r->mask[i] = in[8 + 2 * i];
		}
		if (r == &pt->cpuid[pt->cpuid_count])
			pt->cpuid_count++;
		return HV_STATUS_SUCCESS;
	}
	if (in[3] == HV_INTERCEPT_TYPE_X64_MSR) {
		for (i = 0; i < pt->msr_count; i++)
			if (pt->msr[i].msr == in[4])
				break;
		if (i == MAX_MSR_RESULTS)
			return HV_STATUS_NO_RESOURCES;
		if (in[6] > 1)
			return HV_STATUS_INVALID_PARAMETER;
		pt->msr[i] = (struct msr_result){ in[4], in[5], in[6] };
		if (i == pt->msr_count)
			pt->msr_count++;
		return HV_STATUS_SUCCESS;
	}
	return HV_STATUS_INVALID_PARAMETER;
}
