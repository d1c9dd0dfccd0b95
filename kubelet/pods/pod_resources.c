/* SPDX-License-Identifier: Apache-2.0 */
/* See pod_resources.h. Any thread. */
#include "kubelet/pods/pod_resources.h"

#include "userspace/api/quantity.h"

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

struct qos {
	bool any, guaranteed;
};

static void qos_add(struct qos *q, const struct json *containers)
{
	json_foreach(c, containers) {
		int64_t lc = cpu(c, "limits"), lm = memory(c, "limits");
		int64_t rc = cpu(c, "requests"), rm = memory(c, "requests");

		if (lc || lm || rc || rm)
			q->any = true;
		/* a request left out is the limit */
		if (!lc || !lm || (rc && rc != lc) || (rm && rm != lm))
			q->guaranteed = false;
	}
}

const char *pod_resources_qos(const struct json *pod_spec)
{
	struct qos q = { .guaranteed = true };

	qos_add(&q, json_get(pod_spec, "containers"));
	qos_add(&q, json_get(pod_spec, "initContainers"));
	if (!q.any)
		return "BestEffort";
	return q.guaranteed ? "Guaranteed" : "Burstable";
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

static bool is_sidecar(const struct json *c)
{
	return str_is(json_get_str(c, "restartPolicy"), "Always");
}

/* All app containers and sidecars run together. */
static void add_limits(const struct json *containers, bool sidecars_only, int64_t *request, int64_t *cpu_limit,
		       int64_t *mem_limit, bool *cpu_all, bool *mem_all)
{
	json_foreach(c, containers) {
		if (sidecars_only && !is_sidecar(c))
			continue;
		int64_t lc = cpu(c, "limits"), lm = memory(c, "limits"), rc = cpu(c, "requests");

		*request += rc ? rc : lc;
		*cpu_limit += lc;
		*mem_limit += lm;
		*cpu_all = *cpu_all && lc;
		*mem_all = *mem_all && lm;
	}
}

void pod_resources_of_pod(const struct json *pod_spec, struct runtime_resources *ret)
{
	int64_t request = 0, cpu_limit = 0, mem_limit = 0;
	bool cpu_all = true, mem_all = true;

	add_limits(json_get(pod_spec, "containers"), false, &request, &cpu_limit, &mem_limit, &cpu_all, &mem_all);
	add_limits(json_get(pod_spec, "initContainers"), true, &request, &cpu_limit, &mem_limit, &cpu_all, &mem_all);
	json_foreach(c, json_get(pod_spec, "initContainers")) {
		int64_t lc = cpu(c, "limits"), lm = memory(c, "limits"), rc = cpu(c, "requests");

		if (is_sidecar(c))
			continue;
		request = rc > request ? rc : request;
		cpu_limit = lc > cpu_limit ? lc : cpu_limit;
		mem_limit = lm > mem_limit ? lm : mem_limit;
		cpu_all = cpu_all && lc;
		mem_all = mem_all && lm;
	}
	*ret = (struct runtime_resources){ .cpu_shares = shares(request),
					   .memory_limit_bytes = mem_all ? mem_limit : 0 };
	set_quota(ret, cpu_all ? cpu_limit : 0);
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
