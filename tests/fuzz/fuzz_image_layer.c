/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as an image layer and as an image archive: never outside of the store, never a crash. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/images/store.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	struct layer_source source;
	const uint8_t *data;
	size_t size;
};

static ssize_t read_memory(struct layer_source *source, const void **ret, struct err *err)
{
	struct memory *m = container_of(source, struct memory, source);
	size_t n = m->size;

	*ret = m->data;
	m->size = 0;
	return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct str diff = { "0000000000000000000000000000000000000000000000000000000000000000", 64 };
	static struct images *images;
	static char dir[64], file[96];
	struct memory m = { .source.read = read_memory, .data = data, .size = size };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct store_add add;
	struct image image;
	int fd;

	if (!images) {
		strcpy(dir, "/tmp/k3c-fuzz-XXXXXX");
		if (!mkdtemp(dir) || images_open(dir, &images, NULL) < 0)
			abort();
		snprintf(file, sizeof(file), "%s/input", dir);
	}
	if (store_add_begin(images, &add, NULL) >= 0) {
		layer_unpack(&add, &m.source, STR_NULL, diff, NULL);
		store_add_finish(&add);
	}
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0 && write(fd, data, size) == (ssize_t)size)
		images_import(images, file, "fuzz", NULL, NULL, &arena, &image, NULL);
	close(fd);
	return 0;
}
