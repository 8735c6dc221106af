// SPDX-License-Identifier: GPL-2.0
/* Console (COM1), the end of the machine, and the C library's few strings. */
#include "hv.h"

#define COM1	0x3f8
#define QEMU_EXIT_PORT	0xf4
#define QEMU_EXIT_STOP	0x10	/* QEMU's exit status becomes 0x21 */

static volatile int console_lock;

static void put(char c)
{
	if (c == '\n')
		put('\r');
	while (!(port_in8(COM1 + 5) & 0x20))
		;
	port_out8(COM1, c);
}

static void put_number(u64 v, u32 base, int width, char pad)
{
	char buf[24];
	int n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (width-- > n)
		put(pad);
	while (n)
		put(buf[--n]);
}

/* %s %c %d %u %x %p with an optional 0, width and ll. */
static void vprint(const char *fmt, __builtin_va_list ap)
{
	for (; *fmt; fmt++) {
		int width = 0, longs = 0;
		char pad = ' ';
		const char *s;
		s64 v;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		if (*++fmt == '0')
			pad = '0';
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + *fmt++ - '0';
		while (*fmt == 'l') {
			longs++;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			for (s = __builtin_va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put(__builtin_va_arg(ap, int));
			break;
		case 'd':
			v = longs ? __builtin_va_arg(ap, s64) :
				    __builtin_va_arg(ap, int);
			if (v < 0) {
				put('-');
				v = -v;
			}
			put_number(v, 10, width, pad);
			break;
		case 'p':
			longs = 1;
			fallthrough;
		case 'u':
		case 'x':
			v = longs ? __builtin_va_arg(ap, u64) :
				    __builtin_va_arg(ap, u32);
			put_number(v, *fmt == 'u' ? 10 : 16, width, pad);
			break;
		default:
			put(*fmt);
		}
	}
}

static void put_prefix(const char *s)
{
	while (*s)
		put(*s++);
}

static void console_take(void)
{
	u32 tries = 0;

	/* A CPU that stops while it prints must not silence the others. */
	while (__sync_lock_test_and_set(&console_lock, 1) && ++tries < 10000000)
		cpu_relax();
}

void hv_print(const char *fmt, ...)
{
	__builtin_va_list ap;

	console_take();
	put_prefix("hv: ");
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	__sync_lock_release(&console_lock);
}

/* The machine cannot go on: say why on one line and leave QEMU. */
void hv_stop(const char *fmt, ...)
{
	__builtin_va_list ap;

	console_take();
	put_prefix("\nhv: STOP: ");
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	put('\n');
	port_out32(QEMU_EXIT_PORT, QEMU_EXIT_STOP);
	for (;;)
		asm volatile("cli; hlt");
}

void *memcpy(void *dst, const void *src, unsigned long n)
{
	void *d = dst;

	asm volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, unsigned long n)
{
	u8 *d = dst;
	const u8 *s = src;

	if (d <= s || d >= s + n)
		return memcpy(dst, src, n);
	d += n - 1;
	s += n - 1;
	asm volatile("std; rep movsb; cld" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return dst;
}

void *memset(void *dst, int c, unsigned long n)
{
	void *d = dst;

	asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, unsigned long n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

unsigned long strlen(const char *s)
{
	unsigned long n = 0;

	while (s[n])
		n++;
	return n;
}

/* Does the blank-separated list at s begin with exactly this word? */
bool word_is(const char *s, const char *word)
{
	while (*word && *s == *word) {
		s++;
		word++;
	}
	return !*word && (!*s || *s == ' ');
}
