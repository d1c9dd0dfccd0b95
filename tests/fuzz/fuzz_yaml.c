/* SPDX-License-Identifier: Apache-2.0 */
/* YAML texts. What is read as JSON is written as JSON, is read as YAML again and must be the same; reading with and
 * without reports agrees; what JSON reads, YAML reads alike, but for three characters that are a string's for JSON and
 * line breaks, which fold, for YAML 1.1 (5.4). */
#include <stdlib.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

#define DUPLICATES_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_yaml_breaks(struct str text)
{
	static const char *const breaks[] = { "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9" };

	for (size_t i = 0; i < ARRAY_SIZE(breaks); i++)
		if (memmem(text.p, text.n, breaks[i], strlen(breaks[i])))
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str in = str_make((const char *)data, size), paths[DUPLICATES_MAX];
	struct json_duplicates dups = { .paths = paths, .max = DUPLICATES_MAX };
	struct json *strict = NULL, *loose = NULL, *again = NULL;
	struct str text;
	int r = yaml_parse(&arena, in, &strict, &err);

	if (r < 0 && (!err.code || !*err_message(&err)))
		abort();
	if (yaml_parse_report(&arena, in, &dups, &loose, NULL) < 0) {
		if (r >= 0)
			abort(); /* what is right for one is right for both */
		return 0;
	}
	if (dups.n > dups.max || (dups.n > 0) != (r < 0))
		abort(); /* what only one of them takes has duplicates, and they are told */
	if (r >= 0 && !json_equal(strict, loose))
		abort();
	text = json_text(&arena, loose);
	if (!has_yaml_breaks(text) && yaml_parse(&arena, text, &again, NULL) >= 0 && !json_equal(loose, again))
		abort();
	return 0;
}
