/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of this node: addresses, identities, links, and the policy of each. The model says which pods a change can
 * affect; here they are translated and what differs is written. */
#include <errno.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/bandwidth.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/policy.h"

/* What earlier commits replaced is freed when things have been quiet for so long. */
#define POLICY_SETTLE_NS (100 * 1000000ll)

static void policy_settle(struct loop_timer *t)
{
	dataplane_policy_settle(container_of(t, struct netctl, policy_timer)->dp);
}

static int policies_sync(struct netctl *nc, const struct net_pod *must, struct err *err)
{
	int r;

	nc->policies_dirty = false;
	r = policy_sync_run(&nc->policy, must, err);
	if (!nc->policy_timer.fn)
		loop_timer_init(&nc->policy_timer, policy_settle);
	loop_timer_arm(nc->loop, &nc->policy_timer, POLICY_SETTLE_NS);
	return r;
}

void netctl_sync_policies(struct netctl *nc)
{
	if (nc->policies_dirty)
		policies_sync(nc, NULL, NULL);
}

/* Another limit in the annotations of a pod that runs; one that is no limit leaves the old, and is told of once. */
static void bandwidth_changed(struct netctl *nc, struct net_pod *pod, const struct object *o, const struct json *tree)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *key = NULL;
	uint64_t ingress, egress;
	int r;

	if (!pod || !pod->attached || pod->virtual)
		return;
	r = bandwidth_parse(tree, &ingress, &egress, &err);
	if (r == 0 && ingress == pod->ingress_bits_s && egress == pod->egress_bits_s) {
		pod->bandwidth_refused = false;
		return;
	}
	key = str_dup(pod->uid);
	if (r == 0)
		r = dataplane_pod_bandwidth(nc->dp, key, ingress, egress, &err);
	if (r < 0) {
		if (!pod->bandwidth_refused)
			registry_event(nc->reg, "k3c-bpf", o, "Warning", "FailedBandwidthChange",
				       "Limits stay as they are: %s", err_message(&err));
		pod->bandwidth_refused = true;
		return;
	}
	pod->bandwidth_refused = false;
	pod->ingress_bits_s = ingress;
	pod->egress_bits_s = egress;
}

void netctl_pod_changed(struct netctl *nc, const struct object *o, bool removed)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod = model_pod(&nc->model, o->uid);

	/* A removed pod that still has its link stays a peer until the kubelet detaches it. */
	if (!removed) {
		const struct json *tree = registry_parse(&arena, o);

		bandwidth_changed(nc, model_set_pod(&nc->model, tree), o, tree);
		netctl_host_ports_changed(nc, o, tree);
	} else {
		netctl_host_ports_removed(nc, o->uid);
		dataplane_pressure_pod(nc->dp, arena_strndup(&arena, o->uid.p, o->uid.n), 0);
		if (!(pod && pod->attached))
			model_remove_pod(&nc->model, o->uid);
	}
	nc->policies_dirty = true;
	netctl_schedule(nc);
}

void netctl_add_dns_pod(struct netctl *nc)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"kube-dns\",\"namespace\":\"kube-system\",\"uid\":\"cluster-dns\","
		"\"labels\":{\"k8s-app\":\"kube-dns\"}},\"spec\":{\"containers\":[{\"ports\":["
		"{\"name\":\"dns\",\"protocol\":\"UDP\",\"containerPort\":53},"
		"{\"name\":\"dns-tcp\",\"protocol\":\"TCP\",\"containerPort\":53}]}]}}";
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod;
	struct json *v;

	if ((address_is_zero(&nc->dns_addrs[DP_V4]) && address_is_zero(&nc->dns_addrs[DP_V6])) ||
	    json_parse(&arena, STR(text), 0, &v, NULL) < 0)
		return;
	pod = model_set_pod(&nc->model, v);
	pod->virtual = true;
	model_attach_pod(&nc->model, pod, nc->dns_addrs);
	nc->policies_dirty = true;
}

/* ---- links ---- */

/* Addresses of a pod that is told by its key alone, for the whole of them. */
static void addresses_take(struct netctl *nc, const struct dp_addr addrs[static DP_FAMILIES], struct str uid)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		if (!address_is_zero(&addrs[f]))
			pod_addresses_take(&nc->addresses, &addrs[f], uid);
}

static void addresses_release(struct netctl *nc, const struct dp_addr addrs[static DP_FAMILIES], struct str uid)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		if (!address_is_zero(&addrs[f]))
			pod_addresses_release(&nc->addresses, &addrs[f], uid);
}

static void adopt_addresses(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	addresses_take(arg, addrs, str_of(key));
}

/* An address that the kernel knows no more is the one in the pod's status, while nobody else has that. */
static void adopt_lost(struct netctl *nc, const struct net_pod *pod, struct dp_addr addrs[static DP_FAMILIES])
{
	const struct object *o = registry_by_uid(nc->reg, pod->uid);
	bool lost = false;

	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct dp_addr *old = &pod->addrs[f];

		if (!nc->addresses.nets[f].bits || !address_is_zero(&addrs[f]) || address_is_zero(old) ||
		    pod_addresses_has(&nc->addresses, old) || !pod_addresses_in_range(&nc->addresses, old))
			continue;
		addrs[f] = *old;
		pod_addresses_take(&nc->addresses, old, pod->uid);
		lost = true;
	}
	if (lost && o)
		registry_event(nc->reg, "k3c-bpf", o, "Warning", "NetworkRepaired",
			       "The kernel no longer knew every address of the pod: its network is set up again");
}

/* Those of which nothing at all is known are attached as if they were new. */
static void adopt_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	struct netctl *nc = arg;
	struct net_pod *pod = model_pod(&nc->model, str_of(key));
	struct dp_addr all[DP_FAMILIES];

	memcpy(all, addrs, sizeof(all));
	if (pod)
		adopt_lost(nc, pod, all);
	if (pod && !(address_is_zero(&all[DP_V4]) && address_is_zero(&all[DP_V6])))
		model_attach_pod(&nc->model, pod, all);
}

void netctl_adopt_links(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (dataplane_pod_each(nc->dp, adopt_addresses, nc, &err) < 0 ||
	    dataplane_pod_each(nc->dp, adopt_link, nc, &err) < 0)
		log_warn("links of an earlier run not read error=\"%s\"", err_message(&err));
	nc->policies_dirty = true;
}

/* Of a pod that is gone; key NULL: nobody's policy. */
struct stale_link {
	char *key;
	struct dp_addr addrs[DP_FAMILIES];
};

struct stale_links {
	struct netctl *nc;
	struct stale_link *items;
	size_t n, cap;
};

static struct stale_link *stale_add(struct stale_links *s)
{
	mem_grow(s->items, s->cap, s->n + 1);
	s->items[s->n] = (struct stale_link){ 0 };
	return &s->items[s->n++];
}

static void stale_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	struct stale_links *s = arg;
	struct stale_link *l;

	if (model_pod(&s->nc->model, str_of(key)))
		return;
	l = stale_add(s);
	l->key = mem_strdup(key);
	memcpy(l->addrs, addrs, sizeof(l->addrs));
}

static void stale_policy(void *arg, const struct dp_policy_info *p)
{
	struct stale_links *s = arg;
	enum dp_family family = address_family(&p->pod);

	if (!pod_addresses_has(&s->nc->addresses, &p->pod) && !address_equal(&p->pod, &s->nc->dns_addrs[family]))
		stale_add(s)->addrs[family] = p->pod;
}

/* Also what a server left that died between the steps of a detach. */
void netctl_prune_links(struct netctl *nc)
{
	struct stale_links s = { .nc = nc };

	dataplane_pod_each(nc->dp, stale_link, &s, NULL);
	dataplane_policy_each(nc->dp, stale_policy, &s, NULL);
	for (size_t i = 0; i < s.n; i++) {
		struct stale_link *l = &s.items[i];

		if (l->key) {
			log_info("link of a vanished pod removed pod=%s", l->key);
			dataplane_pod_detach(nc->dp, l->key, l->addrs, NULL);
			addresses_release(nc, l->addrs, str_of(l->key));
		}
		policy_sync_forget(&nc->policy, str_of(""), l->addrs);
		free(l->key);
	}
	free(s.items);
}

/* One of each family that has a range. The address in an old status is taken again only while nobody else has it. */
static int pod_give_addresses(struct netctl *nc, const struct net_pod *pod, struct dp_addr ret[static DP_FAMILIES],
			      struct err *err)
{
	struct dp_addr addrs[DP_FAMILIES] = { 0 };

	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct dp_addr *old = &pod->addrs[f];

		if (!nc->addresses.nets[f].bits)
			continue;
		if (!address_is_zero(old) && !pod_addresses_has(&nc->addresses, old) &&
		    pod_addresses_in_range(&nc->addresses, old)) {
			addrs[f] = *old;
			pod_addresses_take(&nc->addresses, old, pod->uid);
		} else if (pod_addresses_allocate(&nc->addresses, (enum dp_family)f, pod->uid, &addrs[f]) < 0) {
			addresses_release(nc, addrs, pod->uid);
			return err_set(err, -ENOSPC, "no %s address is free in the pod range",
				       f == DP_V4 ? "IPv4" : "IPv6");
		}
	}
	memcpy(ret, addrs, sizeof(addrs));
	return 0;
}

static void pod_texts(const struct netctl *nc, const struct net_pod *pod, struct netctl_addresses *ret)
{
	ret->n = 0;
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct dp_addr *a = &pod->addrs[(nc->primary + i) % DP_FAMILIES];

		if (!address_is_zero(a))
			address_format(a, ret->texts[ret->n++]);
	}
}

int netctl_pod_attach(struct netctl *nc, const struct object *o, const char *netns_path, struct netctl_addresses *ret,
		      struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod = model_pod(&nc->model, o->uid);
	struct dp_pod link = { .key = arena_strndup(&arena, o->uid.p, o->uid.n), .netns_path = netns_path };
	bool fresh;
	int r;

	if (!pod)
		pod = model_set_pod(&nc->model, registry_parse(&arena, o));
	if (pod->host_network)
		return err_set(err, -EINVAL, "a pod on the host's network is not attached");
	r = bandwidth_parse(registry_parse(&arena, o), &link.ingress_bits_s, &link.egress_bits_s, err);
	if (r < 0)
		return r;
	fresh = !pod->attached;
	memcpy(link.addrs, pod->addrs, sizeof(link.addrs));
	r = fresh ? pod_give_addresses(nc, pod, link.addrs, err) : 0;
	if (r < 0)
		return r;
	model_attach_pod(&nc->model, pod, link.addrs);
	/* What others may send to this identity, and what this pod may do, stands before its first packet. */
	r = policies_sync(nc, pod, err);
	if (r == 0) {
		link.identity = pod->identity;
		r = dataplane_pod_attach(nc->dp, &link, err);
	}
	dataplane_pressure_pod(nc->dp, link.key, r);
	if (r < 0) {
		if (fresh)
			netctl_pod_detach(nc, o->uid, NULL);
		netctl_tell_pressure(nc);
		return err_wrap(err, r, "attach pod to the network");
	}
	netctl_host_ports_touch(nc, o->uid);
	pod->ingress_bits_s = link.ingress_bits_s;
	pod->egress_bits_s = link.egress_bits_s;
	pod_texts(nc, pod, ret);
	return 0;
}

int netctl_pod_detach(struct netctl *nc, struct str pod_uid, struct err *err)
{
	struct net_pod *pod = model_pod(&nc->model, pod_uid);
	_cleanup_free_ char *key = str_dup(pod_uid);
	int r;

	if (!pod || !pod->attached)
		return 0;
	r = dataplane_pod_detach(nc->dp, key, pod->addrs, err);
	if (r < 0)
		return r;
	policy_sync_forget(&nc->policy, str_of(key), pod->addrs);
	addresses_release(nc, pod->addrs, str_of(key));
	gone_pod(nc, pod->addrs);
	netctl_host_ports_touch(nc, str_of(key));
	model_detach_pod(&nc->model, pod);
	if (!registry_by_uid(nc->reg, str_of(key)))
		model_remove_pod(&nc->model, str_of(key));
	nc->policies_dirty = true;
	netctl_schedule(nc);
	return 0;
}

void netctl_free_pods(struct netctl *nc)
{
	model_finish(&nc->model);
	if (nc->policy_timer.fn)
		loop_timer_cancel(nc->loop, &nc->policy_timer);
	policy_sync_finish(&nc->policy);
	pod_addresses_finish(&nc->addresses);
}
