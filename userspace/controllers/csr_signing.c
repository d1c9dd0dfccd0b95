/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for approved requests to the signers of kubernetes.io, by the cluster's authority; what breaks the
 * signer's rules gets the condition Failed. Key: the request. Loop thread only. */
#include <errno.h>

#include "userspace/api/csr.h"
#include "userspace/base/encode.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/signer.h"
#include "userspace/controllers/table.h"

static bool is_ours(struct str signer)
{
	return str_is(signer, CSR_SIGNER_CLIENT) || str_is(signer, CSR_SIGNER_KUBELET_CLIENT) ||
	       str_is(signer, CSR_SIGNER_KUBELET_SERVING) || str_is(signer, CSR_SIGNER_LEGACY);
}

static bool is_due(const struct json *csr)
{
	const struct json *conditions = json_at(csr, "status.conditions");

	return is_ours(json_at_str(csr, "spec.signerName")) && !json_at_str(csr, "status.certificate").n &&
	       meta_condition(conditions, "Approved") && !meta_condition(conditions, "Denied") &&
	       !meta_condition_is(conditions, "Failed", "True");
}

static int mutate_failed(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *conditions, *c;

	if (!is_due(object))
		return 1;
	conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	c = json_new_object(arena);
	json_set_cstr(arena, c, "type", "Failed");
	json_set_cstr(arena, c, "status", "True");
	json_set_cstr(arena, c, "reason", "SignerValidationFailure");
	json_set_cstr(arena, c, "message", arena_strdup(arena, arg));
	json_set_cstr(arena, c, "lastUpdateTime", stamp_now(arena));
	json_append(conditions, c);
	return 0;
}

static int mutate_certificate(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct str *pem = arg;
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (!is_due(object))
		return 1;
	base64_encode(&text, pem->p, pem->n, BASE64_STD);
	json_set_str(arena, json_ensure_object(arena, object, "status"), "certificate",
		     arena_str(arena, buf_str(&text)));
	return 0;
}

static int sign(struct reconcile *ctx, const struct json *csr, struct str *ret_pem, struct err *err)
{
	const struct signer *signer = ctx->options->signer;
	_cleanup_buf_ struct buf pem = BUF_INIT;
	struct signer_certificate request = { .usages = json_at(csr, "spec.usages"),
					      .expiration_s = json_at_int(csr, "spec.expirationSeconds", 0) };

	if (base64_decode(&pem, json_at_str(csr, "spec.request"), BASE64_STD) < 0)
		return err_set(err, -EINVAL, "the request is no base64");
	request.request = buf_str(&pem);
	return signer->certificate(signer->ctx, &request, ctx->arena, ret_pem, err);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *o = registry_get(ctx->reg, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name);
	_cleanup_err_ struct err why = ERR_INIT;
	struct csr parsed;
	struct json *csr;
	struct str pem;
	int r;

	if (!o || o->deleting || !ctx->options->signer)
		return 0;
	csr = registry_parse(ctx->arena, o);
	if (!is_due(csr))
		return 0;
	r = csr_parse_object(ctx->arena, csr, &parsed, err);
	if (r < 0)
		return r;
	if (csr_check_signer(json_at_str(csr, "spec.signerName"), &parsed, json_at(csr, "spec.usages"), &why) < 0) {
		reconcile_update(ctx, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name, "status", mutate_failed,
				 arena_strdup(ctx->arena, err_message(&why)), NULL);
		return 0;
	}
	r = sign(ctx, csr, &pem, err);
	if (r == 0)
		reconcile_update(ctx, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name, "status", mutate_certificate,
				 &pem, NULL);
	return r;
}

static const struct controller_watch watches[] = {
	{ &KIND_CERTIFICATESIGNINGREQUEST, runner_enqueue_self },
};

const struct controller controller_csr_signing = {
	.name = "csrsigning",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
