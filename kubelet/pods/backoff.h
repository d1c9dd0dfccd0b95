/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential back-off of crashing containers and failing pulls, by upstream's rule: the first failure is retried
 * at once, each further one waits twice as long, and quiet for twice the maximum forgets. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BACKOFF_INITIAL_NS 10000000000LL
#define BACKOFF_MAX_NS 300000000000LL

struct backoff {
	int64_t delay_ns;   /* 0: never used */
	int64_t updated_ns; /* monotonic */
};

/* Is a retry of what failed at `since_ns` still to be held back at `now_ns`? For how long? */
bool backoff_active(const struct backoff *b, int64_t since_ns, int64_t now_ns, int64_t *ret_remaining_ns);
/* A retry is being made now. */
void backoff_next(struct backoff *b, int64_t since_ns, int64_t now_ns);
void backoff_reset(struct backoff *b);
/* "10s", "1m20s", "5m0s": as Go prints a duration of whole seconds. */
void backoff_format(int64_t delay_ns, char ret[static 32]);
