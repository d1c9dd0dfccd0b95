/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: client certificates (CN, O) and service-account tokens. A token's signature is checked once and
 * remembered; that its service account and what it is bound to still exist is checked every time. When a request shows
 * a certificate and a token, a good certificate wins, as upstream has it. Loop thread. */
#include <errno.h>
#include <openssl/crypto.h>
#include <strings.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define AUTHN_CACHE_MAX 1024                    /* verified tokens; then the cache starts anew */
#define AUTHN_DELETED_LEEWAY_NS (60 * NS_PER_S) /* what is being deleted still speaks so long, to end its work */
#define AUTHN_EXTRA_MAX 5
#define AUTHN_EXTRA_PREFIX "authentication.kubernetes.io/"
#define AUTHN_WEBSOCKET_PREFIX "base64url.bearer.authorization.k8s.io."

struct authn_token {
	struct arena arena;
	struct token_claims claims;
};

struct authn {
	struct registry *reg;
	const struct token_keys *tokens;
	/* SHA-256 of the token -> struct authn_token: what is compared byte by byte is no secret any more. */
	struct map verified;
	/* Of the request that was looked at last: what its audit event should say of the token; key NULL: nothing. */
	const char *note_key;
	struct str note;
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

/* ---- what a token is bound to ---- */

static const struct object *authn_living(struct authn *authn, const struct api_kind *kind, struct str ns,
					 struct str name)
{
	const struct object *o = registry_get(authn->reg, kind, ns, name);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	int64_t deleted_ns;

	if (!o || !o->deleting)
		return o;
	deleted_ns = meta_time_ns(json_get(meta_of(registry_parse(&arena, o)), "deletionTimestamp"));
	return deleted_ns + AUTHN_DELETED_LEEWAY_NS > clock_real_ns() ? o : NULL;
}

static bool authn_exists(struct authn *authn, const struct api_kind *kind, struct str ns, struct str name,
			 struct str uid)
{
	const struct object *o = authn_living(authn, kind, ns, name);

	return o && str_eq(o->uid, uid);
}

/* The secret must be there, and hold this very token. */
static bool authn_secret_holds(struct authn *authn, const struct token_claims *c, struct str token)
{
	const struct object *o = authn_living(authn, KIND_SECRET, c->ns, c->secret_name);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf held = BUF_INIT;

	if (!o || base64_decode(&held, json_at_str(registry_parse(&arena, o), "data.token"), BASE64_STD) < 0)
		return false;
	return buf_len(&held) == token.n && CRYPTO_memcmp(buf_str(&held).p, token.p, token.n) == 0;
}

static int authn_check_bound(struct authn *authn, const struct token_claims *c, struct str token, struct err *err)
{
	if (!authn_exists(authn, KIND_SERVICEACCOUNT, c->ns, c->service_account, c->service_account_uid) ||
	    (c->pod_name.n && !authn_exists(authn, KIND_POD, c->ns, c->pod_name, c->pod_uid)) ||
	    (c->secret_name.n && !c->legacy &&
	     !authn_exists(authn, KIND_SECRET, c->ns, c->secret_name, c->secret_uid)) ||
	    (c->node_name.n && !c->pod_name.n &&
	     !authn_exists(authn, KIND_NODE, STR_NULL, c->node_name, c->node_uid)) ||
	    (c->legacy && !authn_secret_holds(authn, c, token)))
		return err_set(err, -EPERM, "service account token has been invalidated");
	return 0;
}

/* ---- tokens ---- */

static void authn_extra(struct request_user *user, struct arena *arena, const char *key, struct str value)
{
	struct request_extra *extra = (struct request_extra *)(uintptr_t)user->extra;
	struct str *values;

	if (!value.n)
		return;
	if (!extra)
		user->extra = extra = arena_new_array(arena, struct request_extra, AUTHN_EXTRA_MAX);
	values = arena_new(arena, struct str);
	*values = value;
	extra[user->n_extra++] = (struct request_extra){ str_of(key), values, 1 };
}

/* Strings are copied: the remembered claims may go while the request waits. */
static void authn_claims_user(const struct token_claims *c, struct arena *arena, struct request_user *ret)
{
	struct request_user user = { 0 };
	struct str *groups = arena_new_array(arena, struct str, 3);

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
	if (c->id.n)
		authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "credential-id",
			    str_of(arena_printf(arena, "JTI=%.*s", STR_ARG(c->id))));
	authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "node-name", user.node_name);
	authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "node-uid", arena_str(arena, c->node_uid));
	authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "pod-name", user.pod_name);
	authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "pod-uid", user.pod_uid);
	*ret = user;
}

/* Tokens that should not be used any more work, but are told of. */
static void authn_note_token(struct authn *authn, const struct token_claims *c, const struct request_user *user,
			     struct arena *arena)
{
	int64_t now_s = clock_real_ns() / NS_PER_S;

	if (c->legacy) {
		authn->note_key = "authentication.k8s.io/legacy-token";
		authn->note = user->name;
	} else if (c->warn_after_s && now_s > c->warn_after_s) {
		authn->note_key = "authentication.k8s.io/stale-token";
		authn->note = str_of(arena_printf(arena, "subject: %.*s, seconds after warning threshold: %lld",
						  STR_ARG(user->name), (long long)(now_s - c->warn_after_s)));
	}
}

void authn_annotate(const struct authn *authn, struct audit_event *event)
{
	if (event && authn->note_key)
		audit_annotate(event, authn->note_key, authn->note);
}

static bool authn_is_fresh(const struct token_claims *c)
{
	return c->legacy || clock_real_ns() / NS_PER_S - TOKEN_LEEWAY_S < c->expires_s;
}

static const struct token_claims *authn_verify(struct authn *authn, struct str token, struct err *err)
{
	struct authn_token *t;
	uint8_t digest[SHA256_LEN];
	struct str key = str_make((const char *)digest, sizeof(digest));

	sha256(token.p, token.n, digest);
	t = map_get(&authn->verified, key);
	if (t && authn_is_fresh(&t->claims))
		return &t->claims;
	if (t)
		authn_token_destroy(map_remove(&authn->verified, key));
	t = mem_new(struct authn_token);
	if (token_verify(authn->tokens, token, STR_NULL, &t->arena, &t->claims, err) < 0) {
		authn_token_destroy(t);
		return NULL;
	}
	if (authn->verified.n >= AUTHN_CACHE_MAX)
		authn_cache_clear(authn);
	map_put(&authn->verified, key, t);
	return &t->claims;
}

int authn_token(struct authn *authn, struct str token, struct str audience, struct arena *arena,
		struct request_user *ret, struct err *err)
{
	const struct token_claims *known = NULL;
	struct token_claims claims;
	int r;

	if (token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EPERM, "token is longer than %d bytes", TOKEN_BYTES_MAX);
	/* Only the API server's own audience is worth remembering. */
	if (!audience.n || str_is(audience, token_issuer(authn->tokens))) {
		known = authn_verify(authn, token, err);
		r = known ? 0 : -EPERM;
	} else {
		known = &claims;
		r = token_verify(authn->tokens, token, audience, arena, &claims, err);
	}
	if (r == 0)
		r = authn_check_bound(authn, known, token, err);
	if (r < 0)
		return r;
	authn_claims_user(known, arena, ret);
	authn_note_token(authn, known, ret, arena);
	return 0;
}

/* ---- certificates ---- */

static int authn_cert_user(const struct http_peer *peer, struct arena *arena, struct request_user *ret)
{
	struct request_user user = { .name = str_of(peer->cert_cn) };
	struct str *groups = arena_new_array(arena, struct str, peer->n_cert_orgs + 1);

	for (size_t i = 0; i < peer->n_cert_orgs; i++)
		groups[user.n_groups++] = str_of(peer->cert_orgs[i]);
	groups[user.n_groups++] = STR("system:authenticated");
	user.groups = groups;
	if (peer->cert_sha256)
		authn_extra(&user, arena, AUTHN_EXTRA_PREFIX "credential-id",
			    str_of(arena_printf(arena, "X509SHA256=%s", peer->cert_sha256)));
	*ret = user;
	return 0;
}

/* ---- requests ---- */

/* Browsers cannot set headers for WebSockets: they offer the token as a protocol. */
static struct str authn_websocket_token(const struct http_request *http, struct arena *arena)
{
	struct str offers = http_request_header(http, "sec-websocket-protocol"), offer;
	_cleanup_buf_ struct buf token = BUF_INIT;

	while (str_split(&offers, ',', &offer)) {
		offer = str_trim(offer);
		if (!str_starts(offer, STR(AUTHN_WEBSOCKET_PREFIX)))
			continue;
		offer.p += strlen(AUTHN_WEBSOCKET_PREFIX);
		offer.n -= strlen(AUTHN_WEBSOCKET_PREFIX);
		if (offer.n <= TOKEN_BYTES_MAX * 2 && base64_decode(&token, offer, BASE64_URL) == 0)
			return arena_str(arena, buf_str(&token));
	}
	return STR_NULL;
}

/* Empty: none was shown. Other schemes count as none, as upstream has it. */
static struct str authn_bearer(const struct http_request *http, struct arena *arena)
{
	struct str header = str_trim(http_request_header(http, "authorization")), scheme;

	if (!header.n)
		return authn_websocket_token(http, arena);
	if (!str_split(&header, ' ', &scheme) || scheme.n != 6 || strncasecmp(scheme.p, "bearer", 6) != 0)
		return STR_NULL;
	return str_trim(header);
}

static int authn_anonymous(struct arena *arena, struct request_user *ret)
{
	struct str *groups = arena_new(arena, struct str);

	groups[0] = STR("system:unauthenticated");
	*ret = (struct request_user){ .name = STR("system:anonymous"), .groups = groups, .n_groups = 1 };
	return 1;
}

int authn_request(struct authn *authn, const struct http_request *http, struct arena *arena, struct request_user *ret)
{
	const char *name = http->peer->cert_cn;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str token;
	int r;

	authn->note_key = NULL;
	/* A certificate without a name says nothing. */
	if (name && *name)
		return authn_cert_user(http->peer, arena, ret);
	token = authn_bearer(http, arena);
	if (!token.n)
		return http->peer->cert_error ? -EPERM : authn_anonymous(arena, ret);
	r = authn_token(authn, token, STR_NULL, arena, ret, &err);
	if (r < 0)
		log_debug("bearer token refused reason=\"%s\"", err_message(&err));
	return r;
}
