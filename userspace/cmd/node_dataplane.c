/* SPDX-License-Identifier: Apache-2.0 */
/* The dataplane on /metrics and in the status. Counting the entries of maps walks them: not at every scrape of somebody
 * in a hurry. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "userspace/apiserver/metrics.h"
#include "userspace/base/clock.h"
#include "userspace/cmd/node.h"
#include "userspace/netctl/drift.h"

#define DATAPLANE_DROPS_MAX 64
#define DATAPLANE_ROWS_MAX 128
#define DATAPLANE_COUNT_AGE_NS (5 * NS_PER_S)
#define DATAPLANE_PRESSURE_AGE_NS (60 * NS_PER_S) /* connections are looked at one by one */

static void write_drops(struct node *node, struct buf *out)
{
	struct dp_drop drops[DATAPLANE_DROPS_MAX];
	size_t n;

	if (dataplane_drops(node->dp, drops, DATAPLANE_DROPS_MAX, &n, NULL) < 0)
		return;
	metrics_head(out, "k3c_dataplane_drops_total", "counter", "Packets and connections that were dropped.");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "k3c_dataplane_drops_total{reason=\"%s\"} %" PRIu64 "\n", drops[i].reason,
			   drops[i].packets);
}

static void write_snat(struct node *node, struct buf *out)
{
	struct dp_snat s;

	if (dataplane_snat(node->dp, &s, NULL) < 0)
		return;
	metrics_head(out, "k3c_dataplane_snat_searches_total", "counter",
		     "Flows of pods that looked for a port of the node to leave with.");
	buf_printf(out, "k3c_dataplane_snat_searches_total %" PRIu64 "\n", s.searches);
	metrics_head(out, "k3c_dataplane_snat_collisions_total", "counter", "Ports looked at that were in use.");
	buf_printf(out, "k3c_dataplane_snat_collisions_total %" PRIu64 "\n", s.collisions);
	metrics_head(out, "k3c_dataplane_snat_exhausted_total", "counter",
		     "Packets for which no port was free to leave with.");
	buf_printf(out, "k3c_dataplane_snat_exhausted_total %" PRIu64 "\n", s.exhausted);
}

static void count_maps(struct node *node)
{
	int64_t now = clock_monotonic_ns();

	if (node->maps && now - node->maps_counted_ns < DATAPLANE_COUNT_AGE_NS)
		return;
	if (!node->maps)
		node->maps = mem_new_array(struct dp_map_info, DATAPLANE_ROWS_MAX);
	if (dataplane_maps(node->dp, node->maps, DATAPLANE_ROWS_MAX, &node->n_maps, NULL) < 0)
		node->n_maps = 0;
	node->maps_counted_ns = now;
}

static void count_pressure(struct node *node)
{
	int64_t now = clock_monotonic_ns();

	if (node->pressure && now - node->pressure_counted_ns < DATAPLANE_PRESSURE_AGE_NS)
		return;
	if (!node->pressure)
		node->pressure = mem_new_array(struct dp_pressure, DATAPLANE_ROWS_MAX);
	if (dataplane_pressure(node->dp, node->pressure, DATAPLANE_ROWS_MAX, &node->n_pressure, NULL) < 0)
		node->n_pressure = 0;
	node->pressure_counted_ns = now;
}

static void write_pressure(struct node *node, struct buf *out)
{
	count_pressure(node);
	metrics_head(out, "k3c_dataplane_map_live_entries", "gauge",
		     "Entries in use of a map that forgets its oldest ones when it is full.");
	for (size_t i = 0; i < node->n_pressure; i++)
		if (node->pressure[i].forgets)
			buf_printf(out, "k3c_dataplane_map_live_entries{map=\"%s\"} %" PRIu32 "\n",
				   node->pressure[i].name, node->pressure[i].entries);
	metrics_head(out, "k3c_dataplane_map_refused_total", "counter", "Writes that a full map refused.");
	for (size_t i = 0; i < node->n_pressure; i++)
		if (!node->pressure[i].forgets)
			buf_printf(out, "k3c_dataplane_map_refused_total{map=\"%s\"} %" PRIu64 "\n",
				   node->pressure[i].name, node->pressure[i].refused);
}

struct json *node_refused_json(struct node *node, struct arena *a)
{
	struct json *v = json_new_object(a);

	node->pressure_counted_ns = 0;
	count_pressure(node);
	for (size_t i = 0; i < node->n_pressure; i++)
		if (node->pressure[i].unwritten)
			json_set_int(a, v, arena_strdup(a, node->pressure[i].name),
				     (int64_t)node->pressure[i].unwritten);
	return v;
}

static uint64_t map_figure(const struct dp_map_info *m, int which)
{
	return which == 0 ? m->entries : which == 1 ? m->max_entries : m->memory_bytes;
}

static void write_maps(struct node *node, struct buf *out)
{
	static const struct {
		const char *name, *help;
		bool fill; /* not of arrays, which are never anything but full */
	} figures[] = {
		{ "k3c_dataplane_map_entries", "Entries that a map holds.", true },
		{ "k3c_dataplane_map_max_entries", "Entries that a map can hold.", true },
		{ "k3c_dataplane_map_memory_bytes", "Kernel memory that a map takes.", false },
	};
	static const struct {
		const char *map, *name;
	} tables[] = {
		{ "k3c_conn", "policy" },
		{ "k3c_datagram", "datagrams" },
		{ "k3c_policed", "policy-datagrams" },
		{ "k3c_nat", "translation" },
		{ "k3c_unassured", "translation-unassured" },
	};

	count_maps(node);
	for (size_t f = 0; f < ARRAY_SIZE(figures); f++) {
		metrics_head(out, figures[f].name, "gauge", figures[f].help);
		for (size_t i = 0; i < node->n_maps; i++)
			if (!figures[f].fill || !node->maps[i].array)
				buf_printf(out, "%s{map=\"%s\"} %" PRIu64 "\n", figures[f].name, node->maps[i].name,
					   map_figure(&node->maps[i], (int)f));
	}
	metrics_head(out, "k3c_dataplane_connections", "gauge",
		     "Connections of pods, and translations (two entries each), that are followed.");
	for (size_t i = 0; i < node->n_maps; i++)
		for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
			if (strcmp(node->maps[i].name, tables[t].map) == 0)
				buf_printf(out, "k3c_dataplane_connections{table=\"%s\"} %" PRIu32 "\n", tables[t].name,
					   node->maps[i].entries);
}

static void write_programs(struct node *node, struct buf *out)
{
	struct dp_program_info programs[DATAPLANE_ROWS_MAX];
	size_t n;
	bool any = false;

	if (dataplane_programs(node->dp, programs, DATAPLANE_ROWS_MAX, &n, NULL) < 0)
		return;
	metrics_head(out, "k3c_dataplane_program_attached", "gauge", "Whether a program is where it works.");
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "k3c_dataplane_program_attached{program=\"%s\"} %d\n", programs[i].name,
			   programs[i].attached);
		any = any || programs[i].run_count;
	}
	if (!any) /* kernel.bpf_stats_enabled is off */
		return;
	metrics_head(out, "k3c_dataplane_program_runs_total", "counter", "Runs of a program.");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "k3c_dataplane_program_runs_total{program=\"%s\"} %" PRIu64 "\n", programs[i].name,
			   programs[i].run_count);
	metrics_head(out, "k3c_dataplane_program_seconds_total", "counter", "Time that a program ran.");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "k3c_dataplane_program_seconds_total{program=\"%s\"} %.9f\n", programs[i].name,
			   (double)programs[i].run_ns / 1e9);
}

static void write_syncs(struct node *node, struct buf *out)
{
	const struct netctl_drift *drift = netctl_get_drift(node->net);
	struct netctl_stats s;

	netctl_get_stats(node->net, &s);
	metrics_head(out, "k3c_dataplane_sync_seconds", "histogram",
		     "Time from objects to maps, of one turn, for all that changed.");
	histogram_write(out, "k3c_dataplane_sync_seconds", "what=\"services\"", &NETCTL_TIME_SCALE,
			s.service_time.counts, (double)s.service_time.sum_ns / 1e9);
	histogram_write(out, "k3c_dataplane_sync_seconds", "what=\"policies\"", &NETCTL_TIME_SCALE,
			s.policy_time.counts, (double)s.policy_time.sum_ns / 1e9);
	metrics_head(out, "k3c_dataplane_sync_errors_total", "counter", "Writes to maps that failed.");
	buf_printf(out, "k3c_dataplane_sync_errors_total %" PRIu64 "\n", s.errors);
	metrics_head(out, "k3c_dataplane_drift_total", "counter",
		     "Differences between the kernel and what was written to it, found and repaired.");
	for (int k = 0; k < DP_DRIFT_KINDS; k++)
		buf_printf(out, "k3c_dataplane_drift_total{kind=\"%s\"} %" PRIu64 "\n", dataplane_drift_name(k),
			   drift->found[k]);
	metrics_head(out, "k3c_dataplane_drift_looks_total", "counter", "Comparisons of the kernel with the objects.");
	buf_printf(out, "k3c_dataplane_drift_looks_total %" PRIu64 "\n", drift->looks);
}

void node_write_dataplane(struct node *node, struct buf *out)
{
	if (node->net) {
		netctl_drift_begin(node->net, DRIFT_SCRAPE_NS);
		write_syncs(node, out);
	}
	write_drops(node, out);
	write_snat(node, out);
	write_maps(node, out);
	write_pressure(node, out);
	write_programs(node, out);
}

struct json *node_drift_json(struct node *node, struct arena *a)
{
	const struct netctl_drift *d = netctl_get_drift(node->net);
	struct json *v = json_new_object(a), *found = json_new_object(a), *last = json_new_object(a);

	json_set_int(a, v, "looks", (int64_t)d->looks);
	json_set_int(a, v, "failures", (int64_t)d->failures);
	json_set_bool(a, v, "looking", d->looking);
	for (int k = 0; k < DP_DRIFT_KINDS; k++) {
		json_set_int(a, found, dataplane_drift_name(k), (int64_t)d->found[k]);
		if (d->last.n[k])
			json_set_int(a, last, dataplane_drift_name(k), d->last.n[k]);
	}
	json_set(v, "found", found);
	if (!d->last_found_ns)
		return v;
	json_set(v, "last", last);
	json_set_int(a, v, "lastSecondsAgo", (clock_monotonic_ns() - d->last_found_ns) / NS_PER_S);
	return v;
}
