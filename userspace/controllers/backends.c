/* SPDX-License-Identifier: Apache-2.0 */
/* Services to pods. Loop thread only. */
#include "userspace/controllers/backends.h"

#include <inttypes.h>

#include "userspace/api/intstr.h"
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

/* Restartable init containers may be targets too: they run beside the others. */
static int resolve_port(const struct json *pod, const struct json *target, struct str protocol, uint16_t *ret)
{
	json_foreach(c, json_at(pod, "spec.containers"))
		if (intstr_port(target, json_get(c, "ports"), protocol, ret) == 0)
			return 0;
	json_foreach(c, json_at(pod, "spec.initContainers"))
		if (str_is(json_get_str(c, "restartPolicy"), "Always") &&
		    intstr_port(target, json_get(c, "ports"), protocol, ret) == 0)
			return 0;
	return -1;
}

static void resolve_ports(struct arena *arena, struct backend *b, const struct json *service_json)
{
	b->ports = json_new_array(arena);
	json_foreach(p, json_at(service_json, "spec.ports")) {
		struct str protocol = json_get_str(p, "protocol");
		struct json *target = json_get(p, "targetPort");
		struct json *port;
		uint16_t number;

		if (protocol.n == 0)
			protocol = STR("TCP");
		if (resolve_port(b->json, target ? target : json_get(p, "port"), protocol, &number) < 0)
			continue;
		port = json_new_object(arena);
		json_set_str(arena, port, "name", json_get_str(p, "name"));
		json_set_int(arena, port, "port", number);
		json_set_str(arena, port, "protocol", protocol);
		if (json_get_str(p, "appProtocol").n > 0)
			json_set_str(arena, port, "appProtocol", json_get_str(p, "appProtocol"));
		json_append(b->ports, port);
	}
	b->ports_key = backends_ports_key(arena, b->ports);
}

static void find_addresses(struct backend *b)
{
	struct str only = json_at_str(b->json, "status.podIP");

	json_foreach(ip, json_at(b->json, "status.podIPs")) {
		struct str s = json_get_str(ip, "ip");

		if (s.n > 0)
			b->address[str_find(s, ':') >= 0] = s;
	}
	if (only.n > 0)
		b->address[str_find(only, ':') >= 0] = only;
}

static bool fill(struct arena *arena, struct backend *b, const struct object *service, const struct json *service_json,
		 bool publish_not_ready)
{
	struct pod pod = pod_of(arena, b->pod);

	b->json = pod.json;
	if (pod.phase == POD_SUCCEEDED || pod.phase == POD_FAILED)
		return false;
	find_addresses(b);
	if (b->address[0].n == 0 && b->address[1].n == 0)
		return false;
	b->node = pod.node;
	b->serving = pod.ready;
	b->terminating = pod.deleting;
	b->ready = publish_not_ready || (pod.ready && !pod.deleting);
	if (str_eq(json_at_str(b->json, "spec.subdomain"), service->name))
		b->hostname = json_at_str(b->json, "spec.hostname");
	resolve_ports(arena, b, service_json);
	return true;
}

struct backends backends_of(struct reconcile *ctx, const struct object *service, const struct json *service_json,
			    bool include_terminating)
{
	struct selector selector = selector_of_map(ctx->arena, json_at(service_json, "spec.selector"));
	struct objects pods = objects_all(ctx->arena, ctx->reg, KIND_POD, service->ns);
	struct backends all = {
		.items = arena_new_array(ctx->arena, struct backend, pods.n + 1),
		.publish_not_ready = json_at_bool(service_json, "spec.publishNotReadyAddresses", false),
	};

	for (size_t i = 0; i < pods.n; i++) {
		struct backend b = { .pod = pods.items[i] };

		if (!object_matches(b.pod, &selector) || (b.pod->deleting && !include_terminating))
			continue;
		if (fill(ctx->arena, &b, service, service_json, all.publish_not_ready))
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
