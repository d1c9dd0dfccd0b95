/* SPDX-License-Identifier: Apache-2.0 */
/* bench-connect listen PORT             accepts and closes, by the millisecond, until it is killed
 * bench-connect echo PORT               sends back what one client at a time sends, until it is killed
 * bench-connect loop ADDRESS PORT SECONDS   connects and closes, one after the other
 * bench-connect ask ADDRESS PORT SECONDS    64 bytes there and back over one connection, one after the other
 * bench-connect stream ADDRESS PORT SECONDS sends as fast as it can over one connection, to an echo that reads along
 *
 * The loop closes with a reset, so that no port stays in TIME_WAIT. Each prints one JSON object: how many (of the
 * stream: blocks of 64 KiB), the rate (of the stream: bytes a second), quantiles of one in microseconds, and the
 * processor time of one that this process itself used. Start it where the traffic shall come from (nsenter --net).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/args.h"

#define USAGE "bench-connect listen|echo PORT | bench-connect loop|ask|stream ADDRESS PORT SECONDS"
#define BACKLOG 4096
#define CONNECTS_MAX 4000000
#define ACCEPT_EVERY_NS 1000000
#define ASK_BYTES 64
#define STREAM_BYTES 65536

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Servers go with whoever started them. */
static int listen_on(in_port_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = port };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, BACKLOG) < 0)
		die("listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

/* By the dozen, as a busy server does: woken for each, it would cost two changes of context where the scheduler so
 * pleased and none where it did not, which is more than what one way differs from another. */
static void serve(in_port_t port)
{
	struct timespec pause = { .tv_nsec = ACCEPT_EVERY_NS };
	int fd = listen_on(port);

	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		die("fcntl");
	for (;;) {
		int peer;

		while ((peer = accept(fd, NULL, NULL)) >= 0)
			close(peer);
		nanosleep(&pause, NULL);
	}
}

/* Questions are answered; of more than that (a stream) only the arrival counts. */
static void echo(in_port_t port)
{
	static char bytes[STREAM_BYTES];
	int fd = listen_on(port), on = 1;

	for (;;) {
		int peer = accept(fd, NULL, NULL);
		ssize_t n;

		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		while ((n = recv(peer, bytes, sizeof(bytes), 0)) > 0)
			if (n == ASK_BYTES && send(peer, bytes, (size_t)n, MSG_NOSIGNAL) != n)
				break;
		close(peer);
	}
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static int connected(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		die("connect");
	return fd;
}

static void connect_once(const struct sockaddr_in *to)
{
	struct linger reset = { .l_onoff = 1 };
	int fd = connected(to);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void ask_once(int fd)
{
	char bytes[ASK_BYTES] = { 0 };

	if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes) ||
	    recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
		die("ask");
}

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* With `kept`, a connected socket: asks over it; else connects. */
static void loop(const struct sockaddr_in *to, int kept, double seconds)
{
	float *took_us = malloc(sizeof(*took_us) * CONNECTS_MAX);
	double start = now_s(), now = start, cpu = cpu_s();
	size_t n = 0;

	while (now - start < seconds && n < CONNECTS_MAX) {
		double then = now;

		if (kept >= 0)
			ask_once(kept);
		else
			connect_once(to);
		now = now_s();
		took_us[n++] = (float)((now - then) * 1e6);
	}
	cpu = cpu_s() - cpu;
	qsort(took_us, n, sizeof(*took_us), compare);
	printf("{\"n\": %zu, \"rate\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.1f, \"cpu_us\": %.3f}\n", n,
	       (double)n / (now - start), (double)took_us[n / 2], (double)took_us[n * 99 / 100], cpu * 1e6 / (double)n);
	free(took_us);
}

static void ask(const struct sockaddr_in *to, double seconds)
{
	int fd = connected(to), on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	loop(to, fd, seconds);
	close(fd);
}

static void stream(const struct sockaddr_in *to, double seconds)
{
	static char bytes[STREAM_BYTES];
	int fd = connected(to);
	double start = now_s(), now = start, cpu = cpu_s(), sent = 0;

	while (now - start < seconds) {
		ssize_t n = send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		sent += (double)n;
		now = now_s();
	}
	cpu = cpu_s() - cpu;
	/* What lies in buffers has not arrived: the echo closes when it has read everything. */
	shutdown(fd, SHUT_WR);
	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		;
	now = now_s();
	close(fd);
	printf("{\"n\": %.0f, \"rate\": %.0f, \"p50_us\": 0, \"p99_us\": 0, \"cpu_us\": %.3f}\n", sent / STREAM_BYTES,
	       sent / (now - start), cpu * 1e6 * STREAM_BYTES / sent);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	const char *what = argc > 1 ? argv[1] : "";
	double seconds;

	if (argc == 3 && strcmp(what, "listen") == 0)
		serve(args_port(argv[2]));
	if (argc == 3 && strcmp(what, "echo") == 0)
		echo(args_port(argv[2]));
	if (argc != 5 || (strcmp(what, "loop") != 0 && strcmp(what, "ask") != 0 && strcmp(what, "stream") != 0))
		args_usage(USAGE);
	to.sin_addr = args_address(argv[2]);
	to.sin_port = args_port(argv[3]);
	seconds = args_seconds(argv[4]);
	if (strcmp(what, "ask") == 0)
		ask(&to, seconds);
	else if (strcmp(what, "stream") == 0)
		stream(&to, seconds);
	else
		loop(&to, -1, seconds);
	return 0;
}
