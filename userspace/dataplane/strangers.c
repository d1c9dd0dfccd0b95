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

bool strangers_any_pinned(struct dataplane *dp)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		if (dp->programs[p] >= 0)
			return true;
	return false;
}

static bool strangers_knows_map(const uint32_t own[static DP_MAP_COUNT], uint32_t id)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	_cleanup_close_ int fd = -1;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		if (own[m] == id)
			return true;
	fd = bpf_map_get_fd_by_id(id);
	/* constants are each program's own */
	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0 || strchr(info.name, '.');
}

bool strangers_use_other_maps(struct dataplane *dp)
{
	uint32_t own[DP_MAP_COUNT] = { 0 }, ids[DP_MAP_COUNT + 8];

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);

		if (bpf_obj_get_info_by_fd(dp->maps[m], &info, &len) == 0)
			own[m] = info.id;
	}
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++) {
		struct bpf_prog_info info = { .map_ids = (uintptr_t)ids, .nr_map_ids = ARRAY_SIZE(ids) };
		uint32_t len = sizeof(info);

		if (dp->programs[p] < 0 || bpf_obj_get_info_by_fd(dp->programs[p], &info, &len) < 0)
			continue;
		for (uint32_t i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++)
			if (!strangers_knows_map(own, ids[i]))
				return true;
	}
	return false;
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

		if (strangers_knows_name(e->d_name))
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
