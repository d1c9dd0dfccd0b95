/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.2+ contexts, by OpenSSL. A context is counted by its connections and may be shared on one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"

struct tls_context;

struct tls_server_options {
	struct str cert_pem; /* leaf first, then intermediates */
	struct str key_pem;
	struct str client_ca_pem; /* n = 0: client certificates are not asked for. Else optional and verified */
	bool http2;               /* offer h2 by ALPN beside http/1.1 */
};

int tls_server_create(const struct tls_server_options *options, struct tls_context **ret, struct err *err);

struct tls_client_options {
	struct str ca_pem;            /* n = 0 and !insecure: the system's authorities */
	bool insecure;                /* no verification at all (kubelet probes) */
	struct str cert_pem, key_pem; /* optional */
};

int tls_client_create(const struct tls_client_options *options, struct tls_context **ret, struct err *err);
/* Drops one reference; connections in flight keep theirs. Takes NULL. */
void tls_context_destroy(struct tls_context *context);
