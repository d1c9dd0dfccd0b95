/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a pod worker and its reconcile. See worker.h. Loop thread. */
#include "kubelet/pods/worker.h"

#include <stdio.h>

#include "kubelet/exec/log_follow.h"
#include "kubelet/volumes/volumes.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

static void reconcile(struct pod_worker *w);

static void run_deferred(struct loop_defer *defer)
{
	struct pod_worker *w = container_of(defer, struct pod_worker, defer);

	if (!w->kl)
		return;
	worker_ref(w);
	reconcile(w);
	worker_unref(w);
}

static void run_timer(struct loop_timer *timer)
{
	worker_kick(container_of(timer, struct pod_worker, timer));
}

static void run_refresh(struct loop_timer *timer)
{
	struct pod_worker *w = container_of(timer, struct pod_worker, refresh);

	w->volumes_again = true;
	worker_kick(w);
}

void worker_kick(struct pod_worker *w)
{
	if (w->kl)
		loop_defer(w->kl->loop, &w->defer);
}

void worker_wake_at(struct pod_worker *w, int64_t at_ns)
{
	if (!w->wake_at_ns || at_ns < w->wake_at_ns)
		w->wake_at_ns = at_ns;
}

/* ---- life ---- */

static void add_containers(struct pod_worker *w, const struct json *list, bool init)
{
	json_foreach(j, list) {
		struct pod_container *c = &w->containers[w->n++];
		bool sidecar = init && str_is(json_get_str(j, "restartPolicy"), "Always");

		c->w = w;
		c->name = str_dup(json_get_str(j, "name"));
		c->role = sidecar ? ROLE_SIDECAR : init ? ROLE_INIT : ROLE_APP;
	}
}

struct pod_worker *worker_create(struct kubelet *kl, const struct object *pod)
{
	struct pod_worker *w = mem_new(struct pod_worker);
	struct json *spec;

	w->kl = kl;
	w->refs = 1;
	w->pod = object_ref(pod);
	w->ns = str_dup(pod->ns);
	w->name = str_dup(pod->name);
	w->uid = str_dup(pod->uid);
	w->disk_dir = mem_printf("%s/%s", kl->pods_dir, w->uid);
	w->tmpfs_dir = mem_printf("%s/%s", kl->pods_run_dir, w->uid);
	w->defer.fn = run_deferred;
	loop_timer_init(&w->timer, run_timer);
	loop_timer_init(&w->refresh, run_refresh);
	spec = json_get(worker_json(w), "spec");
	w->host_network = json_get_bool(spec, "hostNetwork", false);
	w->containers = mem_new_array(struct pod_container, json_count(json_get(spec, "initContainers")) +
								    json_count(json_get(spec, "containers")) + 1);
	add_containers(w, json_get(spec, "initContainers"), true);
	add_containers(w, json_get(spec, "containers"), false);
	adopt_containers(w);
	if (pod_status_is_terminal(pod)) {
		w->stage = STAGE_CLEAN;
		w->status_frozen = w->status_settled = true;
	}
	worker_kick(w);
	return w;
}

void worker_refuse(struct pod_worker *w, const char *resource, unsigned used, unsigned capacity)
{
	if (w->stage != STAGE_RUN || w->adopted || w->pod->deleting)
		return;
	w->fail_reason = mem_printf("OutOf%s", resource);
	w->fail_message = mem_printf("Pod was rejected: Node didn't have enough resource: %s, requested: 1, used: %u, "
				     "capacity: %u",
				     resource, used, capacity);
	worker_event(w, NULL, true, w->fail_reason, "%s", w->fail_message);
	termination_begin(w, 0);
}

struct pod_worker *worker_ref(struct pod_worker *w)
{
	w->refs++;
	return w;
}

static void container_finish(struct pod_container *c)
{
	container_exit_finish(&c->exit);
	container_exit_finish(&c->last);
	arena_finish(&c->create_arena);
	arena_finish(&c->post_start_arena);
	arena_finish(&c->kill.arena);
	free(c->waiting_reason);
	free(c->waiting_message);
	free(c->image);
	free(c->image_id);
	free(c->spec_image);
	free(c->image_error);
	free(c->name);
}

void worker_unref(struct pod_worker *w)
{
	if (!w || --w->refs)
		return;
	for (size_t i = 0; i < w->n; i++)
		container_finish(&w->containers[i]);
	free(w->containers);
	object_unref(w->pod);
	arena_finish(&w->arena);
	free(w->ns);
	free(w->name);
	free(w->uid);
	free(w->disk_dir);
	free(w->tmpfs_dir);
	free(w->fail_reason);
	free(w->fail_message);
	free(w);
}

void worker_release(struct pod_worker *w)
{
	struct loop *loop = w->kl->loop;

	for (size_t i = 0; i < w->n; i++) {
		container_watch_end(&w->containers[i]);
		log_follow_container_ended(&w->containers[i]);
		container_kill_finish(&w->containers[i]);
	}
	loop_defer_cancel(loop, &w->defer);
	loop_timer_cancel(loop, &w->timer);
	loop_timer_cancel(loop, &w->refresh);
	w->kl = NULL;
	worker_unref(w);
}

static bool payload_changed(struct pod_worker *w, const struct object *old)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *a, *b;

	if (!volumes_has_downward(json_get(worker_json(w), "spec")))
		return false;
	a = json_get(registry_parse(&arena, old), "metadata");
	b = json_get(worker_json(w), "metadata");
	return !json_equal(json_get(a, "labels"), json_get(b, "labels")) ||
	       !json_equal(json_get(a, "annotations"), json_get(b, "annotations"));
}

void worker_update(struct pod_worker *w, const struct object *pod, bool removed)
{
	_cleanup_object_ const struct object *old = w->pod;

	w->pod = object_ref(pod);
	w->json = NULL;
	arena_finish(&w->arena);
	w->arena = ARENA_INIT;
	w->removed = w->removed || removed;
	if (!removed && payload_changed(w, old))
		w->volumes_again = true;
	worker_kick(w);
}

void worker_object_changed(struct pod_worker *w, bool secret, struct str name)
{
	if (w->stage != STAGE_RUN || !volumes_refers_to(json_get(worker_json(w), "spec"), secret, name))
		return;
	w->volumes_again = true;
	w->volumes.retry_at_ns = 0;
	for (size_t i = 0; i < w->n; i++)
		w->containers[i].retry_at_ns = 0;
	worker_kick(w);
}

/* ---- small help ---- */

struct json *worker_json(struct pod_worker *w)
{
	if (!w->json)
		w->json = registry_parse(&w->arena, w->pod);
	return w->json;
}

const struct json *worker_container_json(const struct pod_container *c)
{
	const struct json *spec = json_get(worker_json(c->w), "spec");

	json_foreach(j, json_get(spec, c->role == ROLE_APP ? "containers" : "initContainers"))
		if (str_is(json_get_str(j, "name"), c->name))
			return j;
	return NULL;
}

struct pod_container *worker_find(struct pod_worker *w, struct str container)
{
	for (size_t i = 0; i < w->n; i++)
		if (str_is(container, w->containers[i].name))
			return &w->containers[i];
	return NULL;
}

const char *worker_pod_ip(const struct pod_worker *w)
{
	return w->ips.n_ips ? w->ips.ips[0] : "";
}

void worker_facts(const struct pod_worker *w, struct pod_facts *ret)
{
	*ret = w->kl->facts;
	for (unsigned i = 0; i < w->ips.n_ips && i < POD_IPS_MAX; i++)
		ret->pod_ips[i] = w->ips.ips[i];
}

void worker_event(struct pod_worker *w, const struct pod_container *c, bool warning, const char *reason,
		  const char *fmt, ...)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const char *type = warning ? "Warning" : "Normal";
	va_list ap;

	if (!w->kl)
		return;
	va_start(ap, fmt);
	char *text = arena_vprintf(&arena, fmt, ap);
	va_end(ap);
	if (!c) {
		registry_event(w->kl->reg, KUBELET_COMPONENT, w->pod, type, reason, "%s", text);
		return;
	}
	char *path =
		arena_printf(&arena, "spec.%s{%s}", c->role == ROLE_APP ? "containers" : "initContainers", c->name);

	registry_event_at(w->kl->reg, KUBELET_COMPONENT, w->pod, path, type, reason, "%s", text);
}

void worker_step_failed(struct pod_worker *w, struct worker_step *step)
{
	step->state = WORK_TODO;
	step->delay_ns = step->delay_ns ? step->delay_ns * 2 : WORKER_RETRY_MIN_NS;
	if (step->delay_ns > WORKER_RETRY_MAX_NS)
		step->delay_ns = WORKER_RETRY_MAX_NS;
	step->retry_at_ns = (w->kl ? loop_now_ns(w->kl->loop) : 0) + step->delay_ns;
}

bool worker_step_due(struct pod_worker *w, struct worker_step *step)
{
	if (step->state != WORK_TODO)
		return false;
	if (step->retry_at_ns > loop_now_ns(w->kl->loop)) {
		worker_wake_at(w, step->retry_at_ns);
		return false;
	}
	return true;
}

/* ---- reconcile ---- */

static void check_deadline(struct pod_worker *w)
{
	int64_t limit_s = json_at_int(worker_json(w), "spec.activeDeadlineSeconds", 0), began_ns;

	if (limit_s <= 0 || w->stage != STAGE_RUN ||
	    clock_parse_rfc3339(json_at_str(worker_json(w), "status.startTime"), &began_ns) < 0)
		return;
	int64_t left_ns = began_ns + limit_s * NS_PER_S - clock_real_ns();

	if (left_ns > 0) {
		worker_wake_at(w, loop_now_ns(w->kl->loop) + left_ns);
		return;
	}
	w->fail_reason = mem_strdup("DeadlineExceeded");
	w->fail_message = mem_strdup("Pod was active on the node longer than the specified deadline");
	worker_event(w, NULL, false, "DeadlineExceeded", "%s", w->fail_message);
	termination_begin(w, termination_grace_s(w));
}

static void check_deletion(struct pod_worker *w)
{
	if (!w->removed && !w->pod->deleting)
		return;
	if (w->stage == STAGE_RUN || w->stage == STAGE_STOP)
		termination_begin(w, termination_grace_s(w));
}

static void reconcile(struct pod_worker *w)
{
	w->wake_at_ns = 0;
	check_deletion(w);
	check_deadline(w);
	if (w->stage == STAGE_RUN) {
		prepare_step(w);
		if (containers_step(w))
			w->stage = STAGE_CLEAN;
	}
	if (w->stage == STAGE_STOP)
		termination_step(w);
	if (!w->removed)
		pod_status_sync(w);
	if (w->stage == STAGE_CLEAN || w->stage == STAGE_CLEANED)
		cleanup_step(w);
	if (!w->kl) /* gone */
		return;
	/* an idle pod keeps no tree */
	w->json = NULL;
	arena_finish(&w->arena);
	w->arena = ARENA_INIT;
	if (w->wake_at_ns) {
		int64_t delay_ns = w->wake_at_ns - loop_now_ns(w->kl->loop);

		loop_timer_arm(w->kl->loop, &w->timer, delay_ns > 0 ? delay_ns : 1);
	} else {
		loop_timer_cancel(w->kl->loop, &w->timer);
	}
}
