/* SPDX-License-Identifier: Apache-2.0 */
/* CertificateSubjectRestriction: nobody becomes a member of system:masters by a certificate of kube-apiserver-client.
 */
#include "userspace/api/csr.h"
#include "userspace/registry/admission/admission.h"

static int validate(struct write *w, struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT;
	struct csr csr;

	if (w->storage != KIND_CERTIFICATESIGNINGREQUEST || w->op != WRITE_CREATE || w->subresource ||
	    !str_is(json_at_str(w->object, "spec.signerName"), CSR_SIGNER_CLIENT))
		return 0;
	if (csr_parse_object(&w->arena, w->object, &csr, &why) < 0)
		return admission_forbidden(w, err, "failed to parse CSR: %s", err_message(&why));
	for (size_t i = 0; i < csr.orgs.n; i++)
		if (str_is(csr.orgs.items[i], "system:masters"))
			return admission_forbidden(
				w, err, "use of " CSR_SIGNER_CLIENT " signer with system:masters group is not allowed");
	return 0;
}

const struct admission_plugin ADMISSION_CERTIFICATE_SUBJECT = { .name = "CertificateSubjectRestriction",
								.validate = validate };
