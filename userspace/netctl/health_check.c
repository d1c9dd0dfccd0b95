/* SPDX-License-Identifier: Apache-2.0 */
/* healthCheckNodePort: a port of the node that tells a balancer before it whether a Service with externalTrafficPolicy
 * Local has endpoints here, in the words of Kubernetes' own proxy. One small server a port. */
#include <errno.h>

#include "userspace/base/log.h"
#include "userspace/net/http.h"
#include "userspace/net/listen.h"
#include "userspace/netctl/internal.h"

#define HEALTH_CONNECTIONS_MAX 64
#define HEALTH_HEADER_BYTES_MAX 8192
#define HEALTH_BODY_BYTES_MAX 1024
#define HEALTH_IDLE_TIMEOUT_NS (60 * INT64_C(1000000000))

struct health_check {
	struct http_server *server;
	const char *ns, *name; /* the Service's */
	uint16_t port;
	size_t local_ready;
};

static void health_answer(void *arg, struct http_request *req)
{
	const struct health_check *h = arg;
	const struct http_header headers[] = {
		{ STR("X-Content-Type-Options"), STR("nosniff") },
		{ STR("X-Load-Balancing-Endpoint-Weight"), str_of(arena_printf(req->arena, "%zu", h->local_ready)) },
	};
	const char *body = arena_printf(req->arena,
					"{\n\t\"service\": {\n\t\t\"namespace\": \"%s\",\n\t\t\"name\": \"%s\"\n\t},\n"
					"\t\"localEndpoints\": %zu,\n\t\"serviceProxyHealthy\": true\n}",
					h->ns, h->name, h->local_ready);

	http_respond(req, h->local_ready ? 200 : 503, "application/json", headers, ARRAY_SIZE(headers), str_of(body));
}

static void health_destroy(struct health_check *h)
{
	if (!h)
		return;
	http_server_destroy(h->server);
	free(h);
}

static int health_listen(struct netctl *nc, struct health_check *h, struct err *err)
{
	const struct http_server_options options = {
		.limits = {
			.connections = HEALTH_CONNECTIONS_MAX,
			.header_bytes = HEALTH_HEADER_BYTES_MAX,
			.body_bytes = HEALTH_BODY_BYTES_MAX,
			.idle_timeout_ns = HEALTH_IDLE_TIMEOUT_NS,
		},
		.handler = health_answer,
		.arg = h,
	};
	int fd = -1, r;

	r = listen_tcp("", h->port, &fd, err);
	if (r < 0)
		return r;
	r = http_server_create(nc->loop, &options, &h->server, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	return http_server_add_listener(h->server, fd, err);
}

int health_check_set(struct netctl *nc, struct net_service *s, uint16_t port, size_t local_ready, struct err *err)
{
	struct health_check *h;
	int r;

	if (s->health && s->health->port != port)
		health_destroy(TAKE_PTR(s->health));
	if (s->health)
		s->health->local_ready = local_ready;
	if (s->health || !port)
		return 0;
	h = mem_new(struct health_check);
	*h = (struct health_check){ .ns = s->ns, .name = s->name, .port = port, .local_ready = local_ready };
	r = health_listen(nc, h, err);
	if (r < 0) {
		health_destroy(h);
		if (!s->failures)
			registry_event(nc->reg, "kube-proxy", s->object, "Warning", "FailedToStartServiceHealthcheck",
				       "node %s failed to start healthcheck \"%s/%s\" on port %u: %s", nc->node_name,
				       s->ns, s->name, port, err_message(err));
		return r;
	}
	s->health = h;
	return 0;
}
