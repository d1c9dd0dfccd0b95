/* SPDX-License-Identifier: Apache-2.0 */
/* Which address the node goes by. */
#pragma once

#define NODE_ADDRESS_MAX 46
/* Given to `lo` on a host that has no other address, so that pods still reach the API server. Of a range that nobody
 * routes (RFC 2544); EndpointSlices refuse link-local addresses. */
#define NODE_ADDRESS_FALLBACK "198.18.77.1"

/* The source address of the default route, else the first address of a link that is up, else the fallback. */
void node_address_find(char ret[static NODE_ADDRESS_MAX]);
