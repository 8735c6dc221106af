// SPDX-License-Identifier: GPL-2.0
/*
 * Life of a partition and its VPs: create, initialize, close; arguments that
 * are refused; what is left behind.
 */
#include <fcntl.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "mshv_util.h"

/* No address is valid there */
#define BAD_PTR ((void *)8UL)

FIXTURE(dev)
{
	int fd;
};

FIXTURE_SETUP(dev)
{
	require_mshv();
	self->fd = mshv_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(dev)
{
	close(self->fd);
}

TEST_F(dev, unknown_ioctl_is_enotty)
{
	EXPECT_EQ(-1, ioctl(self->fd, _IO(MSHV_IOCTL, 0x7f)));
	EXPECT_EQ(ENOTTY, errno);
	/* An ioctl of a partition is none of the device */
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_CREATE_VP, NULL));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_F(dev, create_refuses_unknown_flags)
{
	EXPECT_EQ(-EINVAL, mshv_create_partition(self->fd, BIT(MSHV_PT_BIT_COUNT),
						 MSHV_PT_ISOLATION_NONE));
	EXPECT_EQ(-EINVAL, mshv_create_partition(self->fd, 1ULL << 63,
						 MSHV_PT_ISOLATION_NONE));
}

TEST_F(dev, create_refuses_unknown_isolation)
{
	EXPECT_EQ(-EINVAL, mshv_create_partition(self->fd, 0, 0x7fff));
	EXPECT_EQ(-EINVAL, mshv_create_partition(self->fd, 0, ~0ULL));
}

TEST_F(dev, create_with_bad_pointer_is_efault)
{
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_CREATE_PARTITION, BAD_PTR));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(dev, create_takes_every_known_flag)
{
	unsigned int flags;

	for (flags = 0; flags <= MSHV_PT_FLAGS_MASK; flags++) {
		int fd = mshv_create_partition(self->fd, flags,
					       MSHV_PT_ISOLATION_NONE);

		ASSERT_LE(0, fd) {
			TH_LOG("flags %#x", flags);
		}
		close(fd);
	}
}

TEST_F(dev, partition_fd_is_close_on_exec)
{
	int fd = mshv_create_partition(self->fd, 0, MSHV_PT_ISOLATION_NONE);

	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);
}

TEST_F(dev, failed_create_leaves_nothing)
{
	long before;

	require_oracle();
	before = oracle_partitions();
	ASSERT_EQ(0, oracle_inject(HVCALL_CREATE_PARTITION, 1,
				   HV_STATUS_OPERATION_DENIED, 0, 0));
	EXPECT_EQ(-EIO, mshv_create_partition(self->fd, 0,
					      MSHV_PT_ISOLATION_NONE));
	EXPECT_EQ(1, oracle_injected(HVCALL_CREATE_PARTITION));
	oracle_inject_cancel(HVCALL_CREATE_PARTITION);
	EXPECT_EQ(before, oracle_partitions());
}

/* A partition, in each of the states a VMM can leave it in */
FIXTURE(life)
{
	struct mshv_pt pt;
};

FIXTURE_VARIANT(life)
{
	bool initialized;
	bool loaded;
	unsigned int vps;
};

FIXTURE_VARIANT_ADD(life, created) {
};

FIXTURE_VARIANT_ADD(life, initialized) {
	.initialized = true,
};

FIXTURE_VARIANT_ADD(life, loaded) {
	.initialized = true,
	.loaded = true,
};

FIXTURE_VARIANT_ADD(life, with_vps) {
	.initialized = true,
	.loaded = true,
	.vps = 4,
};

FIXTURE_SETUP(life)
{
	require_mshv();
	mshv_pt_init(&self->pt);
}

FIXTURE_TEARDOWN(life)
{
	test_pt_close(&self->pt);
}

static int make_partition(struct mshv_pt *pt,
			  const FIXTURE_VARIANT(life) *variant)
{
	unsigned int i;
	int ret;

	ret = mshv_pt_create(pt, 0, MSHV_PT_ISOLATION_NONE);
	if (!ret && variant->initialized)
		ret = mshv_initialize_partition(pt->fd);
	if (!ret && variant->loaded)
		ret = mshv_pt_load_guest(pt);
	for (i = 0; !ret && i < variant->vps; i++)
		ret = mshv_pt_add_vp(pt, i);
	return ret;
}

/* Close it and return whether the hypervisor has forgotten it */
static int gone_after_close(struct mshv_pt *pt)
{
	struct oracle_partition partition;
	u64 id = pt->id;

	mshv_pt_close(pt);
	return oracle_partition(id, &partition) == -ENOENT;
}

TEST_F(life, close_leaves_no_partition)
{
	struct oracle_partition partition;
	long before;

	require_oracle();
	before = oracle_partitions();
	ASSERT_EQ(0, make_partition(&self->pt, variant));

	ASSERT_EQ(0, oracle_partition(self->pt.id, &partition));
	EXPECT_EQ(variant->initialized ? 2 : 1, partition.state);
	EXPECT_EQ(variant->vps, partition.vps);
	EXPECT_EQ(before + 1, oracle_partitions());

	EXPECT_TRUE(gone_after_close(&self->pt));
	EXPECT_EQ(before, oracle_partitions());
}

TEST_F(life, close_returns_every_deposited_page)
{
	struct oracle_totals before, open, after;
	struct oracle_pool pool;

	require_oracle();
	ASSERT_EQ(0, oracle_totals(&before));
	ASSERT_EQ(0, make_partition(&self->pt, variant));
	ASSERT_EQ(0, oracle_totals(&open));
	ASSERT_EQ(0, oracle_pool(self->pt.id, &pool));
	EXPECT_EQ(pool.deposited, pool.free + pool.used);
	if (variant->initialized) {
		EXPECT_LT(0, pool.deposited);
		EXPECT_LE(pool.deposited, open.deposited - before.deposited);
	}

	ASSERT_TRUE(gone_after_close(&self->pt));
	ASSERT_EQ(0, oracle_totals(&after));
	EXPECT_EQ(open.deposited, after.deposited);
	/* What is not in its pool went into the root's */
	EXPECT_EQ(pool.deposited, after.withdrawn - open.withdrawn);
	EXPECT_EQ(before.leaks, after.leaks);
}

TEST_F(life, close_releases_every_pin)
{
	long before;

	require_pin_counters();
	before = pin_balance();
	ASSERT_EQ(0, make_partition(&self->pt, variant));
	mshv_pt_close(&self->pt);
	EXPECT_EQ(before, pin_balance());
}

TEST_F(life, killed_vmm_leaves_no_partition)
{
	long partitions, pins;
	struct oracle_totals before, after;
	int pipefd[2], status;
	char ready;
	pid_t pid;

	require_oracle();
	require_pin_counters();
	partitions = oracle_partitions();
	pins = pin_balance();
	ASSERT_EQ(0, oracle_totals(&before));

	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		ready = make_partition(&self->pt, variant) ? 'n' : 'y';
		if (write(pipefd[1], &ready, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(1, read(pipefd[0], &ready, 1));
	EXPECT_EQ('y', ready);
	EXPECT_EQ(partitions + 1, oracle_partitions());

	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));

	EXPECT_EQ(partitions, oracle_partitions());
	EXPECT_EQ(pins, pin_balance());
	ASSERT_EQ(0, oracle_totals(&after));
	EXPECT_EQ(before.leaks, after.leaks);
}

FIXTURE(partition)
{
	struct mshv_pt pt;
};

FIXTURE_SETUP(partition)
{
	require_mshv();
	ASSERT_EQ(0, mshv_pt_active(&self->pt));
}

FIXTURE_TEARDOWN(partition)
{
	test_pt_close(&self->pt);
}

TEST_F(partition, unknown_ioctl_is_enotty)
{
	EXPECT_EQ(-1, ioctl(self->pt.fd, _IO(MSHV_IOCTL, 0x7f)));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(self->pt.fd, MSHV_RUN_VP, NULL));
	EXPECT_EQ(ENOTTY, errno);
}

/* The hypervisor takes some pages and not the others */
TEST_F(partition, failed_deposit_leaves_the_hypervisor_what_it_took)
{
	struct oracle_pool before, after;
	const size_t pages = 8192;
	u64 i, state, owner;
	u8 *mem;

	require_pagemap();
	/* Came with the fix, and does no damage without it */
	require_feature(FEATURE_UNMAP_BATCH);
	mem = mshv_alloc(BACKING_ANON, pages * PAGE_SIZE);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, oracle_pool(self->pt.id, &before));
	ASSERT_EQ(0, oracle_inject(HVCALL_MAP_GPA_PAGES, 1,
				   HV_STATUS_INSUFFICIENT_MEMORY, 0, 0));
	ASSERT_EQ(0, oracle_inject(HVCALL_DEPOSIT_MEMORY, 1,
				   HV_STATUS_OPERATION_DENIED, 3, 0));
	test_err_map(EIO, &self->pt, TEST_GFN, mem, PAGE_SIZE, MEM_RW);
	EXPECT_EQ(1, oracle_injected(HVCALL_DEPOSIT_MEMORY));
	oracle_inject_cancel(HVCALL_MAP_GPA_PAGES);
	oracle_inject_cancel(HVCALL_DEPOSIT_MEMORY);
	ASSERT_EQ(0, oracle_pool(self->pt.id, &after));
	EXPECT_EQ(before.deposited + 3, after.deposited);

	/* Nobody else gets them */
	for (i = 0; i < pages; i++) {
		*quad(mem, i) = i;
		ASSERT_EQ(0, oracle_page(page_pfn(quad(mem, i)) * PAGE_SIZE,
					 &state, &owner));
		ASSERT_EQ(ORACLE_PAGE_ROOT, state);
	}
	test_map(&self->pt, TEST_GFN, mem, PAGE_SIZE, MEM_RW);
	mshv_free(mem, pages * PAGE_SIZE);
}

TEST_F(partition, initialize_again_is_harmless)
{
	EXPECT_EQ(0, mshv_initialize_partition(self->pt.fd));
	EXPECT_LE(0, mshv_create_vp(self->pt.fd, 0));
}

TEST_F(partition, create_vp_refuses_large_index)
{
	EXPECT_EQ(-EINVAL, mshv_create_vp(self->pt.fd, 256));
	EXPECT_EQ(-EINVAL, mshv_create_vp(self->pt.fd, ~0U));
	EXPECT_LE(0, mshv_create_vp(self->pt.fd, 255));
}

TEST_F(partition, create_vp_twice_is_eexist)
{
	int fd = mshv_create_vp(self->pt.fd, 3);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EEXIST, mshv_create_vp(self->pt.fd, 3));
	/* A closed VP is still a VP of its partition */
	close(fd);
	EXPECT_EQ(-EEXIST, mshv_create_vp(self->pt.fd, 3));
}

TEST_F(partition, create_vp_with_bad_pointer_is_efault)
{
	EXPECT_EQ(-1, ioctl(self->pt.fd, MSHV_CREATE_VP, BAD_PTR));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(partition, create_vp_before_initialize_fails)
{
	int fd = mshv_create_partition(self->pt.dev, 0, MSHV_PT_ISOLATION_NONE);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EIO, mshv_create_vp(fd, 0));
	/* The failure does not spoil the partition */
	EXPECT_EQ(0, mshv_initialize_partition(fd));
	EXPECT_LE(0, mshv_create_vp(fd, 0));
	close(fd);
}

TEST_F(partition, failed_initialize_can_be_repeated)
{
	struct oracle_pool pool;
	u64 id;
	int fd;

	require_oracle();
	fd = mshv_create_partition(self->pt.dev, 0, MSHV_PT_ISOLATION_NONE);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, oracle_newest(&id));

	oracle_inject(HVCALL_INITIALIZE_PARTITION, 1, HV_STATUS_OPERATION_DENIED,
		      0, 0);
	EXPECT_EQ(-EIO, mshv_initialize_partition(fd));
	oracle_inject_cancel(HVCALL_INITIALIZE_PARTITION);

	/* Its deposit was withdrawn again */
	ASSERT_EQ(0, oracle_pool(id, &pool));
	EXPECT_EQ(0, pool.free);
	EXPECT_EQ(0, mshv_initialize_partition(fd));
	EXPECT_LE(0, mshv_create_vp(fd, 0));
	close(fd);
}

TEST_F(partition, failed_create_vp_can_be_repeated)
{
	struct oracle_partition partition;

	require_oracle();
	oracle_inject(HVCALL_CREATE_VP, 1, HV_STATUS_OPERATION_DENIED, 0, 0);
	EXPECT_EQ(-EIO, mshv_create_vp(self->pt.fd, 0));
	oracle_inject_cancel(HVCALL_CREATE_VP);
	ASSERT_EQ(0, oracle_partition(self->pt.id, &partition));
	EXPECT_EQ(0, partition.vps);
	EXPECT_LE(0, mshv_create_vp(self->pt.fd, 0));
}

TEST_F(partition, dry_pool_is_refilled)
{
	struct oracle_pool before, after;

	require_oracle();
	ASSERT_EQ(0, oracle_pool(self->pt.id, &before));
	ASSERT_EQ(0, oracle_dry(self->pt.id, 1));
	EXPECT_EQ(0, mshv_pt_load_guest(&self->pt));
	ASSERT_EQ(0, oracle_pool(self->pt.id, &after));
	/* The allocation that failed made the driver deposit */
	EXPECT_LT(before.deposited, after.deposited);
}

TEST_F(partition, vp_keeps_the_partition_alive)
{
	struct oracle_partition partition;
	int vp;

	require_oracle();
	vp = mshv_create_vp(self->pt.fd, 0);
	ASSERT_LE(0, vp);
	close(self->pt.fd);
	self->pt.fd = -1;
	EXPECT_EQ(0, oracle_partition(self->pt.id, &partition));
	close(vp);
	EXPECT_EQ(-ENOENT, oracle_partition(self->pt.id, &partition));
}

static void test_vp_state_page(struct __test_metadata *_metadata, int fd,
			       unsigned long which, int expected)
{
	void *page = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd,
			  which * PAGE_SIZE);

	if (!expected) {
		ASSERT_NE(MAP_FAILED, page);
		munmap(page, PAGE_SIZE);
	} else {
		EXPECT_EQ(MAP_FAILED, page);
		EXPECT_EQ(expected, errno);
	}
}

TEST_F(partition, vp_state_pages_can_be_mapped)
{
	int fd = mshv_create_vp(self->pt.fd, 0);

	ASSERT_LE(0, fd);
	test_vp_state_page(_metadata, fd, MSHV_VP_MMAP_OFFSET_REGISTERS, 0);
	test_vp_state_page(_metadata, fd, MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE,
			   0);
	/* Only an encrypted partition has one */
	test_vp_state_page(_metadata, fd, MSHV_VP_MMAP_OFFSET_GHCB, ENODEV);
	test_vp_state_page(_metadata, fd, MSHV_VP_MMAP_OFFSET_COUNT, EINVAL);
}

TEST_F(partition, vp_unknown_ioctl_is_enotty)
{
	int fd = mshv_create_vp(self->pt.fd, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, ioctl(fd, _IO(MSHV_IOCTL, 0x7f)));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(fd, MSHV_SET_GUEST_MEMORY, NULL));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_F(partition, hvcall_refuses_bad_arguments)
{
	u32 name = HV_X64_REGISTER_RIP;
	struct {
		struct hv_input_get_vp_registers head;
		u32 names[2];
	} in = { .names = { name, name } };
	u64 out[512];
	const struct mshv_root_hvcall good = {
		.code = HVCALL_GET_VP_REGISTERS,
		.reps = 1,
		.in_sz = sizeof(in.head) + sizeof(name),
		.out_sz = sizeof(union hv_register_value),
		.in_ptr = (uintptr_t)&in,
		.out_ptr = (uintptr_t)out,
	};
	struct mshv_root_hvcall call;

	ASSERT_LE(0, mshv_create_vp(self->pt.fd, 0));
	call = good;
	ASSERT_EQ(0, mshv_root_hvcall(self->pt.fd, &call));
	EXPECT_EQ(1, call.reps);
	EXPECT_EQ(HV_STATUS_SUCCESS, call.status);

#define EXPECT_REFUSED(_errno, _field, _value) do { \
	call = good; \
	call._field = _value; \
	EXPECT_EQ(-(_errno), mshv_root_hvcall(self->pt.fd, &call)) { \
		TH_LOG("with " #_field " = " #_value); \
	} \
} while (0)
	EXPECT_REFUSED(EINVAL, status, 1);
	EXPECT_REFUSED(EINVAL, rsvd[0], 1);
	EXPECT_REFUSED(EINVAL, rsvd[5], 1);
	EXPECT_REFUSED(EINVAL, in_ptr, 0);
	EXPECT_REFUSED(EINVAL, in_sz, 0);
	EXPECT_REFUSED(EINVAL, in_sz, 7);
	EXPECT_REFUSED(EINVAL, in_sz, 4097);
	EXPECT_REFUSED(EINVAL, out_sz, 0);
	EXPECT_REFUSED(EINVAL, out_sz, 4097);
	/* Not one of those a VMM may do itself */
	EXPECT_REFUSED(EINVAL, code, HVCALL_MAP_GPA_PAGES);
	EXPECT_REFUSED(EINVAL, code, HVCALL_DELETE_PARTITION);
	EXPECT_REFUSED(EINVAL, code, HVCALL_DEPOSIT_MEMORY);
	EXPECT_REFUSED(EINVAL, code, 0xffff);
	EXPECT_REFUSED(EFAULT, in_ptr, (uintptr_t)BAD_PTR);
	EXPECT_REFUSED(EFAULT, out_ptr, (uintptr_t)BAD_PTR);
#undef EXPECT_REFUSED
}

TEST_F(partition, hvcall_status_of_the_hypervisor_is_returned)
{
	struct {
		struct hv_input_get_vp_registers head;
		u32 name;
	} in = { .head.vp_index = 77, .name = HV_X64_REGISTER_RIP };
	union hv_register_value out;
	u16 status = 0;

	EXPECT_EQ(-EINVAL, mshv_hvcall(self->pt.fd, HVCALL_GET_VP_REGISTERS, 1,
				       &in, sizeof(in), &out, sizeof(out),
				       &status));
	EXPECT_EQ(HV_STATUS_INVALID_VP_INDEX, status);
}

TEST_F(partition, hvcall_works_on_partition_and_vp)
{
	struct {
		struct hv_input_get_vp_registers head;
		u32 name;
	} in = { .name = HV_X64_REGISTER_RFLAGS };
	union hv_register_value out;
	int fd = mshv_create_vp(self->pt.fd, 0);

	ASSERT_LE(0, fd);
	/* The kernel fills in the partition, whatever the VMM says */
	in.head.partition_id = ~0ULL;
	memset(&out, 0xff, sizeof(out));
	EXPECT_EQ(1, mshv_hvcall(self->pt.fd, HVCALL_GET_VP_REGISTERS, 1, &in,
				 sizeof(in), &out, sizeof(out), NULL));
	EXPECT_EQ(2, out.reg64);
	memset(&out, 0xff, sizeof(out));
	EXPECT_EQ(1, mshv_hvcall(fd, HVCALL_GET_VP_REGISTERS, 1, &in,
				 sizeof(in), &out, sizeof(out), NULL));
	EXPECT_EQ(2, out.reg64);
}

TEST_F(partition, new_vp_is_in_reset_state)
{
	const u32 names[] = {
		HV_X64_REGISTER_RIP, HV_X64_REGISTER_RFLAGS, HV_X64_REGISTER_CR0,
		HV_X64_REGISTER_CR3, HV_X64_REGISTER_EFER, HV_X64_REGISTER_CS,
	};
	union hv_register_value values[ARRAY_SIZE(names)];
	struct mshv_vp vp = { .pt = &self->pt };

	ASSERT_LE(0, mshv_create_vp(self->pt.fd, 0));
	ASSERT_EQ(0, mshv_get_regs(&vp, names, values, ARRAY_SIZE(names)));
	EXPECT_EQ(0xfff0, values[0].reg64);
	EXPECT_EQ(2, values[1].reg64);
	/* Real mode, no paging */
	EXPECT_EQ(0, values[2].reg64 & 0x80000001);
	EXPECT_EQ(0, values[3].reg64);
	EXPECT_EQ(0, values[4].reg64);
	EXPECT_EQ(0xf000, values[5].segment.selector);
	EXPECT_EQ(0xffff0000, values[5].segment.base);
}

#define MANY 16

/* Sixteen partitions of sixteen VPs each, all of them alive and running */
TEST_F_TIMEOUT(dev, sixteen_partitions_of_sixteen_vps, 300)
{
	static struct mshv_pt pts[MANY];
	struct oracle_totals before, after;
	long partitions = 0;
	unsigned int i, j;

	if (oracle_present()) {
		ASSERT_EQ(0, oracle_totals(&before));
		partitions = oracle_partitions();
	}

	for (i = 0; i < MANY; i++) {
		test_pt_setup(&pts[i], MANY);
	}

	if (oracle_present()) {
		EXPECT_EQ(partitions + MANY, oracle_partitions());
	}

	/* Each VP writes what no other one does */
	for (j = 0; j < MANY; j++) {
		for (i = 0; i < MANY; i++) {
			test_guest(&pts[i].vp[j], guest_write,
				   .rdi = MAILBOX_GPA(j), .rsi = i * 100 + j);
		}
	}
	for (i = 0; i < MANY; i++) {
		for (j = 0; j < MANY; j++) {
			ASSERT_EQ(i * 100 + j, *mailbox_ptr(&pts[i], j));
		}
	}

	/* Close them in another order than they were made */
	for (i = 0; i < MANY; i++)
		mshv_pt_close(&pts[(i * 7 + 3) % MANY]);

	if (oracle_present()) {
		EXPECT_EQ(partitions, oracle_partitions());
		ASSERT_EQ(0, oracle_totals(&after));
		EXPECT_EQ(before.leaks, after.leaks);
	}
}

TEST_HARNESS_MAIN
