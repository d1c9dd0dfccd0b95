/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what `k3c-bpf status` shows into one JSON document: from the running server, else from its files; and
 * always from the kernel itself. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/cmd/config.h"

/* -EACCES, -EPERM: who asks may not look. What is merely not there is in the document. */
int status_collect(const struct config *config, struct arena *arena, struct json **ret, struct err *err);
/* May not look, which says nothing of what there is. */
bool status_is_forbidden(int r);
/* status_server.c: GET path ("/k3c-bpf/status") with the administrator's certificate; -ECONNREFUSED: no server. */
int status_fetch(const struct config *config, struct arena *arena, const char *path, struct json **ret,
		 struct err *err);
/* status_files.c: what the objects on disk say, in the server's form (store, network.services). */
int status_from_files(const struct config *config, struct arena *arena, struct json **ret, struct err *err);
/* The same files through policy_explain(): see netctl/explain.h. */
struct netctl_flow;
int status_explain_files(const struct config *config, struct arena *arena, const struct netctl_flow *flow,
			 struct json **ret, struct err *err);
/* status_kernel.c: adds services, policies, drops, programs and maps; `network` is what the objects say. */
int status_add_kernel(const struct config *config, struct arena *arena, struct json *status, const struct json *network,
		      struct err *err);
/* Rows of frontends: {namespace, name, kind, protocol, address, port, backends, kernel, ..., difference}. `difference`
 * only where the maps hold something else than the objects ask for. */
struct dataplane;
struct json *status_kernel_services(struct dataplane *dp, struct arena *arena, const struct json *network);
/* status_text.c */
void status_print(const struct json *status);
