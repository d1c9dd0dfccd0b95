/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking half of volumes.h: folders, tmpfs mounts, checks of host paths, files, ownership. Worker pool. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "kubelet/volumes/volumes.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define MOUNTS_MAX 4096 /* of one pod */

static int fail(struct err *err, int code, const char *what, const char *path)
{
	return err_set(err, code, "%s %s: %s", what, path, strerror(-code));
}

static int own_dir(const char *path, mode_t mode, int64_t fs_group, struct err *err)
{
	if (fs_group >= 0) {
		if (chown(path, (uid_t)-1, (gid_t)fs_group) < 0)
			return fail(err, -errno, "chown", path);
		mode |= 02070;
	}
	return chmod(path, mode) < 0 ? fail(err, -errno, "chmod", path) : 0;
}

static bool is_mount_point(const char *path)
{
	_cleanup_free_ char *parent = mem_printf("%s/..", path);
	struct stat a, b;

	return stat(path, &a) == 0 && stat(parent, &b) == 0 && a.st_dev != b.st_dev;
}

static int apply_empty_dir(const struct volume *v, int64_t fs_group, struct err *err)
{
	int r;

	if (v->kind == VOLUME_EMPTY_DIR && fs_exists(v->path))
		return 0; /* the pod's data and modes by now */
	r = fs_mkdirs(v->path, 0755, err);
	if (r < 0)
		return r;
	if (v->kind == VOLUME_EMPTY_DIR_MEMORY) {
		char options[64] = "mode=0777";

		if (is_mount_point(v->path))
			return 0;
		if (v->size_bytes)
			snprintf(options, sizeof(options), "mode=0777,size=%lld", (long long)v->size_bytes);
		if (mount("tmpfs", v->path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
			return fail(err, -errno, "mount tmpfs", v->path);
	}
	return own_dir(v->path, 0777, fs_group, err);
}

/* type, may be made, mode wanted of stat */
static const struct {
	const char *type, *what;
	mode_t format;
	bool create;
} host_types[] = {
	{ "Directory", "a directory", S_IFDIR, false },
	{ "DirectoryOrCreate", "a directory", S_IFDIR, true },
	{ "File", "a file", S_IFREG, false },
	{ "FileOrCreate", "a file", S_IFREG, true },
	{ "Socket", "a socket", S_IFSOCK, false },
	{ "CharDevice", "a character device", S_IFCHR, false },
	{ "BlockDevice", "a block device", S_IFBLK, false },
};

static int create_host_path(const char *path, mode_t format, struct err *err)
{
	if (format == S_IFDIR)
		return fs_mkdirs(path, 0755, err);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return fail(err, -errno, "create", path);
	close(fd);
	return 0;
}

static int apply_host_path(const struct volume *v, struct err *err)
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(host_types); i++) {
		if (strcmp(v->host_path_type, host_types[i].type) != 0)
			continue;
		if (stat(v->path, &st) < 0) {
			if (host_types[i].create)
				return create_host_path(v->path, host_types[i].format, err);
			return err_set(err, -ENOENT, "hostPath type check failed: %s is not %s", v->path,
				       host_types[i].what);
		}
		if ((st.st_mode & S_IFMT) != host_types[i].format)
			return err_set(err, -EINVAL, "hostPath type check failed: %s is not %s", v->path,
				       host_types[i].what);
		return 0;
	}
	/* no type given: no check; as the container runtimes of upstream do, a missing one becomes a folder */
	return stat(v->path, &st) < 0 ? create_host_path(v->path, S_IFDIR, err) : 0;
}

static int apply_payload(const struct volume *v, int64_t fs_group, struct err *err)
{
	bool changed;
	int r = atomic_writer_write(v->path, v->files, v->n_files, fs_group >= 0 ? (gid_t)fs_group : (gid_t)-1,
				    &changed, err);

	if (r < 0)
		return r;
	return fs_group >= 0 ? own_dir(v->path, 0755, fs_group, err) : 0;
}

int volumes_apply(struct volume_plan *plan, struct err *err)
{
	for (size_t i = 0; i < plan->n; i++) {
		const struct volume *v = &plan->volumes[i];
		int r;

		if (v->kind == VOLUME_HOST_PATH)
			r = apply_host_path(v, err);
		else if (v->kind == VOLUME_PAYLOAD)
			r = apply_payload(v, plan->fs_group, err);
		else
			r = apply_empty_dir(v, plan->fs_group, err);
		if (r < 0) {
			plan->failed = v->name;
			return r;
		}
	}
	return 0;
}

/* Mount points at or below the folders, newest last. */
static size_t list_mounts(const char *const dirs[2], char **ret)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	size_t n = 0;

	if (!f)
		return 0;
	struct mntent m;
	char line[8192];

	while (n < MOUNTS_MAX && getmntent_r(f, &m, line, sizeof(line))) {
		for (int i = 0; i < 2; i++) {
			size_t len = strlen(dirs[i]);

			if (strncmp(m.mnt_dir, dirs[i], len) == 0 && m.mnt_dir[len] == '/') {
				ret[n++] = mem_strdup(m.mnt_dir);
				break;
			}
		}
	}
	endmntent(f);
	return n;
}

int volumes_teardown(const char *disk_dir, const char *tmpfs_dir, struct err *err)
{
	const char *const dirs[2] = { disk_dir, tmpfs_dir };
	char **mounts;
	size_t n;
	int r = 0;

	if (!fs_exists(disk_dir) && !fs_exists(tmpfs_dir))
		return 0;
	mounts = mem_new_array(char *, MOUNTS_MAX);
	n = list_mounts(dirs, mounts);
	while (n-- > 0) {
		if (umount2(mounts[n], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT && !r)
			r = fail(err, -errno, "umount", mounts[n]);
		free(mounts[n]);
	}
	free(mounts);
	for (int i = 0; i < 2 && r >= 0; i++)
		r = fs_remove_tree(dirs[i], err);
	return r;
}
