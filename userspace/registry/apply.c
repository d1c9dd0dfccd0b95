/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership of fields on the way through the pipeline, and server-side apply.
 *
 * metadata.managedFields is taken off the old object when a write begins and put on the new one when it is handed to
 * the store. What lies between (hooks, admission, comparing) never sees it. As upstream has it the owners are found
 * out after the defaults and before admission: what plugins and the server add is nobody's. Loop thread. */
#include <errno.h>
#include <string.h>

#include "userspace/api/managed_fields.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define MANAGED "managedFields"

/* ---- off and on ---- */

void managed_detach(struct write *w)
{
	struct json *meta = meta_of(w->old);

	w->managed_old = meta ? json_remove(meta, MANAGED) : NULL;
	w->managed = w->managed_old;
}

void managed_attach(struct write *w, struct json *tree)
{
	struct json *managed = tree == w->old ? w->managed_old : w->managed;

	if (managed)
		json_set(meta_ensure(&w->arena, tree), MANAGED, json_clone(&w->arena, managed));
}

/* What a client sends: before the tree is decoded (empty lists are gone then), and after. */
void managed_receive(struct write *w, struct json *tree)
{
	struct json *meta = json_get(tree, "metadata"), *sent = json_get(meta, MANAGED);

	w->managed_reset = managed_fields_is_reset(sent);
	if (w->managed_reset || json_is(sent, JSON_RAW))
		json_remove(meta, MANAGED);
}

void managed_received(struct write *w, struct json *tree)
{
	struct json *sent = json_remove(meta_ensure(&w->arena, tree), MANAGED);

	if (sent && managed_fields_valid(&w->arena, sent))
		w->managed_sent = json_clone_deep(&w->arena, sent);
}

/* JSON Patch can look into the list: then it must be there as a tree. */
static bool patch_looks(const struct request *rq)
{
	static const char *const paths[] = { MANAGED, "\"/metadata\"", "\"\"" };

	if (rq->patch != REQUEST_PATCH_JSON)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(paths) && !rq->tree; i++)
		if (memmem(rq->body.p, rq->body.n, paths[i], strlen(paths[i])))
			return true;
	return rq->tree != NULL;
}

struct json *managed_original(struct write *w, const struct request *rq)
{
	struct json *original = json_clone(&w->arena, w->old), *list = w->managed_old;

	if (list && json_is(list, JSON_RAW) && patch_looks(rq) && json_parse(&w->arena, list->text, 0, &list, NULL) < 0)
		list = NULL;
	if (list)
		json_set(meta_ensure(&w->arena, original), MANAGED, json_clone(&w->arena, list));
	return convert_from_storage(&w->arena, w->kind, original);
}

/* ---- who wrote ---- */

static struct json *to_version(struct arena *arena, const struct json *object, const struct api_kind *from,
			       const struct api_kind *to)
{
	struct json *v = convert_to_storage(arena, from, json_clone(arena, object));

	return convert_from_storage(arena, to, v);
}

static struct managed_write write_of(struct write *w)
{
	return (struct managed_write){
		.kind = w->kind,
		.subresource = w->subresource,
		.manager = w->manager,
		.now_real_ns = clock_real_ns(),
		.convert = to_version,
	};
}

static bool is_view(const struct write *w)
{
	return w->kind != w->storage;
}

/* Subresources that are posted change the object behind the owners' backs. */
static bool is_tracked(const struct write *w)
{
	return w->storage->verbs & API_VERB_GET &&
	       !(w->subresource && (!strcmp(w->subresource, "binding") || !strcmp(w->subresource, "eviction")));
}

void managed_track(struct write *w)
{
	struct managed_write mw = write_of(w);
	struct json *live = w->op == WRITE_UPDATE ? w->old : NULL, *object = w->object, *base = w->managed_old;

	if (w->managed_done || !is_tracked(w))
		return;
	w->managed_done = true;
	if (!w->subresource && w->managed_reset)
		base = NULL;
	else if (!w->subresource && w->managed_sent)
		base = w->managed_sent;
	if (is_view(w)) {
		live = live ? convert_from_storage(&w->arena, w->kind, json_clone(&w->arena, live)) : NULL;
		object = convert_from_storage(&w->arena, w->kind, json_clone(&w->arena, object));
	}
	w->managed = base;
	managed_fields_update(&w->arena, &mw, live, object, base, &w->managed, NULL);
}

/* Nothing but times of managers would change. */
bool managed_unchanged(struct write *w)
{
	return managed_fields_same(&w->arena, w->managed_old, w->managed);
}

/* ---- apply ---- */

/* The decoder's words, as they are when a config is first turned into JSON and that read as an object of anything. */
static int refuse_config(const char *why, struct err *err)
{
	static const char cannot[] = "json: cannot unmarshal ", into[] = " into Go value of type ";
	const char *at = strstr(why, cannot), *type = at ? strstr(at, into) : NULL;

	if (type)
		return api_err_bad_request(err,
					   "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
					   "%.*s%smap[string]interface {}",
					   (int)(type - at), at, into);
	return api_err_bad_request(err, "error decoding YAML: %s%s",
				   strncmp(why, "yaml: ", 6) ? "" : "error converting YAML to JSON: ", why);
}

/* Keys that stand twice, after all else that a config can be refused for. */
static int refuse_duplicates(struct write *w, struct err *err)
{
	_cleanup_buf_ struct buf lines = BUF_INIT;

	if (w->validation != DECODE_STRICT || !w->found || !w->found->n || !w->found->yaml)
		return 0;
	for (size_t i = 0; i < w->found->n; i++)
		buf_printf(&lines, "\n  %.*s", STR_ARG(w->found->items[i]));
	return api_err_bad_request(
		err, "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:%s",
		buf_cstr(&lines));
}

int apply_config(struct write *w, const struct request *rq, struct json **ret, struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT;
	int r;

	if (rq->tree) {
		*ret = json_clone_deep(&w->arena, rq->tree);
		return 0;
	}
	r = decode_parse(&w->arena, NULL, rq->body, DECODE_YAML, w->validation, write_findings(w), ret, &why);
	if (r < 0 && why.status != 413)
		return refuse_config(err_message(&why), err);
	if (r < 0)
		err_move(err, &why);
	return r;
}

/* The object that the config makes of the old one (NULL: of nothing), decoded, in w->object. */
int apply_change(struct write *w, void *arg, struct err *err)
{
	const struct request *rq = arg;
	struct managed_write mw = write_of(w);
	struct json *config = NULL, *live = NULL, *object = NULL, *managed = NULL;
	int r = apply_config(w, rq, &config, err);

	if (r < 0)
		return r;
	if (w->old)
		live = convert_from_storage(&w->arena, w->kind, json_clone(&w->arena, w->old));
	r = managed_fields_apply(&w->arena, &mw, live, config, w->managed_old, rq->force, &object, &managed, err);
	if (r >= 0)
		r = refuse_duplicates(w, err);
	if (r >= 0)
		r = write_decode(w, object, err);
	if (r < 0)
		return r;
	w->managed = managed;
	w->managed_done = true;
	return 0;
}

static int create_by_apply(struct write *w, const struct request *rq, struct err *err)
{
	static const char *const wiped[] = { "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
					     "selfLink", "resourceVersion" };
	int r = apply_change(w, (void *)(uintptr_t)rq, err);
	struct json *meta;
	struct str uid;

	if (r < 0)
		return r;
	meta = meta_ensure(&w->arena, w->object);
	uid = meta_uid(w->object);
	if (uid.n > 0) {
		const char *why = arena_printf(&w->arena,
					       "uid mismatch: the provided object specified uid %.*s, and no existing "
					       "object was found",
					       STR_ARG(uid));

		return api_err_conflict(err, w->kind, w->name, why);
	}
	r = write_check_body_name(w, meta_name(w->object), err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(wiped); i++)
		json_remove(meta, wiped[i]);
	return authz_check_create(w, err);
}

void apply_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_UPDATE, rq->kind, rq->subresource, rq->ns, rq->name);
	_cleanup_err_ struct err err = ERR_INIT;

	write_set_request(w, rq, done, arg);
	if (w->subresource || store_newest(reg->store, w->storage->resource, w->ns, w->name)) {
		write_run_update(w, apply_change, (void *)(uintptr_t)rq);
		return;
	}
	w->op = WRITE_CREATE;
	w->http_status = 201;
	if (authz_check_create(w, &err) < 0 || create_by_apply(w, rq, &err) < 0)
		write_fail(w, &err);
	else
		write_run_create(w);
}

/* ---- scale ---- */

int managed_scale(struct write *w, const struct request *rq, bool changed, struct err *err)
{
	struct managed_write mw = write_of(w);
	int r;

	w->managed_done = true;
	if (!w->managed_old && rq->patch != REQUEST_PATCH_APPLY)
		return 0;
	r = managed_fields_scale(&w->arena, &mw, changed, rq->patch == REQUEST_PATCH_APPLY, rq->force, w->managed_old,
				 &w->managed, err);
	return r;
}
