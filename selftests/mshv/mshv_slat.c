// SPDX-License-Identifier: GPL-2.0
/*
 * The SLAT as a mirror of the VMM's memory: contents, accessed and dirty bits,
 * and that what was taken from the guest is out of its reach.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

#define MAX_ENTRIES	4096

FIXTURE(slat)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
	size_t size;
};

FIXTURE_VARIANT(slat)
{
	enum mshv_backing backing;
	size_t pages;
};

FIXTURE_VARIANT_ADD(slat, anon) {
	.backing = BACKING_ANON, .pages = 700,
};

FIXTURE_VARIANT_ADD(slat, memfd) {
	.backing = BACKING_MEMFD, .pages = 300,
};

FIXTURE_VARIANT_ADD(slat, thp) {
	.backing = BACKING_THP, .pages = 3 * HUGE_PAGES,
};

FIXTURE_VARIANT_ADD(slat, hugetlb) {
	.backing = BACKING_HUGETLB, .pages = 3 * HUGE_PAGES,
};

FIXTURE_SETUP(slat)
{
	const struct hv_input_set_partition_property tracking = {
		.property_code = HV_PARTITION_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
		.property_value = 1,
	};

	require_mshv();
	mshv_pt_init(&self->pt);
	if (variant->backing == BACKING_HUGETLB)
		require_hugetlb(3);
	self->size = variant->pages * PAGE_SIZE;
	self->mem = mshv_alloc(variant->backing, self->size);
	if (!self->mem)
		SKIP(return, "needs: this kind of memory");
	test_pt_setup(&self->pt, 1);
	self->vp = &self->pt.vp[0];
	/* Accessed and dirty bits, for a hypervisor that has to be asked */
	mshv_hvcall(self->pt.fd, HVCALL_SET_PARTITION_PROPERTY, 0, &tracking,
		    sizeof(tracking), NULL, 0, NULL);
	test_map(&self->pt, TEST_GFN, self->mem, self->size, MEM_RWX);
}

FIXTURE_TEARDOWN(slat)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, self->size);
}

static void touch_all(struct __test_metadata *_metadata, struct mshv_vp *vp,
		      size_t pages)
{
	test_guest(vp, guest_fill, .rdi = TEST_GPA, .rsi = pages);
}

TEST_F(slat, every_gfn_is_the_vmms_page)
{
	require_oracle();
	require_pagemap();
	touch_all(_metadata, self->vp, variant->pages);
	test_slat(&self->pt, TEST_GFN, self->mem, variant->pages,
		  SLAT_READ | SLAT_WRITE | SLAT_EXEC, true);
}

TEST_F(slat, audit_lists_what_is_mapped_and_nothing_else)
{
	static struct oracle_slat entries[MAX_ENTRIES];
	struct oracle_slat one;
	u64 next = 0;
	long i, n, pages = 0;

	require_oracle();
	touch_all(_metadata, self->vp, variant->pages);
	n = oracle_audit(self->pt.id, 0, ~0ULL >> 12, entries, MAX_ENTRIES);
	ASSERT_LT(0, n);
	for (i = 0; i < n; i++) {
		const struct oracle_slat *entry = &entries[i];
		const u64 end = entry->gfn + entry->pages;

		/* Ascending, and inside the two regions */
		ASSERT_LE(next, entry->gfn);
		next = end;
		pages += entry->pages;
		ASSERT_TRUE((entry->gfn >= GUEST_SYS_GFN &&
			     end <= GUEST_SYS_GFN + GUEST_SYS_PAGES) ||
			    (entry->gfn >= TEST_GFN &&
			     end <= TEST_GFN + variant->pages));
		/* The same as the single query says */
		ASSERT_EQ(0, oracle_slat(self->pt.id, end - 1, &one));
		if (!(one.flags & SLAT_NO_ACCESS))
			EXPECT_EQ(entry->spa + (entry->pages - 1) * PAGE_SIZE,
				  one.spa);
		EXPECT_EQ(entry->flags, one.flags);
	}
	EXPECT_EQ(GUEST_SYS_PAGES + variant->pages, pages);
}

TEST_F(slat, size_of_entries_is_that_of_the_pages)
{
	struct oracle_slat entry;
	unsigned long i;

	require_oracle();
	touch_all(_metadata, self->vp, variant->pages);
	for (i = 0; i < variant->pages; i += 64) {
		u64 pfn = page_pfn(self->mem + i * PAGE_SIZE);

		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + i, &entry));
		switch (variant->backing) {
		case BACKING_HUGETLB:
			EXPECT_EQ(1, SLAT_SIZE(entry.flags));
			break;
		case BACKING_THP:
			/* 4K or 2M, but 2M only where the pages are */
			if (SLAT_SIZE(entry.flags)) {
				EXPECT_EQ(i % HUGE_PAGES, pfn % HUGE_PAGES);
			}
			break;
		default:
			EXPECT_EQ(0, SLAT_SIZE(entry.flags));
		}
	}
}

TEST_F(slat, unmap_leaves_only_the_guests_own_area)
{
	require_oracle();
	touch_all(_metadata, self->vp, variant->pages);
	test_unmap(&self->pt, TEST_GFN, self->mem, self->size);
	EXPECT_EQ(GUEST_SYS_PAGES, oracle_mapped(self->pt.id, 0, ~0ULL >> 12));
}

/* Accessed and dirty bits */

static bool bit(const u8 *bitmap, unsigned long nr)
{
	return bitmap[nr / 8] >> (nr % 8) & 1;
}

static unsigned long weight(const u8 *bitmap, unsigned long pages)
{
	unsigned long i, n = 0;

	for (i = 0; i < pages; i++)
		n += bit(bitmap, i);
	return n;
}

#define ACCESSED	MSHV_GPAP_ACCESS_TYPE_ACCESSED
#define DIRTY		MSHV_GPAP_ACCESS_TYPE_DIRTY
#define CLEAR		MSHV_GPAP_ACCESS_OP_CLEAR
#define SET		MSHV_GPAP_ACCESS_OP_SET
#define NOOP		MSHV_GPAP_ACCESS_OP_NOOP

#define test_bitmap(_type, _op, _bitmap) \
	ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, variant->pages, \
					_type, _op, _bitmap))

/* Pages that have an entry in common with page @a */
static bool same_entry(enum mshv_backing backing, unsigned long a,
		       unsigned long b)
{
	if (backing == BACKING_HUGETLB || backing == BACKING_THP)
		return a / HUGE_PAGES == b / HUGE_PAGES;
	return a == b;
}

TEST_F(slat, written_pages_are_dirty)
{
	u8 bitmap[MAX_ENTRIES / 8];
	const unsigned long written[] = { 0, 7, 8, variant->pages - 1 };
	unsigned long i, j;

	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(variant->pages, weight(bitmap, variant->pages));
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));

	for (i = 0; i < ARRAY_SIZE(written); i++) {
		test_guest(self->vp, guest_write,
			   .rdi = TEST_GPA + written[i] * PAGE_SIZE + 0x10);
	}
	test_bitmap(DIRTY, CLEAR, bitmap);
	for (i = 0; i < variant->pages; i++) {
		bool must = false, may = false;

		for (j = 0; j < ARRAY_SIZE(written); j++) {
			must |= i == written[j];
			may |= same_entry(variant->backing, written[j], i);
		}
		if (must) {
			EXPECT_TRUE(bit(bitmap, i)) {
				TH_LOG("page %lu is not dirty", i);
			}
		} else if (!may) {
			EXPECT_FALSE(bit(bitmap, i)) {
				TH_LOG("page %lu is dirty", i);
			}
		}
	}
}

TEST_F(slat, read_pages_are_accessed_and_not_dirty)
{
	u8 bitmap[MAX_ENTRIES / 8];

	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(ACCESSED, CLEAR, bitmap);
	EXPECT_EQ(variant->pages, weight(bitmap, variant->pages));
	test_bitmap(ACCESSED, CLEAR, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));
	/* Not accessed means not dirty */
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));

	test_guest(self->vp, guest_read, .rdi = TEST_GPA + 5 * PAGE_SIZE);
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));
	test_bitmap(ACCESSED, CLEAR, bitmap);
	EXPECT_TRUE(bit(bitmap, 5));
	EXPECT_FALSE(bit(bitmap, variant->pages - 1));
}

TEST_F(slat, bits_can_be_set)
{
	u8 bitmap[MAX_ENTRIES / 8];

	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(ACCESSED, CLEAR, bitmap);
	test_bitmap(DIRTY, SET, bitmap);
	/* What it returns is from before */
	EXPECT_EQ(0, weight(bitmap, variant->pages));
	test_bitmap(ACCESSED, SET, bitmap);
	EXPECT_EQ(variant->pages, weight(bitmap, variant->pages));
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(variant->pages, weight(bitmap, variant->pages));
}

TEST_F(slat, noop_changes_nothing)
{
	u8 bitmap[MAX_ENTRIES / 8];

	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(ACCESSED, CLEAR, bitmap);
	test_bitmap(ACCESSED, NOOP, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));
	test_bitmap(ACCESSED, NOOP, bitmap);
	if (weight(bitmap, variant->pages) == variant->pages)
		skip_rest("needs: a kernel that does not take NOOP for SET");
	EXPECT_EQ(0, weight(bitmap, variant->pages));
}

TEST_F(slat, writes_of_the_vmm_are_not_the_guests)
{
	u8 bitmap[MAX_ENTRIES / 8];

	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(ACCESSED, CLEAR, bitmap);
	memset(self->mem, 1, self->size);
	test_bitmap(DIRTY, CLEAR, bitmap);
	EXPECT_EQ(0, weight(bitmap, variant->pages));
}

/* A third of the pages is read, a third is written, the rest is left alone */
TEST_F(slat, oracle_and_bitmap_agree)
{
	const unsigned long third = variant->pages / 3;
	const unsigned long step = variant->backing == BACKING_THP ||
				   variant->backing == BACKING_HUGETLB ?
				   HUGE_PAGES : 1;
	unsigned long i, accessed = 0, dirty = 0;
	u8 bitmap[MAX_ENTRIES / 8];
	struct oracle_slat entry;

	require_oracle();
	touch_all(_metadata, self->vp, variant->pages);
	test_bitmap(ACCESSED, CLEAR, bitmap);
	for (i = 0; i < third; i += 91) {
		test_guest(self->vp, guest_read, .rdi = TEST_GPA + i * PAGE_SIZE);
		test_guest(self->vp, guest_write,
			   .rdi = TEST_GPA + (third + i) * PAGE_SIZE);
	}
	for (i = 0; i < variant->pages; i += step) {
		ASSERT_EQ(0, oracle_slat(self->pt.id, TEST_GFN + i, &entry));
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN + i, 1,
						DIRTY, CLEAR, bitmap));
		EXPECT_EQ(!!(entry.flags & SLAT_DIRTY), bitmap[0]);
		dirty += bitmap[0];
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN + i, 1,
						ACCESSED, CLEAR, bitmap));
		EXPECT_EQ(!!(entry.flags & SLAT_ACCESSED), bitmap[0]);
		accessed += bitmap[0];
	}
	EXPECT_LT(0, dirty);
	EXPECT_EQ(2 * dirty, accessed);
	EXPECT_GT(variant->pages / step, accessed);
}

TEST_F(slat, bitmap_ends_with_zeroes)
{
	u8 bitmap[4];

	touch_all(_metadata, self->vp, variant->pages);
	memset(bitmap, 0xff, sizeof(bitmap));
	ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, 13, DIRTY, CLEAR,
					bitmap));
	EXPECT_EQ(0xff, bitmap[0]);
	EXPECT_EQ(0x1f, bitmap[1]);
	/* And not beyond its end */
	EXPECT_EQ(0xff, bitmap[2]);
	EXPECT_EQ(0xff, bitmap[3]);
}

/* What needs a partition, but not every kind of memory */
FIXTURE(access)
{
	struct mshv_pt pt;
	struct mshv_vp *vp;
	u8 *mem;
};

#define ACCESS_PAGES	5000UL
#define ACCESS_SIZE	(ACCESS_PAGES * PAGE_SIZE)

FIXTURE_SETUP(access)
{
	size_t i;

	require_mshv();
	mshv_pt_init(&self->pt);
	self->mem = mshv_alloc(BACKING_ANON, ACCESS_SIZE);
	ASSERT_NE(NULL, self->mem);
	/* Not in order: 512 in a row, by chance, would have one pair of bits */
	for (i = 0; i < ACCESS_PAGES; i += 2)
		*quad(self->mem, i) = 0;
	for (i = 1; i < ACCESS_PAGES; i += 2)
		*quad(self->mem, i) = 0;
	test_pt_setup(&self->pt, 2);
	self->vp = &self->pt.vp[0];
	test_map(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE, MEM_RWX);
}

FIXTURE_TEARDOWN(access)
{
	test_pt_close(&self->pt);
	mshv_free(self->mem, ACCESS_SIZE);
}

TEST_F(access, bitmap_of_more_pages_than_one_hypercall_has)
{
	u8 bitmap[ACCESS_PAGES / 8];

	test_guest(self->vp, guest_fill, .rdi = TEST_GPA, .rsi = ACCESS_PAGES);
	ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, ACCESS_PAGES,
					DIRTY, CLEAR, bitmap));
	EXPECT_EQ(ACCESS_PAGES, weight(bitmap, ACCESS_PAGES));
	test_guest(self->vp, guest_write,
		   .rdi = TEST_GPA + (ACCESS_PAGES - 2) * PAGE_SIZE);
	ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, ACCESS_PAGES,
					DIRTY, CLEAR, bitmap));
	EXPECT_EQ(1, weight(bitmap, ACCESS_PAGES));
	EXPECT_TRUE(bit(bitmap, ACCESS_PAGES - 2));
}

TEST_F(access, bitmap_refuses_bad_arguments)
{
	u8 bitmap[16];
	const struct mshv_gpap_access_bitmap good = {
		.access_type = DIRTY,
		.access_op = CLEAR,
		.page_count = 8,
		.gpap_base = TEST_GFN,
		.bitmap_ptr = (uintptr_t)bitmap,
	};
	struct mshv_gpap_access_bitmap args = good;

	ASSERT_EQ(0, ioctl(self->pt.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args));
#define EXPECT_REFUSED(_errno, _field, _value) do { \
	args = good; \
	args._field = _value; \
	EXPECT_EQ(-1, ioctl(self->pt.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args)) { \
		TH_LOG("with " #_field " = " #_value); \
	} \
	EXPECT_EQ(_errno, errno); \
} while (0)
	EXPECT_REFUSED(EINVAL, access_type, MSHV_GPAP_ACCESS_TYPE_COUNT);
	EXPECT_REFUSED(EINVAL, access_op, MSHV_GPAP_ACCESS_OP_COUNT);
	EXPECT_REFUSED(EINVAL, rsvd[0], 1);
	EXPECT_REFUSED(EINVAL, rsvd[5], 1);
	EXPECT_REFUSED(EINVAL, page_count, 0);
	EXPECT_REFUSED(EINVAL, bitmap_ptr, 0);
	EXPECT_REFUSED(EFAULT, bitmap_ptr, 8);
#undef EXPECT_REFUSED
	EXPECT_EQ(-1, ioctl(self->pt.fd, MSHV_GET_GPAP_ACCESS_BITMAP, 8UL));
	EXPECT_EQ(EFAULT, errno);
}

/* A second CPU goes on using what is taken away */

/* Does somebody still write there? */
static bool changes(const u64 *value, unsigned int msec)
{
	const u64 end = now_ms() + msec;
	const u64 old = READ_ONCE(*value);

	do {
		if (READ_ONCE(*value) != old)
			return true;
	} while (now_ms() < end);

	return false;
}

TEST_F_TIMEOUT(access, unmap_returns_when_no_cpu_can_write, 180)
{
	u64 *counter = (void *)self->mem;
	struct guest_thread thread;
	unsigned int round;

	require_cpus(2);
	for (round = 0; round < 25; round++) {
		u64 old = READ_ONCE(*counter);

		ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_count,
						GUEST_ARGS(.rdi = TEST_GPA,
							   .rsi = MAILBOX_GPA(0))));
		ASSERT_TRUE(wait_for_change(counter, old, 5000));
		ASSERT_EQ(0, mshv_unmap(&self->pt, TEST_GFN, self->mem,
					ACCESS_SIZE));
		ASSERT_FALSE(changes(counter, 20)) {
			TH_LOG("round %u: the guest still writes", round);
		}
		EXPECT_EQ(HVMSG_UNMAPPED_GPA, guest_thread_join(&thread));
		EXPECT_EQ(TEST_GPA,
			  self->vp->msg.memory.guest_physical_address);
		test_map(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE, MEM_RWX);
	}
}

TEST_F_TIMEOUT(access, unmap_stops_execution_on_another_cpu, 180)
{
	/* incq (%rsi); jmp back to it */
	const u8 code[] = { 0x48, 0xff, 0x06, 0xeb, 0xfb };
	u64 *counter = mailbox_ptr(&self->pt, 1);
	struct guest_thread thread;
	unsigned int round;

	require_cpus(2);
	memcpy(self->mem, code, sizeof(code));
	for (round = 0; round < 10; round++) {
		ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_exec,
						GUEST_ARGS(.rdi = TEST_GPA,
							   .rsi = MAILBOX_GPA(1))));
		ASSERT_TRUE(wait_for_change(counter, READ_ONCE(*counter), 5000));
		ASSERT_EQ(0, mshv_unmap(&self->pt, TEST_GFN, self->mem,
					ACCESS_SIZE));
		ASSERT_FALSE(changes(counter, 20)) {
			TH_LOG("round %u: the guest still executes", round);
		}
		EXPECT_EQ(HVMSG_UNMAPPED_GPA, guest_thread_join(&thread));
		EXPECT_EQ(HV_INTERCEPT_ACCESS_EXECUTE,
			  self->vp->msg.intercept.intercept_access_type);
		EXPECT_EQ(TEST_GPA, self->vp->msg.intercept.rip & ~0xfffULL);
		test_map(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE, MEM_RWX);
	}
}

TEST_F_TIMEOUT(access, clearing_dirty_misses_no_write_of_another_cpu, 180)
{
	u64 *counter = (void *)self->mem;
	u8 bitmap[1];
	struct guest_thread thread;
	unsigned int round;

	require_cpus(2);
	ASSERT_EQ(0, guest_thread_start(&thread, self->vp, guest_count,
					GUEST_ARGS(.rdi = TEST_GPA,
						   .rsi = MAILBOX_GPA(0))));
	for (round = 0; round < 25; round++) {
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, 8, DIRTY,
						CLEAR, bitmap));
		/* It goes on writing, so it must be dirty again */
		ASSERT_TRUE(wait_for_change(counter, READ_ONCE(*counter), 5000));
		ASSERT_EQ(0, mshv_access_bitmap(&self->pt, TEST_GFN, 8, DIRTY,
						CLEAR, bitmap));
		ASSERT_EQ(1, bitmap[0]) {
			TH_LOG("round %u: a write was not noticed", round);
		}
	}
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
}

struct restless {
	struct mshv_vp *vp;
	bool stop;
	unsigned long intercepts;
	long ret;
};

/* Run the counter, whatever is taken away from it */
static void *restless_thread(void *arg)
{
	struct restless *restless = arg;

	restless->ret = guest_prepare(restless->vp, GUEST_ADDR(guest_count),
				      GUEST_ARGS(.rdi = TEST_GPA,
						 .rsi = MAILBOX_GPA(0)));
	while (!restless->ret) {
		long ret = mshv_run(restless->vp);

		/* HVMSG_GPA_INTERCEPT if the region went after the guest's access */
		if (is_memory_intercept(ret)) {
			restless->intercepts++;
			/* Leave the partition to the other thread for a while */
			usleep(100);
		} else {
			restless->ret = ret;
		}
	}

	return NULL;
}

TEST_F_TIMEOUT(access, running_guest_sees_only_the_memory_mapped_last, 180)
{
	const size_t size = PAGE_SIZE;
	u64 *counters[2];
	struct restless restless = { .vp = self->vp };
	u8 *mem[2];
	unsigned int round;
	pthread_t thread;

	test_unmap(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE);
	mem[0] = mshv_alloc(BACKING_ANON, size);
	mem[1] = mshv_alloc(BACKING_ANON, size);
	ASSERT_NE(NULL, mem[0]);
	ASSERT_NE(NULL, mem[1]);
	counters[0] = (void *)mem[0];
	counters[1] = (void *)mem[1];
	*counters[0] = 0;
	*counters[1] = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, restless_thread, &restless));
	for (round = 0; round < 40; round++) {
		unsigned int which = round & 1;
		u64 old = *counters[which];

		test_map(&self->pt, TEST_GFN, mem[which], size, MEM_RW);
		ASSERT_TRUE(wait_for_change(counters[which], old, 5000));
		ASSERT_FALSE(changes(counters[!which], 2));
		test_unmap(&self->pt, TEST_GFN, mem[which], size);
	}
	/* Stop it: the mailbox is looked at after a successful write */
	WRITE_ONCE(*mailbox_ptr(&self->pt, 0), 1);
	test_map(&self->pt, TEST_GFN, mem[0], size, MEM_RW);
	pthread_join(thread, NULL);
	EXPECT_EQ(HVMSG_X64_HALT, restless.ret);
	test_unmap(&self->pt, TEST_GFN, mem[0], size);
	mshv_free(mem[0], size);
	mshv_free(mem[1], size);
}

/* One VP's writes are not another one's unmap */
TEST_F_TIMEOUT(access, unmap_does_not_disturb_other_memory, 180)
{
	u64 *counter = mailbox_ptr(&self->pt, 2);
	struct guest_thread thread;
	unsigned int round;

	ASSERT_EQ(0, guest_thread_start(&thread, &self->pt.vp[1], guest_count,
					GUEST_ARGS(.rdi = MAILBOX_GPA(2),
						   .rsi = MAILBOX_GPA(1))));
	for (round = 0; round < 10; round++) {
		test_unmap(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE);
		ASSERT_TRUE(wait_for_change(counter, READ_ONCE(*counter), 5000));
		test_map(&self->pt, TEST_GFN, self->mem, ACCESS_SIZE, MEM_RWX);
		ASSERT_TRUE(wait_for_change(counter, READ_ONCE(*counter), 5000));
		ASSERT_FALSE(READ_ONCE(thread.ended));
	}
	WRITE_ONCE(*mailbox_ptr(&self->pt, 1), 1);
	EXPECT_EQ(HVMSG_X64_HALT, guest_thread_join(&thread));
}

TEST_HARNESS_MAIN
