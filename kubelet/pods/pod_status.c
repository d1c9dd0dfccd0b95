/* SPDX-License-Identifier: Apache-2.0 */
/* From the worker to the object's status: written when it differs, at most one write in flight, what nobody waits for a
 * little later. See worker.h. Loop thread. */
#include "kubelet/pods/pod_resources.h"
#include "kubelet/pods/worker.h"
#include "userspace/api/hooks.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define STATUS_RETRY_NS NS_PER_S

bool pod_status_is_terminal(const struct object *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str phase = json_at_str(registry_parse(&arena, pod), "status.phase");

	return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

static const char *with_prefix(struct pod_container *c, struct arena *arena, const char *id)
{
	return *id ? arena_printf(arena, "%s://%s", c->w->kl->cri_name, id) : NULL;
}

static void terminated(struct pod_container *c, struct arena *arena, const struct container_exit *e,
		       struct status_state *ret)
{
	*ret = (struct status_state){
		.shape = SHAPE_TERMINATED,
		.reason = e->reason,
		.message = e->message,
		.container_id = with_prefix(c, arena, e->id),
		.exit_code = e->exit_code,
		.signal = e->signal,
		.started_real_ns = e->started_real_ns,
		.finished_real_ns = e->finished_real_ns,
	};
}

void pod_status_container(struct pod_container *c, struct arena *arena, struct status_container *ret)
{
	struct str image = json_get_str(worker_container_json(c), "image");
	bool waits_again = c->step == STEP_EXITED && c->backoff_told && container_will_restart(c);
	const char *initial = c->role == ROLE_APP && c->w->n && c->w->containers[0].role != ROLE_APP
				      ? "PodInitializing"
				      : "ContainerCreating";

	*ret = (struct status_container){
		.name = c->name,
		.role = c->role,
		.ready = c->ready,
		.started = c->started,
		.image = c->image ? c->image : arena_strndup(arena, image.p ? image.p : "", image.n),
		.image_id = c->image_id,
		.container_id = with_prefix(c, arena, c->id),
		.restart_count = c->attempt,
		.volume_mounts = json_get(worker_container_json(c), "volumeMounts"),
	};
	if (c->step == STEP_RUNNING) {
		ret->state = (struct status_state){ .shape = SHAPE_RUNNING, .started_real_ns = c->started_real_ns };
	} else if (c->step == STEP_EXITED && !waits_again) {
		terminated(c, arena, &c->exit, &ret->state);
	} else {
		ret->state = (struct status_state){ .shape = SHAPE_WAITING,
						    .reason = c->waiting_reason ? c->waiting_reason : initial,
						    .message = c->waiting_message };
	}
	const struct container_exit *last = waits_again ? &c->exit : &c->last;

	if (!last->valid)
		return;
	ret->has_last = true;
	terminated(c, arena, last, &ret->last);
	if (!ret->container_id && ret->state.shape == SHAPE_WAITING)
		ret->container_id = ret->last.container_id;
}

static struct json *compute(struct pod_worker *w, struct arena *arena, const struct json *pod)
{
	struct pod_facts facts;
	struct status_container *containers = arena_new_array(arena, struct status_container, w->n + 1);
	struct status_pod p = {
		.pod = pod,
		.containers = containers,
		.n = w->n,
		.sandbox_ready = w->adopted || (w->sandbox.state == WORK_DONE && w->network.state == WORK_DONE),
		.stopping = w->stage != STAGE_RUN,
		.fail_reason = w->fail_reason,
		.fail_message = w->fail_message,
		.now_real_ns = clock_real_ns(),
		.qos_class = hooks_pod_qos(pod),
	};

	worker_facts(w, &facts);
	memcpy(p.host_ips, facts.host_ips, sizeof(p.host_ips));
	memcpy(p.pod_ips, facts.pod_ips, sizeof(p.pod_ips));
	/* a sandbox that was taken away after the end is no longer ready to start anything */
	if (w->stage == STAGE_CLEAN || w->stage == STAGE_CLEANED)
		p.sandbox_ready = false;
	for (size_t i = 0; i < w->n; i++)
		pod_status_container(&w->containers[i], arena, &containers[i]);
	return status_compute(arena, &p);
}

static int mutate(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct pod_worker *w = arg;
	struct json *status;

	if (!str_is(json_at_str(object, "metadata.uid"), w->uid))
		return 1;
	status = compute(w, arena, object);
	if (json_equal(status, json_get(object, "status")))
		return 1;
	json_set(object, "status", status);
	return 0;
}

static void written(void *arg, const struct object *o, const struct err *err)
{
	struct pod_worker *w = arg;

	w->status_inflight = false;
	if (o)
		w->status_written_revision = o->revision;
	if (err && err->status != 404 && w->kl) {
		log_warn("pod status not written pod=%s/%s error=\"%s\"", w->ns, w->name, err_message(err));
		w->status_retry_ns = loop_now_ns(w->kl->loop) + STATUS_RETRY_NS;
	}
	worker_kick(w);
	worker_unref(w);
}

static struct str ready_of(const struct json *status)
{
	json_foreach(c, json_get(status, "conditions"))
		if (str_is(json_get_str(c, "type"), "Ready"))
			return json_get_str(c, "status");
	return STR_NULL;
}

/* Somebody may be waiting for this. */
static bool urgent(const struct pod_worker *w, const struct json *was, const struct json *now)
{
	return w->stage != STAGE_RUN || !str_eq(json_get_str(was, "phase"), json_get_str(now, "phase")) ||
	       !str_eq(ready_of(was), ready_of(now));
}

static uint64_t hash_of(const struct json *status)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	json_write(&b, status);
	return hash_bytes(buf_str(&b).p, buf_len(&b));
}

void pod_status_sync(struct pod_worker *w)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *was = json_get(worker_json(w), "status");
	int64_t now_ns = loop_now_ns(w->kl->loop);
	uint64_t hash;
	struct json *now;

	if (w->status_frozen)
		return;
	w->status_settled = false;
	if (w->status_inflight)
		return;
	now = compute(w, &arena, worker_json(w));
	hash = hash_of(now);
	if (json_equal(was, now) || (hash == w->status_hash && w->pod->revision == w->status_written_revision)) {
		w->status_due_ns = 0;
		w->status_settled = true;
		return;
	}
	if (w->status_retry_ns > now_ns) {
		worker_wake_at(w, w->status_retry_ns);
		return;
	}
	if (!urgent(w, was, now)) {
		if (!w->status_due_ns)
			w->status_due_ns = now_ns + WORKER_STATUS_DELAY_NS;
		if (w->status_due_ns > now_ns) {
			worker_wake_at(w, w->status_due_ns);
			return;
		}
	}
	w->status_due_ns = 0;
	w->status_inflight = true;
	w->status_hash = hash;
	registry_update(w->kl->reg, KIND_POD, str_of(w->ns), str_of(w->name), "status", mutate, w, written,
			worker_ref(w));
}
