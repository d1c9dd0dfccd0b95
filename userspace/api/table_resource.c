/* SPDX-License-Identifier: Apache-2.0 */
/* How dynamic resources, APIServices and the objects of flow control are shown. Any thread. */
#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

/* ---- resource.k8s.io ---- */

static void claim_cells(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf state = BUF_INIT;
	bool allocated = json_at(o, "status.allocation") != NULL;

	if (meta_deleting(o))
		table_join(&state, STR("deleted"), ",");
	if (allocated)
		table_join(&state, STR("allocated"), ",");
	else if (!meta_deleting(o))
		table_join(&state, STR("pending"), ",");
	if (allocated && json_count(json_at(o, "status.reservedFor")))
		table_join(&state, STR("reserved"), ",");
	cell_name(c, o);
	cell_str(c, buf_str(&state));
	cell_age(c, o);
}

static const struct table_column claim_columns[] = {
	COLUMN_NAME,
	{ "State", "string", 0, "How far the claim is." },
	COLUMN_AGE,
};

static void slice_cells(struct table_cells *c, const struct json *o)
{
	struct str node = json_at_str(o, "spec.nodeName");

	cell_name(c, o);
	cell_or(c, node, json_at_bool(o, "spec.allNodes", false) ? "<all>" : "<unset>");
	cell_str(c, json_at_str(o, "spec.driver"));
	cell_str(c, json_at_str(o, "spec.pool.name"));
	cell_age(c, o);
}

static const struct table_column slice_columns[] = {
	COLUMN_NAME,
	{ "Node", "string", 0, "Where the devices are." },
	{ "Driver", "string", 0, "Whose devices they are." },
	{ "Pool", "string", 0, "The pool they belong to." },
	COLUMN_AGE,
};

/* ---- apiregistration.k8s.io ---- */

static void apiservice_cells(struct table_cells *c, const struct json *o)
{
	const struct json *service = json_at(o, "spec.service"),
			  *available = meta_condition(json_at(o, "status.conditions"), "Available");
	struct str status = json_get_str(available, "status");

	cell_name(c, o);
	if (service)
		cell_printf(c, "%.*s/%.*s", STR_ARG(json_get_str(service, "namespace")),
			    STR_ARG(json_get_str(service, "name")));
	else
		cell_cstr(c, "Local");
	if (!available)
		cell_cstr(c, "Unknown");
	else if (str_is(status, "True"))
		cell_str(c, status);
	else
		cell_printf(c, "%.*s (%.*s)", STR_ARG(status), STR_ARG(json_get_str(available, "reason")));
	cell_age(c, o);
}

static const struct table_column apiservice_columns[] = {
	COLUMN_NAME,
	{ "Service", "string", 0, "Who serves it." },
	{ "Available", "string", 0, "Whether it is served." },
	COLUMN_AGE,
};

/* ---- flowcontrol.apiserver.k8s.io ---- */

static void flow_cells(struct table_cells *c, const struct json *o)
{
	const struct json *dangling = meta_condition(json_at(o, "status.conditions"), "Dangling");

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.priorityLevelConfiguration.name"));
	cell_int(c, json_at_int(o, "spec.matchingPrecedence", 0));
	cell_or(c, json_at_str(o, "spec.distinguisherMethod.type"), "<none>");
	cell_age(c, o);
	cell_or(c, json_get_str(dangling, "status"), "?");
}

static const struct table_column flow_columns[] = {
	COLUMN_NAME,
	{ "PriorityLevel", "string", 0, "The priority level of its requests." },
	{ "MatchingPrecedence", "string", 0, "The order among schemas: lowest first." },
	{ "DistinguisherMethod", "string", 0, "What makes flows of its requests." },
	COLUMN_AGE,
	{ "MissingPL", "string", 0, "Whether the priority level is not there." },
};

/* A number, or "<none>". */
static void optional_int(struct table_cells *c, const struct json *v)
{
	if (json_is(v, JSON_NUMBER))
		cell_int(c, json_int(v, 0));
	else
		cell_cstr(c, "<none>");
}

static void level_cells(struct table_cells *c, const struct json *o)
{
	const struct json *limited = json_at(o, "spec.limited"), *queuing = json_at(limited, "limitResponse.queuing"),
			  *exempt = json_at(o, "spec.exempt");
	static const char *const keys[] = { "queues", "handSize", "queueLengthLimit" };

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.type"));
	optional_int(c, json_get(limited ? limited : exempt, "nominalConcurrencyShares"));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		optional_int(c, json_get(queuing, keys[i]));
	cell_age(c, o);
}

static const struct table_column level_columns[] = {
	COLUMN_NAME,
	{ "Type", "string", 0, "Limited, or exempt from limits." },
	{ "NominalConcurrencyShares", "string", 0, "Its share of what may run at once." },
	{ "Queues", "string", 0, "How many queues it has." },
	{ "HandSize", "string", 0, "Of how many queues a flow has the choice." },
	{ "QueueLengthLimit", "string", 0, "How many requests wait in a queue." },
	COLUMN_AGE,
};

#define PRINTER(group, plural, name)                                                                                   \
	{                                                                                                              \
		group, plural, name##_columns, ARRAY_SIZE(name##_columns), name##_cells, NULL                          \
	}

static const struct table_printer items[] = {
	PRINTER("resource.k8s.io", "resourceclaims", claim),
	PRINTER("resource.k8s.io", "resourceslices", slice),
	PRINTER("apiregistration.k8s.io", "apiservices", apiservice),
	PRINTER("flowcontrol.apiserver.k8s.io", "flowschemas", flow),
	PRINTER("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", level),
};

const struct table_printers table_printers_resources = { items, ARRAY_SIZE(items) };
