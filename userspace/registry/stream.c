/* SPDX-License-Identifier: Apache-2.0 */
/* WATCH over the wire: the store's events seen through a selection, so that an object that enters it is
 * ADDED and one that leaves it DELETED. Loop thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define STREAM_ARENA_BYTES 192

struct registry_stream {
	struct store_watch watch;
	struct registry *reg;
	struct arena arena; /* of the selection */
	struct selection selection;
	registry_stream_fn *fn;
	void *arg;
	bool running, stopped; /* within fn: stop only marks */
};

static void tell(struct registry_stream *s, enum registry_stream_event type, const struct object *o,
		 struct store_event *e)
{
	if (!s->stopped)
		s->fn(s->arg, type, o, e);
}

/* One that left the selection goes as it was when it was last seen, under the revision at which it left. */
static void tell_left(struct registry_stream *s, struct store_event *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_object_ const struct object *o = registry_build(&arena, api_kind_by_index(e->prev->resource),
								 registry_parse(&arena, e->prev), e->revision);

	tell(s, REGISTRY_STREAM_DELETED, o, e);
}

static void on_event(struct store_watch *w, struct store_event *e)
{
	struct registry_stream *s = container_of(w, struct registry_stream, watch);
	bool now = e->type != STORE_DELETED && selection_matches(&s->selection, e->object);
	bool before = e->prev && selection_matches(&s->selection, e->prev);
	bool outer = s->running;

	s->running = true;
	if (now && before)
		tell(s, REGISTRY_STREAM_MODIFIED, e->object, e);
	else if (now)
		tell(s, REGISTRY_STREAM_ADDED, e->object, e);
	else if (before && e->type == STORE_DELETED)
		tell(s, REGISTRY_STREAM_DELETED, e->object, e);
	else if (before)
		tell_left(s, e);
	s->running = outer;
	if (s->stopped && !outer)
		registry_stream_stop(s);
}

static void initial(void *arg, const struct object *o)
{
	struct registry_stream *s = arg;

	if (selection_matches(&s->selection, o))
		tell(s, REGISTRY_STREAM_ADDED, o, NULL);
}

static int invalid(struct err *err, const char *what)
{
	return err_set_status(err, -EINVAL, 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: %s", what);
}

static int check(struct registry *reg, const struct registry_stream_options *o, int64_t *ret_from, struct err *err)
{
	int64_t from = 0;

	if (o->resource_version.n > 0 && (str_to_int64(o->resource_version, &from) < 0 || from < 0))
		return api_err_bad_request(err, "invalid resource version \"%.*s\"", STR_ARG(o->resource_version));
	if (o->resource_version_match.n > 0 && !o->has_send_initial_events)
		return invalid(err,
			       "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless "
			       "sendInitialEvents is provided");
	if (o->has_send_initial_events && !str_is(o->resource_version_match, "NotOlderThan"))
		return invalid(err, "resourceVersionMatch: Forbidden: sendInitialEvents requires setting "
				    "resourceVersionMatch to NotOlderThan");
	if (from > store_revision(reg->store) && o->has_send_initial_events)
		return list_too_large(err, from, store_revision(reg->store));
	*ret_from = from;
	return 0;
}

/* The stored state and all that follows. */
static int start_with_state(struct registry_stream *s, const struct registry_stream_options *o, struct err *err)
{
	int r = store_watch_start(s->reg->store, &s->watch, o->kind->resource, -1, err);

	if (r < 0)
		return r;
	store_each(s->reg->store, o->kind->resource, s->selection.ns, initial, s);
	/* Who takes no bookmarks cannot be told. */
	if (o->has_send_initial_events && o->allow_bookmarks)
		tell(s, REGISTRY_STREAM_INITIAL_END, NULL, NULL);
	return 0;
}

static int start(struct registry_stream *s, const struct registry_stream_options *o, int64_t from, struct err *err)
{
	bool state = o->has_send_initial_events ? o->send_initial_events : from == 0;

	if (state)
		return start_with_state(s, o, err);
	/* A revision of the future (a client of before a restore): live ones are all there is to say. */
	return store_watch_start(s->reg->store, &s->watch, o->kind->resource, from == 0 ? -1 : from, err);
}

int registry_stream_start(struct registry *reg, const struct registry_stream_options *o, registry_stream_fn *fn,
			  void *arg, struct registry_stream **ret, struct err *err)
{
	struct registry_stream *s = mem_new(struct registry_stream);
	int64_t from = 0;
	int r = check(reg, o, &from, err);

	s->reg = reg;
	s->fn = fn;
	s->arg = arg;
	s->watch.fn = on_event;
	/* Thousands may watch: a selection is small. */
	arena_reserve(&s->arena, STREAM_ARENA_BYTES + 4 * (o->label_selector.n + o->field_selector.n));
	if (r >= 0)
		r = selection_parse(&s->arena, o->kind, o->ns, o->label_selector, o->field_selector, &s->selection,
				    err);
	if (r < 0) {
		registry_stream_stop(s);
		return r;
	}
	if (o->name.n > 0) {
		struct field_requirement *all =
			arena_new_array(&s->arena, struct field_requirement, s->selection.fields.n + 1);

		if (s->selection.fields.n > 0)
			memcpy(all, s->selection.fields.requirements, s->selection.fields.n * sizeof(*all));
		all[s->selection.fields.n++] = (struct field_requirement){ .field = FIELD_SELECTOR_NAME,
									   .value = arena_str(&s->arena, o->name) };
		s->selection.fields.requirements = all;
		s->selection.all = false;
	}
	s->selection.ns = arena_str(&s->arena, s->selection.ns);
	s->running = true;
	*ret = s; /* callbacks during the call may stop it */
	r = start(s, o, from, err);
	s->running = false;
	if (r < 0 || s->stopped) {
		*ret = NULL;
		registry_stream_stop(s);
	}
	return r;
}

void registry_stream_stop(struct registry_stream *s)
{
	if (!s)
		return;
	s->stopped = true;
	if (s->running)
		return;
	store_watch_stop(s->reg->store, &s->watch);
	arena_finish(&s->arena);
	free(s);
}

int64_t registry_stream_revision(const struct registry_stream *s)
{
	return store_revision(s->reg->store);
}
