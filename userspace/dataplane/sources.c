/* SPDX-License-Identifier: Apache-2.0 */
/* Source ranges of services: numbered sets of prefixes in k3c_source, never changed, only replaced: a frontend keeps
 * the number of its set while the ranges stay the same. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/include/service.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pressure.h"

static void sources_key(const struct dp_net *net, uint32_t set, struct k3c_source_key *ret)
{
	struct k3c_addr mask = dp_mask(net->bits);

	memset(ret, 0, sizeof(*ret));
	ret->prefixlen = K3C_SOURCE_BITS_FIXED + net->bits;
	ret->set = set;
	for (int i = 0; i < 16; i++)
		ret->addr.b[i] = net->addr.b[i] & mask.b[i];
}

/* Exactly this range, not a wider one around it. */
static bool sources_has(struct dataplane *dp, const struct k3c_source_key *key)
{
	uint32_t value;

	return bpf_map_lookup_elem(dp->maps[DP_MAP_SOURCE], key, &value) == 0 && value == key->prefixlen;
}

/* Without the ones named before. */
static size_t sources_distinct(const struct dp_service *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_sources; i++) {
		struct k3c_source_key a, b;
		bool again = false;

		sources_key(&s->sources[i], 0, &a);
		for (size_t k = 0; k < i && !again; k++) {
			sources_key(&s->sources[k], 0, &b);
			again = memcmp(&a, &b, sizeof(a)) == 0;
		}
		n += !again;
	}
	return n;
}

uint32_t sources_scan(struct dataplane *dp, bool (*fn)(void *arg, const struct k3c_source_key *key), void *arg)
{
	struct k3c_source_key key, *dead = NULL;
	int fd = dp->maps[DP_MAP_SOURCE];
	size_t n = 0, cap = 0;

	keys_foreach(fd, key) {
		if (!fn(arg, &key))
			continue;
		mem_grow(dead, cap, n + 1);
		dead[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &dead[i]);
	free(dead);
	return (uint32_t)n;
}

static bool sources_of_set(void *arg, const struct k3c_source_key *key)
{
	return key->set == *(uint32_t *)arg;
}

void sources_delete(struct dataplane *dp, uint32_t set)
{
	if (set)
		(void)sources_scan(dp, sources_of_set, &set);
}

struct sources_counter {
	uint32_t set;
	uint32_t n;
};

static bool sources_counted(void *arg, const struct k3c_source_key *key)
{
	struct sources_counter *c = arg;

	c->n += key->set == c->set;
	return false;
}

static uint32_t sources_count(struct dataplane *dp, uint32_t set)
{
	struct sources_counter c = { .set = set };

	(void)sources_scan(dp, sources_counted, &c);
	return c.n;
}

bool sources_same(struct dataplane *dp, const struct dp_service *s, uint32_t set, uint16_t n)
{
	if (!set || !s->n_sources)
		return !set && !s->n_sources && !n;
	if (sources_distinct(s) != n)
		return false;
	for (size_t i = 0; i < s->n_sources; i++) {
		struct k3c_source_key key;

		sources_key(&s->sources[i], set, &key);
		if (!sources_has(dp, &key))
			return false;
	}
	return sources_count(dp, set) == n; /* one more lets others in */
}

int sources_write(struct dataplane *dp, const struct dp_service *s, uint32_t set, uint16_t *ret_n, struct err *err)
{
	size_t distinct = sources_distinct(s);

	if (distinct > UINT16_MAX)
		return err_set(err, -E2BIG, "more than %u source ranges", UINT16_MAX);
	for (size_t i = 0; i < s->n_sources; i++) {
		struct k3c_source_key key;
		int code;

		sources_key(&s->sources[i], set, &key);
		if (bpf_map_update_elem(dp->maps[DP_MAP_SOURCE], &key, &key.prefixlen, BPF_ANY) == 0)
			continue;
		code = pressure_write_failed(dp, DP_MAP_SOURCE, err);
		sources_delete(dp, set);
		return code;
	}
	*ret_n = (uint16_t)distinct;
	return 0;
}

static bool sources_unused(void *arg, const struct k3c_source_key *key)
{
	return !map_has(arg, str_make((const char *)&key->set, sizeof(key->set)));
}

uint32_t sources_collect_orphans(struct dataplane *dp, struct map *used)
{
	return sources_scan(dp, sources_unused, used);
}

struct sources_list {
	uint32_t set;
	struct dp_net *nets;
	size_t n, cap;
};

static bool sources_listed(void *arg, const struct k3c_source_key *key)
{
	struct sources_list *l = arg;

	if (key->set != l->set)
		return false;
	mem_grow(l->nets, l->cap, l->n + 1);
	l->nets[l->n++] = (struct dp_net){ .addr = dp_addr_out(&key->addr),
					   .bits = (uint8_t)(key->prefixlen - K3C_SOURCE_BITS_FIXED) };
	return false;
}

static int sources_net_compare(const void *a, const void *b)
{
	const struct dp_net *x = a, *y = b;
	int c = memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));

	return c ? c : (int)x->bits - (int)y->bits;
}

/* The kernel gives the narrow ones before those around them. */
struct dp_net *sources_read(struct dataplane *dp, uint32_t set, size_t *ret_n)
{
	struct sources_list l = { .set = set };

	if (set)
		(void)sources_scan(dp, sources_listed, &l);
	if (l.n)
		qsort(l.nets, l.n, sizeof(*l.nets), sources_net_compare);
	*ret_n = l.n;
	return l.nets;
}
