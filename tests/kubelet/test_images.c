/* SPDX-License-Identifier: Apache-2.0 */
/* The image store: both archive formats, compression, sharing, removal, and everything a hostile layer may try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/kubelet/test_images_fixture.h"

struct state {
	char dir[64], file[96];
	struct images *images;
};

static int setup(void **ret)
{
	struct state *s = mem_new(struct state);
	struct err err = ERR_INIT;
	char store[96];

	strcpy(s->dir, "/tmp/k3c-images-XXXXXX");
	if (!mkdtemp(s->dir))
		return -1;
	snprintf(s->file, sizeof(s->file), "%s/image.tar", s->dir);
	snprintf(store, sizeof(store), "%s/store", s->dir);
	if (images_open(store, &s->images, &err) < 0) {
		print_error("%s\n", err_message(&err));
		return -1;
	}
	*ret = s;
	return 0;
}

static int teardown(void **ret)
{
	struct state *s = *ret;

	images_close(s->images);
	fixture_remove(s->dir);
	free(s);
	return 0;
}

static size_t count_entries(const struct state *s, const char *folder)
{
	_cleanup_free_ char *path = mem_printf("%s/store/%s", s->dir, folder);
	struct dirent *e;
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void import_ok(struct state *s, struct arena *arena, struct image *ret)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = images_import(s->images, s->file, NULL, NULL, NULL, arena, ret, &err);

	if (r < 0)
		print_error("%s\n", err_message(&err));
	assert_int_equal(r, 0);
}

static void check_busybox(struct state *s, struct image *image)
{
	_cleanup_free_ char *path = mem_printf("%s/bin/busybox", image->layer_dirs[0]);
	_cleanup_free_ char *linked = mem_printf("%s/bin/hardlinked", image->layer_dirs[0]);
	struct stat a, b;

	assert_string_equal(image->cmd[0], "sh");
	assert_null(image->cmd[1]);
	assert_string_equal(image->env[0], "A=b");
	assert_int_equal(lstat(path, &a), 0);
	assert_int_equal(a.st_mode & 07777, 0755);
	assert_int_equal(lstat(linked, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_true(image->size_bytes > (uint64_t)a.st_size);
	assert_int_equal(count_entries(s, "tmp"), 0);
}

static const char run[] = "{\"Cmd\":[\"sh\"],\"Env\":[\"A=b\"],\"WorkingDir\":\"/tmp\"}";

static void import_format(struct state *s, bool oci, bool gzip_layer, int filter)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct fixture_layer layer;
	struct image image, again;

	fixture_busybox_layer(&layer, gzip_layer);
	if (oci)
		fixture_oci(s->file, &layer, 1, run, "demo/busybox:v1", filter);
	else
		fixture_docker(s->file, &layer, 1, run, "demo/busybox:v1", filter);
	import_ok(s, &arena, &image);
	assert_string_equal(image.reference, "docker.io/demo/busybox:v1");
	check_busybox(s, &image);
	assert_int_equal(images_lookup(s->images, "demo/busybox:v1", &arena, &again, NULL), 0);
	assert_string_equal(image.id, again.id);
	assert_int_equal(images_lookup(s->images, image.id, &arena, &again, NULL), 0);
	buf_finish(&layer.tar);
}

static void test_docker(void **state)
{
	import_format(*state, false, false, 0);
}

static void test_docker_gzip(void **state)
{
	import_format(*state, false, false, ARCHIVE_FILTER_GZIP);
}

static void test_oci(void **state)
{
	import_format(*state, true, true, 0);
}

static void test_oci_zstd(void **state)
{
	import_format(*state, true, true, ARCHIVE_FILTER_ZSTD);
}

static int import_fails(struct state *s, const char *expected)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct image image;
	int r = images_import(s->images, s->file, NULL, NULL, NULL, &arena, &image, &err);

	assert_true(r < 0);
	if (!strstr(err_message(&err), expected))
		print_error("message: %s\n", err_message(&err));
	assert_non_null(strstr(err_message(&err), expected));
	assert_int_equal(count_entries(s, "tmp"), 0);
	assert_int_equal(count_entries(s, "layers"), 0);
	assert_int_equal(images_lookup(s->images, "demo/bad:v1", &arena, &image, NULL), -ENOENT);
	return r;
}

static void refuse_entries(struct state *s, const struct fixture_entry *entries, size_t n, const char *expected)
{
	struct fixture_layer layer;

	fixture_layer(&layer, entries, n, false);
	fixture_docker(s->file, &layer, 1, "{}", "demo/bad:v1", 0);
	import_fails(s, expected);
	buf_finish(&layer.tar);
}

static void test_dotdot(void **state)
{
	const struct fixture_entry entries[] = { { .path = "ok", .text = "1" },
						 { .path = "../../../tmp/k3c-escaped", .text = "x" } };

	refuse_entries(*state, entries, 2, "would leave the layer");
	assert_false(fs_exists("/tmp/k3c-escaped"));
}

static void test_devices(void **state)
{
	const struct fixture_entry chr[] = { { .path = "null", .type = S_IFCHR, .major = 1, .minor = 3 } };
	const struct fixture_entry blk[] = { { .path = "dev/sda", .type = S_IFBLK, .major = 8 } };

	refuse_entries(*state, chr, 1, "device node");
	refuse_entries(*state, blk, 1, "device node");
}

static void test_hardlink_escape(void **state)
{
	const struct fixture_entry up[] = { { .path = "shadow", .text = "../../../../etc/shadow", .hardlink = true } };
	const struct fixture_entry absolute[] = { { .path = "shadow", .text = "/etc/shadow", .hardlink = true } };

	refuse_entries(*state, up, 1, "outside of the layer");
	refuse_entries(*state, absolute, 1, "not there"); /* looked for inside of the layer */
}

static void test_symlink_escape(void **state)
{
	struct state *s = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_free_ char *outside = mem_printf("%s/outside", s->dir), *planted = mem_printf("%s/planted", outside);
	_cleanup_free_ char *inside = NULL;
	const struct fixture_entry entries[] = {
		{ .path = "deep", .type = S_IFDIR, .mode = 0755 },   { .path = "etc", .type = S_IFDIR, .mode = 0755 },
		{ .path = "link", .type = S_IFLNK, .text = "/etc" }, { .path = "link/planted", .text = "inside" },
		{ .path = "/absolute", .text = "inside" },
	};
	const struct fixture_entry evil[] = { { .path = "out", .type = S_IFLNK, .text = outside },
					      { .path = "out/planted", .text = "x" } };
	struct fixture_layer layer;
	struct image image;

	assert_int_equal(mkdir(outside, 0755), 0);
	fixture_layer(&layer, evil, 2, false);
	fixture_docker(s->file, &layer, 1, "{}", "demo/bad:v1", 0);
	images_import(s->images, s->file, NULL, NULL, NULL, &arena, &image, NULL);
	assert_false(fs_exists(planted));
	buf_finish(&layer.tar);
	fixture_layer(&layer, entries, ARRAY_SIZE(entries), false);
	fixture_docker(s->file, &layer, 1, "{}", "demo/links:v1", 0);
	import_ok(s, &arena, &image);
	inside = mem_printf("%s/etc/planted", image.layer_dirs[0]);
	assert_true(fs_exists(inside));
	assert_false(fs_exists("/etc/planted"));
	assert_false(fs_exists("/absolute"));
	buf_finish(&layer.tar);
}

static void test_corrupt(void **state)
{
	struct state *s = *state;
	struct fixture_layer layer;

	fixture_busybox_layer(&layer, false);
	layer.tar.data[layer.tar.start + 100000] ^= 1; /* inside of a file's bytes */
	fixture_docker(s->file, &layer, 1, "{}", "demo/bad:v1", 0);
	assert_int_equal(import_fails(s, "but the config says"), -EBADMSG);
	buf_finish(&layer.tar);
	fixture_busybox_layer(&layer, true);
	layer.tar.data[layer.tar.start + buf_len(&layer.tar) / 2] ^= 0x55; /* a damaged gzip stream */
	fixture_oci(s->file, &layer, 1, "{}", "demo/bad:v1", 0);
	assert_int_equal(import_fails(s, ""), -EBADMSG);
	buf_finish(&layer.tar);
}

static void test_whiteouts(void **state)
{
	struct state *s = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_free_ char *gone = NULL, *opaque = NULL;
	const struct fixture_entry lower[] = { { .path = "d", .type = S_IFDIR, .mode = 0755 },
					       { .path = "d/a", .text = "1" },
					       { .path = "gone", .text = "1" } };
	const struct fixture_entry upper[] = { { .path = ".wh.gone" },
					       { .path = "d", .type = S_IFDIR, .mode = 0755 },
					       { .path = "d/.wh..wh..opq" },
					       { .path = "d/b", .text = "2" } };
	struct fixture_layer layers[2];
	struct image image;
	struct stat st;
	char value[4];

	fixture_layer(&layers[0], lower, ARRAY_SIZE(lower), false);
	fixture_layer(&layers[1], upper, ARRAY_SIZE(upper), false);
	fixture_docker(s->file, layers, 2, "{}", "demo/white:v1", 0);
	import_ok(s, &arena, &image);
	gone = mem_printf("%s/gone", image.layer_dirs[1]);
	opaque = mem_printf("%s/d", image.layer_dirs[1]);
	assert_int_equal(lstat(gone, &st), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
	assert_int_equal(getxattr(opaque, "trusted.overlay.opaque", value, sizeof(value)), 1);
	assert_null(image.layer_dirs[2]);
	buf_finish(&layers[0].tar);
	buf_finish(&layers[1].tar);
}

static void test_shared_and_removed(void **state)
{
	struct state *s = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct fixture_entry top[] = { { .path = "top", .text = "1" } };
	struct fixture_layer layers[2];
	struct image_entry *list;
	struct image image;
	size_t n;

	fixture_busybox_layer(&layers[0], false);
	fixture_layer(&layers[1], top, 1, false);
	fixture_docker(s->file, layers, 1, "{}", "demo/one:v1", 0);
	import_ok(s, &arena, &image);
	fixture_docker(s->file, layers, 2, "{}", "demo/two:v1", 0);
	import_ok(s, &arena, &image);
	assert_int_equal(count_entries(s, "layers"), 4); /* two folders, two sizes */
	assert_int_equal(images_list(s->images, &arena, &list, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(images_remove(s->images, "demo/two:v1", NULL), 0);
	assert_int_equal(count_entries(s, "layers"), 2);
	assert_int_equal(images_lookup(s->images, "demo/one:v1", &arena, &image, NULL), 0);
	assert_int_equal(images_remove(s->images, "demo/one:v1", NULL), 0);
	assert_int_equal(images_remove(s->images, "demo/one:v1", NULL), -ENOENT);
	assert_int_equal(count_entries(s, "layers"), 0);
	assert_int_equal(count_entries(s, "blobs"), 0);
	buf_finish(&layers[0].tar);
	buf_finish(&layers[1].tar);
}

static void test_garbage(void **state)
{
	struct state *s = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct image image;
	FILE *f = fopen(s->file, "w");

	fputs("this is no archive", f);
	fclose(f);
	assert_true(images_import(s->images, s->file, NULL, NULL, NULL, &arena, &image, NULL) < 0);
	assert_int_equal(images_import(s->images, "/nonexistent", NULL, NULL, NULL, &arena, &image, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_docker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_docker_gzip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oci, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oci_zstd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dotdot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hardlink_escape, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symlink_escape, setup, teardown),
		cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whiteouts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_and_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
