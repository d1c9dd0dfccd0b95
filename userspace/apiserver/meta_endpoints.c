/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that are no resources: health, version, and the node's own status. */
#include <errno.h>
#include <inttypes.h>
#include <sys/utsname.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/metrics.h"
#include "userspace/apiserver/priority.h"

#define META_KUBERNETES_VERSION "v1.36.0+k3c-bpf." K3C_VERSION

static void meta_not_found(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;

	api_err_no_resource(&err);
	respond_err(call->http, &err);
}

/* What upstream writes beside its encoders: indented for everybody. */
static void meta_raw_json(struct call *call, struct str text)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *v;

	if (json_parse(call->arena, text, 0, &v, NULL) == 0)
		json_write_pretty(&out, v);
	respond_json(call->http, 200, buf_str(&out));
}

static void meta_version(struct call *call)
{
	struct utsname host;
	const char *machine;

	uname(&host);
	machine = strcmp(host.machine, "x86_64") == 0    ? "amd64"
		  : strcmp(host.machine, "aarch64") == 0 ? "arm64"
							 : host.machine;
	meta_raw_json(call,
		      str_of(arena_printf(
			      call->arena,
			      "{\"major\":\"1\",\"minor\":\"36\",\"gitVersion\":\"" META_KUBERNETES_VERSION
			      "\",\"gitCommit\":\"\",\"gitTreeState\":\"clean\",\"buildDate\":\"1970-01-01T00:00:00Z\","
			      "\"goVersion\":\"none\",\"compiler\":\"" __VERSION__ "\",\"platform\":\"linux/%s\"}",
			      machine)));
}

static void meta_storage_metrics(struct apiserver *as, struct buf *out)
{
	char name[API_RESOURCE_NAME_MAX];

	metrics_head(out, "apiserver_storage_objects", "gauge", "Objects that are stored, by kind");
	for (size_t i = 0; i < api_resource_count(); i++) {
		const struct api_kind *kind = api_kind_by_index((uint16_t)i);

		api_resource_name(kind, name);
		buf_printf(out, "apiserver_storage_objects{resource=\"%s\"} %zu\n", name,
			   registry_count(as->reg, kind));
	}
	metrics_head(out, "apiserver_resource_objects", "gauge", "Objects that are stored, by group and resource");
	for (size_t i = 0; i < api_resource_count(); i++) {
		const struct api_kind *kind = api_kind_by_index((uint16_t)i);

		buf_printf(out, "apiserver_resource_objects{group=\"%s\",resource=\"%s\"} %zu\n", kind->group,
			   kind->plural, registry_count(as->reg, kind));
	}
	metrics_head(out, "kubernetes_build_info", "gauge", "The release of Kubernetes whose API this is");
	buf_add_cstr(out,
		     "kubernetes_build_info{git_version=\"" META_KUBERNETES_VERSION "\",major=\"1\",minor=\"36\"} 1\n");
}

static void meta_connection_metrics(const struct apiserver *as, struct buf *out)
{
	struct http_server_stats http;

	http_server_get_stats(as->http, &http);
	metrics_head(out, "apiserver_tls_handshake_errors_total", "counter",
		     "Connections that ended before TLS was established");
	buf_printf(out, "apiserver_tls_handshake_errors_total %" PRIu64 "\n", http.handshake_errors);
}

static void meta_metrics(struct call *call)
{
	static const struct http_header headers[] = { { STR("cache-control"), STR("no-cache, private") } };
	_cleanup_buf_ struct buf out = BUF_INIT;

	metrics_write(call->as->metrics, &out);
	meta_connection_metrics(call->as, &out);
	priority_write_metrics(call->as->priority, &out);
	audit_write_metrics(call->as->audit, &out);
	meta_storage_metrics(call->as, &out);
	metrics_write_process(&out);
	if (call->as->more_metrics)
		call->as->more_metrics(call->as->more_metrics_arg, &out);
	http_respond(call->http, 200, "text/plain; version=0.0.4; charset=utf-8", headers, ARRAY_SIZE(headers),
		     buf_str(&out));
}

static void meta_extra(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;
	bool master = false;
	struct str body;
	int r;

	for (size_t i = 0; i < call->user.n_groups; i++)
		master = master || str_is(call->user.groups[i], "system:masters");
	if (!master)
		r = err_set_status(&err, -EACCES, 403, "Forbidden", "forbidden: User \"%.*s\" cannot get path \"%.*s\"",
				   STR_ARG(call->user.name), STR_ARG(call->route.path));
	else if (!call->as->extra)
		r = api_err_no_resource(&err);
	else
		r = call->as->extra(call->as->extra_arg, call->route.path, call->http->query, call->arena, &body, &err);
	if (r < 0)
		respond_err(call->http, &err);
	else
		respond_json(call->http, 200, body);
}

static void meta_index(struct call *call)
{
	meta_raw_json(
		call,
		STR("{\"paths\":[\"/api\",\"/api/v1\",\"/apis\",\"/healthz\",\"/livez\",\"/metrics\",\"/openapi/v2\","
		    "\"/openapi/v3\",\"/readyz\",\"/version\"]}"));
}

static void meta_get(struct call *call)
{
	const struct route *r = &call->route;

	if (oidc_handle(call))
		return;
	if (r->n_segments == 0)
		meta_index(call);
	else if (str_is(r->segments[0], "api") && r->n_segments <= 2)
		documents_discovery(call, true);
	else if (str_is(r->segments[0], "apis") && r->n_segments <= 3)
		documents_discovery(call, false);
	else if (str_is(r->segments[0], "version") && r->n_segments == 1)
		meta_version(call);
	else if (str_is(r->segments[0], "metrics") && r->n_segments == 1)
		meta_metrics(call);
	else if (health_handle(call))
		return;
	else if (str_is(r->segments[0], "openapi"))
		documents_openapi(call);
	else if (str_is(r->segments[0], "k3c-bpf"))
		meta_extra(call);
	else
		meta_not_found(call);
}

bool meta_handle(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (call->route.kind)
		return false;
	if (str_is(call->http->method, "GET") || str_is(call->http->method, "HEAD")) {
		meta_get(call);
		return true;
	}
	api_err_method_not_supported(&err);
	respond_err(call->http, &err);
	return true;
}
