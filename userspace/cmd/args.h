/* SPDX-License-Identifier: Apache-2.0 */
/* A subcommand's own flags, beside those of the configuration, in any order: "--name V", "--name=V", "-n V", "-nV". */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/cmd/config.h"

#define ARGS_WORDS_MAX 8
#define ARGS_VALUE_MAX 512 /* bytes of one value */

struct arg {
	const char *name;  /* without dashes */
	char letter;       /* 0: none */
	const char *value; /* what it takes, for the help: "NS"; NULL: nothing */
	const char *help;
	void *into; /* const char **, or bool * */
};

struct args_words {
	const char *items[ARGS_WORDS_MAX];
	size_t n;
};

/* Loads the configuration too. argv without the program and the subcommand. 1: help was asked for. */
int args_parse(const struct arg *args, size_t n, int argc, char **argv, struct config *config, struct args_words *ret,
	       struct err *err);
/* "usage" is one line or more, without "Usage: ". */
void args_help(const char *usage, const struct arg *args, size_t n);
/* "-o json" or nothing; -EINVAL. */
int args_output(const char *output, bool *ret_json, struct err *err);
/* 1 to 65535. */
int args_port(const char *text, uint16_t *ret, struct err *err);
/* "tcp", "udp", "sctp", "icmp", a number: IPPROTO_*. */
int args_protocol(const char *text, uint8_t *ret, struct err *err);
const char *args_protocol_name(uint8_t proto, char ret[static 8]);
