/* SPDX-License-Identifier: Apache-2.0 */
/* What others ask about the bandwidth of pods. */
#pragma once

#include <stdbool.h>

struct dataplane;

/* Some pod's own end keeps to an egress limit. */
bool rates_any_paced(struct dataplane *dp);
