/* SPDX-License-Identifier: Apache-2.0 */
/* The node's configuration: one table serves flags (--data-dir), keys of the YAML file (data-dir) and environment
 * variables (K3C_DATA_DIR). Flags win over variables, variables over the file, the file over defaults. Names follow
 * K3s where K3s has them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/dataplane/dataplane.h"

#define CONFIG_FILE_DEFAULT "/etc/k3c-bpf/config.yaml"
#define CONFIG_LIST_MAX 64

struct config_list {
	const char *items[CONFIG_LIST_MAX + 1]; /* NULL-terminated */
	size_t n;
};

struct config {
	struct arena arena; /* owns every string */
	const char *config_file;
	const char *data_dir, *run_dir, *log_dir, *pin_dir;
	const char *bind_address, *advertise_address;
	int64_t https_listen_port;
	struct config_list tls_san;
	/* One of each family at most: "a" or "a,b"; the first is the primary family. */
	const char *cluster_cidr, *service_cidr, *cluster_dns, *node_ip;
	const char *cluster_domain;
	const char *service_node_port_range;
	const char *node_name;
	struct config_list non_masquerade_cidrs;
	const char *xdp;
	struct config_list node_label;
	const char *write_kubeconfig, *write_kubeconfig_mode;
	struct config_list disable;
	struct config_list insecure_registry;
	const char *oci_runtime, *cgroup_root;
	const char *resolv_conf;
	const char *encryption_provider_config, *admission_control_config_file;
	int64_t max_pods;
	const char *container_log_max_size;
	int64_t container_log_max_files;
	const char *audit_policy_file, *audit_log_path;
	int64_t audit_log_maxsize, audit_log_maxbackup, audit_log_maxage;
	bool debug;
	/* Derived by config_load(). Arrays by family: what is absent is zero. */
	enum dp_family primary;
	struct dp_net pod_nets[DP_FAMILIES], service_nets[DP_FAMILIES];
	struct dp_addr dns_addrs[DP_FAMILIES], node_ips[DP_FAMILIES];
	struct dp_net direct_nets[CONFIG_LIST_MAX];
	size_t n_direct_nets;
	enum dp_xdp xdp_mode;
	int node_port_min, node_port_max;
	unsigned kubeconfig_mode;
	uint64_t container_log_max_bytes;
};

/* argv without the program and the subcommand; stops at the first word that is no flag (*ret_rest: its index).
 * A bad flag, key or value is one clear error. */
int config_load(int argc, char **argv, struct config *ret, int *ret_rest, struct err *err);
void config_finish(struct config *config);
#define _cleanup_config_ _cleanup_(config_finish)
/* Of a flag's name without dashes: it takes no value. */
bool config_is_switch(const char *name);
bool config_disabled(const struct config *config, const char *what);
/* Appends the help text of all flags. */
void config_help(struct buf *out);

/* The cluster has addresses of that family. */
bool config_has_family(const struct config *config, enum dp_family family);

/* How this host reaches its own server: the bind address, or the loopback of a wildcard. In the config's arena. */
const char *config_local_url(const struct config *config);

/* "<data-dir>/tls" and so on: in the config's arena. */
const char *config_path(const struct config *config, const char *dir, const char *name);
