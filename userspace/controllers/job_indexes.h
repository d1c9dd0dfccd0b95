/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of completion indexes as an Indexed Job's status writes them: "0-2,5". Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/str.h"

#define JOB_INDEXES_MAX 100000 /* completions of an Indexed Job; what lies beyond is not tracked */

struct job_indexes {
	bool *has; /* of `n`; arena */
	int64_t n;
};

struct job_indexes job_indexes_parse(struct arena *arena, struct str text, int64_t completions);
bool job_indexes_has(const struct job_indexes *set, int64_t i);
void job_indexes_add(struct job_indexes *set, int64_t i);
int64_t job_indexes_count(const struct job_indexes *set);
const char *job_indexes_text(struct arena *arena, const struct job_indexes *set);
