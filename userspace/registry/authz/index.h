/* SPDX-License-Identifier: Apache-2.0 */
/* The RBAC objects in the form in which questions are answered: from a subject to its bindings, from a binding to its
 * role, and from a role to what it allows. It follows the four kinds by watches, so it shows what is published; a
 * change costs what the changed object holds. Roles are compiled when a question first needs them: the many that
 * nobody is bound to cost a few bytes. Inside registry/authz/ only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/map.h"
#include "userspace/registry/authz.h"

#define AUTHZ_KEY_MAX 640 /* group, resource and subresource of a question; longer ones are compared rule by rule */

struct authz_strs {
	const struct str *items;
	size_t n;
};

struct authz_rule {
	struct authz_strs verbs, groups, resources, names, paths;
};

/* What a plain rule (no names, no wildcards but that of verbs) allows on one resource. */
struct authz_cell {
	uint64_t hash, verbs;
	struct str key; /* NULL: free */
};

struct authz_role {
	struct str ns, name; /* ns empty: a ClusterRole */
	unsigned n_bindings;
	bool exists, compiled;
	/* Of a compiled one: */
	struct arena arena;
	struct authz_rule *rules;
	size_t n_rules;
	struct authz_cell *cells;
	uint32_t cells_cap;                /* power of two, or 0 */
	const struct authz_rule **special; /* on resources, and not in the cells */
	const struct authz_rule **paths;   /* with nonResourceURLs */
	size_t n_special, n_paths;
};

struct authz_subject {
	bool group;
	const char *kind;       /* as written: "User", "Group", "ServiceAccount" */
	struct str name, shown; /* what the user or group is called; what the reason calls it */
};

struct authz_binding {
	struct arena arena;
	struct str ns, name; /* ns empty: a ClusterRoleBinding */
	struct authz_role *role;
	struct authz_subject *subjects;
	size_t n_subjects;
};

struct authz_grant {
	const struct authz_binding *binding;
	const struct authz_subject *subject;
};

struct authz_index;

struct authz_index *authz_index_create(struct registry *reg);
void authz_index_destroy(struct authz_index *index);

/* The grants of a user: those of ClusterRoleBindings, then those of RoleBindings in `ns` (when it is not empty). A
 * role that does not exist is visited too. Stops, and returns true, when `fn` returns true. */
typedef bool authz_visit_fn(void *arg, const struct authz_grant *grant);
bool authz_index_visit(struct authz_index *index, const struct request_user *user, struct str ns, authz_visit_fn *fn,
		       void *arg);
/* Compiled, from what is published. */
const struct authz_role *authz_index_role(struct authz_index *index, struct authz_role *role);

/* ---- rules.c ---- */

/* A question, prepared once for all the roles it is put to. */
struct authz_question {
	const struct authz_attributes *a;
	uint64_t hash, verb;
	struct str key;      /* NULL: too long for the cells */
	struct str resource; /* with "/subresource" */
	char text[AUTHZ_KEY_MAX];
};

void authz_question_init(struct authz_question *q, const struct authz_attributes *a, struct arena *arena);
/* The rules of a PolicyRule list, in `arena`; strings are copied. */
struct authz_rule *authz_rules_read(struct arena *arena, const struct json *rules, size_t *ret_n);
void authz_role_compile(struct authz_role *role, const struct json *rules);
bool authz_role_allows(const struct authz_role *role, const struct authz_question *q);
bool authz_strs_has(const struct authz_strs *list, struct str s);
/* Whether a path rule such as "/api/x" or one with a trailing star covers `path` (itself a path or a rule). */
bool authz_path_covers(struct str rule, struct str path);
/* `role.rbac.authorization.k8s.io "x" not found` */
struct str authz_role_missing(struct arena *arena, const struct authz_role *role);

/* ---- authz.c ---- */

/* Which roles the user is bound to and nobody made: one text, or `[a, b]`; empty when there are none. */
struct str authz_missing_text(struct registry *reg, const struct request_user *user, struct str ns,
			      struct arena *arena);
