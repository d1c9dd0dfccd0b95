/* SPDX-License-Identifier: Apache-2.0 */
/* See metrics.h. */
#include "userspace/apiserver/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/histogram.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define TABLE_SIZE (METRICS_SERIES_MAX * 2)
#define KINDS_MAX 1024 /* of watch_events */

static const double second_limits[] = { 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1,  1.25, 1.5, 2,
					3,     4,     5,    6,   8,   10,  15,  20,  30, 45,   60 };
static const double size_limits[] = { 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000 };
static const struct histogram_scale seconds = { second_limits, ARRAY_SIZE(second_limits) };
static const struct histogram_scale sizes = { size_limits, ARRAY_SIZE(size_limits) };

static const char *const verb_names[] = { "OTHER",  "GET",   "LIST",  "WATCH",  "POST",
					  "PUT",    "PATCH", "APPLY", "DELETE", "DELETECOLLECTION",
					  "CONNECT" };
static const char *const scope_names[] = { "", "cluster", "namespace", "resource" };

/* Upstream's own names; others are "email_id" or "other". */
static const char *const user_names[] = { "admin",   "client",   "kube_proxy",
					  "kubelet", "email_id", "system:serviceaccount:kube-system:default",
					  "other" };
enum { USER_EMAIL = 4, USER_OTHER = 6 };

struct metrics_series {
	enum metrics_verb verb;
	const struct api_kind *kind;
	const char *subresource;
	enum metrics_scope scope;
	bool dry_run;
	unsigned now; /* running */
	struct {
		int code;
		uint64_t n;
	} codes[METRICS_CODES_MAX];
	uint64_t times[ARRAY_SIZE(second_limits) + 1], bytes[ARRAY_SIZE(size_limits) + 1];
	uint64_t sum_ns, sum_bytes;
};

struct metrics_events {
	const struct api_kind *kind;
	uint64_t n;
};

struct metrics {
	struct metrics_series *table[TABLE_SIZE];
	unsigned n;
	struct metrics_series other;
	struct metrics_events *events[KINDS_MAX];
	unsigned n_events;
	uint64_t lost_events;
	unsigned reading, writing; /* in flight */
	uint64_t users[ARRAY_SIZE(user_names)], unauthenticated;
};

void metrics_create(struct metrics **ret)
{
	*ret = mem_new(struct metrics);
}

void metrics_destroy(struct metrics *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < TABLE_SIZE; i++)
		free(m->table[i]);
	for (size_t i = 0; i < m->n_events; i++)
		free(m->events[i]);
	free(m);
}

struct metrics_series *metrics_series(struct metrics *m, enum metrics_verb verb, const struct api_kind *kind,
				      const char *subresource, enum metrics_scope scope, bool dry_run)
{
	uint64_t hash = ((uintptr_t)kind * 31 + (uintptr_t)subresource) * UINT64_C(0x9e3779b97f4a7c15) +
			((uint64_t)verb << 40 | (uint64_t)scope << 48 | (uint64_t)dry_run << 52);
	struct metrics_series *s;
	size_t at;

	hash *= UINT64_C(0xff51afd7ed558ccd);
	for (at = hash >> 40 & (TABLE_SIZE - 1); (s = m->table[at]); at = (at + 1) & (TABLE_SIZE - 1))
		if (s->kind == kind && s->subresource == subresource && s->verb == verb && s->scope == scope &&
		    s->dry_run == dry_run)
			return s;
	if (m->n >= METRICS_SERIES_MAX)
		return &m->other;
	s = mem_new(struct metrics_series);
	s->verb = verb;
	s->kind = kind;
	s->subresource = subresource;
	s->scope = scope;
	s->dry_run = dry_run;
	m->table[at] = s;
	m->n++;
	return s;
}

const char *metrics_path(struct str path)
{
	static const char *const known[] = { "/healthz", "/livez",      "/readyz",     "/metrics", "/version",
					     "/apis",    "/openapi/v2", "/openapi/v3", "/k3c-bpf", "/api" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct str k = str_of(known[i]);

		if (str_starts(path, k) && (path.n == k.n || path.p[k.n] == '/'))
			return known[i];
	}
	return NULL;
}

bool metrics_is_long_running(const struct metrics_series *s)
{
	return s->verb == METRICS_WATCH || s->verb == METRICS_CONNECT;
}

static unsigned *in_flight(struct metrics *m, const struct metrics_series *s)
{
	return s->verb >= METRICS_POST ? &m->writing : &m->reading;
}

void metrics_begin(struct metrics *m, struct metrics_series *s)
{
	s->now++;
	if (!metrics_is_long_running(s))
		(*in_flight(m, s))++;
}

void metrics_end(struct metrics *m, struct metrics_series *s, int code, uint64_t bytes, int64_t duration_ns)
{
	size_t i = 0;

	s->now--;
	if (!metrics_is_long_running(s))
		(*in_flight(m, s))--;
	while (s->codes[i].code != code && s->codes[i].n && i < METRICS_CODES_MAX - 1)
		i++;
	s->codes[i].code = code;
	s->codes[i].n++;
	s->times[histogram_bucket(&seconds, (double)duration_ns / 1e9)]++;
	s->sum_ns += (uint64_t)duration_ns;
	if (s->verb == METRICS_GET || s->verb == METRICS_LIST) {
		s->bytes[histogram_bucket(&sizes, (double)bytes)]++;
		s->sum_bytes += bytes;
	}
}

uint64_t *metrics_watch_events(struct metrics *m, const struct api_kind *kind)
{
	for (unsigned i = 0; i < m->n_events; i++)
		if (m->events[i]->kind == kind)
			return &m->events[i]->n;
	if (m->n_events == KINDS_MAX)
		return &m->lost_events;
	m->events[m->n_events] = mem_new(struct metrics_events);
	m->events[m->n_events]->kind = kind;
	return &m->events[m->n_events++]->n;
}

/* ---- text ---- */

void metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void labels(struct buf *out, const struct metrics_series *s, bool dry_run)
{
	buf_add_cstr(out, "component=\"apiserver\",");
	if (dry_run)
		buf_printf(out, "dry_run=\"%s\",", s->dry_run ? "All" : "");
	buf_printf(out, "group=\"%s\",resource=\"%s\",scope=\"%s\",subresource=\"%s\",verb=\"%s\",version=\"%s\"",
		   s->kind ? s->kind->group : "", s->kind ? s->kind->plural : "", scope_names[s->scope],
		   s->subresource ? s->subresource : "", verb_names[s->verb], s->kind ? s->kind->version : "");
}

typedef void series_fn(struct buf *out, const struct metrics_series *s);

static void each(const struct metrics *m, struct buf *out, series_fn *fn)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		if (m->table[i])
			fn(out, m->table[i]);
	if (m->n >= METRICS_SERIES_MAX)
		fn(out, &m->other);
}

static void write_total(struct buf *out, const struct metrics_series *s)
{
	for (size_t i = 0; i < METRICS_CODES_MAX && s->codes[i].n; i++) {
		buf_printf(out, "apiserver_request_total{code=\"%d\",", s->codes[i].code);
		labels(out, s, true);
		buf_printf(out, "} %" PRIu64 "\n", s->codes[i].n);
	}
}

static void write_histogram(struct buf *out, const struct metrics_series *s, const char *name, bool dry_run,
			    const struct histogram_scale *scale, const uint64_t *counts, double sum)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	labels(&text, s, dry_run);
	histogram_write(out, name, buf_cstr(&text), scale, counts, sum);
}

static bool ever(const struct metrics_series *s)
{
	return s->codes[0].n > 0;
}

static void write_duration(struct buf *out, const struct metrics_series *s)
{
	if (ever(s) && !metrics_is_long_running(s))
		write_histogram(out, s, "apiserver_request_duration_seconds", true, &seconds, s->times,
				(double)s->sum_ns / 1e9);
}

static void write_size(struct buf *out, const struct metrics_series *s)
{
	if (ever(s) && (s->verb == METRICS_GET || s->verb == METRICS_LIST))
		write_histogram(out, s, "apiserver_response_sizes", false, &sizes, s->bytes, (double)s->sum_bytes);
}

static void write_long_running(struct buf *out, const struct metrics_series *s)
{
	if (!metrics_is_long_running(s))
		return;
	buf_add_cstr(out, "apiserver_longrunning_requests{");
	labels(out, s, false);
	buf_printf(out, "} %u\n", s->now);
}

void metrics_authenticated(struct metrics *m, struct str user)
{
	size_t i = 0;

	while (i < USER_OTHER && (i == USER_EMAIL || !str_is(user, user_names[i])))
		i++;
	if (i == USER_OTHER && user.n && memchr(user.p, '@', user.n))
		i = USER_EMAIL;
	m->users[i]++;
}

void metrics_unauthenticated(struct metrics *m)
{
	m->unauthenticated++;
}

static void write_authentication(const struct metrics *m, struct buf *out)
{
	uint64_t n = 0;

	metrics_head(out, "authenticated_user_requests", "counter", "Authenticated requests by a class of user names");
	for (size_t i = 0; i < ARRAY_SIZE(user_names); i++) {
		n += m->users[i];
		if (m->users[i])
			buf_printf(out, "authenticated_user_requests{username=\"%s\"} %" PRIu64 "\n", user_names[i],
				   m->users[i]);
	}
	metrics_head(out, "authentication_attempts", "counter", "Attempts to authenticate by their result");
	if (m->unauthenticated)
		buf_printf(out, "authentication_attempts{result=\"error\"} %" PRIu64 "\n", m->unauthenticated);
	if (n)
		buf_printf(out, "authentication_attempts{result=\"success\"} %" PRIu64 "\n", n);
}

void metrics_write(const struct metrics *m, struct buf *out)
{
	write_authentication(m, out);
	metrics_head(out, "apiserver_request_total", "counter",
		     "Requests by verb, dry run, group, version, resource, scope and response code");
	each(m, out, write_total);
	metrics_head(out, "apiserver_request_duration_seconds", "histogram", "Time from the request to its answer");
	each(m, out, write_duration);
	metrics_head(out, "apiserver_response_sizes", "histogram", "Bytes of the bodies of answers");
	each(m, out, write_size);
	metrics_head(out, "apiserver_longrunning_requests", "gauge", "Watches and connections that are open");
	each(m, out, write_long_running);
	metrics_head(out, "apiserver_current_inflight_requests", "gauge", "Requests that are not answered yet");
	buf_printf(out, "apiserver_current_inflight_requests{request_kind=\"mutating\"} %u\n", m->writing);
	buf_printf(out, "apiserver_current_inflight_requests{request_kind=\"readOnly\"} %u\n", m->reading);
	metrics_head(out, "apiserver_watch_events_total", "counter", "Events that were sent to watchers");
	for (unsigned i = 0; i < m->n_events; i++)
		buf_printf(out,
			   "apiserver_watch_events_total{group=\"%s\",resource=\"%s\",version=\"%s\"} %" PRIu64 "\n",
			   m->events[i]->kind->group, m->events[i]->kind->plural, m->events[i]->kind->version,
			   m->events[i]->n);
}
