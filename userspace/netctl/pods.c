/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of this node: addresses, identities, links, and the policy of each. The model says which pods a change can
 * affect; here they are translated and what differs is written. */
#include <errno.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/policy.h"

/* What the kernel was told of a pod. */
struct pod_mark {
	uint32_t identity; /* 0: nothing yet */
	bool has_policy, ingress, egress;
	struct dp_addr addrs[DP_FAMILIES];
	size_t n_rules;
	uint8_t digest[SHA256_LEN];
};

/* ---- policy ---- */

static struct pod_mark *pod_mark(struct netctl *nc, struct str uid)
{
	struct pod_mark *mark = map_get(&nc->marks, uid);

	if (!mark) {
		mark = mem_new(struct pod_mark);
		map_put(&nc->marks, uid, mark);
	}
	return mark;
}

static bool mark_equal(const struct pod_mark *a, const struct pod_mark *b)
{
	return a->has_policy == b->has_policy && a->ingress == b->ingress && a->egress == b->egress &&
	       a->n_rules == b->n_rules && memcmp(a->addrs, b->addrs, sizeof(a->addrs)) == 0 &&
	       memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

static int policy_write(struct netctl *nc, const struct net_pod *pod, const struct policy_result *p, struct err *err)
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct dp_policy policy = { pod->addrs[f], p->isolated_ingress, p->isolated_egress, p->rules,
						  p->n_rules };
		int r = address_is_zero(&pod->addrs[f]) ? 0 : dataplane_policy_set(nc->dp, &policy, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int policy_install(struct netctl *nc, struct net_pod *pod, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct pod_mark *old = pod_mark(nc, pod->uid), now;
	struct policy_result p = { 0 };
	int r;

	if (!nc->no_policy)
		policy_translate(&arena, &nc->model, pod, &p);
	now = (struct pod_mark){ .identity = old->identity,
				 .has_policy = true,
				 .ingress = p.isolated_ingress,
				 .egress = p.isolated_egress,
				 .n_rules = p.n_rules };
	memcpy(now.addrs, pod->addrs, sizeof(now.addrs));
	sha256(p.rules, p.n_rules * sizeof(*p.rules), now.digest);
	if (!mark_equal(old, &now)) {
		if (p.truncated)
			log_warn(
				"policies of a pod have more rules than it may have, some are left out pod=%.*s/%.*s max=%d",
				STR_ARG(pod->ns), STR_ARG(pod->name), POLICY_RULES_MAX);
		r = policy_write(nc, pod, &p, err);
		if (r < 0) {
			nc->stats.errors++;
			return r;
		}
		nc->stats.policy_syncs++;
		*old = now;
	}
	pod->stale = false;
	return 0;
}

static void identity_install(struct netctl *nc, struct net_pod *pod)
{
	struct pod_mark *mark = pod_mark(nc, pod->uid);
	_cleanup_err_ struct err err = ERR_INIT;

	if (mark->identity == pod->identity)
		return;
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (address_is_zero(&pod->addrs[f]) ||
		    dataplane_identity_set(nc->dp, &pod->addrs[f], pod->identity, &err) == 0)
			continue;
		nc->stats.errors++;
		log_warn("identity not installed pod=%.*s/%.*s error=\"%s\"", STR_ARG(pod->ns), STR_ARG(pod->name),
			 err_message(&err));
		return;
	}
	mark->identity = pod->identity;
}

/* Policy and identity of addresses that nobody has any more. */
static void policy_forget(struct netctl *nc, const struct dp_addr addrs[static DP_FAMILIES])
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (address_is_zero(&addrs[f]))
			continue;
		dataplane_policy_delete(nc->dp, &addrs[f], NULL);
		dataplane_identity_delete(nc->dp, &addrs[f], NULL);
	}
}

/* The order keeps changes safe: first every policy knows the new identities, then addresses take them. What could
 * not be written stays stale and is tried again with the next change. */
void netctl_sync_policies(struct netctl *nc)
{
	struct list *pods = &nc->model.pods;

	if (!nc->policies_dirty)
		return;
	nc->policies_dirty = false;
	list_foreach(target, pods, struct net_pod, link) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (target->stale && target->attached && !target->virtual && policy_install(nc, target, &err) < 0)
			log_warn("policy not installed pod=%.*s/%.*s error=\"%s\"", STR_ARG(target->ns),
				 STR_ARG(target->name), err_message(&err));
	}
	list_foreach(peer, pods, struct net_pod, link)
		if (peer->attached)
			identity_install(nc, peer);
}

void netctl_pod_changed(struct netctl *nc, const struct object *o, bool removed)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod = model_pod(&nc->model, o->uid);

	/* A removed pod that still has its link stays a peer until the kubelet detaches it. */
	if (!removed)
		model_set_pod(&nc->model, registry_parse(&arena, o));
	else if (!(pod && pod->attached))
		model_remove_pod(&nc->model, o->uid);
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

static void adopt_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	struct netctl *nc = arg;
	struct net_pod *pod = model_pod(&nc->model, str_of(key));

	addresses_take(nc, addrs, str_of(key));
	if (pod)
		model_attach_pod(&nc->model, pod, addrs);
}

void netctl_adopt_links(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (dataplane_pod_each(nc->dp, adopt_link, nc, &err) < 0)
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
		policy_forget(nc, l->addrs);
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
	fresh = !pod->attached;
	memcpy(link.addrs, pod->addrs, sizeof(link.addrs));
	r = fresh ? pod_give_addresses(nc, pod, link.addrs, err) : 0;
	if (r < 0)
		return r;
	model_attach_pod(&nc->model, pod, link.addrs);
	/* What others may send to this identity, and what this pod may do, stands before its first packet. */
	nc->policies_dirty = true;
	r = policy_install(nc, pod, err);
	if (r == 0) {
		netctl_sync_policies(nc);
		link.identity = pod->identity;
		r = dataplane_pod_attach(nc->dp, &link, err);
	}
	if (r < 0) {
		if (fresh)
			netctl_pod_detach(nc, o->uid, NULL);
		return err_wrap(err, r, "attach pod to the network");
	}
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
	policy_forget(nc, pod->addrs);
	free(map_remove(&nc->marks, str_of(key)));
	addresses_release(nc, pod->addrs, str_of(key));
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
	map_foreach(mark, &nc->marks)
		free(mark->value);
	map_finish(&nc->marks);
	pod_addresses_finish(&nc->addresses);
}
