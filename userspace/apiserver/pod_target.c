/* SPDX-License-Identifier: Apache-2.0 */
/* See pod_target.h. */
#include "userspace/apiserver/pod_target.h"

#include "userspace/api/meta.h"

static const char *const pod_container_lists[] = { "containers", "initContainers", "ephemeralContainers" };

static bool pod_has_container(const struct json *spec, struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(pod_container_lists); i++)
		json_foreach(c, json_get(spec, pod_container_lists[i]))
			if (str_eq(json_get_str(c, "name"), name))
				return true;
	return false;
}

static struct str pod_container_names(struct arena *arena, const struct json *list)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	json_foreach(c, list)
		buf_printf(&b, "%s%.*s", buf_len(&b) ? " " : "", STR_ARG(json_get_str(c, "name")));
	return arena_str(arena, buf_str(&b));
}

static int pod_choose_container(struct call *call, const struct json *pod, struct str *ret, struct err *err)
{
	const struct json *spec = json_get(pod, "spec"), *containers = json_get(spec, "containers");
	struct str asked = query_get(&call->query, "container"), name = call->route.name, init;

	if (asked.n) {
		if (!pod_has_container(spec, asked))
			return api_err_bad_request(err, "container %.*s is not valid for pod %.*s", STR_ARG(asked),
						   STR_ARG(name));
		*ret = asked;
		return 0;
	}
	if (json_count(containers) == 1) {
		*ret = json_get_str(json_first(containers), "name");
		return 0;
	}
	asked = meta_annotation(pod, "kubectl.kubernetes.io/default-container");
	if (asked.n && pod_has_container(spec, asked)) {
		*ret = asked;
		return 0;
	}
	init = pod_container_names(call->arena, json_get(spec, "initContainers"));
	if (init.n)
		return api_err_bad_request(
			err,
			"a container name must be specified for pod %.*s, choose one of: [%s] or one of the init "
			"containers: [%s]",
			STR_ARG(name), pod_container_names(call->arena, containers).p, init.p);
	return api_err_bad_request(err, "a container name must be specified for pod %.*s, choose one of: [%s]",
				   STR_ARG(name), pod_container_names(call->arena, containers).p);
}

int pod_target_find(struct call *call, struct pod_target *ret, struct err *err)
{
	const struct object *pod = registry_get(call->as->reg, KIND_POD, call->route.ns, call->route.name);
	struct json *tree;
	struct str container;
	int r;

	if (!pod)
		return api_err_not_found(err, KIND_POD, call->route.name);
	tree = registry_parse(call->arena, pod);
	r = pod_choose_container(call, tree, &container, err);
	if (r < 0)
		return r;
	if (!json_at_str(tree, "spec.nodeName").n)
		return api_err_bad_request(err, "pod %.*s does not have a host assigned", STR_ARG(call->route.name));
	if (!call->as->has_node)
		return api_err_unavailable(err, "the node is still starting");
	ret->pod = pod;
	ret->container = arena_strndup(call->arena, container.p, container.n);
	return 0;
}
