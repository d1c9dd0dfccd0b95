/* SPDX-License-Identifier: Apache-2.0 */
/* JWTs of service accounts. See token.h. */
#include "userspace/apiserver/token.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define ES256_PART_LEN 32
#define ES256_LEN (2 * ES256_PART_LEN)
#define ES256_DER_MAX 80
#define TOKEN_KID_LEN 43

struct token_keys {
	EVP_PKEY *key;
	char *issuer;
	struct buf header; /* base64url of the JOSE header: the same for every token */
};

int token_keys_create(struct str key_pem, const char *issuer, struct token_keys **ret, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(key_pem.p, (int)key_pem.n);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	_cleanup_buf_ struct buf json = BUF_INIT;
	uint8_t digest[SHA256_LEN], *der = NULL;
	struct token_keys *keys;
	int der_len;

	BIO_free(bio);
	if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) {
		ERR_clear_error();
		EVP_PKEY_free(key);
		return err_set(err, -EBADMSG, "the service-account key is not an EC private key");
	}
	der_len = i2d_PUBKEY(key, &der);
	if (der_len <= 0)
		abort();
	sha256(der, (size_t)der_len, digest);
	OPENSSL_free(der);
	keys = mem_new(struct token_keys);
	keys->key = key;
	keys->issuer = mem_strdup(issuer);
	buf_add_cstr(&json, "{\"alg\":\"ES256\",\"kid\":\"");
	base64_encode(&json, digest, sizeof(digest), BASE64_URL);
	buf_add_cstr(&json, "\"}");
	base64_encode(&keys->header, buf_str(&json).p, buf_len(&json), BASE64_URL);
	*ret = keys;
	return 0;
}

void token_keys_destroy(struct token_keys *keys)
{
	if (!keys)
		return;
	EVP_PKEY_free(keys->key);
	free(keys->issuer);
	buf_finish(&keys->header);
	free(keys);
}

const char *token_issuer(const struct token_keys *keys)
{
	return keys->issuer;
}

static void token_set_ref(struct arena *arena, struct json *k8s, const char *key, struct str name, struct str uid)
{
	struct json *ref;

	if (!name.n)
		return;
	ref = json_new_object(arena);
	json_set_str(arena, ref, "name", name);
	json_set_str(arena, ref, "uid", uid);
	json_set(k8s, key, ref);
}

static struct json *token_payload(const struct token_keys *keys, const struct token_claims *c, struct arena *arena)
{
	struct json *v = json_new_object(arena), *aud = json_new_array(arena), *k8s = json_new_object(arena);
	char id[UUID_LEN + 1];

	for (size_t i = 0; i < c->n_audiences; i++)
		json_append(aud, json_new_str(arena, c->audiences[i]));
	if (!c->n_audiences)
		json_append(aud, json_new_cstr(arena, keys->issuer));
	uuid_make(id);
	json_set(v, "aud", aud);
	json_set_int(arena, v, "exp", c->expires_s);
	json_set_int(arena, v, "iat", c->issued_s);
	json_set_cstr(arena, v, "iss", keys->issuer);
	json_set_cstr(arena, v, "jti", arena_strdup(arena, id));
	json_set_str(arena, k8s, "namespace", c->ns);
	token_set_ref(arena, k8s, "node", c->node_name, c->node_uid);
	token_set_ref(arena, k8s, "pod", c->pod_name, c->pod_uid);
	token_set_ref(arena, k8s, "secret", c->secret_name, c->secret_uid);
	token_set_ref(arena, k8s, "serviceaccount", c->service_account, c->service_account_uid);
	json_set(v, "kubernetes.io", k8s);
	json_set_int(arena, v, "nbf", c->issued_s);
	json_set(
		v, "sub",
		json_new_printf(arena, "system:serviceaccount:%.*s:%.*s", STR_ARG(c->ns), STR_ARG(c->service_account)));
	return v;
}

/* ECDSA signatures are DER in OpenSSL and two fixed-width numbers in JWS (RFC 7518, 3.4). */
static int token_sign(const struct token_keys *keys, struct str input, uint8_t ret[static ES256_LEN])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t der[ES256_DER_MAX];
	size_t der_len = sizeof(der);
	const uint8_t *at = der;
	ECDSA_SIG *sig = NULL;
	int ok;

	ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, keys->key) == 1 &&
	     EVP_DigestSign(ctx, der, &der_len, (const uint8_t *)input.p, input.n) == 1 &&
	     (sig = d2i_ECDSA_SIG(NULL, &at, (long)der_len)) != NULL &&
	     BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, ES256_PART_LEN) == ES256_PART_LEN &&
	     BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + ES256_PART_LEN, ES256_PART_LEN) == ES256_PART_LEN;
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok ? 0 : -EIO;
}

static bool token_signature_valid(const struct token_keys *keys, struct str input, const uint8_t sig[static ES256_LEN])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	ECDSA_SIG *parsed = ECDSA_SIG_new();
	uint8_t *der = NULL;
	int der_len, ok = 0;

	if (!ctx || !parsed)
		abort();
	ECDSA_SIG_set0(parsed, BN_bin2bn(sig, ES256_PART_LEN, NULL),
		       BN_bin2bn(sig + ES256_PART_LEN, ES256_PART_LEN, NULL));
	der_len = i2d_ECDSA_SIG(parsed, &der);
	if (der_len > 0)
		ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, keys->key) == 1 &&
		     EVP_DigestVerify(ctx, der, (size_t)der_len, (const uint8_t *)input.p, input.n) == 1;
	OPENSSL_free(der);
	ECDSA_SIG_free(parsed);
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

int token_issue(const struct token_keys *keys, const struct token_claims *claims, struct buf *out, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str payload = json_text(&arena, token_payload(keys, claims, &arena));
	_cleanup_buf_ struct buf b = BUF_INIT;
	uint8_t sig[ES256_LEN];
	int r;

	buf_add_str(&b, buf_str(&keys->header));
	buf_add_char(&b, '.');
	base64_encode(&b, payload.p, payload.n, BASE64_URL);
	r = token_sign(keys, buf_str(&b), sig);
	if (r < 0)
		return err_set(err, r, "sign token");
	buf_add_char(&b, '.');
	base64_encode(&b, sig, sizeof(sig), BASE64_URL);
	buf_add_str(out, buf_str(&b));
	return 0;
}

static int token_read_claims(const struct json *v, struct token_claims *ret)
{
	const struct json *k8s = json_get(v, "kubernetes.io"), *aud = json_get(v, "aud");
	struct token_claims c = { 0 };

	c.ns = json_get_str(k8s, "namespace");
	c.service_account = json_at_str(k8s, "serviceaccount.name");
	c.service_account_uid = json_at_str(k8s, "serviceaccount.uid");
	c.pod_name = json_at_str(k8s, "pod.name");
	c.pod_uid = json_at_str(k8s, "pod.uid");
	c.secret_name = json_at_str(k8s, "secret.name");
	c.secret_uid = json_at_str(k8s, "secret.uid");
	c.node_name = json_at_str(k8s, "node.name");
	c.node_uid = json_at_str(k8s, "node.uid");
	c.issued_s = json_get_int(v, "iat", -1);
	c.expires_s = json_get_int(v, "exp", -1);
	c.id = json_get_str(v, "jti");
	json_foreach(a, aud)
		if (c.n_audiences < TOKEN_AUDIENCES_MAX)
			c.audiences[c.n_audiences++] = json_str(a);
	if (!c.ns.n || !c.service_account.n || !c.service_account_uid.n || c.expires_s < 0)
		return -EPERM;
	*ret = c;
	return 0;
}

static bool token_has_audience(const struct token_claims *c, struct str audience)
{
	for (size_t i = 0; i < c->n_audiences; i++)
		if (str_eq(c->audiences[i], audience))
			return true;
	return false;
}

int token_verify(const struct token_keys *keys, struct str token, struct str audience, struct arena *arena,
		 struct token_claims *ret, struct err *err)
{
	_cleanup_buf_ struct buf sig = BUF_INIT, payload = BUF_INIT;
	int64_t now_s = clock_real_ns() / NS_PER_S;
	struct str rest = token, header, body, signature;
	struct token_claims claims;
	struct json *v;

	if (token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EPERM, "token is too long");
	if (!str_split(&rest, '.', &header) || !str_split(&rest, '.', &body) || !str_split(&rest, '.', &signature) ||
	    rest.p)
		return err_set(err, -EPERM, "not a JWT");
	/* One algorithm, one key: the header must be the very one given out ("none" and foreign keys end here). */
	if (!str_eq(header, buf_str(&keys->header)))
		return err_set(err, -EPERM, "token of another key or algorithm");
	if (base64_decode(&sig, signature, BASE64_URL) < 0 || buf_len(&sig) != ES256_LEN ||
	    !token_signature_valid(keys, str_make(token.p, header.n + 1 + body.n), (const uint8_t *)buf_str(&sig).p))
		return err_set(err, -EPERM, "bad signature");
	if (base64_decode(&payload, body, BASE64_URL) < 0 ||
	    json_parse(arena, arena_str(arena, buf_str(&payload)), JSON_PARSE_STRICT_DUPLICATES, &v, NULL) < 0 ||
	    token_read_claims(v, &claims) < 0)
		return err_set(err, -EPERM, "bad claims");
	if (!str_is(json_get_str(v, "iss"), keys->issuer))
		return err_set(err, -EPERM, "foreign issuer");
	if (now_s >= claims.expires_s)
		return err_set(err, -EPERM, "token has expired");
	if (!token_has_audience(&claims, audience.n ? audience : str_of(keys->issuer)))
		return err_set(err, -EPERM, "token is for another audience");
	*ret = claims;
	return 0;
}
