/* SPDX-License-Identifier: Apache-2.0 */
/* Links, routes and programs; the host's side is drift_host.c's, policy is policy_drift.c's. See drift.h. */
#include "userspace/dataplane/drift.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/batch.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/links.h"
#include "userspace/dataplane/maps.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/policy_state.h"
#include "userspace/dataplane/sets_look.h"
#include "userspace/dataplane/veth.h"

#define DRIFT_PIECE 256 /* rows that are read in a turn of the loop */

const char *dataplane_drift_name(enum dp_drift_kind kind)
{
	static const char *const names[DP_DRIFT_KINDS] = {
		[DP_DRIFT_FRONTEND] = "frontend", [DP_DRIFT_ENDPOINT] = "endpoint", [DP_DRIFT_RULE] = "rule",
		[DP_DRIFT_PROGRAM] = "program",   [DP_DRIFT_FILTER] = "filter",     [DP_DRIFT_ADDRESS] = "address",
		[DP_DRIFT_ROUTE] = "route",       [DP_DRIFT_STATE] = "state",       [DP_DRIFT_LINK] = "link",
		[DP_DRIFT_NETNS] = "namespace",   [DP_DRIFT_LIMIT] = "limit",       [DP_DRIFT_SET] = "set",
		[DP_DRIFT_COUNTER] = "counter",   [DP_DRIFT_DIRECT] = "direct-net", [DP_DRIFT_PIN] = "pin",
	};

	return names[kind];
}

/* ---- state ---- */

/* What programs remember to have done they never take back: without it answers would go untranslated. */
static int drift_used(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	int fd = dp->maps[DP_MAP_TC_USED];
	uint32_t zero = 0, now;

	if (bpf_map_lookup_elem(fd, &zero, &now) < 0)
		return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_TC_USED), strerror(errno));
	add->n[DP_DRIFT_STATE] += (dp->used & ~now) != 0;
	dp->used |= now;
	return maps_set_bits(fd, dp->used, err);
}

static int drift_state(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	struct k3c_meta have;
	uint32_t zero = 0;
	int r = drift_used(dp, add, err);

	if (r < 0)
		return r;
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_META], &zero, &have) < 0)
		return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_META), strerror(errno));
	if (memcmp(&have, &dp->meta, sizeof(have)) == 0)
		return 0;
	add->n[DP_DRIFT_STATE]++;
	return dataplane_meta_write(dp, err);
}

/* ---- programs ---- */

static int drift_programs(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	uint32_t n = programs_tails_missing(dp);

	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		if (programs_is_at_cgroup(p) && dp->programs[p] >= 0 && !programs_is_attached(dp, p))
			n++;
	if (n) {
		int r = programs_attach_cgroup(dp, err);

		if (r < 0)
			return r;
	}
	add->n[DP_DRIFT_PROGRAM] += n; /* what was put right */
	return 0;
}

/* ---- filters ---- */

struct filter_look {
	uint32_t ids[2];  /* any of them will do */
	uint16_t classid; /* what programs see of it */
	bool found;
};

struct filter_attrs {
	uint32_t id, classid;
};

static int filter_option(const struct nlattr *attr, void *arg)
{
	struct filter_attrs *f = arg;

	if (mnl_attr_get_type(attr) == TCA_BPF_ID)
		f->id = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == TCA_BPF_CLASSID)
		f->classid = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int filter_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == TCA_OPTIONS)
		mnl_attr_parse_nested(attr, filter_option, arg);
	return MNL_CB_OK;
}

static int filter_seen(const struct nlmsghdr *h, void *arg)
{
	struct filter_look *l = arg;
	struct filter_attrs f = { 0 };

	mnl_attr_parse(h, sizeof(struct tcmsg), filter_attr, &f);
	if (f.id && (f.id == l->ids[0] || f.id == l->ids[1]) && (uint16_t)f.classid == l->classid)
		l->found = true;
	return 0;
}

bool drift_has_filter_at(struct dataplane *dp, struct nl *nl, int ifindex, bool ingress, enum dp_program a,
			 enum dp_program b, uint32_t classid)
{
	struct filter_look l = { .ids = { programs_id(dp->programs[a]), programs_id(dp->programs[b]) },
				 .classid = (uint16_t)classid };
	struct nlmsghdr *h = nl_request(nl, RTM_GETTFILTER, NLM_F_DUMP);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
	return nl_query(nl, filter_seen, &l, NULL) == 0 && l.found;
}

static bool drift_has_filter(struct dataplane *dp, int ifindex, bool ingress, enum dp_program a, enum dp_program b)
{
	return drift_has_filter_at(dp, dp->nl, ifindex, ingress, a, b, 0);
}

static bool drift_link_exists(int ifindex)
{
	char name[IF_NAMESIZE];

	return if_indextoname((unsigned)ifindex, name) != NULL;
}

static uint32_t drift_filters_missing(struct dataplane *dp, int ifindex, enum dp_program in, enum dp_program in_or,
				      enum dp_program out, enum dp_program out_or)
{
	if (!drift_link_exists(ifindex)) /* it goes: whoever follows links hears of it */
		return 0;
	return (uint32_t)!drift_has_filter(dp, ifindex, true, in, in_or) +
	       (uint32_t)!drift_has_filter(dp, ifindex, false, out, out_or);
}

static uint32_t drift_own_filters(struct dataplane *dp)
{
	uint32_t n = 0;

	if (own_is_missing(dp))
		return 1;
	if (own_peer(dp))
		n += !drift_has_filter(dp, own_peer(dp), true, DP_PROGRAM_OWN_IN, DP_PROGRAM_OWN_IN);
	if (own_ifindex(dp))
		n += !drift_has_filter(dp, own_ifindex(dp), false, DP_PROGRAM_OWN_OUT, DP_PROGRAM_OWN_OUT);
	if (own_has_lo(dp))
		n += !drift_has_filter(dp, 1, false, DP_PROGRAM_OWN_LO, DP_PROGRAM_OWN_LO);
	return n;
}

static int drift_filters(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	uint32_t pods = 0, host = 0, own = 0, key;
	int r = 0;

	map_foreach(e, &dp->pods)
		pods += drift_filters_missing(dp, ((const struct pod_state *)e->value)->ifindex, DP_PROGRAM_POD_OUT,
					      DP_PROGRAM_POD_OUT, DP_PROGRAM_POD_IN, DP_PROGRAM_POD_IN);
	keys_foreach(dp->maps[DP_MAP_LINK], key) {
		struct k3c_link row;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &key, &row) == 0 && (row.flags & K3C_LINK_HAS_PROGRAMS))
			host += drift_filters_missing(dp, (int)key, DP_PROGRAM_HOST_IN, DP_PROGRAM_HOST_L3_IN,
						      DP_PROGRAM_HOST_OUT, DP_PROGRAM_HOST_L3_OUT);
	}
	own = drift_own_filters(dp);
	add->n[DP_DRIFT_FILTER] += pods + host + own;
	if (pods)
		r = pods_filters(dp, err);
	if (r == 0 && host)
		r = links_sync(dp, err);
	if (r == 0 && own)
		own_follow(dp);
	return r;
}

/* ---- routes ---- */

struct route_attrs {
	struct k3c_addr dst;
	uint8_t family;
	int ifindex;
};

/* Keys of routes that are there: address, then length, then kind of route, then link. */
#define ROUTE_KEY_LEN 22

static struct str route_key(const struct k3c_addr *dst, uint8_t bits, uint8_t type, int ifindex,
			    char ret[static ROUTE_KEY_LEN])
{
	memcpy(ret, dst->b, 16);
	ret[16] = (char)bits;
	ret[17] = (char)type;
	memcpy(ret + 18, &ifindex, 4);
	return str_make(ret, ROUTE_KEY_LEN);
}

static int route_attr(const struct nlattr *attr, void *arg)
{
	struct route_attrs *r = arg;

	if (mnl_attr_get_type(attr) == RTA_DST)
		r->dst = nl_addr_of(r->family, attr);
	if (mnl_attr_get_type(attr) == RTA_OIF)
		r->ifindex = (int)mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int route_seen(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct route_attrs r = { .family = m->rtm_family };
	char key[ROUTE_KEY_LEN];

	if (m->rtm_protocol != DP_ROUTE_PROTOCOL)
		return 0;
	mnl_attr_parse(h, sizeof(*m), route_attr, &r);
	/* The kernel puts unreachable IPv6 routes on lo. */
	map_put(arg, route_key(&r.dst, m->rtm_dst_len, m->rtm_type, m->rtm_type == RTN_UNICAST ? r.ifindex : 0, key),
		arg);
	return 0;
}

static int drift_read_routes(struct dataplane *dp, uint8_t family, struct map *ret, struct err *err)
{
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

	m->rtm_family = family;
	return nl_query(dp->nl, route_seen, ret, err);
}

static uint32_t drift_net_missing(const struct map *routes, const struct dp_net *net)
{
	struct k3c_addr dst = dp_addr_in(&net->addr), mask = dp_mask(net->bits);
	bool v4 = dp_addr_is_v4(&dst);
	char key[ROUTE_KEY_LEN];

	if (!net->bits || (v4 && net->bits <= 96))
		return 0;
	for (int i = 0; i < 16; i++)
		dst.b[i] &= mask.b[i];
	return !map_has(routes, route_key(&dst, (uint8_t)(v4 ? net->bits - 96 : net->bits), RTN_UNREACHABLE, 0, key));
}

struct routes_missing {
	const struct map *routes;
	uint32_t n;
};

static void drift_own_route(void *arg, const struct k3c_addr *dst, int ifindex)
{
	struct routes_missing *m = arg;
	char key[ROUTE_KEY_LEN];

	m->n += !map_has(m->routes, route_key(dst, dp_addr_is_v4(dst) ? 32 : 128, RTN_UNICAST, ifindex, key));
}

static int drift_routes(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	_cleanup_(map_finish) struct map routes = MAP_INIT;
	struct routes_missing own = { .routes = &routes };
	uint32_t pods = 0, nets = 0;
	int r = pods_up(dp, &add->n[DP_DRIFT_LINK], err); /* what it brings back is not counted again */

	if (r == 0)
		r = drift_read_routes(dp, AF_INET, &routes, err);
	if (r == 0 && dp->options.pod_nets[DP_V6].bits)
		r = drift_read_routes(dp, AF_INET6, &routes, err);
	if (r < 0)
		return r;
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;

		for (int f = 0; f < DP_FAMILIES; f++) {
			char key[ROUTE_KEY_LEN];

			if (!dp_addr_is_zero(&s->addrs[f]) && drift_link_exists(s->ifindex))
				pods += !map_has(&routes, route_key(&s->addrs[f], f == DP_V4 ? 32 : 128, RTN_UNICAST,
								    s->ifindex, key));
		}
	}
	for (int f = 0; f < DP_FAMILIES; f++)
		nets += drift_net_missing(&routes, &dp->options.pod_nets[f]) +
			drift_net_missing(&routes, &dp->options.service_nets[f]);
	own_each_route(dp, drift_own_route, &own);
	add->n[DP_DRIFT_ROUTE] += pods + nets + own.n;
	if (pods)
		r = pods_routes(dp, err);
	if (r == 0 && nets)
		r = links_routes(dp, err);
	if (r == 0 && own.n)
		own_follow(dp);
	return r;
}

/* ---- as soon as it happens ---- */

static bool drift_is_pod_link(struct dataplane *dp, int ifindex)
{
	map_foreach(e, &dp->pods)
		if (((const struct pod_state *)e->value)->ifindex == ifindex)
			return true;
	return false;
}

/* Now: every link was down when it was made. */
static bool drift_pod_is_down(struct dataplane *dp, int ifindex)
{
	struct veth_look look;
	char name[IF_NAMESIZE];

	if (!drift_is_pod_link(dp, ifindex) || !if_indextoname((unsigned)ifindex, name))
		return false;
	look = veth_look(dp->nl, name);
	return look.ifindex == ifindex && !look.up;
}

static bool drift_is_our_link(struct dataplane *dp, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;
	struct k3c_link row;

	if (drift_is_pod_link(dp, ifindex))
		return true;
	if (ifindex == own_ifindex(dp) || ifindex == own_peer(dp) || (ifindex == 1 && own_has_lo(dp)))
		return true;
	return bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &key, &row) == 0 && (row.flags & K3C_LINK_HAS_PROGRAMS);
}

bool drift_is_suspect(struct dataplane *dp, const struct nlmsghdr *h)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	const struct ifinfomsg *l = mnl_nlmsg_get_payload(h);
	struct route_attrs r = { 0 };
	struct nl_address a;

	switch (h->nlmsg_type) {
	case RTM_DELADDR:
		return mnl_nlmsg_get_payload_len(h) >= sizeof(struct ifaddrmsg) &&
		       links_own_address(h, dp->pin_dir, &a) && local_addresses_has(dp, &a.addr);
	case RTM_DELROUTE:
		if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) || m->rtm_protocol != DP_ROUTE_PROTOCOL)
			return false;
		r.family = m->rtm_family;
		mnl_attr_parse(h, sizeof(*m), route_attr, &r);
		return m->rtm_type == RTN_UNREACHABLE || pods_has(dp, &r.dst) || own_has_route(dp, &r.dst);
	case RTM_NEWLINK:
		return mnl_nlmsg_get_payload_len(h) >= sizeof(*l) && !(l->ifi_flags & IFF_UP) &&
		       drift_pod_is_down(dp, l->ifi_index);
	case RTM_DELQDISC:
	case RTM_DELTFILTER:
		return mnl_nlmsg_get_payload_len(h) >= sizeof(*t) && TC_H_MAJ(t->tcm_parent) == TC_H_MAJ(TC_H_CLSACT) &&
		       drift_is_our_link(dp, t->tcm_ifindex);
	}
	return false;
}

int drift_links(struct dataplane *dp, struct err *err)
{
	int r = drift_filters(dp, &dp->links_drift, err);

	if (r == 0)
		r = drift_routes(dp, &dp->links_drift, err);
	return r < 0 ? r : local_addresses_repair(dp, &dp->links_drift.n[DP_DRIFT_ADDRESS], err);
}

void dataplane_drift_of_links(struct dataplane *dp, struct dp_drift *add)
{
	for (int k = 0; k < DP_DRIFT_KINDS; k++)
		add->n[k] += dp->links_drift.n[k];
	dp->links_drift = (struct dp_drift){ 0 };
}

/* A namespace without a row has no services. */
static int drift_rows(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	int r = rates_repair(dp, &add->n[DP_DRIFT_LIMIT], err);

	if (r == 0)
		r = own_repair(dp, &add->n[DP_DRIFT_STATE], err);
	if (r < 0)
		return r;
	add->n[DP_DRIFT_STATE] += events_repair(dp);
	add->n[DP_DRIFT_NETNS] += pod_netns_repair(dp) + pod_nsid_repair(dp);
	add->n[DP_DRIFT_LIMIT] += rates_adopt(dp);
	add->n[DP_DRIFT_COUNTER] += pod_drops_repair(dp);
	return direct_repair(dp, &add->n[DP_DRIFT_DIRECT], err);
}

/* Rows that nobody refers to cost only their place. Those of a frontend that was taken away were named a moment ago. */
static void drift_add_sets(struct dp_drift *add, uint32_t sets)
{
	if (!add->n[DP_DRIFT_FRONTEND])
		add->n[DP_DRIFT_SET] += sets;
}

static int drift_told(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	dataplane_drift_of_links(dp, add);
	return 0;
}

static int drift_pins(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	return maps_repair_pins(dp, &add->n[DP_DRIFT_PIN], err);
}

typedef int drift_fn(struct dataplane *dp, struct dp_drift *add, struct err *err);

/* The sets stand for themselves: they are what there may be many of. */
static drift_fn *const drift_looks[] = {
	drift_state,  policy_drift, drift_programs, drift_filters, drift_host,
	drift_routes, drift_rows,   drift_told,     drift_pins,
};

/* ---- in pieces ---- */

struct dp_drift_look {
	struct dataplane *dp;
	struct batch_walk walk;
	struct sets_look sets;
	uint32_t unsound; /* rows that no frontend can have */
	bool sets_done;
	size_t next; /* of drift_looks */
	dataplane_service_fn *fn;
	void *arg;
};

struct dp_drift_look *dataplane_drift_begin(struct dataplane *dp)
{
	struct dp_drift_look *look = mem_new(struct dp_drift_look);

	look->dp = dp;
	sets_look_begin(&look->sets, dp);
	return look;
}

void dataplane_drift_end(struct dp_drift_look *look)
{
	if (!look)
		return;
	sets_look_finish(&look->sets);
	free(look);
}

static void drift_tell_frontends(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct dp_drift_look *look = arg;

	for (uint32_t i = 0; i < n; i++) {
		struct k3c_service_key key;
		struct k3c_service value;

		memcpy(&key, keys + i * sizeof(key), sizeof(key));
		memcpy(&value, values + i * sizeof(value), sizeof(value));
		if (!services_key_is_sound(&key)) {
			look->unsound += bpf_map_delete_elem(look->dp->maps[DP_MAP_SERVICE], &key) == 0;
			continue;
		}
		sets_look_names(&look->sets, &value);
		services_tell(look->dp, &key, &value, look->fn, look->arg);
	}
}

int dataplane_drift_frontends(struct dp_drift_look *look, dataplane_service_fn *fn, void *arg, struct err *err)
{
	int r;

	look->fn = fn;
	look->arg = arg;
	r = batch_piece(look->dp->maps[DP_MAP_SERVICE], &look->walk, DRIFT_PIECE, drift_tell_frontends, look);
	if (r < 0)
		return err_set(err, r, "read %s: %s", maps_name(DP_MAP_SERVICE), strerror(-r));
	if (!r)
		look->walk = (struct batch_walk){ 0 };
	return r;
}

int dataplane_drift_rest(struct dp_drift_look *look, struct dp_drift *add, struct err *err)
{
	uint32_t sets = 0;
	int r;

	add->n[DP_DRIFT_FRONTEND] += look->unsound;
	look->unsound = 0;
	if (!look->sets_done) {
		r = sets_look_piece(&look->sets, &look->walk, DRIFT_PIECE, &sets);
		drift_add_sets(add, sets);
		look->sets_done = r <= 0; /* a kernel that does not read whole maps keeps them */
		return 1;
	}
	r = drift_looks[look->next++](look->dp, add, err);
	return r < 0 ? r : look->next < ARRAY_SIZE(drift_looks);
}

static void drift_unjudged(void *arg, const struct dp_service *frontend)
{
}

int dataplane_drift(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	struct dp_drift_look *look = dataplane_drift_begin(dp);
	int r;

	do
		r = dataplane_drift_frontends(look, drift_unjudged, NULL, err);
	while (r > 0);
	if (r == 0)
		do
			r = dataplane_drift_rest(look, add, err);
		while (r > 0);
	dataplane_drift_end(look);
	return r;
}
