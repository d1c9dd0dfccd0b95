/* SPDX-License-Identifier: Apache-2.0 */
/* Which namespaces are pods' (k3c_netns): programs at sockets know only these. A row by the namespace's cookie, which
 * is found inside; it names the link and the addresses. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/include/service.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pressure.h"

/* The namespace belongs to a pod: node ports are translated there too. */
int pod_netns_note(struct dataplane *dp, const struct k3c_addr addrs[static DP_FAMILIES], int socket_inside,
		   int ifindex, struct err *err)
{
	struct k3c_netns value = { .ifindex = (uint32_t)ifindex }, before;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(socket_inside, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return err_set(err, -errno, "namespace cookie: %s", strerror(errno));
	memcpy(value.addrs, addrs, sizeof(value.addrs));
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &before) == 0 &&
	    memcmp(&before, &value, sizeof(value)) == 0)
		return 0;
	if (bpf_map_update_elem(dp->maps[DP_MAP_NETNS], &cookie, &value, BPF_F_LOCK) < 0)
		return pressure_write_failed(dp, DP_MAP_NETNS, err);
	return 0;
}

int pod_netns_enter(struct dataplane *dp, const struct pod_state *s, struct err *err)
{
	_cleanup_close_ int netns = open(s->netns_path, O_RDONLY | O_CLOEXEC), fd = -1;
	int r;

	if (netns < 0)
		return err_set(err, -errno, "%s: %s", s->netns_path, strerror(errno));
	r = netns_socket(netns, NETLINK_ROUTE, &fd);
	return r < 0 ? err_set(err, r, "%s: %s", s->netns_path, strerror(-r))
		     : pod_netns_note(dp, s->addrs, fd, s->ifindex, err);
}

/* Those of this link, or (0) of every link that is no pod's. */
uint32_t pod_netns_forget(struct dataplane *dp, int ifindex)
{
	uint64_t cookie, *gone = NULL;
	size_t n = 0, cap = 0;

	keys_foreach(dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns value = { 0 };
		bool keep = false;

		bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &value);
		if (ifindex)
			keep = value.ifindex != (uint32_t)ifindex;
		else
			map_foreach(e, &dp->pods)
				keep = keep || ((struct pod_state *)e->value)->ifindex == (int)value.ifindex;
		if (keep)
			continue;
		mem_grow(gone, cap, n + 1);
		gone[n++] = cookie;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_NETNS], &gone[i]);
	free(gone);
	return (uint32_t)n;
}

static bool netns_is_noted(struct dataplane *dp, const struct pod_state *s)
{
	uint64_t cookie;

	keys_foreach(dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns value;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &value) == 0 &&
		    value.ifindex == (uint32_t)s->ifindex && memcmp(value.addrs, s->addrs, sizeof(value.addrs)) == 0)
			return true;
	}
	return false;
}

uint32_t pod_netns_repair(struct dataplane *dp)
{
	uint32_t found = pod_netns_forget(dp, 0);

	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;

		/* one that just goes has no namespace any more */
		if (s->netns_path && !netns_is_noted(dp, s) && pod_netns_enter(dp, s, NULL) == 0)
			found++;
	}
	return found;
}
