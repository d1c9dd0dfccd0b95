/* SPDX-License-Identifier: Apache-2.0 */
/* See batch.h. */
#include "userspace/dataplane/batch.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>

#include "userspace/base/mem.h"

#define BATCH_ENTRIES 1024
#define BATCH_KEY_MAX 64

int batch_each(int fd, batch_fn *fn, void *arg)
{
	_cleanup_free_ char *keys = NULL, *values = NULL;
	_Alignas(8) char at[BATCH_KEY_MAX];
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	bool first = true;

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	if (info.key_size > BATCH_KEY_MAX)
		return -E2BIG;
	keys = mem_new_array(char, (size_t)BATCH_ENTRIES *info.key_size);
	values = mem_new_array(char, (size_t)BATCH_ENTRIES *info.value_size);
	for (uint32_t turn = 0; turn <= info.max_entries; turn++) {
		uint32_t n = BATCH_ENTRIES;
		int r = bpf_map_lookup_batch(fd, first ? NULL : at, at, keys, values, &n, NULL);

		if (r < 0 && errno != ENOENT)
			return -errno;
		if (n) /* the last turn may bring nothing */
			fn(arg, keys, values, n);
		first = false;
		if (r < 0)
			break;
	}
	return 0;
}
