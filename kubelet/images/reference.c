/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: the grammar of docker's references, and the names everything is stored under.
 * Pure; any thread. */
#include <ctype.h>
#include <errno.h>

#include "kubelet/images/store.h"

#define REFERENCE_MAX 4096
#define REFERENCE_REPOSITORY_MAX 255
#define REFERENCE_TAG_MAX 128

static bool is_domain(struct str s)
{
	return str_find(s, '.') >= 0 || str_find(s, ':') >= 0 || str_is(s, "localhost");
}

static bool lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* alphanumerics parted by ".", "_", "__" or dashes */
static bool path_component_ok(struct str s)
{
	if (!s.n || !lower_alnum(s.p[0]) || !lower_alnum(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (lower_alnum(c) || c == '-')
			continue;
		if (c == '.' && s.p[i - 1] != '.' && s.p[i - 1] != '_')
			continue;
		if (c == '_' && s.p[i - 1] != '.' && !(i >= 2 && s.p[i - 1] == '_' && s.p[i - 2] == '_'))
			continue;
		return false;
	}
	return true;
}

static bool repository_ok(struct str s)
{
	struct str rest = s, part;

	if (!s.n || s.n > REFERENCE_REPOSITORY_MAX || s.p[0] == '/' || s.p[s.n - 1] == '/')
		return false;
	while (str_split(&rest, '/', &part))
		if (!path_component_ok(part))
			return false;
	return true;
}

static bool tag_ok(struct str s)
{
	if (!s.n || s.n > REFERENCE_TAG_MAX || s.p[0] == '.' || s.p[0] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && s.p[i] != '_' && s.p[i] != '.' && s.p[i] != '-')
			return false;
	return true;
}

static bool domain_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && !strchr(".-:[]", s.p[i]))
			return false;
	return s.n > 0;
}

static long find_last(struct str s, char c)
{
	for (size_t i = s.n; i-- > 0;)
		if (s.p[i] == c)
			return (long)i;
	return -1;
}

static int invalid(const char *text, struct err *err)
{
	return err_set(err, -EINVAL, "couldn't parse image name \"%.200s\": invalid reference format", text);
}

int reference_parse(const char *text, struct arena *arena, struct reference *ret, struct err *err)
{
	struct str s = str_of(text), digest = STR_NULL, tag = STR_NULL, domain = STR_NULL, hex;
	long at, slash;

	if (!s.n || s.n > REFERENCE_MAX)
		return invalid(text ? text : "", err);
	at = str_find(s, '@');
	if (at >= 0) {
		digest = str_make(s.p + at + 1, s.n - (size_t)at - 1);
		s.n = (size_t)at;
		if (store_digest_hex(digest, &hex) < 0)
			return invalid(text, err);
	}
	slash = find_last(s, '/');
	at = find_last(s, ':');
	if (at > slash) {
		tag = str_make(s.p + at + 1, s.n - (size_t)at - 1);
		s.n = (size_t)at;
		if (!tag_ok(tag))
			return invalid(text, err);
	}
	slash = str_find(s, '/');
	if (slash > 0 && is_domain(str_make(s.p, (size_t)slash))) {
		domain = str_make(s.p, (size_t)slash);
		s = str_make(s.p + slash + 1, s.n - (size_t)slash - 1);
	}
	if ((domain.n && !domain_ok(domain)) || !repository_ok(s))
		return invalid(text, err);
	if (!domain.n || str_is(domain, "index.docker.io"))
		domain = STR("docker.io");
	ret->domain = arena_strndup(arena, domain.p, domain.n);
	if (str_is(domain, "docker.io") && str_find(s, '/') < 0)
		ret->repository = arena_printf(arena, "library/%.*s", STR_ARG(s));
	else
		ret->repository = arena_strndup(arena, s.p, s.n);
	if (strlen(ret->repository) > REFERENCE_REPOSITORY_MAX)
		return invalid(text, err);
	ret->digest = digest.n ? arena_strndup(arena, digest.p, digest.n) : NULL;
	ret->tag = tag.n ? arena_strndup(arena, tag.p, tag.n) : digest.n ? NULL : arena_strdup(arena, "latest");
	return 0;
}

char *reference_format(const struct reference *ref, struct arena *arena)
{
	if (ref->digest)
		return arena_printf(arena, "%s/%s@%s", ref->domain, ref->repository, ref->digest);
	return arena_printf(arena, "%s/%s:%s", ref->domain, ref->repository, ref->tag);
}

int images_normalize(const char *reference, struct arena *arena, char **ret, struct err *err)
{
	struct reference ref;
	int r = reference_parse(reference, arena, &ref, err);

	if (r < 0)
		return r;
	*ret = reference_format(&ref, arena);
	return 0;
}
