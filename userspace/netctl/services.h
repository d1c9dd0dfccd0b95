/* SPDX-License-Identifier: Apache-2.0 */
/* A Service and its EndpointSlices -> frontends of the dataplane, by the rules of Kubernetes' service proxy. Pure: no
 * kernel, no registry. Which endpoints may serve is asked twice, for the whole cluster and for this node:
 *  - Cluster: the ready ones, of these those hinted at this node or zone (all must carry hints, one at least ours); no
 *    ready one at all: those that still serve while they terminate.
 *  - Local: of those on this node the ready ones; if there is none, those that still serve while they terminate.
 * ClusterIPs follow internalTrafficPolicy. Node ports, external and balancer addresses follow externalTrafficPolicy
 * for what comes from outside, and are Cluster for whoever is on the node. */
#pragma once

#include <stddef.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/netctl/services_slice.h"

#define SERVICES_BACKENDS_MAX 10000 /* of one frontend */
#define SERVICES_FRONTENDS_MAX 4096 /* of one Service: ports times addresses */
#define SERVICES_SOURCES_MAX 256    /* source ranges of one Service */

/* What a Service may have too much of. */
enum services_limit {
	SERVICES_LIMIT_BACKENDS,
	SERVICES_LIMIT_FRONTENDS,
	SERVICES_LIMIT_SOURCES,
	SERVICES_LIMITS,
};

struct services_result {
	struct dp_service *frontends;
	size_t n;
	uint8_t truncated; /* a bit for each limit that was hit: what is beyond is left out */
	/* type LoadBalancer with externalTrafficPolicy Local: where to tell whether this node can serve, and what. */
	uint16_t health_port; /* 0: nowhere */
	size_t local_ready;   /* addresses of one family: a pod counts once */
};

/* All in the arena; in the order of services_place_cmp() and no place twice, backends sorted and each once, so that
 * equal objects give equal frontends in whatever order their slices come; lists that are the same have the same
 * pointer. Headless and ExternalName Services give none, nor do those that another proxy serves (label
 * service.kubernetes.io/service-proxy-name). */
void services_translate(struct arena *arena, const struct json *service, const struct services_slice *const *slices,
			size_t n_slices, struct services_result *ret);

/* "source ranges"; at most so many. */
const char *services_limit_name(enum services_limit limit);
unsigned services_limit_max(enum services_limit limit);

/* Order of struct dp_backend, for qsort and bsearch. */
int services_backend_cmp(const void *a, const void *b);
/* Order of struct dp_service by what the dataplane tells frontends apart by: protocol, port, address (zero: all of the
 * node's, of that family). */
int services_place_cmp(const void *a, const void *b);
