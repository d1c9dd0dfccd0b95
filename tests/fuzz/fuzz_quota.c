/* SPDX-License-Identifier: Apache-2.0 */
/* What an object uses of quotas and which scopes it is in, for objects that passed the schema and nothing else: input
 * is
 * {"spec": of a ResourceQuota, "kind": "Pod", "object": of that kind}. Counting has one answer, and no pod asks for
 * less than each of its containers. */
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/base/mem.h"
#include "userspace/registry/quota_usage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_kind *kind_of(const struct json *input)
{
	const struct api_kind *const kinds[] = { KIND_POD, KIND_SERVICE, KIND_PERSISTENTVOLUMECLAIM,
						 KIND_RESOURCECLAIM };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_is(json_get_str(input, "kind"), kinds[i]->kind))
			return kinds[i];
	return KIND_CONFIGMAP;
}

static void check_pod(struct arena *arena, const struct json *pod)
{
	struct resource_list sum = pod_resources_requests(arena, pod, 0);

	if (pod_resources_whole(pod))
		return;
	json_foreach(c, json_at(pod, "spec.containers"))
		json_foreach(r, json_at(c, "resources.requests")) {
			struct quantity one = quantity_of(r), *all = resource_list_get(&sum, r->key);
			bool negative = false;

			for (size_t i = 0; i < sum.n; i++)
				negative = negative || sum.items[i].q.nano < 0;
			json_foreach(other, json_at(pod, "spec.containers")) {
				struct quantity q =
					quantity_of(json_get_n(json_at(other, "resources.requests"), r->key));

				negative = negative || q.nano < 0;
			}
			if (!all || (!negative && quantity_cmp(all, &one) < 0))
				abort();
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct resource_list usage = { 0 }, again = { 0 };
	struct str required[] = { STR("requests.cpu"), STR("memory"), STR("limits.memory") };
	struct json *input = NULL, *object;
	const struct api_kind *kind;
	struct quota_scope *scopes;
	int64_t expires = 0;
	size_t n = 0;

	if (json_parse(&arena, str_make((const char *)data, size), 0, &input, NULL) < 0)
		return 0;
	kind = kind_of(input);
	object = json_get(input, "object");
	if (!json_is(object, JSON_OBJECT) || decode_tree(&arena, kind, object, DECODE_IGNORE, NULL, NULL) < 0)
		return 0;
	defaults_apply(&arena, kind, object);
	quota_usage(&arena, kind, object, 1, &expires, &usage);
	quota_usage(&arena, kind, object, 1, &expires, &again);
	if (usage.n != again.n)
		abort();
	for (size_t i = 0; i < usage.n; i++)
		if (!resource_list_get(&again, usage.items[i].name) ||
		    quantity_cmp(&usage.items[i].q, resource_list_get(&again, usage.items[i].name)) != 0)
			abort();
	scopes = quota_scopes_parse(&arena, json_get(input, "spec"), &n);
	for (size_t i = 0; i < n; i++)
		quota_scope_has(&scopes[i], kind, object);
	json_foreach(h, json_at(input, "spec.hard"))
		quota_kind_of(h->key);
	if (kind != KIND_POD)
		return 0;
	quota_unspecified(&arena, object, required, ARRAY_SIZE(required));
	check_pod(&arena, object);
	return 0;
}
