/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes in the dataplane's form: 16 bytes, IPv4 mapped. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/str.h"
#include "userspace/dataplane/dataplane.h"

#define ADDRESS_TEXT_MAX 46

/* "10.1.2.3" or IPv6; -EINVAL. */
int address_parse(struct str text, struct dp_addr *ret);
/* "10.0.0.0/8": prefix length of 128 bits. Host bits are cleared. -EINVAL. */
int address_parse_prefix(struct str text, struct dp_addr *ret, uint8_t *ret_len);
/* "a" or "a,b" (ranges: "a/n,b/m"), at most one of each family, the first is the primary one. The absent one is zero.
 * -EINVAL: one does not parse; -EEXIST: two of one family; -E2BIG: more than two. */
int address_parse_families(struct str text, struct dp_addr ret[static DP_FAMILIES], enum dp_family *ret_primary);
int address_parse_prefix_families(struct str text, struct dp_net ret[static DP_FAMILIES], enum dp_family *ret_primary);
void address_format(const struct dp_addr *a, char ret[static ADDRESS_TEXT_MAX]);
bool address_is_zero(const struct dp_addr *a); /* of either family: :: or 0.0.0.0 */
bool address_is_loopback(const struct dp_addr *a);
enum dp_family address_family(const struct dp_addr *a);
/* "Every address": 0.0.0.0 or ::. */
struct dp_addr address_any(enum dp_family family);
bool address_equal(const struct dp_addr *a, const struct dp_addr *b);
bool address_in(const struct dp_addr *a, const struct dp_addr *prefix, uint8_t len);
