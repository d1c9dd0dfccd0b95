/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary text as an address, a range, and a pair of either: what is accepted survives being written and read. */
#include <stdlib.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/netctl/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void one(struct str text)
{
	char written[ADDRESS_TEXT_MAX];
	struct dp_addr a, again;
	struct dp_net net;

	if (address_parse(text, &a) == 0) {
		address_format(&a, written);
		must(address_parse(str_of(written), &again) == 0 && address_equal(&a, &again));
	}
	if (address_parse_prefix(text, &net.addr, &net.bits) == 0)
		must(net.bits <= 128 && address_in(&net.addr, &net.addr, net.bits));
}

static void pair(struct str text)
{
	struct dp_addr addrs[DP_FAMILIES];
	struct dp_net nets[DP_FAMILIES];
	enum dp_family first;

	if (address_parse_families(text, addrs, &first) == 0) {
		must(!address_is_zero(&addrs[first]));
		for (int f = 0; f < DP_FAMILIES; f++)
			must(address_is_zero(&addrs[f]) || address_family(&addrs[f]) == (enum dp_family)f);
	}
	if (address_parse_prefix_families(text, nets, &first) == 0)
		must(nets[first].bits && nets[first].bits <= 128);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* Exactly as large as the text, so that reading past it is seen. */
	char *copy = mem_alloc(n ? n : 1);

	if (n)
		memcpy(copy, data, n);
	one(str_make(copy, n));
	pair(str_make(copy, n));
	free(copy);
	return 0;
}
