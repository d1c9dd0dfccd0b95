/* SPDX-License-Identifier: Apache-2.0 */
/* See flowcontrol.h. */
#include "userspace/api/flowcontrol.h"

#define LIMITED(shares, lendable, response)                                                                            \
	"{\"type\":\"Limited\",\"limited\":{\"nominalConcurrencyShares\":" #shares ",\"limitResponse\":" response      \
	",\"lendablePercent\":" #lendable "}}"
#define QUEUE(queues, hand, length)                                                                                    \
	"{\"type\":\"Queue\",\"queuing\":{\"queues\":" #queues ",\"handSize\":" #hand ",\"queueLengthLimit\":" #length \
	"}}"

const struct flowcontrol_object flowcontrol_levels[] = {
	{ "exempt", true, "{\"type\":\"Exempt\",\"exempt\":{\"nominalConcurrencyShares\":0,\"lendablePercent\":0}}" },
	{ "catch-all", true, LIMITED(5, 0, "{\"type\":\"Reject\"}") },
	{ "system", false, LIMITED(30, 33, QUEUE(64, 6, 50)) },
	{ "node-high", false, LIMITED(40, 25, QUEUE(64, 6, 50)) },
	{ "leader-election", false, LIMITED(10, 0, QUEUE(16, 4, 50)) },
	{ "workload-high", false, LIMITED(40, 50, QUEUE(128, 6, 50)) },
	{ "workload-low", false, LIMITED(100, 90, QUEUE(128, 6, 50)) },
	{ "global-default", false, LIMITED(20, 50, QUEUE(128, 6, 50)) },
	{ 0 },
};

#define USER(name) "{\"kind\":\"User\",\"user\":{\"name\":\"" name "\"}}"
#define GROUP(name) "{\"kind\":\"Group\",\"group\":{\"name\":\"" name "\"}}"
#define SYSTEM_ACCOUNT(name)                                                                                           \
	"{\"kind\":\"ServiceAccount\",\"serviceAccount\":{\"namespace\":\"kube-system\",\"name\":\"" name "\"}}"
#define EVERYBODY GROUP("system:unauthenticated") "," GROUP("system:authenticated")
#define ALL_RESOURCES                                                                                                  \
	"\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"clusterScope\":true,"     \
	"\"namespaces\":[\"*\"]}]"
#define ALL_PATHS "\"nonResourceRules\":[{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}]"
#define LOCKS(group, resources, ns)                                                                                    \
	"{\"verbs\":[\"get\",\"create\",\"update\"],\"apiGroups\":[\"" group "\"],\"resources\":[" resources           \
	"],\"namespaces\":[\"" ns "\"]}"
#define SCHEMA(level, precedence, by, rules)                                                                           \
	"{\"priorityLevelConfiguration\":{\"name\":\"" level "\"},\"matchingPrecedence\":" #precedence by              \
	",\"rules\":[{" rules "}]}"
#define BY(what) ",\"distinguisherMethod\":{\"type\":\"By" what "\"}"
#define SUBJECTS(list) "\"subjects\":[" list "],"
#define ALL(list) SUBJECTS(list) ALL_RESOURCES "," ALL_PATHS

const struct flowcontrol_object flowcontrol_schemas[] = {
	{ "exempt", true, SCHEMA("exempt", 1, "", ALL(GROUP("system:masters"))) },
	{ "catch-all", true, SCHEMA("catch-all", 10000, BY("User"), ALL(EVERYBODY)) },
	{ "probes", false,
	  SCHEMA("exempt", 2, "",
		 SUBJECTS(EVERYBODY) "\"nonResourceRules\":[{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/healthz\","
				     "\"/readyz\",\"/livez\"]}]") },
	{ "system-leader-election", false,
	  SCHEMA("leader-election", 100, BY("User"),
		 SUBJECTS(USER("system:kube-controller-manager") "," USER("system:kube-scheduler") "," SYSTEM_ACCOUNT(
			 "*")) "\"resourceRules\":[" LOCKS("coordination.k8s.io", "\"leases\"", "*") "]") },
	{ "endpoint-controller", false,
	  SCHEMA("workload-high", 150, BY("User"),
		 SUBJECTS(
			 USER("system:kube-controller-manager") "," SYSTEM_ACCOUNT("endpoint-controller") "," SYSTEM_ACCOUNT(
				 "endpointslicemirroring-controller")) "\"resourceRules\":[" LOCKS("", "\"endpoints\"",
												   "*") "]") },
	{ "workload-leader-election", false,
	  SCHEMA("leader-election", 200, BY("User"),
		 SUBJECTS(SYSTEM_ACCOUNT("*")) "\"resourceRules\":[" LOCKS("", "\"endpoints\",\"configmaps\"",
									   "*") "," LOCKS("coordination.k8s.io",
											  "\"leases\"", "*") "]") },
	{ "system-node-high", false,
	  SCHEMA("node-high", 400, BY("User"),
		 SUBJECTS(GROUP("system:nodes")) "\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"\"],"
						 "\"resources\":[\"nodes\",\"nodes/status\"],\"clusterScope\":true,"
						 "\"namespaces\":[\"*\"]},{\"verbs\":[\"*\"],\"apiGroups\":["
						 "\"coordination.k8s.io\"],\"resources\":[\"leases\"],"
						 "\"namespaces\":[\"*\"]}]") },
	{ "system-nodes", false, SCHEMA("system", 500, BY("User"), ALL(GROUP("system:nodes"))) },
	{ "kube-controller-manager", false,
	  SCHEMA("workload-high", 800, BY("Namespace"), ALL(USER("system:kube-controller-manager"))) },
	{ "kube-scheduler", false, SCHEMA("workload-high", 800, BY("Namespace"), ALL(USER("system:kube-scheduler"))) },
	{ "kube-system-service-accounts", false,
	  SCHEMA("workload-high", 900, BY("Namespace"), ALL(SYSTEM_ACCOUNT("*"))) },
	{ "service-accounts", false, SCHEMA("workload-low", 9000, BY("User"), ALL(GROUP("system:serviceaccounts"))) },
	{ "global-default", false, SCHEMA("global-default", 9900, BY("User"), ALL(EVERYBODY)) },
	{ 0 },
};
