/* SPDX-License-Identifier: Apache-2.0 */
/* Whether some rules allow all that others do, and if not, what is missing. Pure. Inside registry/authz/ only. */
#pragma once

#include "userspace/registry/authz/index.h"

#define COVER_PARTS_MAX 100000 /* single permissions that the asked rules are taken apart into */

/* The single permissions (one verb on one resource, name or path) of `asked` that none of `held` gives, in `arena`;
 * strings are shared. -E2BIG past the limit. */
int cover_missing(struct arena *arena, const struct authz_rule *held, size_t n_held, const struct authz_rule *asked,
		  size_t n_asked, struct authz_rule **ret, size_t *ret_n);
/* Single permissions on one resource joined to one rule; the others as they are. */
struct authz_rule *cover_compact(struct arena *arena, const struct authz_rule *rules, size_t n, size_t *ret_n);
/* `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}` */
struct str cover_text(struct arena *arena, const struct authz_rule *rule);
struct json *cover_json(struct arena *arena, const struct authz_rule *rule);
