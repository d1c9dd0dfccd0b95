/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Counting what is dropped and why. The object needs K3C_MAP_DROP. */
#pragma once

#include "bpf/lib/event.h"

K3C_MAP_DROP;

static __always_inline void drop_count(__u32 reason, __u64 bytes)
{
	struct k3c_drop *d = bpf_map_lookup_elem(&k3c_drop, &reason);

	if (!d)
		return;
	d->packets++;
	d->bytes += bytes;
}
