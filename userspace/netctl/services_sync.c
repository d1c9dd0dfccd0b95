/* SPDX-License-Identifier: Apache-2.0 */
/* Which Services to translate, and when: those that a change touched, at once, and once for all changes of one turn of
 * the loop. One of many backends comes again only after SYNC_PAUSE_FACTOR times what it cost last, with all that
 * changed until then. What could not be written is tried again: when there is room, or after a while. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define SYNC_COMPONENT "k3c-bpf"
#define SYNC_CHEAP_BACKENDS 256 /* with up to so many, in all its frontends, it may come as often as it likes */
#define SYNC_PAUSE_FACTOR 10
#define SYNC_PAUSE_MAX_NS NS_PER_S
#define SYNC_RETRY_MIN_NS (100 * NS_PER_MS)
#define SYNC_RETRY_MAX_NS (60 * NS_PER_S)
#define SYNC_NODE_ADDRESSES_MAX 64

static const struct str service_label = { "kubernetes.io/service-name", sizeof("kubernetes.io/service-name") - 1 };
static const struct str headless_label = { "service.kubernetes.io/headless",
					   sizeof("service.kubernetes.io/headless") - 1 };
static const struct str zone_label = { "topology.kubernetes.io/zone", sizeof("topology.kubernetes.io/zone") - 1 };

/* ---- queues ---- */

static struct list *service_queue(struct netctl *nc, const struct net_service *s)
{
	return s->pod ? &nc->dirty_pods : &nc->dirty_services;
}

static void service_later(struct netctl *nc, struct net_service *s, int64_t due_ns)
{
	int64_t now = clock_monotonic_ns();

	s->due_ns = due_ns;
	list_del(&s->queue);
	list_add_tail(&nc->later_services, &s->queue);
	if (!loop_timer_armed(&nc->services_timer) || nc->services_timer.due_ns > due_ns)
		loop_timer_arm(nc->loop, &nc->services_timer, due_ns > now ? due_ns - now : 0);
}

void service_mark(struct netctl *nc, struct net_service *s)
{
	if (s->not_before_ns > clock_monotonic_ns()) {
		service_later(nc, s, s->not_before_ns);
		return;
	}
	list_del(&s->queue);
	list_add_tail(service_queue(nc, s), &s->queue);
	netctl_schedule(nc);
}

static void services_due(struct loop_timer *timer)
{
	struct netctl *nc = container_of(timer, struct netctl, services_timer);
	int64_t now = clock_monotonic_ns(), next = 0;

	list_foreach_safe(s, &nc->later_services, struct net_service, queue) {
		if (s->due_ns <= now) {
			list_del(&s->queue);
			list_add_tail(service_queue(nc, s), &s->queue);
		} else if (!next || s->due_ns < next) {
			next = s->due_ns;
		}
	}
	if (next)
		loop_timer_arm(nc->loop, timer, next - now);
	netctl_schedule(nc);
}

void netctl_init_services(struct netctl *nc)
{
	list_init(&nc->dirty_services);
	list_init(&nc->dirty_pods);
	list_init(&nc->later_services);
	list_init(&nc->full_services);
	loop_timer_init(&nc->services_timer, services_due);
	nc->zone = mem_strdup("");
}

/* ---- Services and slices ---- */

static struct net_service *service_find(struct netctl *nc, struct str ns, struct str name, bool make)
{
	_cleanup_free_ char *key = mem_printf("%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
	struct net_service *s = map_get(&nc->services, str_of(key));

	if (s || !make)
		return s;
	s = mem_new(struct net_service);
	list_init(&s->queue);
	s->ns = str_dup(ns);
	s->name = str_dup(name);
	map_put(&nc->services, str_of(key), s);
	return s;
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

static void slice_finish(struct netctl *nc, struct net_slice *slice)
{
	if (slice->meaning)
		gone_release(nc, slice->meaning);
	free(slice->meaning);
	object_unref(slice->object);
}

/* What it said is still in force until the new is: else every endpoint would be gone for a moment. */
static struct net_slice slice_take(struct netctl *nc, const struct object *slice)
{
	struct str owner = object_label(slice, service_label);
	struct net_service *s = owner.n ? service_find(nc, slice->ns, owner, false) : NULL;
	struct net_slice taken = { 0 };

	for (size_t i = 0; s && i < s->n_slices; i++) {
		if (!str_eq(s->slices[i].object->name, slice->name))
			continue;
		taken = s->slices[i];
		s->slices[i] = s->slices[--s->n_slices];
		service_mark(nc, s);
		break;
	}
	return taken;
}

static bool slice_is_headless(const struct object *slice)
{
	for (size_t i = 0; i < slice->n_labels; i++)
		if (str_eq(slice->labels[i].key, headless_label))
			return true;
	return false;
}

static struct services_slice *slice_read(struct netctl *nc, const struct object *slice)
{
	const struct services_place place = { str_of(nc->node_name), str_of(nc->zone) };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct services_slice *meaning;
	const struct json *tree;

	if (slice_is_headless(slice))
		return NULL;
	tree = registry_parse(&arena, slice);
	meaning = services_slice_parse(tree, &place);
	gone_note_hosted(nc, tree, meaning);
	return meaning;
}

void netctl_slice_changed(struct netctl *nc, const struct object *slice, const struct object *prev, bool removed)
{
	struct str owner = object_label(slice, service_label);
	struct net_slice old = slice_take(nc, prev ? prev : slice), now;
	struct net_service *s;

	if (!removed && owner.n) {
		s = service_find(nc, slice->ns, owner, true);
		now = (struct net_slice){ object_ref(slice), slice_read(nc, slice) };
		if (now.meaning)
			gone_hold(nc, now.meaning);
		mem_grow(s->slices, s->cap_slices, s->n_slices + 1);
		s->slices[s->n_slices++] = now;
		service_mark(nc, s);
	}
	slice_finish(nc, &old);
}

/* ---- the node ---- */

/* Hints are judged by the zone. */
static void node_set_zone(struct netctl *nc, struct str zone)
{
	if (str_is(zone, nc->zone))
		return;
	free(nc->zone);
	nc->zone = str_dup(zone);
	map_foreach(e, &nc->services) {
		struct net_service *s = e->value;

		for (size_t i = 0; i < s->n_slices; i++) {
			struct net_slice *slice = &s->slices[i];

			if (!slice->meaning)
				continue;
			free(slice->meaning); /* the same endpoints serve in the new one */
			slice->meaning = slice_read(nc, slice->object);
		}
		service_mark(nc, s);
	}
}

static void node_set_addresses(struct netctl *nc, const struct json *list)
{
	struct dp_addr addrs[SYNC_NODE_ADDRESSES_MAX];
	size_t n = 0;

	json_foreach(a, list)
		if (n < SYNC_NODE_ADDRESSES_MAX && address_parse(json_get_str(a, "address"), &addrs[n]) == 0)
			n++;
	if (n == nc->n_node_addrs && (!n || memcmp(addrs, nc->node_addrs, n * sizeof(*addrs)) == 0))
		return;
	free(nc->node_addrs);
	nc->node_addrs = mem_new_array(struct dp_addr, n + 1);
	if (n)
		memcpy(nc->node_addrs, addrs, n * sizeof(*addrs));
	nc->n_node_addrs = n;
	/* A reserved port may be reserved elsewhere now, and others may want the same. */
	map_foreach(e, &nc->services)
		service_mark(nc, e->value);
	map_foreach(e, &nc->host_ports)
		service_mark(nc, e->value);
}

void netctl_node_changed(struct netctl *nc, const struct object *node, bool removed)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	if (removed || !str_is(node->name, nc->node_name))
		return;
	node_set_zone(nc, object_label(node, zone_label));
	node_set_addresses(nc, json_at(registry_parse(&arena, node), "status.addresses"));
}

/* ---- syncs ---- */

void service_free(struct netctl *nc, struct net_service *s)
{
	list_del(&s->queue);
	object_unref(s->object);
	for (size_t i = 0; i < s->n_slices; i++)
		slice_finish(nc, &s->slices[i]);
	health_check_set(nc, s, 0, 0, NULL);
	free(s->slices);
	free(s->conflicts);
	free(s->claims);
	free(s->rivals);
	free(s->frontends);
	free(s->ns);
	free(s->name);
	free(s->uid);
	free(s);
}

static void service_want(struct netctl *nc, struct net_service *s, struct arena *arena, struct services_result *ret)
{
	const struct services_slice **slices = arena_new_array(arena, const struct services_slice *, s->n_slices + 1);
	const struct net_pod *pod;
	size_t n = 0;

	*ret = (struct services_result){ 0 };
	if (!s->object)
		return;
	if (s->pod) {
		pod = model_pod(&nc->model, s->object->uid);
		if (pod && pod->attached)
			host_ports_translate(arena, registry_parse(arena, s->object), pod->addrs, ret);
		return;
	}
	for (size_t i = 0; i < s->n_slices; i++)
		if (s->slices[i].meaning)
			slices[n++] = s->slices[i].meaning;
	services_translate(arena, registry_parse(arena, s->object), slices, n, ret);
}

static bool service_is_costly(const struct net_service *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_frontends && n <= SYNC_CHEAP_BACKENDS; i++)
		n += s->frontends[i].n_backends + s->frontends[i].n_outside;
	return n > SYNC_CHEAP_BACKENDS;
}

/* Of this thread's own work: on a busy machine a sync takes long and costs no more. */
static int64_t sync_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int64_t service_pause_ns(const struct net_service *s, int64_t cost_ns)
{
	int64_t pause = service_is_costly(s) ? cost_ns * SYNC_PAUSE_FACTOR : 0;

	return pause < SYNC_PAUSE_MAX_NS ? pause : SYNC_PAUSE_MAX_NS;
}

/* Never silent, and once: who is left out sees no more than a connection that does not come about. */
static void service_tell_limits(struct netctl *nc, struct net_service *s, uint8_t truncated)
{
	uint8_t news = truncated & ~s->truncated;

	s->truncated = truncated;
	for (enum services_limit l = 0; l < SERVICES_LIMITS; l++) {
		if (!(news & 1 << l))
			continue;
		log_warn("more than the dataplane takes, the others are left out service=%s/%s what=\"%s\" max=%u",
			 s->ns, s->name, services_limit_name(l), services_limit_max(l));
		if (s->object)
			registry_event(nc->reg, SYNC_COMPONENT, s->object, "Warning", "LimitExceeded",
				       "More than %u %s: the others are left out", services_limit_max(l),
				       services_limit_name(l));
	}
}

static void service_sync(struct netctl *nc, struct net_service *s)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	int64_t start = sync_cpu_ns(), pause;
	struct services_result want;

	service_want(nc, s, &arena, &want);
	service_tell_limits(nc, s, want.truncated);
	service_install(nc, s, &want);
	listeners_write_status(nc, s);
	if (health_check_set(nc, s, want.health_port, want.local_ready, &err) < 0) {
		nc->stats.errors++;
		s->failed = true;
	}
	nc->stats.service_syncs++;
	s->failures = s->failed ? s->failures + 1 : 0;
	pause = service_pause_ns(s, sync_cpu_ns() - start);
	s->not_before_ns = pause ? clock_monotonic_ns() + pause : 0;
}

static int64_t service_retry_ns(const struct net_service *s)
{
	unsigned tries = s->failures > s->waits ? s->failures : s->waits;
	int64_t delay = SYNC_RETRY_MIN_NS;

	for (unsigned i = 1; i < tries && delay < SYNC_RETRY_MAX_NS; i++)
		delay *= 2;
	return clock_monotonic_ns() + (delay < SYNC_RETRY_MAX_NS ? delay : SYNC_RETRY_MAX_NS);
}

/* After its sync: gone, waiting, or done with. */
static void service_settle(struct netctl *nc, struct net_service *s)
{
	if (!s->object && !s->n_slices) {
		_cleanup_free_ char *key = mem_printf("%s/%s", s->ns, s->name);

		if (s->pod)
			map_remove(&nc->host_ports, str_of(s->uid));
		else
			map_remove(&nc->services, str_of(key));
		service_free(nc, s);
	} else if (s->full) {
		list_add_tail(&nc->full_services, &s->queue);
	} else if ((s->failed || s->waits) && list_empty(&s->queue)) {
		service_later(nc, s, service_retry_ns(s));
	}
}

/* Those that did not fit, until one does not again. */
static void services_use_room(struct netctl *nc)
{
	while (nc->room && !list_empty(&nc->full_services)) {
		struct net_service *s = list_first(&nc->full_services, struct net_service, queue);

		list_del(&s->queue);
		service_sync(nc, s);
		if (s->full)
			nc->room = false;
		service_settle(nc, s);
	}
	nc->room = false;
}

void netctl_sync_services(struct netctl *nc)
{
	while (!list_empty(&nc->dirty_services) || !list_empty(&nc->dirty_pods)) {
		struct list *first = list_empty(&nc->dirty_services) ? &nc->dirty_pods : &nc->dirty_services;
		struct net_service *s = list_first(first, struct net_service, queue);

		list_del(&s->queue);
		service_sync(nc, s);
		service_settle(nc, s);
	}
	services_use_room(nc);
	listeners_forget(nc);
	gone_flush(nc);
}

void netctl_free_services(struct netctl *nc)
{
	loop_timer_cancel(nc->loop, &nc->services_timer);
	map_foreach(e, &nc->services)
		service_free(nc, e->value);
	map_foreach(e, &nc->host_ports)
		service_free(nc, e->value);
	map_finish(&nc->services);
	map_finish(&nc->host_ports);
	netctl_free_places(nc);
	gone_free(nc);
	free(nc->node_addrs);
	free(nc->zone);
}
