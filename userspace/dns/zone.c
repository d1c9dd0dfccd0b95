/* SPDX-License-Identifier: Apache-2.0 */
/* See zone.h. */
#include "userspace/dns/zone.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define ZONE_LABELS_MAX 8

/* One look-up on its way. */
struct lookup {
	struct zone *z;
	const ldns_rdf *owner;
	ldns_rr_type type;
	ldns_rr_list *answer, *additional;
	struct arena arena;
	char *target;
};

static void zone_changed(struct zone *z)
{
	z->reverse_valid = false;
}

static void zone_service_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			       const struct object *prev)
{
	zone_changed(container_of(w, struct zone, services));
}

static void zone_slice_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			     const struct object *prev)
{
	zone_changed(container_of(w, struct zone, slices));
}

void zone_init(struct zone *z, struct registry *reg, const char *domain)
{
	*z = (struct zone){ .reg = reg, .domain = mem_strdup(domain) };
	for (char *p = z->domain; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	z->services.kind = KIND_SERVICE;
	z->services.fn = zone_service_event;
	z->slices.kind = KIND_ENDPOINTSLICE;
	z->slices.fn = zone_slice_event;
	registry_watch_start(reg, &z->services);
	registry_watch_start(reg, &z->slices);
}

static void zone_drop_reverse(struct zone *z)
{
	map_foreach(e, &z->reverse)
		free(e->value);
	map_finish(&z->reverse);
}

void zone_finish(struct zone *z)
{
	if (!z->domain)
		return;
	registry_watch_stop(z->reg, &z->services);
	registry_watch_stop(z->reg, &z->slices);
	zone_drop_reverse(z);
	free(z->domain);
	*z = (struct zone){ 0 };
}

/* ---- records ---- */

static ldns_rr *record_new(const ldns_rdf *owner, ldns_rr_type type)
{
	ldns_rr *rr = ldns_rr_new();

	ldns_rr_set_owner(rr, ldns_rdf_clone(owner));
	ldns_rr_set_type(rr, type);
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	ldns_rr_set_ttl(rr, ZONE_TTL_S);
	return rr;
}

/* Takes rr; a value that is no such thing drops it. */
static bool record_add(ldns_rr_list *list, ldns_rr *rr, ldns_rdf_type type, const char *value)
{
	ldns_rdf *rdf = value ? ldns_rdf_new_frm_str(type, value) : NULL;

	if (!rdf || ldns_rr_list_rr_count(list) >= ZONE_RECORDS_MAX) {
		ldns_rdf_deep_free(rdf);
		ldns_rr_free(rr);
		return false;
	}
	ldns_rr_push_rdf(rr, rdf);
	ldns_rr_list_push_rr(list, rr);
	return true;
}

/* A or AAAA, when that is the type asked for. */
static void record_address(struct lookup *l, ldns_rr_list *list, const ldns_rdf *owner, ldns_rr_type type,
			   struct str address)
{
	bool v6 = str_find(address, ':') >= 0;

	if (type != (v6 ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A))
		return;
	record_add(list, record_new(owner, type), v6 ? LDNS_RDF_TYPE_AAAA : LDNS_RDF_TYPE_A,
		   arena_strndup(&l->arena, address.p, address.n));
}

/* Beside an SRV record: where its target is. */
static void record_additional(struct lookup *l, const char *target, struct str address)
{
	ldns_rdf *name = address.n ? ldns_dname_new_frm_str(target) : NULL;

	if (name)
		record_address(l, l->additional, name, str_find(address, ':') >= 0 ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A,
			       address);
	ldns_rdf_deep_free(name);
}

static void record_srv(struct lookup *l, int64_t port, const char *target)
{
	ldns_rr *rr = record_new(l->owner, LDNS_RR_TYPE_SRV);

	ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, 0));
	ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, 100));
	ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, (uint16_t)port));
	record_add(l->answer, rr, LDNS_RDF_TYPE_DNAME, target);
}

static enum zone_result zone_found(const struct lookup *l)
{
	return ldns_rr_list_rr_count(l->answer) ? ZONE_FOUND : ZONE_NO_DATA;
}

/* ---- headless services ---- */

struct endpoint_walk {
	struct lookup *l;
	struct str service, host; /* host n = 0: all endpoints */
	struct str port, proto;   /* SRV: lower case, without underscores; "" of A look-ups */
	struct map seen;          /* what was given already: an endpoint may stand in two slices, of two families */
	bool matched;
	const char *domain_tail; /* "<service>.<ns>.svc.<domain>" */
};

static struct str endpoint_host(struct arena *arena, const struct json *endpoint, struct str address)
{
	struct str host = json_get_str(endpoint, "hostname");
	char *text;

	if (host.n)
		return host;
	text = arena_strndup(arena, address.p, address.n);
	for (char *p = text; *p; p++)
		if (*p == '.' || *p == ':')
			*p = '-';
	return str_of(text);
}

static bool str_eq_fold(struct str a, struct str b)
{
	return a.n == b.n && strncasecmp(a.p ? a.p : "", b.p ? b.p : "", a.n) == 0;
}

__attribute__((format(printf, 2, 3))) static bool endpoint_first(struct endpoint_walk *w, const char *fmt, ...)
{
	char key[2 * ZONE_NAME_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(key, sizeof(key), fmt, args);
	va_end(args);
	return !map_put(&w->seen, str_of(key), w);
}

static void endpoint_emit(struct endpoint_walk *w, const struct json *slice, struct str address, struct str host)
{
	if (!w->port.n) {
		w->matched = true;
		if (!map_put(&w->seen, address, w))
			record_address(w->l, w->l->answer, w->l->owner, w->l->type, address);
		return;
	}
	json_foreach(p, json_get(slice, "ports")) {
		const char *target;
		int64_t port = json_get_int(p, "port", 0);

		if (!str_eq_fold(json_get_str(p, "name"), w->port) ||
		    !str_eq_fold(json_get_str(p, "protocol"), w->proto))
			continue;
		w->matched = true;
		if (w->l->type != LDNS_RR_TYPE_SRV)
			continue;
		target = arena_printf(&w->l->arena, "%.*s.%s", STR_ARG(host), w->domain_tail);
		if (endpoint_first(w, "%s %lld", target, (long long)port))
			record_srv(w->l, port, target);
		if (endpoint_first(w, "%.*s %lld", STR_ARG(address), (long long)port))
			record_additional(w->l, target, address);
	}
}

static void endpoint_slice(void *arg, const struct object *o)
{
	struct endpoint_walk *w = arg;
	struct json *slice;

	if (!str_eq(object_label(o, STR("kubernetes.io/service-name")), w->service))
		return;
	slice = registry_parse(&w->l->arena, o);
	json_foreach(e, json_get(slice, "endpoints")) {
		if (!json_at_bool(e, "conditions.ready", true))
			continue;
		json_foreach(a, json_get(e, "addresses")) {
			struct str host = endpoint_host(&w->l->arena, e, json_str(a));

			if (w->host.n && !str_eq_fold(host, w->host))
				continue;
			endpoint_emit(w, slice, json_str(a), host);
		}
	}
}

/* ---- services ---- */

static bool service_is_headless(const struct json *service)
{
	return str_is(json_at_str(service, "spec.clusterIP"), "None");
}

static enum zone_result service_external(struct lookup *l, const struct json *service)
{
	struct str target = json_at_str(service, "spec.externalName");
	char name[ZONE_NAME_MAX];

	if (!target.n || target.n >= sizeof(name) - 1)
		return ZONE_NO_DATA;
	snprintf(name, sizeof(name), "%.*s%s", STR_ARG(target), target.p[target.n - 1] == '.' ? "" : ".");
	if (!record_add(l->answer, record_new(l->owner, LDNS_RR_TYPE_CNAME), LDNS_RDF_TYPE_DNAME, name))
		return ZONE_NO_DATA;
	if (l->type == LDNS_RR_TYPE_CNAME)
		return ZONE_FOUND;
	memcpy(l->target, name, strlen(name) + 1);
	return ZONE_ALIAS;
}

static enum zone_result service_endpoints(struct lookup *l, const struct object *o, struct str host, struct str port,
					  struct str proto)
{
	struct endpoint_walk w = { .l = l, .service = o->name, .host = host, .port = port, .proto = proto };

	w.domain_tail = arena_printf(&l->arena, "%.*s.%.*s.svc.%s.", STR_ARG(o->name), STR_ARG(o->ns), l->z->domain);
	registry_each(l->z->reg, KIND_ENDPOINTSLICE, o->ns, endpoint_slice, &w);
	map_finish(&w.seen);
	if (!w.matched)
		return ZONE_NO_NAME;
	return zone_found(l);
}

static enum zone_result service_addresses(struct lookup *l, const struct object *o)
{
	const struct json *service = registry_parse(&l->arena, o), *ips = json_at(service, "spec.clusterIPs");

	if (str_is(json_at_str(service, "spec.type"), "ExternalName"))
		return service_external(l, service);
	if (service_is_headless(service))
		return service_endpoints(l, o, STR_NULL, STR_NULL, STR_NULL);
	json_foreach(ip, ips)
		record_address(l, l->answer, l->owner, l->type, json_str(ip));
	if (!json_count(ips))
		record_address(l, l->answer, l->owner, l->type, json_at_str(service, "spec.clusterIP"));
	return zone_found(l);
}

static enum zone_result service_srv(struct lookup *l, const struct object *o, struct str port, struct str proto)
{
	const struct json *service = registry_parse(&l->arena, o);
	const char *target;
	bool matched = false;

	if (port.n < 2 || proto.n < 2 || port.p[0] != '_' || proto.p[0] != '_')
		return ZONE_NO_NAME;
	port = str_make(port.p + 1, port.n - 1);
	proto = str_make(proto.p + 1, proto.n - 1);
	if (service_is_headless(service))
		return service_endpoints(l, o, STR_NULL, port, proto);
	target = arena_printf(&l->arena, "%.*s.%.*s.svc.%s.", STR_ARG(o->name), STR_ARG(o->ns), l->z->domain);
	json_foreach(p, json_at(service, "spec.ports")) {
		if (!str_eq_fold(json_get_str(p, "name"), port) || !str_eq_fold(json_get_str(p, "protocol"), proto))
			continue;
		matched = true;
		if (l->type != LDNS_RR_TYPE_SRV)
			continue;
		record_srv(l, json_get_int(p, "port", 0), target);
		json_foreach(ip, json_at(service, "spec.clusterIPs"))
			record_additional(l, target, json_str(ip));
	}
	return matched ? zone_found(l) : ZONE_NO_NAME;
}

/* labels: as written, `n` of them before ".svc" */
static enum zone_result zone_svc(struct lookup *l, const struct str *labels, size_t n)
{
	const struct object *service;

	if (n == 0)
		return ZONE_NO_DATA;
	if (!registry_get(l->z->reg, KIND_NAMESPACE, STR_NULL, labels[n - 1]))
		return ZONE_NO_NAME;
	if (n == 1)
		return ZONE_NO_DATA;
	service = registry_get(l->z->reg, KIND_SERVICE, labels[n - 1], labels[n - 2]);
	if (!service)
		return ZONE_NO_NAME;
	if (n == 2)
		return service_addresses(l, service);
	if (n == 3 && labels[0].n && labels[0].p[0] == '_')
		return ZONE_NO_DATA;
	if (n == 3 && service_is_headless(registry_parse(&l->arena, service)))
		return service_endpoints(l, service, labels[0], STR_NULL, STR_NULL);
	if (n == 4)
		return service_srv(l, service, labels[0], labels[1]);
	return ZONE_NO_NAME;
}

/* 10-42-0-5.ns.pod: the address is in the name. */
static enum zone_result zone_pod(struct lookup *l, const struct str *labels, size_t n)
{
	char *text, other[INET6_ADDRSTRLEN];
	unsigned char bytes[16];

	if (n == 0)
		return ZONE_NO_DATA;
	if (!registry_get(l->z->reg, KIND_NAMESPACE, STR_NULL, labels[n - 1]))
		return ZONE_NO_NAME;
	if (n != 2)
		return n == 1 ? ZONE_NO_DATA : ZONE_NO_NAME;
	text = arena_strndup(&l->arena, labels[0].p, labels[0].n);
	for (char *p = text; *p; p++)
		if (*p == '-')
			*p = '.';
	if (inet_pton(AF_INET, text, bytes) != 1) {
		for (char *p = text; *p; p++)
			if (*p == '.')
				*p = ':';
		if (inet_pton(AF_INET6, text, bytes) != 1)
			return ZONE_NO_NAME;
		inet_ntop(AF_INET6, bytes, other, sizeof(other));
		text = arena_strdup(&l->arena, other);
	}
	record_address(l, l->answer, l->owner, l->type, str_of(text));
	return zone_found(l);
}

static enum zone_result zone_top(struct lookup *l, struct str rest)
{
	struct str labels[ZONE_LABELS_MAX], part;
	size_t n = 0;

	if (!rest.n)
		return ZONE_NO_DATA;
	while (str_split(&rest, '.', &part)) {
		if (n == ZONE_LABELS_MAX)
			return ZONE_NO_NAME;
		labels[n++] = part;
	}
	if (str_is(labels[n - 1], "svc"))
		return zone_svc(l, labels, n - 1);
	if (str_is(labels[n - 1], "pod"))
		return zone_pod(l, labels, n - 1);
	if (n == 1 && str_is(labels[0], "dns-version")) {
		if (l->type == LDNS_RR_TYPE_TXT)
			record_add(l->answer, record_new(l->owner, LDNS_RR_TYPE_TXT), LDNS_RDF_TYPE_STR, "1.1.0");
		return zone_found(l);
	}
	return ZONE_NO_NAME;
}

/* ---- reverse ---- */

/* Users write addresses of their slices as they like. */
static void reverse_put(struct zone *z, struct str address, char *name)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];

	if (address.n < sizeof(text)) {
		memcpy(text, address.p, address.n);
		text[address.n] = '\0';
		if (inet_pton(AF_INET6, text, bytes) == 1 && inet_ntop(AF_INET6, bytes, text, sizeof(text)))
			address = str_of(text);
	}
	free(map_put(&z->reverse, address, name));
}

static void reverse_service(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *service = registry_parse(&arena, o);
	struct zone *z = arg;

	json_foreach(ip, json_at(service, "spec.clusterIPs"))
		if (!str_is(json_str(ip), "None"))
			reverse_put(z, json_str(ip),
				    mem_printf("%.*s.%.*s.svc.%s.", STR_ARG(o->name), STR_ARG(o->ns), z->domain));
}

static void reverse_slice(void *arg, const struct object *o)
{
	struct str owner = object_label(o, STR("kubernetes.io/service-name"));
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct object *service;
	struct zone *z = arg;

	service = owner.n ? registry_get(z->reg, KIND_SERVICE, o->ns, owner) : NULL;
	if (!service || !service_is_headless(registry_parse(&arena, service)))
		return;
	json_foreach(e, json_get(registry_parse(&arena, o), "endpoints")) {
		if (!json_at_bool(e, "conditions.ready", true))
			continue;
		json_foreach(a, json_get(e, "addresses"))
			reverse_put(z, json_str(a),
				    mem_printf("%.*s.%.*s.%.*s.svc.%s.", STR_ARG(endpoint_host(&arena, e, json_str(a))),
					       STR_ARG(owner), STR_ARG(o->ns), z->domain));
	}
}

/* "4.3.2.1.in-addr.arpa" or the nibbles of ip6.arpa -> address text. */
static bool reverse_address(struct str name, char ret[static INET6_ADDRSTRLEN])
{
	struct str v4 = STR(".in-addr.arpa"), v6 = STR(".ip6.arpa"), rest, part;
	unsigned char bytes[16] = { 0 };
	unsigned q[4];
	char text[64];
	int n = 0;

	if (str_ends(name, v4) && name.n - v4.n < sizeof(text)) {
		memcpy(text, name.p, name.n - v4.n);
		text[name.n - v4.n] = '\0';
		if (sscanf(text, "%3u.%3u.%3u.%3u%n", &q[0], &q[1], &q[2], &q[3], &n) != 4 || text[n])
			return false;
		snprintf(ret, INET6_ADDRSTRLEN, "%u.%u.%u.%u", q[3], q[2], q[1], q[0]);
		return true;
	}
	if (!str_ends(name, v6))
		return false;
	rest = str_make(name.p, name.n - v6.n);
	for (n = 0; str_split(&rest, '.', &part) && n < 32; n++) {
		int d = part.n == 1 && isxdigit((unsigned char)part.p[0]) ? part.p[0] : -1;

		if (d < 0)
			return false;
		d = d <= '9' ? d - '0' : d - 'a' + 10;
		bytes[15 - n / 2] |= (unsigned char)(n % 2 ? d << 4 : d);
	}
	return n == 32 && inet_ntop(AF_INET6, bytes, ret, INET6_ADDRSTRLEN);
}

static enum zone_result zone_reverse(struct lookup *l, struct str name)
{
	struct zone *z = l->z;
	char address[INET6_ADDRSTRLEN];
	const char *target;

	if (!reverse_address(name, address))
		return ZONE_NOT_OURS;
	if (!z->reverse_valid) {
		zone_drop_reverse(z);
		registry_each(z->reg, KIND_ENDPOINTSLICE, STR_NULL, reverse_slice, z);
		registry_each(z->reg, KIND_SERVICE, STR_NULL, reverse_service, z);
		z->reverse_valid = true;
	}
	target = map_get(&z->reverse, str_of(address));
	if (!target)
		return ZONE_NOT_OURS;
	if (l->type == LDNS_RR_TYPE_PTR)
		record_add(l->answer, record_new(l->owner, LDNS_RR_TYPE_PTR), LDNS_RDF_TYPE_DNAME, target);
	return zone_found(l);
}

enum zone_result zone_lookup(struct zone *z, struct str name, const ldns_rdf *owner, ldns_rr_type type,
			     ldns_rr_list *answer, ldns_rr_list *additional, char ret_target[static ZONE_NAME_MAX])
{
	struct lookup l = {
		.z = z, .owner = owner, .type = type, .answer = answer, .additional = additional, .target = ret_target
	};
	struct str domain = str_of(z->domain);
	enum zone_result r;

	if (str_ends(name, STR(".arpa")))
		r = zone_reverse(&l, name);
	else if (str_eq(name, domain))
		r = zone_top(&l, STR_NULL);
	else if (str_ends(name, domain) && name.p[name.n - domain.n - 1] == '.')
		r = zone_top(&l, str_make(name.p, name.n - domain.n - 1));
	else
		r = ZONE_NOT_OURS;
	arena_finish(&l.arena);
	return r;
}

ldns_rr *zone_soa(const struct zone *z)
{
	_cleanup_free_ char *text = mem_printf("%s. %d IN SOA ns.dns.%s. hostmaster.%s. 1 7200 1800 86400 %d",
					       z->domain, ZONE_TTL_S, z->domain, z->domain, ZONE_TTL_S);
	ldns_rr *rr = NULL;

	return ldns_rr_new_frm_str(&rr, text, ZONE_TTL_S, NULL, NULL) == LDNS_STATUS_OK ? rr : NULL;
}
