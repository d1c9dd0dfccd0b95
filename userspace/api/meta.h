/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and changing the metadata of an object's tree, and the Status objects and errors that
 * clients of Kubernetes know, in upstream's words. Strings read are borrowed from the tree. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* ---- the header of an object ---- */

/* Same layout as the store's struct object_label: an array of one may be read as the other. */
struct api_label {
	struct str key, value;
};

/* Same layout as the store's struct object_owner. */
struct api_owner {
	struct str api_version, kind, name, uid;
	bool controller, block_owner_deletion;
};

#define API_HEADER_FIELDS_MAX 11 /* the store keeps no more: OBJECT_FIELDS_MAX */

struct api_header {
	struct str ns, name, uid;
	int64_t revision; /* metadata.resourceVersion; 0: absent or not a number */
	int64_t generation;
	int64_t created_real_ns;  /* 0: absent */
	int64_t deleted_real_ns;  /* 0: not being deleted */
	int64_t deletion_grace_s; /* -1: absent */
	bool deleting;
	bool has_finalizers;
	struct api_label *labels; /* arena, in the order of the object */
	size_t n_labels;
	struct api_owner *owners; /* arena */
	size_t n_owners;
	struct str fields[API_HEADER_FIELDS_MAX]; /* values of kind->selectable, in its order */
	size_t n_fields;
};

/* `object` was decoded; wrong types read as absent. */
void meta_header(struct arena *arena, const struct api_kind *kind, const struct json *object, struct api_header *ret);
/* The text that a field selector compares: strings as they are, numbers and booleans as written, absent ones as
 * the zero of the schema's type ("", "0", "false"). May allocate in the arena. */
struct str meta_field_text(struct arena *arena, const struct api_kind *kind, const struct json *object,
			   const char *dotted_path);

/* ---- looking (NULL and wrong types: empty) ---- */

struct json *meta_of(const struct json *object); /* metadata, or NULL */
struct str meta_name(const struct json *object);
struct str meta_namespace(const struct json *object);
struct str meta_uid(const struct json *object);
struct str meta_resource_version(const struct json *object);
int64_t meta_generation(const struct json *object);
int64_t meta_next_generation(const struct json *object); /* wraps, as Go's int64 does */
bool meta_deleting(const struct json *object);
struct str meta_label(const struct json *object, const char *key);
struct str meta_annotation(const struct json *object, const char *key);
bool meta_has_annotation(const struct json *object, const char *key);
/* Times: 0 when absent or bad. */
int64_t meta_created_ns(const struct json *object);
int64_t meta_time_ns(const struct json *value);
struct str meta_kind(const struct json *object);
struct str meta_api_version(const struct json *object);

/* ---- changing ---- (strings are borrowed: literals or arena memory) */

struct json *meta_ensure(struct arena *arena, struct json *object); /* metadata, made when absent */
void meta_set_label(struct arena *arena, struct json *object, const char *key, struct str value);
void meta_set_annotation(struct arena *arena, struct json *object, const char *key, struct str value);
void meta_set_time(struct arena *arena, struct json *object, const char *key, int64_t real_ns);

bool meta_has_finalizer(const struct json *object, struct str finalizer);
/* True when something changed. An emptied list is removed. */
bool meta_add_finalizer(struct arena *arena, struct json *object, struct str finalizer);
bool meta_remove_finalizer(struct json *object, struct str finalizer);

/* The owner reference with controller=true, or NULL. */
struct json *meta_controller(const struct json *object);
struct json *meta_owner(const struct json *object, struct str uid); /* by uid, NULL */
bool meta_owned_by(const struct json *object, struct str uid);
/* Adds or replaces (by uid). */
void meta_set_owner(struct arena *arena, struct json *object, const struct api_owner *owner);
bool meta_remove_owner(struct json *object, struct str uid);

/* ---- conditions: [{type, status, reason, message, lastTransitionTime}] ---- */

struct json *meta_condition(const struct json *conditions, const char *type); /* NULL when absent */
bool meta_condition_is(const struct json *conditions, const char *type, const char *status);

/* ---- PartialObjectMetadata ---- */

/* meta.k8s.io/v1, or v1beta1 where that is asked for. */
const char *meta_partial_api_version(bool v1beta1);
void meta_write_partial(struct buf *out, bool v1beta1, const struct json *object);

/* metadata of any list envelope; empty strings and -1 are left out (resourceVersion is always there). */
struct meta_list {
	struct str resource_version, continue_token;
	int64_t remaining; /* remainingItemCount, -1: none */
};
void meta_write_list_meta(struct buf *out, const struct meta_list *list); /* {"resourceVersion":...} */
/* {"kind":"PartialObjectMetadataList",...,"items":[  then items by meta_write_partial with commas, then "]}" */
void meta_write_partial_list_begin(struct buf *out, bool v1beta1, const struct meta_list *list);

/* ---- Status ---- */

/* metav1.Status of a failure; code 500, reason from the status when unknown. */
void api_status_write(struct buf *out, const struct err *err);
struct str api_status_json(struct arena *arena, const struct err *err);
/* metav1.Status of a success (DELETE): details name, group, kind (plural), uid; empty ones are left out. */
void api_status_write_success(struct buf *out, const struct api_kind *kind, struct str name, struct str uid);
/* The HTTP status of an err (its own, or from its errno). */
int api_err_status(const struct err *err);

/* "pods", "deployments.apps"; static memory is not used: the text goes to `ret`. Returns its length. */
#define API_RESOURCE_NAME_MAX 320
size_t api_resource_name(const struct api_kind *kind, char ret[static API_RESOURCE_NAME_MAX]);

/* Each sets message, status, reason and details and returns its errno. */
/* 404 NotFound `deployments.apps "x" not found` (-ENOENT) */
int api_err_not_found(struct err *err, const struct api_kind *kind, struct str name);
/* 404 NotFound `the server could not find the requested resource` (unknown paths) */
int api_err_no_resource(struct err *err);
/* 409 AlreadyExists `pods "x" already exists` (-EEXIST) */
int api_err_already_exists(struct err *err, const struct api_kind *kind, struct str name);
/* 409 Conflict `Operation cannot be fulfilled on pods "x": <why>` (-EAGAIN); why "" gives upstream's
 * `the object has been modified; please apply your changes to the latest version and try again` */
int api_err_conflict(struct err *err, const struct api_kind *kind, struct str name, const char *why);
/* 409 Conflict: an update that was meant for an object with another uid; `ns` is empty for kinds without. */
int api_err_precondition(struct err *err, const struct api_kind *kind, struct str ns, struct str name,
			 struct str wanted, struct str found);
/* 403 Forbidden `pods "x" is forbidden: <why>` (-EACCES); name may be empty */
int api_err_forbidden(struct err *err, const struct api_kind *kind, struct str name, const char *why, ...)
	__attribute__((format(printf, 4, 5)));
/* 401 Unauthorized (-EPERM) */
int api_err_unauthorized(struct err *err);
/* 400 BadRequest (-EINVAL) */
int api_err_bad_request(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 422 Invalid `Deployment.apps "x" is invalid: <why>` (-EINVAL), no causes; see field_errors_result() for those */
int api_err_invalid(struct err *err, const struct api_kind *kind, struct str name, const char *why, ...)
	__attribute__((format(printf, 4, 5)));
/* 405 MethodNotAllowed `the server does not allow this method on the requested resource` (-EOPNOTSUPP) */
int api_err_method_not_supported(struct err *err);
/* 405 MethodNotAllowed `delete is not supported on resources of kind "pods"` */
int api_err_verb_not_supported(struct err *err, const struct api_kind *kind, const char *verb);
/* 415 UnsupportedMediaType `the body of the request was in an unknown format - accepted media types include: a, b` */
int api_err_unsupported_media_type(struct err *err, const char *accepted);
/* 406 NotAcceptable `only the following media types are accepted: a, b` */
int api_err_not_acceptable(struct err *err, const char *accepted);
/* 410 Expired (-ESTALE): message as given, e.g. `too old resource version: 3 (17)` */
int api_err_expired(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 410 Expired of a continue token */
int api_err_continue_expired(struct err *err);
/* 410 Gone */
int api_err_gone(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 413 RequestEntityTooLarge (-E2BIG) */
int api_err_too_large(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 429 TooManyRequests (-EBUSY); retry_after_s 0: none */
int api_err_too_many_requests(struct err *err, int retry_after_s, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* 500 InternalError `Internal error occurred: ...` (-EIO) */
int api_err_internal(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 504 Timeout `Timeout: ...` (-ETIMEDOUT) */
int api_err_timeout(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 503 ServiceUnavailable (-EAGAIN) */
int api_err_unavailable(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 507 or the disk's refusal as 500: `etcdserver`-free words, reason InternalError (-ENOSPC) */
int api_err_no_space(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
