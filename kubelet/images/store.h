/* SPDX-License-Identifier: Apache-2.0 */
/* The image store from inside: folders, names, layers being unpacked. Used by the files of this folder only.
 *
 *   blobs/<hex>         config and manifest blobs, by the digest of their bytes
 *   layers/<hex>        unpacked layers, by diff_id; layers/<hex>.size is their size as text
 *   names.json          reference -> image; written last and atomically, so whatever it names is complete
 *   tmp/                work in progress; emptied when nobody works
 *   lock                shared by whoever adds, exclusive for the sweep: the server and a subcommand may meet
 *   names.lock          around each read-change-write of names.json
 *
 * No state in memory but the path, hence safe for every thread and several processes. */
#pragma once

#include <openssl/evp.h>

#include "kubelet/images/images.h"
#include "userspace/base/json.h"

#define STORE_HEX_LEN 64
#define STORE_JSON_MAX (8u << 20)           /* a manifest, index or config */
#define STORE_NAMES_MAX (16u << 20)         /* names.json */
#define STORE_LAYER_BYTES_MAX (64ull << 30) /* one unpacked layer */
#define STORE_LAYER_ENTRIES_MAX 2000000u
#define STORE_LAYER_NAME_MAX 4096u
#define STORE_INDEX_DEPTH_MAX 4 /* index in index in ... */

struct images {
	char *dir;
	int dir_fd;
};

/* "sha256:" and 64 hex digits; ret_hex points into `digest`. -EINVAL. */
int store_digest_hex(struct str digest, struct str *ret_hex);

/* Shared lock held while adding; the descriptor closes it. */
int store_lock_shared(struct images *images, int *ret_fd, struct err *err);
/* Deletes what no name needs; does nothing when somebody is adding. */
void store_sweep(struct images *images);

bool store_has_blob(struct images *images, struct str hex);
int store_read_blob(struct images *images, struct str hex, struct buf *ret, struct err *err);
/* Digest is made here: the blob's name is what it holds. */
int store_write_blob(struct images *images, struct str bytes, char ret_hex[static STORE_HEX_LEN + 1], struct err *err);
bool store_has_layer(struct images *images, struct str hex);

/* One image being added: layers unpack to tmp, then all are published at once. */
struct store_layer {
	char hex[STORE_HEX_LEN + 1]; /* diff_id */
	char *tmp;                   /* path of the unpacked tree; NULL: already in the store */
	uint64_t bytes;
};

struct store_add {
	struct images *images;
	int lock_fd;
	struct store_layer layers[IMAGE_LAYERS_MAX];
	size_t n_layers;
};

int store_add_begin(struct images *images, struct store_add *ret, struct err *err);
/* Removes what was not published, then sweeps. */
void store_add_finish(struct store_add *add);
bool store_add_has(const struct store_add *add, struct str diff_hex);
/* Syncs, publishes layers, writes blobs, names. references: NULL-terminated, normalised. */
int store_add_publish(struct store_add *add, struct str config, struct str manifest, const char *const *references,
		      const char *repo_digest, struct arena *arena, struct image *ret, struct err *err);

/* diff_ids of a config blob, as hex. -EINVAL when it is no image of this machine's kind. */
int store_config_layers(const struct json *config, struct arena *arena, struct str **ret, size_t *ret_n,
			struct err *err);
/* Architecture of this machine as OCI calls it. */
const char *store_architecture(void);
/* Of an OCI index or manifest list: the descriptor for this machine, or NULL. */
const struct json *store_index_choose(const struct json *index);

/* ---- layers ---- */

/* Pulls compressed bytes; 0: end. Negative errno (with err set by the source). */
struct layer_source {
	ssize_t (*read)(struct layer_source *source, const void **ret, struct err *err);
};

/* Unpacks one layer into a new tmp folder of `add`. `blob_hex` may be empty (docker-archive). Both digests are
 * checked: -EBADMSG. */
int layer_unpack(struct store_add *add, struct layer_source *source, struct str blob_hex, struct str diff_hex,
		 struct err *err);

/* ---- hashing while streaming ---- */

struct digest {
	EVP_MD_CTX *ctx;
};
void digest_init(struct digest *d);
void digest_add(struct digest *d, const void *p, size_t n);
void digest_hex(struct digest *d, char ret[static STORE_HEX_LEN + 1]);
void digest_finish(struct digest *d);

/* ---- references ---- */

struct reference {
	char *domain;     /* "docker.io" */
	char *repository; /* "library/busybox" */
	char *tag;        /* or NULL */
	char *digest;     /* "sha256:..." or NULL; wins over the tag */
};
int reference_parse(const char *text, struct arena *arena, struct reference *ret, struct err *err);
char *reference_format(const struct reference *ref, struct arena *arena);
