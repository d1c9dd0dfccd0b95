/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime as the kubelet sees it: start and stop, what is known, delivering exits exactly once. A container's
 * exit is acknowledged to the supervisor after the callback, so that one which was not handled comes again to the
 * next server. Loop thread. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define SANDBOX_FILE_MAX (64u << 10)
#define SHUTDOWN_WAIT_MS 15000
#define LOG_MAX_BYTES_DEFAULT (10u << 20)
#define LOG_MAX_FILES_DEFAULT 5
#define GROUP_BUSY_TRIES 200
#define GROUP_BUSY_WAIT_US 5000

/* ---- work on the pool ---- */

static void runtime_free(struct runtime *rt);

static void work_run(struct loop_work *work)
{
	struct runtime_work *w = container_of(work, struct runtime_work, work);

	w->run(w);
}

static void work_done(struct loop_work *work)
{
	struct runtime_work *w = container_of(work, struct runtime_work, work);
	struct runtime *rt = w->rt;

	w->done(w);
	if (--rt->busy == 0 && rt->stopping)
		runtime_free(rt);
}

void runtime_work_submit(struct runtime *rt, struct runtime_work *work)
{
	work->rt = rt;
	work->work.run = work_run;
	work->work.done = work_done;
	rt->busy++;
	loop_work_submit(rt->loop, &work->work);
}

/* ---- what is known ---- */

char *runtime_bundle_dir(const struct runtime *rt, const char *id)
{
	return mem_printf("%s/containers/%s", rt->run_dir, id);
}

char *runtime_container_data_dir(const struct runtime *rt, const char *id)
{
	return mem_printf("%s/containers/%s", rt->data_dir, id);
}

struct known *runtime_find(struct runtime *rt, const char *id)
{
	list_foreach(k, &rt->containers, struct known, link)
		if (strcmp(k->c.id, id) == 0)
			return k;
	return NULL;
}

void runtime_forget(struct known *k)
{
	const char *const strings[] = { k->c.id, k->c.pod_uid, k->c.name, k->c.log_path, k->c.annotations };

	list_del(&k->link);
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free((char *)strings[i]);
	free(k);
}

static enum runtime_container_state state_of(struct str s)
{
	return str_is(s, "created")   ? CONTAINER_CREATED
	       : str_is(s, "running") ? CONTAINER_RUNNING
	       : str_is(s, "exited")  ? CONTAINER_EXITED
				      : CONTAINER_UNKNOWN;
}

struct known *runtime_learn(struct runtime *rt, const struct json *e)
{
	_cleanup_free_ char *id = str_dup(json_get_str(e, "id"));
	struct known *k = runtime_find(rt, id);

	if (!k) {
		k = mem_new(struct known);
		k->c.id = TAKE_PTR(id);
		k->c.pod_uid = str_dup(json_get_str(e, "pod_uid"));
		k->c.name = str_dup(json_get_str(e, "name"));
		k->c.log_path = str_dup(json_get_str(e, "log_path"));
		k->c.annotations = str_dup(json_get_str(e, "annotations"));
		k->c.attempt = (unsigned)json_get_int(e, "attempt", 0);
		list_add_tail(&rt->containers, &k->link);
	}
	k->c.state = state_of(json_get_str(e, "state"));
	k->c.pid = (pid_t)json_get_int(e, "pid", 0);
	k->c.created_real_ns = json_get_int(e, "created", 0);
	k->c.started_real_ns = json_get_int(e, "started", 0);
	k->c.finished_real_ns = json_get_int(e, "finished", 0);
	k->c.exit_code = (int)json_get_int(e, "exit_code", 0);
	k->c.signal = (int)json_get_int(e, "signal", 0);
	k->c.oom_killed = json_get_bool(e, "oom_killed", false);
	k->acked = json_get_bool(e, "acked", false);
	return k;
}

void runtime_each(struct runtime *rt, const char *pod_uid, runtime_each_fn *fn, void *arg)
{
	list_foreach_safe(k, &rt->containers, struct known, link)
		if (!pod_uid || strcmp(k->c.pod_uid, pod_uid) == 0)
			fn(arg, &k->c);
}

void runtime_each_sandbox(struct runtime *rt, void (*fn)(void *arg, const char *pod_uid), void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *seen = json_new_object(&arena);

	map_foreach(e, &rt->sandboxes)
		json_set(seen, arena_strdup(&arena, e->key), json_new_bool(&arena, true));
	list_foreach(k, &rt->containers, struct known, link)
		json_set(seen, arena_strdup(&arena, k->c.pod_uid), json_new_bool(&arena, true));
	json_foreach(v, seen)
		fn(arg, v->key.p);
}

pid_t runtime_supervisor_pid(const struct runtime *rt)
{
	return rt->supervisor_pid;
}

const char *runtime_oci_name(const struct runtime *rt)
{
	return rt->oci_name;
}

/* ---- exits, once ---- */

static struct known *next_exit(struct runtime *rt)
{
	list_foreach(k, &rt->containers, struct known, link)
		if (k->c.state == CONTAINER_EXITED && !k->acked && !k->announced)
			return k;
	return NULL;
}

static void deliver(struct loop_defer *defer)
{
	struct runtime *rt = container_of(defer, struct runtime, deliver);
	struct known *k;

	if (!rt->connection && !list_empty(&rt->requests)) {
		client_lost(rt);
		return;
	}
	client_fail_unsent(rt);
	while (!rt->stopping && (k = next_exit(rt))) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		_cleanup_free_ char *id = mem_strdup(k->c.id);

		k->announced = true;
		if (rt->events.exited)
			rt->events.exited(rt->events.ctx, &k->c);
		buf_printf(&b, "\"op\":\"ack\",\"id\":\"%s\"}", id);
		client_tell(rt, &b);
	}
}

void runtime_deliver_soon(struct runtime *rt)
{
	loop_defer(rt->loop, &rt->deliver);
}

static void retry(struct loop_timer *timer)
{
	client_lost(container_of(timer, struct runtime, retry));
}

/* ---- start and stop ---- */

static int read_sandbox(struct runtime *rt, const char *uid)
{
	_cleanup_free_ char *path = mem_printf("%s/ns/%s/sandbox.json", rt->run_dir, uid);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct known_sandbox *s;
	struct json *v;

	if (fs_read(path, SANDBOX_FILE_MAX, &text, NULL) < 0 || json_parse(&arena, buf_str(&text), 0, &v, NULL) < 0)
		return -ENOENT;
	s = mem_new(struct known_sandbox);
	s->uid = mem_strdup(uid);
	s->cgroup_path = str_dup(json_get_str(v, "cgroup"));
	s->hostname = str_dup(json_get_str(v, "hostname"));
	s->host_network = json_get_bool(v, "host_network", false);
	s->host_ipc = json_get_bool(v, "host_ipc", false);
	s->host_pid = json_get_bool(v, "host_pid", false);
	s->share_pid = json_get_bool(v, "share_pid", false);
	map_put(&rt->sandboxes, str_of(uid), s);
	return 0;
}

static void read_sandboxes(struct runtime *rt)
{
	_cleanup_free_ char *dir = mem_printf("%s/ns", rt->run_dir);
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			read_sandbox(rt, entry->d_name);
	if (d)
		closedir(d);
}

static int make_folders(struct runtime *rt, struct err *err)
{
	_cleanup_free_ char *containers = mem_printf("%s/containers", rt->run_dir);
	_cleanup_free_ char *ns = mem_printf("%s/ns", rt->run_dir);
	_cleanup_free_ char *data = mem_printf("%s/containers", rt->data_dir);
	int r = fs_mkdirs(containers, 0700, err);

	if (r >= 0)
		r = fs_mkdirs(ns, 0700, err);
	return r < 0 ? r : fs_mkdirs(data, 0711, err);
}

int runtime_start(struct loop *loop, const struct runtime_options *o, const struct runtime_events *events,
		  struct runtime **ret, struct err *err)
{
	struct runtime *rt = mem_new(struct runtime);
	int r;

	rt->loop = loop;
	rt->events = *events;
	rt->data_dir = mem_strdup(o->data_dir);
	rt->run_dir = mem_printf("%s/runtime", o->run_dir);
	rt->log_dir = mem_strdup(o->log_dir ? o->log_dir : "");
	rt->cgroup_root = mem_strdup(o->cgroup_root ? o->cgroup_root : "k3c-bpf");
	rt->log_max_bytes = o->log_max_bytes ? o->log_max_bytes : LOG_MAX_BYTES_DEFAULT;
	rt->log_max_files = o->log_max_files ? o->log_max_files : LOG_MAX_FILES_DEFAULT;
	rt->message = mem_alloc(PROTOCOL_MESSAGE_MAX);
	rt->deliver.fn = deliver;
	loop_timer_init(&rt->retry, retry);
	list_init(&rt->requests);
	list_init(&rt->containers);
	list_init(&rt->outgoing);
	list_init(&rt->execs);
	list_init(&rt->syncs);
	r = make_folders(rt, err);
	if (r >= 0)
		r = cgroup_detect(&rt->host, err);
	if (r >= 0) {
		oci_prepare_host(o->oci_runtime, &rt->host, rt->run_dir);
		r = oci_choose(o->oci_runtime, &rt->host, rt->run_dir, &rt->oci_path, &rt->oci_name, err);
	}
	if (r >= 0) {
		read_sandboxes(rt);
		r = client_connect(rt, err);
	}
	if (r < 0) {
		runtime_free(rt);
		return r;
	}
	runtime_deliver_soon(rt);
	*ret = rt;
	return 0;
}

static void runtime_free(struct runtime *rt)
{
	list_foreach_safe(k, &rt->containers, struct known, link)
		runtime_forget(k);
	map_foreach(e, &rt->sandboxes) {
		struct known_sandbox *s = e->value;

		free(s->uid);
		free(s->cgroup_path);
		free(s->hostname);
		free(s);
	}
	map_finish(&rt->sandboxes);
	free(rt->data_dir);
	free(rt->run_dir);
	free(rt->log_dir);
	free(rt->cgroup_root);
	free(rt->oci_path);
	free(rt->oci_name);
	free(rt->message);
	free(rt);
}

void runtime_stop(struct runtime *rt)
{
	if (!rt)
		return;
	rt->stopping = true;
	loop_timer_cancel(rt->loop, &rt->retry);
	loop_defer_cancel(rt->loop, &rt->deliver);
	client_disconnect(rt);
	/* Nobody hears of these any more; their owners go with the kubelet. */
	while (!list_empty(&rt->requests)) {
		struct request *r = list_first(&rt->requests, struct request, link);

		list_del(&r->link);
		r->fn(rt, r, NULL, NULL, 0, NULL);
	}
	exec_forget_all(rt);
	exec_sync_forget_all(rt);
	if (!rt->busy)
		runtime_free(rt);
}

/* ---- the end of everything ---- */

static void end_supervisor(const char *run_dir)
{
	static const char request[] = "{\"op\":\"shutdown\",\"seq\":1}";
	char text[4096];
	int fd;

	if (client_open_socket(run_dir, &fd) < 0)
		return;
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		while (poll(&p, 1, SHUTDOWN_WAIT_MS) > 0 && recv(fd, text, sizeof(text), 0) > 0)
			;
	}
	close(fd);
}

static void each_child(const char *dir, void (*fn)(const char *path, const char *name, const char *data_dir),
		       const char *data_dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, entry->d_name);

		if (entry->d_name[0] != '.')
			fn(path, entry->d_name, data_dir);
	}
	if (d)
		closedir(d);
}

static void drop_bundle(const char *path, const char *name, const char *data_dir)
{
	_cleanup_free_ char *data = mem_printf("%s/containers/%s", data_dir, name);

	bundle_remove(path, data);
}

static void drop_pins(const char *path, const char *name, const char *data_dir)
{
	static const char *const pins[] = { "net", "ipc", "uts", "pid" };

	for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
		_cleanup_free_ char *pin = mem_printf("%s/%s", path, pins[i]);

		while (umount2(pin, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			;
	}
	fs_remove_tree(path, NULL);
}

int runtime_group_remove(const struct cgroup_host *host, const char *path)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < GROUP_BUSY_TRIES; i++) {
		if (i)
			usleep(GROUP_BUSY_WAIT_US); /* cgroup v1 tells nobody when the killed have left */
		cgroup_kill(host, path);
		r = cgroup_remove(host, path);
	}
	return r;
}

int runtime_shutdown_all(const struct runtime_options *o, struct err *err)
{
	_cleanup_free_ char *run_dir = mem_printf("%s/runtime", o->run_dir);
	_cleanup_free_ char *containers = mem_printf("%s/containers", run_dir), *ns = mem_printf("%s/ns", run_dir);
	_cleanup_free_ char *mounts = mem_printf("%s/%s", run_dir, OCI_CGROUP_MOUNTS);
	const char *root = o->cgroup_root ? o->cgroup_root : "k3c-bpf";
	struct cgroup_host host;
	int r;

	end_supervisor(run_dir);
	r = cgroup_detect(&host, err);
	if (r >= 0)
		r = runtime_group_remove(&host, root);
	cgroup_unmount_leftovers(mounts);
	each_child(containers, drop_bundle, o->data_dir);
	each_child(ns, drop_pins, o->data_dir);
	fs_remove_tree(run_dir, NULL);
	return r < 0 ? err_set(err, r, "cgroup %s: %s", root, strerror(-r)) : 0;
}
