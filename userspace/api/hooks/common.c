/* SPDX-License-Identifier: Apache-2.0 */
/* Small checks that the rules of many kinds are made of, in upstream's words. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

void hooks_text_validate(struct str s, const char *(*rule)(struct str s), const struct field_path *path,
			 struct field_errors *e)
{
	const char *why = rule(s);

	if (why)
		field_invalid_str(e, path, s, "%s", why);
}

void hooks_require(const struct json *object, const char *key, const struct field_path *path, struct field_errors *e)
{
	const struct json *v = json_get(object, key);

	if (!v || v->type == JSON_NULL || (json_is(v, JSON_STRING) && !v->text.n) ||
	    ((v->type == JSON_ARRAY || v->type == JSON_OBJECT) && !v->count))
		field_required(e, FIELD_STR(path, str_of(key)), NULL);
}

void hooks_nonnegative(const struct json *object, const char *key, const struct field_path *path,
		       struct field_errors *e)
{
	int64_t v = json_get_int(object, key, 0);

	if (v < 0)
		field_invalid_int(e, FIELD_STR(path, str_of(key)), v, "must be greater than or equal to 0");
}

/* ---- paths ---- */

static bool has_dot_dot(struct str path)
{
	struct str part;

	while (str_split(&path, '/', &part))
		if (str_is(part, ".."))
			return true;
	return false;
}

void hooks_no_backsteps(struct str s, const struct field_path *path, struct field_errors *e)
{
	if (has_dot_dot(s))
		field_invalid_str(e, path, s, "must not contain '..'");
}

void hooks_relative_path(struct str s, const struct field_path *path, struct field_errors *e)
{
	if (s.n && s.p[0] == '/')
		field_invalid_str(e, path, s, "must be a relative path");
	hooks_no_backsteps(s, path, e);
}

void hooks_local_path(struct str s, const struct field_path *path, struct field_errors *e)
{
	hooks_relative_path(s, path, e);
	if (str_starts(s, STR("..")) && !str_starts(s, STR("../")))
		field_invalid_str(e, path, s, "must not start with '..'");
}

/* ---- numbers and names of ports ---- */

void hooks_port_validate(const struct json *port, const struct field_path *path, struct field_errors *e)
{
	const char *why;

	if (json_is(port, JSON_STRING)) {
		hooks_text_validate(port->text, validate_port_name, path, e);
		return;
	}
	why = names_port_number(json_int(port, 0));
	if (why)
		field_invalid_int(e, path, json_int(port, 0), "%s", why);
}

/* ---- addresses ---- */

void hooks_endpoint_ip_validate(struct str s, const struct field_path *path, struct field_errors *e)
{
	struct names_ip ip;

	if (names_parse_ip(s, &ip) < 0)
		return; /* said by who asked whether it is an address */
	if (names_ip_is_unspecified(&ip))
		field_invalid_str(e, path, s, "may not be unspecified (%.*s)", STR_ARG(s));
	if (names_ip_is_loopback(&ip))
		field_invalid_str(e, path, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
	if (!names_ip_is_link_local(&ip))
		return;
	if ((ip.family == 4 && ip.bytes[0] == 224) || (ip.family == 6 && ip.bytes[0] == 0xff))
		field_invalid_str(e, path, s, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
	else
		field_invalid_str(e, path, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
}

/* ---- defaults ---- */

void hooks_default_members(struct arena *arena, struct json *to, const struct json *from)
{
	_cleanup_name_set_ struct name_set have;

	name_set_init(&have);
	name_set_add_members(&have, to);
	json_foreach(m, from) {
		struct json *copy;

		if (name_set_get(&have, m->key))
			continue;
		copy = json_clone(arena, m);
		copy->key = m->key;
		json_append(to, copy);
	}
}

/* ---- lists ---- */

bool hooks_one_of(struct str s, const char *const *values)
{
	for (; *values; values++)
		if (str_is(s, *values))
			return true;
	return false;
}

void hooks_supported(struct str s, const char *const *values, const struct field_path *path, struct field_errors *e)
{
	if (!hooks_one_of(s, values))
		field_not_supported(e, path, s, values);
}

const struct json *hooks_named(const struct json *list, struct str name)
{
	json_foreach(it, list)
		if (str_eq(json_get_str(it, "name"), name))
			return it;
	return NULL;
}

/* Members of `object` that are there, of the named ones. */
size_t hooks_count_members(const struct json *object, const char *const *names)
{
	size_t n = 0;

	for (; *names; names++)
		n += json_get(object, *names) && !json_is(json_get(object, *names), JSON_NULL);
	return n;
}

/* ---- what stays ---- */

bool hooks_same(const struct json *a, const struct json *b)
{
	bool no_a = !a || a->type == JSON_NULL, no_b = !b || b->type == JSON_NULL;

	return no_a || no_b ? no_a && no_b : json_equal(a, b);
}

bool hooks_same_but(const struct json *a, const struct json *b, const char *const *free_fields)
{
	const struct json *sides[2] = { a, b };

	for (int i = 0; i < 2; i++)
		json_foreach(m, sides[i]) {
			bool compared = true;

			for (const char *const *f = free_fields; *f; f++)
				compared &= !str_is(m->key, *f);
			if (compared && !hooks_same(m, json_get_n(sides[!i], m->key)))
				return false;
		}
	return true;
}
