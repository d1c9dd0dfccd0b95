/* SPDX-License-Identifier: Apache-2.0 */
/* What a case of packets/ sets up before its packets, and looks up behind them: services, policies and identities by
 * the dataplane's own functions, translations, connections and fragments in the maps. Two pods, `a` and `b`, and the
 * node's link `up0` are there for all cases; everything else is forgotten when the next one begins. */
#pragma once

#include <bpf/bpf.h>

#include "bpf/include/conn.h"
#include "bpf/include/endpoint.h"
#include "bpf/include/nat.h"
#include "bpf/include/rate.h"
#include "bpf/include/service.h"
#include "tests/dataplane/packet_text.h"
#include "tests/dataplane/world.h"

#define STATE_SERVICES_MAX 8
#define STATE_BACKENDS_MAX 16
#define STATE_RULES_MAX 16
#define STATE_PODS 2

struct state_policy {
	struct dp_policy_rule rules[STATE_RULES_MAX];
	size_t n;
	bool in, out;
};

struct packet_state {
	const char *file;
	char what[160];
	unsigned line;
	bool failed;
	struct pt_var vars[PT_VARS_MAX];
	struct state_policy policies[STATE_PODS];
	uint32_t next_service;
	uint64_t before_ns, after_ns; /* around the last packet */
	struct k3c_rate rate_before[STATE_PODS];
};

static struct test_pod state_pods[STATE_PODS];
static struct dp_service state_services[STATE_SERVICES_MAX];
static size_t n_state_services;

static inline void state_fail(struct packet_state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline void state_fail(struct packet_state *s, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!s->failed)
		print_error("%s:%u: %s: %s\n", s->file, s->line, s->what, text);
	s->failed = true;
}

/* ---- words ---- */

static inline bool state_addr(struct packet_state *s, const char *text, struct dp_addr *ret)
{
	struct dp_addr a = { .b = { [10] = 0xff, [11] = 0xff } };

	if (inet_pton(AF_INET, text, a.b + 12) != 1 && inet_pton(AF_INET6, text, a.b) != 1) {
		state_fail(s, "no address: %s", text);
		return false;
	}
	*ret = a;
	return true;
}

/* ADDRESS:PORT or [ADDRESS]:PORT; a port may be a name bound by a packet. */
static inline bool state_end(struct packet_state *s, const char *word, struct dp_addr *ret, uint16_t *ret_port)
{
	char text[64];
	char *colon, *addr = text;

	snprintf(text, sizeof(text), "%s", word ? word : "");
	colon = strrchr(text, ':');
	if (!colon) {
		state_fail(s, "no ADDRESS:PORT: %s", text);
		return false;
	}
	*colon = 0;
	if (*addr == '[') {
		addr++;
		addr[strcspn(addr, "]")] = 0;
	}
	*ret_port = (uint16_t)strtoul(colon + 1, NULL, 0);
	if (colon[1] == '$')
		*ret_port = (uint16_t)pt_var(s->vars, colon + 2)->value;
	return state_addr(s, addr, ret);
}

static inline bool state_net(struct packet_state *s, const char *word, struct dp_addr *ret, uint8_t *ret_bits)
{
	char text[64];
	char *slash;

	snprintf(text, sizeof(text), "%s", word ? word : "");
	slash = strchr(text, '/');
	if (slash)
		*slash = 0;
	if (!state_addr(s, text, ret))
		return false;
	*ret_bits = slash ? (uint8_t)(strtoul(slash + 1, NULL, 10) + (strchr(text, ':') ? 0 : 96)) : 128;
	return true;
}

static inline uint8_t state_proto(struct packet_state *s, const char *word)
{
	static const struct {
		const char *name;
		uint8_t number;
	} protos[] = { { "tcp", IPPROTO_TCP },   { "udp", IPPROTO_UDP }, { "sctp", IPPROTO_SCTP },
		       { "icmp", IPPROTO_ICMP }, { "icmp6", 58 },        { "any", 0 } };

	for (size_t i = 0; word && i < ARRAY_SIZE(protos); i++)
		if (strcmp(protos[i].name, word) == 0)
			return protos[i].number;
	state_fail(s, "no protocol: %s", word ? word : "end of line");
	return 0;
}

static inline int state_pod(struct packet_state *s, const char *word)
{
	if (word && word[0] >= 'a' && word[0] < 'a' + STATE_PODS && !word[1])
		return word[0] - 'a';
	state_fail(s, "no pod: %s", word ? word : "end of line");
	return 0;
}

static inline uint32_t state_link(struct packet_state *s, const char *word)
{
	uint32_t index;

	if (word[0] >= 'a' && word[0] < 'a' + STATE_PODS && !word[1])
		return (uint32_t)state_pods[word[0] - 'a'].ifindex;
	index = if_nametoindex(word);
	if (!index)
		state_fail(s, "no link: %s", word);
	return index;
}

static inline bool state_mac_is(struct packet_state *s, const char *pod, const uint8_t *mac)
{
	struct dp_addr a = ip(state_pods[state_pod(s, pod)].addr);
	struct k3c_addr k = dp_addr_in(&a);
	struct k3c_endpoint e;

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &k, &e) == 0 && memcmp(e.mac, mac, 6) == 0;
}

/* ---- services ---- */

static inline int state_kind(const char *word)
{
	static const char *const kinds[] = { [DP_CLUSTER_IP] = "cluster-ip",
					     [DP_NODE_PORT] = "node-port",
					     [DP_EXTERNAL] = "external-ip",
					     [DP_LOAD_BALANCER] = "load-balancer",
					     [DP_HOST_PORT] = "host-port" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i], word) == 0)
			return (int)i;
	return -1;
}

/* service KIND PROTO ADDRESS:PORT [affinity S] [to END...] [outside END...] [sources NET...] */
static inline void state_service(struct packet_state *s, struct pt_words *w)
{
	static struct dp_backend to[STATE_BACKENDS_MAX], outside[STATE_BACKENDS_MAX];
	static struct dp_net sources[STATE_BACKENDS_MAX];
	struct dp_service v = { .id = s->next_service++, .backends = to, .outside = outside, .sources = sources };
	const char *list = "";
	int kind = w->n > 3 ? state_kind(w->at[1]) : -1;

	if (kind < 0 || n_state_services == STATE_SERVICES_MAX) {
		state_fail(s, "service KIND PROTO ADDRESS:PORT ...");
		return;
	}
	v.kind = (uint8_t)kind;
	v.proto = state_proto(s, w->at[2]);
	if (!state_end(s, w->at[3], &v.addr, &v.port))
		return;
	for (size_t i = 4; i < w->n && !s->failed; i++) {
		if (strcmp(w->at[i], "affinity") == 0 && i + 1 < w->n) {
			v.affinity_s = (uint32_t)strtoul(w->at[++i], NULL, 0);
		} else if (strcmp(w->at[i], "to") == 0 || strcmp(w->at[i], "outside") == 0 ||
			   strcmp(w->at[i], "sources") == 0) {
			list = w->at[i];
			v.outside_differs |= strcmp(list, "outside") == 0;
		} else if (strcmp(list, "to") == 0 && v.n_backends < STATE_BACKENDS_MAX) {
			state_end(s, w->at[i], &to[v.n_backends].addr, &to[v.n_backends].port);
			v.n_backends++;
		} else if (strcmp(list, "outside") == 0 && v.n_outside < STATE_BACKENDS_MAX) {
			state_end(s, w->at[i], &outside[v.n_outside].addr, &outside[v.n_outside].port);
			v.n_outside++;
		} else if (strcmp(list, "sources") == 0 && v.n_sources < STATE_BACKENDS_MAX) {
			state_net(s, w->at[i], &sources[v.n_sources].addr, &sources[v.n_sources].bits);
			v.n_sources++;
		} else {
			state_fail(s, "service does not know %s", w->at[i]);
		}
	}
	if (s->failed)
		return;
	ok(dataplane_service_set(world.dp, &v, err));
	state_services[n_state_services++] = v;
}

/* ---- policies ---- */

static inline void state_policy_write(struct packet_state *s, int pod)
{
	struct state_policy *p = &s->policies[pod];
	struct dp_addr addrs[DP_FAMILIES];

	pod_addrs_of(&state_pods[pod], addrs);
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct dp_policy policy = {
			.pod = addrs[f],
			.isolated_ingress = p->in,
			.isolated_egress = p->out,
			.rules = p->rules,
			.n_rules = p->n,
		};

		ok(dataplane_policy_set(world.dp, &policy, err));
	}
}

static inline bool state_direction(struct packet_state *s, const char *word, uint8_t *ret)
{
	if (!word || (strcmp(word, "ingress") != 0 && strcmp(word, "egress") != 0)) {
		state_fail(s, "ingress or egress: %s", word ? word : "end of line");
		return false;
	}
	*ret = word[0] == 'i' ? DP_INGRESS : DP_EGRESS;
	return true;
}

/* isolate POD ingress|egress */
static inline void state_isolate(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	uint8_t direction;

	if (!state_direction(s, w->n > 2 ? w->at[2] : NULL, &direction))
		return;
	if (direction == DP_INGRESS)
		s->policies[pod].in = true;
	else
		s->policies[pod].out = true;
	state_policy_write(s, pod);
}

/* allow|except POD ingress|egress PROTO[:PORT[-PORT]] NET, or identity N; isolates that direction */
static inline void state_allow(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	struct state_policy *p = &s->policies[pod];
	struct dp_policy_rule *rule = &p->rules[p->n];
	char *port, *end;

	if (w->n < 5 || p->n == STATE_RULES_MAX || !state_direction(s, w->at[2], &rule->direction)) {
		state_fail(s, "allow POD ingress|egress PROTO[:PORT[-PORT]] NET");
		return;
	}
	rule->deny = w->at[0][0] == 'e';
	port = strchr(w->at[3], ':');
	if (port) {
		*port++ = 0;
		rule->port = (uint16_t)strtoul(port, &end, 10);
		if (*end == '-')
			rule->end_port = (uint16_t)strtoul(end + 1, NULL, 10);
	}
	rule->proto = state_proto(s, w->at[3]);
	if (strcmp(w->at[4], "identity") == 0)
		rule->identity = w->n > 5 ? (uint32_t)strtoul(w->at[5], NULL, 0) : 0;
	else
		state_net(s, w->at[4], &rule->prefix, &rule->prefix_len);
	p->n++;
	if (rule->direction == DP_INGRESS)
		p->in = true;
	else
		p->out = true;
	if (!s->failed)
		state_policy_write(s, pod);
}

/* identity ADDRESS N; 0: none any more */
static inline void state_identity(struct packet_state *s, struct pt_words *w)
{
	uint32_t identity = w->n > 2 ? (uint32_t)strtoul(w->at[2], NULL, 0) : 0;
	struct dp_addr a;

	if (w->n < 3 || !state_addr(s, w->at[1], &a))
		return;
	if (identity)
		ok(dataplane_identity_set(world.dp, &a, identity, err));
	else
		ok(dataplane_identity_delete(world.dp, &a, err));
}

/* ---- translations and connections ---- */

static inline uint64_t state_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* arriving|leaving PROTO END > END becomes END [closing] [masquerade] [age S] */
static inline bool state_nat_words(struct packet_state *s, char **w, size_t n, struct k3c_nat_key *key,
				   struct k3c_nat *value)
{
	struct dp_addr src, dst, to;
	uint16_t sport, dport, port;

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
		if (strcmp(w[i], "closing") == 0)
			value->flags |= K3C_NAT_CLOSING;
		else if (strcmp(w[i], "closed") == 0)
			value->flags |= K3C_NAT_CLOSED;
		else if (strcmp(w[i], "masquerade") == 0)
			value->flags = (uint8_t)((value->flags & ~K3C_NAT_SERVICE) | K3C_NAT_MASQUERADE);
		else if (strcmp(w[i], "age") == 0 && i + 1 < n)
			value->last_ns -= strtoull(w[++i], NULL, 0) * 1000000000u;
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

/* As if a program had made it. */
static inline void state_translation(struct packet_state *s, struct pt_words *w)
{
	struct k3c_nat_key key;
	struct k3c_nat value;

	if (!state_nat_words(s, w->at + 1, w->n - 1, &key, &value))
		return;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NAT], &key, &value, BPF_ANY), 0);
	state_used(K3C_USED_BY_PODS | K3C_USED_BY_HOST);
}

/* made translation ...: it is there, leads there, and closes or not as said */
static inline void state_made_nat(struct packet_state *s, struct pt_words *w, bool wanted)
{
	const uint8_t judged = K3C_NAT_CLOSING | K3C_NAT_SERVICE | K3C_NAT_MASQUERADE | K3C_NAT_CLOSED;
	struct k3c_nat_key key;
	struct k3c_nat want, got;
	char a[INET6_ADDRSTRLEN];
	bool found;

	if (!state_nat_words(s, w->at + 2, w->n - 2, &key, &want))
		return;
	found = bpf_map_lookup_elem(world.dp->maps[DP_MAP_NAT], &key, &got) == 0;
	if (found != wanted) {
		state_fail(s, wanted ? "no such translation" : "there is such a translation");
	} else if (found && (memcmp(&got.addr, &want.addr, 16) != 0 || got.port != want.port ||
			     (got.flags & judged) != (want.flags & judged))) {
		inet_ntop(AF_INET6, got.addr.b, a, sizeof(a));
		state_fail(s, "the translation leads to [%s]:%u, flags %u", a, ntohs(got.port), got.flags);
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

/* PROTO END > END (who asked first) [closing] [cut] [age S]; the key has the smaller end first */
static inline bool state_conn_words(struct packet_state *s, char **w, size_t n, struct k3c_conn_key *key,
				    struct k3c_conn *value)
{
	struct dp_addr src, dst;
	uint16_t sport, dport;
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
		else if (strcmp(w[i], "age") == 0 && i + 1 < n)
			value->last_ns -= strtoull(w[++i], NULL, 0) * 1000000000u;
		else
			state_fail(s, "a connection does not know %s", w[i]);
	}
	return !s->failed;
}

static inline int state_conn_map(const struct k3c_conn_key *key)
{
	bool connection = key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP;

	return world.dp->maps[connection ? DP_MAP_CONN : DP_MAP_DATAGRAM];
}

static inline void state_connection(struct packet_state *s, struct pt_words *w)
{
	struct k3c_conn_key key;
	struct k3c_conn value;

	if (state_conn_words(s, w->at + 1, w->n - 1, &key, &value))
		assert_int_equal(bpf_map_update_elem(state_conn_map(&key), &key, &value, BPF_ANY), 0);
}

static inline void state_made_conn(struct packet_state *s, struct pt_words *w, bool wanted)
{
	struct k3c_conn_key key;
	struct k3c_conn want, got;
	bool found;

	if (!state_conn_words(s, w->at + 2, w->n - 2, &key, &want))
		return;
	found = bpf_map_lookup_elem(state_conn_map(&key), &key, &got) == 0;
	if (found != wanted)
		state_fail(s, wanted ? "no such connection" : "there is such a connection");
	else if (found &&
		 (got.initiator != want.initiator || (got.flags & (K3C_CONN_CLOSING | K3C_CONN_HOST)) !=
							     (want.flags & (K3C_CONN_CLOSING | K3C_CONN_HOST))))
		state_fail(s, "the connection: begun by end %u, flags %u", got.initiator, got.flags);
}

/* made|missing translation|connection ... */
static inline void state_made(struct packet_state *s, struct pt_words *w)
{
	bool wanted = strcmp(w->at[0], "made") == 0;

	if (w->n > 2 && strcmp(w->at[1], "translation") == 0)
		state_made_nat(s, w, wanted);
	else if (w->n > 2 && strcmp(w->at[1], "connection") == 0)
		state_made_conn(s, w, wanted);
	else
		state_fail(s, "made or missing: translation or connection");
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

/* ---- bandwidth ---- */

static inline void state_rate(int pod, struct k3c_rate *ret)
{
	uint32_t key = (uint32_t)state_pods[pod].ifindex;

	if (bpf_map_lookup_elem(world.dp->maps[DP_MAP_RATE], &key, ret) < 0)
		memset(ret, 0, sizeof(*ret));
}

static inline void state_link_flags(int pod, uint16_t set, uint16_t keep)
{
	struct dp_addr addrs[DP_FAMILIES];

	pod_addrs_of(&state_pods[pod], addrs);
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_addr key = dp_addr_in(&addrs[f]);
		struct k3c_endpoint e;

		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &key, &e), 0);
		e.flags = (uint16_t)((e.flags & keep) | set);
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &key, &e, BPF_EXIST), 0);
	}
}

/* limit POD ingress|egress BITS [owes MS]: the rows as a kernel without fq gets them, on every kernel */
static inline void state_limit(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	uint32_t key = (uint32_t)state_pods[pod].ifindex;
	struct k3c_rate row;
	uint8_t direction;

	if (w->n < 4 || !state_direction(s, w->at[2], &direction)) {
		state_fail(s, "limit POD ingress|egress BITS [owes MS]");
		return;
	}
	state_rate(pod, &row);
	row.limit[direction] = (struct k3c_rate_limit){ .bits_s = strtoull(w->at[3], NULL, 0) };
	if (w->n > 5)
		row.limit[direction].paid_ns = state_now() + strtoull(w->at[5], NULL, 0) * 1000000u;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &row, BPF_ANY), 0);
	state_link_flags(pod, direction == DP_INGRESS ? K3C_EP_LIMIT_INGRESS : K3C_EP_LIMIT_EGRESS, 0xffff);
}

/* charged POD ingress|egress BYTES: the last packet, which nothing was owed before, was counted as so many */
static inline void state_charged(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	const struct k3c_rate_limit *l;
	struct k3c_rate row;
	uint8_t direction;
	uint64_t time, begun;

	if (w->n < 4 || !state_direction(s, w->at[2], &direction))
		return;
	state_rate(pod, &row);
	l = &row.limit[direction];
	time = strtoull(w->at[3], NULL, 0) * 8000000000u / (l->bits_s ? l->bits_s : 1);
	begun = l->paid_ns - time;
	if (begun < s->before_ns || begun > s->after_ns)
		state_fail(s, "charged as %lld bytes more",
			   (long long)(begun - s->before_ns) * (long long)l->bits_s / 8000000000);
}

/* ---- the whole ---- */

static const struct {
	const char *word;
	void (*fn)(struct packet_state *s, struct pt_words *w);
} state_steps[] = {
	{ "service", state_service },       { "isolate", state_isolate },
	{ "allow", state_allow },           { "except", state_allow },
	{ "identity", state_identity },     { "translation", state_translation },
	{ "connection", state_connection }, { "made", state_made },
	{ "missing", state_made },          { "ports-taken", state_ports_taken },
	{ "limit", state_limit },           { "charged", state_charged },
	{ "moving", state_moving },
};

static inline bool state_step(struct packet_state *s, struct pt_words *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(state_steps); i++)
		if (strcmp(state_steps[i].word, w->at[0]) == 0) {
			state_steps[i].fn(s, w);
			return true;
		}
	return false;
}

static inline void state_clear(enum dp_map m)
{
	_Alignas(8) char key[64];

	while (bpf_map_get_next_key(world.dp->maps[m], NULL, key) == 0)
		assert_int_equal(bpf_map_delete_elem(world.dp->maps[m], key), 0);
}

static inline void state_begin(struct packet_state *s, const char *file, const char *what)
{
	memset(s, 0, sizeof(*s));
	s->file = file;
	s->next_service = 1;
	snprintf(s->what, sizeof(s->what), "%s", what);
	while (n_state_services)
		ok(dataplane_service_delete(world.dp, &state_services[--n_state_services], err));
	for (size_t i = 0; i < STATE_PODS; i++) {
		struct dp_addr addrs[DP_FAMILIES];

		pod_addrs_of(&state_pods[i], addrs);
		for (int f = 0; f < DP_FAMILIES; f++) {
			ok(dataplane_policy_delete(world.dp, &addrs[f], err));
			ok(dataplane_identity_delete(world.dp, &addrs[f], err));
		}
		state_link_flags((int)i, 0, 0);
	}
	state_meta_flags(0, ~(uint32_t)K3C_META_MOVING);
	state_used(0);
	state_clear(DP_MAP_CONN);
	state_clear(DP_MAP_DATAGRAM);
	state_clear(DP_MAP_NAT);
	state_clear(DP_MAP_FRAG);
	state_clear(DP_MAP_AFFINITY);
	state_clear(DP_MAP_RATE);
}

/* What all cases find: see README of the packet files. */
static inline void state_open(void)
{
	static struct dp_net direct[2];
	struct dataplane_options o = world_options();

	direct[0] = (struct dp_net){ ip("198.51.100.0"), 96 + 24 };
	direct[1] = (struct dp_net){ ip("2001:db8:99::"), 48 };
	world_few_snat_ports();
	o.xdp = DP_XDP_GENERIC; /* its programs are loaded only then */
	o.direct_nets = direct;
	o.n_direct_nets = ARRAY_SIZE(direct);
	ok(dataplane_open(&o, &world.dp, err));
	state_meta_flags(0, ~(uint32_t)K3C_META_XDP); /* no packet of ours has been there */
	pod_make_dual(&state_pods[0], "packet-a", "10.42.4.1", "fd42::1", 0);
	pod_make_dual(&state_pods[1], "packet-b", "10.42.4.2", "fd42::2", 0);
}

static inline void state_close(void)
{
	for (size_t i = 0; i < STATE_PODS; i++)
		pod_drop(&state_pods[i]);
	dataplane_close(world.dp);
}
