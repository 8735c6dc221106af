// SPDX-License-Identifier: GPL-2.0
/* hello */
#include "payload.h"
GUEST(guest_hlt, "incq 0x20000; hlt");
void payload(void) { struct child c; say("hello %u cpus %llu pages cmdline '%s'\n", nr_cpus, pages_left(), cmdline); child_create(&c, 2); CHILD_CODE(&c, guest_hlt);
for (u32 i=0;i<2;i++) { u32 t=child_expect(&c,i); ok_detail(t==HVMSG_X64_HALT, "halt", "type %x rip %llx", t, reg_get(c.id,0,REG_RIP));}
child_delete(&c);
 }
