/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers, arenas, maps, numbers, clocks, encodings, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>

#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/map.h"

static void test_map(void **state)
{
	struct map m = MAP_INIT;
	char key[16];

	for (long i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "k%ld", i);
		assert_null(map_put(&m, str_of(key), (void *)i));
	}
	for (long i = 1; i <= 5000; i += 2) {
		snprintf(key, sizeof(key), "k%ld", i);
		assert_ptr_equal(map_remove(&m, str_of(key)), (void *)i);
	}
	for (long i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "k%ld", i);
		assert_ptr_equal(map_get(&m, str_of(key)), i % 2 ? NULL : (void *)i);
	}
	assert_int_equal(m.n, 2500);
	map_finish(&m);
}

static void test_buf(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	for (int i = 0; i < 10000; i++) {
		buf_printf(&b, "%05d", i);
		if (i % 3 == 0)
			buf_consume(&b, 5);
	}
	assert_int_equal(buf_len(&b), (10000 - 3334) * 5);
	assert_memory_equal(buf_str(&b).p, "03334", 5);
}

static void test_numbers(void **state)
{
	int64_t v;

	assert_int_equal(str_to_int64(STR("-9223372036854775808"), &v), 0);
	assert_true(v == INT64_MIN);
	assert_int_equal(str_to_int64(STR("9223372036854775808"), &v), -ERANGE);
	assert_int_equal(str_to_int64(STR(""), &v), -EINVAL);
	assert_int_equal(str_to_int64(STR("-"), &v), -EINVAL);
	assert_int_equal(str_to_int64(STR("1x"), &v), -EINVAL);
}

static void test_clock(void **state)
{
	char text[CLOCK_RFC3339_MAX];
	int64_t ns;

	assert_int_equal(clock_parse_rfc3339(STR("2026-02-03T04:05:06.789+02:00"), &ns), 0);
	clock_format_rfc3339_micro(ns, text);
	assert_string_equal(text, "2026-02-03T02:05:06.789000Z");
	assert_int_equal(clock_parse_rfc3339(STR("2026-02-30T04:05:06Z"), &ns), -EINVAL);
	assert_int_equal(clock_parse_rfc3339(STR("2026-02-03T04:05:06"), &ns), -EINVAL);
	assert_int_equal(clock_parse_rfc3339(STR("1969-12-31T23:59:59Z"), &ns), 0);
	clock_format_rfc3339(ns, text);
	assert_string_equal(text, "1969-12-31T23:59:59Z");
	assert_int_equal(clock_parse_duration(STR("1h2m3.5s"), &ns), 0);
	assert_true(ns == (3723 * NS_PER_S + NS_PER_S / 2));
	assert_int_equal(clock_parse_duration(STR("5"), &ns), -EINVAL);
	assert_int_equal(clock_parse_duration(STR("5parsec"), &ns), -EINVAL);
}

static void test_encode(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT, d = BUF_INIT;
	char hex[SHA256_HEX_LEN + 1];

	for (size_t n = 0; n < 50; n++) {
		uint8_t in[50];

		random_bytes(in, sizeof(in));
		for (int alphabet = 0; alphabet < 2; alphabet++) {
			buf_reset(&b);
			buf_reset(&d);
			base64_encode(&b, in, n, alphabet);
			assert_int_equal(base64_decode(&d, buf_str(&b), alphabet), 0);
			assert_int_equal(buf_len(&d), n);
			assert_memory_equal(buf_str(&d).p ? buf_str(&d).p : "", in, n);
		}
	}
	assert_int_equal(base64_decode(&d, STR("QQ"), BASE64_STD), -EINVAL);
	assert_int_equal(base64_decode(&d, STR("QR=="), BASE64_STD), -EINVAL);
	assert_int_equal(base64_decode(&d, STR("Q==="), BASE64_STD), -EINVAL);
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(fnv32a("foobar", 6), 0xbf9cf968);
}

static void test_fs(void **state)
{
	char dir[] = "/tmp/k3c-test-XXXXXX";
	_cleanup_free_ char *deep = NULL, *file = NULL, *outside = NULL, *link = NULL;
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_non_null(mkdtemp(dir));
	outside = mem_printf("%s-outside", dir);
	assert_int_equal(fs_write_atomic(outside, "x", 1, 0600, NULL), 0);
	deep = mem_printf("%s/a/b/c", dir);
	assert_int_equal(fs_mkdirs(deep, 0755, NULL), 0);
	file = mem_printf("%s/f", deep);
	link = mem_printf("%s/l", deep);
	assert_int_equal(fs_write_atomic(file, "hello", 5, 0640, NULL), 0);
	assert_int_equal(symlink(outside, link), 0);
	assert_int_equal(fs_read(file, 100, &b, NULL), 0);
	assert_memory_equal(buf_str(&b).p, "hello", 5);
	assert_int_equal(fs_read(file, 4, &b, NULL), -EFBIG);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
	assert_false(fs_exists(dir));
	assert_true(fs_exists(outside));
	assert_int_equal(fs_remove_tree(outside, NULL), 0);
	assert_int_equal(fs_remove_tree(outside, NULL), 0);
}

static void test_err(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT, copy = ERR_INIT;

	assert_int_equal(err_set_status(&err, -ENOENT, 404, "NotFound", "pods \"%s\" not found", "x"), -ENOENT);
	assert_int_equal(err_wrap(&err, 0, "bind"), -ENOENT);
	assert_string_equal(err_message(&err), "bind: pods \"x\" not found");
	for (int i = 0; i < ERR_CAUSES_MAX + 5; i++)
		err_add_cause(&err, "FieldValueInvalid", "spec", "%d", i);
	assert_int_equal(err.n_causes, ERR_CAUSES_MAX);
	err_copy(&copy, &err);
	assert_int_equal(copy.n_causes, ERR_CAUSES_MAX);
	assert_string_equal(copy.causes[63].message, "63");
	assert_int_equal(err_set(NULL, -EIO, "no one listens"), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map),   cmocka_unit_test(test_buf),    cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_clock), cmocka_unit_test(test_encode), cmocka_unit_test(test_fs),
		cmocka_unit_test(test_err),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
