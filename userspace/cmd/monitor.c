/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf monitor`: drops, new flows and translations as they happen, with names. The programs are silent again when
 * it ends, also when it is killed (their lease runs out). */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "userspace/base/clock.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/inspect.h"
#include "userspace/netctl/address.h"

#define MONITOR_USAGE                                                                                                  \
	"k3c-bpf monitor [--type drop,flow,translate] [--pod [NS/]NAME] [--service [NS/]NAME] [--reason R] "           \
	"[--protocol P] [--port N] [--address IP] [--count N] [-o json]"
#define MONITOR_POLL_MS 1000
#define MONITOR_REFRESH_NS (2 * NS_PER_S) /* names are asked for again at most this often */
#define MONITOR_COUNT_MAX 1000000000

struct monitor {
	struct inspect in;
	struct dp_listener *listener;
	struct arena line;             /* of one event */
	int64_t refreshed_ns, boot_ns; /* boot_ns: real time minus monotonic time */
	bool as_json;
	uint64_t lost;
	/* What is wanted; zero: everything. */
	uint32_t types;
	const char *pod, *service, *reason;
	struct dp_addr address;
	bool has_address;
	uint8_t proto;
	uint16_t port;
	int64_t left; /* events until the end; -1: no end */
};

static volatile sig_atomic_t monitor_stopped;

static void monitor_stop(int sig)
{
	monitor_stopped = 1;
}

static const char *const monitor_types[] = {
	[DP_EVENT_DROP] = "drop", [DP_EVENT_FLOW] = "flow", [DP_EVENT_TRANSLATE] = "translate"
};
static const char *const monitor_via[] = { "", "socket", "link", "masquerade" };

/* A pod may be younger than what was read. */
static const char *monitor_pod(struct monitor *m, const struct dp_addr *addr)
{
	const char *name = inspect_pod_name(&m->in, addr);
	struct dp_endpoint e;
	int64_t now = clock_monotonic_ns();

	if (name || address_is_zero(addr) || now - m->refreshed_ns < MONITOR_REFRESH_NS ||
	    dataplane_endpoint_get(m->in.dp, addr, &e) < 0)
		return name;
	m->refreshed_ns = now;
	inspect_refresh(&m->in);
	return inspect_pod_name(&m->in, addr);
}

/* An address of the node's own; what of a pod is the pod's loopback is none. */
static bool monitor_is_host(struct monitor *m, const struct dp_addr *addr)
{
	return !address_is_zero(addr) && dataplane_is_node_address(m->in.dp, addr);
}

struct monitor_names {
	const char *src, *dst, *to, *service;
};

static bool name_is(const char *name, const char *wanted)
{
	return name && strcmp(name, wanted) == 0;
}

static bool monitor_wants(const struct monitor *m, const struct dp_event *e, const struct monitor_names *n)
{
	if (!(m->types & (1u << e->type)) || (m->proto && e->proto != m->proto))
		return false;
	if (m->port && m->port != e->dport && m->port != e->sport && m->port != e->to_port)
		return false;
	if (m->has_address && !address_equal(&e->src, &m->address) && !address_equal(&e->dst, &m->address) &&
	    !address_equal(&e->to, &m->address))
		return false;
	if (m->reason && (!e->reason || strcmp(e->reason, m->reason) != 0))
		return false;
	if (m->pod && !name_is(n->src, m->pod) && !name_is(n->dst, m->pod) && !name_is(n->to, m->pod))
		return false;
	return !m->service || name_is(n->service, m->service);
}

static struct json *monitor_end(struct monitor *m, const struct dp_addr *addr, uint16_t port, const char *pod,
				uint32_t identity)
{
	struct json *v = json_new_object(&m->line);

	if (!address_is_zero(addr))
		json_set_cstr(&m->line, v, "address", inspect_address(&m->line, addr));
	if (port)
		json_set_int(&m->line, v, "port", port);
	if (pod)
		json_set_cstr(&m->line, v, "pod", pod);
	else if (monitor_is_host(m, addr))
		json_set_bool(&m->line, v, "host", true);
	if (identity)
		json_set_int(&m->line, v, "identity", identity);
	return v;
}

static struct json *monitor_json(struct monitor *m, const struct dp_event *e, const struct monitor_names *n)
{
	struct json *v = json_new_object(&m->line), *from;
	char time[CLOCK_RFC3339_MAX], proto[8];

	clock_format_rfc3339_nano(m->boot_ns + (int64_t)e->time_ns, time);
	json_set_cstr(&m->line, v, "time", arena_strdup(&m->line, time));
	json_set_cstr(&m->line, v, "type", monitor_types[e->type]);
	if (e->reason)
		json_set_cstr(&m->line, v, "reason", e->reason);
	if (e->via && e->via < ARRAY_SIZE(monitor_via))
		json_set_cstr(&m->line, v, "via", monitor_via[e->via]);
	json_set_cstr(&m->line, v, "protocol", arena_strdup(&m->line, args_protocol_name(e->proto, proto)));
	from = monitor_end(m, &e->src, e->sport, n->src, e->src_identity);
	if (e->in_host)
		json_set_bool(&m->line, from, "host", true);
	json_set(v, "from", from);
	json_set(v, "to", monitor_end(m, &e->dst, e->dport, n->dst, e->dst_identity));
	if (n->service)
		json_set_cstr(&m->line, v, "service", n->service);
	if (!address_is_zero(&e->to))
		json_set(v, e->via == DP_VIA_MASQUERADE ? "as" : "backend",
			 monitor_end(m, &e->to, e->to_port, n->to, 0));
	if (e->ifindex)
		json_set_int(&m->line, v, "ifindex", e->ifindex);
	if (e->length)
		json_set_int(&m->line, v, "length", e->length);
	if (e->netns_cookie)
		json_set_int(&m->line, v, "netnsCookie", (int64_t)e->netns_cookie);
	return v;
}

static const char *end_text(struct monitor *m, const struct dp_addr *addr, uint16_t port, const char *pod)
{
	const char *place = inspect_place(&m->line, addr, port);

	if (!pod && monitor_is_host(m, addr))
		pod = "host";
	return pod ? arena_printf(&m->line, "%s (%s)", place, pod) : place;
}

static void monitor_line(struct monitor *m, const struct dp_event *e, const struct monitor_names *n)
{
	const char *from = e->in_host        ? "host"
			   : e->in_pod       ? end_text(m, &e->src, 0, n->src)
			   : e->netns_cookie ? "a socket of another namespace"
					     : end_text(m, &e->src, e->sport, n->src);
	char time[CLOCK_RFC3339_MAX], proto[8];

	clock_format_rfc3339_micro(m->boot_ns + (int64_t)e->time_ns, time);
	printf("%s %-9s %-5s %s -> %s", time, monitor_types[e->type], args_protocol_name(e->proto, proto), from,
	       end_text(m, &e->dst, e->dport, n->service ? n->service : n->dst));
	if (!address_is_zero(&e->to))
		printf(" %s %s", e->via == DP_VIA_MASQUERADE ? "as" : "=", end_text(m, &e->to, e->to_port, n->to));
	if (e->reason)
		printf("  %s", e->reason);
	else if (e->via && e->via < ARRAY_SIZE(monitor_via))
		printf("  by %s", monitor_via[e->via]);
	printf("\n");
	fflush(stdout);
}

static void monitor_event(void *arg, const struct dp_event *e)
{
	struct monitor *m = arg;
	struct monitor_names n;

	if (!m->left || e->type < DP_EVENT_DROP || e->type > DP_EVENT_TRANSLATE)
		return;
	n.src = monitor_pod(m, &e->src);
	n.dst = monitor_pod(m, &e->dst);
	n.to = monitor_pod(m, &e->to);
	n.service = inspect_service_name(&m->in, &e->dst, e->dport, e->proto);
	if (!monitor_wants(m, e, &n))
		return;
	if (m->as_json)
		inspect_print_json(monitor_json(m, e, &n), false);
	else
		monitor_line(m, e, &n);
	arena_reset(&m->line);
	if (m->left > 0)
		m->left--;
}

static void monitor_tell_lost(struct monitor *m)
{
	uint64_t lost = dp_listener_lost(m->listener);

	if (lost == m->lost)
		return;
	if (m->as_json)
		printf("{\"type\":\"lost\",\"events\":%" PRIu64 "}\n", lost - m->lost);
	else
		printf("%" PRIu64 " events lost: they came faster than they were read\n", lost - m->lost);
	fflush(stdout);
	m->lost = lost;
}

static int monitor_listen(struct monitor *m, struct err *err)
{
	int r;

	dp_listener_close(m->listener);
	m->listener = NULL;
	m->lost = 0;
	dataplane_close(m->in.dp);
	m->in.dp = NULL;
	r = inspect_open(&m->in, err);
	return r < 0 ? r : dataplane_listen(m->in.dp, m->types, &m->listener, err);
}

/* Who waits for what nobody is called waits for ever. Files may be older than the pod: they are not asked. */
static int monitor_known(struct monitor *m, struct err *err)
{
	const char *ns, *name;
	const struct json *pod;
	struct arena *a = &m->in.arena;

	if (!m->in.server)
		return 0;
	if (m->pod && inspect_split_name(m->pod, "default", a, &ns, &name)) {
		pod = inspect_find_pod(&m->in, ns, name);
		if (!pod)
			return err_set(err, -ENOENT, "pod %s: none that runs is known to %s", m->pod, m->in.objects);
		if (json_get_bool(pod, "hostNetwork", false))
			return err_set(err, -ENOENT, "pod %s is on the host's network: ask for --address of the node",
				       m->pod);
	}
	if (m->service && inspect_split_name(m->service, "default", a, &ns, &name) &&
	    !inspect_find_service(&m->in, ns, name))
		return err_set(err, -ENOENT, "service %s: none is known to %s", m->service, m->in.objects);
	return 0;
}

static int monitor_run(struct monitor *m, struct err *err)
{
	const struct sigaction stop = { .sa_handler = monitor_stop };
	int r = monitor_listen(m, err);

	if (r == 0)
		r = monitor_known(m, err);
	if (r < 0)
		return r;
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	m->refreshed_ns = clock_monotonic_ns();
	m->boot_ns = clock_real_ns() - clock_monotonic_ns();
	fprintf(stderr, "k3c-bpf monitor: listening; names are from %s\n", m->in.objects);
	while (!monitor_stopped && m->left && r >= 0 && !ferror(stdout)) {
		r = dp_listener_poll(m->listener, MONITOR_POLL_MS, monitor_event, m);
		monitor_tell_lost(m);
		if (r == -EINTR)
			r = 0;
		if (r == -ESTALE) {
			fprintf(stderr, "k3c-bpf monitor: the maps were replaced\n");
			r = monitor_listen(m, err);
			if (r < 0)
				return r;
		}
	}
	return r < 0 ? err_set(err, r, "read events: %s", strerror(-r)) : 0;
}

static int monitor_set_types(struct monitor *m, const char *text, struct err *err)
{
	struct str rest = str_of(text), part;

	m->types = 0;
	while (str_split(&rest, ',', &part)) {
		uint32_t type = 0;

		for (uint32_t i = DP_EVENT_DROP; i <= DP_EVENT_TRANSLATE; i++)
			if (str_is(part, monitor_types[i]))
				type = i;
		if (!type)
			return err_set(err, -EINVAL, "--type: \"%.*s\" is none of drop, flow, translate",
				       STR_ARG(part));
		m->types |= 1u << type;
	}
	return 0;
}

static int monitor_check_reason(const char *reason, struct err *err)
{
	_cleanup_buf_ struct buf known = BUF_INIT;
	const char *name;

	for (unsigned i = 1; (name = dataplane_drop_name(i)); i++) {
		if (strcmp(name, reason) == 0)
			return 0;
		buf_printf(&known, "%s%s", i > 1 ? ", " : "", name);
	}
	return err_set(err, -EINVAL, "--reason: \"%.64s\" is none of %s", reason, buf_cstr(&known));
}

static int monitor_name(struct monitor *m, const char *flag, const char *text, const char **ret, struct err *err)
{
	const char *ns, *name;

	if (!text)
		return 0;
	if (!inspect_split_name(text, "default", &m->in.arena, &ns, &name))
		return err_set(err, -EINVAL, "--%s: \"%.64s\" is no [NS/]NAME", flag, text);
	*ret = arena_printf(&m->in.arena, "%s/%s", ns, name);
	return 0;
}

struct monitor_flags {
	const char *type, *pod, *service, *reason, *protocol, *port, *address, *count, *output;
};

static int monitor_filters(struct monitor *m, const struct monitor_flags *f, struct err *err)
{
	int r = args_output(f->output, &m->as_json, err);

	m->types = 1u << DP_EVENT_DROP | 1u << DP_EVENT_FLOW | 1u << DP_EVENT_TRANSLATE;
	m->left = -1;
	if (r == 0 && f->type)
		r = monitor_set_types(m, f->type, err);
	if (r == 0)
		r = monitor_name(m, "pod", f->pod, &m->pod, err);
	if (r == 0)
		r = monitor_name(m, "service", f->service, &m->service, err);
	if (r == 0 && f->reason)
		r = monitor_check_reason(f->reason, err);
	m->reason = f->reason;
	if (r == 0 && f->protocol)
		r = args_protocol(f->protocol, &m->proto, err);
	if (r == 0 && f->port)
		r = args_port(f->port, &m->port, err);
	if (r == 0 && f->address && address_parse(str_of(f->address), &m->address) < 0)
		r = err_set(err, -EINVAL, "--address: \"%.64s\" is no address", f->address);
	m->has_address = f->address != NULL;
	if (r == 0 && f->count &&
	    (str_to_int64(str_of(f->count), &m->left) < 0 || m->left < 1 || m->left > MONITOR_COUNT_MAX))
		r = err_set(err, -EINVAL, "--count: \"%.64s\" is no number from 1 to %d", f->count, MONITOR_COUNT_MAX);
	return r;
}

static void monitor_finish(struct monitor *m)
{
	dp_listener_close(m->listener);
	arena_finish(&m->line);
	inspect_finish(&m->in);
}

int cmd_monitor(int argc, char **argv)
{
	_cleanup_(monitor_finish) struct monitor m = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	struct monitor_flags f = { 0 };
	const struct arg args[] = {
		{ "type", 't', "T,..", "drop, flow, translate (all, if not said)", &f.type },
		{ "pod", 0, "[NS/]NAME", "only what has this pod at one end", &f.pod },
		{ "service", 0, "[NS/]NAME", "only what goes to this Service", &f.service },
		{ "reason", 0, "R", "only drops for this reason (policy-ingress, ...)", &f.reason },
		{ "protocol", 0, "P", "tcp, udp, sctp, icmp or a number", &f.protocol },
		{ "port", 0, "N", "only what has this port at one end", &f.port },
		{ "address", 0, "IP", "only what has this address at one end", &f.address },
		{ "count", 0, "N", "end after so many events", &f.count },
		{ "output", 'o', "json", "one JSON object a line", &f.output },
	};
	struct args_words words;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &m.in.config, &words, &err);

	if (r == 1) {
		args_help(MONITOR_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0 && words.n)
		r = err_set(&err, -EINVAL, "usage: %s", MONITOR_USAGE);
	if (r == 0)
		r = monitor_filters(&m, &f, &err);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf monitor: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	r = monitor_run(&m, &err);
	if (r < 0)
		fprintf(stderr, "k3c-bpf monitor: %s\n", err_message(&err));
	return r == -ENOENT ? CMD_EXIT_USAGE : r < 0;
}
