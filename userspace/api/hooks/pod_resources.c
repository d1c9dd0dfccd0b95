/* SPDX-License-Identifier: Apache-2.0 */
/* What containers and pods ask for: names and amounts, requests against limits, claims, resize policies.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

#define NANO 1000000000

/* ---- names ---- */

static bool is_standard(struct str name)
{
	static const char *const names[] = { "cpu",
					     "memory",
					     "ephemeral-storage",
					     "requests.cpu",
					     "requests.memory",
					     "requests.ephemeral-storage",
					     "limits.cpu",
					     "limits.memory",
					     "limits.ephemeral-storage",
					     "pods",
					     "resourcequotas",
					     "services",
					     "replicationcontrollers",
					     "secrets",
					     "configmaps",
					     "persistentvolumeclaims",
					     "storage",
					     "requests.storage",
					     "services.nodeports",
					     "services.loadbalancers",
					     NULL };

	return hooks_one_of(name, names) || str_starts(name, STR("hugepages-")) ||
	       str_starts(name, STR("requests.hugepages-"));
}

static bool is_container_resource(struct str name)
{
	static const char *const names[] = { "cpu", "memory", "ephemeral-storage", NULL };

	return hooks_one_of(name, names) || str_starts(name, STR("hugepages-"));
}

bool hooks_resource_is_integer(struct str name)
{
	static const char *const names[] = { "pods",
					     "resourcequotas",
					     "services",
					     "configmaps",
					     "replicationcontrollers",
					     "secrets",
					     "persistentvolumeclaims",
					     "services.nodeports",
					     "services.loadbalancers",
					     NULL };
	bool native = str_find(name, '/') < 0 || memmem(name.p, name.n, "kubernetes.io/", 14);

	return hooks_one_of(name, names) || !native;
}

bool hooks_resource_is_exact(struct str name)
{
	bool native = str_find(name, '/') < 0 || memmem(name.p, name.n, "kubernetes.io/", 14);

	return !native || str_starts(name, STR("hugepages-"));
}

void hooks_resource_name_validate(struct str name, bool containers, const struct field_path *at, struct field_errors *e)
{
	const char *why = validate_qualified_name(name);
	bool plain = str_find(name, '/') < 0;

	if (why) {
		field_invalid_str(e, at, name, "%s", why);
		return;
	}
	if (plain && !is_standard(name))
		field_invalid_str(e, at, name, "must be a standard resource type or fully qualified");
	if (!containers)
		return;
	if (plain && !is_container_resource(name))
		field_invalid_str(e, at, name, "must be a standard resource for containers");
	if (!plain && str_starts(name, STR("requests.")))
		field_invalid_str(e, at, name, "doesn't follow extended resource name standard");
}

static void validate_amount(const struct json *r, const struct field_path *at, struct field_errors *e)
{
	struct quantity q = quantity_of(r);

	if (q.nano < 0)
		field_invalid_str(e, at, json_str(r), "must be greater than or equal to 0");
	if (hooks_resource_is_integer(r->key) && q.nano % NANO)
		field_invalid_str(e, at, json_str(r), "must be an integer");
}

void hooks_resource_list_validate(const struct json *list, bool containers, const struct field_path *path,
				  struct field_errors *e)
{
	json_foreach(r, list) {
		const struct field_path *at = FIELD_KEY(path, r->key);

		hooks_resource_name_validate(r->key, containers, at, e);
		validate_amount(r, at, e);
	}
}

/* ---- requirements ---- */

static void validate_huge(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	json_foreach(r, list) {
		struct quantity q = quantity_of(r), page;
		struct str size;

		if (!str_starts(r->key, STR("hugepages-")))
			continue;
		size = str_make(r->key.p + 10, r->key.n - 10);
		if (quantity_parse(size, &page, NULL) < 0 || page.nano <= 0 || q.nano % page.nano)
			field_invalid_str(e, FIELD_KEY(path, r->key), json_str(r),
					  "%.*s is not positive integer multiple of %.*s", STR_ARG(json_str(r)),
					  STR_ARG(r->key));
	}
}

static void validate_requests(const struct json *requests, const struct json *limits, const struct field_path *path,
			      struct field_errors *e)
{
	_cleanup_name_set_ struct name_set by_key;

	name_set_init(&by_key);
	name_set_add_members(&by_key, limits);
	json_foreach(r, requests) {
		const struct json *limit = name_set_get(&by_key, r->key);
		struct quantity want = quantity_of(r), most = quantity_of(limit);

		if (!limit) {
			if (hooks_resource_is_exact(r->key))
				field_required(e, FIELD(path, "limits"),
					       "Limit must be set for non overcommitable resources");
		} else if (hooks_resource_is_exact(r->key) && quantity_cmp(&want, &most) != 0) {
			field_invalid_str(e, FIELD(path, "requests"), json_str(r),
					  "must be equal to %.*s limit of %.*s", STR_ARG(r->key),
					  STR_ARG(json_str(limit)));
		} else if (quantity_cmp(&want, &most) > 0) {
			field_invalid_str(e, FIELD(path, "requests"), json_str(r),
					  "must be less than or equal to %.*s limit of %.*s", STR_ARG(r->key),
					  STR_ARG(json_str(limit)));
		}
	}
}

static bool has_huge(const struct json *list)
{
	json_foreach(r, list)
		if (str_starts(r->key, STR("hugepages-")))
			return true;
	return false;
}

/* One claim as a whole and as requests of it exclude each other. */
static bool claimed_before(struct name_set *claims, struct name_set *requests, const struct json *c)
{
	struct str name = json_get_str(c, "name"), request = json_get_str(c, "request");
	_cleanup_buf_ struct buf both = BUF_INIT;
	bool any = name_set_get(claims, name) != NULL, whole, same;

	buf_printf(&both, "%.*s/", STR_ARG(name));
	whole = name_set_get(requests, buf_str(&both)) != NULL;
	if (request.n)
		buf_add_str(&both, request);
	same = name_set_put(requests, buf_str(&both), c) != c;
	name_set_put(claims, name, c);
	return request.n ? whole || same : any;
}

static void validate_claims(const struct json *claims, const struct name_set *pod_claims, const struct field_path *path,
			    struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen, requests;
	size_t i = 0;

	name_set_init(&seen);
	name_set_init(&requests);

	json_foreach(c, claims) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str name = json_get_str(c, "name"), request = json_get_str(c, "request");

		if (!name.n) {
			field_required(e, at, NULL);
			continue;
		}
		if (request.n)
			hooks_text_validate(request, validate_dns1123_label, FIELD(at, "request"), e);
		if (claimed_before(&seen, &requests, c))
			field_duplicate_str(e, at, name);
		if (!pod_claims || !name_set_get(pod_claims, name))
			field_not_found(e, at, name);
	}
}

void hooks_requirements_validate(const struct json *resources, const struct name_set *pod_claims,
				 const struct field_path *path, struct field_errors *e)
{
	const struct json *limits = json_get(resources, "limits"), *requests = json_get(resources, "requests");

	hooks_resource_list_validate(limits, true, FIELD(path, "limits"), e);
	validate_huge(limits, FIELD(path, "limits"), e);
	hooks_resource_list_validate(requests, true, FIELD(path, "requests"), e);
	validate_huge(requests, FIELD(path, "requests"), e);
	validate_requests(requests, limits, path, e);
	if ((has_huge(limits) || has_huge(requests)) && !json_get(limits, "cpu") && !json_get(limits, "memory") &&
	    !json_get(requests, "cpu") && !json_get(requests, "memory"))
		field_forbidden(e, path, "HugePages require cpu or memory");
	validate_claims(json_get(resources, "claims"), pod_claims, FIELD(path, "claims"), e);
}

/* ---- resize policies ---- */

void hooks_resize_policy_validate(const struct json *policies, struct str pod_restart, const struct field_path *path,
				  struct field_errors *e)
{
	static const char *const resources[] = { "cpu", "memory", NULL };
	static const char *const restarts[] = { "NotRequired", "RestartContainer", NULL };
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(p, policies) {
		struct str resource = json_get_str(p, "resourceName"), restart = json_get_str(p, "restartPolicy");

		if (name_set_put(&seen, resource, p) != p)
			field_duplicate_str(e, FIELD_INDEX(path, i), resource);
		i++;
		if (!resource.n || !restart.n)
			field_required(e, path, NULL);
		if (resource.n)
			hooks_supported(resource, resources, path, e);
		if (restart.n)
			hooks_supported(restart, restarts, path, e);
		if (str_is(pod_restart, "Never") && !str_is(restart, "NotRequired"))
			field_invalid_str(e, path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
	}
}

/* ---- the whole pod ---- */

struct sum {
	struct quantity total, most_init, sidecars;
};

/* What the containers ask for together: all at once, or the greediest step of the initialisation. */
static struct quantity asked_for(const struct json *spec, const char *resource)
{
	struct sum s = { 0 };

	json_foreach(c, json_get(spec, "initContainers")) {
		struct quantity q = quantity_of(json_get(json_at(c, "resources.requests"), resource));

		if (str_is(json_get_str(c, "restartPolicy"), "Always"))
			quantity_add(&s.sidecars, &q);
		else
			quantity_add(&q, &s.sidecars);
		if (quantity_cmp(&q, &s.most_init) > 0)
			s.most_init = q;
	}
	s.total = s.sidecars;
	json_foreach(c, json_get(spec, "containers")) {
		struct quantity q = quantity_of(json_get(json_at(c, "resources.requests"), resource));

		quantity_add(&s.total, &q);
	}
	return quantity_cmp(&s.most_init, &s.total) > 0 ? s.most_init : s.total;
}

static void validate_pod_limits(const struct json *spec, const struct json *limits, const struct field_path *path,
				struct field_errors *e)
{
	size_t i = 0;

	json_foreach(c, json_get(spec, "containers")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "containers"), i++);

		json_foreach(l, json_at(c, "resources.limits")) {
			const struct json *pod = json_get_n(limits, l->key);
			struct quantity have = quantity_of(l), most = quantity_of(pod);

			if (pod && quantity_cmp(&have, &most) > 0)
				field_invalid_str(e, FIELD(FIELD_KEY(at, l->key), "limits"), json_str(l),
						  "must be less than or equal to pod limits of %.*s",
						  STR_ARG(json_str(pod)));
		}
	}
}

void hooks_pod_resources_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const supported[] = { "cpu", "hugepages-1Gi", "hugepages-2Mi", "memory", NULL };
	static const char *const sums[] = { "cpu", "memory" };
	static const char *const sides[] = { "limits", "requests" };
	const struct json *resources = json_get(spec, "resources");

	if (!resources)
		return;
	if (json_get(resources, "claims"))
		field_forbidden(e, FIELD(path, "claims"), "claims cannot be set for Resources at pod-level");
	for (size_t s = 0; s < ARRAY_SIZE(sides); s++)
		json_foreach(r, json_get(resources, sides[s])) {
			const struct field_path *at = FIELD_KEY(FIELD_STR(path, str_of(sides[s])), r->key);

			if (!str_is(r->key, "cpu") && !str_is(r->key, "memory") &&
			    !str_starts(r->key, STR("hugepages-")))
				field_not_supported(e, at, r->key, supported);
			validate_amount(r, at, e);
		}
	validate_requests(json_get(resources, "requests"), json_get(resources, "limits"), path, e);
	for (size_t i = 0; i < ARRAY_SIZE(sums); i++) {
		const struct json *pod = json_get(json_get(resources, "requests"), sums[i]);
		struct quantity want = asked_for(spec, sums[i]), have = quantity_of(pod);
		char text[QUANTITY_TEXT_MAX];

		if (quantity_cmp(&want, &have) <= 0)
			continue;
		quantity_format(&want, text);
		field_invalid_str(e, FIELD_KEY(FIELD(path, "requests"), str_of(sums[i])),
				  pod ? json_str(pod) : STR("0"),
				  "must be greater than or equal to aggregate container requests of %s", text);
	}
	validate_pod_limits(spec, json_get(resources, "limits"), path, e);
}
