/* SPDX-License-Identifier: Apache-2.0 */
/* What kindgen generates, for the modules of this room that walk all of it. */
#pragma once

#include "userspace/api/kind.h"

extern const struct api_message *const api_builtin_messages; /* sorted by name */
extern const size_t api_builtin_n_messages;
extern const struct api_kind api_builtin_kinds[]; /* group-versions together, sorted by kind within */
extern const size_t api_builtin_n_kinds;
extern const struct api_kind *const api_builtin_resources[]; /* by resource index, the stored kind */
extern const size_t api_builtin_n_resources;                 /* stored ones: their `resource` is below this */
extern const struct api_group_version api_builtin_group_versions[];
extern const size_t api_builtin_n_group_versions;
extern const char api_builtin_digest[]; /* changes when the data does */
