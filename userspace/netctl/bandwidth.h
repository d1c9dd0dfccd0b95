/* SPDX-License-Identifier: Apache-2.0 */
/* kubernetes.io/ingress-bandwidth and egress-bandwidth: bits a second, as quantities. */
#pragma once

#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define BANDWIDTH_MIN_BITS_S 1000             /* 1k */
#define BANDWIDTH_MAX_BITS_S 1000000000000000 /* 1P */

/* 0: no limit. -EINVAL: no quantity, or out of the range above; a pod with such a one does not start, as where the
 * container runtime reads them. */
int bandwidth_parse(const struct json *pod, uint64_t *ret_ingress_bits_s, uint64_t *ret_egress_bits_s, struct err *err);
