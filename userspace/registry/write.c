/* SPDX-License-Identifier: Apache-2.0 */
/* The pipeline every creation and update passes, in its one order: decode against the schema -> default ->
 * mutating admission -> prepare -> validate -> validating admission -> canonical bytes -> commit. All of it runs at
 * once against the newest pending state, so nothing can come in between.
 *
 * A write is its own heap object with an arena; it frees itself after the answer. Loop thread. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/managed_fields.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/internal.h"

/* ---- beginning and end ---- */

struct write *write_create(struct registry *reg, enum write_op op, const struct api_kind *kind, const char *subresource,
			   struct str ns, struct str name)
{
	struct write *w = mem_new(struct write);

	list_init(&w->link);
	w->reg = reg;
	w->op = op;
	w->kind = kind;
	w->storage = kind->storage ? kind->storage : kind;
	w->subresource = subresource;
	w->ns = kind->namespaced ? arena_str(&w->arena, ns) : STR_NULL;
	w->name = arena_str(&w->arena, name);
	w->internal = true;
	w->validation = DECODE_IGNORE;
	w->http_status = op == WRITE_CREATE ? 201 : 200;
	return w;
}

void write_set_request(struct write *w, const struct request *rq, request_done_fn *done, void *arg)
{
	w->user = rq->user;
	w->internal = rq->user == NULL;
	w->patch = rq->verb == API_VERB_PATCH;
	w->dry_run = rq->dry_run;
	w->manager = rq->field_manager.n ? arena_str(&w->arena, rq->field_manager)
					 : managed_fields_user_agent(&w->arena, rq->user_agent);
	w->validation = rq->field_validation;
	w->done = done;
	w->arg = arg;
}

static void destroy(struct write *w)
{
	list_del(&w->link);
	object_unref(w->old_object);
	object_unref(w->result);
	arena_finish(&w->arena);
	free(w);
}

void write_warn(struct write *w, const char *text)
{
	if (w->n_warnings < WRITE_WARNINGS_MAX)
		w->warnings[w->n_warnings++] = str_of(text);
}

void write_annotate(struct write *w, const char *key, struct str value)
{
	if (w->n_annotations < WRITE_ANNOTATIONS_MAX)
		w->annotations[w->n_annotations++] = (struct request_annotation){ str_of(key), value };
}

static struct request_result result_of(const struct write *w)
{
	return (struct request_result){
		.list_remaining = -1,
		.warnings = w->warnings,
		.n_warnings = w->n_warnings,
		.annotations = w->annotations,
		.n_annotations = w->n_annotations,
	};
}

void write_fail(struct write *w, const struct err *err)
{
	struct request_result said = result_of(w);
	struct err with_status = ERR_INIT;

	err_copy(&with_status, err);
	if (with_status.status == 0)
		with_status.status = api_err_status(err);
	if (w->done)
		w->done(w->arg, w->n_warnings || w->n_annotations ? &said : NULL, &with_status);
	else if (w->simple_done)
		w->simple_done(w->arg, NULL, &with_status);
	err_finish(&with_status);
	destroy(w);
}

static struct str status_body(struct write *w, bool about_object)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	if (about_object)
		api_status_write_success(&text, w->storage, w->result->name, w->result->uid);
	else
		buf_add_cstr(&text, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\","
				    "\"code\":201}");
	return arena_str(&w->arena, buf_str(&text));
}

void write_succeed(struct write *w)
{
	struct request_result result;

	if (w->finish)
		w->finish(w);
	if (w->simple_done)
		w->simple_done(w->arg, w->result, NULL);
	if (w->done) {
		result = result_of(w);
		result.http_status = w->http_status;
		if (w->outcome == WRITE_OBJECT)
			result.object = w->result;
		else if (w->outcome == WRITE_BODY)
			result.body = w->body;
		else
			result.body = status_body(w, w->outcome == WRITE_DELETED_STATUS);
		w->done(w->arg, &result, NULL);
	}
	destroy(w);
}

/* ---- decoding ---- */

struct decode_warnings *write_findings(struct write *w)
{
	if (w->validation == DECODE_IGNORE)
		return NULL;
	if (!w->found)
		w->found = arena_alloc(&w->arena, sizeof(*w->found));
	w->found->n = 0;
	w->found->yaml = false;
	return w->found;
}

static void warn_of_findings(struct write *w)
{
	for (size_t i = 0; w->found && i < w->found->n; i++)
		write_warn(w, arena_strndup(&w->arena, w->found->items[i].p, w->found->items[i].n));
	if (w->found)
		w->found->n = 0;
}

int write_decode_message(struct write *w, const struct api_message *message, const char *what, struct json *tree,
			 struct err *err)
{
	int r = decode_message(&w->arena, message, what, tree, w->validation, w->found ? w->found : write_findings(w),
			       err);

	if (r >= 0)
		warn_of_findings(w);
	return r;
}

int write_decode(struct write *w, struct json *tree, struct err *err)
{
	int r;

	managed_receive(w, tree);
	r = decode_tree(&w->arena, w->kind, tree, w->validation, w->found ? w->found : write_findings(w), err);
	if (r < 0)
		return r;
	warn_of_findings(w);
	managed_received(w, tree);
	json_remove(meta_ensure(&w->arena, tree), "selfLink");
	w->object = convert_to_storage(&w->arena, w->kind, tree);
	w->decoded = true;
	return 0;
}

int write_check_body_name(struct write *w, struct str name, struct err *err)
{
	if (name.n == 0)
		return api_err_bad_request(err,
					   "the name of the object (%.*s based on URL) was undeterminable: name must "
					   "be provided",
					   STR_ARG(w->name));
	if (!str_eq(name, w->name))
		return api_err_bad_request(err,
					   "the name of the object (%.*s) does not match the name on the URL (%.*s)",
					   STR_ARG(name), STR_ARG(w->name));
	return 0;
}

int write_check_names(struct write *w, struct err *err)
{
	struct str ns = meta_namespace(w->object), name = meta_name(w->object);

	if (!w->storage->namespaced) {
		if (ns.n > 0)
			json_remove(meta_ensure(&w->arena, w->object), "namespace");
	} else if (ns.n == 0) {
		json_set_str(&w->arena, meta_ensure(&w->arena, w->object), "namespace", w->ns);
	} else if (w->ns.n > 0 && !str_eq(ns, w->ns)) {
		return api_err_bad_request(err,
					   "the namespace of the provided object does not match the namespace sent "
					   "on the request");
	} else {
		w->ns = ns;
	}
	if (w->op == WRITE_CREATE && (w->name.n == 0 || name.n == 0))
		return 0;
	if (w->internal && name.n == 0) {
		json_set_str(&w->arena, meta_ensure(&w->arena, w->object), "name", w->name);
		return 0;
	}
	return write_check_body_name(w, name, err);
}

/* ---- the store ---- */

static void committed(void *arg, const struct err *err)
{
	struct write *w = arg;

	if (err && w->reg)
		quotas_refused(w);
	if (err)
		write_fail(w, err);
	else
		write_succeed(w);
}

static bool same_but_heartbeats(struct write *w)
{
	struct json *a = json_clone(&w->arena, w->object), *b = json_clone(&w->arena, w->old);
	struct json *both[] = { a, b };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		json_remove(meta_ensure(&w->arena, both[i]), "resourceVersion");
		json_foreach(c, json_at(both[i], "status.conditions"))
			json_remove(c, "lastHeartbeatTime");
	}
	return json_equal(a, b);
}

enum store_durability write_durability(const struct write *w, bool remove)
{
	if (w->storage == KIND_EVENT)
		return STORE_LAZY;
	/* They follow the Services, and are set right at start. */
	if (w->storage == KIND_IPADDRESS && w->internal)
		return STORE_RIDER;
	if (remove)
		return STORE_DURABLE;
	if (w->storage->lazy)
		return STORE_RIDER;
	if (w->storage == KIND_NODE && w->op == WRITE_UPDATE && w->old &&
	    same_but_heartbeats((struct write *)(uintptr_t)w))
		return STORE_RIDER;
	return STORE_DURABLE;
}

static void after_commit(struct write *w, bool remove)
{
	if (w->storage != KIND_SERVICE || w->dry_run)
		return;
	if (w->old)
		services_hold(&w->reg->services, w->old, false);
	if (!remove)
		services_hold(&w->reg->services, w->object, true);
}

/* A commit that the disk refused: the object is what it was, and so must be what it holds. */
static void committed_service(void *arg, const struct err *err)
{
	struct write *w = arg;

	if (err && w->reg) {
		/* From the bytes: the tree's strings were the request's. */
		if (!w->removing)
			services_hold(&w->reg->services, registry_parse(&w->arena, w->result), false);
		if (w->old)
			services_hold(&w->reg->services, w->old, true);
	}
	committed(arg, err);
}

void write_commit(struct write *w, bool remove)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree = remove && !w->object ? w->old : w->object;
	struct store_op op = { .remove = remove, .expect = w->old_object ? w->old_object->revision : 0 };
	enum store_durability durability = write_durability(w, remove);
	int r;

	managed_attach(w, tree);
	/* On a dry run the revision is the one the object has (none for a new one), as nothing is given. */
	w->result = registry_build(&w->arena, w->storage, tree,
				   !w->dry_run ? store_next_revision(w->reg->store) : op.expect);
	if (w->dry_run) {
		write_succeed(w);
		return;
	}
	op.object = w->result;
	w->removing = remove;
	after_commit(w, remove);
	list_add_tail(&w->reg->writes, &w->link);
	r = store_commit(w->reg->store, &op, 1, durability, w->storage == KIND_SERVICE ? committed_service : committed,
			 w, NULL, &err);
	if (r == 0) {
		quotas_committed(w, remove);
		return;
	}
	if (w->storage == KIND_SERVICE) {
		committed_service(w, &err);
		return;
	}
	write_fail(w, &err);
}

/* Answers with the state as it is, once that is durable. */
static void answer_unchanged(struct write *w)
{
	const struct object *published = store_get(w->reg->store, w->storage->resource, w->ns, w->name);

	w->result = object_ref(w->old_object);
	list_add_tail(&w->reg->writes, &w->link);
	if (published == w->old_object ||
	    store_commit(w->reg->store, NULL, 0, STORE_RIDER, committed, w, NULL, NULL) < 0)
		write_succeed(w);
}

int write_load_old(struct write *w, struct err *err)
{
	const struct object *o = store_newest(w->reg->store, w->storage->resource, w->ns, w->name);

	if (!o)
		return api_err_not_found(err, w->kind, w->name);
	w->old_object = object_ref(o);
	w->old = registry_parse(&w->arena, o);
	managed_detach(w);
	return 0;
}

/* ---- validation ---- */

static int validate(struct write *w, struct err *err)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	struct hooks_warnings warnings = { .n = 0 };
	const struct json *old = w->op == WRITE_UPDATE ? w->old : NULL;

	if (w->managed_sent)
		managed_fields_validate(w->managed, &e);
	if (w->storage == KIND_SERVICE && !w->subresource)
		services_assign(w, &e);
	if (w->subresource && strcmp(w->subresource, "status") == 0) {
		validate_metadata(w->storage, w->object, w->old, &e);
		hooks_validate_status(w->storage, w->object, w->old, &e);
	} else if (w->subresource && strcmp(w->subresource, "scale") != 0) {
		/* Of their own narrow change most is checked where it is made; clients may also break the schema. */
		(w->internal ? validate_metadata : validate_object)(w->storage, w->object, w->old, &e);
		hooks_validate_subresource(w->storage, w->subresource, w->object, w->old, &e);
	} else {
		validate_object(w->storage, w->object, old, &e);
		if (old)
			hooks_validate_update(w->storage, w->object, old, &e);
		else
			hooks_validate_create(w->storage, w->object, &e);
		if (w->kind != w->storage)
			hooks_validate_form(w->storage, w->kind, w->object, old, &e);
		if (!w->internal) /* nobody reads them */
			hooks_warnings(&w->arena, w->storage, w->object, old, &warnings);
	}
	for (size_t i = 0; i < warnings.n; i++)
		write_warn(w, warnings.items[i]);
	return field_errors_result(&e, w->storage, meta_name(w->object), err);
}

/* ---- creation ---- */

static void generate_name(struct write *w)
{
	struct json *meta = meta_ensure(&w->arena, w->object);
	struct str prefix = json_get_str(meta, "generateName");
	char *name;

	if (meta_name(w->object).n > 0 || prefix.n == 0)
		return;
	if (prefix.n > GENERATE_NAME_MAX - GENERATE_NAME_SUFFIX)
		prefix.n = GENERATE_NAME_MAX - GENERATE_NAME_SUFFIX;
	for (int i = 0; i < GENERATE_NAME_TRIES; i++) {
		name = arena_alloc(&w->arena, prefix.n + GENERATE_NAME_SUFFIX);
		memcpy(name, prefix.p, prefix.n);
		random_suffix(name + prefix.n, GENERATE_NAME_SUFFIX);
		json_set_str(&w->arena, meta, "name", str_make(name, prefix.n + GENERATE_NAME_SUFFIX));
		if (!store_newest(w->reg->store, w->storage->resource, w->ns, meta_name(w->object)))
			return;
	}
}

static void prepare_create(struct write *w)
{
	struct json *meta = meta_ensure(&w->arena, w->object);
	char now[CLOCK_RFC3339_MAX], uid[UUID_LEN + 1];

	/* Name and uid first: a Job's selector is made of them. */
	generate_name(w);
	uuid_make(uid);
	clock_format_rfc3339(clock_real_ns(), now);
	json_set_cstr(&w->arena, meta, "uid", arena_strdup(&w->arena, uid));
	hooks_prepare_create(&w->arena, w->storage, w->object);
	if (w->storage == KIND_CERTIFICATESIGNINGREQUEST)
		requester_fill(w);
	meta = meta_ensure(&w->arena, w->object);
	json_remove(meta, "deletionTimestamp");
	json_remove(meta, "deletionGracePeriodSeconds");
	json_set_cstr(&w->arena, meta, "uid", arena_strdup(&w->arena, uid));
	json_set_cstr(&w->arena, meta, "creationTimestamp", arena_strdup(&w->arena, now));
	json_remove(meta, "resourceVersion");
}

static int create_steps(struct write *w, struct err *err)
{
	int r = w->decoded ? 0 : write_decode(w, w->object, err);

	if (r >= 0)
		r = write_check_names(w, err);
	if (r < 0)
		return r;
	if (w->storage->namespaced && w->ns.n == 0)
		return api_err_bad_request(err, "an empty namespace may not be set during creation");
	if (meta_resource_version(w->object).n > 0 && !str_is(meta_resource_version(w->object), "0") && !w->internal)
		return api_err_bad_request(err, "resourceVersion should not be set on objects to be created");
	/* Plugins judge the object with its defaults (a limit without a request is a request before LimitRanger gives
	 * its own); what they add may want defaults again. */
	defaults_apply(&w->arena, w->storage, w->object);
	managed_track(w);
	r = admission_mutate(w, err);
	if (r < 0)
		return r;
	if (r == ADMISSION_CHANGED)
		defaults_apply(&w->arena, w->storage, w->object);
	prepare_create(w);
	w->name = meta_name(w->object);
	r = validate(w, err);
	if (r >= 0)
		r = admission_validate(w, err);
	if (r < 0)
		return r;
	if (w->storage->verbs & API_VERB_GET && store_newest(w->reg->store, w->storage->resource, w->ns, w->name)) {
		bool generated = json_get_str(meta_of(w->object), "generateName").n > 0;

		return generated ? err_set_status(err, -EEXIST, 409, "AlreadyExists",
						  "%s \"%.*s\" already exists, the server was not able to generate a "
						  "unique name for the object",
						  w->storage->plural, STR_ARG(w->name))
				 : api_err_already_exists(err, w->kind, w->name);
	}
	return 0;
}

void write_run_create(struct write *w)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = create_steps(w, &err);

	if (r == WRITE_WAIT_FOR_ACCOUNT)
		waiting_add(w);
	else if (r < 0)
		write_fail(w, &err);
	else
		write_commit(w, false);
}

/* ---- update ---- */

static int check_preconditions(struct write *w, struct err *err)
{
	struct str revision = meta_resource_version(w->object), uid = meta_uid(w->object);
	struct str old_uid = meta_uid(w->old);

	if (str_is(revision, "0")) /* any */
		revision = STR_NULL;
	/* A patch changes what is there: that its result is another object is for the validation to say. */
	if (uid.n > 0 && !w->patch && !str_eq(uid, old_uid))
		return api_err_precondition(err, w->kind, w->ns, w->name, uid, old_uid);
	if (revision.n > 0 && !str_eq(revision, meta_resource_version(w->old)))
		return api_err_conflict(err, w->kind, w->name, "");
	return 0;
}

static bool is_subresource(const struct write *w, const char *name)
{
	return w->subresource && strcmp(w->subresource, name) == 0;
}

static void prepare_update(struct write *w)
{
	if (is_subresource(w, "status"))
		hooks_prepare_status(&w->arena, w->storage, w->object, w->old);
	else if (!w->subresource || is_subresource(w, "scale"))
		hooks_prepare_update(&w->arena, w->storage, w->object, w->old);
	else /* The others (binding, finalize, ...) made their own narrow change on the old object. */
		hooks_prepare_subresource(&w->arena, w->storage, w->subresource, w->object, w->old);
	if (w->storage == KIND_SERVICE && !w->subresource)
		services_keep(w);
}

bool write_ready_to_go(const struct write *w, const struct json *object)
{
	const struct json *meta = meta_of(object);

	if (!meta_deleting(object) || json_count(json_get(meta, "finalizers")) > 0)
		return false;
	if (w->storage == KIND_NAMESPACE && json_count(json_at(object, "spec.finalizers")) > 0)
		return false;
	return json_get_int(meta, "deletionGracePeriodSeconds", 0) == 0;
}

static bool nothing_changed(struct write *w)
{
	struct json *meta = meta_ensure(&w->arena, w->object);

	json_set_str(&w->arena, meta, "resourceVersion", meta_resource_version(w->old));
	return json_equal(w->object, w->old) && managed_unchanged(w);
}

/* 1: nothing to do */
static int update_steps(struct write *w, write_change_fn *change, void *arg, struct err *err)
{
	int r = write_load_old(w, err);

	if (r >= 0)
		r = change(w, arg, err);
	if (r != 0)
		return r;
	r = write_check_names(w, err);
	if (r >= 0)
		r = check_preconditions(w, err);
	if (r < 0)
		return r;
	if (!w->subresource)
		defaults_apply(&w->arena, w->storage, w->object);
	managed_track(w);
	r = admission_mutate(w, err);
	if (r < 0)
		return r;
	if (r == ADMISSION_CHANGED && !w->subresource)
		defaults_apply(&w->arena, w->storage, w->object);
	prepare_update(w);
	if (nothing_changed(w))
		return 1;
	r = validate(w, err);
	return r >= 0 ? admission_validate(w, err) : r;
}

static bool may_create_on_update(const struct write *w)
{
	const struct api_kind *k = w->storage;

	return !w->subresource && !w->internal &&
	       (k == KIND_ENDPOINTS || k == KIND_SERVICE || k == KIND_LEASE || k == KIND_EVENT ||
		k == KIND_LIMITRANGE || strcmp(k->group, "rbac.authorization.k8s.io") == 0);
}

void write_run_update(struct write *w, write_change_fn *change, void *arg)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r;

	if (w->create_on_update && may_create_on_update(w) &&
	    !store_newest(w->reg->store, w->storage->resource, w->ns, w->name)) {
		r = authz_check_create(w, &err);
		if (r >= 0)
			r = change(w, arg, &err);
		if (r >= 0)
			r = write_check_body_name(w, meta_name(w->object), &err);
		if (r < 0) {
			write_fail(w, &err);
			return;
		}
		json_remove(meta_ensure(&w->arena, w->object), "resourceVersion");
		w->op = WRITE_CREATE;
		w->http_status = 201;
		write_run_create(w);
		return;
	}
	r = update_steps(w, change, arg, &err);
	if (r < 0)
		write_fail(w, &err);
	else if (r == 1)
		answer_unchanged(w);
	else
		write_commit(w, write_ready_to_go(w, w->object));
}
