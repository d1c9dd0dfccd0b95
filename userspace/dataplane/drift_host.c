/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's links and addresses are in the maps, XDP on the links, and addresses on `lo`. See drift.h. */
#include <bpf/bpf.h>
#include <errno.h>

#include "bpf/include/endpoint.h"
#include "userspace/dataplane/drift.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/links.h"

#define DRIFT_ADDRESSES_MAX 512 /* of the node, that are compared */
#define DRIFT_LINKS_MAX 256

struct drift_link {
	uint32_t ifindex;
	struct k3c_link row;
};

struct host_maps {
	struct k3c_addr addrs[DRIFT_ADDRESSES_MAX];
	struct drift_link links[DRIFT_LINKS_MAX];
	size_t n_addrs, n_links;
	uint32_t n_xdp;
};

static size_t drift_addresses_read(struct dataplane *dp, struct k3c_addr ret[static DRIFT_ADDRESSES_MAX])
{
	struct k3c_addr key;
	size_t n = 0;

	keys_foreach(dp->maps[DP_MAP_NODE], key) {
		if (!(n < DRIFT_ADDRESSES_MAX))
			break;
		ret[n++] = key;
	}
	return n;
}

static uint32_t drift_addresses_not_in(const struct k3c_addr *a, size_t n_a, const struct k3c_addr *b, size_t n_b)
{
	uint32_t missing = 0;

	for (size_t i = 0; i < n_a; i++) {
		bool found = false;

		for (size_t k = 0; k < n_b && !found; k++)
			found = memcmp(&a[i], &b[k], sizeof(a[i])) == 0;
		missing += !found;
	}
	return missing;
}

static size_t drift_rows_read(struct dataplane *dp, struct drift_link ret[static DRIFT_LINKS_MAX])
{
	uint32_t key;
	size_t n = 0;

	keys_foreach(dp->maps[DP_MAP_LINK], key) {
		if (!(n < DRIFT_LINKS_MAX))
			break;
		ret[n].ifindex = key;
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &key, &ret[n].row) == 0)
			n++;
	}
	return n;
}

/* How many of `a` are not in `b`, or not as they are there. */
static uint32_t drift_rows_missing(const struct drift_link *a, size_t n_a, const struct drift_link *b, size_t n_b,
				   bool also_changed)
{
	uint32_t missing = 0;

	for (size_t i = 0; i < n_a; i++) {
		bool found = false;

		for (size_t k = 0; k < n_b && !found; k++)
			found = a[i].ifindex == b[k].ifindex &&
				(!also_changed || (memcmp(a[i].row.addr, b[k].row.addr, sizeof(a[i].row.addr)) == 0 &&
						   a[i].row.flags == b[k].row.flags));
		missing += !found;
	}
	return missing;
}

static void drift_host_read(struct dataplane *dp, struct host_maps *ret)
{
	ret->n_addrs = drift_addresses_read(dp, ret->addrs);
	ret->n_links = drift_rows_read(dp, ret->links);
	ret->n_xdp = xdp_attached(dp);
}

/* One full look at the links writes everything anew. What rtnetlink has told of already is no drift. */
int drift_host(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	_cleanup_free_ struct host_maps *before = mem_new(struct host_maps), *after = mem_new(struct host_maps);
	int r = dataplane_links_process(dp, err);

	if (r < 0)
		return r;
	drift_host_read(dp, before);
	r = links_sync(dp, err);
	if (r < 0)
		return r;
	drift_host_read(dp, after);
	add->n[DP_DRIFT_ADDRESS] +=
		drift_addresses_not_in(before->addrs, before->n_addrs, after->addrs, after->n_addrs) +
		drift_addresses_not_in(after->addrs, after->n_addrs, before->addrs, before->n_addrs);
	add->n[DP_DRIFT_LINK] +=
		drift_rows_missing(after->links, after->n_links, before->links, before->n_links, true) +
		drift_rows_missing(before->links, before->n_links, after->links, after->n_links, false);
	if (after->n_xdp > before->n_xdp)
		add->n[DP_DRIFT_PROGRAM] += after->n_xdp - before->n_xdp;
	return local_addresses_repair(dp, &add->n[DP_DRIFT_ADDRESS], err);
}
