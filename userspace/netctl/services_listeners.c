/* SPDX-License-Identifier: Apache-2.0 */
/* What listens on the host already when a frontend at the node's addresses is to be made. A node port takes the port
 * all the same: its range is the cluster's. Every other frontend would be a way to lose the node (a balancer's port
 * 22): it waits until nobody listens there, and is looked at again with every sync of its own, the time between which
 * grows to a minute. Whoever comes to listen later hides behind the frontend, so that nobody who may open a port takes
 * a Service's clients. A listener that is itself the frontend's backend (a pod with hostNetwork) is in nobody's way.
 *
 * Told once: an Event, a line in the log, for balancers the port's error in the Service's status. That error is also
 * what is known after a boot, when the listener may start later than the cluster. */
#include <netinet/in.h>
#include <string.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define LISTENERS_COMPONENT "k3c-bpf"
#define LISTENERS_REASON "PortInUse" /* of the Event, and the error in status */
#define LISTENERS_MAX 65536          /* sockets of the host that are looked at; others are not seen */

/* ---- who listens ---- */

static void listeners_add(void *arg, const struct dp_socket *s)
{
	struct net_listeners *l = arg;

	if (l->n == LISTENERS_MAX)
		return;
	mem_grow(l->items, l->cap, l->n + 1);
	l->items[l->n++] = *s;
}

/* Once a sync. */
static const struct net_listeners *listeners_read(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (nc->listeners.known)
		return &nc->listeners;
	nc->listeners.known = true;
	if (dataplane_listening_each(listeners_add, &nc->listeners, &err) < 0)
		log_warn("sockets of the host not read error=\"%s\"", err_message(&err));
	return &nc->listeners;
}

void listeners_forget(struct netctl *nc)
{
	free(nc->listeners.items);
	nc->listeners = (struct net_listeners){ 0 };
}

/* Its clients would come to the frontend instead. */
static bool listener_is_hidden(struct netctl *nc, const struct dp_socket *l, const struct dp_service *f)
{
	if (l->proto != f->proto || l->port != f->port || address_family(&l->addr) != address_family(&f->addr))
		return false;
	if (address_is_zero(&l->addr) || address_equal(&l->addr, &f->addr))
		return true;
	return address_is_zero(&f->addr) && dataplane_is_node_address(nc->dp, &l->addr);
}

/* Somebody behind the frontend, on the host itself and at the same port. */
static bool frontend_leads_back(struct netctl *nc, const struct dp_service *f)
{
	for (size_t i = 0; i < f->n_backends; i++)
		if (f->backends[i].port == f->port && dataplane_is_node_address(nc->dp, &f->backends[i].addr))
			return true;
	return false;
}

static bool frontend_is_heard(struct netctl *nc, const struct dp_service *f)
{
	const struct net_listeners *l;

	if (f->kind == DP_CLUSTER_IP || frontend_leads_back(nc, f) ||
	    (!address_is_zero(&f->addr) && !dataplane_is_node_address(nc->dp, &f->addr)))
		return false;
	l = listeners_read(nc);
	for (size_t i = 0; i < l->n; i++)
		if (listener_is_hidden(nc, &l->items[i], f))
			return true;
	return false;
}

/* ---- the Service's status ---- */

static bool status_is_ours(const struct net_service *s)
{
	const char *mark = "\"" LISTENERS_REASON "\"";

	return memmem(s->object->json.p, s->object->json.n, mark, strlen(mark)) != NULL;
}

/* What the status says of this port. */
static bool status_is_held(const struct net_service *s, const struct dp_service *f)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct dp_addr addr;

	if (s->pod || f->kind != DP_LOAD_BALANCER || !status_is_ours(s))
		return false;
	json_foreach(in, json_at(registry_parse(&arena, s->object), "status.loadBalancer.ingress")) {
		if (address_parse(json_get_str(in, "ip"), &addr) < 0 || !address_equal(&addr, &f->addr))
			continue;
		json_foreach(p, json_get(in, "ports"))
			if (json_get_int(p, "port", 0) == f->port &&
			    services_proto(json_get_str(p, "protocol")) == f->proto)
				return str_is(json_get_str(p, "error"), LISTENERS_REASON);
	}
	return false;
}

/* The balancer's ports that wait. */
struct status_want {
	size_t n;
	struct dp_service items[];
};

static bool status_wants(const struct status_want *w, const struct dp_addr *addr, const struct json *port)
{
	for (size_t i = 0; i < w->n; i++)
		if (address_equal(&w->items[i].addr, addr) && w->items[i].port == json_get_int(port, "port", 0) &&
		    w->items[i].proto == services_proto(json_get_str(port, "protocol")))
			return true;
	return false;
}

/* Where one port has an error the others are named too; NULL: none has. */
static struct json *status_ports(const struct status_want *w, struct arena *arena, const struct json *object,
				 const struct dp_addr *addr)
{
	struct json *list = json_new_array(arena);
	bool any = false;

	json_foreach(p, json_at(object, "spec.ports")) {
		struct json *v = json_new_object(arena);
		bool held = status_wants(w, addr, p);

		json_set_int(arena, v, "port", json_get_int(p, "port", 0));
		json_set_cstr(arena, v, "protocol", services_proto_text(services_proto(json_get_str(p, "protocol"))));
		if (held)
			json_set_cstr(arena, v, "error", LISTENERS_REASON);
		json_append(list, v);
		any = any || held;
	}
	return any ? list : NULL;
}

static int status_mutate(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct status_want *w = arg;
	bool changed = false;

	json_foreach(in, json_at(object, "status.loadBalancer.ingress")) {
		const struct json *have = json_get(in, "ports");
		struct json *want;
		struct dp_addr addr;

		if (address_parse(json_get_str(in, "ip"), &addr) < 0)
			continue;
		want = status_ports(w, arena, object, &addr);
		if (want ? have && json_equal(have, want) : !have)
			continue;
		if (want)
			json_set(in, "ports", want);
		else
			json_remove(in, "ports");
		changed = true;
	}
	return changed ? 0 : 1;
}

static void status_written(void *arg, const struct object *o, const struct err *err)
{
	if (err)
		log_warn("status of a balancer's ports not written error=\"%s\"", err_message(err));
	free(arg);
}

void listeners_write_status(struct netctl *nc, struct net_service *s)
{
	struct status_want *want;
	size_t n = 0;

	for (size_t i = 0; i < s->n_conflicts; i++)
		n += s->conflicts[i].held && s->conflicts[i].place.kind == DP_LOAD_BALANCER;
	if (!s->object || s->pod || (!n && !status_is_ours(s)))
		return;
	want = mem_zalloc(sizeof(*want) + n * sizeof(*want->items));
	for (size_t i = 0; i < s->n_conflicts; i++)
		if (s->conflicts[i].held && s->conflicts[i].place.kind == DP_LOAD_BALANCER)
			want->items[want->n++] = s->conflicts[i].place;
	registry_update(nc->reg, KIND_SERVICE, str_of(s->ns), str_of(s->name), "status", status_mutate, want,
			status_written, want);
}

/* ---- the frontends ---- */

static const struct net_conflict *conflict_at(const struct net_service *s, const struct dp_service *place)
{
	for (size_t i = 0; i < s->n_conflicts; i++)
		if (services_place_cmp(&s->conflicts[i].place, place) == 0)
			return &s->conflicts[i];
	return NULL;
}

/* False: nothing is in the way. `ret` holds what was known of it before. */
static bool conflict_judge(struct netctl *nc, struct net_service *s, const struct dp_service *f,
			   struct net_conflict *ret)
{
	const struct net_conflict *before = conflict_at(s, f);

	*ret = before ? *before : (struct net_conflict){ 0 };
	ret->place = (struct dp_service){ .kind = f->kind, .proto = f->proto, .port = f->port, .addr = f->addr };
	if (place_find(nc, f)) { /* it is there */
		ret->held = false;
		return before && !before->held;
	}
	ret->held = f->kind != DP_NODE_PORT;
	if (frontend_is_heard(nc, f)) {
		ret->seen = true;
		return true;
	}
	return ret->held && !ret->seen && clock_monotonic_ns() < nc->boot_until_ns && status_is_held(s, f);
}

static void conflict_tell(struct netctl *nc, const struct net_service *s, const struct net_conflict *c)
{
	const struct dp_service *f = &c->place;
	char at[ADDRESS_TEXT_MAX];

	address_format(&f->addr, at);
	log_warn("a process of the host listens on a frontend's port service=%s/%s address=%s port=%u/%s served=%s",
		 s->ns, s->name, at, f->port, services_proto_text(f->proto), c->held ? "no" : "yes");
	registry_event(nc->reg, LISTENERS_COMPONENT, s->object, "Warning", LISTENERS_REASON,
		       c->held ? "Port %u/%s of %s is not served: a process of the host listens there. It is served "
				 "when the port is free"
			       : "Port %u/%s of the node (%s) hides a process of the host that listens there",
		       f->port, services_proto_text(f->proto), at);
}

static void conflict_tell_first(struct netctl *nc, const struct net_service *s, struct net_conflict *c,
				const struct dp_service *f)
{
	/* Before it has backends it may turn out that the listener is one of them. */
	if (c->told || !c->seen || !(f->n_backends || f->n_outside))
		return;
	conflict_tell(nc, s, c);
	c->told = true;
}

void listeners_hold_back(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	struct net_conflict *now = NULL, c;
	size_t n = 0, kept = 0, cap = 0;
	bool held = false;

	for (size_t i = 0; i < want->n; i++) {
		const struct dp_service *f = &want->frontends[i];
		bool there = conflict_judge(nc, s, f, &c);

		if (!there || !c.held)
			want->frontends[kept++] = *f;
		if (!there)
			continue;
		conflict_tell_first(nc, s, &c, f);
		held = held || c.held;
		mem_grow(now, cap, n + 1);
		now[n++] = c;
	}
	want->n = kept;
	free(s->conflicts);
	s->conflicts = now;
	s->n_conflicts = n;
	s->waits = held ? s->waits + 1 : 0;
}

struct json *listeners_row(struct arena *arena, const struct dp_service *place, bool served,
			   const struct net_service *holder)
{
	struct json *v = json_new_object(arena);
	char at[ADDRESS_TEXT_MAX];

	address_format(&place->addr, at);
	json_set_cstr(arena, v, "protocol", services_proto_text(place->proto));
	json_set_cstr(arena, v, "address", arena_strdup(arena, at));
	json_set_int(arena, v, "port", place->port);
	json_set_bool(arena, v, "served", served);
	if (holder)
		json_set_cstr(arena, v, "holder", arena_printf(arena, "Service %s/%s", holder->ns, holder->name));
	return v;
}

struct json *listeners_json(struct arena *arena, struct netctl *nc, const struct net_service *s)
{
	struct json *list = json_new_array(arena);

	for (size_t i = 0; i < s->n_conflicts; i++) {
		const struct net_conflict *c = &s->conflicts[i];

		json_append(list, listeners_row(arena, &c->place, !c->held, NULL));
	}
	rivals_json(arena, nc, s, list);
	return list;
}
