/* SPDX-License-Identifier: Apache-2.0 */
/* PodSecurity: the standards that a namespace's labels ask for. Pods that violate what is enforced are refused, also
 * those that controllers make; what is only audited or warned of is told, for pods and for the templates of workloads.
 * A namespace that begins to enforce more learns which of its pods would no longer be let in.
 *
 * A namespace's labels are in the header of its stored object, sorted: reading the policy is a look over a handful of
 * strings, so nothing is kept here. Loop thread. */
#include <errno.h>
#include <stdio.h>

#include "userspace/api/pod_security.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/admission/pod_security_config.h"

#define NAMESPACE_PODS_MAX 3000                  /* of a namespace whose labels change; upstream's number */
#define NAMESPACE_CHECK_NS_MAX (100 * NS_PER_MS) /* the loop waits for it */
#define ANNOTATION_ENFORCED "pod-security.kubernetes.io/enforce-policy"
#define ANNOTATION_VIOLATIONS "pod-security.kubernetes.io/audit-violations"
#define ANNOTATION_ERROR "pod-security.kubernetes.io/error"
#define ANNOTATION_EXEMPT "pod-security.kubernetes.io/exempt"

static bool has_labels(const struct object *ns)
{
	for (size_t i = 0; i < ns->n_labels; i++)
		if (str_starts(ns->labels[i].key, STR(POD_SECURITY_LABELS)))
			return true;
	return false;
}

/* ---- who is exempt ---- */

static bool is_in(const struct json *list, struct str name)
{
	if (name.n > 0)
		json_foreach(v, list)
			if (str_eq(json_str(v), name))
				return true;
	return false;
}

/* NULL: nobody. */
static const char *exemption(const struct write *w)
{
	const struct pod_security_config *c = w->reg->pod_security;

	if (!c)
		return NULL;
	if (is_in(c->namespaces, w->ns))
		return "namespace";
	return w->user && is_in(c->usernames, w->user->name) ? "user" : NULL;
}

static const struct pod_security_modes *defaults_of(const struct write *w)
{
	return w->reg->pod_security ? &w->reg->pod_security->defaults : NULL;
}

static bool runtime_class_is_exempt(const struct write *w, const struct json *spec)
{
	const struct pod_security_config *c = w->reg->pod_security;

	return c && c->runtime_classes && is_in(c->runtime_classes, json_get_str(spec, "runtimeClassName"));
}

/* ---- one pod, or the template of one ---- */

struct judgement {
	struct write *w;
	const struct json *metadata, *spec;
	struct pod_security_policy policy; /* of the results below */
	struct pod_security_violations violations;
	bool known, allowed;
};

/* Modes mostly ask for the same: the last answer is kept. */
static bool allowed(struct judgement *j, const struct pod_security_policy *policy)
{
	if (!j->known || !pod_security_equal(&j->policy, policy)) {
		j->allowed = pod_security_allows(&j->w->arena, policy, j->metadata, j->spec, &j->violations);
		j->policy = *policy;
		j->known = true;
	}
	return j->allowed;
}

static char *would_violate(struct judgement *j)
{
	char text[POD_SECURITY_TEXT_MAX];

	return arena_printf(&j->w->arena, "would violate PodSecurity \"%s\": %.*s", pod_security_text(&j->policy, text),
			    STR_ARG(j->violations.details));
}

static int judge(struct write *w, const struct pod_security_modes *modes, const struct json *metadata,
		 const struct json *spec, bool enforce, struct err *err)
{
	struct judgement j = { .w = w, .metadata = metadata, .spec = spec };
	char text[POD_SECURITY_TEXT_MAX];
	int r = 0;

	if (enforce) {
		pod_security_text(&modes->enforce, text);
		write_annotate(w, ANNOTATION_ENFORCED, str_of(arena_strdup(&w->arena, text)));
		if (!allowed(&j, &modes->enforce))
			r = api_err_forbidden(err, w->kind, meta_name(w->object), "violates PodSecurity \"%s\": %.*s",
					      text, STR_ARG(j.violations.details));
	}
	if (!allowed(&j, &modes->audit))
		write_annotate(w, ANNOTATION_VIOLATIONS, str_of(would_violate(&j)));
	if (r == 0 && !allowed(&j, &modes->warn))
		write_warn(w, would_violate(&j));
	return r;
}

static int judge_in_namespace(struct write *w, const struct json *metadata, const struct json *spec, bool enforce,
			      struct err *err)
{
	const struct object *ns = store_newest(w->reg->store, KIND_NAMESPACE->resource, STR_NULL, w->ns);
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err why = ERR_INIT;
	const char *exempt = exemption(w);
	struct pod_security_modes modes;

	if (exempt) {
		write_annotate(w, ANNOTATION_EXEMPT, str_of(exempt));
		return 0;
	}
	if (!ns)
		return enforce ? api_err_internal(err, "failed to lookup namespace \"%.*s\"", STR_ARG(w->ns)) : 0;
	if (!w->reg->pod_security && !has_labels(ns)) {
		if (enforce)
			write_annotate(w, ANNOTATION_ENFORCED, STR("privileged:latest"));
		return 0;
	}
	if (enforce && w->op == WRITE_UPDATE && !pod_security_matters(w->object, w->old))
		return 0;
	if (runtime_class_is_exempt(w, spec)) {
		write_annotate(w, ANNOTATION_EXEMPT, STR("runtimeClass"));
		return 0;
	}
	pod_security_parse((const struct api_label *)ns->labels, ns->n_labels, defaults_of(w), &modes, &e);
	if (e.n > 0) {
		field_errors_result(&e, KIND_NAMESPACE, w->ns, &why);
		write_annotate(w, ANNOTATION_ERROR,
			       str_of(arena_printf(&w->arena, "Failed to parse policy: %s", err_message(&why))));
	}
	return judge(w, &modes, metadata, spec, enforce, err);
}

/* ---- what of a write is a pod ---- */

/* Subresources that do not carry a pod. What is not known does: it is judged. */
static bool is_about_something_else(const char *subresource)
{
	static const char *const others[] = { "exec", "attach", "binding",     "eviction",
					      "log",  "proxy",  "portforward", "status" };

	for (size_t i = 0; subresource && i < ARRAY_SIZE(others); i++)
		if (strcmp(subresource, others[i]) == 0)
			return true;
	return false;
}

static const struct json *template_of(const struct write *w)
{
	const struct api_kind *k = w->storage;

	if (k == KIND_DEPLOYMENT || k == KIND_REPLICASET || k == KIND_DAEMONSET || k == KIND_STATEFULSET ||
	    k == KIND_JOB || k == KIND_REPLICATIONCONTROLLER)
		return json_at(w->object, "spec.template");
	if (k == KIND_CRONJOB)
		return json_at(w->object, "spec.jobTemplate.spec.template");
	if (!*k->group && strcmp(k->plural, "podtemplates") == 0)
		return json_get(w->object, "template");
	return NULL;
}

/* ---- namespaces ---- */

struct pod_list {
	const struct object **items;
	size_t n, cap;
};

static void add_pod(void *arg, const struct object *o)
{
	struct pod_list *list = arg;

	mem_grow(list->items, list->cap, list->n + 1);
	list->items[list->n++] = o;
}

/* One pod of each controller first: the others say the same. */
static void prioritize(struct pod_list *pods)
{
	const struct object **sorted = mem_new_array(const struct object *, pods->n ? pods->n : 1);
	size_t n_first = 0, n_later = 0;
	struct map seen = MAP_INIT;

	for (size_t i = 0; i < pods->n; i++) {
		const struct object_owner *owner = object_controller(pods->items[i]);

		if (owner && map_put(&seen, owner->uid, pods))
			sorted[pods->n - ++n_later] = pods->items[i];
		else
			sorted[n_first++] = pods->items[i];
	}
	for (size_t i = 0; i < n_later / 2; i++) {
		const struct object *o = sorted[n_first + i];

		sorted[n_first + i] = sorted[pods->n - 1 - i];
		sorted[pods->n - 1 - i] = o;
	}
	map_finish(&seen);
	free(pods->items);
	pods->items = sorted;
}

struct pod_group {
	struct str reasons, name; /* name: the lexically first */
	size_t n;
};

struct pod_groups {
	struct pod_group *items;
	size_t n, cap;
};

static void group_pod(struct pod_groups *groups, struct str reasons, struct str name)
{
	for (size_t i = 0; i < groups->n; i++) {
		struct pod_group *g = &groups->items[i];

		if (!str_eq(g->reasons, reasons))
			continue;
		g->n++;
		if (str_cmp(name, g->name) < 0)
			g->name = name;
		return;
	}
	mem_grow(groups->items, groups->cap, groups->n + 1);
	groups->items[groups->n++] = (struct pod_group){ reasons, name, 1 };
}

/* Returns how many were looked at. */
static size_t check_pods(struct write *w, const struct pod_security_policy *enforce, const struct pod_list *pods,
			 struct pod_groups *groups)
{
	int64_t until = clock_monotonic_ns() + NAMESPACE_CHECK_NS_MAX;
	size_t n = pods->n < NAMESPACE_PODS_MAX ? pods->n : NAMESPACE_PODS_MAX;

	for (size_t i = 0; i < n; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct json *pod = registry_parse(&arena, pods->items[i]);
		struct pod_security_violations v;

		if (!runtime_class_is_exempt(w, json_get(pod, "spec")) &&
		    !pod_security_allows(&arena, enforce, meta_of(pod), json_get(pod, "spec"), &v))
			group_pod(groups, arena_str(&w->arena, v.reasons), pods->items[i]->name);
		if (clock_monotonic_ns() > until)
			return i + 1;
	}
	return n;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void warn_of_groups(struct write *w, const struct pod_groups *groups)
{
	const char **texts = arena_new_array(&w->arena, const char *, groups->n);

	for (size_t i = 0; i < groups->n; i++) {
		const struct pod_group *g = &groups->items[i];
		const char *others = g->n < 2    ? ""
				     : g->n == 2 ? " (and 1 other pod)"
						 : arena_printf(&w->arena, " (and %zu other pods)", g->n - 1);

		texts[i] = arena_printf(&w->arena, "%.*s%s: %.*s", STR_ARG(g->name), others, STR_ARG(g->reasons));
	}
	qsort(texts, groups->n, sizeof(*texts), compare_texts);
	for (size_t i = 0; i < groups->n; i++)
		write_warn(w, texts[i]);
}

static void warn_of_existing_pods(struct write *w, const struct pod_security_policy *enforce)
{
	struct pod_list pods = { 0 };
	struct pod_groups groups = { 0 };
	char text[POD_SECURITY_TEXT_MAX];
	size_t checked;

	registry_each(w->reg, KIND_POD, w->name, add_pod, &pods);
	prioritize(&pods);
	checked = check_pods(w, enforce, &pods, &groups);
	if (checked < pods.n)
		write_warn(w, arena_printf(&w->arena,
					   "new PodSecurity enforce level only checked against the first %zu of %zu "
					   "existing pods",
					   checked, pods.n));
	if (groups.n > 0) {
		write_warn(w, arena_printf(&w->arena,
					   "existing pods in namespace \"%.*s\" violate the new PodSecurity enforce "
					   "level \"%s\"",
					   STR_ARG(w->name), pod_security_text(enforce, text)));
		warn_of_groups(w, &groups);
	}
	free(groups.items);
	free(pods.items);
}

static void parse_labels(struct write *w, const struct json *ns, struct pod_security_modes *ret, struct field_errors *e)
{
	const struct json *labels = json_get(meta_of(ns), "labels");
	struct api_label *list = arena_new_array(&w->arena, struct api_label, json_count(labels) + 1);
	size_t n = 0;

	json_foreach(l, labels)
		if (str_starts(l->key, STR(POD_SECURITY_LABELS)))
			list[n++] = (struct api_label){ l->key, json_str(l) };
	pod_security_parse(list, n, defaults_of(w), ret, e);
}

static void add_ignored(struct write *w, struct buf *out, const char *mode, const struct pod_security_policy *policy)
{
	char key[64], version[64], text[POD_SECURITY_TEXT_MAX];
	const struct json *labels = json_get(meta_of(w->object), "labels");

	snprintf(key, sizeof(key), POD_SECURITY_LABELS "%s", mode);
	snprintf(version, sizeof(version), POD_SECURITY_LABELS "%s-version", mode);
	if (policy->level != POD_SECURITY_PRIVILEGED && (json_get(labels, key) || json_get(labels, version)))
		buf_printf(out, "%s%s=%s", buf_len(out) > 0 ? ", " : "", mode, pod_security_text(policy, text));
}

/* Labels that will not be heeded. */
static void warn_of_exemption(struct write *w, const struct pod_security_modes *modes)
{
	_cleanup_buf_ struct buf ignored = BUF_INIT;

	add_ignored(w, &ignored, "enforce", &modes->enforce);
	add_ignored(w, &ignored, "audit", &modes->audit);
	add_ignored(w, &ignored, "warn", &modes->warn);
	if (buf_len(&ignored) > 0)
		write_warn(w,
			   arena_printf(&w->arena,
					"namespace \"%.*s\" is exempt from Pod Security, and the policy (%.*s) will be "
					"ignored",
					STR_ARG(meta_name(w->object)), STR_ARG(buf_str(&ignored))));
}

static bool same_findings(const struct field_errors *a, const struct field_errors *b)
{
	if (a->n != b->n || a->err.n_causes != b->err.n_causes)
		return false;
	for (size_t i = 0; i < a->err.n_causes; i++)
		if (strcmp(a->err.causes[i].message, b->err.causes[i].message) != 0 ||
		    strcmp(a->err.causes[i].field, b->err.causes[i].field) != 0)
			return false;
	return true;
}

static int validate_namespace(struct write *w, struct err *err)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT, old_e = FIELD_ERRORS_INIT;
	struct pod_security_modes modes, old;
	bool exempt = w->reg->pod_security && is_in(w->reg->pod_security->namespaces, meta_name(w->object));

	parse_labels(w, w->object, &modes, &e);
	if (w->op == WRITE_CREATE) {
		if (exempt && e.n == 0)
			warn_of_exemption(w, &modes);
		return field_errors_result(&e, w->storage, meta_name(w->object), err);
	}
	parse_labels(w, w->old, &old, &old_e);
	/* What was bad before may stay as it is. */
	if (e.n > 0 && !same_findings(&e, &old_e))
		return field_errors_result(&e, w->storage, meta_name(w->object), err);
	if (pod_security_equal(&modes.enforce, &old.enforce) || modes.enforce.level == POD_SECURITY_PRIVILEGED ||
	    (modes.enforce.minor == old.enforce.minor && modes.enforce.level <= old.enforce.level))
		return 0;
	if (exempt)
		warn_of_exemption(w, &modes);
	else
		warn_of_existing_pods(w, &modes.enforce);
	return 0;
}

static int validate(struct write *w, struct err *err)
{
	const struct json *template;

	if (w->op == WRITE_DELETE)
		return 0;
	if (w->storage == KIND_POD) {
		if (is_about_something_else(w->subresource))
			return 0;
		return judge_in_namespace(w, meta_of(w->object), json_get(w->object, "spec"), true, err);
	}
	if (w->subresource)
		return 0;
	if (w->storage == KIND_NAMESPACE)
		return validate_namespace(w, err);
	template = template_of(w);
	if (!json_is(template, JSON_OBJECT))
		return 0;
	return judge_in_namespace(w, json_get(template, "metadata"), json_get(template, "spec"), false, err);
}

const struct admission_plugin ADMISSION_POD_SECURITY = { .name = "PodSecurity", .validate = validate };
