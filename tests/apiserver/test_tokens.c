/* SPDX-License-Identifier: Apache-2.0 */
/* Service-account tokens: what is issued verifies, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/apiserver/pki.h"
#include "userspace/apiserver/token.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define ISSUER "https://kubernetes.default.svc.cluster.local"

struct fixture {
	char dir[64];
	struct arena arena;
	struct token_keys *keys, *others;
	struct str pem, others_pem;
	struct token_claims claims;
	char *token;
};

static struct token_keys *keys_in(struct fixture *f, const char *name, struct str *ret_pem)
{
	_cleanup_free_ char *dir = mem_printf("%s/%s", f->dir, name);
	const char *sans[] = { "localhost", NULL };
	struct pki_options options = { .dir = dir, .sans = sans };
	_cleanup_err_ struct err err = ERR_INIT;
	struct token_keys *keys;
	struct pki pki;

	assert_int_equal(pki_ensure(&options, &f->arena, &pki, NULL, &err), 0);
	assert_int_equal(token_keys_create(pki.sa_key, ISSUER, &keys, &err), 0);
	*ret_pem = pki.sa_key;
	return keys;
}

static char *issue(struct fixture *f, const struct token_keys *keys, const struct token_claims *claims)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_int_equal(token_issue(keys, claims, &b, NULL), 0);
	return str_dup(buf_str(&b));
}

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);

	strcpy(f->dir, "/tmp/k3c-tokens-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->keys = keys_in(f, "a", &f->pem);
	f->others = keys_in(f, "b", &f->others_pem);
	f->claims = (struct token_claims){ .ns = STR("ns"),
					   .service_account = STR("bob"),
					   .service_account_uid = STR("uid-1"),
					   .pod_name = STR("p"),
					   .pod_uid = STR("uid-2"),
					   .issued_s = clock_real_ns() / NS_PER_S };
	f->claims.expires_s = f->claims.issued_s + 3600;
	f->token = issue(f, f->keys, &f->claims);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *command = mem_printf("rm -rf %s", f->dir);

	token_keys_destroy(f->keys);
	token_keys_destroy(f->others);
	arena_finish(&f->arena);
	free(f->token);
	free(f);
	return system(command);
}

static int verify(struct fixture *f, const char *token, const char *audience)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct token_claims claims;
	int r = token_verify(f->keys, str_of(token), str_of(audience), &f->arena, &claims, &err);

	assert_true(r == 0 || (r == -EPERM && err.message));
	return r;
}

static void what_is_issued_verifies(void **state)
{
	struct fixture *f = *state;
	struct token_claims c;

	assert_int_equal(token_verify(f->keys, str_of(f->token), STR_NULL, &f->arena, &c, NULL), 0);
	assert_true(str_is(c.ns, "ns"));
	assert_true(str_is(c.service_account, "bob"));
	assert_true(str_is(c.service_account_uid, "uid-1"));
	assert_true(str_is(c.pod_name, "p"));
	assert_true(str_is(c.pod_uid, "uid-2"));
	assert_int_equal(c.node_name.n, 0);
	assert_int_equal(c.expires_s, f->claims.expires_s);
	assert_int_equal(c.n_audiences, 1);
	assert_true(str_is(c.audiences[0], ISSUER));
	assert_int_equal(c.id.n, UUID_LEN);
}

static void audiences(void **state)
{
	struct fixture *f = *state;
	struct token_claims claims = f->claims;
	_cleanup_free_ char *token = NULL;

	claims.audiences[0] = STR("vault");
	claims.audiences[1] = STR("other");
	claims.n_audiences = 2;
	token = issue(f, f->keys, &claims);
	assert_int_equal(verify(f, token, NULL), -EPERM); /* not for the API server */
	assert_int_equal(verify(f, token, "vault"), 0);
	assert_int_equal(verify(f, token, "other"), 0);
	assert_int_equal(verify(f, token, "vaul"), -EPERM);
	assert_int_equal(verify(f, f->token, "vault"), -EPERM);
}

static void times(void **state)
{
	struct fixture *f = *state;
	struct token_claims claims = f->claims;
	_cleanup_free_ char *token = NULL;

	claims.issued_s -= 7200;
	claims.expires_s = claims.issued_s + 3600;
	token = issue(f, f->keys, &claims);
	assert_int_equal(verify(f, token, NULL), -EPERM);
}

static void foreign_keys(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *foreign = issue(f, f->others, &f->claims), *mixed = NULL;
	const char *rest = strchr(foreign, '.');

	assert_int_equal(verify(f, foreign, NULL), -EPERM);
	/* our header, their signature */
	mixed = mem_printf("%.*s%s", (int)strcspn(f->token, "."), f->token, rest);
	assert_int_equal(verify(f, mixed, NULL), -EPERM);
}

/* Every single changed character must be seen, in the last one too (its unused bits are canonical). */
static void any_change_is_seen(void **state)
{
	struct fixture *f = *state;
	size_t n = strlen(f->token);
	_cleanup_free_ char *token = str_dup(str_of(f->token));

	for (size_t i = 0; i < n; i++) {
		token[i] = f->token[i] == 'A' ? 'B' : 'A';
		if (verify(f, token, NULL) != -EPERM)
			fail_msg("a changed character at %zu of %zu passes", i, n);
		token[i] = f->token[i];
	}
	for (size_t i = 0; i < n; i++) {
		token[i] = 0;
		assert_int_equal(verify(f, token, NULL), -EPERM);
		token[i] = f->token[i];
	}
	assert_int_equal(verify(f, token, NULL), 0);
}

static char *with_header(const struct fixture *f, const char *header, const char *signature)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *body = strchr(f->token, '.') + 1;

	base64_encode(&b, header, strlen(header), BASE64_URL);
	return mem_printf("%s.%.*s.%s", buf_cstr(&b), (int)strcspn(body, "."), body, signature);
}

static void other_algorithms(void **state)
{
	static const char *const headers[] = {
		"{\"alg\":\"none\"}", "{\"alg\":\"None\"}", "{\"alg\":\"HS256\"}", "{\"alg\":\"ES256\"}", "{}", "x", ""
	};
	struct fixture *f = *state;
	const char *signature = strrchr(f->token, '.') + 1;

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		_cleanup_free_ char *signed_one = with_header(f, headers[i], signature),
				    *bare = with_header(f, headers[i], "");

		assert_int_equal(verify(f, signed_one, NULL), -EPERM);
		assert_int_equal(verify(f, bare, NULL), -EPERM);
	}
}

static void malformed(void **state)
{
	static const char *const tokens[] = { "",    ".",     "..",      "...",  "a",
					      "a.b", "a.b.c", "a.b.c.d", "....", "%%%.%%%.%%%" };
	struct fixture *f = *state;
	_cleanup_free_ char *more = mem_printf("%s.x", f->token), *fewer = str_dup(str_of(f->token));
	_cleanup_free_ char *longest = mem_zalloc(TOKEN_BYTES_MAX + 2);

	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
		assert_int_equal(verify(f, tokens[i], NULL), -EPERM);
	assert_int_equal(verify(f, more, NULL), -EPERM);
	*strrchr(fewer, '.') = 0;
	assert_int_equal(verify(f, fewer, NULL), -EPERM);
	memset(longest, 'a', TOKEN_BYTES_MAX + 1);
	assert_int_equal(verify(f, longest, NULL), -EPERM);
}

/* ---- tokens that are signed as they should be, and wrong all the same ---- */

static EVP_PKEY *key_of(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

	BIO_free(bio);
	assert_non_null(key);
	return key;
}

static void es256(struct str pem, struct str input, uint8_t ret[static 64])
{
	EVP_PKEY *key = key_of(pem);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t der[80];
	const uint8_t *at = der;
	size_t n = sizeof(der);
	ECDSA_SIG *sig;

	assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(EVP_DigestSign(ctx, der, &n, (const uint8_t *)input.p, input.n), 1);
	sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + 32, 32);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
}

/* The header of our own key, any payload, a good signature. */
static char *forge(const struct fixture *f, const char *payload)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	uint8_t sig[64];

	buf_add(&b, f->token, strcspn(f->token, "."));
	buf_add_char(&b, '.');
	base64_encode(&b, payload, strlen(payload), BASE64_URL);
	es256(f->pem, buf_str(&b), sig);
	buf_add_char(&b, '.');
	base64_encode(&b, sig, sizeof(sig), BASE64_URL);
	return str_dup(buf_str(&b));
}

#define SUBJECT                                                                                                        \
	"\"kubernetes.io\":{\"namespace\":\"ns\",\"serviceaccount\":{\"name\":\"bob\",\"uid\":\"u\"}},\"sub\":\"x\""
#define IAT "\"iat\":1000000000"
#define EXP "\"exp\":4000000000"
#define AUD "\"aud\":[\"" ISSUER "\"]"
#define ISS "\"iss\":\"" ISSUER "\""

static void refusals(void **state)
{
	static const struct {
		const char *payload;
		const char *why; /* NULL: it is good */
	} rows[] = {
		{ "{" ISS "," AUD "," EXP "," IAT "," SUBJECT "}", NULL },
		{ "{" ISS ",\"aud\":\"" ISSUER "\"," EXP "," IAT "," SUBJECT "}", NULL },
		{ "{" ISS "," AUD "," EXP "," IAT "," SUBJECT ",\"nbf\":3999999999}",
		  "service account token is not valid yet" },
		{ "{" ISS "," AUD "," EXP ",\"iat\":3999999999," SUBJECT "}",
		  "service account token is not valid yet" },
		{ "{" ISS "," AUD ",\"exp\":1000000001," IAT "," SUBJECT "}", "service account token has expired" },
		{ "{" ISS "," AUD "," IAT "," SUBJECT "}", "service account token claims could not be validated" },
		{ "{" ISS "," AUD ",\"exp\":\"4000000000\"," IAT "," SUBJECT "}",
		  "service account token claims could not be validated" },
		{ "{" ISS "," AUD ",\"exp\":1e99," IAT "," SUBJECT "}",
		  "service account token claims could not be validated" },
		{ "{\"iss\":\"https://elsewhere\"," AUD "," EXP "," IAT "," SUBJECT "}", TOKEN_UNKNOWN },
		{ "{" AUD "," EXP "," IAT "," SUBJECT "}", TOKEN_UNKNOWN },
		{ "{" ISS ",\"aud\":[]," EXP "," IAT "," SUBJECT "}",
		  "service account token claims could not be validated" },
		{ "{" ISS ",\"aud\":[\"x\"]," EXP "," IAT "," SUBJECT "}",
		  "token audiences [\"x\"] is invalid for the target audiences [\"" ISSUER "\"]" },
		{ "{" ISS "," AUD ",\"exp\":1," EXP "," IAT "," SUBJECT "}",
		  "service account token claims could not be validated" },
		{ "{" ISS "," AUD "," EXP "," IAT "," SUBJECT "," SUBJECT "}",
		  "service account token claims could not be validated" },
		{ "{" ISS "," AUD "," EXP "," IAT "}", "service account token claims could not be validated" },
		{ "[]", TOKEN_UNKNOWN },
		{ "null", TOKEN_UNKNOWN },
		{ "x", "service account token claims could not be validated" },
		{ "", "service account token claims could not be validated" },
		{ "{" ISS, "service account token claims could not be validated" },
		{ "{\"iss\":\"kubernetes/serviceaccount\"," SUBJECT "}",
		  "service account token claims could not be validated" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *token = forge(f, rows[i].payload);
		_cleanup_err_ struct err err = ERR_INIT;
		struct token_claims c;
		int r = token_verify(f->keys, str_of(token), STR_NULL, &f->arena, &c, &err);

		if (rows[i].why ? r != -EPERM || strcmp(err_message(&err), rows[i].why) : r != 0)
			fail_msg("%zu: %d %s", i, r, err_message(&err));
	}
}

/* The public key is known to all: as the secret of an HMAC it must be worth nothing. */
static void hmac_with_the_public_key(void **state)
{
	static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
	struct fixture *f = *state;
	EVP_PKEY *key = key_of(f->pem);
	BIO *bio = BIO_new(BIO_s_mem());
	const char *body = strchr(f->token, '.') + 1;
	_cleanup_buf_ struct buf b = BUF_INIT;
	uint8_t mac[32];
	unsigned n = sizeof(mac);
	char *pem;
	long pem_n;

	assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
	pem_n = BIO_get_mem_data(bio, &pem);
	base64_encode(&b, header, strlen(header), BASE64_URL);
	buf_printf(&b, ".%.*s", (int)strcspn(body, "."), body);
	assert_non_null(HMAC(EVP_sha256(), pem, (int)pem_n, (const uint8_t *)buf_str(&b).p, buf_len(&b), mac, &n));
	buf_add_char(&b, '.');
	base64_encode(&b, mac, n, BASE64_URL);
	assert_int_equal(verify(f, buf_cstr(&b), NULL), -EPERM);
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static void a_second_key_is_accepted(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *foreign = issue(f, f->others, &f->claims), *fresh = NULL;
	_cleanup_buf_ struct buf jwks = BUF_INIT;
	struct json *set;

	assert_int_equal(verify(f, foreign, NULL), -EPERM);
	assert_int_equal(token_keys_add(f->keys, f->others_pem, NULL), 0);
	assert_int_equal(verify(f, foreign, NULL), 0);
	/* the first one still signs */
	fresh = issue(f, f->keys, &f->claims);
	assert_int_equal(strncmp(fresh, f->token, strcspn(f->token, ".")), 0);
	token_keys_write_jwks(f->keys, &jwks);
	assert_int_equal(json_parse(&f->arena, buf_str(&jwks), 0, &set, NULL), 0);
	assert_int_equal(json_count(json_get(set, "keys")), 2);
	json_foreach(k, json_get(set, "keys")) {
		assert_true(str_is(json_get_str(k, "kty"), "EC"));
		assert_true(str_is(json_get_str(k, "alg"), "ES256"));
		assert_true(str_is(json_get_str(k, "use"), "sig"));
		assert_int_equal(json_get_str(k, "x").n, 43);
		assert_int_equal(json_get_str(k, "y").n, 43);
	}
	for (size_t i = 2; i < TOKEN_KEYS_MAX; i++)
		assert_int_equal(token_keys_add(f->keys, f->others_pem, NULL), 0);
	assert_int_equal(token_keys_add(f->keys, f->others_pem, NULL), -E2BIG);
}

static void the_tokens_of_pods_are_extended(void **state)
{
	struct fixture *f = *state;
	struct token_claims claims = f->claims, c;
	_cleanup_free_ char *token = NULL;

	claims.expires_s = claims.issued_s + 3607;
	token_extend(f->keys, &claims);
	assert_int_equal(claims.warn_after_s, claims.issued_s + 3607);
	assert_int_equal(claims.expires_s, claims.issued_s + 365 * 24 * 3600);
	token = issue(f, f->keys, &claims);
	assert_int_equal(token_verify(f->keys, str_of(token), STR_NULL, &f->arena, &c, NULL), 0);
	assert_int_equal(c.warn_after_s, claims.warn_after_s);
	/* of another length, for others, or without a pod: not */
	claims = f->claims;
	token_extend(f->keys, &claims);
	assert_int_equal(claims.expires_s, f->claims.expires_s);
	claims.expires_s = claims.issued_s + 3607;
	claims.audiences[0] = STR("vault");
	claims.n_audiences = 1;
	token_extend(f->keys, &claims);
	assert_int_equal(claims.warn_after_s, 0);
	claims.n_audiences = 0;
	claims.pod_name = STR_NULL;
	token_extend(f->keys, &claims);
	assert_int_equal(claims.warn_after_s, 0);
}

static void tokens_of_secrets(void **state)
{
	struct fixture *f = *state;
	const struct token_claims claims = { .ns = STR("ns"),
					     .service_account = STR("bob"),
					     .service_account_uid = STR("u"),
					     .secret_name = STR("s"),
					     .legacy = true };
	_cleanup_free_ char *token = issue(f, f->keys, &claims);
	struct token_claims c;

	assert_int_equal(token_verify(f->keys, str_of(token), STR_NULL, &f->arena, &c, NULL), 0);
	assert_true(c.legacy);
	assert_true(str_is(c.secret_name, "s"));
	assert_int_equal(c.expires_s, 0);
	assert_int_equal(verify(f, token, ISSUER), 0);
	assert_int_equal(verify(f, token, "vault"), -EPERM);
}

static char *rsa_pem(unsigned bits, bool private)
{
	EVP_PKEY *key = EVP_RSA_gen(bits);
	BIO *bio = BIO_new(BIO_s_mem());
	char *text, *pem;
	long n;

	if (private)
		PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	else
		PEM_write_bio_PUBKEY(bio, key);
	n = BIO_get_mem_data(bio, &text);
	pem = str_dup(str_make(text, (size_t)n));
	BIO_free(bio);
	EVP_PKEY_free(key);
	return pem;
}

/* RSA keys sign RS256 and are published as such; a token of one key is none of the other's, whatever its header. */
static void rsa_keys(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = rsa_pem(2048, true), *public = rsa_pem(2048, false), *small = rsa_pem(1024, true);
	_cleanup_buf_ struct buf jwks = BUF_INIT;
	const char *algorithms[TOKEN_ALGORITHMS];
	struct token_keys *keys = NULL, *none = NULL;
	_cleanup_free_ char *token = NULL, *mixed = NULL;
	struct token_claims c;
	struct json *set;

	assert_int_equal(token_keys_create(str_of(small), ISSUER, &none, NULL), -EBADMSG);
	assert_int_equal(token_keys_create(str_of(public), ISSUER, &none, NULL), -EBADMSG);
	assert_int_equal(token_keys_create(str_of(pem), ISSUER, &keys, NULL), 0);
	token = issue(f, keys, &f->claims);
	assert_int_equal(token_verify(keys, str_of(token), STR_NULL, &f->arena, &c, NULL), 0);
	assert_int_equal(verify(f, token, NULL), -EPERM);
	/* the other's signature under this key's header */
	mixed = mem_printf("%.*s%s", (int)strcspn(token, "."), token, strchr(f->token, '.'));
	assert_int_equal(token_verify(keys, str_of(mixed), STR_NULL, &f->arena, &c, NULL), -EPERM);
	token[strlen(token) - 8] ^= 1;
	assert_int_equal(token_verify(keys, str_of(token), STR_NULL, &f->arena, &c, NULL), -EPERM);
	/* one of each */
	assert_int_equal(token_keys_algorithms(keys, algorithms), 1);
	assert_string_equal(algorithms[0], "RS256");
	assert_int_equal(token_keys_add(keys, f->pem, NULL), 0);
	assert_int_equal(token_verify(keys, str_of(f->token), STR_NULL, &f->arena, &c, NULL), 0);
	assert_int_equal(token_keys_algorithms(keys, algorithms), 2);
	assert_string_equal(algorithms[0], "ES256");
	token_keys_write_jwks(keys, &jwks);
	assert_int_equal(json_parse(&f->arena, buf_str(&jwks), 0, &set, NULL), 0);
	assert_int_equal(json_count(json_get(set, "keys")), 2);
	json_foreach(k, json_get(set, "keys")) {
		bool rsa = str_is(json_get_str(k, "kty"), "RSA");

		assert_true(str_is(json_get_str(k, "alg"), rsa ? "RS256" : "ES256"));
		assert_int_equal(json_get_str(k, rsa ? "n" : "x").n, rsa ? 342 : 43);
		assert_true(!rsa || str_is(json_get_str(k, "e"), "AQAB"));
	}
	token_keys_destroy(keys);
}

static void bad_keys(void **state)
{
	static const char *const pems[] = { "", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" };
	struct token_keys *keys = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(pems); i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		assert_int_equal(token_keys_create(str_of(pems[i]), ISSUER, &keys, &err), -EBADMSG);
		assert_non_null(err.message);
	}
	assert_null(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_issued_verifies, setup, teardown),
		cmocka_unit_test_setup_teardown(rsa_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(audiences, setup, teardown),
		cmocka_unit_test_setup_teardown(times, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(any_change_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(other_algorithms, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(hmac_with_the_public_key, setup, teardown),
		cmocka_unit_test_setup_teardown(a_second_key_is_accepted, setup, teardown),
		cmocka_unit_test_setup_teardown(the_tokens_of_pods_are_extended, setup, teardown),
		cmocka_unit_test_setup_teardown(tokens_of_secrets, setup, teardown),
		cmocka_unit_test(bad_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
