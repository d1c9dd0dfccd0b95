/* SPDX-License-Identifier: Apache-2.0 */
/* Taints and tolerations, as the scheduler and the daemon controller judge them. Pure; any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/json.h"

/* By any of the list. */
bool taint_tolerated(const struct json *taint, const struct json *tolerations);
