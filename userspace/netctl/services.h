/* SPDX-License-Identifier: Apache-2.0 */
/* A Service and its EndpointSlices -> frontends of the dataplane. Pure: no kernel, no registry. Rules of
 * Kubernetes' service proxy: ready endpoints; if there is none, those that still serve while terminating. */
#pragma once

#include <stddef.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"

#define SERVICES_BACKENDS_MAX 5000  /* of one frontend */
#define SERVICES_FRONTENDS_MAX 4096 /* of one Service: ports times addresses */

struct services_result {
	struct dp_service *frontends; /* id 0: the caller gives them */
	size_t n;
	bool truncated; /* a limit was hit */
};

/* All in the arena; no place twice, backends sorted and each once, so that equal objects give equal frontends in
 * whatever order their slices come. Headless and ExternalName Services give none; SCTP ports neither. */
void services_translate(struct arena *arena, const struct json *service, const struct json *const *slices,
			size_t n_slices, struct services_result *ret);

/* Order of struct dp_backend, for qsort and bsearch. */
int services_backend_cmp(const void *a, const void *b);
