/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that are no resources: health, version, discovery, OpenAPI, and the node's own status. */
#include <errno.h>
#include <sys/utsname.h>

#include "userspace/api/discovery.h"
#include "userspace/api/meta.h"
#include "userspace/api/openapi.h"
#include "userspace/apiserver/call.h"

#define META_KUBERNETES_VERSION "v1.36.0+k3c-bpf." K3C_VERSION

static void meta_text(struct call *call, int status, const char *text)
{
	http_respond(call->http, status, "text/plain; charset=utf-8", NULL, 0, str_of(text));
}

/* Takes the chunk; NULL: 404. */
static void meta_chunk(struct call *call, struct chunk *body, const char *type, const char *etag)
{
	struct http_header headers[] = { { STR("etag"), STR_NULL }, { STR("vary"), STR("Accept") } };
	_cleanup_err_ struct err err = ERR_INIT;
	struct str known = http_request_header(call->http, "if-none-match");

	if (!body) {
		api_err_no_resource(&err);
		respond_err(call->http, &err);
		return;
	}
	headers[0].value = str_of(etag);
	if (etag && str_eq(known, headers[0].value))
		http_respond(call->http, 304, NULL, headers, 2, STR_NULL);
	else
		http_respond_chunk(call->http, 200, type, etag ? headers : NULL, etag ? 2 : 0, body);
	chunk_unref(body);
}

static void meta_version(struct call *call)
{
	struct utsname host;
	const char *machine;

	uname(&host);
	machine = strcmp(host.machine, "x86_64") == 0    ? "amd64"
		  : strcmp(host.machine, "aarch64") == 0 ? "arm64"
							 : host.machine;
	respond_json(call->http, 200,
		     str_of(arena_printf(
			     call->arena,
			     "{\"major\":\"1\",\"minor\":\"36\",\"gitVersion\":\"" META_KUBERNETES_VERSION
			     "\",\"gitCommit\":\"\",\"gitTreeState\":\"clean\",\"buildDate\":\"1970-01-01T00:00:00Z\","
			     "\"goVersion\":\"none\",\"compiler\":\"" __VERSION__ "\",\"platform\":\"linux/%s\"}",
			     machine)));
}

static void meta_health(struct call *call)
{
	bool ready = !str_is(call->route.segments[0], "readyz") || call->as->ready;
	bool verbose = query_has(&call->query, "verbose");

	if (verbose)
		meta_text(call, ready ? 200 : 500,
			  arena_printf(call->arena, "[+]ping ok\n[+]datastore ok\n%s\n%.*s check %s\n",
				       ready ? "[+]startup ok" : "[-]startup failed: reason withheld",
				       STR_ARG(call->route.segments[0]), ready ? "passed" : "failed"));
	else
		meta_text(call, ready ? 200 : 500,
			  ready ? "ok" : "[-]startup failed: reason withheld\nreadyz check failed\n");
}

static void meta_discovery(struct call *call, bool legacy)
{
	const struct route *r = &call->route;
	struct str accept = http_request_header(call->http, "accept");
	char etag[DISCOVERY_ETAG_MAX];
	enum discovery_aggregated form;

	if (r->n_segments == 1 && discovery_wants_aggregated(accept, &form)) {
		struct chunk *body = discovery_aggregated(form, legacy, etag);

		meta_chunk(call, body, discovery_aggregated_type(form), etag);
	} else if (legacy) {
		meta_chunk(call,
			   r->n_segments == 1 ? discovery_api_versions(str_of(call->as->advertise_address))
					      : discovery_resources(STR(""), r->segments[1]),
			   "application/json", NULL);
	} else if (r->n_segments == 1) {
		meta_chunk(call, discovery_groups(), "application/json", NULL);
	} else if (r->n_segments == 2) {
		meta_chunk(call, discovery_group(r->segments[1]), "application/json", NULL);
	} else {
		meta_chunk(call, discovery_resources(r->segments[1], r->segments[2]), "application/json", NULL);
	}
}

static bool meta_wants(struct str accept, struct str type)
{
	struct str part, name;

	while (str_split(&accept, ',', &part))
		if (str_split(&part, ';', &name) && str_eq(str_trim(name), type))
			return true;
	return false;
}

static void meta_openapi(struct call *call)
{
	struct str accept = http_request_header(call->http, "accept"), path;
	const struct route *r = &call->route;
	char hash[OPENAPI_HASH_MAX];
	struct chunk *body;

	if (r->n_segments >= 2 && str_is(r->segments[1], "v2")) {
		bool protobuf = meta_wants(accept, STR("application/com.github.proto-openapi.spec.v2@v1.0+protobuf")) &&
				!meta_wants(accept, STR("application/json"));

		body = protobuf ? openapi_v2_protobuf(hash) : openapi_v2(hash);
		meta_chunk(call, body, protobuf ? OPENAPI_V2_PROTOBUF_TYPE : "application/json",
			   body ? arena_printf(call->arena, "\"%s\"", hash) : NULL);
	} else if (r->n_segments == 2 && str_is(r->segments[1], "v3")) {
		meta_chunk(call, openapi_v3_index(), "application/json", NULL);
	} else if (r->n_segments > 2 && str_is(r->segments[1], "v3") && r->path.n > 12) {
		path = str_make(r->path.p + 12, r->path.n - 12);
		body = openapi_v3(path, hash);
		meta_chunk(call, body, "application/json", body ? arena_printf(call->arena, "\"%s\"", hash) : NULL);
	} else {
		meta_chunk(call, NULL, NULL, NULL);
	}
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
	respond_json(call->http, 200,
		     STR("{\"paths\":[\"/api\",\"/api/v1\",\"/apis\",\"/healthz\",\"/livez\",\"/openapi/v2\","
			 "\"/openapi/v3\",\"/readyz\",\"/version\"]}"));
}

/* All checks, or one by its name. */
static bool meta_is_health(const struct route *r)
{
	struct str what = r->segments[0], check = r->segments[1];

	if (!str_is(what, "livez") && !str_is(what, "readyz") && !str_is(what, "healthz"))
		return false;
	return r->n_segments == 1 || (r->n_segments == 2 && (str_is(check, "ping") || str_is(check, "datastore") ||
							     str_is(check, "etcd") || str_is(check, "startup")));
}

static void meta_get(struct call *call)
{
	const struct route *r = &call->route;

	if (r->n_segments == 0)
		meta_index(call);
	else if (str_is(r->segments[0], "api") && r->n_segments <= 2)
		meta_discovery(call, true);
	else if (str_is(r->segments[0], "apis") && r->n_segments <= 3)
		meta_discovery(call, false);
	else if (str_is(r->segments[0], "version") && r->n_segments == 1)
		meta_version(call);
	else if (meta_is_health(r))
		meta_health(call);
	else if (str_is(r->segments[0], "openapi"))
		meta_openapi(call);
	else if (str_is(r->segments[0], "k3c-bpf"))
		meta_extra(call);
	else
		meta_chunk(call, NULL, NULL, NULL);
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
