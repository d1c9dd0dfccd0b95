/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: client certificates (CN, O) and service-account tokens. A token's signature is checked once and
 * remembered; that its service account and pod still exist is checked every time. Loop thread. */
#include <errno.h>

#include "userspace/apiserver/call.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define AUTHN_CACHE_MAX 1024 /* verified tokens; then the cache starts anew */

struct authn_token {
	struct arena arena;
	struct token_claims claims;
};

struct authn {
	struct registry *reg;
	const struct token_keys *tokens;
	struct map verified; /* token text -> struct authn_token */
};

int authn_create(struct registry *reg, const struct token_keys *tokens, struct authn **ret)
{
	struct authn *authn = mem_new(struct authn);

	authn->reg = reg;
	authn->tokens = tokens;
	*ret = authn;
	return 0;
}

static void authn_token_destroy(struct authn_token *t)
{
	arena_finish(&t->arena);
	free(t);
}

static void authn_cache_clear(struct authn *authn)
{
	map_foreach(e, &authn->verified)
		authn_token_destroy(e->value);
	map_finish(&authn->verified);
}

void authn_destroy(struct authn *authn)
{
	if (!authn)
		return;
	authn_cache_clear(authn);
	free(authn);
}

static bool authn_exists(struct authn *authn, const struct api_kind *kind, struct str ns, struct str name,
			 struct str uid)
{
	const struct object *o = registry_get(authn->reg, kind, ns, name);

	return o && str_eq(o->uid, uid);
}

static const struct token_claims *authn_verify(struct authn *authn, struct str token)
{
	struct authn_token *t = map_get(&authn->verified, token);
	_cleanup_err_ struct err err = ERR_INIT;

	if (t && clock_real_ns() / NS_PER_S < t->claims.expires_s)
		return &t->claims;
	if (t)
		authn_token_destroy(map_remove(&authn->verified, token));
	t = mem_new(struct authn_token);
	if (token_verify(authn->tokens, token, STR_NULL, &t->arena, &t->claims, &err) < 0) {
		log_debug("bearer token refused reason=\"%s\"", err_message(&err));
		authn_token_destroy(t);
		return NULL;
	}
	if (authn->verified.n >= AUTHN_CACHE_MAX)
		authn_cache_clear(authn);
	map_put(&authn->verified, token, t);
	return &t->claims;
}

/* Strings are copied: the remembered claims may go while the request waits. */
static int authn_claims_user(struct authn *authn, const struct token_claims *c, struct arena *arena,
			     struct request_user *ret)
{
	struct request_user user = { 0 };
	struct str *groups;

	if (!authn_exists(authn, KIND_SERVICEACCOUNT, c->ns, c->service_account, c->service_account_uid) ||
	    (c->pod_name.n && !authn_exists(authn, KIND_POD, c->ns, c->pod_name, c->pod_uid)) ||
	    (c->secret_name.n && !authn_exists(authn, KIND_SECRET, c->ns, c->secret_name, c->secret_uid)))
		return -EPERM;
	groups = arena_new_array(arena, struct str, 3);
	groups[0] = STR("system:serviceaccounts");
	groups[1] = str_of(arena_printf(arena, "system:serviceaccounts:%.*s", STR_ARG(c->ns)));
	groups[2] = STR("system:authenticated");
	user.name = str_of(
		arena_printf(arena, "system:serviceaccount:%.*s:%.*s", STR_ARG(c->ns), STR_ARG(c->service_account)));
	user.uid = arena_str(arena, c->service_account_uid);
	user.groups = groups;
	user.n_groups = 3;
	user.pod_name = arena_str(arena, c->pod_name);
	user.pod_uid = arena_str(arena, c->pod_uid);
	user.node_name = arena_str(arena, c->node_name);
	*ret = user;
	return 0;
}

int authn_token(struct authn *authn, struct str token, struct str audience, struct arena *arena,
		struct request_user *ret)
{
	const struct token_claims *known;
	struct token_claims claims;

	/* Only the API server's own audience is worth remembering. */
	if (audience.n) {
		if (token_verify(authn->tokens, token, audience, arena, &claims, NULL) < 0)
			return -EPERM;
		return authn_claims_user(authn, &claims, arena, ret);
	}
	known = authn_verify(authn, token);
	return known ? authn_claims_user(authn, known, arena, ret) : -EPERM;
}

static int authn_cert_user(const struct http_peer *peer, struct arena *arena, struct request_user *ret)
{
	struct request_user user = { .name = str_of(peer->cert_cn) };
	struct str *groups = arena_new_array(arena, struct str, CALL_GROUPS_MAX + 1);

	for (size_t i = 0; i < peer->n_cert_orgs && user.n_groups < CALL_GROUPS_MAX; i++)
		groups[user.n_groups++] = str_of(peer->cert_orgs[i]);
	groups[user.n_groups++] = STR("system:authenticated");
	user.groups = groups;
	*ret = user;
	return 0;
}

int authn_request(struct authn *authn, const struct http_request *http, struct arena *arena, struct request_user *ret)
{
	struct str header = http_request_header(http, "authorization");

	if (http->peer->cert_cn)
		return authn_cert_user(http->peer, arena, ret);
	if (header.n > 7 && (str_starts(header, STR("Bearer ")) || str_starts(header, STR("bearer "))))
		return authn_token(authn, str_trim(str_make(header.p + 7, header.n - 7)), STR_NULL, arena, ret);
	if (header.n || http->peer->cert_error)
		return -EPERM;
	ret->name = STR("system:anonymous");
	ret->groups = arena_new_array(arena, struct str, 1);
	((struct str *)ret->groups)[0] = STR("system:unauthenticated");
	ret->n_groups = 1;
	return 1;
}
