/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of clients: the first byte picks a kind and a mode, the rest is the text. What decodes must decode again to
 * the same text, default and validate without complaint of the sanitizers. */
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_field_errors_ struct field_errors errors = FIELD_ERRORS_INIT;
	const struct api_kind *kind;
	struct decode_warnings warnings = { .n = 0 };
	struct json *tree, *again;
	struct str text;

	if (size < 3)
		return 0;
	kind = api_kind_at(data[0] % api_kind_count());
	if (decode_text(&arena, kind, str_make((const char *)data + 2, size - 2),
			data[1] & 1 ? DECODE_YAML : DECODE_JSON, (enum decode_field_validation)(data[1] / 2 % 3),
			&warnings, &tree, &err) < 0)
		return 0;
	text = json_text(&arena, tree);
	if (text.n <= DECODE_BYTES_MAX) {
		if (decode_text(&arena, kind, text, DECODE_JSON, DECODE_STRICT, NULL, &again, NULL) < 0)
			abort();
		if (!str_eq(text, json_text(&arena, again)))
			abort();
	}
	defaults_apply(&arena, kind, tree);
	validate_object(kind, tree, NULL, &errors);
	validate_object(kind, tree, tree, &errors);
	field_errors_result(&errors, kind, STR("x"), &err);
	return 0;
}
