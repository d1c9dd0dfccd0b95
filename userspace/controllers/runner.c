/* SPDX-License-Identifier: Apache-2.0 */
/* Queue, back-off and write accounting of one controller. A key lives in the map as long as it is
 * queued, delayed, waiting for writes, or has failed; else it is forgotten. Loop thread only. */
#include "userspace/controllers/runner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/map.h"

#define RUNNER_KEY_MAX 600 /* namespace, slash and name are at most 63 + 1 + 253; uids are shorter */

static const double seconds[RUNNER_BUCKETS] = { 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000 };
const struct histogram_scale RUNNER_SCALE = { seconds, RUNNER_BUCKETS };

struct runner_key {
	struct runner *runner;
	struct list link; /* in runner->queue when queued */
	struct loop_timer timer;
	char *ns, *name;
	bool queued, running, dirty, failed;
	int64_t queued_at_ns;
	bool again;       /* the run itself asks for another, if it goes well */
	bool had_failure; /* the run knew of a failed write of the run before */
	unsigned outstanding, failures;
	/* Of the last run. */
	struct reconcile_failure failure;
	char *failure_message;
};

struct runner_watch {
	struct registry_watch watch;
	struct runner *runner;
	controller_map_fn *map;
};

struct runner {
	const struct controller *controller;
	struct runner_options options;
	struct runner_watch *watches;
	size_t n_watches;
	struct map keys;
	struct list queue;
	struct list writes; /* struct runner_write */
	struct loop_defer defer;
	struct arena arena;
	void *state;
	bool started;
	struct runner_stats stats;
};

struct runner_write {
	struct list link;
	struct runner *runner; /* NULL: destroyed meanwhile */
	struct runner_key *key;
	enum reconcile_verb verb;
	const struct api_kind *kind;
	char *ns, *name; /* name: NULL when it is only known afterwards */
	const struct object *about;
	struct reconcile_note note;
	char *ok_message;
};

/* Writes whose runner is gone: they free themselves when the registry tells how they ended. One that is itself
 * destroyed before that never does, and they stay here. */
static struct list orphans = LIST_INIT(orphans);

int64_t runner_backoff_ns(unsigned failures)
{
	int64_t delay = RUNNER_BACKOFF_MIN_NS;

	for (unsigned i = 1; i < failures && delay < RUNNER_BACKOFF_MAX_NS; i++)
		delay *= 2;
	return delay < RUNNER_BACKOFF_MAX_NS ? delay : RUNNER_BACKOFF_MAX_NS;
}

/* ---- keys ---- */

static void key_destroy(struct runner_key *key)
{
	if (!key)
		return;
	loop_timer_cancel(key->runner->options.loop, &key->timer);
	if (key->queued)
		list_del(&key->link);
	free(key->failure_message);
	free(key->ns);
	free(key->name);
	free(key);
}

static struct str key_text(char buf[static RUNNER_KEY_MAX], struct str ns, struct str name)
{
	int n = snprintf(buf, RUNNER_KEY_MAX, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));

	assert(n > 0 && n < RUNNER_KEY_MAX);
	return str_make(buf, (size_t)n);
}

static void key_queue(struct runner_key *key)
{
	struct runner *r = key->runner;

	if (key->outstanding > 0 || key->running) {
		key->dirty = true;
		return;
	}
	if (key->queued)
		return;
	key->queued = true;
	key->queued_at_ns = clock_monotonic_ns();
	r->stats.queued++;
	r->stats.added++;
	list_add_tail(&r->queue, &key->link);
	if (r->started)
		loop_defer(r->options.loop, &r->defer);
}

static void key_timer(struct loop_timer *timer)
{
	struct runner_key *key = container_of(timer, struct runner_key, timer);

	key->runner->stats.delayed--;
	key_queue(key);
}

static struct runner_key *key_get(struct runner *r, struct str ns, struct str name)
{
	char buf[RUNNER_KEY_MAX];
	struct str text = key_text(buf, ns, name);
	struct runner_key *key = map_get(&r->keys, text);

	if (key)
		return key;
	key = mem_new(struct runner_key);
	key->runner = r;
	key->ns = str_dup(ns);
	key->name = str_dup(name);
	list_init(&key->link);
	loop_timer_init(&key->timer, key_timer);
	map_put(&r->keys, text, key);
	return key;
}

static void key_forget_if_idle(struct runner_key *key)
{
	char buf[RUNNER_KEY_MAX];

	if (key->queued || key->running || key->dirty || key->outstanding > 0 || key->failures > 0 ||
	    loop_timer_armed(&key->timer))
		return;
	map_remove(&key->runner->keys, key_text(buf, str_of(key->ns), str_of(key->name)));
	key_destroy(key);
}

static void key_delay(struct runner_key *key, int64_t delay_ns)
{
	struct runner *r = key->runner;

	if (loop_timer_armed(&key->timer)) {
		if (key->timer.due_ns <= loop_now_ns(r->options.loop) + delay_ns)
			return;
	} else {
		r->stats.delayed++;
	}
	loop_timer_arm(r->options.loop, &key->timer, delay_ns > 0 ? delay_ns : 1);
}

/* The run and all its writes have ended. */
static void key_settle(struct runner_key *key)
{
	bool dirty = key->dirty;

	key->dirty = false;
	if (key->failed) {
		key->failures++;
		key->runner->stats.errors++;
		log_debug("reconcile comes again controller=%s key=%s/%s failures=%u", key->runner->controller->name,
			  key->ns, key->name, key->failures);
		key_delay(key, runner_backoff_ns(key->failures));
	} else {
		/* Once more without the failure in sight, so that conditions that told of it go. */
		dirty = dirty || key->had_failure || key->again;
		key->failures = 0;
	}
	if (dirty)
		key_queue(key);
	key_forget_if_idle(key);
}

void runner_enqueue(struct runner *r, struct str ns, struct str name)
{
	key_queue(key_get(r, ns, name));
}

void runner_enqueue_self(struct runner *r, enum registry_event_type type, const struct object *o,
			 const struct object *prev)
{
	runner_enqueue(r, o->ns, o->name);
}

static void enqueue_owner(struct runner *r, const struct api_kind *kind, const struct object *o)
{
	const struct object_owner *owner = o ? object_controller(o) : NULL;
	struct str group, version;

	if (!owner || !str_is(owner->kind, kind->kind) ||
	    api_parse_api_version(owner->api_version, &group, &version) < 0 || !str_is(group, kind->group))
		return;
	runner_enqueue(r, o->ns, owner->name);
}

void runner_enqueue_controller(struct runner *r, const struct api_kind *kind, const struct object *o,
			       const struct object *prev)
{
	enqueue_owner(r, kind, o);
	enqueue_owner(r, kind, prev);
}

/* ---- running ---- */

static void key_run(struct runner_key *key)
{
	struct runner *r = key->runner;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *message = TAKE_PTR(key->failure_message);
	struct reconcile_failure failure = key->failure;
	struct reconcile ctx = {
		.runner = r,
		.reg = r->options.reg,
		.loop = r->options.loop,
		.options = r->options.controllers,
		.arena = &r->arena,
		.ns = str_of(key->ns),
		.name = str_of(key->name),
		.key = key,
	};
	int64_t began = clock_monotonic_ns();
	int64_t took;
	int rc;

	r->stats.queued_ns += (uint64_t)(began - key->queued_at_ns);
	r->stats.wait[histogram_bucket(&RUNNER_SCALE, (double)(began - key->queued_at_ns) / 1e9)]++;
	if (loop_timer_armed(&key->timer)) {
		loop_timer_cancel(r->options.loop, &key->timer);
		r->stats.delayed--;
	}
	if (message) {
		failure.message = message;
		ctx.failure = &failure;
	}
	key->failed = key->again = false;
	key->had_failure = message != NULL;
	key->running = true;
	rc = r->controller->reconcile(&ctx, &err);
	key->running = false;
	arena_reset(&r->arena);
	took = clock_monotonic_ns() - began;
	r->stats.reconciles++;
	r->stats.busy_ns += (uint64_t)took;
	r->stats.work[histogram_bucket(&RUNNER_SCALE, (double)took / 1e9)]++;
	if ((uint64_t)took > r->stats.longest_ns)
		r->stats.longest_ns = (uint64_t)took;
	if (rc < 0) {
		key->failed = true;
		log_warn("reconcile failed controller=%s key=%s/%s err=\"%s\"", r->controller->name, key->ns, key->name,
			 err.code ? err_message(&err) : strerror(-rc));
	}
	if (key->outstanding > 0)
		r->stats.waiting++;
	else
		key_settle(key);
}

static void runner_turn(struct loop_defer *defer)
{
	struct runner *r = container_of(defer, struct runner, defer);
	int64_t until = clock_monotonic_ns() + RUNNER_SLICE_NS;

	for (unsigned i = 0; i < RUNNER_BATCH_MAX && !list_empty(&r->queue); i++) {
		struct runner_key *key = list_first(&r->queue, struct runner_key, link);

		list_del(&key->link);
		key->queued = false;
		r->stats.queued--;
		key_run(key);
		if (clock_monotonic_ns() >= until)
			break;
	}
	if (!list_empty(&r->queue))
		loop_defer(r->options.loop, &r->defer);
}

/* ---- writes ---- */

static void write_destroy(struct runner_write *w)
{
	list_del(&w->link);
	object_unref(w->about);
	free(w->ns);
	free(w->name);
	free(w->ok_message);
	free(w);
}

/* Nothing can be made in a namespace on its way out; its owner is on its way out too. */
static bool write_refused_by_dying_namespace(const struct runner_write *w)
{
	const struct object *ns;

	if (w->verb != RECONCILE_CREATE || !w->ns[0])
		return false;
	ns = registry_get(w->runner->options.reg, KIND_NAMESPACE, STR_NULL, str_of(w->ns));
	return !ns || ns->deleting;
}

static void write_tell(const struct runner_write *w, const struct object *o, const struct err *err)
{
	struct registry *reg = w->runner->options.reg;
	const struct reconcile_note *n = &w->note;

	if (!w->about)
		return;
	if (err && n->fail_reason)
		registry_event(reg, n->component, w->about, "Warning", n->fail_reason, "%s%s", n->fail_prefix,
			       err_message(err));
	else if (!err && n->ok_reason && w->ok_message)
		registry_event(reg, n->component, w->about, "Normal", n->ok_reason, "%s", w->ok_message);
	else if (!err && n->ok_reason && w->name)
		registry_event(reg, n->component, w->about, "Normal", n->ok_reason, "%s%s", n->ok_prefix, w->name);
	else if (!err && n->ok_reason && o)
		registry_event(reg, n->component, w->about, "Normal", n->ok_reason, "%s%.*s", n->ok_prefix,
			       STR_ARG(o->name));
}

static void key_failed(struct runner_key *key, const struct runner_write *w, const struct err *err)
{
	key->failed = true;
	if (key->failure_message)
		return; /* the first one tells */
	key->failure_message = mem_strdup(err_message(err));
	key->failure = (struct reconcile_failure){ .verb = w->verb, .kind = w->kind, .status = err->status };
	log_warn("write failed controller=%s key=%s/%s kind=%s err=\"%s\"", key->runner->controller->name, key->ns,
		 key->name, w->kind->kind, err_message(err));
}

static void write_done(void *arg, const struct object *o, const struct err *err)
{
	struct runner_write *w = arg;
	struct runner_key *key = w->key;
	struct runner *r = w->runner;

	if (!r) {
		write_destroy(w);
		return;
	}
	if (err && ((err->status == 404 && w->verb != RECONCILE_CREATE) || write_refused_by_dying_namespace(w))) {
		log_debug("write is void controller=%s key=%s/%s err=\"%s\"", r->controller->name, key->ns, key->name,
			  err_message(err));
	} else {
		write_tell(w, o, err);
		if (err)
			key_failed(key, w, err);
	}
	write_destroy(w);
	assert(key->outstanding > 0);
	if (--key->outstanding == 0 && !key->running) {
		r->stats.waiting--;
		key_settle(key);
	}
}

static struct runner_write *write_begin(struct reconcile *ctx, enum reconcile_verb verb, const struct api_kind *kind,
					struct str ns, struct str name, const struct reconcile_note *note)
{
	struct runner_write *w = mem_new(struct runner_write);

	w->runner = ctx->runner;
	w->key = ctx->key;
	w->verb = verb;
	w->kind = kind;
	w->ns = str_dup(ns);
	w->name = name.n > 0 ? str_dup(name) : NULL;
	if (note) {
		w->note = *note;
		w->about = note->about ? object_ref(note->about) : NULL;
		w->ok_message = note->ok_message ? mem_strdup(note->ok_message) : NULL;
	}
	list_add_tail(&ctx->runner->writes, &w->link);
	ctx->key->outstanding++;
	ctx->writes++;
	ctx->runner->stats.writes++;
	return w;
}

void reconcile_create(struct reconcile *ctx, const struct api_kind *kind, struct json *object,
		      const struct reconcile_note *note)
{
	struct runner_write *w =
		write_begin(ctx, RECONCILE_CREATE, kind, json_at_str(object, "metadata.namespace"), STR_NULL, note);

	registry_create(ctx->reg, kind, object, write_done, w);
}

void reconcile_update(struct reconcile *ctx, const struct api_kind *kind, struct str ns, struct str name,
		      const char *subresource, registry_mutate_fn *mutate, void *mutate_arg,
		      const struct reconcile_note *note)
{
	struct runner_write *w = write_begin(ctx, RECONCILE_UPDATE, kind, ns, name, note);

	registry_update(ctx->reg, kind, ns, name, subresource, mutate, mutate_arg, write_done, w);
}

void reconcile_delete(struct reconcile *ctx, const struct object *o, const struct api_kind *kind,
		      const struct registry_delete_options *options, const struct reconcile_note *note)
{
	struct runner_write *w = write_begin(ctx, RECONCILE_DELETE, kind, o->ns, o->name, note);
	struct registry_delete_options own = { .grace_period_s = -1, .uid = o->uid };

	registry_delete(ctx->reg, kind, o->ns, o->name, options ? options : &own, write_done, w);
}

static int mutate_status(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = arg;

	if (json_equal(json_get(object, "status"), status))
		return 1;
	json_set(object, "status", json_clone(arena, status));
	return 0;
}

void reconcile_set_status(struct reconcile *ctx, const struct api_kind *kind, const struct object *o,
			  struct json *status)
{
	struct json *now = registry_parse(ctx->arena, o);

	if (json_equal(json_get(now, "status"), status))
		return;
	reconcile_update(ctx, kind, o->ns, o->name, "status", mutate_status, status, NULL);
}

void reconcile_after(struct reconcile *ctx, int64_t delay_ns)
{
	key_delay(ctx->key, delay_ns);
}

void reconcile_again(struct reconcile *ctx)
{
	ctx->key->again = true;
}

bool reconcile_full(struct reconcile *ctx)
{
	if (ctx->writes < RUNNER_WRITES_MAX)
		return false;
	ctx->key->again = true;
	return true;
}

/* ---- life ---- */

static void on_change(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	struct runner_watch *w = container_of(watch, struct runner_watch, watch);

	w->map(w->runner, type, o, prev);
}

static bool kind_is_watchable(const struct api_kind *kind)
{
	return kind->plural[0] && (!kind->storage || kind->storage == kind) && (kind->verbs & API_VERB_LIST) &&
	       (kind->verbs & API_VERB_WATCH);
}

static void add_watch(struct runner *r, const struct api_kind *kind, controller_map_fn *map)
{
	struct runner_watch *w = &r->watches[r->n_watches++];

	*w = (struct runner_watch){ .watch = { .fn = on_change, .kind = kind }, .runner = r, .map = map };
	list_init(&w->watch.link);
}

static void add_watches(struct runner *r)
{
	size_t max = 0;

	for (size_t i = 0; i < r->controller->n_watches; i++)
		max += r->controller->watches[i].kind ? 1 : api_kind_count();
	r->watches = mem_new_array(struct runner_watch, max + 1);
	for (size_t i = 0; i < r->controller->n_watches; i++) {
		const struct controller_watch *cw = &r->controller->watches[i];

		if (cw->kind) {
			add_watch(r, *cw->kind, cw->map);
			continue;
		}
		for (size_t k = 0; k < api_kind_count(); k++)
			if (kind_is_watchable(api_kind_at(k)))
				add_watch(r, api_kind_at(k), cw->map);
	}
	for (size_t i = 0; i < r->n_watches; i++)
		registry_watch_start(r->options.reg, &r->watches[i].watch);
}

int runner_create(const struct controller *controller, const struct runner_options *options, struct runner **ret,
		  struct err *err)
{
	struct runner *r = mem_new(struct runner);
	int rc;

	r->controller = controller;
	r->options = *options;
	r->defer.fn = runner_turn;
	r->stats.name = controller->name;
	list_init(&r->queue);
	list_init(&r->writes);
	if (controller->start) {
		rc = controller->start(r, err);
		if (rc < 0) {
			runner_destroy(r);
			return err_wrap(err, rc, "controller %s", controller->name);
		}
	}
	add_watches(r);
	r->started = true;
	if (!list_empty(&r->queue))
		loop_defer(options->loop, &r->defer);
	*ret = r;
	return 0;
}

void runner_destroy(struct runner *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_watches; i++)
		registry_watch_stop(r->options.reg, &r->watches[i].watch);
	loop_defer_cancel(r->options.loop, &r->defer);
	if (r->controller->stop)
		r->controller->stop(r);
	list_foreach_safe(w, &r->writes, struct runner_write, link) {
		w->runner = NULL;
		list_del(&w->link);
		list_add_tail(&orphans, &w->link);
	}
	map_foreach(e, &r->keys)
		key_destroy(e->value);
	map_finish(&r->keys);
	arena_finish(&r->arena);
	free(r->watches);
	free(r);
}

struct registry *runner_registry(struct runner *r)
{
	return r->options.reg;
}

void *runner_state(struct runner *r)
{
	return r->state;
}

void runner_set_state(struct runner *r, void *state)
{
	r->state = state;
}

void runner_get_stats(const struct runner *r, struct runner_stats *ret)
{
	*ret = r->stats;
}
