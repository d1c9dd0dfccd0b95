/* SPDX-License-Identifier: Apache-2.0 */
/* Services into maps: new sets of backends and sources, then the frontend's value, then the old sets go
 * (bpf/include/service.h says why). Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/batch.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/pressure.h"

/* Sizes in the map are input as well: nothing larger was written by us. */
#define SERVICES_SET_MAX 131072

/* A set of backends, as the caller gives it. */
struct backend_list {
	const struct dp_backend *items;
	size_t n;
};

/* Every address of the node. */
static bool services_any_address(const struct dp_service *s)
{
	struct k3c_addr a = dp_addr_in(&s->addr);

	return s->kind == DP_NODE_PORT || (s->kind == DP_HOST_PORT && dp_addr_is_zero(&a));
}

void services_key(const struct dp_service *s, struct k3c_service_key *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->port = htons(s->port);
	ret->proto = s->proto;
	ret->addr = dp_addr_in(&s->addr);
	if (!services_any_address(s))
		return;
	ret->scope = K3C_SCOPE_NODE;
	ret->addr = dp_addr_is_v4(&ret->addr) ? dp_addr_v4(0) : (struct k3c_addr){ 0 };
}

static uint8_t services_flags(const struct dp_service *s)
{
	return (uint8_t)((s->kind == DP_CLUSTER_IP ? K3C_SERVICE_ANYWHERE : 0) |
			 (s->kind == DP_NODE_PORT ? K3C_SERVICE_RESERVED : 0) |
			 (s->outside_differs ? K3C_SERVICE_OUTSIDE : 0));
}

static void services_backend(const struct dp_backend *b, struct k3c_backend *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->addr = dp_addr_in(&b->addr);
	ret->port = htons(b->port);
}

static int services_full(struct dataplane *dp, enum dp_map m, struct err *err)
{
	return pressure_write_failed(dp, m, err);
}

/* A set of many backends is written and deleted in one call each. Room for both kinds of keys (service.h). */
struct backend_batch {
	struct k3c_backend_key *keys;
	struct k3c_backend *values;
	uint32_t n;
};

static void backend_batch_init(struct backend_batch *b, uint32_t backends, bool members)
{
	size_t max = (size_t)backends * (members ? 2 : 1) + 1; /* of none there is nothing to allocate */

	b->keys = mem_new_array(struct k3c_backend_key, max);
	b->values = mem_new_array(struct k3c_backend, max);
	b->n = 0;
}

static void backend_batch_finish(struct backend_batch *b)
{
	free(b->keys);
	free(b->values);
}

static void backend_batch_add(struct backend_batch *b, uint32_t set, uint32_t index, const struct k3c_backend *value)
{
	b->keys[b->n] = (struct k3c_backend_key){ .set = set, .index = index };
	b->values[b->n++] = *value;
}

static int backend_batch_write(struct dataplane *dp, const struct backend_batch *b, uint32_t *ret_written)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = BPF_ANY);
	uint32_t n = b->n;
	int r = n ? bpf_map_update_batch(dp->maps[DP_MAP_BACKEND], b->keys, b->values, &n, &opts) : 0;

	*ret_written = n;
	return r;
}

/* The kernel stops at one that is not there; the others go all the same. */
static void backend_batch_delete(struct dataplane *dp, const struct backend_batch *b)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);

	for (uint32_t done = 0; done < b->n;) {
		uint32_t n = b->n - done;
		int r = bpf_map_delete_batch(dp->maps[DP_MAP_BACKEND], b->keys + done, &n, &opts);

		done += n;
		if (r == 0 || errno != ENOENT)
			return;
		done++;
	}
}

static void services_delete_set(struct dataplane *dp, uint32_t set, uint32_t count, bool members)
{
	_cleanup_(backend_batch_finish) struct backend_batch batch;
	int fd = dp->maps[DP_MAP_BACKEND];

	if (count > SERVICES_SET_MAX) /* damaged: what is there is collected as nobody's */
		count = 0;
	backend_batch_init(&batch, count, members);
	for (uint32_t i = 0; i < count; i++) {
		struct k3c_backend_key key = { .set = set, .index = i };
		struct k3c_backend b = { 0 };

		if (members && bpf_map_lookup_elem(fd, &key, &b) == 0)
			backend_batch_add(&batch, set, k3c_backend_hash(&b.addr, b.port), &b);
		backend_batch_add(&batch, set, i, &b);
	}
	backend_batch_delete(dp, &batch);
}

/* What only `s` names; `but` is what stays in use (NULL: nothing). */
static void services_delete_sets(struct dataplane *dp, const struct k3c_service *s, const struct k3c_service *but)
{
	if (dp->sets_shared)
		return;
	if (!but || s->inside.set != but->inside.set)
		services_delete_set(dp, s->inside.set, s->inside.count, s->affinity_s);
	if (s->outside.set != s->inside.set)
		services_delete_set(dp, s->outside.set, s->outside.count, s->affinity_s);
	if (!but || s->sources != but->sources)
		sources_delete(dp, s->sources);
}

static int services_write_set(struct dataplane *dp, struct backend_list list, uint32_t set, bool members,
			      struct err *err)
{
	_cleanup_(backend_batch_finish) struct backend_batch batch;
	uint32_t written;
	int r;

	backend_batch_init(&batch, (uint32_t)list.n, members);
	for (uint32_t i = 0; i < list.n; i++) {
		struct k3c_backend b;

		services_backend(&list.items[i], &b);
		backend_batch_add(&batch, set, i, &b);
		if (members)
			backend_batch_add(&batch, set, k3c_backend_hash(&b.addr, b.port), &b);
	}
	if (backend_batch_write(dp, &batch, &written) == 0)
		return 0;
	r = services_full(dp, DP_MAP_BACKEND, err);
	batch.n = written;
	backend_batch_delete(dp, &batch);
	return r;
}

static bool services_has_member(struct dataplane *dp, uint32_t set, const struct k3c_backend *b)
{
	struct k3c_backend_key key = { .set = set, .index = k3c_backend_hash(&b->addr, b->port) };
	struct k3c_backend have;

	/* two members of one hash share a slot */
	return bpf_map_lookup_elem(dp->maps[DP_MAP_BACKEND], &key, &have) == 0 &&
	       k3c_backend_hash(&have.addr, have.port) == key.index;
}

static bool services_same_set(struct dataplane *dp, struct backend_list list, uint32_t set, uint32_t count,
			      bool members)
{
	if (count != list.n)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct k3c_backend_key key = { .set = set, .index = i };
		struct k3c_backend have, want;

		services_backend(&list.items[i], &want);
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_BACKEND], &key, &have) < 0 ||
		    memcmp(&have, &want, sizeof(have)) != 0 || (members && !services_has_member(dp, set, &want)))
			return false;
	}
	return true;
}

static bool services_same(struct dataplane *dp, const struct dp_service *s, const struct k3c_service *old)
{
	if (old->affinity_s != s->affinity_s || old->id != s->id || old->kind != s->kind ||
	    old->flags != services_flags(s))
		return false;
	if (!s->outside_differs && old->outside.word != old->inside.word)
		return false;
	return services_same_set(dp, (struct backend_list){ s->backends, s->n_backends }, old->inside.set,
				 old->inside.count, s->affinity_s) &&
	       (!s->outside_differs || services_same_set(dp, (struct backend_list){ s->outside, s->n_outside },
							 old->outside.set, old->outside.count, s->affinity_s)) &&
	       sources_same(dp, s, old->sources, old->n_sources);
}

static bool services_in_pod_nets(struct dataplane *dp, const struct dp_addr *addr)
{
	struct k3c_addr a = dp_addr_in(addr);

	for (int f = 0; f < DP_FAMILIES; f++)
		if (dp->options.pod_nets[f].bits &&
		    dp_addr_in_net(&a, &dp->options.pod_nets[f].addr, dp->options.pod_nets[f].bits))
			return true;
	return false;
}

/* What programs look for only once there is something to find: frontends beyond the service net, and backends that
 * are no pods, whose answers leave by the host's links. */
static int services_note_kinds(struct dataplane *dp, const struct dp_service *s, struct err *err)
{
	uint32_t before = dp->meta.flags;
	bool all = true;

	if (s->kind == DP_CLUSTER_IP)
		return 0;
	dp->meta.flags |= K3C_META_EXTERNAL;
	for (size_t i = 0; i < s->n_backends && all; i++)
		all = services_in_pod_nets(dp, &s->backends[i].addr);
	for (size_t i = 0; s->outside_differs && i < s->n_outside && all; i++)
		all = services_in_pod_nets(dp, &s->outside[i].addr);
	if (!all)
		dp->meta.flags |= K3C_META_HOST_BACKENDS;
	return dp->meta.flags != before ? dataplane_meta_write(dp, err) : 0;
}

static int services_check(const struct dp_service *s, struct err *err)
{
	struct k3c_addr a = dp_addr_in(&s->addr);
	bool v4 = dp_addr_is_v4(&a);

	if (s->proto != IPPROTO_TCP && s->proto != IPPROTO_UDP && s->proto != IPPROTO_SCTP)
		return err_set(err, -EPROTONOSUPPORT, "services carry TCP, UDP and SCTP");
	if (s->n_backends > SERVICES_SET_MAX || (s->outside_differs && s->n_outside > SERVICES_SET_MAX))
		return err_set(err, -E2BIG, "a frontend has more than %d backends", SERVICES_SET_MAX);
	for (size_t i = 0; i < s->n_backends + (s->outside_differs ? s->n_outside : 0); i++) {
		a = dp_addr_in(i < s->n_backends ? &s->backends[i].addr : &s->outside[i - s->n_backends].addr);
		if (dp_addr_is_v4(&a) != v4)
			return err_set(err, -EAFNOSUPPORT, "a backend of another family than its frontend");
	}
	return 0;
}

/* The sets of `value`: an old set of sources stays while it is the same. Nothing is left behind on failure. */
static int services_write_sets(struct dataplane *dp, const struct dp_service *s, const struct k3c_service *old,
			       struct k3c_service *value, struct err *err)
{
	struct backend_list inside = { s->backends, s->n_backends }, outside = { s->outside, s->n_outside };
	int r;

	value->inside.set = dataplane_next_set(dp);
	r = services_write_set(dp, inside, value->inside.set, value->affinity_s, err);
	if (r < 0)
		return r;
	value->inside.count = (uint32_t)inside.n;
	value->outside.set = value->inside.set;
	value->outside.count = value->inside.count;
	if (s->outside_differs) {
		uint32_t set = dataplane_next_set(dp);

		r = services_write_set(dp, outside, set, value->affinity_s, err);
		if (r == 0) {
			value->outside.set = set;
			value->outside.count = (uint32_t)outside.n;
		}
	}
	if (r == 0 && old && old->sources && sources_same(dp, s, old->sources, old->n_sources)) {
		value->sources = old->sources;
		value->n_sources = old->n_sources;
	} else if (r == 0 && s->n_sources) {
		uint32_t set = dataplane_next_set(dp);

		r = sources_write(dp, s, set, &value->n_sources, err);
		if (r == 0)
			value->sources = set;
	}
	if (r < 0)
		services_delete_sets(dp, value, old);
	return r;
}

static int services_set(struct dataplane *dp, const struct dp_service *s, const struct k3c_service_key *key,
			struct err *err)
{
	struct k3c_service old = { 0 }, value = { 0 };
	bool had = bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], key, &old) == 0;
	int r;

	if (had && services_same(dp, s, &old)) {
		own_service_set(dp, key);
		return 0;
	}
	r = services_note_kinds(dp, s, err);
	if (r < 0)
		return r;
	value.affinity_s = s->affinity_s;
	value.id = s->id;
	value.kind = s->kind;
	value.flags = services_flags(s);
	r = services_write_sets(dp, s, had ? &old : NULL, &value, err);
	if (r < 0)
		return r;
	if (bpf_map_update_elem(dp->maps[DP_MAP_SERVICE], key, &value, BPF_F_LOCK) < 0) {
		r = services_full(dp, DP_MAP_SERVICE, err);
		services_delete_sets(dp, &value, &old);
		return r;
	}
	if (had)
		services_delete_sets(dp, &old, &value);
	own_service_set(dp, key);
	return 0;
}

int dataplane_service_set(struct dataplane *dp, const struct dp_service *s, struct err *err)
{
	struct k3c_service_key key;
	int r = services_check(s, err);

	if (r < 0)
		return r;
	services_key(s, &key);
	r = services_set(dp, s, &key, err);
	pressure_outcome(dp, PRESSURE_FRONTEND, &key, sizeof(key), r);
	return r;
}

int dataplane_service_delete(struct dataplane *dp, const struct dp_service *frontend, struct err *err)
{
	struct k3c_service_key key;
	struct k3c_service old;

	services_key(frontend, &key);
	pressure_outcome(dp, PRESSURE_FRONTEND, &key, sizeof(key), 0);
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &old) < 0)
		return 0;
	if (bpf_map_delete_elem(dp->maps[DP_MAP_SERVICE], &key) < 0 && errno != ENOENT)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_SERVICE), strerror(errno));
	services_delete_sets(dp, &old, NULL);
	own_service_delete(dp, &key);
	return 0;
}

/* What stood in both maps a moment ago; backends in the order of their keys. */
struct services_all {
	struct k3c_service_key *keys;
	struct k3c_service *values;
	struct services_slot {
		struct k3c_backend_key key;
		struct k3c_backend backend;
	} * slots;
	size_t n, n_slots, cap_keys, cap_values, cap_slots;
};

static void services_all_frontends(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct services_all *all = arg;

	mem_grow(all->keys, all->cap_keys, all->n + n);
	mem_grow(all->values, all->cap_values, all->n + n);
	memcpy(all->keys + all->n, keys, n * sizeof(*all->keys));
	memcpy(all->values + all->n, values, n * sizeof(*all->values));
	all->n += n;
}

static void services_all_backends(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct services_all *all = arg;

	mem_grow(all->slots, all->cap_slots, all->n_slots + n);
	for (uint32_t i = 0; i < n; i++) {
		struct services_slot *slot = &all->slots[all->n_slots++];

		memcpy(&slot->key, keys + i * sizeof(slot->key), sizeof(slot->key));
		memcpy(&slot->backend, values + i * sizeof(slot->backend), sizeof(slot->backend));
	}
}

static int services_slot_compare(const void *x, const void *y)
{
	const struct k3c_backend_key *a = x, *b = y;

	if (a->set != b->set)
		return a->set < b->set ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static void services_all_finish(struct services_all *all)
{
	free(all->keys);
	free(all->values);
	free(all->slots);
}

static int services_all_read(struct dataplane *dp, struct services_all *all)
{
	int r = batch_each(dp->maps[DP_MAP_SERVICE], services_all_frontends, all);

	if (r == 0)
		r = batch_each(dp->maps[DP_MAP_BACKEND], services_all_backends, all);
	if (r == 0 && all->n_slots)
		qsort(all->slots, all->n_slots, sizeof(*all->slots), services_slot_compare);
	return r;
}

/* `all`: NULL, one at a time from the map. */
static bool services_read_slot(struct dataplane *dp, const struct services_all *all, const struct k3c_backend_key *key,
			       struct k3c_backend *ret)
{
	const struct services_slot *slot;

	if (!all)
		return bpf_map_lookup_elem(dp->maps[DP_MAP_BACKEND], key, ret) == 0;
	if (!all->n_slots)
		return false;
	slot = bsearch(key, all->slots, all->n_slots, sizeof(*slot), services_slot_compare);
	if (slot)
		*ret = slot->backend;
	return slot;
}

/* Who asks for members wants each backend's there too. */
static struct dp_backend *services_read_set(struct dataplane *dp, const struct services_all *all,
					    union k3c_service_set from, bool members, struct dp_service *s,
					    size_t *ret_n)
{
	uint32_t count = from.count > SERVICES_SET_MAX ? 0 : from.count;
	struct dp_backend *list = mem_new_array(struct dp_backend, (size_t)count + 1);
	size_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct k3c_backend_key slot = { .set = from.set, .index = i };
		struct k3c_backend b, member;

		if (!services_read_slot(dp, all, &slot, &b))
			continue;
		list[n++] = (struct dp_backend){ .addr = dp_addr_out(&b.addr), .port = ntohs(b.port) };
		slot.index = k3c_backend_hash(&b.addr, b.port);
		if (members && (!services_read_slot(dp, all, &slot, &member) ||
				k3c_backend_hash(&member.addr, member.port) != slot.index))
			s->damaged = true;
	}
	if (n != from.count)
		s->damaged = true;
	*ret_n = n;
	return list;
}

bool services_key_is_sound(const struct k3c_service_key *key)
{
	return !key->pad && key->scope <= K3C_SCOPE_NODE &&
	       dp_addr_is_zero(&key->addr) == (key->scope == K3C_SCOPE_NODE);
}

/* Its key is the one that a frontend of this kind has. */
static bool services_kind_has(uint8_t kind, const struct k3c_service_key *key)
{
	const struct dp_service s = {
		.kind = kind, .proto = key->proto, .port = ntohs(key->port), .addr = dp_addr_out(&key->addr)
	};
	struct k3c_service_key own;

	services_key(&s, &own);
	return kind <= DP_HOST_PORT && memcmp(&own, key, sizeof(own)) == 0;
}

static bool services_kind_fits(const struct k3c_service_key *key, const struct k3c_service *value)
{
	const struct dp_service s = { .kind = value->kind, .outside_differs = value->flags & K3C_SERVICE_OUTSIDE };

	if (!services_kind_has(value->kind, key))
		return false;
	return value->flags == services_flags(&s) && (s.outside_differs || value->outside.word == value->inside.word);
}

static void services_report(struct dataplane *dp, const struct services_all *all, const struct k3c_service_key *key,
			    const struct k3c_service *value, dataplane_service_fn *fn, void *arg)
{
	_cleanup_free_ struct dp_backend *backends = NULL, *outside = NULL;
	_cleanup_free_ struct dp_net *sources = NULL;
	struct dp_service s = {
		.id = value->id,
		.kind = value->kind,
		.proto = key->proto,
		.port = ntohs(key->port),
		.addr = dp_addr_out(&key->addr),
		.affinity_s = value->affinity_s,
		.outside_differs = value->flags & K3C_SERVICE_OUTSIDE,
		.damaged = !services_kind_fits(key, value),
	};
	bool members = s.affinity_s && !s.damaged;

	if (!services_kind_has(s.kind, key)) /* told so that whoever deletes it means this row */
		s.kind = key->scope == K3C_SCOPE_NODE ? DP_NODE_PORT : DP_CLUSTER_IP;
	s.backends = backends = services_read_set(dp, all, value->inside, members, &s, &s.n_backends);
	if (s.outside_differs)
		s.outside = outside = services_read_set(dp, all, value->outside, members, &s, &s.n_outside);
	s.sources = sources = sources_read(dp, value->sources, &s.n_sources);
	if (s.n_sources != value->n_sources || !value->sources != !value->n_sources)
		s.damaged = true;
	fn(arg, &s);
}

/* Entry by entry. */
static int services_each_slowly(struct dataplane *dp, dataplane_service_fn *fn, void *arg, struct err *err)
{
	int fd = dp->maps[DP_MAP_SERVICE];
	struct k3c_service_key key;

	keys_foreach(fd, key) {
		struct k3c_service value;

		if (bpf_map_lookup_elem(fd, &key, &value) == 0)
			services_report(dp, NULL, &key, &value, fn, arg);
	}
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_SERVICE), strerror(errno));
}

void services_tell(struct dataplane *dp, const struct k3c_service_key *key, const struct k3c_service *value,
		   dataplane_service_fn *fn, void *arg)
{
	services_report(dp, NULL, key, value, fn, arg);
}

bool dataplane_service_has(struct dataplane *dp, const struct dp_service *frontend)
{
	struct k3c_service_key key;
	struct k3c_service value;

	services_key(frontend, &key);
	return bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &value) == 0;
}

int dataplane_service_each(struct dataplane *dp, dataplane_service_fn *fn, void *arg, struct err *err)
{
	_cleanup_(services_all_finish) struct services_all all = { 0 };

	if (services_all_read(dp, &all) < 0)
		return services_each_slowly(dp, fn, arg, err);
	for (size_t i = 0; i < all.n; i++)
		services_report(dp, &all, &all.keys[i], &all.values[i], fn, arg);
	return 0;
}

/* As lb_by_address() of bpf/lib/lb.h finds it. */
int dataplane_service_get(struct dataplane *dp, const struct dp_addr *addr, uint16_t port, uint8_t proto,
			  bool from_host, dataplane_service_fn *fn, void *arg)
{
	struct k3c_service_key key = { .addr = dp_addr_in(addr), .port = htons(port), .proto = proto };
	bool v4 = dp_addr_is_v4(&key.addr);
	bool loopback = v4 ? addr->b[12] == 127 : !key.addr.q[0] && !key.addr.w[2] && key.addr.w[3] == htonl(1);
	struct k3c_service value;

	if (loopback && !from_host)
		return -ENOENT;
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &value) < 0) {
		if (!loopback && !dataplane_is_node_address(dp, addr))
			return -ENOENT;
		key.scope = K3C_SCOPE_NODE;
		key.addr = v4 ? dp_addr_v4(0) : (struct k3c_addr){ 0 };
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &value) < 0)
			return -ENOENT;
	}
	services_report(dp, NULL, &key, &value, fn, arg);
	return 0;
}

static void services_name_sets(struct map *used, const struct k3c_service *s)
{
	map_put(used, str_make((const char *)&s->inside.set, sizeof(s->inside.set)), used);
	map_put(used, str_make((const char *)&s->outside.set, sizeof(s->outside.set)), used);
	map_put(used, str_make((const char *)&s->sources, sizeof(s->sources)), used);
}

/* A server that died between writing a set and naming it in a frontend leaves the set; somebody may have written
 * others by hand. A kernel that does not read whole maps keeps them. */
uint32_t services_collect_orphans(struct dataplane *dp)
{
	_cleanup_(services_all_finish) struct services_all all = { 0 };
	_cleanup_(map_finish) struct map used = MAP_INIT;
	uint32_t n;

	if (services_all_read(dp, &all) < 0)
		return 0;
	for (size_t i = 0; i < all.n; i++)
		services_name_sets(&used, &all.values[i]);
	n = sources_collect_orphans(dp, &used);
	for (size_t i = 0; i < all.n_slots; i++) {
		const struct k3c_backend_key *slot = &all.slots[i].key;

		if (map_has(&used, str_make((const char *)&slot->set, sizeof(slot->set))))
			continue;
		bpf_map_delete_elem(dp->maps[DP_MAP_BACKEND], slot);
		n++;
	}
	return n;
}

void dataplane_services_distrust(struct dataplane *dp, bool distrust)
{
	if (dp->sets_shared && !distrust)
		(void)services_collect_orphans(dp);
	dp->sets_shared = distrust;
}
