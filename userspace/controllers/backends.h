/* SPDX-License-Identifier: Apache-2.0 */
/* The pods behind a Service, as EndpointSlices and Endpoints both see them. What they show of a pod is read once for
 * each change of it. Loop thread only. */
#pragma once

#include "userspace/controllers/objects.h"
#include "userspace/controllers/runner.h"

struct backend {
	const struct object *pod;
	struct str address[2]; /* IPv4, IPv6; empty: none */
	struct str node, hostname;
	bool ready, serving, terminating;
	/* Per service, shared by those who resolve them alike: [{name, port, protocol, appProtocol?}] for this pod, and
	 * the same as text to compare. */
	struct json *ports;
	const char *ports_key;
};

/* Facts about pods, by uid. */
struct backends_cache;
struct backends_cache *backends_cache_create(void);
void backends_cache_destroy(struct backends_cache *cache);
void backends_cache_forget(struct backends_cache *cache, struct str uid);

struct backends {
	struct backend *items; /* by name */
	size_t n;
	bool publish_not_ready;
};

/* Pods that the Service selects, have an address and have not ended. include_terminating: also those being deleted. */
struct backends backends_of(struct reconcile *ctx, struct backends_cache *cache, const struct object *service,
			    const struct json *service_json, bool include_terminating);
/* The text that two lists of endpoint ports share exactly when they are the same. */
const char *backends_ports_key(struct arena *arena, const struct json *ports);
/* {kind: Pod, namespace, name, uid} */
struct json *backends_target(struct arena *arena, const struct backend *b);
/* The Service's labels and the given pairs (NULL-terminated: key, value, ...). */
struct json *backends_labels(struct arena *arena, const struct json *service_json, const char *const *pairs);
bool backends_is_headless(const struct json *service_json);
