/* SPDX-License-Identifier: Apache-2.0 */
/* See forward.h. */
#include "userspace/dns/forward.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/list.h"
#include "userspace/loop/loop.h"
#include "userspace/net/listen.h"

#define FORWARD_TIMEOUT_NS (2 * NS_PER_S)
#define FORWARD_TRIES_MAX 4
#define FORWARD_BYTES_MAX 65535
#define FORWARD_UDP_BYTES 4096
#define RESOLV_CONF_BYTES_MAX (64 * 1024)
#define DNS_PORT 53
#define HEADER_BYTES 12

struct forwarder {
	struct loop *loop;
	char *resolv_conf, *skip;
	uint16_t port;
	struct timespec mtime;
	struct sockaddr_storage upstreams[FORWARD_UPSTREAMS_MAX];
	socklen_t upstream_lens[FORWARD_UPSTREAMS_MAX];
	unsigned n_upstreams, n_in_flight;
	struct list queries;
	bool destroying;
};

struct forward {
	struct list link;
	struct forwarder *f;
	forward_done_fn *done;
	void *arg;
	int fd;
	bool tcp, over, timed_out;
	unsigned tries, upstream;
	struct loop_op send_op, recv_op;
	struct loop_timer timer;
	struct buf query; /* with the length before it over TCP */
	char *reply;
	size_t reply_len, reply_cap;
};

static bool forwarder_skips(const struct forwarder *f, const char *address)
{
	struct str rest = str_of(f->skip), part;

	while (str_split(&rest, ',', &part))
		if (str_is(part, address))
			return true;
	return false;
}

static void forwarder_read(struct forwarder *f)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line;
	struct stat st;

	if (stat(f->resolv_conf, &st) < 0) {
		f->n_upstreams = 0;
		f->mtime = (struct timespec){ 0 };
		return;
	}
	if (st.st_mtim.tv_sec == f->mtime.tv_sec && st.st_mtim.tv_nsec == f->mtime.tv_nsec)
		return;
	f->mtime = st.st_mtim;
	f->n_upstreams = 0;
	if (fs_read(f->resolv_conf, RESOLV_CONF_BYTES_MAX, &text, NULL) < 0)
		return;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line) && f->n_upstreams < FORWARD_UPSTREAMS_MAX) {
		_cleanup_free_ char *address = NULL;

		line = str_trim(line);
		if (!str_starts(line, STR("nameserver")))
			continue;
		address = str_dup(str_trim(str_make(line.p + 10, line.n - 10)));
		if (!forwarder_skips(f, address) &&
		    listen_parse_address(address, f->port, &f->upstreams[f->n_upstreams],
					 &f->upstream_lens[f->n_upstreams], NULL) == 0)
			f->n_upstreams++;
	}
}

int forwarder_create(struct loop *loop, const char *resolv_conf, uint16_t port, const char *skip,
		     struct forwarder **ret)
{
	struct forwarder *f = mem_new(struct forwarder);

	f->loop = loop;
	f->resolv_conf = mem_strdup(resolv_conf);
	f->skip = mem_strdup(skip);
	f->port = port ? port : DNS_PORT;
	list_init(&f->queries);
	*ret = f;
	return 0;
}

bool forwarder_usable(struct forwarder *f)
{
	forwarder_read(f);
	return f->n_upstreams > 0;
}

static void forwarder_maybe_free(struct forwarder *f)
{
	if (!f->destroying || f->n_in_flight)
		return;
	free(f->resolv_conf);
	free(f->skip);
	free(f);
}

static void forward_try(struct forward *q);

/* Frees or goes on when the ring has let go of the buffers. */
static void forward_settle(struct forward *q)
{
	struct forwarder *f = q->f;

	if (loop_op_pending(&q->send_op) || loop_op_pending(&q->recv_op))
		return;
	if (q->fd >= 0)
		close(TAKE_FD(q->fd));
	if (!q->over) {
		forward_try(q);
		return;
	}
	list_del(&q->link);
	f->n_in_flight--;
	buf_finish(&q->query);
	free(q->reply);
	free(q);
	forwarder_maybe_free(f);
}

static void forward_abandon(struct forward *q)
{
	loop_timer_cancel(q->f->loop, &q->timer);
	loop_cancel(q->f->loop, &q->send_op);
	loop_cancel(q->f->loop, &q->recv_op);
	forward_settle(q);
}

static void forward_finish(struct forward *q, struct str answer)
{
	if (q->over)
		return;
	q->over = true;
	if (!q->f->destroying)
		q->done(q->arg, answer);
	forward_abandon(q);
}

static void forward_retry(struct forward *q)
{
	if (q->over || ++q->tries >= FORWARD_TRIES_MAX || q->f->destroying) {
		forward_finish(q, STR_NULL);
		return;
	}
	q->upstream++;
	forward_abandon(q);
}

static void forward_timed_out(struct loop_timer *timer)
{
	forward_retry(container_of(timer, struct forward, timer));
}

static void forward_received(struct loop_op *op, int res, bool more);

static void forward_receive(struct forward *q)
{
	loop_recv(q->f->loop, &q->recv_op, q->fd, q->reply + q->reply_len, q->reply_cap - q->reply_len,
		  forward_received);
}

/* Over TCP: two bytes of length, then the message. 1: complete. */
static int forward_tcp_complete(struct forward *q, struct str *ret)
{
	size_t want;

	if (q->reply_len < 2)
		return 0;
	want = (size_t)(uint8_t)q->reply[0] << 8 | (uint8_t)q->reply[1];
	if (q->reply_len - 2 < want)
		return 0;
	*ret = str_make(q->reply + 2, want);
	return 1;
}

/* Bytes of the one question of a message; 0: none that is whole. */
static size_t forward_question_len(struct str message)
{
	size_t at = HEADER_BYTES;

	if (message.n < HEADER_BYTES || message.p[4] || message.p[5] != 1)
		return 0;
	while (at < message.n && (uint8_t)message.p[at] && !((uint8_t)message.p[at] & 0xc0))
		at += (uint8_t)message.p[at] + 1u;
	at += 1 + 2 + 2; /* the root, type, class */
	return at <= message.n ? at - HEADER_BYTES : 0;
}

/* An answer to what was asked: the id sent and, where it repeats the question, that one in any case of letters. (The
 * kernel checked address and port: the socket is connected.) */
static bool forward_matches(struct str query, struct str answer)
{
	size_t n = forward_question_len(query);

	if (answer.n < HEADER_BYTES || memcmp(answer.p, query.p, 2) != 0 || !(answer.p[2] & 0x80))
		return false;
	if (!answer.p[4] && !answer.p[5])
		return true; /* some repeat nothing in an error */
	if (forward_question_len(answer) != n)
		return false;
	for (size_t i = HEADER_BYTES; i < HEADER_BYTES + n; i++)
		if (tolower((uint8_t)answer.p[i]) != tolower((uint8_t)query.p[i]))
			return false;
	return true;
}

static void forward_received(struct loop_op *op, int res, bool more)
{
	struct forward *q = container_of(op, struct forward, recv_op);
	struct str answer;
	size_t at;

	if (q->over || res == -ECANCELED) {
		forward_settle(q);
		return;
	}
	/* An empty datagram may come from anyone; an ended connection says that nothing more will. */
	if (res < 0 || (res == 0 && q->tcp)) {
		forward_retry(q);
		return;
	}
	q->reply_len += (size_t)res;
	answer = str_make(q->reply, q->reply_len);
	if (q->tcp && !forward_tcp_complete(q, &answer)) {
		if (q->reply_len == q->reply_cap)
			forward_retry(q);
		else
			forward_receive(q);
		return;
	}
	at = q->tcp ? 2 : 0;
	if (!forward_matches(str_make(buf_str(&q->query).p + at, buf_len(&q->query) - at), answer)) {
		q->reply_len = 0;
		if (q->tcp)
			forward_retry(q);
		else
			forward_receive(q);
		return;
	}
	forward_finish(q, answer);
}

static void forward_sent(struct loop_op *op, int res, bool more)
{
	struct forward *q = container_of(op, struct forward, send_op);

	if (q->over || res == -ECANCELED)
		forward_settle(q);
	else if (res < 0)
		forward_retry(q);
}

static void forward_connected(struct loop_op *op, int res, bool more)
{
	struct forward *q = container_of(op, struct forward, send_op);

	if (q->over || res == -ECANCELED) {
		forward_settle(q);
	} else if (res < 0) {
		forward_retry(q);
	} else {
		struct str bytes = buf_str(&q->query);

		loop_send(q->f->loop, &q->send_op, q->fd, bytes.p, bytes.n, forward_sent);
		forward_receive(q);
	}
}

static void forward_try(struct forward *q)
{
	struct forwarder *f = q->f;
	unsigned i = f->n_upstreams ? q->upstream % f->n_upstreams : 0;
	struct sockaddr *to = (struct sockaddr *)&f->upstreams[i];
	size_t at = q->tcp ? 2 : 0;

	q->reply_len = 0;
	if (f->n_upstreams)
		q->fd = socket(to->sa_family, (q->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0) {
		forward_finish(q, STR_NULL);
		return;
	}
	random_bytes(q->query.data + q->query.start + at, 2);
	loop_timer_arm(f->loop, &q->timer, FORWARD_TIMEOUT_NS);
	loop_connect(f->loop, &q->send_op, q->fd, to, f->upstream_lens[i], forward_connected);
}

int forward_query(struct forwarder *f, struct str query, bool tcp, forward_done_fn *done, void *arg)
{
	struct forward *q;

	if (f->n_in_flight >= FORWARD_IN_FLIGHT_MAX)
		return -EBUSY;
	q = mem_new(struct forward);
	q->f = f;
	q->fd = -1;
	q->tcp = tcp;
	q->done = done;
	q->arg = arg;
	q->reply_cap = tcp ? FORWARD_BYTES_MAX + 2 : FORWARD_UDP_BYTES;
	q->reply = mem_alloc(q->reply_cap);
	if (tcp) {
		buf_add_char(&q->query, (char)(query.n >> 8));
		buf_add_char(&q->query, (char)query.n);
	}
	buf_add_str(&q->query, query);
	loop_timer_init(&q->timer, forward_timed_out);
	list_add_tail(&f->queries, &q->link);
	f->n_in_flight++;
	forward_try(q);
	return 0;
}

void forwarder_destroy(struct forwarder *f)
{
	if (!f)
		return;
	f->destroying = true;
	f->n_in_flight++; /* keeps f while queries end below */
	list_foreach_safe(q, &f->queries, struct forward, link)
		forward_finish(q, STR_NULL);
	f->n_in_flight--;
	forwarder_maybe_free(f);
}
