/* SPDX-License-Identifier: Apache-2.0 */
/* What an EndpointSlice means to one node, read once for each change of it: a Service of thousands of endpoints is
 * translated anew without reading its other slices again. Pure. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"

#define SERVICES_SLICE_ENDPOINTS_MAX 1000 /* as the API allows */
#define SERVICES_SLICE_PORTS_MAX 20000    /* as the API allows */

/* Where the reader stands: `local` endpoints and hints are judged by it. */
struct services_place {
	struct str node; /* empty: nothing is local */
	struct str zone; /* label topology.kubernetes.io/zone of the node; empty: none */
};

enum services_endpoint_flag {
	SERVICES_READY = 1,
	SERVICES_SERVING = 2,
	SERVICES_TERMINATING = 4,
	SERVICES_LOCAL = 8,
	SERVICES_NODE_HINTS = 16, /* has hints for nodes */
	SERVICES_NODE_HINT = 32,  /* one of them names this node */
	SERVICES_ZONE_HINTS = 64,
	SERVICES_ZONE_HINT = 128,
};

struct services_endpoint {
	struct dp_addr addr;
	uint8_t flags;
};

struct services_slice_port {
	struct str name; /* inside the slice's block */
	uint8_t proto;
	uint16_t port;
};

/* One heap block; free() ends it. */
struct services_slice {
	size_t n_ports, n_endpoints;
	struct services_slice_port *ports;
	struct services_endpoint *endpoints; /* of the slice's family, whichever that is */
};

/* Slices of names (FQDN) and addresses that are of another family than the slice says come to nothing. Of several
 * addresses of one endpoint the first counts: they are interchangeable. */
struct services_slice *services_slice_parse(const struct json *slice, const struct services_place *place);

/* IPPROTO_TCP for ""; 0: none that is known. */
uint8_t services_proto(struct str text);
const char *services_proto_text(uint8_t proto);
