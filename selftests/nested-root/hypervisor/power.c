// SPDX-License-Identifier: GPL-2.0
/*
 * Sleep states of the machine. The root says which sleep type of the ACPI power
 * management register stands for a state, and has the hypervisor enter it. Only
 * S5, off, can be entered: nothing here would survive the others.
 */
#include "hv.h"

#define SYSTEM_PROPERTY_SLEEP_STATE	3
#define SLEEP_STATE_S5		5
#define SLEEP_STATE_LOCK	6	/* no registration from now on */
#define SLP_TYP_MAX		7
#define SLP_TYP_SHIFT		10
#define SLP_EN			BIT(13)
#define PM1A_CNT		4	/* in the block of PMBASE */
#define PCI_ADDRESS		0xcf8
#define PCI_DATA		0xcfc
#define ICH9_PMBASE		0x8000f840u	/* 00:1f.0, register 0x40 */
#define OFF_WITHIN_US		5000000

static struct {
	bool known;
	u8 type;
} states[SLEEP_STATE_S5 + 1];
static bool locked;

u16 hv_set_system_property(struct hcall *h)
{
	const u32 *in = (const u32 *)h->in;
	u32 state = in[2];
	u8 pm1a = h->in[12], pm1b = h->in[13];

	if (in[0] != SYSTEM_PROPERTY_SLEEP_STATE)
		return HV_STATUS_UNKNOWN_PROPERTY;
	if (in[1] || !state || state > SLEEP_STATE_LOCK ||
	    pm1a > SLP_TYP_MAX || pm1b > SLP_TYP_MAX)
		return HV_STATUS_INVALID_PARAMETER;
	if (locked)
		return HV_STATUS_OPERATION_DENIED;
	if (state == SLEEP_STATE_LOCK) {
		locked = true;
	} else {
		states[state].known = true;
		states[state].type = pm1a;	/* there is no PM1b */
	}
	return HV_STATUS_SUCCESS;
}

u16 hv_enter_sleep_state(struct hcall *h)
{
	u32 state = *(const u32 *)h->in, base;

	if (!state || state > SLEEP_STATE_S5)
		return HV_STATUS_INVALID_PARAMETER;
	if (state != SLEEP_STATE_S5 || !states[state].known)
		return HV_STATUS_OPERATION_DENIED;
	port_out32(PCI_ADDRESS, ICH9_PMBASE);
	base = port_in8(PCI_DATA + 1) << 8 | (port_in8(PCI_DATA) & 0x80);
	port_out16(base + PM1A_CNT, states[state].type << SLP_TYP_SHIFT | SLP_EN);
	delay_us(OFF_WITHIN_US);
	hv_stop("sleep type %u did not switch the machine off", states[state].type);
}
