/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of mshv_bench have from each other.
 */
#ifndef SELFTESTS_MSHV_BENCH_H
#define SELFTESTS_MSHV_BENCH_H

#include <stdbool.h>

/* In a function that returns why it has no result: without it there is none */
#define need(_condition, _what) do { \
	if (!(_condition)) \
		return "needs: " _what; \
} while (0)

/*
 * Runs @fn in a process of its own, which is the first to be killed when memory
 * is short, and ends within @seconds. Returns NULL, or what became of it.
 */
const char *run_process(void (*fn)(const void *data), const void *data,
			unsigned int seconds);

/* Is it wanted: does the name start as one of the arguments, if there are any? */
bool is_wanted(const char *name, int argc, char **argv);

/* mshv_figures.c */
void measure_figures(int argc, char **argv);
/* mshv_behaviour.c */
void ask_questions(int argc, char **argv);

#endif /* SELFTESTS_MSHV_BENCH_H */
