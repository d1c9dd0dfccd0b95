/* SPDX-License-Identifier: Apache-2.0 */
/* What a case of packets/ sets up before its packets, and looks up behind them: services, policies and identities by
 * the dataplane's own functions, translations, connections and fragments in the maps. Three pods, `a`, `b` and `c`, and
 * the node's link `up0` are there for all cases; everything else is forgotten when the next one begins. */
#pragma once

#include "bpf/include/tail.h"
#include "tests/dataplane/packet_events.h"
#include "tests/dataplane/packet_flows.h"

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

static inline void state_services_gone(struct packet_state *s, struct pt_words *w)
{
	while (n_state_services)
		ok(dataplane_service_delete(world.dp, &state_services[--n_state_services], err));
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

static struct dp_addr state_identities[STATE_IDENTITIES_MAX];
static size_t n_state_identities;

/* identity ADDRESS N; 0: none any more */
static inline void state_identity(struct packet_state *s, struct pt_words *w)
{
	uint32_t identity = w->n > 2 ? (uint32_t)strtoul(w->at[2], NULL, 0) : 0;
	struct dp_addr a;

	if (w->n < 3 || n_state_identities == STATE_IDENTITIES_MAX || !state_addr(s, w->at[1], &a)) {
		state_fail(s, "identity ADDRESS N");
		return;
	}
	state_identities[n_state_identities++] = a;
	if (identity)
		ok(dataplane_identity_set(world.dp, &a, identity, err));
	else
		ok(dataplane_identity_delete(world.dp, &a, err));
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

/* limit POD ingress|egress BITS|gone [burst MS] [owes MS|saved MS]: the rows as a kernel without fq gets them */
static inline void state_limit(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	uint32_t key = (uint32_t)state_pods[pod].ifindex;
	struct k3c_rate_limit *l;
	struct k3c_rate row;
	uint8_t direction;

	if (w->n < 4 || !state_direction(s, w->at[2], &direction)) {
		state_fail(s, "limit POD ingress|egress BITS [burst MS] [owes MS|saved MS]");
		return;
	}
	state_rate(pod, &row);
	l = &row.limit[direction];
	*l = (struct k3c_rate_limit){ .bits_s = strtoull(w->at[3], NULL, 0) };
	for (size_t i = 4; i + 1 < w->n; i += 2) {
		uint64_t ns = strtoull(w->at[i + 1], NULL, 0) * 1000000u;

		if (strcmp(w->at[i], "burst") == 0)
			l->burst_ns = ns;
		else if (strcmp(w->at[i], "owes") == 0)
			l->paid_ns = state_now() + ns;
		else if (strcmp(w->at[i], "saved") == 0)
			l->paid_ns = state_now() - ns;
		else
			state_fail(s, "a limit does not know %s", w->at[i]);
	}
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &row, BPF_ANY), 0);
	if (strcmp(w->at[3], "gone") == 0)
		assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_RATE], &key), 0);
	state_link_flags(pod, direction == DP_INGRESS ? K3C_EP_LIMIT_INGRESS : K3C_EP_LIMIT_EGRESS, 0xffff);
}

/* charged POD ingress|egress BYTES: the last packet was counted as so many. What was owed or saved before counts,
 * unless that was more than may be saved up: then as of the packet. */
static inline void state_charged(struct packet_state *s, struct pt_words *w)
{
	int pod = state_pod(s, w->n > 1 ? w->at[1] : NULL);
	const struct k3c_rate_limit *l, *before;
	struct k3c_rate row;
	uint8_t direction;
	uint64_t time, begun;

	if (w->n < 4 || !state_direction(s, w->at[2], &direction))
		return;
	state_rate(pod, &row);
	l = &row.limit[direction];
	before = &s->rate_before[pod].limit[direction];
	time = strtoull(w->at[3], NULL, 0) * 8000000000u / (l->bits_s ? l->bits_s : 1);
	begun = l->paid_ns - time;
	if (before->paid_ns + l->burst_ns >= s->before_ns) {
		if (begun != before->paid_ns)
			state_fail(s, "charged as %lld ns more", (long long)(begun - before->paid_ns));
		return;
	}
	begun += l->burst_ns;
	if (begun < s->before_ns || begun > s->after_ns)
		state_fail(s, "charged as %lld bytes more",
			   (long long)(begun - s->before_ns) * (long long)l->bits_s / 8000000000);
}

/* ---- sockets ---- */

#define STATE_SOCKETS_MAX 8

static int state_sockets[STATE_SOCKETS_MAX];
static size_t n_state_sockets;

static inline int state_namespace(struct packet_state *s, const char *word)
{
	return strcmp(word, "node") == 0 ? world_host_ns() : state_pods[state_pod(s, word)].ns;
}

/* listens POD|node PORT [udp]: in both families */
static inline void state_listens(struct packet_state *s, struct pt_words *w)
{
	bool udp = w->n == 4 && strcmp(w->at[3], "udp") == 0;

	if (w->n != (udp ? 4 : 3) || n_state_sockets == STATE_SOCKETS_MAX) {
		state_fail(s, "listens POD|node PORT [udp]");
		return;
	}
	state_sockets[n_state_sockets++] = server_in(state_namespace(s, w->at[1]), udp ? SOCK_DGRAM : SOCK_STREAM,
						     "::", (uint16_t)strtoul(w->at[2], NULL, 10));
}

/* connected POD|node END > END [udp]: as if one end had begun, and the other answered (TCP_REPAIR: no packet is sent)
 */
static inline void state_connected(struct packet_state *s, struct pt_words *w)
{
	struct dp_addr addr[2];
	union any_addr end[2];
	char text[INET6_ADDRSTRLEN];
	uint16_t port[2];
	int fd, ns, on = 1;
	bool udp = w->n == 6 && strcmp(w->at[5], "udp") == 0;

	if (w->n != (udp ? 6 : 5) || n_state_sockets == STATE_SOCKETS_MAX ||
	    !state_end(s, w->at[2], &addr[0], &port[0]) || !state_end(s, w->at[4], &addr[1], &port[1])) {
		state_fail(s, "connected POD|node END > END [udp]");
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct k3c_addr a = dp_addr_in(&addr[i]);

		if (dp_addr_is_v4(&a))
			inet_ntop(AF_INET, addr[i].b + 12, text, sizeof(text));
		else
			inet_ntop(AF_INET6, addr[i].b, text, sizeof(text));
		end[i] = any_of(text, port[i]);
	}
	ns = state_namespace(s, w->at[1]);
	fd = sock_in_domain(ns, end[0].sa.sa_family, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	state_sockets[n_state_sockets++] = fd;
	if (!udp)
		assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, &end[0].sa, any_len(&end[0])), 0);
	assert_int_equal(connect(fd, &end[1].sa, any_len(&end[1])), 0);
}

/* stranger POD: nobody knows its namespace, until the case ends */
static inline void state_stranger(struct packet_state *s, struct pt_words *w)
{
	pod_nsid_forget(world.dp, state_pods[state_pod(s, w->n > 1 ? w->at[1] : NULL)].ifindex);
}

/* ---- the node ---- */

/* node-address ADDRESS: one more, of another link */
static inline void state_node_address(struct packet_state *s, struct pt_words *w)
{
	uint32_t value = 1;
	struct dp_addr a;
	struct k3c_addr key;

	if (w->n != 2 || !state_addr(s, w->at[1], &a))
		return;
	key = dp_addr_in(&a);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NODE], &key, &value, BPF_NOEXIST), 0);
	s->node_address = key;
}

/* uplink POD ADDRESS: that pod's link is one of the node's to the world, with an address of one family */
static inline void state_uplink(struct packet_state *s, struct pt_words *w)
{
	struct k3c_link link = { 0 };
	struct dp_addr a;
	uint32_t key;

	if (w->n != 3 || !state_addr(s, w->at[2], &a))
		return;
	key = (uint32_t)state_pods[state_pod(s, w->at[1])].ifindex;
	link.addr[strchr(w->at[2], ':') ? K3C_V6 : K3C_V4] = dp_addr_in(&a);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_LINK], &key, &link, BPF_ANY), 0);
}

/* own-nameless: the host's own way to services knows no address of the node, until a service is set */
static inline void state_own_nameless(struct packet_state *s, struct pt_words *w)
{
	struct k3c_own own;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_OWN], &zero, &own), 0);
	memset(own.addr, 0, sizeof(own.addr));
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_OWN], &zero, &own, BPF_ANY), 0);
}

/* xdp: as where packets may have been translated before tc gets them */
static inline void state_xdp(struct packet_state *s, struct pt_words *w)
{
	state_meta_flags(K3C_META_XDP, ~0u);
}

/* pod-pass-gone: whoever goes on to pod_pass is lost, as while programs are exchanged */
static inline void state_pod_pass_gone(struct packet_state *s, struct pt_words *w)
{
	uint32_t key = K3C_TAIL_POD_PASS;

	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_TAIL], &key), 0);
	s->pod_pass_gone = true;
}

static inline void state_pod_pass_back(struct packet_state *s)
{
	uint32_t key = K3C_TAIL_POD_PASS;

	if (s->pod_pass_gone)
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_TAIL], &key,
						     &world.dp->programs[DP_PROGRAM_POD_PASS], BPF_ANY),
				 0);
}

/* unused: no program remembers to have translated */
static inline void state_unused(struct packet_state *s, struct pt_words *w)
{
	s->used = 0;
	state_used(0);
}

/* ---- the whole ---- */

static const struct {
	const char *word;
	void (*fn)(struct packet_state *s, struct pt_words *w);
} state_steps[] = {
	{ "service", state_service },
	{ "isolate", state_isolate },
	{ "allow", state_allow },
	{ "except", state_allow },
	{ "identity", state_identity },
	{ "translation", state_translation },
	{ "connection", state_connection },
	{ "made", state_made },
	{ "missing", state_made },
	{ "ports-taken", state_ports_taken },
	{ "limit", state_limit },
	{ "charged", state_charged },
	{ "moving", state_moving },
	{ "ended", state_ended },
	{ "stuck", state_stuck },
	{ "waits", state_waits },
	{ "services-gone", state_services_gone },
	{ "node-address", state_node_address },
	{ "uplink", state_uplink },
	{ "xdp", state_xdp },
	{ "unused", state_unused },
	{ "pod-pass-gone", state_pod_pass_gone },
	{ "listens", state_listens },
	{ "connected", state_connected },
	{ "stranger", state_stranger },
	{ "monitor", events_monitor },
	{ "verdicts", state_verdicts },
	{ "own-nameless", state_own_nameless },
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
	const struct k3c_verdict nobody = { 0 };
	struct k3c_closed closed;

	if (s->node_address.q[1])
		bpf_map_delete_elem(world.dp->maps[DP_MAP_NODE], &s->node_address);
	state_pod_pass_back(s);
	memset(s, 0, sizeof(*s));
	s->file = file;
	s->next_service = 1;
	snprintf(s->what, sizeof(s->what), "%s", what);
	state_services_gone(s, NULL);
	while (n_state_identities)
		ok(dataplane_identity_delete(world.dp, &state_identities[--n_state_identities], err));
	for (size_t i = 0; i < STATE_PODS; i++) {
		struct dp_addr addrs[DP_FAMILIES];

		pod_addrs_of(&state_pods[i], addrs);
		for (int f = 0; f < DP_FAMILIES; f++)
			ok(dataplane_policy_delete(world.dp, &addrs[f], err));
		state_link_flags((int)i, 0, 0);
		bpf_map_delete_elem(world.dp->maps[DP_MAP_LINK], &state_pods[i].ifindex);
	}
	state_meta_flags(0, 0);
	state_used(0);
	state_verdicts_fill(&nobody);
	state_clear(DP_MAP_CONN);
	state_clear(DP_MAP_DATAGRAM);
	state_clear(DP_MAP_POLICED);
	state_clear(DP_MAP_NAT);
	state_clear(DP_MAP_UNASSURED);
	state_clear(DP_MAP_FRAG);
	state_clear(DP_MAP_AFFINITY);
	state_clear(DP_MAP_RATE);
	while (n_state_sockets)
		close(state_sockets[--n_state_sockets]);
	(void)pod_nsid_repair(world.dp);
	while (bpf_map_lookup_and_delete_elem(world.dp->maps[DP_MAP_CLOSED], NULL, &closed) == 0)
		;
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
	o.pod_nets[DP_V6].bits = 32; /* some with the number of IPv6 where links without a header need it */
	ok(dataplane_open(&o, &world.dp, err));
	state_meta_flags(0, ~(uint32_t)K3C_META_XDP); /* no packet of ours has been there */
	pod_make_dual(&state_pods[0], "packet-a", "10.42.4.1", "fd42::1", 0);
	pod_make_dual(&state_pods[1], "packet-b", "10.42.4.2", "fd42::2", 0);
	pod_make_dual(&state_pods[2], "packet-c", "10.42.4.3", "fd42::3", 0);
}

static inline void state_close(void)
{
	for (size_t i = 0; i < STATE_PODS; i++)
		pod_drop(&state_pods[i]);
	dataplane_close(world.dp);
}
