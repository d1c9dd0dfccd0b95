/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Ages of what several processors write. */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

/* Another processor may have written `then` after this one read its clock: that is age 0, not an age of centuries. */
static __always_inline __u64 clock_age(__u64 now, __u64 then)
{
	__u64 age = now - then;

	return (__s64)age > 0 ? age : 0;
}
