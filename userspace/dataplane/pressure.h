/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that a map had no room for. */
#pragma once

#include "userspace/dataplane/internal.h"

/* Of a write to `map` that just failed with errno: -ENOSPC, remembered, or another error. Loop thread. */
int pressure_write_failed(struct dataplane *dp, enum dp_map map, struct err *err);
