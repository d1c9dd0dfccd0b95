/* SPDX-License-Identifier: Apache-2.0 */
/* Variables of services: NAME_SERVICE_HOST, NAME_SERVICE_PORT and the link variables. Pure but for each_. */
#pragma once

#include "kubelet/pods/env.h"

/* Adds those of one Service (a parsed object); headless and external ones give none. */
void service_env_add(struct arena *arena, struct env *env, const struct json *service);
/* The services a pod sees: "kubernetes" of "default" always, those of its namespace when `links`. */
void service_env_collect(struct arena *arena, struct registry *reg, struct str ns, bool links, struct env *env);
