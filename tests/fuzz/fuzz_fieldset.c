/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send as managedFields, and configs that they apply. First byte: what is tried. A set that is taken is
 * written and read again as itself, and its algebra holds; an apply that is taken is taken again and changes nothing.
 */
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/api/fieldset.h"
#include "userspace/api/managed_fields.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fieldset *parse(struct arena *arena, struct str text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct fieldset *set = NULL;

	if (fieldset_parse(arena, json_new_raw(arena, text), &set, &err) < 0 && !err.message)
		abort();
	return set;
}

static void sets(struct str one, struct str two)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct fieldset *a = parse(&arena, one), *b = parse(&arena, two), *again;
	struct fieldset *first, *both;

	fieldset_write(&text, a);
	again = parse(&arena, buf_str(&text));
	if (!fieldset_equal(a, again))
		abort();
	first = fieldset_difference(&arena, a, b);
	both = fieldset_intersection(&arena, a, b);
	if (!fieldset_equal(fieldset_union(&arena, first, both), a))
		abort();
	fieldset_exclude(&arena, a, b);
}

static void apply(struct str one, struct str two, const struct api_kind *kind)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct managed_write w = { .kind = kind, .manager = STR("kubectl"), .now_real_ns = 1 };
	struct json *live = NULL, *config = NULL, *object = NULL, *managed = NULL, *again = NULL, *list = NULL;

	if (decode_text(&arena, kind, one, DECODE_JSON, DECODE_IGNORE, NULL, &live, NULL) < 0 ||
	    json_parse(&arena, two, 0, &config, NULL) < 0)
		return;
	list = json_remove(json_get(live, "metadata"), "managedFields");
	if (list && !managed_fields_valid(&arena, list))
		list = NULL;
	if (managed_fields_apply(&arena, &w, live, config, list, true, &object, &managed, &err) < 0 ||
	    decode_tree(&arena, kind, object, DECODE_IGNORE, NULL, &err) < 0) {
		if (!err.message)
			abort();
		return;
	}
	if (managed_fields_apply(&arena, &w, object, config, managed, false, &again, &managed, &err) < 0 ||
	    decode_tree(&arena, kind, again, DECODE_IGNORE, NULL, &err) < 0 || !json_equal(object, again))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_make((const char *)data + 1, size ? size - 1 : 0), one;

	if (size < 2 || !str_split(&rest, '\n', &one))
		return 0;
	if (data[0] % 2)
		sets(one, rest);
	else
		apply(one, rest, data[0] & 2 ? KIND_POD : KIND_SERVICE);
	return 0;
}
