// SPDX-License-Identifier: GPL-2.0
/*
 * Nested page tables. A child's tables (its SLAT) are built from the pages
 * deposited for it; the root's are an identity map that fills itself on demand,
 * with everything that is not the root's left out.
 *
 * Leaf entries exist at three levels (4K, 2M, 1G). A no-access entry is a leaf
 * that is not present but carries PTE_NO_ACCESS; it keeps the A/D bits, so that
 * withdrawing access does not lose them. Everything here runs under hv_lock;
 * the hardware sets A/D bits at any time, hence the atomic exchanges.
 */
#include "hv.h"

#define PTE_P		0x001ull
#define PTE_W		0x002ull
#define PTE_U		0x004ull
#define PTE_PWT		0x008ull
#define PTE_PCD		0x010ull
#define PTE_A		0x020ull
#define PTE_D		0x040ull
#define PTE_PS		0x080ull
#define PTE_NO_ACCESS	0x200ull
#define PTE_NX		BIT_ULL(63)
#define PTE_SPA		0x000ffffffffff000ull
#define PTE_TABLE	(PTE_P | PTE_W | PTE_U)
#define TOP_LEVEL	4

static inline u32 table_index(u64 gfn, int level)
{
	return (gfn >> (9 * (level - 1))) & 511;
}

static inline u64 level_pages(int level)
{
	return 1ull << (9 * (level - 1));
}

static inline u64 *table_at(u64 entry)
{
	return (u64 *)(entry & PTE_SPA);
}

static bool is_leaf(u64 entry, int level)
{
	if (entry & PTE_NO_ACCESS)
		return true;
	return (entry & PTE_P) && (level == 1 || (entry & PTE_PS));
}

static bool is_table(u64 entry, int level)
{
	return (entry & PTE_P) && !is_leaf(entry, level);
}

static u64 leaf_entry(u64 spa, u32 flags, int level)
{
	u64 e;

	if (flags & SLAT_NO_ACCESS)
		return PTE_NO_ACCESS | (level > 1 ? PTE_PS : 0);
	e = spa | PTE_P | PTE_U | (level > 1 ? PTE_PS : 0);
	if (flags & SLAT_W)
		e |= PTE_W;
	if (!(flags & SLAT_X))
		e |= PTE_NX;
	if (flags & SLAT_UNCACHED)
		e |= PTE_PCD | PTE_PWT;
	return e;
}

/* Counts, per RAM page, the SLAT entries that point to it. */
static void count_maps(u64 entry, int level, int by)
{
	u64 spa = entry & PTE_SPA, n = level_pages(level);

	if (!(entry & PTE_P))
		return;
	for (; n; n--, spa += PAGE_SIZE) {
		struct page_info *info = page_of(spa);

		if (info)
			info->maps += by;
	}
}

static u64 *alloc_table(struct partition *pt, bool split)
{
	u64 *table;

	if (split && hv_options[OPT_SPLIT_FREE] && pt->pool.free_count)
		table = pool_take(&pt->pool);
	else
		table = pool_alloc(&pt->pool);
	if (table)
		pt->table_pages++;
	return table;
}

/* Replaces an entry; what was present must be flushed before the call ends. */
static u64 replace(struct partition *pt, u64 *entry, u64 new)
{
	u64 old = __atomic_exchange_n(entry, new, __ATOMIC_SEQ_CST);

	if (old & PTE_P)
		pt->flush_needed = true;
	return old;
}

/* A large leaf becomes a table of leaves one level down, with its A/D bits. */
static u16 split(struct partition *pt, u64 *entry, int level)
{
	u64 *table = alloc_table(pt, true);
	u64 old, step;
	u32 i;

	if (!table)
		return HV_STATUS_INSUFFICIENT_MEMORY;
	old = replace(pt, entry, (u64)table | PTE_TABLE);
	step = old & PTE_P ? level_pages(level - 1) << PAGE_SHIFT : 0;
	if (level == 2)
		old &= ~PTE_PS;
	for (i = 0; i < 512; i++)
		table[i] = old + i * step;
	return HV_STATUS_SUCCESS;
}

/*
 * The entry for gfn at @level. Tables on the way are made, and larger leaves
 * split, when @create; otherwise NULL where the entry does not exist.
 */
static u64 *walk(struct partition *pt, u64 gfn, int level, bool create,
		 u16 *status)
{
	u64 *table = pt->npt;
	int l;

	for (l = TOP_LEVEL; l > level; l--) {
		u64 *entry = &table[table_index(gfn, l)];

		if (is_leaf(*entry, l)) {
			*status = create ? split(pt, entry, l) :
					   HV_STATUS_SUCCESS;
			if (!create || *status)
				return NULL;
		} else if (!(*entry & PTE_P)) {
			*status = HV_STATUS_SUCCESS;
			if (!create)
				return NULL;
			table = alloc_table(pt, false);
			if (!table) {
				*status = HV_STATUS_INSUFFICIENT_MEMORY;
				return NULL;
			}
			*entry = (u64)table | PTE_TABLE;
		}
		table = table_at(*entry);
	}
	*status = HV_STATUS_SUCCESS;
	return &table[table_index(gfn, level)];
}

/* Releases a table and what is below it; returns the A/D bits found there. */
static u64 drop_table(struct partition *pt, u64 *table, int level)
{
	u64 ad = 0;
	u32 i;

	for (i = 0; i < 512; i++) {
		u64 e = __atomic_exchange_n(&table[i], 0, __ATOMIC_SEQ_CST);

		if (is_table(e, level)) {
			ad |= drop_table(pt, table_at(e), level - 1);
		} else {
			ad |= e & (PTE_A | PTE_D);
			count_maps(e, level, -1);
		}
	}
	pool_free(&pt->pool, table);
	pt->table_pages--;
	return ad;
}

static bool table_empty(const u64 *table)
{
	u32 i;

	for (i = 0; i < 512; i++)
		if (table[i])
			return false;
	return true;
}

/*
 * 512 equal, consecutive, aligned 2M leaves become one 1G leaf. Their A/D bits may
 * differ: it has those that any of them has.
 */
static void coalesce(struct partition *pt, u64 gfn)
{
	u64 *entry, *table, first, ad = 0;
	u16 status;
	u32 i;

	if (hv_options[OPT_NO_COALESCE] || !has_1g_pages)
		return;
	entry = walk(pt, gfn, 3, false, &status);
	if (!entry || !is_table(*entry, 3))
		return;
	table = table_at(*entry);
	first = table[0];
	if (!(first & PTE_P) || !(first & PTE_PS) ||
	    (first & PTE_SPA & (BIT_ULL(30) - 1)))
		return;
	for (i = 1; i < 512; i++)
		if ((table[i] ^ (first + ((u64)i << 21))) & ~(PTE_A | PTE_D))
			return;
	replace(pt, entry, first);
	/* A VP may have set bits since they were compared. */
	for (i = 0; i < 512; i++)
		ad |= __atomic_exchange_n(&table[i], 0, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(entry, ad & (PTE_A | PTE_D), __ATOMIC_SEQ_CST);
	pool_free(&pt->pool, table);
	pt->table_pages--;
}

bool npt_lookup(struct partition *pt, u64 gfn, struct slat_entry *e)
{
	u64 *table = pt->npt;
	int level;

	if (!table || gfn >= GFN_LIMIT)
		return false;
	for (level = TOP_LEVEL; ; level--) {
		u64 *entry = &table[table_index(gfn, level)];
		u64 v = *entry;

		if (is_leaf(v, level)) {
			e->pte = entry;
			e->flags = (level - 1) << 8;
			e->spa = 0;
			if (v & PTE_A)
				e->flags |= SLAT_ACCESSED;
			if (v & PTE_D)
				e->flags |= SLAT_DIRTY;
			if (v & PTE_NO_ACCESS) {
				e->flags |= SLAT_NO_ACCESS;
				return true;
			}
			e->spa = (v & PTE_SPA) +
				 ((gfn & (level_pages(level) - 1)) << PAGE_SHIFT);
			e->flags |= SLAT_R | (v & PTE_W ? SLAT_W : 0) |
				    (v & PTE_NX ? 0 : SLAT_X) |
				    (v & PTE_PCD ? SLAT_UNCACHED : 0);
			return true;
		}
		if (!(v & PTE_P))
			return false;
		table = table_at(v);
	}
}

/**
 * npt_map() - map one page; supersedes what was there
 * @pt: the child partition
 * @gfn: where
 * @spa: what; 0 for a no-access entry
 * @flags: SLAT_*
 * @large: 2 MiB, not 4 KiB
 *
 * The caller has checked alignment, the GPA limit and the ownership of the pages.
 *
 * Return: HV_STATUS_*
 */
u16 npt_map(struct partition *pt, u64 gfn, u64 spa, u32 flags, bool large)
{
	int level = large ? 2 : 1;
	u64 *entry, old, new;
	u64 ad = 0;
	u16 status;

	entry = walk(pt, gfn, level, true, &status);
	if (!entry)
		return status;
	if (is_table(*entry, level)) {
		u64 *table = table_at(*entry);

		if (hv_options[OPT_LARGE_OVER_4K_REFUSED] && !table_empty(table))
			return HV_STATUS_INVALID_PARAMETER;
		replace(pt, entry, 0);
		ad = drop_table(pt, table, level - 1);
	}
	new = leaf_entry(spa, flags, level);
	count_maps(new, level, 1);
	old = replace(pt, entry, new);
	count_maps(old, level, -1);
	ad |= old & (PTE_A | PTE_D);
	if (!hv_options[OPT_REMAP_CLEARS_AD])
		__atomic_fetch_or(entry, ad, __ATOMIC_SEQ_CST);
	if (large)
		coalesce(pt, gfn);
	return HV_STATUS_SUCCESS;
}

/* Unmaps one 4K page, or with @large 2 MiB. Unmapped GFNs are no error. */
u16 npt_unmap(struct partition *pt, u64 gfn, bool large)
{
	int level = large ? 2 : 1;
	struct slat_entry e;
	u64 *entry, old;
	u16 status;

	if (hv_options[OPT_UNMAP_NEEDS_MEMORY]) {
		void *page = pool_alloc(&pt->pool);

		if (!page)
			return HV_STATUS_INSUFFICIENT_MEMORY;
		pool_add(&pt->pool, page);
	}
	/* Only a leaf that is larger than what goes needs the split. */
	entry = walk(pt, gfn, level, npt_lookup(pt, gfn, &e) &&
		     SLAT_SIZE(e.flags) + 1 > (u32)level, &status);
	if (!entry)
		return status;
	if (is_table(*entry, level)) {
		u64 *table = table_at(*entry);

		if (hv_options[OPT_LARGE_OVER_4K_REFUSED] && !table_empty(table))
			return HV_STATUS_INVALID_PARAMETER;
		replace(pt, entry, 0);
		drop_table(pt, table, level - 1);
		return HV_STATUS_SUCCESS;
	}
	old = replace(pt, entry, 0);
	count_maps(old, level, -1);
	return HV_STATUS_SUCCESS;
}

/* Makes 2M entries of the 1G entry at @gfn; false: the pool is empty. */
bool npt_split_1g(struct partition *pt, u64 gfn)
{
	u16 status;

	return !!walk(pt, gfn, 2, true, &status);
}

/* The first GFN from @gfn on that has a leaf entry, or ~0. */
u64 npt_next(struct partition *pt, u64 gfn)
{
	while (pt->npt && gfn < GFN_LIMIT) {
		u64 *table = pt->npt;
		int level;

		for (level = TOP_LEVEL; ; level--) {
			u64 v = table[table_index(gfn, level)];

			if (is_leaf(v, level))
				return gfn;
			if (!(v & PTE_P))
				break;
			table = table_at(v);
		}
		gfn = (gfn | (level_pages(level) - 1)) + 1;
	}
	return ~0ull;
}

/*
 * Sets and clears A (1) and D (2) of an entry that npt_lookup() found. Returns those
 * that were set when it did: a VP may have set them since the lookup.
 */
u64 npt_change_ad(struct partition *pt, u64 *pte, u64 set, u64 clear)
{
	u64 old = 0;

	if (clear) {
		old = __atomic_fetch_and(pte, ~(clear * PTE_A), __ATOMIC_SEQ_CST);
		pt->flush_needed = true;
	}
	if (set)
		old |= __atomic_fetch_or(pte, set * PTE_A, __ATOMIC_SEQ_CST);
	return (old & (PTE_A | PTE_D)) / PTE_A;
}

void npt_destroy(struct partition *pt)
{
	if (!pt->npt)
		return;
	pt->flush_needed = true;
	drop_table(pt, pt->npt, TOP_LEVEL);
	pt->npt = NULL;
}

/*
 * The root: identity, filled by faults. Its tables come from the heap and can
 * be thrown away at any time, since faults rebuild them.
 */

void root_npt_init(void)
{
	root_partition.npt = heap_page();
}

static void root_free_tables(u64 *table, int level)
{
	u32 i;

	for (i = 0; level > 1 && i < 512; i++)
		if (is_table(table[i], level))
			root_free_tables(table_at(table[i]), level - 1);
	heap_free(table);
}

static u64 *root_table(void)
{
	u64 saved[512], *page = heap_try_page();
	u32 i;

	if (page)
		return page;
	memcpy(saved, root_partition.npt, sizeof(saved));
	memset(root_partition.npt, 0, PAGE_SIZE);
	tlb_flush(&root_partition);
	for (i = 0; i < 512; i++)
		if (saved[i] & PTE_P)
			root_free_tables(table_at(saved[i]), TOP_LEVEL - 1);
	return NULL;
}

/* Where there is no RAM there may be devices. */
static bool root_may_access(u64 spa)
{
	return !page_of(spa) || root_ram(spa);
}

/* The page table for a 2M range: 4K identity entries for what is the root's. */
static void root_fill(u64 *table, u64 base)
{
	u32 i;

	for (i = 0; i < 512; i++)
		table[i] = root_may_access(base + i * PAGE_SIZE) ?
			   (base + i * PAGE_SIZE) | PTE_TABLE : 0;
}

static const char *const kind_name[] = {
	"of the root", "deposited for partition", "of the hypervisor,",
	"exclusive to partition", "not RAM,"
};

void root_npt_fault(struct cpu *cpu)
{
	u64 gpa = cpu->root.vmcb->exit_info2;
	u64 base = gpa & ~(BIT_ULL(21) - 1);
	u64 *table, *entry = NULL;
	int level;
	u32 i;

	if (!root_may_access(gpa)) {
		struct page_info *info = page_of(gpa);

		hv_stop("root access to page 0x%llx, which is %s %llu (rip 0x%llx)",
			gpa, kind_name[info->kind], partitions[info->slot] ?
			partitions[info->slot]->id : 0, cpu->root.vmcb->rip);
	}
again:
	table = root_partition.npt;
	for (level = TOP_LEVEL; level > 2; level--) {
		entry = &table[table_index(gpa >> PAGE_SHIFT, level)];
		if (!(*entry & PTE_P)) {
			u64 *page = root_table();

			if (!page)
				goto again;
			*entry = (u64)page | PTE_TABLE;
		}
		table = table_at(*entry);
	}
	entry = &table[table_index(gpa >> PAGE_SHIFT, 2)];
	if (*entry & PTE_P)
		return;		/* filled by another CPU, or a stale fault */
	for (i = 0; i < 512; i++)
		if (!root_may_access(base + i * PAGE_SIZE))
			break;
	if (i == 512) {
		*entry = base | PTE_TABLE | PTE_PS;
		return;
	}
	table = root_table();
	if (!table)
		goto again;
	root_fill(table, base);
	*entry = (u64)table | PTE_TABLE;
}

/* Gives a page to the root or takes it away; kind is set by the caller before. */
void root_set_access(u64 spa, bool allowed)
{
	u64 *table = root_partition.npt, *entry, *page;
	int level;

	for (level = TOP_LEVEL; level > 2; level--) {
		entry = &table[table_index(spa >> PAGE_SHIFT, level)];
		if (!(*entry & PTE_P))
			return;		/* the fault will look at page_info */
		table = table_at(*entry);
	}
	entry = &table[table_index(spa >> PAGE_SHIFT, 2)];
	if (!(*entry & PTE_P))
		return;
	if (*entry & PTE_PS) {
		if (allowed)
			return;
		page = root_table();
		if (!page)
			return;		/* all was dropped, this page too */
		root_fill(page, spa & ~(BIT_ULL(21) - 1));
		replace(&root_partition, entry, (u64)page | PTE_TABLE);
	}
	table = table_at(*entry);
	replace(&root_partition, &table[table_index(spa >> PAGE_SHIFT, 1)],
		allowed ? (spa & PTE_SPA) | PTE_TABLE : 0);
}
