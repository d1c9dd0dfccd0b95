/* SPDX-License-Identifier: Apache-2.0 */
/* bench-connect listen PORT             accepts and closes until it is killed
 * bench-connect loop ADDRESS PORT SECONDS   connects and closes, one after the other
 *
 * The loop closes with a reset, so that no port stays in TIME_WAIT, and prints one JSON object: connects, the rate,
 * quantiles of connect() in microseconds, and the processor time of a connect that this process itself used. Start it
 * where the traffic shall come from (nsenter --net).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096
#define CONNECTS_MAX 4000000

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

static void serve(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, BACKLOG) < 0)
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer >= 0)
			close(peer);
	}
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static void connect_once(const struct sockaddr_in *to)
{
	struct linger reset = { .l_onoff = 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		die("connect");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void loop(const struct sockaddr_in *to, double seconds)
{
	float *took_us = malloc(sizeof(*took_us) * CONNECTS_MAX);
	double start = now_s(), now = start, cpu;
	struct rusage usage;
	size_t n = 0;

	while (now - start < seconds && n < CONNECTS_MAX) {
		double then = now;

		connect_once(to);
		now = now_s();
		took_us[n++] = (float)((now - then) * 1e6);
	}
	getrusage(RUSAGE_SELF, &usage);
	cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	qsort(took_us, n, sizeof(*took_us), compare);
	printf("{\"connects\": %zu, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"cpu_us\": %.1f}\n", n,
	       (double)n / (now - start), (double)took_us[n / 2], (double)took_us[n * 99 / 100], cpu * 1e6 / (double)n);
	free(took_us);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	if (argc == 3 && strcmp(argv[1], "listen") == 0)
		serve(atoi(argv[2]));
	if (argc != 5 || strcmp(argv[1], "loop") != 0 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1) {
		fputs("usage: bench-connect listen PORT | bench-connect loop ADDRESS PORT SECONDS\n", stderr);
		return 2;
	}
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	loop(&to, atof(argv[4]));
	return 0;
}
