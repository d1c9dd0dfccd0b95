/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL behind two small surfaces: contexts (tls.h) and connections over buffers (tls_conn.h).
 *
 * The error queue is per thread and not per connection: every call clears it first and asks SSL_get_error once.
 * Writes go into a growing buffer and so never block; the owner bounds it by when it writes.
 */
#include "userspace/net/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/net/tls_conn.h"

struct tls_context {
	SSL_CTX *ssl;
	unsigned refs;
	bool server, http2;
};

static int ssl_err(struct err *err, const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_set(err, -EINVAL, "%s: %s", what, reason ? reason : "unknown error");
}

/* ---- the BIO: reads the borrowed span, writes the owner's buffer ---- */

static int bio_read(BIO *bio, char *p, size_t n, size_t *ret_n)
{
	struct tls_conn *conn = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (!conn->in.n) {
		BIO_set_retry_read(bio);
		return 0;
	}
	if (n > conn->in.n)
		n = conn->in.n;
	memcpy(p, conn->in.p, n);
	conn->in.p += n;
	conn->in.n -= n;
	*ret_n = n;
	return 1;
}

static int bio_write(BIO *bio, const char *p, size_t n, size_t *ret_n)
{
	struct tls_conn *conn = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	buf_add(conn->out, p, n);
	*ret_n = n;
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;

	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "buffers");
		if (!method || !BIO_meth_set_read_ex(method, bio_read) || !BIO_meth_set_write_ex(method, bio_write) ||
		    !BIO_meth_set_ctrl(method, bio_ctrl))
			abort();
	}
	return method;
}

/* ---- contexts ---- */

static BIO *pem_bio(struct str pem)
{
	return BIO_new_mem_buf(pem.p, (int)pem.n);
}

static int use_certificate(SSL_CTX *ssl, struct str cert_pem, struct str key_pem, struct err *err)
{
	BIO *bio = pem_bio(cert_pem);
	X509 *cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	EVP_PKEY *key = NULL;
	int r = 0;

	if (!cert || SSL_CTX_use_certificate(ssl, cert) != 1)
		r = ssl_err(err, "TLS certificate");
	X509_free(cert);
	while (!r && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (SSL_CTX_add0_chain_cert(ssl, cert) != 1) {
			X509_free(cert);
			r = ssl_err(err, "TLS certificate chain");
		}
	ERR_clear_error(); /* the end of the PEM text counts as an error there */
	BIO_free(bio);
	if (r < 0)
		return r;
	bio = pem_bio(key_pem);
	key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	if (!key || SSL_CTX_use_PrivateKey(ssl, key) != 1 || SSL_CTX_check_private_key(ssl) != 1)
		r = ssl_err(err, "TLS private key");
	EVP_PKEY_free(key);
	BIO_free(bio);
	return r;
}

static int trust_authorities(SSL_CTX *ssl, struct str ca_pem, bool tell_clients, struct err *err)
{
	BIO *bio = pem_bio(ca_pem);
	X509 *cert;
	int n = 0, r = 0;

	while (!r && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), cert) != 1 ||
		    (tell_clients && SSL_CTX_add_client_CA(ssl, cert) != 1))
			r = ssl_err(err, "TLS certificate authority");
		X509_free(cert);
		n++;
	}
	BIO_free(bio);
	ERR_clear_error();
	if (!r && !n)
		r = err_set(err, -EINVAL, "TLS certificate authority: no certificate in the PEM text");
	return r;
}

/* The handshake goes on with a bad client certificate: the handler answers 401, which people can read. */
static int verify_client(X509_STORE_CTX *store, void *arg)
{
	if (X509_verify_cert(store) != 1 && X509_STORE_CTX_get_error(store) == X509_V_OK)
		X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
	ERR_clear_error();
	return 1;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in,
		       unsigned in_n, void *arg)
{
	static const unsigned char both[] = "\x02h2\x08http/1.1", one[] = "\x08http/1.1";
	struct tls_context *context = arg;
	unsigned char *chosen;
	int r;

	r = SSL_select_next_proto(&chosen, out_n, context->http2 ? both : one,
				  (unsigned)(context->http2 ? sizeof(both) : sizeof(one)) - 1, in, in_n);
	if (r != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static struct tls_context *context_create(bool server)
{
	struct tls_context *context = mem_new(struct tls_context);

	context->refs = 1;
	context->server = server;
	context->ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!context->ssl)
		abort();
	SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
	SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	return context;
}

int tls_server_create(const struct tls_server_options *options, struct tls_context **ret, struct err *err)
{
	struct tls_context *context = context_create(true);
	int r;

	context->http2 = options->http2;
	SSL_CTX_set_alpn_select_cb(context->ssl, choose_alpn, context);
	SSL_CTX_set_session_id_context(context->ssl, (const unsigned char *)"k3c", 3);
	SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF); /* tickets hold the state */
	SSL_CTX_set_num_tickets(context->ssl, 1);
	r = use_certificate(context->ssl, options->cert_pem, options->key_pem, err);
	if (!r && options->client_ca_pem.n) {
		r = trust_authorities(context->ssl, options->client_ca_pem, true, err);
		SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_cert_verify_callback(context->ssl, verify_client, NULL);
	}
	if (r < 0) {
		tls_context_destroy(context);
		return r;
	}
	*ret = context;
	return 0;
}

int tls_client_create(const struct tls_client_options *options, struct tls_context **ret, struct err *err)
{
	struct tls_context *context = context_create(false);
	int r = 0;

	SSL_CTX_set_verify(context->ssl, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (options->ca_pem.n)
		r = trust_authorities(context->ssl, options->ca_pem, false, err);
	else if (!options->insecure)
		SSL_CTX_set_default_verify_paths(context->ssl);
	if (!r && options->cert_pem.n)
		r = use_certificate(context->ssl, options->cert_pem, options->key_pem, err);
	if (r < 0) {
		tls_context_destroy(context);
		return r;
	}
	*ret = context;
	return 0;
}

void tls_context_destroy(struct tls_context *context)
{
	if (!context || --context->refs)
		return;
	SSL_CTX_free(context->ssl);
	free(context);
}

/* ---- connections ---- */

int tls_conn_init(struct tls_conn *conn, struct tls_context *context, struct buf *out, const char *server_name)
{
	BIO *bio;

	*conn = (struct tls_conn){ .out = out };
	ERR_clear_error();
	/* SSL_CTX is counted by its SSL objects; our own struct is reached through the ALPN callback only. */
	conn->ssl = SSL_new(context->ssl);
	bio = BIO_new(bio_method());
	if (!conn->ssl || !bio) {
		BIO_free(bio);
		SSL_free(conn->ssl);
		conn->ssl = NULL;
		ERR_clear_error();
		return -ENOMEM;
	}
	BIO_set_data(bio, conn);
	BIO_set_init(bio, 1);
	SSL_set_bio(conn->ssl, bio, bio);
	SSL_set_app_data(conn->ssl, context);
	context->refs++;
	if (context->server) {
		SSL_set_accept_state(conn->ssl);
	} else {
		SSL_set_connect_state(conn->ssl);
		if (server_name) {
			SSL_set_tlsext_host_name(conn->ssl, server_name);
			SSL_set1_host(conn->ssl, server_name);
		}
	}
	return 0;
}

void tls_conn_finish(struct tls_conn *conn)
{
	struct tls_context *context;

	if (!conn->ssl)
		return;
	context = SSL_get_app_data(conn->ssl);
	SSL_free(conn->ssl);
	conn->ssl = NULL;
	tls_context_destroy(context);
}

/* What a call that returned `r` <= 0 means: 0 wants input, or negative. */
static int explain(struct tls_conn *conn, int r)
{
	int why = SSL_get_error(conn->ssl, r);
	unsigned long code;

	if (why == SSL_ERROR_WANT_READ)
		return 0;
	if (why == SSL_ERROR_ZERO_RETURN)
		return -EPIPE;
	code = ERR_peek_error();
	conn->why = code ? ERR_reason_error_string(code) : NULL;
	if (!conn->why)
		conn->why = "TLS failure";
	ERR_clear_error();
	return -EPROTO;
}

int tls_conn_handshake(struct tls_conn *conn)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(conn->ssl);
	return r == 1 ? 1 : explain(conn, r);
}

ssize_t tls_conn_read(struct tls_conn *conn, void *p, size_t n)
{
	size_t got = 0;
	int r;

	ERR_clear_error();
	r = SSL_read_ex(conn->ssl, p, n, &got);
	return r == 1 ? (ssize_t)got : explain(conn, r);
}

int tls_conn_write(struct tls_conn *conn, const void *p, size_t n)
{
	size_t put = 0;
	int r;

	if (!n)
		return 0;
	ERR_clear_error();
	r = SSL_write_ex(conn->ssl, p, n, &put);
	if (r == 1 && put == n)
		return 0;
	r = explain(conn, r);
	return r ? r : -EPROTO;
}

void tls_conn_shutdown(struct tls_conn *conn)
{
	ERR_clear_error();
	if (SSL_is_init_finished(conn->ssl))
		SSL_shutdown(conn->ssl);
	ERR_clear_error();
}

bool tls_conn_is_http2(const struct tls_conn *conn)
{
	const unsigned char *protocol;
	unsigned n;

	SSL_get0_alpn_selected(conn->ssl, &protocol, &n);
	return n == 2 && memcmp(protocol, "h2", 2) == 0;
}

/* ---- who is there ---- */

static char *entry_text(X509_NAME *name, int at, struct arena *arena)
{
	ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
	unsigned char *utf8 = NULL;
	int n = ASN1_STRING_to_UTF8(&utf8, value);
	char *text = NULL;

	/* A zero byte inside would let "a\0b" pass for "a". */
	if (n >= 0 && !memchr(utf8, 0, (size_t)n))
		text = arena_strndup(arena, (char *)utf8, (size_t)n);
	OPENSSL_free(utf8);
	return text;
}

static void read_subject(X509 *cert, struct arena *arena, struct tls_peer *ret)
{
	X509_NAME *name = X509_get_subject_name(cert);
	int entries = X509_NAME_entry_count(name), at = -1;
	const char **orgs = arena_new_array(arena, const char *, (size_t)entries + 1);

	while ((at = X509_NAME_get_index_by_NID(name, NID_organizationName, at)) >= 0) {
		const char *org = entry_text(name, at, arena);

		if (org)
			orgs[ret->n_orgs++] = org;
	}
	ret->orgs = orgs;
	/* The last one counts, as in Go's pkix.Name */
	for (at = -1; (at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;)
		ret->cn = entry_text(name, at, arena);
	if (!ret->cn)
		ret->cn = "";
}

void tls_conn_peer(const struct tls_conn *conn, struct arena *arena, struct tls_peer *ret)
{
	X509 *cert = SSL_get1_peer_certificate(conn->ssl);
	long result = SSL_get_verify_result(conn->ssl);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	*ret = (struct tls_peer){ 0 };
	if (!cert)
		return;
	/* A resumed session brings its old result: the dates must hold now. */
	if (result == X509_V_OK && X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
		result = X509_V_ERR_CERT_HAS_EXPIRED;
	if (result != X509_V_OK) {
		ret->error = arena_strdup(arena, X509_verify_cert_error_string(result));
	} else {
		read_subject(cert, arena, ret);
		if (X509_digest(cert, EVP_sha256(), digest, &n) == 1) {
			char *hex = arena_alloc(arena, (size_t)n * 2 + 1);

			hex_encode(digest, n, hex);
			ret->sha256 = hex;
		}
	}
	X509_free(cert);
	ERR_clear_error();
}
