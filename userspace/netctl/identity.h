/* SPDX-License-Identifier: Apache-2.0 */
/* Identities: one number for each (namespace, labels, named ports), counted, so that sets of labels nobody wears any
 * more cost nothing. Named ports belong to it because an egress rule may name one: whoever wears an identity has the
 * same numbers for the same names. The number is a hash of the text: the same after a restart, so that adopted maps
 * stay true while they are gone over. Loop thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "userspace/api/meta.h"
#include "userspace/base/map.h"

struct net_named_port {
	struct str name;
	uint8_t proto;
	uint16_t port;
};

struct identities {
	struct map by_text, by_id; /* struct identity; by_id owns */
};

/* Never 0, and the top bit is the dataplane's own. Balanced by identity_release(). */
uint32_t identity_take(struct identities *ids, struct str ns, const struct api_label *labels, size_t n_labels,
		       const struct net_named_port *ports, size_t n_ports);
/* The named ports of whoever wears it; borrowed while somebody does. */
const struct net_named_port *identity_ports(const struct identities *ids, uint32_t id, size_t *ret_n);
void identity_release(struct identities *ids, uint32_t id); /* 0: nothing */
void identities_finish(struct identities *ids);
