/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of managed_*.c share: the decoded list. */
#pragma once

#include "userspace/api/fieldset.h"
#include "userspace/api/managed_fields.h"
#include "userspace/api/typed.h"

struct managed_entry {
	struct str manager, api_version, time, subresource;
	bool applied;
	const struct json *text; /* fieldsV1 as it was; NULL once the set was changed */
	struct fieldset *set;    /* when parsed */
	bool parsed, gone;
};

struct managed_list {
	struct managed_entry *v;
	size_t n, room; /* always room for two more than were there */
};

/* -EINVAL in upstream's words. */
int managed_decode(struct arena *arena, const struct json *list, struct managed_list *ret, struct err *err);
/* Sorted; NULL: no entry is left. */
struct json *managed_encode(struct arena *arena, struct managed_list *list);
int managed_set(struct arena *arena, struct managed_entry *e, struct err *err);
void managed_change(struct managed_entry *e, struct fieldset *set);
/* The entry of that identity, or NULL. Appliers have one whatever their version. */
struct managed_entry *managed_find(struct managed_list *list, const struct managed_write *w, bool applied);
struct managed_entry *managed_add(struct managed_list *list, const struct managed_write *w, bool applied);
void managed_stamp(struct arena *arena, struct managed_entry *e, int64_t now_real_ns);
void managed_cap(struct arena *arena, struct managed_list *list);

/* The view of w->kind's resource with that version; NULL: there is none. */
const struct api_kind *managed_version(const struct managed_write *w, struct str api_version);
struct json *managed_convert(struct arena *arena, const struct managed_write *w, const struct json *object,
			     const struct api_kind *from, const struct api_kind *to);

/* Fields that a write of that subresource never sets. */
struct fieldset *managed_reset_fields(struct arena *arena, const struct api_kind *kind, const char *subresource);
/* Without what nobody owns: names, uid, versions, times of the server. */
struct fieldset *managed_strip(struct arena *arena, struct fieldset *set);

/* Takes what a write changed from the entries but `self`; `conflicts` (NULL: taken by force) is told first. */
struct managed_conflict {
	const struct managed_entry *entry;
	struct fieldset *set;
};

struct managed_conflicts {
	struct managed_conflict *v;
	size_t n;
};
int managed_take(struct arena *arena, const struct managed_write *w, struct managed_list *list,
		 const struct managed_entry *self, const struct json *live, const struct json *object,
		 struct managed_conflicts *conflicts, struct fieldset **ret_comparison, struct err *err);
