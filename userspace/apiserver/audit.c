/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an audit event. See audit.h; audit_event.c writes the lines. */
#include "userspace/apiserver/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "userspace/apiserver/audit_event.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/metrics.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

struct audit {
	struct audit_policy *policy;
	struct audit_log *log;
	uint64_t events;
};

int audit_create(const struct audit_options *options, struct audit **ret, struct err *err)
{
	bool has_policy = options->policy_path && *options->policy_path;
	bool has_log = options->log.path && *options->log.path;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct audit *audit;
	int r;

	*ret = NULL;
	if (has_policy != has_log)
		log_warn("nothing is audited: audit-policy-file and audit-log-path are both needed");
	if (!has_policy || !has_log)
		return 0;
	audit = mem_new(struct audit);
	r = fs_read(options->policy_path, AUDIT_POLICY_BYTES_MAX, &text, err);
	if (r == 0)
		r = audit_policy_parse(buf_str(&text), &audit->policy, err);
	if (r < 0)
		err_wrap(err, r, "audit policy %s", options->policy_path);
	else
		r = audit_log_open(&options->log, &audit->log, err);
	if (r < 0) {
		audit_destroy(audit);
		return r;
	}
	*ret = audit;
	return 0;
}

void audit_destroy(struct audit *audit)
{
	if (!audit)
		return;
	audit_log_close(audit->log);
	audit_policy_destroy(audit->policy);
	free(audit);
}

void audit_write_metrics(struct audit *audit, struct buf *out)
{
	struct audit_log_stats s = { 0 };

	if (audit)
		audit_log_get_stats(audit->log, &s);
	metrics_head(out, "apiserver_audit_event_total", "counter",
		     "Counter of audit events generated and sent to the audit backend.");
	buf_printf(out, "apiserver_audit_event_total %" PRIu64 "\n", audit ? audit->events : 0);
	metrics_head(
		out, "apiserver_audit_error_total", "counter",
		"Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected "
		"by the error.");
	if (audit)
		buf_printf(out, "apiserver_audit_error_total{plugin=\"log\"} %" PRIu64 "\n", s.dropped + s.failed);
}

static void emit(struct audit_event *e, enum audit_stage stage)
{
	_cleanup_buf_ struct buf line = BUF_INIT;

	if (e->decision.omit_stages & stage)
		return;
	audit_event_write(e, stage, clock_real_ns(), &line);
	e->audit->events++;
	audit_log_write(e->audit->log, buf_str(&line));
}

/* The client's own, so that it can be followed through proxies and aggregated servers. */
static struct str audit_id(const struct call *call)
{
	struct str given = http_request_header(call->http, "audit-id");
	char *id;

	if (given.n && given.n <= AUDIT_ID_MAX)
		return given;
	id = arena_alloc(call->arena, UUID_LEN + 1);
	uuid_make(id);
	return str_make(id, UUID_LEN);
}

struct audit_event *audit_begin(struct audit *audit, const struct call *call, bool authenticated)
{
	struct http_request *http = call->http;
	struct authz_attributes attributes;
	struct audit_decision decision;
	struct audit_event *e;

	if (!audit)
		return NULL;
	call_attributes(call, &attributes);
	if (!authenticated)
		attributes.user = NULL;
	audit_policy_decide(audit->policy, &attributes, &decision);
	if (decision.level == AUDIT_NONE)
		return NULL;
	e = arena_new(call->arena, struct audit_event);
	e->audit = audit;
	e->decision = decision;
	e->arena = call->arena;
	e->http = http;
	/* With its header: the body may have taken its time. */
	e->received_real_ns = clock_real_ns() - (clock_monotonic_ns() - http->header_ns);
	e->id = audit_id(call);
	e->attributes = attributes;
	e->user = call->user;
	e->authenticated = authenticated;
	if (http->n_out_headers < HTTP_OUT_HEADERS_MAX)
		http->out_headers[http->n_out_headers++] = (struct http_header){ STR("Audit-Id"), e->id };
	emit(e, AUDIT_RECEIVED);
	return e;
}

void audit_annotate(struct audit_event *e, const char *key, struct str value)
{
	if (!e || e->n_annotations >= AUDIT_ANNOTATIONS_MAX)
		return;
	for (size_t i = 0; i < e->n_annotations; i++)
		if (str_is(e->annotations[i].key, key))
			return;
	e->annotations[e->n_annotations++] =
		(struct request_annotation){ str_of(key), value.n ? arena_str(e->arena, value) : STR("") };
}

void audit_annotate_all(struct audit_event *e, const struct request_result *result)
{
	for (size_t i = 0; e && i < result->n_annotations; i++)
		audit_annotate(e, arena_strndup(e->arena, result->annotations[i].key.p, result->annotations[i].key.n),
			       result->annotations[i].value);
}

void audit_authorized(struct audit_event *e, const struct call *call, bool allowed)
{
	struct authz_attributes attributes;
	struct str reason = STR_NULL;

	if (!e)
		return;
	call_attributes(call, &attributes);
	authz_decide(call->as->reg, &attributes, e->arena, &reason);
	audit_annotate(e, "authorization.k8s.io/decision", allowed ? STR("allow") : STR("forbid"));
	audit_annotate(e, "authorization.k8s.io/reason", reason);
	if (call->requestor) {
		e->impersonated = call->user;
		e->has_impersonated = true;
	}
}

/* ---- objects ---- */

static void strip_managed_fields(struct json *v)
{
	json_remove(json_get(v, "metadata"), "managedFields");
	json_foreach(item, json_get(v, "items"))
		json_remove(json_get(item, "metadata"), "managedFields");
}

/* As it stands in the event: parsed only where something must go. */
static struct str object_text(struct audit_event *e, struct str text)
{
	struct json *v;

	if (text.n > AUDIT_OBJECT_BYTES_MAX)
		return STR_NULL;
	if (!e->decision.omit_managed_fields || !memmem(text.p, text.n, "managedFields", 13))
		return arena_str(e->arena, text);
	if (json_parse(e->arena, arena_str(e->arena, text), 0, &v, NULL) < 0)
		return STR_NULL;
	strip_managed_fields(v);
	return json_text(e->arena, v);
}

/* What the object says of itself, where the path does not. */
static void complete_reference(struct audit_event *e, const struct json *object)
{
	struct authz_attributes *a = &e->attributes;

	if (!a->name.n)
		a->name = arena_str(e->arena, meta_name(object));
	if (!a->ns.n)
		a->ns = arena_str(e->arena, meta_namespace(object));
	e->object_uid = arena_str(e->arena, meta_uid(object));
	e->object_version = arena_str(e->arena, meta_resource_version(object));
}

void audit_request(struct audit_event *e, const struct call *call, enum decode_media media, bool patch)
{
	struct str body = call->http->body;
	struct json *v;

	if (!e || e->decision.level < AUDIT_REQUEST || !body.n || body.n > AUDIT_OBJECT_BYTES_MAX)
		return;
	if (decode_parse(e->arena, call->route.kind, body, media, DECODE_IGNORE, NULL, &v, NULL) < 0) {
		/* JSON patches are arrays. */
		if (!patch || media != DECODE_JSON || json_parse(e->arena, body, 0, &v, NULL) < 0)
			return;
	}
	if (!patch)
		complete_reference(e, v);
	if (e->decision.omit_managed_fields)
		strip_managed_fields(v);
	e->request_object = json_text(e->arena, v);
}

void audit_error(struct audit_event *e, const struct err *err)
{
	if (!e)
		return;
	e->response_status = api_status_json(e->arena, err);
	if (e->decision.level >= AUDIT_REQUEST_RESPONSE)
		e->response_object = e->response_status;
}

static struct str list_text(struct audit_event *e, const struct call *call, const struct request_result *result)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const struct meta_list meta = {
		.resource_version = str_of(arena_printf(e->arena, "%lld", (long long)result->list_revision)),
		.continue_token = result->list_continue,
		.remaining = result->list_remaining,
	};

	buf_printf(&b, "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":", call->route.kind->kind,
		   api_kind_api_version(call->route.kind));
	meta_write_list_meta(&b, &meta);
	buf_add_cstr(&b, ",\"items\":[");
	for (size_t i = 0; i < result->n_items; i++) {
		if (buf_len(&b) + result->items[i]->json.n > AUDIT_OBJECT_BYTES_MAX)
			return STR_NULL;
		if (i)
			buf_add_char(&b, ',');
		buf_add_str(&b, registry_render(e->arena, call->route.kind, result->items[i]));
	}
	buf_add_cstr(&b, "]}");
	return object_text(e, buf_str(&b));
}

void audit_result(struct audit_event *e, const struct call *call, const struct request_result *result)
{
	struct authz_attributes *a;

	if (!e)
		return;
	a = &e->attributes;
	audit_annotate_all(e, result);
	if (result->object && !a->name.n && str_is(a->verb, "create"))
		a->name = arena_str(e->arena, result->object->name);
	if (str_starts(result->body, STR("{\"kind\":\"Status\"")))
		e->response_status = arena_str(e->arena, result->body);
	if (e->decision.level < AUDIT_REQUEST_RESPONSE)
		return;
	if (result->object)
		e->response_object = object_text(e, registry_render(e->arena, call->route.kind, result->object));
	else if (result->body.n)
		e->response_object = object_text(e, result->body);
	else
		e->response_object = list_text(e, call, result);
}

/* ---- stages ---- */

void audit_started(struct audit_event *e, int http_status)
{
	if (!e || e->started)
		return;
	e->started = true;
	e->http_status = http_status;
	emit(e, AUDIT_STARTED);
}

void audit_end(struct audit_event *e, int http_status)
{
	if (!e)
		return;
	e->http_status = http_status ? http_status : e->http_status;
	emit(e, AUDIT_COMPLETE);
}
