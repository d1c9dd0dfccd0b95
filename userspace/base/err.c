/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with context. See err.h. */
#include "userspace/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "userspace/base/mem.h"

static char *err_vprintf(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		s = mem_strdup(fmt);
	return s;
}

void err_finish(struct err *err)
{
	if (!err)
		return;
	free(err->message);
	free(err->details_group);
	free(err->details_kind);
	free(err->details_name);
	free(err->details_uid);
	free(err->list_continue);
	for (size_t i = 0; i < err->n_causes; i++) {
		free(err->causes[i].reason);
		free(err->causes[i].message);
		free(err->causes[i].field);
	}
	free(err->causes);
	*err = ERR_INIT;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	char *message;

	if (!err)
		return code;
	va_start(ap, fmt);
	message = err_vprintf(fmt, ap);
	va_end(ap);
	err_finish(err);
	err->code = code;
	err->message = message;
	return code;
}

int err_set_status(struct err *err, int code, int http_status, const char *reason, const char *fmt, ...)
{
	va_list ap;
	char *message;

	if (!err)
		return code;
	va_start(ap, fmt);
	message = err_vprintf(fmt, ap);
	va_end(ap);
	err_finish(err);
	err->code = code;
	err->status = http_status;
	err->reason = reason;
	err->message = message;
	return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	char *context, *message;

	if (!err)
		return code;
	va_start(ap, fmt);
	context = err_vprintf(fmt, ap);
	va_end(ap);
	if (!err->code)
		err->code = code;
	message = mem_printf("%s: %s", context, err_message(err));
	free(context);
	free(err->message);
	err->message = message;
	return err->code;
}

void err_add_cause(struct err *err, const char *reason, const char *field, const char *fmt, ...)
{
	struct err_cause *cause;
	va_list ap;

	if (!err || err->n_causes >= ERR_CAUSES_MAX)
		return;
	/* Grown by powers of two: the capacity follows from the count. */
	if ((err->n_causes & (err->n_causes - 1)) == 0)
		err->causes = mem_realloc(err->causes, (err->n_causes ? err->n_causes * 2 : 1) * sizeof(*cause));
	cause = &err->causes[err->n_causes++];
	cause->reason = reason ? mem_strdup(reason) : NULL;
	cause->field = field ? mem_strdup(field) : NULL;
	va_start(ap, fmt);
	cause->message = err_vprintf(fmt, ap);
	va_end(ap);
}

static void err_replace(char **at, const char *value)
{
	free(*at);
	*at = value ? mem_strdup(value) : NULL;
}

void err_set_details(struct err *err, const char *group, const char *kind, const char *name)
{
	if (!err)
		return;
	err_replace(&err->details_group, group);
	err_replace(&err->details_kind, kind);
	err_replace(&err->details_name, name);
}

void err_move(struct err *to, struct err *from)
{
	if (!from || to == from)
		return;
	if (to) {
		err_finish(to);
		*to = *from;
		*from = ERR_INIT;
	} else {
		err_finish(from);
	}
}

void err_copy(struct err *to, const struct err *from)
{
	if (!to || !from || to == from)
		return;
	err_finish(to);
	to->code = from->code;
	to->status = from->status;
	to->reason = from->reason;
	to->retry_after_s = from->retry_after_s;
	to->message = from->message ? mem_strdup(from->message) : NULL;
	err_set_details(to, from->details_group, from->details_kind, from->details_name);
	err_replace(&to->details_uid, from->details_uid);
	err_replace(&to->list_continue, from->list_continue);
	for (size_t i = 0; i < from->n_causes; i++)
		err_add_cause(to, from->causes[i].reason, from->causes[i].field, "%s", from->causes[i].message);
}

const char *err_message(const struct err *err)
{
	if (!err)
		return "unknown error";
	if (err->message)
		return err->message;
	return strerror(err->code < 0 ? -err->code : err->code);
}
