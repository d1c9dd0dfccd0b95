/* SPDX-License-Identifier: Apache-2.0 */
/* The image store on disk: blobs by digest, unpacked layers, names. Functions that say "blocking" run on
 * the worker pool (or in a subcommand); the others on the loop thread. Image references are normalised as
 * docker does ("busybox" is docker.io/library/busybox:latest). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define IMAGE_LAYERS_MAX 127

struct images;

int images_open(const char *dir, struct images **ret, struct err *err);
void images_close(struct images *images);

/* What a container needs of its image. All in the arena given. */
struct image {
	char *id;          /* "sha256:..." of the config blob: status.containerStatuses[].imageID */
	char *reference;   /* normalised, as found by */
	char *repo_digest; /* "docker.io/library/busybox@sha256:...", or "" */
	char **env;        /* NULL-terminated "K=V" */
	char **entrypoint; /* NULL-terminated or NULL */
	char **cmd;
	char *working_dir;
	char *user;        /* "", "uid", "uid:gid", "name" ... */
	char *stop_signal; /* "" or "SIGTERM" or "15" */
	char **layer_dirs; /* absolute paths, lowest first, NULL-terminated: overlayfs lowerdirs */
	uint64_t size_bytes;
};

/* Thread-safe, quick (reads small files). -ENOENT when the reference is not present. */
int images_lookup(struct images *images, const char *reference, struct arena *arena, struct image *ret,
		  struct err *err);

struct image_entry {
	char *id;
	char **references; /* NULL-terminated: tags and digests */
	uint64_t size_bytes;
};
int images_list(struct images *images, struct arena *arena, struct image_entry **ret, size_t *ret_n, struct err *err);

/* Called now and then with what is being done ("layer 2/3 41%"); may be NULL. */
typedef void images_progress_fn(void *arg, const char *what);

/* Blocking. docker-archive and oci-archive (tar, also compressed); every digest checked; all or nothing. */
int images_import(struct images *images, const char *file, const char *name_override, images_progress_fn *progress,
		  void *arg, struct arena *arena, struct image *ret, struct err *err);

struct image_auth {
	const char *username, *password; /* NULL: anonymous (token dance where the registry asks) */
	const char *ca_file;             /* NULL: system */
	bool insecure_http;              /* plain HTTP allowed (also for localhost and 127.0.0.0/8 always tried) */
};
/* Blocking. By tag or digest, multi-arch index resolved for this machine; -EBADMSG when a digest lies,
 * -ENOENT not found, -EACCES unauthorised. All or nothing. */
int images_pull(struct images *images, const char *reference, const struct image_auth *auth,
		images_progress_fn *progress, void *arg, struct arena *arena, struct image *ret, struct err *err);
/* Blocking. Unreferenced blobs and layers go too. -ENOENT. */
int images_remove(struct images *images, const char *reference, struct err *err);
/* "docker.io/library/busybox:latest" of "busybox"; -EINVAL ("InvalidImageName"). */
int images_normalize(const char *reference, struct arena *arena, char **ret, struct err *err);
