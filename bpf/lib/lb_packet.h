/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The backend for a packet that begins a flow. */
#pragma once

#include "bpf/lib/lb.h"
#include "bpf/lib/packet.h"

/* enum lb_result. A function of its own, so that its stack is not also under what is done with the choice. What maps
 * are given is on that stack: old verifiers take keys and values from nowhere else. */
__attribute__((noinline)) int lb_packet(const struct packet *p, bool of_pod, struct k3c_backend *ret)
{
	struct k3c_affinity_key who = {};
	struct lb_choice choice = {};
	int r;

	if (!p || !ret)
		return LB_NOT_A_SERVICE;
	who.client = p->src;
	if (of_pod)
		r = lb_by_address(LB_OF_POD, &p->dst, p->flow.dport, p->flow.proto, &who, &choice);
	else
		r = lb_by_address(LB_OUTSIDE, &p->dst, p->flow.dport, p->flow.proto, &who, &choice);
	*ret = choice.backend;
	return r;
}
