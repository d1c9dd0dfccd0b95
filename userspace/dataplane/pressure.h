/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that a map had no room for. */
#pragma once

#include "userspace/dataplane/internal.h"

/* Of a write to `map` that just failed with errno: -ENOSPC, remembered, or another error. Loop thread. */
int pressure_write_failed(struct dataplane *dp, enum dp_map map, struct err *err);
/* So many entries were not even tried: there is no room for them. Loop thread. */
void pressure_left_out(struct dataplane *dp, enum dp_map map, size_t n);

/* What a refused write was for. It is remembered until that is written, or not wanted any more. */
enum pressure_for {
	PRESSURE_FRONTEND, /* struct k3c_service_key */
	PRESSURE_POLICY,   /* struct k3c_addr */
	PRESSURE_IDENTITY, /* struct k3c_addr */
	PRESSURE_POD,      /* the pod's key */
};
/* What came of a try to write it: -ENOSPC, the last write to be refused was its; not negative: it is there, or nobody
 * wants it. After other errors it is as it was. Loop thread. */
void pressure_outcome(struct dataplane *dp, enum pressure_for what, const void *key, size_t len, int r);
/* Of a map that is always written as a whole: so many are not in it now. Loop thread. */
void pressure_unwritten(struct dataplane *dp, enum dp_map map, size_t n);
void pressure_finish(struct dataplane *dp);
