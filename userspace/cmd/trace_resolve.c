/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the command line -> addresses. See trace.h. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

#include "userspace/cmd/trace.h"
#include "userspace/netctl/address.h"

#define TRACE_PREFIX_POD "pod/"
#define TRACE_PREFIX_SERVICE "svc/"
#define TRACE_HOST "host"
#define TRACE_ALIASES_MAX 8 /* ExternalNames that lead to one another */

void trace_end_address(struct trace *t, const struct dp_addr *addr, struct trace_end *ret)
{
	const char *pod = inspect_pod_name(&t->in, addr);

	ret->addr = *addr;
	ret->is_node = address_is_loopback(addr) || dataplane_is_node_address(t->in.dp, addr);
	ret->name = pod ? pod : ret->is_node ? "the node" : "";
}

bool trace_is_portless(const struct trace *t)
{
	return t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6;
}

/* As inspect_place() writes it, too: "[fd00::1]". */
static int trace_parse_address(struct trace *t, const char *word, struct dp_addr *ret)
{
	size_t n = strlen(word);

	if (n > 2 && word[0] == '[' && word[n - 1] == ']')
		word = arena_strndup(&t->in.arena, word + 1, n - 2);
	return address_parse(str_of(word), ret);
}

/* The pod's address of that family; DP_FAMILIES: its first. */
static int trace_pod_address(struct trace *t, const char *ns, const char *name, int family, struct dp_addr *ret,
			     struct err *err)
{
	const struct json *pod = inspect_find_pod(&t->in, ns, name);
	struct dp_addr a;

	/* the files have those that ended, too */
	if (!pod || json_get_bool(pod, "finished", false))
		return err_set(err, -ENOENT, "pod %s/%s: none that runs is known to %s", ns, name, t->in.objects);
	/* To the dataplane it is the node. */
	if (json_get_bool(pod, "hostNetwork", false)) {
		*ret = inspect_node_address(&t->in,
					    family == DP_FAMILIES ? inspect_primary(&t->in) : (enum dp_family)family);
		return 0;
	}
	if (address_parse(json_get_str(pod, "address"), &a) == 0 &&
	    (family == DP_FAMILIES || (int)address_family(&a) == family)) {
		*ret = a;
		return 0;
	}
	json_foreach(text, json_get(pod, "addresses"))
		if (address_parse(json_str(text), &a) == 0 &&
		    (family == DP_FAMILIES || (int)address_family(&a) == family)) {
			*ret = a;
			return 0;
		}
	return err_set(err, -ENOENT, "pod %s/%s has no address%s", ns, name,
		       family == DP_FAMILIES ? " yet" : " of that family");
}

/* Who asks from an address asks in its family, a pod in one that it has. A pod that is not known is told of later. */
static bool trace_asks_in(struct trace *t, enum dp_family family)
{
	const char *word = t->from_word, *ns, *name;
	struct dp_addr a;

	if (strcmp(word, TRACE_HOST) == 0)
		return true;
	if (trace_parse_address(t, word, &a) == 0)
		return address_family(&a) == family;
	if (strncmp(word, TRACE_PREFIX_POD, strlen(TRACE_PREFIX_POD)) == 0)
		word += strlen(TRACE_PREFIX_POD);
	return !inspect_split_name(word, t->ns, &t->in.arena, &ns, &name) || !inspect_find_pod(&t->in, ns, name) ||
	       trace_pod_address(t, ns, name, (int)family, &a, NULL) == 0;
}

/* Of a pod that is asked: in the cluster's first family, unless who asks has not that one. */
static int trace_to_pod(struct trace *t, const char *ns, const char *name, struct dp_addr *ret, struct err *err)
{
	enum dp_family primary = inspect_primary(&t->in);

	for (int i = 0; i < DP_FAMILIES; i++) {
		enum dp_family family = (primary + (unsigned)i) % DP_FAMILIES;

		if (trace_asks_in(t, family) && trace_pod_address(t, ns, name, (int)family, ret, NULL) == 0)
			return 0;
	}
	return trace_pod_address(t, ns, name, DP_FAMILIES, ret, err);
}

static const char *trace_protocol(struct trace *t)
{
	char text[8];

	return arena_strdup(&t->in.arena, args_protocol_name(t->proto, text));
}

static const char *trace_ports(struct trace *t, const struct json *service)
{
	const struct json *frontends = json_get(service, "frontends");
	_cleanup_buf_ struct buf out = BUF_INIT;

	json_foreach(f, frontends) {
		bool told = false;

		for (const struct json *g = json_first(frontends); g != f && !told; g = g->next)
			told = json_equal(json_get(g, "port"), json_get(f, "port")) &&
			       json_equal(json_get(g, "protocol"), json_get(f, "protocol"));
		if (!told)
			buf_printf(&out, "%s%" PRId64 "/%.*s", buf_len(&out) ? ", " : "", json_get_int(f, "port", 0),
				   STR_ARG(json_get_str(f, "protocol")));
	}
	return arena_strdup(&t->in.arena, buf_len(&out) ? buf_cstr(&out) : "none");
}

/* The number behind a port's name, and its protocol. Of a headless Service each endpoint has its own number. */
static int trace_port_name(struct trace *t, const struct json *service, const char *ns, const char *name,
			   struct err *err)
{
	json_foreach(p, json_get(service, "ports")) {
		const char *text = arena_printf(&t->in.arena, "%.*s", STR_ARG(json_get_str(p, "protocol")));
		char asked[8];
		uint8_t proto;

		if (!str_is(json_get_str(p, "name"), t->port_name))
			continue;
		if (args_protocol(text, &proto, err) < 0)
			return -EINVAL;
		if (t->proto_given && proto != t->proto)
			return err_set(err, -ENOENT, "service %s/%s: port \"%.64s\" is %s, not %s", ns, name,
				       t->port_name, text, args_protocol_name(t->proto, asked));
		t->proto = proto;
		if (!t->headless)
			t->port = (uint16_t)json_get_int(p, "port", 0);
		return 0;
	}
	return err_set(err, -ENOENT, "service %s/%s has no port named \"%.64s\" (it has: %s)", ns, name, t->port_name,
		       t->headless ? "none of that name" : trace_ports(t, service));
}

uint16_t trace_endpoint_port(const struct trace *t, const struct json *endpoint)
{
	if (!t->port_name)
		return t->port;
	json_foreach(p, json_get(endpoint, "ports"))
		if (str_is(json_get_str(p, "name"), t->port_name))
			return (uint16_t)json_get_int(p, "port", 0);
	return 0;
}

/* An address that is neither a pod's nor the node's. */
static bool trace_asks_from_outside(struct trace *t)
{
	struct dp_endpoint known;
	struct dp_addr a;

	return trace_parse_address(t, t->from_word, &a) == 0 && !address_is_loopback(&a) &&
	       !dataplane_is_node_address(t->in.dp, &a) && dataplane_endpoint_get(t->in.dp, &a, &known) < 0;
}

/* How good a frontend is to be asked at; 0: not at all. From outside the cluster's own address last; one with an
 * address of its own before a port of the node, then the cluster's first family before the other. */
static int trace_frontend_rank(struct trace *t, const struct json *f, const struct dp_addr *addr)
{
	enum dp_family family = address_family(addr);
	int rank = 1 + (family == inspect_primary(&t->in)) + 2 * !address_is_zero(addr);

	if (!trace_asks_in(t, family))
		return 0;
	return rank + 4 * (!str_is(json_get_str(f, "kind"), "ClusterIP") && trace_asks_from_outside(t));
}

/* A port of the node is asked at the node's own address. */
static int trace_frontend_address(struct trace *t, const struct json *service, const char *ns, const char *name,
				  struct dp_addr *ret, struct err *err)
{
	const char *proto = trace_protocol(t);
	bool any = false;
	int best = 0;

	json_foreach(f, json_get(service, "frontends")) {
		struct dp_addr a;
		int rank;

		if (json_get_int(f, "port", 0) != t->port || !str_is(json_get_str(f, "protocol"), proto) ||
		    address_parse(json_get_str(f, "address"), &a) < 0)
			continue;
		any = true;
		rank = trace_frontend_rank(t, f, &a);
		if (rank <= best)
			continue;
		best = rank;
		*ret = address_is_zero(&a) ? inspect_node_address(&t->in, address_family(&a)) : a;
	}
	if (best)
		return 0;
	if (any)
		return err_set(err, -EINVAL, "service %s/%s has port %u/%s in no family that %.64s has an address of",
			       ns, name, t->port, proto, t->from_word);
	return err_set(err, -ENOENT, "service %s/%s has no address with port %u/%s (it has: %s)", ns, name, t->port,
		       proto, trace_ports(t, service));
}

/* An ExternalName that is a Service of this cluster leads on. */
static bool trace_alias(struct trace *t, struct str external, const char **ns, const char **name)
{
	struct str zone = str_of(arena_printf(&t->in.arena, ".svc.%s", t->in.config.cluster_domain)), first;

	if (external.n && external.p[external.n - 1] == '.')
		external.n--;
	if (!str_ends(external, zone))
		return false;
	external.n -= zone.n;
	if (!str_split(&external, '.', &first) || !external.n || memchr(external.p, '.', external.n))
		return false;
	*name = arena_strndup(&t->in.arena, first.p, first.n);
	*ns = arena_strndup(&t->in.arena, external.p, external.n);
	return true;
}

/* Where names of names lead in the end: *service, *ns and *name are that. */
static int trace_follow(struct trace *t, const struct json **service, const char **ns, const char **name,
			struct err *err)
{
	const struct json *seen[TRACE_ALIASES_MAX];
	_cleanup_buf_ struct buf way = BUF_INIT;
	struct str external;

	for (size_t n = 0; (external = json_get_str(*service, "externalName")).n; n++) {
		const char *from_ns = *ns, *from_name = *name;

		buf_printf(&way, "%s%s/%s", n ? " -> " : "", *ns, *name);
		for (size_t i = 0; i < n; i++)
			if (seen[i] == *service)
				return err_set(err, -EINVAL,
					       "service %s/%s is an ExternalName of a circle that leads to no address: "
					       "%s",
					       *ns, *name, buf_cstr(&way));
		if (n == TRACE_ALIASES_MAX)
			return err_set(err, -EINVAL, "more than %d ExternalNames one after the other: %s",
				       TRACE_ALIASES_MAX, buf_cstr(&way));
		seen[n] = *service;
		if (!trace_alias(t, external, ns, name))
			return err_set(err, -EINVAL,
				       "service %s/%s is an ExternalName: DNS answers with the name %.*s, and the "
				       "client connects to that host itself, at the port it likes: ask for its address",
				       *ns, *name, STR_ARG(external));
		*service = inspect_find_service(&t->in, *ns, *name);
		if (!*service)
			return err_set(
				err, -ENOENT,
				"service %s/%s is an ExternalName of the service %s/%s, which is not known to %s",
				from_ns, from_name, *ns, *name, t->in.objects);
	}
	return 0;
}

static int trace_service_address(struct trace *t, const char *ns, const char *name, struct dp_addr *ret,
				 struct err *err)
{
	const struct json *service = inspect_find_service(&t->in, ns, name);
	int r;

	if (!service)
		return err_set(err, -ENOENT, "service %s/%s: not known to %s", ns, name, t->in.objects);
	r = trace_follow(t, &service, &ns, &name, err);
	if (r < 0)
		return r;
	if (trace_is_portless(t))
		return err_set(err, -EINVAL, "service %s/%s serves ports: of ICMP only pods and addresses are asked",
			       ns, name);
	if (json_get_bool(service, "headless", false)) {
		t->headless = service;
		*ret = address_any(DP_V4);
	}
	if (t->port_name && trace_port_name(t, service, ns, name, err) < 0)
		return -ENOENT;
	return t->headless ? 0 : trace_frontend_address(t, service, ns, name, ret, err);
}

static int trace_to_name(struct trace *t, const char *word, bool pods, bool services, struct dp_addr *ret,
			 struct err *err)
{
	const char *ns, *name;
	bool is_pod, is_service;

	if (!inspect_split_name(word, t->ns, &t->in.arena, &ns, &name))
		return err_set(err, -EINVAL, "--to: \"%.64s\" is neither an address nor a name", word);
	is_pod = pods && inspect_find_pod(&t->in, ns, name);
	is_service = services && inspect_find_service(&t->in, ns, name);
	if (is_pod && is_service)
		return err_set(err, -EINVAL, "--to: both a pod and a Service are named %s/%s: say pod/ or svc/", ns,
			       name);
	if (is_service || !pods)
		return trace_service_address(t, ns, name, ret, err);
	if (is_pod || !services)
		return trace_to_pod(t, ns, name, ret, err);
	/* the name that DNS has for a Service */
	if (!strchr(word, '/') && trace_alias(t, str_of(word), &ns, &name))
		return trace_service_address(t, ns, name, ret, err);
	if (strchr(name, '.') && !strchr(word, '/'))
		return err_set(err, -ENOENT,
			       "%s/%s: neither a pod nor a Service, as known to %s (a namespace is said before "
			       "the name: NS/NAME)",
			       ns, name, t->in.objects);
	return err_set(err, -ENOENT, "%s/%s: neither a pod nor a Service, as known to %s", ns, name, t->in.objects);
}

int trace_resolve_to(struct trace *t, const char *word, struct err *err)
{
	struct dp_addr addr;
	int r = 0;

	if (strcmp(word, TRACE_HOST) == 0) {
		addr = inspect_node_address(&t->in, trace_asks_in(t, inspect_primary(&t->in)) ? inspect_primary(&t->in)
						    : inspect_primary(&t->in) == DP_V4        ? DP_V6
											      : DP_V4);
	} else if (trace_parse_address(t, word, &addr) < 0) {
		bool pod = strncmp(word, TRACE_PREFIX_POD, strlen(TRACE_PREFIX_POD)) == 0;
		bool service = strncmp(word, TRACE_PREFIX_SERVICE, strlen(TRACE_PREFIX_SERVICE)) == 0;

		r = trace_to_name(t, pod || service ? word + strlen(TRACE_PREFIX_POD) : word, !service, !pod, &addr,
				  err);
	}
	if (r == 0 && t->headless) {
		t->to = (struct trace_end){ .name = word };
		return 0;
	}
	if (r == 0 && t->port_name && !t->port)
		r = err_set(err, -EINVAL, "--port: \"%.64s\": only ports of Services are asked by name", t->port_name);
	if (r < 0)
		return r;
	trace_end_address(t, &addr, &t->to);
	if (trace_is_portless(t))
		t->proto = address_family(&addr) == DP_V4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	return 0;
}

int trace_resolve_from(struct trace *t, struct err *err)
{
	const char *word = t->from_word;
	enum dp_family family = address_family(&t->to.addr);
	const char *ns, *name;
	struct dp_addr addr;
	int r = 0;

	if (strcmp(word, TRACE_HOST) == 0) {
		addr = inspect_node_address(&t->in, family);
	} else if (trace_parse_address(t, word, &addr) == 0) {
		if (address_is_zero(&addr))
			r = err_set(err, -EINVAL, "--from: %.64s is nobody's address", word);
		else if (address_family(&addr) != family)
			r = err_set(err, -EINVAL, "--from and --to are of two families");
	} else {
		if (strncmp(word, TRACE_PREFIX_SERVICE, strlen(TRACE_PREFIX_SERVICE)) == 0)
			return err_set(err, -EINVAL, "--from: a Service asks nobody, its pods do: %.64s", word);
		if (strncmp(word, TRACE_PREFIX_POD, strlen(TRACE_PREFIX_POD)) == 0)
			word += strlen(TRACE_PREFIX_POD);
		if (!inspect_split_name(word, t->ns, &t->in.arena, &ns, &name))
			return err_set(err, -EINVAL, "--from: \"%.64s\" is neither an address nor a pod", word);
		r = trace_pod_address(t, ns, name, (int)family, &addr, err);
	}
	if (r == 0)
		trace_end_address(t, &addr, &t->from);
	return r;
}
