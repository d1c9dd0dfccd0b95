/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The node's own addresses. */
#pragma once

#include "bpf/lib/addr.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/options.h"

K3C_MAP_NODE;

static __always_inline bool node_has(const struct k3c_addr *addr)
{
	return bpf_map_lookup_elem(&k3c_node, addr) != NULL;
}

/* What stands for the host in its own flows to services (bpf/include/own.h). */
static __always_inline void node_hidden(bool v6, struct k3c_addr *ret)
{
	ret->q[0] = v6 ? k3c_options.service_net[K3C_V6].q[0] : k3c_options.service_net[K3C_V4].q[0];
	ret->q[1] = v6 ? k3c_options.service_net[K3C_V6].q[1] : k3c_options.service_net[K3C_V4].q[1];
}

static __always_inline bool node_is_hidden(bool v6, const struct k3c_addr *addr)
{
	struct k3c_addr hidden;

	node_hidden(v6, &hidden);
	return addr_eq(addr, &hidden);
}
