/* SPDX-License-Identifier: Apache-2.0 */
/* Service-account tokens: JWTs (RFC 7519) signed ES256 by the cluster's service-account key, with upstream's private
 * claims. Only signature, times, issuer and audience are judged here; that the bound objects still exist is for the
 * caller. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define TOKEN_BYTES_MAX 16384
#define TOKEN_AUDIENCES_MAX 16
#define TOKEN_EXPIRY_MIN_S 600
#define TOKEN_EXPIRY_MAX_S (1LL << 32)

struct token_keys;

/* `issuer`: also the default audience ("https://kubernetes.default.svc.cluster.local"). */
int token_keys_create(struct str key_pem, const char *issuer, struct token_keys **ret, struct err *err);
void token_keys_destroy(struct token_keys *keys);
const char *token_issuer(const struct token_keys *keys);

struct token_claims {
	struct str ns, service_account, service_account_uid;
	/* Of the bound object; empty: none. At most one of pod and secret. */
	struct str pod_name, pod_uid, secret_name, secret_uid, node_name, node_uid;
	struct str audiences[TOKEN_AUDIENCES_MAX]; /* none: the issuer */
	size_t n_audiences;
	int64_t issued_s, expires_s; /* since 1970 */
	struct str id;               /* jti, set by token_issue */
};

/* Appends the compact form. */
int token_issue(const struct token_keys *keys, const struct token_claims *claims, struct buf *out, struct err *err);
/* Strings of the claims are in the arena. Any flaw is -EPERM: which one is for the log, never for the client.
 * `audience` empty: the issuer must be among the audiences. */
int token_verify(const struct token_keys *keys, struct str token, struct str audience, struct arena *arena,
		 struct token_claims *ret, struct err *err);
