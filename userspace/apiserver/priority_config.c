/* SPDX-License-Identifier: Apache-2.0 */
/* FlowSchemas and PriorityLevelConfigurations: kept in a form that requests are matched against, and their status
 * conditions (does the level that a schema names exist). Rebuilt as a whole, once for all changes of a turn. */
#include <stdio.h>
#include <stdlib.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/registry.h"

#define SCHEMAS_MAX 1024 /* more are not looked at */
#define SHARES_DEFAULT 30

struct priority_config {
	struct priority *p;
	struct loop *loop;
	struct registry *reg;
	const struct api_kind *schema_kind, *level_kind;
	struct registry_watch schemas_watch, levels_watch;
	struct loop_defer rebuild;
	struct arena arena; /* of the schemas and all they point to */
	struct priority_schema *schemas;
	size_t n;
};

/* ---- matching ---- */

static bool has(const struct json *list, struct str what)
{
	json_foreach(v, list)
		if (str_is(v->text, "*") || str_eq(v->text, what))
			return true;
	return false;
}

static bool subject_matches(const struct json *subject, const struct request_user *user)
{
	struct str kind = json_get_str(subject, "kind"), name, rest = user->name, ns;

	if (str_is(kind, "User")) {
		name = json_at_str(subject, "user.name");
		return str_is(name, "*") || str_eq(name, user->name);
	}
	if (str_is(kind, "Group")) {
		name = json_at_str(subject, "group.name");
		for (size_t i = 0; i < user->n_groups; i++)
			if (str_is(name, "*") || str_eq(name, user->groups[i]))
				return true;
		return false;
	}
	if (!str_starts(rest, STR("system:serviceaccount:")))
		return false;
	rest = str_make(rest.p + 22, rest.n - 22);
	name = json_at_str(subject, "serviceAccount.name");
	return str_split(&rest, ':', &ns) && str_eq(ns, json_at_str(subject, "serviceAccount.namespace")) &&
	       (str_is(name, "*") || str_eq(name, rest));
}

static bool resource_matches(const struct json *rule, const struct authz_attributes *a)
{
	char both[256];
	struct str resource = a->resource;

	if (a->subresource.n) {
		int n = snprintf(both, sizeof(both), "%.*s/%.*s", STR_ARG(a->resource), STR_ARG(a->subresource));

		resource = str_make(both, n < (int)sizeof(both) ? (size_t)n : sizeof(both) - 1);
	}
	return has(json_get(rule, "verbs"), a->verb) && has(json_get(rule, "apiGroups"), a->group) &&
	       has(json_get(rule, "resources"), resource) &&
	       (a->ns.n ? has(json_get(rule, "namespaces"), a->ns) : json_get_bool(rule, "clusterScope", false));
}

static bool path_matches(const struct json *rule, const struct authz_attributes *a)
{
	if (!has(json_get(rule, "verbs"), a->verb))
		return false;
	json_foreach(v, json_get(rule, "nonResourceURLs")) {
		struct str url = v->text;

		if (str_is(url, "*") || str_eq(url, a->path))
			return true;
		if (str_ends(url, STR("/*")) && str_starts(a->path, str_make(url.p, url.n - 1)))
			return true;
	}
	return false;
}

static bool schema_matches(const struct priority_schema *s, const struct authz_attributes *a)
{
	json_foreach(rule, s->rules) {
		bool subject = false;

		json_foreach(v, json_get(rule, "subjects"))
			if ((subject = subject_matches(v, a->user)))
				break;
		if (!subject)
			continue;
		json_foreach(v, json_get(rule, a->is_path ? "nonResourceRules" : "resourceRules"))
			if (a->is_path ? path_matches(v, a) : resource_matches(v, a))
				return true;
	}
	return false;
}

const struct priority_schema *priority_config_match(const struct priority_config *config,
						    const struct authz_attributes *attributes)
{
	for (size_t i = 0; i < config->n; i++)
		if (schema_matches(&config->schemas[i], attributes))
			return &config->schemas[i];
	return NULL;
}

/* ---- levels ---- */

static void copy_uid(char to[static PRIORITY_UID_MAX], struct str uid)
{
	snprintf(to, PRIORITY_UID_MAX, "%.*s", STR_ARG(uid));
}

struct shares {
	struct priority *p;
	int64_t total;
	bool apply;
};

static unsigned percent(unsigned of, int64_t percent)
{
	return (unsigned)((of * (uint64_t)(percent < 0 ? 0 : percent > 100 ? 100 : percent) + 50) / 100);
}

static void take_level(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(registry_parse(&arena, o), "spec");
	bool exempt = str_is(json_get_str(spec, "type"), "Exempt");
	const struct json *limits = json_get(spec, exempt ? "exempt" : "limited");
	int64_t shares = json_get_int(limits, "nominalConcurrencyShares", exempt ? 0 : SHARES_DEFAULT);
	const struct json *queuing = json_at(limits, "limitResponse.queuing"), *borrow;
	struct shares *s = arg;
	struct priority_level *level;

	shares = shares < 0 ? 0 : shares;
	if (!s->apply) {
		s->total += shares;
		return;
	}
	level = priority_level(s->p, o->name);
	copy_uid(level->uid, o->uid);
	level->gone = false;
	level->exempt = exempt;
	level->reject = !exempt && str_is(json_at_str(limits, "limitResponse.type"), "Reject");
	level->seats = (unsigned)((shares * PRIORITY_SEATS_TOTAL + s->total - 1) / (s->total ? s->total : 1));
	level->lendable = percent(level->seats, json_get_int(limits, "lendablePercent", 0));
	borrow = json_get(limits, "borrowingLimitPercent");
	level->borrow_max =
		borrow ? (unsigned)(level->seats * (uint64_t)json_int(borrow, 0) / 100) : PRIORITY_SEATS_TOTAL;
	priority_level_set_queues(level, exempt || level->reject ? 0 : json_get_int(queuing, "queues", 64),
				  json_get_int(queuing, "handSize", 8), json_get_int(queuing, "queueLengthLimit", 50));
}

static void rebuild_levels(struct priority_config *c)
{
	struct shares s = { .p = c->p };

	list_foreach(level, &c->p->levels, struct priority_level, link)
		level->gone = true;
	registry_each(c->reg, c->level_kind, STR_NULL, take_level, &s);
	s.apply = true;
	registry_each(c->reg, c->level_kind, STR_NULL, take_level, &s);
}

/* ---- schemas ---- */

static int set_condition(void *arg, struct arena *arena, struct json *schema, struct err *err)
{
	struct str name = json_at_str(schema, "spec.priorityLevelConfiguration.name");
	struct priority_config *c = arg;
	bool exists = registry_get(c->reg, c->level_kind, STR_NULL, name) != NULL;
	struct json *conditions = json_ensure_array(arena, json_ensure_object(arena, schema, "status"), "conditions");
	struct json *condition = meta_condition(conditions, "Dangling");
	const char *status = exists ? "False" : "True";
	char now[CLOCK_RFC3339_MAX];

	if (condition && str_is(json_get_str(condition, "status"), status))
		return 1;
	if (!condition) {
		condition = json_new_object(arena);
		json_append(conditions, condition);
	}
	json_set_cstr(arena, condition, "type", "Dangling");
	json_set_cstr(arena, condition, "status", status);
	clock_format_rfc3339(clock_real_ns(), now);
	json_set_str(arena, condition, "lastTransitionTime", str_of(arena_strdup(arena, now)));
	json_set_cstr(arena, condition, "reason", exists ? "Found" : "NotFound");
	json_set_str(arena, condition, "message",
		     str_of(arena_printf(arena,
					 "This FlowSchema references the PriorityLevelConfiguration object named "
					 "\"%.*s\" %s",
					 STR_ARG(name), exists ? "and it exists" : "but there is no such object")));
	return 0;
}

static void condition_set(void *arg, const struct object *o, const struct err *err)
{
	if (err && err->status != 404)
		log_warn("cannot write the status of a flow schema error=\"%s\"", err_message(err));
}

static void take_schema(void *arg, const struct object *o)
{
	struct priority_config *c = arg;
	const struct json *object = registry_parse(&c->arena, o), *spec = json_get(object, "spec");
	struct str by = json_at_str(spec, "distinguisherMethod.type");
	struct str level = json_at_str(spec, "priorityLevelConfiguration.name");
	bool exists = registry_get(c->reg, c->level_kind, STR_NULL, level) != NULL;
	struct priority_schema *s;

	if (!meta_condition_is(json_at(object, "status.conditions"), "Dangling", exists ? "False" : "True"))
		registry_update(c->reg, c->schema_kind, STR_NULL, o->name, "status", set_condition, c, condition_set,
				NULL);
	if (!exists || c->n >= SCHEMAS_MAX)
		return;
	s = &c->schemas[c->n++];
	*s = (struct priority_schema){
		.name = arena_str(&c->arena, o->name),
		.level = priority_level(c->p, level),
		.by = str_is(by, "ByUser")        ? PRIORITY_BY_USER
		      : str_is(by, "ByNamespace") ? PRIORITY_BY_NAMESPACE
						  : PRIORITY_BY_NONE,
		.hash = hash_bytes(o->name.p, o->name.n),
		.rules = json_clone_deep(&c->arena,
					 json_get(spec, "rules") ? json_get(spec, "rules") : json_new_array(&c->arena)),
		.precedence = json_get_int(spec, "matchingPrecedence", 1000),
	};
	s->figures = priority_figures(s->level, o->name);
	copy_uid(s->uid, o->uid);
}

static int by_precedence(const void *a, const void *b)
{
	const struct priority_schema *x = a, *y = b;

	if (x->precedence != y->precedence)
		return x->precedence < y->precedence ? -1 : 1;
	return str_cmp(x->name, y->name);
}

static void rebuild(struct loop_defer *defer)
{
	struct priority_config *c = container_of(defer, struct priority_config, rebuild);

	rebuild_levels(c);
	arena_finish(&c->arena);
	c->schemas = arena_new_array(&c->arena, struct priority_schema,
				     registry_count(c->reg, c->schema_kind) < SCHEMAS_MAX
					     ? registry_count(c->reg, c->schema_kind) + 1
					     : SCHEMAS_MAX);
	c->n = 0;
	registry_each(c->reg, c->schema_kind, STR_NULL, take_schema, c);
	qsort(c->schemas, c->n, sizeof(*c->schemas), by_precedence);
	priority_levels_changed(c->p);
}

/* ---- following ---- */

static void changed(struct priority_config *c, enum registry_event_type type, const struct api_kind *kind,
		    const struct object *o)
{
	if (type == REGISTRY_DELETED)
		priority_bootstrap_check(c->reg, kind, o->name);
	loop_defer(c->loop, &c->rebuild);
}

static void schema_changed(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			   const struct object *prev)
{
	struct priority_config *c = container_of(w, struct priority_config, schemas_watch);

	changed(c, type, c->schema_kind, o);
}

static void level_changed(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			  const struct object *prev)
{
	struct priority_config *c = container_of(w, struct priority_config, levels_watch);

	changed(c, type, c->level_kind, o);
}

struct priority_config *priority_config_create(struct priority *p, struct loop *loop, struct registry *reg)
{
	struct priority_config *c = mem_new(struct priority_config);
	const struct str group = STR("flowcontrol.apiserver.k8s.io"), version = STR("v1");

	c->p = p;
	c->loop = loop;
	c->reg = reg;
	c->schema_kind = api_kind_by_kind(group, version, STR("FlowSchema"));
	c->level_kind = api_kind_by_kind(group, version, STR("PriorityLevelConfiguration"));
	c->rebuild.fn = rebuild;
	c->schemas_watch = (struct registry_watch){ .fn = schema_changed, .kind = c->schema_kind };
	c->levels_watch = (struct registry_watch){ .fn = level_changed, .kind = c->level_kind };
	priority_bootstrap(reg);
	registry_watch_start(reg, &c->levels_watch);
	registry_watch_start(reg, &c->schemas_watch);
	return c;
}

void priority_config_destroy(struct priority_config *c)
{
	if (!c)
		return;
	registry_watch_stop(c->reg, &c->schemas_watch);
	registry_watch_stop(c->reg, &c->levels_watch);
	loop_defer_cancel(c->loop, &c->rebuild);
	arena_finish(&c->arena);
	free(c);
}
