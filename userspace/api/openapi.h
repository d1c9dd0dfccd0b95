/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI documents from the kind tables, made on demand: kubectl explain, apply and create --validate read
 * them. Documents are not kept: clients cache them by hash. Not thread-safe (loop thread). */
#pragma once

#include "userspace/base/buf.h"
#include "userspace/base/str.h"

#define OPENAPI_HASH_MAX 65 /* hex, zero-terminated */

/* GET /openapi/v3: {"paths":{"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=..."}}} */
struct chunk *openapi_v3_index(char ret_hash[static OPENAPI_HASH_MAX]);
/* GET /openapi/v3/<path>, path "api/v1", "apis/apps/v1" (also "version", "api", "apis", "apis/apps"); NULL when
 * unknown. The hash is the one of the index (ETag, and `?hash=`). */
struct chunk *openapi_v3(struct str path, char ret_hash[static OPENAPI_HASH_MAX]);
/* The same in protobuf (gnostic's openapi.v3.Document). */
struct chunk *openapi_v3_protobuf(struct str path, char ret_hash[static OPENAPI_HASH_MAX]);
/* Only the hash; -ENOENT. */
int openapi_v3_hash(struct str path, char ret_hash[static OPENAPI_HASH_MAX]);
/* GET /openapi/v2 as application/json (swagger 2.0). */
struct chunk *openapi_v2(char ret_hash[static OPENAPI_HASH_MAX]);
/* GET /openapi/v2 in protobuf (gnostic's openapi.v2.Document): kubectl before 1.30 accepts nothing else. */
struct chunk *openapi_v2_protobuf(char ret_hash[static OPENAPI_HASH_MAX]);

/* Asked for with the first type or the second; the answer's Content-Type must be the second (Go's mime parser refuses
 * the "@"). */
#define OPENAPI_V2_PROTOBUF_ACCEPT "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
#define OPENAPI_V2_PROTOBUF_TYPE "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
#define OPENAPI_V3_PROTOBUF_ACCEPT "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
#define OPENAPI_V3_PROTOBUF_TYPE "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
/* Drops cached hashes (kinds came or went; also at exit). */
void openapi_drop(void);
