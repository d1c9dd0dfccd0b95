/* SPDX-License-Identifier: Apache-2.0 */
/* Patches of clients: the first byte picks the type, then the original and the patch, parted by a newline. What
 * comes out must be JSON again; the original must stay. */
#include <stdlib.h>

#include "userspace/api/patch.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str rest = str_make((const char *)data + 1, size ? size - 1 : 0), text, before;
	const struct api_message *message = size && data[0] & 4 ? KIND_POD->message : KIND_DEPLOYMENT->message;
	struct json *original, *result, *again;

	if (size < 2 || !str_split(&rest, '\n', &text))
		return 0;
	if (json_parse(&arena, text, 0, &original, NULL) < 0)
		return 0;
	before = json_text(&arena, original);
	if (patch_apply(&arena, (enum patch_type)(data[0] % 3), message, original, rest, &result, &err) < 0) {
		if (!err.code || !err.message)
			abort();
	} else if (json_parse(&arena, json_text(&arena, result), 0, &again, NULL) < 0) {
		abort();
	}
	if (!str_eq(before, json_text(&arena, original)))
		abort();
	return 0;
}
