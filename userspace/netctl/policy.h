/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkPolicies -> the rules of one pod. Pure but for what it keeps in the model's peers. Rules of Kubernetes: a pod
 * that a policy selects is isolated in the policy's directions; what any policy allows is allowed; hostNetwork pods are
 * not subject to policy. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/base/arena.h"
#include "userspace/netctl/model.h"

#define POLICY_RULES_MAX 65536 /* of one pod; beyond: truncated, and the pod is allowed less, never more */

struct policy_result {
	bool isolated_ingress, isolated_egress;
	struct dp_policy_rule *rules; /* in the arena */
	size_t n_rules;
	bool truncated;
};

/* The policies that select a pod; hostNetwork pods have none. Pods with the same ones have the same rules; where
 * `named`, only if their named ports are the same too. */
struct policy_selection {
	struct net_policy **policies; /* in the arena */
	size_t n;
	bool named; /* some ingress rule names a port */
};

void policy_of_pod(struct arena *arena, const struct net_pod *pod, struct policy_selection *ret);
void policy_translate_selection(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
				const struct policy_selection *selection, struct policy_result *ret);
/* Both in one. */
void policy_translate(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
		      struct policy_result *ret);

/* ---- what a change can affect: each marks pods stale, before and after the change ---- */

/* Pods that this policy selects. */
void policy_mark_selected(const struct net_policy *policy);
enum policy_move { POLICY_LEAVES, POLICY_ARRIVES };
/* Pods whose rules speak of this one, which is in the model. None, while others wear the same identity. */
void policy_mark_peer(const struct net_model *model, const struct net_pod *pod, enum policy_move move);
/* Pods whose rules speak of this namespace's labels. */
void policy_mark_namespace(const struct net_model *model, const struct net_namespace *ns);

/* ---- why: for trace, policy get and tests; judges one flow on the objects, sharing nothing with the rules above ----
 */

/* One end of a flow. pod NULL or on the host's network: judged by its address alone. `is_node`: the node itself, also
 * as its hostNetwork pods; what it begins no policy stops. */
struct policy_end {
	const struct net_pod *pod;
	struct dp_addr addr; /* of the family that the flow has */
	bool is_node;
};

/* What the policies of one end say, in its direction. Lists in the arena, in order of name. */
struct policy_verdict {
	bool isolated; /* some policy selects it for this direction */
	bool allowed;
	const struct net_policy **selecting; /* for this direction */
	size_t n_selecting;
	const struct net_policy **allowing; /* those among them with a rule that lets the flow pass */
	size_t n_allowing;
};

struct policy_explanation {
	bool allowed;                          /* by both */
	struct policy_verdict egress, ingress; /* of the one who begins; of the one who is asked */
};

/* proto: IPPROTO_*; port of the one who is asked, 0 where the protocol has none (ICMP: only rules without ports match).
 */
void policy_explain(struct arena *arena, const struct net_model *model, const struct policy_end *from,
		    const struct policy_end *to, uint8_t proto, uint16_t port, struct policy_explanation *ret);
