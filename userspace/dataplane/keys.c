/* SPDX-License-Identifier: Apache-2.0 */
/* See keys.h. */
#include "userspace/dataplane/keys.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#define KEYS_SIZE_MAX 64

struct keys keys_of(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return (struct keys){ .fd = fd };
	return (struct keys){ .fd = fd, .left = (uint64_t)info.max_entries * KEYS_TURNS };
}

bool keys_next(struct keys *k, void *key, size_t size)
{
	_Alignas(8) char next[KEYS_SIZE_MAX];

	assert(size <= sizeof(next));
	if (!k->left) {
		errno = ENOENT;
		return false;
	}
	if (bpf_map_get_next_key(k->fd, k->begun ? key : NULL, next) < 0)
		return false;
	k->left--;
	k->begun = true;
	memcpy(key, next, size);
	return true;
}
