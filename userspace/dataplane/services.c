/* SPDX-License-Identifier: Apache-2.0 */
/* Services into maps: a new set of backends, then the frontend's value, then the old set goes (bpf/include/service.h
 * says why). Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/internal.h"

/* Every address of the node. */
static bool services_any_address(const struct dp_service *s)
{
	struct k3c_addr a = dp_addr_in(&s->addr);

	return s->kind == DP_NODE_PORT || (s->kind == DP_HOST_PORT && dp_addr_is_zero(&a));
}

static void services_key(const struct dp_service *s, struct k3c_service_key *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->port = htons(s->port);
	ret->proto = s->proto;
	if (services_any_address(s))
		ret->scope = K3C_SCOPE_NODE;
	else
		ret->addr = dp_addr_in(&s->addr);
}

static void services_backend(const struct dp_backend *b, struct k3c_backend *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->addr = dp_addr_in(&b->addr);
	ret->port = htons(b->port);
}

static int services_full(struct dataplane *dp, enum dp_map m, struct err *err)
{
	int code = errno;

	if (code == E2BIG || code == ENOSPC)
		return err_set(err, -ENOSPC, "map %s is full: raise its limit", maps_name(m));
	return err_set(err, -code, "write %s: %s", maps_name(m), strerror(code));
}

static void services_delete_set(struct dataplane *dp, const struct k3c_service *s)
{
	int fd = dp->maps[DP_MAP_BACKEND];

	for (uint32_t i = 0; i < s->count; i++) {
		struct k3c_backend_key key = { .set = s->set, .index = i };
		struct k3c_backend b;

		if (s->affinity_s && bpf_map_lookup_elem(fd, &key, &b) == 0) {
			struct k3c_backend_key member = { .set = s->set, .index = k3c_backend_hash(&b.addr, b.port) };

			bpf_map_delete_elem(fd, &member);
		}
		bpf_map_delete_elem(fd, &key);
	}
}

static int services_write_set(struct dataplane *dp, const struct dp_service *s, const struct k3c_service *value,
			      struct err *err)
{
	int fd = dp->maps[DP_MAP_BACKEND];

	for (uint32_t i = 0; i < value->count; i++) {
		struct k3c_backend_key key = { .set = value->set, .index = i };
		struct k3c_backend b;
		int r;

		services_backend(&s->backends[i], &b);
		r = bpf_map_update_elem(fd, &key, &b, BPF_ANY);
		if (r == 0 && value->affinity_s) {
			key.index = k3c_backend_hash(&b.addr, b.port);
			r = bpf_map_update_elem(fd, &key, &b, BPF_ANY);
		}
		if (r < 0) {
			r = services_full(dp, DP_MAP_BACKEND, err);
			services_delete_set(dp, value);
			return r;
		}
	}
	return 0;
}

static bool services_same(struct dataplane *dp, const struct dp_service *s, const struct k3c_service *old)
{
	if (old->count != s->n_backends || old->affinity_s != s->affinity_s || old->id != s->id || old->kind != s->kind)
		return false;
	for (uint32_t i = 0; i < old->count; i++) {
		struct k3c_backend_key key = { .set = old->set, .index = i };
		struct k3c_backend have, want;

		services_backend(&s->backends[i], &want);
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_BACKEND], &key, &have) < 0 ||
		    memcmp(&have, &want, sizeof(have)) != 0)
			return false;
	}
	return true;
}

/* The answers of the host itself need a look only once somebody may reach it through a frontend on a link. */
static int services_note_host_backends(struct dataplane *dp, const struct dp_service *s, struct err *err)
{
	if (s->kind == DP_CLUSTER_IP || (dp->meta.flags & K3C_META_HOST_BACKENDS) || !dp->options.pod_nets[DP_V4].bits)
		return 0;
	for (size_t i = 0; i < s->n_backends; i++) {
		struct k3c_addr a = dp_addr_in(&s->backends[i].addr);

		if (dp_addr_in_net(&a, &dp->options.pod_nets[DP_V4].addr, dp->options.pod_nets[DP_V4].bits))
			continue;
		dp->meta.flags |= K3C_META_HOST_BACKENDS;
		return dataplane_meta_write(dp, err);
	}
	return 0;
}

int dataplane_service_set(struct dataplane *dp, const struct dp_service *s, struct err *err)
{
	struct k3c_service_key key;
	struct k3c_service old = { 0 }, value = { 0 };
	bool had;
	int r;

	if (s->proto != IPPROTO_TCP && s->proto != IPPROTO_UDP)
		return err_set(err, -EPROTONOSUPPORT, "services carry TCP and UDP only");
	services_key(s, &key);
	had = bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &old) == 0;
	if (had && services_same(dp, s, &old))
		return 0;
	r = services_note_host_backends(dp, s, err);
	if (r < 0)
		return r;
	value.set = dataplane_next_set(dp);
	value.count = (uint32_t)s->n_backends;
	value.affinity_s = s->affinity_s;
	value.id = s->id;
	value.kind = s->kind;
	r = services_write_set(dp, s, &value, err);
	if (r < 0)
		return r;
	if (bpf_map_update_elem(dp->maps[DP_MAP_SERVICE], &key, &value, BPF_ANY) < 0) {
		r = services_full(dp, DP_MAP_SERVICE, err);
		services_delete_set(dp, &value);
		return r;
	}
	if (had)
		services_delete_set(dp, &old);
	return 0;
}

int dataplane_service_delete(struct dataplane *dp, const struct dp_service *frontend, struct err *err)
{
	struct k3c_service_key key;
	struct k3c_service old;

	services_key(frontend, &key);
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &old) < 0)
		return 0;
	if (bpf_map_delete_elem(dp->maps[DP_MAP_SERVICE], &key) < 0 && errno != ENOENT)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_SERVICE), strerror(errno));
	services_delete_set(dp, &old);
	return 0;
}

static void services_report(struct dataplane *dp, const struct k3c_service_key *key, const struct k3c_service *value,
			    dataplane_service_fn *fn, void *arg)
{
	_cleanup_free_ struct dp_backend *backends = mem_new_array(struct dp_backend, value->count + 1);
	struct dp_service s = {
		.id = value->id,
		.kind = (uint8_t)value->kind,
		.proto = key->proto,
		.port = ntohs(key->port),
		.addr = dp_addr_out(&key->addr),
		.affinity_s = value->affinity_s,
		.backends = backends,
	};

	for (uint32_t i = 0; i < value->count; i++) {
		struct k3c_backend_key slot = { .set = value->set, .index = i };
		struct k3c_backend b;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_BACKEND], &slot, &b) < 0)
			continue;
		backends[s.n_backends].addr = dp_addr_out(&b.addr);
		backends[s.n_backends++].port = ntohs(b.port);
	}
	fn(arg, &s);
}

int dataplane_service_each(struct dataplane *dp, dataplane_service_fn *fn, void *arg, struct err *err)
{
	int fd = dp->maps[DP_MAP_SERVICE];
	struct k3c_service_key key, next;
	bool first = true;

	while (bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0) {
		struct k3c_service value;

		key = next;
		first = false;
		if (bpf_map_lookup_elem(fd, &key, &value) == 0)
			services_report(dp, &key, &value, fn, arg);
	}
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_SERVICE), strerror(errno));
}

/* A server that died between writing a set and naming it in a frontend leaves the set: it goes at the next open. */
int services_collect_orphans(struct dataplane *dp, struct err *err)
{
	_cleanup_(map_finish) struct map used = MAP_INIT;
	struct k3c_service_key key, next;
	struct k3c_backend_key *dead = NULL, slot, next_slot;
	size_t n_dead = 0, cap = 0;
	bool first = true;

	while (bpf_map_get_next_key(dp->maps[DP_MAP_SERVICE], first ? NULL : &key, &next) == 0) {
		struct k3c_service value;

		key = next;
		first = false;
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_SERVICE], &key, &value) == 0)
			map_put(&used, str_make((char *)&value.set, sizeof(value.set)), dp);
	}
	first = true;
	while (bpf_map_get_next_key(dp->maps[DP_MAP_BACKEND], first ? NULL : &slot, &next_slot) == 0) {
		slot = next_slot;
		first = false;
		if (map_has(&used, str_make((char *)&slot.set, sizeof(slot.set))))
			continue;
		mem_grow(dead, cap, n_dead + 1);
		dead[n_dead++] = slot;
	}
	for (size_t i = 0; i < n_dead; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_BACKEND], &dead[i]);
	free(dead);
	return 0;
}
