/* SPDX-License-Identifier: Apache-2.0 */
/* When a backend is gone, whoever is connected to it must learn so: their sockets are destroyed (inet_diag), on the
 * host and in every pod, and translations on the host's links that lead there are dropped. Loop thread; one helper
 * thread a namespace for the moment its socket is opened. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "bpf/include/nat.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

#define SOCKETS_TCP_STATES                                                                                             \
	((1u << TCP_ESTABLISHED) | (1u << TCP_SYN_SENT) | (1u << TCP_FIN_WAIT1) | (1u << TCP_CLOSE_WAIT))
#define SOCKETS_UDP_STATES (1u << TCP_ESTABLISHED)

struct socket_ref {
	uint8_t family;
	struct inet_diag_sockid id;
};

struct socket_search {
	struct k3c_addr addr;
	uint16_t port; /* network order */
	struct socket_ref *found;
	size_t n, cap;
};

static int socket_seen(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct socket_search *s = arg;
	struct k3c_addr dst;

	if (m->idiag_family == AF_INET)
		dst = dp_addr_v4(m->id.idiag_dst[0]);
	else
		memcpy(dst.b, m->id.idiag_dst, 16);
	if (m->id.idiag_dport != s->port || memcmp(&dst, &s->addr, sizeof(dst)) != 0)
		return 0;
	mem_grow(s->found, s->cap, s->n + 1);
	s->found[s->n++] = (struct socket_ref){ .family = m->idiag_family, .id = m->id };
	return 0;
}

static int sockets_destroy_in(struct nl *nl, const struct k3c_addr *addr, uint16_t port, uint8_t proto, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct socket_search s = { .addr = *addr, .port = port };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++) {
		struct nlmsghdr *h = nl_request(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
		struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		q->sdiag_family = families[i];
		q->sdiag_protocol = proto;
		q->idiag_states = proto == IPPROTO_TCP ? SOCKETS_TCP_STATES : SOCKETS_UDP_STATES;
		r = nl_query(nl, socket_seen, &s, err);
	}
	for (size_t i = 0; r == 0 && i < s.n; i++) {
		struct nlmsghdr *h = nl_begin(nl, SOCK_DESTROY, 0, "destroy a socket", ENOENT);
		struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		q->sdiag_family = s.found[i].family;
		q->sdiag_protocol = proto;
		q->id = s.found[i].id;
		r = nl_commit(nl, err);
	}
	free(s.found);
	return r;
}

static int sockets_destroy_path(const char *netns_path, const struct k3c_addr *addr, uint16_t port, uint8_t proto,
				struct err *err)
{
	_cleanup_close_ int netns_fd = open(netns_path, O_RDONLY | O_CLOEXEC);
	struct nl *nl;
	int fd, r;

	if (netns_fd < 0)
		return 0; /* the pod is gone, and its sockets */
	r = netns_socket(netns_fd, NETLINK_SOCK_DIAG, &fd);
	if (r < 0)
		return err_set(err, r, "%s: %s", netns_path, strerror(-r));
	nl = nl_from_fd(fd);
	r = sockets_destroy_in(nl, addr, port, proto, err);
	nl_close(nl);
	return r;
}

static void sockets_forget_translations(struct dataplane *dp, const struct k3c_addr *addr, uint16_t port, uint8_t proto)
{
	int fd = dp->maps[DP_MAP_NAT];
	struct k3c_nat_key key, next, *dead = NULL;
	size_t n = 0, cap = 0;
	bool first = true;

	while (bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0) {
		struct k3c_nat value;

		key = next;
		first = false;
		if (key.kind != K3C_NAT_IN || key.proto != proto || bpf_map_lookup_elem(fd, &key, &value) < 0 ||
		    !(value.flags & K3C_NAT_SERVICE) || value.port != port ||
		    memcmp(&value.addr, addr, sizeof(*addr)) != 0)
			continue;
		mem_grow(dead, cap, n + 1);
		dead[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &dead[i]);
	free(dead);
}

static int sockets_backend_gone(struct dataplane *dp, const struct dp_backend *backend, uint8_t proto, struct err *err)
{
	struct k3c_addr addr = dp_addr_in(&backend->addr);
	uint16_t port = htons(backend->port);
	struct nl *nl;
	int r = nl_open(NETLINK_SOCK_DIAG, &nl, err);

	if (r < 0)
		return r;
	sockets_forget_translations(dp, &addr, port, proto);
	r = sockets_destroy_in(nl, &addr, port, proto, err);
	nl_close(nl);
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;
		int one =
			s->netns_path ? sockets_destroy_path(s->netns_path, &addr, port, proto, r < 0 ? NULL : err) : 0;

		if (r == 0)
			r = one;
	}
	return r;
}

int dataplane_backends_gone(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = sockets_backend_gone(dp, &backends[i], proto, err);
	return r;
}
