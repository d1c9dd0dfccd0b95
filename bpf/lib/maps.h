/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Every map, one macro each: an object defines only those it uses, and gets the pinned one in its place when it is
 * loaded. Sizes here only satisfy the loader; the real ones come from the table in userspace/dataplane/maps.c. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/include/conn.h"
#include "bpf/include/endpoint.h"
#include "bpf/include/event.h"
#include "bpf/include/meta.h"
#include "bpf/include/nat.h"
#include "bpf/include/own.h"
#include "bpf/include/policy.h"
#include "bpf/include/rate.h"
#include "bpf/include/service.h"

#define K3C_MAP(name_, type_, key_, value_, flags_)                                                                    \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(max_entries, 1);                                                                                \
		__uint(map_flags, flags_);                                                                             \
		__type(key, key_);                                                                                     \
		__type(value, value_);                                                                                 \
	} name_ SEC(".maps")

#define K3C_MAP_SERVICE                                                                                                \
	K3C_MAP(k3c_service, BPF_MAP_TYPE_HASH, struct k3c_service_key, struct k3c_service, BPF_F_NO_PREALLOC)
#define K3C_MAP_BACKEND                                                                                                \
	K3C_MAP(k3c_backend, BPF_MAP_TYPE_HASH, struct k3c_backend_key, struct k3c_backend, BPF_F_NO_PREALLOC)
#define K3C_MAP_SOURCE K3C_MAP(k3c_source, BPF_MAP_TYPE_LPM_TRIE, struct k3c_source_key, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_AFFINITY K3C_MAP(k3c_affinity, BPF_MAP_TYPE_LRU_HASH, struct k3c_affinity_key, struct k3c_affinity, 0)
#define K3C_MAP_ENDPOINT                                                                                               \
	K3C_MAP(k3c_endpoint, BPF_MAP_TYPE_HASH, struct k3c_addr, struct k3c_endpoint, BPF_F_NO_PREALLOC)
#define K3C_MAP_RULE K3C_MAP(k3c_rule, BPF_MAP_TYPE_LPM_TRIE, struct k3c_rule_key, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_PREFIX K3C_MAP(k3c_prefix, BPF_MAP_TYPE_LPM_TRIE, struct k3c_prefix_key, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_CONN K3C_MAP(k3c_conn, BPF_MAP_TYPE_LRU_HASH, struct k3c_conn_key, struct k3c_conn, 0)
/* What is no connection (datagrams, echoes): of pods that no policy isolates, and of those that one does. */
#define K3C_MAP_DATAGRAM K3C_MAP(k3c_datagram, BPF_MAP_TYPE_LRU_HASH, struct k3c_conn_key, struct k3c_conn, 0)
#define K3C_MAP_POLICED K3C_MAP(k3c_policed, BPF_MAP_TYPE_LRU_HASH, struct k3c_conn_key, struct k3c_conn, 0)
#define K3C_MAP_VERDICT K3C_MAP(k3c_verdict, BPF_MAP_TYPE_ARRAY, __u32, struct k3c_verdict, 0)
#define K3C_MAP_FRAG K3C_MAP(k3c_frag, BPF_MAP_TYPE_LRU_HASH, struct k3c_frag_key, struct k3c_frag, 0)
#define K3C_MAP_NAT K3C_MAP(k3c_nat, BPF_MAP_TYPE_LRU_HASH, struct k3c_nat_key, struct k3c_nat, 0)
/* Flows that only begin. */
#define K3C_MAP_UNASSURED K3C_MAP(k3c_unassured, BPF_MAP_TYPE_LRU_HASH, struct k3c_nat_key, struct k3c_nat, 0)
#define K3C_MAP_DIRECT K3C_MAP(k3c_direct, BPF_MAP_TYPE_LPM_TRIE, struct k3c_direct_key, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_SNAT K3C_MAP(k3c_snat, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct k3c_snat, 0)
#define K3C_MAP_NODE K3C_MAP(k3c_node, BPF_MAP_TYPE_HASH, struct k3c_addr, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_NETNS K3C_MAP(k3c_netns, BPF_MAP_TYPE_HASH, __u64, struct k3c_netns, BPF_F_NO_PREALLOC)
#define K3C_MAP_LINK K3C_MAP(k3c_link, BPF_MAP_TYPE_HASH, __u32, struct k3c_link, BPF_F_NO_PREALLOC)
#define K3C_MAP_DROP K3C_MAP(k3c_drop, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct k3c_drop, 0)
#define K3C_MAP_OWN K3C_MAP(k3c_own, BPF_MAP_TYPE_ARRAY, __u32, struct k3c_own, 0)
/* By the host end of a pod's veth. */
#define K3C_MAP_RATE K3C_MAP(k3c_rate, BPF_MAP_TYPE_HASH, __u32, struct k3c_rate, BPF_F_NO_PREALLOC)
#define K3C_MAP_POD_DROP K3C_MAP(k3c_pod_drop, BPF_MAP_TYPE_HASH, __u32, struct k3c_pod_drop, BPF_F_NO_PREALLOC)
/* And by the same: how the kernel calls the pod's namespace in the node's (nsid). */
#define K3C_MAP_NSID K3C_MAP(k3c_nsid, BPF_MAP_TYPE_HASH, __u32, __u32, BPF_F_NO_PREALLOC)
#define K3C_MAP_LISTEN K3C_MAP(k3c_listen, BPF_MAP_TYPE_ARRAY, __u32, struct k3c_listen, BPF_F_MMAPABLE)
/* enum k3c_used */
#define K3C_MAP_TC_USED K3C_MAP(k3c_tc_used, BPF_MAP_TYPE_ARRAY, __u32, __u32, 0)
#define K3C_MAP_TAIL K3C_MAP(k3c_tail, BPF_MAP_TYPE_PROG_ARRAY, __u32, __u32, 0)
#define K3C_MAP_META K3C_MAP(k3c_meta, BPF_MAP_TYPE_ARRAY, __u32, struct k3c_meta, 0)

/* Flows whose translations are to go. */
#define K3C_MAP_CLOSED                                                                                                 \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_QUEUE);                                                                      \
		__uint(max_entries, 1);                                                                                \
		__type(value, struct k3c_closed);                                                                      \
	} k3c_closed SEC(".maps")

/* Socket storage has no max_entries. */
#define K3C_MAP_SOCK                                                                                                   \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_SK_STORAGE);                                                                 \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__type(key, int);                                                                                      \
		__type(value, struct k3c_sock);                                                                        \
	} k3c_sock SEC(".maps")

#define K3C_MAP_SOCK_TCP K3C_MAP(k3c_sock_tcp, BPF_MAP_TYPE_ARRAY, __u32, struct k3c_sock_tcp, 0)

/* Bytes in place of entries. */
#define K3C_MAP_EVENT                                                                                                  \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                                    \
		__uint(max_entries, 4096);                                                                             \
	} k3c_event SEC(".maps")
