/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary text as an image reference: what is taken must be stable when normalised again. */
#include <string.h>

#include "kubelet/images/images.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char *text = arena_strndup(&arena, (const char *)data, size), *once, *twice;

	if (images_normalize(text, &arena, &once, NULL) < 0)
		return 0;
	if (images_normalize(once, &arena, &twice, NULL) < 0 || strcmp(once, twice) != 0)
		abort();
	return 0;
}
