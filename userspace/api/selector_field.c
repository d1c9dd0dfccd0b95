/* SPDX-License-Identifier: Apache-2.0 */
/* Field selectors: compiled against a kind's selectable fields. Any thread. */
#include <errno.h>
#include <string.h>

#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

/* Cuts the next requirement off `rest` at a comma that no backslash escapes. */
static bool next_term(struct str *rest, struct str *ret)
{
	bool escaped = false;
	size_t i;

	if (!rest->n)
		return false;
	for (i = 0; i < rest->n; i++) {
		if (escaped)
			escaped = false;
		else if (rest->p[i] == '\\')
			escaped = true;
		else if (rest->p[i] == ',')
			break;
	}
	*ret = str_make(rest->p, i);
	*rest = i < rest->n ? str_make(rest->p + i + 1, rest->n - i - 1) : STR("");
	return true;
}

static int unescape(struct arena *arena, struct str s, struct str *ret)
{
	char *out = arena_alloc(arena, s.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '\\') {
			if (++i == s.n || !strchr("\\,=", s.p[i]) || !s.p[i])
				return -EINVAL;
			c = s.p[i];
		} else if (c == ',' || c == '=') {
			return -EINVAL;
		}
		out[n++] = c;
	}
	*ret = str_make(out, n);
	return 0;
}

/* Kinds that say no in words of their own. */
static const struct {
	const char *plural, *kind;
} refusals[] = {
	{ "jobs", "Job" },
	{ "replicationcontrollers", "ReplicationController" },
};

static int find_field(const struct api_kind *kind, struct str path, int *ret, struct err *err)
{
	if (str_is(path, "metadata.name")) {
		*ret = FIELD_SELECTOR_NAME;
		return 0;
	}
	if (str_is(path, "metadata.namespace")) {
		*ret = FIELD_SELECTOR_NAMESPACE;
		return 0;
	}
	for (int i = 0; kind->selectable && kind->selectable[i] && i < API_HEADER_FIELDS_MAX; i++)
		if (str_is(path, kind->selectable[i])) {
			*ret = i;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (!strcmp(kind->plural, refusals[i].plural))
			return api_err_bad_request(err, "field label \"%.*s\" not supported for %s", STR_ARG(path),
						   refusals[i].kind);
	if (!strcmp(kind->plural, "resourceslices"))
		return api_err_bad_request(err, "field label not supported for %s, Kind=%s: %.*s", kind->api_version,
					   kind->kind, STR_ARG(path));
	if (kind->selectable && kind->selectable[0])
		return api_err_bad_request(err, "field label not supported: %.*s", STR_ARG(path));
	return api_err_bad_request(
		err, "\"%.*s\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
		STR_ARG(path));
}

static int parse_term(struct arena *arena, const struct api_kind *kind, struct str whole, struct str term,
		      struct field_requirement *ret, struct err *err)
{
	long at = str_find(term, '=');
	struct field_requirement r = { 0 };
	struct str path, value;
	int code;

	if (at <= 0)
		goto bad;
	path = str_make(term.p, (size_t)at);
	value = str_make(term.p + at + 1, term.n - (size_t)at - 1);
	if (path.p[path.n - 1] == '!') {
		r.not_equal = true;
		path.n--;
	} else if (value.n && value.p[0] == '=') {
		value = str_make(value.p + 1, value.n - 1);
	}
	if (unescape(arena, value, &r.value) < 0)
		goto bad;
	code = find_field(kind, path, &r.field, err);
	if (code < 0)
		return code;
	*ret = r;
	return 0;
bad:
	return api_err_bad_request(err, "invalid selector: '%.*s'; can't understand '%.*s'", STR_ARG(whole),
				   STR_ARG(term));
}

int field_selector_parse(struct arena *arena, const struct api_kind *kind, struct str text, struct field_selector *ret,
			 struct err *err)
{
	struct field_selector s = { 0 };
	struct str rest = text, term;
	size_t n = 0;

	while (next_term(&rest, &term))
		n++;
	if (n > SELECTOR_REQUIREMENTS_MAX)
		return api_err_bad_request(err, "the selector has too many requirements or values");
	s.requirements = n ? arena_new_array(arena, struct field_requirement, n) : NULL;
	rest = text;
	while (next_term(&rest, &term)) {
		int r;

		if (!term.n)
			continue;
		r = parse_term(arena, kind, text, term, &s.requirements[s.n], err);
		if (r < 0)
			return r;
		s.n++;
	}
	*ret = s;
	return 0;
}

bool field_selector_matches(const struct field_selector *s, struct str ns, struct str name, const struct str *fields,
			    size_t n_fields)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct field_requirement *r = &s->requirements[i];
		struct str have = STR("");

		if (r->field == FIELD_SELECTOR_NAME)
			have = name;
		else if (r->field == FIELD_SELECTOR_NAMESPACE)
			have = ns;
		else if ((size_t)r->field < n_fields)
			have = fields[r->field];
		if (str_eq(have, r->value) == r->not_equal)
			return false;
	}
	return true;
}

struct str field_selector_name(const struct field_selector *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->requirements[i].field == FIELD_SELECTOR_NAME && !s->requirements[i].not_equal)
			return s->requirements[i].value;
	return STR("");
}
