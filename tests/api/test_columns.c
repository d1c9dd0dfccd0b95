/* SPDX-License-Identifier: Apache-2.0 */
/* The columns that clients of Kubernetes know, of every kind that is stored: names and order, and which of them only
 * -o wide shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/table.h"
#include "userspace/base/mem.h"

#define WORKLOAD "|Containers*|Images*"

static const struct {
	const char *group, *plural, *columns; /* "*": wide */
} EXPECTED[] = {
	{ "", "pods", "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*" },
	{ "", "podtemplates", "Name|Containers|Images|Pod Labels" },
	{ "", "replicationcontrollers", "Name|Desired|Current|Ready|Age" WORKLOAD "|Selector*" },
	{ "", "services", "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*" },
	{ "", "endpoints", "Name|Endpoints|Age" },
	{ "", "nodes",
	  "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*" },
	{ "", "namespaces", "Name|Status|Age" },
	{ "", "configmaps", "Name|Data|Age" },
	{ "", "secrets", "Name|Type|Data|Age" },
	{ "", "serviceaccounts", "Name|Secrets|Age" },
	{ "", "events", "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*" },
	{ "", "persistentvolumes",
	  "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|"
	  "VolumeMode*" },
	{ "", "persistentvolumeclaims",
	  "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*" },
	{ "", "resourcequotas", "Name|Request|Limit|Age" },
	{ "", "limitranges", "Name|Created At" },
	{ "", "componentstatuses", "Name|Status|Message|Error" },
	{ "apps", "deployments", "Name|Ready|Up-to-date|Available|Age" WORKLOAD "|Selector*" },
	{ "apps", "replicasets", "Name|Desired|Current|Ready|Age" WORKLOAD "|Selector*" },
	{ "apps", "daemonsets",
	  "Name|Desired|Current|Ready|Up-to-date|Available|Node Selector|Age" WORKLOAD "|Selector*" },
	{ "apps", "statefulsets", "Name|Ready|Age" WORKLOAD },
	{ "apps", "controllerrevisions", "Name|Controller|Revision|Age" },
	{ "batch", "jobs", "Name|Status|Completions|Duration|Age" WORKLOAD "|Selector*" },
	{ "batch", "cronjobs", "Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age" WORKLOAD "|Selector*" },
	{ "autoscaling", "horizontalpodautoscalers", "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age" },
	{ "policy", "poddisruptionbudgets", "Name|Min Available|Max Unavailable|Allowed Disruptions|Age" },
	{ "discovery.k8s.io", "endpointslices", "Name|AddressType|Ports|Endpoints|Age" },
	{ "networking.k8s.io", "ingresses", "Name|Class|Hosts|Address|Ports|Age" },
	{ "networking.k8s.io", "ingressclasses", "Name|Controller|Parameters|Age" },
	{ "networking.k8s.io", "networkpolicies", "Name|Pod-Selector|Age" },
	{ "networking.k8s.io", "ipaddresses", "Name|ParentRef" },
	{ "networking.k8s.io", "servicecidrs", "Name|CIDRs|Age" },
	{ "coordination.k8s.io", "leases", "Name|Holder|Age" },
	{ "node.k8s.io", "runtimeclasses", "Name|Handler|Age" },
	{ "scheduling.k8s.io", "priorityclasses", "Name|Value|Global-Default|Age|PreemptionPolicy" },
	{ "storage.k8s.io", "storageclasses",
	  "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age" },
	{ "storage.k8s.io", "volumeattributesclasses", "Name|DriverName|Age" },
	{ "storage.k8s.io", "volumeattachments", "Name|Attacher|PV|Node|Attached|Age" },
	{ "storage.k8s.io", "csidrivers",
	  "Name|AttachRequired|PodInfoOnMount|StorageCapacity|TokenRequests|RequiresRepublish|Modes|Age" },
	{ "storage.k8s.io", "csinodes", "Name|Drivers|Age" },
	{ "storage.k8s.io", "csistoragecapacities", "Name|StorageClassName|Capacity" },
	{ "rbac.authorization.k8s.io", "roles", "Name|Created At" },
	{ "rbac.authorization.k8s.io", "clusterroles", "Name|Created At" },
	{ "rbac.authorization.k8s.io", "rolebindings", "Name|Role|Age|Users*|Groups*|ServiceAccounts*" },
	{ "rbac.authorization.k8s.io", "clusterrolebindings", "Name|Role|Age|Users*|Groups*|ServiceAccounts*" },
	{ "certificates.k8s.io", "certificatesigningrequests",
	  "Name|Age|SignerName|Requestor|RequestedDuration|Condition" },
	{ "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "Name|Webhooks|Age" },
	{ "admissionregistration.k8s.io", "validatingwebhookconfigurations", "Name|Webhooks|Age" },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicies", "Name|Validations|ParamKind|Age" },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicybindings", "Name|PolicyName|ParamRef|Age" },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicies", "Name|Mutations|ParamKind|Age" },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "Name|PolicyName|ParamRef|Age" },
	{ "flowcontrol.apiserver.k8s.io", "flowschemas",
	  "Name|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL" },
	{ "flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations",
	  "Name|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age" },
	{ "resource.k8s.io", "deviceclasses", "Name|Age" },
	{ "resource.k8s.io", "resourceclaims", "Name|State|Age" },
	{ "resource.k8s.io", "resourceclaimtemplates", "Name|Age" },
	{ "resource.k8s.io", "resourceslices", "Name|Node|Driver|Pool|Age" },
	{ "apiregistration.k8s.io", "apiservices", "Name|Service|Available|Age" },
	{ "events.k8s.io", "events",
	  "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*" },
};

static const char *columns_of(struct arena *arena, const struct api_kind *kind)
{
	_cleanup_buf_ struct buf out = BUF_INIT, text = BUF_INIT;
	struct table_options options = { .include = TABLE_INCLUDE_NONE };
	struct json *table = NULL;

	table_write_object(&out, arena, kind, &options, json_of(arena, "{'metadata':{'name':'x'}}"), STR(""));
	assert_int_equal(json_parse(arena, buf_str(&out), 0, &table, NULL), 0);
	json_foreach(c, json_get(table, "columnDefinitions")) {
		buf_add_cstr(&text, buf_len(&text) ? "|" : "");
		buf_add_str(&text, json_get_str(c, "name"));
		buf_add_cstr(&text, json_get_int(c, "priority", 0) ? "*" : "");
	}
	return arena_strdup(arena, buf_cstr(&text));
}

static void test_columns(void **state)
{
	size_t failures = 0;

	(void)state;
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *kind = api_kind_at(i);
		const char *got, *want = NULL;

		if (kind->resource == API_RESOURCE_NONE)
			continue;
		got = columns_of(&arena, kind);
		for (size_t k = 0; k < ARRAY_SIZE(EXPECTED); k++)
			if (!strcmp(kind->group, EXPECTED[k].group) && !strcmp(kind->plural, EXPECTED[k].plural))
				want = EXPECTED[k].columns;
		if (want && !strcmp(want, got))
			continue;
		failures++;
		print_error("%s %s\n has    %s\n wanted %s\n", kind->api_version, kind->plural, got,
			    want ? want : "a line in this table");
	}
	assert_int_equal(failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_columns) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
