/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes: the pod's groups on the pool, its namespaces in the supervisor. What later containers need to know is
 * kept in <run_dir>/runtime/ns/<uid>/sandbox.json. Loop thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define BESTEFFORT_SHARES 2

struct sandbox_op {
	struct runtime_work work;
	struct request request;
	char *uid, *qos_path, *cgroup_path, *file;
	struct buf file_text, request_text;
	bool best_effort, existed;
	struct cgroup_limits limits;
	struct err err;
	runtime_done_fn *done;
	void *arg;
};

void runtime_netns_path(struct runtime *rt, const char *pod_uid, char *ret, size_t size)
{
	snprintf(ret, size, "%s/ns/%s/net", rt->run_dir, pod_uid);
}

static void op_finish(struct sandbox_op *op, struct runtime *rt, const struct err *err)
{
	if (!rt->stopping)
		op->done(op->arg, err);
	free(op->uid);
	free(op->qos_path);
	free(op->cgroup_path);
	free(op->file);
	buf_finish(&op->file_text);
	buf_finish(&op->request_text);
	err_finish(&op->err);
	free(op);
}

/* ---- making ---- */

static int write_file(const char *path, struct str text, struct err *err)
{
	FILE *f = fopen(path, "we");
	bool bad = !f || fwrite(text.p, 1, text.n, f) != text.n;

	if (f)
		bad |= fclose(f) != 0;
	return bad ? err_set(err, -EIO, "cannot write %s", path) : 0;
}

static void make_groups(struct runtime_work *work)
{
	struct sandbox_op *op = container_of(work, struct sandbox_op, work);
	struct cgroup_limits qos = { .cpu_shares = op->best_effort ? BESTEFFORT_SHARES : 0 };
	int r;

	if (op->existed)
		return;
	r = cgroup_make(&work->rt->host, op->qos_path, &qos, &op->err);
	if (r >= 0)
		cgroup_make(&work->rt->host, op->cgroup_path, &op->limits, &op->err);
}

static void remember(struct runtime *rt, struct sandbox_op *op)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct known_sandbox *s = mem_new(struct known_sandbox), *old;
	struct json *v;

	json_parse(&arena, buf_str(&op->file_text), 0, &v, NULL);
	s->uid = mem_strdup(op->uid);
	s->cgroup_path = mem_strdup(op->cgroup_path);
	s->hostname = str_dup(json_get_str(v, "hostname"));
	s->host_network = json_get_bool(v, "host_network", false);
	s->host_ipc = json_get_bool(v, "host_ipc", false);
	s->host_pid = json_get_bool(v, "host_pid", false);
	s->share_pid = json_get_bool(v, "share_pid", false);
	old = map_put(&rt->sandboxes, str_of(op->uid), s);
	if (old) {
		free(old->uid);
		free(old->cgroup_path);
		free(old->hostname);
		free(old);
	}
}

static void made(struct runtime *rt, struct request *request, const struct json *reply, const int *fds, size_t n_fds,
		 const struct err *err)
{
	struct sandbox_op *op = container_of(request, struct sandbox_op, request);

	if (!err && reply && write_file(op->file, buf_str(&op->file_text), &op->err) >= 0)
		remember(rt, op);
	else if (!err)
		err = &op->err;
	op_finish(op, rt, err);
}

static void groups_made(struct runtime_work *work)
{
	struct sandbox_op *op = container_of(work, struct sandbox_op, work);
	struct runtime *rt = work->rt;

	if (op->err.code || op->existed || rt->stopping)
		op_finish(op, rt, op->err.code ? &op->err : NULL);
	else
		client_request(rt, &op->request, made, &op->request_text);
}

static void describe(struct runtime *rt, struct sandbox_op *op, const struct runtime_sandbox *s)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *file = json_new_object(&arena);
	struct buf *b = &op->request_text;

	json_set_cstr(&arena, file, "cgroup", op->cgroup_path);
	json_set_cstr(&arena, file, "hostname", s->hostname ? s->hostname : "");
	json_set_bool(&arena, file, "host_network", s->host_network);
	json_set_bool(&arena, file, "host_ipc", s->host_ipc);
	json_set_bool(&arena, file, "host_pid", s->host_pid);
	json_set_bool(&arena, file, "share_pid", s->share_pid);
	json_write(&op->file_text, file);
	buf_printf(b, "\"op\":\"sandbox\",\"net\":%s,\"uts\":%s,\"ipc\":%s,\"pid\":%s,\"uid\":",
		   s->host_network ? "false" : "true", s->host_network ? "false" : "true",
		   s->host_ipc ? "false" : "true", s->share_pid && !s->host_pid ? "true" : "false");
	json_write_str(b, str_of(s->pod_uid));
	buf_add_cstr(b, ",\"hostname\":");
	json_write_str(b, str_of(s->hostname ? s->hostname : ""));
	buf_add_cstr(b, ",\"sysctls\":[");
	for (size_t i = 0; s->sysctls && s->sysctls[i]; i++) {
		if (i)
			buf_add_char(b, ',');
		json_write_str(b, str_of(s->sysctls[i]));
	}
	buf_add_cstr(b, "]}");
}

void runtime_sandbox_create(struct runtime *rt, const struct runtime_sandbox *s, runtime_done_fn *done, void *arg)
{
	struct sandbox_op *op = mem_new(struct sandbox_op);
	const char *qos = s->qos && s->qos[0] ? s->qos : "besteffort";

	op->done = done;
	op->arg = arg;
	op->uid = mem_strdup(s->pod_uid);
	op->qos_path = mem_printf("%s/%s", rt->cgroup_root, qos);
	op->cgroup_path = mem_printf("%s/pod%s", op->qos_path, s->pod_uid);
	op->file = mem_printf("%s/ns/%s/sandbox.json", rt->run_dir, s->pod_uid);
	op->best_effort = strcmp(qos, "besteffort") == 0;
	op->existed = map_has(&rt->sandboxes, str_of(s->pod_uid));
	op->limits = (struct cgroup_limits){
		.cpu_shares = s->resources.cpu_shares,
		.cpu_quota_us = s->resources.cpu_quota_us,
		.cpu_period_us = s->resources.cpu_period_us,
		.memory_limit_bytes = s->resources.memory_limit_bytes,
		.pids_limit = s->resources.pids_limit,
	};
	describe(rt, op, s);
	op->work.run = make_groups;
	op->work.done = groups_made;
	runtime_work_submit(rt, &op->work);
}

/* ---- removing ---- */

static void remove_groups(struct runtime_work *work)
{
	struct sandbox_op *op = container_of(work, struct sandbox_op, work);

	if (op->cgroup_path)
		runtime_group_remove(&work->rt->host, op->cgroup_path);
}

static void groups_removed(struct runtime_work *work)
{
	op_finish(container_of(work, struct sandbox_op, work), work->rt, NULL);
}

static void removed(struct runtime *rt, struct request *request, const struct json *reply, const int *fds, size_t n_fds,
		    const struct err *err)
{
	struct sandbox_op *op = container_of(request, struct sandbox_op, request);
	struct known_sandbox *s;

	if (err || !reply) {
		op_finish(op, rt, err);
		return;
	}
	s = map_remove(&rt->sandboxes, str_of(op->uid));
	if (s) {
		op->cgroup_path = TAKE_PTR(s->cgroup_path);
		free(s->uid);
		free(s->hostname);
		free(s);
	}
	op->work.run = remove_groups;
	op->work.done = groups_removed;
	runtime_work_submit(rt, &op->work);
}

void runtime_sandbox_remove(struct runtime *rt, const char *pod_uid, runtime_done_fn *done, void *arg)
{
	struct sandbox_op *op = mem_new(struct sandbox_op);

	op->done = done;
	op->arg = arg;
	op->uid = mem_strdup(pod_uid);
	buf_add_cstr(&op->request_text, "\"op\":\"sandbox-remove\",\"uid\":");
	json_write_str(&op->request_text, str_of(pod_uid));
	buf_add_char(&op->request_text, '}');
	client_request(rt, &op->request, removed, &op->request_text);
}
