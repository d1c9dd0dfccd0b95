/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkPolicy by hand: every case is a sentence of Kubernetes' documentation. */
#include "tests/netctl/rules.h"

#define TCP IPPROTO_TCP
#define UDP IPPROTO_UDP

/* Namespaces a (team=x), b (team=y), bare (no labels). Pods: a/web (app=web, port http=8080), a/db (app=db, port
 * http=9090), b/web (app=web, http=8081), bare/web (app=web), a/host (hostNetwork, app=web), a/done (app=web, over). */
static void fill(struct net_model *m)
{
	static const char *const namespaces[] = {
		"{'metadata':{'name':'a','labels':{'team':'x'}}}",
		"{'metadata':{'name':'b','labels':{'team':'y'}}}",
		"{'metadata':{'name':'bare'}}",
	};
	static const struct {
		const char *ns, *name, *app, *ip, *spec, *phase;
	} pods[] = {
		{ "a", "web", "web", "10.42.0.2", "'containers':[{'ports':[{'name':'http','containerPort':8080}]}]",
		  "Running" },
		{ "a", "db", "db", "10.42.0.3",
		  "'containers':[{'ports':[{'name':'http','containerPort':9090},"
		  "{'name':'dns','protocol':'UDP','containerPort':53}]}],'initContainers':["
		  "{'ports':[{'name':'setup','containerPort':1}]},{'restartPolicy':'Always',"
		  "'ports':[{'name':'side','containerPort':2}]}]",
		  "Running" },
		{ "b", "web", "web", "10.42.0.4", "'containers':[{'ports':[{'name':'http','containerPort':8081}]}]",
		  "Running" },
		{ "bare", "web", "web", "10.42.0.5", "'containers':[{}]", "Running" },
		{ "a", "host", "web", "172.30.0.1", "'hostNetwork':true,'containers':[{}]", "Running" },
		{ "a", "done", "web", "10.42.0.4", "'containers':[{}]", "Succeeded" },
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_init(m);
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		model_set_namespace(m, json_of(&arena, namespaces[i]));
	for (size_t i = 0; i < ARRAY_SIZE(pods); i++)
		model_set_pod(
			m,
			json_of(&arena,
				arena_printf(&arena,
					     "{'metadata':{'namespace':'%s','name':'%s','uid':'%s/%s',"
					     "'labels':{'app':'%s'}},'spec':{%s},'status':{'podIP':'%s','phase':'%s'}}",
					     pods[i].ns, pods[i].name, pods[i].ns, pods[i].name, pods[i].app,
					     pods[i].spec, pods[i].ip, pods[i].phase)));
	/* the cluster's DNS plays a pod */
	model_set_pod(m, json_of(&arena, "{'metadata':{'namespace':'kube-system','name':'dns','uid':'dns','labels':"
					 "{'k8s-app':'kube-dns'}},'spec':{'containers':[{'ports':[{'name':'dns',"
					 "'protocol':'UDP','containerPort':53}]}]}}"));
	model_set_namespace(m, json_of(&arena, "{'metadata':{'name':'kube-system','labels':"
					       "{'kubernetes.io/metadata.name':'kube-system'}}}"));
	model_pod(m, STR("dns"))->virtual = true;
	model_attach_pod(m, model_pod(m, STR("dns")), (struct dp_addr[DP_FAMILIES]){ addr_of("10.43.0.10") });
}

static void add(struct net_model *m, const char *ns, const char *name, const char *spec)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_set_policy(m,
			 json_of(&arena, arena_printf(&arena, "{'metadata':{'namespace':'%s','name':'%s'},'spec':{%s}}",
						      ns, name, spec)));
}

/* `far`: a pod's uid or an address. */
static bool allowed(struct net_model *m, const char *pod, uint8_t direction, const char *far, uint8_t proto,
		    uint16_t port)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct net_pod *peer = model_pod(m, str_of(far));
	struct far_end end = { 0 };
	struct policy_result r;

	if (peer)
		end = (struct far_end){ peer->addrs[DP_V4], peer->identity };
	else
		end.addr = addr_of(far);
	policy_translate(&arena, m, model_pod(m, str_of(pod)), &r);
	assert_false(r.truncated);
	return rules_allow(&r, direction, &end, proto, port);
}

#define yes(...) assert_true(allowed(__VA_ARGS__))
#define no(...) assert_false(allowed(__VA_ARGS__))

#define IN DP_INGRESS
#define OUT DP_EGRESS

static void test_default_deny(void **state)
{
	struct net_model m;

	fill(&m);
	yes(&m, "a/web", IN, "b/web", TCP, 80);
	add(&m, "a", "deny", "'podSelector':{}");
	no(&m, "a/web", IN, "b/web", TCP, 80);
	no(&m, "a/web", IN, "a/db", UDP, 80);
	no(&m, "a/db", IN, "192.0.2.1", TCP, 80);
	/* the direction is ingress alone, the namespace a alone */
	yes(&m, "a/web", OUT, "b/web", TCP, 80);
	yes(&m, "b/web", IN, "a/web", TCP, 80);
	/* what one allows the other cannot take away */
	add(&m, "a", "allow", "'podSelector':{'matchLabels':{'app':'web'}},'ingress':[{}]");
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 80);
	no(&m, "a/db", IN, "192.0.2.1", TCP, 80);
	model_remove_policy(&m, STR("a"), STR("deny"));
	yes(&m, "a/db", IN, "192.0.2.1", TCP, 80);
	model_finish(&m);
}

static void check_types(const char *spec, bool in, bool out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_result r;
	struct net_model m;

	fill(&m);
	add(&m, "a", "p", spec);
	policy_translate(&arena, &m, model_pod(&m, STR("a/web")), &r);
	assert_int_equal(r.isolated_ingress, in);
	assert_int_equal(r.isolated_egress, out);
	assert_int_equal(r.n_rules, 0);
	model_finish(&m);
}

static void test_policy_types(void **state)
{
	check_types("'podSelector':{}", true, false);
	check_types("'podSelector':{},'policyTypes':['Ingress']", true, false);
	check_types("'podSelector':{},'policyTypes':['Egress']", false, true);
	check_types("'podSelector':{},'policyTypes':['Ingress','Egress']", true, true);
	check_types("'podSelector':{},'egress':[{'to':[{'podSelector':{'matchLabels':{'no':'one'}}}]}]", true, true);
	check_types("'podSelector':{},'egress':[]", true, false);
	/* rules of a direction that is not named mean nothing */
	check_types("'podSelector':{},'policyTypes':['Ingress'],'egress':[{}]", true, false);
	/* absent: the empty one */
	check_types("'policyTypes':['Ingress']", true, false);
	check_types("'podSelector':{'matchLabels':{'app':'db'}}", false, false);
	check_types("'podSelector':{'matchExpressions':[{'key':'app','operator':'In','values':['web','x']}]}", true,
		    false);
}

static void test_selectors(void **state)
{
	struct net_model m;

	fill(&m);
	/* pods of the policy's own namespace */
	add(&m, "a", "p", "'podSelector':{'matchLabels':{'app':'db'}},'ingress':[{'from':[{'podSelector':{}}]}]");
	yes(&m, "a/db", IN, "a/web", TCP, 1);
	no(&m, "a/db", IN, "b/web", TCP, 1);
	no(&m, "a/db", IN, "10.42.0.200", TCP, 1);
	/* all namespaces, also those without labels; pods only, nothing outside */
	add(&m, "a", "p", "'podSelector':{'matchLabels':{'app':'db'}},'ingress':[{'from':[{'namespaceSelector':{}}]}]");
	yes(&m, "a/db", IN, "a/web", TCP, 1);
	yes(&m, "a/db", IN, "b/web", TCP, 1);
	yes(&m, "a/db", IN, "bare/web", TCP, 1);
	no(&m, "a/db", IN, "192.0.2.1", TCP, 1);
	/* one peer: both must hold */
	add(&m, "a", "p",
	    "'podSelector':{'matchLabels':{'app':'db'}},'ingress':[{'from':[{'namespaceSelector':{'matchLabels':"
	    "{'team':'y'}},'podSelector':{'matchLabels':{'app':'web'}}}]}]");
	yes(&m, "a/db", IN, "b/web", TCP, 1);
	no(&m, "a/db", IN, "a/web", TCP, 1);
	no(&m, "a/db", IN, "bare/web", TCP, 1);
	/* two peers: either */
	add(&m, "a", "p",
	    "'podSelector':{'matchLabels':{'app':'db'}},'ingress':[{'from':[{'namespaceSelector':{'matchLabels':"
	    "{'team':'y'}}},{'podSelector':{'matchLabels':{'app':'web'}}}]}]");
	yes(&m, "a/db", IN, "b/web", TCP, 1);
	yes(&m, "a/db", IN, "a/web", TCP, 1);
	no(&m, "a/db", IN, "bare/web", TCP, 1);
	/* an empty list of peers is everyone, as an absent one */
	add(&m, "a", "p", "'podSelector':{'matchLabels':{'app':'db'}},'ingress':[{'from':[]}]");
	yes(&m, "a/db", IN, "192.0.2.1", TCP, 1);
	model_finish(&m);
}

static void test_namespace_changes(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_model m;

	fill(&m);
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'from':[{'namespaceSelector':{'matchLabels':{'team':'y'}}}]}]");
	model_set_namespace(&m, json_of(&arena, "{'metadata':{'name':'bare','labels':{'team':'y'}}}"));
	yes(&m, "a/web", IN, "bare/web", TCP, 1);
	model_remove_namespace(&m, STR("b"));
	no(&m, "a/web", IN, "b/web", TCP, 1);
	model_set_namespace(&m, json_of(&arena, "{'metadata':{'name':'b','labels':{'team':'y'}}}"));
	yes(&m, "a/web", IN, "b/web", TCP, 1);
	model_finish(&m);
}

static void test_blocks(void **state)
{
	struct net_model m;

	fill(&m);
	add(&m, "a", "p",
	    "'podSelector':{},'policyTypes':['Ingress','Egress'],'ingress':[{'from':[{'ipBlock':{'cidr':"
	    "'192.0.2.0/24','except':['192.0.2.128/25','192.0.2.7/32']}}]}],'egress':[{'to':[{'ipBlock':"
	    "{'cidr':'10.42.0.0/24'}}]}]");
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 1);
	no(&m, "a/web", IN, "192.0.2.7", TCP, 1);
	no(&m, "a/web", IN, "192.0.2.200", TCP, 1);
	no(&m, "a/web", IN, "192.0.3.1", TCP, 1);
	yes(&m, "a/web", OUT, "b/web", TCP, 1);
	/* another rule may allow what one excepts */
	add(&m, "a", "q", "'podSelector':{},'ingress':[{'from':[{'ipBlock':{'cidr':'192.0.2.192/26'}}]}]");
	yes(&m, "a/web", IN, "192.0.2.200", TCP, 1);
	no(&m, "a/web", IN, "192.0.2.130", TCP, 1);
	/* excepts that make no sense open nothing, and do not hinder what does */
	add(&m, "a", "q",
	    "'podSelector':{},'ingress':[{'from':[{'ipBlock':{'cidr':'198.51.100.0/24','except':['198.51.100.0/8']}},"
	    "{'ipBlock':{'cidr':'203.0.113.0/24','except':['10.0.0.0/8']}},{'ipBlock':{'cidr':'bad'}}]}]");
	no(&m, "a/web", IN, "198.51.100.1", TCP, 1);
	yes(&m, "a/web", IN, "203.0.113.1", TCP, 1);
	no(&m, "a/web", IN, "10.9.9.9", TCP, 1);
	/* every IPv4 address is no IPv6 one */
	add(&m, "a", "q", "'podSelector':{},'ingress':[{'from':[{'ipBlock':{'cidr':'0.0.0.0/0'}}]}]");
	yes(&m, "a/web", IN, "10.9.9.9", TCP, 1);
	no(&m, "a/web", IN, "2001:db8::1", TCP, 1);
	model_finish(&m);
}

static void test_ports(void **state)
{
	struct net_model m;

	fill(&m);
	add(&m, "a", "p",
	    "'podSelector':{},'ingress':[{'ports':[{'port':80},{'protocol':'UDP','port':53},"
	    "{'protocol':'TCP','port':9000,'endPort':9010},{'protocol':'SCTP'}]}]");
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 80);
	no(&m, "a/web", IN, "192.0.2.1", UDP, 80);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 81);
	yes(&m, "a/web", IN, "192.0.2.1", UDP, 53);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 53);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 8999);
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 9000);
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 9010);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 9011);
	yes(&m, "a/web", IN, "192.0.2.1", IPPROTO_SCTP, 7);
	/* the protocol alone: all its ports; an empty port: all of TCP */
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'ports':[{'protocol':'UDP'}]}]");
	yes(&m, "a/web", IN, "192.0.2.1", UDP, 1234);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 1234);
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'ports':[{}]}]");
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 1234);
	no(&m, "a/web", IN, "192.0.2.1", UDP, 1234);
	model_finish(&m);
}

static void test_named_ports_in(void **state)
{
	struct net_model m;

	fill(&m);
	/* the receiver is the selected pod: each has its own number */
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'ports':[{'port':'http'}]}]");
	yes(&m, "a/web", IN, "192.0.2.1", TCP, 8080);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 9090);
	yes(&m, "a/db", IN, "192.0.2.1", TCP, 9090);
	no(&m, "a/db", IN, "192.0.2.1", TCP, 8080);
	/* the protocol counts; sidecars have names, other init containers none */
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'ports':[{'port':'dns'},{'port':'setup'},{'port':'side'}]}]");
	no(&m, "a/db", IN, "192.0.2.1", TCP, 53);
	no(&m, "a/db", IN, "192.0.2.1", UDP, 53);
	no(&m, "a/db", IN, "192.0.2.1", TCP, 1);
	yes(&m, "a/db", IN, "192.0.2.1", TCP, 2);
	no(&m, "a/web", IN, "192.0.2.1", TCP, 2);
	model_finish(&m);
}

static void check_named_out(const char *to, bool b_web, bool a_db, bool dns)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct net_model m;

	fill(&m);
	add(&m, "a", "p",
	    arena_printf(&arena,
			 "'podSelector':{},'policyTypes':['Egress'],'egress':[{%s'ports':[{'port':'http'},"
			 "{'protocol':'UDP','port':'dns'},{'port':7}]}]",
			 to));
	assert_int_equal(allowed(&m, "a/web", OUT, "b/web", TCP, 8081), b_web);
	assert_int_equal(allowed(&m, "a/web", OUT, "b/web", TCP, 7), b_web);
	assert_int_equal(allowed(&m, "a/web", OUT, "a/db", TCP, 9090), a_db);
	assert_int_equal(allowed(&m, "a/web", OUT, "a/db", TCP, 7), a_db);
	assert_int_equal(allowed(&m, "a/web", OUT, "a/db", UDP, 53), a_db);
	assert_int_equal(allowed(&m, "a/web", OUT, "dns", UDP, 53), dns);
	/* never another's number, and never where there is no pod to ask */
	no(&m, "a/web", OUT, "b/web", TCP, 9090);
	no(&m, "a/web", OUT, "bare/web", TCP, 8080);
	no(&m, "a/web", OUT, "10.42.0.99", TCP, 8080);
	model_finish(&m);
}

static void test_named_ports_out(void **state)
{
	check_named_out("", true, true, true);
	check_named_out("'to':[{'namespaceSelector':{}}],", true, true, true);
	check_named_out("'to':[{'podSelector':{}}],", false, true, false);
	check_named_out("'to':[{'namespaceSelector':{'matchLabels':{'team':'y'}}}],", true, false, false);
	check_named_out("'to':[{'ipBlock':{'cidr':'10.42.0.0/24','except':['10.42.0.4/32']}}],", false, true, false);
	check_named_out("'to':[{'ipBlock':{'cidr':'10.42.0.4/32'}},{'podSelector':{'matchLabels':{'app':'db'}}}],",
			true, true, false);
}

static void test_special_pods(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct policy_result r;
	struct net_model m;

	fill(&m);
	add(&m, "a", "p",
	    "'podSelector':{},'policyTypes':['Ingress','Egress'],'ingress':[{'from':[{'podSelector':{}}]}],'egress':"
	    "[{'to':[{'namespaceSelector':{'matchLabels':{'kubernetes.io/metadata.name':'kube-system'}},"
	    "'podSelector':{'matchLabels':{'k8s-app':'kube-dns'}}}],'ports':[{'protocol':'UDP','port':53}]}]");
	/* a pod on the host's network is neither subject nor peer */
	policy_translate(&arena, &m, model_pod(&m, STR("a/host")), &r);
	assert_false(r.isolated_ingress || r.isolated_egress || r.n_rules);
	no(&m, "a/web", IN, "172.30.0.1", TCP, 1);
	/* the address of the pod that is over is another's now */
	assert_false(model_pod(&m, STR("a/done"))->has_addr);
	no(&m, "a/web", IN, "b/web", TCP, 1);
	/* the cluster's DNS is found by the labels that everybody writes */
	yes(&m, "a/web", OUT, "dns", UDP, 53);
	no(&m, "a/web", OUT, "dns", TCP, 53);
	no(&m, "a/web", OUT, "192.0.2.53", UDP, 53);
	model_finish(&m);
}

static void test_attached(void **state)
{
	static const char pod[] =
		"{'metadata':{'namespace':'a','name':'n','uid':'n','labels':{'app':'n'}},'status':%s}";
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct dp_addr given[DP_FAMILIES] = { addr_of("10.42.0.50"), addr_of("fd00:42::50") };
	struct net_model m;

	fill(&m);
	add(&m, "a", "p", "'podSelector':{},'ingress':[{'from':[{'podSelector':{'matchLabels':{'app':'n'}}}]}]");
	model_set_pod(&m, json_of(&arena, arena_printf(&arena, pod, "{}")));
	model_attach_pod(&m, model_pod(&m, STR("n")), given);
	/* the node's word counts, whatever the status says or does not say yet */
	model_set_pod(&m, json_of(&arena, arena_printf(&arena, pod, "{'phase':'Failed','podIP':'10.42.0.99'}")));
	assert_true(address_equal(&model_pod(&m, STR("n"))->addrs[DP_V6], &given[DP_V6]));
	yes(&m, "a/web", IN, "n", TCP, 1);
	model_detach_pod(&m, model_pod(&m, STR("n")));
	assert_false(model_pod(&m, STR("n"))->has_addr);
	no(&m, "a/web", IN, "10.42.0.50", TCP, 1);
	model_finish(&m);
}

static void test_identities(void **state)
{
	struct api_label xy[] = { { STR("x"), STR("1") }, { STR("y"), STR("2") } };
	struct api_label yx[] = { { STR("y"), STR("2") }, { STR("x"), STR("1") } };
	struct identities ids = { 0 };
	uint32_t a = identity_take(&ids, STR("n"), xy, 2, NULL, 0);

	assert_int_equal(identity_take(&ids, STR("n"), yx, 2, NULL, 0), a);
	assert_int_not_equal(identity_take(&ids, STR("o"), xy, 2, NULL, 0), a);
	assert_int_not_equal(identity_take(&ids, STR("n"), xy, 1, NULL, 0), a);
	assert_int_equal(ids.by_id.n, 3);
	identity_release(&ids, a);
	assert_int_equal(ids.by_id.n, 3);
	identity_release(&ids, a);
	assert_int_equal(ids.by_id.n, 2);
	/* the same number when they are worn again */
	assert_int_equal(identity_take(&ids, STR("n"), xy, 2, NULL, 0), a);
	identities_finish(&ids);
}

static void test_limit(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf spec = BUF_INIT;
	struct policy_result r;
	struct net_model m;

	/* 70,000 prefixes, each with an except: a block is taken with its excepts or not at all */
	fill(&m);
	buf_printf(&spec, "'podSelector':{},'ingress':[{'from':[");
	for (unsigned i = 0; i < 35000; i++)
		buf_printf(&spec, "%s{'ipBlock':{'cidr':'%u.%u.%u.0/24','except':['%u.%u.%u.1/32']}}", i ? "," : "",
			   20 + i / 65536, i / 256 % 256, i % 256, 20 + i / 65536, i / 256 % 256, i % 256);
	buf_printf(&spec, "]}]");
	buf_add_char(&spec, 0);
	add(&m, "a", "p", spec.data + spec.start);
	policy_translate(&arena, &m, model_pod(&m, STR("a/web")), &r);
	assert_true(r.truncated);
	assert_int_equal(r.n_rules, POLICY_RULES_MAX);
	assert_true(r.rules[r.n_rules - 1].deny);
	model_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_deny),   cmocka_unit_test(test_policy_types),
		cmocka_unit_test(test_selectors),      cmocka_unit_test(test_namespace_changes),
		cmocka_unit_test(test_blocks),         cmocka_unit_test(test_ports),
		cmocka_unit_test(test_named_ports_in), cmocka_unit_test(test_named_ports_out),
		cmocka_unit_test(test_special_pods),   cmocka_unit_test(test_attached),
		cmocka_unit_test(test_identities),     cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
