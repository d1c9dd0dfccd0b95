/* SPDX-License-Identifier: Apache-2.0 */
/* How a Job judges the pods that failed, and when it has done enough. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define RULES_MAX 20
#define EXIT_CODES_MAX 255
#define CONDITIONS_MAX 20
#define INDEXES_TEXT_MAX (64 * 1024)

/* ---- podFailurePolicy ---- */

static void validate_exit_codes(const struct json *codes, const struct json *pod, const struct field_path *at,
				struct field_errors *e)
{
	const struct json *values = json_get(codes, "values"), *container = json_get(codes, "containerName");
	const struct field_path *path = FIELD(at, "values");
	int64_t last = INT64_MIN;
	bool in = str_is(json_get_str(codes, "operator"), "In"), sorted = true;
	size_t i = 0;

	if (container && !hooks_named(json_get(pod, "containers"), json_str(container)) &&
	    !hooks_named(json_get(pod, "initContainers"), json_str(container)))
		field_invalid(e, FIELD(at, "containerName"), container,
			      "must be one of the container or initContainer names in the pod template");
	if (!json_count(values))
		field_invalid(e, path, values, "at least one value is required");
	else if (json_count(values) > EXIT_CODES_MAX)
		field_too_many(e, path, json_count(values), EXIT_CODES_MAX);
	json_foreach(v, values) {
		int64_t code = json_int(v, 0);

		if (in && code == 0)
			field_invalid(e, FIELD_INDEX(path, i), v, "must not be 0 for the In operator");
		if (code == last)
			field_duplicate(e, FIELD_INDEX(path, i), v);
		sorted &= code >= last;
		last = code;
		i++;
	}
	if (!sorted)
		field_invalid(e, path, values, "must be ordered");
}

static void validate_conditions(const struct json *conditions, const struct field_path *path, struct field_errors *e)
{
	static const char *const statuses[] = { "False", "True", "Unknown", NULL };
	size_t i = 0;

	if (json_count(conditions) > CONDITIONS_MAX)
		field_too_many(e, path, json_count(conditions), CONDITIONS_MAX);
	json_foreach(c, conditions) {
		const struct field_path *at = FIELD_INDEX(path, i++);

		hooks_text_validate(json_get_str(c, "type"), validate_qualified_name, FIELD(at, "type"), e);
		if (!json_get_str(c, "status").n)
			field_required(e, FIELD(at, "status"), "valid values: [\"False\" \"True\" \"Unknown\"]");
		else
			hooks_supported(json_get_str(c, "status"), statuses, FIELD(at, "status"), e);
	}
}

static void validate_rule(const struct json *r, const struct json *spec, const struct field_path *at,
			  struct field_errors *e)
{
	const struct json *codes = json_get(r, "onExitCodes"), *conditions = json_get(r, "onPodConditions");

	if (str_is(json_get_str(r, "action"), "FailIndex") && !json_get(spec, "backoffLimitPerIndex"))
		field_invalid(e, FIELD(at, "action"), json_get(r, "action"),
			      "requires the backoffLimitPerIndex to be set");
	if (codes)
		validate_exit_codes(codes, json_at(spec, "template.spec"), FIELD(at, "onExitCodes"), e);
	if (json_count(conditions))
		validate_conditions(conditions, FIELD(at, "onPodConditions"), e);
	if (codes && json_count(conditions))
		field_invalid_unshown(e, at, "specifying both OnExitCodes and OnPodConditions is not supported");
	else if (!codes && !json_count(conditions))
		field_invalid_unshown(e, at, "specifying one of OnExitCodes and OnPodConditions is required");
}

static void validate_failure_policy(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const replacements[] = { "Failed", NULL };
	const struct json *rules = json_at(spec, "podFailurePolicy.rules");
	const struct field_path *at = FIELD(FIELD(path, "podFailurePolicy"), "rules");
	struct str restart = json_at_str(spec, "template.spec.restartPolicy"),
		   replacement = json_get_str(spec, "podReplacementPolicy");
	size_t i = 0;

	if (json_count(rules) > RULES_MAX) {
		field_too_many(e, at, json_count(rules), RULES_MAX);
		return;
	}
	json_foreach(r, rules) {
		validate_rule(r, spec, FIELD_INDEX(at, i), e);
		i++;
	}
	if (!str_is(restart, "Never"))
		field_invalid_str(e, FIELD(path, "template.spec.restartPolicy"), restart,
				  "only \"Never\" is supported when podFailurePolicy is specified");
	if (replacement.n)
		hooks_supported(replacement, replacements, FIELD(path, "podReplacementPolicy"), e);
}

/* ---- successPolicy ---- */

/* "1,3-5,7": ascending, without overlap, below `completions`. Returns how many, or -1 with `ret_why`. */
static int64_t count_indexes(struct str text, int64_t completions, const char **ret_why)
{
	struct str part;
	int64_t last = -1, n = 0;

	while (text.n && str_split(&text, ',', &part)) {
		long dash = str_find(part, '-');
		struct str first = dash < 0 ? part : str_make(part.p, (size_t)dash);
		int64_t low, high;

		if (str_to_int64(first, &low) < 0) {
			*ret_why = "cannot convert string to integer for index";
			return -1;
		}
		high = low;
		if (dash >= 0 && str_to_int64(str_make(part.p + dash + 1, part.n - (size_t)dash - 1), &high) < 0) {
			*ret_why = "cannot convert string to integer for index";
			return -1;
		}
		if (low <= last || high < low) {
			*ret_why = "non-increasing order of indexes";
			return -1;
		}
		if (high >= completions) {
			*ret_why = "too large index";
			return -1;
		}
		n += high - low + 1;
		last = high;
	}
	return n;
}

static void validate_success_rule(const struct json *r, int64_t completions, const struct field_path *at,
				  struct field_errors *e)
{
	const struct json *count = json_get(r, "succeededCount"), *indexes = json_get(r, "succeededIndexes");
	const struct field_path *path = FIELD(at, "succeededCount");
	const char *why = NULL;
	int64_t n = 0;

	if (!count && !indexes) {
		field_required(e, at, "at least one of succeededCount or succeededIndexes must be specified");
		return;
	}
	if (indexes) {
		if (json_str(indexes).n > INDEXES_TEXT_MAX)
			field_too_long(e, FIELD(at, "succeededIndexes"), INDEXES_TEXT_MAX);
		n = count_indexes(json_str(indexes), completions, &why);
		if (n < 0)
			field_invalid(e, FIELD(at, "succeededIndexes"), indexes, "error parsing succeededIndexes: %s",
				      why);
	}
	if (!count)
		return;
	if (json_int(count, 0) < 0)
		field_invalid(e, path, count, "must be greater than or equal to 0");
	if (json_int(count, 0) > completions)
		field_invalid(e, path, count,
			      "must be less than or equal to %lld (the number of specified completions)",
			      (long long)completions);
	if (indexes && n >= 0 && json_int(count, 0) > n)
		field_invalid(e, path, count,
			      "must be less than or equal to %lld (the number of indexes in the specified "
			      "succeededIndexes field)",
			      (long long)n);
}

static void validate_success_policy(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *rules = json_at(spec, "successPolicy.rules");
	const struct field_path *at = FIELD(FIELD(path, "successPolicy"), "rules");
	size_t i = 0;

	if (!str_is(json_get_str(spec, "completionMode"), "Indexed")) {
		field_invalid(e, FIELD(path, "successPolicy"), json_get(spec, "successPolicy"),
			      "requires indexed completion mode");
		return;
	}
	if (!json_count(rules))
		field_required(e, at, "at least one rules must be specified when the successPolicy is specified");
	if (json_count(rules) > RULES_MAX)
		field_too_many(e, at, json_count(rules), RULES_MAX);
	json_foreach(r, rules) {
		validate_success_rule(r, json_get_int(spec, "completions", 0), FIELD_INDEX(at, i), e);
		i++;
	}
}

void hooks_job_policies_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	if (json_get(spec, "podFailurePolicy"))
		validate_failure_policy(spec, path, e);
	if (json_get(spec, "successPolicy"))
		validate_success_policy(spec, path, e);
}
