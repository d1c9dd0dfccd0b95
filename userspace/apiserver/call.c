/* SPDX-License-Identifier: Apache-2.0 */
/* What a request is called: its verb, for authorization, fairness and figures. See call.h. */
#include "userspace/apiserver/call.h"

#include <string.h>

#include "userspace/apiserver/metrics.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/mem.h"

static bool call_is_read(const struct call *call)
{
	return str_is(call->http->method, "GET") || str_is(call->http->method, "HEAD");
}

bool call_is_watch(const struct call *call)
{
	return call->route.kind && !call->route.sub && call_is_read(call) &&
	       (call->route.watch_prefix || query_bool(&call->query, "watch"));
}

static bool call_is_connect(const struct call *call)
{
	const char *sub = call->route.sub ? call->route.sub->name : "";

	return !strcmp(sub, "exec") || !strcmp(sub, "attach") || !strcmp(sub, "portforward") || !strcmp(sub, "proxy");
}

static enum metrics_verb call_verb(const struct call *call)
{
	struct str method = call->http->method;
	bool named = call->route.name.n > 0;

	if (call->route.kind && call_is_connect(call))
		return METRICS_CONNECT;
	if (call_is_read(call)) {
		if (!call->route.kind)
			return METRICS_GET;
		return call_is_watch(call) ? METRICS_WATCH : named ? METRICS_GET : METRICS_LIST;
	}
	if (str_is(method, "POST"))
		return METRICS_POST;
	if (str_is(method, "PUT"))
		return METRICS_PUT;
	if (str_is(method, "PATCH"))
		return str_starts(http_request_header(call->http, "content-type"), STR("application/apply-patch"))
			       ? METRICS_APPLY
			       : METRICS_PATCH;
	if (str_is(method, "DELETE"))
		return named ? METRICS_DELETE : METRICS_DELETECOLLECTION;
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

void call_attributes(const struct call *call, struct authz_attributes *ret)
{
	static const char *const verbs[] = {
		[METRICS_OTHER] = "",         [METRICS_GET] = "get",
		[METRICS_LIST] = "list",      [METRICS_WATCH] = "watch",
		[METRICS_POST] = "create",    [METRICS_PUT] = "update",
		[METRICS_PATCH] = "patch",    [METRICS_APPLY] = "patch",
		[METRICS_DELETE] = "delete",  [METRICS_DELETECOLLECTION] = "deletecollection",
		[METRICS_CONNECT] = "create",
	};
	static const struct {
		const char *method, *verb;
	} methods[] = { { "GET", "get" },     { "HEAD", "head" },     { "POST", "post" },      { "PUT", "put" },
			{ "PATCH", "patch" }, { "DELETE", "delete" }, { "OPTIONS", "options" } };
	const struct route *r = &call->route;

	*ret = (struct authz_attributes){ .user = &call->user, .is_path = !r->kind, .path = r->path };
	if (!r->kind) {
		for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
			if (str_is(call->http->method, methods[i].method))
				ret->verb = str_of(methods[i].verb);
		return;
	}
	ret->verb = str_of(verbs[call_verb(call)]);
	ret->group = str_of(r->kind->group);
	ret->version = str_of(r->kind->version);
	ret->resource = str_of(r->kind->plural);
	ret->subresource = str_of(r->sub ? r->sub->name : NULL);
	ret->ns = r->ns;
	ret->name = r->name;
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
	if (n > PRIORITY_OBJECTS_PER_SEAT && !query_get(q, "labelSelector").n && !query_get(q, "fieldSelector").n &&
	    str_to_int64(query_get(q, "limit"), &limit) == 0 && limit > 0 && limit < n)
		n = limit;
	return (unsigned)((n + PRIORITY_OBJECTS_PER_SEAT - 1) / PRIORITY_OBJECTS_PER_SEAT);
}
