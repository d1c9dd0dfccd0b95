/* SPDX-License-Identifier: Apache-2.0 */
/* OpenID Connect discovery of service-account tokens: who issues them, and the public halves of the keys, so that
 * others can verify tokens without asking. Loop thread. */
#include "userspace/apiserver/call.h"

#define OIDC_CACHE_CONTROL "public, max-age=3600"
#define OIDC_CONFIGURATION "/.well-known/openid-configuration"
#define OIDC_KEYS "/openid/v1/jwks"

static void oidc_respond(struct call *call, const char *type, struct str body)
{
	static const struct http_header headers[] = { { STR("cache-control"), STR(OIDC_CACHE_CONTROL) } };

	http_respond(call->http, 200, type, headers, ARRAY_SIZE(headers), body);
}

static void oidc_configuration(struct call *call)
{
	struct json *v = json_new_object(call->arena);
	const char *algorithms[TOKEN_ALGORITHMS];
	size_t n;

	json_set_cstr(call->arena, v, "issuer", token_issuer(call->as->tokens));
	json_set_cstr(call->arena, v, "jwks_uri",
		      arena_printf(call->arena, "https://%s" OIDC_KEYS, call->as->advertise_address));
	json_append(json_ensure_array(call->arena, v, "response_types_supported"),
		    json_new_cstr(call->arena, "id_token"));
	json_append(json_ensure_array(call->arena, v, "subject_types_supported"), json_new_cstr(call->arena, "public"));
	n = token_keys_algorithms(call->as->tokens, algorithms);
	for (size_t i = 0; i < n; i++)
		json_append(json_ensure_array(call->arena, v, "id_token_signing_alg_values_supported"),
			    json_new_cstr(call->arena, algorithms[i]));
	oidc_respond(call, "application/json", json_text(call->arena, v));
}

bool oidc_handle(struct call *call)
{
	_cleanup_buf_ struct buf keys = BUF_INIT;

	if (str_is(call->route.path, OIDC_CONFIGURATION)) {
		oidc_configuration(call);
		return true;
	}
	if (!str_is(call->route.path, OIDC_KEYS))
		return false;
	token_keys_write_jwks(call->as->tokens, &keys);
	oidc_respond(call, "application/jwk-set+json", buf_str(&keys));
	return true;
}
