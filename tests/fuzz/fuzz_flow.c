/* SPDX-License-Identifier: Apache-2.0 */
/* The flow that `trace` asks about. What is read is written in one form, which is read as the same flow. */
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/explain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct netctl_flow flow, again;

	if (netctl_flow_parse(str_make((const char *)data, size), &flow, &err) < 0) {
		if (err.status != 400)
			abort();
		return 0;
	}
	if (netctl_flow_parse(str_of(netctl_flow_format(&arena, &flow)), &again, NULL) < 0 ||
	    memcmp(&flow.from, &again.from, sizeof(flow.from)) != 0 ||
	    memcmp(&flow.to, &again.to, sizeof(flow.to)) != 0 || flow.proto != again.proto || flow.port != again.port ||
	    flow.from_node != again.from_node || flow.to_node != again.to_node)
		abort();
	return 0;
}
