/* SPDX-License-Identifier: Apache-2.0 */
/* The ciphers of encryption at rest, each as upstream writes its bytes. Any thread. */
#pragma once

#include <stdint.h>

#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define ENCRYPTION_SECRET_MAX 32

struct encryption_key {
	char *name;
	char *prefix; /* k8s:enc:<provider>:v1:<name>: */
	size_t prefix_len;
	uint8_t secret[ENCRYPTION_SECRET_MAX];
	size_t secret_len;
};

struct encryption_cipher {
	const char *name;  /* as the configuration calls the provider */
	size_t lengths[4]; /* of a secret; 0 ends */
	/* What must be there before the others are called; may be NULL. */
	int (*prepare)(struct err *err);
	/* Append to `out`. `bound`: what the bytes are good for, where the cipher authenticates that. */
	int (*seal)(const struct encryption_key *key, struct str bound, struct str plain, struct buf *out);
	int (*open)(const struct encryption_key *key, struct str bound, struct str sealed, struct buf *out);
};

extern const struct encryption_cipher ENCRYPTION_AESGCM, ENCRYPTION_AESCBC, ENCRYPTION_SECRETBOX;
