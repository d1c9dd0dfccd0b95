/* SPDX-License-Identifier: Apache-2.0 */
/* Field selectors of clients: the first byte picks the kind, the rest is the selector. Requirements stay inside of what
 * the kind offers, and an object made to fulfil them is selected. */
#include <stdlib.h>

#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t selectable_count(const struct api_kind *k)
{
	size_t n = 0;

	while (k->selectable && k->selectable[n])
		n++;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str fields[API_SELECTABLE_MAX] = { 0 }, name = STR("\x01"), ns = STR("\x01");
	const struct api_kind *kind;
	struct field_selector s;
	bool clash = false;
	size_t n;

	if (size < 1)
		return 0;
	kind = api_kind_at(data[0] % api_kind_count());
	n = selectable_count(kind);
	if (field_selector_parse(&arena, kind, str_make((const char *)data + 1, size - 1), &s, &err) < 0) {
		if (err.status != 400)
			abort();
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		fields[i] = STR("\x01");
	/* An object of the values that are asked for; two of one field, or one that must not be, cannot be had. */
	for (size_t i = 0; i < s.n; i++) {
		const struct field_requirement *r = &s.requirements[i];
		struct str *at = r->field == FIELD_SELECTOR_NAME        ? &name
				 : r->field == FIELD_SELECTOR_NAMESPACE ? &ns
									: &fields[r->field];

		if (r->field >= (int)n || r->field < FIELD_SELECTOR_NAMESPACE)
			abort();
		if (!r->not_equal && !str_is(*at, "\x01") && !str_eq(*at, r->value))
			clash = true;
		if (!r->not_equal)
			*at = r->value;
	}
	for (size_t i = 0; i < s.n; i++) {
		const struct field_requirement *r = &s.requirements[i];
		struct str at = r->field == FIELD_SELECTOR_NAME        ? name
				: r->field == FIELD_SELECTOR_NAMESPACE ? ns
								       : fields[r->field];

		clash |= r->not_equal && str_eq(at, r->value);
	}
	if (field_selector_matches(&s, ns, name, fields, n) == clash)
		abort();
	if (field_selector_name(&s).n && !clash && !str_eq(field_selector_name(&s), name))
		abort();
	return 0;
}
