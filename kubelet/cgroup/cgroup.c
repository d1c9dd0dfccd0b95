/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for v1 and v2: the mounts, making and removing groups everywhere, usage. Any thread. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/cgroup/cgroup_kinds.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define CGROUP_FILE_MAX (64u << 10)
#define CGROUP_DEPTH_MAX 8

static const char *const known_controllers[] = { "cpu",      "cpuacct",    "cpuset", "memory",  "devices",
						 "freezer",  "blkio",      "pids",   "hugetlb", "net_cls",
						 "net_prio", "perf_event", "rdma",   "misc" };

static void controllers_of(const char *options, char *ret, size_t size)
{
	struct str rest = str_of(options), part;

	ret[0] = 0;
	while (str_split(&rest, ',', &part)) {
		bool known = str_starts(part, STR("name="));

		for (size_t i = 0; i < ARRAY_SIZE(known_controllers); i++)
			known |= str_is(part, known_controllers[i]);
		if (known)
			snprintf(ret + strlen(ret), size - strlen(ret), "%s%.*s", ret[0] ? "," : "", STR_ARG(part));
	}
}

static bool already_seen(const struct cgroup_host *host, const char *controllers)
{
	for (size_t i = 0; i < host->n_mounts; i++)
		if (strcmp(host->mounts[i].controllers, controllers) == 0)
			return true;
	return false;
}

int cgroup_detect(struct cgroup_host *ret, struct err *err)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct cgroup_host host = { 0 };
	struct mntent entry;
	bool v1 = false, v2 = false;
	char text[1024];

	if (!mounts)
		return err_set(err, -errno, "/proc/self/mounts: %s", strerror(errno));
	while (getmntent_r(mounts, &entry, text, sizeof(text)) && host.n_mounts < CGROUP_MOUNTS_MAX) {
		struct cgroup_mount *m = &host.mounts[host.n_mounts];
		bool is_v2 = strcmp(entry.mnt_type, "cgroup2") == 0;

		if ((!is_v2 && strcmp(entry.mnt_type, "cgroup") != 0) || strlen(entry.mnt_dir) >= sizeof(m->path))
			continue;
		controllers_of(is_v2 ? "" : entry.mnt_opts, m->controllers, sizeof(m->controllers));
		if ((is_v2 && v2) || (!is_v2 && (!m->controllers[0] || already_seen(&host, m->controllers))))
			continue; /* another mount of what we have */
		strcpy(m->path, entry.mnt_dir);
		m->v2 = is_v2;
		v2 |= is_v2;
		v1 |= !is_v2 && strncmp(m->controllers, "name=", 5) != 0;
		host.n_mounts++;
		if (is_v2) {
			_cleanup_buf_ struct buf b = BUF_INIT;
			char path[sizeof(m->path) + 32];

			snprintf(path, sizeof(path), "%s/cgroup.controllers", m->path);
			host.v2_has_controllers =
				fs_read(path, CGROUP_FILE_MAX, &b, NULL) >= 0 && str_trim(buf_str(&b)).n > 0;
		}
	}
	endmntent(mounts);
	if (!host.n_mounts)
		return err_set(err, -ENOENT, "no cgroup hierarchy is mounted");
	host.mode = v1 && v2 ? CGROUP_HYBRID : v1 ? CGROUP_V1 : CGROUP_V2;
	*ret = host;
	return 0;
}

const struct cgroup_mount *cgroup_mount_of(const struct cgroup_host *host, const char *controller)
{
	for (size_t i = 0; i < host->n_mounts; i++) {
		struct str rest = str_of(host->mounts[i].controllers), part;

		while (str_split(&rest, ',', &part))
			if (str_is(part, controller))
				return &host->mounts[i];
	}
	return NULL;
}

const struct cgroup_mount *cgroup_mount_v2(const struct cgroup_host *host)
{
	for (size_t i = 0; i < host->n_mounts; i++)
		if (host->mounts[i].v2)
			return &host->mounts[i];
	return NULL;
}

int cgroup_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits, struct err *err)
{
	int r = 0;

	if (host->mode != CGROUP_V2)
		r = cgroup_v1_make(host, path, limits, err);
	if (r >= 0 && cgroup_mount_v2(host))
		r = cgroup_v2_make(host, path, host->mode == CGROUP_V2 ? limits : NULL, err);
	return r;
}

int cgroup_attach(const struct cgroup_host *host, const char *path, pid_t pid, struct err *err)
{
	char file[CGROUP_PATH_MAX], text[24];
	int r = 0;

	if (host->mode != CGROUP_V2)
		r = cgroup_v1_attach(host, path, pid, err);
	if (r < 0 || !cgroup_mount_v2(host))
		return r;
	snprintf(file, sizeof(file), "%s/%s/cgroup.procs", cgroup_mount_v2(host)->path, path);
	snprintf(text, sizeof(text), "%d", pid);
	return fs_write(file, text, err);
}

/* ---- killing and removing: a walk over directories, deepest first ---- */

typedef int visit_fn(const char *dir);

static int walk(const char *dir, int depth, visit_fn *visit)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	int sum = 0, r;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(d))) {
		_cleanup_free_ char *child = NULL;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || depth >= CGROUP_DEPTH_MAX)
			continue;
		child = mem_printf("%s/%s", dir, entry->d_name);
		r = walk(child, depth + 1, visit);
		if (r < 0)
			sum = r;
		else if (sum >= 0)
			sum += r;
	}
	closedir(d);
	r = visit(dir);
	return r < 0 ? r : sum < 0 ? sum : sum + r;
}

static int visit_remove(const char *dir)
{
	return rmdir(dir) < 0 && errno != ENOENT ? -errno : 0;
}

static int visit_kill(const char *dir)
{
	_cleanup_free_ char *path = mem_printf("%s/cgroup.procs", dir);
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line;
	int64_t pid;
	int n = 0;

	if (fs_read(path, 4u << 20, &text, NULL) < 0)
		return 0;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line))
		if (str_to_int64(line, &pid) == 0 && pid > 1 && pid != getpid()) {
			kill((pid_t)pid, SIGKILL);
			n++;
		}
	return n;
}

int cgroup_kill(const struct cgroup_host *host, const char *path)
{
	int n = 0;

	for (size_t i = 0; i < host->n_mounts; i++) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", host->mounts[i].path, path);
		int r = walk(dir, 0, visit_kill);

		n += r > 0 ? r : 0;
	}
	return n;
}

int cgroup_remove(const struct cgroup_host *host, const char *path)
{
	int r = 0;

	for (size_t i = 0; i < host->n_mounts; i++) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", host->mounts[i].path, path);
		int one = walk(dir, 0, visit_remove);

		if (one < 0)
			r = one;
	}
	return r;
}

/* ---- reading ---- */

int cgroup_read_number(const char *dir, const char *path, const char *file, uint64_t *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char full[CGROUP_PATH_MAX];
	int r;

	snprintf(full, sizeof(full), "%s/%s/%s", dir, path, file);
	r = fs_read(full, CGROUP_FILE_MAX, &text, NULL);
	return r < 0 ? r : str_to_uint64(str_trim(buf_str(&text)), ret);
}

/* "key value" lines; 0 when absent. */
uint64_t cgroup_read_keyed(const char *full, const char *key)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line, name;
	uint64_t value = 0;

	if (fs_read(full, CGROUP_FILE_MAX, &text, NULL) < 0)
		return 0;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line))
		if (str_split(&line, ' ', &name) && str_is(name, key)) {
			str_to_uint64(str_trim(line), &value);
			break;
		}
	return value;
}

int cgroup_read_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret)
{
	struct cgroup_usage usage = { 0 };
	uint64_t inactive;
	int r = host->mode == CGROUP_V2 ? cgroup_v2_usage(host, path, &usage, &inactive)
					: cgroup_v1_usage(host, path, &usage, &inactive);

	if (r < 0)
		return r;
	usage.memory_working_set_bytes = usage.memory_bytes > inactive ? usage.memory_bytes - inactive : 0;
	*ret = usage;
	return 0;
}

int cgroup_oom_file(const struct cgroup_host *host, const char *path, char *ret, size_t size)
{
	const struct cgroup_mount *v1 = cgroup_mount_of(host, "memory"), *v2 = cgroup_mount_v2(host);
	int n;

	if (v1)
		n = snprintf(ret, size, "%s/%s/memory.oom_control", v1->path, path);
	else if (v2)
		n = snprintf(ret, size, "%s/%s/memory.events", v2->path, path);
	else
		return -ENOENT;
	return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

uint64_t cgroup_oom_kills(const char *file)
{
	return cgroup_read_keyed(file, "oom_kill");
}

uint64_t cgroup_weight_of_shares(uint64_t shares)
{
	if (!shares)
		return 0;
	if (shares < 2)
		shares = 2;
	if (shares > 262144)
		shares = 262144;
	return 1 + ((shares - 2) * 9999) / 262142;
}
