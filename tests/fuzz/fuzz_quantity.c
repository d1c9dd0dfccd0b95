/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities: the canonical text of what parses parses to the same value and is its own canonical text. */
#include <stdlib.h>
#include <string.h>

#include "userspace/api/quantity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[QUANTITY_TEXT_MAX], again[QUANTITY_TEXT_MAX];
	struct quantity q, r;

	if (quantity_parse(str_make((const char *)data, size), &q, NULL) < 0)
		return 0;
	quantity_format(&q, text);
	if (quantity_parse(str_of(text), &r, NULL) < 0 || quantity_cmp(&q, &r) != 0)
		abort();
	quantity_format(&r, again);
	if (strcmp(text, again))
		abort();
	quantity_add(&r, &q);
	quantity_value(&r);
	quantity_milli_value(&r);
	return 0;
}
