/* SPDX-License-Identifier: Apache-2.0 */
/* Whether who asks may do what call.c reads from the request. Loop thread. */
#include "userspace/apiserver/call.h"

/* A WebSocket begins with GET, and does what a POST does. */
static bool authz_opens_stream(const struct authz_attributes *a)
{
	return str_is(a->verb, "get") && str_is(a->resource, "pods") && !a->group.n &&
	       (str_is(a->subresource, "exec") || str_is(a->subresource, "attach") ||
		str_is(a->subresource, "portforward"));
}

int authz_check(const struct call *call, struct err *err)
{
	struct authz_attributes a;
	struct str reason;

	call_attributes(call, &a);
	if (authz_decide(call->as->reg, &a, call->arena, NULL) != AUTHZ_ALLOW)
		goto refuse;
	if (a.is_path || !a.subresource.n || !authz_opens_stream(&a))
		return 0;
	a.verb = STR("create");
	if (authz_decide(call->as->reg, &a, call->arena, NULL) == AUTHZ_ALLOW)
		return 0;
refuse:
	/* Asked again for its words: they are made for refusals only. */
	authz_decide(call->as->reg, &a, call->arena, &reason);
	return authz_forbidden(err, &a, reason);
}
