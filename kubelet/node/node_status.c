/* SPDX-License-Identifier: Apache-2.0 */
/* See node_status.h. Loop thread. */
#include "kubelet/node/node_status.h"

#include <inttypes.h>
#include <stdlib.h>

#include "userspace/api/names.h"
#include "userspace/base/clock.h"

#define MEMORY_RESERVED_BYTES (100LL * 1024 * 1024) /* upstream's hard eviction threshold */
#define DISK_RESERVED_PERCENT 10

int64_t node_allocatable_memory_bytes(const struct node_facts *f)
{
	int64_t bytes = (int64_t)f->memory_kib * 1024 - MEMORY_RESERVED_BYTES;

	return bytes > 0 ? bytes : 0;
}

int64_t node_allocatable_disk_bytes(const struct node_facts *f)
{
	return (int64_t)(f->disk_bytes / 100 * (100 - DISK_RESERVED_PERCENT));
}

/* ---- the object ---- */

static struct json *labels(struct arena *arena, const struct node_view *v)
{
	struct json *o = json_new_object(arena);

	json_set_cstr(arena, o, "beta.kubernetes.io/arch", v->facts->arch);
	json_set_cstr(arena, o, "beta.kubernetes.io/os", "linux");
	json_set_cstr(arena, o, "kubernetes.io/arch", v->facts->arch);
	json_set_cstr(arena, o, "kubernetes.io/hostname", v->kl->options.node_name);
	json_set_cstr(arena, o, "kubernetes.io/os", "linux");
	json_set_cstr(arena, o, "node-role.kubernetes.io/control-plane", "");
	for (const char *const *l = v->kl->options.node_labels; l && *l; l++) {
		const char *eq = strchr(*l, '=');

		json_set_n(o, eq ? str_make(*l, (size_t)(eq - *l)) : str_of(*l),
			   json_new_cstr(arena, eq ? eq + 1 : ""));
	}
	return o;
}

struct json *node_object(struct arena *arena, const struct node_view *v)
{
	struct json *o = json_new_object(arena), *meta;

	json_set_cstr(arena, o, "apiVersion", "v1");
	json_set_cstr(arena, o, "kind", "Node");
	meta = json_ensure_object(arena, o, "metadata");
	json_set_cstr(arena, meta, "name", v->kl->options.node_name);
	json_set(meta, "labels", labels(arena, v));
	node_ensure_ranges(arena, v, o);
	return o;
}

/* What is set stays: the API lets nobody change it. */
bool node_ensure_ranges(struct arena *arena, const struct node_view *v, struct json *node)
{
	const char *const *cidrs = v->kl->options.pod_cidrs;
	struct json *spec;

	if (!cidrs[0] || json_at_str(node, "spec.podCIDR").n)
		return false;
	spec = json_ensure_object(arena, node, "spec");
	json_set_cstr(arena, spec, "podCIDR", cidrs[0]);
	json_set(spec, "podCIDRs", json_new_array(arena));
	for (int i = 0; i < KUBELET_NODE_IPS_MAX && cidrs[i]; i++)
		json_append(json_get(spec, "podCIDRs"), json_new_cstr(arena, cidrs[i]));
	return true;
}

bool node_ensure_labels(struct arena *arena, const struct node_view *v, struct json *node)
{
	struct json *have = json_ensure_object(arena, json_ensure_object(arena, node, "metadata"), "labels");
	struct json *want = labels(arena, v);
	bool changed = false;

	json_foreach(l, want) {
		const struct json *old = json_get_n(have, l->key);

		if (old && str_eq(json_str(old), json_str(l)))
			continue;
		json_set_n(have, l->key, json_new_str(arena, json_str(l)));
		changed = true;
	}
	return changed;
}

/* ---- the status ---- */

static struct json *resources(struct arena *arena, const struct node_view *v, bool allocatable)
{
	struct json *o = json_new_object(arena);
	const struct node_facts *f = v->facts;
	int64_t memory_kib = allocatable ? node_allocatable_memory_bytes(f) / 1024 : (int64_t)f->memory_kib;

	json_set(o, "cpu", json_new_printf(arena, "%u", f->cpus));
	if (allocatable)
		json_set(o, "ephemeral-storage", json_new_printf(arena, "%" PRId64, node_allocatable_disk_bytes(f)));
	else
		json_set(o, "ephemeral-storage", json_new_printf(arena, "%" PRIu64 "Ki", f->disk_bytes / 1024));
	json_set_cstr(arena, o, "hugepages-1Gi", "0");
	json_set_cstr(arena, o, "hugepages-2Mi", "0");
	json_set(o, "memory", json_new_printf(arena, "%" PRId64 "Ki", memory_kib));
	json_set(o, "pods", json_new_printf(arena, "%u", v->kl->options.pods_max));
	return o;
}

static void add_address(struct arena *arena, struct json *list, const char *type, const char *address)
{
	struct json *o = json_new_object(arena);

	json_set_cstr(arena, o, "address", address);
	json_set_cstr(arena, o, "type", type);
	json_append(list, o);
}

static struct json *addresses(struct arena *arena, const struct node_view *v)
{
	struct json *list = json_new_array(arena);

	for (int i = 0; i < KUBELET_NODE_IPS_MAX; i++)
		if (v->kl->options.node_ips[i])
			add_address(arena, list, "InternalIP", v->kl->options.node_ips[i]);
	add_address(arena, list, "Hostname", v->kl->options.node_name);
	return list;
}

static struct json *node_info(struct arena *arena, const struct node_view *v)
{
	struct json *o = json_new_object(arena);
	const struct node_facts *f = v->facts;
	const char *blank = strchr(v->oci, ' ');

	json_set_cstr(arena, o, "architecture", f->arch);
	json_set_cstr(arena, o, "bootID", f->boot_id);
	json_set(o, "containerRuntimeVersion",
		 json_new_printf(arena, "%.*s://%s", (int)strcspn(v->oci, " "), v->oci, blank ? blank + 1 : ""));
	json_set_cstr(arena, o, "kernelVersion", f->kernel);
	json_set_cstr(arena, o, "kubeProxyVersion", "");
	json_set_cstr(arena, o, "kubeletVersion", KUBELET_VERSION);
	json_set_cstr(arena, o, "machineID", f->machine_id);
	json_set_cstr(arena, o, "operatingSystem", "linux");
	json_set_cstr(arena, o, "osImage", f->os_image);
	json_set_cstr(arena, o, "systemUUID", f->system_uuid);
	return o;
}

static const struct json *old_condition(const struct json *old, const char *type)
{
	json_foreach(c, json_get(old, "conditions"))
		if (str_is(json_get_str(c, "type"), type))
			return c;
	return NULL;
}

static void add_condition(struct arena *arena, struct json *list, const struct json *old, const char *now,
			  bool heartbeat, const char *type, bool status, const char *reason, const char *message)
{
	const struct json *was = old_condition(old, type);
	const char *text = status ? "True" : "False";
	bool same = str_is(json_get_str(was, "status"), text);
	struct json *o = json_new_object(arena);

	if (same && !heartbeat)
		json_set_str(arena, o, "lastHeartbeatTime", json_get_str(was, "lastHeartbeatTime"));
	else
		json_set_cstr(arena, o, "lastHeartbeatTime", now);
	if (same && json_get_str(was, "lastTransitionTime").n)
		json_set_str(arena, o, "lastTransitionTime", json_get_str(was, "lastTransitionTime"));
	else
		json_set_cstr(arena, o, "lastTransitionTime", now);
	json_set_cstr(arena, o, "message", message);
	json_set_cstr(arena, o, "reason", reason);
	json_set_cstr(arena, o, "status", text);
	json_set_cstr(arena, o, "type", type);
	json_append(list, o);
}

static struct json *conditions(struct arena *arena, const struct node_view *v, const struct json *old, bool heartbeat)
{
	const struct node_pressure *p = v->pressure;
	struct json *list = json_new_array(arena);
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(v->now_real_ns, text);
	const char *now = arena_strdup(arena, text);

	add_condition(arena, list, old, now, heartbeat, "MemoryPressure", p->memory,
		      p->memory ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
		      p->memory ? "kubelet has insufficient memory available"
				: "kubelet has sufficient memory available");
	add_condition(arena, list, old, now, heartbeat, "DiskPressure", p->disk,
		      p->disk ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
		      p->disk ? "kubelet has disk pressure" : "kubelet has no disk pressure");
	add_condition(arena, list, old, now, heartbeat, "PIDPressure", p->pid,
		      p->pid ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
		      p->pid ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available");
	add_condition(arena, list, old, now, heartbeat, "Ready", true, "KubeletReady",
		      "kubelet is posting ready status");
	return list;
}

static int by_size(const void *a, const void *b)
{
	const struct image_entry *x = a, *y = b;

	return x->size_bytes < y->size_bytes ? 1 : x->size_bytes > y->size_bytes ? -1 : strcmp(x->id, y->id);
}

static struct json *images(struct arena *arena, const struct node_view *v)
{
	struct json *list = json_new_array(arena);
	struct image_entry *entries;
	size_t n;

	if (!v->kl->images || images_list(v->kl->images, arena, &entries, &n, NULL) < 0)
		return list;
	qsort(entries, n, sizeof(*entries), by_size);
	for (size_t i = 0; i < n && i < NODE_IMAGES_MAX; i++) {
		struct json *o = json_new_object(arena), *names = json_new_array(arena);

		for (char **r = entries[i].references; r && *r; r++)
			json_append(names, json_new_cstr(arena, *r));
		json_set(o, "names", names);
		json_set_int(arena, o, "sizeBytes", (int64_t)entries[i].size_bytes);
		json_append(list, o);
	}
	return list;
}

struct json *node_status(struct arena *arena, const struct node_view *v, const struct json *old, bool heartbeat)
{
	struct json *status = old ? json_clone(arena, old) : json_new_object(arena);

	json_set(status, "addresses", addresses(arena, v));
	json_set(status, "allocatable", resources(arena, v, true));
	json_set(status, "capacity", resources(arena, v, false));
	json_set(status, "conditions", conditions(arena, v, old, heartbeat));
	json_set(status, "images", images(arena, v));
	json_set(status, "nodeInfo", node_info(arena, v));
	return status;
}
