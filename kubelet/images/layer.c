/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks one layer into a folder that overlayfs can stand on. The bytes are a stranger's: every path is
 * walked from the layer's own root with openat2(RESOLVE_IN_ROOT), `..` and device nodes are refused, only
 * harmless extended attributes are taken over, entries and bytes are bounded. Both digests (of the bytes as
 * they came, and of the tar inside) are made while streaming. Blocking; one thread a layer. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "kubelet/images/lazy.h"
#include "kubelet/images/store.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define LAYER_COPY_BYTES (64u << 10)
#define LAYER_DRAIN_MAX (64ull << 20) /* what may follow the end of the tar */
#define WHITEOUT ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh."

struct unpack {
	struct archive *outer, *inner;
	struct layer_source *source;
	struct digest blob, diff;
	char *chunk;
	int root_fd;
	uint64_t bytes, entries;
	struct err *err;
	bool failed; /* err is set by our own callback */
};

/* ---- paths ---- */

static int open_in_root(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root_fd, path[0] ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Cleans "./a//b/" to "a/b". -EINVAL for "..", over-long and empty-named paths. */
static int clean_path(const char *path, char *ret, size_t size)
{
	struct str rest = str_of(path), part;
	size_t n = 0;

	if (!path || rest.n >= size)
		return -EINVAL;
	while (str_split(&rest, '/', &part)) {
		if (!part.n || str_is(part, "."))
			continue;
		if (str_is(part, "..") || part.n > NAME_MAX)
			return -EINVAL;
		if (n)
			ret[n++] = '/';
		memcpy(ret + n, part.p, part.n);
		n += part.n;
	}
	ret[n] = 0;
	return 0;
}

/* Opens the folder `path`, making what is missing of it. */
static int make_folders(int root_fd, char *path)
{
	int dir = open_in_root(root_fd, "", O_RDONLY | O_DIRECTORY);

	for (char *at = path; dir >= 0 && at;) {
		char *slash = strchr(at, '/');
		int next;

		if (slash)
			*slash = 0;
		next = open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY);
		if (next == -ENOENT)
			next = mkdirat(dir, at, 0755) < 0 ? -errno
							  : open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY);
		if (slash)
			*slash = '/';
		close(dir);
		dir = next;
		at = slash ? slash + 1 : NULL;
	}
	return dir;
}

/* Opens the folder that holds the last component. *ret_base points into `path`. */
static int open_parent(int root_fd, char *path, const char **ret_base)
{
	char *slash = strrchr(path, '/');
	int fd;

	if (!slash) {
		*ret_base = path;
		return open_in_root(root_fd, "", O_RDONLY | O_DIRECTORY);
	}
	*ret_base = slash + 1;
	*slash = 0;
	fd = open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY);
	if (fd == -ENOENT)
		fd = make_folders(root_fd, path);
	*slash = '/';
	return fd;
}

static int remove_existing(int parent, const char *base)
{
	_cleanup_free_ char *path = NULL;

	if (unlinkat(parent, base, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(parent, base, AT_REMOVEDIR) == 0)
		return 0;
	path = mem_printf("/proc/self/fd/%d/%s", parent, base);
	return fs_remove_tree(path, NULL);
}

/* ---- entries ---- */

static int refuse(struct unpack *u, const char *path, const char *why)
{
	return err_set(u->err, -EINVAL, "layer entry \"%.200s\" %s", path, why);
}

static int whiteout(struct unpack *u, int parent, const char *base)
{
	const char *name = base + strlen(WHITEOUT);

	if (strcmp(base, WHITEOUT_OPAQUE) == 0)
		return fsetxattr(parent, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -errno : 0;
	if (strncmp(base, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
		return 0; /* bookkeeping of aufs */
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return refuse(u, base, "is not a whiteout of anything");
	if (mknodat(parent, name, S_IFCHR | 0, makedev(0, 0)) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int write_file(struct unpack *u, struct archive_entry *entry, int fd)
{
	const void *data;
	size_t n;
	la_int64_t at, size = sym_archive_entry_size(entry);
	int r;

	while ((r = sym_archive_read_data_block(u->inner, &data, &n, &at)) == ARCHIVE_OK) {
		u->bytes += n;
		if (u->bytes > STORE_LAYER_BYTES_MAX)
			return err_set(u->err, -EFBIG, "layer unpacks to more than %llu bytes",
				       (unsigned long long)STORE_LAYER_BYTES_MAX);
		while (n) {
			ssize_t w = pwrite(fd, data, n, at);

			if (w < 0)
				return -errno;
			data = (const char *)data + w;
			n -= (size_t)w;
			at += w;
		}
	}
	if (r != ARCHIVE_EOF)
		return -EBADMSG;
	/* a sparse tail; a size that was never backed by data costs no disk */
	return size > 0 && ftruncate(fd, size) < 0 ? -errno : 0;
}

static bool xattr_wanted(const char *name)
{
	return strcmp(name, "security.capability") == 0 || strncmp(name, "user.", 5) == 0;
}

static void copy_xattrs(struct archive_entry *entry, int fd)
{
	const char *name;
	const void *value;
	size_t n;

	sym_archive_entry_xattr_reset(entry);
	while (sym_archive_entry_xattr_next(entry, &name, &value, &n) == ARCHIVE_OK)
		if (name && xattr_wanted(name))
			fsetxattr(fd, name, value, n, 0); /* a filesystem without user.* still serves */
}

static int set_owner(struct archive_entry *entry, int parent, const char *base, int fd)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = sym_archive_entry_mtime(entry),
				       .tv_nsec = sym_archive_entry_mtime_nsec(entry) } };
	uid_t uid = (uid_t)sym_archive_entry_uid(entry);
	gid_t gid = (gid_t)sym_archive_entry_gid(entry);

	if (fchownat(parent, base, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* after chown, which drops set-id bits */
	if (fd >= 0 && fchmod(fd, sym_archive_entry_perm(entry)) < 0)
		return -errno;
	if (fd >= 0)
		copy_xattrs(entry, fd);
	utimensat(parent, base, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int make_file(struct unpack *u, struct archive_entry *entry, int parent, const char *base)
{
	_cleanup_close_ int fd = -1;
	int r = remove_existing(parent, base);

	if (r < 0)
		return r;
	fd = openat(parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_file(u, entry, fd);
	return r < 0 ? r : set_owner(entry, parent, base, fd);
}

static int make_dir(struct archive_entry *entry, int parent, const char *base)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
		int r = remove_existing(parent, base);

		if (r < 0)
			return r;
	}
	if (mkdirat(parent, base, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return set_owner(entry, parent, base, fd);
}

static int make_hardlink(struct unpack *u, const char *target, int parent, const char *base)
{
	char path[STORE_LAYER_NAME_MAX];
	_cleanup_close_ int target_parent = -1;
	const char *target_base;
	struct stat st;
	int r;

	if (clean_path(target, path, sizeof(path)) < 0 || !path[0])
		return refuse(u, target, "is a hard link's target outside of the layer");
	target_parent = open_parent(u->root_fd, path, &target_base);
	if (target_parent < 0)
		return target_parent;
	if (fstatat(target_parent, target_base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return refuse(u, target, "is a hard link's target that is not there");
	if (S_ISDIR(st.st_mode) || S_ISCHR(st.st_mode))
		return refuse(u, target, "cannot be the target of a hard link");
	r = remove_existing(parent, base);
	if (r < 0)
		return r;
	return linkat(target_parent, target_base, parent, base, 0) < 0 ? -errno : 0;
}

static int make_entry(struct unpack *u, struct archive_entry *entry, const char *path, int parent, const char *base)
{
	const char *link = sym_archive_entry_hardlink(entry);
	int r;

	if (strncmp(base, WHITEOUT, strlen(WHITEOUT)) == 0)
		return whiteout(u, parent, base);
	if (link)
		return make_hardlink(u, link, parent, base);
	switch (sym_archive_entry_filetype(entry)) {
	case AE_IFREG:
		return make_file(u, entry, parent, base);
	case AE_IFDIR:
		return make_dir(entry, parent, base);
	case AE_IFLNK:
		r = remove_existing(parent, base);
		if (r >= 0 && symlinkat(sym_archive_entry_symlink(entry) ? sym_archive_entry_symlink(entry) : "",
					parent, base) < 0)
			r = -errno;
		return r < 0 ? r : set_owner(entry, parent, base, -1);
	case AE_IFIFO:
		r = remove_existing(parent, base);
		if (r >= 0 && mknodat(parent, base, S_IFIFO | sym_archive_entry_perm(entry), 0) < 0)
			r = -errno;
		return r < 0 ? r : set_owner(entry, parent, base, -1);
	case AE_IFCHR:
	case AE_IFBLK:
		return refuse(u, path, "is a device node: refused");
	default:
		return refuse(u, path, "is of an unknown type");
	}
}

static int unpack_entry(struct unpack *u, struct archive_entry *entry)
{
	const char *name = sym_archive_entry_pathname(entry), *base;
	char path[STORE_LAYER_NAME_MAX];
	_cleanup_close_ int parent = -1;
	int r;

	if (++u->entries > STORE_LAYER_ENTRIES_MAX)
		return err_set(u->err, -E2BIG, "layer has more than %u entries", STORE_LAYER_ENTRIES_MAX);
	if (clean_path(name, path, sizeof(path)) < 0)
		return refuse(u, name ? name : "", "would leave the layer or has an impossible name");
	if (!path[0]) { /* the root itself */
		if (sym_archive_entry_filetype(entry) != AE_IFDIR)
			return refuse(u, name, "has an empty name");
		return set_owner(entry, u->root_fd, ".", u->root_fd);
	}
	parent = open_parent(u->root_fd, path, &base);
	r = parent < 0 ? parent : make_entry(u, entry, path, parent, base);
	if (r < 0 && u->err && u->err->code == r)
		return r;
	if (r == -EBADMSG && u->failed)
		return r;
	if (r < 0)
		return err_set(u->err, r, "layer entry \"%.200s\": %s", path,
			       r == -EBADMSG ? sym_archive_error_string(u->inner) : strerror(-r));
	return 0;
}

/* ---- the two archives: decompression outside, tar inside ---- */

static la_ssize_t read_compressed(struct archive *a, void *arg, const void **ret)
{
	struct unpack *u = arg;
	ssize_t n = u->source->read(u->source, ret, u->err);

	if (n < 0) {
		u->failed = true;
		sym_archive_set_error(a, (int)-n, "source failed");
		return ARCHIVE_FATAL;
	}
	digest_add(&u->blob, *ret, (size_t)n);
	return n;
}

static la_ssize_t read_tar(struct archive *a, void *arg, const void **ret)
{
	struct unpack *u = arg;
	la_ssize_t n = sym_archive_read_data(u->outer, u->chunk, LAYER_COPY_BYTES);

	if (n < 0) {
		sym_archive_set_error(a, EIO, "%s",
				      sym_archive_error_string(u->outer) ? sym_archive_error_string(u->outer)
									 : "damaged");
		return ARCHIVE_FATAL;
	}
	digest_add(&u->diff, u->chunk, (size_t)n);
	*ret = u->chunk;
	return n;
}

static int bad_archive(struct unpack *u, struct archive *a)
{
	const char *why = sym_archive_error_string(a);

	if (u->failed)
		return u->err ? u->err->code : -EIO;
	return err_set(u->err, -EBADMSG, "layer is damaged: %s", why ? why : "unreadable archive");
}

static int open_archives(struct unpack *u)
{
	struct archive_entry *entry;

	sym_archive_read_support_filter_gzip(u->outer);
	sym_archive_read_support_filter_zstd(u->outer);
	sym_archive_read_support_format_raw(u->outer);
	sym_archive_read_support_format_empty(u->outer);
	if (sym_archive_read_open(u->outer, u, NULL, read_compressed, NULL) != ARCHIVE_OK ||
	    sym_archive_read_next_header(u->outer, &entry) != ARCHIVE_OK)
		return bad_archive(u, u->outer);
	sym_archive_read_support_format_tar(u->inner);
	sym_archive_read_support_format_empty(u->inner);
	if (sym_archive_read_open(u->inner, u, NULL, read_tar, NULL) != ARCHIVE_OK)
		return bad_archive(u, u->inner);
	return 0;
}

static int unpack_all(struct unpack *u)
{
	struct archive_entry *entry;
	uint64_t drained = 0;
	const void *rest;
	la_ssize_t n;
	ssize_t more;
	int r = open_archives(u);

	while (r >= 0) {
		r = sym_archive_read_next_header(u->inner, &entry);
		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return bad_archive(u, u->inner);
		r = unpack_entry(u, entry);
	}
	if (r < 0)
		return r;
	/* What follows the tar's end still belongs to both digests. */
	while ((n = read_tar(u->inner, u, &rest)) > 0)
		if ((drained += (uint64_t)n) > LAYER_DRAIN_MAX)
			return err_set(u->err, -EFBIG, "layer goes on behind its end");
	if (n < 0)
		return bad_archive(u, u->outer);
	while ((more = u->source->read(u->source, &rest, u->err)) > 0)
		digest_add(&u->blob, rest, (size_t)more);
	return more < 0 ? (int)more : 0;
}

static int check_digests(struct unpack *u, struct str blob_hex, struct str diff_hex)
{
	char got[STORE_HEX_LEN + 1];

	digest_hex(&u->blob, got);
	if (blob_hex.n && !str_is(blob_hex, got))
		return err_set(u->err, -EBADMSG, "layer's digest is sha256:%s, but sha256:%.*s was promised", got,
			       STR_ARG(blob_hex));
	digest_hex(&u->diff, got);
	if (!str_is(diff_hex, got))
		return err_set(u->err, -EBADMSG, "layer's content is sha256:%s, but the config says sha256:%.*s", got,
			       STR_ARG(diff_hex));
	return 0;
}

int layer_unpack(struct store_add *add, struct layer_source *source, struct str blob_hex, struct str diff_hex,
		 struct err *err)
{
	_cleanup_err_ struct err own = ERR_INIT;
	struct unpack u = { .source = source, .err = &own, .root_fd = -1 };
	struct store_layer *layer;
	char suffix[13] = "";
	char *tmp;
	int r;

	if (add->n_layers >= IMAGE_LAYERS_MAX)
		return err_set(err, -E2BIG, "image has more than %d layers", IMAGE_LAYERS_MAX);
	r = lazy_archive(err);
	if (r < 0)
		return r;
	random_suffix(suffix, sizeof(suffix) - 1);
	tmp = mem_printf("%s/tmp/%.*s-%s", add->images->dir, 12, diff_hex.p, suffix);
	if (mkdir(tmp, 0755) < 0 || (u.root_fd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		r = err_set(err, -errno, "layer folder %s: %s", tmp, strerror(errno));
		free(tmp);
		return r;
	}
	u.outer = sym_archive_read_new();
	u.inner = sym_archive_read_new();
	u.chunk = mem_alloc(LAYER_COPY_BYTES);
	digest_init(&u.blob);
	digest_init(&u.diff);
	r = unpack_all(&u);
	if (r >= 0)
		r = check_digests(&u, blob_hex, diff_hex);
	sym_archive_read_free(u.inner);
	sym_archive_read_free(u.outer);
	digest_finish(&u.blob);
	digest_finish(&u.diff);
	free(u.chunk);
	close(u.root_fd);
	if (r < 0) {
		fs_remove_tree(tmp, NULL);
		free(tmp);
		err_move(err, &own);
		return r;
	}
	layer = &add->layers[add->n_layers++];
	memcpy(layer->hex, diff_hex.p, STORE_HEX_LEN);
	layer->hex[STORE_HEX_LEN] = 0;
	layer->tmp = tmp;
	layer->bytes = u.bytes;
	return 0;
}
