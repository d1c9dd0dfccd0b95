/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects against a slow reference of the NetworkPolicy rules, written from the documentation and sharing
 * nothing with the translation: it judges one packet at a time on the objects as generated. Also: a pod that a change
 * did not mark stale has the rules it had. */
#include "tests/netctl/rules.h"

enum {
	NAMESPACES = 3,
	PODS = 7,
	POLICIES = 4,
	KEYS = 2,
	VALUES = 3,
	PEERS = 3,
	PORTS = 3,
	RULES = 2,
	EXCEPTS = 2,
	REQS = 2
};
#define ROUNDS 150
#define CHANGES 4

static uint64_t seed_state;

static unsigned rnd(unsigned n)
{
	seed_state = seed_state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed_state >> 33) % n;
}

/* ---- objects ---- */

struct r_labels {
	unsigned v[KEYS]; /* 0: absent */
};

struct r_req {
	unsigned key, op, values; /* values: a bit for each */
};

struct r_selector {
	bool present;
	unsigned n;
	struct r_req reqs[REQS];
};

/* fd42::/96 and the 32 bits of addr, or IPv4. `wide`: shorter than these 96 bits, of IPv6, around fd42:: or around
 * what looks like IPv4. */
struct r_block {
	bool v6;
	uint32_t addr;
	unsigned len; /* of the 32 bits */
	bool wide, mapped;
	unsigned wide_len;
};

enum { R_TCP, R_UDP, R_SCTP, R_PROTOS };
static const uint8_t r_protos[R_PROTOS] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
static const char *const r_proto_names[R_PROTOS] = { "TCP", "UDP", "SCTP" };

struct r_peer {
	struct r_selector pods, namespaces;
	bool has_block;
	struct r_block block, excepts[EXCEPTS];
	unsigned n_excepts;
};

struct r_port {
	bool named;
	unsigned proto, name, port, end;
};

struct r_rule {
	unsigned n_peers, n_ports;
	struct r_peer peers[PEERS];
	struct r_port ports[PORTS];
};

struct r_policy {
	bool exists;
	unsigned ns, types; /* 1 ingress, 2 egress; 0: left out */
	struct r_selector pods;
	unsigned n_rules[2];
	struct r_rule rules[2][RULES];
};

struct r_pod {
	unsigned ns;
	struct r_labels labels;
	bool host_network, over;
	bool has[2]; /* an address of IPv4, of IPv6 */
	uint32_t addr;
	unsigned named[R_PROTOS]; /* port of the name "p<i>", of that protocol; 0: none */
};

struct world {
	struct r_labels namespaces[NAMESPACES];
	bool ns_exists[NAMESPACES];
	struct r_pod pods[PODS];
	struct r_policy policies[POLICIES];
};

/* ---- the reference ---- */

static bool ref_labels(const struct r_selector *s, const struct r_labels *l)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct r_req *r = &s->reqs[i];
		unsigned v = l->v[r->key];
		bool listed = v && (r->values >> v & 1);

		if (r->op == 0 ? !listed : r->op == 1 ? listed : r->op == 2 ? !v : v != 0)
			return false;
	}
	return true;
}

static bool ref_block(bool v6, uint32_t addr, const struct r_block *b)
{
	if (b->wide) /* the first bits of fd42:: are 0xfd, those around the mapped addresses are 0 */
		return v6 && (!b->mapped || !b->wide_len);
	return b->v6 == v6 && (!b->len || (addr ^ b->addr) >> (32 - b->len) == 0);
}

static const struct r_pod *ref_pod_at(const struct world *w, bool v6, uint32_t addr)
{
	for (unsigned i = 0; i < PODS; i++)
		if (w->pods[i].addr == addr && w->pods[i].has[v6] && !w->pods[i].host_network && !w->pods[i].over)
			return &w->pods[i];
	return NULL;
}

static bool ref_peer(const struct world *w, const struct r_policy *p, const struct r_peer *peer, bool v6, uint32_t addr)
{
	const struct r_pod *pod = ref_pod_at(w, v6, addr);

	if (peer->has_block) {
		for (unsigned i = 0; i < peer->n_excepts; i++)
			if (ref_block(v6, addr, &peer->excepts[i]))
				return false;
		return ref_block(v6, addr, &peer->block);
	}
	if (!pod || (peer->pods.present && !ref_labels(&peer->pods, &pod->labels)))
		return false;
	if (!peer->namespaces.present)
		return pod->ns == p->ns;
	return w->ns_exists[pod->ns] && ref_labels(&peer->namespaces, &w->namespaces[pod->ns]);
}

static bool ref_port(const struct r_port *p, const struct r_pod *receiver, unsigned proto, unsigned port)
{
	if (p->proto != proto)
		return false;
	if (p->named)
		return receiver && p->name == proto && receiver->named[p->name] == port;
	return !p->port || (port >= p->port && port <= (p->end ? p->end : p->port));
}

static bool ref_allows(const struct world *w, const struct r_pod *self, unsigned direction, bool v6, uint32_t far,
		       unsigned proto, unsigned port)
{
	const struct r_pod *receiver = direction == DP_INGRESS ? self : ref_pod_at(w, v6, far);
	bool isolated = false;

	for (unsigned i = 0; i < POLICIES; i++) {
		const struct r_policy *p = &w->policies[i];
		unsigned types = p->types ? p->types : 1u | (p->n_rules[DP_EGRESS] ? 2u : 0u);

		if (!p->exists || self->host_network || p->ns != self->ns || !ref_labels(&p->pods, &self->labels) ||
		    !(types >> direction & 1))
			continue;
		isolated = true;
		for (unsigned k = 0; k < p->n_rules[direction]; k++) {
			const struct r_rule *r = &p->rules[direction][k];
			bool peer = !r->n_peers, ports = !r->n_ports;

			for (unsigned j = 0; j < r->n_peers; j++)
				peer = peer || ref_peer(w, p, &r->peers[j], v6, far);
			for (unsigned j = 0; j < r->n_ports; j++)
				ports = ports || ref_port(&r->ports[j], receiver, proto, port);
			if (peer && ports)
				return true;
		}
	}
	return !isolated;
}

/* ---- chance ---- */

static void random_labels(struct r_labels *l)
{
	for (unsigned i = 0; i < KEYS; i++)
		l->v[i] = rnd(VALUES);
}

static void random_selector(struct r_selector *s)
{
	s->present = true;
	s->n = rnd(REQS + 1);
	for (unsigned i = 0; i < s->n; i++)
		s->reqs[i] = (struct r_req){ rnd(KEYS), rnd(4), 2u << rnd(VALUES - 1) };
}

/* Around 10.42.0.0/28, where the pods are. */
static void random_block(struct r_block *b, unsigned min_len)
{
	b->v6 = rnd(2);
	b->len = min_len + rnd(33 - min_len);
	b->addr = (0x0a2a0000u | rnd(16)) & (b->len ? ~0u << (32 - b->len) : 0);
}

static void random_peer(struct r_peer *p)
{
	unsigned kind = rnd(4);

	*p = (struct r_peer){ .has_block = kind == 3 };
	if (kind == 3 && !rnd(4)) {
		p->block = (struct r_block){ .v6 = true, .wide = true, .mapped = rnd(2), .wide_len = rnd(96) };
		return;
	}
	if (kind == 0 || kind == 2)
		random_selector(&p->pods);
	if (kind == 1 || kind == 2)
		random_selector(&p->namespaces);
	if (kind != 3)
		return;
	random_block(&p->block, rnd(8) ? 26 : 0);
	for (unsigned n = rnd(EXCEPTS + 1); p->block.len < 32 && p->n_excepts < n;) {
		struct r_block *x = &p->excepts[p->n_excepts];

		random_block(x, p->block.len + 1);
		x->v6 = p->block.v6;
		x->addr = p->block.len ? p->block.addr | (x->addr & ~(~0u << (32 - p->block.len))) : x->addr;
		p->n_excepts++;
	}
}

static void random_policy(struct r_policy *p)
{
	*p = (struct r_policy){ .exists = true, .ns = rnd(NAMESPACES), .types = rnd(4) };
	random_selector(&p->pods);
	for (unsigned d = 0; d < 2; d++) {
		p->n_rules[d] = rnd(RULES + 1);
		for (unsigned i = 0; i < p->n_rules[d]; i++) {
			struct r_rule *r = &p->rules[d][i];

			r->n_peers = rnd(PEERS + 1);
			r->n_ports = rnd(PORTS + 1);
			for (unsigned k = 0; k < r->n_peers; k++)
				random_peer(&r->peers[k]);
			for (unsigned k = 0; k < r->n_ports; k++) {
				unsigned port = rnd(4) ? 80 + rnd(4) : 0;

				r->ports[k] = (struct r_port){ .proto = rnd(R_PROTOS),
							       .named = !rnd(3),
							       .name = rnd(R_PROTOS),
							       .port = port,
							       .end = port && !rnd(3) ? port + rnd(3) : 0 };
			}
		}
	}
}

static void random_pod(struct r_pod *p, unsigned ns, unsigned i)
{
	*p = (struct r_pod){ .ns = ns, .host_network = !rnd(8), .over = !rnd(8), .addr = 0x0a2a0002u + i };
	p->has[0] = rnd(4);
	p->has[1] = !p->has[0] || rnd(2);
	random_labels(&p->labels);
	for (unsigned k = 0; k < R_PROTOS; k++)
		p->named[k] = rnd(2) ? 80 + rnd(4) : 0;
}

/* ---- the same as objects of the API ---- */

static void write_labels(struct buf *out, const struct r_labels *l)
{
	const char *sep = "";

	buf_printf(out, "'labels':{");
	for (unsigned i = 0; i < KEYS; i++)
		if (l->v[i]) {
			buf_printf(out, "%s'k%u':'v%u'", sep, i, l->v[i]);
			sep = ",";
		}
	buf_printf(out, "}");
}

static void write_selector(struct buf *out, const struct r_selector *s)
{
	static const char *const ops[] = { "In", "NotIn", "Exists", "DoesNotExist" };

	buf_printf(out, "{'matchExpressions':[");
	for (unsigned i = 0; i < s->n; i++) {
		const struct r_req *r = &s->reqs[i];

		buf_printf(out, "%s{'key':'k%u','operator':'%s'", i ? "," : "", r->key, ops[r->op]);
		if (r->op < 2)
			buf_printf(out, ",'values':['v%u']", r->values == 2 ? 1 : 2);
		buf_printf(out, "}");
	}
	buf_printf(out, "]}");
}

static void write_block(struct buf *out, const struct r_block *b)
{
	if (b->wide) {
		buf_printf(out, "'%s/%u'",
			   !b->mapped || !b->wide_len ? (b->wide_len ? "fd42::" : "::") : "::", b->wide_len);
		return;
	}
	if (b->v6) {
		buf_printf(out, "'fd42::%x:%x/%u'", b->addr >> 16, b->addr & 0xffff, 96 + b->len);
		return;
	}
	buf_printf(out, "'%u.%u.%u.%u/%u'", b->addr >> 24, b->addr >> 16 & 255, b->addr >> 8 & 255, b->addr & 255,
		   b->len);
}

static void write_peer(struct buf *out, const struct r_peer *p)
{
	buf_printf(out, "{");
	if (p->pods.present) {
		buf_printf(out, "'podSelector':");
		write_selector(out, &p->pods);
	}
	if (p->namespaces.present) {
		buf_printf(out, "%s'namespaceSelector':", p->pods.present ? "," : "");
		write_selector(out, &p->namespaces);
	}
	if (p->has_block) {
		buf_printf(out, "'ipBlock':{'cidr':");
		write_block(out, &p->block);
		buf_printf(out, ",'except':[");
		for (unsigned i = 0; i < p->n_excepts; i++) {
			buf_printf(out, i ? "," : "");
			write_block(out, &p->excepts[i]);
		}
		buf_printf(out, "]}");
	}
	buf_printf(out, "}");
}

static void write_rule(struct buf *out, const struct r_rule *r, const char *peers)
{
	buf_printf(out, "{'%s':[", peers);
	for (unsigned i = 0; i < r->n_peers; i++) {
		buf_printf(out, i ? "," : "");
		write_peer(out, &r->peers[i]);
	}
	buf_printf(out, "],'ports':[");
	for (unsigned i = 0; i < r->n_ports; i++) {
		const struct r_port *p = &r->ports[i];

		buf_printf(out, "%s{'protocol':'%s'", i ? "," : "", r_proto_names[p->proto]);
		if (p->named)
			buf_printf(out, ",'port':'p%u'", p->name);
		else if (p->port)
			buf_printf(out, ",'port':%u", p->port);
		if (!p->named && p->end)
			buf_printf(out, ",'endPort':%u", p->end);
		buf_printf(out, "}");
	}
	buf_printf(out, "]}");
}

static struct json *parse(struct arena *arena, struct buf *text)
{
	buf_add_char(text, 0);
	return json_of(arena, text->data + text->start);
}

static void put_policy(struct net_model *m, const struct world *w, unsigned i)
{
	static const char *const lists[] = { "ingress", "egress" }, *const peers[] = { "from", "to" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	const struct r_policy *p = &w->policies[i];

	buf_printf(&out, "{'metadata':{'namespace':'n%u','name':'p%u'},'spec':{'podSelector':", p->ns, i);
	write_selector(&out, &p->pods);
	if (p->types)
		buf_printf(&out, ",'policyTypes':[%s%s%s]", p->types & 1 ? "'Ingress'" : "", p->types == 3 ? "," : "",
			   p->types & 2 ? "'Egress'" : "");
	for (unsigned d = 0; d < 2; d++) {
		buf_printf(&out, ",'%s':[", lists[d]);
		for (unsigned k = 0; k < p->n_rules[d]; k++) {
			buf_printf(&out, k ? "," : "");
			write_rule(&out, &p->rules[d][k], peers[d]);
		}
		buf_printf(&out, "]");
	}
	buf_printf(&out, "}}");
	model_set_policy(m, parse(&arena, &out));
}

static void remove_policy(struct net_model *m, struct world *w, unsigned i)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_remove_policy(m, str_of(arena_printf(&arena, "n%u", w->policies[i].ns)),
			    str_of(arena_printf(&arena, "p%u", i)));
	w->policies[i].exists = false;
}

static void put_pod(struct net_model *m, const struct world *w, unsigned i)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	const struct r_pod *p = &w->pods[i];

	buf_printf(&out, "{'metadata':{'namespace':'n%u','name':'x%u','uid':'u%u',", p->ns, i, i);
	write_labels(&out, &p->labels);
	buf_printf(&out, "},'spec':{'hostNetwork':%s,'containers':[{'ports':[", p->host_network ? "true" : "false");
	for (unsigned k = 0; k < R_PROTOS; k++)
		if (p->named[k])
			buf_printf(&out, "{'name':'p%u','protocol':'%s','containerPort':%u},", k, r_proto_names[k],
				   p->named[k]);
	buf_printf(&out, "{'containerPort':1}]}]},'status':{'phase':'%s','podIPs':[", p->over ? "Failed" : "Running");
	if (p->has[0])
		buf_printf(&out, "{'ip':'10.42.0.%u'}%s", p->addr & 255, p->has[1] ? "," : "");
	if (p->has[1])
		buf_printf(&out, "{'ip':'fd42::%x:%x'}", p->addr >> 16, p->addr & 0xffff);
	buf_printf(&out, "]}}");
	model_set_pod(m, parse(&arena, &out));
}

static void put_namespace(struct net_model *m, const struct world *w, unsigned i)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;

	if (!w->ns_exists[i]) {
		model_remove_namespace(m, str_of(arena_printf(&arena, "n%u", i)));
		return;
	}
	buf_printf(&out, "{'metadata':{'name':'n%u',", i);
	write_labels(&out, &w->namespaces[i]);
	buf_printf(&out, "}}");
	model_set_namespace(m, parse(&arena, &out));
}

/* ---- the properties ---- */

static struct net_pod *pod_of(const struct net_model *m, unsigned i)
{
	char uid[8];

	snprintf(uid, sizeof(uid), "u%u", i);
	return model_pod(m, str_of(uid));
}

struct far {
	bool v6;
	uint32_t addr;
	const struct r_pod *peer; /* NULL: nobody's address */
	const struct net_pod *pod;
	struct far_end end;
};

static struct far far_at(const struct net_model *m, const struct world *w, bool v6, uint32_t addr)
{
	struct far f = { .v6 = v6, .addr = addr, .peer = ref_pod_at(w, v6, addr) };
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	f.end.addr = addr_of(v6 ? arena_printf(&arena, "fd42::%x:%x", addr >> 16, addr & 0xffff)
				: arena_printf(&arena, "10.42.0.%u", addr & 255));
	if (f.peer) {
		f.pod = pod_of(m, (unsigned)(f.peer - w->pods));
		f.end.identity = f.pod->identity;
	}
	return f;
}

/* The other way round: the objects asked about one flow. */
static bool explained(const struct net_model *m, unsigned i, unsigned direction, const struct far *far, uint8_t proto,
		      uint16_t port)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct net_pod *self = pod_of(m, i);
	const struct policy_end near = { self, self->addrs[far->v6 ? DP_V6 : DP_V4], false };
	const struct policy_end other = { far->pod, far->end.addr, false };
	struct policy_explanation e;
	const struct policy_verdict *v;

	policy_explain(&arena, m, direction == DP_EGRESS ? &near : &other, direction == DP_EGRESS ? &other : &near,
		       proto, port, &e);
	v = direction == DP_EGRESS ? &e.egress : &e.ingress;
	assert_int_equal(v->isolated, v->n_selecting > 0);
	if (far->pod != self)
		assert_int_equal(v->allowed, !v->isolated || v->n_allowing);
	return v->allowed;
}

static void check_flow(const struct net_model *m, const struct world *w, const struct policy_result *r, unsigned i,
		       const struct far *far, unsigned n, unsigned round)
{
	unsigned direction = n & 1, proto = (n >> 1) % R_PROTOS, port = 79 + (n >> 1) / R_PROTOS;
	bool want = ref_allows(w, &w->pods[i], direction, far->v6, far->addr, proto, port);
	bool translated = rules_allow(r, (uint8_t)direction, &far->end, r_protos[proto], (uint16_t)port);
	bool self = far->peer == &w->pods[i];
	bool said = self ? want : explained(m, i, direction, far, r_protos[proto], (uint16_t)port);

	if (translated != want || said != want)
		fail_msg("round %u: pod %u %s %s.%u %s %u: should be %s, is %d, explained as %d", round, i,
			 direction == DP_INGRESS ? "from" : "to", far->v6 ? "fd42::" : "10.42.0", far->addr & 255,
			 r_proto_names[proto], port, want ? "allowed" : "denied", translated, said);
}

static void check_pod(const struct net_model *m, const struct world *w, unsigned i, unsigned round)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_result r;

	policy_translate(&arena, m, pod_of(m, i), &r);
	/* every pod, and addresses of nobody in and out of the blocks, of both families */
	for (unsigned v6 = 0; v6 < 2; v6++)
		for (uint32_t addr = 0x0a2a0000u; addr < 0x0a2a0014u; addr++) {
			struct far far = far_at(m, w, v6, addr);

			for (unsigned n = 0; n < 2 * R_PROTOS * 7; n++)
				check_flow(m, w, &r, i, &far, n, round);
		}
}

static void random_change(struct net_model *m, struct world *w)
{
	unsigned i;

	switch (rnd(5)) {
	case 0:
	case 1:
		i = rnd(PODS);
		random_pod(&w->pods[i], w->pods[i].ns, i);
		put_pod(m, w, i);
		break;
	case 2:
		i = rnd(POLICIES);
		remove_policy(m, w, i);
		break;
	case 3:
		i = rnd(POLICIES);
		remove_policy(m, w, i);
		random_policy(&w->policies[i]);
		put_policy(m, w, i);
		break;
	default:
		i = rnd(NAMESPACES);
		w->ns_exists[i] = rnd(4);
		random_labels(&w->namespaces[i]);
		put_namespace(m, w, i);
	}
}

static void translate_all(struct arena *arena, const struct net_model *m, struct policy_result ret[static PODS])
{
	for (unsigned i = 0; i < PODS; i++)
		policy_translate(arena, m, pod_of(m, i), &ret[i]);
}

static bool same_result(const struct policy_result *a, const struct policy_result *b)
{
	if (a->isolated_ingress != b->isolated_ingress || a->isolated_egress != b->isolated_egress ||
	    a->n_rules != b->n_rules)
		return false;
	for (size_t i = 0; i < a->n_rules; i++)
		if (!rule_same_ports(&a->rules[i], &b->rules[i]) || a->rules[i].identity != b->rules[i].identity ||
		    a->rules[i].prefix_len != b->rules[i].prefix_len || a->rules[i].deny != b->rules[i].deny ||
		    !address_equal(&a->rules[i].prefix, &b->rules[i].prefix))
			return false;
	return true;
}

static void check_change(struct net_model *m, struct world *w, unsigned round, unsigned *unmarked)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_result before[PODS], after[PODS];

	for (unsigned i = 0; i < PODS; i++)
		pod_of(m, i)->stale = false;
	translate_all(&arena, m, before);
	random_change(m, w);
	translate_all(&arena, m, after);
	for (unsigned i = 0; i < PODS; i++) {
		if (pod_of(m, i)->stale)
			continue;
		++*unmarked;
		if (!same_result(&before[i], &after[i]))
			fail_msg("round %u: the rules of pod %u changed and it is not stale", round, i);
	}
}

static void test_against_reference(void **state)
{
	unsigned unmarked = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct world w = { 0 };
		struct net_model m;

		seed_state = round * 7919 + 1;
		model_init(&m);
		/* in any order: policies may come before their pods and namespaces */
		for (unsigned i = 0; i < POLICIES; i++) {
			random_policy(&w.policies[i]);
			put_policy(&m, &w, i);
		}
		for (unsigned i = 0; i < PODS; i++) {
			random_pod(&w.pods[i], rnd(NAMESPACES), i);
			put_pod(&m, &w, i);
		}
		for (unsigned i = 0; i < NAMESPACES; i++) {
			w.ns_exists[i] = true;
			random_labels(&w.namespaces[i]);
			put_namespace(&m, &w, i);
		}
		for (unsigned i = 0; i < PODS; i++)
			check_pod(&m, &w, i, round);
		for (unsigned k = 0; k < CHANGES; k++) {
			check_change(&m, &w, round, &unmarked);
			check_pod(&m, &w, rnd(PODS), round);
		}
		model_finish(&m);
	}
	/* marking everything would be right as well, and useless */
	assert_true(unmarked > ROUNDS * CHANGES * PODS / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
