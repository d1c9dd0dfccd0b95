/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that a person or a client sees. A function that can explain itself takes
 * `struct err *err` last (NULL is allowed everywhere) and returns the negative errno;
 * success leaves it alone. Any thread; one err is used by one thread at a time. */
#pragma once

#include <stddef.h>

#include "userspace/base/mem.h"

#define ERR_CAUSES_MAX 64

/* One field error, as in metav1.StatusCause. All heap, may be NULL. */
struct err_cause {
	char *reason; /* FieldValueRequired, FieldValueInvalid, ... */
	char *message;
	char *field;
};

struct err {
	int code;           /* negative errno; 0: no error */
	int status;         /* HTTP status for clients; 0: not yet decided (500) */
	const char *reason; /* metav1.StatusReason, a static string; NULL: unknown */
	char *message;
	/* metav1.StatusDetails; may be NULL */
	char *details_group;
	char *details_kind;
	char *details_name;
	char *details_uid;
	char *list_continue; /* metav1.ListMeta: where an expired list may go on */
	struct err_cause *causes;
	size_t n_causes;
	int retry_after_s;
};

#define ERR_INIT ((struct err){ 0 })

void err_finish(struct err *err);
#define _cleanup_err_ _cleanup_(err_finish)

/* Set (replacing what was there) and return `code`. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_set_status(struct err *err, int code, int http_status, const char *reason, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Put "context: " before the message that is there; returns err->code (or `code` when err is NULL). */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Append a cause; dropped silently past ERR_CAUSES_MAX. Does not set the code. */
void err_add_cause(struct err *err, const char *reason, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void err_set_details(struct err *err, const char *group, const char *kind, const char *name);
/* Moves `from` into `to` (both may be NULL); `from` is empty afterwards. */
void err_move(struct err *to, struct err *from);
void err_copy(struct err *to, const struct err *from);
/* The message, or strerror of the code. Never NULL. */
const char *err_message(const struct err *err);
