/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of service-account tokens: one signs, others are accepted, all are published. See token.h. */
#include "userspace/apiserver/token_keys.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define ES256_PART_LEN 32
#define SIGNATURE_MAX (TOKEN_RSA_BITS_MAX / 8)

static EVP_PKEY *read_key(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
	EVP_PKEY *key;

	if (!bio)
		abort();
	key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	if (!key && BIO_reset(bio) == 1)
		key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
	BIO_free(bio);
	ERR_clear_error();
	return key;
}

static bool is_p256(const EVP_PKEY *key)
{
	char group[32] = "";

	return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
	       EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), NULL) == 1 &&
	       (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0);
}

static bool is_rsa(const EVP_PKEY *key)
{
	int bits = EVP_PKEY_get_bits(key);

	return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && bits >= TOKEN_RSA_BITS_MIN && bits <= TOKEN_RSA_BITS_MAX;
}

static const char *algorithm(const struct token_key *k)
{
	return k->rsa ? "RS256" : "ES256";
}

/* As upstream names keys: by the hash of their public half. */
static void name_key(struct token_key *k)
{
	_cleanup_buf_ struct buf json = BUF_INIT, id = BUF_INIT;
	uint8_t digest[SHA256_LEN], *der = NULL;
	int der_len = i2d_PUBKEY(k->key, &der);

	if (der_len <= 0)
		abort();
	sha256(der, (size_t)der_len, digest);
	OPENSSL_free(der);
	base64_encode(&id, digest, sizeof(digest), BASE64_URL);
	k->id = mem_strdup(buf_cstr(&id));
	buf_printf(&json, "{\"alg\":\"%s\",\"kid\":\"%s\"}", algorithm(k), k->id);
	base64_encode(&k->header, buf_str(&json).p, buf_len(&json), BASE64_URL);
}

int token_keys_add(struct token_keys *keys, struct str key_pem, struct err *err)
{
	struct token_key k = { .key = read_key(key_pem) };

	k.rsa = k.key && is_rsa(k.key);
	if (!k.key || !(k.rsa || is_p256(k.key))) {
		EVP_PKEY_free(k.key);
		return err_set(
			err, -EBADMSG,
			"the service-account key is neither an EC key on the curve P-256 nor an RSA key of %d to %d "
			"bits",
			TOKEN_RSA_BITS_MIN, TOKEN_RSA_BITS_MAX);
	}
	if (keys->n >= TOKEN_KEYS_MAX) {
		EVP_PKEY_free(k.key);
		return err_set(err, -E2BIG, "more than %d service-account keys", TOKEN_KEYS_MAX);
	}
	name_key(&k);
	keys->keys[keys->n++] = k;
	return 0;
}

static bool is_private(const struct token_key *k)
{
	const char *part = k->rsa ? OSSL_PKEY_PARAM_RSA_D : OSSL_PKEY_PARAM_PRIV_KEY;
	BIGNUM *bn = NULL;
	bool has = EVP_PKEY_get_bn_param(k->key, part, &bn) == 1;

	BN_clear_free(bn);
	ERR_clear_error();
	return has;
}

int token_keys_create(struct str key_pem, const char *issuer, struct token_keys **ret, struct err *err)
{
	struct token_keys *keys = mem_new(struct token_keys);
	int r;

	keys->issuer = mem_strdup(issuer);
	r = token_keys_add(keys, key_pem, err);
	if (r == 0 && !is_private(&keys->keys[0]))
		r = err_set(err, -EBADMSG, "the service-account key that signs is not a private one");
	if (r < 0) {
		token_keys_destroy(keys);
		return r;
	}
	*ret = keys;
	return 0;
}

void token_keys_destroy(struct token_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < keys->n; i++) {
		EVP_PKEY_free(keys->keys[i].key);
		free(keys->keys[i].id);
		buf_finish(&keys->keys[i].header);
	}
	free(keys->issuer);
	free(keys);
}

const char *token_issuer(const struct token_keys *keys)
{
	return keys->issuer;
}

size_t token_keys_algorithms(const struct token_keys *keys, const char *ret[static TOKEN_ALGORITHMS])
{
	bool rsa = false, ec = false;
	size_t n = 0;

	for (size_t i = 0; i < keys->n; i++)
		*(keys->keys[i].rsa ? &rsa : &ec) = true;
	if (ec)
		ret[n++] = "ES256";
	if (rsa)
		ret[n++] = "RS256";
	return n;
}

/* ---- signatures ---- */

/* ECDSA signatures are DER in OpenSSL and two fixed-width numbers in JWS (RFC 7518, 3.4). */
static bool from_der(const uint8_t *der, size_t n, struct buf *ret)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	uint8_t parts[2 * ES256_PART_LEN];
	bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), parts, ES256_PART_LEN) == ES256_PART_LEN &&
		  BN_bn2binpad(ECDSA_SIG_get0_s(sig), parts + ES256_PART_LEN, ES256_PART_LEN) == ES256_PART_LEN;

	if (ok)
		buf_add(ret, parts, sizeof(parts));
	ECDSA_SIG_free(sig);
	return ok;
}

static bool to_der(struct str parts, struct buf *ret)
{
	const uint8_t *at = (const uint8_t *)parts.p;
	uint8_t *der = NULL;
	ECDSA_SIG *sig;
	int n;

	if (parts.n != 2 * ES256_PART_LEN)
		return false;
	sig = ECDSA_SIG_new();
	if (!sig)
		abort();
	ECDSA_SIG_set0(sig, BN_bin2bn(at, ES256_PART_LEN, NULL), BN_bin2bn(at + ES256_PART_LEN, ES256_PART_LEN, NULL));
	n = i2d_ECDSA_SIG(sig, &der);
	if (n > 0)
		buf_add(ret, der, (size_t)n);
	OPENSSL_free(der);
	ECDSA_SIG_free(sig);
	return n > 0;
}

int token_key_sign(const struct token_key *k, struct str input, struct buf *ret)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t raw[SIGNATURE_MAX];
	size_t n = sizeof(raw);
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1 &&
		  EVP_DigestSign(ctx, raw, &n, (const uint8_t *)input.p, input.n) == 1;

	if (ok && k->rsa)
		buf_add(ret, raw, n);
	else if (ok)
		ok = from_der(raw, n, ret);
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok ? 0 : -EIO;
}

bool token_key_verify(const struct token_key *k, struct str input, struct str signature)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	_cleanup_buf_ struct buf der = BUF_INIT;
	bool ok = ctx && (k->rsa || to_der(signature, &der));

	if (ok && !k->rsa)
		signature = buf_str(&der);
	ok = ok && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1 &&
	     EVP_DigestVerify(ctx, (const uint8_t *)signature.p, signature.n, (const uint8_t *)input.p, input.n) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/* ---- what others are told ---- */

/* `bytes` 0: as many as it has. */
static void write_number(struct buf *out, const char *name, EVP_PKEY *key, const char *param, size_t bytes)
{
	uint8_t raw[SIGNATURE_MAX];
	BIGNUM *bn = NULL;

	if (EVP_PKEY_get_bn_param(key, param, &bn) != 1)
		abort();
	if (!bytes)
		bytes = (size_t)BN_num_bytes(bn);
	if (bytes > sizeof(raw) || BN_bn2binpad(bn, raw, (int)bytes) < 0)
		abort();
	BN_free(bn);
	buf_printf(out, ",\"%s\":\"", name);
	base64_encode(out, raw, bytes, BASE64_URL);
	buf_add_char(out, '"');
}

void token_keys_write_jwks(const struct token_keys *keys, struct buf *out)
{
	buf_add_cstr(out, "{\"keys\":[");
	for (size_t i = 0; i < keys->n; i++) {
		const struct token_key *k = &keys->keys[i];

		buf_printf(out, "%s{\"use\":\"sig\",\"kty\":\"%s\",\"kid\":\"%s\"%s,\"alg\":\"%s\"", i ? "," : "",
			   k->rsa ? "RSA" : "EC", k->id, k->rsa ? "" : ",\"crv\":\"P-256\"", algorithm(k));
		if (k->rsa) {
			write_number(out, "n", k->key, OSSL_PKEY_PARAM_RSA_N, 0);
			write_number(out, "e", k->key, OSSL_PKEY_PARAM_RSA_E, 0);
		} else {
			write_number(out, "x", k->key, OSSL_PKEY_PARAM_EC_PUB_X, ES256_PART_LEN);
			write_number(out, "y", k->key, OSSL_PKEY_PARAM_EC_PUB_Y, ES256_PART_LEN);
		}
		buf_add_char(out, '}');
	}
	buf_add_cstr(out, "]}");
}
