/* SPDX-License-Identifier: Apache-2.0 */
/* Registration, status and lease of the node. See node_agent.h. Loop thread. */
#include "kubelet/node/node_agent.h"

#include <errno.h>
#include <sys/stat.h>

#include "kubelet/node/node_status.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define LEASE_NS "kube-node-lease"
#define RETRY_NS NS_PER_S /* the lease's namespace may not be there yet */

struct node_agent {
	struct kubelet *kl; /* NULL: let go, and freed by the last answer */
	unsigned refs;
	struct arena strings;
	struct node_facts facts;
	struct node_pressure pressure;
	struct loop_timer timer;
	int64_t images_changed_ns; /* of the image store, real time */
	int64_t heartbeat_ns;      /* when the status was last looked at, monotonic */
	bool ready, told, lease_missing;
};

static void unref(struct node_agent *a)
{
	if (--a->refs)
		return;
	arena_finish(&a->strings);
	free(a);
}

static struct node_view view_of(const struct node_agent *a)
{
	return (struct node_view){ a->kl, &a->facts, &a->pressure, runtime_oci_name(a->kl->rt), clock_real_ns() };
}

static void event(struct node_agent *a, const char *reason, const char *text)
{
	const struct object *o = registry_get(a->kl->reg, KIND_NODE, STR_NULL, str_of(a->kl->options.node_name));

	if (o)
		registry_event(a->kl->reg, KUBELET_COMPONENT, o, "Normal", reason, "%s", text);
}

/* ---- status ---- */

struct write {
	struct node_agent *a;
	bool heartbeat;
};

static int change_status(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct write *w = arg;
	struct node_view v = view_of(w->a);
	const struct json *old = json_get(object, "status");
	struct json *status = node_status(arena, &v, old, false);

	if (json_equal(status, old)) {
		if (!w->heartbeat)
			return 1;
		status = node_status(arena, &v, old, true);
	}
	json_set(object, "status", status);
	return 0;
}

static void tell(struct node_agent *a)
{
	static const char *const reasons[] = { "NodeHasSufficientMemory", "NodeHasNoDiskPressure",
					       "NodeHasSufficientPID", "NodeReady" };

	if (a->told)
		return;
	a->told = true;
	event(a, "Starting", "Starting kubelet.");
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		_cleanup_free_ char *text =
			mem_printf("Node %s status is now: %s", a->kl->options.node_name, reasons[i]);

		event(a, reasons[i], text);
	}
}

static void status_done(void *arg, const struct object *o, const struct err *err)
{
	struct write *w = arg;
	struct node_agent *a = w->a;

	free(w);
	if (a->kl) {
		if (err) {
			log_warn("node status not written error=\"%s\"", err_message(err));
		} else {
			a->ready = true;
			tell(a);
		}
	}
	unref(a);
}

static void write_status(struct node_agent *a, bool heartbeat)
{
	struct write *w = mem_new(struct write);

	w->a = a;
	w->heartbeat = heartbeat;
	a->refs++;
	a->heartbeat_ns = loop_now_ns(a->kl->loop);
	registry_update(a->kl->reg, KIND_NODE, STR_NULL, str_of(a->kl->options.node_name), "status", change_status, w,
			status_done, w);
}

void node_agent_addresses_changed(struct node_agent *a)
{
	if (a && registry_get(a->kl->reg, KIND_NODE, STR_NULL, str_of(a->kl->options.node_name)))
		write_status(a, false);
}

/* ---- registration ---- */

static int change_object(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct node_view v = view_of(arg);
	bool changed = node_ensure_labels(arena, &v, object);

	return node_ensure_ranges(arena, &v, object) || changed ? 0 : 1;
}

static void registered(void *arg, const struct object *o, const struct err *err)
{
	struct node_agent *a = arg;

	if (a->kl) {
		if (err && err->status != 409)
			log_error("node not registered error=\"%s\"", err_message(err));
		else
			write_status(a, true);
	}
	unref(a);
}

static void registration(struct node_agent *a)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct node_view v = view_of(a);
	struct str name = str_of(a->kl->options.node_name);

	a->refs++;
	if (registry_get(a->kl->reg, KIND_NODE, STR_NULL, name))
		registry_update(a->kl->reg, KIND_NODE, STR_NULL, name, NULL, change_object, a, registered, a);
	else
		registry_create(a->kl->reg, KIND_NODE, node_object(&arena, &v), registered, a);
}

/* ---- lease ---- */

static void set_lease(struct node_agent *a, struct arena *arena, struct json *spec)
{
	char now[CLOCK_RFC3339_MAX];

	clock_format_rfc3339_micro(clock_real_ns(), now);
	json_set_cstr(arena, spec, "holderIdentity", a->kl->options.node_name);
	json_set_int(arena, spec, "leaseDurationSeconds", NODE_LEASE_DURATION_S);
	json_set_cstr(arena, spec, "renewTime", arena_strdup(arena, now));
}

static int change_lease(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	set_lease(arg, arena, json_ensure_object(arena, object, "spec"));
	return 0;
}

static void lease_done(void *arg, const struct object *o, const struct err *err)
{
	struct node_agent *a = arg;

	if (a->kl && err) {
		log_debug("lease not renewed error=\"%s\"", err_message(err));
		a->lease_missing = true;
		loop_timer_arm(a->kl->loop, &a->timer, RETRY_NS);
	} else {
		a->lease_missing = false;
	}
	unref(a);
}

static void create_lease(struct node_agent *a)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *o = json_new_object(&arena), *meta, *owner;
	const struct object *node = registry_get(a->kl->reg, KIND_NODE, STR_NULL, str_of(a->kl->options.node_name));

	json_set_cstr(&arena, o, "apiVersion", "coordination.k8s.io/v1");
	json_set_cstr(&arena, o, "kind", "Lease");
	meta = json_ensure_object(&arena, o, "metadata");
	json_set_cstr(&arena, meta, "name", a->kl->options.node_name);
	json_set_cstr(&arena, meta, "namespace", LEASE_NS);
	if (node) {
		owner = json_new_object(&arena);
		json_set_cstr(&arena, owner, "apiVersion", "v1");
		json_set_cstr(&arena, owner, "kind", "Node");
		json_set_cstr(&arena, owner, "name", a->kl->options.node_name);
		json_set_str(&arena, owner, "uid", node->uid);
		json_append(json_ensure_array(&arena, meta, "ownerReferences"), owner);
	}
	set_lease(a, &arena, json_ensure_object(&arena, o, "spec"));
	a->refs++;
	registry_create(a->kl->reg, KIND_LEASE, o, lease_done, a);
}

static void renew_lease(struct node_agent *a)
{
	struct str name = str_of(a->kl->options.node_name);

	if (!registry_get(a->kl->reg, KIND_LEASE, STR(LEASE_NS), name)) {
		if (registry_get(a->kl->reg, KIND_NODE, STR_NULL, name))
			create_lease(a);
		else
			a->lease_missing = true;
		return;
	}
	a->refs++;
	registry_update(a->kl->reg, KIND_LEASE, STR(LEASE_NS), name, NULL, change_lease, a, lease_done, a);
}

/* ---- the beat ---- */

static bool pressure_changed(struct node_agent *a)
{
	struct node_pressure now;

	node_pressure_read(a->kl->options.data_dir, &now);
	bool changed = now.memory != a->pressure.memory || now.disk != a->pressure.disk || now.pid != a->pressure.pid;

	a->pressure = now;
	return changed;
}

/* The store is also changed by others: `k3c-bpf image`. */
static bool images_changed(struct node_agent *a)
{
	_cleanup_free_ char *path = mem_printf("%s/images/names.json", a->kl->options.data_dir);
	struct stat st;
	int64_t changed_ns;

	if (stat(path, &st) < 0)
		return false;
	changed_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
	if (changed_ns == a->images_changed_ns)
		return false;
	a->images_changed_ns = changed_ns;
	return true;
}

static void beat(struct loop_timer *timer)
{
	struct node_agent *a = container_of(timer, struct node_agent, timer);
	int64_t now_ns = loop_now_ns(a->kl->loop);

	a->lease_missing = false;
	renew_lease(a);
	if (!registry_get(a->kl->reg, KIND_NODE, STR_NULL, str_of(a->kl->options.node_name)))
		registration(a); /* somebody deleted it */
	else if (pressure_changed(a))
		write_status(a, true);
	else if (images_changed(a) || now_ns - a->heartbeat_ns >= NODE_HEARTBEAT_S * NS_PER_S)
		write_status(a, false);
	if (!loop_timer_armed(&a->timer))
		loop_timer_arm(a->kl->loop, &a->timer, a->lease_missing ? RETRY_NS : NODE_LEASE_RENEW_S * NS_PER_S);
}

int node_agent_create(struct kubelet *kl, struct node_agent **ret, struct err *err)
{
	struct node_agent *a = mem_new(struct node_agent);

	a->kl = kl;
	a->refs = 1;
	node_facts_read(&a->strings, kl->options.data_dir, &a->facts);
	node_pressure_read(kl->options.data_dir, &a->pressure);
	kl->facts.allocatable_cpu_milli = (int64_t)a->facts.cpus * 1000;
	kl->facts.allocatable_memory_bytes = node_allocatable_memory_bytes(&a->facts);
	kl->facts.allocatable_storage_bytes = node_allocatable_disk_bytes(&a->facts);
	kl->memory_capacity_bytes = (int64_t)a->facts.memory_kib * 1024;
	loop_timer_init(&a->timer, beat);
	registration(a);
	loop_timer_arm(kl->loop, &a->timer, 1);
	*ret = a;
	return 0;
}

void node_agent_destroy(struct node_agent *a)
{
	if (!a)
		return;
	loop_timer_cancel(a->kl->loop, &a->timer);
	a->kl = NULL;
	unref(a);
}

bool node_agent_is_ready(const struct node_agent *a)
{
	return a->ready;
}
