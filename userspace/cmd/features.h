/* SPDX-License-Identifier: Apache-2.0 */
/* What the node needs of the kernel: io_uring, cgroups, overlayfs, and the dataplane's features. Probed, never
 * guessed from the version. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FEATURES_MAX 64

struct feature {
	const char *name, *needed_for;
	bool required, present;
};

size_t features_probe(struct feature *ret, size_t max);
