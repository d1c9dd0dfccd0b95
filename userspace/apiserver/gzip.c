/* SPDX-License-Identifier: Apache-2.0 */
/* See gzip.h. */
#include "userspace/apiserver/gzip.h"

#include <string.h>
#include <zlib.h>

#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

#define WINDOW_BITS 15
#define WINDOW_GZIP 16 /* added: with a gzip header */
#define MEMORY_LEVEL 8
#define OUT_BYTES_MIN 65536

struct gzip_job {
	struct loop_work work;
	struct http_request *http; /* NULL: the client has gone */
	struct arena arena;        /* what the answer needs and the request may take with it */
	int status;
	const char *content_type;
	struct http_header *headers;
	size_t n_headers;
	struct http_piece *pieces;
	size_t n_pieces;
	struct buf out;
	bool failed;
};

bool gzip_accepted(const struct http_request *http)
{
	struct str rest = http_request_header(http, "accept-encoding"), part, name;

	while (str_split(&rest, ',', &part))
		if (str_split(&part, ';', &name) && str_is(str_trim(name), "gzip"))
			return !str_is(http->method, "HEAD");
	return false;
}

static void compress_piece(struct gzip_job *job, z_stream *z, struct str bytes, int flush)
{
	int r;

	z->next_in = (Bytef *)bytes.p;
	z->avail_in = (uInt)bytes.n;
	do {
		z->next_out = (Bytef *)buf_reserve(&job->out, OUT_BYTES_MIN);
		z->avail_out = OUT_BYTES_MIN;
		r = deflate(z, flush);
		buf_commit(&job->out, OUT_BYTES_MIN - z->avail_out);
		if (r == Z_STREAM_ERROR) {
			job->failed = true;
			return;
		}
	} while (z->avail_out == 0 || (flush == Z_FINISH && r != Z_STREAM_END));
}

static void job_run(struct loop_work *work)
{
	struct gzip_job *job = container_of(work, struct gzip_job, work);
	z_stream z = { 0 };

	if (deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, WINDOW_BITS + WINDOW_GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
	    Z_OK) {
		job->failed = true;
		return;
	}
	for (size_t i = 0; i < job->n_pieces && !job->failed; i++)
		if (job->pieces[i].bytes.n)
			compress_piece(job, &z, job->pieces[i].bytes, Z_NO_FLUSH);
	if (!job->failed)
		compress_piece(job, &z, STR_NULL, Z_FINISH);
	deflateEnd(&z);
}

static void drop_buf(void *p)
{
	struct buf *b = p;

	buf_finish(b);
	free(b);
}

static void drop_pieces(struct gzip_job *job)
{
	for (size_t i = 0; i < job->n_pieces; i++)
		if (job->pieces[i].owner)
			job->pieces[i].unref(job->pieces[i].owner);
	job->n_pieces = 0;
}

static void job_done(struct loop_work *work)
{
	struct gzip_job *job = container_of(work, struct gzip_job, work);

	if (job->http && job->failed) {
		job->http->on_close = NULL;
		http_respond_pieces(job->http, job->status, job->content_type, job->headers, job->n_headers - 2,
				    job->pieces, job->n_pieces);
		job->n_pieces = 0;
	} else if (job->http) {
		struct buf *body = mem_new(struct buf);
		struct http_piece piece;

		*body = job->out;
		job->out = BUF_INIT;
		piece = (struct http_piece){ buf_str(body), body, drop_buf };
		job->http->on_close = NULL;
		http_respond_pieces(job->http, job->status, job->content_type, job->headers, job->n_headers, &piece, 1);
	}
	drop_pieces(job);
	buf_finish(&job->out);
	free(job->pieces);
	arena_finish(&job->arena);
	free(job);
}

static void client_gone(struct http_request *http)
{
	struct gzip_job *job = http->user;

	job->http = NULL;
}

/* The worker reads what has no owner after the request may have gone. */
static void own_pieces(struct gzip_job *job)
{
	for (size_t i = 0; i < job->n_pieces; i++)
		if (!job->pieces[i].owner)
			job->pieces[i].bytes = arena_str(&job->arena, job->pieces[i].bytes);
}

void gzip_respond(struct loop *loop, struct http_request *http, int status, const char *content_type,
		  const struct http_header *headers, size_t n_headers, const struct http_piece *pieces, size_t n_pieces)
{
	struct gzip_job *job = mem_new(struct gzip_job);

	job->http = http;
	job->status = status;
	job->content_type = content_type;
	job->headers = arena_new_array(&job->arena, struct http_header, n_headers + 2);
	for (size_t i = 0; i < n_headers; i++)
		job->headers[i] = (struct http_header){ arena_str(&job->arena, headers[i].name),
							arena_str(&job->arena, headers[i].value) };
	job->headers[n_headers] = (struct http_header){ STR("content-encoding"), STR("gzip") };
	job->headers[n_headers + 1] = (struct http_header){ STR("vary"), STR("Accept-Encoding") };
	job->n_headers = n_headers + 2;
	job->pieces = mem_new_array(struct http_piece, n_pieces + 1);
	if (n_pieces)
		memcpy(job->pieces, pieces, n_pieces * sizeof(*pieces));
	job->n_pieces = n_pieces;
	own_pieces(job);
	http->user = job;
	http->on_close = client_gone;
	job->work.run = job_run;
	job->work.done = job_done;
	loop_work_submit(loop, &job->work);
}
