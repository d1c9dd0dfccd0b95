/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of bytes to send: a row of segments, each a part of a shared chunk or the next bytes of the queue's own
 * buffer. Loop thread. */
#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

void out_queue_finish(struct out_queue *q)
{
	for (uint32_t i = q->first; i < q->end; i++)
		if (q->segs[i].owner)
			q->segs[i].unref(q->segs[i].owner);
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

static void chunk_drop(void *chunk)
{
	chunk_unref(chunk);
}

void out_add_chunk(struct out_queue *q, struct chunk *chunk)
{
	if (!chunk->len)
		return;
	*add_seg(q) = (struct out_seg){ chunk->data, chunk_ref(chunk), chunk_drop, chunk->len };
	q->bytes += chunk->len;
}

void out_drop_piece(const struct http_piece *piece)
{
	if (piece->owner)
		piece->unref(piece->owner);
}

void out_add_piece(struct out_queue *q, const struct http_piece *piece)
{
	/* Where a copy costs less than a segment. */
	if (!piece->owner || piece->bytes.n <= HTTP_PIECE_COPY_MAX) {
		out_add_copy(q, piece->bytes);
		out_drop_piece(piece);
		return;
	}
	*add_seg(q) = (struct out_seg){ piece->bytes.p, piece->owner, piece->unref, piece->bytes.n };
	q->bytes += piece->bytes.n;
}

void out_shrink(struct out_queue *q)
{
	if (q->bytes == 0 && q->cap * sizeof(*q->segs) + q->copied.cap > HTTP_OUT_KEEP_BYTES)
		out_queue_finish(q);
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
	if (q->end > q->first && !q->segs[q->end - 1].owner)
		q->segs[q->end - 1].n += n;
	else
		*add_seg(q) = (struct out_seg){ .n = n };
}

struct str out_peek(const struct out_queue *q)
{
	const struct out_seg *seg = &q->segs[q->first];

	if (q->first == q->end)
		return STR_NULL;
	if (seg->owner)
		return str_make(seg->at, seg->n);
	return str_make(q->copied.data + q->copied.start, seg->n);
}

void out_consume(struct out_queue *q, size_t n)
{
	q->bytes -= n;
	while (n) {
		struct out_seg *seg = &q->segs[q->first];
		size_t part = n < seg->n ? n : seg->n;

		if (seg->owner)
			seg->at += part;
		else
			buf_consume(&q->copied, part);
		seg->n -= part;
		n -= part;
		if (!seg->n) {
			if (seg->owner)
				seg->unref(seg->owner);
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
