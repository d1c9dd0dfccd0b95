/* SPDX-License-Identifier: Apache-2.0 */
/* Audit policies: the text is one, and what it decides about a few requests must not depend on when it is asked. */
#include <stdlib.h>
#include <string.h>

#include "userspace/apiserver/audit_policy.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct str groups[] = { { "system:authenticated", 20 } };
	static const struct request_user user = { .name = { "jane", 4 }, .groups = groups, .n_groups = 1 };
	const struct authz_attributes asked[] = {
		{ .user = &user, .verb = STR("get"), .resource = STR("pods"), .ns = STR("ns"), .name = STR("p") },
		{ .user = &user,
		  .verb = STR("create"),
		  .group = STR("apps"),
		  .resource = STR("deployments"),
		  .subresource = STR("scale") },
		{ .verb = STR("get"), .is_path = true, .path = STR("/healthz/x") },
	};
	_cleanup_err_ struct err err = ERR_INIT;
	struct audit_policy *policy;

	if (audit_policy_parse(str_make((const char *)data, size), &policy, &err) < 0) {
		if (!err.message)
			abort();
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		struct audit_decision a, b;

		audit_policy_decide(policy, &asked[i], &a);
		audit_policy_decide(policy, &asked[i], &b);
		if (a.level != b.level || a.omit_stages != b.omit_stages || a.level > AUDIT_REQUEST_RESPONSE)
			abort();
	}
	audit_policy_destroy(policy);
	return 0;
}
