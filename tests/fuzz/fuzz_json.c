/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts. What is read is written and read again as the same, to the byte the second time; reading with reports of
 * duplicates gives the same tree; a refusal has words. */
#include <stdlib.h>

#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define DUPLICATES_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str in = str_make((const char *)data, size), text, paths[DUPLICATES_MAX];
	const char *at[DUPLICATES_MAX];
	struct json_duplicates dups = { .paths = paths, .at = at, .max = DUPLICATES_MAX };
	struct json *v = NULL, *again = NULL;

	if (json_parse(&arena, in, 0, &v, &err) < 0) {
		if (!*err_message(&err) || json_parse_report(&arena, in, &dups, &v, NULL) >= 0)
			abort();
		return 0;
	}
	if (json_parse_report(&arena, in, &dups, &again, NULL) < 0 || !json_equal(v, again))
		abort();
	if ((json_parse(&arena, in, JSON_PARSE_STRICT_DUPLICATES, &again, NULL) < 0) != (dups.n > 0))
		abort();
	text = json_text(&arena, v);
	if (json_parse(&arena, text, JSON_PARSE_STRICT_DUPLICATES, &again, NULL) < 0 || !json_equal(v, again))
		abort();
	if (!str_eq(text, json_text(&arena, again)))
		abort();
	return 0;
}
