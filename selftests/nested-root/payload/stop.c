// SPDX-License-Identifier: GPL-2.0
/*
 * hvstop: the root touches a page it gave away, and the machine has to stop with
 * a line that says so. "deposited" on the command line: a page of a partition's
 * pool; otherwise one that is exclusive to an encrypted partition.
 */
#include "payload.h"

void payload(void)
{
	u64 id = partition_create(true);
	volatile u64 *page = page_alloc();
	u64 *in = page_alloc(), result;

	page[0] = 1;
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
	ok_detail(STATUS(result) == HV_STATUS_SUCCESS, "the page is given away",
		  "status %x", STATUS(result));
	page[0] = 2;
	ok(false, "the machine stops before this line");
}
