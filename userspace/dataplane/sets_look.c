/* SPDX-License-Identifier: Apache-2.0 */
/* See sets_look.h. */
#include "userspace/dataplane/sets_look.h"

#include <bpf/bpf.h>
#include <string.h>

#include "bpf/include/service.h"
#include "userspace/dataplane/internal.h"

void sets_look_begin(struct sets_look *l, struct dataplane *dp)
{
	*l = (struct sets_look){ .dp = dp, .used = MAP_INIT, .first_new = dp->next_set };
}

void sets_look_finish(struct sets_look *l)
{
	map_finish(&l->used);
}

/* Its value: of what index its first row that nobody reads would be, and one, so that there is none without. */
static void sets_name(struct sets_look *l, uint32_t set, uint32_t count)
{
	struct str key = str_make((const char *)&set, sizeof(set));
	uintptr_t end = (uintptr_t)count + 1;

	if ((uintptr_t)map_get(&l->used, key) < end)
		map_put(&l->used, key, (void *)end);
}

void sets_look_names(struct sets_look *l, const struct k3c_service *s)
{
	sets_name(l, s->inside.set, s->inside.count);
	sets_name(l, s->outside.set, s->outside.count);
	sets_name(l, s->sources, 0);
}

static bool sets_made_since(const struct sets_look *l, uint32_t set)
{
	return set - l->first_new < l->dp->next_set - l->first_new;
}

static bool sets_is_orphan(struct sets_look *l, uint32_t set)
{
	return !sets_made_since(l, set) && !map_has(&l->used, str_make((const char *)&set, sizeof(set)));
}

/* Behind the last of its set. How many a set has is what frontends say: not asked while some say what was not written
 * to them. */
static bool sets_is_surplus(const struct sets_look *l, const struct k3c_backend_key *key)
{
	uintptr_t end = (uintptr_t)map_get(&l->used, str_make((const char *)&key->set, sizeof(key->set)));

	return end && !(key->index & K3C_BACKEND_MEMBER) && key->index >= end - 1 && !l->dp->sets_shared &&
	       !sets_made_since(l, key->set);
}

static bool sets_source_orphan(void *arg, const struct k3c_source_key *key)
{
	return sets_is_orphan(arg, key->set);
}

static void sets_look_rows(void *arg, const char *keys, const char *values, uint32_t n)
{
	struct sets_look *l = arg;

	for (uint32_t i = 0; i < n; i++) {
		struct k3c_backend_key key;

		memcpy(&key, keys + i * sizeof(key), sizeof(key));
		if ((sets_is_orphan(l, key.set) || sets_is_surplus(l, &key)) &&
		    bpf_map_delete_elem(l->dp->maps[DP_MAP_BACKEND], &key) == 0)
			l->deleted++;
	}
}

int sets_look_piece(struct sets_look *l, struct batch_walk *walk, uint32_t rows, uint32_t *ret_deleted)
{
	int r = batch_piece(l->dp->maps[DP_MAP_BACKEND], walk, rows, sets_look_rows, l);

	if (r == 0)
		l->deleted += sources_scan(l->dp, sets_source_orphan, l);
	*ret_deleted = l->deleted;
	l->deleted = 0;
	return r;
}
