/* SPDX-License-Identifier: Apache-2.0 */
/* Which address the node goes by. */
#pragma once

#define NODE_ADDRESS_MAX 46
/* Given to `lo` on a host that has no other address, so that pods still reach the API server. */
#define NODE_ADDRESS_FALLBACK "169.254.77.1"

/* The source address of the default route, else the first address of a link that is up, else the fallback. */
void node_address_find(char ret[static NODE_ADDRESS_MAX]);
