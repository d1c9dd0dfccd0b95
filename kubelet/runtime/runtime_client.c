/* SPDX-License-Identifier: Apache-2.0 */
/* The socket to the supervisor: finding or starting it, requests and replies, noticing its death. Loop thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define HELLO_TIMEOUT_S 10

extern char **environ;

struct queued {
	struct list link;
	size_t n;
	char data[];
};

/* ---- starting ---- */

int supervisor_spawn(const char *run_dir, const char *cgroup_root, struct err *err)
{
	char *argv[] = { "k3c-bpf",       "supervisor",        "--run-dir", (char *)run_dir,
			 "--cgroup-root", (char *)cgroup_root, NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	int status = 0, r;
	pid_t pid;

	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(&pid, "/proc/self/exe", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (r)
		return err_set(err, -r, "cannot start the supervisor: %s", strerror(r));
	/* the first process ends when the socket is ready */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -ECHILD, "the supervisor did not start");
	return 0;
}

int client_open_socket(const char *run_dir, int *ret_fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", run_dir, PROTOCOL_SOCKET) >=
	    sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- sending ---- */

static void readable(struct loop_op *op, int res, bool more);

static void drop_queue(struct runtime *rt)
{
	list_foreach_safe(q, &rt->outgoing, struct queued, link) {
		list_del(&q->link);
		free(q);
	}
	rt->queued = 0;
}

static void writable(struct loop_op *op, int res, bool more)
{
	struct connection *conn = container_of(op, struct connection, writable);
	struct runtime *rt = conn->rt;

	if (!rt) {
		if (!loop_op_pending(&conn->readable)) {
			close(conn->fd);
			free(conn);
		}
		return;
	}
	list_foreach_safe(q, &rt->outgoing, struct queued, link) {
		if (send(conn->fd, q->data, q->n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
			loop_poll(rt->loop, &conn->writable, conn->fd, POLLOUT, false, writable);
			return;
		}
		rt->queued -= q->n;
		list_del(&q->link);
		free(q);
	}
}

static void post(struct runtime *rt, const struct buf *text)
{
	struct connection *conn = rt->connection;
	struct queued *q;

	if (!conn)
		return;
	if (list_empty(&rt->outgoing)) {
		if (send(conn->fd, buf_str(text).p, buf_len(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
		if (errno != EAGAIN)
			return; /* its end is read elsewhere, and fails every request */
	}
	if (rt->queued + buf_len(text) > RUNTIME_SEND_QUEUE_MAX) {
		shutdown(conn->fd, SHUT_RDWR);
		return;
	}
	q = mem_alloc(sizeof(*q) + buf_len(text));
	q->n = buf_len(text);
	memcpy(q->data, buf_str(text).p, q->n);
	list_add_tail(&rt->outgoing, &q->link);
	rt->queued += q->n;
	if (!loop_op_pending(&conn->writable))
		loop_poll(rt->loop, &conn->writable, conn->fd, POLLOUT, false, writable);
}

/* ---- requests ---- */

void client_request(struct runtime *rt, struct request *request, request_fn *fn, const struct buf *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	request->seq = ++rt->next_seq;
	request->fn = fn;
	list_add_tail(&rt->requests, &request->link);
	buf_printf(&b, "{\"seq\":%llu,", (unsigned long long)request->seq);
	buf_add_str(&b, buf_str(text));
	if (buf_len(&b) > PROTOCOL_MESSAGE_MAX)
		request->seq = 0;
	if (!request->seq || !rt->connection)
		runtime_deliver_soon(rt); /* fails there, never inside the caller */
	else
		post(rt, &b);
}

void client_tell(struct runtime *rt, const struct buf *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_add_char(&b, '{');
	buf_add_str(&b, buf_str(text));
	post(rt, &b);
}

static void fail_requests(struct runtime *rt)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct list all = LIST_INIT(all);

	err_set(&err, -ECONNRESET, "the supervisor was lost");
	while (!list_empty(&rt->requests)) {
		struct request *r = list_first(&rt->requests, struct request, link);

		list_del(&r->link);
		list_add_tail(&all, &r->link);
	}
	while (!list_empty(&all)) {
		struct request *r = list_first(&all, struct request, link);

		list_del(&r->link);
		r->fn(rt, r, NULL, NULL, 0, &err);
	}
}

/* Those that were too large to send. */
void client_fail_unsent(struct runtime *rt)
{
	list_foreach_safe(r, &rt->requests, struct request, link) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (r->seq)
			continue;
		list_del(&r->link);
		err_set(&err, -E2BIG, "request to the supervisor is larger than %u bytes", PROTOCOL_MESSAGE_MAX);
		r->fn(rt, r, NULL, NULL, 0, &err);
		runtime_deliver_soon(rt); /* the callback may have changed the list */
		return;
	}
}

static void answer(struct runtime *rt, const struct json *reply, const int *fds, size_t n)
{
	uint64_t seq = (uint64_t)json_get_int(reply, "seq", 0);
	int code = (int)json_get_int(reply, "code", -EPROTO);

	list_foreach(r, &rt->requests, struct request, link) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (r->seq != seq)
			continue;
		list_del(&r->link);
		if (code < 0)
			err_set(&err, code, "%.*s", STR_ARG(json_get_str(reply, "message")));
		r->fn(rt, r, reply, fds, n, code < 0 ? &err : NULL);
		return;
	}
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

static void dispatch(struct runtime *rt, const struct json *message, const int *fds, size_t n)
{
	struct str event = json_get_str(message, "event");

	if (!event.n) {
		answer(rt, message, fds, n);
	} else if (str_is(event, "exec-exited")) {
		exec_on_event(rt, message);
	} else if (str_is(event, "container") || str_is(event, "started") || str_is(event, "exited")) {
		runtime_learn(rt, message);
		runtime_deliver_soon(rt);
	}
}

/* 1: one message handled (*ret its tree); 0: nothing waits; negative: the end */
static int receive(struct runtime *rt, int fd, int flags, struct arena *arena, struct json **ret, int *fds,
		   size_t *ret_n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * PROTOCOL_FDS_MAX)];
	} control;
	struct iovec iov = { rt->message, PROTOCOL_MESSAGE_MAX };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	struct cmsghdr *c;
	ssize_t n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);

	*ret_n_fds = 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0 || (msg.msg_flags & MSG_TRUNC))
		return -ECONNRESET;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS) {
		*ret_n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *ret_n_fds * sizeof(int));
	}
	return json_parse(arena, str_make(rt->message, (size_t)n), 0, ret, NULL) < 0 ? -EPROTO : 1;
}

static void readable(struct loop_op *op, int res, bool more)
{
	struct connection *conn = container_of(op, struct connection, readable);
	int fds[PROTOCOL_FDS_MAX], r = 1;
	size_t n;

	while (conn->rt && r > 0) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct json *message;

		r = receive(conn->rt, conn->fd, MSG_DONTWAIT, &arena, &message, fds, &n);
		if (r > 0)
			dispatch(conn->rt, message, fds, n);
	}
	if (!conn->rt) {
		if (!loop_op_pending(&conn->writable)) {
			close(conn->fd);
			free(conn);
		}
		return;
	}
	if (r < 0) {
		client_lost(conn->rt);
		if (!loop_op_pending(&conn->writable)) {
			close(conn->fd);
			free(conn);
		}
		return;
	}
	loop_poll(conn->rt->loop, &conn->readable, conn->fd, POLLIN, false, readable);
}

/* ---- connecting ---- */

static int say_hello(struct runtime *rt, int fd, struct err *err)
{
	struct timeval timeout = { .tv_sec = HELLO_TIMEOUT_S };
	_cleanup_buf_ struct buf b = BUF_INIT;
	int fds[PROTOCOL_FDS_MAX], r;
	size_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	buf_printf(&b,
		   "{\"op\":\"hello\",\"seq\":1,\"version\":%d,\"log_max_bytes\":%llu,\"log_max_files\":%u,\"oci\":",
		   PROTOCOL_VERSION, (unsigned long long)rt->log_max_bytes, rt->log_max_files);
	json_write_str(&b, str_of(rt->oci_path));
	buf_add_char(&b, '}');
	if (send(fd, buf_str(&b).p, buf_len(&b), MSG_NOSIGNAL) < 0)
		return err_set(err, -errno, "supervisor: %s", strerror(errno));
	for (;;) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct json *message;

		r = receive(rt, fd, 0, &arena, &message, fds, &n);
		if (r <= 0)
			return err_set(err, r < 0 ? r : -ETIMEDOUT, "the supervisor does not answer");
		if (json_get_int(message, "seq", 0) == 1)
			rt->supervisor_pid = (pid_t)json_get_int(message, "pid", 0);
		if (str_is(json_get_str(message, "event"), "listed"))
			return 0;
		if (json_get_str(message, "event").n)
			runtime_learn(rt, message);
	}
}

/* The supervisor may still answer what a server before us asked: no number of ours is ever one of its. */
static uint64_t first_seq(void)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint32_t)clock_real_ns();
	return (uint64_t)random << 28 | 1; /* stays a positive int64 in JSON */
}

int client_connect(struct runtime *rt, struct err *err)
{
	int fd = -1, r = client_open_socket(rt->run_dir, &fd);

	if (r == -ENOENT || r == -ECONNREFUSED) {
		r = supervisor_spawn(rt->run_dir, rt->cgroup_root, err);
		if (r < 0)
			return r;
		r = client_open_socket(rt->run_dir, &fd);
	}
	if (r < 0)
		return err_set(err, r, "supervisor's socket in %s: %s", rt->run_dir, strerror(-r));
	rt->next_seq = first_seq();
	r = say_hello(rt, fd, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	rt->connection = mem_new(struct connection);
	rt->connection->rt = rt;
	rt->connection->fd = fd;
	loop_poll(rt->loop, &rt->connection->readable, fd, POLLIN, false, readable);
	return 0;
}

void client_disconnect(struct runtime *rt)
{
	struct connection *conn = rt->connection;

	if (!conn)
		return;
	rt->connection = NULL;
	drop_queue(rt);
	conn->rt = NULL;
	shutdown(conn->fd, SHUT_RDWR);
	loop_cancel(rt->loop, &conn->readable);
	loop_cancel(rt->loop, &conn->writable);
	if (!loop_op_pending(&conn->readable) && !loop_op_pending(&conn->writable)) {
		close(conn->fd);
		free(conn);
	}
}

/* Called from `readable`, which then frees the connection. */
void client_lost(struct runtime *rt)
{
	struct connection *conn = rt->connection;
	_cleanup_err_ struct err err = ERR_INIT;
	pid_t before = rt->supervisor_pid;

	if (conn) {
		rt->connection = NULL;
		drop_queue(rt);
		conn->rt = NULL;
		loop_cancel(rt->loop, &conn->writable);
	}
	fail_requests(rt);
	exec_all_lost(rt);
	if (rt->stopping)
		return;
	if (client_connect(rt, &err) < 0) {
		log_error("supervisor lost error=\"%s\"", err_message(&err));
		loop_timer_arm(rt->loop, &rt->retry, RUNTIME_RETRY_NS);
		return;
	}
	if (rt->supervisor_pid != before && rt->events.lost)
		rt->events.lost(rt->events.ctx);
	runtime_deliver_soon(rt);
}
