/* SPDX-License-Identifier: Apache-2.0 */
/* Which Service holds which cluster address, and the networks and reservations that ServiceCIDRs and IPAddresses of
 * others add to the configured ones. Nothing is stored here: all of it follows the objects. Loop thread. */
#include "userspace/registry/addresses.h"

#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define MANAGED_BY "ipaddress.kubernetes.io/managed-by"
#define ALLOCATOR "ipallocator.k8s.io"

struct addresses {
	struct registry *reg;
	struct registry_watch services, cidrs, reserved;
	struct map holders; /* by address: "namespace/name", heap */
};

/* ---- who holds what ---- */

static char *holder_text(const struct object *o)
{
	char *text = mem_alloc(o->ns.n + 1 + o->name.n + 1);

	if (o->ns.n)
		memcpy(text, o->ns.p, o->ns.n);
	text[o->ns.n] = '/';
	memcpy(text + o->ns.n + 1, o->name.p, o->name.n);
	text[o->ns.n + 1 + o->name.n] = 0;
	return text;
}

static void hold(struct addresses *a, const struct object *o, bool held)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_free_ char *text = holder_text(o);

	json_foreach(ip, json_at(registry_parse(&arena, o), "spec.clusterIPs")) {
		const char *have = map_get(&a->holders, json_str(ip));

		if (!json_str(ip).n || str_is(json_str(ip), "None"))
			continue;
		if (held)
			free(map_put(&a->holders, json_str(ip), mem_strdup(text)));
		else if (have && !strcmp(have, text))
			free(map_remove(&a->holders, json_str(ip)));
	}
}

static void on_service(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	struct addresses *a = container_of(w, struct addresses, services);

	if (prev)
		hold(a, prev, false);
	hold(a, o, type != REGISTRY_DELETED);
}

bool addresses_holder(struct registry *reg, struct str address, struct str *ret_ns, struct str *ret_name)
{
	const char *text = map_get(&reg->services.addresses->holders, address);
	const char *slash = text ? strchr(text, '/') : NULL;

	if (!slash)
		return false;
	*ret_ns = str_make(text, (size_t)(slash - text));
	*ret_name = str_of(slash + 1);
	return true;
}

/* ---- networks ---- */

bool addresses_default_cidr(struct registry *reg, size_t i, char ret[static NAMES_CIDR_MAX])
{
	const struct services *s = &reg->services;
	char text[NAMES_ADDRESS_MAX];

	if (i >= s->n_default)
		return false;
	names_format_ip(&s->ranges[i].cidr.ip, text);
	snprintf(ret, NAMES_CIDR_MAX, "%s/%u", text, s->ranges[i].cidr.prefix);
	return true;
}

static size_t find_range(const struct services *s, struct str text)
{
	struct names_cidr cidr;
	size_t i;

	if (names_parse_cidr(text, &cidr) < 0)
		return SIZE_MAX;
	names_cidr_mask(&cidr);
	for (i = 0; i < s->n_ranges; i++)
		if (s->ranges[i].cidr.prefix == cidr.prefix && names_ip_eq(&s->ranges[i].cidr.ip, &cidr.ip))
			break;
	return i;
}

static void take_reserved(void *arg, const struct object *o)
{
	struct ip_range *r = arg;
	struct names_ip ip;

	if (names_parse_ip(o->name, &ip) == 0 && ip_range_contains(r, &ip))
		ip_range_take(r, o->name);
}

static void add_range(struct addresses *a, struct str text)
{
	struct services *s = &a->reg->services;
	_cleanup_err_ struct err err = ERR_INIT;
	struct ip_range *r;

	if (find_range(s, text) != s->n_ranges)
		return;
	if (s->n_ranges == SERVICE_RANGES_MAX) {
		log_warn("too many service networks: one is not used cidr=%.*s max=%d", STR_ARG(text),
			 SERVICE_RANGES_MAX);
		return;
	}
	r = &s->ranges[s->n_ranges];
	if (ip_range_init(r, text, &err) < 0) {
		log_warn("a service network cannot be used error=\"%s\"", err_message(&err));
		return;
	}
	s->n_ranges++;
	registry_each(a->reg, KIND_IPADDRESS, STR_NULL, take_reserved, r);
	map_foreach(e, &a->holders) {
		struct str address = str_make(e->key, e->key_len);
		struct names_ip ip;

		if (names_parse_ip(address, &ip) == 0 && ip_range_contains(r, &ip))
			ip_range_take(r, address);
	}
}

static void remove_range(struct addresses *a, struct str text)
{
	struct services *s = &a->reg->services;
	size_t i = find_range(s, text);

	if (i < s->n_default || i >= s->n_ranges)
		return;
	ip_range_finish(&s->ranges[i]);
	s->ranges[i] = s->ranges[--s->n_ranges];
}

static void on_cidr(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		    const struct object *prev)
{
	struct addresses *a = container_of(w, struct addresses, cidrs);
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	(void)prev;
	json_foreach(c, json_at(registry_parse(&arena, o), "spec.cidrs")) {
		if (type == REGISTRY_DELETED || o->deleting)
			remove_range(a, json_str(c));
		else
			add_range(a, json_str(c));
	}
}

/* ---- addresses that others keep for themselves ---- */

static void on_reserved(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	struct addresses *a = container_of(w, struct addresses, reserved);
	struct services *s = &a->reg->services;
	struct names_ip ip;

	(void)prev;
	if (type == REGISTRY_MODIFIED || names_parse_ip(o->name, &ip) < 0 || map_has(&a->holders, o->name))
		return;
	for (size_t i = 0; i < o->n_labels; i++)
		if (str_is(o->labels[i].key, MANAGED_BY) && str_is(o->labels[i].value, ALLOCATOR))
			return;
	for (size_t i = 0; i < s->n_ranges; i++) {
		if (!ip_range_contains(&s->ranges[i], &ip))
			continue;
		if (type == REGISTRY_ADDED)
			ip_range_take(&s->ranges[i], o->name);
		else
			ip_range_release(&s->ranges[i], o->name);
	}
}

/* ---- beginning and end ---- */

void addresses_start(struct registry *reg)
{
	struct addresses *a = mem_new(struct addresses);

	a->reg = reg;
	reg->services.addresses = a;
	a->services = (struct registry_watch){ .fn = on_service, .kind = KIND_SERVICE };
	a->cidrs = (struct registry_watch){ .fn = on_cidr, .kind = KIND_SERVICECIDR };
	a->reserved = (struct registry_watch){ .fn = on_reserved, .kind = KIND_IPADDRESS };
	registry_watch_start(reg, &a->services);
	registry_watch_start(reg, &a->reserved);
	registry_watch_start(reg, &a->cidrs);
}

void addresses_stop(struct registry *reg)
{
	struct addresses *a = reg->services.addresses;

	if (!a)
		return;
	registry_watch_stop(reg, &a->services);
	registry_watch_stop(reg, &a->reserved);
	registry_watch_stop(reg, &a->cidrs);
	map_foreach(e, &a->holders)
		free(e->value);
	map_finish(&a->holders);
	free(a);
	reg->services.addresses = NULL;
}
