/* SPDX-License-Identifier: Apache-2.0 */
/* Images made by the tests themselves: layers as tars in memory, wrapped as docker-archive or oci-archive. The
 * busybox image holds this machine's static busybox, so nothing is downloaded. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kubelet/images/images.h"
#include "userspace/base/buf.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

struct fixture_entry {
	const char *path;
	mode_t type; /* S_IFREG ... */
	mode_t mode;
	const char *text; /* file's content, link's target */
	const char *from; /* or the content of this host file */
	bool hardlink;
	int major, minor, uid, gid;
};

static inline la_ssize_t fixture_write(struct archive *a, void *arg, const void *p, size_t n)
{
	buf_add(arg, p, n);
	return (la_ssize_t)n;
}

static inline void fixture_tar(const struct fixture_entry *entries, size_t n, bool gzip, struct buf *out)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	if (gzip)
		archive_write_add_filter_gzip(a);
	archive_write_set_bytes_in_last_block(a, 1);
	archive_write_open(a, out, NULL, fixture_write, NULL);
	for (size_t i = 0; i < n; i++) {
		struct archive_entry *e = archive_entry_new();
		_cleanup_buf_ struct buf content = BUF_INIT;

		if (entries[i].from)
			fs_read(entries[i].from, 64u << 20, &content, NULL);
		else if (entries[i].text)
			buf_add_cstr(&content, entries[i].text);
		archive_entry_set_pathname(e, entries[i].path);
		archive_entry_set_filetype(e, entries[i].type ? entries[i].type : S_IFREG);
		archive_entry_set_perm(e, entries[i].mode ? entries[i].mode : 0644);
		archive_entry_set_uid(e, entries[i].uid);
		archive_entry_set_gid(e, entries[i].gid);
		if (entries[i].hardlink)
			archive_entry_set_hardlink(e, entries[i].text);
		else if (entries[i].type == S_IFLNK)
			archive_entry_set_symlink(e, entries[i].text);
		else if (entries[i].type == S_IFCHR || entries[i].type == S_IFBLK) {
			archive_entry_set_rdevmajor(e, (dev_t)entries[i].major);
			archive_entry_set_rdevminor(e, (dev_t)entries[i].minor);
		} else if (!entries[i].type || entries[i].type == S_IFREG) {
			archive_entry_set_size(e, (la_int64_t)buf_len(&content));
		}
		archive_write_header(a, e);
		if (archive_entry_size_is_set(e) && buf_len(&content))
			archive_write_data(a, content.data + content.start, buf_len(&content));
		archive_entry_free(e);
	}
	archive_write_close(a);
	archive_write_free(a);
}

struct fixture_layer {
	struct buf tar; /* as it stands in the archive, perhaps compressed */
	char diff_id[SHA256_HEX_LEN + 1], digest[SHA256_HEX_LEN + 1];
};

static inline void fixture_layer(struct fixture_layer *layer, const struct fixture_entry *entries, size_t n, bool gzip)
{
	_cleanup_buf_ struct buf plain = BUF_INIT;

	layer->tar = BUF_INIT;
	fixture_tar(entries, n, false, &plain);
	sha256_hex(buf_str(&plain).p, buf_len(&plain), layer->diff_id);
	if (gzip)
		fixture_tar(entries, n, true, &layer->tar);
	else
		buf_add_str(&layer->tar, buf_str(&plain));
	sha256_hex(buf_str(&layer->tar).p, buf_len(&layer->tar), layer->digest);
}

static inline void fixture_add_file(struct archive *a, const char *path, struct str text)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, path);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, (la_int64_t)text.n);
	archive_write_header(a, e);
	archive_write_data(a, text.p, text.n);
	archive_entry_free(e);
}

/* The config blob; `run` is the content of "config" ({"Cmd":[...]}). */
static inline void fixture_config(const struct fixture_layer *layers, size_t n, const char *run, struct buf *out)
{
	buf_printf(out,
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":%s,\"rootfs\":{\"type\":\"layers\","
		   "\"diff_ids\":[",
		   run);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s\"sha256:%s\"", i ? "," : "", layers[i].diff_id);
	buf_add_cstr(out, "]}}");
}

static inline struct archive *fixture_open(const char *file, int filter)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	if (filter == ARCHIVE_FILTER_GZIP)
		archive_write_add_filter_gzip(a);
	if (filter == ARCHIVE_FILTER_ZSTD)
		archive_write_add_filter_zstd(a);
	archive_write_open_filename(a, file);
	return a;
}

static inline void fixture_docker(const char *file, const struct fixture_layer *layers, size_t n, const char *run,
				  const char *tag, int filter)
{
	_cleanup_buf_ struct buf config = BUF_INIT, manifest = BUF_INIT;
	char hex[SHA256_HEX_LEN + 1], path[256];
	struct archive *a = fixture_open(file, filter);

	fixture_config(layers, n, run, &config);
	sha256_hex(buf_str(&config).p, buf_len(&config), hex);
	snprintf(path, sizeof(path), "%s.json", hex);
	fixture_add_file(a, path, buf_str(&config));
	buf_printf(&manifest, "[{\"Config\":\"%s.json\",\"RepoTags\":[\"%s\"],\"Layers\":[", hex, tag);
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/layer.tar", layers[i].diff_id);
		fixture_add_file(a, path, buf_str(&layers[i].tar));
		buf_printf(&manifest, "%s\"%s\"", i ? "," : "", path);
	}
	buf_add_cstr(&manifest, "]}]");
	fixture_add_file(a, "manifest.json", buf_str(&manifest));
	archive_write_close(a);
	archive_write_free(a);
}

static inline void fixture_oci_manifest(const struct fixture_layer *layers, size_t n, const struct buf *config,
					struct buf *out)
{
	char hex[SHA256_HEX_LEN + 1];

	sha256_hex(buf_str(config).p, buf_len(config), hex);
	buf_printf(out,
		   "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{"
		   "\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:%s\",\"size\":%zu},"
		   "\"layers\":[",
		   hex, buf_len(config));
	for (size_t i = 0; i < n; i++)
		buf_printf(out,
			   "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":"
			   "\"sha256:%s\",\"size\":%zu}",
			   i ? "," : "", layers[i].digest, buf_len(&layers[i].tar));
	buf_add_cstr(out, "]}");
}

static inline void fixture_oci(const char *file, const struct fixture_layer *layers, size_t n, const char *run,
			       const char *name, int filter)
{
	_cleanup_buf_ struct buf config = BUF_INIT, manifest = BUF_INIT, index = BUF_INIT;
	char hex[SHA256_HEX_LEN + 1], path[128];
	struct archive *a = fixture_open(file, filter);

	fixture_config(layers, n, run, &config);
	sha256_hex(buf_str(&config).p, buf_len(&config), hex);
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex);
	fixture_add_file(a, path, buf_str(&config));
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "blobs/sha256/%s", layers[i].digest);
		fixture_add_file(a, path, buf_str(&layers[i].tar));
	}
	fixture_oci_manifest(layers, n, &config, &manifest);
	sha256_hex(buf_str(&manifest).p, buf_len(&manifest), hex);
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex);
	fixture_add_file(a, path, buf_str(&manifest));
	fixture_add_file(a, "oci-layout", STR("{\"imageLayoutVersion\":\"1.0.0\"}"));
	buf_printf(&index,
		   "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
		   "\"digest\":\"sha256:%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":"
		   "\"%s\"}}]}",
		   hex, buf_len(&manifest), name);
	fixture_add_file(a, "index.json", buf_str(&index));
	archive_write_close(a);
	archive_write_free(a);
}

static inline const char *fixture_busybox_path(void)
{
	return fs_exists("/bin/busybox") ? "/bin/busybox" : "/usr/bin/busybox";
}

static inline void fixture_busybox_layer(struct fixture_layer *layer, bool gzip)
{
	const struct fixture_entry entries[] = {
		{ .path = "bin", .type = S_IFDIR, .mode = 0755 },
		{ .path = "bin/busybox", .mode = 0755, .from = fixture_busybox_path() },
		{ .path = "bin/sh", .type = S_IFLNK, .text = "busybox" },
		{ .path = "bin/sleep", .type = S_IFLNK, .text = "busybox" },
		{ .path = "bin/cat", .type = S_IFLNK, .text = "busybox" },
		{ .path = "bin/hardlinked", .text = "bin/busybox", .hardlink = true },
		{ .path = "tmp", .type = S_IFDIR, .mode = 01777 },
		{ .path = "etc", .type = S_IFDIR, .mode = 0755 },
		{ .path = "etc/passwd", .text = "root:x:0:0:root:/root:/bin/sh\nweb:x:1234:1235:web:/srv:/bin/sh\n" },
		{ .path = "etc/group", .text = "root:x:0:\nweb:x:1235:\nextra:x:1300:web\n" },
	};

	fixture_layer(layer, entries, ARRAY_SIZE(entries), gzip);
}

static inline int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static inline void fixture_remove(const char *dir)
{
	nftw(dir, fixture_unlink, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
