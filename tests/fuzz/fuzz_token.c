/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens: the input as it is, and as the payload of a token that is well signed, so that the claims are reached.
 * Only what was issued for the API server may pass, and only whole. */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/apiserver/token.h"
#include "userspace/base/encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct token_keys *keys;
static EVP_PKEY *key;
static struct buf header;

static void set_up(void)
{
	const struct token_claims claims = { .ns = STR("n"),
					     .service_account = STR("a"),
					     .service_account_uid = STR("u") };
	BIO *bio = BIO_new(BIO_s_mem());
	struct buf token = BUF_INIT;
	char *pem;
	long n;

	key = EVP_EC_gen("P-256");
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	n = BIO_get_mem_data(bio, &pem);
	if (token_keys_create(str_make(pem, (size_t)n), "https://issuer", &keys, NULL) < 0 ||
	    token_issue(keys, &claims, &token, NULL) < 0)
		abort();
	buf_add(&header, buf_cstr(&token), strcspn(buf_cstr(&token), "."));
	buf_finish(&token);
	BIO_free(bio);
}

static void add_signature(struct buf *b)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t der[80], raw[64];
	const uint8_t *at = der;
	size_t n = sizeof(der);
	ECDSA_SIG *sig;

	if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) != 1 ||
	    EVP_DigestSign(ctx, der, &n, (const uint8_t *)buf_str(b).p, buf_len(b)) != 1)
		abort();
	sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
	buf_add_char(b, '.');
	base64_encode(b, raw, sizeof(raw), BASE64_URL);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct token_claims claims;

	if (!keys)
		set_up();
	/* Without the key nobody gets past the signature. */
	if (token_verify(keys, str_make((const char *)data, size), STR_NULL, &arena, &claims, NULL) == 0)
		abort();
	buf_add_str(&b, buf_str(&header));
	buf_add_char(&b, '.');
	base64_encode(&b, data, size, BASE64_URL);
	add_signature(&b);
	if (token_verify(keys, buf_str(&b), STR_NULL, &arena, &claims, NULL) < 0)
		return 0;
	if (!claims.ns.n || !claims.service_account.n || !claims.service_account_uid.n ||
	    (!claims.legacy && !claims.n_audiences) || (claims.legacy && !claims.secret_name.n))
		abort();
	return 0;
}
