/* SPDX-License-Identifier: Apache-2.0 */
/* JWTs of service accounts. See token.h. */
#include "userspace/apiserver/token.h"

#include <errno.h>

#include "userspace/apiserver/token_keys.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define LEGACY_ISSUER "kubernetes/serviceaccount"
#define LEGACY_CLAIM "kubernetes.io/serviceaccount/"

/* ---- issuing ---- */

static void set_ref(struct arena *arena, struct json *k8s, const char *key, struct str name, struct str uid)
{
	struct json *ref;

	if (!name.n)
		return;
	ref = json_new_object(arena);
	json_set_str(arena, ref, "name", name);
	if (uid.n)
		json_set_str(arena, ref, "uid", uid);
	json_set(k8s, key, ref);
}

static struct json *subject(struct arena *arena, const struct token_claims *c)
{
	return json_new_printf(arena, "system:serviceaccount:%.*s:%.*s", STR_ARG(c->ns), STR_ARG(c->service_account));
}

static struct json *legacy_payload(const struct token_claims *c, struct arena *arena)
{
	struct json *v = json_new_object(arena);

	json_set_cstr(arena, v, "iss", LEGACY_ISSUER);
	json_set_str(arena, v, LEGACY_CLAIM "namespace", c->ns);
	json_set_str(arena, v, LEGACY_CLAIM "secret.name", c->secret_name);
	json_set_str(arena, v, LEGACY_CLAIM "service-account.name", c->service_account);
	json_set_str(arena, v, LEGACY_CLAIM "service-account.uid", c->service_account_uid);
	json_set(v, "sub", subject(arena, c));
	return v;
}

static struct json *payload(const struct token_keys *keys, const struct token_claims *c, struct arena *arena)
{
	struct json *v = json_new_object(arena), *aud = json_new_array(arena), *k8s = json_new_object(arena);
	char id[UUID_LEN + 1];

	if (c->legacy)
		return legacy_payload(c, arena);
	for (size_t i = 0; i < c->n_audiences; i++)
		json_append(aud, json_new_str(arena, c->audiences[i]));
	if (!c->n_audiences)
		json_append(aud, json_new_cstr(arena, keys->issuer));
	uuid_make(id);
	json_set(v, "aud", aud);
	json_set_int(arena, v, "exp", c->expires_s);
	json_set_int(arena, v, "iat", c->issued_s);
	json_set_cstr(arena, v, "iss", keys->issuer);
	json_set_cstr(arena, v, "jti", arena_strdup(arena, id));
	json_set_str(arena, k8s, "namespace", c->ns);
	set_ref(arena, k8s, "node", c->node_name, c->node_uid);
	set_ref(arena, k8s, "pod", c->pod_name, c->pod_uid);
	set_ref(arena, k8s, "secret", c->secret_name, c->secret_uid);
	set_ref(arena, k8s, "serviceaccount", c->service_account, c->service_account_uid);
	if (c->warn_after_s)
		json_set_int(arena, k8s, "warnafter", c->warn_after_s);
	json_set(v, "kubernetes.io", k8s);
	json_set_int(arena, v, "nbf", c->not_before_s ? c->not_before_s : c->issued_s);
	json_set(v, "sub", subject(arena, c));
	return v;
}

static bool is_for(const struct token_keys *keys, const struct token_claims *c, struct str audience)
{
	for (size_t i = 0; i < c->n_audiences; i++)
		if (str_eq(c->audiences[i], audience))
			return true;
	return !c->n_audiences && str_is(audience, keys->issuer);
}

void token_extend(const struct token_keys *keys, struct token_claims *claims)
{
	if (claims->expires_s - claims->issued_s != TOKEN_EXTENDED_ASKED_S || !claims->pod_name.n ||
	    !is_for(keys, claims, str_of(keys->issuer)))
		return;
	claims->warn_after_s = claims->expires_s;
	claims->expires_s = claims->issued_s + TOKEN_EXTENDED_S;
}

int token_issue(const struct token_keys *keys, const struct token_claims *claims, struct buf *out, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str text = json_text(&arena, payload(keys, claims, &arena));
	_cleanup_buf_ struct buf b = BUF_INIT, sig = BUF_INIT;
	int r;

	buf_add_str(&b, buf_str(&keys->keys[0].header));
	buf_add_char(&b, '.');
	base64_encode(&b, text.p, text.n, BASE64_URL);
	r = token_key_sign(&keys->keys[0], buf_str(&b), &sig);
	if (r < 0)
		return err_set(err, r, "sign token");
	buf_add_char(&b, '.');
	base64_encode(&b, buf_str(&sig).p, buf_len(&sig), BASE64_URL);
	buf_add_str(out, buf_str(&b));
	return 0;
}

/* ---- verifying ---- */

static int read_claims(const struct json *v, struct token_claims *ret)
{
	const struct json *k8s = json_get(v, "kubernetes.io"), *aud = json_get(v, "aud");
	struct token_claims c = { 0 };

	c.ns = json_get_str(k8s, "namespace");
	c.service_account = json_at_str(k8s, "serviceaccount.name");
	c.service_account_uid = json_at_str(k8s, "serviceaccount.uid");
	c.pod_name = json_at_str(k8s, "pod.name");
	c.pod_uid = json_at_str(k8s, "pod.uid");
	c.secret_name = json_at_str(k8s, "secret.name");
	c.secret_uid = json_at_str(k8s, "secret.uid");
	c.node_name = json_at_str(k8s, "node.name");
	c.node_uid = json_at_str(k8s, "node.uid");
	c.issued_s = json_get_int(v, "iat", -1);
	c.expires_s = json_get_int(v, "exp", -1);
	c.not_before_s = json_get_int(v, "nbf", 0);
	c.warn_after_s = json_get_int(k8s, "warnafter", 0);
	c.id = json_get_str(v, "jti");
	if (json_is(aud, JSON_STRING))
		c.audiences[c.n_audiences++] = json_str(aud);
	json_foreach(a, aud)
		if (c.n_audiences < TOKEN_AUDIENCES_MAX)
			c.audiences[c.n_audiences++] = json_str(a);
	if (!c.ns.n || !c.service_account.n || !c.service_account_uid.n || c.expires_s < 0 || !c.n_audiences)
		return -EPERM;
	*ret = c;
	return 0;
}

static int read_legacy_claims(const struct json *v, struct token_claims *ret)
{
	struct token_claims c = { .legacy = true };

	c.ns = json_get_str(v, LEGACY_CLAIM "namespace");
	c.secret_name = json_get_str(v, LEGACY_CLAIM "secret.name");
	c.service_account = json_get_str(v, LEGACY_CLAIM "service-account.name");
	c.service_account_uid = json_get_str(v, LEGACY_CLAIM "service-account.uid");
	if (!c.ns.n || !c.secret_name.n || !c.service_account.n || !c.service_account_uid.n)
		return -EPERM;
	*ret = c;
	return 0;
}

/* One algorithm a key and few keys: the header must be the very one given out ("none", other keys and other algorithms
 * end here). */
static const struct token_key *find_key(const struct token_keys *keys, struct str header)
{
	for (size_t i = 0; i < keys->n; i++)
		if (str_eq(header, buf_str(&keys->keys[i].header)))
			return &keys->keys[i];
	return NULL;
}

static int check_times(const struct token_claims *c, struct err *err)
{
	int64_t now_s = clock_real_ns() / NS_PER_S;

	if (now_s - TOKEN_LEEWAY_S >= c->expires_s)
		return err_set(err, -EPERM, "service account token has expired");
	if (c->not_before_s > now_s + TOKEN_LEEWAY_S || c->issued_s > now_s + TOKEN_LEEWAY_S)
		return err_set(err, -EPERM, "service account token is not valid yet");
	return 0;
}

static int judge(const struct token_keys *keys, const struct json *v, struct str audience, struct token_claims *ret,
		 struct err *err)
{
	struct str issuer = json_get_str(v, "iss"), wanted = audience.n ? audience : str_of(keys->issuer);
	int r;

	if (str_is(issuer, LEGACY_ISSUER)) {
		if (read_legacy_claims(v, ret) < 0)
			return err_set(err, -EPERM, "service account token claims could not be validated");
		/* Such a token is for the API server alone. */
		if (!str_is(wanted, keys->issuer))
			return err_set(err, -EPERM,
				       "token audiences [\"%s\"] is invalid for the target audiences "
				       "[\"%.*s\"]",
				       keys->issuer, STR_ARG(wanted));
		return 0;
	}
	if (!str_is(issuer, keys->issuer))
		return err_set(err, -EPERM, TOKEN_UNKNOWN);
	if (read_claims(v, ret) < 0)
		return err_set(err, -EPERM, "service account token claims could not be validated");
	r = check_times(ret, err);
	if (r < 0)
		return r;
	if (!is_for(keys, ret, wanted))
		return err_set(err, -EPERM, "token audiences [\"%.*s\"] is invalid for the target audiences [\"%.*s\"]",
			       STR_ARG(ret->audiences[0]), STR_ARG(wanted));
	return 0;
}

int token_verify(const struct token_keys *keys, struct str token, struct str audience, struct arena *arena,
		 struct token_claims *ret, struct err *err)
{
	_cleanup_buf_ struct buf sig = BUF_INIT, text = BUF_INIT;
	struct str rest = token, header, body, signature;
	const struct token_key *key;
	struct token_claims claims;
	struct json *v;
	int r;

	if (token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EPERM, "token is longer than %d bytes", TOKEN_BYTES_MAX);
	if (!str_split(&rest, '.', &header) || !str_split(&rest, '.', &body) || !str_split(&rest, '.', &signature) ||
	    rest.p)
		return err_set(err, -EPERM, TOKEN_UNKNOWN);
	key = find_key(keys, header);
	if (!key)
		return err_set(err, -EPERM, TOKEN_UNKNOWN);
	if (base64_decode(&sig, signature, BASE64_URL) < 0 ||
	    !token_key_verify(key, str_make(token.p, header.n + 1 + body.n), buf_str(&sig)))
		return err_set(err, -EPERM, "error in cryptographic primitive");
	if (base64_decode(&text, body, BASE64_URL) < 0 ||
	    json_parse(arena, arena_str(arena, buf_str(&text)), JSON_PARSE_STRICT_DUPLICATES, &v, NULL) < 0)
		return err_set(err, -EPERM, "service account token claims could not be validated");
	r = judge(keys, v, audience, &claims, err);
	if (r == 0)
		*ret = claims;
	return r;
}
