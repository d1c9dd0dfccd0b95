/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, loading, reads and watches in process. Loop thread. */
#include "userspace/registry/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/registry/authz/index.h"
#include "userspace/registry/internal.h"

_Static_assert(OBJECT_FIELDS_MAX == API_HEADER_FIELDS_MAX, "both rooms keep the same selectable fields");
_Static_assert(sizeof(struct object_label) == sizeof(struct api_label), "labels are read as either");
_Static_assert(sizeof(struct object_owner) == sizeof(struct api_owner), "owners are read as either");

/* ---- objects from trees ---- */

static const struct object *object_from(const struct api_kind *storage, const struct api_header *h, struct str json)
{
	return object_create(&(struct object_parts){
		.resource = storage->resource,
		.deleting = h->deleting,
		.has_finalizers = h->has_finalizers,
		.revision = h->revision,
		.generation = h->generation,
		.created_real_ns = h->created_real_ns,
		.ns = h->ns,
		.name = h->name,
		.uid = h->uid,
		.json = json,
		.labels = (struct object_label *)h->labels,
		.n_labels = h->n_labels,
		.owners = (struct object_owner *)h->owners,
		.n_owners = h->n_owners,
		.fields = (struct str *)(uintptr_t)h->fields,
		.n_fields = h->n_fields,
	});
}

const struct object *registry_build(struct arena *arena, const struct api_kind *storage, struct json *tree,
				    int64_t revision)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct api_header header;

	if (revision > 0)
		json_set(meta_ensure(arena, tree), "resourceVersion",
			 json_new_printf(arena, "%lld", (long long)revision));
	meta_header(arena, storage, tree, &header);
	json_write(&text, tree);
	return object_from(storage, &header, buf_str(&text));
}

static int decode_stored(void *arg, uint16_t resource, struct str json, const struct object **ret, struct err *err)
{
	const struct api_kind *kind = api_kind_by_index(resource);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct api_header header;
	struct json *tree = NULL;
	int r;

	(void)arg;
	r = json_parse(&arena, json, 0, &tree, err);
	if (r < 0)
		return r;
	meta_header(&arena, kind, tree, &header);
	if (header.name.n == 0 || header.uid.n == 0 || header.revision <= 0)
		return err_set(err, -EINVAL, "not a stored object: name, uid or resourceVersion is missing");
	*ret = object_from(kind, &header, json);
	return 0;
}

struct json *registry_parse(struct arena *arena, const struct object *o)
{
	static const struct json_keep keep = { .parent = "metadata", .key = "managedFields" };
	struct json *tree = NULL;
	_cleanup_err_ struct err err = ERR_INIT;

	if (json_parse_keep(arena, o->json, &keep, &tree, &err) < 0) {
		log_error("a stored object does not parse name=%.*s error=\"%s\"", STR_ARG(o->name), err_message(&err));
		tree = json_new_object(arena);
	}
	return tree;
}

/* ---- opening ---- */

static void hub_event(struct store_watch *sw, struct store_event *e)
{
	struct registry_hub *hub = container_of(sw, struct registry_hub, watch);
	struct registry *reg = hub->reg;
	enum registry_event_type type = e->type == STORE_ADDED      ? REGISTRY_ADDED
					: e->type == STORE_MODIFIED ? REGISTRY_MODIFIED
								    : REGISTRY_DELETED;

	for (struct list *at = hub->watchers.next; at != &hub->watchers;) {
		struct registry_watch *w = list_entry(at, struct registry_watch, link);

		reg->cursor = at->next == &hub->watchers ? NULL : list_entry(at->next, struct registry_watch, link);
		w->fn(w, type, e->object, e->prev);
		at = reg->cursor ? &reg->cursor->link : &hub->watchers;
	}
	reg->cursor = NULL;
}

static void hold_service(void *arg, const struct object *o)
{
	struct registry *reg = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	services_hold(&reg->services, registry_parse(&arena, o), true);
}

int registry_create_all(struct loop *loop, struct store *store, const struct registry_options *options,
			struct registry **ret, struct err *err)
{
	struct registry *reg = mem_new(struct registry);
	int r;

	reg->loop = loop;
	reg->store = store;
	reg->pod_security = options->pod_security;
	list_init(&reg->writes);
	reg->n_hubs = api_resource_count();
	reg->hubs = mem_new_array(struct registry_hub, reg->n_hubs);
	r = services_init(&reg->services, options, err);
	for (size_t i = 0; i < reg->n_hubs && r >= 0; i++) {
		const struct api_kind *kind = api_kind_by_index((uint16_t)i);
		uint16_t resource = store_add_resource(store, kind ? kind->group : "-", kind ? kind->plural : "-");

		assert(resource == i);
		(void)resource;
		list_init(&reg->hubs[i].watchers);
	}
	if (r >= 0)
		r = store_load(store, decode_stored, NULL, err);
	if (r < 0) {
		services_finish(&reg->services);
		free(reg->hubs);
		free(reg);
		return r;
	}
	for (size_t i = 0; i < reg->n_hubs; i++) {
		reg->hubs[i].reg = reg;
		reg->hubs[i].watch.fn = hub_event;
		store_watch_start(store, &reg->hubs[i].watch, (uint16_t)i, -1, NULL);
	}
	registry_each(reg, KIND_SERVICE, STR_NULL, hold_service, reg);
	addresses_start(reg);
	quotas_start(reg);
	reg->events = events_create(reg);
	waiting_init(reg);
	reg->authz = authz_index_create(reg);
	*ret = reg;
	return 0;
}

void registry_destroy(struct registry *reg)
{
	if (!reg)
		return;
	authz_index_destroy(reg->authz);
	addresses_stop(reg);
	waiting_finish(reg);
	events_destroy(reg->events);
	/* Those who wait for them are gone before the registry goes; the store still completes the writes. */
	while (!list_empty(&reg->writes)) {
		struct write *w = list_first(&reg->writes, struct write, link);

		list_del(&w->link);
		w->done = NULL;
		w->simple_done = NULL;
		w->finish = NULL;
		w->reg = NULL;
	}
	for (size_t i = 0; i < reg->n_hubs; i++) {
		store_watch_stop(reg->store, &reg->hubs[i].watch);
		while (!list_empty(&reg->hubs[i].watchers))
			list_del(reg->hubs[i].watchers.next);
	}
	services_finish(&reg->services);
	quotas_finish(&reg->quotas);
	free(reg->hubs);
	free(reg);
}

void registry_set_token_issuer(struct registry *reg, registry_token_fn *fn, void *arg)
{
	reg->token_issuer = fn;
	reg->token_arg = arg;
}

/* ---- reads ---- */

const struct object *registry_get(struct registry *reg, const struct api_kind *kind, struct str ns, struct str name)
{
	return store_get(reg->store, kind->resource, kind->namespaced ? ns : STR_NULL, name);
}

const struct object *registry_by_uid(struct registry *reg, struct str uid)
{
	return store_by_uid(reg->store, uid);
}

void registry_each(struct registry *reg, const struct api_kind *kind, struct str ns, registry_each_fn *fn, void *arg)
{
	store_each(reg->store, kind->resource, ns, fn, arg);
}

void registry_each_owned(struct registry *reg, struct str uid, registry_each_fn *fn, void *arg)
{
	store_each_owned(reg->store, uid, fn, arg);
}

size_t registry_count(struct registry *reg, const struct api_kind *kind)
{
	return store_count(reg->store, kind->resource);
}

int64_t registry_revision(struct registry *reg)
{
	return store_revision(reg->store);
}

/* ---- watches ---- */

static void replay(void *arg, const struct object *o)
{
	struct registry_watch *w = arg;

	w->fn(w, REGISTRY_ADDED, o, NULL);
}

void registry_watch_start(struct registry *reg, struct registry_watch *w)
{
	assert(w->kind && w->fn && w->kind->resource < reg->n_hubs);
	registry_each(reg, w->kind, STR_NULL, replay, w);
	/* Ahead of the one whose turn is next: a watch started from a callback has replayed this change. */
	list_add_head(&reg->hubs[w->kind->resource].watchers, &w->link);
}

void registry_watch_stop(struct registry *reg, struct registry_watch *w)
{
	if (!w->link.next || list_empty(&w->link))
		return;
	if (reg->cursor == w) {
		struct list *next = w->link.next;

		reg->cursor = next == &reg->hubs[w->kind->resource].watchers
				      ? NULL
				      : list_entry(next, struct registry_watch, link);
	}
	list_del(&w->link);
}
