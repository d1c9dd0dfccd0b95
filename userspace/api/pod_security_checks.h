/* SPDX-License-Identifier: Apache-2.0 */
/* The single checks of the Pod Security Standards; see pod_security.c for the table that says when each applies.
 * Any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/api/pod_security.h"
#include "userspace/base/buf.h"

struct pod_security_subject {
	struct arena *arena;
	const struct json *annotations; /* may be NULL */
	const struct json *spec;
	const struct json *context; /* spec.securityContext; may be NULL */
	int minor;
	bool windows;        /* spec.os.name */
	bool user_namespace; /* spec.hostUsers is false */
};

/* NULL when there is nothing to say; else the reason (static) and its details appended. */
typedef const char *pod_security_check_fn(const struct pod_security_subject *s, struct buf *detail);

/* baseline */
pod_security_check_fn pod_security_app_armor, pod_security_capabilities_baseline, pod_security_host_namespaces,
	pod_security_host_path, pod_security_host_ports, pod_security_host_probes, pod_security_privileged,
	pod_security_proc_mount_baseline, pod_security_selinux, pod_security_seccomp_baseline, pod_security_sysctls,
	pod_security_host_process;
/* restricted */
pod_security_check_fn pod_security_privilege_escalation, pod_security_capabilities_restricted,
	pod_security_proc_mount_restricted, pod_security_volumes, pod_security_non_root, pod_security_run_as_user,
	pod_security_seccomp_restricted;

/* ---- shared by them (pod_security_names.c) ---- */

/* Names as a message lists them: "a", "b". */
struct pod_security_names {
	struct str *items;
	size_t n, cap;
};

void pod_security_names_add(struct arena *arena, struct pod_security_names *names, struct str name);
/* Kept sorted by bytes, each once. */
void pod_security_names_insert(struct arena *arena, struct pod_security_names *names, struct str name);
/* Joined by ", ", each within `quote` ("" for bare). */
void pod_security_names_write(struct buf *out, const struct pod_security_names *names, const char *quote);
static inline const char *pod_security_plural(size_t n, const char *one, const char *many)
{
	return n == 1 ? one : many;
}
/* `container "a"`, `containers "a", "b"` */
void pod_security_containers_write(struct buf *out, const struct pod_security_names *containers);
/* `pod`, `container "a"`, or `pod and container "a"` */
void pod_security_setters_write(struct buf *out, bool pod, const struct pod_security_names *containers);

static inline bool pod_security_is_set(const struct json *object, const char *key)
{
	const struct json *v = json_get(object, key);

	return v && v->type != JSON_NULL;
}

/* Init containers, containers, ephemeral ones. */
struct json *pod_security_first(const struct pod_security_subject *s, int *group);
struct json *pod_security_next(const struct pod_security_subject *s, int *group, struct json *container);
#define pod_security_each(c_, s_)                                                                                      \
	for (int group_ = 0, *once_ = &group_; once_; once_ = NULL)                                                    \
		for (struct json *c_ = pod_security_first((s_), &group_); c_; c_ = pod_security_next((s_), &group_, c_))
