/* SPDX-License-Identifier: Apache-2.0 */
/* What the host is: size, kernel, names. Small reads of procfs and sysfs; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"

struct node_facts {
	unsigned cpus;
	uint64_t memory_kib, disk_bytes;
	char *machine_id, *system_uuid, *boot_id, *kernel, *os_image, *arch;
};

void node_facts_read(struct arena *arena, const char *data_dir, struct node_facts *ret);

/* What is left now. */
struct node_pressure {
	bool memory, disk, pid;
};
void node_pressure_read(const char *data_dir, struct node_pressure *ret);
/* GOARCH of uname's machine. */
const char *node_arch(const char *machine);
