/* SPDX-License-Identifier: Apache-2.0 */
/* v1 hierarchies, through libcgroup: it knows the mounts, makes the folders (inheriting cpuset where it must)
 * and writes the limits. Its state is global, so every call holds the lock. */
#include <errno.h>
#include <libcgroup.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup_kinds.h"
#include "userspace/base/mem.h"

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;
static bool library_ready;

static const char *const used_controllers[] = { "cpu", "cpuacct", "memory", "pids" };

static int library_error(int r, const char *what, const char *path, struct err *err)
{
	int code = r == ECGOTHER && cgroup_get_last_errno() ? -cgroup_get_last_errno() : -EIO;

	return err_set(err, code, "cgroup %s: %s: %s", path, what,
		       r == ECGOTHER ? strerror(-code) : cgroup_strerror(r));
}

static int library_init(struct err *err)
{
	int r;

	if (library_ready)
		return 0;
	r = cgroup_init();
	if (r)
		return library_error(r, "libcgroup", "", err);
	library_ready = true;
	return 0;
}

static int add_limits(struct cgroup_controller *c, const char *name, const struct cgroup_limits *l)
{
	int r = 0;

	if (strcmp(name, "cpu") == 0) {
		if (l->cpu_shares)
			r = cgroup_set_value_uint64(c, "cpu.shares", l->cpu_shares);
		if (!r && l->cpu_period_us)
			r = cgroup_set_value_int64(c, "cpu.cfs_period_us", l->cpu_period_us);
		if (!r && l->cpu_quota_us)
			r = cgroup_set_value_int64(c, "cpu.cfs_quota_us", l->cpu_quota_us);
	} else if (strcmp(name, "memory") == 0) {
		if (l->memory_limit_bytes)
			r = cgroup_set_value_int64(c, "memory.limit_in_bytes", l->memory_limit_bytes);
	} else if (strcmp(name, "pids") == 0) {
		if (l->pids_limit)
			r = cgroup_set_value_int64(c, "pids.max", l->pids_limit);
	}
	return r;
}

static int fill(const struct cgroup_host *host, struct cgroup *group, const struct cgroup_limits *limits)
{
	for (size_t i = 0; i < ARRAY_SIZE(used_controllers); i++) {
		struct cgroup_controller *c;
		int r;

		if (!cgroup_mount_of(host, used_controllers[i]))
			continue;
		c = cgroup_add_controller(group, used_controllers[i]);
		if (!c)
			return ECGINVAL;
		r = limits ? add_limits(c, used_controllers[i], limits) : 0;
		if (r)
			return r;
	}
	return 0;
}

int cgroup_v1_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits,
		   struct err *err)
{
	struct cgroup *group;
	int r;

	pthread_mutex_lock(&library_lock);
	r = library_init(err);
	if (r < 0)
		goto out;
	group = cgroup_new_cgroup(path);
	r = fill(host, group, limits);
	/* makes the folders above as well; an existing group only gets its values */
	if (!r)
		r = cgroup_create_cgroup(group, 1);
	cgroup_free(&group);
	if (r)
		r = library_error(r, "cannot make it", path, err);
out:
	pthread_mutex_unlock(&library_lock);
	return r;
}

int cgroup_v1_attach(const struct cgroup_host *host, const char *path, pid_t pid, struct err *err)
{
	struct cgroup *group;
	int r;

	pthread_mutex_lock(&library_lock);
	r = library_init(err);
	if (r < 0)
		goto out;
	group = cgroup_new_cgroup(path);
	r = fill(host, group, NULL);
	if (!r)
		r = cgroup_attach_task_pid(group, pid);
	cgroup_free(&group);
	if (r)
		r = library_error(r, "cannot attach", path, err);
out:
	pthread_mutex_unlock(&library_lock);
	return r;
}

int cgroup_v1_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret, uint64_t *ret_inactive)
{
	const struct cgroup_mount *cpu = cgroup_mount_of(host, "cpuacct");
	const struct cgroup_mount *memory = cgroup_mount_of(host, "memory");
	const struct cgroup_mount *pids = cgroup_mount_of(host, "pids");
	char full[CGROUP_PATH_MAX];
	int r = -ENOENT;

	*ret_inactive = 0;
	if (cpu)
		r = cgroup_read_number(cpu->path, path, "cpuacct.usage", &ret->cpu_ns);
	if (memory) {
		r = cgroup_read_number(memory->path, path, "memory.usage_in_bytes", &ret->memory_bytes);
		snprintf(full, sizeof(full), "%s/%s/memory.stat", memory->path, path);
		*ret_inactive = cgroup_read_keyed(full, "total_inactive_file");
	}
	if (pids)
		cgroup_read_number(pids->path, path, "pids.current", &ret->pids);
	return r;
}
