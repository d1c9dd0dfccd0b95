/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator says about Pod Security for the whole cluster: the policy of namespaces that have no labels,
 * and who is exempt. An AdmissionConfiguration (apiserver.config.k8s.io/v1) with a PodSecurityConfiguration
 * (pod-security.admission.config.k8s.io/v1), inline or in a file of its own. Immutable once made. */
#pragma once

#include "userspace/api/pod_security.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define POD_SECURITY_CONFIG_BYTES_MAX (256 * 1024)

struct pod_security_config {
	struct arena arena;
	struct pod_security_modes defaults;
	const struct json *usernames, *namespaces, *runtime_classes; /* lists of strings; may be NULL */
};

/* `path` NULL or empty: *ret is NULL, which stands for privileged and no exemptions everywhere. */
int pod_security_config_load(const char *path, struct pod_security_config **ret, struct err *err);
/* `dir`: what paths within are relative to. */
int pod_security_config_parse(struct str text, const char *dir, struct pod_security_config **ret, struct err *err);
void pod_security_config_destroy(struct pod_security_config *c); /* takes NULL */
