/* SPDX-License-Identifier: Apache-2.0 */
/* See identity.h. Any thread. */
#include "kubelet/pods/identity.h"

#include <errno.h>

static int64_t either(const struct json *own, const struct json *pod, const char *key, int64_t otherwise)
{
	return json_get_int(own, key, json_get_int(pod, key, otherwise));
}

static const struct json *either_object(const struct json *own, const struct json *pod, const char *key)
{
	const struct json *v = json_get(own, key);

	return v ? v : json_get(pod, key);
}

static const char *const *capabilities(struct arena *arena, const struct json *list)
{
	size_t i = 0;

	if (!json_count(list))
		return NULL;
	const char **out = arena_new_array(arena, const char *, json_count(list) + 1);

	json_foreach(c, list) {
		struct str s = json_str(c);

		if (str_starts(s, STR("CAP_")))
			s = str_make(s.p + 4, s.n - 4);
		out[i++] = arena_strndup(arena, s.p, s.n);
	}
	return out;
}

static const char *seccomp(struct arena *arena, const struct json *profile, bool privileged, const char *data_dir)
{
	struct str type = json_get_str(profile, "type");

	if (privileged)
		return NULL;
	if (str_is(type, "RuntimeDefault"))
		return "runtime/default";
	if (str_is(type, "Localhost"))
		return arena_printf(arena, "%s/seccomp/%.*s", data_dir,
				    STR_ARG(json_get_str(profile, "localhostProfile")));
	return NULL;
}

static void groups(struct arena *arena, const struct json *pod_sc, struct runtime_container_spec *spec)
{
	const struct json *list = json_get(pod_sc, "supplementalGroups");
	int64_t fs_group = json_get_int(pod_sc, "fsGroup", -1);
	size_t n = json_count(list) + (fs_group >= 0), i = 0;

	if (!n)
		return;
	int64_t *out = arena_new_array(arena, int64_t, n);

	json_foreach(g, list)
		out[i++] = json_int(g, 0);
	if (fs_group >= 0)
		out[i++] = fs_group;
	spec->supplemental_groups = out;
	spec->n_supplemental_groups = n;
}

static int check_non_root(const struct json *own, const struct json *pod_sc, const struct image *image, int64_t uid,
			  struct err *err)
{
	struct str user = str_of(image->user), name = user;
	long colon = str_find(user, ':');
	int64_t number;

	if (!json_get_bool(own, "runAsNonRoot", json_get_bool(pod_sc, "runAsNonRoot", false)) || uid > 0)
		return 0;
	if (uid == 0)
		return err_set(err, -EPERM, "container's runAsUser breaks non-root policy");
	if (colon >= 0)
		name.n = (size_t)colon;
	if (!name.n || str_is(name, "0"))
		return err_set(err, -EPERM, "container has runAsNonRoot and image will run as root");
	if (str_to_int64(name, &number) < 0)
		return err_set(
			err, -EPERM,
			"container has runAsNonRoot and image has non-numeric user (%.*s), cannot verify user is non-root",
			STR_ARG(name));
	return 0;
}

int identity_build(struct arena *arena, const struct json *pod, const struct json *container, const struct image *image,
		   const char *data_dir, struct runtime_container_spec *spec, struct err *err)
{
	static const char *const unmasked[] = { NULL };
	const struct json *own = json_get(container, "securityContext");
	const struct json *pod_sc = json_at(pod, "spec.securityContext");
	int r;

	spec->run_as_user = either(own, pod_sc, "runAsUser", -1);
	spec->run_as_group = either(own, pod_sc, "runAsGroup", -1);
	r = check_non_root(own, pod_sc, image, spec->run_as_user, err);
	if (r < 0)
		return r;
	spec->privileged = json_get_bool(own, "privileged", false);
	spec->no_new_privileges = !json_get_bool(own, "allowPrivilegeEscalation", true) && !spec->privileged;
	spec->read_only_root = json_get_bool(own, "readOnlyRootFilesystem", false);
	spec->cap_add = capabilities(arena, json_at(own, "capabilities.add"));
	spec->cap_drop = capabilities(arena, json_at(own, "capabilities.drop"));
	spec->seccomp_profile =
		seccomp(arena, either_object(own, pod_sc, "seccompProfile"), spec->privileged, data_dir);
	if (str_is(json_get_str(own, "procMount"), "Unmasked"))
		spec->masked_paths_none = unmasked;
	groups(arena, pod_sc, spec);
	return 0;
}
