/* SPDX-License-Identifier: Apache-2.0 */
/* What a Service is given: cluster addresses, families, node ports. Assigned on the way through the pipeline,
 * counted when handed to the store, given back when the store refuses or the service goes. Loop thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/name_set.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

int services_init(struct services *s, const struct registry_options *options, struct err *err)
{
	struct str rest = str_of(options->service_cidr), part;

	*s = (struct services){ .port_min = options->node_port_min, .port_max = options->node_port_max };
	if (s->port_min <= 0 || s->port_max > 65535 || s->port_min > s->port_max)
		return err_set(err, -EINVAL, "bad node port range %d-%d", s->port_min, s->port_max);
	while (str_split(&rest, ',', &part)) {
		int r;

		if (s->n_ranges == SERVICE_DEFAULT_RANGES_MAX)
			return err_set(err, -EINVAL, "at most %d service CIDRs", SERVICE_DEFAULT_RANGES_MAX);
		r = ip_range_init(&s->ranges[s->n_ranges], str_trim(part), err);
		if (r < 0)
			return r;
		s->n_ranges++;
	}
	if (s->n_ranges == 0)
		return err_set(err, -EINVAL, "no service CIDR");
	s->n_default = s->n_ranges;
	rest = str_of(options->cluster_dns ? options->cluster_dns : "");
	for (size_t i = 0; i < SERVICE_DEFAULT_RANGES_MAX && str_split(&rest, ',', &part); i++)
		snprintf(s->cluster_dns[i], sizeof(s->cluster_dns[i]), "%.*s", STR_ARG(str_trim(part)));
	s->ports = mem_zalloc((size_t)(s->port_max - s->port_min + 1));
	return 0;
}

void services_finish(struct services *s)
{
	for (size_t i = 0; i < s->n_ranges; i++)
		ip_range_finish(&s->ranges[i]);
	free(s->ports);
}

static uint8_t protocol_bit(struct str protocol)
{
	return str_is(protocol, "UDP") ? 2 : str_is(protocol, "SCTP") ? 4 : 1;
}

static void hold_port(struct services *s, int64_t port, uint8_t bit, bool hold)
{
	if (port < s->port_min || port > s->port_max)
		return;
	if (hold)
		s->ports[port - s->port_min] |= bit;
	else
		s->ports[port - s->port_min] &= (uint8_t)~bit;
}

static void hold_address(struct services *s, struct str text, bool hold)
{
	struct names_ip ip;

	if (names_parse_ip(text, &ip) < 0)
		return;
	for (size_t i = 0; i < s->n_ranges; i++) {
		if (!ip_range_contains(&s->ranges[i], &ip))
			continue;
		if (hold)
			ip_range_take(&s->ranges[i], text);
		else
			ip_range_release(&s->ranges[i], text);
	}
}

void services_hold(struct services *s, const struct json *service, bool hold)
{
	const struct json *spec = json_get(service, "spec");

	json_foreach(ip, json_get(spec, "clusterIPs"))
		hold_address(s, json_str(ip), hold);
	json_foreach(p, json_get(spec, "ports"))
		hold_port(s, json_get_int(p, "nodePort", 0), protocol_bit(json_get_str(p, "protocol")), hold);
	hold_port(s, json_get_int(spec, "healthCheckNodePort", 0), 1, hold);
}

/* ---- what stays from before ---- */

static bool wants_ports(const struct json *spec)
{
	struct str type = json_get_str(spec, "type");

	return str_is(type, "NodePort") ||
	       (str_is(type, "LoadBalancer") && json_get_bool(spec, "allocateLoadBalancerNodePorts", true));
}

static bool wants_health_port(const struct json *spec)
{
	return str_is(json_get_str(spec, "type"), "LoadBalancer") &&
	       str_is(json_get_str(spec, "externalTrafficPolicy"), "Local");
}

static bool is_external_name(const struct json *spec)
{
	return str_is(json_get_str(spec, "type"), "ExternalName");
}

/* A number, and a protocol where it matters, as a text of a set. */
struct port_key {
	int64_t number, bit;
};

#define PORT_KEY(number_, bit_) (&(const struct port_key){ (number_), (bit_) })

static const struct json *put_port(struct name_set *s, const struct port_key *key, const struct json *p)
{
	return name_set_put(s, str_make((const char *)key, sizeof(*key)), p);
}

static const struct json *find_in(const struct name_set *s, const struct port_key *key)
{
	return name_set_get(s, str_make((const char *)key, sizeof(*key)));
}

static struct port_key key_of(const struct json *p, const char *number)
{
	return (struct port_key){ json_get_int(p, number, 0), protocol_bit(json_get_str(p, "protocol")) };
}

static void keep_ports(struct write *w, struct json *spec, const struct json *old)
{
	_cleanup_name_set_ struct name_set had;

	name_set_init(&had);
	json_foreach(p, json_get(old, "ports")) {
		struct port_key key = key_of(p, "port");

		put_port(&had, &key, p);
	}
	json_foreach(p, json_get(spec, "ports")) {
		struct port_key key = key_of(p, "port");
		const struct json *before = find_in(&had, &key);
		int64_t port = json_get_int(before, "nodePort", 0);

		if (port == 0)
			continue;
		if (wants_ports(spec) && json_get_int(p, "nodePort", 0) == 0)
			json_set_int(&w->arena, p, "nodePort", port);
		else if (!wants_ports(spec) && !str_is(json_get_str(spec, "type"), "LoadBalancer") &&
			 json_get_int(p, "nodePort", 0) == port)
			json_remove(p, "nodePort"); /* it came with the type that is gone */
	}
}

/* A client that leaves out what it was given does not mean to lose it. */
static void keep(struct write *w, struct json *spec)
{
	static const char *const kept[] = { "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy" };
	const struct json *old = json_get(w->old, "spec");

	if (!is_external_name(spec) && !is_external_name(old)) {
		/* Only one of the two named: the other follows it. */
		if (json_get(spec, "clusterIP") && json_get_str(spec, "clusterIP").n == 0)
			json_remove(spec, "clusterIP");
		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			if (!json_get(spec, kept[i]) && json_get(old, kept[i]))
				json_set(spec, kept[i], json_clone(&w->arena, json_get(old, kept[i])));
		/* A changed clusterIP beside the old list: the list follows, and validation refuses the change. */
		if (!json_equal(json_get(spec, "clusterIP"), json_get(old, "clusterIP")) &&
		    json_equal(json_get(spec, "clusterIPs"), json_get(old, "clusterIPs")) &&
		    json_first(json_get(spec, "clusterIPs")))
			json_replace(json_first(json_get(spec, "clusterIPs")), json_get(spec, "clusterIP"));
	} else if (is_external_name(spec) && !is_external_name(old)) {
		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			if (json_equal(json_get(spec, kept[i]), json_get(old, kept[i])))
				json_remove(spec, kept[i]);
	}
	keep_ports(w, spec, old);
	if (wants_health_port(spec) && json_get_int(spec, "healthCheckNodePort", 0) == 0 &&
	    json_get(old, "healthCheckNodePort"))
		json_set(spec, "healthCheckNodePort", json_clone(&w->arena, json_get(old, "healthCheckNodePort")));
	else if (!wants_health_port(spec) &&
		 json_get_int(spec, "healthCheckNodePort", 0) == json_get_int(old, "healthCheckNodePort", 0))
		json_remove(spec, "healthCheckNodePort");
}

/* ---- addresses ---- */

#define SPEC FIELD(NULL, "spec")

static const char *family_name(int family)
{
	return family == 4 ? "IPv4" : "IPv6";
}

/* A ServiceCIDR of another family does not give the cluster that family. */
static struct ip_range *range_of(struct services *s, struct str family)
{
	for (size_t i = 0; i < s->n_default; i++)
		if (str_is(family, family_name(s->ranges[i].cidr.ip.family)))
			return &s->ranges[i];
	return NULL;
}

static bool is_headless(const struct json *spec)
{
	return str_is(json_get_str(spec, "clusterIP"), "None");
}

static bool same_strings(const struct json *a, const struct json *b)
{
	const struct json *x = json_first(a);

	if (json_count(a) != json_count(b))
		return false;
	json_foreach(y, b) {
		if (!str_eq(json_str(x), json_str(y)))
			return false;
		x = x->next;
	}
	return true;
}

/* A Service that prefers two families keeps what it has when the cluster gains or loses one: only who changes it does.
 */
static bool prefers_what_it_has(const struct write *w, const struct json *spec)
{
	const struct json *old = w->op == WRITE_UPDATE ? json_get(w->old, "spec") : NULL;

	return old && str_is(json_get_str(spec, "ipFamilyPolicy"), "PreferDualStack") &&
	       (!json_get_str(old, "ipFamilyPolicy").n ||
		str_is(json_get_str(old, "ipFamilyPolicy"), "PreferDualStack")) &&
	       str_eq(json_get_str(spec, "type"), json_get_str(old, "type")) &&
	       json_count(json_get(spec, "ipFamilies")) &&
	       same_strings(json_get(spec, "clusterIPs"), json_get(old, "clusterIPs")) &&
	       same_strings(json_get(spec, "ipFamilies"), json_get(old, "ipFamilies"));
}

static void drop_second(struct json *list)
{
	while (json_count(list) > 1)
		json_unlink(list, json_index(list, 1));
}

/* What an update lets go: with SingleStack the second of each is meant, otherwise nobody may leave it out. */
static void settle_release(struct write *w, struct json *spec, struct field_errors *e)
{
	static const struct {
		const char *key, *what;
	} lists[] = { { "clusterIPs", "must be 'SingleStack' to release the secondary cluster IP" },
		      { "ipFamilies", "must be 'SingleStack' to release the secondary IP family" } };
	const struct json *old = json_get(w->old, "spec");

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct json *now = json_get(spec, lists[i].key);
		const struct json *was = json_get(old, lists[i].key);

		if (str_is(json_get_str(spec, "ipFamilyPolicy"), "SingleStack")) {
			if (same_strings(now, was))
				drop_second(now);
		} else if (json_count(now) == 1 && json_count(was) == 2 &&
			   str_eq(json_str(json_first(now)), json_str(json_first(was)))) {
			field_invalid_str(e, FIELD(SPEC, "ipFamilyPolicy"), json_get_str(spec, "ipFamilyPolicy"), "%s",
					  lists[i].what);
		}
	}
}

static void check_single(const struct json *spec, struct field_errors *e)
{
	if (!str_is(json_get_str(spec, "ipFamilyPolicy"), "SingleStack"))
		return;
	if (json_count(json_get(spec, "clusterIPs")) == 2)
		field_invalid_str(e, FIELD(SPEC, "ipFamilyPolicy"), STR("SingleStack"),
				  "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are "
				  "specified");
	if (json_count(json_get(spec, "ipFamilies")) == 2)
		field_invalid_str(e, FIELD(SPEC, "ipFamilyPolicy"), STR("SingleStack"),
				  "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are "
				  "specified");
}

/* The families of addresses that are named follow from these. */
static void infer_families(struct write *w, const struct json *spec, struct json *families, struct field_errors *e)
{
	struct names_ip ip;
	size_t i = 0;

	if (is_headless(spec))
		return;
	json_foreach(given, json_get(spec, "clusterIPs")) {
		const char *name;

		if (i++ < families->count || names_parse_ip(json_str(given), &ip) < 0)
			continue;
		name = family_name(ip.family);
		if (!range_of(&w->reg->services, str_of(name)))
			field_invalid(e, FIELD_INDEX(FIELD(SPEC, "clusterIPs"), i - 1), json_get(spec, "clusterIPs"),
				      "%s is not configured on this cluster", name);
		else
			json_append(families, json_new_cstr(&w->arena, name));
	}
}

static void check_configured(struct write *w, const struct json *spec, const struct json *families,
			     struct field_errors *e)
{
	size_t i = 0;

	if (str_is(json_get_str(spec, "ipFamilyPolicy"), "RequireDualStack") && w->reg->services.n_default < 2)
		field_invalid_str(e, FIELD(SPEC, "ipFamilyPolicy"), STR("RequireDualStack"),
				  "this cluster is not configured for dual-stack services");
	json_foreach(f, families) {
		if (!range_of(&w->reg->services, json_str(f)))
			field_invalid_str(e, FIELD_INDEX(FIELD(SPEC, "ipFamilies"), i), json_str(f),
					  "not configured on this cluster");
		i++;
	}
}

static void other_family(struct write *w, struct json *families)
{
	json_append(families, json_new_cstr(&w->arena, str_is(json_str(families->first), "IPv4") ? "IPv6" : "IPv4"));
}

/* ipFamilyPolicy and ipFamilies complete; false when they cannot be. */
static bool settle_families(struct write *w, struct json *spec, struct field_errors *e)
{
	struct services *s = &w->reg->services;
	struct json *families = json_ensure_array(&w->arena, spec, "ipFamilies");
	/* Its endpoints are written by its owner, who may know both families where the cluster knows one. */
	bool free_hand = is_headless(spec) && !json_count(json_get(spec, "selector"));
	size_t before = e->n;

	if (!json_get_str(spec, "ipFamilyPolicy").n)
		json_set_cstr(&w->arena, spec, "ipFamilyPolicy", free_hand ? "RequireDualStack" : "SingleStack");
	if (w->op == WRITE_UPDATE)
		settle_release(w, spec, e);
	check_single(spec, e);
	infer_families(w, spec, families, e);
	if (e->n == before && !free_hand)
		check_configured(w, spec, families, e);
	if (e->n != before)
		return false;
	if (families->count == 0)
		json_append(families, json_new_cstr(&w->arena, family_name(s->ranges[0].cidr.ip.family)));
	if (!str_is(json_get_str(spec, "ipFamilyPolicy"), "SingleStack") && families->count == 1 &&
	    (free_hand || s->n_default == 2))
		other_family(w, families);
	return true;
}

static void allocation_failed(struct field_errors *e, const struct json *ips, const char *text)
{
	field_invalid(e, FIELD(SPEC, "clusterIPs"), ips, "%s", text);
}

static bool held_before(const struct write *w, struct str text)
{
	if (w->op != WRITE_UPDATE)
		return false;
	json_foreach(ip, json_at(w->old, "spec.clusterIPs"))
		if (str_eq(json_str(ip), text))
			return true;
	return false;
}

static void check_address(struct write *w, const struct json *ips, struct str text, struct field_errors *e)
{
	struct services *s = &w->reg->services;
	_cleanup_(buf_finish) struct buf ranges = BUF_INIT;
	struct names_ip ip;

	if (names_parse_ip(text, &ip) < 0 || held_before(w, text))
		return; /* the first is for validation to say */
	for (size_t i = 0; i < s->n_ranges; i++) {
		char net[NAMES_ADDRESS_MAX];

		names_format_ip(&s->ranges[i].cidr.ip, net);
		if (ip_range_contains(&s->ranges[i], &ip)) {
			if (ip_range_used(&s->ranges[i], text))
				allocation_failed(e, ips,
						  arena_printf(&w->arena,
							       "failed to allocate IP %.*s: provided IP is already "
							       "allocated",
							       STR_ARG(text)));
			return;
		}
		if (s->ranges[i].cidr.ip.family == ip.family)
			buf_printf(&ranges, "%s/%u", net, s->ranges[i].cidr.prefix);
	}
	allocation_failed(
		e, ips,
		arena_printf(&w->arena,
			     "failed to allocate IP %.*s: the provided IP (%.*s) is not in the valid range. The "
			     "range of valid IPs is %s",
			     STR_ARG(text), STR_ARG(text), buf_cstr(&ranges)));
}

static bool is_api_service(const struct write *w)
{
	return str_is(w->ns, "default") && str_is(meta_name(w->object), "kubernetes");
}

static int find_address(struct services *s, struct ip_range *r, char ret[static NAMES_ADDRESS_MAX])
{
	bool dns[SERVICE_DEFAULT_RANGES_MAX];
	int found;

	for (size_t i = 0; i < ARRAY_SIZE(dns); i++) {
		struct str own = str_of(s->cluster_dns[i]);

		dns[i] = own.n && !ip_range_used(r, own);
		if (dns[i]) /* only who names it gets it */
			ip_range_take(r, own);
	}
	found = ip_range_find(r, ret);
	for (size_t i = 0; i < ARRAY_SIZE(dns); i++)
		if (dns[i])
			ip_range_release(r, str_of(s->cluster_dns[i]));
	return found;
}

static void give_address(struct write *w, struct json *ips, struct str family, struct field_errors *e)
{
	struct services *s = &w->reg->services;
	struct ip_range *r = range_of(s, family);
	char text[NAMES_ADDRESS_MAX];
	int found = -ENOSPC;

	if (is_api_service(w)) {
		ip_range_at(r, 1, text);
		found = 0;
	}
	for (size_t i = 0; i < s->n_ranges && found < 0; i++)
		if (str_is(family, family_name(s->ranges[i].cidr.ip.family)))
			found = find_address(s, &s->ranges[i], text);
	if (found < 0) {
		field_internal(e, FIELD(SPEC, "clusterIPs"), "failed to allocate a serviceIP: range is full");
		return;
	}
	json_append(ips, json_new_cstr(&w->arena, arena_strdup(&w->arena, text)));
}

static void assign_addresses(struct write *w, struct json *spec, struct field_errors *e)
{
	struct json *ips, *first;
	struct json *families;
	size_t n = 0;

	if (is_external_name(spec))
		return;
	ips = json_ensure_array(&w->arena, spec, "clusterIPs");
	first = json_get(spec, "clusterIP");
	if (json_str(first).n > 0 && ips->count == 0)
		json_append(ips, json_clone(&w->arena, first));
	if (prefers_what_it_has(w, spec) || !settle_families(w, spec, e))
		return;
	if (!str_is(json_str(json_index(ips, 0)), "None")) {
		json_foreach(ip, ips)
			check_address(w, ips, json_str(ip), e);
		families = json_get(spec, "ipFamilies");
		json_foreach(f, families)
			if (n++ >= ips->count)
				give_address(w, ips, json_str(f), e);
	}
	if (ips->count > 0)
		json_set_str(&w->arena, spec, "clusterIP", json_str(ips->first));
}

/* ---- ports ---- */

/* One service's node ports while they are checked and given. */
struct node_ports {
	struct write *w;
	struct name_set before; /* it held them already: by number and protocol */
	struct name_set named;  /* by number */
	struct name_set paired; /* ports with a node port, by their own number */
	int64_t health_before, health;
	int start, tried; /* the search goes on where it was: what was held still is */
};

#define RANDOM_TRIES 8

static void node_ports_init(struct node_ports *n, struct write *w, const struct json *spec)
{
	struct services *s = &w->reg->services;
	uint32_t random;

	n->w = w;
	name_set_init(&n->before);
	name_set_init(&n->named);
	name_set_init(&n->paired);
	n->health = json_get_int(spec, "healthCheckNodePort", 0);
	n->health_before = w->op == WRITE_UPDATE ? json_at_int(w->old, "spec.healthCheckNodePort", 0) : -1;
	random_bytes(&random, sizeof(random));
	n->start = (int)(random % (uint32_t)(s->port_max - s->port_min + 1));
	n->tried = 0;
	if (w->op == WRITE_UPDATE)
		json_foreach(p, json_at(w->old, "spec.ports")) {
			struct port_key key = key_of(p, "nodePort");

			put_port(&n->before, &key, p);
		}
	json_foreach(p, json_get(spec, "ports")) {
		if (json_get_int(p, "nodePort", 0) <= 0)
			continue;
		put_port(&n->named, PORT_KEY(json_get_int(p, "nodePort", 0), 0), p);
		put_port(&n->paired, PORT_KEY(json_get_int(p, "port", 0), 0), p);
	}
}

static void node_ports_finish(struct node_ports *n)
{
	name_set_finish(&n->before);
	name_set_finish(&n->named);
	name_set_finish(&n->paired);
}

#define _cleanup_node_ports_ _cleanup_(node_ports_finish)

static void check_port(struct node_ports *n, int64_t port, uint8_t bit, const struct field_path *path,
		       struct field_errors *e)
{
	struct services *s = &n->w->reg->services;

	if (find_in(&n->before, PORT_KEY(port, bit)) || n->health_before == port)
		return;
	if (port < s->port_min || port > s->port_max)
		field_invalid_int(e, path, port,
				  "provided port is not in the valid range. The range of valid ports is %d-%d",
				  s->port_min, s->port_max);
	else if (s->ports[port - s->port_min] & bit)
		field_invalid_int(e, path, port, "provided port is already allocated");
}

/* Not held by anyone, nor named by this service itself. */
static bool is_free(const struct node_ports *n, int64_t port)
{
	const struct services *s = &n->w->reg->services;

	return s->ports[port - s->port_min] == 0 && n->health != port && !find_in(&n->named, PORT_KEY(port, 0));
}

static int64_t find_port(struct node_ports *n)
{
	struct services *s = &n->w->reg->services;
	int span = s->port_max - s->port_min + 1;

	for (int i = 0; i < RANDOM_TRIES && n->tried < span; i++) {
		uint32_t random;
		int64_t port;

		random_bytes(&random, sizeof(random));
		port = s->port_min + (int64_t)(random % (uint32_t)span);
		if (is_free(n, port))
			return port;
	}
	for (; n->tried < span; n->tried++) {
		int64_t port = s->port_min + (n->start + n->tried) % span;

		if (is_free(n, port))
			return port;
	}
	return 0;
}

/* The same number for the same port under another protocol, as DNS over both wants it. */
static int64_t sibling_port(const struct node_ports *n, const struct json *port)
{
	return json_get_int(find_in(&n->paired, PORT_KEY(json_get_int(port, "port", 0), 0)), "nodePort", 0);
}

/* Of the other types a port is refused, and not looked for. */
static bool may_have_ports(const struct json *spec)
{
	struct str type = json_get_str(spec, "type");

	return str_is(type, "NodePort") || str_is(type, "LoadBalancer");
}

static void assign_ports(struct write *w, struct json *spec, struct field_errors *e)
{
	struct services *s = &w->reg->services;
	_cleanup_node_ports_ struct node_ports n;
	size_t i = 0;

	node_ports_init(&n, w, spec);
	json_foreach(p, json_get(spec, "ports")) {
		const struct field_path *path = FIELD(FIELD_INDEX(FIELD(SPEC, "ports"), i), "nodePort");
		uint8_t bit = protocol_bit(json_get_str(p, "protocol"));
		int64_t port = json_get_int(p, "nodePort", 0);

		i++;
		if (port > 0) {
			if (may_have_ports(spec))
				check_port(&n, port, bit, path, e);
			continue;
		}
		if (!wants_ports(spec))
			continue;
		port = sibling_port(&n, p);
		if (port == 0 || port < s->port_min || port > s->port_max || s->ports[port - s->port_min] & bit)
			port = find_port(&n);
		if (port == 0) {
			field_internal(e, path, "failed to allocate a nodePort: range is full");
			continue;
		}
		json_set_int(&w->arena, p, "nodePort", port);
		put_port(&n.named, PORT_KEY(port, 0), p);
		put_port(&n.paired, PORT_KEY(json_get_int(p, "port", 0), 0), p);
	}
	if (!wants_health_port(spec))
		return;
	if (json_get_int(spec, "healthCheckNodePort", 0) > 0) {
		check_port(&n, json_get_int(spec, "healthCheckNodePort", 0), 1, FIELD(SPEC, "healthCheckNodePort"), e);
		return;
	}
	json_set_int(&w->arena, spec, "healthCheckNodePort", find_port(&n));
}

void services_keep(struct write *w)
{
	struct json *spec = json_get(w->object, "spec");

	if (spec)
		keep(w, spec);
}

void services_assign(struct write *w, struct field_errors *e)
{
	struct json *spec = json_get(w->object, "spec");

	if (!spec)
		return;
	assign_addresses(w, spec, e);
	assign_ports(w, spec, e);
}
