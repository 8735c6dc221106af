// SPDX-License-Identifier: GPL-2.0
/*
 * Encrypted partitions: pages the root gives up (release: exclusive to the
 * partition) and takes back (acquire: shared again). A page that is exclusive
 * is out of the root's nested page table: touching it stops the machine.
 */
#include "hv.h"

struct spa_input {
	u32 host_access;
	u32 flags;
	u64 partition_id;
	u64 spa[];
};

static u16 set_pages(u64 pfn, u64 count, u8 from, u8 to, struct partition *pt)
{
	u64 i;

	for (i = 0; i < count; i++) {
		struct page_info *info = page_of((pfn + i) << PAGE_SHIFT);

		if (!info || info->kind != from || info->maps ||
		    (from == PAGE_EXCLUSIVE && pt && info->slot != pt->slot))
			return HV_STATUS_OPERATION_DENIED;
	}
	for (i = 0; i < count; i++) {
		u64 spa = (pfn + i) << PAGE_SHIFT;
		struct page_info *info = page_of(spa);

		info->kind = to;
		if (to == PAGE_EXCLUSIVE) {
			info->slot = pt->slot;
			pt->exclusive++;
		} else {
			partitions[info->slot]->exclusive--;
			info->slot = 0;
		}
		root_set_access(spa, to == PAGE_ROOT);
	}
	return HV_STATUS_SUCCESS;
}

static u16 modify(struct hcall *h, u32 needed, u8 from, u8 to)
{
	const struct spa_input *in = (const void *)h->in;
	u64 pages = in->flags & HV_SPA_LARGE_PAGE ? LARGE_PAGES : 1;
	struct partition *pt = NULL;
	u16 status = HV_STATUS_SUCCESS;

	if ((in->flags & ~HV_SPA_LARGE_PAGE) != needed ||
	    in->host_access & ~3u)
		return HV_STATUS_INVALID_PARAMETER;
	if (to == PAGE_EXCLUSIVE || in->partition_id) {
		pt = find_partition(in->partition_id);
		if (!pt)
			return HV_STATUS_INVALID_PARTITION_ID;
		if (!pt->encrypted)
			return HV_STATUS_OPERATION_DENIED;
	}
	if (to == PAGE_EXCLUSIVE && pt->state == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	for (; h->done < h->reps && !status; h->done += !status) {
		u64 pfn = in->spa[h->done];

		if (pfn >= GFN_LIMIT || pfn % pages)
			status = HV_STATUS_INVALID_PARAMETER;
		else
			status = set_pages(pfn, pages, from, to, pt);
	}
	return status;
}

u16 hv_release_host_access(struct hcall *h)
{
	return modify(h, HV_SPA_MAKE_EXCLUSIVE, PAGE_ROOT, PAGE_EXCLUSIVE);
}

u16 hv_acquire_host_access(struct hcall *h)
{
	return modify(h, HV_SPA_MAKE_SHARED, PAGE_EXCLUSIVE, PAGE_ROOT);
}
