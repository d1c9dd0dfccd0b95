/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between an object's bytes and the disk: the owner of the store may change them on their way (encryption).
 * Memory, watchers and history only ever see the plain bytes; rows in the database and its log only the changed ones.
 * The store knows nothing of what is done. The functions are called on the loop's thread while loading, and on the
 * writer's afterwards: what they read must not change while the store is open. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

/* Where an object lies. */
struct transform_place {
	const char *group, *plural;
	struct str key; /* "ns/name", or "name" of what has no namespace; empty: a row that was not changed */
};

struct store_transform {
	void *arg;
	/* Not negative, and another one whenever seal() does things differently: then what the files hold besides rows
	 * is removed once. 0: seal() changes nothing. */
	int64_t form;
	/* How the rows of a resource are treated, for the calls below; NULL: they lie there as they are. */
	const void *(*find)(void *arg, const char *group, const char *plural);
	/* Appends what the row shall hold to `out` and returns 0; or returns 1: the bytes as they are. */
	int (*seal)(const void *how, const struct transform_place *place, struct str plain, struct buf *out,
		    struct err *err);
	/* *ret_plain: within `stored`, or appended to `out`. *ret_stale: seal() would do it otherwise today, so the row
	 * wants to be written again. An error ends the loading: nothing is overwritten then. */
	int (*open)(const void *how, const struct transform_place *place, struct str stored, struct buf *out,
		    struct str *ret_plain, bool *ret_stale, struct err *err);
};
