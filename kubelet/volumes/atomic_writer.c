/* SPDX-License-Identifier: Apache-2.0 */
/* See atomic_writer.h. Everything is done below one directory descriptor. Worker pool. */
#include "kubelet/volumes/atomic_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "userspace/base/buf.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define DATA_LINK "..data"
#define DATA_LINK_NEW "..data_tmp"
#define STAMP_MAX 64

bool atomic_writer_path_valid(const char *path)
{
	struct str rest = str_of(path), part;

	if (!*path || *path == '/' || strncmp(path, "..", 2) == 0)
		return false;
	while (str_split(&rest, '/', &part))
		if (!part.n || str_is(part, "..") || str_is(part, "."))
			return false;
	return path[strlen(path) - 1] != '/';
}

static int fail(struct err *err, int code, const char *what, const char *path)
{
	return err_set(err, code, "%s %s: %s", what, path, strerror(-code));
}

static int make_parents(int dir_fd, const char *path, struct err *err)
{
	_cleanup_free_ char *copy = mem_strdup(path);

	for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdirat(dir_fd, copy, 0755) < 0 && errno != EEXIST)
			return fail(err, -errno, "mkdir", copy);
		if (fchmodat(dir_fd, copy, 0755, 0) < 0)
			return fail(err, -errno, "chmod", copy);
		*slash = '/';
	}
	return 0;
}

static int write_file(int dir_fd, const struct atomic_file *f, gid_t gid, struct err *err)
{
	int r = make_parents(dir_fd, f->path, err);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = openat(dir_fd, f->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fail(err, -errno, "create", f->path);
	for (size_t at = 0; at < f->data.n;) {
		ssize_t n = write(fd, f->data.p + at, f->data.n - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, -errno, "write", f->path);
		at += (size_t)n;
	}
	if ((f->uid != (uid_t)-1 || gid != (gid_t)-1) && fchown(fd, f->uid, gid) < 0)
		return fail(err, -errno, "chown", f->path);
	/* after the chown, which clears the set-id bits; no umask */
	if (fchmod(fd, f->mode) < 0)
		return fail(err, -errno, "chmod", f->path);
	return 0;
}

/* The folder that ..data names; -ENOENT when there is none. */
static int current_stamp(int dir_fd, char ret[static STAMP_MAX])
{
	ssize_t n = readlinkat(dir_fd, DATA_LINK, ret, STAMP_MAX - 1);

	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return strchr(ret, '/') || strncmp(ret, "..", 2) != 0 ? -ENOENT : 0;
}

static bool same_file(int data_fd, const struct atomic_file *f, gid_t gid)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct stat st;

	if (fstatat(data_fd, f->path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return false;
	if ((st.st_mode & 07777) != f->mode || (size_t)st.st_size != f->data.n ||
	    (gid != (gid_t)-1 && st.st_gid != gid) || (f->uid != (uid_t)-1 && st.st_uid != f->uid))
		return false;
	return fs_read_at(data_fd, f->path, f->data.n + 1, &b, NULL) >= 0 && str_eq(buf_str(&b), f->data);
}

static size_t count_files(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	size_t n = 0;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n += e->d_type == DT_DIR ? count_files(dirfd(d), e->d_name) : 1;
	}
	closedir(d);
	return n;
}

static bool unchanged(int dir_fd, const char *stamp, const struct atomic_file *files, size_t n, gid_t gid)
{
	_cleanup_close_ int data_fd = openat(dir_fd, stamp, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (data_fd < 0 || count_files(dir_fd, stamp) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!same_file(data_fd, &files[i], gid))
			return false;
	return true;
}

static struct str top_name(const char *path)
{
	const char *slash = strchr(path, '/');

	return slash ? str_make(path, (size_t)(slash - path)) : str_of(path);
}

/* name -> ..data/name, for what a pod shall see at the top */
static int link_names(int dir_fd, const struct atomic_file *files, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		char name[NAME_MAX + 1], target[NAME_MAX + 16], old[NAME_MAX + 16];
		struct str top = top_name(files[i].path);

		if (top.n > NAME_MAX)
			return fail(err, -ENAMETOOLONG, "link", files[i].path);
		snprintf(name, sizeof(name), "%.*s", STR_ARG(top));
		snprintf(target, sizeof(target), DATA_LINK "/%s", name);
		ssize_t len = readlinkat(dir_fd, name, old, sizeof(old) - 1);

		if (len >= 0 && str_is(str_make(old, (size_t)len), target))
			continue;
		if (len >= 0)
			unlinkat(dir_fd, name, 0);
		if (symlinkat(target, dir_fd, name) < 0)
			return fail(err, -errno, "link", name);
	}
	return 0;
}

static bool wanted(const char *name, const struct atomic_file *files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(top_name(files[i].path), name))
			return true;
	return false;
}

/* Links of names that are no longer there, and folders of old times. */
static void sweep(const char *dir, int dir_fd, const char *stamp, const struct atomic_file *files, size_t n)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		const char *name = e->d_name;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, DATA_LINK) == 0 ||
		    strcmp(name, stamp) == 0)
			continue;
		if (strncmp(name, "..", 2) == 0) {
			_cleanup_free_ char *path = mem_printf("%s/%s", dir, name);

			fs_remove_tree(path, NULL);
		} else if (!wanted(name, files, n)) {
			unlinkat(dir_fd, name, 0);
		}
	}
	closedir(d);
}

static int make_stamp(int dir_fd, const char *stamp, gid_t gid, struct err *err)
{
	if (mkdirat(dir_fd, stamp, 0755) < 0)
		return fail(err, -errno, "mkdir", stamp);
	if (gid != (gid_t)-1 && fchownat(dir_fd, stamp, (uid_t)-1, gid, 0) < 0)
		return fail(err, -errno, "chown", stamp);
	return fchmodat(dir_fd, stamp, gid != (gid_t)-1 ? 02755 : 0755, 0) < 0 ? fail(err, -errno, "chmod", stamp) : 0;
}

static int replace_data(const char *dir, int dir_fd, const char *stamp, const struct atomic_file *files, size_t n,
			gid_t gid, struct err *err)
{
	int r = make_stamp(dir_fd, stamp, gid, err);

	if (r < 0)
		return r;
	_cleanup_close_ int data_fd = openat(dir_fd, stamp, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (data_fd < 0)
		return fail(err, -errno, "open", stamp);
	for (size_t i = 0; i < n; i++) {
		r = write_file(data_fd, &files[i], gid, err);
		if (r < 0)
			return r;
	}
	unlinkat(dir_fd, DATA_LINK_NEW, 0);
	if (symlinkat(stamp, dir_fd, DATA_LINK_NEW) < 0)
		return fail(err, -errno, "link", DATA_LINK_NEW);
	if (renameat(dir_fd, DATA_LINK_NEW, dir_fd, DATA_LINK) < 0)
		return fail(err, -errno, "rename", DATA_LINK);
	r = link_names(dir_fd, files, n, err);
	if (r < 0)
		return r;
	sweep(dir, dir_fd, stamp, files, n);
	return 0;
}

int atomic_writer_write(const char *dir, const struct atomic_file *files, size_t n, gid_t gid, bool *ret_changed,
			struct err *err)
{
	char stamp[STAMP_MAX], old[STAMP_MAX], suffix[11] = "";
	int r;

	if (n > ATOMIC_WRITER_FILES_MAX)
		return err_set(err, -E2BIG, "more than %d files in one volume", ATOMIC_WRITER_FILES_MAX);
	for (size_t i = 0; i < n; i++)
		if (!atomic_writer_path_valid(files[i].path))
			return err_set(err, -EINVAL, "invalid path in volume: \"%s\"", files[i].path);
	r = fs_mkdirs(dir, 0755, err);
	if (r < 0)
		return r;
	_cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return fail(err, -errno, "open", dir);
	if (current_stamp(dir_fd, old) == 0 && unchanged(dir_fd, old, files, n, gid) &&
	    link_names(dir_fd, files, n, NULL) == 0) {
		*ret_changed = false;
		return 0;
	}
	random_suffix(suffix, sizeof(suffix) - 1);
	snprintf(stamp, sizeof(stamp), "..v_%s", suffix);
	r = replace_data(dir, dir_fd, stamp, files, n, gid, err);
	if (r < 0) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, stamp);

		if (current_stamp(dir_fd, old) < 0 || strcmp(old, stamp) != 0)
			fs_remove_tree(path, NULL);
		return r;
	}
	*ret_changed = true;
	return 0;
}
