// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on the memory of a guest, see mm_ops.h.
 */
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_ops.h"

/* Two regions; the chunk in which they meet can have no large entry */
#define REGIONS		2
#define NO_PAGE		(~0U)
#define SECOND_REGION	700
#define MAX_HUGE_MOVES	200

/* Where the guest has what it expects; nothing is ever done to that memory */
#define TABLE_GFN	0x20000ULL
#define TABLE_GPA	(TABLE_GFN << PAGE_SHIFT)

#define A		BIT(BACKING_ANON)
#define T		BIT(BACKING_THP)
#define H		BIT(BACKING_HUGETLB)
#define M		BIT(BACKING_MEMFD)

void fuzz_fail(struct fuzz *f, const char *fmt, ...)
{
	va_list args;

	if (__atomic_exchange_n(&f->failed, true, __ATOMIC_SEQ_CST))
		return;
	va_start(args, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, args);
	va_end(args);
}

static void add(u64 *counter, u64 value)
{
	__atomic_fetch_add(counter, value, __ATOMIC_SEQ_CST);
}

/* splitmix64 */
u32 fuzz_random(u64 *state)
{
	u64 z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) >> 16;
}

/*
 * The model
 */

static u8 *addr(struct fuzz *f, u32 page)
{
	return f->mem + page * PAGE_SIZE;
}

/* Far apart, so that no part of a page goes unnoticed */
static u64 slot_offset(unsigned int actor)
{
	return actor * 576UL;
}

static u64 *slot(struct fuzz *f, unsigned int actor, u32 page)
{
	return (u64 *)(addr(f, page) + slot_offset(actor));
}

static u64 slot_value(unsigned int actor, u32 page, u32 seq)
{
	return (page + 1ULL) << 32 | actor << 28 | (seq & (BIT(28) - 1));
}

static enum access access_of(struct fuzz *f, u32 page)
{
	return READ_ONCE(f->page[page].access);
}

/* Is this what can be found where the actor has its quadword? */
static bool judge(struct fuzz *f, unsigned int actor, u32 page, u64 seen,
		  const char *who)
{
	struct guest_expected *expected = &f->table->expected[actor][page];
	const char *what = "garbage";

	add(&f->compared, 1);
	if (seen == expected->value)
		return true;
	if (!seen &&
	    READ_ONCE(f->page[page].discards_begun) != expected->counter) {
		expected->value = 0;
		add(&f->discarded, 1);
		return true;
	}

	if (!seen)
		what = "lost";
	else if (seen >> 28 == expected->value >> 28)
		what = seen < expected->value ? "old" : "from nowhere";
	else if ((seen >> 32) - 1 < PAGES)
		what = "of another page or actor";
	fuzz_fail(f, "%s, page %u, actor %u: %#llx is %s, expected %#llx", who, page,
		  actor, (unsigned long long)seen, what,
		  (unsigned long long)expected->value);
	return false;
}

/* Blocks are locked in ascending order */
static void lock_range(struct fuzz *f, const struct op *op, bool write)
{
	u32 i;

	for (i = op->first / BLOCK; i * BLOCK < op->first + op->pages; i++) {
		if (write)
			pthread_rwlock_wrlock(&f->block[i]);
		else
			pthread_rwlock_rdlock(&f->block[i]);
	}
}

static void unlock_range(struct fuzz *f, const struct op *op)
{
	u32 i;

	for (i = op->first / BLOCK; i * BLOCK < op->first + op->pages; i++)
		pthread_rwlock_unlock(&f->block[i]);
}

/*
 * Accesses
 */

/* The SLAT gives the guest no more than this, at the ends of the range */
static void check_range(struct fuzz *f, const struct op *op, enum access most,
			const char *when)
{
	struct oracle_slat entry;
	u32 i;

	for (i = 0; i < op->pages; i++) {
		if (i == 8 && op->pages > 16)
			i = op->pages - 8;
		if (!oracle_present() ||
		    oracle_slat(f->pt.id, TEST_GFN + op->first + i, &entry) ||
		    entry.flags & SLAT_NO_ACCESS)
			continue;
		if (most == ACCESS_NONE ||
		    (most == ACCESS_READ && entry.flags & SLAT_WRITE))
			fuzz_fail(f, "page %u of %u+%u: the SLAT has %#x %s",
				  op->first + i, op->first, op->pages, entry.flags, when);
	}
}

/* Go on from a halt: the next page to look at */
static u32 walk_halted(struct fuzz *f, struct mshv_vp *vp, unsigned int actor,
		       u32 end)
{
	const u32 names[] = { HV_X64_REGISTER_RSI, HV_X64_REGISTER_RAX };
	union hv_register_value values[2] = {};
	u32 page;

	if (mshv_get_regs(vp, names, values, 2)) {
		fuzz_fail(f, "VP %u: no registers", vp->index);
		return end;
	}
	page = end - values[0].reg64;
	if (page < end && !judge(f, actor, page, values[1].reg64, "guest"))
		return end;
	return page;
}

/*
 * The guest walks pages, or compares them, as the actor; those that it has no
 * access to are left out. Returns how many.
 */
static u32 walk_guest(struct fuzz *f, struct mshv_vp *vp, unsigned int actor,
		      u32 first, u32 pages, const char *command)
{
	const u64 table = TABLE_GPA + offsetof(struct table, expected[actor]);
	u32 page = first, end = first + pages, again = NO_PAGE, skipped = 0;
	unsigned int tries = 0;
	u64 ended = 0;

	while (page < end && !READ_ONCE(f->failed)) {
		struct guest_args args = {
			.rdi = TEST_GPA + page * PAGE_SIZE + slot_offset(actor),
			.rsi = end - page,
			.rdx = slot_value(actor, page, 32 * ++f->seq[actor]),
			.rcx = table + page * sizeof(struct guest_expected),
			.rax = TABLE_GPA + page * sizeof(u64),
		};
		enum access need = ACCESS_READ;
		struct page *state;
		bool denied;
		long ret;

		ret = guest_run(vp, GUEST_ADDR(command), args);
		if (ret == HVMSG_X64_HALT) {
			page = walk_halted(f, vp, actor, end);
			continue;
		}
		page = (vp->msg.memory.guest_physical_address >> PAGE_SHIFT) -
		       TEST_GFN;
		if (!is_memory_intercept(ret) || page < first || page >= end) {
			fuzz_fail(f, "VP %u: message %#lx, RIP %#llx, GVA %#llx, GPA %#llx",
				  vp->index, ret,
				  (unsigned long long)vp->msg.intercept.rip,
				  (unsigned long long)vp->msg.memory.guest_virtual_address,
				  (unsigned long long)vp->msg.memory.guest_physical_address);
			break;
		}

		add(&f->intercepts, 1);
		state = &f->page[page];
		if (vp->msg.intercept.intercept_access_type ==
		    HV_INTERCEPT_ACCESS_WRITE)
			need = ACCESS_WRITE;
		denied = access_of(f, page) < need;
		if (page == again && !denied &&
		    READ_ONCE(state->changes_begun) == ended) {
			fuzz_fail(f, "VP %u: page %u is intercepted without a reason",
				  vp->index, page);
			break;
		}
		tries = page == again ? tries + 1 : 0;
		again = page;
		ended = READ_ONCE(state->changes_ended);
		/* While somebody is at it, there may be no end to it */
		if (READ_ONCE(state->changes_begun) != ended) {
			if (tries > 3 || f->alone)
				break;
			continue;
		}
		while (denied && page < end && access_of(f, page) < need) {
			skipped++;
			page++;
		}
	}

	return skipped;
}

static int op_walk(struct fuzz *f, const struct op *op, int advice)
{
	walk_guest(f, &f->pt.vp[op->actor], op->actor, op->first, op->pages,
		   guest_walk);
	return 0;
}

/* The same for a thread of the VMM */
static int op_touch(struct fuzz *f, const struct op *op, int advice)
{
	const u32 seq = ++f->seq[op->actor];
	u32 page;

	for (page = op->first; page < op->first + op->pages; page++) {
		struct guest_expected *expected = &f->table->expected[op->actor][page];
		u64 *value = slot(f, op->actor, page);
		enum access access = access_of(f, page);

		if (access == ACCESS_NONE)
			continue;
		if (!judge(f, op->actor, page, READ_ONCE(*value), "VMM"))
			break;
		if (access == ACCESS_READ || op->arg & 1)
			continue;
		expected->counter = READ_ONCE(f->table->discards_ended[page]);
		expected->value = slot_value(op->actor, page, seq);
		WRITE_ONCE(*value, expected->value);
	}
	return 0;
}

/* Something is wrong on purpose: the value of another page */
static int op_spoil(struct fuzz *f, const struct op *op, int advice)
{
	if (access_of(f, op->first) == ACCESS_WRITE)
		*slot(f, 0, op->first) = slot_value(0, op->first + 1, 1);
	return 0;
}

/*
 * Operations on memory. In what leaves a hole in the address space nobody may
 * map memory anywhere: it might end up in there. So no malloc() and no stdio.
 */

static size_t length(const struct op *op)
{
	return op->pages * PAGE_SIZE;
}

static void set_access(struct fuzz *f, const struct op *op, enum access access)
{
	u32 i;

	for (i = 0; i < op->pages; i++)
		WRITE_ONCE(f->page[op->first + i].access, access);
}

/* Give the VPs time to run into what is not there */
static void pause_inside(struct fuzz *f, const struct op *op)
{
	if (!(op->arg & 16))
		return;
	if (f->alone)
		walk_guest(f, &f->pt.vp[op->arg % f->vps], op->arg % f->vps,
			   op->first, op->pages, guest_walk);
	else
		usleep(op->arg >> 8 & 0x7ff);
}

static int op_madvise(struct fuzz *f, const struct op *op, int advice)
{
	return madvise(addr(f, op->first), length(op), advice);
}

static int op_mmap(struct fuzz *f, const struct op *op, int advice)
{
	u8 *where = addr(f, op->first);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	unsigned int tries;

	if (f->backing == BACKING_MEMFD)
		flags = MAP_SHARED | MAP_FIXED;
	if (f->backing == BACKING_HUGETLB)
		flags |= MAP_HUGETLB;
	/* There may be no huge page for a moment */
	for (tries = 0; mmap(where, length(op), PROT_READ | PROT_WRITE, flags,
			     f->memfd, op->first * PAGE_SIZE) != where; tries++) {
		if (tries == 1000) {
			fuzz_fail(f, "no memory to map again: %s", strerror(errno));
			return -1;
		}
		usleep(1000);
	}
	if (f->backing == BACKING_THP)
		madvise(where, length(op), MADV_HUGEPAGE);
	set_access(f, op, ACCESS_WRITE);
	return 0;
}

static int op_munmap(struct fuzz *f, const struct op *op, int advice)
{
	if (munmap(addr(f, op->first), length(op))) {
		fuzz_fail(f, "munmap: %s", strerror(errno));
		return -1;
	}
	set_access(f, op, ACCESS_NONE);
	check_range(f, op, ACCESS_NONE, "after munmap");
	pause_inside(f, op);
	check_range(f, op, ACCESS_NONE, "where nothing is mapped");
	return op_mmap(f, op, advice);
}

static bool is_hole(void *where)
{
	u8 vec;

	return mincore(where, PAGE_SIZE, &vec) && errno == ENOMEM;
}

/* If part of the range cannot be moved, the rest comes back page by page */
static int op_mremap(struct fuzz *f, const struct op *op, int advice)
{
	const u32 unit = f->backing == BACKING_HUGETLB ? HUGE_PAGES : 1;
	const size_t size = unit * PAGE_SIZE;
	u8 *here = addr(f, op->first), *away = f->away + op->first * PAGE_SIZE;
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool moved;
	u32 i;

	/*
	 * v6.18 loses the reservation of a huge page by some of these, with or without a
	 * guest. When the pool has no page left that nobody has reserved, whoever touches
	 * memory that was discarded gets SIGBUS.
	 */
	if (f->backing == BACKING_HUGETLB && f->done[op->kind] > MAX_HUGE_MOVES)
		return -1;

	moved = mremap(here, length(op), length(op), flags, away) == away;
	if (moved) {
		check_range(f, op, ACCESS_NONE, "after mremap");
		pause_inside(f, op);
		check_range(f, op, ACCESS_NONE, "where nothing has been left");
		mremap(away, length(op), length(op), flags, here);
	}
	for (i = 0; i < op->pages; i += unit) {
		u8 *to = here + i * PAGE_SIZE, *from = away + i * PAGE_SIZE;

		if (is_hole(to) && mremap(from, size, size, flags, to) != to)
			fuzz_fail(f, "page %u does not come back: %s", op->first + i,
				  strerror(errno));
	}
	mmap(away, length(op), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
	     MAP_NORESERVE | MAP_FIXED, -1, 0);
	return moved ? 0 : -1;
}

static int op_mprotect(struct fuzz *f, const struct op *op, int advice)
{
	static const struct {
		int prot;
		enum access access;
	} to[] = {
		{ PROT_NONE, ACCESS_NONE },
		{ PROT_READ, ACCESS_READ },
		{ PROT_READ, ACCESS_READ },
		{ PROT_READ | PROT_WRITE, ACCESS_WRITE },
	};
	unsigned int i = op->arg % 8 < 3 ? op->arg % 8 : 3;

	if (mprotect(addr(f, op->first), length(op), to[i].prot)) {
		fuzz_fail(f, "mprotect: %s", strerror(errno));
		return -1;
	}
	set_access(f, op, to[i].access);
	check_range(f, op, to[i].access, "after mprotect");
	return 0;
}

/* Without what keeps it from being one VMA, a huge page is possible */
static int op_collapse(struct fuzz *f, const struct op *op, int advice)
{
	const struct uffdio_range range = {
		(uintptr_t)addr(f, op->first), length(op),
	};
	u8 *where = addr(f, op->first);

	if (mprotect(where, length(op), PROT_READ | PROT_WRITE)) {
		fuzz_fail(f, "mprotect: %s", strerror(errno));
		return -1;
	}
	set_access(f, op, ACCESS_WRITE);
	ioctl(f->uffd, UFFDIO_UNREGISTER, &range);
	munlock(where, length(op));
	madvise(where, length(op), MADV_UNMERGEABLE);
	madvise(where, length(op), MADV_HUGEPAGE);
	return madvise(where, length(op), MADV_COLLAPSE);
}

static int op_mlock(struct fuzz *f, const struct op *op, int advice)
{
	return op->arg % 4 ? munlock(addr(f, op->first), length(op)) :
			     mlock(addr(f, op->first), length(op));
}

static int op_punch(struct fuzz *f, const struct op *op, int advice)
{
	return fallocate(f->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 op->first * PAGE_SIZE, length(op));
}

/*
 * shmem_undo_range() goes round for ever if the end of the file comes to be inside a
 * large swap entry (6.18.15, 6.19.11 and 7.2.6 at least): so keep what is around it
 * from being swapped out meanwhile
 */
static int truncate_to(struct fuzz *f, u32 page)
{
	const u64 around = page / HUGE_PAGES * HUGE_SIZE;
	int ret = -1;
	u8 *mem;

	mem = mmap(NULL, HUGE_SIZE, PROT_READ, MAP_SHARED, f->memfd, around);
	if (mem == MAP_FAILED)
		return -1;
	if (!mlock(mem, HUGE_SIZE))
		ret = ftruncate(f->memfd, page * PAGE_SIZE);
	munmap(mem, HUGE_SIZE);
	return ret;
}

static int op_truncate(struct fuzz *f, const struct op *op, int advice)
{
	if (truncate_to(f, op->first))
		return -1;
	/* A huge page that was not split may go on beyond the end of the file */
	if (f->alone && oracle_present() && pagemap_usable() &&
	    slat_check(&f->pt, TEST_GFN + op->first, addr(f, op->first),
		       op->pages, SLAT_RWX, false))
		fuzz_fail(f, "SLAT is wrong beyond the end of the file");
	pause_inside(f, op);
	if (ftruncate(f->memfd, PAGES * PAGE_SIZE))
		fuzz_fail(f, "ftruncate: %s", strerror(errno));
	return 0;
}

static u32 region_first(unsigned int region)
{
	return region ? SECOND_REGION : 0;
}

static u32 region_pages(unsigned int region)
{
	return region ? PAGES - SECOND_REGION : SECOND_REGION;
}

static int op_region(struct fuzz *f, const struct op *op, int advice)
{
	int ret;

	ret = mshv_unmap(&f->pt, TEST_GFN + op->first, addr(f, op->first),
			 length(op));
	if (ret) {
		fuzz_fail(f, "region at page %u is not unmapped: %d", op->first, ret);
		return -1;
	}
	check_range(f, op, ACCESS_NONE, "after the region was unmapped");
	pause_inside(f, op);
	check_range(f, op, ACCESS_NONE, "where no region is");
	ret = mshv_map(&f->pt, TEST_GFN + op->first, addr(f, op->first),
		       length(op), MEM_RWX);
	if (ret)
		fuzz_fail(f, "region at page %u is not mapped: %d", op->first, ret);
	return 0;
}

/*
 * Operations of other kinds
 */

/* 0 if the child finds what it must */
static int forked(struct fuzz *f, const struct op *op)
{
	const bool private = f->backing == BACKING_ANON ||
			     f->backing == BACKING_THP;
	u64 seen[16];
	u32 page;
	unsigned int i, n = op->pages < 16 ? op->pages : 16;

	if (op->arg % 4 == 3) {
		execl("/bin/true", "true", NULL);
		return 0;
	}
	if (op->arg % 4 == 0 || f->backing == BACKING_HUGETLB)
		return 0;

	for (i = 0; i < n; i++) {
		page = op->first + i;
		if (access_of(f, page) == ACCESS_NONE)
			continue;
		seen[i] = *slot(f, 0, page);
		if (seen[i] && seen[i] >> 28 != slot_value(0, page, 0) >> 28)
			return 1;
	}
	usleep(op->arg >> 8 & 0xfff);
	for (i = 0; private && i < n; i++) {
		page = op->first + i;
		if (access_of(f, page) == ACCESS_NONE)
			continue;
		if (*slot(f, 0, page) != seen[i])
			return 2;
		if (access_of(f, page) != ACCESS_WRITE || op->arg % 4 == 1)
			continue;
		*slot(f, 0, page) = VALUE;
		if (*slot(f, 0, page) != VALUE)
			return 3;
	}
	return 0;
}

static int op_fork(struct fuzz *f, const struct op *op, int advice)
{
	static const char * const wrong[] = {
		"what is not of its page", "values that change", "no own copy",
	};
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(forked(f, op));
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) - 1 < ARRAY_SIZE(wrong))
		fuzz_fail(f, "a forked child finds %s in pages %u+%u",
			  wrong[WEXITSTATUS(status) - 1], op->first, op->pages);
	else if (status)
		fuzz_fail(f, "a forked child ended with status %#x", status);
	return 0;
}

static int op_kick(struct fuzz *f, const struct op *op, int advice)
{
	return f->alone ? -1 : pthread_kill(f->vp_thread[op->arg % f->vps],
					    SIGUSR1);
}

static int op_compact(struct fuzz *f, const struct op *op, int advice)
{
	return write_file("/proc/sys/vm/compact_memory", "1") ? 0 : -1;
}

static int op_ksm(struct fuzz *f, const struct op *op, int advice)
{
	return write_file(KSM "run", op->arg % 8 ? "1" : "2") ? 0 : -1;
}

static int op_split(struct fuzz *f, const struct op *op, int advice)
{
	return split_huge_pages(addr(f, op->first), op->pages * PAGE_SIZE) ? 0 : -1;
}

static int op_move_pages(struct fuzz *f, const struct op *op, int advice)
{
	const u32 unit = f->backing == BACKING_HUGETLB ? HUGE_PAGES : 1;
	int nodes[64], status[64];
	void *where[64];
	unsigned int n;

	if (f->nodes < 2)
		return -1;
	for (n = 0; n < 64 && n * unit < op->pages; n++) {
		where[n] = addr(f, op->first + n * unit);
		nodes[n] = (op->arg + (op->arg & 16 ? n : 0)) % f->nodes;
	}
	return syscall(__NR_move_pages, 0, n, where, nodes, status, MPOL_MF_MOVE);
}

static int op_mbind(struct fuzz *f, const struct op *op, int advice)
{
	unsigned long mask = BIT(op->arg % f->nodes);

	if (f->nodes < 2)
		return -1;
	return syscall(__NR_mbind, addr(f, op->first), length(op),
		       MPOL_PREFERRED, &mask, 8 * sizeof(mask), MPOL_MF_MOVE);
}

static int op_uffd(struct fuzz *f, const struct op *op, int advice)
{
	const struct uffdio_range range = {
		(uintptr_t)addr(f, op->first), length(op),
	};
	struct uffdio_register reg = { .range = range };
	struct uffdio_writeprotect wp = {
		.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	/* To register in another mode leaves pages write-protected */
	if (ioctl(f->uffd, UFFDIO_UNREGISTER, &range))
		return -1;

	switch (op->arg % 4) {
	case 0:
		reg.mode = UFFDIO_REGISTER_MODE_MISSING;
		return ioctl(f->uffd, UFFDIO_REGISTER, &reg);
	case 1:
		reg.mode = UFFDIO_REGISTER_MODE_WP;
		if (ioctl(f->uffd, UFFDIO_REGISTER, &reg))
			return -1;
		return ioctl(f->uffd, UFFDIO_WRITEPROTECT, &wp);
	default:
		return 0;
	}
}

/*
 * The hypervisor needs memory, for as long as the driver goes on to deposit some, or
 * is slow. What it has been told lasts: who notices is whoever comes next.
 */

static u16 map_or_unmap(const struct op *op)
{
	return op->arg % 4 ? HVCALL_MAP_GPA_PAGES : HVCALL_UNMAP_GPA_PAGES;
}

static int op_inject(struct fuzz *f, const struct op *op, int advice)
{
	return oracle_inject(map_or_unmap(op), 1 + op->arg / 4 % 4,
			     HV_STATUS_INSUFFICIENT_MEMORY, op->arg / 16 % 8, 0);
}

static int op_dry(struct fuzz *f, const struct op *op, int advice)
{
	return oracle_dry(f->pt.id, 1 + op->arg % 2);
}

static int op_slow(struct fuzz *f, const struct op *op, int advice)
{
	return oracle_delay(map_or_unmap(op), op->arg / 4 % 4 * 100);
}

/* Whether or not that can be served: who waits looks again */
static void *serve_faults(void *arg)
{
	static u8 zeroes[HUGE_SIZE] __attribute__((aligned(HUGE_SIZE)));
	struct fuzz *f = arg;
	const u64 size = f->backing == BACKING_HUGETLB ? HUGE_SIZE : PAGE_SIZE;
	struct uffd_msg msg;

	while (!READ_ONCE(f->uffd_end)) {
		if (!uffd_wait(f->uffd, 20) ||
		    read(f->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;

		u64 start = msg.arg.pagefault.address & ~(size - 1);
		struct uffdio_range range = { start, size };
		struct uffdio_writeprotect wp = { .range = range };
		struct uffdio_zeropage zero = { .range = range };
		struct uffdio_copy copy = {
			.dst = start, .src = (uintptr_t)zeroes, .len = size,
		};

		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			ioctl(f->uffd, UFFDIO_WRITEPROTECT, &wp);
		else if (size == PAGE_SIZE && start & PAGE_SIZE)
			ioctl(f->uffd, UFFDIO_ZEROPAGE, &zero);
		else
			ioctl(f->uffd, UFFDIO_COPY, &copy);
		ioctl(f->uffd, UFFDIO_WAKE, &range);
	}
	return NULL;
}

/*
 * The audit, while nothing else is going on. What the kernel does in the
 * background can only take entries out of the SLAT: it is looked at last.
 */

static void check_slat(struct fuzz *f)
{
	static struct oracle_slat slat[PAGES];
	u32 page, first, end;
	long wrong;

	if (slat_entries(&f->pt, TEST_GFN, PAGES, slat))
		fuzz_fail(f, "no SLAT");
	for (page = 0; page < PAGES; page++)
		if (f->page[page].access == ACCESS_NONE && slat[page].pages &&
		    !(slat[page].flags & SLAT_NO_ACCESS))
			fuzz_fail(f, "page %u is accessible, for the VMM it is not",
				  page);

	for (first = 0; first < PAGES; first = end) {
		enum access access = f->page[first].access;

		for (end = first; end < PAGES && f->page[end].access == access; )
			end++;
		if (access == ACCESS_NONE)
			continue;
		wrong = slat_check(&f->pt, TEST_GFN + first, addr(f, first),
				   end - first, access == ACCESS_READ ? SLAT_RX :
				   SLAT_RWX, false);
		if (wrong)
			fuzz_fail(f, "SLAT is wrong in pages %u to %u (access %u): %ld",
				  first, end - 1, access, wrong);
	}

	/* What nothing is done to is moved as well */
	if (slat_check(&f->pt, GUEST_SYS_GFN, f->pt.sys, GUEST_SYS_PAGES,
		       SLAT_RWX, false) ||
	    slat_check(&f->pt, TABLE_GFN, f->table, sizeof(*f->table) / PAGE_SIZE,
		       SLAT_READ | SLAT_WRITE, false))
		fuzz_fail(f, "SLAT is wrong in the system area or the table");
	if (oracle_mapped(f->pt.id, GUEST_SYS_GFN + GUEST_SYS_PAGES,
			  TEST_GFN - 1) ||
	    oracle_mapped(f->pt.id, TEST_GFN + PAGES, TABLE_GFN - 1))
		fuzz_fail(f, "the SLAT has pages outside of all regions");
}

static void compare_vmm(struct fuzz *f, const struct op *op)
{
	unsigned int actor;
	u32 page;

	for (page = op->first; page < op->first + op->pages; page++) {
		if (access_of(f, page) == ACCESS_NONE)
			continue;
		for (actor = 0; actor < ACTORS; actor++)
			judge(f, actor, page, *slot(f, actor, page), "VMM, paused");
	}
}

static void compare_guest(struct fuzz *f, const struct op *op)
{
	struct mshv_vp *vp = &f->pt.vp[op->arg % f->vps];
	const u32 end = op->first + op->pages;
	unsigned int actor;
	u32 first, last;
	bool none;

	for (first = op->first; first < end; first = last) {
		none = access_of(f, first) == ACCESS_NONE;
		for (last = first + 1; last < end; last++)
			if ((access_of(f, last) == ACCESS_NONE) != none)
				break;
		if (none) {
			if (!walk_guest(f, vp, 0, first, 1, guest_compare))
				fuzz_fail(f, "the guest reads page %u, the VMM cannot",
					  first);
			continue;
		}
		for (actor = 0; actor < ACTORS; actor++)
			if (walk_guest(f, vp, actor, first, last - first,
				       guest_compare))
				fuzz_fail(f, "the guest cannot read all of %u to %u",
					  first, last - 1);
		add(&f->compared, (last - first) * ACTORS);
	}
}

static int op_audit(struct fuzz *f, const struct op *op, int advice)
{
	if (oracle_present() && pagemap_usable()) {
		check_slat(f);
		f->audits++;
	}
	if (op->arg & 16)
		compare_vmm(f, op);
	compare_guest(f, op);
	if (!(op->arg & 16))
		compare_vmm(f, op);
	return 0;
}

#define MADVISE(_name, _advice, _weight, _backings, _discards) \
	{ _name, op_madvise, _advice, _weight, _backings, _discards }

const struct fuzz_kind fuzz_kinds[] = {
	{ "audit", op_audit, .backings = A | T | H | M, .lock = RANGE_UNLOCKED },
	{ "spoil", op_spoil, .backings = A | T | H | M },
	{ "walk", op_walk, .backings = A | T | H | M, .lock = RANGE_UNLOCKED },
	{ "touch", op_touch, 0, 30, A | T | H | M },
	{ "mmap", op_mmap, 0, 4, A | T | H | M, A | T | H, RANGE_WRITE },
	{ "munmap", op_munmap, 0, 4, A | T | H | M, A | T | H, RANGE_WRITE },
	{ "mremap", op_mremap, 0, 6, A | T | H | M, 0, RANGE_WRITE },
	{ "mprotect", op_mprotect, 0, 12, A | T | H | M, 0, RANGE_WRITE },
	MADVISE("dontneed", MADV_DONTNEED, 6, A | T | H | M, A | T | H),
	MADVISE("free", MADV_FREE, 4, A | T, A | T),
	MADVISE("remove", MADV_REMOVE, 4, M, M),
	MADVISE("pageout", MADV_PAGEOUT, 10, A | T | M, 0),
	MADVISE("cold", MADV_COLD, 2, A | T | M, 0),
	MADVISE("willneed", MADV_WILLNEED, 2, A | T | M, 0),
	MADVISE("hugepage", MADV_HUGEPAGE, 3, A | T | M, 0),
	MADVISE("nohugepage", MADV_NOHUGEPAGE, 1, A | T | M, 0),
	{ "collapse", op_collapse, 0, 4, A | T | M, 0, RANGE_WRITE, RANGE_CHUNKS },
	MADVISE("populate_read", MADV_POPULATE_READ, 4, A | T | H | M, 0),
	MADVISE("populate_write", MADV_POPULATE_WRITE, 4, A | T | H | M, 0),
	MADVISE("mergeable", MADV_MERGEABLE, 4, A | T, 0),
	MADVISE("unmergeable", MADV_UNMERGEABLE, 1, A | T, 0),
	{ "mlock", op_mlock, 0, 4, A | T | H | M },
	{ "punch", op_punch, 0, 4, M, M },
	{ "truncate", op_truncate, 0, 2, M, M, RANGE_WRITE, RANGE_TAIL },
	{ "region", op_region, 0, 3, A | T | H | M, 0, RANGE_WRITE, RANGE_REGION },
	{ "fork", op_fork, 0, 5, A | T | H | M },
	{ "kick", op_kick, 0, 4, A | T | H | M, 0, RANGE_UNLOCKED, RANGE_ONE },
	{ "compact", op_compact, 0, 1, A | T | H | M, 0, RANGE_UNLOCKED, RANGE_ONE },
	{ "ksm", op_ksm, 0, 1, A | T, 0, RANGE_UNLOCKED, RANGE_ONE },
	{ "split", op_split, 0, 3, A | T | M },
	{ "move_pages", op_move_pages, 0, 4, A | T | H | M },
	{ "mbind", op_mbind, 0, 2, A | T | H | M },
	{ "uffd", op_uffd, 0, 6, A | T | H | M, 0, RANGE_WRITE },
	{ "inject", op_inject, 0, 3, A | T | H | M, 0, RANGE_UNLOCKED, RANGE_ONE },
	{ "dry", op_dry, 0, 2, A | T | H | M, 0, RANGE_UNLOCKED, RANGE_ONE },
	{ "slow", op_slow, 0, 1, A | T | H | M, 0, RANGE_UNLOCKED, RANGE_ONE },
};

const unsigned int fuzz_nr_kinds = ARRAY_SIZE(fuzz_kinds);

void fuzz_run(struct fuzz *f, const struct op *op)
{
	const struct fuzz_kind *kind = &fuzz_kinds[op->kind];
	const bool discards = kind->discards & BIT(f->backing);
	u32 i, entry;

	entry = __atomic_fetch_add(&f->logged, 1, __ATOMIC_SEQ_CST) % LOG_SIZE;
	f->log[entry] = *op;
	f->last[op->actor] = entry;

	if (kind->lock != RANGE_UNLOCKED)
		lock_range(f, op, kind->lock == RANGE_WRITE);
	for (i = op->first; i < op->first + op->pages; i++) {
		if (discards)
			add(&f->page[i].discards_begun, 1);
		if (kind->lock == RANGE_WRITE)
			add(&f->page[i].changes_begun, 1);
	}

	if (kind->run(f, op, kind->advice))
		__atomic_fetch_add(&f->refused[op->kind], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&f->done[op->kind], 1, __ATOMIC_SEQ_CST);

	for (i = op->first; i < op->first + op->pages; i++) {
		if (discards)
			add(&f->table->discards_ended[i], 1);
		if (kind->lock == RANGE_WRITE)
			add(&f->page[i].changes_ended, 1);
	}
	if (kind->lock != RANGE_UNLOCKED)
		unlock_range(f, op);
}

struct op fuzz_make(struct fuzz *f, unsigned int kind, unsigned int actor,
		    u64 *random)
{
	struct op op = { .kind = kind, .actor = actor };
	u32 first, end, region;

	op.arg = fuzz_random(random) & 0xfffff;
	first = fuzz_random(random) % PAGES;
	end = 1U << fuzz_random(random) % (kind == WALK ? 8 : 10);
	end = first + 1 + fuzz_random(random) % end;
	if (!(fuzz_random(random) % (kind == WALK ? 32 : 8))) {
		first &= ~(HUGE_PAGES - 1);
		end = first + (1 + fuzz_random(random) % 2) * HUGE_PAGES;
	}
	if (f->backing == BACKING_HUGETLB && kind != WALK &&
	    fuzz_kinds[kind].range == RANGE_ANY) {
		first &= ~(HUGE_PAGES - 1);
		end = (end + HUGE_PAGES - 1) & ~(HUGE_PAGES - 1);
	}
	if (fuzz_kinds[kind].range == RANGE_CHUNKS) {
		first &= ~(HUGE_PAGES - 1);
		end = first + 2 * HUGE_PAGES;
	}
	if (fuzz_kinds[kind].range == RANGE_ONE)
		end = first + 1;
	if (fuzz_kinds[kind].range == RANGE_TAIL || end > PAGES)
		end = PAGES;
	if (fuzz_kinds[kind].range == RANGE_REGION) {
		region = first >= SECOND_REGION;
		first = region_first(region);
		end = first + region_pages(region);
	}
	op.first = first;
	op.pages = end - first;
	return op;
}

struct op fuzz_make_any(struct fuzz *f, unsigned int actor, u64 *random)
{
	unsigned int i, weight, total = 0;

	for (i = FIRST_KIND; i < fuzz_nr_kinds; i++)
		if (fuzz_kinds[i].backings & BIT(f->backing))
			total += fuzz_kinds[i].weight;
	weight = fuzz_random(random) % total;
	for (i = FIRST_KIND; ; i++) {
		if (!(fuzz_kinds[i].backings & BIT(f->backing)))
			continue;
		if (weight < fuzz_kinds[i].weight)
			break;
		weight -= fuzz_kinds[i].weight;
	}
	return fuzz_make(f, i, actor, random);
}

const char *fuzz_create(struct fuzz *f, enum mshv_backing backing,
		       unsigned int vps)
{
	const u64 uffd_modes = UFFDIO_REGISTER_MODE_MISSING |
			       UFFDIO_REGISTER_MODE_WP;
	const u64 features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			     UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	const size_t size = PAGES * PAGE_SIZE;
	pthread_rwlockattr_t attr;
	struct uffdio_range all;
	unsigned int i;
	u8 *area;
	int ret;

	memset(f, 0, sizeof(*f));
	f->backing = backing;
	f->vps = vps;
	f->nodes = numa_nodes();
	f->memfd = -1;
	f->uffd = -1;
	mshv_pt_init(&f->pt);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&f->running, &attr);
	for (i = 0; i < BLOCKS; i++)
		pthread_rwlock_init(&f->block[i], &attr);
	for (i = 0; i < PAGES; i++)
		f->page[i].access = ACCESS_WRITE;

	/* Those of the children, and those that take the place of others */
	if (backing == BACKING_HUGETLB && !hugetlb_reserve(8 * PAGES / HUGE_PAGES))
		return "needs: 24 huge pages";
	if (backing == BACKING_MEMFD)
		f->memfd = mshv_alloc_memfd((void **)&f->mem, size, HUGE_SIZE);
	else
		f->mem = mshv_alloc(backing, size);
	if (!f->mem)
		return "needs: this kind of memory";

	area = mmap(NULL, size + HUGE_SIZE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	f->table = mshv_alloc(BACKING_MEMFD, sizeof(*f->table));
	if (area == MAP_FAILED || !f->table)
		return "needs: memory";
	f->away = (u8 *)(((uintptr_t)area + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	f->away += (uintptr_t)f->mem & (HUGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	if (f->away + size > area + size + HUGE_SIZE)
		f->away -= HUGE_SIZE;

	ret = mshv_pt_setup(&f->pt, MAX_VPS);
	if (!ret)
		ret = mshv_map(&f->pt, TABLE_GFN, f->table, (sizeof(*f->table) +
			       PAGE_SIZE - 1) & ~(PAGE_SIZE - 1), MEM_RW);
	for (i = 0; i < REGIONS && !ret; i++)
		ret = mshv_map(&f->pt, TEST_GFN + region_first(i),
			       addr(f, region_first(i)),
			       region_pages(i) * PAGE_SIZE, MEM_RWX);
	if (ret) {
		fuzz_fail(f, "no partition with regions: %d", ret);
		return "needs: a partition with regions";
	}

	f->uffd = uffd_open(f->mem, PAGES, uffd_modes, features);
	all = (struct uffdio_range){ (uintptr_t)f->mem, size };
	if (f->uffd >= 0 && (ioctl(f->uffd, UFFDIO_UNREGISTER, &all) ||
			     pthread_create(&f->uffd_thread, NULL, serve_faults, f))) {
		close(f->uffd);
		f->uffd = -1;
	}
	return NULL;
}

void fuzz_destroy(struct fuzz *f)
{
	if (f->uffd >= 0) {
		WRITE_ONCE(f->uffd_end, true);
		pthread_join(f->uffd_thread, NULL);
		close(f->uffd);
	}
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_UNMAP_GPA_PAGES);
	oracle_delay(HVCALL_MAP_GPA_PAGES, 0);
	oracle_delay(HVCALL_UNMAP_GPA_PAGES, 0);
	mshv_pt_close(&f->pt);
	mshv_free(f->mem, PAGES * PAGE_SIZE);
	mshv_free(f->table, sizeof(*f->table));
	if (f->memfd >= 0)
		close(f->memfd);
}
