/* SPDX-License-Identifier: Apache-2.0 */
/* The maps: name, layout version, size. Each is pinned as <name>_v<version> (bpffs takes no dots): a new layout is a
 * new pin. PRESERVE maps hold the state of connections; REBUILD maps are reconciled to the objects by whoever opens the
 * dataplane, so losing one costs work, never truth. What is found of other builds and sizes: maps_carry.c. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "bpf/include/nat.h"
#include "bpf/include/policy.h"
#include "bpf/include/service.h"
#include "bpf/maps.skel.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/maps.h"

#define MAPS_EVENT_BYTES (128 * 1024) /* some 1,200 events; pages to a power of two */

/* Of the connections that are remembered, for what is none: it must not push them out. */
#define MAPS_DATAGRAM_SHARE 4

/* Entries are the defaults of a small box; LRU maps are allocated whole, the others as they fill. */
const struct map_row map_rows[DP_MAP_COUNT] = {
	[DP_MAP_SERVICE] = { "k3c_service", 3, MAP_REBUILD, 16384 },
	[DP_MAP_BACKEND] = { "k3c_backend", 1, MAP_REBUILD, 32768 },
	[DP_MAP_SOURCE] = { "k3c_source", 1, MAP_REBUILD, 4096 },
	[DP_MAP_AFFINITY] = { "k3c_affinity", 1, MAP_PRESERVE, 2048 },
	[DP_MAP_SOCK] = { "k3c_sock", 1, MAP_PRESERVE, 0 },
	[DP_MAP_SOCK_TCP] = { "k3c_sock_tcp", 1, MAP_PRESERVE, K3C_SOCK_TCP_ROWS },
	[DP_MAP_ENDPOINT] = { "k3c_endpoint", 2, MAP_REBUILD, 4096 },
	[DP_MAP_RULE] = { "k3c_rule", 1, MAP_REBUILD, 262144 },
	[DP_MAP_PREFIX] = { "k3c_prefix", 1, MAP_REBUILD, 65536 },
	[DP_MAP_CONN] = { "k3c_conn", 1, MAP_PRESERVE, 8192 - 8192 / MAPS_DATAGRAM_SHARE },
	[DP_MAP_DATAGRAM] = { "k3c_datagram", 1, MAP_PRESERVE, 8192 / MAPS_DATAGRAM_SHARE },
	[DP_MAP_VERDICT] = { "k3c_verdict", 1, MAP_REBUILD, K3C_VERDICT_ROWS },
	[DP_MAP_FRAG] = { "k3c_frag", 2, MAP_PRESERVE, 1024 },
	[DP_MAP_NAT] = { "k3c_nat", 1, MAP_PRESERVE, 8192 },
	[DP_MAP_CLOSED] = { "k3c_closed", 1, MAP_PRESERVE, 8192 / K3C_CLOSED_SHARE },
	[DP_MAP_DIRECT] = { "k3c_direct", 1, MAP_REBUILD, 256 },
	[DP_MAP_SNAT] = { "k3c_snat", 1, MAP_PRESERVE, 1 },
	[DP_MAP_NODE] = { "k3c_node", 1, MAP_REBUILD, 256 },
	[DP_MAP_NETNS] = { "k3c_netns", 3, MAP_REBUILD, 4096 },
	[DP_MAP_LINK] = { "k3c_link", 3, MAP_REBUILD, 256 },
	[DP_MAP_DROP] = { "k3c_drop", 2, MAP_PRESERVE, K3C_DROP_MAX },
	[DP_MAP_RATE] = { "k3c_rate", 2, MAP_REBUILD, 4096 },
	[DP_MAP_POD_DROP] = { "k3c_pod_drop", 1, MAP_REBUILD, 4096 },
	[DP_MAP_NSID] = { "k3c_nsid", 1, MAP_REBUILD, 4096 },
	[DP_MAP_EVENT] = { "k3c_event", 1, MAP_REBUILD, MAPS_EVENT_BYTES },
	[DP_MAP_LISTEN] = { "k3c_listen", 1, MAP_REBUILD, 1 },
	[DP_MAP_TC_USED] = { "k3c_tc_used", 1, MAP_PRESERVE, 1 },
	[DP_MAP_TAIL] = { "k3c_tail", 1, MAP_REBUILD, K3C_TAIL_COUNT },
	[DP_MAP_META] = { "k3c_meta", 2, MAP_PRESERVE, 1 },
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
		return o->max_connections ? o->max_connections - o->max_connections / MAPS_DATAGRAM_SHARE
					  : map_rows[m].entries;
	case DP_MAP_DATAGRAM:
		return o->max_connections ? o->max_connections / MAPS_DATAGRAM_SHARE : map_rows[m].entries;
	case DP_MAP_NAT:
		return o->max_connections ? o->max_connections : map_rows[m].entries;
	case DP_MAP_CLOSED:
		return maps_entries(dp, DP_MAP_NAT) / K3C_CLOSED_SHARE;
	case DP_MAP_RULE:
	case DP_MAP_PREFIX:
		return o->max_policy_entries ? o->max_policy_entries : map_rows[m].entries;
	default:
		return map_rows[m].entries;
	}
}

/* Rules and what refers to them: of no use without each other. */
static bool maps_is_policy(enum dp_map m)
{
	return m == DP_MAP_ENDPOINT || m == DP_MAP_RULE || m == DP_MAP_PREFIX;
}

/* Numbers in them come from the meta row: worthless when that is lost. */
static bool maps_has_sets(enum dp_map m)
{
	return maps_is_policy(m) || m == DP_MAP_SERVICE || m == DP_MAP_BACKEND || m == DP_MAP_SOURCE;
}

static bool maps_missing(const struct map_look *l)
{
	return l->found == MAP_FOUND_OTHER;
}

/* Does what was found there go on as it is, or into a new map? When objects' maps must be made anew, the old programs
 * keep all of theirs to themselves, the meta row among them: nobody changes what they read until they are replaced. */
static void maps_plan(struct dataplane *dp, struct map_look look[static DP_MAP_COUNT], bool copy[static DP_MAP_COUNT])
{
	bool meta_lost = maps_missing(&look[DP_MAP_META]), policy_lost = false, anew = meta_lost;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		bool lost = maps_missing(&look[m]);

		anew |= lost && map_rows[m].keep == MAP_REBUILD;
		policy_lost |= lost && maps_is_policy(m);
		if (lost && map_rows[m].keep == MAP_PRESERVE)
			log_warn("state of another build is not understood and starts anew map=%s", map_rows[m].name);
	}
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		bool own = anew && (map_rows[m].keep == MAP_REBUILD || m == DP_MAP_META);

		if (look[m].found == MAP_FOUND_SAME && !own)
			continue;
		copy[m] = look[m].fd >= 0 && m != DP_MAP_VERDICT && !(policy_lost && maps_is_policy(m)) &&
			  !(meta_lost && maps_has_sets(m));
		dp->old_maps[m] = look[m].fd;
		look[m].fd = -1;
		dp->maps_changed |= look[m].found != MAP_FOUND_NONE || own;
	}
	dp->maps_anew = anew;
}

static int maps_reuse(struct dataplane *dp, struct bpf_object *object, struct map_look look[static DP_MAP_COUNT],
		      struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);

		if (look[m].fd >= 0) {
			int r = bpf_map__reuse_fd(map, look[m].fd);

			if (r < 0)
				return err_set(err, r, "map %s: %s", map_rows[m].name, strerror(-r));
		} else if (map_rows[m].entries) {
			bpf_map__set_max_entries(map, maps_entries(dp, m));
		}
	}
	return 0;
}

/* Pinned beside and renamed over: the name never points to nothing. */
static int maps_pin_one(int fd, const char *path, struct err *err)
{
	char fresh[DP_PATH_MAX + 8];

	snprintf(fresh, sizeof(fresh), "%s_new", path);
	unlink(fresh);
	if (bpf_obj_pin(fd, fresh) < 0 || rename(fresh, path) < 0)
		return err_set(err, -errno, "pin %s: %s", path, strerror(errno));
	return 0;
}

/* Without its pin a map goes with this process, and what it knows of connections with it. */
int maps_repair_pins(struct dataplane *dp, uint32_t *found, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		char path[DP_PATH_MAX];
		int r;

		maps_path(dp->pin_dir, m, path, sizeof(path));
		if (access(path, F_OK) == 0 || errno != ENOENT)
			continue;
		(*found)++;
		r = maps_pin_one(dp->maps[m], path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int maps_pin(struct dataplane *dp, struct bpf_object *object, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);
		char path[DP_PATH_MAX];
		int r = 0;

		maps_path(dp->pin_dir, m, path, sizeof(path));
		if (access(path, F_OK) != 0 || dp->old_maps[m] >= 0)
			r = maps_pin_one(bpf_map__fd(map), path, err);
		if (r < 0)
			return r;
		dp->maps[m] = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3);
		if (dp->maps[m] < 0)
			return err_set(err, -errno, "map %s: %s", map_rows[m].name, strerror(errno));
	}
	return 0;
}

/* Where some of what is copied goes. */
static enum dp_map maps_beside(enum dp_map m)
{
	return m == DP_MAP_CONN ? DP_MAP_DATAGRAM : DP_MAP_CLOSED;
}

static int maps_copy_one(enum dp_map m, int from, int to, int beside, struct err *err)
{
	if (m == DP_MAP_NAT)
		return maps_copy_nat(from, to, beside, err);
	return m == DP_MAP_CONN ? maps_copy_conn(from, to, beside, err) : maps_copy(from, to, err);
}

/* Before the pins: whoever finds a pin finds it filled. */
static int maps_fill(struct dataplane *dp, struct bpf_object *object, const struct map_look *look, const bool *copy,
		     struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		int to = bpf_map__fd(bpf_object__find_map_by_name(object, map_rows[m].name)), r = 0;
		int beside = bpf_map__fd(bpf_object__find_map_by_name(object, map_rows[maps_beside(m)].name));

		if (!copy[m])
			continue;
		if (look[m].found == MAP_FOUND_OLDER)
			r = maps_carry_older(m, dp->old_maps[m], to, err);
		else
			r = maps_copy_one(m, dp->old_maps[m], to, beside, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int maps_make(struct dataplane *dp, struct bpf_object *object, struct err *err)
{
	struct map_look look[DP_MAP_COUNT];
	bool copy[DP_MAP_COUNT] = { false };
	int r;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);

		if (!map)
			return err_set(err, -EINVAL, "map %s: not in its object", map_rows[m].name);
		maps_look(dp->pin_dir, m, map, map_rows[m].entries ? maps_entries(dp, m) : 0, &look[m]);
	}
	maps_plan(dp, look, copy);
	r = maps_reuse(dp, object, look, err);
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		mem_closep(&look[m].fd);
	if (r < 0)
		return r;
	r = bpf_object__load(object);
	if (r < 0)
		return err_set(err, r, "make the maps: %s", strerror(-r));
	r = maps_fill(dp, object, look, copy, err);
	return r < 0 ? r : maps_pin(dp, object, err);
}

/* What the old programs wrote since. */
void maps_refresh(struct dataplane *dp)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		if (dp->old_maps[m] >= 0 && map_rows[m].keep == MAP_PRESERVE && m != DP_MAP_META && m != DP_MAP_DROP &&
		    m != DP_MAP_SNAT)
			(void)maps_copy_one(m, dp->old_maps[m], dp->maps[m], dp->maps[maps_beside(m)], NULL);
}

void maps_settle(struct dataplane *dp)
{
	maps_refresh(dp);
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		mem_closep(&dp->old_maps[m]);
		dp->old_maps[m] = -1;
	}
	maps_drop_strangers(dp->pin_dir);
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
	r = maps_make(dp, object, err);
	bpf_object__close(object);
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
