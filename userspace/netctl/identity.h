/* SPDX-License-Identifier: Apache-2.0 */
/* Identities: one number for each (namespace, labels), counted, so that sets of labels nobody wears any more cost
 * nothing. The number is a hash of the text: the same after a restart, so that adopted maps stay true while they are
 * gone over. Loop thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "userspace/api/meta.h"
#include "userspace/base/map.h"

struct identities {
	struct map by_text, by_id; /* struct identity; by_id owns */
};

/* Never 0, and the top bit is the dataplane's own. Balanced by identity_release(). */
uint32_t identity_take(struct identities *ids, struct str ns, const struct api_label *labels, size_t n_labels);
void identity_release(struct identities *ids, uint32_t id); /* 0: nothing */
void identities_finish(struct identities *ids);
