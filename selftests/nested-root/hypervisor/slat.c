// SPDX-License-Identifier: GPL-2.0
/* The calls that change or read a child's SLAT: map, unmap, access states. */
#include "hv.h"

#define MAP_FLAGS	(HV_MAP_GPA_PERMISSIONS | HV_MAP_GPA_ADJUSTABLE | \
			 HV_MAP_GPA_NO_ACCESS | HV_MAP_GPA_NOT_CACHED | \
			 HV_MAP_GPA_LARGE_PAGE)

static u16 find_active(u64 id, struct partition **pt)
{
	u16 status = find_child(id, pt);

	if (status)
		return status;
	return (*pt)->state == PARTITION_ACTIVE ? HV_STATUS_SUCCESS :
						  HV_STATUS_INVALID_PARTITION_STATE;
}

/* May the root give these pages to @pt? MMIO is not in the page table of RAM. */
static u16 check_source(struct partition *pt, u64 pfn, u64 count)
{
	u64 spa = pfn << PAGE_SHIFT;

	if (pfn >= GFN_LIMIT || pfn + count > GFN_LIMIT)
		return HV_STATUS_INVALID_PARAMETER;
	for (; count; count--, spa += PAGE_SIZE) {
		struct page_info *info = page_of(spa);

		if (!info)
			continue;
		if (!pt->encrypted && info->kind != PAGE_ROOT)
			return HV_STATUS_OPERATION_DENIED;
		if (pt->encrypted && (info->kind != PAGE_EXCLUSIVE ||
				      info->slot != pt->slot))
			return HV_STATUS_OPERATION_DENIED;
	}
	return HV_STATUS_SUCCESS;
}

static bool map_flags_valid(u32 flags)
{
	u32 perm = flags & HV_MAP_GPA_PERMISSIONS;

	if (flags & ~MAP_FLAGS)
		return false;
	/* SVM has one execute bit, and nothing is writable but not readable. */
	if ((perm & HV_MAP_GPA_EXECUTABLE) != HV_MAP_GPA_EXECUTABLE &&
	    (perm & HV_MAP_GPA_EXECUTABLE))
		return false;
	return !perm || (perm & HV_MAP_GPA_READABLE);
}

u16 hv_map_gpa_pages(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 flags = in[2], slat = flags & HV_MAP_GPA_PERMISSIONS;
	bool large = !!(flags & HV_MAP_GPA_LARGE_PAGE), no_access;
	u64 pages = large ? LARGE_PAGES : 1;
	struct partition *pt;
	u16 status = find_active(in[0], &pt);

	if (status)
		return status;
	if (!map_flags_valid(flags) || in[1] >= GFN_LIMIT)
		return HV_STATUS_INVALID_PARAMETER;
	no_access = (flags & HV_MAP_GPA_NO_ACCESS) || !slat;
	if (no_access)
		slat = SLAT_NO_ACCESS;
	else if (flags & HV_MAP_GPA_NOT_CACHED)
		slat |= SLAT_UNCACHED;

	for (; h->done < h->reps && !status; h->done += !status) {
		u64 gfn = in[1] + h->done * pages, pfn = in[3 + h->done];

		if (gfn + pages > GFN_LIMIT || (large && gfn % LARGE_PAGES) ||
		    (large && !no_access && pfn % LARGE_PAGES))
			status = HV_STATUS_INVALID_PARAMETER;
		else if (!no_access)
			status = check_source(pt, pfn, pages);
		if (!status)
			status = npt_map(pt, gfn, no_access ? 0 :
					 pfn << PAGE_SHIFT, slat, large);
	}
	if (pt->flush_needed)
		tlb_flush(pt);
	return status;
}

u16 hv_unmap_gpa_pages(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u32 flags = in[2];
	bool large = !!(flags & HV_UNMAP_GPA_LARGE_PAGE);
	u64 pages = large ? LARGE_PAGES : 1;
	struct partition *pt;
	u16 status = find_active(in[0], &pt);

	if (status)
		return status;
	if ((flags & ~HV_UNMAP_GPA_LARGE_PAGE) || in[1] >= GFN_LIMIT)
		return HV_STATUS_INVALID_PARAMETER;
	for (; h->done < h->reps && !status; h->done += !status) {
		u64 gfn = in[1] + h->done * pages;

		if (gfn + pages > GFN_LIMIT || (large && gfn % LARGE_PAGES))
			status = HV_STATUS_INVALID_PARAMETER;
		else
			status = npt_unmap(pt, gfn, large);
	}
	if (pt->flush_needed)
		tlb_flush(pt);
	return status;
}

/*
 * No call is long enough to cover a 1G entry. It is split when 2M of it from @gfn on
 * are covered, unless the pool is empty.
 */
static void split_to_clear(struct partition *pt, u64 gfn, u64 last,
			   struct slat_entry *e)
{
	u64 part = (gfn + LARGE_PAGES - 1) | (LARGE_PAGES - 1);

	if (SLAT_SIZE(e->flags) == 2 && part <= last &&
	    part <= (gfn | (GIB_PAGES - 1)) && npt_split_1g(pt, gfn))
		npt_lookup(pt, gfn, e);
}

/*
 * A byte a page: bit 0 accessed, bit 1 dirty, as they were when this call changed
 * them. An unmapped page ends the call with INVALID_PARAMETER.
 *
 * A large entry has one pair of bits for all its pages. They are changed by the
 * repetition of its last page, and cleared only when the call covers the whole
 * entry: a page written since is reported again rather than lost. What was set
 * between the repetitions is reported by all of them.
 */
u16 hv_get_access_states(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u64 clear = (in[1] & 1) | (in[1] >> 1 & 2);
	u64 set = (in[1] >> 1 & 1) | (in[1] >> 2 & 2);
	u64 first = in[2] + h->start, last = in[2] + h->reps - 1;
	struct partition *pt;
	u16 status = find_active(in[0], &pt);

	if (status)
		return status;
	if ((in[1] >> 4) || (clear & set) || in[2] >= GFN_LIMIT)
		return HV_STATUS_INVALID_PARAMETER;
	for (; h->done < h->reps; h->done++) {
		u64 gfn = in[2] + h->done, size, start, end, ad;
		struct slat_entry e;
		u32 i;

		if (!npt_lookup(pt, gfn, &e)) {
			status = HV_STATUS_INVALID_PARAMETER;
			break;
		}
		if (clear && (gfn == first || gfn % GIB_PAGES == 0))
			split_to_clear(pt, gfn, last, &e);
		h->out[h->done] = (e.flags & SLAT_ACCESSED ? 1 : 0) |
				  (e.flags & SLAT_DIRTY ? 2 : 0);
		size = 1ull << (9 * SLAT_SIZE(e.flags));
		start = gfn & ~(size - 1);
		end = start + size - 1;
		if (gfn != last && gfn != end)
			continue;
		ad = npt_change_ad(pt, e.pte, set,
				   start >= first && end <= last ? clear : 0);
		for (i = start > first ? start - in[2] : h->start; i <= h->done; i++)
			h->out[i] |= ad;
	}
	if (pt->flush_needed)
		tlb_flush(pt);
	return status;
}
