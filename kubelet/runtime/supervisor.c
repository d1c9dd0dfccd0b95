/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's life: detaching, the epoll loop, the one client. A new connection takes over from the old one:
 * a server that was killed may leave its end half open. Single thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/runtime/supervisor.h"
#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define ENDING_LOOK_MS 50
#define SHED_AFTER_MS 3000

/* ---- sources ---- */

int supervisor_watch(struct supervisor *s, struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void supervisor_unwatch(struct supervisor *s, struct source *source)
{
	if (source->fd < 0)
		return;
	epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	close(source->fd);
	source->fd = -1;
}

/* ---- sending ---- */

struct outgoing {
	struct list link;
	size_t n;
	int fds[PROTOCOL_FDS_MAX];
	size_t n_fds;
	char data[];
};

static void outgoing_free(struct supervisor *s, struct outgoing *o)
{
	for (size_t i = 0; i < o->n_fds; i++)
		close(o->fds[i]);
	s->send_queued -= o->n;
	list_del(&o->link);
	free(o);
}

static void drop_client(struct supervisor *s)
{
	if (s->client.fd < 0)
		return;
	supervisor_unwatch(s, &s->client);
	list_foreach_safe(o, &s->send_queue, struct outgoing, link)
		outgoing_free(s, o);
	/* nobody can pick up their streams again */
	exec_kill_all(s);
}

static int send_now(int fd, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * PROTOCOL_FDS_MAX)];
	} control = { 0 };
	struct iovec iov = { (void *)p, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void client_interest(struct supervisor *s)
{
	struct epoll_event event = { .events = EPOLLIN | (list_empty(&s->send_queue) ? 0 : EPOLLOUT),
				     .data.ptr = &s->client };

	epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, s->client.fd, &event);
}

void supervisor_send(struct supervisor *s, const struct buf *message, const int *fds, size_t n_fds)
{
	struct str text = buf_str(message);
	struct outgoing *o;
	int r = -EAGAIN;

	if (s->client.fd < 0)
		return;
	if (list_empty(&s->send_queue))
		r = send_now(s->client.fd, text.p, text.n, fds, n_fds);
	if (r == 0)
		return;
	if (r != -EAGAIN || s->send_queued + text.n > SUPERVISOR_SEND_QUEUE_MAX) {
		/* seen as an end by the loop; dropping here would pull the ground from under our callers */
		shutdown(s->client.fd, SHUT_RDWR);
		return;
	}
	o = mem_alloc(sizeof(*o) + text.n);
	o->n = text.n;
	o->n_fds = n_fds;
	memcpy(o->data, text.p, text.n);
	for (size_t i = 0; i < n_fds; i++)
		o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
	list_add_tail(&s->send_queue, &o->link);
	s->send_queued += o->n;
	client_interest(s);
}

static void flush_queue(struct supervisor *s)
{
	list_foreach_safe(o, &s->send_queue, struct outgoing, link) {
		if (send_now(s->client.fd, o->data, o->n, o->fds, o->n_fds) == -EAGAIN)
			break;
		outgoing_free(s, o);
	}
	client_interest(s);
}

void supervisor_reply(struct supervisor *s, uint64_t seq, int code, const char *message)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (!seq)
		return;
	buf_printf(&b, "{\"seq\":%llu,\"code\":%d", (unsigned long long)seq, code);
	if (code < 0) {
		buf_add_cstr(&b, ",\"message\":");
		json_write_str(&b, str_of(message ? message : strerror(-code)));
	}
	buf_add_char(&b, '}');
	supervisor_send(s, &b, NULL, 0);
}

/* ---- receiving ---- */

static void client_ready(struct supervisor *s, struct source *source, uint32_t events)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_free_ char *text = NULL;
	struct json *request;
	ssize_t n;

	if (events & EPOLLOUT)
		flush_queue(s);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	text = mem_alloc(PROTOCOL_MESSAGE_MAX);
	n = recv(source->fd, text, PROTOCOL_MESSAGE_MAX, MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || (size_t)n > PROTOCOL_MESSAGE_MAX ||
	    json_parse(&arena, str_make(text, (size_t)n), 0, &request, NULL) < 0) {
		drop_client(s);
		malloc_trim(0);
		return;
	}
	supervisor_request(s, &arena, request);
}

static void listen_ready(struct supervisor *s, struct source *source, uint32_t events)
{
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	drop_client(s);
	s->client.fd = fd;
	s->client.ready = client_ready;
	if (supervisor_watch(s, &s->client, EPOLLIN) < 0) {
		close(fd);
		s->client.fd = -1;
	}
}

static void signals_ready(struct supervisor *s, struct source *source, uint32_t events)
{
	struct signalfd_siginfo info;

	while (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo == SIGTERM)
			s->ending = true;
	job_reap(s);
}

/* ---- the loop ---- */

static void kill_everything(struct supervisor *s)
{
	list_foreach(c, &s->containers, struct container, link)
		if (c->state == STATE_RUNNING)
			kill(c->pid, SIGKILL);
}

static bool anything_runs(struct supervisor *s)
{
	list_foreach(c, &s->containers, struct container, link)
		if (c->state == STATE_RUNNING || c->state == STATE_STARTING)
			return true;
	return !list_empty(&s->jobs);
}

/* ---- start ---- */

static int make_socket(struct supervisor *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", s->run_dir, PROTOCOL_SOCKET) >=
	    sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(addr.sun_path); /* the lock is ours, so nobody listens there */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(addr.sun_path, 0600) < 0 ||
	    listen(fd, 4) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	s->listen.fd = fd;
	s->listen.ready = listen_ready;
	return supervisor_watch(s, &s->listen, EPOLLIN);
}

static int make_signals(struct supervisor *s)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->signals.ready = signals_ready;
	return s->signals.fd < 0 ? -errno : supervisor_watch(s, &s->signals, EPOLLIN);
}

/* Own groups, so that whoever ends the server's groups does not end us. Failing costs only that. */
static void leave_cgroups(const char *root)
{
	struct cgroup_host host;

	if (!root || cgroup_detect(&host, NULL) < 0)
		return;
	for (size_t i = 0; i < host.n_mounts; i++) {
		_cleanup_free_ char *dir = mem_printf("%s/%s/supervisor", host.mounts[i].path, root);
		_cleanup_free_ char *procs = mem_printf("%s/cgroup.procs", dir);

		if (fs_mkdirs(dir, 0755, NULL) >= 0)
			fs_write(procs, "0", NULL);
	}
}

/* Start-up touched pages of many libraries that are never needed again: give clean ones back. */
static void shed_pages(void)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512], perms[8] = "";
	unsigned long from = 0, to = 0, value;
	bool file = false;

	while (maps && fgets(line, sizeof(line), maps)) {
		char path[256] = "";

		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, perms, path) >= 3 && perms[1])
			file = path[0] == '/';
		else if (sscanf(line, "Anonymous: %lu kB", &value) == 1 && value == 0 && file && perms[1] == '-')
			madvise((void *)from, to - from, MADV_DONTNEED);
	}
	if (maps)
		fclose(maps);
	malloc_trim(0);
}

/* After a while without work, what the work touched is given back. */
static int look_ms(const struct supervisor *s, bool shed)
{
	return s->ending ? ENDING_LOOK_MS : shed ? -1 : SHED_AFTER_MS;
}

static void run(struct supervisor *s)
{
	bool shed = false;

	for (;;) {
		struct epoll_event event;
		int n;

		/* One at a time: what is handled may free what would have come next; the descriptors are
		 * level-triggered, so nothing is lost. */
		n = epoll_wait(s->epoll_fd, &event, 1, look_ms(s, shed));
		if (n == 1) {
			struct source *source = event.data.ptr;

			source->ready(s, source, event.events);
			shed = false;
		} else if (n == 0 && !s->ending) {
			shed_pages();
			shed = true;
		}
		if (!s->ending)
			continue;
		kill_everything(s);
		if (!anything_runs(s))
			return;
	}
}

static int serve(struct supervisor *s, int ready_fd)
{
	int r;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "k3c-supervisor");
	umask(0022);
	leave_cgroups(s->cgroup_root);
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return -errno;
	r = make_signals(s);
	if (r < 0)
		return r;
	record_load_all(s);
	r = make_socket(s);
	if (r < 0)
		return r;
	if (write(ready_fd, "", 1) != 1)
		return -EPIPE;
	close(ready_fd);
	run(s);
	return 0;
}

static int take_lock(struct supervisor *s)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", s->run_dir, PROTOCOL_LOCK);

	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return -errno;
	return flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

/* The parent waits for the child's word that the socket is there. */
static int detach(int *ret_ready_fd)
{
	int fds[2], null;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(fds[0]);
	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		if (i != STDERR_FILENO || !getenv("K3C_SUPERVISOR_STDERR"))
			dup2(null, i);
	close(null);
	*ret_ready_fd = fds[1];
	return chdir("/") < 0 ? -errno : 0;
}

int supervisor_main(int argc, char **argv)
{
	struct supervisor s = { .listen.fd = -1, .client.fd = -1, .signals.fd = -1 };
	int ready_fd = -1, r;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--run-dir") == 0)
			s.run_dir = argv[i + 1];
		else if (strcmp(argv[i], "--cgroup-root") == 0)
			s.cgroup_root = argv[i + 1];
	}
	if (!s.run_dir) {
		fprintf(stderr, "usage: supervisor --run-dir DIR [--cgroup-root NAME]\n");
		return 2;
	}
	list_init(&s.containers);
	list_init(&s.execs);
	list_init(&s.jobs);
	list_init(&s.send_queue);
	s.read_buffer = mem_alloc(SUPERVISOR_READ_BYTES);
	r = take_lock(&s);
	if (r == -EWOULDBLOCK)
		return 0; /* somebody serves already */
	if (r < 0) {
		fprintf(stderr, "supervisor: %s: %s\n", s.run_dir, strerror(-r));
		return 1;
	}
	r = detach(&ready_fd);
	if (r >= 0)
		r = serve(&s, ready_fd);
	_exit(r < 0 ? 1 : 0);
}
