/* SPDX-License-Identifier: Apache-2.0 */
/* Import of docker-archive (docker save) and oci-archive tars, also compressed. The file is read in passes
 * (small documents first, then every layer in one go, as they come), so nothing is written twice.
 * Blocking; any thread. */
#include <errno.h>
#include <stdio.h>

#include "kubelet/images/lazy.h"
#include "kubelet/images/store.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define IMPORT_BLOCK (256u << 10)
#define IMPORT_IMAGES_MAX 64
#define IMPORT_LINKS_MAX 4096
#define IMPORT_NAMES_MAX 64

/* A layer as the archive names it; several images may share one. */
struct import_layer {
	char *path;      /* inside the archive */
	struct str blob; /* hex, or empty: unknown (docker-archive) */
	struct str diff; /* hex */
	bool done;
};

struct import_image {
	struct str config, manifest; /* bytes */
	const char **names;          /* normalised, NULL-terminated */
	char *repo_digest;
};

struct import {
	struct images *images;
	const char *file;
	struct arena *arena;
	struct json *links; /* path -> path: docker save once made symbolic links of equal layers */
	struct import_layer layers[IMPORT_IMAGES_MAX * 8];
	size_t n_layers;
	struct import_image list[IMPORT_IMAGES_MAX];
	size_t n_images;
	images_progress_fn *progress;
	void *progress_arg;
};

/* ---- passes over the file ---- */

static int open_file(const char *file, struct archive **ret, struct err *err)
{
	struct archive *a;
	int r = lazy_archive(err);

	if (r < 0)
		return r;
	a = sym_archive_read_new();
	sym_archive_read_support_filter_gzip(a);
	sym_archive_read_support_filter_zstd(a);
	sym_archive_read_support_format_tar(a);
	if (sym_archive_read_open_filename(a, file, IMPORT_BLOCK) != ARCHIVE_OK) {
		r = sym_archive_errno(a) == ENOENT ? -ENOENT : -EINVAL;
		err_set(err, r, "%s: %s", file, sym_archive_error_string(a));
		sym_archive_read_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

static const char *strip(const char *path)
{
	while (path && path[0] == '.' && path[1] == '/')
		path += 2;
	return path ? path : "";
}

static int read_small(struct archive *a, struct archive_entry *entry, struct buf *ret, struct err *err)
{
	la_ssize_t n;

	if (sym_archive_entry_size(entry) > STORE_JSON_MAX)
		return err_set(err, -EFBIG, "%s is larger than %u bytes", sym_archive_entry_pathname(entry),
			       STORE_JSON_MAX);
	do {
		n = sym_archive_read_data(a, buf_reserve(ret, 64u << 10), 64u << 10);
		if (n < 0)
			return err_set(err, -EBADMSG, "archive is damaged: %s", sym_archive_error_string(a));
		buf_commit(ret, (size_t)n);
	} while (n > 0 && buf_len(ret) <= STORE_JSON_MAX);
	return 0;
}

/* Reads the named regular files that are there; absent ones stay as they are. One pass. */
static int fetch(struct import *im, const char *const *paths, struct str *ret, size_t n, struct err *err)
{
	struct archive_entry *entry;
	struct archive *a;
	int r = open_file(im->file, &a, err);

	if (r < 0)
		return r;
	while ((r = sym_archive_read_next_header(a, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		const char *path = strip(sym_archive_entry_pathname(entry));

		if (sym_archive_entry_filetype(entry) == AE_IFLNK && sym_archive_entry_symlink(entry) &&
		    json_count(im->links) < IMPORT_LINKS_MAX)
			json_set(im->links, arena_strdup(im->arena, path),
				 json_new_cstr(im->arena, arena_strdup(im->arena, sym_archive_entry_symlink(entry))));
		for (size_t i = 0; i < n; i++) {
			_cleanup_buf_ struct buf text = BUF_INIT;

			if (strcmp(path, paths[i]) != 0 || sym_archive_entry_filetype(entry) != AE_IFREG || ret[i].p)
				continue;
			r = read_small(a, entry, &text, err);
			if (r < 0)
				goto out;
			ret[i] = arena_str(im->arena, buf_str(&text));
			if (!ret[i].p)
				ret[i] = STR("");
		}
	}
	r = r == ARCHIVE_EOF ? 0 : err_set(err, -EBADMSG, "%s: %s", im->file, sym_archive_error_string(a));
out:
	sym_archive_read_free(a);
	return r;
}

static int fetch_json(struct import *im, const char *path, struct str *ret_text, struct json **ret, struct err *err)
{
	struct str text = STR_NULL;
	int r = fetch(im, &path, &text, 1, err);

	if (r < 0)
		return r;
	if (!text.p)
		return err_set(err, -EINVAL, "archive has no %s", path);
	*ret_text = text;
	r = json_parse(im->arena, text, 0, ret, err);
	return r < 0 ? err_wrap(err, r, "%s", path) : 0;
}

/* An OCI blob, its digest checked. */
static int fetch_blob(struct import *im, struct str digest, struct str *ret_text, struct json **ret, struct err *err)
{
	char got[STORE_HEX_LEN + 1];
	struct str hex;
	int r;

	if (store_digest_hex(digest, &hex) < 0)
		return err_set(err, -EINVAL, "malformed digest \"%.*s\"", STR_ARG(digest));
	r = fetch_json(im, arena_printf(im->arena, "blobs/sha256/%.*s", STR_ARG(hex)), ret_text, ret, err);
	if (r < 0)
		return r;
	sha256_hex(ret_text->p, ret_text->n, got);
	if (!str_is(hex, got))
		return err_set(err, -EBADMSG, "blob sha256:%.*s holds sha256:%s", STR_ARG(hex), got);
	return 0;
}

/* ---- what the documents say ---- */

/* "a/b/layer.tar" -> "../c/layer.tar" becomes "a/c/layer.tar"; unresolvable links stay and are not found. */
static const char *follow_link(struct import *im, const char *path)
{
	struct str target = json_get_str(im->links, path);
	const char *slash = strrchr(path, '/');
	size_t dir = slash ? (size_t)(slash - path) : 0;

	if (!target.n)
		return path;
	while (str_starts(target, STR("../"))) {
		target = str_make(target.p + 3, target.n - 3);
		while (dir && path[dir - 1] != '/')
			dir--;
		if (dir)
			dir--;
	}
	return dir ? arena_printf(im->arena, "%.*s/%.*s", (int)dir, path, STR_ARG(target))
		   : arena_printf(im->arena, "%.*s", STR_ARG(target));
}

static int want_layer(struct import *im, const char *path, struct str blob, struct str diff, struct err *err)
{
	for (size_t i = 0; i < im->n_layers; i++)
		if (str_eq(im->layers[i].diff, diff))
			return 0;
	if (im->n_layers >= ARRAY_SIZE(im->layers))
		return err_set(err, -E2BIG, "archive has more than %zu layers", ARRAY_SIZE(im->layers));
	im->layers[im->n_layers++] = (struct import_layer){
		.path = arena_strdup(im->arena, path),
		.blob = blob,
		.diff = diff,
	};
	return 0;
}

static int new_image(struct import *im, struct import_image **ret, struct err *err)
{
	if (im->n_images >= IMPORT_IMAGES_MAX)
		return err_set(err, -E2BIG, "archive has more than %d images", IMPORT_IMAGES_MAX);
	*ret = &im->list[im->n_images++];
	(*ret)->names = arena_new_array(im->arena, const char *, IMPORT_NAMES_MAX + 1);
	return 0;
}

static int add_name(struct import *im, struct import_image *image, const char *name, struct err *err)
{
	char *normal;
	size_t n = 0;
	int r;

	while (image->names[n])
		n++;
	if (n >= IMPORT_NAMES_MAX)
		return err_set(err, -E2BIG, "image has more than %d names", IMPORT_NAMES_MAX);
	r = images_normalize(name, im->arena, &normal, err);
	if (r >= 0)
		image->names[n] = normal;
	return r;
}

/* An image that no one named is found by its id. */
static void name_by_id(struct import *im, struct import_image *image)
{
	char hex[STORE_HEX_LEN + 1];

	if (image->names[0])
		return;
	sha256_hex(image->config.p, image->config.n, hex);
	image->names[0] = arena_printf(im->arena, "sha256:%s", hex);
}

static int plan_docker_image(struct import *im, const struct json *item, const char *override, struct err *err)
{
	struct str config_path = json_get_str(item, "Config"), *diffs;
	const struct json *layers = json_get(item, "Layers");
	struct import_image *image = NULL;
	struct json *config;
	size_t n, i = 0;
	int r = new_image(im, &image, err);

	if (r >= 0)
		r = fetch_json(im, arena_strndup(im->arena, config_path.p, config_path.n), &image->config, &config,
			       err);
	if (r >= 0)
		r = store_config_layers(config, im->arena, &diffs, &n, err);
	if (r < 0)
		return r;
	if (json_count(layers) != n)
		return err_set(err, -EINVAL, "manifest.json lists %zu layers, the config %zu", json_count(layers), n);
	json_foreach(v, layers) {
		struct str path = json_str(v);

		r = want_layer(im, follow_link(im, arena_strndup(im->arena, path.p, path.n)), STR_NULL, diffs[i++],
			       err);
		if (r < 0)
			return r;
	}
	if (override) {
		r = add_name(im, image, override, err);
	} else {
		json_foreach(v, json_get(item, "RepoTags")) {
			struct str tag = json_str(v);

			r = add_name(im, image, arena_strndup(im->arena, tag.p, tag.n), err);
			if (r < 0)
				return r;
		}
	}
	name_by_id(im, image);
	return r;
}

static int plan_docker(struct import *im, struct str text, const char *override, struct err *err)
{
	struct json *manifest;
	int r = json_parse(im->arena, text, 0, &manifest, err);

	if (r < 0)
		return err_wrap(err, r, "manifest.json");
	if (!json_is(manifest, JSON_ARRAY) || !json_count(manifest))
		return err_set(err, -EINVAL, "manifest.json lists no image");
	json_foreach(item, manifest) {
		r = plan_docker_image(im, item, im->n_images ? NULL : override, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int plan_oci_layers(struct import *im, const struct json *manifest, struct import_image *image, struct err *err)
{
	const struct json *layers = json_get(manifest, "layers");
	struct str *diffs, hex;
	struct json *config;
	size_t n, i = 0;
	int r = fetch_blob(im, json_at_str(manifest, "config.digest"), &image->config, &config, err);

	if (r >= 0)
		r = store_config_layers(config, im->arena, &diffs, &n, err);
	if (r < 0)
		return r;
	if (json_count(layers) != n)
		return err_set(err, -EINVAL, "manifest lists %zu layers, the config %zu", json_count(layers), n);
	json_foreach(v, layers) {
		if (store_digest_hex(json_get_str(v, "digest"), &hex) < 0)
			return err_set(err, -EINVAL, "manifest has a malformed layer digest");
		r = want_layer(im, arena_printf(im->arena, "blobs/sha256/%.*s", STR_ARG(hex)), hex, diffs[i++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* containerd writes the full name into its own annotation, others into ref.name, some only a tag. */
static struct str oci_name(const struct json *descriptor)
{
	const struct json *annotations = json_get(descriptor, "annotations");
	struct str name = json_get_str(annotations, "io.containerd.image.name");

	return name.n ? name : json_get_str(annotations, "org.opencontainers.image.ref.name");
}

static int plan_oci_image(struct import *im, const struct json *descriptor, const char *override, struct err *err)
{
	struct str digest = json_get_str(descriptor, "digest"), name = oci_name(descriptor);
	struct import_image *image = NULL;
	struct json *document;
	int r = new_image(im, &image, err);

	for (int depth = 0; r >= 0; depth++) {
		r = fetch_blob(im, digest, &image->manifest, &document, err);
		if (r < 0 || !json_get(document, "manifests"))
			break;
		descriptor = store_index_choose(document);
		if (!descriptor || depth >= STORE_INDEX_DEPTH_MAX)
			return err_set(err, -ENOENT, "image has nothing for linux/%s", store_architecture());
		digest = json_get_str(descriptor, "digest");
	}
	if (r >= 0)
		r = plan_oci_layers(im, document, image, err);
	if (r >= 0 && (override || name.n))
		r = add_name(im, image, override ? override : arena_strndup(im->arena, name.p, name.n), err);
	if (r >= 0)
		name_by_id(im, image);
	return r;
}

static int plan_oci(struct import *im, struct str text, const char *override, struct err *err)
{
	struct json *index;
	int r = json_parse(im->arena, text, 0, &index, err);

	if (r < 0)
		return err_wrap(err, r, "index.json");
	if (!json_count(json_get(index, "manifests")))
		return err_set(err, -EINVAL, "index.json lists no image");
	/* Several platforms of one image, or several images: names tell. */
	if (json_count(json_get(index, "manifests")) > 1 && !oci_name(json_first(json_get(index, "manifests"))).n) {
		const struct json *mine = store_index_choose(index);

		if (!mine)
			return err_set(err, -ENOENT, "image has nothing for linux/%s", store_architecture());
		return plan_oci_image(im, mine, override, err);
	}
	json_foreach(descriptor, json_get(index, "manifests")) {
		r = plan_oci_image(im, descriptor, im->n_images ? NULL : override, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- layers ---- */

struct entry_source {
	struct layer_source source;
	struct archive *a;
	char *block;
};

static ssize_t read_entry(struct layer_source *source, const void **ret, struct err *err)
{
	struct entry_source *s = container_of(source, struct entry_source, source);
	la_ssize_t n = sym_archive_read_data(s->a, s->block, IMPORT_BLOCK);

	if (n < 0)
		return err_set(err, -EBADMSG, "archive is damaged: %s", sym_archive_error_string(s->a));
	*ret = s->block;
	return n;
}

static void report(struct import *im, size_t done)
{
	char text[64];

	if (!im->progress)
		return;
	snprintf(text, sizeof(text), "layer %zu/%zu", done, im->n_layers);
	im->progress(im->progress_arg, text);
}

static int unpack_layers(struct import *im, struct store_add *add, struct err *err)
{
	_cleanup_free_ char *block = mem_alloc(IMPORT_BLOCK);
	struct archive_entry *entry;
	struct archive *a;
	size_t done = 0;
	int r = open_file(im->file, &a, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < im->n_layers; i++)
		im->layers[i].done = store_add_has(add, im->layers[i].diff);
	while ((r = sym_archive_read_next_header(a, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		const char *path = strip(sym_archive_entry_pathname(entry));

		for (size_t i = 0; i < im->n_layers; i++) {
			struct entry_source source = { .source.read = read_entry, .a = a, .block = block };
			struct import_layer *layer = &im->layers[i];

			if (layer->done || strcmp(layer->path, path) != 0 ||
			    sym_archive_entry_filetype(entry) != AE_IFREG)
				continue;
			report(im, ++done);
			r = layer_unpack(add, &source.source, layer->blob, layer->diff, err);
			if (r < 0)
				goto out;
			layer->done = true;
			break;
		}
	}
	r = r == ARCHIVE_EOF ? 0 : err_set(err, -EBADMSG, "%s: %s", im->file, sym_archive_error_string(a));
	for (size_t i = 0; r >= 0 && i < im->n_layers; i++)
		if (!im->layers[i].done)
			r = err_set(err, -EINVAL, "archive has no layer %s", im->layers[i].path);
out:
	sym_archive_read_free(a);
	return r;
}

static int plan(struct import *im, const char *override, struct err *err)
{
	static const char *const heads[] = { "manifest.json", "index.json" };
	struct str texts[2] = { STR_NULL, STR_NULL };
	int r = fetch(im, heads, texts, ARRAY_SIZE(heads), err);

	if (r < 0)
		return r;
	if (texts[0].p)
		return plan_docker(im, texts[0], override, err);
	if (texts[1].p)
		return plan_oci(im, texts[1], override, err);
	return err_set(err, -EINVAL, "%s is neither a docker-archive nor an oci-archive", im->file);
}

int images_import(struct images *images, const char *file, const char *name_override, images_progress_fn *progress,
		  void *arg, struct arena *arena, struct image *ret, struct err *err)
{
	struct store_add add;
	struct import *im;
	struct image image;
	int r;

	r = store_add_begin(images, &add, err);
	if (r < 0)
		return r;
	im = mem_new(struct import);
	*im = (struct import){
		.images = images,
		.file = file,
		.arena = arena,
		.links = json_new_object(arena),
		.progress = progress,
		.progress_arg = arg,
	};
	r = plan(im, name_override, err);
	if (r >= 0)
		r = unpack_layers(im, &add, err);
	for (size_t i = 0; r >= 0 && i < im->n_images; i++) {
		struct image *to = i == 0 ? ret : &image;

		r = store_add_publish(&add, im->list[i].config, im->list[i].manifest, im->list[i].names,
				      im->list[i].repo_digest, arena, to, err);
		for (size_t k = 0; r >= 0 && k < add.n_layers; k++) {
			free(add.layers[k].tmp);
			add.layers[k].tmp = NULL;
		}
		if (r >= 0)
			add.n_layers = 0;
	}
	store_add_finish(&add);
	free(im);
	return r;
}
