/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's zone: names to records, straight from the objects (Kubernetes DNS specification 1.1.0). Inside the
 * room only. Loop thread. */
#pragma once

#include <ldns/ldns.h>
#include <stdbool.h>

#include "userspace/base/map.h"
#include "userspace/base/str.h"
#include "userspace/registry/registry.h"

#define ZONE_TTL_S 5
#define ZONE_RECORDS_MAX 1000 /* of one answer */
#define ZONE_NAME_MAX 256

struct zone {
	struct registry *reg;
	char *domain;       /* lower case, no final dot */
	struct map reverse; /* address text -> name (heap); made when first asked for, dropped on changes */
	bool reverse_valid;
	struct registry_watch services, slices;
};

void zone_init(struct zone *z, struct registry *reg, const char *domain);
void zone_finish(struct zone *z);

enum zone_result {
	ZONE_NOT_OURS, /* forward */
	ZONE_FOUND,    /* records in answer (and additional) */
	ZONE_NO_DATA,  /* the name exists, not with this type */
	ZONE_NO_NAME,
	ZONE_ALIAS, /* a CNAME in answer leads out of the zone: *ret_target is to be resolved */
};

/* `name` in lower case without the final dot; `owner` as asked. */
enum zone_result zone_lookup(struct zone *z, struct str name, const ldns_rdf *owner, ldns_rr_type type,
			     ldns_rr_list *answer, ldns_rr_list *additional, char ret_target[static ZONE_NAME_MAX]);
/* For negative answers. */
ldns_rr *zone_soa(const struct zone *z);
