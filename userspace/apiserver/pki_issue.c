/* SPDX-License-Identifier: Apache-2.0 */
/* Signing certificate requests. See pki_issue.h. */
#include "userspace/apiserver/pki_issue.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "userspace/api/csr.h"
#include "userspace/apiserver/openssl_util.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"

struct authority {
	X509 *cert;
	EVP_PKEY *key;
};

static void authority_finish(struct authority *a)
{
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
}

static int authority_init(struct authority *a, const struct pki_issue *issue, struct err *err)
{
	_cleanup_(openssl_free_bio) BIO *cert = BIO_new_mem_buf(issue->ca_cert.p, (int)issue->ca_cert.n);
	_cleanup_(openssl_free_bio) BIO *key = BIO_new_mem_buf(issue->ca_key.p, (int)issue->ca_key.n);

	if (!cert || !key)
		abort();
	a->cert = PEM_read_bio_X509(cert, NULL, NULL, NULL);
	a->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
	return a->cert && a->key ? 0 : openssl_error(err, "the cluster's authority");
}

/* ---- usages ---- */

static const struct {
	const char *usage;
	const char *key;      /* OpenSSL's word in keyUsage, or NULL */
	const char *extended; /* in extendedKeyUsage, or NULL */
} usages[] = {
	{ "signing", "digitalSignature", NULL },
	{ "digital signature", "digitalSignature", NULL },
	{ "content commitment", "nonRepudiation", NULL },
	{ "key encipherment", "keyEncipherment", NULL },
	{ "key agreement", "keyAgreement", NULL },
	{ "data encipherment", "dataEncipherment", NULL },
	{ "cert sign", "keyCertSign", NULL },
	{ "crl sign", "cRLSign", NULL },
	{ "encipher only", "encipherOnly", NULL },
	{ "decipher only", "decipherOnly", NULL },
	{ "any", NULL, "anyExtendedKeyUsage" },
	{ "server auth", NULL, "serverAuth" },
	{ "client auth", NULL, "clientAuth" },
	{ "code signing", NULL, "codeSigning" },
	{ "email protection", NULL, "emailProtection" },
	{ "s/mime", NULL, "emailProtection" },
	{ "ipsec end system", NULL, "1.3.6.1.5.5.7.3.5" },
	{ "ipsec tunnel", NULL, "1.3.6.1.5.5.7.3.6" },
	{ "ipsec user", NULL, "1.3.6.1.5.5.7.3.7" },
	{ "timestamping", NULL, "timeStamping" },
	{ "ocsp signing", NULL, "OCSPSigning" },
	{ "microsoft sgc", NULL, "msSGC" },
	{ "netscape sgc", NULL, "nsSGC" },
};

static void add_word(struct buf *list, const char *word)
{
	if (word)
		buf_printf(list, "%s%s", buf_len(list) ? "," : "", word);
}

static int collect_usages(const struct json *wanted, struct buf *key, struct buf *extended, struct err *err)
{
	json_foreach(u, wanted) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(usages) && !str_is(json_str(u), usages[i].usage); i++)
			;
		if (i == ARRAY_SIZE(usages))
			return err_set(err, -EINVAL, "unrecognized usage values: [\"%.*s\"]", STR_ARG(json_str(u)));
		add_word(key, usages[i].key);
		add_word(extended, usages[i].extended);
	}
	return 0;
}

/* ---- extensions ---- */

static int add_text(X509 *cert, X509 *issuer, int nid, const char *value, struct err *err)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok ? 0 : openssl_error(err, "certificate extension");
}

static void add_san(GENERAL_NAMES *sans, int type, struct str value)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *text = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();

	if (!name || !text || !ASN1_STRING_set(text, value.p, (int)value.n))
		abort();
	GENERAL_NAME_set0_value(name, type, text);
	if (!sk_GENERAL_NAME_push(sans, name))
		abort();
}

/* From the names as they were read, not as text of a configuration, in which names could hide others. */
static int add_sans(X509 *cert, const struct csr *csr, struct err *err)
{
	const struct {
		int type;
		const struct csr_names *names;
	} sorts[] = {
		{ GEN_DNS, &csr->dns }, { GEN_EMAIL, &csr->emails }, { GEN_IPADD, &csr->ips }, { GEN_URI, &csr->uris }
	};
	bool no_subject = X509_NAME_entry_count(X509_get_subject_name(cert)) == 0;
	GENERAL_NAMES *sans = sk_GENERAL_NAME_new_null();
	int ok = 1;

	for (size_t i = 0; i < ARRAY_SIZE(sorts); i++)
		for (size_t k = 0; k < sorts[i].names->n; k++)
			add_san(sans, sorts[i].type, sorts[i].names->items[k]);
	if (sk_GENERAL_NAME_num(sans))
		ok = X509_add1_ext_i2d(cert, NID_subject_alt_name, sans, no_subject, X509V3_ADD_DEFAULT);
	GENERAL_NAMES_free(sans);
	return ok == 1 ? 0 : openssl_error(err, "subject alternative names");
}

static int add_extensions(X509 *cert, X509 *issuer, const struct csr *csr, const struct json *wanted, struct err *err)
{
	_cleanup_buf_ struct buf key = BUF_INIT, extended = BUF_INIT;
	int r = collect_usages(wanted, &key, &extended, err);

	if (r == 0 && buf_len(&key)) {
		_cleanup_free_ char *value = mem_printf("critical,%s", buf_cstr(&key));

		r = add_text(cert, issuer, NID_key_usage, value, err);
	}
	if (r == 0 && buf_len(&extended))
		r = add_text(cert, issuer, NID_ext_key_usage, buf_cstr(&extended), err);
	if (r == 0)
		r = add_text(cert, issuer, NID_basic_constraints, "critical,CA:FALSE", err);
	if (r == 0 && X509_get0_subject_key_id(issuer))
		r = add_text(cert, issuer, NID_authority_key_identifier, "keyid", err);
	return r < 0 ? r : add_sans(cert, csr, err);
}

/* ---- times, the whole ---- */

static int set_times(X509 *cert, const struct authority *ca, int64_t asked_s, struct err *err)
{
	int64_t now_s = clock_real_ns() / NS_PER_S, life_s = asked_s ? asked_s : PKI_ISSUE_MAX_S, end_s, ca_end_s;
	struct tm tm;

	if (now_s < CERTIFICATE_EPOCH_FLOOR_S)
		now_s = CERTIFICATE_EPOCH_FLOOR_S;
	if (ASN1_TIME_to_tm(X509_get0_notAfter(ca->cert), &tm) != 1)
		return openssl_error(err, "the cluster's authority");
	ca_end_s = (int64_t)timegm(&tm);
	if (now_s >= ca_end_s)
		return err_set(err, -EKEYEXPIRED, "the signer has expired: NotAfter=%lld", (long long)ca_end_s);
	life_s = life_s > PKI_ISSUE_MAX_S ? PKI_ISSUE_MAX_S : life_s < PKI_ISSUE_MIN_S ? PKI_ISSUE_MIN_S : life_s;
	end_s = now_s + life_s - (life_s >= PKI_ISSUE_SHORT_S ? PKI_ISSUE_BACKDATE_S : 0);
	ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(now_s - PKI_ISSUE_BACKDATE_S));
	ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(end_s < ca_end_s ? end_s : ca_end_s));
	return 0;
}

static int set_subject(X509 *cert, const struct csr *csr, struct err *err)
{
	const unsigned char *at = (const unsigned char *)csr->der.p;
	X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)csr->der.n);
	int ok = request && X509_set_subject_name(cert, X509_REQ_get_subject_name(request)) == 1 &&
		 X509_set_pubkey(cert, X509_REQ_get0_pubkey(request)) == 1;

	X509_REQ_free(request);
	return ok ? 0 : openssl_error(err, "certificate request");
}

static struct str cert_pem(struct arena *arena, X509 *cert)
{
	_cleanup_(openssl_free_bio) BIO *bio = BIO_new(BIO_s_mem());
	char *p;
	long n;

	if (!bio || PEM_write_bio_X509(bio, cert) != 1)
		abort();
	n = BIO_get_mem_data(bio, &p);
	return arena_str(arena, str_make(p, (size_t)n));
}

int pki_issue(const struct pki_issue *issue, struct arena *arena, struct str *ret_pem, struct err *err)
{
	_cleanup_(authority_finish) struct authority ca = { 0 };
	_cleanup_(openssl_free_cert) X509 *cert = X509_new();
	struct csr csr;
	int r;

	if (!cert)
		abort();
	r = csr_parse(arena, issue->request, &csr, err);
	if (r == 0)
		r = authority_init(&ca, issue, err);
	if (r == 0)
		r = set_subject(cert, &csr, err);
	if (r == 0)
		r = set_times(cert, &ca, issue->expiration_s, err);
	if (r < 0)
		return r;
	X509_set_version(cert, X509_VERSION_3);
	openssl_set_serial(cert);
	X509_set_issuer_name(cert, X509_get_subject_name(ca.cert));
	r = add_extensions(cert, ca.cert, &csr, issue->usages, err);
	if (r < 0)
		return r;
	if (!X509_sign(cert, ca.key, EVP_PKEY_get_base_id(ca.key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()))
		return openssl_error(err, "sign certificate");
	*ret_pem = cert_pem(arena, cert);
	return 0;
}
