/* SPDX-License-Identifier: Apache-2.0 */
/* Who was the first to carry a text: what checks over lists of clients' lengths ask, so that they stay linear. A few
 * texts lie in place and are compared one by one; what does not fit there goes to a hash map. Texts are copied.
 * Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/base/buf.h"
#include "userspace/base/json.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define NAME_SET_FEW 16
#define NAME_SET_FEW_BYTES 512

struct name_set {
	struct map map; /* everything, once there are many */
	size_t n;       /* in place */
	size_t end;     /* of `text` */
	const void *values[NAME_SET_FEW];
	struct str texts[NAME_SET_FEW];
	char text[NAME_SET_FEW_BYTES];
};

void name_set_init(struct name_set *s); /* cheaper than zeroing all of it */
void name_set_finish(struct name_set *s);
#define _cleanup_name_set_ _cleanup_(name_set_finish)

/* The first value that came with that text: `value` (not NULL) itself when the text is new. */
const void *name_set_put(struct name_set *s, struct str text, const void *value);
const void *name_set_get(const struct name_set *s, struct str text); /* NULL: nobody */

/* Puts each item of a list under the text of its member `key` ("" where there is none). */
void name_set_add_list(struct name_set *s, const struct json *list, const char *key);
/* Puts the members of an object under their names. */
void name_set_add_members(struct name_set *s, const struct json *object);
/* Who came first with this value: those that json_equal() holds for equal are one. */
const void *name_set_put_value(struct name_set *s, const struct json *v, const void *value);
const void *name_set_get_value(const struct name_set *s, const struct json *v);
/* The text that such values share. */
void name_set_value_text(struct buf *out, const struct json *v);
