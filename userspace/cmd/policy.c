/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf policy get POD`: what the maps let this pod do and suffer, in words, and which NetworkPolicies are behind.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/inspect.h"
#include "userspace/cmd/table.h"
#include "userspace/netctl/address.h"

#define POLICY_USAGE "k3c-bpf policy get [NS/]POD [-n NS] [-o json]"
#define POLICY_PODS_SHOWN 3

struct policy_get {
	struct inspect in;
	struct map identities; /* number, 4 bytes -> struct json, a pod's row: whose labels they are */
	struct json *rules;    /* of the endpoint that is looked at */
};

static struct str identity_key(const uint32_t *id)
{
	return str_make((const char *)id, sizeof(*id));
}

static void note_identity(void *arg, const struct dp_endpoint *e)
{
	struct policy_get *p = arg;
	const struct json *pod = inspect_pod(&p->in, &e->addr);

	if (pod && e->identity)
		map_put(&p->identities, identity_key(&e->identity), (void *)pod);
}

/* {namespace, labels, identity}, {cidr} or {} (everyone). */
static struct json *rule_peer(struct policy_get *p, const struct dp_rule_info *r)
{
	struct arena *a = &p->in.arena;
	struct json *v = json_new_object(a);
	const struct json *pod;

	if (r->identity) {
		pod = map_get(&p->identities, identity_key(&r->identity));
		json_set_int(a, v, "identity", r->identity);
		if (pod) {
			json_set_str(a, v, "namespace", json_get_str(pod, "namespace"));
			json_set(v, "labels", json_clone(a, json_get(pod, "labels")));
		}
		return v;
	}
	if (!r->everyone)
		json_set_cstr(a, v, "cidr",
			      arena_printf(a, "%s/%u", inspect_address(a, &r->prefix),
					   r->prefix_len - (address_family(&r->prefix) == DP_V4 ? 96 : 0)));
	return v;
}

static void note_rule(void *arg, const struct dp_rule_info *r)
{
	struct policy_get *p = arg;
	struct arena *a = &p->in.arena;
	struct json *v = json_new_object(a);
	char proto[8];

	json_set_cstr(a, v, "direction", r->direction == DP_EGRESS ? "egress" : "ingress");
	json_set(v, "peer", rule_peer(p, r));
	if (r->proto)
		json_set_cstr(a, v, "protocol", arena_strdup(a, args_protocol_name(r->proto, proto)));
	if (r->port)
		json_set_int(a, v, "port", r->port);
	if (r->port && r->end_port != r->port)
		json_set_int(a, v, "endPort", r->end_port);
	json_append(p->rules, v);
}

static void limits_json(struct arena *a, struct json *v, const struct dp_endpoint *e)
{
	struct json *limits = json_new_object(a);

	if (e->ingress_bits_s)
		json_set_int(a, limits, "ingressBitsPerSecond", (int64_t)e->ingress_bits_s);
	if (e->egress_bits_s) {
		json_set_int(a, limits, "egressBitsPerSecond", (int64_t)e->egress_bits_s);
		json_set_bool(a, limits, "egressDelayed", e->paced);
	}
	if (json_count(limits))
		json_set(v, "bandwidth", limits);
}

static struct json *endpoint_json(struct policy_get *p, const struct dp_endpoint *e, struct err *err)
{
	struct arena *a = &p->in.arena;
	struct json *v = json_new_object(a), *drops = json_new_object(a);

	p->rules = json_new_array(a);
	if (dataplane_rule_each(p->in.dp, e->set, note_rule, p, err) < 0)
		return NULL;
	json_set_cstr(a, v, "address", inspect_address(a, &e->addr));
	json_set_int(a, v, "identity", e->identity);
	json_set_bool(a, v, "attached", e->ifindex != 0);
	json_set_bool(a, v, "isolatedIngress", e->isolated_ingress);
	json_set_bool(a, v, "isolatedEgress", e->isolated_egress);
	json_set(v, "rules", p->rules);
	json_set_int(a, drops, "ingress", (int64_t)e->dropped_ingress);
	json_set_int(a, drops, "egress", (int64_t)e->dropped_egress);
	json_set_int(a, drops, "other", (int64_t)e->dropped_other);
	json_set_int(a, drops, "bytes", (int64_t)e->dropped_bytes);
	json_set(v, "drops", drops);
	limits_json(a, v, e);
	return v;
}

static const char *joined(struct arena *a, const struct json *names)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	json_foreach(n, names)
		buf_printf(&out, "%s%.*s", buf_len(&out) ? "," : "", STR_ARG(json_str(n)));
	return arena_strdup(a, buf_cstr(&out));
}

static const char *peer_text(struct arena *a, const struct json *peer)
{
	struct str cidr = json_get_str(peer, "cidr"), ns = json_get_str(peer, "namespace");

	if (cidr.n)
		return arena_strndup(a, cidr.p, cidr.n);
	if (!json_get(peer, "identity"))
		return "everyone";
	if (!ns.n)
		return arena_printf(a, "identity 0x%08" PRIx64 " (no pod of this node)",
				    (uint64_t)json_get_int(peer, "identity", 0));
	return arena_printf(a, "%.*s [%s]", STR_ARG(ns), inspect_labels(a, json_get(peer, "labels")));
}

static void rules_print(struct policy_get *p, const struct json *endpoint)
{
	static const char *const heads[] = { "DIRECTION", "PEER", "PROTOCOL", "PORTS", NULL };
	struct arena *a = &p->in.arena;
	struct table t;

	table_init(&t, a, heads);
	json_foreach(r, json_get(endpoint, "rules")) {
		int64_t port = json_get_int(r, "port", 0), end = json_get_int(r, "endPort", 0);
		struct str proto = json_get_str(r, "protocol");

		table_cellf(&t, "%.*s", STR_ARG(json_get_str(r, "direction")));
		table_cell(&t, peer_text(a, json_get(r, "peer")));
		table_cell(&t, proto.n ? arena_strndup(a, proto.p, proto.n) : "any");
		if (end)
			table_cellf(&t, "%" PRId64 "-%" PRId64, port, end);
		else if (port)
			table_cellf(&t, "%" PRId64, port);
		else
			table_cell(&t, "any");
	}
	if (json_count(json_get(endpoint, "rules"))) {
		printf("\n");
		table_print(&t);
	}
	table_finish(&t);
}

static void endpoint_cells(struct table *t, struct arena *a, const struct json *v, const struct json *endpoint)
{
	const struct json *drops = json_get(endpoint, "drops");

	table_cellf(t, "%.*s", STR_ARG(json_get_str(v, "namespace")));
	table_cellf(t, "%.*s", STR_ARG(json_get_str(v, "name")));
	table_cellf(t, "%.*s", STR_ARG(json_get_str(endpoint, "address")));
	table_cellf(t, "0x%08" PRIx64, (uint64_t)json_get_int(endpoint, "identity", 0));
	table_cell(t, json_get_bool(endpoint, "isolatedIngress", false) ? "isolated" : "open");
	table_cell(t, json_get_bool(endpoint, "isolatedEgress", false) ? "isolated" : "open");
	table_cell(t, joined(a, json_get(v, "ingressPolicies")));
	table_cell(t, joined(a, json_get(v, "egressPolicies")));
	table_cellf(t, "%" PRId64 "/%" PRId64 "/%" PRId64, json_get_int(drops, "ingress", 0),
		    json_get_int(drops, "egress", 0), json_get_int(drops, "other", 0));
}

/* Once: the addresses of a pod share them. */
static void limits_print(const struct json *endpoint)
{
	const struct json *limits = json_get(endpoint, "bandwidth");
	int64_t in = json_get_int(limits, "ingressBitsPerSecond", 0),
		out = json_get_int(limits, "egressBitsPerSecond", 0);

	if (!limits)
		return;
	printf("\nBandwidth: ");
	if (in)
		printf("receives %" PRId64 " bits a second%s", in, out ? ", " : "\n");
	if (out)
		printf("sends %" PRId64 " bits a second, more is %s\n", out,
		       json_get_bool(limits, "egressDelayed", false) ? "delayed" : "dropped");
}

/* The addresses of a pod have a set of rules each, which mostly say the same: then once. */
static void rules_print_all(struct policy_get *p, const struct json *endpoints)
{
	const struct json *first = json_first(endpoints);
	bool same = true;

	json_foreach(e, endpoints)
		same = same && json_equal(json_get(e, "rules"), json_get(first, "rules"));
	json_foreach(e, endpoints) {
		if (!same)
			printf("\n%.*s:", STR_ARG(json_get_str(e, "address")));
		if (!same || e == first)
			rules_print(p, e);
	}
}

static void policy_print(struct policy_get *p, const struct json *v)
{
	static const char *const heads[] = { "NAMESPACE",
					     "POD",
					     "ADDRESS",
					     "IDENTITY",
					     "INGRESS",
					     "EGRESS",
					     "INGRESS POLICIES",
					     "EGRESS POLICIES",
					     "DROPS IN/OUT/OTHER",
					     NULL };
	struct table t;

	table_init(&t, &p->in.arena, heads);
	json_foreach(e, json_get(v, "endpoints"))
		endpoint_cells(&t, &p->in.arena, v, e);
	table_print(&t);
	table_finish(&t);
	limits_print(json_first(json_get(v, "endpoints")));
	rules_print_all(p, json_get(v, "endpoints"));
}

static int policy_get(struct policy_get *p, const char *ns, const char *name, bool as_json, struct err *err)
{
	struct arena *a = &p->in.arena;
	struct json *v = json_new_object(a), *endpoints = json_new_array(a);
	const struct json *pod;
	int r = inspect_open(&p->in, err);

	if (r < 0)
		return r;
	pod = inspect_find_pod(&p->in, ns, name);
	if (!pod)
		return err_set(err, -ENOENT, "pod %s/%s: none that runs is known to %s", ns, name, p->in.objects);
	if (json_get_bool(pod, "hostNetwork", false))
		return err_set(err, -ENOENT, "pod %s/%s is on the host's network: to policies it is the node", ns,
			       name);
	dataplane_endpoint_each(p->in.dp, note_identity, p, NULL);
	json_set_cstr(a, v, "namespace", ns);
	json_set_cstr(a, v, "name", name);
	json_set_bool(a, v, "server", p->in.server);
	json_set_cstr(a, v, "objectsFrom", p->in.objects);
	json_set(v, "ingressPolicies", json_clone(a, json_get(pod, "ingressPolicies")));
	json_set(v, "egressPolicies", json_clone(a, json_get(pod, "egressPolicies")));
	json_set(v, "endpoints", endpoints);
	json_foreach(text, json_get(pod, "addresses")) {
		struct dp_endpoint e;
		struct dp_addr addr;
		struct json *row;

		if (address_parse(json_str(text), &addr) < 0 || dataplane_endpoint_get(p->in.dp, &addr, &e) < 0)
			continue;
		row = endpoint_json(p, &e, err);
		if (!row)
			return -EIO;
		json_append(endpoints, row);
	}
	if (!json_count(endpoints))
		return err_set(err, -ENOENT, "pod %s/%s has no entry in the maps: it has not started, or it has ended",
			       ns, name);
	if (as_json)
		inspect_print_json(v, true);
	else
		policy_print(p, v);
	return 0;
}

static void policy_get_finish(struct policy_get *p)
{
	map_finish(&p->identities);
	inspect_finish(&p->in);
}

int cmd_policy(int argc, char **argv)
{
	_cleanup_(policy_get_finish) struct policy_get p = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	const char *ns = "default", *name = NULL, *output = NULL;
	const struct arg args[] = {
		{ "namespace", 'n', "NS", "of a name without one (default)", &ns },
		{ "output", 'o', "json", "one JSON document", &output },
	};
	struct args_words words;
	bool as_json = false;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &p.in.config, &words, &err);

	if (r == 1) {
		args_help(POLICY_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0)
		r = args_output(output, &as_json, &err);
	if (r == 0 && (words.n != 2 || strcmp(words.items[0], "get") != 0))
		r = err_set(&err, -EINVAL, "usage: %s", POLICY_USAGE);
	if (r == 0 && !inspect_split_name(words.items[1], ns, &p.in.arena, &ns, &name))
		r = err_set(&err, -EINVAL, "\"%.64s\" is no [NS/]POD", words.items[1]);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf policy: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	r = policy_get(&p, ns, name, as_json, &err);
	if (r < 0)
		fprintf(stderr, "k3c-bpf policy: %s\n", err_message(&err));
	return r == -ENOENT ? CMD_EXIT_USAGE : r < 0;
}
