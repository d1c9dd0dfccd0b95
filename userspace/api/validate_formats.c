/* SPDX-License-Identifier: Apache-2.0 */
/* The grammars of names and the texts that tell what a good one looks like. Hand-written matchers, no regular
 * expressions: they run for every name of every write. No state; any thread. */
#include <stdlib.h>

#include "userspace/api/names.h"
#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

#define LABEL_MAX 63
#define QUALIFIED_NAME_MAX 63
#define CONFIG_MAP_KEY_MAX 253
#define PORT_NAME_MAX 15

static const char label_text[] =
	"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
	"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
	"'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
static const char subdomain_text[] =
	"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
	"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
	"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
static const char label_1035_text[] =
	"a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
	"character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation "
	"is '[a-z]([-a-z0-9]*[a-z0-9])?')";
static const char qualified_text[] =
	"name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
	"alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
	"'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
static const char label_value_text[] =
	"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
	"and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
	"validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? */
static bool is_label(struct str s)
{
	if (!s.n || !is_lower_alnum(s.p[0]) || !is_lower_alnum(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!is_lower_alnum(s.p[i]) && s.p[i] != '-')
			return false;
	return true;
}

static bool is_subdomain(struct str s)
{
	for (;;) {
		long dot = str_find(s, '.');

		if (dot < 0)
			return is_label(s);
		if (!is_label(str_make(s.p, (size_t)dot)))
			return false;
		s = str_make(s.p + dot + 1, s.n - (size_t)dot - 1);
	}
}

/* ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9] */
static bool is_qualified(struct str s)
{
	if (!s.n || !is_alnum(s.p[0]) || !is_alnum(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.')
			return false;
	return true;
}

const char *validate_dns1123_label(struct str s)
{
	if (s.n > LABEL_MAX)
		return "must be no more than 63 bytes";
	return is_label(s) ? NULL : label_text;
}

const char *validate_dns1123_subdomain(struct str s)
{
	if (s.n > VALIDATE_NAME_MAX)
		return "must be no more than 253 bytes";
	return is_subdomain(s) ? NULL : subdomain_text;
}

const char *validate_dns1035_label(struct str s)
{
	if (s.n > LABEL_MAX)
		return "must be no more than 63 bytes";
	return is_label(s) && s.p[0] >= 'a' ? NULL : label_1035_text;
}

const char *validate_path_segment(struct str s)
{
	if (str_is(s, "."))
		return "may not be '.'";
	if (str_is(s, ".."))
		return "may not be '..'";
	if (str_find(s, '/') >= 0)
		return "may not contain '/'";
	if (str_find(s, '%') >= 0)
		return "may not contain '%'";
	return NULL;
}

const char *validate_qualified_name(struct str s)
{
	long slash = str_find(s, '/');
	struct str name = s;

	if (slash >= 0) {
		struct str prefix = str_make(s.p, (size_t)slash);

		name = str_make(s.p + slash + 1, s.n - (size_t)slash - 1);
		if (str_find(name, '/') >= 0)
			return "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must "
			       "start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or "
			       "'123-abc', regex used for validation is "
			       "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and "
			       "'/' (e.g. 'example.com/MyName')";
		if (!prefix.n)
			return "prefix part must be non-empty";
		if (prefix.n > VALIDATE_NAME_MAX)
			return "prefix part must be no more than 253 bytes";
		if (!is_subdomain(prefix))
			return "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
			       "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. "
			       "'example.com', regex used for validation is "
			       "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
	}
	if (!name.n)
		return "name part must be non-empty";
	if (name.n > QUALIFIED_NAME_MAX)
		return "name part must be no more than 63 bytes";
	return is_qualified(name) ? NULL : qualified_text;
}

const char *validate_label_value(struct str s)
{
	if (s.n > LABEL_MAX)
		return "must be no more than 63 bytes";
	return !s.n || is_qualified(s) ? NULL : label_value_text;
}

const char *validate_config_map_key(struct str s)
{
	if (s.n > CONFIG_MAP_KEY_MAX)
		return "must be no more than 253 bytes";
	for (size_t i = 0; i <= s.n; i++) {
		if (i == s.n && s.n)
			break;
		if (i == s.n || (!is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.'))
			return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
			       "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
			       "'[-._a-zA-Z0-9]+')";
	}
	if (str_is(s, "."))
		return "must not be '.'";
	if (str_is(s, ".."))
		return "must not be '..'";
	if (str_starts(s, STR("..")))
		return "must not start with '..'";
	return NULL;
}

/* Relaxed since 1.34: any printable ASCII but '='. */
const char *validate_env_name(struct str s)
{
	bool good = s.n > 0;

	for (size_t i = 0; i < s.n; i++)
		good &= s.p[i] >= ' ' && s.p[i] <= '~' && s.p[i] != '=';
	return good ? NULL
		    : "a valid environment variable name must consist only of printable ASCII characters other "
		      "than '='";
}

const char *validate_port_name(struct str s)
{
	bool letter = false;

	if (s.n > PORT_NAME_MAX)
		return "must be no more than 15 characters";
	for (size_t i = 0; i < s.n; i++) {
		if (!is_lower_alnum(s.p[i]) && s.p[i] != '-')
			return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
		if (s.p[i] == '-' && i && s.p[i - 1] == '-')
			return "must not contain consecutive hyphens";
		letter |= s.p[i] >= 'a' && s.p[i] <= 'z';
	}
	if (!letter)
		return "must contain at least one letter (a-z)";
	if (s.p[0] == '-' || s.p[s.n - 1] == '-')
		return "must not begin or end with a hyphen";
	return NULL;
}

const char *validate_ip(struct str s)
{
	struct names_ip ip;

	return names_parse_ip(s, &ip) < 0 ? "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)" : NULL;
}

const char *validate_cidr(struct str s)
{
	struct names_cidr cidr;

	return names_parse_cidr(s, &cidr) < 0 ? "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
					      : NULL;
}

/* The kind's hooks judge the value. */
static const char *validate_free(struct str s)
{
	(void)s;
	return NULL;
}

const char *validate_format(const char *format, struct str s)
{
	static const struct {
		const char *name;
		const char *(*check)(struct str s);
	} formats[] = {
		{ "dns1123label", validate_dns1123_label },
		{ "dns1123subdomain", validate_dns1123_subdomain },
		{ "dns1035label", validate_dns1035_label },
		{ "pathSegment", validate_path_segment },
		{ "qualifiedName", validate_qualified_name },
		{ "labelValue", validate_label_value },
		{ "configMapKey", validate_config_map_key },
		{ "envName", validate_env_name },
		{ "portName", validate_port_name },
		{ "ip", validate_ip },
		{ "cidr", validate_cidr },
		{ "free", validate_free },
	};

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (!strcmp(formats[i].name, format))
			return formats[i].check(s);
	abort(); /* the data files name a format that does not exist; test_validate.c walks all of them */
}
