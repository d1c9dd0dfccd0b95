/* SPDX-License-Identifier: Apache-2.0 */
/* StatefulSets: pods with names that stay, made in order and removed in reverse, one at a time unless
 * the policy is Parallel, each with claims of its own; updates from the highest ordinal down to the
 * partition. A pod that vanishes amidst an update comes back with the new template. Claims are kept
 * when pods go (persistentVolumeClaimRetentionPolicy is not acted on). Loop thread only. */
#include <errno.h>
#include <inttypes.h>

#include "userspace/base/clock.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/owning.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/revisions.h"
#include "userspace/controllers/table.h"

#define STATEFULSET_COMPONENT "statefulset-controller"
#define STATEFULSET_BURST 64 /* pods made in one run when the policy is Parallel */

#define STATEFULSET_REPLICAS_MAX 10000 /* more is refused: each has a slot in every run */

struct stateful_pod {
	struct pod pod;
	int64_t ordinal;
	bool updated, available;
};

struct stateful {
	struct reconcile *ctx;
	const struct object *set;
	struct json *json, *spec, *status;
	struct revisions revisions;
	const char *current; /* name of the revision the rollout comes from */
	int64_t replicas, start, partition, min_ready_s, now_ns;
	bool parallel, on_delete;
	struct stateful_pod **slots; /* of `replicas`; NULL: missing */
	struct stateful_pod *pods;   /* all, also those beyond */
	size_t n;
};

static int64_t ordinal_of(const struct object *set, const struct object *pod)
{
	int64_t ordinal;

	if (pod->name.n <= set->name.n + 1 || !str_starts(pod->name, set->name) || pod->name.p[set->name.n] != '-' ||
	    str_to_int64(str_make(pod->name.p + set->name.n + 1, pod->name.n - set->name.n - 1), &ordinal) < 0)
		return -1;
	return ordinal;
}

static bool is_healthy(const struct stateful_pod *p)
{
	return p && p->available && !p->pod.deleting;
}

static void load(struct stateful *s, const struct objects *owned)
{
	struct arena *arena = s->ctx->arena;
	struct json *rolling = json_at(s->spec, "updateStrategy.rollingUpdate");
	struct str current = json_at_str(s->json, "status.currentRevision");

	s->replicas = json_get_int(s->spec, "replicas", 1);
	s->start = json_at_int(s->spec, "ordinals.start", 0);
	s->partition = json_get_int(rolling, "partition", 0);
	s->parallel = str_is(json_get_str(s->spec, "podManagementPolicy"), "Parallel");
	s->on_delete = str_is(json_at_str(s->spec, "updateStrategy.type"), "OnDelete");
	s->current = current.n > 0 ? arena_printf(arena, "%.*s", STR_ARG(current)) : s->revisions.name;
	s->slots = arena_new_array(arena, struct stateful_pod *, (size_t)s->replicas + 1);
	s->pods = arena_new_array(arena, struct stateful_pod, owned->n + 1);
	for (size_t i = 0; i < owned->n; i++) {
		struct stateful_pod *p = &s->pods[s->n];

		p->ordinal = ordinal_of(s->set, owned->items[i]);
		if (p->ordinal < 0)
			continue;
		s->n++;
		p->pod = pod_of(arena, owned->items[i]);
		p->updated = str_is(object_label(owned->items[i], STR(REVISION_HASH_LABEL)), s->revisions.name);
		p->available = pod_is_available(&p->pod, s->min_ready_s, s->now_ns);
		if (p->pod.ready && !p->available)
			reconcile_after(s->ctx, s->min_ready_s * NS_PER_S);
		if (p->ordinal >= s->start && p->ordinal < s->start + s->replicas)
			s->slots[p->ordinal - s->start] = p;
	}
}

/* ---- making ---- */

static const struct json *template_of(struct stateful *s, const char *revision)
{
	const struct object *o;

	if (!strcmp(revision, s->revisions.name))
		return json_get(s->spec, "template");
	o = registry_get(s->ctx->reg, KIND_CONTROLLERREVISION, s->set->ns, str_of(revision));
	return o ? json_at(registry_parse(s->ctx->arena, o), "data.spec.template") : json_get(s->spec, "template");
}

static void make_claim(struct stateful *s, const struct json *template, const char *name)
{
	struct arena *arena = s->ctx->arena;
	struct json *claim;
	struct json *labels = json_at(template, "metadata.labels");

	if (registry_get(s->ctx->reg, KIND_PERSISTENTVOLUMECLAIM, s->set->ns, str_of(name)))
		return;
	claim = object_new(arena, KIND_PERSISTENTVOLUMECLAIM, s->set->ns, str_of(name));
	if (labels)
		json_set(json_get(claim, "metadata"), "labels", json_clone(arena, labels));
	json_foreach(l, json_at(s->spec, "selector.matchLabels"))
		json_set_n(json_ensure_object(arena, json_get(claim, "metadata"), "labels"), l->key,
			   json_clone(arena, l));
	json_set(claim, "spec", json_clone(arena, json_get(template, "spec")));
	reconcile_create(s->ctx, KIND_PERSISTENTVOLUMECLAIM, claim, NULL);
}

/* Each claim template gives a claim of this pod's own and the volume that leads to it. */
static void add_claims(struct stateful *s, struct json *pod, int64_t ordinal)
{
	struct arena *arena = s->ctx->arena;
	struct json *volumes;

	if (json_count(json_get(s->spec, "volumeClaimTemplates")) == 0)
		return;
	volumes = json_ensure_array(arena, json_get(pod, "spec"), "volumes");
	json_foreach(t, json_get(s->spec, "volumeClaimTemplates")) {
		struct str name = json_at_str(t, "metadata.name");
		const char *claim =
			arena_printf(arena, "%.*s-%.*s-%" PRId64, STR_ARG(name), STR_ARG(s->set->name), ordinal);
		struct json *volume = json_new_object(arena);

		for (struct json *v = json_first(volumes), *next; v; v = next) {
			next = v->next;
			if (str_eq(json_get_str(v, "name"), name))
				json_unlink(volumes, v);
		}
		json_set_str(arena, volume, "name", name);
		json_set_cstr(arena, json_ensure_object(arena, volume, "persistentVolumeClaim"), "claimName", claim);
		json_append(volumes, volume);
		make_claim(s, t, claim);
	}
}

static struct reconcile_note note_of(struct stateful *s, const char *verb, const char *pod)
{
	struct arena *arena = s->ctx->arena;
	bool is_create = !strcmp(verb, "create");

	return (struct reconcile_note){
		.component = STATEFULSET_COMPONENT,
		.about = s->set,
		.ok_reason = is_create ? "SuccessfulCreate" : "SuccessfulDelete",
		.ok_prefix = "",
		.ok_message = arena_printf(arena, "%s Pod %s in StatefulSet %.*s successful", verb, pod,
					   STR_ARG(s->set->name)),
		.fail_reason = is_create ? "FailedCreate" : "FailedDelete",
		.fail_prefix = arena_printf(arena, "%s Pod %s in StatefulSet %.*s failed error: ", verb, pod,
					    STR_ARG(s->set->name)),
	};
}

static void make_pod(struct stateful *s, int64_t ordinal)
{
	struct arena *arena = s->ctx->arena;
	const char *revision = ordinal < s->partition ? s->current : s->revisions.name;
	const char *name = arena_printf(arena, "%.*s-%" PRId64, STR_ARG(s->set->name), ordinal);
	struct json *pod = pod_from_template(arena, template_of(s, revision), KIND_STATEFULSET, s->set, str_of(name));
	struct json *spec = json_get(pod, "spec");
	struct reconcile_note note = note_of(s, "create", name);

	meta_set_label(arena, pod, "statefulset.kubernetes.io/pod-name", str_of(name));
	meta_set_label(arena, pod, "apps.kubernetes.io/pod-index", str_of(arena_printf(arena, "%" PRId64, ordinal)));
	meta_set_label(arena, pod, REVISION_HASH_LABEL, str_of(revision));
	json_set_cstr(arena, spec, "hostname", name);
	if (json_get_str(s->spec, "serviceName").n > 0)
		json_set_str(arena, spec, "subdomain", json_get_str(s->spec, "serviceName"));
	add_claims(s, pod, ordinal);
	reconcile_create(s->ctx, KIND_POD, pod, &note);
}

static void delete_pod(struct stateful *s, const struct stateful_pod *p)
{
	struct reconcile_note note =
		note_of(s, "delete", arena_printf(s->ctx->arena, "%.*s", STR_ARG(p->pod.object->name)));

	reconcile_delete(s->ctx, p->pod.object, KIND_POD, NULL, &note);
}

/* ---- steps: each true when it has done something or waits, and nothing further may be done ---- */

static bool fill(struct stateful *s)
{
	unsigned made = 0;

	for (int64_t i = 0; i < s->replicas; i++) {
		struct stateful_pod *p = s->slots[i];

		if (p && !p->pod.deleting && (p->pod.phase == POD_FAILED || p->pod.phase == POD_SUCCEEDED)) {
			delete_pod(s, p);
			if (!s->parallel)
				return true;
		} else if (!p) {
			make_pod(s, s->start + i);
			if (!s->parallel || ++made == STATEFULSET_BURST || s->ctx->failure)
				return true;
		} else if (!s->parallel && !is_healthy(p)) {
			return true;
		}
	}
	return made > 0;
}

/* Beyond the range, the highest first. */
static bool shrink(struct stateful *s)
{
	bool any = false;

	for (;;) {
		struct stateful_pod *highest = NULL;

		for (size_t i = 0; i < s->n; i++) {
			struct stateful_pod *p = &s->pods[i];
			bool inside = p->ordinal >= s->start && p->ordinal < s->start + s->replicas;

			if (!inside && p->ordinal >= 0 && (!highest || p->ordinal > highest->ordinal))
				highest = p;
		}
		if (!highest || reconcile_full(s->ctx))
			return any;
		if (!highest->pod.deleting)
			delete_pod(s, highest);
		if (!s->parallel)
			return true;
		highest->ordinal = -1; /* seen */
		any = true;
	}
}

static void roll(struct stateful *s)
{
	int64_t first = s->partition > s->start ? s->partition - s->start : 0;

	for (int64_t i = s->replicas - 1; i >= first; i--) {
		struct stateful_pod *p = s->slots[i];

		if (p && !p->updated && !p->pod.deleting) {
			delete_pod(s, p);
			return;
		}
		if (!is_healthy(p))
			return;
	}
}

/* ---- the whole ---- */

static void write_status(struct stateful *s)
{
	struct arena *arena = s->ctx->arena;
	struct json *status = json_new_object(arena);
	int64_t replicas = 0, ready = 0, available = 0, current = 0, updated = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct stateful_pod *p = &s->pods[i];
		struct str revision = object_label(p->pod.object, STR(REVISION_HASH_LABEL));

		replicas++;
		ready += p->pod.ready;
		available += p->available;
		current += !p->pod.deleting && str_is(revision, s->current);
		updated += !p->pod.deleting && p->updated;
	}
	/* The rollout is over: what is new is what is. */
	if (updated == replicas && replicas == s->replicas && ready == s->replicas) {
		s->current = s->revisions.name;
		current = updated;
	}
	json_set_int(arena, status, "observedGeneration", s->set->generation);
	json_set_int(arena, status, "replicas", replicas);
	if (ready)
		json_set_int(arena, status, "readyReplicas", ready);
	if (current)
		json_set_int(arena, status, "currentReplicas", current);
	if (updated)
		json_set_int(arena, status, "updatedReplicas", updated);
	json_set_cstr(arena, status, "currentRevision", s->current);
	json_set_cstr(arena, status, "updateRevision", s->revisions.name);
	json_set_int(arena, status, "collisionCount", 0);
	json_set_int(arena, status, "availableReplicas", available);
	reconcile_set_status(s->ctx, KIND_STATEFULSET, s->set, status);
}

static void trim(struct stateful *s)
{
	const struct object *current =
		registry_get(s->ctx->reg, KIND_CONTROLLERREVISION, s->set->ns, str_of(s->current));
	const char *live[] = { NULL, NULL };

	if (current)
		live[0] = arena_printf(s->ctx->arena, "%.*s", STR_ARG(object_label(current, STR(REVISION_HASH_LABEL))));
	revisions_trim(s->ctx, &s->revisions, json_get_int(s->spec, "revisionHistoryLimit", 10), live);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct stateful s = { .ctx = ctx, .now_ns = clock_real_ns() };
	struct selector selector;
	struct objects owned;

	s.set = registry_get(ctx->reg, KIND_STATEFULSET, ctx->ns, ctx->name);
	if (!s.set || s.set->deleting)
		return 0;
	s.json = registry_parse(ctx->arena, s.set);
	s.spec = json_get(s.json, "spec");
	s.min_ready_s = json_get_int(s.spec, "minReadySeconds", 0);
	if (json_get_int(s.spec, "replicas", 1) > STATEFULSET_REPLICAS_MAX) {
		registry_event(ctx->reg, STATEFULSET_COMPONENT, s.set, "Warning", "FailedCreate",
			       "a StatefulSet has at most %d replicas", STATEFULSET_REPLICAS_MAX);
		return 0;
	}
	selector = selector_of_labels(ctx->arena, json_get(s.spec, "selector"));
	if (!owning_claim(ctx, KIND_STATEFULSET, s.set, KIND_POD, &selector, &owned) ||
	    !revisions_sync(ctx, KIND_STATEFULSET, s.set, s.json, &s.revisions))
		return 0;
	load(&s, &owned);
	write_status(&s);
	if (!fill(&s) && !shrink(&s) && !s.on_delete)
		roll(&s);
	trim(&s);
	return 0;
}

static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	owning_enqueue(r, KIND_STATEFULSET, o, prev, type);
}

static const struct controller_watch watches[] = {
	{ &KIND_STATEFULSET, runner_enqueue_self },
	{ &KIND_POD, map_pod },
};

const struct controller controller_statefulset = {
	.name = "statefulset",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
