/* SPDX-License-Identifier: Apache-2.0 */
/* See orphans.h. Loop thread but for folders_run(). */
#include "kubelet/pods/orphans.h"

#include <dirent.h>
#include <stdio.h>

#include "kubelet/pods/worker.h"
#include "kubelet/volumes/volumes.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"

struct uid_list {
	struct kubelet *kl;
	char **items;
	size_t n, cap;
};

static bool has(const struct uid_list *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->items[i], s) == 0)
			return true;
	return false;
}

static void add(struct uid_list *l, const char *s)
{
	if (has(l, s))
		return;
	mem_grow(l->items, l->cap, l->n + 1);
	l->items[l->n++] = mem_strdup(s);
}

static void uid_list_finish(struct uid_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->items[i]);
	free(l->items);
}

/* ---- folders ---- */

struct folders {
	struct loop_work work;
	char *pods_dir, *pods_run_dir;
	struct uid_list uids, logs; /* logs: whole paths */
};

static void folders_run(struct loop_work *work)
{
	struct folders *f = container_of(work, struct folders, work);

	for (size_t i = 0; i < f->uids.n; i++) {
		_cleanup_free_ char *disk = mem_printf("%s/%s", f->pods_dir, f->uids.items[i]);
		_cleanup_free_ char *tmpfs = mem_printf("%s/%s", f->pods_run_dir, f->uids.items[i]);
		_cleanup_err_ struct err err = ERR_INIT;

		if (volumes_teardown(disk, tmpfs, &err) < 0)
			log_warn("orphaned volumes not removed uid=%s error=\"%s\"", f->uids.items[i],
				 err_message(&err));
	}
	for (size_t i = 0; i < f->logs.n; i++)
		fs_remove_tree(f->logs.items[i], NULL);
}

static void folders_done(struct loop_work *work)
{
	struct folders *f = container_of(work, struct folders, work);

	uid_list_finish(&f->uids);
	uid_list_finish(&f->logs);
	free(f->pods_dir);
	free(f->pods_run_dir);
	free(f);
}

/* Takes both lists. */
static void submit_folders(struct kubelet *kl, const struct uid_list *uids, const struct uid_list *logs)
{
	struct folders *f = mem_new(struct folders);

	f->pods_dir = mem_strdup(kl->pods_dir);
	f->pods_run_dir = mem_strdup(kl->pods_run_dir);
	f->uids = *uids;
	f->logs = *logs;
	f->work.run = folders_run;
	f->work.done = folders_done;
	loop_work_submit(kl->loop, &f->work);
}

static void list_pods(struct uid_list *out, const char *dir, const struct uid_list *except)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));)
		if (strlen(e->d_name) == UUID_LEN && !map_get(&out->kl->workers, str_of(e->d_name)) &&
		    !has(except, e->d_name))
			add(out, e->d_name);
	closedir(d);
}

/* Only names of the form that this kubelet gives: ns_name_uid. */
static void list_logs(struct uid_list *out, const char *dir, const struct uid_list *except)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		const char *uid = strrchr(e->d_name, '_');

		if (!uid || strlen(uid + 1) != UUID_LEN || map_get(&out->kl->workers, str_of(uid + 1)) ||
		    has(except, uid + 1))
			continue;
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, e->d_name);

		add(out, path);
	}
	closedir(d);
}

/* ---- containers and sandboxes ---- */

/* One pod's containers and sandbox. The kubelet may go away meanwhile; the runtime then does not call any more. */
struct orphan {
	struct kubelet *kl;
	char *uid;
	unsigned left;
};

static void sandbox_removed(void *arg, const struct err *err)
{
	struct orphan *o = arg;
	struct uid_list uids = { .kl = o->kl }, logs = { .kl = o->kl };

	if (err) {
		log_warn("orphaned sandbox not removed uid=%s error=\"%s\"", o->uid, err_message(err));
	} else {
		log_info("orphaned pod removed uid=%s", o->uid);
		add(&uids, o->uid);
		submit_folders(o->kl, &uids, &logs);
	}
	free(o->uid);
	free(o);
}

static void detached(void *arg, const struct pod_network_result *result, const struct err *err)
{
	struct orphan *o = arg;

	runtime_sandbox_remove(o->kl->rt, o->uid, sandbox_removed, o);
}

static void container_removed(void *arg, const struct err *err)
{
	struct orphan *o = arg;

	if (err)
		log_warn("orphaned container not removed uid=%s error=\"%s\"", o->uid, err_message(err));
	if (--o->left == 0)
		o->kl->network.detach(o->kl->network.ctx, str_of(o->uid), detached, o);
}

static void see_sandbox(void *arg, const char *pod_uid)
{
	struct uid_list *l = arg;

	if (!map_get(&l->kl->workers, str_of(pod_uid)))
		add(l, pod_uid);
}

static void see_container(void *arg, const struct runtime_container *rc)
{
	see_sandbox(arg, rc->pod_uid);
}

static void see_id(void *arg, const struct runtime_container *rc)
{
	add(arg, rc->id);
}

static void remove_pod(struct kubelet *kl, const char *uid)
{
	struct orphan *o = mem_new(struct orphan);
	struct uid_list ids = { .kl = kl };

	o->kl = kl;
	o->uid = mem_strdup(uid);
	o->left = 1;
	runtime_each(kl->rt, uid, see_id, &ids);
	o->left += (unsigned)ids.n;
	for (size_t i = 0; i < ids.n; i++)
		runtime_container_remove(kl->rt, ids.items[i], true, container_removed, o);
	uid_list_finish(&ids);
	container_removed(o, NULL);
}

void orphans_sweep(struct kubelet *kl)
{
	struct uid_list uids = { .kl = kl }, folders = { .kl = kl }, logs = { .kl = kl };

	runtime_each_sandbox(kl->rt, see_sandbox, &uids);
	runtime_each(kl->rt, NULL, see_container, &uids);
	/* listed now: what pods make from here on is not among them */
	list_pods(&folders, kl->pods_dir, &uids);
	list_pods(&folders, kl->pods_run_dir, &uids);
	list_logs(&logs, kl->options.log_dir, &uids);
	for (size_t i = 0; i < uids.n; i++)
		remove_pod(kl, uids.items[i]);
	uid_list_finish(&uids);
	if (folders.n || logs.n)
		submit_folders(kl, &folders, &logs);
}
