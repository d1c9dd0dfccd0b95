/* SPDX-License-Identifier: Apache-2.0 */
/* The node's addresses, from the start on and when the host's change: on `lo` what the host lacks, and everybody told
 * who goes by them. Nothing polls: netctl says when links or addresses have changed. Loop thread. */
#include <stdio.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/cmd/node.h"
#include "userspace/netctl/address.h"

int node_live_local_addresses(struct node *node, struct err *err)
{
	const struct config *c = node->config;
	struct dp_addr keep[2 * DP_FAMILIES];
	size_t n = 0;
	int r = 0;

	for (int f = 0; f < DP_FAMILIES; f++) {
		if (node->addresses.fallback[f])
			keep[n++] = node->addresses.addrs[f];
		if (!config_disabled(c, "dns") && !address_is_zero(&c->dns_addrs[f]))
			keep[n++] = c->dns_addrs[f];
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = dataplane_local_address_add(node->dp, &keep[i], err);
	/* Such as those of a cluster DNS that has moved since the last run. */
	if (r == 0)
		r = dataplane_local_addresses_keep(node->dp, keep, n, err);
	/* Routes of adopted pods may name an address that the host has no more. */
	return r < 0 ? r : dataplane_set_node_ips(node->dp, node->addresses.addrs, err);
}

const char *node_live_apiserver_address(const struct node *node)
{
	const char *given = node->config->advertise_address;
	struct dp_addr a;

	/* The Service `kubernetes` is of the primary family alone. */
	if (*given && address_parse(str_of(given), &a) == 0 && address_family(&a) == node->config->primary)
		return given;
	return node->addresses.texts[0];
}

void node_live_advertised(const struct node *node, char ret[static NODE_ADVERTISED_MAX])
{
	const char *a = *node->config->advertise_address ? node->config->advertise_address : node->addresses.texts[0];

	snprintf(ret, NODE_ADVERTISED_MAX, strchr(a, ':') ? "[%s]:%d" : "%s:%d", a,
		 (int)node->config->https_listen_port);
}

static void node_live_tell(struct node *node)
{
	const struct node_addresses *a = &node->addresses;
	const char *ips[KUBELET_NODE_IPS_MAX] = { a->texts[0], a->n > 1 ? a->texts[1] : NULL };
	char advertised[NODE_ADVERTISED_MAX];

	node_live_advertised(node, advertised);
	apiserver_set_advertise_address(node->api, advertised);
	controllers_set_apiserver_address(node->controllers, node_live_apiserver_address(node));
	kubelet_set_node_ips(node->kubelet, ips);
	node_refresh_certificates(node);
}

void node_live_changed(void *arg)
{
	struct node *node = arg;
	_cleanup_err_ struct err err = ERR_INIT;
	struct node_addresses now;

	if (!node->started)
		return;
	node_addresses_find(node->config, &now);
	if (node_addresses_equal(&now, &node->addresses))
		return;
	log_info("the node's addresses have changed addresses=%s%s%s", now.texts[0], now.n > 1 ? "," : "",
		 now.texts[1]);
	node->addresses = now;
	if (node_live_local_addresses(node, &err) < 0)
		log_error("the node's addresses are not in use everywhere error=\"%s\"", err_message(&err));
	node_live_tell(node);
}
