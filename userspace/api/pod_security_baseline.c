/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of the baseline standard. */
#include "userspace/api/pod_security_checks.h"
#include "userspace/base/mem.h"

#define APP_ARMOR_ANNOTATION "container.apparmor.security.beta.kubernetes.io/"
#define SECCOMP_POD_ANNOTATION "seccomp.security.alpha.kubernetes.io/pod"
#define SECCOMP_CONTAINER_ANNOTATION "container.seccomp.security.alpha.kubernetes.io/"

static bool is_one_of(struct str s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(s, list[i]))
			return true;
	return false;
}

static struct json *context_of(const struct json *container)
{
	return json_get(container, "securityContext");
}

/* `key="value"`, the value as Go quotes it. */
static struct str annotation_text(struct arena *arena, struct str key, struct str value)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_add_str(&text, key);
	buf_add_char(&text, '=');
	json_write_str(&text, value);
	return arena_str(arena, buf_str(&text));
}

/* ---- AppArmor: fields, and the annotations that came before them ---- */

static bool app_armor_field_is_bad(const struct pod_security_subject *s, const struct json *context,
				   struct pod_security_names *values)
{
	const struct json *profile = json_get(context, "appArmorProfile");
	struct str type = json_get_str(profile, "type");

	if (!json_is(profile, JSON_OBJECT) || str_is(type, "RuntimeDefault") || str_is(type, "Localhost"))
		return false;
	pod_security_names_insert(s->arena, values, type);
	return true;
}

static void app_armor_annotations(const struct pod_security_subject *s, struct pod_security_names *found)
{
	json_foreach(a, s->annotations) {
		struct str value = json_str(a);

		if (!str_starts(a->key, STR(APP_ARMOR_ANNOTATION)) || value.n == 0 ||
		    str_is(value, "runtime/default") || str_starts(value, STR("localhost/")))
			continue;
		pod_security_names_insert(s->arena, found, annotation_text(s->arena, a->key, value));
	}
}

const char *pod_security_app_armor(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names values = { 0 }, containers = { 0 }, annotations = { 0 };
	bool pod = app_armor_field_is_bad(s, s->context, &values);

	pod_security_each(c, s) if (app_armor_field_is_bad(s, context_of(c), &values))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (s->annotations)
		app_armor_annotations(s, &annotations);
	if (!pod && containers.n == 0 && annotations.n == 0)
		return NULL;
	pod_security_setters_write(detail, pod, &containers);
	if (annotations.n > 0)
		buf_printf(detail, "%s%s", pod || containers.n > 0 ? " and " : "",
			   pod_security_plural(annotations.n, "annotation", "annotations"));
	for (size_t i = 0; i < annotations.n; i++)
		pod_security_names_add(s->arena, &values, annotations.items[i]);
	buf_add_cstr(detail, " must not set AppArmor profile type to ");
	pod_security_names_write(detail, &values, "\"");
	return pod_security_plural(values.n, "forbidden AppArmor profile", "forbidden AppArmor profiles");
}

/* ---- capabilities ---- */

const char *pod_security_capabilities_baseline(const struct pod_security_subject *s, struct buf *detail)
{
	static const char *const allowed[] = {
		"AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",       "MKNOD",
		"NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT",
	};
	struct pod_security_names containers = { 0 }, found = { 0 };

	pod_security_each(c, s)
	{
		bool bad = false;

		json_foreach(add, json_get(json_get(context_of(c), "capabilities"), "add")) {
			if (is_one_of(json_str(add), allowed, ARRAY_SIZE(allowed)))
				continue;
			bad = true;
			pod_security_names_insert(s->arena, &found, json_str(add));
		}
		if (bad)
			pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	}
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_add_cstr(detail, " must not include ");
	pod_security_names_write(detail, &found, "\"");
	buf_add_cstr(detail, " in securityContext.capabilities.add");
	return "non-default capabilities";
}

/* ---- the host's namespaces, paths and ports ---- */

const char *pod_security_host_namespaces(const struct pod_security_subject *s, struct buf *detail)
{
	static const char *const fields[] = { "hostNetwork", "hostPID", "hostIPC" };
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!json_get_bool(s->spec, fields[i], false))
			continue;
		buf_printf(detail, "%s%s=true", any ? ", " : "", fields[i]);
		any = true;
	}
	return any ? "host namespaces" : NULL;
}

const char *pod_security_host_path(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names volumes = { 0 };

	json_foreach(v, json_get(s->spec, "volumes"))
		if (pod_security_is_set(v, "hostPath"))
			pod_security_names_add(s->arena, &volumes, json_get_str(v, "name"));
	if (volumes.n == 0)
		return NULL;
	buf_printf(detail, "%s ", pod_security_plural(volumes.n, "volume", "volumes"));
	pod_security_names_write(detail, &volumes, "\"");
	return "hostPath volumes";
}

const char *pod_security_host_ports(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 }, ports = { 0 };

	pod_security_each(c, s)
	{
		bool bad = false;

		json_foreach(p, json_get(c, "ports")) {
			int64_t port = json_get_int(p, "hostPort", 0);

			if (port == 0)
				continue;
			bad = true;
			pod_security_names_insert(s->arena, &ports,
						  str_of(arena_printf(s->arena, "%lld", (long long)port)));
		}
		if (bad)
			pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	}
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_printf(detail, " %s %s ", pod_security_plural(containers.n, "uses", "use"),
		   pod_security_plural(ports.n, "hostPort", "hostPorts"));
	pod_security_names_write(detail, &ports, "");
	return "hostPort";
}

/* ---- the host of probes and hooks ---- */

static bool handler_hosts(const struct pod_security_subject *s, const struct json *handler,
			  struct pod_security_names *hosts)
{
	static const char *const actions[] = { "httpGet", "tcpSocket" };
	bool bad = false;

	for (size_t i = 0; handler && i < ARRAY_SIZE(actions); i++) {
		struct str host = json_get_str(json_get(handler, actions[i]), "host");

		if (host.n == 0)
			continue;
		bad = true;
		pod_security_names_insert(s->arena, hosts, host);
	}
	return bad;
}

const char *pod_security_host_probes(const struct pod_security_subject *s, struct buf *detail)
{
	static const char *const probes[] = { "livenessProbe", "readinessProbe", "startupProbe" };
	static const char *const hooks[] = { "postStart", "preStop" };
	struct pod_security_names containers = { 0 }, hosts = { 0 };

	pod_security_each(c, s)
	{
		const struct json *lifecycle = json_get(c, "lifecycle");
		bool bad = false;

		for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
			bad = handler_hosts(s, json_get(c, probes[i]), &hosts) || bad;
		for (size_t i = 0; lifecycle && i < ARRAY_SIZE(hooks); i++)
			bad = handler_hosts(s, json_get(lifecycle, hooks[i]), &hosts) || bad;
		if (bad)
			pod_security_names_insert(s->arena, &containers, json_get_str(c, "name"));
	}
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_printf(detail, " %s %s ", pod_security_plural(containers.n, "uses", "use"),
		   pod_security_plural(hosts.n, "probe or lifecycle host", "probe or lifecycle hosts"));
	pod_security_names_write(detail, &hosts, "\"");
	return "probe or lifecycle host";
}

/* ---- privileged, /proc ---- */

const char *pod_security_privileged(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 };

	pod_security_each(c, s) if (json_get_bool(context_of(c), "privileged", false))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (containers.n == 0)
		return NULL;
	pod_security_containers_write(detail, &containers);
	buf_add_cstr(detail, " must not set securityContext.privileged=true");
	return "privileged";
}

const char *pod_security_proc_mount_baseline(const struct pod_security_subject *s, struct buf *detail)
{
	if (s->minor >= 35 && s->user_namespace)
		return NULL;
	return pod_security_proc_mount_restricted(s, detail);
}

/* ---- SELinux ---- */

struct selinux_findings {
	struct pod_security_names types;
	bool user, role;
};

static bool selinux_is_bad(const struct pod_security_subject *s, const struct json *context, struct selinux_findings *f)
{
	static const char *const types[] = { "", "container_t", "container_init_t", "container_kvm_t",
					     "container_engine_t" };
	const struct json *options = json_get(context, "seLinuxOptions");
	size_t n_types = s->minor >= 31 ? ARRAY_SIZE(types) : ARRAY_SIZE(types) - 1;
	bool bad = false;

	if (!json_is(options, JSON_OBJECT))
		return false;
	if (!is_one_of(json_get_str(options, "type"), types, n_types)) {
		bad = true;
		pod_security_names_insert(s->arena, &f->types, json_get_str(options, "type"));
	}
	if (json_get_str(options, "user").n > 0)
		bad = f->user = true;
	if (json_get_str(options, "role").n > 0)
		bad = f->role = true;
	return bad;
}

const char *pod_security_selinux(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 };
	struct selinux_findings f = { 0 };
	bool pod = selinux_is_bad(s, s->context, &f);
	const char *separator = "";

	pod_security_each(c, s) if (selinux_is_bad(s, context_of(c), &f))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (!pod && containers.n == 0)
		return NULL;
	pod_security_setters_write(detail, pod, &containers);
	buf_add_cstr(detail, " set forbidden securityContext.seLinuxOptions: ");
	if (f.types.n > 0) {
		buf_printf(detail, "%s ", pod_security_plural(f.types.n, "type", "types"));
		pod_security_names_write(detail, &f.types, "\"");
		separator = "; ";
	}
	if (f.user) {
		buf_printf(detail, "%suser may not be set", separator);
		separator = "; ";
	}
	if (f.role)
		buf_printf(detail, "%srole may not be set", separator);
	return "seLinuxOptions";
}

/* ---- seccomp ---- */

static void seccomp_annotation(const struct pod_security_subject *s, struct str key, struct pod_security_names *found)
{
	const struct json *a = json_get_n(s->annotations, key);
	struct str value = json_str(a);

	if (!a || str_is(value, "runtime/default") || str_is(value, "docker/default") ||
	    str_starts(value, STR("localhost/")))
		return;
	pod_security_names_insert(s->arena, found, annotation_text(s->arena, key, value));
}

/* Before v1.19, when seccomp had no field. */
static const char *seccomp_annotations(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names found = { 0 };

	if (!s->annotations)
		return NULL;
	seccomp_annotation(s, STR(SECCOMP_POD_ANNOTATION), &found);
	pod_security_each(c, s)
	{
		struct str name = json_get_str(c, "name");

		seccomp_annotation(
			s, str_of(arena_printf(s->arena, SECCOMP_CONTAINER_ANNOTATION "%.*s", STR_ARG(name))), &found);
	}
	if (found.n == 0)
		return NULL;
	buf_printf(detail, "forbidden %s ", pod_security_plural(found.n, "annotation", "annotations"));
	pod_security_names_write(detail, &found, "");
	return "seccompProfile";
}

static bool seccomp_is_bad(const struct pod_security_subject *s, const struct json *context,
			   struct pod_security_names *values)
{
	const struct json *profile = json_get(context, "seccompProfile");
	struct str type = json_get_str(profile, "type");

	if (!json_is(profile, JSON_OBJECT) || str_is(type, "RuntimeDefault") || str_is(type, "Localhost"))
		return false;
	pod_security_names_insert(s->arena, values, type);
	return true;
}

const char *pod_security_seccomp_baseline(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 }, values = { 0 };
	bool pod;

	if (s->minor < 19)
		return seccomp_annotations(s, detail);
	pod = seccomp_is_bad(s, s->context, &values);
	pod_security_each(c, s) if (seccomp_is_bad(s, context_of(c), &values))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (!pod && containers.n == 0)
		return NULL;
	pod_security_setters_write(detail, pod, &containers);
	buf_add_cstr(detail, " must not set securityContext.seccompProfile.type to ");
	pod_security_names_write(detail, &values, "\"");
	return "seccompProfile";
}

/* ---- sysctls, host processes of Windows ---- */

const char *pod_security_sysctls(const struct pod_security_subject *s, struct buf *detail)
{
	static const struct {
		const char *name;
		int since;
	} safe[] = {
		{ "kernel.shm_rmid_forced", 0 },
		{ "net.ipv4.ip_local_port_range", 0 },
		{ "net.ipv4.tcp_syncookies", 0 },
		{ "net.ipv4.ping_group_range", 0 },
		{ "net.ipv4.ip_unprivileged_port_start", 0 },
		{ "net.ipv4.ip_local_reserved_ports", 27 },
		{ "net.ipv4.tcp_keepalive_time", 29 },
		{ "net.ipv4.tcp_fin_timeout", 29 },
		{ "net.ipv4.tcp_keepalive_intvl", 29 },
		{ "net.ipv4.tcp_keepalive_probes", 29 },
		{ "net.ipv4.tcp_rmem", 32 },
		{ "net.ipv4.tcp_wmem", 32 },
	};
	struct pod_security_names found = { 0 };

	json_foreach(sysctl, json_get(s->context, "sysctls")) {
		struct str name = json_get_str(sysctl, "name");
		bool ok = false;

		for (size_t i = 0; i < ARRAY_SIZE(safe) && !ok; i++)
			ok = s->minor >= safe[i].since && str_is(name, safe[i].name);
		if (!ok)
			pod_security_names_add(s->arena, &found, name);
	}
	if (found.n == 0)
		return NULL;
	pod_security_names_write(detail, &found, "");
	return "forbidden sysctls";
}

static bool host_process(const struct json *context)
{
	return json_get_bool(json_get(context, "windowsOptions"), "hostProcess", false);
}

const char *pod_security_host_process(const struct pod_security_subject *s, struct buf *detail)
{
	struct pod_security_names containers = { 0 };
	bool pod = host_process(s->context);

	pod_security_each(c, s) if (host_process(context_of(c)))
		pod_security_names_add(s->arena, &containers, json_get_str(c, "name"));
	if (!pod && containers.n == 0)
		return NULL;
	pod_security_setters_write(detail, pod, &containers);
	buf_add_cstr(detail, " must not set securityContext.windowsOptions.hostProcess=true");
	return "hostProcess";
}
