/* SPDX-License-Identifier: Apache-2.0 */
/* See pod_resources.h. Any thread. */
#include "kubelet/pods/pod_resources.h"

#include "userspace/api/resource_list.h"

#define CPU_PERIOD_US 100000
#define CPU_QUOTA_MIN_US 1000
#define CPU_SHARES_MIN 2

int64_t pod_resources_cpu_milli(struct str quantity)
{
	struct quantity q;

	return quantity_parse(quantity, &q, NULL) < 0 ? 0 : quantity_milli_value(&q);
}

int64_t pod_resources_bytes(struct str quantity)
{
	struct quantity q;

	return quantity_parse(quantity, &q, NULL) < 0 ? 0 : quantity_value(&q);
}

static int64_t cpu(const struct json *c, const char *what)
{
	return pod_resources_cpu_milli(json_get_str(json_get(json_get(c, "resources"), what), "cpu"));
}

static int64_t memory(const struct json *c, const char *what)
{
	return pod_resources_bytes(json_get_str(json_get(json_get(c, "resources"), what), "memory"));
}

const char *pod_resources_qos_cgroup(const char *qos_class)
{
	if (qos_class[0] == 'G')
		return "guaranteed";
	return qos_class[1] == 'u' ? "burstable" : "besteffort";
}

static uint64_t shares(int64_t milli)
{
	uint64_t s = (uint64_t)milli * 1024 / 1000;

	return s < CPU_SHARES_MIN ? CPU_SHARES_MIN : s;
}

static void set_quota(struct runtime_resources *r, int64_t milli)
{
	if (!milli)
		return;
	r->cpu_period_us = CPU_PERIOD_US;
	r->cpu_quota_us = milli * CPU_PERIOD_US / 1000;
	if (r->cpu_quota_us < CPU_QUOTA_MIN_US)
		r->cpu_quota_us = CPU_QUOTA_MIN_US;
}

void pod_resources_of_container(const struct json *container, struct runtime_resources *ret)
{
	int64_t request = cpu(container, "requests"), limit = cpu(container, "limits");

	*ret = (struct runtime_resources){ .cpu_shares = shares(request ? request : limit),
					   .memory_limit_bytes = memory(container, "limits") };
	set_quota(ret, limit);
}

/* Does every container that ever runs have this limit, or the pod as a whole? */
static bool limited(const struct json *spec, const char *resource)
{
	static const char *const lists[] = { "containers", "initContainers" };
	struct quantity q = quantity_of(json_get(json_at(spec, "resources.limits"), resource));

	if (!quantity_is_zero(&q))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i])) {
			q = quantity_of(json_get(json_at(c, "resources.limits"), resource));
			if (quantity_is_zero(&q))
				return false;
		}
	return true;
}

void pod_resources_of_pod(const struct json *pod, struct runtime_resources *ret)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct resource_list requests = pod_resources_requests(&arena, pod, POD_RESOURCES_OVERHEAD);
	const struct resource_list limits = pod_resources_limits(&arena, pod, POD_RESOURCES_OVERHEAD);
	const struct quantity *request = resource_list_get(&requests, STR("cpu"));
	const struct quantity *cpu_limit = resource_list_get(&limits, STR("cpu"));
	const struct quantity *memory_limit = resource_list_get(&limits, STR("memory"));
	const struct json *spec = json_get(pod, "spec");

	*ret = (struct runtime_resources){ .cpu_shares = shares(request ? quantity_milli_value(request) : 0) };
	if (memory_limit && limited(spec, "memory"))
		ret->memory_limit_bytes = quantity_value(memory_limit);
	if (cpu_limit && limited(spec, "cpu"))
		set_quota(ret, quantity_milli_value(cpu_limit));
}

int pod_resources_oom_score_adj(const char *qos_class, const struct json *container, int64_t memory_capacity_bytes)
{
	if (qos_class[0] == 'G')
		return -997;
	int64_t request = memory(container, "requests");

	if (!request)
		request = memory(container, "limits");
	if (qos_class[1] == 'e' || memory_capacity_bytes <= 0)
		return 1000;
	int64_t adj = 1000 - 1000 * request / memory_capacity_bytes;

	/* above the guaranteed ones, below the best-effort ones */
	if (adj < 3)
		adj = 3;
	return adj == 1000 ? 999 : (int)adj;
}
