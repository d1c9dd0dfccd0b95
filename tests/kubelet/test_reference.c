/* SPDX-License-Identifier: Apache-2.0 */
/* Image references as docker normalises them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>

#include "kubelet/images/images.h"
#include "userspace/base/mem.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_good(void **state)
{
	static const char *const pairs[][2] = {
		{ "busybox", "docker.io/library/busybox:latest" },
		{ "busybox:1.36", "docker.io/library/busybox:1.36" },
		{ "team/app", "docker.io/team/app:latest" },
		{ "index.docker.io/library/x", "docker.io/library/x:latest" },
		{ "localhost/app", "localhost/app:latest" },
		{ "localhost:5000/app", "localhost:5000/app:latest" },
		{ "127.0.0.1:5000/a/b_c/d__e:v1.2-3", "127.0.0.1:5000/a/b_c/d__e:v1.2-3" },
		{ "registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9" },
		{ "busybox@" DIGEST, "docker.io/library/busybox@" DIGEST },
		{ "quay.io/a/b:tag@" DIGEST, "quay.io/a/b@" DIGEST },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		char *normal = NULL;

		assert_int_equal(images_normalize(pairs[i][0], &arena, &normal, NULL), 0);
		assert_string_equal(normal, pairs[i][1]);
	}
}

static void test_bad(void **state)
{
	static const char *const bad[] = { "",       "Busybox", "a//b",  "/a",          "a/",
					   "a:",     "a:-x",    "a b",   "a@sha256:12", "a@md5:00",
					   "a/../b", "-a",      "a___b", "a:b c",       "host:80/" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		char *normal;

		if (images_normalize(bad[i], &arena, &normal, NULL) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_bad) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
