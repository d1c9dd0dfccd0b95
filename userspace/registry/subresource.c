/* SPDX-License-Identifier: Apache-2.0 */
/* What lies below an object and is neither status nor scale: binding, eviction, finalize, token, approval,
 * ephemeral containers, resize. Each makes its own narrow change and refuses the rest. Loop thread. */
#include <errno.h>
#include <string.h>

#include "userspace/api/defaults.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/internal.h"

#define EVICTION_RETRY_S 10

/* The decoded body of a subresource that has a schema of its own. */
static int sub_body(struct write *w, const struct request *rq, struct json **ret, struct err *err)
{
	const struct api_subresource *sub = api_kind_subresource(w->kind, str_of(rq->subresource));
	struct json *tree = NULL;
	int r = request_tree(w, rq, &tree, err);

	if (r >= 0 && sub && sub->message)
		r = write_decode_message(w, sub->message, sub->kind, tree, err);
	if (r < 0)
		return r;
	*ret = tree;
	return 0;
}

/* What is created below an object (an eviction, a token) and not stored passes the plugins as a creation. */
static int sub_admit(struct write *w, struct err *err)
{
	int r;

	w->op = WRITE_CREATE;
	r = admission_mutate(w, err);
	return r < 0 ? r : admission_validate(w, err);
}

static struct write *begin(struct registry *reg, const struct request *rq, enum write_op op, request_done_fn *done,
			   void *arg)
{
	struct write *w = write_create(reg, op, rq->kind, rq->subresource, rq->ns, rq->name);

	write_set_request(w, rq, done, arg);
	return w;
}

/* ---- pods/binding ---- */

/* `node`: the one it has; empty: it is being deleted. */
static int bind_conflict(struct write *w, struct err *err, struct str node)
{
	return err_set_status(err, -EAGAIN, 409, "Conflict",
			      "Operation cannot be fulfilled on pods/binding \"%.*s\": pod %.*s %s%.*s%s",
			      STR_ARG(w->name), STR_ARG(w->name),
			      node.n ? "is already assigned to node \""
				     : "is being deleted, cannot be "
				       "assigned to a host",
			      STR_ARG(node), node.n ? "\"" : "");
}

static void set_scheduled(struct write *w)
{
	struct json *conditions =
		json_ensure_array(&w->arena, json_ensure_object(&w->arena, w->object, "status"), "conditions");
	struct json *c = meta_condition(conditions, "PodScheduled");
	char now[CLOCK_RFC3339_MAX];

	if (!c) {
		c = json_new_object(&w->arena);
		json_set_cstr(&w->arena, c, "type", "PodScheduled");
		json_append(conditions, c);
	}
	clock_format_rfc3339(clock_real_ns(), now);
	json_remove(c, "reason");
	json_remove(c, "message");
	json_set_cstr(&w->arena, c, "status", "True");
	json_set_cstr(&w->arena, c, "lastTransitionTime", arena_strdup(&w->arena, now));
}

static int bind_pod(struct write *w, void *arg, struct err *err)
{
	const struct request *rq = arg;
	struct json *binding = NULL;
	struct str node, kind, bound = json_at_str(w->old, "spec.nodeName"), uid;
	int r = sub_body(w, rq, &binding, err);

	if (r < 0)
		return r;
	node = json_at_str(binding, "target.name");
	kind = json_at_str(binding, "target.kind");
	uid = meta_uid(binding);
	if (node.n == 0)
		return err_set_status(err, -EINVAL, 422, "Invalid",
				      "Binding \"%.*s\" is invalid: target.name: Required value", STR_ARG(w->name));
	if (kind.n && !str_is(kind, "Node"))
		return err_set_status(
			err, -EINVAL, 422, "Invalid",
			"Binding \"%.*s\" is invalid: target.kind: Unsupported value: \"%.*s\": supported "
			"values: \"Node\", \"<empty>\"",
			STR_ARG(w->name), STR_ARG(kind));
	if (uid.n > 0 && !str_eq(uid, meta_uid(w->old)))
		return api_err_precondition(err, w->kind, w->ns, w->name, uid, meta_uid(w->old));
	if (meta_deleting(w->old))
		return bind_conflict(w, err, STR(""));
	if (bound.n > 0)
		return bind_conflict(w, err, bound);
	w->object = json_clone(&w->arena, w->old);
	json_set_str(&w->arena, json_ensure_object(&w->arena, w->object, "spec"), "nodeName", node);
	json_foreach(a, json_at(binding, "metadata.annotations"))
		meta_set_annotation(&w->arena, w->object, arena_strndup(&w->arena, a->key.p, a->key.n), json_str(a));
	set_scheduled(w);
	w->http_status = 201;
	w->outcome = WRITE_CREATED_STATUS;
	return 0;
}

/* ---- pods/eviction ---- */

struct budget_search {
	struct arena *arena;
	struct registry *reg;
	const struct json *pod;
	struct json *found;
	size_t n;
};

static void look_at_budget(void *arg, const struct object *o)
{
	struct budget_search *s = arg;
	/* The newest state: an eviction a moment ago has already taken its part. */
	const struct object *newest = store_newest(s->reg->store, o->resource, o->ns, o->name);
	struct json *budget = registry_parse(s->arena, newest ? newest : o);
	struct selector selector;

	if (selector_from_json(s->arena, json_at(budget, "spec.selector"), &selector, NULL) < 0)
		return;
	if (!selector_matches_map(&selector, json_at(s->pod, "metadata.labels")))
		return;
	s->found = budget;
	s->n++;
}

/* Until the budget's controller has counted again: one less, and whose sake it was. */
static int take_disruption(void *arg, struct arena *arena, struct json *budget, struct err *err)
{
	const struct write *w = arg;
	struct json *status = json_ensure_object(arena, budget, "status");
	char now[CLOCK_RFC3339_MAX];

	(void)err;
	clock_format_rfc3339(clock_real_ns(), now);
	json_set_int(arena, status, "disruptionsAllowed", json_get_int(status, "disruptionsAllowed", 0) - 1);
	json_set_n(json_ensure_object(arena, status, "disruptedPods"), arena_str(arena, w->name),
		   json_new_cstr(arena, arena_strdup(arena, now)));
	return 0;
}

static int check_budget(struct write *w, const struct json *pod, struct err *err)
{
	struct budget_search s = { .arena = &w->arena, .reg = w->reg, .pod = pod };
	struct str phase = json_at_str(pod, "status.phase");

	if (pods_finished(pod) || str_is(phase, "Pending") || meta_deleting(pod))
		return 0;
	registry_each(w->reg, KIND_PODDISRUPTIONBUDGET, w->ns, look_at_budget, &s);
	if (s.n == 0)
		return 0;
	if (s.n > 1)
		return err_set_status(
			err, -EIO, 500, "InternalError",
			"This pod has more than one PodDisruptionBudget, which the eviction subresource does "
			"not support.");
	if (json_at_int(s.found, "status.disruptionsAllowed", 0) > 0) {
		if (!w->dry_run)
			registry_update(w->reg, KIND_PODDISRUPTIONBUDGET, w->ns, meta_name(s.found), "status",
					take_disruption, w, NULL, NULL);
		return 0;
	}
	return api_err_too_many_requests(err, EVICTION_RETRY_S,
					 "Cannot evict pod as it would violate the pod's disruption budget.");
}

static int evict_options(struct write *w, const struct request *rq, struct registry_delete_options *o, struct err *err)
{
	struct json *eviction = NULL, *options;
	struct str policy;
	int r = sub_body(w, rq, &eviction, err);

	if (r < 0)
		return r;
	w->object = eviction;
	options = json_get(eviction, "deleteOptions");
	o->grace_period_s = json_get_int(options, "gracePeriodSeconds", -1);
	o->uid = json_at_str(options, "preconditions.uid");
	policy = json_get_str(options, "propagationPolicy");
	if (policy.n > 0)
		o->propagation = arena_strndup(&w->arena, policy.p, policy.n);
	if (json_count(json_get(options, "dryRun")) > 0)
		w->dry_run = true;
	return 0;
}

static void evict(struct write *w, const struct request *rq)
{
	struct registry_delete_options o = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	const struct object *pod = store_newest(w->reg->store, KIND_POD->resource, w->ns, w->name);
	int r = evict_options(w, rq, &o, &err);

	if (r >= 0 && !pod)
		r = api_err_not_found(&err, w->kind, w->name);
	if (r >= 0)
		r = sub_admit(w, &err);
	if (r >= 0)
		r = check_budget(w, registry_parse(&w->arena, pod), &err);
	if (r < 0) {
		write_fail(w, &err);
		return;
	}
	w->op = WRITE_DELETE;
	w->object = NULL;
	w->subresource = NULL;
	w->http_status = 201;
	w->outcome = WRITE_CREATED_STATUS;
	write_run_delete(w, &o, false, false);
}

/* ---- namespaces/finalize, approval, ephemeral containers, resize: a part of a body of the object itself ---- */

static int whole_body(struct write *w, const struct request *rq, struct json **ret, struct err *err)
{
	void *arg = (void *)(uintptr_t)rq;
	int r = rq->patch == REQUEST_PATCH_APPLY ? apply_change(w, arg, err) : request_change(w, arg, err);

	if (r != 0)
		return r;
	defaults_apply(&w->arena, w->storage, w->object);
	*ret = w->object;
	return write_check_body_name(w, meta_name(w->object), err);
}

/* `path` of the body replaces that of the old object; names and preconditions come along. */
static int take_part(struct write *w, const struct request *rq, const char *parent, const char *field, struct err *err)
{
	static const char *const kept[] = { "name", "namespace", "uid", "resourceVersion" };
	struct json *body = NULL, *part;
	int r = whole_body(w, rq, &body, err);

	if (r < 0)
		return r;
	w->object = json_clone(&w->arena, w->old);
	part = json_get(json_get(body, parent), field);
	if (part)
		json_set(json_ensure_object(&w->arena, w->object, parent), field, json_clone(&w->arena, part));
	else
		json_remove(json_ensure_object(&w->arena, w->object, parent), field);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (json_get(meta_of(body), kept[i]))
			json_set(meta_of(w->object), kept[i], json_clone(&w->arena, json_get(meta_of(body), kept[i])));
	return 0;
}

static int change_finalizers(struct write *w, void *arg, struct err *err)
{
	return take_part(w, arg, "spec", "finalizers", err);
}

static int change_approval(struct write *w, void *arg, struct err *err)
{
	return take_part(w, arg, "status", "conditions", err);
}

/* That they can only be added is a rule of the pod's hooks. */
static int change_ephemeral(struct write *w, void *arg, struct err *err)
{
	return take_part(w, arg, "spec", "ephemeralContainers", err);
}

static struct json *container_named(const struct json *containers, struct str name)
{
	json_foreach(c, containers)
		if (str_eq(json_get_str(c, "name"), name))
			return c;
	return NULL;
}

static void take_field(struct write *w, struct json *mine, const struct json *theirs, const char *name)
{
	const struct json *v = json_get(theirs, name);

	if (v)
		json_set(mine, name, json_clone(&w->arena, v));
	else
		json_remove(mine, name);
}

static int change_resources(struct write *w, void *arg, struct err *err)
{
	static const char *const lists[] = { "containers", "initContainers" };
	struct json *body = NULL, *spec;
	int r = whole_body(w, arg, &body, err);

	if (r < 0)
		return r;
	w->object = json_clone(&w->arena, w->old);
	spec = json_get(w->object, "spec");
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		json_foreach(c, json_get(json_get(body, "spec"), lists[i])) {
			struct json *mine = container_named(json_get(spec, lists[i]), json_get_str(c, "name"));

			if (!mine)
				continue;
			take_field(w, mine, c, "resources");
			take_field(w, mine, c, "resizePolicy");
		}
	}
	take_field(w, spec, json_get(body, "spec"), "resources");
	return 0;
}

/* ---- serviceaccounts/token ---- */

static int make_token(struct write *w, const struct request *rq, struct err *err)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct registry_token_request tr = { .arena = &w->arena };
	struct json *body = NULL, *status;
	struct str token = STR_NULL;
	int64_t expires = 0;
	char at[CLOCK_RFC3339_MAX];
	int r = sub_body(w, rq, &body, err);

	if (r < 0)
		return r;
	tr.service_account = registry_get(w->reg, rq->kind, rq->ns, rq->name);
	if (!tr.service_account)
		return api_err_not_found(err, rq->kind, rq->name);
	if (!w->reg->token_issuer)
		return api_err_no_resource(err);
	w->object = body;
	r = sub_admit(w, err);
	if (r < 0)
		return r;
	tr.token_request = body;
	r = w->reg->token_issuer(w->reg->token_arg, &tr, &token, &expires, err);
	if (r < 0)
		return r;
	clock_format_rfc3339(expires, at);
	json_set_cstr(&w->arena, body, "kind", "TokenRequest");
	json_set_cstr(&w->arena, body, "apiVersion", "authentication.k8s.io/v1");
	json_set_str(&w->arena, meta_ensure(&w->arena, body), "name", rq->name);
	json_set_str(&w->arena, meta_ensure(&w->arena, body), "namespace", rq->ns);
	meta_set_time(&w->arena, body, "creationTimestamp", clock_real_ns());
	status = json_ensure_object(&w->arena, body, "status");
	json_set_str(&w->arena, status, "token", token);
	json_set_cstr(&w->arena, status, "expirationTimestamp", arena_strdup(&w->arena, at));
	json_write(&text, body);
	w->body = arena_str(&w->arena, buf_str(&text));
	w->outcome = WRITE_BODY;
	w->http_status = 201;
	return 0;
}

static void token(struct write *w, const struct request *rq)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (make_token(w, rq, &err) < 0)
		write_fail(w, &err);
	else
		write_succeed(w);
}

/* ---- which is which ---- */

static const struct {
	const char *plural, *subresource;
	bool post; /* else GET, PUT and PATCH */
	write_change_fn *change;
	void (*run)(struct write *w, const struct request *rq);
} SUBRESOURCES[] = {
	{ "pods", "binding", true, bind_pod, NULL },
	{ "pods", "eviction", true, NULL, evict },
	{ "serviceaccounts", "token", true, NULL, token },
	{ "namespaces", "finalize", false, change_finalizers, NULL },
	{ "certificatesigningrequests", "approval", false, change_approval, NULL },
	{ "pods", "ephemeralcontainers", false, change_ephemeral, NULL },
	{ "pods", "resize", false, change_resources, NULL },
};

/* The older way to bind: the Binding names its pod. */
void binding_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_UPDATE, KIND_POD, "binding", rq->ns, STR_NULL);
	struct request pod = *rq;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *binding = NULL;

	write_set_request(w, rq, done, arg);
	pod.kind = KIND_POD;
	pod.subresource = w->subresource;
	if (request_tree(w, &pod, &binding, &err) < 0) {
		write_fail(w, &err);
		return;
	}
	w->name = pod.name = arena_str(&w->arena, meta_name(binding));
	if (meta_namespace(binding).n && !str_eq(meta_namespace(binding), w->ns))
		api_err_bad_request(&err, "the namespace of the provided object does not match the namespace sent on "
					  "the request");
	else if (!w->name.n)
		api_err_bad_request(&err, "Name parameter required.");
	if (err.status) {
		write_fail(w, &err);
		return;
	}
	write_run_update(w, bind_pod, &pod);
}

bool subresource_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(SUBRESOURCES); i++) {

		if (strcmp(SUBRESOURCES[i].plural, rq->kind->plural) != 0 ||
		    strcmp(SUBRESOURCES[i].subresource, rq->subresource) != 0)
			continue;
		if (SUBRESOURCES[i].post != (rq->verb == API_VERB_CREATE))
			return false;
		if (rq->verb == API_VERB_GET) {
			struct request object = *rq;

			object.subresource = NULL;
			request_run(reg, &object, done, arg);
			return true;
		}
		if (SUBRESOURCES[i].run)
			SUBRESOURCES[i].run(begin(reg, rq, WRITE_UPDATE, done, arg), rq);
		else
			write_run_update(begin(reg, rq, WRITE_UPDATE, done, arg), SUBRESOURCES[i].change,
					 (void *)(uintptr_t)rq);
		return true;
	}
	return false;
}
