/* SPDX-License-Identifier: Apache-2.0 */
/* What may be said of a list or a watch in the query, and what contradicts itself: upstream's rules and words. What
 * needs the store (is this revision known?) is the registry's. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/api/validate.h"
#include "userspace/apiserver/call.h"

static const struct field_path *list_options_match(void)
{
	static const struct field_path match = {
		.type = FIELD_PATH_NAME, .name = { "resourceVersionMatch", sizeof("resourceVersionMatch") - 1 }
	};

	return &match;
}

static void list_options_list(const struct query *q, struct field_errors *e)
{
	static const char *const supported[] = { "Exact", "NotOlderThan", "", NULL };
	struct str match = query_get(q, "resourceVersionMatch"), version = query_get(q, "resourceVersion");

	if (match.n && !version.n)
		field_forbidden(e, list_options_match(),
				"resourceVersionMatch is forbidden unless resourceVersion is provided");
	if (match.n && query_get(q, "continue").n)
		field_forbidden(e, list_options_match(), "resourceVersionMatch is forbidden when continue is provided");
	if (match.n && !str_is(match, "Exact") && !str_is(match, "NotOlderThan"))
		field_not_supported(e, list_options_match(), match, supported);
	if (str_is(match, "Exact") && str_is(version, "0"))
		field_forbidden(e, list_options_match(),
				"resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
	if (query_has(q, "sendInitialEvents"))
		field_forbidden(e, FIELD(NULL, "sendInitialEvents"), "sendInitialEvents is forbidden for list");
}

static void list_options_watch(const struct query *q, struct field_errors *e)
{
	static const char *const supported[] = { "NotOlderThan", NULL };
	struct str match = query_get(q, "resourceVersionMatch");
	bool initial = query_has(q, "sendInitialEvents");

	if (initial && !str_is(match, "NotOlderThan"))
		field_forbidden(e, list_options_match(),
				"sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
	if (match.n && !initial)
		field_forbidden(e, list_options_match(),
				"resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
	if (match.n && !str_is(match, "NotOlderThan"))
		field_not_supported(e, list_options_match(), match, supported);
	if (match.n && query_get(q, "continue").n)
		field_forbidden(e, list_options_match(), "resourceVersionMatch is forbidden when continue is provided");
}

/* "true", "1" and so on, as Go reads them. */
static int list_options_bool(const struct query *q, const char *key, struct err *err)
{
	static const char *const known[] = { "",  "1", "t", "T",     "true",  "TRUE", "True",
					     "0", "f", "F", "false", "FALSE", "False" };
	struct str v = query_get(q, key);

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (str_is(v, known[i]))
			return 0;
	return api_err_bad_request(err, "strconv.ParseBool: parsing \"%.*s\": invalid syntax", STR_ARG(v));
}

int list_options_check(const struct call *call, bool watch, struct err *err)
{
	static const struct api_kind options = { .group = "meta.k8s.io", .kind = "ListOptions", .plural = "" };
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	const struct query *q = &call->query;
	int64_t ignored;
	int r;

	/* Nearly all requests say nothing of this. */
	if (!q->n)
		return 0;
	r = query_int(q, "timeoutSeconds", 0, &ignored, err);
	if (r == 0)
		r = query_int(q, "limit", 0, &ignored, err);
	if (r == 0)
		r = list_options_bool(q, "sendInitialEvents", err);
	if (r == 0)
		r = list_options_bool(q, "allowWatchBookmarks", err);
	if (r < 0)
		return r;
	if (watch)
		list_options_watch(q, &e);
	else
		list_options_list(q, &e);
	return e.n ? field_errors_result(&e, &options, STR(""), err) : 0;
}
