/* SPDX-License-Identifier: Apache-2.0 */
/* Taints and tolerations. Pure; any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/json.h"

bool taint_tolerated_by(const struct json *taint, const struct json *toleration);
/* By any of the list. */
bool taint_tolerated(const struct json *taint, const struct json *tolerations);
