/* SPDX-License-Identifier: Apache-2.0 */
/* A frontend as `status` shows it. Any thread. */
#pragma once

#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"

/* {kind,protocol,address,port,backends:[{address,port}]}, backends sorted; the same for objects and for maps. */
struct json *netctl_frontend_json(struct arena *arena, const struct dp_service *f);
/* Of a Service object: what has no frontends (externalName, headless), and the ports that have names. */
void netctl_service_facts(struct arena *arena, const struct json *service, struct json *v);
