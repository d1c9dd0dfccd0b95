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

/* Those of the pod's own address; hostNetwork pods have none. */
void policy_translate(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
		      struct policy_result *ret);

/* ---- what a change can affect: each marks pods stale, before and after the change ---- */

/* Pods that this policy selects. */
void policy_mark_selected(const struct net_policy *policy);
/* Pods whose rules speak of this one. */
void policy_mark_peer(const struct net_model *model, const struct net_pod *pod);
/* Pods whose rules speak of this namespace's labels. */
void policy_mark_namespace(const struct net_model *model, const struct net_namespace *ns);
