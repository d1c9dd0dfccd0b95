/* SPDX-License-Identifier: Apache-2.0 */
/* Amounts that nodes have and pods ask for, as the scheduler compares them: converted once, then integers. What a pod
 * asks for is api/resource_list.h's to say. Any thread. */
#include "scheduler/resources.h"

#include "userspace/api/resource_list.h"
#include "userspace/base/mem.h"

#define SCORE_DEFAULT_MILLI_CPU 100
#define SCORE_DEFAULT_MEMORY (200LL * 1024 * 1024)

void resources_finish(struct resources *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n; i++)
		free(r->items[i].name);
	free(r->items);
	*r = (struct resources){ 0 };
}

static struct resource *find(const struct resources *r, struct str name)
{
	for (size_t i = 0; i < r->n; i++)
		if (str_is(name, r->items[i].name))
			return &r->items[i];
	return NULL;
}

static struct resource *ensure(struct resources *r, struct str name)
{
	struct resource *at = find(r, name);

	if (at)
		return at;
	mem_grow(r->items, r->cap, r->n + 1);
	at = &r->items[r->n++];
	*at = (struct resource){ .name = str_dup(name) };
	return at;
}

int64_t resources_get(const struct resources *r, const char *name)
{
	const struct resource *at = find(r, str_of(name));

	return at ? at->amount : 0;
}

/* Amounts come from clients: they add up to the end of the range, not past it. */
static int64_t add_cut(int64_t a, int64_t b)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return b > 0 ? INT64_MAX : INT64_MIN;
	return sum;
}

void resources_add(struct resources *r, const struct resources *with, int sign)
{
	for (size_t i = 0; i < with->n; i++) {
		struct resource *at = ensure(r, str_of(with->items[i].name));

		at->amount = add_cut(at->amount, sign * with->items[i].amount);
	}
}

static int64_t amount_of(struct str name, const struct quantity *q)
{
	return str_is(name, "cpu") ? quantity_milli_value(q) : quantity_value(q);
}

void resources_add_json(struct resources *r, const struct json *list)
{
	json_foreach(v, list) {
		struct resource *at = ensure(r, v->key);
		struct quantity q = quantity_of(v);

		at->amount = add_cut(at->amount, amount_of(v->key, &q));
	}
}

void resources_of_pod(const struct json *pod, struct resources *ret)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct resource_list list = pod_resources_requests(&arena, pod, POD_RESOURCES_OVERHEAD);

	for (size_t i = 0; i < list.n; i++)
		ensure(ret, list.items[i].name)->amount = amount_of(list.items[i].name, &list.items[i].q);
}

void resources_for_score(const struct json *pod, int64_t *ret_milli_cpu, int64_t *ret_memory)
{
	struct resource_amount taken[] = {
		{ STR("cpu"), quantity_from_milli(SCORE_DEFAULT_MILLI_CPU, QUANTITY_DECIMAL_SI) },
		{ STR("memory"), quantity_from_int(SCORE_DEFAULT_MEMORY, QUANTITY_BINARY_SI) },
	};
	const struct resource_list missing = { .items = taken, .n = ARRAY_SIZE(taken) };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct resource_list list = pod_resources_requests_filled(&arena, pod, POD_RESOURCES_OVERHEAD, &missing);
	const struct quantity *cpu = resource_list_get(&list, STR("cpu"));
	const struct quantity *memory = resource_list_get(&list, STR("memory"));

	*ret_milli_cpu = cpu ? quantity_milli_value(cpu) : 0;
	*ret_memory = memory ? quantity_value(memory) : 0;
}
