/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in tests, written with single quotes. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"

static inline struct str quoted(struct arena *arena, const char *text)
{
	char *copy = arena_strdup(arena, text);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return str_of(copy);
}

static inline struct json *json_of(struct arena *arena, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (json_parse(arena, quoted(arena, text), 0, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	return v;
}
