/* SPDX-License-Identifier: Apache-2.0 */
/* FlowSchemas and PriorityLevelConfigurations. No state. Any thread. */
#include <math.h>

#include "userspace/api/flowcontrol.h"
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define PRECEDENCE_DEFAULT 1000
#define PRECEDENCE_MAX 10000
#define SHARES_DEFAULT 30
#define QUEUES_DEFAULT 64
#define HAND_DEFAULT 8
#define LENGTH_DEFAULT 50
#define QUEUES_MAX 10000000
#define HASH_BITS_MAX 60 /* what shuffle sharding can draw on */

static const char *const verbs[] = { "create", "delete", "deletecollection", "get",   "list",
				     "patch",  "proxy",  "update",           "watch", NULL };
static const char *const subject_kinds[] = { "Group", "ServiceAccount", "User", NULL };

static void validate_fixed(const struct json *object, const struct flowcontrol_object *known, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *spec;

	for (; known->name; known++)
		if (known->mandatory && str_is(meta_name(object), known->name) &&
		    json_parse(&arena, str_of(known->spec), 0, &spec, NULL) == 0 &&
		    !json_equal(spec, json_get(object, "spec")))
			field_invalid(e, FIELD(NULL, "spec"), json_get(object, "spec"),
				      "spec of '%s' must equal the fixed value", known->name);
}

static void validate_conditions(const struct json *object, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(c, json_at(object, "status.conditions")) {
		if (!json_get_str(c, "type").n)
			field_required(e, FIELD(FIELD_INDEX(FIELD(NULL, "status.conditions"), i), "type"),
				       "must not be empty");
		i++;
	}
}

static void validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	validate_conditions(object, e);
}

/* ---- FlowSchema ---- */

static void schema_defaults(struct arena *arena, struct json *object)
{
	struct json *spec = json_ensure_object(arena, object, "spec");

	if (json_get_int(spec, "matchingPrecedence", 0) == 0)
		json_set_int(arena, spec, "matchingPrecedence", PRECEDENCE_DEFAULT);
}

static void validate_service_account(const struct json *account, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(account, "name"), ns = json_get_str(account, "namespace");

	if (!account) {
		field_required(e, at, "serviceAccount is required when subject kind is 'ServiceAccount'");
		return;
	}
	if (!name.n)
		field_required(e, FIELD(at, "name"), NULL);
	else if (!str_is(name, "*") && validate_dns1123_subdomain(name))
		field_invalid_str(e, FIELD(at, "name"), name, "%s", validate_dns1123_subdomain(name));
	if (!ns.n)
		field_required(e, FIELD(at, "namespace"), "must specify namespace for service account");
	else if (validate_dns1123_label(ns))
		field_invalid_str(e, FIELD(at, "namespace"), ns, "%s", validate_dns1123_label(ns));
}

static void forbid_other(const struct json *subject, const char *key, const char *kind, const struct field_path *at,
			 struct field_errors *e)
{
	if (!str_is(json_get_str(subject, "kind"), kind) && json_get(subject, key))
		field_forbidden(e, FIELD_STR(at, str_of(key)), "%s is forbidden when subject kind is not '%s'", key,
				kind);
}

static void validate_subject(const struct json *subject, const struct field_path *at, struct field_errors *e)
{
	struct str kind = json_get_str(subject, "kind");

	if (str_is(kind, "ServiceAccount")) {
		validate_service_account(json_get(subject, "serviceAccount"), FIELD(at, "serviceAccount"), e);
	} else if (str_is(kind, "User")) {
		if (!json_get(subject, "user"))
			field_required(e, FIELD(at, "user"), "user is required when subject kind is 'User'");
		else if (!json_at_str(subject, "user.name").n)
			field_required(e, FIELD(at, "user.name"), NULL);
	} else if (str_is(kind, "Group")) {
		if (!json_get(subject, "group"))
			field_required(e, FIELD(at, "group"), "group is required when subject kind is 'Group'");
		else if (!json_at_str(subject, "group.name").n)
			field_required(e, FIELD(at, "group.name"), NULL);
	} else {
		field_not_supported(e, FIELD(at, "kind"), kind, subject_kinds);
		return;
	}
	forbid_other(subject, "serviceAccount", "ServiceAccount", at, e);
	forbid_other(subject, "user", "User", at, e);
	forbid_other(subject, "group", "Group", at, e);
}

static bool has_star(const struct json *list)
{
	json_foreach(v, list)
		if (str_is(json_str(v), "*"))
			return true;
	return false;
}

static bool all_verbs_known(const struct json *list)
{
	json_foreach(v, list) {
		bool known = false;

		for (size_t i = 0; verbs[i]; i++)
			known |= str_is(json_str(v), verbs[i]);
		if (!known)
			return false;
	}
	return true;
}

/* A list that must be there and has either "*" alone or others. */
static void validate_list(const struct json *rule, const char *key, const char *required, const char *others,
			  const struct field_path *at, struct field_errors *e)
{
	const struct json *list = json_get(rule, key);
	const struct field_path *path = FIELD_STR(at, str_of(key));

	if (!json_count(list))
		field_required(e, path, "%s", required);
	else if (has_star(list) && json_count(list) > 1)
		field_invalid(e, path, list, "if '*' is present, must not specify other %s", others);
}

static void validate_verbs(const struct json *rule, const struct field_path *at, struct field_errors *e)
{
	const struct json *list = json_get(rule, "verbs");

	validate_list(rule, "verbs", "verbs must contain at least one value", "verbs", at, e);
	if (!has_star(list) && !all_verbs_known(list)) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;

		field_not_supported(e, FIELD(at, "verbs"), json_text(&arena, list), verbs);
	}
}

static void validate_resource_rule(const struct json *rule, const struct field_path *at, struct field_errors *e)
{
	const struct json *namespaces = json_get(rule, "namespaces");
	size_t i = 0;

	validate_verbs(rule, at, e);
	validate_list(rule, "apiGroups", "resource rules must supply at least one api group", "api groups", at, e);
	validate_list(rule, "resources", "resource rules must supply at least one resource", "resources", at, e);
	if (!json_count(namespaces) && json_get_bool(rule, "clusterScope", false))
		return;
	validate_list(rule, "namespaces",
		      "resource rules that are not cluster scoped must supply at least one namespace", "namespaces", at,
		      e);
	if (has_star(namespaces))
		return;
	json_foreach(v, namespaces) {
		const char *why = validate_dns1123_label(json_str(v));

		if (why)
			field_invalid_str(e, FIELD_INDEX(FIELD(at, "namespaces"), i), json_str(v),
					  "each member of this list must be '*' or a DNS-1123 label; %s", why);
		i++;
	}
}

static const char *bad_path(struct str s)
{
	size_t stars = 0;

	if (!s.n)
		return "must not be empty";
	if (s.p[0] != '/')
		return "must start with slash";
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == ' ')
			return "must not contain white-space";
		if (s.p[i] == '/' && i + 1 < s.n && s.p[i + 1] == '/')
			return "must not contain double slash";
		stars += s.p[i] == '*';
	}
	if (stars > 1 || (stars == 1 && !str_ends(s, STR("/*"))))
		return "wildcard can only do suffix matching";
	return NULL;
}

static void validate_path_rule(const struct json *rule, const struct field_path *at, struct field_errors *e)
{
	const struct json *urls = json_get(rule, "nonResourceURLs");
	size_t i = 0;

	validate_verbs(rule, at, e);
	validate_list(rule, "nonResourceURLs", "nonResourceURLs must contain at least one value", "non-resource URLs",
		      at, e);
	if (has_star(urls))
		return;
	json_foreach(v, urls) {
		if (bad_path(json_str(v)))
			field_invalid_str(e, FIELD_INDEX(FIELD(at, "nonResourceURLs"), i), json_str(v), "%s",
					  bad_path(json_str(v)));
		i++;
	}
}

static void validate_rules(const struct json *rule, const struct field_path *at, struct field_errors *e)
{
	const struct json *subjects = json_get(rule, "subjects"), *resources = json_get(rule, "resourceRules"),
			  *paths = json_get(rule, "nonResourceRules");
	size_t i = 0;

	if (!json_count(subjects))
		field_required(e, FIELD(at, "subjects"), "subjects must contain at least one value");
	json_foreach(v, subjects)
		validate_subject(v, FIELD_INDEX(FIELD(at, "subjects"), i++), e);
	if (!json_count(resources) && !json_count(paths))
		field_required(e, at, "at least one of resourceRules and nonResourceRules has to be non-empty");
	i = 0;
	json_foreach(v, resources)
		validate_resource_rule(v, FIELD_INDEX(FIELD(at, "resourceRules"), i++), e);
	i = 0;
	json_foreach(v, paths)
		validate_path_rule(v, FIELD_INDEX(FIELD(at, "nonResourceRules"), i++), e);
}

static void schema_validate(const struct json *object, struct field_errors *e)
{
	static const char *const methods[] = { "ByNamespace", "ByUser", NULL };
	const struct json *spec = json_get(object, "spec"), *method = json_get(spec, "distinguisherMethod");
	const struct field_path *at = FIELD(NULL, "spec"), *precedence_at = FIELD(at, "matchingPrecedence");
	int64_t precedence = json_get_int(spec, "matchingPrecedence", 0);
	struct str level = json_at_str(spec, "priorityLevelConfiguration.name"), by = json_get_str(method, "type");
	size_t i = 0;

	if (precedence <= 0)
		field_invalid_int(e, precedence_at, precedence, "must be a positive value");
	if (precedence > PRECEDENCE_MAX)
		field_invalid_int(e, precedence_at, precedence, "must not be greater than %d", PRECEDENCE_MAX);
	if (precedence == 1 && !str_is(meta_name(object), "exempt"))
		field_invalid_int(e, precedence_at, precedence,
				  "only the schema named 'exempt' may have matchingPrecedence 1");
	if (method && !str_is(by, "ByNamespace") && !str_is(by, "ByUser"))
		field_not_supported(e, FIELD(at, "distinguisherMethod.type"), by, methods);
	if (!level.n)
		field_required(e, FIELD(at, "priorityLevelConfiguration.name"), "must reference a priority level");
	else if (validate_dns1123_subdomain(level))
		field_invalid_str(e, FIELD(at, "priorityLevelConfiguration.name"), level, "%s",
				  validate_dns1123_subdomain(level));
	json_foreach(rule, json_get(spec, "rules"))
		validate_rules(rule, FIELD_INDEX(FIELD(at, "rules"), i++), e);
	validate_fixed(object, flowcontrol_schemas, e);
	validate_conditions(object, e);
}

const struct api_hooks hooks_flowschemas = {
	.generation = true,
	.defaults = schema_defaults,
	.validate = schema_validate,
	.validate_status = validate_status,
};

/* ---- PriorityLevelConfiguration ---- */

static void level_defaults(struct arena *arena, struct json *object)
{
	struct json *spec = json_ensure_object(arena, object, "spec"), *limited, *response, *queuing;

	if (str_is(json_get_str(spec, "type"), "Exempt")) {
		limited = json_ensure_object(arena, spec, "exempt");
		hooks_default_int(arena, limited, "nominalConcurrencyShares", 0);
		hooks_default_int(arena, limited, "lendablePercent", 0);
		return;
	}
	limited = json_get(spec, "limited");
	if (!limited)
		return;
	hooks_default_int(arena, limited, "nominalConcurrencyShares", SHARES_DEFAULT);
	hooks_default_int(arena, limited, "lendablePercent", 0);
	response = json_get(limited, "limitResponse");
	queuing = json_get(response, "queuing");
	if (!queuing)
		return;
	if (!json_get_int(queuing, "queues", 0))
		json_set_int(arena, queuing, "queues", QUEUES_DEFAULT);
	if (!json_get_int(queuing, "handSize", 0))
		json_set_int(arena, queuing, "handSize", HAND_DEFAULT);
	if (!json_get_int(queuing, "queueLengthLimit", 0))
		json_set_int(arena, queuing, "queueLengthLimit", LENGTH_DEFAULT);
}

/* Bits that dealing a hand uses up: one of deck, one of deck-1, ... */
static int entropy_bits(int64_t deck, int64_t hand)
{
	double bits = 0;

	for (int64_t i = 0; i < hand && bits <= HASH_BITS_MAX; i++)
		bits += log2((double)(deck - i));
	return (int)ceil(bits);
}

static void validate_queuing(const struct json *queuing, const struct field_path *at, struct field_errors *e)
{
	int64_t queues = json_get_int(queuing, "queues", 0), hand = json_get_int(queuing, "handSize", 0),
		length = json_get_int(queuing, "queueLengthLimit", 0);

	if (length <= 0)
		field_invalid_int(e, FIELD(at, "queueLengthLimit"), length, "must be positive");
	if (queues <= 0)
		field_invalid_int(e, FIELD(at, "queues"), queues, "must be positive");
	else if (queues > QUEUES_MAX)
		field_invalid_int(e, FIELD(at, "queues"), queues, "must not be greater than %d", QUEUES_MAX);
	if (hand <= 0)
		field_invalid_int(e, FIELD(at, "handSize"), hand, "must be positive");
	else if (hand > queues)
		field_invalid_int(e, FIELD(at, "handSize"), hand, "should not be greater than queues (%lld)",
				  (long long)queues);
	else if (entropy_bits(queues, hand) > HASH_BITS_MAX)
		field_invalid_int(
			e, FIELD(at, "handSize"), hand,
			"required entropy bits of deckSize %lld and handSize %lld should not be greater than %d",
			(long long)queues, (long long)hand, HASH_BITS_MAX);
}

static void validate_percent(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	int64_t percent = json_int(v, 0);

	if (v && (percent < 0 || percent > 100))
		field_invalid_int(e, at, percent, "must be between 0 and 100, inclusive");
}

static void validate_limited(const struct json *limited, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "Queue", "Reject", NULL };
	const struct json *response = json_get(limited, "limitResponse"), *queuing = json_get(response, "queuing"),
			  *borrow = json_get(limited, "borrowingLimitPercent");
	const struct field_path *response_at = FIELD(at, "limitResponse");
	int64_t shares = json_get_int(limited, "nominalConcurrencyShares", 0);
	struct str type = json_get_str(response, "type");

	if (shares < 0)
		field_invalid_int(e, FIELD(at, "nominalConcurrencyShares"), shares, "must be a non-negative integer");
	if (str_is(type, "Reject")) {
		if (queuing)
			field_forbidden(e, FIELD(response_at, "queuing"),
					"must be nil if limited.limitResponse.type is not Limited");
	} else if (!str_is(type, "Queue")) {
		field_not_supported(e, FIELD(response_at, "type"), type, types);
	} else if (!queuing) {
		field_required(e, FIELD(response_at, "queuing"),
			       "must not be empty if limited.limitResponse.type is Limited");
	} else {
		validate_queuing(queuing, FIELD(response_at, "queuing"), e);
	}
	validate_percent(json_get(limited, "lendablePercent"), FIELD(at, "lendablePercent"), e);
	if (borrow && json_int(borrow, 0) < 0)
		field_invalid_int(e, FIELD(at, "borrowingLimitPercent"), json_int(borrow, 0),
				  "if specified, must be a non-negative integer");
}

static void level_validate(const struct json *object, struct field_errors *e)
{
	static const char *const types[] = { "Exempt", "Limited", NULL };
	const struct json *spec = json_get(object, "spec"), *limited = json_get(spec, "limited"),
			  *exempt = json_get(spec, "exempt");
	const struct field_path *at = FIELD(NULL, "spec");
	struct str type = json_get_str(spec, "type");

	if (str_is(meta_name(object), "exempt") != str_is(type, "Exempt"))
		field_invalid_str(e, FIELD(at, "type"), type, "type must be 'Exempt' if and only if name is 'exempt'");
	if (str_is(type, "Exempt")) {
		if (limited)
			field_forbidden(e, FIELD(at, "limited"), "must be nil if the type is not Limited");
		if (json_get_int(exempt, "nominalConcurrencyShares", 0) < 0)
			field_invalid_int(e, FIELD(at, "exempt.nominalConcurrencyShares"),
					  json_get_int(exempt, "nominalConcurrencyShares", 0),
					  "must be a non-negative integer");
		validate_percent(json_get(exempt, "lendablePercent"), FIELD(at, "exempt.lendablePercent"), e);
	} else if (str_is(type, "Limited")) {
		if (exempt)
			field_forbidden(e, FIELD(at, "exempt"), "must be nil if the type is Limited");
		if (!limited)
			field_required(e, FIELD(at, "limited"), "must not be empty when type is Limited");
		else
			validate_limited(limited, FIELD(at, "limited"), e);
	} else {
		field_not_supported(e, FIELD(at, "type"), type, types);
	}
	/* Of the exempt level, shares may be changed. */
	if (!str_is(type, "Exempt"))
		validate_fixed(object, flowcontrol_levels, e);
	validate_conditions(object, e);
}

const struct api_hooks hooks_prioritylevelconfigurations = {
	.generation = true,
	.defaults = level_defaults,
	.validate = level_validate,
	.validate_status = validate_status,
};
