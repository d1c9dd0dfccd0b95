/* SPDX-License-Identifier: Apache-2.0 */
/* The Pod Security Standards: for each check a pod that passes and one that fails, with upstream's words, on both
 * sides of every version in which the check changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/pod_security.h"
#include "userspace/base/mem.h"

#define LATEST POD_SECURITY_LATEST
#define B POD_SECURITY_BASELINE
#define R POD_SECURITY_RESTRICTED

/* A container that the restricted standard lets in, and the part of one that further fields may follow. */
#define GOOD_CONTEXT                                                                                                   \
	"'allowPrivilegeEscalation':false,'capabilities':{'drop':['ALL']},'runAsNonRoot':true,"                        \
	"'seccompProfile':{'type':'RuntimeDefault'}"
#define GOOD "{'name':'g','securityContext':{" GOOD_CONTEXT "}}"
#define GOOD_WITH(more) "{'name':'c','securityContext':{" GOOD_CONTEXT "," more "}}"
#define CONTAINERS(list) "{'spec':{'containers':[" list "]}}"
#define CONTEXT(context) CONTAINERS("{'name':'c','securityContext':{" context "}}")
#define POD_CONTEXT(context) "{'spec':{'securityContext':{" context "},'containers':[" GOOD "]}}"
#define VOLUME(source) "{'spec':{'volumes':[{'name':'v'," source "}],'containers':[" GOOD "]}}"
#define ANNOTATED(key, value) "{'metadata':{'annotations':{'" key "':'" value "'}},'spec':{'containers':[" GOOD "]}}"

struct pod_case {
	const char *pod;
	enum pod_security_level level;
	int minor;
	const char *details; /* with single quotes; NULL: allowed */
};

static void check(const struct pod_case *c)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct pod_security_policy policy = { c->level, c->minor };
	struct pod_security_violations v = { 0 };
	struct json *pod = json_of(&arena, c->pod);
	bool ok = pod_security_allows(&arena, &policy, json_get(pod, "metadata"), json_get(pod, "spec"), &v);

	if (ok != !c->details)
		fail_msg("%s at level %d, v1.%d: %.*s", c->pod, c->level, c->minor, STR_ARG(v.details));
	if (!ok && !str_eq(v.details, quoted(&arena, c->details)))
		fail_msg("%s at level %d, v1.%d: %.*s, expected %s", c->pod, c->level, c->minor, STR_ARG(v.details),
			 c->details);
}

#define CHECK_ALL(cases)                                                                                               \
	do {                                                                                                           \
		for (size_t i_ = 0; i_ < ARRAY_SIZE(cases); i_++)                                                      \
			check(&(cases)[i_]);                                                                           \
	} while (0)

static void test_host_namespaces_paths_and_ports(void **state)
{
	static const struct pod_case cases[] = {
		{ "{'spec':{'hostNetwork':true,'hostPID':true,'hostIPC':true}}", POD_SECURITY_PRIVILEGED, LATEST,
		  NULL },
		{ "{'spec':{'hostNetwork':false,'hostPID':false}}", B, LATEST, NULL },
		{ "{'spec':{'hostIPC':true,'hostPID':true,'hostNetwork':true}}", B, 0,
		  "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)" },
		{ "{'spec':{'hostPID':true,'containers':[" GOOD "]}}", R, LATEST, "host namespaces (hostPID=true)" },
		{ VOLUME("'emptyDir':{}"), B, 0, NULL },
		{ VOLUME("'hostPath':{'path':'/'}"), B, 0, "hostPath volumes (volume 'v')" },
		{ "{'spec':{'volumes':[{'name':'b','hostPath':{'path':'/'}},{'name':'a','hostPath':{'path':'/'}}]}}", B,
		  LATEST, "hostPath volumes (volumes 'b', 'a')" },
		{ VOLUME("'hostPath':{'path':'/'}"), R, 0,
		  "restricted volume types (volume 'v' uses restricted volume type 'hostPath')" },
		{ CONTAINERS("{'name':'c','ports':[{'containerPort':80},{'containerPort':81,'hostPort':0}]}"), B,
		  LATEST, NULL },
		{ CONTAINERS("{'name':'c','ports':[{'hostPort':80}]}"), B, 0,
		  "hostPort (container 'c' uses hostPort 80)" },
		{ CONTAINERS(
			  "{'name':'c','ports':[{'hostPort':9},{'hostPort':80}]},{'name':'a','ports':[{'hostPort':80}]}"),
		  B, LATEST, "hostPort (containers 'c', 'a' use hostPorts 80, 9)" },
		{ "{'spec':{'initContainers':[{'name':'i','ports':[{'hostPort':1}]}],'ephemeralContainers':[{'name':'e',"
		  "'ports':[{'hostPort':1}]}],'containers':[{'name':'c','ports':[{'hostPort':1}]}]}}",
		  B, LATEST, "hostPort (containers 'i', 'c', 'e' use hostPort 1)" },
	};

	CHECK_ALL(cases);
}

static void test_host_probes(void **state)
{
	static const char *const bad = CONTAINERS(
		"{'name':'b','livenessProbe':{'httpGet':{'host':'x'}},'lifecycle':{'preStop':{'tcpSocket':{'host':'y'}}}},"
		"{'name':'a','readinessProbe':{'tcpSocket':{'host':'x'}},'startupProbe':{'httpGet':{'host':''}}}");
	const struct pod_case cases[] = {
		{ CONTAINERS(
			  "{'name':'c','livenessProbe':{'httpGet':{'port':1}},'lifecycle':{'postStart':{'exec':{}}}}"),
		  B, LATEST, NULL },
		{ CONTAINERS("{'name':'c','lifecycle':{'postStart':{'httpGet':{'host':'127.0.0.1'}}}}"), B, 34,
		  "probe or lifecycle host (container 'c' uses probe or lifecycle host '127.0.0.1')" },
		{ bad, B, 33, NULL },
		{ bad, B, 34, "probe or lifecycle host (containers 'a', 'b' use probe or lifecycle hosts 'x', 'y')" },
	};

	CHECK_ALL(cases);
}

static void test_privileged_and_capabilities(void **state)
{
	static const struct pod_case cases[] = {
		{ CONTEXT("'privileged':false"), B, LATEST, NULL },
		{ CONTEXT("'privileged':true"), B, 0,
		  "privileged (container 'c' must not set securityContext.privileged=true)" },
		{ CONTEXT("'capabilities':{'add':['CHOWN','SYS_CHROOT','MKNOD']}"), B, LATEST, NULL },
		{ CONTEXT("'capabilities':{'add':['SYS_TIME','NET_RAW','CHOWN','SYS_TIME']}"), B, 0,
		  "non-default capabilities (container 'c' must not include 'NET_RAW', 'SYS_TIME' in "
		  "securityContext.capabilities.add)" },
		/* The restricted level has its own check from v1.22 on, and before that the baseline's. */
		{ "{'spec':{'volumes':[],'containers':[{'name':'c','securityContext':{" GOOD_CONTEXT
		  ",'capabilities':{'add':['NET_RAW']}}}]}}",
		  R, 21,
		  "non-default capabilities (container 'c' must not include 'NET_RAW' in "
		  "securityContext.capabilities.add)" },
		{ CONTAINERS(GOOD_WITH("'capabilities':{'drop':['ALL'],'add':['NET_BIND_SERVICE']}")), R, LATEST,
		  NULL },
		{ CONTAINERS(GOOD_WITH("'capabilities':{'drop':['all'],'add':['CHOWN']}") "," GOOD), R, 22,
		  "unrestricted capabilities (container 'c' must set securityContext.capabilities.drop=['ALL']; container "
		  "'c' must not include 'CHOWN' in securityContext.capabilities.add)" },
		{ CONTAINERS("{'name':'a','securityContext':{'allowPrivilegeEscalation':false,'runAsNonRoot':true,"
			     "'seccompProfile':{'type':'Localhost'}}}"),
		  R, LATEST,
		  "unrestricted capabilities (container 'a' must set securityContext.capabilities.drop=['ALL'])" },
	};

	CHECK_ALL(cases);
}

static void test_app_armor(void **state)
{
	static const struct pod_case cases[] = {
		{ POD_CONTEXT("'appArmorProfile':{'type':'RuntimeDefault'}"), B, LATEST, NULL },
		{ ANNOTATED("container.apparmor.security.beta.kubernetes.io/g", "localhost/x"), B, LATEST, NULL },
		{ POD_CONTEXT("'appArmorProfile':{'type':'Unconfined'}"), B, 0,
		  "forbidden AppArmor profile (pod must not set AppArmor profile type to 'Unconfined')" },
		{ "{'metadata':{'annotations':{'container.apparmor.security.beta.kubernetes.io/b':'unconfined',"
		  "'container.apparmor.security.beta.kubernetes.io/a':'other'}},'spec':{'securityContext':{"
		  "'appArmorProfile':{'type':'Unconfined'}},'containers':[{'name':'c','securityContext':{"
		  "'appArmorProfile':{'type':'Unconfined'}}}]}}",
		  B, LATEST,
		  "forbidden AppArmor profiles (pod and container 'c' and annotations must not set AppArmor profile type to "
		  "'Unconfined', 'container.apparmor.security.beta.kubernetes.io/a='other'', "
		  "'container.apparmor.security.beta.kubernetes.io/b='unconfined'')" },
	};

	CHECK_ALL(cases);
}

static void test_selinux(void **state)
{
	static const struct pod_case cases[] = {
		{ POD_CONTEXT("'seLinuxOptions':{'type':'container_init_t','level':'s0'}"), B, 0, NULL },
		{ POD_CONTEXT("'seLinuxOptions':{'type':'container_engine_t'}"), B, 31, NULL },
		{ POD_CONTEXT("'seLinuxOptions':{'type':'container_engine_t'}"), B, 30,
		  "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type 'container_engine_t')" },
		{ "{'spec':{'securityContext':{'seLinuxOptions':{'type':'b','user':'u'}},'containers':[{'name':'c',"
		  "'securityContext':{'seLinuxOptions':{'type':'a','role':'r'}}}]}}",
		  B, LATEST,
		  "seLinuxOptions (pod and container 'c' set forbidden securityContext.seLinuxOptions: types 'a', 'b'; user "
		  "may not be set; role may not be set)" },
		{ CONTEXT("'seLinuxOptions':{'role':'r'}"), B, LATEST,
		  "seLinuxOptions (container 'c' set forbidden securityContext.seLinuxOptions: role may not be set)" },
	};

	CHECK_ALL(cases);
}

static void test_proc_mount(void **state)
{
	static const char *const unmasked = CONTAINERS(GOOD_WITH("'procMount':'Unmasked'"));
	static const char *const in_user_namespace =
		"{'spec':{'hostUsers':false,'containers':[" GOOD_WITH("'procMount':'Unmasked'") "]}}";
	static const char *const words =
		"procMount (container 'c' must not set securityContext.procMount to 'Unmasked')";
	const struct pod_case cases[] = {
		{ CONTAINERS(GOOD_WITH("'procMount':'Default'")), R, LATEST, NULL },
		{ unmasked, B, 0, words },
		{ unmasked, R, 34, words },
		{ unmasked, R, LATEST, words },
		{ in_user_namespace, B, 34, words },
		{ in_user_namespace, B, 35, NULL },
		{ in_user_namespace, B, LATEST, NULL },
		{ in_user_namespace, R, 34, words },
		{ in_user_namespace, R, 35, words },
	};

	CHECK_ALL(cases);
}

static void test_seccomp(void **state)
{
	static const char *const unconfined = POD_CONTEXT("'seccompProfile':{'type':'Unconfined'}");
	static const char *const windows =
		"{'spec':{'os':{'name':'windows'},'securityContext':{'runAsNonRoot':true},'containers':[{'name':'c'}]}}";
	const struct pod_case cases[] = {
		{ unconfined, B, 18, NULL },
		{ unconfined, B, 19,
		  "seccompProfile (pod must not set securityContext.seccompProfile.type to 'Unconfined')" },
		{ unconfined, R, 19,
		  "seccompProfile (pod must not set securityContext.seccompProfile.type to 'Unconfined')" },
		{ "{'spec':{'securityContext':{'seccompProfile':{'type':'Unconfined'}},'containers':[{'name':'c',"
		  "'securityContext':{'seccompProfile':{'type':'Unconfined'}}}]}}",
		  B, LATEST,
		  "seccompProfile (pod and container 'c' must not set securityContext.seccompProfile.type to 'Unconfined')" },
		{ ANNOTATED("seccomp.security.alpha.kubernetes.io/pod", "docker/default"), B, 18, NULL },
		{ ANNOTATED("seccomp.security.alpha.kubernetes.io/pod", "unconfined"), B, 18,
		  "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod='unconfined')" },
		{ ANNOTATED("container.seccomp.security.alpha.kubernetes.io/g", "x"), R, 18,
		  "seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/g='x')" },
		{ ANNOTATED("container.seccomp.security.alpha.kubernetes.io/other", "x"), B, 18, NULL },
		{ ANNOTATED("seccomp.security.alpha.kubernetes.io/pod", "unconfined"), B, 19, NULL },
		/* The pod's own profile serves containers that have none. */
		{ "{'spec':{'securityContext':{'seccompProfile':{'type':'Localhost'}},'containers':[{'name':'c',"
		  "'securityContext':{'allowPrivilegeEscalation':false,'capabilities':{'drop':['ALL']},'runAsNonRoot':true}}]"
		  "}}",
		  R, LATEST, NULL },
		{ CONTAINERS(GOOD ",{'name':'c','securityContext':{'allowPrivilegeEscalation':false,"
				  "'capabilities':{'drop':['ALL']},'runAsNonRoot':true}}"),
		  R, LATEST,
		  "seccompProfile (pod or container 'c' must set securityContext.seccompProfile.type to 'RuntimeDefault' or "
		  "'Localhost')" },
		{ windows, R, 25, NULL },
		{ windows, R, 24,
		  "allowPrivilegeEscalation != false (container 'c' must set "
		  "securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container 'c' must set "
		  "securityContext.capabilities.drop=['ALL']), seccompProfile (pod or container 'c' must set "
		  "securityContext.seccompProfile.type to 'RuntimeDefault' or 'Localhost')" },
	};

	CHECK_ALL(cases);
}

static void test_sysctls(void **state)
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
	static const struct pod_case both = { POD_CONTEXT("'sysctls':[{'name':'b'},{'name':'a'}]"), B, LATEST,
					      "forbidden sysctls (b, a)" };

	check(&both);
	for (size_t i = 0; i < ARRAY_SIZE(safe); i++) {
		char pod[512], words[128];

		snprintf(pod, sizeof(pod), POD_CONTEXT("'sysctls':[{'name':'%s','value':'1'}]"), safe[i].name);
		snprintf(words, sizeof(words), "forbidden sysctls (%s)", safe[i].name);
		check(&(struct pod_case){ pod, B, safe[i].since, NULL });
		check(&(struct pod_case){ pod, R, LATEST, NULL });
		if (safe[i].since > 0)
			check(&(struct pod_case){ pod, B, safe[i].since - 1, words });
	}
}

static void test_host_process(void **state)
{
	static const struct pod_case cases[] = {
		{ POD_CONTEXT("'windowsOptions':{'hostProcess':false}"), B, LATEST, NULL },
		{ "{'spec':{'securityContext':{'windowsOptions':{'hostProcess':true}},'containers':[{'name':'c',"
		  "'securityContext':{'windowsOptions':{'hostProcess':true}}}]}}",
		  B, 0,
		  "hostProcess (pod and container 'c' must not set securityContext.windowsOptions.hostProcess=true)" },
	};

	CHECK_ALL(cases);
}

static void test_privilege_escalation(void **state)
{
	static const struct pod_case cases[] = {
		{ CONTAINERS(GOOD_WITH("'allowPrivilegeEscalation':true")), R, 7, NULL },
		{ CONTAINERS(GOOD_WITH("'allowPrivilegeEscalation':true")), R, 8,
		  "allowPrivilegeEscalation != false (container 'c' must set "
		  "securityContext.allowPrivilegeEscalation=false)" },
		{ CONTAINERS(GOOD_WITH("'allowPrivilegeEscalation':true")), B, LATEST, NULL },
	};

	CHECK_ALL(cases);
}

static void test_volumes(void **state)
{
	static const char *const allowed[] = { "configMap", "csi",    "downwardAPI",           "emptyDir", "ephemeral",
					       "image",     "secret", "persistentVolumeClaim", "projected" };
	static const char *const refused[] = {
		"hostPath",
		"gcePersistentDisk",
		"awsElasticBlockStore",
		"gitRepo",
		"nfs",
		"iscsi",
		"rbd",
		"glusterfs",
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
		"scaleIO",
		"portworxVolume",
		"storageos",
	};
	static const struct pod_case two = {
		"{'spec':{'volumes':[{'name':'z','nfs':{}},{'name':'a','iscsi':{}},{'name':'m'}],'containers':[" GOOD
		"]}}",
		R, LATEST,
		"restricted volume types (volumes 'z', 'a', 'm' use restricted volume types 'iscsi', 'nfs', 'unknown')"
	};
	char pod[1024], words[256];

	check(&two);
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		snprintf(pod, sizeof(pod), VOLUME("'%s':{}"), allowed[i]);
		check(&(struct pod_case){ pod, R, 0, NULL });
		check(&(struct pod_case){ pod, R, LATEST, NULL });
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		snprintf(pod, sizeof(pod), VOLUME("'%s':{}"), refused[i]);
		snprintf(words, sizeof(words), "restricted volume types (volume 'v' uses restricted volume type '%s')",
			 refused[i]);
		check(&(struct pod_case){ pod, R, 0, words });
		if (i > 0)
			check(&(struct pod_case){ pod, B, LATEST, NULL });
	}
}

static void test_user(void **state)
{
	static const char *const silent = CONTAINERS(
		"{'name':'c','securityContext':{'allowPrivilegeEscalation':false,'capabilities':{'drop':['ALL']},"
		"'seccompProfile':{'type':'RuntimeDefault'}}}");
	static const char *const relaxed =
		"{'spec':{'hostUsers':false,'securityContext':{'runAsUser':0,'runAsNonRoot':false},'containers':[" GOOD
		"]}}";
	const struct pod_case cases[] = {
		{ silent, R, 7,
		  "runAsNonRoot != true (pod or container 'c' must set securityContext.runAsNonRoot=true)" },
		{ "{'spec':{'securityContext':{'runAsNonRoot':true,'seccompProfile':{'type':'RuntimeDefault'}},"
		  "'containers':[{'name':'c','securityContext':{'allowPrivilegeEscalation':false,'capabilities':{'drop':"
		  "['ALL']}}}]}}",
		  R, LATEST, NULL },
		{ POD_CONTEXT("'runAsNonRoot':false"), R, LATEST,
		  "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)" },
		{ "{'spec':{'securityContext':{'runAsNonRoot':false},'containers':[" GOOD_WITH(
			  "'runAsNonRoot':false") "]}}",
		  R, LATEST,
		  "runAsNonRoot != true (pod and container 'c' must not set securityContext.runAsNonRoot=false)" },
		{ POD_CONTEXT("'runAsUser':1000"), R, LATEST, NULL },
		{ POD_CONTEXT("'runAsUser':0"), R, 22, NULL },
		{ POD_CONTEXT("'runAsUser':0"), R, 23, "runAsUser=0 (pod must not set runAsUser=0)" },
		{ CONTAINERS(GOOD_WITH("'runAsUser':0") "," GOOD_WITH("'runAsUser':0")), R, LATEST,
		  "runAsUser=0 (containers 'c', 'c' must not set runAsUser=0)" },
		{ relaxed, R, 34,
		  "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set "
		  "runAsUser=0)" },
		{ relaxed, R, 35, NULL },
		{ relaxed, R, LATEST, NULL },
	};

	CHECK_ALL(cases);
}

/* The plain pod that everybody tries first, and one that does everything. */
static void test_order(void **state)
{
	static const struct pod_case cases[] = {
		{ "{'spec':{'containers':[{'name':'c'}]}}", R, LATEST,
		  "allowPrivilegeEscalation != false (container 'c' must set "
		  "securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container 'c' must set "
		  "securityContext.capabilities.drop=['ALL']), runAsNonRoot != true (pod or container 'c' must set "
		  "securityContext.runAsNonRoot=true), seccompProfile (pod or container 'c' must set "
		  "securityContext.seccompProfile.type to 'RuntimeDefault' or 'Localhost')" },
		{ "{'spec':{'hostNetwork':true,'volumes':[{'name':'v','hostPath':{}}],'containers':[{'name':'c',"
		  "'securityContext':{'privileged':true}}]}}",
		  B, LATEST,
		  "host namespaces (hostNetwork=true), hostPath volumes (volume 'v'), privileged (container 'c' must not set "
		  "securityContext.privileged=true)" },
		{ "{'spec':{'hostNetwork':true,'volumes':[{'name':'v','hostPath':{}}],'containers':[" GOOD_WITH(
			  "'privileged':true") "]}}",
		  R, LATEST,
		  "host namespaces (hostNetwork=true), privileged (container 'c' must not set "
		  "securityContext.privileged=true), restricted volume types (volume 'v' uses restricted volume type "
		  "'hostPath')" },
	};

	CHECK_ALL(cases);
}

/* ---- labels ---- */

static void test_labels(void **state)
{
	static const struct {
		const char *level, *version;
		enum pod_security_level enforce, audit;
		int minor;
		size_t findings;
	} cases[] = {
		{ "privileged", "latest", POD_SECURITY_PRIVILEGED, POD_SECURITY_PRIVILEGED, LATEST, 0 },
		{ "baseline", "v1.0", B, B, 0, 0 },
		{ "restricted", "v1.36", R, R, 36, 0 },
		{ "restricted", "v1.99999", R, R, 99999, 0 },
		{ "restricted", "v1.01", R, R, LATEST, 3 },
		{ "restricted", "1.30", R, R, LATEST, 3 },
		{ "restricted", "v2.0", R, R, LATEST, 3 },
		{ "restricted", "v1.", R, R, LATEST, 3 },
		{ "restricted", "v1.-1", R, R, LATEST, 3 },
		{ "restricted", "v1.99999999999999999999", R, R, LATEST, 3 },
		{ "restricted", "", R, R, LATEST, 3 },
		/* A bad level enforces the most, but does not warn. */
		{ "Baseline", "v1.30", R, POD_SECURITY_PRIVILEGED, 30, 3 },
		{ "", "v1.30", R, POD_SECURITY_PRIVILEGED, 30, 3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
		const struct api_label labels[] = {
			{ STR(POD_SECURITY_LABELS "audit"), str_of(cases[i].level) },
			{ STR(POD_SECURITY_LABELS "audit-version"), str_of(cases[i].version) },
			{ STR(POD_SECURITY_LABELS "enforce"), str_of(cases[i].level) },
			{ STR(POD_SECURITY_LABELS "enforce-version"), str_of(cases[i].version) },
			{ STR(POD_SECURITY_LABELS "warn"), str_of(cases[i].level) },
			{ STR(POD_SECURITY_LABELS "warn-version"), str_of(cases[i].version) },
		};
		struct pod_security_modes m;

		pod_security_parse(labels, ARRAY_SIZE(labels), NULL, &m, &e);
		assert_int_equal(m.enforce.level, cases[i].enforce);
		assert_int_equal(m.audit.level, cases[i].audit);
		assert_int_equal(m.warn.level, cases[i].audit);
		assert_int_equal(m.enforce.minor, cases[i].minor);
		assert_int_equal(m.warn.minor, cases[i].minor);
		assert_int_equal(e.n, cases[i].findings);
	}
}

static void test_label_findings(void **state)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct api_label labels[] = {
		{ STR(POD_SECURITY_LABELS "enforce"), STR("high") },
		{ STR(POD_SECURITY_LABELS "warn-version"), STR("1") },
	};
	struct pod_security_modes m;
	char text[POD_SECURITY_TEXT_MAX];

	pod_security_parse(labels, ARRAY_SIZE(labels), NULL, &m, &e);
	assert_int_equal(field_errors_result(&e, KIND_NAMESPACE, STR("x"), &err), -EINVAL);
	assert_string_equal(err_message(&err),
			    "Namespace \"x\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid "
			    "value: \"high\": must be one of privileged, baseline, restricted, "
			    "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1\": must be "
			    "\"latest\" or \"v1.x\"]");
	assert_string_equal(pod_security_text(&m.enforce, text), "restricted:latest");
	assert_string_equal(pod_security_text(&(struct pod_security_policy){ B, 30 }, text), "baseline:v1.30");
}

static void test_changes_that_matter(void **state)
{
	static const char *const before =
		"{'metadata':{'labels':{}},'spec':{'initContainers':[{'name':'i','image':'a'}],"
		"'containers':[{'name':'c','image':'a'}],'ephemeralContainers':[{'name':'e',"
		"'image':'a'}]}}";
	static const struct {
		const char *after;
		bool matters;
	} cases[] = {
		{ "{'metadata':{'labels':{'x':'y'}},'spec':{'initContainers':[{'name':'i','image':'a'}],'containers':[{"
		  "'name':'c','image':'a','securityContext':{'privileged':true}}],'ephemeralContainers':[{'name':'e',"
		  "'image':'a'}]}}",
		  false },
		{ "{'spec':{'initContainers':[{'image':'a'}],'containers':[{'image':'b'}]}}", true },
		{ "{'spec':{'initContainers':[{'image':'b'}],'containers':[{'image':'a'}]}}", true },
		{ "{'spec':{'initContainers':[{'image':'a'}],'containers':[{'image':'a'},{'image':'a'}]}}", true },
		{ "{'spec':{'initContainers':[{'image':'a'}],'containers':[{'image':'a'}]}}", false },
		{ "{'spec':{'initContainers':[{'image':'a'}],'containers':[{'image':'a'}],'ephemeralContainers':[{'name':"
		  "'f','image':'a'}]}}",
		  true },
		{ "{'spec':{'initContainers':[{'image':'a'}],'containers':[{'image':'a'}],'ephemeralContainers':[{'name':"
		  "'e','image':'b'}]}}",
		  true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;

		if (pod_security_matters(json_of(&arena, cases[i].after), json_of(&arena, before)) != cases[i].matters)
			fail_msg("%s", cases[i].after);
	}
}

/* Trees that no decoder would let through must not hurt either. */
static void test_odd_trees(void **state)
{
	static const char *const pods[] = {
		"{}",
		"{'spec':null}",
		"{'spec':{'containers':null,'securityContext':null,'volumes':[null,{}]}}",
		"{'spec':{'containers':[{}],'initContainers':[],'ephemeralContainers':[{'securityContext':{'capabilities':null}}]"
		"}}",
		"{'metadata':{'annotations':null},'spec':{'securityContext':{'sysctls':[{}],'seLinuxOptions':null}}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(pods); i++)
		for (int minor = 0; minor < 40; minor++) {
			_cleanup_arena_ struct arena arena = ARENA_INIT;
			struct json *pod = json_of(&arena, pods[i]);
			struct pod_security_violations v;

			pod_security_allows(&arena, &(struct pod_security_policy){ R, minor },
					    json_get(pod, "metadata"), json_get(pod, "spec"), &v);
			pod_security_allows(&arena, &(struct pod_security_policy){ B, minor }, NULL, NULL, &v);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_namespaces_paths_and_ports),
		cmocka_unit_test(test_host_probes),
		cmocka_unit_test(test_privileged_and_capabilities),
		cmocka_unit_test(test_app_armor),
		cmocka_unit_test(test_selinux),
		cmocka_unit_test(test_proc_mount),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_sysctls),
		cmocka_unit_test(test_host_process),
		cmocka_unit_test(test_privilege_escalation),
		cmocka_unit_test(test_volumes),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_label_findings),
		cmocka_unit_test(test_changes_that_matter),
		cmocka_unit_test(test_odd_trees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
