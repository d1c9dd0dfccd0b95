/* SPDX-License-Identifier: Apache-2.0 */
/* See subpath.h. Worker pool. */
#include "kubelet/volumes/subpath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "userspace/base/fs.h"
#include "userspace/base/mem.h"
#include "userspace/base/str.h"

static int open_in(int root_fd, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Makes what is missing of the path, one part at a time, each opened inside the root. */
static int make_dirs(int root_fd, const char *path)
{
	struct str rest = str_of(path), part;
	_cleanup_free_ char *so_far = mem_strdup(".");
	_cleanup_close_ int at = open_in(root_fd, ".", O_PATH | O_DIRECTORY);

	if (at < 0)
		return at;
	while (str_split(&rest, '/', &part)) {
		_cleanup_free_ char *name = NULL;
		char *longer;
		int next;

		if (!part.n || str_is(part, "."))
			continue;
		if (str_is(part, ".."))
			return -EINVAL;
		name = str_dup(part);
		longer = mem_printf("%s/%s", so_far, name);
		free(so_far);
		so_far = longer;
		next = open_in(root_fd, so_far, O_PATH | O_DIRECTORY);
		if (next == -ENOENT) {
			if (mkdirat(at, name, 0750) < 0 && errno != EEXIST)
				return -errno;
			next = open_in(root_fd, so_far, O_PATH | O_DIRECTORY);
		}
		if (next < 0)
			return next;
		close(at);
		at = next;
	}
	return 0;
}

static int make_target(const char *target, bool folder, struct err *err)
{
	_cleanup_free_ char *parent = mem_strdup(target);
	int r;

	if (folder)
		return fs_mkdirs(target, 0755, err);
	*strrchr(parent, '/') = '\0';
	r = fs_mkdirs(parent, 0755, err);
	if (r < 0)
		return r;
	int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(err, -errno, "create %s: %s", target, strerror(errno));
	close(fd);
	return 0;
}

static bool same_inode(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int subpath_bind(const char *volume_path, const char *sub_path, const char *target, struct err *err)
{
	_cleanup_close_ int root = open(volume_path, O_PATH | O_CLOEXEC);
	char magic[64];
	struct stat st;
	int r;

	if (root < 0)
		return err_set(err, -errno, "open %s: %s", volume_path, strerror(errno));
	_cleanup_close_ int fd = open_in(root, sub_path, O_PATH);

	if (fd == -ENOENT) {
		r = make_dirs(root, sub_path);
		if (r < 0)
			return err_set(err, r, "failed to create subPath directory \"%s\": %s", sub_path, strerror(-r));
		fd = open_in(root, sub_path, O_PATH);
	}
	if (fd < 0)
		return err_set(err, fd, "failed to prepare subPath \"%s\": %s", sub_path, strerror(-fd));
	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "stat subPath \"%s\": %s", sub_path, strerror(errno));
	if (same_inode(fd, target))
		return 0;
	/* an older attempt may have left another part of the volume here */
	umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
	r = make_target(target, S_ISDIR(st.st_mode), err);
	if (r < 0)
		return r;
	snprintf(magic, sizeof(magic), "/proc/self/fd/%d", fd);
	if (mount(magic, target, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_set(err, -errno, "bind subPath \"%s\": %s", sub_path, strerror(errno));
	return 0;
}
