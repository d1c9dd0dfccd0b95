/* SPDX-License-Identifier: Apache-2.0 */
/* What the objects of a namespace use of its ResourceQuotas, for the controller that writes it into their status.
 * Loop thread. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/registry/registry.h"

/* status.used of a quota as of the newest pending state, in the arena; NULL when there is no such quota. A status
 * written from it stands behind the writes it counts: when the disk refuses those it is refused too. */
struct json *registry_quota_used(struct registry *reg, struct arena *arena, struct str ns, struct str name);
/* When the usage of the namespace changes by time alone (a pod that should be gone by then stops to count); real
 * time, 0: never. */
int64_t registry_quota_expires_ns(struct registry *reg, struct str ns);

/* Called after a write that changed what a quota of the namespace counts, or the quota. One listener; NULL: none. */
typedef void registry_quota_fn(void *arg, struct str ns);
void registry_quota_listen(struct registry *reg, registry_quota_fn *fn, void *arg);
