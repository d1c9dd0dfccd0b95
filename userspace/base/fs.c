/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders. See fs.h. */
#include "userspace/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/mem.h"

int fs_read_at(int dir_fd, const char *path, size_t max, struct buf *ret, struct err *err)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	size_t before = buf_len(ret);

	if (fd < 0)
		return err_set(err, -errno, "open %s: %s", path, strerror(errno));
	for (;;) {
		char *at = buf_reserve(ret, 4096);
		ssize_t n = read(fd, at, ret->cap - ret->end);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "read %s: %s", path, strerror(errno));
		if (n == 0)
			return 0;
		buf_commit(ret, (size_t)n);
		if (buf_len(ret) - before > max)
			return err_set(err, -EFBIG, "%s is larger than %zu bytes", path, max);
	}
}

int fs_read(const char *path, size_t max, struct buf *ret, struct err *err)
{
	return fs_read_at(AT_FDCWD, path, max, ret, err);
}

static int fs_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void fs_sync_parent(const char *path)
{
	_cleanup_free_ char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');
	_cleanup_close_ int fd = -1;

	if (slash)
		slash[slash == dir] = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
}

int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	_cleanup_free_ char *tmp = mem_printf("%s.tmp%d", path, getpid());
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode), r;

	if (fd < 0)
		return err_set(err, -errno, "create %s: %s", tmp, strerror(errno));
	r = fchmod(fd, mode) < 0 ? -errno : fs_write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return err_set(err, r, "write %s: %s", path, strerror(-r));
	}
	fs_sync_parent(path);
	return 0;
}

int fs_write(const char *path, const char *text, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_set(err, -errno, "open %s: %s", path, strerror(errno));
	r = fs_write_all(fd, text, strlen(text));
	if (r < 0)
		return err_set(err, r, "write %s: %s", path, strerror(-r));
	return 0;
}

int fs_mkdirs(const char *path, mode_t mode, struct err *err)
{
	_cleanup_free_ char *p = mem_strdup(path);

	for (char *at = p + 1;; at++) {
		char c = *at;

		if (c != '/' && c != '\0')
			continue;
		*at = '\0';
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return err_set(err, -errno, "mkdir %s: %s", p, strerror(errno));
		*at = c;
		if (c == '\0')
			return 0;
	}
}

static int fs_remove_dir_at(int parent, const char *name, dev_t dev);

static int fs_remove_entries(int fd, dev_t dev)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)
			continue;
		r = errno == EISDIR || errno == EPERM ? fs_remove_dir_at(fd, e->d_name, dev) : -errno;
	}
	closedir(dir);
	return r;
}

static int fs_remove_dir_at(int parent, const char *name, dev_t dev)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0 || st.st_dev != dev) {
		close(fd);
		return -EXDEV; /* a mount: not ours to empty */
	}
	r = fs_remove_entries(fd, dev);
	if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int fs_remove_tree(const char *path, struct err *err)
{
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "stat %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		r = unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	else
		r = fs_remove_dir_at(AT_FDCWD, path, st.st_dev);
	if (r < 0)
		return err_set(err, r, "remove %s: %s", path, strerror(-r));
	return 0;
}

bool fs_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}
