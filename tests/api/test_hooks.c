/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviour of kinds, as the registry drives it: decode, default, prepare, validate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

static const struct api_kind *kind_of(const char *api_version, const char *kind)
{
	struct str group, version;
	const struct api_kind *k;

	assert_int_equal(api_parse_api_version(str_of(api_version), &group, &version), 0);
	k = api_kind_by_kind(group, version, str_of(kind));
	assert_non_null(k);
	return k;
}

static struct json *created(struct arena *arena, const struct api_kind *kind, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (decode_text(arena, kind, quoted(arena, text), DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	defaults_apply(arena, kind, v);
	hooks_prepare_create(arena, kind, v);
	return v;
}

static const char *problems(struct arena *arena, const struct api_kind *kind, const struct json *v,
			    const struct json *old)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;

	validate_object(kind, v, old, &e);
	if (old)
		hooks_validate_update(kind, v, old, &e);
	else
		hooks_validate_create(kind, v, &e);
	if (field_errors_result(&e, kind, meta_name(v), &err) >= 0)
		return "";
	return arena_strdup(arena, err_message(&err));
}

/* `want`: a part of the message; "": the object is good. */
static void check_create(const char *api_version, const char *kind_name, const char *text, const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct api_kind *kind = kind_of(api_version, kind_name);
	const char *got = problems(&arena, kind, created(&arena, kind, text), NULL);

	if (*want ? !strstr(got, want) : *got)
		fail_msg("%s\n gives: %s\n not: %s", text, got, want);
}

static void check_update(const char *api_version, const char *kind_name, const char *old_text, const char *text,
			 const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct api_kind *kind = kind_of(api_version, kind_name);
	struct json *old = created(&arena, kind, old_text), *v = created(&arena, kind, text);
	const char *got;

	hooks_prepare_update(&arena, kind, v, old);
	got = problems(&arena, kind, v, old);
	if (*want ? !strstr(got, want) : *got)
		fail_msg("%s\n gives: %s\n not: %s", text, got, want);
}

#define M "'metadata':{'name':'x','namespace':'d'}"
#define POD(spec) "{" M ",'spec':{" spec "}}"
#define CONTAINER(more) "'containers':[{'name':'c','image':'i:1'" more "}]"

static void test_pod_rules(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ POD(CONTAINER("")), "" },
		{ POD(""), "spec.containers: Required value" },
		{ POD("'containers':[{'name':'c'}]"), "spec.containers[0].image: Required value" },
		{ POD("'containers':[{'name':'C_','image':'i'}]"), "spec.containers[0].name: Invalid value: \"C_\"" },
		{ POD("'containers':[{'name':'c','image':'i'},{'name':'c','image':'i'}]"),
		  "spec.containers[1].name: Duplicate value: \"c\"" },
		{ POD(CONTAINER("") ",'initContainers':[{'name':'c','image':'i'}]"),
		  "spec.initContainers[0].name: Duplicate value: \"c\"" },
		{ POD(CONTAINER(",'ports':[{'containerPort':70000}]")),
		  "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive" },
		{ POD(CONTAINER(",'ports':[{'containerPort':80,'hostPort':80},{'containerPort':81,'hostPort':80}]")),
		  "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"" },
		{ POD(CONTAINER(
			  ",'env':[{'name':'A','value':'x','valueFrom':{'fieldRef':{'fieldPath':'metadata.name'}}}]")),
		  "may not be specified when `value` is not empty" },
		{ POD(CONTAINER(",'env':[{'name':'A','valueFrom':{'fieldRef':{'fieldPath':'spec.foo'}}}]")),
		  "error converting fieldPath: field label not supported: spec.foo" },
		{ POD(CONTAINER(",'env':[{'name':'A','valueFrom':{}}]")), "must specify one of: `fieldRef`" },
		{ POD(CONTAINER(",'envFrom':[{}]")), "must specify one of: `configMapRef` or `secretRef`" },
		{ POD(CONTAINER(",'volumeMounts':[{'name':'v','mountPath':'/x'}]")),
		  "spec.containers[0].volumeMounts[0].name: Not found: \"v\"" },
		{ POD(CONTAINER(
			  ",'volumeMounts':[{'name':'v','mountPath':'/x'},{'name':'v','mountPath':'/x'}]") ",'volumes':[{'name':'v'}]"),
		  "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique" },
		{ POD(CONTAINER(
			  ",'volumeMounts':[{'name':'v','mountPath':'/x','subPath':'../y'}]") ",'volumes':[{'name':'v'}]"),
		  "must not contain '..'" },
		{ POD(CONTAINER("") ",'volumes':[{'name':'v','emptyDir':{},'hostPath':{'path':'/x'}}]"),
		  "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type" },
		{ POD(CONTAINER(",'resources':{'requests':{'cpu':'2'},'limits':{'cpu':'1'}}")),
		  "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1" },
		{ POD(CONTAINER(",'resources':{'limits':{'cpu':'-1'}}")), "must be greater than or equal to 0" },
		{ POD(CONTAINER(",'resources':{'limits':{'foo':'1'}}")), "must be a standard resource for containers" },
		{ POD(CONTAINER(",'livenessProbe':{}")),
		  "spec.containers[0].livenessProbe: Required value: must specify a handler type" },
		{ POD(CONTAINER(",'livenessProbe':{'tcpSocket':{'port':1},'exec':{'command':['a']}}")),
		  "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type" },
		{ POD(CONTAINER(",'livenessProbe':{'tcpSocket':{'port':1},'successThreshold':2}")),
		  "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1" },
		{ POD(CONTAINER(",'readinessProbe':{'httpGet':{'port':'no_such_thing'}}")),
		  "must contain only alpha-numeric" },
		{ POD(CONTAINER("") ",'restartPolicy':'Sometimes'"),
		  "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"" },
		{ POD(CONTAINER("") ",'tolerations':[{'effect':'NoSchedule'}]"),
		  "operator must be Exists when `key` is empty" },
		{ POD(CONTAINER("") ",'dnsPolicy':'None'"), "must provide `dnsConfig` when `dnsPolicy` is None" },
		{ POD(CONTAINER(
			  "") ",'initContainers':[{'name':'i','image':'i','livenessProbe':{'exec':{'command':['a']}}}]"),
		  "may not be set for init containers without restartPolicy=Always" },
		{ POD(CONTAINER("") ",'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':"
				    "{'nodeSelectorTerms':[]}}}"),
		  "nodeSelectorTerms: Required value" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_create("v1", "Pod", cases[i].text, cases[i].want);
}

static void test_pod_defaults(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *
		pod = created(
		       &arena, KIND_POD,
		       POD("'hostNetwork':true,'serviceAccountName':'s',"
			   "'containers':[{'name':'a','image':'i','ports':[{'containerPort':80}],'resources':{'limits':{'cpu':'1','memory':'1Gi'}}},"
			   "{'name':'b','image':'i:2','resources':{'limits':{'cpu':'1','memory':'1Gi'},'requests':{'cpu':'1000m'}}}],"
			   "'volumes':[{'name':'v'}]")),
	       *old, *again;
	struct json *a = json_index(json_at(pod, "spec.containers"), 0),
		    *b = json_index(json_at(pod, "spec.containers"), 1);

	assert_true(str_is(json_get_str(a, "imagePullPolicy"), "Always"));
	assert_true(str_is(json_get_str(b, "imagePullPolicy"), "IfNotPresent"));
	assert_int_equal(json_get_int(json_first(json_get(a, "ports")), "hostPort", 0), 80);
	assert_true(str_is(json_at_str(a, "resources.requests.memory"), "1Gi"));
	assert_true(json_at_bool(pod, "spec.enableServiceLinks", false));
	assert_true(str_is(json_at_str(pod, "spec.serviceAccount"), "s"));
	assert_non_null(json_get(json_first(json_at(pod, "spec.volumes")), "emptyDir"));
	assert_true(str_is(json_at_str(pod, "status.phase"), "Pending"));
	assert_true(str_is(json_at_str(pod, "status.qosClass"), "Guaranteed"));
	assert_int_equal(meta_generation(pod), 1);
	/* Idempotent */
	old = json_clone_deep(&arena, pod);
	defaults_apply(&arena, KIND_POD, pod);
	assert_true(json_equal(old, pod));
	again = created(&arena, KIND_POD, POD(CONTAINER(",'resources':{'requests':{'cpu':'1'}}")));
	assert_string_equal(hooks_pod_qos(again), "Burstable");
	assert_string_equal(hooks_pod_qos(created(&arena, KIND_POD, POD(CONTAINER("")))), "BestEffort");
	/* Grace */
	assert_int_equal(hooks_grace_period_s(KIND_POD, again, -1), 0);
	json_set_cstr(&arena, json_get(again, "spec"), "nodeName", "n");
	assert_int_equal(hooks_grace_period_s(KIND_POD, again, -1), 30);
	assert_int_equal(hooks_grace_period_s(KIND_POD, again, 5), 5);
	assert_int_equal(hooks_grace_period_s(KIND_CONFIGMAP, again, 5), -1);
}

static void test_pod_update(void **state)
{
	check_update("v1", "Pod", POD(CONTAINER("")), POD("'containers':[{'name':'c','image':'i:1.1'}]"), "");
	check_update("v1", "Pod", POD(CONTAINER("")), POD(CONTAINER(",'args':['x']")),
		     "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`");
	check_update("v1", "Pod", POD(CONTAINER("")),
		     POD("'containers':[{'name':'c','image':'i:1'},{'name':'d','image':'i:1'}]"),
		     "pod updates may not add or remove containers");
	check_update("v1", "Pod", POD(CONTAINER("")), POD(CONTAINER("") ",'activeDeadlineSeconds':5"), "");
	check_update("v1", "Pod", POD(CONTAINER("")),
		     POD(CONTAINER("") ",'tolerations':[{'key':'a','operator':'Exists','effect':'NoExecute'}]"), "");
	check_update("v1", "Pod", POD(CONTAINER("") ",'tolerations':[{'key':'a','operator':'Exists'}]"),
		     POD(CONTAINER("")), "existing toleration can not be modified");
}

#define TEMPLATE(labels) "'template':{'metadata':{'labels':{" labels "}},'spec':{" CONTAINER("") "}}"
#define SELECTOR(labels) "'selector':{'matchLabels':{" labels "}}"

static void test_workloads(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = created(&arena, KIND_DEPLOYMENT,
				 "{" M
				 ",'spec':{" SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "},"
											 "'status':{'replicas':7}}"),
		    *v;

	assert_null(json_get(d, "status"));
	assert_true(str_is(json_at_str(d, "spec.strategy.rollingUpdate.maxSurge"), "25%"));
	assert_true(str_is(json_get_str(json_first(json_at(d, "spec.template.spec.containers")), "imagePullPolicy"),
			   "IfNotPresent"));
	assert_int_equal(meta_generation(d), 1);
	/* The generation moves with the spec and with annotations, not with labels. */
	v = json_clone_deep(&arena, d);
	json_set(v, "status", json_of(&arena, "{'replicas':9}"));
	meta_set_label(&arena, v, "x", STR("y"));
	hooks_prepare_update(&arena, KIND_DEPLOYMENT, v, d);
	assert_int_equal(meta_generation(v), 1);
	assert_null(json_get(v, "status"));
	json_set_int(&arena, json_get(v, "spec"), "replicas", 5);
	hooks_prepare_update(&arena, KIND_DEPLOYMENT, v, d);
	assert_int_equal(meta_generation(v), 2);
	/* A write of /status changes nothing else. */
	v = json_clone_deep(&arena, d);
	json_set_int(&arena, json_get(v, "spec"), "replicas", 5);
	json_set(v, "status", json_of(&arena, "{'replicas':9}"));
	hooks_prepare_status(&arena, KIND_DEPLOYMENT, v, d);
	assert_int_equal(json_at_int(v, "spec.replicas", 0), 1);
	assert_int_equal(json_at_int(v, "status.replicas", 0), 9);

	check_create(
		"apps/v1", "Deployment", "{" M ",'spec':{" SELECTOR("'a':'b'") "," TEMPLATE("'a':'c'") "}}",
		"spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`");
	check_create("apps/v1", "Deployment", "{" M ",'spec':{'selector':{}," TEMPLATE("'a':'c'") "}}",
		     "empty selector is invalid for deployment");
	check_create("apps/v1", "Deployment", "{" M ",'spec':{" TEMPLATE("'a':'c'") "}}",
		     "spec.selector: Required value");
	check_create("apps/v1", "Deployment",
		     "{" M ",'spec':{'strategy':{'rollingUpdate':{'maxSurge':0,'maxUnavailable':'0%'}}," SELECTOR(
			     "'a':'b'") "," TEMPLATE("'a':'b'") "}}",
		     "may not be 0 when `maxSurge` is 0");
	check_create("apps/v1", "Deployment",
		     "{" M ",'spec':{'strategy':{'type':'Recreate','rollingUpdate':{}}," SELECTOR(
			     "'a':'b'") "," TEMPLATE("'a':'b'") "}}",
		     "may not be specified when strategy `type` is 'Recreate'");
	check_update("apps/v1", "Deployment", "{" M ",'spec':{" SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "}}",
		     "{" M ",'spec':{" SELECTOR("'c':'d'") "," TEMPLATE("'c':'d'") "}}", "field is immutable");
	check_create("apps/v1", "DaemonSet", "{" M ",'spec':{" SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "}}", "");
	check_create("apps/v1", "ReplicaSet", "{" M ",'spec':{" SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "}}", "");
	check_create(
		"apps/v1", "StatefulSet",
		"{" M ",'spec':{'serviceName':'s'," SELECTOR(
			"'a':'b'") ",'volumeClaimTemplates':[{'metadata':{'name':'d'},'spec':{"
				   "'accessModes':['ReadWriteOnce'],'resources':{'requests':{'storage':'1Gi'}}}}],'template':{'metadata':{'labels':"
				   "{'a':'b'}},'spec':{" CONTAINER(
					   ",'volumeMounts':[{'name':'d','mountPath':'/d'}]") "}}}}",
		"");
	check_update("apps/v1", "StatefulSet",
		     "{" M ",'spec':{'serviceName':'s'," SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "}}",
		     "{" M ",'spec':{'serviceName':'t'," SELECTOR("'a':'b'") "," TEMPLATE("'a':'b'") "}}",
		     "updates to statefulset spec for fields other than");
	check_create("v1", "ReplicationController", "{" M ",'spec':{" TEMPLATE("'a':'b'") "}}", "");
}

static void test_jobs(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *job = created(&arena, KIND_JOB,
				   "{'metadata':{'name':'j','namespace':'d','uid':'u'},'spec':{'template':{"
				   "'spec':{'restartPolicy':'Never'," CONTAINER("") "}}}}");

	assert_int_equal(json_at_int(job, "spec.completions", 0), 1);
	assert_int_equal(json_at_int(job, "spec.backoffLimit", 0), 6);
	assert_true(str_is(
		json_get_str(json_at(job, "spec.selector.matchLabels"), "batch.kubernetes.io/controller-uid"), "u"));
	assert_true(str_is(json_get_str(json_at(job, "spec.template.metadata.labels"), "job-name"), "j"));
	assert_string_equal(problems(&arena, KIND_JOB, job, NULL), "");
	check_create(
		"batch/v1", "Job",
		"{'metadata':{'name':'j','namespace':'d','uid':'u'},'spec':{'template':{'spec':{" CONTAINER("") "}}}}",
		"spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"");
#define CRON(schedule)                                                                                                 \
	"{" M ",'spec':{'schedule':'" schedule "','jobTemplate':{'spec':{'template':{'spec':{'restartPolicy':"         \
	"'Never'," CONTAINER("") "}}}}}}"
	check_create("batch/v1", "CronJob", CRON("*/5 0-6,8 1 jan-mar SUN"), "");
	check_create("batch/v1", "CronJob", CRON("@every 1h30m"), "");
	check_create("batch/v1", "CronJob", CRON("@hourly"), "");
	check_create("batch/v1", "CronJob", CRON("0 * * * *\",\"timeZone\":\"Europe/Berlin"), "");
	check_create("batch/v1", "CronJob", CRON("0 * * * *\",\"timeZone\":\"America/Argentina/ComodRivadavia"), "");
	check_create("batch/v1", "CronJob", CRON("0 * * * *\",\"timeZone\":\"Etc/GMT+12"), "");
	check_create("batch/v1", "CronJob", CRON("60 * * * *"), "spec.schedule: Invalid value");
	check_create("batch/v1", "CronJob", CRON("* * * *"), "spec.schedule: Invalid value");
	check_create("batch/v1", "CronJob", CRON("*/0 * * * *"), "spec.schedule: Invalid value");
	check_create("batch/v1", "CronJob", CRON("TZ=UTC * * * * *"), "cannot use TZ or CRON_TZ");
	check_create("batch/v1", "CronJob", CRON(""), "spec.schedule: Required value");
}

#define SERVICE(spec) "{" M ",'spec':{" spec "}}"

static void test_services(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *s = created(&arena, KIND_SERVICE, SERVICE("'ports':[{'port':80}],'sessionAffinity':'ClientIP'"));
	struct json *old, *v;

	assert_int_equal(json_get_int(json_first(json_at(s, "spec.ports")), "targetPort", 0), 80);
	assert_int_equal(json_at_int(s, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 0), 10800);
	assert_true(str_is(json_at_str(s, "spec.internalTrafficPolicy"), "Cluster"));
	assert_null(json_at(s, "spec.externalTrafficPolicy"));
	assert_non_null(json_at(s, "status.loadBalancer"));
	/* From NodePort back to ClusterIP: what only the former has goes, the address stays. */
	old = created(&arena, KIND_SERVICE,
		      SERVICE("'type':'NodePort','clusterIP':'10.43.0.7','ports':[{'port':80,'nodePort':30080}]"));
	assert_true(str_is(json_at_str(old, "spec.externalTrafficPolicy"), "Cluster"));
	assert_true(str_is(json_str(json_first(json_at(old, "spec.clusterIPs"))), "10.43.0.7"));
	v = json_clone_deep(&arena, old);
	json_set_cstr(&arena, json_get(v, "spec"), "type", "ClusterIP");
	json_remove(json_get(v, "spec"), "clusterIP");
	json_remove(json_get(v, "spec"), "clusterIPs");
	hooks_prepare_update(&arena, KIND_SERVICE, v, old);
	assert_string_equal(problems(&arena, KIND_SERVICE, v, old), "");
	assert_true(str_is(json_at_str(v, "spec.clusterIP"), "10.43.0.7"));
	assert_null(json_get(json_first(json_at(v, "spec.ports")), "nodePort"));

	check_create("v1", "Service", SERVICE("'ports':[{'port':80}]"), "");
	check_create("v1", "Service", SERVICE(""), "spec.ports: Required value");
	check_create("v1", "Service", SERVICE("'clusterIP':'None'"), "");
	check_create("v1", "Service", SERVICE("'ports':[{'port':80},{'port':81}]"),
		     "spec.ports[0].name: Required value");
	check_create("v1", "Service", SERVICE("'ports':[{'port':80,'name':'a'},{'port':80,'name':'b'}]"),
		     "spec.ports[1]: Duplicate value");
	check_create("v1", "Service",
		     SERVICE("'ports':[{'port':80,'name':'a'},{'port':80,'name':'b','protocol':'UDP'}]"), "");
	check_create("v1", "Service", SERVICE("'ports':[{'port':80,'nodePort':30000}]"),
		     "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'");
	check_create("v1", "Service", SERVICE("'type':'ExternalName'"), "spec.externalName: Required value");
	check_create("v1", "Service", SERVICE("'type':'ExternalName','externalName':'example.com.'"), "");
	check_create("v1", "Service", SERVICE("'ports':[{'port':80}],'clusterIP':'1.2.3'"),
		     "must be a valid IP address");
	check_create("v1", "Service", SERVICE("'ports':[{'port':80}],'externalIPs':['127.0.0.1']"), "loopback");
	check_update("v1", "Service", SERVICE("'ports':[{'port':80}],'clusterIP':'10.43.0.7'"),
		     SERVICE("'ports':[{'port':80}],'clusterIP':'10.43.0.8'"), "may not change once set");
	check_create("v1", "Endpoints", "{" M ",'subsets':[{'addresses':[{'ip':'10.0.0.1'}],'ports':[{'port':80}]}]}",
		     "");
	check_create("v1", "Endpoints", "{" M ",'subsets':[{'ports':[{'port':80}]}]}", "must specify `addresses`");
	check_create("discovery.k8s.io/v1", "EndpointSlice",
		     "{" M ",'addressType':'IPv4','endpoints':[{'addresses':['::1']}]}",
		     "must be a valid IPv4 address");
}

static void test_config(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *s = created(&arena, KIND_SECRET, "{" M ",'stringData':{'a':'hello'},'data':{'b':'eA=='}}");
	struct buf big = BUF_INIT;

	assert_null(json_get(s, "stringData"));
	assert_true(str_is(json_at_str(s, "data.a"), "aGVsbG8="));
	assert_true(str_is(json_get_str(s, "type"), "Opaque"));
	check_create("v1", "ConfigMap", "{" M ",'data':{'a.b_C-d':'x'}}", "");
	check_create("v1", "ConfigMap", "{" M ",'data':{'a/b':'x'}}", "a valid config key must consist of");
	check_create("v1", "ConfigMap", "{" M ",'data':{'a':'x'},'binaryData':{'a':'eA=='}}",
		     "duplicate of key present");
	check_update("v1", "ConfigMap", "{" M ",'immutable':true,'data':{'a':'x'}}",
		     "{" M ",'immutable':true,'data':{'a':'y'}}",
		     "data: Forbidden: field is immutable when `immutable` is set");
	check_update("v1", "ConfigMap", "{" M ",'immutable':true,'data':{'a':'x'}}", "{" M ",'data':{'a':'x'}}",
		     "immutable: Forbidden");
	check_update("v1", "ConfigMap", "{" M ",'data':{'a':'x'}}", "{" M ",'data':{'a':'y'}}", "");
	check_create("v1", "Secret", "{" M ",'type':'kubernetes.io/tls','data':{'tls.crt':''}}",
		     "data[tls.key]: Required value");
	check_update("v1", "Secret", "{" M "}", "{" M ",'type':'other'}",
		     "type: Invalid value: \"other\": field is immutable");
	buf_add_cstr(&big, "{" M ",'data':{'a':'");
	memset(buf_reserve(&big, 1 << 20), 'x', 1 << 20);
	buf_commit(&big, 1 << 20);
	buf_add_cstr(&big, "'}}");
	check_create("v1", "ConfigMap", buf_cstr(&big), "");
	buf_finish(&big);
	buf_add_cstr(&big, "{" M ",'data':{'a':'");
	memset(buf_reserve(&big, (1 << 20) + 1), 'x', (1 << 20) + 1);
	buf_commit(&big, (1 << 20) + 1);
	buf_add_cstr(&big, "'}}");
	check_create("v1", "ConfigMap", buf_cstr(&big), "Too long: may not be more than 1048576 bytes");
	buf_finish(&big);
}

#define POLICY(spec) "{" M ",'spec':{'podSelector':{}," spec "}}"

static void test_networking(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *p =
		created(&arena, KIND_NETWORKPOLICY, POLICY("'ingress':[{'ports':[{'port':80}]}],'egress':[{}]"));

	assert_int_equal(json_count(json_at(p, "spec.policyTypes")), 2);
	assert_true(
		str_is(json_get_str(json_first(json_get(json_first(json_at(p, "spec.ingress")), "ports")), "protocol"),
		       "TCP"));
	p = created(&arena, KIND_NETWORKPOLICY, POLICY("'ingress':[]"));
	assert_int_equal(json_count(json_at(p, "spec.policyTypes")), 1);
	check_create("networking.k8s.io/v1", "NetworkPolicy",
		     POLICY("'ingress':[{'from':[{'ipBlock':{'cidr':'10.0.0.0/8','except':['10.1.0.0/16']}}]}]"), "");
	check_create(
		"networking.k8s.io/v1", "NetworkPolicy",
		POLICY("'ingress':[{'from':[{'ipBlock':{'cidr':'10.0.0.0/8','except':['11.0.0.0/16']}}]}]"),
		"spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`");
	check_create("networking.k8s.io/v1", "NetworkPolicy",
		     POLICY("'ingress':[{'from':[{'podSelector':{},'ipBlock':{'cidr':'10.0.0.0/8'}}]}]"),
		     "may not specify both ipBlock and another peer");
	check_create("networking.k8s.io/v1", "NetworkPolicy", POLICY("'ingress':[{'from':[{}]}]"),
		     "must specify a peer");
	check_create("networking.k8s.io/v1", "NetworkPolicy", POLICY("'egress':[{'ports':[{'port':80,'endPort':79}]}]"),
		     "must be greater than or equal to `port`");
	check_create("networking.k8s.io/v1", "NetworkPolicy",
		     POLICY("'egress':[{'ports':[{'port':'a','endPort':79}]}]"),
		     "may not be specified when `port` is non-numeric");
	check_create("networking.k8s.io/v1", "NetworkPolicy", POLICY("'egress':[{'ports':[{'endPort':79}]}]"),
		     "may not be specified when `port` is not specified");
	check_create("networking.k8s.io/v1", "Ingress", "{" M ",'spec':{}}",
		     "either `defaultBackend` or `rules` must be specified");
	check_create(
		"networking.k8s.io/v1", "Ingress",
		"{" M
		",'spec':{'rules':[{'host':'a.b','http':{'paths':[{'path':'/x','pathType':'Prefix','backend':{'service':{"
		"'name':'s','port':{'number':80}}}}]}}]}}",
		"");
	check_create("networking.k8s.io/v1", "Ingress",
		     "{" M ",'spec':{'rules':[{'http':{'paths':[{'path':'x','pathType':'Prefix','backend':{'service':{"
		     "'name':'s'}}}]}}]}}",
		     "must be an absolute path");
}

static void test_others(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *ns = created(&arena, KIND_NAMESPACE, "{'metadata':{'name':'n'}}"), *node;

	assert_true(str_is(meta_label(ns, "kubernetes.io/metadata.name"), "n"));
	assert_true(str_is(json_str(json_first(json_at(ns, "spec.finalizers"))), "kubernetes"));
	assert_true(str_is(json_at_str(ns, "status.phase"), "Active"));
	node = created(&arena, KIND_NODE, "{'metadata':{'name':'n'},'status':{'phase':'Running'}}");
	assert_true(str_is(json_at_str(node, "status.phase"), "Running")); /* the kubelet registers with it */
	check_create("v1", "Node",
		     "{'metadata':{'name':'n'},'spec':{'taints':[{'key':'a','effect':'NoSchedule'},"
		     "{'key':'a','effect':'NoSchedule'}]}}",
		     "metadata.taints[1]: Duplicate value");
	check_create("policy/v1", "PodDisruptionBudget", "{" M ",'spec':{'minAvailable':1,'maxUnavailable':1}}",
		     "minAvailable and maxUnavailable cannot be both set");
	check_create("scheduling.k8s.io/v1", "PriorityClass", "{'metadata':{'name':'p'},'value':2000000000}",
		     "maximum allowed value of a user defined priority is 1000000000");
	check_create("scheduling.k8s.io/v1", "PriorityClass",
		     "{'metadata':{'name':'system-node-critical'},'value':2000001000}", "");
	check_create("rbac.authorization.k8s.io/v1", "Role", "{" M ",'rules':[{'verbs':['get']}]}",
		     "resource rules must supply at least one api group");
	check_create("rbac.authorization.k8s.io/v1", "RoleBinding",
		     "{" M ",'roleRef':{'kind':'Role','name':'r'},'subjects':[{'kind':'User','name':'u'}]}", "");
	check_create("rbac.authorization.k8s.io/v1", "ClusterRoleBinding",
		     "{'metadata':{'name':'x'},'roleRef':{'kind':'Role','name':'r'}}",
		     "roleRef.kind: Unsupported value: \"Role\"");
	check_create("v1", "PersistentVolumeClaim", "{" M ",'spec':{'accessModes':['ReadWriteOnce']}}",
		     "spec.resources[storage]: Required value");
	check_create("v1", "PersistentVolume",
		     "{'metadata':{'name':'v'},'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteOnce'],"
		     "'hostPath':{'path':'/x'}}}",
		     "");
	check_create("autoscaling/v2", "HorizontalPodAutoscaler",
		     "{" M ",'spec':{'maxReplicas':1,'minReplicas':2,'scaleTargetRef':{'kind':'D','name':'d'}}}",
		     "must be greater than or equal to `minReplicas`");
	assert_string_equal(hooks_default_propagation(KIND_JOB), "Orphan");
	assert_string_equal(hooks_default_propagation(KIND_DEPLOYMENT), "Background");
}

static void test_warnings(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = created(
		&arena, KIND_POD,
		POD(CONTAINER(
			",'env':[{'name':'A','value':'1'},{'name':'A','value':'2'}],"
			"'ports':[{'containerPort':80},{'containerPort':80,'name':'x'}],'resources':{'limits':{'memory':'100m'}}") ",'nodeSelector':{'beta.kubernetes.io/os':'linux'}"));
	struct hooks_warnings w = { .n = 0 };
	static const char *const want[] = {
		"spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
		"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
		"spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
		"spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
		"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
	};

	hooks_warnings(&arena, KIND_POD, pod, NULL, &w);
	assert_int_equal(w.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < w.n; i++)
		assert_string_equal(w.items[i], want[i]);
	/* Said once: not again for what was there before. */
	w.n = 0;
	hooks_warnings(&arena, KIND_POD, pod, pod, &w);
	assert_int_equal(w.n, 0);
	pod = created(&arena, KIND_DEPLOYMENT,
		      "{" M ",'spec':{'template':{'spec':{" CONTAINER(",'env':[{'name':'A'},{'name':'A'}]") "}}}}");
	hooks_warnings(&arena, KIND_DEPLOYMENT, pod, NULL, &w);
	assert_int_equal(w.n, 1);
	assert_non_null(strstr(w.items[0], "spec.template.spec.containers[0].env[1]: hides"));
}

/* Every kind that has hooks has them under a name that exists. */
static void test_all_found(void **state)
{
	size_t found = 0;

	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
		const struct api_kind *kind = api_kind_at(i);
		static const char *const odd[] = { "{}", "{'metadata':{'name':'x'},'spec':{}}",
						   "{'spec':null,'status':{}}" };

		if (kind->storage == kind)
			found += api_hooks_for(str_of(kind->group), str_of(kind->plural)) != NULL;
		/* Sparse objects must not upset anyone. */
		for (size_t j = 0; j < ARRAY_SIZE(odd); j++) {
			struct json *v = json_of(&arena, odd[j]), *old = json_of(&arena, odd[j]);

			hooks_defaults(&arena, kind, v);
			hooks_prepare_create(&arena, kind, v);
			hooks_prepare_update(&arena, kind, v, old);
			hooks_validate_update(kind, v, old, &e);
			hooks_validate_status(kind, v, old, &e);
			hooks_prepare_status(&arena, kind, v, old);
			hooks_grace_period_s(kind, v, -1);
		}
	}
	assert_int_equal(found, api_hooks_count());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pod_rules),  cmocka_unit_test(test_pod_defaults),
		cmocka_unit_test(test_pod_update), cmocka_unit_test(test_workloads),
		cmocka_unit_test(test_jobs),       cmocka_unit_test(test_services),
		cmocka_unit_test(test_config),     cmocka_unit_test(test_networking),
		cmocka_unit_test(test_others),     cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_all_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
