/* SPDX-License-Identifier: Apache-2.0 */
/* Port-forward over SPDY: the client opens an error stream and a data stream for each of its connections, with the
 * headers "streamtype", "port" and "requestid". See port_forward.h. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/port_forward.h"
#include "userspace/apiserver/port_relay.h"
#include "userspace/apiserver/remote_spdy.h"
#include "userspace/base/mem.h"

struct forward_session;

struct forward_pair {
	struct list link;
	struct forward_session *session;
	char *id;
	struct spdy_stream *error, *data;
	struct port_relay *relay;
};

struct forward_session {
	struct remote_spdy rs;
	struct apiserver *as;
	const struct object *pod;
	struct list pairs;
	unsigned n_pairs;
};

static struct forward_session *of_session(struct remote_spdy *rs)
{
	return container_of(rs, struct forward_session, rs);
}

static void pair_free(struct forward_pair *p)
{
	list_del(&p->link);
	p->session->n_pairs--;
	free(p->id);
	free(p);
}

/* ---- the relay's side ---- */

static void relay_send(void *arg, struct str data)
{
	struct forward_pair *p = arg;

	if (p->data && !p->data->closed)
		spdy_send(p->data, data);
}

static size_t relay_pending(void *arg)
{
	struct forward_pair *p = arg;

	return remote_pipe_pending(&p->session->rs.pipe);
}

static void relay_pause(void *arg, bool paused)
{
	struct forward_pair *p = arg;

	remote_pipe_pause(&p->session->rs.pipe, paused);
}

/* kubectl reads the error stream to its end before it closes its side of the data stream. */
static void relay_end(void *arg)
{
	struct forward_pair *p = arg;
	struct spdy_stream *data = p->data;

	if (p->error)
		spdy_close(p->error);
	if (data)
		spdy_close(data);
}

static void relay_error(void *arg, struct str message)
{
	struct forward_pair *p = arg;

	if (p->error && !p->error->closed)
		spdy_send(p->error, message);
}

/* A stream that closes may take the pair with it. */
static void relay_done(void *arg)
{
	struct forward_pair *p = arg;
	struct spdy_stream *error = p->error, *data = p->data;

	p->relay = NULL;
	if (!error && !data)
		pair_free(p);
	if (error)
		spdy_close(error);
	if (data)
		spdy_close(data);
}

static const struct port_relay_ops relay_ops = { relay_send, relay_pending, relay_pause,
						 relay_end,  relay_error,   relay_done };

/* ---- the session's side ---- */

static struct str header(const struct http_header *headers, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(headers[i].name, name))
			return headers[i].value;
	return STR_NULL;
}

static struct forward_pair *pair_of(struct forward_session *fs, struct str id)
{
	list_foreach(p, &fs->pairs, struct forward_pair, link)
		if (str_is(id, p->id))
			return p;
	return NULL;
}

static struct forward_pair *pair_create(struct forward_session *fs, struct str id)
{
	struct forward_pair *p;

	if (fs->n_pairs >= PORT_FORWARD_CONNECTIONS_MAX)
		return NULL;
	p = mem_new(struct forward_pair);
	p->session = fs;
	p->id = mem_strndup(id.p, id.n);
	list_add_tail(&fs->pairs, &p->link);
	fs->n_pairs++;
	return p;
}

static bool on_stream(struct remote_spdy *rs, struct spdy_stream *s, const struct http_header *headers,
		      size_t n_headers)
{
	struct forward_session *fs = of_session(rs);
	struct str type = header(headers, n_headers, "streamtype"), id = header(headers, n_headers, "requestid");
	struct forward_pair *p = pair_of(fs, id);
	bool error = str_is(type, "error");
	int64_t port;

	if ((!error && !str_is(type, "data")) || str_to_int64(header(headers, n_headers, "port"), &port) < 0 ||
	    port < 1 || port > UINT16_MAX)
		return false;
	if (p && (error ? p->error : p->data))
		return false;
	if (!p)
		p = pair_create(fs, id);
	if (!p)
		return false;
	s->user = p;
	if (error)
		p->error = s;
	else
		p->data = s;
	if (p->error && p->data) {
		p->relay = port_relay_create(fs->as, fs->pod, (uint16_t)port, &relay_ops, p);
		port_relay_dial(p->relay);
	}
	return true;
}

static void on_data(struct remote_spdy *rs, struct spdy_stream *s, struct str data)
{
	struct forward_pair *p = s->user;

	if (p && s == p->data && p->relay)
		port_relay_input(p->relay, data);
}

static void on_fin(struct remote_spdy *rs, struct spdy_stream *s)
{
	struct forward_pair *p = s->user;

	if (p && s == p->data && p->relay)
		port_relay_input_end(p->relay);
}

static void on_end(struct remote_spdy *rs, struct spdy_stream *s)
{
	struct forward_pair *p = s->user;

	if (!p)
		return;
	if (s == p->error)
		p->error = NULL;
	else
		p->data = NULL;
	/* A data stream that both sides closed may leave bytes for the pod; one that was reset has nobody behind it. */
	if (rs->ended || (!p->data && !(s->closed && s->peer_closed)))
		port_relay_abandon(TAKE_PTR(p->relay));
	if (!p->data && !p->relay && p->error && !rs->ended) {
		spdy_close(p->error);
		return;
	}
	if (!p->error && !p->data && !p->relay)
		pair_free(p);
}

static void on_drain(struct remote_spdy *rs)
{
	list_foreach(p, &of_session(rs)->pairs, struct forward_pair, link)
		if (p->relay)
			port_relay_drained(p->relay);
}

static void on_close(struct remote_spdy *rs)
{
	struct forward_session *fs = of_session(rs);

	/* All streams have ended, and with them the pairs. */
	object_unref(fs->pod);
	free(fs);
}

static const struct remote_spdy_ops session_ops = { on_stream, on_data, on_fin, on_end, on_drain, on_close };

void port_forward_spdy(struct call *call, const struct object *pod)
{
	static const char *const protocols[] = { PORT_FORWARD_PROTOCOL };
	struct forward_session *fs;
	_cleanup_err_ struct err err = ERR_INIT;

	if (!websocket_is_handshake(call->http) && !remote_spdy_choose(call->http, protocols, 1).n) {
		err_set_status(&err, -EINVAL, 403, "Forbidden",
			       "unable to upgrade: none of the asked stream protocols is supported, only: %s",
			       protocols[0]);
		respond_err(call->http, &err);
		return;
	}
	fs = mem_new(struct forward_session);
	list_init(&fs->pairs);
	fs->as = call->as;
	fs->pod = object_ref(pod);
	fs->rs.ops = &session_ops;
	fs->rs.loop = call->as->loop;
	if (remote_spdy_start(&fs->rs, call->http, protocols[0]) < 0) {
		object_unref(fs->pod);
		free(fs);
	}
}
