/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in the tables of kinds. Group-versions are few and scanned; kinds and fields are sorted by name.
 * The tables are const: any thread. */
#include "userspace/api/kind.h"

#include <errno.h>

#include "userspace/api/kind_tables.h"

static int name_cmp(const char *a, struct str b)
{
	size_t n = strlen(a);
	int c = memcmp(a, b.p ? b.p : "", n < b.n ? n : b.n);

	return c ? c : (n > b.n) - (n < b.n);
}

const struct api_field *api_message_field(const struct api_message *m, struct str name)
{
	size_t lo = 0, hi = m ? m->n_fields : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = name_cmp(m->fields[mid].name, name);

		if (c == 0)
			return &m->fields[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const struct api_message *api_message_by_name(struct str name)
{
	size_t lo = 0, hi = api_builtin_n_messages;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = name_cmp(api_builtin_messages[mid].name, name);

		if (c == 0)
			return &api_builtin_messages[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

size_t api_group_version_count(void)
{
	return api_builtin_n_group_versions;
}

const struct api_group_version *api_group_version_at(size_t i)
{
	return i < api_builtin_n_group_versions ? &api_builtin_group_versions[i] : NULL;
}

const struct api_group_version *api_group_version_find(struct str group, struct str version)
{
	for (size_t i = 0; i < api_builtin_n_group_versions; i++) {
		const struct api_group_version *gv = &api_builtin_group_versions[i];

		if (str_is(group, gv->group) && str_is(version, gv->version))
			return gv;
	}
	return NULL;
}

size_t api_kind_count(void)
{
	return api_builtin_n_kinds;
}

const struct api_kind *api_kind_at(size_t i)
{
	return i < api_builtin_n_kinds ? &api_builtin_kinds[i] : NULL;
}

const struct api_kind *api_kind_by_resource(struct str group, struct str version, struct str plural)
{
	const struct api_group_version *gv = api_group_version_find(group, version);

	for (size_t i = 0; gv && plural.n && i < gv->n_kinds; i++)
		if (str_is(plural, api_builtin_kinds[gv->first + i].plural))
			return &api_builtin_kinds[gv->first + i];
	return NULL;
}

const struct api_kind *api_kind_by_kind(struct str group, struct str version, struct str kind)
{
	const struct api_group_version *gv = api_group_version_find(group, version);
	size_t lo = 0, hi = gv ? gv->n_kinds : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct api_kind *k = &api_builtin_kinds[gv->first + mid];
		int c = name_cmp(k->kind, kind);

		if (c == 0)
			return k;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const struct api_kind *api_kind_by_index(uint16_t resource)
{
	return resource < api_builtin_n_resources ? api_builtin_resources[resource] : NULL;
}

size_t api_resource_count(void)
{
	return api_builtin_n_resources;
}

const char *api_kind_api_version(const struct api_kind *k)
{
	return k->api_version;
}

const struct api_subresource *api_kind_subresource(const struct api_kind *k, struct str name)
{
	for (size_t i = 0; i < k->n_subresources; i++)
		if (str_is(name, k->subresources[i].name))
			return &k->subresources[i];
	return NULL;
}

int api_parse_api_version(struct str api_version, struct str *ret_group, struct str *ret_version)
{
	long slash = str_find(api_version, '/');
	struct str group = STR_NULL, version = api_version;

	if (slash >= 0) {
		group = str_make(api_version.p, (size_t)slash);
		version = str_make(api_version.p + slash + 1, api_version.n - (size_t)slash - 1);
		if (!group.n || str_find(version, '/') >= 0)
			return -EINVAL;
	}
	if (!version.n)
		return -EINVAL;
	*ret_group = group;
	*ret_version = version;
	return 0;
}
