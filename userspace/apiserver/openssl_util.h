/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that make certificates share of OpenSSL's ways. Any thread. */
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "userspace/base/err.h"

/* No clock that says less than this is believed when an end date is set. */
#define CERTIFICATE_EPOCH_FLOOR_S 1767225600 /* 2026-01-01 */

/* A random positive one. */
void openssl_set_serial(X509 *cert);

/* For _cleanup_(). */
void openssl_free_key(EVP_PKEY **key);
void openssl_free_cert(X509 **cert);
void openssl_free_bio(BIO **bio);

/* -EIO: `what` and the first of OpenSSL's complaints; the rest is forgotten. */
int openssl_error(struct err *err, const char *what);
