// SPDX-License-Identifier: GPL-2.0
/*
 * A small hypervisor that speaks Hyper-V's root-partition ABI, to run and test
 * the mshv root driver in QEMU. This file: the order of initialisation and the
 * boot parameters.
 */
#include "hv.h"

void hv_main(u32 mb_info);

static const struct {
	const char *word;
	u8 option;
	u8 value;
} parameters[] = {
	{ "large-over-4k=accept", OPT_LARGE_OVER_4K_REFUSED, 0 },
	{ "large-over-4k=refuse", OPT_LARGE_OVER_4K_REFUSED, 1 },
	{ "split=pool", OPT_SPLIT_FREE, 0 },
	{ "split=free", OPT_SPLIT_FREE, 1 },
	{ "unmap-memory=no", OPT_UNMAP_NEEDS_MEMORY, 0 },
	{ "unmap-memory=yes", OPT_UNMAP_NEEDS_MEMORY, 1 },
	{ "remap-ad=keep", OPT_REMAP_CLEARS_AD, 0 },
	{ "remap-ad=clear", OPT_REMAP_CLEARS_AD, 1 },
	{ "tlb-flush=sync", OPT_NO_TLB_FLUSH, 0 },
	{ "tlb-flush=none", OPT_NO_TLB_FLUSH, 1 },
	{ "msg-page=keep", OPT_MSG_PAGE_CLEARED, 0 },
	{ "msg-page=clear", OPT_MSG_PAGE_CLEARED, 1 },
	{ "coalesce=yes", OPT_NO_COALESCE, 0 },
	{ "coalesce=no", OPT_NO_COALESCE, 1 },
};

static void parse(const char *s)
{
	u32 i;

	while (*s) {
		for (i = 0; i < ARRAY_SIZE(parameters); i++)
			if (word_is(s, parameters[i].word))
				break;
		if (i < ARRAY_SIZE(parameters))
			hv_options[parameters[i].option] = parameters[i].value;
		else if (word_is(s, "sched=root"))
			scheduler_type = 4;
		else if (word_is(s, "sched=hyp"))
			scheduler_type = 1;
		else
			hv_stop("unknown parameter: %s", s);
		while (*s && *s != ' ')
			s++;
		while (*s == ' ')
			s++;
	}
}

void hv_main(u32 mb_info)
{
	struct cpu *cpu = &cpus[0];
	const char *options;

	load_idt();
	options = (const char *)loader_init(mb_info);
	parse(options);
	svm_enable(cpu);
	calibrate();
	partitions[0] = &root_partition;
	root_npt_init();
	root_init(cpu);
	cpu->online = true;
	smp_start();
	loader_boot(mb_info);
	hv_print("%u processors, %llu MiB, %s scheduler, TSC %llu kHz\n", nr_cpus,
		 ram_top >> 20, scheduler_type == 4 ? "root" : "hypervisor",
		 tsc_hz / 1000);
	root_loop(cpu);
}
