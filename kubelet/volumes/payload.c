/* SPDX-License-Identifier: Apache-2.0 */
/* See payload.h. Loop thread. */
#include "kubelet/volumes/payload.h"

#include <errno.h>

#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/registry/registry.h"

#define TOKEN_REFRESH_PERCENT 80

static int add_file(struct payload *p, struct str path, struct str data, mode_t mode, struct err *err)
{
	char *name = arena_strndup(p->arena, path.p ? path.p : "", path.n);

	if (!atomic_writer_path_valid(name))
		return err_set(err, -EINVAL, "invalid path: \"%s\"", name);
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->files[i].path, name) == 0) { /* the later source wins */
			p->files[i].data = data;
			p->files[i].mode = mode;
			return 0;
		}
	}
	if (p->n >= ATOMIC_WRITER_FILES_MAX)
		return err_set(err, -E2BIG, "more than %d files in one volume", ATOMIC_WRITER_FILES_MAX);
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 8;
		struct atomic_file *files = arena_new_array(p->arena, struct atomic_file, cap);

		if (p->n)
			memcpy(files, p->files, p->n * sizeof(*files));
		p->files = files;
		p->cap = cap;
	}
	p->files[p->n++] =
		(struct atomic_file){ .path = name, .data = data, .mode = mode | p->fs_group_mode, .uid = (uid_t)-1 };
	return 0;
}

static mode_t mode_of(const struct payload *p, const struct json *item)
{
	return (mode_t)json_get_int(item, "mode", p->default_mode) & 0777;
}

static int decode(struct payload *p, struct str text, struct str *ret)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int r = base64_decode(&b, text, BASE64_STD);

	if (r >= 0)
		*ret = arena_str(p->arena, buf_str(&b));
	return r;
}

/* One member of data or binaryData. */
static int add_value(struct payload *p, const struct json *value, bool base64, struct str path, mode_t mode,
		     struct err *err)
{
	struct str data = json_str(value);

	if (base64 && decode(p, data, &data) < 0)
		return err_set(err, -EINVAL, "bad base64 in %.*s", STR_ARG(value->key));
	return add_file(p, path, data, mode, err);
}

static int add_items(struct payload *p, const struct json *object, const struct json *items, bool secret, bool optional,
		     struct err *err)
{
	json_foreach(item, items) {
		struct str key = json_get_str(item, "key");
		struct json *value = json_get_n(json_get(object, "data"), key);
		bool base64 = secret;

		if (!value && !secret) {
			value = json_get_n(json_get(object, "binaryData"), key);
			base64 = true;
		}
		if (!value) {
			if (optional)
				continue;
			return err_set(err, -ENOENT,
				       secret ? "references non-existent secret key: %.*s"
					      : "configmap references non-existent config key: %.*s",
				       STR_ARG(key));
		}
		int r = add_value(p, value, base64, json_get_str(item, "path"), mode_of(p, item), err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_object(struct payload *p, const struct json *ref, bool secret, struct str name, struct err *err)
{
	struct str ns = json_at_str(p->src->pod, "metadata.namespace");
	bool optional = json_get_bool(ref, "optional", false);
	const struct object *o = registry_get(p->src->reg, secret ? KIND_SECRET : KIND_CONFIGMAP, ns, name);
	int r = 0;

	if (!o)
		return optional ? 0
				: err_set(err, -ENOENT, "%s \"%.*s\" not found", secret ? "secret" : "configmap",
					  STR_ARG(name));
	/* the plan outlives the call: own copies */
	struct json *object = json_clone_deep(p->arena, registry_parse(p->arena, o));

	if (json_count(json_get(ref, "items")))
		return add_items(p, object, json_get(ref, "items"), secret, optional, err);
	json_foreach(it, json_get(object, "data")) {
		r = add_value(p, it, secret, it->key, p->default_mode, err);
		if (r < 0)
			return r;
	}
	json_foreach(it, secret ? NULL : json_get(object, "binaryData")) {
		r = add_value(p, it, true, it->key, p->default_mode, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static const struct json *container_named(const struct json *pod, struct str name)
{
	json_foreach(c, json_at(pod, "spec.containers"))
		if (str_eq(json_get_str(c, "name"), name))
			return c;
	json_foreach(c, json_at(pod, "spec.initContainers"))
		if (str_eq(json_get_str(c, "name"), name))
			return c;
	return NULL;
}

static int add_downward(struct payload *p, const struct json *downward, struct err *err)
{
	json_foreach(item, json_get(downward, "items")) {
		const struct json *field = json_get(item, "fieldRef"), *resource = json_get(item, "resourceFieldRef");
		char *text = NULL;
		int r;

		if (field)
			r = fieldref_value(p->arena, p->src->pod, p->src->facts, json_get_str(field, "fieldPath"),
					   &text, err);
		else
			r = fieldref_resource(p->arena,
					      container_named(p->src->pod, json_get_str(resource, "containerName")),
					      p->src->facts, json_get_str(resource, "resource"),
					      json_get_str(resource, "divisor"), &text, err);
		if (r >= 0)
			r = add_file(p, json_get_str(item, "path"), str_of(text), mode_of(p, item), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static char *text_at(struct payload *p, const char *path, const char *otherwise)
{
	struct str s = json_at_str(p->src->pod, path);

	return s.n ? arena_strndup(p->arena, s.p, s.n) : arena_strdup(p->arena, otherwise);
}

/* The process that reads its token may not be root: it gets the file, when there is one user for all containers. */
static uid_t token_owner(const struct payload *p)
{
	int64_t uid = json_at_int(p->src->pod, "spec.securityContext.runAsUser", -1);

	json_foreach(c, json_at(p->src->pod, "spec.containers")) {
		int64_t own = json_get_int(json_get(c, "securityContext"), "runAsUser", uid);

		if (own != uid && uid != -1)
			return (uid_t)-1;
		uid = own;
	}
	return (uid_t)uid;
}

static int add_token(struct payload *p, const struct json *source, struct err *err)
{
	_cleanup_buf_ struct buf token = BUF_INIT;
	struct str audience = json_get_str(source, "audience");
	int64_t expiry_s = json_get_int(source, "expirationSeconds", VOLUME_TOKEN_EXPIRY_DEFAULT_S);
	int64_t refresh_ns;
	struct kubelet_token_request req = {
		.ns = text_at(p, "metadata.namespace", ""),
		.service_account = text_at(p, "spec.serviceAccountName", "default"),
		.pod_name = text_at(p, "metadata.name", ""),
		.pod_uid = text_at(p, "metadata.uid", ""),
		.audience = audience.n ? arena_strndup(p->arena, audience.p, audience.n) : NULL,
	};
	int r;

	if (expiry_s < VOLUME_TOKEN_EXPIRY_MIN_S)
		expiry_s = VOLUME_TOKEN_EXPIRY_MIN_S;
	req.expiry_s = expiry_s;
	if (!p->src->tokens->mint)
		return err_set(err, -EOPNOTSUPP, "failed to fetch token: no issuer");
	r = p->src->tokens->mint(p->src->tokens->ctx, &req, &token, err);
	if (r < 0)
		return err_wrap(err, r, "failed to fetch token");
	refresh_ns = expiry_s * NS_PER_S / 100 * TOKEN_REFRESH_PERCENT;
	if (!p->refresh_after_ns || refresh_ns < p->refresh_after_ns)
		p->refresh_after_ns = refresh_ns;
	uid_t owner = token_owner(p);
	/* a user of its own reads it as the owner; a group by fsGroup; else whoever the image runs as must be able to
	 */
	mode_t mode = owner != (uid_t)-1 || p->fs_group_mode ? 0600 : 0644;

	r = add_file(p, json_get_str(source, "path"), arena_str(p->arena, buf_str(&token)), mode, err);
	if (r >= 0)
		p->files[p->n - 1].uid = owner;
	return r;
}

static int add_projected(struct payload *p, const struct json *projected, struct err *err)
{
	json_foreach(source, json_get(projected, "sources")) {
		const struct json *s;
		int r = 0;

		if ((s = json_get(source, "configMap")))
			r = add_object(p, s, false, json_get_str(s, "name"), err);
		else if ((s = json_get(source, "secret")))
			r = add_object(p, s, true, json_get_str(s, "name"), err);
		else if ((s = json_get(source, "downwardAPI")))
			r = add_downward(p, s, err);
		else if ((s = json_get(source, "serviceAccountToken")))
			r = add_token(p, s, err);
		else
			r = err_set(err, -EOPNOTSUPP, "projected volume source is not supported on this node");
		if (r < 0)
			return r;
	}
	return 0;
}

int payload_build(struct payload *p, const struct json *volume, struct err *err)
{
	const struct json *s;

	p->default_mode = 0644;
	if ((s = json_get(volume, "configMap"))) {
		p->default_mode = (mode_t)json_get_int(s, "defaultMode", 0644);
		return add_object(p, s, false, json_get_str(s, "name"), err);
	}
	if ((s = json_get(volume, "secret"))) {
		p->default_mode = (mode_t)json_get_int(s, "defaultMode", 0644);
		return add_object(p, s, true, json_get_str(s, "secretName"), err);
	}
	if ((s = json_get(volume, "downwardAPI"))) {
		p->default_mode = (mode_t)json_get_int(s, "defaultMode", 0644);
		return add_downward(p, s, err);
	}
	if ((s = json_get(volume, "projected"))) {
		p->default_mode = (mode_t)json_get_int(s, "defaultMode", 0644);
		return add_projected(p, s, err);
	}
	return -ENOENT;
}
