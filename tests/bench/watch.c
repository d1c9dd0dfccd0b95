/* SPDX-License-Identifier: Apache-2.0 */
/* bench-watch HOST PORT CA CERT KEY WATCHERS EVENTS FIRST PATH BODY-FILE
 *
 * WATCHERS connections watch PATH, read by one thread with epoll. Another connection creates EVENTS objects there, the
 * next when all watchers have seen the last, with the file as body (`@` becomes the number, from FIRST upwards). For
 * each it takes the time from just before the request is sent to the first and to the last watcher's having the whole
 * event. Prints one JSON object: quantiles of both, in microseconds, and of the answer itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/bench/args.h"
#include "tests/bench/tls_client.h"

#define USAGE "bench-watch HOST PORT CA CERT KEY WATCHERS EVENTS FIRST PATH BODY-FILE"
#define WATCHERS_MAX 1000
#define EVENTS_MAX 10000000
#define BODY_BYTES_MAX (64 * 1024)

struct bench {
	struct tls_client watchers[WATCHERS_MAX];
	int n_watchers, epoll;
	atomic_int missing; /* watchers that have not seen the event yet */
	char marker[64];    /* in an event's bytes: the object is the one waited for; written while no event is due */
	uint64_t first_ns, last_ns;
	sem_t seen;
};

static void watch_open(struct tls_client *c, SSL_CTX *ssl, const struct tls_client_target *target, const char *path)
{
	char out[1024];
	bool chunked;
	size_t length;
	int status;

	tls_client_open(c, ssl, target);
	tls_client_write(c, out,
			 (size_t)snprintf(out, sizeof(out),
					  "GET %s?watch=1&resourceVersion=0 HTTP/1.1\r\n"
					  "Host: bench\r\nAccept: application/json\r\n\r\n",
					  path));
	status = tls_client_head(c, &chunked, &length);
	if (status != 200 || !chunked)
		die("watch: status %d", status);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

/* True when the event that is waited for has arrived whole. Events end with a line feed after the object. */
static bool watch_find(struct bench *b, struct tls_client *c)
{
	char *at = memmem(c->buf, c->n, b->marker, strlen(b->marker)), *end;

	end = at ? memmem(at, c->n - (size_t)(at - c->buf), "}\n", 2) : NULL;
	if (!end)
		return false;
	c->n = 0; /* nothing else is under way */
	return true;
}

static void watch_read(struct bench *b, struct tls_client *c)
{
	bool found = false;
	int r;

	while ((r = SSL_read(c->ssl, c->buf + c->n, (int)(TLS_CLIENT_BUF - c->n))) > 0) {
		c->n += (size_t)r;
		if (watch_find(b, c))
			found = true;
		else if (c->n > TLS_CLIENT_BUF / 2)
			c->n = 0; /* older objects, before the first event */
	}
	if (SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ)
		die("the server ended a watch");
	if (!found)
		return;
	b->last_ns = now_ns();
	if (atomic_load(&b->missing) == b->n_watchers)
		b->first_ns = b->last_ns;
	if (atomic_fetch_sub(&b->missing, 1) == 1)
		sem_post(&b->seen);
}

static void *watch_thread(void *arg)
{
	struct bench *b = arg;
	struct epoll_event events[64];

	for (;;) {
		int n = epoll_wait(b->epoll, events, 64, -1);

		if (n < 0 && errno != EINTR)
			die("epoll: %m");
		for (int i = 0; i < n; i++)
			watch_read(b, events[i].data.ptr);
	}
	return NULL;
}

static size_t compose(char *out, const char *path, const char *body, long number)
{
	static char filled[BODY_BYTES_MAX + 64];
	const char *at = strchr(body, '@');
	size_t n;

	if (!at)
		die("the body has no @");
	n = (size_t)sprintf(filled, "%.*s%ld%s", (int)(at - body), body, number, at + 1);
	return (size_t)sprintf(out,
			       "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
			       "Content-Length: %zu\r\n\r\n%s",
			       path, n, filled);
}

static void measure(struct bench *b, struct tls_client *writer, const char *path, const char *body, long first, long n)
{
	uint64_t *firsts = calloc((size_t)n, sizeof(*firsts)), *lasts = calloc((size_t)n, sizeof(*lasts));
	uint64_t *answers = calloc((size_t)n, sizeof(*answers));
	char *out = malloc(BODY_BYTES_MAX + 1024);

	for (long i = 0; i < n; i++) {
		size_t bytes, size = compose(out, path, body, first + i);
		uint64_t start;
		int status;

		snprintf(b->marker, sizeof(b->marker), "-%ld\"", first + i);
		atomic_store(&b->missing, b->n_watchers);
		start = now_ns();
		tls_client_write(writer, out, size);
		status = tls_client_response(writer, &bytes);
		answers[i] = now_ns() - start;
		if (status != 201)
			die("POST %s: status %d", path, status);
		while (sem_wait(&b->seen) < 0)
			;
		firsts[i] = b->first_ns - start;
		lasts[i] = b->last_ns - start;
	}
	printf("{\"events\": %ld, \"watchers\": %d, \"first_p50_us\": %.1f, \"first_p99_us\": %.1f, \"last_p50_us\": %.1f, "
	       "\"last_p99_us\": %.1f, \"answer_p50_us\": %.1f}\n",
	       n, b->n_watchers, (double)quantile(firsts, (size_t)n, 0.5) / 1e3,
	       (double)quantile(firsts, (size_t)n, 0.99) / 1e3, (double)quantile(lasts, (size_t)n, 0.5) / 1e3,
	       (double)quantile(lasts, (size_t)n, 0.99) / 1e3, (double)quantile(answers, (size_t)n, 0.5) / 1e3);
	free(firsts);
	free(lasts);
	free(answers);
	free(out);
}

static void read_body(const char *path, char *ret)
{
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(ret, 1, BODY_BYTES_MAX - 1, f) : 0;

	if (!n)
		die("%s: nothing to read", path);
	fclose(f);
	ret[n] = 0;
}

int main(int argc, char **argv)
{
	static struct bench b;
	static char body[BODY_BYTES_MAX];
	struct tls_client_target target;
	struct tls_client writer;
	pthread_t thread;
	long events, first;
	SSL_CTX *ssl;

	if (argc != 11)
		args_usage(USAGE);
	target = tls_client_target_of(argv, 1);
	b.n_watchers = (int)args_number("WATCHERS", argv[6], 1, WATCHERS_MAX);
	events = args_number("EVENTS", argv[7], 1, EVENTS_MAX);
	first = args_number("FIRST", argv[8], 0, LONG_MAX - EVENTS_MAX);
	read_body(argv[10], body);
	ssl = tls_client_context(&target);
	b.epoll = epoll_create1(EPOLL_CLOEXEC);
	sem_init(&b.seen, 0, 0);
	snprintf(b.marker, sizeof(b.marker), "\n\n"); /* no event yet */
	for (int i = 0; i < b.n_watchers; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &b.watchers[i] };

		watch_open(&b.watchers[i], ssl, &target, argv[9]);
		epoll_ctl(b.epoll, EPOLL_CTL_ADD, b.watchers[i].fd, &e);
	}
	tls_client_open(&writer, ssl, &target);
	pthread_create(&thread, NULL, watch_thread, &b);
	measure(&b, &writer, argv[9], body, first, events);
	fflush(stdout);
	_exit(0); /* the reader has no end */
}
