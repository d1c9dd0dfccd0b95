/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports of the host have somebody who waits for clients there. Asked of the kernel each time: nothing is kept.
 * Any thread. */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "userspace/dataplane/internal.h"

struct listening {
	uint8_t proto;
	dataplane_socket_fn *fn;
	void *arg;
};

static bool listening_is_v6_only(const struct nlmsghdr *h)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, h, sizeof(struct inet_diag_msg)) {
		if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY && mnl_attr_get_payload_len(attr) >= 1)
			return mnl_attr_get_u8(attr);
	}
	return false;
}

static int listening_seen(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	const struct listening *l = arg;
	struct k3c_addr addr;
	struct dp_socket s = { .proto = l->proto, .port = ntohs(m->id.idiag_sport) };

	if (!s.port || m->id.idiag_dport)
		return 0;
	if (m->idiag_family == AF_INET)
		addr = dp_addr_v4(m->id.idiag_src[0]);
	else
		memcpy(addr.b, m->id.idiag_src, sizeof(addr.b));
	s.addr = dp_addr_out(&addr);
	l->fn(l->arg, &s);
	if (m->idiag_family != AF_INET6 || !dp_addr_is_zero(&addr) || listening_is_v6_only(h))
		return 0;
	addr = dp_addr_v4(0);
	s.addr = dp_addr_out(&addr);
	l->fn(l->arg, &s);
	return 0;
}

int dataplane_listening_each(dataplane_socket_fn *fn, void *arg, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	static const struct {
		uint8_t proto;
		uint32_t states;
		bool optional; /* not every kernel has it, or shows its sockets */
	} kinds[] = {
		{ IPPROTO_TCP, 1u << TCP_LISTEN, false },
		{ IPPROTO_UDP, 1u << TCP_CLOSE, false },
		{ IPPROTO_SCTP, 1u << TCP_LISTEN, true },
	};
	struct nl *nl;
	int r = nl_open(NETLINK_SOCK_DIAG, &nl, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		for (size_t f = 0; r == 0 && f < ARRAY_SIZE(families); f++) {
			struct listening l = { kinds[i].proto, fn, arg };

			sockets_request(nl, families[f], kinds[i].proto, kinds[i].states);
			r = nl_query(nl, listening_seen, &l, kinds[i].optional ? NULL : err);
			if (kinds[i].optional)
				r = 0;
		}
	nl_close(nl);
	return r;
}
