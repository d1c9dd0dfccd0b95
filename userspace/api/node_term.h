/* SPDX-License-Identifier: Apache-2.0 */
/* Terms of node affinity: which nodes a NodeSelectorTerm means. Pure; any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/api/selector.h"

struct node_term {
	bool nothing; /* without requirements, or one cannot be read: matches no node */
	struct selector labels;
	const struct json *fields; /* matchFields; may be NULL */
};

/* Refers to `term`, which must outlive it. */
struct node_term node_term_compile(struct arena *arena, const struct json *term);
bool node_term_matches(const struct node_term *t, const struct json *node);
