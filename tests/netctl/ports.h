/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of the node that more than one wants: who answers there, and what the others are told. */
#pragma once

#include "tests/netctl/node.h"

#define ERROR "PortInUse"

static inline int host_server(const char *addr, uint16_t port)
{
	return server_in(world_host_ns(), SOCK_STREAM, addr, port);
}

/* Who takes a connection to this place, from both sides of the node. */
static inline void expect_answer(const char *addr, uint16_t port, int server, bool outside)
{
	union any_addr peer;
	int client, conn;

	assert_int_equal(client_in(outside ? world.outside : world_host_ns(), SOCK_STREAM, addr, port, &client), 0);
	conn = accept_any(server, &peer);
	pass_bytes(client, conn, "question");
	close(conn);
	close(client);
}

static inline void expect_answers(uint16_t port, int server)
{
	expect_answer(NODE_IP, port, server, false);
	expect_answer(NODE_IP, port, server, true);
}

/* ---- what is told ---- */

/* `about`: in the message. */
static inline unsigned told(const char *about)
{
	return events_said("\"" ERROR "\"", about);
}

/* The error of a port of the Service's only ingress; "": it has none. */
static inline const char *port_error(const char *name, int64_t port)
{
	static char text[32];
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *in;

	settle();
	in = json_first(
		json_at(registry_parse(&arena, registry_get(node.f->reg, KIND_SERVICE, STR("default"), str_of(name))),
			"status.loadBalancer.ingress"));
	assert_non_null(in);
	*text = '\0';
	json_foreach(p, json_get(in, "ports"))
		if (json_get_int(p, "port", 0) == port)
			snprintf(text, sizeof(text), "%.*s", STR_ARG(json_get_str(p, "error")));
	return text;
}

/* Written when the disk has it. */
static inline void await_error(const char *name, int64_t port, const char *want)
{
	while (strcmp(port_error(name, port), want) != 0)
		;
}

static inline void ingress(const char *name, const char *ports)
{
	char text[512];
	struct request rq;

	snprintf(text, sizeof(text), "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"" NODE_IP "\"%s}]}}}",
		 ports);
	rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", name, text);
	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(node.f, &rq);
	fixture_expect(node.f, 200, name);
	settle();
}
