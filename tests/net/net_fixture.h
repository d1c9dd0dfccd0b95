/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of this room share: certificates made on the spot, and a loop on a thread of its own. */
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/str.h"

struct fixture_cert {
	X509 *cert;
	EVP_PKEY *key;
	struct str cert_pem, key_pem;
};

static inline struct str fixture_bio_text(BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	struct str s = str_of(strndup(p, (size_t)n));

	BIO_free(bio);
	return s;
}

static inline void fixture_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		abort();
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* issuer NULL: a CA of its own. valid_s < 0: expired. */
static inline struct fixture_cert fixture_cert(const struct fixture_cert *issuer, const char *cn, const char *org,
					       const char *usage, long valid_s)
{
	struct fixture_cert c = { .cert = X509_new(), .key = EVP_EC_gen("P-256") };
	X509_NAME *name;
	BIO *bio;
	static long serial = 1;

	X509_set_version(c.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(c.cert), -7200);
	X509_gmtime_adj(X509_getm_notAfter(c.cert), valid_s);
	X509_set_pubkey(c.cert, c.key);
	name = X509_get_subject_name(c.cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
	if (org)
		X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)org, -1, -1, 0);
	X509_set_issuer_name(c.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	fixture_add_extension(c.cert, issuer ? issuer->cert : c.cert, NID_basic_constraints,
			      issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (usage)
		fixture_add_extension(c.cert, issuer ? issuer->cert : c.cert, NID_ext_key_usage, usage);
	if (issuer)
		fixture_add_extension(c.cert, issuer->cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
	X509_sign(c.cert, issuer ? issuer->key : c.key, EVP_sha256());
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, c.cert);
	c.cert_pem = fixture_bio_text(bio);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, c.key, NULL, NULL, 0, NULL, NULL);
	c.key_pem = fixture_bio_text(bio);
	return c;
}

static inline void fixture_cert_finish(struct fixture_cert *c)
{
	X509_free(c->cert);
	EVP_PKEY_free(c->key);
	free((char *)c->cert_pem.p);
	free((char *)c->key_pem.p);
}
