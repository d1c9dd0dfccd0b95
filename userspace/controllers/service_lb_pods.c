/* SPDX-License-Identifier: Apache-2.0 */
/* See service_lb_pods.h. */
#include "userspace/controllers/service_lb_pods.h"

#include <string.h>

#include "userspace/api/names.h"
#include "userspace/api/selector.h"

struct lb_search {
	const struct lb_pods_query *q;
	const struct lb_port *port;
	const struct object *found;
};

bool lb_pod_has_ports(const struct object *pod)
{
	static const char mark[] = "\"hostPort\"";

	return memmem(pod->json.p, pod->json.n, mark, sizeof(mark) - 1) != NULL;
}

/* Of every address, or of one of the node's of that family. */
static bool host_ip_is_at(const struct lb_search *s, struct str host_ip)
{
	struct names_ip ip;

	if (!host_ip.n)
		return true;
	if (names_parse_ip(host_ip, &ip) < 0 || (unsigned)ip.family != s->port->family)
		return false;
	if (str_is(host_ip, "0.0.0.0") || str_is(host_ip, "::"))
		return true;
	for (size_t i = 0; i < s->q->n_addresses; i++)
		if (str_eq(host_ip, s->q->addresses[i]))
			return true;
	return false;
}

static bool container_has_port(const struct lb_search *s, const struct json *container)
{
	json_foreach(p, json_get(container, "ports")) {
		struct str proto = json_get_str(p, "protocol");

		if (json_get_int(p, "hostPort", 0) == s->port->port &&
		    str_eq(proto.n ? proto : STR("TCP"), s->port->proto) && host_ip_is_at(s, json_get_str(p, "hostIP")))
			return true;
	}
	return false;
}

static bool pod_has_port(const struct lb_search *s, const struct json *spec)
{
	json_foreach(c, json_get(spec, "containers"))
		if (container_has_port(s, c))
			return true;
	json_foreach(c, json_get(spec, "initContainers"))
		if (str_is(json_get_str(c, "restartPolicy"), "Always") && container_has_port(s, c))
			return true;
	return false;
}

/* One of the host's network has no hostPorts: what listens on the host is told of by who serves the Service. */
static bool pod_counts(const struct lb_search *s, const struct json *tree)
{
	struct str phase = json_at_str(tree, "status.phase"), node = json_at_str(tree, "spec.nodeName");

	return !json_get_bool(json_get(tree, "spec"), "hostNetwork", false) && node.n &&
	       (!s->q->node_name || str_is(node, s->q->node_name)) && !str_is(phase, "Succeeded") &&
	       !str_is(phase, "Failed");
}

static bool pod_is_selected(const struct lb_search *s, const struct object *pod, struct arena *arena,
			    const struct json *tree)
{
	struct selector selector;

	if (!str_eq(pod->ns, s->q->ns) || !json_count(s->q->selector))
		return false;
	selector_from_map(arena, s->q->selector, &selector);
	return selector_matches_map(&selector, json_at(tree, "metadata.labels"));
}

static void look_at_pod(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct lb_search *s = arg;
	const struct json *tree;

	if (s->found || !lb_pod_has_ports(o))
		return;
	tree = registry_parse(&arena, o);
	if (pod_counts(s, tree) && pod_has_port(s, json_get(tree, "spec")) && !pod_is_selected(s, o, &arena, tree))
		s->found = o;
}

const struct object *lb_pods_find(struct registry *reg, const struct lb_pods_query *q, const struct lb_port *port)
{
	struct lb_search s = { q, port, NULL };

	registry_each(reg, KIND_POD, STR_NULL, look_at_pod, &s);
	return s.found;
}
