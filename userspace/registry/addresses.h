/* SPDX-License-Identifier: Apache-2.0 */
/* What the registry knows of cluster addresses, for who keeps the objects that tell of them. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/names.h"
#include "userspace/base/str.h"

struct registry;

/* Number `i` of the configured networks as text; false past the last. */
bool addresses_default_cidr(struct registry *reg, size_t i, char ret[static NAMES_CIDR_MAX]);
/* The Service that has the address, in its durable state; the names are borrowed until control returns to the loop. */
bool addresses_holder(struct registry *reg, struct str address, struct str *ret_ns, struct str *ret_name);
