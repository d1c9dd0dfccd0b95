/* SPDX-License-Identifier: Apache-2.0 */
/* See mounts.h. Loop thread. */
#include "kubelet/pods/mounts.h"

#include <errno.h>
#include <stdlib.h>

#include "kubelet/pods/expand.h"
#include "kubelet/volumes/volumes.h"

void mounts_add(struct mount_list *list, const struct runtime_mount *m)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 8;
		struct runtime_mount *grown = arena_new_array(list->arena, struct runtime_mount, cap);

		if (list->n)
			memcpy(grown, list->mounts, list->n * sizeof(*grown));
		list->mounts = grown;
		list->cap = cap;
	}
	list->mounts[list->n++] = *m;
}

bool mounts_has(const struct mount_list *list, const char *container_path)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->mounts[i].container_path, container_path) == 0)
			return true;
	return false;
}

static void add_subpath(struct mount_list *list, const struct subpath_job *job)
{
	if (list->n_subpaths == list->cap_subpaths) {
		size_t cap = list->cap_subpaths ? list->cap_subpaths * 2 : 4;
		struct subpath_job *grown = arena_new_array(list->arena, struct subpath_job, cap);

		if (list->n_subpaths)
			memcpy(grown, list->subpaths, list->n_subpaths * sizeof(*grown));
		list->subpaths = grown;
		list->cap_subpaths = cap;
	}
	list->subpaths[list->n_subpaths++] = *job;
}

static int check_subpath(struct str path, struct err *err)
{
	struct str rest = path, part;

	if (path.n && path.p[0] == '/')
		return err_set(err, -EINVAL, "subPath must not be an absolute path: %.*s", STR_ARG(path));
	while (str_split(&rest, '/', &part))
		if (str_is(part, ".."))
			return err_set(err, -EINVAL, "subPath must not contain '..': %.*s", STR_ARG(path));
	return 0;
}

static const char *propagation(const struct json *m)
{
	struct str p = json_get_str(m, "mountPropagation");

	if (str_is(p, "HostToContainer"))
		return "rslave";
	return str_is(p, "Bidirectional") ? "rshared" : NULL;
}

/* What the node keeps up to date is never the container's to write. */
static bool is_kept_by_node(const struct json *pod, struct str volume)
{
	static const char *const kinds[] = { "configMap", "secret", "downwardAPI", "projected" };

	json_foreach(v, json_at(pod, "spec.volumes")) {
		if (!str_eq(json_get_str(v, "name"), volume))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			if (json_get(v, kinds[i]))
				return true;
	}
	return false;
}

static int one_mount(struct pod_container *c, const struct json *m, size_t index, const struct env *env,
		     struct mount_list *list, struct err *err)
{
	struct pod_worker *w = c->w;
	struct str volume = json_get_str(m, "name"), path = json_get_str(m, "mountPath");
	struct str sub = json_get_str(m, "subPath"), sub_expr = json_get_str(m, "subPathExpr");
	char *host = volumes_path(list->arena, worker_json(w), w->disk_dir, w->tmpfs_dir, volume);
	bool read_only = json_get_bool(m, "readOnly", false) || is_kept_by_node(worker_json(w), volume);
	struct str recursive = json_get_str(m, "recursiveReadOnly");
	int r;

	if (!host)
		return err_set(err, -ENOENT, "volume \"%.*s\" not found", STR_ARG(volume));
	if (sub_expr.n)
		sub = str_of(expand_env(list->arena, sub_expr, env->vars, env->n));
	if (sub.n) {
		struct subpath_job job = {
			.volume_path = host,
			.sub_path = arena_strndup(list->arena, sub.p, sub.n),
			.target = arena_printf(list->arena, "%s/volume-subpaths/%.*s/%s/%zu", w->tmpfs_dir,
					       STR_ARG(volume), c->name, index),
		};

		r = check_subpath(sub, err);
		if (r < 0)
			return r;
		add_subpath(list, &job);
		host = job.target;
	}
	char *target = arena_printf(list->arena, path.n && path.p[0] == '/' ? "%.*s" : "/%.*s", STR_ARG(path));

	mounts_add(list, &(struct runtime_mount){
				 .host_path = host,
				 .container_path = target,
				 .read_only = read_only,
				 .recursive_read_only =
					 read_only && (str_is(recursive, "Enabled") || str_is(recursive, "IfPossible")),
				 .propagation = propagation(m),
			 });
	return 0;
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		if (*path == '/' && path[1] && path[1] != '/')
			n++;
	return n;
}

int mounts_of_volumes(struct pod_container *c, const struct json *container, const struct env *env,
		      struct mount_list *list, struct err *err)
{
	size_t index = 0;

	json_foreach(m, json_get(container, "volumeMounts")) {
		int r = one_mount(c, m, index++, env, list, err);

		if (r < 0)
			return r;
	}
	/* stable, and the lists are short */
	for (size_t i = 1; i < list->n; i++) {
		struct runtime_mount m = list->mounts[i];
		size_t j = i;

		for (; j > 0 && depth(list->mounts[j - 1].container_path) > depth(m.container_path); j--)
			list->mounts[j] = list->mounts[j - 1];
		list->mounts[j] = m;
	}
	return 0;
}
