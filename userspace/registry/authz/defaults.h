/* SPDX-License-Identifier: Apache-2.0 */
/* The roles and bindings that a v1.36 cluster has by default, as data. Lists are separated by blanks; the core group is
 * written "-". Every object also carries the label kubernetes.io/bootstrapping=rbac-defaults and the annotation
 * rbac.authorization.kubernetes.io/autoupdate=true. Inside registry/authz/ only. */
#pragma once

#include <stddef.h>

struct authz_default_rule {
	const char *verbs, *groups, *resources, *names;
	const char *paths; /* instead of groups and resources */
};

struct authz_default_role {
	const char *ns; /* NULL: a ClusterRole */
	const char *name;
	const char *aggregate_to; /* "view": the label rbac.authorization.k8s.io/aggregate-to-view; NULL: none */
	const char *aggregates;   /* "view": an aggregation rule that selects that label; NULL: none */
	const struct authz_default_rule *rules;
	size_t n_rules;
};

struct authz_default_binding {
	const char *ns; /* NULL: a ClusterRoleBinding */
	const char *name, *role;
	const char *users, *groups;
	const char *accounts; /* of kube-system */
};

extern const struct authz_default_role AUTHZ_DEFAULT_ROLES[];
extern const size_t AUTHZ_DEFAULT_ROLES_N;
/* A controller's role is bound to the service account of its name; those bindings are not in this list. */
extern const struct authz_default_binding AUTHZ_DEFAULT_BINDINGS[];
extern const size_t AUTHZ_DEFAULT_BINDINGS_N;
#define AUTHZ_CONTROLLER_PREFIX "system:controller:"
