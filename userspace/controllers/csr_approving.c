/* SPDX-License-Identifier: Apache-2.0 */
/* Client certificates of nodes approve themselves where RBAC lets the asker "create" selfnodeclient (its own renewal)
 * or nodeclient (a first one) of certificatesigningrequests. Key: the request. Loop thread only. */
#include "userspace/api/csr.h"
#include "userspace/base/log.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"
#include "userspace/registry/authz.h"

static bool is_open(const struct json *csr)
{
	const struct json *conditions = json_at(csr, "status.conditions");

	return !json_at_str(csr, "status.certificate").n && !meta_condition(conditions, "Approved") &&
	       !meta_condition(conditions, "Denied");
}

static const struct str *strings(struct arena *arena, const struct json *list, size_t *ret_n)
{
	struct str *items = arena_new_array(arena, struct str, json_count(list) + 1);

	*ret_n = 0;
	json_foreach(v, list)
		items[(*ret_n)++] = json_str(v);
	return items;
}

static struct request_user asker(struct arena *arena, const struct json *spec)
{
	const struct json *extra = json_get(spec, "extra");
	struct request_extra *extras = arena_new_array(arena, struct request_extra, json_count(extra) + 1);
	struct request_user user = { .name = json_get_str(spec, "username"), .uid = json_get_str(spec, "uid") };

	user.groups = strings(arena, json_get(spec, "groups"), &user.n_groups);
	json_foreach(m, extra) {
		extras[user.n_extra].key = m->key;
		extras[user.n_extra].values = strings(arena, m, &extras[user.n_extra].n_values);
		user.n_extra++;
	}
	user.extra = extras;
	return user;
}

static bool may(struct reconcile *ctx, const struct request_user *user, const char *subresource)
{
	const struct authz_attributes a = {
		.user = user,
		.verb = STR("create"),
		.group = STR("certificates.k8s.io"),
		.version = STR("*"),
		.resource = STR("certificatesigningrequests"),
		.subresource = str_of(subresource),
	};

	return authz_decide(ctx->reg, &a, ctx->arena, NULL) == AUTHZ_ALLOW;
}

static int mutate_approved(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *conditions, *c;

	if (!is_open(object))
		return 1;
	conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	c = json_new_object(arena);
	json_set_cstr(arena, c, "type", "Approved");
	json_set_cstr(arena, c, "status", "True");
	json_set_cstr(arena, c, "reason", "AutoApproved");
	json_set_cstr(arena, c, "message", arg);
	json_append(conditions, c);
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	static const struct {
		const char *subresource;
		char *message;
		bool self;
	} ways[] = {
		{ "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.", true },
		{ "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.", false },
	};
	const struct object *o = registry_get(ctx->reg, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name);
	struct request_user user;
	struct csr parsed;
	struct json *csr;
	int r;

	if (!o || o->deleting)
		return 0;
	csr = registry_parse(ctx->arena, o);
	if (!is_open(csr) || !str_is(json_at_str(csr, "spec.signerName"), CSR_SIGNER_KUBELET_CLIENT))
		return 0;
	r = csr_parse_object(ctx->arena, csr, &parsed, err);
	if (r < 0)
		return r;
	if (csr_check_signer(STR(CSR_SIGNER_KUBELET_CLIENT), &parsed, json_at(csr, "spec.usages"), NULL) < 0)
		return 0;
	user = asker(ctx->arena, json_get(csr, "spec"));
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if ((ways[i].self && !str_eq(user.name, parsed.cn)) || !may(ctx, &user, ways[i].subresource))
			continue;
		reconcile_update(ctx, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name, "approval", mutate_approved,
				 ways[i].message, NULL);
		return 0;
	}
	log_info("certificate request of a node is not approved by itself name=%.*s", STR_ARG(ctx->name));
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_CERTIFICATESIGNINGREQUEST, runner_enqueue_self },
};

const struct controller controller_csr_approving = {
	.name = "csrapproving",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
