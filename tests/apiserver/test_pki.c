/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate authority: made once, kept, renewed when it must be, and never written over. Certificates are judged
 * by OpenSSL's own verification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "userspace/apiserver/pki.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

static const char *const sans[] = { "localhost", "kubernetes.default.svc", "127.0.0.1", "10.43.0.1", "::1", NULL };

struct fixture {
	char dir[64], tls[80];
	struct arena arena;
};

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);

	strcpy(f->dir, "/tmp/k3c-pki-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->tls, sizeof(f->tls), "%s/tls", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *command = mem_printf("rm -rf %s", f->dir);

	arena_finish(&f->arena);
	free(f);
	return system(command);
}

static struct pki ensure(struct fixture *f, const char *const *names, bool *changed)
{
	struct pki_options options = { .dir = f->tls, .sans = names };
	_cleanup_err_ struct err err = ERR_INIT;
	struct pki pki = { 0 };

	if (pki_ensure(&options, &f->arena, &pki, changed, &err) < 0)
		fail_msg("%s", err_message(&err));
	return pki;
}

static X509 *cert_of(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	assert_non_null(cert);
	return cert;
}

/* The verdict of a TLS peer that trusts this authority. */
static bool trusted(struct str ca_pem, struct str leaf_pem, int purpose, const char *host)
{
	X509 *ca = cert_of(ca_pem), *leaf = cert_of(leaf_pem);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	bool ok;

	X509_STORE_add_cert(store, ca);
	X509_STORE_CTX_init(ctx, store, leaf, NULL);
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_purpose(param, purpose);
	if (host && strchr("0123456789:", host[0]))
		X509_VERIFY_PARAM_set1_ip_asc(param, host);
	else if (host)
		X509_VERIFY_PARAM_set1_host(param, host, 0);
	ok = X509_verify_cert(ctx) == 1;
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	X509_free(leaf);
	X509_free(ca);
	return ok;
}

static void made_once_and_kept(void **state)
{
	struct fixture *f = *state;
	bool changed = false;
	struct pki first = ensure(f, sans, &changed), again;
	struct stat st;

	assert_true(changed);
	again = ensure(f, sans, &changed);
	assert_false(changed);
	assert_true(str_eq(first.ca_cert, again.ca_cert) && str_eq(first.ca_key, again.ca_key));
	assert_true(str_eq(first.server_cert, again.server_cert) && str_eq(first.admin_cert, again.admin_cert));
	assert_true(str_eq(first.sa_key, again.sa_key));
	assert_int_equal(stat(f->tls, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (const char *const *name =
		     (const char *const[]){ "ca.key", "server.key", "admin.key", "service-account.key", NULL };
	     *name; name++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", f->tls, *name);

		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 077, 0);
	}
}

static void peers_trust_them(void **state)
{
	struct fixture *f = *state;
	struct pki pki = ensure(f, sans, NULL);
	X509 *admin = cert_of(pki.admin_cert), *server = cert_of(pki.server_cert);
	char text[256];
	struct tm tm;

	for (size_t i = 0; sans[i]; i++)
		assert_true(trusted(pki.ca_cert, pki.server_cert, X509_PURPOSE_SSL_SERVER, sans[i]));
	assert_false(trusted(pki.ca_cert, pki.server_cert, X509_PURPOSE_SSL_SERVER, "example.com"));
	assert_false(trusted(pki.ca_cert, pki.server_cert, X509_PURPOSE_SSL_SERVER, "10.43.0.2"));
	assert_true(trusted(pki.ca_cert, pki.admin_cert, X509_PURPOSE_SSL_CLIENT, NULL));
	assert_false(trusted(pki.ca_cert, pki.admin_cert, X509_PURPOSE_SSL_SERVER, NULL));
	X509_NAME_get_text_by_NID(X509_get_subject_name(admin), NID_organizationName, text, sizeof(text));
	assert_string_equal(text, "system:masters");
	/* clocks at the edge start in 1970 */
	assert_int_equal(ASN1_TIME_to_tm(X509_get0_notBefore(server), &tm), 1);
	assert_int_equal(tm.tm_year, 70);
	assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(server)), EVP_PKEY_EC);
	X509_free(admin);
	X509_free(server);
}

static void new_names_new_certificate(void **state)
{
	static const char *const more[] = { "localhost", "127.0.0.1", "edge.example", NULL };
	struct fixture *f = *state;
	struct pki first = ensure(f, sans, NULL), again;
	bool changed = false;

	again = ensure(f, more, &changed);
	assert_true(changed);
	assert_true(str_eq(first.ca_cert, again.ca_cert));
	assert_true(trusted(first.ca_cert, again.server_cert, X509_PURPOSE_SSL_SERVER, "edge.example"));
	/* fewer names are no reason */
	ensure(f, (const char *const[]){ "localhost", NULL }, &changed);
	assert_false(changed);
}

static void damage_is_an_error(void **state)
{
	static const char *const names[] = { "ca.crt", "ca.key", "service-account.key" };
	struct fixture *f = *state;
	struct pki_options options = { .dir = f->tls, .sans = sans };

	ensure(f, sans, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", f->tls, names[i]), *aside = mem_printf("%s.good", path);
		_cleanup_err_ struct err err = ERR_INIT;
		struct pki pki;
		FILE *out;
		char text[16] = "";

		assert_int_equal(rename(path, aside), 0);
		out = fopen(path, "w");
		fputs("damaged", out);
		fclose(out);
		assert_true(pki_ensure(&options, &f->arena, &pki, NULL, &err) < 0);
		assert_non_null(strstr(err_message(&err), names[i]));
		out = fopen(path, "r");
		assert_non_null(fgets(text, sizeof(text), out));
		fclose(out);
		assert_string_equal(text, "damaged");
		assert_int_equal(rename(aside, path), 0);
	}
	ensure(f, sans, NULL);
}

static void kubeconfig_and_list(void **state)
{
	struct fixture *f = *state;
	struct pki pki = ensure(f, sans, NULL);
	_cleanup_free_ char *path = mem_printf("%s/kubeconfig", f->dir);
	struct pki_certificate list[8];
	size_t n = pki_list(f->tls, list, ARRAY_SIZE(list));
	char text[16384] = "";
	struct stat st;
	FILE *in;

	assert_int_equal(pki_write_kubeconfig(&pki, "https://127.0.0.1:6443", path, 0600, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	in = fopen(path, "r");
	assert_true(fread(text, 1, sizeof(text) - 1, in) > 0);
	fclose(in);
	assert_non_null(strstr(text, "server: https://127.0.0.1:6443"));
	assert_non_null(strstr(text, "client-key-data: "));
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++) {
		int64_t days = (list[i].not_after_real_ns - clock_real_ns()) / (86400 * NS_PER_S);

		assert_in_range(days, PKI_LEAF_DAYS - 2, PKI_CA_DAYS);
	}
	assert_int_equal(pki_list("/nowhere", list, ARRAY_SIZE(list)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(made_once_and_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(peers_trust_them, setup, teardown),
		cmocka_unit_test_setup_teardown(new_names_new_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(kubeconfig_and_list, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
