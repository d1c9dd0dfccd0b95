/* SPDX-License-Identifier: Apache-2.0 */
/* Wire format to wire format: one query, answered from the zone or marked to be forwarded. Takes bytes from anyone.
 * Inside the room only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/buf.h"
#include "userspace/dns/zone.h"

#define ANSWER_UDP_MIN 512
#define ANSWER_UDP_MAX 4096
#define ANSWER_TCP_MAX 65535

enum answer_verdict { ANSWER_DROP, ANSWER_READY, ANSWER_FORWARD };

struct answer {
	struct buf wire;  /* READY: the answer. FORWARD: the query for the upstream */
	uint16_t id;      /* of the client's query */
	size_t udp_max;   /* what the client takes in one datagram */
	bool alias;       /* FORWARD: what comes back goes behind `prefix` */
	struct buf query; /* FORWARD with alias: the client's query, for answer_join() */
	int rcode;        /* READY */
};

void answer_finish(struct answer *a);
enum answer_verdict answer_query(struct zone *z, struct str query, bool tcp, bool can_forward, struct answer *ret);
/* The upstream's answer becomes the client's: id restored, cut for UDP with TC set, CNAME put before. */
int answer_from_upstream(struct zone *z, struct answer *a, struct str upstream, bool tcp, struct buf *out);
/* SERVFAIL for a query that could not be forwarded. */
int answer_failure(struct str query, int rcode, struct buf *out);
