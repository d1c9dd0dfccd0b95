/* SPDX-License-Identifier: Apache-2.0 */
/* The scale subresource: autoscaling/v1 Scale as a view of spec.replicas, status.replicas and the selector of
 * deployments, replica sets, stateful sets and replication controllers. Loop thread. */
#include <errno.h>
#include <string.h>

#include "userspace/api/typed.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

static struct str selector_text(struct arena *arena, const struct json *object)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	const struct json *selector = json_at(object, "spec.selector");
	struct selector s;

	/* A replication controller's is a plain map. */
	if (json_get(selector, "matchLabels") || json_get(selector, "matchExpressions")) {
		if (selector_from_json(arena, selector, &s, NULL) < 0)
			return STR_NULL;
	} else {
		selector_from_map(arena, selector, &s);
	}
	selector_write(&text, &s);
	return arena_str(arena, buf_str(&text));
}

static struct json *scale_of(struct arena *arena, const struct json *object)
{
	static const char *const copied[] = { "name", "namespace", "uid", "resourceVersion", "creationTimestamp" };
	struct json *scale = json_new_object(arena), *meta, *spec, *status;

	json_set_cstr(arena, scale, "kind", "Scale");
	json_set_cstr(arena, scale, "apiVersion", "autoscaling/v1");
	meta = json_ensure_object(arena, scale, "metadata");
	for (size_t i = 0; i < ARRAY_SIZE(copied); i++)
		if (json_get(meta_of(object), copied[i]))
			json_set(meta, copied[i], json_clone(arena, json_get(meta_of(object), copied[i])));
	spec = json_ensure_object(arena, scale, "spec");
	json_set_int(arena, spec, "replicas", json_at_int(object, "spec.replicas", 0));
	status = json_ensure_object(arena, scale, "status");
	json_set_int(arena, status, "replicas", json_at_int(object, "status.replicas", 0));
	json_set_str(arena, status, "selector", selector_text(arena, object));
	return scale;
}

static struct str scale_text(struct arena *arena, const struct object *o)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	json_write(&text, scale_of(arena, registry_parse(arena, o)));
	return arena_str(arena, buf_str(&text));
}

static void finish(struct write *w)
{
	w->outcome = WRITE_BODY;
	w->body = scale_text(&w->arena, w->result);
}

static const struct api_message *scale_message(const struct api_kind *kind)
{
	const struct api_subresource *sub = api_kind_subresource(kind, STR("scale"));

	return sub ? sub->message : NULL;
}

/* What a config says on top of the old one. */
static int applied_scale(struct write *w, const struct request *rq, const struct api_message *message,
			 struct json **ret, struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT;
	struct json *config = NULL;
	int r = apply_config(w, rq, &config, err);

	if (r < 0)
		return r;
	if (!str_is(meta_api_version(config), "autoscaling/v1") || !str_is(meta_kind(config), "Scale"))
		return api_err_bad_request(err, "invalid object type: %.*s, Kind=%.*s",
					   STR_ARG(meta_api_version(config)), STR_ARG(meta_kind(config)));
	if (typed_check(&w->arena, typed_object(message), config, &why) < 0)
		return err_set_status(err, -EINVAL, 500, "",
				      "failed to create typed patch object (%.*s/%.*s; autoscaling/v1, Kind=Scale): %s",
				      STR_ARG(meta_namespace(config)), STR_ARG(meta_name(config)), err_message(&why));
	return typed_merge(&w->arena, typed_object(message), scale_of(&w->arena, w->old), config, ret, err);
}

/* The new Scale, from the body or a patch of the old one. */
static int new_scale(struct write *w, const struct request *rq, struct json **ret, struct err *err)
{
	const struct api_message *message = scale_message(w->kind);
	struct json *scale = NULL;
	int r;

	if (rq->patch == REQUEST_PATCH_APPLY) {
		r = applied_scale(w, rq, message, &scale, err);
	} else if (rq->verb == API_VERB_PATCH) {
		r = request_patched(w, rq, message, scale_of(&w->arena, w->old), &scale, err);
		if (r >= 0)
			scale = json_clone(&w->arena, scale);
	} else {
		r = request_tree(w, rq, &scale, err);
	}
	if (r >= 0 && message)
		r = write_decode_message(w, message, "Scale", scale, err);
	if (r < 0)
		return r;
	*ret = scale;
	return 0;
}

static int other_uid(struct write *w, struct str uid, struct err *err)
{
	const char *group = w->kind->group, *resource = arena_printf(&w->arena, "%s/scale", w->kind->plural);

	err_set_status(
		err, -EAGAIN, 409, "Conflict",
		"Operation cannot be fulfilled on %s%s%s \"%.*s\": Precondition failed: UID in precondition: %.*s, "
		"UID in object meta: %.*s",
		resource, *group ? "." : "", group, STR_ARG(w->name), STR_ARG(uid), STR_ARG(meta_uid(w->old)));
	err_set_details(err, group, resource, arena_strndup(&w->arena, w->name.p, w->name.n));
	return -EAGAIN;
}

static int change(struct write *w, void *arg, struct err *err)
{
	const struct request *rq = arg;
	struct json *scale = NULL;
	struct str revision;
	int64_t replicas;
	int r = new_scale(w, rq, &scale, err);

	if (r < 0)
		return r;
	r = write_check_body_name(w, meta_name(scale), err);
	if (r < 0)
		return r;
	replicas = json_at_int(scale, "spec.replicas", 0);
	if (replicas < 0)
		return err_set_status(
			err, -EINVAL, 422, "Invalid",
			"Scale.autoscaling \"%.*s\" is invalid: spec.replicas: Invalid value: %lld: must be "
			"greater than or equal to 0",
			STR_ARG(w->name), (long long)replicas);
	if (meta_uid(scale).n > 0 && !str_eq(meta_uid(scale), meta_uid(w->old)))
		return other_uid(w, meta_uid(scale), err);
	w->object = json_clone(&w->arena, w->old);
	json_set_int(&w->arena, json_ensure_object(&w->arena, w->object, "spec"), "replicas", replicas);
	revision = meta_resource_version(scale);
	if (revision.n > 0)
		json_set_str(&w->arena, meta_of(w->object), "resourceVersion", revision);
	return managed_scale(w, rq, replicas != json_at_int(w->old, "spec.replicas", 0), err);
}

static void get(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct request_result result = { .http_status = 200, .list_remaining = -1 };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct object *o = registry_get(reg, rq->kind, rq->ns, rq->name);

	if (!o) {
		api_err_not_found(&err, rq->kind, rq->name);
		done(arg, NULL, &err);
		return;
	}
	result.body = scale_text(&arena, o);
	done(arg, &result, NULL);
}

bool scale_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w;

	if (strcmp(rq->subresource, "scale") != 0 || !api_kind_subresource(rq->kind, STR("scale")))
		return false;
	if (rq->verb == API_VERB_GET) {
		get(reg, rq, done, arg);
		return true;
	}
	if (rq->verb != API_VERB_UPDATE && rq->verb != API_VERB_PATCH)
		return false;
	w = write_create(reg, WRITE_UPDATE, rq->kind, "scale", rq->ns, rq->name);
	write_set_request(w, rq, done, arg);
	w->finish = finish;
	write_run_update(w, change, (void *)(uintptr_t)rq);
	return true;
}
