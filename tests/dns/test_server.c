/* SPDX-License-Identifier: Apache-2.0 */
/* The server on loopback through the loop, with upstreams that answer, keep silent, lie and refuse. */
#include "tests/dns/support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/encode.h"
#include "userspace/dns/dns.h"
#include "userspace/net/listen.h"
#include "userspace/net/udp.h"

#define SERVER "127.53.0.1"
#define SERVER_V6 "::1"
#define UPSTREAM_A "127.53.0.2"
#define UPSTREAM_B "127.53.0.3"

enum manner { ANSWERS, SILENT, LIES_FIRST };

struct upstream {
	const char *address;
	enum manner manner;
	unsigned asked, asked_tcp;
	struct udp_server *udp;
	int listen_fd;
	struct loop_op accept_op, recv_op, send_op;
	int fd;
	char in[512];
	struct buf out;
};

static struct fixture *f;
static struct dns *dns;
static struct upstream a, b;
static uint16_t port, upstream_port;
static const char *asked = SERVER;
static char resolv_conf[96];

/* ---- upstreams ---- */

static void upstream_reply(struct upstream *u, struct str query, struct buf *out)
{
	ldns_pkt *p = NULL;
	uint8_t *wire;
	ldns_rr *rr = NULL;
	char *name, *text;
	size_t n;

	assert_int_equal(ldns_wire2pkt(&p, (const uint8_t *)query.p, query.n), LDNS_STATUS_OK);
	name = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(p), 0)));
	text = mem_printf("%s 60 IN A %s", name, u->address);
	assert_int_equal(ldns_rr_new_frm_str(&rr, text, 0, NULL, NULL), LDNS_STATUS_OK);
	ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr);
	ldns_pkt_set_qr(p, true);
	assert_int_equal(ldns_pkt2wire(&wire, p, &n), LDNS_STATUS_OK);
	buf_add(out, wire, n);
	free(wire);
	free(text);
	free(name);
	ldns_pkt_free(p);
}

static void upstream_received(void *arg, struct udp_server *server, const struct udp_peer *peer, struct str query)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct upstream *u = arg;

	u->asked++;
	if (u->manner == SILENT)
		return;
	upstream_reply(u, query, &out);
	if (u->manner == LIES_FIRST) {
		_cleanup_buf_ struct buf lie = BUF_INIT;

		/* another id; another question; a query instead of an answer; nothing */
		buf_add_str(&lie, buf_str(&out));
		lie.data[lie.start] ^= 0x55;
		lie.data[lie.start + buf_len(&lie) - 1] = 66;
		udp_server_send(server, peer, buf_str(&lie));
		lie.data[lie.start] ^= 0x55;
		lie.data[lie.start + 13] = 'z';
		udp_server_send(server, peer, buf_str(&lie));
		udp_server_send(server, peer, query);
		udp_server_send(server, peer, str_make("", 0));
	}
	udp_server_send(server, peer, buf_str(&out));
}

static void upstream_sent(struct loop_op *op, int res, bool more)
{
	struct upstream *u = container_of(op, struct upstream, send_op);

	close(u->fd);
	buf_reset(&u->out);
}

static void upstream_tcp_received(struct loop_op *op, int res, bool more)
{
	struct upstream *u = container_of(op, struct upstream, recv_op);
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_true(res > 2);
	assert_int_equal((uint8_t)u->in[0] << 8 | (uint8_t)u->in[1], res - 2);
	u->asked_tcp++;
	upstream_reply(u, str_make(u->in + 2, (size_t)res - 2), &out);
	buf_add_char(&u->out, (char)(buf_len(&out) >> 8));
	buf_add_char(&u->out, (char)buf_len(&out));
	buf_add_str(&u->out, buf_str(&out));
	loop_send(f->loop, &u->send_op, u->fd, buf_str(&u->out).p, buf_len(&u->out), upstream_sent);
}

static void upstream_accepted(struct loop_op *op, int res, bool more)
{
	struct upstream *u = container_of(op, struct upstream, accept_op);

	if (res < 0)
		return;
	u->fd = res;
	loop_recv(f->loop, &u->recv_op, res, u->in, sizeof(u->in), upstream_tcp_received);
}

static void upstream_start(struct upstream *u, const char *address, uint16_t at)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int fd;

	*u = (struct upstream){ .address = address };
	assert_int_equal(listen_udp(address, at, &fd, &err), 0);
	upstream_port = (uint16_t)listen_port(fd);
	assert_int_equal(udp_server_create(f->loop, fd, upstream_received, u, &u->udp, &err), 0);
	assert_int_equal(listen_tcp(address, upstream_port, &u->listen_fd, &err), 0);
	loop_accept_multishot(f->loop, &u->accept_op, u->listen_fd, upstream_accepted);
}

static void upstream_stop(struct upstream *u)
{
	udp_server_destroy(u->udp);
	u->udp = NULL;
	loop_cancel(f->loop, &u->accept_op);
	close(u->listen_fd);
	buf_finish(&u->out);
}

static void upstreams(const char *text)
{
	static unsigned age;
	struct timespec times[2] = { { .tv_sec = 1000000000 + ++age }, { .tv_sec = 1000000000 + age } };
	FILE *file = fopen(resolv_conf, "w");

	fputs(text, file);
	fclose(file);
	/* however coarse the clock of the file system is */
	assert_int_equal(utimensat(AT_FDCWD, resolv_conf, times, 0), 0);
}

/* ---- the world ---- */

static void turn_over(struct loop_timer *t)
{
	loop_stop(f->loop, 0);
}

static void settle(void)
{
	struct loop_timer turn;

	for (int i = 0; i < 3; i++) {
		loop_timer_init(&turn, turn_over);
		loop_timer_arm(f->loop, &turn, NS_PER_MS);
		loop_run(f->loop);
	}
}

static int setup(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct dns_options options = { .address = SERVER "," SERVER_V6,
				       .domain = "cluster.local",
				       .resolv_conf = resolv_conf };
	int fd;

	fixture_setup((void **)&f);
	put(f, KIND_SERVICE, "default",
	    "{'metadata':{'name':'web'},'spec':{'clusterIP':'10.43.0.50','ports':[{'port':80}]}}");
	put(f, KIND_SERVICE, "default",
	    "{'metadata':{'name':'out'},'spec':{'type':'ExternalName','externalName':'example.org'}}");
	upstream_start(&a, UPSTREAM_A, 0);
	upstream_start(&b, UPSTREAM_B, upstream_port);
	snprintf(resolv_conf, sizeof(resolv_conf), "%s/resolv.conf", f->dir);
	upstreams("search x\nnameserver " UPSTREAM_A "\n");
	/* a port that is free */
	assert_int_equal(listen_udp(SERVER, 0, &fd, &err), 0);
	port = (uint16_t)listen_port(fd);
	close(fd);
	options.port = port;
	options.upstream_port = upstream_port;
	if (dns_create(f->loop, f->reg, &options, &dns, &err) < 0)
		fail_msg("%s", err_message(&err));
	return 0;
}

static int teardown(void **state)
{
	dns_destroy(dns);
	dns = NULL;
	upstream_stop(&a);
	upstream_stop(&b);
	settle();
	return fixture_teardown((void **)&f);
}

/* ---- a client ---- */

struct client {
	int fd;
	struct loop_op op;
	struct loop_timer deadline;
	char in[65536];
	int got;
};

static void client_late(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, deadline);

	c->got = -ETIMEDOUT;
	loop_stop(f->loop, 0);
}

static void client_received(struct loop_op *op, int res, bool more)
{
	container_of(op, struct client, op)->got = res;
	loop_stop(f->loop, 0);
}

static void client_open(struct client *c, int type)
{
	struct sockaddr_storage to;
	socklen_t len;

	memset(c, 0, sizeof(*c));
	assert_int_equal(listen_parse_address(asked, port, &to, &len, NULL), 0);
	c->fd = socket(to.ss_family, type | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&to, len), 0);
	loop_timer_init(&c->deadline, client_late);
}

/* What one receive brings. */
static struct str client_receive(struct client *c)
{
	loop_timer_arm(f->loop, &c->deadline, 20 * NS_PER_S);
	loop_recv(f->loop, &c->op, c->fd, c->in, sizeof(c->in), client_received);
	loop_run(f->loop);
	loop_timer_cancel(f->loop, &c->deadline);
	assert_true(c->got >= 0);
	return str_make(c->in, (size_t)c->got);
}

static void expect_answer(struct str wire, uint16_t id, const char *want)
{
	ldns_pkt *p = parse_answer(wire);
	char text[TEXT_MAX];

	answer_text(p, text);
	assert_int_equal(ldns_pkt_id(p), id);
	ldns_pkt_free(p);
	assert_string_equal(text, want);
}

static void check(const char *name, const char *want)
{
	_cleanup_buf_ struct buf q = BUF_INIT;
	struct client *c = mem_new(struct client);

	client_open(c, SOCK_DGRAM);
	make_query(&q, name, LDNS_RR_TYPE_A, 4711, 0);
	assert_int_equal(send(c->fd, buf_str(&q).p, buf_len(&q), 0), buf_len(&q));
	expect_answer(client_receive(c), 4711, want);
	close(c->fd);
	free(c);
}

/* The answer comes from the address that was asked: the clients' sockets are connected. */
static void test_other_family(void **state)
{
	asked = SERVER_V6;
	check("web.default.svc.cluster.local.", "NOERROR: A 10.43.0.50");
	check("example.org.", "NOERROR: A " UPSTREAM_A);
	/* both are the server itself, and so no upstream */
	upstreams("nameserver " SERVER_V6 "\nnameserver " SERVER "\n");
	check("example.org.", "SERVFAIL:");
	asked = SERVER;
}

static void test_forwarding(void **state)
{
	struct dns_stats stats;

	check("web.default.svc.cluster.local.", "NOERROR: A 10.43.0.50");
	assert_int_equal(a.asked, 0);
	check("example.org.", "NOERROR: A " UPSTREAM_A);
	check("out.default.svc.cluster.local.", "NOERROR: A " UPSTREAM_A "; CNAME example.org.");
	assert_int_equal(a.asked, 2);
	dns_get_stats(dns, &stats);
	assert_int_equal(stats.queries, 3);
	assert_int_equal(stats.answered, 1);
	assert_int_equal(stats.forwarded, 2);
	/* other upstreams from now on; the server itself is never its own */
	upstreams("# comment\nnameserver " SERVER "\nnameserver\t" UPSTREAM_B "\n");
	check("example.org.", "NOERROR: A " UPSTREAM_B);
	/* nobody to ask: said at once */
	upstreams("nameserver " SERVER "\n");
	check("example.org.", "SERVFAIL:");
	unlink(resolv_conf);
	check("example.org.", "SERVFAIL:");
	check("web.default.svc.cluster.local.", "NOERROR: A 10.43.0.50");
}

static void test_next_upstream(void **state)
{
	/* nobody listens at the first: the kernel says so at once */
	upstreams("nameserver 127.53.0.99\nnameserver " UPSTREAM_B "\n");
	check("example.org.", "NOERROR: A " UPSTREAM_B);
	/* one that is silent costs the time limit */
	a.manner = SILENT;
	upstreams("nameserver " UPSTREAM_A "\nnameserver " UPSTREAM_B "\n");
	check("example.org.", "NOERROR: A " UPSTREAM_B);
	assert_int_equal(a.asked, 1);
}

static void test_spoofed_answers(void **state)
{
	a.manner = LIES_FIRST;
	check("example.org.", "NOERROR: A " UPSTREAM_A);
	assert_int_equal(a.asked, 1);
}

static void test_tcp(void **state)
{
	_cleanup_buf_ struct buf q = BUF_INIT, both = BUF_INIT, in = BUF_INIT;
	struct client *c = mem_new(struct client);
	static const char *const names[] = { "web.default.svc.cluster.local.", "example.org.",
					     "no.default.svc.cluster.local." };
	static const char *const want[] = { "NOERROR: A 10.43.0.50", "NOERROR: A " UPSTREAM_A, "NXDOMAIN:" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		buf_reset(&q);
		make_query(&q, names[i], LDNS_RR_TYPE_A, (uint16_t)i, 0);
		buf_add_char(&both, 0);
		buf_add_char(&both, (char)buf_len(&q));
		buf_add_str(&both, buf_str(&q));
	}
	/* three queries in one go, cut within the length of the second: three answers in order */
	client_open(c, SOCK_STREAM);
	assert_int_equal(send(c->fd, buf_str(&both).p, 50, 0), 50);
	assert_int_equal(send(c->fd, buf_str(&both).p + 50, buf_len(&both) - 50, 0), buf_len(&both) - 50);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n;

		while (buf_len(&in) < 2 ||
		       buf_len(&in) < 2 + ((size_t)(uint8_t)buf_str(&in).p[0] << 8 | (uint8_t)buf_str(&in).p[1])) {
			struct str more = client_receive(c);

			assert_true(more.n > 0);
			buf_add_str(&in, more);
		}
		n = (size_t)(uint8_t)buf_str(&in).p[0] << 8 | (uint8_t)buf_str(&in).p[1];
		expect_answer(str_make(buf_str(&in).p + 2, n), (uint16_t)i, want[i]);
		buf_consume(&in, n + 2);
	}
	assert_int_equal(a.asked_tcp, 1);
	/* a length of nothing ends the connection */
	assert_int_equal(send(c->fd, "\0\0", 2, 0), 2);
	assert_int_equal(client_receive(c).n, 0);
	close(c->fd);
	free(c);
}

/* Clients and upstreams in the middle of something when the server ends. */
static void test_end_in_flight(void **state)
{
	_cleanup_buf_ struct buf q = BUF_INIT;
	struct client *c = mem_new(struct client), *t = mem_new(struct client);

	a.manner = SILENT;
	make_query(&q, "example.org.", LDNS_RR_TYPE_A, 1, 0);
	client_open(c, SOCK_DGRAM);
	client_open(t, SOCK_STREAM);
	assert_int_equal(send(c->fd, buf_str(&q).p, buf_len(&q), 0), buf_len(&q));
	assert_int_equal(send(t->fd, "\0", 1, 0), 1);
	for (int i = 0; i < 1000 && !a.asked; i++)
		settle();
	assert_int_equal(a.asked, 1);
	dns_destroy(dns);
	dns = NULL;
	settle();
	close(c->fd);
	close(t->fd);
	free(c);
	free(t);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forwarding),      TEST(test_other_family), TEST(test_next_upstream),
		TEST(test_spoofed_answers), TEST(test_tcp),          TEST(test_end_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
