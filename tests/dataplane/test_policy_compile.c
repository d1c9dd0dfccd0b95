/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled policies, judged by a longest-prefix match in plain C, must allow exactly what the rules say; also for
 * random rules against a direct reading of them. No kernel. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "tests/dataplane/rounds.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/policy_compile.h"

static struct dp_addr v4(uint32_t host)
{
	struct k3c_addr a = dp_addr_v4(htonl(host));

	return dp_addr_out(&a);
}

static bool bits_equal(const void *a, const void *b, unsigned bits)
{
	const uint8_t *x = a, *y = b;

	for (unsigned i = 0; i < bits; i++)
		if (((x[i / 8] ^ y[i / 8]) >> (7 - i % 8)) & 1)
			return false;
	return true;
}

static bool rule_match(const struct policy_compiled *c, const struct k3c_rule_key *k)
{
	for (size_t i = 0; i < c->n_rules; i++)
		if (bits_equal(&c->rules[i].set, &k->set, c->rules[i].prefixlen))
			return true;
	return false;
}

/* What the programs do (bpf/lib/policy.h). */
static bool compiled_allows(const struct policy_compiled *c, uint8_t direction, uint32_t identity,
			    const struct k3c_addr *addr, uint8_t proto, uint16_t port)
{
	struct k3c_rule_key rule = { .peer = identity, .direction = direction, .proto = proto, .port = htons(port) };
	struct k3c_prefix_key prefix = { .direction = direction, .addr = *addr };
	const struct policy_prefix *best = NULL;

	if (identity && (c->has_identities[direction] || !c->has_prefixes[direction]) && rule_match(c, &rule))
		return true;
	for (size_t i = 0; i < c->n_prefixes; i++)
		if (bits_equal(&c->prefixes[i].key.set, &prefix.set, c->prefixes[i].key.prefixlen) &&
		    (!best || c->prefixes[i].key.prefixlen > best->key.prefixlen))
			best = &c->prefixes[i];
	if (!best)
		return false;
	if (best->class == K3C_CLASS_ALL)
		return true;
	rule.peer = best->class | K3C_PEER_CLASS;
	return rule_match(c, &rule);
}

/* By family: what is IPv4 is so by its own first 96 bits. */
static bool in_net(const struct k3c_addr *a, const struct dp_policy_rule *r)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = memcmp(a->b, mapped, 12) == 0, net_v4 = r->prefix_len >= 96 && memcmp(r->prefix.b, mapped, 12) == 0;

	return r->everyone || (v4 == net_v4 && bits_equal(a->b, r->prefix.b, r->prefix_len));
}

/* What the rules say, one by one. Excepts follow their allow rule here. */
static bool rules_allow(const struct dp_policy *p, uint8_t direction, uint32_t identity, const struct k3c_addr *addr,
			uint8_t proto, uint16_t port)
{
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dp_policy_rule *r = &p->rules[i];
		bool hit;

		if (r->deny || r->direction != direction || (r->proto && r->proto != proto))
			continue;
		if (r->port && (port < r->port || port > (r->end_port ? r->end_port : r->port)))
			continue;
		hit = r->identity ? r->identity == identity : in_net(addr, r);
		for (size_t k = i + 1; hit && k < p->n_rules && p->rules[k].deny; k++)
			hit = !in_net(addr, &p->rules[k]);
		if (hit)
			return true;
	}
	return false;
}

/* Prefixes of IPv6 of every length around the mapped addresses, and excepts out of them. */
static struct dp_policy_rule random_wide(const struct dp_policy_rule *base, bool deny, unsigned min)
{
	struct dp_policy_rule r = *base;

	r.deny = deny;
	memset(&r.prefix, 0, sizeof(r.prefix));
	if (min <= 96)
		r.prefix_len = (uint8_t)(min + (unsigned)rand() % (97 - min));
	if (min > 96 || rand() % 4 == 0)
		r.prefix_len = (uint8_t)(min + (unsigned)rand() % (129 - min));
	if (rand() % 2)
		r.prefix.b[10] = (uint8_t)(rand() % 2 ? 0xff : 0xfe);
	if (rand() % 2)
		r.prefix.b[11] = (uint8_t)(rand() % 2 ? 0xfe : 0xfc);
	for (unsigned bit = r.prefix_len; bit < 128; bit++)
		r.prefix.b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	return r;
}

static size_t random_wides(struct dp_policy_rule *rules, struct dp_policy_rule base)
{
	struct dp_policy_rule e;
	size_t n = 1;

	rules[0] = random_wide(&base, false, rand() % 2 ? 0 : (unsigned)rand() % 96);
	for (int k = 0; k < 2 && rules[0].prefix_len < 128; k++) {
		e = random_wide(&rules[0], true, rules[0].prefix_len + 1u);
		if (bits_equal(e.prefix.b, rules[0].prefix.b, rules[0].prefix_len))
			rules[n++] = e;
	}
	return n;
}

static struct dp_addr random_addr(void)
{
	struct dp_addr a = v4((rand() % 10 ? 0x0a000000u : 0x0b000000u) | ((uint32_t)rand() & 0x1ff));

	if (rand() % 3)
		return a;
	a.b[10] = (uint8_t)(rand() % 2 ? 0xff : 0xfe);
	a.b[11] = (uint8_t)(rand() % 2 ? 0xfe : 0);
	if (rand() % 4 == 0)
		a.b[rand() % 8] ^= 1;
	return a;
}

static size_t random_rules(struct dp_policy_rule *rules, size_t max)
{
	static const uint8_t protos[] = { 0, IPPROTO_TCP, IPPROTO_UDP };
	size_t n = 0;

	while (n + 3 < max) {
		struct dp_policy_rule r = { .direction = (uint8_t)(rand() % 2), .proto = protos[rand() % 3] };

		if (r.proto && rand() % 3) {
			r.port = (uint16_t)(1 + rand() % 65535);
			if (rand() % 2)
				r.end_port = (uint16_t)(r.port + rand() % (65536 - r.port));
		}
		if (rand() % 3 == 0) {
			r.identity = 1 + (uint32_t)rand() % 4;
			rules[n++] = r;
			continue;
		}
		if (rand() % 8 == 0) {
			r.everyone = true;
			rules[n++] = r;
			continue;
		}
		if (rand() % 3 == 0) {
			n += random_wides(rules + n, r);
			continue;
		}
		r.prefix = v4(0x0a000000u | ((uint32_t)rand() & 0xff));
		r.prefix_len = (uint8_t)(96 + 22 + rand() % 11);
		if (rand() % 8 == 0)
			r.prefix_len = 96;
		rules[n++] = r;
		for (int k = rand() % 3; k > 0 && r.prefix_len < 128; k--) {
			struct dp_policy_rule e = r;

			e.deny = true;
			e.prefix_len = (uint8_t)(r.prefix_len + 1 + rand() % (128 - r.prefix_len));
			e.prefix.b[15] = (uint8_t)((e.prefix.b[15] &
						    (0xff << (128 - (r.prefix_len > 120 ? r.prefix_len : 120)))) |
						   (rand() & (0xff >> (r.prefix_len > 120 ? r.prefix_len - 120 : 0))));
			rules[n++] = e;
		}
	}
	return n;
}

static void test_random(void **state)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP };

	srand(7);
	for (int round = rounds_wanted("K3C_COMPILE_ROUNDS", 300); round > 0; round--) {
		struct dp_policy_rule rules[14];
		struct dp_policy p = { .rules = rules };
		struct policy_compiled c;

		p.n_rules = random_rules(rules, 14);
		assert_int_equal(policy_compile(&p, &c, NULL), 0);
		for (int probe = 0; probe < 600; probe++) {
			struct dp_addr a = random_addr();
			struct k3c_addr addr = dp_addr_in(&a);
			const struct dp_policy_rule *near = &rules[(size_t)rand() % p.n_rules];
			uint8_t direction = (uint8_t)(rand() % 2), proto = protos[rand() % 3];
			uint32_t identity = (uint32_t)rand() % 5;
			uint16_t port = (uint16_t)((rand() % 2 ? near->port : near->end_port) + rand() % 3 - 1);

			if (proto == IPPROTO_ICMP)
				port = 0;
			assert_int_equal(compiled_allows(&c, direction, identity, &addr, proto, port),
					 rules_allow(&p, direction, identity, &addr, proto, port));
		}
		policy_compiled_finish(&c);
	}
}

static void test_same_bytes(void **state)
{
	struct dp_policy_rule rules[] = {
		{ .identity = 5, .proto = IPPROTO_TCP, .port = 80 },
		{ .prefix = v4(0x0a000000), .prefix_len = 104, .proto = IPPROTO_TCP, .port = 1, .end_port = 65535 },
	}, turned[] = { rules[1], rules[0], rules[0] };
	struct dp_policy p = { .rules = rules, .n_rules = 2 }, q = { .rules = turned, .n_rules = 3 };
	struct policy_compiled a, b;

	assert_int_equal(policy_compile(&p, &a, NULL), 0);
	assert_int_equal(policy_compile(&q, &b, NULL), 0);
	assert_int_equal(a.n_rules, b.n_rules);
	assert_memory_equal(a.rules, b.rules, a.n_rules * sizeof(*a.rules));
	assert_int_equal(a.n_rules, 1 + 16); /* 1-65535 is sixteen blocks */
	policy_compiled_finish(&a);
	policy_compiled_finish(&b);
}

static void test_malformed(void **state)
{
	struct dp_policy_rule bad[] = {
		{ .direction = 2 }, { .prefix_len = 129 },       { .port = 80, .end_port = 79 },
		{ .end_port = 79 }, { .identity = 0x80000001u }, { .deny = true, .prefix_len = 128 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct dp_policy p = { .rules = &bad[i], .n_rules = 1 };
		struct policy_compiled c;

		assert_int_equal(policy_compile(&p, &c, NULL), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(all, NULL, NULL);
}
