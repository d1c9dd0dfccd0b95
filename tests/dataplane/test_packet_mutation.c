/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that nobody would send, through every program: those of tests/dataplane/packets with bits turned, lengths
 * that lie, parts of each other, while the maps hold what the cases say and whatever the packets before left there.
 * Whatever comes: the kernel runs the program, the verdict is one there is, the length stays, what no header holds
 * stays, sums that were right are right, and nothing leaves a pod under an address that is not its own.
 * K3C_MUTATION_SEED and K3C_MUTATIONS (of each packet) say which and how many; a failure prints the packet. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/dataplane/packet_files.h"
#include "tests/dataplane/packet_state.h"

#define MUTATIONS 250 /* of each packet, unless K3C_MUTATIONS says otherwise */
#define MUTATION_STEPS_MAX 6
#define MUTATION_HEAD 96 /* most turns happen where headers are */
#define MUTATION_FAILURES_SHOWN 5
#define MUTATION_SCTP_PARAMS 32 /* as many as the programs look at */

static uint64_t seed;
static unsigned mutations = MUTATIONS, n_runs, n_failed, n_passed, n_changed, longest_ns;
static bool xdp[DP_PROGRAM_COUNT], runs[DP_PROGRAM_COUNT];
static struct pt_packet other; /* the packet before */

/* xorshift64 */
static uint32_t chance(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return n ? (uint32_t)(seed >> 16) % n : 0;
}

/* ---- mutations ---- */

static size_t place(const struct pt_packet *p)
{
	size_t n = chance(8) && p->n > MUTATION_HEAD ? MUTATION_HEAD : p->n;

	return chance(32) || n < 15 ? 12 + chance((uint32_t)n - 12) : chance((uint32_t)n);
}

static void mutate_length(struct pt_packet *p)
{
	size_t n = p->n;

	if (chance(2))
		p->n = 14 + chance((uint32_t)n - 13);
	else
		p->n = n + chance((uint32_t)(PT_BYTES_MAX - n) / (chance(4) ? 64 : 1));
	for (size_t i = n; i < p->n; i++)
		p->bytes[i] = (uint8_t)chance(256);
}

/* A part of the packet before in place of this one's: headers that do not belong together. */
static void mutate_splice(struct pt_packet *p)
{
	size_t at = place(p), n = 1 + chance(40);

	if (at + n > p->n)
		n = p->n - at;
	if (at + n <= other.n)
		memcpy(p->bytes + at, other.bytes + at, n);
}

static void mutate_step(struct pt_packet *p)
{
	static const uint8_t odd[] = { 0, 1, 4, 5, 6, 17, 43, 44, 58, 60, 127, 128, 132, 254, 255 };
	size_t at = place(p);

	switch (chance(8)) {
	case 0:
		mutate_length(p);
		break;
	case 1:
		mutate_splice(p);
		break;
	case 2:
		p->bytes[at] = (uint8_t)chance(256);
		break;
	case 3:
	case 4:
		p->bytes[at] = odd[chance(sizeof(odd))];
		break;
	case 5: /* the other family's header */
		if (p->n > 14)
			p->bytes[14] = (uint8_t)((p->bytes[14] & 15) | (chance(2) ? 0x40 : 0x60));
		break;
	default:
		p->bytes[at] ^= (uint8_t)(1u << chance(8));
	}
}

/* Half of them with right sums, else none would tell whether they stay so. */
static void mutate(struct pt_packet *p)
{
	for (uint32_t i = 0, n = 1 + chance(MUTATION_STEPS_MAX); i < n; i++)
		mutate_step(p);
	if (chance(2))
		ps_mend(p->bytes, p->n);
}

/* ---- what must be ---- */

static bool verdict_is_one(enum dp_program program, uint32_t verdict)
{
	if (xdp[program])
		return verdict == XDP_PASS || verdict == XDP_DROP;
	return verdict == TC_ACT_OK || verdict == TC_ACT_SHOT || verdict == TC_ACT_REDIRECT ||
	       verdict == (uint32_t)TC_ACT_UNSPEC;
}

static bool is_dropped(enum dp_program program, uint32_t verdict)
{
	return xdp[program] ? verdict == XDP_DROP : verdict == TC_ACT_SHOT;
}

/* As who sits behind a translation sees the beginning of an SCTP association: addresses that the other end names are
 * parameters that nobody knows. */
static void hide_addresses(uint8_t *b, size_t l4, size_t end)
{
	size_t at = l4 + 32;

	if (l4 + 13 > end || (b[l4 + 12] != 1 && b[l4 + 12] != 2))
		return;
	for (unsigned i = 0; i < MUTATION_SCTP_PARAMS && at + 4 <= end && ps_get(b, at + 2, 2); i++) {
		uint32_t type = ps_get(b, at, 2);

		if (type == 5 || type == 6)
			ps_put(b, at, 2, type | 0x8000);
		at += (ps_get(b, at + 2, 2) + 3) & ~3u;
	}
}

/* What follows the transport's header stays, but for what an ICMP error holds and the addresses that an INIT names. */
static bool payload_stays(const struct pt_packet *p, const uint8_t *out)
{
	uint8_t hidden[PT_BYTES_MAX];
	struct ps_packet l;
	size_t from;

	if (!ps_look(p->bytes, p->n, &l) || !ps_sum_at(p->bytes, &l) || l.proto == 1 || l.proto == 58)
		return true;
	from = l.l4 + (l.proto == 6 ? 18 : l.proto == 17 ? 8 : 12);
	if (memcmp(p->bytes + from, out + from, p->n - from) == 0)
		return true;
	if (l.proto != 132)
		return false;
	memcpy(hidden, p->bytes, p->n);
	hide_addresses(hidden, l.l4, l.end);
	return memcmp(hidden + from, out + from, p->n - from) == 0;
}

static bool source_is_own(const struct pt_packet *p, uint32_t ifindex)
{
	uint32_t type = ps_get(p->bytes, 12, 2);

	for (size_t i = 0; i < STATE_PODS; i++) {
		struct dp_addr addrs[DP_FAMILIES];

		if ((uint32_t)state_pods[i].ifindex != ifindex)
			continue;
		pod_addrs_of(&state_pods[i], addrs);
		if (type == 0x0800)
			return p->n >= 34 && memcmp(p->bytes + 26, addrs[DP_V4].b + 12, 4) == 0;
		return type == 0x86dd && p->n >= 54 && memcmp(p->bytes + 22, addrs[DP_V6].b, 16) == 0;
	}
	return false;
}

static void show(const struct pt_packet *p, enum dp_program program, const char *what, const uint8_t *out, size_t n)
{
	if (n_failed++ >= MUTATION_FAILURES_SHOWN)
		return;
	print_error("%s: %s\n in  ", programs_name(program), what);
	for (size_t i = 0; i < p->n; i++)
		print_error("%02x", p->bytes[i]);
	print_error("\n out ");
	for (size_t i = 0; i < n; i++)
		print_error("%02x", out[i]);
	print_error("\n");
}

static void judge(const struct pt_packet *p, enum dp_program program, uint32_t ifindex, uint32_t verdict,
		  const uint8_t *out, size_t n)
{
	if (!verdict_is_one(program, verdict)) {
		show(p, program, "no verdict", out, n);
		return;
	}
	if (is_dropped(program, verdict))
		return;
	n_passed++;
	n_changed += n == p->n && memcmp(out + 14, p->bytes + 14, n - 14) != 0;
	if (n != p->n)
		show(p, program, "another length", out, n);
	else if (ps_right(p->bytes, p->n) && !ps_right(out, n))
		show(p, program, "sums were right", out, n);
	else if (!payload_stays(p, out))
		show(p, program, "what is behind the headers changed", out, n);
	else if ((program == DP_PROGRAM_POD_OUT || program == DP_PROGRAM_POD_PASS) && !source_is_own(p, ifindex))
		show(p, program, "passed with an address that is not the pod's", out, n);
}

/* ---- runs ---- */

static void run_packet(const struct pt_packet *p, enum dp_program program, struct __sk_buff ctx)
{
	static _Alignas(8) uint8_t in[2 + PT_BYTES_MAX], out[2 * PT_BYTES_MAX];
	struct xdp_md md = { .data_end = (uint32_t)p->n, .ingress_ifindex = ctx.ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in + 2, .data_size_in = (uint32_t)p->n, .data_out = out,
		    .data_size_out = sizeof(out), .ctx_in = xdp[program] ? (void *)&md : (void *)&ctx,
		    .ctx_size_in = xdp[program] ? sizeof(md) : sizeof(ctx), .repeat = 1);

	memcpy(in + 2, p->bytes, p->n);
	n_runs++;
	if (bpf_prog_test_run_opts(world.dp->programs[program], &opts) < 0) {
		/* newer kernels make no such packet */
		if (errno == EINVAL && p->n < (ps_get(p->bytes, 12, 2) == 0x86dd ? 54u : 34u))
			return;
		show(p, program, strerror(errno), NULL, 0);
		return;
	}
	if (opts.duration > longest_ns)
		longest_ns = opts.duration;
	judge(p, program, ctx.ifindex, opts.retval, out, opts.data_size_out);
}

/* As the case has it, mostly; else any program on any link. */
static void run_somewhere(const struct pt_packet *p, enum dp_program program, struct __sk_buff ctx)
{
	uint32_t links[] = { (uint32_t)state_pods[0].ifindex, (uint32_t)state_pods[1].ifindex,
			     (uint32_t)ifindex_in(world_host_ns(), "up0") };

	if (chance(3) == 0) {
		do
			program = (enum dp_program)chance(DP_PROGRAM_COUNT);
		while (!runs[program]);
		ctx = (struct __sk_buff){ .ifindex = links[chance(ARRAY_SIZE(links))] };
		if (chance(2))
			ctx.ingress_ifindex = links[chance(ARRAY_SIZE(links))];
	}
	if (chance(8) == 0)
		ctx.mark = K3C_MARK_MASQUERADE;
	run_packet(p, program, ctx);
}

static void run_mutations(const struct pt_packet *p, enum dp_program program, const struct __sk_buff *ctx)
{
	static struct pt_packet mutant;

	run_packet(p, program, *ctx);
	for (unsigned i = 0; i < mutations; i++) {
		mutant = *p;
		mutate(&mutant);
		run_somewhere(&mutant, program, *ctx);
	}
	other = *p;
}

/* ---- files ---- */

/* Words that look at what came out: here it is something else. */
static bool is_expectation(const char *word)
{
	static const char *const words[] = { "out",     "pass",  "drop",  "redirect", "transmit",
					     "next",    "mark",  "made",  "missing",  "charged",
					     "departs", "waits", "tells", "counts",   "addressed" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i], word) == 0)
			return true;
	return false;
}

struct at {
	struct packet_state state;
	enum dp_program program;
	struct __sk_buff ctx;
};

static void step_run(struct at *a, struct pt_words *w)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		if (strcmp(programs_name(p), w->at[1]) == 0)
			a->program = p;
	a->ctx = (struct __sk_buff){ .ifindex = state_link(&a->state, w->at[2]) };
	for (size_t i = 3; i + 1 < w->n; i += 2) {
		if (strcmp(w->at[i], "from") == 0)
			a->ctx.ingress_ifindex = state_link(&a->state, w->at[i + 1]);
		else if (strcmp(w->at[i], "mark") == 0)
			a->ctx.mark = (uint32_t)strtoul(w->at[i + 1], NULL, 0);
	}
}

static void step(struct at *a, struct pt_words *w)
{
	static struct pt_packet p;

	if (is_expectation(w->at[0]))
		return;
	if (strcmp(w->at[0], "run") == 0)
		step_run(a, w);
	else if (strcmp(w->at[0], "in") != 0)
		assert_true(state_step(&a->state, w));
	else if (pt_build(&p, a->state.vars, w->at + 1, w->n - 1) && p.n >= 34)
		run_mutations(&p, a->program, &a->ctx);
}

static void run_file(const char *dir, const char *name)
{
	static struct at a;
	char path[PATH_MAX], line[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *text = line + strspn(line, " \t\n");
		struct pt_words w;

		if (!*text || *text == '#')
			continue;
		if (strncmp(text, "case ", 5) == 0) {
			state_begin(&a.state, name, "mutations");
			a = (struct at){ .state = a.state };
			continue;
		}
		pt_split(text, &w);
		step(&a, &w);
	}
	fclose(f);
}

static void which_programs(void)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++) {
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);

		assert_int_equal(bpf_obj_get_info_by_fd(world.dp->programs[p], &info, &len), 0);
		xdp[p] = info.type == BPF_PROG_TYPE_XDP;
		runs[p] = xdp[p] || info.type == BPF_PROG_TYPE_SCHED_CLS;
	}
}

static void test_mutations(void **state)
{
	const char *text = getenv("K3C_MUTATIONS");
	struct dirent **names;
	int n = scandir(packet_files_dir(), &names, packet_files_one, alphasort);
	uint64_t begun;

	assert_true(n > 0);
	if (text && atoi(text) > 0)
		mutations = (unsigned)atoi(text);
	text = getenv("K3C_MUTATION_SEED");
	seed = begun = text ? strtoull(text, NULL, 0) | 1 : 0x9e3779b97f4a7c15u;
	which_programs();
	for (int i = 0; i < n; i++) {
		run_file(packet_files_dir(), names[i]->d_name);
		free(names[i]);
	}
	free(names);
	print_message("seed 0x%llx: %u packets, %u passed, %u of them changed, %u wrong, the longest took %u us\n",
		      (unsigned long long)begun, n_runs, n_passed, n_changed, n_failed, longest_ns / 1000);
	assert_true(n_changed > 0);
	assert_int_equal(n_failed, 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_mutations) };
	int r;

	world_uplink();
	state_open();
	r = cmocka_run_group_tests(all, NULL, NULL);
	state_close();
	return r;
}

int main(void)
{
	return world_run(tests);
}
