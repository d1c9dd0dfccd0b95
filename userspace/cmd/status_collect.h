/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what `k3c-bpf status` shows into one JSON document: from the running server, else from its files; and
 * always from the kernel itself. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/cmd/config.h"

struct json *status_collect(const struct config *config, struct arena *arena);
/* status_server.c: GET /k3c-bpf/status with the administrator's certificate; -ECONNREFUSED: no server. */
int status_fetch(const struct config *config, struct arena *arena, struct json **ret, struct err *err);
/* status_files.c: what the objects on disk say, in the server's form (store, network.services). */
int status_from_files(const struct config *config, struct arena *arena, struct json **ret, struct err *err);
/* status_kernel.c: adds services, policies, drops, programs and maps; `network` is what the objects say. */
void status_add_kernel(const struct config *config, struct arena *arena, struct json *status,
		       const struct json *network);
/* status_text.c */
void status_print(const struct json *status);
