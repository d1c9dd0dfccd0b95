/* SPDX-License-Identifier: Apache-2.0 */
/* pods/portforward. Inside the room only. Loop thread. */
#pragma once

#include "userspace/apiserver/call.h"

#define PORT_FORWARD_PROTOCOL "portforward.k8s.io"
#define PORT_FORWARD_CONNECTIONS_MAX 128 /* at once, of one client */

void port_forward_handle(struct call *call);

/* ---- the two ways a client may speak; each answers the request ---- */

/* SPDY/3.1 itself or through a WebSocket: for each connection an error and a data stream, paired by "requestid". */
void port_forward_spdy(struct call *call, const struct object *pod);
/* Channels of a WebSocket: two for each port of the query. */
void port_forward_websocket(struct call *call, const struct object *pod);
