/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a pod: containers are stopped (sidecars last), then everything goes, then the object. See worker.h. Loop
 * thread but for what runs as loop_work. */
#include <errno.h>
#include <stdio.h>

#include "kubelet/pods/worker.h"
#include "kubelet/volumes/volumes.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"

#define GRACE_MIN_S 1
#define GRACE_DEFAULT_S 30
#define CLEAN_RETRY_NS (2 * NS_PER_S)

/* ---- stopping ---- */

int64_t termination_grace_s(struct pod_worker *w)
{
	const struct json *pod = worker_json(w);
	int64_t own = json_at_int(pod, "spec.terminationGracePeriodSeconds", GRACE_DEFAULT_S);
	int64_t grace_s = json_at_int(pod, "metadata.deletionGracePeriodSeconds", w->removed ? 0 : own), until_ns;

	/* after a restart of the server, what is left of it */
	if (!w->removed && clock_parse_rfc3339(json_at_str(pod, "metadata.deletionTimestamp"), &until_ns) == 0) {
		int64_t left_s = (until_ns - clock_real_ns() + NS_PER_S - 1) / NS_PER_S;

		if (left_s < grace_s)
			grace_s = left_s;
	}
	return grace_s < GRACE_MIN_S ? GRACE_MIN_S : grace_s;
}

void termination_begin(struct pod_worker *w, int64_t grace_s)
{
	int64_t deadline_ns = loop_now_ns(w->kl->loop) + grace_s * NS_PER_S;

	if (w->stage == STAGE_RUN) {
		w->stage = STAGE_STOP;
		w->stop_deadline_ns = deadline_ns;
	} else if (deadline_ns < w->stop_deadline_ns) {
		w->stop_deadline_ns = deadline_ns; /* it only gets shorter */
	}
}

static int64_t left_s(const struct pod_worker *w)
{
	int64_t ns = w->stop_deadline_ns - loop_now_ns(w->kl->loop);

	return ns <= 0 ? 0 : (ns + NS_PER_S - 1) / NS_PER_S;
}

static bool is_up(const struct pod_container *c)
{
	return c->step == STEP_RUNNING || container_in_flight(c);
}

static bool stop_role(struct pod_worker *w, bool sidecars)
{
	bool up = false;

	/* sidecars in the reverse of their order, one after the other; the others at once */
	for (size_t i = w->n; i-- > 0;) {
		struct pod_container *c = &w->containers[i];

		if ((c->role == ROLE_SIDECAR) != sidecars || !is_up(c))
			continue;
		if (sidecars && up)
			break;
		up = true;
		container_kill_begin(c, left_s(w), NULL);
	}
	return up;
}

void termination_step(struct pod_worker *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		if (c->step == STEP_PULL)
			c->step = STEP_IDLE;
	}
	if (stop_role(w, false) || stop_role(w, true))
		return;
	w->stage = STAGE_CLEAN;
}

/* ---- cleaning ---- */

static void part_done(struct pod_worker *w, const char *what, const struct err *err)
{
	w->cleaning--;
	if (err) {
		w->clean_failed = true;
		log_warn("pod clean-up failed pod=%s/%s what=%s error=\"%s\"", w->ns, w->name, what, err_message(err));
	}
	if (!w->cleaning && w->kl) {
		if (w->clean_failed)
			w->clean_retry_ns = loop_now_ns(w->kl->loop) + CLEAN_RETRY_NS;
		else
			w->stage = STAGE_CLEANED;
		w->clean_begun = w->clean_failed = false;
		worker_kick(w);
	}
	worker_unref(w);
}

static void sandbox_removed(void *arg, const struct err *err)
{
	part_done(arg, "sandbox", err);
}

static void network_detached(void *arg, const struct pod_network_result *result, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err || !w->kl) {
		part_done(w, "network", err);
		return;
	}
	runtime_sandbox_remove(w->kl->rt, w->uid, sandbox_removed, w);
}

struct teardown {
	struct loop_work work;
	struct pod_worker *w;
	char *disk_dir, *tmpfs_dir, *log_dir; /* log_dir NULL: the logs stay */
	int result;
	struct err err;
};

static void teardown_run(struct loop_work *work)
{
	struct teardown *t = container_of(work, struct teardown, work);

	t->result = volumes_teardown(t->disk_dir, t->tmpfs_dir, &t->err);
	if (t->result >= 0 && t->log_dir)
		t->result = fs_remove_tree(t->log_dir, &t->err);
}

static void teardown_done(struct loop_work *work)
{
	struct teardown *t = container_of(work, struct teardown, work);

	part_done(t->w, "volumes", t->result < 0 ? &t->err : NULL);
	err_finish(&t->err);
	free(t->disk_dir);
	free(t->tmpfs_dir);
	free(t->log_dir);
	free(t);
}

static void begin_teardown(struct pod_worker *w)
{
	struct teardown *t = mem_new(struct teardown);

	t->w = worker_ref(w);
	w->cleaning++;
	t->disk_dir = mem_strdup(w->disk_dir);
	t->tmpfs_dir = mem_strdup(w->tmpfs_dir);
	w->logs_removed = w->removed || w->pod->deleting;
	if (w->logs_removed)
		t->log_dir = mem_printf("%s/%s_%s_%s", w->kl->options.log_dir, w->ns, w->name, w->uid);
	t->work.run = teardown_run;
	t->work.done = teardown_done;
	loop_work_submit(w->kl->loop, &t->work);
}

/* All containers are gone: now what they stood on. */
static void begin_rest(struct pod_worker *w)
{
	worker_ref(w);
	w->cleaning++;
	if (w->host_network)
		runtime_sandbox_remove(w->kl->rt, w->uid, sandbox_removed, w);
	else
		w->kl->network.detach(w->kl->network.ctx, str_of(w->uid), network_detached, w);
	begin_teardown(w);
}

static void container_removed(void *arg, const struct err *err)
{
	struct pod_worker *w = arg;

	if (w->kl && !err && !w->clean_failed && w->cleaning == 1)
		begin_rest(w);
	part_done(w, "container", err);
}

struct collected {
	char (*ids)[CONTAINER_ID_LEN + 1];
	size_t n, cap;
};

static void collect(void *arg, const struct runtime_container *rc)
{
	struct collected *list = arg;

	mem_grow(list->ids, list->cap, list->n + 1);
	snprintf(list->ids[list->n++], CONTAINER_ID_LEN + 1, "%s", rc->id);
}

static void begin_clean(struct pod_worker *w)
{
	struct collected list = { 0 };

	w->clean_begun = true;
	runtime_each(w->kl->rt, w->uid, collect, &list);
	w->cleaning++; /* until all are asked for */
	worker_ref(w);
	for (size_t i = 0; i < list.n; i++) {
		w->cleaning++;
		runtime_container_remove(w->kl->rt, list.ids[i], false, container_removed, worker_ref(w));
	}
	free(list.ids);
	container_removed(w, NULL);
}

static void deleted(void *arg, const struct object *o, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err && err->status != 404 && err->status != 409) {
		log_warn("pod not deleted pod=%s/%s error=\"%s\"", w->ns, w->name, err_message(err));
		w->delete_sent = false;
		if (w->kl) {
			w->clean_retry_ns = loop_now_ns(w->kl->loop) + CLEAN_RETRY_NS;
			worker_kick(w);
		}
	}
	worker_unref(w);
}

static void final_delete(struct pod_worker *w)
{
	struct registry_delete_options options = { .grace_period_s = 0, .uid = str_of(w->uid) };

	if (w->delete_sent || w->removed || !w->pod->deleting || !w->status_settled)
		return;
	w->delete_sent = true;
	registry_delete(w->kl->reg, KIND_POD, str_of(w->ns), str_of(w->name), &options, deleted, worker_ref(w));
}

void cleanup_step(struct pod_worker *w)
{
	if (w->clean_retry_ns > loop_now_ns(w->kl->loop)) {
		worker_wake_at(w, w->clean_retry_ns);
		return;
	}
	if (w->stage == STAGE_CLEAN) {
		bool busy =
			w->sandbox.state == WORK_BUSY || w->network.state == WORK_BUSY || w->volumes.state == WORK_BUSY;

		for (size_t i = 0; i < w->n; i++)
			busy = busy || container_in_flight(&w->containers[i]);
		/* how they ended must be known for good before the runtime forgets it */
		if (busy || w->clean_begun || !(w->removed || w->status_settled))
			return;
		begin_clean(w);
		return;
	}
	if ((w->removed || w->pod->deleting) && !w->logs_removed) { /* it had ended before */
		if (!w->cleaning)
			begin_teardown(w);
		return;
	}
	if (!w->removed) {
		final_delete(w);
		return;
	}
	if (w->cleaning)
		return;
	map_remove(&w->kl->workers, str_of(w->uid));
	worker_release(w);
}
