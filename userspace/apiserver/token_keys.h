/* SPDX-License-Identifier: Apache-2.0 */
/* The keys behind the tokens, for token.c and token_keys.c alone. */
#pragma once

#include <openssl/evp.h>

#include "userspace/apiserver/token.h"

#define ES256_PART_LEN 32
#define ES256_LEN (2 * ES256_PART_LEN)

struct token_key {
	EVP_PKEY *key;
	char *id;
	struct buf header; /* base64url of the JOSE header: the same for every token of this key */
};

struct token_keys {
	struct token_key keys[TOKEN_KEYS_MAX]; /* the first one signs */
	size_t n;
	char *issuer;
};
