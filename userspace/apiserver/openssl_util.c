/* SPDX-License-Identifier: Apache-2.0 */
/* See openssl_util.h. */
#include "userspace/apiserver/openssl_util.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "userspace/base/encode.h"

#define ERROR_TEXT_MAX 256
#define SERIAL_BYTES 16

void openssl_free_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

void openssl_free_cert(X509 **cert)
{
	X509_free(*cert);
}

void openssl_free_bio(BIO **bio)
{
	BIO_free(*bio);
}

int openssl_error(struct err *err, const char *what)
{
	char text[ERROR_TEXT_MAX];

	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	ERR_clear_error();
	return err_set(err, -EIO, "%s: %s", what, text);
}

void openssl_set_serial(X509 *cert)
{
	uint8_t serial[SERIAL_BYTES];
	BIGNUM *bn;

	random_bytes(serial, sizeof(serial));
	serial[0] &= 0x7f;
	bn = BN_bin2bn(serial, sizeof(serial), NULL);
	if (!bn || !BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)))
		abort();
	BN_free(bn);
}
