/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet as a whole: start, watches, the table of pod workers, what is left over from before. See kubelet.h.
 * Loop thread. */
#include "kubelet/kubelet.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "kubelet/internal.h"
#include "kubelet/node/node_agent.h"
#include "kubelet/pods/orphans.h"
#include "kubelet/pods/pull.h"
#include "kubelet/pods/worker.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"

#define LOG_MAX_BYTES_DEFAULT (10ULL * 1024 * 1024)
#define LOG_MAX_FILES_DEFAULT 5
#define LOG_DIR_DEFAULT "/var/log/pods"
#define CGROUP_ROOT_DEFAULT "k3c-bpf"

/* ---- options ---- */

static const char *copy(struct arena *arena, const char *s)
{
	return s ? arena_strdup(arena, s) : NULL;
}

static const char *const *copy_list(struct arena *arena, const char *const *list)
{
	size_t n = 0;

	if (!list)
		return NULL;
	while (list[n])
		n++;
	const char **out = arena_new_array(arena, const char *, n + 1);

	for (size_t i = 0; i < n; i++)
		out[i] = arena_strdup(arena, list[i]);
	return out;
}

static void copy_registries(struct kubelet *kl, const struct kubelet_options *o)
{
	struct kubelet_image_registry *to =
		arena_new_array(&kl->strings, struct kubelet_image_registry, o->n_registries + 1);

	for (size_t i = 0; i < o->n_registries; i++) {
		const struct kubelet_image_registry *from = &o->registries[i];

		to[i].host = copy(&kl->strings, from->host);
		to[i].username = copy(&kl->strings, from->username);
		to[i].password = copy(&kl->strings, from->password);
		to[i].ca_file = copy(&kl->strings, from->ca_file);
		to[i].insecure_http = from->insecure_http;
	}
	kl->options.registries = to;
}

static void set_node_ips(struct kubelet *kl, const char *const ips[static KUBELET_NODE_IPS_MAX])
{
	for (int i = 0; i < KUBELET_NODE_IPS_MAX; i++) {
		kl->options.node_ips[i] = kl->facts.host_ips[i] = NULL;
		if (!ips[i])
			continue;
		snprintf(kl->node_ips[i], sizeof(kl->node_ips[i]), "%s", ips[i]);
		kl->options.node_ips[i] = kl->facts.host_ips[i] = kl->node_ips[i];
	}
}

static void copy_options(struct kubelet *kl, const struct kubelet_options *o)
{
	struct arena *a = &kl->strings;

	kl->options = *o;
	kl->options.node_name = copy(a, o->node_name);
	set_node_ips(kl, o->node_ips);
	for (int i = 0; i < KUBELET_NODE_IPS_MAX; i++)
		kl->options.pod_cidrs[i] = copy(a, o->pod_cidrs[i]);
	kl->options.node_labels = copy_list(a, o->node_labels);
	kl->options.data_dir = copy(a, o->data_dir);
	kl->options.run_dir = copy(a, o->run_dir);
	kl->options.log_dir = copy(a, o->log_dir ? o->log_dir : LOG_DIR_DEFAULT);
	kl->options.oci_runtime = copy(a, o->oci_runtime);
	kl->options.cgroup_root = copy(a, o->cgroup_root ? o->cgroup_root : CGROUP_ROOT_DEFAULT);
	kl->options.resolv_conf = copy(a, o->resolv_conf);
	if (!o->pods_max)
		kl->options.pods_max = KUBELET_PODS_DEFAULT;
	if (!o->log_max_bytes)
		kl->options.log_max_bytes = LOG_MAX_BYTES_DEFAULT;
	if (!o->log_max_files)
		kl->options.log_max_files = LOG_MAX_FILES_DEFAULT;
	copy_registries(kl, o);
	kl->pods_dir = arena_printf(a, "%s/pods", o->data_dir);
	kl->pods_run_dir = arena_printf(a, "%s/pods", o->run_dir);
	kl->facts.node_name = kl->options.node_name;
}

static int field_index(const struct api_kind *kind, const char *path)
{
	for (int i = 0; kind->selectable && kind->selectable[i]; i++)
		if (strcmp(kind->selectable[i], path) == 0)
			return i;
	return -1;
}

int kubelet_create(struct loop *loop, struct registry *reg, const struct kubelet_options *options,
		   const struct pod_network *network, const struct kubelet_tokens *tokens, struct kubelet **ret,
		   struct err *err)
{
	int field = field_index(KIND_POD, "spec.nodeName");
	struct kubelet *kl;

	if (field < 0 || field >= OBJECT_FIELDS_MAX)
		return err_set(err, -EINVAL, "pods cannot be selected by spec.nodeName");
	if (!options->node_name || !*options->node_name || !options->node_ips[0])
		return err_set(err, -EINVAL, "the node needs a name and an address");
	kl = mem_new(struct kubelet);
	kl->loop = loop;
	kl->reg = reg;
	kl->network = *network;
	if (tokens)
		kl->tokens = *tokens;
	kl->node_field = field;
	copy_options(kl, options);
	*ret = kl;
	return 0;
}

/* ---- pods ---- */

static bool is_mine(const struct kubelet *kl, const struct object *pod)
{
	return pod->n_fields > kl->node_field && str_is(pod->fields[kl->node_field], kl->options.node_name);
}

static unsigned active_pods(const struct kubelet *kl)
{
	unsigned n = 0;

	map_foreach(e, &kl->workers)
		n += ((const struct pod_worker *)e->value)->stage == STAGE_RUN;
	return n;
}

static void pod_event(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	struct kubelet *kl = container_of(watch, struct kubelet, pod_watch);
	struct pod_worker *w;

	if (!is_mine(kl, o))
		return;
	w = map_get(&kl->workers, o->uid);
	if (w) {
		worker_update(w, o, type == REGISTRY_DELETED);
	} else if (type != REGISTRY_DELETED) {
		unsigned used = active_pods(kl);

		w = worker_create(kl, o);
		map_put(&kl->workers, o->uid, w);
		if (used >= kl->options.pods_max)
			worker_refuse(w, "pods", used, kl->options.pods_max);
	}
}

static void data_event(struct kubelet *kl, bool secret, const struct object *o)
{
	if (!kl->watching) /* the replay at the start: every worker looks by itself */
		return;
	map_foreach(e, &kl->workers) {
		struct pod_worker *w = e->value;

		if (str_is(o->ns, w->ns))
			worker_object_changed(w, secret, o->name);
	}
}

static void configmap_event(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
			    const struct object *prev)
{
	data_event(container_of(watch, struct kubelet, configmap_watch), false, o);
}

static void secret_event(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
			 const struct object *prev)
{
	data_event(container_of(watch, struct kubelet, secret_watch), true, o);
}

/* ---- the runtime's news ---- */

static void runtime_exited(void *ctx, const struct runtime_container *rc)
{
	struct kubelet *kl = ctx;
	struct pod_worker *w = map_get(&kl->workers, str_of(rc->pod_uid));

	for (size_t i = 0; w && i < w->n; i++)
		if (strcmp(w->containers[i].name, rc->name) == 0)
			container_ended(&w->containers[i], rc);
}

static void runtime_lost(void *ctx)
{
	struct kubelet *kl = ctx;

	log_error("supervisor lost: running containers ended with it");
	map_foreach(e, &kl->workers) {
		struct pod_worker *w = e->value;

		for (size_t i = 0; i < w->n; i++) {
			struct pod_container *c = &w->containers[i];
			struct runtime_container rc = { .id = c->id,
							.pod_uid = w->uid,
							.name = c->name,
							.attempt = c->attempt,
							.state = CONTAINER_EXITED,
							.started_real_ns = c->started_real_ns,
							.finished_real_ns = clock_real_ns(),
							.exit_code = 137 };

			if (c->step == STEP_RUNNING)
				container_ended(c, &rc);
		}
	}
}

/* ---- start ---- */

/* Tokens and secrets must not reach a disk. */
static int ensure_tmpfs(const char *path, struct err *err)
{
	struct statfs fs;
	int r = fs_mkdirs(path, 0755, err);

	if (r < 0)
		return r;
	if (statfs(path, &fs) < 0)
		return err_set(err, -errno, "statfs %s: %m", path);
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return 0;
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0)
		return err_set(err, -errno, "mount tmpfs on %s: %m", path);
	return 0;
}

static char *first_word(struct arena *arena, const char *s)
{
	return arena_strndup(arena, s, strcspn(s, " "));
}

static int start_runtime(struct kubelet *kl, struct err *err)
{
	const struct kubelet_options *o = &kl->options;
	const struct runtime_options options = {
		.data_dir = o->data_dir,
		.run_dir = o->run_dir,
		.log_dir = o->log_dir,
		.oci_runtime = o->oci_runtime,
		.cgroup_root = o->cgroup_root,
		.log_max_bytes = o->log_max_bytes,
		.log_max_files = o->log_max_files,
	};
	const struct runtime_events events = { kl, runtime_exited, runtime_lost };
	int r = images_open(arena_printf(&kl->strings, "%s/images", o->data_dir), &kl->images, err);

	if (r < 0)
		return err_wrap(err, r, "image store");
	r = runtime_start(kl->loop, &options, &events, &kl->rt, err);
	if (r < 0)
		return err_wrap(err, r, "container runtime");
	kl->cri_name = first_word(&kl->strings, runtime_oci_name(kl->rt));
	return 0;
}

static void start_watches(struct kubelet *kl)
{
	kl->pod_watch = (struct registry_watch){ .fn = pod_event, .kind = KIND_POD };
	kl->configmap_watch = (struct registry_watch){ .fn = configmap_event, .kind = KIND_CONFIGMAP };
	kl->secret_watch = (struct registry_watch){ .fn = secret_event, .kind = KIND_SECRET };
	registry_watch_start(kl->reg, &kl->configmap_watch);
	registry_watch_start(kl->reg, &kl->secret_watch);
	registry_watch_start(kl->reg, &kl->pod_watch);
	kl->watching = true;
}

int kubelet_start(struct kubelet *kl, struct err *err)
{
	int r = fs_mkdirs(kl->pods_dir, 0750, err);

	if (r >= 0)
		r = ensure_tmpfs(kl->pods_run_dir, err);
	if (r >= 0)
		r = start_runtime(kl, err);
	if (r < 0)
		return r;
	kl->puller = puller_create(kl);
	r = node_agent_create(kl, &kl->node, err);
	if (r < 0)
		return r;
	start_watches(kl);
	orphans_sweep(kl);
	log_info("kubelet started node=%s oci=\"%s\" pods=%u", kl->options.node_name, runtime_oci_name(kl->rt),
		 kl->workers.n);
	return 0;
}

void kubelet_set_node_ips(struct kubelet *kl, const char *const ips[static KUBELET_NODE_IPS_MAX])
{
	set_node_ips(kl, ips);
	node_agent_addresses_changed(kl->node);
	map_foreach(e, &kl->workers)
		prepare_host_ips_changed(e->value);
}

void kubelet_destroy(struct kubelet *kl)
{
	bool pulling;

	if (!kl)
		return;
	if (kl->watching) {
		registry_watch_stop(kl->reg, &kl->pod_watch);
		registry_watch_stop(kl->reg, &kl->secret_watch);
		registry_watch_stop(kl->reg, &kl->configmap_watch);
	}
	map_foreach(e, &kl->workers)
		worker_release(e->value);
	map_finish(&kl->workers);
	node_agent_destroy(kl->node);
	pulling = puller_destroy(kl->puller);
	if (kl->rt)
		runtime_stop(kl->rt);
	if (!pulling) /* else a pool thread is in it, and the process is about to end */
		images_close(kl->images);
	arena_finish(&kl->strings);
	free(kl);
}

/* ---- status ---- */

static bool pod_ready(const struct pod_worker *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->containers[i].role != ROLE_INIT && !w->containers[i].ready)
			return false;
	return w->stage == STAGE_RUN;
}

static bool pod_running(const struct pod_worker *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->containers[i].role == ROLE_APP && w->containers[i].step == STEP_RUNNING)
			return true;
	return false;
}

void kubelet_get_stats(struct kubelet *kl, struct kubelet_pod_stats *ret)
{
	*ret = (struct kubelet_pod_stats){ .restarts = kl->restarts, .oci = "" };
	map_foreach(e, &kl->workers) {
		const struct pod_worker *w = e->value;

		ret->pods++;
		ret->ready += pod_ready(w);
		if (pod_running(w))
			ret->running++;
		else if (w->stage == STAGE_RUN)
			ret->pending++;
		ret->terminating += w->removed || w->pod->deleting;
	}
	if (kl->rt) {
		ret->supervisor_pid = runtime_supervisor_pid(kl->rt);
		ret->oci = runtime_oci_name(kl->rt);
	}
	ret->node_ready = kl->node && node_agent_is_ready(kl->node);
}

static const char *const step_names[] = { "waiting",  "pulling", "preparing", "creating",
					  "starting", "running", "terminated" };

struct json *kubelet_status_json(struct kubelet *kl, struct arena *arena)
{
	struct json *list = json_new_array(arena);

	map_foreach(e, &kl->workers) {
		const struct pod_worker *w = e->value;
		struct json *o = json_new_object(arena), *containers = json_new_array(arena);
		int64_t restarts = 0;

		json_set_cstr(arena, o, "namespace", arena_strdup(arena, w->ns));
		json_set_cstr(arena, o, "name", arena_strdup(arena, w->name));
		json_set_cstr(arena, o, "uid", arena_strdup(arena, w->uid));
		json_set_cstr(arena, o, "ip", arena_strdup(arena, worker_pod_ip(w)));
		json_set_bool(arena, o, "ready", pod_ready(w));
		for (size_t i = 0; i < w->n; i++) {
			const struct pod_container *c = &w->containers[i];
			struct json *j = json_new_object(arena);

			json_set_cstr(arena, j, "name", arena_strdup(arena, c->name));
			json_set_cstr(arena, j, "state", step_names[c->step]);
			json_set_cstr(arena, j, "id", arena_strdup(arena, c->id));
			json_set_int(arena, j, "restarts", c->attempt);
			json_append(containers, j);
			restarts += c->attempt;
		}
		json_set_int(arena, o, "restarts", restarts);
		json_set(o, "containers", containers);
		json_append(list, o);
	}
	return list;
}
