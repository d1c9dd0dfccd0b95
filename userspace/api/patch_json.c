/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Patch (RFC 6902) with JSON Pointers (RFC 6901), as upstream reads them: negative array indices count from the
 * end, a member that is not there may be replaced, what stands before the first slash and escapes that are none are
 * passed over, and whatever does not apply is refused in the same few words. Works on a clone. Any thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/decode_value.h"
#include "userspace/api/meta.h"
#include "userspace/api/patch.h"
#include "userspace/api/patch_internal.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

struct run {
	struct arena *arena;
	struct json *root;
	struct patch_budget budget;
	size_t nodes;       /* that copies and moves may still touch */
	struct map objects; /* large ones by their address: struct large * */
	struct err *err;
};

/* An object of so many members that they are found by hash. One that is removed stays in the chain without its key
 * until somebody looks at the object as a whole. */
struct large {
	struct json *object;
	struct map members;
	bool holes;
};

#define LARGE_MEMBERS 64

static struct str address_of(struct json *const *v)
{
	return str_make((const char *)v, sizeof(*v));
}

static struct large *large_of(struct run *run, struct json *v)
{
	struct large *l = run->objects.n ? map_get(&run->objects, address_of(&v)) : NULL;

	if (l || !json_is(v, JSON_OBJECT) || v->count < LARGE_MEMBERS)
		return l;
	l = mem_zalloc(sizeof(*l));
	l->object = v;
	json_foreach(m, v)
		map_put(&l->members, m->key, m);
	map_put(&run->objects, address_of(&v), l);
	return l;
}

static void large_close(struct large *l)
{
	struct json *next, *c = json_first(l->object);

	if (!l->holes)
		return;
	patch_empty(l->object);
	for (; c; c = next) {
		next = c->next;
		if (c->key.p)
			json_append(l->object, c);
	}
	l->holes = false;
}

static void large_free(struct large *l)
{
	if (!l)
		return;
	map_finish(&l->members);
	free(l);
}

/* The node gets other contents. */
static void forget(struct run *run, struct json *v)
{
	struct large *l = run->objects.n ? map_remove(&run->objects, address_of(&v)) : NULL;

	if (l)
		large_close(l);
	large_free(l);
}

static void forget_all(struct run *run)
{
	map_foreach(e, &run->objects) {
		large_close(e->value);
		large_free(e->value);
	}
	map_finish(&run->objects);
}

/* Somebody looks at all of the value. */
static void close_below(struct run *run, struct json *v)
{
	struct large *l = run->objects.n ? map_get(&run->objects, address_of(&v)) : NULL;

	if (!run->objects.n)
		return;
	if (l)
		large_close(l);
	json_foreach(c, v)
		if (c->type == JSON_OBJECT || c->type == JSON_ARRAY)
			close_below(run, c);
}

/* Upstream does not tell the client which operation it was. */
static int refuse(struct err *err)
{
	return err_set_status(err, -EINVAL, 422, "Invalid",
			      "the server rejected our request due to an error in our request");
}

/* ---- pointers ---- */

static struct str unescape(struct arena *arena, struct str token)
{
	char *out;
	size_t n = 0;

	if (str_find(token, '~') < 0)
		return token;
	out = arena_alloc(arena, token.n + 1);
	for (size_t i = 0; i < token.n; i++) {
		char next = i + 1 < token.n ? token.p[i + 1] : 0;

		if (token.p[i] == '~' && (next == '0' || next == '1')) {
			out[n++] = next == '0' ? '~' : '/';
			i++;
		} else {
			out[n++] = token.p[i];
		}
	}
	return str_make(out, n);
}

/* The element at an index token; NULL when there is none. */
static struct json *element(const struct json *array, struct str token)
{
	int64_t i;

	if (str_to_int64(token, &i) < 0)
		return NULL;
	if (i < 0)
		i += (int64_t)array->count;
	return i < 0 || i >= (int64_t)array->count ? NULL : json_index(array, (size_t)i);
}

static struct json *child(struct run *run, struct json *v, struct str token)
{
	struct large *l = large_of(run, v);

	if (l)
		return map_get(&l->members, token);
	return json_is(v, JSON_ARRAY) ? element(v, token) : json_get_n(v, token);
}

static void set_member(struct run *run, struct json *object, struct str name, struct json *value)
{
	struct json *before = child(run, object, name);
	struct large *l = large_of(run, object);

	if (before) {
		forget(run, before);
		forget(run, value);
		json_replace(before, value);
		return;
	}
	value->key = name.p ? name : STR("");
	json_append(object, value);
	if (l)
		map_put(&l->members, name, value);
}

/* Of a large object the node goes on as a copy: it stays in the chain as a hole. */
static struct json *take_child(struct run *run, struct json *parent, struct json *at)
{
	struct large *l = json_is(parent, JSON_OBJECT) ? large_of(run, parent) : NULL;
	struct json *taken;

	if (!l) {
		json_unlink(parent, at);
		at->next = NULL;
		return at;
	}
	forget(run, at);
	taken = json_new(run->arena, JSON_NULL);
	json_replace(taken, at);
	map_remove(&l->members, at->key);
	at->key = STR_NULL;
	l->holes = true;
	parent->count--;
	return taken;
}

/* What finding `token` in a container costs. */
static size_t steps_in(struct run *run, struct json *v, struct str token)
{
	int64_t i;

	if (json_is(v, JSON_ARRAY) && str_is(token, "-"))
		return 1;
	if (json_is(v, JSON_ARRAY) && str_to_int64(token, &i) == 0 && i >= 0 && i < (int64_t)v->count)
		return (size_t)i + 1;
	return large_of(run, v) ? 1 : json_count(v) + 1;
}

/* Walks to the parent of what `path` names. *ret_depth counts its tokens. 1 when there is no such parent; the whole
 * document ("") has none either. */
static int walk(struct run *run, struct str path, struct json **ret_parent, struct str *ret_last, size_t *ret_depth)
{
	struct json *at = run->root, *parent = NULL;
	long slash = str_find(path, '/');
	struct str token, last = STR("");
	size_t depth = 0;

	for (size_t i = slash < 0 ? path.n : (size_t)slash; i < path.n;) {
		size_t end = ++i;

		while (end < path.n && path.p[end] != '/')
			end++;
		token = unescape(run->arena, str_make(path.p + i, end - i));
		if (++depth > PATCH_POINTER_DEPTH_MAX)
			return refuse(run->err);
		if (depth > 1) {
			at = child(run, at, last);
			if (!json_is(at, JSON_OBJECT) && !json_is(at, JSON_ARRAY))
				return 1;
		}
		if (patch_charge(&run->budget, steps_in(run, at, token), run->err) < 0)
			return -E2BIG;
		parent = at;
		last = token;
		i = end;
	}
	if (!parent)
		return 1;
	*ret_parent = parent;
	*ret_last = last;
	*ret_depth = depth;
	return 0;
}

/* The value at `path`: NULL when an object has no such member. What else is not there is refused. */
static int find(struct run *run, struct str path, struct json **ret)
{
	struct json *parent, *v;
	struct str last;
	size_t depth;
	int r = walk(run, path, &parent, &last, &depth);

	if (r != 0)
		return r < 0 ? r : refuse(run->err);
	v = child(run, parent, last);
	if (!v && json_is(parent, JSON_ARRAY))
		return refuse(run->err);
	*ret = v;
	return 0;
}

/* ---- operations ---- */

/* Height of a subtree; counts its nodes against the run's limit. */
static int measure(struct run *run, const struct json *v, size_t *ret_height)
{
	size_t height = 0;

	if (!run->nodes--) {
		run->nodes = 0;
		return api_err_too_large(run->err, "the patch copies too much");
	}
	json_foreach(c, v) {
		size_t h;
		int r = measure(run, c, &h);

		if (r < 0)
			return r;
		if (h > height)
			height = h;
	}
	*ret_height = height + 1;
	return 0;
}

static void insert_before(struct json *array, struct json *at, struct json *v)
{
	struct json **link = &array->first;

	v->key = STR_NULL;
	if (!at) {
		json_append(array, v);
		return;
	}
	while (*link && *link != at)
		link = &(*link)->next;
	v->next = *link;
	*link = v;
	if (!v->next)
		array->last = v;
	array->count++;
}

/* Where an item goes: in front of *ret, NULL: at the end. */
static int place_of(struct run *run, const struct json *array, struct str token, struct json **ret)
{
	int64_t i;

	if (str_is(token, "-")) {
		*ret = NULL;
		return 0;
	}
	if (str_to_int64(token, &i) < 0)
		return refuse(run->err);
	if (i < 0)
		i += (int64_t)array->count + 1;
	if (i < 0 || i > (int64_t)array->count)
		return refuse(run->err);
	*ret = i == (int64_t)array->count ? NULL : json_index(array, (size_t)i);
	return 0;
}

static int measured(struct run *run, struct json *value, size_t depth)
{
	size_t height;
	int r;

	close_below(run, value);
	r = measure(run, value, &height);

	if (r < 0)
		return r;
	return depth + height > JSON_DEPTH_MAX ? refuse(run->err) : 0;
}

static int add(struct run *run, struct str path, struct json *value)
{
	struct json *parent, *at = NULL;
	struct str last;
	size_t depth;
	int r = walk(run, path, &parent, &last, &depth);

	if (r != 0)
		return r < 0 ? r : refuse(run->err);
	r = measured(run, value, depth);
	if (r >= 0 && json_is(parent, JSON_ARRAY))
		r = place_of(run, parent, last, &at);
	if (r < 0)
		return r;
	if (json_is(parent, JSON_OBJECT))
		set_member(run, parent, last, value);
	else
		insert_before(parent, at, value);
	return 0;
}

static int take(struct run *run, struct str path, struct json **ret)
{
	struct json *parent, *at;
	struct str last;
	size_t depth;
	int r = walk(run, path, &parent, &last, &depth);

	if (r < 0)
		return r;
	at = r == 0 ? child(run, parent, last) : NULL;
	if (!at)
		return refuse(run->err);
	*ret = take_child(run, parent, at);
	return 0;
}

static int replace(struct run *run, struct str path, struct json *value)
{
	struct json *parent, *at;
	struct str last;
	size_t depth = 0;
	int r;

	if (path.n == 0) {
		if (!json_is(value, JSON_OBJECT) && !json_is(value, JSON_ARRAY))
			return refuse(run->err);
		r = measured(run, value, 0);
		if (r >= 0)
			run->root = value;
		return r;
	}
	r = walk(run, path, &parent, &last, &depth);
	if (r == 0)
		r = measured(run, value, depth);
	if (r != 0)
		return r < 0 ? r : refuse(run->err);
	at = child(run, parent, last);
	if (!at && json_is(parent, JSON_ARRAY))
		return refuse(run->err);
	if (at) {
		forget(run, at);
		forget(run, value);
		json_replace(at, value);
	} else {
		set_member(run, parent, last, value);
	}
	return 0;
}

static int move(struct run *run, struct str from, struct str path)
{
	struct json *value;
	int r = take(run, from, &value);

	return r < 0 ? r : add(run, path, value);
}

static int copy(struct run *run, struct str from, struct str path)
{
	struct json *value;
	size_t height;
	int r = find(run, from, &value);

	if (r < 0)
		return r;
	if (!value)
		return add(run, path, json_new(run->arena, JSON_NULL));
	close_below(run, value);
	r = measure(run, value, &height); /* before the memory is taken */
	if (r < 0)
		return r;
	return add(run, path, json_clone(run->arena, value));
}

static int test(struct run *run, struct str path, const struct json *wanted)
{
	struct json *have = run->root;
	int r = path.n ? find(run, path, &have) : 0;

	if (r < 0)
		return r;
	/* Absent passes for null, as upstream has it. */
	if (!have && json_is(wanted, JSON_NULL))
		return 0;
	if (have)
		close_below(run, have);
	if (!have || !json_equal(have, wanted))
		return refuse(run->err);
	return 0;
}

static int run_one(struct run *run, const struct json *operation)
{
	struct str op = json_get_str(operation, "op"), path = json_get_str(operation, "path"),
		   from = json_get_str(operation, "from");
	struct json *value = json_get(operation, "value"), *removed;

	if (!json_is(operation, JSON_OBJECT))
		return api_err_bad_request(run->err,
					   "error decoding patch: json: cannot unmarshal %s into Go value of type "
					   "handlers.jsonPatchOp",
					   decode_json_word(operation));
	if (!json_is(json_get(operation, "path"), JSON_STRING))
		return refuse(run->err);
	if (str_is(op, "remove"))
		return take(run, path, &removed);
	if (str_is(op, "move") || str_is(op, "copy")) {
		if (!json_is(json_get(operation, "from"), JSON_STRING))
			return refuse(run->err);
		return str_is(op, "move") ? move(run, from, path) : copy(run, from, path);
	}
	if (!str_is(op, "add") && !str_is(op, "replace") && !str_is(op, "test"))
		return refuse(run->err);
	if (str_is(op, "test"))
		return test(run, path, value ? value : json_new(run->arena, JSON_NULL));
	value = value ? json_clone(run->arena, value) : json_new(run->arena, JSON_NULL);
	return str_is(op, "add") ? add(run, path, value) : replace(run, path, value);
}

int patch_json(struct arena *arena, const struct json *original, const struct json *operations, struct json **ret,
	       struct err *err)
{
	struct run run = { .arena = arena, .budget = { PATCH_STEPS_MAX }, .nodes = PATCH_NODES_MAX, .err = err };
	int r = 0;

	if (!json_is(operations, JSON_ARRAY))
		return api_err_bad_request(err,
					   "error decoding patch: json: cannot unmarshal %s into Go value of type "
					   "[]handlers.jsonPatchOp",
					   decode_json_word(operations));
	if (json_count(operations) > PATCH_OPERATIONS_MAX)
		return api_err_too_large(err, "The allowed maximum operations in a JSON patch is %d, got %zu",
					 PATCH_OPERATIONS_MAX, json_count(operations));
	run.root = json_clone(arena, original);
	json_foreach(op, operations) {
		r = run_one(&run, op);
		if (r < 0)
			break;
	}
	forget_all(&run);
	if (r >= 0)
		*ret = run.root;
	return r;
}
