/* SPDX-License-Identifier: Apache-2.0 */
/* May a flow that was translated once go on? Judged by the maps as they stand, so that it needs no memory of what stood
 * there before, and is right after a start as well. Inside the room only. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/include/addr.h"

struct flows_view;

/* All frontends and backends, read once. Negative errno: the kernel does not read whole maps. */
int flows_view_read(int service_fd, int backend_fd, struct flows_view **ret);
void flows_view_free(struct flows_view *v);
/* Is the backend one of those that the frontend has now, for whomever? */
bool flows_view_leads(const struct flows_view *v, const struct k3c_addr *frontend, uint16_t port_be, uint8_t proto,
		      const struct k3c_addr *backend, uint16_t backend_port_be);
