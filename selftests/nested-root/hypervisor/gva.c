// SPDX-License-Identifier: GPL-2.0
/* Guest virtual to guest physical addresses, by the guest's own page tables. */
#include "hv.h"

#define PT_P	1ull
#define PT_W	2ull
#define PT_U	4ull
#define PT_PS	0x80ull
#define PT_NX	BIT_ULL(63)
#define PT_ADDR	0x000ffffffffff000ull
#define CR0_WP	BIT_ULL(16)
#define CR4_PSE	BIT_ULL(4)
#define CR4_PAE	BIT_ULL(5)
#define CR4_LA57	BIT_ULL(12)
#define EFER_LMA	BIT_ULL(10)
#define EFER_NXE	BIT_ULL(11)

/*
 * Where the hypervisor can reach a guest's RAM; NULL: it is not mapped so. A page
 * that is to be written is dirty from now on.
 */
void *gpa_pointer(struct partition *pt, u64 gpa, bool write)
{
	struct slat_entry e;

	if (pt == &root_partition)
		return root_ram(gpa) ? (void *)gpa : NULL;
	if (!npt_lookup(pt, gpa >> PAGE_SHIFT, &e) || !(e.flags & SLAT_R) ||
	    (write && !(e.flags & SLAT_W)) || !page_of(e.spa))
		return NULL;
	if (write)
		npt_change_ad(pt, e.pte, 3, 0);
	return (void *)(e.spa + (gpa & 4095));
}

static enum gva_result gpa_result(struct partition *pt, u64 gpa, u32 how)
{
	struct slat_entry e;

	if (pt == &root_partition)
		return root_ram(gpa) ? GVA_SUCCESS : GVA_GPA_UNMAPPED;
	if (!npt_lookup(pt, gpa >> PAGE_SHIFT, &e))
		return GVA_GPA_UNMAPPED;
	if (!(e.flags & SLAT_R))
		return GVA_GPA_NO_READ_ACCESS;
	if ((how & GVA_WRITE) && !(e.flags & SLAT_W))
		return GVA_GPA_NO_WRITE_ACCESS;
	return GVA_SUCCESS;
}

static enum gva_result check_rights(const struct vmcb *v, u64 rights, u32 how)
{
	bool user = v->cpl == 3 && !(how & GVA_PRIVILEGE_EXEMPT);

	if (user && !(rights & PT_U))
		return GVA_PRIVILEGE_VIOLATION;
	if ((how & GVA_WRITE) && !(rights & PT_W) && (user || (v->cr0 & CR0_WP)))
		return GVA_PRIVILEGE_VIOLATION;
	if ((how & GVA_EXECUTE) && (rights & PT_NX) && (v->efer & EFER_NXE))
		return GVA_PRIVILEGE_VIOLATION;
	return GVA_SUCCESS;
}

/**
 * gva_translate() - what a VP's access would reach
 * @pt: the VP's partition, which may be the root
 * @v: the VP's state
 * @gva: of the access
 * @how: GVA_READ, GVA_WRITE, GVA_EXECUTE, GVA_PRIVILEGE_EXEMPT
 * @gpa: set on success and where only the GPA's own rights are missing
 *
 * Context: hv_lock held. A/D bits are not set.
 *
 * Return: GVA_SUCCESS, or the first thing that forbids the access
 */
enum gva_result gva_translate(struct partition *pt, struct vmcb *v, u64 gva,
			      u32 how, u64 *gpa)
{
	bool longm = !!(v->efer & EFER_LMA), pae = longm || (v->cr4 & CR4_PAE);
	int levels = longm ? v->cr4 & CR4_LA57 ? 5 : 4 : pae ? 3 : 2;
	int bits = pae ? 9 : 10, level;
	u64 rights = PT_W | PT_U, table = v->cr3 & (longm ? PT_ADDR :
						     pae ? 0xffffffe0 : 0xfffff000);
	enum gva_result r;

	if (!longm)
		gva = (u32)gva;
	if (!(v->cr0 >> 31)) {
		*gpa = gva;
		return gpa_result(pt, *gpa, how);
	}
	if (longm && (s64)(gva << (64 - 12 - 9 * levels)) >>
		     (64 - 12 - 9 * levels) != (s64)gva)
		return GVA_PAGE_NOT_PRESENT;
	for (level = levels; ; level--) {
		u32 shift = 12 + bits * (level - 1);
		u64 index = gva >> shift & ((1 << bits) - 1), entry;
		void *p;

		/* The page directory pointer table of PAE mode has four entries. */
		if (pae && !longm && level == 3)
			index &= 3;
		p = gpa_pointer(pt, table + index * (pae ? 8 : 4), false);
		if (!p)
			return GVA_GPA_UNMAPPED;
		entry = pae ? *(u64 *)p : *(u32 *)p;
		if (!(entry & PT_P))
			return GVA_PAGE_NOT_PRESENT;
		if (!(pae && !longm && level == 3)) {
			rights &= entry | ~(PT_W | PT_U);
			rights |= entry & PT_NX;
		}
		if (level == 1 || ((entry & PT_PS) && level <= (longm ? 3 : 2) &&
				   (pae || (v->cr4 & CR4_PSE)))) {
			u64 low = (1ull << shift) - 1;

			*gpa = (entry & PT_ADDR & ~low) | (gva & low);
			break;
		}
		table = entry & PT_ADDR;
	}
	r = check_rights(v, rights, how);
	return r ?: gpa_result(pt, *gpa, how);
}

u16 hv_translate_gva(struct hcall *h)
{
	const u64 *in = (const u64 *)h->in;
	u64 *out = (u64 *)h->out, gpa = 0;
	struct vp *vp;
	u16 status;

	if (in[1] >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp_stopped(in[0], in[1], 0, &vp);
	if (status)
		return status;
	if ((in[2] & ~0x3full) || in[3] >> 52)
		return HV_STATUS_INVALID_PARAMETER;
	if (vp->pt->encrypted)
		return HV_STATUS_OPERATION_DENIED;
	out[0] = gva_translate(vp->pt, vp->cpu.vmcb, in[3] << PAGE_SHIFT,
			       in[2] & 0xf, &gpa);
	out[1] = gpa >> PAGE_SHIFT;
	return HV_STATUS_SUCCESS;
}
