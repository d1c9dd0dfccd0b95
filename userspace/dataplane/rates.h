/* SPDX-License-Identifier: Apache-2.0 */
/* What others ask about the bandwidth of pods. */
#pragma once

#include <stdbool.h>

struct dataplane;
struct nl;

/* In the batch: fq in place of the link's queue, or what the kernel takes by itself again. */
void rates_put_fq(struct nl *nl, int ifindex, bool wanted);

/* Some pod's own end keeps to an egress limit. */
bool rates_any_paced(struct dataplane *dp);
