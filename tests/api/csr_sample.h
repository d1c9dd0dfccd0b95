/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests for tests, made by OpenSSL. */
#pragma once

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/buf.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

/* PEM, heap. `orgs`: with commas between them; `sans` in OpenSSL's words ("DNS:a,IP:1.2.3.4"); both may be NULL. `key`
 * NULL: a fresh one. */
static inline char *csr_sample_with(EVP_PKEY *key, const char *cn, const char *orgs, const char *sans)
{
	EVP_PKEY *own = key ? key : EVP_EC_gen("P-256");
	X509_REQ *request = X509_REQ_new();
	X509_NAME *name = X509_NAME_new();
	BIO *bio = BIO_new(BIO_s_mem());
	struct str rest = str_of(orgs), org;
	char *text, *pem;
	long n;

	while (str_split(&rest, ',', &org))
		X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)org.p, (int)org.n, -1, 0);
	if (cn)
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
	X509_REQ_set_subject_name(request, name);
	X509_REQ_set_pubkey(request, own);
	if (sans) {
		X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, sans);
		STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();

		if (!ext)
			abort();
		sk_X509_EXTENSION_push(list, ext);
		X509_REQ_add_extensions(request, list);
		sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
	}
	if (!X509_REQ_sign(request, own, EVP_sha256()) || !PEM_write_bio_X509_REQ(bio, request))
		abort();
	n = BIO_get_mem_data(bio, &text);
	pem = mem_strndup(text, (size_t)n);
	BIO_free(bio);
	X509_NAME_free(name);
	X509_REQ_free(request);
	if (!key)
		EVP_PKEY_free(own);
	return pem;
}

static inline char *csr_sample(const char *cn, const char *orgs, const char *sans)
{
	return csr_sample_with(NULL, cn, orgs, sans);
}

/* The JSON of a CertificateSigningRequest, heap. `usages`: JSON text of the array. */
static inline char *csr_sample_object(const char *name, const char *pem, const char *signer, const char *usages,
				      const char *more_spec)
{
	struct buf b = BUF_INIT;
	char *text;

	base64_encode(&b, pem, strlen(pem), BASE64_STD);
	text = mem_printf("{\"apiVersion\":\"certificates.k8s.io/v1\",\"kind\":\"CertificateSigningRequest\","
			  "\"metadata\":{\"name\":\"%s\"},\"spec\":{\"request\":\"%s\",\"signerName\":\"%s\","
			  "\"usages\":%s%s}}",
			  name, buf_cstr(&b), signer, usages, more_spec);
	buf_finish(&b);
	return text;
}
