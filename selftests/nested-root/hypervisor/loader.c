// SPDX-License-Identifier: GPL-2.0
/*
 * From multiboot's modules to a root kernel ready to run: module 0 is a bzImage
 * (or a payload that looks like one) whose string is the kernel command line,
 * module 1 an initramfs.
 *
 * Low memory of the root, below 640 KiB:
 *   0x10000 boot_params, 0x20000 command line, 0x30000 page tables (64 KiB and
 *   two pages), 0x7f000 GDT
 */
#include "hv.h"

#define MB_FLAG_CMDLINE	BIT(2)
#define MB_FLAG_MODS	BIT(3)
#define MB_FLAG_MMAP	BIT(6)
#define BOOT_PARAMS	0x10000ull
#define ROOT_CMDLINE	0x20000ull
#define ROOT_TABLES	0x30000ull
#define ROOT_GDT	0x7f000ull
#define ROOT_STACK	0x7f000ull
#define KERNEL_BASE	0x1000000ull
#define ROOT_MAP_GB	16
#define MAX_CMDLINE	2047
#define E820_MAX	128
#define E820_RAM	1
#define E820_RESERVED	2
#define SETUP_HEADER	0x1f1

struct mb_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline;
	u32 mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
};

struct mb_module {
	u32 start, end, string, rsvd;
};

struct mb_mmap {
	u32 size;
	u64 base, length;
	u32 type;
} __packed;

struct e820_entry {
	u64 base, length;
	u32 type;
} __packed;

typedef void (*range_fn)(const struct mb_mmap *m, void *arg);

static struct mb_module modules[2];
static u64 heap_base, heap_size;

/* Calls fn for each entry of the firmware's memory map. */
static void walk_ranges(struct mb_info *mb, range_fn fn, void *arg)
{
	u64 p = mb->mmap_addr, end = p + mb->mmap_length;

	while (p < end) {
		struct mb_mmap *m = (void *)p;

		fn(m, arg);
		p += m->size + 4;
	}
}

static void find_top(const struct mb_mmap *m, void *arg)
{
	u64 *low_top = arg, end = m->base + m->length;

	if (m->type != E820_RAM)
		return;
	if (end > ram_top)
		ram_top = end;
	if (end <= 1ull << 32 && end > *low_top)
		*low_top = end;
}

static void mark_ram(const struct mb_mmap *m, void *arg)
{
	u64 spa = (m->base + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

	if (m->type != E820_RAM)
		return;
	for (; spa + PAGE_SIZE <= m->base + m->length; spa += PAGE_SIZE)
		page_info[spa >> PAGE_SHIFT].kind = PAGE_ROOT;
}

static void mark_hypervisor(u64 from, u64 to)
{
	for (; from < to; from += PAGE_SIZE)
		page_info[from >> PAGE_SHIFT].kind = PAGE_HYPERVISOR;
}

static const char *skip_word(const char *s)
{
	while (*s && *s != ' ')
		s++;
	while (*s == ' ')
		s++;
	return s;
}

/*
 * Carves the heap from the top of low RAM: page_info, the root's tables at
 * worst, and 8 MiB for everything else. Moves the initramfs below it.
 * Returns the hypervisor's own parameters.
 */
u64 loader_init(u32 info)
{
	struct mb_info *mb = (void *)(u64)info;
	u64 low_top = 0, size;
	u64 i;

	if (!(mb->flags & MB_FLAG_MODS) || !mb->mods_count)
		hv_stop("no root kernel: give one with -initrd \"bzImage args,initramfs\"");
	if (!(mb->flags & MB_FLAG_MMAP))
		hv_stop("the boot loader gave no memory map");
	for (i = 0; i < mb->mods_count && i < 2; i++)
		modules[i] = ((struct mb_module *)(u64)mb->mods_addr)[i];
	walk_ranges(mb, find_top, &low_top);
	if (ram_top > (u64)ROOT_MAP_GB << 30)
		hv_stop("RAM above %u GiB is not supported", ROOT_MAP_GB);

	size = (8ull << 20) + (ram_top >> PAGE_SHIFT) * sizeof(struct page_info) +
	       (ram_top >> 21) * PAGE_SIZE;
	low_top &= ~((2ull << 20) - 1);
	heap_size = (size + (2ull << 20) - 1) & ~((2ull << 20) - 1);
	heap_base = low_top - heap_size;

	size = modules[1].end - modules[1].start;
	if (heap_base < size + (64ull << 20))
		hv_stop("not enough memory: %llu MiB below 4 GiB", low_top >> 20);
	if (size) {
		u64 to = (heap_base - size) & ~(PAGE_SIZE - 1);

		memmove((void *)to, (void *)(u64)modules[1].start, size);
		modules[1].start = to;
		modules[1].end = to + size;
	}
	mem_init(heap_base, heap_size);
	for (i = 0; i < ram_top >> PAGE_SHIFT; i++)
		page_info[i].kind = PAGE_NOT_RAM;
	walk_ranges(mb, mark_ram, NULL);
	mark_hypervisor((u64)hv_image_start, (u64)hv_image_start + (2ull << 20));
	mark_hypervisor(heap_base, heap_base + heap_size);
	/* mb->cmdline begins with the name of the image */
	return mb->flags & MB_FLAG_CMDLINE ?
	       (u64)skip_word((const char *)(u64)mb->cmdline) : (u64)"";
}

struct e820_list {
	struct e820_entry *entry;
	u32 count;
};

static void e820_add(struct e820_list *l, u64 from, u64 to, u32 type)
{
	if (from >= to || l->count == E820_MAX)
		return;
	l->entry[l->count++] = (struct e820_entry){ from, to - from, type };
}

/* Cuts the hypervisor's image and heap out of RAM. */
static void add_range(const struct mb_mmap *m, void *arg)
{
	u64 cut[2][2] = {
		{ (u64)hv_image_start, (u64)hv_image_start + (2ull << 20) },
		{ heap_base, heap_base + heap_size },
	};
	u64 from = m->base, end = m->base + m->length;
	u32 i;

	for (i = 0; i < 2 && m->type == E820_RAM; i++) {
		if (cut[i][1] <= from || cut[i][0] >= end)
			continue;
		e820_add(arg, from, cut[i][0], E820_RAM);
		e820_add(arg, cut[i][0], cut[i][1], E820_RESERVED);
		from = cut[i][1];
	}
	e820_add(arg, from, end, m->type);
}

static void make_tables(void)
{
	u64 *pml4 = (void *)ROOT_TABLES, *pdpt = pml4 + 512, *pd = pdpt + 512;
	u64 *gdt = (void *)ROOT_GDT;
	u32 i;

	memset(pml4, 0, 2 * PAGE_SIZE);
	pml4[0] = (u64)pdpt | 3;
	for (i = 0; i < ROOT_MAP_GB; i++)
		pdpt[i] = (u64)(pd + 512 * i) | 3;
	for (i = 0; i < ROOT_MAP_GB * 512; i++)
		pd[i] = (u64)i << 21 | 0x83;
	gdt[0] = 0;
	gdt[1] = 0;
	gdt[2] = 0x00af9b000000ffffull;
	gdt[3] = 0x00cf93000000ffffull;
}

void loader_boot(u32 info)
{
	struct mb_info *mb = (void *)(u64)info;
	u8 *image = (void *)(u64)modules[0].start;
	u8 *bp = (void *)BOOT_PARAMS;
	u64 size = modules[0].end - modules[0].start;
	const char *cmdline = skip_word((const char *)(u64)modules[0].string);
	struct e820_list list = { (void *)(bp + 0x2d0), 0 };
	u64 setup, length = strlen(cmdline);
	u32 *p;

	if (size < 0x1000 || memcmp(image + 0x202, "HdrS", 4) ||
	    *(u16 *)(image + 0x206) < 0x20c || !(image[0x236] & 1))
		hv_stop("the first module is not a 64-bit bzImage");
	if (length > MAX_CMDLINE)
		hv_stop("root command line is longer than %u bytes", MAX_CMDLINE);
	memset(bp, 0, PAGE_SIZE);
	/* The setup header ends where the jump at 0x200 leads to. */
	memcpy(bp + SETUP_HEADER, image + SETUP_HEADER,
	       0x202 + image[0x201] - SETUP_HEADER);
	memcpy((void *)ROOT_CMDLINE, cmdline, length + 1);
	setup = (image[SETUP_HEADER] ? image[SETUP_HEADER] : 4) * 512 + 512;
	memmove((void *)KERNEL_BASE, image + setup, size - setup);

	walk_ranges(mb, add_range, &list);
	bp[0x1e8] = list.count;
	bp[0x210] = 0xff;			/* loader: unknown */
	p = (u32 *)(bp + 0x214);		/* code32_start */
	*p = KERNEL_BASE;
	*(u32 *)(bp + 0x228) = ROOT_CMDLINE;
	if (modules[1].end) {
		*(u32 *)(bp + 0x218) = modules[1].start;
		*(u32 *)(bp + 0x21c) = modules[1].end - modules[1].start;
	}
	make_tables();
	root_enter_bsp(KERNEL_BASE + 0x200, BOOT_PARAMS, ROOT_TABLES, ROOT_GDT,
		       ROOT_STACK);
}
