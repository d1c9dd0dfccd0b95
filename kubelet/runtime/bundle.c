/* SPDX-License-Identifier: Apache-2.0 */
/* Making and removing a container's folders. Worker pool. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kubelet/runtime/bundle.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

void bundle_make_id(char ret[static BUNDLE_ID_LEN + 1])
{
	uint8_t raw[BUNDLE_ID_LEN / 2];

	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), ret);
}

static int make_folders(const char *bundle_dir, const char *data_dir, struct err *err)
{
	const char *const rest[][2] = { { bundle_dir, "rootfs" }, { data_dir, "upper" }, { data_dir, "work" } };

	for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", rest[i][0], rest[i][1]);
		int r = fs_mkdirs(path, 0755, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* config.json lives on a tmpfs and dies with the host: no sync. */
static int write_plain(const char *path, struct str text, struct err *err)
{
	FILE *f = fopen(path, "we");
	bool bad;

	if (!f)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	bad = fwrite(text.p, 1, text.n, f) != text.n;
	bad |= fclose(f) != 0;
	return bad ? err_set(err, -EIO, "%s: cannot write", path) : 0;
}

static int open_inside(int root, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* The working directory is made where the image lacks it, as upstream does; links are followed inside the root only.
 * What cannot be made is left for the OCI runtime to complain about. */
static void make_working_dir(const char *rootfs, const char *cwd)
{
	_cleanup_close_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *path = mem_strdup(cwd);
	int dir = root < 0 ? -1 : open_inside(root, "/");

	for (char *at = path; dir >= 0 && at;) {
		char *slash = strchr(at + 1, '/'), *name = at[0] == '/' ? at + 1 : at;
		int next;

		if (slash)
			*slash = 0;
		next = open_inside(root, path[0] ? path : "/");
		if (next == -ENOENT && name[0] && mkdirat(dir, name, 0755) == 0)
			next = open_inside(root, path);
		if (slash)
			*slash = '/';
		close(dir);
		dir = next;
		at = slash;
	}
	if (dir >= 0)
		close(dir);
}

static int prepare(const char *bundle_dir, const char *data_dir, const char *id, const struct bundle_sandbox *sandbox,
		   const struct runtime_container_spec *spec, struct err *err)
{
	static char *const no_layers[] = { NULL };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_free_ char *rootfs = mem_printf("%s/rootfs", bundle_dir);
	_cleanup_free_ char *upper = mem_printf("%s/upper", data_dir), *work = mem_printf("%s/work", data_dir);
	_cleanup_free_ char *config_path = mem_printf("%s/config.json", bundle_dir);
	struct bundle_user user;
	int r;

	r = make_folders(bundle_dir, data_dir, err);
	if (r >= 0)
		r = overlay_mount(rootfs, spec->image ? spec->image->layer_dirs : no_layers, upper, work, err);
	if (r >= 0)
		r = bundle_user_resolve(rootfs, spec->image ? spec->image->user : "", spec->run_as_user,
					spec->run_as_group, &user, err);
	if (r < 0)
		return r;
	make_working_dir(rootfs, bundle_working_dir(spec));
	return write_plain(config_path, json_text(&arena, bundle_config(&arena, sandbox, id, spec, &user)), err);
}

int bundle_create(const char *bundle_dir, const char *data_dir, const char *id, const struct bundle_sandbox *sandbox,
		  const struct runtime_container_spec *spec, struct err *err)
{
	int r = prepare(bundle_dir, data_dir, id, sandbox, spec, err);

	if (r < 0)
		bundle_remove(bundle_dir, data_dir);
	return r;
}

void bundle_remove(const char *bundle_dir, const char *data_dir)
{
	_cleanup_free_ char *rootfs = mem_printf("%s/rootfs", bundle_dir);

	/* detached: a process that still looks inside keeps it until it ends */
	while (umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	fs_remove_tree(bundle_dir, NULL);
	fs_remove_tree(data_dir, NULL);
}
