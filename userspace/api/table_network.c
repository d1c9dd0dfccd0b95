/* SPDX-License-Identifier: Apache-2.0 */
/* How services, endpoints, policies, ingresses and addresses are shown. Any thread. */
#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

#define LIST_SHOWN_MAX 3 /* "a,b,c + 2 more..." */

/* A list of which only the first few are shown. */
struct short_list {
	struct buf text;
	size_t n;
};

static void short_list_add(struct short_list *l, struct str s)
{
	if (l->n++ < LIST_SHOWN_MAX)
		table_join(&l->text, s, ",");
}

static void short_list_cell(struct table_cells *c, struct short_list *l, const char *none)
{
	if (l->n > LIST_SHOWN_MAX)
		buf_printf(&l->text, " + %zu more...", l->n - LIST_SHOWN_MAX);
	cell_or(c, buf_str(&l->text), none);
	buf_finish(&l->text);
}

/* ---- Service ---- */

static void external_ip(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str type = json_at_str(o, "spec.type");

	if (str_is(type, "ExternalName")) {
		cell_str(c, json_at_str(o, "spec.externalName"));
		return;
	}
	if (str_is(type, "LoadBalancer"))
		json_foreach(i, json_at(o, "status.loadBalancer.ingress")) {
			struct str ip = json_get_str(i, "ip");

			table_join(&text, ip.n ? ip : json_get_str(i, "hostname"), ",");
		}
	json_foreach(ip, json_at(o, "spec.externalIPs"))
		table_join(&text, json_str(ip), ",");
	cell_or(c, buf_str(&text), str_is(type, "LoadBalancer") ? "<pending>" : "<none>");
}

static void service_ports(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	json_foreach(p, json_at(o, "spec.ports")) {
		long long node = (long long)json_get_int(p, "nodePort", 0);

		table_join(&text, STR(""), ",");
		buf_printf(&text, "%lld", (long long)json_get_int(p, "port", 0));
		if (node)
			buf_printf(&text, ":%lld", node);
		buf_printf(&text, "/%.*s", STR_ARG(json_get_str(p, "protocol")));
	}
	cell_or(c, buf_str(&text), "<none>");
}

static void service_cells(struct table_cells *c, const struct json *o)
{
	struct str ip = json_str(json_first(json_at(o, "spec.clusterIPs")));

	if (!ip.n)
		ip = json_at_str(o, "spec.clusterIP");
	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.type"));
	cell_or(c, ip, "<none>");
	external_ip(c, o);
	service_ports(c, o);
	cell_age(c, o);
	cell_labels(c, json_at(o, "spec.selector"));
}

static const struct table_column service_columns[] = {
	COLUMN_NAME,
	{ "Type", "string", 0, "How the service is exposed." },
	{ "Cluster-IP", "string", 0, "The address inside the cluster." },
	{ "External-IP", "string", 0, "Addresses from outside." },
	{ "Port(s)", "string", 0, "Ports, node ports and protocols." },
	COLUMN_AGE,
	{ "Selector", "string", 1, "What pods are behind it." },
};

/* ---- Endpoints, EndpointSlice ---- */

static void endpoints_cells(struct table_cells *c, const struct json *o)
{
	struct short_list list = { 0 };

	json_foreach(s, json_get(o, "subsets")) {
		const struct json *ports = json_get(s, "ports");

		if (!json_count(ports))
			json_foreach(a, json_get(s, "addresses"))
				short_list_add(&list, json_get_str(a, "ip"));
		json_foreach(p, ports)
			json_foreach(a, json_get(s, "addresses")) {
				struct str ip = json_get_str(a, "ip");
				bool v6 = str_find(ip, ':') >= 0;

				short_list_add(&list, str_of(arena_printf(c->arena, v6 ? "[%.*s]:%lld" : "%.*s:%lld",
									  STR_ARG(ip),
									  (long long)json_get_int(p, "port", 0))));
			}
	}
	cell_name(c, o);
	short_list_cell(c, &list, "<none>");
	cell_age(c, o);
}

static const struct table_column endpoints_columns[] = {
	COLUMN_NAME,
	{ "Endpoints", "string", 0, "Addresses and ports that serve." },
	COLUMN_AGE,
};

static void slice_cells(struct table_cells *c, const struct json *o)
{
	struct short_list ports = { 0 }, addresses = { 0 };

	json_foreach(p, json_get(o, "ports")) {
		const struct json *port = json_get(p, "port");
		struct str name = json_get_str(p, "name");

		short_list_add(&ports, port ? port->text : name.n ? name : STR("*"));
	}
	json_foreach(e, json_get(o, "endpoints"))
		json_foreach(a, json_get(e, "addresses"))
			short_list_add(&addresses, json_str(a));
	cell_name(c, o);
	cell_str(c, json_get_str(o, "addressType"));
	short_list_cell(c, &ports, "<unset>");
	short_list_cell(c, &addresses, "<unset>");
	cell_age(c, o);
}

static const struct table_column slice_columns[] = {
	COLUMN_NAME,
	{ "AddressType", "string", 0, "IPv4, IPv6 or FQDN." },
	{ "Ports", "string", 0, "Ports of the endpoints." },
	{ "Endpoints", "string", 0, "Addresses of the endpoints." },
	COLUMN_AGE,
};

/* ---- NetworkPolicy ---- */

static void policy_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_selector(c, json_at(o, "spec.podSelector"));
	cell_age(c, o);
}

static const struct table_column policy_columns[] = {
	COLUMN_NAME,
	{ "Pod-Selector", "string", 0, "What pods the policy is about." },
	COLUMN_AGE,
};

/* ---- Ingress, IngressClass ---- */

static void ingress_cells(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf address = BUF_INIT;
	struct short_list hosts = { 0 };
	struct str class_name = json_at_str(o, "spec.ingressClassName");

	json_foreach(r, json_at(o, "spec.rules"))
		if (json_get_str(r, "host").n)
			short_list_add(&hosts, json_get_str(r, "host"));
	json_foreach(i, json_at(o, "status.loadBalancer.ingress")) {
		struct str ip = json_get_str(i, "ip");

		table_join(&address, ip.n ? ip : json_get_str(i, "hostname"), ",");
	}
	if (!class_name.n)
		class_name = meta_annotation(o, "kubernetes.io/ingress.class");
	cell_name(c, o);
	cell_or(c, class_name, "<none>");
	short_list_cell(c, &hosts, "*");
	cell_str(c, buf_str(&address));
	cell_cstr(c, json_count(json_at(o, "spec.tls")) ? "80, 443" : "80");
	cell_age(c, o);
}

static const struct table_column ingress_columns[] = {
	COLUMN_NAME,
	{ "Class", "string", 0, "The ingress class." },
	{ "Hosts", "string", 0, "Host names that the rules are about." },
	{ "Address", "string", 0, "Where it is reached." },
	{ "Ports", "string", 0, "Ports it is reached at." },
	COLUMN_AGE,
};

static void ingressclass_cells(struct table_cells *c, const struct json *o)
{
	const struct json *p = json_at(o, "spec.parameters");
	struct str group = json_get_str(p, "apiGroup");

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.controller"));
	if (p)
		cell_printf(c, "%.*s%s%.*s/%.*s", STR_ARG(json_get_str(p, "kind")), group.n ? "." : "", STR_ARG(group),
			    STR_ARG(json_get_str(p, "name")));
	else
		cell_cstr(c, "<none>");
	cell_age(c, o);
}

static const struct table_column ingressclass_columns[] = {
	COLUMN_NAME,
	{ "Controller", "string", 0, "Who handles ingresses of this class." },
	{ "Parameters", "string", 0, "An object with more settings." },
	COLUMN_AGE,
};

/* ---- IPAddress, ServiceCIDR ---- */

static void ipaddress_cells(struct table_cells *c, const struct json *o)
{
	const struct json *ref = json_at(o, "spec.parentRef");
	_cleanup_buf_ struct buf text = BUF_INIT;
	static const char *const parts[] = { "group", "resource", "namespace", "name" };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (json_get_str(ref, parts[i]).n)
			table_join(&text, json_get_str(ref, parts[i]),
				   i == 1 && json_get_str(ref, "group").n ? "." : "/");
	cell_name(c, o);
	cell_or(c, buf_str(&text), "<none>");
}

static const struct table_column ipaddress_columns[] = {
	COLUMN_NAME,
	{ "ParentRef", "string", 0, "The object that has the address." },
};

static void servicecidr_cells(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	json_foreach(cidr, json_at(o, "spec.cidrs"))
		table_join(&text, json_str(cidr), ",");
	cell_name(c, o);
	cell_str(c, buf_str(&text));
	cell_age(c, o);
}

static const struct table_column servicecidr_columns[] = {
	COLUMN_NAME,
	{ "CIDRs", "string", 0, "Networks that services get addresses from." },
	COLUMN_AGE,
};

#define PRINTER(group, plural, name)                                                                                   \
	{                                                                                                              \
		group, plural, name##_columns, ARRAY_SIZE(name##_columns), name##_cells, NULL                          \
	}

static const struct table_printer items[] = {
	PRINTER("", "services", service),
	PRINTER("", "endpoints", endpoints),
	PRINTER("discovery.k8s.io", "endpointslices", slice),
	PRINTER("networking.k8s.io", "networkpolicies", policy),
	PRINTER("networking.k8s.io", "ingresses", ingress),
	PRINTER("networking.k8s.io", "ingressclasses", ingressclass),
	PRINTER("networking.k8s.io", "ipaddresses", ipaddress),
	PRINTER("networking.k8s.io", "servicecidrs", servicecidr),
};

const struct table_printers table_printers_network = { items, ARRAY_SIZE(items) };
