/* SPDX-License-Identifier: Apache-2.0 */
/* volumeMounts[].subPath: a part of a volume, resolved inside the volume's root (a link in it cannot lead out) and
 * held by a bind mount, so that it cannot be exchanged afterwards. Blocking; worker pool. */
#pragma once

#include "userspace/base/err.h"

/* Makes the sub path as a folder when it is absent, and bind-mounts it at `target`, which is made as a folder or file
 * to match. Idempotent. */
int subpath_bind(const char *volume_path, const char *sub_path, const char *target, struct err *err);
