// SPDX-License-Identifier: GPL-2.0
/* Console, TAP, command line, memory of the payloads. */
#include "payload.h"

#define COM1		0x3f8
#define EXIT_PORT	0xf4
#define E820_RAM	1
#define ARENA_START	0x2000000ull	/* below: this program, loader's tables */
#define ARENA_LARGE	64

const char *cmdline = "";
u32 tests_failed;

static u32 tests;
static void *free_pages;
static u64 free_count;
static void *large[ARENA_LARGE];
static u32 large_count;

void *memset(void *to, int c, unsigned long n)
{
	void *d = to;

	if (!c && !(n % 8)) {
		n /= 8;
		asm volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0ull) : "memory");
	} else {
		asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	}
	return to;
}

void *memcpy(void *to, const void *from, unsigned long n)
{
	void *d = to;

	asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, unsigned long n)
{
	const u8 *p = a, *q = b;

	for (; n; n--, p++, q++)
		if (*p != *q)
			return *p < *q ? -1 : 1;
	return 0;
}

static void put(char c)
{
	if (c == '\n')
		put('\r');
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, c);
}

static void put_number(u64 v, u32 base)
{
	char s[24];
	u32 n = 0;

	do {
		s[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put(s[--n]);
}

/* %s %c %d %u %x %llu %llx; that is all. */
static void vsay(const char *fmt, __builtin_va_list ap)
{
	for (; *fmt; fmt++) {
		bool wide = false;
		u64 v;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		for (fmt++; *fmt == 'l'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's': {
			const char *s = __builtin_va_arg(ap, const char *);

			while (*s)
				put(*s++);
			break;
		}
		case 'c':
			put(__builtin_va_arg(ap, int));
			break;
		case 'd':
		case 'u':
		case 'x':
			v = wide ? __builtin_va_arg(ap, u64) :
				   __builtin_va_arg(ap, u32);
			put_number(v, *fmt == 'x' ? 16 : 10);
			break;
		}
	}
}

void say(const char *fmt, ...)
{
	__builtin_va_list ap;

	__builtin_va_start(ap, fmt);
	vsay(fmt, ap);
	__builtin_va_end(ap);
}

static void result(bool good, const char *name)
{
	say("%sok %u - %s", good ? "" : "not ", ++tests, name);
	tests_failed += !good;
}

void ok(bool good, const char *name)
{
	result(good, name);
	say("\n");
}

void ok_detail(bool good, const char *name, const char *fmt, ...)
{
	__builtin_va_list ap;

	result(good, name);
	if (!good) {
		say(" # ");
		__builtin_va_start(ap, fmt);
		vsay(fmt, ap);
		__builtin_va_end(ap);
	}
	say("\n");
}

void skip(const char *name, const char *why)
{
	result(true, name);
	say(" # SKIP %s\n", why);
}

/* 0: success, else failure; QEMU's exit status is 2 * code + 1. */
void leave(u32 code)
{
	for (;;)
		asm volatile("outl %0, %1; cli; hlt" : : "a"(code),
			     "Nd"((u16)EXIT_PORT));
}

void finish(void)
{
	say("1..%u\n", tests);
	leave(tests_failed ? 1 : 0);
}

/* The text after @word (a whole word, or its part up to '='), or NULL. */
const char *find_word(const char *word)
{
	const char *s = cmdline;

	while (*s) {
		const char *w = word;

		while (*w && *s == *w) {
			s++;
			w++;
		}
		if (!*w && (!*s || *s == ' ' || w[-1] == '='))
			return s;
		while (*s && *s != ' ')
			s++;
		while (*s == ' ')
			s++;
	}
	return NULL;
}

bool word_given(const char *word)
{
	return find_word(word);
}

u64 number_given(const char *name, u64 otherwise)
{
	const char *s = find_word(name);
	u64 v = 0;

	if (!s)
		return otherwise;
	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + *s - '0';
	return v;
}

struct e820_entry {
	u64 base, length;
	u32 type;
} __packed;

/* The arena: the first blocks of 2 MiB above this program, then single pages. */
void memory_init(const u8 *bp)
{
	const struct e820_entry *e = (const void *)(bp + 0x2d0);
	u32 i, budget = 32;

	cmdline = (const char *)(u64)*(const u32 *)(bp + 0x228);
	for (i = 0; i < bp[0x1e8]; i++, e++) {
		u64 from = e->base, end = e->base + e->length;

		if (e->type != E820_RAM)
			continue;
		if (from < ARENA_START)
			from = ARENA_START;
		from = (from + MB2 - 1) & ~(MB2 - 1);
		for (; from + MB2 <= end; from += MB2) {
			if (large_count < ARENA_LARGE) {
				large[large_count++] = (void *)from;
			} else if (budget) {
				u64 p;

				budget--;
				for (p = from; p < from + MB2; p += PAGE_SIZE)
					page_free((void *)p);
			}
		}
	}
}

void *page_alloc(void)
{
	void *page = free_pages;

	if (!page) {
		say("not ok %u - out of pages\n", ++tests);
		leave(1);
	}
	free_pages = *(void **)page;
	free_count--;
	memset(page, 0, PAGE_SIZE);
	return page;
}

void page_free(void *page)
{
	*(void **)page = free_pages;
	free_pages = page;
	free_count++;
}

u64 pages_left(void)
{
	return free_count;
}

/* 2 MiB, aligned. */
void *large_alloc(void)
{
	void *block;

	if (!large_count) {
		say("not ok %u - out of 2 MiB blocks\n", ++tests);
		leave(1);
	}
	block = large[--large_count];
	memset(block, 0, MB2);
	return block;
}

void large_free(void *block)
{
	large[large_count++] = block;
}
