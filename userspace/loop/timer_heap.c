/* SPDX-License-Identifier: Apache-2.0 */
/* Binary heap of timers by due time; each timer knows its place, so that moving one is O(log n). Loop thread. */
#include <assert.h>

#include "userspace/base/mem.h"
#include "userspace/loop/loop_internal.h"

struct loop_timer *timer_heap_top(const struct timer_heap *heap)
{
	return heap->n ? heap->at[0] : NULL;
}

static void place(struct timer_heap *heap, size_t i, struct loop_timer *timer)
{
	heap->at[i] = timer;
	timer->heap_index = (uint32_t)i;
}

static void sift_up(struct timer_heap *heap, size_t i, struct loop_timer *timer)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;

		if (heap->at[parent]->due_ns <= timer->due_ns)
			break;
		place(heap, i, heap->at[parent]);
		i = parent;
	}
	place(heap, i, timer);
}

static void sift_down(struct timer_heap *heap, size_t i, struct loop_timer *timer)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= heap->n)
			break;
		if (child + 1 < heap->n && heap->at[child + 1]->due_ns < heap->at[child]->due_ns)
			child++;
		if (timer->due_ns <= heap->at[child]->due_ns)
			break;
		place(heap, i, heap->at[child]);
		i = child;
	}
	place(heap, i, timer);
}

void timer_heap_put(struct timer_heap *heap, struct loop_timer *timer)
{
	mem_grow(heap->at, heap->cap, heap->n + 1);
	heap->n++;
	sift_up(heap, heap->n - 1, timer);
}

void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer)
{
	size_t i = timer->heap_index;
	struct loop_timer *last;

	assert(i < heap->n && heap->at[i] == timer);
	last = heap->at[--heap->n];
	if (last == timer)
		return;
	if (last->due_ns < timer->due_ns)
		sift_up(heap, i, last);
	else
		sift_down(heap, i, last);
}
