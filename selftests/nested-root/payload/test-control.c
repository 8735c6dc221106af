// SPDX-License-Identifier: GPL-2.0
/* What every hypercall has in common: control word, addresses, the oracle's hold. */
#include "test.h"

#define FAST		HVC_FAST
#define VARHEAD(n)	((u64)(n) << 17)
#define START(n)	((u64)(n) << 48)

static u64 id;
static u8 *buffer;		/* two pages of the root in a row */

static u16 call(u64 control, u64 in, u64 out)
{
	return STATUS(hvcall(control, (void *)in, (void *)out));
}

/* Input that is right for the calls below, at @at of the buffer. */
static u64 input(u32 at)
{
	u64 *in = (u64 *)(buffer + at);

	in[0] = id;
	in[1] = 0x100000;
	in[2] = 0;
	return (u64)in;
}

static void begin(void)
{
	id = partition_ready(20);
	buffer = large_alloc();
}

static void end(void)
{
	large_free(buffer);
	partition_gone(id);
}

static void codes(void)
{
	static const u16 unknown[] = {
		0x0, 0x1, 0x3f, 0x47, 0x4a, 0x75, 0x10f, 0x110, 0x8001, 0xffff
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		test_case(unknown[i]);
		EXPECT(call(unknown[i], (u64)this_cpu()->in, 0),
		       HV_STATUS_INVALID_HYPERCALL_CODE);
		EXPECT(call(unknown[i] | FAST, 0, 0),
		       HV_STATUS_INVALID_HYPERCALL_CODE);
	}
}

static void control_words(void)
{
	const u64 unmap1 = CONTROL(HVCALL_UNMAP_GPA_PAGES, 1);
	const u64 bad[] = {
		HVCALL_UNMAP_GPA_PAGES,			/* no repetitions */
		unmap1 | START(1),
		unmap1 | START(4095),
		CONTROL(HVCALL_UNMAP_GPA_PAGES, 4095) | START(4095),
		unmap1 | VARHEAD(1),
		unmap1 | FAST,
		CONTROL(HVCALL_GET_PARTITION_PROPERTY, 1),
		HVCALL_GET_PARTITION_PROPERTY | START(1),
		HVCALL_GET_PARTITION_PROPERTY | VARHEAD(1),
		HVCALL_GET_PARTITION_PROPERTY | FAST,
		HVCALL_CREATE_PARTITION | FAST,
	};
	u32 i;

	begin();
	EXPECT(call(unmap1, input(0), 0), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		test_case(i);
		EXPECT(call(bad[i], input(0), (u64)this_cpu()->out),
		       HV_STATUS_INVALID_HYPERCALL_INPUT);
	}
	for (i = 0; i < 64; i++) {
		if (!(0xf000f000f8000000ull >> i & 1))
			continue;
		test_case(i | 0x100);
		EXPECT(call(unmap1 | 1ull << i, input(0), 0),
		       HV_STATUS_INVALID_HYPERCALL_INPUT);
	}
	end();
}

static void addresses(void)
{
	u64 unmap1 = CONTROL(HVCALL_UNMAP_GPA_PAGES, 1);
	u64 get = HVCALL_GET_PARTITION_PROPERTY, out = (u64)this_cpu()->out;
	u32 i;

	begin();
	/* input */
	for (i = 1; i < 8; i++)
		EXPECT(call(unmap1, input(0) + i, 0), HV_STATUS_INVALID_ALIGNMENT);
	EXPECT(call(unmap1, input(PAGE_SIZE - 24), 0), 0);
	EXPECT(call(unmap1, input(PAGE_SIZE - 16), 0),
	       HV_STATUS_INVALID_ALIGNMENT);
	EXPECT(call(unmap1, 0x200000, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(unmap1, 0xfee00000, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(unmap1, DEVICE_PFN << 12, 0), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(unmap1, ~0xfffull, 0), HV_STATUS_INVALID_PARAMETER);
	/* a list that crosses the page */
	EXPECT(call(CONTROL(HVCALL_MAP_GPA_PAGES, 4),
		    input(PAGE_SIZE - 48), 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	EXPECT(slat_flags(id, 0x100000), UNMAPPED);
	EXPECT(call(CONTROL(HVCALL_MAP_GPA_PAGES, 3),
		    input(PAGE_SIZE - 48), 0), 0);
	EXPECT(call(CONTROL(HVCALL_UNMAP_GPA_PAGES, 3), input(0), 0), 0);
	/* output */
	input(0);
	((u64 *)buffer)[1] = 0x10000;
	EXPECT(call(get, (u64)buffer, out), 0);
	for (i = 1; i < 8; i++)
		EXPECT(call(get, (u64)buffer, out + i),
		       HV_STATUS_INVALID_ALIGNMENT);
	EXPECT(call(get, (u64)buffer, 0x200000), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(get, (u64)buffer, 0xfee00000), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(get, (u64)buffer, ~0xfffull), HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(get, (u64)buffer, out + PAGE_SIZE - 8), 0);
	/* an output list that crosses the page */
	EXPECT(call(CONTROL(HVCALL_WITHDRAW_MEMORY, 3), input(0),
		    out + PAGE_SIZE - 16), HV_STATUS_INVALID_HYPERCALL_INPUT);
	EXPECT(call(CONTROL(HVCALL_GET_GPA_PAGES_ACCESS_STATES, 9), input(0),
		    out + PAGE_SIZE - 8), HV_STATUS_INVALID_HYPERCALL_INPUT);
	end();
}

/* A page that the partition owns is no place for input or output. */
static void deposited_buffers(void)
{
	struct oracle o;
	u64 page;

	begin();
	page = (u64)page_alloc();
	this_cpu()->in[0] = id;
	this_cpu()->in[1] = page >> 12;
	EXPECT(call(CONTROL(HVCALL_DEPOSIT_MEMORY, 1), (u64)this_cpu()->in, 0), 0);
	EXPECT(call(CONTROL(HVCALL_UNMAP_GPA_PAGES, 1), page, 0),
	       HV_STATUS_INVALID_PARAMETER);
	EXPECT(call(HVCALL_GET_PARTITION_ID, 0, page),
	       HV_STATUS_INVALID_PARAMETER);
	o = (struct oracle){ { page } };
	oracle(ORACLE_PAGE, &o);
	EXPECT(o.a[0], 1);
	EXPECT(o.a[1], id);
	end();
}

static void fast_calls(void)
{
	u64 other = partition_create(false);

	deposit(other, 8);
	EXPECT(call(HVCALL_INITIALIZE_PARTITION | FAST, other, 0), 0);
	EXPECT(vp_create(other, 3), 0);
	EXPECT(call(HVCALL_DELETE_VP | FAST, other, 3), 0);
	EXPECT(call(HVCALL_DELETE_VP | FAST, other, 3),
	       HV_STATUS_INVALID_VP_INDEX);
	EXPECT(call(HVCALL_FINALIZE_PARTITION | FAST, other, 0), 0);
	EXPECT(call(HVCALL_DELETE_PARTITION | FAST, other, 0),
	       HV_STATUS_OPERATION_DENIED);
	withdraw_all(other);
	EXPECT(call(HVCALL_DELETE_PARTITION | FAST, other, 0), 0);
}

/* Repetitions before the start index belong to an earlier call. */
static void start_index(void)
{
	u64 *in = this_cpu()->in, spa, r;
	u32 i;

	begin();
	spa = (u64)buffer;
	in[0] = id;
	in[1] = 0;
	in[2] = MAP_RWX;
	for (i = 0; i < 5; i++)
		in[3 + i] = (spa >> 12) + i;
	r = hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, 5) | START(2), in, NULL);
	EXPECT(r, 5ull << 32);
	for (i = 0; i < 5; i++)
		EXPECT(slat_spa(id, i), i < 2 ? ~0ull : spa + i * PAGE_SIZE);
	in[2] = 0;
	r = hvcall(CONTROL(HVCALL_UNMAP_GPA_PAGES, 4) | START(3), in, NULL);
	EXPECT(r, 4ull << 32);
	EXPECT(slat_flags(id, 2) & SLAT_RWX, SLAT_RWX);
	EXPECT(slat_flags(id, 3), UNMAPPED);
	EXPECT(slat_flags(id, 4) & SLAT_RWX, SLAT_RWX);
	/* output before the index stays as it was */
	memset(this_cpu()->out, 0x55, PAGE_SIZE);
	in[1] = 0;
	r = hvcall(CONTROL(HVCALL_WITHDRAW_MEMORY, 3) | START(1), in,
		   this_cpu()->out);
	EXPECT(r, 3ull << 32);
	EXPECT(this_cpu()->out[0], 0x5555555555555555ull);
	EXPECT(this_cpu()->out[3], 0x5555555555555555ull);
	for (i = 1; i < 3; i++)
		page_free((void *)(this_cpu()->out[i] << 12));
	end();
}

static void counting(void)
{
	const u64 unmap1 = CONTROL(HVCALL_UNMAP_GPA_PAGES, 1);
	const u64 malformed[] = { 1ull << 63, FAST, VARHEAD(1), START(4095) };
	struct oracle o = { { 0 } };
	u32 i;

	begin();
	EXPECT(oracle(ORACLE_RESET, &o), 0);
	EXPECT(map_run(id, 0, (u64)buffer, 7, MAP_RWX), 7ull << 32);
	EXPECT(DONE(map_run(id, 0, (u64)buffer, 3, MAP_RWX | 1 << 20)), 0);
	counter(HVCALL_MAP_GPA_PAGES, &o);
	EXPECT(o.a[0], 2);
	EXPECT(o.a[1], 7);
	EXPECT(o.a[2], 1);
	EXPECT(oracle(ORACLE_RESET, &o), 0);
	counter(HVCALL_MAP_GPA_PAGES, &o);
	EXPECT(o.a[0] | o.a[1] | o.a[2], 0);
	/* however early they fail */
	for (i = 0; i < ARRAY_SIZE(malformed); i++) {
		test_case(i);
		EXPECT(call(unmap1 | malformed[i], input(0), 0),
		       HV_STATUS_INVALID_HYPERCALL_INPUT);
		counter(HVCALL_UNMAP_GPA_PAGES, &o);
		EXPECT(o.a[0], i + 1);
		EXPECT(o.a[1], 0);
		EXPECT(o.a[2], i + 1);
	}
	o.a[0] = HVCALL_COUNT;
	EXPECT(oracle(ORACLE_COUNTER, &o), -22);
	end();
}

static void inject(u32 code, u64 nth, u32 status, u32 reps, u32 flags)
{
	struct oracle o = { { code, nth, status, reps, flags } };

	EXPECT(oracle(ORACLE_INJECT, &o), 0);
}

static u64 injected(u32 code)
{
	struct oracle o = { { code } };

	EXPECT(oracle(ORACLE_INJECTED, &o), 0);
	return o.a[0];
}

static void injection(void)
{
	struct oracle o = { { HVCALL_MAP_GPA_PAGES, 1, 0x10000, 0, 0 } };
	u64 *in = this_cpu()->in, spa, other;
	u32 i;

	begin();
	spa = (u64)buffer;
	inject(HVCALL_MAP_GPA_PAGES, 2, HV_STATUS_INSUFFICIENT_MEMORY, 3, 0);
	EXPECT(map_run(id, 0, spa, 5, MAP_RWX), 5ull << 32);
	EXPECT(injected(HVCALL_MAP_GPA_PAGES), 0);
	EXPECT(map_run(id, 16, spa, 5, MAP_RWX),
	       HV_STATUS_INSUFFICIENT_MEMORY | 3ull << 32);
	EXPECT(injected(HVCALL_MAP_GPA_PAGES), 1);
	EXPECT(slat_flags(id, 18) & SLAT_RWX, SLAT_RWX);
	EXPECT(slat_flags(id, 19), UNMAPPED);
	EXPECT(map_run(id, 16, spa, 5, MAP_RWX), 5ull << 32);
	/* the failing repetition is one of the call's: at most all before the last */
	inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 5, 0);
	EXPECT(map_run(id, 32, spa, 5, MAP_RWX),
	       HV_STATUS_OPERATION_DENIED | 4ull << 32);
	EXPECT(slat_flags(id, 35) & SLAT_RWX, SLAT_RWX);
	EXPECT(slat_flags(id, 36), UNMAPPED);
	inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 4095, 0);
	EXPECT(map_run(id, 48, spa, 1, MAP_RWX), HV_STATUS_OPERATION_DENIED);
	EXPECT(slat_flags(id, 48), UNMAPPED);
	inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 9, 0);
	in[0] = id;
	in[1] = 64;
	in[2] = MAP_RWX;
	for (i = 0; i < 5; i++)
		in[3 + i] = (spa >> 12) + i;
	EXPECT(hvcall(CONTROL(HVCALL_MAP_GPA_PAGES, 5) | START(3), in, NULL),
	       HV_STATUS_OPERATION_DENIED | 4ull << 32);
	EXPECT(slat_flags(id, 66), UNMAPPED);
	EXPECT(slat_flags(id, 67) & SLAT_RWX, SLAT_RWX);
	EXPECT(slat_flags(id, 68), UNMAPPED);
	/* not one that fails by itself before that: here at the next 2M, for a table */
	other = partition_ready(4);
	inject(HVCALL_MAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 3, 0);
	EXPECT(map_run(other, 510, spa, 5, MAP_RWX),
	       HV_STATUS_INSUFFICIENT_MEMORY | 2ull << 32);
	EXPECT(injected(HVCALL_MAP_GPA_PAGES), 0);
	EXPECT(STATUS(deposit(other, 1)), 0);
	EXPECT(map_run(other, 510, spa, 5, MAP_RWX),
	       HV_STATUS_OPERATION_DENIED | 3ull << 32);
	EXPECT(injected(HVCALL_MAP_GPA_PAGES), 1);
	EXPECT(map_run(other, 510, spa, 5, MAP_RWX), 5ull << 32);
	partition_gone(other);
	/* every later one, until cancelled */
	inject(HVCALL_UNMAP_GPA_PAGES, 1, HV_STATUS_OPERATION_DENIED, 0, 1);
	EXPECT(unmap(id, 0, 5, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(unmap(id, 0, 5, 0), HV_STATUS_OPERATION_DENIED);
	EXPECT(injected(HVCALL_UNMAP_GPA_PAGES), 2);
	EXPECT(slat_flags(id, 0) & SLAT_RWX, SLAT_RWX);
	inject(HVCALL_UNMAP_GPA_PAGES, 0, 0, 0, 0);
	EXPECT(unmap(id, 0, 5, 0), 5ull << 32);
	/* a simple call has no effect */
	inject(HVCALL_CREATE_VP, 1, HV_STATUS_INSUFFICIENT_MEMORY, 0, 0);
	EXPECT(vp_create(id, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	EXPECT(simple(HVCALL_DELETE_VP, id, 0), HV_STATUS_INVALID_VP_INDEX);
	EXPECT(oracle(ORACLE_INJECT, &o), -22);
	end();
}

static void latency(void)
{
	struct oracle o = { { HVCALL_GET_PARTITION_ID, 20000 } };
	u64 start;

	EXPECT(oracle(ORACLE_DELAY, &o), 0);
	start = now_us();
	EXPECT(hvcall(HVCALL_GET_PARTITION_ID, NULL, this_cpu()->out), 0);
	EXPECT_TRUE(now_us() - start >= 20000);
	o = (struct oracle){ { HVCALL_GET_PARTITION_ID, 0 } };
	EXPECT(oracle(ORACLE_DELAY, &o), 0);
	o = (struct oracle){ { HVCALL_GET_PARTITION_ID, 1ull << 40 } };
	EXPECT(oracle(ORACLE_DELAY, &o), -22);
}

static void options(void)
{
	struct oracle o;
	u32 i;

	for (i = 0; i < OPTIONS; i++) {
		test_case(i);
		EXPECT(option(i, 1), 0);
		EXPECT(option(i, ~0ull), 1);
		oracle(ORACLE_VERSION, &o);
		EXPECT(o.a[1], 1u << i);
		EXPECT(option(i, 0), 1);
	}
	o = (struct oracle){ { OPTIONS, 0 } };
	EXPECT(oracle(ORACLE_OPTION, &o), -22);
	o = (struct oracle){ { 0, 2 } };
	EXPECT(oracle(ORACLE_OPTION, &o), -22);
}

/* Other widths and directions at the oracle's ports do nothing. */
static void oracle_port(void)
{
	u32 eax = 0x1234;
	u64 rdi = 0x77;

	asm volatile("inl %%dx, %%eax" : "=a"(eax) : "d"((u16)0x4860));
	EXPECT(eax, 0xffffffff);
	EXPECT(inb(0x4861), 0xff);
	asm volatile("outb %%al, %%dx" : "+a"(eax), "+D"(rdi) : "d"((u16)0x4860));
	asm volatile("outl %%eax, %%dx" : "+a"(eax), "+D"(rdi) : "d"((u16)0x4862));
	EXPECT(rdi, 0x77);
}

static const struct test tests[] = {
	{ "unknown call codes are INVALID_HYPERCALL_CODE", codes },
	{ "malformed control words are INVALID_HYPERCALL_INPUT", control_words },
	{ "input and output must be aligned, in one page, in the root's RAM", addresses },
	{ "a deposited page is no buffer for input or output", deposited_buffers },
	{ "calls of up to 16 bytes can be fast", fast_calls },
	{ "a start index skips repetitions and their output", start_index },
	{ "the oracle counts calls, repetitions and failures", counting },
	{ "the oracle makes the n-th call fail after some repetitions", injection },
	{ "the oracle delays a call", latency },
	{ "the oracle changes every parameter at run time", options },
	{ "the oracle's ports answer to nothing but a 32-bit OUT", oracle_port },
};

void test_control(void)
{
	RUN(tests);
}
