/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling a listener, where something rare happens: one look-up of an array while nobody listens. */
#pragma once

#include "bpf/lib/maps.h"

K3C_MAP_EVENT;
K3C_MAP_LISTEN;

/* NULL: nobody wants to know, or there is no room. Else zeroed but for time and type; event_end() is owed. */
static __always_inline struct k3c_event *event_begin(__u8 type)
{
	__u32 zero = 0;
	struct k3c_listen *l = bpf_map_lookup_elem(&k3c_listen, &zero);
	struct k3c_event *e;
	__u64 now;

	if (!l || !(l->mask & (1u << type)))
		return NULL;
	now = bpf_ktime_get_ns();
	if (now >= l->until_ns)
		return NULL;
	e = bpf_ringbuf_reserve(&k3c_event, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&l->lost, 1);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->type = type;
	return e;
}

static __always_inline void event_end(struct k3c_event *e)
{
	bpf_ringbuf_submit(e, 0);
}
