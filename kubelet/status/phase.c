/* SPDX-License-Identifier: Apache-2.0 */
/* The phase of a pod. See compute.h. Any thread. */
#include "kubelet/status/compute.h"

const char *const pod_phase_names[] = { "Pending", "Running", "Succeeded", "Failed" };

struct counts {
	unsigned init_pending, init_failed, sidecars_pending;
	unsigned waiting, running, stopped, succeeded;
};

static bool is_terminated(const struct status_container *c)
{
	return c->state.shape == SHAPE_TERMINATED;
}

static void count_init(struct counts *n, const struct status_container *c)
{
	if (c->role == ROLE_SIDECAR) {
		if (!is_terminated(c) && !c->started && !c->has_last)
			n->sidecars_pending++;
	} else if (c->state.shape == SHAPE_RUNNING) {
		n->init_pending++;
	} else if (is_terminated(c)) {
		if (c->state.exit_code != 0)
			n->init_failed++;
	} else if (c->has_last && c->last.exit_code != 0) {
		n->init_failed++;
	} else {
		n->init_pending++;
	}
}

static void count_app(struct counts *n, const struct status_container *c)
{
	if (c->state.shape == SHAPE_RUNNING) {
		n->running++;
	} else if (is_terminated(c)) {
		n->stopped++;
		if (c->state.exit_code == 0)
			n->succeeded++;
	} else if (c->has_last) {
		n->stopped++; /* waiting to be started again */
	} else {
		n->waiting++;
	}
}

enum pod_phase status_phase(const struct status_pod *p)
{
	struct str policy = json_at_str(p->pod, "spec.restartPolicy");
	struct counts n = { 0 };

	if (p->fail_reason)
		return POD_FAILED;
	for (size_t i = 0; i < p->n; i++)
		if (p->containers[i].role == ROLE_APP)
			count_app(&n, &p->containers[i]);
		else
			count_init(&n, &p->containers[i]);
	if (n.init_failed && str_is(policy, "Never"))
		return POD_FAILED;
	if (n.init_pending || n.init_failed)
		return POD_PENDING;
	if (n.waiting && !(p->stopping && n.stopped))
		return POD_PENDING;
	if (n.running)
		return POD_RUNNING;
	if (!n.stopped)
		return POD_PENDING;
	/* everything has ended; will it run again? */
	if (!p->stopping && (!policy.n || str_is(policy, "Always")))
		return POD_RUNNING;
	if (n.stopped == n.succeeded)
		return POD_SUCCEEDED;
	if (str_is(policy, "Never") || p->stopping)
		return POD_FAILED;
	return POD_RUNNING;
}
