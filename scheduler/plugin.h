/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler plugin is: a filter that says whether a node can take the pod (and why not, in
 * upstream's words), a score that says how well, or both. Pure: they read the cycle. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/cache.h"
#include "userspace/base/arena.h"

#define PLUGIN_REASONS_MAX 16
#define PLUGIN_SCORE_MAX 100

/* The pod being placed. */
struct cycle {
	struct arena *arena;
	const struct object *object;
	const struct json *pod, *spec;
};

enum verdict {
	VERDICT_FITS,
	VERDICT_UNSCHEDULABLE, /* other pods are in the way */
	VERDICT_UNRESOLVABLE,  /* removing pods would not help */
};

struct reasons {
	const char *items[PLUGIN_REASONS_MAX]; /* literals or of the cycle's arena */
	size_t n;
};
void reasons_add(struct reasons *r, const char *reason);

enum normalize {
	NORMALIZE_NONE,    /* the score is within 0..PLUGIN_SCORE_MAX */
	NORMALIZE_UP,      /* scaled so that the best has PLUGIN_SCORE_MAX */
	NORMALIZE_REVERSE, /* the same, the lowest being the best */
};

struct scheduler_plugin {
	const char *name;
	/* Once a cycle: what the others get as `state`. May be NULL. */
	void *(*pre_filter)(const struct cycle *c);
	enum verdict (*filter)(const struct cycle *c, void *state, const struct cache_node *node,
			       struct reasons *reasons);
	int64_t (*score)(const struct cycle *c, void *state, const struct cache_node *node);
	enum normalize normalize;
	int weight;
};

/* In the order in which they filter. */
extern const struct scheduler_plugin *const scheduler_plugins[];
extern const size_t n_scheduler_plugins;
void plugins_assert_unique(void);
