/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its way through the API server, and the helpers its handlers share. Inside the room only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/api/table.h"
#include "userspace/apiserver/apiserver.h"
#include "userspace/apiserver/audit.h"
#include "userspace/base/list.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http.h"
#include "userspace/registry/authz.h"
#include "userspace/registry/registry.h"
#include "userspace/registry/request.h"

#define CALL_GROUPS_MAX 64

struct authn;

struct apiserver {
	struct loop *loop;
	struct registry *reg;
	struct http_server *http;
	struct authn *authn;
	const struct token_keys *tokens;
	struct audit *audit; /* NULL: nothing is recorded */
	char *advertise_address;
	size_t watch_backlog_bytes;
	struct node_ops node;
	bool has_node, ready;
	apiserver_extra_fn *extra;
	void *extra_arg;
	struct list watches; /* struct watch, by link */
	struct loop_timer bookmark_timer;
	unsigned in_flight, n_watches;
	struct priority *priority;
	struct metrics *metrics;
	struct apiserver_check checks[APISERVER_CHECKS_MAX];
	size_t n_checks;
	bool shutting_down;
	int64_t list_turn_ns; /* the turn in which a long list went on */
	apiserver_metrics_fn *more_metrics;
	void *more_metrics_arg;
	uint64_t watches_ended_slow, unauthorized;
};

/* ---- route.c: what the path and the query ask for ---- */

struct query_param {
	struct str key, value; /* decoded */
};

#define QUERY_PARAMS_MAX 256

struct query {
	struct query_param *params;
	size_t n;
};

/* In the arena. -EINVAL on bad escapes or too many parameters. */
int query_parse(struct arena *arena, struct str raw, struct query *ret);
/* First value; n = 0 when absent. */
struct str query_get(const struct query *q, const char *key);
bool query_has(const struct query *q, const char *key);
/* "1", "true", "t", "" after a bare key: true (as Go's conversion does). */
bool query_bool(const struct query *q, const char *key);
/* -EINVAL with 400 when it is no integer; `otherwise` when absent. */
int query_int(const struct query *q, const char *key, int64_t otherwise, int64_t *ret, struct err *err);

#define ROUTE_SEGMENTS_MAX 16

struct route {
	struct str path; /* decoded */
	struct str segments[ROUTE_SEGMENTS_MAX];
	size_t n_segments;
	/* A resource path: */
	const struct api_kind *kind;       /* NULL: none */
	const struct api_subresource *sub; /* NULL: the object itself */
	struct str ns, name;
	bool watch_prefix; /* deprecated /watch/ form */
};

/* 0; -ENOENT: unknown resource below a group version (404); -EINVAL: bad escapes (400). */
int route_parse(struct arena *arena, struct str raw_path, struct route *ret, struct err *err);

/* ---- negotiate.c: Accept ---- */

enum negotiate_form { NEGOTIATE_OBJECT, NEGOTIATE_TABLE, NEGOTIATE_PARTIAL, NEGOTIATE_PARTIAL_LIST };

struct negotiated {
	enum negotiate_form form;
	bool v1beta1;
	bool pretty;
	bool yaml;
	bool protobuf; /* never a Table */
};

/* The first form of the Accept header that can be served; 406 otherwise. */
int negotiate_accept(struct str accept, struct negotiated *ret, struct err *err);

/* ---- the call ---- */

struct call {
	struct apiserver *as;
	struct http_request *http; /* NULL: the client has gone */
	struct arena *arena;       /* the request's own; valid while http is, and to the end of the running callback */
	struct route route;
	struct query query;
	struct authz_attributes asks; /* but for the user */
	unsigned verb;                /* enum api_verb that runs when `asks` is allowed; 0: none does */
	struct negotiated accept;
	struct request_user user;
	const struct request_user *requestor; /* who impersonates `user`; NULL: nobody does */
	bool anonymous;
	struct audit_event *audit; /* NULL: not recorded */
};

/* ---- call.c: what it asks for, what it counts as ---- */

struct metrics_series;

/* Fills call->asks and call->verb from method, route and query. */
void call_describe(struct call *call);
/* The invariant: what was authorized is what runs. Authorization judges call->asks, handlers take call->verb and
 * call->route, and neither looks at the method again to find out what is meant. Asked before anything runs; false is a
 * mistake of this program's, and then nothing does. */
bool call_runs_as_asked(const struct call *call);
/* What the request asks for, by whoever it is by now; borrowed from the call. */
void call_attributes(const struct call *call, struct authz_attributes *ret);
bool call_is_read(const struct call *call);
bool call_is_watch(const struct call *call);
struct metrics_series *call_series(const struct call *call);
/* How wide it is for fairness: 1 but for what goes through many objects. */
unsigned call_seats(const struct call *call);

/* ---- list_options.c ---- */

/* 0, or 400 or 422: what the query says of a list or watch contradicts itself. */
int list_options_check(const struct call *call, bool watch, struct err *err);

/* The event of a request whose call is not at hand. */
struct audit_event *call_audit(const struct http_request *http);

/* ---- respond.c ---- */

void respond_json(struct http_request *http, int status, struct str body);
/* A Status in the form that the request accepts. */
void respond_err(struct http_request *http, const struct err *err);
/* The same of a request that reached the registry: with the warnings of its result (NULL: none). */
void respond_refusal(struct call *call, const struct request_result *said, const struct err *err);
/* A registry result in the form that was negotiated. */
void respond_result(struct call *call, const struct request_result *result);
/* What the HTTP layer refuses, as an error of the API. */
void respond_protocol_status(struct err *err, int status, const char *message);
void respond_protocol_error(void *arg, struct arena *arena, int status, const char *message,
			    struct str *ret_content_type, struct str *ret_body);

/* ---- handlers: each ends call->http, now or later ---- */

void resource_handle(struct call *call);
void watch_handle(struct call *call, const struct api_kind *kind, struct str name);
void log_handle(struct call *call);
void exec_handle(struct call *call);
void proxy_handle(struct call *call);
/* True when the path was one of these and the request is ended. */
bool meta_handle(struct call *call);
/* documents.c: discovery and OpenAPI */
void documents_discovery(struct call *call, bool legacy); /* /api and below, else /apis */
void documents_openapi(struct call *call);
/* The same for /livez, /readyz, /healthz and what is below them. */
bool health_handle(struct call *call);
/* The same for reviews (kinds that are asked, not stored). */
bool review_handle(struct call *call, const struct request *q);

/* watch.c */
void watch_init(struct apiserver *as);
void watch_finish(struct apiserver *as);

/* ---- authn.c ---- */

int authn_create(struct registry *reg, const struct token_keys *tokens, struct authn **ret);
void authn_destroy(struct authn *authn);
/* Who asks. 1: anonymous (no credentials given); 0: `ret` is filled (arena); -EPERM: bad credentials. */
int authn_request(struct authn *authn, const struct http_request *http, struct arena *arena, struct request_user *ret);

/* After authn_request(): what is to be remembered about the credential. */
void authn_annotate(const struct authn *authn, struct audit_event *event);
/* Whose token it is; `audience` empty: the API server's own. -EPERM. */
int authn_token(struct authn *authn, struct str token, struct str audience, struct arena *arena,
		struct request_user *ret, struct err *err);

/* ---- token_request.c, oidc.c ---- */

/* A registry_token_fn; `arg`: the apiserver. */
int token_request_issue(void *arg, const struct registry_token_request *request, struct str *ret_token,
			int64_t *ret_expires_real_ns, struct err *err);
/* True when the path was one of its own and the request is ended. */
bool oidc_handle(struct call *call);

/* ---- authz.c ---- */

/* 0, or 403 in err. */
int authz_check(const struct call *call, struct err *err);

/* ---- impersonate.c ---- */

/* call->user becomes whom the headers name, if who asks may do that: 0, 403 in err; 1: answered already. */
int impersonate(struct call *call, struct err *err);
