/* SPDX-License-Identifier: Apache-2.0 */
/* The audit policy (audit.k8s.io/v1 Policy): what is recorded of which request. The first rule that matches decides;
 * nothing is recorded when none does. Immutable once parsed; any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"
#include "userspace/registry/authz.h"

#define AUDIT_POLICY_BYTES_MAX (1024 * 1024)
#define AUDIT_RULES_MAX 1024

enum audit_level { AUDIT_NONE, AUDIT_METADATA, AUDIT_REQUEST, AUDIT_REQUEST_RESPONSE };

enum audit_stage {
	AUDIT_RECEIVED = 1,
	AUDIT_STARTED = 2, /* of long answers: the headers are out */
	AUDIT_COMPLETE = 4,
	AUDIT_PANIC = 8, /* known by name; never seen here */
};

struct audit_decision {
	enum audit_level level;
	unsigned omit_stages; /* enum audit_stage */
	bool omit_managed_fields;
};

struct audit_policy;

/* YAML or JSON. -EINVAL with one line that names the field. */
int audit_policy_parse(struct str text, struct audit_policy **ret, struct err *err);
void audit_policy_destroy(struct audit_policy *policy);
/* `attributes->user` NULL: whoever it was could not say so. */
void audit_policy_decide(const struct audit_policy *policy, const struct authz_attributes *attributes,
			 struct audit_decision *ret);

const char *audit_level_name(enum audit_level level);
const char *audit_stage_name(enum audit_stage stage);
