/* SPDX-License-Identifier: Apache-2.0 */
/* Wanted frontends -> the maps: only what differs from what was written last. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define INSTALL_COMPONENT "k3c-bpf"

static bool backends_equal(const struct dp_backend *a, size_t n_a, const struct dp_backend *b, size_t n_b)
{
	return n_a == n_b && (!n_a || memcmp(a, b, n_a * sizeof(*a)) == 0);
}

static bool sources_equal(const struct dp_service *a, const struct dp_service *b)
{
	if (a->n_sources != b->n_sources)
		return false;
	for (size_t i = 0; i < a->n_sources; i++)
		if (a->sources[i].bits != b->sources[i].bits ||
		    !address_equal(&a->sources[i].addr, &b->sources[i].addr))
			return false;
	return true;
}

bool service_frontend_equal(const struct dp_service *a, const struct dp_service *b)
{
	return a->id == b->id && a->kind == b->kind && a->affinity_s == b->affinity_s &&
	       a->outside_differs == b->outside_differs &&
	       backends_equal(a->backends, a->n_backends, b->backends, b->n_backends) &&
	       backends_equal(a->outside, a->n_outside, b->outside, b->n_outside) && sources_equal(a, b);
}

/* ---- what cannot be ---- */

static void install_warn(struct netctl *nc, const struct net_service *s, const char *reason, const struct dp_service *f,
			 const char *why)
{
	char text[ADDRESS_TEXT_MAX];

	address_format(&f->addr, text);
	log_warn("frontend not installed service=%s/%s address=%s port=%u error=\"%s\"", s->ns, s->name, text, f->port,
		 why);
	if (s->object)
		registry_event(nc->reg, INSTALL_COMPONENT, s->object, "Warning", reason,
			       "Port %u of %s is not served: %s", f->port, text, why);
}

/* The API server's own port stays reachable, whatever objects ask for. */
static bool install_is_reserved(const struct netctl *nc, const struct dp_service *f)
{
	struct dp_addr any = address_any(address_family(&f->addr));

	if (f->kind == DP_CLUSTER_IP || f->proto != IPPROTO_TCP || !nc->api_port || f->port != nc->api_port)
		return false;
	for (size_t i = 0; i < nc->n_node_addrs; i++)
		if (address_equal(&f->addr, &nc->node_addrs[i]))
			return true;
	return address_equal(&f->addr, &any);
}

static void install_drop_reserved(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	size_t n = 0;

	for (size_t i = 0; i < want->n; i++) {
		if (!install_is_reserved(nc, &want->frontends[i]))
			want->frontends[n++] = want->frontends[i];
		else if (!service_frontend_at(s, &want->frontends[i]))
			install_warn(nc, s, "PortReserved", &want->frontends[i], "the API server listens there");
	}
	want->n = n;
}

static void install_failed(struct netctl *nc, struct net_service *s, const struct dp_service *f, int r,
			   const struct err *err)
{
	nc->stats.errors++;
	if (r == -ENOSPC) {
		nc->stats.services_full++;
		s->full = true;
	}
	/* Told once, however often it is tried. */
	if (!s->failed && !s->failures)
		install_warn(nc, s, r == -ENOSPC ? "DataplaneFull" : "DataplaneFailed", f, err_message(err));
	s->failed = true;
}

/* ---- the maps ---- */

static void install_write(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	bool again = s->failed;

	s->failed = s->full = false;
	for (size_t i = 0; i < want->n; i++) {
		struct dp_service *f = &want->frontends[i];
		const struct dp_service *old = service_frontend_at(s, f);
		bool had = old && place_is_owned(nc, s, old);
		_cleanup_err_ struct err err = ERR_INIT;
		int r;

		if (!place_claim(nc, s, f) || (had && !again && service_frontend_equal(old, f)))
			continue;
		r = dataplane_service_set(nc->dp, f, &err);
		nc->stats.frontend_writes++;
		nc->udp_moved |= again && f->proto == IPPROTO_UDP; /* what it lost was not looked at */
		if (r < 0)
			install_failed(nc, s, f, r, &err);
		else if (had && old->n_backends + old->n_outside > f->n_backends + f->n_outside)
			nc->room = true;
	}
}

static void install_remove_stale(struct netctl *nc, struct net_service *s, const struct services_result *want)
{
	for (size_t i = 0; i < s->n_frontends; i++) {
		const struct dp_service *old = &s->frontends[i], *now = NULL;

		if (want->n)
			now = bsearch(old, want->frontends, want->n, sizeof(*want->frontends), services_place_cmp);
		if (!now)
			place_leave(nc, s, old);
		/* A UDP client never learns by itself; TCP ones may finish what they began. */
		if (old->proto != IPPROTO_UDP)
			continue;
		gone_compare(nc, now, old->backends, old->n_backends);
		gone_compare(nc, now, old->outside, old->n_outside);
	}
}

/* ---- what was wanted, in one block ---- */

struct keep {
	char *at; /* NULL: only counting */
	size_t size;
};

static const void *keep_bytes(struct keep *k, const void *bytes, size_t size)
{
	void *copy = k->at + k->size;

	k->size += size;
	if (!k->at || !size)
		return NULL;
	return memcpy(copy, bytes, size);
}

/* Lists that are the same stay the same. */
static const struct dp_backend *keep_backends(struct keep *k, const struct services_result *want, size_t at,
					      const struct dp_backend *list, size_t n, struct dp_service *kept)
{
	for (size_t i = 0; n && i < at; i++) {
		if (want->frontends[i].backends == list && want->frontends[i].n_backends == n)
			return kept ? kept[i].backends : NULL;
		if (want->frontends[i].outside == list && want->frontends[i].n_outside == n)
			return kept ? kept[i].outside : NULL;
	}
	return keep_bytes(k, list, n * sizeof(*list));
}

static void keep_all(struct keep *k, const struct services_result *want, struct dp_service *kept)
{
	for (size_t i = 0; i < want->n; i++) {
		const struct dp_service *f = &want->frontends[i];
		struct dp_service copy = *f;

		copy.backends = keep_backends(k, want, i, f->backends, f->n_backends, kept);
		copy.outside = keep_backends(k, want, i, f->outside, f->n_outside, kept);
		copy.sources = keep_bytes(k, f->sources, f->n_sources * sizeof(*f->sources));
		if (kept)
			kept[i] = copy;
	}
}

static void install_remember(struct net_service *s, const struct services_result *want)
{
	size_t head = want->n * sizeof(*s->frontends);
	struct keep count = { 0 }, fill = { 0 };

	free(s->frontends);
	s->frontends = NULL;
	s->n_frontends = want->n;
	if (!want->n)
		return;
	keep_all(&count, want, NULL);
	s->frontends = mem_alloc(head + count.size);
	fill.at = (char *)s->frontends + head;
	keep_all(&fill, want, s->frontends);
}

void service_install(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	install_drop_reserved(nc, s, want);
	rivals_hold_back(nc, s, want);
	listeners_hold_back(nc, s, want);
	install_write(nc, s, want);
	install_remove_stale(nc, s, want);
	rivals_wake(nc, s);
	install_remember(s, want);
	rivals_wake(nc, s);
}
