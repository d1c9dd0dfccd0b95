/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs of the wire onto the pipeline. Loop thread. */
#include "userspace/registry/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/managed_fields.h"
#include "userspace/api/patch.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

static const char PATCH_TYPES[] = "application/json-patch+json, application/merge-patch+json, "
				  "application/strategic-merge-patch+json, application/apply-patch+yaml";

int request_tree(struct write *w, const struct request *rq, struct json **ret, struct err *err)
{
	if (rq->tree) {
		*ret = json_clone_deep(&w->arena, rq->tree);
		return 0;
	}
	return decode_parse(&w->arena, w->kind, rq->body, rq->media, w->validation, write_findings(w), ret, err);
}

static int patched_by_tree(struct write *w, const struct request *rq, const struct api_message *message,
			   const struct json *original, struct json **ret, struct err *err)
{
	switch (rq->patch) {
	case REQUEST_PATCH_JSON:
		return patch_json(&w->arena, original, rq->tree, ret, err);
	case REQUEST_PATCH_MERGE:
		return patch_merge(&w->arena, original, rq->tree, ret, err);
	default:
		return patch_strategic(&w->arena, message, original, rq->tree, ret, err);
	}
}

int request_patched(struct write *w, const struct request *rq, const struct api_message *message,
		    const struct json *original, struct json **ret, struct err *err)
{
	static const enum patch_type types[] = {
		[REQUEST_PATCH_JSON] = PATCH_JSON,
		[REQUEST_PATCH_MERGE] = PATCH_MERGE,
		[REQUEST_PATCH_STRATEGIC] = PATCH_STRATEGIC,
	};

	if (rq->patch == REQUEST_PATCH_NONE || rq->patch == REQUEST_PATCH_APPLY)
		return api_err_unsupported_media_type(err, PATCH_TYPES);
	if (rq->tree)
		return patched_by_tree(w, rq, message, original, ret, err);
	return patch_apply(&w->arena, types[rq->patch], message, original, rq->body, ret, err);
}

static int change_by_body(struct write *w, const struct request *rq, struct err *err)
{
	struct json *tree = NULL;
	int r = request_tree(w, rq, &tree, err);

	return r < 0 ? r : write_decode(w, tree, err);
}

/* A result that is no such object is the patch's fault, and is shown whole. */
static int refuse_patch(const struct request *rq, const struct json *result, const struct err *why, struct err *err)
{
	static const char before[] = " cannot be handled as a ";
	const char *text = err_message(why), *at = strstr(text, before), *colon = at ? strstr(at, ": ") : NULL;
	_cleanup_buf_ struct buf value = BUF_INIT, shown = BUF_INIT;

	if (colon)
		text = colon + 2;
	if (rq->patch == REQUEST_PATCH_STRATEGIC && !rq->tree)
		patch_print(&value, rq->body);
	else
		json_write(&value, result);
	json_write_str(&shown, buf_str(&value));
	err_set_status(err, -EINVAL, 422, "Invalid", " \"\" is invalid: patch: Invalid value: %s: %s", buf_cstr(&shown),
		       text);
	err_add_cause(err, "FieldValueInvalid", "patch", "Invalid value: %s: %s", buf_cstr(&shown), text);
	return -EINVAL;
}

static int change_by_patch(struct write *w, const struct request *rq, struct err *err)
{
	struct json *original = managed_original(w, rq), *tree = NULL;
	int r = request_patched(w, rq, w->kind->message, original, &tree, err);
	_cleanup_err_ struct err why = ERR_INIT;

	if (r < 0)
		return r;
	/* The result shares nodes of neither, but it must not change under the patch's tree. */
	r = write_decode(w, json_clone(&w->arena, tree), &why);
	if (r < 0 && why.status == 400 && strstr(err_message(&why), " cannot be handled as a "))
		return refuse_patch(rq, tree, &why, err);
	if (r < 0)
		err_move(err, &why);
	return r;
}

int request_change(struct write *w, void *arg, struct err *err)
{
	const struct request *rq = arg;

	return rq->verb == API_VERB_PATCH ? change_by_patch(w, rq, err) : change_by_body(w, rq, err);
}

static void run_create(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_CREATE, rq->kind, NULL, rq->ns, rq->name);
	_cleanup_err_ struct err err = ERR_INIT;

	write_set_request(w, rq, done, arg);
	if (request_tree(w, rq, &w->object, &err) < 0)
		write_fail(w, &err);
	else
		write_run_create(w);
}

static void run_update(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_UPDATE, rq->kind, rq->subresource, rq->ns, rq->name);

	write_set_request(w, rq, done, arg);
	w->create_on_update = rq->verb != API_VERB_PATCH;
	write_run_update(w, request_change, (void *)(uintptr_t)rq);
}

static void run_delete(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_DELETE, rq->kind, NULL, rq->ns, rq->name);
	struct registry_delete_options_wire o;
	_cleanup_err_ struct err err = ERR_INIT;

	write_set_request(w, rq, done, arg);
	if (delete_options_parse(w, rq, &o, &err) < 0) {
		write_fail(w, &err);
		return;
	}
	w->dry_run = o.dry_run;
	write_run_delete(w, &o.options, o.orphan_set, o.orphan);
}

static int check_revision(struct registry *reg, struct str text, struct err *err)
{
	int64_t revision = 0;

	if (text.n == 0)
		return 0;
	if (str_to_int64(text, &revision) < 0 || revision < 0)
		return api_err_bad_request(err,
					   "resourceVersion: Invalid value: \"%.*s\": strconv.ParseUint: parsing "
					   "\"%.*s\": invalid syntax",
					   STR_ARG(text), STR_ARG(text));
	if (revision > store_revision(reg->store))
		return list_too_large(err, revision, store_revision(reg->store));
	return 0;
}

static void run_get(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct request_result result = { .http_status = 200, .list_remaining = -1 };
	_cleanup_err_ struct err err = ERR_INIT;
	int r = check_revision(reg, rq->resource_version, &err);

	if (r >= 0) {
		result.object = registry_get(reg, rq->kind, rq->ns, rq->name);
		if (!result.object)
			r = api_err_not_found(&err, rq->kind, rq->name);
	}
	done(arg, r < 0 ? NULL : &result, r < 0 ? &err : NULL);
}

/* The options that a write comes with, as upstream judges them: all at once, the kind of options is named. */
static int check_options(const struct request *rq, struct err *err)
{
	const char *options = rq->verb == API_VERB_CREATE  ? "CreateOptions"
			      : rq->verb == API_VERB_PATCH ? "PatchOptions"
							   : "UpdateOptions";
	bool patch = rq->verb == API_VERB_PATCH, apply = rq->patch == REQUEST_PATCH_APPLY;
	_cleanup_buf_ struct buf why = BUF_INIT;
	struct str m = rq->field_manager;
	uint32_t rune = 0;
	long at;

	if (!patch && rq->verb != API_VERB_CREATE && rq->verb != API_VERB_UPDATE)
		return 0;
	if (patch && apply && m.n == 0)
		buf_add_cstr(&why, "fieldManager: Required value: is required for apply patch");
	if (patch && rq->force && !apply)
		buf_add_cstr(&why, "force: Forbidden: may not be specified for non-apply patch");
	if (m.n > REQUEST_FIELD_MANAGER_MAX)
		buf_printf(&why, "%sfieldManager: Too long: may not be more than %d bytes", buf_len(&why) ? ", " : "",
			   REQUEST_FIELD_MANAGER_MAX);
	at = managed_fields_unprintable(m, &rune);
	if (at >= 0) {
		buf_printf(&why, "%sfieldManager: Invalid value: ", buf_len(&why) ? ", " : "");
		json_write_str(&why, m);
		buf_printf(&why, ": invalid character U+%04X (at position %ld)", (unsigned)rune, at);
	}
	if (!buf_len(&why))
		return 0;
	return err_set_status(err, -EINVAL, 422, "Invalid", "%s.meta.k8s.io \"\" is invalid: %s", options,
			      buf_cstr(&why));
}

static int check(const struct request *rq, struct err *err)
{
	int r = check_options(rq, err);

	if (r < 0)
		return r;
	if (rq->kind->namespaced && rq->ns.n == 0 && rq->verb != API_VERB_LIST && rq->verb != API_VERB_DELETECOLLECTION)
		return api_err_bad_request(err, "an empty namespace may not be set when a resource name is provided");
	return 0;
}

static void run_unstored(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (rq->verb == API_VERB_CREATE && strcmp(rq->kind->kind, "Binding") == 0) {
		binding_run(reg, rq, done, arg);
		return;
	}
	api_err_method_not_supported(&err);
	done(arg, NULL, &err);
}

void request_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (check(rq, &err) < 0) {
		done(arg, NULL, &err);
		return;
	}
	/* What is never stored may not come near the store. */
	if (rq->kind->resource == API_RESOURCE_NONE) {
		run_unstored(reg, rq, done, arg);
		return;
	}
	if (rq->subresource && strcmp(rq->subresource, "status") != 0) {
		if (scale_run(reg, rq, done, arg) || subresource_run(reg, rq, done, arg))
			return;
		api_err_no_resource(&err);
		done(arg, NULL, &err);
		return;
	}
	switch (rq->verb) {
	case API_VERB_GET:
		run_get(reg, rq, done, arg);
		break;
	case API_VERB_LIST:
		list_run(reg, rq, done, arg);
		break;
	case API_VERB_CREATE:
		run_create(reg, rq, done, arg);
		break;
	case API_VERB_UPDATE:
	case API_VERB_PATCH:
		if (rq->patch == REQUEST_PATCH_APPLY)
			apply_run(reg, rq, done, arg);
		else
			run_update(reg, rq, done, arg);
		break;
	case API_VERB_DELETE:
		run_delete(reg, rq, done, arg);
		break;
	case API_VERB_DELETECOLLECTION:
		delete_collection_run(reg, rq, done, arg);
		break;
	default:
		api_err_method_not_supported(&err);
		done(arg, NULL, &err);
	}
}
