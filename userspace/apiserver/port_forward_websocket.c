/* SPDX-License-Identifier: Apache-2.0 */
/* Port-forward over the channels of a WebSocket (v4.channel.k8s.io): the ports stand in the query; port number i has
 * the channels 2i (data) and 2i+1 (errors), and the first message of either way's channel from the server is the port
 * in two bytes, least significant first. There is no way to say that one side has ended: the end of a connection ends
 * its channel, the end of the socket ends all. See port_forward.h. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/port_forward.h"
#include "userspace/apiserver/port_relay.h"
#include "userspace/base/mem.h"
#include "userspace/net/websocket.h"

struct ws_forward;

struct ws_port {
	struct ws_forward *forward;
	struct port_relay *relay; /* NULL: ended */
	uint16_t port;
	unsigned char channel; /* of data; that of errors is the next */
};

struct ws_forward {
	struct websocket *ws; /* NULL: gone */
	struct ws_port ports[PORT_FORWARD_CONNECTIONS_MAX];
	size_t n_ports;
};

static void send_on(struct ws_port *p, unsigned channel, struct str data)
{
	char byte = (char)channel;

	if (p->forward->ws)
		websocket_send2(p->forward->ws, WEBSOCKET_BINARY, str_make(&byte, 1), data);
}

/* ---- the relays' side ---- */

static void relay_send(void *arg, struct str data)
{
	struct ws_port *p = arg;

	send_on(p, p->channel, data);
}

static size_t relay_pending(void *arg)
{
	struct ws_port *p = arg;

	return p->forward->ws ? websocket_pending(p->forward->ws) : 0;
}

static void relay_pause(void *arg, bool paused)
{
	struct ws_port *p = arg;

	if (p->forward->ws)
		websocket_pause(p->forward->ws, paused);
}

/* The client cannot be told of half an end: the connection is over. */
static void relay_end(void *arg)
{
	struct ws_port *p = arg;

	if (p->relay)
		port_relay_input_end(p->relay);
}

static void relay_error(void *arg, struct str message)
{
	struct ws_port *p = arg;

	send_on(p, p->channel + 1u, message);
}

static void relay_done(void *arg)
{
	struct ws_port *p = arg;
	struct ws_forward *f = p->forward;

	p->relay = NULL;
	for (size_t i = 0; i < f->n_ports; i++)
		if (f->ports[i].relay)
			return;
	if (f->ws)
		websocket_close(f->ws, WEBSOCKET_STATUS_NORMAL, STR_NULL);
	free(f);
}

static const struct port_relay_ops relay_ops = { relay_send, relay_pending, relay_pause,
						 relay_end,  relay_error,   relay_done };

/* ---- the client's side ---- */

static void ws_message(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	struct ws_forward *f = websocket_user(ws);
	size_t channel;

	if (data.n < 2)
		return;
	channel = (unsigned char)data.p[0];
	if (channel % 2 == 0 && channel / 2 < f->n_ports && f->ports[channel / 2].relay)
		port_relay_input(f->ports[channel / 2].relay, str_make(data.p + 1, data.n - 1));
}

static void ws_drained(struct websocket *ws)
{
	struct ws_forward *f = websocket_user(ws);

	for (size_t i = 0; i < f->n_ports; i++)
		if (f->ports[i].relay)
			port_relay_drained(f->ports[i].relay);
}

static void ws_closed(struct websocket *ws, unsigned status)
{
	struct ws_forward *f = websocket_user(ws);

	for (size_t i = 0; i < f->n_ports; i++)
		port_relay_abandon(f->ports[i].relay);
	free(f);
}

static int parse_ports(struct call *call, struct ws_forward *f, struct err *err)
{
	for (size_t i = 0; i < call->query.n; i++) {
		struct str rest = call->query.params[i].value, part;

		if (!str_is(call->query.params[i].key, "ports"))
			continue;
		while (str_split(&rest, ',', &part)) {
			int64_t port;

			if (str_to_int64(part, &port) < 0 || port < 1 || port > UINT16_MAX)
				return api_err_bad_request(err, "unable to parse port \"%.*s\"", STR_ARG(part));
			if (f->n_ports >= PORT_FORWARD_CONNECTIONS_MAX)
				return api_err_bad_request(err, "more than %d ports", PORT_FORWARD_CONNECTIONS_MAX);
			f->ports[f->n_ports] = (struct ws_port){ .forward = f,
								 .port = (uint16_t)port,
								 .channel = (unsigned char)(2 * f->n_ports) };
			f->n_ports++;
		}
	}
	return f->n_ports ? 0 : api_err_bad_request(err, "query parameter \"ports\" is required");
}

static void start(struct call *call, struct ws_forward *f, const struct object *pod)
{
	size_t n = f->n_ports;

	for (size_t i = 0; i < n; i++) {
		struct ws_port *p = &f->ports[i];
		char number[2] = { (char)(p->port & 0xff), (char)(p->port >> 8) };

		send_on(p, p->channel, str_make(number, 2));
		send_on(p, p->channel + 1u, str_make(number, 2));
		p->relay = port_relay_create(call->as, pod, p->port, &relay_ops, p);
	}
	/* One that is refused at once ends here; the last of them frees `f`. */
	for (size_t i = 0; i < n; i++)
		port_relay_dial(f->ports[i].relay);
}

void port_forward_websocket(struct call *call, const struct object *pod)
{
	static const char *const protocols[] = { "v4.channel.k8s.io" };
	static const struct websocket_ops ops = { ws_message, ws_drained, ws_closed };
	struct ws_forward *f = mem_new(struct ws_forward);
	_cleanup_err_ struct err err = ERR_INIT;
	int r = parse_ports(call, f, &err);

	if (r < 0)
		respond_err(call->http, &err);
	else
		r = websocket_accept(call->http, websocket_choose_protocol(call->http, protocols, 1), 0, &ops, f,
				     &f->ws);
	if (r < 0)
		free(f);
	else
		start(call, f, pod);
}
