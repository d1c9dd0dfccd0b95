/* SPDX-License-Identifier: Apache-2.0 */
/* What the plugins about certificates share. Loop thread. */
#pragma once

#include "userspace/registry/admission/admission.h"

/* May the asker do that ("approve", "sign") for this signer, by its name or by its domain ("example.com/" and a star)?
 * 403 otherwise. */
int certificates_check_signer(struct write *w, const char *verb, struct str signer, struct err *err);
