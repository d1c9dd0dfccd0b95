/* SPDX-License-Identifier: Apache-2.0 */
/* A set of pins is one folder (PIN_DIR/maps, PIN_DIR/programs). Another set is made beside it as KIND_new, which means
 * nothing to anyone: who finds one that a killed start left removes it. It takes over in one step, by exchanging the
 * two folders; the replaced set goes on as KIND_old<n> until no program that is attached uses it: the kernel empties a
 * table of tail calls when its last pin goes.
 *
 * Everything is pinned twice: builds from before this file, which rename their own pins over those in KIND one after
 * the other and may die halfway, know nothing of the inner folder (KIND/own). That one is the set; what is around it is
 * for them, and for whoever looks. No name here has a dot: bpffs takes none. Loop thread. */
#include "userspace/dataplane/pinset.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/fs.h"

#define PINSET_OWN "own"
#define PINSET_NEW "_new"
#define PINSET_OLD "_old"
#define PINSET_OLD_MAX 1000000

static bool pinset_format(char ret[static DP_PATH_MAX], const char *pin_dir, const char *kind, const char *rest)
{
	return (size_t)snprintf(ret, DP_PATH_MAX, "%s/%s%s", pin_dir, kind, rest) < DP_PATH_MAX;
}

static bool pinset_join(char ret[static DP_PATH_MAX], const char *folder, const char *name)
{
	return (size_t)snprintf(ret, DP_PATH_MAX, "%s/%s", folder, name) < DP_PATH_MAX;
}

/* All three begin with the type and the number. */
uint32_t pinset_id(int fd)
{
	struct {
		uint32_t type, id;
	} info = { 0 };
	uint32_t len = sizeof(info);

	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ? 0 : info.id;
}

static uint32_t pinset_id_at(const char *path)
{
	_cleanup_close_ int fd = bpf_obj_get(path);

	return pinset_id(fd);
}

void pinset_own(const char *pin_dir, const char *kind, char ret[static DP_PATH_MAX])
{
	pinset_format(ret, pin_dir, kind, "/" PINSET_OWN);
	if (!fs_exists(ret))
		pinset_format(ret, pin_dir, kind, "");
}

/* The number of an old set's name, counted from 1; 0: it is none. */
static unsigned pinset_old_number(const char *kind, const char *name)
{
	size_t n = strlen(kind);
	unsigned number;

	if (strncmp(name, kind, n) != 0 || strncmp(name + n, PINSET_OLD, strlen(PINSET_OLD)) != 0)
		return 0;
	number = (unsigned)atoi(name + n + strlen(PINSET_OLD));
	return number <= PINSET_OLD_MAX ? number : 0;
}

/* The highest number below that one; 0: none. */
static unsigned pinset_old_below(const char *pin_dir, const char *kind, unsigned below)
{
	DIR *d = opendir(pin_dir);
	unsigned best = 0;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		unsigned n = pinset_old_number(kind, e->d_name);

		if (n > best && n < below)
			best = n;
	}
	if (d)
		closedir(d);
	return best;
}

static bool pinset_old_path(const char *pin_dir, const char *kind, unsigned number, char ret[static DP_PATH_MAX])
{
	char rest[32];

	snprintf(rest, sizeof(rest), PINSET_OLD "%u", number);
	return pinset_format(ret, pin_dir, kind, rest);
}

bool pinset_old(const char *pin_dir, const char *kind, size_t i, char ret[static DP_PATH_MAX])
{
	unsigned number = PINSET_OLD_MAX + 1;

	do {
		number = pinset_old_below(pin_dir, kind, number);
	} while (number && i--);
	return number && pinset_old_path(pin_dir, kind, number, ret);
}

void pinset_drop(const char *folder)
{
	(void)fs_remove_tree(folder, NULL);
}

void pinset_drop_old(const char *pin_dir, const char *kind)
{
	char path[DP_PATH_MAX];
	unsigned number = PINSET_OLD_MAX + 1;

	while ((number = pinset_old_below(pin_dir, kind, number)))
		if (pinset_old_path(pin_dir, kind, number, path))
			pinset_drop(path);
	if (pinset_format(path, pin_dir, kind, PINSET_NEW))
		pinset_drop(path);
}

/* ---- another one ---- */

int pinset_begin(const char *pin_dir, const char *kind, struct err *err)
{
	char path[DP_PATH_MAX], own[DP_PATH_MAX];

	if (!pinset_format(path, pin_dir, kind, PINSET_NEW) ||
	    !pinset_format(own, pin_dir, kind, PINSET_NEW "/" PINSET_OWN))
		return err_set(err, -ENAMETOOLONG, "%s: too long", pin_dir);
	if (fs_exists(path))
		pinset_drop(path);
	if (mkdir(path, 0700) < 0 || mkdir(own, 0700) < 0)
		return err_set(err, -errno, "%s: %s", own, strerror(errno));
	return 0;
}

int pinset_add(const char *pin_dir, const char *kind, const char *name, int fd, struct err *err)
{
	static const char *const folders[] = { PINSET_NEW, PINSET_NEW "/" PINSET_OWN };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char folder[DP_PATH_MAX], path[DP_PATH_MAX];

		if (!pinset_format(folder, pin_dir, kind, folders[i]) || !pinset_join(path, folder, name))
			return err_set(err, -ENAMETOOLONG, "pin %s: too long", name);
		if (bpf_obj_pin(fd, path) < 0)
			return err_set(err, -errno, "pin %s: %s", path, strerror(errno));
	}
	return 0;
}

int pinset_mark(const char *pin_dir, const char *kind, const char *mark, struct err *err)
{
	char folder[DP_PATH_MAX], path[DP_PATH_MAX];

	if (!pinset_format(folder, pin_dir, kind, PINSET_NEW "/" PINSET_OWN) || !pinset_join(path, folder, mark))
		return err_set(err, -ENAMETOOLONG, "%s: too long", mark);
	return mkdir(path, 0700) < 0 ? err_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

bool pinset_is_marked(const char *pin_dir, const char *kind, const char *mark)
{
	char folder[DP_PATH_MAX], path[DP_PATH_MAX];

	return pinset_format(folder, pin_dir, kind, "/" PINSET_OWN) && pinset_join(path, folder, mark) &&
	       fs_exists(path);
}

/* Complete before it has a name that counts, and then the two names change places. */
int pinset_commit(const char *pin_dir, const char *kind, struct err *err)
{
	unsigned number = pinset_old_below(pin_dir, kind, PINSET_OLD_MAX + 1) + 1;
	char fresh[DP_PATH_MAX], now[DP_PATH_MAX], old[DP_PATH_MAX];

	if (!pinset_format(fresh, pin_dir, kind, PINSET_NEW) || !pinset_format(now, pin_dir, kind, "") ||
	    !pinset_old_path(pin_dir, kind, number, old))
		return err_set(err, -ENAMETOOLONG, "%s: too long", pin_dir);
	if (rename(fresh, old) < 0 || renameat2(AT_FDCWD, old, AT_FDCWD, now, RENAME_EXCHANGE) < 0)
		return err_set(err, -errno, "replace %s: %s", now, strerror(errno));
	return 0;
}

/* ---- what is in one ---- */

bool pinset_holds(const char *pin_dir, const char *kind, const char *name, int fd)
{
	static const char *const folders[] = { "", "/" PINSET_OWN };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char folder[DP_PATH_MAX], path[DP_PATH_MAX];

		if (!pinset_format(folder, pin_dir, kind, folders[i]) || !pinset_join(path, folder, name) ||
		    pinset_id_at(path) != pinset_id(fd))
			return false;
	}
	return true;
}

size_t pinset_ids(const char *folder, uint32_t *ret, size_t max)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	size_t n = 0;

	while (d && (e = readdir(d)) && n < max) {
		char path[DP_PATH_MAX];

		if (e->d_name[0] == '.' || e->d_type == DT_DIR || !pinset_join(path, folder, e->d_name))
			continue;
		ret[n] = pinset_id_at(path);
		n += ret[n] != 0;
	}
	if (d)
		closedir(d);
	return n;
}

size_t pinset_count(const char *pin_dir, const char *kind)
{
	char folder[DP_PATH_MAX];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	if (!pinset_format(folder, pin_dir, kind, "/" PINSET_OWN))
		return 0;
	d = opendir(folder);
	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.' && e->d_type != DT_DIR;
	if (d)
		closedir(d);
	return n;
}
