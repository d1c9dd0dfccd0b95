/* SPDX-License-Identifier: Apache-2.0 */
/* Which Services select a pod: their compiled selectors by namespace, so that a pod's change does not
 * parse every Service. Kept by the service watch of the controller that owns it. Loop thread only. */
#pragma once

#include "userspace/controllers/runner.h"

struct backends_cache;
struct service_index;

struct service_index *service_index_create(void);
void service_index_destroy(struct service_index *index);
/* Map of a Service's change: updates the index (runner_state()) and enqueues the Service. */
void service_index_map_service(struct runner *r, enum registry_event_type type, const struct object *o,
			       const struct object *prev);
/* Map of a pod's change: enqueues the Services that select it or did, when what endpoints show of it changed. */
void service_index_map_pod(struct runner *r, enum registry_event_type type, const struct object *o,
			   const struct object *prev);
/* What the Services' pods show, for backends_of(). */
struct backends_cache *service_index_cache(struct service_index *index);
/* start and stop of a controller that keeps an index. */
int service_index_start(struct runner *r, struct err *err);
void service_index_stop(struct runner *r);
