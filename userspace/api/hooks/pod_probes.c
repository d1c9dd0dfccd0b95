/* SPDX-License-Identifier: Apache-2.0 */
/* Probes and lifecycle hooks: one handler each, and the rules of every handler. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

static bool is_header_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return s.n > 0;
}

static void check_exec(const struct json *v, int64_t grace, const struct field_path *at, struct field_errors *e)
{
	(void)grace;
	if (!json_count(json_get(v, "command")))
		field_required(e, FIELD(at, "command"), NULL);
}

static void check_http(const struct json *v, int64_t grace, const struct field_path *at, struct field_errors *e)
{
	(void)grace;
	hooks_port_validate(json_get(v, "port"), FIELD(at, "port"), e);
	json_foreach(h, json_get(v, "httpHeaders"))
		if (!is_header_name(json_get_str(h, "name")))
			field_invalid_str(e, FIELD(at, "httpHeaders"), json_get_str(h, "name"),
					  "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
					  "'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')");
}

static void check_tcp(const struct json *v, int64_t grace, const struct field_path *at, struct field_errors *e)
{
	(void)grace;
	hooks_port_validate(json_get(v, "port"), FIELD(at, "port"), e);
}

static void check_sleep(const struct json *v, int64_t grace, const struct field_path *at, struct field_errors *e)
{
	int64_t seconds = json_get_int(v, "seconds", 0);

	if (seconds < 0 || seconds > grace)
		field_invalid_int(e, at, seconds,
				  "must be non-negative and less than terminationGracePeriodSeconds (%lld)",
				  (long long)grace);
}

static void validate_handler(const struct json *handler, bool lifecycle, int64_t grace, const struct field_path *path,
			     struct field_errors *e)
{
	static const struct {
		const char *name;
		bool probe, hook;
		void (*check)(const struct json *v, int64_t grace, const struct field_path *at, struct field_errors *e);
	} handlers[] = {
		{ "exec", true, true, check_exec },     { "httpGet", true, true, check_http },
		{ "tcpSocket", true, true, check_tcp }, { "grpc", true, false, NULL },
		{ "sleep", false, true, check_sleep },
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		const struct json *v = json_get(handler, handlers[i].name);
		const struct field_path *at = FIELD_STR(path, str_of(handlers[i].name));

		if (!v || v->type == JSON_NULL || !(lifecycle ? handlers[i].hook : handlers[i].probe))
			continue;
		if (n++)
			field_forbidden(e, at, "may not specify more than 1 handler type");
		else if (handlers[i].check)
			handlers[i].check(v, grace, at, e);
	}
	if (!n)
		field_required(e, path, "must specify a handler type");
}

static void validate_probe(const struct json *probe, bool readiness, int64_t grace, const struct field_path *path,
			   struct field_errors *e)
{
	const struct json *own = json_get(probe, "terminationGracePeriodSeconds");
	int64_t success = json_get_int(probe, "successThreshold", 1);

	if (!probe)
		return;
	validate_handler(probe, false, grace, path, e);
	if (own && json_int(own, 1) <= 0)
		field_invalid(e, FIELD(path, "terminationGracePeriodSeconds"), own, "must be greater than 0");
	if (readiness && own)
		field_invalid(e, FIELD(path, "terminationGracePeriodSeconds"), own,
			      "must not be set for readinessProbes");
	if (!readiness && success != 1)
		field_invalid_int(e, FIELD(path, "successThreshold"), success, "must be 1");
}

static void validate_stop_signal(struct str signal, const struct json *spec, const struct field_path *path,
				 struct field_errors *e)
{
	if (!signal.n)
		return;
	if (!json_at_str(spec, "os.name").n)
		field_forbidden(e, path, "may not be set for containers with empty `spec.os.name`");
	else if (str_is(json_at_str(spec, "os.name"), "windows") && !str_is(signal, "SIGTERM") &&
		 !str_is(signal, "SIGKILL"))
		field_not_supported(e, path, signal, (const char *const[]){ "SIGKILL", "SIGTERM", NULL });
}

void hooks_probes_validate(const struct json *container, const struct json *spec, const struct field_path *path,
			   struct field_errors *e)
{
	const struct json *lifecycle = json_get(container, "lifecycle");
	const struct field_path *at = FIELD(path, "lifecycle");
	int64_t grace = json_get_int(spec, "terminationGracePeriodSeconds", 30);

	validate_stop_signal(json_get_str(lifecycle, "stopSignal"), spec, FIELD(at, "stopSignal"), e);
	if (json_get(lifecycle, "postStart"))
		validate_handler(json_get(lifecycle, "postStart"), true, grace, FIELD(at, "postStart"), e);
	if (json_get(lifecycle, "preStop"))
		validate_handler(json_get(lifecycle, "preStop"), true, grace, FIELD(at, "preStop"), e);
	validate_probe(json_get(container, "livenessProbe"), false, grace, FIELD(path, "livenessProbe"), e);
	validate_probe(json_get(container, "readinessProbe"), true, grace, FIELD(path, "readinessProbe"), e);
	validate_probe(json_get(container, "startupProbe"), false, grace, FIELD(path, "startupProbe"), e);
}
