/* SPDX-License-Identifier: Apache-2.0 */
/* Services and slices to frontends: cases derived by hand from what Kubernetes documents of its service proxy. The
 * result is compared as text: "kind proto address:port [affinity] [sources] -> backends [| outside: backends]". */
#include "tests/netctl/support.h"
#include "userspace/netctl/services.h"

#define SLICES_MAX 4

#define NODE "here"
#define ZONE "east"

static void describe_backends(struct buf *out, const struct dp_backend *list, size_t n)
{
	char text[ADDRESS_TEXT_MAX];

	for (size_t k = 0; k < n; k++) {
		address_format(&list[k].addr, text);
		buf_printf(out, " %s:%u", text, list[k].port);
	}
}

static void describe_sources(struct buf *out, const struct dp_service *f)
{
	char text[ADDRESS_TEXT_MAX];

	for (size_t k = 0; k < f->n_sources; k++) {
		address_format(&f->sources[k].addr, text);
		buf_printf(out, "%s%s/%u", k ? "," : " from ", text, f->sources[k].bits);
	}
}

static char *describe(struct arena *arena, const struct services_result *r)
{
	static const char *const kinds[] = { "cluster", "node", "external", "balancer", "host" };
	static const char *const protos[] = { [IPPROTO_TCP] = "tcp", [IPPROTO_UDP] = "udp", [IPPROTO_SCTP] = "sctp" };
	_cleanup_buf_ struct buf out = BUF_INIT;

	for (size_t i = 0; i < r->n; i++) {
		const struct dp_service *f = &r->frontends[i];
		char text[ADDRESS_TEXT_MAX];

		address_format(&f->addr, text);
		buf_printf(&out, "%s%s %s %s:%u", i ? "; " : "", kinds[f->kind], protos[f->proto], text, f->port);
		if (f->affinity_s)
			buf_printf(&out, " %us", f->affinity_s);
		describe_sources(&out, f);
		buf_printf(&out, " ->");
		describe_backends(&out, f->backends, f->n_backends);
		if (f->outside_differs) {
			buf_printf(&out, " | outside:");
			describe_backends(&out, f->outside, f->n_outside);
		}
	}
	return arena_strndup(arena, out.data ? out.data + out.start : "", buf_len(&out));
}

/* `slices`: up to SLICES_MAX, NULL-terminated. */
static struct services_result translate(struct arena *arena, const char *service, const char *const *slices)
{
	const struct services_place place = { STR(NODE), STR(ZONE) };
	struct services_slice *s[SLICES_MAX];
	struct services_result r;
	size_t n = 0;

	for (; slices && slices[n]; n++)
		s[n] = services_slice_parse(json_of(arena, slices[n]), &place);
	services_translate(arena, json_of(arena, service), (const struct services_slice *const *)s, n, &r);
	assert_false(r.truncated);
	while (n)
		free(s[--n]);
	return r;
}

static void check(const char *want, const char *service, const char *const *slices)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct services_result r = translate(&arena, service, slices);

	assert_string_equal(describe(&arena, &r), want);
}

#define SLICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

#define PLAIN "{'spec':{'clusterIP':'10.43.0.5','clusterIPs':['10.43.0.5'],'ports':[{'port':80}]}}"
#define SLICE(endpoints)                                                                                               \
	"{'addressType':'IPv4','ports':[{'name':'','port':8080,'protocol':'TCP'}],'endpoints':[" endpoints "]}"
#define READY(ip) "{'addresses':['" ip "'],'conditions':{'ready':true,'serving':true,'terminating':false}}"
#define DYING(ip) "{'addresses':['" ip "'],'conditions':{'ready':false,'serving':true,'terminating':true}}"
#define DEAD(ip) "{'addresses':['" ip "'],'conditions':{'ready':false,'serving':false,'terminating':true}}"
#define UNREADY(ip) "{'addresses':['" ip "'],'conditions':{'ready':false,'serving':false,'terminating':false}}"

static void test_cluster_ip(void **state)
{
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:8080", PLAIN,
	      SLICES(SLICE(READY("10.42.0.3") "," READY("10.42.0.2"))));
	/* no endpoints: the frontend is there, to refuse */
	check("cluster tcp 10.43.0.5:80 ->", PLAIN, NULL);
	/* clusterIPs may be missing in what an old writer left */
	check("cluster tcp 10.43.0.5:80 ->", "{'spec':{'clusterIP':'10.43.0.5','ports':[{'port':80}]}}", NULL);
	check("cluster tcp 10.43.0.5:80 ->; cluster tcp fd43::5:80 ->",
	      "{'spec':{'clusterIP':'10.43.0.5','clusterIPs':['10.43.0.5','fd43::5'],'ports':[{'port':80}]}}", NULL);
	/* backends are of the frontend's family */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080; cluster tcp fd43::5:80 -> fd42::2:8080",
	      "{'spec':{'clusterIP':'10.43.0.5','clusterIPs':['10.43.0.5','fd43::5'],'ports':[{'port':80}]}}",
	      SLICES(SLICE(READY("10.42.0.2")), "{'addressType':'IPv6','ports':[{'port':8080}],'endpoints':["
						"{'addresses':['fd42::2']},{'addresses':['10.42.0.9']}]}"));
	check("cluster tcp fd43::5:80 ->; node tcp :::30080 ->",
	      "{'spec':{'type':'NodePort','clusterIP':'fd43::5','clusterIPs':['fd43::5'],'externalIPs':['192.0.2.1'],"
	      "'ports':[{'port':80,'nodePort':30080}]}}",
	      NULL);
	/* not given yet */
	check("", "{'spec':{'ports':[{'port':80}]}}", NULL);
}

static void test_without_address(void **state)
{
	check("", "{'spec':{'clusterIP':'None','clusterIPs':['None'],'ports':[{'port':80}]}}",
	      SLICES(SLICE(READY("10.42.0.2"))));
	check("",
	      "{'spec':{'type':'ExternalName','externalName':'x.org','externalIPs':['192.0.2.1'],'ports':[{'port':80}]}}",
	      NULL);
}

static void test_ports_by_name(void **state)
{
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080; cluster tcp 10.43.0.5:443 -> 10.42.0.2:8443; "
	      "cluster udp 10.43.0.5:53 -> 10.42.0.2:5353",
	      "{'spec':{'clusterIP':'10.43.0.5','ports':[{'name':'web','port':80},{'name':'tls','port':443,'protocol':'TCP'},"
	      "{'name':'dns','port':53,'protocol':'UDP'}]}}",
	      SLICES("{'ports':[{'name':'tls','port':8443,'protocol':'TCP'},{'name':'dns','port':5353,'protocol':'UDP'},"
		     "{'name':'web','port':8080,'protocol':'TCP'}],'endpoints':[" READY("10.42.0.2") "]}"));
	/* the same number over both protocols; the slice's port must be of the same one */
	check("cluster tcp 10.43.0.5:53 ->; cluster udp 10.43.0.5:53 -> 10.42.0.2:53",
	      "{'spec':{'clusterIP':'10.43.0.5','ports':[{'name':'t','port':53,'protocol':'TCP'},"
	      "{'name':'u','port':53,'protocol':'UDP'}]}}",
	      SLICES("{'ports':[{'name':'t','port':53,'protocol':'UDP'},{'name':'u','port':53,'protocol':'UDP'}],"
		     "'endpoints':[" READY("10.42.0.2") "]}"));
	/* pods that resolve a named target port differently stand in slices of their own */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:9090", PLAIN,
	      SLICES(SLICE(READY("10.42.0.2")), "{'ports':[{'port':9090}],'endpoints':[" READY("10.42.0.3") "]}"));
	check("cluster sctp 10.43.0.5:80 ->",
	      "{'spec':{'clusterIP':'10.43.0.5','ports':[{'port':80,'protocol':'SCTP'}]}}", NULL);
}

static void test_conditions(void **state)
{
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE(READY("10.42.0.2") "," DYING("10.42.0.3") "," UNREADY("10.42.0.4") "," DEAD("10.42.0.5"))));
	/* nobody is ready: those that still serve on their way out, and only those */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.3:8080", PLAIN,
	      SLICES(SLICE(DYING("10.42.0.3") "," UNREADY("10.42.0.4") "," DEAD("10.42.0.5"))));
	check("cluster tcp 10.43.0.5:80 ->", PLAIN, SLICES(SLICE(UNREADY("10.42.0.4") "," DEAD("10.42.0.5"))));
	/* the ready one may be in another slice */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE(DYING("10.42.0.3")), SLICE(READY("10.42.0.2"))));
	/* absent conditions mean ready */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.6:8080", PLAIN, SLICES(SLICE("{'addresses':['10.42.0.6']}")));
}

static void test_duplicates(void **state)
{
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:8080", PLAIN,
	      SLICES(SLICE(READY("10.42.0.2") "," READY("10.42.0.3")),
		     SLICE(READY("10.42.0.3") "," READY("10.42.0.2"))));
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE("{'addresses':['what']}," READY("10.42.0.2")),
		     "{'addressType':'FQDN','ports':[{'port':80}],'endpoints':[{'addresses':['10.42.0.9']}]}"));
}

static void test_outside(void **state)
{
	check("cluster tcp 10.43.0.5:80 ->; external tcp 192.0.2.7:80 ->; external tcp 192.0.2.8:80 ->; "
	      "balancer tcp 192.0.2.9:80 ->; node tcp 0.0.0.0:30080 ->",
	      "{'spec':{'type':'LoadBalancer','clusterIP':'10.43.0.5','externalIPs':['192.0.2.7','192.0.2.8'],"
	      "'ports':[{'port':80,'nodePort':30080}]},'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.9','ipMode':'VIP'},"
	      "{'hostname':'lb.example'},{'ip':'192.0.2.8'},{'ip':'192.0.2.10','ipMode':'Proxy'}]}}}",
	      NULL);
}

static void test_affinity(void **state)
{
	check("cluster tcp 10.43.0.5:80 10800s ->",
	      "{'spec':{'clusterIP':'10.43.0.5','sessionAffinity':'ClientIP','ports':[{'port':80}]}}", NULL);
	check("cluster tcp 10.43.0.5:80 60s ->",
	      "{'spec':{'clusterIP':'10.43.0.5','sessionAffinity':'ClientIP','sessionAffinityConfig':{'clientIP':"
	      "{'timeoutSeconds':60}},'ports':[{'port':80}]}}",
	      NULL);
	check("cluster tcp 10.43.0.5:80 ->",
	      "{'spec':{'clusterIP':'10.43.0.5','sessionAffinity':'None','ports':[{'port':80}]}}", NULL);
}

static void test_limit(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	const struct services_place place = { STR(NODE), STR(ZONE) };
	struct services_slice *slices[SERVICES_BACKENDS_MAX / SERVICES_SLICE_ENDPOINTS_MAX + 1];
	struct services_result r;

	for (unsigned k = 0; k < ARRAY_SIZE(slices); k++) {
		buf_printf(&text, "{'ports':[{'port':80}],'endpoints':[");
		/* one more than a slice may have */
		for (unsigned i = 0; i <= SERVICES_SLICE_ENDPOINTS_MAX; i++)
			buf_printf(&text, "%s{'addresses':['10.%u.%u.%u']}", i ? "," : "", k, i / 256, i % 256);
		buf_printf(&text, "]}");
		buf_add_char(&text, 0);
		slices[k] = services_slice_parse(json_of(&arena, text.data + text.start), &place);
		assert_int_equal(slices[k]->n_endpoints, SERVICES_SLICE_ENDPOINTS_MAX);
		buf_consume(&text, buf_len(&text));
	}
	services_translate(&arena, json_of(&arena, PLAIN), (const struct services_slice *const *)slices,
			   ARRAY_SIZE(slices), &r);
	assert_int_equal(r.truncated, 1 << SERVICES_LIMIT_BACKENDS);
	assert_int_equal(r.frontends[0].n_backends, SERVICES_BACKENDS_MAX);
	for (unsigned k = 0; k < ARRAY_SIZE(slices); k++)
		free(slices[k]);
}

#define AT(ip, node) "{'addresses':['" ip "'],'nodeName':'" node "'}"
#define DYING_AT(ip, node)                                                                                             \
	"{'addresses':['" ip "'],'nodeName':'" node "','conditions':{'ready':false,'serving':true,'terminating':true}}"
#define HERE_AND_THERE SLICES(SLICE(AT("10.42.0.2", "here") "," AT("10.42.0.3", "there")))

static void test_policies(void **state)
{
	/* a ClusterIP leads to this node's alone */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080",
	      "{'spec':{'clusterIP':'10.43.0.5','internalTrafficPolicy':'Local','ports':[{'port':80}]}}",
	      HERE_AND_THERE);
	/* and to nobody, if none is here */
	check("cluster tcp 10.43.0.5:80 ->",
	      "{'spec':{'clusterIP':'10.43.0.5','internalTrafficPolicy':'Local','ports':[{'port':80}]}}",
	      SLICES(SLICE(AT("10.42.0.3", "there"))));
	/* the last ones here on their way out, though others are ready elsewhere */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080",
	      "{'spec':{'clusterIP':'10.43.0.5','internalTrafficPolicy':'Local','ports':[{'port':80}]}}",
	      SLICES(SLICE(DYING_AT("10.42.0.2", "here") "," AT("10.42.0.3", "there"))));
	/* externalTrafficPolicy: who is on the node may go anywhere */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:8080; "
	      "node tcp 0.0.0.0:30080 -> 10.42.0.2:8080 10.42.0.3:8080 | outside: 10.42.0.2:8080",
	      "{'spec':{'type':'NodePort','clusterIP':'10.43.0.5','externalTrafficPolicy':'Local',"
	      "'ports':[{'port':80,'nodePort':30080}]}}",
	      HERE_AND_THERE);
	/* it says nothing of a Service that nobody reaches from outside */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:8080",
	      "{'spec':{'type':'ClusterIP','clusterIP':'10.43.0.5','externalTrafficPolicy':'Local',"
	      "'ports':[{'port':80}]}}",
	      HERE_AND_THERE);
	/* both */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080; "
	      "external tcp 192.0.2.1:80 -> 10.42.0.2:8080 10.42.0.3:8080 | outside: 10.42.0.2:8080",
	      "{'spec':{'clusterIP':'10.43.0.5','externalIPs':['192.0.2.1'],'externalTrafficPolicy':'Local',"
	      "'internalTrafficPolicy':'Local','ports':[{'port':80}]}}",
	      HERE_AND_THERE);
}

#define HINTED(ip, hints) "{'addresses':['" ip "'],'hints':{" hints "}}"
#define EAST "'forZones':[{'name':'east'}]"
#define WEST "'forZones':[{'name':'west'}]"
#define ON_HERE "'forNodes':[{'name':'here'}]"
#define ON_THERE "'forNodes':[{'name':'there'}]"

static void test_hints(void **state)
{
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE(HINTED("10.42.0.2", EAST) "," HINTED("10.42.0.3", WEST))));
	/* one without a hint, or none for us: hints are not followed */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080 10.42.0.3:8080", PLAIN,
	      SLICES(SLICE(HINTED("10.42.0.2", EAST) "," READY("10.42.0.3"))));
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN, SLICES(SLICE(HINTED("10.42.0.2", WEST))));
	/* who is not ready needs none */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE(HINTED("10.42.0.2", EAST) "," HINTED("10.42.0.3", WEST) "," UNREADY("10.42.0.4"))));
	/* nodes before zones */
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.3:8080", PLAIN,
	      SLICES(SLICE(HINTED("10.42.0.2", EAST "," ON_THERE) "," HINTED("10.42.0.3", WEST "," ON_HERE))));
	check("cluster tcp 10.43.0.5:80 -> 10.42.0.2:8080", PLAIN,
	      SLICES(SLICE(HINTED("10.42.0.2", EAST "," ON_THERE) "," HINTED("10.42.0.3", WEST "," ON_THERE))));
}

#define RANGES_SERVICE(meta, spec)                                                                                     \
	"{'metadata':{" meta "},'spec':{'type':'LoadBalancer','clusterIP':'10.43.0.5','clusterIPs':['10.43.0.5',"      \
	"'fd43::5'],'externalIPs':['192.0.2.8'],'ports':[{'port':80}]" spec                                            \
	"},'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.9'},{'ip':'2001:db8::9'}]}}}"

static void test_source_ranges(void **state)
{
	check("cluster tcp 10.43.0.5:80 ->; external tcp 192.0.2.8:80 ->; "
	      "balancer tcp 192.0.2.9:80 from 10.0.0.0/104,198.51.100.0/120 ->; "
	      "balancer tcp 2001:db8::9:80 from 2001:db8::/32 ->; cluster tcp fd43::5:80 ->",
	      RANGES_SERVICE("", ",'loadBalancerSourceRanges':['198.51.100.0/24',' 10.0.0.0/8 ','2001:db8::/32',"
				 "'10.9.0.0/8']"),
	      NULL);
	/* ranges of one family let nobody in over the other */
	check("cluster tcp 10.43.0.5:80 ->; external tcp 192.0.2.8:80 ->; balancer tcp 192.0.2.9:80 from 10.0.0.0/104 ->; "
	      "balancer tcp 2001:db8::9:80 from ::/128 ->; cluster tcp fd43::5:80 ->",
	      RANGES_SERVICE("'annotations':{'service.beta.kubernetes.io/load-balancer-source-ranges':'10.0.0.0/8'}",
			     ""),
	      NULL);
}

/* Which limit it was is told; who is beyond it is kept out, and each family has its own. */
static void test_too_many_ranges(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct services_result r;

	for (unsigned more = 0; more < 2; more++) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		buf_printf(&text, "{'spec':{'type':'LoadBalancer','clusterIP':'10.43.0.5','ports':[{'port':80}],"
				  "'loadBalancerSourceRanges':['2001:db8::/32'");
		for (unsigned i = 0; i < SERVICES_SOURCES_MAX + more; i++)
			buf_printf(&text, ",'100.64.%u.%u/32'", i / 256, i % 256);
		buf_printf(&text, "]},'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.9'}]}}}");
		buf_add_char(&text, 0);
		services_translate(&arena, json_of(&arena, text.data + text.start), NULL, 0, &r);
		assert_int_equal(r.truncated, more << SERVICES_LIMIT_SOURCES);
		assert_int_equal(r.n, 2);
		assert_int_equal(r.frontends[1].n_sources, SERVICES_SOURCES_MAX);
	}
}

static void test_other_proxy(void **state)
{
	check("",
	      "{'metadata':{'labels':{'service.kubernetes.io/service-proxy-name':'x'}},"
	      "'spec':{'clusterIP':'10.43.0.5','ports':[{'port':80}]}}",
	      NULL);
}

static void test_health(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct services_result r;

	r = translate(
		&arena,
		"{'spec':{'type':'LoadBalancer','clusterIP':'10.43.0.5','externalTrafficPolicy':'Local',"
		"'healthCheckNodePort':30001,'ports':[{'port':80}]}}",
		SLICES(SLICE(AT("10.42.0.2", "here") "," AT("10.42.0.3", "there") "," DYING_AT("10.42.0.4", "here")),
		       "{'addressType':'IPv6','ports':[{'port':8080}],'endpoints':[" AT("fd42::2", "here") "]}"));
	assert_int_equal(r.health_port, 30001);
	assert_int_equal(r.local_ready, 1);
	r = translate(&arena,
		      "{'spec':{'type':'NodePort','clusterIP':'10.43.0.5','externalTrafficPolicy':'Local',"
		      "'healthCheckNodePort':30001,'ports':[{'port':80}]}}",
		      NULL);
	assert_int_equal(r.health_port, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cluster_ip),    cmocka_unit_test(test_without_address),
		cmocka_unit_test(test_ports_by_name), cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_duplicates),    cmocka_unit_test(test_outside),
		cmocka_unit_test(test_affinity),      cmocka_unit_test(test_limit),
		cmocka_unit_test(test_policies),      cmocka_unit_test(test_hints),
		cmocka_unit_test(test_source_ranges), cmocka_unit_test(test_too_many_ranges),
		cmocka_unit_test(test_other_proxy),   cmocka_unit_test(test_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
