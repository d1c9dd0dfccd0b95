/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what: RBAC, as rbac.authorization.k8s.io/v1 defines it. The API server asks for every request, reviews
 * ask for others, admission asks for what a write implies (escalation, approval of certificates). Members of
 * system:masters are exempt; nobody else is. Answers come from an index that follows the rbac objects. Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"
#include "userspace/registry/registry.h"
#include "userspace/registry/request.h"

/* All borrowed. Either a resource or a path. */
struct authz_attributes {
	const struct request_user *user;
	struct str verb; /* "get", "list", "watch", "create", ..., "impersonate", "bind", "approve"; lower-case method
			    of paths */
	bool is_path;
	struct str path;                                            /* is_path: "/metrics" */
	struct str group, version, resource, subresource, ns, name; /* ns empty: cluster-wide; name empty: any */
};

enum authz_decision { AUTHZ_NO_OPINION, AUTHZ_ALLOW };

/* `ret_reason` (may be NULL) gets upstream's words in `arena`: `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole
 * "y" to User "z"`; empty when nothing applies. */
enum authz_decision authz_decide(struct registry *reg, const struct authz_attributes *attributes, struct arena *arena,
				 struct str *ret_reason);

/* 403 with upstream's message: `pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the
 * namespace "n"`. Returns -EACCES. */
int authz_forbidden(struct err *err, const struct authz_attributes *attributes, struct str reason);

/* Who is never asked about: the node itself (NULL) and members of system:masters. */
bool authz_is_exempt(const struct request_user *user);

/* What the user may do in a namespace: fills status.resourceRules, nonResourceRules and incomplete of a
 * SelfSubjectRulesReview. */
void authz_rules(struct registry *reg, const struct request_user *user, struct str ns, struct arena *arena,
		 struct json *status);

/* The default roles and bindings of a cluster, made or mended. Returns how many writes are under way; `done` runs when
 * the last of them is published, and not at all when there are none. */
unsigned authz_bootstrap(struct registry *reg, void (*done)(void *arg), void *arg);
