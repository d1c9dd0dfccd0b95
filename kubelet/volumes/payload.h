/* SPDX-License-Identifier: Apache-2.0 */
/* The files of configMap, secret, downwardAPI and projected volumes. Loop thread. */
#pragma once

#include "kubelet/volumes/volumes.h"

struct payload {
	struct arena *arena;
	const struct volume_source *src;
	struct atomic_file *files;
	size_t n, cap;
	int64_t refresh_after_ns; /* 0: none */
	mode_t default_mode;
	mode_t fs_group_mode; /* or-ed in: group may read, when there is an fsGroup */
};

/* `volume` is an element of spec.volumes. -ENOENT when it has none of the four sources. */
int payload_build(struct payload *p, const struct json *volume, struct err *err);
