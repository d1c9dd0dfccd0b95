/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Patch (RFC 6902) with JSON Pointers (RFC 6901). Works on a clone. As upstream, negative array
 * indices count from the end. Any thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/api/patch.h"
#include "userspace/api/patch_internal.h"
#include "userspace/base/mem.h"

struct run {
	struct arena *arena;
	struct json *root;
	struct patch_budget budget;
	size_t nodes; /* that copies and moves may still touch */
	struct err *err;
};

static int refuse(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct err *err, const char *fmt, ...)
{
	char detail[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	return err_set_status(err, -EINVAL, 422, "Invalid",
			      "the server rejected our request due to an error in our request: %s", detail);
}

/* ---- pointers ---- */

static int unescape(struct arena *arena, struct str token, struct str *ret)
{
	char *out;
	size_t n = 0;

	if (str_find(token, '~') < 0) {
		*ret = token;
		return 0;
	}
	out = arena_alloc(arena, token.n + 1);
	for (size_t i = 0; i < token.n; i++) {
		char c = token.p[i];

		if (c == '~') {
			if (++i == token.n || (token.p[i] != '0' && token.p[i] != '1'))
				return -EINVAL;
			c = token.p[i] == '0' ? '~' : '/';
		}
		out[n++] = c;
	}
	*ret = str_make(out, n);
	return 0;
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

static struct json *child(const struct json *v, struct str token)
{
	return json_is(v, JSON_ARRAY) ? element(v, token) : json_get_n(v, token);
}

/* Walks to the parent of what `path` names. *ret_depth counts its tokens; the whole document has no parent:
 * *ret_parent is NULL then. 1 when the parent is not there. */
static int walk(struct run *run, struct str path, struct json **ret_parent, struct str *ret_last, size_t *ret_depth)
{
	struct json *at = run->root, *parent = NULL;
	struct str token, last = STR("");
	size_t depth = 0;

	if (path.n && path.p[0] != '/')
		return refuse(run->err, "the JSON pointer \"%.*s\" does not begin with a slash", STR_ARG(path));
	for (size_t i = 0; i < path.n;) {
		size_t end = ++i;

		while (end < path.n && path.p[end] != '/')
			end++;
		if (unescape(run->arena, str_make(path.p + i, end - i), &token) < 0)
			return refuse(run->err, "bad escape in the JSON pointer \"%.*s\"", STR_ARG(path));
		if (++depth > PATCH_POINTER_DEPTH_MAX)
			return refuse(run->err, "the JSON pointer is too deep");
		if (depth > 1) {
			at = child(at, last);
			if (!at)
				return 1;
		}
		if (patch_charge(&run->budget, json_count(at) + 1, run->err) < 0)
			return -E2BIG;
		parent = at;
		last = token;
		i = end;
	}
	*ret_parent = parent;
	*ret_last = last;
	*ret_depth = depth;
	return 0;
}

/* The value at `path`, NULL when absent (with 0). */
static int find(struct run *run, struct str path, struct json **ret)
{
	struct json *parent;
	struct str last;
	size_t depth;
	int r = walk(run, path, &parent, &last, &depth);

	if (r < 0)
		return r;
	*ret = r ? NULL : parent ? child(parent, last) : run->root;
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
	while (*link && *link != at)
		link = &(*link)->next;
	v->next = *link;
	*link = v;
	if (!v->next)
		array->last = v;
	array->count++;
}

static int add(struct run *run, struct str path, struct json *value)
{
	size_t depth, height;
	struct json *parent, *at;
	struct str last;
	int r = walk(run, path, &parent, &last, &depth);

	if (r < 0)
		return r;
	if (r > 0)
		return refuse(run->err, "add operation does not apply: doc is missing path: \"%.*s\": missing value",
			      STR_ARG(path));
	r = measure(run, value, &height);
	if (r < 0)
		return r;
	if (depth + height > JSON_DEPTH_MAX)
		return refuse(run->err, "the result is nested too deeply");
	if (!parent) {
		run->root = value;
		return 0;
	}
	if (json_is(parent, JSON_OBJECT)) {
		json_set_n(parent, last, value);
		return 0;
	}
	if (!json_is(parent, JSON_ARRAY))
		return refuse(run->err, "add operation does not apply: doc is missing path: \"%.*s\": missing value",
			      STR_ARG(path));
	if (str_is(last, "-")) {
		json_append(parent, value);
		return 0;
	}
	at = element(parent, last);
	if (!at) {
		int64_t i;

		if (str_to_int64(last, &i) < 0 || i != (int64_t)parent->count)
			return refuse(run->err,
				      "error in add for path: '%.*s': Unable to access invalid index: %.*s: "
				      "invalid index referenced",
				      STR_ARG(path), STR_ARG(last));
	}
	insert_before(parent, at, value);
	return 0;
}

static int take(struct run *run, const char *op, struct str path, struct json **ret)
{
	struct json *parent, *at;
	struct str last;
	size_t depth;
	int r = walk(run, path, &parent, &last, &depth);

	if (r < 0)
		return r;
	if (r > 0 || !parent)
		return refuse(run->err, "%s operation does not apply: doc is missing path: \"%.*s\": missing value", op,
			      STR_ARG(path));
	at = child(parent, last);
	if (!at)
		return refuse(run->err,
			      "error in %s for path: '%.*s': Unable to remove nonexistent key: %.*s: missing value", op,
			      STR_ARG(path), STR_ARG(last));
	json_unlink(parent, at);
	at->next = NULL;
	*ret = at;
	return 0;
}

static int replace(struct run *run, struct str path, struct json *value)
{
	struct json *parent, *at;
	size_t depth, height;
	struct str last;
	int r = walk(run, path, &parent, &last, &depth);

	if (r < 0)
		return r;
	at = r > 0 ? NULL : parent ? child(parent, last) : run->root;
	if (!at)
		return refuse(run->err, "replace operation does not apply: doc is missing %s: %.*s: missing value",
			      r > 0 ? "path" : "key", STR_ARG(path));
	r = measure(run, value, &height);
	if (r < 0)
		return r;
	if (depth + height > JSON_DEPTH_MAX)
		return refuse(run->err, "the result is nested too deeply");
	if (at == run->root)
		run->root = value;
	else
		json_replace(at, value);
	return 0;
}

static int move(struct run *run, struct str from, struct str path)
{
	struct json *value;
	int r;

	if (str_starts(path, from) && path.n > from.n && path.p[from.n] == '/')
		return refuse(run->err, "a value cannot be moved into itself: \"%.*s\"", STR_ARG(path));
	r = take(run, "move", from, &value);
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
		return refuse(run->err, "copy operation does not apply: doc is missing from path: %.*s: missing value",
			      STR_ARG(from));
	r = measure(run, value, &height); /* before the memory is taken */
	if (r < 0)
		return r;
	return add(run, path, json_clone(run->arena, value));
}

static int test(struct run *run, struct str path, const struct json *wanted)
{
	struct json *have;
	int r = find(run, path, &have);

	if (r < 0)
		return r;
	/* Absent passes for null, as upstream has it. */
	if (!have && json_is(wanted, JSON_NULL))
		return 0;
	if (!have || !json_equal(have, wanted))
		return refuse(run->err, "testing value %.*s failed: test failed", STR_ARG(path));
	return 0;
}

static int run_one(struct run *run, const struct json *operation)
{
	struct str op = json_get_str(operation, "op"), path = json_get_str(operation, "path"),
		   from = json_get_str(operation, "from");
	struct json *value = json_get(operation, "value"), *removed;

	if (!json_is(operation, JSON_OBJECT))
		return api_err_bad_request(run->err, "error decoding patch: an operation must be an object");
	if (!json_is(json_get(operation, "path"), JSON_STRING))
		return refuse(run->err, "missing operation path");
	if (str_is(op, "remove"))
		return take(run, "remove", path, &removed);
	if (str_is(op, "move") || str_is(op, "copy")) {
		if (!json_is(json_get(operation, "from"), JSON_STRING))
			return refuse(run->err, "missing operation from");
		return str_is(op, "move") ? move(run, from, path) : copy(run, from, path);
	}
	if (!str_is(op, "add") && !str_is(op, "replace") && !str_is(op, "test"))
		return refuse(run->err, "Unexpected kind: %.*s", STR_ARG(op));
	if (str_is(op, "test"))
		return test(run, path, value ? value : json_new(run->arena, JSON_NULL));
	value = value ? json_clone(run->arena, value) : json_new(run->arena, JSON_NULL);
	return str_is(op, "add") ? add(run, path, value) : replace(run, path, value);
}

int patch_json(struct arena *arena, const struct json *original, const struct json *operations, struct json **ret,
	       struct err *err)
{
	struct run run = { .arena = arena, .budget = { PATCH_STEPS_MAX }, .nodes = PATCH_NODES_MAX, .err = err };

	if (!json_is(operations, JSON_ARRAY))
		return api_err_bad_request(err, "error decoding patch: a JSON patch must be an array of operations");
	if (json_count(operations) > PATCH_OPERATIONS_MAX)
		return api_err_too_large(err, "The allowed maximum operations in a JSON patch is %d, got %zu",
					 PATCH_OPERATIONS_MAX, json_count(operations));
	run.root = json_clone(arena, original);
	json_foreach(op, operations) {
		int r = run_one(&run, op);

		if (r < 0)
			return r;
	}
	*ret = run.root;
	return 0;
}
