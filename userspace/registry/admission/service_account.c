/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceAccount: every pod runs as a service account that exists, and finds its token, the cluster's CA and its
 * namespace in a projected volume at the well-known place. */
#include <errno.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define MOUNT_PATH "/var/run/secrets/kubernetes.io/serviceaccount"
#define VOLUME_PREFIX "kube-api-access-"
#define VOLUME_SUFFIX_LEN 5
#define TOKEN_SECONDS 3607
#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"

static struct json *named(struct arena *a, const char *key, const char *value)
{
	struct json *o = json_new_object(a);

	json_set_cstr(a, o, key, value);
	return o;
}

static struct json *token_source(struct arena *a)
{
	struct json *source = json_new_object(a), *token = json_ensure_object(a, source, "serviceAccountToken");

	json_set_int(a, token, "expirationSeconds", TOKEN_SECONDS);
	json_set_cstr(a, token, "path", "token");
	return source;
}

static struct json *ca_source(struct arena *a)
{
	struct json *source = json_new_object(a), *map = json_ensure_object(a, source, "configMap");
	struct json *item = named(a, "key", "ca.crt");

	json_set_cstr(a, map, "name", "kube-root-ca.crt");
	json_set_cstr(a, item, "path", "ca.crt");
	json_append(json_ensure_array(a, map, "items"), item);
	return source;
}

static struct json *namespace_source(struct arena *a)
{
	struct json *source = json_new_object(a), *item = named(a, "path", "namespace");
	struct json *field = json_ensure_object(a, item, "fieldRef");

	json_set_cstr(a, field, "apiVersion", "v1");
	json_set_cstr(a, field, "fieldPath", "metadata.namespace");
	json_append(json_ensure_array(a, json_ensure_object(a, source, "downwardAPI"), "items"), item);
	return source;
}

static void add_volume(struct arena *a, struct json *spec, const char *name)
{
	struct json *volume = named(a, "name", name), *projected = json_ensure_object(a, volume, "projected");
	struct json *sources = json_ensure_array(a, projected, "sources");

	json_append(sources, token_source(a));
	json_append(sources, ca_source(a));
	json_append(sources, namespace_source(a));
	json_set_int(a, projected, "defaultMode", 0644);
	json_append(json_ensure_array(a, spec, "volumes"), volume);
}

static bool has_mount(const struct json *container)
{
	json_foreach(m, json_get(container, "volumeMounts"))
		if (str_is(json_get_str(m, "mountPath"), MOUNT_PATH))
			return true;
	return false;
}

static bool mount_in(struct arena *a, struct json *containers, const char *volume)
{
	bool any = false;

	json_foreach(c, containers) {
		struct json *mount;

		if (has_mount(c))
			continue;
		mount = named(a, "name", volume);
		json_set_bool(a, mount, "readOnly", true);
		json_set_cstr(a, mount, "mountPath", MOUNT_PATH);
		json_append(json_ensure_array(a, c, "volumeMounts"), mount);
		any = true;
	}
	return any;
}

/* One that a client copied from another pod serves as well. */
static const char *existing_volume(struct arena *a, const struct json *spec)
{
	json_foreach(v, json_get(spec, "volumes")) {
		struct str name = json_get_str(v, "name");

		if (str_starts(name, STR(VOLUME_PREFIX)))
			return arena_strndup(a, name.p, name.n);
	}
	return NULL;
}

static void mount_token(struct arena *a, struct json *spec)
{
	const char *existing = existing_volume(a, spec), *name = existing;
	char suffix[VOLUME_SUFFIX_LEN];
	bool init, main;

	if (!name) {
		random_suffix(suffix, sizeof(suffix));
		name = arena_printf(a, VOLUME_PREFIX "%.*s", VOLUME_SUFFIX_LEN, suffix);
	}
	init = mount_in(a, json_get(spec, "initContainers"), name);
	main = mount_in(a, json_get(spec, "containers"), name);
	if ((init || main) && !existing)
		add_volume(a, spec, name);
}

static int mutate(struct write *w, struct err *err)
{
	struct json *spec, *account;
	const struct object *o;
	struct str name;

	if (w->op != WRITE_CREATE || w->storage != KIND_POD || w->subresource ||
	    meta_has_annotation(w->object, MIRROR_ANNOTATION))
		return 0;
	spec = json_ensure_object(&w->arena, w->object, "spec");
	name = json_get_str(spec, "serviceAccountName");
	if (name.n == 0)
		name = json_get_str(spec, "serviceAccount");
	if (name.n == 0)
		name = STR("default");
	json_set_str(&w->arena, spec, "serviceAccountName", name);
	json_set_str(&w->arena, spec, "serviceAccount", name);
	o = store_newest(w->reg->store, KIND_SERVICEACCOUNT->resource, w->ns, name);
	if (!o && !w->waited && str_is(name, "default"))
		return WRITE_WAIT_FOR_ACCOUNT; /* its controller makes it a moment after the namespace */
	if (!o)
		return api_err_forbidden(
			err, w->kind, meta_name(w->object),
			"error looking up service account %.*s/%.*s: serviceaccount \"%.*s\" not found", STR_ARG(w->ns),
			STR_ARG(name), STR_ARG(name));
	account = registry_parse(&w->arena, o);
	if (json_count(json_get(spec, "imagePullSecrets")) == 0 &&
	    json_count(json_get(account, "imagePullSecrets")) > 0)
		json_set(spec, "imagePullSecrets", json_clone_deep(&w->arena, json_get(account, "imagePullSecrets")));
	if (json_get_bool(spec, "automountServiceAccountToken",
			  json_get_bool(account, "automountServiceAccountToken", true)))
		mount_token(&w->arena, spec);
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_SERVICE_ACCOUNT = { .name = "ServiceAccount", .mutate = mutate };
