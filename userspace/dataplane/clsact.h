/* SPDX-License-Identifier: Apache-2.0 */
/* The qdisc that programs hang on, and what a link's own filters remember of it. Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/err.h"

struct nl;

/* 1: made now, 0: it is there. `ours`: the link is, so whatever else has its place goes; on other links (`ingress` has
 * one direction only, the other's filters would land in it) only what serves nobody: else -EEXIST. */
int clsact_put(struct nl *nl, int ifindex, bool ours, struct err *err);
/* Only where no filters of others are left. */
void clsact_delete_unused(struct nl *nl, int ifindex);

/* What was done to a link (of enum k3c_link_flags), to be undone one day, stands in its row; and in the filters of the
 * programs on it, for when somebody takes the row away. */
uint32_t clsact_classid(uint32_t flags);
uint32_t clsact_flags(struct nl *nl, int ifindex);
