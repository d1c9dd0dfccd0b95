/* SPDX-License-Identifier: Apache-2.0 */
/* Service-account tokens: JWTs (RFC 7519) signed by the cluster's service-account key (ES256 or RS256), with upstream's
 * private claims. Only signature, times, issuer and audience are judged here; that the bound objects still exist is for
 * the caller. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define TOKEN_BYTES_MAX 16384
#define TOKEN_AUDIENCES_MAX 16
#define TOKEN_KEYS_MAX 8
#define TOKEN_RSA_BITS_MIN 2048
#define TOKEN_RSA_BITS_MAX 8192
#define TOKEN_ALGORITHMS 2
#define TOKEN_EXPIRY_MIN_S 600
#define TOKEN_EXPIRY_MAX_S (1LL << 32)
#define TOKEN_LEEWAY_S 60 /* clocks differ */
/* What the usual volume of a pod asks for. Clients that never read their file again work on for a year, and are warned
 * of from the asked end on. */
#define TOKEN_EXTENDED_ASKED_S 3607
#define TOKEN_EXTENDED_S (365 * 24 * 3600LL)

struct token_keys;

/* `issuer`: also the default audience ("https://kubernetes.default.svc.cluster.local"). */
int token_keys_create(struct str key_pem, const char *issuer, struct token_keys **ret, struct err *err);
/* Another key, private or public, whose tokens are accepted too. */
int token_keys_add(struct token_keys *keys, struct str key_pem, struct err *err);
void token_keys_destroy(struct token_keys *keys);
const char *token_issuer(const struct token_keys *keys);
/* By which algorithms they sign, each once, in order. Returns how many. */
size_t token_keys_algorithms(const struct token_keys *keys, const char *ret[static TOKEN_ALGORITHMS]);
/* The public halves of all keys as a JSON Web Key Set (RFC 7517). */
void token_keys_write_jwks(const struct token_keys *keys, struct buf *out);

struct token_claims {
	struct str ns, service_account, service_account_uid;
	/* Of the bound object; empty: none. At most one of pod and secret; with a pod, its node. */
	struct str pod_name, pod_uid, secret_name, secret_uid, node_name, node_uid;
	struct str audiences[TOKEN_AUDIENCES_MAX]; /* none: the issuer */
	size_t n_audiences;
	int64_t issued_s, expires_s; /* since 1970 */
	int64_t not_before_s;        /* 0: as issued_s */
	int64_t warn_after_s;        /* 0: never */
	struct str id;               /* jti, set by token_issue */
	/* Of a Secret of type kubernetes.io/service-account-token: without end, audience and id; the caller compares it
	 * with what the secret holds. */
	bool legacy;
};

/* 3607 seconds for the API server become a year. */
void token_extend(const struct token_keys *keys, struct token_claims *claims);
/* Appends the compact form. */
int token_issue(const struct token_keys *keys, const struct token_claims *claims, struct buf *out, struct err *err);
/* Strings of the claims are in the arena. Any flaw is -EPERM: which one is for the log and TokenReviews, never for the
 * client that shows the token. `audience` empty: the issuer must be among the audiences. */
int token_verify(const struct token_keys *keys, struct str token, struct str audience, struct arena *arena,
		 struct token_claims *ret, struct err *err);
/* Was it more than a text that looks like nothing of ours? */
#define TOKEN_UNKNOWN "invalid bearer token"
