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
	bool in_force;         /* the staged ones are; their former halves are still to be made equal */
	unsigned depth;        /* of begin and commit */
};

/* Is it worn now, or (not `now`) after the next commit? */
bool policy_identity_worn(const struct dataplane *dp, uint32_t identity, bool now);
