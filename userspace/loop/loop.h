/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: one thread, one io_uring (SINGLE_ISSUER, DEFER_TASKRUN). Everything here is
 * called on the loop thread, but for loop_post(), which any thread may call.
 *
 * Operations: the owner embeds a `struct loop_op` and keeps it (and the buffers) until the
 * callback has run for the last time; loop_op_pending() tells. closing a descriptor does not end
 * its operations: loop_cancel() first (its callback sees -ECANCELED), close after the last one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "userspace/base/err.h"
#include "userspace/base/list.h"

struct loop;

#define LOOP_ENTRIES_DEFAULT 256
#define LOOP_WORKERS_DEFAULT 4

struct loop_options {
	unsigned entries;     /* submission queue size; 0: default */
	unsigned workers_max; /* threads of the worker pool, started on demand; 0: default */
};

/* The thread that creates a loop runs it. */
int loop_create(const struct loop_options *options, struct loop **ret, struct err *err);
/* Owners first: they cancel, and free themselves in the last callback. This cancels what is left, runs the
 * callbacks that are due for it and waits for the work that is running. Work not yet started and messages not
 * yet delivered are dropped. */
void loop_destroy(struct loop *loop);
/* Until loop_stop(); returns the code given there. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int code);
/* Monotonic, as of the wake-up being handled (no system call). */
int64_t loop_now_ns(const struct loop *loop);

/* ---- operations ---- */

struct loop_op;
/* `res`: as the system call, negative errno on failure. `more`: a multishot operation that stays armed. */
typedef void loop_op_fn(struct loop_op *op, int res, bool more);

struct loop_op {
	loop_op_fn *fn;
	bool pending;
	bool cancelling;
	/* The loop's: to try again where a non-blocking descriptor had nothing to give or no room. */
	bool waiting;
	uint8_t kind;
	int fd;
	const void *at;
	size_t n;
	int64_t offset;
};

static inline bool loop_op_pending(const struct loop_op *op)
{
	return op->pending;
}

/* Each arms `op`, which must not be pending. They cannot fail: errors come to the callback. Descriptors may be blocking
 * (cheapest) or have O_NONBLOCK: the operation waits all the same. loop_accept_multishot() and loop_recv_multishot()
 * want blocking ones. */
void loop_accept_multishot(struct loop *loop, struct loop_op *op, int fd, loop_op_fn *fn);
void loop_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *addr, socklen_t len,
		  loop_op_fn *fn);
void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t n, loop_op_fn *fn);
/* Receives into buffers of the loop's: an idle connection holds none. During the callback loop_recv_data() is where
 * the `res` bytes are. res 0: end of stream. -ENOBUFS with !more: arm again. */
void loop_recv_multishot(struct loop *loop, struct loop_op *op, int fd, loop_op_fn *fn);
const char *loop_recv_data(const struct loop *loop);
/* Sends all of it: `res` is short only after an error or a cancel, or where the socket has O_NONBLOCK. */
void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t n, loop_op_fn *fn);
void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, loop_op_fn *fn);
void loop_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg, loop_op_fn *fn);
/* offset -1: the file position (pipes, ttys) */
void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t n, int64_t offset, loop_op_fn *fn);
void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t n, int64_t offset,
		loop_op_fn *fn);
/* poll(2) events; res: revents. */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events, bool multishot, loop_op_fn *fn);
/* No effect when not pending. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* ---- timers ---- */

struct loop_timer;
typedef void loop_timer_fn(struct loop_timer *timer);

struct loop_timer {
	loop_timer_fn *fn;
	int64_t due_ns; /* 0: not armed */
	uint32_t heap_index;
};

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn);
/* One shot; arming an armed timer moves it. */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t delay_ns);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);
static inline bool loop_timer_armed(const struct loop_timer *timer)
{
	return timer->due_ns != 0;
}

/* ---- later in this iteration: after the current callbacks, before sleeping ---- */

struct loop_defer {
	struct list link; /* zeroed: not queued */
	void (*fn)(struct loop_defer *defer);
};

void loop_defer(struct loop *loop, struct loop_defer *defer); /* queued once; a second call is a no-op */
void loop_defer_cancel(struct loop *loop, struct loop_defer *defer);

/* ---- signals ---- */

/* One handler a signal; the signal is blocked and read through a signalfd. Children that are started must get their
 * own signal mask. */
int loop_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg, struct err *err);

/* ---- children ---- */

/* Exit of a child of this process, by pidfd. status as of waitpid; the child is reaped. */
struct loop_child_watch;

struct loop_child {
	struct loop_child_watch *watch; /* NULL: not watched (any more) */
	pid_t pid;
	void (*fn)(struct loop_child *child, int status);
	struct loop *loop;
};

int loop_child_watch(struct loop *loop, struct loop_child *child, pid_t pid,
		     void (*fn)(struct loop_child *child, int status));
/* `child` may be freed at once; the process is not reaped then. */
void loop_child_forget(struct loop *loop, struct loop_child *child);

/* ---- messages from other threads ---- */

struct loop_msg {
	struct loop_msg *next;
	void (*fn)(struct loop_msg *msg); /* runs on the loop thread; owns msg */
};

/* Any thread; wakes the loop by eventfd. Messages arrive in order per thread. */
void loop_post(struct loop *loop, struct loop_msg *msg);

/* ---- worker pool: for what blocks ---- */

struct loop_work {
	struct loop_msg msg;
	struct list link;
	void (*run)(struct loop_work *work);  /* on a pool thread; touches nothing shared */
	void (*done)(struct loop_work *work); /* on the loop thread; owns work */
};

void loop_work_submit(struct loop *loop, struct loop_work *work);

/* ---- for `status` ---- */

struct loop_stats {
	uint64_t iterations, submissions, completions, work_items;
	uint64_t busy_ns; /* time spent in callbacks since start */
	uint64_t longest_callback_ns;
	unsigned workers, workers_busy, timers;
};

void loop_get_stats(const struct loop *loop, struct loop_stats *ret);
