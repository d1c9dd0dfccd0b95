/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI documents. See openapi.h. Hashes come from what a document is made of (the data's digest and this file's
 * revision), so the index costs nothing; documents are written when asked for and not kept. Loop thread. */
#include "userspace/api/openapi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/api/kind_tables.h"
#include "userspace/api/openapi_internal.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

/* Count up when the same tables give other documents, so that clients drop what they cached. */
#define DOCUMENT_REVISION 3

static void hash_of(const char *what, char ret[static OPENAPI_HASH_MAX])
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct str s;

	buf_printf(&text, "%s/%s/%d/%s", K3C_VERSION, api_builtin_digest, DOCUMENT_REVISION, what);
	s = buf_str(&text);
	sha256_hex(s.p, s.n, ret);
}

static struct chunk *to_chunk(const struct buf *text)
{
	struct str s = buf_str(text);

	return chunk_create(s.p, s.n);
}

/* ---- which documents there are ---- */

enum document_type { DOCUMENT_VERSION, DOCUMENT_API, DOCUMENT_APIS, DOCUMENT_FIXED, DOCUMENT_GROUP, DOCUMENT_KINDS };

struct document {
	enum document_type type;
	const struct api_group_version *gv; /* of a group the preferred one */
	char *path;                         /* below /openapi/v3/; heap */
};

static void document_finish(struct document *d)
{
	free(TAKE_PTR(d->path));
}

/* False behind the last one. A slot may be empty: no path. */
static bool document_at(size_t i, struct document *ret)
{
	static const char *const fixed[DOCUMENT_FIXED] = { "version", "api", "apis" };
	size_t n = api_group_version_count();
	const struct api_group_version *gv;

	*ret = (struct document){ 0 };
	if (i < DOCUMENT_FIXED) {
		ret->type = (enum document_type)i;
		ret->path = mem_strdup(fixed[i]);
		return true;
	}
	i -= DOCUMENT_FIXED;
	if (i >= 2 * n)
		return false;
	ret->gv = gv = api_group_version_at(i % n);
	ret->type = i < n ? DOCUMENT_KINDS : DOCUMENT_GROUP;
	if (i < n)
		ret->path = mem_printf("%s/%s", *gv->group ? "apis" : "api", gv->api_version);
	else if (*gv->group && (gv == api_group_version_at(0) || strcmp(gv[-1].group, gv->group)))
		ret->path = mem_printf("apis/%s", gv->group);
	return true;
}

struct chunk *openapi_v3_index(char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_(document_finish) struct document d = { 0 };
	bool first = true;

	buf_add_cstr(&out, "{\"paths\":{");
	for (size_t i = 0; document_at(i, &d); i++) {
		char hash[OPENAPI_HASH_MAX];

		if (!d.path)
			continue;
		hash_of(d.path, hash);
		buf_printf(&out, "%s\"%s\":{\"serverRelativeURL\":\"/openapi/v3/%s?hash=%s\"}", first ? "" : ",",
			   d.path, d.path, hash);
		first = false;
		document_finish(&d);
	}
	buf_add_cstr(&out, "}}");
	hash_of("v3", ret_hash);
	return to_chunk(&out);
}

/* ---- what is in them ---- */

static void writer_init(struct openapi_writer *w, struct buf *out, enum openapi_form form)
{
	*w = (struct openapi_writer){ .out = out,
				      .form = form,
				      .messages = mem_new_array(bool, api_builtin_n_messages),
				      .atomic = mem_new_array(bool, api_builtin_n_messages),
				      .first_path = true,
				      .first_schema = true };
}

static void writer_finish(struct openapi_writer *w)
{
	free(w->messages);
	free(w->atomic);
}

static void mark_meta(struct openapi_writer *w, const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), OPENAPI_META "%s", name);
	openapi_mark(w, api_message_by_name(str_of(text)));
}

/* Bodies of kinds and of their subresources, and what all of them are done with. */
static void mark_kinds(struct openapi_writer *w, size_t from, size_t to)
{
	static const char *const common[] = { "APIResourceList", "DeleteOptions", "ListMeta", "Status", "WatchEvent" };

	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		mark_meta(w, common[i]);
	for (size_t i = from; i < to; i++) {
		const struct api_kind *k = api_kind_at(i);

		openapi_mark(w, k->message);
		for (size_t j = 0; j < k->n_subresources; j++)
			openapi_mark(w, k->subresources[j].message);
	}
}

/* What of a group or version there is. */
static void discovery(struct openapi_writer *w, const struct document *d)
{
	_cleanup_(buf_finish) struct buf url = BUF_INIT, tag = BUF_INIT, id = BUF_INIT;
	const char *version = d->type == DOCUMENT_KINDS ? d->gv->version : "";

	buf_printf(&url, "/%s/", d->path);
	if (d->gv) {
		openapi_tag(&tag, d->gv->group, version);
		buf_add_cstr(&id, "get");
		openapi_id(&id, d->gv->group, version);
		buf_add_cstr(&id, *version ? "APIResources" : "APIGroup");
	}
	switch (d->type) {
	case DOCUMENT_VERSION:
		w->version_info = true;
		openapi_discovery_path(w, buf_cstr(&url), "version", "getCodeVersion", OPENAPI_VERSION_INFO);
		break;
	case DOCUMENT_API:
		openapi_discovery_path(w, buf_cstr(&url), "core", "getCoreAPIVersions", OPENAPI_META "APIVersions");
		break;
	case DOCUMENT_APIS:
		openapi_discovery_path(w, buf_cstr(&url), "apis", "getAPIVersions", OPENAPI_META "APIGroupList");
		break;
	default:
		openapi_discovery_path(w, buf_cstr(&url), buf_cstr(&tag), buf_cstr(&id),
				       *version ? OPENAPI_META "APIResourceList" : OPENAPI_META "APIGroup");
	}
}

static void document(struct openapi_writer *w, const struct document *d)
{
	static const char *const answers[] = {
		[DOCUMENT_API] = "APIVersions", [DOCUMENT_APIS] = "APIGroupList", [DOCUMENT_GROUP] = "APIGroup"
	};
	size_t from = 0, to = 0;

	if (d->type == DOCUMENT_KINDS) {
		from = d->gv->first;
		to = from + d->gv->n_kinds;
		mark_kinds(w, from, to);
	} else if (d->type != DOCUMENT_VERSION) {
		mark_meta(w, answers[d->type]);
	}
	buf_add_cstr(w->out,
		     "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.36.0\"},\"paths\":{");
	discovery(w, d);
	if (d->type == DOCUMENT_KINDS)
		openapi_paths(w, d->gv);
	buf_add_cstr(w->out, "},\"components\":{\"schemas\":{");
	openapi_schemas(w, from, to);
	buf_add_cstr(w->out, "},\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"A bearer "
			     "token.\",\"name\":\"authorization\",\"in\":\"header\"}}}}");
}

struct chunk *openapi_v3(struct str path, char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_(document_finish) struct document d = { 0 };
	_cleanup_(writer_finish) struct openapi_writer w = { 0 };

	for (size_t i = 0; document_at(i, &d); i++) {
		if (!d.path || !str_is(path, d.path)) {
			document_finish(&d);
			continue;
		}
		hash_of(d.path, ret_hash);
		writer_init(&w, &out, OPENAPI_V3);
		document(&w, &d);
		return to_chunk(&out);
	}
	return NULL;
}

int openapi_v3_hash(struct str path, char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(document_finish) struct document d = { 0 };

	for (size_t i = 0; document_at(i, &d); i++) {
		if (d.path && str_is(path, d.path)) {
			hash_of(d.path, ret_hash);
			return 0;
		}
		document_finish(&d);
	}
	return -ENOENT;
}

struct chunk *openapi_v3_protobuf(struct str path, char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(chunk_unrefp) struct chunk *json = openapi_v3(path, ret_hash);

	return json ? openapi_gnostic(json, &openapi_v3_desc) : NULL;
}

struct chunk *openapi_v2(char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_(document_finish) struct document d = { 0 };
	_cleanup_(writer_finish) struct openapi_writer w = { 0 };

	writer_init(&w, &out, OPENAPI_V2);
	mark_kinds(&w, 0, api_kind_count());
	mark_meta(&w, "APIGroup");
	mark_meta(&w, "APIGroupList");
	mark_meta(&w, "APIVersions");
	buf_add_cstr(&out,
		     "{\"swagger\":\"2.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.36.0\"},\"paths\":{");
	for (size_t i = 0; document_at(i, &d); i++) {
		if (d.path)
			discovery(&w, &d);
		if (d.type == DOCUMENT_KINDS)
			openapi_paths(&w, d.gv);
		document_finish(&d);
	}
	buf_add_cstr(&out, "},\"definitions\":{");
	openapi_schemas(&w, 0, api_kind_count());
	buf_add_cstr(&out, "},\"securityDefinitions\":{\"BearerToken\":{\"description\":\"A bearer token.\",\"type\":"
			   "\"apiKey\",\"name\":\"authorization\",\"in\":\"header\"}},\"security\":[{\"BearerToken\":"
			   "[]}]}");
	hash_of("v2", ret_hash);
	return to_chunk(&out);
}

struct chunk *openapi_v2_protobuf(char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(chunk_unrefp) struct chunk *json = openapi_v2(ret_hash);

	return openapi_gnostic(json, &openapi_v2_desc);
}

void openapi_drop(void)
{
	/* Nothing is kept: documents are made on demand and hashes come from constants. */
}
