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

static int netns_cookie_of(int socket_inside, uint64_t *ret, struct err *err)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(socket_inside, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return err_set(err, -errno, "namespace cookie: %s", strerror(errno));
	*ret = cookie;
	return 0;
}

static int netns_put(struct dataplane *dp, uint64_t cookie, const struct k3c_addr addrs[static DP_FAMILIES],
		     int ifindex, struct err *err)
{
	struct k3c_netns value = { .ifindex = (uint32_t)ifindex }, before;

	memcpy(value.addrs, addrs, sizeof(value.addrs));
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &before) == 0 &&
	    memcmp(&before, &value, sizeof(value)) == 0)
		return 0;
	if (bpf_map_update_elem(dp->maps[DP_MAP_NETNS], &cookie, &value, BPF_F_LOCK) < 0)
		return pressure_write_failed(dp, DP_MAP_NETNS, err);
	return 0;
}

/* The namespace belongs to a pod: node ports are translated there too. */
int pod_netns_note(struct dataplane *dp, const struct k3c_addr addrs[static DP_FAMILIES], int socket_inside,
		   int ifindex, struct err *err)
{
	uint64_t cookie;
	int r = netns_cookie_of(socket_inside, &cookie, err);

	return r < 0 ? r : netns_put(dp, cookie, addrs, ifindex, err);
}

/* Asked of the kernel once. */
static int netns_learn(struct pod_state *s, struct err *err)
{
	_cleanup_close_ int netns = -1, fd = -1;
	int r;

	if (s->netns_cookie)
		return 0;
	netns = open(s->netns_path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return err_set(err, -errno, "%s: %s", s->netns_path, strerror(errno));
	r = netns_socket(netns, NETLINK_ROUTE, &fd);
	return r < 0 ? err_set(err, r, "%s: %s", s->netns_path, strerror(-r))
		     : netns_cookie_of(fd, &s->netns_cookie, err);
}

int pod_netns_enter(struct dataplane *dp, struct pod_state *s, struct err *err)
{
	int r = netns_learn(s, err);

	return r < 0 ? r : netns_put(dp, s->netns_cookie, s->addrs, s->ifindex, err);
}

/* A row that says of a namespace what is so. That of a pod which just goes cannot be asked any more. */
static bool netns_is_right(struct dataplane *dp, uint64_t cookie, const struct k3c_netns *row)
{
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;

		if (s->ifindex == (int)row->ifindex)
			return !s->netns_cookie || s->netns_cookie == cookie;
	}
	return false;
}

/* Those of this link, or (0) those that are no pod's. */
uint32_t pod_netns_forget(struct dataplane *dp, int ifindex)
{
	uint64_t cookie, *gone = NULL;
	size_t n = 0, cap = 0;

	keys_foreach(dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns row = { 0 };

		bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &row);
		if (ifindex ? row.ifindex != (uint32_t)ifindex : netns_is_right(dp, cookie, &row))
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
	struct k3c_netns row;

	return bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &s->netns_cookie, &row) == 0 &&
	       row.ifindex == (uint32_t)s->ifindex && memcmp(row.addrs, s->addrs, sizeof(row.addrs)) == 0;
}

uint32_t pod_netns_repair(struct dataplane *dp)
{
	uint32_t found = 0;

	map_foreach(e, &dp->pods) {
		struct pod_state *s = e->value;

		if (s->netns_path)
			(void)netns_learn(s, NULL);
	}
	/* One that is another's is that other's row to be, and not counted twice. */
	map_foreach(e, &dp->pods) {
		struct pod_state *s = e->value;

		if (s->netns_cookie && !netns_is_noted(dp, s) && pod_netns_enter(dp, s, NULL) == 0)
			found++;
	}
	return found + pod_netns_forget(dp, 0);
}
