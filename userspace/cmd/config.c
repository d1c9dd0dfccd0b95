/* SPDX-License-Identifier: Apache-2.0 */
/* The option table and its three readers. See config.h. */
#include "userspace/cmd/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "userspace/api/names.h"
#include "userspace/api/quantity.h"
#include "userspace/api/validate.h"
#include "userspace/base/fs.h"
#include "userspace/base/json.h"
#include "userspace/base/yaml.h"
#include "userspace/netctl/address.h"

#define CONFIG_FILE_BYTES_MAX (1024 * 1024)

enum option_type { OPTION_STRING, OPTION_LIST, OPTION_INT, OPTION_BOOL };

struct option {
	const char *name;
	enum option_type type;
	size_t offset;
	const char *otherwise; /* default; NULL: none */
	int64_t min, max;      /* OPTION_INT */
	const char *help;
};

#define AT(member) offsetof(struct config, member)

static const struct option options[] = {
	{ "config", OPTION_STRING, AT(config_file), CONFIG_FILE_DEFAULT, 0, 0,
	  "configuration file (YAML, keys as the flags)" },
	{ "data-dir", OPTION_STRING, AT(data_dir), "/var/lib/k3c-bpf", 0, 0, "objects, certificates, images" },
	{ "run-dir", OPTION_STRING, AT(run_dir), "/run/k3c-bpf", 0, 0, "sockets, bundles, volumes (tmpfs)" },
	{ "log-dir", OPTION_STRING, AT(log_dir), "/var/log/pods", 0, 0, "logs of containers" },
	{ "pin-dir", OPTION_STRING, AT(pin_dir), "/sys/fs/bpf/k3c-bpf", 0, 0,
	  "where BPF programs and maps are pinned" },
	{ "bind-address", OPTION_STRING, AT(bind_address), "", 0, 0, "address the API server listens on (empty: all)" },
	{ "https-listen-port", OPTION_INT, AT(https_listen_port), "6443", 1, 65535, "port of the API server" },
	{ "advertise-address", OPTION_STRING, AT(advertise_address), "", 0, 0,
	  "address others reach the API server at (empty: node-ip)" },
	{ "tls-san", OPTION_LIST, AT(tls_san), NULL, 0, 0, "further names or addresses of the server's certificate" },
	{ "cluster-cidr", OPTION_STRING, AT(cluster_cidr), "10.42.0.0/16", 0, 0,
	  "addresses of pods: a range, or one of each family (\"a,b\": the first family is the primary one)" },
	{ "service-cidr", OPTION_STRING, AT(service_cidr), "10.43.0.0/16", 0, 0,
	  "addresses of services, of the families of cluster-cidr and in their order" },
	{ "cluster-dns", OPTION_STRING, AT(cluster_dns), "", 0, 0,
	  "addresses of the cluster DNS (empty: the tenth of each range of service-cidr)" },
	{ "cluster-domain", OPTION_STRING, AT(cluster_domain), "cluster.local", 0, 0, "domain of the cluster" },
	{ "service-node-port-range", OPTION_STRING, AT(service_node_port_range), "30000-32767", 0, 0,
	  "ports for NodePort services" },
	{ "node-name", OPTION_STRING, AT(node_name), "", 0, 0, "name of the Node (empty: the host's)" },
	{ "node-ip", OPTION_STRING, AT(node_ip), "", 0, 0,
	  "addresses of the Node, one of each family at most (empty: of the default route's link, followed live)" },
	{ "non-masquerade-cidrs", OPTION_LIST, AT(non_masquerade_cidrs), NULL, 0, 0,
	  "ranges that pods reach with their own addresses" },
	{ "xdp", OPTION_STRING, AT(xdp), "off", 0, 0,
	  "service look-up in XDP: off, native (where the driver can), generic" },
	{ "node-label", OPTION_LIST, AT(node_label), NULL, 0, 0, "labels of the Node (key=value)" },
	{ "write-kubeconfig", OPTION_STRING, AT(write_kubeconfig), "/etc/k3c-bpf/kubeconfig.yaml", 0, 0,
	  "where the administrator's kubeconfig goes" },
	{ "write-kubeconfig-mode", OPTION_STRING, AT(write_kubeconfig_mode), "0600", 0, 0, "its mode (octal)" },
	{ "disable", OPTION_LIST, AT(disable), NULL, 0, 0,
	  "parts to leave out (dns, network-policy, a controller's name)" },
	{ "insecure-registry", OPTION_LIST, AT(insecure_registry), NULL, 0, 0,
	  "registries (host:port) to speak plain HTTP with" },
	{ "oci-runtime", OPTION_STRING, AT(oci_runtime), "", 0, 0, "OCI runtime (empty: crun, else runc)" },
	{ "cgroup-root", OPTION_STRING, AT(cgroup_root), "k3c-bpf", 0, 0,
	  "control group of all pods, below each hierarchy" },
	{ "resolv-conf", OPTION_STRING, AT(resolv_conf), "/etc/resolv.conf", 0, 0,
	  "the host's resolver configuration" },
	{ "encryption-provider-config", OPTION_STRING, AT(encryption_provider_config), "", 0, 0,
	  "EncryptionConfiguration: which objects are encrypted on disk, and how" },
	{ "admission-control-config-file", OPTION_STRING, AT(admission_control_config_file), "", 0, 0,
	  "AdmissionConfiguration: defaults and exemptions of PodSecurity" },
	{ "max-pods", OPTION_INT, AT(max_pods), "110", 1, 10000, "pods this node runs at most" },
	{ "container-log-max-size", OPTION_STRING, AT(container_log_max_size), "10Mi", 0, 0,
	  "size at which a container's log is rotated" },
	{ "container-log-max-files", OPTION_INT, AT(container_log_max_files), "5", 2, 100,
	  "log files kept for each container" },
	{ "audit-policy-file", OPTION_STRING, AT(audit_policy_file), "", 0, 0,
	  "what is recorded of which request (audit.k8s.io/v1 Policy; empty: nothing)" },
	{ "audit-log-path", OPTION_STRING, AT(audit_log_path), "", 0, 0,
	  "file that audit events go to, one JSON line each (-: standard output)" },
	{ "audit-log-maxsize", OPTION_INT, AT(audit_log_maxsize), "100", 0, 100000,
	  "megabytes after which the audit log is rotated (0: never)" },
	{ "audit-log-maxbackup", OPTION_INT, AT(audit_log_maxbackup), "0", 0, 4000,
	  "rotated audit logs that are kept (0: all)" },
	{ "audit-log-maxage", OPTION_INT, AT(audit_log_maxage), "0", 0, 36500,
	  "days that rotated audit logs are kept (0: for ever)" },
	{ "debug", OPTION_BOOL, AT(debug), "false", 0, 0, "log more" },
};

static const struct option *option_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (str_is(name, options[i].name))
			return &options[i];
	return NULL;
}

/* `fresh`: a list set by a stronger source replaces what a weaker one said. */
static int option_set_list(struct config *c, struct config_list *list, struct str value, bool fresh, struct err *err)
{
	struct str part;

	if (fresh)
		list->n = 0;
	while (str_split(&value, ',', &part)) {
		part = str_trim(part);
		if (!part.n)
			continue;
		if (list->n >= CONFIG_LIST_MAX)
			return err_set(err, -E2BIG, "more than %d values", CONFIG_LIST_MAX);
		list->items[list->n++] = arena_strndup(&c->arena, part.p, part.n);
	}
	list->items[list->n] = NULL;
	return 0;
}

static int option_set(struct config *c, const struct option *o, struct str value, bool fresh, struct err *err)
{
	void *at = (char *)c + o->offset;
	int64_t n;

	switch (o->type) {
	case OPTION_STRING:
		*(const char **)at = arena_strndup(&c->arena, value.p, value.n);
		return 0;
	case OPTION_LIST:
		return option_set_list(c, at, value, fresh, err);
	case OPTION_INT:
		if (str_to_int64(value, &n) < 0 || n < o->min || n > o->max)
			return err_set(err, -EINVAL, "%s: \"%.*s\" is no number from %lld to %lld", o->name,
				       STR_ARG(value), (long long)o->min, (long long)o->max);
		*(int64_t *)at = n;
		return 0;
	case OPTION_BOOL:
		if (!str_is(value, "true") && !str_is(value, "false") && !str_is(value, "1") && !str_is(value, "0"))
			return err_set(err, -EINVAL, "%s: \"%.*s\" is neither true nor false", o->name, STR_ARG(value));
		*(bool *)at = str_is(value, "true") || str_is(value, "1");
		return 0;
	}
	return -EINVAL;
}

static int config_defaults(struct config *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options) && r == 0; i++)
		if (options[i].otherwise)
			r = option_set(c, &options[i], str_of(options[i].otherwise), true, err);
	return r;
}

static int config_file_value(struct config *c, const struct option *o, const struct json *v, struct err *err)
{
	bool fresh = true;
	int r = 0;

	if (json_is(v, JSON_ARRAY) && o->type == OPTION_LIST) {
		json_foreach(item, v) {
			r = option_set(c, o, json_is(item, JSON_STRING) ? item->text : json_text(&c->arena, item),
				       fresh, err);
			if (r < 0)
				return r;
			fresh = false;
		}
		return 0;
	}
	if (json_is(v, JSON_ARRAY) || json_is(v, JSON_OBJECT))
		return err_set(err, -EINVAL, "%s: a plain value is wanted", o->name);
	return option_set(c, o, json_is(v, JSON_STRING) ? v->text : json_text(&c->arena, v), true, err);
}

/* An absent default file is fine; one that was asked for is not. */
static int config_read_file(struct config *c, bool asked, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *v;
	int r;

	if (!asked && !fs_exists(c->config_file))
		return 0;
	r = fs_read(c->config_file, CONFIG_FILE_BYTES_MAX, &b, err);
	if (r == 0)
		r = yaml_parse(&c->arena, buf_str(&b), &v, err);
	if (r == 0 && !json_is(v, JSON_OBJECT) && !json_is(v, JSON_NULL))
		r = err_set(err, -EINVAL, "a mapping is wanted");
	if (r < 0)
		return err_wrap(err, r, "%s", c->config_file);
	json_foreach(m, v) {
		const struct option *o = option_find(m->key);

		r = o ? config_file_value(c, o, m, err)
		      : err_set(err, -EINVAL, "unknown key \"%.*s\"", STR_ARG(m->key));
		if (r < 0)
			return err_wrap(err, r, "%s", c->config_file);
	}
	return 0;
}

static const char *option_variable(const struct option *o, char ret[static 64])
{
	size_t n = (size_t)snprintf(ret, 64, "K3C_%s", o->name);

	for (size_t i = 4; i < n; i++)
		ret[i] = o->name[i - 4] == '-' ? '_' : (char)toupper((unsigned char)o->name[i - 4]);
	return ret;
}

static int config_read_environment(struct config *c, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		char name[64];
		const char *value = getenv(option_variable(&options[i], name));
		int r = value ? option_set(c, &options[i], str_of(value), true, err) : 0;

		if (r < 0)
			return err_wrap(err, r, "%s", name);
	}
	return 0;
}

/* Calls option_set for every flag; with `only`, for that option alone (the file's name must be known first). */
static int config_read_flags(struct config *c, int argc, char **argv, const char *only, int *ret_rest, struct err *err)
{
	bool seen[ARRAY_SIZE(options)] = { 0 };
	int i;

	for (i = 0; i < argc && strncmp(argv[i], "--", 2) == 0 && argv[i][2]; i++) {
		struct str value = str_of(argv[i] + 2), name;
		const struct option *o;
		int r;

		str_split(&value, '=', &name);
		o = option_find(name);
		if (!o)
			return err_set(err, -EINVAL, "unknown flag --%.*s (see k3c-bpf help)", STR_ARG(name));
		if (!value.p && o->type == OPTION_BOOL)
			value = STR("true");
		if (!value.p) {
			if (++i >= argc)
				return err_set(err, -EINVAL, "--%s wants a value", o->name);
			value = str_of(argv[i]);
		}
		if (only && strcmp(only, o->name) != 0)
			continue;
		r = option_set(c, o, value, !seen[o - options], err);
		if (r < 0)
			return r;
		seen[o - options] = true;
	}
	*ret_rest = i;
	return 0;
}

/* What would only fail later, in a loop of warnings, is refused here. */
static int config_check_names(struct config *c, struct err *err)
{
	const char *why = validate_dns1123_subdomain(str_of(c->node_name));

	if (why)
		return err_set(err, -EINVAL, "node-name: \"%s\": %s", c->node_name, why);
	why = validate_dns1123_subdomain(str_of(c->cluster_domain));
	if (why)
		return err_set(err, -EINVAL, "cluster-domain: \"%s\": %s", c->cluster_domain, why);
	return 0;
}

static int config_family_error(struct err *err, const char *name, const char *value, const char *what, int r)
{
	if (r == -EEXIST)
		return err_set(err, r, "%s: \"%s\" names two of one family", name, value);
	if (r == -E2BIG)
		return err_set(err, r, "%s: \"%s\" names more than one of each family", name, value);
	return err_set(err, r, "%s: \"%s\" is no %s", name, value, what);
}

#define SERVICE_RANGE_BITS_MAX 125 /* of 128: as the registry wants it at least */
#define DNS_NUMBER 10

/* The tenth address of each range, as is usual. */
static int config_default_dns(struct config *c, struct err *err)
{
	const char *texts[DP_FAMILIES];
	char text[ADDRESS_TEXT_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < DP_FAMILIES; i++) {
		enum dp_family f = (c->primary + i) % DP_FAMILIES;
		struct dp_addr *a = &c->dns_addrs[f];

		if (!c->service_nets[f].bits)
			continue;
		if (c->service_nets[f].bits > 124)
			return err_set(err, -EINVAL,
				       "service-cidr \"%s\" is too small for the address of the cluster DNS",
				       c->service_cidr);
		*a = c->service_nets[f].addr;
		a->b[15] |= DNS_NUMBER;
		address_format(a, text);
		texts[n++] = arena_strdup(&c->arena, text);
	}
	c->cluster_dns = n == 2 ? arena_printf(&c->arena, "%s,%s", texts[0], texts[1]) : texts[0];
	return 0;
}

static int config_check_dns(struct config *c, struct err *err)
{
	enum dp_family first;
	int r;

	if (!*c->cluster_dns)
		return config_default_dns(c, err);
	r = address_parse_families(str_of(c->cluster_dns), c->dns_addrs, &first);
	if (r < 0)
		return config_family_error(err, "cluster-dns", c->cluster_dns, "address", r);
	for (int f = 0; f < DP_FAMILIES; f++)
		if (!address_is_zero(&c->dns_addrs[f]) &&
		    !(c->service_nets[f].bits &&
		      address_in(&c->dns_addrs[f], &c->service_nets[f].addr, c->service_nets[f].bits)))
			return err_set(err, -EINVAL, "cluster-dns: \"%s\" is no address of service-cidr %s",
				       c->cluster_dns, c->service_cidr);
	return 0;
}

static int config_check_node_ip(struct config *c, struct err *err)
{
	enum dp_family first;
	int r = *c->node_ip ? address_parse_families(str_of(c->node_ip), c->node_ips, &first) : 0;

	if (r < 0)
		return config_family_error(err, "node-ip", c->node_ip, "address", r);
	if (!*c->node_ip)
		return 0;
	for (int f = 0; f < DP_FAMILIES; f++)
		if (!address_is_zero(&c->node_ips[f]) && !c->pod_nets[f].bits)
			return err_set(err, -EINVAL, "node-ip: \"%s\" is of a family that cluster-cidr %s has not",
				       c->node_ip, c->cluster_cidr);
	if (first != c->primary && !address_is_zero(&c->node_ips[c->primary]))
		return err_set(err, -EINVAL, "node-ip \"%s\" and cluster-cidr %s name the families in another order",
			       c->node_ip, c->cluster_cidr);
	return 0;
}

static int config_check_ranges(struct config *c, struct err *err)
{
	enum dp_family first;
	int r = address_parse_prefix_families(str_of(c->cluster_cidr), c->pod_nets, &c->primary);

	if (r < 0)
		return config_family_error(err, "cluster-cidr", c->cluster_cidr, "address range", r);
	r = address_parse_prefix_families(str_of(c->service_cidr), c->service_nets, &first);
	if (r < 0)
		return config_family_error(err, "service-cidr", c->service_cidr, "address range", r);
	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct dp_net *p = &c->pod_nets[f], *s = &c->service_nets[f];

		if (!p->bits != !s->bits || first != c->primary)
			return err_set(
				err, -EINVAL,
				"cluster-cidr %s and service-cidr %s must name the same families in the same order",
				c->cluster_cidr, c->service_cidr);
		if (s->bits > SERVICE_RANGE_BITS_MAX)
			return err_set(err, -EINVAL, "service-cidr \"%s\" is too small", c->service_cidr);
		if (p->bits && (address_in(&p->addr, &s->addr, s->bits) || address_in(&s->addr, &p->addr, p->bits)))
			return err_set(err, -EINVAL, "cluster-cidr %s and service-cidr %s overlap", c->cluster_cidr,
				       c->service_cidr);
	}
	r = config_check_dns(c, err);
	return r < 0 ? r : config_check_node_ip(c, err);
}

static int config_check_dataplane(struct config *c, struct err *err)
{
	static const char *const modes[] = { "off", "native", "generic" };

	for (size_t i = 0; i < c->non_masquerade_cidrs.n; i++) {
		const char *text = c->non_masquerade_cidrs.items[i];
		struct dp_net net;

		if (address_parse_prefix(str_of(text), &net.addr, &net.bits) < 0)
			return err_set(err, -EINVAL, "non-masquerade-cidrs: \"%s\" is no address range", text);
		c->direct_nets[c->n_direct_nets++] = net;
	}
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (strcmp(c->xdp, modes[i]) == 0) {
			c->xdp_mode = (enum dp_xdp)i;
			return 0;
		}
	return err_set(err, -EINVAL, "xdp: \"%s\" is none of off, native, generic", c->xdp);
}

static int config_derive(struct config *c, struct err *err)
{
	struct str range = str_of(c->service_node_port_range), low;
	struct quantity size;
	int64_t min, max;
	char *end;

	if (!str_split(&range, '-', &low) || str_to_int64(low, &min) < 0 || str_to_int64(range, &max) < 0 || min < 1 ||
	    max > 65535 || min > max)
		return err_set(err, -EINVAL, "service-node-port-range: \"%s\" is no range of ports",
			       c->service_node_port_range);
	c->node_port_min = (int)min;
	c->node_port_max = (int)max;
	c->kubeconfig_mode = (unsigned)strtoul(c->write_kubeconfig_mode, &end, 8);
	if (*end || !*c->write_kubeconfig_mode || c->kubeconfig_mode > 0777)
		return err_set(err, -EINVAL, "write-kubeconfig-mode: \"%s\" is no file mode", c->write_kubeconfig_mode);
	if (quantity_parse(str_of(c->container_log_max_size), &size, NULL) < 0 || quantity_value(&size) < 4096)
		return err_set(err, -EINVAL, "container-log-max-size: \"%s\" is no size of 4Ki or more",
			       c->container_log_max_size);
	c->container_log_max_bytes = (uint64_t)quantity_value(&size);
	if (!*c->node_name) {
		char host[256] = "";

		gethostname(host, sizeof(host) - 1);
		for (char *p = host; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		c->node_name = arena_strdup(&c->arena, *host ? host : "localhost");
	}
	if (!*c->oci_runtime)
		c->oci_runtime = NULL;
	return 0;
}

static int config_check(struct config *c, struct err *err)
{
	int r = config_check_names(c, err);

	if (r == 0)
		r = config_check_ranges(c, err);
	return r < 0 ? r : config_check_dataplane(c, err);
}

int config_load(int argc, char **argv, struct config *ret, int *ret_rest, struct err *err)
{
	struct config c = { 0 };
	const char *file;
	int r, rest;

	r = config_defaults(&c, err);
	file = c.config_file;
	if (r == 0)
		r = config_read_environment(&c, err);
	if (r == 0)
		r = config_read_flags(&c, argc, argv, "config", &rest, err);
	if (r == 0)
		r = config_read_file(&c, strcmp(file, c.config_file) != 0, err);
	if (r == 0)
		r = config_read_environment(&c, err);
	if (r == 0)
		r = config_read_flags(&c, argc, argv, NULL, &rest, err);
	if (r == 0)
		r = config_derive(&c, err);
	if (r == 0)
		r = config_check(&c, err);
	if (r < 0) {
		config_finish(&c);
		return r;
	}
	*ret = c;
	*ret_rest = rest;
	return 0;
}

void config_finish(struct config *config)
{
	if (config)
		arena_finish(&config->arena);
}

bool config_is_switch(const char *name)
{
	const struct option *o = option_find(str_of(name));

	return o && o->type == OPTION_BOOL;
}

bool config_disabled(const struct config *config, const char *what)
{
	for (size_t i = 0; i < config->disable.n; i++)
		if (strcmp(config->disable.items[i], what) == 0)
			return true;
	return false;
}

void config_help(struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		buf_printf(out, "  --%-26s %s", o->name, o->help);
		if (o->otherwise && *o->otherwise && o->type != OPTION_BOOL)
			buf_printf(out, " [%s]", o->otherwise);
		buf_add_char(out, '\n');
	}
}

bool config_has_family(const struct config *config, enum dp_family family)
{
	return config->pod_nets[family].bits > 0;
}

const char *config_local_url(const struct config *config)
{
	const char *host = config->bind_address;

	/* A host of IPv6 alone may not even have 127.0.0.1. */
	if (!*host && !config_has_family(config, DP_V4))
		host = "::1";
	else if (!*host || strcmp(host, "0.0.0.0") == 0)
		host = "127.0.0.1";
	else if (strcmp(host, "::") == 0)
		host = "::1";
	return arena_printf((struct arena *)&config->arena, strchr(host, ':') ? "https://[%s]:%d" : "https://%s:%d",
			    host, (int)config->https_listen_port);
}

const char *config_path(const struct config *config, const char *dir, const char *name)
{
	return arena_printf((struct arena *)&config->arena, "%s/%s", dir, name);
}
