/* SPDX-License-Identifier: Apache-2.0 */
/* See fieldref.h. Any thread. */
#include "kubelet/pods/fieldref.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kubelet/pods/pod_resources.h"
#include "userspace/base/buf.h"

/* "metadata.labels['app']" -> key */
static bool subscript(struct str path, const char *prefix, struct str *ret_key)
{
	struct str p = str_of(prefix);

	if (!str_starts(path, p) || path.n < p.n + 5 || memcmp(path.p + p.n, "['", 2) != 0 ||
	    memcmp(path.p + path.n - 2, "']", 2) != 0)
		return false;
	*ret_key = str_make(path.p + p.n + 2, path.n - p.n - 4);
	return true;
}

static int by_key(const void *a, const void *b)
{
	return str_cmp((*(struct json *const *)a)->key, (*(struct json *const *)b)->key);
}

/* key="value" lines, sorted, quoted as Go does */
static char *map_lines(struct arena *arena, const struct json *map)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	size_t n = json_count(map), i = 0;

	if (!n)
		return arena_strdup(arena, "");
	struct json **sorted = arena_new_array(arena, struct json *, n);

	json_foreach(it, map)
		sorted[i++] = it;
	qsort(sorted, n, sizeof(*sorted), by_key);
	for (i = 0; i < n; i++) {
		if (i)
			buf_add_char(&out, '\n');
		buf_add_str(&out, sorted[i]->key);
		buf_add_char(&out, '=');
		json_write_str(&out, json_str(sorted[i]));
	}
	return arena_strndup(arena, buf_str(&out).p, buf_len(&out));
}

static char *join(struct arena *arena, const char *const ips[2])
{
	if (!ips[0])
		return arena_strdup(arena, "");
	return ips[1] ? arena_printf(arena, "%s,%s", ips[0], ips[1]) : arena_strdup(arena, ips[0]);
}

static char *from_json(struct arena *arena, const struct json *pod, const char *path)
{
	struct str s = json_at_str(pod, path);

	return arena_strndup(arena, s.p ? s.p : "", s.n);
}

int fieldref_value(struct arena *arena, const struct json *pod, const struct pod_facts *facts, struct str path,
		   char **ret, struct err *err)
{
	struct str key;

	if (subscript(path, "metadata.labels", &key) || subscript(path, "metadata.annotations", &key)) {
		const struct json *map = json_at(pod, path.p[9] == 'l' ? "metadata.labels" : "metadata.annotations");
		struct str value = json_str(json_get_n(map, key));

		*ret = arena_strndup(arena, value.p ? value.p : "", value.n);
	} else if (str_is(path, "metadata.labels")) {
		*ret = map_lines(arena, json_at(pod, "metadata.labels"));
	} else if (str_is(path, "metadata.annotations")) {
		*ret = map_lines(arena, json_at(pod, "metadata.annotations"));
	} else if (str_is(path, "metadata.name") || str_is(path, "metadata.namespace") ||
		   str_is(path, "metadata.uid") || str_is(path, "spec.serviceAccountName") ||
		   str_is(path, "spec.restartPolicy") || str_is(path, "spec.schedulerName")) {
		*ret = from_json(arena, pod, arena_strndup(arena, path.p, path.n));
	} else if (str_is(path, "spec.nodeName")) {
		*ret = arena_strdup(arena, facts->node_name);
	} else if (str_is(path, "status.hostIP")) {
		*ret = arena_strdup(arena, facts->host_ips[0] ? facts->host_ips[0] : "");
	} else if (str_is(path, "status.podIP")) {
		*ret = arena_strdup(arena, facts->pod_ips[0] ? facts->pod_ips[0] : "");
	} else if (str_is(path, "status.hostIPs")) {
		*ret = join(arena, facts->host_ips);
	} else if (str_is(path, "status.podIPs")) {
		*ret = join(arena, facts->pod_ips);
	} else {
		return err_set(err, -EINVAL, "unsupported fieldPath: %.*s", STR_ARG(path));
	}
	return 0;
}

static int64_t divide_up(int64_t value, int64_t by)
{
	return by > 0 ? (value + by - 1) / by : value;
}

int fieldref_resource(struct arena *arena, const struct json *container, const struct pod_facts *facts,
		      struct str resource, struct str divisor, char **ret, struct err *err)
{
	struct str what = resource, name;

	if (!str_split(&what, '.', &name) || (!str_is(name, "limits") && !str_is(name, "requests")))
		return err_set(err, -EINVAL, "unsupported container resource: %.*s", STR_ARG(resource));
	bool limits = str_is(name, "limits"), cpu = str_is(what, "cpu");
	const struct json *resources = json_get(container, "resources");
	struct str q = json_str(json_get_n(json_get(resources, limits ? "limits" : "requests"), what));
	int64_t value = 0;

	if (q.n) {
		value = cpu ? pod_resources_cpu_milli(q) : pod_resources_bytes(q);
	} else if (limits) {
		if (cpu)
			value = facts->allocatable_cpu_milli;
		else if (str_is(what, "memory"))
			value = facts->allocatable_memory_bytes;
		else if (str_is(what, "ephemeral-storage"))
			value = facts->allocatable_storage_bytes;
	}
	int64_t by = cpu ? 1000 : 1;

	if (divisor.n && !str_is(divisor, "0"))
		by = cpu ? pod_resources_cpu_milli(divisor) : pod_resources_bytes(divisor);
	*ret = arena_printf(arena, "%" PRId64, divide_up(value, by));
	return 0;
}
