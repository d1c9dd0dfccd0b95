/* SPDX-License-Identifier: Apache-2.0 */
/* The words that cases of packets/ have in common, and what a case knows of itself. */
#pragma once

#include <bpf/bpf.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/own.h"
#include "bpf/include/rate.h"
#include "tests/dataplane/packet_text.h"
#include "tests/dataplane/world.h"

#define STATE_SERVICES_MAX 8
#define STATE_BACKENDS_MAX 16
#define STATE_RULES_MAX 16
#define STATE_IDENTITIES_MAX 16
#define STATE_PODS 3

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
	struct k3c_addr node_address; /* zero: none more */
	uint32_t used;                /* enum k3c_used, by the translations so far */
	bool pod_pass_gone;
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

/* A number, or a name bound by a packet. */
static inline uint16_t state_port(struct packet_state *s, const char *word)
{
	if (word[0] == '$')
		return (uint16_t)pt_var(s->vars, word + 1)->value;
	return (uint16_t)strtoul(word, NULL, 0);
}

/* ADDRESS:PORT or [ADDRESS]:PORT */
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
	*ret_port = state_port(s, colon + 1);
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

/* Where the host's own packets for services enter; 0: there is no such link, for want of a service of SCTP. */
static inline uint32_t state_own(struct packet_state *s)
{
	struct k3c_own own;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_OWN], &zero, &own), 0);
	if (!own.ifindex)
		state_fail(s, "no service of SCTP, so no link of the host's own");
	return own.ifindex;
}

static inline uint32_t state_link(struct packet_state *s, const char *word)
{
	uint32_t index;

	if (word[0] >= 'a' && word[0] < 'a' + STATE_PODS && !word[1])
		return (uint32_t)state_pods[word[0] - 'a'].ifindex;
	if (strcmp(word, "own") == 0)
		return state_own(s);
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

static inline uint64_t state_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
