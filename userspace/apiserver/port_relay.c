/* SPDX-License-Identifier: Apache-2.0 */
/* See port_relay.h. One buffer each way: a slow client stops the reads of the socket, a slow pod stops the client. */
#include "userspace/apiserver/port_relay.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "userspace/base/mem.h"

#define PORT_RELAY_BUFFER_BYTES (32 * 1024)
#define PORT_RELAY_PENDING_MAX (256 * 1024) /* queued for the client: reads of the pod stop */
#define PORT_RELAY_INPUT_MAX (1024 * 1024)  /* queued for the pod: reads of the client stop */

struct port_relay {
	struct apiserver *as;
	const struct port_relay_ops *ops; /* NULL: abandoned */
	void *arg;
	const struct object *pod;
	uint16_t port;
	int fd;
	bool dialing, input_ended, output_ended, shut, paused;
	bool busy; /* a callback of ours runs: freed after it */
	struct loop_op read_op, write_op;
	struct buf queue, active; /* active: what a write points into */
	char buf[PORT_RELAY_BUFFER_BYTES];
};

static void port_relay_maybe_free(struct port_relay *r)
{
	if (r->busy || r->dialing || loop_op_pending(&r->read_op) || loop_op_pending(&r->write_op))
		return;
	if (r->ops && !(r->shut && r->output_ended))
		return;
	if (r->ops)
		r->ops->done(r->arg);
	if (r->fd >= 0)
		close(r->fd);
	buf_finish(&r->queue);
	buf_finish(&r->active);
	object_unref(r->pod);
	free(r);
}

static void port_relay_leave(struct port_relay *r)
{
	r->busy = false;
	port_relay_maybe_free(r);
}

static void port_relay_output_end(struct port_relay *r)
{
	if (r->output_ended)
		return;
	r->output_ended = true;
	if (r->ops)
		r->ops->end(r->arg);
}

static void port_relay_fail(struct port_relay *r, const char *what)
{
	_cleanup_free_ char *text =
		mem_printf("error forwarding port %u to pod %.*s, uid : %s", r->port, STR_ARG(r->pod->name), what);

	if (r->ops && !r->output_ended)
		r->ops->error(r->arg, str_of(text));
	r->shut = true;
	port_relay_output_end(r);
}

/* ---- from the pod ---- */

static void port_relay_read_done(struct loop_op *op, int res, bool more);

static void port_relay_read(struct port_relay *r)
{
	if (r->fd < 0 || r->output_ended || !r->ops || loop_op_pending(&r->read_op))
		return;
	loop_read(r->as->loop, &r->read_op, r->fd, r->buf, sizeof(r->buf), -1, port_relay_read_done);
}

static void port_relay_read_done(struct loop_op *op, int res, bool more)
{
	struct port_relay *r = container_of(op, struct port_relay, read_op);

	r->busy = true;
	if (r->ops && res > 0) {
		r->ops->send(r->arg, str_make(r->buf, (size_t)res));
		if (r->ops && r->ops->pending(r->arg) < PORT_RELAY_PENDING_MAX)
			port_relay_read(r);
	} else if (r->ops && (res == -EINTR || res == -EAGAIN)) {
		port_relay_read(r);
	} else if (r->ops && res < 0) {
		port_relay_fail(r, strerror(-res));
	} else {
		port_relay_output_end(r);
	}
	port_relay_leave(r);
}

void port_relay_drained(struct port_relay *r)
{
	port_relay_read(r);
}

/* ---- from the client ---- */

static void port_relay_write_done(struct loop_op *op, int res, bool more);

static void port_relay_write(struct port_relay *r)
{
	struct str bytes;

	if (r->fd < 0 || r->shut || loop_op_pending(&r->write_op))
		return;
	if (!buf_len(&r->active)) {
		struct buf empty = r->active;

		r->active = r->queue;
		r->queue = empty;
	}
	bytes = buf_str(&r->active);
	if (bytes.n) {
		loop_write(r->as->loop, &r->write_op, r->fd, bytes.p, bytes.n, -1, port_relay_write_done);
	} else if (r->input_ended) {
		shutdown(r->fd, SHUT_WR);
		r->shut = true;
	}
}

static void port_relay_write_done(struct loop_op *op, int res, bool more)
{
	struct port_relay *r = container_of(op, struct port_relay, write_op);

	r->busy = true;
	if (res > 0)
		buf_consume(&r->active, (size_t)res);
	else if (res < 0 && res != -EINTR && res != -EAGAIN)
		r->shut = true; /* the pod takes no more; what it still sends comes by the reads */
	if (r->paused && r->ops && (r->shut || buf_len(&r->queue) < PORT_RELAY_INPUT_MAX)) {
		r->paused = false;
		r->ops->pause(r->arg, false);
	}
	port_relay_write(r);
	port_relay_leave(r);
}

void port_relay_input(struct port_relay *r, struct str data)
{
	if (r->shut || r->input_ended)
		return;
	buf_add_str(&r->queue, data);
	if (!r->paused && buf_len(&r->queue) >= PORT_RELAY_INPUT_MAX) {
		r->paused = true;
		r->ops->pause(r->arg, true);
	}
	port_relay_write(r);
}

void port_relay_input_end(struct port_relay *r)
{
	r->input_ended = true;
	port_relay_write(r);
	port_relay_maybe_free(r);
}

/* ---- beginning and end ---- */

static void port_relay_dialed(void *arg, int fd, const struct err *err)
{
	struct port_relay *r = arg;

	r->busy = true;
	r->dialing = false;
	r->fd = fd;
	if (err) {
		port_relay_fail(r, err_message(err));
	} else if (r->ops) {
		port_relay_read(r);
		port_relay_write(r);
	}
	port_relay_leave(r);
}

struct port_relay *port_relay_create(struct apiserver *as, const struct object *pod, uint16_t port,
				     const struct port_relay_ops *ops, void *arg)
{
	struct port_relay *r = mem_new(struct port_relay);

	r->as = as;
	r->pod = object_ref(pod);
	r->port = port;
	r->ops = ops;
	r->arg = arg;
	r->fd = -1;
	r->dialing = true;
	return r;
}

void port_relay_dial(struct port_relay *r)
{
	r->as->node.port_forward(r->as->node.ctx, r->pod, r->port, port_relay_dialed, r);
}

void port_relay_abandon(struct port_relay *r)
{
	if (!r)
		return;
	r->ops = NULL;
	r->shut = true;
	loop_cancel(r->as->loop, &r->read_op);
	loop_cancel(r->as->loop, &r->write_op);
	port_relay_maybe_free(r);
}
