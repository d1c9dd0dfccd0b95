/* SPDX-License-Identifier: Apache-2.0 */
/* The usage of ResourceQuotas, kept in memory for the namespaces that have some and for no others.
 *
 * Invariant: what is counted is the newest state, writes that wait for the disk included: check and commit of a write
 * run in one turn, so nothing can come between them, and no number of racing clients gets past a quota. A commit adds
 * what it changes. When the disk refuses one, or when a quota changes, the namespace is counted anew before its next
 * use. Pods that should be gone stop to count by time alone: usage is as of `counted_ns`, which moves only with a
 * count, so that what was added is what is taken away. Loop thread. */
#include "userspace/registry/quota.h"

#include <errno.h>
#include <stdlib.h>

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/internal.h"
#include "userspace/registry/quota_usage.h"

struct quota_item {
	struct str name;
	const struct api_kind *kind; /* whose objects are counted; NULL: nobody knows this resource */
	struct quantity hard, used; /* `used` is not cut to the range of quantities: what was added can be taken away */
};

struct quota {
	struct str name;
	struct quota_item *items;
	size_t n;
	struct quota_scope *scopes;
	size_t n_scopes;
};

struct quota_namespace {
	struct str name;
	struct arena arena; /* of all below */
	struct quota *quotas;
	size_t n;
	bool stale; /* what is below is not true any more */
	int64_t counted_ns, expires_ns;
};

/* ---- namespaces ---- */

static void namespace_destroy(struct quota_namespace *ns)
{
	arena_finish(&ns->arena);
	free((char *)(uintptr_t)ns->name.p);
	free(ns);
}

void quotas_finish(struct quotas *q)
{
	map_foreach(e, &q->namespaces)
		namespace_destroy(e->value);
	map_finish(&q->namespaces);
}

static void tell(struct registry *reg, struct str ns)
{
	if (reg->quotas.listener)
		reg->quotas.listener(reg->quotas.arg, ns);
}

/* To be counted (anew) before its next use. */
static void make_stale(struct registry *reg, struct str name)
{
	struct quota_namespace *ns = map_get(&reg->quotas.namespaces, name);

	if (!ns) {
		ns = mem_new(struct quota_namespace);
		ns->name = str_of(str_dup(name));
		map_put(&reg->quotas.namespaces, ns->name, ns);
	}
	ns->stale = true;
	tell(reg, ns->name);
}

static void found_at_start(void *arg, const struct object *o)
{
	make_stale(arg, o->ns);
}

void quotas_start(struct registry *reg)
{
	registry_each(reg, KIND_RESOURCEQUOTA, STR_NULL, found_at_start, reg);
}

/* ---- the newest state of a kind in a namespace ---- */

typedef void newest_fn(void *arg, const struct object *o);

struct newest {
	struct registry *reg;
	newest_fn *fn;
	void *arg;
};

static void take_newest(void *arg, const struct object *o)
{
	struct newest *n = arg;
	const struct object *newest = store_newest(n->reg->store, o->resource, o->ns, o->name);

	if (newest)
		n->fn(n->arg, newest);
}

/* Published ones in their newest form, and those that only wait for the disk yet. */
static void each_newest(struct registry *reg, const struct api_kind *kind, struct str ns, newest_fn *fn, void *arg)
{
	struct newest n = { reg, fn, arg };

	registry_each(reg, kind, ns, take_newest, &n);
	list_foreach(w, &reg->writes, struct write, link) {
		const struct object *o = w->result;

		/* An update that changes nothing waits for the object it found, which its own write brings. */
		if (w->storage == kind && o && o != w->old_object && str_eq(o->ns, ns) &&
		    !store_get(reg->store, o->resource, ns, o->name) &&
		    store_newest(reg->store, o->resource, ns, o->name) == o)
			fn(arg, o);
	}
}

/* ---- counting ---- */

static bool quota_counts(const struct quota *q, const struct api_kind *kind, const struct json *object)
{
	bool any = false;

	for (size_t i = 0; i < q->n && !any; i++)
		any = q->items[i].kind == kind;
	for (size_t i = 0; i < q->n_scopes && any; i++)
		any = quota_scope_has(&q->scopes[i], kind, object);
	return any;
}

static void sum_add(struct quantity *sum, const struct quantity *q, bool add)
{
	if (quantity_is_zero(sum))
		sum->format = q->format;
	sum->nano += add ? q->nano : -q->nano;
}

/* Adds or takes away; true when a sum changed. */
static bool quota_add(struct quota *q, const struct resource_list *usage, bool add)
{
	bool changed = false;

	for (size_t i = 0; i < q->n; i++) {
		const struct quantity *u = resource_list_get(usage, q->items[i].name);

		if (!u || quantity_is_zero(u))
			continue;
		sum_add(&q->items[i].used, u, add);
		changed = true;
	}
	return changed;
}

struct counting {
	struct quota_namespace *ns;
	const struct api_kind *kind;
};

static void count_one(void *arg, const struct object *o)
{
	struct counting *c = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *object = NULL;
	struct resource_list usage = { 0 };

	if (quota_changes(c->kind)) {
		object = registry_parse(&arena, o);
		quota_usage(&arena, c->kind, object, c->ns->counted_ns, &c->ns->expires_ns, &usage);
	} else {
		quota_usage(&arena, c->kind, NULL, c->ns->counted_ns, NULL, &usage);
	}
	for (size_t i = 0; i < c->ns->n; i++)
		if (quota_counts(&c->ns->quotas[i], c->kind, object))
			quota_add(&c->ns->quotas[i], &usage, true);
}

static bool counted_before(const struct quota_namespace *ns, size_t quota, size_t item)
{
	const struct api_kind *kind = ns->quotas[quota].items[item].kind;

	for (size_t q = 0; q <= quota; q++)
		for (size_t i = 0; i < (q < quota ? ns->quotas[q].n : item); i++)
			if (ns->quotas[q].items[i].kind == kind)
				return true;
	return false;
}

static void count_all(struct registry *reg, struct quota_namespace *ns)
{
	ns->counted_ns = clock_real_ns();
	ns->expires_ns = 0;
	for (size_t q = 0; q < ns->n; q++)
		for (size_t i = 0; i < ns->quotas[q].n; i++)
			ns->quotas[q].items[i].used = quantity_from_int(0, QUANTITY_DECIMAL_SI);
	for (size_t q = 0; q < ns->n; q++)
		for (size_t i = 0; i < ns->quotas[q].n; i++) {
			struct counting c = { ns, ns->quotas[q].items[i].kind };

			if (c.kind && !counted_before(ns, q, i))
				each_newest(reg, c.kind, ns->name, count_one, &c);
		}
}

static int by_name(const void *pa, const void *pb)
{
	return str_cmp(((const struct quota_item *)pa)->name, ((const struct quota_item *)pb)->name);
}

static void load_one(void *arg, const struct object *o)
{
	struct quota_namespace *ns = arg;
	/* The index keeps no object: a copy of the spec lives in its arena. */
	struct json *spec = json_clone_deep(&ns->arena, json_get(registry_parse(&ns->arena, o), "spec"));
	const struct json *hard = json_get(spec, "hard");
	struct quota *grown = arena_new_array(&ns->arena, struct quota, ns->n + 1), *q = &grown[ns->n];

	if (ns->n > 0)
		memcpy(grown, ns->quotas, ns->n * sizeof(*grown));
	q->name = arena_str(&ns->arena, o->name);
	q->items = arena_new_array(&ns->arena, struct quota_item, json_count(hard) + 1);
	json_foreach(h, hard)
		q->items[q->n++] = (struct quota_item){ .name = arena_str(&ns->arena, h->key),
							.kind = quota_kind_of(h->key),
							.hard = quantity_of(h) };
	qsort(q->items, q->n, sizeof(*q->items), by_name);
	q->scopes = quota_scopes_parse(&ns->arena, spec, &q->n_scopes);
	ns->quotas = grown;
	ns->n++;
}

/* The namespace with true numbers, or NULL when it has no quota. */
static struct quota_namespace *namespace_counted(struct registry *reg, struct str name)
{
	struct quota_namespace *ns = map_get(&reg->quotas.namespaces, name);

	if (!ns)
		return NULL;
	if (ns->stale) {
		arena_finish(&ns->arena);
		ns->arena = ARENA_INIT;
		ns->quotas = NULL;
		ns->n = 0;
		each_newest(reg, KIND_RESOURCEQUOTA, ns->name, load_one, ns);
		if (ns->n == 0) {
			map_remove(&reg->quotas.namespaces, name);
			namespace_destroy(ns);
			return NULL;
		}
		count_all(reg, ns);
		ns->stale = false;
	} else if (ns->expires_ns > 0 && clock_real_ns() > ns->expires_ns) {
		count_all(reg, ns);
	}
	return ns;
}

/* ---- commits ---- */

static void charge(struct registry *reg, struct quota_namespace *ns, const struct api_kind *kind,
		   const struct json *was, const struct json *is)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct resource_list before = { 0 }, after = { 0 };
	bool changed = false;

	if (was)
		quota_usage(&arena, kind, was, ns->counted_ns, NULL, &before);
	if (is)
		quota_usage(&arena, kind, is, ns->counted_ns, &ns->expires_ns, &after);
	for (size_t i = 0; i < ns->n; i++) {
		struct quota *q = &ns->quotas[i];

		if (is && quota_counts(q, kind, is))
			changed |= quota_add(q, &after, true);
		if (was && quota_counts(q, kind, was))
			changed |= quota_add(q, &before, false);
	}
	if (changed)
		tell(reg, ns->name);
}

static bool same_quota(const struct json *a, const struct json *b)
{
	return a && b && json_equal(json_get(a, "spec"), json_get(b, "spec"));
}

void quotas_committed(struct write *w, bool removed)
{
	struct registry *reg = w->reg;
	const struct json *is = removed ? NULL : w->object;
	struct quota_namespace *ns;

	if (w->storage == KIND_RESOURCEQUOTA && !same_quota(is, w->old)) {
		make_stale(reg, w->ns);
		return;
	}
	if (quotas_none(reg) || !w->storage->namespaced || quota_ignores(w->storage))
		return;
	if (is && w->old && !quota_changes(w->storage))
		return;
	ns = map_get(&reg->quotas.namespaces, w->ns);
	if (ns && !ns->stale)
		charge(reg, ns, w->storage, w->old, is);
	else if (ns)
		tell(reg, ns->name);
}

void quotas_refused(struct write *w)
{
	if (w->storage == KIND_RESOURCEQUOTA || map_has(&w->reg->quotas.namespaces, w->ns))
		make_stale(w->reg, w->ns);
}

/* ---- judging ---- */

/* A sum within the range of quantities. */
static struct quantity shown_as(const struct quantity *sum)
{
	struct quantity q = quantity_from_int(0, sum->format);

	quantity_add(&q, sum);
	return q;
}

static void print_amount(struct buf *out, struct str name, const struct quantity *q)
{
	struct quantity shown = shown_as(q);
	char text[QUANTITY_TEXT_MAX];

	quantity_format(&shown, text);
	buf_printf(out, "%s%.*s=%s", buf_len(out) ? "," : "", STR_ARG(name), text);
}

/* `more` holds what the write adds. */
static int check_fit(struct write *w, const struct quota *q, const struct resource_list *more, struct err *err)
{
	_cleanup_(buf_finish) struct buf requested = BUF_INIT, used = BUF_INIT, limited = BUF_INIT;

	for (size_t i = 0; i < q->n; i++) {
		const struct quota_item *item = &q->items[i];
		const struct quantity *m = resource_list_get(more, item->name);
		struct quantity sum = item->used;

		if (!m || m->nano <= 0)
			continue;
		sum_add(&sum, m, true);
		if (sum.nano <= item->hard.nano)
			continue;
		print_amount(&requested, item->name, m);
		print_amount(&used, item->name, &item->used);
		print_amount(&limited, item->name, &item->hard);
	}
	if (buf_len(&requested) == 0)
		return 0;
	return admission_forbidden(w, err, "exceeded quota: %.*s, requested: %s, used: %s, limited: %s",
				   STR_ARG(q->name), buf_cstr(&requested), buf_cstr(&used), buf_cstr(&limited));
}

static int check_said(struct write *w, const struct quota *q, struct err *err)
{
	struct str *required;
	const char *why;

	if (w->storage != KIND_POD)
		return 0;
	required = arena_new_array(&w->arena, struct str, q->n + 1);
	for (size_t i = 0; i < q->n; i++)
		required[i] = q->items[i].name;
	why = quota_unspecified(&w->arena, w->object, required, q->n);
	return *why ? admission_forbidden(w, err, "failed quota: %.*s: %s", STR_ARG(q->name), why) : 0;
}

static int check_negative(struct write *w, const struct resource_list *usage, struct err *err)
{
	_cleanup_(buf_finish) struct buf names = BUF_INIT;

	for (size_t i = 0; i < usage->n; i++)
		if (usage->items[i].q.nano < 0)
			buf_printf(&names, "%s%.*s", buf_len(&names) ? "," : "", STR_ARG(usage->items[i].name));
	if (buf_len(&names) == 0)
		return 0;
	return admission_forbidden(w, err, "quota usage is negative for resource(s): %s", buf_cstr(&names));
}

int quotas_check(struct write *w, struct err *err)
{
	const struct json *old = w->op == WRITE_UPDATE ? w->old : NULL;
	struct resource_list usage = { 0 }, before = { 0 }, more = { 0 };
	struct quota_namespace *ns;
	int r = 0;

	if (quota_ignores(w->storage))
		return 0;
	ns = namespace_counted(w->reg, w->ns);
	if (!ns)
		return 0;
	quota_usage(&w->arena, w->storage, w->object, ns->counted_ns, NULL, &usage);
	if (old)
		quota_usage(&w->arena, w->storage, old, ns->counted_ns, NULL, &before);
	resource_list_add(&w->arena, &more, &usage);
	for (size_t i = 0; i < more.n; i++) {
		const struct quantity *was = resource_list_get(&before, more.items[i].name);

		if (was)
			quantity_sub(&more.items[i].q, was);
	}
	/* First what each quota wants to be said, as far as the object is counted at all. */
	for (size_t i = 0; i < ns->n && r >= 0; i++)
		if (quota_counts(&ns->quotas[i], w->storage, w->object))
			r = check_said(w, &ns->quotas[i], err);
	if (r >= 0)
		r = check_negative(w, &usage, err);
	for (size_t i = 0; i < ns->n && r >= 0; i++) {
		const struct quota *q = &ns->quotas[i];

		if (!quota_counts(q, w->storage, w->object))
			continue;
		r = check_fit(w, q, old && quota_counts(q, w->storage, old) ? &more : &usage, err);
	}
	return r;
}

/* ---- for the controller ---- */

struct json *registry_quota_used(struct registry *reg, struct arena *arena, struct str ns_name, struct str name)
{
	struct quota_namespace *ns = namespace_counted(reg, ns_name);
	struct json *used;

	for (size_t i = 0; ns && i < ns->n; i++) {
		const struct quota *q = &ns->quotas[i];

		if (!str_eq(q->name, name))
			continue;
		used = json_new_object(arena);
		for (size_t k = 0; k < q->n; k++)
			if (q->items[k].kind) {
				struct quantity shown = shown_as(&q->items[k].used);

				json_set_n(used, arena_str(arena, q->items[k].name),
					   json_new_str(arena, quantity_text(arena, &shown)));
			}
		return used;
	}
	return NULL;
}

int64_t registry_quota_expires_ns(struct registry *reg, struct str ns_name)
{
	const struct quota_namespace *ns = namespace_counted(reg, ns_name);

	return ns ? ns->expires_ns : 0;
}

void registry_quota_listen(struct registry *reg, registry_quota_fn *fn, void *arg)
{
	reg->quotas.listener = fn;
	reg->quotas.arg = arg;
}
