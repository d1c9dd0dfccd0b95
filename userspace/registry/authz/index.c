/* SPDX-License-Identifier: Apache-2.0 */
/* Following the RBAC objects. See index.h. A role is known by its name from the moment a binding names it, whether it
 * exists or not, so that bindings hold pointers and neither kind depends on which came first. Loop thread. */
#include "userspace/registry/authz/index.h"

#include <stdlib.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

struct authz_grants {
	struct authz_grant *items;
	size_t n, cap;
};

/* The subjects of the cluster, or of one namespace. */
struct authz_scope {
	struct map users, groups; /* name -> struct authz_grants */
	size_t n;                 /* bindings */
};

enum { WATCH_ROLES, WATCH_CLUSTER_ROLES, WATCH_BINDINGS, WATCH_CLUSTER_BINDINGS, WATCHES };

struct authz_watch {
	struct registry_watch watch;
	struct authz_index *index;
};

struct authz_index {
	struct registry *reg;
	struct authz_watch watches[WATCHES];
	struct map roles, bindings; /* "ns/name" -> struct authz_role, struct authz_binding; "/name" in the cluster */
	struct authz_scope cluster;
	struct map namespaces; /* name -> struct authz_scope */
};

/* ---- roles ---- */

/* By bytes: printf would stop at a zero byte that a client put into a name. */
static struct str joined(struct arena *arena, const struct str *parts, size_t n)
{
	struct str all = STR_NULL;
	char *text;

	for (size_t i = 0; i < n; i++)
		all.n += parts[i].n;
	all.p = text = arena_alloc(arena, all.n + 1);
	for (size_t i = 0; i < n; text += parts[i++].n)
		if (parts[i].n)
			memcpy(text, parts[i].p, parts[i].n);
	return all;
}

static struct str key_of(struct arena *arena, struct str ns, struct str name)
{
	return joined(arena, (const struct str[]){ ns, STR("/"), name }, 3);
}

static struct authz_role *role_hold(struct authz_index *index, struct str ns, struct str name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str key = key_of(&arena, ns, name);
	struct authz_role *role = map_get(&index->roles, key);

	if (role)
		return role;
	role = mem_new(struct authz_role);
	role->ns = str_make(str_dup(ns), ns.n);
	role->name = str_make(str_dup(name), name.n);
	map_put(&index->roles, key, role);
	return role;
}

static void role_destroy(struct authz_role *role)
{
	arena_finish(&role->arena);
	free((char *)(uintptr_t)role->ns.p);
	free((char *)(uintptr_t)role->name.p);
	free(role);
}

static void role_drop(struct authz_index *index, struct authz_role *role)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	if (role->exists || role->n_bindings)
		return;
	map_remove(&index->roles, key_of(&arena, role->ns, role->name));
	role_destroy(role);
}

const struct authz_role *authz_index_role(struct authz_index *index, struct authz_role *role)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct object *o;

	if (role->compiled)
		return role;
	o = registry_get(index->reg, role->ns.n ? KIND_ROLE : KIND_CLUSTERROLE, role->ns, role->name);
	authz_role_compile(role, o ? json_get(registry_parse(&arena, o), "rules") : NULL);
	return role;
}

static void role_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	struct authz_index *index = container_of(w, struct authz_watch, watch)->index;
	struct authz_role *role = role_hold(index, o->ns, o->name);

	role->exists = type != REGISTRY_DELETED;
	role->compiled = false;
	arena_finish(&role->arena);
	role->arena = ARENA_INIT;
	role_drop(index, role);
}

/* ---- bindings ---- */

static void grants_add(struct map *map, struct authz_grant grant)
{
	struct authz_grants *grants = map_get(map, grant.subject->name);

	if (!grants) {
		grants = mem_new(struct authz_grants);
		map_put(map, grant.subject->name, grants);
	}
	if (grants->n == grants->cap) {
		grants->cap = grants->cap ? 2 * grants->cap : 2;
		grants->items = mem_realloc(grants->items, grants->cap * sizeof(*grants->items));
	}
	grants->items[grants->n++] = grant;
}

static void grants_remove(struct map *map, const struct authz_binding *binding, struct str name)
{
	struct authz_grants *grants = map_get(map, name);
	size_t kept = 0;

	if (!grants)
		return;
	for (size_t i = 0; i < grants->n; i++)
		if (grants->items[i].binding != binding)
			grants->items[kept++] = grants->items[i];
	grants->n = kept;
	if (kept)
		return;
	map_remove(map, name);
	free(grants->items);
	free(grants);
}

static struct authz_scope *scope_of(struct authz_index *index, struct str ns, bool make)
{
	struct authz_scope *scope;

	if (!ns.n)
		return &index->cluster;
	scope = map_get(&index->namespaces, ns);
	if (!scope && make) {
		scope = mem_new(struct authz_scope);
		map_put(&index->namespaces, ns, scope);
	}
	return scope;
}

static void subject_read(struct authz_binding *b, const struct json *v)
{
	struct str kind = json_get_str(v, "kind"), ns = json_get_str(v, "namespace"), name = json_get_str(v, "name");
	struct authz_subject *s = &b->subjects[b->n_subjects];

	*s = (struct authz_subject){ .name = arena_str(&b->arena, name) };
	s->shown = s->name;
	if (str_is(kind, "ServiceAccount")) {
		if (!ns.n)
			ns = b->ns;
		if (!ns.n)
			return;
		s->kind = "ServiceAccount";
		s->shown = joined(&b->arena, (const struct str[]){ name, STR("/"), ns }, 3);
		s->name =
			joined(&b->arena, (const struct str[]){ STR("system:serviceaccount:"), ns, STR(":"), name }, 4);
	} else if (str_is(kind, "Group")) {
		s->kind = "Group";
		s->group = true;
	} else if (str_is(kind, "User")) {
		s->kind = "User";
	} else {
		return;
	}
	b->n_subjects++;
}

static void binding_add(struct authz_index *index, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *tree = registry_parse(&arena, o), *ref = json_get(tree, "roleRef"),
			  *subjects = json_get(tree, "subjects");
	struct authz_binding *b = mem_new(struct authz_binding);
	struct authz_scope *scope = scope_of(index, o->ns, true);

	b->ns = arena_str(&b->arena, o->ns);
	b->name = arena_str(&b->arena, o->name);
	b->role = role_hold(index, str_is(json_get_str(ref, "kind"), "Role") ? o->ns : STR_NULL,
			    json_get_str(ref, "name"));
	b->role->n_bindings++;
	b->subjects = arena_new_array(&b->arena, struct authz_subject, json_count(subjects) + 1);
	json_foreach(s, subjects)
		subject_read(b, s);
	for (size_t i = 0; i < b->n_subjects; i++)
		grants_add(b->subjects[i].group ? &scope->groups : &scope->users,
			   (struct authz_grant){ b, &b->subjects[i] });
	scope->n++;
	map_put(&index->bindings, key_of(&arena, o->ns, o->name), b);
}

static void binding_remove(struct authz_index *index, struct str ns, struct str name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct authz_binding *b = map_remove(&index->bindings, key_of(&arena, ns, name));
	struct authz_scope *scope = scope_of(index, ns, false);

	if (!b)
		return;
	for (size_t i = 0; i < b->n_subjects; i++)
		grants_remove(b->subjects[i].group ? &scope->groups : &scope->users, b, b->subjects[i].name);
	scope->n--;
	if (ns.n && !scope->n) {
		map_remove(&index->namespaces, ns);
		map_finish(&scope->users);
		map_finish(&scope->groups);
		free(scope);
	}
	b->role->n_bindings--;
	role_drop(index, b->role);
	arena_finish(&b->arena);
	free(b);
}

static void binding_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			  const struct object *prev)
{
	struct authz_index *index = container_of(w, struct authz_watch, watch)->index;

	binding_remove(index, o->ns, o->name);
	if (type != REGISTRY_DELETED)
		binding_add(index, o);
}

/* ---- asking ---- */

static bool grants_visit(const struct map *map, struct str name, authz_visit_fn *fn, void *arg)
{
	const struct authz_grants *grants = map->n ? map_get(map, name) : NULL;

	for (size_t i = 0; grants && i < grants->n; i++)
		if (fn(arg, &grants->items[i]))
			return true;
	return false;
}

static bool scope_visit(const struct authz_scope *scope, const struct request_user *user, authz_visit_fn *fn, void *arg)
{
	if (grants_visit(&scope->users, user->name, fn, arg))
		return true;
	for (size_t i = 0; i < user->n_groups; i++)
		if (grants_visit(&scope->groups, user->groups[i], fn, arg))
			return true;
	return false;
}

bool authz_index_visit(struct authz_index *index, const struct request_user *user, struct str ns, authz_visit_fn *fn,
		       void *arg)
{
	const struct authz_scope *scope;

	if (scope_visit(&index->cluster, user, fn, arg))
		return true;
	scope = ns.n ? scope_of(index, ns, false) : NULL;
	return scope && scope_visit(scope, user, fn, arg);
}

/* ---- beginning and end ---- */

struct authz_index *authz_index_create(struct registry *reg)
{
	const struct {
		const struct api_kind *kind;
		void (*fn)(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			   const struct object *prev);
	} kinds[WATCHES] = {
		[WATCH_ROLES] = { KIND_ROLE, role_event },
		[WATCH_CLUSTER_ROLES] = { KIND_CLUSTERROLE, role_event },
		[WATCH_BINDINGS] = { KIND_ROLEBINDING, binding_event },
		[WATCH_CLUSTER_BINDINGS] = { KIND_CLUSTERROLEBINDING, binding_event },
	};
	struct authz_index *index = mem_new(struct authz_index);

	index->reg = reg;
	for (size_t i = 0; i < WATCHES; i++) {
		struct authz_watch *w = &index->watches[i];

		w->index = index;
		w->watch.fn = kinds[i].fn;
		w->watch.kind = kinds[i].kind;
		registry_watch_start(reg, &w->watch);
	}
	return index;
}

static void scope_finish(struct authz_scope *scope)
{
	struct map *maps[] = { &scope->users, &scope->groups };

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		map_foreach(e, maps[i]) {
			free(((struct authz_grants *)e->value)->items);
			free(e->value);
		}
		map_finish(maps[i]);
	}
}

void authz_index_destroy(struct authz_index *index)
{
	if (!index)
		return;
	for (size_t i = 0; i < WATCHES; i++)
		registry_watch_stop(index->reg, &index->watches[i].watch);
	scope_finish(&index->cluster);
	map_foreach(e, &index->namespaces) {
		scope_finish(e->value);
		free(e->value);
	}
	map_foreach(e, &index->bindings) {
		arena_finish(&((struct authz_binding *)e->value)->arena);
		free(e->value);
	}
	map_foreach(e, &index->roles)
		role_destroy(e->value);
	map_finish(&index->namespaces);
	map_finish(&index->bindings);
	map_finish(&index->roles);
	free(index);
}
