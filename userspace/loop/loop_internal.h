/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the loop share; for nobody else. */
#pragma once

#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "userspace/loop/loop.h"

#define LOOP_SIGNALS_MAX 65
#define LOOP_WORKER_IDLE_S 5 /* a worker thread without work ends after this */
#define LOOP_RECV_BUFFERS 64 /* power of two; shared by all loop_recv_multishot() */
#define LOOP_RECV_BUFFER_BYTES 8192
#define LOOP_RECV_GROUP 1
#define LOOP_DRAIN_ROUNDS_MAX 100 /* of 10 ms each, in loop_destroy */

/* ---- timers ---- */

struct timer_heap {
	struct loop_timer **at;
	size_t n, cap;
};

/* The earliest; NULL: none. */
struct loop_timer *timer_heap_top(const struct timer_heap *heap);
void timer_heap_put(struct timer_heap *heap, struct loop_timer *timer);
void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer);

/* ---- worker pool ---- */

struct pool_worker {
	pthread_t thread;
	enum { POOL_WORKER_NONE, POOL_WORKER_RUNS, POOL_WORKER_ENDED } state;
	struct pool *pool;
};

struct pool {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list queue;
	size_t queued;
	unsigned idle, busy, max;
	bool stop;
	struct pool_worker *workers;
};

void pool_init(struct pool *pool, struct loop *loop, unsigned max);
void pool_finish(struct pool *pool);

/* ---- signals ---- */

struct loop_signals {
	int fd;
	sigset_t set;
	struct loop_op op;
	struct signalfd_siginfo *info;
	struct {
		void (*fn)(void *arg, int signo);
		void *arg;
	} handlers[LOOP_SIGNALS_MAX];
};

void loop_signals_finish(struct loop_signals *signals);

/* ---- the loop ---- */

struct loop {
	struct io_uring ring;
	pthread_t thread;
	int64_t now_ns;
	bool running, stop, draining;
	int stop_code;
	unsigned ops_pending;

	struct timer_heap timers;
	struct list defers;
	struct loop_signals signals;
	struct pool pool;

	int wake_fd;
	struct loop_op wake_op;
	uint64_t wake_value;
	_Atomic(struct loop_msg *) posted; /* newest first */

	struct io_uring_buf_ring *recv_ring; /* made at first use */
	char *recv_buffers;
	int recv_current; /* buffer of the callback that runs; -1: none */

	struct loop_stats stats;
};
