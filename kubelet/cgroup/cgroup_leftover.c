/* SPDX-License-Identifier: Apache-2.0 */
/* Controllers that nobody mounted on v1 stay with cgroup2 on a hybrid host, and crun 1.8 refuses such a host. They
 * are mounted on v1 beside the others; a record tells what we mounted, for the undoing. Blocking. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup_kinds.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define LEFTOVER_FILE_MAX 4096
#define LEFTOVER_RETURN_TRIES 100
#define LEFTOVER_RETURN_US 20000
#define LEFTOVER_DIR "/sys/fs/cgroup" /* where crun looks for every v1 hierarchy */

static int mount_one(const char *controller, const char *record, struct err *err)
{
	_cleanup_free_ char *dir = mem_printf("%s/%s", LEFTOVER_DIR, controller);
	bool made = mkdir(dir, 0755) == 0;
	FILE *f;
	int r;

	if (!made && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", dir, strerror(errno));
	if (mount("cgroup", dir, "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, controller) < 0) {
		r = err_set(err, -errno, "cannot mount %s: %s", dir, strerror(errno));
		if (made)
			rmdir(dir);
		return r;
	}
	f = fopen(record, "ae");
	if (f) {
		fprintf(f, "%s\n", dir);
		fclose(f);
	}
	return 0;
}

int cgroup_mount_leftovers(const struct cgroup_host *host, const char *record, struct err *err)
{
	const struct cgroup_mount *v2 = cgroup_mount_v2(host);
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[CGROUP_PATH_MAX];
	struct str rest, name;
	int n = 0, r;

	if (host->mode != CGROUP_HYBRID || !host->v2_has_controllers)
		return 0;
	snprintf(path, sizeof(path), "%s/cgroup.controllers", v2->path);
	r = fs_read(path, LEFTOVER_FILE_MAX, &text, err);
	if (r < 0)
		return r;
	rest = str_trim(buf_str(&text));
	while (str_split(&rest, ' ', &name)) {
		_cleanup_free_ char *controller = str_dup(name);

		if (!name.n)
			continue;
		r = mount_one(controller, record, err);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

static bool has_groups(const char *dir)
{
	struct dirent *entry;
	bool found = false;
	DIR *d = opendir(dir);

	while (d && !found && (entry = readdir(d)))
		found = entry->d_type == DT_DIR && entry->d_name[0] != '.';
	if (d)
		closedir(d);
	return found;
}

/* The kernel gives a controller back a little after the unmount; whoever starts in between would see it nowhere. */
static void await_return(void)
{
	struct cgroup_host host;

	for (int i = 0; i < LEFTOVER_RETURN_TRIES; i++) {
		if (cgroup_detect(&host, NULL) < 0 || host.v2_has_controllers)
			return;
		usleep(LEFTOVER_RETURN_US);
	}
}

void cgroup_unmount_leftovers(const char *record)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line;
	int n = 0;

	if (fs_read(record, LEFTOVER_FILE_MAX, &text, NULL) < 0)
		return;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		_cleanup_free_ char *dir = str_dup(line);

		/* a hierarchy that others came to use stays */
		if (str_starts(line, STR(LEFTOVER_DIR "/")) && !has_groups(dir) && umount2(dir, UMOUNT_NOFOLLOW) == 0) {
			rmdir(dir);
			n++;
		}
	}
	if (n)
		await_return();
	unlink(record);
}
