/* SPDX-License-Identifier: Apache-2.0 */
/* Services and slices -> installed frontends: only what differs is written. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/services.h"

#define FRONTEND_KEY_LEN 20

static struct str frontend_key(const struct dp_service *s, char ret[static FRONTEND_KEY_LEN])
{
	memset(ret, 0, FRONTEND_KEY_LEN);
	ret[0] = (char)s->kind;
	ret[1] = (char)s->proto;
	ret[2] = (char)(s->port >> 8);
	ret[3] = (char)s->port;
	if (s->kind != DP_NODE_PORT)
		memcpy(ret + 4, s->addr.b, 16);
	return str_make(ret, FRONTEND_KEY_LEN);
}

static struct net_frontend *frontend_at(struct netctl *nc, const struct dp_service *s, bool make)
{
	char key[FRONTEND_KEY_LEN];
	struct str k = frontend_key(s, key);
	struct net_frontend *f = map_get(&nc->frontends, k);

	if (!f && make) {
		f = mem_new(struct net_frontend);
		f->id = ++nc->next_id;
		map_put(&nc->frontends, k, f);
	}
	return f;
}

static void frontend_forget(struct netctl *nc, const struct dp_service *s)
{
	char key[FRONTEND_KEY_LEN];

	free(map_remove(&nc->frontends, frontend_key(s, key)));
}

static bool frontend_same_place(const struct dp_service *a, const struct dp_service *b)
{
	char x[FRONTEND_KEY_LEN], y[FRONTEND_KEY_LEN];

	return str_eq(frontend_key(a, x), frontend_key(b, y));
}

static bool frontend_equal(const struct dp_service *a, const struct dp_service *b)
{
	if (a->affinity_s != b->affinity_s || a->n_backends != b->n_backends)
		return false;
	for (size_t i = 0; i < a->n_backends; i++)
		if (a->backends[i].port != b->backends[i].port ||
		    !address_equal(&a->backends[i].addr, &b->backends[i].addr))
			return false;
	return true;
}

static bool frontend_has_backend(const struct dp_service *s, const struct dp_backend *b)
{
	return s->n_backends && bsearch(b, s->backends, s->n_backends, sizeof(*b), services_backend_cmp);
}

static struct net_service *service_find(struct netctl *nc, struct str ns, struct str name, bool make)
{
	_cleanup_free_ char *key = mem_printf("%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
	struct net_service *s = map_get(&nc->services, str_of(key));

	if (s || !make)
		return s;
	s = mem_new(struct net_service);
	list_init(&s->dirty);
	s->ns = str_dup(ns);
	s->name = str_dup(name);
	map_put(&nc->services, str_of(key), s);
	return s;
}

static void service_mark(struct netctl *nc, struct net_service *s)
{
	if (list_empty(&s->dirty))
		list_add_tail(&nc->dirty_services, &s->dirty);
	netctl_schedule(nc);
}

void netctl_service_changed(struct netctl *nc, const struct object *service, bool removed)
{
	struct net_service *s = service_find(nc, service->ns, service->name, !removed);

	if (!s)
		return;
	object_unref(s->object);
	s->object = removed ? NULL : object_ref(service);
	service_mark(nc, s);
}

static void service_drop_slice(struct netctl *nc, const struct object *slice)
{
	struct str owner = object_label(slice, STR("kubernetes.io/service-name"));
	struct net_service *s = owner.n ? service_find(nc, slice->ns, owner, false) : NULL;

	for (size_t i = 0; s && i < s->n_slices; i++) {
		if (!str_eq(s->slices[i]->name, slice->name))
			continue;
		object_unref(s->slices[i]);
		s->slices[i] = s->slices[--s->n_slices];
		service_mark(nc, s);
		return;
	}
}

void netctl_slice_changed(struct netctl *nc, const struct object *slice, const struct object *prev, bool removed)
{
	struct str owner = object_label(slice, STR("kubernetes.io/service-name"));
	struct net_service *s;

	service_drop_slice(nc, prev ? prev : slice);
	if (removed || !owner.n)
		return;
	s = service_find(nc, slice->ns, owner, true);
	mem_grow(s->slices, s->cap_slices, s->n_slices + 1);
	s->slices[s->n_slices++] = object_ref(slice);
	service_mark(nc, s);
}

static void frontends_free(struct dp_service *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free((void *)f[i].backends);
	free(f);
}

/* Connections to a backend that is gone from every frontend of its Service end. */
static void service_tell_gone(struct netctl *nc, const struct dp_service *old, const struct services_result *now)
{
	for (size_t i = 0; i < old->n_backends; i++) {
		bool still = false;

		for (size_t k = 0; k < now->n && !still; k++)
			still = now->frontends[k].proto == old->proto &&
				frontend_has_backend(&now->frontends[k], &old->backends[i]);
		if (!still)
			dataplane_backends_gone(nc->dp, &old->backends[i], 1, old->proto, NULL);
	}
}

/* Another Service that claims the place has it now. */
static void service_pass_on(struct netctl *nc, const struct net_service *from, const struct dp_service *place)
{
	map_foreach(e, &nc->services) {
		struct net_service *s = e->value;

		for (size_t i = 0; s != from && i < s->n_frontends; i++)
			if (frontend_same_place(&s->frontends[i], place)) {
				s->failed = true;
				service_mark(nc, s);
				return;
			}
	}
}

static void service_remove_frontend(struct netctl *nc, struct net_service *s, const struct dp_service *old)
{
	struct net_frontend *f = frontend_at(nc, old, false);
	_cleanup_err_ struct err err = ERR_INIT;

	/* Taken over by another Service in the meantime. */
	if (!f || f->owner != s)
		return;
	if (dataplane_service_delete(nc->dp, old, &err) < 0) {
		nc->stats.errors++;
		log_warn("frontend not removed service=%s/%s error=\"%s\"", s->ns, s->name, err_message(&err));
	}
	frontend_forget(nc, old);
	if (old->kind == DP_EXTERNAL)
		service_pass_on(nc, s, old);
}

static void service_remove_stale(struct netctl *nc, struct net_service *s, const struct services_result *want)
{
	for (size_t i = 0; i < s->n_frontends; i++) {
		const struct dp_service *old = &s->frontends[i];
		bool wanted = false;

		for (size_t k = 0; k < want->n && !wanted; k++)
			wanted = frontend_same_place(old, &want->frontends[k]);
		if (!wanted)
			service_remove_frontend(nc, s, old);
		/* A UDP client never learns by itself; TCP ones may finish what they began. */
		if (old->proto == IPPROTO_UDP)
			service_tell_gone(nc, old, want);
	}
}

static void service_install(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	bool again = s->failed;

	s->failed = false;
	for (size_t i = 0; i < want->n; i++) {
		struct dp_service *f = &want->frontends[i];
		struct net_frontend *place = frontend_at(nc, f, true);
		_cleanup_err_ struct err err = ERR_INIT;
		bool same = false;

		f->id = place->id;
		for (size_t k = 0; k < s->n_frontends && !same && !again; k++)
			same = frontend_same_place(&s->frontends[k], f) && frontend_equal(&s->frontends[k], f);
		if (same)
			continue;
		place->owner = s;
		if (dataplane_service_set(nc->dp, f, &err) < 0) {
			nc->stats.errors++;
			s->failed = true;
			log_warn("frontend not installed service=%s/%s port=%u error=\"%s\"", s->ns, s->name, f->port,
				 err_message(&err));
		}
	}
}

static void service_remember(struct net_service *s, const struct services_result *want)
{
	frontends_free(s->frontends, s->n_frontends);
	s->frontends = mem_new_array(struct dp_service, want->n);
	s->n_frontends = want->n;
	for (size_t i = 0; i < want->n; i++) {
		struct dp_backend *copy = mem_new_array(struct dp_backend, want->frontends[i].n_backends);

		s->frontends[i] = want->frontends[i];
		if (s->frontends[i].n_backends)
			memcpy(copy, s->frontends[i].backends, s->frontends[i].n_backends * sizeof(*copy));
		s->frontends[i].backends = copy;
	}
}

static void service_free(struct net_service *s)
{
	list_del(&s->dirty);
	object_unref(s->object);
	for (size_t i = 0; i < s->n_slices; i++)
		object_unref(s->slices[i]);
	free(s->slices);
	frontends_free(s->frontends, s->n_frontends);
	free(s->ns);
	free(s->name);
	free(s);
}

static void service_sync(struct netctl *nc, struct net_service *s)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json **slices = arena_new_array(&arena, const struct json *, s->n_slices);
	struct services_result want = { 0 };

	for (size_t i = 0; i < s->n_slices; i++)
		slices[i] = registry_parse(&arena, s->slices[i]);
	if (s->object)
		services_translate(&arena, registry_parse(&arena, s->object), slices, s->n_slices, &want);
	if (want.truncated)
		log_warn("service has more ports or endpoints than the dataplane holds service=%s/%s", s->ns, s->name);
	service_install(nc, s, &want);
	service_remove_stale(nc, s, &want);
	service_remember(s, &want);
	nc->stats.service_syncs++;
}

void netctl_sync_services(struct netctl *nc)
{
	struct list again = LIST_INIT(again);

	while (!list_empty(&nc->dirty_services)) {
		struct net_service *s = list_first(&nc->dirty_services, struct net_service, dirty);

		list_del(&s->dirty);
		service_sync(nc, s);
		if (!s->object && !s->n_slices) {
			_cleanup_free_ char *key = mem_printf("%s/%s", s->ns, s->name);

			map_remove(&nc->services, str_of(key));
			service_free(s);
		} else if (s->failed) {
			list_add_tail(&again, &s->dirty);
		}
	}
	/* Tried again with the next change: one that makes room, perhaps. */
	list_foreach_safe(s, &again, struct net_service, dirty) {
		list_del(&s->dirty);
		list_add_tail(&nc->dirty_services, &s->dirty);
	}
}

static void adopt_frontend(void *arg, const struct dp_service *s)
{
	struct netctl *nc = arg;

	frontend_at(nc, s, true)->id = s->id;
	if (s->id > nc->next_id)
		nc->next_id = s->id;
}

void netctl_adopt_frontends(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (dataplane_service_each(nc->dp, adopt_frontend, nc, &err) < 0)
		log_warn("frontends of an earlier run not read error=\"%s\"", err_message(&err));
}

struct prune {
	struct map wanted; /* frontend keys */
	struct dp_service *stale;
	size_t n, cap;
};

static void prune_one(void *arg, const struct dp_service *s)
{
	struct prune *p = arg;
	char key[FRONTEND_KEY_LEN];

	if (map_has(&p->wanted, frontend_key(s, key)))
		return;
	mem_grow(p->stale, p->cap, p->n + 1);
	p->stale[p->n] = *s;
	p->stale[p->n].backends = NULL;
	p->stale[p->n++].n_backends = 0;
}

void netctl_prune_services(struct netctl *nc)
{
	struct prune p = { 0 };
	char key[FRONTEND_KEY_LEN];

	map_foreach(e, &nc->services) {
		struct net_service *s = e->value;

		for (size_t i = 0; i < s->n_frontends; i++)
			map_put(&p.wanted, frontend_key(&s->frontends[i], key), s);
	}
	dataplane_service_each(nc->dp, prune_one, &p, NULL);
	for (size_t i = 0; i < p.n; i++) {
		dataplane_service_delete(nc->dp, &p.stale[i], NULL);
		frontend_forget(nc, &p.stale[i]);
	}
	if (p.n)
		log_info("stale frontends removed n=%zu", p.n);
	free(p.stale);
	map_finish(&p.wanted);
}

void netctl_free_services(struct netctl *nc)
{
	map_foreach(e, &nc->services)
		service_free(e->value);
	map_finish(&nc->services);
	map_foreach(f, &nc->frontends)
		free(f->value);
	map_finish(&nc->frontends);
}
