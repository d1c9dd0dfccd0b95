/* SPDX-License-Identifier: Apache-2.0 */
/* One forwarded connection: a socket to a port inside a pod on one side, a channel of the client's on the other. Inside
 * the room only. Loop thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/apiserver/call.h"

struct port_relay;

struct port_relay_ops {
	void (*send)(void *arg, struct str data); /* from the pod */
	size_t (*pending)(void *arg);             /* bytes that the client has yet to take */
	void (*pause)(void *arg, bool paused);    /* the client's sending */
	void (*end)(void *arg);                   /* the pod sends no more */
	/* The connection could not be made, or broke: upstream's text for the error channel. */
	void (*error)(void *arg, struct str message);
	/* Both ways have ended; the relay is freed after this. Not called after port_relay_abandon(). */
	void (*done)(void *arg);
};

struct port_relay *port_relay_create(struct apiserver *as, const struct object *pod, uint16_t port,
				     const struct port_relay_ops *ops, void *arg);
/* To be called once, when the client's channel is known; callbacks may come before it returns. What the client sends
 * until the connection stands is queued. */
void port_relay_dial(struct port_relay *relay);
void port_relay_input(struct port_relay *relay, struct str data);
void port_relay_input_end(struct port_relay *relay);
void port_relay_drained(struct port_relay *relay); /* pending fell */
/* The client has gone: no callback comes any more; it frees itself. Takes NULL. */
void port_relay_abandon(struct port_relay *relay);
