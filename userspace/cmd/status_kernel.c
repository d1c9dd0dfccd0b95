/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel holds, read from the pins, beside what the objects say. Works without a server. */
#include <stdlib.h>
#include <string.h>

#include "userspace/base/map.h"
#include "userspace/cmd/status_collect.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/services.h"
#include "userspace/netctl/status.h"

#define STATUS_ROWS_MAX 256

static int row_cmp(const void *pa, const void *pb, void *arg)
{
	const struct json *a = *(const struct json *const *)pa, *b = *(const struct json *const *)pb;

	for (const char *const *key = arg; *key; key++) {
		int64_t na = json_get_int(a, *key, 0), nb = json_get_int(b, *key, 0);
		int d = na != nb ? (na > nb) - (na < nb) : str_cmp(json_get_str(a, *key), json_get_str(b, *key));

		if (d)
			return d;
	}
	return 0;
}

/* The same rows by these members, whatever order maps had them in. */
static struct json *rows_sorted(struct arena *a, struct json *rows, const char *const *keys)
{
	struct json **items = arena_new_array(a, struct json *, json_count(rows) + 1), *sorted = json_new_array(a);
	size_t n = 0;

	json_foreach(row, rows)
		items[n++] = row;
	qsort_r(items, n, sizeof(*items), row_cmp, (void *)keys);
	for (size_t i = 0; i < n; i++)
		json_append(sorted, items[i]);
	return sorted;
}

struct kernel_services {
	struct arena *arena;
	struct map by_key; /* frontend key -> struct json */
};

static char *frontend_key(struct arena *a, const struct json *f)
{
	return arena_printf(a, "%.*s/%.*s/%.*s/%lld", STR_ARG(json_get_str(f, "kind")),
			    STR_ARG(json_get_str(f, "protocol")), STR_ARG(json_get_str(f, "address")),
			    (long long)json_get_int(f, "port", 0));
}

static void kernel_service(void *arg, const struct dp_service *s)
{
	struct kernel_services *k = arg;
	struct json *f = netctl_frontend_json(k->arena, s);

	map_put(&k->by_key, str_of(frontend_key(k->arena, f)), f);
}

/* What else a frontend has; backends are compared apart. */
static const char *const frontend_extras[] = { "affinitySeconds", "outside", "sources" };

static const char *frontend_difference(const struct json *want, const struct json *have)
{
	if (!have)
		return "not in the kernel";
	if (!want)
		return "no object asks for it";
	if (!json_equal(json_get(want, "backends"), json_get(have, "backends")))
		return "backends differ";
	for (size_t i = 0; i < ARRAY_SIZE(frontend_extras); i++) {
		const struct json *a = json_get(want, frontend_extras[i]), *b = json_get(have, frontend_extras[i]);

		if (!a != !b || (a && !json_equal(a, b)))
			return i == 0   ? "affinity differs"
			       : i == 1 ? "backends for outsiders differ"
					: "source ranges differ";
	}
	return NULL;
}

/* The maps hold what was translated, but not all that the Service names. */
static const char *frontend_left_out(struct arena *a, const struct json *service, const struct json *f)
{
	json_foreach(l, json_get(service, "leftOut")) {
		struct str what = json_get_str(l, "what");

		if (!str_is(what, services_limit_name(SERVICES_LIMIT_SOURCES)) || json_get(f, "sources"))
			return arena_printf(a, "more than %lld %.*s, the others are left out",
					    (long long)json_get_int(l, "max", 0), STR_ARG(what));
	}
	return NULL;
}

static struct json *frontend_row(struct arena *a, const struct json *service, const struct json *want,
				 const struct json *have)
{
	static const char *const place[] = { "kind", "protocol", "address", "port" };
	const struct json *any = want ? want : have;
	struct json *v = json_new_object(a);
	const char *difference = frontend_difference(want, have);

	if (!difference && service)
		difference = frontend_left_out(a, service, want);
	if (service) {
		json_set_str(a, v, "namespace", json_get_str(service, "namespace"));
		json_set_str(a, v, "name", json_get_str(service, "name"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(place); i++)
		if (json_get(any, place[i]))
			json_set(v, place[i], json_clone(a, json_get(any, place[i])));
	json_set(v, "backends", want ? json_clone(a, json_get(want, "backends")) : json_new_array(a));
	json_set(v, "kernel", have ? json_clone(a, json_get(have, "backends")) : json_new_array(a));
	for (size_t i = 0; i < ARRAY_SIZE(frontend_extras); i++)
		if (json_get(any, frontend_extras[i]))
			json_set(v, frontend_extras[i], json_clone(a, json_get(any, frontend_extras[i])));
	if (difference)
		json_set_cstr(a, v, "difference", difference);
	return v;
}

struct json *status_kernel_services(struct dataplane *dp, struct arena *a, const struct json *network)
{
	static const char *const order[] = { "namespace", "name", "kind", "port", "protocol", "address", NULL };
	struct kernel_services k = { .arena = a };
	struct json *rows = json_new_array(a);

	dataplane_service_each(dp, kernel_service, &k, NULL);
	json_foreach(service, json_get(network, "services"))
		json_foreach(want, json_get(service, "frontends")) {
			struct str key = str_of(frontend_key(a, want));

			json_append(rows, frontend_row(a, service, want, map_get(&k.by_key, key)));
			map_remove(&k.by_key, key);
		}
	map_foreach(e, &k.by_key)
		json_append(rows, frontend_row(a, NULL, NULL, e->value));
	map_finish(&k.by_key);
	return rows_sorted(a, rows, order);
}

struct kernel_policies {
	struct arena *arena;
	struct dataplane *dp;
	const struct json *pods;
	struct json *rows;
};

static bool kernel_pod_has(const struct json *pod, const char *address)
{
	json_foreach(a, json_get(pod, "addresses"))
		if (str_is(json_str(a), address))
			return true;
	return str_is(json_get_str(pod, "address"), address);
}

/* What the pod itself lost. */
static void kernel_pod_drops(struct kernel_policies *k, const struct dp_addr *pod, struct json *v)
{
	struct json *drops = json_new_object(k->arena);
	struct dp_endpoint e;

	if (dataplane_endpoint_get(k->dp, pod, &e) < 0)
		return;
	json_set_int(k->arena, drops, "ingress", (int64_t)e.dropped_ingress);
	json_set_int(k->arena, drops, "egress", (int64_t)e.dropped_egress);
	json_set_int(k->arena, drops, "other", (int64_t)e.dropped_other);
	json_set(v, "drops", drops);
}

static void kernel_policy(void *arg, const struct dp_policy_info *p)
{
	struct kernel_policies *k = arg;
	struct json *v = json_new_object(k->arena);
	char address[ADDRESS_TEXT_MAX];

	address_format(&p->pod, address);
	json_foreach(pod, k->pods) {
		if (!kernel_pod_has(pod, address))
			continue;
		json_set_str(k->arena, v, "namespace", json_get_str(pod, "namespace"));
		json_set_str(k->arena, v, "pod", json_get_str(pod, "name"));
		if (json_get(pod, "policies"))
			json_set(v, "policies", json_clone(k->arena, json_get(pod, "policies")));
	}
	json_set_cstr(k->arena, v, "address", arena_strdup(k->arena, address));
	json_set_bool(k->arena, v, "isolatedIngress", p->isolated_ingress);
	json_set_bool(k->arena, v, "isolatedEgress", p->isolated_egress);
	json_set_int(k->arena, v, "rules", p->n_rules);
	kernel_pod_drops(k, &p->pod, v);
	json_append(k->rows, v);
}

static struct json *kernel_drops(struct dataplane *dp, struct arena *a)
{
	struct dp_drop drops[STATUS_ROWS_MAX];
	struct json *rows = json_new_array(a);
	size_t n = 0;

	if (dataplane_drops(dp, drops, STATUS_ROWS_MAX, &n, NULL) < 0)
		return rows;
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_new_object(a);

		json_set_cstr(a, v, "reason", arena_strdup(a, drops[i].reason));
		json_set_int(a, v, "packets", (int64_t)drops[i].packets);
		json_set_int(a, v, "bytes", (int64_t)drops[i].bytes);
		json_append(rows, v);
	}
	return rows;
}

static struct json *kernel_programs(struct dataplane *dp, struct arena *a)
{
	struct dp_program_info *programs = arena_new_array(a, struct dp_program_info, STATUS_ROWS_MAX);
	struct json *rows = json_new_array(a);
	size_t n = 0;

	if (dataplane_programs(dp, programs, STATUS_ROWS_MAX, &n, NULL) < 0)
		return rows;
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_new_object(a);

		json_set_cstr(a, v, "name", programs[i].name);
		json_set_int(a, v, "id", programs[i].id);
		json_set_bool(a, v, "attached", programs[i].attached);
		json_set_int(a, v, "instructions", programs[i].instructions);
		json_set_int(a, v, "memoryBytes", (int64_t)programs[i].memory_bytes);
		json_set_int(a, v, "runs", (int64_t)programs[i].run_count);
		json_append(rows, v);
	}
	return rows;
}

static struct json *kernel_maps(struct dataplane *dp, struct arena *a)
{
	struct dp_map_info *maps = arena_new_array(a, struct dp_map_info, STATUS_ROWS_MAX);
	struct json *rows = json_new_array(a);
	size_t n = 0;

	if (dataplane_maps(dp, maps, STATUS_ROWS_MAX, &n, NULL) < 0)
		return rows;
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_new_object(a);

		json_set_cstr(a, v, "name", maps[i].name);
		json_set_int(a, v, "id", maps[i].id);
		json_set_int(a, v, "entries", maps[i].entries);
		json_set_int(a, v, "maxEntries", maps[i].max_entries);
		if (maps[i].array)
			json_set_bool(a, v, "array", true);
		json_set_int(a, v, "memoryBytes", (int64_t)maps[i].memory_bytes);
		json_append(rows, v);
	}
	return rows;
}

/* How near each table is to its limit: of connections and translations those in use count. */
static struct json *kernel_pressure(struct dataplane *dp, struct arena *a)
{
	struct dp_pressure *rows = arena_new_array(a, struct dp_pressure, STATUS_ROWS_MAX);
	struct json *list = json_new_array(a);
	size_t n = 0;

	if (dataplane_pressure(dp, rows, STATUS_ROWS_MAX, &n, NULL) < 0)
		return list;
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_new_object(a);

		json_set_cstr(a, v, "map", arena_strdup(a, rows[i].name));
		json_set_int(a, v, "entries", rows[i].entries);
		json_set_int(a, v, "maxEntries", rows[i].max_entries);
		json_set_bool(a, v, "forgets", rows[i].forgets);
		json_set_bool(a, v, "full", rows[i].full_since_ns != 0);
		json_append(list, v);
	}
	return list;
}

static void kernel_translation(void *arg, const struct dp_translation *t)
{
	int64_t *counts = arg;

	counts[t->masquerade]++;
}

static struct json *kernel_translations(struct dataplane *dp, struct arena *a)
{
	struct json *v = json_new_object(a);
	int64_t counts[2] = { 0 };

	(void)dataplane_translation_each(dp, kernel_translation, counts, NULL);
	json_set_int(a, v, "services", counts[0]);
	json_set_int(a, v, "masquerade", counts[1]);
	return v;
}

int status_add_kernel(const struct config *config, struct arena *a, struct json *status, const struct json *network,
		      struct err *err)
{
	struct kernel_policies policies = { a, NULL, json_get(network, "pods"), json_new_array(a) };
	static const char *const order[] = { "namespace", "pod", "address", NULL };
	_cleanup_err_ struct err missing = ERR_INIT;
	struct json *kernel = json_new_object(a);
	struct dataplane *dp;
	int r = dataplane_open_readonly(config->pin_dir, &dp, &missing);

	if (status_is_forbidden(r))
		return err_set(err, r, "%s", err_message(&missing));
	if (r < 0) {
		json_set_cstr(a, kernel, "missing", arena_strdup(a, err_message(&missing)));
		json_set(status, "dataplane", kernel);
		return 0;
	}
	policies.dp = dp;
	json_set(status, "services", status_kernel_services(dp, a, network));
	dataplane_policy_each(dp, kernel_policy, &policies, NULL);
	json_set(status, "policies", rows_sorted(a, policies.rows, order));
	json_set(kernel, "drops", kernel_drops(dp, a));
	json_set(kernel, "programs", kernel_programs(dp, a));
	json_set(kernel, "maps", kernel_maps(dp, a));
	json_set(kernel, "pressure", kernel_pressure(dp, a));
	json_set(kernel, "translations", kernel_translations(dp, a));
	json_set(status, "dataplane", kernel);
	dataplane_close(dp);
	return 0;
}
