/* SPDX-License-Identifier: Apache-2.0 */
/* Bad objects of many kinds and the whole message that upstream gives for them. Objects are written without metadata:
 * the name is x. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/cron.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

struct rule {
	const char *api_version, *kind;
	const char *object; /* without metadata and the braces around */
	const char *want;   /* after `is invalid: ` */
};

#define C "{'name':'c','image':'i'}"
#define POD(rest) "'spec':{'containers':[" C "]," rest "}"
#define CONTAINER(rest) "'spec':{'containers':[{'name':'c','image':'i'," rest "}]}"
#define TEMPLATE "'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[" C "]}}"
#define SELECTOR "'selector':{'matchLabels':{'a':'b'}}"
#define JOB_TEMPLATE "'template':{'spec':{'restartPolicy':'Never','containers':[" C "]}}"
#define LABEL_RULE                                                                                                     \
	"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "    \
	"end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "             \
	"'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"

/* clang-format off */
static const struct rule RULES[] = {
	/* ---- pods ---- */
	{ "v1", "Pod", "'spec':{}", "spec.containers: Required value" },
	{ "v1", "Pod", CONTAINER("'imagePullPolicy':'Often'"),
	  "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"" },
	{ "v1", "Pod", "'spec':{'containers':[{'name':'C','image':'i'}]}",
	  "spec.containers[0].name: Invalid value: \"C\": " LABEL_RULE },
	{ "v1", "Pod", "'spec':{'containers':[" C "," C "]}", "spec.containers[1].name: Duplicate value: \"c\"" },
	{ "v1", "Pod", CONTAINER("'ports':[{'containerPort':0}]"), "spec.containers[0].ports[0].containerPort: Required value" },
	{ "v1", "Pod", CONTAINER("'ports':[{'containerPort':70000}]"),
	  "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive" },
	{ "v1", "Pod", CONTAINER("'volumeMounts':[{'name':'v','mountPath':'/v'}]"),
	  "spec.containers[0].volumeMounts[0].name: Not found: \"v\"" },
	{ "v1", "Pod", POD("'volumes':[{'name':'v','configMap':{}}]"), "spec.volumes[0].configMap.name: Required value" },
	{ "v1", "Pod", POD("'volumes':[{'name':'v','emptyDir':{},'hostPath':{'path':'/'}}]"),
	  "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type" },
	{ "v1", "Pod", POD("'volumes':[{'name':'v','hostPath':{'path':'/a/../b'}}]"),
	  "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'" },
	{ "v1", "Pod", POD("'volumes':[{'name':'v','emptyDir':{}},{'name':'v','emptyDir':{}}]"),
	  "spec.volumes[1].name: Duplicate value: \"v\"" },
	{ "v1", "Pod", CONTAINER("'livenessProbe':{}"),
	  "spec.containers[0].livenessProbe: Required value: must specify a handler type" },
	{ "v1", "Pod", CONTAINER("'livenessProbe':{'tcpSocket':{'port':80},'successThreshold':2}"),
	  "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1" },
	{ "v1", "Pod", CONTAINER("'lifecycle':{'preStop':{}}"),
	  "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type" },
	{ "v1", "Pod", CONTAINER("'resources':{'limits':{'cpu':'1'},'requests':{'cpu':'2'}}"),
	  "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1" },
	{ "v1", "Pod", CONTAINER("'resources':{'limits':{'cpu':'-1'}}"), "[spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0, spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0]" },
	{ "v1", "Pod", CONTAINER("'env':[{'name':'A','value':'x','valueFrom':{'fieldRef':{'fieldPath':'metadata.name'}}}]"),
	  "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty" },
	{ "v1", "Pod", CONTAINER("'env':[{'name':'A','valueFrom':{'fieldRef':{'fieldPath':'spec.nope'}}}]"), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: field label not supported: spec.nope" },
	{ "v1", "Pod", POD("'restartPolicy':'Sometimes'"),
	  "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"" },
	{ "v1", "Pod", POD("'dnsPolicy':'None','dnsConfig':{}"),
	  "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None" },
	{ "v1", "Pod", POD("'hostAliases':[{'ip':'1.2.3','hostnames':['a']}]"),
	  "spec.hostAliases[0].ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)" },
	{ "v1", "Pod", POD("'activeDeadlineSeconds':0"),
	  "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive" },
	{ "v1", "Pod", POD("'tolerations':[{'operator':'Exists','value':'v'}]"), "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'" },
	{ "v1", "Pod", POD("'tolerations':[{'key':'k','operator':'Equal','tolerationSeconds':3}]"),
	  "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set" },
	{ "v1", "Pod", POD("'topologySpreadConstraints':[{'maxSkew':0,'topologyKey':'z','whenUnsatisfiable':'DoNotSchedule'}]"),
	  "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero" },
	{ "v1", "Pod", POD("'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':[]}}}"),
	  "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term" },
	{ "v1", "Pod", POD("'schedulingGates':[{'name':'a'},{'name':'a'}]"),
	  "spec.schedulingGates[1]: Duplicate value: \"a\"" },
	{ "v1", "Pod", POD("'hostname':'A_B'"), "spec.hostname: Invalid value: \"A_B\": " LABEL_RULE },
	{ "v1", "Pod", POD("'ephemeralContainers':[{'name':'e','image':'i'}]"), "spec.ephemeralContainers: Forbidden: cannot be set on create" },
	/* ---- services ---- */
	{ "v1", "Service", "'spec':{}", "spec.ports: Required value" },
	{ "v1", "Service", "'spec':{'ports':[{'port':80},{'port':81,'name':'a'}]}",
	  "spec.ports[0].name: Required value" },
	{ "v1", "Service", "'spec':{'type':'ExternalName','ports':[{'port':80}]}", "spec.externalName: Required value" },
	{ "v1", "Service", "'spec':{'ports':[{'port':80,'nodePort':30000}]}",
	  "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'" },
	{ "v1", "Service", "'spec':{'sessionAffinity':'Sticky','ports':[{'port':80}]}",
	  "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"" },
	{ "v1", "Service", "'spec':{'ports':[{'port':80,'name':'a'},{'port':80,'name':'b'}]}",
	  "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}" },
	{ "v1", "Service", "'spec':{'externalIPs':['127.0.0.1'],'ports':[{'port':80}]}",
	  "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)" },
	/* ---- workloads ---- */
	{ "apps/v1", "Deployment", "'spec':{'selector':{'matchLabels':{'x':'y'}}," TEMPLATE "}",
	  "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`" },
	{ "apps/v1", "Deployment", "'spec':{" TEMPLATE "}", "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]" },
	{ "apps/v1", "Deployment", "'spec':{'selector':{'matchExpressions':[{'key':'a','operator':'Odd'}]}," TEMPLATE "}", "[spec.selector.matchExpressions[0].operator: Invalid value: \"Odd\": not a valid selector operator, spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Odd\"}]}: invalid label selector]" },
	{ "apps/v1", "ReplicaSet", "'spec':{" TEMPLATE "}", "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]" },
	{ "apps/v1", "ReplicaSet", "'spec':{'selector':{'matchExpressions':[{'key':'a','operator':'Odd'}]}," TEMPLATE "}", "[spec.selector.matchExpressions[0].operator: Invalid value: \"Odd\": not a valid selector operator, spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Odd\"}]}: invalid label selector]" },
	{ "apps/v1", "StatefulSet", "'spec':{" TEMPLATE "}", "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]" },
	{ "apps/v1", "StatefulSet", "'spec':{'selector':{'matchExpressions':[{'key':'a','operator':'Odd'}]}," TEMPLATE "}", "[spec.selector.matchExpressions[0].operator: Invalid value: \"Odd\": not a valid selector operator, spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Odd\"}]}]" },
	{ "apps/v1", "DaemonSet", "'spec':{" TEMPLATE "}", "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]" },
	{ "apps/v1", "DaemonSet", "'spec':{'selector':{'matchExpressions':[{'key':'a','operator':'Odd'}]}," TEMPLATE "}", "spec.selector.matchExpressions[0].operator: Invalid value: \"Odd\": not a valid selector operator" },
	{ "apps/v1", "Deployment", "'spec':{'replicas':-1," SELECTOR "," TEMPLATE "}",
	  "spec.replicas: Invalid value: -1: must be greater than or equal to 0" },
	{ "apps/v1", "Deployment", "'spec':{'strategy':{'type':'Recreate','rollingUpdate':{}}," SELECTOR "," TEMPLATE "}",
	  "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'" },
	{ "apps/v1", "Deployment", "'spec':{'strategy':{'rollingUpdate':{'maxSurge':0,'maxUnavailable':0}}," SELECTOR "," TEMPLATE "}",
	  "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0" },
	{ "apps/v1", "Deployment", "'spec':{'progressDeadlineSeconds':5,'minReadySeconds':10," SELECTOR "," TEMPLATE "}",
	  "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds" },
	{ "apps/v1", "ReplicaSet", "'spec':{" SELECTOR ",'template':{'metadata':{'labels':{'a':'b'}},'spec':{'restartPolicy':'Never','containers':[" C "]}}}",
	  "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"" },
	{ "apps/v1", "StatefulSet", "'spec':{'podManagementPolicy':'Random'," SELECTOR "," TEMPLATE "}", "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'" },
	{ "apps/v1", "DaemonSet", "'spec':{'updateStrategy':{'type':'RollingUpdate','rollingUpdate':{'maxUnavailable':0}}," SELECTOR "," TEMPLATE "}",
	  "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0" },
	{ "batch/v1", "Job", "'spec':{'template':{'spec':{'containers':[" C "]}}}",
	  "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"" },
	{ "batch/v1", "Job", "'spec':{'parallelism':-1," JOB_TEMPLATE "}",
	  "spec.parallelism: Invalid value: -1: must be greater than or equal to 0" },
	{ "batch/v1", "Job", "'spec':{'completionMode':'Indexed','parallelism':1," JOB_TEMPLATE "}",
	  "spec.completions: Required value: when completion mode is Indexed" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * *','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}",
	  "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'TZ=UTC * * * * *','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'Foo/Bar','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"Foo/Bar\": unknown time zone Foo/Bar" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'L','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"L\": unknown time zone L" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'Europe/../Berlin','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"Europe/../Berlin\": unknown time zone Europe/../Berlin" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'europe/berlin','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"europe/berlin\": unknown time zone europe/berlin" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'/UTC','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"/UTC\": unknown time zone /UTC" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'Local','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones" },
	{ "batch/v1", "CronJob", "'spec':{'schedule':'* * * * *','timeZone':'LOCAL','jobTemplate':{'spec':{" JOB_TEMPLATE "}}}", "[spec.timeZone: Invalid value: \"LOCAL\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones, spec.timeZone: Invalid value: \"LOCAL\": unknown time zone LOCAL]" },
	/* ---- configuration ---- */
	{ "v1", "ConfigMap", "'data':{'a/b':'c'}",
	  "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')" },
	{ "v1", "ConfigMap", "'data':{'a':'c'},'binaryData':{'a':'YQ=='}",
	  "data[a]: Invalid value: \"a\": duplicate of key present in binaryData" },
	{ "v1", "Secret", "'type':'kubernetes.io/tls','data':{}",
	  "[data[tls.crt]: Required value, data[tls.key]: Required value]" },
	{ "v1", "Secret", "'type':'kubernetes.io/basic-auth'", "[data[username]: Required value, data[password]: Required value]" },
	{ "v1", "Secret", "'type':'kubernetes.io/dockerconfigjson'", "data[.dockerconfigjson]: Required value" },
	{ "v1", "Secret", "'type':'kubernetes.io/service-account-token'",
	  "metadata.annotations[kubernetes.io/service-account.name]: Required value" },
	/* ---- networking ---- */
	{ "networking.k8s.io/v1", "Ingress", "'spec':{}",
	  "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified" },
	{ "networking.k8s.io/v1", "Ingress", "'spec':{'rules':[{'host':'a.b','http':{'paths':[{'path':'x','pathType':'Exact','backend':{'service':{'name':'s','port':{'number':80}}}}]}}]}",
	  "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path" },
	{ "networking.k8s.io/v1", "Ingress", "'spec':{'defaultBackend':{'service':{'name':'s','port':{}}}}",
	  "spec.defaultBackend: Required value: port name or number is required" },
	{ "networking.k8s.io/v1", "NetworkPolicy", "'spec':{'podSelector':{},'policyTypes':['Both']}",
	  "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"" },
	{ "networking.k8s.io/v1", "NetworkPolicy", "'spec':{'podSelector':{},'ingress':[{'from':[{}]}]}",
	  "spec.ingress[0].from[0]: Required value: must specify a peer" },
	{ "networking.k8s.io/v1", "IPAddress", "'spec':{}", "[metadata.name: Invalid value: \"x\": must be a valid IP address in canonical form, spec.parentRef: Required value]" },
	{ "networking.k8s.io/v1", "ServiceCIDR", "'spec':{'cidrs':['10.0.0.1/8']}", "spec.cidrs[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length" },
	/* ---- storage ---- */
	{ "v1", "PersistentVolumeClaim", "'spec':{'accessModes':['ReadWriteOnce']}",
	  "spec.resources[storage]: Required value" },
	{ "v1", "PersistentVolumeClaim", "'spec':{'resources':{'requests':{'storage':'1Gi'}}}",
	  "spec.accessModes: Required value: at least 1 access mode is required" },
	{ "v1", "PersistentVolume", "'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteOnce']}",
	  "spec: Required value: must specify a volume type" },
	{ "storage.k8s.io/v1", "StorageClass", "'volumeBindingMode':'Immediate'", "provisioner: Required value" },
	{ "storage.k8s.io/v1", "CSIDriver", "'spec':{'volumeLifecycleModes':['Forever']}", "spec.volumeLifecycleModes: Unsupported value: \"Forever\": supported values: \"Ephemeral\", \"Persistent\"" },
	{ "storage.k8s.io/v1", "VolumeAttachment", "'spec':{'attacher':'a','nodeName':'n','source':{}}",
	  "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName" },
	{ "storage.k8s.io/v1", "VolumeAttributesClass", "'parameters':{'a':'b'}", "driverName: Required value" },
	/* ---- scaling and budgets ---- */
	{ "autoscaling/v2", "HorizontalPodAutoscaler", "'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'minReplicas':3,'maxReplicas':2}",
	  "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`" },
	{ "autoscaling/v2", "HorizontalPodAutoscaler", "'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'minReplicas':0,'maxReplicas':2}",
	  "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1" },
	{ "policy/v1", "PodDisruptionBudget", "'spec':{'minAvailable':1,'maxUnavailable':1}",
	  "spec: Invalid value: {\"minAvailable\":1,\"maxUnavailable\":1}: minAvailable and maxUnavailable cannot be both set" },
	/* ---- the cluster ---- */
	{ "v1", "Node", "'spec':{'taints':[{'key':'k','effect':'Never'}]}", "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"" },
	{ "v1", "Node", "'spec':{'podCIDRs':['10.0.0.0/24','10.0.1.0/24']}", "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family" },
	{ "coordination.k8s.io/v1", "Lease", "'spec':{'leaseDurationSeconds':0}",
	  "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0" },
	{ "scheduling.k8s.io/v1", "PriorityClass", "'value':2000000000", "value: Forbidden: maximum allowed value of a user defined priority is 1000000000" },
	{ "node.k8s.io/v1", "RuntimeClass", "'handler':''", "handler: Required value" },
	{ "discovery.k8s.io/v1", "EndpointSlice", "'addressType':'IPv4','endpoints':[{'addresses':[]}]",
	  "endpoints[0].addresses: Required value: must contain at least 1 address" },
	{ "discovery.k8s.io/v1", "EndpointSlice", "'endpoints':[]", "addressType: Required value" },
	{ "resource.k8s.io/v1", "DeviceClass", "'spec':{'selectors':[{}]}", "spec.selectors[0].cel: Required value" },
	{ "apiregistration.k8s.io/v1", "APIService", "'spec':{'group':'g','version':'v1','groupPriorityMinimum':1,'versionPriority':1}", "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.g\"" },
};
/* clang-format on */

static const struct api_kind *kind_of(const char *api_version, const char *kind)
{
	struct str group, version;
	const struct api_kind *k;

	assert_int_equal(api_parse_api_version(str_of(api_version), &group, &version), 0);
	k = api_kind_by_kind(group, version, str_of(kind));
	assert_non_null(k);
	return k;
}

static void test_rules(void **state)
{
	size_t failures = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(RULES); i++) {
		const struct rule *r = &RULES[i];
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		const struct api_kind *kind = kind_of(r->api_version, r->kind);
		const char *metadata = kind->namespaced ? "'name':'x','uid':'u','namespace':'n'" : "'name':'x'",
			   *got = "", *want;
		struct json *v = NULL;

		if (decode_text(&arena, kind,
				quoted(&arena, arena_printf(&arena, "{'metadata':{%s},%s}", metadata, r->object)),
				DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
			fail_msg("%s: %s", r->object, err_message(&err));
		defaults_apply(&arena, kind, v);
		hooks_prepare_create(&arena, kind, v);
		validate_object(kind, v, NULL, &e);
		hooks_validate_create(kind, v, &e);
		if (field_errors_result(&e, kind, meta_name(v), &err) < 0)
			got = err_message(&err);
		want = arena_printf(&arena, "%s \"x\" is invalid: %s", kind->kind, r->want);
		if (*kind->group)
			want = arena_printf(&arena, "%s.%s \"x\" is invalid: %s", kind->kind, kind->group, r->want);
		if (!strcmp(got, want))
			continue;
		failures++;
		print_error("%s\n gives  %s\n wanted %s\n", r->object, got, want);
	}
	assert_int_equal(failures, 0);
}

static void test_cron(void **state)
{
	static const struct {
		const char *schedule, *why; /* NULL: it is good */
	} cases[] = {
		{ "*/5 * * * *", NULL },
		{ "0 0 1,15 * MON-FRI", NULL },
		{ "0 0 ? * sun", NULL },
		{ "@hourly", NULL },
		{ "@every 1h30m", NULL },
		{ "59 23 31 12 6", NULL },
		{ "", "empty spec string" },
		{ "* * * *", "expected exactly 5 fields, found 4: [* * * *]" },
		{ "60 * * * *", "end of range (60) above maximum (59): 60" },
		{ "* * 0 * *", "beginning of range (0) below minimum (1): 0" },
		{ "5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1" },
		{ "*/0 * * * *", "step of range should be a positive number: */0" },
		{ "@never", "unrecognized descriptor: @never" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char why[CRON_ERROR_MAX] = "";
		bool good = cron_check(str_of(cases[i].schedule), why);

		assert_int_equal(good, !cases[i].why);
		if (!good)
			assert_string_equal(why, cases[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_cron),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
