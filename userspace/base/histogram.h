/* SPDX-License-Identifier: Apache-2.0 */
/* Observations counted by size, and Prometheus' text of them. The counts are the owner's: one more than the scale has
 * limits, each bucket for itself. No state; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "userspace/base/buf.h"

struct histogram_scale {
	const double *limits; /* rising */
	size_t n;
};

/* Which count is v's: that of the first limit that is not below it, n when all are. */
size_t histogram_bucket(const struct histogram_scale *scale, double v);
/* The lines of one series. `labels`: `a="b",c="d"`, or "". */
void histogram_write(struct buf *out, const char *name, const char *labels, const struct histogram_scale *scale,
		     const uint64_t *counts, double sum);
