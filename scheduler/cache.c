/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes and what is on them. Loop thread only. */
#include "scheduler/cache.h"

#include <stdio.h>

static void pod_destroy(struct cache_pod *p)
{
	if (!p)
		return;
	resources_finish(&p->requests);
	free(p->ports);
	free(p->uid);
	free(p->node);
	free(p);
}

static void node_destroy(struct cache_node *n)
{
	if (!n)
		return;
	object_unref(n->object);
	arena_finish(&n->arena);
	resources_finish(&n->allocatable);
	resources_finish(&n->requested);
	free(n->ports);
	free(n->name);
	free(n);
}

void cache_finish(struct cache *c)
{
	map_foreach(e, &c->pods)
		pod_destroy(e->value);
	map_foreach(e, &c->nodes)
		node_destroy(e->value);
	map_finish(&c->pods);
	map_finish(&c->nodes);
}

static struct cache_node *node_get(struct cache *c, struct str name)
{
	struct cache_node *n = map_get(&c->nodes, name);

	if (n)
		return n;
	n = mem_new(struct cache_node);
	n->name = str_dup(name);
	map_put(&c->nodes, name, n);
	return n;
}

static void forget_empty(struct cache *c, struct cache_node *n)
{
	if (n->object || n->pods > 0)
		return;
	map_remove(&c->nodes, str_of(n->name));
	node_destroy(n);
}

void cache_set_node(struct cache *c, struct str name, const struct object *o)
{
	struct cache_node *n = node_get(c, name);
	const struct object *old = n->object;

	c->n_nodes += (o != NULL) - (old != NULL);
	n->object = o ? object_ref(o) : NULL;
	object_unref(old);
	arena_reset(&n->arena);
	n->json = o ? registry_parse(&n->arena, o) : NULL;
	resources_finish(&n->allocatable);
	resources_add_json(&n->allocatable, json_at(n->json, "status.allocatable"));
	forget_empty(c, n);
}

size_t cache_host_ports(const struct json *spec, struct host_port **ret)
{
	static const char *const lists[] = { "containers", "initContainers" };
	struct host_port *ports = NULL;
	size_t n = 0, cap = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i])) {
			if (i == 1 && !str_is(json_get_str(c, "restartPolicy"), "Always"))
				continue;
			json_foreach(p, json_get(c, "ports")) {
				int64_t port = json_get_int(p, "hostPort", 0);
				struct str protocol = json_get_str(p, "protocol"), ip = json_get_str(p, "hostIP");

				if (port <= 0 || port > UINT16_MAX)
					continue;
				if (protocol.n == 0)
					protocol = STR("TCP");
				if (ip.n == 0 || str_is(ip, "::"))
					ip = STR("0.0.0.0");
				mem_grow(ports, cap, n + 1);
				ports[n] = (struct host_port){ .port = (uint16_t)port };
				snprintf(ports[n].protocol, sizeof(ports[n].protocol), "%.*s", STR_ARG(protocol));
				snprintf(ports[n].ip, sizeof(ports[n].ip), "%.*s", STR_ARG(ip));
				n++;
			}
		}
	*ret = ports;
	return n;
}

static void take_ports(struct cache_node *n, const struct cache_pod *p)
{
	for (size_t i = 0; i < p->n_ports; i++) {
		mem_grow(n->ports, n->cap_ports, n->n_ports + 1);
		n->ports[n->n_ports++] = p->ports[i];
	}
}

static void give_ports(struct cache_node *n, const struct cache_pod *p)
{
	for (size_t i = 0; i < p->n_ports; i++)
		for (size_t k = 0; k < n->n_ports; k++)
			if (!memcmp(&n->ports[k], &p->ports[i], sizeof(n->ports[k]))) {
				n->ports[k] = n->ports[--n->n_ports];
				break;
			}
}

static void account(struct cache_node *n, const struct cache_pod *p, int sign)
{
	resources_add(&n->requested, &p->requests, sign);
	n->score_milli_cpu += sign * p->score_milli_cpu;
	n->score_memory += sign * p->score_memory;
	n->pods += (unsigned)sign;
	if (sign > 0)
		take_ports(n, p);
	else
		give_ports(n, p);
}

void cache_add_pod(struct cache *c, struct str uid, struct str node, const struct json *pod, bool assumed)
{
	struct json *spec = json_get(pod, "spec");
	struct cache_pod *p;

	cache_remove_pod(c, uid);
	p = mem_new(struct cache_pod);
	p->uid = str_dup(uid);
	p->node = str_dup(node);
	p->assumed = assumed;
	resources_of_pod(pod, &p->requests);
	resources_for_score(pod, &p->score_milli_cpu, &p->score_memory);
	p->n_ports = cache_host_ports(spec, &p->ports);
	map_put(&c->pods, uid, p);
	account(node_get(c, node), p, 1);
}

bool cache_remove_pod(struct cache *c, struct str uid)
{
	struct cache_pod *p = map_remove(&c->pods, uid);
	struct cache_node *n;

	if (!p)
		return false;
	n = map_get(&c->nodes, str_of(p->node));
	if (n) {
		account(n, p, -1);
		forget_empty(c, n);
	}
	pod_destroy(p);
	return true;
}

bool cache_is_assumed(const struct cache *c, struct str uid)
{
	const struct cache_pod *p = map_get(&c->pods, uid);

	return p && p->assumed;
}
