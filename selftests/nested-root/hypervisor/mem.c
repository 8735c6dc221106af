// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns each page of RAM, the hypervisor's own heap, and the pools of pages
 * that the root deposits for partitions.
 */
#include "hv.h"

struct page_info *page_info;
u64 ram_top;

static u64 heap_next, heap_end;
static struct pool_page *heap_list;

/*
 * The heap is one run of RAM that the loader took out of the root's memory map.
 * Its first part is page_info, one entry for each 4K page below ram_top.
 */
void mem_init(u64 heap, u64 heap_size)
{
	u64 bytes = (ram_top >> PAGE_SHIFT) * sizeof(*page_info);

	page_info = (void *)heap;
	memset(page_info, 0, bytes);
	heap_next = (heap + bytes + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	heap_end = heap + heap_size;
}

void *heap_pages(u64 count)
{
	void *p = (void *)heap_next;

	if (heap_next + count * PAGE_SIZE > heap_end)
		hv_stop("the hypervisor's heap is used up");
	heap_next += count * PAGE_SIZE;
	memset(p, 0, count * PAGE_SIZE);
	return p;
}

/* A zeroed page, or NULL when the heap is used up. */
void *heap_try_page(void)
{
	struct pool_page *p = heap_list;

	if (!p)
		return heap_next < heap_end ? heap_pages(1) : NULL;
	heap_list = p->next;
	memset(p, 0, PAGE_SIZE);
	return p;
}

void *heap_page(void)
{
	return heap_try_page() ?: heap_pages(1);
}

void heap_free(void *page)
{
	struct pool_page *p = page;

	p->next = heap_list;
	heap_list = p;
}

/* NULL where there is no RAM. */
struct page_info *page_of(u64 spa)
{
	struct page_info *info = &page_info[spa >> PAGE_SHIFT];

	if (spa >= ram_top || info->kind == PAGE_NOT_RAM)
		return NULL;
	return info;
}

/* RAM that the root may access: its own, and what is shared with it. */
bool root_ram(u64 spa)
{
	struct page_info *info = page_of(spa);

	return info && (info->kind == PAGE_ROOT || info->root_ok);
}

/* A zeroed page, or NULL: the caller answers INSUFFICIENT_MEMORY. */
void *pool_alloc(struct pool *pool)
{
	if (pool->dry) {
		if (pool->dry != ~0ull)
			pool->dry--;
		return NULL;
	}
	return pool_take(pool);
}

/* As pool_alloc(), but fault injection does not apply (withdraw). */
void *pool_take(struct pool *pool)
{
	struct pool_page *p = pool->free;

	if (!p)
		return NULL;
	pool->free = p->next;
	pool->free_count--;
	memset(p, 0, PAGE_SIZE);
	return p;
}

void pool_add(struct pool *pool, void *page)
{
	struct pool_page *p = page;

	p->next = pool->free;
	pool->free = p;
	pool->free_count++;
}

/*
 * A table page that another CPU may still walk: it is kept apart until the
 * shootdown at the end of the call has finished.
 */
void pool_free(struct pool *pool, void *page)
{
	struct pool_page *p = page;

	p->next = pool->deferred;
	pool->deferred = p;
}

void pool_free_deferred(struct pool *pool)
{
	struct pool_page *p;

	while ((p = pool->deferred)) {
		pool->deferred = p->next;
		pool_add(pool, p);
	}
}
