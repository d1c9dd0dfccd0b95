/* SPDX-License-Identifier: Apache-2.0 */
/* Namespace -> its selecting Services, by one label that each of them asks for: a pod's change looks at those that ask
 * for one of its labels, however many others there are. Loop thread only. */
#include "userspace/controllers/service_index.h"

#include <string.h>

#include "userspace/base/map.h"
#include "userspace/controllers/backends.h"
#include "userspace/controllers/objects.h"

/* In the list of its label. */
struct service_entry {
	struct list link;
	struct service_label *label;
	struct selector *selector;
	char name[];
};

struct service_label {
	struct list entries;
	char *key; /* "label=value" */
};

struct service_namespace {
	struct map by_name;  /* -> struct service_entry */
	struct map by_label; /* "label=value" -> struct service_label */
};

struct service_index {
	struct map namespaces;
	struct backends_cache *cache;
};

static char *label_key(struct str key, struct str value)
{
	return mem_printf("%.*s=%.*s", STR_ARG(key), STR_ARG(value));
}

static void entry_destroy(struct service_namespace *ns, struct service_entry *e)
{
	struct service_label *label = e->label;

	list_del(&e->link);
	selector_destroy(e->selector);
	free(e);
	if (!list_empty(&label->entries))
		return;
	map_remove(&ns->by_label, str_of(label->key));
	free(label->key);
	free(label);
}

static void namespace_destroy(struct service_namespace *ns)
{
	map_finish(&ns->by_name);
	map_finish(&ns->by_label);
	free(ns);
}

struct service_index *service_index_create(void)
{
	struct service_index *index = mem_new(struct service_index);

	index->cache = backends_cache_create();
	return index;
}

void service_index_destroy(struct service_index *index)
{
	if (!index)
		return;
	map_foreach(slot, &index->namespaces) {
		struct service_namespace *ns = slot->value;

		map_foreach(e, &ns->by_name)
			entry_destroy(ns, e->value);
		namespace_destroy(ns);
	}
	map_finish(&index->namespaces);
	backends_cache_destroy(index->cache);
	free(index);
}

struct backends_cache *service_index_cache(struct service_index *index)
{
	return index->cache;
}

static void forget(struct service_index *index, struct str ns_name, struct str name)
{
	struct service_namespace *ns = map_get(&index->namespaces, ns_name);
	struct service_entry *e = ns ? map_remove(&ns->by_name, name) : NULL;

	if (!e)
		return;
	entry_destroy(ns, e);
	if (ns->by_name.n == 0)
		namespace_destroy(map_remove(&index->namespaces, ns_name));
}

static struct service_label *label_of(struct service_namespace *ns, const struct json *pair)
{
	char *key = label_key(pair->key, json_str(pair));
	struct service_label *label = map_get(&ns->by_label, str_of(key));

	if (label) {
		free(key);
		return label;
	}
	label = mem_new(struct service_label);
	label->key = key;
	list_init(&label->entries);
	map_put(&ns->by_label, str_of(key), label);
	return label;
}

static void remember(struct service_index *index, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *spec = json_get(registry_parse(&arena, o), "spec");
	struct selector selector = selector_of_map(&arena, json_get(spec, "selector"));
	struct service_namespace *ns;
	struct service_entry *e;

	if (selector.nothing || !json_count(json_get(spec, "selector")) ||
	    str_is(json_get_str(spec, "type"), "ExternalName"))
		return;
	ns = map_get(&index->namespaces, o->ns);
	if (!ns) {
		ns = mem_new(struct service_namespace);
		map_put(&index->namespaces, o->ns, ns);
	}
	e = mem_zalloc(sizeof(*e) + o->name.n + 1);
	memcpy(e->name, o->name.p, o->name.n);
	e->selector = selector_clone(&selector);
	e->label = label_of(ns, json_first(json_get(spec, "selector")));
	list_add_tail(&e->label->entries, &e->link);
	map_put(&ns->by_name, o->name, e);
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

/* Services that select this state of the pod. */
static void enqueue_selecting(struct runner *r, const struct service_namespace *ns, const struct object *pod)
{
	for (size_t i = 0; i < pod->n_labels; i++) {
		_cleanup_free_ char *key = label_key(pod->labels[i].key, pod->labels[i].value);
		const struct service_label *label = map_get(&ns->by_label, str_of(key));

		if (!label)
			continue;
		list_foreach(e, &label->entries, struct service_entry, link)
			if (object_matches(pod, e->selector))
				runner_enqueue(r, pod->ns, str_of(e->name));
	}
}

void service_index_map_pod(struct runner *r, enum registry_event_type type, const struct object *o,
			   const struct object *prev)
{
	struct service_index *index = runner_state(r);
	struct service_namespace *ns = map_get(&index->namespaces, o->ns);

	if (type == REGISTRY_DELETED)
		backends_cache_forget(index->cache, o->uid);
	if (!ns || (type == REGISTRY_MODIFIED && prev && same_endpoint(o, prev)))
		return;
	enqueue_selecting(r, ns, o);
	if (prev)
		enqueue_selecting(r, ns, prev);
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
