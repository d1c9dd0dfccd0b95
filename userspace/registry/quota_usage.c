/* SPDX-License-Identifier: Apache-2.0 */
/* What one object uses of quotas, and which scopes it is in. No state; any thread. */
#include "userspace/registry/quota_usage.h"

#include <stdlib.h>

#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/base/buf.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define CLASS_ANNOTATION "volume.beta.kubernetes.io/storage-class"
#define BY_CLASS ".storageclass.storage.k8s.io/"
#define DEVICES_OF_CLASS ".deviceclass.resource.k8s.io/devices"
#define GRACE_COUNTED_MAX (100 * 365 * 86400LL) /* seconds */
#define DEVICES_ALL 32 /* what a request for all of a class is counted as: no claim can be given more */

/* ---- which kind ---- */

static const char *const POD_RESOURCES[] = {
	"pods",
	"cpu",
	"memory",
	"ephemeral-storage",
	"requests.cpu",
	"requests.memory",
	"requests.ephemeral-storage",
	"limits.cpu",
	"limits.memory",
	"limits.ephemeral-storage",
};

/* Short names of what count/... says in general. */
static const struct {
	const char *name;
	const struct api_kind *const *kind;
} ALIASES[] = {
	{ "services", &KIND_SERVICE },
	{ "services.nodeports", &KIND_SERVICE },
	{ "services.loadbalancers", &KIND_SERVICE },
	{ "persistentvolumeclaims", &KIND_PERSISTENTVOLUMECLAIM },
	{ "requests.storage", &KIND_PERSISTENTVOLUMECLAIM },
	{ "configmaps", &KIND_CONFIGMAP },
	{ "secrets", &KIND_SECRET },
	{ "resourcequotas", &KIND_RESOURCEQUOTA },
	{ "replicationcontrollers", &KIND_REPLICATIONCONTROLLER },
};

static bool contains(struct str s, struct str part)
{
	return part.n <= s.n && memmem(s.p, s.n, part.p, part.n);
}

static bool is_native(struct str name)
{
	return str_find(name, '/') < 0 || contains(name, STR("kubernetes.io/"));
}

static bool is_pod_resource(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(POD_RESOURCES); i++)
		if (str_is(name, POD_RESOURCES[i]))
			return true;
	return str_starts(name, STR("hugepages-")) || str_starts(name, STR("requests.hugepages-")) ||
	       (str_starts(name, STR("requests.")) && !is_native(name));
}

/* "jobs.batch" */
static const struct api_kind *kind_counted(struct str what)
{
	long dot = str_find(what, '.');
	struct str plural = dot < 0 ? what : str_make(what.p, (size_t)dot);
	struct str group = dot < 0 ? STR("") : str_make(what.p + dot + 1, what.n - (size_t)dot - 1);

	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *k = api_kind_at(i);

		if (!k->namespaced || k->resource == API_RESOURCE_NONE || !str_is(plural, k->plural) ||
		    !str_is(group, k->group))
			continue;
		k = k->storage ? k->storage : k;
		return quota_ignores(k) ? NULL : k;
	}
	return NULL;
}

const struct api_kind *quota_kind_of(struct str resource)
{
	static const char *const of_claims[] = { BY_CLASS "persistentvolumeclaims", BY_CLASS "requests.storage" };

	if (str_starts(resource, STR("count/")))
		return kind_counted(str_make(resource.p + 6, resource.n - 6));
	for (size_t i = 0; i < ARRAY_SIZE(ALIASES); i++)
		if (str_is(resource, ALIASES[i].name))
			return *ALIASES[i].kind;
	for (size_t i = 0; i < ARRAY_SIZE(of_claims); i++)
		if (str_ends(resource, str_of(of_claims[i])))
			return KIND_PERSISTENTVOLUMECLAIM;
	if (str_ends(resource, STR(DEVICES_OF_CLASS)))
		return KIND_RESOURCECLAIM;
	return is_pod_resource(resource) ? KIND_POD : NULL;
}

bool quota_ignores(const struct api_kind *kind)
{
	return kind == KIND_EVENT;
}

bool quota_changes(const struct api_kind *kind)
{
	return kind == KIND_POD || kind == KIND_SERVICE || kind == KIND_PERSISTENTVOLUMECLAIM ||
	       kind == KIND_RESOURCECLAIM;
}

/* ---- usage ---- */

static bool is_extended(struct str name)
{
	return !is_native(name) && !str_starts(name, STR("requests."));
}

/* What requests and limits are called in quotas. */
static void compute_usage(struct arena *arena, const struct resource_list *requests, const struct resource_list *limits,
			  struct resource_list *ret)
{
	static const char *const both[][3] = { { "cpu", "requests.cpu", "limits.cpu" },
					       { "memory", "requests.memory", "limits.memory" },
					       { "ephemeral-storage", "requests.ephemeral-storage",
						 "limits.ephemeral-storage" } };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		const struct quantity *r = resource_list_get(requests, str_of(both[i][0]));
		const struct quantity *l = resource_list_get(limits, str_of(both[i][0]));

		if (r)
			resource_list_set(arena, ret, str_of(both[i][0]), *r);
		if (r)
			resource_list_set(arena, ret, str_of(both[i][1]), *r);
		if (l)
			resource_list_set(arena, ret, str_of(both[i][2]), *l);
	}
	for (size_t i = 0; i < requests->n; i++) {
		struct str name = requests->items[i].name;
		bool huge = str_starts(name, STR("hugepages-"));

		if (huge)
			resource_list_set(arena, ret, name, requests->items[i].q);
		if (huge || is_extended(name))
			resource_list_set(arena, ret, str_of(arena_printf(arena, "requests.%.*s", STR_ARG(name))),
					  requests->items[i].q);
	}
}

/* 0: it is not being deleted. */
static int64_t overdue_from_ns(const struct json *pod)
{
	const struct json *meta = meta_of(pod), *grace = json_get(meta, "deletionGracePeriodSeconds");
	int64_t seconds;

	if (!grace || !json_get(meta, "deletionTimestamp"))
		return 0;
	seconds = json_int(grace, 0);
	if (seconds > GRACE_COUNTED_MAX)
		seconds = GRACE_COUNTED_MAX;
	return meta_time_ns(json_get(meta, "deletionTimestamp")) + seconds * NS_PER_S;
}

static void pod_usage(struct arena *arena, const struct json *pod, int64_t now_ns, int64_t *ret_expires_ns,
		      struct resource_list *ret)
{
	unsigned flags = POD_RESOURCES_STATUS | POD_RESOURCES_OVERHEAD;
	struct str phase = json_at_str(pod, "status.phase");
	int64_t overdue = overdue_from_ns(pod);
	struct resource_list requests, limits;

	if (str_is(phase, "Succeeded") || str_is(phase, "Failed"))
		return;
	if (overdue > 0 && now_ns > overdue)
		return;
	if (overdue > 0 && ret_expires_ns && (*ret_expires_ns == 0 || overdue < *ret_expires_ns))
		*ret_expires_ns = overdue;
	requests = pod_resources_requests(arena, pod, flags);
	limits = pod_resources_limits(arena, pod, flags);
	resource_list_set_int(arena, ret, STR("pods"), 1);
	compute_usage(arena, &requests, &limits, ret);
}

static void service_usage(struct arena *arena, const struct json *service, struct resource_list *ret)
{
	const struct json *spec = json_get(service, "spec"), *ports = json_get(spec, "ports");
	struct str type = json_get_str(spec, "type");
	bool balancer = str_is(type, "LoadBalancer");
	int64_t n = 0;

	if (str_is(type, "NodePort") || (balancer && json_get_bool(spec, "allocateLoadBalancerNodePorts", true)))
		n = (int64_t)json_count(ports);
	else if (balancer)
		json_foreach(p, ports)
			n += json_get_int(p, "nodePort", 0) != 0;
	resource_list_set_int(arena, ret, STR("services"), 1);
	resource_list_set_int(arena, ret, STR("services.nodeports"), n);
	resource_list_set_int(arena, ret, STR("services.loadbalancers"), balancer);
}

/* In whole bytes. */
static struct quantity storage_of(const struct json *claim)
{
	struct quantity q = quantity_of(json_at(claim, "spec.resources.requests.storage"));
	struct quantity given = quantity_of(json_at(claim, "status.allocatedResources.storage"));

	if (quantity_cmp(&given, &q) > 0)
		q = given;
	return quantity_from_int(quantity_value(&q), q.format);
}

static void claim_usage(struct arena *arena, const struct json *claim, struct resource_list *ret)
{
	struct str class = meta_has_annotation(claim, CLASS_ANNOTATION) ? meta_annotation(claim, CLASS_ANNOTATION)
									: json_at_str(claim, "spec.storageClassName");
	bool sized = json_at(claim, "spec.resources.requests.storage") != NULL;

	resource_list_set_int(arena, ret, STR("persistentvolumeclaims"), 1);
	if (sized)
		resource_list_set(arena, ret, STR("requests.storage"), storage_of(claim));
	if (class.n == 0)
		return;
	resource_list_set_int(arena, ret,
			      str_of(arena_printf(arena, "%.*s" BY_CLASS "persistentvolumeclaims", STR_ARG(class))), 1);
	if (sized)
		resource_list_set(arena, ret,
				  str_of(arena_printf(arena, "%.*s" BY_CLASS "requests.storage", STR_ARG(class))),
				  storage_of(claim));
}

static void add_devices(struct arena *arena, const struct json *request, struct resource_list *to)
{
	struct str class = json_get_str(request, "deviceClassName");
	bool all = str_is(json_get_str(request, "allocationMode"), "All");
	struct resource_list one = { 0 };

	if (class.n == 0)
		return;
	resource_list_set_int(arena, &one, str_of(arena_printf(arena, "%.*s" DEVICES_OF_CLASS, STR_ARG(class))),
			      all ? DEVICES_ALL : json_get_int(request, "count", 0));
	resource_list_add(arena, to, &one);
}

/* Of alternatives, for each class the one that needs most of it. */
static void device_usage(struct arena *arena, const struct json *claim, struct resource_list *ret)
{
	json_foreach(r, json_at(claim, "spec.devices.requests")) {
		struct resource_list most = { 0 };

		json_foreach(sub, json_get(r, "firstAvailable")) {
			struct resource_list one = { 0 };

			add_devices(arena, sub, &one);
			resource_list_max(arena, &most, &one);
		}
		add_devices(arena, json_get(r, "exactly"), &most);
		resource_list_add(arena, ret, &most);
	}
}

void quota_usage(struct arena *arena, const struct api_kind *kind, const struct json *object, int64_t now_ns,
		 int64_t *ret_expires_ns, struct resource_list *ret)
{
	const char *count = arena_printf(arena, "count/%s%s%s", kind->plural, *kind->group ? "." : "", kind->group);

	resource_list_set_int(arena, ret, str_of(count), 1);
	if (kind == KIND_POD)
		pod_usage(arena, object, now_ns, ret_expires_ns, ret);
	else if (kind == KIND_SERVICE)
		service_usage(arena, object, ret);
	else if (kind == KIND_PERSISTENTVOLUMECLAIM)
		claim_usage(arena, object, ret);
	else if (kind == KIND_RESOURCECLAIM)
		device_usage(arena, object, ret);
	else if (kind == KIND_CONFIGMAP || kind == KIND_SECRET || kind == KIND_RESOURCEQUOTA ||
		 kind == KIND_REPLICATIONCONTROLLER)
		resource_list_set_int(arena, ret, str_of(kind->plural), 1);
}

/* ---- scopes ---- */

struct quota_scope *quota_scopes_parse(struct arena *arena, const struct json *spec, size_t *ret_n)
{
	const struct json *plain = json_get(spec, "scopes"),
			  *expressions = json_at(spec, "scopeSelector.matchExpressions");
	struct quota_scope *ret =
		arena_new_array(arena, struct quota_scope, json_count(plain) + json_count(expressions) + 1);
	size_t n = 0;

	json_foreach(s, plain)
		ret[n++] = (struct quota_scope){ .name = json_str(s), .op = QUOTA_SCOPE_EXISTS };
	json_foreach(x, expressions) {
		struct str op = json_get_str(x, "operator");
		struct quota_scope *s = &ret[n++];

		s->name = json_get_str(x, "scopeName");
		s->op = str_is(op, "In")             ? QUOTA_SCOPE_IN
			: str_is(op, "NotIn")        ? QUOTA_SCOPE_NOT_IN
			: str_is(op, "DoesNotExist") ? QUOTA_SCOPE_NOT_EXISTS
						     : QUOTA_SCOPE_EXISTS;
		s->values = arena_new_array(arena, struct str, json_count(json_get(x, "values")) + 1);
		json_foreach(v, json_get(x, "values"))
			s->values[s->n_values++] = json_str(v);
	}
	*ret_n = n;
	return ret;
}

static bool among(const struct quota_scope *s, struct str v)
{
	for (size_t i = 0; i < s->n_values; i++)
		if (str_eq(s->values[i], v))
			return true;
	return false;
}

/* `v` empty: the object has none. As with labels, NotIn holds for what is absent. */
static bool matches_value(const struct quota_scope *s, struct str v)
{
	switch (s->op) {
	case QUOTA_SCOPE_EXISTS:
		return v.n > 0;
	case QUOTA_SCOPE_NOT_EXISTS:
		return v.n == 0;
	case QUOTA_SCOPE_IN:
		return v.n > 0 && among(s, v);
	case QUOTA_SCOPE_NOT_IN:
		return v.n == 0 || !among(s, v);
	}
	return false;
}

static bool crosses(const struct json *term)
{
	return json_count(json_get(term, "namespaces")) > 0 || json_get(term, "namespaceSelector");
}

static bool cross_namespace(const struct json *pod)
{
	static const char *const kinds[] = { "podAffinity", "podAntiAffinity" };
	const struct json *affinity = json_at(pod, "spec.affinity");

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct json *of = json_get(affinity, kinds[i]);

		json_foreach(t, json_get(of, "requiredDuringSchedulingIgnoredDuringExecution"))
			if (crosses(t))
				return true;
		json_foreach(t, json_get(of, "preferredDuringSchedulingIgnoredDuringExecution"))
			if (crosses(json_get(t, "podAffinityTerm")))
				return true;
	}
	return false;
}

static bool pod_in_scope(const struct quota_scope *s, const struct json *pod)
{
	bool terminating = json_at_int(pod, "spec.activeDeadlineSeconds", -1) >= 0;

	if (str_is(s->name, "Terminating"))
		return terminating;
	if (str_is(s->name, "NotTerminating"))
		return !terminating;
	if (str_is(s->name, "BestEffort"))
		return !strcmp(hooks_pod_qos(pod), "BestEffort");
	if (str_is(s->name, "NotBestEffort"))
		return strcmp(hooks_pod_qos(pod), "BestEffort") != 0;
	if (str_is(s->name, "PriorityClass"))
		return matches_value(s, json_at_str(pod, "spec.priorityClassName"));
	return str_is(s->name, "CrossNamespacePodAffinity") && cross_namespace(pod);
}

static bool claim_in_scope(const struct quota_scope *s, const struct json *claim)
{
	const struct str names[] = { json_at_str(claim, "spec.volumeAttributesClassName"),
				     json_at_str(claim, "status.currentVolumeAttributesClassName"),
				     json_at_str(claim, "status.modifyVolumeStatus.targetVolumeAttributesClassName") };
	bool any = false;

	if (!str_is(s->name, "VolumeAttributesClass"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		any = any || names[i].n > 0;
		if (names[i].n > 0 && matches_value(s, names[i]))
			return true;
	}
	return !any && matches_value(s, STR_NULL);
}

bool quota_scope_has(const struct quota_scope *s, const struct api_kind *kind, const struct json *object)
{
	if (kind == KIND_POD)
		return pod_in_scope(s, object);
	return kind == KIND_PERSISTENTVOLUMECLAIM && claim_in_scope(s, object);
}

/* ---- what must be said ---- */

static int by_name(const void *pa, const void *pb)
{
	return str_cmp(*(const struct str *)pa, *(const struct str *)pb);
}

static bool names(const struct json *container, struct str resource)
{
	bool limits = str_starts(resource, STR("limits."));
	long dot = str_find(resource, '.');
	struct str plain = dot < 0 ? resource : str_make(resource.p + dot + 1, resource.n - (size_t)dot - 1);

	return json_get_n(json_get(json_get(container, "resources"), limits ? "limits" : "requests"), plain) != NULL;
}

static size_t collect_silent(const struct json *containers, struct str resource, struct str *ret, size_t n)
{
	json_foreach(c, containers)
		if (!names(c, resource))
			ret[n++] = json_get_str(c, "name");
	return n;
}

const char *quota_unspecified(struct arena *arena, const struct json *pod, const struct str *required, size_t n)
{
	/* In order of name; only these few must be said, as upstream regrets. */
	static const char *const must[] = { "cpu",    "limits.cpu",   "limits.memory",
					    "memory", "requests.cpu", "requests.memory" };
	const struct json *plain = json_at(pod, "spec.containers"), *init = json_at(pod, "spec.initContainers");
	struct str *silent = arena_new_array(arena, struct str, json_count(plain) + json_count(init) + 1);
	_cleanup_(buf_finish) struct buf said = BUF_INIT;
	size_t n_silent;

	if (pod_resources_whole(pod))
		return "";
	for (size_t i = 0; i < ARRAY_SIZE(must); i++) {
		bool wanted = false;

		for (size_t k = 0; k < n; k++)
			wanted = wanted || str_is(required[k], must[i]);
		if (!wanted)
			continue;
		n_silent = collect_silent(init, str_of(must[i]), silent,
					  collect_silent(plain, str_of(must[i]), silent, 0));
		qsort(silent, n_silent, sizeof(*silent), by_name);
		for (size_t k = 0; k < n_silent; k++)
			buf_printf(&said, "%s%s%.*s",
				   k                ? ","
				   : buf_len(&said) ? "; "
						    : "must specify ",
				   k ? "" : arena_printf(arena, "%s for: ", must[i]), STR_ARG(silent[k]));
	}
	return buf_len(&said) ? arena_strndup(arena, buf_cstr(&said), buf_len(&said)) : "";
}
