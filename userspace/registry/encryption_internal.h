/* SPDX-License-Identifier: Apache-2.0 */
/* What encryption.c and encryption_config.c share. */
#pragma once

#include "userspace/registry/encryption.h"
#include "userspace/registry/encryption_cipher.h"

struct encryption_provider {
	const struct encryption_cipher *cipher; /* NULL: identity */
	struct encryption_key *keys;            /* the first one encrypts */
	size_t n_keys;
};

/* One entry of `resources`. */
struct encryption_rule {
	char **resources; /* "secrets", "deployments.apps", "*.apps", "*.", "*.*" */
	size_t n_resources;
	struct encryption_provider *providers; /* the first one writes, all read */
	size_t n_providers;
	bool outside; /* stands for what no entry names */
};

struct encryption {
	struct store_transform transform;
	struct encryption_rule *rules;
	size_t n_rules;
	struct encryption_rule outside;
	bool configured;
	char *of_secrets;
};

/* Fills rules and configured. */
int encryption_config_parse(struct str text, struct encryption *e, struct err *err);
