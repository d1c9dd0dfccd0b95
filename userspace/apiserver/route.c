/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and queries. Upstream's rules: staging of /api and /apis, namespaced and cluster-wide forms. See call.h. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/encode.h"

/* Percent decoding; `plus`: '+' is a blank (queries). */
static int unescape(struct arena *arena, struct str s, bool plus, struct str *ret)
{
	char *out, *at;

	if (str_find(s, '%') < 0 && (!plus || str_find(s, '+') < 0)) {
		*ret = s;
		return 0;
	}
	out = at = arena_alloc(arena, s.n + 1);
	for (size_t i = 0; i < s.n; i++) {
		int hi, lo;

		if (s.p[i] == '+' && plus) {
			*at++ = ' ';
			continue;
		}
		if (s.p[i] != '%') {
			*at++ = s.p[i];
			continue;
		}
		if (i + 2 >= s.n || (hi = hex_digit(s.p[i + 1])) < 0 || (lo = hex_digit(s.p[i + 2])) < 0)
			return -EINVAL;
		*at++ = (char)(hi << 4 | lo);
		i += 2;
	}
	*at = '\0';
	*ret = str_make(out, (size_t)(at - out));
	return 0;
}

int query_parse(struct arena *arena, struct str raw, struct query *ret)
{
	struct query q = { 0 };
	struct str part;
	size_t n = 1;

	*ret = q;
	if (!raw.n)
		return 0;
	for (size_t i = 0; i < raw.n; i++)
		n += raw.p[i] == '&';
	if (n > QUERY_PARAMS_MAX)
		return -EINVAL;
	q.params = arena_new_array(arena, struct query_param, n);
	while (str_split(&raw, '&', &part)) {
		struct str value = part, key;

		if (!part.n)
			continue;
		if (!str_split(&value, '=', &key) || unescape(arena, key, true, &q.params[q.n].key) < 0 ||
		    unescape(arena, value, true, &q.params[q.n].value) < 0)
			return -EINVAL;
		q.n++;
	}
	*ret = q;
	return 0;
}

struct str query_get(const struct query *q, const char *key)
{
	for (size_t i = 0; i < q->n; i++)
		if (str_is(q->params[i].key, key))
			return q->params[i].value;
	return STR_NULL;
}

bool query_has(const struct query *q, const char *key)
{
	for (size_t i = 0; i < q->n; i++)
		if (str_is(q->params[i].key, key))
			return true;
	return false;
}

bool query_bool(const struct query *q, const char *key)
{
	struct str v = query_get(q, key);

	if (!query_has(q, key))
		return false;
	return !(str_is(v, "false") || str_is(v, "0") || str_is(v, "f") || str_is(v, "F") || str_is(v, "False") ||
		 str_is(v, "FALSE"));
}

int query_int(const struct query *q, const char *key, int64_t otherwise, int64_t *ret, struct err *err)
{
	struct str v = query_get(q, key);

	if (!v.n) {
		*ret = otherwise;
		return 0;
	}
	if (str_to_int64(v, ret) < 0)
		return api_err_bad_request(err, "strconv.ParseInt: parsing \"%.*s\": invalid syntax", STR_ARG(v));
	return 0;
}

static int route_split(struct arena *arena, struct str raw, struct route *r)
{
	struct str rest = raw, part;

	if (unescape(arena, raw, false, &r->path) < 0)
		return -EINVAL;
	while (str_split(&rest, '/', &part)) {
		if (!part.n)
			continue;
		if (r->n_segments >= ROUTE_SEGMENTS_MAX)
			return -ENOENT;
		/* Split before decoding: an escaped slash belongs to its segment. */
		if (unescape(arena, part, false, &r->segments[r->n_segments]) < 0)
			return -EINVAL;
		r->n_segments++;
	}
	return 0;
}

/* segments[at..] behind the group version: [namespaces/NS/]PLURAL[/NAME[/SUB]] */
static int route_resource(struct route *r, struct str group, struct str version, size_t at)
{
	struct str plural;

	if (r->n_segments > at && str_is(r->segments[at], "watch")) {
		r->watch_prefix = true;
		at++;
	}
	if (r->n_segments <= at)
		return r->watch_prefix ? -ENOENT : 0;
	plural = r->segments[at];
	if (str_is(plural, "namespaces") && r->n_segments > at + 2 && !str_is(r->segments[at + 2], "status") &&
	    !str_is(r->segments[at + 2], "finalize")) {
		r->ns = r->segments[at + 1];
		at += 2;
		plural = r->segments[at];
	}
	r->kind = api_kind_by_resource(group, version, plural);
	if (!r->kind || (r->ns.n && !r->kind->namespaced)) {
		r->kind = NULL;
		return -ENOENT;
	}
	if (r->n_segments > at + 1)
		r->name = r->segments[at + 1];
	if (r->n_segments > at + 2) {
		r->sub = api_kind_subresource(r->kind, r->segments[at + 2]);
		if (!r->sub)
			return -ENOENT;
	}
	/* Below proxy anything may follow; below the others nothing does. */
	if (r->n_segments > at + 3 && strcmp(r->sub->name, "proxy") != 0)
		return -ENOENT;
	/* Only lists and objects can be watched this way, and nothing else lies there. */
	if (r->watch_prefix && (r->sub || !(r->kind->verbs & API_VERB_WATCH)))
		return -ENOENT;
	/* An object of a namespaced kind is only reached through its namespace. */
	if (r->kind->namespaced && r->name.n && !r->ns.n)
		return -ENOENT;
	return 0;
}

int route_parse(struct arena *arena, struct str raw_path, struct route *ret, struct err *err)
{
	struct route r = { 0 };
	int ret_code = route_split(arena, raw_path, &r);

	if (ret_code == 0 && r.n_segments >= 2 && str_is(r.segments[0], "api"))
		ret_code = route_resource(&r, STR(""), r.segments[1], 2);
	else if (ret_code == 0 && r.n_segments >= 3 && str_is(r.segments[0], "apis"))
		ret_code = route_resource(&r, r.segments[1], r.segments[2], 3);
	*ret = r;
	if (ret_code == -EINVAL)
		return api_err_bad_request(err, "invalid escape in the request path");
	if (ret_code < 0)
		return api_err_no_resource(err);
	return 0;
}
