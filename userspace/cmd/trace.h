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
	bool proto_given; /* by name a port brings its own */
	uint16_t port;
	const char *port_name; /* of a Service's port; NULL: a number was given */
	const char *from_word;
	const struct json *headless; /* the Service's row: DNS leads to its endpoints, each is looked at */
	struct trace_end from, to;
};

/* ICMP, of either family. */
bool trace_is_portless(const struct trace *t);
/* Whom a word means; `to` first, because the family of `from` follows it. -ENOENT, -EINVAL with what was tried. */
int trace_resolve_to(struct trace *t, const char *word, struct err *err);
int trace_resolve_from(struct trace *t, struct err *err);
void trace_end_address(struct trace *t, const struct dp_addr *addr, struct trace_end *ret);
/* The port of a headless Service's endpoint that is asked; 0: it has none of that name. */
uint16_t trace_endpoint_port(const struct trace *t, const struct json *endpoint);
/* {from, to, protocol, port, service, paths: [..], allowed, answer, reason, agree}: docs/inspect.md. */
int trace_walk(struct trace *t, struct json **ret, struct err *err);
