/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of pins that are made beside the one they replace, and put in its place in one step. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/dataplane/internal.h"

#define PINSET_MAPS "maps"
#define PINSET_PROGRAMS "programs"

/* PIN_DIR/KIND, or its inner folder where there is one. */
void pinset_own(const char *pin_dir, const char *kind, char ret[static DP_PATH_MAX]);
/* The i-th replaced one, the newest first; false: there are fewer. */
bool pinset_old(const char *pin_dir, const char *kind, size_t i, char ret[static DP_PATH_MAX]);
void pinset_drop(const char *folder);
/* All of them, and what was never finished. */
void pinset_drop_old(const char *pin_dir, const char *kind);

int pinset_begin(const char *pin_dir, const char *kind, struct err *err);
int pinset_add(const char *pin_dir, const char *kind, const char *name, int fd, struct err *err);
/* A name that says what the set is. */
int pinset_mark(const char *pin_dir, const char *kind, const char *mark, struct err *err);
bool pinset_is_marked(const char *pin_dir, const char *kind, const char *mark);
int pinset_commit(const char *pin_dir, const char *kind, struct err *err);

/* Both pins of it lead to this object. */
bool pinset_holds(const char *pin_dir, const char *kind, const char *name, int fd);
/* How many pins the inner folder has. */
size_t pinset_count(const char *pin_dir, const char *kind);

/* The kernel's number of a map, program or link; 0: none. */
uint32_t pinset_id(int fd);
/* Of everything pinned in a folder. */
size_t pinset_ids(const char *folder, uint32_t *ret, size_t max);
