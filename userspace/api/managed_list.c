/* SPDX-License-Identifier: Apache-2.0 */
/* The list of managedFields: from and to JSON, entries by identity, the cap on updaters, and what nobody owns.
 * No state; any thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/api/managed_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define OLD_UPDATES "ancient-changes"
#define SPARE_ENTRIES 2 /* that one write may add */

/* ---- names ---- */

/* The character at p; its length. 0: not UTF-8. */
static size_t rune_at(const char *p, size_t n, uint32_t *ret)
{
	unsigned char c = (unsigned char)p[0];
	size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
	uint32_t rune = len == 1 ? c : c & (0xffu >> (len + 1));

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return 0;
		rune = rune << 6 | ((unsigned char)p[i] & 63);
	}
	*ret = rune;
	return len;
}

/* Go's unicode.IsPrint, but for unassigned code points. */
static bool is_print(uint32_t r)
{
	static const uint32_t ranges[][2] = {
		{ 0, 0x1f },        { 0x7f, 0xa0 },     { 0xad, 0xad },     { 0x600, 0x605 },     { 0x1680, 0x1680 },
		{ 0x180e, 0x180e }, { 0x2000, 0x200f }, { 0x2028, 0x202f }, { 0x205f, 0x206f },   { 0x3000, 0x3000 },
		{ 0xd800, 0xf8ff }, { 0xfeff, 0xfeff }, { 0xfff0, 0xfffb }, { 0xe0000, 0xe007f }, { 0xf0000, 0x10ffff },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		if (r >= ranges[i][0] && r <= ranges[i][1])
			return false;
	return true;
}

long managed_fields_unprintable(struct str manager, uint32_t *ret_rune)
{
	for (size_t i = 0, n; i < manager.n; i += n) {
		uint32_t rune = 0xfffd;

		n = rune_at(manager.p + i, manager.n - i, &rune);
		if (n == 0)
			n = 1; /* reads as U+FFFD, which is printable */
		else if (!is_print(rune)) {
			*ret_rune = rune;
			return (long)i;
		}
	}
	return -1;
}

struct str managed_fields_user_agent(struct arena *arena, struct str user_agent)
{
	long slash = str_find(user_agent, '/');
	struct str s = slash < 0 ? user_agent : str_make(user_agent.p, (size_t)slash);
	char *out = arena_alloc(arena, MANAGED_MANAGER_MAX + 4);
	size_t n = 0;

	for (size_t i = 0, len; i < s.n; i += len) {
		uint32_t rune;

		len = rune_at(s.p + i, s.n - i, &rune);
		if (len == 0) {
			len = 1;
			continue;
		}
		if (!is_print(rune))
			continue;
		if (n + len > MANAGED_MANAGER_MAX)
			break;
		memcpy(out + n, s.p + i, len);
		n += len;
	}
	return str_make(out, n);
}

/* ---- from JSON ---- */

static int decode_entry(const struct json *v, size_t i, struct managed_entry *ret, struct err *err)
{
	struct str operation = json_get_str(v, "operation"), type = json_get_str(v, "fieldsType");

	*ret = (struct managed_entry){
		.manager = json_get_str(v, "manager"),
		.api_version = json_get_str(v, "apiVersion"),
		.time = json_get_str(v, "time"),
		.subresource = json_get_str(v, "subresource"),
		.applied = str_is(operation, "Apply"),
		.text = json_get(v, "fieldsV1"),
	};
	if (!ret->applied && !str_is(operation, "Update"))
		return err_set(err, -EINVAL, "operation must be `Apply` or `Update`");
	if (!ret->api_version.n)
		return err_set(err, -EINVAL, "apiVersion must not be empty");
	if (!type.n)
		return err_set(err, -EINVAL, "missing fieldsType in managed fields entry %zu", i);
	if (!str_is(type, "FieldsV1"))
		return err_set(err, -EINVAL, "invalid fieldsType \"%.*s\" in managed fields entry %zu", STR_ARG(type),
			       i);
	return 0;
}

int managed_decode(struct arena *arena, const struct json *list, struct managed_list *ret, struct err *err)
{
	static const struct json_keep keep = { .key = "fieldsV1" };
	struct managed_list l = { 0 };
	struct json *tree = NULL;
	int r = 0;

	if (json_is(list, JSON_RAW)) {
		r = json_parse_keep(arena, list->text, &keep, &tree, err);
		if (r < 0)
			return r;
		list = tree;
	}
	l.room = json_count(list) + SPARE_ENTRIES;
	l.v = arena_new_array(arena, struct managed_entry, l.room);
	json_foreach(v, list) {
		r = decode_entry(v, l.n, &l.v[l.n], err);
		if (r < 0)
			return r;
		l.n++;
	}
	*ret = l;
	return 0;
}

int managed_set(struct arena *arena, struct managed_entry *e, struct err *err)
{
	int r;

	if (e->parsed)
		return 0;
	if (e->text) {
		r = fieldset_parse(arena, e->text, &e->set, err);
		if (r < 0)
			return r;
	}
	e->parsed = true;
	return 0;
}

void managed_change(struct managed_entry *e, struct fieldset *set)
{
	e->set = set;
	e->parsed = true;
	e->text = NULL;
	e->gone = !set;
}

/* Operation and type were judged on decoding: a list with others is not taken at all. */
void managed_fields_validate(const struct json *list, struct field_errors *e)
{
	const struct field_path *path = FIELD(NULL, "metadata.managedFields");
	size_t i = 0;

	if (!json_is(list, JSON_ARRAY))
		return;
	json_foreach(v, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str manager = json_get_str(v, "manager");
		uint32_t rune = 0;
		long position = managed_fields_unprintable(manager, &rune);

		if (manager.n > MANAGED_MANAGER_MAX)
			field_too_long(e, FIELD(at, "manager"), MANAGED_MANAGER_MAX);
		if (position >= 0)
			field_invalid_str(e, FIELD(at, "manager"), manager,
					  "invalid character U+%04X (at position %ld)", (unsigned)rune, position);
		if (json_get_str(v, "subresource").n > MANAGED_SUBRESOURCE_MAX)
			field_too_long(e, FIELD(at, "subresource"), MANAGED_SUBRESOURCE_MAX);
	}
}

/* ---- identity ---- */

static struct str subresource_of(const struct managed_write *w)
{
	return w->subresource ? str_of(w->subresource) : STR("");
}

static struct str manager_of(const struct managed_write *w)
{
	return w->manager.n ? w->manager : STR("unknown");
}

struct managed_entry *managed_find(struct managed_list *list, const struct managed_write *w, bool applied)
{
	for (size_t i = 0; i < list->n; i++) {
		struct managed_entry *e = &list->v[i];

		if (!e->gone && e->applied == applied && str_eq(e->manager, manager_of(w)) &&
		    str_eq(e->subresource, subresource_of(w)) &&
		    (applied || str_is(e->api_version, w->kind->api_version)))
			return e;
	}
	return NULL;
}

struct managed_entry *managed_add(struct managed_list *list, const struct managed_write *w, bool applied)
{
	struct managed_entry *e = &list->v[list->n++];

	*e = (struct managed_entry){
		.manager = manager_of(w),
		.api_version = str_of(w->kind->api_version),
		.subresource = subresource_of(w),
		.applied = applied,
		.parsed = true,
	};
	return e;
}

void managed_stamp(struct arena *arena, struct managed_entry *e, int64_t now_real_ns)
{
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(now_real_ns, text);
	e->time = str_of(arena_strdup(arena, text));
}

/* ---- to JSON ---- */

/* Times have one form, so that their texts sort as they do. */
static int cmp_entries(const void *a, const void *b)
{
	const struct managed_entry *x = a, *y = b;
	int c;

	if (x->applied != y->applied)
		return x->applied ? -1 : 1;
	c = str_cmp(x->time, y->time);
	if (c == 0)
		c = str_cmp(x->manager, y->manager);
	if (c == 0)
		c = str_cmp(x->api_version, y->api_version);
	return c ? c : str_cmp(x->subresource, y->subresource);
}

static struct json *encode_entry(struct arena *arena, const struct managed_entry *e)
{
	struct json *v = json_new_object(arena), *fields;

	if (e->text) {
		fields = json_clone(arena, e->text);
	} else {
		_cleanup_buf_ struct buf text = BUF_INIT;

		fieldset_write(&text, e->set);
		fields = json_new_raw(arena, arena_str(arena, buf_str(&text)));
	}
	if (e->manager.n)
		json_set_str(arena, v, "manager", e->manager);
	json_set_cstr(arena, v, "operation", e->applied ? "Apply" : "Update");
	json_set_str(arena, v, "apiVersion", e->api_version);
	if (e->time.n)
		json_set_str(arena, v, "time", e->time);
	json_set_cstr(arena, v, "fieldsType", "FieldsV1");
	json_set(v, "fieldsV1", fields);
	if (e->subresource.n)
		json_set_str(arena, v, "subresource", e->subresource);
	return v;
}

struct json *managed_encode(struct arena *arena, struct managed_list *list)
{
	struct json *out = json_new_array(arena);

	qsort(list->v, list->n, sizeof(*list->v), cmp_entries);
	for (size_t i = 0; i < list->n; i++)
		if (!list->v[i].gone)
			json_append(out, encode_entry(arena, &list->v[i]));
	return out->first ? out : NULL;
}

/* ---- at most so many updaters ---- */

static int cmp_age(const void *a, const void *b)
{
	const struct managed_entry *const *x = a, *const *y = b;
	int c = str_cmp((*x)->time, (*y)->time);

	return c ? c : cmp_entries(*x, *y);
}

static struct managed_entry *bucket_of(struct managed_list *list, struct str api_version)
{
	for (size_t i = 0; i < list->n; i++) {
		struct managed_entry *e = &list->v[i];

		if (!e->gone && !e->applied && !e->subresource.n && str_is(e->manager, OLD_UPDATES) &&
		    str_eq(e->api_version, api_version))
			return e;
	}
	return NULL;
}

static void squash(struct arena *arena, struct managed_entry *into, struct managed_entry *e)
{
	if (managed_set(arena, into, NULL) < 0 || managed_set(arena, e, NULL) < 0)
		return;
	managed_change(into, fieldset_union(arena, into->set, e->set));
	into->time = e->time;
	e->gone = true;
}

void managed_cap(struct arena *arena, struct managed_list *list)
{
	struct managed_entry **updaters = arena_new_array(arena, struct managed_entry *, list->n + 1);
	size_t n = 0, left;

	for (size_t i = 0; i < list->n; i++)
		if (!list->v[i].gone && !list->v[i].applied)
			updaters[n++] = &list->v[i];
	left = n;
	if (n <= MANAGED_UPDATERS_MAX)
		return;
	qsort(updaters, n, sizeof(struct managed_entry *), cmp_age);
	for (size_t i = 0; i < n && left > MANAGED_UPDATERS_MAX; i++) {
		struct managed_entry *e = updaters[i], *first = NULL, *bucket = bucket_of(list, e->api_version);

		for (size_t j = 0; j < i && !first; j++)
			if (!updaters[j]->gone && str_eq(updaters[j]->api_version, e->api_version))
				first = updaters[j];
		if (!first || e == bucket)
			continue; /* the oldest of its version waits for the next */
		if (!bucket) {
			first->manager = STR(OLD_UPDATES);
			first->subresource = STR("");
			bucket = first;
		}
		squash(arena, bucket, e);
		left--;
	}
}

/* ---- what nobody owns, what a write cannot set ---- */

static void add_path(struct arena *arena, struct fieldset *root, const char *dotted)
{
	struct str rest = str_of(dotted), part;

	while (str_split(&rest, '.', &part))
		root = fieldset_child(arena, root, fieldset_field(arena, part));
	root->marks = FIELDSET_MEMBER;
}

/* Beside the usual: everything but status resets status (where it is a subresource), status resets spec. */
static const struct {
	const char *group, *plural, *subresource, *path;
} resets[] = {
	{ "", "pods", "status", "metadata.deletionTimestamp" },
	{ "", "pods", "status", "metadata.ownerReferences" },
	{ "apps", "deployments", "status", "metadata.labels" },
	{ "storage.k8s.io", "volumeattachments", "status", "metadata" },
	{ "apiregistration.k8s.io", "apiservices", "status", "metadata" },
	{ "flowcontrol.apiserver.k8s.io", "flowschemas", "status", "metadata" },
	{ "flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", "status", "metadata" },
};

struct fieldset *managed_reset_fields(struct arena *arena, const struct api_kind *kind, const char *subresource)
{
	bool status = subresource && !strcmp(subresource, "status");
	struct fieldset *root = arena_new(arena, struct fieldset);

	if (!status && subresource && strcmp(subresource, "approval") == 0)
		add_path(arena, root, "spec");
	else if (!status && api_kind_subresource(kind, STR("status")))
		add_path(arena, root, "status");
	else if (status)
		add_path(arena, root, "spec");
	for (size_t i = 0; subresource && i < ARRAY_SIZE(resets); i++)
		if (!strcmp(resets[i].subresource, subresource) && !strcmp(resets[i].plural, kind->plural) &&
		    !strcmp(resets[i].group, kind->group))
			add_path(arena, root, resets[i].path);
	return root->first ? root : NULL;
}

struct fieldset *managed_strip(struct arena *arena, struct fieldset *set)
{
	static struct fieldset nobodys[] = {
		{ .name = { "f:clusterName", 13 }, .marks = FIELDSET_MEMBER, .next = &nobodys[1] },
		{ .name = { "f:creationTimestamp", 19 }, .marks = FIELDSET_MEMBER, .next = &nobodys[2] },
		{ .name = { "f:generation", 12 }, .marks = FIELDSET_MEMBER, .next = &nobodys[3] },
		{ .name = { "f:managedFields", 15 }, .marks = FIELDSET_MEMBER, .next = &nobodys[4] },
		{ .name = { "f:name", 6 }, .marks = FIELDSET_MEMBER, .next = &nobodys[5] },
		{ .name = { "f:namespace", 11 }, .marks = FIELDSET_MEMBER, .next = &nobodys[6] },
		{ .name = { "f:resourceVersion", 17 }, .marks = FIELDSET_MEMBER, .next = &nobodys[7] },
		{ .name = { "f:selfLink", 10 }, .marks = FIELDSET_MEMBER, .next = &nobodys[8] },
		{ .name = { "f:uid", 5 }, .marks = FIELDSET_MEMBER },
	};
	static struct fieldset top[] = {
		{ .name = { "f:apiVersion", 12 }, .marks = FIELDSET_MEMBER, .next = &top[1] },
		{ .name = { "f:kind", 6 }, .marks = FIELDSET_MEMBER, .next = &top[2] },
		{ .name = { "f:metadata", 10 }, .marks = FIELDSET_MEMBER, .first = nobodys },
	};
	static const struct fieldset strip = { .first = top };

	return fieldset_difference(arena, set, &strip);
}
