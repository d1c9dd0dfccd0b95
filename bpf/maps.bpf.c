// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* No program: the one object that makes every map (with its BTF), before any program is loaded. */
#include "bpf/lib/maps.h"

K3C_MAP_SERVICE;
K3C_MAP_BACKEND;
K3C_MAP_SOURCE;
K3C_MAP_AFFINITY;
K3C_MAP_SOCK;
K3C_MAP_ENDPOINT;
K3C_MAP_RULE;
K3C_MAP_PREFIX;
K3C_MAP_CONN;
K3C_MAP_FRAG;
K3C_MAP_NAT;
K3C_MAP_NODE;
K3C_MAP_NETNS;
K3C_MAP_LINK;
K3C_MAP_DROP;
K3C_MAP_POD_DROP;
K3C_MAP_EVENT;
K3C_MAP_LISTEN;
K3C_MAP_META;

char LICENSE[] SEC("license") = "GPL";
