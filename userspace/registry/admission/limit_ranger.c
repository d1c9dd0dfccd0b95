/* SPDX-License-Identifier: Apache-2.0 */
/* LimitRanger: the namespace's LimitRanges give containers the requests and limits they do not name, and refuse pods,
 * containers and claims outside of the bounds. */
#include <stdarg.h>
#include <stdlib.h>

#include "userspace/api/name_set.h"
#include "userspace/api/resource_list.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define LIMIT_RANGER_ANNOTATION "kubernetes.io/limit-ranger"
#define LIMIT_RANGER_PREFIX "LimitRanger plugin set: "

struct ranges {
	struct write *w;
	struct err *err;
	bool changed;
	int r;
};

static bool any_ranges(const struct write *w)
{
	return w->ns.n > 0 && registry_count(w->reg, KIND_LIMITRANGE) > 0;
}

/* ---- defaults ---- */

static int by_name(const void *pa, const void *pb)
{
	return str_cmp(*(const struct str *)pa, *(const struct str *)pb);
}

/* "cpu, memory request for container c", appended to `said`; `names` are sorted. */
static void say(struct buf *said, struct str *names, size_t n, const char *what, const char *which,
		struct str container)
{
	if (n == 0)
		return;
	qsort(names, n, sizeof(*names), by_name);
	buf_add_cstr(said, buf_len(said) ? "; " : LIMIT_RANGER_PREFIX);
	for (size_t i = 0; i < n; i++)
		buf_printf(said, "%s%.*s", i ? ", " : "", STR_ARG(names[i]));
	buf_printf(said, " %s for %s %.*s", what, which, STR_ARG(container));
}

/* What `defaults` ({name: quantity}) has and the container's list has not. */
static void fill(struct ranges *s, struct json *container, const char *list, const struct json *defaults,
		 const char *what, const char *which, struct buf *said)
{
	struct arena *arena = &s->w->arena;
	struct str *names = arena_new_array(arena, struct str, json_count(defaults) + 1);
	_cleanup_name_set_ struct name_set have;
	struct json *to;
	size_t n = 0;

	name_set_init(&have);
	if (json_count(defaults) == 0)
		return;
	to = json_ensure_object(arena, json_ensure_object(arena, container, "resources"), list);
	name_set_add_members(&have, to);
	json_foreach(d, defaults) {
		struct json *copy;

		if (name_set_get(&have, d->key))
			continue;
		/* The range is gone with its arena before the pod is. */
		copy = json_clone_deep(arena, d);
		copy->key = arena_str(arena, d->key);
		json_append(to, copy);
		names[n++] = d->key;
	}
	s->changed = s->changed || n > 0;
	say(said, names, n, what, which, json_get_str(container, "name"));
}

static void set_defaults(struct ranges *s, const struct json *range)
{
	static const char *const lists[][2] = { { "containers", "container" }, { "initContainers", "init container" } };
	struct json *spec = json_get(s->w->object, "spec"), *limits = json_new_object(&s->w->arena),
		    *requests = json_new_object(&s->w->arena);
	_cleanup_(buf_finish) struct buf said = BUF_INIT;

	json_foreach(item, json_at(range, "spec.limits")) {
		if (!str_is(json_get_str(item, "type"), "Container"))
			continue;
		json_foreach(d, json_get(item, "default"))
			json_set_n(limits, d->key, json_clone(&s->w->arena, d));
		json_foreach(d, json_get(item, "defaultRequest"))
			json_set_n(requests, d->key, json_clone(&s->w->arena, d));
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i][0])) {
			fill(s, c, "requests", requests, "request", lists[i][1], &said);
			fill(s, c, "limits", limits, "limit", lists[i][1], &said);
		}
	if (buf_len(&said) > 0)
		meta_set_annotation(&s->w->arena, s->w->object, LIMIT_RANGER_ANNOTATION,
				    arena_str(&s->w->arena, buf_str(&said)));
}

static void mutate_by(void *arg, const struct object *o)
{
	struct ranges *s = arg;

	set_defaults(s, registry_parse(&s->w->arena, o));
}

static int mutate(struct write *w, struct err *err)
{
	struct ranges s = { .w = w, .err = err };

	if (w->op != WRITE_CREATE || w->storage != KIND_POD || w->subresource || !any_ranges(w))
		return 0;
	registry_each(w->reg, KIND_LIMITRANGE, w->ns, mutate_by, &s);
	return s.changed ? ADMISSION_CHANGED : 0;
}

/* ---- bounds ---- */

/* What one container, pod or claim has; limits NULL: only requests count. */
struct subject {
	struct str type;
	struct resource_list requests;
	const struct resource_list *limits;
};

struct findings {
	struct arena *arena;
	struct buf text;
	size_t n;
};

static void find(struct findings *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void find(struct findings *f, const char *fmt, ...)
{
	va_list ap;

	if (f->n++ > 0)
		buf_add_cstr(&f->text, ", ");
	va_start(ap, fmt);
	buf_add_cstr(&f->text, arena_vprintf(f->arena, fmt, ap));
	va_end(ap);
}

/* `bound` is "minimum" or "maximum", sign what a comparison with it must not give. */
static void check_bound(struct findings *f, const struct subject *s, const char *bound, int sign, struct str name,
			const struct quantity *enforced)
{
	const struct quantity *request = resource_list_get(&s->requests, name);
	const struct quantity *limit = s->limits ? resource_list_get(s->limits, name) : NULL;
	bool by_limit = sign > 0 && s->limits;
	char e[QUANTITY_TEXT_MAX], v[QUANTITY_TEXT_MAX];

	quantity_format(enforced, e);
	if (by_limit ? !limit : !request) {
		find(f, "%s %.*s usage per %.*s is %s.  No %s is specified", bound, STR_ARG(name), STR_ARG(s->type), e,
		     by_limit ? "limit" : "request");
		return;
	}
	/* A maximum is first of the limit, a minimum first of the request. */
	for (int i = 0; i < 2; i++) {
		bool is_limit = (i == 0) == by_limit;
		const struct quantity *q = is_limit ? limit : request;

		if (!q || quantity_cmp(q, enforced) * sign <= 0)
			continue;
		quantity_format(q, v);
		find(f, "%s %.*s usage per %.*s is %s, but %s is %s", bound, STR_ARG(name), STR_ARG(s->type), e,
		     is_limit ? "limit" : "request", v);
		return;
	}
}

static void check_ratio(struct findings *f, const struct subject *s, struct str name, const struct quantity *enforced)
{
	const struct quantity *request = resource_list_get(&s->requests, name);
	const struct quantity *limit = s->limits ? resource_list_get(s->limits, name) : NULL;
	const char *missing = !request || quantity_is_zero(request) ? "request"
			      : !limit || quantity_is_zero(limit)   ? "limit"
								    : NULL;
	char e[QUANTITY_TEXT_MAX];
	long double ratio, allowed;

	quantity_format(enforced, e);
	if (missing) {
		find(f, "%.*s max limit to request ratio per %.*s is %s, but no %s is specified or %s is 0",
		     STR_ARG(name), STR_ARG(s->type), e, missing, missing);
		return;
	}
	ratio = (long double)limit->nano / (long double)request->nano;
	allowed = (long double)enforced->nano / 1e9L;
	if (ratio > allowed)
		find(f, "%.*s max limit to request ratio per %.*s is %s, but provided ratio is %Lf", STR_ARG(name),
		     STR_ARG(s->type), e, ratio);
}

static void check_item(struct findings *f, const struct json *item, const struct subject *s)
{
	json_foreach(m, json_get(item, "min")) {
		struct quantity q = quantity_of(m);

		check_bound(f, s, "minimum", -1, m->key, &q);
	}
	json_foreach(m, json_get(item, "max")) {
		struct quantity q = quantity_of(m);

		check_bound(f, s, "maximum", 1, m->key, &q);
	}
	if (!s->limits)
		return;
	json_foreach(m, json_get(item, "maxLimitRequestRatio")) {
		struct quantity q = quantity_of(m);

		check_ratio(f, s, m->key, &q);
	}
}

static void check_containers(struct write *w, struct findings *f, const struct json *item, struct str type)
{
	static const char *const lists[] = { "spec.containers", "spec.initContainers" };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_at(w->object, lists[i])) {
			struct resource_list limits = { 0 };
			struct subject s = { .type = type, .limits = &limits };

			resource_list_add_json(&w->arena, &s.requests, json_at(c, "resources.requests"));
			resource_list_add_json(&w->arena, &limits, json_at(c, "resources.limits"));
			check_item(f, item, &s);
		}
}

static void check_range(struct write *w, struct findings *f, const struct json *range)
{
	json_foreach(item, json_at(range, "spec.limits")) {
		struct str type = json_get_str(item, "type");
		struct resource_list limits;
		struct subject s = { .type = type };

		if (w->storage == KIND_POD && str_is(type, "Container")) {
			check_containers(w, f, item, type);
		} else if (w->storage == KIND_POD && str_is(type, "Pod")) {
			s.requests = pod_resources_requests(&w->arena, w->object, 0);
			limits = pod_resources_limits(&w->arena, w->object, 0);
			s.limits = &limits;
			check_item(f, item, &s);
		} else if (w->storage == KIND_PERSISTENTVOLUMECLAIM && str_is(type, "PersistentVolumeClaim")) {
			resource_list_add_json(&w->arena, &s.requests, json_at(w->object, "spec.resources.requests"));
			check_item(f, item, &s);
		}
	}
}

static void validate_by(void *arg, const struct object *o)
{
	struct ranges *s = arg;
	struct findings f = { .arena = &s->w->arena };

	if (s->r < 0)
		return;
	check_range(s->w, &f, registry_parse(&s->w->arena, o));
	if (f.n > 0)
		s->r = admission_forbidden(s->w, s->err, "%s%s%s", f.n > 1 ? "[" : "", buf_cstr(&f.text),
					   f.n > 1 ? "]" : "");
	buf_finish(&f.text);
}

/* Containers of a pod change by resize alone. */
static bool is_judged(const struct write *w)
{
	if (w->op == WRITE_DELETE)
		return false;
	if (w->storage == KIND_POD)
		return w->op == WRITE_CREATE ? !w->subresource : w->subresource && !strcmp(w->subresource, "resize");
	return w->storage == KIND_PERSISTENTVOLUMECLAIM && !w->subresource;
}

static int validate(struct write *w, struct err *err)
{
	struct ranges s = { .w = w, .err = err };

	if (!is_judged(w) || !any_ranges(w))
		return 0;
	registry_each(w->reg, KIND_LIMITRANGE, w->ns, validate_by, &s);
	return s.r;
}

const struct admission_plugin ADMISSION_LIMIT_RANGER = { .name = "LimitRanger",
							 .mutate = mutate,
							 .validate = validate };
