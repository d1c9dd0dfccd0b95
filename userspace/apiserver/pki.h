/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's own certificate authority and what it signs (ECDSA P-256), made at first start below one folder:
 * ca.crt/.key, server.crt/.key, admin.crt/.key, service-account.key, and admin.kubeconfig. To change the key that
 * signs tokens, rename it to service-account-ANY.key: the next start makes a new one, and the old one's tokens are good
 * until the file is removed. Blocking; at start and from the daily renewal. Edge clocks start in 1970 and jump, so
 * certificates are valid from 1970 on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define PKI_CA_DAYS 7300
#define PKI_LEAF_DAYS 365
#define PKI_RENEW_DAYS 120 /* a leaf with less left is signed anew */
#define PKI_SANS_MAX 64
#define PKI_OLD_KEYS_MAX 7

struct pki_options {
	const char *dir;         /* "<data-dir>/tls", made 0700 */
	const char *const *sans; /* NULL-terminated: names and addresses of the server */
};

/* PEM texts, in the arena given. */
struct pki {
	struct str ca_cert, ca_key;
	struct str server_cert, server_key;
	struct str admin_cert, admin_key;
	struct str sa_key;
	/* Of service-account-*.key and .pub beside it: whose tokens are accepted besides. */
	struct str sa_old_keys[PKI_OLD_KEYS_MAX];
	size_t n_sa_old_keys;
};

/* Makes what is absent, renews what runs out or does not name all `sans`; *ret_changed (may be NULL) tells whether
 * the server's certificate is new. A file that cannot be read as what it should be is an error: never overwritten. */
int pki_ensure(const struct pki_options *options, struct arena *arena, struct pki *ret, bool *ret_changed,
	       struct err *err);

/* admin kubeconfig: user system:admin (group system:masters). Mode e.g. 0600. */
int pki_write_kubeconfig(const struct pki *pki, const char *server_url, const char *path, unsigned mode,
			 struct err *err);

struct pki_certificate {
	char name[32]; /* "ca", "server", "admin" */
	int64_t not_after_real_ns;
};

/* Reads only; what is absent is left out. */
size_t pki_list(const char *dir, struct pki_certificate *ret, size_t max);
