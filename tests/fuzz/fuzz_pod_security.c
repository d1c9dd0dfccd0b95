/* SPDX-License-Identifier: Apache-2.0 */
/* Pod Security: a pod as JSON is judged by every level and version, twice with the same result; text that is none is
 * read as the administrator's configuration, and as the value of a label. */
#include <stdlib.h>

#include "userspace/api/pod_security.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/pod_security_config.h"

#define NEWEST 36

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(struct arena *arena, const struct json *pod, struct pod_security_policy policy)
{
	const struct json *metadata = json_get(pod, "metadata"), *spec = json_get(pod, "spec");
	struct pod_security_violations first = { 0 }, second = { 0 };
	bool ok = pod_security_allows(arena, &policy, metadata, spec, &first);

	if (pod_security_allows(arena, &policy, metadata, spec, &second) != ok ||
	    !str_eq(first.details, second.details) || ok != (first.reasons.n == 0))
		abort();
}

static void read_text(struct str text)
{
	const struct api_label labels[] = { { STR(POD_SECURITY_LABELS "enforce"), text },
					    { STR(POD_SECURITY_LABELS "enforce-version"), text } };
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	struct pod_security_config *config = NULL;
	struct pod_security_modes modes;
	char name[POD_SECURITY_TEXT_MAX];

	pod_security_parse(labels, ARRAY_SIZE(labels), NULL, &modes, &e);
	if (e.n == 0) /* nothing is a level and a version */
		abort();
	pod_security_text(&modes.enforce, name);
	if (pod_security_config_parse(text, "/nonexistent", &config, NULL) == 0)
		pod_security_config_destroy(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_make((const char *)data, size);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = NULL;

	if (json_parse(&arena, text, 0, &pod, NULL) < 0) {
		read_text(text);
		return 0;
	}
	for (int minor = 0; minor <= NEWEST; minor++)
		for (int level = POD_SECURITY_PRIVILEGED; level <= POD_SECURITY_RESTRICTED; level++)
			judge(&arena, pod, (struct pod_security_policy){ (enum pod_security_level)level, minor });
	pod_security_matters(pod, pod);
	return 0;
}
