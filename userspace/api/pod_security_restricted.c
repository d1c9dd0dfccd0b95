/* SPDX-License-Identifier: Apache-2.0 */
/* The checks that the restricted standard adds, or has in place of the baseline's. */
#include "userspace/api/pod_security_checks.h"
#include "userspace/base/mem.h"

static struct json *context_of(const struct json *container)
{
	return json_get(container, "securityContext");
}

const char *pod_security_privilege_escalation(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 };

	if (s->windows && s->minor >= 25)
		return NULL;
	pod_security_each(c, s) if (json_get_bool(context_of(c), "allowPrivilegeEscalation", true))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_add_cstr(detail, " must set securityContext.allowPrivilegeEscalation=false");
	return "allowPrivilegeEscalation != false";
}

/* ---- capabilities ---- */

struct capability_findings {
	struct pod_security_names missing_drop, adding, added;
};

static void capabilities_of(const struct pod_security_subject *s, const struct json *container,
			    struct capability_findings *f)
{
	const struct json *capabilities = json_get(context_of(container), "capabilities");
	struct str name = json_get_str(container, "name");
	bool dropped = false, bad = false;

	json_foreach(drop, json_get(capabilities, "drop"))
		dropped = dropped || str_is(json_str(drop), "ALL");
	if (!dropped)
		pod_security_names_add(s->arena, &f->missing_drop, name);
	json_foreach(add, json_get(capabilities, "add")) {
		if (str_is(json_str(add), "NET_BIND_SERVICE"))
			continue;
		bad = true;
		pod_security_names_insert(s->arena, &f->added, json_str(add));
	}
	if (bad)
		pod_security_names_add(s->arena, &f->adding, name);
}

const char *pod_security_capabilities_restricted(const struct pod_security_subject *s, struct buf *detail)
{
	struct capability_findings f = { 0 };

	if (s->windows && s->minor >= 25)
		return NULL;
	pod_security_each(c, s) capabilities_of(s, c, &f);
	if (f.missing_drop.n > 0) {
		pod_security_containers_write(detail, &f.missing_drop);
		buf_add_cstr(detail, " must set securityContext.capabilities.drop=[\"ALL\"]");
	}
	if (f.adding.n > 0) {
		if (f.missing_drop.n > 0)
			buf_add_cstr(detail, "; ");
		pod_security_containers_write(detail, &f.adding);
		buf_add_cstr(detail, " must not include ");
		pod_security_names_write(detail, &f.added, "\"");
		buf_add_cstr(detail, " in securityContext.capabilities.add");
	}
	return f.missing_drop.n > 0 || f.adding.n > 0 ? "unrestricted capabilities" : NULL;
}

const char *pod_security_proc_mount_restricted(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 }, types = { 0 };

	pod_security_each(c, s)
	{
		const struct json *type = json_get(context_of(c), "procMount");

		if (!json_is(type, JSON_STRING) || str_is(type->text, "Default"))
			continue;
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
		pod_security_names_insert(s->arena, &types, type->text);
	}
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_add_cstr(detail, " must not set securityContext.procMount to ");
	pod_security_names_write(detail, &types, "\"");
	return "procMount";
}

/* ---- volumes ---- */

static bool volume_is_allowed(const struct json *volume)
{
	static const char *const allowed[] = { "configMap", "csi",   "downwardAPI",           "emptyDir",
					       "ephemeral", "image", "persistentVolumeClaim", "projected",
					       "secret" };

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		if (pod_security_is_set(volume, allowed[i]))
			return true;
	return false;
}

static struct str volume_type(const struct json *volume)
{
	static const char *const types[] = {
		"hostPath",
		"gcePersistentDisk",
		"awsElasticBlockStore",
		"gitRepo",
		"nfs",
		"iscsi",
		"glusterfs",
		"rbd",
		"flexVolume",
		"cinder",
		"cephfs",
		"flocker",
		"fc",
		"azureFile",
		"vsphereVolume",
		"quobyte",
		"azureDisk",
		"photonPersistentDisk",
		"portworxVolume",
		"scaleIO",
		"storageos",
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (pod_security_is_set(volume, types[i]))
			return str_of(types[i]);
	return STR("unknown");
}

const char *pod_security_volumes(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names volumes = { 0 }, types = { 0 };

	json_foreach(v, json_get(s->spec, "volumes")) {
		if (volume_is_allowed(v))
			continue;
		pod_security_names_add(s->arena, &volumes, json_get_str(v, "name"));
		pod_security_names_insert(s->arena, &types, volume_type(v));
	}
	if (volumes.n == 0)
		return NULL;
	buf_printf(detail, "%s ", pod_security_plural(volumes.n, "volume", "volumes"));
	pod_security_names_write(detail, &volumes, "\"");
	buf_printf(detail, " %s %s ", pod_security_plural(volumes.n, "uses", "use"),
		   pod_security_plural(types.n, "restricted volume type", "restricted volume types"));
	pod_security_names_write(detail, &types, "\"");
	return "restricted volume types";
}

/* ---- the user ---- */

const char *pod_security_non_root(const struct pod_security_subject *s, struct buf *detail)
{
	const struct json *of_pod = json_get(s->context, "runAsNonRoot");
	struct pod_security_names denying = { 0 }, silent = { 0 };
	bool pod = !json_bool(of_pod, true);

	if (s->user_namespace && s->minor >= 35)
		return NULL;
	pod_security_each(c, s)
	{
		const struct json *own = json_get(context_of(c), "runAsNonRoot");

		if (!json_is(own, JSON_BOOL)) {
			if (!json_bool(of_pod, false))
				pod_security_names_add(s->arena, &silent, json_get_str(c, "name"));
		} else if (!own->boolean) {
			pod_security_names_add(s->arena, &denying, json_get_str(c, "name"));
		}
	}
	if (pod || denying.n > 0) {
		pod_security_setters_write(detail, pod, &denying);
		buf_add_cstr(detail, " must not set securityContext.runAsNonRoot=false");
	} else if (silent.n > 0) {
		buf_add_cstr(detail, "pod or ");
		pod_security_containers_write(detail, &silent);
		buf_add_cstr(detail, " must set securityContext.runAsNonRoot=true");
	} else {
		return NULL;
	}
	return "runAsNonRoot != true";
}

const char *pod_security_run_as_user(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 };
	bool pod = json_get_int(s->context, "runAsUser", 1) == 0;

	if (s->user_namespace && s->minor >= 35)
		return NULL;
	pod_security_each(c, s) if (json_get_int(context_of(c), "runAsUser", 1) == 0)
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (!pod && containers.n == 0)
		return NULL;
	pod_security_setters_write(detail, pod, &containers);
	buf_add_cstr(detail, " must not set runAsUser=0");
	return "runAsUser=0";
}

/* ---- seccomp ---- */

const char *pod_security_seccomp_restricted(const struct pod_security_subject *s, struct buf *detail)
{
	const struct json *of_pod = json_get(s->context, "seccompProfile");
	struct pod_security_names silent = { 0 };
	const char *reason;

	if (s->windows && s->minor >= 25)
		return NULL;
	/* What is set must be good: that much the baseline says too. */
	reason = pod_security_seccomp_baseline(s, detail);
	if (reason || json_is(of_pod, JSON_OBJECT))
		return reason;
	pod_security_each(c, s) if (!json_is(json_get(context_of(c), "seccompProfile"), JSON_OBJECT))
		pod_security_names_add(s->arena, &silent, json_get_str(c, "name"));
	if (silent.n == 0)
		return NULL;
	buf_add_cstr(detail, "pod or ");
	pod_security_containers_write(detail, &silent);
	buf_add_cstr(detail, " must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
	return "seccompProfile";
}
