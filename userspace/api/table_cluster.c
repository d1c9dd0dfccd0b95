/* SPDX-License-Identifier: Apache-2.0 */
/* How nodes, namespaces, configuration, events, access rules and the API's own objects are shown. Any thread. */
#include <stdlib.h>
#include <string.h>

#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

/* ---- Node ---- */

#define NODE_ROLES_MAX 16

static int by_str(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void node_roles(struct table_cells *c, const struct json *o)
{
	const struct str prefix = STR("node-role.kubernetes.io/");
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str roles[NODE_ROLES_MAX];
	size_t n = 0;

	json_foreach(l, json_get(meta_of(o), "labels")) {
		struct str role = STR("");

		if (str_starts(l->key, prefix))
			role = str_make(l->key.p + prefix.n, l->key.n - prefix.n);
		else if (str_is(l->key, "kubernetes.io/role"))
			role = json_str(l);
		if (role.n && n < NODE_ROLES_MAX)
			roles[n++] = role;
	}
	qsort(roles, n, sizeof(roles[0]), by_str);
	for (size_t i = 0; i < n; i++)
		if (!i || !str_eq(roles[i], roles[i - 1]))
			table_join(&text, roles[i], ",");
	cell_or(c, buf_str(&text), "<none>");
}

static void node_address(struct table_cells *c, const struct json *o, const char *type)
{
	json_foreach(a, json_at(o, "status.addresses"))
		if (str_is(json_get_str(a, "type"), type)) {
			cell_str(c, json_get_str(a, "address"));
			return;
		}
	cell_cstr(c, "<none>");
}

static void node_cells(struct table_cells *c, const struct json *o)
{
	const struct json *ready = meta_condition(json_at(o, "status.conditions"), "Ready");
	const char *status = !ready ? "Unknown" : str_is(json_get_str(ready, "status"), "True") ? "Ready" : "NotReady";

	cell_name(c, o);
	cell_printf(c, "%s%s", status, json_at_bool(o, "spec.unschedulable", false) ? ",SchedulingDisabled" : "");
	node_roles(c, o);
	cell_age(c, o);
	cell_str(c, json_at_str(o, "status.nodeInfo.kubeletVersion"));
	node_address(c, o, "InternalIP");
	node_address(c, o, "ExternalIP");
	cell_or(c, json_at_str(o, "status.nodeInfo.osImage"), "<unknown>");
	cell_or(c, json_at_str(o, "status.nodeInfo.kernelVersion"), "<unknown>");
	cell_or(c, json_at_str(o, "status.nodeInfo.containerRuntimeVersion"), "<unknown>");
}

static const struct table_column node_columns[] = {
	COLUMN_NAME,
	{ "Status", "string", 0, "Whether the node takes pods." },
	{ "Roles", "string", 0, "Roles, from its labels." },
	COLUMN_AGE,
	{ "Version", "string", 0, "The kubelet's version." },
	{ "Internal-IP", "string", 1, "Its address inside." },
	{ "External-IP", "string", 1, "Its address from outside." },
	{ "OS-Image", "string", 1, "The operating system." },
	{ "Kernel-Version", "string", 1, "The kernel." },
	{ "Container-Runtime", "string", 1, "What runs containers." },
};

/* ---- Namespace, ConfigMap, Secret, ServiceAccount ---- */

static void namespace_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_at_str(o, "status.phase"));
	cell_age(c, o);
}

static const struct table_column namespace_columns[] = {
	COLUMN_NAME,
	{ "Status", "string", 0, "Active, or being emptied." },
	COLUMN_AGE,
};

static void configmap_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, (int64_t)(json_count(json_get(o, "data")) + json_count(json_get(o, "binaryData"))));
	cell_age(c, o);
}

static const struct table_column configmap_columns[] = {
	COLUMN_NAME,
	{ "Data", "string", 0, "How many keys it has." },
	COLUMN_AGE,
};

static void secret_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_get_str(o, "type"));
	cell_int(c, (int64_t)json_count(json_get(o, "data")));
	cell_age(c, o);
}

static const struct table_column secret_columns[] = {
	COLUMN_NAME,
	{ "Type", "string", 0, "What the secret is for." },
	{ "Data", "string", 0, "How many keys it has." },
	COLUMN_AGE,
};

static void serviceaccount_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, (int64_t)json_count(json_get(o, "secrets")));
	cell_age(c, o);
}

static const struct table_column serviceaccount_columns[] = {
	COLUMN_NAME,
	{ "Secrets", "string", 0, "How many secrets it names." },
	COLUMN_AGE,
};

/* ---- Event (core and events.k8s.io) ---- */

static const struct json *either(const struct json *o, const char *a, const char *b)
{
	const struct json *v = json_get(o, a);

	return v && v->type != JSON_NULL ? v : json_get(o, b);
}

static void event_cells(struct table_cells *c, const struct json *o)
{
	const struct json *about = either(o, "involvedObject", "regarding"), *series = json_get(o, "series"),
			  *first = either(o, "firstTimestamp", "deprecatedFirstTimestamp"),
			  *last = either(o, "lastTimestamp", "deprecatedLastTimestamp"),
			  *source = either(o, "source", "deprecatedSource");
	struct str kind = json_get_str(about, "kind"), name = json_get_str(about, "name"),
		   component = json_get_str(source, "component"), host = json_get_str(source, "host");
	int64_t count = json_int(either(o, "count", "deprecatedCount"), 0);
	char *lower = arena_strndup(c->arena, kind.p ? kind.p : "", kind.n);

	for (char *p = lower; *p; p++)
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	if (!meta_time_ns(first))
		first = json_get(o, "eventTime");
	if (!meta_time_ns(last))
		last = first;
	if (json_is(series, JSON_OBJECT)) {
		last = json_get(series, "lastObservedTime");
		count = json_get_int(series, "count", 0);
	} else if (!count) {
		count = 1;
	}
	if (!component.n) {
		component = json_str(either(o, "reportingComponent", "reportingController"));
		host = json_get_str(o, "reportingInstance");
	}
	cell_since(c, last);
	cell_str(c, json_get_str(o, "type"));
	cell_str(c, json_get_str(o, "reason"));
	cell_printf(c, "%s%s%.*s", lower, name.n ? "/" : "", STR_ARG(name));
	cell_str(c, json_get_str(about, "fieldPath"));
	cell_printf(c, "%.*s%s%.*s", STR_ARG(component), host.n ? ", " : "", STR_ARG(host));
	cell_str(c, str_trim(json_str(either(o, "message", "note"))));
	cell_since(c, first);
	cell_int(c, count);
	cell_name(c, o);
}

static const struct table_column event_columns[] = {
	{ "Last Seen", "string", 0, "Time since it happened last." },
	{ "Type", "string", 0, "Normal or Warning." },
	{ "Reason", "string", 0, "Why, in one word." },
	{ "Object", "string", 0, "What it is about." },
	{ "Subobject", "string", 1, "What part of that." },
	{ "Source", "string", 1, "Who tells it." },
	{ "Message", "string", 0, "What happened." },
	{ "First Seen", "string", 1, "Time since it happened first." },
	{ "Count", "string", 1, "How often it happened." },
	{ "Name", "string", 1, "The event's name." },
};

/* ---- quotas, limits, priorities, runtimes, leases ---- */

static void quota_part(struct table_cells *c, const struct json *o, bool limits)
{
	const struct json *hard = json_at(o, "status.hard"), *used = json_at(o, "status.used");
	size_t n = json_count(hard), i = 0;
	struct str *names = arena_new_array(c->arena, struct str, n + 1);
	_cleanup_buf_ struct buf text = BUF_INIT;

	json_foreach(h, hard)
		names[i++] = h->key;
	qsort(names, n, sizeof(*names), by_str);
	for (i = 0; i < n; i++) {
		if (str_starts(names[i], STR("limits.")) != limits)
			continue;
		table_join(&text, names[i], ", ");
		buf_printf(&text, ": %.*s/%.*s", STR_ARG(json_str(json_get_n(used, names[i]))),
			   STR_ARG(json_str(json_get_n(hard, names[i]))));
	}
	cell_str(c, buf_str(&text));
}

static void quota_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	quota_part(c, o, false);
	quota_part(c, o, true);
	cell_age(c, o);
}

static const struct table_column quota_columns[] = {
	COLUMN_NAME,
	{ "Request", "string", 0, "Requests used, and the most." },
	{ "Limit", "string", 0, "Limits used, and the most." },
	COLUMN_AGE,
};

static void created_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_get_str(meta_of(o), "creationTimestamp"));
}

static const struct table_column created_columns[] = {
	COLUMN_NAME,
	{ "Created At", "string", 0, "When it was made." },
};

static void priority_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, json_get_int(o, "value", 0));
	cell_bool(c, json_get_bool(o, "globalDefault", false));
	cell_age(c, o);
	cell_or(c, json_get_str(o, "preemptionPolicy"), "<none>");
}

static const struct table_column priority_columns[] = {
	COLUMN_NAME,
	{ "Value", "integer", 0, "The priority." },
	{ "Global-Default", "boolean", 0, "Whether pods without a class get it." },
	COLUMN_AGE,
	{ "PreemptionPolicy", "string", 0, "Whether its pods push others out." },
};

static void runtime_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_get_str(o, "handler"));
	cell_age(c, o);
}

static const struct table_column runtime_columns[] = {
	COLUMN_NAME,
	{ "Handler", "string", 0, "The runtime's configuration." },
	COLUMN_AGE,
};

static void lease_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.holderIdentity"));
	cell_age(c, o);
}

static const struct table_column lease_columns[] = {
	COLUMN_NAME,
	{ "Holder", "string", 0, "Who holds it." },
	COLUMN_AGE,
};

/* ---- access ---- */

static void subjects(struct table_cells *c, const struct json *o, const char *kind)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	json_foreach(s, json_get(o, "subjects")) {
		struct str ns = json_get_str(s, "namespace");

		if (!str_is(json_get_str(s, "kind"), kind))
			continue;
		table_join(&text, STR(""), ", ");
		if (!strcmp(kind, "ServiceAccount"))
			buf_printf(&text, "%.*s/", STR_ARG(ns));
		buf_add_str(&text, json_get_str(s, "name"));
	}
	cell_str(c, buf_str(&text));
}

static void binding_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_printf(c, "%.*s/%.*s", STR_ARG(json_at_str(o, "roleRef.kind")), STR_ARG(json_at_str(o, "roleRef.name")));
	cell_age(c, o);
	subjects(c, o, "User");
	subjects(c, o, "Group");
	subjects(c, o, "ServiceAccount");
}

static const struct table_column binding_columns[] = {
	COLUMN_NAME,
	{ "Role", "string", 0, "The role that is given." },
	COLUMN_AGE,
	{ "Users", "string", 1, "Users who get it." },
	{ "Groups", "string", 1, "Groups that get it." },
	{ "ServiceAccounts", "string", 1, "Service accounts that get it." },
};

static void csr_cells(struct table_cells *c, const struct json *o)
{
	const struct json *expiry = json_at(o, "spec.expirationSeconds"), *conditions = json_at(o, "status.conditions");
	const char *state = "Pending";
	char duration[TABLE_DURATION_MAX];

	if (meta_condition(conditions, "Denied"))
		state = "Denied";
	else if (meta_condition(conditions, "Approved"))
		state = "Approved";
	cell_name(c, o);
	cell_age(c, o);
	cell_or(c, json_at_str(o, "spec.signerName"), "<none>");
	cell_str(c, json_at_str(o, "spec.username"));
	if (expiry) {
		table_duration(json_int(expiry, 0) * 1000000000LL, duration);
		cell_cstr(c, duration);
	} else {
		cell_cstr(c, "<none>");
	}
	cell_printf(c, "%s%s%s", state, meta_condition(conditions, "Failed") ? ",Failed" : "",
		    json_at_str(o, "status.certificate").n ? ",Issued" : "");
}

static const struct table_column csr_columns[] = {
	COLUMN_NAME,
	COLUMN_AGE,
	{ "SignerName", "string", 0, "Who is asked to sign." },
	{ "Requestor", "string", 0, "Who asked." },
	{ "RequestedDuration", "string", 0, "How long it should be good." },
	{ "Condition", "string", 0, "How far it is." },
};

/* ---- admission ---- */

static void webhooks_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, (int64_t)json_count(json_get(o, "webhooks")));
	cell_age(c, o);
}

static const struct table_column webhooks_columns[] = {
	COLUMN_NAME,
	{ "Webhooks", "integer", 0, "How many it has." },
	COLUMN_AGE,
};

static void policy_cells(struct table_cells *c, const struct json *o, const char *rules)
{
	const struct json *p = json_at(o, "spec.paramKind");

	cell_name(c, o);
	cell_int(c, (int64_t)json_count(json_at(o, rules)));
	if (p)
		cell_printf(c, "%.*s/%.*s", STR_ARG(json_get_str(p, "apiVersion")), STR_ARG(json_get_str(p, "kind")));
	else
		cell_cstr(c, "<unset>");
	cell_age(c, o);
}

static void vap_cells(struct table_cells *c, const struct json *o)
{
	policy_cells(c, o, "spec.validations");
}

static void map_cells(struct table_cells *c, const struct json *o)
{
	policy_cells(c, o, "spec.mutations");
}

static const struct table_column map_columns[] = {
	COLUMN_NAME,
	{ "Mutations", "integer", 0, "How many changes it makes." },
	{ "ParamKind", "string", 0, "The kind of its parameters." },
	COLUMN_AGE,
};

static const struct table_column vap_columns[] = {
	COLUMN_NAME,
	{ "Validations", "integer", 0, "How many rules it has." },
	{ "ParamKind", "string", 0, "The kind of its parameters." },
	COLUMN_AGE,
};

static void vapb_cells(struct table_cells *c, const struct json *o)
{
	const struct json *p = json_at(o, "spec.paramRef");
	struct str ns = json_get_str(p, "namespace");

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.policyName"));
	if (p)
		cell_printf(c, "%.*s%s%.*s", STR_ARG(ns), ns.n ? "/" : "", STR_ARG(json_get_str(p, "name")));
	else
		cell_cstr(c, "<unset>");
	cell_age(c, o);
}

static const struct table_column vapb_columns[] = {
	COLUMN_NAME,
	{ "PolicyName", "string", 0, "The policy." },
	{ "ParamRef", "string", 0, "Its parameters." },
	COLUMN_AGE,
};

static void component_cells(struct table_cells *c, const struct json *o)
{
	const struct json *healthy = meta_condition(json_get(o, "conditions"), "Healthy");
	struct str status = json_get_str(healthy, "status");

	cell_name(c, o);
	cell_cstr(c, str_is(status, "True") ? "Healthy" : str_is(status, "False") ? "Unhealthy" : "Unknown");
	cell_str(c, json_get_str(healthy, "message"));
	cell_str(c, json_get_str(healthy, "error"));
}

static const struct table_column component_columns[] = {
	COLUMN_NAME,
	{ "Status", "string", 0, "Whether it is well." },
	{ "Message", "string", 0, "What it says." },
	{ "Error", "string", 0, "What went wrong." },
};

#define PRINTER(group, plural, name)                                                                                   \
	{                                                                                                              \
		group, plural, name##_columns, ARRAY_SIZE(name##_columns), name##_cells, NULL                          \
	}
#define RBAC "rbac.authorization.k8s.io"
#define ADMISSION "admissionregistration.k8s.io"

static const struct table_printer items[] = {
	PRINTER("", "nodes", node),
	PRINTER("", "namespaces", namespace),
	PRINTER("", "configmaps", configmap),
	PRINTER("", "secrets", secret),
	PRINTER("", "serviceaccounts", serviceaccount),
	PRINTER("", "events", event),
	PRINTER("events.k8s.io", "events", event),
	PRINTER("", "resourcequotas", quota),
	PRINTER("", "limitranges", created),
	PRINTER("", "componentstatuses", component),
	PRINTER("scheduling.k8s.io", "priorityclasses", priority),
	PRINTER("node.k8s.io", "runtimeclasses", runtime),
	PRINTER("coordination.k8s.io", "leases", lease),
	PRINTER(RBAC, "roles", created),
	PRINTER(RBAC, "clusterroles", created),
	PRINTER(RBAC, "rolebindings", binding),
	PRINTER(RBAC, "clusterrolebindings", binding),
	PRINTER("certificates.k8s.io", "certificatesigningrequests", csr),
	PRINTER(ADMISSION, "mutatingwebhookconfigurations", webhooks),
	PRINTER(ADMISSION, "validatingwebhookconfigurations", webhooks),
	PRINTER(ADMISSION, "validatingadmissionpolicies", vap),
	PRINTER(ADMISSION, "validatingadmissionpolicybindings", vapb),
	PRINTER(ADMISSION, "mutatingadmissionpolicies", map),
	PRINTER(ADMISSION, "mutatingadmissionpolicybindings", vapb),
};

const struct table_printers table_printers_cluster = { items, ARRAY_SIZE(items) };
