/* SPDX-License-Identifier: Apache-2.0 */
/* /livez, /readyz, /healthz and the checks below them, in upstream's words. See apiserver.h for where checks come from.
 */
#include "userspace/apiserver/call.h"
#include "userspace/base/mem.h"

#define HEALTH_NAME_MAX 64

static void health_text(struct call *call, int status, struct str body)
{
	static const struct http_header headers[] = { { STR("cache-control"), STR("no-cache, private") },
						      { STR("x-content-type-options"), STR("nosniff") } };

	http_respond(call->http, status, "text/plain; charset=utf-8", headers, ARRAY_SIZE(headers), body);
}

static bool health_concerns(const struct apiserver_check *check, struct str what)
{
	return !check->ready_only || str_is(what, "readyz");
}

static bool health_excluded(const struct call *call, const char *name)
{
	for (size_t i = 0; i < call->query.n; i++)
		if (str_is(call->query.params[i].key, "exclude") && str_is(call->query.params[i].value, name))
			return true;
	return false;
}

static bool health_knows(const struct call *call, struct str name)
{
	for (size_t i = 0; i < call->as->n_checks; i++)
		if (str_is(name, call->as->checks[i].name) &&
		    health_concerns(&call->as->checks[i], call->route.segments[0]))
			return true;
	return false;
}

/* What cannot be left out because it is not there. */
static void health_warn(const struct call *call, struct buf *out)
{
	bool first = true;

	for (size_t i = 0; i < call->query.n; i++) {
		const struct query_param *p = &call->query.params[i];

		if (!str_is(p->key, "exclude") || !p->value.n || health_knows(call, p->value))
			continue;
		buf_printf(out,
			   first ? "warn: some health checks cannot be excluded: no matches for \"%.*s\"" : ",\"%.*s\"",
			   STR_ARG(p->value));
		first = false;
	}
	if (!first)
		buf_add_char(out, '\n');
}

static void health_all(struct call *call, struct str what)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	bool failed = false;

	for (size_t i = 0; i < call->as->n_checks; i++) {
		const struct apiserver_check *check = &call->as->checks[i];
		_cleanup_err_ struct err err = ERR_INIT;

		if (!health_concerns(check, what))
			continue;
		if (health_excluded(call, check->name)) {
			buf_printf(&out, "[+]%s excluded: ok\n", check->name);
		} else if (check->fn(check->arg, &err) < 0) {
			buf_printf(&out, "[-]%s failed: reason withheld\n", check->name);
			failed = true;
		} else {
			buf_printf(&out, "[+]%s ok\n", check->name);
		}
	}
	health_warn(call, &out);
	buf_printf(&out, "%.*s check %s\n", STR_ARG(what), failed ? "failed" : "passed");
	if (!failed && !query_has(&call->query, "verbose"))
		health_text(call, 200, STR("ok"));
	else
		health_text(call, failed ? 500 : 200, buf_str(&out));
}

static bool health_one(struct call *call, struct str what, struct str name)
{
	for (size_t i = 0; i < call->as->n_checks; i++) {
		const struct apiserver_check *check = &call->as->checks[i];
		_cleanup_err_ struct err err = ERR_INIT;

		if (!str_is(name, check->name) || !health_concerns(check, what))
			continue;
		if (check->fn(check->arg, &err) < 0)
			health_text(
				call, 500,
				str_of(arena_printf(call->arena, "internal server error: %s\n", err_message(&err))));
		else
			health_text(call, 200, STR("ok"));
		return true;
	}
	return false;
}

bool health_handle(struct call *call)
{
	const struct route *r = &call->route;
	struct str what = r->segments[0];

	if (!r->n_segments || (!str_is(what, "livez") && !str_is(what, "readyz") && !str_is(what, "healthz")))
		return false;
	if (r->n_segments == 1) {
		health_all(call, what);
		return true;
	}
	if (r->path.n < what.n + 2 || !str_starts(str_make(r->path.p + 1, r->path.n - 1), what))
		return false;
	/* "poststarthook/rbac/bootstrap-roles" is one name. */
	return health_one(call, what, str_make(r->path.p + what.n + 2, r->path.n - what.n - 2));
}
