/* SPDX-License-Identifier: Apache-2.0 */
/* The replica sets of a deployment: which is the new one, revisions, names, sizes, history.
 * Loop thread only. */
#include <inttypes.h>
#include <stdlib.h>

#include "userspace/controllers/deployment.h"

/* Annotations of a deployment that are its own affair. */
static const char *const not_copied[] = {
	"kubectl.kubernetes.io/last-applied-configuration",
	DEPLOYMENT_REVISION,
	DEPLOYMENT_REVISION_HISTORY,
	DEPLOYMENT_DESIRED,
	DEPLOYMENT_MAX,
	"deprecated.deployment.rollback.to",
};

static int64_t annotation_int(const struct json *object, const char *key, int64_t otherwise)
{
	int64_t v;

	return str_to_int64(meta_annotation(object, key), &v) == 0 ? v : otherwise;
}

static bool template_matches(struct arena *arena, const struct json *set, const struct json *template)
{
	struct json *of_set = json_clone(arena, json_at(set, "spec.template"));
	struct json *of_deployment = json_clone(arena, template);
	struct json *labels[] = { json_at(of_set, "metadata.labels"), json_at(of_deployment, "metadata.labels") };

	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		if (labels[i])
			json_remove(labels[i], DEPLOYMENT_HASH_LABEL);
	return json_equal(of_set, of_deployment);
}

static int oldest_first(const void *pa, const void *pb)
{
	const struct deployment_set *a = pa, *b = pb;

	if (a->object->created_real_ns != b->object->created_real_ns)
		return a->object->created_real_ns < b->object->created_real_ns ? -1 : 1;
	return str_cmp(a->object->name, b->object->name);
}

void deployment_find_sets(struct deployment *d, const struct objects *owned)
{
	struct arena *arena = d->ctx->arena;

	d->sets = arena_new_array(arena, struct deployment_set, owned->n + 1);
	for (size_t i = 0; i < owned->n; i++) {
		struct json *j = registry_parse(arena, owned->items[i]);

		d->sets[d->n++] = (struct deployment_set){
			.object = owned->items[i],
			.json = j,
			.replicas = json_at_int(j, "spec.replicas", 1),
			.status_replicas = json_at_int(j, "status.replicas", 0),
			.ready = json_at_int(j, "status.readyReplicas", 0),
			.available = json_at_int(j, "status.availableReplicas", 0),
			.revision = annotation_int(j, DEPLOYMENT_REVISION, 0),
			.desired = annotation_int(j, DEPLOYMENT_DESIRED, -1),
			.max = annotation_int(j, DEPLOYMENT_MAX, -1),
			.target = -1,
			.min_ready_s = -1,
		};
	}
	if (d->n > 1)
		qsort(d->sets, d->n, sizeof(*d->sets), oldest_first);
	for (size_t i = 0; i < d->n && !d->new_set; i++)
		if (template_matches(arena, d->sets[i].json, json_get(d->spec, "template")))
			d->new_set = &d->sets[i];
	if (d->new_set)
		d->new_name = arena_printf(arena, "%.*s", STR_ARG(d->new_set->object->name));
}

/* ---- revisions ---- */

static int64_t next_revision(const struct deployment *d)
{
	int64_t max = 0;

	for (size_t i = 0; i < d->n; i++)
		if (&d->sets[i] != d->new_set && d->sets[i].revision > max)
			max = d->sets[i].revision;
	return max + 1;
}

static bool is_copied(struct str key)
{
	for (size_t i = 0; i < ARRAY_SIZE(not_copied); i++)
		if (str_is(key, not_copied[i]))
			return false;
	return true;
}

static void copy_annotations(struct deployment *d, const struct json *set, struct json *to)
{
	json_foreach(a, json_at(d->json, "metadata.annotations"))
		if (is_copied(a->key) &&
		    (!set || !str_eq(json_str(json_get_n(json_at(set, "metadata.annotations"), a->key)), json_str(a))))
			json_set_n(to, a->key, json_new_str(d->ctx->arena, json_str(a)));
}

static void set_int_annotation(struct arena *arena, struct json *annotations, const char *key, int64_t v)
{
	json_set(annotations, key, json_new_printf(arena, "%" PRId64, v));
}

static int mutate_revision(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const char *revision = arg;

	if (str_is(meta_annotation(object, DEPLOYMENT_REVISION), revision))
		return 1;
	meta_set_annotation(arena, object, DEPLOYMENT_REVISION, str_of(arena_strdup(arena, revision)));
	return 0;
}

static void sync_own_revision(struct deployment *d, int64_t revision)
{
	char *text = arena_printf(d->ctx->arena, "%" PRId64, revision);

	if (!str_is(meta_annotation(d->json, DEPLOYMENT_REVISION), text))
		/* With the status: as its own change it would count as a new generation. */
		reconcile_update(d->ctx, KIND_DEPLOYMENT, d->object->ns, d->object->name, "status", mutate_revision,
				 text, NULL);
}

void deployment_sync_revision(struct deployment *d)
{
	struct arena *arena = d->ctx->arena;
	struct deployment_set *set = d->new_set;
	struct json *annotations = json_new_object(arena);
	int64_t revision = next_revision(d);

	if (!set)
		return;
	copy_annotations(d, set->json, annotations);
	if (set->revision < revision) {
		struct str history = meta_annotation(set->json, DEPLOYMENT_REVISION_HISTORY);

		set_int_annotation(arena, annotations, DEPLOYMENT_REVISION, revision);
		if (set->revision > 0)
			json_set(annotations, DEPLOYMENT_REVISION_HISTORY,
				 json_new_printf(arena, "%.*s%s%" PRId64, STR_ARG(history), history.n ? "," : "",
						 set->revision));
	} else {
		revision = set->revision;
	}
	if (json_count(annotations) > 0)
		set->annotations = annotations;
	if (json_at_int(set->json, "spec.minReadySeconds", 0) != d->min_ready_s)
		set->min_ready_s = d->min_ready_s;
	sync_own_revision(d, revision);
	if (d->deadline_s != DEPLOYMENT_NO_DEADLINE && !meta_condition(d->conditions, "Progressing")) {
		const struct condition c = {
			"Progressing",
			"True",
			"FoundNewReplicaSet",
			arena_printf(arena, "Found new replica set \"%s\"", d->new_name),
			true,
		};

		deployment_set_condition(d, &c, false);
	}
}

/* ---- the new set ---- */

static struct json *build_set(struct deployment *d, const char *hash, int64_t size)
{
	struct arena *arena = d->ctx->arena;
	struct json *o = object_new(arena, KIND_REPLICASET, d->object->ns, str_of(d->new_name));
	struct json *template = json_clone(arena, json_get(d->spec, "template"));
	struct json *spec = json_ensure_object(arena, o, "spec");
	struct json *selector = json_clone(arena, json_get(d->spec, "selector"));
	struct json *annotations = json_new_object(arena);

	json_set_cstr(arena, json_ensure_object(arena, json_ensure_object(arena, template, "metadata"), "labels"),
		      DEPLOYMENT_HASH_LABEL, hash);
	json_set_cstr(arena, json_ensure_object(arena, selector, "matchLabels"), DEPLOYMENT_HASH_LABEL, hash);
	json_set_int(arena, spec, "replicas", size);
	if (d->min_ready_s > 0)
		json_set_int(arena, spec, "minReadySeconds", d->min_ready_s);
	json_set(spec, "selector", selector);
	json_set(spec, "template", template);
	json_set(json_get(o, "metadata"), "labels", json_clone(arena, json_at(template, "metadata.labels")));
	copy_annotations(d, NULL, annotations);
	set_int_annotation(arena, annotations, DEPLOYMENT_REVISION, next_revision(d));
	set_int_annotation(arena, annotations, DEPLOYMENT_DESIRED, d->rollout.replicas);
	set_int_annotation(arena, annotations, DEPLOYMENT_MAX, d->rollout.replicas + d->rollout.max_surge);
	json_set(json_get(o, "metadata"), "annotations", annotations);
	object_set_controller(arena, o, KIND_DEPLOYMENT, d->object);
	return o;
}

static void tell_creation_failed(struct deployment *d)
{
	const struct reconcile_failure *f = d->ctx->failure;

	if (!f || f->verb != RECONCILE_CREATE || f->kind != KIND_REPLICASET)
		return;
	deployment_set_condition(
		d,
		&(struct condition){ "Progressing", "False", "ReplicaSetCreateError",
				     arena_printf(d->ctx->arena, "Failed to create new replica set \"%s\": %s",
						  d->new_name, f->message),
				     true },
		false);
}

void deployment_make_new_set(struct deployment *d)
{
	struct arena *arena = d->ctx->arena;
	const char *hash = object_hash(arena, json_get(d->spec, "template"), d->collisions);
	struct reconcile_note note = {
		.component = DEPLOYMENT_COMPONENT,
		.about = d->object,
		.ok_prefix = "",
		.fail_reason = "ReplicaSetCreateError",
	};
	struct rollout_set *sets;

	d->new_name = arena_printf(arena, "%.*s-%s", STR_ARG(d->object->name), hash);
	d->creating = true;
	if (registry_get(d->ctx->reg, KIND_REPLICASET, d->object->ns, str_of(d->new_name))) {
		/* A stranger bears the name: another hash, in the run that the status change brings. */
		d->collisions++;
		return;
	}
	sets = arena_new_array(arena, struct rollout_set, d->n + 1);
	for (size_t i = 0; i < d->n; i++)
		sets[i] = (struct rollout_set){ .replicas = d->sets[i].replicas };
	d->new_size = rollout_new_size(&d->rollout, sets, d->n);
	note.fail_prefix = arena_printf(arena, "Failed to create new replica set \"%s\": ", d->new_name);
	if (d->new_size > 0) {
		note.ok_reason = "ScalingReplicaSet";
		note.ok_message =
			arena_printf(arena, "Scaled up replica set %s from 0 to %" PRId64, d->new_name, d->new_size);
	}
	sync_own_revision(d, next_revision(d));
	reconcile_create(d->ctx, KIND_REPLICASET, build_set(d, hash, d->new_size), &note);
	tell_creation_failed(d);
	if (d->deadline_s != DEPLOYMENT_NO_DEADLINE && !d->ctx->failure)
		deployment_set_condition(
			d,
			&(struct condition){ "Progressing", "True", "NewReplicaSetCreated",
					     arena_printf(arena, "Created new replica set \"%s\"", d->new_name), true },
			false);
}

/* ---- writing ---- */

struct set_change {
	const struct deployment *d;
	const struct deployment_set *set;
};

static int mutate_set(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct set_change *c = arg;
	struct json *spec = json_ensure_object(arena, object, "spec");
	struct json *annotations;

	if (meta_deleting(object))
		return 1;
	annotations = json_ensure_object(arena, json_ensure_object(arena, object, "metadata"), "annotations");
	if (c->set->target >= 0)
		json_set_int(arena, spec, "replicas", c->set->target);
	if (c->set->min_ready_s >= 0)
		json_set_int(arena, spec, "minReadySeconds", c->set->min_ready_s);
	json_foreach(a, c->set->annotations)
		json_set_n(annotations, arena_str(arena, a->key), json_clone(arena, a));
	if (c->set->stamp_size) {
		set_int_annotation(arena, annotations, DEPLOYMENT_DESIRED, c->d->rollout.replicas);
		set_int_annotation(arena, annotations, DEPLOYMENT_MAX,
				   c->d->rollout.replicas + c->d->rollout.max_surge);
	}
	return 0;
}

static void write_set(struct deployment *d, struct deployment_set *set)
{
	struct set_change *change = arena_new(d->ctx->arena, struct set_change);
	struct reconcile_note note = { .component = DEPLOYMENT_COMPONENT, .about = d->object, .ok_prefix = "" };
	bool resized = set->target >= 0 && set->target != set->replicas;

	if (set->stamp_size && set->desired == d->rollout.replicas &&
	    set->max == d->rollout.replicas + d->rollout.max_surge)
		set->stamp_size = false;
	if (!resized && !set->stamp_size && !set->annotations && set->min_ready_s < 0)
		return;
	*change = (struct set_change){ d, set };
	if (resized) {
		note.ok_reason = "ScalingReplicaSet";
		note.ok_message = arena_printf(d->ctx->arena, "Scaled %s replica set %.*s from %" PRId64 " to %" PRId64,
					       set->target > set->replicas ? "up" : "down", STR_ARG(set->object->name),
					       set->replicas, set->target);
	}
	reconcile_update(d->ctx, KIND_REPLICASET, set->object->ns, set->object->name, NULL, mutate_set, change, &note);
	if (resized)
		set->replicas = set->target;
}

void deployment_write_sets(struct deployment *d)
{
	for (size_t i = 0; i < d->n; i++)
		write_set(d, &d->sets[i]);
}

static int by_revision(const void *pa, const void *pb)
{
	const struct deployment_set *a = *(struct deployment_set *const *)pa, *b = *(struct deployment_set *const *)pb;

	if (a->revision != b->revision)
		return a->revision < b->revision ? -1 : 1;
	return oldest_first(a, b);
}

void deployment_trim_history(struct deployment *d)
{
	struct deployment_set **old = arena_new_array(d->ctx->arena, struct deployment_set *, d->n + 1);
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++)
		if (&d->sets[i] != d->new_set && !d->sets[i].object->deleting)
			old[n++] = &d->sets[i];
	if (d->history_limit >= INT32_MAX || (int64_t)n <= d->history_limit)
		return;
	qsort(old, n, sizeof(*old), by_revision);
	for (size_t i = 0; i < n - (size_t)d->history_limit; i++) {
		const struct deployment_set *s = old[i];

		if (s->replicas != 0 || s->status_replicas != 0 ||
		    s->object->generation > json_at_int(s->json, "status.observedGeneration", 0))
			continue;
		reconcile_delete(d->ctx, s->object, KIND_REPLICASET, NULL, NULL);
	}
}
