/* SPDX-License-Identifier: Apache-2.0 */
/* This host as a Node: registered at the start, its status written when something changed, its lease renewed
 * (a lazy write, held in memory). Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/err.h"

struct kubelet;
struct node_agent;

#define NODE_LEASE_RENEW_S 10
#define NODE_LEASE_DURATION_S 40
#define NODE_HEARTBEAT_S 300 /* how often the status is compared; written only when it differs */

/* Also fills the kubelet's facts (capacity). The node is registered when the call returns, durably a little later. */
int node_agent_create(struct kubelet *kl, struct node_agent **ret, struct err *err);
/* The kubelet's addresses have changed. */
void node_agent_addresses_changed(struct node_agent *agent);
/* Takes NULL. */
void node_agent_destroy(struct node_agent *agent);
bool node_agent_is_ready(const struct node_agent *agent);
