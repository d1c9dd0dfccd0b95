/* SPDX-License-Identifier: Apache-2.0 */
/* A way back: what a build from before two address families needs to take this one's place. Its maps of pods, links
 * and counters had another layout, which it looks for under its own pins (<name>_v1) and nowhere else; so an orderly
 * end leaves them beside this build's, made from them. The next start of this build removes them as strangers: they
 * cost nothing while a server runs, and none is ever older than the last end.
 *
 * Fail closed: pods have no identity there (such a build numbers them anew) and are isolated in both directions with
 * no rules, until the older server has written the policies of today; the generation is raised, so that no verdict
 * outlives the change. It fills the rest from the objects. What it does not know of stays attached as it was then: bind
 * programs refuse the node ports of that time, bandwidth limits stay, and so do programs on links without Ethernet
 * headers, whose Services get no news. XDP rests from the orderly end on (xdp.c).
 *
 * Stays until no build is supported any more whose maps are k3c_endpoint_v1 and k3c_meta_v1. Loop thread. */
#include "userspace/dataplane/legacy.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/maps.h"

static int legacy_map(enum dp_map m, enum bpf_map_type type, uint32_t key, uint32_t value, uint32_t entries)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = type == BPF_MAP_TYPE_HASH ? BPF_F_NO_PREALLOC : 0);

	return bpf_map_create(type, map_rows[m].name, key, value, entries, &opts);
}

/* Filled before: whoever finds a pin finds everything. */
static int legacy_pin(struct dataplane *dp, enum dp_map m, int fd)
{
	char path[DP_PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/maps/%s_v%d", dp->pin_dir, map_rows[m].name, LEGACY_VERSION);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	unlink(path);
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

static int legacy_endpoints(struct dataplane *dp)
{
	_cleanup_close_ int fd = legacy_map(DP_MAP_ENDPOINT, BPF_MAP_TYPE_HASH, sizeof(struct k3c_addr),
					    sizeof(struct legacy_endpoint), map_rows[DP_MAP_ENDPOINT].entries);

	if (fd < 0)
		return -errno;
	map_foreach(m, &dp->pods) {
		const struct pod_state *s = m->value;
		struct legacy_endpoint row = { .ifindex = (uint32_t)s->ifindex, .flags = LEGACY_ISOLATED };
		struct k3c_endpoint now;

		/* The only family that they know, and the only one that a pod may have there. */
		if (dp_addr_is_zero(&s->addrs[DP_V4]) ||
		    bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &s->addrs[DP_V4], &now) < 0)
			continue;
		memcpy(row.mac, now.mac, sizeof(row.mac));
		if (bpf_map_update_elem(fd, &s->addrs[DP_V4], &row, BPF_ANY) < 0)
			return -errno;
	}
	return legacy_pin(dp, DP_MAP_ENDPOINT, fd);
}

static int legacy_namespaces(struct dataplane *dp)
{
	_cleanup_close_ int fd = legacy_map(DP_MAP_NETNS, BPF_MAP_TYPE_HASH, sizeof(uint64_t), sizeof(uint32_t),
					    map_rows[DP_MAP_NETNS].entries);
	uint64_t cookie;

	if (fd < 0)
		return -errno;
	keys_foreach(dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns now;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &now) == 0 &&
		    bpf_map_update_elem(fd, &cookie, &now.ifindex, BPF_ANY) < 0)
			return -errno;
	}
	return legacy_pin(dp, DP_MAP_NETNS, fd);
}

/* Whose the clsact is, above all: the last one to go removes it. */
static int legacy_links(struct dataplane *dp)
{
	_cleanup_close_ int fd = legacy_map(DP_MAP_LINK, BPF_MAP_TYPE_HASH, sizeof(uint32_t),
					    sizeof(struct legacy_link), map_rows[DP_MAP_LINK].entries);
	uint32_t ifindex;

	if (fd < 0)
		return -errno;
	keys_foreach(dp->maps[DP_MAP_LINK], ifindex) {
		struct legacy_link row = { 0 };
		struct k3c_link now;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &ifindex, &now) < 0)
			continue;
		row.addr = now.addr[DP_V4];
		row.flags = now.flags;
		if (bpf_map_update_elem(fd, &ifindex, &row, BPF_ANY) < 0)
			return -errno;
	}
	return legacy_pin(dp, DP_MAP_LINK, fd);
}

/* Reasons were only ever added at the end. */
static int legacy_drops(struct dataplane *dp)
{
	_cleanup_close_ int fd = legacy_map(DP_MAP_DROP, BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(uint32_t),
					    sizeof(struct k3c_drop), LEGACY_DROP_REASONS);
	int r = fd < 0 ? -errno : maps_copy(dp->maps[DP_MAP_DROP], fd, NULL);

	return r < 0 ? r : legacy_pin(dp, DP_MAP_DROP, fd);
}

static int legacy_meta(struct dataplane *dp)
{
	_cleanup_close_ int fd =
		legacy_map(DP_MAP_META, BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(struct legacy_meta), 1);
	struct legacy_meta row = { .generation = dp->meta.generation + 1,
				   .flags = dp->meta.flags & K3C_META_HOST_BACKENDS,
				   .saved_ip_forward = dp->meta.saved_ip_forward,
				   .next_set = dp->meta.next_set };
	uint32_t zero = 0;

	if (dp->meta.raised_ip6_forward)
		row.flags |= LEGACY_META_RAISED_IP6;
	if (fd < 0 || bpf_map_update_elem(fd, &zero, &row, BPF_ANY) < 0)
		return -errno;
	return legacy_pin(dp, DP_MAP_META, fd);
}

void legacy_leave(struct dataplane *dp)
{
	static int (*const steps[])(struct dataplane * dp) = { legacy_meta, legacy_endpoints, legacy_namespaces,
							       legacy_links, legacy_drops };
	_cleanup_free_ char *dir = mem_printf("%s/maps", dp->pin_dir);

	if (access(dir, F_OK) != 0) /* purged */
		return;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i](dp);

		if (r < 0)
			log_warn("what an older build would need was not left step=%zu error=\"%s\"", i, strerror(-r));
	}
	xdp_rest(dp);
}
