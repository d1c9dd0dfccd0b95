/* SPDX-License-Identifier: Apache-2.0 */
/* application/vnd.kubernetes.protobuf: what typed clients speak. A body is four magic bytes and an envelope with
 * apiVersion, kind and the object's bytes, which only the schema can read. Here it becomes the JSON tree that its
 * JSON form would have been (zero values that Go's omitempty would leave out are left out), and back. Any thread. */
#pragma once

#include <stdbool.h>

#include "userspace/api/kind.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define PB_MEDIA_TYPE "application/vnd.kubernetes.protobuf"
#define PB_WATCH_MEDIA_TYPE PB_MEDIA_TYPE ";stream=watch"
#define PB_FRAME_LENGTH_BYTES 4 /* big endian, before each event of a watch */

/* A body to a raw tree, for decode_tree(): apiVersion and kind as the envelope has them, or those of `kind` (may be
 * NULL) when it has none. 400 BadRequest: no envelope, bad wire format, a kind that is not known. `text` must outlive
 * the tree. Its size is the caller's to limit. */
int pb_decode(struct arena *arena, const struct api_kind *kind, struct str text, struct json **ret, struct err *err);

/* Appends the object (or XxxList, Status, PartialObjectMetadata, ...) with its envelope. -ENOENT, and nothing appended:
 * its apiVersion and kind say no type that has a protobuf form. */
int pb_encode(struct buf *out, const struct json *tree);
/* The same from JSON text; -EINVAL when it is none. */
int pb_encode_text(struct buf *out, struct str text);

/* A list written item by item. `meta`: its metadata. Only the writer appends to `out` between begin and end. */
struct pb_list {
	struct buf *out;
	const struct api_kind *kind; /* NULL: the metadata of objects of any kind */
	size_t raw;                  /* where the list's bytes begin */
};
void pb_list_begin(struct pb_list *l, struct buf *out, const struct api_kind *kind, const struct json *meta);
/* A PartialObjectMetadataList. */
void pb_list_begin_partial(struct pb_list *l, struct buf *out, const char *api_version, const struct json *meta);
void pb_list_item(struct pb_list *l, const struct json *item);
void pb_list_end(struct pb_list *l);

/* One event of a watch with its length in front. `object` has apiVersion and kind; as pb_encode(). */
int pb_encode_event(struct buf *out, const char *type, const struct json *object);
