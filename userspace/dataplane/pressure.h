/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that a map had no room for. */
#pragma once

#include "userspace/dataplane/internal.h"

/* Of a write to `map` that just failed with errno: -ENOSPC, remembered, or another error. Loop thread. */
int pressure_write_failed(struct dataplane *dp, enum dp_map map, struct err *err);
/* So many entries were not even tried: there is no room for them. Loop thread. */
void pressure_left_out(struct dataplane *dp, enum dp_map map, size_t n);
