/* SPDX-License-Identifier: Apache-2.0 */
/* See batch.h. */
#include "userspace/dataplane/batch.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/mem.h"

#define BATCH_ENTRIES 1024
#define BATCH_KEY_MAX sizeof(((struct batch_walk *)NULL)->at)

/* What one call reads into. */
struct batch_room {
	char *keys, *values;
	uint32_t rows, max_entries;
};

static void batch_room_finish(struct batch_room *room)
{
	free(room->keys);
	free(room->values);
}

static int batch_room_make(int fd, uint32_t rows, struct batch_room *ret)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	*ret = (struct batch_room){ .rows = rows };
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	if (info.key_size > BATCH_KEY_MAX)
		return -E2BIG;
	ret->keys = mem_new_array(char, (size_t)rows *info.key_size);
	ret->values = mem_new_array(char, (size_t)rows *info.value_size);
	ret->max_entries = info.max_entries;
	return 0;
}

static int batch_read(int fd, struct batch_walk *walk, struct batch_room *room, batch_fn *fn, void *arg)
{
	uint32_t n = room->rows;
	int r;

	if (walk->turns > room->max_entries)
		return 0;
	r = bpf_map_lookup_batch(fd, walk->turns ? walk->at : NULL, walk->at, room->keys, room->values, &n, NULL);
	if (r < 0 && errno != ENOENT)
		return -errno;
	walk->turns++;
	if (n) /* the last turn may bring nothing */
		fn(arg, room->keys, room->values, n);
	return r == 0;
}

int batch_piece(int fd, struct batch_walk *walk, uint32_t rows, batch_fn *fn, void *arg)
{
	int r = -ENOSPC;

	for (; r == -ENOSPC && rows <= BATCH_ENTRIES; rows *= 2) {
		_cleanup_(batch_room_finish) struct batch_room room;

		r = batch_room_make(fd, rows, &room);
		if (r == 0)
			r = batch_read(fd, walk, &room, fn, arg);
	}
	return r;
}

int batch_each(int fd, batch_fn *fn, void *arg)
{
	_cleanup_(batch_room_finish) struct batch_room room;
	struct batch_walk walk = { 0 };
	int r = batch_room_make(fd, BATCH_ENTRIES, &room);

	if (r < 0)
		return r;
	do
		r = batch_read(fd, &walk, &room, fn, arg);
	while (r > 0);
	return r;
}
