/* SPDX-License-Identifier: Apache-2.0 */
/* PodDisruptionBudgets. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/intstr.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

/* ---- PodDisruptionBudget ---- */

static void validate_budget(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	int64_t percent;

	if (json_is(v, JSON_NUMBER) && json_int(v, -1) < 0)
		field_invalid(e, at, v, "must be greater than or equal to 0");
	if (json_is(v, JSON_STRING) && !intstr_percent(v, &percent))
		field_invalid(
			e, at, v,
			"a valid percent string must be a numeric string followed by an ending '%%' (e.g. '1%%',  or "
			"'93%%', regex used for validation is '[0-9]+%%')");
	else if (json_is(v, JSON_STRING) && percent > 100)
		field_invalid(e, at, v, "must not be greater than 100%%");
}

static void pdb_validate(const struct json *pdb, struct field_errors *e)
{
	const struct json *min = json_at(pdb, "spec.minAvailable"), *max = json_at(pdb, "spec.maxUnavailable");

	if (min && max)
		field_invalid(e, FIELD(NULL, "spec"), json_get(pdb, "spec"),
			      "minAvailable and maxUnavailable cannot be both set");
	validate_budget(min, FIELD(NULL, "spec.minAvailable"), e);
	validate_budget(max, FIELD(NULL, "spec.maxUnavailable"), e);
}

const struct api_hooks hooks_poddisruptionbudgets = { .generation = true, .validate = pdb_validate };
