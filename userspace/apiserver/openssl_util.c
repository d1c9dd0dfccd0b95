/* SPDX-License-Identifier: Apache-2.0 */
/* See openssl_util.h. */
#include "userspace/apiserver/openssl_util.h"

#include <errno.h>
#include <openssl/err.h>

#define ERROR_TEXT_MAX 256

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
