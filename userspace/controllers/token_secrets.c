/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of type kubernetes.io/service-account-token: each gets the token of the account that its annotation names,
 * the cluster's CA and its namespace, and goes with the account. Key: the secret. Loop thread only. */
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/signer.h"
#include "userspace/controllers/table.h"

#define TOKEN_TYPE "kubernetes.io/service-account-token"
#define ACCOUNT_NAME "kubernetes.io/service-account.name"
#define ACCOUNT_UID "kubernetes.io/service-account.uid"

/* Without parsing: most secrets are of another type. */
static bool may_be_token(const struct object *o)
{
	return memmem(o->json.p, o->json.n, TOKEN_TYPE, sizeof(TOKEN_TYPE) - 1) != NULL;
}

static void map_secret(struct runner *r, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	if (type != REGISTRY_DELETED && may_be_token(o))
		runner_enqueue(r, o->ns, o->name);
}

static void enqueue_secret(void *arg, const struct object *o)
{
	if (may_be_token(o))
		runner_enqueue(arg, o->ns, o->name);
}

/* An account that comes or goes: all tokens of its namespace are looked at. */
static void map_account(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	if (type != REGISTRY_MODIFIED)
		registry_each(runner_registry(r), KIND_SECRET, o->ns, enqueue_secret, r);
}

struct wanted {
	struct reconcile *ctx;
	const struct object *account;
	struct str token; /* empty: there is one */
};

static struct str encoded(struct arena *arena, struct str text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	base64_encode(&b, text.p, text.n, BASE64_STD);
	return arena_str(arena, buf_str(&b));
}

static bool has_ca(const struct json *secret, const struct controllers_options *options, struct arena *arena)
{
	return !options->root_ca_pem ||
	       str_eq(json_get_str(json_get(secret, "data"), "ca.crt"), encoded(arena, str_of(options->root_ca_pem)));
}

static bool is_complete(const struct json *secret, const struct object *account,
			const struct controllers_options *options, struct arena *arena)
{
	const struct json *data = json_get(secret, "data");

	return json_get_str(data, "token").n && json_get_str(data, "namespace").n && has_ca(secret, options, arena) &&
	       str_eq(meta_annotation(secret, ACCOUNT_UID), account->uid);
}

static int mutate_secret(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct wanted *w = arg;
	struct json *data;

	if (is_complete(object, w->account, w->ctx->options, arena))
		return 1;
	data = json_ensure_object(arena, object, "data");
	meta_set_annotation(arena, object, ACCOUNT_UID, w->account->uid);
	if (!json_get_str(data, "token").n && w->token.n)
		json_set_str(arena, data, "token", encoded(arena, w->token));
	if (!json_get_str(data, "namespace").n)
		json_set_str(arena, data, "namespace", encoded(arena, w->ctx->ns));
	if (!has_ca(object, w->ctx->options, arena))
		json_set_str(arena, data, "ca.crt", encoded(arena, str_of(w->ctx->options->root_ca_pem)));
	return 0;
}

static int make_token(struct reconcile *ctx, const struct object *secret, const struct object *account, struct str *ret,
		      struct err *err)
{
	const struct signer *signer = ctx->options->signer;
	const struct signer_token request = {
		.ns = ctx->ns,
		.service_account = account->name,
		.service_account_uid = account->uid,
		.secret = secret->name,
	};

	return signer->token(signer->ctx, &request, ctx->arena, ret, err);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *o = registry_get(ctx->reg, KIND_SECRET, ctx->ns, ctx->name);
	struct registry_delete_options options = { .grace_period_s = -1 };
	struct wanted wanted = { .ctx = ctx };
	struct json *secret;
	struct str uid;
	int r;

	if (!o || o->deleting || !ctx->options->signer)
		return 0;
	secret = registry_parse(ctx->arena, o);
	if (!str_is(json_get_str(secret, "type"), TOKEN_TYPE))
		return 0;
	uid = meta_annotation(secret, ACCOUNT_UID);
	wanted.account = registry_get(ctx->reg, KIND_SERVICEACCOUNT, ctx->ns, meta_annotation(secret, ACCOUNT_NAME));
	if (!wanted.account || (uid.n && !str_eq(uid, wanted.account->uid))) {
		options.uid = o->uid;
		reconcile_delete(ctx, o, KIND_SECRET, &options, NULL);
		return 0;
	}
	if (is_complete(secret, wanted.account, ctx->options, ctx->arena))
		return 0;
	if (!json_get_str(json_get(secret, "data"), "token").n) {
		r = make_token(ctx, o, wanted.account, &wanted.token, err);
		if (r < 0)
			return r;
	}
	reconcile_update(ctx, KIND_SECRET, ctx->ns, ctx->name, NULL, mutate_secret, &wanted, NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_SECRET, map_secret },
	{ &KIND_SERVICEACCOUNT, map_account },
};

const struct controller controller_token_secrets = {
	.name = "serviceaccount-token",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
