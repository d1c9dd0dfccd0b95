/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in single quotes, addresses and ports in tests of the pure translations. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/netctl/address.h"

static inline struct json *json_of(struct arena *arena, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	char *copy = arena_strdup(arena, text);
	struct json *v = NULL;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	if (json_parse(arena, str_of(copy), 0, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	return v;
}

static inline struct dp_addr addr_of(const char *text)
{
	struct dp_addr a;

	if (address_parse(str_of(text), &a) < 0)
		fail_msg("no address: %s", text);
	return a;
}
