/* SPDX-License-Identifier: Apache-2.0 */
/* PKCS#10 certificate requests (RFC 2986) in PEM, read by OpenSSL: what they ask for, and the rules that the signers of
 * kubernetes.io have about that. Nothing of a request that does not parse whole is believed. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"

#define CSR_BYTES_MAX (64 * 1024) /* of PEM text */
#define CSR_CERTIFICATES_BYTES_MAX (1024 * 1024)
#define CSR_ORGS_MAX 256
#define CSR_NAMES_MAX 512 /* subject alternative names of one sort */

#define CSR_SIGNER_CLIENT "kubernetes.io/kube-apiserver-client"
#define CSR_SIGNER_KUBELET_CLIENT "kubernetes.io/kube-apiserver-client-kubelet"
#define CSR_SIGNER_KUBELET_SERVING "kubernetes.io/kubelet-serving"
#define CSR_SIGNER_LEGACY "kubernetes.io/legacy-unknown"

struct csr_names {
	struct str *items; /* arena */
	size_t n;
};

/* Strings in the arena. */
struct csr {
	struct str der; /* of the request */
	struct str cn;  /* the last one; empty: none */
	struct csr_names orgs;
	struct csr_names dns, emails, uris;
	struct csr_names ips; /* 4 or 16 bytes each */
};

/* The first PEM block must be a CERTIFICATE REQUEST that is well formed and signed by the key it holds. -EINVAL, the
 * message as clients are to read it. */
int csr_parse(struct arena *arena, struct str pem, struct csr *ret, struct err *err);
/* The same of spec.request (base64). */
int csr_parse_object(struct arena *arena, const struct json *object, struct csr *ret, struct err *err);

/* One or more CERTIFICATE blocks and nothing else. -EINVAL. */
int csr_check_certificates(struct str pem, struct err *err);

/* When the first certificate of the text ends, in seconds since 1970. -EINVAL. */
int csr_certificate_end(struct str pem, int64_t *ret_end_s);

/* May this signer sign a request for those usages (array of strings)? -EINVAL with the reason. Of a signer that is not
 * kubernetes.io's, or of the legacy one, nothing is asked. */
int csr_check_signer(struct str signer, const struct csr *csr, const struct json *usages, struct err *err);
