/* SPDX-License-Identifier: Apache-2.0 */
/* pods/proxy and services/proxy: the request, less what concerns this server, goes to a port of the pod, or of an
 * endpoint of the service that is ready, and its answer comes back whole. nodes/proxy is refused: the kubelet in this
 * process serves no port. See call.h. Loop thread. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/net/http_client.h"

#define PROXY_TIMEOUT_NS (60 * INT64_C(1000000000))
#define PROXY_BODY_BYTES_MAX (32 * 1024 * 1024) /* of an answer */
#define PROXY_PORT_DEFAULT 80

struct proxy {
	struct http_request *http; /* NULL: the client has gone */
	struct http_client *client;
};

/* "[scheme:]name[:port]" */
struct proxy_target {
	struct str scheme, name, port;
	const char *address; /* arena */
	int64_t number;
};

static void proxy_split(struct str s, struct proxy_target *ret)
{
	struct str first, second;

	*ret = (struct proxy_target){ .scheme = STR("http") };
	if (!str_split(&s, ':', &first))
		return;
	if (!str_split(&s, ':', &second)) {
		ret->name = first;
	} else if (!s.n && !str_is(first, "http") && !str_is(first, "https")) {
		ret->name = first;
		ret->port = second;
	} else {
		ret->scheme = first;
		ret->name = second;
		ret->port = s;
	}
}

static int proxy_pod(struct call *call, struct proxy_target *t, struct err *err)
{
	const struct object *o = registry_get(call->as->reg, KIND_POD, call->route.ns, t->name);
	struct json *pod;
	struct str ip;

	if (!o)
		return api_err_not_found(err, KIND_POD, t->name);
	pod = registry_parse(call->arena, o);
	ip = json_at_str(pod, "status.podIP");
	if (!ip.n)
		return api_err_bad_request(err, "address not allowed");
	t->address = arena_strndup(call->arena, ip.p, ip.n);
	t->number = PROXY_PORT_DEFAULT;
	if (t->port.n)
		return str_to_int64(t->port, &t->number) < 0
			       ? api_err_bad_request(err, "invalid port \"%.*s\"", STR_ARG(t->port))
			       : 0;
	json_foreach(c, json_at(pod, "spec.containers")) {
		const struct json *ports = json_get(c, "ports");

		if (!json_count(ports))
			continue;
		t->number = json_get_int(json_first(ports), "containerPort", PROXY_PORT_DEFAULT);
		break;
	}
	return 0;
}

static int proxy_node(struct call *call, const struct proxy_target *t, struct err *err)
{
	if (!registry_get(call->as->reg, KIND_NODE, STR_NULL, t->name))
		return api_err_not_found(err, KIND_NODE, t->name);
	return api_err_unavailable(err, "the kubelet of node \"%.*s\" serves no port of its own", STR_ARG(t->name));
}

struct proxy_search {
	struct call *call;
	struct proxy_target *target;
	struct str port_name; /* of the service's port */
	unsigned seen;
};

/* Each ready endpoint is as likely as the others. */
static void proxy_look_at_slice(void *arg, const struct object *o)
{
	struct proxy_search *s = arg;
	struct json *slice;

	if (!str_eq(object_label(o, STR("kubernetes.io/service-name")), s->target->name))
		return;
	slice = registry_parse(s->call->arena, o);
	json_foreach(port, json_get(slice, "ports")) {
		if (!str_eq(json_get_str(port, "name"), s->port_name))
			continue;
		json_foreach(e, json_get(slice, "endpoints")) {
			struct str address = json_str(json_first(json_get(e, "addresses")));
			uint32_t chance;

			if (!json_get_bool(json_get(e, "conditions"), "ready", true) || !address.n)
				continue;
			random_bytes(&chance, sizeof(chance));
			if (chance % ++s->seen)
				continue;
			s->target->address = arena_strndup(s->call->arena, address.p, address.n);
			s->target->number = json_get_int(port, "port", PROXY_PORT_DEFAULT);
		}
	}
}

static const struct json *proxy_service_port(const struct json *service, struct str wanted)
{
	const struct json *ports = json_at(service, "spec.ports");
	int64_t number;

	if (!wanted.n)
		return json_count(ports) == 1 ? json_first(ports) : NULL;
	json_foreach(p, ports)
		if (str_eq(json_get_str(p, "name"), wanted) ||
		    (str_to_int64(wanted, &number) == 0 && json_get_int(p, "port", 0) == number))
			return p;
	return NULL;
}

static int proxy_service(struct call *call, struct proxy_target *t, struct err *err)
{
	const struct object *o = registry_get(call->as->reg, KIND_SERVICE, call->route.ns, t->name);
	struct proxy_search s = { .call = call, .target = t };
	const struct json *port;

	if (!o)
		return api_err_not_found(err, KIND_SERVICE, t->name);
	port = proxy_service_port(registry_parse(call->arena, o), t->port);
	if (!port)
		return api_err_unavailable(err, "no service port \"%.*s\" found for service \"%.*s\"", STR_ARG(t->port),
					   STR_ARG(t->name));
	s.port_name = json_get_str(port, "name");
	registry_each(call->as->reg, KIND_ENDPOINTSLICE, call->route.ns, proxy_look_at_slice, &s);
	if (!t->address)
		return api_err_unavailable(err, "no endpoints available for service \"%.*s\"", STR_ARG(t->name));
	return 0;
}

/* What stands behind ".../proxy" on the wire, with the query; at least "/". */
static struct str proxy_path(struct call *call)
{
	size_t skip = call->route.kind->namespaced ? 7 : 5;
	struct str rest = call->http->path, part;

	while (skip && str_split(&rest, '/', &part))
		skip -= part.n > 0;
	return str_of(arena_printf(call->arena, "/%.*s%s%.*s", STR_ARG(rest), call->http->query.n ? "?" : "",
				   STR_ARG(call->http->query)));
}

/* Those of one connection, and those that concern this server alone. */
static bool proxy_drops(struct str name)
{
	static const char *const names[] = {
		"connection", "keep-alive",       "transfer-encoding", "content-length", "upgrade", "te",
		"trailer",    "proxy-connection", "authorization",     "host",           "expect"
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_is(name, names[i]))
			return true;
	return str_starts(name, STR("impersonate-")) || (name.n && name.p[0] == ':');
}

static struct http_header *proxy_headers(struct arena *arena, const struct http_header *headers, size_t n, size_t *ret)
{
	struct http_header *out = arena_new_array(arena, struct http_header, n + 1);

	*ret = 0;
	for (size_t i = 0; i < n; i++)
		if (!proxy_drops(headers[i].name) && !str_is(headers[i].name, "content-type"))
			out[(*ret)++] = headers[i];
	return out;
}

static void proxy_done(void *arg, const struct http_client_response *response, const struct err *why)
{
	struct proxy *p = arg;
	_cleanup_err_ struct err err = ERR_INIT;
	struct http_header *headers;
	const char *type = NULL;
	size_t n;

	p->http->on_close = NULL;
	if (!response || response->body_cut) {
		api_err_unavailable(&err, "error trying to reach service: %s",
				    response ? "the answer is too large" : err_message(why));
		respond_err(p->http, &err);
	} else {
		headers = proxy_headers(p->http->arena, response->headers, response->n_headers, &n);
		for (size_t i = 0; i < response->n_headers; i++)
			if (str_is(response->headers[i].name, "content-type"))
				type = arena_strndup(p->http->arena, response->headers[i].value.p,
						     response->headers[i].value.n);
		http_respond(p->http, response->status, type, headers, n, response->body);
	}
	free(p);
}

static void proxy_client_gone(struct http_request *http)
{
	struct proxy *p = http->user;

	http_client_destroy(p->client);
	free(p);
}

/* Nobody who may write a status reaches what listens for this host alone. */
static int proxy_check_address(const struct proxy_target *t, struct err *err)
{
	struct names_ip ip;

	if (names_parse_ip(str_of(t->address), &ip) < 0 || names_ip_is_loopback(&ip) || names_ip_is_unspecified(&ip) ||
	    names_ip_is_link_local(&ip))
		return api_err_bad_request(err, "address not allowed");
	return 0;
}

static int proxy_start(struct call *call, const struct proxy_target *t, struct err *err)
{
	struct http_client_options options = { .address = t->address,
					       .port = (uint16_t)t->number,
					       .method = arena_strndup(call->arena, call->http->method.p,
								       call->http->method.n),
					       .path = proxy_path(call),
					       .timeout_ns = PROXY_TIMEOUT_NS,
					       .body = call->http->body,
					       .body_bytes_max = PROXY_BODY_BYTES_MAX };
	struct http_header *headers =
		proxy_headers(call->arena, call->http->headers, call->http->n_headers, &options.n_headers);
	struct str type = http_request_header(call->http, "content-type");
	struct proxy *p;
	int r;

	if (type.n)
		headers[options.n_headers++] = (struct http_header){ STR("content-type"), type };
	options.headers = headers;
	p = mem_new(struct proxy);
	p->http = call->http;
	r = http_client_start(call->as->loop, &options, proxy_done, p, &p->client, err);
	if (r < 0) {
		free(p);
		return r;
	}
	call->http->user = p;
	call->http->on_close = proxy_client_gone;
	return 0;
}

void proxy_handle(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct proxy_target t;
	int r;

	proxy_split(call->route.name, &t);
	if (call->route.kind == KIND_NODE)
		r = proxy_node(call, &t, &err);
	else if (!str_is(t.scheme, "http") && t.scheme.n)
		r = api_err_bad_request(&err, "scheme \"%.*s\" is not supported", STR_ARG(t.scheme));
	else
		r = call->route.kind == KIND_POD ? proxy_pod(call, &t, &err) : proxy_service(call, &t, &err);
	if (r == 0 && (t.number < 1 || t.number > UINT16_MAX))
		r = api_err_bad_request(&err, "invalid port %lld", (long long)t.number);
	if (r == 0)
		r = proxy_check_address(&t, &err);
	if (r == 0)
		r = proxy_start(call, &t, &err);
	if (r < 0)
		respond_err(call->http, &err);
}
