/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of bytes to send: a row of segments, each a part of a shared chunk or the next bytes of the queue's own
 * buffer. Loop thread. */
#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

void out_queue_finish(struct out_queue *q)
{
	for (uint32_t i = q->first; i < q->end; i++)
		chunk_unref(q->segs[i].chunk);
	free(q->segs);
	buf_finish(&q->copied);
	*q = (struct out_queue){ 0 };
}

static struct out_seg *add_seg(struct out_queue *q)
{
	if (q->first == q->end)
		q->first = q->end = 0;
	if (q->end == q->cap && q->first >= q->cap / 2 && q->first) {
		memmove(q->segs, q->segs + q->first, (q->end - q->first) * sizeof(*q->segs));
		q->end -= q->first;
		q->first = 0;
	}
	mem_grow(q->segs, q->cap, q->end + 1);
	return &q->segs[q->end++];
}

void out_add_chunk(struct out_queue *q, struct chunk *chunk)
{
	if (!chunk->len)
		return;
	*add_seg(q) = (struct out_seg){ .chunk = chunk_ref(chunk), .n = chunk->len };
	q->bytes += chunk->len;
}

void out_add_copy(struct out_queue *q, struct str bytes)
{
	if (!bytes.n)
		return;
	if (bytes.n > HTTP_COPY_INLINE_MAX) {
		struct chunk *chunk = chunk_create(bytes.p, bytes.n);

		out_add_chunk(q, chunk);
		chunk_unref(chunk);
		return;
	}
	memcpy(out_reserve(q, bytes.n), bytes.p, bytes.n);
	out_commit(q, bytes.n);
}

char *out_reserve(struct out_queue *q, size_t n)
{
	return buf_reserve(&q->copied, n);
}

void out_commit(struct out_queue *q, size_t n)
{
	buf_commit(&q->copied, n);
	q->bytes += n;
	if (q->end > q->first && !q->segs[q->end - 1].chunk && q->segs[q->end - 1].n < UINT32_MAX / 2)
		q->segs[q->end - 1].n += (uint32_t)n;
	else
		*add_seg(q) = (struct out_seg){ .n = (uint32_t)n };
}

struct str out_peek(const struct out_queue *q)
{
	const struct out_seg *seg = &q->segs[q->first];

	if (q->first == q->end)
		return STR_NULL;
	if (seg->chunk)
		return str_make(seg->chunk->data + seg->off, seg->n);
	return str_make(q->copied.data + q->copied.start, seg->n);
}

void out_consume(struct out_queue *q, size_t n)
{
	q->bytes -= n;
	while (n) {
		struct out_seg *seg = &q->segs[q->first];
		uint32_t part = n < seg->n ? (uint32_t)n : seg->n;

		if (seg->chunk)
			seg->off += part;
		else
			buf_consume(&q->copied, part);
		seg->n -= part;
		n -= part;
		if (!seg->n) {
			chunk_unref(seg->chunk);
			q->first++;
		}
	}
}

size_t out_take(struct out_queue *q, char *to, size_t n)
{
	size_t done = 0;

	while (done < n && q->bytes) {
		struct str run = out_peek(q);

		if (run.n > n - done)
			run.n = n - done;
		memcpy(to + done, run.p, run.n);
		out_consume(q, run.n);
		done += run.n;
	}
	return done;
}
