/* SPDX-License-Identifier: Apache-2.0 */
/* The status for people. */
#include <inttypes.h>
#include <stdio.h>

#include "userspace/cmd/status_collect.h"

#define STATUS_FILL_WARN 90 /* percent */
#define STATUS_BACKENDS_SHOWN 6
#define STATUS_PLACE_MAX 80

static void print_bytes(int64_t n)
{
	if (n >= 10 * 1024 * 1024)
		printf("%.1f MiB", (double)n / (1024 * 1024));
	else if (n >= 10 * 1024)
		printf("%.1f KiB", (double)n / 1024);
	else
		printf("%" PRId64 " B", n);
}

static void print_server(const struct json *s)
{
	const struct json *server = json_get(s, "server"), *node = json_get(s, "node"), *loop = json_get(s, "loop");
	const struct json *api = json_get(s, "apiserver");
	int64_t up = json_get_int(s, "uptimeSeconds", 0);

	if (!json_get_bool(server, "running", false)) {
		printf("Server      DOWN (%.*s)\n            shown below: the files, and what the kernel goes on doing\n",
		       STR_ARG(json_get_str(server, "reason")));
		if (json_get(server, "files"))
			printf("            files: %.*s\n", STR_ARG(json_get_str(server, "files")));
		printf("Version     k3c-bpf %.*s (this program)\n", STR_ARG(json_get_str(s, "version")));
		if (node)
			printf("Node        %.*s\nPods        %" PRId64 " on disk, %" PRId64
			       " of them running when last seen\n",
			       STR_ARG(json_get_str(node, "name")), json_get_int(node, "podsOnDisk", 0),
			       json_get_int(node, "podsRunning", 0));
		return;
	}
	printf("Server      k3c-bpf %.*s, pid %" PRId64 ", up %" PRId64 "d%02" PRId64 "h%02" PRId64 "m%02" PRId64
	       "s, ready %" PRId64 " ms after its start\n",
	       STR_ARG(json_get_str(s, "version")), json_get_int(s, "pid", 0), up / 86400, up / 3600 % 24, up / 60 % 60,
	       up % 60, json_get_int(s, "startedInMillis", 0));
	printf("Node        %.*s %.*s, %s, %.*s, supervisor pid %" PRId64 "\n", STR_ARG(json_get_str(node, "name")),
	       STR_ARG(json_get_str(node, "address")), json_get_bool(node, "ready", false) ? "Ready" : "NotReady",
	       STR_ARG(json_get_str(node, "runtime")), json_get_int(node, "supervisorPid", 0));
	printf("Pods        %" PRId64 " running, %" PRId64 " ready, %" PRId64 " pending, %" PRId64
	       " terminating, %" PRId64 " restarts\n",
	       json_get_int(node, "podsRunning", 0), json_get_int(node, "podsReady", 0),
	       json_get_int(node, "podsPending", 0), json_get_int(node, "podsTerminating", 0),
	       json_get_int(node, "restarts", 0));
	printf("Loop        %" PRId64 " turns, %" PRId64 " ms busy, longest callback %" PRId64 " us, workers %" PRId64
	       "\n",
	       json_get_int(loop, "iterations", 0), json_get_int(loop, "busyMillis", 0),
	       json_get_int(loop, "longestCallbackMicros", 0), json_get_int(loop, "workers", 0));
	printf("API         %" PRId64 " requests, %" PRId64 " connections, %" PRId64 " watches\n",
	       json_get_int(api, "requests", 0), json_get_int(api, "connections", 0), json_get_int(api, "watches", 0));
}

/* Nothing for those who have nothing encrypted and never had. */
static void print_encryption(const struct json *store)
{
	struct str secrets = json_get_str(store, "secrets");
	int64_t total = json_get_int(store, "rewriteTotal", 0);
	bool running = json_get_bool(store, "rewriting", false);

	if ((secrets.n == 0 || str_is(secrets, "identity")) && total == 0 && !running)
		return;
	printf("Encryption  secrets %.*s", STR_ARG(secrets));
	if (total > 0)
		printf(", %" PRId64 " of %" PRId64 " objects rewritten", json_get_int(store, "rewriteDone", 0), total);
	printf("%s\n", running ? ", under way" : "");
}

static void print_store(const struct json *store)
{
	if (!store)
		return;
	printf("Store       revision %" PRId64 ", %" PRId64 " objects, file ", json_get_int(store, "revision", 0),
	       json_get_int(store, "objects", 0));
	print_bytes(json_get_int(store, "fileBytes", 0));
	printf(", log ");
	print_bytes(json_get_int(store, "walBytes", 0));
	printf("\n");
	if (!json_get(store, "commits"))
		return;
	printf("            %" PRId64 " commits, fsync p50 %" PRId64 " us p99 %" PRId64
	       " us, last %.*s, written since start ",
	       json_get_int(store, "commits", 0), json_get_int(store, "fsyncP50Micros", 0),
	       json_get_int(store, "fsyncP99Micros", 0), STR_ARG(json_get_str(store, "lastCommit")));
	print_bytes(json_get_int(store, "bytesWrittenSinceStart", 0));
	printf("\n");
	print_encryption(store);
}

/* With brackets where a port follows an IPv6 address. */
static void place_text(char *ret, size_t size, const struct json *v)
{
	struct str address = json_get(v, "address") ? json_get_str(v, "address") : STR("*");
	bool v6 = str_find(address, ':') >= 0;

	snprintf(ret, size, "%s%.*s%s:%" PRId64, v6 ? "[" : "", STR_ARG(address), v6 ? "]" : "",
		 json_get_int(v, "port", 0));
}

static void print_backends(const struct json *list)
{
	size_t n = 0;

	json_foreach(b, list) {
		char place[STATUS_PLACE_MAX];

		if (n++ == STATUS_BACKENDS_SHOWN) {
			printf(" +%zu", json_count(list) - STATUS_BACKENDS_SHOWN);
			break;
		}
		place_text(place, sizeof(place), b);
		printf("%s%s", n > 1 ? " " : "", place);
	}
	if (!n)
		printf("(none)");
}

static void print_services(const struct json *services)
{
	if (!json_count(services))
		return;
	printf("\n%-32s %-12s %-28s %s\n", "SERVICE", "KIND", "FRONTEND", "BACKENDS (objects = kernel)");
	json_foreach(s, services) {
		char name[256], place[STATUS_PLACE_MAX], frontend[STATUS_PLACE_MAX + 8];

		snprintf(name, sizeof(name), "%.*s/%.*s", STR_ARG(json_get_str(s, "namespace")),
			 STR_ARG(json_get_str(s, "name")));
		place_text(place, sizeof(place), s);
		snprintf(frontend, sizeof(frontend), "%s/%.*s", place, STR_ARG(json_get_str(s, "protocol")));
		printf("%-32s %-12.*s %-28s ", name, STR_ARG(json_get_str(s, "kind")), frontend);
		print_backends(json_get(s, "backends"));
		if (json_get(s, "difference")) {
			printf("\n%-32s !! %.*s; kernel: ", "", STR_ARG(json_get_str(s, "difference")));
			print_backends(json_get(s, "kernel"));
		}
		printf("\n");
	}
}

static void print_policies(const struct json *policies)
{
	if (!json_count(policies))
		return;
	printf("\n%-40s %-16s %-10s %-10s %-6s %-10s %s\n", "POD POLICY", "ADDRESS", "INGRESS", "EGRESS", "RULES",
	       "DROPS", "POLICIES");
	json_foreach(p, policies) {
		char name[256];

		snprintf(name, sizeof(name), "%.*s/%.*s", STR_ARG(json_get_str(p, "namespace")),
			 STR_ARG(json_get_str(p, "pod")));
		const struct json *drops = json_get(p, "drops");

		printf("%-40s %-16.*s %-10s %-10s %-6" PRId64 " %-10" PRId64 " ", name,
		       STR_ARG(json_get_str(p, "address")),
		       json_get_bool(p, "isolatedIngress", false) ? "isolated" : "open",
		       json_get_bool(p, "isolatedEgress", false) ? "isolated" : "open", json_get_int(p, "rules", 0),
		       json_get_int(drops, "ingress", 0) + json_get_int(drops, "egress", 0) +
			       json_get_int(drops, "other", 0));
		json_foreach(policy, json_get(p, "policies"))
			printf("%s%.*s", policy == json_first(json_get(p, "policies")) ? "" : ",",
			       STR_ARG(json_str(policy)));
		printf("\n");
	}
}

static void print_ports_in_use(const struct json *list)
{
	json_foreach(p, list) {
		struct str holder = json_get_str(p, "holder");

		printf("Port        !! %" PRId64 "/%.*s at %.*s: ", json_get_int(p, "port", 0),
		       STR_ARG(json_get_str(p, "protocol")), STR_ARG(json_get_str(p, "address")));
		if (holder.n)
			printf("%.*s has it", STR_ARG(holder));
		else
			printf("a process of the host listens there");
		if (holder.n && str_is(json_get_str(p, "kind"), "Pod"))
			printf(" before pod %.*s/%.*s\n", STR_ARG(json_get_str(p, "namespace")),
			       STR_ARG(json_get_str(p, "name")));
		else
			printf(", %.*s/%.*s %s\n", STR_ARG(json_get_str(p, "namespace")),
			       STR_ARG(json_get_str(p, "name")),
			       json_get_bool(p, "served", false) ? "hides it" : "is not served");
	}
}

static int64_t print_total(const struct json *list, const char *key)
{
	int64_t n = 0;

	json_foreach(v, list)
		n += json_get_int(v, key, 0);
	return n;
}

static void print_full_maps(const struct json *pressure, const struct json *refused)
{
	json_foreach(m, pressure) {
		int64_t entries = json_get_int(m, "entries", 0), max = json_get_int(m, "maxEntries", 0);
		struct str name = json_get_str(m, "map");
		int64_t no = json_int(json_get_n(refused, name), 0);

		if (!no && !json_get_bool(m, "full", false) && (!max || entries * 100 < max * STATUS_FILL_WARN))
			continue;
		printf("Full        !! %.*s: %" PRId64 " of %" PRId64 " entries%s", STR_ARG(name), entries, max,
		       json_get_bool(m, "forgets", false) ? " in use, new ones cost old ones" : "");
		if (no)
			printf(", %" PRId64 " writes refused", no);
		printf("\n");
	}
}

static void print_left_out(const struct json *list)
{
	json_foreach(l, list)
		printf("Full        !! %.*s/%.*s: more than %" PRId64 " %.*s, the others are left out\n",
		       STR_ARG(json_get_str(l, "namespace")), STR_ARG(json_get_str(l, "name")),
		       json_get_int(l, "max", 0), STR_ARG(json_get_str(l, "what")));
}

/* Nothing while the kernel holds what was written to it. */
static void print_drift(const struct json *drift)
{
	const struct json *last = json_get(drift, "last");

	if (json_get_int(drift, "failures", 0))
		printf("Drift       !! %" PRId64 " looks failed: see the log\n", json_get_int(drift, "failures", 0));
	if (json_get_bool(drift, "looking", false))
		printf("Drift       a look is not over yet: ask again\n");
	if (!last)
		return;
	printf("Drift       repaired %" PRId64 " s ago:", json_get_int(drift, "lastSecondsAgo", 0));
	json_foreach(k, last)
		printf("%s %" PRId64 " %.*s%s", k == json_first(last) ? "" : ",", json_int(k, 0), STR_ARG(k->key),
		       json_int(k, 0) == 1         ? ""
		       : str_is(k->key, "address") ? "es"
						   : "s");
	printf("\n");
}

static void print_dataplane(const struct json *d, const struct json *refused)
{
	const struct json *programs = json_get(d, "programs"), *maps = json_get(d, "maps");
	bool any = false;

	if (json_get(d, "missing")) {
		printf("\nDataplane   nothing in the kernel (%.*s)\n", STR_ARG(json_get_str(d, "missing")));
		return;
	}
	printf("\nDrops       ");
	json_foreach(drop, json_get(d, "drops")) {
		if (!json_get_int(drop, "packets", 0))
			continue;
		printf("%s%.*s %" PRId64, any ? ", " : "", STR_ARG(json_get_str(drop, "reason")),
		       json_get_int(drop, "packets", 0));
		any = true;
	}
	printf("%s\n", any ? " packets" : "none");
	printf("Translated  %" PRId64 " flows to services by packet, %" PRId64 " flows of pods by masquerade\n",
	       json_at_int(d, "translations.services", 0), json_at_int(d, "translations.masquerade", 0));
	print_full_maps(json_get(d, "pressure"), refused);
	printf("Programs    %zu loaded, ", json_count(programs));
	print_bytes(print_total(programs, "memoryBytes"));
	printf("\n");
	json_foreach(p, programs)
		printf("            %-28.*s id %-6" PRId64 " %-9s %6" PRId64 " instructions %8" PRId64 " B\n",
		       STR_ARG(json_get_str(p, "name")), json_get_int(p, "id", 0),
		       json_get_bool(p, "attached", false) ? "attached" : "-", json_get_int(p, "instructions", 0),
		       json_get_int(p, "memoryBytes", 0));
	printf("Maps        %zu, ", json_count(maps));
	print_bytes(print_total(maps, "memoryBytes"));
	printf("\n");
	json_foreach(m, maps) {
		if (json_get_bool(m, "array", false))
			printf("            %-28.*s %8s %-11s ", STR_ARG(json_get_str(m, "name")), "", "array");
		else
			printf("            %-28.*s %8" PRId64 " of %-8" PRId64 " ", STR_ARG(json_get_str(m, "name")),
			       json_get_int(m, "entries", 0), json_get_int(m, "maxEntries", 0));
		print_bytes(json_get_int(m, "memoryBytes", 0));
		printf("\n");
	}
}

void status_print(const struct json *s)
{
	print_server(s);
	print_store(json_get(s, "store"));
	print_services(json_get(s, "services"));
	print_ports_in_use(json_get(s, "portsInUse"));
	print_policies(json_get(s, "policies"));
	print_dataplane(json_get(s, "dataplane"), json_get(s, "refused"));
	print_left_out(json_get(s, "leftOut"));
	print_drift(json_get(s, "drift"));
	printf("\n");
	json_foreach(c, json_get(s, "certificates"))
		printf("Certificate %-10.*s until %.*s (%" PRId64 " days)\n", STR_ARG(json_get_str(c, "name")),
		       STR_ARG(json_get_str(c, "notAfter")), json_get_int(c, "daysLeft", 0));
	json_foreach(f, json_get(s, "missingFeatures"))
		printf("Kernel      %s: %.*s (%.*s)\n", json_get_bool(f, "required", false) ? "MISSING" : "absent",
		       STR_ARG(json_get_str(f, "name")), STR_ARG(json_get_str(f, "neededFor")));
}
