/* SPDX-License-Identifier: Apache-2.0 */
/* All controllers of the node: started together, stopped together. Loop thread only. */
#pragma once

#include <stddef.h>

#include "userspace/controllers/runner.h"

struct controllers;
struct signer;

struct controllers_options {
	const char *root_ca_pem;       /* text of the cluster CA, for kube-root-ca.crt */
	const char *apiserver_address; /* where the `kubernetes` Service leads: an IP of the host */
	int apiserver_port;
	const char *kubernetes_service_ip; /* its cluster IP, or NULL: allocated like any other */
	const struct signer *signer;       /* borrowed; NULL: nothing is signed */
	const char *node_name;             /* whose addresses load balancers get; NULL: those of every Node */
	const char *const *disable;        /* names of controllers not to start, NULL-terminated, or NULL */
};

/* Copies what it needs of the options. An unknown name in `disable` is an error (-EINVAL). */
int controllers_start(struct loop *loop, struct registry *reg, const struct controllers_options *options,
		      struct controllers **ret, struct err *err);
void controllers_stop(struct controllers *c);

/* The `kubernetes` Service leads there from now on. */
void controllers_set_apiserver_address(struct controllers *c, const char *address);

size_t controllers_count(const struct controllers *c);
void controllers_get_stats(const struct controllers *c, size_t i, struct runner_stats *ret);
