/* SPDX-License-Identifier: Apache-2.0 */
/* Remote command over WebSocket, v5 and v4: a channel byte, then data; v5's channel 255 closes the channel that its one
 * byte names. See exec_wire.h. */
#include "userspace/api/meta.h"
#include "userspace/apiserver/exec_wire.h"
#include "userspace/base/mem.h"
#include "userspace/net/websocket.h"

struct exec_websocket {
	struct exec_wire wire;
	struct websocket *ws;
	bool v5;
};

static struct exec_websocket *of_wire(const struct exec_wire *wire)
{
	return container_of(wire, struct exec_websocket, wire);
}

static void wire_send(struct exec_wire *wire, enum exec_channel channel, struct str data)
{
	char byte = (char)channel;

	websocket_send2(of_wire(wire)->ws, WEBSOCKET_BINARY, str_make(&byte, 1), data);
}

static size_t wire_pending(const struct exec_wire *wire)
{
	return websocket_pending(of_wire(wire)->ws);
}

static void wire_pause(struct exec_wire *wire, bool paused)
{
	websocket_pause(of_wire(wire)->ws, paused);
}

static void wire_finish(struct exec_wire *wire, struct str status)
{
	struct exec_websocket *w = of_wire(wire);

	wire_send(wire, EXEC_ERROR, status);
	websocket_close(w->ws, WEBSOCKET_STATUS_NORMAL, STR_NULL);
	free(w);
}

static const struct exec_wire_ops wire_ops = { wire_send, wire_pending, wire_pause, wire_finish };

static void ws_message(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	struct exec_websocket *w = websocket_user(ws);
	struct str body;

	if (!data.n)
		return;
	body = str_make(data.p + 1, data.n - 1);
	switch ((unsigned char)data.p[0]) {
	case EXEC_STDIN:
		exec_input(w->wire.exec, body);
		break;
	case EXEC_RESIZE:
		exec_resize(w->wire.exec, body);
		break;
	case EXEC_CLOSE:
		if (w->v5 && body.n == 1 && body.p[0] == EXEC_STDIN)
			exec_input_end(w->wire.exec);
		break;
	default:
		break;
	}
}

static void ws_drained(struct websocket *ws)
{
	struct exec_websocket *w = websocket_user(ws);

	exec_drained(w->wire.exec);
}

static void ws_closed(struct websocket *ws, unsigned status)
{
	struct exec_websocket *w = websocket_user(ws);

	exec_gone(w->wire.exec);
	free(w);
}

struct exec_wire *exec_websocket_open(struct call *call, struct exec *x)
{
	static const char *const protocols[] = { "v5.channel.k8s.io", "v4.channel.k8s.io" };
	static const struct websocket_ops ops = { ws_message, ws_drained, ws_closed };
	struct str protocol = websocket_choose_protocol(call->http, protocols, ARRAY_SIZE(protocols));
	_cleanup_err_ struct err err = ERR_INIT;
	struct exec_websocket *w;

	if (!protocol.n) {
		api_err_bad_request(&err, "unable to upgrade: none of the asked subprotocols is supported, only: "
					  "v5.channel.k8s.io, v4.channel.k8s.io");
		respond_err(call->http, &err);
		return NULL;
	}
	w = mem_new(struct exec_websocket);
	w->wire.ops = &wire_ops;
	w->wire.exec = x;
	w->v5 = str_is(protocol, protocols[0]);
	if (websocket_accept(call->http, protocol, 0, &ops, w, &w->ws) < 0) {
		free(w);
		return NULL;
	}
	return &w->wire;
}
