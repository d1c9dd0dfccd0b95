/* SPDX-License-Identifier: Apache-2.0 */
/* Deletion: preconditions, grace, finalizers, propagation. An object with a grace period or finalizers is
 * only marked; it goes when the last of them is gone (here, or in an update). Loop thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "userspace/api/hooks.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/internal.h"

#define FINALIZER_ORPHAN STR("orphan")
#define FINALIZER_FOREGROUND STR("foregroundDeletion")

/* Upstream names the kind here, not the resource; Namespaces have words of their own. */
static int refuse_precondition(struct write *w, const char *field, struct str wanted, struct str found,
			       const char *perhaps, struct err *err)
{
	const struct api_kind *k = w->kind;
	const char *why;

	if (w->storage == KIND_NAMESPACE) {
		why = arena_printf(&w->arena, "Precondition failed: %s in precondition: %.*s, %s in object meta: %.*s",
				   field, STR_ARG(wanted), field, STR_ARG(found));
		return api_err_conflict(err, k, w->name, why);
	}
	err_set_status(
		err, -EAGAIN, 409, "Conflict",
		"Operation cannot be fulfilled on %s%s%s \"%.*s\": the %s in the precondition (%.*s) does not match "
		"the %s in record (%.*s). The object might have been %s",
		k->kind, *k->group ? "." : "", k->group, STR_ARG(w->name), field, STR_ARG(wanted), field,
		STR_ARG(found), perhaps);
	err_set_details(err, k->group, k->kind, arena_strndup(&w->arena, w->name.p, w->name.n));
	return -EAGAIN;
}

static int check_preconditions(struct write *w, const struct registry_delete_options *o, struct err *err)
{
	struct str uid = meta_uid(w->old);

	if (o->uid.n > 0 && !str_eq(o->uid, uid))
		return refuse_precondition(w, "UID", o->uid, uid, "deleted and then recreated", err);
	if (o->resource_version > 0 && o->resource_version != w->old_object->revision) {
		char wanted[24], found[24];

		snprintf(wanted, sizeof(wanted), "%lld", (long long)o->resource_version);
		snprintf(found, sizeof(found), "%lld", (long long)w->old_object->revision);
		return refuse_precondition(w, "ResourceVersion", str_of(wanted), str_of(found), "modified", err);
	}
	return 0;
}

bool pods_finished(const struct json *pod)
{
	struct str phase = json_at_str(pod, "status.phase");

	return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

/* -1: at once */
static int64_t grace_period(struct write *w, int64_t requested)
{
	if (w->storage == KIND_POD && (json_at_str(w->old, "spec.nodeName").n == 0 || pods_finished(w->old)))
		return -1;
	return hooks_grace_period_s(w->storage, w->old, requested);
}

/* Which of the two garbage collector's finalizers the object must carry from here on. */
static void set_propagation(struct write *w, struct json *object, const char *policy, bool orphan_set, bool orphan)
{
	bool want_orphan = meta_has_finalizer(object, FINALIZER_ORPHAN);
	bool want_foreground = meta_has_finalizer(object, FINALIZER_FOREGROUND);

	if (!policy && !orphan_set && !want_orphan && !want_foreground) {
		const char *kinds = hooks_default_propagation(w->storage);

		policy = kinds && strcasecmp(kinds, "background") != 0 ? kinds : NULL;
	}
	if (orphan_set) {
		want_orphan = orphan;
		want_foreground = want_foreground && !orphan;
	} else if (policy) {
		want_orphan = strcasecmp(policy, "orphan") == 0;
		want_foreground = strcasecmp(policy, "foreground") == 0;
	}
	meta_remove_finalizer(object, FINALIZER_ORPHAN);
	meta_remove_finalizer(object, FINALIZER_FOREGROUND);
	if (want_orphan)
		meta_add_finalizer(&w->arena, object, FINALIZER_ORPHAN);
	if (want_foreground)
		meta_add_finalizer(&w->arena, object, FINALIZER_FOREGROUND);
}

static void mark(struct write *w, int64_t grace_s)
{
	struct json *meta = meta_ensure(&w->arena, w->object);
	char at[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(clock_real_ns() + grace_s * NS_PER_S, at);
	if (!meta_deleting(w->object) && json_get(meta, "generation"))
		json_set_int(&w->arena, meta, "generation", meta_next_generation(w->object));
	json_set_cstr(&w->arena, meta, "deletionTimestamp", arena_strdup(&w->arena, at));
	json_set_int(&w->arena, meta, "deletionGracePeriodSeconds", grace_s);
	if (w->storage == KIND_NAMESPACE)
		json_set_cstr(&w->arena, json_ensure_object(&w->arena, w->object, "status"), "phase", "Terminating");
}

/* Sets the marks that are due. */
static void apply_marks(struct write *w, int64_t grace_s)
{
	int64_t left = json_get_int(meta_of(w->object), "deletionGracePeriodSeconds", 0);

	if (!meta_deleting(w->object))
		mark(w, grace_s);
	else if (grace_s < left) /* only ever sooner */
		mark(w, grace_s);
}

static bool returns_object(const struct api_kind *k)
{
	return k == KIND_POD || k == KIND_SERVICE || k == KIND_SERVICEACCOUNT || k == KIND_PERSISTENTVOLUME ||
	       k == KIND_PERSISTENTVOLUMECLAIM || k == KIND_RESOURCEQUOTA;
}

static int delete_steps(struct write *w, const struct registry_delete_options *o, bool orphan_set, bool orphan,
			bool *ret_remove, struct err *err)
{
	int r = write_load_old(w, err);
	int64_t grace_s;

	if (r >= 0)
		r = check_preconditions(w, o, err);
	if (r >= 0)
		r = admission_mutate(w, err);
	if (r >= 0)
		r = admission_validate(w, err);
	if (r < 0)
		return r;
	grace_s = grace_period(w, o->grace_period_s);
	w->object = json_clone(&w->arena, w->old);
	set_propagation(w, w->object, o->propagation, orphan_set, orphan);
	if (grace_s <= 0 && json_count(json_get(meta_of(w->object), "finalizers")) == 0 &&
	    !(w->storage == KIND_NAMESPACE && json_count(json_at(w->object, "spec.finalizers")) > 0)) {
		*ret_remove = true;
		return 0;
	}
	apply_marks(w, grace_s > 0 ? grace_s : 0);
	*ret_remove = false;
	return 0;
}

static bool unchanged(struct write *w)
{
	return json_equal(w->object, w->old);
}

void write_run_delete(struct write *w, const struct registry_delete_options *o, bool orphan_set, bool orphan)
{
	_cleanup_err_ struct err err = ERR_INIT;
	bool remove = false;

	if (delete_steps(w, o, orphan_set, orphan, &remove, &err) < 0) {
		write_fail(w, &err);
		return;
	}
	if (remove && !returns_object(w->storage) && w->outcome == WRITE_OBJECT)
		w->outcome = WRITE_DELETED_STATUS;
	if (!remove && unchanged(w)) {
		w->result = object_ref(w->old_object);
		write_succeed(w);
		return;
	}
	write_commit(w, remove);
}

/* ---- DeleteOptions of the wire ---- */

static int parse_policy(struct write *w, struct str policy, struct registry_delete_options_wire *o, struct err *err)
{
	if (policy.n == 0)
		return 0;
	if (o->orphan_set)
		return err_set_status(err, -EINVAL, 422, "Invalid",
				      "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: "
				      "\"%.*s\": orphanDependents and deletionPropagation cannot be both set",
				      STR_ARG(policy));
	if (!str_is(policy, "Foreground") && !str_is(policy, "Background") && !str_is(policy, "Orphan"))
		return err_set_status(
			err, -EINVAL, 422, "Invalid",
			"DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: "
			"\"%.*s\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
			STR_ARG(policy));
	o->options.propagation = arena_strndup(&w->arena, policy.p, policy.n);
	return 0;
}

static int parse_body(struct write *w, struct json *body, struct str *policy, struct registry_delete_options_wire *o,
		      struct err *err)
{
	const struct json *preconditions = json_get(body, "preconditions");
	struct str revision = json_get_str(preconditions, "resourceVersion");
	struct str kind = meta_kind(body);

	if (kind.n > 0 && !str_is(kind, "DeleteOptions"))
		return api_err_bad_request(err, "the object provided is unrecognized: expected DeleteOptions, got %.*s",
					   STR_ARG(kind));
	o->options.grace_period_s = json_get_int(body, "gracePeriodSeconds", o->options.grace_period_s);
	o->options.uid = arena_str(&w->arena, json_get_str(preconditions, "uid"));
	if (revision.n > 0 && str_to_int64(revision, &o->options.resource_version) < 0)
		return api_err_bad_request(err, "invalid resourceVersion precondition: %.*s", STR_ARG(revision));
	if (json_is(json_get(body, "orphanDependents"), JSON_BOOL)) {
		o->orphan_set = true;
		o->orphan = json_get_bool(body, "orphanDependents", false);
	}
	if (json_get_str(body, "propagationPolicy").n > 0)
		*policy = json_get_str(body, "propagationPolicy");
	if (json_count(json_get(body, "dryRun")) > 0)
		o->dry_run = true;
	return 0;
}

int delete_options_parse(struct write *w, const struct request *rq, struct registry_delete_options_wire *ret,
			 struct err *err)
{
	struct registry_delete_options_wire o = {
		.options.grace_period_s = rq->has_grace_period ? rq->grace_period_s : -1,
		.orphan_set = rq->has_orphan_dependents,
		.orphan = rq->orphan_dependents,
		.dry_run = rq->dry_run,
	};
	struct str policy = rq->propagation_policy;
	struct json *body = NULL;
	int r = 0;

	if (rq->tree || rq->body.n > 0)
		r = request_tree(w, rq, &body, err);
	if (r >= 0 && body)
		r = parse_body(w, body, &policy, &o, err);
	if (r >= 0)
		r = parse_policy(w, policy, &o, err);
	if (r < 0)
		return r;
	if (o.options.grace_period_s < -1)
		o.options.grace_period_s = 1; /* as upstream takes a negative one */
	*ret = o;
	return 0;
}

/* ---- collections ---- */

struct collection {
	struct registry *reg;
	const struct api_kind *kind;
	const struct request_user *user; /* while the deletions begin */
	struct arena arena;
	const struct object **victims;
	size_t n, cap, open;
	struct buf body;
	bool started, failed;
	struct err err;
	request_done_fn *done;
	void *arg;
};

static void collection_end(struct collection *c)
{
	struct request_result result = { .http_status = 200, .list_remaining = -1 };

	if (c->open > 0 || !c->started)
		return;
	if (c->failed) {
		c->done(c->arg, NULL, &c->err);
	} else {
		buf_add_cstr(&c->body, "]}");
		result.body = buf_str(&c->body);
		c->done(c->arg, &result, NULL);
	}
	for (size_t i = 0; i < c->n; i++)
		object_unref(c->victims[i]);
	free(c->victims);
	buf_finish(&c->body);
	err_finish(&c->err);
	arena_finish(&c->arena);
	free(c);
}

static void collection_done(void *arg, const struct object *o, const struct err *err)
{
	struct collection *c = arg;

	/* What went meanwhile is gone, as wanted. */
	if (err && err->status != 404 && !c->failed) {
		c->failed = true;
		err_copy(&c->err, err);
	}
	if (o) {
		if (c->body.end > 0 && c->body.data[c->body.end - 1] == '}')
			buf_add_char(&c->body, ',');
		buf_add_str(&c->body, registry_render(&c->arena, c->kind, o));
	}
	c->open--;
	collection_end(c);
}

static bool collection_take(void *arg, const struct object *o)
{
	struct collection *c = arg;

	mem_grow(c->victims, c->cap, c->n + 1);
	c->victims[c->n++] = object_ref(o);
	return true;
}

struct collection_pick {
	struct collection *c;
	struct selection selection;
	int64_t limit;
};

static bool collection_look(void *arg, const struct object *o)
{
	struct collection_pick *p = arg;

	if (selection_matches(&p->selection, o))
		collection_take(p->c, o);
	return p->limit <= 0 || (int64_t)p->c->n < p->limit;
}

static void collection_delete_all(struct collection *c, const struct registry_delete_options_wire *o)
{
	c->open = c->n;
	for (size_t i = 0; i < c->n; i++) {
		struct write *w =
			write_create(c->reg, WRITE_DELETE, c->kind, NULL, c->victims[i]->ns, c->victims[i]->name);

		w->user = c->user;
		w->internal = c->user == NULL;
		w->of_collection = true;
		w->dry_run = o->dry_run;
		w->simple_done = collection_done;
		w->arg = c;
		write_run_delete(w, &o->options, o->orphan_set, o->orphan);
	}
	c->started = true;
	collection_end(c);
}

void delete_collection_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_DELETE, rq->kind, NULL, rq->ns, STR_NULL);
	struct registry_delete_options_wire o;
	struct collection_pick pick = { .limit = rq->limit };
	_cleanup_err_ struct err err = ERR_INIT;
	struct collection *c;
	int r;

	write_set_request(w, rq, done, arg);
	r = delete_options_parse(w, rq, &o, &err);
	if (r >= 0)
		r = selection_parse(&w->arena, w->storage, rq->ns, rq->label_selector, rq->field_selector,
				    &pick.selection, &err);
	if (r < 0) {
		write_fail(w, &err);
		return;
	}
	c = mem_new(struct collection);
	c->reg = reg;
	c->kind = rq->kind;
	c->user = rq->user;
	c->done = done;
	c->arg = arg;
	pick.c = c;
	store_walk(reg->store, w->storage->resource, pick.selection.ns, 0, STR_NULL, STR_NULL, collection_look, &pick,
		   NULL);
	buf_printf(&c->body,
		   "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%lld\"},\"items\":[",
		   rq->kind->list_kind, api_kind_api_version(rq->kind), (long long)store_revision(reg->store));
	collection_delete_all(c, &o);
	w->done = NULL;
	w->result = NULL;
	write_fail(w, &err); /* only frees it: no callback is left */
}
