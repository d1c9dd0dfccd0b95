/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The node's own addresses. */
#pragma once

#include "bpf/lib/maps.h"

K3C_MAP_NODE;

static __always_inline bool node_has(const struct k3c_addr *addr)
{
	return bpf_map_lookup_elem(&k3c_node, addr) != NULL;
}
