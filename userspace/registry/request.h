/* SPDX-License-Identifier: Apache-2.0 */
/* The registry as the API server drives it: one request for each verb on a kind or subresource, with
 * everything a client may say about it. In-process callers use registry.h, which goes the same way.
 *
 * A request and all it points to is borrowed for the call only; the callback runs exactly once,
 * possibly before the call returns (refusals, reads, dry runs), else after the change is durable and
 * watchers were told. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "datastore/store.h"
#include "userspace/api/decode.h"
#include "userspace/api/kind.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/registry/registry.h"

#define REQUEST_LIST_LIMIT_MAX 1000000 /* a larger limit is taken as this */
#define REQUEST_CONTINUE_MAX 2048      /* bytes of a continue token */
#define REQUEST_SELECTOR_MAX 65536     /* bytes of a selector */
#define REQUEST_FIELD_MANAGER_MAX 128

struct request_extra {
	struct str key;
	const struct str *values;
	size_t n_values;
};

struct request_user {
	struct str name, uid;
	const struct str *groups;
	size_t n_groups;
	const struct request_extra *extra; /* what the authenticator or the impersonator says besides */
	size_t n_extra;
	/* Of a bound service account token; empty otherwise. */
	struct str pod_name, pod_uid, node_name;
};

enum request_patch {
	REQUEST_PATCH_NONE,
	REQUEST_PATCH_JSON,      /* application/json-patch+json */
	REQUEST_PATCH_MERGE,     /* application/merge-patch+json */
	REQUEST_PATCH_STRATEGIC, /* application/strategic-merge-patch+json */
	REQUEST_PATCH_APPLY,     /* application/apply-patch+yaml (+cbor is a 415, as upstream by default) */
};

struct request {
	enum api_verb verb;              /* get, list, create, update, patch, delete, deletecollection; watch: below */
	const struct api_kind *kind;     /* as addressed (autoscaling/v1, not its storage form) */
	const char *subresource;         /* NULL: the object itself */
	struct str ns, name;             /* name empty: create, list, deletecollection */
	const struct request_user *user; /* NULL: the node itself */

	/* Body: object, patch, DeleteOptions, subresource's body. Either text or an already parsed tree in `arena`. */
	struct str body;
	enum decode_media media;
	struct json *tree;
	struct arena *arena; /* of the tree; may be NULL with text */
	enum request_patch patch;

	/* Query parameters, as sent. */
	bool dry_run;
	bool force;
	struct str field_manager; /* as asked; empty: user_agent up to its first "/" */
	struct str user_agent;
	enum decode_field_validation field_validation;
	struct str label_selector, field_selector;
	int64_t limit; /* 0: all */
	struct str continue_token;
	struct str resource_version;       /* empty: not given */
	struct str resource_version_match; /* "", "Exact", "NotOlderThan" */

	/* Deletion by query parameters; the body's DeleteOptions win. */
	bool has_grace_period;
	int64_t grace_period_s;
	struct str propagation_policy;
	bool has_orphan_dependents, orphan_dependents;
};

struct request_annotation {
	struct str key, value;
};

/* Borrowed for the callback. */
struct request_result {
	int http_status; /* 200, 201 */
	/* One of: an object in storage form (registry_render() gives the asked version's bytes), */
	const struct object *object;
	/* or a complete JSON body (Status, Scale, TokenRequest, the list of deletecollection), */
	struct str body;
	/* or a list. */
	const struct object *const *items;
	size_t n_items;
	int64_t list_revision;
	struct str list_continue; /* empty: the end */
	int64_t list_remaining;   /* -1: not known (selectors, or the end) */
	/* For the Warning headers: texts without the code. */
	const struct str *warnings;
	size_t n_warnings;
	/* What admission wants to stand in the audit event. */
	const struct request_annotation *annotations;
	size_t n_annotations;
};

/* err NULL: it is done. On a refusal err->status, reason and details are complete, and the result is NULL or carries
 * warnings and annotations alone. */
typedef void request_done_fn(void *arg, const struct request_result *result, const struct err *err);

void request_run(struct registry *reg, const struct request *request, request_done_fn *done, void *arg);

/* The object's bytes in the form of `kind` (the asked group and version). Points into the object when that is
 * the stored form, else into the arena. */
struct str registry_render(struct arena *arena, const struct api_kind *kind, const struct object *o);

/* ---- watch over the wire ---- */

struct registry_stream;

enum registry_stream_event {
	REGISTRY_STREAM_ADDED,
	REGISTRY_STREAM_MODIFIED,
	REGISTRY_STREAM_DELETED,
	/* All that existed was sent (sendInitialEvents): send the bookmark with the annotation
	 * k8s.io/initial-events-end. `o` is NULL. */
	REGISTRY_STREAM_INITIAL_END
};

/* `type` is what this watcher must be told (an object that leaves its selection is DELETED, one that enters it is
 * ADDED). `e`: NULL for what existed before; else use e->wire[type] for the bytes all watchers of the *stored* form
 * share. For DELETED by selection `o` is the state before, under the event's revision, as upstream sends it; it
 * lives during the call only. */
typedef void registry_stream_fn(void *arg, enum registry_stream_event type, const struct object *o,
				struct store_event *e);

struct registry_stream_options {
	const struct api_kind *kind;
	struct str ns, name; /* name: as fieldSelector metadata.name */
	struct str label_selector, field_selector;
	struct str resource_version; /* "" and "0": what exists as ADDED, then live */
	struct str resource_version_match;
	bool has_send_initial_events, send_initial_events;
	bool allow_bookmarks;
};

/* Initial events and history are delivered during the call. 410 Expired, 400 BadRequest, 422 Invalid. */
int registry_stream_start(struct registry *reg, const struct registry_stream_options *options, registry_stream_fn *fn,
			  void *arg, struct registry_stream **ret, struct err *err);
void registry_stream_stop(struct registry_stream *stream); /* takes NULL; may be called from fn */
/* What a bookmark may promise now. */
int64_t registry_stream_revision(const struct registry_stream *stream);

/* ---- wired by the API server ---- */

/* serviceaccounts/token: answers by done (with a complete TokenRequest body). Not wired: 404. */
struct registry_token_request {
	const struct object *service_account;
	struct json *token_request; /* decoded and defaulted; the issuer completes it */
	struct arena *arena;
};
typedef int registry_token_fn(void *arg, const struct registry_token_request *request, struct str *ret_token,
			      int64_t *ret_expires_real_ns, struct err *err);
void registry_set_token_issuer(struct registry *reg, registry_token_fn *fn, void *arg);
