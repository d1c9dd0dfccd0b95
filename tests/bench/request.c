/* SPDX-License-Identifier: Apache-2.0 */
/* bench-request HOST PORT CA CERT KEY CONNECTIONS REQUESTS FIRST METHOD PATH [BODY-FILE]
 *
 * Sends REQUESTS requests over CONNECTIONS TLS connections, one thread each, the next one as soon as the last is
 * answered. CERT "-": none, then the token in K3C_BENCH_TOKEN; K3C_BENCH_ACCEPT: another Accept. `@` in path and body
 * becomes the request's number, FIRST upwards. Prints one JSON object: how many, the seconds from the first to the
 * last, the rate, the latency's quantiles in microseconds, the bytes of all bodies.
 */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/args.h"
#include "tests/bench/tls_client.h"

#define USAGE "bench-request HOST PORT CA CERT KEY CONNECTIONS REQUESTS FIRST METHOD PATH [BODY-FILE]"
#define CONNECTIONS_MAX 256
#define REQUESTS_MAX 100000000
#define REQUEST_BYTES_MAX (1024 * 1024)

struct job {
	struct tls_client_target target;
	SSL_CTX *ssl;
	long requests, first;
	const char *method, *path, *accept, *token;
	char *body;
	atomic_long next;
	uint64_t *took_ns; /* of each request */
	atomic_ulong bytes;
	pthread_barrier_t open;
};

/* `@` becomes the number. Returns the length. */
static size_t fill_in(char *out, size_t size, const char *text, long number)
{
	size_t n = 0;

	for (; *text; text++) {
		if (n + 24 > size)
			die("request too large");
		if (*text == '@')
			n += (size_t)sprintf(out + n, "%ld", number);
		else
			out[n++] = *text;
	}
	out[n] = 0;
	return n;
}

static size_t compose(const struct job *job, char *out, char *body, long number)
{
	size_t body_n = job->body ? fill_in(body, REQUEST_BYTES_MAX / 2, job->body, number) : 0, n;

	n = (size_t)sprintf(out, "%s ", job->method);
	n += fill_in(out + n, REQUEST_BYTES_MAX / 4, job->path, number);
	n += (size_t)sprintf(out + n, " HTTP/1.1\r\nHost: bench\r\nAccept: %s\r\n", job->accept);
	if (job->token)
		n += (size_t)sprintf(out + n, "Authorization: Bearer %s\r\n", job->token);
	if (job->body)
		n += (size_t)sprintf(out + n, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_n);
	n += (size_t)sprintf(out + n, "\r\n");
	memcpy(out + n, body, body_n);
	return n + body_n;
}

static void *worker(void *arg)
{
	struct job *job = arg;
	struct tls_client c;
	char *out = malloc(REQUEST_BYTES_MAX), *body = malloc(REQUEST_BYTES_MAX);
	long i;

	tls_client_open(&c, job->ssl, &job->target);
	pthread_barrier_wait(&job->open);
	while ((i = atomic_fetch_add(&job->next, 1)) < job->requests) {
		size_t n = compose(job, out, body, job->first + i), bytes;
		uint64_t start = now_ns();
		int status;

		tls_client_write(&c, out, n);
		status = tls_client_response(&c, &bytes);
		if (status < 200 || status > 299)
			die("%s %s: status %d", job->method, job->path, status);
		job->took_ns[i] = now_ns() - start;
		atomic_fetch_add(&job->bytes, bytes);
	}
	tls_client_close(&c);
	free(out);
	free(body);
	return NULL;
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, REQUEST_BYTES_MAX / 2);

	if (!f)
		die("%s: %m", path);
	if (fread(text, 1, REQUEST_BYTES_MAX / 2 - 1, f) == 0)
		die("%s: empty", path);
	fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	struct job job = { 0 };
	pthread_t threads[CONNECTIONS_MAX];
	long connections;
	uint64_t start, took;

	if (argc < 11 || argc > 12)
		args_usage(USAGE);
	job.target = tls_client_target_of(argv, 1);
	connections = args_number("CONNECTIONS", argv[6], 1, CONNECTIONS_MAX);
	job.requests = args_number("REQUESTS", argv[7], 1, REQUESTS_MAX);
	job.first = args_number("FIRST", argv[8], 0, LONG_MAX - REQUESTS_MAX);
	job.method = argv[9];
	job.accept = getenv("K3C_BENCH_ACCEPT") ? getenv("K3C_BENCH_ACCEPT") : "application/json";
	job.token = getenv("K3C_BENCH_TOKEN");
	job.path = argv[10];
	job.body = argc > 11 ? read_file(argv[11]) : NULL;
	job.ssl = tls_client_context(&job.target);
	job.took_ns = calloc((size_t)job.requests, sizeof(*job.took_ns));
	pthread_barrier_init(&job.open, NULL, (unsigned)connections + 1);
	for (long i = 0; i < connections; i++)
		pthread_create(&threads[i], NULL, worker, &job);
	pthread_barrier_wait(&job.open);
	start = now_ns();
	for (long i = 0; i < connections; i++)
		pthread_join(threads[i], NULL);
	took = now_ns() - start;
	printf("{\"requests\": %ld, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"bytes\": %lu}\n",
	       job.requests, (double)took / 1e9, (double)job.requests * 1e9 / (double)took,
	       (double)quantile(job.took_ns, (size_t)job.requests, 0.5) / 1e3,
	       (double)quantile(job.took_ns, (size_t)job.requests, 0.99) / 1e3, atomic_load(&job.bytes));
	free(job.took_ns);
	free(job.body);
	pthread_barrier_destroy(&job.open);
	SSL_CTX_free(job.ssl);
	return 0;
}
