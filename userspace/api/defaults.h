/* SPDX-License-Identifier: Apache-2.0 */
/* Fills in what a client left out: the schema's defaults (`default_json` of a field, only within objects that
 * are there; a default that is itself an object is defaulted too), then the kind's computed ones (its hooks).
 * Idempotent. Any thread. */
#pragma once

#include "userspace/api/kind.h"
#include "userspace/base/json.h"

/* `object` was decoded for `kind`. Values are put into the arena. */
void defaults_apply(struct arena *arena, const struct api_kind *kind, struct json *object);
/* Only the schema's part, for any message. */
void defaults_apply_message(struct arena *arena, const struct api_message *message, struct json *object);
