/* SPDX-License-Identifier: Apache-2.0 */
/* Signals by signalfd and exits of children by pidfd. Loop thread. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "userspace/base/mem.h"
#include "userspace/loop/loop_internal.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* ---- signals ---- */

static void signal_read(struct loop_op *op, int res, bool more)
{
	struct loop_signals *signals = container_of(op, struct loop_signals, op);
	struct loop *loop = container_of(signals, struct loop, signals);
	int signo;

	if (loop->draining || res == -ECANCELED)
		return;
	signo = res == (int)sizeof(*signals->info) ? (int)signals->info->ssi_signo : 0;
	loop_read(loop, op, signals->fd, signals->info, sizeof(*signals->info), -1, signal_read);
	if (signo > 0 && signo < LOOP_SIGNALS_MAX && signals->handlers[signo].fn)
		signals->handlers[signo].fn(signals->handlers[signo].arg, signo);
}

int loop_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg, struct err *err)
{
	struct loop_signals *signals = &loop->signals;
	sigset_t one;
	int fd;

	assert(signo > 0 && signo < LOOP_SIGNALS_MAX);
	if (!signals->info) {
		sigemptyset(&signals->set);
		signals->info = mem_new(struct signalfd_siginfo);
	}
	sigaddset(&signals->set, signo);
	fd = signalfd(signals->fd, &signals->set, SFD_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "signalfd: %s", strerror(errno));
	signals->handlers[signo].fn = fn;
	signals->handlers[signo].arg = arg;
	sigemptyset(&one);
	sigaddset(&one, signo);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	signals->fd = fd;
	if (!signals->op.pending)
		loop_read(loop, &signals->op, fd, signals->info, sizeof(*signals->info), -1, signal_read);
	return 0;
}

void loop_signals_finish(struct loop_signals *signals)
{
	if (signals->fd >= 0)
		close(signals->fd);
	free(signals->info);
}

/* ---- children ---- */

/* On the heap, so that the owner of a loop_child may forget and free it at once. */
struct loop_child_watch {
	struct loop_op op;
	int pidfd;
	struct loop_child *child; /* NULL: forgotten */
};

static int wait_status(const siginfo_t *info)
{
	switch (info->si_code) {
	case CLD_EXITED:
		return (info->si_status & 0xff) << 8;
	case CLD_DUMPED:
		return info->si_status | 0x80;
	default:
		return info->si_status;
	}
}

static void child_polled(struct loop_op *op, int res, bool more)
{
	struct loop_child_watch *watch = container_of(op, struct loop_child_watch, op);
	struct loop_child *child = watch->child;
	siginfo_t info = { 0 };
	int r;

	if (child && res == -ECANCELED)
		child->watch = NULL;
	if (!child || res == -ECANCELED) {
		close(watch->pidfd);
		free(watch);
		return;
	}
	do {
		r = waitid(P_PIDFD, (id_t)watch->pidfd, &info, WEXITED);
	} while (r < 0 && errno == EINTR);
	close(watch->pidfd);
	free(watch);
	child->watch = NULL;
	/* Somebody else reaped it: nothing better is known than that it failed. */
	child->fn(child, r < 0 ? 0xff << 8 : wait_status(&info));
}

int loop_child_watch(struct loop *loop, struct loop_child *child, pid_t pid,
		     void (*fn)(struct loop_child *child, int status))
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct loop_child_watch *watch;

	if (pidfd < 0)
		return -errno;
	watch = mem_new(struct loop_child_watch);
	watch->pidfd = pidfd;
	watch->child = child;
	*child = (struct loop_child){ .watch = watch, .pid = pid, .fn = fn, .loop = loop };
	loop_poll(loop, &watch->op, pidfd, POLLIN, false, child_polled);
	return 0;
}

void loop_child_forget(struct loop *loop, struct loop_child *child)
{
	if (!child->watch)
		return;
	child->watch->child = NULL;
	loop_cancel(loop, &child->watch->op);
	child->watch = NULL;
}
