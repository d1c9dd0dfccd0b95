/* SPDX-License-Identifier: Apache-2.0 */
/* Bandwidth of pods. A limit on what a pod sends is kept by fq on the pod's end, told by a program when each packet may
 * leave; where the kernel has no fq, and for what a pod receives, programs at the host's end drop what is too much.
 * The row is there before the endpoint's flags point to it, and goes after them. Loop thread. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/policy.h"
#include "bpf/include/rate.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/clsact.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pressure.h"
#include "userspace/dataplane/rates.h"

#define RATES_NS_PER_S 1000000000ull
/* What may be saved up where packets are dropped: a quarter of a second, and at least what senders send at once. TCP
 * that loses the end of a burst is silent for its timeout, 200 ms at least: what is not saved up for as long is lost to
 * it, half of the limit with a tenth of a second. */
#define RATES_BURST_NS (RATES_NS_PER_S / 4)
#define RATES_BURST_BYTES 131072ull

/* More than any packet takes of a limit: 512 KiB are the most that the kernel hands on at once, and each of its
 * segments has headers. */
#define RATES_PACKET_BYTES_MAX (1ull << 20)

static uint64_t rates_time_ns(uint64_t bytes, uint64_t bits_s)
{
	return bytes * 8 * RATES_NS_PER_S / bits_s;
}

/* Programs never owe more than what waits at the pod's end and a packet of each processor. Whatever is beyond that is
 * of somebody else, or of a limit that was far lower: the pod would be silent until then. */
static bool rates_owes_too_much(uint64_t paid_ns, uint64_t bits_s)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t most_ns =
		K3C_RATE_HORIZON_NS + (uint64_t)(cpus > 0 ? cpus : 1) * rates_time_ns(RATES_PACKET_BYTES_MAX, bits_s);
	uint64_t now_ns = (uint64_t)clock_monotonic_ns();

	return paid_ns > now_ns && paid_ns - now_ns > most_ns;
}

static void rates_limit(struct k3c_rate_limit *l, uint64_t bits_s)
{
	uint64_t bytes_ns;

	l->bits_s = bits_s;
	l->burst_ns = 0;
	if (!bits_s)
		return;
	bytes_ns = rates_time_ns(RATES_BURST_BYTES, bits_s);
	l->burst_ns = bytes_ns > RATES_BURST_NS ? bytes_ns : RATES_BURST_NS;
	if (rates_owes_too_much(l->paid_ns, bits_s))
		l->paid_ns = 0;
}

void rates_put_fq(struct nl *inner, int ifindex, bool wanted)
{
	struct nlmsghdr *h = nl_begin(inner, wanted ? RTM_NEWQDISC : RTM_DELQDISC,
				      wanted ? NLM_F_CREATE | NLM_F_REPLACE : 0, "fq qdisc", wanted ? 0 : ENOENT);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = TC_H_ROOT;
	if (wanted)
		mnl_attr_put_strz(h, TCA_KIND, "fq");
}

/* 1: paced; 0: this kernel has no fq. The program is told whose pod it runs in: the packet's address may be any. */
static int rates_pace(struct dataplane *dp, struct nl *inner, int host, int peer, struct err *err)
{
	static bool told;
	struct err why = ERR_INIT;
	int r;

	rates_put_fq(inner, peer, true);
	r = nl_commit(inner, &why);
	if (r == -ENOENT || r == -EOPNOTSUPP) {
		if (!told)
			log_warn(
				"no fq in this kernel (sch_fq): what pods send beyond their limit is dropped, not delayed");
		told = true;
		err_finish(&why);
		return 0;
	}
	err_finish(&why);
	if (r < 0)
		return err_set(err, r, "fq on the pod's link: %s", strerror(-r));
	r = clsact_put(inner, peer, true, err);
	if (r < 0)
		return r;
	nl_put_filter_classid(inner, peer, false, dp->programs[DP_PROGRAM_POD_PACE], programs_name(DP_PROGRAM_POD_PACE),
			      (uint16_t)host); /* the other half has another meaning: clsact.h */
	r = nl_commit(inner, err);
	return r < 0 ? r : 1;
}

static int rates_unpace(struct nl *inner, int peer, struct err *err)
{
	nl_put_clsact_delete(inner, peer);
	rates_put_fq(inner, peer, false);
	return nl_commit(inner, err);
}

uint16_t rates_flags(const struct pod_limits *l)
{
	return (uint16_t)((l->ingress_bits_s ? K3C_EP_LIMIT_INGRESS : 0) |
			  (l->egress_bits_s && !l->paced ? K3C_EP_LIMIT_EGRESS : 0));
}

static bool rates_limited(const struct pod_limits *l)
{
	return l->ingress_bits_s || l->egress_bits_s;
}

/* *row: what is there. What programs wrote stays, as far as they can have. */
static void rates_row(const struct pod_limits *l, struct k3c_rate *row)
{
	rates_limit(&row->limit[K3C_INGRESS], l->ingress_bits_s);
	rates_limit(&row->limit[K3C_EGRESS], l->egress_bits_s);
	row->paced = l->paced;
}

static int rates_write(struct dataplane *dp, int host, const struct k3c_rate *row, struct err *err)
{
	uint32_t key = (uint32_t)host;

	if (bpf_map_update_elem(dp->maps[DP_MAP_RATE], &key, row, BPF_F_LOCK) < 0)
		return pressure_write_failed(dp, DP_MAP_RATE, err);
	return 0;
}

int rates_set(struct dataplane *dp, struct nl *inner, int host, int peer, uint64_t ingress_bits_s,
	      uint64_t egress_bits_s, struct pod_limits *ret, struct err *err)
{
	struct pod_limits limits = { ingress_bits_s, egress_bits_s, 0 };
	struct k3c_rate row = { 0 }, before;
	uint32_t key = (uint32_t)host;
	bool known = bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &key, &row) == 0;
	int r = 0;

	before = row;
	if (egress_bits_s) {
		r = rates_pace(dp, inner, host, peer, err);
		limits.paced = r > 0 ? (uint32_t)peer : 0;
	} else if (before.paced) {
		r = rates_unpace(inner, peer, err);
	}
	if (r < 0)
		return r;
	rates_row(&limits, &row);
	if (rates_limited(&limits) && memcmp(&row, &before, sizeof(row)) != 0) {
		r = rates_write(dp, host, &row, err);
		if (r < 0)
			return r;
	}
	if (known && !rates_limited(&limits))
		bpf_map_delete_elem(dp->maps[DP_MAP_RATE], &key);
	*ret = limits;
	return 0;
}

void rates_forget(struct dataplane *dp, int host)
{
	uint32_t key = (uint32_t)host;

	bpf_map_delete_elem(dp->maps[DP_MAP_RATE], &key);
}

static int rates_inner_index(void *arg)
{
	unsigned index = if_nametoindex(arg);

	return index ? (int)index : -errno;
}

/* A socket and the link's index in the pod's namespace. */
static int rates_inside(const struct pod_state *s, struct nl **ret_inner, int *ret_peer, struct err *err)
{
	_cleanup_close_ int netns = open(s->netns_path, O_RDONLY | O_CLOEXEC);
	char name[] = DP_POD_LINK_NAME;
	int fd, r;

	if (netns < 0)
		return err_set(err, -errno, "%s: %s", s->netns_path, strerror(errno));
	r = netns_run(netns, rates_inner_index, name);
	if (r < 0)
		return err_set(err, r, "%s in %s: %s", name, s->netns_path, strerror(-r));
	*ret_peer = r;
	r = netns_socket(netns, NETLINK_ROUTE, &fd);
	if (r < 0)
		return err_set(err, r, "netlink in %s: %s", s->netns_path, strerror(-r));
	*ret_inner = nl_from_fd(fd);
	return 0;
}

/* 1: they were others. */
static int rates_put_flags(struct dataplane *dp, const struct k3c_addr *addr, int host, uint16_t flags, struct err *err)
{
	struct k3c_endpoint e;
	int r;

	if (dp_addr_is_zero(addr) || bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], addr, &e) < 0 ||
	    e.ifindex != (uint32_t)host || e.flags == flags)
		return 0;
	e.flags = flags;
	r = policy_endpoint_put(dp, addr, &e, BPF_EXIST, err);
	return r < 0 ? r : 1;
}

/* How many were others. */
static int rates_put_all_flags(struct dataplane *dp, const struct pod_state *s, struct err *err)
{
	int n = 0;

	for (int f = 0; f < DP_FAMILIES; f++) {
		int r = rates_put_flags(dp, &s->addrs[f], s->ifindex, rates_flags(&s->limits), err);

		if (r < 0)
			return r;
		n += r;
	}
	return n;
}

int dataplane_pod_bandwidth(struct dataplane *dp, const char *key, uint64_t ingress_bits_s, uint64_t egress_bits_s,
			    struct err *err)
{
	struct pod_state *s = map_get(&dp->pods, str_of(key));
	struct nl *inner = NULL;
	int peer, r;

	if (!s || !s->netns_path)
		return err_set(err, -ENOENT, "pod %s has no link", key);
	r = rates_inside(s, &inner, &peer, err);
	if (r == 0)
		r = rates_set(dp, inner, s->ifindex, peer, ingress_bits_s, egress_bits_s, &s->limits, err);
	if (r == 0)
		r = rates_put_all_flags(dp, s, err);
	nl_close(inner);
	return r < 0 ? err_wrap(err, r, "bandwidth of pod %s", key) : 0;
}

bool rates_any_paced(struct dataplane *dp)
{
	uint32_t key;

	keys_foreach(dp->maps[DP_MAP_RATE], key) {
		struct k3c_rate row;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &key, &row) == 0 && row.paced)
			return true;
	}
	return false;
}

static int rates_qdisc_kind(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == TCA_KIND && strcmp(mnl_attr_get_str(attr), "fq") == 0)
		*(bool *)arg = true;
	return MNL_CB_OK;
}

struct rates_queue {
	int ifindex;
	bool fq;
};

static int rates_queue_seen(const struct nlmsghdr *h, void *arg)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	struct rates_queue *q = arg;

	if (t->tcm_ifindex == q->ifindex && t->tcm_parent == TC_H_ROOT)
		mnl_attr_parse(h, sizeof(*t), rates_qdisc_kind, &q->fq);
	return 0;
}

/* The pod's end has the queue and the program that tells it when. */
static bool rates_is_paced(struct dataplane *dp, struct nl *inner, int host, int peer)
{
	struct rates_queue q = { .ifindex = peer };
	struct nlmsghdr *h = nl_request(inner, RTM_GETQDISC, NLM_F_DUMP);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	return nl_query(inner, rates_queue_seen, &q, NULL) == 0 && q.fq &&
	       drift_has_filter_at(dp, inner, peer, false, DP_PROGRAM_POD_PACE, DP_PROGRAM_POD_PACE, (uint32_t)host);
}

/* How many had to. */
static uint32_t rates_pace_again(struct dataplane *dp, const struct pod_state *s)
{
	struct nl *inner = NULL;
	uint32_t n = 0;
	int peer;

	if (rates_inside(s, &inner, &peer, NULL) == 0 && !rates_is_paced(dp, inner, s->ifindex, peer))
		n = rates_pace(dp, inner, s->ifindex, peer, NULL) > 0;
	nl_close(inner);
	return n;
}

/* After a restart: rows of links that are gone go too; paced pods get the program as it is now. */
uint32_t rates_adopt(struct dataplane *dp)
{
	uint32_t key, *gone = NULL, paced = 0;
	size_t n = 0, cap = 0;

	keys_foreach(dp->maps[DP_MAP_RATE], key) {
		struct pod_state *found = NULL;
		struct k3c_rate row;

		map_foreach(e, &dp->pods)
			if (((struct pod_state *)e->value)->ifindex == (int)key)
				found = e->value;
		if (found && bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &key, &row) == 0 && row.paced)
			paced += rates_pace_again(dp, found);
		if (found)
			continue;
		mem_grow(gone, cap, n + 1);
		gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_RATE], &gone[i]);
	free(gone);
	return (uint32_t)n + paced;
}

static int rates_repair_row(struct dataplane *dp, const struct pod_state *s, uint32_t *found, struct err *err)
{
	struct k3c_rate row = { 0 }, before;
	uint32_t key = (uint32_t)s->ifindex;
	bool known = bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &key, &row) == 0;

	if (!rates_limited(&s->limits)) {
		*found += known && bpf_map_delete_elem(dp->maps[DP_MAP_RATE], &key) == 0;
		return 0;
	}
	before = row;
	rates_row(&s->limits, &row);
	if (known && memcmp(&row, &before, sizeof(row)) == 0)
		return 0;
	(*found)++;
	return rates_write(dp, s->ifindex, &row, err);
}

void rates_take_over(struct dataplane *dp)
{
	uint32_t found = 0;

	map_foreach(e, &dp->pods) {
		struct pod_state *s = e->value;
		uint32_t key = (uint32_t)s->ifindex;
		struct k3c_rate row;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &key, &row) < 0)
			memset(&row, 0, sizeof(row));
		s->limits =
			(struct pod_limits){ row.limit[K3C_INGRESS].bits_s, row.limit[K3C_EGRESS].bits_s, row.paced };
		(void)rates_repair_row(dp, s, &found, NULL);
		(void)rates_put_all_flags(dp, s, NULL);
	}
}

int rates_repair(struct dataplane *dp, uint32_t *found, struct err *err)
{
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;
		int r = rates_repair_row(dp, s, found, err);

		if (r == 0)
			r = rates_put_all_flags(dp, s, err);
		if (r < 0)
			return r;
		*found += (uint32_t)r;
	}
	return 0;
}
