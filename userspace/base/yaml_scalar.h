/* SPDX-License-Identifier: Apache-2.0 */
/* What a scalar of YAML 1.1 says. Inside yaml*.c only. */
#pragma once

#include "userspace/base/json.h"

/* `tag`: as libyaml gives it, NULL when there is none; `plain`: not quoted. -EINVAL: not what its tag says, or no
 * number that JSON knows. */
int yaml_scalar(struct arena *arena, const char *tag, bool plain, struct str s, struct json **ret, struct err *err);
/* The member name that the scalar is; -EINVAL: null is none. */
int yaml_key(struct arena *arena, const char *tag, bool plain, struct str s, struct str *ret, struct err *err);
