/* SPDX-License-Identifier: Apache-2.0 */
/* From a pod's rules to map entries: a pure function. See bpf/include/policy.h for the form. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/include/policy.h"
#include "userspace/base/err.h"
#include "userspace/dataplane/dataplane.h"

#define POLICY_RULES_MAX 65536    /* of one pod, as given */
#define POLICY_ENTRIES_MAX 262144 /* of one pod, as compiled */

struct policy_prefix {
	struct k3c_prefix_key key;
	uint32_t class;
};

/* Keys have set 0; both runs are sorted and without duplicates, so equal policies give equal bytes. */
struct policy_compiled {
	struct k3c_rule_key *rules;
	size_t n_rules, cap_rules;
	struct policy_prefix *prefixes;
	size_t n_prefixes, cap_prefixes;
	bool has_prefixes[2], has_identities[2]; /* by direction */
};

void policy_compiled_finish(struct policy_compiled *c);
/* Both runs in order, each entry once. */
void policy_compiled_sort(struct policy_compiled *c);
int policy_rule_compare(const void *a, const void *b);
int policy_compile(const struct dp_policy *policy, struct policy_compiled *ret, struct err *err);
