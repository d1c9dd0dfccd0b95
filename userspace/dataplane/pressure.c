/* SPDX-License-Identifier: Apache-2.0 */
/* Full maps. A table that refuses a write is known the moment it does; one that pushes out its oldest entries instead
 * (connections, translations) never refuses, so there what counts is how many of its entries are still in use: once
 * nearly all are, every new one costs a live one. Loop thread. */
#include "userspace/dataplane/pressure.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"

#define PRESSURE_NS_PER_S 1000000000ull
/* What an LRU map keeps free on each processor is never used. */
#define PRESSURE_CROWDED(live, max) ((live) >= (max) - (max) / 16)

static uint64_t pressure_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * PRESSURE_NS_PER_S + (uint64_t)t.tv_nsec;
}

static const char *pressure_option(enum dp_map m)
{
	switch (m) {
	case DP_MAP_SERVICE:
		return "max_services";
	case DP_MAP_BACKEND:
		return "max_backends";
	case DP_MAP_RULE:
	case DP_MAP_PREFIX:
		return "max_policy_entries";
	case DP_MAP_CONN:
	case DP_MAP_DATAGRAM:
	case DP_MAP_NAT:
		return "max_connections";
	default:
		return NULL;
	}
}

static bool pressure_refuses(enum dp_map m)
{
	switch (m) {
	case DP_MAP_SERVICE:
	case DP_MAP_BACKEND:
	case DP_MAP_SOURCE:
	case DP_MAP_ENDPOINT:
	case DP_MAP_RULE:
	case DP_MAP_PREFIX:
	case DP_MAP_DIRECT:
	case DP_MAP_NODE:
	case DP_MAP_NETNS:
	case DP_MAP_LINK:
	case DP_MAP_RATE:
	case DP_MAP_POD_DROP:
	case DP_MAP_NSID:
		return true;
	default:
		return false;
	}
}

/* Where the oldest entries make room, and how many are in use is worth a walk. */
static bool pressure_forgets(enum dp_map m)
{
	return m == DP_MAP_CONN || m == DP_MAP_DATAGRAM || m == DP_MAP_NAT;
}

static uint32_t pressure_max(struct dataplane *dp, enum dp_map m)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(dp->maps[m], &info, &len) < 0 ? 0 : info.max_entries;
}

void pressure_left_out(struct dataplane *dp, enum dp_map map, size_t n)
{
	struct map_pressure *p = &dp->pressure[map];

	p->refused += n;
	if (!p->full_since_ns) {
		p->full_since_ns = pressure_now();
		p->news = true;
	}
}

int pressure_write_failed(struct dataplane *dp, enum dp_map map, struct err *err)
{
	const char *option = pressure_option(map);
	int code = errno;

	if (code != E2BIG && code != ENOSPC)
		return err_set(err, -code, "write %s: %s", maps_name(map), strerror(code));
	pressure_left_out(dp, map, 1);
	return err_set(err, -ENOSPC, "map %s is full (%u entries%s%s)", maps_name(map), pressure_max(dp, map),
		       option ? ", " : "", option ? option : "");
}

/* ---- who is alive in the maps that forget ---- */

static bool conn_is_live(const struct k3c_conn_key *key, const struct k3c_conn *c, uint64_t now)
{
	uint64_t age = now > c->last_ns ? (now - c->last_ns) / PRESSURE_NS_PER_S : 0;

	if (c->flags & K3C_CONN_CLOSING)
		return age <= K3C_CONN_CLOSING_TIMEOUT_S;
	if (key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP)
		return true;
	return age <= (key->proto == IPPROTO_UDP ? K3C_CONN_UDP_TIMEOUT_S : K3C_CONN_OTHER_TIMEOUT_S);
}

static bool nat_is_live(const struct k3c_nat_key *key, const struct k3c_nat *n, uint64_t now)
{
	uint64_t age = now > n->last_ns ? (now - n->last_ns) / PRESSURE_NS_PER_S : 0;

	if (n->flags & K3C_NAT_CLOSING)
		return age <= (n->flags & K3C_NAT_RESET ? K3C_NAT_RESET_TIMEOUT_S : K3C_NAT_CLOSING_TIMEOUT_S);
	if (key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP)
		return age <= K3C_NAT_TCP_TIMEOUT_S;
	if (n->flags & K3C_NAT_STREAM)
		return age <= K3C_NAT_UDP_STREAM_TIMEOUT_S;
	return age <= (key->proto == IPPROTO_UDP ? K3C_NAT_UDP_TIMEOUT_S : K3C_NAT_OTHER_TIMEOUT_S);
}

static uint32_t pressure_live(struct dataplane *dp, enum dp_map m, uint32_t max)
{
	union {
		struct k3c_conn_key conn;
		struct k3c_nat_key nat;
	} key, next;
	union {
		struct k3c_conn conn;
		struct k3c_nat nat;
	} value;
	uint64_t now = pressure_now();
	uint32_t live = 0;

	for (uint32_t n = 0; n <= max && bpf_map_get_next_key(dp->maps[m], n ? &key : NULL, &next) == 0; n++) {
		key = next;
		if (bpf_map_lookup_elem(dp->maps[m], &key, &value) < 0)
			continue;
		live += m == DP_MAP_NAT ? nat_is_live(&key.nat, &value.nat, now)
					: conn_is_live(&key.conn, &value.conn, now);
	}
	return live;
}

/* ---- for others ---- */

int dataplane_pressure(struct dataplane *dp, struct dp_pressure *ret, size_t max, size_t *ret_n, struct err *err)
{
	struct dp_map_info maps[DP_MAP_COUNT];
	size_t n_maps, n = 0;
	int r = dataplane_maps(dp, maps, DP_MAP_COUNT, &n_maps, err);

	if (r < 0)
		return r;
	for (enum dp_map m = 0; m < DP_MAP_COUNT && m < n_maps && n < max; m++) {
		struct map_pressure *p = &dp->pressure[m];
		bool forgets = pressure_forgets(m);
		struct dp_pressure *out = &ret[n];

		if (!forgets && !pressure_refuses(m))
			continue;
		*out = (struct dp_pressure){ .entries = maps[m].entries, .max_entries = maps[m].max_entries };
		snprintf(out->name, sizeof(out->name), "%s", maps_name(m));
		if (forgets) {
			out->entries = pressure_live(dp, m, out->max_entries);
			out->forgets = true;
		}
		if (forgets && PRESSURE_CROWDED(out->entries, out->max_entries) && !p->full_since_ns) {
			p->full_since_ns = pressure_now();
			p->news = true;
		} else if (forgets ? !PRESSURE_CROWDED(out->entries, out->max_entries)
				   : out->entries < out->max_entries) {
			p->full_since_ns = 0;
		}
		out->refused = p->refused;
		out->full_since_ns = p->full_since_ns;
		n++;
	}
	*ret_n = n;
	return 0;
}

bool dataplane_pressure_news(struct dataplane *dp, const char **ret_map, uint32_t *ret_max)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		if (!dp->pressure[m].news)
			continue;
		dp->pressure[m].news = false;
		*ret_map = maps_name(m);
		*ret_max = pressure_max(dp, m);
		return true;
	}
	return false;
}
