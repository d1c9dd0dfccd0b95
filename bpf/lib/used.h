/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Paths that most nodes never use cost the others one look-up in an array: here stands which were used. */
#pragma once

#include "bpf/lib/maps.h"

K3C_MAP_TC_USED;

static __always_inline bool used_by(__u32 whom)
{
	__u32 zero = 0;
	__u32 *used = bpf_map_lookup_elem(&k3c_tc_used, &zero);

	return used && (*used & whom);
}

static __always_inline void used_note(__u32 whom)
{
	__u32 zero = 0;
	__u32 *used = bpf_map_lookup_elem(&k3c_tc_used, &zero);

	if (used && !(*used & whom))
		__sync_fetch_and_or(used, whom);
}
