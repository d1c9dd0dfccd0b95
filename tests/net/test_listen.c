/* SPDX-License-Identifier: Apache-2.0 */
/* Which families a listening socket takes, and addresses that name their link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/mem.h"
#include "userspace/net/listen.h"

/* Connects to `to` where `address` is listened on. */
static bool reaches(const char *address, const char *to)
{
	_cleanup_close_ int server = -1, client = -1;
	struct sockaddr_storage at;
	socklen_t len;

	assert_int_equal(listen_tcp(address, 0, &server, NULL), 0);
	assert_int_equal(listen_parse_address(to, (uint16_t)listen_port(server), &at, &len, NULL), 0);
	client = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(client >= 0);
	return connect(client, (struct sockaddr *)&at, len) == 0;
}

static void test_families(void **state)
{
	assert_true(reaches("", "127.0.0.1"));
	assert_true(reaches("", "::1"));
	assert_true(reaches("::", "127.0.0.1"));
	assert_true(reaches("::", "::1"));
	assert_true(reaches("0.0.0.0", "127.0.0.1"));
	assert_false(reaches("0.0.0.0", "::1"));
	assert_true(reaches("::1", "::1"));
	assert_false(reaches("::1", "127.0.0.1"));
	assert_false(reaches("127.0.0.1", "::1"));
}

static void test_address_of_a_link(void **state)
{
	static const char *const bad[] = { "fe80::1%none", "fe80::1%",
					   "%lo",          "127.0.0.1%lo",
					   "fe80::g%lo",   "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa%lo" };
	struct sockaddr_storage at;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&at;
	socklen_t len;

	assert_int_equal(listen_parse_address("fe80::1%lo", 53, &at, &len, NULL), 0);
	assert_int_equal(len, sizeof(*in6));
	assert_int_equal(in6->sin6_scope_id, if_nametoindex("lo"));
	assert_int_equal(in6->sin6_addr.s6_addr[15], 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (listen_parse_address(bad[i], 53, &at, &len, NULL) == 0)
			fail_msg("accepted: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_address_of_a_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
