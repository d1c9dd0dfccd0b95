/* SPDX-License-Identifier: Apache-2.0 */
/* A frontend as `status` shows it. Any thread. */
#pragma once

#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/netctl/services_slice.h"

#define STATUS_ENDPOINTS_MAX 256 /* of a headless Service, as shown */

/* {kind,protocol,address,port,backends:[{address,port}]}, backends sorted; the same for objects and for maps. */
struct json *netctl_frontend_json(struct arena *arena, const struct dp_service *f);
/* Of a Service object: what has no frontends (externalName, headless), and the ports that have names. */
void netctl_service_facts(struct arena *arena, const struct json *service, struct json *v);
/* v.leftOut: [{what, max}], where the Service has more than the dataplane takes. */
void netctl_service_left_out(struct arena *arena, uint8_t truncated, struct json *v);
/* Of a headless Service, what DNS answers from: v.endpoints: [{address, ready, terminating, ports: [{name, port,
 * protocol}]}], and v.endpointsLeftOut when there are more. */
void netctl_service_endpoints(struct arena *arena, const struct services_slice *const *slices, size_t n,
			      struct json *v);
