// SPDX-License-Identifier: GPL-2.0
/*
 * hvtest: what the hypervisor promises, sentence by sentence, as TAP on COM1.
 *
 * Command line: test=TEXT runs the tests whose sentence contains TEXT (no
 * spaces; '.' stands for any character).
 */
#include "test.h"

static struct {
	const char *what, *file;
	u64 seen, wanted, number;
	u32 line;
	bool failed;
} first;
static u64 case_number;
static const char *skipped;

bool expect(u64 seen, u64 wanted, const char *what, const char *file, u32 line)
{
	if (seen != wanted && !first.failed) {
		first.failed = true;
		first.what = what;
		first.file = file;
		first.line = line;
		first.seen = seen;
		first.wanted = wanted;
		first.number = case_number;
	}
	return seen == wanted;
}

bool test_failed(void)
{
	return first.failed;
}

void test_case(u64 number)
{
	case_number = number;
}

void test_skip(const char *why)
{
	skipped = why;
}

/* A partition that is active, with @pages in its pool (one is the top table). */
u64 partition_ready(u32 pages)
{
	u64 id = partition_create(false);

	EXPECT_TRUE(id);
	EXPECT(STATUS(deposit(id, pages)), 0);
	EXPECT(simple(HVCALL_INITIALIZE_PARTITION, id, 0), 0);
	return id;
}

/* Ends any partition, whatever its state. */
void partition_gone(u64 id)
{
	simple(HVCALL_FINALIZE_PARTITION, id, 0);
	withdraw_all(id);
	EXPECT(simple(HVCALL_DELETE_PARTITION, id, 0), 0);
}

void set_dry(u64 id, u64 n)
{
	struct oracle o = { { id, n } };

	EXPECT(oracle(ORACLE_DRY, &o), 0);
}

u32 slat_flags(u64 id, u64 gfn)
{
	u64 spa;
	u32 flags;

	return slat(id, gfn, &spa, &flags) ? UNMAPPED : flags;
}

u64 slat_spa(u64 id, u64 gfn)
{
	u64 spa;
	u32 flags;

	return slat(id, gfn, &spa, &flags) ? ~0ull : spa;
}

void counter(u16 code, struct oracle *o)
{
	*o = (struct oracle){ { code } };
	EXPECT(oracle(ORACLE_COUNTER, o), 0);
}

static bool chosen(const char *sentence, const char *text)
{
	const char *s;
	u32 i;

	if (!text)
		return true;
	for (s = sentence; *s; s++) {
		for (i = 0; text[i] && text[i] != ' '; i++)
			if (s[i] != text[i] && (text[i] != '.' || !s[i]))
				break;
		if (!text[i] || text[i] == ' ')
			return true;
	}
	return false;
}

/*
 * What a failed test left must not fail the next ones. Returns how many partitions
 * there are that the tests before did not leave.
 */
static u32 tidy_up(void)
{
	struct oracle o = { { 0 } };
	u32 left = 0, stay = 0, new, i;
	static u32 stayed;

	for (i = 0; i < OPTIONS; i++)
		option(i, 0);
	oracle(ORACLE_RESET, &o);
	for (o.a[0] = 0; !oracle(ORACLE_PARTITION, &o); left++) {
		simple(HVCALL_FINALIZE_PARTITION, o.a[0], 0);
		withdraw_all(o.a[0]);
		stay += !!simple(HVCALL_DELETE_PARTITION, o.a[0], 0);
	}
	new = left - stayed;
	stayed = stay;
	return new;
}

void run_tests(const struct test *test, u32 n)
{
	const char *text = find_word("test=");
	u32 i;

	for (i = 0; i < n; i++) {
		struct oracle o = { { 0 } };
		u64 pages = pages_left(), balance;
		u32 left;

		if (!chosen(test[i].sentence, text))
			continue;
		oracle(ORACLE_TOTALS, &o);
		balance = o.a[0] - o.a[1];
		memset(&first, 0, sizeof(first));
		skipped = NULL;
		case_number = 0;
		test[i].fn();
		left = tidy_up();
		if (!test_failed()) {
			oracle(ORACLE_TOTALS, &o);
			test_case(~0ull);
			EXPECT(left, 0);
			EXPECT(o.a[0] - o.a[1], balance);
			EXPECT(pages_left(), pages);
		}
		if (skipped && !first.failed)
			skip(test[i].sentence, skipped);
		else
			ok_detail(!first.failed, test[i].sentence,
				  "%s:%u: %s is 0x%llx, not 0x%llx (case 0x%llx)",
				  first.file, first.line, first.what, first.seen,
				  first.wanted, first.number);
	}
}

void payload(void)
{
	say("TAP version 13\n# %u CPUs, %s scheduler\n", nr_cpus,
	    scheduler_is_root ? "root" : "hypervisor");
	test_cpu();
	test_control();
	test_partition();
	test_slat();
	test_vp();
	test_intercept();
	test_sched();
	test_encrypted();
}
