/* SPDX-License-Identifier: Apache-2.0 */
/* One audit event as audit.c gathers it and audit_event.c writes it. Inside these two only. */
#pragma once

#include "userspace/apiserver/audit.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/net/http.h"

struct audit_event {
	struct audit *audit;
	struct audit_decision decision;
	struct arena *arena; /* the request's */
	const struct http_request *http;
	int64_t received_real_ns;
	struct str id;
	struct authz_attributes attributes; /* as the one who really asks sent it */
	struct request_user user, impersonated;
	bool authenticated, has_impersonated, started;
	struct str object_uid, object_version;
	struct str request_object, response_object; /* JSON; empty: none */
	struct str response_status;                 /* a Status, when one was answered */
	int http_status;
	struct request_annotation annotations[AUDIT_ANNOTATIONS_MAX];
	size_t n_annotations;
};

/* One JSON object without blanks. */
void audit_event_write(const struct audit_event *e, enum audit_stage stage, int64_t now_real_ns, struct buf *out);
