/* SPDX-License-Identifier: Apache-2.0 */
/* LIST: selectors, paging at one revision, continue tokens (base64url of {"v","rv","start"}, as clients of
 * Kubernetes carry them). Loop thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

int selection_parse(struct arena *arena, const struct api_kind *kind, struct str ns, struct str label_selector,
		    struct str field_selector, struct selection *ret, struct err *err)
{
	struct selection s = { .ns = kind->namespaced ? ns : STR_NULL };
	int r;

	if (label_selector.n > REQUEST_SELECTOR_MAX || field_selector.n > REQUEST_SELECTOR_MAX)
		return api_err_bad_request(err, "a selector may have at most %d bytes", REQUEST_SELECTOR_MAX);
	r = selector_parse(arena, label_selector, &s.labels, err);
	if (r >= 0)
		r = field_selector_parse(arena, kind, field_selector, &s.fields, err);
	if (r < 0)
		return r;
	s.all = selector_is_everything(&s.labels) && s.fields.n == 0;
	*ret = s;
	return 0;
}

bool selection_matches(const struct selection *s, const struct object *o)
{
	if (s->ns.n > 0 && !str_eq(s->ns, o->ns))
		return false;
	if (s->all)
		return true;
	return selector_matches(&s->labels, (const struct api_label *)o->labels, o->n_labels) &&
	       field_selector_matches(&s->fields, o->ns, o->name, o->fields, o->n_fields);
}

/* ---- continue tokens ---- */

#define INCONSISTENT (-1) /* revision of a token that goes on from a place in whatever is there now */

struct place {
	int64_t revision;
	struct str ns, name;
};

static int bad_token(struct err *err, const char *why)
{
	return api_err_bad_request(err, "invalid continue token: continue key is not valid%s%s", *why ? ": " : "", why);
}

/* As upstream, which joins them to a key of the store, has it: no empty, "." or ".." segment. */
static bool place_is_clean(struct str start)
{
	struct str part;

	if (start.n && start.p[start.n - 1] == '/')
		return false;
	while (str_split(&start, '/', &part))
		if (!part.n || str_is(part, ".") || str_is(part, ".."))
			return false;
	return true;
}

static int token_parse(struct arena *arena, struct str token, bool namespaced, struct place *ret, struct err *err)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct json *tree = NULL;
	struct str start;
	long slash;

	if (token.n > REQUEST_CONTINUE_MAX)
		return bad_token(err, "too long");
	while (token.n > 0 && token.p[token.n - 1] == '=')
		token.n--;
	if (base64_decode(&text, token, BASE64_URL) < 0)
		return bad_token(err, "illegal base64 data");
	if (json_parse(arena, arena_str(arena, buf_str(&text)), 0, &tree, NULL) < 0)
		return bad_token(err, "invalid character");
	ret->revision = json_get_int(tree, "rv", 0);
	start = json_get_str(tree, "start");
	if (!str_is(json_get_str(tree, "v"), "meta.k8s.io/v1"))
		return api_err_bad_request(err,
					   "invalid continue token: continue key is not valid: server does not "
					   "recognize this encoded version \"%.*s\"",
					   STR_ARG(json_get_str(tree, "v")));
	if (!ret->revision || ret->revision < INCONSISTENT)
		return bad_token(err, "incorrect encoded start resourceVersion (version meta.k8s.io/v1)");
	if (start.n < 2)
		return bad_token(err, "encoded start key empty (version meta.k8s.io/v1)");
	if (start.p[start.n - 1] == '\0')
		start.n--;
	if (!place_is_clean(start))
		return bad_token(err, "");
	if (!namespaced) {
		ret->ns = STR_NULL;
		ret->name = start;
		return 0;
	}
	slash = str_find(start, '/');
	if (slash <= 0)
		return bad_token(err, "");
	ret->ns = str_make(start.p, (size_t)slash);
	ret->name = str_make(start.p + slash + 1, start.n - (size_t)slash - 1);
	return 0;
}

static struct str token_make(struct arena *arena, int64_t revision, struct str ns, struct str name)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT, token = BUF_INIT;

	buf_printf(&text, "{\"v\":\"meta.k8s.io/v1\",\"rv\":%lld,\"start\":\"%.*s%s%.*s\\u0000\"}", (long long)revision,
		   STR_ARG(ns), ns.n ? "/" : "", STR_ARG(name));
	base64_encode(&token, text.data + text.start, buf_len(&text), BASE64_URL);
	return arena_str(arena, buf_str(&token));
}

/* ---- listing ---- */

struct listing {
	struct selection selection;
	int64_t limit;
	const struct object **items;
	size_t n, cap;
	size_t beyond; /* matching ones after the page */
	bool more;
};

static bool take(void *arg, const struct object *o)
{
	struct listing *l = arg;

	if (!selection_matches(&l->selection, o))
		return true;
	if (l->limit > 0 && (int64_t)l->n >= l->limit) {
		l->more = true;
		l->beyond++;
		return l->selection.all; /* go on only to count */
	}
	mem_grow(l->items, l->cap, l->n + 1);
	l->items[l->n++] = o;
	return true;
}

static int match_error(const char *what, struct err *err)
{
	return err_set_status(err, -EINVAL, 422, "Invalid",
			      "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: %s", what);
}

int list_too_large(struct err *err, int64_t asked, int64_t now)
{
	err_set_status(err, -ETIMEDOUT, 504, "Timeout", "Timeout: Too large resource version: %lld, current: %lld",
		       (long long)asked, (long long)now);
	err_add_cause(err, "ResourceVersionTooLarge", NULL, "Too large resource version");
	if (err)
		err->retry_after_s = 1;
	return -ETIMEDOUT;
}

/* Which revision to show: 0 is now. */
static int choose_revision(struct registry *reg, const struct request *rq, const struct place *place, int64_t *ret,
			   struct err *err)
{
	int64_t asked = 0, now = store_revision(reg->store);
	struct str match = rq->resource_version_match;
	bool exact;

	if (rq->resource_version.n > 0 && (str_to_int64(rq->resource_version, &asked) < 0 || asked < 0))
		return api_err_bad_request(err,
					   "invalid resource version: resourceVersion: Invalid value: \"%.*s\": "
					   "strconv.ParseUint: parsing \"%.*s\": invalid syntax",
					   STR_ARG(rq->resource_version), STR_ARG(rq->resource_version));
	if (rq->continue_token.n > 0 && asked > 0)
		return api_err_bad_request(err, "specifying resource version is not allowed when using continue");
	if (match.n > 0 && rq->continue_token.n > 0)
		return match_error("Forbidden: resourceVersionMatch is forbidden when continue is provided", err);
	if (match.n > 0 && rq->resource_version.n == 0)
		return match_error("Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
				   err);
	if (match.n > 0 && !str_is(match, "Exact") && !str_is(match, "NotOlderThan"))
		return match_error("Unsupported value: supported values: \"Exact\", \"NotOlderThan\", \"\"", err);
	if (str_is(match, "Exact") && asked == 0)
		return match_error("Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
				   err);
	if (asked > now)
		return list_too_large(err, asked, now);
	/* A limit without a match means that very revision, as it did before there were matches. */
	exact = str_is(match, "Exact") || (match.n == 0 && rq->limit > 0 && asked > 0);
	*ret = place->revision > 0 ? place->revision : exact ? asked : 0;
	return 0;
}

/* The page cannot be shown as of its first one any more; from its place on what is there now can. */
static int continue_expired(const struct place *place, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str token = token_make(&arena, INCONSISTENT, place->ns, place->name);

	api_err_continue_expired(err);
	if (err)
		err->list_continue = str_dup(token);
	return -ESTALE;
}

/* Revision 0 asks upstream's watch cache, which knows no pages; Events are in none. */
static int64_t limit_of(const struct request *rq)
{
	if (str_is(rq->resource_version, "0") && rq->continue_token.n == 0 &&
	    rq->kind->resource != KIND_EVENT->resource)
		return 0;
	return rq->limit > REQUEST_LIST_LIMIT_MAX ? REQUEST_LIST_LIMIT_MAX : rq->limit;
}

static int list_steps(struct registry *reg, const struct request *rq, struct arena *arena, struct listing *l,
		      struct request_result *result, struct err *err)
{
	struct place place = { 0 };
	int64_t revision = 0;
	int r = selection_parse(arena, rq->kind, rq->ns, rq->label_selector, rq->field_selector, &l->selection, err);

	if (r >= 0 && rq->continue_token.n > 0)
		r = token_parse(arena, rq->continue_token, rq->kind->namespaced, &place, err);
	if (r >= 0)
		r = choose_revision(reg, rq, &place, &revision, err);
	if (r < 0)
		return r;
	l->limit = limit_of(rq);
	r = store_walk(reg->store, rq->kind->resource, l->selection.ns, revision, place.ns, place.name, take, l, err);
	if (r == -ESTALE && rq->continue_token.n > 0)
		return continue_expired(&place, err);
	if (r == -ESTALE)
		return err_set_status(err, -ESTALE, 410, "Expired",
				      "The resourceVersion for the provided list is too old.");
	if (r < 0)
		return r;
	result->items = l->items;
	result->n_items = l->n;
	result->list_revision = revision ? revision : store_revision(reg->store);
	if (l->more) {
		result->list_continue =
			token_make(arena, result->list_revision, l->items[l->n - 1]->ns, l->items[l->n - 1]->name);
		if (l->selection.all)
			result->list_remaining = (int64_t)l->beyond;
	}
	return 0;
}

/* One object by name is a look-up, not a walk. */
static bool list_one(struct registry *reg, const struct request *rq, struct listing *l, struct request_result *result)
{
	struct str name = field_selector_name(&l->selection.fields);
	const struct object *o;

	if (name.n == 0 || rq->continue_token.n > 0 || (rq->kind->namespaced && rq->ns.n == 0) ||
	    rq->resource_version_match.n > 0 || rq->resource_version.n > 0)
		return false;
	o = store_get(reg->store, rq->kind->resource, l->selection.ns, name);
	if (o)
		take(l, o);
	result->items = l->items;
	result->n_items = l->n;
	result->list_revision = store_revision(reg->store);
	return true;
}

void list_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct request_result result = { .http_status = 200, .list_remaining = -1 };
	struct listing l = { 0 };
	int r = 0;

	if (rq->field_selector.n > 0)
		r = selection_parse(&arena, rq->kind, rq->ns, rq->label_selector, rq->field_selector, &l.selection,
				    &err);
	if (r >= 0 && !(rq->field_selector.n > 0 && list_one(reg, rq, &l, &result)))
		r = list_steps(reg, rq, &arena, &l, &result, &err);
	done(arg, r < 0 ? NULL : &result, r < 0 ? &err : NULL);
	free(l.items);
}
