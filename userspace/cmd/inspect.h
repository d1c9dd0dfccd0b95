/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that look into the dataplane share: the maps, what the objects say (from the server, else from the
 * files on disk), and names for addresses. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/base/map.h"
#include "userspace/cmd/args.h"
#include "userspace/dataplane/inspect.h"

struct inspect {
	struct config config;
	struct arena arena;
	struct dataplane *dp;
	struct json *network; /* netctl_status_json() of the server, or its like from the files; NULL: neither */
	bool server;          /* one answered */
	const char *objects;  /* where `network` is from, or why there is none: for people */
	struct map pods;      /* address, 16 bytes -> struct json, of network.pods */
	struct map services;  /* protocol, port, address -> struct json, of network.services */
};

void inspect_finish(struct inspect *in);
#define _cleanup_inspect_ _cleanup_(inspect_finish)
/* Maps and objects. Config is there already. Missing maps are an error (-ENODEV: there is no dataplane), missing
 * objects are not. */
int inspect_open(struct inspect *in, struct err *err);
/* The objects again. */
void inspect_refresh(struct inspect *in);

const struct json *inspect_pod(const struct inspect *in, const struct dp_addr *addr);
/* The one that the node goes by (the Node object's, else the lowest of those in the maps), whatever else its links
 * have; the loopback address where it has none of that family. */
struct dp_addr inspect_node_address(const struct inspect *in, enum dp_family family);
/* The family of the first of them: the cluster's. */
enum dp_family inspect_primary(const struct inspect *in);
/* "ns/name" or NULL. */
const char *inspect_pod_name(struct inspect *in, const struct dp_addr *addr);
/* Of a frontend (a node port by any address of the node): "ns/name" or NULL. */
const char *inspect_service_name(struct inspect *in, const struct dp_addr *addr, uint16_t port, uint8_t proto);
/* In the arena. */
const char *inspect_address(struct arena *arena, const struct dp_addr *addr);
/* "10.1.2.3:80", "[fd00::1]:80"; without the port when it is 0. */
const char *inspect_place(struct arena *arena, const struct dp_addr *addr, uint16_t port);

/* Splits "ns/name" or "name" (of the default namespace). false: none of both, or too long. */
bool inspect_split_name(const char *text, const char *default_ns, struct arena *arena, const char **ret_ns,
			const char **ret_name);
/* The pod's row of network.pods. */
const struct json *inspect_find_pod(const struct inspect *in, const char *ns, const char *name);
const struct json *inspect_find_service(const struct inspect *in, const char *ns, const char *name);
/* "k=v,k=v" of an object of labels. */
const char *inspect_labels(struct arena *arena, const struct json *labels);
/* Prints to standard output, pretty or in one line. */
void inspect_print_json(const struct json *v, bool pretty);
