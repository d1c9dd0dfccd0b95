/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests: as PEM, and as DER in a PEM frame. And the certificates that signers write back. */
#include <stdlib.h>

#include "userspace/api/csr.h"
#include "userspace/base/encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(struct str pem)
{
	static const char *const signers[] = { CSR_SIGNER_CLIENT, CSR_SIGNER_KUBELET_CLIENT,
					       CSR_SIGNER_KUBELET_SERVING };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct csr csr;

	if (csr_parse(&arena, pem, &csr, &err) < 0) {
		if (!err.message)
			abort();
		return;
	}
	for (size_t i = 0; i < 3; i++)
		csr_check_signer(str_of(signers[i]), &csr, NULL, NULL);
	if (csr.orgs.n > CSR_ORGS_MAX || csr.dns.n > CSR_NAMES_MAX || !csr.der.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_make((const char *)data, size);
	_cleanup_buf_ struct buf b = BUF_INIT, base64 = BUF_INIT;
	int64_t end_s;

	try_request(text);
	csr_check_certificates(text, NULL);
	csr_certificate_end(text, &end_s);
	base64_encode(&base64, data, size, BASE64_STD);
	buf_add_cstr(&b, "-----BEGIN CERTIFICATE REQUEST-----\n");
	for (size_t i = 0; i < buf_len(&base64); i += 64)
		buf_printf(&b, "%.*s\n", (int)(buf_len(&base64) - i < 64 ? buf_len(&base64) - i : 64),
			   buf_str(&base64).p + i);
	buf_add_cstr(&b, "-----END CERTIFICATE REQUEST-----\n");
	try_request(buf_str(&b));
	return 0;
}
