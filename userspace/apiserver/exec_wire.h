/* SPDX-License-Identifier: Apache-2.0 */
/* Between exec.c, which moves bytes of a process, and what carries them to the client (exec_websocket.c,
 * exec_spdy.c). Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/apiserver/call.h"
#include "userspace/registry/node_ops.h"

/* As in the channel protocols of upstream: the first byte of a message. */
enum exec_channel { EXEC_STDIN, EXEC_STDOUT, EXEC_STDERR, EXEC_ERROR, EXEC_RESIZE, EXEC_CLOSE = 255 };

struct exec;
struct exec_wire;

struct exec_wire_ops {
	/* stdout or stderr */
	void (*send)(struct exec_wire *wire, enum exec_channel channel, struct str data);
	size_t (*pending)(const struct exec_wire *wire); /* bytes that the client has yet to take */
	void (*pause)(struct exec_wire *wire, bool paused);
	/* The final Status (JSON); nothing comes after it. The wire frees itself and forgets exec. */
	void (*finish)(struct exec_wire *wire, struct str status);
};

struct exec_wire {
	const struct exec_wire_ops *ops;
	struct exec *exec;
};

/* ---- exec.c, for the wires ---- */

/* The client is there with all the streams it asked for: the process may start. */
void exec_begin(struct exec *x);
void exec_input(struct exec *x, struct str data);
void exec_input_end(struct exec *x);
void exec_resize(struct exec *x, struct str json); /* {"Width":W,"Height":H} */
void exec_drained(struct exec *x);                 /* pending fell */
/* The client has gone; the wire frees itself after this. */
void exec_gone(struct exec *x);

struct exec_wanted {
	bool tty, in, out, err;
};

/* ---- the wires: each answers the request in any case; NULL: refused ---- */

/* Ready at once: the caller starts. */
struct exec_wire *exec_websocket_open(struct call *call, struct exec *x);
/* Calls exec_begin() when the client has opened its streams. */
struct exec_wire *exec_spdy_open(struct call *call, struct exec *x, const struct exec_wanted *wanted);
