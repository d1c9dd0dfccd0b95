/* SPDX-License-Identifier: Apache-2.0 */
/* What the API server counts, under upstream's names where they exist. A request costs one look-up of its series (verb,
 * kind, subresource, scope) and a few additions; text is made when somebody asks. The number of series is bounded.
 * Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/base/buf.h"
#include "userspace/base/str.h"

#define METRICS_SERIES_MAX 2048 /* further ones are counted in one without labels */
#define METRICS_CODES_MAX 16    /* of one series; further ones are counted as the last */

enum metrics_verb {
	METRICS_OTHER,
	METRICS_GET,
	METRICS_LIST,
	METRICS_WATCH,
	METRICS_POST,
	METRICS_PUT,
	METRICS_PATCH,
	METRICS_APPLY,
	METRICS_DELETE,
	METRICS_DELETECOLLECTION,
	METRICS_CONNECT,
};

enum metrics_scope { METRICS_SCOPE_NONE, METRICS_SCOPE_CLUSTER, METRICS_SCOPE_NAMESPACE, METRICS_SCOPE_RESOURCE };

struct metrics;
struct metrics_series;

void metrics_create(struct metrics **ret);
void metrics_destroy(struct metrics *m);

/* What a request is counted as; lives as long as `m`. `kind` NULL: a path. `subresource`: one of the kind's (static
 * text), or of a path one of a few, or NULL. */
struct metrics_series *metrics_series(struct metrics *m, enum metrics_verb verb, const struct api_kind *kind,
				      const char *subresource, enum metrics_scope scope, bool dry_run);
/* The label of a path: "/readyz" of "/readyz/ping"; NULL for those that clients make up. */
const char *metrics_path(struct str path);
bool metrics_is_long_running(const struct metrics_series *s);

void metrics_begin(struct metrics *m, struct metrics_series *s);
void metrics_end(struct metrics *m, struct metrics_series *s, int code, uint64_t bytes, int64_t duration_ns);
/* Where to count the events that watches of this kind send. */
uint64_t *metrics_watch_events(struct metrics *m, const struct api_kind *kind);

/* A request's user is known (a stranger's name counts, too); or its credential was refused. */
void metrics_authenticated(struct metrics *m, struct str user);
void metrics_unauthenticated(struct metrics *m);

void metrics_write(const struct metrics *m, struct buf *out);
/* Of this process: processor time, memory, descriptors, start. */
void metrics_write_process(struct buf *out);
/* "# HELP" and "# TYPE". */
void metrics_head(struct buf *out, const char *name, const char *type, const char *help);
