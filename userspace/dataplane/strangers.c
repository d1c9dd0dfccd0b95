/* SPDX-License-Identifier: Apache-2.0 */
/* Pins of another build, older or newer: do its programs use the maps that this one has, and what of it does nobody
 * here know? Such programs and links go once this build's own are in place. Loop thread. */
#include "userspace/dataplane/strangers.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/pinset.h"

#define STRANGERS_MAPS_MAX 64 /* the kernel's own limit for a program */

/* Constants are each program's own. */
static bool strangers_is_table(uint32_t id)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	_cleanup_close_ int fd = bpf_map_get_fd_by_id(id);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && !strchr(info.name, '.');
}

static void strangers_each_map(int program, strangers_map_fn *fn, void *arg)
{
	uint32_t ids[STRANGERS_MAPS_MAX];
	struct bpf_prog_info info = { .map_ids = (uintptr_t)ids, .nr_map_ids = ARRAY_SIZE(ids) };
	uint32_t len = sizeof(info);

	if (program < 0 || bpf_obj_get_info_by_fd(program, &info, &len) < 0)
		return;
	for (uint32_t i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++)
		fn(arg, ids[i]);
}

/* -1: it is attached to nothing. */
static int strangers_program_of(const char *link_path)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	_cleanup_close_ int link = bpf_obj_get(link_path);

	if (link < 0 || bpf_obj_get_info_by_fd(link, &info, &len) < 0 || !info.prog_id)
		return -1;
	return bpf_prog_get_fd_by_id(info.prog_id);
}

struct strangers_tables {
	strangers_map_fn *fn;
	void *arg;
};

static void strangers_pass_table(void *arg, uint32_t id)
{
	const struct strangers_tables *t = arg;

	if (strangers_is_table(id))
		t->fn(t->arg, id);
}

size_t strangers_each_map_attached(const char *pin_dir, strangers_map_fn *fn, void *arg)
{
	_cleanup_free_ char *dir = mem_printf("%s/links", pin_dir);
	struct strangers_tables tables = { fn, arg };
	DIR *d = opendir(dir);
	struct dirent *e;
	size_t n = 0;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, e->d_name);
		_cleanup_close_ int program = e->d_name[0] == '.' ? -1 : strangers_program_of(path);

		strangers_each_map(program, strangers_pass_table, &tables);
		n += program >= 0;
	}
	if (d)
		closedir(d);
	return n;
}

void strangers_each_map_in_use(strangers_map_fn *fn, void *arg)
{
	uint32_t id = 0;

	while (bpf_prog_get_next_id(id, &id) == 0) {
		_cleanup_close_ int program = bpf_prog_get_fd_by_id(id);

		strangers_each_map(program, fn, arg);
	}
}

struct strangers_own {
	uint32_t ids[DP_MAP_COUNT];
	bool others;
};

static void strangers_compare(void *arg, uint32_t id)
{
	struct strangers_own *own = arg;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		if (own->ids[m] == id)
			return;
	own->others = true;
}

bool strangers_use_other_maps(struct dataplane *dp)
{
	struct strangers_own own = { .others = false };
	struct strangers_tables tables = { strangers_compare, &own };

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		own.ids[m] = pinset_id(dp->maps[m]);
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		strangers_each_map(dp->programs[p], strangers_pass_table, &tables);
	return own.others;
}

/* One program may be on several links: NAME, or NAME_... */
static bool strangers_knows_name(const char *name)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++) {
		size_t n = strlen(programs_name(p));

		if (strncmp(name, programs_name(p), n) == 0 && (name[n] == 0 || name[n] == '_'))
			return true;
	}
	return name[0] == '.';
}

static void strangers_drop_folder(const char *pin_dir, const char *kind)
{
	_cleanup_free_ char *dir = mem_printf("%s/%s", pin_dir, kind);
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, e->d_name);
		_cleanup_close_ int fd = -1;

		if (e->d_type == DT_DIR || strangers_knows_name(e->d_name))
			continue;
		fd = bpf_obj_get(path);
		if (fd >= 0)
			bpf_link_detach(fd); /* of a program: no link, nothing happens */
		unlink(path);
		log_info("pin of another build removed pin=%s/%s", kind, e->d_name);
	}
	closedir(d);
}

void strangers_drop(struct dataplane *dp)
{
	strangers_drop_folder(dp->pin_dir, "links");
	strangers_drop_folder(dp->pin_dir, "programs");
}
