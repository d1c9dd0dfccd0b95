/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup2, by its files. Controllers are handed down from the root to the parent of each group; where one is
 * not there (hybrid hosts), its limits are v1's business. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kubelet/cgroup/cgroup_kinds.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

static void hand_down(const char *dir)
{
	static const char *const wanted[] = { "+cpu", "+memory", "+pids", "+io", "+cpuset" };
	_cleanup_free_ char *file = mem_printf("%s/cgroup.subtree_control", dir);

	/* one by one: a controller that is missing must not cost the others */
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		fs_write(file, wanted[i], NULL);
}

static int set_limit(const char *dir, const char *file, const char *value, struct err *err)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, file);

	return fs_write(path, value, err);
}

static int set_limits(const char *dir, const struct cgroup_limits *l, struct err *err)
{
	char text[64];
	int r = 0;

	if (l->cpu_shares) {
		snprintf(text, sizeof(text), "%" PRIu64, cgroup_weight_of_shares(l->cpu_shares));
		r = set_limit(dir, "cpu.weight", text, err);
	}
	if (r >= 0 && l->cpu_quota_us) {
		snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, l->cpu_quota_us,
			 l->cpu_period_us ? l->cpu_period_us : 100000);
		r = set_limit(dir, "cpu.max", text, err);
	}
	if (r >= 0 && l->memory_limit_bytes) {
		snprintf(text, sizeof(text), "%" PRId64, l->memory_limit_bytes);
		r = set_limit(dir, "memory.max", text, err);
	}
	if (r >= 0 && l->pids_limit) {
		snprintf(text, sizeof(text), "%" PRId64, l->pids_limit);
		r = set_limit(dir, "pids.max", text, err);
	}
	return r;
}

int cgroup_v2_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits,
		   struct err *err)
{
	const struct cgroup_mount *mount = cgroup_mount_v2(host);
	_cleanup_free_ char *dir = mem_strdup(mount->path);
	struct str rest = str_of(path), part;

	while (str_split(&rest, '/', &part)) {
		char *next;

		if (!part.n)
			continue;
		if (limits)
			hand_down(dir);
		next = mem_printf("%s/%.*s", dir, STR_ARG(part));
		free(dir);
		dir = next;
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return err_set(err, -errno, "cgroup %s: %s", dir, strerror(errno));
	}
	return limits ? set_limits(dir, limits, err) : 0;
}

int cgroup_v2_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret, uint64_t *ret_inactive)
{
	const char *dir = cgroup_mount_v2(host)->path;
	char full[CGROUP_PATH_MAX];
	int r;

	snprintf(full, sizeof(full), "%s/%s/cpu.stat", dir, path);
	if (!fs_exists(full))
		return -ENOENT;
	ret->cpu_ns = cgroup_read_keyed(full, "usage_usec") * 1000;
	r = cgroup_read_number(dir, path, "memory.current", &ret->memory_bytes);
	snprintf(full, sizeof(full), "%s/%s/memory.stat", dir, path);
	*ret_inactive = cgroup_read_keyed(full, "inactive_file");
	cgroup_read_number(dir, path, "pids.current", &ret->pids);
	return r;
}
