/* SPDX-License-Identifier: Apache-2.0 */
/* What programs remember, as a case of packets/ sets it up and looks it up: translations, what ended, connections, who
 * sticks to a backend. */
#pragma once

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "bpf/include/policy.h"
#include "tests/dataplane/packet_words.h"

#define STATE_VERDICT_MIX 0x9e3779b97f4a7c15u

/* ---- translations ---- */

/* The numbers behind some words. False: `word` is another one. */
static inline bool state_age(const struct packet_state *s, const char *word, const char *value, __u64 *last_ns,
			     bool *ret_used)
{
	*ret_used = false;
	if (strcmp(word, "young") == 0) {
		*last_ns = s->before_ns;
		return true;
	}
	if (strcmp(word, "age") != 0 || !value)
		return false;
	*last_ns -= strtoull(value, NULL, 0) * 1000000000u;
	return *ret_used = true;
}

static inline uint16_t state_nat_flag(const char *word)
{
	static const struct {
		const char *name;
		uint16_t flag;
	} flags[] = {
		{ "closing", K3C_NAT_CLOSING },    { "closed", K3C_NAT_CLOSED }, { "fin", K3C_NAT_FIN },
		{ "reset", K3C_NAT_RESET },        { "remote", K3C_NAT_REMOTE }, { "hairpin", K3C_NAT_HAIRPIN },
		{ "answered", K3C_NAT_ANSWERED },  { "stream", K3C_NAT_STREAM }, { "masquerade", K3C_NAT_MASQUERADE },
		{ "unassured", K3C_NAT_UNASSURED }
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (strcmp(flags[i].name, word) == 0)
			return flags[i].flag;
	return 0;
}

/* arriving|leaving PROTO END > END becomes END [flags] [peer PORT] [age S|young] */
static inline bool state_nat_words(struct packet_state *s, char **w, size_t n, struct k3c_nat_key *key,
				   struct k3c_nat *value)
{
	struct dp_addr src, dst, to;
	uint16_t sport, dport, port;
	bool used;

	if (n < 7 || strcmp(w[3], ">") != 0 || strcmp(w[5], "becomes") != 0) {
		state_fail(s, "arriving|leaving PROTO END > END becomes END");
		return false;
	}
	*key = (struct k3c_nat_key){ .proto = state_proto(s, w[1]), .kind = w[0][0] == 'a' ? K3C_NAT_IN : K3C_NAT_OUT };
	*value = (struct k3c_nat){ .flags = K3C_NAT_SERVICE, .last_ns = state_now() };
	if (!state_end(s, w[2], &src, &sport) || !state_end(s, w[4], &dst, &dport) || !state_end(s, w[6], &to, &port))
		return false;
	key->src = dp_addr_in(&src);
	key->dst = dp_addr_in(&dst);
	key->sport = htons(sport);
	key->dport = htons(dport);
	value->addr = dp_addr_in(&to);
	value->port = htons(port);
	for (size_t i = 7; i < n; i++) {
		uint16_t flag = state_nat_flag(w[i]);

		if (flag == K3C_NAT_MASQUERADE)
			value->flags &= (uint16_t)~K3C_NAT_SERVICE;
		if (flag)
			value->flags |= flag;
		else if (state_age(s, w[i], i + 1 < n ? w[i + 1] : NULL, &value->last_ns, &used))
			i += used;
		else if (strcmp(w[i], "peer") == 0 && i + 1 < n)
			value->peer_port = htons(state_port(s, w[++i]));
		else
			state_fail(s, "a translation does not know %s", w[i]);
	}
	return !s->failed;
}

/* enum k3c_used */
static inline void state_used(uint32_t used)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &used, BPF_ANY), 0);
}

static inline int state_nat_map(const struct k3c_nat *value)
{
	return world.dp->maps[value->flags & K3C_NAT_UNASSURED ? DP_MAP_UNASSURED : DP_MAP_NAT];
}

/* As if a program had made it. */
static inline void state_translation(struct packet_state *s, struct pt_words *w)
{
	struct k3c_nat_key key;
	struct k3c_nat value;

	if (!state_nat_words(s, w->at + 1, w->n - 1, &key, &value))
		return;
	assert_int_equal(bpf_map_update_elem(state_nat_map(&value), &key, &value, BPF_ANY), 0);
	s->used |= K3C_USED_BY_PODS | K3C_USED_BY_HOST;
	if (value.flags & K3C_NAT_UNASSURED)
		s->used |= K3C_USED_UNASSURED;
	state_used(s->used);
}

/* What stands there, and what the words of `made` say: at least so old, or used by the last packet (`young`). Programs
 * may take the time of the clock's last tick. */
static inline bool state_age_is(const struct packet_state *s, char **w, size_t n, uint64_t got, uint64_t want)
{
	const uint64_t tick = 100000000;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(w[i], "young") == 0)
			return got + tick >= want;
		if (strcmp(w[i], "age") == 0)
			return got <= want;
	}
	return true;
}

/* In either table, and in one only; `which`: in that. */
static inline bool state_find_nat(struct packet_state *s, const struct k3c_nat_key *key, const char *which,
				  struct k3c_nat *ret)
{
	struct k3c_nat begins;
	bool lasts = bpf_map_lookup_elem(world.dp->maps[DP_MAP_NAT], key, ret) == 0;
	bool unassured = bpf_map_lookup_elem(world.dp->maps[DP_MAP_UNASSURED], key, &begins) == 0;

	if (lasts && unassured)
		state_fail(s, "the translation is in both tables");
	if ((lasts && (ret->flags & K3C_NAT_UNASSURED)) || (unassured && !(begins.flags & K3C_NAT_UNASSURED)))
		state_fail(s, "the translation is in the wrong table");
	if (unassured)
		*ret = begins;
	return strcmp(which, "assured") == 0 ? lasts : strcmp(which, "unassured") == 0 ? unassured : lasts || unassured;
}

/* made translation ...: it is there, leads there, and closes or not as said; the last word may say in which table */
static inline void state_made_nat(struct packet_state *s, struct pt_words *w, bool wanted)
{
	struct k3c_nat_key key;
	struct k3c_nat want, got;
	char a[INET6_ADDRSTRLEN];
	const char *which = w->at[w->n - 1];
	bool found;

	if (!state_nat_words(s, w->at + 2, w->n - 2 - (strcmp(which, "assured") == 0), &key, &want))
		return;
	found = state_find_nat(s, &key, which, &got);
	if (found != wanted) {
		state_fail(s, wanted ? "no such translation" : "there is such a translation");
	} else if (found &&
		   (memcmp(&got.addr, &want.addr, 16) != 0 || got.port != want.port ||
		    got.peer_port != want.peer_port || (got.flags ^ want.flags) & ~(K3C_NAT_FIN | K3C_NAT_UNASSURED))) {
		inet_ntop(AF_INET6, got.addr.b, a, sizeof(a));
		state_fail(s, "the translation leads to [%s]:%u, peer %u, flags 0x%x", a, ntohs(got.port),
			   ntohs(got.peer_port), got.flags);
	} else if (found && !state_age_is(s, w->at, w->n, got.last_ns, want.last_ns)) {
		state_fail(s, "the translation was used %lld ns before the packet",
			   (long long)(s->before_ns - got.last_ns));
	}
}

/* arriving|leaving PROTO END > END [age S] */
static inline bool state_ended_words(struct packet_state *s, char **w, size_t n, struct k3c_closed *ret)
{
	struct dp_addr src, dst;
	uint16_t sport, dport;
	bool used;

	if (n < 5 || strcmp(w[3], ">") != 0 || !state_end(s, w[2], &src, &sport) || !state_end(s, w[4], &dst, &dport)) {
		state_fail(s, "arriving|leaving PROTO END > END [age S]");
		return false;
	}
	*ret = (struct k3c_closed){ .since_ns = state_now() };
	ret->key = (struct k3c_nat_key){ .src = dp_addr_in(&src),
					 .dst = dp_addr_in(&dst),
					 .sport = htons(sport),
					 .dport = htons(dport),
					 .proto = state_proto(s, w[1]),
					 .kind = w[0][0] == 'a' ? K3C_NAT_IN : K3C_NAT_OUT };
	if (n > 6)
		state_age(s, w[5], w[6], &ret->since_ns, &used);
	return !s->failed;
}

/* ended arriving ...: stands in the queue since then; ended others: and these fill it up */
static inline void state_ended(struct packet_state *s, struct pt_words *w)
{
	int queue = world.dp->maps[DP_MAP_CLOSED];
	struct k3c_closed c = { .since_ns = state_now() };

	if (w->n == 2 && strcmp(w->at[1], "others") == 0)
		while (bpf_map_update_elem(queue, NULL, &c, BPF_ANY) == 0)
			;
	else if (state_ended_words(s, w->at + 1, w->n - 1, &c))
		assert_int_equal(bpf_map_update_elem(queue, NULL, &c, BPF_ANY), 0);
}

/* waits arriving ...: is the last of the queue, which is used up; waits nobody: there is none */
static inline void state_waits(struct packet_state *s, struct pt_words *w)
{
	struct k3c_closed want, last = { 0 };
	bool any = false;

	while (bpf_map_lookup_and_delete_elem(world.dp->maps[DP_MAP_CLOSED], NULL, &last) == 0)
		any = true;
	if (w->n == 2 && strcmp(w->at[1], "nobody") == 0) {
		if (any)
			state_fail(s, "somebody waits");
	} else if (state_ended_words(s, w->at + 1, w->n - 1, &want) &&
		   (!any || memcmp(&want.key, &last.key, sizeof(want.key)) != 0)) {
		state_fail(s, "is not the last that waits");
	}
}

static inline void state_meta_flags(uint32_t set, uint32_t keep)
{
	world.dp->meta.flags = (world.dp->meta.flags & keep) | set;
	ok(dataplane_meta_write(world.dp, err));
}

/* moving: as between two builds */
static inline void state_moving(struct packet_state *s, struct pt_words *w)
{
	state_meta_flags(K3C_META_MOVING, ~0u);
}

/* ---- connections ---- */

/* PROTO END > END (who asked first) [closing] [host] [age S|young]; the key has the smaller end first */
static inline bool state_conn_words(struct packet_state *s, char **w, size_t n, struct k3c_conn_key *key,
				    struct k3c_conn *value)
{
	struct dp_addr src, dst;
	uint16_t sport, dport;
	bool used;
	int order;

	if (n < 4 || strcmp(w[2], ">") != 0) {
		state_fail(s, "PROTO END > END");
		return false;
	}
	if (!state_end(s, w[1], &src, &sport) || !state_end(s, w[3], &dst, &dport))
		return false;
	*key = (struct k3c_conn_key){ .proto = state_proto(s, w[0]) };
	*value = (struct k3c_conn){ .last_ns = state_now(), .judged = K3C_CONN_JUDGED(world.dp->meta.generation, 0) };
	/* as conn_key() in bpf/lib/policy.h: by eight bytes as the processor reads them */
	order = memcmp(&src, &dst, sizeof(src)) == 0 ? (sport > dport) : 0;
	if (memcmp(&src, &dst, sizeof(src)) != 0) {
		struct k3c_addr x = dp_addr_in(&src), y = dp_addr_in(&dst);

		order = x.q[0] != y.q[0] ? x.q[0] > y.q[0] : x.q[1] > y.q[1];
	}
	key->a = dp_addr_in(order ? &dst : &src);
	key->b = dp_addr_in(order ? &src : &dst);
	key->a_port = htons(order ? dport : sport);
	key->b_port = htons(order ? sport : dport);
	value->initiator = (uint8_t)order;
	for (size_t i = 4; i < n; i++) {
		if (strcmp(w[i], "closing") == 0)
			value->flags |= K3C_CONN_CLOSING;
		else if (strcmp(w[i], "host") == 0)
			value->flags |= K3C_CONN_HOST;
		else if (state_age(s, w[i], i + 1 < n ? w[i + 1] : NULL, &value->last_ns, &used))
			i += used;
		else
			state_fail(s, "a connection does not know %s", w[i]);
	}
	return !s->failed;
}

/* Of datagrams two tables: where the programs did not expect it, they move it. */
static inline int state_conn_map(const struct k3c_conn_key *key, bool policed)
{
	bool connection = key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP;

	return world.dp->maps[connection ? DP_MAP_CONN : policed ? DP_MAP_POLICED : DP_MAP_DATAGRAM];
}

static inline void state_connection(struct packet_state *s, struct pt_words *w)
{
	struct k3c_conn_key key;
	struct k3c_conn value;

	if (state_conn_words(s, w->at + 1, w->n - 1, &key, &value))
		assert_int_equal(bpf_map_update_elem(state_conn_map(&key, false), &key, &value, BPF_ANY), 0);
}

static inline void state_made_conn(struct packet_state *s, struct pt_words *w, bool wanted)
{
	struct k3c_conn_key key;
	struct k3c_conn want, got;
	bool found;

	if (!state_conn_words(s, w->at + 2, w->n - 2, &key, &want))
		return;
	found = bpf_map_lookup_elem(state_conn_map(&key, true), &key, &got) == 0 ||
		bpf_map_lookup_elem(state_conn_map(&key, false), &key, &got) == 0;
	if (found != wanted)
		state_fail(s, wanted ? "no such connection" : "there is such a connection");
	else if (found &&
		 (got.initiator != want.initiator || (got.flags & (K3C_CONN_CLOSING | K3C_CONN_HOST)) !=
							     (want.flags & (K3C_CONN_CLOSING | K3C_CONN_HOST))))
		state_fail(s, "the connection: begun by end %u, flags %u", got.initiator, got.flags);
	else if (found && !state_age_is(s, w->at, w->n, got.last_ns, want.last_ns))
		state_fail(s, "the connection was used %lld ns before the packet",
			   (long long)(s->before_ns - got.last_ns));
}

/* ---- affinity ---- */

/* What a program writes anew has it not. */
#define STATE_STUCK_MARK 1

/* stuck ADDRESS|host to END [age S|young|anew]: that client (host: its namespace), by the service before; chosen anew
 * by the last packet */
static inline bool state_stuck_words(struct packet_state *s, char **w, size_t n, struct k3c_affinity_key *key,
				     struct k3c_affinity *value)
{
	struct dp_addr client, to;
	uint16_t port;
	bool used;
	bool host = n > 1 && strcmp(w[1], "host") == 0;

	if (n < 4 || (!host && !state_addr(s, w[1], &client)) || !state_end(s, w[3], &to, &port)) {
		state_fail(s, "stuck ADDRESS|host to END");
		return false;
	}
	*key = (struct k3c_affinity_key){ .service = s->next_service - 1, .is_cookie = host };
	if (host)
		key->client.q[0] = dataplane_netns_cookie();
	else
		key->client = dp_addr_in(&client);
	*value = (struct k3c_affinity){
		.addr = dp_addr_in(&to), .port = htons(port), .pad2 = STATE_STUCK_MARK, .last_ns = state_now()
	};
	if (n > 4 && strcmp(w[4], "anew") == 0)
		value->pad2 = 0;
	else if (n > 4 && !state_age(s, w[4], n > 5 ? w[5] : NULL, &value->last_ns, &used))
		state_fail(s, "stuck does not know %s", w[4]);
	return !s->failed;
}

static inline void state_stuck(struct packet_state *s, struct pt_words *w)
{
	struct k3c_affinity_key key;
	struct k3c_affinity value;

	if (state_stuck_words(s, w->at, w->n, &key, &value))
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_AFFINITY], &key, &value, BPF_ANY), 0);
}

static inline void state_made_stuck(struct packet_state *s, struct pt_words *w, bool wanted)
{
	struct k3c_affinity_key key;
	struct k3c_affinity want, got;
	bool found;

	if (!state_stuck_words(s, w->at + 1, w->n - 1, &key, &want))
		return;
	found = bpf_map_lookup_elem(world.dp->maps[DP_MAP_AFFINITY], &key, &got) == 0;
	if (found != wanted)
		state_fail(s, wanted ? "it sticks to nothing" : "it sticks");
	else if (found && (memcmp(&got.addr, &want.addr, 16) != 0 || got.port != want.port || got.pad2 != want.pad2 ||
			   !state_age_is(s, w->at, w->n, got.last_ns, want.last_ns)))
		state_fail(s, "it sticks to port %u%s, used %lld ns before the packet", ntohs(got.port),
			   got.pad2 ? "" : ", anew", (long long)(s->before_ns - got.last_ns));
}

/* ---- verdicts ---- */

/* ip|ip6 PROTO LINK > LINK PORT allowed|ingress|egress: who began, whom, whose policy cuts it; as bpf/lib/verdict.h */
static inline bool state_verdict_words(struct packet_state *s, char **w, size_t n, struct k3c_verdict *ret)
{
	static const char *const verdicts[] = {
		[K3C_CONN_ALLOWED] = "allowed", [K3C_CONN_CUT_INGRESS] = "ingress", [K3C_CONN_CUT_EGRESS] = "egress"
	};
	bool v6 = n > 0 && strcmp(w[0], "ip6") == 0;
	uint64_t verdict = 0;

	if (n != 7 || (!v6 && strcmp(w[0], "ip") != 0) || strcmp(w[3], ">") != 0) {
		state_fail(s, "ip|ip6 PROTO LINK > LINK PORT allowed|ingress|egress");
		return false;
	}
	while (verdict < ARRAY_SIZE(verdicts) && strcmp(verdicts[verdict], w[6]) != 0)
		verdict++;
	if (verdict == ARRAY_SIZE(verdicts))
		state_fail(s, "no verdict: %s", w[6]);
	ret->what = (uint64_t)world.dp->meta.generation << 32 | (uint64_t)htons(state_port(s, w[5])) << 16 |
		    (uint64_t)state_proto(s, w[1]) << 8 | (v6 ? K3C_VERDICT_V6 : 0) | verdict;
	ret->who = ((uint64_t)state_link(s, w[2]) << 32 | state_link(s, w[4])) ^ ret->what * STATE_VERDICT_MIX;
	return !s->failed;
}

static inline void state_verdicts_fill(const struct k3c_verdict *v)
{
	static struct k3c_verdict values[K3C_VERDICT_ROWS];
	static uint32_t rows[K3C_VERDICT_ROWS];
	uint32_t n = K3C_VERDICT_ROWS;

	for (uint32_t row = 0; row < K3C_VERDICT_ROWS; row++) {
		rows[row] = row;
		values[row] = *v;
	}
	/* at once: each case begins so */
	assert_int_equal(bpf_map_update_batch(world.dp->maps[DP_MAP_VERDICT], rows, values, &n, NULL), 0);
	assert_int_equal(n, K3C_VERDICT_ROWS);
}

/* verdicts ...: every row says so */
static inline void state_verdicts(struct packet_state *s, struct pt_words *w)
{
	struct k3c_verdict v;

	if (state_verdict_words(s, w->at + 1, w->n - 1, &v))
		state_verdicts_fill(&v);
}

/* Some row. */
static inline void state_made_verdict(struct packet_state *s, struct pt_words *w, bool wanted)
{
	struct k3c_verdict want, got;
	bool found = false;

	if (!state_verdict_words(s, w->at + 2, w->n - 2, &want))
		return;
	for (uint32_t row = 0; row < K3C_VERDICT_ROWS && !found; row++) {
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_VERDICT], &row, &got), 0);
		found = got.who == want.who && got.what == want.what;
	}
	if (found != wanted)
		state_fail(s, wanted ? "no such verdict" : "there is such a verdict");
}

/* made|missing translation|connection|stuck|verdict ... */
static inline void state_made(struct packet_state *s, struct pt_words *w)
{
	bool wanted = strcmp(w->at[0], "made") == 0;

	if (w->n > 2 && strcmp(w->at[1], "translation") == 0)
		state_made_nat(s, w, wanted);
	else if (w->n > 2 && strcmp(w->at[1], "connection") == 0)
		state_made_conn(s, w, wanted);
	else if (w->n > 2 && strcmp(w->at[1], "stuck") == 0)
		state_made_stuck(s, w, wanted);
	else if (w->n > 2 && strcmp(w->at[1], "verdict") == 0)
		state_made_verdict(s, w, wanted);
	else
		state_fail(s, "made or missing: translation, connection, stuck or verdict");
}

/* ports-taken PROTO NODE-ADDRESS < END: every port that masquerading could take towards that end is in use */
static inline void state_ports_taken(struct packet_state *s, struct pt_words *w)
{
	struct dp_addr node, peer;
	uint16_t port;

	if (w->n != 5 || !state_addr(s, w->at[2], &node) || !state_end(s, w->at[4], &peer, &port))
		return;
	for (uint32_t p = WORLD_SNAT_PORT_MIN; p <= WORLD_SNAT_PORT_MAX; p++) {
		struct k3c_nat_key key = { .src = dp_addr_in(&peer),
					   .dst = dp_addr_in(&node),
					   .sport = htons(port),
					   .dport = htons((uint16_t)p),
					   .proto = state_proto(s, w->at[1]),
					   .kind = K3C_NAT_IN };
		struct k3c_nat value = { .flags = K3C_NAT_MASQUERADE, .last_ns = state_now() };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NAT], &key, &value, BPF_ANY), 0);
	}
}
