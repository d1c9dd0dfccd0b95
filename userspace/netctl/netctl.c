/* SPDX-License-Identifier: Apache-2.0 */
/* Watches and the batching of changes. See netctl.h. */
#include "userspace/netctl/netctl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define NETCTL_BOOT_NS (5 * 60 * NS_PER_S) /* what the host runs has been started when it is up so long */
#define NETCTL_PRESSURE_NS (60 * NS_PER_S) /* between two looks at tables that nothing written here fills */

/* Everything that changed in one turn of the loop is written once. */
void netctl_schedule(struct netctl *nc)
{
	loop_defer(nc->loop, &nc->defer);
}

/* Never silent: the pod says which map has no room for it, the node that it filled. */
static void netctl_policy_failed(void *arg, const struct net_pod *pod, const char *what, const struct err *err)
{
	struct netctl *nc = arg;
	const struct object *o = registry_by_uid(nc->reg, pod->uid);

	if (o)
		registry_event(nc->reg, "k3c-bpf", o, "Warning", "FailedPolicyInstall", "%s not installed: %s", what,
			       err_message(err));
}

void netctl_tell_pressure(struct netctl *nc)
{
	const struct object *node;
	struct dp_pressure p;

	while (dataplane_pressure_news(nc->dp, &p)) {
		log_warn("map is full map=%s entries=%u", p.name, p.max_entries);
		node = registry_get(nc->reg, KIND_NODE, STR_NULL, str_of(nc->node_name));
		if (node)
			registry_event(nc->reg, "k3c-bpf", node, "Warning", "DataplaneMapFull",
				       "%s is full (%u entries): %s", p.name, p.max_entries,
				       p.forgets ? "new ones push out the oldest"
						 : "what does not fit is not installed");
	}
}

/* Packets fill some tables, and no write here fails for it. */
static void netctl_pressure_due(struct loop_timer *timer)
{
	struct netctl *nc = container_of(timer, struct netctl, pressure_timer);

	dataplane_pressure_look(nc->dp);
	netctl_tell_pressure(nc);
	loop_timer_arm(nc->loop, timer, NETCTL_PRESSURE_NS);
}

static void netctl_sync(struct loop_defer *defer)
{
	struct netctl *nc = container_of(defer, struct netctl, defer);
	bool services = !list_empty(&nc->dirty_services) || !list_empty(&nc->dirty_pods), policies = nc->policies_dirty;
	int64_t start = clock_monotonic_ns(), between, end;

	netctl_sync_services(nc);
	between = clock_monotonic_ns();
	netctl_sync_policies(nc);
	end = clock_monotonic_ns();
	if (services)
		netctl_time_note(&nc->stats.service_time, between - start);
	if (policies)
		netctl_time_note(&nc->stats.policy_time, end - between);
	nc->stats.last_sync_ns = (uint64_t)(end - start);
	netctl_drift_begin(nc, DRIFT_EVERY_NS);
	netctl_tell_pressure(nc);
}

static struct netctl *netctl_of(struct registry_watch *w, size_t i)
{
	return container_of(w, struct netctl, watches[i]);
}

static void service_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			  const struct object *prev)
{
	netctl_service_changed(netctl_of(w, 0), o, type == REGISTRY_DELETED);
}

static void slice_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	netctl_slice_changed(netctl_of(w, 1), o, prev, type == REGISTRY_DELETED);
}

static void namespace_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			    const struct object *prev)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct netctl *nc = netctl_of(w, 2);

	if (type == REGISTRY_DELETED)
		model_remove_namespace(&nc->model, o->name);
	else
		model_set_namespace(&nc->model, registry_parse(&arena, o));
	nc->policies_dirty = true;
	netctl_schedule(nc);
}

static void policy_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			 const struct object *prev)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct netctl *nc = netctl_of(w, 3);

	if (type == REGISTRY_DELETED)
		model_remove_policy(&nc->model, o->ns, o->name);
	else
		model_set_policy(&nc->model, registry_parse(&arena, o));
	nc->policies_dirty = true;
	netctl_schedule(nc);
}

static void pod_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	netctl_pod_changed(netctl_of(w, 4), o, type == REGISTRY_DELETED);
}

static void node_event(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	netctl_node_changed(netctl_of(w, 5), o, type == REGISTRY_DELETED);
}

/* The ring may still hold the poll: then its last completion frees. */
static void netctl_maybe_free(struct netctl *nc)
{
	if (!loop_op_pending(&nc->links_op))
		free(nc);
}

static void links_ready(struct loop_op *op, int res, bool more)
{
	struct netctl *nc = container_of(op, struct netctl, links_op);
	_cleanup_err_ struct err err = ERR_INIT;

	if (nc->destroying) {
		netctl_maybe_free(nc);
		return;
	}
	if (dataplane_links_process(nc->dp, &err) < 0)
		log_warn("host links not followed error=\"%s\"", err_message(&err));
	rivals_addresses_changed(nc);
	netctl_drift_of_links(nc);
	netctl_tell_pressure(nc);
	if (nc->links_changed)
		nc->links_changed(nc->links_changed_arg);
	loop_poll(nc->loop, op, dataplane_links_fd(nc->dp), POLLIN, false, links_ready);
}

static int netctl_ranges(struct netctl *nc, const struct netctl_options *o, struct err *err)
{
	struct dp_net nets[DP_FAMILIES];
	enum dp_family primary;

	if (address_parse_prefix_families(str_of(o->pod_cidr), nets, &nc->primary) < 0)
		return err_set(err, -EINVAL, "cluster-cidr: \"%s\" is no address range", o->pod_cidr);
	if (*o->cluster_dns && address_parse_families(str_of(o->cluster_dns), nc->dns_addrs, &primary) < 0)
		return err_set(err, -EINVAL, "cluster-dns: \"%s\" is no address", o->cluster_dns);
	pod_addresses_init(&nc->addresses, nets);
	return 0;
}

int netctl_create(struct loop *loop, struct registry *reg, struct dataplane *dp, const struct netctl_options *options,
		  struct netctl **ret, struct err *err)
{
	struct netctl *nc = mem_new(struct netctl);
	int r;

	nc->loop = loop;
	nc->reg = reg;
	nc->dp = dp;
	nc->no_policy = options->no_policy;
	nc->node_name = mem_strdup(options->node_name);
	nc->links_changed = options->links_changed;
	nc->links_changed_arg = options->links_changed_arg;
	nc->defer.fn = netctl_sync;
	nc->api_port = options->api_port;
	nc->boot_until_ns = NETCTL_BOOT_NS;
	netctl_init_services(nc);
	loop_timer_init(&nc->pressure_timer, netctl_pressure_due);
	model_init(&nc->model);
	policy_sync_init(&nc->policy, &nc->model, dp, nc->no_policy);
	nc->policy.failed = netctl_policy_failed;
	nc->policy.failed_arg = nc;
	r = netctl_ranges(nc, options, err);
	if (r < 0) {
		netctl_destroy(nc);
		return r;
	}
	nc->drift.last_look_ns =
		clock_monotonic_ns(); /* the start adopts and repairs: no sync follows it with a look */
	*ret = nc;
	return 0;
}

int netctl_start(struct netctl *nc, struct err *err)
{
	static const struct {
		const struct api_kind *const *kind;
		void (*fn)(struct registry_watch *w, enum registry_event_type type, const struct object *o,
			   const struct object *prev);
	} watches[] = {
		{ &KIND_SERVICE, service_event },
		{ &KIND_ENDPOINTSLICE, slice_event },
		{ &KIND_NAMESPACE, namespace_event },
		{ &KIND_NETWORKPOLICY, policy_event },
		{ &KIND_POD, pod_event },
		{ &KIND_NODE, node_event },
	};
	int r;

	netctl_adopt_frontends(nc);
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++) {
		nc->watches[i].kind = *watches[i].kind;
		nc->watches[i].fn = watches[i].fn;
		registry_watch_start(nc->reg, &nc->watches[i]);
	}
	netctl_add_dns_pod(nc);
	netctl_adopt_links(nc);
	gone_adopt(nc);
	netctl_sync(&nc->defer);
	netctl_prune_services(nc);
	netctl_prune_links(nc);
	r = dataplane_settle(nc->dp, err);
	if (r < 0)
		return r;
	gone_settle(nc);
	loop_timer_arm(nc->loop, &nc->pressure_timer, NETCTL_PRESSURE_NS);
	if (dataplane_links_fd(nc->dp) >= 0)
		loop_poll(nc->loop, &nc->links_op, dataplane_links_fd(nc->dp), POLLIN, false, links_ready);
	return 0;
}

void netctl_destroy(struct netctl *nc)
{
	if (!nc)
		return;
	nc->destroying = true;
	loop_cancel(nc->loop, &nc->links_op);
	loop_defer_cancel(nc->loop, &nc->defer);
	loop_timer_cancel(nc->loop, &nc->pressure_timer);
	netctl_drift_stop(nc);
	for (size_t i = 0; i < ARRAY_SIZE(nc->watches); i++)
		if (nc->watches[i].fn)
			registry_watch_stop(nc->reg, &nc->watches[i]);
	netctl_free_services(nc);
	netctl_free_pods(nc);
	free(nc->node_name);
	netctl_maybe_free(nc);
}
