// SPDX-License-Identifier: GPL-2.0
/*
 * HvGetVpState and HvSetVpState. XSAVE state exists; LAPIC, SynIC pages and
 * timers will when VPs have them.
 */
#include "hv.h"

#define STATE_XSAVE	(1u | 1u << 31)
#define STATE_TIMERS	4u
#define STATE_PFN_TYPES	0x80000003u
#define MXCSR_OFFSET	24

static u16 vp_state(struct hcall *h, struct vp **vp, void **page)
{
	const u64 *in = (const u64 *)h->in;
	u32 type = in[2];
	struct page_info *info;
	u16 status;

	if (in[1] >> 40 || in[2] >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp_stopped(in[0], in[1], in[1] >> 32, vp);
	if (status)
		return status;
	if (type != STATE_XSAVE)
		return type == STATE_TIMERS ||
		       (type >> 31 && type <= STATE_PFN_TYPES) ?
		       HV_STATUS_OPERATION_DENIED : HV_STATUS_INVALID_PARAMETER;
	if (h->varhead != 1 || in[5] >> 52)
		return HV_STATUS_INVALID_PARAMETER;
	info = page_of(in[5] << PAGE_SHIFT);
	if (!info || info->kind != PAGE_ROOT)
		return HV_STATUS_OPERATION_DENIED;
	*page = (void *)(in[5] << PAGE_SHIFT);
	regpage_in(*vp);
	return HV_STATUS_SUCCESS;
}

u16 hv_get_vp_state(struct hcall *h)
{
	struct vp *vp;
	void *page;
	u16 status = vp_state(h, &vp, &page);

	if (!status)
		memcpy(page, vp->cpu.xsave, PAGE_SIZE);
	return status;
}

/* The area is checked as XRSTOR would: a fault there would be ours. */
u16 hv_set_vp_state(struct hcall *h)
{
	static u64 area[512];
	struct vp *vp;
	void *page;
	u16 status = vp_state(h, &vp, &page);
	u32 i;

	if (status)
		return status;
	memcpy(area, page, PAGE_SIZE);
	if (*(u32 *)((u8 *)area + MXCSR_OFFSET) & ~0xffffu)
		return HV_STATUS_INVALID_PARAMETER;
	for (i = 65; i < 72; i++)	/* XCOMP_BV and reserved */
		if (host_xcr0_mask && area[i])
			return HV_STATUS_INVALID_PARAMETER;
	if (host_xcr0_mask && (area[64] & ~host_xcr0_mask))
		return HV_STATUS_INVALID_PARAMETER;
	memcpy(vp->cpu.xsave, area, PAGE_SIZE);
	regpage_out(vp);
	return HV_STATUS_SUCCESS;
}
