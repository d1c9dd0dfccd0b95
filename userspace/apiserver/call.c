/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks for and what it counts as: for authorization, fairness, audit and figures. The attributes follow
 * upstream's rules for paths: they are read from the path alone, before anybody knows whether such a resource exists,
 * so that strangers do not learn which do. See call.h. */
#include "userspace/apiserver/call.h"

#include <string.h>

#include "userspace/api/validate.h"
#include "userspace/apiserver/metrics.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/mem.h"

static struct str call_lower(struct arena *arena, struct str s)
{
	char *text = arena_strndup(arena, s.p, s.n);

	for (size_t i = 0; i < s.n; i++)
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] = (char)(text[i] - 'A' + 'a');
	return str_make(text, s.n);
}

static struct str call_method_verb(struct str method)
{
	static const struct {
		const char *method, *verb;
	} verbs[] = {
		{ "GET", "get" },     { "POST", "create" },   { "PUT", "update" },
		{ "PATCH", "patch" }, { "DELETE", "delete" }, { "HEAD", "get" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (str_is(method, verbs[i].method))
			return str_of(verbs[i].verb);
	return STR("");
}

/* metadata.name=x alone among the terms of a field selector asks for that object only. */
static struct str call_selected_name(struct str selector)
{
	struct str term, rest = selector;

	while (str_split(&rest, ',', &term)) {
		const struct str field = STR("metadata.name=");

		if (!str_starts(term, field))
			continue;
		term = str_make(term.p + field.n, term.n - field.n);
		if (term.n && term.p[0] == '=')
			term = str_make(term.p + 1, term.n - 1);
		/* An escape would have to be undone, and no name has one. */
		if (term.n && !validate_path_segment(term) && str_find(term, '\\') < 0 && str_find(term, '=') < 0)
			return term;
	}
	return STR_NULL;
}

/* parts: PLURAL[/NAME[/SUB...]] or namespaces/NS/PLURAL... */
static void call_read_resource(const struct call *call, const struct str *parts, size_t n, struct authz_attributes *a)
{
	bool special = str_is(a->verb, "watch") || str_is(a->verb, "proxy");

	if (str_is(parts[0], "namespaces") && n > 1) {
		a->ns = parts[1];
		if (n > 2 && !str_is(parts[2], "status") && !str_is(parts[2], "finalize")) {
			parts += 2;
			n -= 2;
		}
	}
	a->resource = parts[0];
	if (n > 1)
		a->name = parts[1];
	if (n > 2 && !str_is(a->verb, "proxy"))
		a->subresource = parts[2];
	if (special)
		return;
	if (str_is(a->verb, "get") && !a->name.n) {
		a->verb = query_bool(&call->query, "watch") ? STR("watch") : STR("list");
	} else if (str_is(a->verb, "delete") && !a->name.n) {
		a->verb = STR("deletecollection");
		return;
	}
	if (!a->name.n && (str_is(a->verb, "list") || str_is(a->verb, "watch")))
		a->name = call_selected_name(query_get(&call->query, "fieldSelector"));
}

static unsigned call_run_verb(const struct call *call)
{
	static const struct {
		const char *name;
		enum api_verb verb;
	} verbs[] = {
		{ "get", API_VERB_GET },       { "list", API_VERB_LIST },
		{ "watch", API_VERB_WATCH },   { "create", API_VERB_CREATE },
		{ "update", API_VERB_UPDATE }, { "patch", API_VERB_PATCH },
		{ "delete", API_VERB_DELETE }, { "deletecollection", API_VERB_DELETECOLLECTION },
	};

	/* Paths may say "watch", whatever the method: only reads are. */
	if (str_is(call->asks.verb, "watch") && !call_is_read(call))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (str_is(call->asks.verb, verbs[i].name))
			return verbs[i].verb;
	return 0;
}

bool call_runs_as_asked(const struct call *call)
{
	const struct authz_attributes *a = &call->asks;
	const struct route *r = &call->route;
	bool selects = call->verb == API_VERB_LIST || call->verb == API_VERB_WATCH;

	if (!r->kind)
		return a->is_path;
	if (a->is_path || !str_is(a->group, r->kind->group) || !str_is(a->version, r->kind->version) ||
	    !str_is(a->resource, r->kind->plural) || !str_is(a->subresource, r->sub ? r->sub->name : ""))
		return false;
	/* A namespace is in itself. */
	if (!str_eq(a->ns, r->kind == KIND_NAMESPACE ? r->name : r->ns))
		return false;
	/* A selector may ask for less than the path does. */
	return str_eq(a->name, r->name) || (selects && !r->name.n);
}

void call_describe(struct call *call)
{
	const struct route *r = &call->route;
	size_t n = r->n_segments, at = n > 0 && str_is(r->segments[0], "apis") ? 3 : 2;
	struct authz_attributes a = { .verb = call_method_verb(call->http->method) };

	if (n <= at || !(at == 3 || str_is(r->segments[0], "api"))) {
		a.is_path = true;
		a.path = r->path;
		a.verb = str_is(call->http->method, "GET") ? STR("get") : call_lower(call->arena, call->http->method);
		call->asks = a;
		return;
	}
	a.group = at == 3 ? r->segments[1] : STR("");
	a.version = r->segments[at - 1];
	if (n > at + 1 && (str_is(r->segments[at], "watch") || str_is(r->segments[at], "proxy")))
		a.verb = r->segments[at++];
	call_read_resource(call, &r->segments[at], n - at, &a);
	call->asks = a;
	call->verb = call_run_verb(call);
}

void call_attributes(const struct call *call, struct authz_attributes *ret)
{
	*ret = call->asks;
	ret->user = &call->user;
}

bool call_is_read(const struct call *call)
{
	return str_is(call->http->method, "GET") || str_is(call->http->method, "HEAD");
}

bool call_is_watch(const struct call *call)
{
	return call->verb == API_VERB_WATCH;
}

/* ---- what it counts as ---- */

static bool call_is_connect(const struct call *call)
{
	const char *sub = call->route.sub ? call->route.sub->name : "";

	return !strcmp(sub, "exec") || !strcmp(sub, "attach") || !strcmp(sub, "portforward") || !strcmp(sub, "proxy");
}

static enum metrics_verb call_verb(const struct call *call)
{
	static const struct {
		const char *verb;
		enum metrics_verb is;
	} verbs[] = {
		{ "get", METRICS_GET },     { "list", METRICS_LIST },
		{ "create", METRICS_POST }, { "update", METRICS_PUT },
		{ "patch", METRICS_PATCH }, { "delete", METRICS_DELETE },
		{ "head", METRICS_GET },    { "deletecollection", METRICS_DELETECOLLECTION },
		{ "post", METRICS_POST },   { "put", METRICS_PUT },
	};

	if (call_is_connect(call))
		return METRICS_CONNECT;
	if (call_is_watch(call))
		return METRICS_WATCH;
	if (str_is(call->asks.verb, "patch") &&
	    str_starts(http_request_header(call->http, "content-type"), STR("application/apply-patch")))
		return METRICS_APPLY;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (str_is(call->asks.verb, verbs[i].verb))
			return verbs[i].is;
	return METRICS_OTHER;
}

struct metrics_series *call_series(const struct call *call)
{
	const struct route *r = &call->route;
	enum metrics_verb verb = call_verb(call);
	enum metrics_scope scope;

	if (!r->kind)
		return metrics_series(call->as->metrics, verb, NULL, metrics_path(r->path), METRICS_SCOPE_NONE, false);
	scope = r->name.n || verb == METRICS_POST ? METRICS_SCOPE_RESOURCE
		: r->ns.n                         ? METRICS_SCOPE_NAMESPACE
						  : METRICS_SCOPE_CLUSTER;
	return metrics_series(call->as->metrics, verb, r->kind, r->sub ? r->sub->name : NULL, scope,
			      verb >= METRICS_POST && query_has(&call->query, "dryRun"));
}

/* How many objects it goes through, in seats. */
unsigned call_seats(const struct call *call)
{
	enum metrics_verb verb = call_verb(call);
	const struct query *q = &call->query;
	int64_t n, limit = 0;

	if (!call->route.kind || (verb != METRICS_LIST && verb != METRICS_WATCH && verb != METRICS_DELETECOLLECTION) ||
	    call->route.name.n || call->route.kind->resource == API_RESOURCE_NONE)
		return 1;
	if (verb == METRICS_WATCH && !query_bool(q, "sendInitialEvents") && query_get(q, "resourceVersion").n &&
	    !str_is(query_get(q, "resourceVersion"), "0"))
		return 1;
	n = (int64_t)registry_count(call->as->reg, call->route.kind);
	if (n > PRIORITY_OBJECTS_PER_SEAT && !str_is(query_get(q, "resourceVersion"), "0") &&
	    !query_get(q, "labelSelector").n && !query_get(q, "fieldSelector").n &&
	    str_to_int64(query_get(q, "limit"), &limit) == 0 && limit > 0 && limit < n)
		n = limit;
	return (unsigned)((n + PRIORITY_OBJECTS_PER_SEAT - 1) / PRIORITY_OBJECTS_PER_SEAT);
}
