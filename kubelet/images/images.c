/* SPDX-License-Identifier: Apache-2.0 */
/* The image store: opening, names, look-ups, removal. See store.h for the folder's shape. Any thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "kubelet/images/store.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

int images_open(const char *dir, struct images **ret, struct err *err)
{
	static const char *const folders[] = { "blobs", "layers", "tmp" };
	struct images *images;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, folders[i]);
		int r = fs_mkdirs(path, 0700, err);

		if (r < 0)
			return err_wrap(err, r, "image store");
	}
	images = mem_new(struct images);
	images->dir = mem_strdup(dir);
	images->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (images->dir_fd < 0) {
		int r = -errno;

		free(images->dir);
		free(images);
		return err_set(err, r, "image store %s: %s", dir, strerror(-r));
	}
	store_sweep(images);
	*ret = images;
	return 0;
}

void images_close(struct images *images)
{
	if (!images)
		return;
	close(images->dir_fd);
	free(images->dir);
	free(images);
}

/* ---- locks ---- */

static int open_lock(struct images *images, const char *name, int operation)
{
	int fd = openat(images->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	do
		r = flock(fd, operation);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int store_lock_shared(struct images *images, int *ret_fd, struct err *err)
{
	int fd = open_lock(images, "lock", LOCK_SH);

	if (fd < 0)
		return err_set(err, fd, "image store lock: %s", strerror(-fd));
	*ret_fd = fd;
	return 0;
}

/* ---- blobs ---- */

bool store_has_blob(struct images *images, struct str hex)
{
	char path[128];

	snprintf(path, sizeof(path), "blobs/%.*s", STR_ARG(hex));
	return faccessat(images->dir_fd, path, F_OK, 0) == 0;
}

bool store_has_layer(struct images *images, struct str hex)
{
	char path[128];

	snprintf(path, sizeof(path), "layers/%.*s", STR_ARG(hex));
	return faccessat(images->dir_fd, path, F_OK, 0) == 0;
}

int store_read_blob(struct images *images, struct str hex, struct buf *ret, struct err *err)
{
	char path[128];

	snprintf(path, sizeof(path), "blobs/%.*s", STR_ARG(hex));
	return fs_read_at(images->dir_fd, path, STORE_JSON_MAX, ret, err);
}

int store_write_blob(struct images *images, struct str bytes, char ret_hex[static STORE_HEX_LEN + 1], struct err *err)
{
	_cleanup_free_ char *path = NULL;

	sha256_hex(bytes.p, bytes.n, ret_hex);
	if (store_has_blob(images, str_of(ret_hex)))
		return 0;
	path = mem_printf("%s/blobs/%s", images->dir, ret_hex);
	return fs_write_atomic(path, bytes.p, bytes.n, 0600, err);
}

/* ---- names ---- */

/* names.json: {"reference": {"id": "sha256:..", "manifest": "sha256:..", "repoDigest": ".."}} */
static int read_names(struct images *images, struct arena *arena, struct json **ret, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *names;
	int r;

	r = fs_read_at(images->dir_fd, "names.json", STORE_NAMES_MAX, &text, NULL);
	if (r == -ENOENT) {
		*ret = json_new_object(arena);
		return 0;
	}
	if (r < 0)
		return err_set(err, r, "image names: %s", strerror(-r));
	r = json_parse(arena, arena_str(arena, buf_str(&text)), 0, &names, err);
	if (r < 0)
		return err_wrap(err, r, "image names");
	*ret = names;
	return 0;
}

static int write_names(struct images *images, const struct json *names, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_free_ char *path = mem_printf("%s/names.json", images->dir);

	json_write_pretty(&text, names);
	return fs_write_atomic(path, buf_str(&text).p, buf_len(&text), 0600, err);
}

/* ---- image configs ---- */

static char **copy_strings(const struct json *array, struct arena *arena)
{
	char **out = arena_new_array(arena, char *, json_count(array) + 1);
	size_t n = 0;

	json_foreach(v, array) {
		struct str s = json_str(v);

		out[n++] = arena_strndup(arena, s.p, s.n);
	}
	return out;
}

static char *copy_member(const struct json *object, const char *key, struct arena *arena)
{
	struct str s = json_get_str(object, key);

	return arena_strndup(arena, s.n ? s.p : "", s.n);
}

int store_config_layers(const struct json *config, struct arena *arena, struct str **ret, size_t *ret_n,
			struct err *err)
{
	const struct json *ids = json_at(config, "rootfs.diff_ids");
	struct str os = json_get_str(config, "os"), *hexes;
	size_t n = json_count(ids), i = 0;

	if (!json_is(config, JSON_OBJECT) || !json_is(ids, JSON_ARRAY))
		return err_set(err, -EINVAL, "image config has no rootfs.diff_ids");
	if (os.n && !str_is(os, "linux"))
		return err_set(err, -EINVAL, "image is for %.*s, not linux", STR_ARG(os));
	if (n > IMAGE_LAYERS_MAX)
		return err_set(err, -E2BIG, "image has %zu layers, at most %d are allowed", n, IMAGE_LAYERS_MAX);
	hexes = arena_new_array(arena, struct str, n + 1);
	json_foreach(v, ids)
		if (store_digest_hex(json_str(v), &hexes[i++]) < 0)
			return err_set(err, -EINVAL, "image config has a malformed diff_id");
	*ret = hexes;
	*ret_n = n;
	return 0;
}

static uint64_t layer_bytes(struct images *images, struct str hex)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[128];
	uint64_t bytes = 0;

	snprintf(path, sizeof(path), "layers/%.*s.size", STR_ARG(hex));
	if (fs_read_at(images->dir_fd, path, 64, &text, NULL) < 0)
		return 0;
	if (str_to_uint64(str_trim(buf_str(&text)), &bytes) < 0)
		return 0;
	return bytes;
}

static int load_image(struct images *images, const char *reference, const struct json *name, struct arena *arena,
		      struct image *ret, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *config;
	const struct json *run, *list;
	struct str hex, *layers;
	size_t n;
	int r;

	if (store_digest_hex(json_get_str(name, "id"), &hex) < 0)
		return err_set(err, -EBADMSG, "image \"%s\": names.json is damaged", reference);
	r = store_read_blob(images, hex, &text, err);
	if (r >= 0)
		r = json_parse(arena, arena_str(arena, buf_str(&text)), 0, &config, err);
	if (r >= 0)
		r = store_config_layers(config, arena, &layers, &n, err);
	if (r < 0)
		return err_wrap(err, r, "image \"%s\"", reference);
	run = json_get(config, "config");
	*ret = (struct image){
		.id = copy_member(name, "id", arena),
		.reference = arena_strdup(arena, reference),
		.repo_digest = copy_member(name, "repoDigest", arena),
		.env = copy_strings(json_get(run, "Env"), arena),
		.working_dir = copy_member(run, "WorkingDir", arena),
		.user = copy_member(run, "User", arena),
		.stop_signal = copy_member(run, "StopSignal", arena),
		.layer_dirs = arena_new_array(arena, char *, n + 1),
		.size_bytes = text.end - text.start,
	};
	list = json_get(run, "Entrypoint");
	ret->entrypoint = json_is(list, JSON_ARRAY) ? copy_strings(list, arena) : NULL;
	list = json_get(run, "Cmd");
	ret->cmd = json_is(list, JSON_ARRAY) ? copy_strings(list, arena) : NULL;
	for (size_t i = 0; i < n; i++) {
		ret->layer_dirs[i] = arena_printf(arena, "%s/layers/%.*s", images->dir, STR_ARG(layers[i]));
		ret->size_bytes += layer_bytes(images, layers[i]);
	}
	return 0;
}

/* By name, by image id, or by a repository digest that a tag was pulled with. */
static const struct json *find_name(const struct json *names, const char *reference, const char **ret_reference)
{
	struct str wanted = str_of(reference), hex;

	json_foreach(v, names) {
		bool hit = str_eq(v->key, wanted) || str_eq(json_get_str(v, "repoDigest"), wanted) ||
			   (store_digest_hex(wanted, &hex) == 0 && str_eq(json_get_str(v, "id"), wanted));
		if (hit) {
			*ret_reference = reference;
			return v;
		}
	}
	return NULL;
}

static int normalize_or_id(const char *reference, struct arena *arena, char **ret, struct err *err)
{
	struct str hex;

	if (store_digest_hex(str_of(reference), &hex) == 0) {
		*ret = arena_strdup(arena, reference);
		return 0;
	}
	return images_normalize(reference, arena, ret, err);
}

int images_lookup(struct images *images, const char *reference, struct arena *arena, struct image *ret, struct err *err)
{
	const struct json *name;
	const char *found;
	struct json *names;
	char *normal;
	int r;

	r = normalize_or_id(reference, arena, &normal, err);
	if (r < 0)
		return r;
	r = read_names(images, arena, &names, err);
	if (r < 0)
		return r;
	name = find_name(names, normal, &found);
	if (!name)
		return err_set(err, -ENOENT, "image \"%s\" is not present", normal);
	return load_image(images, found, name, arena, ret, err);
}

int images_list(struct images *images, struct arena *arena, struct image_entry **ret, size_t *ret_n, struct err *err)
{
	struct image_entry *entries;
	struct json *names;
	size_t n = 0;
	int r;

	r = read_names(images, arena, &names, err);
	if (r < 0)
		return r;
	entries = arena_new_array(arena, struct image_entry, json_count(names) + 1);
	json_foreach(v, names) {
		struct image_entry *entry = NULL;
		struct str id = json_get_str(v, "id"), digest = json_get_str(v, "repoDigest");
		size_t at = 0;

		for (size_t i = 0; i < n; i++)
			if (str_is(id, entries[i].id))
				entry = &entries[i];
		if (!entry) {
			struct image image;

			if (load_image(images, "", v, arena, &image, NULL) < 0)
				continue;
			entry = &entries[n++];
			entry->id = image.id;
			entry->size_bytes = image.size_bytes;
			entry->references = arena_new_array(arena, char *, 2 * json_count(names) + 1);
		}
		while (entry->references[at])
			at++;
		entry->references[at++] = arena_strndup(arena, v->key.p, v->key.n);
		if (digest.n && !str_eq(digest, v->key))
			entry->references[at++] = arena_strndup(arena, digest.p, digest.n);
	}
	*ret = entries;
	*ret_n = n;
	return 0;
}

int images_remove(struct images *images, const char *reference, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_close_ int lock = -1;
	struct json *names;
	const char *found;
	struct str hex;
	char *normal;
	bool any = false;
	int r;

	r = normalize_or_id(reference, &arena, &normal, err);
	if (r < 0)
		return r;
	lock = open_lock(images, "names.lock", LOCK_EX);
	if (lock < 0)
		return err_set(err, lock, "image store lock: %s", strerror(-lock));
	r = read_names(images, &arena, &names, err);
	if (r < 0)
		return r;
	for (;;) {
		const struct json *name = find_name(names, normal, &found);

		if (!name)
			break;
		json_unlink(names, (struct json *)name);
		any = true;
		if (store_digest_hex(str_of(normal), &hex) < 0 && !strchr(normal, '@'))
			break;
	}
	if (!any)
		return err_set(err, -ENOENT, "image \"%s\" is not present", normal);
	r = write_names(images, names, err);
	if (r < 0)
		return r;
	store_sweep(images);
	return 0;
}

/* ---- the sweep ---- */

static void mark_image(struct images *images, const struct json *name, struct arena *arena, struct json *live)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *config;
	struct str hex, *layers;
	size_t n;

	if (store_digest_hex(json_get_str(name, "manifest"), &hex) == 0)
		json_set_n(live, hex, json_new_bool(arena, true));
	if (store_digest_hex(json_get_str(name, "id"), &hex) < 0)
		return;
	json_set_n(live, hex, json_new_bool(arena, true));
	if (store_read_blob(images, hex, &text, NULL) < 0 ||
	    json_parse(arena, arena_str(arena, buf_str(&text)), 0, &config, NULL) < 0 ||
	    store_config_layers(config, arena, &layers, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		json_set_n(live, layers[i], json_new_bool(arena, true));
}

/* Removes the entries of a folder whose first 64 characters no image needs. */
static void sweep_folder(struct images *images, const char *folder, const struct json *live)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", images->dir, folder);
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		struct str name = str_of(entry->d_name);
		_cleanup_free_ char *victim = NULL;

		if (str_is(name, ".") || str_is(name, ".."))
			continue;
		if (live && name.n >= STORE_HEX_LEN && json_get_n(live, str_make(name.p, STORE_HEX_LEN)))
			continue;
		victim = mem_printf("%s/%s", path, entry->d_name);
		fs_remove_tree(victim, NULL);
	}
	closedir(dir);
}

void store_sweep(struct images *images)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_close_ int lock = open_lock(images, "lock", LOCK_EX | LOCK_NB);
	struct json *names, *live;

	/* Whoever is adding now sweeps when done. A damaged index must not cost the layers. */
	if (lock < 0 || read_names(images, &arena, &names, NULL) < 0)
		return;
	live = json_new_object(&arena);
	json_foreach(v, names)
		mark_image(images, v, &arena, live);
	sweep_folder(images, "tmp", NULL);
	sweep_folder(images, "layers", live);
	sweep_folder(images, "blobs", live);
}

/* ---- adding ---- */

int store_add_begin(struct images *images, struct store_add *ret, struct err *err)
{
	int fd = -1, r = store_lock_shared(images, &fd, err);

	if (r < 0)
		return r;
	*ret = (struct store_add){ .images = images, .lock_fd = fd };
	return 0;
}

void store_add_finish(struct store_add *add)
{
	if (!add || !add->images)
		return;
	for (size_t i = 0; i < add->n_layers; i++) {
		if (add->layers[i].tmp)
			fs_remove_tree(add->layers[i].tmp, NULL);
		free(add->layers[i].tmp);
	}
	close(add->lock_fd);
	store_sweep(add->images);
	add->images = NULL;
}

bool store_add_has(const struct store_add *add, struct str diff_hex)
{
	for (size_t i = 0; i < add->n_layers; i++)
		if (str_is(diff_hex, add->layers[i].hex))
			return true;
	return store_has_layer(add->images, diff_hex);
}

static int publish_layer(struct images *images, struct store_layer *layer, struct err *err)
{
	_cleanup_free_ char *path = mem_printf("%s/layers/%s", images->dir, layer->hex);
	_cleanup_free_ char *size_path = mem_printf("%s/layers/%s.size", images->dir, layer->hex);
	_cleanup_close_ int fd = -1;
	char text[32];
	int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", layer->bytes);

	fd = open(size_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return err_set(err, -EIO, "layer %s: cannot note its size", layer->hex);
	if (rename(layer->tmp, path) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		return err_set(err, -errno, "layer %s: %s", layer->hex, strerror(errno));
	return 0;
}

static int publish_names(struct store_add *add, const char *id, const char *manifest_hex, const char *const *references,
			 const char *repo_digest, struct arena *arena, struct err *err)
{
	_cleanup_close_ int lock = open_lock(add->images, "names.lock", LOCK_EX);
	struct json *names;
	int r;

	if (lock < 0)
		return err_set(err, lock, "image store lock: %s", strerror(-lock));
	r = read_names(add->images, arena, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; references[i]; i++) {
		struct json *name = json_new_object(arena);

		json_set_cstr(arena, name, "id", id);
		if (manifest_hex[0])
			json_set(name, "manifest", json_new_printf(arena, "sha256:%s", manifest_hex));
		if (repo_digest && repo_digest[0])
			json_set_cstr(arena, name, "repoDigest", repo_digest);
		json_set(names, references[i], name);
	}
	return write_names(add->images, names, err);
}

int store_add_publish(struct store_add *add, struct str config, struct str manifest, const char *const *references,
		      const char *repo_digest, struct arena *arena, struct image *ret, struct err *err)
{
	char config_hex[STORE_HEX_LEN + 1], manifest_hex[STORE_HEX_LEN + 1] = "";
	int r;

	/* One flush for all the files of all the layers, before any of them gets its final name. */
	if (syncfs(add->images->dir_fd) < 0)
		return err_set(err, -errno, "image store: %s", strerror(errno));
	for (size_t i = 0; i < add->n_layers; i++) {
		r = publish_layer(add->images, &add->layers[i], err);
		if (r < 0)
			return r;
	}
	r = store_write_blob(add->images, config, config_hex, err);
	if (r >= 0 && manifest.n)
		r = store_write_blob(add->images, manifest, manifest_hex, err);
	if (r < 0)
		return r;
	r = publish_names(add, arena_printf(arena, "sha256:%s", config_hex), manifest_hex, references, repo_digest,
			  arena, err);
	if (r < 0)
		return r;
	return images_lookup(add->images, references[0], arena, ret, err);
}
