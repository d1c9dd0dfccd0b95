/* SPDX-License-Identifier: Apache-2.0 */
/* The Pod Security Standards: which policy a namespace's labels ask for, and what of a pod violates one. Pure
 * functions over decoded trees, in upstream's words (pod-security-admission as of v1.36). Any thread. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/meta.h"
#include "userspace/api/validate.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"

#define POD_SECURITY_LABELS "pod-security.kubernetes.io/"
#define POD_SECURITY_LATEST INT_MAX

enum pod_security_level { POD_SECURITY_PRIVILEGED, POD_SECURITY_BASELINE, POD_SECURITY_RESTRICTED };

struct pod_security_policy {
	enum pod_security_level level;
	int minor; /* of v1.N; POD_SECURITY_LATEST */
};

#define POD_SECURITY_TEXT_MAX 32
/* "restricted:latest", "baseline:v1.30" */
const char *pod_security_text(const struct pod_security_policy *p, char ret[static POD_SECURITY_TEXT_MAX]);
static inline bool pod_security_equal(const struct pod_security_policy *a, const struct pod_security_policy *b)
{
	return a->level == b->level && a->minor == b->minor;
}

struct pod_security_modes {
	struct pod_security_policy enforce, audit, warn;
};

/* "baseline"; "latest", "v1.30". False when it is none. */
bool pod_security_level(struct str s, enum pod_security_level *ret);
bool pod_security_version(struct str s, int *ret_minor);

/* `defaults` for what is not labelled; NULL: privileged and latest. A bad value becomes a finding in `e`; it is taken
 * as restricted or latest, but audit and warn are off then. */
void pod_security_parse(const struct api_label *labels, size_t n, const struct pod_security_modes *defaults,
			struct pod_security_modes *ret, struct field_errors *e);

struct pod_security_violations {
	struct str reasons; /* "host namespaces, hostPath volumes" */
	struct str details; /* "host namespaces (hostNetwork=true), ..." */
};

/* True when the pod may be there; else *ret_violations is filled from the arena. `metadata`: of the pod or of the
 * template (annotations matter); may be NULL, as may `spec`. */
bool pod_security_allows(struct arena *arena, const struct pod_security_policy *policy, const struct json *metadata,
			 const struct json *spec, struct pod_security_violations *ret_violations);

/* May a change from `old` to `pod` make a difference to the standards? Containers that come or go, and images. */
bool pod_security_matters(const struct json *pod, const struct json *old);
