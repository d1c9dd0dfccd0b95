/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules of CronJobs: five fields, @names, @every. Any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/str.h"

#define CRON_ERROR_MAX 512

/* False: `ret_why` says what is wrong, in the words of the library that upstream uses; zero-terminated. */
bool cron_check(struct str schedule, char ret_why[static CRON_ERROR_MAX]);
