/* SPDX-License-Identifier: Apache-2.0 */
/* What policy.c and policy_sets.c share: the sets, who wears which identity, and the commit that is being prepared.
 * Loop thread. */
#pragma once

#include "bpf/include/endpoint.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/policy_sets.h"

struct policy_state {
	struct rule_sets sets;
	struct map identities; /* identity -> struct identity_worn */
	struct map staged;     /* address -> struct policy_staged */
	struct map told;       /* address -> struct k3c_endpoint_policy, as last written: drift is held against it */
	bool in_force;         /* the staged ones are; their former halves are still to be made equal */
	unsigned depth;        /* of begin and commit */
};

/* policy_drift.c: what the address has from now on. */
void policy_told(struct policy_state *ps, const struct k3c_addr *addr, const struct k3c_endpoint_policy *p);

/* Is it worn now, or (not `now`) after the next commit? */
bool policy_identity_worn(const struct dataplane *dp, uint32_t identity, bool now);

/* policy.c: within begin and commit, what the address has after them. */
int policy_stage(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint_policy *after,
		 struct err *err);
