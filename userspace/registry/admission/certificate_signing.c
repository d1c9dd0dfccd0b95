/* SPDX-License-Identifier: Apache-2.0 */
/* CertificateSigning: who puts a certificate into a request needs the verb "sign" on its signer. */
#include "userspace/registry/admission/certificates.h"

static int validate(struct write *w, struct err *err)
{
	if (w->storage != KIND_CERTIFICATESIGNINGREQUEST || w->internal || w->op != WRITE_UPDATE || !w->subresource ||
	    strcmp(w->subresource, "status") != 0)
		return 0;
	if (str_eq(json_at_str(w->object, "status.certificate"), json_at_str(w->old, "status.certificate")))
		return 0;
	return certificates_check_signer(w, "sign", json_at_str(w->old, "spec.signerName"), err);
}

const struct admission_plugin ADMISSION_CERTIFICATE_SIGNING = { .name = "CertificateSigning", .validate = validate };
