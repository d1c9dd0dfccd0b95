/* SPDX-License-Identifier: Apache-2.0 */
/* With the server down: the objects on disk, and what they ask of the dataplane. */
#include <errno.h>
#include <string.h>

#include "datastore/store.h"
#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/cmd/status_collect.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/explain.h"
#include "userspace/netctl/model.h"
#include "userspace/netctl/services.h"
#include "userspace/netctl/status.h"

struct file_objects {
	struct arena *arena;
	struct json *services, *slices, *pods, *policies, *nodes, *namespaces;
	int64_t revision; /* the newest of any object: the store's own number is reserved ahead */
};

static void file_object(void *arg, const char *group, const char *plural, int64_t revision, struct str text)
{
	struct file_objects *f = arg;
	struct json *list = NULL, *v;

	if (revision > f->revision)
		f->revision = revision;
	if (strcmp(plural, "services") == 0 && !*group)
		list = f->services;
	else if (strcmp(plural, "endpointslices") == 0)
		list = f->slices;
	else if (strcmp(plural, "pods") == 0 && !*group)
		list = f->pods;
	else if (strcmp(plural, "nodes") == 0 && !*group)
		list = f->nodes;
	else if (strcmp(plural, "networkpolicies") == 0)
		list = f->policies;
	else if (strcmp(plural, "namespaces") == 0)
		list = f->namespaces;
	if (list && json_parse(f->arena, arena_str(f->arena, text), 0, &v, NULL) == 0)
		json_append(list, v);
}

static struct str files_zone(const struct config *config, const struct file_objects *f)
{
	json_foreach(node, f->nodes)
		if (str_is(json_at_str(node, "metadata.name"), config->node_name))
			return meta_label(node, "topology.kubernetes.io/zone");
	return STR_NULL;
}

static struct json *files_service(struct arena *a, const struct config *config, const struct file_objects *f,
				  const struct json *service)
{
	const struct services_place place = { str_of(config->node_name), files_zone(config, f) };
	struct services_slice **slices = arena_new_array(a, struct services_slice *, json_count(f->slices) + 1);
	struct str ns = json_at_str(service, "metadata.namespace"), name = json_at_str(service, "metadata.name");
	struct json *v = json_new_object(a), *frontends = json_new_array(a);
	struct services_result result;
	size_t n = 0;

	json_foreach(slice, f->slices)
		if (str_eq(json_at_str(slice, "metadata.namespace"), ns) &&
		    str_eq(json_get_str(json_at(slice, "metadata.labels"), "kubernetes.io/service-name"), name))
			slices[n++] = services_slice_parse(slice, &place);
	services_translate(a, service, (const struct services_slice *const *)slices, n, &result);
	for (size_t i = 0; i < result.n; i++)
		json_append(frontends, netctl_frontend_json(a, &result.frontends[i]));
	json_set_str(a, v, "namespace", ns);
	json_set_str(a, v, "name", name);
	netctl_service_facts(a, service, v);
	if (json_get_bool(v, "headless", false))
		netctl_service_endpoints(a, (const struct services_slice *const *)slices, n, v);
	json_set(v, "frontends", frontends);
	netctl_service_left_out(a, result.truncated, v);
	while (n)
		free(slices[--n]);
	return v;
}

/* What is left out means Ingress, and Egress where there are rules for it. */
static bool files_policy_isolates(const struct json *policy, const char *direction)
{
	const struct json *types = json_at(policy, "spec.policyTypes");

	json_foreach(t, types)
		if (str_is(json_str(t), direction))
			return true;
	return !json_count(types) && (strcmp(direction, "Ingress") == 0 || json_at(policy, "spec.egress"));
}

/* Names of the policies that select the pod. */
static void files_policies(struct arena *a, const struct file_objects *f, const struct json *pod, struct json *row)
{
	struct json *all = json_ensure_array(a, row, "policies");
	struct json *ingress = json_ensure_array(a, row, "ingressPolicies");
	struct json *egress = json_ensure_array(a, row, "egressPolicies");

	json_foreach(policy, f->policies) {
		struct str name = json_at_str(policy, "metadata.name");
		struct selector selector;

		if (!str_eq(json_at_str(policy, "metadata.namespace"), json_at_str(pod, "metadata.namespace")) ||
		    selector_from_json(a, json_at(policy, "spec.podSelector"), &selector, NULL) < 0 ||
		    !selector_matches_map(&selector, json_at(pod, "metadata.labels")))
			continue;
		json_append(all, json_new_str(a, name));
		if (files_policy_isolates(policy, "Ingress"))
			json_append(ingress, json_new_str(a, name));
		if (files_policy_isolates(policy, "Egress"))
			json_append(egress, json_new_str(a, name));
	}
}

static struct json *files_pods(struct arena *a, const struct file_objects *f)
{
	struct json *list = json_new_array(a);

	json_foreach(pod, f->pods) {
		struct json *v = json_new_object(a);

		json_set_str(a, v, "namespace", json_at_str(pod, "metadata.namespace"));
		json_set_str(a, v, "name", json_at_str(pod, "metadata.name"));
		json_set_str(a, v, "address", json_at_str(pod, "status.podIP"));
		json_foreach(ip, json_at(pod, "status.podIPs"))
			json_append(json_ensure_array(a, v, "addresses"), json_new_str(a, json_get_str(ip, "ip")));
		files_policies(a, f, pod, v);
		json_set(v, "labels", json_clone(a, json_at(pod, "metadata.labels")));
		if (json_at_bool(pod, "spec.hostNetwork", false))
			json_set_bool(a, v, "hostNetwork", true);
		if (str_is(json_at_str(pod, "status.phase"), "Succeeded") ||
		    str_is(json_at_str(pod, "status.phase"), "Failed"))
			json_set_bool(a, v, "finished", true);
		json_append(list, v);
	}
	return list;
}

/* Of the node itself, in the Node object's order. */
static struct json *files_node_addresses(struct arena *a, const struct config *config, const struct file_objects *f)
{
	struct json *list = json_new_array(a);

	json_foreach(node, f->nodes) {
		if (!str_is(json_at_str(node, "metadata.name"), config->node_name))
			continue;
		json_foreach(row, json_at(node, "status.addresses")) {
			struct dp_addr addr; /* its host name is among them */

			if (address_parse(json_get_str(row, "address"), &addr) == 0)
				json_append(list, json_new_str(a, json_get_str(row, "address")));
		}
	}
	return list;
}

static struct json *files_node(struct arena *a, const struct config *config, const struct file_objects *f)
{
	struct json *v = json_new_object(a), *pods = json_new_array(a);
	int64_t running = 0;

	json_foreach(pod, f->pods) {
		struct json *row = json_new_object(a);
		struct str phase = json_at_str(pod, "status.phase");

		running += str_is(phase, "Running");
		json_set_str(a, row, "namespace", json_at_str(pod, "metadata.namespace"));
		json_set_str(a, row, "name", json_at_str(pod, "metadata.name"));
		json_set_str(a, row, "phase", phase);
		json_set_str(a, row, "ip", json_at_str(pod, "status.podIP"));
		json_append(pods, row);
	}
	json_set_cstr(a, v, "name", config->node_name);
	json_set_int(a, v, "podsRunning", running);
	json_set_int(a, v, "podsOnDisk", (int64_t)json_count(pods));
	json_set(v, "pods", pods);
	return v;
}

static void files_init(struct file_objects *f, struct arena *a)
{
	*f = (struct file_objects){ .arena = a };
	f->services = json_new_array(a);
	f->slices = json_new_array(a);
	f->pods = json_new_array(a);
	f->policies = json_new_array(a);
	f->nodes = json_new_array(a);
	f->namespaces = json_new_array(a);
}

int status_explain_files(const struct config *config, struct arena *a, const struct netctl_flow *flow,
			 struct json **ret, struct err *err)
{
	struct net_model model;
	struct store_file_info info;
	struct file_objects f;
	int r;

	files_init(&f, a);
	r = store_read_files(config_path(config, config->data_dir, "db/state.db"), file_object, &f, &info, err);
	if (r < 0)
		return r;
	model_init(&model);
	json_foreach(ns, f.namespaces)
		model_set_namespace(&model, ns);
	json_foreach(pod, f.pods)
		model_set_pod(&model, pod);
	json_foreach(policy, f.policies)
		model_set_policy(&model, policy);
	*ret = netctl_explain_model(&model, a, flow);
	model_finish(&model);
	return 0;
}

int status_from_files(const struct config *config, struct arena *a, struct json **ret, struct err *err)
{
	struct json *v = json_new_object(a), *store = json_new_object(a), *network = json_new_object(a);
	struct json *services = json_new_array(a);
	struct store_file_info info;
	struct file_objects f;
	int r;

	files_init(&f, a);
	r = store_read_files(config_path(config, config->data_dir, "db/state.db"), file_object, &f, &info, err);
	if (r < 0)
		return r;
	json_set_int(a, store, "revision", f.revision);
	json_set_int(a, store, "objects", (int64_t)info.objects);
	json_set_int(a, store, "fileBytes", (int64_t)info.db_bytes);
	json_set_int(a, store, "walBytes", (int64_t)info.wal_bytes);
	json_foreach(s, f.services)
		json_append(services, files_service(a, config, &f, s));
	json_set(network, "nodeAddresses", files_node_addresses(a, config, &f));
	json_set(network, "services", services);
	json_set(network, "pods", files_pods(a, &f));
	json_set(v, "store", store);
	json_set(v, "network", network);
	json_set(v, "node", files_node(a, config, &f));
	*ret = v;
	return 0;
}
