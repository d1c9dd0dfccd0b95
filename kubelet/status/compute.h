/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's status from what its containers do: phase, conditions, container statuses; by upstream's rules. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"

enum container_role { ROLE_INIT, ROLE_SIDECAR, ROLE_APP };
enum container_shape { SHAPE_WAITING, SHAPE_RUNNING, SHAPE_TERMINATED };

/* One state of a container; strings borrowed. */
struct status_state {
	enum container_shape shape;
	const char *reason, *message; /* WAITING, TERMINATED; NULL: none */
	const char *container_id;     /* "crun://...", TERMINATED */
	int exit_code, signal;
	int64_t started_real_ns, finished_real_ns;
};

struct status_container {
	const char *name;
	enum container_role role;
	struct status_state state, last; /* last counts when has_last */
	bool has_last;
	bool ready, started;
	const char *image, *image_id, *container_id;
	unsigned restart_count;
	const struct json *volume_mounts; /* of the spec, or NULL */
};

struct status_pod {
	const struct json *pod;                    /* the object, with its status as it is */
	const struct status_container *containers; /* init ones first, in the spec's order */
	size_t n;
	bool sandbox_ready;                     /* with its network */
	bool stopping;                          /* being deleted or failed: nothing starts any more */
	const char *fail_reason, *fail_message; /* the pod failed as a whole (DeadlineExceeded, ...); NULL */
	const char *host_ips[2], *pod_ips[2];
	int64_t now_real_ns;
	const char *qos_class;
};

enum pod_phase { POD_PENDING, POD_RUNNING, POD_SUCCEEDED, POD_FAILED };
extern const char *const pod_phase_names[];

enum pod_phase status_phase(const struct status_pod *p);
/* The whole status object, to replace the one there is. Conditions that others wrote are kept. */
struct json *status_compute(struct arena *arena, const struct status_pod *p);
