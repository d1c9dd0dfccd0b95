/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the plugin NodeRestriction share. Loop thread. */
#pragma once

#include "userspace/registry/admission/admission.h"

/* pods and their subresources; `node`: the name of the asking one. */
int node_restriction_pod(struct write *w, struct str node, struct err *err);
