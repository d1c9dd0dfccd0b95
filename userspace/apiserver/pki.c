/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and certificates. See pki.h. */
#include "userspace/apiserver/pki.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "userspace/apiserver/openssl_util.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"

#define PKI_FILE_MAX (64 * 1024)
#define DAY_S 86400

static struct str pki_bio_text(struct arena *arena, BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);

	return arena_str(arena, str_make(p, (size_t)n));
}

static struct str pki_key_pem(struct arena *arena, EVP_PKEY *key)
{
	_cleanup_(openssl_free_bio) BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		abort();
	return pki_bio_text(arena, bio);
}

static struct str pki_cert_pem(struct arena *arena, X509 *cert)
{
	_cleanup_(openssl_free_bio) BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || PEM_write_bio_X509(bio, cert) != 1)
		abort();
	return pki_bio_text(arena, bio);
}

/* NULL with err when the text is no private key. */
static EVP_PKEY *pki_parse_key(struct str pem, const char *path, struct err *err)
{
	_cleanup_(openssl_free_bio) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

	if (!key)
		openssl_error(err, path);
	return key;
}

static X509 *pki_parse_cert(struct str pem, const char *path, struct err *err)
{
	_cleanup_(openssl_free_bio) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	if (!cert)
		openssl_error(err, path);
	return cert;
}

/* 1: read; 0: absent. */
static int pki_read(struct arena *arena, const char *path, struct str *ret, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int r;

	if (!fs_exists(path))
		return 0;
	r = fs_read(path, PKI_FILE_MAX, &b, err);
	if (r < 0)
		return r;
	*ret = arena_str(arena, buf_str(&b));
	return 1;
}

static int pki_ensure_key(struct arena *arena, const char *path, struct str *ret_pem, EVP_PKEY **ret, struct err *err)
{
	int r = pki_read(arena, path, ret_pem, err);

	if (r < 0)
		return r;
	if (r > 0) {
		*ret = pki_parse_key(*ret_pem, path, err);
		return *ret ? 0 : -EBADMSG;
	}
	*ret = EVP_EC_gen("P-256");
	if (!*ret)
		return openssl_error(err, "make a P-256 key");
	*ret_pem = pki_key_pem(arena, *ret);
	r = fs_write_atomic(path, ret_pem->p, ret_pem->n, 0600, err);
	if (r < 0) {
		EVP_PKEY_free(*ret);
		*ret = NULL;
	}
	return r;
}

struct pki_subject {
	const char *cn, *org;
	bool ca, server;
	const char *const *sans;
	int days;
};

static int pki_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return -EINVAL;
	ok = X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok ? 0 : -EINVAL;
}

static bool pki_is_address(const char *san)
{
	unsigned char b[16];

	return inet_pton(AF_INET, san, b) == 1 || inet_pton(AF_INET6, san, b) == 1;
}

static int pki_add_extensions(X509 *cert, X509 *issuer, const struct pki_subject *s)
{
	_cleanup_buf_ struct buf sans = BUF_INIT;
	int r;

	r = pki_add_extension(cert, issuer, NID_basic_constraints, s->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (r == 0)
		r = pki_add_extension(cert, issuer, NID_key_usage,
				      s->ca ? "critical,digitalSignature,keyEncipherment,keyCertSign"
					    : "critical,digitalSignature,keyEncipherment");
	if (r == 0)
		r = pki_add_extension(cert, issuer, NID_subject_key_identifier, "hash");
	if (r == 0 && !s->ca)
		r = pki_add_extension(cert, issuer, NID_authority_key_identifier, "keyid");
	if (r == 0 && !s->ca)
		r = pki_add_extension(cert, issuer, NID_ext_key_usage, s->server ? "serverAuth" : "clientAuth");
	for (const char *const *san = s->sans; san && *san; san++)
		buf_printf(&sans, "%s%s:%s", buf_len(&sans) ? "," : "", pki_is_address(*san) ? "IP" : "DNS", *san);
	if (r == 0 && buf_len(&sans))
		r = pki_add_extension(cert, issuer, NID_subject_alt_name, buf_cstr(&sans));
	return r;
}

static X509 *pki_sign(const struct pki_subject *s, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, struct err *err)
{
	_cleanup_(openssl_free_cert) X509 *cert = X509_new();
	int64_t now_s = clock_real_ns() / NS_PER_S;
	X509_NAME *name;

	if (now_s < CERTIFICATE_EPOCH_FLOOR_S)
		now_s = CERTIFICATE_EPOCH_FLOOR_S;
	if (!cert)
		abort();
	openssl_set_serial(cert);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_TIME_set(X509_getm_notBefore(cert), 0);
	ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(now_s + (int64_t)s->days * DAY_S));
	X509_set_pubkey(cert, key);
	name = X509_get_subject_name(cert);
	if (s->org)
		X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)s->org, -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)s->cn, -1, -1, 0);
	X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : name);
	if (pki_add_extensions(cert, issuer ? issuer : cert, s) < 0 ||
	    !X509_sign(cert, issuer ? issuer_key : key, EVP_sha256())) {
		openssl_error(err, "sign certificate");
		return NULL;
	}
	return TAKE_PTR(cert);
}

static bool pki_names_all(X509 *cert, const char *const *sans)
{
	for (; sans && *sans; sans++) {
		int ok = pki_is_address(*sans) ? X509_check_ip_asc(cert, *sans, 0)
					       : X509_check_host(cert, *sans, 0, 0, NULL);

		if (ok != 1)
			return false;
	}
	return true;
}

static bool pki_fresh(X509 *cert, EVP_PKEY *key, EVP_PKEY *issuer_key)
{
	time_t limit = (time_t)(clock_real_ns() / NS_PER_S + (int64_t)PKI_RENEW_DAYS * DAY_S);

	return X509_cmp_time(X509_get0_notAfter(cert), &limit) > 0 && X509_check_private_key(cert, key) == 1 &&
	       X509_verify(cert, issuer_key) == 1;
}

struct pki_authority {
	X509 *cert;
	EVP_PKEY *key;
};

static int pki_ensure_ca(struct arena *arena, const char *dir, struct pki *pki, struct pki_authority *ret,
			 struct err *err)
{
	const char *cert_path = arena_printf(arena, "%s/ca.crt", dir),
		   *key_path = arena_printf(arena, "%s/ca.key", dir);
	const struct pki_subject subject = { .cn = "k3c-bpf-ca", .ca = true, .days = PKI_CA_DAYS };
	int r = pki_ensure_key(arena, key_path, &pki->ca_key, &ret->key, err);

	if (r < 0)
		return r;
	r = pki_read(arena, cert_path, &pki->ca_cert, err);
	if (r < 0)
		return r;
	if (r > 0) {
		ret->cert = pki_parse_cert(pki->ca_cert, cert_path, err);
		if (!ret->cert)
			return -EBADMSG;
		if (X509_check_private_key(ret->cert, ret->key) != 1)
			return err_set(err, -EBADMSG, "%s and %s do not belong together", cert_path, key_path);
		return 0;
	}
	ret->cert = pki_sign(&subject, ret->key, NULL, NULL, err);
	if (!ret->cert)
		return -EIO;
	pki->ca_cert = pki_cert_pem(arena, ret->cert);
	return fs_write_atomic(cert_path, pki->ca_cert.p, pki->ca_cert.n, 0644, err);
}

static int pki_ensure_leaf(struct arena *arena, const char *dir, const char *name, const struct pki_subject *subject,
			   const struct pki_authority *ca, struct str *ret_cert, struct str *ret_key, bool *ret_changed,
			   struct err *err)
{
	const char *cert_path = arena_printf(arena, "%s/%s.crt", dir, name);
	_cleanup_(openssl_free_key) EVP_PKEY *key = NULL;
	_cleanup_(openssl_free_cert) X509 *cert = NULL;
	int r;

	r = pki_ensure_key(arena, arena_printf(arena, "%s/%s.key", dir, name), ret_key, &key, err);
	if (r < 0)
		return r;
	r = pki_read(arena, cert_path, ret_cert, err);
	if (r < 0)
		return r;
	if (r > 0) {
		cert = pki_parse_cert(*ret_cert, cert_path, err);
		if (!cert)
			return -EBADMSG;
		if (pki_fresh(cert, key, ca->key) && pki_names_all(cert, subject->sans))
			return 0;
		X509_free(cert);
	}
	cert = pki_sign(subject, key, ca->cert, ca->key, err);
	if (!cert)
		return -EIO;
	if (ret_changed)
		*ret_changed = true;
	*ret_cert = pki_cert_pem(arena, cert);
	return fs_write_atomic(cert_path, ret_cert->p, ret_cert->n, 0644, err);
}

static int pki_by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of their names, so that the published set does not change from start to start. */
static int pki_read_old_keys(struct arena *arena, const char *dir, struct pki *pki, struct err *err)
{
	static const char *const patterns[] = { "service-account-*.key", "service-account-*.pub" };
	const char *names[PKI_OLD_KEYS_MAX];
	DIR *d = opendir(dir);
	struct dirent *entry;
	size_t n = 0;
	int r = 0;

	if (!d)
		return err_set(err, -errno, "open %s: %s", dir, strerror(errno));
	while (r == 0 && (entry = readdir(d))) {
		if (fnmatch(patterns[0], entry->d_name, 0) != 0 && fnmatch(patterns[1], entry->d_name, 0) != 0)
			continue;
		if (n == PKI_OLD_KEYS_MAX)
			r = err_set(err, -E2BIG, "%s: more than %d old service-account keys", dir, PKI_OLD_KEYS_MAX);
		else
			names[n++] = arena_printf(arena, "%s/%s", dir, entry->d_name);
	}
	closedir(d);
	qsort(names, n, sizeof(names[0]), pki_by_name);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = pki_read(arena, names[i], &pki->sa_old_keys[pki->n_sa_old_keys++], err);
		r = r > 0 ? 0 : r;
	}
	return r;
}

int pki_ensure(const struct pki_options *options, struct arena *arena, struct pki *ret, bool *ret_changed,
	       struct err *err)
{
	const struct pki_subject server = {
		.cn = "k3c-bpf", .server = true, .sans = options->sans, .days = PKI_LEAF_DAYS
	};
	const struct pki_subject admin = { .cn = "system:admin", .org = "system:masters", .days = PKI_LEAF_DAYS };
	_cleanup_(openssl_free_key) EVP_PKEY *sa_key = NULL;
	struct pki_authority ca = { 0 };
	struct pki pki = { 0 };
	bool changed = false;
	int r;

	r = fs_mkdirs(options->dir, 0700, err);
	if (r == 0)
		r = pki_ensure_ca(arena, options->dir, &pki, &ca, err);
	if (r == 0)
		r = pki_ensure_leaf(arena, options->dir, "server", &server, &ca, &pki.server_cert, &pki.server_key,
				    &changed, err);
	if (r == 0)
		r = pki_ensure_leaf(arena, options->dir, "admin", &admin, &ca, &pki.admin_cert, &pki.admin_key, NULL,
				    err);
	if (r == 0)
		r = pki_ensure_key(arena, arena_printf(arena, "%s/service-account.key", options->dir), &pki.sa_key,
				   &sa_key, err);
	if (r == 0)
		r = pki_read_old_keys(arena, options->dir, &pki, err);
	X509_free(ca.cert);
	EVP_PKEY_free(ca.key);
	if (r < 0)
		return r;
	*ret = pki;
	if (ret_changed)
		*ret_changed = changed;
	return 0;
}

static void pki_add_data(struct buf *out, const char *indent_key, struct str pem)
{
	buf_add_cstr(out, indent_key);
	base64_encode(out, pem.p, pem.n, BASE64_STD);
	buf_add_char(out, '\n');
}

int pki_write_kubeconfig(const struct pki *pki, const char *server_url, const char *path, unsigned mode,
			 struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT, old = BUF_INIT;

	buf_add_cstr(&b, "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n");
	buf_printf(&b, "    server: %s\n", server_url);
	pki_add_data(&b, "    certificate-authority-data: ", pki->ca_cert);
	buf_add_cstr(&b, "contexts:\n- name: default\n  context:\n    cluster: default\n    user: default\n"
			 "current-context: default\nusers:\n- name: default\n  user:\n");
	pki_add_data(&b, "    client-certificate-data: ", pki->admin_cert);
	pki_add_data(&b, "    client-key-data: ", pki->admin_key);
	/* Kind to flash: an unchanged file is not written again. */
	if (fs_exists(path) && fs_read(path, PKI_FILE_MAX, &old, NULL) == 0 && str_eq(buf_str(&old), buf_str(&b)) &&
	    chmod(path, mode) == 0)
		return 0;
	return fs_write_atomic(path, buf_str(&b).p, buf_len(&b), mode, err);
}

size_t pki_list(const char *dir, struct pki_certificate *ret, size_t max)
{
	static const char *const names[] = { "ca", "server", "admin" };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && n < max; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_(openssl_free_cert) X509 *cert = NULL;
		struct str pem;
		struct tm tm;

		if (pki_read(&arena, arena_printf(&arena, "%s/%s.crt", dir, names[i]), &pem, NULL) <= 0)
			continue;
		cert = pki_parse_cert(pem, names[i], NULL);
		if (!cert || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
			continue;
		snprintf(ret[n].name, sizeof(ret[n].name), "%s", names[i]);
		ret[n++].not_after_real_ns = (int64_t)timegm(&tm) * NS_PER_S;
	}
	return n;
}
