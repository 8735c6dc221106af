/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers of the mshv selftests: partitions, regions, VPs, the child guest,
 * and what the kernel and the hypervisor know about its memory.
 *
 * Functions return 0 (or something positive) on success and -errno on failure.
 * test_x() asserts that mshv_x() succeeds, test_err_x() expects it to fail
 * with an errno.
 */
#ifndef SELFTESTS_MSHV_UTIL_H
#define SELFTESTS_MSHV_UTIL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/mshv.h>

#include "guest.h"
#include "mshv_abi.h"
#include "oracle.h"

#define HUGE_SIZE	(2UL << 20)
#define HUGE_PAGES	(HUGE_SIZE >> PAGE_SHIFT)

#ifndef MADV_COLD
#define MADV_COLD		20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* That of the harness is for processors, not for an emulator and a kernel with KASAN */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	120
#endif

#define GIB		(1ULL << 30)
/* What a test writes when any value will do */
#define VALUE		0x1122334455667788ULL

#define SLAT_RX		(SLAT_READ | SLAT_EXEC)
#define SLAT_RWX	(SLAT_RX | SLAT_WRITE)

#define MEM_W		BIT(MSHV_SET_MEM_BIT_WRITABLE)
#define MEM_X		BIT(MSHV_SET_MEM_BIT_EXECUTABLE)
#define MEM_RW		MEM_W
#define MEM_RWX		(MEM_W | MEM_X)
#define MEM_RO		0
#define MEM_RX		MEM_X

/* Where tests put their regions: nothing of the guest's own is near */
#define TEST_GFN	0x10000ULL
#define TEST_GPA	(TEST_GFN << PAGE_SHIFT)

/* Value of MSHV_PT_ISOLATION_SNP in the test-only extension of the uapi */
#define TEST_ISOLATION_SNP	1

struct mshv_pt;

struct mshv_vp {
	struct mshv_pt *pt;
	int fd;
	u32 index;
	struct hv_vp_register_page *regs;	/* NULL if there is none */
	const struct hv_message *msg_page;
	struct hv_message msg;			/* of the last mshv_run() */
};

/* What mshv_pt_audit() looks at, of as many as a test has by hand */
#define PT_REGIONS	64

struct mshv_pt_region {
	u64 gfn, pages;
	const u8 *addr;
	u8 flags;
};

struct mshv_pt {
	int dev;
	int fd;
	u64 id;		/* for the oracle, 0 without it */
	u8 *sys;		/* system area of the guest */
	unsigned int vps;
	struct mshv_vp vp[GUEST_MAX_VPS];
	/* Regions that mshv_map() has made and mshv_unmap() has not removed */
	struct mshv_pt_region region[PT_REGIONS];
	unsigned int regions;		/* more than there is room for: some are unknown */
	pid_t owner;			/* whose memory they are of */
	bool pinned;			/* even if RAM is movable otherwise */
	bool dies;			/* of what the test has refused to it */
};

/* Partitions and VPs */

/* Why no test can run here, NULL if they can */
const char *mshv_unavailable(void);
int mshv_open(void);
int mshv_create_partition(int dev, u64 flags, u64 isolation);
int mshv_initialize_partition(int fd);
int mshv_create_vp(int fd, u32 index);

/* A partition object with nothing behind it yet, which may be closed */
void mshv_pt_init(struct mshv_pt *pt);
int mshv_pt_create(struct mshv_pt *pt, u64 flags, u64 isolation);
/* Created, initialized */
int mshv_pt_active(struct mshv_pt *pt);
/* Created, initialized, the guest loaded, VPs 0 to @vps - 1 ready to run it */
int mshv_pt_setup(struct mshv_pt *pt, unsigned int vps);
/* Add one VP that is ready to run the guest */
int mshv_pt_add_vp(struct mshv_pt *pt, u32 index);
/* 64-bit mode with the page tables and descriptors of the system area */
int guest_init_vp(struct mshv_vp *vp);
/* Add the system area: code, page tables, descriptors, stacks */
int mshv_pt_load_guest(struct mshv_pt *pt);
void mshv_pt_close(struct mshv_pt *pt);

/* Regions; addr is a VMM address, size is in bytes */
int mshv_set_memory(int fd, const struct mshv_user_mem_region *mem);
int mshv_map(struct mshv_pt *pt, u64 gfn, const void *addr, u64 size,
	     u8 flags);
int mshv_unmap(struct mshv_pt *pt, u64 gfn, const void *addr,
	       u64 size);
/* Read accessed or dirty bits of @pages GFNs, then apply @op */
int mshv_access_bitmap(struct mshv_pt *pt, u64 gfn, u64 pages,
		       u8 type, u8 op, void *bitmap);

/* Hypercalls and registers */
int mshv_root_hvcall(int fd, struct mshv_root_hvcall *call);
/* Returns -errno or the number of completed repetitions; status may be NULL */
int mshv_hvcall(int fd, u16 code, u16 reps, const void *in,
		size_t in_sz, void *out, size_t out_sz, u16 *status);
int mshv_get_regs(struct mshv_vp *vp, const u32 *names,
		  union hv_register_value *values, unsigned int count);
int mshv_set_regs(struct mshv_vp *vp, const struct hv_register_assoc *regs,
		  unsigned int count);
int mshv_get_reg(struct mshv_vp *vp, u32 name, u64 *value);
int mshv_set_reg(struct mshv_vp *vp, u32 name, u64 value);
int mshv_install_intercept(struct mshv_pt *pt, u32 access, u32 type,
			   u64 parameter);
int mshv_translate_gva(struct mshv_vp *vp, u64 gva, u64 flags,
		       struct hv_output_translate_virtual_address *result);

/* MSHV_GET_VP_STATE or MSHV_SET_VP_STATE, as @request says */
int mshv_vp_state(struct mshv_vp *vp, unsigned long request, u8 type,
		  void *buffer, u32 *size);

/* One MSHV_RUN_VP: the message type or -errno (-EINTR too) */
long mshv_run_once(struct mshv_vp *vp);
/* The same, but goes on after a signal */
long mshv_run(struct mshv_vp *vp);

/* Does the guest want memory that the VMM is to see to? */
static inline bool is_memory_intercept(long message)
{
	return message == HVMSG_GPA_INTERCEPT || message == HVMSG_UNMAPPED_GPA;
}

/* The guest */
struct guest_args {
	u64 rax, rcx, rdx, rsi, rdi;
};

/* Prepare a VP to execute at @rip */
int guest_prepare(struct mshv_vp *vp, u64 rip, struct guest_args args);
/* Prepare and run: the message type or -errno */
long guest_run(struct mshv_vp *vp, u64 rip, struct guest_args args);
/*
 * Run a command to its end: RAX in @result (may be NULL). Anything but the
 * HLT of the command is -EPROTO, with the message in vp->msg.
 */
int guest_call(struct mshv_vp *vp, const char *command, struct guest_args args,
	       u64 *result);
#define GUEST_ARGS(...) ((struct guest_args){ __VA_ARGS__ })

/* VMM address of a page of the system area */
#define guest_page(_pt, _page) \
	((void *)((_pt)->sys + (_page) * PAGE_SIZE))
/* A quadword of its own for each VP: VMM pointer and guest address */
#define MAILBOX_OFFSET(_vp)	((_vp) * 64UL)
#define mailbox_ptr(_pt, _vp) \
	((u64 *)((_pt)->sys + GUEST_PAGE_MAILBOX * PAGE_SIZE + \
		 MAILBOX_OFFSET(_vp)))
#define MAILBOX_GPA(_vp) \
	(GUEST_PAGE_GPA(GUEST_PAGE_MAILBOX) + MAILBOX_OFFSET(_vp))
#define DATA_GPA	GUEST_PAGE_GPA(GUEST_PAGE_DATA)

/* A VP that runs a command in a thread of its own */
struct guest_thread {
	struct mshv_vp *vp;
	u64 rip;
	struct guest_args args;
	unsigned long thread;
	bool started;
	bool ended;
	u64 interrupted;	/* times MSHV_RUN_VP gave -EINTR */
	long ret;			/* as of mshv_run() */
	u64 rax;
};

int guest_thread_start(struct guest_thread *thread, struct mshv_vp *vp,
		       const char *command, struct guest_args args);
/* Returns thread->ret */
long guest_thread_join(struct guest_thread *thread);

/*
 * VPs that write each of their pages and check it, all at the same time, round
 * after round with another value, while a test does something to the memory.
 */
struct busy_vp {
	struct mshv_vp *vp;
	u64 gpa, value;
	size_t pages;
	u64 rounds, lost;
	bool stop;
	int ret;			/* as of guest_call() */
	pthread_t thread;
};

struct load {
	struct busy_vp busy[GUEST_MAX_VPS];
	unsigned int vps;
	size_t pages;			/* of each */
};

/* Divide @pages from @gfn on among VPs 0 to @vps - 1; waits until all have begun */
bool load_start(struct load *load, struct mshv_pt *pt, u64 gfn, size_t pages,
		unsigned int vps);
/* Does each of them finish a round within @msec? */
bool load_goes_on(struct load *load, int msec);
/*
 * How many pages did not hold what was written last, for the guest at any time
 * or now for the VMM, if it has the memory at @mem. A VP that came to no good end
 * counts as one.
 */
long load_stop(struct load *load, u8 *mem);

u64 now_ms(void);
/* MSHV_SCALE of the environment: how many times as much is wanted of some tests, or 1 */
unsigned int test_scale(void);
/*
 * MSHV_PAUSE of the environment, or 0: microseconds to wait, less than a second, before
 * doing again what a fault must not meet all the time: to discard its memory, to signal
 * the one who handles it. Where a fault takes longer than that it has to be lucky.
 */
unsigned int test_pause(void);
/* Wait until *value differs from @old, at most @msec: did it change? */
bool wait_for_change(const u64 *value, u64 old, int msec);

/*
 * What a VMM does with memory, from the creation of a partition to its end; 0 or the
 * error of the first failure
 */
int mshv_live(u8 *mem, size_t pages);

/* Memory of the VMM */
enum mshv_backing {
	BACKING_ANON,		/* 4K pages */
	BACKING_THP,
	BACKING_HUGETLB,
	BACKING_MEMFD,
	BACKING_FILE,		/* on disk_start()'s file system, shared */
	BACKING_HUGETLB_SHARED,
	BACKING_SHMEM_THP,	/* huge pages of tmpfs, shared */
};

static inline bool backing_is_shared(enum mshv_backing backing)
{
	return backing == BACKING_MEMFD || backing == BACKING_FILE ||
	       backing == BACKING_HUGETLB_SHARED || backing == BACKING_SHMEM_THP;
}

static inline bool backing_is_hugetlb(enum mshv_backing backing)
{
	return backing == BACKING_HUGETLB || backing == BACKING_HUGETLB_SHARED;
}

/* Huge pages that Linux may split */
static inline bool backing_is_thp(enum mshv_backing backing)
{
	return backing == BACKING_THP || backing == BACKING_SHMEM_THP;
}

/* Discards for good: what is shared comes back from its file otherwise */
static inline int discard_advice(enum mshv_backing backing)
{
	return backing_is_shared(backing) ? MADV_REMOVE : MADV_DONTNEED;
}

/* NULL with errno ENOTSUP if the system cannot give this kind of memory */
void *mshv_alloc(enum mshv_backing backing, size_t size);
/* BACKING_MEMFD, with the file descriptor: -1 if that cannot be had */
int mshv_alloc_memfd(void **addr, size_t size, size_t align);
/* BACKING_HUGETLB_SHARED, the same */
int mshv_alloc_hugetlb(void **addr, size_t size);
/*
 * A page of device memory, the registers of a timer: it is safe to read; or NULL. It
 * is the second one of its VMA, so that who takes that for its start is found out.
 */
void *mshv_alloc_mmio(u64 *spa);
/* BACKING_FILE, the same */
int mshv_alloc_file(void **addr, size_t size);
void mshv_free(void *addr, size_t size);
/* Ask for huge pages of the system's pool, false if it has not that many */
bool hugetlb_reserve(unsigned int pages);
/* False where debugfs has nothing for it; what cannot be split stays as it is */
bool split_huge_pages(const void *mem, size_t bytes);
/* How many of the pages the oracle has in this state, ORACLE_PAGE_* */
size_t pages_in_state(const u64 *pfns, size_t nr, u64 wanted);
/* How many runs of 64 KiB are behind this memory, contiguous and aligned */
size_t folios_of_64_kib(u8 *mem, size_t pages);
/* The entry of /proc/self/pagemap, and of /proc/kpageflags; 0 if there is none */
u64 pagemap_entry(const void *addr);
u64 page_flags(const void *addr);

/* Bits of pagemap_entry() and page_flags() */
#define PM_UFFD_WP	BIT(57)
#define PM_EXCLUSIVE	BIT(56)
#define PM_PRESENT	BIT(63)
#define PM_PFN		(BIT(55) - 1)
#define KPF_DIRTY	BIT(4)
#define KPF_ANON	BIT(12)
#define KPF_HUGE	BIT(17)
#define KPF_NOPAGE	BIT(20)
#define KPF_ZERO_PAGE	BIT(24)

/* PFN of a page present at @addr, 0 if there is none or it cannot be seen */
u64 page_pfn(const void *addr);
bool pagemap_usable(void);
/* Pages of the range that are present, the zero page is one of them; -1 */
long resident(const u8 *mem, size_t pages);
/* Is the page's folio marked dirty? */
bool page_dirty(const void *addr);
/* The quadword of a page that guest_fill writes */
static inline u64 *quad(u8 *mem, size_t page)
{
	return (u64 *)(mem + page * PAGE_SIZE);
}

/* As guest_fill does it, and how many pages are not as it leaves them */
void fill_pages(u8 *mem, size_t pages, u64 seed);
size_t mismatches(u8 *mem, size_t pages, u64 seed);

/* Write a text to a file that exists, instead of what is in it */
bool write_file(const char *path, const char *text);
/*
 * Traces @event, "system/name" or all of a "system", where it meets @filter, NULL for
 * any, in a buffer of its own, as others may trace, too. trace_open() is for reading
 * what there is, NULL if it cannot be had.
 */
bool trace_start(const char *event, const char *filter);
FILE *trace_open(void);
void trace_stop(void);
/* Number in the line "@name <number>" or "@name: <number>" of a file; -errno */
long read_field(const char *path, const char *name);
#define vmstat(_name)	read_field("/proc/vmstat", _name)

/* What is in a file, as far as it fits; false if that is nothing */
bool read_file(const char *path, char *text, size_t size);

/*
 * Is there swap? If not, try a zram device and a file in this directory; @name
 * is for swap_stop() then.
 */
#define SWAP_NAME	64
bool swap_start(char *name);
void swap_stop(char *name);

/*
 * A setting of the system. It is put back by settings_restore(), and when the program
 * ends, however its test did. Where it is one of a list, it is the one in brackets.
 */
bool setting_set(const char *path, const char *value);
void settings_restore(void);

/*
 * CPUs keep next to nothing of what is freed, until settings_restore(): compaction
 * moves pages only to what is in the free lists of a zone.
 */
bool free_to_zones(void);

#define THP	"/sys/kernel/mm/transparent_hugepage/"
#define KSM	"/sys/kernel/mm/ksm/"

/* Have KSM scan all it is given, without a pause, until ksm_stop() */
bool ksm_start(void);
void ksm_stop(void);

/* Have KSM merge pages that are equal; NULL, or the reason to skip */
const char *ksm_merge(u8 *mem, size_t pages);

/* A file system on a block device, at DISK; NULL, or the reason to skip */
#define DISK	"/tmp/mshv-disk"
const char *disk_start(void);
/* ... on persistent memory, without a page cache */
const char *disk_start_dax(void);
void disk_stop(void);

/*
 * A memory cgroup of our own, with limits; cgroup_join() moves the caller into it.
 * memory.high makes tasks wait for reclaim. memory.max kills, and in a young group
 * too early: what get_user_pages() has touched is active, and reclaim believes for
 * two seconds that nothing is.
 */
bool cgroup_start(const char *high, const char *max, const char *swap);
bool cgroup_join(void);
/* One without limits, from which memory can be taken as cgroup_reclaim() asks for */
bool cgroup_start_reclaimable(void);
void cgroup_reclaim(const char *size);
/* How many of its processes were killed for its limits */
long cgroup_killed(void);
/* Moves the caller out of it and removes it; the others in it have ended */
void cgroup_stop(void);

/* Number of NUMA nodes from 0 on */
int numa_nodes(void);
/* The node of a page, -errno if there is none */
int numa_node(void *page);
/* Move pages; how many of them are where they were sent */
size_t numa_move(u8 *mem, size_t nr, int node);

/* Wait for a child, or any, at most @msec: the wait status, or -1 */
int reap(pid_t child, int msec);
/* Messages of the kernel from now on */
int kmsg_open(void);
/* How many of them should not be there */
int kmsg_complaints(int fd);
/* Is there one with this text within @msec? Those before it are gone then */
bool kmsg_wait(int fd, const char *text, int msec);

/* Pins acquired and not released, of the whole system; -errno */
long pin_balance(void);

/*
 * CHECK of the SLAT against the VMM's page tables: every GFN the SLAT maps is
 * the page the VMM has at the region's address, with permissions @perms
 * (SLAT_READ and so on), and if @all, every GFN is mapped. Otherwise pages may be
 * missing, or not writable yet. Where memory is movable, a page that is writable is
 * the VMM's alone if it is anonymous, not protected by userfaultfd, and dirty.
 * Returns how many GFNs are wrong (the first is logged) or -errno.
 */
long slat_check(struct mshv_pt *pt, u64 gfn, const void *addr,
		u64 pages, u32 perms, bool all);

/*
 * The same for all of a partition: for the regions it has, as far as AUDIT_PAGES go,
 * and nothing is accessible elsewhere. Nothing is wrong with a partition that dies, one
 * of another process, one of more than PT_REGIONS, or where the SLAT does not follow
 * the page tables. That a partition is dead is wrong if it was not meant to die.
 */
#define AUDIT_PAGES	(32UL * HUGE_PAGES)
long mshv_pt_audit(struct mshv_pt *pt);

/*
 * The SLAT agrees with the VMM's page tables, and the guest reads what the VMM
 * does, of the pages that it can read without a fault. Returns how many pages
 * are wrong. The VP must not be running.
 */
long check_mirror(struct mshv_vp *vp, u64 gfn, u8 *mem, size_t pages,
		  u32 perms);

/* The SLAT entry of each page of a range; one of no pages where there is none */
int slat_entries(struct mshv_pt *pt, u64 gfn, u64 pages,
		 struct oracle_slat *entries);

/* Does the SLAT give the guest any access to the GFN? No, without an oracle */
bool accessible(struct mshv_pt *pt, u64 gfn);
long accessible_pages(struct mshv_pt *pt, u64 gfn, size_t pages);
/* Map (and no-access) and unmap hypercalls; zeroes without an oracle */
struct oracle_counter map_counter(void);
struct oracle_counter unmap_counter(void);

/* A userfaultfd for the range; -1 if the system has no such thing */
int uffd_open(u8 *mem, size_t pages, u64 mode, u64 features);
/* Is there a fault within @msec? */
bool uffd_wait(int fd, int msec);
/* The page of the next fault, 0 if there is none within 5 s */
u64 uffd_fault(int fd);

/*
 * The thread that supplies them, of memory that has them already (post-copy with a
 * file that both ends of a migration know) or not, in units of what they are, or lifts
 * the protection from them
 */
struct pager {
	int fd;
	u8 *mem;
	size_t bytes, unit;
	const u8 *source;		/* what to copy, NULL to go on with what is there */
	bool stop, failed;
	unsigned int *events;		/* how often each unit was asked for */
	pthread_t thread;
};

bool pager_start(struct pager *pager);
/* How many units was it not asked for @times times? All of them if it has failed */
size_t pager_stop(struct pager *pager, unsigned int times);

/* What the kernel under test does; found out by trying */
enum mshv_feature {
	/* ranges of GFNs that wrap or that no GPA can have are refused */
	FEATURE_GFN_LIMITS,
	/* a failed hypercall for a region is an error of the ioctl */
	FEATURE_REGION_ERRORS,
	/* a region of several large pages is unmapped by one hypercall */
	FEATURE_UNMAP_BATCH,
	/* ... in large units */
	FEATURE_UNMAP_LARGE,
	/* encrypted partitions can be created (test-only kernel patch) */
	FEATURE_ENCRYPTED,
	/* RAM of a partition that is not encrypted is pinned */
	FEATURE_PINNED,
	/* it is not: the SLAT follows the VMM's page tables */
	FEATURE_MOVABLE,
	/* what is present when a region is created is in the SLAT from then on */
	FEATURE_POPULATED,
	/* GFNs that were never mapped cost nothing */
	FEATURE_FAST_NO_ACCESS,
	FEATURES
};

/* Reason to skip if the kernel has it not, else NULL */
const char *mshv_missing(enum mshv_feature feature);
/* Must it not be missing, for this reason? */
bool mshv_strict(enum mshv_feature feature, const char *why);

unsigned int online_cpus(void);

/* For use in tests and fixtures, where SKIP() is defined */

#define require_mshv() do { \
	const char *_why = mshv_unavailable(); \
	if (_why) \
		SKIP(return, "%s", _why); \
} while (0)

#define NEEDS_ORACLE "needs: the oracle of the nested root VM"

#define require_oracle() do { \
	if (!oracle_present()) \
		SKIP(return, NEEDS_ORACLE); \
} while (0)

/*
 * With MSHV_TEST_STRICT in the environment a missing feature of the series is a
 * failure: for runs of a kernel that is known to have them all.
 */
#define require_feature(_feature) do { \
	const char *_why = mshv_missing(_feature); \
	if (_why && mshv_strict(_feature, _why)) \
		ASSERT_STREQ("", _why); \
	if (_why) \
		SKIP(return, "%s", _why); \
} while (0)

#define require_pagemap() do { \
	if (!pagemap_usable()) \
		SKIP(return, "needs: PFNs of /proc/self/pagemap"); \
} while (0)

/* SKIP() for what is left of a test, which does not hide what has failed before */
#define skip_rest(_fmt, ...) do { \
	if (!__test_passed(_metadata)) \
		return; \
	SKIP(return, _fmt, ##__VA_ARGS__); \
} while (0)

#define require_pin_counters() do { \
	if (pin_balance() < 0) \
		SKIP(return, "needs: nr_foll_pin_* in /proc/vmstat"); \
} while (0)

#define require_cpus(_nr) do { \
	if (online_cpus() < (_nr)) \
		SKIP(return, "needs: %u CPUs", (_nr)); \
} while (0)

#define require_hugetlb(_pages) do { \
	if (!hugetlb_reserve(_pages)) \
		SKIP(return, "needs: %u huge pages", (_pages)); \
} while (0)

#define test_pt_setup(_pt, _vps) \
	ASSERT_EQ(0, mshv_pt_setup(_pt, _vps))
#define test_map(_pt, _gfn, _addr, _size, _flags) \
	ASSERT_EQ(0, mshv_map(_pt, _gfn, _addr, _size, _flags))
#define test_err_map(_errno, _pt, _gfn, _addr, _size, _flags) \
	EXPECT_EQ(-(_errno), mshv_map(_pt, _gfn, _addr, _size, _flags))
#define test_unmap(_pt, _gfn, _addr, _size) \
	ASSERT_EQ(0, mshv_unmap(_pt, _gfn, _addr, _size))
#define test_err_unmap(_errno, _pt, _gfn, _addr, _size) \
	EXPECT_EQ(-(_errno), mshv_unmap(_pt, _gfn, _addr, _size))
#define test_guest(_vp, _command, ...) \
	ASSERT_EQ(0, guest_call(_vp, _command, GUEST_ARGS(__VA_ARGS__), NULL)) { \
		TH_LOG("message %#x", (_vp)->msg.header.message_type); \
	}
#define test_guest_result(_expected, _vp, _command, ...) do { \
	u64 _result = 0; \
	ASSERT_EQ(0, guest_call(_vp, _command, GUEST_ARGS(__VA_ARGS__), \
				&_result)) { \
		TH_LOG("message %#x", (_vp)->msg.header.message_type); \
	} \
	ASSERT_EQ((u64)(_expected), _result); \
} while (0)
#define test_slat(_pt, _gfn, _addr, _pages, _perms, _all) \
	ASSERT_EQ(0, slat_check(_pt, _gfn, _addr, _pages, _perms, _all))
/* At the end of a test everything is still right, whatever it was about */
#define test_pt_close(_pt) do { \
	EXPECT_EQ(0, mshv_pt_audit(_pt)); \
	mshv_pt_close(_pt); \
} while (0)
#define test_slat_empty(_pt, _gfn, _pages) \
	ASSERT_EQ(0, oracle_mapped((_pt)->id, _gfn, (_gfn) + (_pages) - 1))

#endif /* SELFTESTS_MSHV_UTIL_H */
