/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a URL behind the "?". Keys and values are percent-decoded; what is written again in percent-encoding is
 * read as the same pairs, and the accessors agree with each other. */
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void escape(struct buf *out, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		buf_printf(out, "%%%02x", (unsigned char)s.p[i]);
}

static void accessors(const struct query *q)
{
	static const char *const names[] = { "limit", "watch", "dryRun", "fieldValidation", "timeoutSeconds" };
	enum decode_field_validation validation;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		int64_t n = 0;
		struct str value = query_get(q, names[i]);
		bool dry;

		if (query_get(q, names[i]).n && !query_has(q, names[i]))
			abort();
		query_bool(q, names[i]);
		if (query_int(q, names[i], 7, &n, &err) < 0 && err.status != 400)
			abort();
		err_finish(&err);
		if (decode_parse_dry_run(&value, query_has(q, names[i]), "CreateOptions", &dry, &err) < 0 &&
		    err.status != 422)
			abort();
		err_finish(&err);
		if (decode_parse_field_validation(query_get(q, names[i]), "PatchOptions", &validation, &err) < 0 &&
		    err.status != 422)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct query q, again;

	if (query_parse(&arena, str_make((const char *)data, size), &q) < 0)
		return 0;
	accessors(&q);
	for (size_t i = 0; i < q.n; i++) {
		if (i)
			buf_add_char(&text, '&');
		escape(&text, q.params[i].key);
		buf_add_char(&text, '=');
		escape(&text, q.params[i].value);
	}
	if (query_parse(&arena, buf_str(&text), &again) < 0 || again.n != q.n)
		abort();
	for (size_t i = 0; i < q.n; i++)
		if (!str_eq(q.params[i].key, again.params[i].key) || !str_eq(q.params[i].value, again.params[i].value))
			abort();
	return 0;
}
