/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks for, in the terms of RBAC, and the question. The attributes follow upstream's rules for paths:
 * they are read from the path alone, before anybody knows whether such a resource exists, so that strangers do not
 * learn which do. Loop thread. */
#include <errno.h>
#include <string.h>

#include "userspace/api/validate.h"
#include "userspace/apiserver/call.h"

static struct str authz_lower(struct arena *arena, struct str s)
{
	char *text = arena_strndup(arena, s.p, s.n);

	for (size_t i = 0; i < s.n; i++)
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] = (char)(text[i] - 'A' + 'a');
	return str_make(text, s.n);
}

static struct str authz_verb(struct str method)
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
static struct str authz_selected_name(struct str selector)
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
static void authz_resource(const struct call *call, const struct str *parts, size_t n, struct authz_attributes *a)
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
	if (str_is(a->verb, "get") && resource_watches(call)) {
		a->verb = STR("watch");
	} else if (str_is(a->verb, "get") && !a->name.n) {
		a->verb = STR("list");
	} else if (str_is(a->verb, "delete") && !a->name.n) {
		a->verb = STR("deletecollection");
		return;
	}
	if (!a->name.n && (str_is(a->verb, "list") || str_is(a->verb, "watch")))
		a->name = authz_selected_name(query_get(&call->query, "fieldSelector"));
}

void authz_attributes_of(const struct call *call, struct authz_attributes *ret)
{
	const struct route *r = &call->route;
	size_t n = r->n_segments, at = n > 0 && str_is(r->segments[0], "apis") ? 3 : 2;
	struct authz_attributes a = { .user = &call->user, .verb = authz_verb(call->http->method) };

	if (n <= at || !(at == 3 || str_is(r->segments[0], "api"))) {
		a.is_path = true;
		a.path = r->path;
		a.verb = str_is(call->http->method, "GET") ? STR("get") : authz_lower(call->arena, call->http->method);
		*ret = a;
		return;
	}
	a.group = at == 3 ? r->segments[1] : STR("");
	a.version = r->segments[at - 1];
	if (n > at + 1 && (str_is(r->segments[at], "watch") || str_is(r->segments[at], "proxy")))
		a.verb = r->segments[at++];
	authz_resource(call, &r->segments[at], n - at, &a);
	*ret = a;
}

/* A WebSocket begins with GET, and does what a POST does. */
static bool authz_opens_stream(const struct authz_attributes *a)
{
	return str_is(a->verb, "get") && str_is(a->resource, "pods") && !a->group.n &&
	       (str_is(a->subresource, "exec") || str_is(a->subresource, "attach") ||
		str_is(a->subresource, "portforward"));
}

int authz_check(const struct call *call, struct err *err)
{
	struct authz_attributes a;
	struct str reason;

	authz_attributes_of(call, &a);
	if (authz_decide(call->as->reg, &a, call->arena, NULL) != AUTHZ_ALLOW)
		goto refuse;
	if (a.is_path || !a.subresource.n || !authz_opens_stream(&a))
		return 0;
	a.verb = STR("create");
	if (authz_decide(call->as->reg, &a, call->arena, NULL) == AUTHZ_ALLOW)
		return 0;
refuse:
	/* Asked again for its words: they are made for refusals only. */
	authz_decide(call->as->reg, &a, call->arena, &reason);
	return authz_forbidden(err, &a, reason);
}
