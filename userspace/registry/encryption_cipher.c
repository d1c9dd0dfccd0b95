/* SPDX-License-Identifier: Apache-2.0 */
/* AES by OpenSSL, XSalsa20 with Poly1305 by libsodium, which is loaded when a configuration asks for it. */
#include "userspace/registry/encryption_cipher.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sodium/core.h>
#include <sodium/crypto_secretbox.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define GCM_NONCE 12
#define GCM_TAG 16
#define CBC_BLOCK 16
#define SODIUM_LIBRARY "libsodium.so.23" /* the version of the interface that the headers describe */

static void context_freep(EVP_CIPHER_CTX **c)
{
	EVP_CIPHER_CTX_free(*c);
}

/* ---- aesgcm: nonce, ciphertext, tag ---- */

static const EVP_CIPHER *gcm_of(const struct encryption_key *key)
{
	return key->secret_len == 16   ? EVP_aes_128_gcm()
	       : key->secret_len == 24 ? EVP_aes_192_gcm()
				       : EVP_aes_256_gcm();
}

static int gcm_seal(const struct encryption_key *key, struct str bound, struct str plain, struct buf *out)
{
	_cleanup_(context_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t *nonce = (uint8_t *)buf_reserve(out, GCM_NONCE + plain.n + GCM_TAG), *at = nonce + GCM_NONCE;
	int n = 0, last = 0;

	if (plain.n > INT_MAX / 2 || bound.n > INT_MAX / 2)
		return -E2BIG;
	random_bytes(nonce, GCM_NONCE);
	if (!c || EVP_EncryptInit_ex(c, gcm_of(key), NULL, key->secret, nonce) != 1 ||
	    EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)bound.p, (int)bound.n) != 1 ||
	    EVP_EncryptUpdate(c, at, &n, (const uint8_t *)plain.p, (int)plain.n) != 1 ||
	    EVP_EncryptFinal_ex(c, at + n, &last) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, GCM_TAG, at + plain.n) != 1)
		return -EIO;
	buf_commit(out, GCM_NONCE + plain.n + GCM_TAG);
	return 0;
}

static int gcm_open(const struct encryption_key *key, struct str bound, struct str sealed, struct buf *out)
{
	_cleanup_(context_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	const uint8_t *nonce = (const uint8_t *)sealed.p, *text = nonce + GCM_NONCE;
	uint8_t tag[GCM_TAG], *at;
	int n = 0, last = 0;
	size_t len;

	if (sealed.n < GCM_NONCE + GCM_TAG || sealed.n > INT_MAX / 2 || bound.n > INT_MAX / 2)
		return -EBADMSG;
	len = sealed.n - GCM_NONCE - GCM_TAG;
	memcpy(tag, text + len, GCM_TAG);
	at = (uint8_t *)buf_reserve(out, len + CBC_BLOCK);
	if (!c || EVP_DecryptInit_ex(c, gcm_of(key), NULL, key->secret, nonce) != 1 ||
	    EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)bound.p, (int)bound.n) != 1 ||
	    EVP_DecryptUpdate(c, at, &n, text, (int)len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, GCM_TAG, tag) != 1 ||
	    EVP_DecryptFinal_ex(c, at + n, &last) != 1)
		return -EBADMSG;
	buf_commit(out, len);
	return 0;
}

/* ---- aescbc: IV, padded ciphertext; nothing is authenticated ---- */

static const EVP_CIPHER *cbc_of(const struct encryption_key *key)
{
	return key->secret_len == 16   ? EVP_aes_128_cbc()
	       : key->secret_len == 24 ? EVP_aes_192_cbc()
				       : EVP_aes_256_cbc();
}

static int cbc_seal(const struct encryption_key *key, struct str bound, struct str plain, struct buf *out)
{
	_cleanup_(context_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t *iv = (uint8_t *)buf_reserve(out, CBC_BLOCK + plain.n + CBC_BLOCK), *at = iv + CBC_BLOCK;
	int n = 0, last = 0;

	(void)bound;
	if (plain.n > INT_MAX / 2)
		return -E2BIG;
	random_bytes(iv, CBC_BLOCK);
	if (!c || EVP_EncryptInit_ex(c, cbc_of(key), NULL, key->secret, iv) != 1 ||
	    EVP_EncryptUpdate(c, at, &n, (const uint8_t *)plain.p, (int)plain.n) != 1 ||
	    EVP_EncryptFinal_ex(c, at + n, &last) != 1)
		return -EIO;
	buf_commit(out, CBC_BLOCK + (size_t)n + (size_t)last);
	return 0;
}

static int cbc_open(const struct encryption_key *key, struct str bound, struct str sealed, struct buf *out)
{
	_cleanup_(context_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	const uint8_t *iv = (const uint8_t *)sealed.p;
	int n = 0, last = 0;
	uint8_t *at;

	(void)bound;
	if (sealed.n < 2 * CBC_BLOCK || sealed.n % CBC_BLOCK != 0 || sealed.n > INT_MAX / 2)
		return -EBADMSG;
	at = (uint8_t *)buf_reserve(out, sealed.n);
	if (!c || EVP_DecryptInit_ex(c, cbc_of(key), NULL, key->secret, iv) != 1 ||
	    EVP_DecryptUpdate(c, at, &n, iv + CBC_BLOCK, (int)(sealed.n - CBC_BLOCK)) != 1 ||
	    EVP_DecryptFinal_ex(c, at + n, &last) != 1)
		return -EBADMSG;
	buf_commit(out, (size_t)n + (size_t)last);
	return 0;
}

/* ---- secretbox: nonce, tag and ciphertext ---- */

static __typeof__(crypto_secretbox_easy) *sym_easy;
static __typeof__(crypto_secretbox_open_easy) *sym_open_easy;

/* At start-up, before there are threads. */
static int secretbox_prepare(struct err *err)
{
	__typeof__(sodium_init) *init;
	void *handle;

	if (sym_open_easy)
		return 0;
	handle = dlopen(SODIUM_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return err_set(err, -ENOENT, "secretbox needs %s: %s", SODIUM_LIBRARY, dlerror());
	*(void **)&init = dlsym(handle, "sodium_init");
	*(void **)&sym_easy = dlsym(handle, "crypto_secretbox_easy");
	if (!init || !sym_easy || !dlsym(handle, "crypto_secretbox_open_easy") || init() < 0)
		return err_set(err, -ENOENT, "%s does not have what secretbox needs", SODIUM_LIBRARY);
	*(void **)&sym_open_easy = dlsym(handle, "crypto_secretbox_open_easy");
	return 0;
}

static int secretbox_seal(const struct encryption_key *key, struct str bound, struct str plain, struct buf *out)
{
	const size_t total = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + plain.n;
	uint8_t *nonce = (uint8_t *)buf_reserve(out, total);

	(void)bound;
	random_bytes(nonce, crypto_secretbox_NONCEBYTES);
	if (sym_easy(nonce + crypto_secretbox_NONCEBYTES, (const uint8_t *)plain.p, plain.n, nonce, key->secret) != 0)
		return -EIO;
	buf_commit(out, total);
	return 0;
}

static int secretbox_open(const struct encryption_key *key, struct str bound, struct str sealed, struct buf *out)
{
	const uint8_t *nonce = (const uint8_t *)sealed.p;
	const size_t head = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES;
	uint8_t *at;

	(void)bound;
	if (sealed.n < head)
		return -EBADMSG;
	at = (uint8_t *)buf_reserve(out, sealed.n - head + 1);
	if (sym_open_easy(at, nonce + crypto_secretbox_NONCEBYTES, sealed.n - crypto_secretbox_NONCEBYTES, nonce,
			  key->secret) != 0)
		return -EBADMSG;
	buf_commit(out, sealed.n - head);
	return 0;
}

const struct encryption_cipher ENCRYPTION_AESGCM = {
	.name = "aesgcm",
	.lengths = { 16, 24, 32 },
	.seal = gcm_seal,
	.open = gcm_open,
};
const struct encryption_cipher ENCRYPTION_AESCBC = {
	.name = "aescbc",
	.lengths = { 16, 24, 32 },
	.seal = cbc_seal,
	.open = cbc_open,
};
const struct encryption_cipher ENCRYPTION_SECRETBOX = {
	.name = "secretbox",
	.lengths = { 32 },
	.prepare = secretbox_prepare,
	.seal = secretbox_seal,
	.open = secretbox_open,
};
