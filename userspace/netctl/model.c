/* SPDX-License-Identifier: Apache-2.0 */
/* See model.h. */
#include "userspace/netctl/model.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "userspace/netctl/address.h"

void model_init(struct net_model *m)
{
	*m = (struct net_model){ 0 };
	list_init(&m->pods);
	list_init(&m->policies);
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

/* ---- pods ---- */

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
			json_foreach(port, json_get(c, "ports"))
				if (json_get_str(port, "name").n)
					p->ports[p->n_ports++] = (struct net_named_port){
						arena_str(&p->arena, json_get_str(port, "name")),
						model_proto(json_get_str(port, "protocol")),
						(uint16_t)json_get_int(port, "containerPort", 0),
					};
}

struct net_pod *model_pod(const struct net_model *m, struct str uid)
{
	return map_get(&m->pods_by_uid, uid);
}

static void model_free_pod(struct net_pod *p)
{
	list_del(&p->link);
	arena_finish(&p->arena);
	free(p);
}

struct net_pod *model_set_pod(struct net_model *m, const struct json *pod)
{
	struct net_pod *p = mem_new(struct net_pod), *old;
	const struct json *spec = json_get(pod, "spec");
	struct str ip = json_at_str(pod, "status.podIP"), phase = json_at_str(pod, "status.phase");
	bool finished;

	p->uid = arena_str(&p->arena, meta_uid(pod));
	p->ns = arena_str(&p->arena, meta_namespace(pod));
	p->name = arena_str(&p->arena, meta_name(pod));
	model_labels(&p->arena, pod, &p->labels, &p->n_labels);
	model_pod_ports(p, spec);
	p->host_network = json_get_bool(spec, "hostNetwork", false);
	/* The address of a finished pod may be another's by now. */
	finished = str_is(phase, "Succeeded") || str_is(phase, "Failed");
	p->has_addr = !p->host_network && !finished && ip.n && address_parse(ip, &p->addr) == 0;
	old = map_put(&m->pods_by_uid, p->uid, p);
	if (old) {
		/* What the node gave it is known before the status says so. */
		if (!p->has_addr && old->attached && !p->host_network) {
			p->addr = old->addr;
			p->has_addr = true;
		}
		p->attached = old->attached;
		p->identity = old->identity;
		p->virtual = old->virtual;
		model_free_pod(old);
	}
	list_add_tail(&m->pods, &p->link);
	return p;
}

void model_remove_pod(struct net_model *m, struct str uid)
{
	struct net_pod *p = map_remove(&m->pods_by_uid, uid);

	if (p)
		model_free_pod(p);
}

/* ---- namespaces ---- */

static void model_free_namespace(struct net_namespace *n)
{
	if (n)
		arena_finish(&n->arena);
	free(n);
}

void model_set_namespace(struct net_model *m, const struct json *ns)
{
	struct net_namespace *n = mem_new(struct net_namespace);

	n->name = arena_str(&n->arena, meta_name(ns));
	model_labels(&n->arena, ns, &n->labels, &n->n_labels);
	model_free_namespace(map_put(&m->namespaces, n->name, n));
}

void model_remove_namespace(struct net_model *m, struct str name)
{
	model_free_namespace(map_remove(&m->namespaces, name));
}

/* ---- policies ---- */

static void model_block(struct arena *arena, struct net_peer *p, const struct json *block)
{
	const struct json *excepts = json_get(block, "except");

	p->has_block = address_parse_prefix(json_get_str(block, "cidr"), &p->block.addr, &p->block.len) == 0;
	p->excepts = arena_new_array(arena, struct net_prefix, json_count(excepts));
	json_foreach(e, excepts)
		if (p->n_excepts < NET_EXCEPTS_MAX &&
		    address_parse_prefix(json_str(e), &p->excepts[p->n_excepts].addr, &p->excepts[p->n_excepts].len) == 0)
			p->n_excepts++;
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
	if (block)
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

static struct str model_key(struct arena *arena, struct str ns, struct str name)
{
	return str_of(arena_printf(arena, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name)));
}

static void model_free_policy(struct net_policy *p)
{
	list_del(&p->link);
	arena_finish(&p->arena);
	free(p);
}

void model_set_policy(struct net_model *m, const struct json *policy)
{
	struct net_policy *p = mem_new(struct net_policy), *old;
	const struct json *spec = json_get(policy, "spec"), *types = json_get(spec, "policyTypes");

	p->ns = arena_str(&p->arena, meta_namespace(policy));
	p->name = arena_str(&p->arena, meta_name(policy));
	if (selector_from_json(&p->arena, json_get(spec, "podSelector"), &p->selector, NULL) < 0)
		p->selector.nothing = true;
	/* An absent podSelector is the empty one: every pod of the namespace. */
	if (!json_get(spec, "podSelector"))
		p->selector = (struct selector){ 0 };
	json_foreach(t, types) {
		p->ingress = p->ingress || str_is(json_str(t), "Ingress");
		p->egress = p->egress || str_is(json_str(t), "Egress");
	}
	if (!json_count(types)) {
		p->ingress = true;
		p->egress = json_count(json_get(spec, "egress")) > 0;
	}
	model_rules(&p->arena, json_get(spec, "ingress"), "from", &p->ingress_rules, &p->n_ingress_rules);
	model_rules(&p->arena, json_get(spec, "egress"), "to", &p->egress_rules, &p->n_egress_rules);
	old = map_put(&m->policies_by_key, model_key(&p->arena, p->ns, p->name), p);
	if (old)
		model_free_policy(old);
	list_add_tail(&m->policies, &p->link);
}

void model_remove_policy(struct net_model *m, struct str ns, struct str name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_policy *p = map_remove(&m->policies_by_key, model_key(&arena, ns, name));

	if (p)
		model_free_policy(p);
}

void model_finish(struct net_model *m)
{
	list_foreach_safe(p, &m->pods, struct net_pod, link)
		model_free_pod(p);
	list_foreach_safe(policy, &m->policies, struct net_policy, link)
		model_free_policy(policy);
	map_foreach(e, &m->namespaces)
		model_free_namespace(e->value);
	map_finish(&m->pods_by_uid);
	map_finish(&m->policies_by_key);
	map_finish(&m->namespaces);
}
