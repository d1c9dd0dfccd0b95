/* SPDX-License-Identifier: Apache-2.0 */
/* What may be said of lists and watches in the query. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "userspace/apiserver/call.h"
#include "userspace/base/err.h"
#include "userspace/base/mem.h"

#define INVALID "ListOptions.meta.k8s.io \"\" is invalid: "
#define MATCH INVALID "resourceVersionMatch: "

static const struct {
	const char *query;
	bool watch;
	int status; /* 0: good */
	const char *message;
} table[] = {
	{ "", false, 0, NULL },
	{ "limit=10&resourceVersion=0", false, 0, NULL },
	{ "resourceVersion=5&resourceVersionMatch=Exact", false, 0, NULL },
	{ "resourceVersion=0&resourceVersionMatch=NotOlderThan", false, 0, NULL },
	{ "timeoutSeconds=30&watch=1&allowWatchBookmarks=true", true, 0, NULL },
	{ "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", true, 0, NULL },
	{ "resourceVersionMatch=Exact", false, 422,
	  MATCH "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided" },
	{ "resourceVersion=5&continue=x&resourceVersionMatch=Exact", false, 422,
	  MATCH "Forbidden: resourceVersionMatch is forbidden when continue is provided" },
	{ "resourceVersion=5&resourceVersionMatch=Older", false, 422,
	  MATCH "Unsupported value: \"Older\": supported values: \"Exact\", \"NotOlderThan\", \"\"" },
	{ "resourceVersion=0&resourceVersionMatch=Exact", false, 422,
	  MATCH "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"" },
	{ "sendInitialEvents=true", false, 422,
	  INVALID "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list" },
	{ "sendInitialEvents=true", true, 422,
	  MATCH "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" },
	{ "resourceVersionMatch=NotOlderThan", true, 422,
	  MATCH "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided" },
	{ "limit=x", false, 400, "strconv.ParseInt: parsing \"x\": invalid syntax" },
	{ "timeoutSeconds=1s", true, 400, "strconv.ParseInt: parsing \"1s\": invalid syntax" },
	{ "allowWatchBookmarks=maybe", true, 400, "strconv.ParseBool: parsing \"maybe\": invalid syntax" },
};

static void options_are_judged(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct call call = { .arena = &arena };

		assert_int_equal(query_parse(&arena, str_of(table[i].query), &call.query), 0);
		if (!table[i].status) {
			if (list_options_check(&call, table[i].watch, &err) < 0)
				fail_msg("%s: %s", table[i].query, err_message(&err));
			continue;
		}
		assert_true(list_options_check(&call, table[i].watch, &err) < 0);
		assert_int_equal(err.status, table[i].status);
		assert_string_equal(err_message(&err), table[i].message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(options_are_judged) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
