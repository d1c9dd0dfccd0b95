/* SPDX-License-Identifier: Apache-2.0 */
/* Reviews: questions asked by creating an object that is never stored. Who am I, whose token is this, may they do
 * that. The answers come from authn.c and authz.c, the same that requests are judged by. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/clock.h"

struct review {
	struct call *call;
	struct arena *arena;
	struct json *object, *spec, *status;
};

static struct json *review_user_info(struct arena *arena, const struct request_user *user)
{
	struct json *v = json_new_object(arena), *groups = json_new_array(arena);

	json_set_str(arena, v, "username", user->name);
	if (user->uid.n)
		json_set_str(arena, v, "uid", user->uid);
	for (size_t i = 0; i < user->n_groups; i++)
		json_append(groups, json_new_str(arena, user->groups[i]));
	json_set(v, "groups", groups);
	return v;
}

static int review_self(struct review *r, struct err *err)
{
	json_set(r->status, "userInfo", review_user_info(r->arena, &r->call->user));
	return 0;
}

static int review_token(struct review *r, struct err *err)
{
	const struct json *audiences = json_get(r->spec, "audiences");
	struct str token = json_get_str(r->spec, "token");
	struct json *accepted = json_new_array(r->arena);
	struct request_user user = { 0 };
	bool valid = false;

	if (!token.n)
		return api_err_bad_request(err, "token is required for TokenReview in authentication");
	if (!json_count(audiences))
		valid = authn_token(r->call->as->authn, token, STR_NULL, r->arena, &user) == 0;
	json_foreach(a, audiences) {
		if (authn_token(r->call->as->authn, token, json_str(a), r->arena, &user) < 0)
			continue;
		valid = true;
		json_append(accepted, json_new_str(r->arena, json_str(a)));
	}
	if (!valid) {
		json_set_cstr(r->arena, r->status, "error", "[invalid bearer token]");
		json_set(r->status, "user", json_new_object(r->arena));
		return 0;
	}
	json_set_bool(r->arena, r->status, "authenticated", true);
	json_set(r->status, "user", review_user_info(r->arena, &user));
	if (json_count(accepted))
		json_set(r->status, "audiences", accepted);
	return 0;
}

static int review_attributes(struct review *r, struct err *err)
{
	if (!json_get(r->spec, "resourceAttributes") == !json_get(r->spec, "nonResourceAttributes"))
		return err_set_status(
			err, -EINVAL, 422, "Invalid",
			"%.*s.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: "
			"\"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified",
			STR_ARG(str_of(r->call->route.kind->kind)));
	return 0;
}

static int review_self_access(struct review *r, struct err *err)
{
	int ret = review_attributes(r, err);

	if (ret == 0)
		json_set_bool(r->arena, r->status, "allowed", authz_allows(&r->call->user));
	return ret;
}

static int review_access(struct review *r, struct err *err)
{
	const struct json *groups = json_get(r->spec, "groups");
	struct str *names = arena_new_array(r->arena, struct str, json_count(groups) + 1);
	struct request_user user = { .name = json_get_str(r->spec, "user"), .groups = names };
	int ret = review_attributes(r, err);

	if (ret < 0)
		return ret;
	json_foreach(g, groups)
		names[user.n_groups++] = json_str(g);
	if (!user.name.n && !user.n_groups)
		return err_set_status(
			err, -EINVAL, 422, "Invalid",
			"%s.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of "
			"user or group must be specified",
			r->call->route.kind->kind);
	json_set_bool(r->arena, r->status, "allowed", authz_allows(&user));
	return 0;
}

static int review_rules(struct review *r, struct err *err)
{
	static const char all[] =
		"{\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}],"
		"\"nonResourceRules\":[{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}],\"incomplete\":false}";
	static const char none[] = "{\"resourceRules\":[],\"nonResourceRules\":[],\"incomplete\":false}";
	struct json *rules;
	int ret;

	if (!json_get_str(r->spec, "namespace").n)
		return api_err_bad_request(err, "no namespace on request");
	ret = json_parse(r->arena, authz_allows(&r->call->user) ? STR(all) : STR(none), 0, &rules, err);
	if (ret == 0)
		json_replace(r->status, rules);
	return ret;
}

static const struct {
	const char *kind;
	int (*run)(struct review *r, struct err *err);
} reviews[] = {
	{ "SelfSubjectReview", review_self },
	{ "TokenReview", review_token },
	{ "SelfSubjectAccessReview", review_self_access },
	{ "SubjectAccessReview", review_access },
	{ "LocalSubjectAccessReview", review_access },
	{ "SelfSubjectRulesReview", review_rules },
};

static void review_answer(struct review *r)
{
	const struct request_result result = { .http_status = 201, .body = json_text(r->arena, r->object) };

	respond_result(r->call, &result);
}

bool review_handle(struct call *call, const struct request *q)
{
	struct review r = { .call = call, .arena = call->arena };
	_cleanup_err_ struct err err = ERR_INIT;
	size_t i;
	int ret;

	if (call->route.sub || q->verb != API_VERB_CREATE)
		return false;
	for (i = 0; i < ARRAY_SIZE(reviews); i++)
		if (str_is(str_of(call->route.kind->kind), reviews[i].kind))
			break;
	if (i == ARRAY_SIZE(reviews))
		return false;
	ret = decode_text(call->arena, call->route.kind, q->body, q->media, q->field_validation, NULL, &r.object, &err);
	if (ret == 0) {
		r.spec = json_get(r.object, "spec");
		json_set(r.object, "status", json_new_object(r.arena));
		r.status = json_get(r.object, "status");
		meta_set_time(r.arena, r.object, "creationTimestamp", clock_real_ns());
		ret = reviews[i].run(&r, &err);
	}
	if (ret < 0)
		respond_err(call->http, &err);
	else
		review_answer(&r);
	return true;
}
