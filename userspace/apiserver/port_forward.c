/* SPDX-License-Identifier: Apache-2.0 */
/* See port_forward.h. */
#include "userspace/apiserver/port_forward.h"

#include "userspace/api/meta.h"
#include "userspace/apiserver/remote_spdy.h"

void port_forward_handle(struct call *call)
{
	const struct object *pod = registry_get(call->as->reg, KIND_POD, call->route.ns, call->route.name);
	_cleanup_err_ struct err err = ERR_INIT;
	int r = 0;

	if (!pod)
		r = api_err_not_found(&err, KIND_POD, call->route.name);
	else if (!json_at_str(registry_parse(call->arena, pod), "spec.nodeName").n)
		r = api_err_bad_request(&err, "pod %.*s does not have a host assigned", STR_ARG(call->route.name));
	else if (!call->as->has_node)
		r = api_err_unavailable(&err, "the node is still starting");
	if (r < 0)
		respond_err(call->http, &err);
	else if (remote_spdy_wanted(call->http, PORT_FORWARD_PROTOCOL))
		port_forward_spdy(call, pod);
	else if (websocket_is_handshake(call->http))
		port_forward_websocket(call, pod);
	else {
		api_err_bad_request(&err, "Upgrade request required");
		respond_err(call->http, &err);
	}
}
