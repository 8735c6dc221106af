// SPDX-License-Identifier: GPL-2.0
/* Map, unmap, no-access, large entries, access states; as the oracle sees them. */
#include "test.h"

#define GFN_LIMIT	(1ull << 36)
#define HV_IMAGE	0x200000ull
#define DEVICE		(DEVICE_PFN << 12)

/* Bits of the flags of HVCALL_GET_GPA_PAGES_ACCESS_STATES */
#define CLEAR_A	1
#define SET_A	2
#define CLEAR_D	4
#define SET_D	8

static u64 id;
static u8 *ram;			/* 2 MiB, aligned */

static void begin(u32 pages)
{
	id = partition_ready(pages);
	ram = large_alloc();
}

static void end(void)
{
	large_free(ram);
	partition_gone(id);
}

static void map_4k(void)
{
	begin(10);
	EXPECT(slat_flags(id, 7), UNMAPPED);
	EXPECT(map_run(id, 7, (u64)ram, 3, MAP_RWX), 3ull << 32);
	EXPECT(slat_flags(id, 6), UNMAPPED);
	EXPECT(slat_flags(id, 7), SLAT_RWX);
	EXPECT(slat_spa(id, 9), (u64)ram + 2 * PAGE_SIZE);
	EXPECT(slat_flags(id, 10), UNMAPPED);
	/* a second mapping supersedes the first */
	EXPECT(map_run(id, 8, (u64)ram + 64 * PAGE_SIZE, 1, HV_MAP_GPA_READABLE),
	       1ull << 32);
	EXPECT(slat_flags(id, 8), SLAT_R);
	EXPECT(slat_spa(id, 8), (u64)ram + 64 * PAGE_SIZE);
	EXPECT(unmap(id, 7, 2, 0), 2ull << 32);
	EXPECT(slat_flags(id, 8), UNMAPPED);
	EXPECT(slat_flags(id, 9), SLAT_RWX);
	end();
}

static void permissions(void)
{
	static const struct {
		u32 map, slat;
	} good[] = {
		{ 0x1, SLAT_R }, { 0x3, SLAT_R | SLAT_W },
		{ 0xd, SLAT_R | SLAT_X }, { 0xf, SLAT_RWX },
		{ 0x800f, SLAT_RWX }, { 0x20000f, SLAT_RWX | SLAT_UNCACHED },
		{ 0x0, SLAT_NO_ACCESS }, { 0x1000f, SLAT_NO_ACCESS },
		{ 0x10000, SLAT_NO_ACCESS }, { 0x18000, SLAT_NO_ACCESS },
	};
	static const u32 bad[] = { 0x2, 0x4, 0x5, 0x8, 0x9, 0xc, 0xe };
	const u32 valid = 0x8021800fu;
	u32 i;

	begin(10);
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		test_case(good[i].map);
		EXPECT(map_run(id, i, (u64)ram, 1, good[i].map), 1ull << 32);
		EXPECT(slat_flags(id, i), good[i].slat);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(bad[i]);
		EXPECT(map_run(id, 0, (u64)ram, 1, bad[i]),
		       HV_STATUS_INVALID_PARAMETER);
	}
	for (i = 0; i < 32; i++) {
		test_case(i);
		if (!(valid >> i & 1))
			EXPECT(map_run(id, 0, (u64)ram, 1, 0xf | 1u << i),
			       HV_STATUS_INVALID_PARAMETER);
		if (i != 1)
			EXPECT(unmap(id, 0, 1, 1u << i),
			       HV_STATUS_INVALID_PARAMETER);
	}
	EXPECT(slat_flags(id, 0), SLAT_R);
	end();
}

static void sources(void)
{
	u64 other = partition_ready(10), *in = this_cpu()->in;
	u64 deposited = (u64)page_alloc();
	const u64 denied[] = { deposited, HV_IMAGE, PAGE_MSR(MSR_HV_SIMP) };
	u32 i;

	in[0] = other;
	in[1] = deposited >> 12;
	hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 1), in, NULL);
	begin(10);
	for (i = 0; i < ARRAY_SIZE(denied); i++) {
		const void *list[] = { ram, ram + PAGE_SIZE, (void *)denied[i], ram };

		test_case(i);
		EXPECT(map_pages(id, 8 * i, list, 4, MAP_RWX),
		       HV_STATUS_OPERATION_DENIED | 2ull << 32);
		EXPECT(slat_flags(id, 8 * i + 1), SLAT_RWX);
		EXPECT(slat_flags(id, 8 * i + 2), UNMAPPED);
		EXPECT(map_run(id, 512 * i, denied[i] & ~(MB2 - 1), 1,
			       MAP_RWX | LARGE), HV_STATUS_OPERATION_DENIED);
	}
	/* device memory is no RAM but can be mapped; beyond 48 bits nothing can */
	EXPECT(map_run(id, 100, 0xfee00000, 1, MAP_RWX), 1ull << 32);
	EXPECT(map_run(id, 101, DEVICE, 1, MAP_RWX), 1ull << 32);
	EXPECT(map_run(id, 102, GFN_LIMIT << 12, 1, MAP_RWX),
	       HV_STATUS_INVALID_PARAMETER);
	/* a page may be in two partitions */
	EXPECT(map_run(other, 0, (u64)ram, 1, MAP_RWX), 1ull << 32);
	end();
	partition_gone(other);
}

static void limits(void)
{
	const u64 list[] = { GFN_LIMIT, ~0ull, 1ull << 52 };
	u8 *states = page_alloc();
	u32 i;

	begin(20);
	for (i = 0; i < ARRAY_SIZE(list); i++) {
		test_case(i);
		EXPECT(map_run(id, list[i], (u64)ram, 1, MAP_RWX),
		       HV_STATUS_INVALID_PARAMETER);
		EXPECT(unmap(id, list[i], 1, 0), HV_STATUS_INVALID_PARAMETER);
		EXPECT(access_states(id, list[i], 1, 0, states),
		       HV_STATUS_INVALID_PARAMETER);
	}
	EXPECT(map_run(id, GFN_LIMIT - 2, (u64)ram, 3, MAP_RWX),
	       HV_STATUS_INVALID_PARAMETER | 2ull << 32);
	EXPECT(slat_spa(id, GFN_LIMIT - 1), (u64)ram + PAGE_SIZE);
	EXPECT(unmap(id, GFN_LIMIT - 2, 3, 0),
	       HV_STATUS_INVALID_PARAMETER | 2ull << 32);
	EXPECT(slat_flags(id, GFN_LIMIT - 1), UNMAPPED);
	EXPECT(map_run(id, GFN_LIMIT - 512, (u64)ram, 2, MAP_RWX | LARGE),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	end();
	page_free(states);
}

/* The most repetitions that fit in a page, and one more. */
static void counts(void)
{
	u8 *states = page_alloc();
	u64 *in = this_cpu()->in;

	begin(30);
	EXPECT(map_run(id, 0, DEVICE, 509, MAP_RWX), 509ull << 32);
	in[0] = id;
	EXPECT(hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, 510), in, NULL),
	       HV_STATUS_INVALID_HYPERCALL_INPUT);
	EXPECT(hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, 0), in, NULL),
	       HV_STATUS_INVALID_HYPERCALL_INPUT);
	EXPECT(access_states(id, 0, 509, 0, states), 509ull << 32);
	EXPECT(map_run(id, 0, DEVICE, 8, MAP_RWX | LARGE), 8ull << 32);
	EXPECT(access_states(id, 1, 4095, 0, states), 4095ull << 32);
	/* a 4K unmap splits the eighth entry, and goes on past the end */
	EXPECT(unmap(id, 1, 4095, 0), 4095ull << 32);
	EXPECT(slat_flags(id, 0), SLAT_RWX);
	EXPECT(slat_flags(id, 1), UNMAPPED);
	EXPECT(slat_flags(id, 4095), UNMAPPED);
	end();
	page_free(states);
}

static void large_alignment(void)
{
	u64 *in = this_cpu()->in, other;

	begin(20);
	other = (u64)large_alloc();
	EXPECT(map_run(id, 1, (u64)ram, 1, MAP_RWX | LARGE),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(map_run(id, 1, 0, 1, NO_ACCESS | LARGE),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(unmap(id, 1, 1, HV_UNMAP_GPA_LARGE_PAGE),
	       HV_STATUS_INVALID_PARAMETER);
	in[0] = id;
	in[1] = 512;
	in[2] = MAP_RWX | LARGE;
	in[3] = (u64)ram >> 12;
	in[4] = (other >> 12) + 1;
	in[5] = other >> 12;
	EXPECT(hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, 3), in, NULL),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	EXPECT(slat_flags(id, 512), SLAT_RWX | SLAT_2M);
	EXPECT(slat_spa(id, 1023), (u64)ram + 511 * PAGE_SIZE);
	EXPECT(slat_flags(id, 1024), UNMAPPED);
	large_free((void *)other);
	end();
}

static void split_and_replace(void)
{
	u64 used;

	begin(20);
	EXPECT(map_run(id, 512, (u64)ram, 1, MAP_RWX | LARGE), 1ull << 32);
	used = pool_in_use(id);
	/* a 4K change inside takes a page and keeps the other 511 */
	EXPECT(map_run(id, 600, 0, 1, NO_ACCESS), 1ull << 32);
	EXPECT(pool_in_use(id), used + 1);
	EXPECT(slat_flags(id, 600), SLAT_NO_ACCESS);
	EXPECT(slat_flags(id, 599), SLAT_RWX);
	EXPECT(slat_spa(id, 1023), (u64)ram + 511 * PAGE_SIZE);
	EXPECT(unmap(id, 512, 1, 0), 1ull << 32);
	EXPECT(slat_flags(id, 512), UNMAPPED);
	/* a large entry replaces the table, whose page comes back */
	EXPECT(map_run(id, 512, (u64)ram, 1, MAP_RWX | LARGE), 1ull << 32);
	EXPECT(pool_in_use(id), used);
	EXPECT(slat_flags(id, 600), SLAT_RWX | SLAT_2M);
	/* no-access, whole and in part */
	EXPECT(map_run(id, 512, 0, 1, NO_ACCESS | LARGE), 1ull << 32);
	EXPECT(slat_flags(id, 700), SLAT_NO_ACCESS | SLAT_2M);
	EXPECT(map_run(id, 700, (u64)ram, 1, MAP_RWX), 1ull << 32);
	EXPECT(slat_flags(id, 700), SLAT_RWX);
	EXPECT(slat_flags(id, 701), SLAT_NO_ACCESS);
	EXPECT(unmap(id, 512, 1, HV_UNMAP_GPA_LARGE_PAGE), 1ull << 32);
	EXPECT(slat_flags(id, 700), UNMAPPED);
	EXPECT(slat_flags(id, 701), UNMAPPED);
	EXPECT(pool_in_use(id), used);
	EXPECT(unmap(id, 0, 64, HV_UNMAP_GPA_LARGE_PAGE), 64ull << 32);
	end();
}

static void split_needs_memory(void)
{
	begin(20);
	EXPECT(map_run(id, 512, (u64)ram, 1, MAP_RWX | LARGE), 1ull << 32);
	set_dry(id, ~0ull);
	EXPECT(map_run(id, 600, (u64)ram, 1, MAP_RWX),
	       HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(map_run(id, 600, 0, 1, NO_ACCESS), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(unmap(id, 600, 1, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(slat_flags(id, 600), SLAT_RWX | SLAT_2M);
	/* the whole entry can go */
	EXPECT(map_run(id, 512, 0, 1, NO_ACCESS | LARGE), 1ull << 32);
	EXPECT(unmap(id, 512, 1, HV_UNMAP_GPA_LARGE_PAGE), 1ull << 32);
	EXPECT(slat_flags(id, 600), UNMAPPED);
	end();
}

static void split_free(void)
{
	begin(20);
	option(OPTION_SPLIT, 1);
	EXPECT(map_run(id, 512, (u64)ram, 1, MAP_RWX | LARGE), 1ull << 32);
	set_dry(id, ~0ull);
	EXPECT(unmap(id, 600, 1, 0), 1ull << 32);
	EXPECT(slat_flags(id, 600), UNMAPPED);
	EXPECT(slat_flags(id, 601), SLAT_RWX);
	end();
}

static void unmap_memory(void)
{
	begin(20);
	EXPECT(map_run(id, 0, (u64)ram, 4, MAP_RWX), 4ull << 32);
	set_dry(id, ~0ull);
	EXPECT(unmap(id, 0, 1, 0), 1ull << 32);
	option(OPTION_UNMAP_MEMORY, 1);
	EXPECT(unmap(id, 1, 3, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(slat_flags(id, 1), SLAT_RWX);
	set_dry(id, 0);
	EXPECT(unmap(id, 1, 3, 0), 3ull << 32);
	EXPECT(slat_flags(id, 1), UNMAPPED);
	end();
}

static void large_over_4k(void)
{
	begin(20);
	EXPECT(map_run(id, 1029, (u64)ram, 1, MAP_RWX), 1ull << 32);
	option(OPTION_LARGE_OVER_4K, 1);
	/* progress up to the range that has 4K entries */
	EXPECT(map_run(id, 512, DEVICE, 2, MAP_RWX | LARGE),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	EXPECT(map_run(id, 512, 0, 2, NO_ACCESS | LARGE),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	EXPECT(unmap(id, 512, 2, HV_UNMAP_GPA_LARGE_PAGE),
	       HV_STATUS_INVALID_PARAMETER | 1ull << 32);
	EXPECT(slat_flags(id, 1029), SLAT_RWX);
	EXPECT(unmap(id, 1029, 1, 0), 1ull << 32);
	EXPECT(map_run(id, 512, DEVICE, 2, MAP_RWX | LARGE), 2ull << 32);
	end();
}

/* 512 consecutive 2 MiB maps; the last one makes them one entry. */
static void map_1g(u64 first, u32 n)
{
	u32 i;

	for (i = first; i < first + n; i += 128)
		EXPECT(map_run(id, (512 + i) * 512, DEVICE + i * MB2, 128,
			       MAP_RWX | LARGE), 128ull << 32);
}

static void coalescing(void)
{
	const u64 gfn = 512 * 512;
	u64 used;

	if (!has_1g()) {
		test_skip("the CPU has no 1 GiB pages");
		return;
	}
	begin(20);
	map_1g(0, 384);
	used = pool_in_use(id);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_2M);
	map_1g(384, 128);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_1G);
	EXPECT(slat_spa(id, gfn + 262143), DEVICE + GB1 - PAGE_SIZE);
	EXPECT(pool_in_use(id), used - 1);
	/* a 2M no-access splits once, a 4K unmap twice */
	EXPECT(map_run(id, gfn + 512, 0, 1, NO_ACCESS | LARGE), 1ull << 32);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 512), SLAT_NO_ACCESS | SLAT_2M);
	EXPECT(pool_in_use(id), used);
	EXPECT(map_run(id, gfn + 512, DEVICE + MB2, 1, MAP_RWX | LARGE),
	       1ull << 32);
	EXPECT(slat_flags(id, gfn + 512), SLAT_RWX | SLAT_1G);
	EXPECT(unmap(id, gfn + 1025, 1, 0), 1ull << 32);
	EXPECT(pool_in_use(id), used + 1);
	EXPECT(slat_flags(id, gfn + 1024), SLAT_RWX);
	EXPECT(slat_flags(id, gfn + 1025), UNMAPPED);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_2M);
	EXPECT(slat_spa(id, gfn + 262143), DEVICE + GB1 - PAGE_SIZE);
	end();
}

/* Those of its entries of 2M that have any. */
static void coalesced_access_bits(void)
{
	const u32 both = SLAT_RWX | SLAT_ACCESSED | SLAT_DIRTY;
	const u64 gfn = 512 * 512;
	u8 *s = page_alloc();
	u32 i;

	if (!has_1g()) {
		test_skip("the CPU has no 1 GiB pages");
		page_free(s);
		return;
	}
	begin(20);
	map_1g(0, 384);
	EXPECT(access_states(id, gfn + 5 * 512, 1, SET_A | SET_D, s), 1ull << 32);
	map_1g(384, 128);
	EXPECT(slat_flags(id, gfn), both | SLAT_1G);
	/* no 2M of it are covered, or there is no page to split it */
	EXPECT(access_states(id, gfn + 1, 1022, CLEAR_A | CLEAR_D, s), 1022ull << 32);
	EXPECT(slat_flags(id, gfn), both | SLAT_1G);
	set_dry(id, ~0ull);
	EXPECT(access_states(id, gfn, 1024, CLEAR_A | CLEAR_D, s), 1024ull << 32);
	EXPECT(slat_flags(id, gfn), both | SLAT_1G);
	set_dry(id, 0);
	/* 2M each that are covered are cleared, and what is not is not */
	EXPECT(access_states(id, gfn + 100, 3000, CLEAR_A | CLEAR_D, s), 3000ull << 32);
	for (i = 0; i < 3000; i++)
		EXPECT(s[i], 3);
	EXPECT(slat_flags(id, gfn), both | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 512), SLAT_RWX | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 3071), SLAT_RWX | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 3072), both | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 262143), both | SLAT_2M);
	EXPECT(access_states(id, gfn + 100, 3000, 0, s), 3000ull << 32);
	for (i = 0; i < 3000; i++) {
		test_case(i);
		EXPECT(s[i], i < 412 || i >= 2972 ? 3 : 0);
	}
	/* a call sets bits in the part that it does not cover, too */
	EXPECT(unmap(id, gfn, 512, HV_UNMAP_GPA_LARGE_PAGE), 512ull << 32);
	map_1g(0, 512);
	EXPECT(access_states(id, gfn, 1, SET_A, s), 1ull << 32);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_ACCESSED | SLAT_1G);
	EXPECT(access_states(id, gfn + 262144 - 600, 600, CLEAR_A | SET_D, s),
	       600ull << 32);
	EXPECT(slat_flags(id, gfn), SLAT_RWX | SLAT_ACCESSED | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 262144 - 600), both | SLAT_2M);
	EXPECT(slat_flags(id, gfn + 262143), SLAT_RWX | SLAT_DIRTY | SLAT_2M);
	end();
	page_free(s);
}

static void no_coalescing(void)
{
	begin(20);
	option(OPTION_COALESCE, 1);
	map_1g(0, 512);
	EXPECT(slat_flags(id, 512 * 512), SLAT_RWX | SLAT_2M);
	option(OPTION_COALESCE, 0);
	/* not what differs in permission or is not consecutive */
	EXPECT(map_run(id, 512 * 512, DEVICE, 1, HV_MAP_GPA_READABLE | LARGE),
	       1ull << 32);
	EXPECT(slat_flags(id, 512 * 512), SLAT_R | SLAT_2M);
	EXPECT(map_run(id, 512 * 512, DEVICE + MB2, 1, MAP_RWX | LARGE),
	       1ull << 32);
	EXPECT(slat_flags(id, 512 * 512), SLAT_RWX | SLAT_2M);
	end();
}

GUEST(guest_touch,
	"movq (%rbx), %rax\n"
	"movq %rcx, (%rdi)\n"
	"hlt");

static void touch(struct child *c, u64 read, u64 write)
{
	reg_set(c->id, 0, REG_RIP, GUEST_CODE);
	reg_set(c->id, 0, REG_RBX, read);
	reg_set(c->id, 0, REG_RDI, write);
	EXPECT(child_expect(c, 0), HVMSG_X64_HALT);
}

static void access_bits(void)
{
	struct child c;
	u8 s[8];

	child_create(&c, 1);
	CHILD_CODE(&c, guest_touch);
	EXPECT(access_states(c.id, 0x40, 4, 0, s), 4ull << 32);
	EXPECT(s[0] | s[1] | s[2] | s[3], 0);
	touch(&c, 0x41000, 0x42000);
	EXPECT(access_states(c.id, 0x40, 4, CLEAR_A | CLEAR_D, s), 4ull << 32);
	EXPECT(s[0] | s[3], 0);
	EXPECT(s[1], 1);
	EXPECT(s[2], 3);
	EXPECT(access_states(c.id, 0x40, 4, 0, s), 4ull << 32);
	EXPECT(s[1] | s[2], 0);
	/* cleared means that the next access sets them again */
	touch(&c, 0x42000, 0x41000);
	EXPECT(access_states(c.id, 0x40, 4, CLEAR_D, s), 4ull << 32);
	EXPECT(s[1], 3);
	EXPECT(s[2], 1);
	EXPECT(access_states(c.id, 0x40, 4, SET_D, s), 4ull << 32);
	EXPECT(s[1], 1);
	EXPECT(s[0], 0);
	EXPECT(access_states(c.id, 0x40, 4, SET_A, s), 4ull << 32);
	EXPECT(s[0], 2);
	EXPECT(slat_flags(c.id, 0x40), SLAT_RWX | SLAT_ACCESSED | SLAT_DIRTY);
	/* contradictory, reserved, unmapped */
	EXPECT(access_states(c.id, 0x40, 1, SET_A | CLEAR_A, s),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(access_states(c.id, 0x40, 1, SET_D | CLEAR_D, s),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(access_states(c.id, 0x40, 1, 16, s), HV_STATUS_INVALID_PARAMETER);
	EXPECT(access_states(c.id, 510, 4, 0, s),
	       HV_STATUS_INVALID_PARAMETER | 2ull << 32);
	child_delete(&c);
}

/* One pair of bits for 512 pages: over-reported rather than lost. */
static void large_access_bits(void)
{
	u8 *s = page_alloc(), *block = large_alloc();
	struct child c;
	u32 i;

	child_create(&c, 1);
	CHILD_CODE(&c, guest_touch);
	EXPECT(map_run(c.id, 512, (u64)block, 1, MAP_RWX | LARGE), 1ull << 32);
	touch(&c, 0x200000, 0x234000);
	EXPECT(access_states(c.id, 512, 10, CLEAR_A | CLEAR_D, s), 10ull << 32);
	EXPECT(slat_flags(c.id, 600), SLAT_RWX | SLAT_2M | SLAT_ACCESSED | SLAT_DIRTY);
	EXPECT(access_states(c.id, 512, 512, CLEAR_A | CLEAR_D, s), 512ull << 32);
	for (i = 0; i < 512; i++)
		EXPECT(s[i], 3);
	EXPECT(slat_flags(c.id, 600), SLAT_RWX | SLAT_2M);
	/* a split hands the bits down */
	touch(&c, 0x200000, 0x234000);
	EXPECT(unmap(c.id, 513, 1, 0), 1ull << 32);
	EXPECT(slat_flags(c.id, 512), SLAT_RWX | SLAT_ACCESSED | SLAT_DIRTY);
	child_delete(&c);
	large_free(block);
	page_free(s);
}

static void remap_ad(void)
{
	u32 clear, ad;
	struct child c;

	child_create(&c, 1);
	CHILD_CODE(&c, guest_touch);
	for (clear = 0; clear < 2; clear++) {
		test_case(clear);
		option(OPTION_REMAP_AD, clear);
		ad = clear ? 0 : SLAT_ACCESSED | SLAT_DIRTY;
		touch(&c, 0x41000, 0x41000);
		touch(&c, 0x42000, 0x42000);
		EXPECT(map_run(c.id, 0x41, 0, 1, NO_ACCESS), 1ull << 32);
		EXPECT(slat_flags(c.id, 0x41), SLAT_NO_ACCESS | ad);
		EXPECT(map_run(c.id, 0x42, (u64)c.ram + 0x80000, 1, MAP_RWX),
		       1ull << 32);
		EXPECT(slat_flags(c.id, 0x42), SLAT_RWX | ad);
		/* an unmapped GFN has no state that could be kept */
		EXPECT(unmap(c.id, 0x41, 2, 0), 2ull << 32);
		EXPECT(map_run(c.id, 0x41, (u64)c.ram + 0x41000, 2, MAP_RWX),
		       2ull << 32);
		EXPECT(slat_flags(c.id, 0x41), SLAT_RWX);
	}
	child_delete(&c);
}

struct audit_entry {
	u64 gfn, spa;
	u32 pages, flags;
};

static void audit(void)
{
	const u64 spa = DEVICE;
	const struct audit_entry wanted[] = {
		{ 3, spa, 4, SLAT_RWX },
		{ 7, spa + 4 * PAGE_SIZE, 1, SLAT_R },
		{ 8, spa, 1, SLAT_R },
		{ 600, 0, 8, SLAT_NO_ACCESS },
		{ 1024, spa, 1024, SLAT_RWX | SLAT_2M },
		{ GFN_LIMIT - 1, spa, 1, SLAT_RWX },
	};
	struct audit_entry *seen;
	struct oracle o;
	u8 *buffer;
	u32 i;

	begin(20);
	buffer = large_alloc();
	seen = (void *)(buffer + PAGE_SIZE - 60);	/* crosses a page */
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		u32 f = wanted[i].flags, n = wanted[i].pages;

		EXPECT(STATUS(map_run(id, wanted[i].gfn, wanted[i].spa,
				      f & SLAT_2M ? n / 512 : n,
				      (f & SLAT_RWX) | (f & SLAT_2M ? LARGE : 0) |
				      (f & SLAT_NO_ACCESS ? NO_ACCESS : 0))), 0);
	}
	o = (struct oracle){ { id, 0, ~0ull, (u64)seen, 100 } };
	EXPECT(oracle(ORACLE_AUDIT, &o), 0);
	EXPECT(o.a[0], ARRAY_SIZE(wanted));
	EXPECT(o.a[1], ~0ull);
	EXPECT(memcmp(seen, wanted, sizeof(wanted)), 0);
	/* in portions; a range; a bad buffer */
	o = (struct oracle){ { id, 0, ~0ull, (u64)seen, 2 } };
	EXPECT(oracle(ORACLE_AUDIT, &o), 0);
	EXPECT(o.a[0], 2);
	EXPECT(o.a[1], 8);
	o = (struct oracle){ { id, 1100, 1100, (u64)seen, 100 } };
	EXPECT(oracle(ORACLE_AUDIT, &o), 0);
	EXPECT(o.a[0], 1);
	EXPECT(seen->gfn, 1024);
	EXPECT(seen->flags, SLAT_RWX | SLAT_2M);
	o = (struct oracle){ { id, 0, ~0ull, HV_IMAGE, 100 } };
	EXPECT(oracle(ORACLE_AUDIT, &o), -14);
	o = (struct oracle){ { 77, 0, ~0ull, (u64)seen, 100 } };
	EXPECT(oracle(ORACLE_AUDIT, &o), -2);
	EXPECT(slat_flags(77, 0), UNMAPPED);
	large_free(buffer);
	end();
}

static const struct test tests[] = {
	{ "a 4K map gives the GFN its page and supersedes the old one", map_4k },
	{ "map permissions arrive in the SLAT; reserved flags are refused", permissions },
	{ "deposited and hypervisor pages cannot be mapped", sources },
	{ "GFNs end at 48 bits", limits },
	{ "a call takes as many repetitions as its page holds", counts },
	{ "a large map or unmap that is not aligned fails with progress", large_alignment },
	{ "large entries split for 4K changes and replace 4K entries", split_and_replace },
	{ "a split needs a page of the pool and changes nothing without", split_needs_memory },
	{ "with split=free a shortage does not stop a split", split_free },
	{ "with unmap-memory=yes an unmap needs a free page", unmap_memory },
	{ "with large-over-4k=refuse 4K entries stop a large call", large_over_4k },
	{ "512 aligned 2M maps become a 1G entry, which splits again", coalescing },
	{ "a 1G entry has the A/D bits of its parts, which can be cleared", coalesced_access_bits },
	{ "2M entries that differ, or coalesce=no, stay 2M entries", no_coalescing },
	{ "access states tell, clear and set accessed and dirty", access_bits },
	{ "clearing part of a large entry's states loses nothing", large_access_bits },
	{ "accessed and dirty survive a remap unless remap-ad=clear", remap_ad },
	{ "the audit lists every entry once, in order", audit },
};

void test_slat(void)
{
	RUN(tests);
}
