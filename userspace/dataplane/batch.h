/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps read some thousand entries a call, where a call for each would cost the loop its time. Inside the room
 * only. Any thread. */
#pragma once

#include <stdint.h>

/* Keys and values stand behind each other. */
typedef void batch_fn(void *arg, const char *keys, const char *values, uint32_t n);

/* Every entry once, as long as nobody writes. -errno: the kernel does not like it, or the map: go entry by entry;
 * what fn was given until then is to be forgotten. */
int batch_each(int fd, batch_fn *fn, void *arg);
