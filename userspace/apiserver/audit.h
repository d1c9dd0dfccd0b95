/* SPDX-License-Identifier: Apache-2.0 */
/* Who asked what, when, and what came of it: audit.k8s.io/v1 Events of the requests that the policy selects. An event
 * lives in its request's arena; NULL stands for "not recorded" everywhere, so that callers need not ask. Loop
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/decode.h"
#include "userspace/apiserver/audit_log.h"
#include "userspace/apiserver/audit_policy.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"
#include "userspace/registry/request.h"

#define AUDIT_ANNOTATIONS_MAX 24
#define AUDIT_ID_MAX 64           /* of a client's Audit-ID; longer ones are replaced */
#define AUDIT_USER_AGENT_MAX 1024 /* then it is cut, and says so */
#define AUDIT_SOURCES_MAX 16
#define AUDIT_OBJECT_BYTES_MAX (1024 * 1024) /* larger request and response objects are left out */

struct audit;
struct audit_event;
struct call;

struct audit_options {
	const char *policy_path; /* NULL or empty: nothing is recorded */
	struct audit_log_options log;
};

/* *ret is NULL when nothing is to be recorded. */
int audit_create(const struct audit_options *options, struct audit **ret, struct err *err);
void audit_destroy(struct audit *audit);
/* The figures in Prometheus' text form; takes NULL: nothing is recorded. */
void audit_write_metrics(struct audit *audit, struct buf *out);

/* After authentication (`authenticated` false: it failed), before anything else is decided. Sets the Audit-ID header
 * of the answer. */
struct audit_event *audit_begin(struct audit *audit, const struct call *call, bool authenticated);
/* Authorization spoke; `call` with the user it spoke about. */
void audit_authorized(struct audit_event *e, const struct call *call, bool allowed);
/* key and value: static, or memory of the request. The first of a key stays. */
void audit_annotate(struct audit_event *e, const char *key, struct str value);
/* What admission said about it. */
void audit_annotate_all(struct audit_event *e, const struct request_result *result);
/* The body of the request, as it came. */
void audit_request(struct audit_event *e, const struct call *call, enum decode_media media, bool patch);
void audit_error(struct audit_event *e, const struct err *err);
void audit_result(struct audit_event *e, const struct call *call, const struct request_result *result);
/* The headers of a long answer are out. */
void audit_started(struct audit_event *e, int http_status);
/* `http_status` 0: nothing was answered. */
void audit_end(struct audit_event *e, int http_status);
