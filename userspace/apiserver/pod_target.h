/* SPDX-License-Identifier: Apache-2.0 */
/* Which container of which pod a log or exec request means, in upstream's words. Inside the room only. */
#pragma once

#include "datastore/object.h"
#include "userspace/apiserver/call.h"

struct pod_target {
	const struct object *pod; /* borrowed */
	const char *container;    /* arena */
};

/* 404, 400 (which container?), 503 (no node yet). */
int pod_target_find(struct call *call, struct pod_target *ret, struct err *err);
