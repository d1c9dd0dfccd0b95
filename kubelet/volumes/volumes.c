/* SPDX-License-Identifier: Apache-2.0 */
/* See volumes.h. volumes_apply() and volumes_teardown(): worker pool; the rest: loop thread. */
#include "kubelet/volumes/volumes.h"

#include <errno.h>

#include "kubelet/pods/pod_resources.h"
#include "kubelet/volumes/payload.h"

static const char *mounter(const struct json *volume)
{
	static const char *const names[][2] = {
		{ "configMap", "kubernetes.io~configmap" },
		{ "secret", "kubernetes.io~secret" },
		{ "downwardAPI", "kubernetes.io~downward-api" },
		{ "projected", "kubernetes.io~projected" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (json_get(volume, names[i][0]))
			return names[i][1];
	return "kubernetes.io~empty-dir";
}

static char *place(struct arena *arena, const char *dir, const struct json *volume)
{
	return arena_printf(arena, "%s/volumes/%s/%.*s", dir, mounter(volume), STR_ARG(json_get_str(volume, "name")));
}

static bool is_payload(const struct json *volume)
{
	return json_get(volume, "configMap") || json_get(volume, "secret") || json_get(volume, "downwardAPI") ||
	       json_get(volume, "projected");
}

char *volumes_path(struct arena *arena, const struct json *pod, const char *disk_dir, const char *tmpfs_dir,
		   struct str name)
{
	json_foreach(v, json_at(pod, "spec.volumes")) {
		if (!str_eq(json_get_str(v, "name"), name))
			continue;
		if (json_get(v, "hostPath")) {
			struct str path = json_at_str(v, "hostPath.path");

			return arena_strndup(arena, path.p ? path.p : "", path.n);
		}
		bool on_tmpfs = is_payload(v) || str_is(json_at_str(v, "emptyDir.medium"), "Memory");

		return place(arena, on_tmpfs ? tmpfs_dir : disk_dir, v);
	}
	return NULL;
}

static int plan_payload(const struct volume_source *src, struct volume_plan *plan, const struct json *volume,
			struct volume *v, struct err *err)
{
	struct payload p = { .arena = &plan->arena, .src = src, .fs_group_mode = plan->fs_group >= 0 ? 0040 : 0 };
	int r = payload_build(&p, volume, err);

	if (r < 0)
		return r;
	v->kind = VOLUME_PAYLOAD;
	v->path = place(&plan->arena, src->tmpfs_dir, volume);
	v->files = p.files;
	v->n_files = p.n;
	if (p.refresh_after_ns && (!plan->refresh_after_ns || p.refresh_after_ns < plan->refresh_after_ns))
		plan->refresh_after_ns = p.refresh_after_ns;
	return 0;
}

static int plan_one(const struct volume_source *src, struct volume_plan *plan, const struct json *volume,
		    struct volume *v, struct err *err)
{
	const struct json *s;

	if ((s = json_get(volume, "emptyDir"))) {
		bool memory = str_is(json_get_str(s, "medium"), "Memory");

		v->kind = memory ? VOLUME_EMPTY_DIR_MEMORY : VOLUME_EMPTY_DIR;
		v->path = place(&plan->arena, memory ? src->tmpfs_dir : src->disk_dir, volume);
		v->size_bytes = pod_resources_bytes(json_get_str(s, "sizeLimit"));
		return 0;
	}
	if ((s = json_get(volume, "hostPath"))) {
		struct str path = json_get_str(s, "path"), type = json_get_str(s, "type");

		v->kind = VOLUME_HOST_PATH;
		v->path = arena_strndup(&plan->arena, path.p ? path.p : "", path.n);
		v->host_path_type = arena_strndup(&plan->arena, type.p ? type.p : "", type.n);
		return 0;
	}
	return plan_payload(src, plan, volume, v, err);
}

static bool has_source(const struct json *volume)
{
	static const char *const known[] = {
		"emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (json_get(volume, known[i]))
			return true;
	return false;
}

int volumes_plan(const struct volume_source *src, struct volume_plan *ret, struct err *err)
{
	const struct json *volumes = json_at(src->pod, "spec.volumes");
	size_t n = json_count(volumes);

	*ret = (struct volume_plan){ .arena = ARENA_INIT };
	ret->fs_group = json_at_int(src->pod, "spec.securityContext.fsGroup", -1);
	if (!n)
		return 0;
	ret->volumes = arena_new_array(&ret->arena, struct volume, n);
	json_foreach(volume, volumes) {
		struct volume *v = &ret->volumes[ret->n];
		struct str name = json_get_str(volume, "name");
		int r;

		v->name = arena_strndup(&ret->arena, name.p, name.n);
		/* an empty source is an emptyDir, as the API server defaults it */
		if (volume->count > 1 && !has_source(volume))
			r = err_set(err, -EOPNOTSUPP, "volume type is not supported on this node");
		else if (volume->count <= 1)
			r = (v->kind = VOLUME_EMPTY_DIR, v->path = place(&ret->arena, src->disk_dir, volume), 0);
		else
			r = plan_one(src, ret, volume, v, err);
		if (r < 0) {
			ret->failed = v->name;
			return r;
		}
		ret->n++;
	}
	return 0;
}

void volume_plan_finish(struct volume_plan *plan)
{
	if (plan)
		arena_finish(&plan->arena);
}

/* ---- who refers to what ---- */

static bool in_volume(const struct json *v, bool secret, struct str name)
{
	if (str_eq(secret ? json_at_str(v, "secret.secretName") : json_at_str(v, "configMap.name"), name))
		return true;
	json_foreach(s, json_at(v, "projected.sources"))
		if (str_eq(json_at_str(s, secret ? "secret.name" : "configMap.name"), name))
			return true;
	return false;
}

static bool in_container(const struct json *c, bool secret, struct str name)
{
	json_foreach(e, json_get(c, "env"))
		if (str_eq(json_at_str(e, secret ? "valueFrom.secretKeyRef.name" : "valueFrom.configMapKeyRef.name"),
			   name))
			return true;
	json_foreach(e, json_get(c, "envFrom"))
		if (str_eq(json_at_str(e, secret ? "secretRef.name" : "configMapRef.name"), name))
			return true;
	return false;
}

bool volumes_refers_to(const struct json *pod_spec, bool secret, struct str name)
{
	json_foreach(v, json_get(pod_spec, "volumes"))
		if (in_volume(v, secret, name))
			return true;
	json_foreach(c, json_get(pod_spec, "containers"))
		if (in_container(c, secret, name))
			return true;
	json_foreach(c, json_get(pod_spec, "initContainers"))
		if (in_container(c, secret, name))
			return true;
	json_foreach(s, secret ? json_get(pod_spec, "imagePullSecrets") : NULL)
		if (str_eq(json_get_str(s, "name"), name))
			return true;
	return false;
}

bool volumes_has_downward(const struct json *pod_spec)
{
	json_foreach(v, json_get(pod_spec, "volumes")) {
		if (json_get(v, "downwardAPI"))
			return true;
		json_foreach(s, json_at(v, "projected.sources"))
			if (json_get(s, "downwardAPI"))
				return true;
	}
	return false;
}
