/* SPDX-License-Identifier: Apache-2.0 */
/* JSON tree to text. See json.h. */
#include "userspace/base/json.h"

void json_write_str(struct buf *out, struct str s)
{
	static const char hex[] = "0123456789abcdef";
	/* Worst case six bytes a byte; reserved once, so that the loop only stores. */
	char *at = buf_reserve(out, s.n * 6 + 2), *start = at;
	const char *from = s.p;

	*at++ = '"';
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		size_t run;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		run = (size_t)(s.p + i - from);
		if (run)
			memcpy(at, from, run);
		at += run;
		from = s.p + i + 1;
		*at++ = '\\';
		switch (c) {
		case '"':
		case '\\':
			*at++ = (char)c;
			break;
		case '\n':
			*at++ = 'n';
			break;
		case '\r':
			*at++ = 'r';
			break;
		case '\t':
			*at++ = 't';
			break;
		default:
			memcpy(at, "u00", 3);
			at[3] = hex[c >> 4];
			at[4] = hex[c & 15];
			at += 5;
		}
	}
	if (s.n) {
		size_t run = (size_t)(s.p + s.n - from);

		if (run)
			memcpy(at, from, run);
		at += run;
	}
	*at++ = '"';
	buf_commit(out, (size_t)(at - start));
}

static void write_break(struct buf *out, int indent)
{
	if (indent < 0)
		return;
	buf_add_char(out, '\n');
	for (int i = 0; i < indent; i++)
		buf_add(out, "  ", 2);
}

/* indent -1: no blanks */
static void write_value(struct buf *out, const struct json *v, int indent)
{
	bool object = v->type == JSON_OBJECT;

	switch (v->type) {
	case JSON_NULL:
		buf_add(out, "null", 4);
		return;
	case JSON_BOOL:
		buf_add_cstr(out, v->boolean ? "true" : "false");
		return;
	case JSON_NUMBER:
	case JSON_RAW:
		buf_add_str(out, v->text);
		return;
	case JSON_STRING:
		json_write_str(out, v->text);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	buf_add_char(out, object ? '{' : '[');
	json_foreach(it, v) {
		if (it != v->first)
			buf_add_char(out, ',');
		write_break(out, indent < 0 ? -1 : indent + 1);
		if (object) {
			json_write_str(out, it->key);
			buf_add(out, ": ", indent < 0 ? 1 : 2);
		}
		write_value(out, it, indent < 0 ? -1 : indent + 1);
	}
	if (v->first)
		write_break(out, indent);
	buf_add_char(out, object ? '}' : ']');
}

void json_write(struct buf *out, const struct json *v)
{
	write_value(out, v, -1);
}

void json_write_pretty(struct buf *out, const struct json *v)
{
	write_value(out, v, 0);
}

struct str json_text(struct arena *arena, const struct json *v)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	json_write(&b, v);
	return arena_str(arena, buf_str(&b));
}
