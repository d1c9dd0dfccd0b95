/* SPDX-License-Identifier: Apache-2.0 */
/* CertificateApproval: who approves or denies a request needs the verb "approve" on its signer. And the question that
 * CertificateSigning asks as well. */
#include "userspace/registry/admission/certificates.h"
#include "userspace/registry/authz.h"

static bool is_allowed(struct write *w, const char *verb, struct str name)
{
	const struct authz_attributes a = {
		.user = w->user,
		.verb = str_of(verb),
		.group = STR("certificates.k8s.io"),
		.version = STR("*"),
		.resource = STR("signers"),
		.name = name,
	};

	return authz_decide(w->reg, &a, &w->arena, NULL) == AUTHZ_ALLOW;
}

int certificates_check_signer(struct write *w, const char *verb, struct str signer, struct err *err)
{
	struct str rest = signer, domain;

	str_split(&rest, '/', &domain);
	if (is_allowed(w, verb, signer) ||
	    is_allowed(w, verb, str_of(arena_printf(&w->arena, "%.*s/*", STR_ARG(domain)))))
		return 0;
	return admission_forbidden(w, err, "user not permitted to %s requests with signerName \"%.*s\"", verb,
				   STR_ARG(signer));
}

static int validate(struct write *w, struct err *err)
{
	if (w->storage != KIND_CERTIFICATESIGNINGREQUEST || w->internal || w->op != WRITE_UPDATE || !w->subresource ||
	    strcmp(w->subresource, "approval") != 0)
		return 0;
	return certificates_check_signer(w, "approve", json_at_str(w->old, "spec.signerName"), err);
}

const struct admission_plugin ADMISSION_CERTIFICATE_APPROVAL = { .name = "CertificateApproval", .validate = validate };
