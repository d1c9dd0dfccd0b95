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
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/maps.h"
#include "userspace/dataplane/maps_found.h"
#include "userspace/dataplane/pinset.h"

#define MAPS_GENERATION_NS (1ull << 24)
#define MAPS_EVENT_BYTES (128 * 1024) /* some 1,200 events; pages to a power of two */

/* Of the connections that are remembered, for what is none: it must not push them out. Most of that for what has to do
 * with a pod that a policy isolates, where an entry is what lets an answer in; what no policy looks at has the rest. */
#define MAPS_DATAGRAM_SHARE 4
#define MAPS_UNPOLICED_SHARE 16

/* Of all translations, for those that only begin: as many flows as may be waiting for an answer or for one packet after
 * it. */
#define MAPS_UNASSURED_SHARE 4

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
	[DP_MAP_DATAGRAM] = { "k3c_datagram", 1, MAP_PRESERVE, 8192 / MAPS_UNPOLICED_SHARE },
	[DP_MAP_POLICED] = { "k3c_policed", 1, MAP_PRESERVE, 8192 / MAPS_DATAGRAM_SHARE - 8192 / MAPS_UNPOLICED_SHARE },
	[DP_MAP_VERDICT] = { "k3c_verdict", 1, MAP_REBUILD, K3C_VERDICT_ROWS },
	[DP_MAP_FRAG] = { "k3c_frag", 2, MAP_PRESERVE, 1024 },
	[DP_MAP_NAT] = { "k3c_nat", 1, MAP_PRESERVE, 8192 - 8192 / MAPS_UNASSURED_SHARE },
	[DP_MAP_UNASSURED] = { "k3c_unassured", 1, MAP_PRESERVE, 8192 / MAPS_UNASSURED_SHARE },
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
	[DP_MAP_OWN] = { "k3c_own", 1, MAP_REBUILD, 1 },
	[DP_MAP_META] = { "k3c_meta", 2, MAP_PRESERVE, 1 },
};

/* Boxes with memory to spare follow more connections. */
#define MAPS_BIG_MEMORY_BYTES (8ULL << 30)
#define MAPS_BIG_CONNECTIONS 16384

const char *maps_name(enum dp_map m)
{
	return map_rows[m].name;
}

void maps_pin_name(enum dp_map m, char ret[static MAPS_PIN_NAME])
{
	snprintf(ret, MAPS_PIN_NAME, "%s_v%u", map_rows[m].name, map_rows[m].version);
}

bool maps_pin_path(const char *folder, enum dp_map m, char ret[static DP_PATH_MAX])
{
	char name[MAPS_PIN_NAME];

	maps_pin_name(m, name);
	return (size_t)snprintf(ret, DP_PATH_MAX, "%s/%s", folder, name) < DP_PATH_MAX;
}

int maps_path(const char *pin_dir, enum dp_map m, char *ret, size_t size)
{
	char name[MAPS_PIN_NAME];

	maps_pin_name(m, name);
	return (size_t)snprintf(ret, size, "%s/" PINSET_MAPS "/%s", pin_dir, name) >= size ? -ENAMETOOLONG : 0;
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
		return o->max_connections ? o->max_connections / MAPS_UNPOLICED_SHARE : map_rows[m].entries;
	case DP_MAP_POLICED:
		return o->max_connections ? o->max_connections / MAPS_DATAGRAM_SHARE - maps_entries(dp, DP_MAP_DATAGRAM)
					  : map_rows[m].entries;
	case DP_MAP_NAT:
		return o->max_connections ? o->max_connections - o->max_connections / MAPS_UNASSURED_SHARE
					  : map_rows[m].entries;
	case DP_MAP_UNASSURED:
		return o->max_connections ? o->max_connections / MAPS_UNASSURED_SHARE : map_rows[m].entries;
	case DP_MAP_CLOSED:
		return o->max_connections ? o->max_connections / K3C_CLOSED_SHARE : map_rows[m].entries;
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

/* Also when somebody took its pin away: it is never missing alone. */
static bool maps_meta_is_lost(const struct maps_found *f)
{
	const struct map_look *first = f->sets[0].look;
	bool any = false;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		any |= first[m].found != MAP_FOUND_NONE;
	return f->foreign || maps_missing(&first[DP_MAP_META]) || (any && first[DP_MAP_META].found == MAP_FOUND_NONE);
}

struct maps_plan {
	const struct maps_found *found;
	const struct map_look *from[DP_MAP_COUNT]; /* what was there before; NULL: nothing */
	bool copy[DP_MAP_COUNT];                   /* into a new map */
	bool same[DP_MAP_COUNT];                   /* it goes on as it is */
};

/* Numbers join some maps to others: those come from one set. What means something alone comes from the first that has
 * it. */
static const struct map_look *maps_choose(const struct maps_found *f, enum dp_map m)
{
	for (size_t i = 0; i < (maps_has_sets(m) ? 1 : f->n); i++)
		if (f->sets[i].look[m].fd >= 0)
			return &f->sets[i].look[m];
	return NULL;
}

/* Does what was found there go on as it is, or into a new map? When objects' maps must be made anew, the old programs
 * keep all of theirs to themselves, the meta row among them: nobody changes what they read until they are replaced. */
static void maps_plan(struct dataplane *dp, const struct maps_found *f, struct maps_plan *ret)
{
	const struct map_look *first = f->sets[0].look;
	bool meta_lost = maps_meta_is_lost(f), policy_lost = false, anew = meta_lost;

	*ret = (struct maps_plan){ .found = f };
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		bool lost = maps_missing(&first[m]);

		ret->from[m] = maps_choose(f, m);
		anew |= lost && map_rows[m].keep == MAP_REBUILD;
		policy_lost |= lost && maps_is_policy(m);
		if (lost && map_rows[m].keep == MAP_PRESERVE && !ret->from[m])
			log_warn("state of another build is not understood and starts anew map=%s", map_rows[m].name);
	}
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		bool own = anew && (map_rows[m].keep == MAP_REBUILD || m == DP_MAP_META);

		ret->same[m] = ret->from[m] && ret->from[m]->found == MAP_FOUND_SAME && !own;
		if (ret->same[m])
			continue;
		ret->copy[m] = ret->from[m] && m != DP_MAP_VERDICT && !(policy_lost && maps_is_policy(m)) &&
			       !(meta_lost && maps_has_sets(m));
		dp->maps_changed |= first[m].found != MAP_FOUND_NONE || own;
	}
	/* What was said counts by the generation that stands there. */
	ret->same[DP_MAP_VERDICT] &= ret->same[DP_MAP_META];
	dp->maps_anew = anew;
	/* A start that was cut short while it replaced programs: some use another set still. */
	dp->maps_changed |= f->n > 1;
	dp->attached = f->attached;
}

static int maps_reuse(struct dataplane *dp, struct bpf_object *object, const struct maps_plan *plan, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);

		if (plan->same[m]) {
			int r = bpf_map__reuse_fd(map, plan->from[m]->fd);

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

static int maps_repair_pin(int fd, const char *path, uint32_t *found, struct err *err)
{
	if (access(path, F_OK) == 0 || errno != ENOENT)
		return 0;
	(*found)++;
	return maps_pin_one(fd, path, err);
}

/* Without its pin a map goes with this process, and what it knows of connections with it. */
int maps_repair_pins(struct dataplane *dp, uint32_t *found, struct err *err)
{
	char own[DP_PATH_MAX];

	if (dp->unsettled) /* what is pinned is the build before's */
		return 0;
	pinset_own(dp->pin_dir, PINSET_MAPS, own);
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		char outer[DP_PATH_MAX], inner[DP_PATH_MAX];
		int r;

		if (maps_path(dp->pin_dir, m, outer, sizeof(outer)) < 0 || !maps_pin_path(own, m, inner))
			return err_set(err, -ENAMETOOLONG, "%s: too long", dp->pin_dir);
		r = maps_repair_pin(dp->maps[m], outer, found, err);
		if (r == 0)
			r = maps_repair_pin(dp->maps[m], inner, found, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool maps_are_in_place(const struct dataplane *dp)
{
	bool same = pinset_count(dp->pin_dir, PINSET_MAPS) == DP_MAP_COUNT;

	for (enum dp_map m = 0; m < DP_MAP_COUNT && same; m++) {
		char name[MAPS_PIN_NAME];

		maps_pin_name(m, name);
		same = pinset_holds(dp->pin_dir, PINSET_MAPS, name, dp->maps[m]);
	}
	return same;
}

int maps_put_in_place(struct dataplane *dp, struct err *err)
{
	int r;

	if (maps_are_in_place(dp))
		return 0;
	r = pinset_begin(dp->pin_dir, PINSET_MAPS, err);
	for (enum dp_map m = 0; m < DP_MAP_COUNT && r == 0; m++) {
		char name[MAPS_PIN_NAME];

		maps_pin_name(m, name);
		r = pinset_add(dp->pin_dir, PINSET_MAPS, name, dp->maps[m], err);
	}
	return r < 0 ? r : pinset_commit(dp->pin_dir, PINSET_MAPS, err);
}

static int maps_copy_one(const struct dataplane *dp, enum dp_map m, int from, struct err *err)
{
	int to = dp->maps[m];

	switch (m) {
	case DP_MAP_TC_USED:
		return maps_copy_bits(from, to, err);
	case DP_MAP_NAT:
	case DP_MAP_UNASSURED:
		return maps_copy_nat(from,
				     &(struct maps_nat){ .lasting = dp->maps[DP_MAP_NAT],
							 .unassured = dp->maps[DP_MAP_UNASSURED],
							 .closed = dp->maps[DP_MAP_CLOSED],
							 .used = dp->maps[DP_MAP_TC_USED] },
				     err);
	case DP_MAP_CONN:
		return maps_copy_conn(from, to, dp->maps[DP_MAP_POLICED], dp->maps[DP_MAP_TC_USED], err);
	case DP_MAP_DATAGRAM:
		return maps_copy_datagrams(from, to, dp->maps[DP_MAP_POLICED], err);
	default:
		return maps_copy(from, to, err);
	}
}

static int maps_fill(struct dataplane *dp, const struct maps_plan *plan, struct err *err)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		int r;

		if (!plan->copy[m])
			continue;
		if (plan->from[m]->found == MAP_FOUND_OLDER)
			r = maps_carry_older(m, plan->from[m]->fd, dp->maps[m], err);
		else
			r = maps_copy_one(dp, m, plan->from[m]->fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Verdicts are remembered with the generation that they were found under, in tables that outlive a meta row: the number
 * of a new one was nobody's before. The lowest bit says which half of each policy is in force. */
static int maps_raise_generation(struct dataplane *dp, const struct maps_plan *plan, struct err *err)
{
	int fd = dp->maps[DP_MAP_META];
	uint32_t zero = 0, highest, now;
	struct k3c_meta row, other;

	if (plan->same[DP_MAP_META] || !dp->maps_changed)
		return 0;
	if (bpf_map_lookup_elem(fd, &zero, &row) < 0)
		return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_META), strerror(errno));
	highest = row.generation;
	now = (uint32_t)((uint64_t)clock_monotonic_ns() / MAPS_GENERATION_NS); /* faster than policies ever change */
	if (plan->found->sets[0].look[DP_MAP_META].fd < 0 && (int32_t)(now - highest) > 0)
		highest = now;
	for (size_t i = 0; i < plan->found->n; i++) {
		const struct map_look *l = &plan->found->sets[i].look[DP_MAP_META];

		if (l->found == MAP_FOUND_SAME && bpf_map_lookup_elem(l->fd, &zero, &other) == 0 &&
		    (int32_t)(other.generation - highest) > 0)
			highest = other.generation;
	}
	if (highest == row.generation)
		return 0;
	row.generation = highest + 2 + ((highest ^ row.generation) & 1);
	return bpf_map_update_elem(fd, &zero, &row, BPF_ANY) < 0
		       ? err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_META), strerror(errno))
		       : 0;
}

/* Programs write to them until they are replaced. */
static void maps_keep_old(struct dataplane *dp, struct maps_found *f)
{
	for (size_t i = 0; i < f->n; i++)
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
			struct map_look *l = &f->sets[i].look[m];
			uint32_t id = pinset_id(l->fd);
			bool known = !id || id == pinset_id(dp->maps[m]);

			for (size_t k = 0; k < i && !known; k++)
				known = id == pinset_id(dp->old_maps[k][m]);
			if (known || map_rows[m].keep != MAP_PRESERVE || l->found == MAP_FOUND_OLDER)
				continue;
			dp->old_maps[i][m] = l->fd;
			l->fd = -1;
		}
}

static int maps_load(struct dataplane *dp, struct bpf_object *object, const struct maps_plan *plan, struct err *err)
{
	int r = maps_reuse(dp, object, plan, err);

	if (r < 0)
		return r;
	r = bpf_object__load(object);
	if (r < 0)
		return err_set(err, r, "make the maps: %s", strerror(-r));
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_rows[m].name);

		dp->maps[m] = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3);
		if (dp->maps[m] < 0)
			return err_set(err, -errno, "map %s: %s", map_rows[m].name, strerror(errno));
	}
	return 0;
}

static int maps_make(struct dataplane *dp, struct bpf_object *object, struct err *err)
{
	uint32_t entries[DP_MAP_COUNT];
	struct maps_found *found;
	struct maps_plan plan;
	int r;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		if (!bpf_object__find_map_by_name(object, map_rows[m].name))
			return err_set(err, -EINVAL, "map %s: not in its object", map_rows[m].name);
		entries[m] = map_rows[m].entries ? maps_entries(dp, m) : 0;
	}
	found = maps_found_create(dp->pin_dir, object, entries);
	maps_plan(dp, found, &plan);
	r = maps_load(dp, object, &plan, err);
	if (r == 0)
		r = maps_fill(dp, &plan, err);
	if (r == 0)
		r = maps_raise_generation(dp, &plan, err);
	if (r == 0)
		maps_keep_old(dp, found);
	maps_found_destroy(found);
	/* What is begun on a host where nothing is at work must be found by purge, however it ends. */
	return r == 0 && !dp->attached ? maps_put_in_place(dp, err) : r;
}

/* What the old programs wrote since. */
void maps_refresh(struct dataplane *dp)
{
	for (size_t i = 0; i < DP_SETS_MAX; i++)
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
			if (dp->old_maps[i][m] >= 0 && m != DP_MAP_META && m != DP_MAP_DROP && m != DP_MAP_SNAT)
				(void)maps_copy_one(dp, m, dp->old_maps[i][m], NULL);
}

void maps_forget_old(struct dataplane *dp)
{
	for (size_t i = 0; i < DP_SETS_MAX; i++)
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
			mem_closep(&dp->old_maps[i][m]);
			dp->old_maps[i][m] = -1;
		}
}

void maps_settle(struct dataplane *dp)
{
	maps_refresh(dp);
	maps_forget_old(dp);
	pinset_drop_old(dp->pin_dir, PINSET_MAPS);
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
