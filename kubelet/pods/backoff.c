/* SPDX-License-Identifier: Apache-2.0 */
/* See backoff.h. Any thread. */
#include "kubelet/pods/backoff.h"

#include <inttypes.h>
#include <stdio.h>

#include "userspace/base/clock.h"

static bool expired(const struct backoff *b, int64_t since_ns)
{
	return since_ns - b->updated_ns > 2 * BACKOFF_MAX_NS;
}

bool backoff_active(const struct backoff *b, int64_t since_ns, int64_t now_ns, int64_t *ret_remaining_ns)
{
	if (!b->delay_ns || expired(b, since_ns) || now_ns - since_ns >= b->delay_ns)
		return false;
	if (ret_remaining_ns)
		*ret_remaining_ns = since_ns + b->delay_ns - now_ns;
	return true;
}

void backoff_next(struct backoff *b, int64_t since_ns, int64_t now_ns)
{
	if (!b->delay_ns || expired(b, since_ns))
		b->delay_ns = BACKOFF_INITIAL_NS;
	else
		b->delay_ns = b->delay_ns * 2 > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : b->delay_ns * 2;
	b->updated_ns = now_ns;
}

void backoff_reset(struct backoff *b)
{
	*b = (struct backoff){ 0 };
}

void backoff_format(int64_t delay_ns, char ret[static 32])
{
	int64_t s = delay_ns / NS_PER_S;

	if (s < 60)
		snprintf(ret, 32, "%" PRId64 "s", s);
	else if (s < 3600)
		snprintf(ret, 32, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
	else
		snprintf(ret, 32, "%" PRId64 "h%" PRId64 "m%" PRId64 "s", s / 3600, s / 60 % 60, s % 60);
}
