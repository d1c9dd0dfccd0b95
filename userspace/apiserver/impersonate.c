/* SPDX-License-Identifier: Apache-2.0 */
/* Impersonation: who may, asks as another. Impersonate-User, -Group, -Uid and -Extra-* are each a question of their own
 * (verb "impersonate"), put for the one who really asks. Loop thread. */
#include <errno.h>
#include <string.h>

#include "userspace/apiserver/call.h"
#include "userspace/base/encode.h"

#define IMPERSONATE "impersonate-"
#define IMPERSONATE_EXTRA IMPERSONATE "extra-"
#define AUTHENTICATION_GROUP "authentication.k8s.io"
#define ACCOUNT_PREFIX "system:serviceaccount:"

struct impersonation {
	struct str user, uid;
	struct str *groups;
	size_t n_groups;
	struct request_extra *extra;
	size_t n_extra;
};

static bool impersonate_asked(const struct http_request *http)
{
	for (size_t i = 0; i < http->n_headers; i++)
		if (str_starts(http->headers[i].name, STR(IMPERSONATE)))
			return true;
	return false;
}

/* Percent escapes undone; a name with a bad one is taken as it is. */
static struct str impersonate_key(struct arena *arena, struct str name)
{
	char *text = arena_strndup(arena, name.p, name.n);
	size_t n = 0;

	for (size_t i = 0; i < name.n; i++) {
		int high, low;

		if (name.p[i] != '%') {
			text[n++] = name.p[i];
			continue;
		}
		high = i + 2 < name.n ? hex_digit(name.p[i + 1]) : -1;
		low = high >= 0 ? hex_digit(name.p[i + 2]) : -1;
		if (low < 0)
			return name;
		text[n++] = (char)(high * 16 + low);
		i += 2;
	}
	return str_make(text, n);
}

static void impersonate_extra(struct arena *arena, struct impersonation *im, struct str name, struct str value,
			      size_t values_max)
{
	struct str key = impersonate_key(
		arena, str_make(name.p + sizeof(IMPERSONATE_EXTRA) - 1, name.n - (sizeof(IMPERSONATE_EXTRA) - 1)));
	struct request_extra *e = NULL;

	for (size_t i = 0; i < im->n_extra; i++)
		if (str_eq(im->extra[i].key, key))
			e = &im->extra[i];
	if (!e) {
		e = &im->extra[im->n_extra++];
		e->key = key;
		e->values = arena_new_array(arena, struct str, values_max);
	}
	((struct str *)(uintptr_t)e->values)[e->n_values++] = value;
}

static void impersonate_read(struct call *call, struct impersonation *im)
{
	const struct http_request *http = call->http;

	im->groups = arena_new_array(call->arena, struct str, http->n_headers + 3);
	im->extra = arena_new_array(call->arena, struct request_extra, http->n_headers + 1);
	im->user = http_request_header(http, IMPERSONATE "user");
	im->uid = http_request_header(http, IMPERSONATE "uid");
	for (size_t i = 0; i < http->n_headers; i++) {
		const struct http_header *h = &http->headers[i];

		if (str_is(h->name, IMPERSONATE "group"))
			im->groups[im->n_groups++] = h->value;
		else if (str_starts(h->name, STR(IMPERSONATE_EXTRA)))
			impersonate_extra(call->arena, im, h->name, h->value, http->n_headers);
	}
}

/* Something of somebody, and no user: upstream calls that its own error, and answers with plain text. */
static void impersonate_nobody(struct call *call, const struct impersonation *im)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	const char *blank = "";

	buf_printf(&text, "Internal Server Error: \"%.*s%s%.*s\": requested [", STR_ARG(call->http->path),
		   call->http->query.n ? "?" : "", STR_ARG(call->http->query));
	for (size_t i = 0; i < im->n_groups; i++, blank = " ")
		buf_printf(&text, "%s{Group  %.*s    }", blank, STR_ARG(im->groups[i]));
	for (size_t i = 0; i < im->n_extra; i++)
		for (size_t k = 0; k < im->extra[i].n_values; k++, blank = " ")
			buf_printf(&text, "%s{UserExtra  %.*s  " AUTHENTICATION_GROUP "/v1  %.*s}", blank,
				   STR_ARG(im->extra[i].values[k]), STR_ARG(im->extra[i].key));
	if (im->uid.n)
		buf_printf(&text, "%s{UID  %.*s  " AUTHENTICATION_GROUP "/v1  }", blank, STR_ARG(im->uid));
	buf_add_cstr(&text, "] without impersonating a user\n");
	http_respond(call->http, 500, "text/plain; charset=utf-8", NULL, 0, arena_str(call->arena, buf_str(&text)));
}

/* ---- may they ---- */

static int impersonate_ask(struct call *call, struct authz_attributes a, struct err *err)
{
	struct str reason;

	a.user = &call->user;
	a.verb = STR("impersonate");
	if (authz_decide(call->as->reg, &a, call->arena, &reason) == AUTHZ_ALLOW)
		return 0;
	return authz_forbidden(err, &a, reason);
}

/* "system:serviceaccount:NS:NAME" taken apart. */
static bool impersonate_account(struct str user, struct str *ret_ns, struct str *ret_name)
{
	long colon;

	if (!str_starts(user, STR(ACCOUNT_PREFIX)))
		return false;
	user = str_make(user.p + sizeof(ACCOUNT_PREFIX) - 1, user.n - (sizeof(ACCOUNT_PREFIX) - 1));
	colon = str_find(user, ':');
	if (colon <= 0 || (size_t)colon + 1 == user.n)
		return false;
	*ret_ns = str_make(user.p, (size_t)colon);
	*ret_name = str_make(user.p + colon + 1, user.n - (size_t)colon - 1);
	return str_find(*ret_name, ':') < 0;
}

static int impersonate_check(struct call *call, const struct impersonation *im, struct err *err)
{
	struct authz_attributes a = { .resource = STR("users"), .version = STR("v1"), .name = im->user };
	int r;

	if (impersonate_account(im->user, &a.ns, &a.name))
		a.resource = STR("serviceaccounts");
	r = impersonate_ask(call, a, err);
	for (size_t i = 0; i < im->n_groups && r == 0; i++)
		r = impersonate_ask(call,
				    (struct authz_attributes){
					    .resource = STR("groups"), .version = STR("v1"), .name = im->groups[i] },
				    err);
	a = (struct authz_attributes){ .group = STR(AUTHENTICATION_GROUP),
				       .version = STR("v1"),
				       .resource = STR("userextras") };
	for (size_t i = 0; i < im->n_extra && r == 0; i++) {
		a.subresource = im->extra[i].key;
		for (size_t k = 0; k < im->extra[i].n_values && r == 0; k++) {
			a.name = im->extra[i].values[k];
			r = impersonate_ask(call, a, err);
		}
	}
	if (r < 0 || !im->uid.n)
		return r;
	a.resource = STR("uids");
	a.subresource = STR_NULL;
	a.name = im->uid;
	return impersonate_ask(call, a, err);
}

/* ---- becoming ---- */

static bool impersonate_in(const struct impersonation *im, const char *group)
{
	for (size_t i = 0; i < im->n_groups; i++)
		if (str_is(im->groups[i], group))
			return true;
	return false;
}

/* Named groups are the authority; the ones that everybody is in are added where none of them is named. */
static void impersonate_groups(struct call *call, struct impersonation *im)
{
	bool anonymous = str_is(im->user, "system:anonymous");
	struct str ns, name;

	if (!im->n_groups && impersonate_account(im->user, &ns, &name)) {
		im->groups[im->n_groups++] = STR("system:serviceaccounts");
		im->groups[im->n_groups++] =
			str_of(arena_printf(call->arena, "system:serviceaccounts:%.*s", STR_ARG(ns)));
	}
	if (impersonate_in(im, "system:unauthenticated") || (!anonymous && impersonate_in(im, "system:authenticated")))
		return;
	im->groups[im->n_groups++] = anonymous ? STR("system:unauthenticated") : STR("system:authenticated");
}

int impersonate(struct call *call, struct err *err)
{
	struct impersonation im = { .n_groups = 0 };
	struct request_user *requestor;
	int r;

	if (!impersonate_asked(call->http))
		return 0;
	impersonate_read(call, &im);
	if (!im.user.n) {
		if (!im.n_groups && !im.n_extra && !im.uid.n)
			return 0;
		impersonate_nobody(call, &im);
		return 1;
	}
	r = impersonate_check(call, &im, err);
	if (r < 0)
		return r;
	impersonate_groups(call, &im);
	requestor = arena_new(call->arena, struct request_user);
	*requestor = call->user;
	call->requestor = requestor;
	call->user = (struct request_user){ .name = im.user,
					    .uid = im.uid,
					    .groups = im.groups,
					    .n_groups = im.n_groups,
					    .extra = im.extra,
					    .n_extra = im.n_extra };
	call->anonymous = str_is(im.user, "system:anonymous");
	return 0;
}
