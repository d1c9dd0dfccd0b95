/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of every request: route -> authentication -> authorization -> handler. See apiserver.h. */
#include "userspace/apiserver/apiserver.h"

#include <assert.h>
#include <errno.h>

#include "userspace/api/discovery.h"
#include "userspace/api/meta.h"
#include "userspace/api/openapi.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/metrics.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define APISERVER_LONG_BODY_BYTES 16384 /* beyond it the bytes count as work beside the seats */
#define APISERVER_BYTE_NS 1             /* to encrypt and send */

/* What is kept of a request from its coming to its end; in its arena. */
struct call_record {
	struct call call;
	struct priority_request turn;
	struct metrics_series *series;
	int64_t began_ns;
	bool ended;
};

static struct call_record *record_of(const struct http_request *http)
{
	return http->context;
}

struct audit_event *call_audit(const struct http_request *http)
{
	return http->context ? record_of(http)->call.audit : NULL;
}

/* 1: answered already. */
static int apiserver_admit(struct call *call, int route_result, struct err *err)
{
	struct err denied = ERR_INIT;
	int r = authn_request(call->as->authn, call->http, call->arena, &call->user);

	call->anonymous = r == 1;
	if (r >= 0)
		metrics_authenticated(call->as->metrics, call->user.name);
	else
		metrics_unauthenticated(call->as->metrics);
	/* Strangers are told apart by where they come from. */
	if (r == 0)
		http_request_set_owner(call->http, call->user.name);
	call->audit = audit_begin(call->as->audit, call, r >= 0);
	record_of(call->http)->call.audit = call->audit;
	authn_annotate(call->as->authn, call->audit);
	/* Who asks comes first: strangers do not learn which paths exist. */
	r = r < 0 ? api_err_unauthorized(&denied) : impersonate(call, &denied);
	if (r == 0) {
		r = authz_check(call, &denied);
		audit_authorized(call->audit, call, r == 0);
	}
	if (r > 0)
		return r;
	if (r < 0) {
		call->as->unauthorized++;
		err_move(err, &denied);
		return r;
	}
	return route_result;
}

static void apiserver_dispatch(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (!call_runs_as_asked(call)) {
		log_error("request not run: it is not what was authorized path=\"%.*s\"", STR_ARG(call->http->path));
		api_err_internal(&err, "the request is not what was authorized");
		respond_err(call->http, &err);
		return;
	}
	if (!meta_handle(call))
		resource_handle(call);
}

static void apiserver_run(struct priority_request *turn)
{
	struct call_record *record = container_of(turn, struct call_record, turn);
	bool watch = metrics_is_long_running(record->series);
	struct call call = record->call;

	apiserver_dispatch(&call);
	/* A watch holds its seats while it is told what is there; then it waits, which costs nothing. */
	if (watch)
		priority_leave(call.as->priority, turn);
	if (watch && call.audit && !record->ended)
		audit_started(call.audit, record->call.http->status);
}

static void apiserver_refuse(struct priority_request *turn)
{
	static const struct http_header headers[] = { { STR("retry-after"), STR("1") },
						      { STR("x-content-type-options"), STR("nosniff") } };
	struct call_record *record = container_of(turn, struct call_record, turn);

	http_respond(record->call.http, 429, "text/plain; charset=utf-8", headers, ARRAY_SIZE(headers),
		     STR("Too many requests, please try again later.\n"));
}

/* on_end does what is to be done. */
static void apiserver_waiter_gone(struct http_request *http)
{
}

static void apiserver_take_turn(struct call_record *record)
{
	struct http_request *http = record->call.http;
	struct priority_request *turn = &record->turn;
	struct authz_attributes attributes;
	enum priority_verdict verdict;

	call_attributes(&record->call, &attributes);
	turn->run = apiserver_run;
	turn->refuse = apiserver_refuse;
	verdict = priority_enter(record->call.as->priority, &attributes, call_seats(&record->call), turn);
	if (turn->level) {
		http->out_headers[http->n_out_headers++] =
			(struct http_header){ STR("X-Kubernetes-Pf-Flowschema-Uid"), str_of(turn->schema_uid) };
		http->out_headers[http->n_out_headers++] =
			(struct http_header){ STR("X-Kubernetes-Pf-Prioritylevel-Uid"), str_of(turn->level_uid) };
	}
	if (verdict == PRIORITY_RUN)
		priority_run(record->call.as->priority, turn);
	else if (verdict == PRIORITY_REFUSE)
		apiserver_refuse(turn);
	else
		http->on_close = apiserver_waiter_gone;
}

/* Streams of a pod may be open for ever and are no work of this server's: they neither wait nor hold seats. */
static bool apiserver_is_stream(const struct call *call)
{
	const struct api_subresource *sub = call->route.kind ? call->route.sub : NULL;

	return sub &&
	       (!strcmp(sub->name, "exec") || !strcmp(sub->name, "attach") || !strcmp(sub->name, "portforward") ||
		!strcmp(sub->name, "proxy") || (!strcmp(sub->name, "log") && query_bool(&call->query, "follow")));
}

static void apiserver_ended(void *arg, struct http_request *http)
{
	struct call_record *record = http->context;
	struct apiserver *as = arg;

	if (!record)
		return;
	record->ended = true;
	if (record->call.audit && metrics_is_long_running(record->series))
		audit_started(record->call.audit, http->status);
	audit_end(record->call.audit, http->status);
	if (http->body_bytes > APISERVER_LONG_BODY_BYTES)
		priority_charge(&record->turn, (int64_t)http->body_bytes * APISERVER_BYTE_NS);
	priority_leave(as->priority, &record->turn);
	metrics_end(as->metrics, record->series, http->status, http->body_bytes,
		    clock_monotonic_ns() - record->began_ns);
}

/* What path and query ask for: 0, or 400 or 404. */
static int apiserver_read(struct call *call, struct err *err)
{
	int r = route_parse(call->arena, call->http->path, &call->route, err);

	if (r == 0 && query_parse(call->arena, call->http->query, &call->query) < 0)
		r = api_err_bad_request(err, "invalid query");
	call_describe(call);
	return r;
}

/* A request that ends before it begins, of its body: it is recorded and counted as any other. Whom it impersonates is
 * not looked at, nor whether it would be allowed: nothing of it is run. */
static void apiserver_refused(void *arg, struct http_request *http, int status, const char *message)
{
	struct call call = { .as = arg, .http = http, .arena = http->arena };
	_cleanup_err_ struct err err = ERR_INIT;
	struct metrics_series *series;
	int r;

	apiserver_read(&call, NULL);
	series = call_series(&call);
	metrics_begin(call.as->metrics, series);
	if (call.as->audit) {
		r = authn_request(call.as->authn, http, call.arena, &call.user);
		call.audit = audit_begin(call.as->audit, &call, r >= 0);
		authn_annotate(call.as->authn, call.audit);
		respond_protocol_status(&err, status, message);
		if (status)
			audit_error(call.audit, &err);
		audit_end(call.audit, status);
	}
	metrics_end(call.as->metrics, series, status, 0, clock_monotonic_ns() - http->header_ns);
}

static void apiserver_handle(void *arg, struct http_request *http)
{
	struct call_record *record = arena_new(http->arena, struct call_record);
	struct call call = { .as = arg, .http = http, .arena = http->arena };
	_cleanup_err_ struct err err = ERR_INIT;
	int r = apiserver_read(&call, &err);

	record->began_ns = clock_monotonic_ns();
	record->series = call_series(&call);
	metrics_begin(call.as->metrics, record->series);
	http->context = record;
	r = apiserver_admit(&call, r, &err);
	if (r > 0)
		return;
	record->call = call;
	if (r < 0) {
		respond_err(http, &err);
		return;
	}
	if (apiserver_is_stream(&call))
		apiserver_dispatch(&call);
	else
		apiserver_take_turn(record);
}

static int apiserver_check_ping(void *arg, struct err *err)
{
	return 0;
}

static int apiserver_check_started(void *arg, struct err *err)
{
	const struct apiserver *as = arg;

	return as->ready ? 0 : err_set(err, -EAGAIN, "not everything has started yet");
}

static int apiserver_check_shutdown(void *arg, struct err *err)
{
	const struct apiserver *as = arg;

	return as->shutting_down ? err_set(err, -ESHUTDOWN, "process is shutting down") : 0;
}

static void apiserver_own_checks(struct apiserver *as)
{
	apiserver_add_check(as, &(struct apiserver_check){ .name = "ping", .fn = apiserver_check_ping });
	apiserver_add_check(as, &(struct apiserver_check){ "informer-sync", true, apiserver_check_started, as });
	apiserver_add_check(as, &(struct apiserver_check){ "shutdown", true, apiserver_check_shutdown, as });
}

int apiserver_create(struct loop *loop, struct registry *reg, const struct apiserver_options *options,
		     struct apiserver **ret, struct err *err)
{
	struct apiserver *as = mem_new(struct apiserver);
	struct http_server_options http = { .tls = options->tls,
					    .handler = apiserver_handle,
					    .on_protocol_error = respond_protocol_error,
					    .on_end = apiserver_ended,
					    .on_refused = apiserver_refused,
					    .arg = as };
	int r;

	as->loop = loop;
	as->reg = reg;
	as->tokens = options->tokens;
	as->audit = options->audit;
	as->advertise_address = mem_strdup(options->advertise_address);
	as->watch_backlog_bytes =
		options->watch_backlog_bytes ? options->watch_backlog_bytes : APISERVER_WATCH_BACKLOG_BYTES_DEFAULT;
	watch_init(as);
	apiserver_own_checks(as);
	metrics_create(&as->metrics);
	priority_create(loop, reg, &as->priority);
	r = authn_create(reg, options->tokens, &as->authn);
	if (r == 0)
		r = http_server_create(loop, &http, &as->http, err);
	if (r < 0) {
		apiserver_destroy(as);
		return r;
	}
	registry_set_token_issuer(reg, token_request_issue, as);
	*ret = as;
	return 0;
}

int apiserver_listen(struct apiserver *as, int fd, struct err *err)
{
	return http_server_add_listener(as->http, fd, err);
}

void apiserver_set_node(struct apiserver *as, const struct node_ops *node)
{
	as->node = *node;
	as->has_node = true;
}

void apiserver_set_ready(struct apiserver *as, bool ready)
{
	as->ready = ready;
}

void apiserver_set_advertise_address(struct apiserver *as, const char *address)
{
	free(as->advertise_address);
	as->advertise_address = mem_strdup(address);
}

void apiserver_set_tls(struct apiserver *as, struct tls_context *tls)
{
	http_server_set_tls(as->http, tls);
}

void apiserver_set_extra(struct apiserver *as, apiserver_extra_fn *fn, void *arg)
{
	as->extra = fn;
	as->extra_arg = arg;
}

void apiserver_add_check(struct apiserver *as, const struct apiserver_check *check)
{
	assert(as->n_checks < APISERVER_CHECKS_MAX);
	as->checks[as->n_checks++] = *check;
}

void apiserver_set_metrics(struct apiserver *as, apiserver_metrics_fn *fn, void *arg)
{
	as->more_metrics = fn;
	as->more_metrics_arg = arg;
}

void apiserver_shutdown(struct apiserver *as, int64_t grace_ns, void (*done)(void *arg), void *arg)
{
	as->shutting_down = true;
	http_server_shutdown(as->http, grace_ns, done, arg);
}

void apiserver_destroy(struct apiserver *as)
{
	if (!as)
		return;
	http_server_destroy(as->http);
	watch_finish(as);
	authn_destroy(as->authn);
	priority_destroy(as->priority);
	metrics_destroy(as->metrics);
	discovery_drop();
	openapi_drop();
	free(as->advertise_address);
	free(as);
}

void apiserver_get_stats(const struct apiserver *as, struct apiserver_stats *ret)
{
	struct http_server_stats http;

	http_server_get_stats(as->http, &http);
	*ret = (struct apiserver_stats){
		.requests = http.requests_total,
		.connections_total = http.connections_total,
		.connections = http.connections,
		.watches_ended_slow = as->watches_ended_slow,
		.unauthorized = as->unauthorized,
		.in_flight = as->in_flight,
		.watches = as->n_watches,
	};
}
