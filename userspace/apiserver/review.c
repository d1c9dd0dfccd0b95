/* SPDX-License-Identifier: Apache-2.0 */
/* Reviews: questions asked by creating an object that is never stored. Who am I, whose token is this, may they do
 * that. The answers come from authn.c and the registry's authz.h, the same that requests are judged by. */
#include <errno.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/api/validate.h"
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
	if (user->n_groups)
		json_set(v, "groups", groups);
	for (size_t i = 0; i < user->n_extra; i++) {
		struct json *values = json_new_array(arena);

		for (size_t k = 0; k < user->extra[i].n_values; k++)
			json_append(values, json_new_str(arena, user->extra[i].values[k]));
		json_set_n(json_ensure_object(arena, v, "extra"), user->extra[i].key, values);
	}
	return v;
}

static int review_self(struct review *r, struct err *err)
{
	json_set(r->status, "userInfo", review_user_info(r->arena, &r->call->user));
	return 0;
}

/* Whose the token is for one audience, which then is one of the answer's. */
static bool review_audience(struct review *r, struct str token, struct str audience, struct request_user *user,
			    struct json *accepted, struct err *why)
{
	if (authn_token(r->call->as->authn, token, audience, r->arena, user, why) < 0)
		return false;
	json_append(accepted, json_new_str(r->arena, audience));
	return true;
}

static int review_token(struct review *r, struct err *err)
{
	const struct json *audiences = json_get(r->spec, "audiences");
	struct str token = json_get_str(r->spec, "token");
	struct json *accepted = json_new_array(r->arena);
	struct request_user user = { 0 };
	_cleanup_err_ struct err why = ERR_INIT;
	bool valid = false;

	if (!token.n)
		return api_err_bad_request(err, "token is required for TokenReview in authentication");
	if (!json_count(audiences))
		valid = review_audience(r, token, str_of(token_issuer(r->call->as->tokens)), &user, accepted, &why);
	json_foreach(a, audiences)
		valid = review_audience(r, token, json_str(a), &user, accepted, &why) || valid;
	if (!valid) {
		bool unknown = strcmp(err_message(&why), TOKEN_UNKNOWN) == 0;

		json_set(r->status, "error",
			 unknown ? json_new_cstr(r->arena, TOKEN_UNKNOWN)
				 : json_new_printf(r->arena, "[" TOKEN_UNKNOWN ", %s]", err_message(&why)));
		json_set(r->status, "user", json_new_object(r->arena));
		return 0;
	}
	json_set_bool(r->arena, r->status, "authenticated", true);
	json_set(r->status, "user", review_user_info(r->arena, &user));
	json_set(r->status, "audiences", accepted);
	return 0;
}

/* ---- may they ---- */

/* Raw text or requirements, not both and not neither. RBAC does not look at either. */
static void review_selector(const struct json *attributes, const char *key, struct field_errors *e)
{
	const struct json *selector = json_get(attributes, key);
	const struct field_path *at = FIELD_STR(FIELD(NULL, "spec.resourceAttributes"), str_of(key));
	struct str raw = json_get_str(selector, "rawSelector");
	size_t n = json_count(json_get(selector, "requirements")), i = 0;

	if (!selector)
		return;
	if (raw.n && n)
		field_invalid_str(e, FIELD(at, "rawSelector"), raw,
				  "may not specified at the same time as requirements");
	if (!raw.n && !n)
		field_required(e, FIELD(at, "requirements"),
			       "when spec.resourceAttributes.%s is specified, requirements or rawSelector is required",
			       key);
	json_foreach(r, json_get(selector, "requirements")) {
		const struct field_path *item = FIELD_INDEX(FIELD(at, "requirements"), i++);
		struct str op = json_get_str(r, "operator");
		bool wants = str_is(op, "In") || str_is(op, "NotIn");

		if (!json_get_str(r, "key").n)
			field_required(e, FIELD(item, "key"), "must be specified");
		if (!wants && !str_is(op, "Exists") && !str_is(op, "DoesNotExist"))
			field_invalid_str(e, FIELD(item, "operator"), op, "not a valid selector operator");
		else if (wants && !json_count(json_get(r, "values")))
			field_required(e, FIELD(item, "values"),
				       "must be specified when `operator` is 'In' or 'NotIn'");
		else if (!wants && json_count(json_get(r, "values")))
			field_forbidden(e, FIELD(item, "values"),
					"may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
	}
}

static void review_attributes(const struct json *spec, bool of_user, struct field_errors *e)
{
	const struct json *resource = json_get(spec, "resourceAttributes"),
			  *path = json_get(spec, "nonResourceAttributes");

	if (resource && path)
		field_invalid(e, FIELD(NULL, "spec.nonResourceAttributes"), path,
			      "cannot be specified in combination with resourceAttributes");
	if (!resource && !path)
		field_invalid_str(e, FIELD(NULL, "spec.resourceAttributes"), STR("null"),
				  "exactly one of nonResourceAttributes or resourceAttributes must be specified");
	if (of_user && !json_get_str(spec, "user").n && !json_count(json_get(spec, "groups")))
		field_invalid_str(e, FIELD(NULL, "spec.user"), STR(""),
				  "at least one of user or group must be specified");
	review_selector(resource, "fieldSelector", e);
	review_selector(resource, "labelSelector", e);
}

static int review_valid(struct review *r, struct field_errors *e, struct err *err)
{
	return field_errors_result(e, r->call->route.kind, meta_name(r->object), err);
}

static int review_decide(struct review *r, const struct request_user *user, struct err *err)
{
	const struct json *v = json_get(r->spec, "resourceAttributes"),
			  *path = json_get(r->spec, "nonResourceAttributes");
	const struct authz_attributes a = {
		.user = user,
		.is_path = v == NULL,
		.verb = json_get_str(v ? v : path, "verb"),
		.path = json_get_str(path, "path"),
		.group = json_get_str(v, "group"),
		.version = json_get_str(v, "version"),
		.resource = json_get_str(v, "resource"),
		.subresource = json_get_str(v, "subresource"),
		.ns = json_get_str(v, "namespace"),
		.name = json_get_str(v, "name"),
	};
	struct str reason;

	json_set_bool(r->arena, r->status, "allowed",
		      authz_decide(r->call->as->reg, &a, r->arena, &reason) == AUTHZ_ALLOW);
	if (reason.n)
		json_set_str(r->arena, r->status, "reason", reason);
	return 0;
}

static int review_self_access(struct review *r, struct err *err)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	int ret;

	review_attributes(r->spec, false, &e);
	ret = review_valid(r, &e, err);
	return ret < 0 ? ret : review_decide(r, &r->call->user, err);
}

static int review_of_user(struct review *r, struct err *err)
{
	const struct json *groups = json_get(r->spec, "groups");
	struct str *names = arena_new_array(r->arena, struct str, json_count(groups) + 1);
	struct request_user user = { .name = json_get_str(r->spec, "user"), .groups = names };

	json_foreach(g, groups)
		names[user.n_groups++] = json_str(g);
	return review_decide(r, &user, err);
}

static int review_access(struct review *r, struct err *err)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	int ret;

	review_attributes(r->spec, true, &e);
	ret = review_valid(r, &e, err);
	return ret < 0 ? ret : review_of_user(r, err);
}

static int review_local_access(struct review *r, struct err *err)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	struct str ns = json_at_str(r->spec, "resourceAttributes.namespace");
	int ret;

	/* What the object leaves out is that of the path. */
	if (!meta_namespace(r->object).n)
		json_set_str(r->arena, meta_ensure(r->arena, r->object), "namespace", r->call->route.ns);
	if (!str_eq(meta_namespace(r->object), r->call->route.ns))
		return api_err_bad_request(err,
					   "the namespace of the provided object does not match the namespace sent "
					   "on the request");
	review_attributes(r->spec, true, &e);
	if (json_get(r->spec, "resourceAttributes") && !str_eq(ns, r->call->route.ns))
		field_invalid_str(&e, FIELD(NULL, "spec.resourceAttributes.namespace"), ns,
				  "must match metadata.namespace");
	if (json_get(r->spec, "nonResourceAttributes"))
		field_invalid(&e, FIELD(NULL, "spec.nonResourceAttributes"), json_get(r->spec, "nonResourceAttributes"),
			      "disallowed on this kind of request");
	ret = review_valid(r, &e, err);
	return ret < 0 ? ret : review_of_user(r, err);
}

static int review_rules(struct review *r, struct err *err)
{
	struct str ns = json_get_str(r->spec, "namespace");

	if (!ns.n)
		return api_err_bad_request(err, "no namespace on request");
	authz_rules(r->call->as->reg, &r->call->user, ns, r->arena, r->status);
	return 0;
}

static const struct {
	const char *kind;
	int (*run)(struct review *r, struct err *err);
} reviews[] = {
	{ "SelfSubjectReview", review_self },
	{ "TokenReview", review_token },
	{ "SelfSubjectAccessReview", review_self_access },
	{ "SubjectAccessReview", review_access },
	{ "LocalSubjectAccessReview", review_local_access },
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
