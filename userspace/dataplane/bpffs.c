/* SPDX-License-Identifier: Apache-2.0 */
/* Where pins and cgroup attachments live. */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "userspace/base/fs.h"
#include "userspace/dataplane/internal.h"

#define BPFFS_MOUNTINFO_MAX (4u << 20)

static bool bpffs_is(const char *path)
{
	struct statfs s;

	return statfs(path, &s) == 0 && (unsigned long)s.f_type == BPF_FS_MAGIC;
}

/* pin_dir is a folder in a bpffs: mount one over its parent where there is none (/sys/fs/bpf). */
int bpffs_prepare(const char *dir, struct err *err)
{
	_cleanup_free_ char *parent = mem_strdup(dir), *sub = NULL;
	char *slash = strrchr(parent, '/');
	int r;

	if (dir[0] != '/' || !slash || slash == parent || strpbrk(dir, " \t\n"))
		return err_set(err, -EINVAL, "%s: the pin folder must be an absolute path below a bpffs", dir);
	*slash = 0;
	r = fs_mkdirs(parent, 0700, err);
	if (r < 0)
		return r;
	if (!bpffs_is(parent) && mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return err_set(err, -errno, "mount bpffs at %s: %s", parent, strerror(errno));
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", dir, strerror(errno));
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = { "maps", "programs", "links" };

		free(sub);
		sub = mem_printf("%s/%s", dir, names[i]);
		if (mkdir(sub, 0700) < 0 && errno != EEXIST)
			return err_set(err, -errno, "%s: %s", sub, strerror(errno));
	}
	return 0;
}

/* A host whose controllers are all on version 1 may have no cgroup2 mount at all; its processes are in that
 * hierarchy's root all the same. */
static int bpffs_mount_cgroup2(const char *own, char **ret, struct err *err)
{
	int r = fs_mkdirs(own, 0755, err);

	if (r < 0)
		return r;
	if (mount("cgroup2", own, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_set(err, -errno, "mount cgroup2 at %s: %s", own, strerror(errno));
	*ret = mem_strdup(own);
	return 0;
}

/* A mount of the hierarchy's root, not of some branch (containers see branches). */
int bpffs_cgroup2_root(const char *own, char **ret, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line;
	int r = fs_read("/proc/self/mountinfo", BPFFS_MOUNTINFO_MAX, &text, err);

	if (r < 0)
		return r;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		char root[256], point[DP_PATH_MAX], fstype[32];
		_cleanup_free_ char *copy = str_dup(line);
		char *dash = strstr(copy, " - ");

		if (!dash || sscanf(dash, " - %31s", fstype) != 1 || strcmp(fstype, "cgroup2") != 0)
			continue;
		if (sscanf(copy, "%*s %*s %*s %255s %511s", root, point) != 2 || strcmp(root, "/") != 0)
			continue;
		*ret = mem_strdup(point);
		return 0;
	}
	if (own)
		return bpffs_mount_cgroup2(own, ret, err);
	return err_set(err, -ENOENT, "no cgroup2 mount: mount -t cgroup2 cgroup2 /sys/fs/cgroup (or .../unified)");
}
