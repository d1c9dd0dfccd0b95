/* SPDX-License-Identifier: Apache-2.0 */
/* Namespace -> its selecting Services. Loop thread only. */
#include "userspace/controllers/service_index.h"

#include "userspace/base/map.h"
#include "userspace/controllers/objects.h"

struct service_entry {
	struct list link;
	char *name;
	struct selector *selector;
};

struct service_namespace {
	struct list entries;
};

struct service_index {
	struct map namespaces;
};

static void entry_destroy(struct service_entry *e)
{
	list_del(&e->link);
	selector_destroy(e->selector);
	free(e->name);
	free(e);
}

struct service_index *service_index_create(void)
{
	return mem_new(struct service_index);
}

void service_index_destroy(struct service_index *index)
{
	if (!index)
		return;
	map_foreach(slot, &index->namespaces) {
		struct service_namespace *ns = slot->value;

		list_foreach_safe(e, &ns->entries, struct service_entry, link)
			entry_destroy(e);
		free(ns);
	}
	map_finish(&index->namespaces);
	free(index);
}

static void forget(struct service_index *index, struct str ns_name, struct str name)
{
	struct service_namespace *ns = map_get(&index->namespaces, ns_name);

	if (!ns)
		return;
	list_foreach_safe(e, &ns->entries, struct service_entry, link)
		if (str_is(name, e->name))
			entry_destroy(e);
	if (list_empty(&ns->entries))
		free(map_remove(&index->namespaces, ns_name));
}

static void remember(struct service_index *index, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *spec = json_get(registry_parse(&arena, o), "spec");
	struct selector selector = selector_of_map(&arena, json_get(spec, "selector"));
	struct service_namespace *ns;
	struct service_entry *e;

	if (selector.nothing || str_is(json_get_str(spec, "type"), "ExternalName"))
		return;
	ns = map_get(&index->namespaces, o->ns);
	if (!ns) {
		ns = mem_new(struct service_namespace);
		list_init(&ns->entries);
		map_put(&index->namespaces, o->ns, ns);
	}
	e = mem_new(struct service_entry);
	e->name = str_dup(o->name);
	e->selector = selector_clone(&selector);
	list_add_tail(&ns->entries, &e->link);
}

void service_index_map_service(struct runner *r, enum registry_event_type type, const struct object *o,
			       const struct object *prev)
{
	struct service_index *index = runner_state(r);

	if (type != REGISTRY_ADDED)
		forget(index, o->ns, o->name);
	if (type != REGISTRY_DELETED)
		remember(index, o);
	runner_enqueue(r, o->ns, o->name);
}

static bool same_labels(const struct object *a, const struct object *b)
{
	if (a->n_labels != b->n_labels)
		return false;
	for (size_t i = 0; i < a->n_labels; i++)
		if (!str_eq(a->labels[i].key, b->labels[i].key) || !str_eq(a->labels[i].value, b->labels[i].value))
			return false;
	return true;
}

/* Whether anything that endpoints show differs: addresses, phase, readiness, node, names, labels, leaving. */
static bool same_endpoint(const struct object *a, const struct object *b)
{
	static const char *const paths[] = { "spec.nodeName", "spec.hostname", "spec.subdomain", "status.phase",
					     "status.podIP" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *ja, *jb;

	if (a->deleting != b->deleting || !str_eq(a->uid, b->uid) || !same_labels(a, b))
		return false;
	ja = registry_parse(&arena, a);
	jb = registry_parse(&arena, b);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (!str_eq(json_at_str(ja, paths[i]), json_at_str(jb, paths[i])))
			return false;
	return json_equal(json_at(ja, "status.podIPs"), json_at(jb, "status.podIPs")) &&
	       meta_condition_is(json_at(ja, "status.conditions"), "Ready", "True") ==
		       meta_condition_is(json_at(jb, "status.conditions"), "Ready", "True");
}

void service_index_map_pod(struct runner *r, enum registry_event_type type, const struct object *o,
			   const struct object *prev)
{
	struct service_index *index = runner_state(r);
	struct service_namespace *ns = map_get(&index->namespaces, o->ns);

	if (!ns || (type == REGISTRY_MODIFIED && prev && same_endpoint(o, prev)))
		return;
	list_foreach(e, &ns->entries, struct service_entry, link)
		if (object_matches(o, e->selector) || (prev && object_matches(prev, e->selector)))
			runner_enqueue(r, o->ns, str_of(e->name));
}

int service_index_start(struct runner *r, struct err *err)
{
	runner_set_state(r, service_index_create());
	return 0;
}

void service_index_stop(struct runner *r)
{
	service_index_destroy(runner_state(r));
}
