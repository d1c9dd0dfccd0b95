/* SPDX-License-Identifier: Apache-2.0 */
/* Queries to the host's resolvers: one socket (so one random port) and one random id each, a time limit, the next
 * upstream on failure. Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/str.h"

struct forwarder;
struct loop;

#define FORWARD_IN_FLIGHT_MAX 512
#define FORWARD_UPSTREAMS_MAX 3

/* `answer` empty: no upstream answered. Once for each query, unless the forwarder is destroyed first. */
typedef void forward_done_fn(void *arg, struct str answer);

/* `port`: of the upstreams, 0: 53. The addresses in `skip` ("a" or "a,b") are never asked: the cluster DNS itself. */
int forwarder_create(struct loop *loop, const char *resolv_conf, uint16_t port, const char *skip,
		     struct forwarder **ret);
void forwarder_destroy(struct forwarder *f);
/* False when the host names no upstream. */
bool forwarder_usable(struct forwarder *f);
/* -EBUSY at the limit. Over TCP when `tcp`. */
int forward_query(struct forwarder *f, struct str query, bool tcp, forward_done_fn *done, void *arg);
