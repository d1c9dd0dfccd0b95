/* SPDX-License-Identifier: Apache-2.0 */
/* Start and end of the node, in order. See node.h. */
#include "userspace/cmd/node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "datastore/store.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/cmd/features.h"
#include "userspace/net/listen.h"
#include "userspace/net/tls.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/drift.h"
#include "userspace/netctl/explain.h"
#include "userspace/registry/authz.h"
#include "userspace/registry/admission/pod_security_config.h"
#include "userspace/registry/encryption.h"

#define NODE_RENEWAL_NS (24 * 3600 * NS_PER_S)
#define NODE_SANS_MAX 80

static int node_check_features(struct node *node, struct err *err)
{
	struct feature features[FEATURES_MAX];
	size_t n = features_probe(features, FEATURES_MAX);
	int missing = 0;

	for (size_t i = 0; i < n; i++) {
		if (features[i].present)
			continue;
		if (features[i].required)
			log_error("kernel feature missing name=\"%s\" needed_for=\"%s\"", features[i].name,
				  features[i].needed_for);
		else
			log_info("kernel feature absent name=\"%s\" needed_for=\"%s\"", features[i].name,
				 features[i].needed_for);
		missing += features[i].required;
	}
	if (missing)
		return err_set(err, -ENOSYS, "%d required kernel feature(s) missing: see k3c-bpf check-config",
			       missing);
	return 0;
}

static int node_folders(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	const char *pid_path = config_path(c, c->run_dir, "server.pid");
	int r;

	r = fs_mkdirs(c->data_dir, 0755, err);
	if (r == 0)
		r = fs_mkdirs(c->run_dir, 0755, err);
	if (r == 0)
		r = fs_mkdirs(c->log_dir, 0755, err);
	if (r < 0)
		return r;
	node->lock_fd = open(pid_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (node->lock_fd < 0)
		return err_set(err, -errno, "open %s: %s", pid_path, strerror(errno));
	if (flock(node->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "a server already runs on %s", c->run_dir);
	if (ftruncate(node->lock_fd, 0) < 0 || dprintf(node->lock_fd, "%d\n", getpid()) < 0)
		return err_set(err, -errno, "write %s: %s", pid_path, strerror(errno));
	return 0;
}

/* Ranges of pods, and the first address of each service range; the primary family first. */
static int node_ranges(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	struct str rest = str_of(c->cluster_cidr), part;
	unsigned n = 0;

	for (unsigned i = 0; i < DP_FAMILIES && str_split(&rest, ',', &part); i++)
		node->pod_cidrs[i] = arena_strndup(&node->arena, part.p, part.n);

	for (unsigned i = 0; i < DP_FAMILIES; i++) {
		const struct dp_net *net = &c->service_nets[(c->primary + i) % DP_FAMILIES];
		struct dp_addr addr = net->addr;

		addr.b[15] |= 1;
		if (net->bits)
			address_format(&addr, node->service_ips[n++]);
	}
	return 0;
}

static void node_san(const char **sans, size_t *n, const char *name)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(sans[i], name) == 0)
			return;
	if (*name && *n < NODE_SANS_MAX)
		sans[(*n)++] = name;
}

static int node_certificates(struct node *node, bool *ret_changed, struct err *err)
{
	const struct config *c = node->config;
	const char *sans[NODE_SANS_MAX + 1] = { 0 };
	struct pki_options options = { .dir = config_path(c, c->data_dir, "tls"), .sans = sans };
	size_t n = 0;

	node_san(sans, &n, "kubernetes");
	node_san(sans, &n, "kubernetes.default");
	node_san(sans, &n, "kubernetes.default.svc");
	node_san(sans, &n, arena_printf(&node->arena, "kubernetes.default.svc.%s", c->cluster_domain));
	node_san(sans, &n, "localhost");
	node_san(sans, &n, "127.0.0.1");
	node_san(sans, &n, "::1");
	for (unsigned i = 0; i < DP_FAMILIES; i++) {
		node_san(sans, &n, node->addresses.texts[i]);
		node_san(sans, &n, node->service_ips[i]);
	}
	node_san(sans, &n, c->node_name);
	node_san(sans, &n, c->advertise_address);
	node_san(sans, &n, c->bind_address);
	for (size_t i = 0; i < c->tls_san.n; i++)
		node_san(sans, &n, c->tls_san.items[i]);
	return pki_ensure(&options, &node->arena, &node->pki, ret_changed, err);
}

static int node_first_certificates(struct node *node, struct err *err)
{
	return node_certificates(node, NULL, err);
}

static int node_tls(struct node *node, struct tls_context **ret, struct err *err)
{
	const struct tls_server_options options = { node->pki.server_cert, node->pki.server_key, node->pki.ca_cert,
						    true };

	return tls_server_create(&options, ret, err);
}

void node_refresh_certificates(struct node *node)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct tls_context *fresh;
	bool changed = false;

	if (node_certificates(node, &changed, &err) < 0) {
		log_error("certificates not renewed error=\"%s\"", err_message(&err));
	} else if (changed && node_tls(node, &fresh, &err) == 0) {
		apiserver_set_tls(node->api, fresh);
		tls_context_destroy(node->tls);
		node->tls = fresh;
		log_info("server certificate renewed");
	}
}

/* Once a day: a certificate that runs out is replaced while the node runs. */
static void node_renew(struct loop_timer *timer)
{
	struct node *node = container_of(timer, struct node, renewal);

	node_refresh_certificates(node);
	loop_timer_arm(node->loop, timer, NODE_RENEWAL_NS);
}

static int node_kubeconfig(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	const char *url = config_local_url(c);
	const char *slash = strrchr(c->write_kubeconfig, '/');
	int r = 0;

	if (slash && slash != c->write_kubeconfig)
		r = fs_mkdirs(arena_strndup(&node->arena, c->write_kubeconfig, (size_t)(slash - c->write_kubeconfig)),
			      0755, err);
	return r < 0 ? r : pki_write_kubeconfig(&node->pki, url, c->write_kubeconfig, c->kubeconfig_mode, err);
}

static int node_objects(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	const char *dir = config_path(c, c->data_dir, "db");
	struct store_options store = { .path = config_path(c, dir, "state.db") };
	struct registry_options registry = { c->service_cidr, c->node_port_min, c->node_port_max, c->cluster_domain,
					     c->cluster_dns };
	int r;

	r = fs_mkdirs(dir, 0700, err);
	if (r == 0)
		r = encryption_load(c->encryption_provider_config, &node->encryption, err);
	if (r == 0)
		r = pod_security_config_load(c->admission_control_config_file, &node->pod_security, err);
	if (r < 0)
		return r;
	store.transform = encryption_transform(node->encryption);
	registry.pod_security = node->pod_security;
	r = store_open(node->loop, &store, &node->store, err);
	if (r == 0)
		r = registry_create_all(node->loop, node->store, &registry, &node->reg, err);
	return r;
}

static void node_roles_made(void *arg)
{
	struct node *node = arg;

	loop_stop(node->loop, 0);
}

/* Before anybody can ask: the first request finds the roles it is judged by. */
static int node_roles(struct node *node, struct err *err)
{
	if (authz_bootstrap(node->reg, node_roles_made, node))
		loop_run(node->loop);
	return 0;
}

static int node_extra(void *arg, struct str path, struct str query, struct arena *arena, struct str *ret_body,
		      struct err *err)
{
	struct node *node = arg;
	struct netctl_flow flow;
	int r;

	/* Who looks wants to know what is true. */
	if (node->net && !str_is(path, "/k3c-bpf/explain"))
		netctl_drift_look(node->net, DRIFT_ASKED_NS, DRIFT_ASKED_WITHIN_NS);
	if (str_is(path, "/k3c-bpf/status")) {
		*ret_body = json_text(arena, node_status_json(node, arena));
		return 0;
	}
	if (node->net && str_is(path, "/k3c-bpf/network")) {
		*ret_body = json_text(arena, netctl_status_json(node->net, arena));
		return 0;
	}
	if (node->net && str_is(path, "/k3c-bpf/explain")) {
		r = netctl_flow_parse(query, &flow, err);
		if (r == 0)
			*ret_body = json_text(arena, netctl_explain(node->net, arena, &flow));
		return r;
	}
	return err_set_status(err, -ENOENT, 404, "NotFound", "the server could not find the requested resource");
}

static int node_audit(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	const struct audit_options options = {
		.policy_path = c->audit_policy_file,
		.log = {
			.path = c->audit_log_path,
			.max_bytes = (uint64_t)c->audit_log_maxsize * 1000 * 1000,
			.max_backups = (unsigned)c->audit_log_maxbackup,
			.max_age_days = (unsigned)c->audit_log_maxage,
		},
	};

	return audit_create(&options, &node->audit, err);
}

static int node_api(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	struct apiserver_options options = { 0 };
	char advertised[NODE_ADVERTISED_MAX];
	int fd = -1, r;

	r = token_keys_create(node->pki.sa_key,
			      arena_printf(&node->arena, "https://kubernetes.default.svc.%s", c->cluster_domain),
			      &node->tokens, err);
	for (size_t i = 0; i < node->pki.n_sa_old_keys && r == 0; i++)
		r = token_keys_add(node->tokens, node->pki.sa_old_keys[i], err);
	if (r == 0)
		r = node_tls(node, &node->tls, err);
	if (r == 0)
		r = node_audit(node, err);
	if (r < 0)
		return r;
	options.audit = node->audit;
	options.tls = node->tls;
	options.tokens = node->tokens;
	node_live_advertised(node, advertised);
	options.advertise_address = advertised;
	r = apiserver_create(node->loop, node->reg, &options, &node->api, err);
	if (r < 0)
		return r;
	apiserver_set_extra(node->api, node_extra, node);
	node_wire_health(node);
	r = listen_tcp(c->bind_address, (uint16_t)c->https_listen_port, &fd, err);
	return r < 0 ? r : apiserver_listen(node->api, fd, err);
}

static int node_network(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	struct dataplane_options dp = { .pin_dir = c->pin_dir,
					.cgroup2_own = config_path(c, c->run_dir, "cgroup2"),
					.direct_nets = c->direct_nets,
					.n_direct_nets = c->n_direct_nets,
					.xdp = c->xdp_mode,
					.node_port_min = (uint16_t)c->node_port_min,
					.node_port_max = (uint16_t)c->node_port_max };
	const struct netctl_options net = {
		.node_name = c->node_name,
		.pod_cidr = c->cluster_cidr,
		.cluster_dns = config_disabled(c, "dns") ? "" : c->cluster_dns,
		.no_policy = config_disabled(c, "network-policy"),
		.links_changed = node_live_changed,
		.links_changed_arg = node,
		.api_port = (uint16_t)c->https_listen_port,
	};
	int r;

	memcpy(dp.pod_nets, c->pod_nets, sizeof(dp.pod_nets));
	memcpy(dp.service_nets, c->service_nets, sizeof(dp.service_nets));
	memcpy(dp.node_ips, node->addresses.addrs, sizeof(dp.node_ips));
	r = dataplane_open(&dp, &node->dp, err);
	if (r < 0)
		return err_wrap(err, r, "dataplane");
	r = node_live_local_addresses(node, err);
	if (r == 0)
		r = netctl_create(node->loop, node->reg, node->dp, &net, &node->net, err);
	if (r == 0)
		r = netctl_start(node->net, err);
	return r;
}

static int node_kubelet(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	struct kubelet_image_registry *registries =
		arena_new_array(&node->arena, struct kubelet_image_registry, c->insecure_registry.n);
	struct kubelet_options options = {
		.node_name = c->node_name,
		.node_ips = { node->addresses.texts[0], node->addresses.n > 1 ? node->addresses.texts[1] : NULL },
		.pod_cidrs = { node->pod_cidrs[0], node->pod_cidrs[1] },
		.node_labels = c->node_label.items,
		.data_dir = c->data_dir,
		.run_dir = c->run_dir,
		.log_dir = c->log_dir,
		.oci_runtime = c->oci_runtime,
		.cgroup_root = c->cgroup_root,
		.pods_max = (unsigned)c->max_pods,
		.log_max_bytes = c->container_log_max_bytes,
		.log_max_files = (unsigned)c->container_log_max_files,
		.registries = registries,
		.n_registries = c->insecure_registry.n,
		.resolv_conf = c->resolv_conf,
	};
	const struct kubelet_tokens tokens = { node, node_mint_token };
	int r;

	for (size_t i = 0; i < c->insecure_registry.n; i++) {
		registries[i].host = c->insecure_registry.items[i];
		registries[i].insecure_http = true;
	}
	node_wire_network(node);
	r = kubelet_create(node->loop, node->reg, &options, &node->pod_network, &tokens, &node->kubelet, err);
	if (r == 0)
		r = kubelet_start(node->kubelet, err);
	if (r == 0)
		node_wire_streams(node);
	return r;
}

static int node_control(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	const char **disable = arena_new_array(&node->arena, const char *, c->disable.n + 1);
	struct controllers_options options = {
		.root_ca_pem = arena_strndup(&node->arena, node->pki.ca_cert.p, node->pki.ca_cert.n),
		.apiserver_address = node_live_apiserver_address(node),
		.apiserver_port = (int)c->https_listen_port,
		.kubernetes_service_ip = node->service_ips[0],
		.signer = &node->signer,
		.node_name = c->node_name,
		.disable = disable,
	};
	const struct dns_options dns = { .address = c->cluster_dns,
					 .domain = c->cluster_domain,
					 .resolv_conf = c->resolv_conf };
	size_t n = 0;
	int r;

	for (size_t i = 0; i < c->disable.n; i++)
		if (strcmp(c->disable.items[i], "dns") != 0 && strcmp(c->disable.items[i], "network-policy") != 0)
			disable[n++] = c->disable.items[i];
	node_wire_signer(node);
	r = controllers_start(node->loop, node->reg, &options, &node->controllers, err);
	if (r == 0)
		r = scheduler_create(node->loop, node->reg, &node->scheduler, err);
	if (r == 0 && !config_disabled(c, "dns"))
		r = dns_create(node->loop, node->reg, &dns, &node->dns, err);
	return r;
}

static int node_start(struct node *node, struct err *err)
{
	static int (*const steps[])(struct node *, struct err *) = {
		node_check_features, node_folders, node_ranges,     node_first_certificates,
		node_objects,        node_roles,   node_api,        node_network,
		node_control,        node_kubelet, node_kubeconfig,
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++)
		r = steps[i](node, err);
	return r;
}

int node_create(const struct config *config, struct node **ret, struct err *err)
{
	struct node *node = mem_new(struct node);
	int r;

	node->config = config;
	node->lock_fd = -1;
	node->started_ns = clock_monotonic_ns();
	node_addresses_find(config, &node->addresses);
	r = loop_create(NULL, &node->loop, err);
	if (r == 0)
		r = node_start(node, err);
	if (r < 0) {
		node_destroy(node);
		return r;
	}
	loop_timer_init(&node->renewal, node_renew);
	loop_timer_arm(node->loop, &node->renewal, NODE_RENEWAL_NS);
	node->started = true;
	node_live_changed(node); /* what came between the first look and the first message */
	apiserver_set_ready(node->api, true);
	node->ready_after_ns = clock_monotonic_ns() - node->started_ns;
	*ret = node;
	return 0;
}

void node_destroy(struct node *node)
{
	if (!node)
		return;
	dns_destroy(node->dns);
	scheduler_destroy(node->scheduler);
	controllers_stop(node->controllers);
	kubelet_destroy(node->kubelet);
	netctl_destroy(node->net);
	apiserver_destroy(node->api);
	audit_destroy(node->audit);
	registry_destroy(node->reg);
	store_close(node->store);
	encryption_destroy(node->encryption);
	pod_security_config_destroy(node->pod_security);
	dataplane_close(node->dp);
	loop_destroy(node->loop);
	tls_context_destroy(node->tls);
	token_keys_destroy(node->tokens);
	arena_finish(&node->arena);
	free(node->maps);
	free(node->pressure);
	if (node->lock_fd >= 0)
		close(node->lock_fd);
	free(node);
}
