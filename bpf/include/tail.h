/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Programs that others go on in (the slots of k3c_tail), where a packet is one of few: those keep their stack and
 * their verifier's budget. A slot without a program: the caller goes on by itself. */
#pragma once

enum k3c_tail {
	K3C_TAIL_SERVICE_OUT,  /* of pod_out: a packet for a service */
	K3C_TAIL_SERVICE_BACK, /* of pod_out and pod_in, behind policy: the answer of a service */
	K3C_TAIL_POD_PASS,     /* of service_out: what pod_out does with the translated packet; of pod_out as below */
	K3C_TAIL_POD_IN,       /* of pod_in: once more, by policies that changed meanwhile */
	K3C_TAIL_COUNT,
};

/* skb->cb for SERVICE_BACK: the pod to hand the packet to (host end of its veth); 0: the stack, as before. */
#define K3C_TAIL_CB_IFINDEX 0
