/* SPDX-License-Identifier: Apache-2.0 */
/* How deployments, replica sets, daemon sets, stateful sets, jobs and what scales them are shown. Any thread. */
#include <strings.h>

#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

#define COLUMN_CONTAINERS                                                                                              \
	{                                                                                                              \
		"Containers", "string", 1, "Names of the containers in the template."                                  \
	}
#define COLUMN_IMAGES                                                                                                  \
	{                                                                                                              \
		"Images", "string", 1, "Images of the containers in the template."                                     \
	}
#define COLUMN_SELECTOR                                                                                                \
	{                                                                                                              \
		"Selector", "string", 1, "What pods belong to it."                                                     \
	}

static int64_t spec_int(const struct json *o, const char *key)
{
	return json_get_int(json_get(o, "spec"), key, 0);
}

static int64_t status_int(const struct json *o, const char *key)
{
	return json_get_int(json_get(o, "status"), key, 0);
}

/* ---- Deployment ---- */

static void deployment_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_printf(c, "%lld/%lld", (long long)status_int(o, "readyReplicas"), (long long)spec_int(o, "replicas"));
	cell_int(c, status_int(o, "updatedReplicas"));
	cell_int(c, status_int(o, "availableReplicas"));
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.template.spec"));
	cell_selector(c, json_at(o, "spec.selector"));
}

static const struct table_column deployment_columns[] = {
	COLUMN_NAME,
	{ "Ready", "string", 0, "Pods that are ready, of those wanted." },
	{ "Up-to-date", "string", 0, "Pods of the newest template." },
	{ "Available", "string", 0, "Pods ready for at least minReadySeconds." },
	COLUMN_AGE,
	COLUMN_CONTAINERS,
	COLUMN_IMAGES,
	COLUMN_SELECTOR,
};

/* ---- ReplicaSet, ReplicationController ---- */

static void replicas_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, spec_int(o, "replicas"));
	cell_int(c, status_int(o, "replicas"));
	cell_int(c, status_int(o, "readyReplicas"));
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.template.spec"));
}

static void replicaset_cells(struct table_cells *c, const struct json *o)
{
	replicas_cells(c, o);
	cell_selector(c, json_at(o, "spec.selector"));
}

static void rc_cells(struct table_cells *c, const struct json *o)
{
	replicas_cells(c, o);
	cell_labels(c, json_at(o, "spec.selector"));
}

static const struct table_column replicas_columns[] = {
	COLUMN_NAME,
	{ "Desired", "integer", 0, "Pods wanted." },
	{ "Current", "integer", 0, "Pods that are there." },
	{ "Ready", "integer", 0, "Pods that are ready." },
	COLUMN_AGE,
	COLUMN_CONTAINERS,
	COLUMN_IMAGES,
	COLUMN_SELECTOR,
};

/* ---- DaemonSet ---- */

static void daemonset_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, status_int(o, "desiredNumberScheduled"));
	cell_int(c, status_int(o, "currentNumberScheduled"));
	cell_int(c, status_int(o, "numberReady"));
	cell_int(c, status_int(o, "updatedNumberScheduled"));
	cell_int(c, status_int(o, "numberAvailable"));
	cell_labels(c, json_at(o, "spec.template.spec.nodeSelector"));
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.template.spec"));
	cell_selector(c, json_at(o, "spec.selector"));
}

static const struct table_column daemonset_columns[] = {
	COLUMN_NAME,
	{ "Desired", "integer", 0, "Nodes that should run the pod." },
	{ "Current", "integer", 0, "Nodes that run the pod." },
	{ "Ready", "integer", 0, "Nodes whose pod is ready." },
	{ "Up-to-date", "integer", 0, "Nodes whose pod is of the newest template." },
	{ "Available", "integer", 0, "Nodes whose pod has been ready for at least minReadySeconds." },
	{ "Node Selector", "string", 0, "What nodes are meant." },
	COLUMN_AGE,
	COLUMN_CONTAINERS,
	COLUMN_IMAGES,
	COLUMN_SELECTOR,
};

/* ---- StatefulSet ---- */

static void statefulset_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_printf(c, "%lld/%lld", (long long)status_int(o, "readyReplicas"), (long long)spec_int(o, "replicas"));
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.template.spec"));
}

static const struct table_column statefulset_columns[] = {
	COLUMN_NAME,   { "Ready", "string", 0, "Pods that are ready, of those wanted." }, COLUMN_AGE, COLUMN_CONTAINERS,
	COLUMN_IMAGES,
};

/* ---- Job, CronJob ---- */

static const char *job_status(const struct json *o)
{
	static const char *const before[] = { "Complete", "Failed" }, *const after[] = { "Suspended", "FailureTarget",
											 "SuccessCriteriaMet" };
	const struct json *conditions = json_at(o, "status.conditions");

	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		if (meta_condition_is(conditions, before[i], "True"))
			return before[i];
	if (meta_deleting(o))
		return "Terminating";
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		if (meta_condition_is(conditions, after[i], "True"))
			return after[i];
	return "Running";
}

static void job_cells(struct table_cells *c, const struct json *o)
{
	const struct json *completions = json_at(o, "spec.completions");
	int64_t start = meta_time_ns(json_at(o, "status.startTime")),
		end = meta_time_ns(json_at(o, "status.completionTime"));
	long long done = (long long)status_int(o, "succeeded"), parallel = (long long)spec_int(o, "parallelism");
	char duration[TABLE_DURATION_MAX] = "";

	cell_name(c, o);
	cell_cstr(c, job_status(o));
	if (completions)
		cell_printf(c, "%lld/%lld", done, (long long)json_int(completions, 0));
	else if (parallel > 1)
		cell_printf(c, "%lld/1 of %lld", done, parallel);
	else
		cell_printf(c, "%lld/1", done);
	if (start)
		table_duration((end ? end : c->now_real_ns) - start, duration);
	cell_cstr(c, duration);
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.template.spec"));
	cell_selector(c, json_at(o, "spec.selector"));
}

static const struct table_column job_columns[] = {
	COLUMN_NAME,
	{ "Status", "string", 0, "How far the job is." },
	{ "Completions", "string", 0, "Pods that ended well, of those wanted." },
	{ "Duration", "string", 0, "How long it ran." },
	COLUMN_AGE,
	COLUMN_CONTAINERS,
	COLUMN_IMAGES,
	COLUMN_SELECTOR,
};

static void cronjob_cells(struct table_cells *c, const struct json *o)
{
	const struct json *last = json_at(o, "status.lastScheduleTime");

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.schedule"));
	cell_or(c, json_at_str(o, "spec.timeZone"), "<none>");
	cell_cstr(c, json_at_bool(o, "spec.suspend", false) ? "True" : "False");
	cell_int(c, (int64_t)json_count(json_at(o, "status.active")));
	if (last)
		cell_since(c, last);
	else
		cell_cstr(c, "<none>");
	cell_age(c, o);
	cell_containers(c, json_at(o, "spec.jobTemplate.spec.template.spec"));
	cell_selector(c, json_at(o, "spec.jobTemplate.spec.selector"));
}

static const struct table_column cronjob_columns[] = {
	COLUMN_NAME,
	{ "Schedule", "string", 0, "When jobs are made." },
	{ "Timezone", "string", 0, "The schedule's time zone." },
	{ "Suspend", "boolean", 0, "No more jobs are made while this is true." },
	{ "Active", "integer", 0, "Jobs that run." },
	{ "Last Schedule", "string", 0, "Time since a job was made." },
	COLUMN_AGE,
	COLUMN_CONTAINERS,
	COLUMN_IMAGES,
	COLUMN_SELECTOR,
};

/* ---- HorizontalPodAutoscaler ---- */

/* "80%", "500m" or "<unknown>" of a target or a current value. */
static struct str metric_value(struct arena *arena, const struct json *v)
{
	const struct json *percent = json_get(v, "averageUtilization");
	struct str average = json_get_str(v, "averageValue"), value = json_get_str(v, "value");

	if (percent)
		return str_of(arena_printf(arena, "%lld%%", (long long)json_int(percent, 0)));
	return average.n ? average : value.n ? value : STR("<unknown>");
}

static void hpa_targets(struct table_cells *c, const struct json *o)
{
	static const char *const keys[] = { "resource", "containerResource", "pods", "object", "external" };
	_cleanup_buf_ struct buf text = BUF_INIT;
	const struct json *current = json_first(json_at(o, "status.currentMetrics"));

	json_foreach(m, json_at(o, "spec.metrics")) {
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
			const struct json *source = json_get(m, keys[i]),
					  *now = json_get(json_get(current, keys[i]), "current");
			struct str name = json_get_str(source, "name");

			if (!source)
				continue;
			table_join(&text, STR(""), ", ");
			if (name.n)
				buf_printf(&text, "%.*s: ", STR_ARG(name));
			buf_add_str(&text, metric_value(c->arena, now));
			buf_add_char(&text, '/');
			buf_add_str(&text, metric_value(c->arena, json_get(source, "target")));
		}
		current = current ? current->next : NULL;
	}
	cell_or(c, buf_str(&text), "<none>");
}

static void hpa_cells(struct table_cells *c, const struct json *o)
{
	const struct json *min = json_at(o, "spec.minReplicas");

	cell_name(c, o);
	cell_printf(c, "%.*s/%.*s", STR_ARG(json_at_str(o, "spec.scaleTargetRef.kind")),
		    STR_ARG(json_at_str(o, "spec.scaleTargetRef.name")));
	hpa_targets(c, o);
	if (min)
		cell_printf(c, "%lld", (long long)json_int(min, 0));
	else
		cell_cstr(c, "<unset>");
	cell_int(c, spec_int(o, "maxReplicas"));
	cell_int(c, status_int(o, "currentReplicas"));
	cell_age(c, o);
}

static const struct table_column hpa_columns[] = {
	COLUMN_NAME,
	{ "Reference", "string", 0, "What is scaled." },
	{ "Targets", "string", 0, "Metrics now, and where they should be." },
	{ "MinPods", "string", 0, "The fewest pods." },
	{ "MaxPods", "string", 0, "The most pods." },
	{ "Replicas", "string", 0, "Pods that are there." },
	COLUMN_AGE,
};

/* ---- PodDisruptionBudget, ControllerRevision ---- */

static void int_or_percent(struct table_cells *c, const struct json *v)
{
	if (json_is(v, JSON_STRING) || json_is(v, JSON_NUMBER))
		cell_str(c, v->text);
	else
		cell_cstr(c, "N/A");
}

static void pdb_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	int_or_percent(c, json_at(o, "spec.minAvailable"));
	int_or_percent(c, json_at(o, "spec.maxUnavailable"));
	cell_int(c, status_int(o, "disruptionsAllowed"));
	cell_age(c, o);
}

static const struct table_column pdb_columns[] = {
	COLUMN_NAME,
	{ "Min Available", "string", 0, "Pods that must stay." },
	{ "Max Unavailable", "string", 0, "Pods that may be missing." },
	{ "Allowed Disruptions", "integer", 0, "Pods that may go now." },
	COLUMN_AGE,
};

static void revision_cells(struct table_cells *c, const struct json *o)
{
	const struct json *owner = meta_controller(o);
	struct str group, version, kind = json_get_str(owner, "kind");

	cell_name(c, o);
	if (owner && api_parse_api_version(json_get_str(owner, "apiVersion"), &group, &version) == 0) {
		char *lower = arena_strndup(c->arena, kind.p, kind.n);

		for (char *p = lower; *p; p++)
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
		cell_printf(c, "%s%s%.*s/%.*s", lower, group.n ? "." : "", STR_ARG(group),
			    STR_ARG(json_get_str(owner, "name")));
	} else {
		cell_cstr(c, "<none>");
	}
	cell_int(c, json_get_int(o, "revision", 0));
	cell_age(c, o);
}

static const struct table_column revision_columns[] = {
	COLUMN_NAME,
	{ "Controller", "string", 0, "Whose revision it is." },
	{ "Revision", "string", 0, "Its number." },
	COLUMN_AGE,
};

#define PRINTER(group, plural, name)                                                                                   \
	{                                                                                                              \
		group, plural, name##_columns, ARRAY_SIZE(name##_columns), name##_cells, NULL                          \
	}

static const struct table_printer items[] = {
	PRINTER("apps", "deployments", deployment),
	{ "apps", "replicasets", replicas_columns, ARRAY_SIZE(replicas_columns), replicaset_cells, NULL },
	{ "", "replicationcontrollers", replicas_columns, ARRAY_SIZE(replicas_columns), rc_cells, NULL },
	PRINTER("apps", "daemonsets", daemonset),
	PRINTER("apps", "statefulsets", statefulset),
	PRINTER("apps", "controllerrevisions", revision),
	PRINTER("batch", "jobs", job),
	PRINTER("batch", "cronjobs", cronjob),
	PRINTER("autoscaling", "horizontalpodautoscalers", hpa),
	PRINTER("policy", "poddisruptionbudgets", pdb),
};

const struct table_printers table_printers_workloads = { items, ARRAY_SIZE(items) };
