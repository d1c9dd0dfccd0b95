/* SPDX-License-Identifier: Apache-2.0 */
/* How often a test repeats what it does: fewer times in an emulated machine (vmtest/init), where the question is only
 * whether its kernel does it at all. */
#pragma once

#include <stdlib.h>

/* Of the environment's variable; `otherwise` without it. */
static inline int rounds_wanted(const char *variable, int otherwise)
{
	const char *text = getenv(variable);

	return text && atoi(text) > 0 ? atoi(text) : otherwise;
}
