/* SPDX-License-Identifier: Apache-2.0 */
/* See histogram.h. */
#include "userspace/base/histogram.h"

#include <inttypes.h>

size_t histogram_bucket(const struct histogram_scale *scale, double v)
{
	size_t i = 0;

	while (i < scale->n && v > scale->limits[i])
		i++;
	return i;
}

void histogram_write(struct buf *out, const char *name, const char *labels, const struct histogram_scale *scale,
		     const uint64_t *counts, double sum)
{
	const char *comma = *labels ? "," : "";
	uint64_t so_far = 0;

	for (size_t i = 0; i <= scale->n; i++) {
		so_far += counts[i];
		buf_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
		if (i < scale->n)
			buf_printf(out, "%g", scale->limits[i]);
		else
			buf_add_cstr(out, "+Inf");
		buf_printf(out, "\"} %" PRIu64 "\n", so_far);
	}
	buf_printf(out, "%s_sum{%s} %.9g\n%s_count{%s} %" PRIu64 "\n", name, labels, sum, name, labels, so_far);
}
