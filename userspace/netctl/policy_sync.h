/* SPDX-License-Identifier: Apache-2.0 */
/* From the model's stale pods to the dataplane. Pods that the same policies select have the same rules: they are
 * translated once and written together, and all that changed since the last sync takes effect at one instant. Loop
 * thread. */
#pragma once

#include "userspace/base/err.h"
#include "userspace/base/map.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/netctl/model.h"

struct policy_sync {
	struct net_model *model;
	struct dataplane *dp;
	bool off;         /* NetworkPolicy is not enforced */
	struct map marks; /* pod uid -> the identity that the kernel was told, as struct policy_mark */
	/* A pod that keeps its old policy; may be NULL. */
	void (*failed)(void *arg, const struct net_pod *pod, const char *what, const struct err *err);
	void *failed_arg;
	/* Work so far. */
	uint64_t pods, groups, rules, errors;
};

void policy_sync_init(struct policy_sync *ps, struct net_model *model, struct dataplane *dp, bool off);
void policy_sync_finish(struct policy_sync *ps);
/* What could not be written stays stale and is tried again with the next change. `must`: the pod whose failure is
 * returned; NULL: failures are only logged and counted. */
int policy_sync_run(struct policy_sync *ps, const struct net_pod *must, struct err *err);
/* The addresses are nobody's any more, the pod has none. */
void policy_sync_forget(struct policy_sync *ps, struct str uid, const struct dp_addr addrs[static DP_FAMILIES]);
