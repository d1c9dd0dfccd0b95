/* SPDX-License-Identifier: Apache-2.0 */
/* See drift.h. Frontends are compared with what was last translated of the objects; the rest is the dataplane's to
 * compare, with what it was told. */
#include "userspace/netctl/drift.h"

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/netctl/internal.h"

struct frontend_drift {
	struct netctl *nc;
	struct map seen; /* of places, net_place -> itself: found as wanted, or counted */
	struct dp_service *strangers;
	size_t n, cap;
	uint32_t found;
};

static struct str place_pointer(const struct net_place *const *p)
{
	return str_make((const char *)p, sizeof(*p));
}

/* All of it is written again; the dataplane leaves alone what is as it should be. */
static void frontend_again(struct frontend_drift *d, struct net_service *s)
{
	d->found++;
	s->failed = true;
	service_mark(d->nc, s);
}

static void frontend_seen(void *arg, const struct dp_service *f)
{
	struct frontend_drift *d = arg;
	const struct net_place *place = place_find(d->nc, f);
	const struct dp_service *want = place && place->owner ? service_frontend_at(place->owner, f) : NULL;

	if (!want) {
		mem_grow(d->strangers, d->cap, d->n + 1);
		d->strangers[d->n] = (struct dp_service){
			.id = f->id, .kind = f->kind, .proto = f->proto, .port = f->port, .addr = f->addr
		};
		d->n++;
		return;
	}
	map_put(&d->seen, place_pointer(&place), d);
	/* What waits for its sync, or did not fit, is no drift. */
	if (!list_empty(&place->owner->queue) || place->owner->failed)
		return;
	if (f->damaged || !service_frontend_equal(want, f))
		frontend_again(d, place->owner);
}

/* Where another turn of the loop has been since, what is missing may only be younger than the walk: asked again. */
static void frontends_missing(struct frontend_drift *d)
{
	map_foreach(e, &d->nc->places) {
		const struct net_place *place = e->value;
		struct dp_service f;

		if (!place->owner || map_has(&d->seen, place_pointer(&place)) || !list_empty(&place->owner->queue) ||
		    place->owner->failed)
			continue;
		place_frontend(e->key, &f);
		if (!dataplane_service_has(d->nc->dp, &f))
			frontend_again(d, place->owner);
	}
}

static int frontends_strange(struct frontend_drift *d, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < d->n && r == 0; i++)
		r = dataplane_service_delete(d->nc->dp, &d->strangers[i], err);
	d->found += (uint32_t)d->n;
	d->n = 0;
	return r;
}

static void frontend_drift_finish(struct frontend_drift *d)
{
	map_finish(&d->seen);
	free(d->strangers);
}

static void drift_tell(struct netctl *nc, const struct dp_drift *found)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (int k = 0; k < DP_DRIFT_KINDS; k++) {
		nc->drift.found[k] += found->n[k];
		if (found->n[k])
			buf_printf(&text, " %s=%u", dataplane_drift_name(k), found->n[k]);
	}
	if (!buf_len(&text))
		return;
	nc->drift.last = *found;
	nc->drift.last_found_ns = clock_monotonic_ns();
	log_warn("the kernel held other things than were written to it, repaired%s", buf_cstr(&text));
}

/* What was found is repaired where netctl knows what is wanted, and told. */
static void drift_over(struct netctl *nc, const struct dp_drift *found)
{
	if (found->n[DP_DRIFT_FRONTEND])
		netctl_sync_services(nc);
	drift_tell(nc, found);
}

static void drift_failed(struct netctl *nc, const struct err *err)
{
	nc->drift.failures++;
	log_warn("maps not compared with the objects error=\"%s\"", err_message(err));
}

static bool drift_is_due(struct netctl *nc, int64_t max_age_ns)
{
	int64_t now = clock_monotonic_ns();

	if (nc->drift.last_look_ns && now - nc->drift.last_look_ns < max_age_ns)
		return false;
	nc->drift.last_look_ns = now;
	nc->drift.looks++;
	return true;
}

/* ---- in pieces: what a look is, whether they follow each other at once or not ---- */

struct drift_pieces {
	struct loop_defer defer;
	struct dp_drift_look *look;
	struct frontend_drift frontends;
	bool frontends_done;
	struct dp_drift found;
};

/* 1: there is more to look at. */
static int drift_piece(struct drift_pieces *p, struct err *err)
{
	struct frontend_drift *d = &p->frontends;
	uint32_t before = d->found;
	int r, deleted;

	if (p->frontends_done)
		return dataplane_drift_rest(p->look, &p->found, err);
	r = dataplane_drift_frontends(p->look, frontend_seen, d, err);
	if (r == 0) {
		frontends_missing(d);
		p->frontends_done = true;
	}
	if (d->n || d->found)
		dataplane_services_distrust(d->nc->dp, true);
	deleted = r < 0 ? 0 : frontends_strange(d, err);
	p->found.n[DP_DRIFT_FRONTEND] += d->found - before;
	return r < 0 ? r : deleted < 0 ? deleted : 1;
}

/* True: there is more to look at. */
static bool drift_step(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = drift_piece(nc->pieces, &err);

	if (r > 0)
		return true;
	if (r < 0)
		drift_failed(nc, &err);
	netctl_drift_stop(nc);
	return false;
}

static void drift_turn(struct loop_defer *defer)
{
	struct drift_pieces *p = container_of(defer, struct drift_pieces, defer);
	struct netctl *nc = p->frontends.nc;

	if (drift_step(nc))
		loop_defer(nc->loop, &p->defer);
}

static void drift_begin(struct netctl *nc)
{
	struct drift_pieces *p = mem_new(struct drift_pieces);

	p->defer.fn = drift_turn;
	p->frontends.nc = nc;
	p->look = dataplane_drift_begin(nc->dp);
	nc->pieces = p;
	nc->drift.looking = true;
	loop_defer(nc->loop, &p->defer);
}

void netctl_drift_begin(struct netctl *nc, int64_t max_age_ns)
{
	if (!nc->drift.looking && drift_is_due(nc, max_age_ns))
		drift_begin(nc);
}

void netctl_drift_look(struct netctl *nc, int64_t max_age_ns, int64_t within_ns)
{
	int64_t begun = clock_monotonic_ns();

	/* One that is older has passed by what may have been changed since; a start is none for who asks. */
	if (drift_is_due(nc, nc->drift.looks ? max_age_ns : 0)) {
		netctl_drift_stop(nc);
		drift_begin(nc);
	}
	while (nc->drift.looking && clock_monotonic_ns() - begun < within_ns && drift_step(nc))
		;
}

void netctl_drift_stop(struct netctl *nc)
{
	struct drift_pieces *p = nc->pieces;
	struct dp_drift found;

	if (!p)
		return;
	found = p->found;
	loop_defer_cancel(nc->loop, &p->defer);
	dataplane_drift_end(p->look);
	frontend_drift_finish(&p->frontends);
	free(p);
	nc->pieces = NULL;
	nc->drift.looking = false;
	if (!nc->destroying)
		drift_over(nc, &found);
	dataplane_services_distrust(nc->dp, false);
}

void netctl_drift_of_links(struct netctl *nc)
{
	struct dp_drift found = { 0 };

	dataplane_drift_of_links(nc->dp, &found);
	drift_tell(nc, &found);
}

const struct netctl_drift *netctl_get_drift(const struct netctl *nc)
{
	return &nc->drift;
}
