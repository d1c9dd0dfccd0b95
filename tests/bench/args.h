/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of the benchmark's clients, judged before anything is sent: what is wrong is said, with exit code 2. */
#pragma once

#include <netinet/in.h>

#define ARGS_SECONDS_MAX 3600

void args_usage(const char *usage) __attribute__((noreturn));
/* `what` is for the message. */
long args_number(const char *what, const char *text, long min, long max);
/* More than none, at most ARGS_SECONDS_MAX. */
double args_seconds(const char *text);
struct in_addr args_address(const char *text);
in_port_t args_port(const char *text); /* as it is written into an address */
