/* SPDX-License-Identifier: Apache-2.0 */
/* The API server: HTTP requests in, registry requests out. Routes, authentication, authorization, content
 * negotiation, discovery, OpenAPI, watch streams, logs and exec. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/apiserver/token.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/registry/node_ops.h"

struct apiserver;
struct audit;
struct loop;
struct registry;
struct tls_context;

struct apiserver_options {
	struct tls_context *tls; /* kept by the caller; must outlive the server */
	const struct token_keys *tokens;
	struct audit *audit;           /* borrowed; NULL: nothing is recorded */
	const char *advertise_address; /* "1.2.3.4:6443", for legacy discovery */
	/* More than this queued for one watcher: it is ended and must list again. 0: default */
	size_t watch_backlog_bytes;
};

#define APISERVER_WATCH_BACKLOG_BYTES_DEFAULT (8 * 1024 * 1024)

int apiserver_create(struct loop *loop, struct registry *reg, const struct apiserver_options *options,
		     struct apiserver **ret, struct err *err);
/* Serve on a listening socket; takes it. */
int apiserver_listen(struct apiserver *as, int fd, struct err *err);
/* The node behind logs and exec; may come later than the first request (503 until then). Copied. */
void apiserver_set_node(struct apiserver *as, const struct node_ops *node);
/* What /readyz says; false until everything has started. */
void apiserver_set_ready(struct apiserver *as, bool ready);
void apiserver_set_advertise_address(struct apiserver *as, const char *address);
void apiserver_set_tls(struct apiserver *as, struct tls_context *tls);
/* Another handler for paths below /k3c-bpf/ (system:masters only): the node's own status. Returns a JSON body in the
 * arena, or a negative errno with err. */
typedef int apiserver_extra_fn(void *arg, struct str path, struct str query, struct arena *arena, struct str *ret_body,
			       struct err *err);
void apiserver_set_extra(struct apiserver *as, apiserver_extra_fn *fn, void *arg);
/* One of the checks that /livez, /healthz and /readyz are made of; `fn` returns 0, or a negative errno with err. In the
 * order they are added, behind those of the API server itself. */
struct apiserver_check {
	const char *name; /* static: "etcd" */
	bool ready_only;  /* of /readyz alone */
	int (*fn)(void *arg, struct err *err);
	void *arg;
};
#define APISERVER_CHECKS_MAX 32
void apiserver_add_check(struct apiserver *as, const struct apiserver_check *check);
/* What other rooms count, for /metrics: appends in Prometheus' text form. */
typedef void apiserver_metrics_fn(void *arg, struct buf *out);
void apiserver_set_metrics(struct apiserver *as, apiserver_metrics_fn *fn, void *arg);
/* Ends watches cleanly, lets requests finish; done from the loop. */
void apiserver_shutdown(struct apiserver *as, int64_t grace_ns, void (*done)(void *arg), void *arg);
void apiserver_destroy(struct apiserver *as);

struct apiserver_stats {
	uint64_t requests, connections_total, watches_ended_slow, unauthorized;
	unsigned connections, in_flight, watches;
};
void apiserver_get_stats(const struct apiserver *as, struct apiserver_stats *ret);
