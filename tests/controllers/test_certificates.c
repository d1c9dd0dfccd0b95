/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests after they were made: approved by RBAC, signed or failed, removed in time; and the secrets that
 * hold tokens. The signer is a stand-in that says what it was asked. */
#include "tests/controllers/house.h"

#include "tests/api/csr_sample.h"
#include "userspace/api/csr.h"
#include "userspace/controllers/signer.h"

static char *signed_pem; /* what it answers */
static int64_t asked_expiration_s;

static int sign_certificate(void *ctx, const struct signer_certificate *request, struct arena *arena,
			    struct str *ret_pem, struct err *err)
{
	asked_expiration_s = request->expiration_s;
	*ret_pem = arena_str(arena, str_of(signed_pem));
	return 0;
}

static int sign_token(void *ctx, const struct signer_token *request, struct arena *arena, struct str *ret_token,
		      struct err *err)
{
	*ret_token = str_of(arena_printf(arena, "token-of-%.*s-in-%.*s", STR_ARG(request->service_account),
					 STR_ARG(request->secret)));
	return 0;
}

static char *certificate(long ends_s)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	X509 *cert = X509_new();
	char *p, *pem;
	long n;

	X509_gmtime_adj(X509_getm_notBefore(cert), ends_s - 7200);
	X509_gmtime_adj(X509_getm_notAfter(cert), ends_s);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
	n = BIO_get_mem_data(bio, &p);
	pem = mem_strndup(p, (size_t)n);
	BIO_free(bio);
	X509_free(cert);
	EVP_PKEY_free(key);
	return pem;
}

static int setup(void **state)
{
	static const struct signer signer = { .certificate = sign_certificate, .token = sign_token };
	const struct controllers_options options = {
		.root_ca_pem = "-----BEGIN CERTIFICATE-----\n",
		.apiserver_address = "192.0.2.1",
		.apiserver_port = 6443,
		.kubernetes_service_ip = "10.43.0.1",
		.signer = &signer,
	};
	int r = house_setup(state);
	struct house *h = *state;

	if (r < 0)
		return r;
	signed_pem = certificate(3600);
	controllers_stop(h->controllers);
	return controllers_start(h->loop, h->reg, &options, &h->controllers, NULL);
}

static int teardown(void **state)
{
	free(signed_pem);
	return house_teardown(state);
}

static void request(struct house *h, const char *name, const char *cn, const char *orgs, const char *signer,
		    const char *usages, const char *user)
{
	_cleanup_free_ char *pem = csr_sample(cn, orgs, NULL),
			    *more = mem_printf(",\"expirationSeconds\":7200,\"username\":\"%s\",\"groups\":[\"g\"]",
					       user),
			    *text = csr_sample_object(name, pem, signer, usages, more);

	house_create(h, text);
}

static int approve(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *c = json_new_object(arena);

	json_set_cstr(arena, c, "type", arg);
	json_set_cstr(arena, c, "status", "True");
	json_append(json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions"), c);
	return 0;
}

static bool is_issued(struct house *h, void *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *csr = house_json(h, &arena, KIND_CERTIFICATESIGNINGREQUEST, "", name);

	return json_at_str(csr, "status.certificate").n > 0;
}

static bool has_failed(struct house *h, void *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *csr = house_json(h, &arena, KIND_CERTIFICATESIGNINGREQUEST, "", name);

	return meta_condition_is(json_at(csr, "status.conditions"), "Failed", "True");
}

static bool is_gone(struct house *h, void *name)
{
	return !house_get(h, KIND_CERTIFICATESIGNINGREQUEST, "", name);
}

static void approved_ones_are_signed(void **state)
{
	struct house *h = *state;

	request(h, "a", "jane", "devs", CSR_SIGNER_CLIENT, "[\"client auth\"]", "jane");
	request(h, "other", "jane", "devs", "example.com/x", "[\"client auth\"]", "jane");
	house_wait(h, house_is_quiet, NULL);
	assert_false(is_issued(h, "a"));
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "other", "approval", approve, "Approved");
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "a", "approval", approve, "Approved");
	house_wait(h, is_issued, "a");
	assert_int_equal(asked_expiration_s, 7200);
	house_wait(h, house_is_quiet, NULL);
	assert_false(is_issued(h, "other")); /* somebody else's */
}

static void broken_rules_fail(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct house *h = *state;
	const struct json *c;

	request(h, "a", "jane", NULL, CSR_SIGNER_KUBELET_CLIENT, "[\"client auth\",\"digital signature\"]", "jane");
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "a", "approval", approve, "Approved");
	house_wait(h, has_failed, "a");
	c = meta_condition(json_at(house_json(h, &arena, KIND_CERTIFICATESIGNINGREQUEST, "", "a"), "status.conditions"),
			   "Failed");
	assert_true(str_is(json_get_str(c, "reason"), "SignerValidationFailure"));
	assert_true(str_is(json_get_str(c, "message"), "subject organization is not system:nodes"));
	house_wait(h, house_is_quiet, NULL);
	assert_false(is_issued(h, "a"));
}

static void nodes_approve_themselves_by_rbac(void **state)
{
	static const char usages[] = "[\"client auth\",\"digital signature\"]";
	struct house *h = *state;

	house_create(h,
		     "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"ClusterRole\",\"metadata\":{\"name\":"
		     "\"self\"},\"rules\":[{\"apiGroups\":[\"certificates.k8s.io\"],\"resources\":["
		     "\"certificatesigningrequests/selfnodeclient\"],\"verbs\":[\"create\"]}]}");
	house_create(h,
		     "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"ClusterRoleBinding\",\"metadata\":{"
		     "\"name\":\"self\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
		     "\"ClusterRole\",\"name\":\"self\"},\"subjects\":[{\"kind\":\"Group\",\"name\":\"g\",\"apiGroup\":"
		     "\"rbac.authorization.k8s.io\"}]}");
	request(h, "other", "system:node:n", "system:nodes", CSR_SIGNER_KUBELET_CLIENT, usages, "system:node:m");
	request(h, "self", "system:node:n", "system:nodes", CSR_SIGNER_KUBELET_CLIENT, usages, "system:node:n");
	house_wait(h, is_issued, "self");
	house_wait(h, house_is_quiet, NULL);
	assert_false(is_issued(h, "other"));
}

static void old_ones_go(void **state)
{
	struct house *h = *state;

	/* A certificate that has ended. */
	free(signed_pem);
	signed_pem = certificate(-10);
	request(h, "ended", "jane", NULL, CSR_SIGNER_CLIENT, "[\"client auth\"]", "jane");
	request(h, "kept", "jane", NULL, CSR_SIGNER_CLIENT, "[\"client auth\"]", "jane");
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "kept", "approval", approve, "Denied");
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "ended", "approval", approve, "Approved");
	house_wait(h, is_gone, "ended");
	assert_false(is_gone(h, "kept"));
}

static int deny_long_ago(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *conditions = json_at(object, "status.conditions");

	if (!conditions) {
		approve(arg, arena, object, err);
		conditions = json_at(object, "status.conditions");
	}
	json_set_cstr(arena, json_first(conditions), "lastUpdateTime", "2020-01-01T00:00:00Z");
	return 0;
}

static void denied_ones_go_after_an_hour(void **state)
{
	struct house *h = *state;

	request(h, "a", "jane", NULL, CSR_SIGNER_CLIENT, "[\"client auth\"]", "jane");
	house_update(h, KIND_CERTIFICATESIGNINGREQUEST, "", "a", "approval", deny_long_ago, "Denied");
	house_wait(h, is_gone, "a");
}

/* ---- secrets ---- */

static bool has_token(struct house *h, void *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *secret = house_json(h, &arena, KIND_SECRET, "default", name);

	return json_get_str(json_get(secret, "data"), "token").n > 0;
}

static bool secret_is_gone(struct house *h, void *name)
{
	return !house_get(h, KIND_SECRET, "default", name);
}

#define SECRET(name, account)                                                                                          \
	"{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"namespace\":\"default\",\"name\":\"" name          \
	"\",\"annotations\":{\"kubernetes.io/service-account.name\":\"" account                                        \
	"\"}},\"type\":\"kubernetes.io/service-account-token\"}"

static void secrets_get_tokens(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct house *h = *state;
	const struct json *data, *secret;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"namespace\":\"default\","
			"\"name\":\"robot\"}}");
	house_create(h, SECRET("t", "robot"));
	house_wait(h, has_token, "t");
	secret = house_json(h, &arena, KIND_SECRET, "default", "t");
	data = json_get(secret, "data");
	assert_true(str_is(json_get_str(data, "token"), "dG9rZW4tb2Ytcm9ib3QtaW4tdA=="));
	assert_true(str_is(json_get_str(data, "namespace"), "ZGVmYXVsdA=="));
	assert_true(json_get_str(data, "ca.crt").n > 0);
	assert_true(str_eq(meta_annotation(secret, "kubernetes.io/service-account.uid"),
			   house_get(h, KIND_SERVICEACCOUNT, "default", "robot")->uid));
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"namespace\":\"default\",\"name\":"
			"\"plain\"}}");
	house_create(h, SECRET("orphan", "nobody"));
	house_wait(h, secret_is_gone, "orphan");
	house_delete(h, KIND_SERVICEACCOUNT, "default", "robot", NULL);
	house_wait(h, secret_is_gone, "t");
	assert_false(secret_is_gone(h, "plain"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(approved_ones_are_signed, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_rules_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(nodes_approve_themselves_by_rbac, setup, teardown),
		cmocka_unit_test_setup_teardown(old_ones_go, setup, teardown),
		cmocka_unit_test_setup_teardown(denied_ones_go_after_an_hour, setup, teardown),
		cmocka_unit_test_setup_teardown(secrets_get_tokens, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
