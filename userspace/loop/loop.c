/* SPDX-License-Identifier: Apache-2.0 */
/* The ring, its operations, defers and messages.
 *
 * One iteration: due timers, completions, messages, defers, then one io_uring_enter that submits everything they
 * asked for and waits. user_data of a request is its loop_op; 0 marks completions nobody wants (cancels).
 * A cancel is queued behind what was armed before it and before what is armed after it, so it can never hit a
 * later operation that reuses the same memory.
 */
#include "userspace/loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop_internal.h"

/* ---- making and ending ---- */

static int ring_init(struct io_uring *ring, unsigned entries, struct err *err)
{
	/* From the best to the plainest: older kernels know fewer flags. */
	static const unsigned tries[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		struct io_uring_params params = {
			.flags = tries[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * 8,
		};

		r = io_uring_queue_init_params(entries, ring, &params);
		if (r != -EINVAL)
			break;
	}
	if (r == -ENOSYS)
		return err_set(err, r, "io_uring is not available: the kernel has no io_uring (CONFIG_IO_URING)");
	if (r == -EPERM || r == -EACCES)
		return err_set(err, r,
			       "io_uring is not available: the kernel forbids it (kernel.io_uring_disabled=2? "
			       "a seccomp filter?)");
	if (r < 0)
		return err_set(err, r, "io_uring is not available: %s", strerror(-r));
	if (!(ring->features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(ring);
		return err_set(err, -ENOSYS,
			       "io_uring is not available: the kernel's is too old (Linux 6.1 is needed)");
	}
	/* Saves a descriptor look-up per iteration; works without. */
	io_uring_register_ring_fd(ring);
	return 0;
}

static void wake_read(struct loop_op *op, int res, bool more);

int loop_create(const struct loop_options *options, struct loop **ret, struct err *err)
{
	unsigned entries = options && options->entries ? options->entries : LOOP_ENTRIES_DEFAULT;
	unsigned workers = options && options->workers_max ? options->workers_max : LOOP_WORKERS_DEFAULT;
	struct loop *loop = mem_new(struct loop);
	int r;

	r = ring_init(&loop->ring, entries, err);
	if (r < 0) {
		free(loop);
		return r;
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		r = err_set(err, -errno, "eventfd: %s", strerror(errno));
		io_uring_queue_exit(&loop->ring);
		free(loop);
		return r;
	}
	loop->thread = pthread_self();
	loop->now_ns = clock_monotonic_ns();
	loop->recv_current = -1;
	loop->signals.fd = -1;
	list_init(&loop->defers);
	pool_init(&loop->pool, loop, workers);
	loop_read(loop, &loop->wake_op, loop->wake_fd, &loop->wake_value, sizeof(loop->wake_value), -1, wake_read);
	*ret = loop;
	return 0;
}

static void run_defers(struct loop *loop);
static void reap(struct loop *loop);
static struct io_uring_sqe *get_sqe(struct loop *loop);

/* The kernel may still write into buffers of pending operations: cancel and reap until none is left. */
static void drain(struct loop *loop)
{
	struct __kernel_timespec ts = { .tv_nsec = 10 * NS_PER_MS };

	loop->draining = true;
	for (int round = 0; loop->ops_pending && round < LOOP_DRAIN_ROUNDS_MAX; round++) {
		struct io_uring_cqe *cqe;
		struct io_uring_sqe *sqe = get_sqe(loop);

		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		sqe->user_data = 0;
		io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
		reap(loop);
		run_defers(loop);
	}
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	pool_finish(&loop->pool);
	run_defers(loop);
	drain(loop);
	io_uring_queue_exit(&loop->ring);
	loop_signals_finish(&loop->signals);
	close(loop->wake_fd);
	free(loop->timers.at);
	if (loop->recv_ring)
		munmap(loop->recv_ring, LOOP_RECV_BUFFERS * sizeof(struct io_uring_buf));
	if (loop->recv_buffers)
		munmap(loop->recv_buffers, LOOP_RECV_BUFFERS * LOOP_RECV_BUFFER_BYTES);
	free(loop);
}

/* ---- arming operations ---- */

static struct io_uring_sqe *get_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		int r = io_uring_submit(&loop->ring);

		if (r < 0 && r != -EINTR && r != -EBUSY && r != -EAGAIN) {
			log_error("io_uring submit failed error=%s", strerror(-r));
			abort();
		}
	}
	return sqe;
}

static void note_armed(struct loop *loop, struct loop_op *op, loop_op_fn *fn)
{
	assert(!op->pending);
	op->fn = fn;
	op->pending = true;
	op->cancelling = op->waiting = false;
	loop->ops_pending++;
	loop->stats.submissions++;
}

static struct io_uring_sqe *arm(struct loop *loop, struct loop_op *op, loop_op_fn *fn)
{
	note_armed(loop, op, fn);
	op->kind = 0; /* OP_OTHER */
	return get_sqe(loop);
}

void loop_accept_multishot(struct loop *loop, struct loop_op *op, int fd, loop_op_fn *fn)
{
	struct io_uring_sqe *sqe = arm(loop, op, fn);

	io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, op);
}

/* ---- operations that wait: submitted, and where the descriptor has O_NONBLOCK, polled for and submitted again ---- */

enum op_kind { OP_OTHER, OP_CONNECT, OP_RECV, OP_SEND, OP_RECVMSG, OP_SENDMSG, OP_READ, OP_WRITE };

static void submit_op(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	switch ((enum op_kind)op->kind) {
	case OP_CONNECT:
		io_uring_prep_connect(sqe, op->fd, op->at, (socklen_t)op->n);
		break;
	case OP_RECV:
		io_uring_prep_recv(sqe, op->fd, (void *)op->at, op->n, 0);
		break;
	case OP_SEND:
		io_uring_prep_send(sqe, op->fd, op->at, op->n, MSG_NOSIGNAL | MSG_WAITALL);
		break;
	case OP_RECVMSG:
		io_uring_prep_recvmsg(sqe, op->fd, (struct msghdr *)op->at, MSG_CMSG_CLOEXEC);
		break;
	case OP_SENDMSG:
		io_uring_prep_sendmsg(sqe, op->fd, op->at, MSG_NOSIGNAL);
		break;
	case OP_READ:
		io_uring_prep_read(sqe, op->fd, (void *)op->at, (unsigned)op->n, (uint64_t)op->offset);
		break;
	case OP_WRITE:
		io_uring_prep_write(sqe, op->fd, op->at, (unsigned)op->n, (uint64_t)op->offset);
		break;
	case OP_OTHER:
		io_uring_prep_nop(sqe);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

static void start_op(struct loop *loop, struct loop_op *op, enum op_kind kind, int fd, const void *at, size_t n,
		     int64_t offset, loop_op_fn *fn)
{
	note_armed(loop, op, fn);
	op->kind = (uint8_t)kind;
	op->fd = fd;
	op->at = at;
	op->n = n;
	op->offset = offset;
	submit_op(loop, op);
}

/* True when the operation goes on: the callback is not due yet. */
static bool goes_on(struct loop *loop, struct loop_op *op, int res)
{
	bool reads = op->kind == OP_RECV || op->kind == OP_RECVMSG || op->kind == OP_READ;
	struct io_uring_sqe *sqe;

	if (op->kind == OP_OTHER || op->cancelling || loop->draining)
		return false;
	if (op->waiting) {
		op->waiting = false;
		if (res < 0)
			return false;
		submit_op(loop, op);
		return true;
	}
	if (res != -EAGAIN && !(op->kind == OP_CONNECT && (res == -EINPROGRESS || res == -EALREADY)))
		return false;
	op->waiting = true;
	sqe = get_sqe(loop);
	io_uring_prep_poll_add(sqe, op->fd, reads ? POLLIN : POLLOUT);
	io_uring_sqe_set_data(sqe, op);
	return true;
}

void loop_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *addr, socklen_t len,
		  loop_op_fn *fn)
{
	start_op(loop, op, OP_CONNECT, fd, addr, len, 0, fn);
}

void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t n, loop_op_fn *fn)
{
	start_op(loop, op, OP_RECV, fd, buf, n, 0, fn);
}

void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t n, loop_op_fn *fn)
{
	start_op(loop, op, OP_SEND, fd, buf, n, 0, fn);
}

void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, loop_op_fn *fn)
{
	start_op(loop, op, OP_RECVMSG, fd, msg, 0, 0, fn);
}

void loop_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg, loop_op_fn *fn)
{
	start_op(loop, op, OP_SENDMSG, fd, msg, 0, 0, fn);
}

void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t n, int64_t offset, loop_op_fn *fn)
{
	start_op(loop, op, OP_READ, fd, buf, n, offset, fn);
}

void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t n, int64_t offset,
		loop_op_fn *fn)
{
	start_op(loop, op, OP_WRITE, fd, buf, n, offset, fn);
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events, bool multishot, loop_op_fn *fn)
{
	struct io_uring_sqe *sqe = arm(loop, op, fn);

	if (multishot)
		io_uring_prep_poll_multishot(sqe, fd, events);
	else
		io_uring_prep_poll_add(sqe, fd, events);
	io_uring_sqe_set_data(sqe, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	if (!op->pending || op->cancelling)
		return;
	op->cancelling = true;
	sqe = get_sqe(loop);
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
	sqe->user_data = 0;
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* ---- receiving into shared buffers ---- */

static void recv_buffer_give_back(struct loop *loop, int id)
{
	io_uring_buf_ring_add(loop->recv_ring, loop->recv_buffers + (size_t)id * LOOP_RECV_BUFFER_BYTES,
			      LOOP_RECV_BUFFER_BYTES, (unsigned short)id, LOOP_RECV_BUFFERS - 1, 0);
	io_uring_buf_ring_advance(loop->recv_ring, 1);
}

static bool recv_ring_ready(struct loop *loop)
{
	const size_t ring_bytes = LOOP_RECV_BUFFERS * sizeof(struct io_uring_buf);
	const size_t buffer_bytes = (size_t)LOOP_RECV_BUFFERS * LOOP_RECV_BUFFER_BYTES;
	struct io_uring_buf_reg reg = { .ring_entries = LOOP_RECV_BUFFERS, .bgid = LOOP_RECV_GROUP };
	void *ring, *buffers;

	if (loop->recv_ring)
		return true;
	ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	buffers = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.ring_addr = (uint64_t)(uintptr_t)ring;
	if (ring == MAP_FAILED || buffers == MAP_FAILED || io_uring_register_buf_ring(&loop->ring, &reg, 0) < 0) {
		if (ring != MAP_FAILED)
			munmap(ring, ring_bytes);
		if (buffers != MAP_FAILED)
			munmap(buffers, buffer_bytes);
		return false;
	}
	loop->recv_ring = ring;
	loop->recv_buffers = buffers;
	io_uring_buf_ring_init(loop->recv_ring);
	for (int i = 0; i < LOOP_RECV_BUFFERS; i++)
		recv_buffer_give_back(loop, i);
	return true;
}

void loop_recv_multishot(struct loop *loop, struct loop_op *op, int fd, loop_op_fn *fn)
{
	bool ready = recv_ring_ready(loop);
	struct io_uring_sqe *sqe = arm(loop, op, fn);

	/* Without buffers (a kernel below the floor) the callback gets -EBADF. */
	io_uring_prep_recv_multishot(sqe, ready ? fd : -1, NULL, 0, 0);
	sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = LOOP_RECV_GROUP;
	io_uring_sqe_set_data(sqe, op);
}

const char *loop_recv_data(const struct loop *loop)
{
	assert(loop->recv_current >= 0);
	return loop->recv_buffers + (size_t)loop->recv_current * LOOP_RECV_BUFFER_BYTES;
}

/* ---- completions ---- */

static void note_callback_end(struct loop *loop, int64_t *at_ns)
{
	int64_t now_ns = clock_monotonic_ns();
	uint64_t took_ns = (uint64_t)(now_ns - *at_ns);

	loop->stats.busy_ns += took_ns;
	if (took_ns > loop->stats.longest_callback_ns)
		loop->stats.longest_callback_ns = took_ns;
	*at_ns = now_ns;
}

static void complete(struct loop *loop, uint64_t user_data, int res, unsigned flags)
{
	struct loop_op *op = (struct loop_op *)(uintptr_t)user_data;
	bool more = flags & IORING_CQE_F_MORE;
	int buffer = flags & IORING_CQE_F_BUFFER ? (int)(flags >> IORING_CQE_BUFFER_SHIFT) : -1;

	if (op && !(op->kind && goes_on(loop, op, res))) {
		if (!more) {
			op->pending = false;
			op->cancelling = false;
			loop->ops_pending--;
		}
		loop->stats.completions++;
		loop->recv_current = buffer;
		op->fn(op, res, more);
		loop->recv_current = -1;
	}
	if (buffer >= 0)
		recv_buffer_give_back(loop, buffer);
}

static void reap(struct loop *loop)
{
	int64_t at_ns = loop->now_ns;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_batch_cqe(&loop->ring, &cqe, 1) == 1) {
		uint64_t user_data = cqe->user_data;
		int res = cqe->res;
		unsigned flags = cqe->flags;

		/* Given back first: the callback may have to submit, which may need room here. */
		io_uring_cqe_seen(&loop->ring, cqe);
		complete(loop, user_data, res, flags);
		note_callback_end(loop, &at_ns);
	}
}

/* ---- timers, defers ---- */

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn)
{
	*timer = (struct loop_timer){ .fn = fn };
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t delay_ns)
{
	/* At least one later than now: a timer that arms itself again waits for the next iteration. */
	int64_t due_ns = loop_now_ns(loop) + (delay_ns > 0 ? delay_ns : 1);

	if (timer->due_ns)
		timer_heap_remove(&loop->timers, timer);
	timer->due_ns = due_ns;
	timer_heap_put(&loop->timers, timer);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	if (!timer->due_ns)
		return;
	timer_heap_remove(&loop->timers, timer);
	timer->due_ns = 0;
}

static void run_timers(struct loop *loop)
{
	int64_t at_ns = loop->now_ns;
	struct loop_timer *timer;

	while (!loop->stop && (timer = timer_heap_top(&loop->timers)) && timer->due_ns <= loop->now_ns) {
		loop_timer_cancel(loop, timer);
		timer->fn(timer);
		note_callback_end(loop, &at_ns);
	}
}

void loop_defer(struct loop *loop, struct loop_defer *defer)
{
	if (!defer->link.next || list_empty(&defer->link))
		list_add_tail(&loop->defers, &defer->link);
}

void loop_defer_cancel(struct loop *loop, struct loop_defer *defer)
{
	if (defer->link.next)
		list_del(&defer->link);
}

static void run_defers(struct loop *loop)
{
	int64_t at_ns = loop->now_ns;
	struct list now;

	if (list_empty(&loop->defers))
		return;
	at_ns = clock_monotonic_ns();
	/* Those that queue themselves again wait for the next iteration, which does not sleep then. */
	now = loop->defers;
	now.next->prev = now.prev->next = &now;
	list_init(&loop->defers);
	while (!list_empty(&now)) {
		struct loop_defer *defer = list_first(&now, struct loop_defer, link);

		list_del(&defer->link);
		defer->fn(defer);
		note_callback_end(loop, &at_ns);
	}
}

/* ---- messages ---- */

void loop_post(struct loop *loop, struct loop_msg *msg)
{
	struct loop_msg *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
	uint64_t one = 1;

	do {
		msg->next = head;
	} while (!atomic_compare_exchange_weak(&loop->posted, &head, msg));
	/* Whoever finds the list empty wakes the loop; it takes the whole list at once. */
	if (!head)
		while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
}

static void wake_read(struct loop_op *op, int res, bool more)
{
	struct loop *loop = container_of(op, struct loop, wake_op);
	struct loop_msg *msg, *next, *in_order = NULL;

	if (loop->draining)
		return;
	loop_read(loop, op, loop->wake_fd, &loop->wake_value, sizeof(loop->wake_value), -1, wake_read);
	for (msg = atomic_exchange(&loop->posted, NULL); msg; msg = next) {
		next = msg->next;
		msg->next = in_order;
		in_order = msg;
	}
	for (msg = in_order; msg; msg = next) {
		next = msg->next;
		msg->fn(msg);
	}
}

/* ---- running ---- */

static int wait_and_submit(struct loop *loop)
{
	struct loop_timer *timer = timer_heap_top(&loop->timers);
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;
	int64_t left_ns;

	if (!list_empty(&loop->defers))
		return io_uring_submit_and_get_events(&loop->ring);
	if (!timer)
		return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, NULL, NULL);
	left_ns = timer->due_ns - clock_monotonic_ns();
	if (left_ns <= 0)
		return io_uring_submit_and_get_events(&loop->ring);
	ts.tv_sec = left_ns / NS_PER_S;
	ts.tv_nsec = left_ns % NS_PER_S;
	return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
}

int loop_run(struct loop *loop)
{
	assert(pthread_equal(loop->thread, pthread_self()));
	loop->stop = false;
	loop->running = true;
	loop->now_ns = clock_monotonic_ns();
	run_defers(loop);
	while (!loop->stop) {
		int r = wait_and_submit(loop);

		if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN) {
			log_error("io_uring failed error=%s", strerror(-r));
			loop->running = false;
			return r;
		}
		loop->now_ns = clock_monotonic_ns();
		loop->stats.iterations++;
		run_timers(loop);
		reap(loop);
		run_defers(loop);
	}
	loop->running = false;
	return loop->stop_code;
}

void loop_stop(struct loop *loop, int code)
{
	loop->stop = true;
	loop->stop_code = code;
}

int64_t loop_now_ns(const struct loop *loop)
{
	return loop->running ? loop->now_ns : clock_monotonic_ns();
}

void loop_get_stats(const struct loop *loop, struct loop_stats *ret)
{
	struct pool *pool = (struct pool *)&loop->pool;

	*ret = loop->stats;
	pthread_mutex_lock(&pool->lock);
	ret->workers = pool->idle + pool->busy;
	ret->workers_busy = pool->busy;
	pthread_mutex_unlock(&pool->lock);
	ret->timers = (unsigned)loop->timers.n;
}
