/* SPDX-License-Identifier: Apache-2.0 */
/* Reading PKCS#10. See csr.h. */
#include "userspace/api/csr.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define PEM_TYPE "CERTIFICATE REQUEST"

static void free_request(X509_REQ **request)
{
	X509_REQ_free(*request);
}

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

static void free_sans(GENERAL_NAMES **sans)
{
	GENERAL_NAMES_free(*sans);
}

static void free_extensions(STACK_OF(X509_EXTENSION) * *extensions)
{
	sk_X509_EXTENSION_pop_free(*extensions, X509_EXTENSION_free);
}

/* The DER of the first block. */
static int read_pem(struct arena *arena, struct str pem, struct str *ret, struct err *err)
{
	_cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	long n = 0;
	int r = 0;

	if (!bio)
		abort();
	if (PEM_read_bio(bio, &name, &header, &data, &n) != 1 || strcmp(name, PEM_TYPE) != 0)
		r = err_set(err, -EINVAL, "PEM block type must be " PEM_TYPE);
	else
		*ret = arena_str(arena, str_make((const char *)data, (size_t)n));
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_free(data);
	return r;
}

/* Names that hold a zero byte are read differently by different programs: refused. */
static int add_name(struct arena *arena, struct csr_names *names, size_t max, struct str s, struct err *err)
{
	if (memchr(s.p, 0, s.n))
		return err_set(err, -EINVAL, "x509: a name holds a zero byte");
	if (names->n >= max)
		return err_set(err, -EINVAL, "x509: more than %zu names of one sort", max);
	if (!names->items)
		names->items = arena_new_array(arena, struct str, max);
	names->items[names->n++] = arena_str(arena, s);
	return 0;
}

static int read_subject(struct arena *arena, X509_REQ *request, struct csr *c, struct err *err)
{
	X509_NAME *subject = X509_REQ_get_subject_name(request);
	struct csr_names cns = { 0 };
	int r = 0;

	for (int i = 0; i < X509_NAME_entry_count(subject) && r == 0; i++) {
		X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, i);
		int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)), n;
		unsigned char *text = NULL;

		if (nid != NID_commonName && nid != NID_organizationName)
			continue;
		n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
		if (n < 0)
			r = err_set(err, -EINVAL, "x509: the subject is no text");
		else if (nid == NID_commonName)
			r = add_name(arena, &cns, CSR_ORGS_MAX, str_make((char *)text, (size_t)n), err);
		else
			r = add_name(arena, &c->orgs, CSR_ORGS_MAX, str_make((char *)text, (size_t)n), err);
		OPENSSL_free(text);
	}
	if (cns.n)
		c->cn = cns.items[cns.n - 1];
	return r;
}

static int read_address(struct arena *arena, struct csr *c, struct str bytes, struct err *err)
{
	if (bytes.n != 4 && bytes.n != 16)
		return err_set(err, -EINVAL, "x509: cannot parse IP address of length %zu", bytes.n);
	if (c->ips.n >= CSR_NAMES_MAX)
		return err_set(err, -EINVAL, "x509: more than %d names of one sort", CSR_NAMES_MAX);
	if (!c->ips.items)
		c->ips.items = arena_new_array(arena, struct str, CSR_NAMES_MAX);
	c->ips.items[c->ips.n++] = arena_str(arena, bytes);
	return 0;
}

static int read_san(struct arena *arena, struct csr *c, const GENERAL_NAME *name, struct err *err)
{
	int type;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
	struct str bytes;

	if (type != GEN_DNS && type != GEN_EMAIL && type != GEN_URI && type != GEN_IPADD)
		return 0;
	bytes = str_make((const char *)ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
	switch (type) {
	case GEN_DNS:
		return add_name(arena, &c->dns, CSR_NAMES_MAX, bytes, err);
	case GEN_EMAIL:
		return add_name(arena, &c->emails, CSR_NAMES_MAX, bytes, err);
	case GEN_URI:
		return add_name(arena, &c->uris, CSR_NAMES_MAX, bytes, err);
	default:
		return read_address(arena, c, bytes, err);
	}
}

static int read_sans(struct arena *arena, X509_REQ *request, struct csr *c, struct err *err)
{
	_cleanup_(free_extensions) STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
	_cleanup_(free_sans) GENERAL_NAMES *sans = NULL;
	int critical = -1, r = 0;

	sans = X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL);
	if (!sans && critical != -1) /* there, but unreadable or there twice */
		return err_set(err, -EINVAL, "x509: invalid subject alternative names");
	for (int i = 0; i < sk_GENERAL_NAME_num(sans) && r == 0; i++)
		r = read_san(arena, c, sk_GENERAL_NAME_value(sans, i), err);
	return r;
}

static int check_signature(X509_REQ *request, struct err *err)
{
	EVP_PKEY *key = X509_REQ_get0_pubkey(request);

	if (!key)
		return err_set(err, -EINVAL, "x509: cannot verify signature: algorithm unimplemented");
	if (X509_REQ_verify(request, key) == 1)
		return 0;
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
		return err_set(err, -EINVAL, "crypto/rsa: verification error");
	case EVP_PKEY_EC:
		return err_set(err, -EINVAL, "x509: ECDSA verification failure");
	case EVP_PKEY_ED25519:
		return err_set(err, -EINVAL, "x509: Ed25519 verification failure");
	default:
		return err_set(err, -EINVAL, "x509: signature verification failure");
	}
}

static int parse(struct arena *arena, struct str pem, struct csr *c, struct err *err)
{
	_cleanup_(free_request) X509_REQ *request = NULL;
	const unsigned char *at;
	int r;

	if (pem.n > CSR_BYTES_MAX)
		return err_set(err, -EINVAL, "a request may not be longer than %d bytes", CSR_BYTES_MAX);
	r = read_pem(arena, pem, &c->der, err);
	if (r < 0)
		return r;
	at = (const unsigned char *)c->der.p;
	request = d2i_X509_REQ(NULL, &at, (long)c->der.n);
	if (!request)
		return err_set(err, -EINVAL, "asn1: structure error: not a certificate request");
	if (at != (const unsigned char *)c->der.p + c->der.n)
		return err_set(err, -EINVAL, "asn1: syntax error: trailing data");
	r = read_subject(arena, request, c, err);
	if (r == 0)
		r = read_sans(arena, request, c, err);
	return r < 0 ? r : check_signature(request, err);
}

int csr_parse(struct arena *arena, struct str pem, struct csr *ret, struct err *err)
{
	struct csr c = { 0 };
	int r = parse(arena, pem, &c, err);

	ERR_clear_error();
	if (r == 0)
		*ret = c;
	return r;
}

int csr_parse_object(struct arena *arena, const struct json *object, struct csr *ret, struct err *err)
{
	_cleanup_buf_ struct buf pem = BUF_INIT;
	struct str text = json_at_str(object, "spec.request");

	if (text.n > CSR_BYTES_MAX * 2)
		return err_set(err, -EINVAL, "a request may not be longer than %d bytes", CSR_BYTES_MAX);
	if (base64_decode(&pem, text, BASE64_STD) < 0)
		return err_set(err, -EINVAL, "illegal base64 data");
	return csr_parse(arena, buf_str(&pem), ret, err);
}

/* ---- certificates that signers give ---- */

static int check_block(const char *name, const char *header, const unsigned char *data, long n, struct err *err)
{
	const unsigned char *at = data;
	X509 *cert;

	if (strcmp(name, "CERTIFICATE") != 0)
		return err_set(err, -EINVAL, "only CERTIFICATE PEM blocks are allowed, found \"%s\"", name);
	if (*header)
		return err_set(err, -EINVAL, "no PEM block headers are permitted");
	if (n == 0)
		return err_set(err, -EINVAL, "found CERTIFICATE PEM block containing 0 certificates");
	cert = d2i_X509(NULL, &at, n);
	X509_free(cert);
	return cert && at == data + n ? 0 : err_set(err, -EINVAL, "x509: malformed certificate");
}

int csr_check_certificates(struct str pem, struct err *err)
{
	_cleanup_(free_bio) BIO *bio = NULL;
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	int r = 0, blocks = 0;
	long n;

	if (pem.n > CSR_CERTIFICATES_BYTES_MAX)
		return err_set(err, -EINVAL, "certificates may not be longer than %d bytes",
			       CSR_CERTIFICATES_BYTES_MAX);
	bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
	if (!bio)
		abort();
	while (r == 0 && PEM_read_bio(bio, &name, &header, &data, &n) == 1) {
		r = check_block(name, header, data, n, err);
		blocks++;
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	ERR_clear_error();
	if (r == 0 && blocks == 0)
		r = err_set(err, -EINVAL, "must contain at least one CERTIFICATE PEM block");
	return r;
}

int csr_certificate_end(struct str pem, int64_t *ret_end_s)
{
	_cleanup_(free_bio) BIO *bio = NULL;
	X509 *cert;
	struct tm tm;
	int ok;

	if (pem.n > CSR_CERTIFICATES_BYTES_MAX)
		return -EINVAL;
	bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
	cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	ok = cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1;
	X509_free(cert);
	ERR_clear_error();
	if (!ok)
		return -EINVAL;
	*ret_end_s = (int64_t)timegm(&tm);
	return 0;
}

/* ---- the rules of the signers ---- */

static bool has_usage(const struct json *usages, const char *usage)
{
	json_foreach(u, usages)
		if (str_is(json_str(u), usage))
			return true;
	return false;
}

/* Exactly these, "key encipherment" (only of use to RSA keys) being free. */
static bool are_usages(const struct json *usages, const char *auth)
{
	json_foreach(u, usages) {
		struct str s = json_str(u);

		if (!str_is(s, "digital signature") && !str_is(s, "key encipherment") && !str_is(s, auth))
			return false;
	}
	return has_usage(usages, "digital signature") && has_usage(usages, auth);
}

static bool of_nodes(const struct csr *csr)
{
	return csr->orgs.n == 1 && str_is(csr->orgs.items[0], "system:nodes");
}

static bool named_node(const struct csr *csr)
{
	return str_starts(csr->cn, STR("system:node:"));
}

static int check_kubelet_client(const struct csr *csr, const struct json *usages, struct err *err)
{
	if (!of_nodes(csr))
		return err_set(err, -EINVAL, "subject organization is not system:nodes");
	if (csr->dns.n)
		return err_set(err, -EINVAL, "DNS subjectAltNames are not allowed");
	if (csr->emails.n)
		return err_set(err, -EINVAL, "Email subjectAltNames are not allowed");
	if (csr->ips.n)
		return err_set(err, -EINVAL, "IP subjectAltNames are not allowed");
	if (csr->uris.n)
		return err_set(err, -EINVAL, "URI subjectAltNames are not allowed");
	if (!named_node(csr))
		return err_set(err, -EINVAL, "subject common name does not begin with system:node:");
	if (!are_usages(usages, "client auth"))
		return err_set(err, -EINVAL, "usages did not match [client auth digital signature key encipherment]");
	return 0;
}

static int check_kubelet_serving(const struct csr *csr, const struct json *usages, struct err *err)
{
	if (!of_nodes(csr))
		return err_set(err, -EINVAL, "subject organization is not system:nodes");
	if (!csr->dns.n && !csr->ips.n)
		return err_set(err, -EINVAL, "DNS or IP subjectAltName is required");
	if (csr->emails.n)
		return err_set(err, -EINVAL, "Email subjectAltNames are not allowed");
	if (csr->uris.n)
		return err_set(err, -EINVAL, "URI subjectAltNames are not allowed");
	if (!are_usages(usages, "server auth"))
		return err_set(err, -EINVAL, "usages did not match [digital signature key encipherment server auth]");
	if (!named_node(csr))
		return err_set(err, -EINVAL, "subject common name does not begin with system:node:");
	return 0;
}

static int check_client(const struct json *usages, struct err *err)
{
	json_foreach(u, usages) {
		struct str s = json_str(u);

		if (!str_is(s, "digital signature") && !str_is(s, "key encipherment") && !str_is(s, "client auth"))
			return err_set(err, -EINVAL, "invalid usage for client certificate: %.*s", STR_ARG(s));
	}
	if (!has_usage(usages, "client auth"))
		return err_set(err, -EINVAL, "missing required usage for client certificate: client auth");
	return 0;
}

int csr_check_signer(struct str signer, const struct csr *csr, const struct json *usages, struct err *err)
{
	if (str_is(signer, CSR_SIGNER_CLIENT))
		return check_client(usages, err);
	if (str_is(signer, CSR_SIGNER_KUBELET_CLIENT))
		return check_kubelet_client(csr, usages, err);
	if (str_is(signer, CSR_SIGNER_KUBELET_SERVING))
		return check_kubelet_serving(csr, usages, err);
	return 0;
}
