/* SPDX-License-Identifier: Apache-2.0 */
/* See model.h. */
#include "userspace/netctl/model.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/policy.h"

void model_init(struct net_model *m)
{
	*m = (struct net_model){ 0 };
	list_init(&m->pods);
	list_init(&m->namespaces);
}

static uint8_t model_proto(struct str proto)
{
	if (str_is(proto, "UDP"))
		return IPPROTO_UDP;
	if (str_is(proto, "SCTP"))
		return IPPROTO_SCTP;
	return IPPROTO_TCP;
}

static void model_labels(struct arena *arena, const struct json *object, struct api_label **ret, size_t *ret_n)
{
	const struct json *labels = json_at(object, "metadata.labels");
	size_t n = 0;

	*ret = arena_new_array(arena, struct api_label, json_count(labels));
	json_foreach(l, labels) {
		(*ret)[n].key = arena_str(arena, l->key);
		(*ret)[n++].value = arena_str(arena, json_str(l));
	}
	*ret_n = n;
}

/* ---- namespaces ---- */

static struct net_namespace *model_home(struct net_model *m, struct str name)
{
	struct net_namespace *n = map_get(&m->namespaces_by_name, name);

	if (n)
		return n;
	n = mem_new(struct net_namespace);
	n->name = str_dup(name);
	list_init(&n->pods);
	list_init(&n->policies);
	map_put(&m->namespaces_by_name, name, n);
	list_add_tail(&m->namespaces, &n->link);
	return n;
}

static void model_leave_home(struct net_model *m, struct net_namespace *n)
{
	if (n->exists || !list_empty(&n->pods) || !list_empty(&n->policies))
		return;
	map_remove(&m->namespaces_by_name, str_of(n->name));
	list_del(&n->link);
	arena_finish(&n->arena);
	free(n->name);
	free(n);
}

static bool model_same_labels(const struct api_label *a, size_t n_a, const struct api_label *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (!str_eq(a[i].key, b[i].key) || !str_eq(a[i].value, b[i].value))
			return false;
	return true;
}

void model_set_namespace(struct net_model *m, const struct json *ns)
{
	struct net_namespace *n = model_home(m, meta_name(ns));
	struct arena arena = ARENA_INIT;
	struct api_label *labels;
	size_t n_labels;

	model_labels(&arena, ns, &labels, &n_labels);
	if (n->exists && model_same_labels(n->labels, n->n_labels, labels, n_labels)) {
		arena_finish(&arena);
		return;
	}
	policy_mark_namespace(m, n);
	arena_finish(&n->arena);
	n->arena = arena;
	n->labels = labels;
	n->n_labels = n_labels;
	n->exists = true;
	policy_mark_namespace(m, n);
}

void model_remove_namespace(struct net_model *m, struct str name)
{
	struct net_namespace *n = map_get(&m->namespaces_by_name, name);

	if (!n)
		return;
	policy_mark_namespace(m, n);
	n->exists = false;
	n->labels = NULL;
	n->n_labels = 0;
	model_leave_home(m, n);
}

/* ---- pods ---- */

static void model_container_ports(struct net_pod *p, const struct json *container)
{
	json_foreach(port, json_get(container, "ports"))
		if (json_get_str(port, "name").n)
			p->ports[p->n_ports++] = (struct net_named_port){
				arena_str(&p->arena, json_get_str(port, "name")),
				model_proto(json_get_str(port, "protocol")),
				(uint16_t)json_get_int(port, "containerPort", 0),
			};
}

/* Those of init containers count only where these go on running as sidecars. */
static void model_pod_ports(struct net_pod *p, const struct json *spec)
{
	static const char *const lists[] = { "containers", "initContainers" };
	size_t cap = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i]))
			cap += json_count(json_get(c, "ports"));
	p->ports = arena_new_array(&p->arena, struct net_named_port, cap);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i]))
			if (i == 0 || str_is(json_get_str(c, "restartPolicy"), "Always"))
				model_container_ports(p, c);
}

struct net_pod *model_pod(const struct net_model *m, struct str uid)
{
	return map_get(&m->pods_by_uid, uid);
}

static void model_free_pod(struct net_model *m, struct net_pod *p)
{
	identity_release(&m->identities, p->identity);
	list_del(&p->link);
	list_del(&p->in_home);
	if (p->home)
		model_leave_home(m, p->home);
	arena_finish(&p->arena);
	free(p);
}

static bool model_same_pod(const struct net_pod *a, const struct net_pod *b)
{
	if (a->host_network != b->host_network || a->has_addr != b->has_addr || a->n_ports != b->n_ports ||
	    memcmp(a->addrs, b->addrs, sizeof(a->addrs)) != 0 ||
	    !model_same_labels(a->labels, a->n_labels, b->labels, b->n_labels))
		return false;
	for (size_t i = 0; i < a->n_ports; i++)
		if (!str_eq(a->ports[i].name, b->ports[i].name) || a->ports[i].proto != b->ports[i].proto ||
		    a->ports[i].port != b->ports[i].port)
			return false;
	return true;
}

static void model_pod_address(struct net_pod *p, struct str ip)
{
	struct dp_addr a;

	if (address_parse(ip, &a) < 0 || !address_is_zero(&p->addrs[address_family(&a)]))
		return;
	p->addrs[address_family(&a)] = a;
	p->has_addr = true;
}

static struct net_pod *model_parse_pod(const struct json *pod, const struct net_pod *old)
{
	struct net_pod *p = mem_new(struct net_pod);
	const struct json *spec = json_get(pod, "spec");
	const struct json *status = json_get(pod, "status");
	struct str phase = json_get_str(status, "phase");

	list_init(&p->link);
	list_init(&p->in_home);
	p->uid = arena_str(&p->arena, meta_uid(pod));
	p->ns = arena_str(&p->arena, meta_namespace(pod));
	p->name = arena_str(&p->arena, meta_name(pod));
	model_labels(&p->arena, pod, &p->labels, &p->n_labels);
	model_pod_ports(p, spec);
	p->host_network = json_get_bool(spec, "hostNetwork", false);
	p->ended = str_is(phase, "Succeeded") || str_is(phase, "Failed");
	if (p->host_network)
		return p;
	if (old && old->attached) {
		memcpy(p->addrs, old->addrs, sizeof(p->addrs));
		p->has_addr = p->attached = true;
		p->virtual = old->virtual;
		p->ingress_bits_s = old->ingress_bits_s;
		p->egress_bits_s = old->egress_bits_s;
		p->bandwidth_refused = old->bandwidth_refused;
	} else if (!p->ended) {
		/* The addresses of a finished pod may be another's by now. */
		model_pod_address(p, json_get_str(status, "podIP"));
		json_foreach(ip, json_get(status, "podIPs"))
			model_pod_address(p, json_get_str(ip, "ip"));
	}
	return p;
}

struct net_pod *model_set_pod(struct net_model *m, const struct json *pod)
{
	struct net_pod *old = model_pod(m, meta_uid(pod)), *p = model_parse_pod(pod, old);

	if (old && model_same_pod(old, p)) {
		old->ended = p->ended;
		model_free_pod(m, p);
		return old;
	}
	p->home = model_home(m, p->ns);
	p->identity = identity_take(&m->identities, p->ns, p->labels, p->n_labels, p->ports, p->n_ports);
	p->stale = true;
	map_put(&m->pods_by_uid, p->uid, p);
	/* In the place of the old one, so that rules keep their order. */
	list_add_tail(old ? &old->link : &m->pods, &p->link);
	list_add_tail(old ? &old->in_home : &p->home->pods, &p->in_home);
	if (old) {
		policy_mark_peer(m, old, POLICY_LEAVES);
		model_free_pod(m, old);
	}
	policy_mark_peer(m, p, POLICY_ARRIVES);
	return p;
}

void model_remove_pod(struct net_model *m, struct str uid)
{
	struct net_pod *p = map_remove(&m->pods_by_uid, uid);

	if (!p)
		return;
	policy_mark_peer(m, p, POLICY_LEAVES);
	model_free_pod(m, p);
}

void model_attach_pod(struct net_model *m, struct net_pod *pod, const struct dp_addr addrs[static DP_FAMILIES])
{
	bool moved = !pod->has_addr || memcmp(pod->addrs, addrs, sizeof(pod->addrs)) != 0;

	if (moved)
		policy_mark_peer(m, pod, POLICY_LEAVES);
	pod->stale = pod->stale || moved || !pod->attached;
	memcpy(pod->addrs, addrs, sizeof(pod->addrs));
	pod->has_addr = pod->attached = true;
	if (moved)
		policy_mark_peer(m, pod, POLICY_ARRIVES);
}

void model_detach_pod(struct net_model *m, struct net_pod *pod)
{
	policy_mark_peer(m, pod, POLICY_LEAVES);
	memset(pod->addrs, 0, sizeof(pod->addrs));
	pod->attached = pod->has_addr = false;
}

/* ---- policies ---- */

/* Validated when it was written; should one be bad all the same, it opens nothing. */
static void model_block(struct arena *arena, struct net_peer *p, const struct json *block)
{
	const struct json *excepts = json_get(block, "except");

	p->has_block = address_parse_prefix(json_get_str(block, "cidr"), &p->block.addr, &p->block.len) == 0;
	p->excepts = arena_new_array(arena, struct net_prefix, json_count(excepts));
	json_foreach(e, excepts) {
		struct net_prefix x;

		if (address_parse_prefix(json_str(e), &x.addr, &x.len) < 0 ||
		    (x.len <= p->block.len && address_in(&p->block.addr, &x.addr, x.len)))
			p->has_block = false;
		else if (x.len > p->block.len && address_in(&x.addr, &p->block.addr, p->block.len))
			p->excepts[p->n_excepts++] = x;
	}
}

static void model_peer(struct arena *arena, struct net_peer *p, const struct json *peer)
{
	const struct json *pods = json_get(peer, "podSelector"), *namespaces = json_get(peer, "namespaceSelector");
	const struct json *block = json_get(peer, "ipBlock");

	/* Validated when it was written: a selector that does not compile selects nothing. */
	if (pods) {
		p->has_pods = true;
		if (selector_from_json(arena, pods, &p->pods, NULL) < 0)
			p->pods.nothing = true;
	}
	if (namespaces) {
		p->has_namespaces = true;
		if (selector_from_json(arena, namespaces, &p->namespaces, NULL) < 0)
			p->namespaces.nothing = true;
	}
	/* Validation allows it only alone. */
	if (block && !pods && !namespaces)
		model_block(arena, p, block);
}

static void model_rule(struct arena *arena, struct net_rule *r, const struct json *rule, const char *peers_key)
{
	const struct json *peers = json_get(rule, peers_key), *ports = json_get(rule, "ports");

	r->peers = arena_new_array(arena, struct net_peer, json_count(peers));
	json_foreach(peer, peers)
		model_peer(arena, &r->peers[r->n_peers++], peer);
	r->ports = arena_new_array(arena, struct net_port, json_count(ports));
	json_foreach(port, ports) {
		struct net_port *p = &r->ports[r->n_ports++];
		const struct json *number = json_get(port, "port");

		p->proto = model_proto(json_get_str(port, "protocol"));
		if (json_is(number, JSON_STRING))
			p->name = arena_str(arena, json_str(number));
		p->port = (uint16_t)json_int(number, 0);
		p->end_port = (uint16_t)json_get_int(port, "endPort", 0);
	}
}

static void model_rules(struct arena *arena, const struct json *rules, const char *peers_key, struct net_rule **ret,
			size_t *ret_n)
{
	size_t n = 0;

	*ret = arena_new_array(arena, struct net_rule, json_count(rules));
	json_foreach(rule, rules)
		model_rule(arena, &(*ret)[n++], rule, peers_key);
	*ret_n = n;
}

static bool model_rules_name_port(const struct net_rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < rules[i].n_ports; k++)
			if (rules[i].ports[k].name.n)
				return true;
	return false;
}

static struct str model_key(struct arena *arena, struct str ns, struct str name)
{
	return str_of(arena_printf(arena, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name)));
}

static void model_free_rules(struct net_rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < rules[i].n_peers; k++)
			free(rules[i].peers[k].ids);
}

static void model_free_policy(struct net_model *m, struct net_policy *p)
{
	model_free_rules(p->ingress_rules, p->n_ingress_rules);
	model_free_rules(p->egress_rules, p->n_egress_rules);
	list_del(&p->link);
	model_leave_home(m, p->home);
	arena_finish(&p->arena);
	free(p);
}

static void model_policy_types(struct net_policy *p, const struct json *spec)
{
	const struct json *types = json_get(spec, "policyTypes");

	json_foreach(t, types) {
		p->ingress = p->ingress || str_is(json_str(t), "Ingress");
		p->egress = p->egress || str_is(json_str(t), "Egress");
	}
	if (!json_count(types)) {
		p->ingress = true;
		p->egress = json_count(json_get(spec, "egress")) > 0;
	}
}

void model_set_policy(struct net_model *m, const struct json *policy)
{
	struct net_policy *p = mem_new(struct net_policy), *old;
	const struct json *spec = json_get(policy, "spec");

	p->ns = arena_str(&p->arena, meta_namespace(policy));
	p->name = arena_str(&p->arena, meta_name(policy));
	p->home = model_home(m, p->ns);
	/* An absent podSelector is the empty one: every pod of the namespace. One that does not compile isolates every
	 * pod rather than none. */
	if (!json_get(spec, "podSelector") ||
	    selector_from_json(&p->arena, json_get(spec, "podSelector"), &p->selector, NULL) < 0)
		p->selector = (struct selector){ 0 };
	model_policy_types(p, spec);
	model_rules(&p->arena, json_get(spec, "ingress"), "from", &p->ingress_rules, &p->n_ingress_rules);
	p->named_ingress = model_rules_name_port(p->ingress_rules, p->n_ingress_rules);
	model_rules(&p->arena, json_get(spec, "egress"), "to", &p->egress_rules, &p->n_egress_rules);
	old = map_put(&m->policies_by_key, model_key(&p->arena, p->ns, p->name), p);
	list_add_tail(old ? &old->link : &p->home->policies, &p->link);
	if (old) {
		policy_mark_selected(old);
		model_free_policy(m, old);
	}
	policy_mark_selected(p);
}

void model_remove_policy(struct net_model *m, struct str ns, struct str name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_policy *p = map_remove(&m->policies_by_key, model_key(&arena, ns, name));

	if (!p)
		return;
	policy_mark_selected(p);
	model_free_policy(m, p);
}

void model_finish(struct net_model *m)
{
	list_foreach_safe(p, &m->pods, struct net_pod, link)
		model_free_pod(m, p);
	map_foreach(e, &m->policies_by_key)
		model_free_policy(m, e->value);
	list_foreach_safe(n, &m->namespaces, struct net_namespace, link) {
		n->exists = false;
		model_leave_home(m, n);
	}
	map_finish(&m->pods_by_uid);
	map_finish(&m->policies_by_key);
	map_finish(&m->namespaces_by_name);
	identities_finish(&m->identities);
}
