/* SPDX-License-Identifier: Apache-2.0 */
/* See explain.h. */
#include "userspace/netctl/explain.h"

#include <errno.h>
#include <string.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/policy.h"

/* One with a link before one that a status alone gives the address to (it may be of a pod that ended). */
static const struct net_pod *explain_pod(const struct net_model *model, const struct dp_addr *addr)
{
	const struct net_pod *found = NULL;

	list_foreach(pod, &model->pods, struct net_pod, link) {
		if (pod->host_network || !address_equal(&pod->addrs[address_family(addr)], addr))
			continue;
		if (pod->attached)
			return pod;
		found = pod;
	}
	return found;
}

static struct json *explain_names(struct arena *arena, const struct net_policy **policies, size_t n)
{
	struct json *list = json_new_array(arena);

	for (size_t i = 0; i < n; i++)
		json_append(list,
			    json_new_printf(arena, "%.*s/%.*s", STR_ARG(policies[i]->ns), STR_ARG(policies[i]->name)));
	return list;
}

static struct json *explain_verdict(struct arena *arena, const struct policy_verdict *v)
{
	struct json *out = json_new_object(arena);

	json_set_bool(arena, out, "isolated", v->isolated);
	json_set_bool(arena, out, "allowed", v->allowed);
	json_set(out, "selecting", explain_names(arena, v->selecting, v->n_selecting));
	json_set(out, "allowing", explain_names(arena, v->allowing, v->n_allowing));
	return out;
}

struct json *netctl_explain_model(const struct net_model *model, struct arena *arena, const struct netctl_flow *flow)
{
	const struct policy_end from = { explain_pod(model, &flow->from), flow->from, flow->from_node };
	const struct policy_end to = { explain_pod(model, &flow->to), flow->to, flow->to_node };
	struct policy_explanation e;
	struct json *out = json_new_object(arena);

	policy_explain(arena, model, &from, &to, flow->proto, flow->port, &e);
	json_set_bool(arena, out, "allowed", e.allowed);
	json_set(out, "egress", explain_verdict(arena, &e.egress));
	json_set(out, "ingress", explain_verdict(arena, &e.ingress));
	return out;
}

char *netctl_flow_format(struct arena *arena, const struct netctl_flow *f)
{
	char from[ADDRESS_TEXT_MAX], to[ADDRESS_TEXT_MAX];

	address_format(&f->from, from);
	address_format(&f->to, to);
	return arena_printf(arena, "from=%s&to=%s&protocol=%u&port=%u%s%s", from, to, f->proto, f->port,
			    f->from_node ? "&node=from" : "", f->to_node ? "&node=to" : "");
}

static int flow_value(struct netctl_flow *f, struct str key, struct str value)
{
	int64_t n;

	if (str_is(key, "from"))
		return address_parse(value, &f->from);
	if (str_is(key, "to"))
		return address_parse(value, &f->to);
	if (str_is(key, "node")) {
		f->from_node = f->from_node || str_is(value, "from");
		f->to_node = f->to_node || str_is(value, "to");
		return str_is(value, "from") || str_is(value, "to") ? 0 : -EINVAL;
	}
	if (str_to_int64(value, &n) < 0 || n < 0)
		return -EINVAL;
	if (str_is(key, "protocol") && n <= UINT8_MAX)
		f->proto = (uint8_t)n;
	else if (str_is(key, "port") && n <= UINT16_MAX)
		f->port = (uint16_t)n;
	else
		return -EINVAL;
	return 0;
}

int netctl_flow_parse(struct str query, struct netctl_flow *ret, struct err *err)
{
	struct netctl_flow f = { 0 };
	struct str part;

	if (query.n > EXPLAIN_QUERY_MAX)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "the query is longer than %d bytes",
				      EXPLAIN_QUERY_MAX);
	while (str_split(&query, '&', &part)) {
		struct str key;

		str_split(&part, '=', &key);
		if (flow_value(&f, key, part) < 0)
			return err_set_status(err, -EINVAL, 400, "BadRequest", "%.*s: \"%.*s\" is no such value",
					      STR_ARG(key), STR_ARG(part));
	}
	if (!f.proto || address_is_zero(&f.from) || address_is_zero(&f.to) ||
	    address_family(&f.from) != address_family(&f.to))
		return err_set_status(err, -EINVAL, 400, "BadRequest",
				      "from and to (addresses of one family) and protocol are wanted");
	*ret = f;
	return 0;
}
