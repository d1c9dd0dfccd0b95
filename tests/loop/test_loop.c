/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: timers, operations and their cancelling, defers, messages, children, signals, workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

#define WATCHDOG_NS (20 * NS_PER_S)

static struct loop *loop;
static struct loop_timer watchdog;

static void on_watchdog(struct loop_timer *timer)
{
	loop_stop(loop, -ETIMEDOUT);
}

static int setup(void **state)
{
	struct err err = ERR_INIT;

	if (loop_create(NULL, &loop, &err) < 0) {
		print_error("%s\n", err_message(&err));
		err_finish(&err);
		return -1;
	}
	loop_timer_init(&watchdog, on_watchdog);
	loop_timer_arm(loop, &watchdog, WATCHDOG_NS);
	return 0;
}

static int teardown(void **state)
{
	loop_timer_cancel(loop, &watchdog);
	loop_destroy(loop);
	loop = NULL;
	return 0;
}

/* ---- timers ---- */

#define TIMERS 200

static struct timer_case {
	struct loop_timer timer;
	int64_t due_ns;
} timers[TIMERS];
static int fired;
static int64_t last_due_ns;

static void on_ordered(struct loop_timer *timer)
{
	struct timer_case *c = container_of(timer, struct timer_case, timer);

	assert_true(c->due_ns >= last_due_ns);
	assert_true(loop_now_ns(loop) >= c->due_ns);
	last_due_ns = c->due_ns;
	if (++fired == TIMERS / 2)
		loop_stop(loop, 0);
}

static void test_timers_fire_in_order(void **state)
{
	fired = 0;
	last_due_ns = 0;
	for (int i = 0; i < TIMERS; i++) {
		loop_timer_init(&timers[i].timer, on_ordered);
		loop_timer_arm(loop, &timers[i].timer, (1 + (i * 7919) % TIMERS) * NS_PER_MS / 10);
		timers[i].due_ns = timers[i].timer.due_ns;
	}
	for (int i = 0; i < TIMERS; i += 2)
		loop_timer_cancel(loop, &timers[i].timer);
	assert_false(loop_timer_armed(&timers[0].timer));
	/* Moving one: it fires once, at the new time. */
	loop_timer_arm(loop, &timers[1].timer, 30 * NS_PER_MS);
	timers[1].due_ns = timers[1].timer.due_ns;
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(fired, TIMERS / 2);
	assert_int_equal(last_due_ns, timers[1].due_ns);
}

static int zero_delays;

static void on_zero_delay(struct loop_timer *timer)
{
	if (++zero_delays == 100)
		loop_stop(loop, 7);
	else
		loop_timer_arm(loop, timer, 0);
}

static void test_timer_that_rearms_itself(void **state)
{
	struct loop_timer timer;

	zero_delays = 0;
	loop_timer_init(&timer, on_zero_delay);
	loop_timer_arm(loop, &timer, 0);
	assert_int_equal(loop_run(loop), 7);
}

static void stop_soon(struct loop_timer *timer)
{
	loop_stop(loop, 0);
}

static void test_idle_loop_sleeps(void **state)
{
	struct loop_stats before, after;
	struct loop_timer timer;

	loop_timer_init(&timer, stop_soon);
	loop_timer_arm(loop, &timer, 150 * NS_PER_MS);
	loop_get_stats(loop, &before);
	assert_int_equal(loop_run(loop), 0);
	loop_get_stats(loop, &after);
	assert_true(after.iterations - before.iterations <= 3);
}

/* ---- operations ---- */

struct pipe_case {
	struct loop_op read_op, write_op;
	int fds[2];
	char buf[16];
	int read_res, write_res;
};

static void on_pipe_read(struct loop_op *op, int res, bool more)
{
	container_of(op, struct pipe_case, read_op)->read_res = res;
	assert_false(more);
	loop_stop(loop, 0);
}

static void on_pipe_write(struct loop_op *op, int res, bool more)
{
	container_of(op, struct pipe_case, write_op)->write_res = res;
}

static void test_read_and_write(void **state)
{
	struct pipe_case c = { 0 };

	assert_int_equal(pipe(c.fds), 0);
	loop_read(loop, &c.read_op, c.fds[0], c.buf, sizeof(c.buf), -1, on_pipe_read);
	loop_write(loop, &c.write_op, c.fds[1], "hello", 5, -1, on_pipe_write);
	assert_true(loop_op_pending(&c.read_op));
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(c.read_res, 5);
	assert_int_equal(c.write_res, 5);
	assert_memory_equal(c.buf, "hello", 5);
	assert_false(loop_op_pending(&c.read_op));
	close(c.fds[0]);
	close(c.fds[1]);
}

/* Descriptors that others made may have O_NONBLOCK: operations wait all the same, and can be cancelled. */
static void test_nonblocking_descriptors(void **state)
{
	struct pipe_case c = { 0 };
	struct loop_timer timer;

	assert_int_equal(pipe2(c.fds, O_NONBLOCK | O_CLOEXEC), 0);
	loop_read(loop, &c.read_op, c.fds[0], c.buf, sizeof(c.buf), -1, on_pipe_read);
	loop_timer_init(&timer, stop_soon);
	loop_timer_arm(loop, &timer, 20 * NS_PER_MS);
	assert_int_equal(loop_run(loop), 0);
	assert_true(loop_op_pending(&c.read_op));
	loop_write(loop, &c.write_op, c.fds[1], "hello", 5, -1, on_pipe_write);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(c.read_res, 5);
	assert_memory_equal(c.buf, "hello", 5);
	loop_read(loop, &c.read_op, c.fds[0], c.buf, sizeof(c.buf), -1, on_pipe_read);
	loop_timer_arm(loop, &timer, 20 * NS_PER_MS);
	assert_int_equal(loop_run(loop), 0);
	loop_cancel(loop, &c.read_op);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(c.read_res, -ECANCELED);
	close(c.fds[0]);
	close(c.fds[1]);
}

static void test_cancel(void **state)
{
	struct pipe_case c = { 0 };

	assert_int_equal(pipe(c.fds), 0);
	loop_cancel(loop, &c.read_op); /* not pending: no effect */
	loop_read(loop, &c.read_op, c.fds[0], c.buf, sizeof(c.buf), -1, on_pipe_read);
	loop_cancel(loop, &c.read_op);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(c.read_res, -ECANCELED);
	close(c.fds[0]);
	close(c.fds[1]);
}

static void test_more_operations_than_entries(void **state)
{
	enum { N = 1000 };
	static struct pipe_case many[N];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	for (int i = 0; i < N; i++) {
		many[i] = (struct pipe_case){ 0 };
		loop_read(loop, &many[i].read_op, fds[0], many[i].buf, 1, -1, on_pipe_read);
	}
	for (int i = 0; i < N; i++)
		loop_cancel(loop, &many[i].read_op);
	for (int left = N; left;) {
		assert_int_equal(loop_run(loop), 0);
		left = 0;
		for (int i = 0; i < N; i++)
			left += loop_op_pending(&many[i].read_op);
	}
	for (int i = 0; i < N; i++)
		assert_int_equal(many[i].read_res, -ECANCELED);
	close(fds[0]);
	close(fds[1]);
}

static void test_destroy_with_operations_in_flight(void **state)
{
	struct pipe_case c = { 0 };
	struct err err = ERR_INIT;
	struct loop *other, *mine = loop;

	assert_int_equal(pipe(c.fds), 0);
	assert_int_equal(loop_create(NULL, &other, &err), 0);
	loop = other;
	loop_read(other, &c.read_op, c.fds[0], c.buf, sizeof(c.buf), -1, on_pipe_read);
	loop_destroy(other);
	loop = mine;
	assert_int_equal(c.read_res, -ECANCELED);
	assert_false(loop_op_pending(&c.read_op));
	close(c.fds[0]);
	close(c.fds[1]);
}

/* ---- sockets ---- */

#define ACCEPTS 5

struct accept_case {
	struct loop_op accept_op, connect_ops[ACCEPTS], recv_op, send_op;
	struct sockaddr_in addr;
	int fd, clients[ACCEPTS], accepted[ACCEPTS], n_accepted;
	char got[64 * 1024];
	size_t n_got;
	bool eof, cancelled;
};

static char big[64 * 1024];

static void on_recv(struct loop_op *op, int res, bool more)
{
	struct accept_case *c = container_of(op, struct accept_case, recv_op);

	if (res > 0) {
		assert_true(c->n_got + (size_t)res <= sizeof(c->got));
		memcpy(c->got + c->n_got, loop_recv_data(loop), (size_t)res);
		c->n_got += (size_t)res;
	}
	c->eof |= res == 0;
	if (!more && (res > 0 || res == -ENOBUFS))
		loop_recv_multishot(loop, op, c->accepted[0], on_recv);
	if (c->n_got == sizeof(big) && !c->eof)
		shutdown(c->clients[0], SHUT_WR);
	if (!loop_op_pending(&c->recv_op))
		loop_stop(loop, 0);
}

static void on_sent(struct loop_op *op, int res, bool more)
{
	assert_int_equal(res, sizeof(big));
}

static void on_accept(struct loop_op *op, int res, bool more)
{
	struct accept_case *c = container_of(op, struct accept_case, accept_op);

	if (res == -ECANCELED) {
		c->cancelled = true;
		loop_stop(loop, 0);
		return;
	}
	assert_true(res >= 0);
	assert_true(more);
	c->accepted[c->n_accepted++] = res;
	if (c->n_accepted == ACCEPTS)
		loop_stop(loop, 0);
}

static void on_connect(struct loop_op *op, int res, bool more)
{
	assert_int_equal(res, 0);
}

static void test_accept_connect_send_recv(void **state)
{
	struct accept_case *c = mem_new(struct accept_case);
	socklen_t len = sizeof(c->addr);

	c->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(c->fd, (struct sockaddr *)&c->addr, sizeof(c->addr)), 0);
	assert_int_equal(listen(c->fd, 16), 0);
	assert_int_equal(getsockname(c->fd, (struct sockaddr *)&c->addr, &len), 0);
	loop_accept_multishot(loop, &c->accept_op, c->fd, on_accept);
	for (int i = 0; i < ACCEPTS; i++) {
		c->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (i % 2 ? SOCK_NONBLOCK : 0), 0);
		loop_connect(loop, &c->connect_ops[i], c->clients[i], (struct sockaddr *)&c->addr, sizeof(c->addr),
			     on_connect);
	}
	assert_int_equal(loop_run(loop), 0);
	loop_cancel(loop, &c->accept_op);
	assert_int_equal(loop_run(loop), 0);
	assert_true(c->cancelled);
	/* Which client the first accepted socket belongs to does not matter when all send to it: use a pair. */
	close(c->accepted[0]);
	close(c->clients[0]);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	c->accepted[0] = pair[0];
	c->clients[0] = pair[1];
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 31 + i / 256);
	loop_recv_multishot(loop, &c->recv_op, c->accepted[0], on_recv);
	loop_send(loop, &c->send_op, c->clients[0], big, sizeof(big), on_sent);
	assert_int_equal(loop_run(loop), 0);
	assert_true(c->eof);
	assert_int_equal(c->n_got, sizeof(big));
	assert_memory_equal(c->got, big, sizeof(big));
	for (int i = 0; i < ACCEPTS; i++) {
		close(c->clients[i]);
		close(c->accepted[i]);
	}
	close(c->fd);
	free(c);
}

static int polls;

static void on_poll(struct loop_op *op, int res, bool more)
{
	if (res == -ECANCELED) {
		loop_stop(loop, 0);
		return;
	}
	assert_true(res & POLLIN);
	polls++;
	loop_cancel(loop, op);
}

static void test_multishot_poll(void **state)
{
	struct loop_op op = { 0 };
	int fds[2];

	polls = 0;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_poll(loop, &op, fds[0], POLLIN, true, on_poll);
	assert_int_equal(loop_run(loop), 0);
	assert_true(polls >= 1);
	close(fds[0]);
	close(fds[1]);
}

/* ---- defers ---- */

static struct loop_defer defers[3];
static int defer_calls;

static void on_defer(struct loop_defer *defer)
{
	defer_calls++;
	if (defer == &defers[0] && defer_calls < 3)
		loop_defer(loop, &defers[0]); /* next iteration, without sleeping */
	if (defer_calls == 4)
		loop_stop(loop, 0);
}

static void test_defers(void **state)
{
	struct loop_defer cancelled = { .fn = on_defer };

	defer_calls = 0;
	for (int i = 0; i < 2; i++) {
		defers[i] = (struct loop_defer){ .fn = on_defer };
		loop_defer(loop, &defers[i]);
		loop_defer(loop, &defers[i]);
	}
	loop_defer(loop, &cancelled);
	loop_defer_cancel(loop, &cancelled);
	defers[2] = (struct loop_defer){ .fn = on_defer };
	loop_defer(loop, &defers[2]);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(defer_calls, 4);
}

/* ---- messages ---- */

#define POSTERS 4
#define POSTS 2000

struct post {
	struct loop_msg msg;
	int thread, number;
};

static int next_number[POSTERS], posts_seen;

static void on_post(struct loop_msg *msg)
{
	struct post *post = container_of(msg, struct post, msg);

	assert_int_equal(post->number, next_number[post->thread]);
	next_number[post->thread]++;
	free(post);
	if (++posts_seen == POSTERS * POSTS)
		loop_stop(loop, 0);
}

static void *poster(void *arg)
{
	for (int i = 0; i < POSTS; i++) {
		struct post *post = mem_new(struct post);

		post->msg.fn = on_post;
		post->thread = (int)(intptr_t)arg;
		post->number = i;
		loop_post(loop, &post->msg);
	}
	return NULL;
}

static void test_posts_arrive_in_order_per_thread(void **state)
{
	pthread_t threads[POSTERS];

	posts_seen = 0;
	memset(next_number, 0, sizeof(next_number));
	for (intptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
	assert_int_equal(loop_run(loop), 0);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(posts_seen, POSTERS * POSTS);
}

/* ---- workers ---- */

#define WORKS 50

struct work_case {
	struct loop_work work;
	pthread_t ran_on;
	bool ran;
};

static int works_done;

static void run_work(struct loop_work *work)
{
	struct work_case *c = container_of(work, struct work_case, work);

	c->ran_on = pthread_self();
	c->ran = true;
}

static void done_work(struct loop_work *work)
{
	struct work_case *c = container_of(work, struct work_case, work);

	assert_true(c->ran);
	assert_false(pthread_equal(c->ran_on, pthread_self()));
	if (++works_done == WORKS)
		loop_stop(loop, 0);
}

static void test_worker_pool(void **state)
{
	static struct work_case works[WORKS];
	struct loop_stats stats;

	works_done = 0;
	for (int i = 0; i < WORKS; i++) {
		works[i] = (struct work_case){ .work = { .run = run_work, .done = done_work } };
		loop_work_submit(loop, &works[i].work);
	}
	assert_int_equal(loop_run(loop), 0);
	loop_get_stats(loop, &stats);
	assert_int_equal(stats.work_items, WORKS);
	assert_true(stats.workers >= 1 && stats.workers <= LOOP_WORKERS_DEFAULT);
}

/* ---- signals and children ---- */

static int signals_seen;

static void on_signal(void *arg, int signo)
{
	assert_ptr_equal(arg, &signals_seen);
	signals_seen += signo == SIGUSR1 ? 1 : 10;
	if (signals_seen == 11)
		loop_stop(loop, 0);
}

static void test_signals(void **state)
{
	struct err err = ERR_INIT;

	signals_seen = 0;
	assert_int_equal(loop_signal(loop, SIGUSR1, on_signal, &signals_seen, &err), 0);
	assert_int_equal(loop_signal(loop, SIGUSR2, on_signal, &signals_seen, &err), 0);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR2);
	assert_int_equal(loop_run(loop), 0);
}

static pid_t spawn_sh(const char *script)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	char *envp[] = { NULL };
	pid_t pid;

	assert_int_equal(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, envp), 0);
	return pid;
}

static int statuses[2], children_left;

static struct loop_child children[2];

static void on_child(struct loop_child *child, int status)
{
	statuses[child - children] = status;
	if (!--children_left)
		loop_stop(loop, 0);
}

static void test_children(void **state)
{
	children_left = 2;
	assert_int_equal(loop_child_watch(loop, &children[0], spawn_sh("exit 42"), on_child), 0);
	assert_int_equal(loop_child_watch(loop, &children[1], spawn_sh("kill -9 $$"), on_child), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_true(WIFEXITED(statuses[0]));
	assert_int_equal(WEXITSTATUS(statuses[0]), 42);
	assert_true(WIFSIGNALED(statuses[1]));
	assert_int_equal(WTERMSIG(statuses[1]), SIGKILL);
	/* Reaped already. */
	assert_int_equal(waitpid(children[0].pid, NULL, WNOHANG), -1);
}

static void must_not_run(struct loop_child *child, int status)
{
	fail();
}

static void test_forgotten_child(void **state)
{
	struct loop_child *child = mem_new(struct loop_child);
	struct loop_timer timer;
	pid_t pid = spawn_sh("exec sleep 100");

	assert_int_equal(loop_child_watch(loop, child, pid, must_not_run), 0);
	loop_child_forget(loop, child);
	free(child);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_timer_init(&timer, stop_soon);
	loop_timer_arm(loop, &timer, 20 * NS_PER_MS);
	assert_int_equal(loop_run(loop), 0);
}

/* ---- where the kernel forbids io_uring ---- */

static int try_forbidden(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };
	struct err err = ERR_INIT;
	struct loop *forbidden = NULL;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 1;
	if (loop_create(NULL, &forbidden, &err) != -EPERM || forbidden)
		return 2;
	return strncmp(err_message(&err), "io_uring is not available: ", 27) == 0 ? 0 : 3;
}

static void test_forbidden_io_uring_is_one_clear_error(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(try_forbidden());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timers_fire_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_that_rearms_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_loop_sleeps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_and_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonblocking_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_operations_than_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_with_operations_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_accept_connect_send_recv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_multishot_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(test_defers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_posts_arrive_in_order_per_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_worker_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_children, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten_child, setup, teardown),
		cmocka_unit_test(test_forbidden_io_uring_is_one_clear_error),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
