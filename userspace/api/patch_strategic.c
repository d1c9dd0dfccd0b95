/* SPDX-License-Identifier: Apache-2.0 */
/* Strategic merge patch. Maps merge key by key; lists whose field says `merge` are merged by their merge
 * key (objects) or as sets (primitives), all others are replaced. Directives:
 *   $patch: replace|delete       in a map, or in an element of a merged list (delete: by its merge key;
 *                                an element that holds only $patch: replace makes the whole list replace)
 *   $retainKeys: [k...]          the map keeps only those keys
 *   $setElementOrder/f: [...]    the order of the merged list f
 *   $deleteFromPrimitiveList/f   values to take out of the primitive list f
 * Elements that the patch names are ordered as in the patch and stand before the server's own ones that
 * cannot be compared with them, as upstream does. Works on clones. Any thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/api/patch.h"
#include "userspace/api/patch_internal.h"
#include "userspace/base/mem.h"

#define DIRECTIVE "$patch"
#define RETAIN_KEYS "$retainKeys"
#define SET_ORDER "$setElementOrder/"
#define DELETE_PRIMITIVES "$deleteFromPrimitiveList/"

/* What is known of a value: a message's fields, or a map's element; both NULL: nothing. */
struct schema {
	const struct api_message *message;
	const struct api_field *element;
};

struct merge {
	struct arena *arena;
	struct patch_budget budget;
	struct err *err;
};

static int merge_map(struct merge *m, struct schema schema, struct json *original, struct json *patch,
		     struct json **ret);

static const struct api_field *field_of(struct schema schema, struct str name)
{
	if (schema.message)
		return api_message_field(schema.message, name);
	return schema.element;
}

static struct schema below(const struct api_field *f)
{
	if (!f)
		return (struct schema){ 0 };
	if (f->type == API_ARRAY)
		return below(f->elem);
	if (f->type == API_MAP)
		return (struct schema){ .element = f->elem };
	return (struct schema){ .message = f->type == API_OBJECT ? f->ref : NULL };
}

static bool merges(const struct api_field *f)
{
	return f && f->type == API_ARRAY && (f->patch_strategy & API_PATCH_MERGE);
}

static struct str prefixed(struct str key, const char *prefix)
{
	size_t n = strlen(prefix);

	return str_starts(key, str_of(prefix)) ? str_make(key.p + n, key.n - n) : STR_NULL;
}

/* ---- words ---- */

static const char *go_text(struct merge *m, const struct json *v)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	patch_print_go(m->arena, &out, v);
	return arena_strdup(m->arena, buf_cstr(&out));
}

/* Errors that upstream has no status for. */
#define UNEXPECTED(m, ...) err_set_status((m)->err, -EINVAL, 500, "", __VA_ARGS__)

static int unknown_directive(struct merge *m, const struct json *directive, const struct json *map)
{
	return UNEXPECTED(m, "unknown patch type: %s in map: %s", go_text(m, directive), go_text(m, map));
}

/* ---- values that are new to the original ---- */

static bool is_directive(struct str key)
{
	return str_is(key, DIRECTIVE) || str_is(key, RETAIN_KEYS) || prefixed(key, SET_ORDER).p ||
	       prefixed(key, DELETE_PRIMITIVES).p;
}

/* Takes directives and nulls out of a value that is put in whole. */
static void clean(struct json *v)
{
	struct json *next, *c = json_first(v);

	if (!c)
		return;
	patch_empty(v);
	for (; c; c = next) {
		next = c->next;
		if (v->type == JSON_OBJECT && (c->type == JSON_NULL || is_directive(c->key)))
			continue;
		if (v->type == JSON_ARRAY && json_is(c, JSON_OBJECT)) {
			struct str directive = json_get_str(c, DIRECTIVE);

			if (str_is(directive, "delete") || (str_is(directive, "replace") && json_count(c) == 1))
				continue;
		}
		clean(c);
		json_append(v, c);
	}
}

static struct json *fresh(struct merge *m, const struct json *patch)
{
	struct json *v = json_clone(m->arena, patch);

	if (json_is(v, JSON_OBJECT) && str_is(json_get_str(v, DIRECTIVE), "delete"))
		return json_new_object(m->arena);
	clean(v);
	return v;
}

/* ---- lists as arrays of elements ---- */

struct items {
	struct json **v;
	size_t n;
};

static struct items items_of(struct merge *m, const struct json *list)
{
	struct items it = { arena_new_array(m->arena, struct json *, json_count(list) + 1), 0 };

	json_foreach(c, list)
		it.v[it.n++] = c;
	return it;
}

/* Two elements name the same thing: by merge key, or by value when there is none. NULL: it names nothing. */
static const struct json *name_of(const struct json *v, const char *merge_key)
{
	return merge_key ? json_get(v, merge_key) : v;
}

/* The elements of a list by what they name: places in `items`, from 1. */
struct places {
	struct name_set set;
	const struct items *items;
	const char *merge_key;
};

static void places_add(struct places *p, size_t i)
{
	const struct json *name = name_of(p->items->v[i], p->merge_key);

	if (name)
		name_set_put_value(&p->set, name, &p->items->v[i]);
}

static void places_init(struct places *p, const struct items *items, const char *merge_key)
{
	name_set_init(&p->set);
	p->items = items;
	p->merge_key = merge_key;
	for (size_t i = 0; i < items->n; i++)
		places_add(p, i);
}

static void places_finish(struct places *p)
{
	name_set_finish(&p->set);
}

#define _cleanup_places_ _cleanup_(places_finish)

/* The place of what `v` names in the list, or -1. */
static long index_in(const struct places *p, const struct json *v)
{
	const struct json *name = name_of(v, p->merge_key);
	struct json *const *at = name ? name_set_get_value(&p->set, name) : NULL;

	return at ? (long)(at - p->items->v) : -1;
}

struct placed {
	struct json *v;
	long rank, server; /* place in the wanted order, and in the server's */
	size_t at;
};

static int cmp_placed(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

/* Orders the merged list: elements in `wanted` by it, the others by the server's order, and the two woven
 * together where the server knew both. */
static void order(struct merge *m, struct json *list, const struct items *wanted, const struct items *server,
		  const char *merge_key)
{
	_cleanup_places_ struct places in_server, in_wanted;
	struct items all = items_of(m, list);
	struct placed *in = arena_new_array(m->arena, struct placed, all.n + 1),
		      *out = arena_new_array(m->arena, struct placed, all.n + 1);
	size_t n_in = 0, n_out = 0, i = 0, j = 0;

	places_init(&in_server, server, merge_key);
	places_init(&in_wanted, wanted, merge_key);
	for (size_t k = 0; k < all.n; k++) {
		struct placed p = { .v = all.v[k], .at = k };

		p.server = index_in(&in_server, p.v);
		p.rank = index_in(&in_wanted, p.v);
		if (p.rank >= 0) {
			in[n_in++] = p;
		} else {
			p.rank = p.server;
			out[n_out++] = p;
		}
	}
	qsort(in, n_in, sizeof(*in), cmp_placed);
	qsort(out, n_out, sizeof(*out), cmp_placed);
	patch_empty(list);
	while (i < n_out || j < n_in) {
		bool server_first = j == n_in || (i < n_out && out[i].server >= 0 && in[j].server >= 0 &&
						  out[i].server < in[j].server);
		struct json *v = server_first ? out[i++].v : in[j++].v;

		json_append(list, v);
	}
}

/* ---- lists ---- */

static int no_merge_key(struct merge *m, const struct json *map, const char *merge_key)
{
	return UNEXPECTED(m, "map: %s does not contain declared merge key: %s", go_text(m, map), merge_key);
}

/* Takes out of a list what the set names. */
static void remove_named(struct json *list, const struct name_set *names, const char *merge_key)
{
	struct json *next, *c = json_first(list);

	if (!names->n && !names->map.n)
		return;
	patch_empty(list);
	for (; c; c = next) {
		const struct json *name = name_of(c, merge_key);

		next = c->next;
		if (!name || !name_set_get_value(names, name))
			json_append(list, c);
	}
}

/* Does what elements with $patch say; they leave the patch. *ret_replace: the patch's rest is the new list. */
static int special_elements(struct merge *m, struct json *original, struct json *patch, const char *merge_key,
			    bool *ret_replace)
{
	_cleanup_name_set_ struct name_set deleted;
	struct json *next, *p = json_first(patch);

	name_set_init(&deleted);
	*ret_replace = false;
	patch_empty(patch);
	for (; p; p = next) {
		const struct json *directive = json_get(p, DIRECTIVE);
		struct str what = json_str(directive);

		next = p->next;
		if (!directive) {
			json_append(patch, p);
			continue;
		}
		if (str_is(what, "replace")) {
			*ret_replace = true;
		} else if (str_is(what, "delete")) {
			if (!json_get(p, merge_key))
				return no_merge_key(m, p, merge_key);
			name_set_put_value(&deleted, json_get(p, merge_key), p);
		} else if (str_is(what, "merge")) {
			return UNEXPECTED(m, "merging lists cannot yet be specified in the patch");
		} else {
			return unknown_directive(m, directive, p);
		}
	}
	remove_named(original, &deleted, merge_key);
	return 0;
}

static int merge_elements(struct merge *m, struct schema schema, struct json *original, struct json *patch,
			  const char *merge_key)
{
	struct items have = items_of(m, original);
	struct json **room = arena_new_array(m->arena, struct json *, have.n + json_count(patch) + 1);
	_cleanup_places_ struct places places;

	/* Room for all of the patch: a second element with the same key must meet the first one. */
	memcpy(room, have.v, have.n * sizeof(*room));
	have.v = room;
	places_init(&places, &have, merge_key);
	json_foreach(p, patch) {
		struct json *merged;
		long at;
		int r;

		if (!json_get(p, merge_key))
			return no_merge_key(m, p, merge_key);
		at = index_in(&places, p);
		if (at < 0) {
			have.v[have.n] = fresh(m, p);
			json_append(original, have.v[have.n]);
			places_add(&places, have.n++);
			continue;
		}
		r = merge_map(m, schema, have.v[at], json_clone(m->arena, p), &merged);
		if (r < 0)
			return r;
		if (merged != have.v[at])
			json_replace(have.v[at], merged);
	}
	return 0;
}

/* Lists of primitives are sets. */
static void merge_primitives(struct merge *m, struct json *original, const struct json *patch, bool deletes)
{
	_cleanup_name_set_ struct name_set seen;

	name_set_init(&seen);
	if (!deletes)
		json_foreach(o, original)
			name_set_put_value(&seen, o, o);
	json_foreach(p, patch)
		if (name_set_put_value(&seen, p, p) == p && !deletes)
			json_append(original, json_clone(m->arena, p));
	if (deletes)
		remove_named(original, &seen, NULL);
}

/* All elements of both lists are of one sort: 1 objects, 0 primitives. */
static int element_sort(struct merge *m, const struct json *a, const struct json *b)
{
	const struct json *lists[] = { a, b };
	int sort = -1;

	for (size_t i = 0; i < 2; i++)
		json_foreach(c, lists[i]) {
			int s = c->type == JSON_OBJECT;

			if (c->type == JSON_ARRAY)
				return err_set_status(m->err, -EINVAL, 422, "Invalid",
						      "the server rejected our request due to an error in our request");
			if (sort >= 0 && sort != s)
				return UNEXPECTED(m, "list element types are not identical: [%s %s]", go_text(m, a),
						  go_text(m, b));
			sort = s;
		}
	return sort == 1;
}

/* `original` is changed in place. */
static int merge_list(struct merge *m, const struct api_field *f, struct json *original, struct json *patch,
		      bool deletes)
{
	struct items server, wanted;
	bool replace = false;
	int r = element_sort(m, original, patch);

	if (r < 0)
		return r;
	if (r == 0) {
		server = items_of(m, json_clone(m->arena, original));
		merge_primitives(m, original, patch, deletes);
		if (deletes)
			return 0;
		wanted = items_of(m, patch);
		order(m, original, &wanted, &server, NULL);
		return 0;
	}
	if (!f->patch_merge_key)
		return UNEXPECTED(m, "cannot merge lists without merge key for type struct");
	r = special_elements(m, original, patch, f->patch_merge_key, &replace);
	if (r < 0)
		return r;
	if (replace) {
		clean(patch);
		json_replace(original, patch);
		return 0;
	}
	server = items_of(m, json_clone(m->arena, original));
	r = merge_elements(m, below(f), original, patch, f->patch_merge_key);
	if (r < 0)
		return r;
	wanted = items_of(m, patch);
	order(m, original, &wanted, &server, f->patch_merge_key);
	return 0;
}

/* ---- $setElementOrder ---- */

/* The patch's elements must stand in the wanted order. */
static int check_order(struct merge *m, const struct json *patch, const struct json *order_list,
		       const struct items *wanted, const char *merge_key)
{
	_cleanup_places_ struct places places;
	long last = -1;

	places_init(&places, wanted, merge_key);
	json_foreach(p, patch) {
		long at;

		if (json_get(p, DIRECTIVE))
			continue;
		at = index_in(&places, p);
		if (at < 0 || at < last)
			return UNEXPECTED(m,
					  "The order in patch list:\n%s\n doesn't match $setElementOrder list:\n%s\n",
					  go_text(m, patch), go_text(m, order_list));
		last = at;
	}
	return 0;
}

/* What counts as the server's order for elements outside of the wanted one: the old elements that are left, and in
 * the room of those that went as many new ones. Upstream's result has this order; clients compare with it. */
static void known_order(struct merge *m, const struct items *before, const struct json *merged, const char *merge_key,
			struct items *ret)
{
	_cleanup_places_ struct places in_after, in_before;
	struct items after = items_of(m, merged),
		     known = { arena_new_array(m->arena, struct json *, before->n + 1), 0 };

	places_init(&in_after, &after, merge_key);
	places_init(&in_before, before, merge_key);
	for (size_t i = 0; i < before->n; i++)
		if (index_in(&in_after, before->v[i]) >= 0)
			known.v[known.n++] = before->v[i];
	for (size_t i = 0; i < after.n && known.n < before->n; i++)
		if (index_in(&in_before, after.v[i]) < 0)
			known.v[known.n++] = after.v[i];
	*ret = known;
}

static int set_order(struct merge *m, struct schema schema, struct json *original, struct json *patch, struct str name,
		     const struct json *order_list)
{
	const struct api_field *f = field_of(schema, name);
	struct json *have = json_get_n(original, name), *change = json_get_n(patch, name);
	struct items wanted, server;
	const char *merge_key;
	int r;

	if (!json_is(order_list, JSON_ARRAY) || !merges(f) || (change && !json_is(change, JSON_ARRAY)))
		return api_err_bad_request(m->err, "invalid patch format of setElementOrder list");
	merge_key = json_is(json_first(order_list), JSON_OBJECT) ? f->patch_merge_key : NULL;
	wanted = items_of(m, order_list);
	r = change ? check_order(m, change, order_list, &wanted, merge_key) : 0;
	if (r < 0)
		return r;
	if (!json_is(have, JSON_ARRAY)) {
		if (!change)
			return 0;
		have = fresh(m, change);
		json_set_n(original, name, have);
		server = (struct items){ 0 };
	} else {
		struct items before = items_of(m, json_clone(m->arena, have));

		server = before;
		r = change ? merge_list(m, f, have, change, false) : 0;
		if (r == 0 && change && merge_key)
			known_order(m, &before, have, merge_key, &server);
		if (r < 0)
			return r;
	}
	if (change)
		json_unlink(patch, change);
	order(m, have, &wanted, &server, merge_key);
	return 0;
}

static int set_orders(struct merge *m, struct schema schema, struct json *original, struct json *patch)
{
	struct json *next;

	for (struct json *p = json_first(patch); p; p = next) {
		struct str name = prefixed(p->key, SET_ORDER);
		int r;

		next = p->next;
		if (!name.p)
			continue;
		r = set_order(m, schema, original, patch, name, p);
		if (r < 0)
			return r;
		/* set_order() may have taken the neighbour away. */
		next = p->next;
		json_unlink(patch, p);
	}
	return 0;
}

/* ---- maps ---- */

static int retain_keys(struct merge *m, struct json *original, struct json *patch)
{
	struct json *keys = json_remove(patch, RETAIN_KEYS), *next, *o;
	_cleanup_name_set_ struct name_set kept;

	name_set_init(&kept);
	if (!keys)
		return 0;
	if (!json_is(keys, JSON_ARRAY))
		return api_err_bad_request(m->err, "invalid patch format of retainKeys");
	json_foreach(k, keys)
		if (json_is(k, JSON_STRING))
			name_set_put(&kept, k->text, k);
	json_foreach(p, patch)
		if (p->type != JSON_NULL && !is_directive(p->key) && !name_set_get(&kept, p->key))
			return api_err_bad_request(m->err, "invalid patch format of retainKeys");
	o = json_first(original);
	patch_empty(original);
	for (; o; o = next) {
		next = o->next;
		if (name_set_get(&kept, o->key))
			json_append(original, o);
	}
	return 0;
}

static int merge_member(struct merge *m, struct schema schema, struct patch_members *original, struct json *p)
{
	struct str name = prefixed(p->key, DELETE_PRIMITIVES);
	bool deletes = name.p != NULL;
	const struct api_field *f;
	struct json *have, *merged;
	int r;

	if (!deletes)
		name = p->key;
	if (p->type == JSON_NULL) {
		patch_members_remove(original, name);
		return 0;
	}
	f = field_of(schema, name);
	have = patch_members_get(original, name);
	if (!have || have->type != p->type) {
		if (!deletes)
			patch_members_set(original, name, fresh(m, p));
		return 0;
	}
	if (p->type == JSON_OBJECT) {
		r = merge_map(m, below(f), have, p, &merged);
		if (r == 0 && merged != have)
			json_replace(have, merged);
		return r;
	}
	if (p->type == JSON_ARRAY && (merges(f) || deletes)) {
		if (!merges(f))
			return api_err_bad_request(m->err, "invalid patch format of primitive list");
		return merge_list(m, f, have, p, deletes);
	}
	json_replace(have, fresh(m, p));
	return 0;
}

/* Both are the caller's to lose; *ret is `original` changed, or another value in its place. */
static int merge_map(struct merge *m, struct schema schema, struct json *original, struct json *patch,
		     struct json **ret)
{
	const struct json *directive = json_get(patch, DIRECTIVE);
	struct patch_members members;
	struct json *next;
	int r;

	if (directive) {
		struct str what = json_str(directive);

		if (str_is(what, "delete")) {
			*ret = json_new_object(m->arena);
			return 0;
		}
		if (!str_is(what, "replace"))
			return unknown_directive(m, directive, patch);
		json_remove(patch, DIRECTIVE);
		clean(patch);
		*ret = json_clone(m->arena, patch);
		return 0;
	}
	if (patch_charge(&m->budget, (json_count(patch) + 1) * (size_t)8 + json_count(original), m->err) < 0)
		return -E2BIG;
	r = retain_keys(m, original, patch);
	if (r < 0)
		return r;
	r = set_orders(m, schema, original, patch);
	if (r < 0)
		return r;
	patch_members_init(&members, original, patch);
	for (struct json *p = json_first(patch); p && r >= 0; p = next) {
		next = p->next;
		r = merge_member(m, schema, &members, p);
	}
	patch_members_finish(&members);
	*ret = original;
	return r;
}

int patch_strategic(struct arena *arena, const struct api_message *message, const struct json *original,
		    const struct json *patch, struct json **ret, struct err *err)
{
	struct merge m = { .arena = arena, .budget = { PATCH_STEPS_MAX }, .err = err };
	struct schema schema = { .message = message };

	if (!json_is(original, JSON_OBJECT) || !json_is(patch, JSON_OBJECT))
		return api_err_bad_request(err, "error decoding patch: a strategic merge patch is of an object");
	return merge_map(&m, schema, json_clone(arena, original), json_clone(arena, patch), ret);
}
