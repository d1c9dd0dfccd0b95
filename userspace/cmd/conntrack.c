/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf conntrack list`: connections that policy knows, and translations on the host's links. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/inspect.h"
#include "userspace/cmd/table.h"
#include "userspace/netctl/address.h"

#define CONNTRACK_USAGE                                                                                                  \
	"k3c-bpf conntrack list [--pod [NS/]NAME] [--address IP] [--protocol P] [--port N] [--kind policy|translation] " \
	"[-o json]"

struct conntrack {
	struct inspect in;
	/* What is wanted; zero: everything. */
	const struct json *pod;
	struct dp_addr address;
	bool has_address, connections, translations;
	uint8_t proto;
	uint16_t port;
	struct json *rows;
};

static bool wanted_address(struct conntrack *c, const struct dp_addr *a)
{
	return (!c->has_address || address_equal(a, &c->address)) && (!c->pod || inspect_pod(&c->in, a) == c->pod);
}

static bool wanted(struct conntrack *c, const struct dp_addr *addrs, size_t n, uint8_t proto, uint16_t port,
		   uint16_t other_port)
{
	bool found = !c->has_address && !c->pod;

	if ((c->proto && proto != c->proto) || (c->port && c->port != port && c->port != other_port))
		return false;
	for (size_t i = 0; i < n && !found; i++)
		found = wanted_address(c, &addrs[i]);
	return found;
}

static void set_end(struct conntrack *c, struct json *v, const char *key, const struct dp_addr *a, uint16_t port)
{
	struct arena *arena = &c->in.arena;
	struct json *end = json_new_object(arena);
	const char *name = inspect_pod_name(&c->in, a);

	json_set_cstr(arena, end, "address", inspect_address(arena, a));
	if (port)
		json_set_int(arena, end, "port", port);
	if (name)
		json_set_cstr(arena, end, "pod", name);
	json_set(v, key, end);
}

static struct json *conntrack_row(struct conntrack *c, const char *kind, uint8_t proto)
{
	struct json *v = json_new_object(&c->in.arena);
	char text[8];

	json_set_cstr(&c->in.arena, v, "kind", kind);
	json_set_cstr(&c->in.arena, v, "protocol", arena_strdup(&c->in.arena, args_protocol_name(proto, text)));
	json_append(c->rows, v);
	return v;
}

static void conntrack_conn(void *arg, const struct dp_conn *conn)
{
	static const char *const states[] = { "open", "closing", "cut", "expired" };
	struct conntrack *c = arg;
	const struct dp_addr ends[] = { conn->from, conn->to };
	struct json *v;

	if (!wanted(c, ends, 2, conn->proto, conn->to_port, conn->from_port))
		return;
	v = conntrack_row(c, "policy", conn->proto);
	set_end(c, v, "from", &conn->from, conn->from_port);
	set_end(c, v, "to", &conn->to, conn->to_port);
	json_set_cstr(&c->in.arena, v, "state", states[conn->state]);
	json_set_bool(&c->in.arena, v, "byHost", conn->from_host);
	if (conn->state == DP_CONN_CUT)
		json_set_cstr(&c->in.arena, v, "cutBy", conn->by_egress ? "policy-egress" : "policy-ingress");
	json_set_int(&c->in.arena, v, "quietMillis", conn->quiet_ms);
}

static const char *translation_state(const struct dp_translation *t)
{
	if (t->expired)
		return "expired";
	return t->closing ? "closing" : t->unassured ? "unassured" : "open";
}

static void conntrack_translation(void *arg, const struct dp_translation *t)
{
	struct conntrack *c = arg;
	const struct dp_addr ends[] = { t->src, t->dst, t->to };
	const char *service = inspect_service_name(&c->in, &t->dst, t->dport, t->proto);
	struct json *v;

	if (!wanted(c, ends, 3, t->proto, t->dport, t->sport))
		return;
	v = conntrack_row(c, t->masquerade ? "masquerade" : "service", t->proto);
	set_end(c, v, "from", &t->src, t->sport);
	set_end(c, v, "to", &t->dst, t->dport);
	set_end(c, v, t->masquerade ? "as" : "backend", &t->to, t->to_port);
	if (t->from_port)
		json_set_int(&c->in.arena, v, "fromPort", t->from_port);
	if (service && !t->masquerade)
		json_set_cstr(&c->in.arena, v, "service", service);
	json_set_cstr(&c->in.arena, v, "state", translation_state(t));
	json_set_int(&c->in.arena, v, "quietMillis", t->quiet_ms);
}

static void end_cell(struct table *t, const struct json *end)
{
	struct str address = json_get_str(end, "address"), pod = json_get_str(end, "pod");
	bool v6 = str_find(address, ':') >= 0;
	int64_t port = json_get_int(end, "port", 0);

	if (!end)
		table_cell(t, NULL);
	else if (port)
		table_cellf(t, "%s%.*s%s:%" PRId64 "%s%.*s%s", v6 ? "[" : "", STR_ARG(address), v6 ? "]" : "", port,
			    pod.n ? " (" : "", STR_ARG(pod), pod.n ? ")" : "");
	else
		table_cellf(t, "%.*s%s%.*s%s", STR_ARG(address), pod.n ? " (" : "", STR_ARG(pod), pod.n ? ")" : "");
}

static void conntrack_print(struct conntrack *c)
{
	static const char *const heads[] = { "KIND", "PROTOCOL", "FROM", "TO", "TRANSLATED", "STATE", "QUIET", NULL };
	struct table t;

	table_init(&t, &c->in.arena, heads);
	json_foreach(v, c->rows) {
		const struct json *as = json_get(v, "as");

		table_cellf(&t, "%.*s", STR_ARG(json_get_str(v, "kind")));
		table_cellf(&t, "%.*s", STR_ARG(json_get_str(v, "protocol")));
		end_cell(&t, json_get(v, "from"));
		end_cell(&t, json_get(v, "to"));
		end_cell(&t, as ? as : json_get(v, "backend"));
		table_cellf(&t, "%.*s%s%.*s", STR_ARG(json_get_str(v, "state")), json_get(v, "cutBy") ? " by " : "",
			    STR_ARG(json_get_str(v, "cutBy")));
		table_cellf(&t, "%" PRId64 "s", json_get_int(v, "quietMillis", 0) / 1000);
	}
	table_print(&t);
	table_finish(&t);
}

static int conntrack_list(struct conntrack *c, const char *pod, bool as_json, struct err *err)
{
	const char *ns, *name;
	struct json *out;
	int r = inspect_open(&c->in, err);

	if (r < 0)
		return r;
	if (pod && !inspect_split_name(pod, "default", &c->in.arena, &ns, &name))
		return err_set(err, -EINVAL, "--pod: \"%.64s\" is no [NS/]NAME", pod);
	if (pod && !(c->pod = inspect_find_pod(&c->in, ns, name)))
		return err_set(err, -ENOENT, "pod %s/%s: none that runs is known to %s", ns, name, c->in.objects);
	if (c->pod && json_get_bool(c->pod, "hostNetwork", false))
		return err_set(err, -ENOENT, "pod %s/%s is on the host's network: ask for an address of the node", ns,
			       name);
	c->rows = json_new_array(&c->in.arena);
	if (c->connections)
		r = dataplane_conn_each(c->in.dp, conntrack_conn, c, err);
	if (r == 0 && c->translations)
		r = dataplane_translation_each(c->in.dp, conntrack_translation, c, err);
	if (r < 0)
		return r;
	if (!as_json) {
		conntrack_print(c);
		return 0;
	}
	out = json_new_object(&c->in.arena);
	json_set(out, "connections", c->rows);
	inspect_print_json(out, true);
	return 0;
}

static int conntrack_filters(struct conntrack *c, const char *address, const char *protocol, const char *port,
			     const char *kind, struct err *err)
{
	int r = 0;

	if (address && address_parse(str_of(address), &c->address) < 0)
		return err_set(err, -EINVAL, "--address: \"%.64s\" is no address", address);
	c->has_address = address != NULL;
	if (protocol)
		r = args_protocol(protocol, &c->proto, err);
	if (r == 0 && port)
		r = args_port(port, &c->port, err);
	if (r == 0 && kind && strcmp(kind, "policy") != 0 && strcmp(kind, "translation") != 0)
		r = err_set(err, -EINVAL, "--kind: \"%.64s\" is neither policy nor translation", kind);
	c->connections = !kind || strcmp(kind, "policy") == 0;
	c->translations = !kind || strcmp(kind, "translation") == 0;
	return r;
}

static void conntrack_finish(struct conntrack *c)
{
	inspect_finish(&c->in);
}

int cmd_conntrack(int argc, char **argv)
{
	_cleanup_(conntrack_finish) struct conntrack c = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	const char *pod = NULL, *address = NULL, *protocol = NULL, *port = NULL, *kind = NULL, *output = NULL;
	const struct arg args[] = {
		{ "pod", 0, "[NS/]NAME", "only what has this pod at one end", &pod },
		{ "address", 0, "IP", "only what has this address at one end", &address },
		{ "protocol", 0, "P", "tcp, udp, sctp, icmp or a number", &protocol },
		{ "port", 0, "N", "only what has this port at one end", &port },
		{ "kind", 0, "KIND", "policy (connections of pods) or translation (services, masquerade)", &kind },
		{ "output", 'o', "json", "one JSON document", &output },
	};
	struct args_words words;
	bool as_json = false;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &c.in.config, &words, &err);

	if (r == 1) {
		args_help(CONNTRACK_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0)
		r = args_output(output, &as_json, &err);
	if (r == 0 && (words.n != 1 || strcmp(words.items[0], "list") != 0))
		r = err_set(&err, -EINVAL, "usage: %s", CONNTRACK_USAGE);
	if (r == 0)
		r = conntrack_filters(&c, address, protocol, port, kind, &err);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf conntrack: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	r = conntrack_list(&c, pod, as_json, &err);
	if (r < 0)
		fprintf(stderr, "k3c-bpf conntrack: %s\n", err_message(&err));
	return r < 0 ? (r == -EINVAL || r == -ENOENT ? CMD_EXIT_USAGE : 1) : 0;
}
