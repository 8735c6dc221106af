// SPDX-License-Identifier: GPL-2.0
/*
 * How guest memory behaves, in answers of yes and no: what every kernel that
 * mshv_bench compares is asked. Yes is what a VMM would like to hear.
 *
 * Each question is a process of its own and prints a line: ANSWER, the question,
 * and "yes", "no", "pinned" where the question makes no sense because RAM of the
 * guest is pinned, or why it is not known.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mshv_bench.h"
#include "mshv_util.h"

#define QUESTION_SECONDS	60
/* What the guest does takes less, if it comes to an end */
#define GUEST_MSEC		10000
/* The page that something happens to */
#define PAGE			100
#define GPA(_page)		(TEST_GPA + (_page) * PAGE_SIZE)
#define MTHP			"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"
#define MTHP_PAGES		16UL

struct question {
	const char *name;
	const char *(*ask)(void);
	bool movable;		/* of RAM that is not pinned */
};

static struct mshv_pt pt;
static u8 *mem;
static size_t pages;
static char swap[SWAP_NAME];

static const char *answer(bool yes)
{
	return yes ? "yes" : "no";
}

static bool alloc(enum mshv_backing backing, size_t nr)
{
	mshv_pt_init(&pt);
	pages = nr;
	mem = mshv_alloc(backing, pages * PAGE_SIZE);
	return mem && !mshv_pt_setup(&pt, 1);
}

static bool create_region(u8 flags)
{
	return !mshv_map(&pt, TEST_GFN, mem, pages * PAGE_SIZE, flags);
}

static void fill(u64 seed)
{
	size_t i;

	for (i = 0; i < pages; i++)
		*quad(mem, i) = seed + i;
}

static bool intact(u64 seed)
{
	return !mismatches(mem, pages, seed);
}

/* The message that a command of the guest ends with, or 0 if it does not end */
static long guest_does(const char *command, struct guest_args args, u64 *result)
{
	static struct guest_thread thread;
	const u64 start = now_ms();

	if (guest_thread_start(&thread, &pt.vp[0], command, args))
		return 0;
	while (!READ_ONCE(thread.ended)) {
		if (now_ms() - start > GUEST_MSEC)
			return 0;
		usleep(1000);
	}
	if (result)
		*result = thread.rax;
	return guest_thread_join(&thread);
}

static bool guest_fills(u64 seed)
{
	return guest_does(guest_fill, GUEST_ARGS(.rdi = TEST_GPA, .rsi = pages,
						 .rdx = seed), NULL) ==
	       HVMSG_X64_HALT;
}

static bool guest_writes(size_t page, u64 value)
{
	return guest_does(guest_write, GUEST_ARGS(.rdi = GPA(page), .rsi = value),
			  NULL) == HVMSG_X64_HALT;
}

/* Does the guest find this? */
static bool guest_reads(size_t page, u64 value)
{
	u64 found = ~value;

	return guest_does(guest_read, GUEST_ARGS(.rdi = GPA(page)), &found) ==
	       HVMSG_X64_HALT && found == value;
}

/* Some of it at least */
static bool page_out(void)
{
	size_t i;

	madvise(mem, pages * PAGE_SIZE, MADV_PAGEOUT);
	for (i = 0; i < pages; i++)
		if (!page_pfn(quad(mem, i)))
			return true;
	return false;
}

/* Clean pages that the VMM may write without a fault */
static const char *memfd_keeps_writes(void)
{
	need(swap_start(swap), "swap");
	need(alloc(BACKING_MEMFD, 256), "memfd");
	need(!madvise(mem, pages * PAGE_SIZE, MADV_POPULATE_READ), "MADV_POPULATE_READ");
	need(create_region(MEM_RWX), "a region");
	need(guest_fills(VALUE), "a guest that can write");
	need(page_out(), "pages that are paged out");
	return answer(intact(VALUE));
}

static const char *swap_keeps_writes(void)
{
	need(swap_start(swap), "swap");
	need(alloc(BACKING_ANON, 256), "memory");
	need(create_region(MEM_RWX), "a region");
	need(guest_fills(1), "a guest that can write");
	need(page_out(), "pages that are paged out");
	/* Read by the VMM: present, and clean */
	if (!intact(1))
		return "no";
	need(guest_fills(VALUE), "a guest that can write");
	need(page_out(), "pages that are paged out again");
	return answer(intact(VALUE));
}

static const char *thp_page_replaced(void)
{
	need(alloc(BACKING_THP, HUGE_PAGES), "THP");
	fill(1);
	need(page_pfn(mem) + HUGE_PAGES - 1 == page_pfn(quad(mem, HUGE_PAGES - 1)),
	     "a huge page");
	need(create_region(MEM_RWX), "a region");
	need(guest_fills(1), "a guest that can write");
	need(!madvise(quad(mem, PAGE), PAGE_SIZE, MADV_DONTNEED), "MADV_DONTNEED");
	*quad(mem, PAGE) = VALUE;
	return answer(guest_reads(PAGE, VALUE) && guest_reads(PAGE + 1, PAGE + 2) &&
		      guest_writes(PAGE, 1) && *quad(mem, PAGE) == 1);
}

static const char *discarded_is_out_of_reach(void)
{
	need(alloc(BACKING_ANON, 256), "memory");
	need(create_region(MEM_RWX), "a region");
	need(guest_fills(1), "a guest that can write");
	need(!madvise(quad(mem, PAGE), PAGE_SIZE, MADV_DONTNEED), "MADV_DONTNEED");
	if (accessible(&pt, TEST_GFN + PAGE))
		return "no";
	return answer(guest_writes(PAGE, VALUE) && *quad(mem, PAGE) == VALUE);
}

static const char *unmap_leaves_nothing(void)
{
	need(alloc(BACKING_ANON, 2 * HUGE_PAGES), "memory");
	need(create_region(MEM_RWX), "a region");
	need(!mshv_unmap(&pt, TEST_GFN, mem, pages * PAGE_SIZE), "an unmap");
	return answer(!oracle_mapped(pt.id, TEST_GFN, TEST_GFN + pages - 1));
}

/* Whatever is asked for: a kernel may ask for more than the guest does */
static const char *uffd_supplies_pages(void)
{
	struct guest_thread thread;
	struct uffdio_copy copy = { .len = PAGE_SIZE };
	u8 *page = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	const u64 start = now_ms();
	int fd;

	need(page && alloc(BACKING_ANON, 256), "memory");
	*(u64 *)page = VALUE;
	copy.src = (uintptr_t)page;
	fd = uffd_open(mem, pages, UFFDIO_REGISTER_MODE_MISSING, 0);
	need(fd >= 0, "userfaultfd");
	need(create_region(MEM_RWX), "a region");
	need(!guest_thread_start(&thread, &pt.vp[0], guest_read,
				 GUEST_ARGS(.rdi = GPA(PAGE))), "a thread");
	while (!READ_ONCE(thread.ended)) {
		if (now_ms() - start > GUEST_MSEC)
			return "no";
		if (!uffd_wait(fd, 20))
			continue;
		copy.dst = uffd_fault(fd);
		need(!ioctl(fd, UFFDIO_COPY, &copy) || errno == EEXIST,
		     "UFFDIO_COPY");
	}
	return answer(guest_thread_join(&thread) == HVMSG_X64_HALT &&
		      thread.rax == VALUE);
}

static const char *neighbour_is_harmless(void)
{
	need(alloc(BACKING_ANON, 256), "memory");
	need(!mprotect(quad(mem, PAGE), PAGE_SIZE, PROT_NONE), "mprotect()");
	return answer(create_region(MEM_RWX) &&
		      guest_writes(PAGE - 1, VALUE) && guest_writes(PAGE + 1, VALUE) &&
		      *quad(mem, PAGE - 1) == VALUE && *quad(mem, PAGE + 1) == VALUE);
}

static const char *read_only_mapping(u8 flags)
{
	need(alloc(BACKING_ANON, 256), "memory");
	fill(1);
	need(!mprotect(mem, pages * PAGE_SIZE, PROT_READ), "mprotect()");
	return answer(create_region(flags) && guest_reads(PAGE, PAGE + 1));
}

static const char *read_only_mapping_of_rom(void)
{
	return read_only_mapping(MEM_RX);
}

static const char *read_only_mapping_of_ram(void)
{
	return read_only_mapping(MEM_RWX);
}

static const char *rom_write_is_told(void)
{
	long message;

	need(alloc(BACKING_ANON, 256), "memory");
	fill(1);
	need(create_region(MEM_RX), "a region");
	message = guest_does(guest_write, GUEST_ARGS(.rdi = GPA(PAGE), .rsi = VALUE),
			     NULL);
	return answer(message == HVMSG_GPA_INTERCEPT &&
		      pt.vp[0].msg.memory.guest_physical_address == GPA(PAGE) &&
		      *quad(mem, PAGE) == PAGE + 1);
}

static const char *mthp_works(void)
{
	size_t i;

	need(write_file(MTHP, "madvise"), "64K pages in sysfs");
	need(alloc(BACKING_THP, HUGE_PAGES), "THP");
	/* Not the whole of it: there is no room for a larger page */
	need(!munmap(quad(mem, HUGE_PAGES - 1), PAGE_SIZE), "munmap()");
	pages = HUGE_PAGES - MTHP_PAGES;
	fill(1);
	for (i = 0; i < pages; i += MTHP_PAGES)
		need(page_pfn(quad(mem, i)) && !(page_pfn(quad(mem, i)) % MTHP_PAGES) &&
		     page_pfn(quad(mem, i)) + MTHP_PAGES - 1 ==
		     page_pfn(quad(mem, i + MTHP_PAGES - 1)), "pages of 64K");
	return answer(create_region(MEM_RWX) && guest_reads(PAGE, PAGE + 1) &&
		      guest_fills(VALUE) && intact(VALUE));
}

static const char *fork_parts_the_child(void)
{
	int pipes[2], status;
	pid_t child;
	char c = 0;

	need(alloc(BACKING_ANON, 256), "memory");
	need(create_region(MEM_RWX), "a region");
	need(guest_fills(1), "a guest that can write");
	need(!pipe(pipes), "a pipe");
	child = fork();
	need(child >= 0, "a process");
	/* After the guest and the VMM have written */
	if (!child)
		_exit(read(pipes[0], &c, 1) != 1 || !intact(1));
	*quad(mem, PAGE) = VALUE;
	if (!guest_reads(PAGE, VALUE) || !guest_writes(PAGE + 1, VALUE) ||
	    *quad(mem, PAGE + 1) != VALUE)
		return "no";
	need(write(pipes[1], &c, 1) == 1 && waitpid(child, &status, 0) == child,
	     "the child");
	return answer(!status);
}

static const char *merged_stay_merged(void)
{
	const char *why;
	u64 pfn;
	size_t i;

	need(alloc(BACKING_ANON, 64), "memory");
	need(create_region(MEM_RWX), "a region");
	for (i = 0; i < pages; i++)
		need(guest_writes(i, VALUE), "a guest that can write");
	why = ksm_merge(mem, pages);
	if (why)
		return why;
	pfn = page_pfn(mem);
	for (i = 0; i < pages; i++)
		need(guest_reads(i, VALUE), "a guest that can read");
	for (i = 0; i < pages; i++)
		if (page_pfn(quad(mem, i)) != pfn)
			return "no";
	return "yes";
}

static const struct question questions[] = {
	{ "memfd read first keeps what the guest writes", memfd_keeps_writes, true },
	{ "swapped in page keeps what the guest writes", swap_keeps_writes, true },
	{ "guest and VMM share the new page of a THP", thp_page_replaced },
	{ "discarded page is out of the guest's reach", discarded_is_out_of_reach },
	{ "unmap of untouched RAM leaves no SLAT entry", unmap_leaves_nothing },
	{ "userfaultfd supplies missing pages", uffd_supplies_pages, true },
	{ "PROT_NONE page does its neighbours no harm", neighbour_is_harmless },
	{ "read-only mapping can be ROM", read_only_mapping_of_rom },
	{ "read-only mapping can be read as RAM", read_only_mapping_of_ram },
	{ "write to ROM is told to the VMM", rom_write_is_told },
	{ "64K pages (mTHP) can be RAM", mthp_works },
	{ "fork parts the child from guest and VMM", fork_parts_the_child },
	{ "KSM pages stay merged while the guest reads", merged_stay_merged, true },
};

static void ask(const void *data)
{
	const struct question *question = data;
	const char *text;

	text = question->movable && !mshv_missing(FEATURE_PINNED) ?
	       "pinned" : question->ask();
	printf("ANSWER,%s,%s\n", question->name, text);
	fflush(stdout);
	swap_stop(swap);
}

void ask_questions(int argc, char **argv)
{
	const char *why;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(questions); i++) {
		if (!is_wanted("questions", argc, argv) &&
		    !is_wanted(questions[i].name, argc, argv))
			continue;
		why = run_process(ask, &questions[i], QUESTION_SECONDS);
		if (why)
			printf("ANSWER,%s,%s\n", questions[i].name, why);
	}
}
