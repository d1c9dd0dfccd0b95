/* SPDX-License-Identifier: Apache-2.0 */
/* YAML 1.1 as Kubernetes reads it (by libyaml), into a JSON tree: the one document of a request
 * body or configuration file. What anchors grow to is limited (billion laughs). */
#pragma once

#include "userspace/base/json.h"

#define YAML_ALIASES_MAX 1024
/* Nodes that following aliases makes: some are free, past that as many as this times those that the text itself has. A
 * text that is almost all aliases of aliases is no configuration. */
#define YAML_EXPANDED_NODES_FREE 20000
#define YAML_EXPANDED_NODES_RATIO 10
#define YAML_NODES_MAX 1000000

/* The tree owns copies of all strings in the arena. An empty document gives JSON null. -EINVAL; also when a key is
 * given twice. */
int yaml_parse(struct arena *arena, struct str text, struct json **ret, struct err *err);
/* The same, but of keys given twice the last one wins; they are reported (`line 7: key "a" already set in map`), not
 * by path. */
int yaml_parse_report(struct arena *arena, struct str text, struct json_duplicates *dups, struct json **ret,
		      struct err *err);
/* Appends the tree as a document, as Kubernetes writes YAML. -EINVAL: a string is no UTF-8. */
int yaml_write(struct buf *out, const struct json *v);
