/* SPDX-License-Identifier: Apache-2.0 */
/* What a server serves, as clients ask for it: built once from the kind tables as JSON text and kept.
 * Not thread-safe (loop thread). Chunks returned are references that the caller drops. */
#pragma once

#include <stdbool.h>

#include "userspace/base/buf.h"
#include "userspace/base/str.h"

#define DISCOVERY_ETAG_MAX 65 /* hex digits and the zero; the header has them in double quotes */

/* GET /api: APIVersions. `server_address` is "host:port". Not cached. */
struct chunk *discovery_api_versions(struct str server_address);
/* GET /apis: APIGroupList */
struct chunk *discovery_groups(void);
/* GET /apis/apps: APIGroup; NULL when unknown */
struct chunk *discovery_group(struct str group);
/* GET /api/v1 (group empty), /apis/apps/v1: APIResourceList; NULL when unknown */
struct chunk *discovery_resources(struct str group, struct str version);

enum discovery_aggregated { DISCOVERY_V2, DISCOVERY_V2BETA1 };
/* GET /api (legacy) or /apis with Accept `application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList`.
 * The etag is for If-None-Match. */
struct chunk *discovery_aggregated(enum discovery_aggregated form, bool legacy,
				   char ret_etag[static DISCOVERY_ETAG_MAX]);
/* What the Content-Type must be. */
const char *discovery_aggregated_type(enum discovery_aggregated form);
/* From an Accept header: 1 and `*ret` when the first acceptable form is an aggregated one, 0 when plain JSON is. */
int discovery_wants_aggregated(struct str accept, enum discovery_aggregated *ret);

/* Drops what is cached (kinds came or went; also at exit). */
void discovery_drop(void);
