// SPDX-License-Identifier: GPL-2.0
/*
 * hvstop: what ends the machine. The root touches a page it gave away, and the
 * machine has to stop with a line that says so. "deposited" on the command line:
 * a page of a partition's pool; otherwise one that is exclusive to an encrypted
 * partition. "remote": a second CPU has been writing to it all the time. "state":
 * the message page of a VP that is gone. "off": the root enters S5, and the machine
 * has to switch off.
 */
#include "payload.h"

static void keep_writing(void *arg)
{
	volatile u64 *page = arg;

	for (;;)
		++*page;
}

static void give_away(volatile u64 *page)
{
	u64 id = partition_create(true), *in = this_cpu()->in, result;

	page[0] = 1;
	if (word_given("remote")) {
		cpu_run(1, keep_writing, (void *)page);
		while (page[0] == 1)
			cpu_relax();
	}
	if (word_given("deposited")) {
		in[0] = id;
		in[1] = (u64)page >> 12;
		result = hvcall(CONTROL(HVCALL_DEPOSIT_MEMORY, 1), in, NULL);
	} else {
		in[0] = (u64)HV_SPA_MAKE_EXCLUSIVE << 32;
		in[1] = id;
		in[2] = (u64)page >> 12;
		result = hvcall(CONTROL(HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS, 1),
				in, NULL);
	}
	/* Not a word meanwhile: the line that is to come needs the console */
	if (word_given("remote"))
		delay_us(5000000);
	ok_detail(STATUS(result) == HV_STATUS_SUCCESS, "the page is given away",
		  "status %x", STATUS(result));
	if (!word_given("remote"))
		page[0] = 2;
}

static void outlive_vp(void)
{
	struct hv_message *message;
	struct child c;

	child_create(&c, 1);
	message = c.message[0];
	message->type = 1;
	ok(!simple(HVCALL_FINALIZE_PARTITION, c.id, 0), "the VP is gone");
	message->type = 2;
}

static void switch_off(void)
{
	u64 *in = this_cpu()->in, result;

	memset(in, 0, 72);
	in[0] = 3;
	in[1] = 5;		/* S5 is sleep type 0 in QEMU */
	result = hvcall(HVCALL_SET_SYSTEM_PROPERTY, in, NULL);
	ok_detail(!result, "S5 is registered", "status %x", STATUS(result));
	in[0] = 5;
	hvcall(HVCALL_ENTER_SLEEP_STATE, in, NULL);
}

void payload(void)
{
	if (word_given("off"))
		switch_off();
	else if (word_given("state"))
		outlive_vp();
	else
		give_away(page_alloc());
	ok(false, "the machine ends before this line");
}
