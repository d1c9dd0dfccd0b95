/* SPDX-License-Identifier: Apache-2.0 */
/* Pins that another build left. */
#pragma once

#include <stdbool.h>

struct dataplane;

bool strangers_any_pinned(struct dataplane *dp);
/* Some program is pinned, and it uses other maps than these. */
bool strangers_use_other_maps(struct dataplane *dp);
/* Programs and links of other builds that this one does not know. */
void strangers_drop(struct dataplane *dp);
