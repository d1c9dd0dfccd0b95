/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, owners, selectors, conditions. Loop thread only. */
#include "userspace/controllers/objects.h"

#include <inttypes.h>
#include <stdio.h>

#include "userspace/base/clock.h"
#include "userspace/base/encode.h"

void objects_add(struct objects *list, const struct object *o)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 16;
		const struct object **items = arena_alloc(list->arena, cap * sizeof(*items));

		if (list->n > 0)
			memcpy(items, list->items, list->n * sizeof(*items));
		list->items = items;
		list->cap = cap;
	}
	list->items[list->n++] = o;
}

static void collect(void *arg, const struct object *o)
{
	objects_add(arg, o);
}

struct objects objects_all(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str ns)
{
	struct objects list = { .arena = arena };

	registry_each(reg, kind, ns, collect, &list);
	return list;
}

struct collect_filter {
	struct objects list;
	const struct api_kind *kind;
};

static void collect_kind(void *arg, const struct object *o)
{
	struct collect_filter *f = arg;

	if (object_is(o, f->kind))
		objects_add(&f->list, o);
}

struct objects objects_owned(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str uid)
{
	struct collect_filter f = { .list = { .arena = arena }, .kind = kind };

	registry_each_owned(reg, uid, collect_kind, &f);
	return f.list;
}

static void collect_orphan(void *arg, const struct object *o)
{
	if (!object_controller(o))
		objects_add(arg, o);
}

struct objects objects_orphans(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str ns)
{
	struct objects list = { .arena = arena };

	registry_each(reg, kind, ns, collect_orphan, &list);
	return list;
}

bool object_is(const struct object *o, const struct api_kind *kind)
{
	return o->resource == kind->resource;
}

bool object_controlled_by(const struct object *o, struct str uid)
{
	const struct object_owner *owner = object_controller(o);

	return owner && str_eq(owner->uid, uid);
}

bool object_matches(const struct object *o, const struct selector *selector)
{
	return selector_matches(selector, (const struct api_label *)o->labels, o->n_labels);
}

struct selector selector_of_labels(struct arena *arena, const struct json *label_selector)
{
	struct selector s;

	if (selector_from_json(arena, label_selector, &s, NULL) < 0)
		s = (struct selector){ .nothing = true };
	return s;
}

struct selector selector_of_map(struct arena *arena, const struct json *map)
{
	struct selector s;

	if (json_count(map) == 0)
		return (struct selector){ .nothing = true };
	selector_from_map(arena, map, &s);
	return s;
}

/* ---- building ---- */

struct json *object_new(struct arena *arena, const struct api_kind *kind, struct str ns, struct str name)
{
	struct json *o = json_new_object(arena);
	struct json *meta;

	json_set_cstr(arena, o, "apiVersion", api_kind_api_version(kind));
	json_set_cstr(arena, o, "kind", kind->kind);
	meta = json_ensure_object(arena, o, "metadata");
	if (ns.n > 0)
		json_set_str(arena, meta, "namespace", ns);
	if (name.n > 0)
		json_set_str(arena, meta, "name", name);
	return o;
}

void object_set_controller(struct arena *arena, struct json *object, const struct api_kind *kind,
			   const struct object *owner)
{
	struct json *meta = json_ensure_object(arena, object, "metadata");
	struct json *owners = json_ensure_array(arena, meta, "ownerReferences");
	struct json *ref = json_new_object(arena);

	json_set_cstr(arena, ref, "apiVersion", api_kind_api_version(kind));
	json_set_cstr(arena, ref, "kind", kind->kind);
	json_set_str(arena, ref, "name", arena_str(arena, owner->name));
	json_set_str(arena, ref, "uid", arena_str(arena, owner->uid));
	json_set_bool(arena, ref, "controller", true);
	json_set_bool(arena, ref, "blockOwnerDeletion", true);
	json_append(owners, ref);
}

const char *object_hash(struct arena *arena, const struct json *v, int64_t collisions)
{
	/* No vowels and no digits that make words or numbers of it. */
	static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
	_cleanup_buf_ struct buf text = BUF_INIT;
	char digits[16];
	char *hash;
	size_t n;

	json_write(&text, v);
	if (collisions > 0)
		buf_printf(&text, "%" PRId64, collisions);
	n = (size_t)snprintf(digits, sizeof(digits), "%" PRIu32, fnv32a(buf_str(&text).p, buf_len(&text)));
	hash = arena_zalloc(arena, n + 1);
	for (size_t i = 0; i < n; i++)
		hash[i] = alphabet[(unsigned char)digits[i] % (sizeof(alphabet) - 1)];
	return hash;
}

const char *stamp_now(struct arena *arena)
{
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(clock_real_ns(), text);
	return arena_strdup(arena, text);
}

int64_t stamp_ns(struct str stamp)
{
	int64_t ns;

	if (stamp.n == 0 || clock_parse_rfc3339(stamp, &ns) < 0)
		return 0;
	return ns;
}

int64_t stamp_at_ns(const struct json *v, const char *dotted_path)
{
	return stamp_ns(json_at_str(v, dotted_path));
}

/* ---- conditions ---- */

bool condition_set(struct arena *arena, struct json *conditions, const struct condition *c)
{
	struct json *at = meta_condition(conditions, c->type);
	const char *now = stamp_now(arena);
	bool moved;

	if (at && str_is(json_get_str(at, "status"), c->status) && str_is(json_get_str(at, "reason"), c->reason) &&
	    str_is(json_get_str(at, "message"), c->message))
		return false;
	moved = !at || !str_is(json_get_str(at, "status"), c->status);
	if (!at) {
		at = json_new_object(arena);
		json_set_cstr(arena, at, "type", c->type);
		json_append(conditions, at);
	}
	json_set_cstr(arena, at, "status", c->status);
	if (c->update_time)
		json_set_cstr(arena, at, "lastUpdateTime", now);
	if (moved)
		json_set_cstr(arena, at, "lastTransitionTime", now);
	json_set_cstr(arena, at, "reason", c->reason);
	json_set_cstr(arena, at, "message", c->message);
	return true;
}

bool condition_remove(struct json *conditions, const char *type)
{
	struct json *at = meta_condition(conditions, type);

	if (!at)
		return false;
	json_unlink(conditions, at);
	return true;
}
