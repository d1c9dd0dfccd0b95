/* SPDX-License-Identifier: Apache-2.0 */
/* Image pulls on the worker pool: a few at a time, and one for all that want the same image with the same name.
 * Loop thread. */
#pragma once

#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct kubelet;
struct puller;
struct object;

#define PULLS_MAX 2 /* at a time; the pool has other work */

struct pull_result {
	uint64_t size_bytes;
	int64_t pull_ns; /* the pull itself, without waiting in the queue */
};
typedef void pull_done_fn(void *arg, const struct pull_result *result, const struct err *err);

struct puller *puller_create(struct kubelet *kl);
/* Pulls under way end unheard; true when there are any: they still use the image store. Takes NULL. */
bool puller_destroy(struct puller *p);
/* pod_spec and ns: where imagePullSecrets are looked for. done comes from the loop, never from within. */
void puller_pull(struct puller *p, const char *reference, const struct json *pod_spec, struct str ns,
		 pull_done_fn *done, void *arg);
/* Host part of a normalised reference: "docker.io" of "docker.io/library/busybox:latest". Pure. */
struct str pull_host(struct str normalized);
/* The member of .dockerconfigjson's "auths" for the image; user and password to the arena. Pure. */
bool pull_credentials(struct arena *arena, const struct json *docker_config, struct str normalized, char **ret_user,
		      char **ret_password);
