/* SPDX-License-Identifier: Apache-2.0 */
/* Excepts are subtracted here and the ports of wide prefixes pushed down into narrow ones, so that the kernel's
 * longest match decides alone. Pure; any thread. */
#include "userspace/dataplane/policy_compile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "userspace/dataplane/internal.h"

struct ports {
	uint8_t proto;
	uint16_t first, last; /* 0, 65535: any */
};

/* One allowed prefix of one rule, excepts already taken out. */
struct piece {
	struct k3c_addr addr;
	unsigned bits;
	uint32_t ports; /* index into the list of distinct ports, or PORTS_NONE */
};

#define PORTS_NONE UINT32_MAX

struct port_set {
	uint32_t *ports; /* sorted, distinct */
	size_t n, cap;
};

struct compiler {
	struct policy_compiled *out;
	uint8_t direction;
	struct ports *ports;
	size_t n_ports, cap_ports;
	struct piece *pieces;
	size_t n_pieces, cap_pieces;
	struct port_set *classes; /* class i + 1 */
	size_t n_classes, cap_classes;
	bool too_many;
};

void policy_compiled_finish(struct policy_compiled *c)
{
	free(c->rules);
	free(c->prefixes);
	*c = (struct policy_compiled){ 0 };
}

static void compiler_reset(struct compiler *c)
{
	for (size_t i = 0; i < c->n_classes; i++)
		free(c->classes[i].ports);
	free(c->classes);
	free(c->pieces);
	free(c->ports);
	*c = (struct compiler){ 0 };
}

/* As the kernel's trie sees it, which knows no families. */
static bool prefix_nests(const struct piece *a, const struct piece *b)
{
	struct k3c_addr mask = dp_mask(a->bits);

	return a->bits <= b->bits && (b->addr.q[0] & mask.q[0]) == a->addr.q[0] &&
	       (b->addr.q[1] & mask.q[1]) == a->addr.q[1];
}

static bool prefix_contains(const struct k3c_addr *a, unsigned bits, const struct k3c_addr *b, unsigned b_bits)
{
	struct dp_addr net = dp_addr_out(a);

	return bits <= b_bits && dp_addr_in_net(b, &net, bits);
}

static struct ports ports_of(const struct dp_policy_rule *r)
{
	struct ports p = { .proto = r->proto, .first = r->port, .last = r->end_port ? r->end_port : r->port };

	if (!r->port) {
		p.first = 0;
		p.last = 65535;
	}
	return p;
}

static bool ports_any(const struct ports *p)
{
	return p->proto == 0 && p->first == 0 && p->last == 65535;
}

static uint32_t compiler_ports(struct compiler *c, const struct ports *p)
{
	for (size_t i = 0; i < c->n_ports; i++)
		if (c->ports[i].proto == p->proto && c->ports[i].first == p->first && c->ports[i].last == p->last)
			return (uint32_t)i;
	mem_grow(c->ports, c->cap_ports, c->n_ports + 1);
	c->ports[c->n_ports] = *p;
	return (uint32_t)c->n_ports++;
}

/* ---- rules: peer and ports ---- */

static void emit_rule(struct compiler *c, uint32_t peer, uint8_t proto, uint16_t port, unsigned bits)
{
	struct policy_compiled *out = c->out;

	if (out->n_rules >= POLICY_ENTRIES_MAX) {
		c->too_many = true;
		return;
	}
	mem_grow(out->rules, out->cap_rules, out->n_rules + 1);
	out->rules[out->n_rules++] = (struct k3c_rule_key){
		.prefixlen = bits,
		.peer = peer,
		.direction = c->direction,
		.proto = proto,
		.port = htons(port),
	};
}

/* A range is a row of aligned blocks whose sizes are powers of two. */
static void emit_range(struct compiler *c, uint32_t peer, uint8_t proto, uint32_t first, uint32_t last)
{
	while (first <= last) {
		unsigned low = first ? (unsigned)__builtin_ctz(first) : 16;

		if (low > 16)
			low = 16;
		while (first + (1u << low) - 1 > last)
			low--;
		emit_rule(c, peer, proto, (uint16_t)first, K3C_RULE_BITS_PORT - low);
		first += 1u << low;
	}
}

static void emit_ports(struct compiler *c, uint32_t peer, const struct ports *p)
{
	static const uint8_t with_ports[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };

	if (ports_any(p)) {
		emit_rule(c, peer, 0, 0, K3C_RULE_BITS_ANY);
	} else if (p->proto) {
		emit_range(c, peer, p->proto, p->first, p->last);
	} else {
		for (size_t i = 0; i < ARRAY_SIZE(with_ports); i++)
			emit_range(c, peer, with_ports[i], p->first, p->last);
	}
}

/* ---- prefixes ---- */

struct carve {
	struct compiler *c;
	const struct dp_policy_rule *rules;
	const size_t *excepts;
	size_t n_excepts;
	uint32_t ports;
	bool v6;
};

static void compiler_piece(struct compiler *c, const struct k3c_addr *addr, unsigned bits, uint32_t ports)
{
	if (c->n_pieces >= POLICY_ENTRIES_MAX) {
		c->too_many = true;
		return;
	}
	mem_grow(c->pieces, c->cap_pieces, c->n_pieces + 1);
	c->pieces[c->n_pieces++] = (struct piece){ .addr = *addr, .bits = bits, .ports = ports };
}

static void carve_prefix(struct carve *v, const struct k3c_addr *addr, unsigned bits)
{
	struct k3c_addr half = *addr;
	bool touched = false;

	if (v->v6 && bits >= DP_V4_BITS && dp_addr_is_v4(addr))
		return;
	for (size_t i = 0; i < v->n_excepts; i++) {
		const struct dp_policy_rule *e = &v->rules[v->excepts[i]];
		struct k3c_addr a = dp_addr_in(&e->prefix);

		if (prefix_contains(&a, e->prefix_len, addr, bits))
			return;
		if (prefix_contains(addr, bits, &a, e->prefix_len))
			touched = true;
	}
	if (!touched) {
		compiler_piece(v->c, addr, bits, v->ports);
		return;
	}
	/* an except is longer than this prefix, so bits < 128 */
	carve_prefix(v, &half, bits + 1);
	half.b[bits / 8] |= (uint8_t)(0x80u >> (bits % 8));
	carve_prefix(v, &half, bits + 1);
}

static int piece_compare(const void *pa, const void *pb)
{
	const struct piece *a = pa, *b = pb;
	int r = memcmp(a->addr.b, b->addr.b, 16);

	if (r)
		return r;
	return a->bits < b->bits ? -1 : a->bits > b->bits;
}

static void port_set_add(struct port_set *s, uint32_t ports)
{
	size_t i = 0;

	if (ports == PORTS_NONE)
		return;
	while (i < s->n && s->ports[i] < ports)
		i++;
	if (i < s->n && s->ports[i] == ports)
		return;
	mem_grow(s->ports, s->cap, s->n + 1);
	memmove(s->ports + i + 1, s->ports + i, (s->n - i) * sizeof(*s->ports));
	s->ports[i] = ports;
	s->n++;
}

/* K3C_CLASS_ALL when one of the ports is "any". A class of no ports has no rules: nothing passes. */
static uint32_t compiler_class(struct compiler *c, const struct port_set *s)
{
	struct port_set *fresh;

	for (size_t i = 0; i < s->n; i++)
		if (ports_any(&c->ports[s->ports[i]]))
			return K3C_CLASS_ALL;
	for (size_t i = 0; i < c->n_classes; i++)
		if (c->classes[i].n == s->n &&
		    (!s->n || memcmp(c->classes[i].ports, s->ports, s->n * sizeof(*s->ports)) == 0))
			return (uint32_t)i + 1;
	mem_grow(c->classes, c->cap_classes, c->n_classes + 1);
	fresh = &c->classes[c->n_classes++];
	*fresh = (struct port_set){ 0 };
	for (size_t i = 0; i < s->n; i++)
		port_set_add(fresh, s->ports[i]);
	for (size_t i = 0; i < s->n; i++)
		emit_ports(c, (uint32_t)c->n_classes | K3C_PEER_CLASS, &c->ports[s->ports[i]]);
	return (uint32_t)c->n_classes;
}

static void emit_prefix(struct compiler *c, const struct piece *p, uint32_t class)
{
	struct policy_compiled *out = c->out;
	struct policy_prefix *e;

	mem_grow(out->prefixes, out->cap_prefixes, out->n_prefixes + 1);
	e = &out->prefixes[out->n_prefixes++];
	memset(e, 0, sizeof(*e));
	e->key.prefixlen = K3C_PREFIX_BITS_FIXED + p->bits;
	e->key.direction = c->direction;
	e->key.addr = p->addr;
	e->class = class;
	out->has_prefixes[c->direction] = true;
}

struct level {
	const struct piece *piece;
	struct port_set set;
	uint32_t class;
};

/* Where an IPv6 prefix is around all of IPv4, a place of its own for IPv4, which takes nothing over. */
static void compiler_part_families(struct compiler *c)
{
	const struct k3c_addr zero = dp_addr_v4(0);
	const struct piece v4 = { .addr = zero, .bits = DP_V4_BITS };
	bool around = false;

	for (size_t i = 0; i < c->n_pieces && !around; i++)
		around = c->pieces[i].bits < DP_V4_BITS && prefix_nests(&c->pieces[i], &v4);
	if (around)
		compiler_piece(c, &zero, DP_V4_BITS, PORTS_NONE);
}

/* Ports go down from prefix to prefix within a family only. */
static bool piece_takes_over(const struct piece *from, const struct piece *to)
{
	return from->bits >= DP_V4_BITS || to->bits < DP_V4_BITS || !dp_addr_is_v4(&to->addr);
}

/* Sorted by address and length, prefixes nest like brackets: a stack holds what is around the current one. */
static void compiler_prefixes(struct compiler *c)
{
	struct level *stack = mem_new_array(struct level, 130);
	size_t depth = 0;

	compiler_part_families(c);
	if (c->n_pieces)
		qsort(c->pieces, c->n_pieces, sizeof(*c->pieces), piece_compare);
	for (size_t i = 0; i < c->n_pieces;) {
		const struct piece *p = &c->pieces[i];
		struct level *l;

		while (depth && !prefix_nests(stack[depth - 1].piece, p))
			free(stack[--depth].set.ports);
		l = &stack[depth];
		*l = (struct level){ .piece = p };
		for (size_t k = 0; depth && piece_takes_over(stack[depth - 1].piece, p) && k < stack[depth - 1].set.n;
		     k++)
			port_set_add(&l->set, stack[depth - 1].set.ports[k]);
		for (; i < c->n_pieces && piece_compare(&c->pieces[i], p) == 0; i++)
			port_set_add(&l->set, c->pieces[i].ports);
		l->class = compiler_class(c, &l->set);
		if (!depth || stack[depth - 1].class != l->class)
			emit_prefix(c, p, l->class);
		depth++;
	}
	while (depth)
		free(stack[--depth].set.ports);
	free(stack);
}

/* ---- the whole ---- */

/* The allow rule that an except belongs to; -1: none. */
static long except_owner(const struct dp_policy *p, size_t at)
{
	const struct dp_policy_rule *e = &p->rules[at];
	struct k3c_addr addr = dp_addr_in(&e->prefix);

	for (size_t i = at; i-- > 0;) {
		const struct dp_policy_rule *r = &p->rules[i];
		struct k3c_addr a = dp_addr_in(&r->prefix);

		if (!r->deny && !r->identity && !r->everyone && r->direction == e->direction && r->proto == e->proto &&
		    r->port == e->port && r->end_port == e->end_port &&
		    prefix_contains(&a, r->prefix_len, &addr, e->prefix_len))
			return (long)i;
	}
	return -1;
}

static int compile_rule(struct compiler *c, const struct dp_policy *p, size_t at, const long *owner)
{
	const struct dp_policy_rule *r = &p->rules[at];
	struct ports ports = ports_of(r);
	struct carve v = { .c = c, .rules = p->rules };
	struct k3c_addr net = dp_addr_in(&r->prefix), mask = dp_mask(r->prefix_len);
	size_t *excepts = NULL, cap = 0;

	if (r->identity) {
		emit_ports(c, r->identity & ~K3C_PEER_CLASS, &ports);
		c->out->has_identities[c->direction] = true;
		return 0;
	}
	v.ports = compiler_ports(c, &ports);
	if (r->everyone) {
		const struct k3c_addr v4 = dp_addr_v4(0), v6 = { 0 };

		compiler_piece(c, &v6, 0, v.ports);
		compiler_piece(c, &v4, DP_V4_BITS, v.ports);
		return 0;
	}
	for (size_t i = at + 1; i < p->n_rules; i++) {
		if (owner[i] != (long)at)
			continue;
		mem_grow(excepts, cap, v.n_excepts + 1);
		excepts[v.n_excepts++] = i;
	}
	net.q[0] &= mask.q[0];
	net.q[1] &= mask.q[1];
	v.excepts = excepts;
	v.v6 = r->prefix_len < DP_V4_BITS || !dp_addr_is_v4(&net);
	carve_prefix(&v, &net, r->prefix_len);
	free(excepts);
	return 0;
}

static int compile_check(const struct dp_policy *p, long *owner, struct err *err)
{
	if (p->n_rules > POLICY_RULES_MAX)
		return err_set(err, -E2BIG, "a pod's policy has %zu rules, more than %d", p->n_rules, POLICY_RULES_MAX);
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dp_policy_rule *r = &p->rules[i];

		owner[i] = -1;
		if (r->direction > DP_EGRESS || r->prefix_len > 128 || (r->end_port && r->end_port < r->port) ||
		    (r->end_port && !r->port) || (r->identity & K3C_PEER_CLASS) || (r->deny && r->identity) ||
		    (r->everyone && (r->deny || r->identity || r->prefix_len)))
			return err_set(err, -EINVAL, "policy rule %zu is malformed", i);
		if (!r->deny)
			continue;
		owner[i] = except_owner(p, i);
		if (owner[i] < 0)
			return err_set(err, -EINVAL, "policy rule %zu: an except outside of any allowed prefix", i);
	}
	return 0;
}

int policy_rule_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct k3c_rule_key));
}

static int prefix_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct policy_prefix));
}

void policy_compiled_sort(struct policy_compiled *c)
{
	size_t n = 0;

	if (c->n_rules)
		qsort(c->rules, c->n_rules, sizeof(*c->rules), policy_rule_compare);
	if (c->n_prefixes)
		qsort(c->prefixes, c->n_prefixes, sizeof(*c->prefixes), prefix_compare);
	for (size_t i = 0; i < c->n_rules; i++)
		if (i == 0 || policy_rule_compare(&c->rules[i], &c->rules[n - 1]) != 0)
			c->rules[n++] = c->rules[i];
	c->n_rules = n;
}

int policy_compile(const struct dp_policy *policy, struct policy_compiled *ret, struct err *err)
{
	_cleanup_free_ long *owner = mem_new_array(long, policy->n_rules + 1);
	struct policy_compiled out = { 0 };
	int r = compile_check(policy, owner, err);

	for (uint8_t d = 0; r == 0 && d < 2; d++) {
		struct compiler c = { .out = &out, .direction = d };

		for (size_t i = 0; r == 0 && i < policy->n_rules; i++)
			if (policy->rules[i].direction == d && !policy->rules[i].deny)
				r = compile_rule(&c, policy, i, owner);
		if (r == 0)
			compiler_prefixes(&c);
		if (c.too_many)
			r = err_set(err, -E2BIG, "a pod's policy needs more than %d entries", POLICY_ENTRIES_MAX);
		compiler_reset(&c);
	}
	if (r < 0) {
		policy_compiled_finish(&out);
		return r;
	}
	policy_compiled_sort(&out);
	*ret = out;
	return 0;
}
