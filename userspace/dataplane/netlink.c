/* SPDX-License-Identifier: Apache-2.0 */
/* Netlink batches over libmnl, and the handful of requests this room makes. One thread a socket. */
#include "userspace/dataplane/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "userspace/base/mem.h"
#include "userspace/dataplane/internal.h"

/* Beside other users of tc on the host's links: no usual priority, no usual handle. */
#define NL_TC_PRIORITY 0x6b33
#define NL_TC_HANDLE 0x6b33
#define NL_RECV_BYTES 32768
#define NL_AWAIT_PAUSE_NS 100000
#define NL_AWAIT_TRIES 1000
#define NL_LIFETIME_FOREVER 0xffffffffu

struct nl_pending {
	const char *what;
	uint32_t seq;
	int ignored;
	int result;
	bool answered;
};

struct nl {
	int fd;
	uint32_t seq;
	size_t len;
	unsigned n;
	struct nl_pending pending[NL_BATCH_MAX];
	struct nlmsghdr *last;
	_Alignas(8) char buf[NL_BATCH_BYTES];
};

struct nl *nl_from_fd(int fd)
{
	struct nl *nl = mem_new(struct nl);

	nl->fd = fd;
	nl->seq = 1;
	return nl;
}

int nl_open(int bus, struct nl **ret, struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, bus);

	if (fd < 0)
		return err_set(err, -errno, "netlink socket: %s", strerror(errno));
	*ret = nl_from_fd(fd);
	return 0;
}

void nl_close(struct nl *nl)
{
	if (!nl)
		return;
	close(nl->fd);
	free(nl);
}

int nl_fd(const struct nl *nl)
{
	return nl->fd;
}

/* The message before may have grown by attributes since it was begun. */
static void nl_seal(struct nl *nl)
{
	if (nl->last)
		nl->len = (size_t)((char *)nl->last - nl->buf) + MNL_ALIGN(nl->last->nlmsg_len);
	nl->last = NULL;
}

static struct nlmsghdr *nl_header(struct nl *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *h;

	nl_seal(nl);
	h = mnl_nlmsg_put_header(nl->buf + nl->len);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = nl->seq++;
	nl->last = h;
	return h;
}

struct nlmsghdr *nl_begin(struct nl *nl, uint16_t type, uint16_t flags, const char *what, int ignored)
{
	struct nlmsghdr *h = nl_header(nl, type, flags | NLM_F_ACK);

	if (nl->n == NL_BATCH_MAX || nl->len > NL_BATCH_BYTES - 1024)
		abort();
	nl->pending[nl->n++] =
		(struct nl_pending){ .what = what, .seq = h->nlmsg_seq, .ignored = ignored, .result = -EPROTO };
	return h;
}

static ssize_t nl_recv(struct nl *nl, char *buf, size_t size)
{
	ssize_t n;

	do
		n = recv(nl->fd, buf, size, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t nl_send(struct nl *nl)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	ssize_t n;

	nl_seal(nl);
	do
		n = sendto(nl->fd, nl->buf, nl->len, 0, (struct sockaddr *)&to, sizeof(to));
	while (n < 0 && errno == EINTR);
	nl->len = 0;
	return n < 0 ? -errno : n;
}

static void nl_answer(struct nl *nl, const struct nlmsghdr *h, unsigned *answered)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

	for (unsigned i = 0; i < nl->n; i++) {
		struct nl_pending *p = &nl->pending[i];

		if (p->seq != h->nlmsg_seq || p->answered)
			continue;
		p->answered = true;
		p->result = e->error;
		(*answered)++;
	}
}

int nl_commit(struct nl *nl, struct err *err)
{
	_Alignas(8) char buf[NL_RECV_BYTES];
	unsigned answered = 0;
	ssize_t n;

	if (!nl->n) /* the kernel refuses to be asked nothing */
		return 0;
	n = nl_send(nl);
	while (n >= 0 && answered < nl->n) {
		int left;

		n = nl_recv(nl, buf, sizeof(buf));
		if (n < 0)
			break;
		left = (int)n;
		for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			if (h->nlmsg_type == NLMSG_ERROR)
				nl_answer(nl, h, &answered);
	}
	if (n < 0) {
		nl->n = 0;
		return err_set(err, (int)n, "netlink: %s", strerror((int)-n));
	}
	for (unsigned i = 0; i < nl->n; i++) {
		struct nl_pending *p = &nl->pending[i];

		if (p->result < 0 && p->result != -p->ignored) {
			nl->n = 0;
			return err_set(err, p->result, "%s: %s", p->what, strerror(-p->result));
		}
	}
	nl->n = 0;
	return 0;
}

int nl_result(const struct nl *nl, unsigned i)
{
	return nl->pending[i].result;
}

struct nlmsghdr *nl_request(struct nl *nl, uint16_t type, uint16_t flags)
{
	nl->n = 0;
	nl->len = 0;
	nl->last = NULL;
	return nl_header(nl, type, flags);
}

int nl_query(struct nl *nl, nl_fn *fn, void *arg, struct err *err)
{
	_Alignas(8) char buf[NL_RECV_BYTES];
	uint32_t seq = nl->last->nlmsg_seq;
	bool dump = (nl->last->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	ssize_t n = nl_send(nl);

	while (n >= 0) {
		int left;

		n = nl_recv(nl, buf, sizeof(buf));
		left = n < 0 ? 0 : (int)n;
		for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			int r;

			if (h->nlmsg_seq != seq)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR) {
				r = ((const struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
				return r ? err_set(err, r, "netlink query: %s", strerror(-r)) : 0;
			}
			r = fn(h, arg);
			if (r < 0)
				return r;
			if (!dump)
				return 0;
		}
	}
	return err_set(err, (int)n, "netlink: %s", strerror((int)-n));
}

static struct tcmsg *nl_tc(struct nl *nl, uint16_t type, uint16_t flags, const char *what, int ignored, int ifindex,
			   uint32_t parent, uint32_t handle, struct nlmsghdr **ret)
{
	struct nlmsghdr *h = nl_begin(nl, type, flags, what, ignored);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = parent;
	t->tcm_handle = handle;
	*ret = h;
	return t;
}

static void nl_clsact(struct nl *nl, int ifindex, uint16_t flags, int ignored)
{
	struct nlmsghdr *h;

	nl_tc(nl, RTM_NEWQDISC, flags, "clsact qdisc", ignored, ifindex, TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0), &h);
	mnl_attr_put_strz(h, TCA_KIND, "clsact");
}

void nl_put_clsact(struct nl *nl, int ifindex, int ignored)
{
	nl_clsact(nl, ifindex, NLM_F_CREATE | NLM_F_EXCL, ignored);
}

void nl_put_clsact_same(struct nl *nl, int ifindex)
{
	nl_clsact(nl, ifindex, 0, 0);
}

bool nl_is_own_filter(const struct nlmsghdr *h)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);

	return TC_H_MAJ(t->tcm_info) >> 16 == NL_TC_PRIORITY;
}

void nl_put_clsact_delete(struct nl *nl, int ifindex)
{
	struct nlmsghdr *h;

	nl_tc(nl, RTM_DELQDISC, 0, "clsact qdisc", EINVAL, ifindex, TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0), &h);
}

static uint32_t nl_tc_parent(bool ingress)
{
	return TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

void nl_put_filter_classid(struct nl *nl, int ifindex, bool ingress, int program_fd, const char *name, uint32_t classid)
{
	struct nlmsghdr *h;
	struct nlattr *nest;
	struct tcmsg *t = nl_tc(nl, RTM_NEWTFILTER, NLM_F_CREATE, "tc filter", 0, ifindex, nl_tc_parent(ingress),
				NL_TC_HANDLE, &h);

	t->tcm_info = TC_H_MAKE((uint32_t)NL_TC_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "bpf");
	nest = mnl_attr_nest_start(h, TCA_OPTIONS);
	mnl_attr_put_u32(h, TCA_BPF_FD, (uint32_t)program_fd);
	mnl_attr_put_strz(h, TCA_BPF_NAME, name);
	mnl_attr_put_u32(h, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	if (classid)
		mnl_attr_put_u32(h, TCA_BPF_CLASSID, classid);
	mnl_attr_nest_end(h, nest);
}

void nl_put_filter(struct nl *nl, int ifindex, bool ingress, int program_fd, const char *name)
{
	nl_put_filter_classid(nl, ifindex, ingress, program_fd, name, 0);
}

void nl_put_filter_delete(struct nl *nl, int ifindex, bool ingress)
{
	struct nlmsghdr *h;
	struct tcmsg *t =
		nl_tc(nl, RTM_DELTFILTER, 0, "tc filter", ENOENT, ifindex, nl_tc_parent(ingress), NL_TC_HANDLE, &h);

	t->tcm_info = TC_H_MAKE((uint32_t)NL_TC_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "bpf");
}

void nl_put_link_up(struct nl *nl, int ifindex, const char *alias, bool no_ipv6_address)
{
	struct nlmsghdr *h = nl_begin(nl, RTM_NEWLINK, 0, "link up", 0);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

	i->ifi_index = ifindex;
	i->ifi_flags = IFF_UP;
	i->ifi_change = IFF_UP;
	if (alias)
		mnl_attr_put_str(h, IFLA_IFALIAS, alias);
	if (no_ipv6_address) {
		struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
		struct nlattr *v6 = mnl_attr_nest_start(h, AF_INET6);

		mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(h, v6);
		mnl_attr_nest_end(h, spec);
	}
}

void nl_put_link_delete(struct nl *nl, int ifindex)
{
	struct nlmsghdr *h = nl_begin(nl, RTM_DELLINK, 0, "link", ENODEV);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

	i->ifi_index = ifindex;
}

static void nl_attr_addr(struct nlmsghdr *h, uint16_t type, const struct k3c_addr *a)
{
	if (dp_addr_is_v4(a))
		mnl_attr_put_u32(h, type, a->w[3]);
	else
		mnl_attr_put(h, type, sizeof(a->b), a->b);
}

static uint8_t nl_family(const struct k3c_addr *a)
{
	return dp_addr_is_v4(a) ? AF_INET : AF_INET6;
}

void nl_put_address(struct nl *nl, uint16_t type, const struct nl_address *addr, int ignored)
{
	uint16_t flags = type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0;
	struct nlmsghdr *h = nl_begin(nl, type, flags, "address", ignored);
	struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(h, sizeof(*a));

	a->ifa_family = nl_family(&addr->addr);
	a->ifa_prefixlen = addr->bits;
	a->ifa_index = (uint32_t)addr->ifindex;
	nl_attr_addr(h, IFA_LOCAL, &addr->addr);
	nl_attr_addr(h, IFA_ADDRESS, &addr->addr);
	if (a->ifa_family == AF_INET) {
		a->ifa_scope = addr->scope;
		if (addr->label)
			mnl_attr_put_strz(h, IFA_LABEL, addr->label);
		return;
	}
	mnl_attr_put_u32(h, IFA_FLAGS, IFA_F_NODAD);
	if (addr->protocol)
		mnl_attr_put_u8(h, IFA_PROTO, addr->protocol);
	if (addr->metric)
		mnl_attr_put_u32(h, IFA_RT_PRIORITY, addr->metric);
	if (addr->never_source) {
		struct ifa_cacheinfo forever = { .ifa_prefered = 0, .ifa_valid = NL_LIFETIME_FOREVER };

		mnl_attr_put(h, IFA_CACHEINFO, sizeof(forever), &forever);
	}
}

struct k3c_addr nl_addr_of(uint8_t family, const struct nlattr *attr)
{
	struct k3c_addr a = { 0 };

	if (family == AF_INET && mnl_attr_get_payload_len(attr) == sizeof(uint32_t))
		return dp_addr_v4(mnl_attr_get_u32(attr));
	if (family == AF_INET6 && mnl_attr_get_payload_len(attr) == sizeof(a.b))
		memcpy(a.b, mnl_attr_get_payload(attr), sizeof(a.b));
	return a;
}

static int nl_route_type(const struct nlmsghdr *h, void *arg)
{
	*(uint8_t *)arg = ((const struct rtmsg *)mnl_nlmsg_get_payload(h))->rtm_type;
	return 0;
}

void nl_await_address(struct nl *nl, const struct k3c_addr *addr)
{
	struct timespec pause = { .tv_nsec = NL_AWAIT_PAUSE_NS };

	for (int i = 0; i < NL_AWAIT_TRIES; i++) {
		struct nlmsghdr *h = nl_request(nl, RTM_GETROUTE, 0);
		struct rtmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
		uint8_t type = RTN_UNSPEC;

		t->rtm_family = nl_family(addr);
		t->rtm_dst_len = t->rtm_family == AF_INET ? 32 : 128;
		nl_attr_addr(h, RTA_DST, addr);
		if (nl_query(nl, nl_route_type, &type, NULL) == 0 && type == RTN_LOCAL)
			return;
		nanosleep(&pause, NULL);
	}
}

void nl_put_neighbour(struct nl *nl, int ifindex, const struct k3c_addr *addr, const uint8_t mac[static 6])
{
	struct nlmsghdr *h = nl_begin(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "neighbour", 0);
	struct ndmsg *n = mnl_nlmsg_put_extra_header(h, sizeof(*n));

	n->ndm_family = nl_family(addr);
	n->ndm_ifindex = ifindex;
	n->ndm_state = NUD_PERMANENT;
	nl_attr_addr(h, NDA_DST, addr);
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
}

void nl_put_link_mtu(struct nl *nl, int ifindex, uint32_t mtu)
{
	struct nlmsghdr *h = nl_begin(nl, RTM_NEWLINK, 0, "MTU", ENODEV);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

	i->ifi_index = ifindex;
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
}

void nl_put_route(struct nl *nl, uint16_t type, const struct nl_route *r, int ignored)
{
	uint16_t flags = type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_REPLACE : 0;
	struct nlmsghdr *h = nl_begin(nl, type, flags, "route", ignored);
	struct rtmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->rtm_family = r->family;
	t->rtm_dst_len = r->bits;
	t->rtm_table = RT_TABLE_MAIN;
	t->rtm_protocol = DP_ROUTE_PROTOCOL;
	t->rtm_scope = r->scope;
	t->rtm_type = r->type;
	if (r->bits)
		nl_attr_addr(h, RTA_DST, &r->dst);
	if (r->ifindex)
		mnl_attr_put_u32(h, RTA_OIF, (uint32_t)r->ifindex);
	if (!dp_addr_is_zero(&r->gateway))
		nl_attr_addr(h, RTA_GATEWAY, &r->gateway);
	if (!dp_addr_is_zero(&r->source))
		nl_attr_addr(h, RTA_PREFSRC, &r->source);
	if (r->metric)
		mnl_attr_put_u32(h, RTA_PRIORITY, r->metric);
	if (r->mtu) {
		struct nlattr *metrics = mnl_attr_nest_start(h, RTA_METRICS);

		mnl_attr_put_u32(h, RTAX_MTU, r->mtu);
		mnl_attr_nest_end(h, metrics);
	}
}
