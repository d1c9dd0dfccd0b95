/* SPDX-License-Identifier: Apache-2.0 */
/* Every case of every file in tests/dataplane/packets (see README there) through the real programs with
 * BPF_PROG_TEST_RUN: verdict, bytes, what is counted, told and remembered. packets/branches lists the outcomes that
 * each program has; one that no case reaches fails the test, and so does one that is not listed. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "bpf/include/event.h"
#include "tests/dataplane/packet_files.h"
#include "tests/dataplane/packet_state.h"

#define OUTCOMES_MAX 256
#define OUTCOME_SIZE 80

struct outcome {
	char text[OUTCOME_SIZE];
	bool listed, excused; /* excused: "never REASON", with why behind # */
	unsigned hits;
};

static struct outcome outcomes[OUTCOMES_MAX];
static size_t n_outcomes, n_cases, n_packets, n_failed;

static struct outcome *outcome_of(const char *text)
{
	for (size_t i = 0; i < n_outcomes; i++)
		if (strcmp(outcomes[i].text, text) == 0)
			return &outcomes[i];
	assert_true(n_outcomes < OUTCOMES_MAX);
	snprintf(outcomes[n_outcomes].text, OUTCOME_SIZE, "%s", text);
	return &outcomes[n_outcomes++];
}

/* ---- one packet ---- */

struct run {
	struct packet_state state;
	/* how the next packets come */
	enum dp_program program;
	bool has_program, xdp;
	size_t skip; /* bytes of the link header that the program does not get */
	struct __sk_buff ctx;
	/* the last packet */
	struct pt_packet in;
	uint8_t out[PT_BYTES_MAX];
	uint32_t out_len, verdict, mark;
	uint64_t tstamp;
	char reason[32]; /* counted; empty: none */
	uint64_t bytes;  /* counted for it */
	struct packet_events events;
	struct k3c_pod_drop lost[STATE_PODS];
	bool open; /* sent, and its verdict not judged yet */
	bool judged, out_judged;
};

static void counters(struct dp_drop *ret, size_t *ret_n)
{
	ok(dataplane_drops(world.dp, ret, 64, ret_n, err));
}

/* What a pod lost, by the host end of its veth. */
static void pod_drops(struct k3c_pod_drop *ret)
{
	for (int i = 0; i < STATE_PODS; i++) {
		uint32_t key = (uint32_t)state_pods[i].ifindex;

		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_POD_DROP], &key, &ret[i]), 0);
	}
}

static bool is_xdp(enum dp_program program)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(world.dp->programs[program], &info, &len), 0);
	return info.type == BPF_PROG_TYPE_XDP;
}

static void send_packet(struct run *r)
{
	static _Alignas(8) uint8_t in[2 + PT_BYTES_MAX]; /* what follows the link header is aligned */
	struct k3c_pod_drop lost[STATE_PODS];
	struct dp_drop before[64], after[64];
	struct xdp_md xdp = { .data_end = (uint32_t)r->in.n, .ingress_ifindex = r->ctx.ifindex };
	struct __sk_buff ctx = r->ctx;
	size_t n;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in + 2 + r->skip, .data_size_in = (uint32_t)(r->in.n - r->skip),
		    .data_out = r->out + r->skip, .data_size_out = (uint32_t)(sizeof(r->out) - r->skip),
		    .ctx_in = r->xdp ? (void *)&xdp : (void *)&ctx, .ctx_size_in = r->xdp ? sizeof(xdp) : sizeof(ctx),
		    .ctx_out = r->xdp ? NULL : &ctx, .ctx_size_out = r->xdp ? 0 : sizeof(ctx), .repeat = 1);

	if (r->program == DP_PROGRAM_POD_PACE) /* it is in the pod's namespace, where the link has another number */
		ctx.ifindex = 0;
	memcpy(in + 2, r->in.bytes, r->in.n);
	memcpy(r->out, r->in.bytes, r->skip);
	for (int i = 0; i < STATE_PODS; i++)
		state_rate(i, &r->state.rate_before[i]);
	counters(before, &n);
	pod_drops(lost);
	events_before(&r->events);
	r->state.before_ns = state_now();
	if (bpf_prog_test_run_opts(world.dp->programs[r->program], &opts) < 0) {
		state_fail(&r->state, "test run: %s", strerror(errno));
		return;
	}
	r->state.after_ns = state_now();
	events_after(&r->events);
	counters(after, &n);
	pod_drops(r->lost);
	for (int i = 0; i < STATE_PODS; i++) {
		r->lost[i].ingress -= lost[i].ingress;
		r->lost[i].egress -= lost[i].egress;
		r->lost[i].other -= lost[i].other;
		r->lost[i].bytes -= lost[i].bytes;
	}
	r->reason[0] = 0;
	r->bytes = 0;
	for (size_t i = 0; i < n; i++) {
		r->bytes += after[i].bytes - before[i].bytes;
		for (uint64_t k = before[i].packets; k < after[i].packets; k++)
			snprintf(r->reason + strlen(r->reason), sizeof(r->reason) - strlen(r->reason), "%s%s",
				 r->reason[0] ? "+" : "", after[i].reason);
	}
	r->verdict = opts.retval;
	r->out_len = opts.data_size_out + (uint32_t)r->skip;
	r->mark = ctx.mark;
	r->tstamp = ctx.tstamp;
	r->open = true;
	r->judged = r->out_judged = false;
	n_packets++;
}

static const char *verdict_name(const struct run *r)
{
	if (r->xdp)
		return r->verdict == XDP_PASS       ? "pass"
		       : r->verdict == XDP_DROP     ? "drop"
		       : r->verdict == XDP_TX       ? "transmit"
		       : r->verdict == XDP_REDIRECT ? "redirect"
						    : "abort";
	return r->verdict == TC_ACT_OK                 ? "pass"
	       : r->verdict == TC_ACT_SHOT             ? "drop"
	       : r->verdict == TC_ACT_REDIRECT         ? "redirect"
	       : r->verdict == (uint32_t)TC_ACT_UNSPEC ? "next"
						       : "other";
}

/* Behind the link header, which redirecting rewrites. */
static bool is_changed(const struct run *r)
{
	return r->out_len != r->in.n || memcmp(r->out + 14, r->in.bytes + 14, r->in.n - 14) != 0;
}

static void note_outcome(const struct run *r)
{
	uint64_t type = pt_get(r->in.bytes, 12, 2);
	char text[OUTCOME_SIZE];

	snprintf(text, sizeof(text), "%s %s %s%s%s%s", programs_name(r->program),
		 type == 0x0800   ? "ip"
		 : type == 0x86dd ? "ip6"
				  : "other",
		 verdict_name(r), strcmp(verdict_name(r), "drop") != 0 && is_changed(r) ? " changed" : "",
		 r->reason[0] ? " " : "", r->reason);
	outcome_of(text)->hits++;
}

/* Before the next step: every packet's verdict is stated, and bytes are as they were unless the case says how. */
static void settle(struct run *r)
{
	if (!r->open || r->state.failed)
		return;
	r->open = false;
	note_outcome(r);
	if (!r->judged)
		state_fail(&r->state, "the verdict is not stated, it was: %s %s", verdict_name(r), r->reason);
	else if (!r->out_judged && strcmp(verdict_name(r), "drop") != 0 && is_changed(r)) {
		char text[512];

		pt_equal(&r->in, r->out, r->out_len, text, sizeof(text));
		state_fail(&r->state, "the packet was changed: %s", text);
	}
	events_settle(&r->state, &r->events, r->reason);
}

/* ---- steps ---- */

static void step_run(struct run *r, struct pt_words *w)
{
	r->has_program = false;
	for (enum dp_program p = 0; w->n > 1 && p < DP_PROGRAM_COUNT; p++)
		if (strcmp(programs_name(p), w->at[1]) == 0) {
			r->program = p;
			r->has_program = true;
		}
	if (!r->has_program || w->n < 3) {
		state_fail(&r->state, "run PROGRAM LINK");
		return;
	}
	r->xdp = is_xdp(r->program);
	r->skip = r->program == DP_PROGRAM_HOST_L3_IN || r->program == DP_PROGRAM_HOST_L3_OUT ? 14 : 0;
	r->ctx = (struct __sk_buff){ .ifindex = state_link(&r->state, w->at[2]) };
	for (size_t i = 3; i + 1 < w->n; i += 2) {
		if (strcmp(w->at[i], "from") == 0)
			r->ctx.ingress_ifindex = state_link(&r->state, w->at[i + 1]);
		else if (strcmp(w->at[i], "mark") == 0)
			r->ctx.mark = (uint32_t)strtoul(w->at[i + 1], NULL, 0);
		else if (strcmp(w->at[i], "segments") == 0)
			r->ctx.gso_segs = (uint32_t)strtoul(w->at[i + 1], NULL, 0);
		else if (strcmp(w->at[i], "segment-size") == 0)
			r->ctx.gso_size = (uint32_t)strtoul(w->at[i + 1], NULL, 0);
		else if (strcmp(w->at[i], "wire") == 0)
			r->ctx.wire_len = (uint32_t)strtoul(w->at[i + 1], NULL, 0);
		else if (strcmp(w->at[i], "tstamp") == 0)
			r->ctx.tstamp = strtoull(w->at[i + 1], NULL, 0);
		else
			state_fail(&r->state, "run does not know %s", w->at[i]);
	}
}

static void step_in(struct run *r, struct pt_words *w)
{
	if (!r->has_program)
		state_fail(&r->state, "which program? (run PROGRAM LINK)");
	else if (!pt_build(&r->in, r->state.vars, w->at + 1, w->n - 1))
		state_fail(&r->state, "%s", r->in.error);
	else
		send_packet(r);
}

static void step_out(struct run *r, struct pt_words *w)
{
	static struct pt_packet want;
	char text[512];

	if (!r->open) {
		state_fail(&r->state, "nothing was sent");
		return;
	}
	r->out_judged = true;
	if (!pt_build(&want, r->state.vars, w->at + 1, w->n - 1) ||
	    (pt_bind(&want, r->out, r->out_len) && !pt_build(&want, r->state.vars, w->at + 1, w->n - 1))) {
		state_fail(&r->state, "%s", want.error);
		return;
	}
	/* the link header was checked with the verdict */
	if (r->out_len >= 14)
		memcpy(want.bytes, r->out, 14);
	if (!pt_equal(&want, r->out, r->out_len, text, sizeof(text)))
		state_fail(&r->state, "packet out: %s", text);
}

/* What the program sees of it; what paces counts every segment's headers. */
static size_t seen_bytes(const struct run *r)
{
	return r->program == DP_PROGRAM_POD_PACE && r->ctx.wire_len ? r->ctx.wire_len : r->in.n - r->skip;
}

/* The pods' own counters belong to programs on their links, and have what these drop for a reason. */
static bool counts_for_pods(const struct run *r)
{
	return r->program == DP_PROGRAM_POD_OUT || r->program == DP_PROGRAM_POD_PASS ||
	       r->program == DP_PROGRAM_POD_IN || r->program == DP_PROGRAM_SERVICE_OUT ||
	       r->program == DP_PROGRAM_SERVICE_BACK || r->program == DP_PROGRAM_POD_PACE ||
	       r->program == DP_PROGRAM_OWN_IN;
}

/* Of whom: one pod's row, under the reason; all bytes. `of`: that pod; NULL: any. */
static void check_lost(struct run *r, const char *of)
{
	bool dropped = r->reason[0] && strcmp(verdict_name(r), "drop") == 0 && counts_for_pods(r);
	bool ingress = strcmp(r->reason, "policy-ingress") == 0, egress = strcmp(r->reason, "policy-egress") == 0;
	struct k3c_pod_drop sum = { 0 };

	for (int i = 0; i < STATE_PODS; i++) {
		const struct k3c_pod_drop *l = &r->lost[i];

		sum.ingress += l->ingress;
		sum.egress += l->egress;
		sum.other += l->other;
		sum.bytes += l->bytes;
		if (of && (l->ingress + l->egress + l->other != 0) != (i == state_pod(&r->state, of)))
			state_fail(&r->state, "who lost it is not %s", of);
	}
	if (sum.ingress != (dropped && ingress) || sum.egress != (dropped && egress) ||
	    sum.other != (dropped && !ingress && !egress) || sum.bytes != (dropped ? seen_bytes(r) : 0))
		state_fail(&r->state, "pods lost %llu by ingress, %llu by egress, %llu otherwise, %llu bytes",
			   (unsigned long long)sum.ingress, (unsigned long long)sum.egress,
			   (unsigned long long)sum.other, (unsigned long long)sum.bytes);
	if (r->bytes != (r->reason[0] ? seen_bytes(r) : 0))
		state_fail(&r->state, "%llu bytes were counted", (unsigned long long)r->bytes);
}

/* Where to is seen by the link address alone. The host's own way in takes what comes, whatever its link address. */
static bool is_redirected_to(struct run *r, const char *to)
{
	return strcmp(to, "own") == 0 ? memcmp(r->out, r->in.bytes, 6) == 0 : state_mac_is(&r->state, to, r->out);
}

static void step_verdict(struct run *r, struct pt_words *w)
{
	const char *reason = "", *to = NULL;

	if (!r->open) {
		state_fail(&r->state, "nothing was sent");
		return;
	}
	if (strcmp(w->at[0], "redirect") == 0)
		to = w->n > 1 ? w->at[1] : "?";
	else if (w->n > 1)
		reason = w->at[1];
	r->judged = true;
	if (strcmp(verdict_name(r), w->at[0]) != 0 || strcmp(r->reason, reason) != 0)
		state_fail(&r->state, "verdict: %s %s", verdict_name(r), r->reason);
	else if (to && !is_redirected_to(r, to))
		state_fail(&r->state, "not the link address of %s", to);
	else
		check_lost(r, w->n == 4 && strcmp(w->at[2], "of") == 0 ? w->at[3] : NULL);
}

/* addressed POD|own: behind the verdict, whose link address it has now (own: of the pair's other end) */
static void step_addressed(struct run *r, struct pt_words *w)
{
	struct k3c_own own;
	uint32_t zero = 0;

	if (w->n != 2 || !r->open) {
		state_fail(&r->state, "addressed POD|own, of what was sent");
		return;
	}
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_OWN], &zero, &own), 0);
	if (strcmp(w->at[1], "own") == 0 ? memcmp(r->out, own.mac, 6) != 0 : !state_mac_is(&r->state, w->at[1], r->out))
		state_fail(&r->state, "not the link address of %s", w->at[1]);
}

static void step_mark(struct run *r, struct pt_words *w)
{
	if (w->n != 2 || r->mark != strtoul(w->at[1], NULL, 0))
		state_fail(&r->state, "mark 0x%x", r->mark);
}

/* departs POD at-once|in-turn|as-sent: now, or when all before it is paid for, or as the pod's stack wants */
static void step_departs(struct run *r, struct pt_words *w)
{
	uint64_t want = 0;

	if (w->n != 3)
		state_fail(&r->state, "departs POD at-once|in-turn|as-sent");
	else if (strcmp(w->at[2], "in-turn") == 0)
		want = r->state.rate_before[state_pod(&r->state, w->at[1])].limit[DP_EGRESS].paid_ns;
	else if (strcmp(w->at[2], "as-sent") == 0)
		want = r->ctx.tstamp;
	else if (strcmp(w->at[2], "at-once") != 0)
		state_fail(&r->state, "departs does not know %s", w->at[2]);
	if (r->tstamp != want)
		state_fail(&r->state, "departs at %llu, not %llu", (unsigned long long)r->tstamp,
			   (unsigned long long)want);
}

static void step_tells(struct run *r, struct pt_words *w)
{
	if (!r->open)
		state_fail(&r->state, "nothing was sent");
	else
		events_tells(&r->state, &r->events, w, r->ctx.ifindex, seen_bytes(r));
}

static void step_counts(struct run *r, struct pt_words *w)
{
	if (!r->open)
		state_fail(&r->state, "nothing was sent");
	else
		events_counts(&r->state, &r->events, w);
}

typedef void step_fn(struct run *r, struct pt_words *w);

static const struct {
	const char *word;
	step_fn *fn;
} steps[] = {
	{ "out", step_out },
	{ "pass", step_verdict },
	{ "drop", step_verdict },
	{ "redirect", step_verdict },
	{ "transmit", step_verdict },
	{ "next", step_verdict },
	{ "mark", step_mark },
	{ "run", step_run },
	{ "in", step_in },
	{ "departs", step_departs },
	{ "tells", step_tells },
	{ "counts", step_counts },
	{ "addressed", step_addressed },
};

static void step(struct run *r, struct pt_words *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (strcmp(steps[i].word, w->at[0]) != 0)
			continue;
		if (steps[i].fn == step_run || steps[i].fn == step_in)
			settle(r);
		if (!r->state.failed)
			steps[i].fn(r, w);
		return;
	}
	settle(r);
	if (!r->state.failed && !state_step(&r->state, w))
		state_fail(&r->state, "no such word: %s", w->at[0]);
}

/* ---- files ---- */

static void case_end(struct run *r)
{
	settle(r);
	n_failed += r->state.failed;
}

static void run_file(const char *dir, const char *name)
{
	static struct run r;
	char path[PATH_MAX], line[4096];
	FILE *f;
	bool inside = false;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	assert_non_null(f);
	for (unsigned number = 1; fgets(line, sizeof(line), f); number++) {
		struct pt_words w;
		char *text = line + strspn(line, " \t\n");

		if (!*text || *text == '#')
			continue;
		if (strncmp(text, "case ", 5) == 0) {
			if (inside)
				case_end(&r);
			inside = true;
			text[strcspn(text, "\n")] = 0;
			state_begin(&r.state, name, text + 5);
			events_begin();
			r = (struct run){ .state = r.state };
			n_cases++;
			continue;
		}
		if (!inside)
			fail_msg("%s:%u: a case begins with `case WHAT IT SHOWS`", name, number);
		if (r.state.failed)
			continue;
		pt_split(text, &w);
		r.state.line = number;
		step(&r, &w);
	}
	if (inside)
		case_end(&r);
	fclose(f);
}

static void test_files(void **state)
{
	struct dirent **names;
	int n = scandir(packet_files_dir(), &names, packet_files_one, alphasort);

	if (n <= 0)
		fail_msg("no packet files in %s", packet_files_dir());
	for (int i = 0; i < n; i++) {
		run_file(packet_files_dir(), names[i]->d_name);
		free(names[i]);
	}
	free(names);
	print_message("packets: %zu cases, %zu packets, %zu outcomes\n", n_cases, n_packets, n_outcomes);
	assert_int_equal(n_failed, 0);
}

/* A reason that no program's outcome names would be one nobody has ever seen. */
static size_t reasons_missing(void)
{
	struct dp_drop all[64];
	size_t n, missing = 0;

	counters(all, &n);
	for (size_t i = 0; i < n; i++) {
		bool found = false;

		for (size_t k = 0; k < n_outcomes && !found; k++)
			found = strcmp(strrchr(outcomes[k].text, ' ') + 1, all[i].reason) == 0;
		if (!found)
			print_error("branches: nobody is known to drop for %s\n", all[i].reason);
		missing += !found;
	}
	return missing;
}

static void test_branches(void **state)
{
	char path[PATH_MAX + sizeof("/branches")], line[256];
	size_t missing = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/branches", packet_files_dir());
	f = fopen(path, "re");
	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "#\n")] = 0;
		for (size_t n = strlen(line); n && strchr(" \t", line[n - 1]); n--)
			line[n - 1] = 0;
		if (line[0])
			outcome_of(line)->listed = true;
		if (strncmp(line, "never ", 6) == 0)
			outcome_of(line)->excused = true;
	}
	fclose(f);
	for (size_t i = 0; i < n_outcomes; i++) {
		const struct outcome *o = &outcomes[i];

		if (o->excused)
			continue;
		if (o->listed && !o->hits)
			print_error("branches: no packet file reaches \"%s\"\n", o->text);
		if (!o->listed)
			print_error("branches: \"%s\" is not listed\n", o->text);
		missing += !o->listed || !o->hits;
	}
	assert_int_equal(missing + reasons_missing(), 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_branches),
	};
	int r;

	world_uplink();
	state_open();
	events_open();
	r = cmocka_run_group_tests(all, NULL, NULL);
	events_close();
	state_close();
	return r;
}

int main(void)
{
	return world_run(tests);
}
