/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of this node: addresses, identities, links, and the policy of each. An identity is a stable number of
 * (namespace, labels): stable over restarts, so that adopted maps stay true while they are gone over. */
#include <errno.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/policy.h"

#define ADDRESS_FIRST 2           /* .0 is the network, .1 is left to the host */
#define ADDRESS_SEARCH_MAX 1048576
#define IDENTITY_MASK 0x7fffffffu      /* the dataplane keeps the top bit for itself */

struct policy_mark {
	struct dp_addr addr;
	bool ingress, egress;
	size_t n_rules;
	uint8_t digest[SHA256_LEN];
};

/* ---- identities ---- */

static int label_cmp(const void *a, const void *b)
{
	return str_cmp(((const struct api_label *)a)->key, ((const struct api_label *)b)->key);
}

static uint32_t identity_of(struct netctl *nc, const struct net_pod *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct api_label *labels = arena_new_array(&arena, struct api_label, pod->n_labels);
	uint32_t id;

	if (pod->n_labels)
		memcpy(labels, pod->labels, pod->n_labels * sizeof(*labels));
	qsort(labels, pod->n_labels, sizeof(*labels), label_cmp);
	buf_add_str(&text, pod->ns);
	for (size_t i = 0; i < pod->n_labels; i++) {
		buf_add_char(&text, '\n');
		buf_add_str(&text, labels[i].key);
		buf_add_char(&text, '=');
		buf_add_str(&text, labels[i].value);
	}
	id = (uint32_t)(uintptr_t)map_get(&nc->identities, buf_str(&text));
	if (id)
		return id;
	/* Two label sets must never share a number: the next free one is taken. */
	id = fnv32a(buf_str(&text).p, buf_len(&text)) & IDENTITY_MASK;
	while (!id || map_has(&nc->identity_ids, str_make((const char *)&id, sizeof(id))))
		id = (id + 1) & IDENTITY_MASK;
	map_put(&nc->identities, buf_str(&text), (void *)(uintptr_t)id);
	map_put(&nc->identity_ids, str_make((const char *)&id, sizeof(id)), nc);
	return id;
}

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

static void policy_digest(const struct policy_result *p, const struct dp_addr *addr, struct policy_mark *ret)
{
	*ret = (struct policy_mark){ .addr = *addr, .ingress = p->isolated_ingress, .egress = p->isolated_egress,
				     .n_rules = p->n_rules };
	sha256(p->rules, p->n_rules * sizeof(*p->rules), ret->digest);
}

static int policy_install(struct netctl *nc, struct net_pod *pod, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_mark mark, *old = map_get(&nc->installed, pod->uid);
	struct policy_result p = { 0 };
	struct dp_policy policy;
	int r;

	if (!nc->no_policy)
		policy_translate(&arena, &nc->model, pod, &p);
	policy_digest(&p, &pod->addr, &mark);
	if (old && memcmp(old, &mark, sizeof(mark)) == 0)
		return 0;
	policy = (struct dp_policy){ pod->addr, p.isolated_ingress, p.isolated_egress, p.rules, p.n_rules };
	r = dataplane_policy_set(nc->dp, &policy, err);
	if (r < 0) {
		nc->stats.errors++;
		return r;
	}
	nc->stats.policy_syncs++;
	if (!old) {
		old = mem_new(struct policy_mark);
		map_put(&nc->installed, pod->uid, old);
	}
	*old = mark;
	return 0;
}

static bool pod_is_peer(const struct net_pod *pod)
{
	return pod->has_addr && !pod->host_network;
}

/* The order keeps changes safe: first every policy knows the new identities, then addresses take them. */
void netctl_sync_policies(struct netctl *nc)
{
	struct list *pods = &nc->model.pods;

	if (!nc->policies_dirty)
		return;
	nc->policies_dirty = false;
	list_foreach(pod, pods, struct net_pod, link)
		pod->identity = pod_is_peer(pod) ? identity_of(nc, pod) : 0;
	list_foreach(target, pods, struct net_pod, link) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (target->attached && !target->virtual && policy_install(nc, target, &err) < 0)
			log_warn("policy not installed pod=%.*s/%.*s error=\"%s\"", STR_ARG(target->ns), STR_ARG(target->name),
				 err_message(&err));
	}
	list_foreach(peer, pods, struct net_pod, link)
		if (peer->attached && peer->identity)
			dataplane_identity_set(nc->dp, &peer->addr, peer->identity, NULL);
}

void netctl_pod_changed(struct netctl *nc, const struct object *o, bool removed)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod = model_pod(&nc->model, o->uid);

	if (removed && !(pod && pod->attached))
		model_remove_pod(&nc->model, o->uid);
	/* A removed pod that still has its link stays a peer until the kubelet detaches it. */
	if (!removed)
		model_set_pod(&nc->model, registry_parse(&arena, o));
	nc->policies_dirty = true;
	netctl_schedule(nc);
}

void netctl_add_dns_pod(struct netctl *nc)
{
	static const char text[] = "{\"metadata\":{\"name\":\"kube-dns\",\"namespace\":\"kube-system\",\"uid\":\"cluster-dns\","
				   "\"labels\":{\"k8s-app\":\"kube-dns\"}},\"spec\":{\"containers\":[{\"ports\":["
				   "{\"name\":\"dns\",\"protocol\":\"UDP\",\"containerPort\":53},"
				   "{\"name\":\"dns-tcp\",\"protocol\":\"TCP\",\"containerPort\":53}]}]}}";
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_pod *pod;
	struct json *v;

	if (!nc->has_dns || json_parse(&arena, STR(text), 0, &v, NULL) < 0)
		return;
	pod = model_set_pod(&nc->model, v);
	pod->addr = nc->dns_addr;
	pod->has_addr = pod->virtual = pod->attached = true;
	nc->policies_dirty = true;
}

/* ---- links ---- */

static void adopt_link(void *arg, const char *key, const struct dp_addr *addr)
{
	struct netctl *nc = arg;
	struct net_pod *pod = model_pod(&nc->model, str_of(key));

	address_take(nc, addr, str_of(key));
	if (!pod)
		return;
	pod->addr = *addr;
	pod->has_addr = pod->attached = true;
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

static void stale_link(void *arg, const char *key, const struct dp_addr *addr)
{
	struct stale_links *s = arg;

	if (model_pod(&s->nc->model, str_of(key)))
		return;
	mem_grow(s->keys, s->cap_keys, s->n + 1);
	mem_grow(s->addrs, s->cap_addrs, s->n + 1);
	s->keys[s->n] = mem_strdup(key);
	s->addrs[s->n++] = *addr;
}

void netctl_prune_links(struct netctl *nc)
{
	struct stale_links s = { .nc = nc };

	dataplane_pod_each(nc->dp, stale_link, &s, NULL);
	for (size_t i = 0; i < s.n; i++) {
		log_info("link of a vanished pod removed pod=%s", s.keys[i]);
		dataplane_pod_detach(nc->dp, s.keys[i], &s.addrs[i], NULL);
		dataplane_policy_delete(nc->dp, &s.addrs[i], NULL);
		dataplane_identity_delete(nc->dp, &s.addrs[i], NULL);
		address_release(nc, &s.addrs[i], str_of(s.keys[i]));
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
	struct dp_pod link;
	bool fresh;
	int r;

	if (!pod)
		pod = model_set_pod(&nc->model, registry_parse(&arena, o));
	fresh = !pod->attached;
	/* The address in an old status is taken again only while nobody else has it. */
	if (fresh && pod->has_addr && !map_has(&nc->addresses, address_key(&pod->addr)) &&
	    address_in(&pod->addr, &nc->pod_cidr, nc->pod_prefix))
		address_take(nc, &pod->addr, pod->uid);
	else if (fresh && address_allocate(nc, pod->uid, &pod->addr) < 0)
		return err_set(err, -ENOSPC, "no address is free in the pod range");
	pod->has_addr = pod->attached = true;
	pod->identity = identity_of(nc, pod);
	/* What others may send to this identity, and what this pod may do, stands before its first packet. */
	nc->policies_dirty = true;
	r = policy_install(nc, pod, err);
	if (r == 0) {
		netctl_sync_policies(nc);
		link = (struct dp_pod){ key, pod->addr, pod->identity, netns_path };
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
	free(map_remove(&nc->installed, pod_uid));
	address_release(nc, &pod->addr, pod_uid);
	pod->attached = pod->has_addr = false;
	pod->identity = 0;
	if (!registry_by_uid(nc->reg, pod_uid))
		model_remove_pod(&nc->model, pod_uid);
	nc->policies_dirty = true;
	netctl_schedule(nc);
	return 0;
}

void netctl_free_pods(struct netctl *nc)
{
	model_finish(&nc->model);
	map_finish(&nc->identities);
	map_finish(&nc->identity_ids);
	map_foreach(mark, &nc->installed)
		free(mark->value);
	map_finish(&nc->installed);
	map_foreach(owner, &nc->addresses)
		free(owner->value);
	map_finish(&nc->addresses);
}
