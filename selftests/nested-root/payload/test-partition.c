// SPDX-License-Identifier: GPL-2.0
/* Partitions: life cycle, properties, pools of deposited pages, accounting. */
#include "test.h"

#define BAD_ID		0x123456789ull
#define HV_IMAGE	0x200000ull	/* where the hypervisor lies */

static u64 state_of(u64 id)
{
	struct oracle o = { { id - 1 } };

	return oracle(ORACLE_PARTITION, &o) || o.a[0] != id ? 0 : o.a[1];
}

static void creation(void)
{
	static const struct {
		u64 flags, version, isolation;
	} bad[] = {
		{ CREATE_FLAGS | 1, CREATE_VERSION, 0 },
		{ CREATE_FLAGS | 1ull << 63, CREATE_VERSION, 0 },
		{ 0, CREATE_VERSION, 0 },
		{ CREATE_FLAGS, 0, 0 },
		{ CREATE_FLAGS, CREATE_VERSION + 1, 0 },
		{ CREATE_FLAGS, CREATE_VERSION | 1ull << 32, 0 },
		{ CREATE_FLAGS, CREATE_VERSION, 1 },
		{ CREATE_FLAGS, CREATE_VERSION, 31 },
	};
	struct oracle o = { { 0 } };
	u64 id, last = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(i);
		EXPECT(create_status(bad[i].flags, bad[i].version,
				     bad[i].isolation, &id),
		       HV_STATUS_INVALID_PARAMETER);
	}
	for (i = 0; i < 3; i++) {
		id = partition_create(i == 2);
		EXPECT_TRUE(id > last);
		last = id;
		EXPECT(oracle(ORACLE_NEWEST, &o), 0);
		EXPECT(o.a[0], id);
		EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), 0);
		oracle(ORACLE_NEWEST, &o);
		EXPECT(o.a[0], id);
	}
}

static void life_cycle(void)
{
	u64 id = partition_create(false);

	EXPECT(state_of(id), 1);
	EXPECT(STATUS(deposit(id, 4)), 0);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, id, 0), 0);
	EXPECT(state_of(id), 2);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	EXPECT(state_of(id), 3);
	EXPECT(withdraw_all(id), 4);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), 0);
	EXPECT(state_of(id), 0);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0),
	       HV_STATUS_INVALID_PARTITION_ID);
}

/* Every call that names a partition, with arguments that are right. */
static const u16 named[] = {
	HVCALL_INITIALIZE_PARTITION, HVCALL_FINALIZE_PARTITION,
	HVCALL_DELETE_PARTITION, HVCALL_MAP_GPA_PAGES, HVCALL_UNMAP_GPA_PAGES,
	HVCALL_GET_GPA_PAGES_ACCESS_STATES, HVCALL_CREATE_VP,
	HVCALL_DEPOSIT_MEMORY, HVCALL_INSTALL_INTERCEPT,
	HVCALL_SET_PARTITION_PROPERTY, HVCALL_DELETE_VP, HVCALL_GET_VP_REGISTERS,
	HVCALL_SET_VP_REGISTERS, HVCALL_TRANSLATE_VIRTUAL_ADDRESS,
	HVCALL_MAP_VP_STATE_PAGE, HVCALL_DISPATCH_VP, HVCALL_GET_VP_STATE,
	HVCALL_WITHDRAW_MEMORY, HVCALL_GET_PARTITION_PROPERTY,
	HVCALL_REGISTER_INTERCEPT_RESULT
};

static u16 named_call(u16 code, u64 id, u64 page)
{
	u64 *in = this_cpu()->in, control = code;

	memset(in, 0, 256);
	in[0] = id;
	switch (code) {
	case HVCALL_MAP_GPA_PAGES:
		in[2] = MAP_RWX;
		in[3] = page >> 12;
		control = CONTROL(code, 1);
		break;
	case HVCALL_DEPOSIT_MEMORY:
		in[1] = page >> 12;
		control = CONTROL(code, 1);
		break;
	case HVCALL_UNMAP_GPA_PAGES:
	case HVCALL_GET_GPA_PAGES_ACCESS_STATES:
	case HVCALL_GET_VP_REGISTERS:
	case HVCALL_SET_VP_REGISTERS:
	case HVCALL_WITHDRAW_MEMORY:
		control = CONTROL(code, 1);
		break;
	case HVCALL_INSTALL_INTERCEPT:
		in[1] = 1;
		break;
	case HVCALL_SET_PARTITION_PROPERTY:
	case HVCALL_GET_PARTITION_PROPERTY:
		in[1] = 0x10000;
		break;
	case HVCALL_GET_VP_STATE:
		in[2] = 1u | 1u << 31;
		in[5] = page >> 12;
		control |= 1 << 17;
		break;
	case HVCALL_REGISTER_INTERCEPT_RESULT:
		in[1] = 2ull << 32;
		break;
	}
	return hvcall(control, in, this_cpu()->out);
}

static void wrong_states(void)
{
	static const struct {
		u16 code;
		u8 created, active, finalized;	/* 0xff: not tried */
	} rule[] = {
		{ HVCALL_INITIALIZE_PARTITION, 0xff, 7, 7 },
		{ HVCALL_FINALIZE_PARTITION, 7, 0xff, 7 },
		{ HVCALL_DELETE_PARTITION, 0xff, 7, 0xff },
		{ HVCALL_MAP_GPA_PAGES, 7, 0, 7 },
		{ HVCALL_UNMAP_GPA_PAGES, 7, 0, 7 },
		{ HVCALL_GET_GPA_PAGES_ACCESS_STATES, 7, 0xff, 7 },
		{ HVCALL_CREATE_VP, 7, 0, 7 },
		{ HVCALL_GET_VP_REGISTERS, 0xe, 0, 0xe },
		{ HVCALL_DISPATCH_VP, 0xe, 0x15, 0xe },
		{ HVCALL_DELETE_VP, 0xe, 0, 0xe },
		{ HVCALL_INSTALL_INTERCEPT, 0, 0, 7 },
		{ HVCALL_REGISTER_INTERCEPT_RESULT, 0, 0, 7 },
		{ HVCALL_SET_PARTITION_PROPERTY, 0, 0, 7 },
		{ HVCALL_GET_PARTITION_PROPERTY, 0, 0, 0 },
		{ HVCALL_DEPOSIT_MEMORY, 0xff, 0xff, 7 },
	};
	u64 id = partition_create(false);
	void *page = page_alloc();
	u32 i, state;

	deposit(id, 16);
	for (state = 1; state <= 3; state++) {
		for (i = 0; i < ARRAY_SIZE(rule); i++) {
			u8 wanted = state == 1 ? rule[i].created :
				    state == 2 ? rule[i].active :
						 rule[i].finalized;

			test_case(state << 16 | rule[i].code);
			if (wanted != 0xff)
				EXPECT(named_call(rule[i].code, id, (u64)page),
				       wanted);
		}
		if (state == 1)
			simple(HVCALL_INITIALIZE_PARTITION, id, 0);
		else if (state == 2)
			simple(HVCALL_FINALIZE_PARTITION, id, 0);
	}
	page_free(page);
	partition_gone(id);
}

static void wrong_ids(void)
{
	static const u16 own_too[] = {	/* the root may name itself */
		HVCALL_DEPOSIT_MEMORY, HVCALL_WITHDRAW_MEMORY, HVCALL_CREATE_VP,
		HVCALL_GET_PARTITION_PROPERTY
	};
	void *page = page_alloc();
	u32 i, j;

	for (i = 0; i < ARRAY_SIZE(named); i++) {
		test_case(named[i]);
		EXPECT(named_call(named[i], BAD_ID, (u64)page),
		       HV_STATUS_INVALID_PARTITION_ID);
		EXPECT(named_call(named[i], 0, (u64)page),
		       HV_STATUS_INVALID_PARTITION_ID);
		for (j = 0; j < ARRAY_SIZE(own_too); j++)
			if (own_too[j] == named[i])
				break;
		if (j < ARRAY_SIZE(own_too))
			continue;
		EXPECT(named_call(named[i], 1, (u64)page),
		       HV_STATUS_ACCESS_DENIED);
		EXPECT(named_call(named[i], HV_PARTITION_ID_SELF, (u64)page),
		       HV_STATUS_ACCESS_DENIED);
	}
	page_free(page);
}

static u16 property(u16 code, u64 id, u64 which, u64 value, u64 *seen)
{
	u64 *in = this_cpu()->in;
	u16 status;

	in[0] = id;
	in[1] = which;
	in[2] = value;
	status = hvcall(code, in, this_cpu()->out);
	if (seen)
		*seen = *this_cpu()->out;
	return status;
}

#define GET(which, seen)	\
	property(HVCALL_GET_PARTITION_PROPERTY, id, which, 0, seen)
#define SET(which, value)	\
	property(HVCALL_SET_PARTITION_PROPERTY, id, which, value, NULL)

static void properties(void)
{
	static const u32 kept[] = { 0x10000, 0x10001, 0x50005, 0x60002 };
	static const u32 fixed[] = { 0x60007, 0x60008, 0x60009 };
	u64 id = partition_create(false), v;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		test_case(kept[i]);
		EXPECT(SET(kept[i], 0x12345678 + i), 0);
	}
	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		EXPECT(GET(kept[i], &v), 0);
		EXPECT(v, 0x12345678 + i);
	}
	for (i = 0; i < ARRAY_SIZE(fixed); i++) {
		test_case(fixed[i]);
		EXPECT(GET(fixed[i], &v), 0);
		EXPECT_TRUE(v);
		EXPECT(SET(fixed[i], 1), HV_STATUS_OPERATION_DENIED);
	}
	EXPECT(SET(0x50017, 1), 0);
	EXPECT(SET(0x50017, 2), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	EXPECT(GET(0x50017, &v), 0);
	EXPECT(v, 1);
	EXPECT(GET(0x77777, &v), HV_STATUS_UNKNOWN_PROPERTY);
	EXPECT(SET(0x77777, 0), HV_STATUS_UNKNOWN_PROPERTY);
	EXPECT(GET(0x10000 | 1ull << 32, &v), HV_STATUS_INVALID_PARAMETER);
	partition_gone(id);
}

#define GET_EX(which, argument)	\
	property(HVCALL_GET_PARTITION_PROPERTY_EX, id, which, argument, &v)

static void capabilities(void)
{
	u64 id = partition_create(false), v;

	EXPECT(GET_EX(0x90007, 0), 0);
	EXPECT(v, 1);			/* one bank */
	EXPECT(this_cpu()->out[1], 0);
	EXPECT(GET_EX(0x90007, 1), HV_STATUS_INVALID_PARAMETER);
	EXPECT(GET_EX(0x90007 | 1ull << 32, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(GET_EX(0x10000, 0), HV_STATUS_UNKNOWN_PROPERTY);
	EXPECT(GET(0x90007, &v), HV_STATUS_UNKNOWN_PROPERTY);
	partition_gone(id);
	EXPECT(GET_EX(0x90007, 0), HV_STATUS_INVALID_PARTITION_ID);
	id = ~0ull;
	EXPECT(GET_EX(0x90007, 0), 0);
}

static u64 deposit_one(u64 id, u64 pfn)
{
	this_cpu()->in[0] = id;
	this_cpu()->in[1] = pfn;
	return hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 1), this_cpu()->in, NULL);
}

static void deposit_refused(void)
{
	u64 id = partition_create(false), other = partition_create(false);
	u64 *in = this_cpu()->in, page = (u64)page_alloc(), r;
	const u64 denied[] = {
		page, HV_IMAGE, PAGE_MSR(MSR_HV_SIMP), 0xfee00000,
		DEVICE_PFN << 12
	};
	u32 i;

	EXPECT(deposit_one(id, page >> 12), 1ull << 32);
	for (i = 0; i < ARRAY_SIZE(denied); i++) {
		test_case(i);
		EXPECT(deposit_one(id, denied[i] >> 12),
		       HV_STATUS_OPERATION_DENIED);
		EXPECT(deposit_one(other, denied[i] >> 12),
		       HV_STATUS_OPERATION_DENIED);
	}
	EXPECT_TRUE(STATUS(deposit_one(id, 1ull << 52 | page >> 12)));
	EXPECT_TRUE(STATUS(deposit_one(id, ~0ull)));
	/* progress up to the bad one */
	in[0] = other;
	for (i = 0; i < 4; i++)
		in[1 + i] = i == 2 ? page >> 12 : (u64)page_alloc() >> 12;
	r = hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 4), in, NULL);
	EXPECT(r, HV_STATUS_OPERATION_DENIED | 2ull << 32);
	page_free((void *)(in[4] << 12));
	EXPECT(withdraw_all(other), 2);
	EXPECT(withdraw_all(id), 1);
	partition_gone(id);
	partition_gone(other);
}

static int seen_before(const u64 *list, u32 n, u64 v)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (list[i] == v)
			return true;
	return false;
}

/* The very pages, zeroed and the root's; then NO_RESOURCES. */
static void withdraw_gives_back(void)
{
	u64 id = partition_create(false), *in = this_cpu()->in, r;
	u64 *mine = page_alloc(), *out = this_cpu()->out;
	u32 i, j;

	for (i = 0; i < 511; i++) {
		mine[i] = (u64)page_alloc();
		memset((void *)mine[i], 0xa5, PAGE_SIZE);
		in[1 + i] = mine[i] >> 12;
	}
	in[0] = id;
	EXPECT(hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 511), in, NULL), 511ull << 32);
	EXPECT(hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 512), in, NULL),
	       HV_STATUS_INVALID_HYPERCALL_INPUT);
	EXPECT(pool_free_pages(id), 511);
	EXPECT(pool_in_use(id), 0);
	in[1] = 0;
	r = hvcall(CONTROL(HVCALL_WITHDRAW_MEMORY, 512), in, out);
	EXPECT(r, HV_STATUS_NO_RESOURCES | 511ull << 32);
	for (i = 0; i < 511; i++) {
		const u64 *p = (u64 *)(out[i] << 12);
		struct oracle o = { { (u64)p } };

		test_case(i);
		oracle(ORACLE_PAGE, &o);
		if (!EXPECT(o.a[0], 0) ||
		    !EXPECT_TRUE(seen_before(mine, 511, (u64)p)) ||
		    !EXPECT(seen_before(out, i, out[i]), false))
			break;
		for (j = 0; j < 512; j++)
			if (!EXPECT(p[j], 0))
				break;
	}
	for (i = 0; i < 511; i++)
		page_free((void *)mine[i]);
	r = hvcall(CONTROL(HVCALL_WITHDRAW_MEMORY, 1), in, out);
	EXPECT(r, HV_STATUS_NO_RESOURCES);
	page_free(mine);
	partition_gone(id);
}

static void own_pool(void)
{
	struct oracle o = { { 1 } };
	u64 before = pool_free_pages(1);

	EXPECT(deposit(1, 5), 5ull << 32);
	EXPECT(pool_free_pages(1), before + 5);
	EXPECT(withdraw(HV_PARTITION_ID_SELF, 5), 5ull << 32);
	o.a[0] = BAD_ID;
	EXPECT(oracle(ORACLE_POOL, &o), -2);
	EXPECT(oracle(ORACLE_DRY, &o), -2);
}

static void only_free_pages(void)
{
	u64 id = partition_ready(10);

	EXPECT(vp_create(id, 0), 0);
	EXPECT(map_run(id, 0, DEVICE_PFN << 12, 1, MAP_RWX), 1ull << 32);
	/* top table, three more, three pages of the VP */
	EXPECT(pool_in_use(id), 7);
	EXPECT(withdraw(id, 512), HV_STATUS_NO_RESOURCES | 3ull << 32);
	EXPECT(pool_in_use(id), 7);
	EXPECT(reg_get(id, 0, REG_RIP), 0xfff0);
	EXPECT(slat_spa(id, 0), DEVICE_PFN << 12);
	EXPECT(vp_create(id, 1), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(pool_in_use(id), 7);
	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	EXPECT(pool_in_use(id), 0);
	EXPECT(withdraw_all(id), 7);
	partition_gone(id);
}

static void empty_pool(void)
{
	u64 id = partition_create(false), spa = DEVICE_PFN << 12;
	u32 i;

	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, id, 0),
	       HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(state_of(id), 1);
	deposit(id, 1);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, id, 0), 0);
	/* the VMM's way: deposit a page and go on where it stopped */
	EXPECT(map_run(id, 510, spa, 4, MAP_RWX), HV_STATUS_INSUFFICIENT_MEMORY);
	deposit(id, 3);
	EXPECT(map_run(id, 510, spa, 4, MAP_RWX),
	       HV_STATUS_INSUFFICIENT_MEMORY | 2ull << 32);
	deposit(id, 1);
	EXPECT(map_run(id, 512, spa + 2 * PAGE_SIZE, 2, MAP_RWX), 2ull << 32);
	for (i = 0; i < 4; i++)
		EXPECT(slat_spa(id, 510 + i), spa + i * PAGE_SIZE);
	partition_gone(id);
}

static void dry_pool(void)
{
	u64 id = partition_ready(30), other = partition_ready(30);

	set_dry(id, 1);
	EXPECT(vp_create(id, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(pool_in_use(id), 1);
	EXPECT(vp_create(id, 0), 0);
	EXPECT(vp_create(other, 0), 0);
	set_dry(0, ~0ull);
	EXPECT(vp_create(id, 1), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(vp_create(id, 1), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(vp_create(other, 1), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(STATUS(map_run(id, 0, DEVICE_PFN << 12, 1, MAP_RWX)),
	       HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(withdraw(id, 3), 3ull << 32);	/* the pages are there */
	set_dry(0, 0);
	EXPECT(vp_create(id, 1), 0);
	EXPECT(vp_create(other, 1), 0);
	partition_gone(id);
	partition_gone(other);
}

static void leak(void)
{
	u64 id = partition_ready(6);
	struct oracle o = { { 0 } };
	u64 leaks;

	EXPECT(simple(HVCALL_FINALIZE_PARTITION, id, 0), 0);
	oracle(ORACLE_TOTALS, &o);
	leaks = o.a[2];
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0),
	       HV_STATUS_OPERATION_DENIED);
	oracle(ORACLE_TOTALS, &o);
	EXPECT(o.a[2], leaks + 1);
	EXPECT(withdraw(id, 5), 5ull << 32);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0),
	       HV_STATUS_OPERATION_DENIED);
	EXPECT(withdraw(id, 5), HV_STATUS_NO_RESOURCES | 1ull << 32);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), 0);
}

static void mapped_is_not_deposited(void)
{
	u64 id = partition_ready(10), page = (u64)page_alloc();

	EXPECT(STATUS(map_run(id, 5, page, 1, MAP_RWX)), 0);
	EXPECT(STATUS(map_run(id, 6, page, 1, HV_MAP_GPA_READABLE)), 0);
	EXPECT(deposit_one(id, page >> 12), HV_STATUS_OPERATION_DENIED);
	EXPECT(STATUS(unmap(id, 5, 1, 0)), 0);
	EXPECT(deposit_one(id, page >> 12), HV_STATUS_OPERATION_DENIED);
	EXPECT(STATUS(map_run(id, 6, 0, 1, NO_ACCESS)), 0);
	EXPECT(deposit_one(id, page >> 12), 1ull << 32);
	partition_gone(id);
}

static void many(void)
{
	u64 id;
	u32 n = 0, i;
	static u64 ids[300];

	while (n < ARRAY_SIZE(ids)) {
		if (create_status(CREATE_FLAGS, CREATE_VERSION, 0, &ids[n]))
			break;
		n++;
	}
	EXPECT(n, 255);
	EXPECT(create_status(CREATE_FLAGS, CREATE_VERSION, 0, &id),
	       HV_STATUS_NO_RESOURCES);
	for (i = 0; i < n; i++)
		EXPECT(simple(HVCALL_DELETE_PARTITION, ids[i], 0), 0);
}

static const struct test tests[] = {
	{ "creation refuses unknown flags, versions and isolation types", creation },
	{ "a partition is created, initialized, finalized and deleted", life_cycle },
	{ "each call is refused in the wrong state of the partition", wrong_states },
	{ "each call is refused for unknown partitions and for the root", wrong_ids },
	{ "partition properties are kept, fixed or refused", properties },
	{ "the partition has one bank of capabilities and none of them", capabilities },
	{ "deposit refuses what is not the root's RAM, and deposits twice", deposit_refused },
	{ "withdraw returns exactly the deposited pages, zeroed", withdraw_gives_back },
	{ "the root can deposit for itself", own_pool },
	{ "withdraw leaves pages in use alone", only_free_pages },
	{ "an empty pool fails a call with progress; after a deposit it goes on", empty_pool },
	{ "a dry pool fails allocations, once or until cleared", dry_pool },
	{ "deletion with pages left fails and reports a leak", leak },
	{ "a page that a SLAT maps cannot be deposited", mapped_is_not_deposited },
	{ "255 partitions can exist, then NO_RESOURCES", many },
};

void test_partition(void)
{
	RUN(tests);
}
