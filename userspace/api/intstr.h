/* SPDX-License-Identifier: Apache-2.0 */
/* IntOrString: 3, "25%", "http". Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"

/* True for a string of digits and "%"; then *ret is the number. */
bool intstr_percent(const struct json *v, int64_t *ret);
/* A number as it is, "x%" of `total`, rounded up or down. -EINVAL for other strings:
 * `invalid value for IntOrString: invalid type: string is not a percentage`. Absent: `otherwise`. */
int intstr_scaled(const struct json *v, int64_t total, bool round_up, int64_t otherwise, int64_t *ret, struct err *err);
/* A deployment's maxSurge and maxUnavailable in pods; when both come to 0, maxUnavailable is 1. */
int intstr_rolling_update(const struct json *max_surge, const struct json *max_unavailable, int64_t replicas,
			  int64_t *ret_surge, int64_t *ret_unavailable, struct err *err);
/* A target port: a number, or the number of the port named so in container `ports` ([{name, containerPort,
 * protocol}]); `protocol` empty: any. -ENOENT when no port has the name, -EINVAL when it is neither. */
int intstr_port(const struct json *v, const struct json *ports, struct str protocol, uint16_t *ret);
