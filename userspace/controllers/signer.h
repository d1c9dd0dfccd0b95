/* SPDX-License-Identifier: Apache-2.0 */
/* What the controllers need of those who hold the cluster's keys, as interfaces that main wires to the API server's
 * room. Loop thread. */
#pragma once

#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"

struct signer_certificate {
	struct str request;        /* PEM of PKCS#10 */
	const struct json *usages; /* array of strings */
	int64_t expiration_s;      /* 0: not asked */
};

struct signer_token {
	struct str ns, service_account, service_account_uid, secret;
};

struct signer {
	void *ctx;
	/* A certificate by the cluster's authority, in PEM, in the arena. */
	int (*certificate)(void *ctx, const struct signer_certificate *request, struct arena *arena,
			   struct str *ret_pem, struct err *err);
	/* A token that lives as long as its secret, in the arena. */
	int (*token)(void *ctx, const struct signer_token *request, struct arena *arena, struct str *ret_token,
		     struct err *err);
};
