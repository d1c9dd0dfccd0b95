/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery documents from the kind tables. See discovery.h. Texts are built when first asked for and kept until
 * discovery_drop(). Loop thread. */
#include "userspace/api/discovery.h"

#include <assert.h>
#include <stdlib.h>

#include "userspace/api/kind.h"
#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define GROUP_VERSIONS_MAX 128
#define KINDS_MAX 256 /* of one group-version */

static struct {
	struct chunk *groups;
	struct chunk *resources[GROUP_VERSIONS_MAX];
	struct chunk *aggregated[2][2]; /* form, legacy */
	char etags[2][2][DISCOVERY_ETAG_MAX];
} cache;

/* ---- JSON in small steps ---- */

static void add_str(struct buf *out, const char *key, const char *value)
{
	buf_printf(out, "\"%s\":\"%s\"", key, value); /* names from the tables need no escapes */
}

static void add_strings(struct buf *out, const char *key, const char *const *list)
{
	if (!list)
		return;
	buf_printf(out, ",\"%s\":[", key);
	for (size_t i = 0; list[i]; i++)
		buf_printf(out, "%s\"%s\"", i ? "," : "", list[i]);
	buf_add_char(out, ']');
}

static void add_verbs(struct buf *out, unsigned verbs)
{
	static const struct {
		unsigned verb;
		const char *name;
	} names[] = {
		{ API_VERB_CREATE, "create" },
		{ API_VERB_DELETE, "delete" },
		{ API_VERB_DELETECOLLECTION, "deletecollection" },
		{ API_VERB_GET, "get" },
		{ API_VERB_LIST, "list" },
		{ API_VERB_PATCH, "patch" },
		{ API_VERB_UPDATE, "update" },
		{ API_VERB_WATCH, "watch" },
	};
	bool first = true;

	buf_add_cstr(out, ",\"verbs\":[");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!(verbs & names[i].verb))
			continue;
		buf_printf(out, "%s\"%s\"", first ? "" : ",", names[i].name);
		first = false;
	}
	buf_add_char(out, ']');
}

static struct chunk *to_chunk(struct buf *text)
{
	struct str s;

	buf_add_char(text, '\n');
	s = buf_str(text);

	return chunk_create(s.p, s.n);
}

/* Keeps one reference in `slot` and returns another. */
static struct chunk *keep(struct chunk **slot, struct buf *text)
{
	*slot = to_chunk(text);
	return chunk_ref(*slot);
}

/* ---- groups ---- */

struct chunk *discovery_api_versions(struct str server_address)
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;

	buf_add_cstr(&out,
		     "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],\"serverAddressByClientCIDRs\":[{\"clientCIDR\":"
		     "\"0.0.0.0/0\",\"serverAddress\":");
	json_write_str(&out, server_address);
	buf_add_cstr(&out, "}]}");
	return to_chunk(&out);
}

static void add_group_version(struct buf *out, const struct api_group_version *gv)
{
	buf_printf(out, "{\"groupVersion\":\"%s\",\"version\":\"%s\"}", gv->api_version, gv->version);
}

/* Versions of a group stand together in the table; `i` is the first. Returns the index after the last. */
static size_t add_group(struct buf *out, size_t i)
{
	const struct api_group_version *first = api_group_version_at(i), *gv = first;

	buf_printf(out, "\"name\":\"%s\",\"versions\":[", first->group);
	for (; gv && !strcmp(gv->group, first->group); gv = api_group_version_at(++i)) {
		if (gv != first)
			buf_add_char(out, ',');
		add_group_version(out, gv);
	}
	buf_add_cstr(out, "],\"preferredVersion\":");
	add_group_version(out, first);
	return i;
}

struct chunk *discovery_groups(void)
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	bool first = true;

	if (cache.groups)
		return chunk_ref(cache.groups);
	buf_add_cstr(&out, "{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":[");
	for (size_t i = 0; i < api_group_version_count();) {
		if (!*api_group_version_at(i)->group) {
			i++;
			continue;
		}
		buf_add_cstr(&out, first ? "{" : ",{");
		i = add_group(&out, i);
		buf_add_char(&out, '}');
		first = false;
	}
	buf_add_cstr(&out, "]}");
	return keep(&cache.groups, &out);
}

struct chunk *discovery_group(struct str group)
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;

	for (size_t i = 0; group.n && i < api_group_version_count(); i++) {
		if (!str_is(group, api_group_version_at(i)->group))
			continue;
		buf_add_cstr(&out, "{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",");
		add_group(&out, i);
		buf_add_char(&out, '}');
		return to_chunk(&out);
	}
	return NULL;
}

/* ---- resources of one group-version ---- */

static int by_plural(const void *a, const void *b)
{
	return strcmp((*(const struct api_kind *const *)a)->plural, (*(const struct api_kind *const *)b)->plural);
}

/* Its resources in the order of their names. */
static size_t sorted_resources(const struct api_group_version *gv, const struct api_kind *ret[static KINDS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < gv->n_kinds; i++) {
		const struct api_kind *k = api_kind_at(gv->first + i);

		if (!*k->plural)
			continue;
		assert(n < KINDS_MAX);
		ret[n++] = k;
	}
	qsort(ret, n, sizeof(*ret), by_plural);
	return n;
}

#define STORAGE_HASH_BYTES 8 /* of the digest; as upstream, so that clients may compare clusters */

/* Of the form in which objects are stored: clients that see another one know that something was migrated. */
static void add_storage_hash(struct buf *out, const struct api_kind *k)
{
	_cleanup_(buf_finish) struct buf form = BUF_INIT;
	uint8_t digest[SHA256_LEN];

	if (k->resource == API_RESOURCE_NONE)
		return;
	buf_printf(&form, "%s/%s/%s", k->storage->group, k->storage->version, k->storage->kind);
	sha256(buf_str(&form).p, buf_len(&form), digest);
	buf_add_cstr(out, ",\"storageVersionHash\":\"");
	base64_encode(out, digest, STORAGE_HASH_BYTES, BASE64_STD);
	buf_add_char(out, '"');
}

static void add_resource(struct buf *out, const struct api_kind *k)
{
	buf_add_char(out, '{');
	add_str(out, "name", k->plural);
	buf_add_char(out, ',');
	add_str(out, "singularName", k->singular);
	buf_printf(out, ",\"namespaced\":%s,", k->namespaced ? "true" : "false");
	add_str(out, "kind", k->kind);
	add_verbs(out, k->verbs);
	add_strings(out, "shortNames", k->short_names);
	add_strings(out, "categories", k->categories);
	add_storage_hash(out, k);
	buf_add_char(out, '}');
}

static void add_subresource(struct buf *out, const struct api_kind *k, const struct api_subresource *s)
{
	buf_printf(out, ",{\"name\":\"%s/%s\",\"singularName\":\"\",\"namespaced\":%s,", k->plural, s->name,
		   k->namespaced ? "true" : "false");
	if (strcmp(s->group, k->group) || strcmp(s->version, k->version))
		buf_printf(out, "\"group\":\"%s\",\"version\":\"%s\",", s->group, s->version);
	add_str(out, "kind", s->kind);
	add_verbs(out, s->verbs);
	buf_add_char(out, '}');
}

struct chunk *discovery_resources(struct str group, struct str version)
{
	const struct api_group_version *gv = api_group_version_find(group, version);
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	const struct api_kind *kinds[KINDS_MAX];
	size_t slot, n;

	if (!gv)
		return NULL;
	slot = (size_t)(gv - api_group_version_at(0));
	assert(slot < GROUP_VERSIONS_MAX);
	if (cache.resources[slot])
		return chunk_ref(cache.resources[slot]);
	/* The core group's list names no version of its own, nor does upstream's. */
	buf_printf(&out, "{\"kind\":\"APIResourceList\",%s\"groupVersion\":\"%s\",\"resources\":[",
		   *gv->group ? "\"apiVersion\":\"v1\"," : "", gv->api_version);
	n = sorted_resources(gv, kinds);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(&out, ',');
		add_resource(&out, kinds[i]);
		for (size_t j = 0; j < kinds[i]->n_subresources; j++)
			add_subresource(&out, kinds[i], &kinds[i]->subresources[j]);
	}
	buf_add_cstr(&out, "]}");
	return keep(&cache.resources[slot], &out);
}

/* ---- aggregated ---- */

static void add_response_kind(struct buf *out, const char *group, const char *version, const char *kind)
{
	buf_printf(out, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", group, version, kind);
}

static void add_aggregated_resource(struct buf *out, const struct api_kind *k)
{
	buf_printf(out, "{\"resource\":\"%s\",", k->plural);
	add_response_kind(out, k->group, k->version, k->kind);
	buf_printf(out, ",\"scope\":\"%s\",\"singularResource\":\"%s\"", k->namespaced ? "Namespaced" : "Cluster",
		   k->singular);
	add_verbs(out, k->verbs);
	add_strings(out, "shortNames", k->short_names);
	add_strings(out, "categories", k->categories);
	for (size_t i = 0; i < k->n_subresources; i++) {
		const struct api_subresource *s = &k->subresources[i];

		buf_printf(out, "%s{\"subresource\":\"%s\",", i ? "," : ",\"subresources\":[", s->name);
		add_response_kind(out, s->group, s->version, s->kind);
		add_verbs(out, s->verbs);
		buf_add_char(out, '}');
	}
	buf_add_cstr(out, k->n_subresources ? "]}" : "}");
}

static void add_aggregated_version(struct buf *out, const struct api_group_version *gv)
{
	const struct api_kind *kinds[KINDS_MAX];
	size_t n = sorted_resources(gv, kinds);

	buf_printf(out, "{\"version\":\"%s\",\"resources\":[", gv->version);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(out, ',');
		add_aggregated_resource(out, kinds[i]);
	}
	buf_add_cstr(out, "],\"freshness\":\"Current\"}");
}

static void build_aggregated(struct buf *out, enum discovery_aggregated form, bool legacy)
{
	const char *group = NULL;

	buf_printf(out,
		   "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},"
		   "\"items\":[",
		   form == DISCOVERY_V2 ? "v2" : "v2beta1");
	for (size_t i = 0; i < api_group_version_count(); i++) {
		const struct api_group_version *gv = api_group_version_at(i);

		if (!*gv->group != legacy)
			continue;
		if (!group || strcmp(group, gv->group)) {
			buf_add_cstr(out, group ? "]},{\"metadata\":{" : "{\"metadata\":{");
			if (*gv->group)
				add_str(out, "name", gv->group);
			buf_add_cstr(out, "},\"versions\":[");
		} else {
			buf_add_char(out, ',');
		}
		group = gv->group;
		add_aggregated_version(out, gv);
	}
	buf_add_cstr(out, group ? "]}]}" : "]}");
}

struct chunk *discovery_aggregated(enum discovery_aggregated form, bool legacy,
				   char ret_etag[static DISCOVERY_ETAG_MAX])
{
	struct chunk **slot = &cache.aggregated[form][legacy];

	if (!*slot) {
		_cleanup_(buf_finish) struct buf out = BUF_INIT;

		build_aggregated(&out, form, legacy);
		*slot = to_chunk(&out);
		sha256_hex((*slot)->data, (*slot)->len, cache.etags[form][legacy]);
	}
	memcpy(ret_etag, cache.etags[form][legacy], DISCOVERY_ETAG_MAX);
	return chunk_ref(*slot);
}

const char *discovery_aggregated_type(enum discovery_aggregated form)
{
	return form == DISCOVERY_V2 ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
				    : "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
}

int discovery_wants_aggregated(struct str accept, enum discovery_aggregated *ret)
{
	struct str range, parameter;

	while (str_split(&accept, ',', &range)) {
		bool json, group = false, list = false, other = false;
		struct str version = STR_NULL;

		if (!str_split(&range, ';', &parameter))
			continue;
		parameter = str_trim(parameter);
		json = str_is(parameter, "application/json") || str_is(parameter, "*/*") ||
		       str_is(parameter, "application/*");
		while (str_split(&range, ';', &parameter)) {
			parameter = str_trim(parameter);
			group |= str_is(parameter, "g=apidiscovery.k8s.io");
			list |= str_is(parameter, "as=APIGroupDiscoveryList");
			other |= str_starts(parameter, STR("as="));
			if (str_starts(parameter, STR("v=")))
				version = str_make(parameter.p + 2, parameter.n - 2);
		}
		if (!json)
			continue;
		if (!other)
			return 0;
		if (group && list && (str_is(version, "v2") || str_is(version, "v2beta1"))) {
			*ret = str_is(version, "v2") ? DISCOVERY_V2 : DISCOVERY_V2BETA1;
			return 1;
		}
	}
	return 0;
}

void discovery_drop(void)
{
	chunk_unref(TAKE_PTR(cache.groups));
	for (size_t i = 0; i < GROUP_VERSIONS_MAX; i++)
		chunk_unref(TAKE_PTR(cache.resources[i]));
	for (int form = 0; form < 2; form++)
		for (int legacy = 0; legacy < 2; legacy++)
			chunk_unref(TAKE_PTR(cache.aggregated[form][legacy]));
}
