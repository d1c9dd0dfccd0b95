/* SPDX-License-Identifier: Apache-2.0 */
/* Policies from labels, and the table of checks: from which version of the standards each applies, and from which a
 * check of the restricted level takes the place of a baseline one. Rows stand in the order in which findings are told:
 * baseline by name, then restricted by name. */
#include "userspace/api/pod_security.h"

#include <stdio.h>

#include "userspace/api/pod_security_checks.h"
#include "userspace/base/mem.h"

#define NEVER INT_MAX

static const char *const LEVELS[] = { "privileged", "baseline", "restricted" };

static const struct {
	const char *id;
	enum pod_security_level level;
	int since;
	int replaced; /* from this version on the restricted level has another check for it */
	pod_security_check_fn *check;
} CHECKS[] = {
	{ "appArmorProfile", POD_SECURITY_BASELINE, 0, NEVER, pod_security_app_armor },
	{ "capabilities_baseline", POD_SECURITY_BASELINE, 0, 22, pod_security_capabilities_baseline },
	{ "hostNamespaces", POD_SECURITY_BASELINE, 0, NEVER, pod_security_host_namespaces },
	{ "hostPathVolumes", POD_SECURITY_BASELINE, 0, 0, pod_security_host_path },
	{ "hostPorts", POD_SECURITY_BASELINE, 0, NEVER, pod_security_host_ports },
	{ "hostProbesAndHostLifecycle", POD_SECURITY_BASELINE, 34, NEVER, pod_security_host_probes },
	{ "privileged", POD_SECURITY_BASELINE, 0, NEVER, pod_security_privileged },
	{ "procMount", POD_SECURITY_BASELINE, 0, 35, pod_security_proc_mount_baseline },
	{ "seLinuxOptions", POD_SECURITY_BASELINE, 0, NEVER, pod_security_selinux },
	{ "seccompProfile_baseline", POD_SECURITY_BASELINE, 0, 19, pod_security_seccomp_baseline },
	{ "sysctls", POD_SECURITY_BASELINE, 0, NEVER, pod_security_sysctls },
	{ "windowsHostProcess", POD_SECURITY_BASELINE, 0, NEVER, pod_security_host_process },
	{ "allowPrivilegeEscalation", POD_SECURITY_RESTRICTED, 8, NEVER, pod_security_privilege_escalation },
	{ "capabilities_restricted", POD_SECURITY_RESTRICTED, 22, NEVER, pod_security_capabilities_restricted },
	{ "procMount_restricted", POD_SECURITY_RESTRICTED, 35, NEVER, pod_security_proc_mount_restricted },
	{ "restrictedVolumes", POD_SECURITY_RESTRICTED, 0, NEVER, pod_security_volumes },
	{ "runAsNonRoot", POD_SECURITY_RESTRICTED, 0, NEVER, pod_security_non_root },
	{ "runAsUser", POD_SECURITY_RESTRICTED, 23, NEVER, pod_security_run_as_user },
	{ "seccompProfile_restricted", POD_SECURITY_RESTRICTED, 19, NEVER, pod_security_seccomp_restricted },
};

const char *pod_security_text(const struct pod_security_policy *p, char ret[static POD_SECURITY_TEXT_MAX])
{
	if (p->minor == POD_SECURITY_LATEST)
		snprintf(ret, POD_SECURITY_TEXT_MAX, "%s:latest", LEVELS[p->level]);
	else
		snprintf(ret, POD_SECURITY_TEXT_MAX, "%s:v1.%d", LEVELS[p->level], p->minor);
	return ret;
}

/* ---- labels ---- */

bool pod_security_level(struct str s, enum pod_security_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(LEVELS); i++) {
		if (!str_is(s, LEVELS[i]))
			continue;
		*ret = (enum pod_security_level)i;
		return true;
	}
	return false;
}

bool pod_security_version(struct str s, int *ret)
{
	int64_t minor;

	if (str_is(s, "latest")) {
		*ret = POD_SECURITY_LATEST;
		return true;
	}
	if (!str_starts(s, STR("v1.")))
		return false;
	s.p += 3;
	s.n -= 3;
	if (s.n == 0 || (s.n > 1 && s.p[0] == '0') || str_to_int64(s, &minor) < 0 || minor < 0 ||
	    minor >= POD_SECURITY_LATEST)
		return false;
	*ret = (int)minor;
	return true;
}

static const struct api_label *find_label(const struct api_label *labels, size_t n, struct str key)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(labels[i].key, key))
			return &labels[i];
	return NULL;
}

static void finding(struct field_errors *e, const struct api_label *label, const char *detail)
{
	field_invalid_str(e, FIELD_KEY(FIELD(FIELD(NULL, "metadata"), "labels"), label->key), label->value, "%s",
			  detail);
}

void pod_security_parse(const struct api_label *labels, size_t n, const struct pod_security_modes *defaults,
			struct pod_security_modes *ret, struct field_errors *e)
{
	static const struct pod_security_modes privileged = {
		.enforce = { POD_SECURITY_PRIVILEGED, POD_SECURITY_LATEST },
		.audit = { POD_SECURITY_PRIVILEGED, POD_SECURITY_LATEST },
		.warn = { POD_SECURITY_PRIVILEGED, POD_SECURITY_LATEST },
	};
	const struct {
		struct str level, version;
		struct pod_security_policy *policy;
		enum pod_security_level otherwise; /* for a bad value */
	} modes[] = {
		{ STR(POD_SECURITY_LABELS "enforce"), STR(POD_SECURITY_LABELS "enforce-version"), &ret->enforce,
		  POD_SECURITY_RESTRICTED },
		{ STR(POD_SECURITY_LABELS "audit"), STR(POD_SECURITY_LABELS "audit-version"), &ret->audit,
		  POD_SECURITY_PRIVILEGED },
		{ STR(POD_SECURITY_LABELS "warn"), STR(POD_SECURITY_LABELS "warn-version"), &ret->warn,
		  POD_SECURITY_PRIVILEGED },
	};

	*ret = defaults ? *defaults : privileged;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		const struct api_label *label = find_label(labels, n, modes[i].level);

		if (label && !pod_security_level(label->value, &modes[i].policy->level)) {
			modes[i].policy->level = modes[i].otherwise;
			finding(e, label, "must be one of privileged, baseline, restricted");
		}
		label = find_label(labels, n, modes[i].version);
		if (label && !pod_security_version(label->value, &modes[i].policy->minor))
			finding(e, label, "must be \"latest\" or \"v1.x\"");
	}
}

/* ---- judging ---- */

static bool applies(size_t i, const struct pod_security_policy *p)
{
	if (CHECKS[i].level > p->level || p->minor < CHECKS[i].since)
		return false;
	return p->level != POD_SECURITY_RESTRICTED || CHECKS[i].replaced == NEVER || p->minor < CHECKS[i].replaced;
}

bool pod_security_allows(struct arena *arena, const struct pod_security_policy *policy, const struct json *metadata,
			 const struct json *spec, struct pod_security_violations *ret_violations)
{
	struct pod_security_subject s = {
		.arena = arena,
		.annotations = json_get(metadata, "annotations"),
		.spec = spec,
		.context = json_get(spec, "securityContext"),
		.minor = policy->minor,
		.windows = str_is(json_get_str(json_get(spec, "os"), "name"), "windows"),
		.user_namespace = !json_get_bool(spec, "hostUsers", true),
	};
	_cleanup_buf_ struct buf reasons = BUF_INIT, details = BUF_INIT, detail = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(CHECKS); i++) {
		const char *reason = applies(i, policy) ? CHECKS[i].check(&s, &detail) : NULL;

		if (!reason)
			continue;
		if (buf_len(&reasons) > 0) {
			buf_add_cstr(&reasons, ", ");
			buf_add_cstr(&details, ", ");
		}
		buf_add_cstr(&reasons, reason);
		buf_printf(&details, "%s (%.*s)", reason, STR_ARG(buf_str(&detail)));
		buf_reset(&detail);
	}
	if (buf_len(&reasons) == 0)
		return true;
	ret_violations->reasons = arena_str(arena, buf_str(&reasons));
	ret_violations->details = arena_str(arena, buf_str(&details));
	return false;
}

/* ---- changes ---- */

static bool images_differ(const struct json *a, const struct json *b)
{
	struct json *x = json_first(a), *y = json_first(b);

	for (; x && y; x = x->next, y = y->next)
		if (!str_eq(json_get_str(x, "image"), json_get_str(y, "image")))
			return true;
	return x || y; /* not as many */
}

static bool ephemeral_differ(const struct json *a, const struct json *b)
{
	json_foreach(x, a) {
		const struct json *same = NULL;

		json_foreach(y, b) {
			if (!str_eq(json_get_str(x, "name"), json_get_str(y, "name")))
				continue;
			same = y;
			break;
		}
		if (!same || !str_eq(json_get_str(x, "image"), json_get_str(same, "image")))
			return true;
	}
	return false;
}

bool pod_security_matters(const struct json *pod, const struct json *old)
{
	const struct json *a = json_get(pod, "spec"), *b = json_get(old, "spec");

	return images_differ(json_get(a, "containers"), json_get(b, "containers")) ||
	       images_differ(json_get(a, "initContainers"), json_get(b, "initContainers")) ||
	       ephemeral_differ(json_get(a, "ephemeralContainers"), json_get(b, "ephemeralContainers"));
}
