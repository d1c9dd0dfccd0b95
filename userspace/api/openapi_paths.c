/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and operations of one group-version: what kubectl looks for (which query parameters an operation takes, which
 * kind a path serves) and what generic clients need to call them. See openapi_internal.h. */
#include <ctype.h>

#include "userspace/api/openapi_internal.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

struct parameter {
	const char *name, *type;
};

static const struct parameter list_parameters[] = {
	{ "allowWatchBookmarks", "boolean" },
	{ "continue", "string" },
	{ "fieldSelector", "string" },
	{ "labelSelector", "string" },
	{ "limit", "integer" },
	{ "resourceVersion", "string" },
	{ "resourceVersionMatch", "string" },
	{ "sendInitialEvents", "boolean" },
	{ "timeoutSeconds", "integer" },
	{ "watch", "boolean" },
	{ NULL, NULL },
};
static const struct parameter write_parameters[] = {
	{ "dryRun", "string" },
	{ "fieldManager", "string" },
	{ "fieldValidation", "string" },
	{ NULL, NULL },
};
static const struct parameter patch_parameters[] = {
	{ "dryRun", "string" }, { "fieldManager", "string" }, { "fieldValidation", "string" }, { "force", "boolean" },
	{ NULL, NULL },
};
static const struct parameter delete_parameters[] = {
	{ "dryRun", "string" },
	{ "gracePeriodSeconds", "integer" },
	{ "orphanDependents", "boolean" },
	{ "propagationPolicy", "string" },
	{ NULL, NULL },
};
static const struct parameter no_parameters[] = { { NULL, NULL } };

enum body { BODY_NONE, BODY_OBJECT, BODY_PATCH, BODY_DELETE };
enum reply { REPLY_OBJECT, REPLY_LIST, REPLY_STATUS };

/* An HTTP method on a path. */
struct operation {
	unsigned verb;
	const char *method, *action, *prefix; /* prefix of the operationId */
	const struct parameter *parameters;
	enum body body;
	enum reply reply;
};

static const struct operation collection_operations[] = {
	{ API_VERB_LIST, "get", "list", "list", list_parameters, BODY_NONE, REPLY_LIST },
	{ API_VERB_CREATE, "post", "post", "create", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_DELETECOLLECTION, "delete", "deletecollection", "deleteCollection", delete_parameters, BODY_DELETE,
	  REPLY_STATUS },
};
static const struct operation item_operations[] = {
	{ API_VERB_GET, "get", "get", "read", no_parameters, BODY_NONE, REPLY_OBJECT },
	{ API_VERB_CREATE, "post", "post", "create", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_UPDATE, "put", "put", "replace", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_PATCH, "patch", "patch", "patch", patch_parameters, BODY_PATCH, REPLY_OBJECT },
	{ API_VERB_DELETE, "delete", "delete", "delete", delete_parameters, BODY_DELETE, REPLY_STATUS },
};

/* What a path serves. */
struct target {
	const struct api_kind *kind;
	const struct api_subresource *sub; /* or NULL */
	bool namespaced, item;
};

static const char *body_message(const struct target *t)
{
	const struct api_message *m = t->sub ? t->sub->message : t->kind->message;

	return m ? m->name : NULL;
}

static void parameter(struct openapi_writer *w, const struct parameter *p, const char *in, bool first)
{
	buf_printf(w->out, "%s{\"name\":\"%s\",\"in\":\"%s\",", first ? "" : ",", p->name, in);
	if (!strcmp(in, "path"))
		buf_add_cstr(w->out, "\"required\":true,");
	if (w->form == OPENAPI_V2)
		buf_printf(w->out, "\"type\":\"%s\",\"uniqueItems\":true}", p->type);
	else
		buf_printf(w->out, "\"schema\":{\"type\":\"%s\",\"uniqueItems\":true}}", p->type);
}

static const char *const json_types[] = { "application/json", "application/yaml", NULL };
static const char *const patch_types[] = { "application/apply-patch+yaml", "application/json-patch+json",
					   "application/merge-patch+json", "application/strategic-merge-patch+json",
					   NULL };

static void media_names(struct openapi_writer *w, const char *key, const char *const *types)
{
	buf_printf(w->out, "\"%s\":[", key);
	for (size_t i = 0; types[i]; i++)
		buf_printf(w->out, "%s\"%s\"", i ? "," : "", types[i]);
	buf_add_cstr(w->out, "],");
}

static void content(struct openapi_writer *w, const char *const *types, const char *name, const char *suffix)
{
	buf_add_cstr(w->out, "\"content\":{");
	for (size_t i = 0; types[i]; i++) {
		buf_printf(w->out, "%s\"%s\":{\"schema\":", i ? "," : "", types[i]);
		openapi_ref(w, name, suffix);
		buf_add_char(w->out, '}');
	}
	buf_add_char(w->out, '}');
}

static void request_body(struct openapi_writer *w, const struct target *t, const struct operation *op, bool first)
{
	static const char *const any[] = { "*/*", NULL };
	const char *name = op->body == BODY_OBJECT  ? body_message(t)
			   : op->body == BODY_PATCH ? OPENAPI_META "Patch"
						    : OPENAPI_META "DeleteOptions";

	if (w->form == OPENAPI_V2) {
		buf_printf(w->out, "%s{\"name\":\"body\",\"in\":\"body\",\"required\":%s,\"schema\":", first ? "" : ",",
			   op->body == BODY_DELETE ? "false" : "true");
		openapi_ref(w, name, "");
		buf_add_char(w->out, '}');
		return;
	}
	buf_add_cstr(w->out, "\"requestBody\":{");
	content(w, op->body == BODY_PATCH ? patch_types : any, name, "");
	buf_add_cstr(w->out, "},");
}

static void responses(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	const char *name = op->reply == REPLY_STATUS ? OPENAPI_META "Status" : body_message(t);
	const char *suffix = op->reply == REPLY_LIST ? "List" : "";
	int last = op->verb == API_VERB_CREATE ? 201 : 200;

	buf_add_cstr(w->out, "\"responses\":{");
	for (int code = 200; code <= last; code++) {
		buf_printf(w->out, "\"%d\":{\"description\":\"%s\",", code, code == 200 ? "OK" : "Created");
		if (w->form == OPENAPI_V2) {
			buf_add_cstr(w->out, "\"schema\":");
			openapi_ref(w, name, suffix);
		} else {
			content(w, json_types, name, suffix);
		}
		buf_add_cstr(w->out, "},");
	}
	buf_add_cstr(w->out, "\"401\":{\"description\":\"Unauthorized\"}},");
}

/* "createAppsV1NamespacedDeploymentScale": unique in a document. */
static void operation_id(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	const char *group = *t->kind->group ? t->kind->group : "core";
	struct buf *out = w->out;

	buf_printf(out, "\"operationId\":\"%s%c", op->prefix, toupper((unsigned char)*group));
	for (const char *p = group + 1; *p && *p != '.'; p++)
		buf_add_char(out, *p);
	buf_printf(out, "V%s%s%s", t->kind->version + 1, t->namespaced ? "Namespaced" : "", t->kind->kind);
	if (t->sub)
		buf_printf(out, "%c%s", toupper((unsigned char)*t->sub->name), t->sub->name + 1);
	buf_add_cstr(out, t->kind->namespaced && !t->namespaced ? "ForAllNamespaces\"," : "\",");
}

static void operation(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	const char *group = t->sub ? t->sub->group : t->kind->group, *kind = t->sub ? t->sub->kind : t->kind->kind;
	const char *version = t->sub ? t->sub->version : t->kind->version;
	struct buf *out = w->out;
	bool first = true;

	buf_printf(out, "\"%s\":{", op->method);
	operation_id(w, t, op);
	if (w->form == OPENAPI_V2) {
		media_names(w, "consumes", op->body == BODY_PATCH ? patch_types : json_types);
		media_names(w, "produces", json_types);
	}
	buf_add_cstr(out, "\"parameters\":[");
	for (const struct parameter *p = op->parameters; p->name; p++, first = false)
		parameter(w, p, "query", first);
	if (op->body != BODY_NONE && w->form == OPENAPI_V2)
		request_body(w, t, op, first);
	buf_add_cstr(out, "],");
	if (op->body != BODY_NONE && w->form == OPENAPI_V3)
		request_body(w, t, op, true);
	responses(w, t, op);
	buf_printf(out,
		   "\"x-kubernetes-action\":\"%s\",\"x-kubernetes-group-version-kind\":{\"group\":\"%s\",\"kind\":"
		   "\"%s\",\"version\":\"%s\"}}",
		   op->action, group, kind, version);
}

static void path(struct openapi_writer *w, const struct target *t)
{
	static const struct parameter name = { "name", "string" }, ns = { "namespace", "string" },
				      pretty = { "pretty", "string" };
	const struct operation *ops = t->item ? item_operations : collection_operations;
	size_t n = t->item ? ARRAY_SIZE(item_operations) : ARRAY_SIZE(collection_operations);
	unsigned verbs = t->sub ? t->sub->verbs : t->kind->verbs;
	struct buf *out = w->out;

	if (!body_message(t))
		return; /* streams: exec, attach, log, proxy */
	if (t->item && !t->sub)
		verbs &= ~(unsigned)API_VERB_CREATE;
	if (!t->item && t->kind->namespaced && !t->namespaced)
		verbs &= API_VERB_LIST;
	buf_printf(out, "%s\"%s/%s%s/%s%s%s%s\":{", w->first_path ? "" : ",", *t->kind->group ? "/apis" : "/api",
		   t->kind->api_version, t->namespaced ? "/namespaces/{namespace}" : "", t->kind->plural,
		   t->item ? "/{name}" : "", t->sub ? "/" : "", t->sub ? t->sub->name : "");
	w->first_path = false;
	buf_add_cstr(out, "\"parameters\":[");
	if (t->item)
		parameter(w, &name, "path", true);
	if (t->namespaced)
		parameter(w, &ns, "path", !t->item);
	parameter(w, &pretty, "query", !t->item && !t->namespaced);
	buf_add_char(out, ']');
	for (size_t i = 0; i < n; i++) {
		if (!(verbs & ops[i].verb))
			continue;
		buf_add_char(out, ',');
		operation(w, t, &ops[i]);
	}
	buf_add_char(out, '}');
}

void openapi_paths(struct openapi_writer *w, const struct api_group_version *gv)
{
	for (size_t i = 0; i < gv->n_kinds; i++) {
		const struct api_kind *k = api_kind_at(gv->first + i);
		struct target t = { .kind = k, .namespaced = k->namespaced };

		if (!*k->plural)
			continue;
		path(w, &t);
		if (k->namespaced && k->verbs & API_VERB_LIST)
			path(w, &(struct target){ .kind = k });
		t.item = true;
		if (k->verbs & (API_VERB_GET | API_VERB_UPDATE | API_VERB_PATCH | API_VERB_DELETE))
			path(w, &t);
		for (size_t j = 0; j < k->n_subresources; j++) {
			t.sub = &k->subresources[j];
			path(w, &t);
		}
	}
}
