/* SPDX-License-Identifier: Apache-2.0 */
/* What programs tell whoever listens, and what they count beside drops, as cases of packets/ state it: what was told of
 * the last packet, event by event and every field of each, how many ports were looked for and what found no room. */
#pragma once

#include <bpf/libbpf.h>

#include "bpf/include/event.h"
#include "bpf/include/nat.h"
#include "tests/dataplane/packet_words.h"
#include "userspace/dataplane/inspect.h"

#define EVENTS_MAX 8 /* of one packet */
#define EVENTS_FILL 512
#define EVENTS_FILL_BYTES 64

struct packet_events {
	struct k3c_event at[EVENTS_MAX];
	size_t n;
	size_t n_judged;
	bool judged, counted;
	struct k3c_snat snat; /* by this packet */
	uint64_t lost;
};

static struct ring_buffer *events_ring;
static struct packet_events *events_into; /* whom the ring's events are for; NULL: nobody */
static bool events_all;                   /* the case's monitor hears of everything, */
static bool events_slow;                  /* or leaves what it hears in the ring */

static inline int events_called(void *arg, void *data, size_t size)
{
	assert_int_equal(size, sizeof(struct k3c_event));
	if (!events_into)
		return 0;
	if (events_into->n < EVENTS_MAX)
		memcpy(&events_into->at[events_into->n], data, size);
	events_into->n++;
	return 0;
}

static inline void events_row(uint32_t mask, uint64_t until_ns)
{
	struct k3c_listen row = { .until_ns = until_ns, .mask = mask };
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_LISTEN], &zero, &row, BPF_ANY), 0);
}

static inline uint64_t events_lost(void)
{
	struct k3c_listen row;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LISTEN], &zero, &row), 0);
	return row.lost;
}

static inline struct k3c_snat events_snat(void)
{
	struct k3c_snat each[256], sum = { 0 };
	uint32_t zero = 0;
	int cpus = libbpf_num_possible_cpus();

	assert_in_range(cpus, 1, ARRAY_SIZE(each));
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SNAT], &zero, each), 0);
	for (int i = 0; i < cpus; i++) {
		sum.searches += each[i].searches;
		sum.collisions += each[i].collisions;
		sum.exhausted += each[i].exhausted;
	}
	return sum;
}

/* Drops, of which next to no byte is zero, until one finds no room: also what is told later lies where others were. */
static inline void events_fill(void)
{
	static uint8_t in[EVENTS_FILL_BYTES];
	struct __sk_buff ctx = { .ifindex = (uint32_t)state_pods[0].ifindex };

	memset(in, 0x61, sizeof(in)); /* another's source, whatever the protocol is */
	in[12] = 0x86;
	in[13] = 0xdd;
	in[20] = IPPROTO_UDP;
	for (int i = 0; i < EVENTS_FILL && !events_lost(); i++) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = sizeof(in), .ctx_in = &ctx,
			    .ctx_size_in = sizeof(ctx), .repeat = 64);

		assert_int_equal(bpf_prog_test_run_opts(world.dp->programs[DP_PROGRAM_POD_OUT], &opts), 0);
	}
}

/* Everything that stands in the ring. */
static inline void events_take(struct packet_events *ret)
{
	events_into = ret;
	assert_true(ring_buffer__consume(events_ring) >= 0);
	events_into = NULL;
}

static inline void events_open(void)
{
	events_ring = ring_buffer__new(world.dp->maps[DP_MAP_EVENT], events_called, NULL, NULL);
	assert_non_null(events_ring);
	events_row(1u << K3C_EVENT_DROP, UINT64_MAX);
	events_fill();
}

/* A case begins: somebody listens to everything. */
static inline void events_begin(void)
{
	events_take(NULL);
	events_row(1u << K3C_EVENT_DROP | 1u << K3C_EVENT_FLOW | 1u << K3C_EVENT_TRANSLATE, UINT64_MAX);
	events_all = true;
	events_slow = false;
}

static inline void events_close(void)
{
	ring_buffer__free(events_ring);
	events_ring = NULL;
}

/* Around a packet. */
static inline void events_before(struct packet_events *e)
{
	memset(e, 0, sizeof(*e));
	e->snat = events_snat();
	e->lost = events_lost();
	if (!events_slow)
		events_take(NULL);
}

static inline void events_after(struct packet_events *e)
{
	struct k3c_snat now = events_snat();

	e->snat.searches = now.searches - e->snat.searches;
	e->snat.collisions = now.collisions - e->snat.collisions;
	e->snat.exhausted = now.exhausted - e->snat.exhausted;
	e->lost = events_lost() - e->lost;
	if (!events_slow)
		events_take(e);
}

/* ---- who listens ---- */

static inline int events_type(const char *word)
{
	static const char *const types[] = {
		[K3C_EVENT_DROP] = "drop", [K3C_EVENT_FLOW] = "flow", [K3C_EVENT_TRANSLATE] = "translate"
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i] && strcmp(types[i], word) == 0)
			return (int)i;
	return -1;
}

/* monitor TYPE...|nobody|gone|slow: who listens to nothing else; nobody; one who was killed; one who reads nothing */
static inline void events_monitor(struct packet_state *s, struct pt_words *w)
{
	uint32_t mask = 0;

	events_all = false;
	events_slow = w->n == 2 && strcmp(w->at[1], "slow") == 0;
	if (events_slow) {
		events_fill();
		if (!events_lost())
			state_fail(s, "there is room for everything");
		return;
	}
	if (w->n == 2 && strcmp(w->at[1], "gone") == 0) {
		events_row(~0u, state_now());
		return;
	}
	for (size_t i = 1; i < w->n && strcmp(w->at[1], "nobody") != 0; i++) {
		int type = events_type(w->at[i]);

		if (type < 0) {
			state_fail(s, "monitor TYPE...|nobody|gone|slow, not %s", w->at[i]);
			return;
		}
		mask |= 1u << type;
	}
	if (w->n < 2)
		state_fail(s, "monitor TYPE...|nobody|gone|slow");
	events_row(mask, UINT64_MAX);
}

/* ---- what was told ---- */

static inline const char *events_via(const struct k3c_event *e)
{
	return e->via == K3C_VIA_LINK ? "link" : e->via == K3C_VIA_MASQUERADE ? "masquerade" : "?";
}

/* As `tells` says it. */
static inline const char *events_text(const struct k3c_event *e)
{
	static char text[400];
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, e->src.b, src, sizeof(src));
	inet_ntop(AF_INET6, e->dst.b, dst, sizeof(dst));
	inet_ntop(AF_INET6, e->to.b, to, sizeof(to));
	snprintf(
		text, sizeof(text),
		"type %u reason %u via %s protocol %u [%s]:%u > [%s]:%u becomes [%s]:%u identities %u > %u, %u bytes at "
		"link %u, cookie %llu",
		e->type, e->reason, events_via(e), e->proto, src, ntohs(e->sport), dst, ntohs(e->dport), to,
		ntohs(e->to_port), e->src_identity, e->dst_identity, e->length, e->ifindex,
		(unsigned long long)e->netns_cookie);
	return text;
}

static inline uint8_t events_reason(struct packet_state *s, const char *word)
{
	const char *name;

	for (unsigned i = 0; (name = dataplane_drop_name(i)); i++)
		if (i && strcmp(name, word) == 0)
			return (uint8_t)i;
	state_fail(s, "no reason: %s", word);
	return 0;
}

/* A name, or a number that has none; 0: none was seen. */
static inline uint8_t events_proto(struct packet_state *s, const char *word)
{
	unsigned long number;
	char *end;

	number = strtoul(word, &end, 10);
	return !*end && end != word && number < 256 ? (uint8_t)number : state_proto(s, word);
}

static inline uint32_t events_identity(struct packet_state *s, const char *word)
{
	char *end;
	unsigned long identity = strtoul(word, &end, 10);

	if (*end || end == word)
		state_fail(s, "no identity: %s", word);
	return (uint32_t)identity;
}

static inline bool events_end_of(struct packet_state *s, const char *word, struct k3c_addr *ret, __be16 *ret_port)
{
	struct dp_addr addr;
	uint16_t port;

	if (strcmp(word, "?") == 0) /* was not seen */
		return true;
	if (!state_end(s, word, &addr, &port))
		return false;
	*ret = dp_addr_in(&addr);
	*ret_port = htons(port);
	return true;
}

#define EVENTS_USAGE                                                                                                   \
	"tells nothing, drop REASON, flow or translate link|masquerade, then PROTO END > END [becomes END] "           \
	"[identities N > N]"

/* The words behind `tells`, but for what every event has of its packet. */
static inline bool events_words(struct packet_state *s, char **w, size_t n, struct k3c_event *ret)
{
	int type = n > 0 ? events_type(w[0]) : -1;
	size_t at = type == K3C_EVENT_FLOW ? 1 : 2;
	bool translate = type == K3C_EVENT_TRANSLATE;

	*ret = (struct k3c_event){ .type = (uint8_t)type };
	if (type < 0 || n < at + 4 || strcmp(w[at + 2], ">") != 0) {
		state_fail(s, EVENTS_USAGE);
		return false;
	}
	if (type == K3C_EVENT_DROP)
		ret->reason = events_reason(s, w[1]);
	else if (translate && strcmp(w[1], "link") == 0)
		ret->via = K3C_VIA_LINK;
	else if (translate && strcmp(w[1], "masquerade") == 0)
		ret->via = K3C_VIA_MASQUERADE;
	else if (translate)
		state_fail(s, "translate link|masquerade, not %s", w[1]);
	ret->proto = events_proto(s, w[at]);
	if (!events_end_of(s, w[at + 1], &ret->src, &ret->sport) ||
	    !events_end_of(s, w[at + 3], &ret->dst, &ret->dport))
		return false;
	for (at += 4; at < n; at += 2) {
		if (translate && strcmp(w[at], "becomes") == 0 && at + 1 < n) {
			if (!events_end_of(s, w[at + 1], &ret->to, &ret->to_port))
				return false;
		} else if (!translate && strcmp(w[at], "identities") == 0 && at + 3 < n &&
			   strcmp(w[at + 2], ">") == 0) {
			ret->src_identity = events_identity(s, w[at + 1]);
			ret->dst_identity = events_identity(s, w[at + 3]);
			at += 2;
		} else {
			state_fail(s, "tells does not know %s", w[at]);
		}
	}
	if (translate && !ret->to.q[1])
		state_fail(s, "translate: becomes what?");
	return !s->failed;
}

/* The next one of the last packet. `length`, `ifindex`: the packet's. */
static inline void events_tells(struct packet_state *s, struct packet_events *e, struct pt_words *w, uint32_t ifindex,
				size_t length)
{
	const struct k3c_event *got = &e->at[e->n_judged];
	struct k3c_event want;

	e->judged = true;
	if (w->n == 2 && strcmp(w->at[1], "nothing") == 0)
		return; /* events_settle() finds what is more */
	if (!events_words(s, w->at + 1, w->n - 1, &want))
		return;
	if (e->n_judged >= e->n || e->n_judged == EVENTS_MAX) {
		state_fail(s, "that was not told, only %zu events were", e->n);
		return;
	}
	e->n_judged++;
	want.time_ns = got->time_ns;
	want.ifindex = ifindex;
	want.length = (uint32_t)length;
	if (memcmp(&want, got, sizeof(want)) != 0) {
		char text[400];

		snprintf(text, sizeof(text), "%s", events_text(got));
		state_fail(s, "told: %s; not %s", text, events_text(&want));
	}
}

/* Ports are tried at random: N+ is at least N. */
static inline void events_count(struct packet_state *s, const char *what, const char *word, uint64_t got)
{
	char *end;
	uint64_t want = strtoull(word, &end, 10);
	bool least = end != word && strcmp(end, "+") == 0;

	if (end == word || (*end && !least))
		state_fail(s, "no number: %s", word);
	else if (least ? got < want : got != want)
		state_fail(s, "%s: %llu, not %s", what, (unsigned long long)got, word);
}

/* counts [searches N] [collisions N] [exhausted N] [lost N]: by the last packet; what is not named: none */
static inline void events_counts(struct packet_state *s, struct packet_events *e, struct pt_words *w)
{
	const struct {
		const char *name;
		uint64_t got;
	} counts[] = { { "searches", e->snat.searches },
		       { "collisions", e->snat.collisions },
		       { "exhausted", e->snat.exhausted },
		       { "lost", e->lost } };
	size_t named = 0;

	e->counted = true;
	for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
		const char *word = "0";

		for (size_t i = 1; i + 1 < w->n; i += 2) {
			if (strcmp(w->at[i], counts[k].name) != 0)
				continue;
			word = w->at[i + 1];
			named++;
			break;
		}
		events_count(s, counts[k].name, word, counts[k].got);
	}
	if (w->n < 3 || w->n != 2 * named + 1)
		state_fail(s, "counts [searches N] [collisions N] [exhausted N] [lost N], each once");
}

/* ---- what holds of every packet, stated or not ---- */

static inline size_t events_of(const struct packet_events *e, uint8_t type, uint8_t via)
{
	size_t n = 0;

	for (size_t i = 0; i < e->n && i < EVENTS_MAX; i++)
		n += e->at[i].type == type && e->at[i].via == via;
	return n;
}

static inline const char *events_reason_name(const struct k3c_event *e)
{
	const char *name = dataplane_drop_name(e->reason);

	return name ? name : "nothing that has a name";
}

/* Each drop that is counted is told, once. `reason`: empty: none. */
static inline void events_drops_told(struct packet_state *s, const struct packet_events *e, const char *reason)
{
	for (size_t i = 0; i < e->n && i < EVENTS_MAX; i++)
		if (e->at[i].type == K3C_EVENT_DROP && strcmp(events_reason_name(&e->at[i]), reason) != 0)
			state_fail(s, "told that it was dropped for %s", events_reason_name(&e->at[i]));
	if (events_of(e, K3C_EVENT_DROP, 0) != (reason[0] != 0))
		state_fail(s, "%zu drops were told", events_of(e, K3C_EVENT_DROP, 0));
}

static inline void events_settle(struct packet_state *s, const struct packet_events *e, const char *reason)
{
	size_t masquerades = events_of(e, K3C_EVENT_TRANSLATE, K3C_VIA_MASQUERADE);
	bool exhausted = strcmp(reason, "snat-exhausted") == 0;

	if (e->judged && e->n_judged != e->n)
		state_fail(s, "told as well: %s", events_text(&e->at[e->n_judged]));
	for (size_t i = 0; i < e->n && i < EVENTS_MAX; i++)
		if (e->at[i].time_ns < s->before_ns || e->at[i].time_ns > s->after_ns)
			state_fail(s, "told at another time: %s", events_text(&e->at[i]));
	if (!events_all)
		return;
	events_drops_told(s, e, reason);
	if (!e->counted && (e->snat.searches != masquerades + exhausted || e->snat.exhausted != exhausted || e->lost))
		state_fail(s, "counts: %llu searches, %llu exhausted, %llu lost", (unsigned long long)e->snat.searches,
			   (unsigned long long)e->snat.exhausted, (unsigned long long)e->lost);
}
