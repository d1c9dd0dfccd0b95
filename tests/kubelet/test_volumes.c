/* SPDX-License-Identifier: Apache-2.0 */
/* Atomic projection of files, sub paths that try to escape, and who refers to what. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "kubelet/volumes/atomic_writer.h"
#include "kubelet/volumes/subpath.h"
#include "kubelet/volumes/volumes.h"
#include "userspace/base/fs.h"

static char dir[64];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/k3c-test-volumes-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char other[80];

	snprintf(other, sizeof(other), "%s-none", dir);
	return volumes_teardown(dir, other, NULL);
}

static const char *path_of(const char *name)
{
	static char path[4][512];
	static unsigned at;
	char *p = path[at++ % 4];

	snprintf(p, 512, "%s/%s", dir, name);
	return p;
}

static void assert_content(const char *name, const char *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_int_equal(fs_read(path_of(name), 1000, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), text);
}

static struct atomic_file file(const char *path, const char *text, mode_t mode)
{
	return (struct atomic_file){ .path = path, .data = str_of(text), .mode = mode, .uid = (uid_t)-1 };
}

static bool write_files(const struct atomic_file *files, size_t n)
{
	bool changed = false;
	_cleanup_err_ struct err err = ERR_INIT;

	if (atomic_writer_write(dir, files, n, (gid_t)-1, &changed, &err) < 0)
		fail_msg("%s", err_message(&err));
	return changed;
}

static unsigned entries(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_writer(void **state)
{
	struct atomic_file files[] = { file("a", "1", 0644), file("sub/b", "2", 0400), file("sub/c", "3", 0644) };
	struct stat st;
	char link[64] = "", old[64] = "";

	assert_true(write_files(files, 3));
	assert_content("a", "1");
	assert_content("sub/b", "2");
	assert_int_equal(stat(path_of("sub/b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_true(readlink(path_of("a"), link, sizeof(link) - 1) > 0);
	assert_string_equal(link, "..data/a");
	assert_true(readlink(path_of("..data"), old, sizeof(old) - 1) > 0);

	assert_false(write_files(files, 3)); /* the same: nothing moves */
	memset(link, 0, sizeof(link));
	assert_true(readlink(path_of("..data"), link, sizeof(link) - 1) > 0);
	assert_string_equal(link, old);

	files[0].data = STR("changed");
	assert_true(write_files(files, 1)); /* "sub" is gone, and with it the old folder */
	assert_content("a", "changed");
	assert_int_equal(access(path_of("sub"), F_OK), -1);
	assert_int_equal(access(path_of(old), F_OK), -1);
	assert_int_equal(entries(), 3); /* a, ..data, the folder */
	assert_true(write_files(NULL, 0));
	assert_int_equal(entries(), 2);
}

static void test_writer_mode_alone(void **state)
{
	struct atomic_file f = file("a", "1", 0644);

	assert_true(write_files(&f, 1));
	f.mode = 0600;
	assert_true(write_files(&f, 1));
}

static void test_writer_paths(void **state)
{
	static const char *const bad[] = {
		"", "/etc/passwd", "../x", "a/../../x", "a/..", "..data", "a//b", "a/", "./a"
	};
	bool changed;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct atomic_file f = file(bad[i], "x", 0644);

		assert_false(atomic_writer_path_valid(bad[i]));
		assert_int_equal(atomic_writer_write(dir, &f, 1, (gid_t)-1, &changed, NULL), -EINVAL);
	}
	assert_true(atomic_writer_path_valid("a/b..c/..d"));
}

static void test_subpath(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct stat a, b;

	assert_int_equal(geteuid(), 0);
	assert_int_equal(mkdir(path_of("vol"), 0755), 0);
	assert_int_equal(mkdir(path_of("secret"), 0755), 0);
	assert_int_equal(symlink("/", path_of("vol/root")), 0);
	assert_int_equal(symlink("../secret", path_of("vol/up")), 0);

	/* made when absent, and really that folder */
	assert_int_equal(subpath_bind(path_of("vol"), "x/y", path_of("target"), &err), 0);
	assert_int_equal(stat(path_of("vol/x/y"), &a), 0);
	assert_int_equal(stat(path_of("target"), &b), 0);
	assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	assert_int_equal(subpath_bind(path_of("vol"), "x/y", path_of("target"), &err), 0);

	/* "/" of a link is the volume's own root */
	assert_int_equal(subpath_bind(path_of("vol"), "root/x", path_of("target2"), &err), 0);
	assert_int_equal(stat(path_of("vol/x"), &a), 0);
	assert_int_equal(stat(path_of("target2"), &b), 0);
	assert_true(a.st_ino == b.st_ino);

	/* "../secret" stays inside: it is looked for (and made) in the volume, never beside it */
	(void)subpath_bind(path_of("vol"), "up", path_of("target3"), NULL);
	assert_int_equal(stat(path_of("secret"), &a), 0);
	if (stat(path_of("target3"), &b) == 0)
		assert_true(a.st_ino != b.st_ino);
}

static void test_refers(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *spec;

	assert_int_equal(
		json_parse(
			&arena,
			STR("{\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"s1\"}},{\"name\":\"w\",\"projected\":"
			    "{\"sources\":[{\"configMap\":{\"name\":\"c1\"}},{\"downwardAPI\":{}}]}}],\"containers\":[{"
			    "\"envFrom\":[{\"configMapRef\":{\"name\":\"c2\"}}],\"env\":[{\"name\":\"E\",\"valueFrom\":"
			    "{\"secretKeyRef\":{\"name\":\"s2\",\"key\":\"k\"}}}]}],\"imagePullSecrets\":[{\"name\":\"s3\"}]}"),
			0, &spec, NULL),
		0);
	assert_true(volumes_refers_to(spec, true, STR("s1")));
	assert_true(volumes_refers_to(spec, true, STR("s2")));
	assert_true(volumes_refers_to(spec, true, STR("s3")));
	assert_true(volumes_refers_to(spec, false, STR("c1")));
	assert_true(volumes_refers_to(spec, false, STR("c2")));
	assert_false(volumes_refers_to(spec, false, STR("s1")));
	assert_false(volumes_refers_to(spec, true, STR("c2")));
	assert_true(volumes_has_downward(spec));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_writer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_mode_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_subpath, setup, teardown),
		cmocka_unit_test(test_refers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
