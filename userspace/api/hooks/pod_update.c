/* SPDX-License-Identifier: Apache-2.0 */
/* What of a pod may change after its creation: by an update, by resize, by ephemeralcontainers, and in its status.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define UPDATE_FORBIDDEN                                                                                               \
	"pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"      \
	"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"                    \
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
#define MIRROR "kubernetes.io/config.mirror"

static void restore(struct arena *arena, struct json *copy, const struct json *old, const char *key)
{
	const struct json *v = json_get(old, key);

	json_remove(copy, key);
	if (v)
		json_set(copy, key, json_clone(arena, v));
}

/* ---- annotations ---- */

static void validate_annotation_updates(const struct json *pod, const struct json *old, struct field_errors *e)
{
	const struct json *sides[2] = { json_get(meta_of(old), "annotations"), json_get(meta_of(pod), "annotations") };
	const struct field_path *path = FIELD(NULL, "metadata.annotations");
	const struct str apparmor = STR("container.apparmor.security.beta.kubernetes.io/");
	_cleanup_name_set_ struct name_set before, after;
	const struct name_set *by_key[2] = { &before, &after };

	name_set_init(&before);
	name_set_init(&after);
	name_set_add_members(&before, sides[0]);
	name_set_add_members(&after, sides[1]);
	for (int adding = 0; adding < 2; adding++)
		json_foreach(a, sides[adding]) {
			const struct json *other;

			if (!str_starts(a->key, apparmor) && !str_is(a->key, MIRROR))
				continue;
			other = name_set_get(by_key[!adding], a->key);

			if (adding ? other != NULL : other && json_equal(a, other))
				continue;
			if (str_starts(a->key, apparmor))
				field_forbidden(e, FIELD_KEY(path, a->key),
						adding ? "may not add AppArmor annotations"
						       : "may not remove or update AppArmor annotations");
			if (str_is(a->key, MIRROR))
				field_forbidden(e, FIELD_KEY(path, a->key),
						adding ? "may not add mirror pod annotation"
						       : "may not remove or update mirror pod annotation");
		}
}

/* ---- single fields ---- */

static bool validate_deadline(const struct json *spec, const struct json *old, const struct field_path *path,
			      struct field_errors *e)
{
	const struct json *now = json_get(spec, "activeDeadlineSeconds"), *was = json_get(old, "activeDeadlineSeconds");
	const struct field_path *at = FIELD(path, "activeDeadlineSeconds");

	if (now && was && json_int(was, 0) < json_int(now, 0)) {
		field_invalid(e, at, now, "must be less than or equal to previous value");
		return false;
	}
	if (!now && was)
		field_invalid(e, at, NULL, "must not update from a positive integer to nil value");
	return true;
}

static void check_gates(const struct json *spec, const struct json *old, const struct field_path *path,
			struct field_errors *e)
{
	_cleanup_name_set_ struct name_set was;
	size_t i = 0;

	name_set_init(&was);
	name_set_add_list(&was, json_get(old, "schedulingGates"), "name");
	json_foreach(g, json_get(spec, "schedulingGates")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "schedulingGates"), i++);
		struct str name = json_get_str(g, "name");

		if (!name_set_get(&was, name))
			field_forbidden(e, FIELD(at, "name"),
					"only deletion is allowed, but found new scheduling gate '%.*s'",
					STR_ARG(name));
	}
}

/* All but tolerationSeconds; true: there was none like it. */
static bool put_toleration(struct name_set *s, const struct json *t)
{
	static const char *const fields[] = { "key", "operator", "value", "effect" };
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (json_get(t, fields[i]))
			buf_printf(&text, "%c%.*s\n", fields[i][0], STR_ARG(json_get_str(t, fields[i])));
	return name_set_put(s, buf_str(&text), t) == t;
}

static void check_tolerations(const struct json *spec, const struct json *old, const struct field_path *path,
			      struct field_errors *e)
{
	_cleanup_name_set_ struct name_set now;

	name_set_init(&now);
	json_foreach(t, json_get(spec, "tolerations"))
		put_toleration(&now, t);
	json_foreach(o, json_get(old, "tolerations")) {
		if (put_toleration(&now, o)) {
			field_forbidden(e, FIELD(path, "tolerations"),
					"existing toleration can not be modified except its tolerationSeconds");
			return;
		}
	}
}

/* ---- gated pods: what they wait for may become narrower ---- */

static void check_gated_selector(const struct json *spec, const struct json *old, const struct field_path *path,
				 struct field_errors *e)
{
	const struct json *now = json_get(spec, "nodeSelector");
	_cleanup_name_set_ struct name_set by_key;

	name_set_init(&by_key);
	name_set_add_members(&by_key, now);
	json_foreach(l, json_get(old, "nodeSelector")) {
		const struct json *v = name_set_get(&by_key, l->key);

		if (!v || !json_equal(v, l)) {
			field_invalid(e, FIELD(path, "nodeSelector"), now,
				      "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
			return;
		}
	}
}

static void check_gated_affinity(const struct json *spec, const struct json *old, const struct field_path *path,
				 struct field_errors *e)
{
	const char *const required = "requiredDuringSchedulingIgnoredDuringExecution";
	const struct json *now = json_at(spec, "affinity.nodeAffinity"), *was = json_at(old, "affinity.nodeAffinity"),
			  *terms = json_get(json_get(now, required), "nodeSelectorTerms"),
			  *before = json_get(json_get(was, required), "nodeSelectorTerms"), *t;
	const struct field_path *at =
		FIELD(FIELD_STR(FIELD(path, "affinity.nodeAffinity"), str_of(required)), "nodeSelectorTerms");
	size_t i = 0;

	if (!json_count(before))
		return;
	if (json_count(before) != json_count(terms)) {
		field_invalid(e, at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
		return;
	}
	t = json_first(terms);
	json_foreach(b, before) {
		static const char *const lists[] = { "matchExpressions", "matchFields" };
		bool narrower = true;

		for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
			_cleanup_name_set_ struct name_set still;

			name_set_init(&still);
			json_foreach(y, json_get(t, lists[l]))
				name_set_put_value(&still, y, y);
			json_foreach(x, json_get(b, lists[l]))
				narrower &= name_set_get_value(&still, x) != NULL;
		}
		if (!narrower)
			field_invalid(e, FIELD_INDEX(at, i), t,
				      "only additions are allowed (no mutations or deletions)");
		i++;
		t = t->next;
	}
}

static void munge_gated(struct arena *arena, struct json *copy, const struct json *old)
{
	const struct json *node = json_at(old, "affinity.nodeAffinity");
	struct json *affinity;

	restore(arena, copy, old, "nodeSelector");
	affinity = json_get(copy, "affinity");
	if (affinity)
		json_remove(affinity, "nodeAffinity");
	if (node)
		json_set(json_ensure_object(arena, copy, "affinity"), "nodeAffinity", json_clone(arena, node));
	else if (affinity && !json_count(affinity) && !json_get(old, "affinity"))
		json_remove(copy, "affinity");
}

/* ---- update ---- */

/* A copy of the new spec with the fields that may change set back to the old ones. */
static struct json *munge(struct arena *arena, const struct json *spec, const struct json *old)
{
	static const char *const whole[] = { "activeDeadlineSeconds", "tolerations", "schedulingGates" };
	static const char *const lists[] = { "initContainers", "containers" };
	struct json *copy = json_clone(arena, spec);

	for (size_t i = 0; i < ARRAY_SIZE(whole); i++)
		restore(arena, copy, old, whole[i]);
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		struct json *o = json_first(json_get(old, lists[l]));

		json_foreach(c, json_get(copy, lists[l])) {
			if (o && json_get(o, "image"))
				json_set_str(arena, c, "image", json_get_str(o, "image"));
			o = o ? o->next : NULL;
		}
	}
	if (json_get_int(old, "terminationGracePeriodSeconds", 0) < 0 &&
	    json_get_int(spec, "terminationGracePeriodSeconds", 0) == 1)
		restore(arena, copy, old, "terminationGracePeriodSeconds");
	return copy;
}

void hooks_pod_update_validate(const struct json *pod, const struct json *old, struct field_errors *e)
{
	static const char *const lists[] = { "containers", "initContainers" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(pod, "spec"), *old_spec = json_get(old, "spec");
	const struct field_path *path = FIELD(NULL, "spec");
	struct json *munged;

	validate_annotation_updates(pod, old, e);
	if (!json_is(spec, JSON_OBJECT) || !json_is(old_spec, JSON_OBJECT) || json_equal(spec, old_spec))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (json_count(json_get(spec, lists[i])) != json_count(json_get(old_spec, lists[i]))) {
			field_forbidden(e, FIELD_STR(path, str_of(lists[i])),
					"pod updates may not add or remove containers");
			return;
		}
	if (!validate_deadline(spec, old_spec, path, e))
		return;
	check_tolerations(spec, old_spec, path, e);
	check_gates(spec, old_spec, path, e);
	munged = munge(&arena, spec, old_spec);
	if (json_count(json_get(old_spec, "schedulingGates"))) {
		check_gated_selector(spec, old_spec, path, e);
		check_gated_affinity(spec, old_spec, path, e);
		munge_gated(&arena, munged, old_spec);
	}
	if (!json_equal(munged, old_spec))
		field_forbidden(e, path, "%s", UPDATE_FORBIDDEN);
}

/* ---- resize ---- */

static bool is_removed(const struct json *now, const struct json *was)
{
	_cleanup_name_set_ struct name_set by_key;

	name_set_init(&by_key);
	name_set_add_members(&by_key, now);
	json_foreach(r, was)
		if (!name_set_get(&by_key, r->key))
			return true;
	return false;
}

static void validate_container_resize(const struct json *c, const struct json *old, const struct field_path *at,
				      struct field_errors *e)
{
	static const char *const sides[] = { "requests", "limits" };
	const struct json *now = json_get(c, "resources"), *was = json_get(old, "resources");
	const struct json *limit = json_at(now, "limits.memory"), *before = json_at(was, "limits.memory");
	bool restarts = false;

	for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
		if (is_removed(json_get(now, sides[i]), json_get(was, sides[i])))
			field_forbidden(e, FIELD_STR(FIELD(at, "resources"), str_of(sides[i])),
					"resource %s cannot be removed", sides[i]);
	json_foreach(p, json_get(c, "resizePolicy"))
		restarts |= str_is(json_get_str(p, "resourceName"), "memory") &&
			    str_is(json_get_str(p, "restartPolicy"), "RestartContainer");
	if (restarts || !limit || before)
		return;
	field_forbidden(e, FIELD_KEY(FIELD(FIELD(at, "resources"), "limits"), STR("memory")),
			"memory limits cannot be added unless resizePolicy is RestartContainer");
}

/* The container with the amounts of cpu and memory it had before. */
static struct json *unsized(struct arena *arena, const struct json *c, const struct json *old)
{
	static const char *const sides[] = { "requests", "limits" };
	static const char *const names[] = { "cpu", "memory" };
	struct json *copy = json_clone(arena, c), *resources = json_ensure_object(arena, copy, "resources");

	for (size_t s = 0; s < ARRAY_SIZE(sides); s++) {
		const struct json *was = json_get(json_get(old, "resources"), sides[s]);
		struct json *list;

		if (!was) {
			json_remove(resources, sides[s]);
			continue;
		}
		list = json_ensure_object(arena, resources, sides[s]);
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			restore(arena, list, was, names[i]);
	}
	return copy;
}

static void validate_resize_list(struct arena *arena, const struct json *spec, const struct json *old, const char *list,
				 const struct field_path *path, struct field_errors *e)
{
	bool init = !strcmp(list, "initContainers");
	const struct json *o = json_first(json_get(old, list));
	size_t i = 0;

	json_foreach(c, json_get(spec, list)) {
		const struct field_path *at = FIELD_INDEX(FIELD_STR(path, str_of(list)), i++);

		if (!o)
			break;
		if (init && !str_is(json_get_str(c, "restartPolicy"), "Always")) {
			if (!json_equal(c, o))
				field_forbidden(e, path, "resources for non-sidecar init containers are immutable");
		} else {
			validate_container_resize(c, o, at, e);
			if (!json_equal(unsized(arena, c, o), json_get(o, "resources") ? o : unsized(arena, o, o)))
				field_forbidden(
					e, path,
					init ? "only cpu and memory resources for sidecar containers are mutable"
					     : "only cpu and memory resources are mutable");
		}
		o = o->next;
	}
}

static void validate_resize(const struct json *pod, const struct json *old, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(pod, "spec"), *was = json_get(old, "spec");
	const struct field_path *path = FIELD(NULL, "spec");
	struct str qos = json_at_str(old, "status.qosClass");

	if (json_get(json_get(meta_of(old), "annotations"), MIRROR)) {
		field_forbidden(e, FIELD(NULL, ""), "static pods cannot be resized");
		return;
	}
	if (str_is(json_at_str(was, "os.name"), "windows")) {
		field_forbidden(e, FIELD(NULL, ""), "windows pods cannot be resized");
		return;
	}
	hooks_pod_spec_validate(spec, meta_of(pod), path, e);
	if (qos.n && !str_is(qos, hooks_pod_qos(pod)))
		field_invalid_str(e, path, qos, "Pod QOS Class may not change as a result of resizing");
	validate_resize_list(&arena, spec, was, "initContainers", path, e);
	validate_resize_list(&arena, spec, was, "containers", path, e);
}

/* ---- ephemeral containers ---- */

static void validate_ephemeral(const struct json *pod, const struct json *old, struct field_errors *e)
{
	const struct field_path *path = FIELD(NULL, "spec"), *at = FIELD(path, "ephemeralContainers");
	_cleanup_name_set_ struct name_set now;

	name_set_init(&now);
	name_set_add_list(&now, json_at(pod, "spec.ephemeralContainers"), "name");

	if (json_get(json_get(meta_of(old), "annotations"), MIRROR)) {
		field_forbidden(e, FIELD(NULL, ""), "static pods do not support ephemeral containers");
		return;
	}
	hooks_pod_spec_validate(json_get(pod, "spec"), meta_of(pod), path, e);
	json_foreach(o, json_at(old, "spec.ephemeralContainers")) {
		struct str name = json_get_str(o, "name");
		const struct json *c = name_set_get(&now, name);

		if (!c)
			field_forbidden(e, at, "existing ephemeral containers \"%.*s\" may not be removed\n",
					STR_ARG(name));
		else if (!json_equal(c, o))
			field_forbidden(e, at, "existing ephemeral containers \"%.*s\" may not be changed\n",
					STR_ARG(name));
	}
}

void hooks_pod_subresource_validate(const char *subresource, const struct json *pod, const struct json *old,
				    struct field_errors *e)
{
	if (!old)
		return;
	if (!strcmp(subresource, "resize"))
		validate_resize(pod, old, e);
	else if (!strcmp(subresource, "ephemeralcontainers"))
		validate_ephemeral(pod, old, e);
}
