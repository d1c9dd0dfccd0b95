/* SPDX-License-Identifier: Apache-2.0 */
/* Service-account tokens: what is issued verifies, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
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
	struct token_claims claims;
	char *token;
};

static struct token_keys *keys_in(struct fixture *f, const char *name)
{
	_cleanup_free_ char *dir = mem_printf("%s/%s", f->dir, name);
	const char *sans[] = { "localhost", NULL };
	struct pki_options options = { .dir = dir, .sans = sans };
	_cleanup_err_ struct err err = ERR_INIT;
	struct token_keys *keys;
	struct pki pki;

	assert_int_equal(pki_ensure(&options, &f->arena, &pki, NULL, &err), 0);
	assert_int_equal(token_keys_create(pki.sa_key, ISSUER, &keys, &err), 0);
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
	f->keys = keys_in(f, "a");
	f->others = keys_in(f, "b");
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
		cmocka_unit_test_setup_teardown(audiences, setup, teardown),
		cmocka_unit_test_setup_teardown(times, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(any_change_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(other_algorithms, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed, setup, teardown),
		cmocka_unit_test(bad_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
