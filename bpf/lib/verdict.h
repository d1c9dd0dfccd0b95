/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the rules said last: one array, a row for whatever falls on it. A verdict counts under the generation it was
 * made in, and for the very links of both pods, which the kernel does not number twice. */
#pragma once

#include "bpf/include/conn.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"

K3C_MAP_VERDICT;

#define VERDICT_UNKNOWN -1
#define VERDICT_MIX 0x9e3779b97f4a7c15ULL /* odd */

/* The question, and the row where its answer belongs. */
struct verdict {
	__u64 who, what;
	struct k3c_verdict *row;
};

/* `from` began, `port` is one of `to`: host ends of their links. */
static __always_inline void verdict_ask(struct verdict *v, const struct packet *p, __u32 from, __u32 to, __be16 port,
					__u32 generation)
{
	__u32 index;

	v->who = (__u64)from << 32 | to;
	v->what = (__u64)generation << 32 | (__u32)port << 16 | p->flow.proto << 8 | (p->v6 ? K3C_VERDICT_V6 : 0);
	index = ((v->who ^ v->what) * VERDICT_MIX) >> (64 - K3C_VERDICT_BITS);
	v->row = bpf_map_lookup_elem(&k3c_verdict, &index);
}

/* enum k3c_conn_verdict */
static __always_inline int verdict_get(const struct verdict *v)
{
	__u64 who, what;

	if (!v->row)
		return VERDICT_UNKNOWN;
	who = *(volatile __u64 *)&v->row->who;
	what = *(volatile __u64 *)&v->row->what;
	if ((what & ~(__u64)K3C_CONN_VERDICT) != v->what || (who ^ what * VERDICT_MIX) != v->who)
		return VERDICT_UNKNOWN;
	return what & K3C_CONN_VERDICT;
}

static __always_inline void verdict_put(const struct verdict *v, __u32 verdict)
{
	__u64 what = v->what | verdict;

	if (!v->row)
		return;
	*(volatile __u64 *)&v->row->who = v->who ^ what * VERDICT_MIX;
	*(volatile __u64 *)&v->row->what = what;
}
