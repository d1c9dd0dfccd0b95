/* SPDX-License-Identifier: Apache-2.0 */
/* Services to pods. Loop thread only. */
#include "userspace/controllers/backends.h"

#include <inttypes.h>

#include "userspace/api/intstr.h"
#include "userspace/base/map.h"
#include "userspace/controllers/pods.h"

bool backends_is_headless(const struct json *service_json)
{
	return str_is(json_at_str(service_json, "spec.clusterIP"), "None");
}

const char *backends_ports_key(struct arena *arena, const struct json *ports)
{
	const char *key = "";

	json_foreach(p, ports) {
		struct str protocol = json_get_str(p, "protocol");

		key = arena_printf(arena, "%s%.*s/%.*s/%" PRId64 "/%.*s;", key, STR_ARG(json_get_str(p, "name")),
				   STR_ARG(protocol.n ? protocol : STR("TCP")), json_get_int(p, "port", 0),
				   STR_ARG(json_get_str(p, "appProtocol")));
	}
	return key;
}

/* ---- facts ---- */

#define FACTS_BLOCK 512

/* What endpoints show of one state of a pod. */
struct pod_facts {
	struct arena arena;
	int64_t revision;
	struct str address[2], node, hostname, subdomain;
	bool ended, ready;
	struct json *named_ports; /* of all its containers */
};

struct backends_cache {
	struct map facts; /* uid -> struct pod_facts */
};

struct backends_cache *backends_cache_create(void)
{
	return mem_new(struct backends_cache);
}

static void facts_destroy(struct pod_facts *f)
{
	if (!f)
		return;
	arena_finish(&f->arena);
	free(f);
}

void backends_cache_destroy(struct backends_cache *cache)
{
	if (!cache)
		return;
	map_foreach(e, &cache->facts)
		facts_destroy(e->value);
	map_finish(&cache->facts);
	free(cache);
}

void backends_cache_forget(struct backends_cache *cache, struct str uid)
{
	facts_destroy(map_remove(&cache->facts, uid));
}

static void facts_ports(struct pod_facts *f, const struct json *container)
{
	json_foreach(p, json_get(container, "ports"))
		if (json_get_str(p, "name").n > 0)
			json_append(f->named_ports, json_clone_deep(&f->arena, p));
}

static void facts_address(struct pod_facts *f, struct str text)
{
	if (text.n > 0)
		f->address[str_find(text, ':') >= 0] = arena_str(&f->arena, text);
}

static struct pod_facts *facts_read(const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct pod pod = pod_of(&arena, o);
	const struct json *spec = json_get(pod.json, "spec"), *status = json_get(pod.json, "status");
	struct pod_facts *f = mem_new(struct pod_facts);

	arena_reserve(&f->arena, FACTS_BLOCK);
	f->revision = o->revision;
	f->ended = pod.phase == POD_SUCCEEDED || pod.phase == POD_FAILED;
	f->ready = pod.ready;
	f->node = arena_str(&f->arena, pod.node);
	f->hostname = arena_str(&f->arena, json_get_str(spec, "hostname"));
	f->subdomain = arena_str(&f->arena, json_get_str(spec, "subdomain"));
	json_foreach(ip, json_get(status, "podIPs"))
		facts_address(f, json_get_str(ip, "ip"));
	facts_address(f, json_get_str(status, "podIP"));
	f->named_ports = json_new_array(&f->arena);
	json_foreach(c, json_get(spec, "containers"))
		facts_ports(f, c);
	/* Restartable init containers may be targets too: they run beside the others. */
	json_foreach(c, json_get(spec, "initContainers"))
		if (str_is(json_get_str(c, "restartPolicy"), "Always"))
			facts_ports(f, c);
	return f;
}

static const struct pod_facts *facts_of(struct backends_cache *cache, const struct object *pod)
{
	struct pod_facts *f = map_get(&cache->facts, pod->uid);

	if (f && f->revision == pod->revision)
		return f;
	f = facts_read(pod);
	facts_destroy(map_put(&cache->facts, pod->uid, f));
	return f;
}

/* ---- backends ---- */

/* Ports of the Service that the pod resolves. */
static struct json *resolve_ports(struct arena *arena, const struct pod_facts *f, const struct json *service_ports)
{
	struct json *ports = json_new_array(arena);

	json_foreach(p, service_ports) {
		struct str protocol = json_get_str(p, "protocol");
		struct json *target = json_get(p, "targetPort");
		struct json *port;
		uint16_t number;

		if (protocol.n == 0)
			protocol = STR("TCP");
		if (intstr_port(target ? target : json_get(p, "port"), f->named_ports, protocol, &number) < 0)
			continue;
		port = json_new_object(arena);
		json_set_str(arena, port, "name", json_get_str(p, "name"));
		json_set_int(arena, port, "port", number);
		json_set_str(arena, port, "protocol", protocol);
		if (json_get_str(p, "appProtocol").n > 0)
			json_set_str(arena, port, "appProtocol", json_get_str(p, "appProtocol"));
		json_append(ports, port);
	}
	return ports;
}

static bool names_ports(const struct json *service_ports)
{
	json_foreach(p, service_ports)
		if (json_is(json_get(p, "targetPort"), JSON_STRING))
			return true;
	return false;
}

struct filling {
	struct arena *arena;
	struct backends_cache *cache;
	const struct object *service;
	const struct json *service_ports;
	bool publish_not_ready;
	bool named; /* pods may resolve the ports differently */
	/* Of the pod before. */
	struct json *ports;
	const char *ports_key;
};

static void fill_ports(struct filling *s, struct backend *b, const struct pod_facts *f)
{
	if (s->named || !s->ports) {
		s->ports = resolve_ports(s->arena, f, s->service_ports);
		s->ports_key = backends_ports_key(s->arena, s->ports);
	}
	b->ports = s->ports;
	b->ports_key = s->ports_key;
}

static bool fill(struct filling *s, struct backend *b)
{
	const struct pod_facts *f = facts_of(s->cache, b->pod);

	if (f->ended || (f->address[0].n == 0 && f->address[1].n == 0))
		return false;
	b->address[0] = f->address[0];
	b->address[1] = f->address[1];
	b->node = f->node;
	b->serving = f->ready;
	b->terminating = b->pod->deleting;
	b->ready = s->publish_not_ready || (f->ready && !b->pod->deleting);
	if (str_eq(f->subdomain, s->service->name))
		b->hostname = f->hostname;
	fill_ports(s, b, f);
	return true;
}

struct backends backends_of(struct reconcile *ctx, struct backends_cache *cache, const struct object *service,
			    const struct json *service_json, bool include_terminating)
{
	struct selector selector = selector_of_map(ctx->arena, json_at(service_json, "spec.selector"));
	struct objects pods = objects_all(ctx->arena, ctx->reg, KIND_POD, service->ns);
	struct backends all = {
		.items = arena_new_array(ctx->arena, struct backend, pods.n + 1),
		.publish_not_ready = json_at_bool(service_json, "spec.publishNotReadyAddresses", false),
	};
	struct filling filling = {
		.arena = ctx->arena,
		.cache = cache,
		.service = service,
		.service_ports = json_at(service_json, "spec.ports"),
		.publish_not_ready = all.publish_not_ready,
		.named = names_ports(json_at(service_json, "spec.ports")),
	};

	for (size_t i = 0; i < pods.n; i++) {
		struct backend b = { .pod = pods.items[i] };

		if (!object_matches(b.pod, &selector) || (b.pod->deleting && !include_terminating))
			continue;
		if (fill(&filling, &b))
			all.items[all.n++] = b;
	}
	return all;
}

struct json *backends_target(struct arena *arena, const struct backend *b)
{
	struct json *target = json_new_object(arena);

	json_set_cstr(arena, target, "kind", "Pod");
	json_set_str(arena, target, "namespace", b->pod->ns);
	json_set_str(arena, target, "name", b->pod->name);
	json_set_str(arena, target, "uid", b->pod->uid);
	return target;
}

struct json *backends_labels(struct arena *arena, const struct json *service_json, const char *const *pairs)
{
	struct json *labels = json_clone(arena, json_at(service_json, "metadata.labels"));

	if (!json_is(labels, JSON_OBJECT))
		labels = json_new_object(arena);
	for (; *pairs; pairs += 2)
		json_set_cstr(arena, labels, pairs[0], pairs[1]);
	return labels;
}
