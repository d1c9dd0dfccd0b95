/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which place in the maps. Two may ask for one (externalIPs, hostPorts): then the stronger kind has it, a
 * ClusterIP before all, a hostPort after all, and among equals the older object; the others wait and get it when it is
 * free. So the same objects give the same maps, in whatever order they came. */
#include <netinet/in.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define PLACE_KEY_LEN 19

static struct str place_key(const struct dp_service *s, char ret[static PLACE_KEY_LEN])
{
	memcpy(ret, s->addr.b, 16);
	ret[16] = (char)(s->port >> 8);
	ret[17] = (char)s->port;
	ret[18] = (char)s->proto;
	return str_make(ret, PLACE_KEY_LEN);
}

void place_frontend(const char *key, struct dp_service *ret)
{
	*ret = (struct dp_service){ 0 };
	memcpy(ret->addr.b, key, 16);
	ret->port = (uint16_t)((uint8_t)key[16] << 8 | (uint8_t)key[17]);
	ret->proto = (uint8_t)key[18];
	ret->kind = DP_CLUSTER_IP;
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct dp_addr any = address_any((enum dp_family)f);

		if (address_equal(&ret->addr, &any))
			ret->kind = DP_NODE_PORT;
	}
}

bool place_key_is_port(const char *key, const struct dp_service *f)
{
	return (uint8_t)key[18] == f->proto && (uint8_t)key[17] == (f->port & 0xff) && (uint8_t)key[16] == f->port >> 8;
}

const struct dp_service *service_frontend_at(const struct net_service *s, const struct dp_service *place)
{
	return s->n_frontends ? bsearch(place, s->frontends, s->n_frontends, sizeof(*place), services_place_cmp) : NULL;
}

static struct net_place *place_at(const struct netctl *nc, const struct dp_service *f)
{
	char key[PLACE_KEY_LEN];

	return map_get(&nc->places, place_key(f, key));
}

struct net_place *place_find(const struct netctl *nc, const struct dp_service *f)
{
	return place_at(nc, f);
}

static struct net_place *place_make(struct netctl *nc, const struct dp_service *f)
{
	struct net_place *p = place_at(nc, f);
	char key[PLACE_KEY_LEN];

	if (!p) {
		p = mem_new(struct net_place);
		map_put(&nc->places, place_key(f, key), p);
	}
	return p;
}

static void place_free(struct net_place *p)
{
	if (p)
		free(p->others);
	free(p);
}

/* `a` asks as kind_a; b as it last asked. */
static bool place_beats(const struct net_service *a, uint8_t kind_a, const struct net_service *b,
			const struct dp_service *place)
{
	const struct dp_service *f = service_frontend_at(b, place);

	if (!f || !b->object)
		return true;
	if (kind_a != f->kind)
		return kind_a < f->kind;
	/* Of two of one second (that is how creation is kept) the one that has it stays. */
	return a->object->created_real_ns < b->object->created_real_ns;
}

static void place_wait(struct net_place *p, struct net_service *s)
{
	for (size_t i = 0; i < p->n_others; i++)
		if (p->others[i] == s)
			return;
	mem_grow(p->others, p->cap_others, p->n_others + 1);
	p->others[p->n_others++] = s;
}

static void place_wait_no_more(struct net_place *p, const struct net_service *s)
{
	for (size_t i = 0; i < p->n_others; i++)
		if (p->others[i] == s) {
			p->others[i] = p->others[--p->n_others];
			return;
		}
}

/* Another has the place: clients of the one before are told. */
static void place_tell(struct netctl *nc, const struct dp_service *old, const struct dp_service *now)
{
	if (!old || old->proto != IPPROTO_UDP)
		return;
	gone_compare(nc, now, old->backends, old->n_backends);
	gone_compare(nc, now, old->outside, old->n_outside);
}

bool place_claim(struct netctl *nc, struct net_service *s, struct dp_service *f)
{
	struct net_place *p = place_make(nc, f);

	if (p->owner == s)
		return true;
	if (p->owner && !place_beats(s, f->kind, p->owner, f)) {
		place_wait(p, s);
		return false;
	}
	if (p->owner) {
		place_tell(nc, service_frontend_at(p->owner, f), f);
		place_wait(p, p->owner);
	}
	place_wait_no_more(p, s);
	p->owner = s;
	return true;
}

bool place_is_owned(const struct netctl *nc, const struct net_service *s, const struct dp_service *f)
{
	const struct net_place *p = place_at(nc, f);

	return p && p->owner == s;
}

/* To the strongest of those who wait. */
static void place_pass_on(struct netctl *nc, struct net_place *p, const struct dp_service *place)
{
	struct net_service *best = p->others[0];

	for (size_t i = 1; i < p->n_others; i++) {
		const struct dp_service *f = service_frontend_at(p->others[i], place);

		if (f && p->others[i]->object && place_beats(p->others[i], f->kind, best, place))
			best = p->others[i];
	}
	place_wait_no_more(p, best);
	p->owner = best;
	best->failed = true;
	service_mark(nc, best);
}

void place_leave(struct netctl *nc, struct net_service *s, const struct dp_service *f)
{
	struct net_place *p = place_at(nc, f);
	_cleanup_err_ struct err err = ERR_INIT;
	char key[PLACE_KEY_LEN];

	if (!p)
		return;
	if (p->owner != s) {
		place_wait_no_more(p, s);
		return;
	}
	if (dataplane_service_delete(nc->dp, f, &err) < 0) {
		nc->stats.errors++;
		log_warn("frontend not removed service=%s/%s error=\"%s\"", s->ns, s->name, err_message(&err));
	}
	nc->room = true;
	p->owner = NULL;
	if (p->n_others)
		place_pass_on(nc, p, f);
	else
		place_free(map_remove(&nc->places, place_key(f, key)));
}

static void place_adopt(void *arg, const struct dp_service *s)
{
	struct netctl *nc = arg;

	place_make(nc, s);
	if (!s->damaged)
		gone_remember(nc, s);
}

void netctl_adopt_frontends(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (dataplane_service_each(nc->dp, place_adopt, nc, &err) < 0)
		log_warn("frontends of an earlier run not read error=\"%s\"", err_message(&err));
}

void netctl_prune_services(struct netctl *nc)
{
	struct dp_service *stale = mem_new_array(struct dp_service, nc->places.n + 1);
	char key[PLACE_KEY_LEN];
	size_t n = 0;

	map_foreach(e, &nc->places)
		if (!((struct net_place *)e->value)->owner)
			place_frontend(e->key, &stale[n++]);
	for (size_t i = 0; i < n; i++) {
		dataplane_service_delete(nc->dp, &stale[i], NULL);
		place_free(map_remove(&nc->places, place_key(&stale[i], key)));
	}
	if (n) {
		log_info("stale frontends removed n=%zu", n);
		nc->room = true;
		netctl_schedule(nc);
	}
	free(stale);
}

void netctl_free_places(struct netctl *nc)
{
	map_foreach(e, &nc->places)
		place_free(e->value);
	map_finish(&nc->places);
}
