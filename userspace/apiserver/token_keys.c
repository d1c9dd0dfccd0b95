/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of service-account tokens: one signs, others are accepted, all are published. See token.h. */
#include "userspace/apiserver/token_keys.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

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
	buf_printf(&json, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", k->id);
	base64_encode(&k->header, buf_str(&json).p, buf_len(&json), BASE64_URL);
}

int token_keys_add(struct token_keys *keys, struct str key_pem, struct err *err)
{
	struct token_key k = { .key = read_key(key_pem) };

	if (!k.key || !is_p256(k.key)) {
		EVP_PKEY_free(k.key);
		return err_set(err, -EBADMSG, "the service-account key is no EC key on the curve P-256");
	}
	if (keys->n >= TOKEN_KEYS_MAX) {
		EVP_PKEY_free(k.key);
		return err_set(err, -E2BIG, "more than %d service-account keys", TOKEN_KEYS_MAX);
	}
	name_key(&k);
	keys->keys[keys->n++] = k;
	return 0;
}

static bool is_private(EVP_PKEY *key)
{
	BIGNUM *bn = NULL;
	bool has = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &bn) == 1;

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
	if (r == 0 && !is_private(keys->keys[0].key))
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

static void write_coordinate(struct buf *out, const char *name, EVP_PKEY *key, const char *param)
{
	uint8_t bytes[ES256_PART_LEN];
	BIGNUM *bn = NULL;

	if (EVP_PKEY_get_bn_param(key, param, &bn) != 1 || BN_bn2binpad(bn, bytes, sizeof(bytes)) < 0)
		abort();
	BN_free(bn);
	buf_printf(out, ",\"%s\":\"", name);
	base64_encode(out, bytes, sizeof(bytes), BASE64_URL);
	buf_add_char(out, '"');
}

void token_keys_write_jwks(const struct token_keys *keys, struct buf *out)
{
	buf_add_cstr(out, "{\"keys\":[");
	for (size_t i = 0; i < keys->n; i++) {
		const struct token_key *k = &keys->keys[i];

		buf_printf(out, "%s{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"alg\":\"ES256\"",
			   i ? "," : "", k->id);
		write_coordinate(out, "x", k->key, OSSL_PKEY_PARAM_EC_PUB_X);
		write_coordinate(out, "y", k->key, OSSL_PKEY_PARAM_EC_PUB_Y);
		buf_add_char(out, '}');
	}
	buf_add_cstr(out, "]}");
}
