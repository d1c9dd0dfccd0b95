/* SPDX-License-Identifier: Apache-2.0 */
/* DaemonSets: one pod on each node that fits, the newest template rolled out node by node, and its
 * history kept as ControllerRevisions. Loop thread only. */
#include <errno.h>

#include "userspace/api/intstr.h"
#include "userspace/base/clock.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/daemon_nodes.h"
#include "userspace/controllers/owning.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/revisions.h"
#include "userspace/controllers/table.h"

#define DAEMON_FAILED_AGE_NS (10 * NS_PER_S) /* a failed pod is replaced no sooner: what fails at once would spin */

/* One node, and the pods of the set there. */
struct daemon_node {
	struct str name;
	struct daemon_verdict verdict;
	struct pod *fresh, *old; /* of the newest template, of an older one; the older pod where there are several */
	bool fresh_available, old_available;
};

struct daemon {
	struct reconcile *ctx;
	const struct object *set;
	struct json *json, *spec, *pod_spec; /* pod_spec: of the template, with a daemon's tolerations */
	struct revisions revisions;
	struct daemon_node *nodes;
	size_t n_nodes;
	int64_t min_ready_s, now_ns;
	int64_t max_unavailable, max_surge;
};

static const struct reconcile_note *note_of(struct daemon *d)
{
	struct reconcile_note *n = arena_new(d->ctx->arena, struct reconcile_note);

	n->component = "daemonset-controller";
	n->about = d->set;
	n->fail_prefix = n->ok_prefix = "";
	return n;
}

static void delete_pod(struct daemon *d, const struct pod *p)
{
	struct reconcile_note n = *note_of(d);

	n.ok_reason = "SuccessfulDelete";
	n.ok_prefix = "Deleted pod: ";
	n.fail_reason = "FailedDelete";
	n.fail_prefix = "Error deleting: ";
	reconcile_delete(d->ctx, p->object, KIND_POD, NULL, &n);
}

static void create_pod(struct daemon *d, const struct daemon_node *node)
{
	struct arena *arena = d->ctx->arena;
	struct json *pod = pod_from_template(arena, json_get(d->spec, "template"), KIND_DAEMONSET, d->set, STR_NULL);
	struct json *spec = json_clone(arena, d->pod_spec);
	struct reconcile_note n = *note_of(d);

	daemon_pin(arena, spec, node->name);
	json_set(pod, "spec", spec);
	meta_set_label(arena, pod, REVISION_HASH_LABEL, str_of(d->revisions.hash));
	n.ok_reason = "SuccessfulCreate";
	n.ok_prefix = "Created pod: ";
	n.fail_reason = "FailedCreate";
	n.fail_prefix = "Error creating: ";
	reconcile_create(d->ctx, KIND_POD, pod, &n);
}

/* ---- what is there ---- */

static struct daemon_node *node_find(struct daemon *d, struct str name)
{
	for (size_t i = 0; i < d->n_nodes; i++)
		if (str_eq(d->nodes[i].name, name))
			return &d->nodes[i];
	return NULL;
}

static void load_nodes(struct daemon *d)
{
	struct objects nodes = objects_all(d->ctx->arena, d->ctx->reg, KIND_NODE, STR_NULL);

	d->nodes = arena_new_array(d->ctx->arena, struct daemon_node, nodes.n + 1);
	d->n_nodes = nodes.n;
	for (size_t i = 0; i < nodes.n; i++) {
		struct json *node = registry_parse(d->ctx->arena, nodes.items[i]);

		d->nodes[i].name = nodes.items[i]->name;
		d->nodes[i].verdict = daemon_judge_node(d->ctx->arena, d->pod_spec, node);
	}
}

/* Of two pods of one template on a node the older one counts, the other goes. */
static void settle_pod(struct daemon *d, struct pod *p)
{
	struct daemon_node *node = node_find(d, daemon_node_of(p->json));
	bool is_fresh = str_is(object_label(p->object, STR(REVISION_HASH_LABEL)), d->revisions.hash);
	struct pod **at;

	if (!node)
		return; /* the pod collector's */
	if (p->phase == POD_FAILED || p->phase == POD_SUCCEEDED) {
		int64_t age = d->now_ns - p->created_ns;

		if (age >= DAEMON_FAILED_AGE_NS)
			delete_pod(d, p);
		else
			reconcile_after(d->ctx, DAEMON_FAILED_AGE_NS - age);
		at = is_fresh ? &node->fresh : &node->old;
		if (!*at)
			*at = p; /* holds the place meanwhile */
		return;
	}
	at = is_fresh ? &node->fresh : &node->old;
	if (*at && (*at)->created_ns <= p->created_ns) {
		delete_pod(d, p);
		return;
	}
	if (*at)
		delete_pod(d, *at);
	*at = p;
	*(is_fresh ? &node->fresh_available : &node->old_available) = pod_is_available(p, d->min_ready_s, d->now_ns);
}

static void load_pods(struct daemon *d, const struct objects *owned)
{
	struct pod *pods = arena_new_array(d->ctx->arena, struct pod, owned->n + 1);

	for (size_t i = 0; i < owned->n; i++) {
		pods[i] = pod_of(d->ctx->arena, owned->items[i]);
		if (!pods[i].deleting)
			settle_pod(d, &pods[i]);
	}
}

/* ---- what is to be ---- */

static void place(struct daemon *d)
{
	for (size_t i = 0; i < d->n_nodes && !reconcile_full(d->ctx); i++) {
		struct daemon_node *n = &d->nodes[i];

		if (n->verdict.run && !n->fresh && !n->old)
			create_pod(d, n);
		if (n->verdict.stay)
			continue;
		if (n->fresh)
			delete_pod(d, n->fresh);
		if (n->old)
			delete_pod(d, n->old);
	}
}

/* Old pods that do not serve go at once; of those that do, as many as may miss. */
static void roll_without_surge(struct daemon *d)
{
	int64_t missing = 0;

	for (size_t i = 0; i < d->n_nodes; i++) {
		struct daemon_node *n = &d->nodes[i];

		if (n->verdict.run && !n->fresh_available && !n->old_available)
			missing++;
	}
	for (size_t i = 0; i < d->n_nodes; i++) {
		struct daemon_node *n = &d->nodes[i];

		if (!n->verdict.stay || !n->old || n->old->phase == POD_FAILED)
			continue;
		if (n->old_available && missing >= d->max_unavailable)
			continue;
		missing += n->old_available;
		delete_pod(d, n->old);
	}
}

/* The new pod comes beside the old one, which goes when the new one serves. */
static void roll_with_surge(struct daemon *d)
{
	int64_t surging = 0;

	for (size_t i = 0; i < d->n_nodes; i++)
		surging += d->nodes[i].old && d->nodes[i].fresh;
	for (size_t i = 0; i < d->n_nodes; i++) {
		struct daemon_node *n = &d->nodes[i];

		if (!n->verdict.stay || !n->old)
			continue;
		if (!n->old_available || n->fresh_available) {
			if (n->old->phase != POD_FAILED)
				delete_pod(d, n->old);
		} else if (!n->fresh && n->verdict.run && surging < d->max_surge) {
			create_pod(d, n);
			surging++;
		}
	}
}

static int load_strategy(struct daemon *d, struct err *err)
{
	struct json *rolling = json_at(d->spec, "updateStrategy.rollingUpdate");
	int64_t wanted = 0;
	int rc;

	for (size_t i = 0; i < d->n_nodes; i++)
		wanted += d->nodes[i].verdict.run;
	rc = intstr_scaled(json_get(rolling, "maxUnavailable"), wanted, true, 1, &d->max_unavailable, err);
	if (rc < 0)
		return rc;
	return intstr_scaled(json_get(rolling, "maxSurge"), wanted, true, 0, &d->max_surge, err);
}

static void write_status(struct daemon *d)
{
	struct arena *arena = d->ctx->arena;
	struct json *status = json_new_object(arena);
	int64_t current = 0, misplaced = 0, desired = 0, ready = 0, updated = 0, available = 0, all_ready = 0;

	for (size_t i = 0; i < d->n_nodes; i++) {
		struct daemon_node *n = &d->nodes[i];
		const struct pod *p = n->fresh ? n->fresh : n->old;
		bool is_available = n->fresh_available || n->old_available;

		misplaced += !n->verdict.run && p;
		if (!n->verdict.run)
			continue;
		desired++;
		current += p != NULL;
		ready += (n->fresh && n->fresh->ready) || (n->old && n->old->ready);
		updated += n->fresh != NULL;
		available += is_available;
		all_ready += is_available;
	}
	json_set_int(arena, status, "currentNumberScheduled", current);
	json_set_int(arena, status, "numberMisscheduled", misplaced);
	json_set_int(arena, status, "desiredNumberScheduled", desired);
	json_set_int(arena, status, "numberReady", ready);
	json_set_int(arena, status, "observedGeneration", d->set->generation);
	if (updated)
		json_set_int(arena, status, "updatedNumberScheduled", updated);
	if (available)
		json_set_int(arena, status, "numberAvailable", available);
	if (desired > available)
		json_set_int(arena, status, "numberUnavailable", desired - available);
	reconcile_set_status(d->ctx, KIND_DAEMONSET, d->set, status);
	if (ready > all_ready)
		reconcile_after(d->ctx, d->min_ready_s * NS_PER_S);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct daemon d = { .ctx = ctx, .now_ns = clock_real_ns() };
	const char *live[] = { NULL, NULL };
	struct selector selector;
	struct objects owned;
	int rc;

	d.set = registry_get(ctx->reg, KIND_DAEMONSET, ctx->ns, ctx->name);
	if (!d.set || d.set->deleting)
		return 0;
	d.json = registry_parse(ctx->arena, d.set);
	d.spec = json_get(d.json, "spec");
	d.min_ready_s = json_get_int(d.spec, "minReadySeconds", 0);
	d.pod_spec = json_clone(ctx->arena, json_at(d.spec, "template.spec"));
	daemon_add_tolerations(ctx->arena, d.pod_spec);
	selector = selector_of_labels(ctx->arena, json_get(d.spec, "selector"));
	if (!owning_claim(ctx, KIND_DAEMONSET, d.set, KIND_POD, &selector, &owned) ||
	    !revisions_sync(ctx, KIND_DAEMONSET, d.set, d.json, &d.revisions))
		return 0;
	load_nodes(&d);
	load_pods(&d, &owned);
	rc = load_strategy(&d, err);
	if (rc < 0)
		return rc;
	write_status(&d);
	place(&d);
	if (!str_is(json_at_str(d.spec, "updateStrategy.type"), "OnDelete")) {
		if (d.max_surge > 0)
			roll_with_surge(&d);
		else
			roll_without_surge(&d);
	}
	for (size_t i = 0; i < d.n_nodes && !live[0]; i++)
		if (d.nodes[i].old)
			live[0] = arena_printf(ctx->arena, "%.*s",
					       STR_ARG(object_label(d.nodes[i].old->object, STR(REVISION_HASH_LABEL))));
	revisions_trim(ctx, &d.revisions, json_get_int(d.spec, "revisionHistoryLimit", 10), live);
	return 0;
}

static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	owning_enqueue(r, KIND_DAEMONSET, o, prev, type);
}

static void enqueue_set(void *arg, const struct object *o)
{
	runner_enqueue(arg, o->ns, o->name);
}

/* Heartbeats change nothing here: labels, taints and existence do. */
static void map_node(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	if (registry_count(runner_registry(r), KIND_DAEMONSET) == 0)
		return;
	if (type == REGISTRY_MODIFIED && prev) {
		struct json *a = registry_parse(&arena, o), *b = registry_parse(&arena, prev);

		if (json_equal(json_get(a, "spec"), json_get(b, "spec")) &&
		    json_equal(json_at(a, "metadata.labels"), json_at(b, "metadata.labels")))
			return;
	}
	registry_each(runner_registry(r), KIND_DAEMONSET, STR_NULL, enqueue_set, r);
}

static const struct controller_watch watches[] = {
	{ &KIND_DAEMONSET, runner_enqueue_self },
	{ &KIND_POD, map_pod },
	{ &KIND_NODE, map_node },
};

const struct controller controller_daemonset = {
	.name = "daemonset",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
