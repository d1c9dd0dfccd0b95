/* SPDX-License-Identifier: Apache-2.0 */
/* One http, tcp or exec action, once; also lifecycle hooks. See probe.h. Loop thread. */
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "kubelet/probes/probe.h"
#include "kubelet/runtime/runtime.h"
#include "userspace/api/intstr.h"
#include "userspace/api/names.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http_client.h"
#include "userspace/net/tls.h"

struct action_run {
	struct loop *loop;
	const struct probe_action *action;
	action_done_fn *done; /* NULL: cancelled */
	void *arg;
	int64_t timeout_ns;
	struct http_client *http;
	struct tcp_check *tcp;
	struct loop_timer timer; /* ACTION_SLEEP; and errors that are known at once */
	struct err early;
	bool starting;
	char address[NAMES_ADDRESS_MAX + 210]; /* what is spoken to, for messages */
};

/* ---- parsing ---- */

static char *text(struct arena *arena, struct str s, const char *otherwise)
{
	return s.n ? arena_strndup(arena, s.p, s.n) : arena_strdup(arena, otherwise);
}

static int parse_port(const struct json *v, const struct json *container, uint16_t *ret, struct err *err)
{
	int r = intstr_port(v, json_get(container, "ports"), STR_NULL, ret);

	return r < 0 ? err_set(err, r, "port of the probe not found") : 0;
}

static int parse_http(struct arena *arena, const struct json *http, const struct json *container,
		      struct probe_action *a, struct err *err)
{
	const struct json *headers = json_get(http, "httpHeaders");

	a->type = ACTION_HTTP;
	a->host = text(arena, json_get_str(http, "host"), "");
	a->path = text(arena, json_get_str(http, "path"), "/");
	a->scheme = text(arena, json_get_str(http, "scheme"), "HTTP");
	if (a->path[0] != '/')
		a->path = arena_printf(arena, "/%s", a->path);
	a->headers = arena_new_array(arena, struct probe_header, json_count(headers) + 1);
	json_foreach(h, headers) {
		struct probe_header *to = &a->headers[a->n_headers++];

		to->name = text(arena, json_get_str(h, "name"), "");
		to->value = text(arena, json_get_str(h, "value"), "");
	}
	return parse_port(json_get(http, "port"), container, &a->port, err);
}

int probe_action_parse(struct arena *arena, const struct json *handler, const struct json *container,
		       struct probe_action *ret, struct err *err)
{
	struct probe_action a = { .type = ACTION_NONE };
	const struct json *h;
	int r = 0;

	if ((h = json_get(handler, "exec"))) {
		size_t i = 0;

		a.type = ACTION_EXEC;
		a.argv = arena_new_array(arena, char *, json_count(json_get(h, "command")) + 1);
		json_foreach(word, json_get(h, "command"))
			a.argv[i++] = text(arena, json_str(word), "");
	} else if ((h = json_get(handler, "httpGet"))) {
		r = parse_http(arena, h, container, &a, err);
	} else if ((h = json_get(handler, "tcpSocket"))) {
		a.type = ACTION_TCP;
		a.host = text(arena, json_get_str(h, "host"), "");
		r = parse_port(json_get(h, "port"), container, &a.port, err);
	} else if ((h = json_get(handler, "sleep"))) {
		a.type = ACTION_SLEEP;
		a.sleep_s = json_get_int(h, "seconds", 0);
	} else {
		return err_set(err, -EOPNOTSUPP, "missing or unsupported handler");
	}
	if (r < 0)
		return r;
	*ret = a;
	return 0;
}

/* ---- running ---- */

static void finish(struct action_run *run, enum probe_result result, struct str output)
{
	action_done_fn *done = run->done;
	void *arg = run->arg;

	loop_timer_cancel(run->loop, &run->timer);
	err_finish(&run->early);
	free(run);
	if (done)
		done(arg, result, output);
}

static void exec_done(void *arg, int exit_code, struct str output, const struct err *err)
{
	struct action_run *run = arg;
	_cleanup_free_ char *message = NULL;

	if (run->starting && err) {
		err_copy(&run->early, err);
		loop_timer_arm(run->loop, &run->timer, 1);
	} else if (!run->done) {
		finish(run, PROBE_UNKNOWN, STR_NULL);
	} else if (err && err->code == -ETIMEDOUT) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct str line = str_make("", 0);

		for (char **a = run->action->argv; *a; a++)
			line = str_of(arena_printf(&arena, "%.*s%s%s", STR_ARG(line), line.n ? " " : "", *a));
		message = mem_printf("command timed out: \"%.*s\" timed out after %llds", STR_ARG(line),
				     (long long)(run->timeout_ns / NS_PER_S));
		finish(run, PROBE_FAILURE, str_of(message));
	} else if (err) {
		message = mem_strdup(err_message(err));
		finish(run, PROBE_UNKNOWN, str_of(message));
	} else if (exit_code != 0 && !output.n) {
		message = mem_printf("command terminated with exit code %d", exit_code);
		finish(run, PROBE_FAILURE, str_of(message));
	} else {
		finish(run, exit_code == 0 ? PROBE_SUCCESS : PROBE_FAILURE, output);
	}
}

static void url_of(const struct action_run *run, char *buf, size_t size)
{
	const struct probe_action *a = run->action;
	bool v6 = strchr(run->address, ':') != NULL, tls = strcasecmp(a->scheme, "HTTPS") == 0;

	snprintf(buf, size, "%s://%s%s%s:%u%s", tls ? "https" : "http", v6 ? "[" : "", run->address, v6 ? "]" : "",
		 a->port, a->path);
}

static void http_done(void *arg, const struct http_client_response *res, const struct err *err)
{
	struct action_run *run = arg;
	char message[PROBE_OUTPUT_MAX], url[512];

	run->http = NULL;
	if (err) {
		url_of(run, url, sizeof(url));
		snprintf(message, sizeof(message), "Get \"%s\": %s", url,
			 err->code == -ETIMEDOUT
				 ? "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
				 : err_message(err));
		finish(run, PROBE_FAILURE, str_of(message));
	} else if (res->status >= 200 && res->status < 400) {
		finish(run, PROBE_SUCCESS, STR_NULL);
	} else {
		snprintf(message, sizeof(message), "HTTP probe failed with statuscode: %d", res->status);
		finish(run, PROBE_FAILURE, str_of(message));
	}
}

static void tcp_done(void *arg, int result)
{
	struct action_run *run = arg;
	char message[512];

	run->tcp = NULL;
	if (result == 0) {
		finish(run, PROBE_SUCCESS, STR_NULL);
		return;
	}
	snprintf(message, sizeof(message), strchr(run->address, ':') ? "dial tcp [%s]:%u: %s" : "dial tcp %s:%u: %s",
		 run->address, run->action->port,
		 result == -ETIMEDOUT      ? "i/o timeout"
		 : result == -ECONNREFUSED ? "connect: connection refused"
					   : strerror(-result));
	finish(run, PROBE_FAILURE, str_of(message));
}

static void timer_fired(struct loop_timer *timer)
{
	struct action_run *run = container_of(timer, struct action_run, timer);
	_cleanup_free_ char *message = NULL;

	if (run->action->type == ACTION_SLEEP) {
		finish(run, PROBE_SUCCESS, STR_NULL);
		return;
	}
	message = mem_strdup(err_message(&run->early));
	finish(run, PROBE_UNKNOWN, str_of(message));
}

/* One client context, unverified as upstream's probes are, for the life of the process. */
static struct tls_context *probe_tls(struct err *err)
{
	static struct tls_context *tls;

	if (!tls && tls_client_create(&(struct tls_client_options){ .insecure = true }, &tls, err) < 0)
		return NULL;
	return tls;
}

static int start_http(struct action_run *run)
{
	const struct probe_action *a = run->action;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http_header *headers = arena_new_array(&arena, struct http_header, a->n_headers + 1);
	struct http_client_options o = { .address = run->address,
					 .port = a->port,
					 .path = str_of(a->path),
					 .headers = headers,
					 .timeout_ns = run->timeout_ns,
					 .follow_redirects = true };
	bool agent = false;

	for (size_t i = 0; i < a->n_headers; i++) {
		headers[o.n_headers++] = (struct http_header){ .name = str_of(a->headers[i].name),
							       .value = str_of(a->headers[i].value) };
		agent = agent || strcasecmp(a->headers[i].name, "user-agent") == 0;
	}
	if (!agent)
		headers[o.n_headers++] =
			(struct http_header){ .name = STR("user-agent"), .value = STR("kube-probe/1.36") };
	if (strcasecmp(a->scheme, "HTTPS") == 0) {
		o.tls = probe_tls(&run->early);
		if (!o.tls)
			return -EIO;
	}
	return http_client_start(run->loop, &o, http_done, run, &run->http, &run->early);
}

static int start_network(struct action_run *run, const char *pod_ip)
{
	snprintf(run->address, sizeof(run->address), "%s", run->action->host[0] ? run->action->host : pod_ip);
	if (run->action->type == ACTION_HTTP)
		return start_http(run);
	return tcp_check_start(run->loop, run->address, run->action->port, run->timeout_ns, tcp_done, run, &run->tcp,
			       &run->early);
}

struct action_run *action_start(struct loop *loop, struct runtime *rt, const char *container_id, const char *pod_ip,
				const struct probe_action *action, int64_t timeout_ns, action_done_fn *done, void *arg)
{
	struct action_run *run = mem_new(struct action_run);
	int r = 0;

	run->starting = true;
	run->loop = loop;
	run->action = action;
	run->done = done;
	run->arg = arg;
	run->timeout_ns = timeout_ns;
	loop_timer_init(&run->timer, timer_fired);
	if (action->type == ACTION_SLEEP)
		loop_timer_arm(loop, &run->timer, action->sleep_s * NS_PER_S + 1);
	else if (action->type == ACTION_EXEC)
		runtime_exec_sync(rt, container_id, (const char *const *)action->argv, timeout_ns, exec_done, run);
	else
		r = start_network(run, pod_ip);
	if (r < 0) /* tell from the loop, not from within the call */
		loop_timer_arm(loop, &run->timer, 1);
	run->starting = false;
	return run;
}

void action_cancel(struct action_run *run)
{
	if (!run)
		return;
	run->done = NULL;
	if (run->action->type == ACTION_EXEC && !loop_timer_armed(&run->timer))
		return; /* exec_done() will free it, and no longer looks at the action */
	if (run->http)
		http_client_destroy(run->http);
	if (run->tcp)
		tcp_check_destroy(run->tcp);
	finish(run, PROBE_UNKNOWN, STR_NULL);
}
