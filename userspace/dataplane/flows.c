/* SPDX-License-Identifier: Apache-2.0 */
/* What frontends lead to, as a table that is asked for thousands of flows. The loop goes on changing the maps
 * meanwhile: where a frontend is not what it was when the table was made, the maps themselves are asked. */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "bpf/include/service.h"
#include "userspace/dataplane/batch.h"
#include "userspace/dataplane/flows.h"
#include "userspace/dataplane/internal.h"

struct flows_frontend {
	struct k3c_service_key key;
	union k3c_service_set inside, outside;
};

struct flows_slot {
	uint32_t set, pad;
	struct k3c_addr addr;
	uint16_t port, pad2[3];
};
_Static_assert(sizeof(struct flows_slot) == 32, "compared as bytes");

struct flows_view {
	int service_fd, backend_fd;
	struct flows_frontend *frontends;
	struct flows_slot *slots;
	size_t n, n_slots, cap, cap_slots;
};

static void flows_add_frontends(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct flows_view *v = arg;

	mem_grow(v->frontends, v->cap, v->n + n);
	for (uint32_t i = 0; i < n; i++) {
		struct flows_frontend *f = &v->frontends[v->n++];
		struct k3c_service s;

		memcpy(&f->key, keys + i * sizeof(f->key), sizeof(f->key));
		memcpy(&s, values + i * sizeof(s), sizeof(s));
		f->inside = s.inside;
		f->outside = s.outside;
	}
}

static void flows_add_backends(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct flows_view *v = arg;

	mem_grow(v->slots, v->cap_slots, v->n_slots + n);
	for (uint32_t i = 0; i < n; i++) {
		struct k3c_backend_key key;
		struct k3c_backend b;

		memcpy(&key, keys + i * sizeof(key), sizeof(key));
		memcpy(&b, values + i * sizeof(b), sizeof(b));
		if (!(key.index & K3C_BACKEND_MEMBER))
			v->slots[v->n_slots++] = (struct flows_slot){ .set = key.set, .addr = b.addr, .port = b.port };
	}
}

static int flows_frontend_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct k3c_service_key));
}

static int flows_slot_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct flows_slot));
}

int flows_view_read(int service_fd, int backend_fd, struct flows_view **ret)
{
	struct flows_view *v = mem_new(struct flows_view);
	int r;

	v->service_fd = service_fd;
	v->backend_fd = backend_fd;
	r = batch_each(service_fd, flows_add_frontends, v);
	if (r == 0)
		r = batch_each(backend_fd, flows_add_backends, v);
	if (r < 0) {
		flows_view_free(v);
		return r;
	}
	if (v->n)
		qsort(v->frontends, v->n, sizeof(*v->frontends), flows_frontend_cmp);
	if (v->n_slots)
		qsort(v->slots, v->n_slots, sizeof(*v->slots), flows_slot_cmp);
	*ret = v;
	return 0;
}

void flows_view_free(struct flows_view *v)
{
	if (!v)
		return;
	free(v->frontends);
	free(v->slots);
	free(v);
}

/* In the table. */
static bool flows_slot_has(const struct flows_view *v, union k3c_service_set set, const struct k3c_addr *addr,
			   uint16_t port)
{
	struct flows_slot key = { .set = set.set, .addr = *addr, .port = port };

	return v->n_slots && bsearch(&key, v->slots, v->n_slots, sizeof(key), flows_slot_cmp);
}

/* In the map. */
static bool flows_set_has(const struct flows_view *v, union k3c_service_set set, const struct k3c_addr *addr,
			  uint16_t port)
{
	for (uint32_t i = 0; i < set.count; i++) {
		struct k3c_backend_key key = { .set = set.set, .index = i };
		struct k3c_backend b;

		if (bpf_map_lookup_elem(v->backend_fd, &key, &b) == 0 && b.port == port &&
		    memcmp(&b.addr, addr, sizeof(*addr)) == 0)
			return true;
	}
	return false;
}

/* -1: there is no such frontend. */
static int flows_frontend_leads(const struct flows_view *v, const struct k3c_service_key *key,
				const struct k3c_addr *addr, uint16_t port)
{
	const struct flows_frontend *f =
		v->n ? bsearch(key, v->frontends, v->n, sizeof(*v->frontends), flows_frontend_cmp) : NULL;
	struct k3c_service now;

	if (f && (flows_slot_has(v, f->inside, addr, port) || flows_slot_has(v, f->outside, addr, port)))
		return 1;
	/* Before anybody is sent away: is the answer still true? */
	if (bpf_map_lookup_elem(v->service_fd, key, &now) < 0)
		return -1;
	if (f && now.inside.word == f->inside.word && now.outside.word == f->outside.word)
		return 0;
	return flows_set_has(v, now.inside, addr, port) || flows_set_has(v, now.outside, addr, port);
}

/* As lb_find() of bpf/lib/lb.h looks; whether an address is the node's is not asked: it was, and where it is no more
 * nothing arrives. */
bool flows_view_leads(const struct flows_view *v, const struct k3c_addr *frontend, uint16_t port_be, uint8_t proto,
		      const struct k3c_addr *backend, uint16_t backend_port_be)
{
	struct k3c_service_key key = { .addr = *frontend, .port = port_be, .proto = proto, .scope = K3C_SCOPE_ADDR };
	int r = flows_frontend_leads(v, &key, backend, backend_port_be);

	if (r >= 0)
		return r;
	key.scope = K3C_SCOPE_NODE;
	key.addr = dp_addr_is_v4(frontend) ? dp_addr_v4(0) : (struct k3c_addr){ 0 };
	return flows_frontend_leads(v, &key, backend, backend_port_be) > 0;
}
