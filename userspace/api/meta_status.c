/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as clients of Kubernetes know them: constructors with upstream's messages, reasons and HTTP
 * status, and metav1.Status as JSON. No state. Any thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

/* ---- writing ---- */

static const struct {
	int code, status;
} status_of_errno[] = {
	{ -ENOENT, 404 },    { -EEXIST, 409 }, { -EAGAIN, 409 },     { -EACCES, 403 },
	{ -EPERM, 403 },     { -EINVAL, 400 }, { -EOPNOTSUPP, 405 }, { -ESTALE, 410 },
	{ -ETIMEDOUT, 504 }, { -E2BIG, 413 },  { -EBUSY, 429 },
};

int api_err_status(const struct err *err)
{
	if (err->status)
		return err->status;
	for (size_t i = 0; i < ARRAY_SIZE(status_of_errno); i++)
		if (status_of_errno[i].code == err->code)
			return status_of_errno[i].status;
	return 500;
}

static const char *reason_of_status(int status)
{
	switch (status) {
	case 400:
		return "BadRequest";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "NotFound";
	case 405:
		return "MethodNotAllowed";
	case 406:
		return "NotAcceptable";
	case 409:
		return "Conflict";
	case 410:
		return "Expired";
	case 413:
		return "RequestEntityTooLarge";
	case 415:
		return "UnsupportedMediaType";
	case 422:
		return "Invalid";
	case 429:
		return "TooManyRequests";
	case 503:
		return "ServiceUnavailable";
	case 504:
		return "Timeout";
	default:
		return "InternalError";
	}
}

static void member(struct buf *out, bool *first, const char *key, const char *value)
{
	if (!value || !*value)
		return;
	buf_printf(out, "%s\"%s\":", *first ? "" : ",", key);
	json_write_str(out, str_of(value));
	*first = false;
}

static void write_causes(struct buf *out, bool *first, const struct err *err)
{
	if (!err->n_causes)
		return;
	buf_printf(out, "%s\"causes\":[", *first ? "" : ",");
	*first = false;
	for (size_t i = 0; i < err->n_causes; i++) {
		bool none = true;

		buf_add_cstr(out, i ? ",{" : "{");
		member(out, &none, "reason", err->causes[i].reason);
		member(out, &none, "message", err->causes[i].message);
		member(out, &none, "field", err->causes[i].field);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

static void write_details(struct buf *out, const struct err *err)
{
	bool first = true;

	if (!err->details_name && !err->details_group && !err->details_kind && !err->details_uid && !err->n_causes &&
	    !err->retry_after_s)
		return;
	buf_add_cstr(out, ",\"details\":{");
	member(out, &first, "name", err->details_name);
	member(out, &first, "group", err->details_group);
	member(out, &first, "kind", err->details_kind);
	member(out, &first, "uid", err->details_uid);
	write_causes(out, &first, err);
	if (err->retry_after_s)
		buf_printf(out, "%s\"retryAfterSeconds\":%d", first ? "" : ",", err->retry_after_s);
	buf_add_char(out, '}');
}

void api_status_write(struct buf *out, const struct err *err)
{
	int status = api_err_status(err);
	const char *reason = err->reason ? err->reason : reason_of_status(status);

	buf_add_cstr(out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{");
	if (err->list_continue) {
		buf_add_cstr(out, "\"continue\":");
		json_write_str(out, str_of(err->list_continue));
	}
	buf_add_cstr(out, "},\"status\":\"Failure\",\"message\":");
	json_write_str(out, str_of(err_message(err)));
	if (*reason) { /* errors that upstream never expected have none */
		buf_add_cstr(out, ",\"reason\":");
		json_write_str(out, str_of(reason));
	}
	write_details(out, err);
	buf_printf(out, ",\"code\":%d}", status);
}

struct str api_status_json(struct arena *arena, const struct err *err)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	api_status_write(&out, err);
	return arena_str(arena, buf_str(&out));
}

void api_status_write_success(struct buf *out, const struct api_kind *kind, struct str name, struct str uid)
{
	bool first = true;

	buf_add_cstr(out,
		     "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"details\":{");
	if (name.n) {
		buf_add_cstr(out, "\"name\":");
		json_write_str(out, name);
		first = false;
	}
	if (kind) {
		member(out, &first, "group", kind->group);
		member(out, &first, "kind", kind->plural);
	}
	if (uid.n) {
		buf_printf(out, "%s\"uid\":", first ? "" : ",");
		json_write_str(out, uid);
	}
	buf_add_cstr(out, "}}");
}

/* ---- making ---- */

size_t api_resource_name(const struct api_kind *kind, char ret[static API_RESOURCE_NAME_MAX])
{
	int n = snprintf(ret, API_RESOURCE_NAME_MAX, "%s%s%s", kind->plural, *kind->group ? "." : "", kind->group);

	return n < API_RESOURCE_NAME_MAX ? (size_t)n : API_RESOURCE_NAME_MAX - 1;
}

static int set_about(struct err *err, int code, int status, const char *reason, const struct api_kind *kind,
		     struct str name, const char *message)
{
	_cleanup_free_ char *n = str_dup(name);

	err_set_status(err, code, status, reason, "%s", message);
	err_set_details(err, kind->group, kind->plural, n);
	return code;
}

int api_err_not_found(struct err *err, const struct api_kind *kind, struct str name)
{
	char resource[API_RESOURCE_NAME_MAX];
	_cleanup_free_ char *message = NULL;

	api_resource_name(kind, resource);
	message = mem_printf("%s \"%.*s\" not found", resource, STR_ARG(name));
	return set_about(err, -ENOENT, 404, "NotFound", kind, name, message);
}

int api_err_no_resource(struct err *err)
{
	return err_set_status(err, -ENOENT, 404, "NotFound", "the server could not find the requested resource");
}

int api_err_already_exists(struct err *err, const struct api_kind *kind, struct str name)
{
	char resource[API_RESOURCE_NAME_MAX];
	_cleanup_free_ char *message = NULL;

	api_resource_name(kind, resource);
	message = mem_printf("%s \"%.*s\" already exists", resource, STR_ARG(name));
	return set_about(err, -EEXIST, 409, "AlreadyExists", kind, name, message);
}

int api_err_conflict(struct err *err, const struct api_kind *kind, struct str name, const char *why)
{
	char resource[API_RESOURCE_NAME_MAX];
	_cleanup_free_ char *message = NULL;

	if (!why || !*why)
		why = "the object has been modified; please apply your changes to the latest version and try again";
	api_resource_name(kind, resource);
	message = mem_printf("Operation cannot be fulfilled on %s \"%.*s\": %s", resource, STR_ARG(name), why);
	return set_about(err, -EAGAIN, 409, "Conflict", kind, name, message);
}

/* Where upstream keeps a kind: the plural, but for some that had another name once, or a store of their own. */
static const char *storage_prefix(const struct api_kind *kind)
{
	static const struct {
		const char *group, *plural, *prefix;
	} others[] = {
		{ "", "nodes", "minions" },
		{ "", "services", "services/specs" },
		{ "", "endpoints", "services/endpoints" },
		{ "", "replicationcontrollers", "controllers" },
		{ "networking.k8s.io", "ingresses", "ingress" },
		{ "apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!strcmp(kind->plural, others[i].plural) && !strcmp(kind->group, others[i].group))
			return others[i].prefix;
	return kind->plural;
}

int api_err_precondition(struct err *err, const struct api_kind *kind, struct str ns, struct str name,
			 struct str wanted, struct str found)
{
	_cleanup_free_ char *why = mem_printf(
		"StorageError: invalid object, Code: 4, Key: /registry/%s/%.*s%s%.*s, ResourceVersion: 0, "
		"AdditionalErrorMsg: Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s",
		storage_prefix(kind), STR_ARG(ns), ns.n ? "/" : "", STR_ARG(name), STR_ARG(wanted), STR_ARG(found));

	return api_err_conflict(err, kind, name, why);
}

static char *vformat(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static char *vformat(const char *fmt, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	return text;
}

int api_err_forbidden(struct err *err, const struct api_kind *kind, struct str name, const char *why, ...)
{
	char resource[API_RESOURCE_NAME_MAX];
	_cleanup_free_ char *message = NULL, *detail = NULL;
	va_list ap;

	va_start(ap, why);
	detail = vformat(why, ap);
	va_end(ap);
	api_resource_name(kind, resource);
	if (name.n)
		message = mem_printf("%s \"%.*s\" is forbidden: %s", resource, STR_ARG(name), detail);
	else
		message = mem_printf("%s is forbidden: %s", resource, detail);
	return set_about(err, -EACCES, 403, "Forbidden", kind, name, message);
}

int api_err_invalid(struct err *err, const struct api_kind *kind, struct str name, const char *why, ...)
{
	_cleanup_free_ char *detail = NULL, *n = str_dup(name);
	va_list ap;

	va_start(ap, why);
	detail = vformat(why, ap);
	va_end(ap);
	err_set_status(err, -EINVAL, 422, "Invalid", "%s%s%s \"%s\" is invalid: %s", kind->kind,
		       *kind->group ? "." : "", kind->group, n, detail);
	err_set_details(err, kind->group, kind->kind, n);
	return -EINVAL;
}

int api_err_unauthorized(struct err *err)
{
	return err_set_status(err, -EPERM, 401, "Unauthorized", "Unauthorized");
}

int api_err_method_not_supported(struct err *err)
{
	return err_set_status(err, -EOPNOTSUPP, 405, "MethodNotAllowed",
			      "the server does not allow this method on the requested resource");
}

int api_err_verb_not_supported(struct err *err, const struct api_kind *kind, const char *verb)
{
	char resource[API_RESOURCE_NAME_MAX];

	api_resource_name(kind, resource);
	err_set_status(err, -EOPNOTSUPP, 405, "MethodNotAllowed", "%s is not supported on resources of kind \"%s\"",
		       verb, resource);
	err_set_details(err, kind->group, kind->plural, NULL);
	return -EOPNOTSUPP;
}

int api_err_unsupported_media_type(struct err *err, const char *accepted)
{
	return err_set_status(err, -EINVAL, 415, "UnsupportedMediaType",
			      "the body of the request was in an unknown format - accepted media types include: %s",
			      accepted);
}

int api_err_not_acceptable(struct err *err, const char *accepted)
{
	return err_set_status(err, -EINVAL, 406, "NotAcceptable", "only the following media types are accepted: %s",
			      accepted);
}

int api_err_continue_expired(struct err *err)
{
	return err_set_status(
		err, -ESTALE, 410, "Expired",
		"The provided continue parameter is too old to display a consistent list result. You can start a new "
		"list without the continue parameter, or use the continue token in this response to retrieve the "
		"remainder of the results. Continuing with the provided token results in an inconsistent list - "
		"objects that were created, modified, or deleted between the time the first chunk was returned and "
		"now may show up in the list.");
}

/* The constructors that are a status, a reason and a message of the caller's. */
#define ERR_OF(name_, code_, status_, reason_, prefix_)                                                                \
	int name_(struct err *err, const char *fmt, ...)                                                               \
	{                                                                                                              \
		_cleanup_free_ char *message = NULL;                                                                   \
		va_list ap;                                                                                            \
                                                                                                                       \
		va_start(ap, fmt);                                                                                     \
		message = vformat(fmt, ap);                                                                            \
		va_end(ap);                                                                                            \
		return err_set_status(err, code_, status_, reason_, "%s%s", prefix_, message);                         \
	}

ERR_OF(api_err_bad_request, -EINVAL, 400, "BadRequest", "")
ERR_OF(api_err_expired, -ESTALE, 410, "Expired", "")
ERR_OF(api_err_gone, -ESTALE, 410, "Gone", "")
ERR_OF(api_err_too_large, -E2BIG, 413, "RequestEntityTooLarge", "")
ERR_OF(api_err_internal, -EIO, 500, "InternalError", "Internal error occurred: ")
ERR_OF(api_err_timeout, -ETIMEDOUT, 504, "Timeout", "Timeout: ")
ERR_OF(api_err_unavailable, -EAGAIN, 503, "ServiceUnavailable", "")
ERR_OF(api_err_no_space, -ENOSPC, 500, "InternalError", "Internal error occurred: ")

int api_err_too_many_requests(struct err *err, int retry_after_s, const char *fmt, ...)
{
	_cleanup_free_ char *message = NULL;
	va_list ap;

	va_start(ap, fmt);
	message = vformat(fmt, ap);
	va_end(ap);
	err_set_status(err, -EBUSY, 429, "TooManyRequests", "%s", message);
	if (err)
		err->retry_after_s = retry_after_s;
	return -EBUSY;
}
