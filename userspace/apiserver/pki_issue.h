/* SPDX-License-Identifier: Apache-2.0 */
/* What the cluster's authority signs for others: certificate requests that somebody approved. Whether a request may be
 * signed is not asked here. Blocking for a signature's time; loop thread. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"

#define PKI_ISSUE_MAX_S (365 * 86400LL) /* the longest, and what is given when nothing is asked */
#define PKI_ISSUE_MIN_S 600             /* the shortest */
#define PKI_ISSUE_BACKDATE_S 300        /* for clocks that lag */
#define PKI_ISSUE_SHORT_S (8 * 3600LL)  /* shorter ones are not cut by the backdating */

struct pki_issue {
	struct str ca_cert, ca_key; /* PEM */
	struct str request;         /* PEM of PKCS#10 */
	const struct json *usages;  /* array of strings, as certificates.k8s.io names them */
	int64_t expiration_s;       /* 0: not asked */
};

/* PEM in the arena. The end never lies beyond the authority's own. -EINVAL: a request or usage that is none. */
int pki_issue(const struct pki_issue *issue, struct arena *arena, struct str *ret_pem, struct err *err);
