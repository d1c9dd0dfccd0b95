/* SPDX-License-Identifier: Apache-2.0 */
/* Containers: the bundle on the pool, then the supervisor's word. `start` is where the OCI runtime runs, as with
 * upstream, so a missing executable shows there. Loop thread. */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

/* ---- create ---- */

struct create_op {
	struct runtime_work work;
	struct request request;
	struct arena arena;
	struct runtime_container_spec spec;
	struct bundle_sandbox sandbox;
	struct image image;
	char id[BUNDLE_ID_LEN + 1];
	char *bundle, *data;
	struct err err;
	runtime_created_fn *done;
	void *arg;
};

static const char *copy(struct arena *a, const char *s)
{
	return s ? arena_strdup(a, s) : NULL;
}

static char **copy_list(struct arena *a, const char *const *list)
{
	size_t n = 0;
	char **out;

	if (!list)
		return NULL;
	while (list[n])
		n++;
	out = arena_new_array(a, char *, n + 1);
	for (size_t i = 0; i < n; i++)
		out[i] = arena_strdup(a, list[i]);
	return out;
}

static void copy_mounts(struct arena *a, struct runtime_container_spec *spec)
{
	struct runtime_mount *mounts = arena_new_array(a, struct runtime_mount, spec->n_mounts + 1);

	for (size_t i = 0; i < spec->n_mounts; i++) {
		mounts[i] = spec->mounts[i];
		mounts[i].host_path = copy(a, mounts[i].host_path);
		mounts[i].container_path = copy(a, mounts[i].container_path);
		mounts[i].propagation = copy(a, mounts[i].propagation);
	}
	spec->mounts = mounts;
}

/* The caller's strings live for the call only. */
static void copy_spec(struct create_op *op, const struct runtime_container_spec *from)
{
	struct runtime_container_spec *s = &op->spec;
	struct arena *a = &op->arena;
	int64_t *groups = arena_new_array(a, int64_t, from->n_supplemental_groups + 1);

	*s = *from;
	s->pod_uid = copy(a, s->pod_uid);
	s->name = copy(a, s->name);
	s->args = (const char *const *)copy_list(a, s->args);
	s->env = (const char *const *)copy_list(a, s->env);
	s->working_dir = copy(a, s->working_dir);
	s->cap_add = (const char *const *)copy_list(a, s->cap_add);
	s->cap_drop = (const char *const *)copy_list(a, s->cap_drop);
	s->seccomp_profile = copy(a, s->seccomp_profile);
	s->log_path = copy(a, s->log_path ? s->log_path : "");
	s->annotations = copy(a, s->annotations ? s->annotations : "");
	if (s->n_supplemental_groups)
		memcpy(groups, s->supplemental_groups, s->n_supplemental_groups * sizeof(*groups));
	s->supplemental_groups = groups;
	copy_mounts(a, s);
	if (!from->image)
		return;
	op->image = (struct image){
		.user = (char *)copy(a, from->image->user),
		.working_dir = (char *)copy(a, from->image->working_dir),
		.layer_dirs = copy_list(a, (const char *const *)from->image->layer_dirs),
	};
	s->image = &op->image;
}

static void create_finish(struct create_op *op, struct runtime *rt, const struct err *err)
{
	if (!rt->stopping)
		op->done(op->arg, err ? NULL : op->id, err);
	free(op->bundle);
	free(op->data);
	err_finish(&op->err);
	arena_finish(&op->arena);
	free(op);
}

static void make_bundle(struct runtime_work *work)
{
	struct create_op *op = container_of(work, struct create_op, work);

	bundle_create(op->bundle, op->data, op->id, &op->sandbox, &op->spec, &op->err);
}

static void drop_bundle(struct runtime_work *work)
{
	struct create_op *op = container_of(work, struct create_op, work);

	bundle_remove(op->bundle, op->data);
}

static void bundle_dropped(struct runtime_work *work)
{
	struct create_op *op = container_of(work, struct create_op, work);

	create_finish(op, work->rt, &op->err);
}

static void created(struct runtime *rt, struct request *request, const struct json *reply, const int *fds, size_t n_fds,
		    const struct err *err)
{
	struct create_op *op = container_of(request, struct create_op, request);
	struct known *k;

	if (err || !reply) {
		if (err)
			err_copy(&op->err, err);
		else
			err_set(&op->err, -ECANCELED, "stopping");
		op->work.run = drop_bundle;
		op->work.done = bundle_dropped;
		runtime_work_submit(rt, &op->work);
		return;
	}
	k = mem_new(struct known);
	k->c.id = mem_strdup(op->id);
	k->c.pod_uid = mem_strdup(op->spec.pod_uid);
	k->c.name = mem_strdup(op->spec.name);
	k->c.attempt = op->spec.attempt;
	k->c.log_path = mem_strdup(op->spec.log_path);
	k->c.annotations = mem_strdup(op->spec.annotations);
	k->c.state = CONTAINER_CREATED;
	list_add_tail(&rt->containers, &k->link);
	create_finish(op, rt, NULL);
}

static void add_string(struct buf *b, const char *key, const char *value)
{
	buf_printf(b, ",\"%s\":", key);
	json_write_str(b, str_of(value));
}

static void bundle_made(struct runtime_work *work)
{
	struct create_op *op = container_of(work, struct create_op, work);
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_free_ char *group = NULL;
	char oom[CGROUP_PATH_MAX] = "";

	if (op->err.code || work->rt->stopping) {
		create_finish(op, work->rt, &op->err);
		return;
	}
	group = mem_printf("%s/%s", op->sandbox.cgroup_path, op->id);
	cgroup_oom_file(&work->rt->host, group, oom, sizeof(oom));
	buf_printf(
		&b,
		"\"op\":\"create\",\"attempt\":%u,\"oom_score_adj\":%d,\"tty\":%s,\"stdin_open\":%s,\"stdin_once\":%s",
		op->spec.attempt, op->spec.oom_score_adj, op->spec.tty ? "true" : "false",
		op->spec.stdin_open ? "true" : "false", op->spec.stdin_once ? "true" : "false");
	add_string(&b, "id", op->id);
	add_string(&b, "pod_uid", op->spec.pod_uid);
	add_string(&b, "name", op->spec.name);
	add_string(&b, "log_path", op->spec.log_path);
	add_string(&b, "annotations", op->spec.annotations);
	add_string(&b, "oom_file", oom);
	buf_add_char(&b, '}');
	client_request(work->rt, &op->request, created, &b);
}

static void no_work(struct runtime_work *work)
{
}

void runtime_container_create(struct runtime *rt, const struct runtime_container_spec *spec, runtime_created_fn *done,
			      void *arg)
{
	struct known_sandbox *s = map_get(&rt->sandboxes, str_of(spec->pod_uid));
	struct create_op *op = mem_new(struct create_op);

	op->done = done;
	op->arg = arg;
	bundle_make_id(op->id);
	op->bundle = runtime_bundle_dir(rt, op->id);
	op->data = runtime_container_data_dir(rt, op->id);
	copy_spec(op, spec);
	op->work.run = make_bundle;
	op->work.done = bundle_made;
	if (s) {
		op->sandbox = (struct bundle_sandbox){
			.ns_dir = arena_printf(&op->arena, "%s/ns/%s", rt->run_dir, s->uid),
			.hostname = arena_strdup(&op->arena, s->hostname),
			.cgroup_path = arena_strdup(&op->arena, s->cgroup_path),
			.host_network = s->host_network,
			.host_ipc = s->host_ipc,
			.host_pid = s->host_pid,
			.share_pid = s->share_pid,
		};
	} else {
		err_set(&op->err, -ENOENT, "pod %s has no sandbox", spec->pod_uid);
		op->work.run = no_work;
	}
	runtime_work_submit(rt, &op->work);
}

/* ---- start, signal ---- */

struct simple_op {
	struct request request;
	runtime_done_fn *done;
	void *arg;
};

static void simple_done(struct runtime *rt, struct request *request, const struct json *reply, const int *fds,
			size_t n_fds, const struct err *err)
{
	struct simple_op *op = container_of(request, struct simple_op, request);

	if (!rt->stopping)
		op->done(op->arg, err);
	free(op);
}

static void simple(struct runtime *rt, const char *op_name, const char *id, int signo, runtime_done_fn *done, void *arg)
{
	struct simple_op *op = mem_new(struct simple_op);
	_cleanup_buf_ struct buf b = BUF_INIT;

	op->done = done;
	op->arg = arg;
	buf_printf(&b, "\"op\":\"%s\",\"signo\":%d", op_name, signo);
	add_string(&b, "id", id);
	buf_add_char(&b, '}');
	client_request(rt, &op->request, simple_done, &b);
}

void runtime_container_start(struct runtime *rt, const char *id, runtime_done_fn *done, void *arg)
{
	simple(rt, "start", id, 0, done, arg);
}

void runtime_container_signal(struct runtime *rt, const char *id, int signo, runtime_done_fn *done, void *arg)
{
	simple(rt, "signal", id, signo, done, arg);
}

/* ---- remove ---- */

struct remove_op {
	struct runtime_work work;
	struct request request;
	char *id, *bundle, *data, *group, *log_path;
	bool remove_logs;
	runtime_done_fn *done;
	void *arg;
};

static void remove_finish(struct remove_op *op, struct runtime *rt, const struct err *err)
{
	if (!rt->stopping)
		op->done(op->arg, err);
	free(op->id);
	free(op->bundle);
	free(op->data);
	free(op->group);
	free(op->log_path);
	free(op);
}

/* The log and what was rotated away from it. */
static void remove_logs(const char *path)
{
	_cleanup_free_ char *dir_copy = mem_strdup(path), *base_copy = mem_strdup(path);
	const char *dir = dirname(dir_copy), *base = basename(base_copy);
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *victim = mem_printf("%s/%s", dir, entry->d_name);
		size_t n = strlen(base);

		if (strncmp(entry->d_name, base, n) == 0 && (entry->d_name[n] == 0 || entry->d_name[n] == '.'))
			unlink(victim);
	}
	if (d)
		closedir(d);
}

static void remove_run(struct runtime_work *work)
{
	struct remove_op *op = container_of(work, struct remove_op, work);

	if (op->group)
		runtime_group_remove(&work->rt->host, op->group);
	bundle_remove(op->bundle, op->data);
	if (op->remove_logs && op->log_path && op->log_path[0])
		remove_logs(op->log_path);
}

static void remove_ran(struct runtime_work *work)
{
	struct remove_op *op = container_of(work, struct remove_op, work);

	remove_finish(op, work->rt, NULL);
}

static void removed(struct runtime *rt, struct request *request, const struct json *reply, const int *fds, size_t n_fds,
		    const struct err *err)
{
	struct remove_op *op = container_of(request, struct remove_op, request);
	struct known *k = runtime_find(rt, op->id);

	if (err || !reply) {
		if (k)
			k->removing = false;
		remove_finish(op, rt, err);
		return;
	}
	if (k) {
		struct known_sandbox *s = map_get(&rt->sandboxes, str_of(k->c.pod_uid));

		op->group = s ? mem_printf("%s/%s", s->cgroup_path, op->id) : NULL;
		op->log_path = mem_strdup(k->c.log_path);
		runtime_forget(k);
	}
	op->work.run = remove_run;
	op->work.done = remove_ran;
	runtime_work_submit(rt, &op->work);
}

void runtime_container_remove(struct runtime *rt, const char *id, bool with_logs, runtime_done_fn *done, void *arg)
{
	struct known *k = runtime_find(rt, id);
	struct remove_op *op = mem_new(struct remove_op);
	_cleanup_buf_ struct buf b = BUF_INIT;

	op->done = done;
	op->arg = arg;
	op->id = mem_strdup(id);
	op->bundle = runtime_bundle_dir(rt, id);
	op->data = runtime_container_data_dir(rt, id);
	op->remove_logs = with_logs;
	if (k)
		k->removing = true;
	buf_add_cstr(&b, "\"op\":\"remove\"");
	add_string(&b, "id", id);
	buf_add_char(&b, '}');
	client_request(rt, &op->request, removed, &b);
}

/* ---- usage ---- */

int runtime_container_usage(struct runtime *rt, const char *id, struct runtime_usage *ret)
{
	struct known *k = runtime_find(rt, id);
	struct known_sandbox *s = k ? map_get(&rt->sandboxes, str_of(k->c.pod_uid)) : NULL;
	_cleanup_free_ char *group = NULL;
	struct cgroup_usage usage;
	int r;

	if (!s)
		return -ENOENT;
	group = mem_printf("%s/%s", s->cgroup_path, id);
	r = cgroup_read_usage(&rt->host, group, &usage);
	if (r < 0)
		return r;
	*ret = (struct runtime_usage){ .cpu_ns = usage.cpu_ns,
				       .memory_bytes = usage.memory_bytes,
				       .memory_working_set_bytes = usage.memory_working_set_bytes,
				       .pids = usage.pids };
	return 0;
}
