/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of all patches, and JSON merge patch. Any thread. */
#include "userspace/api/patch.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "userspace/api/decode_value.h"
#include "userspace/api/meta.h"
#include "userspace/api/patch_internal.h"

static const struct {
	const char *content_type;
	enum patch_type type;
} types[] = {
	{ "application/json-patch+json", PATCH_JSON },
	{ "application/merge-patch+json", PATCH_MERGE },
	{ "application/strategic-merge-patch+json", PATCH_STRATEGIC },
	{ "application/apply-patch+yaml", PATCH_APPLY },
};

int patch_type_parse(struct str content_type, bool strategic, enum patch_type *ret, struct err *err)
{
	long semicolon = str_find(content_type, ';');
	struct str t = str_trim(semicolon < 0 ? content_type : str_make(content_type.p, (size_t)semicolon));

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i].type == PATCH_STRATEGIC && !strategic)
			continue;
		if (t.n == strlen(types[i].content_type) && !strncasecmp(t.p, types[i].content_type, t.n)) {
			*ret = types[i].type;
			return 0;
		}
	}
	return api_err_unsupported_media_type(
		err, strategic ? "application/json-patch+json, application/merge-patch+json, "
				 "application/strategic-merge-patch+json, application/apply-patch+yaml"
			       : "application/json-patch+json, application/merge-patch+json, "
				 "application/apply-patch+yaml");
}

static int cmp_members(const void *a, const void *b)
{
	return str_cmp((*(const struct json *const *)a)->key, (*(const struct json *const *)b)->key);
}

void patch_print_go(struct arena *arena, struct buf *out, const struct json *v)
{
	const struct json **all;
	size_t n = 0;

	switch (v->type) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		break;
	case JSON_STRING:
		buf_add_str(out, v->text);
		return;
	case JSON_NULL:
		buf_add_cstr(out, "<nil>");
		return;
	default:
		json_write(out, v);
		return;
	}
	all = arena_new_array(arena, const struct json *, json_count(v) + 1);
	json_foreach(c, v)
		all[n++] = c;
	if (v->type == JSON_OBJECT)
		qsort(all, n, sizeof(*all), cmp_members);
	buf_add_cstr(out, v->type == JSON_OBJECT ? "map[" : "[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(out, ' ');
		if (v->type == JSON_OBJECT)
			buf_printf(out, "%.*s:", STR_ARG(all[i]->key));
		patch_print_go(arena, out, all[i]);
	}
	buf_add_char(out, ']');
}

void patch_print(struct buf *out, struct str patch)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *tree = NULL;

	if (json_parse(&arena, patch, 0, &tree, NULL) >= 0)
		patch_print_go(&arena, out, tree);
}

int patch_charge(struct patch_budget *b, size_t steps, struct err *err)
{
	if (steps > b->steps) {
		b->steps = 0;
		return api_err_too_large(err, "the patch takes too much work to apply");
	}
	b->steps -= steps;
	return 0;
}

int patch_apply(struct arena *arena, enum patch_type type, const struct api_message *message,
		const struct json *original, struct str patch, struct json **ret, struct err *err)
{
	struct json *tree;
	int r = json_parse(arena, patch, 0, &tree, err);

	if (r < 0) {
		if (err)
			err_set_status(err, -EINVAL, 400, "BadRequest", "error decoding patch: %s", err_message(err));
		return -EINVAL;
	}
	if (type == PATCH_JSON)
		return patch_json(arena, original, tree, ret, err);
	if (!json_is(tree, JSON_OBJECT))
		return api_err_bad_request(err,
					   "%sjson: cannot unmarshal %s into Go value of type map[string]interface {}",
					   type == PATCH_MERGE ? "error decoding patch: " : "", decode_json_word(tree));
	if (type == PATCH_MERGE)
		return patch_merge(arena, original, tree, ret, err);
	if (type != PATCH_STRATEGIC || !message)
		return patch_type_parse(STR(""), false, &type, err);
	return patch_strategic(arena, message, original, tree, ret, err);
}

/* ---- members ---- */

#define MEMBERS_FEW 64

void patch_members_init(struct patch_members *m, struct json *object, const struct json *patch)
{
	m->object = object;
	m->hashed = json_count(object) + json_count(patch) > MEMBERS_FEW;
	name_set_init(&m->set);
	if (m->hashed)
		name_set_add_members(&m->set, object);
}

/* A member that was removed has lost its key. */
void patch_members_finish(struct patch_members *m)
{
	struct json *next, *c = m && m->hashed ? json_first(m->object) : NULL;

	if (c)
		patch_empty(m->object);
	for (; c; c = next) {
		next = c->next;
		if (c->key.p)
			json_append(m->object, c);
	}
	if (m)
		name_set_finish(&m->set);
}

struct json *patch_members_get(const struct patch_members *m, struct str key)
{
	struct json *v;

	if (!m->hashed)
		return json_get_n(m->object, key);
	v = (struct json *)name_set_get(&m->set, key);
	return v && v->key.p ? v : NULL;
}

void patch_members_set(struct patch_members *m, struct str key, struct json *v)
{
	struct json *before = patch_members_get(m, key);

	if (before) {
		json_replace(before, v);
		return;
	}
	v->key = key.p ? key : STR("");
	json_append(m->object, v);
	if (m->hashed)
		name_set_put(&m->set, key, v);
}

void patch_members_remove(struct patch_members *m, struct str key)
{
	struct json *v;

	if (!m->hashed) {
		json_remove_n(m->object, key);
		return;
	}
	v = patch_members_get(m, key);
	if (v)
		v->key = STR_NULL;
}

/* RFC 7386: null deletes, objects merge, the rest replaces. Depth is bounded by the parser's limit. */
static struct json *merge(struct arena *arena, struct json *target, const struct json *patch)
{
	_cleanup_patch_members_ struct patch_members members = { .object = NULL };

	if (!json_is(patch, JSON_OBJECT))
		return json_clone(arena, patch);
	if (!json_is(target, JSON_OBJECT))
		target = json_new_object(arena);
	patch_members_init(&members, target, patch);
	json_foreach(p, patch) {
		struct json *have, *merged;

		if (p->type == JSON_NULL) {
			patch_members_remove(&members, p->key);
			continue;
		}
		have = patch_members_get(&members, p->key);
		merged = merge(arena, have, p);
		if (merged != have)
			patch_members_set(&members, p->key, merged);
	}
	return target;
}

int patch_merge(struct arena *arena, const struct json *original, const struct json *patch, struct json **ret,
		struct err *err)
{
	*ret = merge(arena, json_clone(arena, original), patch);
	return 0;
}
