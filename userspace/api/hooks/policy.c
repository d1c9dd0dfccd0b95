/* SPDX-License-Identifier: Apache-2.0 */
/* PodDisruptionBudgets, HorizontalPodAutoscalers, webhook configurations. No state. Any thread. */
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

/* ---- HorizontalPodAutoscaler ---- */

static void hpa_defaults(struct arena *arena, struct json *hpa)
{
	struct json *spec = json_get(hpa, "spec"), *metric, *resource, *target;

	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_default_int(arena, spec, "minReplicas", 1);
	/* v1 says the same in one field of its own; only v2 has metrics. */
	if (str_is(meta_api_version(hpa), "autoscaling/v1") || json_count(json_get(spec, "metrics")))
		return;
	metric = json_new_object(arena);
	json_set_cstr(arena, metric, "type", "Resource");
	resource = json_ensure_object(arena, metric, "resource");
	json_set_cstr(arena, resource, "name", "cpu");
	target = json_ensure_object(arena, resource, "target");
	json_set_cstr(arena, target, "type", "Utilization");
	json_set_int(arena, target, "averageUtilization", 80);
	json_append(json_ensure_array(arena, spec, "metrics"), metric);
}

static void hpa_validate(const struct json *hpa, struct field_errors *e)
{
	const struct json *spec = json_get(hpa, "spec");
	int64_t min = json_get_int(spec, "minReplicas", 1), max = json_get_int(spec, "maxReplicas", 0);

	if (max >= 1 && max < min)
		field_invalid_int(e, FIELD(NULL, "spec.maxReplicas"), max,
				  "must be greater than or equal to `minReplicas`");
	if (!json_at_str(spec, "scaleTargetRef.kind").n)
		field_required(e, FIELD(NULL, "spec.scaleTargetRef.kind"), NULL);
	if (!json_at_str(spec, "scaleTargetRef.name").n)
		field_required(e, FIELD(NULL, "spec.scaleTargetRef.name"), NULL);
}

const struct api_hooks hooks_horizontalpodautoscalers = { .defaults = hpa_defaults, .validate = hpa_validate };

/* ---- webhooks ---- */

static void webhooks_validate(const struct json *object, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(w, json_get(object, "webhooks")) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "webhooks"), i++),
					*client = FIELD(at, "clientConfig");
		struct str name = json_get_str(w, "name"), effects = json_get_str(w, "sideEffects"), part, rest = name;
		const struct json *config = json_get(w, "clientConfig");
		size_t parts = 0;

		while (str_split(&rest, '.', &part))
			parts++;
		if (name.n && (parts < 3 || validate_dns1123_subdomain(name)))
			field_invalid_str(e, FIELD(at, "name"), name,
					  "should be a domain with at least three segments separated by dots");
		if (!json_count(json_get(w, "admissionReviewVersions")))
			field_required(e, FIELD(at, "admissionReviewVersions"), "must specify one of v1, v1beta1");
		if (effects.n && !str_is(effects, "None") && !str_is(effects, "NoneOnDryRun"))
			field_not_supported(e, FIELD(at, "sideEffects"), effects,
					    (const char *const[]){ "None", "NoneOnDryRun", NULL });
		if (!!json_get(config, "url") == !!json_get(config, "service"))
			field_required(e, client, "exactly one of url or service is required");
	}
}

const struct api_hooks hooks_webhooks = { .generation = true, .validate = webhooks_validate };
