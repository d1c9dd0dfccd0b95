/* SPDX-License-Identifier: Apache-2.0 */
/* serviceaccounts/token: a token for an account, bound to the pod, secret or node that the request names. Loop
 * thread. */
#include <errno.h>
#include <inttypes.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

static int bind_to_pod(struct apiserver *as, const struct object *o, struct arena *arena, struct token_claims *claims,
		       struct err *err)
{
	const struct json *pod = registry_parse(arena, o);
	struct str node_name = json_at_str(pod, "spec.nodeName");
	const struct object *node;

	if (!str_eq(json_at_str(pod, "spec.serviceAccountName"), claims->service_account))
		return api_err_bad_request(
			err,
			"cannot bind token for serviceaccount \"%.*s\" to pod running with different "
			"serviceaccount name.",
			STR_ARG(claims->service_account));
	claims->pod_name = o->name;
	claims->pod_uid = o->uid;
	if (!node_name.n)
		return 0;
	node = registry_get(as->reg, KIND_NODE, STR_NULL, node_name);
	claims->node_name = node_name;
	claims->node_uid = node ? node->uid : STR_NULL;
	return 0;
}

static int bad_kind(struct err *err, const struct json *ref)
{
	struct str version = json_get_str(ref, "apiVersion"), kind = json_get_str(ref, "kind");

	return api_err_bad_request(err, "cannot bind token to object of type %s%.*s, Kind=%.*s",
				   str_find(version, '/') < 0 ? "/" : "", STR_ARG(version), STR_ARG(kind));
}

static int check_uid(const struct json *ref, const struct object *o, struct err *err)
{
	struct str uid = json_get_str(ref, "uid");

	if (!uid.n || str_eq(uid, o->uid))
		return 0;
	return err_set_status(err, -EAGAIN, 409, "Conflict",
			      "Operation cannot be fulfilled on %.*s \"%.*s\": the UID in the bound object reference "
			      "(%.*s) does not match the UID in record. The object might have been deleted and then "
			      "recreated",
			      STR_ARG(json_get_str(ref, "kind")), STR_ARG(o->name), STR_ARG(uid));
}

static int bind_to(struct apiserver *as, const struct json *ref, struct arena *arena, struct token_claims *claims,
		   struct err *err)
{
	struct str kind = json_get_str(ref, "kind"), name = json_get_str(ref, "name");
	const struct api_kind *k = str_is(kind, "Pod")      ? KIND_POD
				   : str_is(kind, "Secret") ? KIND_SECRET
				   : str_is(kind, "Node")   ? KIND_NODE
							    : NULL;
	const struct object *o;
	int r = 0;

	if (!k || !str_is(json_get_str(ref, "apiVersion"), "v1"))
		return bad_kind(err, ref);
	o = registry_get(as->reg, k, k->namespaced ? claims->ns : STR_NULL, name);
	if (!o)
		return api_err_not_found(err, k, name);
	if (k == KIND_POD) {
		r = bind_to_pod(as, o, arena, claims, err);
	} else if (k == KIND_SECRET) {
		claims->secret_name = o->name;
		claims->secret_uid = o->uid;
	} else {
		claims->node_name = o->name;
		claims->node_uid = o->uid;
	}
	return r < 0 ? r : check_uid(ref, o, err);
}

static int invalid(struct err *err, const char *field, char *message)
{
	const struct api_kind *kind = api_kind_by_kind(STR("authentication.k8s.io"), STR("v1"), STR("TokenRequest"));

	api_err_invalid(err, kind, STR(""), "%s: %s", field, message);
	err_add_cause(err, "FieldValueInvalid", field, "%s", message);
	free(message);
	return -EINVAL;
}

static int check_expiry(int64_t expiry_s, struct err *err)
{
	const char *why = expiry_s < TOKEN_EXPIRY_MIN_S   ? "may not specify a duration less than 10 minutes"
			  : expiry_s > TOKEN_EXPIRY_MAX_S ? "may not specify a duration larger than 2^32 seconds"
							  : NULL;

	if (!why)
		return 0;
	return invalid(err, "spec.expirationSeconds", mem_printf("Invalid value: %" PRId64 ": %s", expiry_s, why));
}

static int take_audiences(struct apiserver *as, struct json *spec, struct arena *arena, struct token_claims *claims,
			  struct err *err)
{
	struct json *audiences = json_ensure_array(arena, spec, "audiences");

	if (json_count(audiences) > TOKEN_AUDIENCES_MAX)
		return invalid(err, "spec.audiences",
			       mem_printf("Too many: %zu: must have at most %d items", json_count(audiences),
					  TOKEN_AUDIENCES_MAX));
	if (!json_count(audiences))
		json_append(audiences, json_new_cstr(arena, token_issuer(as->tokens)));
	json_foreach(a, audiences)
		claims->audiences[claims->n_audiences++] = json_str(a);
	return 0;
}

int token_request_issue(void *arg, const struct registry_token_request *request, struct str *ret_token,
			int64_t *ret_expires_real_ns, struct err *err)
{
	struct apiserver *as = arg;
	struct json *spec = json_ensure_object(request->arena, request->token_request, "spec");
	const struct json *ref = json_get(spec, "boundObjectRef");
	struct token_claims claims = { .ns = request->service_account->ns,
				       .service_account = request->service_account->name,
				       .service_account_uid = request->service_account->uid };
	int64_t expiry_s = json_get_int(spec, "expirationSeconds", 3600);
	_cleanup_buf_ struct buf token = BUF_INIT;
	int r;

	r = check_expiry(expiry_s, err);
	if (r == 0)
		r = take_audiences(as, spec, request->arena, &claims, err);
	if (r == 0 && json_is(ref, JSON_OBJECT))
		r = bind_to(as, ref, request->arena, &claims, err);
	if (r < 0)
		return r;
	claims.issued_s = clock_real_ns() / NS_PER_S;
	claims.expires_s = claims.issued_s + expiry_s;
	*ret_expires_real_ns = claims.expires_s * NS_PER_S;
	token_extend(as->tokens, &claims);
	r = token_issue(as->tokens, &claims, &token, err);
	if (r == 0)
		*ret_token = arena_str(request->arena, buf_str(&token));
	return r;
}
