/* SPDX-License-Identifier: Apache-2.0 */
/* The server's part of `k3c-bpf status`: what only the running process knows. The kernel's part is read by the
 * command itself, from the pins. */
#include "datastore/store.h"
#include "userspace/base/clock.h"
#include "userspace/cmd/node.h"
#include "userspace/registry/encryption.h"

static struct json *status_time(struct arena *arena, int64_t real_ns)
{
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(real_ns, text);
	return json_new_cstr(arena, arena_strdup(arena, text));
}

static struct json *status_store(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct store_stats s;

	store_get_stats(node->store, &s);
	json_set_int(a, v, "revision", s.revision);
	json_set_int(a, v, "objects", (int64_t)s.objects);
	json_set_int(a, v, "objectBytes", (int64_t)s.object_bytes);
	json_set_int(a, v, "fileBytes", (int64_t)s.db_bytes);
	json_set_int(a, v, "walBytes", (int64_t)s.wal_bytes);
	json_set_int(a, v, "bytesWrittenSinceStart", (int64_t)s.bytes_written);
	json_set_int(a, v, "commits", (int64_t)s.commits);
	json_set_int(a, v, "commitFailures", (int64_t)s.commit_failures);
	json_set_int(a, v, "records", (int64_t)s.records);
	if (s.last_commit_real_ns)
		json_set(v, "lastCommit", status_time(a, s.last_commit_real_ns));
	json_set_int(a, v, "commitP50Micros", (int64_t)s.commit_p50_ns / NS_PER_US);
	json_set_int(a, v, "commitP99Micros", (int64_t)s.commit_p99_ns / NS_PER_US);
	json_set_int(a, v, "fsyncP50Micros", (int64_t)s.fsync_p50_ns / NS_PER_US);
	json_set_int(a, v, "fsyncP99Micros", (int64_t)s.fsync_p99_ns / NS_PER_US);
	json_set_int(a, v, "lazyUnwritten", (int64_t)s.lazy_dirty);
	json_set_int(a, v, "historyEvents", (int64_t)s.history_events);
	json_set_int(a, v, "watchers", (int64_t)s.watchers);
	json_set_cstr(a, v, "secrets", encryption_of_secrets(node->encryption));
	json_set_bool(a, v, "rewriting", s.rewriting);
	if (s.rewrite_total > 0) {
		json_set_int(a, v, "rewriteTotal", (int64_t)s.rewrite_total);
		json_set_int(a, v, "rewriteDone", (int64_t)(s.rewrite_total - s.rewrite_left));
	}
	return v;
}

static struct json *status_loop(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct loop_stats s;

	loop_get_stats(node->loop, &s);
	json_set_int(a, v, "iterations", (int64_t)s.iterations);
	json_set_int(a, v, "completions", (int64_t)s.completions);
	json_set_int(a, v, "workItems", (int64_t)s.work_items);
	json_set_int(a, v, "busyMillis", (int64_t)s.busy_ns / NS_PER_MS);
	json_set_int(a, v, "longestCallbackMicros", (int64_t)s.longest_callback_ns / NS_PER_US);
	json_set_int(a, v, "workers", s.workers);
	json_set_int(a, v, "workersBusy", s.workers_busy);
	json_set_int(a, v, "timers", s.timers);
	return v;
}

static struct json *status_api(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct apiserver_stats s;

	apiserver_get_stats(node->api, &s);
	json_set_int(a, v, "requests", (int64_t)s.requests);
	json_set_int(a, v, "connections", s.connections);
	json_set_int(a, v, "inFlight", s.in_flight);
	json_set_int(a, v, "watches", s.watches);
	json_set_int(a, v, "watchesEndedSlow", (int64_t)s.watches_ended_slow);
	json_set_int(a, v, "unauthorized", (int64_t)s.unauthorized);
	return v;
}

static struct json *status_controllers(struct node *node, struct arena *a)
{
	struct json *list = json_new_array(a);

	for (size_t i = 0; i < controllers_count(node->controllers); i++) {
		struct json *v = json_new_object(a);
		struct runner_stats s;

		controllers_get_stats(node->controllers, i, &s);
		json_set_cstr(a, v, "name", s.name);
		json_set_int(a, v, "reconciles", (int64_t)s.reconciles);
		json_set_int(a, v, "errors", (int64_t)s.errors);
		json_set_int(a, v, "queued", (int64_t)s.queued);
		json_append(list, v);
	}
	return list;
}

static struct json *status_scheduler(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct scheduler_stats s;

	scheduler_get_stats(node->scheduler, &s);
	json_set_int(a, v, "scheduled", (int64_t)s.scheduled);
	json_set_int(a, v, "failed", (int64_t)s.failed);
	json_set_int(a, v, "unschedulable", s.unschedulable);
	return v;
}

static struct json *status_node(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct kubelet_pod_stats s;

	kubelet_get_stats(node->kubelet, &s);
	json_set_cstr(a, v, "name", node->config->node_name);
	json_set_cstr(a, v, "address", node->addresses.texts[0]);
	json_set_bool(a, v, "ready", s.node_ready);
	json_set_cstr(a, v, "runtime", s.oci);
	json_set_int(a, v, "supervisorPid", s.supervisor_pid);
	json_set_int(a, v, "podsRunning", s.running);
	json_set_int(a, v, "podsReady", s.ready);
	json_set_int(a, v, "podsPending", s.pending);
	json_set_int(a, v, "podsTerminating", s.terminating);
	json_set_int(a, v, "restarts", (int64_t)s.restarts);
	json_set(v, "pods", kubelet_status_json(node->kubelet, a));
	return v;
}

static struct json *status_dns(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);
	struct dns_stats s = { 0 };

	if (!node->dns)
		return v;
	dns_get_stats(node->dns, &s);
	json_set_cstr(a, v, "address", node->config->cluster_dns);
	json_set_int(a, v, "queries", (int64_t)s.queries);
	json_set_int(a, v, "answered", (int64_t)s.answered);
	json_set_int(a, v, "forwarded", (int64_t)s.forwarded);
	json_set_int(a, v, "failed", (int64_t)s.failed);
	return v;
}

struct json *node_status_json(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);

	json_set_cstr(a, v, "version", K3C_VERSION);
	json_set_int(a, v, "pid", getpid());
	json_set_int(a, v, "uptimeSeconds", (clock_monotonic_ns() - node->started_ns) / NS_PER_S);
	json_set_int(a, v, "startedInMillis", node->ready_after_ns / NS_PER_MS);
	json_set(v, "store", status_store(node, a));
	json_set(v, "loop", status_loop(node, a));
	json_set(v, "apiserver", status_api(node, a));
	json_set(v, "node", status_node(node, a));
	json_set(v, "controllers", status_controllers(node, a));
	json_set(v, "scheduler", status_scheduler(node, a));
	json_set(v, "dns", status_dns(node, a));
	json_set(v, "network", netctl_status_json(node->net, a));
	json_set(v, "drift", node_drift_json(node, a));
	json_set(v, "refused", node_refused_json(node, a));
	return v;
}
