/* SPDX-License-Identifier: Apache-2.0 */
/* See args.h. What is no flag of the subcommand is the configuration's, which judges it. */
#include "userspace/cmd/args.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	uint8_t proto;
} args_protocols[] = {
	{ "tcp", IPPROTO_TCP },   { "udp", IPPROTO_UDP },       { "sctp", IPPROTO_SCTP },
	{ "icmp", IPPROTO_ICMP }, { "icmpv6", IPPROTO_ICMPV6 },
};

static const struct arg *args_find(const struct arg *args, size_t n, const char *word, const char **ret_value)
{
	*ret_value = NULL;
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(args[i].name);

		if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, args[i].name, len) == 0 &&
		    (!word[2 + len] || word[2 + len] == '=')) {
			*ret_value = word[2 + len] ? word + 3 + len : NULL;
			return &args[i];
		}
		if (word[0] == '-' && word[1] && word[1] == args[i].letter) {
			*ret_value = word[2] == '=' ? word + 3 : word[2] ? word + 2 : NULL;
			return &args[i];
		}
	}
	return NULL;
}

static int args_take(const struct arg *a, const char *value, int argc, char **argv, int *i, struct err *err)
{
	if (!a->value) {
		if (value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return err_set(err, -EINVAL, "--%s takes no value", a->name);
		*(bool *)a->into = !value || strcmp(value, "true") == 0;
		return 0;
	}
	if (!value && *i + 1 >= argc)
		return err_set(err, -EINVAL, "--%s wants a value: %s", a->name, a->value);
	if (!value)
		value = argv[++*i];
	if (!*value || strlen(value) > ARGS_VALUE_MAX)
		return err_set(err, -EINVAL, "--%s: a value of 1 to %d bytes is wanted", a->name, ARGS_VALUE_MAX);
	*(const char **)a->into = value;
	return 0;
}

int args_parse(const struct arg *args, size_t n, int argc, char **argv, struct config *config, struct args_words *ret,
	       struct err *err)
{
	_cleanup_free_ char **rest = mem_new_array(char *, (size_t)argc + 1);
	int n_rest = 0, at;

	*ret = (struct args_words){ 0 };
	for (int i = 0; i < argc; i++) {
		const char *value;
		const struct arg *a = args_find(args, n, argv[i], &value);
		int r;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return 1;
		if (a) {
			r = args_take(a, value, argc, argv, &i, err);
			if (r < 0)
				return r;
		} else if (strncmp(argv[i], "--", 2) == 0) {
			rest[n_rest++] = argv[i];
			if (!strchr(argv[i], '=') && !config_is_switch(argv[i] + 2) && i + 1 < argc)
				rest[n_rest++] = argv[++i];
		} else if (argv[i][0] == '-' && argv[i][1]) {
			return err_set(err, -EINVAL, "unknown flag %.64s", argv[i]);
		} else if (ret->n == ARGS_WORDS_MAX || strlen(argv[i]) > ARGS_VALUE_MAX) {
			return err_set(err, -E2BIG, "too many or too long arguments");
		} else {
			ret->items[ret->n++] = argv[i];
		}
	}
	return config_load(n_rest, rest, config, &at, err);
}

void args_help(const char *usage, const struct arg *args, size_t n)
{
	printf("Usage: %s\n", usage);
	for (size_t i = 0; i < n; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s%c%s--%s%s%s", args[i].letter ? "-" : " ",
			 args[i].letter ? args[i].letter : ' ', args[i].letter ? ", " : "  ", args[i].name,
			 args[i].value ? " " : "", args[i].value ? args[i].value : "");
		printf("  %-28s %s\n", name, args[i].help);
	}
	printf("Flags of the node (--data-dir, --pin-dir, ...) are taken too: see k3c-bpf help.\n");
}

int args_output(const char *output, bool *ret_json, struct err *err)
{
	if (output && strcmp(output, "json") != 0)
		return err_set(err, -EINVAL, "-o: \"%.64s\": only json is known", output);
	*ret_json = output != NULL;
	return 0;
}

int args_port(const char *text, uint16_t *ret, struct err *err)
{
	int64_t port;

	if (str_to_int64(str_of(text), &port) < 0 || port < 1 || port > UINT16_MAX)
		return err_set(err, -EINVAL, "--port: \"%.64s\" is no number from 1 to 65535", text);
	*ret = (uint16_t)port;
	return 0;
}

int args_protocol(const char *text, uint8_t *ret, struct err *err)
{
	int64_t number;

	for (size_t i = 0; i < ARRAY_SIZE(args_protocols); i++)
		if (strcasecmp(text, args_protocols[i].name) == 0) {
			*ret = args_protocols[i].proto;
			return 0;
		}
	if (str_to_int64(str_of(text), &number) < 0 || number < 1 || number > UINT8_MAX)
		return err_set(err, -EINVAL, "--protocol: \"%.64s\" is none of tcp, udp, sctp, icmp, icmpv6", text);
	*ret = (uint8_t)number;
	return 0;
}

const char *args_protocol_name(uint8_t proto, char ret[static 8])
{
	static const char *const names[] = { "TCP", "UDP", "SCTP", "ICMP", "ICMPv6" };

	for (size_t i = 0; i < ARRAY_SIZE(args_protocols); i++)
		if (args_protocols[i].proto == proto)
			return names[i];
	snprintf(ret, 8, "%u", proto);
	return ret;
}
