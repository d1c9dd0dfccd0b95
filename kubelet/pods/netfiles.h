/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a pod's /etc/hosts and /etc/resolv.conf. Pure. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/json.h"

#define RESOLV_NAMESERVERS_MAX 3
#define RESOLV_SEARCH_MAX 32

struct netfiles_source {
	const struct json *pod;
	struct str ns;
	const char *cluster_dns; /* "a" or "a,b"; "" or NULL: no cluster DNS */
	const char *cluster_domain;
	struct str host_resolv_conf; /* the host's file */
	struct str host_hosts;       /* the host's /etc/hosts, for pods on the host's network */
	const char *pod_ips[2];
};

/* spec.hostname, else the pod's name cut to 63; "pod.subdomain.ns.svc.domain" goes to ret_fqdn ("" without). */
char *netfiles_hostname(struct arena *arena, const struct json *pod, const char *cluster_domain, char **ret_fqdn);
void netfiles_resolv_conf(const struct netfiles_source *src, struct buf *out);
void netfiles_hosts(const struct netfiles_source *src, struct buf *out);
