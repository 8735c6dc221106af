/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Types and small macros as kernel code has them.
 */
#ifndef SELFTESTS_MSHV_TYPES_H
#define SELFTESTS_MSHV_TYPES_H

#include <stdint.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#ifndef __packed
#define __packed	__attribute__((__packed__))
#endif
#ifndef ARRAY_SIZE
#define ARRAY_SIZE(_a)	(sizeof(_a) / sizeof((_a)[0]))
#endif
#ifndef BIT
#define BIT(_nr)	(1UL << (_nr))
#endif

#ifndef __printf
#define __printf(_fmt, _args)	__attribute__((format(printf, _fmt, _args)))
#endif

/* Memory that a guest or another thread uses at the same time */
#define READ_ONCE(_x)		__atomic_load_n(&(_x), __ATOMIC_ACQUIRE)
#define WRITE_ONCE(_x, _value)	__atomic_store_n(&(_x), _value, __ATOMIC_RELEASE)

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)

#endif /* SELFTESTS_MSHV_TYPES_H */
