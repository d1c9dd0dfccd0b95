/* SPDX-License-Identifier: Apache-2.0 */
/* Both tables of translations, for tests: of flows that last and of those that only begin. */
#pragma once

#include <bpf/bpf.h>

#include "bpf/include/nat.h"
#include "tests/dataplane/world.h"

static const enum dp_map nat_maps[] = { DP_MAP_NAT, DP_MAP_UNASSURED };

/* As programs look. */
static inline bool nat_get(const struct k3c_nat_key *key, struct k3c_nat *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(nat_maps); i++)
		if (bpf_map_lookup_elem(world.dp->maps[nat_maps[i]], key, ret) == 0)
			return true;
	return false;
}

typedef void nat_fn(void *arg, const struct k3c_nat_key *key, const struct k3c_nat *n);

static inline void nat_each(nat_fn *fn, void *arg)
{
	struct k3c_nat_key key, next;
	struct k3c_nat n;

	for (size_t i = 0; i < ARRAY_SIZE(nat_maps); i++) {
		int fd = world.dp->maps[nat_maps[i]];

		for (bool first = true; bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0; first = false) {
			key = next;
			if (bpf_map_lookup_elem(fd, &key, &n) == 0)
				fn(arg, &key, &n);
		}
	}
}

static inline void nat_count_flags(void *arg, const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	size_t *found = arg;

	found[0] += (n->flags & K3C_NAT_SERVICE) != 0;
	found[1] += (n->flags & K3C_NAT_MASQUERADE) != 0;
}

/* Both halves of services' flows. */
static inline size_t nat_services(void)
{
	size_t found[2] = { 0 };

	nat_each(nat_count_flags, found);
	return found[0];
}

static inline void nat_clear(void)
{
	struct k3c_nat_key key;

	for (size_t i = 0; i < ARRAY_SIZE(nat_maps); i++)
		while (bpf_map_get_next_key(world.dp->maps[nat_maps[i]], NULL, &key) == 0)
			assert_int_equal(bpf_map_delete_elem(world.dp->maps[nat_maps[i]], &key), 0);
}
