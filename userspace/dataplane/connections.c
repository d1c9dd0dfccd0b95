/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the tables of connections and translations. They change while they are read: an entry may be missed, or be
 * told of twice when the table turns over meanwhile. See inspect.h. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"

static int64_t quiet_ms(uint64_t last_ns)
{
	int64_t ns = clock_monotonic_ns() - (int64_t)last_ns;

	return ns < 0 ? 0 : ns / NS_PER_MS;
}

static enum dp_conn_state conn_state(const struct k3c_conn_key *key, const struct k3c_conn *c, int64_t quiet)
{
	int64_t limit = K3C_CONN_OTHER_TIMEOUT_S;

	if (c->flags & K3C_CONN_CLOSING)
		limit = K3C_CONN_CLOSING_TIMEOUT_S;
	else if (key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP)
		limit = INT64_MAX / 1000;
	else if (key->proto == IPPROTO_UDP)
		limit = K3C_CONN_UDP_TIMEOUT_S;
	if (quiet > limit * 1000)
		return DP_CONN_EXPIRED;
	if (c->judged & K3C_CONN_VERDICT)
		return DP_CONN_CUT;
	return c->flags & K3C_CONN_CLOSING ? DP_CONN_CLOSING : DP_CONN_OPEN;
}

static void conn_out(const struct k3c_conn_key *key, const struct k3c_conn *c, struct dp_conn *ret)
{
	bool b_began = c->initiator;

	*ret = (struct dp_conn){
		.from = dp_addr_out(b_began ? &key->b : &key->a),
		.to = dp_addr_out(b_began ? &key->a : &key->b),
		.from_port = ntohs(b_began ? key->b_port : key->a_port),
		.to_port = ntohs(b_began ? key->a_port : key->b_port),
		.proto = key->proto,
		.from_host = c->flags & K3C_CONN_HOST,
		.by_egress = c->judged & K3C_CONN_CUT_EGRESS,
		.quiet_ms = quiet_ms(c->last_ns),
	};
	ret->state = conn_state(key, c, ret->quiet_ms);
}

static int conn_table_each(struct dataplane *dp, enum dp_map m, dataplane_conn_fn *fn, void *arg, struct err *err)
{
	int fd = dp->maps[m];
	struct k3c_conn_key key;

	keys_foreach(fd, key) {
		struct dp_conn out;
		struct k3c_conn c;

		if (bpf_map_lookup_elem(fd, &key, &c) < 0)
			continue;
		conn_out(&key, &c, &out);
		fn(arg, &out);
	}
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(m), strerror(errno));
}

int dataplane_conn_each(struct dataplane *dp, dataplane_conn_fn *fn, void *arg, struct err *err)
{
	static const enum dp_map tables[] = { DP_MAP_CONN, DP_MAP_DATAGRAM, DP_MAP_POLICED };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tables) && r == 0; i++)
		r = conn_table_each(dp, tables[i], fn, arg, err);
	return r;
}

/* Of the pair, the half that the first packet met: services are translated coming in, pods' traffic going out. */
static bool translation_is_first(const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	return key->kind == (n->flags & K3C_NAT_MASQUERADE ? K3C_NAT_OUT : K3C_NAT_IN);
}

static bool translation_is_expired(const struct k3c_nat_key *key, const struct k3c_nat *n, int64_t quiet)
{
	bool stateful = key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP;

	return quiet > k3c_nat_timeout_s(n->flags, stateful, key->proto == IPPROTO_UDP) * 1000ll;
}

static int translation_table_each(struct dataplane *dp, enum dp_map m, dataplane_translation_fn *fn, void *arg,
				  struct err *err)
{
	int fd = dp->maps[m];
	struct k3c_nat_key key;

	keys_foreach(fd, key) {
		struct dp_translation out;
		struct k3c_nat n;

		if (bpf_map_lookup_elem(fd, &key, &n) < 0 || !translation_is_first(&key, &n))
			continue;
		out = (struct dp_translation){
			.src = dp_addr_out(&key.src),
			.dst = dp_addr_out(&key.dst),
			.sport = ntohs(key.sport),
			.dport = ntohs(key.dport),
			.proto = key.proto,
			.masquerade = n.flags & K3C_NAT_MASQUERADE,
			.to = dp_addr_out(&n.addr),
			.to_port = ntohs(n.port),
			.from_port = ntohs(n.peer_port),
			.closing = n.flags & K3C_NAT_CLOSING,
			.unassured = n.flags & K3C_NAT_UNASSURED,
			.quiet_ms = quiet_ms(n.last_ns),
		};
		out.expired = translation_is_expired(&key, &n, out.quiet_ms);
		fn(arg, &out);
	}
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(m), strerror(errno));
}

/* A flow that moves meanwhile is seen, maybe twice. */
int dataplane_translation_each(struct dataplane *dp, dataplane_translation_fn *fn, void *arg, struct err *err)
{
	int r = translation_table_each(dp, DP_MAP_UNASSURED, fn, arg, err);

	return r < 0 ? r : translation_table_each(dp, DP_MAP_NAT, fn, arg, err);
}
