/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on resources: from method, path, query and body to a registry request, and its answer back. */
#include <errno.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/port_forward.h"
#include "userspace/base/mem.h"

/* Outlives the HTTP request: the registry answers in any case. */
struct resource_wait {
	struct call call;
};

static void resource_client_gone(struct http_request *http)
{
	struct resource_wait *w = http->user;

	w->call.http = NULL;
}

static void resource_done(void *arg, const struct request_result *result, const struct err *err)
{
	struct resource_wait *w = arg;

	w->call.as->in_flight--;
	if (w->call.http) {
		w->call.http->on_close = NULL;
		if (err)
			respond_refusal(&w->call, result, err);
		else
			respond_result(&w->call, result);
	}
	free(w);
}

/* call->verb, where this path knows it. */
static int resource_verb(const struct call *call, enum api_verb *ret, struct err *err)
{
	const struct route *r = &call->route;
	bool named = r->name.n > 0, reads = call->verb & (API_VERB_LIST | API_VERB_WATCH);

	if (!((r->sub ? r->sub->verbs : r->kind->verbs) & call->verb))
		return api_err_method_not_supported(err);
	if (call->verb == API_VERB_CREATE && named && !r->sub)
		return api_err_method_not_supported(err);
	if ((call->verb == API_VERB_UPDATE || call->verb == API_VERB_PATCH) && !named)
		return api_err_method_not_supported(err);
	/* All namespaces at once are only read. */
	if (r->kind->namespaced && !r->ns.n && !reads)
		return api_err_method_not_supported(err);
	*ret = call->verb;
	return 0;
}

static struct str resource_media_type(struct call *call)
{
	struct str type = http_request_header(call->http, "content-type"), part;

	return type.n && str_split(&type, ';', &part) ? str_trim(part) : STR_NULL;
}

static int resource_body(struct call *call, struct request *q, struct err *err)
{
	static const struct {
		const char *type;
		enum request_patch patch;
		enum decode_media media;
	} patches[] = {
		{ "application/json-patch+json", REQUEST_PATCH_JSON, DECODE_JSON },
		{ "application/merge-patch+json", REQUEST_PATCH_MERGE, DECODE_JSON },
		{ "application/strategic-merge-patch+json", REQUEST_PATCH_STRATEGIC, DECODE_JSON },
		{ "application/apply-patch+yaml", REQUEST_PATCH_APPLY, DECODE_YAML },
	};
	struct str type = resource_media_type(call);

	q->body = call->http->body;
	if (q->verb == API_VERB_PATCH) {
		for (size_t i = 0; i < ARRAY_SIZE(patches); i++) {
			if (!str_is(type, patches[i].type))
				continue;
			q->patch = patches[i].patch;
			q->media = patches[i].media;
			return 0;
		}
		return api_err_unsupported_media_type(err, "application/json-patch+json, application/merge-patch+json, "
							   "application/strategic-merge-patch+json, "
							   "application/apply-patch+yaml");
	}
	if (!type.n || str_is(type, "application/json") || str_is(type, "*/*")) {
		q->media = DECODE_JSON;
		return 0;
	}
	if (str_is(type, "application/yaml")) {
		q->media = DECODE_YAML;
		return 0;
	}
	if (str_is(type, PB_MEDIA_TYPE)) {
		q->media = DECODE_PROTOBUF;
		return 0;
	}
	/* DELETE without a body may say anything about it. */
	if (!q->body.n)
		return 0;
	return api_err_unsupported_media_type(err, "application/json, application/yaml, " PB_MEDIA_TYPE);
}

/* Whose fields the parameters of a write are. */
static const char *resource_options(enum api_verb verb)
{
	switch (verb) {
	case API_VERB_CREATE:
		return "CreateOptions";
	case API_VERB_UPDATE:
		return "UpdateOptions";
	case API_VERB_PATCH:
		return "PatchOptions";
	default:
		return "DeleteOptions";
	}
}

static int query_dry_run(struct call *call, const char *options, bool *ret, struct err *err)
{
	const struct query *p = &call->query;
	struct str *values;
	size_t n = 0;

	if (!query_has(p, "dryRun"))
		return 0;
	values = arena_new_array(call->arena, struct str, p->n);
	for (size_t i = 0; i < p->n; i++)
		if (str_is(p->params[i].key, "dryRun"))
			values[n++] = p->params[i].value;
	return decode_parse_dry_run(values, n, options, ret, err);
}

static int resource_query(struct call *call, struct request *q, struct err *err)
{
	const struct query *p = &call->query;
	int r;

	r = query_dry_run(call, resource_options(q->verb), &q->dry_run, err);
	if (r == 0)
		r = decode_parse_field_validation(query_get(p, "fieldValidation"), resource_options(q->verb),
						  &q->field_validation, err);
	if (r == 0)
		r = query_int(p, "limit", 0, &q->limit, err);
	if (r == 0 && (q->has_grace_period = query_has(p, "gracePeriodSeconds")))
		r = query_int(p, "gracePeriodSeconds", 0, &q->grace_period_s, err);
	if (r < 0)
		return r;
	q->force = query_bool(p, "force");
	q->field_manager = query_get(p, "fieldManager");
	q->user_agent = http_request_header(call->http, "user-agent");
	q->label_selector = query_get(p, "labelSelector");
	q->field_selector = query_get(p, "fieldSelector");
	q->continue_token = query_get(p, "continue");
	q->resource_version = query_get(p, "resourceVersion");
	q->resource_version_match = query_get(p, "resourceVersionMatch");
	q->propagation_policy = query_get(p, "propagationPolicy");
	q->has_orphan_dependents = query_has(p, "orphanDependents");
	q->orphan_dependents = query_bool(p, "orphanDependents");
	return 0;
}

static bool resource_is(const struct call *call, const char *sub)
{
	return call->route.sub && strcmp(call->route.sub->name, sub) == 0;
}

/* Subresources that are no objects: streams of the node. */
static bool resource_stream(struct call *call)
{
	if (call->route.sub && resource_is(call, "proxy")) {
		proxy_handle(call);
		return true;
	}
	if (call->route.kind != KIND_POD || !call->route.sub)
		return false;
	/* Whoever may only update or delete a stream may not open one: the rest refuses other methods. */
	if (!(call->verb & (API_VERB_GET | API_VERB_CREATE)))
		return false;
	if (resource_is(call, "log")) {
		log_handle(call);
		return true;
	}
	if (resource_is(call, "exec") || resource_is(call, "attach")) {
		exec_handle(call);
		return true;
	}
	if (resource_is(call, "portforward")) {
		port_forward_handle(call);
		return true;
	}
	return false;
}

static void resource_run(struct call *call, struct request *q)
{
	struct resource_wait *w = mem_new(struct resource_wait);

	w->call = *call;
	w->call.http->user = w;
	w->call.http->on_close = resource_client_gone;
	call->as->in_flight++;
	request_run(call->as->reg, q, resource_done, w);
}

static bool resource_bad_version(struct str version)
{
	int64_t v;

	return version.n && (str_to_int64(version, &v) < 0 || v < 0);
}

void resource_handle(struct call *call)
{
	struct request q = {
		.kind = call->route.kind, .ns = call->route.ns, .name = call->route.name, .user = &call->user
	};
	_cleanup_err_ struct err err = ERR_INIT;
	bool watch;
	int r;

	if (call->route.sub)
		q.subresource = call->route.sub->name;
	if (resource_stream(call))
		return;
	r = resource_verb(call, &q.verb, &err);
	watch = call->verb == API_VERB_WATCH;
	if (r == 0)
		r = negotiate_accept(http_request_header(call->http, "accept"), &call->accept, &err);
	if (r == 0 && (watch || q.verb == API_VERB_LIST || q.verb == API_VERB_DELETECOLLECTION))
		r = list_options_check(call, watch, &err);
	/* Before the stream begins: then it is a plain refusal. */
	if (r == 0 && watch && resource_bad_version(query_get(&call->query, "resourceVersion")))
		r = api_err_bad_request(
			&err,
			"resourceVersion: Invalid value: \"%.*s\": strconv.ParseUint: parsing \"%.*s\": "
			"invalid syntax",
			STR_ARG(query_get(&call->query, "resourceVersion")),
			STR_ARG(query_get(&call->query, "resourceVersion")));
	if (r == 0 && watch && call->accept.yaml)
		r = api_err_not_acceptable(&err, "application/json;stream=watch, " PB_WATCH_MEDIA_TYPE);
	if (r == 0 && watch) {
		watch_handle(call, call->route.kind, call->route.name);
		return;
	}
	if (r == 0)
		r = resource_query(call, &q, &err);
	if (r == 0 && q.verb != API_VERB_GET && q.verb != API_VERB_LIST)
		r = resource_body(call, &q, &err);
	if (r == 0 && call->audit)
		audit_request(call->audit, call, q.media, q.verb == API_VERB_PATCH);
	if (r < 0) {
		respond_err(call->http, &err);
		return;
	}
	if (!review_handle(call, &q))
		resource_run(call, &q);
}
