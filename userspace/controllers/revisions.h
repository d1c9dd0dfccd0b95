/* SPDX-License-Identifier: Apache-2.0 */
/* ControllerRevisions: the history of a DaemonSet's or StatefulSet's pod template, which kubectl
 * rollout history and undo read. Loop thread only. */
#pragma once

#include "userspace/controllers/objects.h"
#include "userspace/controllers/runner.h"

#define REVISION_HASH_LABEL "controller-revision-hash"

struct revisions {
	const struct object **items; /* by number, oldest first */
	size_t n;
	const char *hash; /* label of pods of the newest template */
	const char *name; /* of the newest revision */
};

/* The revisions of `owner`, its template's being the newest. False when a write was issued for that: the key runs
 * again. Adopts nothing; a name that a stranger bears gets another hash. */
bool revisions_sync(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
		    const struct json *owner_json, struct revisions *ret);
/* Deletes the oldest beyond `limit` that neither is the newest nor has its hash among `live` (NULL-terminated). */
void revisions_trim(struct reconcile *ctx, const struct revisions *r, int64_t limit, const char *const *live);
