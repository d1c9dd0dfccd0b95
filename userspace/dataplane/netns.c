/* SPDX-License-Identifier: Apache-2.0 */
/* Work inside another network namespace: on a thread that lives only for it, so that no thread of the server is ever
 * left in the wrong one. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "userspace/dataplane/internal.h"

struct netns_job {
	int netns_fd;
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static void *netns_thread(void *arg)
{
	struct netns_job *job = arg;

	job->result = setns(job->netns_fd, CLONE_NEWNET) < 0 ? -errno : job->fn(job->arg);
	return NULL;
}

int netns_run(int netns_fd, int (*fn)(void *arg), void *arg)
{
	struct netns_job job = { .netns_fd = netns_fd, .fn = fn, .arg = arg };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, netns_thread, &job);

	if (r)
		return -r;
	pthread_join(thread, NULL);
	return job.result;
}

static int netns_socket_open(void *arg)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, *(int *)arg);

	return fd < 0 ? -errno : fd;
}

int netns_socket(int netns_fd, int bus, int *ret_fd)
{
	int r = netns_run(netns_fd, netns_socket_open, &bus);

	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}
