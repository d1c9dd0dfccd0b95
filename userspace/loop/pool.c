/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool: threads are started when work waits and none is idle, and end after idling, so that a quiet
 * process has none. The queue and the counts are under the lock. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop_internal.h"

void pool_init(struct pool *pool, struct loop *loop, unsigned max)
{
	pthread_condattr_t attr;

	*pool = (struct pool){ .loop = loop, .max = max };
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->wake, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&pool->queue);
	pool->workers = mem_new_array(struct pool_worker, max);
}

void pool_finish(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->max; i++)
		if (pool->workers[i].state != POOL_WORKER_NONE)
			pthread_join(pool->workers[i].thread, NULL);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool->workers);
}

/* Under the lock. False: idled long enough, or the end. */
static bool wait_for_work(struct pool *pool)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOOP_WORKER_IDLE_S;
	pool->idle++;
	while (list_empty(&pool->queue) && !pool->stop && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&pool->wake, &pool->lock, &until);
	pool->idle--;
	return !list_empty(&pool->queue) && !pool->stop;
}

static void work_done(struct loop_msg *msg)
{
	struct loop_work *work = container_of(msg, struct loop_work, msg);

	work->done(work);
}

static void *worker_main(void *arg)
{
	struct pool_worker *worker = arg;
	struct pool *pool = worker->pool;

	pthread_setname_np(pthread_self(), "worker");
	pthread_mutex_lock(&pool->lock);
	while (wait_for_work(pool)) {
		struct loop_work *work = list_first(&pool->queue, struct loop_work, link);

		list_del(&work->link);
		pool->queued--;
		pool->busy++;
		pthread_mutex_unlock(&pool->lock);
		work->run(work);
		pthread_mutex_lock(&pool->lock);
		pool->busy--;
		loop_post(pool->loop, &work->msg);
	}
	worker->state = POOL_WORKER_ENDED;
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Under the lock. When no thread can be made the work waits for those there are. */
static void start_worker(struct pool *pool)
{
	sigset_t all, old;
	int r;

	for (unsigned i = 0; i < pool->max; i++) {
		struct pool_worker *worker = &pool->workers[i];

		if (worker->state == POOL_WORKER_RUNS)
			continue;
		if (worker->state == POOL_WORKER_ENDED)
			pthread_join(worker->thread, NULL);
		worker->state = POOL_WORKER_NONE;
		worker->pool = pool;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = pthread_create(&worker->thread, NULL, worker_main, worker);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (r == 0)
			worker->state = POOL_WORKER_RUNS;
		else
			log_error("cannot start a worker thread error=%s", strerror(r));
		return;
	}
}

void loop_work_submit(struct loop *loop, struct loop_work *work)
{
	struct pool *pool = &loop->pool;

	assert(work->run && work->done);
	work->msg.fn = work_done;
	loop->stats.work_items++;
	pthread_mutex_lock(&pool->lock);
	list_add_tail(&pool->queue, &work->link);
	pool->queued++;
	if (pool->queued > pool->idle)
		start_worker(pool);
	pthread_cond_signal(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
}
