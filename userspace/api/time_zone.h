/* SPDX-License-Identifier: Apache-2.0 */
/* Names of time zones ("Europe/Berlin"). Any thread; no state. */
#pragma once

#include <stdbool.h>

#include "userspace/base/str.h"

/* Could it be a name? Components of 1 to 14 letters, digits and ".-_+", neither "." nor "..", none begins with "-". */
bool time_zone_well_formed(struct str name);
/* Is it a name of the time zone database? Case counts, as it does in files. */
bool time_zone_known(struct str name);
