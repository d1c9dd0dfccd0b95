/* SPDX-License-Identifier: Apache-2.0 */
/* Who a container runs as: the pod's numbers, else the image's user, by the image's own passwd and group.
 * The files are the image's: opened with RESOLVE_IN_ROOT, read only when regular and not too large. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kubelet/runtime/bundle.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"

static int read_inside(const char *rootfs, const char *path, struct buf *ret)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	_cleanup_close_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	struct stat st;
	ssize_t n;

	if (root < 0)
		return -errno;
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > BUNDLE_PASSWD_MAX)
		return -EINVAL;
	do {
		n = read(fd, buf_reserve(ret, 16384), 16384);
		if (n > 0)
			buf_commit(ret, (size_t)n);
	} while (n > 0 && buf_len(ret) <= BUNDLE_PASSWD_MAX);
	return 0;
}

static size_t fields_of(struct str line, struct str *fields, size_t max)
{
	size_t n = 0;

	while (n < max) {
		long at = str_find(line, ':');

		fields[n++] = at < 0 ? line : str_make(line.p, (size_t)at);
		if (at < 0)
			break;
		line = str_make(line.p + at + 1, line.n - (size_t)at - 1);
	}
	return n;
}

static bool number(struct str s, uint32_t *ret)
{
	uint64_t v;

	if (str_to_uint64(s, &v) < 0 || v > UINT32_MAX - 1)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* name:x:uid:gid:gecos:home:shell, by name or else by uid */
static bool find_passwd(struct str text, struct str name, const uint32_t *uid, struct bundle_user *ret,
			struct str *ret_name)
{
	struct str line, f[7];

	while (str_split(&text, '\n', &line)) {
		uint32_t u, g;

		if (fields_of(line, f, 7) < 6 || !number(f[2], &u) || !number(f[3], &g))
			continue;
		if (uid ? u != *uid : !str_eq(f[0], name))
			continue;
		ret->uid = u;
		ret->gid = g;
		snprintf(ret->home, sizeof(ret->home), "%.*s", STR_ARG(f[5]));
		*ret_name = f[0];
		return true;
	}
	return false;
}

static bool find_group(struct str text, struct str name, uint32_t *ret)
{
	struct str line, f[4];

	while (str_split(&text, '\n', &line))
		if (fields_of(line, f, 4) >= 3 && str_eq(f[0], name) && number(f[2], ret))
			return true;
	return false;
}

/* name:x:gid:member,member */
static void add_member_groups(struct str text, struct str name, struct bundle_user *ret)
{
	struct str line, f[4], member;

	while (name.n && str_split(&text, '\n', &line)) {
		uint32_t gid;

		if (fields_of(line, f, 4) < 4 || !number(f[2], &gid))
			continue;
		while (str_split(&f[3], ',', &member))
			if (str_eq(str_trim(member), name) && ret->n_groups < BUNDLE_GROUPS_MAX && gid != ret->gid)
				ret->groups[ret->n_groups++] = gid;
	}
}

int bundle_user_resolve(const char *rootfs, const char *user, int64_t run_as_user, int64_t run_as_group,
			struct bundle_user *ret, struct err *err)
{
	_cleanup_buf_ struct buf passwd = BUF_INIT, group = BUF_INIT;
	struct bundle_user found = { .home = "/" };
	struct str spec = str_of(user ? user : ""), name = spec, group_name = STR_NULL, login = STR_NULL;
	long colon = str_find(spec, ':');
	uint32_t uid = 0;

	if (colon >= 0) {
		name = str_make(spec.p, (size_t)colon);
		group_name = str_make(spec.p + colon + 1, spec.n - (size_t)colon - 1);
	}
	read_inside(rootfs, "etc/passwd", &passwd); /* images without the file are common */
	read_inside(rootfs, "etc/group", &group);
	if (run_as_user >= 0) {
		uid = (uint32_t)run_as_user;
		group_name = STR_NULL;
	}
	if (run_as_user >= 0 || !name.n || number(name, &uid)) {
		found.uid = uid;
		find_passwd(buf_str(&passwd), STR_NULL, &uid, &found, &login);
	} else if (!find_passwd(buf_str(&passwd), name, NULL, &found, &login)) {
		return err_set(err, -EINVAL, "unable to find user %.*s: no matching entries in passwd file",
			       STR_ARG(name));
	}
	if (run_as_group >= 0)
		found.gid = (uint32_t)run_as_group;
	else if (group_name.n && !number(group_name, &found.gid) &&
		 !find_group(buf_str(&group), group_name, &found.gid))
		return err_set(err, -EINVAL, "unable to find group %.*s: no matching entries in group file",
			       STR_ARG(group_name));
	add_member_groups(buf_str(&group), login, &found);
	if (!found.home[0])
		strcpy(found.home, "/");
	*ret = found;
	return 0;
}
