/* SPDX-License-Identifier: Apache-2.0 */
/* Full maps. A table that refuses a write is known the moment it does; one that pushes out its oldest entries instead
 * (connections, translations, clients that stick to backends) never refuses, so there what counts is how many of its
 * entries are still in use: once nearly all are, every new one costs a live one. Loop thread. */
#include "userspace/dataplane/pressure.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "userspace/base/buf.h"
#include "userspace/dataplane/batch.h"

#define PRESSURE_NS_PER_S 1000000000ull
/* What an LRU map keeps free is never used: so many entries on each processor at most, since it makes room for as many
 * at once. Of a small map that is a good part, though hardly ever on all processors at the same time. */
#define PRESSURE_FREE_EACH 128
#define PRESSURE_FREE_LEAST 16 /* a sixteenth */
#define PRESSURE_FREE_MOST 4   /* a quarter */

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
	case DP_MAP_POLICED:
	case DP_MAP_NAT:
	case DP_MAP_UNASSURED:
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
	return m == DP_MAP_CONN || m == DP_MAP_DATAGRAM || m == DP_MAP_POLICED || m == DP_MAP_NAT ||
	       m == DP_MAP_UNASSURED || m == DP_MAP_AFFINITY;
}

static uint32_t pressure_max(struct dataplane *dp, enum dp_map m)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(dp->maps[m], &info, &len) < 0 ? 0 : info.max_entries;
}

/* With so many entries in use, new ones cost others. */
static uint32_t pressure_crowded(uint32_t max)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t unused = processors > 0 ? (uint64_t)processors * PRESSURE_FREE_EACH : PRESSURE_FREE_EACH;

	if (unused < max / PRESSURE_FREE_LEAST)
		unused = max / PRESSURE_FREE_LEAST;
	if (unused > max / PRESSURE_FREE_MOST)
		unused = max / PRESSURE_FREE_MOST;
	return max - (uint32_t)unused;
}

void pressure_left_out(struct dataplane *dp, enum dp_map map, size_t n)
{
	struct map_pressure *p = &dp->pressure[map];

	dp->refusing = map;
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

/* ---- what is still to be written ---- */

void pressure_outcome(struct dataplane *dp, enum pressure_for what, const void *key, size_t len, int r)
{
	_cleanup_buf_ struct buf name = BUF_INIT;
	struct map_pressure *before, *now = &dp->pressure[dp->refusing];

	if (r != -ENOSPC && (r < 0 || !dp->unwritten.n))
		return;
	buf_add(&name, &what, sizeof(what));
	buf_add(&name, key, len);
	before = map_remove(&dp->unwritten, buf_str(&name));
	if (before)
		before->unwritten--;
	if (r >= 0)
		return;
	map_put(&dp->unwritten, buf_str(&name), now);
	now->unwritten++;
}

void dataplane_pressure_pod(struct dataplane *dp, const char *key, int r)
{
	pressure_outcome(dp, PRESSURE_POD, key, strlen(key), r);
}

void pressure_unwritten(struct dataplane *dp, enum dp_map map, size_t n)
{
	dp->pressure[map].unwritten = n;
}

void pressure_finish(struct dataplane *dp)
{
	map_finish(&dp->unwritten);
}

/* ---- who is alive in the maps that forget: what closes or has timed out costs nobody anything when it goes ---- */

static bool conn_is_live(const struct k3c_conn_key *key, const struct k3c_conn *c, uint64_t now)
{
	uint64_t age = now > c->last_ns ? (now - c->last_ns) / PRESSURE_NS_PER_S : 0;

	if (c->flags & K3C_CONN_CLOSING)
		return false;
	if (key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP)
		return true;
	return age <= (key->proto == IPPROTO_UDP ? K3C_CONN_UDP_TIMEOUT_S : K3C_CONN_OTHER_TIMEOUT_S);
}

static bool nat_is_live(const struct k3c_nat_key *key, const struct k3c_nat *n, uint64_t now)
{
	uint64_t age = now > n->last_ns ? (now - n->last_ns) / PRESSURE_NS_PER_S : 0;
	bool stateful = key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP;

	return !(n->flags & K3C_NAT_CLOSED) && age <= k3c_nat_timeout_s(n->flags, stateful, key->proto == IPPROTO_UDP);
}

/* Of a client that no service asks to stick any more, nothing is lost. */
static bool affinity_is_live(const struct k3c_affinity_key *key, const struct k3c_affinity *a, const struct map *sticky,
			     uint64_t now)
{
	uintptr_t timeout_s = (uintptr_t)map_get(sticky, str_make((const char *)&key->service, sizeof(key->service)));

	return timeout_s && (now > a->last_ns ? now - a->last_ns : 0) <= timeout_s * PRESSURE_NS_PER_S;
}

struct pressure_count {
	enum dp_map map;
	uint64_t now;
	struct map sticky; /* a service's number -> for how many seconds */
	uint32_t live;
};

static void pressure_count_rows(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct pressure_count *c = arg;

	for (uint32_t i = 0; i < n; i++) {
		if (c->map == DP_MAP_NAT || c->map == DP_MAP_UNASSURED)
			c->live += nat_is_live((const struct k3c_nat_key *)keys + i, (const struct k3c_nat *)values + i,
					       c->now);
		else if (c->map == DP_MAP_AFFINITY)
			c->live += affinity_is_live((const struct k3c_affinity_key *)keys + i,
						    (const struct k3c_affinity *)values + i, &c->sticky, c->now);
		else
			c->live += conn_is_live((const struct k3c_conn_key *)keys + i,
						(const struct k3c_conn *)values + i, c->now);
	}
}

/* Frontends of one service may be told of at different times. */
static void pressure_sticky_rows(void *arg, const char *keys, const char *values, uint32_t n)
{
	const struct k3c_service *services = (const struct k3c_service *)values;
	struct map *sticky = arg;

	for (uint32_t i = 0; i < n; i++) {
		struct str id = str_make((const char *)&services[i].id, sizeof(services[i].id));

		if (services[i].affinity_s > (uintptr_t)map_get(sticky, id))
			map_put(sticky, id, (void *)(uintptr_t)services[i].affinity_s);
	}
}

/* At once, and where the kernel does not do that, entry by entry (then one may be seen twice). */
static void pressure_each(struct dataplane *dp, enum dp_map m, batch_fn *fn, void *arg, uint32_t max)
{
	union {
		struct k3c_conn_key conn;
		struct k3c_nat_key nat;
		struct k3c_affinity_key affinity;
		struct k3c_service_key service;
	} key, next;
	union {
		struct k3c_conn conn;
		struct k3c_nat nat;
		struct k3c_affinity affinity;
		struct k3c_service service;
	} value;

	for (uint32_t n = 0; n <= max && bpf_map_get_next_key(dp->maps[m], n ? &key : NULL, &next) == 0; n++) {
		key = next;
		if (bpf_map_lookup_elem(dp->maps[m], &key, &value) == 0)
			fn(arg, (const char *)&key, (const char *)&value, 1);
	}
}

static void pressure_sticky(struct dataplane *dp, struct map *ret)
{
	if (batch_each(dp->maps[DP_MAP_SERVICE], pressure_sticky_rows, ret) < 0)
		pressure_each(dp, DP_MAP_SERVICE, pressure_sticky_rows, ret, pressure_max(dp, DP_MAP_SERVICE));
}

static uint32_t pressure_live(struct dataplane *dp, enum dp_map m, uint32_t max)
{
	struct pressure_count c = { .map = m, .now = pressure_now() };

	if (m == DP_MAP_AFFINITY)
		pressure_sticky(dp, &c.sticky);
	if (batch_each(dp->maps[m], pressure_count_rows, &c) < 0) {
		c.live = 0;
		pressure_each(dp, m, pressure_count_rows, &c, max);
	}
	map_finish(&c.sticky);
	return c.live;
}

/* Of a map that forgets, with so many entries in use. */
static void pressure_seen(struct map_pressure *p, uint32_t live, uint32_t max)
{
	if (live < pressure_crowded(max)) {
		p->full_since_ns = 0;
	} else if (!p->full_since_ns) {
		p->full_since_ns = pressure_now();
		p->news = true;
	}
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
			out->entries = maps[m].entries ? pressure_live(dp, m, out->max_entries) : 0;
			out->forgets = true;
			pressure_seen(p, out->entries, out->max_entries);
		} else if (maps[m].entries < maps[m].max_entries) {
			p->full_since_ns = 0;
		}
		out->refused = p->refused;
		out->unwritten = p->unwritten;
		out->full_since_ns = p->full_since_ns;
		n++;
	}
	*ret_n = n;
	return 0;
}

void dataplane_pressure_look(struct dataplane *dp)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		uint32_t max = pressure_forgets(m) ? pressure_max(dp, m) : 0;

		if (max)
			pressure_seen(&dp->pressure[m], pressure_live(dp, m, max), max);
	}
}

bool dataplane_pressure_news(struct dataplane *dp, struct dp_pressure *ret)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		if (!dp->pressure[m].news)
			continue;
		dp->pressure[m].news = false;
		*ret = (struct dp_pressure){ .max_entries = pressure_max(dp, m), .forgets = pressure_forgets(m) };
		snprintf(ret->name, sizeof(ret->name), "%s", maps_name(m));
		return true;
	}
	return false;
}
