/* SPDX-License-Identifier: Apache-2.0 */
/* What /livez, /readyz and /metrics say of the rooms behind the API server. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "datastore/store.h"
#include "userspace/apiserver/metrics.h"
#include "userspace/base/histogram.h"
#include "userspace/base/mem.h"
#include "userspace/cmd/node.h"

#define RUNNER_NAME_MAX 128

/* The disk took the last write that was tried. */
static int check_store(void *arg, struct err *err)
{
	struct node *node = arg;
	struct store_stats stats;

	store_get_stats(node->store, &stats);
	if (stats.commit_failures != node->failures_seen) {
		node->failures_seen = stats.commit_failures;
		node->commits_seen = stats.commits;
		node->disk_refuses = true;
	} else if (stats.commits != node->commits_seen) {
		node->disk_refuses = false;
	}
	return node->disk_refuses ? err_set(err, -EIO, "the disk refused the last write") : 0;
}

static int check_controllers(void *arg, struct err *err)
{
	const struct node *node = arg;

	return node->controllers ? 0 : err_set(err, -EAGAIN, "the controllers have not started yet");
}

static int check_dataplane(void *arg, struct err *err)
{
	const struct node *node = arg;

	return node->dp ? 0 : err_set(err, -EAGAIN, "the dataplane is not loaded yet");
}

/* ---- figures ---- */

static void value(struct buf *out, const char *name, const char *type, const char *help, uint64_t v)
{
	metrics_head(out, name, type, help);
	buf_printf(out, "%s %" PRIu64 "\n", name, v);
}

static void write_store(struct node *node, struct buf *out)
{
	struct store_stats s;

	store_get_stats(node->store, &s);
	metrics_head(out, "apiserver_storage_size_bytes", "gauge",
		     "Size of the storage database file physically allocated in bytes.");
	buf_printf(out, "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} %" PRIu64 "\n",
		   s.db_bytes + s.wal_bytes);
	value(out, "k3c_bpf_store_commits_total", "counter", "Transactions that are on disk.", s.commits);
	value(out, "k3c_bpf_store_commit_failures_total", "counter", "Transactions that the disk refused.",
	      s.commit_failures);
	value(out, "k3c_bpf_store_written_bytes_total", "counter", "Bytes written to disk.", s.bytes_written);
	value(out, "k3c_bpf_store_queued", "gauge", "Writes that wait for the disk.", s.queued);
}

struct queue_figure {
	const char *name, *type, *help;
	uint64_t (*of)(const struct runner_stats *s);
};

static uint64_t depth_of(const struct runner_stats *s)
{
	return s->queued;
}

static uint64_t adds_of(const struct runner_stats *s)
{
	return s->added;
}

static uint64_t retries_of(const struct runner_stats *s)
{
	return s->errors;
}

static void write_durations(struct node *node, struct buf *out, const char *name, const char *help, bool work)
{
	struct runner_stats s;

	metrics_head(out, name, "histogram", help);
	for (size_t c = 0; c < controllers_count(node->controllers); c++) {
		char labels[RUNNER_NAME_MAX + sizeof("name=\"\"")];

		controllers_get_stats(node->controllers, c, &s);
		snprintf(labels, sizeof(labels), "name=\"%s\"", s.name);
		histogram_write(out, name, labels, &RUNNER_SCALE, work ? s.work : s.wait,
				(double)(work ? s.busy_ns : s.queued_ns) / 1e9);
	}
}

static void write_controllers(struct node *node, struct buf *out)
{
	static const struct queue_figure figures[] = {
		{ "workqueue_depth", "gauge", "Current depth of workqueue", depth_of },
		{ "workqueue_adds_total", "counter", "Total number of adds handled by workqueue", adds_of },
		{ "workqueue_retries_total", "counter", "Total number of retries handled by workqueue", retries_of },
	};
	struct runner_stats s;

	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		metrics_head(out, figures[i].name, figures[i].type, figures[i].help);
		for (size_t c = 0; c < controllers_count(node->controllers); c++) {
			controllers_get_stats(node->controllers, c, &s);
			buf_printf(out, "%s{name=\"%s\"} %" PRIu64 "\n", figures[i].name, s.name, figures[i].of(&s));
		}
	}
	write_durations(node, out, "workqueue_queue_duration_seconds",
			"How long in seconds an item stays in workqueue before being requested.", false);
	write_durations(node, out, "workqueue_work_duration_seconds",
			"How long in seconds processing an item from workqueue takes.", true);
}

static void write_scheduler(struct node *node, struct buf *out)
{
	struct scheduler_stats s;

	scheduler_get_stats(node->scheduler, &s);
	metrics_head(out, "scheduler_schedule_attempts_total", "counter",
		     "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be "
		     "scheduled, while 'error' means an internal scheduler problem.");
	const struct {
		const char *result;
		uint64_t n;
	} results[] = { { "error", s.errors }, { "scheduled", s.scheduled }, { "unschedulable", s.failed } };

	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		buf_printf(out,
			   "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"%s\"} %" PRIu64
			   "\n",
			   results[i].result, results[i].n);
	metrics_head(out, "scheduler_pending_pods", "gauge", "Number of pending pods, by the queue type.");
	const struct {
		const char *queue;
		unsigned n;
	} queues[] = { { "active", s.active },
		       { "backoff", s.backoff },
		       { "gated", s.gated },
		       { "unschedulable", s.unschedulable } };

	for (size_t i = 0; i < ARRAY_SIZE(queues); i++)
		buf_printf(out, "scheduler_pending_pods{queue=\"%s\"} %u\n", queues[i].queue, queues[i].n);
	metrics_head(out, "scheduler_pod_scheduling_attempts", "histogram",
		     "Number of attempts to successfully schedule a pod.");
	histogram_write(out, "scheduler_pod_scheduling_attempts", "", &SCHEDULER_TRIES, s.tries, (double)s.tries_sum);
}

static void write_figures(void *arg, struct buf *out)
{
	struct node *node = arg;

	write_store(node, out);
	if (node->controllers)
		write_controllers(node, out);
	if (node->scheduler)
		write_scheduler(node, out);
	if (node->dp)
		node_write_dataplane(node, out);
}

void node_wire_health(struct node *node)
{
	const struct apiserver_check checks[] = {
		{ "etcd", false, check_store, node },
		{ "etcd-readiness", true, check_store, node },
		{ "poststarthook/start-controllers", false, check_controllers, node },
		{ "poststarthook/start-dataplane", false, check_dataplane, node },
	};

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		apiserver_add_check(node->api, &checks[i]);
	apiserver_set_metrics(node->api, write_figures, node);
}
