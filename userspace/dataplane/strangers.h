/* SPDX-License-Identifier: Apache-2.0 */
/* Pins that another build left. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dataplane;

typedef void strangers_map_fn(void *arg, uint32_t map_id);
/* The maps (but constants) of the programs that the pinned links lead to; how many programs. */
size_t strangers_each_map_attached(const char *pin_dir, strangers_map_fn *fn, void *arg);
/* Of every program in the kernel. */
void strangers_each_map_in_use(strangers_map_fn *fn, void *arg);
/* Some program is pinned, and it uses other maps than these. */
bool strangers_use_other_maps(struct dataplane *dp);
/* Programs and links of other builds that this one does not know. */
void strangers_drop(struct dataplane *dp);
