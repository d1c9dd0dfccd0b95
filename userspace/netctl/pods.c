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

#define ADDRESS_FIRST 2 /* .0 is the network, .1 is left to the host */
#define ADDRESS_SEARCH_MAX 1048576

/* What the kernel was told of a pod. */
struct pod_mark {
	uint32_t identity; /* 0: nothing yet */
	bool has_policy, ingress, egress;
	struct dp_addr addr;
	size_t n_rules;
	uint8_t digest[SHA256_LEN];
};

/* ---- addresses ---- */

static struct str address_key(const struct dp_addr *a)
{
	return str_make((const char *)a->b, sizeof(a->b));
}

static void address_take(struct netctl *nc, const struct dp_addr *a, struct str uid)
{
	free(map_put(&nc->addresses, address_key(a), str_dup(uid)));
}

static void address_release(struct netctl *nc, const struct dp_addr *a, struct str uid)
{
	const char *owner = map_get(&nc->addresses, address_key(a));

	if (owner && str_is(uid, owner))
		free(map_remove(&nc->addresses, address_key(a)));
}

static void address_at(const struct netctl *nc, uint64_t n, struct dp_addr *ret)
{
	*ret = nc->pod_cidr;
	for (int i = 15; i >= 8 && n; i--, n >>= 8)
		ret->b[i] |= (uint8_t)n;
}

/* The search goes on behind the addresses that are in use already. */
static void address_seen(struct netctl *nc, const struct dp_addr *a)
{
	uint64_t n = 0;

	for (int i = 8; i < 16; i++)
		n = n << 8 | (uint8_t)(a->b[i] & ~nc->pod_cidr.b[i]);
	if (address_in(a, &nc->pod_cidr, nc->pod_prefix) && n < ADDRESS_SEARCH_MAX && n >= nc->cursor)
		nc->cursor = n + 1;
}

static int address_allocate(struct netctl *nc, struct str uid, struct dp_addr *ret)
{
	unsigned bits = 128u - nc->pod_prefix;
	uint64_t size = bits > 20 ? ADDRESS_SEARCH_MAX : 1ull << bits;

	for (uint64_t i = 0; i < size; i++) {
		uint64_t n = (nc->cursor + i) % size;

		/* Reuse comes late: a peer may still hold connections to the one who had it. */
		if (n < ADDRESS_FIRST || n == size - 1)
			continue;
		address_at(nc, n, ret);
		if (map_has(&nc->addresses, address_key(ret)))
			continue;
		nc->cursor = n + 1;
		address_take(nc, ret, uid);
		return 0;
	}
	return -ENOSPC;
}

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
	       a->n_rules == b->n_rules && address_equal(&a->addr, &b->addr) &&
	       memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

static int policy_install(struct netctl *nc, struct net_pod *pod, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct pod_mark *old = pod_mark(nc, pod->uid), now;
	struct policy_result p = { 0 };
	struct dp_policy policy;
	int r;

	if (!nc->no_policy)
		policy_translate(&arena, &nc->model, pod, &p);
	now = (struct pod_mark){ .identity = old->identity,
				 .has_policy = true,
				 .ingress = p.isolated_ingress,
				 .egress = p.isolated_egress,
				 .addr = pod->addr,
				 .n_rules = p.n_rules };
	sha256(p.rules, p.n_rules * sizeof(*p.rules), now.digest);
	if (!mark_equal(old, &now)) {
		if (p.truncated)
			log_warn(
				"policies of a pod have more rules than it may have, some are left out pod=%.*s/%.*s max=%d",
				STR_ARG(pod->ns), STR_ARG(pod->name), POLICY_RULES_MAX);
		policy = (struct dp_policy){ pod->addr, p.isolated_ingress, p.isolated_egress, p.rules, p.n_rules };
		r = dataplane_policy_set(nc->dp, &policy, err);
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
	if (dataplane_identity_set(nc->dp, &pod->addr, pod->identity, &err) < 0) {
		nc->stats.errors++;
		log_warn("identity not installed pod=%.*s/%.*s error=\"%s\"", STR_ARG(pod->ns), STR_ARG(pod->name),
			 err_message(&err));
		return;
	}
	mark->identity = pod->identity;
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

	if (!nc->has_dns || json_parse(&arena, STR(text), 0, &v, NULL) < 0)
		return;
	pod = model_set_pod(&nc->model, v);
	pod->virtual = true;
	model_attach_pod(&nc->model, pod, &nc->dns_addr);
	nc->policies_dirty = true;
}

/* ---- links ---- */

static void adopt_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	const struct dp_addr *addr = &addrs[DP_V4];
	struct netctl *nc = arg;
	struct net_pod *pod = model_pod(&nc->model, str_of(key));

	address_take(nc, addr, str_of(key));
	address_seen(nc, addr);
	if (pod)
		model_attach_pod(&nc->model, pod, addr);
}

void netctl_adopt_links(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (dataplane_pod_each(nc->dp, adopt_link, nc, &err) < 0)
		log_warn("links of an earlier run not read error=\"%s\"", err_message(&err));
	nc->policies_dirty = true;
}

struct stale_links {
	struct netctl *nc;
	char **keys;
	struct dp_addr *addrs;
	size_t n, cap_keys, cap_addrs;
};

static void stale_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	struct stale_links *s = arg;

	if (model_pod(&s->nc->model, str_of(key)))
		return;
	mem_grow(s->keys, s->cap_keys, s->n + 1);
	mem_grow(s->addrs, s->cap_addrs, s->n + 1);
	s->keys[s->n] = mem_strdup(key);
	s->addrs[s->n++] = addrs[DP_V4];
}

static void stale_policy(void *arg, const struct dp_policy_info *p)
{
	struct stale_links *s = arg;

	if (map_has(&s->nc->addresses, address_key(&p->pod)) ||
	    (s->nc->has_dns && address_equal(&p->pod, &s->nc->dns_addr)))
		return;
	mem_grow(s->keys, s->cap_keys, s->n + 1);
	mem_grow(s->addrs, s->cap_addrs, s->n + 1);
	s->keys[s->n] = NULL;
	s->addrs[s->n++] = p->pod;
}

/* Also what a server left that died between the steps of a detach. */
void netctl_prune_links(struct netctl *nc)
{
	struct stale_links s = { .nc = nc };

	dataplane_pod_each(nc->dp, stale_link, &s, NULL);
	dataplane_policy_each(nc->dp, stale_policy, &s, NULL);
	for (size_t i = 0; i < s.n; i++) {
		if (s.keys[i]) {
			log_info("link of a vanished pod removed pod=%s", s.keys[i]);
			dataplane_pod_detach(nc->dp, s.keys[i], &s.addrs[i], NULL);
			address_release(nc, &s.addrs[i], str_of(s.keys[i]));
		}
		dataplane_policy_delete(nc->dp, &s.addrs[i], NULL);
		dataplane_identity_delete(nc->dp, &s.addrs[i], NULL);
		free(s.keys[i]);
	}
	free(s.keys);
	free(s.addrs);
}

int netctl_pod_attach(struct netctl *nc, const struct object *o, const char *netns_path,
		      char ret_address[static NETCTL_ADDRESS_MAX], struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod = model_pod(&nc->model, o->uid);
	const char *key = arena_strndup(&arena, o->uid.p, o->uid.n);
	struct dp_addr addr;
	struct dp_pod link;
	bool fresh;
	int r;

	if (!pod)
		pod = model_set_pod(&nc->model, registry_parse(&arena, o));
	if (pod->host_network)
		return err_set(err, -EINVAL, "a pod on the host's network is not attached");
	fresh = !pod->attached;
	addr = pod->addr;
	/* The address in an old status is taken again only while nobody else has it. */
	if (fresh && pod->has_addr && !map_has(&nc->addresses, address_key(&addr)) &&
	    address_in(&addr, &nc->pod_cidr, nc->pod_prefix))
		address_take(nc, &addr, pod->uid);
	else if (fresh && address_allocate(nc, pod->uid, &addr) < 0)
		return err_set(err, -ENOSPC, "no address is free in the pod range");
	model_attach_pod(&nc->model, pod, &addr);
	/* What others may send to this identity, and what this pod may do, stands before its first packet. */
	nc->policies_dirty = true;
	r = policy_install(nc, pod, err);
	if (r == 0) {
		netctl_sync_policies(nc);
		link = (struct dp_pod){
			.key = key, .addrs = { pod->addr }, .identity = pod->identity, .netns_path = netns_path
		};
		r = dataplane_pod_attach(nc->dp, &link, err);
	}
	if (r < 0) {
		if (fresh)
			netctl_pod_detach(nc, o->uid, NULL);
		return err_wrap(err, r, "attach pod to the network");
	}
	address_format(&pod->addr, ret_address);
	return 0;
}

int netctl_pod_detach(struct netctl *nc, struct str pod_uid, struct err *err)
{
	struct net_pod *pod = model_pod(&nc->model, pod_uid);
	_cleanup_free_ char *key = str_dup(pod_uid);
	int r;

	if (!pod || !pod->attached)
		return 0;
	r = dataplane_pod_detach(nc->dp, key, &pod->addr, err);
	if (r < 0)
		return r;
	dataplane_policy_delete(nc->dp, &pod->addr, NULL);
	dataplane_identity_delete(nc->dp, &pod->addr, NULL);
	free(map_remove(&nc->marks, str_of(key)));
	address_release(nc, &pod->addr, str_of(key));
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
	map_foreach(owner, &nc->addresses)
		free(owner->value);
	map_finish(&nc->addresses);
}
