/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what. Today: everyone may ask for health and version, everything else is for the authenticated.
 * The rules of RBAC objects take their place here, behind the same question. */
#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"

static bool authz_is_public(struct str path)
{
	static const char *const names[] = { "/livez", "/readyz", "/healthz", "/version", "/version/" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_is(path, names[i]))
			return true;
	return false;
}

bool authz_allows(const struct request_user *user)
{
	return !str_is(user->name, "system:anonymous");
}

int authz_check(const struct call *call, struct err *err)
{
	if (!call->anonymous)
		return 0;
	if (authz_is_public(call->route.path) &&
	    (str_is(call->http->method, "GET") || str_is(call->http->method, "HEAD")))
		return 0;
	return api_err_unauthorized(err);
}
