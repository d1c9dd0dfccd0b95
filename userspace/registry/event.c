/* SPDX-License-Identifier: Apache-2.0 */
/* Events about objects: the same one again only counts up; one who repeats without end is cut off; all end
 * after an hour. Lazy on disk. Loop thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define EVENT_TTL_NS (3600 * NS_PER_S)
#define EVENT_CACHE_MAX 4096             /* recent events that can be counted up; then all are forgotten */
#define EVENT_BURST 25                   /* of one component about one object */
#define EVENT_REFILL_NS (300 * NS_PER_S) /* one more */
#define EVENT_MESSAGE_MAX 1024
#define EVENT_KEY_MAX 2048

struct known_event {
	char *ns, *name;
};

struct bucket {
	int64_t at_ns;
	double tokens;
};

struct events {
	struct registry *reg;
	struct map known;   /* about what, which reason and message -> struct known_event */
	struct map buckets; /* component and uid -> struct bucket */
	struct loop_timer expiry;
};

static void known_destroy(struct known_event *k)
{
	if (!k)
		return;
	free(k->ns);
	free(k->name);
	free(k);
}

static void forget(struct events *e)
{
	map_foreach(slot, &e->known)
		known_destroy(slot->value);
	map_foreach(slot, &e->buckets)
		free(slot->value);
	map_finish(&e->known);
	map_finish(&e->buckets);
	e->known = MAP_INIT;
	e->buckets = MAP_INIT;
}

/* ---- the end of events ---- */

struct expiring {
	struct events *events;
	int64_t now_ns, next_ns; /* next_ns: when the next one ends; 0: none is left */
};

static int64_t last_seen(struct arena *arena, const struct object *o)
{
	struct json *tree = registry_parse(arena, o);
	int64_t seen = meta_time_ns(json_get(tree, "lastTimestamp"));
	int64_t series = meta_time_ns(json_at(tree, "series.lastObservedTime"));

	if (series > seen)
		seen = series;
	return seen > 0 ? seen : o->created_real_ns;
}

static void look(void *arg, const struct object *o)
{
	struct expiring *x = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	int64_t ends = last_seen(&arena, o) + EVENT_TTL_NS;

	if (ends <= x->now_ns)
		registry_delete(x->events->reg, KIND_EVENT, o->ns, o->name, NULL, NULL, NULL);
	else if (x->next_ns == 0 || ends < x->next_ns)
		x->next_ns = ends;
}

static void on_expiry(struct loop_timer *timer)
{
	struct events *e = container_of(timer, struct events, expiry);
	struct expiring x = { .events = e, .now_ns = clock_real_ns() };

	registry_each(e->reg, KIND_EVENT, STR_NULL, look, &x);
	if (x.next_ns > 0)
		loop_timer_arm(e->reg->loop, timer, x.next_ns - x.now_ns + NS_PER_S);
}

static void expire_later(struct events *e)
{
	if (!loop_timer_armed(&e->expiry))
		loop_timer_arm(e->reg->loop, &e->expiry, EVENT_TTL_NS + NS_PER_S);
}

struct events *events_create(struct registry *reg)
{
	struct events *e = mem_new(struct events);

	e->reg = reg;
	loop_timer_init(&e->expiry, on_expiry);
	if (registry_count(reg, KIND_EVENT) > 0)
		loop_timer_arm(reg->loop, &e->expiry, 60 * NS_PER_S);
	return e;
}

void events_destroy(struct events *e)
{
	if (!e)
		return;
	loop_timer_cancel(e->reg->loop, &e->expiry);
	forget(e);
	free(e);
}

/* ---- recording ---- */

struct record {
	const char *component, *field_path, *type, *reason, *message;
	const struct object *about;
	const struct api_kind *kind; /* of about */
	char now[CLOCK_RFC3339_MAX];
};

static bool may_record(struct events *e, const struct record *r)
{
	char key[256];
	int n = snprintf(key, sizeof(key), "%s/%.*s", r->component, STR_ARG(r->about->uid));
	struct str k = str_make(key, n < (int)sizeof(key) ? (size_t)n : sizeof(key) - 1);
	struct bucket *b = map_get(&e->buckets, k);
	int64_t now = loop_now_ns(e->reg->loop);

	if (!b) {
		b = mem_new(struct bucket);
		*b = (struct bucket){ now, EVENT_BURST };
		map_put(&e->buckets, k, b);
	}
	b->tokens += (double)(now - b->at_ns) / (double)EVENT_REFILL_NS;
	b->at_ns = now;
	if (b->tokens > EVENT_BURST)
		b->tokens = EVENT_BURST;
	if (b->tokens < 1)
		return false;
	b->tokens -= 1;
	return true;
}

static struct json *reference(struct arena *arena, const struct record *r)
{
	struct json *ref = json_new_object(arena);
	const struct object *o = r->about;

	json_set_cstr(arena, ref, "kind", r->kind->kind);
	if (o->ns.n)
		json_set_str(arena, ref, "namespace", o->ns);
	json_set_str(arena, ref, "name", o->name);
	json_set_str(arena, ref, "uid", o->uid);
	json_set_cstr(arena, ref, "apiVersion", api_kind_api_version(r->kind));
	json_set(ref, "resourceVersion", json_new_printf(arena, "%lld", (long long)o->revision));
	if (r->field_path)
		json_set_cstr(arena, ref, "fieldPath", r->field_path);
	return ref;
}

static struct json *compose(struct arena *arena, const struct record *r, const char *ns, const char *name)
{
	struct json *event = json_new_object(arena), *meta;

	json_set_cstr(arena, event, "kind", "Event");
	json_set_cstr(arena, event, "apiVersion", "v1");
	meta = json_ensure_object(arena, event, "metadata");
	json_set_cstr(arena, meta, "name", name);
	json_set_cstr(arena, meta, "namespace", ns);
	json_set(event, "involvedObject", reference(arena, r));
	json_set_cstr(arena, event, "reason", r->reason);
	json_set_cstr(arena, event, "message", r->message);
	json_set_cstr(arena, json_ensure_object(arena, event, "source"), "component", r->component);
	json_set_cstr(arena, event, "firstTimestamp", r->now);
	json_set_cstr(arena, event, "lastTimestamp", r->now);
	json_set_int(arena, event, "count", 1);
	json_set_cstr(arena, event, "type", r->type);
	json_set_cstr(arena, event, "reportingComponent", r->component);
	json_set_cstr(arena, event, "reportingInstance", "");
	return event;
}

static int count_up(void *arg, struct arena *arena, struct json *event, struct err *err)
{
	const struct record *r = arg;

	(void)err;
	json_set_int(arena, event, "count", json_get_int(event, "count", 1) + 1);
	json_set_cstr(arena, event, "lastTimestamp", arena_strdup(arena, r->now));
	return 0;
}

static void recorded(void *arg, const struct object *o, const struct err *err)
{
	(void)arg;
	(void)o;
	if (err)
		log_debug("event not recorded error=\"%s\"", err_message(err));
}

static struct known_event *known_create(const struct record *r)
{
	struct known_event *k = mem_new(struct known_event);
	size_t cut = r->about->name.n < 230 ? r->about->name.n : 230;

	k->ns = r->about->ns.n ? str_dup(r->about->ns) : mem_strdup("default");
	k->name = mem_printf("%.*s.%016llx", (int)cut, r->about->name.p, (unsigned long long)clock_real_ns());
	return k;
}

/* The program whose part the component is upstream. */
static const char *manager_of(const char *component)
{
	if (!strcmp(component, "kubelet"))
		return component;
	return strstr(component, "scheduler") ? "kube-scheduler" : "kube-controller-manager";
}

static void record(struct events *e, struct record *r)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct known_event *k;
	char key[EVENT_KEY_MAX];
	int n = snprintf(key, sizeof(key), "%s\n%.*s\n%s\n%s\n%s\n%s", r->component, STR_ARG(r->about->uid),
			 r->field_path ? r->field_path : "", r->type, r->reason, r->message);
	struct str about = str_make(key, n < (int)sizeof(key) ? (size_t)n : sizeof(key) - 1);

	if (e->known.n >= EVENT_CACHE_MAX || e->buckets.n >= EVENT_CACHE_MAX)
		forget(e);
	if (!may_record(e, r))
		return;
	clock_format_rfc3339(clock_real_ns(), r->now);
	k = map_get(&e->known, about);
	if (k && store_newest(e->reg->store, KIND_EVENT->resource, str_of(k->ns), str_of(k->name))) {
		registry_update_as(e->reg, manager_of(r->component), KIND_EVENT, str_of(k->ns), str_of(k->name), NULL,
				   count_up, r, recorded, NULL);
		return;
	}
	k = known_create(r);
	known_destroy(map_put(&e->known, about, k));
	registry_create_as(e->reg, manager_of(r->component), KIND_EVENT, compose(&arena, r, k->ns, k->name), recorded,
			   NULL);
	expire_later(e);
}

static void record_v(struct registry *reg, const char *component, const struct object *about, const char *field_path,
		     const char *type, const char *reason, const char *fmt, va_list ap)
{
	char message[EVENT_MESSAGE_MAX];
	struct record r = {
		.component = component,
		.field_path = field_path,
		.type = type,
		.reason = reason,
		.message = message,
		.about = about,
		.kind = api_kind_by_index(about->resource),
	};

	vsnprintf(message, sizeof(message), fmt, ap);
	if (r.kind)
		record(reg->events, &r);
}

void registry_event(struct registry *reg, const char *component, const struct object *about, const char *type,
		    const char *reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record_v(reg, component, about, NULL, type, reason, fmt, ap);
	va_end(ap);
}

void registry_event_at(struct registry *reg, const char *component, const struct object *about, const char *field_path,
		       const char *type, const char *reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record_v(reg, component, about, field_path, type, reason, fmt, ap);
	va_end(ap);
}
