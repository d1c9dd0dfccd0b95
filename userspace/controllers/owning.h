/* SPDX-License-Identifier: Apache-2.0 */
/* How a set owns: it adopts what its selector matches and nobody controls, and releases what it
 * controls and its selector matches no longer. Loop thread only. */
#pragma once

#include "userspace/controllers/objects.h"
#include "userspace/controllers/runner.h"

/* Children of `owner`, orphans adopted and strangers released. False when such writes were issued: the children
 * are known when they are done, and the key runs again. */
bool owning_claim(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
		  const struct api_kind *child_kind, const struct selector *selector, struct objects *ret);

/* Map of a child's change: its owner now and before; for an orphan every owner of the kind whose selector matches. */
void owning_enqueue(struct runner *r, const struct api_kind *owner_kind, const struct object *child,
		    const struct object *prev, enum registry_event_type type);
