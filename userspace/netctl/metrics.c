/* SPDX-License-Identifier: Apache-2.0 */
/* Times of syncs, for /metrics. */
#include <assert.h>

#include "userspace/base/clock.h"
#include "userspace/netctl/internal.h"

static const double time_limits[] = {
	0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1
};
static_assert(sizeof(time_limits) / sizeof(*time_limits) + 1 == NETCTL_TIME_BUCKETS, "buckets");

const struct histogram_scale NETCTL_TIME_SCALE = { time_limits, sizeof(time_limits) / sizeof(*time_limits) };

void netctl_time_note(struct netctl_time *t, int64_t ns)
{
	t->counts[histogram_bucket(&NETCTL_TIME_SCALE, (double)ns / NS_PER_S)]++;
	t->sum_ns += (uint64_t)ns;
}
