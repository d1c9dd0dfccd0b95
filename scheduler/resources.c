/* SPDX-License-Identifier: Apache-2.0 */
/* Resource arithmetic. Any thread. */
#include "scheduler/resources.h"

#include "userspace/api/quantity.h"
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

void resources_set(struct resources *r, struct str name, int64_t amount)
{
	ensure(r, name)->amount = amount;
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

void resources_max(struct resources *r, const struct resources *with)
{
	for (size_t i = 0; i < with->n; i++) {
		struct resource *at = ensure(r, str_of(with->items[i].name));

		if (with->items[i].amount > at->amount)
			at->amount = with->items[i].amount;
	}
}

static int64_t amount_of(struct str name, const struct json *v)
{
	struct quantity q = quantity_of(v);

	return str_is(name, "cpu") ? quantity_milli_value(&q) : quantity_value(&q);
}

void resources_add_json(struct resources *r, const struct json *list)
{
	json_foreach(v, list) {
		struct resource *at = ensure(r, v->key);

		at->amount = add_cut(at->amount, amount_of(v->key, v));
	}
}

void resources_copy(struct resources *r, const struct resources *from)
{
	resources_finish(r);
	resources_add(r, from, 1);
}

static bool is_sidecar(const struct json *container)
{
	return str_is(json_get_str(container, "restartPolicy"), "Always");
}

void resources_of_pod(const struct json *spec, struct resources *ret)
{
	_cleanup_(resources_finish) struct resources init = { 0 };
	_cleanup_(resources_finish) struct resources sidecars = { 0 };

	json_foreach(c, json_get(spec, "containers"))
		resources_add_json(ret, json_at(c, "resources.requests"));
	json_foreach(c, json_get(spec, "initContainers")) {
		_cleanup_(resources_finish) struct resources one = { 0 };

		if (is_sidecar(c)) {
			resources_add_json(&sidecars, json_at(c, "resources.requests"));
			resources_max(&init, &sidecars);
			continue;
		}
		resources_copy(&one, &sidecars);
		resources_add_json(&one, json_at(c, "resources.requests"));
		resources_max(&init, &one);
	}
	resources_add(ret, &sidecars, 1);
	resources_max(ret, &init);
	json_foreach(v, json_at(spec, "resources.requests"))
		resources_set(ret, v->key, amount_of(v->key, v));
	resources_add_json(ret, json_get(spec, "overhead"));
}

void resources_for_score(const struct json *spec, int64_t *ret_milli_cpu, int64_t *ret_memory)
{
	int64_t cpu = 0, memory = 0;

	json_foreach(c, json_get(spec, "containers")) {
		struct json *requests = json_at(c, "resources.requests");
		struct json *c_cpu = json_get(requests, "cpu"), *c_memory = json_get(requests, "memory");

		cpu = add_cut(cpu, c_cpu ? amount_of(STR("cpu"), c_cpu) : SCORE_DEFAULT_MILLI_CPU);
		memory = add_cut(memory, c_memory ? amount_of(STR("memory"), c_memory) : SCORE_DEFAULT_MEMORY);
	}
	*ret_milli_cpu = cpu;
	*ret_memory = memory;
}
