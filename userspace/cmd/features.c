/* SPDX-License-Identifier: Apache-2.0 */
/* See features.h. */
#include "userspace/cmd/features.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "userspace/base/fs.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/loop/loop.h"

static bool features_io_uring(void)
{
	struct loop *loop = NULL;
	const struct loop_options options = { .entries = 8 };

	if (loop_create(&options, &loop, NULL) < 0)
		return false;
	loop_destroy(loop);
	return true;
}

#define FEATURES_FILE_MAX (1024 * 1024) /* of procfs and cgroupfs */

/* A line of `path` holds `word` as a whole word. */
static bool features_file_names(const char *path, const char *word)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str rest, part, line;

	if (fs_read(path, FEATURES_FILE_MAX, &b, NULL) < 0)
		return false;
	rest = buf_str(&b);
	while (str_split(&rest, '\n', &line)) {
		for (size_t i = 0; i < line.n; i++)
			if (line.p[i] == '\t')
				((char *)line.p)[i] = ' ';
		while (str_split(&line, ' ', &part))
			if (str_is(part, word))
				return true;
	}
	return false;
}

/* "name hierarchy cgroups enabled": cgroup_disable= on the kernel's command line clears the last one. */
static bool features_v1_controller(const char *name)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str rest, line, part;

	if (fs_read("/proc/cgroups", FEATURES_FILE_MAX, &b, NULL) < 0)
		return false;
	rest = buf_str(&b);
	while (str_split(&rest, '\n', &line))
		if (str_split(&line, '\t', &part) && str_is(part, name))
			return str_ends(str_trim(line), STR("1"));
	return false;
}

/* /proc/cgroups names what version 1 can mount: newer kernels leave out what only version 2 has. */
static bool features_controller(const char *name)
{
	struct cgroup_host host;
	char path[CGROUP_PATH_MAX];

	if (features_v1_controller(name))
		return true;
	if (cgroup_detect(&host, NULL) < 0)
		return false;
	for (size_t i = 0; i < host.n_mounts; i++) {
		if (!host.mounts[i].v2)
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.controllers", host.mounts[i].path);
		return features_file_names(path, name);
	}
	return false;
}

static bool features_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

size_t features_probe(struct feature *ret, size_t max)
{
	const struct feature own[] = {
		{ "io_uring", "the event loop", true, features_io_uring() },
		{ "pidfd", "exits of children", true, features_pidfd() },
		{ "overlayfs", "root file systems of containers", true,
		  features_file_names("/proc/filesystems", "overlay") },
		{ "cgroup2", "service translation at the socket", true,
		  features_file_names("/proc/filesystems", "cgroup2") },
		{ "cgroup controller memory", "memory limits", true, features_controller("memory") },
		{ "cgroup controller cpu", "CPU requests and limits", true, features_controller("cpu") },
		{ "cgroup controller pids", "process limits", true, features_controller("pids") },
	};
	struct dp_feature dp[FEATURES_MAX];
	size_t n = 0, n_dp = dataplane_features(dp, FEATURES_MAX);

	for (size_t i = 0; i < ARRAY_SIZE(own) && n < max; i++)
		ret[n++] = own[i];
	for (size_t i = 0; i < n_dp && n < max; i++)
		ret[n++] = (struct feature){ dp[i].name, dp[i].needed_for, dp[i].required, dp[i].present };
	return n;
}
