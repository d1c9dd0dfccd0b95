/* SPDX-License-Identifier: Apache-2.0 */
/* Daemons and nodes: selectors, required affinity, taints. Any thread. */
#include "userspace/controllers/daemon_nodes.h"

#include "userspace/api/node_term.h"
#include "userspace/api/taint.h"
#include "userspace/base/mem.h"

/* What may be wrong with a node without a daemon leaving it. */
static const struct toleration {
	const char *key, *effect;
	bool host_network_only;
} tolerations[] = {
	{ "node.kubernetes.io/not-ready", "NoExecute" },
	{ "node.kubernetes.io/unreachable", "NoExecute" },
	{ "node.kubernetes.io/disk-pressure", "NoSchedule" },
	{ "node.kubernetes.io/memory-pressure", "NoSchedule" },
	{ "node.kubernetes.io/pid-pressure", "NoSchedule" },
	{ "node.kubernetes.io/unschedulable", "NoSchedule" },
	{ "node.kubernetes.io/network-unavailable", "NoSchedule", true },
};

void daemon_add_tolerations(struct arena *arena, struct json *spec)
{
	struct json *list = json_ensure_array(arena, spec, "tolerations");

	for (size_t i = 0; i < ARRAY_SIZE(tolerations); i++) {
		struct json *t;

		if (tolerations[i].host_network_only && !json_get_bool(spec, "hostNetwork", false))
			continue;
		t = json_new_object(arena);
		json_set_cstr(arena, t, "key", tolerations[i].key);
		json_set_cstr(arena, t, "operator", "Exists");
		json_set_cstr(arena, t, "effect", tolerations[i].effect);
		json_append(list, t);
	}
}

static bool affine(struct arena *arena, const struct json *spec, const struct json *node)
{
	struct json *required = json_at(spec, "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
	struct str name = json_get_str(spec, "nodeName");
	struct selector s;

	selector_from_map(arena, json_get(spec, "nodeSelector"), &s);
	if (!selector_matches_map(&s, json_at(node, "metadata.labels")) ||
	    (name.n > 0 && !str_eq(name, json_at_str(node, "metadata.name"))))
		return false;
	if (!required)
		return true;
	json_foreach(t, json_get(required, "nodeSelectorTerms")) {
		const struct node_term term = node_term_compile(arena, t);

		if (node_term_matches(&term, node))
			return true;
	}
	return false;
}

struct daemon_verdict daemon_judge_node(struct arena *arena, const struct json *spec, const struct json *node)
{
	struct daemon_verdict v = { true, true };

	if (!affine(arena, spec, node))
		return (struct daemon_verdict){ false, false };
	json_foreach(taint, json_at(node, "spec.taints")) {
		struct str effect = json_get_str(taint, "effect");

		if (str_is(effect, "PreferNoSchedule") || taint_tolerated(taint, json_get(spec, "tolerations")))
			continue;
		v.run = false;
		if (str_is(effect, "NoExecute"))
			v.stay = false;
	}
	return v;
}

void daemon_pin(struct arena *arena, struct json *spec, struct str node)
{
	struct json *affinity = json_ensure_object(arena, json_ensure_object(arena, spec, "affinity"), "nodeAffinity");
	struct json *required = json_ensure_object(arena, affinity, "requiredDuringSchedulingIgnoredDuringExecution");
	struct json *terms = json_new_array(arena), *term = json_new_object(arena), *field = json_new_object(arena);

	json_set_cstr(arena, field, "key", "metadata.name");
	json_set_cstr(arena, field, "operator", "In");
	json_append(json_ensure_array(arena, field, "values"), json_new_str(arena, node));
	json_append(json_ensure_array(arena, term, "matchFields"), field);
	json_append(terms, term);
	/* The terms of the template were judged already; this one is narrower. */
	json_set(required, "nodeSelectorTerms", terms);
}

struct str daemon_node_of(const struct json *pod)
{
	struct str node = json_at_str(pod, "spec.nodeName");
	struct json *required =
		json_at(pod, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");

	if (node.n > 0)
		return node;
	json_foreach(term, json_get(required, "nodeSelectorTerms"))
		json_foreach(f, json_get(term, "matchFields"))
			if (str_is(json_get_str(f, "key"), "metadata.name"))
				return json_str(json_index(json_get(f, "values"), 0));
	return STR_NULL;
}
