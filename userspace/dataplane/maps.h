/* SPDX-License-Identifier: Apache-2.0 */
/* The table of maps, and what becomes of the maps of an earlier (or later) build. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/dataplane/internal.h"

struct bpf_map;

/* PRESERVE maps hold what nobody else knows; REBUILD maps are filled again from the objects. */
enum map_keep { MAP_PRESERVE, MAP_REBUILD };

struct map_row {
	const char *name;
	unsigned version;
	enum map_keep keep;
	uint32_t entries; /* 0: as the object says */
};
extern const struct map_row map_rows[DP_MAP_COUNT];

enum map_found {
	MAP_FOUND_NONE,
	MAP_FOUND_SAME,    /* as it is */
	MAP_FOUND_RESIZED, /* the same layout, another size */
	MAP_FOUND_OTHER,   /* a layout that this build does not know */
	MAP_FOUND_OLDER,   /* one that it knows how to carry over */
};

struct map_look {
	enum map_found found;
	int fd; /* of SAME, RESIZED, OLDER */
};

#define MAPS_PIN_NAME 64
void maps_pin_name(enum dp_map m, char ret[static MAPS_PIN_NAME]);
bool maps_pin_path(const char *folder, enum dp_map m, char ret[static DP_PATH_MAX]);
/* Under the pins of that folder. */
void maps_look(const char *folder, enum dp_map m, const struct bpf_map *map, uint32_t entries, struct map_look *ret);
/* Entries of `from` that `to` lacks. */
int maps_copy(int from, int to, struct err *err);
/* Where translations go. */
struct maps_nat {
	int lasting, unassured;
	int closed; /* the queue */
	int used;
};
/* Translations, of whichever table: those that ended are left behind (the late ones join the queue), and what old
 * programs have said since counts. Earlier builds had one table for all: what is not assured stays where connections
 * cannot be told from it, but echoes and questions go where they belong. */
int maps_copy_nat(int from, const struct maps_nat *to, struct err *err);
/* Connections; what is none of them goes to `datagrams`. When ports tell the wrong end of one, `used` says so. */
int maps_copy_conn(int from, int to, int datagrams, int used, struct err *err);
/* Datagrams that no policy looks at; of a table with more places than `to` has all go to `policed`, the larger one. A
 * build before had one for all of them, and whoever asks finds them there. */
int maps_copy_datagrams(int from, int to, int policed, struct err *err);
/* Bits that programs only ever set, also meanwhile: of the only row of an array. */
int maps_set_bits(int fd, uint32_t bits, struct err *err);
int maps_copy_bits(int from, int to, struct err *err);
int maps_carry_older(enum dp_map m, int from, int to, struct err *err);
/* Pins of other layouts, and of maps that are no more. */
void maps_drop_strangers(const char *pin_dir);
