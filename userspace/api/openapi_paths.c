/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and operations of one group-version: what kubectl looks for (which query parameters an operation takes, which
 * kind a path serves) and what generic clients need to call them. See openapi_internal.h. */
#include <ctype.h>

#include "userspace/api/openapi_internal.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

/* Parameters by name; "+boolean" and the like tell the type, the others are strings. */
static const char *const no_parameters[] = { NULL };
static const char *const list_parameters[] = {
	"allowWatchBookmarks+boolean",
	"continue",
	"fieldSelector",
	"labelSelector",
	"limit+integer",
	"resourceVersion",
	"resourceVersionMatch",
	"sendInitialEvents+boolean",
	"timeoutSeconds+integer",
	"watch+boolean",
	NULL,
};
static const char *const write_parameters[] = { "dryRun", "fieldManager", "fieldValidation", NULL };
static const char *const patch_parameters[] = { "dryRun", "fieldManager", "fieldValidation", "force+boolean", NULL };
static const char *const delete_parameters[] = {
	"dryRun",
	"gracePeriodSeconds+integer",
	"ignoreStoreReadErrorWithClusterBreakingPotential+boolean",
	"orphanDependents+boolean",
	"propagationPolicy",
	NULL,
};
static const char *const collection_parameters[] = {
	"continue",
	"dryRun",
	"fieldSelector",
	"gracePeriodSeconds+integer",
	"ignoreStoreReadErrorWithClusterBreakingPotential+boolean",
	"labelSelector",
	"limit+integer",
	"orphanDependents+boolean",
	"propagationPolicy",
	"resourceVersion",
	"resourceVersionMatch",
	"sendInitialEvents+boolean",
	"timeoutSeconds+integer",
	NULL,
};
static const char *const log_parameters[] = {
	"container",
	"follow+boolean",
	"insecureSkipTLSVerifyBackend+boolean",
	"limitBytes+integer",
	"previous+boolean",
	"sinceSeconds+integer",
	"stream",
	"tailLines+integer",
	"timestamps+boolean",
	NULL,
};
static const char *const exec_parameters[] = {
	"command", "container", "stderr+boolean", "stdin+boolean", "stdout+boolean", "tty+boolean", NULL,
};
static const char *const attach_parameters[] = {
	"container", "stderr+boolean", "stdin+boolean", "stdout+boolean", "tty+boolean", NULL,
};
static const char *const forward_parameters[] = { "ports+integer", NULL };
static const char *const proxy_parameters[] = { "path", NULL };

enum body { BODY_NONE, BODY_OBJECT, BODY_PATCH, BODY_DELETE };
enum reply { REPLY_OBJECT, REPLY_LIST, REPLY_STATUS, REPLY_EVENT, REPLY_TEXT };

/* An HTTP method on a path. */
struct operation {
	unsigned verb;                        /* the kind or subresource has it */
	const char *method, *action, *prefix; /* prefix of the operationId */
	const char *what;                     /* description; %s is the kind */
	const char *const *parameters;
	enum body body;
	enum reply reply;
};

static const struct operation collection_operations[] = {
	{ API_VERB_LIST, "get", "list", "list", "List or watch objects of kind %s.", list_parameters, BODY_NONE,
	  REPLY_LIST },
	{ API_VERB_CREATE, "post", "post", "create", "Create a %s.", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_DELETECOLLECTION, "delete", "deletecollection", "delete", "Delete objects of kind %s.",
	  collection_parameters, BODY_DELETE, REPLY_STATUS },
};
static const struct operation item_operations[] = {
	{ API_VERB_GET, "get", "get", "read", "Read a %s.", no_parameters, BODY_NONE, REPLY_OBJECT },
	{ API_VERB_CREATE, "post", "post", "create", "Create a %s.", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_UPDATE, "put", "put", "replace", "Replace a %s.", write_parameters, BODY_OBJECT, REPLY_OBJECT },
	{ API_VERB_PATCH, "patch", "patch", "patch", "Change parts of a %s.", patch_parameters, BODY_PATCH,
	  REPLY_OBJECT },
	{ API_VERB_DELETE, "delete", "delete", "delete", "Delete a %s.", delete_parameters, BODY_DELETE, REPLY_STATUS },
};
static const struct operation watch_operations[] = {
	{ API_VERB_WATCH, "get", "watch", "watch", "Watch a %s.", no_parameters, BODY_NONE, REPLY_EVENT },
};
static const struct operation watch_list_operations[] = {
	{ API_VERB_WATCH, "get", "watchlist", "watch", "Watch objects of kind %s.", no_parameters, BODY_NONE,
	  REPLY_EVENT },
};
static const struct operation log_operations[] = {
	{ API_VERB_GET, "get", "get", "read", "Read the log of a container.", no_parameters, BODY_NONE, REPLY_TEXT },
};
/* Of streams; a POST needs the verb create, a GET get. */
static const struct operation connect_operations[] = {
	{ API_VERB_GET, "get", "connect", "connect", "Connect to a %s.", no_parameters, BODY_NONE, REPLY_TEXT },
	{ API_VERB_CREATE, "post", "connect", "connect", "Connect to a %s.", no_parameters, BODY_NONE, REPLY_TEXT },
};
static const struct operation proxy_operations[] = {
	{ API_VERB_GET, "get", "connect", "connect", "Send a GET request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_UPDATE, "put", "connect", "connect", "Send a PUT request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_CREATE, "post", "connect", "connect", "Send a POST request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_DELETE, "delete", "connect", "connect", "Send a DELETE request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_GET, "options", "connect", "connect", "Send an OPTIONS request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_GET, "head", "connect", "connect", "Send a HEAD request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
	{ API_VERB_PATCH, "patch", "connect", "connect", "Send a PATCH request to a %s.", no_parameters, BODY_NONE,
	  REPLY_TEXT },
};

/* Where an operation stands. */
struct target {
	const struct api_kind *kind;
	const struct api_subresource *sub; /* NULL: the object */
	const struct operation *operations;
	size_t n_operations;
	const char *const *parameters; /* of all operations, besides names and `pretty` */
	bool namespaced, item;         /* in the path */
	bool watch;                    /* below /watch/ */
	bool with_path;                /* proxy/{path} */
};

/* The message of the body, or NULL. */
static const char *body_message(const struct target *t)
{
	const struct api_message *m = t->sub ? t->sub->message : t->kind->message;

	return m ? m->name : NULL;
}

static void parameter(struct openapi_writer *w, const char *spec, const char *in, bool first)
{
	size_t n = strcspn(spec, "+");
	const char *type = spec[n] ? spec + n + 1 : "string";

	buf_printf(w->out, "%s{\"name\":\"%.*s\",\"in\":\"%s\",", first ? "" : ",", (int)n, spec, in);
	if (!strcmp(in, "path"))
		buf_add_cstr(w->out, "\"required\":true,");
	if (w->form == OPENAPI_V2)
		buf_printf(w->out, "\"type\":\"%s\",\"uniqueItems\":true}", type);
	else
		buf_printf(w->out, "\"schema\":{\"type\":\"%s\",\"uniqueItems\":true}}", type);
}

static bool parameters(struct openapi_writer *w, const char *const *list, const char *in, bool first)
{
	for (; *list; list++, first = false)
		parameter(w, *list, in, first);
	return first;
}

static const char *const any_types[] = { "*/*", NULL };
static const char *const object_types[] = { "application/json", "application/yaml",
					    "application/vnd.kubernetes.protobuf", NULL };
static const char *const stream_types[] = { "application/json",
					    "application/yaml",
					    "application/vnd.kubernetes.protobuf",
					    "application/json;stream=watch",
					    "application/vnd.kubernetes.protobuf;stream=watch",
					    NULL };
static const char *const text_types[] = { "text/plain", "application/json", "application/yaml",
					  "application/vnd.kubernetes.protobuf", NULL };
static const char *const patch_types[] = { "application/apply-patch+yaml", "application/json-patch+json",
					   "application/merge-patch+json", "application/strategic-merge-patch+json",
					   NULL };

static const char *const *reply_types(const struct operation *op)
{
	if (op->reply == REPLY_TEXT)
		return strcmp(op->action, "connect") ? text_types : any_types;
	return op->reply == REPLY_LIST || op->reply == REPLY_EVENT ? stream_types : object_types;
}

static void media_names(struct openapi_writer *w, const char *key, const char *const *types)
{
	buf_printf(w->out, "\"%s\":[", key);
	for (size_t i = 0; types[i]; i++)
		buf_printf(w->out, "%s\"%s\"", i ? "," : "", types[i]);
	buf_add_cstr(w->out, "],");
}

/* A schema by reference; without a name a string. */
static void reply_schema(struct openapi_writer *w, const char *name, const char *suffix)
{
	buf_add_cstr(w->out, "\"schema\":");
	if (name)
		openapi_ref(w, name, suffix);
	else
		buf_add_cstr(w->out, "{\"type\":\"string\"}");
}

static void content(struct openapi_writer *w, const char *const *types, const char *name, const char *suffix)
{
	buf_add_cstr(w->out, "\"content\":{");
	for (size_t i = 0; types[i]; i++) {
		buf_printf(w->out, "%s\"%s\":{", i ? "," : "", types[i]);
		reply_schema(w, name, suffix);
		buf_add_char(w->out, '}');
	}
	buf_add_char(w->out, '}');
}

static void request_body(struct openapi_writer *w, const struct target *t, const struct operation *op, bool first)
{
	const char *name = op->body == BODY_OBJECT  ? body_message(t)
			   : op->body == BODY_PATCH ? OPENAPI_META "Patch"
						    : OPENAPI_META "DeleteOptions";
	bool required = op->body != BODY_DELETE;

	if (w->form == OPENAPI_V2) {
		buf_printf(w->out, "%s{\"name\":\"body\",\"in\":\"body\",%s\"schema\":", first ? "" : ",",
			   required ? "\"required\":true," : "");
		openapi_ref(w, name, "");
		buf_add_char(w->out, '}');
		return;
	}
	buf_add_cstr(w->out, "\"requestBody\":{");
	content(w, op->body == BODY_PATCH ? patch_types : any_types, name, "");
	buf_add_cstr(w->out, required ? ",\"required\":true}," : "},");
}

static void response(struct openapi_writer *w, int code, const char *const *types, const char *name, const char *suffix)
{
	buf_printf(w->out, "\"%d\":{\"description\":\"%s\",", code,
		   code == 200   ? "OK"
		   : code == 201 ? "Created"
				 : "Accepted");
	if (w->form == OPENAPI_V2)
		reply_schema(w, name, suffix);
	else
		content(w, types, name, suffix);
	buf_add_cstr(w->out, "},");
}

static void responses(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	static const char *const names[] = {
		[REPLY_STATUS] = OPENAPI_META "Status", [REPLY_EVENT] = OPENAPI_META "WatchEvent", [REPLY_TEXT] = NULL
	};
	const char *name = op->reply == REPLY_OBJECT || op->reply == REPLY_LIST ? body_message(t) : names[op->reply];
	const char *suffix = op->reply == REPLY_LIST ? "List" : "";
	const char *const *types = reply_types(op);
	bool post = !strcmp(op->action, "post"), removal = !strcmp(op->action, "delete");

	buf_add_cstr(w->out, "\"responses\":{");
	response(w, 200, types, name, suffix);
	if (post || op->body == BODY_PATCH || !strcmp(op->action, "put"))
		response(w, 201, types, name, suffix);
	if (post || removal)
		response(w, 202, types, name, suffix);
	buf_add_cstr(w->out, "\"401\":{\"description\":\"Unauthorized\"}},");
}

static void capital(struct buf *out, const char *s, size_t n)
{
	if (!n)
		return;
	buf_add_char(out, (char)toupper((unsigned char)*s));
	buf_add(out, s + 1, n - 1);
}

void openapi_id(struct buf *out, const char *group, const char *version)
{
	group = *group ? group : "core";
	capital(out, group, strcspn(group, "."));
	capital(out, version, strlen(version));
}

void openapi_tag(struct buf *out, const char *group, const char *version)
{
	group = *group ? group : "core";
	buf_printf(out, "%.*s%s%s", (int)strcspn(group, "."), group, *version ? "_" : "", version);
}

/* "createAppsV1NamespacedDeploymentScale": unique in a document. */
static void operation_id(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	bool collection = !strcmp(op->action, "deletecollection"), connect = !strcmp(op->action, "connect");
	struct buf *out = w->out;

	buf_printf(out, "\"operationId\":\"%s", op->prefix);
	openapi_id(out, t->kind->group, t->kind->version);
	if (connect)
		capital(out, op->method, strlen(op->method));
	buf_printf(out, "%s%s%s", collection ? "Collection" : "", t->namespaced ? "Namespaced" : "", t->kind->kind);
	if (t->sub)
		capital(out, t->sub->name, strlen(t->sub->name));
	if (t->watch && !t->item)
		buf_add_cstr(out, "List");
	buf_add_cstr(out, t->with_path ? "WithPath" : "");
	buf_add_cstr(out, t->kind->namespaced && !t->namespaced ? "ForAllNamespaces\"," : "\",");
}

static void operation(struct openapi_writer *w, const struct target *t, const struct operation *op)
{
	const char *group = t->sub ? t->sub->group : t->kind->group, *kind = t->sub ? t->sub->kind : t->kind->kind;
	const char *version = t->sub ? t->sub->version : t->kind->version;
	struct buf *out = w->out;
	bool first;

	buf_printf(out, "\"%s\":{\"tags\":[\"", op->method);
	openapi_tag(out, t->kind->group, t->kind->version);
	buf_add_cstr(out, "\"],\"description\":\"");
	for (const char *p = op->what; *p; p++) {
		if (p[0] == '%' && p[1] == 's') {
			buf_add_cstr(out, t->kind->kind);
			p++;
		} else {
			buf_add_char(out, *p);
		}
	}
	buf_add_cstr(out, "\",");
	operation_id(w, t, op);
	if (w->form == OPENAPI_V2) {
		media_names(w, "consumes", op->body == BODY_PATCH ? patch_types : any_types);
		media_names(w, "produces", reply_types(op));
	}
	buf_add_cstr(out, "\"parameters\":[");
	first = parameters(w, op->parameters, "query", true);
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

static void path(struct openapi_writer *w, const struct target *t, unsigned verbs)
{
	struct buf *out = w->out;
	bool first = true;

	if (!body_message(t) && !t->parameters)
		return;
	buf_printf(out, "%s\"%s/%s%s%s/%s%s%s%s%s\":{", w->first_path ? "" : ",", *t->kind->group ? "/apis" : "/api",
		   t->kind->api_version, t->watch ? "/watch" : "", t->namespaced ? "/namespaces/{namespace}" : "",
		   t->kind->plural, t->item ? "/{name}" : "", t->sub ? "/" : "", t->sub ? t->sub->name : "",
		   t->with_path ? "/{path}" : "");
	w->first_path = false;
	buf_add_cstr(out, "\"parameters\":[");
	if (t->parameters)
		first = parameters(w, t->parameters, "query", first);
	if (t->item) {
		parameter(w, "name", "path", first);
		first = false;
	}
	if (t->namespaced) {
		parameter(w, "namespace", "path", first);
		first = false;
	}
	if (t->with_path)
		parameter(w, "path", "path", first);
	else if (!t->parameters || t->operations == log_operations || t->watch)
		parameter(w, "pretty", "query", first);
	buf_add_char(out, ']');
	for (size_t i = 0; i < t->n_operations; i++) {
		if (!(verbs & t->operations[i].verb))
			continue;
		buf_add_char(out, ',');
		operation(w, t, &t->operations[i]);
	}
	buf_add_char(out, '}');
}

#define OPERATIONS(array_) .operations = (array_), .n_operations = ARRAY_SIZE(array_)

static void subresource_paths(struct openapi_writer *w, const struct api_kind *k, const struct api_subresource *s)
{
	static const struct {
		const char *name;
		const char *const *parameters;
	} streams[] = {
		{ "exec", exec_parameters },
		{ "attach", attach_parameters },
		{ "portforward", forward_parameters },
	};
	struct target t = {
		.kind = k, .sub = s, .namespaced = k->namespaced, .item = true, OPERATIONS(item_operations)
	};

	if (!strcmp(s->name, "proxy")) {
		t.parameters = proxy_parameters;
		t.operations = proxy_operations;
		t.n_operations = ARRAY_SIZE(proxy_operations);
		path(w, &t, s->verbs);
		t.with_path = true;
	}
	if (!strcmp(s->name, "log")) {
		t.parameters = log_parameters;
		t.operations = log_operations;
		t.n_operations = ARRAY_SIZE(log_operations);
	}
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		if (strcmp(s->name, streams[i].name))
			continue;
		t.parameters = streams[i].parameters;
		t.operations = connect_operations;
		t.n_operations = ARRAY_SIZE(connect_operations);
	}
	path(w, &t, s->verbs);
}

static void watch_paths(struct openapi_writer *w, const struct api_kind *k)
{
	struct target t = { .kind = k,
			    .namespaced = k->namespaced,
			    .watch = true,
			    .parameters = list_parameters,
			    OPERATIONS(watch_list_operations) };

	path(w, &t, k->verbs);
	if (k->namespaced) {
		t.namespaced = false;
		path(w, &t, k->verbs);
		t.namespaced = true;
	}
	t.item = true;
	t.operations = watch_operations;
	path(w, &t, k->verbs);
}

void openapi_paths(struct openapi_writer *w, const struct api_group_version *gv)
{
	for (size_t i = 0; i < gv->n_kinds; i++) {
		const struct api_kind *k = api_kind_at(gv->first + i);
		struct target t = { .kind = k, .namespaced = k->namespaced, OPERATIONS(collection_operations) };

		if (!*k->plural)
			continue;
		path(w, &t, k->verbs);
		if (k->namespaced && k->verbs & API_VERB_LIST)
			path(w, &(struct target){ .kind = k, OPERATIONS(collection_operations) }, API_VERB_LIST);
		if (k->verbs & (API_VERB_GET | API_VERB_UPDATE | API_VERB_PATCH | API_VERB_DELETE))
			path(w,
			     &(struct target){ .kind = k,
					       .namespaced = k->namespaced,
					       .item = true,
					       OPERATIONS(item_operations) },
			     k->verbs & ~(unsigned)API_VERB_CREATE);
		for (size_t j = 0; j < k->n_subresources; j++)
			subresource_paths(w, k, &k->subresources[j]);
		if (k->verbs & API_VERB_WATCH)
			watch_paths(w, k);
	}
}

/* ---- discovery ---- */

void openapi_discovery_path(struct openapi_writer *w, const char *url, const char *tag, const char *id,
			    const char *message)
{
	static const struct operation op = { .action = "discovery" };

	buf_printf(w->out, "%s\"%s\":{\"get\":{\"tags\":[\"%s\"],\"operationId\":\"%s\",", w->first_path ? "" : ",",
		   url, tag, id);
	w->first_path = false;
	if (w->form == OPENAPI_V2) {
		media_names(w, "consumes", object_types);
		media_names(w, "produces", reply_types(&op));
	}
	buf_add_cstr(w->out, "\"responses\":{");
	response(w, 200, object_types, message, "");
	buf_add_cstr(w->out, "\"401\":{\"description\":\"Unauthorized\"}}}}");
}
