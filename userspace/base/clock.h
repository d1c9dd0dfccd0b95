/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: monotonic for every timer and duration, real time only to show. */
#pragma once

#include <stdint.h>

#include "userspace/base/str.h"

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define NS_PER_US 1000LL

int64_t clock_monotonic_ns(void);
int64_t clock_real_ns(void); /* since 1970 */

#define CLOCK_RFC3339_MAX 40
/* "2026-01-02T03:04:05Z" */
void clock_format_rfc3339(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX]);
/* metav1.MicroTime: "...05.123456Z" */
void clock_format_rfc3339_micro(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX]);
/* CRI log stamps: "...05.123456789Z" */
void clock_format_rfc3339_nano(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX]);
/* Any RFC 3339 form with zone; -EINVAL. */
int clock_parse_rfc3339(struct str s, int64_t *ret_real_ns);
/* Go duration as kubectl sends it ("5m", "1h30s", "300ms"); -EINVAL. */
int clock_parse_duration(struct str s, int64_t *ret_ns);
