/* SPDX-License-Identifier: Apache-2.0 */
/* Backends and source ranges of sets that no frontend names, and backends behind the last of a set that one does name,
 * looked for in pieces: frontends name their sets first, then the other rows go. Sets that are made meanwhile are left
 * alone until the next look. Inside the room only. Loop thread.
 */
#pragma once

#include "userspace/base/map.h"
#include "userspace/dataplane/batch.h"

struct dataplane;
struct k3c_service;

struct sets_look {
	struct dataplane *dp;
	struct map used;    /* set -> 1 + how many backends it has */
	uint32_t first_new; /* number of the first set that was made since */
	uint32_t deleted;
};

void sets_look_begin(struct sets_look *l, struct dataplane *dp);
void sets_look_finish(struct sets_look *l);
/* Of every frontend. */
void sets_look_names(struct sets_look *l, const struct k3c_service *s);
/* The next rows of backends, with the last of them all ranges; *ret_deleted: how many went. 1: there are more. */
int sets_look_piece(struct sets_look *l, struct batch_walk *walk, uint32_t rows, uint32_t *ret_deleted);
