/* SPDX-License-Identifier: Apache-2.0 */
/* The nets that pods reach with their own addresses (k3c_direct): what the options name, and nothing else. Loop thread.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "bpf/include/nat.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pressure.h"

struct direct_row {
	struct k3c_direct_key key;
	uint32_t direct;
};

struct direct_nets {
	size_t n;
	struct direct_row rows[];
};

static struct direct_row *direct_find(const struct direct_nets *d, const struct k3c_direct_key *key)
{
	for (size_t i = 0; i < d->n; i++)
		if (memcmp(&d->rows[i].key, key, sizeof(*key)) == 0)
			return (struct direct_row *)&d->rows[i];
	return NULL;
}

/* The first one of a net has the word. */
static void direct_want(struct direct_nets *d, const struct dp_net *net, uint32_t direct)
{
	struct direct_row row = { .key = { .prefixlen = K3C_DIRECT_BITS_FIXED + net->bits,
					   .addr = dp_addr_in(&net->addr) },
				  .direct = direct };
	struct k3c_addr mask = dp_mask(net->bits);

	for (int i = 0; i < 16; i++)
		row.key.addr.b[i] &= mask.b[i];
	if (!direct_find(d, &row.key))
		d->rows[d->n++] = row;
}

int direct_open(struct dataplane *dp, struct err *err)
{
	/* Wide prefixes of IPv6 are around the mapped addresses: all of IPv4 stands there as not direct, always. */
	const struct dp_net v4 = { dp_addr_out(&(struct k3c_addr){ .b = { [10] = 0xff, [11] = 0xff } }), DP_V4_BITS };
	const struct dataplane_options *o = &dp->options;
	uint32_t found = 0;

	dp->direct = mem_alloc(sizeof(*dp->direct) + (o->n_direct_nets + 1) * sizeof(dp->direct->rows[0]));
	dp->direct->n = 0;
	for (size_t i = 0; i < o->n_direct_nets; i++)
		direct_want(dp->direct, &o->direct_nets[i], 1);
	direct_want(dp->direct, &v4, 0);
	return direct_repair(dp, &found, err);
}

/* Which of ours stand there as they should, and those that are nobody's. Of a trie the longest prefix answers, and what
 * was just told of is there itself. */
static void direct_look(struct dataplane *dp, bool *seen, struct k3c_direct_key **ret_strangers, size_t *ret_n)
{
	int fd = dp->maps[DP_MAP_DIRECT];
	struct k3c_direct_key key;
	size_t cap = 0;

	keys_foreach(fd, key) {
		const struct direct_row *row = direct_find(dp->direct, &key);
		uint32_t direct;

		if (!row) {
			mem_grow(*ret_strangers, cap, *ret_n + 1);
			(*ret_strangers)[(*ret_n)++] = key;
			continue;
		}
		seen[row - dp->direct->rows] = bpf_map_lookup_elem(fd, &key, &direct) == 0 && direct == row->direct;
	}
}

int direct_repair(struct dataplane *dp, uint32_t *found, struct err *err)
{
	_cleanup_free_ struct k3c_direct_key *strangers = NULL;
	_cleanup_free_ bool *seen = mem_new_array(bool, dp->direct->n);
	int fd = dp->maps[DP_MAP_DIRECT];
	size_t n = 0;

	direct_look(dp, seen, &strangers, &n);
	for (size_t i = 0; i < dp->direct->n; i++) {
		const struct direct_row *row = &dp->direct->rows[i];

		if (seen[i])
			continue;
		(*found)++;
		if (bpf_map_update_elem(fd, &row->key, &row->direct, BPF_ANY) < 0)
			return pressure_write_failed(dp, DP_MAP_DIRECT, err);
	}
	for (size_t i = 0; i < n; i++)
		if (bpf_map_delete_elem(fd, &strangers[i]) < 0 && errno != ENOENT)
			return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_DIRECT), strerror(errno));
	*found += (uint32_t)n;
	return 0;
}
