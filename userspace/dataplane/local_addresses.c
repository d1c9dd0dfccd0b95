/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that this node puts on `lo`: its own where no link has one, and the cluster DNS's. Those asked for are
 * remembered, so that one that somebody takes away comes back. Loop thread. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/links.h"

#define LOCAL_ADDRESSES_MAX 64 /* on `lo`, of this node */

static void local_addresses_remember(struct dataplane *dp, const struct k3c_addr *addr, bool wanted)
{
	size_t i = 0;

	while (i < dp->n_local && memcmp(&dp->local[i], addr, sizeof(*addr)) != 0)
		i++;
	if (i < dp->n_local && !wanted)
		dp->local[i] = dp->local[--dp->n_local];
	else if (i == dp->n_local && wanted && i < ARRAY_SIZE(dp->local))
		dp->local[dp->n_local++] = *addr;
}

/* Host scope: the kernel must never choose such an address as the source of anything by itself. */
static int local_addresses_write(struct dataplane *dp, uint16_t type, const struct k3c_addr *addr, int ignored,
				 struct err *err)
{
	struct nl_address a = { .addr = *addr, .ifindex = 1 };
	bool is_node = links_is_node(dp, &a.addr), v4 = dp_addr_is_v4(&a.addr);
	char label[DP_ADDRESS_LABEL_SIZE];
	int r;

	links_address_label(dp->pin_dir, label);
	a.bits = v4 ? 32 : 128;
	a.scope = is_node ? RT_SCOPE_UNIVERSE : RT_SCOPE_HOST;
	a.label = label;
	a.protocol = DP_ROUTE_PROTOCOL;
	a.metric = links_address_metric(dp->pin_dir);
	a.never_source = !is_node;
	nl_put_address(dp->nl, type, &a, ignored);
	r = nl_commit(dp->nl, err);
	if (r == 0 && type == RTM_NEWADDR)
		nl_await_address(dp->nl, &a.addr);
	return r == 0 && is_node ? links_sync(dp, err) : r;
}

int dataplane_local_address_add(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	struct k3c_addr a = dp_addr_in(addr);
	int r = local_addresses_write(dp, RTM_NEWADDR, &a, EEXIST, err);

	if (r < 0)
		return r;
	local_addresses_remember(dp, &a, true);
	return 0;
}

int dataplane_local_address_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	struct k3c_addr a = dp_addr_in(addr);
	int r = local_addresses_write(dp, RTM_DELADDR, &a, EADDRNOTAVAIL, err);

	if (r < 0)
		return r;
	local_addresses_remember(dp, &a, false);
	return 0;
}

struct own_addresses {
	struct dataplane *dp;
	struct nl_address items[LOCAL_ADDRESSES_MAX];
	size_t n;
};

static int own_address(const struct nlmsghdr *h, void *arg)
{
	struct own_addresses *own = arg;

	if (own->n < LOCAL_ADDRESSES_MAX && links_own_address(h, own->dp->pin_dir, &own->items[own->n]))
		own->n++;
	return 0;
}

int dataplane_local_addresses_keep(struct dataplane *dp, const struct dp_addr *addrs, size_t n, struct err *err)
{
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETADDR, NLM_F_DUMP);
	struct own_addresses own = { .dp = dp };
	int r;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	r = nl_query(dp->nl, own_address, &own, err);
	for (size_t i = 0; r == 0 && i < own.n; i++) {
		bool keep = false;

		for (size_t k = 0; k < n && !keep; k++)
			keep = memcmp(&own.items[i].addr, addrs[k].b, sizeof(own.items[i].addr)) == 0;
		if (keep)
			continue;
		local_addresses_remember(dp, &own.items[i].addr, false);
		nl_put_address(dp->nl, RTM_DELADDR, &own.items[i], EADDRNOTAVAIL);
		r = nl_commit(dp->nl, err);
	}
	return r;
}

bool local_addresses_has(const struct dataplane *dp, const struct k3c_addr *addr)
{
	for (size_t i = 0; i < dp->n_local; i++)
		if (memcmp(&dp->local[i], addr, sizeof(*addr)) == 0)
			return true;
	return false;
}

struct addresses_seen {
	const struct dataplane *dp;
	bool there[DP_LOCAL_MAX];
};

/* Wherever it is, and whosever. */
static int address_seen(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct addresses_seen *seen = arg;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, h, sizeof(*m)) {
		struct k3c_addr a;

		if (mnl_attr_get_type(attr) != IFA_LOCAL &&
		    (m->ifa_family == AF_INET || mnl_attr_get_type(attr) != IFA_ADDRESS))
			continue;
		a = nl_addr_of(m->ifa_family, attr);
		for (size_t i = 0; i < seen->dp->n_local; i++)
			seen->there[i] |= memcmp(&seen->dp->local[i], &a, sizeof(a)) == 0;
	}
	return 0;
}

int local_addresses_repair(struct dataplane *dp, uint32_t *found, struct err *err)
{
	struct addresses_seen seen = { .dp = dp };
	struct nlmsghdr *h;
	int r;

	if (!dp->n_local)
		return 0;
	h = nl_request(dp->nl, RTM_GETADDR, NLM_F_DUMP);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	r = nl_query(dp->nl, address_seen, &seen, err);
	for (size_t i = 0; i < dp->n_local && r == 0; i++) {
		if (seen.there[i])
			continue;
		r = local_addresses_write(dp, RTM_NEWADDR, &dp->local[i], EEXIST, err);
		*found += r == 0;
	}
	return r;
}
