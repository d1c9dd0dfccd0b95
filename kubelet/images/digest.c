/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 over a stream, and digests as text. One owner at a time. */
#include <errno.h>

#include "kubelet/images/store.h"
#include "userspace/base/encode.h"

void digest_init(struct digest *d)
{
	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
		abort();
}

void digest_add(struct digest *d, const void *p, size_t n)
{
	if (n && EVP_DigestUpdate(d->ctx, p, n) != 1)
		abort();
}

void digest_hex(struct digest *d, char ret[static STORE_HEX_LEN + 1])
{
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_DigestFinal_ex(d->ctx, out, &n) != 1)
		abort();
	hex_encode(out, SHA256_LEN, ret);
}

void digest_finish(struct digest *d)
{
	EVP_MD_CTX_free(d->ctx);
	d->ctx = NULL;
}

int store_digest_hex(struct str digest, struct str *ret_hex)
{
	static const struct str prefix = { "sha256:", 7 };

	if (digest.n != prefix.n + STORE_HEX_LEN || !str_starts(digest, prefix))
		return -EINVAL;
	for (size_t i = prefix.n; i < digest.n; i++)
		if (!((digest.p[i] >= '0' && digest.p[i] <= '9') || (digest.p[i] >= 'a' && digest.p[i] <= 'f')))
			return -EINVAL;
	*ret_hex = str_make(digest.p + prefix.n, STORE_HEX_LEN);
	return 0;
}
