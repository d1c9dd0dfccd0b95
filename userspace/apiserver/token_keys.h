/* SPDX-License-Identifier: Apache-2.0 */
/* The keys behind the tokens, for token.c and token_keys.c alone. */
#pragma once

#include <openssl/evp.h>

#include "userspace/apiserver/token.h"

struct token_key {
	EVP_PKEY *key;
	bool rsa; /* else EC on P-256 */
	char *id;
	struct buf header; /* base64url of the JOSE header: the same for every token of this key */
};

struct token_keys {
	struct token_key keys[TOKEN_KEYS_MAX]; /* the first one signs */
	size_t n;
	char *issuer;
};

/* SHA-256 with the key, as JWS has signatures (RFC 7518). -EIO. */
int token_key_sign(const struct token_key *k, struct str input, struct buf *ret);
bool token_key_verify(const struct token_key *k, struct str input, struct str signature);
