/* SPDX-License-Identifier: Apache-2.0 */
/* The pod spec as pods and pod templates share it: computed defaults and the rules between fields.
 * No state. Any thread. */
#include <limits.h>
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

/* Members of a volume besides its name are its sources. */
static size_t count_sources(const struct json *volume)
{
	size_t n = 0;

	json_foreach(m, volume)
		n += !str_is(m->key, "name") && m->type != JSON_NULL;
	return n;
}

/* ---- defaults ---- */

static void pull_policy(struct arena *arena, struct json *object, const char *key, struct str image)
{
	if (!json_get_str(object, key).n)
		json_set_cstr(arena, object, key, names_image_is_latest(image) ? "Always" : "IfNotPresent");
}

static void container_defaults(struct arena *arena, struct json *c)
{
	pull_policy(arena, c, "imagePullPolicy", json_get_str(c, "image"));
	hooks_default_str(arena, c, "terminationMessagePath", "/dev/termination-log");
	hooks_default_str(arena, c, "terminationMessagePolicy", "File");
}

void hooks_pod_spec_defaults(struct arena *arena, struct json *spec)
{
	static const char *const lists[] = { "initContainers", "containers", "ephemeralContainers" };
	struct str account = json_get_str(spec, "serviceAccountName"), old = json_get_str(spec, "serviceAccount");

	if (!json_is(spec, JSON_OBJECT))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i]))
			container_defaults(arena, c);
	json_foreach(v, json_get(spec, "volumes")) {
		struct json *image = json_get(v, "image");

		if (json_is(v, JSON_OBJECT) && !count_sources(v))
			json_set(v, "emptyDir", json_new_object(arena));
		if (json_is(image, JSON_OBJECT))
			pull_policy(arena, image, "pullPolicy", json_get_str(image, "reference"));
	}
	/* The old name of the field goes along with the new one. */
	if (account.n)
		json_set_str(arena, spec, "serviceAccount", account);
	else if (old.n)
		json_set_str(arena, spec, "serviceAccountName", old);
}

/* ---- DNS, hosts ---- */

#define POD_NAMESERVERS_MAX 3
#define POD_SEARCHES_MAX 32
#define POD_SEARCH_CHARS_MAX 2048

static const char *search_domain(struct str s)
{
	char plain[VALIDATE_NAME_MAX + 1];

	if (s.n && s.p[s.n - 1] == '.')
		s.n--;
	if (s.n > VALIDATE_NAME_MAX)
		return "must be no more than 253 characters";
	/* Underscores may stand where letters may. */
	for (size_t i = 0; i < s.n; i++)
		plain[i] = (char)(s.p[i] == '_' ? 'a' : s.p[i]);
	if (!validate_dns1123_subdomain(str_make(plain, s.n)))
		return NULL;
	return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_', or '.', "
	       "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation "
	       "is '[a-z0-9]([-a-z0-9_]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9_]*[a-z0-9])?)*')";
}

static void validate_searches(const struct json *searches, const struct field_path *at, struct field_errors *e)
{
	size_t i = 0, chars = 0;

	json_foreach(s, searches)
		chars += json_str(s).n + (chars > 0);
	if (json_count(searches) > POD_SEARCHES_MAX)
		field_invalid(e, at, searches, "must not have more than %d search paths", POD_SEARCHES_MAX);
	if (chars > POD_SEARCH_CHARS_MAX)
		field_invalid(e, at, searches,
			      "must not have more than %d characters (including spaces) in the search list",
			      POD_SEARCH_CHARS_MAX);
	json_foreach(s, searches) {
		if (!str_is(json_str(s), "."))
			hooks_text_validate(json_str(s), search_domain, FIELD_INDEX(at, i), e);
		i++;
	}
}

static void validate_dns(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *config = json_get(spec, "dnsConfig"), *servers = json_get(config, "nameservers");
	const struct field_path *at = FIELD(path, "dnsConfig");
	size_t i = 0;

	if (str_is(json_get_str(spec, "dnsPolicy"), "None")) {
		if (!config)
			field_required(e, at, "must provide `dnsConfig` when `dnsPolicy` is None");
		else if (!json_count(servers))
			field_required(e, FIELD(at, "nameservers"),
				       "must provide at least one DNS nameserver when `dnsPolicy` is None");
		if (!json_count(servers))
			return;
	}
	if (json_count(servers) > POD_NAMESERVERS_MAX)
		field_invalid(e, FIELD(at, "nameservers"), servers, "must not have more than %d nameservers",
			      POD_NAMESERVERS_MAX);
	json_foreach(s, servers) {
		hooks_text_validate(json_str(s), validate_ip, FIELD_INDEX(FIELD(at, "nameservers"), i), e);
		i++;
	}
	validate_searches(json_get(config, "searches"), FIELD(at, "searches"), e);
	i = 0;
	json_foreach(o, json_get(config, "options")) {
		if (!json_get_str(o, "name").n)
			field_required(e, FIELD_INDEX(FIELD(at, "options"), i), "must not be empty");
		i++;
	}
}

static void validate_host_aliases(const struct json *aliases, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(a, aliases) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		size_t j = 0;

		hooks_text_validate(json_get_str(a, "ip"), validate_ip, FIELD(at, "ip"), e);
		json_foreach(h, json_get(a, "hostnames")) {
			hooks_text_validate(json_str(h), validate_dns1123_subdomain,
					    FIELD_INDEX(FIELD(at, "hostnames"), j), e);
			j++;
		}
	}
}

/* ---- gates, claims ---- */

static void validate_gates(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(g, json_get(spec, "readinessGates")) {
		hooks_text_validate(json_get_str(g, "conditionType"), validate_qualified_name,
				    FIELD(FIELD_INDEX(FIELD(path, "readinessGates"), i), "conditionType"), e);
		i++;
	}
	i = 0;
	json_foreach(g, json_get(spec, "schedulingGates")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "schedulingGates"), i++);

		hooks_text_validate(json_get_str(g, "name"), validate_qualified_name, at, e);
		if (name_set_put(&seen, json_get_str(g, "name"), g) != g)
			field_duplicate_str(e, at, json_get_str(g, "name"));
	}
}

static void validate_resource_claims(const struct json *claims, const struct field_path *path, struct field_errors *e)
{
	static const char *const sources[] = { "resourceClaimName", "resourceClaimTemplateName", NULL };
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(c, claims) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str name = json_get_str(c, "name");
		size_t n = hooks_count_members(c, sources);

		if (name.n && name_set_put(&seen, name, c) != c)
			field_duplicate_str(e, FIELD(at, "name"), name);
		else if (name.n)
			hooks_text_validate(name, validate_dns1123_label, FIELD(at, "name"), e);
		if (n > 1)
			field_invalid(e, at, c,
				      "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be "
				      "specified");
		else if (n == 0)
			field_invalid(e, at, c,
				      "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
		for (const char *const *s = sources; *s; s++)
			if (json_get(c, *s))
				hooks_text_validate(json_get_str(c, *s), validate_dns1123_subdomain,
						    FIELD_STR(at, str_of(*s)), e);
	}
}

/* ---- the whole ---- */

static void validate_hostname_override(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *name = json_get(spec, "hostnameOverride");
	const struct field_path *at = FIELD(path, "hostnameOverride");

	if (!name || name->type == JSON_NULL)
		return;
	if (json_str(name).n > HOST_NAME_MAX)
		field_too_long(e, at, HOST_NAME_MAX);
	hooks_text_validate(json_str(name), validate_dns1123_subdomain, at, e);
	if (json_get_bool(spec, "setHostnameAsFQDN", false))
		field_forbidden(e, at, "must not be set when `setHostnameAsFQDN` is true");
	if (json_get_bool(spec, "hostNetwork", false))
		field_forbidden(e, at, "must not be set when `hostNetwork` is true");
}

void hooks_pod_spec_validate(const struct json *spec, const struct json *pod_meta, const struct field_path *path,
			     struct field_errors *e)
{
	hooks_volumes_validate(spec, pod_meta, path, e);
	validate_resource_claims(json_get(spec, "resourceClaims"), FIELD(path, "resourceClaims"), e);
	hooks_containers_validate(spec, pod_meta != NULL, path, e);
	hooks_pod_resources_validate(spec, FIELD(path, "resources"), e);
	validate_labels(json_get(spec, "nodeSelector"), FIELD(path, "nodeSelector"), e);
	hooks_pod_context_validate(spec, path, e);
	hooks_affinity_validate(json_get(spec, "affinity"), FIELD(path, "affinity"), e);
	validate_dns(spec, path, e);
	validate_gates(spec, path, e);
	hooks_spread_validate(json_get(spec, "topologySpreadConstraints"), FIELD(path, "topologySpreadConstraints"), e);
	hooks_tolerations_validate(json_get(spec, "tolerations"), FIELD(path, "tolerations"), e);
	validate_host_aliases(json_get(spec, "hostAliases"), FIELD(path, "hostAliases"), e);
	validate_hostname_override(spec, path, e);
	hooks_resource_list_validate(json_get(spec, "overhead"), true, FIELD(FIELD(path, "overhead"), "limits"), e);
	hooks_pod_os_validate(spec, path, e);
}

void hooks_pod_template_validate(const struct json *template, const struct field_path *path, struct field_errors *e)
{
	const struct json *spec = json_get(template, "spec");

	hooks_pod_annotations_validate(json_at(template, "metadata.annotations"), spec, FIELD(path, "annotations"), e);
	hooks_pod_spec_validate(spec, NULL, FIELD(path, "spec"), e);
	if (json_count(json_get(spec, "ephemeralContainers")))
		field_forbidden(e, FIELD(FIELD(path, "spec"), "ephemeralContainers"),
				"ephemeral containers not allowed in pod template");
}

/* ---- annotations that say what fields say now ---- */

static void add_containers(struct name_set *names, const struct json *spec)
{
	static const char *const lists[] = { "initContainers", "containers", "ephemeralContainers" };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		name_set_add_list(names, json_get(spec, lists[i]), "name");
}

static void validate_seccomp_text(struct str profile, const struct field_path *at, struct field_errors *e)
{
	static const char *const known[] = { "runtime/default", "docker/default", "unconfined", NULL };
	const struct str local = STR("localhost/");

	if (str_starts(profile, local))
		hooks_relative_path(str_make(profile.p + local.n, profile.n - local.n), at, e);
	else if (!hooks_one_of(profile, known))
		field_invalid_str(e, at, profile, "must be a valid seccomp profile");
}

void hooks_pod_annotations_validate(const struct json *annotations, const struct json *spec,
				    const struct field_path *path, struct field_errors *e)
{
	const struct str apparmor = STR("container.apparmor.security.beta.kubernetes.io/");
	_cleanup_name_set_ struct name_set containers;

	name_set_init(&containers);
	if (json_count(annotations))
		add_containers(&containers, spec);
	json_foreach(a, annotations) {
		const struct field_path *at = FIELD_KEY(path, a->key);
		struct str v = json_str(a);
		int64_t cost;

		if (str_is(a->key, "kubernetes.io/config.mirror") && !json_get_str(spec, "nodeName").n)
			field_invalid_str(e, at, v, "must set spec.nodeName if mirror pod annotation is set");
		if (str_is(a->key, "controller.kubernetes.io/pod-deletion-cost") &&
		    (str_to_int64(v, &cost) < 0 || cost < INT32_MIN || cost > INT32_MAX || v.p[0] == '+' ||
		     (v.n > 1 && v.p[0] == '0')))
			field_invalid_str(e, at, v, "must be a 32bit integer");
		if (str_is(a->key, "seccomp.security.alpha.kubernetes.io/pod") ||
		    str_starts(a->key, STR("container.seccomp.security.alpha.kubernetes.io/")))
			validate_seccomp_text(v, FIELD_STR(path, a->key), e);
		if (str_starts(a->key, apparmor)) {
			struct str name = str_make(a->key.p + apparmor.n, a->key.n - apparmor.n);

			if (!name_set_get(&containers, name))
				field_invalid_str(e, at, name, "container not found");
			if (v.n && !str_is(v, "runtime/default") && !str_is(v, "unconfined") &&
			    !str_starts(v, STR("localhost/")))
				field_invalid_str(e, at, v, "invalid AppArmor profile name: \"%.*s\"", STR_ARG(v));
		}
	}
}
