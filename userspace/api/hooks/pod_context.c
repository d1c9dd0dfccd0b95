/* SPDX-License-Identifier: Apache-2.0 */
/* Security contexts of pods and containers, and what the operating system a pod asks for allows in them.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define SYSCTL_NAME_MAX 253
#define APPARMOR_PROFILE_MAX 4095
#define ID_MAX 2147483647
#define GMSA_SPEC_MAX (64 * 1024)
#define GMSA_SPEC_KIB 64

static const char *const profile_types[] = { "Localhost", "RuntimeDefault", "Unconfined", NULL };

/* ---- seccomp, AppArmor ---- */

static void validate_seccomp(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	struct str type = json_get_str(p, "type");
	const struct json *local = json_get(p, "localhostProfile");

	if (!p)
		return;
	if (!type.n)
		field_required(e, FIELD(at, "type"), "type is required when seccompProfile is set");
	if (!str_is(type, "Localhost")) {
		if (local)
			field_invalid(e, FIELD(at, "localhostProfile"), p,
				      "can only be set when seccomp type is Localhost");
	} else if (!local) {
		field_required(e, FIELD(at, "localhostProfile"), "must be set when seccomp type is Localhost");
	} else {
		hooks_relative_path(json_str(local), FIELD(at, "localhostProfile"), e);
	}
}

static void validate_apparmor(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	struct str type = json_get_str(p, "type");
	const struct json *local = json_get(p, "localhostProfile");
	const struct field_path *path = FIELD(at, "localhostProfile");
	struct str name = json_str(local);

	if (!p)
		return;
	if (!type.n) {
		field_required(e, FIELD(at, "type"), "type is required when appArmorProfile is set");
	} else if (!str_is(type, "Localhost")) {
		if (local && hooks_one_of(type, profile_types))
			field_invalid(e, path, local, "can only be set when AppArmor type is Localhost");
	} else if (!local) {
		field_required(e, path, "must be set when AppArmor type is Localhost");
	} else {
		if (str_trim(name).n != name.n)
			field_invalid_str(e, path, name, "must not be padded with whitespace");
		else if (!name.n)
			field_required(e, path, "must be set when AppArmor type is Localhost");
		if (name.n > APPARMOR_PROFILE_MAX)
			field_too_long(e, path, APPARMOR_PROFILE_MAX);
	}
}

/* ---- windows ---- */

static void validate_windows_options(const struct json *w, const struct field_path *at, struct field_errors *e)
{
	const struct json *name = json_get(w, "gmsaCredentialSpecName"), *spec = json_get(w, "gmsaCredentialSpec");
	struct str user = json_get_str(w, "runAsUserName");

	if (name)
		hooks_text_validate(json_str(name), validate_dns1123_subdomain, FIELD(at, "gmsaCredentialSpecName"), e);
	if (spec && !json_str(spec).n)
		field_invalid(e, FIELD(at, "gmsaCredentialSpec"), spec, "gmsaCredentialSpec cannot be an empty string");
	else if (json_str(spec).n > GMSA_SPEC_MAX)
		field_invalid(e, FIELD(at, "gmsaCredentialSpec"), spec, "gmsaCredentialSpec size must be under %d KiB",
			      GMSA_SPEC_KIB);
	if (json_get(w, "runAsUserName") && !user.n)
		field_invalid_str(e, FIELD(at, "runAsUserName"), user, "runAsUserName cannot be an empty string");
}

/* ---- one container ---- */

static void validate_capabilities(const struct json *sc, const struct field_path *at, struct field_errors *e)
{
	bool escalation = json_get_bool(sc, "allowPrivilegeEscalation", true);

	if (escalation)
		return;
	if (json_get_bool(sc, "privileged", false))
		field_invalid(e, at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
	json_foreach(c, json_at(sc, "capabilities.add"))
		if (str_is(json_str(c), "CAP_SYS_ADMIN"))
			field_invalid(e, at, sc,
				      "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
				      "CAP_SYS_ADMIN");
}

void hooks_container_context_validate(const struct json *sc, bool host_users, const struct field_path *at,
				      struct field_errors *e)
{
	if (!sc)
		return;
	if (host_users && str_is(json_get_str(sc, "procMount"), "Unmasked"))
		field_invalid(e, FIELD(at, "procMount"), json_get(sc, "procMount"),
			      "`hostUsers` must be false to use `Unmasked`");
	validate_seccomp(json_get(sc, "seccompProfile"), FIELD(at, "seccompProfile"), e);
	validate_capabilities(sc, at, e);
	validate_windows_options(json_get(sc, "windowsOptions"), FIELD(at, "windowsOptions"), e);
	validate_apparmor(json_get(sc, "appArmorProfile"), FIELD(at, "appArmorProfile"), e);
}

/* ---- sysctls ---- */

static bool is_sysctl_segment(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!alnum && (i == 0 || i + 1 == s.n || (c != '-' && c != '_')))
			return false;
	}
	return s.n > 0;
}

/* Segments with dots or slashes between them. */
static bool is_sysctl_name(struct str s)
{
	size_t start = 0;

	if (s.n > SYSCTL_NAME_MAX)
		return false;
	for (size_t i = 0; i <= s.n; i++) {
		if (i < s.n && s.p[i] != '.' && s.p[i] != '/')
			continue;
		if (!is_sysctl_segment(str_make(s.p + start, i - start)))
			return false;
		start = i + 1;
	}
	return true;
}

static bool is_net_sysctl(struct str s)
{
	return str_starts(s, STR("net.")) || str_starts(s, STR("net/"));
}

static bool is_ipc_sysctl(struct str s)
{
	static const char *const starts[] = { "kernel.shm", "kernel.msg", "fs.mqueue.",
					      "kernel/shm", "kernel/msg", "fs/mqueue/" };

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (str_starts(s, str_of(starts[i])))
			return true;
	return str_is(s, "kernel.sem") || str_is(s, "kernel/sem");
}

static void validate_sysctls(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(s, json_at(spec, "securityContext.sysctls")) {
		const struct field_path *at = FIELD(FIELD_INDEX(path, i++), "name");
		struct str name = json_get_str(s, "name");

		if (name.n && !is_sysctl_name(name))
			field_invalid_str(e, at, name,
					  "must have at most %d characters and match regex "
					  "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
					  SYSCTL_NAME_MAX);
		else if (name.n && name_set_put(&seen, name, s) != s)
			field_duplicate_str(e, at, name);
		if (json_get_bool(spec, "hostNetwork", false) && is_net_sysctl(name))
			field_invalid_str(e, at, name, "may not be specified when 'hostNetwork' is true");
		else if (json_get_bool(spec, "hostIPC", false) && is_ipc_sysctl(name))
			field_invalid_str(e, at, name, "may not be specified when 'hostIPC' is true");
	}
}

/* ---- the pod ---- */

void hooks_pod_context_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *sc = json_get(spec, "securityContext");
	const struct field_path *at = FIELD(path, "securityContext");
	size_t i = 0;

	json_foreach(g, json_get(sc, "supplementalGroups")) {
		if (json_int(g, 0) < 0 || json_int(g, 0) > ID_MAX)
			field_invalid_int(e, FIELD_INDEX(FIELD(at, "supplementalGroups"), i), json_int(g, 0),
					  "must be between 0 and %d, inclusive", ID_MAX);
		i++;
	}
	if (json_get_bool(spec, "shareProcessNamespace", false) && json_get_bool(spec, "hostPID", false))
		field_invalid(e, FIELD(at, "shareProcessNamespace"), json_get(spec, "shareProcessNamespace"),
			      "ShareProcessNamespace and HostPID cannot both be enabled");
	validate_sysctls(spec, FIELD(at, "sysctls"), e);
	validate_seccomp(json_get(sc, "seccompProfile"), FIELD(at, "seccompProfile"), e);
	validate_windows_options(json_get(sc, "windowsOptions"), FIELD(at, "windowsOptions"), e);
	validate_apparmor(json_get(sc, "appArmorProfile"), FIELD(at, "appArmorProfile"), e);
	if (!json_get_bool(spec, "hostUsers", true)) {
		if (json_get_bool(spec, "hostNetwork", false))
			field_forbidden(e, FIELD(path, "hostNetwork"), "when `pod.Spec.HostUsers` is false");
		if (json_get_bool(spec, "hostPID", false))
			field_forbidden(e, FIELD(path, "HostPID"), "when `pod.Spec.HostUsers` is false");
		if (json_get_bool(spec, "hostIPC", false))
			field_forbidden(e, FIELD(path, "HostIPC"), "when `pod.Spec.HostUsers` is false");
	}
}

/* ---- spec.os ---- */

static void forbid(const struct json *object, const char *const *names, const char *why, const struct field_path *path,
		   struct field_errors *e)
{
	for (; *names; names++)
		if (json_get(object, *names) && !json_is(json_get(object, *names), JSON_NULL) &&
		    !(json_is(json_get(object, *names), JSON_BOOL) && str_starts(str_of(*names), STR("host")) &&
		      !json_get(object, *names)->boolean && strcmp(*names, "hostUsers") != 0))
			field_forbidden(e, FIELD_STR(path, str_of(*names)), "%s", why);
}

static void forbid_in_containers(const struct json *spec, const char *const *names, const char *why,
				 const struct field_path *path, struct field_errors *e)
{
	static const char *const lists[] = { "initContainers", "containers", "ephemeralContainers" };

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		size_t i = 0;

		json_foreach(c, json_get(spec, lists[l])) {
			const struct field_path *at = FIELD_INDEX(FIELD_STR(path, str_of(lists[l])), i++);

			forbid(json_get(c, "securityContext"), names, why, FIELD(at, "securityContext"), e);
		}
	}
}

void hooks_pod_os_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const known[] = { "linux", "windows", NULL };
	static const char *const options[] = { "windowsOptions", NULL };
	static const char *const of_pod[] = { "hostUsers", "hostPID", "hostIPC", "shareProcessNamespace", NULL };
	static const char *const of_context[] = { "appArmorProfile",     "seLinuxOptions",
						  "seccompProfile",      "fsGroup",
						  "fsGroupChangePolicy", "sysctls",
						  "runAsUser",           "runAsGroup",
						  "supplementalGroups",  "supplementalGroupsPolicy",
						  "seLinuxChangePolicy", NULL };
	static const char *const of_container[] = { "appArmorProfile",
						    "seLinuxOptions",
						    "seccompProfile",
						    "capabilities",
						    "readOnlyRootFilesystem",
						    "privileged",
						    "allowPrivilegeEscalation",
						    "procMount",
						    "runAsUser",
						    "runAsGroup",
						    NULL };
	const struct json *os = json_get(spec, "os"), *sc = json_get(spec, "securityContext");
	struct str name = json_get_str(os, "name");

	if (!os)
		return;
	if (!name.n) {
		field_required(e, FIELD(FIELD(path, "os"), "name"), "cannot be empty");
	} else if (str_is(name, "linux")) {
		forbid(sc, options, "windows options cannot be set for a linux pod", FIELD(path, "securityContext"), e);
		forbid_in_containers(spec, options, "windows options cannot be set for a linux pod", path, e);
	} else if (str_is(name, "windows")) {
		forbid(sc, of_context, "cannot be set for a windows pod", FIELD(path, "securityContext"), e);
		forbid(spec, of_pod, "cannot be set for a windows pod", path, e);
		forbid_in_containers(spec, of_container, "cannot be set for a windows pod", path, e);
	} else {
		field_not_supported(e, FIELD(path, "os"), name, known);
	}
}
