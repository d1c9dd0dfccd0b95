/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of what each pod lost. A row is made when the pod is attached, so that a drop only adds; a pod without a row
 * (the map is full) is served all the same. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>

#include "bpf/include/event.h"
#include "userspace/dataplane/internal.h"

bool pod_drops_begin(struct dataplane *dp, int ifindex)
{
	static const struct k3c_pod_drop none;
	uint32_t key = (uint32_t)ifindex;

	return bpf_map_update_elem(dp->maps[DP_MAP_POD_DROP], &key, &none, BPF_NOEXIST) == 0;
}

void pod_drops_forget(struct dataplane *dp, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;

	(void)bpf_map_delete_elem(dp->maps[DP_MAP_POD_DROP], &key);
}

uint32_t pod_drops_prune(struct dataplane *dp)
{
	return pods_prune_rows(dp, DP_MAP_POD_DROP);
}

uint32_t pod_drops_repair(struct dataplane *dp)
{
	uint32_t n = pod_drops_prune(dp);

	map_foreach(e, &dp->pods)
		n += pod_drops_begin(dp, ((struct pod_state *)e->value)->ifindex);
	return n;
}
