/* SPDX-License-Identifier: Apache-2.0 */
/* Which sets of maps there are, and which of them is the one that the attached programs live by. A set as pinset.c
 * makes them is whole, and its programs never see anything else; but a build from before that renames its pins over
 * those of another one by one, and may have been killed at any of them. Names then say nothing: what the attached
 * programs hold does. Loop thread. */
#include "userspace/dataplane/maps_found.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/log.h"
#include "userspace/dataplane/pinset.h"
#include "userspace/dataplane/strangers.h"

static bool set_has(const struct map_set *s, uint32_t id)
{
	for (size_t i = 0; i < s->n_ids; i++)
		if (s->ids[i] == id)
			return true;
	return false;
}

static bool sets_have(const struct maps_found *f, uint32_t id)
{
	for (size_t i = 0; i < f->n; i++)
		if (set_has(&f->sets[i], id))
			return true;
	return false;
}

struct found_walk {
	const struct maps_found *found;
	const struct map_set *set; /* one that the others lack; NULL: of no set */
	bool hit;
};

static void found_use(void *arg, uint32_t map_id)
{
	struct found_walk *w = arg;

	if (!w->hit)
		w->hit =
			w->set ? set_has(w->set, map_id) && !sets_have(w->found, map_id) : !sets_have(w->found, map_id);
}

/* Does a program that is still in the kernel use what only this set has? */
static bool found_is_alive(const struct maps_found *f, const struct map_set *s)
{
	struct found_walk w = { .found = f, .set = s };

	strangers_each_map_in_use(found_use, &w);
	return w.hit;
}

/* False: there is no room, or nobody uses what only this one has. */
static bool found_add(struct maps_found *f, const char *folder, bool alive_only)
{
	struct map_set *s = &f->sets[f->n];

	if (f->n == DP_SETS_MAX)
		return false;
	snprintf(s->folder, sizeof(s->folder), "%s", folder);
	s->n_ids = pinset_ids(folder, s->ids, MAPS_SET_IDS);
	if (alive_only && !found_is_alive(f, s))
		return false;
	f->n++;
	return true;
}

/* Replaced ones, the newest first. Those that nobody uses any more are of a start that came to its end but for this. */
static void found_add_old(struct maps_found *f, const char *pin_dir)
{
	char folder[DP_PATH_MAX], own[DP_PATH_MAX];
	size_t i = 0;

	while (f->n < DP_SETS_MAX && pinset_old(pin_dir, PINSET_MAPS, i, folder)) {
		pinset_own(pin_dir, strrchr(folder, '/') + 1, own);
		if (found_add(f, own, true))
			i++;
		else
			pinset_drop(folder);
	}
}

/* What an older build has pinned around a set is then where to go on from, as far as maps go that mean something alone;
 * of the set itself, what programs still use. */
static void found_order(struct maps_found *f, const char *pin_dir)
{
	char outer[DP_PATH_MAX], own[DP_PATH_MAX];
	struct found_walk w = { .found = f };

	snprintf(outer, sizeof(outer), "%s/" PINSET_MAPS, pin_dir);
	pinset_own(pin_dir, PINSET_MAPS, own);
	found_add(f, own, false);
	found_add_old(f, pin_dir);
	f->attached = strangers_each_map_attached(pin_dir, found_use, &w) > 0;
	f->foreign = w.hit;
	if (!f->foreign || strcmp(outer, own) == 0)
		return;
	f->n = 0;
	found_add(f, outer, false);
	found_add(f, own, true);
	found_add_old(f, pin_dir);
}

struct maps_found *maps_found_create(const char *pin_dir, struct bpf_object *object,
				     const uint32_t entries[static DP_MAP_COUNT])
{
	struct maps_found *f = mem_new(struct maps_found);

	found_order(f, pin_dir);
	if (f->foreign)
		log_info("programs of another build are at work with maps of their own, all is made beside them");
	for (size_t i = 0; i < f->n; i++)
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
			maps_look(f->sets[i].folder, m, bpf_object__find_map_by_name(object, map_rows[m].name),
				  entries[m], &f->sets[i].look[m]);
	return f;
}

void maps_found_destroy(struct maps_found *f)
{
	for (size_t i = 0; f && i < f->n; i++)
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
			mem_closep(&f->sets[i].look[m].fd);
	free(f);
}
