/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI documents. See openapi.h. Hashes come from what a document is made of (the data's digest and this file's
 * revision), so the index costs nothing; documents are written when asked for and not kept. Loop thread. */
#include "userspace/api/openapi.h"

#include <stdio.h>

#include "userspace/api/kind_tables.h"
#include "userspace/api/openapi_internal.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

/* Count up when the same tables give other documents, so that clients drop what they cached. */
#define DOCUMENT_REVISION 1

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

/* "api/v1", "apis/apps/v1" */
static char *path_of(const struct api_group_version *gv)
{
	return mem_printf("%s/%s", *gv->group ? "apis" : "api", gv->api_version);
}

struct chunk *openapi_v3_index(void)
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;

	buf_add_cstr(&out, "{\"paths\":{");
	for (size_t i = 0; i < api_group_version_count(); i++) {
		_cleanup_free_ char *path = path_of(api_group_version_at(i));
		char hash[OPENAPI_HASH_MAX];

		hash_of(path, hash);
		buf_printf(&out, "%s\"%s\":{\"serverRelativeURL\":\"/openapi/v3/%s?hash=%s\"}", i ? "," : "", path,
			   path, hash);
	}
	buf_add_cstr(&out, "}}");
	return to_chunk(&out);
}

static void mark_common(struct openapi_writer *w)
{
	openapi_mark(w, api_message_by_name(STR(OPENAPI_META "DeleteOptions")));
	openapi_mark(w, api_message_by_name(STR(OPENAPI_META "ListMeta")));
	openapi_mark(w, api_message_by_name(STR(OPENAPI_META "ObjectMeta")));
	openapi_mark(w, api_message_by_name(STR(OPENAPI_META "Status")));
}

/* Bodies of kinds and of their subresources. */
static void mark_kinds(struct openapi_writer *w, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		const struct api_kind *k = api_kind_at(i);

		openapi_mark(w, k->message);
		for (size_t j = 0; j < k->n_subresources; j++)
			openapi_mark(w, k->subresources[j].message);
	}
}

struct chunk *openapi_v3(struct str path, char ret_hash[static OPENAPI_HASH_MAX])
{
	const struct api_group_version *gv = NULL;
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_free_ bool *messages = NULL;
	struct openapi_writer w = { .out = &out, .form = OPENAPI_V3, .first_path = true };

	for (size_t i = 0; i < api_group_version_count() && !gv; i++) {
		_cleanup_free_ char *p = path_of(api_group_version_at(i));

		if (str_is(path, p)) {
			gv = api_group_version_at(i);
			hash_of(p, ret_hash);
		}
	}
	if (!gv)
		return NULL;
	w.messages = messages = mem_new_array(bool, api_builtin_n_messages);
	mark_common(&w);
	mark_kinds(&w, gv->first, (size_t)gv->first + gv->n_kinds);
	buf_add_cstr(&out,
		     "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.36.0\"},\"paths\":{");
	openapi_paths(&w, gv);
	buf_add_cstr(&out, "},\"components\":{\"schemas\":{");
	openapi_schemas(&w, gv);
	buf_add_cstr(&out, "}}}");
	return to_chunk(&out);
}

struct chunk *openapi_v2(char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_free_ bool *messages = mem_new_array(bool, api_builtin_n_messages);
	struct openapi_writer w = { .out = &out, .form = OPENAPI_V2, .messages = messages, .first_path = true };

	mark_common(&w);
	mark_kinds(&w, 0, api_kind_count());
	buf_add_cstr(&out,
		     "{\"swagger\":\"2.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.36.0\"},\"paths\":{");
	for (size_t i = 0; i < api_group_version_count(); i++)
		openapi_paths(&w, api_group_version_at(i));
	buf_add_cstr(&out, "},\"definitions\":{");
	openapi_schemas(&w, NULL);
	buf_add_cstr(&out, "}}");
	hash_of("v2", ret_hash);
	return to_chunk(&out);
}

void openapi_drop(void)
{
	/* Nothing is kept: documents are made on demand and hashes come from constants. */
}
