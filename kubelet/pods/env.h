/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a container: env, envFrom, valueFrom and service links, in upstream's order of precedence.
 * Reads the registry; loop thread. */
#pragma once

#include "kubelet/pods/fieldref.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct registry;

#define ENV_MAX 10000 /* variables of one container */

struct env_source {
	struct registry *reg;
	const struct json *pod;
	struct str ns;
	const struct pod_facts *facts;
};

struct env {
	char **vars; /* "K=V", NULL-terminated, each name once */
	size_t n, cap;
};

/* `image_env` (NULL or NULL-terminated) has the lowest precedence. Memory is the arena's. The error is that of
 * CreateContainerConfigError. */
int env_build(struct arena *arena, const struct env_source *src, const struct json *container, char *const *image_env,
	      struct env *ret, struct err *err);
/* Replaces or appends. */
void env_set(struct arena *arena, struct env *env, struct str name, struct str value);
bool env_has(const struct env *env, struct str name);
