// SPDX-License-Identifier: GPL-2.0
/* Encrypted partitions: pages the root gives away for real. */
#include "test.h"

#define EXCLUSIVE	3	/* kind of ORACLE_PAGE */
#define RELEASE		HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS
#define ACQUIRE		HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS

static u64 id;

static u64 modify(u16 code, u32 access, u32 flags, u64 partition, const void *first,
		  u32 n)
{
	u64 step = flags & HV_SPA_LARGE_PAGE ? 512 : 1, *in = this_cpu()->in;
	u32 i;

	in[0] = access | (u64)flags << 32;
	in[1] = partition;
	for (i = 0; i < n; i++)
		in[2 + i] = ((u64)first >> 12) + i * step;
	return hvcall(CONTROL(code, n), in, NULL);
}

static u64 release(const void *first, u32 n)
{
	return modify(RELEASE, 0, HV_SPA_MAKE_EXCLUSIVE, id, first, n);
}

static u64 acquire(const void *first, u32 n)
{
	return modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED, id, first, n);
}

static u64 kind(const void *page, u64 *owner)
{
	struct oracle o = { { (u64)page } };

	EXPECT(oracle(ORACLE_PAGE, &o), 0);
	if (owner)
		*owner = o.a[1];
	return o.a[0];
}

static void begin(u32 pages)
{
	id = partition_create(true);
	EXPECT_TRUE(id);
	EXPECT(STATUS(deposit(id, pages)), 0);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, id, 0), 0);
}

static void there_and_back(void)
{
	u8 *ram = large_alloc();
	u64 owner;

	begin(10);
	ram[PAGE_SIZE] = 0x77;
	EXPECT(release(ram, 4), 4ull << 32);
	EXPECT(kind(ram + 3 * PAGE_SIZE, &owner), EXCLUSIVE);
	EXPECT(owner, id);
	EXPECT(kind(ram + 4 * PAGE_SIZE, NULL), 0);
	/* once only */
	EXPECT(release(ram + 3 * PAGE_SIZE, 2), HV_STATUS_OPERATION_DENIED);
	EXPECT(release(ram + 4 * PAGE_SIZE, 1), 1ull << 32);
	EXPECT(acquire(ram, 6), HV_STATUS_OPERATION_DENIED | 5ull << 32);
	EXPECT(acquire(ram, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(kind(ram, NULL), 0);
	EXPECT(ram[PAGE_SIZE], 0x77);
	large_free(ram);
	partition_gone(id);
}

static void large_pages(void)
{
	u32 flags = HV_SPA_MAKE_EXCLUSIVE | HV_SPA_LARGE_PAGE, i;
	u8 *ram = large_alloc();

	begin(10);
	EXPECT(modify(RELEASE, 0, flags, id, ram + PAGE_SIZE, 1),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 0, flags, id, ram, 1), 1ull << 32);
	for (i = 0; i < 512; i++)
		EXPECT(kind(ram + i * PAGE_SIZE, NULL), EXCLUSIVE);
	/* all 512 or none */
	EXPECT(acquire(ram + 5 * PAGE_SIZE, 1), 1ull << 32);
	flags = HV_SPA_MAKE_SHARED | HV_SPA_LARGE_PAGE;
	EXPECT(modify(ACQUIRE, 3, flags, id, ram, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(kind(ram, NULL), EXCLUSIVE);
	EXPECT(release(ram + 5 * PAGE_SIZE, 1), 1ull << 32);
	EXPECT(modify(ACQUIRE, 3, flags, id, ram, 1), 1ull << 32);
	large_free(ram);
	partition_gone(id);
}

static void refused(void)
{
	u64 plain = partition_ready(3);
	u8 *page = page_alloc();

	begin(10);
	EXPECT(modify(RELEASE, 0, 0, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 0, 3, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 0, 2, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 0, 0x11, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 4, 1, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(ACQUIRE, 3, 1, id, page, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(modify(RELEASE, 0, 1, 77, page, 1), HV_STATUS_INVALID_PARTITION_ID);
	EXPECT(modify(RELEASE, 0, 1, plain, page, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(modify(RELEASE, 0, 1, 1, page, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(release((void *)0x200000, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(release((void *)PAGE_MSR(MSR_HV_SIMP), 1),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(release((void *)(DEVICE_PFN << 12), 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(release((void *)~0xfffull, 1), HV_STATUS_INVALID_PARAMETER);
	page_free(page);
	partition_gone(id);
	partition_gone(plain);
}

static void mapping(void)
{
	u64 plain = partition_ready(10), other = partition_create(true);
	u8 *ram = large_alloc(), *page = page_alloc();

	deposit(other, 10);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, other, 0), 0);
	begin(10);
	/* an encrypted partition takes only its own exclusive pages */
	EXPECT(STATUS(map_run(id, 0, (u64)ram, 1, MAP_RWX)),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(release(ram, 2), 2ull << 32);
	EXPECT(map_run(id, 0, (u64)ram, 3, MAP_RWX),
	       HV_STATUS_OPERATION_DENIED | 2ull << 32);
	EXPECT(STATUS(map_run(other, 0, (u64)ram, 1, MAP_RWX)),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(STATUS(map_run(plain, 0, (u64)ram, 1, MAP_RWX)),
	       HV_STATUS_OPERATION_DENIED);
	this_cpu()->in[0] = plain;
	this_cpu()->in[1] = (u64)ram >> 12;
	EXPECT(hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 1), this_cpu()->in, NULL),
	       HV_STATUS_OPERATION_DENIED);
	/* nor is it a buffer of the root's */
	EXPECT(STATUS(hvcall(HVCALL_GET_PARTITION_ID, NULL, ram)),
	       HV_STATUS_INVALID_PARAMETER);
	/* what is mapped cannot change hands */
	EXPECT(acquire(ram, 1), HV_STATUS_OPERATION_DENIED);
	EXPECT(modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED, other, ram, 1),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(unmap(id, 0, 2, 0), 2ull << 32);
	EXPECT(modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED, other, ram, 1),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(acquire(ram, 2), 2ull << 32);
	EXPECT(map_run(plain, 0, (u64)page, 1, MAP_RWX), 1ull << 32);
	EXPECT(release(page, 1), HV_STATUS_OPERATION_DENIED);
	partition_gone(id);
	partition_gone(other);
	partition_gone(plain);
	page_free(page);
	large_free(ram);
}

/* Else they would be those of the next partition in its place. */
static void deletion(void)
{
	u8 *ram = large_alloc();
	u64 other, owner;

	begin(10);
	EXPECT(release(ram, 3), 3ull << 32);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	EXPECT(withdraw_all(id), 10);
	EXPECT(release(ram + 3 * PAGE_SIZE, 1), HV_STATUS_INVALID_PARTITION_STATE);
	EXPECT(kind(ram + 3 * PAGE_SIZE, NULL), 0);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(kind(ram, &owner), EXCLUSIVE);
	EXPECT(owner, id);
	other = partition_create(true);
	EXPECT_TRUE(other);
	EXPECT(STATUS(deposit(other, 10)), 0);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, other, 0), 0);
	EXPECT(STATUS(map_run(other, 0, (u64)ram, 1, MAP_RWX)),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED, other, ram, 1),
	       HV_STATUS_OPERATION_DENIED);
	partition_gone(other);
	/* until the last of them is shared again, in whosever name */
	EXPECT(acquire(ram, 1), 1ull << 32);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED, 0, ram + PAGE_SIZE, 2),
	       2ull << 32);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), 0);
	large_free(ram);
}

GUEST(guest_secret,
	"movq $0x5ec4e7, 0x20000\n"
	"outb %al, $0x80\n"
	"int3\n"
	"movq %rax, 0x345678\n"
	"hlt");

/* What is in its memory no message tells, nor where it maps it. */
static void tells_nothing(struct child *c)
{
	struct hv_io_port_message *io = (void *)c->message[0]->payload;
	struct hv_exception_message *exception = (void *)c->message[0]->payload;
	struct hv_memory_message *memory = (void *)c->message[0]->payload;
	static const u8 none[16];
	u64 *in = this_cpu()->in;

	EXPECT(install_intercept(id, HV_INTERCEPT_TYPE_EXCEPTION, 4, 3), 0);
	EXPECT(child_expect(c, 0), HVMSG_X64_IO_PORT_INTERCEPT);
	EXPECT(io->port, 0x80);
	EXPECT(io->header.instruction_length, 2);
	EXPECT(io->instruction_byte_count, 0);
	EXPECT(memcmp(io->instruction_bytes, none, 16), 0);
	reg_set(id, 0, REG_RIP, io->header.rip + 2);
	EXPECT(child_expect(c, 0), HVMSG_X64_EXCEPTION_INTERCEPT);
	EXPECT(exception->vector, 3);
	EXPECT(exception->instruction_byte_count, 0);
	EXPECT(memcmp(exception->instruction_bytes, none, 16), 0);
	reg_set(id, 0, REG_RIP, exception->header.rip + 1);
	EXPECT(child_expect(c, 0), HVMSG_UNMAPPED_GPA);
	EXPECT(memory->gpa, 0x345678);
	EXPECT(memory->gva, 0);
	EXPECT(memory->access_info, 0);
	EXPECT(memory->instruction_byte_count, 0);
	EXPECT(memcmp(memory->instruction_bytes, none, 16), 0);
	in[0] = id;
	in[1] = 0;
	in[2] = 1;
	in[3] = GUEST_DATA >> 12;
	EXPECT(hvcall(HVCALL_TRANSLATE_VIRTUAL_ADDRESS, in, this_cpu()->out),
	       HV_STATUS_OPERATION_DENIED);
	reg_set(id, 0, REG_RIP, 0x345678);
	EXPECT(child_expect(c, 0), HVMSG_UNMAPPED_GPA);
	EXPECT(memory->gpa, 0x345678);
	EXPECT(memory->gva, 0);
	EXPECT(memory->access_info, 0);
	reg_set(id, 0, REG_RIP, GUEST_CODE + (guest_secret_end - guest_secret) - 1);
}

static void runs(void)
{
	struct child c;

	memset(&c, 0, sizeof(c));
	begin(40);
	c.id = id;
	c.ram = large_alloc();
	child_tables(c.ram);
	CHILD_CODE(&c, guest_secret);
	EXPECT(modify(RELEASE, 0, HV_SPA_MAKE_EXCLUSIVE | HV_SPA_LARGE_PAGE, id,
		      c.ram, 1), 1ull << 32);
	EXPECT(map_run(id, 0, (u64)c.ram, 1, MAP_RWX | LARGE), 1ull << 32);
	EXPECT(child_vp(&c, 0), 0);
	EXPECT(vp_page(id, 0, HV_VP_STATE_PAGE_REGISTERS, true, NULL),
	       HV_STATUS_OPERATION_DENIED);
	tells_nothing(&c);
	EXPECT(child_expect(&c, 0), HVMSG_X64_HALT);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	EXPECT(modify(ACQUIRE, 3, HV_SPA_MAKE_SHARED | HV_SPA_LARGE_PAGE, id,
		      c.ram, 1), 1ull << 32);
	EXPECT(*(u64 *)(c.ram + GUEST_DATA), 0x5ec4e7);
	large_free(c.ram);
	partition_gone(id);
}

static const struct test tests[] = {
	{ "release makes pages exclusive, acquire gives them back", there_and_back },
	{ "2 MiB change hands as a whole or not at all", large_pages },
	{ "host access calls refuse wrong flags, partitions and pages", refused },
	{ "an encrypted partition maps its own exclusive pages only", mapping },
	{ "a partition with exclusive pages cannot be deleted", deletion },
	{ "a VP runs in memory that the root cannot reach or learn about", runs },
};

void test_encrypted(void)
{
	RUN(tests);
}
