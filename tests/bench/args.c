/* SPDX-License-Identifier: Apache-2.0 */
/* See args.h. */
#include "tests/bench/args.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_EXIT_USAGE 2

void args_usage(const char *usage)
{
	fprintf(stderr, "usage: %s\n", usage);
	exit(ARGS_EXIT_USAGE);
}

static void args_refuse(const char *what, const char *text, const char *wanted)
{
	fprintf(stderr, "%s: \"%s\" is no %s\n", what, text, wanted);
	exit(ARGS_EXIT_USAGE);
}

long args_number(const char *what, const char *text, long min, long max)
{
	char wanted[64], *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || *end || end == text || n < min || n > max) {
		snprintf(wanted, sizeof(wanted), "number from %ld to %ld", min, max);
		args_refuse(what, text, wanted);
	}
	return n;
}

double args_seconds(const char *text)
{
	char wanted[64], *end;
	double s = strtod(text, &end);

	if (*end || end == text || !(s > 0) || s > ARGS_SECONDS_MAX) {
		snprintf(wanted, sizeof(wanted), "number of seconds, more than 0 and up to %d", ARGS_SECONDS_MAX);
		args_refuse("SECONDS", text, wanted);
	}
	return s;
}

struct in_addr args_address(const char *text)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) != 1)
		args_refuse("ADDRESS", text, "IPv4 address");
	return a;
}

in_port_t args_port(const char *text)
{
	return htons((uint16_t)args_number("PORT", text, 1, UINT16_MAX));
}
