/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects against a slow reference of the NetworkPolicy rules, written from the documentation and sharing
 * nothing with the translation: it judges one packet at a time on the objects as generated. Also: a pod that a change
 * did not mark stale has the rules it had. */
#include "tests/netctl/rules.h"

#include "userspace/base/clock.h"

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

struct r_block {
	uint32_t addr;
	unsigned len;
};

struct r_peer {
	struct r_selector pods, namespaces;
	bool has_block;
	struct r_block block, excepts[EXCEPTS];
	unsigned n_excepts;
};

struct r_port {
	bool udp, named;
	unsigned name, port, end;
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
	uint32_t addr;
	unsigned named[2]; /* port of the name "p<i>"; 0: none. p0 is TCP, p1 is UDP */
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

static bool ref_block(uint32_t addr, const struct r_block *b)
{
	return !b->len || (addr ^ b->addr) >> (32 - b->len) == 0;
}

static const struct r_pod *ref_pod_at(const struct world *w, uint32_t addr)
{
	for (unsigned i = 0; i < PODS; i++)
		if (w->pods[i].addr == addr && !w->pods[i].host_network && !w->pods[i].over)
			return &w->pods[i];
	return NULL;
}

static bool ref_peer(const struct world *w, const struct r_policy *p, const struct r_peer *peer, uint32_t addr)
{
	const struct r_pod *pod = ref_pod_at(w, addr);

	if (peer->has_block) {
		for (unsigned i = 0; i < peer->n_excepts; i++)
			if (ref_block(addr, &peer->excepts[i]))
				return false;
		return ref_block(addr, &peer->block);
	}
	if (!pod || (peer->pods.present && !ref_labels(&peer->pods, &pod->labels)))
		return false;
	if (!peer->namespaces.present)
		return pod->ns == p->ns;
	return w->ns_exists[pod->ns] && ref_labels(&peer->namespaces, &w->namespaces[pod->ns]);
}

static bool ref_port(const struct r_port *p, const struct r_pod *receiver, bool udp, unsigned port)
{
	if (p->udp != udp)
		return false;
	if (p->named)
		return receiver && p->name == (udp ? 1u : 0u) && receiver->named[p->name] == port;
	return !p->port || (port >= p->port && port <= (p->end ? p->end : p->port));
}

static bool ref_allows(const struct world *w, const struct r_pod *self, unsigned direction, uint32_t far, bool udp,
		       unsigned port)
{
	const struct r_pod *receiver = direction == DP_INGRESS ? self : ref_pod_at(w, far);
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
				peer = peer || ref_peer(w, p, &r->peers[j], far);
			for (unsigned j = 0; j < r->n_ports; j++)
				ports = ports || ref_port(&r->ports[j], receiver, udp, port);
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
	b->len = min_len + rnd(33 - min_len);
	b->addr = (0x0a2a0000u | rnd(16)) & (b->len ? ~0u << (32 - b->len) : 0);
}

static void random_peer(struct r_peer *p)
{
	unsigned kind = rnd(4);

	*p = (struct r_peer){ .has_block = kind == 3 };
	if (kind == 0 || kind == 2)
		random_selector(&p->pods);
	if (kind == 1 || kind == 2)
		random_selector(&p->namespaces);
	if (kind != 3)
		return;
	random_block(&p->block, 26);
	for (unsigned n = rnd(EXCEPTS + 1); p->block.len < 32 && p->n_excepts < n;) {
		struct r_block *x = &p->excepts[p->n_excepts];

		random_block(x, p->block.len + 1);
		x->addr = p->block.addr | (x->addr & ~(~0u << (32 - p->block.len)));
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

				r->ports[k] = (struct r_port){ .udp = rnd(2),
							       .named = !rnd(3),
							       .name = rnd(2),
							       .port = port,
							       .end = port && !rnd(3) ? port + rnd(3) : 0 };
			}
		}
	}
}

static void random_pod(struct r_pod *p, unsigned ns, unsigned i)
{
	*p = (struct r_pod){ .ns = ns, .host_network = !rnd(8), .over = !rnd(8), .addr = 0x0a2a0002u + i };
	random_labels(&p->labels);
	for (unsigned k = 0; k < 2; k++)
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

		buf_printf(out, "%s{'protocol':'%s'", i ? "," : "", p->udp ? "UDP" : "TCP");
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
	for (unsigned k = 0; k < 2; k++)
		if (p->named[k])
			buf_printf(&out, "{'name':'p%u','protocol':'%s','containerPort':%u},", k, k ? "UDP" : "TCP",
				   p->named[k]);
	buf_printf(&out, "{'containerPort':1}]}]},'status':{'podIP':'10.42.0.%u','phase':'%s'}}", p->addr & 255,
		   p->over ? "Failed" : "Running");
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

static void check_pod(const struct net_model *m, const struct world *w, unsigned i, unsigned round)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_result r;

	policy_translate(&arena, m, pod_of(m, i), &r);
	/* every pod, and addresses of nobody in and out of the blocks */
	for (uint32_t far = 0x0a2a0000u; far < 0x0a2a0014u; far++) {
		const struct r_pod *peer = ref_pod_at(w, far);
		struct far_end end = { .addr.b = { [10] = 0xff, 0xff, 10, 42, 0, (uint8_t)far } };

		if (peer)
			end.identity = pod_of(m, (unsigned)(peer - w->pods))->identity;
		for (unsigned n = 0; n < 2 * 2 * 7; n++) {
			unsigned direction = n & 1, udp = n >> 1 & 1, port = 79 + (n >> 2);
			bool want = ref_allows(w, &w->pods[i], direction, far, udp, port);

			if (rules_allow(&r, (uint8_t)direction, &end, udp ? IPPROTO_UDP : IPPROTO_TCP,
					(uint16_t)port) != want)
				fail_msg("round %u: pod %u %s 10.42.0.%u %s %u: should be %s", round, i,
					 direction == DP_INGRESS ? "from" : "to", far & 255, udp ? "udp" : "tcp", port,
					 want ? "allowed" : "denied");
		}
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

/* 2,000 policies and 500 pods in ten namespaces: what a change of one pod's labels costs before the kernel. */
static void test_scale(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_model m;
	unsigned stale = 0;
	size_t rules = 0;
	int64_t start, took;

	model_init(&m);
	for (unsigned i = 0; i < 10; i++)
		model_set_namespace(
			&m,
			json_of(&arena, arena_printf(&arena, "{'metadata':{'name':'n%u','labels':{'n':'%u'}}}", i, i)));
	for (unsigned i = 0; i < 500; i++)
		model_set_pod(
			&m,
			json_of(&arena,
				arena_printf(
					&arena,
					"{'metadata':{'namespace':'n%u','name':'x%u','uid':'u%u',"
					"'labels':{'app':'a%u','pod':'%u'}},'status':{'phase':'Running','podIP':'10.42.%u.%u'}}",
					i % 10, i, i, i % 50 / 10, i, i / 250, i % 250 + 2)));
	for (unsigned i = 0; i < 2000; i++)
		model_set_policy(
			&m,
			json_of(&arena,
				arena_printf(
					&arena,
					"{'metadata':{'namespace':'n%u','name':'p%u'},'spec':{"
					"'podSelector':{'matchLabels':{'app':'a%u'}},'policyTypes':['Ingress','Egress'],'ingress':[{'from':["
					"{'podSelector':{'matchLabels':{'app':'a%u'}}}],'ports':[{'port':%u}]}],'egress':[{'to':["
					"{'namespaceSelector':{'matchLabels':{'n':'%u'}},'podSelector':{'matchLabels':{'app':'a%u'}}}]}]}}",
					i % 10, i, i / 10 % 5, i / 50 % 5, i, i / 50 % 10, i / 10 % 5)));
	list_foreach(pod, &m.pods, struct net_pod, link)
		pod->stale = false;
	start = clock_monotonic_ns();
	model_set_pod(&m,
		      json_of(&arena,
			      "{'metadata':{'namespace':'n7','name':'x7','uid':'u7','labels':{'app':'a1','pod':'7'}},"
			      "'status':{'phase':'Running','podIP':'10.42.0.9'}}"));
	list_foreach(pod, &m.pods, struct net_pod, link)
		if (pod->stale) {
			_cleanup_arena_ struct arena one = ARENA_INIT;
			struct policy_result r;

			policy_translate(&one, &m, pod, &r);
			stale++;
			rules += r.n_rules;
		}
	took = clock_monotonic_ns() - start;
	print_message("one of 500 pods changed its labels, 2000 policies: %u pods, %zu rules translated in %lld us\n",
		      stale, rules, (long long)took / 1000);
	assert_true(stale > 0 && stale < 500);
	model_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_reference),
		cmocka_unit_test(test_scale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
