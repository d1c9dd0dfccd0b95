/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds that have two forms of one stored object: events.k8s.io/v1 over core/v1 Events, autoscaling/v1 over v2
 * HorizontalPodAutoscalers. Everything else is stored as it is addressed. Any thread. */
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

struct rename {
	const char *view, *stored;
};

static const struct rename EVENT_FIELDS[] = {
	{ "note", "message" },
	{ "regarding", "involvedObject" },
	{ "reportingController", "reportingComponent" },
	{ "deprecatedCount", "count" },
	{ "deprecatedFirstTimestamp", "firstTimestamp" },
	{ "deprecatedLastTimestamp", "lastTimestamp" },
	{ "deprecatedSource", "source" },
};

static void rename_fields(struct json *object, const struct rename *table, size_t n, bool to_storage)
{
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_remove(object, to_storage ? table[i].view : table[i].stored);

		if (v)
			json_set(object, to_storage ? table[i].stored : table[i].view, v);
	}
}

static struct json *convert(struct arena *arena, const struct api_kind *kind, struct json *object, bool to_storage)
{
	const struct api_kind *to = to_storage ? kind->storage : kind;

	if (!kind->storage || kind->storage == kind)
		return object;
	if (strcmp(kind->plural, "events") == 0)
		rename_fields(object, EVENT_FIELDS, ARRAY_SIZE(EVENT_FIELDS), to_storage);
	else if (strcmp(kind->plural, "horizontalpodautoscalers") == 0)
		(to_storage ? convert_hpa_to_storage : convert_hpa_from_storage)(arena, object);
	json_set_cstr(arena, object, "apiVersion", api_kind_api_version(to));
	json_set_cstr(arena, object, "kind", to->kind);
	return object;
}

struct json *convert_to_storage(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	return convert(arena, kind, object, true);
}

struct json *convert_from_storage(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	return convert(arena, kind, object, false);
}

struct str registry_render(struct arena *arena, const struct api_kind *kind, const struct object *o)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct json *view;

	if (!kind->storage || kind->storage == kind)
		return o->json;
	view = convert_from_storage(arena, kind, registry_parse(arena, o));
	/* A required field of that form: readers miss it otherwise. */
	if (strcmp(kind->plural, "events") == 0 && !json_get(view, "eventTime"))
		json_set(view, "eventTime", json_new_raw(arena, STR("null")));
	json_write(&text, view);
	return arena_str(arena, buf_str(&text));
}
