/* SPDX-License-Identifier: Apache-2.0 */
/* Names to records as Kubernetes' DNS specification says, over a real registry; and what odd packets get. */
#include "tests/dns/support.h"

#include "userspace/dns/answer.h"

static struct zone zone;

static int setup(void **state)
{
	struct fixture *f;

	fixture_setup(state);
	f = *state;
	fixture_namespace(f, "shop");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'web'},'spec':{'clusterIP':'10.43.0.50','ports':[{'name':'http','port':80},"
	    "{'name':'dns','protocol':'UDP','port':53}]}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'db'},'spec':{'clusterIP':'None','ports':[{'name':'sql','port':5432}]}}");
	put(f, KIND_ENDPOINTSLICE, "shop",
	    "{'metadata':{'name':'db-1','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv4','ports':[{'name':'sql',"
	    "'protocol':'TCP','port':5432}],'endpoints':[{'addresses':['10.42.0.7'],'hostname':'db-0','conditions':{'ready':true}},"
	    "{'addresses':['10.42.0.8'],'conditions':{'ready':true}},{'addresses':['10.42.0.9'],'hostname':'db-2',"
	    "'conditions':{'ready':false}}]}");
	/* as while an endpoint moves from one slice to another */
	put(f, KIND_ENDPOINTSLICE, "shop",
	    "{'metadata':{'name':'db-2','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv4','ports':[{'name':'sql',"
	    "'protocol':'TCP','port':5432}],'endpoints':[{'addresses':['10.42.0.8'],'conditions':{'ready':true}}]}");
	put(f, KIND_ENDPOINTSLICE, "shop",
	    "{'metadata':{'name':'db-6','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv6','ports':[{'name':'sql',"
	    "'protocol':'TCP','port':5432}],'endpoints':[{'addresses':['fd42::7'],'hostname':'db-0'}]}");
	put(f, KIND_SERVICE, "shop", "{'metadata':{'name':'empty'},'spec':{'clusterIP':'None','ports':[{'port':1}]}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'out'},'spec':{'type':'ExternalName','externalName':'example.org'}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'in'},'spec':{'type':'ExternalName','externalName':"
	    "'web.shop.svc.cluster.local'}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'twice'},'spec':{'type':'ExternalName','externalName':"
	    "'out.shop.svc.cluster.local'}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'nowhere'},'spec':{'type':'ExternalName','externalName':"
	    "'no.shop.svc.cluster.local'}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'circle'},'spec':{'type':'ExternalName','externalName':"
	    "'circle.shop.svc.cluster.local'}}");
	zone_init(&zone, f->reg, "Cluster.Local");
	return 0;
}

static int teardown(void **state)
{
	zone_finish(&zone);
	return fixture_teardown(state);
}

static ldns_pkt *ask(const char *name, ldns_rr_type type)
{
	_cleanup_buf_ struct buf q = BUF_INIT;
	struct answer a;
	ldns_pkt *p;

	make_query(&q, name, type, 77, 0);
	assert_int_equal(answer_query(&zone, buf_str(&q), true, false, &a), ANSWER_READY);
	p = parse_answer(buf_str(&a.wire));
	assert_int_equal(ldns_pkt_id(p), 77);
	answer_finish(&a);
	return p;
}

static void check(const char *name, ldns_rr_type type, const char *want)
{
	ldns_pkt *p = ask(name, type);
	char text[TEXT_MAX];
	bool negative;

	answer_text(p, text);
	if (strcmp(text, want) != 0)
		fail_msg("%s %d: \"%s\", expected \"%s\"", name, type, text, want);
	negative = ldns_pkt_get_rcode(p) == LDNS_RCODE_NXDOMAIN || !ldns_pkt_ancount(p);
	if (ldns_pkt_get_rcode(p) != LDNS_RCODE_SERVFAIL) {
		assert_true(ldns_pkt_aa(p));
		/* a negative answer says for how long it holds */
		assert_int_equal(ldns_pkt_nscount(p), negative);
		if (negative)
			assert_int_equal(ldns_rr_get_type(ldns_rr_list_rr(ldns_pkt_authority(p), 0)), LDNS_RR_TYPE_SOA);
	}
	ldns_pkt_free(p);
}

#define A LDNS_RR_TYPE_A
#define AAAA LDNS_RR_TYPE_AAAA
#define SRV LDNS_RR_TYPE_SRV
#define PTR LDNS_RR_TYPE_PTR

static void test_services(void **state)
{
	check("web.shop.svc.cluster.local.", A, "NOERROR: A 10.43.0.50");
	check("WEB.Shop.SVC.cluster.LOCAL.", A, "NOERROR: A 10.43.0.50");
	check("web.shop.svc.cluster.local.", AAAA, "NOERROR:");
	check("web.shop.svc.cluster.local.", LDNS_RR_TYPE_MX, "NOERROR:");
	check("no.shop.svc.cluster.local.", A, "NXDOMAIN:");
	check("web.no.svc.cluster.local.", A, "NXDOMAIN:");
	check("web.default.svc.cluster.local.", A, "NXDOMAIN:");
	check("a.web.shop.svc.cluster.local.", A, "NXDOMAIN:");
	check("a.b.c.d.e.f.g.h.i.web.shop.svc.cluster.local.", A, "NXDOMAIN:");
	check("what.cluster.local.", A, "NXDOMAIN:");
	/* names that only lead to others exist, without data */
	check("shop.svc.cluster.local.", A, "NOERROR:");
	check("svc.cluster.local.", A, "NOERROR:");
	check("cluster.local.", A, "NOERROR:");
	check("dns-version.cluster.local.", LDNS_RR_TYPE_TXT, "NOERROR: TXT \"1.1.0\"");
	/* not ours, and nobody to ask */
	check("example.org.", A, "SERVFAIL:");
	check("xcluster.local.", A, "SERVFAIL:");
}

static void test_srv(void **state)
{
	check("_http._tcp.web.shop.svc.cluster.local.", SRV, "NOERROR: SRV 0 100 80 web.shop.svc.cluster.local.");
	check("_DNS._UDP.web.shop.svc.cluster.local.", SRV, "NOERROR: SRV 0 100 53 web.shop.svc.cluster.local.");
	check("_dns._tcp.web.shop.svc.cluster.local.", SRV, "NXDOMAIN:");
	check("_no._tcp.web.shop.svc.cluster.local.", SRV, "NXDOMAIN:");
	check("http._tcp.web.shop.svc.cluster.local.", SRV, "NXDOMAIN:");
	check("_http._tcp.web.shop.svc.cluster.local.", A, "NOERROR:");
	check("_sql._tcp.db.shop.svc.cluster.local.", SRV,
	      "NOERROR: SRV 0 100 5432 10-42-0-8.db.shop.svc.cluster.local.; "
	      "SRV 0 100 5432 db-0.db.shop.svc.cluster.local.");
	check("_no._tcp.db.shop.svc.cluster.local.", SRV, "NXDOMAIN:");
	check("_sql._tcp.db.shop.svc.cluster.local.", A, "NOERROR:");
}

static void test_srv_additional(void **state)
{
	ldns_pkt *p = ask("_http._tcp.web.shop.svc.cluster.local.", SRV);
	char text[TEXT_MAX];

	section_text(ldns_pkt_additional(p), text);
	assert_string_equal(text, "A 10.43.0.50");
	ldns_pkt_free(p);
}

static void additional(const char *name, const char *want)
{
	ldns_pkt *p = ask(name, SRV);
	char text[TEXT_MAX];

	section_text(ldns_pkt_additional(p), text);
	assert_string_equal(text, want);
	ldns_pkt_free(p);
}

/* A Service of two families, and endpoints of both by one name. */
static void test_two_families(void **state)
{
	struct fixture *f = *state;

	zone_finish(&zone);
	fixture_close(f);
	f->service_cidr = "10.43.0.0/16,fd43::/112";
	fixture_open(f);
	zone_init(&zone, f->reg, "cluster.local");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'both'},'spec':{'ipFamilyPolicy':'RequireDualStack','clusterIPs':['10.43.0.60','fd43::60'],"
	    "'ports':[{'name':'http','port':80}]}}");
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'six'},'spec':{'ipFamilies':['IPv6'],'clusterIP':'fd43::66','ports':[{'port':80}]}}");
	check("both.shop.svc.cluster.local.", A, "NOERROR: A 10.43.0.60");
	check("both.shop.svc.cluster.local.", AAAA, "NOERROR: AAAA fd43::60");
	check("six.shop.svc.cluster.local.", A, "NOERROR:");
	check("six.shop.svc.cluster.local.", AAAA, "NOERROR: AAAA fd43::66");
	check("_http._tcp.both.shop.svc.cluster.local.", SRV, "NOERROR: SRV 0 100 80 both.shop.svc.cluster.local.");
	additional("_http._tcp.both.shop.svc.cluster.local.", "A 10.43.0.60; AAAA fd43::60");
	additional("_sql._tcp.db.shop.svc.cluster.local.", "A 10.42.0.7; A 10.42.0.8; AAAA fd42::7");
	check("0.6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.", PTR,
	      "NOERROR: PTR both.shop.svc.cluster.local.");
	/* written as its user likes */
	put(f, KIND_ENDPOINTSLICE, "shop",
	    "{'metadata':{'name':'db-7','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv6','ports':[{'name':'sql',"
	    "'protocol':'TCP','port':5432}],'endpoints':[{'addresses':['fd42:0::00:9'],'hostname':'own'}]}");
	check("9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.d.f.ip6.arpa.", PTR,
	      "NOERROR: PTR own.db.shop.svc.cluster.local.");
}

static void test_headless(void **state)
{
	check("db.shop.svc.cluster.local.", A, "NOERROR: A 10.42.0.7; A 10.42.0.8");
	check("db.shop.svc.cluster.local.", AAAA, "NOERROR: AAAA fd42::7");
	check("db-0.db.shop.svc.cluster.local.", A, "NOERROR: A 10.42.0.7");
	check("db-0.db.shop.svc.cluster.local.", AAAA, "NOERROR: AAAA fd42::7");
	check("10-42-0-8.db.shop.svc.cluster.local.", A, "NOERROR: A 10.42.0.8");
	check("10-42-0-8.db.shop.svc.cluster.local.", AAAA, "NOERROR:");
	/* one with a hostname goes by that alone; one that is not ready by nothing */
	check("10-42-0-7.db.shop.svc.cluster.local.", A, "NXDOMAIN:");
	check("db-2.db.shop.svc.cluster.local.", A, "NXDOMAIN:");
	check("empty.shop.svc.cluster.local.", A, "NXDOMAIN:");
}

static void test_pods(void **state)
{
	check("10-42-0-5.shop.pod.cluster.local.", A, "NOERROR: A 10.42.0.5");
	check("10-42-0-5.shop.pod.cluster.local.", AAAA, "NOERROR:");
	check("fd42--5.shop.pod.cluster.local.", AAAA, "NOERROR: AAAA fd42::5");
	check("10-42-0-5.no.pod.cluster.local.", A, "NXDOMAIN:");
	check("10-42-0-500.shop.pod.cluster.local.", A, "NXDOMAIN:");
	check("what.shop.pod.cluster.local.", A, "NXDOMAIN:");
}

static void test_reverse(void **state)
{
	struct fixture *f = *state;

	check("50.0.43.10.in-addr.arpa.", PTR, "NOERROR: PTR web.shop.svc.cluster.local.");
	check("7.0.42.10.in-addr.arpa.", PTR, "NOERROR: PTR db-0.db.shop.svc.cluster.local.");
	check("8.0.42.10.IN-ADDR.arpa.", PTR, "NOERROR: PTR 10-42-0-8.db.shop.svc.cluster.local.");
	check("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.d.f.ip6.arpa.", PTR,
	      "NOERROR: PTR db-0.db.shop.svc.cluster.local.");
	check("50.0.43.10.in-addr.arpa.", A, "NOERROR:");
	check("1.0.43.10.in-addr.arpa.", PTR, "SERVFAIL:");
	check("x.0.43.10.in-addr.arpa.", PTR, "SERVFAIL:");
	/* not ready: no record leads to its name either */
	check("9.0.42.10.in-addr.arpa.", PTR, "SERVFAIL:");
	/* made anew when a Service comes */
	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'late'},'spec':{'clusterIP':'10.43.0.99','ports':[{'port':80}]}}");
	check("99.0.43.10.in-addr.arpa.", PTR, "NOERROR: PTR late.shop.svc.cluster.local.");
}

static void test_aliases(void **state)
{
	_cleanup_buf_ struct buf q = BUF_INIT, up = BUF_INIT, out = BUF_INIT;
	struct answer a;
	ldns_pkt *p;
	char text[TEXT_MAX], *owner;

	check("out.shop.svc.cluster.local.", LDNS_RR_TYPE_CNAME, "NOERROR: CNAME example.org.");
	check("out.shop.svc.cluster.local.", A, "NOERROR: CNAME example.org.");
	/* inside the zone nobody else is asked */
	check("in.shop.svc.cluster.local.", A, "NOERROR: A 10.43.0.50; CNAME web.shop.svc.cluster.local.");
	check("nowhere.shop.svc.cluster.local.", A, "NXDOMAIN: CNAME no.shop.svc.cluster.local.");
	ldns_pkt_free(ask("circle.shop.svc.cluster.local.", A));
	/* out of the zone: the last target is asked for, and the answer goes behind the aliases */
	make_query(&q, "twice.shop.svc.cluster.local.", A, 5, 0);
	assert_int_equal(answer_query(&zone, buf_str(&q), false, true, &a), ANSWER_FORWARD);
	assert_true(a.alias);
	p = NULL;
	assert_int_equal(ldns_wire2pkt(&p, (const uint8_t *)buf_str(&a.wire).p, buf_len(&a.wire)), LDNS_STATUS_OK);
	owner = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(p), 0)));
	assert_string_equal(owner, "example.org.");
	free(owner);
	ldns_pkt_set_qr(p, true);
	{
		uint8_t *wire;
		size_t n;
		ldns_rr *rr = NULL;

		assert_int_equal(ldns_rr_new_frm_str(&rr, "example.org. 60 IN A 192.0.2.33", 0, NULL, NULL),
				 LDNS_STATUS_OK);
		ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr);
		assert_int_equal(ldns_pkt2wire(&wire, p, &n), LDNS_STATUS_OK);
		buf_add(&up, wire, n);
		free(wire);
	}
	ldns_pkt_free(p);
	assert_int_equal(answer_from_upstream(&zone, &a, buf_str(&up), false, &out), 0);
	p = parse_answer(buf_str(&out));
	assert_int_equal(ldns_pkt_id(p), 5);
	answer_text(p, text);
	assert_string_equal(text, "NOERROR: A 192.0.2.33; CNAME example.org.; CNAME out.shop.svc.cluster.local.");
	/* in order */
	assert_int_equal(ldns_rr_get_type(ldns_rr_list_rr(ldns_pkt_answer(p), 2)), A);
	ldns_pkt_free(p);
	answer_finish(&a);
}

static void test_case_is_kept(void **state)
{
	ldns_pkt *p = ask("wEb.ShOp.sVc.ClUsTeR.lOcAl.", A);
	char *question = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(p), 0)));
	char *owner = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_answer(p), 0)));

	assert_string_equal(question, "wEb.ShOp.sVc.ClUsTeR.lOcAl.");
	assert_string_equal(owner, question);
	free(question);
	free(owner);
	ldns_pkt_free(p);
}

/* ---- limits ---- */

static void many(struct fixture *f, unsigned n)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	put(f, KIND_SERVICE, "shop",
	    "{'metadata':{'name':'many'},'spec':{'clusterIP':'None','ports':[{'name':'p','port':1}]}}");
	buf_printf(&text,
		   "{'metadata':{'name':'many-1','labels':{'kubernetes.io/service-name':'many'}},'addressType':'IPv4',"
		   "'ports':[{'name':'p','protocol':'TCP','port':1}],'endpoints':[");
	for (unsigned i = 0; i < n; i++)
		buf_printf(&text,
			   "%s{'addresses':['10.42.%u.%u'],'hostname':'a-rather-long-host-name-of-an-endpoint-%u'}",
			   i ? "," : "", i / 250, i % 250, i);
	buf_printf(&text, "]}");
	buf_add_char(&text, 0);
	put(f, KIND_ENDPOINTSLICE, "shop", text.data + text.start);
}

static ldns_pkt *ask_sized(const char *name, ldns_rr_type type, uint16_t edns, bool tcp, size_t *ret_n)
{
	_cleanup_buf_ struct buf q = BUF_INIT;
	struct answer a;
	ldns_pkt *p;

	make_query(&q, name, type, 1, edns);
	assert_int_equal(answer_query(&zone, buf_str(&q), tcp, false, &a), ANSWER_READY);
	*ret_n = buf_len(&a.wire);
	p = parse_answer(buf_str(&a.wire));
	answer_finish(&a);
	return p;
}

static void test_truncation(void **state)
{
	ldns_pkt *p;
	size_t n;

	many(*state, 100);
	p = ask_sized("many.shop.svc.cluster.local.", A, 0, false, &n);
	assert_true(ldns_pkt_tc(p) && n <= 512 && ldns_pkt_ancount(p) == 0);
	ldns_pkt_free(p);
	/* no more than the client says, whatever it says; and it is told what we take */
	p = ask_sized("many.shop.svc.cluster.local.", A, 1232, false, &n);
	assert_true(ldns_pkt_tc(p) && n <= 1232 && ldns_pkt_edns(p));
	ldns_pkt_free(p);
	p = ask_sized("many.shop.svc.cluster.local.", A, 4096, false, &n);
	assert_true(!ldns_pkt_tc(p) && n <= 4096 && ldns_pkt_ancount(p) == 100 && ldns_pkt_edns(p));
	ldns_pkt_free(p);
	p = ask_sized("many.shop.svc.cluster.local.", SRV, 65535, false, &n);
	assert_true(n <= ANSWER_UDP_MAX);
	ldns_pkt_free(p);
	p = ask_sized("many.shop.svc.cluster.local.", A, 0, true, &n);
	assert_true(!ldns_pkt_tc(p) && ldns_pkt_ancount(p) == 100 && !ldns_pkt_edns(p));
	ldns_pkt_free(p);
}

static void test_more_than_tcp_holds(void **state)
{
	ldns_pkt *p;
	size_t n;

	many(*state, 1000);
	p = ask_sized("many.shop.svc.cluster.local.", A, 0, true, &n);
	assert_int_equal(ldns_pkt_ancount(p), 1000);
	ldns_pkt_free(p);
	/* 1,000 SRV records with their addresses: what may be left out is, or it says that it is cut */
	p = ask_sized("_p._tcp.many.shop.svc.cluster.local.", SRV, 0, true, &n);
	assert_true(n <= ANSWER_TCP_MAX);
	assert_true(ldns_pkt_tc(p) || ldns_pkt_ancount(p) == 1000);
	ldns_pkt_free(p);
}

/* ---- odd packets ---- */

static enum answer_verdict raw(const char *bytes, size_t n, int *ret_rcode)
{
	struct answer a;
	enum answer_verdict v = answer_query(&zone, str_make(bytes, n), false, false, &a);

	*ret_rcode = v == ANSWER_READY ? buf_str(&a.wire).p[3] & 15 : -1;
	if (v == ANSWER_READY) {
		assert_true(buf_len(&a.wire) >= 12);
		assert_memory_equal(buf_str(&a.wire).p, bytes, 2);
		assert_true(buf_str(&a.wire).p[2] & 0x80);
	}
	answer_finish(&a);
	return v;
}

static void test_odd_packets(void **state)
{
	_cleanup_buf_ struct buf q = BUF_INIT;
	char bytes[512];
	size_t n;
	int rcode;

	make_query(&q, "web.shop.svc.cluster.local.", A, 0x1234, 0);
	n = buf_len(&q);
	memcpy(bytes, buf_str(&q).p, n);
	/* too short to answer; answers are not answered */
	assert_int_equal(raw(bytes, 0, &rcode), ANSWER_DROP);
	assert_int_equal(raw(bytes, 11, &rcode), ANSWER_DROP);
	bytes[2] = (char)0x81;
	assert_int_equal(raw(bytes, n, &rcode), ANSWER_DROP);
	assert_int_equal(raw(bytes, 14, &rcode), ANSWER_DROP);
	bytes[2] = 1;
	/* cut short, a name that points at itself, more questions than there are */
	for (size_t i = 12; i < n; i++) {
		assert_int_equal(raw(bytes, i, &rcode), ANSWER_READY);
		assert_int_equal(rcode, LDNS_RCODE_FORMERR);
	}
	bytes[12] = (char)0xc0;
	bytes[13] = 12;
	assert_int_equal(raw(bytes, n, &rcode), ANSWER_READY);
	assert_int_equal(rcode, LDNS_RCODE_FORMERR);
	memcpy(bytes, buf_str(&q).p, n);
	bytes[5] = 0;
	assert_int_equal(raw(bytes, 12, &rcode), ANSWER_READY);
	assert_int_equal(rcode, LDNS_RCODE_FORMERR);
	/* STATUS, NOTIFY, UPDATE */
	for (int opcode = 2; opcode < 6; opcode += 2) {
		memcpy(bytes, buf_str(&q).p, n);
		bytes[2] = (char)(opcode << 3);
		assert_int_equal(raw(bytes, n, &rcode), ANSWER_READY);
		assert_int_equal(rcode, LDNS_RCODE_NOTIMPL);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_services),
		TEST(test_srv),
		TEST(test_srv_additional),
		TEST(test_two_families),
		TEST(test_headless),
		TEST(test_pods),
		TEST(test_reverse),
		TEST(test_aliases),
		TEST(test_case_is_kept),
		TEST(test_truncation),
		TEST(test_more_than_tcp_holds),
		TEST(test_odd_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
