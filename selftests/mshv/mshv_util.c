// SPDX-License-Identifier: GPL-2.0
/*
 * Helpers of the mshv selftests, see mshv_util.h.
 */
#include <assert.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mshv_util.h"

static void __printf(1, 2) say(const char *fmt, ...);

static void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("# ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

/* ioctl(2) with the result as this library gives it */
static int do_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

/*
 * Partitions and VPs
 */

int mshv_open(void)
{
	int fd = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const char *mshv_unavailable(void)
{
	int fd = mshv_open();

	switch (fd) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return "no /dev/mshv: not a root partition with CONFIG_MSHV_ROOT";
	case -EACCES:
	case -EPERM:
		return "no permission to open /dev/mshv";
	}

	if (fd >= 0)
		close(fd);
	return NULL;
}

int mshv_create_partition(int dev, u64 flags, u64 isolation)
{
	struct mshv_create_partition args = {
		.pt_flags = flags,
		.pt_isolation = isolation,
	};

	return do_ioctl(dev, MSHV_CREATE_PARTITION, &args);
}

int mshv_initialize_partition(int fd)
{
	return do_ioctl(fd, MSHV_INITIALIZE_PARTITION, NULL);
}

int mshv_create_vp(int fd, u32 index)
{
	struct mshv_create_vp args = { .vp_index = index };

	return do_ioctl(fd, MSHV_CREATE_VP, &args);
}

void mshv_pt_init(struct mshv_pt *pt)
{
	unsigned int i;

	memset(pt, 0, sizeof(*pt));
	pt->dev = -1;
	pt->fd = -1;
	for (i = 0; i < GUEST_MAX_VPS; i++)
		pt->vp[i].fd = -1;
}

int mshv_pt_create(struct mshv_pt *pt, u64 flags, u64 isolation)
{
	int ret;

	mshv_pt_init(pt);
	pt->owner = getpid();
	pt->pinned = isolation != MSHV_PT_ISOLATION_NONE;
	pt->dev = mshv_open();
	if (pt->dev < 0)
		return pt->dev;

	ret = mshv_create_partition(pt->dev, flags, isolation);
	if (ret < 0) {
		mshv_pt_close(pt);
		return ret;
	}

	pt->fd = ret;
	if (oracle_present())
		return oracle_newest(&pt->id);
	return 0;
}

int mshv_pt_active(struct mshv_pt *pt)
{
	int ret;

	ret = mshv_pt_create(pt, 0, MSHV_PT_ISOLATION_NONE);
	if (ret)
		return ret;

	ret = mshv_initialize_partition(pt->fd);
	if (ret)
		mshv_pt_close(pt);
	return ret;
}

static void load_page_tables(u8 *sys)
{
	u64 *pml4 = (u64 *)(sys + GUEST_PAGE_PML4 * PAGE_SIZE);
	u64 *pdpt = (u64 *)(sys + GUEST_PAGE_PDPT * PAGE_SIZE);
	u64 *pd = (u64 *)(sys + GUEST_PAGE_PD * PAGE_SIZE);
	const u64 table = 0x27;	/* present, writable, user, accessed */
	const u64 large = 0xe7;	/* the same, dirty, 2M page */
	unsigned int i;

	pml4[0] = GUEST_PAGE_GPA(GUEST_PAGE_PDPT) | table;
	for (i = 0; i < 4; i++) {
		u64 entry = GUEST_PAGE_GPA(GUEST_PAGE_PD + i) | table;

		pdpt[i] = entry;
		pdpt[(GUEST_ALIAS >> 30) + i] = entry;
	}
	for (i = 0; i < 4 * 512; i++)
		pd[i] = ((u64)i << 21) | large;
}

static void load_descriptors(u8 *sys)
{
	u64 *gdt = (u64 *)(sys + GUEST_PAGE_GDT * PAGE_SIZE);
	u64 tss = GUEST_PAGE_GPA(GUEST_PAGE_GDT) + 0x800;

	gdt[1] = 0x00af9b000000ffffULL;		/* code, 64-bit */
	gdt[2] = 0x00cf93000000ffffULL;		/* data */
	gdt[3] = 0x00affb000000ffffULL;		/* code, 64-bit, DPL 3 */
	gdt[4] = 0x00cff3000000ffffULL;		/* data, DPL 3 */
	gdt[5] = 0x00008b0000000067ULL | (tss & 0xffffff) << 16 |
		 (tss >> 24 & 0xff) << 56;
	gdt[6] = tss >> 32;
}

int mshv_pt_load_guest(struct mshv_pt *pt)
{
	const size_t size = GUEST_SYS_PAGES * PAGE_SIZE;
	u8 *sys;
	int ret;

	sys = mshv_alloc(BACKING_ANON, size);
	if (!sys)
		return -errno;

	/* All of it present, as a VMM's own image of a guest would be */
	memset(sys, 0, size);
	memcpy(sys + GUEST_PAGE_CODE * PAGE_SIZE, guest_code_start,
	       guest_code_end - guest_code_start);
	load_page_tables(sys);
	load_descriptors(sys);

	ret = mshv_map(pt, GUEST_SYS_GFN, sys, size, MEM_RWX);
	if (ret) {
		mshv_free(sys, size);
		return ret;
	}

	pt->sys = sys;
	return 0;
}

static struct hv_register_assoc reg64(u32 name, u64 value)
{
	struct hv_register_assoc reg = { .name = name };

	reg.value.reg64 = value;
	return reg;
}

static struct hv_register_assoc reg_segment(u32 name, u16 selector,
					    u64 base, u32 limit,
					    u16 attributes)
{
	struct hv_register_assoc reg = { .name = name };

	reg.value.segment.selector = selector;
	reg.value.segment.base = base;
	reg.value.segment.limit = limit;
	reg.value.segment.attributes = attributes;
	return reg;
}

static struct hv_register_assoc reg_table(u32 name, u64 base,
					  u16 limit)
{
	struct hv_register_assoc reg = { .name = name };

	reg.value.table.base = base;
	reg.value.table.limit = limit;
	return reg;
}

int guest_init_vp(struct mshv_vp *vp)
{
	const u64 gdt = GUEST_PAGE_GPA(GUEST_PAGE_GDT);
	const u64 stack = GUEST_PAGE_GPA(GUEST_PAGE_STACK + vp->index + 1);
	struct hv_register_assoc regs[] = {
		reg64(HV_X64_REGISTER_EFER, 0xd01),	/* SCE LME LMA NXE */
		reg64(HV_X64_REGISTER_CR4, 0x620),	/* PAE OSFXSR OSXMMEXCPT */
		reg64(HV_X64_REGISTER_CR3, GUEST_PAGE_GPA(GUEST_PAGE_PML4)),
		reg64(HV_X64_REGISTER_CR0, 0x80010033),	/* PG WP NE ET MP PE */
		reg_segment(HV_X64_REGISTER_CS, GUEST_CS, 0, ~0U, 0xa09b),
		reg_segment(HV_X64_REGISTER_DS, GUEST_DS, 0, ~0U, 0xc093),
		reg_segment(HV_X64_REGISTER_ES, GUEST_DS, 0, ~0U, 0xc093),
		reg_segment(HV_X64_REGISTER_SS, GUEST_DS, 0, ~0U, 0xc093),
		reg_segment(HV_X64_REGISTER_FS, GUEST_DS, 0, ~0U, 0xc093),
		reg_segment(HV_X64_REGISTER_GS, GUEST_DS, 0, ~0U, 0xc093),
		reg_segment(HV_X64_REGISTER_TR, GUEST_TR, gdt + 0x800, 0x67, 0x8b),
		reg_segment(HV_X64_REGISTER_LDTR, 0, 0, 0xffff, 0x82),
		reg_table(HV_X64_REGISTER_GDTR, gdt, 7 * 8 - 1),
		reg_table(HV_X64_REGISTER_IDTR, 0, 0),
		reg64(HV_X64_REGISTER_RSP, stack),
		reg64(HV_X64_REGISTER_RFLAGS, 2),
		reg64(HV_X64_REGISTER_RIP, GUEST_ADDR(guest_halt)),
	};

	return mshv_set_regs(vp, regs, ARRAY_SIZE(regs));
}

static void *map_state_page(int fd, int prot, unsigned long which)
{
	void *page = mmap(NULL, PAGE_SIZE, prot, MAP_SHARED, fd,
			  which * PAGE_SIZE);

	return page == MAP_FAILED ? NULL : page;
}

int mshv_pt_add_vp(struct mshv_pt *pt, u32 index)
{
	struct mshv_vp *vp = &pt->vp[index];
	int fd;

	fd = mshv_create_vp(pt->fd, index);
	if (fd < 0)
		return fd;

	vp->pt = pt;
	vp->fd = fd;
	vp->index = index;
	vp->regs = map_state_page(fd, PROT_READ | PROT_WRITE,
				  MSHV_VP_MMAP_OFFSET_REGISTERS);
	vp->msg_page = map_state_page(fd, PROT_READ,
				      MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE);
	pt->vps++;

	return guest_init_vp(vp);
}

int mshv_pt_setup(struct mshv_pt *pt, unsigned int vps)
{
	unsigned int i;
	int ret;

	ret = mshv_pt_active(pt);
	if (ret)
		return ret;

	ret = mshv_pt_load_guest(pt);
	for (i = 0; !ret && i < vps; i++)
		ret = mshv_pt_add_vp(pt, i);
	if (ret)
		mshv_pt_close(pt);
	return ret;
}

void mshv_pt_close(struct mshv_pt *pt)
{
	unsigned int i;

	for (i = 0; i < GUEST_MAX_VPS; i++) {
		struct mshv_vp *vp = &pt->vp[i];

		if (vp->regs)
			munmap(vp->regs, PAGE_SIZE);
		if (vp->msg_page)
			munmap((void *)vp->msg_page, PAGE_SIZE);
		if (vp->fd >= 0)
			close(vp->fd);
		vp->regs = NULL;
		vp->msg_page = NULL;
		vp->fd = -1;
	}
	if (pt->fd >= 0)
		close(pt->fd);
	if (pt->dev >= 0)
		close(pt->dev);
	if (pt->sys)
		mshv_free(pt->sys, GUEST_SYS_PAGES * PAGE_SIZE);
	pt->fd = -1;
	pt->dev = -1;
	pt->sys = NULL;
	pt->vps = 0;
	pt->regions = 0;
}

/*
 * Regions
 */

int mshv_set_memory(int fd, const struct mshv_user_mem_region *mem)
{
	return do_ioctl(fd, MSHV_SET_GUEST_MEMORY, (void *)mem);
}

/* Threads may map and unmap at the same time */
static void record_region(struct mshv_pt *pt, const struct mshv_user_mem_region *mem)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct mshv_pt_region *region = pt->region;
	unsigned int i;

	pthread_mutex_lock(&lock);
	if (!(mem->flags & BIT(MSHV_SET_MEM_BIT_UNMAP))) {
		if (pt->regions < PT_REGIONS)
			region[pt->regions] = (struct mshv_pt_region){
				.gfn = mem->guest_pfn,
				.pages = mem->size >> PAGE_SHIFT,
				.addr = (const u8 *)(uintptr_t)mem->userspace_addr,
				.flags = mem->flags,
			};
		pt->regions++;
	} else if (pt->regions <= PT_REGIONS) {
		for (i = 0; i < pt->regions && region[i].gfn != mem->guest_pfn; )
			i++;
		if (i < pt->regions)
			region[i] = region[--pt->regions];
	}
	pthread_mutex_unlock(&lock);
}

int mshv_map(struct mshv_pt *pt, u64 gfn, const void *addr, u64 size,
	     u8 flags)
{
	struct mshv_user_mem_region mem = {
		.guest_pfn = gfn,
		.userspace_addr = (uintptr_t)addr,
		.size = size,
		.flags = flags,
	};
	int ret = mshv_set_memory(pt->fd, &mem);

	if (!ret)
		record_region(pt, &mem);
	return ret;
}

int mshv_unmap(struct mshv_pt *pt, u64 gfn, const void *addr,
	       u64 size)
{
	return mshv_map(pt, gfn, addr, size, BIT(MSHV_SET_MEM_BIT_UNMAP));
}

int mshv_access_bitmap(struct mshv_pt *pt, u64 gfn, u64 pages,
		       u8 type, u8 op, void *bitmap)
{
	struct mshv_gpap_access_bitmap args = {
		.access_type = type,
		.access_op = op,
		.page_count = pages,
		.gpap_base = gfn,
		.bitmap_ptr = (uintptr_t)bitmap,
	};

	return do_ioctl(pt->fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args);
}

/*
 * Hypercalls and registers
 */

int mshv_root_hvcall(int fd, struct mshv_root_hvcall *call)
{
	return do_ioctl(fd, MSHV_ROOT_HVCALL, call);
}

int mshv_hvcall(int fd, u16 code, u16 reps, const void *in,
		size_t in_sz, void *out, size_t out_sz, u16 *status)
{
	struct mshv_root_hvcall call = {
		.code = code,
		.reps = reps,
		.in_sz = in_sz,
		.out_sz = out_sz,
		.in_ptr = (uintptr_t)in,
		.out_ptr = (uintptr_t)out,
	};
	int ret;

	ret = mshv_root_hvcall(fd, &call);
	if (status)
		*status = call.status;
	return ret ? ret : call.reps;
}

int mshv_get_regs(struct mshv_vp *vp, const u32 *names,
		  union hv_register_value *values, unsigned int count)
{
	const size_t size = sizeof(struct hv_input_get_vp_registers) +
			    count * sizeof(*names);
	u64 buf[512] = {};
	struct hv_input_get_vp_registers *in = (void *)buf;
	int ret;

	if (size > sizeof(buf))
		return -E2BIG;

	in->vp_index = vp->index;
	memcpy(in->names, names, count * sizeof(*names));
	ret = mshv_hvcall(vp->pt->fd, HVCALL_GET_VP_REGISTERS, count, in, size,
			  values, count * sizeof(*values), NULL);
	if (ret < 0)
		return ret;
	return ret == count ? 0 : -EPROTO;
}

int mshv_set_regs(struct mshv_vp *vp, const struct hv_register_assoc *regs,
		  unsigned int count)
{
	const size_t size = sizeof(struct hv_input_set_vp_registers) +
			    count * sizeof(*regs);
	u64 buf[512] = {};
	struct hv_input_set_vp_registers *in = (void *)buf;
	int ret;

	if (size > sizeof(buf))
		return -E2BIG;

	in->vp_index = vp->index;
	memcpy(in->elements, regs, count * sizeof(*regs));
	ret = mshv_hvcall(vp->pt->fd, HVCALL_SET_VP_REGISTERS, count, in, size,
			  NULL, 0, NULL);
	if (ret < 0)
		return ret;
	return ret == count ? 0 : -EPROTO;
}

int mshv_get_reg(struct mshv_vp *vp, u32 name, u64 *value)
{
	union hv_register_value result = {};
	int ret;

	ret = mshv_get_regs(vp, &name, &result, 1);
	*value = result.reg64;
	return ret;
}

int mshv_set_reg(struct mshv_vp *vp, u32 name, u64 value)
{
	struct hv_register_assoc reg = reg64(name, value);

	return mshv_set_regs(vp, &reg, 1);
}

int mshv_install_intercept(struct mshv_pt *pt, u32 access, u32 type,
			   u64 parameter)
{
	struct hv_input_install_intercept in = {
		.access_type = access,
		.intercept_type = type,
		.intercept_parameter = parameter,
	};

	return mshv_hvcall(pt->fd, HVCALL_INSTALL_INTERCEPT, 0, &in,
			   sizeof(in), NULL, 0, NULL);
}

int mshv_translate_gva(struct mshv_vp *vp, u64 gva, u64 flags,
		       struct hv_output_translate_virtual_address *result)
{
	struct hv_input_translate_virtual_address in = {
		.vp_index = vp->index,
		.control_flags = flags,
		.gva_page = gva >> PAGE_SHIFT,
	};

	memset(result, 0, sizeof(*result));
	return mshv_hvcall(vp->pt->fd, HVCALL_TRANSLATE_VIRTUAL_ADDRESS, 0, &in,
			   sizeof(in), result, sizeof(*result), NULL);
}

int mshv_vp_state(struct mshv_vp *vp, unsigned long request, u8 type,
		  void *buffer, u32 *size)
{
	struct mshv_get_set_vp_state args = {
		.type = type, .buf_sz = *size, .buf_ptr = (u64)buffer,
	};
	int ret = do_ioctl(vp->fd, request, &args);

	*size = args.buf_sz;
	return ret;
}

long mshv_run_once(struct mshv_vp *vp)
{
	struct mshv_run_vp run;
	int ret;

	static_assert(sizeof(run) >= sizeof(vp->msg), "size of a message");

	ret = do_ioctl(vp->fd, MSHV_RUN_VP, &run);
	if (ret)
		return ret;

	memcpy(&vp->msg, &run, sizeof(vp->msg));
	return vp->msg.header.message_type;
}

long mshv_run(struct mshv_vp *vp)
{
	long ret;

	do {
		ret = mshv_run_once(vp);
	} while (ret == -EINTR);

	return ret;
}

/*
 * The guest
 */

int guest_prepare(struct mshv_vp *vp, u64 rip, struct guest_args args)
{
	struct hv_register_assoc regs[] = {
		reg64(HV_X64_REGISTER_RAX, args.rax),
		reg64(HV_X64_REGISTER_RCX, args.rcx),
		reg64(HV_X64_REGISTER_RDX, args.rdx),
		reg64(HV_X64_REGISTER_RSI, args.rsi),
		reg64(HV_X64_REGISTER_RDI, args.rdi),
		reg64(HV_X64_REGISTER_RIP, rip),
	};

	return mshv_set_regs(vp, regs, ARRAY_SIZE(regs));
}

long guest_run(struct mshv_vp *vp, u64 rip, struct guest_args args)
{
	int ret;

	ret = guest_prepare(vp, rip, args);
	if (ret)
		return ret;
	return mshv_run(vp);
}

int guest_call(struct mshv_vp *vp, const char *command, struct guest_args args,
	       u64 *result)
{
	long ret;

	memset(&vp->msg, 0, sizeof(vp->msg));
	ret = guest_run(vp, GUEST_ADDR(command), args);
	if (ret < 0)
		return ret;
	if (ret != HVMSG_X64_HALT)
		return -EPROTO;
	return result ? mshv_get_reg(vp, HV_X64_REGISTER_RAX, result) : 0;
}

static void *guest_thread(void *arg)
{
	struct guest_thread *thread = arg;
	int ret;

	ret = guest_prepare(thread->vp, thread->rip, thread->args);
	WRITE_ONCE(thread->started, true);
	if (ret) {
		thread->ret = ret;
	} else {
		while ((thread->ret = mshv_run_once(thread->vp)) == -EINTR)
			WRITE_ONCE(thread->interrupted, thread->interrupted + 1);
		if (mshv_get_reg(thread->vp, HV_X64_REGISTER_RAX, &thread->rax))
			thread->rax = 0;
	}
	WRITE_ONCE(thread->ended, true);

	return NULL;
}

int guest_thread_start(struct guest_thread *thread, struct mshv_vp *vp,
		       const char *command, struct guest_args args)
{
	pthread_t id;
	int ret;

	memset(thread, 0, sizeof(*thread));
	thread->vp = vp;
	thread->rip = GUEST_ADDR(command);
	thread->args = args;
	ret = pthread_create(&id, NULL, guest_thread, thread);
	thread->thread = id;
	return -ret;
}

long guest_thread_join(struct guest_thread *thread)
{
	pthread_join(thread->thread, NULL);
	return thread->ret;
}

/* What a busy VP does, until it is stopped or something goes wrong */
static void *busy_thread(void *arg)
{
	struct busy_vp *busy = arg;
	struct guest_args args = { .rdi = busy->gpa, .rsi = busy->pages };
	u64 lost = 0;

	for (;;) {
		args.rdx = busy->value;
		busy->ret = guest_call(busy->vp, guest_fill, args, NULL);
		if (busy->ret || READ_ONCE(busy->stop))
			return NULL;
		busy->ret = guest_call(busy->vp, guest_check, args, &lost);
		busy->lost += lost;
		if (busy->ret)
			return NULL;
		busy->value += 1ULL << 32;
		WRITE_ONCE(busy->rounds, busy->rounds + 1);
	}
}

bool load_start(struct load *load, struct mshv_pt *pt, u64 gfn, size_t pages,
		unsigned int vps)
{
	const size_t part = pages / vps;

	memset(load, 0, sizeof(*load));
	load->pages = part;
	for (; load->vps < vps; load->vps++) {
		struct busy_vp *busy = &load->busy[load->vps];

		busy->vp = &pt->vp[load->vps];
		busy->gpa = (gfn + load->vps * part) << PAGE_SHIFT;
		busy->pages = part;
		busy->value = (u64)(load->vps + 1) << 56;
		if (pthread_create(&busy->thread, NULL, busy_thread, busy))
			return false;
	}
	return load_goes_on(load, 20000);
}

bool load_goes_on(struct load *load, int msec)
{
	u64 seen[GUEST_MAX_VPS];
	unsigned int i;

	for (i = 0; i < load->vps; i++)
		seen[i] = READ_ONCE(load->busy[i].rounds);
	for (i = 0; i < load->vps; i++)
		if (!wait_for_change(&load->busy[i].rounds, seen[i], msec))
			return false;
	return true;
}

long load_stop(struct load *load, u8 *mem)
{
	unsigned int i;
	long lost = 0;

	for (i = 0; i < load->vps; i++)
		WRITE_ONCE(load->busy[i].stop, true);
	for (i = 0; i < load->vps; i++) {
		struct busy_vp *busy = &load->busy[i];

		pthread_join(busy->thread, NULL);
		if (busy->ret) {
			say("VP %u: %d, message %#x, GPA %#llx", i, busy->ret,
			    busy->vp->msg.header.message_type,
			    (unsigned long long)busy->vp->msg.memory.guest_physical_address);
			lost++;
			continue;
		}
		lost += busy->lost;
		if (mem)
			lost += mismatches(mem + i * load->pages * PAGE_SIZE,
					   load->pages, busy->value);
	}
	load->vps = 0;
	return lost;
}

u64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

static unsigned int from_environment(const char *name, unsigned int otherwise)
{
	const char *text = getenv(name);
	int n = text ? atoi(text) : 0;

	return n > 0 ? n : otherwise;
}

unsigned int test_scale(void)
{
	return from_environment("MSHV_SCALE", 1);
}

unsigned int test_pause(void)
{
	return from_environment("MSHV_PAUSE", 0);
}

bool wait_for_change(const u64 *value, u64 old, int msec)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += msec / 1000;
	end.tv_nsec += msec % 1000 * 1000000L;

	while (READ_ONCE(*value) == old) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec + 1 ||
		    (now.tv_sec - end.tv_sec) * 1000000000L +
		    now.tv_nsec - end.tv_nsec > 0)
			return READ_ONCE(*value) != old;
		usleep(100);
	}

	return true;
}

/*
 * Memory of the VMM
 */

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

#define TRACING		"/sys/kernel/tracing"
#define TRACE		TRACING "/instances/mshv-test"

static bool tracing;

bool trace_start(const char *event, const char *filter)
{
	char path[128];

	mount("nodev", TRACING, "tracefs", 0, NULL);
	/* What others have left is not wanted */
	if (!tracing)
		rmdir(TRACE);
	tracing = true;
	mkdir(TRACE, 0700);
	snprintf(path, sizeof(path), TRACE "/events/%s/filter", event);
	if (filter && !write_file(path, filter))
		return false;
	snprintf(path, sizeof(path), TRACE "/events/%s/enable", event);
	return write_file(path, "1");
}

FILE *trace_open(void)
{
	return fopen(TRACE "/trace", "r");
}

void trace_stop(void)
{
	tracing = false;
	rmdir(TRACE);
}

bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n < 0 ? 0 : n] = 0;
	return n > 0;
}

long read_field(const char *path, const char *name)
{
	size_t len = strlen(name);
	char line[256];
	long value = -ENOENT;
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, len) &&
		    (line[len] == ' ' || line[len] == ':')) {
			value = atol(line + len + 1);
			break;
		}
	}
	fclose(file);
	return value;
}

/*
 * Settings. Every test is a process of its own, which may be killed: what they were
 * is kept where the one that started it finds it.
 */

#define SETTINGS	16

static struct setting {
	bool used, whole_program;
	char path[96], was[64];
} *settings;

static pid_t settings_of;

static bool setting_change(const char *path, const char *value,
			   bool whole_program)
{
	struct setting *setting = NULL;
	char was[sizeof(setting->was)], *text = was, *bracket;
	unsigned int i;

	if (settings == MAP_FAILED || !read_file(path, was, sizeof(was)))
		return false;
	bracket = strchr(was, '[');
	if (bracket) {
		text = bracket + 1;
		text[strcspn(text, "]")] = 0;
	}
	for (i = 0; i < SETTINGS; i++) {
		if (!settings[i].used) {
			setting = &settings[i];
			break;
		}
		/* What it was first is what counts */
		if (settings[i].whole_program == whole_program &&
		    !strcmp(settings[i].path, path))
			return write_file(path, value);
	}
	if (!setting || strlen(path) >= sizeof(setting->path) ||
	    !write_file(path, value))
		return false;
	memcpy(setting->path, path, strlen(path) + 1);
	memcpy(setting->was, text, strlen(text) + 1);
	setting->whole_program = whole_program;
	WRITE_ONCE(setting->used, true);
	return true;
}

/* Those whose paths start with one */
static void settings_put_back(const char *prefix, bool whole_program)
{
	unsigned int i = settings == MAP_FAILED ? 0 : SETTINGS;

	while (i--) {
		if (!settings[i].used ||
		    (settings[i].whole_program && !whole_program) ||
		    strncmp(settings[i].path, prefix, strlen(prefix)))
			continue;
		write_file(settings[i].path, settings[i].was);
		settings[i].used = false;
	}
}

bool setting_set(const char *path, const char *value)
{
	return setting_change(path, value, false);
}

void settings_restore(void)
{
	settings_put_back("", false);
}

bool free_to_zones(void)
{
	return setting_set("/proc/sys/vm/percpu_pagelist_high_fraction",
			   "100000");
}

/*
 * Tests count pages and intercepts: nobody else is to take pages away to see who
 * uses them.
 */
__attribute__((constructor)) static void settings_start(void)
{
	settings_of = getpid();
	settings = mmap(NULL, SETTINGS * sizeof(*settings),
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			0);
	setting_change("/proc/sys/kernel/numa_balancing", "0", true);
}

__attribute__((destructor)) static void settings_end(void)
{
	if (settings_of == getpid())
		settings_put_back("", true);
}

#define MEMINFO		"/proc/meminfo"

/* What of the pool is neither in use nor promised to anybody */
static long hugetlb_spare(void)
{
	return read_field(MEMINFO, "HugePages_Free") -
	       read_field(MEMINFO, "HugePages_Rsvd");
}

bool hugetlb_reserve(unsigned int pages)
{
	long spare = hugetlb_spare();
	char text[32];

	if (read_field(MEMINFO, "Hugepagesize") != 2048)
		return false;
	if (spare >= (long)pages)
		return true;
	/* More than there are, whoever uses those */
	snprintf(text, sizeof(text), "%ld",
		 read_field(MEMINFO, "HugePages_Total") + pages - spare);
	setting_change("/proc/sys/vm/nr_hugepages", text, true);
	return hugetlb_spare() >= (long)pages;
}

bool split_huge_pages(const void *mem, size_t bytes)
{
	char text[96];

	snprintf(text, sizeof(text), "%d,%#lx,%#lx", getpid(), (unsigned long)mem,
		 (unsigned long)mem + bytes);
	return write_file("/sys/kernel/debug/split_huge_pages", text);
}

static void *map_at(size_t size, size_t align, int flags, int fd)
{
	u8 *area, *addr;

	area = mmap(NULL, size + align, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return NULL;

	addr = (u8 *)(((uintptr_t)area + align - 1) & ~(align - 1));
	if (addr > area)
		munmap(area, addr - area);
	munmap(addr + size, area + align - addr);

	addr = mmap(addr, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	return addr == MAP_FAILED ? NULL : addr;
}

void *mshv_alloc(enum mshv_backing backing, size_t size)
{
	void *addr = NULL;
	int fd;

	switch (backing) {
	case BACKING_ANON:
		addr = map_at(size, PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (addr)
			madvise(addr, size, MADV_NOHUGEPAGE);
		break;
	case BACKING_THP:
		addr = map_at(size, HUGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (addr && madvise(addr, size, MADV_HUGEPAGE)) {
			mshv_free(addr, size);
			addr = NULL;
			errno = ENOTSUP;
		}
		break;
	case BACKING_HUGETLB:
		addr = map_at(size, HUGE_SIZE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
		break;
	case BACKING_MEMFD:
		fd = mshv_alloc_memfd(&addr, size, PAGE_SIZE);
		if (fd >= 0)
			close(fd);
		break;
	case BACKING_FILE:
		fd = mshv_alloc_file(&addr, size);
		if (fd >= 0)
			close(fd);
		break;
	case BACKING_HUGETLB_SHARED:
		fd = mshv_alloc_hugetlb(&addr, size);
		if (fd >= 0)
			close(fd);
		break;
	case BACKING_SHMEM_THP:
		/* Others do not ask for it: it may stay until the program ends */
		if (!setting_change(THP "shmem_enabled", "advise", true)) {
			errno = ENOTSUP;
			break;
		}
		fd = mshv_alloc_memfd(&addr, size, HUGE_SIZE);
		if (fd >= 0)
			close(fd);
		if (addr && madvise(addr, size, MADV_HUGEPAGE)) {
			mshv_free(addr, size);
			addr = NULL;
			errno = ENOTSUP;
		}
		break;
	}

	return addr;
}

static int alloc_memfd(void **addr, size_t size, size_t align, unsigned int flags)
{
	int fd = memfd_create("mshv-test", MFD_CLOEXEC | flags);

	*addr = NULL;
	if (fd < 0)
		return -1;
	if (!ftruncate(fd, size))
		*addr = map_at(size, align, MAP_SHARED, fd);
	if (*addr)
		return fd;
	close(fd);
	return -1;
}

int mshv_alloc_memfd(void **addr, size_t size, size_t align)
{
	return alloc_memfd(addr, size, align, 0);
}

int mshv_alloc_hugetlb(void **addr, size_t size)
{
	return alloc_memfd(addr, size, HUGE_SIZE, MFD_HUGETLB);
}

static u64 find_hpet(void)
{
	unsigned long long start, spa = 0;
	char line[256];
	FILE *file = fopen("/proc/iomem", "r");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strstr(line, "HPET") && sscanf(line, "%llx-", &start) == 1 &&
		    !(start & (PAGE_SIZE - 1)))
			spa = start;
	fclose(file);
	return spa;
}

/* Of which pagemap knows nothing */
static const u8 *device_memory;

void *mshv_alloc_mmio(u64 *spa)
{
	u8 *addr;
	int fd;

	*spa = find_hpet();
	if (!*spa)
		return NULL;
	fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	addr = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    *spa - PAGE_SIZE);
	close(fd);
	if (addr == MAP_FAILED)
		return NULL;
	device_memory = addr + PAGE_SIZE;
	return addr + PAGE_SIZE;
}

int mshv_alloc_file(void **addr, size_t size)
{
	char name[] = DISK "/memory-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	*addr = NULL;
	if (fd < 0)
		return -1;
	unlink(name);
	if (!ftruncate(fd, size))
		*addr = map_at(size, HUGE_SIZE, MAP_SHARED, fd);
	if (*addr)
		return fd;
	close(fd);
	return -1;
}

void mshv_free(void *addr, size_t size)
{
	if (addr)
		munmap(addr, size);
}

u64 pagemap_entry(const void *addr)
{
	static int fd = -1;
	u64 entry = 0;
	off_t offset = ((uintptr_t)addr >> PAGE_SHIFT) * sizeof(entry);

	/* A forked child has page tables of its own */
	static pid_t owner;

	if (owner != getpid()) {
		if (fd >= 0)
			close(fd);
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		owner = getpid();
	}

	return pread(fd, &entry, sizeof(entry), offset) == sizeof(entry) ?
	       entry : 0;
}

u64 page_pfn(const void *addr)
{
	u64 entry = pagemap_entry(addr);

	return entry & PM_PRESENT ? entry & PM_PFN : 0;
}

bool pagemap_usable(void)
{
	u8 on_stack = 1;

	return page_pfn(&on_stack) != 0;
}

long pin_balance(void)
{
	long acquired, released;
	char buf[16];
	int fd;

	/* Counters are kept per CPU for a while: fold them */
	fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);
	if (fd >= 0) {
		if (read(fd, buf, sizeof(buf)) < 0)
			say("stat_refresh: %s", strerror(errno));
		close(fd);
	} else {
		sleep(2);
	}

	acquired = vmstat("nr_foll_pin_acquired");
	released = vmstat("nr_foll_pin_released");
	if (acquired < 0)
		return acquired;
	if (released < 0)
		return released;
	return acquired - released;
}

long resident(const u8 *mem, size_t pages)
{
	u8 *vec = malloc(pages);
	long count = 0;
	size_t i;

	if (!vec || mincore((void *)mem, pages * PAGE_SIZE, vec))
		count = -1;
	for (i = 0; count >= 0 && i < pages; i++)
		count += vec[i] & 1;
	free(vec);
	return count;
}

static u64 pfn_flags(u64 pfn)
{
	static int fd = -1;
	u64 flags = 0;

	if (fd < 0)
		fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	return pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) ==
	       sizeof(flags) ? flags : 0;
}

u64 page_flags(const void *addr)
{
	return pfn_flags(page_pfn(addr));
}

void fill_pages(u8 *mem, size_t pages, u64 seed)
{
	size_t i;

	for (i = 0; i < pages; i++)
		WRITE_ONCE(*quad(mem, i), seed + i);
}

size_t mismatches(u8 *mem, size_t pages, u64 seed)
{
	size_t i, wrong = 0;

	for (i = 0; i < pages; i++)
		wrong += READ_ONCE(*quad(mem, i)) != seed + i;
	return wrong;
}

bool page_dirty(const void *addr)
{
	return page_flags(addr) & KPF_DIRTY;
}

int slat_entries(struct mshv_pt *pt, u64 gfn, u64 pages,
		 struct oracle_slat *entries)
{
	static struct oracle_slat runs[4096];
	long i, n;
	u64 page;

	n = oracle_audit(pt->id, gfn, gfn + pages - 1, runs, ARRAY_SIZE(runs));
	if (n < 0)
		return n;

	memset(entries, 0, pages * sizeof(*entries));
	for (i = 0; i < n; i++) {
		for (page = runs[i].gfn; page < runs[i].gfn + runs[i].pages; page++) {
			if (page < gfn || page >= gfn + pages)
				continue;
			entries[page - gfn] = (struct oracle_slat){
				.gfn = page,
				.spa = runs[i].spa +
				       ((page - runs[i].gfn) << PAGE_SHIFT),
				.pages = 1,
				.flags = runs[i].flags,
			};
		}
	}
	return 0;
}

/* What is wrong with a writable entry of movable memory, NULL if nothing is */
static const char *writable_fault(u64 entry, u64 flags)
{
	/* It is not there any more, or this cannot be seen */
	if (!flags)
		return NULL;
	if (entry & PM_UFFD_WP)
		return "is writable, and protected by userfaultfd";
	if (flags & KPF_ZERO_PAGE)
		return "is writable, and the zero page";
	/* KPF_KSM is of no use: v6.18 sets it for every anonymous page */
	if (flags & KPF_ANON && !(entry & PM_EXCLUSIVE))
		return "is writable, and mapped elsewhere, too";
	if (!(flags & (KPF_DIRTY | KPF_HUGE | KPF_NOPAGE)))
		return "is writable and clean";
	return NULL;
}

/*
 * What is wrong with an entry, NULL if nothing is; @entry and @flags are what pagemap
 * and kpageflags say
 */
static const char *slat_fault(struct mshv_pt *pt, const struct oracle_slat *slat,
			      u64 entry, u64 flags, u32 perms, bool all)
{
	const char *what = NULL;

	if (!slat->pages)
		return all ? "is not mapped" : NULL;
	if (slat->flags & SLAT_NO_ACCESS)
		return all ? "is no-access" : NULL;
	if (!(entry & PM_PRESENT) || !(entry & PM_PFN))
		return "maps a page the VMM does not";
	if (slat->spa >> PAGE_SHIFT != (entry & PM_PFN))
		return "maps another page than the VMM";
	if ((slat->flags & SLAT_PERMISSIONS) != perms &&
	    (all || (slat->flags & SLAT_PERMISSIONS) != (perms & ~SLAT_WRITE)))
		return "has other permissions";
	if (slat->flags & SLAT_WRITE && !pt->pinned)
		what = writable_fault(entry, flags);
	/* Trying that out takes hypercalls, which tests count: not without need */
	return what && mshv_missing(FEATURE_MOVABLE) ? NULL : what;
}

long slat_check(struct mshv_pt *pt, u64 gfn, const void *addr,
		u64 pages, u32 perms, bool all)
{
	struct oracle_slat slat[HUGE_PAGES];
	u64 entries[HUGE_PAGES], flags, i, n;
	const char *where = addr, *what;
	long wrong = 0;
	int ret;

	for (; pages; pages -= n, gfn += n, where += n * PAGE_SIZE) {
		n = pages < HUGE_PAGES ? pages : HUGE_PAGES;
		for (i = 0; i < n; i++)
			entries[i] = pagemap_entry(where + i * PAGE_SIZE);
		ret = slat_entries(pt, gfn, n, slat);
		if (ret)
			return ret;

		for (i = 0; i < n; i++) {
			flags = slat[i].flags & SLAT_WRITE ?
				pfn_flags(entries[i] & PM_PFN) : 0;
			if (!slat_fault(pt, &slat[i], entries[i], flags, perms, all))
				continue;
			/*
			 * Where something is going on look again, at this one. What the
			 * kernel does can only take it out of the SLAT: that is last.
			 */
			entries[i] = pagemap_entry(where + i * PAGE_SIZE);
			flags = pfn_flags(entries[i] & PM_PFN);
			ret = slat_entries(pt, gfn + i, 1, &slat[i]);
			if (ret)
				return ret;
			what = slat_fault(pt, &slat[i], entries[i], flags, perms, all);
			if (what && !wrong++)
				say("GFN %#llx %s: SPA %#llx %#x, page %#llx %#llx, perms %#x",
				    (unsigned long long)gfn + i, what,
				    (unsigned long long)slat[i].spa, slat[i].flags,
				    (unsigned long long)entries[i],
				    (unsigned long long)flags, perms);
		}
	}

	return wrong;
}

static int by_gfn(const void *a, const void *b)
{
	const struct mshv_pt_region *x = a, *y = b;

	return x->gfn < y->gfn ? -1 : x->gfn > y->gfn;
}

/* What is accessible from @first to @last, where there is nothing; or -errno */
static long accessible_outside(struct mshv_pt *pt, u64 first, u64 last)
{
	static struct oracle_slat runs[64];
	long i, n, pages = 0;

	n = oracle_audit(pt->id, first, last, runs, ARRAY_SIZE(runs));
	/* Of a region that another process has, and has given up */
	for (i = 0; i < n; i++)
		if (!(runs[i].flags & SLAT_NO_ACCESS))
			pages += runs[i].pages;
	return n < 0 ? n : pages;
}

static u32 slat_perms(u8 flags)
{
	return SLAT_READ | (flags & MEM_W ? SLAT_WRITE : 0) |
	       (flags & MEM_X ? SLAT_EXEC : 0);
}

long mshv_pt_audit(struct mshv_pt *pt)
{
	const u64 last_gfn = (1ULL << (52 - PAGE_SHIFT)) - 1;
	struct mshv_pt_region region[PT_REGIONS + 1];
	unsigned int i, nr = pt->regions;
	long wrong = 0, ret;
	u64 gfn = 0;

	if (pt->fd < 0 || pt->owner != getpid() || nr > PT_REGIONS ||
	    !oracle_present() || !pagemap_usable())
		return 0;
	/* Dead: whatever it is asked for. What it was refused to give up stays there */
	if (mshv_unmap(pt, last_gfn, NULL, PAGE_SIZE) == -EIO) {
		if (!pt->dies)
			say("the partition is dead");
		return !pt->dies;
	}

	for (i = 0; i < nr && !pt->pinned; i++) {
		const struct mshv_pt_region *r = &pt->region[i];

		if (r->addr == device_memory)
			continue;
		ret = slat_check(pt, r->gfn, r->addr,
				 r->pages < AUDIT_PAGES ? r->pages : AUDIT_PAGES,
				 slat_perms(r->flags), false);
		if (ret)
			say("region of GFN %#llx: %ld wrong",
			    (unsigned long long)r->gfn, ret);
		wrong += ret ? 1 : 0;
	}

	memcpy(region, pt->region, nr * sizeof(*region));
	qsort(region, nr, sizeof(*region), by_gfn);
	region[nr] = (struct mshv_pt_region){ .gfn = last_gfn + 1 };
	for (i = 0; i <= nr; i++) {
		ret = region[i].gfn > gfn ?
		      accessible_outside(pt, gfn, region[i].gfn - 1) : 0;
		if (ret)
			say("%ld GFNs from %#llx on are accessible, and of no region", ret,
			    (unsigned long long)gfn);
		wrong += ret ? 1 : 0;
		gfn = region[i].gfn + region[i].pages;
	}

	return wrong && mshv_missing(FEATURE_MOVABLE) ? 0 : wrong;
}

bool accessible(struct mshv_pt *pt, u64 gfn)
{
	struct oracle_slat entry;

	return !oracle_slat(pt->id, gfn, &entry) &&
	       !(entry.flags & SLAT_NO_ACCESS);
}

long accessible_pages(struct mshv_pt *pt, u64 gfn, size_t pages)
{
	long count = 0;
	size_t i;

	for (i = 0; i < pages; i++)
		count += accessible(pt, gfn + i);
	return count;
}

size_t folios_of_64_kib(u8 *mem, size_t pages)
{
	size_t i, run = 0, n = 0;
	u64 pfn, last = 0;

	for (i = 0; i < pages; i++, last = pfn) {
		pfn = page_pfn(quad(mem, i));
		if (pfn && pfn % 16 == 0)
			run = 1;
		else if (run && pfn == last + 1)
			run++;
		else
			run = 0;
		n += run == 16;
	}
	return n;
}

size_t pages_in_state(const u64 *pfns, size_t nr, u64 wanted)
{
	size_t i, n = 0;
	u64 state;

	for (i = 0; i < nr; i++)
		if (!oracle_page(pfns[i] << PAGE_SHIFT, &state, NULL))
			n += state == wanted;
	return n;
}

struct oracle_counter map_counter(void)
{
	struct oracle_counter counter = {};

	oracle_counter(HVCALL_MAP_GPA_PAGES, &counter);
	return counter;
}

struct oracle_counter unmap_counter(void)
{
	struct oracle_counter counter = {};

	oracle_counter(HVCALL_UNMAP_GPA_PAGES, &counter);
	return counter;
}

long check_mirror(struct mshv_vp *vp, u64 gfn, u8 *mem, size_t pages,
			 u32 perms)
{
	const size_t step = pages > 128 ? pages / 64 | 1 : 1;
	const bool oracle = oracle_present();
	long wrong = 0;
	size_t i;

	if (oracle && pagemap_usable())
		wrong = slat_check(vp->pt, gfn, mem, pages, perms, false);
	if (wrong)
		return wrong;

	for (i = 0; i < pages; i += step) {
		struct guest_args args = { .rdi = (gfn + i) * PAGE_SIZE };
		u64 guest = 0, vmm = ~0ULL;
		struct iovec local = { &vmm, sizeof(vmm) };
		struct iovec remote = { quad(mem, i), sizeof(vmm) };

		if (oracle ? !accessible(vp->pt, gfn + i) :
			     !page_pfn(quad(mem, i)))
			continue;
		if (guest_call(vp, guest_read, args, &guest) ||
		    process_vm_readv(getpid(), &local, 1, &remote, 1, 0) !=
			    sizeof(vmm) ||
		    guest != vmm) {
			if (!wrong++)
				say("page %zu: %#llx, VMM %#llx", i,
				    (unsigned long long)guest,
				    (unsigned long long)vmm);
		}
	}

	return wrong;
}

/*
 * Other processes, and the kernel
 */

int reap(pid_t child, int msec)
{
	int status;

	for (; msec > 0; msec--) {
		if (waitpid(child, &status, WNOHANG) > 0)
			return status;
		usleep(1000);
	}
	return -1;
}

int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

int kmsg_complaints(int fd)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "Bad rss-counter",
		"possible circular locking", "blocked for more than",
		"detected stall", "expedited stall", "UBSAN:",
		"trying to register non-static key",
	};
	static char text[8192];
	unsigned int i;
	int count = 0;
	ssize_t n;

	while (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			break;
		text[n] = 0;
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			if (!strstr(text, bad[i]))
				continue;
			say("kernel: %s", text);
			count++;
			break;
		}
	}
	return count;
}

bool kmsg_wait(int fd, const char *text, int msec)
{
	const u64 end = now_ms() + msec;
	static char message[8192];
	ssize_t n;

	while (fd >= 0) {
		n = read(fd, message, sizeof(message) - 1);
		if (n > 0) {
			message[n] = 0;
			if (strstr(message, text))
				return true;
		} else if (n == 0 || errno != EPIPE) {
			if (now_ms() >= end)
				break;
			usleep(1000);
		}
	}
	return false;
}

/*
 * Swap
 */

/* @file: it must have no holes, so write all of it */
static bool swap_write_header(int fd, size_t pages, bool file)
{
	static u8 header[PAGE_SIZE];
	u32 *info = (u32 *)(header + 1024);
	size_t i;

	for (i = 0; file && i < pages; i++)
		if (pwrite(fd, header, PAGE_SIZE, i * PAGE_SIZE) !=
		    (ssize_t)PAGE_SIZE)
			return false;
	info[0] = 1;		/* version */
	info[1] = pages - 1;	/* last page */
	memcpy(header + PAGE_SIZE - 10, "SWAPSPACE2", 10);
	return pwrite(fd, header, PAGE_SIZE, 0) == (ssize_t)PAGE_SIZE &&
	       !fsync(fd);
}

bool swap_start(char *name)
{
	const size_t pages = 16384;
	char text[1024], *line;
	bool ok;
	int fd;

	name[0] = 0;
	if (read_file("/proc/swaps", text, sizeof(text))) {
		line = strchr(text, '\n');
		if (line && line[1])
			return true;
	}

	if (write_file("/sys/block/zram0/disksize", "64M")) {
		snprintf(name, SWAP_NAME, "/dev/zram0");
		fd = open(name, O_RDWR | O_CLOEXEC);
	} else {
		snprintf(name, SWAP_NAME, "./mshv-swap-XXXXXX");
		fd = mkostemp(name, O_CLOEXEC);
	}
	if (fd < 0) {
		name[0] = 0;
		return false;
	}
	ok = swap_write_header(fd, pages, name[0] == '.');
	close(fd);
	return ok && !swapon(name, 0);
}

void swap_stop(char *name)
{
	if (!name[0])
		return;
	swapoff(name);
	if (strncmp(name, "/dev/", 5))
		unlink(name);
	else
		write_file("/sys/block/zram0/reset", "1");
	name[0] = 0;
}

/*
 * KSM
 */

static bool merged(u8 *mem, size_t pages)
{
	const u64 pfn = page_pfn(mem);
	size_t i;

	for (i = 1; i < pages; i++)
		if (page_pfn(quad(mem, i)) != pfn)
			return false;
	return pfn;
}

bool ksm_start(void)
{
	return setting_set(KSM "pages_to_scan", "10000") &&
	       setting_set(KSM "sleep_millisecs", "1") &&
	       setting_set(KSM "run", "1");
}

void ksm_stop(void)
{
	settings_put_back(KSM, false);
}

const char *ksm_merge(u8 *mem, size_t pages)
{
	int i;

	if (madvise(mem, pages * PAGE_SIZE, MADV_MERGEABLE) || !ksm_start())
		return "needs: KSM";
	for (i = 0; i < 1000 && !merged(mem, pages); i++)
		usleep(10000);
	ksm_stop();
	return merged(mem, pages) ? NULL : "needs: KSM that merges within 10 s";
}

/*
 * A file system that has to write back, on a block device of its own
 */

static int disk = -1;

static int make_file_system(const char *device)
{
	int status = -1;
	pid_t child;

	child = fork();
	if (!child) {
		const int null = open("/dev/null", O_RDWR);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execlp("mke2fs", "mke2fs", "-F", "-b", "4096", device, NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	return status;
}

const char *disk_start(void)
{
	char text[16], path[64], device[32];

	if (!read_file("/sys/class/zram-control/hot_add", text, sizeof(text)))
		return "needs: CONFIG_ZRAM";
	disk = atoi(text);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", disk);
	snprintf(device, sizeof(device), "/dev/zram%d", disk);
	mkdir(DISK, 0700);
	if (!write_file(path, "64M") || make_file_system(device)) {
		disk_stop();
		return "needs: mke2fs, and zram of 64 MiB";
	}
	if (mount(device, DISK, "ext4", 0, NULL) &&
	    mount(device, DISK, "ext2", 0, NULL)) {
		disk_stop();
		return "needs: CONFIG_EXT4_FS";
	}
	return NULL;
}

const char *disk_start_dax(void)
{
	static const char device[] = "/dev/pmem0";

	/* On another machine it may have what somebody needs */
	if (!oracle_present() || access(device, W_OK))
		return "needs: the nested root VM, with CONFIG_X86_PMEM_LEGACY";
	mkdir(DISK, 0700);
	if (make_file_system(device))
		return "needs: mke2fs";
	if (mount(device, DISK, "ext4", 0, "dax"))
		return "needs: CONFIG_EXT4_FS and CONFIG_FS_DAX";
	return NULL;
}

void disk_stop(void)
{
	char text[16], path[64];

	umount2(DISK, MNT_DETACH);
	rmdir(DISK);
	if (disk < 0)
		return;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", disk);
	write_file(path, "1");
	snprintf(text, sizeof(text), "%d", disk);
	write_file("/sys/class/zram-control/hot_remove", text);
	disk = -1;
}

/*
 * Memory cgroup
 */

#define CGROUP		"/tmp/mshv-cgroup"
#define GROUP		CGROUP "/mshv-test"

bool cgroup_start(const char *high, const char *max, const char *swap)
{
	cgroup_stop();
	mkdir(CGROUP, 0700);
	if (mount("none", CGROUP, "cgroup2", 0, NULL) ||
	    !write_file(CGROUP "/cgroup.subtree_control", "+memory") ||
	    mkdir(GROUP, 0700))
		return false;
	return write_file(GROUP "/memory.high", high) &&
	       write_file(GROUP "/memory.max", max) &&
	       write_file(GROUP "/memory.swap.max", swap);
}

bool cgroup_join(void)
{
	return write_file(GROUP "/cgroup.procs", "0");
}

bool cgroup_start_reclaimable(void)
{
	return cgroup_start("max", "max", "max") &&
	       !access(GROUP "/memory.reclaim", W_OK);
}

void cgroup_reclaim(const char *size)
{
	write_file(GROUP "/memory.reclaim", size);
}

long cgroup_killed(void)
{
	return read_field(GROUP "/memory.events", "oom_kill");
}

void cgroup_stop(void)
{
	int i;

	write_file(CGROUP "/cgroup.procs", "0");
	/* Those that were killed are about to end */
	for (i = 0; rmdir(GROUP) && errno == EBUSY && i < 500; i++)
		usleep(10000);
	umount(CGROUP);
	rmdir(CGROUP);
}

/*
 * NUMA nodes
 */

int numa_nodes(void)
{
	char path[64];
	int n = 0;

	do
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", n);
	while (!access(path, F_OK) && ++n);
	return n;
}

int numa_node(void *page)
{
	int status = -ENOENT;

	syscall(__NR_move_pages, 0, 1UL, &page, NULL, &status, 0);
	return status;
}

size_t numa_move(u8 *mem, size_t nr, int node)
{
	void *page[HUGE_PAGES];
	int where[HUGE_PAGES], status[HUGE_PAGES];
	size_t i, moved = 0;

	for (; nr > HUGE_PAGES; nr -= HUGE_PAGES, mem += HUGE_SIZE)
		moved += numa_move(mem, HUGE_PAGES, node);
	for (i = 0; i < nr; i++) {
		page[i] = mem + i * PAGE_SIZE;
		where[i] = node;
		status[i] = -1;
	}
	if (syscall(__NR_move_pages, 0, nr, page, where, status, 2 /* MPOL_MF_MOVE */) < 0)
		return moved;
	for (i = 0; i < nr; i++)
		moved += status[i] == node;
	return moved;
}

/*
 * Pages that user space supplies
 */

int uffd_open(u8 *mem, size_t pages, u64 mode, u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, pages * PAGE_SIZE }, .mode = mode,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg))
		return fd;
	close(fd);
	return -1;
}

bool uffd_wait(int fd, int msec)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, msec) == 1;
}

u64 uffd_fault(int fd)
{
	struct uffd_msg msg;

	if (!uffd_wait(fd, 5000) ||
	    read(fd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		return 0;
	return msg.arg.pagefault.address & ~(u64)(PAGE_SIZE - 1);
}

int mshv_live(u8 *mem, size_t pages)
{
	struct mshv_pt pt;
	int ret = mshv_pt_setup(&pt, 1);

	if (!ret)
		ret = mshv_map(&pt, TEST_GFN, mem, pages * PAGE_SIZE, MEM_RWX);
	if (!ret)
		ret = guest_call(&pt.vp[0], guest_fill,
				 GUEST_ARGS(.rdi = TEST_GPA, .rsi = pages, .rdx = 1),
				 NULL);
	if (!ret)
		ret = madvise(mem, pages * PAGE_SIZE / 2, MADV_DONTNEED);
	if (!ret)
		ret = guest_call(&pt.vp[0], guest_read,
				 GUEST_ARGS(.rdi = TEST_GPA), NULL);
	if (!ret)
		ret = mshv_unmap(&pt, TEST_GFN, mem, pages * PAGE_SIZE);
	mshv_pt_close(&pt);
	return ret;
}

static bool pager_supply(struct pager *pager)
{
	struct uffdio_writeprotect protect = {};
	struct uffdio_continue go_on = {};
	struct uffdio_copy copy = {};
	struct uffdio_range range;
	struct uffd_msg msg;
	u64 offset;

	if (read(pager->fd, &msg, sizeof(msg)) != sizeof(msg))
		return errno == EAGAIN;
	offset = (msg.arg.pagefault.address - (uintptr_t)pager->mem) &
		 ~(pager->unit - 1);
	if (msg.event != UFFD_EVENT_PAGEFAULT || offset >= pager->bytes)
		return false;
	pager->events[offset / pager->unit]++;

	range.start = (uintptr_t)pager->mem + offset;
	range.len = pager->unit;
	if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		protect.range = range;
		return !ioctl(pager->fd, UFFDIO_WRITEPROTECT, &protect);
	}
	if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) {
		go_on.range = range;
		return !pager->source && !ioctl(pager->fd, UFFDIO_CONTINUE, &go_on);
	}
	copy.dst = range.start;
	copy.src = (uintptr_t)pager->source + offset;
	copy.len = pager->unit;
	return pager->source && !ioctl(pager->fd, UFFDIO_COPY, &copy);
}

static void *pager_thread(void *arg)
{
	struct pager *pager = arg;

	while (!READ_ONCE(pager->stop))
		if (uffd_wait(pager->fd, 20) && !pager_supply(pager))
			pager->failed = true;
	return NULL;
}

bool pager_start(struct pager *pager)
{
	pager->stop = false;
	pager->failed = false;
	pager->events = calloc(pager->bytes / pager->unit, sizeof(*pager->events));
	return pager->events &&
	       !pthread_create(&pager->thread, NULL, pager_thread, pager);
}

size_t pager_stop(struct pager *pager, unsigned int times)
{
	const size_t units = pager->bytes / pager->unit;
	size_t i, others = 0;

	WRITE_ONCE(pager->stop, true);
	pthread_join(pager->thread, NULL);
	for (i = 0; i < units; i++)
		others += pager->events[i] != times;
	free(pager->events);
	return pager->failed ? units : others;
}

/*
 * What the kernel under test does
 */

static bool has_gfn_limits(void)
{
	struct mshv_pt pt;
	bool has = false;
	void *addr;

	addr = mshv_alloc(BACKING_ANON, 2 * PAGE_SIZE);
	if (addr && !mshv_pt_active(&pt)) {
		has = mshv_map(&pt, ~0ULL, addr, 2 * PAGE_SIZE, MEM_RW) < 0;
		mshv_pt_close(&pt);
	}
	mshv_free(addr, 2 * PAGE_SIZE);
	return has;
}

static bool has_region_errors(void)
{
	struct mshv_pt pt;
	bool has = false;
	void *addr;

	addr = mshv_alloc(BACKING_ANON, PAGE_SIZE);
	if (addr && !mshv_pt_active(&pt)) {
		oracle_inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED,
			      0, 0);
		has = mshv_map(&pt, TEST_GFN, addr, PAGE_SIZE, MEM_RW) < 0;
		oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
		mshv_pt_close(&pt);
	}
	mshv_free(addr, PAGE_SIZE);
	return has;
}

/* What it takes to unmap @pages large pages */
static struct oracle_counter unmap_cost(size_t pages)
{
	const size_t size = pages * HUGE_SIZE;
	struct oracle_counter counter = {};
	struct mshv_pt pt;
	void *addr;

	addr = mshv_alloc(BACKING_ANON, size);
	if (addr && !mshv_pt_active(&pt)) {
		if (!mshv_map(&pt, TEST_GFN, addr, size, MEM_RW) &&
		    !oracle_reset() && !mshv_unmap(&pt, TEST_GFN, addr, size))
			counter = unmap_counter();
		mshv_pt_close(&pt);
	}
	mshv_free(addr, size);
	return counter;
}

/* It goes on with 4K units where the hypervisor refuses a large one */
static bool has_unmap_batch(void)
{
	struct oracle_counter counter = unmap_cost(4);

	return counter.calls == 1 || counter.failures;
}

static bool has_unmap_large(void)
{
	struct oracle_counter counter = unmap_cost(4);

	return counter.reps == 4 || counter.failures;
}

static bool has_encrypted(void)
{
	struct mshv_pt pt;
	bool has;

	has = !mshv_pt_create(&pt, 0, TEST_ISOLATION_SNP);
	if (has)
		mshv_pt_close(&pt);
	return has;
}

/* Is @has true of a region of two pages, which the VMM has touched or not? */
static bool probe_region(bool touch,
			 bool (*has)(struct mshv_pt *pt, u8 *addr))
{
	struct mshv_pt pt;
	bool result = false;
	u8 *addr;

	addr = mshv_alloc(BACKING_ANON, 2 * PAGE_SIZE);
	if (addr && !mshv_pt_active(&pt)) {
		if (touch)
			*addr = 1;
		result = !mshv_map(&pt, TEST_GFN, addr, 2 * PAGE_SIZE, MEM_RW) &&
			 has(&pt, addr);
		mshv_pt_close(&pt);
	}
	mshv_free(addr, 2 * PAGE_SIZE);
	return result;
}

static bool has_pinned(struct mshv_pt *pt, u8 *addr)
{
	return resident(addr, 2) > 0;
}

static bool has_populated(struct mshv_pt *pt, u8 *addr)
{
	return accessible(pt, TEST_GFN);
}

static bool has_fast_no_access(struct mshv_pt *pt, u8 *addr)
{
	return !oracle_reset() &&
	       !madvise(addr, 2 * PAGE_SIZE, MADV_DONTNEED) &&
	       !map_counter().calls;
}

static const char *find_out(enum mshv_feature feature)
{
	switch (feature) {
	case FEATURE_GFN_LIMITS:
		if (!has_gfn_limits())
			return "needs: a kernel that refuses impossible GFN ranges";
		break;
	case FEATURE_REGION_ERRORS:
		if (!oracle_present())
			return NEEDS_ORACLE;
		if (!has_region_errors())
			return "needs: a kernel that reports failed region hypercalls";
		break;
	case FEATURE_UNMAP_BATCH:
		if (!oracle_present())
			return NEEDS_ORACLE;
		if (!has_unmap_batch())
			return "needs: batched unmap";
		break;
	case FEATURE_UNMAP_LARGE:
		if (!oracle_present())
			return NEEDS_ORACLE;
		if (!has_unmap_large())
			return "needs: unmap in large units";
		break;
	case FEATURE_ENCRYPTED:
		if (!has_encrypted())
			return "needs: the test-only isolation type SNP of the kernel";
		break;
	case FEATURE_PINNED:
		if (!probe_region(false, has_pinned))
			return "needs: a kernel that pins guest memory";
		break;
	case FEATURE_MOVABLE:
		if (probe_region(false, has_pinned))
			return "needs: movable regions";
		break;
	case FEATURE_POPULATED:
		if (!oracle_present())
			return NEEDS_ORACLE;
		if (!probe_region(true, has_populated))
			return "needs: populated pages mapped at creation";
		break;
	case FEATURE_FAST_NO_ACCESS:
		if (mshv_missing(FEATURE_MOVABLE))
			return mshv_missing(FEATURE_MOVABLE);
		if (!oracle_present())
			return NEEDS_ORACLE;
		if (!probe_region(false, has_fast_no_access))
			return "needs: the fast path for no-access";
		break;
	case FEATURES:
		break;
	}

	return NULL;
}

/* Every test is a process of its own: what one found out is there for the next */
static struct answer {
	bool known;
	const char *missing;
} *answers;

__attribute__((constructor)) static void share_answers(void)
{
	answers = mmap(NULL, FEATURES * sizeof(*answers), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

const char *mshv_missing(enum mshv_feature feature)
{
	if (answers == MAP_FAILED)
		return find_out(feature);
	if (!answers[feature].known) {
		answers[feature].missing = find_out(feature);
		answers[feature].known = true;
	}
	return answers[feature].missing;
}

bool mshv_strict(enum mshv_feature feature, const char *why)
{
	switch (feature) {
	case FEATURE_PINNED:	/* The series does away with it */
	case FEATURE_ENCRYPTED:	/* It takes another patch */
		return false;
	default:
		return getenv("MSHV_TEST_STRICT") && strcmp(why, NEEDS_ORACLE);
	}
}

unsigned int online_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}
