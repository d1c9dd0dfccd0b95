/* SPDX-License-Identifier: Apache-2.0 */
/* YAML 1.1 as Kubernetes reads it (by libyaml), into a JSON tree: the one document of a request
 * body or configuration file. Anchors are refused past a small limit (billion laughs). */
#pragma once

#include "userspace/base/json.h"

#define YAML_ALIASES_MAX 64

/* The tree owns copies of all strings in the arena. An empty document gives JSON null. -EINVAL. */
int yaml_parse(struct arena *arena, struct str text, struct json **ret, struct err *err);
