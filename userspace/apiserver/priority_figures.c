/* SPDX-License-Identifier: Apache-2.0 */
/* What priority and fairness counts, under upstream's names. See priority.h. Loop thread. */
#include <inttypes.h>
#include <stdlib.h>

#include "userspace/apiserver/metrics.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/histogram.h"
#include "userspace/base/mem.h"

static const double wait_limits[] = { 0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30 };
static const struct histogram_scale wait_scale = { wait_limits, ARRAY_SIZE(wait_limits) };

static const char *const reason_names[] = { "queue-full", "concurrency-limit", "time-out", "cancelled" };

/* Of those that were refused, and of those that ran. */
struct waits {
	uint64_t counts[ARRAY_SIZE(wait_limits) + 1], sum_ns;
};

struct priority_figures {
	struct list link; /* level->figures */
	char *schema;
	unsigned executing, seats, queued, queued_seats; /* now */
	uint64_t dispatched, refused[PRIORITY_REASONS];
	struct waits waits[2];
};

struct priority_figures *priority_figures(struct priority_level *level, struct str schema)
{
	struct priority_figures *f = NULL;

	list_foreach(at, &level->figures, struct priority_figures, link) {
		if (str_is(schema, at->schema))
			return at;
		f = at;
	}
	if (level->n_figures >= PRIORITY_FIGURES_MAX)
		return f;
	f = mem_new(struct priority_figures);
	/* What does not fit is counted together. */
	f->schema = ++level->n_figures < PRIORITY_FIGURES_MAX ? str_dup(schema) : mem_strdup("");
	list_add_tail(&level->figures, &f->link);
	return f;
}

void priority_figures_free(struct priority_level *level)
{
	while (!list_empty(&level->figures)) {
		struct priority_figures *f = list_first(&level->figures, struct priority_figures, link);

		list_del(&f->link);
		free(f->schema);
		free(f);
	}
}

static void count_wait(struct priority_request *r, bool ran, int64_t waited_ns)
{
	struct waits *w = &r->figures->waits[ran];

	/* The exempt have no queues in upstream's terms. */
	if (r->level->exempt)
		return;
	w->counts[histogram_bucket(&wait_scale, (double)waited_ns / 1e9)]++;
	w->sum_ns += (uint64_t)waited_ns;
}

void priority_count_executing(struct priority_request *r, int by)
{
	r->figures->executing += (unsigned)by;
	r->figures->seats += (unsigned)by * r->seats;
}

void priority_count_queued(struct priority_request *r, int by)
{
	r->figures->queued += (unsigned)by;
	r->figures->queued_seats += (unsigned)by * r->seats;
}

void priority_count_begun(struct priority_request *r, int64_t waited_ns)
{
	r->figures->dispatched++;
	count_wait(r, true, waited_ns);
}

void priority_count_refused(struct priority_request *r, enum priority_reason reason, int64_t waited_ns)
{
	r->figures->refused[reason]++;
	if (waited_ns >= 0)
		count_wait(r, false, waited_ns);
}

/* ---- text ---- */

typedef void figures_fn(struct buf *out, const struct priority_figures *f, const char *labels);

static void each(struct priority *p, struct buf *out, figures_fn *fn)
{
	_cleanup_buf_ struct buf labels = BUF_INIT;

	list_foreach(level, &p->levels, struct priority_level, link)
		list_foreach(f, &level->figures, struct priority_figures, link) {
			buf_reset(&labels);
			buf_printf(&labels, "flow_schema=\"%s\",priority_level=\"%s\"", f->schema, level->name);
			fn(out, f, buf_cstr(&labels));
		}
}

#define GAUGE(fn, field, name)                                                                                         \
	static void fn(struct buf *out, const struct priority_figures *f, const char *labels)                          \
	{                                                                                                              \
		buf_printf(out, "apiserver_flowcontrol_" name "{%s} %u\n", labels, f->field);                          \
	}

GAUGE(write_executing, executing, "current_executing_requests")
GAUGE(write_seats, seats, "current_executing_seats")
GAUGE(write_queued, queued, "current_inqueue_requests")
GAUGE(write_queued_seats, queued_seats, "current_inqueue_seats")

static void write_dispatched(struct buf *out, const struct priority_figures *f, const char *labels)
{
	buf_printf(out, "apiserver_flowcontrol_dispatched_requests_total{%s} %" PRIu64 "\n", labels, f->dispatched);
}

static void write_refused(struct buf *out, const struct priority_figures *f, const char *labels)
{
	for (size_t i = 0; i < PRIORITY_REASONS; i++)
		if (f->refused[i])
			buf_printf(out, "apiserver_flowcontrol_rejected_requests_total{%s,reason=\"%s\"} %" PRIu64 "\n",
				   labels, reason_names[i], f->refused[i]);
}

static void write_waits(struct buf *out, const struct priority_figures *f, const char *labels)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (size_t ran = 0; ran < ARRAY_SIZE(f->waits); ran++) {
		const struct waits *w = &f->waits[ran];
		bool any = false;

		for (size_t i = 0; i < ARRAY_SIZE(w->counts); i++)
			any = any || w->counts[i];
		if (!any)
			continue;
		buf_reset(&text);
		buf_printf(&text, "execute=\"%s\",%s", ran ? "true" : "false", labels);
		histogram_write(out, "apiserver_flowcontrol_request_wait_duration_seconds", buf_cstr(&text),
				&wait_scale, w->counts, (double)w->sum_ns / 1e9);
	}
}

void priority_write_metrics(struct priority *p, struct buf *out)
{
	metrics_head(out, "apiserver_flowcontrol_nominal_limit_seats", "gauge",
		     "Nominal number of execution seats configured for each priority level");
	list_foreach(level, &p->levels, struct priority_level, link)
		buf_printf(out, "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"%s\"} %u\n", level->name,
			   level->seats);
	metrics_head(out, "apiserver_flowcontrol_current_executing_seats", "gauge",
		     "Concurrency (number of seats) occupied by the currently executing requests");
	each(p, out, write_seats);
	metrics_head(out, "apiserver_flowcontrol_current_executing_requests", "gauge",
		     "Number of requests in regular execution phase");
	each(p, out, write_executing);
	metrics_head(out, "apiserver_flowcontrol_current_inqueue_requests", "gauge",
		     "Number of requests waiting in queues");
	each(p, out, write_queued);
	metrics_head(out, "apiserver_flowcontrol_current_inqueue_seats", "gauge",
		     "Number of seats that the waiting requests want");
	each(p, out, write_queued_seats);
	metrics_head(out, "apiserver_flowcontrol_dispatched_requests_total", "counter", "Number of requests executed");
	each(p, out, write_dispatched);
	metrics_head(out, "apiserver_flowcontrol_rejected_requests_total", "counter", "Number of requests refused");
	each(p, out, write_refused);
	metrics_head(out, "apiserver_flowcontrol_request_wait_duration_seconds", "histogram",
		     "Time that requests waited in their queues");
	each(p, out, write_waits);
}
