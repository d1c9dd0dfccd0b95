/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries behind images: not there at the start, whole once loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kubelet/images/lazy.h"
#include "userspace/base/fs.h"

static bool mapped(const char *library)
{
	_cleanup_buf_ struct buf maps = BUF_INIT;

	assert_true(fs_read("/proc/self/maps", 16 << 20, &maps, NULL) >= 0);
	return strstr(buf_cstr(&maps), library) != NULL;
}

#define ABSENT(function) assert_null(sym_##function);
#define PRESENT(function) assert_non_null(sym_##function);

static void test_curl(void **state)
{
	assert_false(mapped("/libcurl.so"));
	LAZY_CURL(ABSENT)
	assert_int_equal(lazy_curl(NULL), 0);
	LAZY_CURL(PRESENT)
	assert_true(mapped("/libcurl.so"));
	assert_int_equal(lazy_curl(NULL), 0);
}

static void test_archive(void **state)
{
	assert_false(mapped("/libarchive.so"));
	LAZY_ARCHIVE(ABSENT)
	assert_int_equal(lazy_archive(NULL), 0);
	LAZY_ARCHIVE(PRESENT)
	assert_true(mapped("/libarchive.so"));
	assert_int_equal(lazy_archive(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_curl),
		cmocka_unit_test(test_archive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
