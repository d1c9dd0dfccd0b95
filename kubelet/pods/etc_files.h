/* SPDX-License-Identifier: Apache-2.0 */
/* The files of /etc that the kubelet gives a pod, on tmpfs. Loop thread. */
#pragma once

#include "kubelet/pods/worker.h"

struct etc_files {
	char *hosts, *hostname, *resolv_conf; /* paths, in the arena */
};

/* Written in place when the text differs (a container may hold the old file mounted). */
int etc_files_write(struct pod_worker *w, struct arena *arena, struct etc_files *ret, struct err *err);
char *etc_files_hostname(struct pod_worker *w, struct arena *arena);
