/* SPDX-License-Identifier: Apache-2.0 */
/* CertificateSigningRequests: who asked is filled in, bad ones are refused in upstream's words, approval and issuance
 * keep apart, and the plugins ask RBAC. */
#include "tests/registry/registry_fixture.h"

#include "tests/api/csr_sample.h"
#include "userspace/api/csr.h"

#define CLIENT_USAGES "[\"client auth\"]"
#define CLIENT "kubernetes.io/kube-apiserver-client"

static const struct str MASTERS[] = { { "system:masters", 14 }, { "system:authenticated", 20 } };
static const struct request_extra EXTRA[] = { { { "example.com/x", 13 }, MASTERS + 1, 1 } };
static const struct request_user ADMIN = {
	.name = { "root", 4 }, .uid = { "u-1", 3 }, .groups = MASTERS, .n_groups = 2, .extra = EXTRA, .n_extra = 1
};

static int run(struct fixture *f, enum api_verb verb, const char *name, const char *subresource, const char *body,
	       const struct request_user *user)
{
	struct request rq = fixture_request(verb, KIND_CERTIFICATESIGNINGREQUEST, "", name, body);

	rq.subresource = subresource;
	rq.user = user;
	if (verb == API_VERB_PATCH)
		rq.patch = REQUEST_PATCH_MERGE;
	return fixture_run(f, &rq);
}

static int create(struct fixture *f, const char *name, const char *pem, const char *signer, const char *usages,
		  const char *more)
{
	_cleanup_free_ char *body = csr_sample_object(name, pem, signer, usages, more);

	return run(f, API_VERB_CREATE, "", NULL, body, &ADMIN);
}

static void good(struct fixture *f, const char *name)
{
	_cleanup_free_ char *pem = csr_sample("jane", "devs", NULL);

	create(f, name, pem, CLIENT, CLIENT_USAGES, "");
	fixture_expect(f, 201, name);
}

static void who_asked_is_filled_in(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", "devs", NULL);

	create(f, "a", pem, CLIENT, CLIENT_USAGES,
	       ",\"username\":\"liar\",\"groups\":[\"system:masters\"],\"uid\":\"x\",\"extra\":{\"k\":[\"v\"]}");
	fixture_expect(f, 201, "create");
	assert_string_equal(fixture_at(f, "spec.username"), "root");
	assert_string_equal(fixture_at(f, "spec.uid"), "u-1");
	assert_string_equal(fixture_at(f, "spec.groups"), "[\"system:masters\",\"system:authenticated\"]");
	assert_string_equal(fixture_at(f, "spec.extra"), "{\"example.com/x\":[\"system:authenticated\"]}");
	assert_string_equal(fixture_at(f, "status"), "{}");
	/* what is asked for stays */
	run(f, API_VERB_PATCH, "a", NULL, "{\"spec\":{\"usages\":[\"any\"]},\"metadata\":{\"labels\":{\"x\":\"y\"}}}",
	    &ADMIN);
	fixture_expect(f, 200, "patch");
	assert_string_equal(fixture_at(f, "spec.usages"), CLIENT_USAGES);
	assert_string_equal(fixture_at(f, "metadata.labels.x"), "y");
}

static void bad_ones_are_refused(void **state)
{
	static const struct {
		const char *signer, *usages, *more, *message;
	} rows[] = {
		{ CLIENT, "[]", "", "spec.usages: Required value" },
		{ CLIENT, "[\"client auth\",\"client auth\"]", "", "spec.usages[1]: Duplicate value: \"client auth\"" },
		{ CLIENT, "[\"walk\"]", "", "spec.usages[0]: Unsupported value: \"walk\": supported values: \"any\"," },
		{ "", CLIENT_USAGES, "", "spec.signerName: Required value" },
		{ "kubernetes.io/legacy-unknown", CLIENT_USAGES, "",
		  "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not "
		  "allowed via this API version" },
		{ "x", CLIENT_USAGES, "",
		  "must be a fully qualified domain and path of the form 'example.com/signer-name'" },
		{ "a.b/c/d", CLIENT_USAGES, "",
		  "must be a fully qualified domain and path of the form 'example.com/signer-name'" },
		{ "local/x", CLIENT_USAGES, "", "should be a domain with at least two segments separated by dots" },
		{ "a..b/x", CLIENT_USAGES, "", "Invalid value: \"a..b\": validating label \"\"" },
		{ "a.b/X", CLIENT_USAGES, "", "Invalid value: \"X\": validating label \"X\"" },
		{ "a.b/", CLIENT_USAGES, "", "Invalid value: \"\": validating label \"\"" },
		{ CLIENT, CLIENT_USAGES, ",\"expirationSeconds\":599",
		  "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 "
		  "minutes)" },
	};
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(create(f, "x", pem, rows[i].signer, rows[i].usages, rows[i].more), 422);
		if (!strstr(f->message, rows[i].message))
			fail_msg("%zu: %s", i, f->message);
	}
	assert_int_equal(create(f, "x", "-----BEGIN X-----\nAAAA\n-----END X-----\n", CLIENT, CLIENT_USAGES, ""), 422);
	assert_non_null(strstr(f->message, ": PEM block type must be CERTIFICATE REQUEST"));
	assert_int_equal(create(f, "x", "", CLIENT, CLIENT_USAGES, ""), 422);
	/* A name that is only good in a path. */
	assert_int_equal(create(f, "node:x_Y", pem, CLIENT, CLIENT_USAGES, ""), 201);
}

static void a_broken_signature_is_seen(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *pem = csr_sample("jane", NULL, NULL), *bad = NULL;
	_cleanup_buf_ struct buf der = BUF_INIT, text = BUF_INIT;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct csr csr;
	char *copy;

	assert_int_equal(csr_parse(&arena, str_of(pem), &csr, NULL), 0);
	copy = arena_strndup(&arena, csr.der.p, csr.der.n);
	memcpy(memmem(copy, csr.der.n, "jane", 4), "john", 4);
	base64_encode(&text, copy, csr.der.n, BASE64_STD);
	bad = mem_printf("-----BEGIN CERTIFICATE REQUEST-----\n%s\n-----END CERTIFICATE REQUEST-----\n",
			 buf_cstr(&text));
	assert_int_equal(create(f, "x", bad, CLIENT, CLIENT_USAGES, ""), 422);
	assert_non_null(strstr(f->message, "x509: ECDSA verification failure"));
}

#define CONDITION(type) "{\"type\":\"" type "\",\"status\":\"True\",\"reason\":\"R\",\"message\":\"m\"}"
#define CONDITIONS(list) "{\"status\":{\"conditions\":[" list "]}}"

static void approval(void **state)
{
	struct fixture *f = *state;

	good(f, "a");
	run(f, API_VERB_PATCH, "a", "approval", CONDITIONS(CONDITION("Approved")), &ADMIN);
	fixture_expect(f, 200, "approve");
	assert_int_equal(json_count(json_at(f->tree, "status.conditions")), 1);
	assert_true(json_get_str(json_first(json_at(f->tree, "status.conditions")), "lastUpdateTime").n > 0);
	assert_true(json_get_str(json_first(json_at(f->tree, "status.conditions")), "lastTransitionTime").n > 0);
	assert_int_equal(run(f, API_VERB_PATCH, "a", "approval", CONDITIONS(""), &ADMIN), 422);
	assert_string_equal(f->message, "CertificateSigningRequest.certificates.k8s.io \"a\" is invalid: "
					"status.conditions: Forbidden: updates may not remove a condition of type "
					"\"Approved\"");
	assert_int_equal(run(f, API_VERB_PATCH, "a", "approval",
			     CONDITIONS(CONDITION("Approved") "," CONDITION("Denied")), &ADMIN),
			 422);
	assert_non_null(strstr(f->message, "status.conditions: Invalid value: \"Denied\": Approved and Denied "
					   "conditions are mutually exclusive"));
	assert_int_equal(run(f, API_VERB_PATCH, "a", "approval",
			     CONDITIONS(CONDITION("Approved") "," CONDITION("Approved")), &ADMIN),
			 422);
	assert_non_null(strstr(f->message, "status.conditions[1].type: Duplicate value: \"Approved\""));
	assert_int_equal(run(f, API_VERB_PATCH, "a", "approval",
			     CONDITIONS("{\"type\":\"Approved\",\"status\":\"False\"}"), &ADMIN),
			 422);
	assert_non_null(strstr(f->message, "status.conditions[0].status: Unsupported value: \"False\": supported "
					   "values: \"True\""));
	/* the approval does not write certificates */
	run(f, API_VERB_PATCH, "a", "approval", "{\"status\":{\"certificate\":\"QUFB\"}}", &ADMIN);
	fixture_expect(f, 200, "certificate by approval");
	assert_string_equal(fixture_at(f, "status.certificate"), "");
}

/* A certificate signed by its own key. */
static char *certificate_text(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	X509 *cert = X509_new();
	struct buf b = BUF_INIT;
	char *pem;
	long n;

	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
	n = BIO_get_mem_data(bio, &pem);
	base64_encode(&b, pem, (size_t)n, BASE64_STD);
	BIO_free(bio);
	X509_free(cert);
	EVP_PKEY_free(key);
	return buf_steal(&b, NULL);
}

static void issuance(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *cert = certificate_text(), *other = certificate_text(),
			    *body = mem_printf("{\"status\":{\"certificate\":\"%s\"}}", cert),
			    *again = mem_printf("{\"status\":{\"certificate\":\"%s\"}}", other);

	good(f, "a");
	assert_int_equal(run(f, API_VERB_PATCH, "a", "status", CONDITIONS(CONDITION("Approved")), &ADMIN), 422);
	assert_non_null(strstr(f->message, "status.conditions: Forbidden: updates may not add a condition of type "
					   "\"Approved\""));
	run(f, API_VERB_PATCH, "a", "approval", CONDITIONS(CONDITION("Approved")), &ADMIN);
	fixture_expect(f, 200, "approve");
	assert_int_equal(run(f, API_VERB_PATCH, "a", "status", "{\"status\":{\"certificate\":\"QUFB\"}}", &ADMIN), 422);
	assert_string_equal(f->message, "CertificateSigningRequest.certificates.k8s.io \"a\" is invalid: "
					"status.certificate: Invalid value: \"<certificate data>\": must contain at "
					"least one CERTIFICATE PEM block");
	run(f, API_VERB_PATCH, "a", "status", body, &ADMIN);
	fixture_expect(f, 200, "issue");
	assert_string_equal(fixture_at(f, "status.certificate"), cert);
	assert_int_equal(json_count(json_at(f->tree, "status.conditions")), 1);
	/* the decision is not rewritten by a signer */
	run(f, API_VERB_PATCH, "a", "status",
	    CONDITIONS("{\"type\":\"Approved\",\"status\":\"True\",\"reason\":\"forged\"}"), &ADMIN);
	fixture_expect(f, 200, "status");
	assert_non_null(strstr(f->json, "\"reason\":\"R\""));
	assert_int_equal(run(f, API_VERB_PATCH, "a", "status", again, &ADMIN), 422);
	assert_non_null(strstr(f->message,
			       "status.certificate: Forbidden: updates may not modify existing certificate content"));
}

static void the_plugins_ask(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *cert = certificate_text(), *masters = csr_sample("eve", "x,system:masters", NULL),
			    *body = mem_printf("{\"status\":{\"certificate\":\"%s\"}}", cert);

	good(f, "a");
	assert_int_equal(run(f, API_VERB_PATCH, "a", "approval", CONDITIONS(CONDITION("Approved")), &FIXTURE_USER),
			 403);
	assert_string_equal(f->message, "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not "
					"permitted to approve requests with signerName \"" CLIENT "\"");
	assert_int_equal(run(f, API_VERB_PATCH, "a", "status", body, &FIXTURE_USER), 403);
	assert_string_equal(f->message, "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not "
					"permitted to sign requests with signerName \"" CLIENT "\"");
	run(f, API_VERB_PATCH, "a", "status", CONDITIONS(CONDITION("Failed")), &FIXTURE_USER);
	fixture_expect(f, 200, "a status without a certificate");
	assert_int_equal(create(f, "m", masters, CLIENT, CLIENT_USAGES, ""), 403);
	assert_string_equal(f->message, "certificatesigningrequests.certificates.k8s.io \"m\" is forbidden: use of "
					"kubernetes.io/kube-apiserver-client signer with system:masters group is not "
					"allowed");
	create(f, "m", masters, "example.com/own", CLIENT_USAGES, "");
	fixture_expect(f, 201, "another signer may");
}

static void create_rbac(struct fixture *f, const char *kind, const char *body)
{
	struct request rq = fixture_request(API_VERB_CREATE,
					    api_kind_by_kind(STR("rbac.authorization.k8s.io"), STR("v1"), str_of(kind)),
					    "", "", body);

	rq.user = &ADMIN;
	fixture_run(f, &rq);
	fixture_expect(f, 201, kind);
}

static void rbac_opens_a_signer(void **state)
{
	struct fixture *f = *state;

	good(f, "a");
	create_rbac(f, "ClusterRole",
		    "{\"metadata\":{\"name\":\"approver\"},\"rules\":[{\"apiGroups\":[\"certificates.k8s.io\"],"
		    "\"resources\":[\"signers\"],\"verbs\":[\"approve\"],\"resourceNames\":[\"kubernetes.io/*\"]}]}");
	create_rbac(f, "ClusterRoleBinding",
		    "{\"metadata\":{\"name\":\"approver\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
		    "\"kind\":\"ClusterRole\",\"name\":\"approver\"},\"subjects\":[{\"kind\":\"User\",\"name\":"
		    "\"tester\",\"apiGroup\":\"rbac.authorization.k8s.io\"}]}");
	run(f, API_VERB_PATCH, "a", "approval", CONDITIONS(CONDITION("Approved")), &FIXTURE_USER);
	fixture_expect(f, 200, "approve by the domain's star");
}

/* ---- what signers accept ---- */

static void signers(void **state)
{
	static const struct {
		const char *signer, *cn, *orgs, *sans, *usages, *why;
	} rows[] = {
		{ CLIENT, "jane", "devs", "DNS:x", CLIENT_USAGES, NULL },
		{ CLIENT, "jane", NULL, NULL, "[\"digital signature\",\"key encipherment\",\"client auth\"]", NULL },
		{ CLIENT, "jane", NULL, NULL, "[\"digital signature\"]",
		  "missing required usage for client certificate: client auth" },
		{ CLIENT, "jane", NULL, NULL, "[\"client auth\",\"server auth\"]",
		  "invalid usage for client certificate: server auth" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", NULL,
		  "[\"digital signature\",\"client auth\"]", NULL },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes,x", NULL,
		  "[\"digital signature\",\"client auth\"]", "subject organization is not system:nodes" },
		{ CSR_SIGNER_KUBELET_CLIENT, "node:n", "system:nodes", NULL, "[\"digital signature\",\"client auth\"]",
		  "subject common name does not begin with system:node:" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", "DNS:x",
		  "[\"digital signature\",\"client auth\"]", "DNS subjectAltNames are not allowed" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", "IP:1.2.3.4",
		  "[\"digital signature\",\"client auth\"]", "IP subjectAltNames are not allowed" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", "email:a@b.c",
		  "[\"digital signature\",\"client auth\"]", "Email subjectAltNames are not allowed" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", "URI:x://y",
		  "[\"digital signature\",\"client auth\"]", "URI subjectAltNames are not allowed" },
		{ CSR_SIGNER_KUBELET_CLIENT, "system:node:n", "system:nodes", NULL, CLIENT_USAGES,
		  "usages did not match [client auth digital signature key encipherment]" },
		{ CSR_SIGNER_KUBELET_SERVING, "system:node:n", "system:nodes", "DNS:n,IP:::1",
		  "[\"digital signature\",\"key encipherment\",\"server auth\"]", NULL },
		{ CSR_SIGNER_KUBELET_SERVING, "system:node:n", "system:nodes", NULL,
		  "[\"digital signature\",\"server auth\"]", "DNS or IP subjectAltName is required" },
		{ CSR_SIGNER_KUBELET_SERVING, "system:node:n", "system:nodes", "DNS:n",
		  "[\"digital signature\",\"client auth\"]",
		  "usages did not match [digital signature key encipherment server auth]" },
		{ "example.com/x", "anybody", NULL, NULL, "[\"any\"]", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *pem = csr_sample(rows[i].cn, rows[i].orgs, rows[i].sans);
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *usages;
		struct csr csr;
		int r;

		assert_int_equal(csr_parse(&arena, str_of(pem), &csr, &err), 0);
		assert_int_equal(json_parse(&arena, str_of(rows[i].usages), 0, &usages, NULL), 0);
		r = csr_check_signer(str_of(rows[i].signer), &csr, usages, &err);
		if (rows[i].why ? r != -EINVAL || strcmp(err.message, rows[i].why) : r != 0)
			fail_msg("%zu: %d %s", i, r, err_message(&err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_asked_is_filled_in, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(bad_ones_are_refused, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_broken_signature_is_seen, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(approval, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(issuance, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(the_plugins_ask, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(rbac_opens_a_signer, fixture_setup, fixture_teardown),
		cmocka_unit_test(signers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
