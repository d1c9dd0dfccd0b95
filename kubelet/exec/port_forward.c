/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to a port on a pod's own loopback address: the socket is made inside the pod's network namespace by a
 * pool thread that goes there and back. See kubelet.h. Loop thread but for forward_run(). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "kubelet/pods/worker.h"

#define CONNECT_TIMEOUT_MS 10000

struct forward {
	struct loop_work work;
	char netns[512]; /* "": the host's */
	uint16_t port;
	int result; /* descriptor */
	void (*done)(void *arg, int fd, const struct err *err);
	void *arg;
};

/* A socket of the namespace; it stays there when the thread has gone back. */
static int socket_in(const char *netns, int family)
{
	_cleanup_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int there = *netns ? open(netns, O_RDONLY | O_CLOEXEC) : -1;
	int fd;

	if (!*netns)
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	else if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
		return -errno;
	else
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int saved = fd < 0 ? -errno : fd;

	if (*netns && setns(home, CLONE_NEWNET) < 0)
		abort(); /* a pool thread lost in a pod's namespace must not go on */
	return saved;
}

static int wait_connected(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t len = sizeof(error);
	int n = poll(&p, 1, CONNECT_TIMEOUT_MS);

	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

static int connect_in(const char *netns, uint16_t port, bool v6)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	_cleanup_close_ int fd = socket_in(netns, v6 ? AF_INET6 : AF_INET);
	int r;

	if (fd < 0)
		return fd;
	r = connect(fd, v6 ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4, v6 ? sizeof(a6) : sizeof(a4)) < 0 ? -errno
														: 0;
	if (r == -EINPROGRESS)
		r = wait_connected(fd);
	return r < 0 ? r : TAKE_FD(fd);
}

static void forward_run(struct loop_work *work)
{
	struct forward *f = container_of(work, struct forward, work);

	f->result = connect_in(f->netns, f->port, false);
	if (f->result == -ECONNREFUSED) {
		int v6 = connect_in(f->netns, f->port, true);

		f->result = v6 >= 0 ? v6 : f->result;
	}
}

static void forward_done(struct loop_work *work)
{
	struct forward *f = container_of(work, struct forward, work);
	_cleanup_err_ struct err err = ERR_INIT;

	if (f->result < 0)
		err_set(&err, f->result, "failed to connect to localhost:%u inside the pod: %s", f->port,
			strerror(-f->result));
	f->done(f->arg, f->result < 0 ? -1 : f->result, f->result < 0 ? &err : NULL);
	free(f);
}

void kubelet_port_forward(void *ctx, const struct object *pod, uint16_t port,
			  void (*done)(void *arg, int fd, const struct err *err), void *arg)
{
	struct kubelet *kl = ctx;
	struct pod_worker *w = map_get(&kl->workers, pod->uid);
	_cleanup_err_ struct err err = ERR_INIT;

	if (!w || w->stage != STAGE_RUN || !prepare_done(w)) {
		err_set_status(&err, -EAGAIN, 400, "BadRequest", "unable to forward port because pod is not running");
		done(arg, -1, &err);
		return;
	}
	struct forward *f = mem_new(struct forward);

	if (!w->host_network)
		runtime_netns_path(kl->rt, w->uid, f->netns, sizeof(f->netns));
	f->port = port;
	f->done = done;
	f->arg = arg;
	f->work.run = forward_run;
	f->work.done = forward_done;
	loop_work_submit(kl->loop, &f->work);
}
