/* SPDX-License-Identifier: Apache-2.0 */
/* From a container of the pod's spec to what the runtime wants: argv, environment, mounts, identity, limits. Writes
 * only small files on tmpfs (/etc/hosts and its like). See worker.h. Loop thread. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "kubelet/pods/env.h"
#include "kubelet/pods/etc_files.h"
#include "kubelet/pods/expand.h"
#include "kubelet/pods/identity.h"
#include "kubelet/pods/mounts.h"
#include "kubelet/pods/pod_resources.h"
#include "kubelet/pods/termination_message.h"
#include "kubelet/pods/worker.h"
#include "userspace/api/hooks.h"
#include "userspace/base/fs.h"

char *container_log_path(const struct kubelet *kl, struct arena *arena, struct str ns, struct str pod, struct str uid,
			 const char *container, unsigned attempt)
{
	return arena_printf(arena, "%s/%.*s_%.*s_%.*s/%s/%u.log", kl->options.log_dir, STR_ARG(ns), STR_ARG(pod),
			    STR_ARG(uid), container, attempt);
}

/* command replaces entrypoint and cmd; args alone replaces cmd. */
static int build_args(struct arena *arena, const struct json *j, const struct image *image, const struct env *env,
		      const char *const **ret, struct err *err)
{
	const struct json *command = json_get(j, "command"), *args = json_get(j, "args");
	bool own_entry = json_count(command) > 0, own_args = json_count(args) > 0;
	size_t n = json_count(command) + json_count(args), i = 0;

	for (char **e = own_entry ? NULL : image->entrypoint; e && *e; e++)
		n++;
	for (char **e = own_entry || own_args ? NULL : image->cmd; e && *e; e++)
		n++;
	if (!n)
		return err_set(err, -EINVAL, "no command specified");
	const char **argv = arena_new_array(arena, const char *, n + 1);

	json_foreach(word, command)
		argv[i++] = expand_env(arena, json_str(word), env->vars, env->n);
	for (char **e = own_entry ? NULL : image->entrypoint; e && *e; e++)
		argv[i++] = *e;
	json_foreach(word, args)
		argv[i++] = expand_env(arena, json_str(word), env->vars, env->n);
	for (char **e = own_entry || own_args ? NULL : image->cmd; e && *e; e++)
		argv[i++] = *e;
	*ret = argv;
	return 0;
}

static int build_env(struct pod_container *c, struct arena *arena, const struct json *j, const struct image *image,
		     const char *hostname, struct env *ret, struct err *err)
{
	struct pod_facts facts;
	struct env_source src = {
		.reg = c->w->kl->reg, .pod = worker_json(c->w), .ns = str_of(c->w->ns), .facts = &facts
	};
	int r;

	worker_facts(c->w, &facts);
	r = env_build(arena, &src, j, image->env, ret, err);
	if (r < 0)
		return r;
	if (!env_has(ret, STR("PATH")))
		env_set(arena, ret, STR("PATH"), STR("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	if (!env_has(ret, STR("HOSTNAME")))
		env_set(arena, ret, STR("HOSTNAME"), str_of(hostname));
	if (json_get_bool(j, "tty", false) && !env_has(ret, STR("TERM")))
		env_set(arena, ret, STR("TERM"), STR("xterm"));
	return 0;
}

/* The file that the container may say its last words in. */
static int termination_file(struct pod_container *c, struct arena *arena, char **ret, struct err *err)
{
	char *path = termination_message_path(c->w, arena, c->name, c->attempt);
	char *dir = arena_strdup(arena, path);
	int r;

	*strrchr(dir, '/') = '\0';
	r = fs_mkdirs(dir, 0755, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);

	if (fd < 0 || fchmod(fd, 0666) < 0)
		return err_set(err, -errno, "create %s: %m", path);
	*ret = path;
	return 0;
}

static void add_mount(struct mount_list *list, const char *host, const char *container)
{
	mounts_add(list, &(struct runtime_mount){ .host_path = host, .container_path = container });
}

static int build_mounts(struct pod_container *c, struct arena *arena, const struct json *j, const struct env *env,
			struct container_build *b, struct err *err)
{
	struct mount_list list = { .arena = arena };
	struct str message_path = json_get_str(j, "terminationMessagePath");
	struct etc_files etc;
	char *file;
	int r = mounts_of_volumes(c, j, env, &list, err);

	if (r >= 0)
		r = etc_files_write(c->w, arena, &etc, err);
	if (r >= 0)
		r = termination_file(c, arena, &file, err);
	if (r < 0)
		return r;
	if (!mounts_has(&list, "/etc/hosts"))
		add_mount(&list, etc.hosts, "/etc/hosts");
	if (!mounts_has(&list, "/etc/hostname"))
		add_mount(&list, etc.hostname, "/etc/hostname");
	if (!mounts_has(&list, "/etc/resolv.conf"))
		add_mount(&list, etc.resolv_conf, "/etc/resolv.conf");
	add_mount(&list, file,
		  message_path.n ? arena_strndup(arena, message_path.p, message_path.n) : "/dev/termination-log");
	b->spec.mounts = list.mounts;
	b->spec.n_mounts = list.n;
	b->spec.termination_log_path = file;
	b->subpaths = list.subpaths;
	b->n_subpaths = list.n_subpaths;
	return 0;
}

int container_spec_build(struct pod_container *c, struct arena *arena, struct container_build *ret, struct err *err)
{
	struct pod_worker *w = c->w;
	const struct json *j = worker_container_json(c), *pod = worker_json(w);
	struct str dir = json_get_str(j, "workingDir");
	struct str image = json_get_str(j, "image");
	struct container_build b = { 0 };
	struct env env;
	int r = images_lookup(w->kl->images, arena_strndup(arena, image.p, image.n), arena, &b.image, err);

	if (r < 0) {
		c->image_ready = false; /* removed meanwhile: look, or pull, again */
		return r;
	}
	b.spec.pod_uid = w->uid;
	b.spec.name = c->name;
	b.spec.attempt = c->attempt;
	b.spec.image = &ret->image;
	r = build_env(c, arena, j, &b.image, etc_files_hostname(w, arena), &env, err);
	if (r >= 0)
		r = build_args(arena, j, &b.image, &env, &b.spec.args, err);
	if (r >= 0)
		r = build_mounts(c, arena, j, &env, &b, err);
	if (r >= 0)
		r = identity_build(arena, pod, j, &b.image, w->kl->options.data_dir, &b.spec, err);
	if (r < 0)
		return r;
	b.spec.env = (const char *const *)env.vars;
	b.spec.working_dir = dir.n ? arena_strndup(arena, dir.p, dir.n) : NULL;
	b.spec.tty = json_get_bool(j, "tty", false);
	b.spec.stdin_open = json_get_bool(j, "stdin", false);
	b.spec.stdin_once = json_get_bool(j, "stdinOnce", false);
	pod_resources_of_container(j, &b.spec.resources);
	b.spec.oom_score_adj = pod_resources_oom_score_adj(hooks_pod_qos(pod), j, w->kl->memory_capacity_bytes);
	b.spec.log_path =
		container_log_path(w->kl, arena, str_of(w->ns), str_of(w->name), str_of(w->uid), c->name, c->attempt);
	*ret = b;
	return 0;
}
