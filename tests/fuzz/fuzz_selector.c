/* SPDX-License-Identifier: Apache-2.0 */
/* Label and field selectors of clients. What a label selector writes must be a selector that says the same. */
#include <stdlib.h>

#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf first = BUF_INIT, second = BUF_INIT;
	struct str text = str_make((const char *)data, size);
	const struct api_label labels[] = { { STR("a"), STR("b") }, { STR("n"), STR("5") } };
	struct field_selector fields;
	struct selector s, again;

	if (field_selector_parse(&arena, KIND_POD, text, &fields, NULL) == 0)
		field_selector_matches(&fields, STR("d"), STR("x"), NULL, 0);
	if (selector_parse(&arena, text, &s, NULL) < 0)
		return 0;
	selector_write(&first, &s);
	if (selector_parse(&arena, buf_str(&first), &again, NULL) < 0)
		abort();
	if (selector_matches(&s, labels, 2) != selector_matches(&again, labels, 2))
		abort();
	selector_destroy(selector_clone(&s));
	return 0;
}
