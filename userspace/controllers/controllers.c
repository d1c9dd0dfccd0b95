/* SPDX-License-Identifier: Apache-2.0 */
/* The table of controllers. To add one: its file, its declaration, its line. Loop thread only. */
#include "userspace/controllers/controllers.h"

#include <assert.h>
#include <errno.h>

#include "userspace/base/log.h"
#include "userspace/controllers/table.h"

static const struct controller *const table[] = {
	&controller_namespace,
	&controller_system_priority_classes,
	&controller_serviceaccount,
	&controller_root_ca,
	&controller_kubernetes_service,
	&controller_deployment,
	&controller_replicaset,
	&controller_replicationcontroller,
	&controller_daemonset,
	&controller_statefulset,
	&controller_job,
	&controller_endpointslice,
	&controller_endpointslice_mirroring,
	&controller_endpoints,
	&controller_service_lb,
	&controller_garbage,
	&controller_pod_gc,
	&controller_node_lifecycle,
	&controller_clusterrole_aggregation,
	&controller_apiservice,
	&controller_component_status,
	&controller_service_cidr,
	&controller_ip_address,
	&controller_token_secrets,
	&controller_csr_approving,
	&controller_csr_signing,
	&controller_csr_cleaner,
	&controller_resource_quota,
	&controller_pvc_protection,
	&controller_pv_protection,
};

struct controllers {
	struct controllers_options options;
	char *root_ca_pem, *apiserver_address, *kubernetes_service_ip, *node_name;
	struct runner *runners[ARRAY_SIZE(table)];
	const struct controller *which[ARRAY_SIZE(table)];
	size_t n;
};

static bool is_disabled(const struct controllers_options *options, const char *name)
{
	for (size_t i = 0; options->disable && options->disable[i]; i++)
		if (!strcmp(options->disable[i], name))
			return true;
	return false;
}

static int check_disable(const struct controllers_options *options, struct err *err)
{
	for (size_t i = 0; options->disable && options->disable[i]; i++) {
		bool known = false;

		for (size_t k = 0; k < ARRAY_SIZE(table); k++)
			known = known || !strcmp(table[k]->name, options->disable[i]);
		if (!known)
			return err_set(err, -EINVAL, "no controller is called \"%s\"", options->disable[i]);
	}
	return 0;
}

static void assert_unique(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (size_t k = 0; k < i; k++)
			assert(strcmp(table[i]->name, table[k]->name) != 0);
}

static char *dup_or_null(const char *s)
{
	return s ? mem_strdup(s) : NULL;
}

int controllers_start(struct loop *loop, struct registry *reg, const struct controllers_options *options,
		      struct controllers **ret, struct err *err)
{
	struct controllers *c;
	int rc;

	assert_unique();
	rc = check_disable(options, err);
	if (rc < 0)
		return rc;
	c = mem_new(struct controllers);
	c->options.root_ca_pem = c->root_ca_pem = dup_or_null(options->root_ca_pem);
	c->options.apiserver_address = c->apiserver_address = dup_or_null(options->apiserver_address);
	c->options.kubernetes_service_ip = c->kubernetes_service_ip = dup_or_null(options->kubernetes_service_ip);
	c->options.node_name = c->node_name = dup_or_null(options->node_name);
	c->options.apiserver_port = options->apiserver_port;
	c->options.signer = options->signer;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct runner_options ro = { .loop = loop, .reg = reg, .controllers = &c->options };

		if (is_disabled(options, table[i]->name)) {
			log_info("controller is disabled controller=%s", table[i]->name);
			continue;
		}
		c->which[c->n] = table[i];
		rc = runner_create(table[i], &ro, &c->runners[c->n], err);
		if (rc < 0) {
			controllers_stop(c);
			return rc;
		}
		c->n++;
	}
	*ret = c;
	return 0;
}

void controllers_stop(struct controllers *c)
{
	if (!c)
		return;
	for (size_t i = c->n; i-- > 0;)
		runner_destroy(c->runners[i]);
	free(c->root_ca_pem);
	free(c->apiserver_address);
	free(c->kubernetes_service_ip);
	free(c->node_name);
	free(c);
}

void controllers_set_apiserver_address(struct controllers *c, const char *address)
{
	if (c->apiserver_address && strcmp(c->apiserver_address, address) == 0)
		return;
	free(c->apiserver_address);
	c->options.apiserver_address = c->apiserver_address = mem_strdup(address);
	for (size_t i = 0; i < c->n; i++)
		if (c->which[i] == &controller_kubernetes_service)
			c->which[i]->start(c->runners[i], NULL);
}

size_t controllers_count(const struct controllers *c)
{
	return c->n;
}

void controllers_get_stats(const struct controllers *c, size_t i, struct runner_stats *ret)
{
	assert(i < c->n);
	runner_get_stats(c->runners[i], ret);
}
