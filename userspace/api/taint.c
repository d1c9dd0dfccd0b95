/* SPDX-License-Identifier: Apache-2.0 */
/* See taint.h. The rules of tolerations: an empty effect means all effects, an empty key with Exists all keys. */
#include "userspace/api/taint.h"

static bool compares(struct str value, struct str with, bool less)
{
	int64_t a, b;

	if (str_to_int64(value, &a) < 0 || str_to_int64(with, &b) < 0)
		return false;
	return less ? a < b : a > b;
}

static bool tolerated_by(const struct json *taint, const struct json *toleration)
{
	struct str effect = json_get_str(toleration, "effect"), key = json_get_str(toleration, "key");
	struct str op = json_get_str(toleration, "operator"), value = json_get_str(toleration, "value");
	struct str tainted = json_get_str(taint, "value");

	if (effect.n > 0 && !str_eq(effect, json_get_str(taint, "effect")))
		return false;
	if (key.n > 0 && !str_eq(key, json_get_str(taint, "key")))
		return false;
	if (op.n == 0 || str_is(op, "Equal"))
		return key.n > 0 && str_eq(value, tainted);
	if (str_is(op, "Exists"))
		return true;
	if (str_is(op, "Lt"))
		return compares(tainted, value, true);
	return str_is(op, "Gt") && compares(tainted, value, false);
}

bool taint_tolerated(const struct json *taint, const struct json *tolerations)
{
	json_foreach(t, tolerations)
		if (tolerated_by(taint, t))
			return true;
	return false;
}
