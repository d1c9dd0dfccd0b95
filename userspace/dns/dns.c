/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets of the cluster DNS: datagrams and TCP connections in, answers out. See dns.h. */
#include "userspace/dns/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/clock.h"
#include "userspace/base/list.h"
#include "userspace/dns/answer.h"
#include "userspace/dns/forward.h"
#include "userspace/loop/loop.h"
#include "userspace/net/listen.h"
#include "userspace/net/udp.h"

#define DNS_PORT 53
#define DNS_TCP_CONNECTIONS_MAX 128
#define DNS_TCP_IDLE_NS (10 * NS_PER_S)
#define DNS_TCP_QUERY_MAX 4096

/* One address of the cluster DNS. */
struct dns_listener {
	struct dns *dns;
	struct udp_server *udp;
	int fd; /* TCP */
	struct loop_op accept_op;
};

struct dns {
	struct loop *loop;
	struct zone zone;
	struct forwarder *forwarder;
	struct dns_listener listeners[DNS_ADDRESSES_MAX];
	unsigned n_listeners;
	struct list waits;       /* datagrams that an upstream holds */
	struct list connections; /* while any of their buffers is in the ring */
	unsigned n_connections;
	struct dns_stats stats;
	bool destroying;
};

/* ---- UDP ---- */

struct udp_wait {
	struct list link;
	struct dns *dns;
	struct udp_server *server; /* that was asked */
	struct udp_peer peer;
	struct answer answer;
	struct buf query;
};

static void udp_wait_free(struct udp_wait *w)
{
	list_del(&w->link);
	answer_finish(&w->answer);
	buf_finish(&w->query);
	free(w);
}

static void udp_forwarded(void *arg, struct str upstream)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct udp_wait *w = arg;

	if (!upstream.n || answer_from_upstream(&w->dns->zone, &w->answer, upstream, false, &out) < 0) {
		buf_reset(&out);
		w->dns->stats.failed++;
		answer_failure(buf_str(&w->query), LDNS_RCODE_SERVFAIL, &out);
	} else {
		w->dns->stats.forwarded++;
	}
	udp_server_send(w->server, &w->peer, buf_str(&out));
	udp_wait_free(w);
}

static void udp_forward(struct dns *dns, struct udp_server *server, const struct udp_peer *peer, struct str query,
			struct answer *answer)
{
	struct udp_wait *w = mem_new(struct udp_wait);

	list_add_tail(&dns->waits, &w->link);
	w->dns = dns;
	w->server = server;
	w->peer = *peer;
	w->answer = *answer;
	buf_add_str(&w->query, query);
	if (forward_query(dns->forwarder, buf_str(&w->answer.wire), false, udp_forwarded, w) < 0)
		udp_forwarded(w, STR_NULL);
}

static void dns_count(struct dns *dns, const struct answer *answer)
{
	if (answer->rcode == LDNS_RCODE_SERVFAIL)
		dns->stats.failed++;
	else
		dns->stats.answered++;
}

static void udp_received(void *arg, struct udp_server *server, const struct udp_peer *peer, struct str datagram)
{
	struct dns *dns = arg;
	struct answer answer;

	dns->stats.queries++;
	switch (answer_query(&dns->zone, datagram, false, forwarder_usable(dns->forwarder), &answer)) {
	case ANSWER_FORWARD:
		udp_forward(dns, server, peer, datagram, &answer);
		return;
	case ANSWER_READY:
		dns_count(dns, &answer);
		udp_server_send(server, peer, buf_str(&answer.wire));
		break;
	case ANSWER_DROP:
		dns->stats.refused++;
	}
	answer_finish(&answer);
}

/* ---- TCP: one query at a time on a connection, in order ---- */

struct tcp_connection {
	struct list link;
	struct dns *dns;
	int fd;
	bool closing, waiting; /* waiting: an upstream holds the query */
	struct loop_op recv_op, send_op;
	struct loop_timer idle;
	uint8_t in[DNS_TCP_QUERY_MAX + 2];
	size_t in_len;
	struct buf out;
	struct answer answer;
};

/* The ring may still hold the accept or a connection's buffers: the last completion frees. */
static void dns_maybe_free(struct dns *dns)
{
	for (unsigned i = 0; i < dns->n_listeners; i++)
		if (loop_op_pending(&dns->listeners[i].accept_op))
			return;
	if (dns->destroying && !dns->n_connections)
		free(dns);
}

static void tcp_settle(struct tcp_connection *c)
{
	struct dns *dns = c->dns;

	if (!c->closing || c->waiting || loop_op_pending(&c->recv_op) || loop_op_pending(&c->send_op))
		return;
	close(c->fd);
	list_del(&c->link);
	dns->n_connections--;
	buf_finish(&c->out);
	answer_finish(&c->answer);
	free(c);
	dns_maybe_free(dns);
}

static void tcp_close(struct tcp_connection *c)
{
	c->closing = true;
	loop_timer_cancel(c->dns->loop, &c->idle);
	loop_cancel(c->dns->loop, &c->recv_op);
	loop_cancel(c->dns->loop, &c->send_op);
	tcp_settle(c);
}

static void tcp_idle(struct loop_timer *timer)
{
	tcp_close(container_of(timer, struct tcp_connection, idle));
}

static void tcp_next(struct tcp_connection *c);

static void tcp_sent(struct loop_op *op, int res, bool more)
{
	struct tcp_connection *c = container_of(op, struct tcp_connection, send_op);

	if (c->closing) {
		tcp_settle(c);
		return;
	}
	if (res <= 0) {
		tcp_close(c);
		return;
	}
	buf_consume(&c->out, (size_t)res);
	if (buf_len(&c->out))
		loop_send(c->dns->loop, op, c->fd, buf_str(&c->out).p, buf_len(&c->out), tcp_sent);
	else
		tcp_next(c);
}

static void tcp_send(struct tcp_connection *c, struct str message)
{
	if (message.n > UINT16_MAX) {
		tcp_close(c);
		return;
	}
	buf_reset(&c->out);
	buf_add_char(&c->out, (char)(message.n >> 8));
	buf_add_char(&c->out, (char)message.n);
	buf_add_str(&c->out, message);
	loop_send(c->dns->loop, &c->send_op, c->fd, buf_str(&c->out).p, buf_len(&c->out), tcp_sent);
}

static size_t tcp_query_len(const struct tcp_connection *c)
{
	return c->in_len < 2 ? 0 : (size_t)c->in[0] << 8 | c->in[1];
}

/* The query at the front was answered: the bytes behind it move up. */
static void tcp_drop_query(struct tcp_connection *c)
{
	size_t n = tcp_query_len(c) + 2;

	memmove(c->in, c->in + n, c->in_len - n);
	c->in_len -= n;
	answer_finish(&c->answer);
	c->answer = (struct answer){ 0 };
}

static void tcp_forwarded(void *arg, struct str upstream)
{
	struct tcp_connection *c = arg;
	_cleanup_buf_ struct buf out = BUF_INIT;

	c->waiting = false;
	if (c->closing) {
		tcp_settle(c);
		return;
	}
	if (!upstream.n || answer_from_upstream(&c->dns->zone, &c->answer, upstream, true, &out) < 0) {
		buf_reset(&out);
		c->dns->stats.failed++;
		answer_failure(str_make((char *)c->in + 2, tcp_query_len(c)), LDNS_RCODE_SERVFAIL, &out);
	} else {
		c->dns->stats.forwarded++;
	}
	tcp_drop_query(c);
	tcp_send(c, buf_str(&out));
}

static void tcp_received(struct loop_op *op, int res, bool more)
{
	struct tcp_connection *c = container_of(op, struct tcp_connection, recv_op);

	if (c->closing) {
		tcp_settle(c);
		return;
	}
	if (res <= 0) {
		tcp_close(c);
		return;
	}
	c->in_len += (size_t)res;
	tcp_next(c);
}

static void tcp_answer(struct tcp_connection *c, struct str query)
{
	struct dns *dns = c->dns;
	_cleanup_buf_ struct buf out = BUF_INIT;

	dns->stats.queries++;
	switch (answer_query(&dns->zone, query, true, forwarder_usable(dns->forwarder), &c->answer)) {
	case ANSWER_FORWARD:
		c->waiting = true;
		if (forward_query(dns->forwarder, buf_str(&c->answer.wire), true, tcp_forwarded, c) < 0)
			tcp_forwarded(c, STR_NULL);
		return;
	case ANSWER_READY:
		dns_count(dns, &c->answer);
		buf_add_str(&out, buf_str(&c->answer.wire));
		tcp_drop_query(c);
		tcp_send(c, buf_str(&out));
		return;
	case ANSWER_DROP:
		dns->stats.refused++;
		tcp_close(c);
	}
}

static void tcp_next(struct tcp_connection *c)
{
	size_t want = tcp_query_len(c);

	loop_timer_arm(c->dns->loop, &c->idle, DNS_TCP_IDLE_NS);
	if (want > DNS_TCP_QUERY_MAX) {
		tcp_close(c);
		return;
	}
	if (c->in_len >= 2 && c->in_len - 2 >= want)
		tcp_answer(c, str_make((char *)c->in + 2, want));
	else
		loop_recv(c->dns->loop, &c->recv_op, c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, tcp_received);
}

static void tcp_accepted(struct loop_op *op, int res, bool more)
{
	struct dns_listener *l = container_of(op, struct dns_listener, accept_op);
	struct dns *dns = l->dns;
	struct tcp_connection *c;

	if (dns->destroying) {
		if (res >= 0)
			close(res);
		if (!more)
			dns_maybe_free(dns);
		return;
	}
	if (!more && res != -ECANCELED)
		loop_accept_multishot(dns->loop, op, l->fd, tcp_accepted);
	if (res < 0)
		return;
	if (dns->n_connections >= DNS_TCP_CONNECTIONS_MAX) {
		close(res);
		return;
	}
	c = mem_new(struct tcp_connection);
	c->dns = dns;
	c->fd = res;
	loop_timer_init(&c->idle, tcp_idle);
	list_add_tail(&dns->connections, &c->link);
	dns->n_connections++;
	tcp_next(c);
}

/* ---- life ---- */

static int dns_listen_on(struct dns *dns, const char *address, uint16_t port, struct err *err)
{
	struct dns_listener *l = &dns->listeners[dns->n_listeners++];
	int fd = -1, r;

	*l = (struct dns_listener){ .dns = dns, .fd = -1 };
	r = listen_udp(address, port, &fd, err);
	if (r == 0)
		r = udp_server_create(dns->loop, fd, udp_received, dns, &l->udp, err);
	if (r == 0)
		r = listen_tcp(address, port, &l->fd, err);
	if (r < 0)
		return err_wrap(err, r, "cluster DNS on %s", address);
	loop_accept_multishot(dns->loop, &l->accept_op, l->fd, tcp_accepted);
	return 0;
}

static int dns_listen(struct dns *dns, const struct dns_options *options, struct err *err)
{
	struct str rest = str_of(options->address), part;
	int r = 0;

	while (r == 0 && str_split(&rest, ',', &part)) {
		_cleanup_free_ char *address = str_dup(part);

		if (dns->n_listeners == DNS_ADDRESSES_MAX)
			return err_set(err, -E2BIG, "cluster DNS: more than %d addresses", DNS_ADDRESSES_MAX);
		r = dns_listen_on(dns, address, options->port ? options->port : DNS_PORT, err);
	}
	return r;
}

int dns_create(struct loop *loop, struct registry *reg, const struct dns_options *options, struct dns **ret,
	       struct err *err)
{
	struct dns *dns = mem_new(struct dns);
	int r;

	dns->loop = loop;
	list_init(&dns->waits);
	list_init(&dns->connections);
	zone_init(&dns->zone, reg, options->domain);
	forwarder_create(loop, options->resolv_conf, options->upstream_port, options->address, &dns->forwarder);
	r = dns_listen(dns, options, err);
	if (r < 0) {
		dns_destroy(dns);
		return r;
	}
	*ret = dns;
	return 0;
}

void dns_destroy(struct dns *dns)
{
	if (!dns)
		return;
	/* It calls nobody back any more: whoever waits is let go here. */
	forwarder_destroy(dns->forwarder);
	list_foreach_safe(w, &dns->waits, struct udp_wait, link)
		udp_wait_free(w);
	dns->n_connections++; /* keeps dns while connections end below */
	dns->destroying = true;
	list_foreach_safe(c, &dns->connections, struct tcp_connection, link) {
		c->waiting = false;
		tcp_close(c);
	}
	for (unsigned i = 0; i < dns->n_listeners; i++) {
		udp_server_destroy(dns->listeners[i].udp);
		loop_cancel(dns->loop, &dns->listeners[i].accept_op);
		if (dns->listeners[i].fd >= 0)
			close(dns->listeners[i].fd);
	}
	zone_finish(&dns->zone);
	dns->n_connections--;
	dns_maybe_free(dns);
}

void dns_get_stats(const struct dns *dns, struct dns_stats *ret)
{
	*ret = dns->stats;
}
