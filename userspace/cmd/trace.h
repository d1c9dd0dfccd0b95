/* SPDX-License-Identifier: Apache-2.0 */
/* A connection on its way through the maps, without a packet. */
#pragma once

#include "userspace/cmd/inspect.h"

#define TRACE_PATHS_MAX 16 /* backends that are looked at one by one */

struct trace_end {
	struct dp_addr addr;
	bool is_node;     /* the node itself, or (asked) an address of it */
	const char *name; /* for people */
};

struct trace {
	struct inspect in;
	const char *ns; /* of names without one */
	uint8_t proto;
	uint16_t port;
	const char *port_name; /* of a Service's port; NULL: a number was given */
	struct trace_end from, to;
};

/* Whom a word means; `to` first, because the family of `from` follows it. -ENOENT, -EINVAL with what was tried. */
int trace_resolve_to(struct trace *t, const char *word, struct err *err);
int trace_resolve_from(struct trace *t, const char *word, struct err *err);
/* {from, to, protocol, port, service, paths: [..], allowed, answer, reason, agree}: docs/inspect.md. */
int trace_walk(struct trace *t, struct json **ret, struct err *err);
