/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered sets of compiled rules, in memory and in the maps, shared by every address whose policies compile to the
 * same. A set in use is changed in two ways only, neither of which any packet can notice: entries of identities that
 * nobody wears yet are added, entries of identities that nobody wears any more are removed. Everything else is a new
 * set. Loop thread. */
#pragma once

#include "userspace/base/list.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/policy_compile.h"

struct rule_set {
	uint32_t number;
	uint32_t refs;  /* addresses that have it, or will have it with the next commit */
	uint32_t tally; /* of whoever counts */
	uint64_t hash;
	struct policy_compiled entries;
};

/* An entry whose identity nobody wears: it goes when no program can still be looking for it. */
struct rule_removal {
	struct k3c_rule_key key;
};

struct rule_sets {
	struct map by_number, by_hash; /* by_hash: one of those with this content */
	struct rule_removal *removals;
	size_t n_removals, cap_removals;
	uint64_t writes; /* to the maps of rules and prefixes */
};

struct rule_set *policy_set_get(const struct rule_sets *sets, uint32_t number); /* NULL: none; 0 is none */
/* One with this content. NULL: none. */
struct rule_set *policy_set_find(const struct rule_sets *sets, const struct policy_compiled *entries);
/* A fresh one; the entries are taken over when it works out. */
int policy_set_make(struct dataplane *dp, struct policy_compiled *entries, struct rule_set **ret, struct err *err);
/* 1: the set has the new entries (taken over); 0: that would be seen, nothing is done. */
int policy_set_edit(struct dataplane *dp, struct rule_set *s, struct policy_compiled *entries, struct err *err);
/* All its entries once more. */
int policy_set_rewrite(struct dataplane *dp, const struct rule_set *s, struct err *err);
/* Removals that were put off, and sets without references. */
void policy_sets_collect(struct dataplane *dp);
/* As the maps say. */
void policy_sets_read(struct dataplane *dp);
void policy_sets_finish(struct rule_sets *sets);
