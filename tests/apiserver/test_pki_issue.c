/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that the authority signs for others: what was asked for, no longer than allowed, and by nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <time.h>

#include "tests/api/csr_sample.h"
#include "userspace/api/csr.h"
#include "userspace/apiserver/pki.h"
#include "userspace/apiserver/pki_issue.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"

struct fixture {
	char dir[64];
	struct arena arena;
	struct pki pki;
};

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	const char *sans[] = { "localhost", NULL };
	struct pki_options options = { .sans = sans };

	strcpy(f->dir, "/tmp/k3c-issue-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	options.dir = f->dir;
	assert_int_equal(pki_ensure(&options, &f->arena, &f->pki, NULL, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_remove_tree(f->dir, NULL);
	arena_finish(&f->arena);
	free(f);
	return 0;
}

static X509 *parse(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	assert_non_null(cert);
	return cert;
}

static int issue(struct fixture *f, const char *pem, const char *usages, int64_t seconds, struct str *ret,
		 struct err *err)
{
	struct pki_issue issue = {
		.ca_cert = f->pki.ca_cert, .ca_key = f->pki.ca_key, .request = str_of(pem), .expiration_s = seconds
	};
	struct json *list;

	assert_int_equal(json_parse(&f->arena, str_of(usages), 0, &list, NULL), 0);
	issue.usages = list;
	return pki_issue(&issue, &f->arena, ret, err);
}

static int64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;

	assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
	return (int64_t)timegm(&tm);
}

static void what_was_asked_for(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("system:node:n", "system:nodes", "DNS:n.example,IP:10.0.0.1,IP:::1");
	X509 *cert, *ca = parse(f->pki.ca_cert);
	EVP_PKEY *ca_key = X509_get_pubkey(ca);
	struct str out;
	char text[128];

	assert_int_equal(issue(f, pem, "[\"digital signature\",\"key encipherment\",\"server auth\"]", 0, &out, NULL),
			 0);
	assert_int_equal(csr_check_certificates(out, NULL), 0);
	cert = parse(out);
	assert_int_equal(X509_verify(cert, ca_key), 1);
	assert_int_equal(X509_check_issued(ca, cert), X509_V_OK);
	assert_int_equal(X509_check_ca(cert), 0);
	X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, text, sizeof(text));
	assert_string_equal(text, "system:node:n");
	assert_int_equal(X509_check_host(cert, "n.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_ip_asc(cert, "10.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(cert, "::1", 0), 1);
	assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
	assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER);
	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
}

static void how_long(void **state)
{
	static const struct {
		int64_t asked, life, cut;
	} rows[] = {
		{ 0, 365 * 86400, 300 },
		{ 600, 600, 0 },
		{ 1, 600, 0 },
		{ 8 * 3600, 8 * 3600, 300 },
		{ 8 * 3600 - 1, 8 * 3600 - 1, 0 },
		{ 500 * 86400, 365 * 86400, 300 },
	};
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", "devs", NULL);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t before = clock_real_ns() / NS_PER_S, after, end, begin;
		struct str out;
		X509 *cert;

		assert_int_equal(issue(f, pem, "[\"client auth\"]", rows[i].asked, &out, NULL), 0);
		after = clock_real_ns() / NS_PER_S;
		cert = parse(out);
		end = seconds_of(X509_get0_notAfter(cert));
		begin = seconds_of(X509_get0_notBefore(cert));
		assert_true(end >= before + rows[i].life - rows[i].cut && end <= after + rows[i].life - rows[i].cut);
		assert_true(begin >= before - 300 && begin <= after - 300);
		X509_free(cert);
	}
}

/* An authority that ends sooner than the certificate would. */
static void never_beyond_the_authority(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", NULL, NULL);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *ca = X509_new(), *cert;
	BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
	struct pki_issue issue = { .request = str_of(pem) };
	struct str out;
	char *p;
	long n;

	X509_set_version(ca, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(ca), -60);
	X509_gmtime_adj(X509_getm_notAfter(ca), 3600);
	X509_set_pubkey(ca, key);
	assert_true(X509_sign(ca, key, EVP_sha256()) > 0);
	PEM_write_bio_X509(cert_bio, ca);
	PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL);
	n = BIO_get_mem_data(cert_bio, &p);
	issue.ca_cert = str_make(p, (size_t)n);
	n = BIO_get_mem_data(key_bio, &p);
	issue.ca_key = str_make(p, (size_t)n);
	assert_int_equal(json_parse(&f->arena, STR("[\"client auth\"]"), 0, (struct json **)&issue.usages, NULL), 0);
	assert_int_equal(pki_issue(&issue, &f->arena, &out, NULL), 0);
	cert = parse(out);
	assert_int_equal(ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(ca)), 0);
	X509_free(cert);
	/* and none at all when it has ended */
	X509_gmtime_adj(X509_getm_notAfter(ca), -1);
	assert_true(X509_sign(ca, key, EVP_sha256()) > 0);
	BIO_reset(cert_bio);
	PEM_write_bio_X509(cert_bio, ca);
	n = BIO_get_mem_data(cert_bio, &p);
	issue.ca_cert = str_make(p, (size_t)n);
	assert_int_equal(pki_issue(&issue, &f->arena, &out, NULL), -EKEYEXPIRED);
	BIO_free(cert_bio);
	BIO_free(key_bio);
	X509_free(ca);
	EVP_PKEY_free(key);
}

static void refusals(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", NULL, NULL);
	_cleanup_err_ struct err err = ERR_INIT;
	struct str out;

	assert_int_equal(issue(f, pem, "[\"fly\"]", 0, &out, &err), -EINVAL);
	assert_string_equal(err.message, "unrecognized usage values: [\"fly\"]");
	assert_int_equal(issue(f, "junk", "[\"client auth\"]", 0, &out, NULL), -EINVAL);
	/* every usage there is can be written */
	assert_int_equal(issue(f, pem,
			       "[\"any\",\"cert sign\",\"client auth\",\"code signing\",\"content commitment\","
			       "\"crl sign\",\"data encipherment\",\"decipher only\",\"digital signature\","
			       "\"email protection\",\"encipher only\",\"ipsec end system\",\"ipsec tunnel\","
			       "\"ipsec user\",\"key agreement\",\"key encipherment\",\"microsoft sgc\","
			       "\"netscape sgc\",\"ocsp signing\",\"s/mime\",\"server auth\",\"signing\","
			       "\"timestamping\"]",
			       0, &out, NULL),
			 0);
}

/* Keys that wait beside the one that signs. */
static void old_keys_are_read(void **state)
{
	struct fixture *f = *state;
	const char *sans[] = { "localhost", NULL };
	struct pki_options options = { .dir = f->dir, .sans = sans };
	_cleanup_free_ char *from = mem_printf("%s/service-account.key", f->dir),
			    *to = mem_printf("%s/service-account-2025.key", f->dir);
	struct pki again;

	assert_int_equal(f->pki.n_sa_old_keys, 0);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(pki_ensure(&options, &f->arena, &again, NULL, NULL), 0);
	assert_int_equal(again.n_sa_old_keys, 1);
	assert_true(str_eq(again.sa_old_keys[0], f->pki.sa_key));
	assert_false(str_eq(again.sa_key, f->pki.sa_key));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(how_long, setup, teardown),
		cmocka_unit_test_setup_teardown(never_beyond_the_authority, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(old_keys_are_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
