/* SPDX-License-Identifier: Apache-2.0 */
/* See netfiles.h. Any thread. */
#include "kubelet/pods/netfiles.h"

#define HOSTNAME_LEN_MAX 63

struct resolv {
	struct str servers[RESOLV_NAMESERVERS_MAX * 2], search[RESOLV_SEARCH_MAX], options[32];
	size_t n_servers, n_search, n_options;
};

static void add(struct str *list, size_t *n, size_t max, struct str s)
{
	for (size_t i = 0; i < *n; i++)
		if (str_eq(list[i], s))
			return;
	if (s.n && *n < max)
		list[(*n)++] = s;
}

/* "ndots:5" replaces "ndots:2" */
static void add_option(struct resolv *r, struct str option)
{
	long colon = str_find(option, ':');
	struct str name = colon < 0 ? option : str_make(option.p, (size_t)colon + 1);

	for (size_t i = 0; i < r->n_options; i++) {
		if (colon < 0 ? str_eq(r->options[i], option) : str_starts(r->options[i], name)) {
			r->options[i] = option;
			return;
		}
	}
	if (r->n_options < ARRAY_SIZE(r->options))
		r->options[r->n_options++] = option;
}

static bool word(struct str *rest, struct str *ret)
{
	size_t i = 0, n = 0;

	while (i < rest->n && (rest->p[i] == ' ' || rest->p[i] == '\t'))
		i++;
	while (i + n < rest->n && rest->p[i + n] != ' ' && rest->p[i + n] != '\t')
		n++;
	*ret = str_make(rest->p + i, n);
	*rest = str_make(rest->p + i + n, rest->n - i - n);
	return n > 0;
}

static void parse_host(struct resolv *r, struct str text)
{
	struct str line, key, value;

	while (str_split(&text, '\n', &line)) {
		line = str_trim(line);
		if (!line.n || line.p[0] == '#' || line.p[0] == ';' || !word(&line, &key))
			continue;
		if (str_is(key, "nameserver") && word(&line, &value)) {
			add(r->servers, &r->n_servers, RESOLV_NAMESERVERS_MAX, value);
		} else if (str_is(key, "search") || str_is(key, "domain")) {
			r->n_search = 0; /* the last one counts */
			while (word(&line, &value))
				add(r->search, &r->n_search, RESOLV_SEARCH_MAX, value);
		} else if (str_is(key, "options")) {
			while (word(&line, &value))
				add_option(r, value);
		}
	}
}

static void apply_dns_config(struct arena *arena, struct resolv *r, const struct json *config)
{
	json_foreach(s, json_get(config, "nameservers"))
		add(r->servers, &r->n_servers, RESOLV_NAMESERVERS_MAX, json_str(s));
	json_foreach(s, json_get(config, "searches"))
		add(r->search, &r->n_search, RESOLV_SEARCH_MAX, json_str(s));
	json_foreach(o, json_get(config, "options")) {
		struct str name = json_get_str(o, "name"), value = json_get_str(o, "value");

		if (!json_get(o, "value"))
			add_option(r, name);
		else
			add_option(r, str_of(arena_printf(arena, "%.*s:%.*s", STR_ARG(name), STR_ARG(value))));
	}
}

static void cluster_first(struct arena *arena, struct resolv *r, const struct netfiles_source *src)
{
	const char *domain = src->cluster_domain && *src->cluster_domain ? src->cluster_domain : NULL;
	struct str servers = str_of(src->cluster_dns), server;
	struct resolv host = { 0 };

	parse_host(&host, src->host_resolv_conf);
	while (str_split(&servers, ',', &server))
		add(r->servers, &r->n_servers, RESOLV_NAMESERVERS_MAX, server);
	if (domain) {
		char *own = arena_printf(arena, "%.*s.svc.%s", STR_ARG(src->ns), domain);

		add(r->search, &r->n_search, RESOLV_SEARCH_MAX, str_of(own));
		add(r->search, &r->n_search, RESOLV_SEARCH_MAX, str_of(arena_printf(arena, "svc.%s", domain)));
		add(r->search, &r->n_search, RESOLV_SEARCH_MAX, str_of(domain));
	}
	for (size_t i = 0; i < host.n_search; i++)
		if (!str_is(host.search[i], "."))
			add(r->search, &r->n_search, RESOLV_SEARCH_MAX, host.search[i]);
	add_option(r, STR("ndots:5"));
}

static void write_list(struct buf *out, const char *keyword, const struct str *list, size_t n)
{
	if (!n)
		return;
	buf_add_cstr(out, keyword);
	for (size_t i = 0; i < n; i++) {
		buf_add_char(out, ' ');
		buf_add_str(out, list[i]);
	}
	buf_add_char(out, '\n');
}

void netfiles_resolv_conf(const struct netfiles_source *src, struct buf *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(src->pod, "spec");
	struct str policy = json_get_str(spec, "dnsPolicy");
	bool host_network = json_get_bool(spec, "hostNetwork", false);
	bool cluster = str_is(policy, "ClusterFirstWithHostNet") ||
		       ((!policy.n || str_is(policy, "ClusterFirst")) && !host_network);
	struct resolv r = { 0 };

	if (str_is(policy, "None"))
		;
	else if (cluster && src->cluster_dns && *src->cluster_dns)
		cluster_first(&arena, &r, src);
	else
		parse_host(&r, src->host_resolv_conf);
	apply_dns_config(&arena, &r, json_get(spec, "dnsConfig"));

	write_list(out, "search", r.search, r.n_search);
	for (size_t i = 0; i < r.n_servers; i++)
		write_list(out, "nameserver", &r.servers[i], 1);
	write_list(out, "options", r.options, r.n_options);
}

char *netfiles_hostname(struct arena *arena, const struct json *pod, const char *cluster_domain, char **ret_fqdn)
{
	struct str name = json_at_str(pod, "spec.hostname"), sub = json_at_str(pod, "spec.subdomain");
	struct str ns = json_at_str(pod, "metadata.namespace");

	if (!name.n)
		name = json_at_str(pod, "metadata.name");
	if (name.n > HOSTNAME_LEN_MAX) {
		name.n = HOSTNAME_LEN_MAX;
		while (name.n && (name.p[name.n - 1] == '-' || name.p[name.n - 1] == '.'))
			name.n--;
	}
	if (ret_fqdn)
		*ret_fqdn = sub.n ? arena_printf(arena, "%.*s.%.*s.%.*s.svc.%s", STR_ARG(name), STR_ARG(sub),
						 STR_ARG(ns), cluster_domain ? cluster_domain : "")
				  : arena_strdup(arena, "");
	return arena_strndup(arena, name.p, name.n);
}

static void add_aliases(const struct json *pod, struct buf *out)
{
	const struct json *aliases = json_at(pod, "spec.hostAliases");

	if (!json_count(aliases))
		return;
	buf_add_cstr(out, "\n# Entries added by HostAliases.\n");
	json_foreach(a, aliases) {
		buf_add_str(out, json_get_str(a, "ip"));
		json_foreach(h, json_get(a, "hostnames")) {
			buf_add_char(out, '\t');
			buf_add_str(out, json_str(h));
		}
		buf_add_char(out, '\n');
	}
}

void netfiles_hosts(const struct netfiles_source *src, struct buf *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char *fqdn;
	char *hostname = netfiles_hostname(&arena, src->pod, src->cluster_domain, &fqdn);

	if (json_at_bool(src->pod, "spec.hostNetwork", false)) {
		buf_add_cstr(out, "# Kubernetes-managed hosts file (host network).\n");
		buf_add_str(out, src->host_hosts);
		add_aliases(src->pod, out);
		return;
	}
	buf_add_cstr(out, "# Kubernetes-managed hosts file.\n"
			  "127.0.0.1\tlocalhost\n"
			  "::1\tlocalhost ip6-localhost ip6-loopback\n"
			  "fe00::0\tip6-localnet\n"
			  "fe00::0\tip6-mcastprefix\n"
			  "fe00::1\tip6-allnodes\n"
			  "fe00::2\tip6-allrouters\n");
	for (size_t i = 0; i < ARRAY_SIZE(src->pod_ips); i++) {
		if (!src->pod_ips[i])
			continue;
		if (*fqdn)
			buf_printf(out, "%s\t%s\t%s\n", src->pod_ips[i], fqdn, hostname);
		else
			buf_printf(out, "%s\t%s\n", src->pod_ips[i], hostname);
	}
	add_aliases(src->pod, out);
}
