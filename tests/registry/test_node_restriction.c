/* SPDX-License-Identifier: Apache-2.0 */
/* NodeRestriction: what the node n1 may and may not, in upstream's words. */
#include "tests/registry/registry_fixture.h"

#include "tests/api/csr_sample.h"

static const struct str NODES[] = { { "system:nodes", 12 }, { "system:authenticated", 20 } };
static const struct request_user NODE = { .name = { "system:node:n1", 14 }, .groups = NODES, .n_groups = 2 };
static const struct request_user NAMELESS = { .name = { "system:node:", 12 }, .groups = NODES, .n_groups = 2 };
/* The name alone makes no node. */
static const struct request_user PRETENDER = { .name = { "system:node:n1", 14 }, .groups = NODES + 1, .n_groups = 1 };

static int as(struct fixture *f, const struct request_user *user, enum api_verb verb, const struct api_kind *kind,
	      const char *ns, const char *name, const char *subresource, const char *body)
{
	struct request rq = fixture_request(verb, kind, ns, name, body);

	rq.user = user;
	rq.subresource = subresource;
	if (verb == API_VERB_PATCH)
		rq.patch = REQUEST_PATCH_MERGE;
	return fixture_run(f, &rq);
}

static void refused(struct fixture *f, const char *why)
{
	if (f->status != 403 || !strstr(f->message, why))
		fail_msg("%d, expected \"%s\": %s", f->status, why, f->message ? f->message : f->json);
}

static void make(struct fixture *f, const struct api_kind *kind, const char *ns, const char *body)
{
	as(f, NULL, API_VERB_CREATE, kind, ns, "", NULL, body);
	fixture_expect(f, 201, body);
}

static int setup(void **state)
{
	struct fixture *f;

	fixture_setup(state);
	f = *state;
	fixture_namespace(f, "kube-node-lease");
	make(f, KIND_SERVICEACCOUNT, "default", "{\"metadata\":{\"name\":\"default\"}}");
	make(f, KIND_NODE, "", "{\"metadata\":{\"name\":\"n1\",\"labels\":{\"kubernetes.io/hostname\":\"n1\"}}}");
	make(f, KIND_NODE, "", "{\"metadata\":{\"name\":\"n2\"}}");
	make(f, KIND_POD, "default",
	     "{\"metadata\":{\"name\":\"mine\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"nodeName\":\"n1\",\"containers\":["
	     "{\"name\":\"c\",\"image\":\"i\"}]}}");
	make(f, KIND_POD, "default",
	     "{\"metadata\":{\"name\":\"theirs\"},\"spec\":{\"nodeName\":\"n2\",\"containers\":[{\"name\":\"c\","
	     "\"image\":\"i\"}]}}");
	return 0;
}

static void nodes(void **state)
{
	static const struct {
		const char *name, *patch, *why; /* why NULL: allowed */
	} rows[] = {
		{ "n1", "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}", NULL },
		{ "n1", "{\"metadata\":{\"labels\":{\"topology.kubernetes.io/zone\":\"a\"}}}", NULL },
		{ "n1",
		  "{\"metadata\":{\"labels\":{\"kubelet.kubernetes.io/x\":\"a\",\"sub.node.kubernetes.io/y\":\"b\"}}}",
		  NULL },
		{ "n1", "{\"metadata\":{\"labels\":{\"node-role.kubernetes.io/control-plane\":\"\"}}}",
		  "nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/control-plane" },
		{ "n1", "{\"metadata\":{\"labels\":{\"z.k8s.io/b\":\"1\",\"k8s.io/a\":\"1\"}}}",
		  "is not allowed to modify labels: k8s.io/a, z.k8s.io/b" },
		{ "n1", "{\"metadata\":{\"labels\":{\"node-restriction.kubernetes.io/x\":\"1\"}}}",
		  "is not allowed to modify labels: node-restriction.kubernetes.io/x" },
		{ "n1", "{\"spec\":{\"taints\":[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]}}",
		  "node \"n1\" is not allowed to modify taints" },
		{ "n2", "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}",
		  "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		as(f, &NODE, API_VERB_PATCH, KIND_NODE, "", rows[i].name, NULL, rows[i].patch);
		if (rows[i].why)
			refused(f, rows[i].why);
		else
			fixture_expect(f, 200, rows[i].patch);
	}
	as(f, &NODE, API_VERB_PATCH, KIND_NODE, "", "n1", "status", "{\"status\":{\"phase\":\"Running\"}}");
	fixture_expect(f, 200, "its status");
	as(f, &NODE, API_VERB_DELETE, KIND_NODE, "", "n2", NULL, "");
	refused(f, "node \"n1\" is not allowed to modify node \"n2\"");
	as(f, &NODE, API_VERB_DELETE, KIND_NODE, "", "n1", NULL, "");
	fixture_expect(f, 200, "itself");
	as(f, &NODE, API_VERB_CREATE, KIND_NODE, "", "", NULL,
	   "{\"metadata\":{\"name\":\"n1\",\"labels\":{\"node-role.kubernetes.io/x\":\"\"}}}");
	refused(f, "node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/x");
	as(f, &NODE, API_VERB_CREATE, KIND_NODE, "", "", NULL, "{\"metadata\":{\"name\":\"n1\"}}");
	fixture_expect(f, 201, "itself again");
	as(f, &NAMELESS, API_VERB_PATCH, KIND_NODE, "", "n1", NULL, "{}");
	refused(f, "could not determine node from user \"system:node:\"");
	as(f, &PRETENDER, API_VERB_PATCH, KIND_NODE, "", "n2", NULL, "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
	fixture_expect(f, 200, "who is no node is not our business");
}

static void pods(void **state)
{
	struct fixture *f = *state;

	as(f, &NODE, API_VERB_PATCH, KIND_POD, "default", "mine", NULL, "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
	refused(f, "pods \"mine\" is forbidden: unexpected operation \"UPDATE\", node \"n1\" can only create and "
		   "delete mirror pods");
	as(f, &NODE, API_VERB_PATCH, KIND_POD, "default", "mine", "status", "{\"status\":{\"phase\":\"Running\"}}");
	fixture_expect(f, 200, "its pod's status");
	as(f, &NODE, API_VERB_PATCH, KIND_POD, "default", "mine", "status",
	   "{\"metadata\":{\"labels\":{\"x\":\"y\"}},\"status\":{\"phase\":\"Running\"}}");
	refused(f, "node \"n1\" cannot update labels through pod status");
	as(f, &NODE, API_VERB_PATCH, KIND_POD, "default", "theirs", "status", "{\"status\":{\"phase\":\"Running\"}}");
	refused(f, "node \"n1\" can only update pod status for pods with spec.nodeName set to itself");
	make(f, KIND_POD, "default",
	     "{\"metadata\":{\"name\":\"free\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
	as(f, &NODE, API_VERB_CREATE, KIND_POD, "default", "free", "binding",
	   "{\"target\":{\"kind\":\"Node\",\"name\":\"n1\"}}");
	refused(f, "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed");
	as(f, &NODE, API_VERB_CREATE, KIND_POD, "default", "theirs", "eviction",
	   "{\"metadata\":{\"name\":\"theirs\"}}");
	refused(f, "node n1 can only evict pods with spec.nodeName set to itself");
	as(f, &NODE, API_VERB_DELETE, KIND_POD, "default", "theirs", NULL, "");
	refused(f, "node \"n1\" can only delete pods with spec.nodeName set to itself");
	as(f, &NODE, API_VERB_CREATE, KIND_POD, "default", "mine", "eviction", "{\"metadata\":{\"name\":\"mine\"}}");
	fixture_expect(f, 201, "eviction");
	as(f, &NODE, API_VERB_DELETE, KIND_POD, "default", "mine", NULL, "{\"gracePeriodSeconds\":0}");
	fixture_expect(f, 200, "deletion");
}

static void mirror_pods(void **state)
{
#define MIRROR(owners, spec)                                                                                                 \
	"{\"metadata\":{\"name\":\"m\",\"annotations\":{\"kubernetes.io/config.mirror\":\"x\"},\"ownerReferences\":[" owners \
	"]},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]" spec "}}"
#define OWNER(name, uid, more)                                                                                         \
	"{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"" name "\",\"uid\":\"" uid "\"" more "}"
#define ON_N1 ",\"nodeName\":\"n1\""
	static const struct {
		const char *body, *why;
	} rows[] = {
		{ "{\"metadata\":{\"name\":\"m\"},\"spec\":{\"nodeName\":\"n1\",\"containers\":[{\"name\":\"c\",\"image\":"
		  "\"i\"}]}}",
		  "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror "
		  "pods" },
		{ MIRROR("", ""), "node \"n1\" can only create pods with spec.nodeName set to itself" },
		{ MIRROR("", ON_N1), "node \"n1\" can only create pods with an owner reference set to itself" },
		{ MIRROR(OWNER("n2", "UID", ""), ON_N1),
		  "node \"n1\" can only create pods with an owner reference set to itself" },
		{ MIRROR(OWNER("n1", "UID", ""), ON_N1),
		  "node \"n1\" can only create pods with a controller owner reference set to itself" },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true,\"blockOwnerDeletion\":true"), ON_N1),
		  "node \"n1\" must not set blockOwnerDeletion on an owner reference" },
		{ MIRROR(OWNER("n1", "other", ",\"controller\":true"), ON_N1),
		  "node n1 UID mismatch: expected other got " },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true"), ON_N1 ",\"serviceAccountName\":\"default\""),
		  "node \"n1\" can not create pods that reference a service account" },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true"),
			 ON_N1 ",\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"s\"}}]"),
		  "node \"n1\" can not create pods that reference secrets" },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true"), ON_N1
			 ",\"volumes\":[{\"name\":\"v\",\"projected\":{\"sources\":[{\"configMap\":{\"name\":\"s\"}}]}}]"),
		  "node \"n1\" can not create pods that reference configmaps" },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true"),
			 ON_N1 ",\"volumes\":[{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"s\"}}]"),
		  "node \"n1\" can not create pods that reference persistentvolumeclaims" },
		{ MIRROR(OWNER("n1", "UID", ",\"controller\":true"), ON_N1), NULL },
	};
	struct fixture *f = *state;
	_cleanup_free_ char *uid = NULL;

	as(f, NULL, API_VERB_GET, KIND_NODE, "", "n1", NULL, "");
	uid = mem_strdup(fixture_at(f, "metadata.uid"));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *at = strstr(rows[i].body, "UID");
		_cleanup_free_ char *body =
			at ? mem_printf("%.*s%s%s", (int)(at - rows[i].body), rows[i].body, uid, at + 3)
			   : mem_strdup(rows[i].body);

		as(f, &NODE, API_VERB_CREATE, KIND_POD, "default", "", NULL, body);
		if (rows[i].why)
			refused(f, rows[i].why);
		else
			fixture_expect(f, 201, body);
	}
}

static int issue(void *arg, const struct registry_token_request *request, struct str *ret_token,
		 int64_t *ret_expires_real_ns, struct err *err)
{
	*ret_token = STR("t");
	*ret_expires_real_ns = NS_PER_S;
	return 0;
}

static void tokens(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *mine = NULL, *theirs = NULL, *body = NULL;

	registry_set_token_issuer(f->reg, issue, NULL);
	as(f, NULL, API_VERB_GET, KIND_POD, "default", "mine", NULL, "");
	mine = mem_strdup(fixture_at(f, "metadata.uid"));
	as(f, NULL, API_VERB_GET, KIND_POD, "default", "theirs", NULL, "");
	theirs = mem_strdup(fixture_at(f, "metadata.uid"));
#define TOKEN(...) as(f, &NODE, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "default", "token", __VA_ARGS__)
	TOKEN("{\"spec\":{}}");
	refused(f, "serviceaccounts \"default\" is forbidden: node requested token not bound to a pod");
	TOKEN("{\"spec\":{\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n1\"}}}");
	refused(f, "node requested token not bound to a pod");
	TOKEN("{\"spec\":{\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"mine\"}}}");
	refused(f, "node requested token with a pod binding without a uid");
	TOKEN("{\"spec\":{\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"mine\",\"uid\":\"u\"}}}");
	refused(f, "the UID in the bound object reference (u) does not match the UID in record. The object might have "
		   "been deleted and then recreated");
	body = mem_printf("{\"spec\":{\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"theirs\","
			  "\"uid\":\"%s\"}}}",
			  theirs);
	TOKEN(body);
	refused(f, "node requested token bound to a pod scheduled on a different node");
	free(body);
	body = mem_printf("{\"spec\":{\"audiences\":[\"vault\"],\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":"
			  "\"Pod\",\"name\":\"mine\",\"uid\":\"%s\"}}}",
			  mine);
	TOKEN(body);
	refused(f, "audience \"vault\" not found in pod spec volume");
	free(body);
	body = mem_printf("{\"spec\":{\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"mine\","
			  "\"uid\":\"%s\"}}}",
			  mine);
	TOKEN(body);
	fixture_expect(f, 201, "of its own pod");
}

static void leases_and_requests(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("system:node:n2", "system:nodes", NULL),
			    *own = csr_sample("system:node:n1", "system:nodes", NULL), *body = NULL;

	as(f, &NODE, API_VERB_CREATE, KIND_LEASE, "default", "", NULL, "{\"metadata\":{\"name\":\"n1\"}}");
	refused(f, "can only access leases in the \"kube-node-lease\" system namespace");
	as(f, &NODE, API_VERB_CREATE, KIND_LEASE, "kube-node-lease", "", NULL, "{\"metadata\":{\"name\":\"n2\"}}");
	refused(f, "can only access node lease with the same name as the requesting node");
	as(f, &NODE, API_VERB_CREATE, KIND_LEASE, "kube-node-lease", "", NULL, "{\"metadata\":{\"name\":\"n1\"}}");
	fixture_expect(f, 201, "lease");
	as(f, &NODE, API_VERB_CREATE, KIND_CSINODE, "", "", NULL,
	   "{\"metadata\":{\"name\":\"n2\"},\"spec\":{\"drivers\":[]}}");
	refused(f, "can only access CSINode with the same name as the requesting node");
	as(f, &NODE, API_VERB_CREATE, KIND_CSINODE, "", "", NULL,
	   "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"drivers\":[]}}");
	fixture_expect(f, 201, "CSINode");
	body = csr_sample_object("a", pem, "kubernetes.io/kube-apiserver-client-kubelet",
				 "[\"digital signature\",\"client auth\"]", "");
	as(f, &NODE, API_VERB_CREATE, KIND_CERTIFICATESIGNINGREQUEST, "", "", NULL, body);
	refused(f, "can only create a node CSR with CN=system:node:n1");
	free(body);
	body = csr_sample_object("a", own, "kubernetes.io/kube-apiserver-client-kubelet",
				 "[\"digital signature\",\"client auth\"]", "");
	as(f, &NODE, API_VERB_CREATE, KIND_CERTIFICATESIGNINGREQUEST, "", "", NULL, body);
	fixture_expect(f, 201, "request");
}

static void slices(void **state)
{
#define SLICE(name, node)                                                                                              \
	"{\"metadata\":{\"name\":\"" name "\"},\"spec\":{\"driver\":\"d.example\",\"nodeName\":\"" node                \
	"\",\"pool\":{\"name\":\"p\",\"generation\":1,\"resourceSliceCount\":1}}}"
	struct fixture *f = *state;

	as(f, &NODE, API_VERB_CREATE, KIND_RESOURCESLICE, "", "", NULL, SLICE("a", "n2"));
	refused(f, "can only create ResourceSlice with the same NodeName as the requesting node");
	as(f, &NODE, API_VERB_CREATE, KIND_RESOURCESLICE, "", "", NULL, SLICE("a", "n1"));
	fixture_expect(f, 201, "its own");
	make(f, KIND_RESOURCESLICE, "", SLICE("b", "n2"));
	as(f, &NODE, API_VERB_DELETE, KIND_RESOURCESLICE, "", "b", NULL, "");
	refused(f, "resourceslices.resource.k8s.io \"b\" is forbidden: can only delete ResourceSlice with the same "
		   "NodeName as the requesting node");
	as(f, &NODE, API_VERB_DELETE, KIND_RESOURCESLICE, "", "a", NULL, "");
	fixture_expect(f, 200, "its own");
}

static int collection(struct fixture *f, const struct api_kind *kind, const char *ns, const char *fields)
{
	struct request rq = fixture_request(API_VERB_DELETECOLLECTION, kind, ns, "", "");

	rq.user = &NODE;
	rq.field_selector = str_of(fields);
	return fixture_run(f, &rq);
}

/* Each object is looked at, without its name. */
static void collections(void **state)
{
	struct fixture *f = *state;

	collection(f, KIND_NODE, "", "metadata.name=n1");
	refused(f, "nodes \"Unknown\" is forbidden: node \"n1\" is not allowed to modify node \"\"");
	collection(f, KIND_NODE, "", "metadata.name=n2");
	refused(f, "node \"n1\" is not allowed to modify node \"\"");
	make(f, KIND_LEASE, "kube-node-lease", "{\"metadata\":{\"name\":\"n1\"}}");
	collection(f, KIND_LEASE, "kube-node-lease", "");
	refused(f, "can only access node lease with the same name as the requesting node");
	make(f, KIND_CSINODE, "", "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"drivers\":[]}}");
	collection(f, KIND_CSINODE, "", "");
	refused(f, "can only access CSINode with the same name as the requesting node");
	collection(f, KIND_POD, "default", "metadata.name=theirs");
	refused(f, "pods \"Unknown\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself");
	collection(f, KIND_POD, "default", "spec.nodeName=n1");
	fixture_expect(f, 200, "those bound to it");
	make(f, KIND_RESOURCESLICE, "", SLICE("b", "n2"));
	collection(f, KIND_RESOURCESLICE, "", "");
	refused(f, "can only delete ResourceSlice with the same NodeName as the requesting node");
	as(f, NULL, API_VERB_GET, KIND_NODE, "", "n1", NULL, "");
	fixture_expect(f, 200, "still there");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(pods, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(mirror_pods, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(tokens, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(leases_and_requests, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(slices, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(collections, setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
