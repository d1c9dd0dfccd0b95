/* SPDX-License-Identifier: Apache-2.0 */
/* Rooms that do not know each other meet here: the kubelet's pod network is netctl, its tokens are the API server's,
 * the API server's logs and exec are the kubelet's. */
#include <errno.h>
#include <stdio.h>

#include "userspace/apiserver/pki_issue.h"
#include "userspace/base/clock.h"
#include "userspace/cmd/node.h"

static void node_attach(void *ctx, const struct object *pod, const char *netns_path, pod_network_done_fn *done,
			void *arg)
{
	struct node *node = ctx;
	struct pod_network_result result = { 0 };
	struct netctl_addresses given;
	_cleanup_err_ struct err err = ERR_INIT;

	if (netctl_pod_attach(node->net, pod, netns_path, &given, &err) < 0) {
		done(arg, NULL, &err);
		return;
	}
	for (unsigned i = 0; i < given.n && i < POD_IPS_MAX; i++)
		snprintf(result.ips[result.n_ips++], sizeof(result.ips[0]), "%s", given.texts[i]);
	done(arg, &result, NULL);
}

static void node_detach(void *ctx, struct str pod_uid, pod_network_done_fn *done, void *arg)
{
	const struct pod_network_result none = { 0 };
	struct node *node = ctx;
	_cleanup_err_ struct err err = ERR_INIT;
	int r = netctl_pod_detach(node->net, pod_uid, &err);

	if (done)
		done(arg, r < 0 ? NULL : &none, r < 0 ? &err : NULL);
}

void node_wire_network(struct node *node)
{
	node->pod_network = (struct pod_network){
		.ctx = node,
		.attach = node_attach,
		.detach = node_detach,
		.cluster_dns = config_disabled(node->config, "dns") ? "" : node->config->cluster_dns,
		.cluster_domain = node->config->cluster_domain,
	};
}

int node_mint_token(void *ctx, const struct kubelet_token_request *request, struct buf *ret, struct err *err)
{
	struct node *node = ctx;
	const struct object *sa =
		registry_get(node->reg, KIND_SERVICEACCOUNT, str_of(request->ns), str_of(request->service_account));
	const struct object *host = registry_get(node->reg, KIND_NODE, STR_NULL, str_of(node->config->node_name));
	struct token_claims claims = { .ns = str_of(request->ns),
				       .service_account = str_of(request->service_account),
				       .pod_name = str_of(request->pod_name),
				       .pod_uid = str_of(request->pod_uid) };

	if (!sa)
		return err_set(err, -ENOENT, "serviceaccounts \"%s\" not found", request->service_account);
	claims.service_account_uid = sa->uid;
	if (host) {
		claims.node_name = host->name;
		claims.node_uid = host->uid;
	}
	if (request->audience && *request->audience)
		claims.audiences[claims.n_audiences++] = str_of(request->audience);
	claims.issued_s = clock_real_ns() / NS_PER_S;
	claims.expires_s = claims.issued_s + request->expiry_s;
	token_extend(node->tokens, &claims);
	return token_issue(node->tokens, &claims, ret, err);
}

static int node_sign_certificate(void *ctx, const struct signer_certificate *request, struct arena *arena,
				 struct str *ret_pem, struct err *err)
{
	struct node *node = ctx;
	const struct pki_issue issue = {
		.ca_cert = node->pki.ca_cert,
		.ca_key = node->pki.ca_key,
		.request = request->request,
		.usages = request->usages,
		.expiration_s = request->expiration_s,
	};

	return pki_issue(&issue, arena, ret_pem, err);
}

static int node_sign_token(void *ctx, const struct signer_token *request, struct arena *arena, struct str *ret_token,
			   struct err *err)
{
	struct node *node = ctx;
	const struct token_claims claims = {
		.ns = request->ns,
		.service_account = request->service_account,
		.service_account_uid = request->service_account_uid,
		.secret_name = request->secret,
		.legacy = true,
	};
	_cleanup_buf_ struct buf token = BUF_INIT;
	int r = token_issue(node->tokens, &claims, &token, err);

	if (r == 0)
		*ret_token = arena_str(arena, buf_str(&token));
	return r;
}

void node_wire_signer(struct node *node)
{
	node->signer = (struct signer){ .ctx = node, .certificate = node_sign_certificate, .token = node_sign_token };
}

void node_wire_streams(struct node *node)
{
	const struct node_ops ops = {
		.ctx = node->kubelet,
		.logs = kubelet_logs,
		.exec = kubelet_exec,
		.exec_kill = kubelet_exec_kill,
		.resize = kubelet_resize,
		.port_forward = kubelet_port_forward,
	};

	apiserver_set_node(node->api, &ops);
}
