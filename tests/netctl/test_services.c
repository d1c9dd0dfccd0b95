/* SPDX-License-Identifier: Apache-2.0 */
/* Services and slices to frontends: cases derived by hand from what Kubernetes documents of its service proxy. The
 * result is compared as text: "kind proto address:port [affinity] -> backends". */
#include "tests/netctl/support.h"
#include "userspace/netctl/services.h"

#define SLICES_MAX 4

static char *describe(struct arena *arena, const struct services_result *r)
{
	static const char *const kinds[] = { "cluster", "node", "external" };
	_cleanup_buf_ struct buf out = BUF_INIT;

	for (size_t i = 0; i < r->n; i++) {
		const struct dp_service *f = &r->frontends[i];
		char text[ADDRESS_TEXT_MAX] = "*";

		assert_int_equal(f->id, 0);
		if (f->kind != DP_NODE_PORT)
			address_format(&f->addr, text);
		buf_printf(&out, "%s%s %s %s:%u", i ? "; " : "", kinds[f->kind],
			   f->proto == IPPROTO_UDP ? "udp" : "tcp", text, f->port);
		if (f->affinity_s)
			buf_printf(&out, " %us", f->affinity_s);
		buf_printf(&out, " ->");
		for (size_t k = 0; k < f->n_backends; k++) {
			address_format(&f->backends[k].addr, text);
			buf_printf(&out, " %s:%u", text, f->backends[k].port);
		}
	}
	return arena_strndup(arena, out.data ? out.data + out.start : "", buf_len(&out));
}

/* `slices`: up to SLICES_MAX, NULL-terminated. */
static void check(const char *want, const char *service, const char *const *slices)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *s[SLICES_MAX];
	struct services_result r;
	size_t n = 0;

	for (; slices && slices[n]; n++)
		s[n] = json_of(&arena, slices[n]);
	services_translate(&arena, json_of(&arena, service), s, n, &r);
	assert_false(r.truncated);
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
	/* not in the dataplane */
	check("", "{'spec':{'clusterIP':'10.43.0.5','ports':[{'port':80,'protocol':'SCTP'}]}}", NULL);
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
	      "external tcp 192.0.2.9:80 ->; node tcp *:30080 ->",
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
	const struct json *slice;
	struct services_result r;

	buf_printf(&text, "{'ports':[{'port':80}],'endpoints':[");
	for (unsigned i = 0; i <= SERVICES_BACKENDS_MAX; i++)
		buf_printf(&text, "%s{'addresses':['10.42.%u.%u']}", i ? "," : "", i / 256, i % 256);
	buf_printf(&text, "]}");
	buf_add_char(&text, 0);
	slice = json_of(&arena, text.data + text.start);
	services_translate(&arena, json_of(&arena, PLAIN), &slice, 1, &r);
	assert_true(r.truncated);
	assert_int_equal(r.frontends[0].n_backends, SERVICES_BACKENDS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cluster_ip),    cmocka_unit_test(test_without_address),
		cmocka_unit_test(test_ports_by_name), cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_duplicates),    cmocka_unit_test(test_outside),
		cmocka_unit_test(test_affinity),      cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
