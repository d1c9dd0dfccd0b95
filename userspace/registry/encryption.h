/* SPDX-License-Identifier: Apache-2.0 */
/* Objects encrypted at rest: an EncryptionConfiguration (apiserver.config.k8s.io/v1) turned into the store's transform.
 * On disk an object begins as upstream's do in etcd, `k8s:enc:aescbc:v1:<key>:`, and is bound to its own key
 * (/registry/secrets/default/db) where the cipher can: aesgcm as authenticated data; for the others the store compares
 * the name inside. Immutable once made; the transform may be used by any thread. */
#pragma once

#include "datastore/transform.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define ENCRYPTION_FILE_MAX (256 * 1024)
#define ENCRYPTION_RULES_MAX 64      /* entries of `resources` */
#define ENCRYPTION_RESOURCES_MAX 256 /* of one entry */
#define ENCRYPTION_PROVIDERS_MAX 16  /* of one entry */
#define ENCRYPTION_KEYS_MAX 32       /* of one provider */
#define ENCRYPTION_NAME_MAX 253      /* bytes of a key's or a resource's name */

struct encryption;

/* path NULL or empty: nothing is encrypted, and what is on disk must not be. The file must be root's and nobody else's
 * to read. Errors say what is wrong with the file, never what is in a secret. */
int encryption_load(const char *path, struct encryption **ret, struct err *err);
/* The same from text, which is not changed. */
int encryption_parse(struct str text, struct encryption **ret, struct err *err);
/* Keys are wiped. Takes NULL. */
void encryption_destroy(struct encryption *e);
/* Lives as long as `e`. */
const struct store_transform *encryption_transform(const struct encryption *e);
/* For `status`: the first provider of the entry for secrets, "aescbc key1", or "identity". */
const char *encryption_of_secrets(const struct encryption *e);
