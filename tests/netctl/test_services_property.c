/* SPDX-License-Identifier: Apache-2.0 */
/* Random Services and EndpointSlices against a slow reference that answers "which backends may serve a connection from
 * this place to that address and port" straight from what Kubernetes documents of its service proxy. It works on the
 * objects as generated, one connection at a time, and shares nothing with the translation. */
#include "tests/netctl/support.h"
#include "userspace/base/clock.h"
#include "userspace/netctl/services.h"

enum { PORTS = 3, SLICES = 4, ENDPOINTS = 5, ADDRS = 6, EXTERNAL = 2, RANGES = 3, CLIENTS = 4 };
#define ROUNDS 3000
#define NODE_PORT_BASE 30000
#define TARGET_BASE 8000

static uint64_t seed_state, seed_first;

static unsigned rnd(unsigned n)
{
	seed_state = seed_state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed_state >> 33) % n;
}

/* ---- objects ---- */

enum type { CLUSTER, NODE_PORT, BALANCER, HEADLESS, NAME };
enum tri { ABSENT, YES, NO };

/* What an endpoint's object says; of one address the same in every slice, but for `node` and `ready`. */
struct r_endpoint {
	unsigned addr;
	unsigned node; /* 0: absent; 1: here; 2: elsewhere */
	enum tri ready, serving, terminating;
	unsigned node_hints, zone_hints; /* bits: 1 here, 2 elsewhere */
};

struct r_slice {
	unsigned family; /* 4, 6; 0: names */
	unsigned ports;  /* a bit for each of the Service's that it has */
	unsigned shift;  /* its pods resolve a named port to another number */
	unsigned n;
	struct r_endpoint endpoints[ENDPOINTS];
};

struct r_port {
	unsigned proto; /* TCP, UDP, SCTP */
	unsigned port, node_port;
};

struct r_range {
	unsigned family, net, bits; /* 10.net.0.0/16 or fd10:net::/32; bits 0: everybody */
};

struct world {
	enum type type;
	bool families[2];
	unsigned n_ports, n_slices, n_ranges;
	struct r_port ports[PORTS];
	struct r_slice slices[SLICES];
	bool external[2][EXTERNAL]; /* of its externalIPs, by family */
	unsigned ingress[2];        /* 0: none, 1: VIP, 2: Proxy, 3: VIP without a mode */
	bool internal_local, external_local, annotated;
	struct r_range ranges[RANGES];
	unsigned affinity; /* 0: none, 1: default, 2: 77 s */
};

/* ---- where connections go ---- */

enum place { FROM_POD, FROM_HOST, FROM_OUTSIDE, PLACES };
enum target { TO_CLUSTER, TO_EXTERNAL_0, TO_EXTERNAL_1, TO_INGRESS, TO_NODE, TARGETS };

static void target_text(unsigned family, enum target t, char *ret, size_t size)
{
	static const char *const texts[2][TARGETS] = {
		{ "10.43.0.5", "192.0.2.10", "192.0.2.11", "192.0.2.20", "192.0.2.1" },
		{ "fd43::5", "2001:db8::10", "2001:db8::11", "2001:db8::20", "2001:db8::1" },
	};

	snprintf(ret, size, "%s", texts[family][t]);
}

static void client_text(unsigned family, unsigned client, char *ret, size_t size)
{
	snprintf(ret, size, family ? "fd10:%u::9" : "10.%u.0.9", client);
}

/* ---- the reference ---- */

enum verdict { NOT_OURS, REFUSED, DROPPED, SERVED };

struct answer {
	enum verdict verdict;
	unsigned n;
	struct {
		unsigned addr, port;
	} backends[ADDRS * 2];
};

static bool ref_is(enum tri t, bool otherwise)
{
	return t == ABSENT ? otherwise : t == YES;
}

struct ref_candidate {
	unsigned addr, port;
	bool local, ready, serving, terminating;
	unsigned node_hints, zone_hints;
};

/* Every endpoint of the port, each address and port once: on this node if any slice says so, ready if one of those
 * does. */
static unsigned ref_candidates(const struct world *w, unsigned port, unsigned family, struct ref_candidate *ret)
{
	unsigned n = 0;

	for (unsigned s = 0; s < w->n_slices; s++) {
		const struct r_slice *slice = &w->slices[s];

		if (slice->family != (family ? 6u : 4u) || !(slice->ports >> port & 1))
			continue;
		for (unsigned e = 0; e < slice->n; e++) {
			const struct r_endpoint *x = &slice->endpoints[e];
			struct ref_candidate c = { x->addr,
						   TARGET_BASE + port + slice->shift,
						   x->node == 1,
						   ref_is(x->ready, true),
						   ref_is(x->serving, true),
						   ref_is(x->terminating, false),
						   x->node_hints,
						   x->zone_hints };
			unsigned at = 0;

			while (at < n && (ret[at].addr != c.addr || ret[at].port != c.port))
				at++;
			if (at == n)
				ret[n++] = c;
			else if (c.local > ret[at].local || (c.local == ret[at].local && c.ready > ret[at].ready))
				ret[at] = c;
		}
	}
	return n;
}

static bool ref_everybody(const struct ref_candidate *c, unsigned n, bool nodes, unsigned *ret_ours)
{
	unsigned ready = 0;

	*ret_ours = 0;
	for (unsigned i = 0; i < n; i++) {
		unsigned hints = nodes ? c[i].node_hints : c[i].zone_hints;

		if (!c[i].ready)
			continue;
		ready++;
		if (!hints)
			return false;
		*ret_ours += hints & 1;
	}
	return ready > 0;
}

static bool ref_usable(const struct ref_candidate *c, const struct ref_candidate *all, unsigned n, bool local)
{
	bool any_ready = false, nodes, zones;
	unsigned ours_node, ours_zone;

	for (unsigned i = 0; i < n; i++)
		any_ready = any_ready || (all[i].ready && (!local || all[i].local));
	if (local && !c->local)
		return false;
	if (!any_ready)
		return c->serving && c->terminating;
	if (!c->ready || local)
		return c->ready;
	nodes = ref_everybody(all, n, true, &ours_node);
	if (nodes && ours_node)
		return c->node_hints & 1;
	zones = ref_everybody(all, n, false, &ours_zone);
	if (zones && ours_zone)
		return c->zone_hints & 1;
	return true;
}

static void ref_backends(const struct world *w, unsigned port, unsigned family, bool local, struct answer *ret)
{
	struct ref_candidate all[SLICES * ENDPOINTS];
	unsigned n = ref_candidates(w, port, family, all);

	for (unsigned i = 0; i < n; i++)
		if (ref_usable(&all[i], all, n, local)) {
			ret->backends[ret->n].addr = all[i].addr;
			ret->backends[ret->n++].port = all[i].port;
		}
}

static bool ref_address_is_served(const struct world *w, unsigned family, enum target t, bool node_port)
{
	if (w->type == HEADLESS || w->type == NAME || !w->families[family])
		return false;
	if (node_port)
		return t == TO_NODE && (w->type == NODE_PORT || w->type == BALANCER);
	switch (t) {
	case TO_CLUSTER:
		return true;
	case TO_EXTERNAL_0:
	case TO_EXTERNAL_1:
		return w->external[family][t - TO_EXTERNAL_0];
	case TO_INGRESS:
		return w->type == BALANCER && (w->ingress[family] == 1 || w->ingress[family] == 3);
	default:
		return false;
	}
}

static bool ref_reached_from_outside(const struct world *w)
{
	bool any = w->type == NODE_PORT || w->type == BALANCER;

	for (unsigned f = 0; f < 2; f++)
		for (unsigned i = 0; i < EXTERNAL; i++)
			any = any || w->external[f][i];
	return any;
}

static bool ref_may_come(const struct world *w, unsigned family, unsigned client)
{
	if (w->type != BALANCER || !w->n_ranges)
		return true;
	for (unsigned i = 0; i < w->n_ranges; i++)
		if (w->ranges[i].family == family && (!w->ranges[i].bits || w->ranges[i].net == client))
			return true;
	return false;
}

static struct answer ref_ask(const struct world *w, enum place from, unsigned client, unsigned family, enum target t,
			     unsigned port, bool node_port)
{
	struct answer a = { 0 };
	bool local = t == TO_CLUSTER ? w->internal_local
				     : from == FROM_OUTSIDE && w->external_local && ref_reached_from_outside(w);

	if (!ref_address_is_served(w, family, t, node_port))
		return a;
	if (t == TO_INGRESS && from == FROM_OUTSIDE && !ref_may_come(w, family, client)) {
		a.verdict = DROPPED;
		return a;
	}
	ref_backends(w, port, family, local, &a);
	a.verdict = a.n ? SERVED : local && t != TO_CLUSTER ? DROPPED : REFUSED;
	return a;
}

/* ---- objects as text ---- */

static const char *const proto_names[] = { "TCP", "UDP", "SCTP" };
static const uint8_t proto_numbers[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };

static const char *comma(bool *first)
{
	bool was = *first;

	*first = false;
	return was ? "" : ",";
}

static void write_addresses(struct buf *out, const struct world *w)
{
	bool first = true;
	char text[64];

	if (w->type == HEADLESS) {
		buf_printf(out, "\"clusterIP\":\"None\",\"clusterIPs\":[\"None\"]");
		return;
	}
	for (unsigned f = 0; f < 2; f++) {
		if (!w->families[f])
			continue;
		target_text(f, TO_CLUSTER, text, sizeof(text));
		if (first)
			buf_printf(out, "\"clusterIP\":\"%s\",\"clusterIPs\":[", text);
		buf_printf(out, "%s\"%s\"", comma(&first), text);
	}
	buf_printf(out, "],\"externalIPs\":[");
	first = true;
	for (unsigned f = 0; f < 2; f++)
		for (unsigned i = 0; i < EXTERNAL; i++) {
			target_text(f, TO_EXTERNAL_0 + i, text, sizeof(text));
			if (w->external[f][i])
				buf_printf(out, "%s\"%s\"", comma(&first), text);
		}
	buf_printf(out, "]");
}

static void write_ranges(struct buf *out, const struct world *w, const char *quote)
{
	for (unsigned i = 0; i < w->n_ranges; i++) {
		const struct r_range *r = &w->ranges[i];

		buf_printf(out, "%s%s", i ? "," : "", quote);
		if (!r->bits)
			buf_printf(out, "%s", r->family ? "::/0" : "0.0.0.0/0");
		else
			buf_printf(out, r->family ? "fd10:%u::/32" : "10.%u.0.0/16", r->net);
		buf_printf(out, "%s", quote);
	}
}

static void write_service(struct buf *out, const struct world *w)
{
	static const char *const types[] = { "ClusterIP", "NodePort", "LoadBalancer", "ClusterIP", "ExternalName" };
	static const char *const modes[] = { "", ",\"ipMode\":\"VIP\"", ",\"ipMode\":\"Proxy\"", "" };
	bool first = true;
	char text[64];

	buf_printf(out, "{\"metadata\":{\"annotations\":{");
	if (w->annotated && w->n_ranges) {
		buf_printf(out, "\"service.beta.kubernetes.io/load-balancer-source-ranges\":\"");
		write_ranges(out, w, "");
		buf_printf(out, "\"");
	}
	buf_printf(out, "}},\"spec\":{\"type\":\"%s\",", types[w->type]);
	write_addresses(out, w);
	if (!w->annotated && w->n_ranges) {
		buf_printf(out, ",\"loadBalancerSourceRanges\":[");
		write_ranges(out, w, "\"");
		buf_printf(out, "]");
	}
	buf_printf(out, ",\"internalTrafficPolicy\":\"%s\",\"externalTrafficPolicy\":\"%s\"",
		   w->internal_local ? "Local" : "Cluster", w->external_local ? "Local" : "Cluster");
	if (w->affinity)
		buf_printf(out, ",\"sessionAffinity\":\"ClientIP\"%s",
			   w->affinity == 2 ? ",\"sessionAffinityConfig\":{\"clientIP\":{\"timeoutSeconds\":77}}" : "");
	buf_printf(out, ",\"ports\":[");
	for (unsigned p = 0; p < w->n_ports; p++) {
		buf_printf(out, "%s{\"name\":\"p%u\",\"port\":%u,\"protocol\":\"%s\"", p ? "," : "", p,
			   w->ports[p].port, proto_names[w->ports[p].proto]);
		if (w->type == NODE_PORT || w->type == BALANCER)
			buf_printf(out, ",\"nodePort\":%u", w->ports[p].node_port);
		buf_printf(out, "}");
	}
	buf_printf(out, "]},\"status\":{\"loadBalancer\":{\"ingress\":[");
	for (unsigned f = 0; f < 2; f++) {
		target_text(f, TO_INGRESS, text, sizeof(text));
		if (w->type == BALANCER && w->ingress[f])
			buf_printf(out, "%s{\"ip\":\"%s\"%s}", comma(&first), text, modes[w->ingress[f]]);
	}
	buf_printf(out, "]}}}");
}

static void write_tri(struct buf *out, bool *first, const char *name, enum tri t)
{
	if (t != ABSENT)
		buf_printf(out, "%s\"%s\":%s", comma(first), name, t == YES ? "true" : "false");
}

static void write_hints(struct buf *out, bool *first, const char *name, unsigned bits, const char *ours,
			const char *other)
{
	if (!bits)
		return;
	buf_printf(out, "%s\"%s\":[", comma(first), name);
	if (bits & 2)
		buf_printf(out, "{\"name\":\"%s\"}%s", other, bits & 1 ? "," : "");
	if (bits & 1)
		buf_printf(out, "{\"name\":\"%s\"}", ours);
	buf_printf(out, "]");
}

static void write_endpoint(struct buf *out, const struct r_slice *s, const struct r_endpoint *e)
{
	bool first = true;

	if (!s->family)
		buf_printf(out, "{\"addresses\":[\"host%u.example.org\"]", e->addr);
	else
		buf_printf(out, s->family == 6 ? "{\"addresses\":[\"fd42::%u\"]" : "{\"addresses\":[\"10.42.0.%u\"]",
			   e->addr + 2);
	if (e->node)
		buf_printf(out, ",\"nodeName\":\"%s\"", e->node == 1 ? "here" : "there");
	buf_printf(out, ",\"conditions\":{");
	write_tri(out, &first, "ready", e->ready);
	write_tri(out, &first, "serving", e->serving);
	write_tri(out, &first, "terminating", e->terminating);
	buf_printf(out, "},\"hints\":{");
	first = true;
	write_hints(out, &first, "forNodes", e->node_hints, "here", "there");
	write_hints(out, &first, "forZones", e->zone_hints, "east", "west");
	buf_printf(out, "}}");
}

static void write_slice(struct buf *out, const struct world *w, const struct r_slice *s)
{
	bool first = true;

	buf_printf(out, "{\"addressType\":\"%s\",\"ports\":[",
		   s->family == 6   ? "IPv6"
		   : s->family == 4 ? "IPv4"
				    : "FQDN");
	for (unsigned p = 0; p < w->n_ports; p++)
		if (s->ports >> p & 1)
			buf_printf(out, "%s{\"name\":\"p%u\",\"port\":%u,\"protocol\":\"%s\"}", comma(&first), p,
				   TARGET_BASE + p + s->shift, proto_names[w->ports[p].proto]);
	buf_printf(out, "],\"endpoints\":[");
	for (unsigned e = 0; e < s->n; e++) {
		buf_printf(out, "%s", e ? "," : "");
		write_endpoint(out, s, &s->endpoints[e]);
	}
	buf_printf(out, "]}");
}

/* ---- chance ---- */

static void random_endpoint(struct r_endpoint *e, bool hints)
{
	*e = (struct r_endpoint){
		.node = rnd(3),
		.ready = rnd(3),
		.serving = rnd(3),
		.terminating = rnd(2) ? rnd(3) : ABSENT,
	};
	if (rnd(3) == 0)
		*e = (struct r_endpoint){ .node = rnd(3), .ready = NO, .serving = YES, .terminating = YES };
	if (!hints)
		return;
	e->node_hints = rnd(8) ? rnd(3) + 1 : 0;
	e->zone_hints = rnd(8) ? rnd(3) + 1 : 0;
}

static void random_slices(struct world *w)
{
	struct r_endpoint known[2][ADDRS];
	bool hints = rnd(2);

	for (unsigned f = 0; f < 2; f++)
		for (unsigned i = 0; i < ADDRS; i++)
			random_endpoint(&known[f][i], hints);
	w->n_slices = rnd(SLICES + 1);
	for (unsigned s = 0; s < w->n_slices; s++) {
		struct r_slice *x = &w->slices[s];

		x->family = rnd(8) ? (rnd(2) ? 6 : 4) : 0;
		x->ports = rnd(4) ? ~0u : rnd(1u << PORTS);
		x->shift = rnd(3) ? 0 : 100;
		x->n = rnd(ENDPOINTS + 1);
		for (unsigned e = 0; e < x->n; e++) {
			unsigned addr = rnd(ADDRS);

			x->endpoints[e] = known[x->family == 6][addr];
			x->endpoints[e].addr = addr;
			/* On its way from one slice to the other. */
			if (rnd(8) == 0)
				x->endpoints[e].node = rnd(3);
			if (rnd(8) == 0)
				x->endpoints[e].ready = rnd(3);
		}
	}
}

static void random_world(struct world *w)
{
	*w = (struct world){
		.type = rnd(8)   ? rnd(3)
			: rnd(2) ? HEADLESS
				 : NAME,
		.families = { true, true },
		.n_ports = 1 + rnd(PORTS),
		.internal_local = rnd(3) == 0,
		.external_local = rnd(2),
		.annotated = rnd(2),
		.n_ranges = rnd(3) ? 0 : 1 + rnd(RANGES),
		.affinity = rnd(3),
	};
	if (rnd(2))
		w->families[rnd(2)] = false;
	for (unsigned p = 0; p < w->n_ports; p++)
		w->ports[p] = (struct r_port){ rnd(3), 80 + p / (1 + rnd(2)), NODE_PORT_BASE + p };
	/* The API lets no two have the same port and protocol. */
	for (unsigned p = 1; p < w->n_ports; p++)
		for (unsigned q = 0; q < p; q++)
			if (w->ports[p].port == w->ports[q].port && w->ports[p].proto == w->ports[q].proto)
				w->ports[p].port = 90 + p;
	for (unsigned f = 0; f < 2; f++) {
		w->ingress[f] = rnd(4);
		for (unsigned i = 0; i < EXTERNAL; i++)
			w->external[f][i] = rnd(4) == 0;
	}
	for (unsigned i = 0; i < w->n_ranges; i++)
		w->ranges[i] = (struct r_range){ rnd(2), rnd(CLIENTS), rnd(6) };
	random_slices(w);
}

/* ---- the translation, asked the same ---- */

static bool made_may_come(const struct dp_service *f, const struct dp_addr *client)
{
	for (size_t i = 0; i < f->n_sources; i++)
		if (address_in(client, &f->sources[i].addr, f->sources[i].bits))
			return true;
	return !f->n_sources;
}

static const struct dp_service *made_find(const struct services_result *r, const struct dp_addr *addr, uint16_t port,
					  uint8_t proto, bool any)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct dp_service *f = &r->frontends[i];
		struct dp_addr zero = address_any(address_family(addr));

		if (f->proto == proto && f->port == port && address_equal(&f->addr, any ? &zero : addr)) {
			assert_int_equal(any, f->kind == DP_NODE_PORT);
			return f;
		}
	}
	return NULL;
}

static struct answer made_ask(const struct services_result *r, enum place from, const struct dp_addr *client,
			      const struct dp_addr *addr, uint16_t port, uint8_t proto)
{
	const struct dp_service *f = made_find(r, addr, port, proto, false);
	const struct dp_backend *list;
	struct answer a = { 0 };
	bool outside;

	if (!f)
		f = made_find(r, addr, port, proto, true);
	if (!f)
		return a;
	outside = from == FROM_OUTSIDE && f->outside_differs;
	list = outside ? f->outside : f->backends;
	a.n = (unsigned)(outside ? f->n_outside : f->n_backends);
	if (from == FROM_OUTSIDE && !made_may_come(f, client))
		a.n = 0, outside = true;
	assert_true(a.n <= ADDRS * 2);
	for (unsigned i = 0; i < a.n; i++) {
		a.backends[i].addr = list[i].addr.b[15] - 2u;
		a.backends[i].port = list[i].port;
		assert_int_equal(address_family(&list[i].addr), address_family(addr));
		assert_true(!i || services_backend_cmp(&list[i - 1], &list[i]) < 0);
	}
	a.verdict = a.n ? SERVED : outside ? DROPPED : REFUSED;
	return a;
}

static bool answer_has(const struct answer *a, unsigned addr, unsigned port)
{
	for (unsigned i = 0; i < a->n; i++)
		if (a->backends[i].addr == addr && a->backends[i].port == port)
			return true;
	return false;
}

static bool answer_equal(const struct answer *a, const struct answer *b)
{
	if (a->verdict != b->verdict || a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (!answer_has(b, a->backends[i].addr, a->backends[i].port))
			return false;
	return true;
}

/* ---- rounds ---- */

static unsigned counts[4];

static void probe(const struct world *w, const struct services_result *r, const char *what, unsigned port,
		  bool node_port)
{
	for (unsigned i = 0; i < PLACES * CLIENTS * 2 * TARGETS; i++) {
		enum place from = i % PLACES;
		unsigned client = i / PLACES % CLIENTS, family = i / (PLACES * CLIENTS) % 2;
		enum target t = i / (PLACES * CLIENTS * 2);
		uint16_t number = (uint16_t)(node_port ? w->ports[port].node_port : w->ports[port].port);
		struct answer want = ref_ask(w, from, client, family, t, port, node_port), have;
		struct dp_addr addr, who;
		char text[64];

		/* A node port answers at every address of the node; the others are none of it. */
		if (node_port && t != TO_NODE)
			continue;
		target_text(family, t, text, sizeof(text));
		addr = addr_of(text);
		client_text(family, client, text, sizeof(text));
		who = addr_of(text);
		have = made_ask(r, from, &who, &addr, number, proto_numbers[w->ports[port].proto]);
		counts[want.verdict]++;
		if (!answer_equal(&want, &have))
			fail_msg(
				"K3C_SEED=%llu place %d client %u family %u target %d port %u: want %d (%u), have %d (%u)\n%s",
				(unsigned long long)seed_first, from, client, family, t, number, want.verdict, want.n,
				have.verdict, have.n, what);
	}
}

static void one_round(struct world *w)
{
	static const unsigned seconds[] = { 0, 10800, 77 };
	const struct services_place place = { STR("here"), STR("east") };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct services_slice *slices[SLICES];
	struct services_result r;
	const char *what;

	write_service(&text, w);
	for (unsigned s = 0; s < w->n_slices; s++) {
		_cleanup_buf_ struct buf one = BUF_INIT;

		write_slice(&one, w, &w->slices[s]);
		buf_add_char(&one, 0);
		slices[s] = services_slice_parse(json_of(&arena, one.data + one.start), &place);
		buf_printf(&text, "\n%s", one.data + one.start);
	}
	what = arena_strndup(&arena, text.data + text.start, buf_len(&text));
	services_translate(&arena, json_of(&arena, arena_strndup(&arena, what, strcspn(what, "\n"))),
			   (const struct services_slice *const *)slices, w->n_slices, &r);
	assert_false(r.truncated);
	for (size_t i = 0; i < r.n; i++) {
		assert_int_equal(r.frontends[i].affinity_s, seconds[w->affinity]);
		assert_true(!i || services_place_cmp(&r.frontends[i - 1], &r.frontends[i]) < 0);
	}
	for (unsigned p = 0; p < w->n_ports; p++) {
		probe(w, &r, what, p, false);
		probe(w, &r, what, p, true);
	}
	for (unsigned s = 0; s < w->n_slices; s++)
		free(slices[s]);
}

static void test_property(void **state)
{
	const char *given = getenv("K3C_SEED");
	struct world w;

	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)clock_real_ns() + round;

		seed_state = seed_first = seed;
		random_world(&w);
		if (round == 0)
			print_message("first seed %llu (K3C_SEED=... repeats one)\n", (unsigned long long)seed);
		one_round(&w);
		if (given)
			break;
	}
	print_message("probes: %u not ours, %u refused, %u dropped, %u served\n", counts[0], counts[1], counts[2],
		      counts[3]);
	for (unsigned i = 0; !given && i < 4; i++)
		assert_true(counts[i] > ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_property) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
