/* SPDX-License-Identifier: Apache-2.0 */
/* The maps: name, layout version, size. Each is pinned as <name>_v<version> (bpffs takes no dots): a new layout is a
 * new pin, and the old one is dropped. PRESERVE maps hold the state of connections; REBUILD maps are reconciled to the
 * objects by whoever opens the dataplane, so losing one costs work, never truth. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "bpf/maps.skel.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

enum map_keep { MAP_PRESERVE, MAP_REBUILD };

struct map_row {
	const char *name;
	unsigned version;
	enum map_keep keep;
	uint32_t entries; /* 0: as the object says */
};

#define MAPS_EVENT_BYTES (128 * 1024) /* some 1,200 events; pages to a power of two */

/* Entries are the defaults of a small box; LRU maps are allocated whole, the others as they fill. */
static const struct map_row map_rows[DP_MAP_COUNT] = {
	[DP_MAP_SERVICE] = { "k3c_service", 2, MAP_REBUILD, 16384 },
	[DP_MAP_BACKEND] = { "k3c_backend", 1, MAP_REBUILD, 32768 },
	[DP_MAP_SOURCE] = { "k3c_source", 1, MAP_REBUILD, 4096 },
	[DP_MAP_AFFINITY] = { "k3c_affinity", 1, MAP_PRESERVE, 2048 },
	[DP_MAP_SOCK] = { "k3c_sock", 1, MAP_PRESERVE, 0 },
	[DP_MAP_ENDPOINT] = { "k3c_endpoint", 2, MAP_REBUILD, 4096 },
	[DP_MAP_RULE] = { "k3c_rule", 1, MAP_REBUILD, 262144 },
	[DP_MAP_PREFIX] = { "k3c_prefix", 1, MAP_REBUILD, 65536 },
	[DP_MAP_CONN] = { "k3c_conn", 1, MAP_PRESERVE, 8192 },
	[DP_MAP_FRAG] = { "k3c_frag", 2, MAP_PRESERVE, 1024 },
	[DP_MAP_NAT] = { "k3c_nat", 1, MAP_PRESERVE, 8192 },
	[DP_MAP_DIRECT] = { "k3c_direct", 1, MAP_REBUILD, 256 },
	[DP_MAP_SNAT] = { "k3c_snat", 1, MAP_PRESERVE, 1 },
	[DP_MAP_NODE] = { "k3c_node", 1, MAP_REBUILD, 256 },
	[DP_MAP_NETNS] = { "k3c_netns", 2, MAP_REBUILD, 4096 },
	[DP_MAP_LINK] = { "k3c_link", 2, MAP_REBUILD, 256 },
	[DP_MAP_DROP] = { "k3c_drop", 2, MAP_PRESERVE, K3C_DROP_MAX },
	[DP_MAP_RATE] = { "k3c_rate", 1, MAP_REBUILD, 4096 },
	[DP_MAP_POD_DROP] = { "k3c_pod_drop", 1, MAP_REBUILD, 4096 },
	[DP_MAP_EVENT] = { "k3c_event", 1, MAP_REBUILD, MAPS_EVENT_BYTES },
	[DP_MAP_LISTEN] = { "k3c_listen", 1, MAP_REBUILD, 1 },
	[DP_MAP_TC_USED] = { "k3c_tc_used", 1, MAP_PRESERVE, 1 },
	[DP_MAP_TAIL] = { "k3c_tail", 1, MAP_REBUILD, K3C_TAIL_COUNT },
	[DP_MAP_META] = { "k3c_meta", 1, MAP_PRESERVE, 1 },
};

/* Boxes with memory to spare follow more connections. */
#define MAPS_BIG_MEMORY_BYTES (8ULL << 30)
#define MAPS_BIG_CONNECTIONS 16384

const char *maps_name(enum dp_map m)
{
	return map_rows[m].name;
}

int maps_path(const char *pin_dir, enum dp_map m, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s/maps/%s_v%u", pin_dir, map_rows[m].name, map_rows[m].version);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static uint32_t maps_entries(const struct dataplane *dp, enum dp_map m)
{
	const struct dataplane_options *o = &dp->options;

	switch (m) {
	case DP_MAP_SERVICE:
		return o->max_services ? o->max_services : map_rows[m].entries;
	case DP_MAP_BACKEND:
		return o->max_backends ? o->max_backends : map_rows[m].entries;
	case DP_MAP_CONN:
	case DP_MAP_NAT:
		return o->max_connections ? o->max_connections : map_rows[m].entries;
	case DP_MAP_RULE:
	case DP_MAP_PREFIX:
		return o->max_policy_entries ? o->max_policy_entries : map_rows[m].entries;
	default:
		return map_rows[m].entries;
	}
}

/* The pinned map when it has the object's layout; else the pin goes. */
static int maps_pinned(const char *path, const struct bpf_map *map)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return -1;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == bpf_map__type(map) &&
	    info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map))
		return fd;
	close(fd);
	unlink(path);
	return -1;
}

/* Pins of older layouts and of maps that are no more. */
static void maps_drop_strangers(const char *pin_dir)
{
	_cleanup_free_ char *dir = mem_printf("%s/maps", pin_dir);
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		char path[DP_PATH_MAX];
		bool known = e->d_name[0] == '.';

		for (enum dp_map m = 0; m < DP_MAP_COUNT && !known; m++)
			known = maps_path(pin_dir, m, path, sizeof(path)) == 0 &&
				strcmp(strrchr(path, '/') + 1, e->d_name) == 0;
		if (!known)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}

static int maps_reuse(struct dataplane *dp, struct bpf_object *object, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);
		char path[DP_PATH_MAX];
		int fd;

		if (!map || maps_path(dp->pin_dir, m, path, sizeof(path)) < 0)
			return err_set(err, -EINVAL, "map %s: not in its object", map_rows[m].name);
		fd = maps_pinned(path, map);
		if (fd >= 0) {
			int r = bpf_map__reuse_fd(map, fd);

			close(fd);
			if (r < 0)
				return err_set(err, r, "map %s: %s", map_rows[m].name, strerror(-r));
		} else if (map_rows[m].entries) {
			bpf_map__set_max_entries(map, maps_entries(dp, m));
		}
	}
	return 0;
}

static int maps_pin(struct dataplane *dp, struct bpf_object *object, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);
		char path[DP_PATH_MAX];

		maps_path(dp->pin_dir, m, path, sizeof(path));
		if (access(path, F_OK) != 0 && bpf_obj_pin(bpf_map__fd(map), path) < 0)
			return err_set(err, -errno, "pin %s: %s", path, strerror(errno));
		dp->maps[m] = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3);
		if (dp->maps[m] < 0)
			return err_set(err, -errno, "map %s: %s", map_rows[m].name, strerror(errno));
	}
	return 0;
}

int maps_open(struct dataplane *dp, struct err *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "maps");
	struct bpf_object *object;
	struct sysinfo host;
	const void *elf;
	size_t size;
	int r;

	if (!dp->options.max_connections && sysinfo(&host) == 0 &&
	    (uint64_t)host.totalram * host.mem_unit >= MAPS_BIG_MEMORY_BYTES)
		dp->options.max_connections = MAPS_BIG_CONNECTIONS;
	elf = maps_bpf__elf_bytes(&size);
	object = bpf_object__open_mem(elf, size, &opts);
	if (!object)
		return err_set(err, -errno, "maps object: %s", strerror(errno));
	r = maps_reuse(dp, object, err);
	if (r == 0) {
		r = bpf_object__load(object);
		if (r < 0)
			err_set(err, r, "make the maps: %s", strerror(-r));
	}
	if (r == 0)
		r = maps_pin(dp, object, err);
	bpf_object__close(object);
	if (r == 0)
		maps_drop_strangers(dp->pin_dir);
	return r;
}

int maps_open_pinned(struct dataplane *dp, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		char path[DP_PATH_MAX];

		if (maps_path(dp->pin_dir, m, path, sizeof(path)) < 0)
			return err_set(err, -ENAMETOOLONG, "%s: too long", dp->pin_dir);
		dp->maps[m] = bpf_obj_get(path);
		if (dp->maps[m] < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
	}
	return 0;
}
