/* SPDX-License-Identifier: Apache-2.0 */
/* The flow control objects that every server has, as upstream's: validation holds the mandatory ones to these specs,
 * the API server makes what is missing. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct flowcontrol_object {
	const char *name;
	bool mandatory;
	const char *spec; /* JSON */
};

/* Each ends with a name of NULL. */
extern const struct flowcontrol_object flowcontrol_levels[], flowcontrol_schemas[];
